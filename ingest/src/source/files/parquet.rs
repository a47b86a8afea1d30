//! Records of Parquet: a row as an object by column name; a record's offset is its row's number.
//!
//! Row groups before the first row wanted are not touched, and of its own group the rows before it are not decoded. Rows
//! are decoded some at a time, page by page.

use super::records::{Progress, ReadError, Records, Sink};
use crate::decode::guard::shielded;
use crate::decode::json_rows::Rows;
use crate::objects::{ColumnBytes, Place};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::errors::ParquetError;
use arrow::error::ArrowError;
use std::io;

/// Rows decoded at once.
const ROWS_PER_STEP: usize = 1024;

pub(super) struct ParquetRecords {
    place: Place,
    reader: ParquetRecordBatchReader,
    rows: Option<Rows>,
    /// How many of `rows` were handed out.
    taken: usize,
    /// The next row.
    row: u64,
    total: u64,
    json: Vec<u8>,
}

impl ParquetRecords {
    /// # Errors
    /// [`ReadError::Short`] if there are fewer rows than `row`.
    pub(super) fn open(place: &Place, row: u64) -> Result<ParquetRecords, ReadError> {
        guarded(place, || {
            let (bytes, footer) = open(place)?;
            let counts = row_counts(&footer);
            let total = counts.iter().sum();
            if row > total {
                return Err(ReadError::Short { end: total });
            }
            let (mut group, mut before) = (0, 0);
            while group < counts.len() && before + counts[group] <= row {
                before += counts[group];
                group += 1;
            }
            let groups: Vec<usize> = (group..counts.len()).collect();
            let bytes = bytes.for_columns(footer.metadata(), &groups, &ProjectionMask::all());
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, footer)
                .with_row_groups(groups)
                .with_offset((row - before) as usize)
                .with_batch_size(ROWS_PER_STEP)
                .build()
                .map_err(parquet_error)?;
            let place = place.clone();
            Ok(ParquetRecords { place, reader, rows: None, taken: 0, row, total, json: Vec::new() })
        })
    }

    /// Decodes the next rows; false at the end of the file.
    fn advance(&mut self) -> Result<bool, ReadError> {
        self.taken = 0;
        self.rows = None;
        let reader = &mut self.reader;
        self.rows = guarded(&self.place, || match reader.next() {
            None => Ok(None),
            Some(batch) => Rows::new(&batch.map_err(arrow_error)?).map(Some).map_err(ReadError::Damaged),
        })?;
        if self.rows.is_none() && self.row < self.total {
            let what = format!("its rows end at {}, its footer says {}", self.row, self.total);
            return Err(ReadError::Damaged(what));
        }
        Ok(self.rows.is_some())
    }
}

impl Records for ParquetRecords {
    fn step(&mut self, _last: bool, sink: &mut Sink<'_>) -> Result<Progress, ReadError> {
        if self.rows.as_ref().is_none_or(|rows| self.taken == rows.count()) && !self.advance()? {
            return Ok(Progress::End);
        }
        let Some(rows) = &self.rows else { return Ok(Progress::End) };
        while self.taken < rows.count() && !sink.is_full() {
            self.json.clear();
            rows.push(self.taken, &mut self.json);
            sink.push(self.row, &self.json);
            self.taken += 1;
            self.row += 1;
        }
        Ok(Progress::More)
    }

    fn position(&self) -> u64 {
        self.row
    }

    fn reached(&self) -> u64 {
        self.row
    }

    fn end(&self) -> Option<u64> {
        Some(self.total)
    }
}

/// The rows of a file, by its footer.
pub(super) fn row_count(place: &Place) -> Result<u64, ReadError> {
    guarded(place, || Ok(row_counts(&open(place)?.1).iter().sum()))
}

fn open(place: &Place) -> Result<(ColumnBytes, ArrowReaderMetadata), ReadError> {
    let bytes = place.open_columns()?;
    let footer = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default()).map_err(parquet_error)?;
    Ok((bytes, footer))
}

/// Of each row group.
fn row_counts(footer: &ArrowReaderMetadata) -> Vec<u64> {
    let groups = footer.metadata().row_groups();
    // A damaged footer may say anything; 2^40 rows of each of 2^24 groups still add up.
    groups.iter().map(|group| group.num_rows().clamp(0, 1 << 40) as u64).collect()
}

/// Where the library slips on damage instead of answering with an error, that too is damage of one file. Where it could not get
/// an object's bytes, it keeps only words of why.
fn guarded<T>(place: &Place, read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    let read = shielded(read).unwrap_or_else(|why| {
        Err(ReadError::Damaged(format!("its content makes no sense to the Parquet reader ({why})")))
    });
    match (read, place.trouble()) {
        (Err(_), Some(trouble)) => Err(io::Error::from(trouble).into()),
        (read, _) => read,
    }
}

fn arrow_error(error: ArrowError) -> ReadError {
    match error {
        ArrowError::IoError(_, error) => error.into(),
        error => ReadError::Damaged(error.to_string()),
    }
}

fn parquet_error(error: ParquetError) -> ReadError {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => (*error).into(),
            Err(error) => ReadError::Damaged(error.to_string()),
        },
        error => ReadError::Damaged(error.to_string()),
    }
}
