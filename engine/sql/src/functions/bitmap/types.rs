//! Arrow types of bitmaps, and what functions take.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use std::collections::HashMap;
use std::sync::Arc;

/// The extension type of a bitmap: `Binary` in the portable Roaring format, of 32 bits if they are enough, else of 64.
pub(crate) const BITMAP: &str = "beluga.bitmap";
/// The extension type of numbers by key in bit slices.
pub(crate) const SLICED: &str = "beluga.bsi";
/// The key of a field's metadata under which Arrow has the name of an extension type.
const EXTENSION: &str = "ARROW:extension:name";

/// A field of an extension type.
pub(crate) fn extension_field(name: &str, extension: &str, is_nullable: bool) -> Field {
    let metadata = HashMap::from([(EXTENSION.to_owned(), extension.to_owned())]);
    Field::new(name, DataType::Binary, is_nullable).with_metadata(metadata)
}

/// A field of `Binary` that says to be something else than `wanted`, by what it says to be.
pub(super) fn other_extension<'f>(field: &'f Field, wanted: &str) -> Option<&'f str> {
    let name = field.metadata().get(EXTENSION)?;
    (name != wanted && [BITMAP, SLICED].contains(&name.as_str())).then_some(name.as_str())
}

/// A list of these, as DataFusion makes lists.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// The fields of a pair of a list of keys and numbers.
pub(super) fn pair_fields() -> Vec<FieldRef> {
    [("key", DataType::UInt64), ("value", DataType::Int64)]
        .map(|(name, kind)| Arc::new(Field::new(name, kind, false)))
        .into()
}

/// What an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A bitmap.
    Bitmap,
    /// Numbers in bit slices.
    Sliced,
    /// What a bitmap may hold: an integer from 0 on, or a user's id.
    Member,
    /// A member, or a bitmap of several.
    MemberOrBitmap,
    /// A list of members.
    Members,
    /// A list of members, or a text of numbers.
    MembersOrText,
    /// An integer.
    Integer,
    /// An integer, or a bitmap.
    IntegerOrBitmap,
    /// A list of integers.
    Integers,
    /// Text.
    Text,
    /// Bytes of any meaning.
    Bytes,
    /// `true` or `false`.
    Flag,
    /// Text, or what is written as text.
    Plain,
}

impl Takes {
    /// The type to which an argument of this type is brought.
    ///
    /// # Errors
    /// If it is something else; tells what is taken.
    pub(super) fn coerced(self, given: &DataType, function: &str, place: usize) -> Result<DataType> {
        let is_text = is_text(given);
        let found = match self {
            Takes::Bitmap | Takes::Sliced | Takes::Bytes => is_bytes(given).then_some(DataType::Binary),
            Takes::Member => member(given),
            Takes::MemberOrBitmap | Takes::IntegerOrBitmap if is_bytes(given) && !given.is_null() => {
                Some(DataType::Binary)
            }
            Takes::MemberOrBitmap => member(given),
            Takes::MembersOrText if is_text => Some(DataType::Utf8),
            Takes::Members | Takes::MembersOrText => item(given).and_then(member).map(list_of),
            Takes::Integer | Takes::IntegerOrBitmap => integer(given),
            Takes::Integers => item(given).and_then(integer).map(list_of),
            Takes::Text => (is_text || given.is_null()).then_some(DataType::Utf8),
            Takes::Flag => matches!(given, DataType::Boolean | DataType::Null).then_some(DataType::Boolean),
            Takes::Plain => {
                let is_plain = given.is_integer() || given.is_temporal() || matches!(given, DataType::Boolean);
                (is_text || is_plain || given.is_null()).then_some(DataType::Utf8)
            }
        };
        match found {
            Some(found) => Ok(found),
            None => plan_err!("`{function}` takes {} as argument {place}, not {given}", self.told()),
        }
    }

    /// For people, with how to get one.
    fn told(self) -> &'static str {
        match self {
            Takes::Bitmap => "a bitmap (as bitmap_agg, bitmap_from_array and bitmap_from_string make them)",
            Takes::Sliced => "numbers in bit slices (as bsi_build and bsi_agg make them)",
            Takes::Member => "an integer or the text of a user id",
            Takes::MemberOrBitmap => "an integer, the text of a user id, or a bitmap",
            Takes::Members => "a list of integers or of user ids, such as [1, 2]",
            Takes::MembersOrText => "a list such as [1, 2], or text such as '{1,2}'",
            Takes::Integer => "an integer",
            Takes::IntegerOrBitmap => "an integer or a bitmap",
            Takes::Integers => "a list of integers, such as [1, 2]",
            Takes::Text => "text",
            Takes::Bytes => "bytes",
            Takes::Flag => "true or false",
            Takes::Plain => "text, an integer, a date or a flag",
        }
    }
}

fn is_text(given: &DataType) -> bool {
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

fn is_bytes(given: &DataType) -> bool {
    let is_of_bytes = |kind: &DataType| {
        matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
    };
    match given {
        DataType::Null => true,
        DataType::Dictionary(_, value) => is_of_bytes(value),
        other => is_of_bytes(other),
    }
}

/// Never a float or a decimal: their digits could be more than a bitmap tells apart.
fn integer(given: &DataType) -> Option<DataType> {
    match given {
        DataType::UInt64 => Some(DataType::UInt64),
        DataType::Null => Some(DataType::Int64),
        given if given.is_integer() => Some(DataType::Int64),
        _ => None,
    }
}

fn member(given: &DataType) -> Option<DataType> {
    if is_text(given) { Some(DataType::Utf8) } else { integer(given) }
}

fn item(given: &DataType) -> Option<&DataType> {
    match given {
        DataType::Null => Some(given),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}
