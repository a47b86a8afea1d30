//! Spans of time in a catalog: `500 ms`, `60 s`, `5 min`, `2 h`.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.as_millis() as u64;
        let (unit, size) = UNITS.into_iter().find(|(_, size)| millis.is_multiple_of(*size)).unwrap_or(("ms", 1));
        write!(f, "{} {unit}", millis / size)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfSpan;
        impl Visitor<'_> for OfSpan {
            type Value = Span;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a span of time such as `500 ms`, `60 s`, `5 min` or `2 h`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(OfSpan)
    }
}

fn parse(text: &str) -> Option<Span> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
    let millis = count.parse::<u64>().ok()?.checked_mul(size)?;
    (millis > 0).then_some(Span(Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, millis, shortest) in
            [("500 ms", 500, "500 ms"), ("60s", 60_000, "1 min"), (" 2 h", 7_200_000, "2 h"), ("90 s", 90_000, "90 s")]
        {
            let span = parse(text).expect("a span");
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (millis, shortest));
        }
        for text in ["", "5", "s", "0 s", "-1 s", "1.5 s", "1 day", "99999999999999999999 s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
