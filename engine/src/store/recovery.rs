//! Opening a data directory: the newest manifest, then the log behind it.
//!
//! Nothing on disk is changed that a second crash could not repeat: orphans (files no manifest names) are removed, the
//! log goes on in a new file, and what was replayed stays in memory until the next checkpoint.

use super::erasure::{self, AdmitRecord, ErasureRecord};
use super::manifest::{self, Manifest};
use super::memtable::{Memtable, Types};
use super::once::{OnceTable, Remembered};
use super::snapshot::{ShardSnapshot, Snapshot};
use super::tables::{FactTables, TableError};
use super::wal::{self, Kind, Log};
use super::{
    Checkpointed, Compacting, DiskSegment, EventCounts, Layers, Options, ShardLayers, Shown, Store, WriteError, Writer,
    erased_path, event_ids_path, held, once_path, part_path, segment_path, shard_folder,
};
use crate::dictionary::Dictionary;
use crate::dictionary::part::Part;
use crate::error::{Class, ReadError};
use crate::events::EventIds;
use crate::events::part::Part as EventPart;
use crate::ids::{FileId, Lsn};
use crate::segment::Segment;
use crate::update::UpdateBatch;
use crate::vfs::Vfs;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

/// The most shards a directory can have.
pub const SHARDS_MAX: u16 = 4096;

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
    /// The shard count is not a power of two from 1 to [`SHARDS_MAX`].
    #[error("shard count {0}: must be a power of two from 1 to {SHARDS_MAX}")]
    ShardCount(u16),
    /// A file is damaged or cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The first write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A fact's table cannot be brought to where the directory is.
    #[error(transparent)]
    Table(#[from] TableError),
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
            OpenError::Table(_) => Class::Conflict,
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
        if !shards.is_power_of_two() || shards > SHARDS_MAX {
            return Err(OpenError::ShardCount(shards));
        }
        let failed = |verb| move |source| OpenError::Directory { path: folder.to_owned(), verb, source };
        vfs.create_folder(folder).map_err(failed("make the directory"))?;
        let lock = lock(&*vfs, folder)?;
        let checkpointed = match newest_manifest(&*vfs, folder)? {
            Some(found) => carry_out(&*vfs, folder, found, options.tables.as_deref())?,
            None => first_manifest(&*vfs, folder, shards).map_err(failed("make a manifest"))?,
        };
        // The manifest may have been renamed by a process that was killed before it was sure; from here on it is the state.
        vfs.sync_folder(&folder.join("manifest")).map_err(failed("sync the manifests"))?;
        remove_orphans(&*vfs, folder, &checkpointed.manifest).map_err(failed("remove orphans"))?;
        let keeps_rows = options.tables.is_some();
        let (mut store, end) = Self::load(vfs.clone(), folder, options, lock, checkpointed, keeps_rows)?;
        store.log = Log::begin(vfs, folder.join("wal"), end).map_err(failed("begin a log file"))?;
        store.forget_staged();
        store.publish()?;
        Ok(store)
    }

    /// Removes what a crash left of rows on their way to tables.
    fn forget_staged(&self) {
        let Some(tables) = &self.options.tables else { return };
        for (name, _) in held(&self.writer).catalog.facts() {
            // What is left does no harm, and goes with the next start.
            let _ = tables.forget_staged(name);
        }
    }

    /// Opens an existing directory to ask it, not to write: every write answers [`WriteError::ReadOnly`], and no file is changed.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Locked`] while a server has the directory.
    pub fn open_read_only(vfs: Arc<dyn Vfs>, folder: &Path) -> Result<Store, OpenError> {
        let what = "there is no manifest";
        let missing = || OpenError::Incomplete { path: folder.to_owned(), what };
        // Looked for first, so that a mistyped path does not get a lock file.
        newest_manifest(&*vfs, folder)?.ok_or_else(missing)?;
        let lock = lock(&*vfs, folder)?;
        let checkpointed = newest_manifest(&*vfs, folder)?.ok_or_else(missing)?;
        let (store, _) = Self::load(vfs, folder, Options::default(), lock, checkpointed, true)?;
        store.show_replayed();
        Ok(store)
    }

    /// What the files and the log say; answers where the log goes on.
    fn load(
        vfs: Arc<dyn Vfs>,
        folder: &Path,
        options: Options,
        lock: Box<dyn Send + Sync>,
        mut checkpointed: Checkpointed,
        keeps_rows: bool,
    ) -> Result<(Store, Lsn), OpenError> {
        let erasures = erasure::load(&*vfs, folder, checkpointed.manifest.erasures)?;
        checkpointed.erasures = erasures.clone();
        let manifest = &checkpointed.manifest;
        let loaded = Loaded::load(&*vfs, folder, manifest)?;
        for (dictionary, users) in loaded.dictionaries.iter().zip(erasures.pending()) {
            dictionary.erase(users);
        }
        let whom = Shown::all_without(erasures.pending(), manifest.shards.len());
        let (wal_folder, position) = (folder.join("wal"), manifest.position());
        let memtables = manifest.shards.iter().map(|_| Memtable::default());
        let store = Store {
            log: Log::closed(vfs.clone(), wal_folder.clone(), position, "it was opened only to be read"),
            writer: Mutex::new(Writer {
                memtables: memtables.collect(),
                memtable_bytes: 0,
                types: Types::of(&manifest.catalog),
                catalog: manifest.catalog.clone(),
                audiences: manifest.audiences.clone(),
                sources: manifest.sources.clone(),
                rows: keeps_rows.then(BTreeMap::new),
                row_numbers: manifest.row_numbers.clone(),
                event_ids: loaded.event_ids,
                event_id_bytes: 0,
                events: EventCounts::default(),
                once: loaded.once,
                erasures: erasures.clone(),
                suppressed_updates: 0,
                pending_lists: HashSet::new(),
                id_bytes: 0,
                dirty: false,
                unsaved: false,
            }),
            published: RwLock::new(shown(manifest, &loaded.layers, &loaded.dictionaries, &whom)),
            layers: Mutex::new(Layers {
                epoch: manifest.epoch,
                shards: loaded.layers,
                rows: BTreeMap::new(),
                tables: manifest.tables.clone(),
                row_numbers: manifest.row_numbers.clone(),
                erased: erasures,
                shown: whom,
                followed: None,
            }),
            next_file: AtomicU64::new(manifest.next_file),
            position: AtomicU64::new(position.0),
            checkpointing: Mutex::new(checkpointed),
            rewritten: Mutex::default(),
            compacting: Mutex::new(Compacting::default()),
            centres: Mutex::default(),
            layer_bytes: AtomicU64::new(0),
            dictionaries: loaded.dictionaries,
            folder: folder.to_owned(),
            options,
            vfs,
            _lock: lock,
        };
        let end = wal::replay(&*store.vfs, &wal_folder, position, |kind, lsn, payload| {
            store.redo(Record::decode(kind, payload).ok_or_else(|| unknown_record(&wal_folder, lsn))?)
        })?;
        Ok((store, end))
    }

    fn redo(&self, record: Record) -> Result<(), ReadError> {
        let mut layers = held(&self.layers);
        let mut writer = held(&self.writer);
        match record {
            Record::Tags(Head { now, once, origin }, batch) => {
                if let Some(once) = once {
                    writer.once.remember(once, 0);
                }
                if let Some((source, offset)) = origin {
                    writer.go_on(&source, offset);
                }
                let (places, left) = self.places(&mut writer, &batch)?;
                let batch = left.as_ref().unwrap_or(&batch);
                let settled = writer.settle(batch, &places, now)?;
                writer.apply(batch, &places, settled, true);
            }
            Record::Catalog(catalog) => writer.put_catalog(catalog),
            Record::PutAudience(name, audience) => writer.put_audience(name, audience),
            Record::DeleteAudience(name) => writer.delete_audience(&name),
            Record::SourceOffset(source, offset) => writer.go_on(&source, offset),
            Record::ForgetSource(source) => writer.forget_source(&source),
            Record::Erase(record) => self.redo_erasure(&mut writer, record)?,
            Record::Admit(record) => writer.admit(&record),
            Record::Published(epoch) => {
                // That view may have shown what a source has to send again, so what is shown now needs a new number.
                layers.epoch = layers.epoch.max(epoch);
                writer.changed();
            }
        }
        Ok(())
    }
}

