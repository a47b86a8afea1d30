//! Opening a data directory: the newest manifest, then the log behind it.
//!
//! Nothing on disk is changed that a second crash could not repeat: orphans (files no manifest names) are removed, the
//! log goes on in a new file, and what was replayed stays in memory until the next checkpoint.

use super::manifest::{self, Manifest};
use super::memtable::{Memtable, Types};
use super::once::{OnceTable, Remembered};
use super::snapshot::{ShardSnapshot, Snapshot};
use super::wal::{self, Kind, Log};
use super::{
    Checkpointed, DiskSegment, Layers, Options, ShardLayers, Store, WriteError, Writer, once_path, part_path,
    segment_path, shard_folder,
};
use crate::dictionary::Dictionary;
use crate::dictionary::part::Part;
use crate::error::{Class, ReadError};
use crate::ids::{FileId, Lsn};
use crate::segment::Segment;
use crate::update::UpdateBatch;
use crate::vfs::Vfs;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

/// Why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{}: in use by another process; stop it, or choose another data directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be written.
    #[error("{}: cannot {verb}: {source}; Beluga needs a directory it may write to", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// There is log but no manifest, or the other way round.
    #[error("{}: {what}; this is not a whole Beluga directory: restore it from a backup", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The shard count is not a power of two from 1 to 4,096.
    #[error("shard count {0}: must be a power of two from 1 to 4096")]
    ShardCount(u16),
    /// A file is damaged or cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The first write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl OpenError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            OpenError::Locked { .. } => Class::Conflict,
            OpenError::Directory { .. } => Class::Internal,
            OpenError::Incomplete { .. } => Class::Corrupt,
            OpenError::ShardCount(_) => Class::Invalid,
            OpenError::Read(error) => error.class(),
            OpenError::Write(error) => error.class(),
        }
    }
}

impl Store {
    /// Opens or makes a data directory and replays what the log holds behind the newest manifest.
    ///
    /// Maps files without reading them, so it takes time only for what is in the log.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed but the removal of orphans.
    pub fn open(vfs: Arc<dyn Vfs>, folder: &Path, options: Options) -> Result<Store, OpenError> {
        let shards = options.shard_count;
        if !shards.is_power_of_two() || shards > 4096 {
            return Err(OpenError::ShardCount(shards));
        }
        let failed = |verb| move |source| OpenError::Directory { path: folder.to_owned(), verb, source };
        vfs.create_folder(folder).map_err(failed("make the directory"))?;
        let lock = vfs.lock(&folder.join("LOCK")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { path: folder.to_owned() },
            _ => failed("lock the directory")(error),
        })?;
        let checkpointed = newest_manifest(&*vfs, folder, shards).map_err(|error| match error {
            NewestError::Open(error) => error,
            NewestError::Io(error) => failed("make a manifest")(error),
        })?;
        remove_orphans(&*vfs, folder, &checkpointed.manifest).map_err(failed("remove orphans"))?;
        let loaded = Loaded::load(&*vfs, folder, &checkpointed.manifest)?;
        Self::start(vfs, folder, options, lock, checkpointed, loaded, failed("begin a log file"))
    }

    fn start(
        vfs: Arc<dyn Vfs>,
        folder: &Path,
        options: Options,
        lock: Box<dyn Send + Sync>,
        checkpointed: Checkpointed,
        loaded: Loaded,
        log_failed: impl Fn(io::Error) -> OpenError,
    ) -> Result<Store, OpenError> {
        let manifest = &checkpointed.manifest;
        let mut replayed = Vec::new();
        let wal_folder = folder.join("wal");
        let end = wal::replay(&*vfs, &wal_folder, manifest.position(), |kind, lsn, payload| {
            replayed.push(Record::decode(kind, payload).ok_or_else(|| ReadError::Corrupt {
                path: wal_folder.clone(),
                offset_bytes: lsn.0,
                what: format!("log record {lsn} is of unknown form"),
            })?);
            Ok::<(), ReadError>(())
        })?;
        let log = Log::begin(vfs.clone(), wal_folder, end).map_err(log_failed)?;
        let shard_count = manifest.shards.len();
        let shown = Snapshot {
            epoch: manifest.epoch(),
            catalog: manifest.catalog.clone(),
            audiences: manifest.audiences.clone(),
            shards: (0..shard_count)
                .map(|shard| {
                    let layers = &loaded.layers[shard];
                    ShardSnapshot::new(layers.stack(), loaded.dictionaries[shard].clone(), layers.slot_count)
                })
                .collect(),
        };
        let store = Store {
            log,
            writer: Mutex::new(Writer {
                memtables: (0..shard_count).map(|_| Memtable::default()).collect(),
                memtable_bytes: 0,
                types: Types::of(&manifest.catalog),
                catalog: manifest.catalog.clone(),
                audiences: manifest.audiences.clone(),
                sources: manifest.sources.clone(),
                once: loaded.once,
                dirty: false,
                unsaved: false,
            }),
            layers: Mutex::new(Layers { epoch: manifest.epoch, shards: loaded.layers }),
            next_file: AtomicU64::new(manifest.next_file),
            checkpointing: Mutex::new(checkpointed),
            compacting: Mutex::new(()),
            published: RwLock::new(shown),
            layer_bytes: AtomicU64::new(0),
            dictionaries: loaded.dictionaries,
            folder: folder.to_owned(),
            options,
            vfs,
            _lock: lock,
        };
        for record in replayed {
            store.redo(record)?;
        }
        store.publish()?;
        Ok(store)
    }

    fn redo(&self, record: Record) -> Result<(), OpenError> {
        let mut writer = super::held(&self.writer);
        match record {
            Record::Tags(once, batch) => {
                if let Some(once) = once {
                    writer.once.remember(once, 0);
                }
                self.apply(&mut writer, &batch)?;
            }
            Record::Catalog(catalog) => writer.put_catalog(catalog),
            Record::PutAudience(name, audience) => writer.put_audience(name, audience),
            Record::DeleteAudience(name) => writer.delete_audience(&name),
        }
        Ok(())
    }
}

