//! Rows of Arrow batches to events.
//!
//! What a row means is what the line of JSON means that has the same values under the same names (see the parent module);
//! NULL is as good as no key. Columns are matched by name, or as a [`FieldNames`] says:
//!
//! | field | Arrow |
//! |---|---|
//! | `user_id`, `event_id` | text; integers, also as decimals without a fraction |
//! | `ts`, timestamp | timestamps (without a zone they are UTC), dates; text as RFC 3339; integers: milliseconds since 1970 |
//! | `retract`, boolean | booleans |
//! | string | text |
//! | integer, decimal | integers, decimals, floats: exactly, or the row is refused; a decimal also as text |
//! | float | floats, integers, decimals |
//! | json | text that is JSON; other types become JSON |
//!
//! Text may be utf8, large utf8 or utf8 view; any type may be dictionary-encoded. A float stands for the shortest decimal that
//! reads back as the same float. Columns that the fact does not declare become one JSON object: numbers, booleans and text as
//! they are, times as RFC 3339, lists, structs and maps as JSON, bytes in hexadecimal digits. In it NaN and the infinities
//! are null, since JSON has no word for them.
//!
//! All of a row is taken or nothing. Types are looked at once a schema, arrays once a batch; nothing is allocated for a row.
//!
//! * `bind`: which type may fill which field. `cells`: the values of an array. `rows`: one row to one event.

mod bind;
mod cells;
mod rows;

#[cfg(test)]
mod tests;

use super::column::Column;
use super::fields::{BindError, FieldNames, Fields, Places};
use super::time::Times;
use super::undeclared::Members;
use super::{LineError, columns_of};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::EncoderOptions;
use engine::catalog::Fact;
use engine::ids::TagId;
use engine::update::UpdateBatch;
use rows::{Buffers, Rows};

/// Decodes Arrow batches of one schema into events of one fact.
#[derive(Debug)]
pub struct ColumnDecoder {
    fact: TagId,
    schema: SchemaRef,
    places: Places,
    columns: Vec<Column>,
    times: Times,
    buffers: Buffers,
    latest: Option<i64>,
}

impl ColumnDecoder {
    /// A decoder of batches with this schema, for a fact as it is declared now; `now` (microseconds since 1970) tells
    /// which times cannot be.
    ///
    /// # Errors
    /// [`BindError`] if the columns cannot be events of the fact.
    pub fn bind(fact: &Fact, now: i64, mapping: &FieldNames, schema: &SchemaRef) -> Result<Self, BindError> {
        let fields = Fields::mapped(fact, mapping)?;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let places = Places::of(&fields, mapping, &names)?;
        let columns = columns_of(fact, &fields);
        bind::check(&places, &columns, schema)?;
        let undeclared = Members::new(places.undeclared.iter().map(|place| names[*place]));
        Ok(ColumnDecoder {
            fact: fact.id,
            schema: schema.clone(),
            places,
            columns,
            times: Times::of(fact, now),
            buffers: Buffers::new(undeclared),
            latest: None,
        })
    }

    /// The columns that the fact does not declare.
    pub fn undeclared(&self) -> impl Iterator<Item = &str> {
        self.places.undeclared.iter().map(|place| self.schema.field(*place).name().as_str())
    }

    /// The places of the columns that are read, rising; a mapping leaves out the others.
    pub fn places(&self) -> Vec<usize> {
        let places = &self.places;
        let head = [Some(places.user_id), Some(places.ts), places.event_id, places.retract];
        let declared = head.iter().chain(&places.columns).copied().flatten();
        let mut all: Vec<usize> = declared.chain(places.undeclared.iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// Appends an event per row to `batch`. A refused row leaves nothing there; `refuse` is called with its index and why.
    ///
    /// # Errors
    /// [`BindError`] if the batch is not of the schema that was bound; then no row was read.
    pub fn decode(
        &mut self,
        rows: &RecordBatch,
        batch: &mut UpdateBatch,
        refuse: &mut dyn FnMut(usize, LineError),
    ) -> Result<(), BindError> {
        bind::check_same(&self.schema, rows.schema_ref())?;
        let (arrays, options): (Vec<_>, _) =
            (rows.columns().iter().map(cells::in_utc).collect(), EncoderOptions::default());
        let mut rows = Rows::of(&self.schema, &arrays, &self.places, &self.columns, &options)?;
        for row in 0..arrays[self.places.user_id].len() {
            match rows.push(row, self.fact, &self.columns, &self.times, &mut self.buffers, batch) {
                Ok(ts) => self.latest = self.latest.max(Some(ts)),
                Err(error) => refuse(row, error),
            }
        }
        Ok(())
    }

    /// The latest time of the events taken since it was asked last, in microseconds since 1970.
    pub fn take_latest(&mut self) -> Option<i64> {
        self.latest.take()
    }
}
