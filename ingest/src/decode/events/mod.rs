//! One line of `POST /v1/facts/{fact}` to one event.
//!
//! ```json
//! {"user_id":"u1","ts":"2026-11-20T10:00:00Z","category":"shoes","amount":12.50}
//! ```
//!
//! * `user_id`: a string, or an integer of 64 bits (the same user as its decimal text).
//! * `ts`: when it happened: an RFC 3339 string, or milliseconds since 1970. A time that cannot be is refused: more
//!   than a day after now, before 1970, or so old that the fact does not keep it.
//! * Each column by its name; `null` or no key is NULL. What a column takes stands in `column`.
//! * `event_id`, `retract`: of facts that know an event by its id. `retract: true` takes back the event of that id.
//! * Any other key is kept as it is written, all of them together as one JSON object.
//!
//! All of a line is taken or nothing. Events come by the hundred thousand a second, so a line is read once, and nothing
//! is allocated for it: values stand in buffers that are used again, and a key is first compared with the one that
//! stood at its place in the line before.
//!
//! The same event may come otherwise: [`record`] reads cells of text (CSV) and [`columns`] Arrow batches, whose columns
//! [`fields`] finds by their names once for all rows. What they mean is the same.

mod column;
#[cfg(feature = "arrow")]
pub mod columns;
pub mod fields;
pub mod row;
mod time;
mod undeclared;

#[cfg(test)]
mod tests;

use super::error::{LineError, LineErrorKind};
use super::json::{Json, Kind};
use super::lines::LINE_BYTES_MAX;
use super::tags::{check_user_id, read_id, twice, utf8};
use column::{Column, Stored};
use engine::catalog::Fact;
use engine::ids::{EVENT_ID_BYTES_MAX, TagId};
use engine::update::{EventHead, UpdateBatch, Value};
use fields::{BindError, COLUMNS, EVENT_ID, FieldNames, Fields, RETRACT, TS, USER_ID};
use time::Times;
use undeclared::Undeclared;

/// Decodes events of one fact.
#[derive(Clone, Debug)]
pub struct EventDecoder {
    fact: TagId,
    names: Names,
    columns: Vec<Column>,
    times: Times,
    /// Per field, the line that named it last: tells a key given twice, and one that is missing.
    named_in: Vec<u64>,
    line_serial: u64,
    event: Event,
    /// Reused buffers for strings with escapes: of keys, of values.
    key: String,
    text: String,
    /// Empty between lines; kept for its memory.
    values: Vec<Value<'static>>,
}

/// What a line said so far.
#[derive(Clone, Debug, Default)]
struct Event {
    user_id: String,
    ts: i64,
    event_id: String,
    is_retraction: bool,
    values: Vec<Stored>,
    /// Where the texts of `values` stand.
    texts: String,
    undeclared: Undeclared,
}

/// Places of keys in a line that are remembered.
const PLACES_MAX: usize = 1 << 10;

/// Finds fields by their names.
#[derive(Clone, Debug)]
struct Names {
    fields: Fields,
    /// The field last seen at each place of a line.
    by_place: Vec<usize>,
}

impl Names {
    fn find(&mut self, place: usize, name: &str) -> Option<usize> {
        if let Some(&field) = self.by_place.get(place)
            && self.fields.names[field] == name
        {
            return Some(field);
        }
        let field = self.fields.get(name)?;
        if place < PLACES_MAX {
            if self.by_place.len() <= place {
                self.by_place.resize(place + 1, field);
            }
            self.by_place[place] = field;
        }
        Some(field)
    }
}

/// The columns of a fact under their names in the source.
fn columns_of(fact: &Fact, fields: &Fields) -> Vec<Column> {
    (0..fact.columns.len()).map(|index| Column::of(fact, index, &fields.names[COLUMNS + index])).collect()
}

impl EventDecoder {
    /// A decoder for a fact as it is declared now; `now` (microseconds since 1970) tells which times cannot be.
    pub fn new(fact: &Fact, now: i64) -> Self {
        Self::with_fields(fact, now, Fields::of(fact))
    }

    /// The same for lines that call the fields otherwise.
    ///
    /// # Errors
    /// [`BindError`] if the mapping names fields that the fact does not have.
    pub fn with_mapping(fact: &Fact, now: i64, mapping: &FieldNames) -> Result<Self, BindError> {
        Ok(Self::with_fields(fact, now, Fields::mapped(fact, mapping)?))
    }

    fn with_fields(fact: &Fact, now: i64, fields: Fields) -> Self {
        EventDecoder {
            fact: fact.id,
            columns: columns_of(fact, &fields),
            named_in: vec![0; fields.names.len()],
            names: Names { fields, by_place: Vec::new() },
            times: Times::of(fact, now),
            line_serial: 0,
            event: Event::default(),
            key: String::new(),
            text: String::new(),
            values: Vec::new(),
        }
    }

