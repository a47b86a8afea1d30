//! Why a line is refused: what is wrong, where, and what to write instead.

use std::fmt;

/// The kinds of refusal; stable, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineErrorKind {
    /// Not JSON (or not CSV, for a list), or not UTF-8.
    Syntax,
    /// A key that no line has, or the same key twice.
    Key,
    /// The user id is missing, empty, too long, or neither a string nor an integer.
    UserId,
    /// The event id is missing, empty, too long, or neither a string nor an integer.
    EventId,
    /// The event time is missing, no time, or cannot be.
    EventTime,
    /// The catalog has no such tag.
    UnknownTag,
    /// The type of the tag or column does not allow this value or this action.
    Type,
    /// The value is of the right type but not one the tag or column can hold: overflow, too many digits, too long.
    Value,
    /// The line is longer than the limit.
    TooLong,
    /// A look-up that a record needs did not succeed.
    Lookup,
}

impl LineErrorKind {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            LineErrorKind::Syntax => "syntax",
            LineErrorKind::Key => "key",
            LineErrorKind::UserId => "user_id",
            LineErrorKind::EventId => "event_id",
            LineErrorKind::EventTime => "event_time",
            LineErrorKind::UnknownTag => "unknown_tag",
            LineErrorKind::Type => "type",
            LineErrorKind::Value => "value",
            LineErrorKind::TooLong => "too_long",
            LineErrorKind::Lookup => "lookup",
        }
    }
}

/// Why one line is refused. Nothing of the line was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Stable kind.
    pub kind: LineErrorKind,
    /// What is wrong, in a sentence, naming the field: "`set.age`: `abc` is not a number".
    pub message: String,
    /// Byte of the line, from 1, where it was noticed, if it concerns one place.
    pub column: Option<usize>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl LineError {
    pub(crate) fn new(kind: LineErrorKind, message: impl Into<String>) -> Self {
        LineError { kind, message: message.into(), column: None, suggestion: None }
    }

    pub(crate) fn at(mut self, byte_index: usize) -> Self {
        self.column = Some(byte_index + 1);
        self
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(column) = self.column {
            write!(f, " (column {column})")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LineError {}
