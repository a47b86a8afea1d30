//! An immutable file of event ids, sorted.
//!
//! A sealed file of kind `BELUGEVT`; all numbers little-endian:
//!
//! ```text
//! events       the bytes of each event, one after another
//! entries      per id by rising key, 32 bytes: key u128 | end of its event u64 | last day i32 | 1 if taken back u32
//! filter       see `filter`
//! trailer      40 bytes: entries at u64 | filter at u64 | entry count u64 | latest last day i32 | 0 u32 | 0 u64
//! ```

use super::{EventKey, Known, Seen, filter};
use crate::error::{MergeError, ReadError};
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const KIND: [u8; 8] = *b"BELUGEVT";
const VERSION: u32 = 1;
const ENTRY_BYTES: usize = 32;
const TRAILER_BYTES: usize = 40;

/// An open file.
#[derive(Debug)]
pub struct Part {
    file: SealedFile,
    entries: Range<usize>,
    filter: Range<usize>,
    last_day: i32,
}

impl Part {
    /// Maps a file and checks its footer, entries' place and filter.
    ///
    /// # Errors
    /// [`ReadError`] if the file cannot be mapped or is damaged there.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Part, ReadError> {
        let file = SealedFile::open(vfs, path, KIND, VERSION)?;
        let len = file.payload_len();
        let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else {
            return Err(file.corrupt(0, "shorter than its trailer"));
        };
        let trailer = file.payload(trailer_at..len)?;
        let number = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("8 bytes"));
        let last_day = i32::from_le_bytes(trailer[24..28].try_into().expect("4 bytes"));
        let (entries, filter, count) = (number(0), number(8), number(16));
        let size = count.checked_mul(ENTRY_BYTES as u64).and_then(|size| entries.checked_add(size));
        if size != Some(filter) || filter.checked_add(filter::size_bytes(count as usize) as u64) != Some(trailer_at) {
            return Err(file.corrupt(trailer_at, "the entries do not fit the file"));
        }
        file.payload(filter..trailer_at)?;
        let (entries, filter) = (entries as usize..filter as usize, filter as usize..trailer_at as usize);
        Ok(Part { file, entries, filter, last_day })
    }

    /// How many ids it has.
    pub fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last day on which any of its ids is known.
    pub fn last_day(&self) -> i32 {
        self.last_day
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What is known of an id.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the file is damaged there.
    pub fn get(&self, key: EventKey) -> Result<Option<Known<'_>>, ReadError> {
        let filter = self.file.payload(self.filter.start as u64..self.filter.end as u64)?;
        if !filter::may_have(filter, key) {
            return Ok(None);
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle)? < key { low = middle + 1 } else { high = middle }
        }
        if low == self.len() || self.key(low)? != key {
            return Ok(None);
        }
        self.entry(low).map(|(_, known)| Some(known))
    }

    fn key(&self, index: usize) -> Result<EventKey, ReadError> {
        let bytes = self.entry_bytes(index)?;
        Ok(EventKey(u128::from_le_bytes(bytes[..16].try_into().expect("16 bytes"))))
    }

    /// The key at a place in key order; `None` behind the last one.
    fn key_or_end(&self, index: usize) -> Result<Option<EventKey>, ReadError> {
        if index < self.len() { self.key(index).map(Some) } else { Ok(None) }
    }

    fn last_day_of(&self, index: usize) -> Result<i32, ReadError> {
        Ok(i32::from_le_bytes(self.entry_bytes(index)?[24..28].try_into().expect("4 bytes")))
    }

    fn entry_bytes(&self, index: usize) -> Result<&[u8], ReadError> {
        let at = (self.entries.start + index * ENTRY_BYTES) as u64;
        self.file.payload(at..at + ENTRY_BYTES as u64)
    }

    /// An id by its place in key order.
    fn entry(&self, index: usize) -> Result<(EventKey, Known<'_>), ReadError> {
        let end_of = |index: usize| -> Result<u64, ReadError> {
            Ok(u64::from_le_bytes(self.entry_bytes(index)?[16..24].try_into().expect("8 bytes")))
        };
        let begin = if index == 0 { 0 } else { end_of(index - 1)? };
        let end = end_of(index)?;
        if begin > end || end > self.entries.start as u64 {
            return Err(self.file.corrupt(self.entries.start as u64, "an event lies outside the file"));
        }
        let bytes = self.entry_bytes(index)?;
        let last_day = i32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes"));
        let seen = if bytes[28] == 0 { Seen::Event(self.file.payload(begin..end)?) } else { Seen::TakenBack };
        Ok((self.key(index)?, Known { last_day, seen }))
    }

    /// Verifies all of it: checksums, order, that the filter misses no key.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] at the first damage.
    pub fn verify(&self) -> Result<(), ReadError> {
        self.file.verify()?;
        let mut before = None;
        for index in 0..self.len() {
            let (key, known) = self.entry(index)?;
            if before.is_some_and(|before| before >= key) || known.last_day > self.last_day {
                return Err(self.file.corrupt(self.entries.start as u64, "ids are not in order"));
            }
            if self.get(key)?.is_none() {
                return Err(self.file.corrupt(self.filter.start as u64, "the filter misses an id"));
            }
            before = Some(key);
        }
        Ok(())
    }
}

