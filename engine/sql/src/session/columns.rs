//! The columns of `users` in Arrow: their types, and rows of the engine as batches.

use super::facts::PLACES;
use super::filter::timestamp;
use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions,
    StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use engine::audience::ops::{ColumnOf, ColumnValues, Rows};
use engine::catalog::{Catalog, TagType, Unit};
use std::sync::Arc;

/// The column of the ids.
pub(super) const USER_ID: &str = "user_id";
/// Digits of a 64-bit number.
pub(super) const DIGITS: u8 = 19;

/// A column of `users`.
#[derive(Clone, Debug)]
pub(super) struct UserColumn {
    /// What the engine is asked for.
    pub(super) of: ColumnOf,
    /// What it is shown as.
    pub(super) field: FieldRef,
}

/// The columns of `users`: the id, and every tag by name.
pub(super) fn user_columns(catalog: &Catalog) -> Vec<UserColumn> {
    let id = UserColumn { of: ColumnOf::UserId, field: Arc::new(Field::new(USER_ID, DataType::Utf8, false)) };
    let tags = catalog.tags().map(|(name, tag)| {
        // A set is never NULL, only empty, and a flag never unknown.
        let is_nullable = matches!(tag.tag_type, TagType::Enum | TagType::Number(_));
        let field = Field::new(name, data_type(tag.tag_type), is_nullable);
        UserColumn { of: ColumnOf::Tag(tag.id), field: Arc::new(field) }
    });
    std::iter::once(id).chain(tags).collect()
}

/// Where users are, as the columns that [`facts`](super::facts::PLACES) have of it: to join by.
pub(super) fn place_columns() -> Vec<UserColumn> {
    let [shard, slot] = PLACES;
    let column = |of, name, data_type| UserColumn { of, field: Arc::new(Field::new(name, data_type, false)) };
    vec![column(ColumnOf::Shard, shard, DataType::Int32), column(ColumnOf::Slot, slot, DataType::Int64)]
}

/// The schema of these columns.
pub(super) fn schema_of(columns: &[UserColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| Arc::clone(&column.field)).collect::<Vec<_>>()))
}

/// The type of a tag's column.
pub(super) fn data_type(tag_type: TagType) -> DataType {
    match tag_type {
        TagType::Set => DataType::List(item()),
        TagType::Enum => DataType::Utf8,
        TagType::Flag => DataType::Boolean,
        TagType::Number(Unit::Integer) => DataType::Int64,
        TagType::Number(Unit::Decimal { scale }) => DataType::Decimal128(DIGITS, scale.cast_signed()),
        TagType::Number(Unit::Timestamp) => timestamp(),
    }
}

/// Nullable, as DataFusion makes lists itself, though no value of a set is NULL.
fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Utf8, true))
}

/// Rows as a batch of this schema, which has their columns.
///
/// # Errors
/// Arrow's, if a chunk has more text than an array of it can have.
pub(super) fn batch(schema: &SchemaRef, rows: Rows<'_>) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len));
    let arrays = rows.columns.into_iter().zip(schema.fields()).map(|(values, field)| array(values, field));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays.collect::<Result<_, _>>()?, &options)
}

fn array(values: ColumnValues<'_>, field: &Field) -> Result<ArrayRef, ArrowError> {
    Ok(match values {
        ColumnValues::UserId { text, ends } => {
            let offsets = OffsetBuffer::new(offsets(&ends)?.into());
            Arc::new(StringArray::try_new(offsets, text.into(), None)?)
        }
        ColumnValues::Set { of, ends, values } => {
            let offsets = OffsetBuffer::new(offsets(&ends)?.into());
            let items = texts(of.into_iter().map(Some), values)?;
            Arc::new(ListArray::try_new(item(), offsets, items, None)?)
        }
        ColumnValues::Enum { of, values } => texts(of.into_iter(), values)?,
        ColumnValues::Flag(flags) => Arc::new(BooleanArray::from(flags)),
        ColumnValues::Number(numbers) => match field.data_type() {
            DataType::Decimal128(precision, scale) => {
                let numbers = numbers.into_iter().map(|number| number.map(i128::from));
                Arc::new(numbers.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Int32 => {
                let numbers = numbers.into_iter().map(|number| number.and_then(|number| i32::try_from(number).ok()));
                Arc::new(numbers.collect::<Int32Array>())
            }
            DataType::Timestamp(..) => {
                Arc::new(numbers.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            _ => Arc::new(numbers.into_iter().collect::<Int64Array>()),
        },
    })
}

fn offsets(ends: &[usize]) -> Result<Vec<i32>, ArrowError> {
    let too_long = |_| ArrowError::OffsetOverflowError(ends.last().copied().unwrap_or_default());
    std::iter::once(Ok(0)).chain(ends.iter().map(|end| i32::try_from(*end).map_err(too_long))).collect()
}

fn texts(of: impl Iterator<Item = Option<u32>>, values: &[&[u8]]) -> Result<ArrayRef, ArrowError> {
    // A value came in as text; bytes that are not would be damage the checksums have missed.
    let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
    let mut builder = StringBuilder::new();
    let mut bytes = 0usize;
    for place in of {
        let value = place.map(|place| &*values[place as usize]);
        bytes += value.map_or(0, str::len);
        if i32::try_from(bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        builder.append_option(value);
    }
    Ok(Arc::new(builder.finish()))
}
