//! The value of one column.
//!
//! | column | JSON |
//! |---|---|
//! | string | a string; of a dimension, at most 1024 bytes |
//! | integer | a number without a fraction, of 64 bits |
//! | decimal | a number, or a string of one; never rounded |
//! | float | a number |
//! | boolean | `true`, `false` |
//! | timestamp | an RFC 3339 string, or milliseconds since 1970 |
//! | json | any value, kept as its text |
//!
//! In text without types (CSV) a cell is read as the column's type says: numbers, times and flags as they look, without
//! the space around them.

use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind, is_number};
use crate::decode::tags::shown;
use crate::decode::value::{NumberError, parse_decimal, parse_flag, parse_number, parse_text, parse_time};
use engine::catalog::{ColumnType, Fact, TAG_VALUE_BYTES_MAX, Unit};
use engine::update::Value;

/// A column that is read.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// What the source calls it.
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    /// Each of its values is counted on its own, so it has a limit.
    is_dimension: bool,
    /// The first number that has too many digits.
    limit: u64,
}

/// A value, its text in a buffer beside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    Null,
    Text { start: usize, end: usize },
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

impl Stored {
    pub(super) fn value(self, texts: &str) -> Value<'_> {
        match self {
            Stored::Null => Value::Null,
            Stored::Text { start, end } => Value::Text(&texts[start..end]),
            Stored::Integer(number) => Value::Integer(number),
            Stored::Float(number) => Value::Float(number),
            Stored::Boolean(value) => Value::Boolean(value),
        }
    }
}

impl Column {
    pub(super) fn of(fact: &Fact, index: usize, name: &str) -> Column {
        let column_type = fact.columns[index].column_type;
        let limit = match column_type {
            ColumnType::Decimal { precision, .. } => 10u64.pow(precision.into()),
            _ => u64::MAX,
        };
        Column { name: name.to_owned(), column_type, is_dimension: fact.dimension(index).is_some(), limit }
    }

    /// Reads a value; its text goes behind `texts`.
    pub(super) fn read(
        &self,
        json: &mut Json<'_>,
        scratch: &mut String,
        texts: &mut String,
    ) -> Result<Stored, LineError> {
        let kind = json.kind()?;
        let at = json.position();
        match (self.column_type, kind) {
            (_, Kind::Null) => json.word().map(|_| Stored::Null),
            (ColumnType::String, Kind::String) => {
                let start = texts.len();
                json.push_string(texts)?;
                self.check_length(texts.len() - start).map_err(|error| error.at(at))?;
                Ok(Stored::Text { start, end: texts.len() })
            }
            (ColumnType::Json, _) => {
                let start = texts.len();
                texts.push_str(json.verbatim(scratch)?);
                Ok(Stored::Text { start, end: texts.len() })
            }
            (ColumnType::Boolean, Kind::Bool) => Ok(Stored::Boolean(json.word()?.unwrap_or(false))),
            (ColumnType::Float, Kind::Number) => {
                self.float(json.number()?).map(Stored::Float).map_err(|error| error.at(at))
            }
            (ColumnType::Integer | ColumnType::Decimal { .. } | ColumnType::Timestamp, Kind::Number) => {
                let text = json.number()?;
                let read = self.integer(parse_as(self.column_type, text), || shown(text).into_owned());
                read.map(Stored::Integer).map_err(|error| error.at(at))
            }
            (ColumnType::Decimal { .. }, Kind::String) => {
                let text = json.string(scratch)?;
                let read = self.integer(parse_quoted(text, self.column_type.scale()), || shown(text).into_owned());
                read.map(Stored::Integer).map_err(|error| error.at(at))
            }
            (ColumnType::Timestamp, Kind::String) => {
                let text = json.string(scratch)?;
                let read = self.integer(parse_time(text), || shown(text).into_owned());
                read.map(Stored::Integer).map_err(|error| error.at(at))
            }
            (_, kind) => Err(self.mismatch(json, kind, scratch).at(at)),
        }
    }

