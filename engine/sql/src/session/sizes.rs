//! How large a value is: what functions would join, and not how it lies in memory.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;

/// Whether the values of an array have at most so many bytes together.
///
/// Views count with what they show, and of lists, structs and dictionaries only what these values refer to. It ends with the first
/// value that is too much.
pub(super) fn fits(array: &dyn Array, bytes_max: usize) -> Result<bool> {
    let mut left = bytes_max;
    takes(array, &mut left)
}

/// Takes the bytes of an array's values, unless they are more than are left.
fn takes(array: &dyn Array, left: &mut usize) -> Result<bool> {
    let valid = (0..array.len()).filter(|index| array.is_valid(*index));
    let mut fits = |bytes: usize| match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    };
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().flatten().all(|text| fits(text.len())),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().flatten().all(|text| fits(text.len())),
        DataType::Utf8View => array.as_string_view().iter().flatten().all(|text| fits(text.len())),
        DataType::Binary => array.as_binary::<i32>().iter().flatten().all(|bytes| fits(bytes.len())),
        DataType::LargeBinary => array.as_binary::<i64>().iter().flatten().all(|bytes| fits(bytes.len())),
        DataType::BinaryView => array.as_binary_view().iter().flatten().all(|bytes| fits(bytes.len())),
        DataType::List(_) => each(valid, |index| array.as_list::<i32>().value(index), left)?,
        DataType::LargeList(_) => each(valid, |index| array.as_list::<i64>().value(index), left)?,
        DataType::ListView(_) => each(valid, |index| array.as_list_view::<i32>().value(index), left)?,
        DataType::LargeListView(_) => each(valid, |index| array.as_list_view::<i64>().value(index), left)?,
        DataType::FixedSizeList(..) => each(valid, |index| array.as_fixed_size_list().value(index), left)?,
        DataType::Map(..) => each(valid, |index| std::sync::Arc::new(array.as_map().value(index)) as ArrayRef, left)?,
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                if !takes(column, left)? {
                    return Ok(false);
                }
            }
            true
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) | DataType::Union(..) => {
            for index in 0..array.len() {
                let value = match ScalarValue::try_from_array(array, index)? {
                    ScalarValue::Dictionary(_, value)
                    | ScalarValue::RunEndEncoded(_, _, value)
                    | ScalarValue::Union(Some((_, value)), ..) => *value,
                    _ => ScalarValue::Null,
                };
                if !takes(&value.to_array()?, left)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => fits(array.to_data().get_slice_memory_size()?),
    })
}

/// Each element counts itself too, so that lists of nothing come to an end.
fn each(valid: impl Iterator<Item = usize>, list: impl Fn(usize) -> ArrayRef, left: &mut usize) -> Result<bool> {
    for index in valid {
        let list = list(index);
        let Some(rest) = left.checked_sub(list.len()) else { return Ok(false) };
        *left = rest;
        if !takes(&list, left)? {
            return Ok(false);
        }
    }
    Ok(true)
}
