//! Records that could not be taken, kept as events of the fact [`engine::catalog::DEAD_LETTERS`] with the reason.

use crate::decode::LineError;
use crate::source::Record;
use engine::ids::TagId;
use engine::update::{EventHead, UpdateBatch, Value};
use std::fmt::Write;
use std::sync::Arc;

/// Bytes of a record that are kept in its dead letter.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Characters of a record that a report shows.
const SHOWN_CHARS_MAX: usize = 500;

/// A record that was refused, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its partition.
    pub partition: Arc<str>,
    /// Its offset.
    pub offset: u64,
    /// What is wrong with it, where, and what to write instead.
    pub error: LineError,
    /// The begin of it.
    pub record: String,
}

/// Appends the dead letter of `record` to `batch`. `now`: microseconds since 1970.
pub(super) fn push(
    source: &str,
    partition: &Arc<str>,
    record: &Record<'_>,
    error: &LineError,
    now: i64,
    batch: &mut UpdateBatch,
) {
    let letter = Letter {
        source,
        partition,
        position: i64::try_from(record.offset).unwrap_or(i64::MAX),
        kind: error.kind.name(),
        reason: &error.to_string(),
        payload: record.payload.unwrap_or_default(),
    };
    push_letter(&letter, now, batch);
}

/// A record that could not be taken, or not be delivered.
pub(crate) struct Letter<'a> {
    /// Where it came from, or was to go.
    pub(crate) source: &'a str,
    /// The partition it is of.
    pub(crate) partition: &'a str,
    /// Its place there.
    pub(crate) position: i64,
    /// The kind of what is wrong.
    pub(crate) kind: &'a str,
    /// What is wrong.
    pub(crate) reason: &'a str,
    /// The record.
    pub(crate) payload: &'a [u8],
}

/// Appends a dead letter to `batch`. `now`: microseconds since 1970.
pub(crate) fn push_letter(letter: &Letter<'_>, now: i64, batch: &mut UpdateBatch) {
    let (text, encoding) = kept(letter.payload);
    // In the order of the fact's columns.
    let values = [
        Value::Text(letter.source),
        Value::Text(letter.partition),
        Value::Integer(letter.position),
        Value::Text(letter.kind),
        Value::Text(letter.reason),
        Value::Text(&text),
        Value::Text(encoding),
        Value::Integer(letter.payload.len() as i64),
    ];
    batch.begin_user(format!("source:{}", letter.source).as_bytes());
    batch.push_event(TagId::DEAD_LETTERS, &EventHead { ts: now, ..EventHead::default() }, &values);
}

/// The record as text, and how to read that: `text` or `hex`.
fn kept(payload: &[u8]) -> (String, &'static str) {
    let payload = &payload[..payload.len().min(KEPT_BYTES_MAX)];
    match std::str::from_utf8(payload) {
        Ok(text) => (text.to_owned(), "text"),
        // Only the cut can have parted a character.
        Err(error) if error.error_len().is_none() && payload.len() == KEPT_BYTES_MAX => {
            (String::from_utf8_lossy(&payload[..error.valid_up_to()]).into_owned(), "text")
        }
        Err(_) => {
            let bytes = &payload[..payload.len().min(KEPT_BYTES_MAX / 2)];
            let hex = bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            (hex, "hex")
        }
    }
}

/// The record for a report.
pub(super) fn shown(partition: &Arc<str>, record: &Record<'_>, error: LineError) -> RefusedRecord {
    let payload = record.payload.unwrap_or_default();
    let begin = String::from_utf8_lossy(&payload[..payload.len().min(SHOWN_CHARS_MAX * 4)]);
    let record_text = begin.chars().take(SHOWN_CHARS_MAX).collect();
    RefusedRecord { partition: partition.clone(), offset: record.offset, error, record: record_text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_kept_as_text() {
        assert_eq!(kept(b"abc"), ("abc".to_owned(), "text"));
        assert_eq!(kept(b"\xff\x00"), ("ff00".to_owned(), "hex"));
        let long = "ü".repeat(KEPT_BYTES_MAX) + "x";
        let cut = kept(&long.as_bytes()[1..]);
        assert_eq!(cut.1, "hex");
        let cut = kept(format!("x{long}").as_bytes());
        assert_eq!((cut.0.len(), cut.1), (KEPT_BYTES_MAX - 1, "text"));
    }
}
