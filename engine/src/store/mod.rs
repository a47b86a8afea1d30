//! The state of everything, and how it steps forward.
//!
//! Writers (`write`) append to the log (`wal`) and to in-memory tables (`memtable`); [`Store::publish`] seals those into
//! immutable layers and makes a new [`Snapshot`]; [`Store::checkpoint`] writes the layers as segments and a `manifest`;
//! [`Store::compact`] merges segments. Readers hold a snapshot and never wait.
//!
//! Locks, in the order they are taken: `compacting`, `checkpointing`, `layers`, `writer`; under `centres` nothing else is
//! taken. Under `writer` only the log is written, and synced only when it goes on in a new file; under `layers` it is synced
//! too, which readers do not notice.

mod activity;
mod centres;
mod check;
mod checkpoint;
mod compaction;
mod erasure;
mod manifest;
mod memtable;
mod once;
mod publish;
mod purge;
mod recovery;
mod rows;
mod shown;
mod snapshot;
mod tables;
mod tap;
mod vectors;
mod verdict;
mod wal;
mod write;

#[cfg(test)]
mod proptests;

pub use check::{CheckReport, check};
pub use erasure::{Erasure, NewErasure};
pub use publish::PublishedLayers;
pub use purge::{PurgeError, PurgeReport};
pub use recovery::{OpenError, SHARDS_MAX};
pub use rows::RowLog;
pub(crate) use shown::Shown;
pub use snapshot::{Audience, Definition, ShardSnapshot, Snapshot};
pub use tables::{FactRow, FactTables, TableError};
pub use tap::{RowTap, TapMark};
pub use vectors::{SpaceVectors, VectorsError};

use crate::catalog::Catalog;
use crate::catalog::source::source_of;
use crate::clock::{Clock, ManualClock};
use crate::dictionary::Dictionary;
use crate::error::{Class, ReadError};
use crate::events::EventIds;
use crate::ids::{FileId, Lsn, ShardId, Slot, TagId};
use crate::segment::Segment;
use crate::vfs::Vfs;
use compaction::OwnedRules;
use erasure::Erasures;
use manifest::{Encoder, Manifest};
use memtable::{Memtable, Types};
use once::OnceTable;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use wal::{Kind, Log};

/// How a store is laid out and paced.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shards of a new data directory: a power of two, fixed for good; an existing directory keeps its own.
    pub shard_count: u16,
    /// Memory of not yet checkpointed updates, in bytes, at which a write waits for a checkpoint.
    pub memory_bytes_max: usize,
    /// Threads that write checkpoints and merges; without them rayon's global ones do, where questions then wait.
    pub workers: Option<Arc<rayon::ThreadPool>>,
    /// Threads that make what was written visible; likewise.
    pub publishers: Option<Arc<rayon::ThreadPool>>,
    /// Says which slices of activity are recent and which are due to go.
    pub clock: Arc<dyn Clock>,
    /// Where rows of facts are kept; without it only their activity is.
    pub tables: Option<Arc<dyn FactTables>>,
    /// Who passes rows of facts on.
    pub tap: Option<Arc<dyn RowTap>>,
}

/// Runs work that has parts on some threads.
fn install<T: Send>(threads: &Option<Arc<rayon::ThreadPool>>, work: impl FnOnce() -> T + Send) -> T {
    match threads {
        Some(threads) => threads.install(work),
        None => work(),
    }
}

impl Default for Options {
    /// With a clock that stands still in 1970.
    fn default() -> Self {
        let clock = Arc::new(ManualClock::default());
        Options {
            shard_count: 16,
            memory_bytes_max: 512 << 20,
            workers: None,
            publishers: None,
            clock,
            tables: None,
            tap: None,
        }
    }
}

