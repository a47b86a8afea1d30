//! Rows of Arrow to vectors: `user_id`, and `vector`, a list of floats or integers of any width. NULL takes the vector away.

use super::{VectorFields, push_null, unknown_field, value_error};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::own_items::own_items;
use crate::decode::tag_columns::id_texts;
use crate::decode::tags::check_user_id;
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, ListArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use engine::audience::suggest::closest;
use engine::catalog::Space;
use engine::update::UpdateBatch;
use std::sync::Arc;

/// Whether columns can be vectors of a space; answers those that are passed over.
///
/// # Errors
/// For people: which column does not fit.
pub(crate) fn check_columns(space: &Space, fields: &VectorFields, schema: &Schema) -> Result<Vec<String>, String> {
    let VectorFields { user_id, vector, is_lenient, .. } = fields;
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut others = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if name == user_id || name == vector {
            if names[..index].contains(name) {
                return Err(format!("column `{name}` is there twice"));
            }
        } else if *is_lenient {
            others.push((*name).to_owned());
        } else {
            return Err(unknown_field(name).to_string());
        }
    }
    if let Some(missing) = [user_id, vector].into_iter().find(|field| !names.contains(&field.as_str())) {
        let near = closest(missing, others.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(format!("there is no column `{missing}`{near}; a row has `{user_id}` and `{vector}`"));
    }
    let found = schema.field_with_name(vector).map_err(|error| error.to_string())?.data_type();
    match found {
        DataType::FixedSizeList(_, len) if i32::from(space.dimension) != *len => {
            Err(format!("column `{vector}`: a vector of this space has {} numbers, these have {len}", space.dimension))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
            if item.data_type().is_numeric() =>
        {
            Ok(others)
        }
        other => Err(format!("column `{vector}`: a list of floats is expected, not {other}")),
    }
}

/// Appends the rows of a batch. A refused row leaves nothing there; `refuse` is called with its index and why.
///
/// # Errors
/// As [`check_columns`]; then no row was read.
pub(crate) fn push_vectors(
    space: &Space,
    fields: &VectorFields,
    rows: &RecordBatch,
    batch: &mut UpdateBatch,
    refuse: &mut dyn FnMut(usize, LineError),
) -> Result<(), String> {
    check_columns(space, fields, rows.schema_ref())?;
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| format!("column `{name}` is gone"));
    let ids = id_texts(column(&fields.user_id)?).map_err(|what| format!("column `{}`: {what}", fields.user_id))?;
    let vectors = lists(column(&fields.vector)?).map_err(|what| format!("column `{}`: {what}", fields.vector))?;
    let mut scratch = String::new();
    for row in 0..rows.num_rows() {
        let id = ids.text(row, &mut scratch);
        let id = id.ok_or_else(|| LineError::new(LineErrorKind::UserId, "the user id is NULL"));
        let pushed = id.and_then(|id| {
            check_user_id(id.as_bytes())?;
            let numbers = numbers(space, &fields.vector, &vectors, row)?;
            batch.begin_user(id.as_bytes());
            match numbers {
                Some(numbers) => batch.push_vector(space.id, numbers),
                None => push_null(space, fields, batch),
            }
            Ok(())
        });
        if let Err(error) = pushed {
            refuse(row, error);
        }
    }
    Ok(())
}

/// The vector of a row; `None` for NULL.
fn numbers<'v>(space: &Space, field: &str, vectors: &'v ListArray, row: usize) -> Result<Option<&'v [f32]>, LineError> {
    if vectors.is_null(row) {
        return Ok(None);
    }
    let items: &Float32Array = vectors.values().as_primitive::<Float32Type>();
    let range = vectors.value_offsets()[row] as usize..vectors.value_offsets()[row + 1] as usize;
    if let Some(at) = range.clone().find(|at| items.is_null(*at)) {
        let message = format!("`{field}`: number {} is NULL", at - range.start + 1);
        return Err(LineError::new(LineErrorKind::Value, message));
    }
    let numbers = &items.values()[range];
    space.check(numbers).map_err(|error| value_error(field, &error))?;
    Ok(Some(numbers))
}

