//! Writes a segment.

use super::Key;
use crate::vfs::FileBytes;
use std::io;

/// Takes postings in key order and makes a segment of them.
pub struct SegmentWriter {}

impl SegmentWriter {
    /// A segment in memory.
    pub fn in_memory() -> Self {
        todo!()
    }
    /// Adds a posting; keys must rise; `bitmap` is in the portable Roaring format. Empty bitmaps are left out.
    pub fn add(&mut self, key: Key<'_>, aux: i64, bitmap: &roaring::RoaringBitmap) -> io::Result<()> {
        let _ = (key, aux, bitmap);
        todo!()
    }
    /// The finished bytes of an in-memory segment.
    pub fn finish_in_memory(self) -> FileBytes {
        todo!()
    }
}