/// A data directory, open for writing; one process at a time.
pub struct Store {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    options: Options,
    log: Log,
    dictionaries: Vec<Arc<Dictionary>>,
    writer: Mutex<Writer>,
    layers: Mutex<Layers>,
    checkpointing: Mutex<Checkpointed>,
    /// Purges that are not at their end, the first first; taken before the lock below.
    rewritten: Mutex<Vec<purge::Rewritten>>,
    compacting: Mutex<Compacting>,
    centres: Mutex<centres::Known>,
    published: RwLock<Snapshot>,
    next_file: AtomicU64,
    /// Bytes in the layers that are only in memory.
    layer_bytes: AtomicU64,
    /// LSN before which the newest manifest has everything.
    position: AtomicU64,
    /// Held as long as the store is open.
    _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What writers change, one at a time.
#[derive(Debug)]
struct Writer {
    memtables: Vec<Memtable>,
    memtable_bytes: usize,
    types: Types,
    catalog: Arc<Catalog>,
    audiences: Arc<BTreeMap<String, Audience>>,
    sources: BTreeMap<String, u64>,
    /// Rows since the last publish, by fact; `None` if rows are not kept.
    rows: Option<BTreeMap<TagId, RowLog>>,
    /// The number the next logged event gets, by fact.
    row_numbers: BTreeMap<TagId, u64>,
    /// Per shard.
    event_ids: Vec<EventIds>,
    /// Memory of event ids that are not in a checkpoint, roughly.
    event_id_bytes: usize,
    events: EventCounts,
    once: OnceTable,
    erasures: Arc<Erasures>,
    /// Updates of suppressed users that were passed over since the store was opened.
    suppressed_updates: u64,
    /// Uploaded lists that were written to since the store was opened and that no audience has had since: they may be on
    /// their way, so no merge leaves them out. One whose upload a crash ended is left out after the next start.
    pending_lists: HashSet<String>,
    /// Memory of ids that are not in a checkpoint, roughly.
    id_bytes: usize,
    /// Something changed since the last publish.
    dirty: bool,
    /// Something changed since the last checkpoint.
    unsaved: bool,
}

/// Events since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
struct EventCounts {
    counted: u64,
    repeated: u64,
    taken_back: u64,
}

/// What the published snapshot is made of.
#[derive(Debug)]
struct Layers {
    epoch: u64,
    shards: Vec<ShardLayers>,
    /// Published rows that are not in their tables yet, by fact, oldest first.
    rows: RecentRows,
    /// Epochs of the facts' tables that have the others.
    tables: BTreeMap<TagId, u64>,
    /// See [`Writer::row_numbers`].
    row_numbers: BTreeMap<TagId, u64>,
    /// Those that are published.
    erased: Arc<Erasures>,
    /// Whom each shard shows: everybody but who is erased and not gone.
    shown: Vec<Shown>,
    /// What was published and not taken yet, once somebody follows it.
    followed: Option<PublishedLayers>,
}

/// Rows by fact, oldest first.
type RecentRows = BTreeMap<TagId, Vec<Arc<RowLog>>>;

/// The layers of one shard.
#[derive(Debug, Default)]
struct ShardLayers {
    /// Newest first.
    memory: Vec<Arc<Segment>>,
    /// The last so many of `memory` are being written by a checkpoint and stay as they are.
    frozen: usize,
    /// Newest first, older than all of `memory`.
    disk: Vec<DiskSegment>,
    slot_count: u32,
}

#[derive(Clone, Debug)]
struct DiskSegment {
    id: FileId,
    segment: Arc<Segment>,
}

/// What compaction remembers.
#[derive(Debug, Default)]
struct Compacting {
    /// Shards with damage, which are left alone until the store is opened again.
    damaged: BTreeSet<usize>,
}

/// The newest manifest.
#[derive(Debug)]
struct Checkpointed {
    number: u64,
    manifest: Manifest,
    /// Those of its file.
    erasures: Arc<Erasures>,
}

/// A step that must happen once although its sender may send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Hash of the sender's key and of the step's number within it.
    pub key: u128,
    /// Hash of the step's content.
    pub digest: u128,
    /// Seconds since 1970 now; the key is remembered until `remember_seconds` later.
    pub now_seconds: u64,
    /// How long the key is remembered.
    pub remember_seconds: u64,
    /// Kept beside the key and told when the step comes again: what became of it, in the sender's terms. 0 says nothing.
    pub note: u128,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Position behind the record: durable when [`Store::sync`] has passed it.
    pub lsn: Lsn,
    /// The step was known already; nothing was changed.
    pub repeated: bool,
    /// The note of the step when it came first; 0 if it comes first, or came to a release that kept no notes.
    pub note: u128,
}

/// Why a write is not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The log or a checkpoint could not be written; the store takes no more writes until it is opened again.
    #[error("the store is read-only since a write failed ({cause}); free the disk or repair it, then restart")]
    ReadOnly {
        /// The first failure.
        cause: String,
    },
    /// The batch is larger than a log record can be.
    #[error("a batch of {size_bytes} bytes; write it in batches of at most {}", wal::PAYLOAD_BYTES_MAX)]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// The key came before with other content.
    #[error("this idempotency key was used with a different body; use a new key")]
    KeyReused,
    /// What the batch is about was dropped since the batch was made.
    #[error("number {id} of the catalog was dropped meanwhile")]
    Dropped {
        /// The tag, fact or vector space.
        id: TagId,
    },
    /// A list of erasures cannot be taken over.
    #[error(
        "these erasures are of another data directory; take the file from the directory of which this one is a copy"
    )]
    OtherErasures,
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl WriteError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            WriteError::ReadOnly { .. } => Class::Unavailable,
            WriteError::KeyReused | WriteError::TooLarge { .. } | WriteError::OtherErasures => Class::Invalid,
            WriteError::Dropped { .. } => Class::Conflict,
            WriteError::Read(error) => error.class(),
        }
    }
}

