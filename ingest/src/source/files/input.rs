//! A text file's bytes from an offset on, unpacked if it is gzipped.
//!
//! Offsets count unpacked bytes. A plain file is sought; a packed one is unpacked from its begin and what lies before the
//! offset thrown away, a buffer at a time.

use super::records::ReadError;
use crate::objects::{FileBytes, Place};
use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

const BUFFER_BYTES: usize = 1 << 18;

pub(super) struct TextInput {
    bytes: Bytes,
    buffer: Vec<u8>,
    /// What of the buffer is not consumed yet.
    begin: usize,
    end: usize,
    /// The offset of the next byte.
    offset: u64,
    /// Bytes that are to be gone over before any is given.
    skip_bytes: u64,
}

enum Bytes {
    Plain(FileBytes),
    Gzip(Box<MultiGzDecoder<BufReader<FileBytes>>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There are bytes.
    Bytes,
    /// Bytes were gone over.
    Skipped,
    /// There are no more, for now.
    End,
}

impl TextInput {
    /// # Errors
    /// [`ReadError::Short`] if a plain file is shorter than `offset_min`.
    pub(super) fn open(place: &Place, gzip: bool, offset_min: u64) -> Result<TextInput, ReadError> {
        let file = place.open()?;
        let bytes = if gzip {
            let packed = BufReader::with_capacity(BUFFER_BYTES / 4, file);
            Bytes::Gzip(Box::new(MultiGzDecoder::new(packed)))
        } else {
            let end = file.size_bytes()?;
            if end < offset_min {
                return Err(ReadError::Short { end });
            }
            Bytes::Plain(file)
        };
        Ok(TextInput { bytes, buffer: Vec::new(), begin: 0, end: 0, offset: 0, skip_bytes: 0 })
    }

    /// The offset of the next byte; while bytes are gone over, where that is.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes at hand.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.begin);
        self.begin += count;
        self.offset += count as u64;
    }

    /// Goes forward to `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let at_hand = (self.end - self.begin) as u64;
        let distance = offset.saturating_sub(self.offset);
        self.consume(distance.min(at_hand) as usize);
        if distance > at_hand {
            match &mut self.bytes {
                Bytes::Plain(file) => self.offset = file.seek(SeekFrom::Start(offset))?,
                Bytes::Gzip(_) => self.skip_bytes = distance - at_hand,
            }
        }
        Ok(())
    }

    /// Gets the next bytes, once those at hand are consumed. At the end of a plain file it may be tried again.
    ///
    /// # Errors
    /// [`ReadError::Short`] if the text ends before the place to skip to.
    pub(super) fn fill(&mut self) -> Result<Filled, ReadError> {
        debug_assert_eq!(self.begin, self.end);
        self.buffer.resize(BUFFER_BYTES, 0);
        let count = self.read()?;
        (self.begin, self.end) = (0, count);
        if count == 0 {
            // A file that waits to grow needs no buffer.
            self.buffer = Vec::new();
            return if self.skip_bytes > 0 { Err(ReadError::Short { end: self.offset }) } else { Ok(Filled::End) };
        }
        let skipped = self.skip_bytes.min(count as u64);
        self.skip_bytes -= skipped;
        self.consume(skipped as usize);
        Ok(if self.begin == self.end { Filled::Skipped } else { Filled::Bytes })
    }

    fn read(&mut self) -> io::Result<usize> {
        loop {
            let read = match &mut self.bytes {
                Bytes::Plain(file) => file.read(&mut self.buffer),
                Bytes::Gzip(unpacked) => unpacked.read(&mut self.buffer),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// The end of the last whole line, or of the text if it is not to grow.
pub(super) fn end_of_lines(place: &Place, gzip: bool, grows: bool) -> Result<u64, ReadError> {
    if !gzip {
        let mut file = place.open()?;
        let size = file.size_bytes()?;
        return Ok(if grows { last_line_end(&mut file, size)? } else { size });
    }
    let mut input = TextInput::open(place, gzip, 0)?;
    let mut line_end = 0;
    while input.fill()? != Filled::End {
        let rest = input.rest();
        if let Some(at) = memchr::memrchr(b'\n', rest) {
            line_end = input.offset() + at as u64 + 1;
        }
        let count = rest.len();
        input.consume(count);
    }
    Ok(if grows { line_end } else { input.offset() })
}

/// Looks backwards for a line feed.
fn last_line_end(file: &mut FileBytes, size: u64) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut end = size;
    while end > 0 {
        let count = (buffer.len() as u64).min(end);
        let begin = end - count;
        file.seek(SeekFrom::Start(begin))?;
        let chunk = &mut buffer[..count as usize];
        file.read_exact(chunk)?;
        if let Some(at) = memchr::memrchr(b'\n', chunk) {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