/// A log record, decoded.
pub(super) enum Record {
    Tags(Option<Remembered>, UpdateBatch),
    Catalog(crate::catalog::Catalog),
    PutAudience(String, super::Audience),
    DeleteAudience(String),
}

impl Record {
    pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Record> {
        let mut bytes = manifest::Decoder(payload);
        Some(match kind {
            Kind::Tags => {
                let once = match bytes.u8()? {
                    0 => None,
                    1 => Some(Remembered { key: bytes.u128()?, digest: bytes.u128()?, expires: bytes.u64()? }),
                    _ => return None,
                };
                Record::Tags(once, UpdateBatch::from_bytes(bytes.0.to_vec()).ok()?)
            }
            Kind::Catalog => Record::Catalog(manifest::decode_catalog(&mut bytes)?),
            Kind::PutAudience => {
                let (name, audience) = manifest::decode_audience(&mut bytes)?;
                Record::PutAudience(name, audience)
            }
            Kind::DeleteAudience => Record::DeleteAudience(String::from_utf8(payload.to_vec()).ok()?),
        })
    }
}

enum NewestError {
    Open(OpenError),
    Io(io::Error),
}

fn newest_manifest(vfs: &dyn Vfs, folder: &Path, shard_count: u16) -> Result<Checkpointed, NewestError> {
    let manifests = folder.join("manifest");
    let newest = manifest::numbers(vfs, &manifests).map_err(NewestError::Io)?.pop();
    if let Some(number) = newest {
        let manifest = manifest::read(vfs, &manifests, number).map_err(|error| NewestError::Open(error.into()))?;
        return Ok(Checkpointed { number, manifest });
    }
    // The log begins only after the first manifest, so log without one is a directory that has lost its state.
    if !vfs.list(&folder.join("wal")).map_err(NewestError::Io)?.is_empty() {
        let what = "there is a log but no manifest";
        return Err(NewestError::Open(OpenError::Incomplete { path: folder.to_owned(), what }));
    }
    let manifest = Manifest::new(shard_count);
    let make = || {
        vfs.create_folder(&manifests)?;
        vfs.create_folder(&folder.join("once"))?;
        (0..manifest.shards.len()).try_for_each(|shard| vfs.create_folder(&shard_folder(folder, shard)))?;
        manifest::write(vfs, &manifests, 1, &manifest)
    };
    make().map_err(NewestError::Io)?;
    Ok(Checkpointed { number: 1, manifest })
}

