//! One row to one event.

use super::cells::{Cells, Kind};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::events::column::{Column, Stored};
use crate::decode::events::fields::{BindError, Places};
use crate::decode::events::time::Times;
use crate::decode::events::undeclared::Members;
use crate::decode::events::{check_event_id, check_retraction, check_size, emptied};
use crate::decode::tags::check_user_id;
use crate::decode::value::NumberError;
use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Schema;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use engine::catalog::ColumnType;
use engine::ids::TagId;
use engine::update::{EventHead, UpdateBatch, Value};

/// The rows of a batch.
pub(super) struct Rows<'a> {
    user_id: Cells<'a>,
    ts: Cells<'a>,
    event_id: Option<Cells<'a>>,
    retract: Option<Cells<'a>>,
    /// By column of the fact.
    columns: Vec<Source<'a>>,
    undeclared: Vec<Json<'a>>,
}

/// Where the values of a column of the fact come from.
enum Source<'a> {
    Nowhere,
    Cells(Cells<'a>),
    Json(Json<'a>),
}

/// An array whose values become JSON.
struct Json<'a> {
    nulls: Option<NullBuffer>,
    encoder: NullableEncoder<'a>,
}

/// What is used again from row to row.
#[derive(Debug)]
pub(super) struct Buffers {
    undeclared: Members,
    user_id: String,
    event_id: String,
    scratch: String,
    bytes: Vec<u8>,
    /// Texts that are not in an array.
    texts: String,
    /// By column of the fact: where its text stands among them.
    stored: Vec<Stored>,
    /// Empty between rows; kept for its memory.
    values: Vec<Value<'static>>,
}

impl Buffers {
    pub(super) fn new(undeclared: Members) -> Buffers {
        let (user_id, event_id, scratch, texts) = <(String, String, String, String)>::default();
        let (bytes, stored, values) = (Vec::new(), Vec::new(), Vec::new());
        Buffers { undeclared, user_id, event_id, scratch, bytes, texts, stored, values }
    }
}

impl<'a> Rows<'a> {
    pub(super) fn of(
        schema: &'a Schema,
        arrays: &'a [ArrayRef],
        places: &Places,
        columns: &[Column],
        options: &'a EncoderOptions,
    ) -> Result<Rows<'a>, BindError> {
        let refuse = |place: usize, why: String| BindError::new(schema.field(place).name(), why, "cast it to text");
        let cells = |place: usize| Cells::of(&arrays[place]).map_err(|why| refuse(place, why));
        let json = |place: usize| {
            let encoder = make_encoder(&schema.fields()[place], &arrays[place], options);
            let encoder = encoder.map_err(|error| refuse(place, error.to_string()))?;
            Ok(Json { nulls: arrays[place].logical_nulls(), encoder })
        };
        let source = |(column, place): (&Column, &Option<usize>)| {
            Ok(match *place {
                None => Source::Nowhere,
                Some(place) => match (column.column_type, Kind::of(arrays[place].data_type())) {
                    (ColumnType::Json, Kind::Null) => Source::Nowhere,
                    (ColumnType::Json, kind) if kind != Kind::Text => Source::Json(json(place)?),
                    _ => Source::Cells(cells(place)?),
                },
            })
        };
        Ok(Rows {
            user_id: cells(places.user_id)?,
            ts: cells(places.ts)?,
            event_id: places.event_id.map(cells).transpose()?,
            retract: places.retract.map(cells).transpose()?,
            columns: columns.iter().zip(&places.columns).map(source).collect::<Result<_, _>>()?,
            undeclared: places.undeclared.iter().map(|place| json(*place)).collect::<Result<_, _>>()?,
        })
    }

    /// Appends the row's event to the batch and gives its time; on an error the batch is as before.
    pub(super) fn push(
        &mut self,
        row: usize,
        fact: TagId,
        columns: &[Column],
        times: &Times,
        buffers: &mut Buffers,
        batch: &mut UpdateBatch,
    ) -> Result<i64, LineError> {
        let null = |field: &str, kind| LineError::new(kind, format!("`{field}` is NULL"));
        let user_id = self.user_id.id(row, &mut buffers.user_id);
        let user_id = user_id.ok_or_else(|| null("user_id", LineErrorKind::UserId))?;
        check_user_id(user_id.as_bytes())?;
        let (read, is_number) = self
            .ts
            .time(row)
            .ok_or_else(|| null("ts", LineErrorKind::EventTime).suggest(NumberError::NotATime.suggestion()))?;
        let ts = times.take(read, is_number, || self.ts.shown(row))?;
        let event_id = match self.event_id.as_ref().and_then(|cells| cells.id(row, &mut buffers.event_id)) {
            None => "",
            Some(id) => check_event_id(id.as_bytes()).map(|()| id)?,
        };
        let is_retraction = self.retract.as_ref().and_then(|cells| cells.flag(row)).unwrap_or(false);
        check_retraction(is_retraction, event_id)?;

        buffers.undeclared.clear();
        for (index, json) in self.undeclared.iter_mut().enumerate() {
            if !json.is_null(row) {
                json.encoder.encode(row, buffers.undeclared.begin(index));
            }
        }
        let head = EventHead { ts, is_retraction, event_id, undeclared: buffers.undeclared.finish()? };
        buffers.texts.clear();
        buffers.stored.clear();
        for (source, column) in self.columns.iter_mut().zip(columns) {
            if let Source::Json(json) = source {
                buffers.stored.push(json.text(row, column, &mut buffers.bytes, &mut buffers.texts)?);
            }
        }
        let mut values: Vec<Value<'_>> = std::mem::take(&mut buffers.values);
        let stored = buffers.stored.iter().map(|stored| stored.value(&buffers.texts));
        let read = read_values(&self.columns, columns, row, stored, &mut buffers.scratch, &mut values);
        let read = read.and_then(|()| check_size(&values));
        if read.is_ok() {
            batch.begin_user(user_id.as_bytes());
            batch.push_event(fact, &head, &values);
        }
        buffers.values = emptied(values);
        read.map(|()| ts)
    }
}

/// A value for each column; `stored` has those that were made of JSON.
fn read_values<'v>(
    sources: &[Source<'v>],
    columns: &[Column],
    row: usize,
    mut stored: impl Iterator<Item = Value<'v>>,
    scratch: &mut String,
    values: &mut Vec<Value<'v>>,
) -> Result<(), LineError> {
    for (source, column) in sources.iter().zip(columns) {
        values.push(match source {
            Source::Nowhere => Value::Null,
            Source::Cells(cells) => cells.value(column, row, scratch)?,
            Source::Json(_) => stored.next().unwrap_or(Value::Null),
        });
    }
    Ok(())
}

impl Json<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value as text behind `texts`; what becomes `null` is NULL.
    fn text(
        &mut self,
        row: usize,
        column: &Column,
        bytes: &mut Vec<u8>,
        texts: &mut String,
    ) -> Result<Stored, LineError> {
        bytes.clear();
        if !self.is_null(row) {
            self.encoder.encode(row, bytes);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| {
            LineError::new(LineErrorKind::Value, format!("`{}`: the value does not become JSON", column.name))
        })?;
        if matches!(text, "" | "null") {
            return Ok(Stored::Null);
        }
        let start = texts.len();
        texts.push_str(text);
        Ok(Stored::Text { start, end: texts.len() })
    }
}
