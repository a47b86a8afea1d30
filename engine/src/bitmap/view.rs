//! A read-only face over bytes in the portable Roaring format.

/// A validated bitmap over borrowed bytes; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct BitmapView<'a> {
    bytes: &'a [u8],
}

/// Why bytes are not a bitmap in the portable format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a portable Roaring bitmap: at byte {offset_bytes}: {what}")]
pub struct FormatError {
    /// Offset in the bitmap.
    pub offset_bytes: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl<'a> BitmapView<'a> {
    /// Checks every container (order, cardinality, bounds) and takes the bytes, which must be exactly one bitmap.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let _ = bytes;
        todo!()
    }
    /// Takes bytes that [`BitmapView::new`] accepted before. Wrong bytes give wrong answers or a panic, never undefined
    /// behaviour.
    pub fn trusted(bytes: &'a [u8]) -> Self {
        BitmapView { bytes }
    }
    /// The serialised bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// Number of slots in the set. O(containers).
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Membership.
    pub fn contains(&self, slot: u32) -> bool {
        let _ = slot;
        todo!()
    }
    /// Ascending slots.
    pub fn iter(&self) -> impl Iterator<Item = u32> + 'a {
        std::iter::empty()
    }
    /// Number of containers (chunks with at least one slot).
    pub fn container_count(&self) -> usize {
        todo!()
    }
    /// Number of slots in this chunk, without touching the container.
    pub fn chunk_len(&self, chunk: u16) -> u32 {
        let _ = chunk;
        todo!()
    }
}
