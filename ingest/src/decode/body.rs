//! A whole body: chunks in, batches out, errors by line.

use super::error::{LineError, LineErrorKind};
use super::events::EventDecoder;
use super::lines::{Line, LineSplitter};
use super::tags::TagDecoder;
use super::user_list::UserListDecoder;
use super::vectors::VectorDecoder;
use engine::update::UpdateBatch;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the body at which a batch counts as full. Full batches end at the same lines however a body is cut into chunks
/// and whatever the catalog has become, so the n-th batch of a body sent again is the same.
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
    /// Tells which ones: a sum of hashes of their numbers, so that what a part of a body adds is a difference.
    pub rejected_lines: u64,
    /// The first [`ERRORS_KEPT_MAX`] refused lines, by line number from 1.
    pub errors: Vec<(u64, LineError)>,
}

impl LineReport {
    /// Counts a refused line.
    pub(super) fn refuse(&mut self, line: u64, error: LineError) {
        self.rejected += 1;
        self.rejected_lines = self.rejected_lines.wrapping_add(xxh3_64(&line.to_le_bytes()));
        if self.errors.len() < ERRORS_KEPT_MAX {
            self.errors.push((line, error));
        }
    }
}

/// What lines are decoded by.
#[derive(Clone, Debug)]
pub enum LineDecoder {
    /// Lines of `POST /v1/tags`.
    Tags(TagDecoder),
    /// Lines of `POST /v1/facts/{fact}`.
    Events(Box<EventDecoder>),
    /// Lines of `POST /v1/spaces/{space}`.
    Vectors(VectorDecoder),
    /// A list of users.
    UserList(UserListDecoder),
}

impl LineDecoder {
    /// True if the line was a record; a header is none.
    pub(crate) fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<bool, LineError> {
        match self {
            LineDecoder::Tags(decoder) => decoder.decode(line, batch).map(|()| true),
            LineDecoder::Events(decoder) => decoder.decode(line, batch).map(|()| true),
            LineDecoder::Vectors(decoder) => decoder.decode(line, batch).map(|()| true),
            LineDecoder::UserList(decoder) => decoder.decode(line, batch),
        }
    }

    /// What to write instead of a line that is too long.
    fn instead_of_long_lines(&self) -> Option<&'static str> {
        match self {
            LineDecoder::Tags(_) => Some("split it: lines of one user add up"),
            LineDecoder::Vectors(_) => {
                Some("write fewer digits of each number, or send Arrow, or raise the setting `line_bytes_max`")
            }
            LineDecoder::Events(_) | LineDecoder::UserList(_) => Some("raise the setting `line_bytes_max`"),
        }
    }

    /// When the event of the last line that was taken happened, in microseconds since 1970.
    pub(crate) fn event_time(&self) -> Option<i64> {
        match self {
            LineDecoder::Events(decoder) => Some(decoder.event_time()),
            LineDecoder::Tags(_) | LineDecoder::Vectors(_) | LineDecoder::UserList(_) => None,
        }
    }
}

/// Decodes a body that arrives in chunks. Empty lines are skipped, but counted in line numbers; so is a byte order
/// mark.
#[derive(Clone, Debug)]
pub struct BodyReader {
    decoder: LineDecoder,
    splitter: LineSplitter,
    lines: LineCounter,
    /// Bytes of the body since the last full batch.
    batch_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct LineCounter {
    report: LineReport,
    line_number: u64,
}

impl BodyReader {
    /// A reader of one body.
    pub fn new(decoder: LineDecoder, line_bytes_max: usize) -> Self {
        BodyReader {
            decoder,
            splitter: LineSplitter::new(line_bytes_max),
            lines: LineCounter::default(),
            batch_bytes: 0,
        }
    }

    /// Decodes lines from the begin of `chunk` into `batch` and moves `chunk` behind them. True when the batch is
    /// full: take it, clear it, and call again with the rest of the chunk. False when the chunk is used up.
    pub fn feed(&mut self, chunk: &mut &[u8], batch: &mut UpdateBatch) -> bool {
        let line_bytes_max = self.splitter.line_bytes_max();
        let mut bytes_left = chunk.len();
        while let Some(line) = self.splitter.next_line(chunk) {
            self.lines.take(line, line_bytes_max, &mut self.decoder, batch);
            self.batch_bytes += bytes_left - chunk.len();
            bytes_left = chunk.len();
            if self.batch_bytes >= BATCH_BYTES {
                self.batch_bytes = 0;
                return true;
            }
        }
        self.batch_bytes += bytes_left - chunk.len();
        false
    }

