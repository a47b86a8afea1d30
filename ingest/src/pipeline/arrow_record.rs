//! A record that is an Arrow stream: many rows under one offset, so all of them go into one update, or none does.

use super::dead_letter;
use super::decoder::{Current, Decoded, Outcome};
use crate::decode::arrow_stream::pieces::{Piece, Pieces};
use crate::decode::arrow_stream::{ArrowStream, Limits};
use crate::decode::body::BATCH_BYTES;
use crate::decode::column_body::{BatchDecoder, too_long};
use crate::decode::guard::shielded;
use crate::decode::json_rows::Rows;
use crate::decode::{LineError, LineErrorKind};
use crate::source::Record;
use arrow::array::RecordBatch;

/// What the rows of a record may weigh together, with what is told of refused ones: they are one update.
pub(super) const RECORD_WEIGHT_MAX: usize = 64 << 20;

/// What a dead letter takes besides its row and its reason.
const LETTER_BYTES: usize = 512;

/// What became of the rows so far.
#[derive(Default)]
struct Taken {
    rows: u64,
    filtered: u64,
    event_time: Option<i64>,
    refused: Vec<Refused>,
    weight: usize,
}

/// A row with what is wrong with it, and itself as JSON.
struct Refused {
    error: LineError,
    json: Vec<u8>,
}

impl Current {
    /// Takes all rows of a record; refused ones become dead letters, each with its row.
    ///
    /// # Errors
    /// What is wrong with the record as a whole; then nothing of it was taken.
    pub(super) fn take_rows(
        &mut self,
        source: &str,
        payload: &[u8],
        record: &Record<'_>,
        decoded: &mut Decoded,
        outcome: &mut Outcome,
    ) -> Result<(), LineError> {
        let mark = decoded.batch.mark();
        let mut taken = Taken::default();
        let read = shielded(|| self.take_stream(payload, record, decoded, &mut taken)).unwrap_or_else(|why| {
            self.columns.iter_mut().for_each(BatchDecoder::unbind);
            Err(LineError::new(LineErrorKind::Syntax, format!("its rows make no sense ({why})")))
        });
        if let Err(error) = read {
            decoded.batch.truncate(mark);
            return Err(error);
        }
        decoded.event_time = decoded.event_time.max(taken.event_time);
        outcome.filtered += taken.filtered;
        for Refused { error, json } in taken.refused {
            let row = Record { payload: Some(&json), ..*record };
            dead_letter::push(source, &decoded.partition, &row, &error, self.now, &mut decoded.batch);
            outcome.note(dead_letter::shown(&decoded.partition, &row, error));
        }
        Ok(())
    }

    fn take_stream(
        &mut self,
        mut payload: &[u8],
        record: &Record<'_>,
        decoded: &mut Decoded,
        taken: &mut Taken,
    ) -> Result<(), LineError> {
        let damaged = |error: &dyn std::fmt::Display| LineError::new(LineErrorKind::Syntax, error.to_string());
        let mut stream = ArrowStream::new(Limits::default());
        while let Some(rows) = stream.feed(&mut payload).map_err(|error| damaged(&error))? {
            let (begin, mut pieces) = (taken.rows, Pieces::new(rows));
            taken.rows += pieces.row_count() as u64;
            while let Some(piece) = pieces.next(BATCH_BYTES) {
                match piece {
                    Piece::TooLong { row, weight } => {
                        taken.refuse(begin + row as u64, too_long(weight), Vec::new())?;
                    }
                    Piece::Rows { first, rows, weight } => {
                        taken.add(weight)?;
                        self.take_piece(&rows, begin + first as u64, record, decoded, taken)?;
                    }
                }
            }
        }
        stream.finish().map_err(|error| damaged(&error))
    }

    fn take_piece(
        &mut self,
        rows: &RecordBatch,
        begin: u64,
        record: &Record<'_>,
        decoded: &mut Decoded,
        taken: &mut Taken,
    ) -> Result<(), LineError> {
        let unfit = |why: String| LineError::new(LineErrorKind::Type, why);
        if let Some(columns) = &mut self.columns {
            let mut refused = Vec::new();
            let read = columns.decode(rows, &mut decoded.batch, &mut |row, error| refused.push((row, error)));
            read.map_err(unfit)?;
            taken.event_time = taken.event_time.max(columns.take_latest());
            for (row, error) in refused {
                taken.refuse(begin + row as u64, error, shown(&rows.slice(row, 1)))?;
            }
            return Ok(());
        }
        // A mapping reads JSON.
        let lines = Rows::new(rows).map_err(unfit)?;
        let mut line = Vec::new();
        for row in 0..lines.count() {
            line.clear();
            lines.push(row, &mut line);
            match self.take(&line, record, decoded) {
                Ok(super::decoder::Taken::FilteredOut) => taken.filtered += 1,
                Ok(super::decoder::Taken::Yes(event_time)) => taken.event_time = taken.event_time.max(event_time),
                Err(error) => taken.refuse(begin + row as u64, error, line.clone())?,
            }
        }
        Ok(())
    }
}

impl Taken {
    fn refuse(&mut self, row: u64, mut error: LineError, json: Vec<u8>) -> Result<(), LineError> {
        error.message = format!("row {}: {}", row + 1, error.message);
        let weight = LETTER_BYTES + error.message.len() + json.len();
        self.refused.push(Refused { error, json });
        self.add(weight)
    }

    /// That there is room for so many bytes more.
    fn add(&mut self, weight: usize) -> Result<(), LineError> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= RECORD_WEIGHT_MAX {
            return Ok(());
        }
        let message = match self.refused.first() {
            None => format!("its rows stand for more than {RECORD_WEIGHT_MAX} bytes"),
            Some(Refused { error, .. }) => format!(
                "its rows, and what is wrong with {} of them, take more than {RECORD_WEIGHT_MAX} bytes; {}",
                self.refused.len(),
                error.message
            ),
        };
        Err(LineError::new(LineErrorKind::TooLong, message).suggest("split it into several records"))
    }
}

/// A row as JSON; nothing if a column has no form there.
fn shown(row: &RecordBatch) -> Vec<u8> {
    let mut json = Vec::new();
    if let Ok(rows) = Rows::new(row) {
        rows.push(0, &mut json);
    }
    json
}
