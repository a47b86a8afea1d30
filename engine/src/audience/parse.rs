//! Text → [`super::expr::Expr`], by the SQL parser that DataFusion uses.

use super::expr::{Expr, Span};

/// Limits on what one expression may cost.
pub const EXPRESSION_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting.
pub const EXPRESSION_DEPTH_MAX: usize = 128;
/// Most nodes and list values.
pub const EXPRESSION_TERMS_MAX: usize = 100_000;

/// Why an expression is refused: what is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
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

/// Parses an expression.
pub fn parse(text: &str) -> Result<Expr, ExprError> {
    let _ = text;
    todo!()
}
