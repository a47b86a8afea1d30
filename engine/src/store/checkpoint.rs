//! The step from one manifest to the next: writing what changed, so that the log behind it can go.
//!
//! 1. A cut: everything written so far is published, and the log goes on in a new file.
//! 2. Per changed shard: its in-memory layers, merged, become one segment file; its new ids a dictionary part. Writers and
//!    publishers go on meanwhile, above these layers.
//! 3. Rows of facts are staged as files that no table names yet. If there are any, the manifest is first written as a prepared
//!    one: from then on the checkpoint will happen, if need be at the next start. Then the rows are committed to their tables.
//! 4. Files are synced, then their folders, then the manifest is renamed into place: only that makes them real.
//! 5. The files take the layers' place; log files and manifests that are no longer needed go.

use super::compaction::OwnedRules;
use super::erasure::Erasures;
use super::manifest::{self, Manifest, OnceFile, ShardFiles, Staged};
use super::publish::Cut;
use super::recovery::commit_staged;
use super::tables::{FactRow, TableError};
use super::{
    Checkpointed, DiskSegment, RecentRows, StepReport, Store, WriteError, erased_path, event_ids_path, held, install,
    once, once_path, part_path, segment_path,
};
use crate::dictionary::part::Part;
use crate::error::MergeError;
use crate::events::Recent as RecentIds;
use crate::events::part::{Part as EventPart, write as write_event_ids};
use crate::ids::{FileId, TagId};
use crate::segment::merge::merge;
use crate::segment::{Segment, SegmentWriter};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// What a shard gives to a checkpoint.
struct Frozen {
    shard: usize,
    layers: Vec<Arc<Segment>>,
    /// There is no older data, so masks are not needed.
    bottom: bool,
    slot_count: u32,
    event_ids: Arc<RecentIds>,
}

/// What was written for a shard.
#[derive(Default)]
struct Saved {
    segment: Option<DiskSegment>,
    part: Option<(FileId, Arc<Part>)>,
    event_ids: Option<(FileId, Arc<EventPart>)>,
    bytes: u64,
}

impl Store {
    /// Writes what changed since the last checkpoint as segments and a manifest, and cuts the log.
    ///
    /// # Errors
    /// [`WriteError`]; the state on disk is then the last checkpoint and the log, and nothing is lost.
    pub fn checkpoint(&self) -> Result<StepReport, WriteError> {
        self.checkpoint_held(held(&self.checkpointing))
    }

    /// The same, by one who has the lock.
    pub(super) fn checkpoint_held(
        &self,
        mut checkpointed: MutexGuard<'_, Checkpointed>,
    ) -> Result<StepReport, WriteError> {
        self.log.check()?;
        if !held(&self.writer).unsaved {
            return Ok(StepReport::default());
        }
        let (cut, frozen, rows) = self.freeze()?;
        if let Some(tap) = self.options.tap.as_ref().filter(|_| !rows.is_empty()) {
            tap.take(&self.snapshot()).map_err(|error| self.log.fail("hand rows to the sinks", &error))?;
        }
        let rules = cut.rules.clone().with_centres(self.centres());
        let saved: Result<Vec<Saved>, MergeError> =
            install(&self.options.workers, || frozen.par_iter().map(|frozen| self.save(frozen, &rules)).collect());
        // The log goes on behind the cut and nothing else will save what is before it: whatever failed, writes end.
        let saved = saved.map_err(|error| self.log.fail("write a checkpoint", &error))?;

        let mut next = checkpointed.manifest.clone();
        let mut report = StepReport::default();
        self.save_once(&cut, &mut next, &mut report).map_err(|error| self.log.fail("write remembered keys", &error))?;
        if !Arc::ptr_eq(&checkpointed.erasures, &cut.erasures) {
            let saved = self.save_erasures(&cut.erasures, &mut next);
            report.bytes_written += saved.map_err(|error| self.log.fail("write the list of erasures", &error))?;
        }
        next.epoch = cut.epoch;
        next.position = cut.position.0;
        next.catalog = cut.catalog;
        next.audiences = cut.audiences;
        next.sources = cut.sources;
        next.row_numbers = cut.row_numbers;
        for (files, (frozen, saved)) in next.shards.iter_mut().zip(frozen.iter().zip(&saved)) {
            record(files, frozen, saved, &mut report);
        }
        self.save_rows(&checkpointed, &mut next, &rows, &cut.erasures, &mut report)?;
        let tables = next.tables.clone();
        self.commit(&mut checkpointed, next, &mut report)?;
        checkpointed.erasures = cut.erasures;
        self.position.store(cut.position.0, Ordering::Relaxed);
        self.exchange(&frozen, saved, &rows, tables);
        self.log.cut(cut.position);
        Ok(report)
    }

