//! The seam between a file's format and the source that hands its records out.

use super::super::{Record, RecordBatch};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// The records of one open file, from a place in it on.
pub(super) trait Records: Send {
    /// Reads on by a bounded amount. `last`: the file does not grow, so what lacks only its line feed is a record.
    ///
    /// # Errors
    /// After one, these records are over; those handed out before count.
    fn step(&mut self, last: bool, sink: &mut Sink<'_>) -> Result<Progress, ReadError>;

    /// The offset to go on at: behind the last record and whatever is none behind it.
    fn position(&self) -> u64;

    /// How far it was read; above the position inside a record.
    fn reached(&self) -> u64;

    /// The offset behind the last record, where the file tells it.
    fn end(&self) -> Option<u64> {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more, or may be.
    More,
    /// That was all there is for now.
    End,
}

/// Why a file's records cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The file ends before the offset to begin at.
    Short { end: u64 },
    /// There is no such file.
    Vanished,
    /// The system says so; it may be better later.
    Unreadable(String),
    /// Its content is wrong.
    Damaged(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => ReadError::Vanished,
            // Of an unpacker; files themselves do not fail like that.
            ErrorKind::UnexpectedEof => ReadError::Damaged("the gzip data ends in the middle".to_owned()),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => ReadError::Damaged(error.to_string()),
            _ => ReadError::Unreadable(error.to_string()),
        }
    }
}

/// Where a file's records go.
pub(super) struct Sink<'a> {
    batch: &'a mut RecordBatch,
    name: &'a Arc<str>,
    /// The file's index in the batch, once it has a record there.
    partition: Option<usize>,
    records_max: usize,
    bytes_max: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(batch: &'a mut RecordBatch, name: &'a Arc<str>, records_max: usize, bytes_max: usize) -> Self {
        Sink { batch, name, partition: None, records_max, bytes_max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.records_max || self.batch.size_bytes() >= self.bytes_max
    }

    /// Adds a record; the next one has an offset above.
    pub(super) fn push(&mut self, offset: u64, payload: &[u8]) {
        let partition = *self.partition.get_or_insert_with(|| self.batch.add_partition(self.name.clone()));
        self.batch.push(Record { partition, offset, timestamp_ms: None, key: None, payload: Some(payload) });
    }

    /// Adds a record for what cannot be one: plain words, so that it is refused and counted where records are decoded.
    pub(super) fn push_refused(&mut self, offset: u64, what: std::fmt::Arguments<'_>) {
        self.push(offset, what.to_string().as_bytes());
    }
}
