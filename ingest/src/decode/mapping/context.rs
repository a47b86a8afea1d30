//! What belongs to a record but does not stand in it.

use super::write::push_string;
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::Kind;
use std::fmt::Write;

/// Where a record stands in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordContext<'a> {
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Milliseconds since 1970, if the log keeps a time for each record.
    pub timestamp_ms: Option<i64>,
    /// The name of its partition, of Kafka `topic/number`.
    pub partition: &'a str,
    /// Its place in the partition.
    pub offset: u64,
}

/// A part of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Key,
    Timestamp,
    Topic,
    Partition,
    Offset,
}

impl Beside {
    pub(super) const ALL: [Beside; 5] =
        [Beside::Key, Beside::Timestamp, Beside::Topic, Beside::Partition, Beside::Offset];

    /// Its name in a path, behind the dollar sign.
    pub(super) fn name(self) -> &'static str {
        match self {
            Beside::Key => "key",
            Beside::Timestamp => "timestamp",
            Beside::Topic => "topic",
            Beside::Partition => "partition",
            Beside::Offset => "offset",
        }
    }

    pub(super) fn named(name: &str) -> Option<Beside> {
        Beside::ALL.into_iter().find(|beside| beside.name() == name)
    }

    /// Appends it to `out` as JSON and says what it is, if there is such a thing.
    pub(super) fn push(self, context: &RecordContext<'_>, out: &mut String) -> Result<Option<Kind>, LineError> {
        let number = |digits: std::fmt::Arguments<'_>, out: &mut String| {
            out.write_fmt(digits).expect("a string takes all that is written");
            Kind::Number
        };
        let text = |text: &str, out: &mut String| {
            push_string(text, out);
            Kind::String
        };
        let topic_and_number =
            context.partition.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse::<u32>().ok()?)));
        Ok(match (self, topic_and_number) {
            (Beside::Key, _) => match context.key.map(std::str::from_utf8) {
                None => None,
                Some(Ok(key)) => Some(text(key, out)),
                Some(Err(_)) => {
                    return Err(LineError::new(LineErrorKind::Syntax, "the record's key is not UTF-8")
                        .suggest("map a field of the record instead of `$key`"));
                }
            },
            (Beside::Timestamp, _) => context.timestamp_ms.map(|millis| number(format_args!("{millis}"), out)),
            (Beside::Topic, Some((topic, _))) => Some(text(topic, out)),
            (Beside::Topic, None) => None,
            (Beside::Partition, Some((_, index))) => Some(number(format_args!("{index}"), out)),
            (Beside::Partition, None) => Some(text(context.partition, out)),
            (Beside::Offset, _) => Some(number(format_args!("{}", context.offset), out)),
        })
    }
}
