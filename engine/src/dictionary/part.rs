//! An immutable file of the ids of a slot range. All numbers little-endian.
//!
//! The payload of a sealed file of kind `BELUGIDS`:
//!
//! ```text
//! records   the ids by slot, each as in `record`
//! groups    u32 for every eighth slot: where its record begins
//! index     8 bytes each, four for every three slots: low half of the id's hash u32 | where its record begins + 1 u32,
//!           0 if free; begins at (hash * length) >> 64, linear probing; erased ids are not in it
//! trailer   24 bytes: groups at u64 | index at u64 | first slot u32 | slot count u32
//! ```

use super::record::{GROUP, HEADER_BYTES, Header};
use crate::error::ReadError;
use crate::ids::{Slot, USER_ID_BYTES_MAX};
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use std::io;
use std::ops::Range;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const KIND: [u8; 8] = *b"BELUGIDS";
const VERSION: u32 = 2;
const TRAILER_BYTES: u64 = 24;
const INDEX_ENTRY_BYTES: u64 = 8;
/// Entries whose bytes are checked together: more than most look-ups read.
const ENTRIES_AT_ONCE: u64 = 16;
/// Bytes of a record that are checked together: most records are shorter.
const RECORD_AT_ONCE: u64 = 64;

/// What of a part a look-up reads one after another, each place told by the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warm {
    Index,
    Record,
}

/// An open part.
#[derive(Debug)]
pub struct Part {
    file: SealedFile,
    slots: Range<Slot>,
    groups_at: u64,
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

/// Writes the ids of `slots`, in this order, as a part and syncs it (not its folder). Answers its length.
///
/// # Errors
/// What the disk says.
pub fn write_part<'a>(
    vfs: &dyn Vfs,
    path: &Path,
    slots: Range<Slot>,
    ids: impl Iterator<Item = &'a [u8]>,
) -> io::Result<u64> {
    let mut writer = SealedWriter::new(vfs.create(path)?, KIND, VERSION);
    let mut groups: Vec<u32> = Vec::with_capacity(slots.len().div_ceil(GROUP as usize));
    let mut index = vec![0u64; index_len(slots.len() as u64) as usize];
    for (slot, id) in slots.clone().zip(ids) {
        let message = "the ids of a shard have grown past 4 GiB; make the data directory with more shards";
        let after =
            u32::try_from(writer.position() + 1).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, message))?;
        if (slot - slots.start).is_multiple_of(GROUP) {
            groups.push(after - 1);
        }
        writer.append(&Header::of(slot, id).to_bytes())?;
        writer.append(id)?;
        if !id.is_empty() {
            let hash = xxh3_64(id);
            let mut place = home(hash, index.len() as u64) as usize;
            while index[place] != 0 {
                place = (place + 1) % index.len();
            }
            index[place] = u64::from(hash as u32) | u64::from(after) << 32;
        }
    }
    let groups_at = writer.position();
    for position in &groups {
        writer.append(&position.to_le_bytes())?;
    }
    let index_at = writer.position();
    for entry in &index {
        writer.append(&entry.to_le_bytes())?;
    }
    writer.append(&groups_at.to_le_bytes())?;
    writer.append(&index_at.to_le_bytes())?;
    writer.append(&slots.start.to_le_bytes())?;
    writer.append(&(slots.len() as u32).to_le_bytes())?;
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
        let (groups_at, index_at) = (wide(0), wide(8));
        let (first, count) = (wide(16) as u32, wide(16) >> 32);
        let index_len = index_len(count);
        let fits = groups_at.checked_add(count.div_ceil(GROUP.into()) * 4) == Some(index_at)
            && groups_at <= u64::from(u32::MAX) + (HEADER_BYTES + USER_ID_BYTES_MAX) as u64
            && index_at.checked_add(index_len * INDEX_ENTRY_BYTES) == Some(trailer_at)
            && u64::from(first) + count <= u64::from(u32::MAX);
        if !fits {
            return Err(file.corrupt(trailer_at, "the dictionary's tables do not fit the file"));
        }
        let slots = first..first + count as u32;
        Ok(Part { file, slots, groups_at, index_at, index_len })
    }

    /// The slots it covers.
    pub fn slots(&self) -> Range<Slot> {
        self.slots.clone()
    }

    /// The record that begins at a position.
    #[inline]
    fn record(&self, position: u64) -> Result<(Header, &[u8]), ReadError> {
        let damaged = || self.file.corrupt(position, "an id reaches beyond the ids");
        let bytes = self.file.payload(position..self.groups_at.min(position + RECORD_AT_ONCE))?;
        let (header, id) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(damaged)?;
        let header = Header::read(header);
        if let Some(id) = id.get(..usize::from(header.id_len)) {
            return Ok((header, id));
        }
        let end = position + header.record_len() as u64;
        if end > self.groups_at {
            return Err(damaged());
        }
        Ok((header, self.file.payload(position + HEADER_BYTES as u64..end)?))
    }

    /// The id of a slot of this part; empty if it was erased.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if it is damaged.
    pub fn id(&self, slot: Slot) -> Result<&[u8], ReadError> {
        let at = slot - self.slots.start;
        let from = self.groups_at + u64::from(at / GROUP) * 4;
        let position = self.file.payload(from..from + 4)?;
        let mut position = u64::from(u32::from_le_bytes(position.try_into().expect("4 bytes")));
        for _ in 0..at % GROUP {
            position += self.record(position)?.0.record_len() as u64;
        }
        let (header, id) = self.record(position)?;
        if header.slot != slot {
            return Err(self.file.corrupt(position, "the id of another slot"));
        }
        Ok(id)
    }

    /// The ids by slot; ends with the first error.
    pub fn ids(&self) -> impl Iterator<Item = Result<&[u8], ReadError>> {
        let mut position = Some(0);
        self.slots().map_while(move |slot| {
            let at = position.take()?;
            Some(self.record(at).and_then(|(header, id)| {
                if header.slot != slot {
                    return Err(self.file.corrupt(at, "the id of another slot"));
                }
                position = Some(at + header.record_len() as u64);
                Ok(id)
            }))
        })
    }

    /// Has fetched what [`Part::find`] will read next, when it was told what came before.
    pub(super) fn warm(&self, hash: u64, step: Warm) {
        let entry_at = self.index_at + home(hash, self.index_len) * INDEX_ENTRY_BYTES;
        if step == Warm::Index {
            return self.file.prefetch(entry_at);
        }
        let Ok(entry) = self.file.payload(entry_at..entry_at + INDEX_ENTRY_BYTES) else { return };
        let entry = u64::from_le_bytes(entry.try_into().expect("8 bytes"));
        if let Some(position) = (entry >> 32).checked_sub(1).filter(|_| entry as u32 == hash as u32) {
            self.file.prefetch(position);
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
                let Some(position) = (entry >> 32).checked_sub(1) else {
                    return Err(self.file.corrupt(from, "the index points nowhere"));
                };
                let (header, found) = self.record(position)?;
                if found == id {
                    if !self.slots.contains(&header.slot) {
                        return Err(self.file.corrupt(position, "a slot outside the part"));
                    }
                    return Ok(Some(header.slot));
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
        for (slot, id) in self.slots().zip(self.ids()) {
            let id = id?;
            if self.id(slot)? != id {
                return Err(self.file.corrupt(self.groups_at, "a group begins elsewhere"));
            }
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
