//! Arrow columns as JSON: the types are looked at once for many rows, the cells are read in place.
//!
//! Numbers are JSON numbers, decimals with all their digits; times are RFC 3339 in UTC, dates their midnight; bytes are
//! text if they are UTF-8, else hexadecimal; lists are arrays, structs and maps objects. A member that is NULL is left out.

use super::json_text as json;
use super::own_items::{own_entries, own_items};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array,
    Int64Array, ListArray, MapArray, RecordBatch, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowTimestampType, DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::temporal_conversions::as_datetime;
use std::fmt::Write;
use std::sync::Arc;

/// Rows, ready to be written.
pub(crate) struct Rows {
    members: Vec<Member>,
    count: usize,
}

/// A column with its name.
struct Member {
    key: Vec<u8>,
    column: Column,
}

struct Column {
    nulls: Option<NullBuffer>,
    cells: Cells,
}

/// A column's cells, brought to one of few forms.
enum Cells {
    Null,
    Flag(BooleanArray),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Single(Float32Array),
    Decimal(Decimal128Array, i8),
    WideDecimal(Decimal256Array, i8),
    Text(StringArray),
    Bytes(BinaryArray),
    /// Since 1970.
    Time(Int64Array, TimeUnit),
    List(ListArray, Box<Column>),
    Struct(Vec<Member>),
    Map(MapArray, Box<Column>, Box<Column>),
}

impl Rows {
    /// # Errors
    /// Names the column that cannot be written.
    pub(crate) fn new(batch: &RecordBatch) -> Result<Rows, String> {
        let schema = batch.schema();
        let named = schema.fields().iter().zip(batch.columns());
        let members = named.map(|(field, array)| member(field, array)).collect::<Result<_, _>>()?;
        Ok(Rows { members, count: batch.num_rows() })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Appends a row.
    pub(crate) fn push(&self, row: usize, out: &mut Vec<u8>) {
        push_object(&self.members, row, out);
    }
}

fn member(field: &Field, array: &ArrayRef) -> Result<Member, String> {
    let column = column(array).map_err(|what| format!("column `{}`: {what}", field.name()))?;
    Ok(Member { key: json::key(field.name()), column })
}

fn column(array: &ArrayRef) -> Result<Column, String> {
    Ok(Column { nulls: array.logical_nulls(), cells: cells(array)? })
}

fn cells(array: &ArrayRef) -> Result<Cells, String> {
    use DataType as T;
    let to = |target: &DataType| cast(array, target).map_err(|error| error.to_string());
    Ok(match array.data_type() {
        T::Null => Cells::Null,
        T::Boolean => Cells::Flag(array.as_boolean().clone()),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Cells::Integer(to(&T::Int64)?.as_primitive().clone()),
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Cells::Unsigned(to(&T::UInt64)?.as_primitive().clone()),
        T::Float64 => Cells::Float(array.as_primitive().clone()),
        T::Float16 | T::Float32 => Cells::Single(to(&T::Float32)?.as_primitive().clone()),
        T::Decimal128(_, scale) => Cells::Decimal(array.as_primitive().clone(), *scale),
        T::Decimal32(_, scale) | T::Decimal64(_, scale) => {
            Cells::Decimal(to(&T::Decimal128(38, *scale))?.as_primitive().clone(), *scale)
        }
        T::Decimal256(_, scale) => Cells::WideDecimal(array.as_primitive().clone(), *scale),
        T::Utf8 => Cells::Text(array.as_string::<i32>().clone()),
        // Times of day, durations: as Arrow shows them.
        T::LargeUtf8 | T::Utf8View | T::Time32(_) | T::Time64(_) | T::Duration(_) | T::Interval(_) => {
            Cells::Text(to(&T::Utf8)?.as_string::<i32>().clone())
        }
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
            Cells::Bytes(to(&T::Binary)?.as_binary::<i32>().clone())
        }
        T::Date32 => {
            Cells::Time(raw::<TimestampSecondType>(&to(&T::Timestamp(TimeUnit::Second, None))?), TimeUnit::Second)
        }
        T::Date64 => Cells::Time(to(&T::Int64)?.as_primitive().clone(), TimeUnit::Millisecond),
        T::Timestamp(unit, _) => {
            let raw = match unit {
                TimeUnit::Second => raw::<TimestampSecondType>(array),
                TimeUnit::Millisecond => raw::<TimestampMillisecondType>(array),
                TimeUnit::Microsecond => raw::<TimestampMicrosecondType>(array),
                TimeUnit::Nanosecond => raw::<TimestampNanosecondType>(array),
            };
            Cells::Time(raw, *unit)
        }
        T::Dictionary(_, values) => return cells(&to(values)?),
        T::List(_) => {
            let list = own_items(array.as_list::<i32>());
            let items = Box::new(column(list.values())?);
            Cells::List(list, items)
        }
        T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
            let list = T::List(Arc::new(Field::new("item", item.data_type().clone(), true)));
            return match array.as_list_opt::<i64>() {
                Some(large) => cells(&cast(&own_items(large), &list).map_err(|error| error.to_string())?),
                None => cells(&to(&list)?),
            };
        }
        T::Struct(fields) => {
            let named = fields.iter().zip(array.as_struct().columns());
            Cells::Struct(named.map(|(field, array)| member(field, array)).collect::<Result<_, _>>()?)
        }
        T::Map(_, _) => {
            let map = own_entries(array.as_map());
            let (keys, values) = (column(map.keys())?, column(map.values())?);
            if let Cells::List(..) | Cells::Struct(_) | Cells::Map(..) = keys.cells {
                return Err("a map's keys must be text or numbers".to_owned());
            }
            Cells::Map(map, Box::new(keys), Box::new(values))
        }
        other => return Err(format!("columns of {other} are not read; leave it out or cast it to text")),
    })
}

