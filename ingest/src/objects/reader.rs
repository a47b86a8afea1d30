//! An object from front to back: the chunk at hand, and the next one on its way.

use super::{Asked, Handle};
use bytes::Bytes;
use std::io::{self, Read, Seek, SeekFrom};

/// The first chunk behind a seek: often only a head or a footer is wanted.
pub(super) const CHUNK_BYTES_FIRST: u64 = 256 << 10;
/// Chunks double up to this; two of them are in memory.
const CHUNK_BYTES_MAX: u64 = 4 << 20;

/// Nothing is asked for before the first read, but what was asked for ahead.
pub(crate) struct ObjectReader {
    object: Handle,
    position: u64,
    /// What begins at `chunk_begin`.
    chunk: Bytes,
    chunk_begin: u64,
    /// How long the next chunk to be asked for is.
    chunk_bytes: u64,
    /// What is on its way.
    ahead: Option<Asked>,
}

impl ObjectReader {
    pub(super) fn new(object: Handle) -> ObjectReader {
        let (chunk, chunk_bytes, ahead) = (Bytes::new(), CHUNK_BYTES_FIRST, object.take_first());
        ObjectReader { object, position: 0, chunk, chunk_begin: 0, chunk_bytes, ahead }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.object.size_bytes()
    }

    fn at_hand(&self) -> &[u8] {
        let place = self.position.checked_sub(self.chunk_begin).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.chunk.get(place..)).unwrap_or_default()
    }

    fn ask_from(&mut self, begin: u64) {
        let end = begin.saturating_add(self.chunk_bytes).min(self.object.size_bytes());
        if begin < end {
            self.ahead = Some((begin..end, self.object.ask(begin..end)));
            self.chunk_bytes = (self.chunk_bytes * 2).min(CHUNK_BYTES_MAX);
        }
    }

    /// Brings the chunk that begins at the position.
    fn advance(&mut self) -> io::Result<()> {
        if self.ahead.as_ref().is_none_or(|(range, _)| range.start != self.position) {
            self.chunk_bytes = CHUNK_BYTES_FIRST;
            self.ahead = None;
            self.ask_from(self.position);
        }
        let Some((range, answer)) = self.ahead.take() else { return Ok(()) };
        self.chunk = self.object.wait(&answer, &range)?;
        self.chunk_begin = range.start;
        self.ask_from(range.end);
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.object.size_bytes() {
            return Ok(0);
        }
        if self.at_hand().is_empty() {
            self.advance()?;
        }
        let bytes = self.at_hand();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.object.size_bytes().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        let before_begin = || io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the begin");
        self.position = position.ok_or_else(before_begin)?;
        Ok(self.position)
    }
}
