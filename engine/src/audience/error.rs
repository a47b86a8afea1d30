//! Why an expression is refused: what is wrong, where, and what to write instead.

use super::expr::Span;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", suggestion.as_ref().map(|text| format!("; {text}")).unwrap_or_default())]
pub struct ExprError {
    /// Stable kind.
    pub kind: ExprErrorKind,
    /// What is wrong, in a sentence.
    pub message: String,
    /// Where; `None` if it concerns the whole.
    pub span: Option<Span>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExprErrorKind {
    /// Not in the grammar.
    Syntax,
    /// In SQL's grammar, but not in the audience language.
    Unsupported,
    /// No such tag.
    UnknownTag,
    /// No such fact.
    UnknownFact,
    /// The fact has no such column.
    UnknownColumn,
    /// No such vector space.
    UnknownSpace,
    /// No such audience.
    UnknownAudience,
    /// The tag's type does not allow this.
    Type,
    /// The literal is not a value of the tag's type.
    Value,
    /// An audience contains itself.
    Cycle,
    /// Too long, too deep, too many terms.
    TooLarge,
}

impl ExprError {
    pub(super) fn new(kind: ExprErrorKind, message: impl Into<String>) -> Self {
        ExprError { kind, message: message.into(), span: None, suggestion: None }
    }

    pub(super) fn at(mut self, span: Span) -> Self {
        // The innermost place is the most useful one.
        self.span.get_or_insert(span);
        self
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}