/// The numbers behind a time column.
fn raw<T: ArrowTimestampType>(array: &ArrayRef) -> Int64Array {
    array.as_primitive::<T>().reinterpret_cast::<Int64Type>()
}

fn push_object(members: &[Member], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut is_first = true;
    for Member { key, column } in members.iter().filter(|member| !member.column.is_null(row)) {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.extend_from_slice(key);
        column.push(row, out);
    }
    out.push(b'}');
}

impl Column {
    fn is_null(&self, row: usize) -> bool {
        matches!(self.cells, Cells::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends a cell.
    fn push(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match &self.cells {
            Cells::Null => out.extend_from_slice(b"null"),
            Cells::Flag(array) => json::push_shown(array.value(row), out),
            Cells::Integer(array) => json::push_shown(array.value(row), out),
            Cells::Unsigned(array) => json::push_shown(array.value(row), out),
            Cells::Float(array) => json::push_float(array.value(row), array.value(row).abs(), out),
            Cells::Single(array) => json::push_float(array.value(row), array.value(row).abs().into(), out),
            Cells::Decimal(array, scale) => json::push_decimal(array.value(row), *scale, out),
            Cells::WideDecimal(array, scale) => json::push_decimal(array.value(row), *scale, out),
            Cells::Text(array) => json::push_string(array.value(row), out),
            Cells::Bytes(array) => push_bytes(array.value(row), out),
            Cells::Time(array, unit) => push_time(array.value(row), *unit, out),
            Cells::List(list, items) => {
                let offsets = list.value_offsets();
                out.push(b'[');
                for (index, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    items.push(item, out);
                }
                out.push(b']');
            }
            Cells::Struct(members) => push_object(members, row, out),
            Cells::Map(map, keys, values) => {
                let offsets = map.value_offsets();
                out.push(b'{');
                for (index, entry) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    keys.push_key(entry, out);
                    values.push(entry, out);
                }
                out.push(b'}');
            }
        }
    }

    /// Appends a cell as the key of an object: a number in quotes.
    fn push_key(&self, row: usize, out: &mut Vec<u8>) {
        let begin = out.len();
        self.push(row, out);
        if out[begin] != b'"' {
            out.insert(begin, b'"');
            out.push(b'"');
        }
        out.push(b':');
    }
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => json::push_string(text, out),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len() * 2);
            bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("writing to memory does not fail"));
            json::push_string(&text, out);
        }
    }
}

/// A time outside the years of the calendar is told as what it is, which no column of times takes.
fn push_time(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let time = match unit {
        TimeUnit::Second => as_datetime::<TimestampSecondType>(value),
        TimeUnit::Millisecond => as_datetime::<TimestampMillisecondType>(value),
        TimeUnit::Microsecond => as_datetime::<TimestampMicrosecondType>(value),
        TimeUnit::Nanosecond => as_datetime::<TimestampNanosecondType>(value),
    };
    match time {
        // It shows itself as RFC 3339, with as many digits as it takes.
        Some(time) => json::push_shown(format_args!("\"{time:?}Z\""), out),
        None => json::push_shown(format_args!("\"{value} {unit:?}s since 1970\""), out),
    }
}
