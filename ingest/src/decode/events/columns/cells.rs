//! The values of one array.

use crate::decode::events::column::{Column, parse_quoted};
use crate::decode::number::{of_float, of_short_float, rescale, rescale_wide, scaled, time_micros};
use crate::decode::tags::shown;
use crate::decode::value::{NumberError, parse_time};
use crate::decode::{LineError, LineErrorKind};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, LargeStringArray, PrimitiveArray, StringArray,
    StringViewArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date64Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type, i256,
};
use arrow::util::display::array_value_to_string;
use engine::catalog::ColumnType;
use engine::update::Value;
use std::fmt::Write;
use std::sync::Arc;

/// What the values of an Arrow type are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Text,
    Integer,
    Decimal { is_whole: bool },
    Float,
    Boolean,
    Time,
    Other,
}

impl Kind {
    pub(super) fn of(data_type: &DataType) -> Kind {
        match data_type {
            DataType::Null => Kind::Null,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
            DataType::Boolean => Kind::Boolean,
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale) => Kind::Decimal { is_whole: *scale == 0 },
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Kind::Time,
            DataType::Dictionary(_, values) if !matches!(**values, DataType::Dictionary(..)) => Kind::of(values),
            other if other.is_floating() => Kind::Float,
            other if other.is_integer() => Kind::Integer,
            _ => Kind::Other,
        }
    }
}

/// The values of an array, brought to one of few forms.
pub(super) struct Cells<'a> {
    array: &'a dyn Array,
    nulls: Option<NullBuffer>,
    /// Of a dictionary: where the value of each row stands.
    keys: Option<Vec<usize>>,
    data: Data<'a>,
}

enum Data<'a> {
    Null,
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Integer(ScalarBuffer<i64>),
    Unsigned(ScalarBuffer<u64>),
    Decimal(ScalarBuffer<i128>, i8),
    WideDecimal(ScalarBuffer<i256>, i8),
    Float(ScalarBuffer<f64>),
    ShortFloat(ScalarBuffer<f32>),
    Boolean(&'a BooleanArray),
    /// Numbers, and how many of them make a second.
    Time(ScalarBuffer<i64>, i64),
}

impl<'a> Cells<'a> {
    /// The cells of an array whose type has a [`Kind`].
    pub(super) fn of(array: &'a ArrayRef) -> Result<Cells<'a>, String> {
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let (keys, data) = match array.data_type() {
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let values = dictionary.values();
                // Without values all keys are NULL.
                if values.is_empty() { (None, Data::Null) } else { (Some(dictionary.normalized_keys()), data(values)?) }
            }
            _ => (None, data(array)?),
        };
        Ok(Cells { array, nulls, keys, data })
    }

    /// Where the value of a row stands; `None` if it is NULL.
    fn place(&self, row: usize) -> Option<usize> {
        if matches!(self.data, Data::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        Some(self.keys.as_ref().map_or(row, |keys| keys[row]))
    }

    fn text(&self, place: usize) -> Option<&'a str> {
        match self.data {
            Data::Text(array) => Some(array.value(place)),
            Data::LargeText(array) => Some(array.value(place)),
            Data::TextView(array) => Some(array.value(place)),
            _ => None,
        }
    }

    /// The value as an error shows it.
    pub(super) fn shown(&self, row: usize) -> String {
        let text = array_value_to_string(self.array, row).unwrap_or_default();
        shown(&text).into_owned()
    }

    /// An id: text, or the decimal text of an integer; `None` if it is NULL.
    pub(super) fn id<'s>(&'s self, row: usize, scratch: &'s mut String) -> Option<&'s str> {
        let place = self.place(row)?;
        if let Some(text) = self.text(place) {
            return Some(text);
        }
        scratch.clear();
        let written = match &self.data {
            Data::Integer(values) => write!(scratch, "{}", values[place]),
            Data::Unsigned(values) => write!(scratch, "{}", values[place]),
            Data::Decimal(values, _) => write!(scratch, "{}", values[place]),
            Data::WideDecimal(values, _) => write!(scratch, "{}", values[place]),
            _ => return None,
        };
        written.ok().map(|()| scratch.as_str())
    }

    /// A flag; `None` if it is NULL.
    pub(super) fn flag(&self, row: usize) -> Option<bool> {
        match (self.place(row)?, &self.data) {
            (place, Data::Boolean(array)) => Some(array.value(place)),
            _ => None,
        }
    }

    /// A time in microseconds since 1970, and whether it was a plain number; `None` if it is NULL.
    pub(super) fn time(&self, row: usize) -> Option<(Result<i64, NumberError>, bool)> {
        let place = self.place(row)?;
        Some(match &self.data {
            Data::Time(values, per_second) => (time_micros(values[place], *per_second), false),
            Data::Integer(values) => (time_micros(values[place], MILLIS_PER_SECOND), true),
            Data::Unsigned(values) => {
                let millis = i64::try_from(values[place]).map_err(|_| NumberError::TimeRange);
                (millis.and_then(|millis| time_micros(millis, MILLIS_PER_SECOND)), true)
            }
            _ => (self.text(place).ok_or(NumberError::NotATime).and_then(parse_time), false),
        })
    }