    /// Publishes and marks the layers that will be written.
    fn freeze(&self) -> Result<(Cut, Vec<Frozen>, RecentRows), WriteError> {
        let (cut, mut layers) = self.cut()?;
        let frozen = layers.shards.iter_mut().enumerate().map(|(number, shard)| {
            shard.frozen = shard.memory.len();
            Frozen {
                shard: number,
                layers: shard.memory.clone(),
                bottom: shard.disk.is_empty(),
                slot_count: shard.slot_count,
                event_ids: cut.event_ids[number].clone(),
            }
        });
        let frozen = frozen.collect();
        Ok((cut, frozen, layers.rows.clone()))
    }

    /// Brings rows to their tables. When this returns they are there, and only the manifest is missing.
    fn save_rows(
        &self,
        before: &Checkpointed,
        next: &mut Manifest,
        rows: &RecentRows,
        erasures: &Erasures,
        report: &mut StepReport,
    ) -> Result<(), WriteError> {
        let Some(tables) = &self.options.tables else { return Ok(()) };
        let failed = |error: TableError| self.log.fail("bring rows to their table", &error);
        let catalog = next.catalog.clone();
        for (name, fact) in before.manifest.catalog.facts() {
            // The log says that it was dropped, so nobody comes back to its rows.
            if catalog.fact(name).is_none_or(|now| now.id != fact.id) {
                tables.remove(name).map_err(failed)?;
                next.tables.remove(&fact.id);
            }
        }
        let number = before.number + 1;
        for (name, fact) in catalog.facts() {
            let Some(logs) = rows.get(&fact.id) else { continue };
            let mut all: Vec<FactRow<'_>> = Vec::with_capacity(logs.iter().map(|log| log.rows().len()).sum());
            let is_left = |row: &FactRow<'_>| !erasures.has_pending((row.shard, row.slot));
            logs.iter().for_each(|log| all.extend(log.rows().filter(is_left)));
            if all.is_empty() {
                continue;
            }
            let plan = tables.stage(name, fact, number, &all).map_err(failed)?;
            next.staged.push(Staged { fact: fact.id, plan });
        }
        if next.staged.is_empty() {
            return Ok(());
        }
        next.next_file = self.new_file().0;
        report.bytes_written += manifest::prepare(&*self.vfs, &self.folder.join("manifest"), number, next)
            .map_err(|error| self.log.fail("prepare a manifest", &error))?;
        commit_staged(next, number, &**tables).map_err(failed)
    }

    fn save(&self, frozen: &Frozen, rules: &OwnedRules) -> Result<Saved, MergeError> {
        let mut saved = Saved::default();
        let vfs = &*self.vfs;
        if !frozen.layers.is_empty() {
            let id = self.new_file();
            let path = segment_path(&self.folder, frozen.shard, id);
            let mut writer = SegmentWriter::create(vfs, &path)?;
            rules.with_bottom(frozen.bottom).apply(|rules| merge(&frozen.layers, rules, &mut writer))?;
            saved.bytes += writer.finish()?;
            saved.segment = Some(DiskSegment { id, segment: Arc::new(Segment::open(vfs, &path)?) });
        }
        let dictionary = &self.dictionaries[frozen.shard];
        if dictionary.unsealed().start < frozen.slot_count {
            let id = self.new_file();
            let path = part_path(&self.folder, frozen.shard, id);
            saved.bytes += dictionary.write_unsealed(frozen.slot_count, vfs, &path)?;
            saved.part = Some((id, Arc::new(Part::open(vfs, &path)?)));
        }
        if !frozen.event_ids.is_empty() {
            let id = self.new_file();
            let path = event_ids_path(&self.folder, frozen.shard, id);
            saved.bytes += write_event_ids(vfs, &path, frozen.event_ids.sorted().into_iter())?;
            saved.event_ids = Some((id, Arc::new(EventPart::open(vfs, &path)?)));
        }
        if saved.bytes > 0 {
            vfs.sync_folder(&self.shard_folder(frozen.shard))?;
        }
        Ok(saved)
    }

