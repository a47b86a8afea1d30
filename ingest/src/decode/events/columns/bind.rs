//! Which Arrow type may fill which field.

use super::cells::{Kind, in_utc};
use crate::decode::events::column::Column;
use crate::decode::events::fields::{BindError, Places};
use arrow::array::new_empty_array;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::json::writer::{EncoderOptions, make_encoder};
use engine::catalog::ColumnType;
use std::sync::Arc;

/// What a field takes, and how a message says it.
struct Taken {
    field: String,
    kinds: &'static [Kind],
    said: &'static str,
}

const IDS: &[Kind] = &[Kind::Null, Kind::Text, Kind::Integer, Kind::Decimal { is_whole: true }];
const TIMES: &[Kind] = &[Kind::Null, Kind::Time, Kind::Text, Kind::Integer];
const BOOLEANS: &[Kind] = &[Kind::Null, Kind::Boolean];
const TEXT: &[Kind] = &[Kind::Null, Kind::Text];
const NUMBERS: &[Kind] = &[
    Kind::Null,
    Kind::Integer,
    Kind::Decimal { is_whole: true },
    Kind::Decimal { is_whole: false },
    Kind::Float,
    // Only the last is left out where text is no number.
    Kind::Text,
];

/// Refuses types that cannot fill their fields.
pub(super) fn check(places: &Places, columns: &[Column], schema: &Schema) -> Result<(), BindError> {
    let id = |name: &str| Taken { field: format!("`{name}`"), kinds: IDS, said: "text or integers" };
    check_field(schema.field(places.user_id), &id("user_id"))?;
    let ts = Taken { field: "`ts`".to_owned(), kinds: TIMES, said: SAID_TIMES };
    check_field(schema.field(places.ts), &ts)?;
    if let Some(place) = places.event_id {
        check_field(schema.field(place), &id("event_id"))?;
    }
    if let Some(place) = places.retract {
        let retract = Taken { field: "`retract`".to_owned(), kinds: BOOLEANS, said: "booleans" };
        check_field(schema.field(place), &retract)?;
    }
    for (column, place) in columns.iter().zip(&places.columns) {
        let Some(field) = place.map(|place| schema.field(place)) else { continue };
        match taken(column.column_type) {
            Some((kinds, said)) => check_field(field, &Taken { field: described(column), kinds, said })?,
            None if is_bytes(field.data_type()) => {
                let what = format!("its type is {}; {} takes text that is JSON", field.data_type(), described(column));
                return Err(BindError::new(field.name(), what, "cast it to text"));
            }
            None => check_json(field)?,
        }
    }
    places.undeclared.iter().try_for_each(|place| check_json(schema.field(*place)))
}

const SAID_TIMES: &str = "timestamps, dates, text as RFC 3339, or integers as milliseconds since 1970";

/// `None`: whatever becomes JSON.
fn taken(column_type: ColumnType) -> Option<(&'static [Kind], &'static str)> {
    let typed = &NUMBERS[..NUMBERS.len() - 1];
    Some(match column_type {
        ColumnType::String => (TEXT, "text"),
        ColumnType::Integer => (typed, "integers"),
        ColumnType::Decimal { .. } => (NUMBERS, "decimals, integers, text of a number, or floats of that many digits"),
        ColumnType::Float => (typed, "floats and other numbers"),
        ColumnType::Boolean => (BOOLEANS, "booleans"),
        ColumnType::Timestamp => (TIMES, SAID_TIMES),
        ColumnType::Json => return None,
    })
}

fn described(column: &Column) -> String {
    let column_type = column.column_type;
    let article = if column_type == ColumnType::Integer { "an" } else { "a" };
    format!("{article} {column_type}")
}

fn check_field(field: &Field, taken: &Taken) -> Result<(), BindError> {
    let data_type = field.data_type();
    if taken.kinds.contains(&Kind::of(data_type)) {
        return Ok(());
    }
    let what = format!("its type is {data_type}; {} takes {}", taken.field, taken.said);
    Err(BindError::new(field.name(), what, "cast it, map it to another field, or leave it out"))
}

/// Whether the type has a form in JSON; asked of the writer itself, on no rows.
fn check_json(field: &Field) -> Result<(), BindError> {
    let field: FieldRef = Arc::new(field.clone());
    let array = in_utc(&new_empty_array(field.data_type()));
    match make_encoder(&field, &array, &EncoderOptions::default()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let what = format!("its type is {}, which does not become JSON ({error})", field.data_type());
            Err(BindError::new(field.name(), what, "cast it to text, or leave it out"))
        }
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_bytes(values),
        other => other.is_binary() || matches!(other, DataType::FixedSizeBinary(_)),
    }
}

/// Refuses a batch of another schema than the one that was bound.
pub(super) fn check_same(bound: &Schema, found: &Schema) -> Result<(), BindError> {
    if std::ptr::eq(bound, found) {
        return Ok(());
    }
    let is_same =
        |(bound, found): (&Field, &Field)| bound.name() == found.name() && bound.data_type() == found.data_type();
    let (columns, others) = (bound.fields(), found.fields());
    for place in 0..columns.len().max(others.len()) {
        let other = match (columns.get(place), others.get(place)) {
            (Some(column), Some(other)) if is_same((column, other)) => continue,
            (column, other) => column.or(other).map_or("", |field| field.name()),
        };
        let what = "this batch has other columns than the one before";
        return Err(BindError::new(other, what, "send batches of one schema, or begin anew"));
    }
    Ok(())
}
