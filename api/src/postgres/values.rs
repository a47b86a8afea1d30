//! Arrow's values as PostgreSQL writes them, as text and in binary.

use super::messages::Format;
use super::numeric;
use super::portal::ROW_BYTES_MAX;
use super::times;
use super::types::{plain, type_of};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};
use std::fmt::{Display, Write};

/// A column of a batch, ready to be written.
pub(super) struct Column {
    array: ArrayRef,
    format: Format,
    /// The items of lists, in the same format.
    items: Option<Box<Column>>,
    is_shown: bool,
}

/// The columns of a batch, each in its format.
///
/// # Errors
/// Arrow's, for values that PostgreSQL's type does not have.
pub(super) fn columns(batch: &RecordBatch, formats: &[Format]) -> Result<Vec<Column>, ArrowError> {
    let columns = batch.columns().iter().enumerate();
    columns.map(|(index, array)| Column::new(array, Format::of(formats, index))).collect()
}

impl Column {
    fn new(array: &ArrayRef, format: Format) -> Result<Column, ArrowError> {
        let Some(plain) = plain(array.data_type()) else {
            return Ok(Column { array: array.clone(), format, items: None, is_shown: true });
        };
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let array = match array.data_type() == &plain {
            true => array.clone(),
            false => cast_with_options(array, &plain, &options)?,
        };
        let items = match &plain {
            DataType::List(_) => Some(Box::new(Column::new(array.as_list::<i32>().values(), format)?)),
            _ => None,
        };
        Ok(Column { array, format, items, is_shown: false })
    }