/// The view of a manifest.
fn shown(manifest: &Manifest, layers: &[ShardLayers], dictionaries: &[Arc<Dictionary>], whom: &[Shown]) -> Snapshot {
    let shards = layers.iter().zip(dictionaries).zip(whom);
    let shard = |((layers, dictionary), shown): ((&ShardLayers, &Arc<Dictionary>), &Shown)| {
        ShardSnapshot::new(layers.stack(), dictionary.clone(), layers.slot_count, shown.clone())
    };
    Snapshot {
        epoch: manifest.epoch(),
        catalog: manifest.catalog.clone(),
        audiences: manifest.audiences.clone(),
        rows: Arc::default(),
        tables: Arc::new(manifest.tables.clone()),
        row_numbers: Arc::new(manifest.row_numbers.clone()),
        searched: Arc::default(),
        is_part: false,
        shards: shards.map(shard).collect(),
    }
}

fn lock(vfs: &dyn Vfs, folder: &Path) -> Result<Box<dyn Send + Sync>, OpenError> {
    let path = || folder.to_owned();
    vfs.lock(&folder.join("LOCK")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path: path() },
        _ => OpenError::Directory { path: path(), verb: "lock the directory", source: error },
    })
}

pub(super) fn unknown_record(wal_folder: &Path, lsn: Lsn) -> ReadError {
    ReadError::Corrupt {
        path: wal_folder.to_owned(),
        offset_bytes: 0,
        what: format!("log record {lsn} is of unknown form"),
    }
}

