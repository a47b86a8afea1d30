//! What a sink has not delivered yet, on disk.
//!
//! A queue is a folder: files of records, each named by the offset of its first one, and a cursor that says how far they were
//! delivered. Rows are appended and synced before whoever brings them forgets them. A queue knows which row of each fact comes
//! next, so rows that come again after a crash are not taken twice.
//!
//! A sink begins when its cursor is written, which is the last step of its beginning: a folder without one is cleared. A file is
//! never appended to by another process than the one that made it; after a start, records go on in a new one, so a torn end
//! stays where it is and is never read.
//!
//! * `format`: how it stands on disk. `begin`, `open`: how it comes to be there; `read`: batches of it.
//!
//! Locks, in the order they are taken: `cursor`, `state`.

mod begin;
mod format;
mod open;
mod read;

#[cfg(test)]
mod tests;

pub(crate) use begin::{InitialRecords, clear};
pub(crate) use format::{BlockBuilder, Record};
pub(crate) use read::{BatchLimits, QueueReader};

use engine::ids::TagId;
use engine::vfs::{FileBytes, Vfs, WriteFile, write_atomically};
use format::{Cursor, Header};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A file of at least so many bytes is followed by another one.
const FILE_BYTES: u64 = 64 << 20;
/// A block of about so many bytes is written at a time.
const BLOCK_BYTES: usize = 256 << 10;

const CURSOR: &str = "cursor";
const EXTENSION: &str = "queue";

/// Why a queue cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// A file is damaged.
    #[error(
        "{file}: damaged at byte {at}; what is queued cannot be read: repair the disk, or drop the sink and declare it again, \
         which begins anew"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        at: usize,
    },
    /// Records that are not delivered have no file.
    #[error(
        "sink `{sink}`: the file with its record {offset} is gone from its queue; bring it back, or drop the sink and declare it \
         again, which begins anew"
    )]
    Missing {
        /// The sink.
        sink: String,
        /// The record.
        offset: u64,
    },
    /// The sink was dropped meanwhile, or its queue is opened anew.
    #[error("the sink was dropped, or its queue is opened anew")]
    Removed,
    /// The disk's.
    #[error("{verb}: {error}")]
    Disk {
        /// What was tried.
        verb: String,
        /// Why not.
        error: Arc<io::Error>,
    },
}

impl QueueError {
    fn damaged(file: &str, at: usize) -> QueueError {
        QueueError::Damaged { file: file.to_owned(), at }
    }

    fn disk(verb: impl Into<String>) -> impl FnOnce(io::Error) -> QueueError {
        let verb = verb.into();
        move |error| QueueError::Disk { verb, error: Arc::new(error) }
    }
}

/// Records that are delivered together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The offset of the first one.
    pub(crate) first: u64,
    pub(crate) records: Vec<BatchRecord>,
    /// When the first one came.
    pub(crate) queued_at: Option<i64>,
}

/// See [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchRecord {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) json: String,
}

impl Batch {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

/// Where a queue is, and whose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueuePlace<'a> {
    pub(crate) vfs: &'a Arc<dyn Vfs>,
    pub(crate) folder: &'a Path,
    /// The sink's name.
    pub(crate) name: &'a str,
    /// The life of the sink in the catalog.
    pub(crate) life: TagId,
    /// The bound of the queue; its files are a part of that, so that there are several.
    pub(crate) bytes_max: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    name: String,
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    id: u64,
    file_bytes: u64,
    cursor: Mutex<Cursor>,
    state: Mutex<State>,
    /// There are more records, or fewer.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Oldest first; contiguous.
    files: VecDeque<QueueFile>,
    active: Option<Active>,
    /// The offset behind the last record that is durable.
    end: u64,
    next_rows: BTreeMap<TagId, u64>,
    is_removed: bool,
    /// How often those who wait were woken for another reason.
    wakes: u64,
    /// Why nothing is appended any more: what stands behind a failed write is unknown.
    failure: Option<String>,
}

#[derive(Debug)]
struct QueueFile {
    first: u64,
    bytes: u64,
    is_initial: bool,
}