    /// Also of a column that has nothing but NULL, of which Arrow keeps no list.
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row) || *self.array.data_type() == DataType::Null
    }

    /// Writes a row's value with its length; −1 of NULL. What is written then ends before `end_max`.
    ///
    /// # Errors
    /// A value that PostgreSQL cannot have, or that is too long for a message.
    pub(super) fn put(&self, row: usize, out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
        room(out, 4, end_max)?;
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let start = out.len();
        out.put_i32(0);
        match self.format {
            Format::Text => self.text(row, out, end_max)?,
            Format::Binary => self.binary(row, out, end_max)?,
        }
        room(out, 0, end_max)?;
        let length = i32::try_from(out.len() - start - 4);
        let length = length.map_err(|_| ArrowError::ComputeError("a value has more than 2 GiB".to_owned()))?;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn text(&self, row: usize, out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
        let array = &*self.array;
        if self.is_shown {
            return shown(array, row, out, end_max);
        }
        match array.data_type() {
            DataType::Boolean => out.put_u8(if array.as_boolean().value(row) { b't' } else { b'f' }),
            DataType::Int16 => print(out, array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => print(out, array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 => print(out, array.as_primitive::<Int64Type>().value(row)),
            DataType::Float32 => {
                let number = array.as_primitive::<Float32Type>().value(row);
                float(out, number, f64::from(number));
            }
            DataType::Float64 => {
                let number = array.as_primitive::<Float64Type>().value(row);
                float(out, number, number);
            }
            DataType::Decimal128(..) | DataType::Decimal256(..) => print(out, decimal(array, row)),
            DataType::Utf8 => {
                let text = array.as_string::<i32>().value(row);
                room(out, text.len(), end_max)?;
                put_str(out, text);
            }
            DataType::Binary => hex(array.as_binary::<i32>().value(row), out, end_max)?,
            DataType::Date32 => print(out, times::Date(array.as_primitive::<Date32Type>().value(row).into())),
            DataType::Time64(_) => print(out, times::Time(array.as_primitive::<Time64MicrosecondType>().value(row))),
            DataType::Timestamp(_, zone) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                print(out, times::Timestamp { micros, is_utc: zone.is_some() });
            }
            DataType::Interval(_) | DataType::Duration(_) => print(out, interval(array, row)),
            DataType::List(_) => self.list_text(row, out, end_max)?,
            _ => shown(array, row, out, end_max)?,
        }
        Ok(())
    }

    fn binary(&self, row: usize, out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
        let array = &*self.array;
        match array.data_type() {
            _ if self.is_shown => shown(array, row, out, end_max)?,
            DataType::Boolean => out.put_u8(u8::from(array.as_boolean().value(row))),
            DataType::Int16 => out.put_i16(array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => out.put_i32(array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 => out.put_i64(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float32 => out.put_f32(array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => out.put_f64(array.as_primitive::<Float64Type>().value(row)),
            DataType::Decimal128(..) | DataType::Decimal256(..) => numeric::put(out, &decimal(array, row)),
            DataType::Binary => {
                let bytes = array.as_binary::<i32>().value(row);
                room(out, bytes.len(), end_max)?;
                out.extend_from_slice(bytes);
            }
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().value(row).checked_sub(times::EPOCH_DAYS);
                out.put_i32(days.ok_or_else(|| too_early("date"))?);
            }
            DataType::Time64(_) => out.put_i64(array.as_primitive::<Time64MicrosecondType>().value(row)),
            DataType::Timestamp(..) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                out.put_i64(micros.checked_sub(times::EPOCH_MICROS).ok_or_else(|| too_early("timestamp"))?);
            }
            DataType::Interval(_) | DataType::Duration(_) => {
                let times::Interval { months, days, micros } = interval(array, row);
                out.put_i64(micros);
                out.put_i32(days);
                out.put_i32(months);
            }
            DataType::List(_) => self.list_binary(row, out, end_max)?,
            // Text is the same in both.
            _ => self.text(row, out, end_max)?,
        }
        Ok(())
    }

    /// Which items a row's list has.
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.array.as_list::<i32>().value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn list_text(&self, row: usize, out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
        let Some(items) = &self.items else { return Ok(()) };
        out.put_u8(b'{');
        let mut item = BytesMut::new();
        for (place, index) in self.range(row).enumerate() {
            room(out, 1, end_max)?;
            if place > 0 {
                out.put_u8(b',');
            }
            if items.is_null(index) {
                out.extend_from_slice(b"NULL");
                continue;
            }
            item.clear();
            items.text(index, &mut item, end_max.saturating_sub(out.len()))?;
            let is_special = |byte: &u8| byte.is_ascii_whitespace() || b"{}\",\\\x0b".contains(byte);
            let escaped = item.iter().filter(|byte| b"\"\\".contains(byte)).count();
            room(out, item.len() + escaped, end_max)?;
            let is_quoted = item.is_empty() || item.eq_ignore_ascii_case(b"null") || item.iter().any(is_special);
            if !is_quoted {
                out.extend_from_slice(&item);
                continue;
            }
            out.put_u8(b'"');
            for byte in &item {
                if b"\"\\".contains(byte) {
                    out.put_u8(b'\\');
                }
                out.put_u8(*byte);
            }
            out.put_u8(b'"');
        }
        out.put_u8(b'}');
        Ok(())
    }

    fn list_binary(&self, row: usize, out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
        let Some(items) = &self.items else { return Ok(()) };
        let range = self.range(row);
        let has_nulls = range.clone().any(|index| items.is_null(index));
        // An empty one has no dimension.
        out.put_i32(i32::from(!range.is_empty()));
        out.put_i32(i32::from(has_nulls));
        out.put_u32(type_of(items.array.data_type()).oid());
        if !range.is_empty() {
            out.put_i32(i32::try_from(range.len()).unwrap_or(i32::MAX));
            out.put_i32(1);
        }
        for index in range {
            items.put(index, out, end_max)?;
        }
        Ok(())
    }
}

/// # Errors
/// If so many bytes more would end behind `end_max`.
fn room(out: &BytesMut, bytes: usize, end_max: usize) -> Result<(), ArrowError> {
    match out.len().saturating_add(bytes) > end_max {
        true => Err(too_long()),
        false => Ok(()),
    }
}

fn too_long() -> ArrowError {
    ArrowError::ComputeError(format!("a row has more than {ROW_BYTES_MAX} bytes"))
}

/// `\x` and two hexadecimal digits a byte.
fn hex(bytes: &[u8], out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
    static DIGITS: [u8; 16] = *b"0123456789abcdef";
    let length = bytes.len().saturating_mul(2).saturating_add(2);
    room(out, length, end_max)?;
    out.reserve(length);
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Ok(())
}

fn too_early(what: &str) -> ArrowError {
    ArrowError::ComputeError(format!("a {what} is too early for PostgreSQL's type in binary; write CAST(… AS VARCHAR)"))
}

fn print(out: &mut BytesMut, value: impl Display) {
    // Memory takes all that is written.
    let _ = write!(out, "{value}");
}

fn put_str(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// As Arrow shows it.
fn shown(array: &dyn Array, row: usize, out: &mut BytesMut, end_max: usize) -> Result<(), ArrowError> {
    static OPTIONS: FormatOptions<'static> = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
    match write!(Bounded { out, end_max }, "{}", formatter.value(row)) {
        Ok(()) => Ok(()),
        Err(_) => Err(too_long()),
    }
}

/// Takes what is written up to an end.
struct Bounded<'o> {
    out: &'o mut BytesMut,
    end_max: usize,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        room(self.out, text.len(), self.end_max).map_err(|_| std::fmt::Error)?;
        put_str(self.out, text);
        Ok(())
    }
}

/// The shortest text that reads back as the number.
fn float<T: Display + std::fmt::LowerExp>(out: &mut BytesMut, number: T, wide: f64) {
    match wide {
        _ if wide.is_nan() => put_str(out, "NaN"),
        f64::INFINITY => put_str(out, "Infinity"),
        f64::NEG_INFINITY => put_str(out, "-Infinity"),
        0.0 => print(out, number),
        _ if (1e-5..1e15).contains(&wide.abs()) => print(out, number),
        _ => print(out, format_args!("{number:e}")),
    }
}

fn decimal(array: &dyn Array, row: usize) -> String {
    match array.data_type() {
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row),
        _ => array.as_primitive::<Decimal128Type>().value_as_string(row),
    }
}

fn interval(array: &dyn Array, row: usize) -> times::Interval {
    match array.data_type() {
        DataType::Duration(_) => {
            let micros = array.as_primitive::<DurationMicrosecondType>().value(row);
            times::Interval { months: 0, days: 0, micros }
        }
        _ => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            times::Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1_000 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, ListArray, StringArray};
    use std::sync::Arc;

    #[test]
    fn values_are_written_up_to_where_a_row_has_to_end() {
        let bytes = BinaryArray::from(vec![b"\x00\xff\x5a".as_slice()]);
        let text = StringArray::from(vec!["four"]);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None, Some(30)])]);
        let arrays: [(ArrayRef, Format, &[u8]); 4] = [
            (Arc::new(bytes.clone()), Format::Text, b"\0\0\0\x08\\x00ff5a"),
            (Arc::new(bytes), Format::Binary, b"\0\0\0\x03\x00\xff\x5a"),
            (Arc::new(text), Format::Text, b"\0\0\0\x04four"),
            (Arc::new(list), Format::Text, b"\0\0\0\x0b{1,NULL,30}"),
        ];
        for (array, format, expected) in arrays {
            let column = Column::new(&array, format).expect("a column");
            let mut out = BytesMut::new();
            column.put(0, &mut out, expected.len()).expect("it fits");
            assert_eq!(out, expected);
            for end_max in 0..expected.len() {
                out.clear();
                column.put(0, &mut out, end_max).expect_err("too long");
                assert!(out.len() <= end_max + 8, "most of it is not written first");
            }
        }
    }
}
