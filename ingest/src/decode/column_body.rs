//! A whole body of Arrow: chunks in, batches of updates out, errors by row. What [`super::body`] is for lines.

use super::arrow_stream::pieces::{Piece, Pieces};
use super::arrow_stream::{ArrowStream, Limits, StreamError};
use super::body::{BATCH_BYTES, LineReport};
use super::error::{LineError, LineErrorKind};
use super::events::columns::ColumnDecoder;
use super::events::fields::FieldNames;
use super::guard::shielded;
use super::lines::LINE_BYTES_MAX;
use super::tag_columns::{NullMeaning, Plan, push_columns};
use super::vectors::VectorFields;
use super::vectors::columns::{check_columns, push_vectors};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, Fact, Space};
use engine::update::UpdateBatch;
use std::sync::Arc;

/// What a row counts in a batch that it is not in, so that a batch of refused rows ends as well.
const REFUSED_BYTES: usize = 64;

/// What rows become.
#[derive(Clone, Debug)]
pub enum RowTarget {
    /// Changes of tags: each column is the tag of its name, or `user_id`; NULL changes nothing.
    Tags(Arc<Catalog>),
    /// Events of a fact as it is declared now; `now` (microseconds since 1970) tells which times cannot be.
    Events {
        /// The fact.
        fact: Box<Fact>,
        /// When it is.
        now: i64,
    },
    /// Vectors of a space as it is declared now.
    Vectors(Space),
}

/// Decodes record batches of any schemas, one after the other.
#[derive(Debug)]
pub struct BatchDecoder {
    target: RowTarget,
    bound: Option<(SchemaRef, Bound)>,
}

#[derive(Debug)]
enum Bound {
    Tags(Plan),
    Events(Box<ColumnDecoder>),
    Vectors(Space),
}

/// Why a body cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnBodyError {
    /// It is no Arrow stream, or a damaged one.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Its columns cannot fill what they are to fill.
    #[error("{0}")]
    Columns(String),
}

impl BatchDecoder {
    /// For rows into `target`.
    pub fn new(target: RowTarget) -> BatchDecoder {
        BatchDecoder { target, bound: None }
    }

    /// Settles which column goes where.
    ///
    /// # Errors
    /// For people: which column does not fit.
    pub fn bind(&mut self, schema: &SchemaRef) -> Result<(), String> {
        if self.bound.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, schema) || known == schema) {
            return Ok(());
        }
        let bound = match &self.target {
            RowTarget::Tags(catalog) => Bound::Tags(tag_plan(catalog, schema)?),
            RowTarget::Events { fact, now } => {
                let decoder = ColumnDecoder::bind(fact, *now, &FieldNames::default(), schema);
                Bound::Events(Box::new(decoder.map_err(|error| error.to_string())?))
            }
            RowTarget::Vectors(space) => {
                check_columns(space, &VectorFields::default(), schema)?;
                Bound::Vectors(*space)
            }
        };
        self.bound = Some((schema.clone(), bound));
        Ok(())
    }

    /// Appends what the rows become. A refused row leaves nothing there; `refuse` is called with its index and why.
    ///
    /// # Errors
    /// As [`BatchDecoder::bind`]; the batch is as before then.
    pub fn decode(
        &mut self,
        rows: &RecordBatch,
        batch: &mut UpdateBatch,
        refuse: &mut dyn FnMut(usize, LineError),
    ) -> Result<(), String> {
        self.bind(rows.schema_ref())?;
        let Some((_, bound)) = &mut self.bound else { return Ok(()) };
        let mark = batch.mark();
        let decoded = shielded(|| match bound {
            Bound::Tags(plan) => push_columns(plan, rows, batch, &mut |row, why| {
                refuse(row, LineError::new(LineErrorKind::Value, why));
            }),
            Bound::Events(decoder) => decoder.decode(rows, batch, refuse).map_err(|error| error.to_string()),
            Bound::Vectors(space) => push_vectors(space, &VectorFields::default(), rows, batch, refuse),
        });
        let decoded = decoded.unwrap_or_else(|why| {
            self.bound = None;
            Err(format!("the rows make no sense ({why})"))
        });
        decoded.inspect_err(|_| batch.truncate(mark))
    }

    /// Forgets which column goes where: a panic may have left it half done.
    pub(crate) fn unbind(&mut self) {
        self.bound = None;
    }

    /// The latest time of the events since it was asked last, in microseconds since 1970.
    pub fn take_latest(&mut self) -> Option<i64> {
        match &mut self.bound {
            Some((_, Bound::Events(decoder))) => decoder.take_latest(),
            _ => None,
        }
    }
}