/// Lists of any kind as lists of 32-bit floats.
fn lists(array: &ArrayRef) -> Result<ListArray, String> {
    let wanted = DataType::List(Arc::new(Field::new("item", DataType::Float32, true)));
    let cast = |array: &dyn Array| cast(array, &wanted).map_err(|error| error.to_string());
    let list = match (array.as_list_opt::<i32>(), array.as_list_opt::<i64>()) {
        (Some(list), _) => cast(&own_items(list))?,
        (_, Some(large)) => cast(&own_items(large))?,
        _ => cast(array)?,
    };
    Ok(list.as_list::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::vectors::tests::told;
    use arrow::array::{FixedSizeListArray, Float64Array, Int64Array, StringArray};
    use engine::catalog::Metric;
    use engine::ids::TagId;

    fn space() -> Space {
        Space { id: TagId(16), dimension: 2, metric: Metric::Cosine }
    }

    fn rows(ids: ArrayRef, vectors: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("user_id", ids), ("vector", vectors)]).expect("columns")
    }

    fn push(rows: &RecordBatch) -> Result<(String, Vec<String>), String> {
        let (mut batch, mut refused) = (UpdateBatch::new(), Vec::new());
        push_vectors(&space(), &VectorFields::default(), rows, &mut batch, &mut |row, error| {
            refused.push(format!("{row}: {error}"))
        })?;
        Ok((told(&batch), refused))
    }

    #[test]
    fn lists_of_any_kind_are_vectors() {
        let values = [Some(vec![Some(1.0), Some(-2.5)]), None, Some(vec![Some(0.0), Some(4.0)])];
        let list = ListArray::from_iter_primitive::<Float32Type, _, _>(values.clone());
        let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(values, 2);
        let item = |item: DataType| Arc::new(Field::new("x", item, true));
        let large = cast(&list, &DataType::LargeList(item(DataType::Float64))).expect("wider");
        let whole = cast(&list, &DataType::List(item(DataType::Int64))).expect("narrower");
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let expected = "a [1.0, -2.5];b none;c [0.0, 4.0];";
        for vectors in [Arc::new(list.clone()) as ArrayRef, Arc::new(fixed.clone()), large] {
            let all = rows(Arc::clone(&ids), vectors);
            assert_eq!(push(&all), Ok((expected.to_owned(), vec![])));
            assert_eq!(push(&all.slice(1, 2)), Ok(("b none;c [0.0, 4.0];".to_owned(), vec![])));
        }
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
        assert_eq!(push(&rows(numbers, whole)).expect("good").0, "7 [1.0, -2.0];8 none;9 [0.0, 4.0];");
    }

    #[test]
    fn rows_are_refused_one_by_one() {
        let vectors = ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some(vec![Some(1.0)]),
            Some(vec![Some(1.0), None]),
            Some(vec![Some(0.0), Some(0.0)]),
            Some(vec![Some(f32::NAN), Some(1.0)]),
            Some(vec![Some(1.0), Some(1.0)]),
            Some(vec![Some(3.0), Some(1.0)]),
        ]);
        let ids = StringArray::from(vec![Some("a"), Some("b"), Some("c"), Some("d"), None, Some("f")]);
        let (taken, refused) = push(&rows(Arc::new(ids), Arc::new(vectors))).expect("columns");
        assert_eq!(taken, "f [3.0, 1.0];");
        let parts = [
            "0: `vector`: a vector of this space has 2",
            "1: `vector`: number 2 is NULL",
            "2: `vector`: the vector has no",
            "3: `vector`: number 1 of",
            "4: the user id is NULL",
        ];
        assert_eq!(refused.len(), parts.len());
        assert!(refused.iter().zip(parts).all(|(found, part)| found.starts_with(part)), "{refused:?}");
    }

    #[test]
    fn columns_that_are_no_vectors_are_refused() {
        let ids = || Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
        let list = |len: usize| {
            let values = [Some((0..len).map(|number| Some(number as f32)).collect::<Vec<_>>())];
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(values, len as i32)) as ArrayRef
        };
        let refused = |columns: Vec<(&str, ArrayRef)>, part: &str| {
            let error = push(&RecordBatch::try_from_iter(columns).expect("columns")).expect_err(part);
            assert!(error.contains(part), "{error}");
        };
        refused(vec![("user_id", ids()), ("vector", list(3))], "has 2 numbers, these have 3");
        refused(vec![("user_id", ids()), ("vector", Arc::new(Float64Array::from(vec![1.0])))], "a list of floats");
        refused(vec![("user_id", ids()), ("vectors", list(2))], "did you mean `vector`?");
        refused(vec![("vector", list(2))], "there is no column `user_id`");
    }
}
