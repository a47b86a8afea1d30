//! Values of parameters: as a client writes them, as text or in binary, and as the statement takes them.

use super::errors::Told;
use super::frames::{Fields, FrameError};
use super::messages::{Bind, Format};
use super::numeric;
use super::times::{EPOCH_DAYS, EPOCH_MICROS};
use super::types::{arrow_of, type_of};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use std::sync::Arc;
use tokio_postgres::types::Type;

/// The types of a statement's parameters: those that the client said, else what they are compared with.
pub(super) fn types(said: &[u32], expected: &SchemaRef) -> Vec<Type> {
    let fields = expected.fields().iter().enumerate();
    let said = |index: usize| said.get(index).filter(|oid| **oid != 0).and_then(|oid| Type::from_oid(*oid));
    fields.map(|(index, field)| said(index).unwrap_or_else(|| type_of(field.data_type()))).collect()
}

/// NULL of each type, where the client said one that nothing else tells; `None` if it did so of no parameter. What a statement answers
/// may depend on it: `SELECT $1`.
pub(super) fn nulls(types: &[Type], expected: &SchemaRef) -> Option<RecordBatch> {
    let fields = expected.fields().iter().zip(types).enumerate();
    let told = |(index, (field, of)): (usize, (&Arc<Field>, &Type))| {
        Field::new(format!("${}", index + 1), wanted(field.data_type(), of), true)
    };
    let fields: Vec<Field> = fields.map(told).collect();
    if fields.iter().zip(expected.fields()).all(|(told, expected)| told.data_type() == expected.data_type()) {
        return None;
    }
    let columns = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()
}

/// The values as a row, a column each; `None` if there are none.
///
/// # Errors
/// A value that is not of its type.
pub(super) fn row(bind: &Bind, types: &[Type], expected: &SchemaRef) -> Result<Option<RecordBatch>, Told> {
    let count = types.len();
    if bind.values.len() != count {
        let message = format!("the statement has {count} parameters, and {} values came with it", bind.values.len());
        return Err(Told::new("08P01", message));
    }
    if bind.formats.len() > 1 && bind.formats.len() != count {
        let message = format!("formats are none, one for all, or one for each of {count} parameters");
        return Err(Told::new("08P01", message));
    }
    if count == 0 {
        return Ok(None);
    }
    let (mut fields, mut columns) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (index, (value, of)) in bind.values.iter().zip(types).enumerate() {
        let wanted = wanted(expected.field(index).data_type(), of);
        let read = match (value, Format::of(&bind.formats, index)) {
            (None, _) => Ok(new_null_array(&wanted, 1)),
            (Some(value), Format::Text) => text(value, &wanted),
            (Some(value), Format::Binary) => binary(value.clone(), of, &wanted),
        };
        let column = read.map_err(|why| Told::new("22P02", format!("parameter ${}: {why}", index + 1)))?;
        fields.push(Field::new(format!("${}", index + 1), column.data_type().clone(), true));
        columns.push(column);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    batch.map(Some).map_err(|error| Told::new("XX000", error.to_string()))
}

/// What a value becomes: what it is compared with; where nothing tells, or that would cut it, what the client says that it is.
fn wanted(expected: &DataType, of: &Type) -> DataType {
    match (expected, arrow_of(of)) {
        (DataType::Utf8, own) => own.unwrap_or(DataType::Utf8),
        (expected, Some(own)) if cuts(&own, expected) => own,
        (expected, _) => expected.clone(),
    }
}

/// Whether values lose a part when they are made of the other type, so that `age >= 1.5` would be `age >= 1`. They are compared as they are.
fn cuts(own: &DataType, expected: &DataType) -> bool {
    match own {
        DataType::Float32 | DataType::Float64 => expected.is_integer() || expected.is_decimal(),
        DataType::Timestamp(..) => matches!(expected, DataType::Date32 | DataType::Date64),
        _ => false,
    }
}

fn cast(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, wanted, &options).map_err(|error| error.to_string())
}

fn text(value: &Bytes, wanted: &DataType) -> Result<ArrayRef, String> {
    let text = std::str::from_utf8(value).map_err(|_| "the text is not UTF-8".to_owned())?;
    match wanted {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![bytea(text)?.as_slice()]));
            cast(&bytes, wanted)
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Err(no_lists()),
        _ => cast(&(Arc::new(StringArray::from(vec![text])) as ArrayRef), wanted),
    }
}

fn no_lists() -> String {
    "lists are not taken as parameters; write the list in the statement, a parameter for each item".to_owned()
}

