//! A statement that was planned, on its way to its rows.

use super::connection::Pipe;
use super::errors::Told;
use super::messages::{Described, Format, put};
use super::types::{modifier, type_bytes, type_of};
use super::values::{Column, columns};
use crate::error::{Failure, Kind};
use crate::queries::{Progress, Watch};
use arrow::datatypes::SchemaRef;
use bytes::BufMut;
use engine_sql::session::{Answer, Planned};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Bytes of the longest row: clients take no longer message.
pub(super) const ROW_BYTES_MAX: usize = 1 << 30;

/// The code of a statement that was cancelled, or took too long.
pub(super) const ENDED: &str = "57014";

/// Why a connection does not go on as it did.
pub(super) enum Stop {
    /// The statement failed; the client is told.
    Told(Told),
    /// The client went away, or has to.
    Gone,
}

impl From<Told> for Stop {
    fn from(told: Told) -> Self {
        Stop::Told(told)
    }
}

/// How far rows were sent.
pub(super) enum Sent {
    /// All of them; so many now.
    All(u64),
    /// As many as were asked for.
    Some,
}

/// The rows of a statement.
pub(super) struct Rows {
    /// What was sent, and where the statement begins there: for places of errors.
    sent: (String, usize),
    pub(super) columns: Vec<Described>,
    formats: Vec<Format>,
    phase: Phase,
    watch: Option<Watch>,
    time: Duration,
    pub(super) deadline: Instant,
}

enum Phase {
    Planned(Box<Planned>),
    Answering {
        answer: Box<Answer>,
        /// Rows that wait to be sent: the next one, and how many there are.
        batch: Option<(Vec<Column>, usize, usize)>,
        _permit: OwnedSemaphorePermit,
    },
    /// All rows were sent.
    Over,
    /// There is nothing more, and this is why.
    Ended(Told),
}

/// The columns of a statement, as they are described.
pub(super) fn described(schema: &SchemaRef, formats: &[Format]) -> Vec<Described> {
    let column = |(index, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
        let of = type_of(field.data_type());
        Described {
            name: field.name().clone(),
            oid: of.oid(),
            type_bytes: type_bytes(&of),
            modifier: modifier(field.data_type()),
            format: Format::of(formats, index),
        }
    };
    schema.fields().iter().enumerate().map(column).collect()
}

/// # Errors
/// If there are more columns than a message has a number for.
pub(super) fn can_be_told(columns: usize) -> Result<(), Told> {
    if columns > i16::MAX as usize {
        return Err(Told::new("54011", format!("the answer has {columns} columns; at most {} are told", i16::MAX)));
    }
    Ok(())
}

impl Rows {
    /// # Errors
    /// If formats are neither none, nor one, nor one for each column.
    pub(super) fn new(
        planned: Planned,
        watch: Watch,
        formats: Vec<Format>,
        sent: (String, usize),
        (time, deadline): (Duration, Instant),
    ) -> Result<Rows, Told> {
        let count = planned.schema().fields().len();
        let fits = match formats.len() > 1 && formats.len() != count {
            true => {
                let message = format!("formats are none, one for all, or one for each of {count} columns");
                Err(Told::new("08P01", message))
            }
            false => can_be_told(count),
        };
        if let Err(told) = fits {
            watch.end(Progress::Failed(told.message.clone()));
            return Err(told);
        }
        watch.set_waiting(true);
        let columns = described(planned.schema(), &formats);
        let phase = Phase::Planned(Box::new(planned));
        Ok(Rows { sent, columns, formats, phase, watch: Some(watch), time, deadline })
    }

    /// Sends rows, at most so many. What runs can be cancelled meanwhile, and ends with its time or its client.
    ///
    /// # Errors
    /// [`Stop`]; then there is nothing more.
    pub(super) async fn send(
        &mut self,
        pipe: &mut Pipe,
        rows_max: usize,
        place: impl FnOnce() -> Result<OwnedSemaphorePermit, Failure>,
    ) -> Result<Sent, Stop> {
        let sent = self.send_some(pipe, rows_max, place).await;
        match &sent {
            Ok(Sent::Some) => {
                if let Some(watch) = &self.watch {
                    watch.set_waiting(true);
                }
            }
            Ok(Sent::All(_)) => self.end(Progress::Done),
            Err(Stop::Told(told)) => self.fail(told.clone()),
            Err(Stop::Gone) => self.end(Progress::Cancelled),
        }
        sent
    }

    /// Done when somebody cancels it.
    pub(super) fn cancellation(&self) -> Option<CancellationToken> {
        self.watch.as_ref().map(|watch| watch.cancellation())
    }

    fn end(&mut self, how: Progress) {
        self.phase = Phase::Over;
        if let Some(watch) = self.watch.take() {
            watch.end(how);
        }
    }

