//! The write-ahead log: what was accepted and is not in a checkpoint yet.
//!
//! Numbered files `wal/<first lsn>.log` of records, all numbers little-endian:
//!
//! ```text
//! record = length of the payload u32 | kind u8 | [0; 3] | lsn u64 | durable u64 | xxh3 of all that and the payload u64 | payload
//! ```
//!
//! `durable` is the LSN before which all was durable when the record was written.
//!
//! Appending assigns the LSN; [`Log::sync`] makes everything up to one durable, one caller for all who wait (group commit). A
//! failed append or sync poisons the log: nothing is acknowledged any more and nothing is retried, because the operating
//! system may have dropped the very pages that could not be written.
//!
//! A power cut may leave any part of what was not synced, in any order. So replay ends at a damaged record if no later one
//! says that it was durable: nobody was told of it. Damage before a record that says so is corruption, and is named. Opening
//! syncs what it replays before anything is built on it, and a file is followed by another only when it is durable.

use super::WriteError;
use crate::error::ReadError;
use crate::ids::Lsn;
use crate::vfs::{Vfs, WriteFile};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use xxhash_rust::xxh3::Xxh3;

const HEADER_BYTES: usize = 32;
/// The largest payload: lengths have 32 bits, and a record is written in one piece.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 30;
/// A file that has grown past this is followed by a new one.
const FILE_BYTES: u64 = 64 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tag updates and events: `flags u8 | time i64 | 1: key u128, digest u128, expires u64, 4: note u128 | 2: source, offset u64 |
    /// batch`.
    Tags,
    /// The whole catalog.
    Catalog,
    /// An audience: name and definition.
    PutAudience,
    /// The name of an audience that is gone.
    DeleteAudience,
    /// The number u64 of a view that is shown once this record is durable.
    Published,
    /// Where a source goes on from now: `source | offset u64`.
    SourceOffset,
    /// The name of a source whose offset is of no use any more.
    ForgetSource,
    /// Users are erased; see [`super::erasure`].
    Erase,
    /// Ids are let in again.
    Admit,
}

const KINDS: [Kind; 9] = [
    Kind::Tags,
    Kind::Catalog,
    Kind::PutAudience,
    Kind::DeleteAudience,
    Kind::Published,
    Kind::SourceOffset,
    Kind::ForgetSource,
    Kind::Erase,
    Kind::Admit,
];

/// The log being written.
pub(super) struct Log {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    /// Changed only by the one thread that appends.
    current: Mutex<Current>,
    synced: Mutex<Synced>,
    changed: Condvar,
    failure: OnceLock<String>,
}

struct Current {
    /// `None` in a log that is not written.
    file: Option<Arc<dyn WriteFile>>,
    file_bytes: u64,
    /// Where the file begins.
    first: Lsn,
    next: Lsn,
    /// The files before it that are still there: where they begin, and their lengths.
    older: Vec<(Lsn, u64)>,
    buffer: Vec<u8>,
}

struct Synced {
    /// All before it is durable.
    until: Lsn,
    /// Somebody syncs at this moment.
    busy: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_path(folder: &Path, first: Lsn) -> PathBuf {
    folder.join(format!("{:020}.log", first.0))
}

fn create(vfs: &dyn Vfs, folder: &Path, first: Lsn) -> io::Result<Arc<dyn WriteFile>> {
    let path = file_path(folder, first);
    // A file of this name can only be one whose records were all lost or never written.
    match vfs.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = vfs.create(&path)?;
    vfs.sync_folder(folder)?;
    Ok(Arc::from(file))
}

impl Log {
    /// Makes what was replayed durable, and begins a new file behind it, at `next`.
    pub(super) fn begin(vfs: Arc<dyn Vfs>, folder: PathBuf, next: Lsn) -> io::Result<Log> {
        vfs.create_folder(&folder)?;
        // What a killed process wrote is with the operating system, and may not be on the disk.
        let mut older = Vec::new();
        for first in files(&*vfs, &folder)? {
            let path = file_path(&folder, first);
            vfs.sync_file(&path)?;
            if first != next {
                older.push((first, vfs.map(&path)?.len() as u64));
            }
        }
        let file = create(&*vfs, &folder, next)?;
        let log = Log::new(vfs, folder, next, Some(file));
        held(&log.current).older = older;
        Ok(log)
    }

    /// A log that takes nothing, for the reason `cause`.
    pub(super) fn closed(vfs: Arc<dyn Vfs>, folder: PathBuf, next: Lsn, cause: &str) -> Log {
        let log = Log::new(vfs, folder, next, None);
        log.fail_for(|| cause.to_owned());
        log
    }

