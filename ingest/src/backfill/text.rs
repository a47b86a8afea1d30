//! Lines of text: JSON objects, and lines of `POST /v1/tags`, `POST /v1/facts/{fact}` and `POST /v1/spaces/{space}`.

use super::files::{file_error, open_text};
use super::plan::{Events, Task, Vectors, plan_tags};
use super::rows::{Refused, Rows};
use super::{BackfillError, NullMeaning};
use crate::decode::error::LineError;
use crate::decode::json::{Json, Kind};
use crate::decode::lines::{LINE_BYTES_MAX, Line, LineSplitter};
use crate::decode::tag_columns::{Bound, Plan};
use crate::decode::tags::{TagDecoder, read_user_id, set_value, utf8};
use crate::decode::{EventDecoder, VectorDecoder};
use crate::objects::Place;
use engine::catalog::TagType;
use engine::update::UpdateBatch;
use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A file's lines.
struct Lines {
    text: Box<dyn BufRead + Send>,
    splitter: LineSplitter,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(place: &Place, skip: u64, bytes_read: &Arc<AtomicU64>) -> Result<Lines, BackfillError> {
        let path = place.path();
        let text = open_text(place, bytes_read).map_err(|error| file_error(path, error))?;
        let mut lines = Lines { text, splitter: LineSplitter::new(LINE_BYTES_MAX), line: Vec::new(), number: 0 };
        while lines.number < skip && lines.next().map_err(|what| file_error(path, what))?.is_some() {}
        Ok(lines)
    }

    /// The next line; `Some(false)` if it was too long, `None` at the end.
    fn next(&mut self) -> Result<Option<bool>, String> {
        loop {
            let buffer = self.text.fill_buf().map_err(|error| format!("behind line {}: {error}", self.number))?;
            let (is_end, len) = (buffer.is_empty(), buffer.len());
            let mut rest = buffer;
            let line = if is_end { self.splitter.finish() } else { self.splitter.next_line(&mut rest) };
            let whole = line.map(|line| match line {
                Line::Whole(bytes) => {
                    self.line.clear();
                    self.line.extend_from_slice(bytes);
                    true
                }
                Line::TooLong => false,
            });
            let used = len - rest.len();
            self.text.consume(used);
            if whole.is_some() {
                self.number += 1;
            }
            if whole.is_some() || is_end {
                return Ok(whole);
            }
        }
    }

    /// The line that was read, without the mark that a file may begin with.
    fn line(&self) -> &[u8] {
        match self.number {
            1 => self.line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.line),
            _ => &self.line,
        }
    }

    /// Decodes the next line with `decode`; false at the end of the file.
    fn step(
        &mut self,
        refused: &mut Refused,
        decode: impl FnOnce(&[u8]) -> Result<(), LineError>,
    ) -> Result<bool, String> {
        match self.next()? {
            None => return Ok(false),
            Some(false) => refused.push(self.number, format!("the line is longer than {LINE_BYTES_MAX} bytes")),
            Some(true) => {
                let line = self.line();
                if !line.trim_ascii().is_empty()
                    && let Err(error) = decode(line)
                {
                    refused.push(self.number, error);
                }
            }
        }
        Ok(true)
    }
}

/// Lines as `POST /v1/tags` takes them.
pub(super) struct TagLines {
    lines: Lines,
    decoder: TagDecoder,
}

impl TagLines {
    pub(super) fn open(
        place: &Place,
        skip: u64,
        task: &Task<'_>,
        bytes_read: &Arc<AtomicU64>,
    ) -> Result<TagLines, BackfillError> {
        if !task.job.columns.is_empty() {
            let what = "lines of `POST /v1/tags` name their tags themselves; leave `columns` out";
            return Err(task.wrong(what));
        }
        Ok(TagLines { lines: Lines::open(place, skip, bytes_read)?, decoder: TagDecoder::new(task.catalog) })
    }
}

impl Rows for TagLines {
    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String> {
        self.lines.step(refused, |line| self.decoder.decode(line, batch))
    }

    fn position(&self) -> u64 {
        self.lines.number
    }
}

/// Lines as `POST /v1/facts/{fact}` takes them, under the names of the job.
pub(super) struct EventLines {
    lines: Lines,
    decoder: EventDecoder,
}

impl EventLines {
    pub(super) fn open(
        place: &Place,
        skip: u64,
        task: &Task<'_>,
        events: &Events<'_>,
        bytes_read: &Arc<AtomicU64>,
    ) -> Result<EventLines, BackfillError> {
        let decoder = EventDecoder::with_mapping(events.fact, events.now, &events.mapping);
        let decoder = decoder.map_err(|error| task.wrong(error.to_string()))?;
        Ok(EventLines { lines: Lines::open(place, skip, bytes_read)?, decoder })
    }
}

impl Rows for EventLines {
    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String> {
        self.lines.step(refused, |line| self.decoder.decode(line, batch))
    }

    fn position(&self) -> u64 {
        self.lines.number
    }
}

/// Lines as `POST /v1/spaces/{space}` takes them, under the names of the job; other keys are told, and a file in which no line has
/// that of the vector is refused at its end.
pub(super) struct VectorLines {
    lines: Lines,
    decoder: VectorDecoder,
}

