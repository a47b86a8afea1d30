//! Taking erased users off the disk.
//!
//! [`super::erasure`] has hidden them; here go their bytes, in this order, each step of which may be the last before a crash:
//!
//! 1. A checkpoint: what is in memory of them becomes files, and the log that has their ids is cut.
//! 2. The tables of facts are written anew without their rows, the segments without their slots, the parts of the dictionaries
//!    without their ids. Until all of it is done they stay pending, so no view shows what is not gone yet, and a
//!    purge that was cut off begins again and passes over what is done.
//! 3. What was replaced is gone: older versions of tables, orphans, older manifests, log files; and what waited for other sides has been
//!    passed on.
//! 4. A manifest says that they are pending no more.

use super::compaction::Due;
use super::erasure::Erasures;
use super::manifest;
use super::recovery::remove_orphans;
use super::tables::TableError;
use super::{Checkpointed, Compacting, Store, WriteError, held};
use crate::error::{Class, ReadError};
use crate::segment::merge::mentions;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A purge that is under way.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    doomed: Arc<Erasures>,
    report: PurgeReport,
    /// The tap was asked before.
    is_told: bool,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Erasures of which nothing is left.
    pub erasures: u64,
    /// Users who were known.
    pub users: u64,
    /// Bytes of segments and dictionaries that were written anew.
    pub bytes_written: u64,
}

/// Why bytes of erased users may still be there. They are shown to nobody, and the next purge goes on.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// See [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A fact's table could not be written anew.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Rows of them wait for other sides.
    #[error("{0}")]
    Waits(std::io::Error),
    /// Files that were replaced could not be removed.
    #[error("remove files that were replaced: {0}; see that Beluga may change its directory")]
    Remove(std::io::Error),
}

impl PurgeError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            PurgeError::Write(error) => error.class(),
            PurgeError::Table(_) | PurgeError::Remove(_) | PurgeError::Waits(_) => Class::Unavailable,
        }
    }
}

impl From<ReadError> for PurgeError {
    fn from(error: ReadError) -> PurgeError {
        PurgeError::Write(error.into())
    }
}

impl Store {
    /// Takes everything off the disk that is left of users erased until now; `None` if nothing is. Questions go on meanwhile, but one
    /// that began to read rows of facts before may find them gone, and fail.
    ///
    /// # Errors
    /// [`PurgeError`]; what is left is shown to nobody, and the next call goes on.
    pub fn purge(&self) -> Result<Option<PurgeReport>, PurgeError> {
        let mut compacting = held(&self.compacting);
        self.log.check()?;
        let mut begun = match compacting.purge.take() {
            Some(begun) => begun,
            None => {
                let doomed = held(&self.writer).erasures.clone();
                if doomed.is_clean() {
                    return Ok(None);
                }
                let report = self.rewrite(&mut compacting, &doomed)?;
                Begun { doomed, report, is_told: false }
            }
        };
        let ended = self.end_purge(&mut begun);
        if ended.is_err() {
            // What is written anew stays so; the next call goes on from here.
            compacting.purge = Some(begun.clone());
        }
        ended?;
        Ok(Some(begun.report))
    }

    /// Writes everything anew that has something of these users.
    fn rewrite(&self, compacting: &mut Compacting, doomed: &Erasures) -> Result<PurgeReport, PurgeError> {
        let mut report = PurgeReport::default();
        self.checkpoint()?;
        if let Some(tables) = &self.options.tables {
            for (name, fact) in self.snapshot().catalog().facts() {
                tables.erase(name, fact, doomed.pending())?;
            }
        }
        for (shard, users) in doomed.pending().iter().enumerate().filter(|(_, users)| !users.is_empty()) {
            report.users += users.len();
            report.bytes_written += self.purge_segments(compacting, shard, users)?;
            while let Some(part) = self.dictionaries[shard].part_with(users)? {
                report.bytes_written += self.rewrite_parts(compacting, shard, &[part])?.bytes_written;
            }
        }
        Ok(report)
    }

    /// Writes the segments anew that say something of these users, each by itself.
    fn purge_segments(
        &self,
        compacting: &mut Compacting,
        shard: usize,
        users: &RoaringBitmap,
    ) -> Result<u64, PurgeError> {
        let disk = held(&self.layers).shards[shard].disk.clone();
        // Behind the segments, as a merge takes them.
        let rules = held(&self.writer).merge_rules(Some(&self.snapshot()), self.options.clock.now());
        let rules = rules.with_centres(self.centres()).without(users.clone());
        let mut written = 0;
        for (at, segment) in disk.iter().enumerate() {
            if mentions(&segment.segment, users)? {
                let due = Due { shard, run: vec![segment.clone()], bottom: at + 1 == disk.len() };
                written += self.rewrite_segments(compacting, due, &rules)?.bytes_written;
            }
        }
        Ok(written)
    }

    /// Removes what was replaced, and forgets that they were pending.
    fn end_purge(&self, begun: &mut Begun) -> Result<(), PurgeError> {
        if let Some(tap) = &self.options.tap {
            let is_first = !std::mem::replace(&mut begun.is_told, true);
            tap.let_go(is_first).map_err(PurgeError::Waits)?;
        }
        let doomed = &*begun.doomed;
        let mut checkpointed = held(&self.checkpointing);
        self.log.check()?;
        if let Some(tables) = &self.options.tables {
            for (name, _) in checkpointed.manifest.catalog.facts() {
                tables.forget_history(name)?;
            }
        }
        self.remove_replaced(&checkpointed).map_err(PurgeError::Remove)?;
        let now = self.options.clock.now();
        let mut left = Erasures::clone(&checkpointed.erasures);
        left.clean(doomed, now);
        let left = Arc::new(left);
        let mut next = checkpointed.manifest.clone();
        self.save_erasures(&left, &mut next).map_err(|error| self.log.fail("write the list of erasures", &error))?;
        self.commit(&mut checkpointed, next, &mut super::StepReport::default())?;
        checkpointed.erasures = left;

        let mut layers = held(&self.layers);
        let mut writer = held(&self.writer);
        Arc::make_mut(&mut writer.erasures).clean(doomed, now);
        let erasures = writer.erasures.clone();
        drop(writer);
        for (dictionary, users) in self.dictionaries.iter().zip(doomed.pending()) {
            dictionary.forget_erased(users);
        }
        Arc::make_mut(&mut layers.erased).clean(doomed, now);
        layers.hide_erased();
        let shown = self.snapshot();
        self.swap_in(&layers, shown.catalog.clone(), shown.audiences.clone());
        drop(layers);
        begun.report.erasures = erasures.cleaned_of(doomed);
        Ok(())
    }

    /// Removes the files of which a removal failed before, so that nothing is on the disk that no manifest names. Nobody else writes
    /// files meanwhile: that takes the locks that are held.
    fn remove_replaced(&self, checkpointed: &Checkpointed) -> std::io::Result<()> {
        remove_orphans(&*self.vfs, &self.folder, &checkpointed.manifest)?;
        (0..self.dictionaries.len()).try_for_each(|shard| self.vfs.sync_folder(&self.shard_folder(shard)))?;
        let manifests = self.folder.join("manifest");
        manifest::remove_before(&*self.vfs, &manifests, checkpointed.number);
        let left = self.vfs.list(&manifests)?;
        if left.iter().any(|name| name.ends_with(".prepared") || name.ends_with(".tmp")) {
            return Err(std::io::Error::other("a prepared manifest is left"));
        }
        self.vfs.sync_folder(&manifests)?;
        self.log.cut_all(checkpointed.manifest.position())
    }
}
