//! What goes wrong, as PostgreSQL tells it: a code of five characters, a sentence, a hint, and the place in the statement.

use super::messages::{put, put_text};
use crate::error::{Failure, Kind};
use bytes::{BufMut, BytesMut};

/// Bytes of a sentence; clients have bounds of their own.
const TOLD_BYTES_MAX: usize = 8 << 10;

/// What a client is told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The character of the text that was sent, from 1.
    pub(super) position: Option<usize>,
    /// Ours, as problems of REST have it.
    pub(super) kind: Option<Kind>,
}

impl Told {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Told {
        Told { code, message: message.into(), hint: None, position: None, kind: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Told {
        self.hint = Some(hint.into());
        self
    }

    /// The failure of a statement, with its place in the text that was sent, where it begins at this byte.
    pub(super) fn of(failure: &Failure, sent: &str, start: usize) -> Told {
        let position = failure.span.and_then(|(at, _)| Some(sent.get(..start + at)?.chars().count() + 1));
        Told {
            code: code(failure.kind),
            message: failure.detail.clone(),
            hint: failure.suggestion.clone(),
            position,
            kind: Some(failure.kind),
        }
    }

    /// Writes it; `is_last` if the connection ends with it.
    pub(super) fn put(&self, out: &mut BytesMut, is_last: bool) {
        put(out, b'E', |out| {
            let mut field = |kind: u8, text: &str| {
                out.put_u8(kind);
                put_text(out, &text[..text.floor_char_boundary(TOLD_BYTES_MAX)]);
            };
            let severity = if is_last { "FATAL" } else { "ERROR" };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.code);
            field(b'M', &self.message);
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            if let Some(position) = self.position {
                field(b'P', &position.to_string());
            }
            if let Some(kind) = self.kind {
                // Stable, for programs.
                field(b'R', kind.slug());
            }
            out.put_u8(0);
        });
    }
}

/// The SQLSTATE of a kind: where PostgreSQL has no word of its own for it, that of its HTTP status.
fn code(kind: Kind) -> &'static str {
    match kind {
        Kind::SqlSyntax | Kind::Syntax | Kind::Unsupported => return "42601",
        Kind::SqlRefused => return "25006",
        Kind::UnknownTable | Kind::UnknownFact | Kind::UnknownAudience => return "42P01",
        Kind::UnknownColumn | Kind::UnknownTag => return "42703",
        Kind::TagType => return "42804",
        Kind::TagValue => return "22P02",
        Kind::Unauthorized => return "28P01",
        Kind::NotReady => return "57P03",
        Kind::Corrupt => return "XX001",
        _ => {}
    }
    match kind.status().as_u16() {
        403 => "42501",
        404 => "42704",
        413 => "54000",
        429 => "53000",
        501 => "0A000",
        503 => "57P03",
        504 => "57014",
        400..=499 => "42000",
        _ => "XX000",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_of_the_text_that_was_sent() {
        let sent = "SELECT 'ä'; SELECT foo";
        let failure = Failure { span: Some((7, 10)), ..Failure::new(Kind::UnknownColumn, "no `foo`") };
        let told = Told::of(&failure, sent, 13);
        assert_eq!((told.code, told.position), ("42703", Some(20)));
        assert_eq!(sent.chars().skip(19).collect::<String>(), "foo");
        // A place that is none is not told.
        assert_eq!(Told::of(&failure, "ä", 0).position, None);
    }

    #[test]
    fn every_kind_has_a_code_of_five_characters() {
        assert!(Kind::ALL.iter().all(|kind| code(*kind).len() == 5));
        assert!(Kind::ALL.iter().all(|kind| kind.status().is_server_error() || code(*kind) != "XX000"));
    }
}
