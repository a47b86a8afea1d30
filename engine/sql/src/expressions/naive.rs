//! The slow twin: expressions as a tree, computed value by value, with numbers of any length.
//!
//! It knows nothing of columns, coercion or batches; numbers are integers of 18 digits behind the point, kept as 256 bits so
//! that nothing overflows before it is looked at.

use datafusion::arrow::datatypes::i256;
use serde_json::Value;

/// An expression of numbers.
#[derive(Clone, Debug)]
pub(super) enum Number {
    Path(&'static str),
    /// In units of a hundredth.
    Literal(i64),
    Add(Box<Number>, Box<Number>),
    Subtract(Box<Number>, Box<Number>),
    Multiply(Box<Number>, Box<Number>),
    Divide(Box<Number>, Box<Number>),
    Remainder(Box<Number>, Box<Number>),
    Negate(Box<Number>),
    Coalesce(Box<Number>, Box<Number>),
    Case(Box<Truth>, Box<Number>, Box<Number>),
    Length(Box<Text>),
}

/// An expression that is true, false or NULL.
#[derive(Clone, Debug)]
pub(super) enum Truth {
    Path(&'static str),
    Less(Box<Number>, Box<Number>),
    Equal(Box<Number>, Box<Number>),
    SameText(Box<Text>, Box<Text>),
    IsNull(Box<Number>),
    Not(Box<Truth>),
    And(Box<Truth>, Box<Truth>),
    Or(Box<Truth>, Box<Truth>),
}

/// An expression of text.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Path(&'static str),
    Literal(&'static str),
    Join(Box<Text>, Box<Text>),
    Upper(Box<Text>),
    Digits(Box<Number>),
}

/// The error of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fails;

type Answer<T> = Result<Option<T>, Fails>;

fn one() -> i256 {
    i256::from_i128(super::number::ONE)
}

fn within(number: i256) -> Answer<i256> {
    let limit = i256::from_i128(super::number::LIMIT);
    if number < limit && number > limit.wrapping_neg() { Ok(Some(number)) } else { Err(Fails) }
}

impl Number {
    pub(super) fn sql(&self) -> String {
        match self {
            Number::Path(path) => (*path).to_owned(),
            Number::Literal(hundredths) => {
                let sign = if *hundredths < 0 { "-" } else { "" };
                format!("({sign}{}.{:02})", hundredths.abs() / 100, hundredths.abs() % 100)
            }
            Number::Add(a, b) => format!("({} + {})", a.sql(), b.sql()),
            Number::Subtract(a, b) => format!("({} - {})", a.sql(), b.sql()),
            Number::Multiply(a, b) => format!("({} * {})", a.sql(), b.sql()),
            Number::Divide(a, b) => format!("({} / {})", a.sql(), b.sql()),
            Number::Remainder(a, b) => format!("({} % {})", a.sql(), b.sql()),
            Number::Negate(a) => format!("(- {})", a.sql()),
            Number::Coalesce(a, b) => format!("coalesce({}, {})", a.sql(), b.sql()),
            Number::Case(when, then, other) => {
                format!("(CASE WHEN {} THEN {} ELSE {} END)", when.sql(), then.sql(), other.sql())
            }
            Number::Length(text) => format!("length({})", text.sql()),
        }
    }