/// The last file, being written.
struct Active {
    file: Box<dyn WriteFile>,
    synced: u64,
    /// The offset behind the last record in it, durable or not.
    end: u64,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("synced", &self.synced).field("end", &self.end).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves what is behind the lock whole: what is on disk is noted only after it is there.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn empty(place: &QueuePlace<'_>, id: u64, fact: TagId) -> Queue {
        let QueuePlace { vfs, folder, name, life, bytes_max } = *place;
        let state = State {
            files: VecDeque::new(),
            active: None,
            end: 0,
            next_rows: BTreeMap::new(),
            is_removed: false,
            wakes: 0,
            failure: None,
        };
        Queue {
            name: name.to_owned(),
            vfs: vfs.clone(),
            folder: folder.to_owned(),
            id,
            file_bytes: FILE_BYTES.min(bytes_max / 4).max(1),
            cursor: Mutex::new(Cursor { id, life, fact, delivered: 0, sent: 0, is_stopped: false }),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// The sink's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What names it among all queues that ever were.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The offset behind the last record.
    pub(crate) fn end(&self) -> u64 {
        lock(&self.state).end
    }

    /// The offset of the first record that may not have been delivered, and the end of the batch that was being sent.
    pub(crate) fn position(&self) -> (u64, Option<u64>) {
        let cursor = *lock(&self.cursor);
        (cursor.delivered, (cursor.sent > cursor.delivered).then_some(cursor.sent))
    }

    /// Records that are not delivered, and bytes of files.
    pub(crate) fn backlog(&self) -> (u64, u64) {
        let delivered = self.position().0;
        let state = lock(&self.state);
        (state.end.saturating_sub(delivered), state.files.iter().map(|file| file.bytes).sum())
    }

    /// Bytes that count against the bound: those of files that hold what is not delivered.
    pub(crate) fn bounded_bytes(&self) -> u64 {
        let delivered = self.position().0;
        let state = lock(&self.state);
        if delivered >= state.end {
            // The last file goes when the next one begins.
            return 0;
        }
        state.files.iter().filter(|file| !file.is_initial).map(|file| file.bytes).sum()
    }

    /// Bytes of records that are appended at a time.
    pub(crate) fn block_bytes(&self) -> usize {
        BLOCK_BYTES.min(usize::try_from(self.file_bytes).unwrap_or(BLOCK_BYTES))
    }

    /// Whether the sink was dropped, or its queue is opened anew.
    pub(crate) fn is_removed(&self) -> bool {
        lock(&self.state).is_removed
    }

    /// Whether all is delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.position().0 >= self.end()
    }

    /// The fact whose rows it takes.
    pub(crate) fn fact(&self) -> TagId {
        lock(&self.cursor).fact
    }

    /// The row of a fact that comes next; `None` if none ever was wanted.
    pub(crate) fn next_row(&self, fact: TagId) -> Option<u64> {
        lock(&self.state).next_rows.get(&fact).copied()
    }

    /// Notes in memory that rows up to `next` were looked at. Rows that were not wanted may be looked at again after a crash.
    pub(crate) fn passed(&self, fact: TagId, next: u64) {
        let mut state = lock(&self.state);
        let known = state.next_rows.entry(fact).or_default();
        *known = next.max(*known);
    }

    /// From now on it takes the rows of a fact, and `next` is the one that comes next. Durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn skip_to(&self, fact: TagId, next: u64) -> io::Result<()> {
        self.writing(|state| {
            state.next_rows.insert(fact, next);
            self.sync(state)?;
            self.begin_file(state, false)
        })?;
        self.change_cursor(|cursor| Cursor { fact, ..cursor })
    }

