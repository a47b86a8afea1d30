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
use super::{Checkpointed, Compacting, Store, TapMark, WriteError, held};
use crate::error::{Class, ReadError};
use crate::segment::merge::mentions;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A purge that has written everything anew and has still to remove what was there before.
#[derive(Debug)]
pub(super) struct Rewritten {
    doomed: Arc<Erasures>,
    /// Where the tap was then.
    mark: TapMark,
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
    /// It was stopped.
    #[error("it was stopped")]
    Stopped,
    /// Files that were replaced could not be removed.
    #[error("remove files that were replaced: {0}; see that Beluga may change its directory")]
    Remove(std::io::Error),
}

impl PurgeError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            PurgeError::Write(error) => error.class(),
            PurgeError::Table(_) | PurgeError::Remove(_) | PurgeError::Waits(_) | PurgeError::Stopped => {
                Class::Unavailable
            }
        }
    }
}

impl From<ReadError> for PurgeError {
    fn from(error: ReadError) -> PurgeError {
        PurgeError::Write(error.into())
    }
}

impl Store {
    /// Takes everything off the disk that is left of users erased until now; `None` if nothing is. Checkpoints, merges and questions go on
    /// meanwhile, but a question that began to read rows of facts before may find them gone, and fail. Once `stop` is set it ends soon.
    ///
    /// # Errors
    /// [`PurgeError`]; what is left is shown to nobody, and the next call goes on.
    pub fn purge(&self, stop: &Arc<AtomicBool>) -> Result<Option<PurgeReport>, PurgeError> {
        let mut rewritten = held(&self.rewritten);
        self.log.check()?;
        let doomed = held(&self.writer).erasures.clone();
        if doomed.is_clean() {
            return Ok(None);
        }
        let mut report = PurgeReport::default();
        if rewritten.last().is_none_or(|last| last.doomed.count() < doomed.count()) {
            report = self.rewrite(&doomed, stop)?;
            let tap = self.options.tap.as_ref();
            let mark = tap.map(|tap| tap.mark(&self.snapshot())).transpose().map_err(PurgeError::Waits)?;
            rewritten.push(Rewritten { doomed, mark: mark.unwrap_or_default() });
        }
        report.erasures = self.settle(&mut rewritten)?;
        Ok(Some(report))
    }

    /// Ends the purges that waited for other sides, if they need not wait any more. Answers how many erasures that made clean.
    ///
    /// # Errors
    /// As [`Store::purge`].
    pub fn end_purges(&self) -> Result<u64, PurgeError> {
        self.settle(&mut held(&self.rewritten))
    }

    /// When the oldest erasure took effect for which no purge has been begun, in microseconds since 1970; whether a purge waits.
    pub fn purges_due(&self) -> (Option<i64>, bool) {
        let rewritten = held(&self.rewritten);
        let begun = rewritten.last().map_or(0, |last| last.doomed.count());
        (held(&self.writer).erasures.unclean_since(begun), !rewritten.is_empty())
    }

    /// Those that were begun first are at an end first.
    fn settle(&self, rewritten: &mut Vec<Rewritten>) -> Result<u64, PurgeError> {
        let mut erasures = 0;
        while let Some(first) = rewritten.first() {
            erasures += self.end_purge(first)?;
            rewritten.remove(0);
        }
        Ok(erasures)
    }

    /// Writes everything anew that has something of these users.
    fn rewrite(&self, doomed: &Erasures, stop: &Arc<AtomicBool>) -> Result<PurgeReport, PurgeError> {
        let mut report = PurgeReport::default();
        let go_on = || if stop.load(Ordering::Relaxed) { Err(PurgeError::Stopped) } else { Ok(()) };
        self.checkpoint()?;
        if let Some(tables) = &self.options.tables {
            for (name, fact) in self.snapshot().catalog().facts() {
                tables.erase(name, fact, doomed.pending(), stop)?;
                go_on()?;
            }
        }
        for (shard, users) in doomed.pending().iter().enumerate().filter(|(_, users)| !users.is_empty()) {
            // Between shards merges have their turn.
            let mut compacting = held(&self.compacting);
            report.users += users.len();
            report.bytes_written += self.purge_segments(&mut compacting, shard, users)?;
            while let Some(part) = self.dictionaries[shard].part_with(users)? {
                report.bytes_written += self.rewrite_parts(&mut compacting, shard, &[part])?.bytes_written;
            }
            go_on()?;
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
        let rules = rules.with_centres(self.renewed_centres()).without(users.clone());
        let mut written = 0;
        for (at, segment) in disk.iter().enumerate() {
            if mentions(&segment.segment, users)? {
                let due = Due { shard, run: vec![segment.clone()], bottom: at + 1 == disk.len() };
                written += self.rewrite_segments(compacting, due, &rules)?.bytes_written;
            }
        }
        Ok(written)
    }

    /// Removes what was replaced, and forgets that they were pending. Answers how many erasures are clean by that.
    fn end_purge(&self, rewritten: &Rewritten) -> Result<u64, PurgeError> {
        if let Some(tap) = &self.options.tap {
            tap.let_go(&rewritten.mark).map_err(PurgeError::Waits)?;
        }
        let doomed = &*rewritten.doomed;
        // No version comes any more that has rows of theirs.
        if let Some(tables) = &self.options.tables {
            for (name, _) in self.snapshot().catalog().facts() {
                tables.forget_history(name)?;
            }
        }
        // A merge has files that no manifest names yet, and so has a checkpoint.
        let _compacting = held(&self.compacting);
        let mut checkpointed = held(&self.checkpointing);
        self.log.check()?;
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
        let erasures = Arc::make_mut(&mut writer.erasures).clean(doomed, now);
        drop(writer);
        for (dictionary, users) in self.dictionaries.iter().zip(doomed.pending()) {
            dictionary.forget_erased(users);
        }
        Arc::make_mut(&mut layers.erased).clean(doomed, now);
        layers.hide_erased();
        let shown = self.snapshot();
        self.swap_in(&layers, shown.catalog.clone(), shown.audiences.clone());
        drop(layers);
        Ok(erasures)
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
