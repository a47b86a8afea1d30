//! A row as the JSON that leaves.
//!
//! ```text
//! {"id":"audience_change/123","type":"entered","audience":"vip","user_id":"u1","ts":"2026-11-20T10:00:00Z"}
//! {"id":"purchase/77","type":"event","fact":"purchase","user_id":"u1","ts":"…","amount":12.50,"retracted":true}
//! ```
//!
//! Numbers keep all their digits; what has no value is left out.

use crate::decode::push_json_string as push_string;
use engine::behavior::calendar::Date;
use engine::catalog::{Catalog, Column, ColumnType, DEAD_LETTERS};
use engine::ids::TagId;
use engine::store::FactRow;
use engine::update::Value;
use std::fmt::Write;

/// Members of the record itself; a column of such a name is written as `<fact>.<column>`.
const OWN_MEMBERS: [&str; 6] = ["event_id", "fact", "id", "retracted", "type", "undeclared"];

/// What the `source` of dead letters of sinks begins with.
pub(super) const LETTERS_OF_SINKS: &str = "sink/";

/// What is known of a change of an audience.
pub(super) struct AudienceChange<'a> {
    pub(super) audience: &'a str,
    /// `entered` or `left`.
    pub(super) change: &'a str,
}

impl<'a> AudienceChange<'a> {
    /// What a row of the fact says; `None` if it is none of this engine's.
    pub(super) fn of(row: &FactRow<'a>) -> Option<AudienceChange<'a>> {
        let mut values = row.event.values();
        match (values.next(), values.next()) {
            (Some(Value::Text(audience)), Some(Value::Text(change))) => Some(AudienceChange { audience, change }),
            _ => None,
        }
    }

    /// Appends it as JSON.
    pub(super) fn write(&self, id: &str, user_id: &str, ts: i64, is_initial: bool, out: &mut String) {
        begin(id, self.change, out);
        member("audience", self.audience, out);
        member("user_id", user_id, out);
        out.push_str(",\"ts\":");
        push_time(ts, out);
        if is_initial {
            out.push_str(",\"initial\":true");
        }
        out.push('}');
    }
}

/// Whether a dead letter is one of a sink's: those are not sent by sinks, or they would never end.
pub(super) fn is_letter_of_a_sink(fact: &str, row: &FactRow<'_>) -> bool {
    fact == DEAD_LETTERS
        && matches!(row.event.values().next(), Some(Value::Text(source)) if source.starts_with(LETTERS_OF_SINKS))
}

/// Appends a row of a fact as JSON.
pub(super) fn write_event(id: &str, fact: &str, columns: &[Column], row: &FactRow<'_>, out: &mut String) {
    begin(id, "event", out);
    member("fact", fact, out);
    member("user_id", row.user_id, out);
    out.push_str(",\"ts\":");
    push_time(row.event.head.ts, out);
    if !row.event.head.event_id.is_empty() {
        member("event_id", row.event.head.event_id, out);
    }
    for (column, value) in columns.iter().zip(row.event.values()) {
        let value = match value {
            Value::Null => continue,
            Value::Float(number) if !number.is_finite() => continue,
            value => value,
        };
        let is_own = OWN_MEMBERS.contains(&column.name.as_str());
        // Names are letters, digits and `_`.
        let _ = if is_own { write!(out, ",\"{fact}.{}\":", column.name) } else { write!(out, ",\"{}\":", column.name) };
        push_value(column.column_type, value, out);
    }
    if !row.event.head.undeclared.is_empty() {
        out.push_str(",\"undeclared\":");
        push_json(row.event.head.undeclared, out);
    }
    if row.weight < 0 {
        out.push_str(",\"retracted\":true");
    }
    out.push('}');
}

/// What a row is known by.
pub(super) fn id_of(fact: &str, number: u64) -> String {
    format!("{fact}/{number}")
}

/// The columns of a fact of the catalog.
pub(super) fn columns(catalog: &Catalog, fact: TagId) -> &[Column] {
    catalog.fact_of(fact).map_or(&[], |fact| &fact.columns)
}

fn begin(id: &str, kind: &str, out: &mut String) {
    out.push_str("{\"id\":");
    push_string(id, out);
    member("type", kind, out);
}

fn member(name: &str, text: &str, out: &mut String) {
    let _ = write!(out, ",\"{name}\":");
    push_string(text, out);
}

fn push_value(column_type: ColumnType, value: Value<'_>, out: &mut String) {
    match (column_type, value) {
        (_, Value::Null) => out.push_str("null"),
        // It was checked when it came in.
        (ColumnType::Json, Value::Text(json)) => push_json(json, out),
        (_, Value::Text(text)) => push_string(text, out),
        (ColumnType::Timestamp, Value::Integer(micros)) => push_time(micros, out),
        (ColumnType::Decimal { scale, .. }, Value::Integer(number)) => push_decimal(number, scale, out),
        (_, Value::Integer(number)) => drop(write!(out, "{number}")),
        (_, Value::Float(number)) => drop(write!(out, "{number:?}")),
        (_, Value::Boolean(value)) => drop(write!(out, "{value}")),
    }
}

/// JSON in one line: line ends stand only between its tokens.
fn push_json(json: &str, out: &mut String) {
    out.extend(json.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
}

/// `-1234` at scale 2 is `-12.34`.
fn push_decimal(number: i64, scale: u8, out: &mut String) {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if number < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    let _ = write!(out, "{sign}{whole}{point}{fraction}");
}

const DAY_SECONDS: i64 = 86_400;

/// Microseconds since 1970 as RFC 3339 in UTC, with as many digits of the second as it has: none, three or six. Years
/// that it cannot write, before 0 and after 9999, stand as the bare number.
fn push_time(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let date = Date::of(seconds.div_euclid(DAY_SECONDS));
    if !(0..=9999).contains(&date.year) {
        let _ = write!(out, "{micros}");
        return;
    }
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "\"{date}T{hour:02}:{minute:02}:{second:02}");
    let _ = match fraction {
        0 => Ok(()),
        fraction if fraction % 1000 == 0 => write!(out, ".{:03}", fraction / 1000),
        fraction => write!(out, ".{fraction:06}"),
    };
    out.push_str("Z\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::value::parse_time;
    use proptest::prelude::*;

    fn time(micros: i64) -> String {
        let mut out = String::new();
        push_time(micros, &mut out);
        out
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(0), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(time(1_709_210_096_123_000), "\"2024-02-29T12:34:56.123Z\"");
        assert_eq!(time(-1), "\"1969-12-31T23:59:59.999999Z\"");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (number, scale, text) in
            [(1250, 2, "12.50"), (-5, 2, "-0.05"), (7, 0, "7"), (i64::MIN, 18, "-9.223372036854775808")]
        {
            let mut out = String::new();
            push_decimal(number, scale, &mut out);
            assert_eq!(out, text);
        }
    }

    proptest! {
        #[test]
        fn any_time_reads_back(micros in -62_000_000_000_000_000i64..253_402_300_799_000_000) {
            prop_assert_eq!(parse_time(time(micros).trim_matches('"')).expect("a time"), micros);
        }
    }
}