    /// Writes the file of erasures that a manifest is to name.
    pub(super) fn save_erasures(&self, erasures: &Erasures, next: &mut Manifest) -> std::io::Result<u64> {
        let (id, folder) = (self.new_file(), self.folder.join("erased"));
        self.vfs.create_folder(&folder)?;
        let written = erasures.write(&*self.vfs, &erased_path(&self.folder, id))?;
        self.vfs.sync_folder(&folder)?;
        next.erasures = Some(id);
        Ok(written)
    }

    fn save_once(&self, cut: &Cut, next: &mut Manifest, report: &mut StepReport) -> std::io::Result<()> {
        next.once_files.retain(|file| file.expires > cut.now);
        let Some(expires) = cut.once.iter().map(|step| step.expires).max() else { return Ok(()) };
        let id = self.new_file();
        report.bytes_written += once::write(&*self.vfs, &once_path(&self.folder, id), &cut.once)?;
        self.vfs.sync_folder(&self.folder.join("once"))?;
        next.once_files.push(OnceFile { id, expires });
        Ok(())
    }

    /// Makes `next` the state on disk. If it fails it may be the state or not, so nothing is cleaned up.
    pub(super) fn commit(
        &self,
        checkpointed: &mut Checkpointed,
        mut next: Manifest,
        report: &mut StepReport,
    ) -> Result<(), WriteError> {
        next.next_file = self.new_file().0;
        let number = checkpointed.number + 1;
        let folder = self.folder.join("manifest");
        report.bytes_written += manifest::write(&*self.vfs, &folder, number, &next)
            .map_err(|error| self.log.fail("write a manifest", &error))?;
        let erasures = checkpointed.erasures.clone();
        let before = std::mem::replace(checkpointed, Checkpointed { number, manifest: next, erasures });
        manifest::remove_before(&*self.vfs, &folder, number);
        if before.manifest.erasures != checkpointed.manifest.erasures
            && let Some(old) = before.manifest.erasures
        {
            let _ = self.vfs.remove(&erased_path(&self.folder, old));
        }
        for old in before.manifest.once_files {
            if !checkpointed.manifest.once_files.contains(&old) {
                let _ = self.vfs.remove(&once_path(&self.folder, old.id));
            }
        }
        Ok(())
    }

    /// Puts the written files in the place of the layers they were made of.
    fn exchange(&self, frozen: &[Frozen], saved: Vec<Saved>, rows: &RecentRows, tables: BTreeMap<TagId, u64>) {
        let mut layers = held(&self.layers);
        layers.tables = tables;
        for (fact, logs) in rows {
            if let Some(recent) = layers.rows.get_mut(fact) {
                recent.drain(..logs.len());
            }
        }
        layers.rows.retain(|_, recent| !recent.is_empty());
        let mut writer = held(&self.writer);
        for (frozen, saved) in frozen.iter().zip(&saved) {
            let part = saved.event_ids.as_ref().map(|(_, part)| part.clone());
            writer.event_ids[frozen.shard].adopt(part);
        }
        drop(writer);
        for (frozen, saved) in frozen.iter().zip(saved) {
            let shard = &mut layers.shards[frozen.shard];
            let kept = shard.memory.len() - frozen.layers.len();
            shard.memory.truncate(kept);
            shard.frozen = 0;
            if let Some(segment) = saved.segment {
                shard.disk.insert(0, segment);
            }
            if let Some((_, part)) = saved.part {
                self.dictionaries[frozen.shard].adopt(part);
            }
        }
        // The same view by other layers: no new epoch.
        let shown = self.snapshot();
        self.swap_in(&layers, shown.catalog.clone(), shown.audiences.clone());
    }
}

fn record(files: &mut ShardFiles, frozen: &Frozen, saved: &Saved, report: &mut StepReport) {
    files.slot_count = frozen.slot_count;
    if let Some(segment) = &saved.segment {
        files.segments.insert(0, (segment.id, segment.segment.size_bytes()));
        report.segments_written += 1;
    }
    files.parts.extend(saved.part.as_ref().map(|(id, _)| *id));
    files.event_ids.splice(..0, saved.event_ids.as_ref().map(|(id, _)| *id));
    report.bytes_written += saved.bytes;
}