/// Removes the files that no manifest names: what a crash left of an unfinished checkpoint or merge.
fn remove_orphans(vfs: &dyn Vfs, folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let remove_others = |folder: &Path, named: &HashSet<PathBuf>| {
        for name in vfs.list(folder)? {
            let path = folder.join(name);
            if !named.contains(&path) {
                vfs.remove(&path)?;
            }
        }
        io::Result::Ok(())
    };
    for (shard, files) in manifest.shards.iter().enumerate() {
        let segments = files.segments.iter().map(|(id, _)| segment_path(folder, shard, *id));
        let named = segments.chain(files.parts.iter().map(|id| part_path(folder, shard, *id))).collect();
        remove_others(&shard_folder(folder, shard), &named)?;
    }
    let named = manifest.once_files.iter().map(|file| once_path(folder, file.id)).collect();
    remove_others(&folder.join("once"), &named)
}

/// The files a manifest names, open.
pub(super) struct Loaded {
    layers: Vec<ShardLayers>,
    dictionaries: Vec<Arc<Dictionary>>,
    once: OnceTable,
}

impl Loaded {
    fn load(vfs: &dyn Vfs, folder: &Path, manifest: &Manifest) -> Result<Loaded, ReadError> {
        let mut loaded = Loaded { layers: Vec::new(), dictionaries: Vec::new(), once: OnceTable::default() };
        for (shard, files) in manifest.shards.iter().enumerate() {
            let mut layers = ShardLayers { slot_count: files.slot_count, ..ShardLayers::default() };
            for (id, len) in &files.segments {
                let segment = Arc::new(open_segment(vfs, folder, shard, *id, *len)?);
                layers.disk.push(DiskSegment { id: *id, segment });
            }
            loaded.layers.push(layers);
            loaded.dictionaries.push(Arc::new(open_dictionary(vfs, folder, shard, files)?));
        }
        for file in &manifest.once_files {
            loaded.once.load(vfs, &once_path(folder, file.id))?;
        }
        Ok(loaded)
    }
}

pub(super) fn open_segment(
    vfs: &dyn Vfs,
    folder: &Path,
    shard: usize,
    id: FileId,
    len: u64,
) -> Result<Segment, ReadError> {
    let path = segment_path(folder, shard, id);
    let segment = Segment::open(vfs, &path)?;
    if segment.size_bytes() != len {
        let what = format!("{} bytes long where the manifest says {len}", segment.size_bytes());
        return Err(ReadError::Corrupt { path, offset_bytes: 0, what });
    }
    Ok(segment)
}

pub(super) fn open_dictionary(
    vfs: &dyn Vfs,
    folder: &Path,
    shard: usize,
    files: &manifest::ShardFiles,
) -> Result<Dictionary, ReadError> {
    let parts: Result<Vec<_>, _> =
        files.parts.iter().map(|id| Part::open(vfs, &part_path(folder, shard, *id)).map(Arc::new)).collect();
    let dictionary = Dictionary::open(parts?)?;
    if dictionary.slot_count() != files.slot_count {
        return Err(ReadError::Corrupt {
            path: shard_folder(folder, shard),
            offset_bytes: 0,
            what: format!(
                "the dictionary has {} users where the manifest says {}",
                dictionary.slot_count(),
                files.slot_count
            ),
        });
    }
    Ok(dictionary)
}

/// The position of the newest manifest and what it says, for `check`.
pub(super) fn newest(vfs: &dyn Vfs, folder: &Path) -> Result<Option<(Manifest, Lsn)>, ReadError> {
    let manifests = folder.join("manifest");
    let numbers = manifest::numbers(vfs, &manifests).map_err(|error| ReadError::Io {
        path: manifests.clone(),
        verb: "list the manifests",
        source: Arc::new(error),
    })?;
    let Some(number) = numbers.last() else { return Ok(None) };
    let manifest = manifest::read(vfs, &manifests, *number)?;
    let position = manifest.position();
    Ok(Some((manifest, position)))
}
