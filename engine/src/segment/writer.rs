//! Writes a segment.

use super::format::{self, POSTING_ALIGN};
use super::reader::Stored;
use super::{Key, Segment};
use crate::bitmap::rising;
use crate::ids::Slot;
use crate::vfs::FileBytes;
use crate::vfs::Vfs;
use crate::vfs::sealed::SealedWriter;
use roaring::RoaringBitmap;
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Takes postings in key order and makes a segment of them.
pub struct SegmentWriter {
    sink: Sink,
    keys: Vec<u8>,
    entries: Vec<u8>,
    numbers: Vec<u8>,
    entry_count: u32,
    /// Where the last key begins, to hold callers to the order.
    last_key: usize,
    scratch: Vec<u8>,
}

enum Sink {
    Memory(Vec<u8>),
    File(SealedWriter),
}

impl Sink {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Memory(memory) => {
                memory.extend_from_slice(bytes);
                Ok(())
            }
            Sink::File(file) => file.append(bytes),
        }
    }

    fn position(&self) -> u64 {
        match self {
            Sink::Memory(memory) => memory.len() as u64,
            Sink::File(file) => file.position(),
        }
    }
}

impl SegmentWriter {
    /// A segment in memory.
    pub fn in_memory() -> Self {
        Self::new(Sink::Memory(Vec::new()))
    }

    /// A segment in memory of which about so many bytes are expected.
    pub(crate) fn in_memory_for(bytes: usize) -> Self {
        Self::new(Sink::Memory(Vec::with_capacity(bytes)))
    }