    /// Whether the sink was stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.cursor).is_stopped
    }

    /// Notes durably whether the sink is stopped.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn set_stopped(&self, is_stopped: bool) -> io::Result<()> {
        self.change_cursor(|cursor| Cursor { is_stopped, ..cursor })
    }

    fn change_cursor(&self, change: impl FnOnce(Cursor) -> Cursor) -> io::Result<()> {
        let mut cursor = lock(&self.cursor);
        let changed = change(*cursor);
        if *cursor != changed {
            self.write_cursor(changed)?;
            *cursor = changed;
        }
        Ok(())
    }

    /// Appends records; the builder is empty then. They are durable and seen after [`Queue::commit`].
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn append(&self, builder: &mut BlockBuilder, queued_at: i64) -> io::Result<()> {
        self.writing(|state| self.append_held(state, builder, queued_at, false))
    }

    /// Makes what was appended durable, and shows it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn commit(&self) -> io::Result<()> {
        self.writing(|state| self.sync(state))
    }

    /// Writes, unless a write failed before.
    fn writing(&self, write: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = lock(&self.state);
        if let Some(failure) = &state.failure {
            return Err(io::Error::other(failure.clone()));
        }
        let written = write(&mut state);
        if let Err(error) = &written {
            state.failure = Some(format!("the queue of sink `{}` could not be written before: {error}", self.name));
        }
        written
    }

    fn append_held(
        &self,
        state: &mut State,
        builder: &mut BlockBuilder,
        queued_at: i64,
        is_initial: bool,
    ) -> io::Result<()> {
        if builder.count() == 0 {
            return Ok(());
        }
        if state.is_removed {
            return Err(io::Error::other(QueueError::Removed));
        }
        let goes_on = state.active.is_some()
            && state.files.back().is_some_and(|file| file.bytes < self.file_bytes && file.is_initial == is_initial);
        if !goes_on {
            self.sync(state)?;
            self.begin_file(state, is_initial)?;
        }
        let (Some(active), Some(file)) = (&mut state.active, state.files.back_mut()) else {
            return Err(io::Error::other("no file was begun"));
        };
        let (count, last_row) = (u64::from(builder.count()), builder.last_row());
        let block = builder.finish(active.synced, active.end, queued_at);
        active.file.append(&block)?;
        file.bytes += block.len() as u64;
        active.end += count;
        if let Some((fact, row)) = last_row {
            // The header of the next file says so.
            state.next_rows.insert(fact, row + 1);
        }
        Ok(())
    }

    fn sync(&self, state: &mut State) -> io::Result<()> {
        let (Some(active), Some(file)) = (&mut state.active, state.files.back()) else { return Ok(()) };
        if active.end > state.end {
            active.file.sync()?;
            active.synced = file.bytes;
            state.end = active.end;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Begins a file behind the last record, which is synced. One that is there without records gives way.
    fn begin_file(&self, state: &mut State, is_initial: bool) -> io::Result<()> {
        let first = state.end;
        let header = Header { id: self.id, first, is_initial, next_rows: state.next_rows.clone() }.to_block();
        let path = self.path(first);
        let temporary = path.with_extension("tmp");
        match self.vfs.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.vfs.create(&temporary)?;
        file.append(&header)?;
        file.sync()?;
        self.vfs.rename(&temporary, &path)?;
        self.vfs.sync_folder(&self.folder)?;
        if state.files.back().is_some_and(|file| file.first == first) {
            state.files.pop_back();
        }
        let bytes = header.len() as u64;
        state.files.push_back(QueueFile { first, bytes, is_initial });
        state.active = Some(Active { file, synced: bytes, end: first });
        Ok(())
    }

    /// Notes durably that all before `delivered` is delivered and that the records up to `sent` are sent next, together.
    ///
    /// # Errors
    /// [`QueueError::Removed`], or the disk's.
    pub(crate) fn advance(&self, delivered: u64, sent: Option<u64>) -> Result<(), QueueError> {
        {
            let mut cursor = lock(&self.cursor);
            if lock(&self.state).is_removed {
                return Err(QueueError::Removed);
            }
            let changed = Cursor { delivered, sent: sent.unwrap_or(delivered), ..*cursor };
            if changed == *cursor {
                return Ok(());
            }
            self.write_cursor(changed).map_err(QueueError::disk("note how far the sink is"))?;
            *cursor = changed;
        }
        self.remove_delivered(delivered)?;
        self.changed.notify_all();
        Ok(())
    }

    fn remove_delivered(&self, delivered: u64) -> Result<(), QueueError> {
        let done: Vec<u64> = {
            let mut state = lock(&self.state);
            let mut done = Vec::new();
            while state.files.get(1).is_some_and(|next| next.first <= delivered) {
                done.extend(state.files.pop_front().map(|file| file.first));
            }
            done
        };
        done.into_iter().try_for_each(|first| self.remove_file(first))
    }

    /// Begins a file behind all records, so that those before it can go. Answers where it begins.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn turn_over(&self) -> io::Result<u64> {
        self.writing(|state| {
            self.sync(state)?;
            let has_records = state.files.back().is_some_and(|file| file.first < state.end);
            if has_records && !state.is_removed { self.begin_file(state, false) } else { Ok(()) }
        })?;
        Ok(self.end())
    }

    /// Whether no record before this offset is on the disk any more.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn has_let_go(&self, until: u64) -> Result<bool, QueueError> {
        self.remove_delivered(self.position().0)?;
        self.vfs.sync_folder(&self.folder).map_err(QueueError::disk("sync the queue's folder"))?;
        Ok(lock(&self.state).files.front().is_none_or(|file| file.first >= until))
    }

    fn write_cursor(&self, cursor: Cursor) -> io::Result<()> {
        write_atomically(&*self.vfs, &self.folder.join(CURSOR), &cursor.to_bytes())
    }

    /// Waits until there are records from `from` on, at least `count` if that takes no longer than `at_most`.
    pub(crate) fn wait(&self, from: u64, count: u64, at_most: Duration) {
        let state = lock(&self.state);
        let wakes = state.wakes;
        let is_short =
            |state: &mut State| state.end < from.saturating_add(count) && !state.is_removed && state.wakes == wakes;
        let waited = self.changed.wait_timeout_while(state, at_most, is_short);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes those who wait.
    pub(crate) fn wake(&self) {
        lock(&self.state).wakes += 1;
        self.changed.notify_all();
    }

    /// Lets go of the queue, which is removed then, or opened again: whoever still delivers from this one notes nothing any more.
    pub(crate) fn leave(&self) {
        let _cursor = lock(&self.cursor);
        lock(&self.state).is_removed = true;
        self.changed.notify_all();
    }

    fn file_of(&self, offset: u64) -> Option<u64> {
        let state = lock(&self.state);
        let index = state.files.partition_point(|file| file.first <= offset);
        index.checked_sub(1).filter(|_| offset < state.end).map(|index| state.files[index].first)
    }

    fn map(&self, first: u64) -> Result<FileBytes, QueueError> {
        let path = self.path(first);
        self.vfs.map(&path).map_err(QueueError::disk(format!("read {}", path.display())))
    }

    fn remove_file(&self, first: u64) -> Result<(), QueueError> {
        match self.vfs.remove(&self.path(first)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(QueueError::disk(format!("remove {}", self.file_name(first)))(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.{EXTENSION}"))
    }

    fn file_name(&self, first: u64) -> String {
        self.path(first).display().to_string()
    }
}