    /// The value of a column of the fact.
    pub(super) fn value(&self, column: &Column, row: usize, scratch: &mut String) -> Result<Value<'a>, LineError> {
        let Some(place) = self.place(row) else { return Ok(Value::Null) };
        match column.column_type {
            ColumnType::String => column.text(self.text(place).unwrap_or_default()),
            ColumnType::Json => column.json(self.text(place).unwrap_or_default(), scratch),
            ColumnType::Boolean => Ok(self.flag(row).map_or(Value::Null, Value::Boolean)),
            ColumnType::Float => self.float(place, scratch).map(Value::Float).ok_or_else(|| {
                let message = format!("`{}`: `{}` is not a number", column.name, self.shown(row));
                LineError::new(LineErrorKind::Value, message).suggest("leave it NULL if it is unknown")
            }),
            ColumnType::Timestamp => {
                let parsed = self.time(row).map_or(Err(NumberError::NotATime), |(parsed, _)| parsed);
                column.integer(parsed, || self.shown(row)).map(Value::Integer)
            }
            ColumnType::Integer | ColumnType::Decimal { .. } => {
                let parsed = self.number(place, column.column_type.scale(), scratch);
                column.integer(parsed, || self.shown(row)).map(Value::Integer)
            }
        }
    }

    /// A number in units of `10^-scale`, exactly.
    fn number(&self, place: usize, scale: u8, scratch: &mut String) -> Result<i64, NumberError> {
        match &self.data {
            Data::Integer(values) => scaled(values[place], scale),
            Data::Unsigned(values) => {
                let value = i64::try_from(values[place]).map_err(|_| NumberError::Overflow { scale });
                value.and_then(|value| scaled(value, scale))
            }
            Data::Decimal(values, own) => rescale(values[place], *own, scale),
            Data::WideDecimal(values, own) => rescale_wide(values[place], *own, scale),
            Data::Float(values) => of_float(values[place], scale, scratch),
            Data::ShortFloat(values) => of_short_float(values[place], scale, scratch),
            _ => self.text(place).ok_or(NumberError::NotANumber).and_then(|text| parse_quoted(text, scale)),
        }
    }

    /// A number as a float, the nearest one if need be; `None` if it is none.
    fn float(&self, place: usize, scratch: &mut String) -> Option<f64> {
        scratch.clear();
        let written = match &self.data {
            Data::Float(values) => return Some(values[place]).filter(|number| number.is_finite()),
            Data::ShortFloat(values) => return Some(values[place].into()).filter(|number: &f64| number.is_finite()),
            Data::Integer(values) => return Some(values[place] as f64),
            Data::Unsigned(values) => return Some(values[place] as f64),
            Data::Decimal(values, scale) => write!(scratch, "{}e{}", values[place], -i32::from(*scale)),
            Data::WideDecimal(values, scale) => write!(scratch, "{}e{}", values[place], -i32::from(*scale)),
            _ => return None,
        };
        written.ok().and_then(|()| scratch.parse().ok())
    }
}

const MILLIS_PER_SECOND: i64 = 1_000;

fn data(array: &ArrayRef) -> Result<Data<'_>, String> {
    fn values<T: ArrowPrimitiveType>(array: &dyn Array) -> ScalarBuffer<T::Native> {
        let array: &PrimitiveArray<T> = array.as_primitive();
        array.values().clone()
    }
    let to = |target: &DataType| cast(array, target).map_err(|error| error.to_string());
    Ok(match array.data_type() {
        DataType::Null => Data::Null,
        DataType::Utf8 => Data::Text(array.as_string()),
        DataType::LargeUtf8 => Data::LargeText(array.as_string()),
        DataType::Utf8View => Data::TextView(array.as_string_view()),
        DataType::Boolean => Data::Boolean(array.as_boolean()),
        DataType::UInt64 => Data::Unsigned(values::<UInt64Type>(array)),
        DataType::Int64 => Data::Integer(values::<Int64Type>(array)),
        integer if integer.is_integer() => Data::Integer(values::<Int64Type>(&to(&DataType::Int64)?)),
        DataType::Decimal128(_, scale) => Data::Decimal(values::<Decimal128Type>(array), *scale),
        DataType::Decimal256(_, scale) => Data::WideDecimal(values::<Decimal256Type>(array), *scale),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
            Data::Decimal(values::<Decimal128Type>(&to(&DataType::Decimal128(38, *scale))?), *scale)
        }
        DataType::Float64 => Data::Float(values::<Float64Type>(array)),
        DataType::Float32 => Data::ShortFloat(values::<Float32Type>(array)),
        DataType::Float16 => Data::ShortFloat(values::<Float32Type>(&to(&DataType::Float32)?)),
        DataType::Date32 => Data::Time(values::<Date64Type>(&to(&DataType::Date64)?), MILLIS_PER_SECOND),
        DataType::Date64 => Data::Time(values::<Date64Type>(array), MILLIS_PER_SECOND),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => Data::Time(values::<TimestampSecondType>(array), 1),
            TimeUnit::Millisecond => Data::Time(values::<TimestampMillisecondType>(array), MILLIS_PER_SECOND),
            TimeUnit::Microsecond => Data::Time(values::<TimestampMicrosecondType>(array), 1_000_000),
            TimeUnit::Nanosecond => Data::Time(values::<TimestampNanosecondType>(array), 1_000_000_000),
        },
        other => return Err(format!("columns of {other} are not read")),
    })
}

/// The same array, its timestamps with a zone told in UTC: the same instants, and no names of zones have to be known.
pub(super) fn in_utc(array: &ArrayRef) -> ArrayRef {
    fn told<T: arrow::datatypes::ArrowTimestampType>(array: &ArrayRef) -> ArrayRef {
        Arc::new(array.as_primitive::<T>().clone().with_timezone("+00:00"))
    }
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, Some(_)) => told::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => told::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => told::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => told::<TimestampNanosecondType>(array),
        _ => array.clone(),
    }
}
