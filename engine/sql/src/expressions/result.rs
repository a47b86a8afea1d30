//! What comes out of an expression, as a line has it.

use super::number::push_decimal;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use datafusion::common::{DataFusionError, Result};
use engine::computed::{ANSWER_BYTES_MAX, Answers, ExpressionError, Wanted};
use std::fmt::Write;

/// Whether what is wanted can be made of it.
///
/// # Errors
/// If not, with what to write instead.
pub(super) fn check(wanted: Wanted, data_type: &DataType) -> Result<(), ExpressionError> {
    let shape = Shape::of(data_type);
    let fits = match (wanted, &shape) {
        (_, Shape::Null) => true,
        (Wanted::Any, shape) => *shape != Shape::Unknown,
        (Wanted::Text, shape) => matches!(shape, Shape::Text | Shape::Time),
        (Wanted::Texts, Shape::List(item)) => matches!(item.as_ref(), Shape::Text | Shape::Null),
        (Wanted::Texts, shape) => *shape == Shape::Text,
        (Wanted::Number, shape) => *shape == Shape::Number,
        (Wanted::Boolean, shape) => *shape == Shape::Boolean,
        (Wanted::Time, shape) => matches!(shape, Shape::Time | Shape::Text | Shape::Number),
        (Wanted::Id, shape) => matches!(shape, Shape::Text | Shape::Number),
    };
    if fits {
        return Ok(());
    }
    let needed = match wanted {
        Wanted::Text => "text",
        Wanted::Texts => "text or a list of texts",
        Wanted::Number => "a number",
        Wanted::Boolean => "true or false",
        Wanted::Time => "a time",
        Wanted::Id => "text or a number",
        Wanted::Any => "text, a number, true or false, a time, or a list of these",
    };
    let error = ExpressionError::new(format!("the expression gives {}, and {needed} is needed", shape.noun(data_type)));
    Err(match wanted {
        Wanted::Text | Wanted::Texts | Wanted::Id | Wanted::Any => {
            error.suggest("put it in parentheses and write ::text behind it")
        }
        Wanted::Number => error.suggest("put it in parentheses and write ::decimal or ::double behind it"),
        Wanted::Boolean => error.suggest("write a condition, as in amount > 0"),
        Wanted::Time => error.suggest("write a timestamp, as in to_timestamp_millis(t)"),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Null,
    Text,
    Number,
    Boolean,
    Time,
    List(Box<Shape>),
    Unknown,
}

impl Shape {
    fn of(data_type: &DataType) -> Shape {
        match data_type {
            DataType::Null => Shape::Null,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Shape::Text,
            DataType::Boolean => Shape::Boolean,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Shape::Time,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                match Shape::of(item.data_type()) {
                    Shape::Unknown => Shape::Unknown,
                    shape => Shape::List(Box::new(shape)),
                }
            }
            DataType::Decimal256(..) => Shape::Unknown,
            other if other.is_numeric() => Shape::Number,
            _ => Shape::Unknown,
        }
    }

    fn noun(&self, data_type: &DataType) -> String {
        match self {
            Shape::Null => "NULL".to_owned(),
            Shape::Text => "text".to_owned(),
            Shape::Number => "a number".to_owned(),
            Shape::Boolean => "true or false".to_owned(),
            Shape::Time => "a time".to_owned(),
            Shape::List(item) => format!("a list of {}", item.noun(data_type)),
            Shape::Unknown => format!("a {data_type}"),
        }
    }
}

/// Appends the answer for each value.
pub(super) fn push_all(array: &ArrayRef, wanted: Wanted, answers: &mut Answers) -> Result<()> {
    let array = plain(array)?;
    for row in 0..array.len() {
        if array.is_null(row) || array.data_type() == &DataType::Null {
            answers.push_null();
            continue;
        }
        let bounded = |out: &mut String| {
            let begin = out.len();
            push(&array, row, wanted, out)?;
            check_length(out.len() - begin)
        };
        if let Err(error) = answers.push_value(bounded) {
            answers.push_refused(&super::sentence(&error));
        }
    }
    Ok(())
}

/// What is longer is in no line.
fn check_length(bytes: usize) -> Result<()> {
    match bytes <= ANSWER_BYTES_MAX {
        true => Ok(()),
        false => Err(DataFusionError::Execution(format!(
            "the result has {bytes} bytes; at most {ANSWER_BYTES_MAX} are in a line"
        ))),
    }
}

/// The same values in one of few types.
fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = match array.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        data_type if data_type.is_signed_integer() => DataType::Int64,
        data_type if data_type.is_unsigned_integer() => DataType::UInt64,
        DataType::Float16 => DataType::Float64,
        // The shortest text of a short float is that of the decimal which was meant.
        DataType::Float32 => return cast(&cast(array, &DataType::Utf8)?, &DataType::Float64),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Date64 => DataType::Date32,
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        _ => return Ok(array.clone()),
    };
    cast(array, &to)
}

fn push(array: &ArrayRef, row: usize, wanted: Wanted, out: &mut String) -> Result<()> {
    let display = |out: &mut String, text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).map_err(|_| DataFusionError::Execution("a time that no calendar has".to_owned()))
    };
    match array.data_type() {
        DataType::Utf8 => {
            let text = array.as_string::<i32>().value(row);
            check_length(text.len())?;
            push_text(text, wanted, out);
        }
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int64 => display(out, format_args!("{}", array.as_primitive::<Int64Type>().value(row)))?,
        DataType::UInt64 => display(out, format_args!("{}", array.as_primitive::<UInt64Type>().value(row)))?,
        DataType::Decimal128(_, scale) => push_decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, out),
        DataType::Float64 => {
            let number = array.as_primitive::<Float64Type>().value(row);
            if !number.is_finite() {
                return Err(DataFusionError::Execution(format!("the result is {number}, which is no number")));
            }
            display(out, format_args!("{}", serde_json::Value::from(number)))?;
        }
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = timestamp_us_to_datetime(micros).ok_or_else(no_calendar)?;
            display(out, format_args!("\"{}Z\"", time.format("%Y-%m-%dT%H:%M:%S%.f")))?;
        }
        DataType::Date32 => {
            let day = date32_to_datetime(array.as_primitive::<Date32Type>().value(row)).ok_or_else(no_calendar)?;
            display(out, format_args!("\"{}\"", day.format("%Y-%m-%d")))?;
        }
        DataType::List(_) => push_list(&array.as_list::<i32>().value(row), wanted, out)?,
        other => return Err(DataFusionError::Internal(format!("{other} was let through"))),
    }
    Ok(())
}

fn push_list(items: &ArrayRef, wanted: Wanted, out: &mut String) -> Result<()> {
    let items = plain(items)?;
    out.push('[');
    for row in 0..items.len() {
        let is_null = items.is_null(row) || items.data_type() == &DataType::Null;
        // A set has no missing values.
        if is_null && wanted == Wanted::Texts {
            continue;
        }
        if !out.ends_with('[') {
            out.push(',');
        }
        match is_null {
            true => out.push_str("null"),
            false => push(&items, row, wanted, out)?,
        }
    }
    out.push(']');
    Ok(())
}

fn push_text(text: &str, wanted: Wanted, out: &mut String) {
    // Milliseconds that were read as text.
    if wanted == Wanted::Time && serde_json::from_str::<serde_json::Number>(text).is_ok() {
        return out.push_str(text);
    }
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn no_calendar() -> DataFusionError {
    DataFusionError::Execution("the result is a time that no calendar has".to_owned())
}
