//! An immutable file of the ids of a slot range. All numbers little-endian.
//!
//! The payload of a sealed file of kind `BELUGIDS`:
//!
//! ```text
//! ids       the ids' bytes one after another, by slot; an erased id has none
//! ends      u32 per slot: end of its id
//! index     8 bytes each, four for every three slots: low half of the id's hash u32 | slot - first + 1 u32, 0 if free;
//!           begins at (hash * length) >> 64, linear probing
//! trailer   24 bytes: ends at u64 | index at u64 | first slot u32 | slot count u32
//! ```

use crate::error::ReadError;
use crate::ids::Slot;
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use std::io;
use std::ops::Range;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const KIND: [u8; 8] = *b"BELUGIDS";
const VERSION: u32 = 1;
const TRAILER_BYTES: u64 = 24;
const INDEX_ENTRY_BYTES: u64 = 8;
/// Entries whose bytes are checked together: more than most look-ups read.
const ENTRIES_AT_ONCE: u64 = 16;

/// What of a part a look-up reads one after another, each place told by the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warm {
    Index,
    End,
    Id,
}

/// An open part.
#[derive(Debug)]
pub struct Part {
    file: SealedFile,
    slots: Range<Slot>,
    ends_at: u64,
    index_at: u64,
    index_len: u64,
}

fn index_len(count: u64) -> u64 {
    count * 4 / 3 + 1
}

/// Where an id with this hash is looked for first.
fn home(hash: u64, len: u64) -> u64 {
    ((u128::from(hash) * u128::from(len)) >> 64) as u64
}

/// Writes a part and syncs it (not its folder). Answers its length.
///
/// # Errors
/// What the disk says.
pub fn write_part<'a>(vfs: &dyn Vfs, path: &Path, first: Slot, ids: impl Iterator<Item = &'a [u8]>) -> io::Result<u64> {
    let mut writer = SealedWriter::new(vfs.create(path)?, KIND, VERSION);
    let mut ends: Vec<u32> = Vec::new();
    let mut hashes: Vec<Option<u64>> = Vec::new();
    let mut end = 0u64;
    for id in ids {
        writer.append(id)?;
        end += id.len() as u64;
        let message = "the ids of a shard have grown past 4 GiB; make the data directory with more shards";
        ends.push(u32::try_from(end).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, message))?);
        hashes.push((!id.is_empty()).then(|| xxh3_64(id)));
    }
    let ends_at = writer.position();
    for end in &ends {
        writer.append(&end.to_le_bytes())?;
    }
    let index_at = writer.position();
    let len = index_len(ends.len() as u64);
    let mut index = vec![0u64; len as usize];
    for (at, hash) in hashes.iter().enumerate() {
        let Some(hash) = hash else { continue };
        let mut place = home(*hash, len) as usize;
        while index[place] != 0 {
            place = (place + 1) % index.len();
        }
        index[place] = u64::from(*hash as u32) | (at as u64 + 1) << 32;
    }
    for entry in &index {
        writer.append(&entry.to_le_bytes())?;
    }
    writer.append(&ends_at.to_le_bytes())?;
    writer.append(&index_at.to_le_bytes())?;
    writer.append(&first.to_le_bytes())?;
    writer.append(&(ends.len() as u32).to_le_bytes())?;
    writer.finish()
}