    /// What became of the lines so far.
    pub fn report(&self) -> &LineReport {
        &self.lines.report
    }

    /// Decodes the last line, if the body does not end with a line feed, and answers what became of all lines.
    pub fn finish(mut self, batch: &mut UpdateBatch) -> LineReport {
        let line_bytes_max = self.splitter.line_bytes_max();
        if let Some(line) = self.splitter.finish() {
            self.lines.take(line, line_bytes_max, &mut self.decoder, batch);
        }
        self.lines.report
    }
}

impl LineCounter {
    fn take(&mut self, line: Line<'_>, line_bytes_max: usize, decoder: &mut LineDecoder, batch: &mut UpdateBatch) {
        self.line_number += 1;
        let decoded = match line {
            Line::Whole(bytes) => {
                let bytes =
                    if self.line_number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
                if bytes.trim_ascii().is_empty() {
                    return;
                }
                decoder.decode(bytes, batch)
            }
            Line::TooLong => {
                let message = format!("the line is longer than {line_bytes_max} bytes");
                let error = LineError::new(LineErrorKind::TooLong, message);
                Err(match decoder.instead_of_long_lines() {
                    Some(instead) => error.suggest(instead),
                    None => error,
                })
            }
        };
        match decoded {
            Ok(is_record) => self.report.accepted += u64::from(is_record),
            Err(error) => self.report.refuse(self.line_number, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::catalog::{Catalog, Metric, Space, TagType};
    use engine::ids::TagId;

    fn reader(line_bytes_max: usize) -> BodyReader {
        let mut catalog = Catalog::default();
        catalog.declare("gender", TagType::Enum).expect("good name");
        BodyReader::new(LineDecoder::Tags(TagDecoder::new(&catalog)), line_bytes_max)
    }

    #[test]
    fn errors_carry_line_numbers() {
        let body = b"\xef\xbb\xbf{\"user_id\":\"a\"}\n\n{\"user_id\":1,\"set\":{\"gender\":\"fffffffffffffffff\"}}\r\n{\"user_id\":}\n{\"user_id\":\"d\"}";
        for chunk_len in 1..body.len() {
            let mut reader = reader(40);
            let mut batch = UpdateBatch::new();
            for mut chunk in body.chunks(chunk_len) {
                assert!(!reader.feed(&mut chunk, &mut batch));
            }
            let report = reader.finish(&mut batch);
            assert_eq!((report.accepted, report.rejected, batch.user_count()), (2, 2, 2));
            let errors: Vec<_> = report.errors.iter().map(|(line, error)| (*line, error.kind)).collect();
            assert_eq!(errors, [(3, LineErrorKind::TooLong), (4, LineErrorKind::Syntax)]);
        }
    }

    #[test]
    fn what_to_write_instead_of_a_long_line_is_told_by_what_it_is() {
        let space = Space { id: TagId(16), dimension: 2, metric: Metric::L2 };
        let vectors = BodyReader::new(LineDecoder::Vectors(VectorDecoder::new(&space)), 40);
        for (mut reader, part) in [(reader(40), "lines of one user add up"), (vectors, "fewer digits")] {
            let line = format!("{{\"user_id\":\"{}\"}}\n", "u".repeat(50));
            let (mut chunk, mut batch) = (line.as_bytes(), UpdateBatch::new());
            assert!(!reader.feed(&mut chunk, &mut batch));
            let (_, error) = &reader.report().errors[0];
            assert!(error.suggestion.as_deref().is_some_and(|told| told.contains(part)), "{error}");
        }
    }

    #[test]
    fn batches_end_at_the_same_lines_for_any_chunks() {
        let body: Vec<u8> = (0..40_000)
            .flat_map(|user| format!("{{\"user_id\":\"user-with-a-long-id-{user:060}\"}}\n").into_bytes())
            .collect();
        let cut = |chunk_len: usize| {
            let (mut reader, mut batch, mut batches) = (reader(1 << 20), UpdateBatch::new(), Vec::new());
            for mut chunk in body.chunks(chunk_len) {
                while reader.feed(&mut chunk, &mut batch) {
                    batches.push(std::mem::take(&mut batch).as_bytes().to_vec());
                }
            }
            assert_eq!(reader.finish(&mut batch).accepted, 40_000);
            batches.push(batch.as_bytes().to_vec());
            batches
        };
        let whole = cut(body.len());
        assert!(whole.len() > 3);
        assert!(cut(1000) == whole && cut(77_777) == whole);
    }
}
