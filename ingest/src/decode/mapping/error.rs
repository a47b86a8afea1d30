//! Why a mapping cannot be: what is wrong, where in its definition, and what to write instead.

use crate::decode::error::LineError;
use engine::error::Class;
use std::fmt;

/// Why a mapping is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingError {
    /// The place in the definition: `map.amount`, `map.set.age`, `where[0]`.
    pub place: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// Byte of the path or JSON text, from 1, where it was noticed, if it concerns one place.
    pub column: Option<usize>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl MappingError {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        MappingError { place: place.into(), message: message.into(), column: None, suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// What a reader of `text` (`noun` says what it is) found wrong with it.
    pub(super) fn of_text(place: &str, noun: &str, text: &str, error: LineError) -> Self {
        let LineError { message, column, suggestion, .. } = error;
        MappingError { place: place.to_owned(), message: format!("{noun} `{text}`: {message}"), column, suggestion }
    }

    /// See [`Class`].
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.place, self.message)?;
        if let Some(column) = self.column {
            write!(f, " (column {column})")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        Ok(())
    }
}

impl std::error::Error for MappingError {}