    /// Ends it with what whoever asks for more rows is told.
    pub(super) fn fail(&mut self, why: Told) {
        self.end(Progress::Failed(why.message.clone()));
        self.phase = Phase::Ended(why);
    }

    /// Ends it if somebody cancelled it, or its time is over, while nobody asked for its rows.
    pub(super) fn expire(&mut self) {
        let Some(watch) = &self.watch else { return };
        if watch.cancellation().is_cancelled() {
            self.fail(cancelled());
        } else if Instant::now() >= self.deadline {
            self.fail(self.late());
        }
    }

    fn late(&self) -> Told {
        late(self.time)
    }

    async fn send_some(
        &mut self,
        pipe: &mut Pipe,
        rows_max: usize,
        place: impl FnOnce() -> Result<OwnedSemaphorePermit, Failure>,
    ) -> Result<Sent, Stop> {
        self.expire();
        if let Phase::Ended(why) = &self.phase {
            return Err(why.clone().into());
        }
        let Some(watch) = &self.watch else { return Ok(Sent::All(0)) };
        watch.set_waiting(false);
        let cancellation = watch.cancellation();
        if let Phase::Planned(_) = &self.phase {
            let permit = place().map_err(|failure| self.failed(&failure))?;
            if let Phase::Planned(planned) = std::mem::replace(&mut self.phase, Phase::Over) {
                let answer = Box::new(planned.start());
                self.phase = Phase::Answering { answer, batch: None, _permit: permit };
            }
        }
        let deadline = tokio::time::Instant::from_std(self.deadline);
        let mut count = 0;
        loop {
            let Phase::Answering { answer, batch, .. } = &mut self.phase else { return Ok(Sent::All(count as u64)) };
            let Some((columns, next, end)) = batch else {
                let more = tokio::select! {
                    biased;
                    () = cancellation.cancelled() => return Err(cancelled().into()),
                    () = tokio::time::sleep_until(deadline) => return Err(self.late().into()),
                    more = answer.next_async() => more,
                    () = pipe.frames.gone() => return Err(Stop::Gone),
                };
                let Some(rows) = more.map_err(|error| Told::of(&error.into(), &self.sent.0, self.sent.1))? else {
                    return Ok(Sent::All(count as u64));
                };
                if let Some(watch) = &self.watch {
                    watch.add_rows(rows.num_rows());
                }
                let made =
                    self::columns(&rows, &self.formats).map_err(|error| Told::new("22000", error.to_string()))?;
                *batch = Some((made, 0, rows.num_rows()));
                continue;
            };
            while next < end {
                if count == rows_max {
                    return Ok(Sent::Some);
                }
                put_row(pipe, columns, *next)?;
                *next += 1;
                count += 1;
                if pipe.is_full() {
                    break;
                }
            }
            if next == end {
                *batch = None;
            }
            if pipe.is_full() {
                // The statement ends at once; what was begun to be sent is sent before what is told then.
                tokio::select! {
                    biased;
                    sent = pipe.flush() => sent.map_err(|_| Stop::Gone)?,
                    () = cancellation.cancelled() => return Err(cancelled().into()),
                    () = tokio::time::sleep_until(deadline) => return Err(self.late().into()),
                }
            }
        }
    }

    fn failed(&self, failure: &Failure) -> Told {
        Told::of(failure, &self.sent.0, self.sent.1)
    }
}

/// What a client is told whose statement took too long.
pub(super) fn late(time: Duration) -> Told {
    let told = Told::new(ENDED, format!("the statement ran out of its time, {} ms", time.as_millis()));
    let told = told.hint("ask something narrower, or give it more time: SET statement_timeout = '60s'");
    Told { kind: Some(Kind::Timeout), ..told }
}

/// What a client is told whose statement somebody cancelled.
pub(super) fn cancelled() -> Told {
    Told { kind: Some(Kind::Timeout), ..Told::new(ENDED, "the statement was cancelled") }
}

fn put_row(pipe: &mut Pipe, columns: &[Column], row: usize) -> Result<(), Told> {
    let start = pipe.out.len();
    let mut failed = None;
    put(&mut pipe.out, b'D', |out| {
        out.put_i16(columns.len() as i16);
        // Looked at with each value, before it is written: a row that is too long takes no more memory than one that is not.
        let end_max = start + ROW_BYTES_MAX;
        failed = columns.iter().find_map(|column| column.put(row, out, end_max).err()).map(|error| error.to_string());
    });
    match failed {
        None => Ok(()),
        Some(why) => {
            // Nothing is sent of it.
            pipe.out.truncate(start);
            Err(Told::new("22000", why))
        }
    }
}