/// Writes ids, by rising key, and syncs the file (not its folder). Answers its length.
///
/// # Errors
/// What the disk says.
pub fn write<'s>(vfs: &dyn Vfs, path: &Path, ids: impl Iterator<Item = (EventKey, Known<'s>)>) -> io::Result<u64> {
    let mut writer = SealedWriter::new(vfs.create(path)?, KIND, VERSION);
    let (mut keys, mut entries) = (Vec::new(), Vec::new());
    let mut latest = i32::MIN;
    for (key, Known { last_day, seen }) in ids {
        if let Seen::Event(bytes) = seen {
            writer.append(bytes)?;
        }
        keys.push(key);
        latest = latest.max(last_day);
        entries.extend_from_slice(&key.0.to_le_bytes());
        entries.extend_from_slice(&writer.position().to_le_bytes());
        entries.extend_from_slice(&last_day.to_le_bytes());
        entries.extend_from_slice(&u32::from(seen == Seen::TakenBack).to_le_bytes());
    }
    let mut filter = vec![0; filter::size_bytes(keys.len())];
    keys.iter().for_each(|key| filter::add(&mut filter, *key));
    let entries_at = writer.position();
    writer.append(&entries)?;
    let filter_at = writer.position();
    writer.append(&filter)?;
    for number in [entries_at, filter_at, keys.len() as u64] {
        writer.append(&number.to_le_bytes())?;
    }
    writer.append(&latest.to_le_bytes())?;
    writer.append(&[0; 12])?;
    writer.finish()
}

/// Writes what several files, newest first, still know on this day as one file. Answers its length; `None`, and no file, if
/// that is nothing.
///
/// # Errors
/// [`MergeError`].
pub fn merge(vfs: &dyn Vfs, path: &Path, parts: &[Arc<Part>], today: i32) -> Result<Option<u64>, MergeError> {
    // Where each file's next id is, and its key.
    let mut next: Vec<(usize, Option<EventKey>)> = Vec::with_capacity(parts.len());
    for part in parts {
        next.push((0, part.key_or_end(0)?));
    }
    let mut merged = Vec::new();
    // Of equal keys the newest file's stands first.
    while let Some(key) = next.iter().filter_map(|(_, key)| *key).min() {
        let mut is_newest = true;
        for (index, (at, least)) in next.iter_mut().enumerate() {
            if *least != Some(key) {
                continue;
            }
            if std::mem::take(&mut is_newest) && parts[index].last_day_of(*at)? >= today {
                merged.push((index, *at));
            }
            *at += 1;
            *least = parts[index].key_or_end(*at)?;
        }
    }
    if merged.is_empty() {
        return Ok(None);
    }
    let mut damage = None;
    let entries =
        merged.iter().map_while(|(part, entry)| parts[*part].entry(*entry).map_err(|error| damage = Some(error)).ok());
    let written = write(vfs, path, entries)?;
    match damage {
        Some(error) => Err(error.into()),
        None => Ok(Some(written)),
    }
}
