//! Rows of a file to batches: what the formats have in common.

use super::columns::ColumnRows;
use super::csv::CsvRows;
use super::files::{JobFile, file_error};
use super::plan::Task;
use super::text::{EventLines, JsonRows, TagLines, VectorLines};
use super::{BackfillError, FileFormat};
use crate::decode::body::BATCH_BYTES;
use engine::update::UpdateBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The rows of one file, in their order.
pub(super) trait Rows {
    /// Decodes the next row or rows into `batch`, and refused ones into `refused`; false at the end of the file.
    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String>;

    /// Rows taken from the file so far, those skipped at the start included.
    fn position(&self) -> u64;

    /// Columns of the file, or keys of its lines so far, that are named like no tag, where they are matched by name, like no field
    /// of the event, or like no part of a vector: those that were not taken before.
    fn take_unmatched(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Rows of the whole file, if it says.
    fn total(&self) -> Option<u64> {
        None
    }
}

/// Rows of a file that were refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) count: u64,
    /// The first ones: row number from 1, and why.
    pub(super) samples: Vec<(u64, String)>,
}

impl Refused {
    pub(super) fn push(&mut self, row: u64, error: impl std::fmt::Display) {
        self.count += 1;
        if self.samples.len() < super::ERRORS_KEPT_MAX {
            self.samples.push((row, error.to_string()));
        }
    }
}

/// An open file.
pub(super) struct OpenFile {
    rows: Box<dyn Rows>,
    size_bytes: u64,
    bytes_read: Arc<AtomicU64>,
}

impl OpenFile {
    /// See [`Rows::take_unmatched`].
    pub(super) fn take_unmatched(&mut self) -> Vec<String> {
        self.rows.take_unmatched()
    }

    /// Opens a file behind its first `skip` rows.
    pub(super) fn open(file: &JobFile, skip: u64, task: &Task<'_>) -> Result<OpenFile, BackfillError> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let (place, size_bytes) = (&file.place, file.size_bytes);
        let rows: Box<dyn Rows> = match (file.format, task.events()?) {
            (format @ (FileFormat::Csv | FileFormat::Tags), _) if task.vectors()?.is_some() => {
                return Err(task.no_vectors(format));
            }
            (FileFormat::Parquet, _) => Box::new(ColumnRows::open_parquet(place, skip, task)?),
            (FileFormat::Arrow, _) => Box::new(ColumnRows::open_arrow(place, skip, task, &bytes_read)?),
            (FileFormat::Csv, _) => Box::new(CsvRows::open(place, skip, task, &bytes_read)?),
            (FileFormat::Ndjson, None) => match task.vectors()? {
                Some(vectors) => Box::new(VectorLines::open(place, skip, vectors, &bytes_read)?),
                None => Box::new(JsonRows::open(place, skip, task, &bytes_read)?),
            },
            (FileFormat::Ndjson, Some(events)) => Box::new(EventLines::open(place, skip, task, &events, &bytes_read)?),
            (FileFormat::Tags, None) => Box::new(TagLines::open(place, skip, task, &bytes_read)?),
            (FileFormat::Tags, Some(_)) => {
                return Err(task.wrong("format `tags` is lines of `POST /v1/tags`; lines of events are `ndjson`"));
            }
        };
        Ok(OpenFile { rows, size_bytes, bytes_read })
    }

    /// Fills the batch up to about a size; false at the end of the file.
    pub(super) fn fill(
        &mut self,
        file: &JobFile,
        size: BatchSize,
        batch: &mut UpdateBatch,
        refused: &mut Refused,
    ) -> Result<bool, BackfillError> {
        let from = self.rows.position();
        while batch.as_bytes().len() < size.bytes && self.rows.position() - from < size.rows {
            if !self.rows.step(batch, refused).map_err(|what| file_error(file.path(), what))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn position(&self) -> u64 {
        self.rows.position()
    }

    /// Bytes of the file that are done; by its rows, if it does not count bytes.
    pub(super) fn bytes_done(&self) -> u64 {
        match self.rows.total() {
            Some(0) => self.size_bytes,
            Some(total) => (self.size_bytes as f64 * self.position() as f64 / total as f64) as u64,
            None => self.bytes_read.load(Ordering::Relaxed).min(self.size_bytes),
        }
    }
}

/// When a batch is handed over: at this many bytes or rows, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSize {
    pub(super) bytes: usize,
    pub(super) rows: u64,
}

impl Default for BatchSize {
    fn default() -> Self {
        BatchSize { bytes: BATCH_BYTES, rows: ROWS_PER_BATCH_MAX }
    }
}

/// Rows after which a batch is handed over even when it is small (most were refused, say), so that progress shows.
pub(super) const ROWS_PER_BATCH_MAX: u64 = 100_000;