    /// Reads a cell of text without types; an empty one is NULL.
    pub(super) fn read_text<'t>(&self, text: &'t str, scratch: &mut String) -> Result<Value<'t>, LineError> {
        if text.is_empty() {
            return Ok(Value::Null);
        }
        let trimmed = text.trim();
        match self.column_type {
            ColumnType::String => self.text(text),
            ColumnType::Json => self.json(text, scratch),
            ColumnType::Float => self.float(trimmed).map(Value::Float),
            ColumnType::Boolean => match parse_flag(trimmed) {
                Some(flag) => Ok(Value::Boolean(flag)),
                None => {
                    let what = format!("`{}`: `{}` is neither true nor false", self.name, shown(text));
                    Err(LineError::new(LineErrorKind::Type, what).suggest("write true, false, 1, 0, yes or no"))
                }
            },
            ColumnType::Integer | ColumnType::Decimal { .. } | ColumnType::Timestamp => {
                let parsed = match self.column_type {
                    ColumnType::Timestamp => parse_text(trimmed, Unit::Timestamp),
                    other => parse_decimal(trimmed, other.scale()),
                };
                self.integer(parsed, || shown(text).into_owned()).map(Value::Integer)
            }
        }
    }

    /// Text of a string column.
    pub(super) fn text<'t>(&self, text: &'t str) -> Result<Value<'t>, LineError> {
        self.check_length(text.len()).map(|()| Value::Text(text))
    }

    /// Text of a JSON column, which must be JSON; `null` is NULL.
    pub(super) fn json<'t>(&self, text: &'t str, scratch: &mut String) -> Result<Value<'t>, LineError> {
        let mut json = Json::new(text, 0);
        let read = json.verbatim(scratch).and_then(|value| json.end().map(|()| value));
        match read {
            Ok("null") => Ok(Value::Null),
            Ok(value) => Ok(Value::Text(value)),
            Err(error) => {
                let what = format!("`{}`: `{}` is not JSON: {error}", self.name, shown(text));
                Err(LineError::new(LineErrorKind::Value, what))
            }
        }
    }

    fn check_length(&self, len: usize) -> Result<(), LineError> {
        if !self.is_dimension || len <= TAG_VALUE_BYTES_MAX {
            return Ok(());
        }
        let message = format!("`{}`: a value of {len} bytes; a dimension has at most {TAG_VALUE_BYTES_MAX}", self.name);
        Err(LineError::new(LineErrorKind::Value, message).suggest("shorten it, or send a hash of it"))
    }

    fn float(&self, text: &str) -> Result<f64, LineError> {
        let refuse = |kind, why: &str| LineError::new(kind, format!("`{}`: `{}` {why}", self.name, shown(text)));
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            // A word for infinity, or for no number, has no digits.
            Ok(_) if text.bytes().any(|byte| byte.is_ascii_digit()) => {
                Err(refuse(LineErrorKind::Value, "is beyond a float of 64 bits"))
            }
            _ => {
                let error = NumberError::NotANumber;
                Err(refuse(LineErrorKind::Type, &error.to_string()).suggest(error.suggestion()))
            }
        }
    }

    /// A number kept as an integer, or why it is none; `text` shows it.
    pub(super) fn integer(
        &self,
        parsed: Result<i64, NumberError>,
        text: impl FnOnce() -> String,
    ) -> Result<i64, LineError> {
        let error = match (parsed, self.column_type) {
            (Ok(number), _) if number.unsigned_abs() < self.limit => return Ok(number),
            (Ok(_) | Err(NumberError::Overflow { .. }), ColumnType::Decimal { precision, .. }) => {
                return Err(self.too_long(&text(), precision));
            }
            // Only decimals have a limit.
            (Ok(number), _) => return Ok(number),
            (Err(error), _) => error,
        };
        let kind = match error {
            NumberError::NotANumber | NumberError::NotATime => LineErrorKind::Type,
            _ => LineErrorKind::Value,
        };
        let suggestion = match error {
            NumberError::TooManyDigits { scale: 0 } => "round it, or send it to a decimal column",
            NumberError::TooManyDigits { .. } => "round it, or send it to a column with more of them",
            other => other.suggestion(),
        };
        Err(LineError::new(kind, format!("`{}`: `{}` {error}", self.name, text())).suggest(suggestion))
    }

    fn too_long(&self, text: &str, precision: u8) -> LineError {
        let column_type = self.column_type;
        let message = format!("`{}`: `{text}` has more than {precision} digits", self.name);
        LineError::new(LineErrorKind::Value, message).suggest(format!("the column is a {column_type}"))
    }

    fn mismatch(&self, json: &mut Json<'_>, kind: Kind, scratch: &mut String) -> LineError {
        let column_type = self.column_type;
        let article = if column_type == ColumnType::Integer { "an" } else { "a" };
        let what = format!("`{}`: the column is {article} {column_type}, the value is {}", self.name, kind.noun());
        let error = LineError::new(LineErrorKind::Type, what);
        let suggestion = match (column_type, kind) {
            (ColumnType::String, Kind::Number) => match json.number() {
                Ok(text) => format!("write \"{}\" with quotes", shown(text)),
                Err(error) => return error,
            },
            (ColumnType::Integer | ColumnType::Float, Kind::String) => match json.string(scratch) {
                Ok(text) if is_number(text) => format!("write {} without quotes", shown(text)),
                _ => "write a number without quotes, or null".to_owned(),
            },
            (ColumnType::String, _) => "write a string".to_owned(),
            (ColumnType::Boolean, _) => "write true or false".to_owned(),
            (ColumnType::Timestamp, _) => "write an RFC 3339 time or milliseconds since 1970".to_owned(),
            _ => "write a number".to_owned(),
        };
        error.suggest(suggestion)
    }
}

/// A number as the column keeps it.
fn parse_as(column_type: ColumnType, text: &str) -> Result<i64, NumberError> {
    match column_type {
        ColumnType::Timestamp => parse_number(text, Unit::Timestamp),
        other => parse_decimal(text, other.scale()),
    }
}

/// A decimal that stands in quotes: a JSON number and nothing else.
pub(super) fn parse_quoted(text: &str, scale: u8) -> Result<i64, NumberError> {
    if is_number(text) { parse_decimal(text, scale) } else { Err(NumberError::NotANumber) }
}