/// `\x` and two hexadecimal digits a byte.
fn bytea(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || "bytes are written as \\x and two hexadecimal digits each".to_owned();
    let digits = text.strip_prefix("\\x").filter(|digits| digits.len() % 2 == 0).ok_or_else(wrong)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(wrong);
    digits.as_bytes().chunks(2).map(|pair| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

fn binary(value: Bytes, of: &Type, wanted: &DataType) -> Result<ArrayRef, String> {
    if let Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON = *of {
        return text(&value, wanted);
    }
    let sized = |size: usize| match value.len() == size {
        true => Ok(value.clone()),
        false => Err(format!("a value of type {of} has {size} bytes, and {} came", value.len())),
    };
    let array: ArrayRef = match *of {
        Type::BOOL => Arc::new(BooleanArray::from(vec![sized(1)?.get_u8() != 0])),
        Type::INT2 => Arc::new(Int16Array::from(vec![sized(2)?.get_i16()])),
        Type::INT4 => Arc::new(Int32Array::from(vec![sized(4)?.get_i32()])),
        Type::INT8 => Arc::new(Int64Array::from(vec![sized(8)?.get_i64()])),
        Type::OID => Arc::new(Int64Array::from(vec![i64::from(sized(4)?.get_u32())])),
        Type::FLOAT4 => Arc::new(Float32Array::from(vec![sized(4)?.get_f32()])),
        Type::FLOAT8 => Arc::new(Float64Array::from(vec![sized(8)?.get_f64()])),
        Type::NUMERIC => {
            let decimal = numeric::read(value).map_err(|error: FrameError| error.to_string())?;
            Arc::new(StringArray::from(vec![decimal]))
        }
        Type::BYTEA => Arc::new(BinaryArray::from(vec![&*value])),
        Type::DATE => {
            let days = sized(4)?.get_i32().checked_add(EPOCH_DAYS).ok_or("an infinite date is not taken")?;
            Arc::new(Date32Array::from(vec![days]))
        }
        Type::TIME => Arc::new(Time64MicrosecondArray::from(vec![sized(8)?.get_i64()])),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = sized(8)?.get_i64().checked_add(EPOCH_MICROS).ok_or("an infinite time is not taken")?;
            let array = TimestampMicrosecondArray::from(vec![micros]);
            match *of {
                Type::TIMESTAMP => Arc::new(array),
                _ => Arc::new(array.with_timezone("UTC")),
            }
        }
        _ if matches!(of.kind(), tokio_postgres::types::Kind::Array(_)) => return Err(no_lists()),
        _ => return Err(format!("a value of type {of} is not taken in binary; send it as text")),
    };
    cast(&array, wanted)
}

/// Settings of a connection, from the packet that begins it: names and values, up to an empty name.
///
/// # Errors
/// [`FrameError::Wrong`].
pub(super) fn startup(fields: &mut Fields) -> Result<Vec<(String, String)>, FrameError> {
    let mut settings = Vec::new();
    loop {
        let name = fields.text()?;
        if name.is_empty() {
            return Ok(settings);
        }
        settings.push((name, fields.text()?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &[u8], format: Format, said: u32, expected: DataType) -> Result<ArrayRef, Told> {
        let expected = Arc::new(Schema::new(vec![Field::new("$1", expected, true)]));
        let bind = Bind {
            portal: String::new(),
            statement: String::new(),
            formats: vec![format],
            values: vec![Some(Bytes::copy_from_slice(value))],
            answer_formats: Vec::new(),
        };
        let row = row(&bind, &types(&[said], &expected), &expected)?;
        Ok(row.expect("a row").column(0).clone())
    }

    #[test]
    fn values_are_of_what_they_are_compared_with() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        assert_eq!(&read(b"7", Format::Text, 0, DataType::Int64).expect("a number"), &number);
        assert_eq!(
            &read(&7i16.to_be_bytes(), Format::Binary, Type::INT2.oid(), DataType::Int64).expect("cast"),
            &number
        );
        // Nothing tells what is wanted but the client.
        assert_eq!(
            &read(&7i64.to_be_bytes(), Format::Binary, Type::INT8.oid(), DataType::Utf8).expect("as said"),
            &number
        );
        // What would be cut stays as it is.
        let part: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
        for expected in [DataType::Int64, DataType::UInt8, DataType::Decimal128(19, 0)] {
            let read =
                |value: &[u8], format| read(value, format, Type::FLOAT8.oid(), expected.clone()).expect("as said");
            assert_eq!(&read(&1.5f64.to_be_bytes(), Format::Binary), &part);
            assert_eq!(&read(b"1.5", Format::Text), &part);
        }
        let noon = read(&43_200_000_000i64.to_be_bytes(), Format::Binary, Type::TIMESTAMP.oid(), DataType::Date32);
        assert_eq!(noon.expect("as said").data_type(), &arrow_of(&Type::TIMESTAMP).expect("a type"));
        let decimal = read(b"12.5", Format::Text, 0, DataType::Decimal128(19, 2)).expect("a decimal");
        assert_eq!(decimal.data_type(), &DataType::Decimal128(19, 2));
        let zone = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some(Arc::from("UTC")));
        let moment = read(b"2000-01-01 00:00:00+00", Format::Text, 0, zone.clone()).expect("a time");
        assert_eq!(&read(&0i64.to_be_bytes(), Format::Binary, Type::TIMESTAMPTZ.oid(), zone).expect("a time"), &moment);
        for (value, format, of) in [
            (b"x".as_slice(), Format::Text, DataType::Int64),
            (b"1", Format::Binary, DataType::Int64),
            (b"\\x1", Format::Text, DataType::Binary),
            (b"\xff", Format::Text, DataType::Utf8),
        ] {
            assert_eq!(read(value, format, 0, of).expect_err("wrong").code, "22P02");
        }
    }

    proptest! {
        #[test]
        fn any_value_of_any_type_is_read_or_refused(
            value: Vec<u8>,
            is_binary: bool,
            said in prop::sample::select(vec![0, 16, 17, 20, 21, 23, 25, 700, 701, 1007, 1082, 1083, 1114, 1184, 1700, 2950]),
            expected in prop::sample::select(vec![
                DataType::Utf8, DataType::Int64, DataType::Boolean, DataType::Date32, DataType::Binary,
                DataType::Decimal128(19, 2), DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
            ]),
        ) {
            let format = if is_binary { Format::Binary } else { Format::Text };
            let _ = read(&value, format, said, expected);
        }
    }
}