    /// Appends the line's event to `batch`; on an error the batch is as before.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong and where.
    pub fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let line = utf8(line)?;
        self.event.clear(self.columns.len());
        self.line_serial += 1;
        self.read(line)?;
        self.check_whole()?;
        self.push(batch);
        Ok(())
    }

    /// When the event of the last line that was taken happened, in microseconds since 1970.
    pub fn event_time(&self) -> i64 {
        self.event.ts
    }

    fn read(&mut self, line: &str) -> Result<(), LineError> {
        let mut json = Json::new(line, 0);
        if json.kind()? != Kind::Object {
            return Err(json.error("a line is a JSON object").suggest(EXAMPLE));
        }
        json.begin_object()?;
        let (mut first, mut place) = (true, 0);
        while let Some(key) = json.key(&mut first, &mut self.key)? {
            let at = json.key_position();
            match self.names.find(place, key) {
                Some(field) if std::mem::replace(&mut self.named_in[field], self.line_serial) == self.line_serial => {
                    return Err(twice(key, at));
                }
                Some(field) => self.read_field(field, &mut json)?,
                None => {
                    self.event.undeclared.begin(key, at);
                    json.skip(&mut self.text)?;
                    self.event.undeclared.push(&line[at..json.position()])?;
                }
            }
            place += 1;
        }
        json.end()?;
        self.event.undeclared.finish()
    }

    fn read_field(&mut self, field: usize, json: &mut Json<'_>) -> Result<(), LineError> {
        let event = &mut self.event;
        match field {
            USER_ID => {
                let of = ("user_id", LineErrorKind::UserId);
                read_id(json, of, check_user_id, &mut self.text, &mut event.user_id)
            }
            TS => {
                event.ts = self.times.read(json, &mut self.text)?;
                Ok(())
            }
            EVENT_ID if json.kind()? == Kind::Null => json.word().map(drop),
            EVENT_ID => {
                let of = ("event_id", LineErrorKind::EventId);
                read_id(json, of, check_event_id, &mut self.text, &mut event.event_id)
            }
            RETRACT => {
                event.is_retraction = read_retract(json)?;
                Ok(())
            }
            field if self.names.fields.is_left_out(field) => json.skip(&mut self.text),
            field => {
                let column = field - COLUMNS;
                event.values[column] = self.columns[column].read(json, &mut self.text, &mut event.texts)?;
                Ok(())
            }
        }
    }

    fn check_whole(&self) -> Result<(), LineError> {
        let is_missing = |field: usize| self.named_in[field] != self.line_serial;
        for (field, kind) in [(USER_ID, LineErrorKind::UserId), (TS, LineErrorKind::EventTime)] {
            if is_missing(field) {
                let message = format!("`{}` is missing", self.names.fields.names[field]);
                return Err(LineError::new(kind, message).suggest(EXAMPLE));
            }
        }
        check_retraction(self.event.is_retraction, &self.event.event_id)
    }

    fn push(&mut self, batch: &mut UpdateBatch) {
        let event = &self.event;
        let mut values: Vec<Value<'_>> = std::mem::take(&mut self.values);
        values.extend(event.values.iter().map(|stored| stored.value(&event.texts)));
        let head = EventHead {
            ts: event.ts,
            is_retraction: event.is_retraction,
            event_id: &event.event_id,
            undeclared: event.undeclared.object(),
        };
        batch.begin_user(event.user_id.as_bytes());
        batch.push_event(self.fact, &head, &values);
        self.values = emptied(values);
    }
}

impl Event {
    fn clear(&mut self, column_count: usize) {
        self.is_retraction = false;
        self.event_id.clear();
        self.values.clear();
        self.values.resize(column_count, Stored::Null);
        self.texts.clear();
        self.undeclared.clear();
    }
}

const EXAMPLE: &str = "write {\"user_id\":\"u1\",\"ts\":\"2026-11-20T10:00:00Z\",…}";

/// The same vector without what it borrows. Collecting in place keeps its memory.
fn emptied(mut values: Vec<Value<'_>>) -> Vec<Value<'static>> {
    values.clear();
    values.into_iter().map(|_| Value::Null).collect()
}

fn check_retraction(is_retraction: bool, event_id: &str) -> Result<(), LineError> {
    if is_retraction && event_id.is_empty() {
        let message = "`retract` needs the `event_id` of the event that it takes back";
        return Err(LineError::new(LineErrorKind::EventId, message));
    }
    Ok(())
}

/// A row of a table is as long as a line can be, so that no cell fills the memory.
fn check_size(values: &[Value<'_>]) -> Result<(), LineError> {
    let len = |value: &Value<'_>| if let Value::Text(text) = value { text.len() } else { 0 };
    let len: usize = values.iter().map(len).sum();
    if len > LINE_BYTES_MAX {
        let message = format!("the row has {len} bytes of text; at most {LINE_BYTES_MAX} are allowed");
        return Err(LineError::new(LineErrorKind::TooLong, message).suggest("shorten it, or leave the column out"));
    }
    Ok(())
}

fn check_event_id(id: &[u8]) -> Result<(), LineError> {
    if id.is_empty() {
        let error = LineError::new(LineErrorKind::EventId, "the event id is empty");
        return Err(error.suggest("leave it out if the event has none"));
    }
    if id.len() > EVENT_ID_BYTES_MAX {
        let message = format!("the event id has {} bytes; at most {EVENT_ID_BYTES_MAX} are allowed", id.len());
        return Err(LineError::new(LineErrorKind::EventId, message).suggest("use a shorter id, or a hash of it"));
    }
    Ok(())
}

fn read_retract(json: &mut Json<'_>) -> Result<bool, LineError> {
    match json.kind()? {
        Kind::Bool | Kind::Null => Ok(json.word()?.unwrap_or(false)),
        kind => {
            let message = format!("`retract` cannot be {}", kind.noun());
            Err(LineError::new(LineErrorKind::Type, message).at(json.position()).suggest("write true or false"))
        }
    }
}
