//! A whole body: chunks in, batches out, errors by line.

use super::error::LineError;
use super::lines::LineSplitter;
use super::tags::TagDecoder;
use super::user_list::UserListDecoder;
use engine::update::UpdateBatch;

/// Bytes at which a batch counts as full. Full batches end at the same lines however a body is cut into chunks, so
/// the n-th batch of a body sent again is the same.
pub const BATCH_BYTES: usize = 1 << 20;

/// How many refused lines of a body are kept with their reason; the others are only counted.
pub const ERRORS_KEPT_MAX: usize = 100;

/// What became of a body's lines so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineReport {
    /// Lines taken.
    pub accepted: u64,
    /// Lines refused.
    pub rejected: u64,
    /// The first [`ERRORS_KEPT_MAX`] refused lines, by line number from 1.
    pub errors: Vec<(u64, LineError)>,
}

/// What lines are decoded by.
#[derive(Clone, Debug)]
pub enum LineDecoder {
    /// Lines of `POST /v1/tags`.
    Tags(TagDecoder),
    /// A list of users.
    UserList(UserListDecoder),
}

/// Decodes a body that arrives in chunks. Empty lines are skipped.
#[derive(Debug)]
pub struct BodyReader {
    decoder: LineDecoder,
    splitter: LineSplitter,
    report: LineReport,
    line_number: u64,
}

impl BodyReader {
    /// A reader of one body.
    pub fn new(decoder: LineDecoder, line_bytes_max: usize) -> Self {
        let splitter = LineSplitter::new(line_bytes_max);
        BodyReader { decoder, splitter, report: LineReport::default(), line_number: 0 }
    }

    /// Decodes lines from the begin of `chunk` into `batch` and moves `chunk` behind them. True when the batch is
    /// full: take it, clear it, and call again with the rest of the chunk. False when the chunk is used up.
    pub fn feed(&mut self, chunk: &mut &[u8], batch: &mut UpdateBatch) -> bool {
        let _ = (chunk, batch);
        todo!()
    }

    /// Decodes the last line, if the body does not end with a line feed, and answers what became of all lines.
    pub fn finish(self, batch: &mut UpdateBatch) -> LineReport {
        let _ = batch;
        todo!()
    }
}
