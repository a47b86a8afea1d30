//! Types of answers: an estimate and its bounds, both included.

use arrow::array::{ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use std::sync::Arc;

/// The fields of an answer about values of this type.
fn fields(kind: &DataType) -> Fields {
    ["estimate", "lower", "upper"].map(|name| Field::new(name, kind.clone(), true)).into_iter().collect()
}

/// An estimate.
pub(super) fn of(kind: &DataType) -> DataType {
    DataType::Struct(fields(kind))
}

/// What a list has of a value: the value itself, and how often it is there.
pub(super) fn item_fields(kind: &DataType) -> Fields {
    let counted = fields(&DataType::Int64);
    [Arc::new(Field::new("value", kind.clone(), true))].into_iter().chain(counted.iter().cloned()).collect()
}

/// A list of values with estimates of how often they are there.
pub(super) fn list_of(kind: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(item_fields(kind)), true)))
}

/// Answers of groups.
///
/// # Errors
/// If the columns are of different lengths.
pub(super) fn answers([estimate, lower, upper]: [ArrayRef; 3], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let fields = fields(estimate.data_type());
    Ok(Arc::new(StructArray::try_new(fields, vec![estimate, lower, upper], nulls)?))
}
