//! A user of any data set, as plain values.

use crate::DataSet;
use engine::catalog::{Catalog, TagType, Unit};
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch};
use std::fmt::Write;

/// A value of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of an `enum`.
    Text(String),
    /// Of a `number`, in the tag's unit.
    Number(i64),
    /// Of a `flag`.
    Flag(bool),
    /// All values of a `set`.
    Set(Vec<String>),
}

/// A user with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id; never empty.
    pub id: String,
    /// One per tag of [`DataSet::tags`], in that order; `None` is NULL.
    pub values: Vec<Option<Value>>,
}

/// Writes users of one data set into batches for one catalog.
#[derive(Clone, Debug)]
pub struct BatchFiller {
    tags: Vec<TagId>,
}

impl BatchFiller {
    /// A filler for the tags of `data_set` as `catalog` numbers them; `None` if the catalog lacks one or has it with
    /// another type.
    pub fn new(data_set: DataSet, catalog: &Catalog) -> Option<Self> {
        let id = |(name, tag_type): &(&str, TagType)| {
            catalog.tag(name).filter(|tag| tag.tag_type == *tag_type).map(|tag| tag.id)
        };
        Some(BatchFiller { tags: data_set.tags().iter().map(id).collect::<Option<_>>()? })
    }

    /// Appends a user; it has afterwards exactly these values, whatever it had before.
    pub fn push(&self, user: &User, batch: &mut UpdateBatch) {
        batch.begin_user(user.id.as_bytes());
        for (tag, value) in self.tags.iter().zip(&user.values) {
            match value {
                None => batch.push(*tag, Change::Unset),
                Some(Value::Text(text)) => batch.push(*tag, Change::Enum(text)),
                Some(Value::Number(number)) => batch.push(*tag, Change::Number(*number)),
                Some(Value::Flag(flag)) => batch.push(*tag, Change::Flag(*flag)),
                Some(Value::Set(values)) => {
                    batch.push(*tag, Change::Unset);
                    values.iter().for_each(|value| batch.push(*tag, Change::Add(value)));
                }
            }
        }
    }
}

/// Appends the user as a line of `POST /v1/tags`; NULLs are left out.
pub fn write_ndjson_line(tags: &[(&str, TagType)], user: &User, out: &mut String) {
    out.push_str("{\"user_id\":");
    push_json_text(&user.id, out);
    out.push_str(",\"set\":{");
    let mut separator = "";
    for ((name, tag_type), value) in tags.iter().zip(&user.values) {
        let Some(value) = value else { continue };
        out.push_str(separator);
        separator = ",";
        push_json_text(name, out);
        out.push(':');
        push_json_value(*tag_type, value, out);
    }
    out.push_str("}}\n");
}

fn push_json_value(tag_type: TagType, value: &Value, out: &mut String) {
    match value {
        Value::Text(text) => push_json_text(text, out),
        Value::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => push_number(tag_type, *number, out),
        Value::Set(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_json_text(value, out);
            }
            out.push(']');
        }
    }
}

fn push_number(tag_type: TagType, number: i64, out: &mut String) {
    const NO_FAILURE: &str = "writing to a string does not fail";
    match tag_type {
        TagType::Number(Unit::Decimal { scale }) => push_decimal(number, scale, out),
        TagType::Number(Unit::Timestamp) => match jiff::Timestamp::from_microsecond(number) {
            Ok(time) => write!(out, "\"{time}\"").expect(NO_FAILURE),
            Err(_) => out.push_str("null"),
        },
        _ => write!(out, "{number}").expect(NO_FAILURE),
    }
}

/// `-5` at scale 2 is `-0.05`. The scale is above 0.
pub(crate) fn push_decimal(number: i64, scale: u8, out: &mut String) {
    let sign = if number < 0 { "-" } else { "" };
    let factor = 10u64.pow(scale.into());
    let (whole, part) = (number.unsigned_abs() / factor, number.unsigned_abs() % factor);
    write!(out, "{sign}{whole}.{part:0width$}", width = usize::from(scale)).expect("writing to a string does not fail");
}

pub(crate) fn push_json_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("writing to a string does not fail");
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json() {
        let tags = [
            ("a", TagType::Enum),
            ("b", TagType::Number(Unit::Decimal { scale: 2 })),
            ("c", TagType::Number(Unit::Timestamp)),
            ("d", TagType::Set),
            ("e", TagType::Flag),
        ];
        let values = vec![
            Some(Value::Text("x\"\\\n".to_owned())),
            Some(Value::Number(-5)),
            Some(Value::Number(1_500_000)),
            Some(Value::Set(vec!["p".to_owned(), "q".to_owned()])),
            None,
        ];
        let mut line = String::new();
        write_ndjson_line(&tags, &User { id: "u1".to_owned(), values }, &mut line);
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let expected = serde_json::json!({"user_id": "u1", "set": {
            "a": "x\"\\\n", "b": -0.05, "c": "1970-01-01T00:00:01.5Z", "d": ["p", "q"],
        }});
        assert_eq!(parsed, expected);
    }
}
