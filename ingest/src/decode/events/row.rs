//! A record of text cells (a line of CSV) to one event.
//!
//! A cell is read as the type of its column says, an empty one is NULL. Columns that the fact does not declare are kept as
//! strings, since nobody says what they are.

use super::column::Column;
use super::fields::{BindError, FieldNames, Fields, Places};
use super::time::Times;
use super::undeclared::{Members, push_string};
use super::{check_event_id, check_retraction, check_size, columns_of, emptied};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::tags::{check_user_id, shown};
use crate::decode::value::{NumberError, parse_flag, parse_text};
use engine::catalog::{Fact, Unit};
use engine::ids::TagId;
use engine::update::{EventHead, UpdateBatch, Value};

/// Decodes records of one fact whose columns are known.
#[derive(Clone, Debug)]
pub struct RowDecoder {
    fact: TagId,
    places: Places,
    columns: Vec<Column>,
    names: Vec<String>,
    times: Times,
    undeclared: Members,
    scratch: String,
    /// Empty between records; kept for its memory.
    values: Vec<Value<'static>>,
}

impl RowDecoder {
    /// A decoder of records with these columns, for a fact as it is declared now; `now` (microseconds since 1970) tells
    /// which times cannot be.
    ///
    /// # Errors
    /// [`BindError`] if the columns cannot be events of the fact.
    pub fn bind(fact: &Fact, now: i64, mapping: &FieldNames, names: &[&str]) -> Result<Self, BindError> {
        let fields = Fields::mapped(fact, mapping)?;
        let places = Places::of(&fields, mapping, names)?;
        Ok(RowDecoder {
            fact: fact.id,
            columns: columns_of(fact, &fields),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            times: Times::of(fact, now),
            undeclared: Members::new(places.undeclared.iter().map(|place| names[*place])),
            places,
            scratch: String::new(),
            values: Vec::new(),
        })
    }

    /// The columns that the fact does not declare.
    pub fn undeclared(&self) -> impl Iterator<Item = &str> {
        self.places.undeclared.iter().map(|place| self.names[*place].as_str())
    }

    /// Appends the record's event to `batch`; on an error the batch is as before. `cell` gives the cell of each column.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong, naming the column.
    pub fn decode<'r>(&mut self, cell: impl Fn(usize) -> &'r [u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let text = |place: usize| {
            std::str::from_utf8(cell(place)).map_err(|_| {
                let message = format!("`{}`: the cell is not UTF-8", self.names[place]);
                LineError::new(LineErrorKind::Syntax, message).suggest("write the file in UTF-8")
            })
        };
        let user_id = text(self.places.user_id)?;
        check_user_id(user_id.as_bytes())?;
        let ts = text(self.places.ts)?;
        let read = match ts.trim() {
            "" => {
                return Err(LineError::new(LineErrorKind::EventTime, "`ts` is empty")
                    .suggest(NumberError::NotATime.suggestion()));
            }
            ts => parse_text(ts, Unit::Timestamp),
        };
        let is_number = ts.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let ts = self.times.take(read, is_number, || shown(ts).into_owned())?;
        let event_id = self.places.event_id.map_or(Ok(""), text)?;
        if !event_id.is_empty() {
            check_event_id(event_id.as_bytes())?;
        }
        let is_retraction = read_retract(self.places.retract.map_or(Ok(""), text)?)?;
        check_retraction(is_retraction, event_id)?;
        self.undeclared.clear();
        for (index, place) in self.places.undeclared.iter().enumerate() {
            match text(*place)? {
                "" => {}
                text => push_string(text, self.undeclared.begin(index)),
            }
        }
        let undeclared = self.undeclared.finish()?;
        let mut values: Vec<Value<'_>> = std::mem::take(&mut self.values);
        let mut read = Ok(());
        for (column, place) in self.columns.iter().zip(&self.places.columns) {
            let value = match place {
                None => Ok(Value::Null),
                Some(place) => text(*place).and_then(|text| column.read_text(text, &mut self.scratch)),
            };
            match value {
                Ok(value) => values.push(value),
                Err(error) => {
                    read = Err(error);
                    break;
                }
            }
        }
        let read = read.and_then(|()| check_size(&values));
        if read.is_ok() {
            batch.begin_user(user_id.as_bytes());
            batch.push_event(self.fact, &EventHead { ts, is_retraction, event_id, undeclared }, &values);
        }
        self.values = emptied(values);
        read
    }
}

fn read_retract(text: &str) -> Result<bool, LineError> {
    if text.is_empty() {
        return Ok(false);
    }
    parse_flag(text).ok_or_else(|| {
        let message = format!("`retract`: `{}` is neither true nor false", shown(text));
        LineError::new(LineErrorKind::Type, message).suggest("write true, false, 1, 0, yes or no")
    })
}