/// A log record, decoded.
pub(super) enum Record {
    Tags(Head, UpdateBatch),
    Catalog(crate::catalog::Catalog),
    PutAudience(String, super::Audience),
    DeleteAudience(String),
    Published(u64),
    SourceOffset(String, u64),
    ForgetSource(String),
    Erase(ErasureRecord),
    Admit(AdmitRecord),
}

/// What stands before a batch in the log.
pub(super) struct Head {
    /// The time at which its events were settled.
    now: i64,
    once: Option<Remembered>,
    origin: Option<(String, u64)>,
}

impl Head {
    fn decode(bytes: &mut manifest::Decoder<'_>) -> Option<Head> {
        let flags = bytes.u8().filter(|flags| *flags < 8)?;
        let now = bytes.u64()? as i64;
        let once = match flags & 1 {
            0 => None,
            _ => Some(Remembered::decode(bytes, flags & 4 != 0)?),
        };
        let origin = match flags & 2 {
            0 => None,
            _ => Some((bytes.text()?, bytes.u64()?)),
        };
        Some(Head { now, once, origin })
    }
}

impl Record {
    pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Record> {
        let mut bytes = manifest::Decoder(payload);
        Some(match kind {
            Kind::Tags => {
                let head = Head::decode(&mut bytes)?;
                Record::Tags(head, UpdateBatch::from_bytes(bytes.0.to_vec()).ok()?)
            }
            Kind::Catalog => {
                let catalog = manifest::decode_catalog(&mut bytes)?;
                Record::Catalog(manifest::decode_spaces(catalog, &mut bytes)?)
            }
            Kind::PutAudience => {
                let (name, audience) = manifest::decode_audience(&mut bytes)?;
                Record::PutAudience(name, audience)
            }
            Kind::DeleteAudience => Record::DeleteAudience(String::from_utf8(payload.to_vec()).ok()?),
            Kind::Published => Record::Published(bytes.u64()?),
            Kind::SourceOffset => Record::SourceOffset(bytes.text()?, bytes.u64()?),
            Kind::ForgetSource => Record::ForgetSource(bytes.text()?),
            Kind::Erase => Record::Erase(ErasureRecord::decode(&mut bytes)?),
            Kind::Admit => Record::Admit(AdmitRecord::decode(&mut bytes)?),
        })
    }
}

/// The newest manifest, if the directory was ever used.
fn newest_manifest(vfs: &dyn Vfs, folder: &Path) -> Result<Option<Checkpointed>, OpenError> {
    if let Some((number, manifest)) = newest(vfs, folder)? {
        return Ok(Some(Checkpointed { number, manifest, erasures: Arc::default() }));
    }
    // The log begins only after the first manifest, so log without one is a directory that has lost its state.
    let failed = |source| OpenError::Directory { path: folder.to_owned(), verb: "list the log", source };
    if !vfs.list(&folder.join("wal")).map_err(failed)?.is_empty() {
        return Err(OpenError::Incomplete { path: folder.to_owned(), what: "there is a log but no manifest" });
    }
    Ok(None)
}

/// Carries out a checkpoint that was prepared and not finished: part of it may be in the facts' tables already.
fn carry_out(
    vfs: &dyn Vfs,
    folder: &Path,
    found: Checkpointed,
    tables: Option<&dyn FactTables>,
) -> Result<Checkpointed, OpenError> {
    let manifests = folder.join("manifest");
    let number = found.number + 1;
    let Some(mut prepared) = manifest::read_prepared(vfs, &manifests, number)? else { return Ok(found) };
    let Some(tables) = tables else {
        return Err(OpenError::Incomplete {
            path: folder.to_owned(),
            what: "rows of facts are on their way to tables",
        });
    };
    let failed = |source| OpenError::Directory { path: folder.to_owned(), verb: "finish a checkpoint", source };
    // A process that was killed between renaming the prepared manifest and syncing the folder has not made sure of it, and the
    // tables must not know of a checkpoint that the next power cut undoes.
    vfs.sync_folder(&manifests).map_err(failed)?;
    commit_staged(&mut prepared, number, tables)?;
    manifest::write(vfs, &manifests, number, &prepared).map_err(failed)?;
    manifest::remove_before(vfs, &manifests, number);
    Ok(Checkpointed { number, manifest: prepared, erasures: Arc::default() })
}

