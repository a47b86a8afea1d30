//! Arrow columns into tags: the types of a column are looked at once a batch, its cells are read in place.

use super::{Bound, NullMeaning, Plan};
use crate::decode::number::{rescale, time_micros};
use crate::decode::own_items::own_items;
use crate::decode::tags::check_user_id;
use crate::decode::value::{NumberError, check_time};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use engine::catalog::{TagType, Unit};
use engine::update::{Change, UpdateBatch};
use std::sync::Arc;

/// Appends the rows of an Arrow batch. A refused row leaves nothing there; `refuse` is called with its index and why.
///
/// # Errors
/// Columns that cannot fill their tags; then no row was read.
pub(crate) fn push_columns(
    plan: &Plan,
    columns: &RecordBatch,
    batch: &mut UpdateBatch,
    refuse: &mut dyn FnMut(usize, String),
) -> Result<(), String> {
    let column = |name: &str| columns.column_by_name(name).ok_or_else(|| format!("column `{name}` is gone"));
    let ids = id_texts(column(&plan.user_id)?).map_err(|what| format!("column `{}`: {what}", plan.user_id))?;
    let mut cells = Vec::with_capacity(plan.bounds.len());
    for bound in &plan.bounds {
        cells.push((bound, column_for(bound, column(&bound.column)?).map_err(|what| bound.error(what))?));
    }
    let mut scratch = String::new();
    for row in 0..columns.num_rows() {
        let mark = batch.mark();
        if let Err(error) = push_row(plan, &ids, &cells, row, &mut scratch, batch) {
            batch.truncate(mark);
            refuse(row, error);
        }
    }
    Ok(())
}

fn push_row(
    plan: &Plan,
    ids: &Cells,
    cells: &[(&Bound, Cells)],
    row: usize,
    scratch: &mut String,
    batch: &mut UpdateBatch,
) -> Result<(), String> {
    let id = ids.text(row, scratch).ok_or_else(|| "the user id is NULL".to_owned())?;
    check_user_id(id.as_bytes()).map_err(|error| error.to_string())?;
    batch.begin_user(id.as_bytes());
    cells.iter().try_for_each(|(bound, cells)| cells.push(row, bound, plan.nulls, scratch, batch))
}

/// A column, brought to one of few forms.
pub(crate) enum Cells {
    Null,
    Text(StringArray),
    /// Numbers as text, for tags of numbers alone: as text, 123 would be `123.0`.
    Float(StringArray),
    Integer(Int64Array),
    /// With its scale.
    Decimal(Decimal128Array, i8),
    Flag(BooleanArray),
    /// Raw numbers, and how many of them make a second.
    Time(Int64Array, i64),
    List(ListArray, Box<Cells>),
}

/// A column of user ids, whose cells are asked as text.
pub(crate) fn id_texts(array: &ArrayRef) -> Result<Cells, String> {
    match cells(array)? {
        found @ (Cells::Text(_) | Cells::Integer(_) | Cells::Decimal(_, 0)) => Ok(found),
        _ => Err(format!("a user id is text or an integer, not {}", array.data_type())),
    }
}

/// The column, if its type fits the tag's.
fn column_for(bound: &Bound, array: &ArrayRef) -> Result<Cells, String> {
    let found = cells(array)?;
    let fits = match (&found, bound.tag_type) {
        (Cells::Null, _) => true,
        (Cells::Text(_), _) => true,
        (Cells::Float(_), tag_type) => matches!(tag_type, TagType::Number(_)),
        (Cells::Integer(_), _) => true,
        (Cells::Decimal(_, scale), tag_type) => matches!(tag_type, TagType::Number(_)) || *scale == 0,
        (Cells::Flag(_), tag_type) => tag_type == TagType::Flag,
        (Cells::Time(..), tag_type) => tag_type == TagType::Number(Unit::Timestamp),
        (Cells::List(_, items), tag_type) => {
            tag_type == TagType::Set && matches!(**items, Cells::Null | Cells::Text(_) | Cells::Integer(_))
        }
    };
    if fits {
        Ok(found)
    } else {
        Err(format!("a column of {} cannot fill a {} tag", array.data_type(), bound.tag_type))
    }
}