    pub(super) fn value(&self, record: &Value) -> Answer<i256> {
        let both = |a: &Number, b: &Number| Ok(a.value(record)?.zip(b.value(record)?));
        match self {
            Number::Path(path) => {
                let value = record.get(path).filter(|value| !value.is_null());
                Ok(value.map(|value| i256::from_i128(super::tests::number(&value.to_string()))))
            }
            Number::Literal(hundredths) => {
                Ok(Some(i256::from_i128(i128::from(*hundredths) * super::number::ONE / 100)))
            }
            Number::Add(a, b) => both(a, b)?.map_or(Ok(None), |(a, b)| within(a.wrapping_add(b))),
            Number::Subtract(a, b) => both(a, b)?.map_or(Ok(None), |(a, b)| within(a.wrapping_sub(b))),
            Number::Multiply(a, b) => both(a, b)?.map_or(Ok(None), |(a, b)| {
                let wide = a.wrapping_mul(b);
                if wide.wrapping_rem(one()) == i256::ZERO { within(wide.wrapping_div(one())) } else { Err(Fails) }
            }),
            Number::Divide(a, b) => both(a, b)?.map_or(Ok(None), |(a, b)| {
                if b == i256::ZERO {
                    return Err(Fails);
                }
                let is_negative = a.is_negative() != b.is_negative();
                let (a, b) = (magnitude(a).wrapping_mul(one()), magnitude(b));
                // Half a step up, then cut.
                let two = i256::from_i128(2);
                let rounded = a.wrapping_mul(two).wrapping_add(b).wrapping_div(b.wrapping_mul(two));
                within(if is_negative { rounded.wrapping_neg() } else { rounded })
            }),
            Number::Remainder(a, b) => both(a, b)?.map_or(Ok(None), |(a, b)| match b == i256::ZERO {
                true => Err(Fails),
                false => Ok(Some(a.wrapping_rem(b))),
            }),
            Number::Negate(a) => Ok(a.value(record)?.map(i256::wrapping_neg)),
            Number::Coalesce(a, b) => match a.value(record)? {
                Some(value) => Ok(Some(value)),
                None => b.value(record),
            },
            Number::Case(when, then, other) => match when.value(record)? {
                Some(true) => then.value(record),
                Some(false) | None => other.value(record),
            },
            Number::Length(text) => {
                let length = text.value(record)?.map(|text| text.chars().count());
                Ok(length.map(|length| i256::from_i128(length as i128).wrapping_mul(one())))
            }
        }
    }
}

fn magnitude(number: i256) -> i256 {
    if number.is_negative() { number.wrapping_neg() } else { number }
}

/// A number as it is written, without zeros at its end.
pub(super) fn digits(number: i256) -> String {
    let padded = format!("{:0>19}", magnitude(number).to_string());
    let (whole, fraction) = padded.split_at(padded.len() - 18);
    let fraction = fraction.trim_end_matches('0');
    let (sign, point) = (if number.is_negative() { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
    format!("{sign}{whole}{point}{fraction}")
}

impl Truth {
    pub(super) fn sql(&self) -> String {
        match self {
            Truth::Path(path) => (*path).to_owned(),
            Truth::Less(a, b) => format!("({} < {})", typed(a), typed(b)),
            Truth::Equal(a, b) => format!("({} = {})", typed(a), typed(b)),
            Truth::SameText(a, b) => format!("(({})::text = {})", a.sql(), b.sql()),
            Truth::IsNull(a) => format!("({} IS NULL)", typed(a)),
            Truth::Not(a) => format!("(NOT {})", a.sql()),
            Truth::And(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Truth::Or(a, b) => format!("({} OR {})", a.sql(), b.sql()),
        }
    }

    /// What is settled by one side does not need the other.
    pub(super) fn value(&self, record: &Value) -> Answer<bool> {
        let numbers = |a: &Number, b: &Number| Ok(a.value(record)?.zip(b.value(record)?));
        match self {
            Truth::Path(path) => Ok(record.get(path).and_then(Value::as_bool)),
            Truth::Less(a, b) => Ok(numbers(a, b)?.map(|(a, b)| a < b)),
            Truth::Equal(a, b) => Ok(numbers(a, b)?.map(|(a, b)| a == b)),
            Truth::SameText(a, b) => Ok(a.value(record)?.zip(b.value(record)?).map(|(a, b)| a == b)),
            Truth::IsNull(a) => Ok(Some(a.value(record)?.is_none())),
            Truth::Not(a) => Ok(a.value(record)?.map(|value| !value)),
            Truth::And(a, b) => match a.value(record)? {
                Some(false) => Ok(Some(false)),
                a => Ok(match (a, b.value(record)?) {
                    (_, Some(false)) => Some(false),
                    (Some(true), b) => b,
                    _ => None,
                }),
            },
            Truth::Or(a, b) => match a.value(record)? {
                Some(true) => Ok(Some(true)),
                a => Ok(match (a, b.value(record)?) {
                    (_, Some(true)) => Some(true),
                    (Some(false), b) => b,
                    _ => None,
                }),
            },
        }
    }
}

/// A number whose type is told by itself.
fn typed(number: &Number) -> String {
    match number {
        Number::Path(path) => format!("{path}::decimal"),
        other => other.sql(),
    }
}

impl Text {
    pub(super) fn sql(&self) -> String {
        match self {
            Text::Path(path) => format!("{path}::text"),
            Text::Literal(text) => format!("'{}'", text.replace('\'', "''")),
            Text::Join(a, b) => format!("({} || {})", a.sql(), b.sql()),
            Text::Upper(a) => format!("upper({})", a.sql()),
            Text::Digits(a) => format!("(0 + {})::text", a.sql()),
        }
    }

    pub(super) fn value(&self, record: &Value) -> Answer<String> {
        match self {
            Text::Path(path) => Ok(match record.get(path) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(other) => Some(other.to_string()),
            }),
            Text::Literal(text) => Ok(Some((*text).to_owned())),
            Text::Join(a, b) => Ok(a.value(record)?.zip(b.value(record)?).map(|(a, b)| a + &b)),
            Text::Upper(a) => Ok(a.value(record)?.map(|text| text.to_uppercase())),
            Text::Digits(a) => Ok(a.value(record)?.map(digits)),
        }
    }
}
