//! Records of NDJSON: lines as they are, empty ones left out.
//!
//! A record's offset is that of its line's last byte, the line feed, so that what comes next is one behind it.

use super::input::{Filled, TextInput};
use super::records::{Progress, ReadError, Records, Sink};
use crate::decode::lines::{LINE_BYTES_MAX, Line, LineSplitter};

pub(super) struct LineRecords {
    input: TextInput,
    splitter: LineSplitter,
    /// Where the open line begins.
    begun: u64,
}

impl LineRecords {
    pub(super) fn new(mut input: TextInput, offset: u64) -> Result<LineRecords, ReadError> {
        input.skip_to(offset)?;
        Ok(LineRecords { input, splitter: LineSplitter::new(LINE_BYTES_MAX), begun: offset })
    }
}

impl Records for LineRecords {
    fn step(&mut self, last: bool, sink: &mut Sink<'_>) -> Result<Progress, ReadError> {
        if self.input.rest().is_empty() {
            match self.input.fill()? {
                Filled::Bytes => {}
                Filled::Skipped => return Ok(Progress::More),
                Filled::End => {
                    if last && let Some(line) = self.splitter.finish() {
                        push(line, self.begun, self.input.offset(), sink);
                        self.begun = self.input.offset();
                    }
                    return Ok(Progress::End);
                }
            }
        }
        while !sink.is_full() {
            let chunk = self.input.rest();
            let mut rest = chunk;
            let line = self.splitter.next_line(&mut rest);
            let used = chunk.len() - rest.len();
            let is_whole = line.is_some();
            if let Some(line) = line {
                let end = self.input.offset() + used as u64;
                push(line, self.begun, end, sink);
                self.begun = end;
            }
            self.input.consume(used);
            if !is_whole {
                break;
            }
        }
        Ok(Progress::More)
    }

    fn position(&self) -> u64 {
        self.begun
    }

    fn reached(&self) -> u64 {
        self.input.offset()
    }
}

/// Adds the line at `begin..end`.
fn push(line: Line<'_>, begin: u64, end: u64, sink: &mut Sink<'_>) {
    match line {
        Line::Whole(bytes) => {
            // A mark of the encoding is no part of the first line.
            let bytes = if begin == 0 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
            if !bytes.trim_ascii().is_empty() {
                sink.push(end - 1, bytes);
            }
        }
        Line::TooLong => {
            let size = end - begin;
            sink.push_refused(
                end - 1,
                format_args!("line of {size} bytes at offset {begin}; {LINE_BYTES_MAX} at most are read"),
            );
        }
    }
}