impl Part {
    /// Maps a part and checks its footer.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be mapped or is damaged there.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, ReadError> {
        let file = SealedFile::open(vfs, path, KIND, VERSION)?;
        let len = file.payload_len();
        let Some(trailer_at) = len.checked_sub(TRAILER_BYTES) else {
            return Err(file.corrupt(0, "shorter than a dictionary part's trailer"));
        };
        let trailer = file.payload(trailer_at..len)?;
        let wide = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("8 bytes"));
        let (ends_at, index_at) = (wide(0), wide(8));
        let (first, count) = (wide(16) as u32, wide(16) >> 32);
        let index_len = index_len(count);
        let fits = ends_at.checked_add(count * 4) == Some(index_at)
            && index_at.checked_add(index_len * INDEX_ENTRY_BYTES) == Some(trailer_at)
            && u64::from(first) + count <= u64::from(u32::MAX);
        if !fits {
            return Err(file.corrupt(trailer_at, "the dictionary's tables do not fit the file"));
        }
        let slots = first..first + count as u32;
        Ok(Part { file, slots, ends_at, index_at, index_len })
    }

    /// The slots it covers.
    pub fn slots(&self) -> Range<Slot> {
        self.slots.clone()
    }

    fn end(&self, at: u64) -> Result<u64, ReadError> {
        let from = self.ends_at + at * 4;
        let bytes = self.file.payload(from..from + 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("4 bytes")).into())
    }

    /// The id of a slot of this part; empty if it was erased.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if it is damaged.
    pub fn id(&self, slot: Slot) -> Result<&[u8], ReadError> {
        let at = u64::from(slot - self.slots.start);
        let begin = if at == 0 { 0 } else { self.end(at - 1)? };
        let end = self.end(at)?;
        if begin > end || end > self.ends_at {
            return Err(self.file.corrupt(self.ends_at + at * 4, "an id ends before it begins"));
        }
        self.file.payload(begin..end)
    }

    /// Has fetched what [`Part::find`] will read next, when it was told what came before.
    pub(super) fn warm(&self, hash: u64, step: Warm) {
        let entry_at = self.index_at + home(hash, self.index_len) * INDEX_ENTRY_BYTES;
        if step == Warm::Index {
            return self.file.prefetch(entry_at);
        }
        let Ok(entry) = self.file.payload(entry_at..entry_at + INDEX_ENTRY_BYTES) else { return };
        let entry = u64::from_le_bytes(entry.try_into().expect("8 bytes"));
        let Some(before) = (entry >> 32).checked_sub(2).filter(|_| entry as u32 == hash as u32) else { return };
        if step == Warm::End {
            self.file.prefetch(self.ends_at + before * 4);
        } else if let Ok(begin) = self.end(before) {
            self.file.prefetch(begin);
        }
    }

    /// The slot of an id with this hash.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if what is touched is damaged.
    pub fn find(&self, id: &[u8], hash: u64) -> Result<Option<Slot>, ReadError> {
        if self.slots.is_empty() {
            return Ok(None);
        }
        let (mut place, mut looked) = (home(hash, self.index_len), 0);
        while looked < self.index_len {
            let count = ENTRIES_AT_ONCE.min(self.index_len - place);
            let from = self.index_at + place * INDEX_ENTRY_BYTES;
            let entries = self.file.payload(from..from + count * INDEX_ENTRY_BYTES)?;
            for entry in entries.as_chunks::<{ INDEX_ENTRY_BYTES as usize }>().0 {
                let entry = u64::from_le_bytes(*entry);
                if entry == 0 {
                    return Ok(None);
                }
                if entry as u32 != hash as u32 {
                    continue;
                }
                let at = ((entry >> 32) as u32).checked_sub(1).filter(|at| *at < self.slots.len() as u32);
                let Some(at) = at else {
                    return Err(self.file.corrupt(from, "the index points outside the part"));
                };
                let slot = self.slots.start + at;
                if self.id(slot)? == id {
                    return Ok(Some(slot));
                }
            }
            looked += count;
            place = if place + count == self.index_len { 0 } else { place + count };
        }
        Ok(None)
    }

    /// Verifies all of it: checksums, and that each id is found under its slot.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] at the first damage.
    pub fn verify(&self) -> Result<(), ReadError> {
        self.file.verify()?;
        for slot in self.slots() {
            let id = self.id(slot)?;
            if !id.is_empty() && self.find(id, xxh3_64(id))? != Some(slot) {
                return Err(self.file.corrupt(self.index_at, "the index misses an id"));
            }
        }
        Ok(())
    }

    /// An error that names this part.
    pub fn corrupt(&self, what: &str) -> ReadError {
        self.file.corrupt(0, what)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }
}
