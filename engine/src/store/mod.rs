//! The state of everything, and how it steps forward.
//!
//! Writers append to the log ([`wal`]) and to in-memory tables ([`memtable`]); `publish` seals those into immutable
//! layers and makes a new [`Snapshot`]; `checkpoint` writes the layers as segments and a [`manifest`]; `compact`
//! merges segments. Readers hold a snapshot and never wait.

pub mod snapshot;

pub use snapshot::{Audience, Definition, ShardSnapshot, Snapshot};

use crate::catalog::Catalog;
use crate::error::{Class, ReadError};
use crate::ids::{Epoch, Lsn};
use crate::update::UpdateBatch;
use crate::vfs::Vfs;
use std::path::Path;
use std::sync::Arc;

/// How a store is laid out and paced.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shards of a new data directory: a power of two, fixed for good; an existing directory keeps its own.
    pub shard_count: u16,
    /// Memory of not yet checkpointed updates at which a write waits for a checkpoint.
    pub memory_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { shard_count: 16, memory_bytes_max: 512 << 20 }
    }
}

/// A data directory, open for writing; one process at a time.
#[derive(Debug)]
pub struct Store {}

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
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Position behind the record: durable when [`Store::sync`] has passed it.
    pub lsn: Lsn,
    /// The step was known already; nothing was changed.
    pub repeated: bool,
}

/// Why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{}: in use by another process; stop it, or choose another --data directory", path.display())]
    Locked {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
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
    /// The key came before with other content.
    #[error("this idempotency key was used with a different body; use a new key")]
    KeyReused,
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl WriteError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            WriteError::ReadOnly { .. } => Class::Unavailable,
            WriteError::KeyReused => Class::Invalid,
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

impl Store {
    /// Opens or makes a data directory and replays what the log holds behind the newest manifest.
    pub fn open(vfs: Arc<dyn Vfs>, folder: &Path, options: Options) -> Result<Store, OpenError> {
        let _ = (vfs, folder, options);
        todo!()
    }

    /// The newest published view.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }

    /// Appends a batch to the log and applies it; visible after the next publish, durable after [`Store::sync`].
    pub fn write(&self, batch: &UpdateBatch, once: Option<Once>) -> Result<Written, WriteError> {
        let _ = (batch, once);
        todo!()
    }

    /// Applies a batch that its source can send again: it is not logged, and is durable with the next checkpoint,
    /// which records `offset` as where `source` goes on.
    pub fn write_replayable(&self, batch: &UpdateBatch, source: &str, offset: u64) -> Result<(), WriteError> {
        let _ = (batch, source, offset);
        todo!()
    }

    /// Where `source` goes on, by the newest checkpoint.
    pub fn source_offset(&self, source: &str) -> Option<u64> {
        let _ = source;
        todo!()
    }

    /// Forgets a finished source's offset (durable with the next checkpoint).
    pub fn forget_source(&self, source: &str) {
        let _ = source;
        todo!()
    }

    /// Returns when the log is durable up to `lsn`; many callers share one sync (group commit).
    pub fn sync(&self, lsn: Lsn) -> Result<(), WriteError> {
        let _ = lsn;
        todo!()
    }

    /// Replaces the catalog. Logged; durable when this returns, visible in the next snapshot.
    pub fn put_catalog(&self, catalog: Catalog) -> Result<(), WriteError> {
        let _ = catalog;
        todo!()
    }

    /// Defines or redefines an audience. Logged; durable when this returns, visible in the next snapshot.
    pub fn put_audience(&self, name: &str, audience: Audience) -> Result<(), WriteError> {
        let _ = (name, audience);
        todo!()
    }

    /// Forgets an audience; false if there was none.
    pub fn delete_audience(&self, name: &str) -> Result<bool, WriteError> {
        let _ = name;
        todo!()
    }

    /// Makes every write so far durable and visible. Answers the epoch that shows them.
    pub fn publish(&self) -> Result<Epoch, WriteError> {
        todo!()
    }

    /// Writes what changed since the last checkpoint as segments and a manifest, and cuts the log.
    pub fn checkpoint(&self) -> Result<StepReport, WriteError> {
        todo!()
    }

    /// Does the most useful merge, if any is due; to be called until it answers `None`.
    pub fn compact(&self) -> Result<Option<StepReport>, WriteError> {
        todo!()
    }
}