    /// A segment file; it is real when [`SegmentWriter::finish`] has returned and its folder is synced.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(vfs: &dyn Vfs, path: &Path) -> io::Result<Self> {
        Ok(Self::new(Sink::File(SealedWriter::new(vfs.create(path)?, format::KIND, format::VERSION))))
    }

    fn new(sink: Sink) -> Self {
        SegmentWriter {
            sink,
            keys: Vec::new(),
            entries: Vec::new(),
            numbers: Vec::new(),
            entry_count: 0,
            last_key: 0,
            scratch: Vec::new(),
        }
    }

    /// Adds a posting; keys must rise. An empty bitmap is left out, unless it carries a number.
    ///
    /// # Errors
    /// What the disk says.
    pub fn add(&mut self, key: Key<'_>, aux: i64, bitmap: &RoaringBitmap) -> io::Result<()> {
        if bitmap.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bitmap.serialize_into(&mut bytes)?;
        let added = self.add_serialized(key, aux, bitmap.len(), &bytes);
        self.scratch = bytes;
        added
    }

    /// Adds the posting of these slots, which must rise; none is left out.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn add_rising(&mut self, key: Key<'_>, aux: i64, slots: &[Slot]) -> io::Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        rising::serialize(slots, &mut bytes);
        let added = self.add_serialized(key, aux, slots.len() as u64, &bytes);
        self.scratch = bytes;
        added
    }

    /// Adds a block of so many rows, whose bytes `rows` hands over piece by piece, and a number; one without rows is left out.
    ///
    /// # Errors
    /// As [`SegmentWriter::add_serialized`], and those of `rows`.
    ///
    /// # Panics
    /// If keys do not rise.
    pub(crate) fn add_block<E: From<io::Error>>(
        &mut self,
        key: Key<'_>,
        aux: i64,
        row_count: u64,
        rows: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), E>,
    ) -> Result<(), E> {
        if row_count == 0 {
            return Ok(());
        }
        let begin = self.keys.len();
        format::encode_key(key, &mut self.keys);
        self.begin_posting(begin)?;
        let from = self.sink.position();
        let sink = &mut self.sink;
        rows(&mut |piece| sink.append(piece))?;
        Ok(self.end_posting(from, aux, row_count)?)
    }

    /// Adds a posting as it stands in another segment.
    ///
    /// # Errors
    /// What the disk says, or that the segment has grown past what its format can address.
    ///
    /// # Panics
    /// If keys do not rise.
    pub fn add_serialized(&mut self, key: Key<'_>, aux: i64, cardinality: u64, bitmap: &[u8]) -> io::Result<()> {
        let begin = self.keys.len();
        format::encode_key(key, &mut self.keys);
        self.add_behind_key(begin, aux, cardinality, bitmap)
    }

    /// Adds a posting without a number as it stands in another segment, key and all.
    ///
    /// # Errors
    /// As [`SegmentWriter::add_serialized`].
    ///
    /// # Panics
    /// If keys do not rise.
    pub(super) fn add_stored(&mut self, stored: &Stored<'_>) -> io::Result<()> {
        let begin = self.keys.len();
        self.keys.extend_from_slice(stored.key);
        self.add_behind_key(begin, 0, stored.cardinality, stored.bitmap)
    }

    /// Adds the posting of the key that was appended at `begin`.
    fn add_behind_key(&mut self, begin: usize, aux: i64, cardinality: u64, bitmap: &[u8]) -> io::Result<()> {
        self.begin_posting(begin)?;
        let from = self.sink.position();
        self.sink.append(bitmap)?;
        self.end_posting(from, aux, cardinality)
    }

    /// Takes the key that was appended at `begin`; what is appended next belongs to it.
    fn begin_posting(&mut self, begin: usize) -> io::Result<()> {
        let (before, key) = self.keys.split_at(begin);
        assert!(self.entry_count == 0 || before[self.last_key..] < *key, "keys rise: {:?}", format::decode_key(key));
        self.last_key = begin;

        let padding = self.sink.position().next_multiple_of(POSTING_ALIGN) - self.sink.position();
        self.sink.append(&[0; POSTING_ALIGN as usize][..padding as usize])
    }

    /// Enters what was appended since `from` into the directory.
    fn end_posting(&mut self, from: u64, aux: i64, cardinality: u64) -> io::Result<()> {
        let small = |number: u64| {
            u32::try_from(number).map_err(|_| {
                let message = "a segment has grown past 16 GiB; make the data directory with more shards";
                io::Error::new(io::ErrorKind::FileTooLarge, message)
            })
        };
        let len = self.sink.position() - from;
        for number in [self.keys.len() as u64, from / POSTING_ALIGN, len, cardinality] {
            self.entries.extend_from_slice(&small(number)?.to_le_bytes());
        }
        if aux != 0 {
            self.numbers.extend_from_slice(&self.entry_count.to_le_bytes());
            self.numbers.extend_from_slice(&aux.to_le_bytes());
        }
        self.entry_count += 1;
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    fn finish_payload(&mut self) -> io::Result<()> {
        let keys_at = self.sink.position();
        let entries_at = keys_at + self.keys.len() as u64;
        let numbers_at = entries_at + self.entries.len() as u64;
        let index_at = numbers_at + self.numbers.len() as u64;
        let index = self.hash_index();
        if let Sink::Memory(memory) = &mut self.sink {
            memory.reserve_exact(index_at as usize + index.len() + format::TRAILER_BYTES - memory.len());
        }
        for part in [&self.keys, &self.entries, &self.numbers, &index] {
            self.sink.append(part)?;
        }
        let mut trailer = Vec::with_capacity(format::TRAILER_BYTES);
        for offset in [keys_at, entries_at, numbers_at, index_at] {
            trailer.extend_from_slice(&offset.to_le_bytes());
        }
        trailer.extend_from_slice(&self.entry_count.to_le_bytes());
        trailer.extend_from_slice(&[0; 4]);
        self.sink.append(&trailer)
    }

    fn hash_index(&self) -> Vec<u8> {
        let len = format::index_len(self.entry_count as usize);
        let mut index = vec![0; len * 4];
        let places = index.as_chunks_mut::<4>().0;
        let mut begin = 0;
        for (number, entry) in self.entries.as_chunks::<{ format::ENTRY_BYTES }>().0.iter().enumerate() {
            let end = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
            let mut at = xxh3_64(&self.keys[begin..end]) as usize & (len - 1);
            while places[at] != [0; 4] {
                at = (at + 1) & (len - 1);
            }
            places[at] = (number as u32 + 1).to_le_bytes();
            begin = end;
        }
        index
    }

    /// Ends a segment file and syncs it (not its folder). Answers its length.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(mut self) -> io::Result<u64> {
        self.finish_payload()?;
        match self.sink {
            Sink::Memory(memory) => Ok(memory.len() as u64),
            Sink::File(file) => file.finish(),
        }
    }

    /// The finished in-memory segment. It was written here and never left memory, so nothing of it is checked again.
    ///
    /// # Panics
    /// If the segment is a file.
    pub fn into_segment(self) -> Segment {
        Segment::trusted(self.finish_in_memory())
    }

    /// The finished bytes of an in-memory segment.
    ///
    /// # Panics
    /// If the segment is a file.
    pub fn finish_in_memory(mut self) -> FileBytes {
        self.finish_payload().expect("memory does not fail");
        match self.sink {
            Sink::Memory(memory) => FileBytes::new(memory),
            Sink::File(_) => panic!("begun by in_memory"),
        }
    }
}