/// What a checkpoint or a compaction step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Bytes written to disk.
    pub bytes_written: u64,
    /// Segments made.
    pub segments_written: usize,
    /// Segments no longer needed.
    pub segments_removed: usize,
}

/// Figures of an open store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The newest published view.
    pub epoch: u64,
    /// Slots given: users ever seen, listed or known.
    pub slots: u64,
    /// Shards.
    pub shards: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes in segment files.
    pub segment_bytes: u64,
    /// Layers that are only in memory.
    pub memory_layers: u64,
    /// Memory of updates that are not in a checkpoint: tables, layers, new ids.
    pub memory_bytes: u64,
    /// The most layers, in memory and on disk, that a question meets in one shard.
    pub layers_max: u64,
    /// Log records not covered by a checkpoint.
    pub log_records: u64,
    /// Events counted since the store was opened.
    pub events: u64,
    /// Events that came again under an id that was known.
    pub events_repeated: u64,
    /// Events that were taken back.
    pub events_taken_back: u64,
    /// Updates since the store was opened that were passed over because their user is suppressed.
    pub suppressed: u64,
    /// Bytes in log files.
    pub log_bytes: u64,
    /// LSN before which the newest manifest has everything.
    pub checkpoint_lsn: u64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the structures whole: each change is a single assignment or append.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// The newest published view.
    pub fn snapshot(&self) -> Snapshot {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The present time by the store's clock, in microseconds since 1970.
    pub fn now(&self) -> i64 {
        self.options.clock.now()
    }

    /// The threads of [`Options::workers`].
    pub fn workers(&self) -> Option<&Arc<rayon::ThreadPool>> {
        self.options.workers.as_ref()
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns when the log is durable up to `lsn`; many callers share one sync (group commit).
    ///
    /// # Errors
    /// [`WriteError::ReadOnly`]; what was not durable is not acknowledged.
    pub fn sync(&self, lsn: Lsn) -> Result<(), WriteError> {
        self.log.sync(lsn)
    }

    /// Replaces the catalog. Logged; durable when this returns, visible in the next snapshot.
    ///
    /// # Errors
    /// [`WriteError`]; the catalog is then unchanged.
    pub fn put_catalog(&self, catalog: Catalog) -> Result<(), WriteError> {
        let mut encoded = Encoder::default();
        manifest::encode_catalog(&catalog, &mut encoded);
        manifest::encode_spaces(&catalog, &mut encoded);
        let mut writer = held(&self.writer);
        let lsn = self.log.append(Kind::Catalog, &[&encoded.0])?;
        writer.put_catalog(catalog);
        drop(writer);
        self.log.sync(lsn)
    }

    /// Defines or redefines an audience. Logged; durable when this returns, visible in the next snapshot.
    ///
    /// # Errors
    /// [`WriteError`]; the audience is then unchanged.
    pub fn put_audience(&self, name: &str, audience: Audience) -> Result<(), WriteError> {
        let mut encoded = Encoder::default();
        manifest::encode_audience(name, &audience, &mut encoded);
        let mut writer = held(&self.writer);
        let lsn = self.log.append(Kind::PutAudience, &[&encoded.0])?;
        writer.put_audience(name.to_owned(), audience);
        drop(writer);
        self.log.sync(lsn)
    }

    /// Forgets an audience; false if there was none.
    ///
    /// # Errors
    /// [`WriteError`]; the audience is then still there.
    pub fn delete_audience(&self, name: &str) -> Result<bool, WriteError> {
        let mut writer = held(&self.writer);
        if !writer.audiences.contains_key(name) {
            return Ok(false);
        }
        let lsn = self.log.append(Kind::DeleteAudience, &[name.as_bytes()])?;
        writer.delete_audience(name);
        drop(writer);
        self.log.sync(lsn)?;
        Ok(true)
    }

    /// Why the store takes no more writes, if it does not.
    pub fn read_only(&self) -> Option<WriteError> {
        self.log.check().err()
    }

    /// Figures for operators. Waits for a publish that is going on, not for checkpoints and merges.
    pub fn statistics(&self) -> Statistics {
        let position = self.position.load(Ordering::Relaxed);
        let layers = held(&self.layers);
        let segments = || layers.shards.iter().flat_map(|shard| &shard.disk);
        let (tables, events, suppressed) = {
            let writer = held(&self.writer);
            (writer.memtable_bytes + writer.event_id_bytes, writer.events, writer.suppressed_updates)
        };
        Statistics {
            suppressed,
            events: events.counted,
            events_repeated: events.repeated,
            events_taken_back: events.taken_back,
            epoch: layers.epoch,
            shards: layers.shards.len() as u64,
            slots: layers.shards.iter().map(|shard| u64::from(shard.slot_count)).sum(),
            segments: segments().count() as u64,
            segment_bytes: segments().map(|disk| disk.segment.size_bytes()).sum(),
            memory_layers: layers.shards.iter().map(|shard| shard.memory.len() as u64).sum(),
            memory_bytes: tables as u64 + self.layer_bytes.load(Ordering::Relaxed) + self.dictionary_bytes() as u64,
            layers_max: layers
                .shards
                .iter()
                .map(|shard| (shard.memory.len() + shard.disk.len()) as u64)
                .max()
                .unwrap_or(0),
            log_records: self.log.end().0.saturating_sub(position),
            log_bytes: self.log.size_bytes(),
            checkpoint_lsn: position,
        }
    }

    fn dictionary_bytes(&self) -> usize {
        self.dictionaries.iter().map(|dictionary| dictionary.heap_bytes()).sum()
    }

    fn new_file(&self) -> FileId {
        FileId(self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    fn shard_folder(&self, shard: usize) -> PathBuf {
        shard_folder(&self.folder, shard)
    }
}

impl Layers {
    /// Hides who is erased from the views to come.
    fn hide_erased(&mut self) {
        self.shown = Shown::all_without(self.erased.pending(), self.shards.len());
    }
}

impl Writer {
    /// The rules by which files are merged now. `shown` is the published view, if something newer than it is not durable yet.
    fn merge_rules(&self, shown: Option<&Snapshot>, now: i64) -> OwnedRules {
        let catalog = shown.map_or(&self.catalog, |shown| &shown.catalog);
        let audiences = self.audiences.values().chain(shown.iter().flat_map(|shown| shown.audiences.values()));
        let lists = audiences.filter_map(Audience::list_id).chain(self.pending_lists.iter().map(String::as_str));
        OwnedRules::new(catalog, now, lists)
    }

    fn put_catalog(&mut self, catalog: Catalog) {
        self.types = Types::of(&catalog);
        // A source that is declared anew begins anew.
        self.sources.retain(|key, _| source_of(key).is_none_or(|name| catalog.source(name).is_some()));
        self.row_numbers.retain(|fact, _| catalog.fact_of(*fact).is_some());
        self.catalog = Arc::new(catalog);
        self.changed();
    }

    fn put_audience(&mut self, name: String, audience: Audience) {
        if let Some(list) = audience.list_id() {
            self.pending_lists.remove(list);
        }
        Arc::make_mut(&mut self.audiences).insert(name, audience);
        self.changed();
    }

    fn delete_audience(&mut self, name: &str) {
        Arc::make_mut(&mut self.audiences).remove(name);
        self.changed();
    }

    /// Notes where a source goes on. One that is declared no more brings its last records and leaves no trace of where it was.
    fn go_on(&mut self, source: &str, offset: u64) {
        self.unsaved = true;
        if source_of(source).is_some_and(|name| self.catalog.source(name).is_none()) {
            return;
        }
        match self.sources.get_mut(source) {
            Some(known) => *known = offset,
            None => {
                self.sources.insert(source.to_owned(), offset);
            }
        }
    }

    fn forget_source(&mut self, source: &str) {
        self.unsaved |= self.sources.remove(source).is_some();
    }

    fn changed(&mut self) {
        self.dirty = true;
        self.unsaved = true;
    }
}

/// Where a user is.
type Place = (ShardId, Slot);

fn shard_folder(folder: &Path, shard: usize) -> PathBuf {
    folder.join("shards").join(format!("{shard:04}"))
}

fn segment_path(folder: &Path, shard: usize, id: FileId) -> PathBuf {
    shard_folder(folder, shard).join(format!("{:020}.seg", id.0))
}

fn part_path(folder: &Path, shard: usize, id: FileId) -> PathBuf {
    shard_folder(folder, shard).join(format!("{:020}.ids", id.0))
}

fn event_ids_path(folder: &Path, shard: usize, id: FileId) -> PathBuf {
    shard_folder(folder, shard).join(format!("{:020}.evt", id.0))
}

fn erased_path(folder: &Path, id: FileId) -> PathBuf {
    folder.join("erased").join(format!("{:020}.erased", id.0))
}

fn once_path(folder: &Path, id: FileId) -> PathBuf {
    folder.join("once").join(format!("{:020}.once", id.0))
}