impl VectorLines {
    pub(super) fn open(
        place: &Place,
        skip: u64,
        vectors: Vectors,
        bytes_read: &Arc<AtomicU64>,
    ) -> Result<VectorLines, BackfillError> {
        let mut decoder = VectorDecoder::with_fields(&vectors.space, vectors.fields);
        let mut lines = Lines::open(place, 0, bytes_read)?;
        while lines.number < skip {
            match lines.next().map_err(|what| file_error(place.path(), what))? {
                Some(true) => decoder.look(lines.line()),
                Some(false) => {}
                None => break,
            }
        }
        Ok(VectorLines { lines, decoder })
    }
}

impl Rows for VectorLines {
    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String> {
        let goes_on = self.lines.step(refused, |line| self.decoder.decode(line, batch))?;
        if !goes_on {
            self.decoder.check_met()?;
        }
        Ok(goes_on)
    }

    fn take_unmatched(&mut self) -> Vec<String> {
        self.decoder.take_others()
    }

    fn position(&self) -> u64 {
        self.lines.number
    }
}

/// A JSON object a line, a key per column; keys that are no columns are ignored.
pub(super) struct JsonRows {
    lines: Lines,
    decoder: RowDecoder,
}

struct RowDecoder {
    plan: Plan,
    /// Per column, the bounds that it fills.
    by_column: HashMap<String, Vec<usize>>,
    /// Per bound, where its value stands in the line at hand.
    places: Vec<Option<usize>>,
    key: String,
    value: String,
    user_id: String,
}

impl JsonRows {
    pub(super) fn open(
        place: &Place,
        skip: u64,
        task: &Task<'_>,
        bytes_read: &Arc<AtomicU64>,
    ) -> Result<JsonRows, BackfillError> {
        let plan = plan_tags(task, None).map_err(|what| task.wrong(what))?;
        let mut by_column: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, bound) in plan.bounds.iter().enumerate() {
            by_column.entry(bound.column.clone()).or_default().push(index);
        }
        let (key, value, user_id) = <(String, String, String)>::default();
        let decoder = RowDecoder { places: vec![None; plan.bounds.len()], plan, by_column, key, value, user_id };
        Ok(JsonRows { lines: Lines::open(place, skip, bytes_read)?, decoder })
    }
}

impl Rows for JsonRows {
    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String> {
        self.lines.step(refused, |line| self.decoder.decode(line, batch))
    }

    fn position(&self) -> u64 {
        self.lines.number
    }
}

impl RowDecoder {
    /// As [`TagDecoder::decode`]: first finds the parts of the line, then pushes them behind the user id.
    fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let line = utf8(line)?;
        self.find(line)?;
        let mark = batch.mark();
        batch.begin_user(self.user_id.as_bytes());
        for (bound, place) in self.plan.bounds.iter().zip(&self.places) {
            let pushed = match place {
                None => {
                    bound.push_null(self.plan.nulls, batch);
                    Ok(())
                }
                Some(place) => push_json(bound, self.plan.nulls, &mut Json::new(line, *place), &mut self.value, batch),
            };
            if pushed.is_err() {
                batch.truncate(mark);
                return pushed;
            }
        }
        Ok(())
    }

    fn find(&mut self, line: &str) -> Result<(), LineError> {
        self.places.fill(None);
        self.user_id.clear();
        let mut json = Json::new(line, 0);
        if json.kind()? != Kind::Object {
            return Err(json.error("a line is a JSON object").suggest("write {\"user_id\":\"u1\",\"age\":31}"));
        }
        json.begin_object()?;
        let (mut first, mut seen_user) = (true, false);
        while let Some(key) = json.key(&mut first, &mut self.key)? {
            let twice = |json: &Json<'_>, key: &str| {
                LineError::new(crate::decode::LineErrorKind::Key, format!("`{key}` is given twice"))
                    .at(json.key_position())
            };
            if key == self.plan.user_id {
                if std::mem::replace(&mut seen_user, true) {
                    return Err(twice(&json, key));
                }
                json.peek();
                let at = json.position();
                read_user_id(&mut json, &mut self.value, &mut self.user_id)?;
                // The same column may also go into a tag.
                for bound in self.by_column.get(key).into_iter().flatten() {
                    self.places[*bound] = Some(at);
                }
                continue;
            }
            json.peek();
            let at = json.position();
            for bound in self.by_column.get(key).into_iter().flatten() {
                if self.places[*bound].replace(at).is_some() {
                    return Err(twice(&json, key));
                }
            }
            json.skip(&mut self.value)?;
        }
        if !seen_user {
            let message = format!("`{}` is missing", self.plan.user_id);
            return Err(LineError::new(crate::decode::LineErrorKind::UserId, message));
        }
        json.end()
    }
}

/// A value of a row: read as `set` of `POST /v1/tags` reads it, but a set may be text with separators.
fn push_json(
    bound: &Bound,
    nulls: NullMeaning,
    json: &mut Json<'_>,
    scratch: &mut String,
    batch: &mut UpdateBatch,
) -> Result<(), LineError> {
    let kind = json.kind()?;
    if kind == Kind::Null {
        bound.push_null(nulls, batch);
        return Ok(());
    }
    if bound.tag_type == TagType::Set && kind == Kind::String {
        let at = json.position();
        let text = json.string(scratch)?;
        let pushed = bound.push_text(text, batch);
        return pushed.map_err(|what| LineError::new(crate::decode::LineErrorKind::Value, what).at(at));
    }
    set_value(json, &bound.column, (bound.tag, bound.tag_type, bound.add), scratch, batch)
}