/// Makes the staged rows part of their tables, and notes that these have them.
pub(super) fn commit_staged(manifest: &mut Manifest, number: u64, tables: &dyn FactTables) -> Result<(), TableError> {
    for staged in std::mem::take(&mut manifest.staged) {
        let catalog = manifest.catalog.clone();
        // A fact that was dropped before the cut has no rows in it.
        let Some(name) = catalog.name_of(staged.fact) else { continue };
        let Some(fact) = catalog.fact(name) else { continue };
        tables.commit(name, fact, number, &staged.plan)?;
        manifest.tables.insert(staged.fact, number);
    }
    Ok(())
}

fn first_manifest(vfs: &dyn Vfs, folder: &Path, shard_count: u16) -> io::Result<Checkpointed> {
    let manifest = Manifest::new(shard_count);
    let manifests = folder.join("manifest");
    vfs.create_folder(&manifests)?;
    vfs.create_folder(&folder.join("once"))?;
    (0..manifest.shards.len()).try_for_each(|shard| vfs.create_folder(&shard_folder(folder, shard)))?;
    manifest::write(vfs, &manifests, 1, &manifest)?;
    Ok(Checkpointed { number: 1, manifest, erasures: Arc::default() })
}

/// Removes the files that no manifest names: what a crash left of an unfinished checkpoint or merge.
pub(super) fn remove_orphans(vfs: &dyn Vfs, folder: &Path, manifest: &Manifest) -> io::Result<()> {
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
        let parts = files.parts.iter().map(|id| part_path(folder, shard, *id));
        let event_ids = files.event_ids.iter().map(|id| event_ids_path(folder, shard, *id));
        let named = segments.chain(parts).chain(event_ids).collect();
        remove_others(&shard_folder(folder, shard), &named)?;
    }
    let named = manifest.once_files.iter().map(|file| once_path(folder, file.id)).collect();
    remove_others(&folder.join("once"), &named)?;
    let named = manifest.erasures.iter().map(|file| erased_path(folder, *file)).collect();
    remove_others(&folder.join("erased"), &named)
}

/// The files a manifest names, open.
pub(super) struct Loaded {
    layers: Vec<ShardLayers>,
    dictionaries: Vec<Arc<Dictionary>>,
    event_ids: Vec<EventIds>,
    once: OnceTable,
}

impl Loaded {
    fn load(vfs: &dyn Vfs, folder: &Path, manifest: &Manifest) -> Result<Loaded, ReadError> {
        let mut loaded =
            Loaded { layers: Vec::new(), dictionaries: Vec::new(), event_ids: Vec::new(), once: OnceTable::default() };
        for (shard, files) in manifest.shards.iter().enumerate() {
            let mut layers = ShardLayers { slot_count: files.slot_count, ..ShardLayers::default() };
            for (id, len) in &files.segments {
                let segment = Arc::new(open_segment(vfs, folder, shard, *id, *len)?);
                layers.disk.push(DiskSegment { id: *id, segment });
            }
            loaded.layers.push(layers);
            loaded.dictionaries.push(Arc::new(open_dictionary(vfs, folder, shard, files)?));
            let ids = files.event_ids.iter();
            let parts: Result<_, _> =
                ids.map(|id| EventPart::open(vfs, &event_ids_path(folder, shard, *id)).map(Arc::new)).collect();
            loaded.event_ids.push(EventIds::of(parts?));
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

/// The newest manifest and its number.
pub(super) fn newest(vfs: &dyn Vfs, folder: &Path) -> Result<Option<(u64, Manifest)>, ReadError> {
    let manifests = folder.join("manifest");
    let numbers = manifest::numbers(vfs, &manifests).map_err(|error| ReadError::Io {
        path: manifests.clone(),
        verb: "list the manifests",
        source: Arc::new(error),
    })?;
    let Some(number) = numbers.last() else { return Ok(None) };
    Ok(Some((*number, manifest::read(vfs, &manifests, *number)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_was_logged_before_there_were_notes_is_read() {
        let mut logged = vec![1];
        logged.extend_from_slice(&5_u64.to_le_bytes());
        for number in [7_u128, 8] {
            logged.extend_from_slice(&number.to_le_bytes());
        }
        logged.extend_from_slice(&900_u64.to_le_bytes());
        let mut bytes = manifest::Decoder(&logged);
        let head = Head::decode(&mut bytes).expect("a head");
        assert_eq!((head.now, head.origin, bytes.0.len()), (5, None, 0));
        assert_eq!(head.once, Some(Remembered { key: 7, digest: 8, expires: 900, note: 0 }));
    }
}