fn cells(array: &ArrayRef) -> Result<Cells, String> {
    let to = |target: &DataType| cast(array, target).map_err(|error| error.to_string());
    Ok(match array.data_type() {
        DataType::Null => Cells::Null,
        DataType::Utf8 => Cells::Text(array.as_string::<i32>().clone()),
        DataType::LargeUtf8 | DataType::Utf8View => Cells::Text(to(&DataType::Utf8)?.as_string::<i32>().clone()),
        // The shortest decimal that reads back as the same float is what was meant by it.
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            Cells::Float(to(&DataType::Utf8)?.as_string::<i32>().clone())
        }
        DataType::Dictionary(_, values) => return cells(&to(values)?),
        DataType::Int64 => Cells::Integer(array.as_primitive().clone()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            Cells::Integer(to(&DataType::Int64)?.as_primitive().clone())
        }
        DataType::UInt64 => Cells::Decimal(to(&DataType::Decimal128(20, 0))?.as_primitive().clone(), 0),
        DataType::Decimal128(_, scale) => Cells::Decimal(array.as_primitive().clone(), *scale),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
            Cells::Decimal(to(&DataType::Decimal128(38, *scale))?.as_primitive().clone(), *scale)
        }
        DataType::Boolean => Cells::Flag(array.as_boolean().clone()),
        DataType::Date32 => Cells::Time(to(&DataType::Timestamp(TimeUnit::Second, None))?.clone_raw(), 1),
        DataType::Date64 => Cells::Time(to(&DataType::Int64)?.as_primitive().clone(), 1_000),
        DataType::Timestamp(unit, _) => Cells::Time(array.clone_raw(), per_second(*unit)),
        DataType::List(_) => {
            let list = own_items(array.as_list::<i32>());
            let items = Box::new(cells(list.values())?);
            Cells::List(list, items)
        }
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => {
            let list = DataType::List(Arc::new(Field::new("item", item.data_type().clone(), true)));
            return match array.as_list_opt::<i64>() {
                Some(large) => cells(&cast(&own_items(large), &list).map_err(|error| error.to_string())?),
                None => cells(&to(&list)?),
            };
        }
        other => {
            return Err(format!(
                "columns of {other} are not read; cast it to text, a number, a time or a list of text"
            ));
        }
    })
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The 64-bit numbers behind a time column.
trait RawNumbers {
    fn clone_raw(&self) -> Int64Array;
}

impl RawNumbers for ArrayRef {
    fn clone_raw(&self) -> Int64Array {
        Int64Array::from(
            self.to_data().into_builder().data_type(DataType::Int64).build().expect("times are 64-bit numbers"),
        )
    }
}

impl Cells {
    /// A cell as text, for user ids and values of enums and sets; `None` if it is NULL.
    pub(crate) fn text<'a>(&'a self, row: usize, scratch: &'a mut String) -> Option<&'a str> {
        use std::fmt::Write;
        const NO_FAILURE: &str = "writing to a string does not fail";
        match self {
            Cells::Text(array) => array.is_valid(row).then(|| array.value(row)),
            Cells::Integer(array) => array.is_valid(row).then(|| {
                scratch.clear();
                write!(scratch, "{}", array.value(row)).expect(NO_FAILURE);
                scratch.as_str()
            }),
            Cells::Decimal(array, _) => array.is_valid(row).then(|| {
                scratch.clear();
                write!(scratch, "{}", array.value(row)).expect(NO_FAILURE);
                scratch.as_str()
            }),
            Cells::Null | Cells::Float(_) | Cells::Flag(_) | Cells::Time(..) | Cells::List(..) => None,
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Cells::Null => true,
            Cells::Text(array) | Cells::Float(array) => array.is_null(row),
            Cells::Integer(array) | Cells::Time(array, _) => array.is_null(row),
            Cells::Decimal(array, _) => array.is_null(row),
            Cells::Flag(array) => array.is_null(row),
            Cells::List(array, _) => array.is_null(row),
        }
    }

    /// Pushes a cell into its tag.
    fn push(
        &self,
        row: usize,
        bound: &Bound,
        nulls: NullMeaning,
        scratch: &mut String,
        batch: &mut UpdateBatch,
    ) -> Result<(), String> {
        if self.is_null(row) {
            bound.push_null(nulls, batch);
            return Ok(());
        }
        match (self, bound.tag_type) {
            (Cells::Text(array) | Cells::Float(array), _) => return bound.push_text(array.value(row), batch),
            (Cells::List(list, items), _) => {
                bound.begin_set(batch);
                let offsets = list.value_offsets();
                for item in offsets[row] as usize..offsets[row + 1] as usize {
                    if let Some(value) = items.text(item, scratch) {
                        bound.push_value(value, batch)?;
                    }
                }
            }
            (Cells::Flag(array), _) => batch.push(bound.tag, Change::Flag(array.value(row))),
            (_, TagType::Number(unit)) => {
                let number = self
                    .number(row, unit)
                    .map_err(|error| bound.error(format!("the value {error}; {}", error.suggestion())))?;
                batch.push(bound.tag, Change::Number(number));
            }
            (_, TagType::Enum) => bound.push_value(self.text(row, scratch).unwrap_or_default(), batch)?,
            (_, TagType::Set | TagType::Flag) => {
                return bound.push_text(self.text(row, scratch).unwrap_or_default(), batch);
            }
        }
        Ok(())
    }

    /// A numeric cell in the tag's unit, exactly.
    fn number(&self, row: usize, unit: Unit) -> Result<i64, NumberError> {
        let (value, scale) = match self {
            Cells::Integer(array) => (i128::from(array.value(row)), 0),
            Cells::Decimal(array, scale) => (array.value(row), *scale),
            Cells::Time(array, per_second) => return time_micros(array.value(row), *per_second),
            Cells::Null | Cells::Text(_) | Cells::Float(_) | Cells::Flag(_) | Cells::List(..) => {
                return Err(NumberError::NotANumber);
            }
        };
        match unit {
            Unit::Integer => rescale(value, scale, 0),
            Unit::Decimal { scale: wanted } => rescale(value, scale, wanted),
            // Milliseconds, as everywhere.
            Unit::Timestamp => rescale(value, scale, 3).and_then(check_time),
        }
    }
}
