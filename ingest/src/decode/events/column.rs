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

use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind, is_number};
use crate::decode::tags::shown;
use crate::decode::value::{NumberError, parse_decimal, parse_number, parse_time};
use engine::catalog::{ColumnType, Fact, TAG_VALUE_BYTES_MAX, Unit};
use engine::update::Value;

/// A column that is read.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    column_type: ColumnType,
    /// Each of its values is counted on its own, so it has a limit.
    is_dimension: bool,
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
    pub(super) fn of(fact: &Fact, index: usize) -> Column {
        let declared = &fact.columns[index];
        let is_dimension = fact.dimension(index).is_some();
        Column { name: declared.name.clone(), column_type: declared.column_type, is_dimension }
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
            (ColumnType::Float, Kind::Number) => self.float(json.number()?).map_err(|error| error.at(at)),
            (ColumnType::Integer | ColumnType::Decimal { .. } | ColumnType::Timestamp, Kind::Number) => {
                let text = json.number()?;
                self.integer(text, parse_as(self.column_type, text)).map_err(|error| error.at(at))
            }
            (ColumnType::Decimal { .. }, Kind::String) => {
                let text = json.string(scratch)?;
                let parsed =
                    if is_number(text) { parse_as(self.column_type, text) } else { Err(NumberError::NotANumber) };
                self.integer(text, parsed).map_err(|error| error.at(at))
            }
            (ColumnType::Timestamp, Kind::String) => {
                let text = json.string(scratch)?;
                self.integer(text, parse_time(text)).map_err(|error| error.at(at))
            }
            (_, kind) => Err(self.mismatch(json, kind, scratch).at(at)),
        }
    }

    fn check_length(&self, len: usize) -> Result<(), LineError> {
        if !self.is_dimension || len <= TAG_VALUE_BYTES_MAX {
            return Ok(());
        }
        let message = format!("`{}`: a value of {len} bytes; a dimension has at most {TAG_VALUE_BYTES_MAX}", self.name);
        Err(LineError::new(LineErrorKind::Value, message).suggest("shorten it, or send a hash of it"))
    }

    fn float(&self, text: &str) -> Result<Stored, LineError> {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Stored::Float(number)),
            _ => {
                let message = format!("`{}`: `{}` is beyond a float of 64 bits", self.name, shown(text));
                Err(LineError::new(LineErrorKind::Value, message))
            }
        }
    }

    /// A number kept as an integer, or why it is none.
    fn integer(&self, text: &str, parsed: Result<i64, NumberError>) -> Result<Stored, LineError> {
        let digits_max = match self.column_type {
            ColumnType::Decimal { precision, .. } => Some(precision),
            _ => None,
        };
        let error = match (parsed, digits_max) {
            (Err(NumberError::Overflow { .. }), Some(precision)) => return Err(self.too_long(text, precision)),
            (Ok(number), Some(precision)) if number.unsigned_abs() >= 10u64.pow(precision.into()) => {
                return Err(self.too_long(text, precision));
            }
            (Ok(number), _) => return Ok(Stored::Integer(number)),
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
        Err(LineError::new(kind, format!("`{}`: `{}` {error}", self.name, shown(text))).suggest(suggestion))
    }

    fn too_long(&self, text: &str, precision: u8) -> LineError {
        let column_type = self.column_type;
        let message = format!("`{}`: `{}` has more than {precision} digits", self.name, shown(text));
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