    fn new(vfs: Arc<dyn Vfs>, folder: PathBuf, next: Lsn, file: Option<Arc<dyn WriteFile>>) -> Log {
        Log {
            vfs,
            folder,
            current: Mutex::new(Current {
                file,
                file_bytes: 0,
                first: next,
                next,
                older: Vec::new(),
                buffer: Vec::new(),
            }),
            synced: Mutex::new(Synced { until: next, busy: false }),
            changed: Condvar::new(),
            failure: OnceLock::new(),
        }
    }

    /// Appends a record; answers the position behind it.
    pub(super) fn append(&self, kind: Kind, payload: &[&[u8]]) -> Result<Lsn, WriteError> {
        self.check()?;
        let len: usize = payload.iter().map(|part| part.len()).sum();
        if len > PAYLOAD_BYTES_MAX {
            return Err(WriteError::TooLarge { size_bytes: len });
        }
        let mut current = held(&self.current);
        if current.file_bytes > FILE_BYTES {
            self.rotate_file(&mut current)?;
        }
        let durable = held(&self.synced).until;
        let Current { file, file_bytes, next, buffer, .. } = &mut *current;
        let Some(file) = file else { return Err(self.unwritten()) };
        encode_record(buffer, kind, *next, durable, payload);
        file.append(buffer).map_err(|error| self.fail("append to the log", &error))?;
        *file_bytes += buffer.len() as u64;
        buffer.clear();
        buffer.shrink_to(1 << 20);
        next.0 += 1;
        Ok(*next)
    }

    /// Begins a new file, so that the older ones can go when a checkpoint covers them. Answers where it begins.
    pub(super) fn rotate(&self) -> Result<Lsn, WriteError> {
        self.check()?;
        let mut current = held(&self.current);
        if current.file_bytes > 0 {
            self.rotate_file(&mut current)?;
        }
        Ok(current.next)
    }

    fn rotate_file(&self, current: &mut Current) -> Result<(), WriteError> {
        let Some(file) = &current.file else { return Err(self.unwritten()) };
        file.sync().map_err(|error| self.fail("sync the log", &error))?;
        self.synced_until(current.next);
        let file = create(&*self.vfs, &self.folder, current.next);
        current.file = Some(file.map_err(|error| self.fail("begin a log file", &error))?);
        let old = (current.first, current.file_bytes);
        current.older.push(old);
        current.first = current.next;
        current.file_bytes = 0;
        Ok(())
    }

    fn synced_until(&self, until: Lsn) {
        let mut synced = held(&self.synced);
        synced.until = synced.until.max(until);
        self.changed.notify_all();
    }