/// Each column into the tag of its name; all of them must have one, as in a line.
fn tag_plan(catalog: &Catalog, schema: &SchemaRef) -> Result<Plan, String> {
    const USER_ID: &str = "user_id";
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].contains(column) {
            return Err(format!("column `{column}` is there twice"));
        }
    }
    if !columns.iter().any(|column| column == USER_ID) {
        return Err("there is no column `user_id`; each row says whose tags it changes".to_owned());
    }
    let plan = Plan::by_name(catalog, USER_ID, Some(&columns), NullMeaning::Keep);
    match plan.unmatched.first() {
        None => Ok(plan),
        Some(column) => Err(match closest(column, catalog.tags().map(|(name, _)| name)) {
            Some(near) => format!("there is no tag `{column}`; did you mean `{near}`?"),
            None => format!("there is no tag `{column}`; declare it, or leave the column out"),
        }),
    }
}

/// Decodes a body that arrives in chunks.
#[derive(Debug)]
pub struct ColumnBodyReader {
    stream: ArrowStream,
    decoder: BatchDecoder,
    /// The message that was read last, as far as its rows are not decoded.
    pieces: Option<Pieces>,
    report: LineReport,
    /// Rows of the messages before.
    rows_before: u64,
    /// What the rows since the last full batch weigh.
    batch_bytes: usize,
}

impl ColumnBodyReader {
    /// A reader of one body.
    pub fn new(target: RowTarget, limits: Limits) -> ColumnBodyReader {
        ColumnBodyReader {
            stream: ArrowStream::new(limits),
            decoder: BatchDecoder::new(target),
            pieces: None,
            report: LineReport::default(),
            rows_before: 0,
            batch_bytes: 0,
        }
    }

    /// Decodes rows from the begin of `chunk` into `batch` and moves `chunk` behind them. True when the batch is full:
    /// take it, clear it, and call again with the rest of the chunk. False when the chunk is used up.
    ///
    /// Full batches end at the same rows however a body is cut into chunks and whatever the catalog has become. A message
    /// may be several batches; its last byte stays in the chunk until its last rows are in one.
    ///
    /// # Errors
    /// [`ColumnBodyError`]; the body cannot be read on, and what is in `batch` is of the rows before.
    pub fn feed(&mut self, chunk: &mut &[u8], batch: &mut UpdateBatch) -> Result<bool, ColumnBodyError> {
        loop {
            if let Some(pieces) = &mut self.pieces {
                let piece = pieces.next(BATCH_BYTES.saturating_sub(self.batch_bytes).max(1));
                let (is_done, row_count) = (pieces.is_done(), pieces.row_count());
                if let Some(piece) = piece {
                    self.take(piece, batch)?;
                }
                if is_done {
                    self.pieces = None;
                    self.rows_before += row_count as u64;
                    *chunk = chunk.get(1..).unwrap_or_default();
                }
                if self.batch_bytes >= BATCH_BYTES {
                    self.batch_bytes = 0;
                    return Ok(true);
                }
                continue;
            }
            let before = *chunk;
            let Some(rows) = self.stream.feed(chunk)? else {
                self.bind()?;
                return Ok(false);
            };
            self.bind()?;
            // A batch with rows has a body, whose last byte came just now.
            *chunk = &before[before.len() - chunk.len() - 1..];
            self.pieces = Some(Pieces::new(rows));
        }
    }

    /// Also a body without rows is told that its columns do not fit.
    fn bind(&mut self) -> Result<(), ColumnBodyError> {
        match self.stream.schema() {
            Some(schema) => self.decoder.bind(schema).map_err(ColumnBodyError::Columns),
            None => Ok(()),
        }
    }

    fn take(&mut self, piece: Piece, batch: &mut UpdateBatch) -> Result<(), ColumnBodyError> {
        match piece {
            Piece::TooLong { row, weight } => {
                // Nothing of it is in the batch; what is told of it is.
                self.batch_bytes += REFUSED_BYTES;
                self.report.refuse(self.rows_before + row as u64 + 1, too_long(weight));
            }
            Piece::Rows { first, rows, weight } => {
                self.batch_bytes += weight;
                let (report, begin) = (&mut self.report, self.rows_before + first as u64);
                let refused_before = report.rejected;
                let decoded =
                    self.decoder.decode(&rows, batch, &mut |row, error| report.refuse(begin + row as u64 + 1, error));
                decoded.map_err(ColumnBodyError::Columns)?;
                self.report.accepted += rows.num_rows() as u64 - (self.report.rejected - refused_before);
            }
        }
        Ok(())
    }

    /// What became of the rows so far; rows count from 1.
    pub fn report(&self) -> &LineReport {
        &self.report
    }

    /// What became of all rows.
    ///
    /// # Errors
    /// [`ColumnBodyError::Stream`] if the body ends in the middle of a message.
    pub fn finish(self) -> Result<LineReport, ColumnBodyError> {
        self.stream.finish()?;
        Ok(self.report)
    }
}

/// What is told of a row with more than a line can hold.
pub(crate) fn too_long(bytes: usize) -> LineError {
    let message = format!("the row has about {bytes} bytes; at most {LINE_BYTES_MAX} are allowed");
    LineError::new(LineErrorKind::TooLong, message).suggest("shorten it, or leave the column out")
}

#[cfg(test)]
mod tests;