    /// Returns when everything before `lsn` is durable.
    pub(super) fn sync(&self, lsn: Lsn) -> Result<(), WriteError> {
        let mut synced = held(&self.synced);
        while synced.until < lsn {
            self.check()?;
            if synced.busy {
                synced = self.changed.wait(synced).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            synced.busy = true;
            drop(synced);
            // All that was appended until now is synced with it: that is the group.
            let (file, until) = {
                let current = held(&self.current);
                (current.file.clone(), current.next)
            };
            let result = file.map_or(Ok(()), |file| file.sync());
            synced = held(&self.synced);
            synced.busy = false;
            match result {
                Ok(()) => synced.until = synced.until.max(until),
                Err(error) => {
                    let error = self.fail("sync the log", &error);
                    self.changed.notify_all();
                    return Err(error);
                }
            }
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Bytes in the log's files.
    pub(super) fn size_bytes(&self) -> u64 {
        let current = held(&self.current);
        current.file_bytes + current.older.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Position behind the last record.
    pub(super) fn end(&self) -> Lsn {
        held(&self.current).next
    }

    /// Fails if the log was poisoned.
    pub(super) fn check(&self) -> Result<(), WriteError> {
        match self.failure.get() {
            Some(cause) => Err(WriteError::ReadOnly { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Poisons the log; the first cause is kept.
    pub(super) fn fail(&self, verb: &str, error: &dyn std::error::Error) -> WriteError {
        self.fail_for(|| format!("{verb}: {error}"))
    }

    fn fail_for(&self, cause: impl FnOnce() -> String) -> WriteError {
        WriteError::ReadOnly { cause: self.failure.get_or_init(cause).clone() }
    }

    fn unwritten(&self) -> WriteError {
        self.fail_for(|| "the log is not open for writing".to_owned())
    }

    /// As [`Log::cut`], durably; fails if any of them is still there.
    pub(super) fn cut_all(&self, lsn: Lsn) -> io::Result<()> {
        self.cut(lsn);
        let is_left = {
            let current = held(&self.current);
            current
                .older
                .iter()
                .skip(1)
                .map(|(first, _)| *first)
                .chain([current.first])
                .next()
                .is_some_and(|end| !current.older.is_empty() && end <= lsn)
        };
        if is_left {
            return Err(io::Error::other("a log file that a checkpoint covers is left"));
        }
        self.vfs.sync_folder(&self.folder)
    }

    /// Removes the files whose records are all before `lsn`. What cannot be removed now goes with the next checkpoint.
    pub(super) fn cut(&self, lsn: Lsn) {
        let old: Vec<Lsn> = {
            let current = held(&self.current);
            let ends = current.older.iter().skip(1).map(|(first, _)| *first).chain([current.first]);
            let files = current.older.iter().map(|(first, _)| *first).zip(ends);
            files.filter(|(_, end)| *end <= lsn).map(|(first, _)| first).collect()
        };
        for first in old {
            if self.vfs.remove(&file_path(&self.folder, first)).is_ok() {
                held(&self.current).older.retain(|(kept, _)| *kept != first);
            }
        }
    }
}

fn encode_record(buffer: &mut Vec<u8>, kind: Kind, lsn: Lsn, durable: Lsn, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    buffer.clear();
    buffer.extend_from_slice(&(len as u32).to_le_bytes());
    buffer.extend_from_slice(&[KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u8, 0, 0, 0]);
    buffer.extend_from_slice(&lsn.0.to_le_bytes());
    buffer.extend_from_slice(&durable.0.to_le_bytes());
    let mut hash = Xxh3::new();
    hash.update(buffer);
    payload.iter().for_each(|part| hash.update(part));
    buffer.extend_from_slice(&hash.digest().to_le_bytes());
    payload.iter().for_each(|part| buffer.extend_from_slice(part));
}

/// First LSNs of the log files, rising.
fn files(vfs: &dyn Vfs, folder: &Path) -> io::Result<Vec<Lsn>> {
    let number = |name: &String| name.strip_suffix(".log")?.parse().ok().map(Lsn);
    let mut files: Vec<Lsn> = vfs.list(folder)?.iter().filter_map(number).collect();
    files.sort_unstable();
    Ok(files)
}

/// Where the first file behind `lsn` begins.
pub(super) fn file_after(vfs: &dyn Vfs, folder: &Path, lsn: Lsn) -> Option<Lsn> {
    files(vfs, folder).ok()?.into_iter().find(|first| *first > lsn)
}

/// Calls `apply` for every record from `from` on, in order; answers the position behind the last one.
pub(super) fn replay<E: From<ReadError>>(
    vfs: &dyn Vfs,
    folder: &Path,
    from: Lsn,
    mut apply: impl FnMut(Kind, Lsn, &[u8]) -> Result<(), E>,
) -> Result<Lsn, E> {
    let io_error =
        |path: &Path, verb, error: io::Error| ReadError::Io { path: path.to_owned(), verb, source: Arc::new(error) };
    let files = files(vfs, folder).map_err(|error| io_error(folder, "list the log", error))?;
    let mut next = from;
    for (index, first) in files.iter().enumerate() {
        let path = file_path(folder, *first);
        let follower = files.get(index + 1);
        if follower.is_some_and(|follower| *follower <= from) {
            continue;
        }
        let bytes = vfs.map(&path).map_err(|error| io_error(&path, "map into memory", error))?;
        let corrupt = |offset: usize, what: &str| ReadError::Corrupt {
            path: path.clone(),
            offset_bytes: offset as u64,
            what: what.to_owned(),
        };
        if *first > next {
            return Err(corrupt(0, &format!("log records {next} to {first} are missing")).into());
        }
        let mut lsn = *first;
        let mut at = 0;
        while at < bytes.len() {
            let Some((kind, _, payload)) = read_record(&bytes[at..], lsn) else {
                // Only what was being written when the power went may be damaged: the end of the newest file, or of one
                // behind which the next start went on.
                if follower.is_none_or(|follower| *follower == lsn) && !was_durable(&bytes[at..], lsn) {
                    break;
                }
                return Err(corrupt(at, "a log record is damaged that was durable").into());
            };
            if lsn >= next {
                apply(kind, lsn, payload)?;
                next = Lsn(lsn.0 + 1);
            }
            at += HEADER_BYTES + payload.len();
            lsn.0 += 1;
        }
    }
    Ok(next)
}

fn read_record(bytes: &[u8], lsn: Lsn) -> Option<(Kind, Lsn, &[u8])> {
    let header = bytes.get(..HEADER_BYTES)?;
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let len = u32::from_le_bytes(header[..4].try_into().expect("4 bytes")) as usize;
    let payload = bytes[HEADER_BYTES..].get(..len)?;
    let mut hash = Xxh3::new();
    if number(8) != lsn.0 || header[5..8] != [0; 3] {
        return None;
    }
    hash.update(&header[..24]);
    hash.update(payload);
    let kind = KINDS.get(usize::from(header[4]))?;
    (number(24) == hash.digest()).then_some((*kind, Lsn(number(16)), payload))
}

/// Looks behind a damaged record, at any offset, for a good one that was written when the damaged one was durable.
fn was_durable(bytes: &[u8], damaged: Lsn) -> bool {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    (1..bytes.len().saturating_sub(HEADER_BYTES - 1)).any(|at| {
        // Cheap tests first: in a record, both numbers are a little greater than the damaged one's.
        let (lsn, durable) = (number(at + 8), number(at + 16));
        let near = damaged.0 < durable && durable <= lsn && lsn - damaged.0 <= bytes.len() as u64;
        near && read_record(&bytes[at..], Lsn(lsn)).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::memory::MemoryVfs;

    fn log(vfs: &MemoryVfs, next: u64) -> Log {
        Log::begin(Arc::new(vfs.clone()), PathBuf::from("/w"), Lsn(next)).expect("begin")
    }

    fn payloads(vfs: &MemoryVfs, from: u64) -> Result<Vec<String>, ReadError> {
        let mut found = Vec::new();
        replay(vfs, Path::new("/w"), Lsn(from), |_, lsn, payload| {
            found.push(format!("{lsn}:{}", String::from_utf8_lossy(payload)));
            Ok::<(), ReadError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn replays_what_was_appended() {
        let vfs = MemoryVfs::default();
        let first = log(&vfs, 0);
        first.append(Kind::Tags, &[b"a", b"b"]).expect("append");
        let end = first.append(Kind::Catalog, &[b"c"]).expect("append");
        first.sync(end).expect("sync");
        assert_eq!(first.rotate().expect("rotate"), Lsn(2));
        first.append(Kind::Tags, &[b"d"]).expect("append");
        let second = log(&vfs, 3);
        second.append(Kind::Tags, &[b""]).expect("append");
        assert_eq!(payloads(&vfs, 0).expect("good"), ["0:ab", "1:c", "2:d", "3:"]);
        assert_eq!(payloads(&vfs, 2).expect("good"), ["2:d", "3:"]);
        second.cut(Lsn(2));
        assert_eq!(payloads(&vfs, 2).expect("good"), ["2:d", "3:"]);
        assert!(payloads(&vfs, 0).expect_err("cut").to_string().contains("records 0 to 2 are missing"));
    }

    #[test]
    fn a_damaged_tail_ends_the_log_and_damage_before_good_records_is_named() {
        let vfs = MemoryVfs::default();
        let first = log(&vfs, 0);
        for (word, synced) in [("one", true), ("two", false), ("three", false)] {
            let end = first.append(Kind::Tags, &[word.as_bytes()]).expect("append");
            if synced {
                first.sync(end).expect("sync");
            }
        }
        let (path, len) = vfs.files().remove(0);
        let record = HEADER_BYTES + 3;
        for bit in 0..len * 8 {
            vfs.flip_bit(&path, bit);
            let found = payloads(&vfs, 0);
            match bit / 8 / record {
                0 => assert!(found.expect_err("it was durable").to_string().contains("that was durable")),
                1 => assert_eq!(found.expect("nobody was told of the second"), ["0:one"]),
                _ => assert_eq!(found.expect("a damaged tail"), ["0:one", "1:two"]),
            }
            vfs.flip_bit(&path, bit);
        }
        vfs.truncate(&path, len - 1);
        assert_eq!(payloads(&vfs, 0).expect("a torn tail"), ["0:one", "1:two"]);
        // The next start goes on behind the torn record, in a file of its own.
        log(&vfs, 2).append(Kind::Tags, &[b"next"]).expect("append");
        assert_eq!(payloads(&vfs, 0).expect("good").last().expect("one"), "2:next");
    }

    #[test]
    fn a_failed_sync_is_never_followed_by_an_acknowledgement() {
        let vfs = MemoryVfs::default();
        let log = log(&vfs, 0);
        let end = log.append(Kind::Tags, &[b"a"]).expect("append");
        vfs.fail_at(1, false, io::ErrorKind::StorageFull);
        assert!(log.sync(end).is_err());
        assert!(log.sync(end).is_err(), "a sync is not retried");
        let error = log.append(Kind::Tags, &[b"b"]).expect_err("poisoned").to_string();
        assert!(error.contains("sync the log"), "{error}");
    }
}
