//! Merging segments, so that a question meets few layers.
//!
//! Size-tiered, per shard: a run of the newest segments is merged with the next older one when together they have at
//! least a third of its size. So sizes rise from layer to layer, there are O(log n) of them, and a byte that stands in
//! a segment of size `s` is rewritten only into one of at least `4/3 s`: at most `log(shard size / checkpoint size)` to the base
//! 4/3 times, in practice a few.
//!
//! Merging reads and writes beside everything else; only the exchange of the files takes the checkpoint's lock.

use super::manifest::Manifest;
use super::snapshot::{Audience, Definition};
use super::{DiskSegment, StepReport, Store, WriteError, held, part_path, segment_path};
use crate::catalog::{Catalog, TagType};
use crate::dictionary::part::Part;
use crate::dictionary::{self, Dictionary};
use crate::ids::{FileId, TagId};
use crate::segment::merge::{MergeError, MergeKind, MergeRules, merge};
use crate::segment::{Segment, SegmentWriter};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A run is due when the newer segments have at least one in so many bytes of the older one.
const SIZE_RATIO: u64 = 3;
/// No shard keeps more segments than this, whatever their sizes.
const SEGMENTS_MAX: usize = 8;

/// The rules of a merge, owning what they look at.
#[derive(Clone)]
pub(super) struct OwnedRules {
    catalog: Arc<Catalog>,
    lists: Arc<HashSet<Vec<u8>>>,
    bottom: bool,
}

/// The rules by this catalog and these audiences.
pub(super) fn merge_rules(catalog: &Arc<Catalog>, audiences: &BTreeMap<String, Audience>, bottom: bool) -> OwnedRules {
    let lists = audiences.values().filter_map(|audience| match &audience.definition {
        Definition::Uploaded { list_id, .. } => Some(list_id.clone().into_bytes()),
        Definition::Expression(_) => None,
    });
    OwnedRules { catalog: catalog.clone(), lists: Arc::new(lists.collect()), bottom }
}

impl OwnedRules {
    pub(super) fn with_bottom(&self, bottom: bool) -> OwnedRules {
        OwnedRules { bottom, ..self.clone() }
    }

    pub(super) fn apply<T>(&self, merge: impl FnOnce(&MergeRules<'_>) -> T) -> T {
        let kinds: BTreeMap<TagId, MergeKind> =
            self.catalog.tags().map(|(_, tag)| (tag.id, kind_of(tag.tag_type))).collect();
        let kind = |tag: TagId| match tag {
            TagId::UNIVERSE => Some(MergeKind::Exclusive),
            TagId::UPLOADS => Some(MergeKind::Set),
            // A tag declared after this catalog was read is newer than the merge; one dropped before it is gone.
            tag => kinds.get(&tag).copied(),
        };
        // A list that is being uploaded has no audience yet; only a merge of everything may leave lists out, since an
        // upload in progress stands in newer layers.
        let wanted = |tag: TagId, value: &[u8]| tag != TagId::UPLOADS || !self.bottom || self.lists.contains(value);
        merge(&MergeRules { bottom: self.bottom, kind: &kind, wanted: &wanted })
    }
}

fn kind_of(tag_type: TagType) -> MergeKind {
    match tag_type {
        TagType::Set => MergeKind::Set,
        TagType::Enum | TagType::Flag => MergeKind::Exclusive,
        TagType::Number(_) => MergeKind::Number,
    }
}

/// The run of segments (by index, newest first) that is due, by their sizes.
fn due(sizes: &[u64]) -> Option<Range<usize>> {
    let mut newer = *sizes.first()?;
    let mut run = 1;
    for (index, size) in sizes.iter().enumerate().skip(1) {
        if newer * SIZE_RATIO >= *size {
            run = index + 1;
        }
        newer += size;
    }
    if run == 1 && sizes.len() > SEGMENTS_MAX {
        run = 2;
    }
    (run > 1).then_some(0..run)
}

impl Store {
    /// Does the most useful merge, if any is due; to be called until it answers `None`.
    ///
    /// # Errors
    /// [`WriteError`]; the files stay as they were.
    pub fn compact(&self) -> Result<Option<StepReport>, WriteError> {
        let _one = held(&self.compacting);
        self.log.check()?;
        if let Some(report) = self.compact_segments()? {
            return Ok(Some(report));
        }
        self.compact_dictionary()
    }

    fn compact_segments(&self) -> Result<Option<StepReport>, WriteError> {
        let Some((shard, run, bottom)) = self.segments_due() else { return Ok(None) };
        let shown = self.snapshot();
        let rules = merge_rules(&shown.catalog, &shown.audiences, bottom);
        let merged = self.merge_segments(shard, &run, &rules);
        let merged = merged.map_err(|error| self.merge_failed("write a merged segment", error))?;
        let mut report =
            StepReport { bytes_written: merged.segment.size_bytes(), segments_written: 1, segments_removed: run.len() };
        let ids: Vec<FileId> = run.iter().map(|disk| disk.id).collect();
        self.commit_files(&mut report, |manifest| {
            let files = &mut manifest.shards[shard].segments;
            replace_run(files, |(id, _)| *id, &ids, (merged.id, merged.segment.size_bytes()));
        })?;
        let mut layers = held(&self.layers);
        replace_run(&mut layers.shards[shard].disk, |disk| disk.id, &ids, merged);
        let shown = self.snapshot();
        self.swap_in(&layers, shown.catalog.clone(), shown.audiences.clone());
        drop(layers);
        ids.iter().for_each(|id| {
            let _ = self.vfs.remove(&segment_path(&self.folder, shard, *id));
        });
        Ok(Some(report))
    }

    /// The largest run that is due: its shard, its segments, whether it reaches the bottom.
    fn segments_due(&self) -> Option<(usize, Vec<DiskSegment>, bool)> {
        let layers = held(&self.layers);
        let runs = layers.shards.iter().enumerate().filter_map(|(number, shard)| {
            let sizes: Vec<u64> = shard.disk.iter().map(|disk| disk.segment.size_bytes()).collect();
            let run = due(&sizes)?;
            Some((number, shard.disk[run.clone()].to_vec(), run.end == sizes.len()))
        });
        runs.max_by_key(|(_, run, _)| run.len())
    }

    fn merge_segments(&self, shard: usize, run: &[DiskSegment], rules: &OwnedRules) -> Result<DiskSegment, MergeError> {
        let id = self.new_file();
        let path = segment_path(&self.folder, shard, id);
        let inputs: Vec<Arc<Segment>> = run.iter().map(|disk| disk.segment.clone()).collect();
        let mut writer = SegmentWriter::create(&*self.vfs, &path)?;
        rules.apply(|rules| merge(&inputs, rules, &mut writer))?;
        writer.finish()?;
        self.vfs.sync_folder(&self.shard_folder(shard))?;
        Ok(DiskSegment { id, segment: Arc::new(Segment::open(&*self.vfs, &path)?) })
    }

    /// Makes a change of files, and nothing else, the state on disk.
    fn commit_files(&self, report: &mut StepReport, change: impl FnOnce(&mut Manifest)) -> Result<(), WriteError> {
        let mut checkpointed = held(&self.checkpointing);
        let mut next = checkpointed.manifest.clone();
        change(&mut next);
        self.commit(&mut checkpointed, next, report)
    }

    fn compact_dictionary(&self) -> Result<Option<StepReport>, WriteError> {
        let due = self.dictionaries.iter().enumerate().find_map(|(shard, dictionary)| {
            let due = dictionary.merge_due()?;
            Some((shard, dictionary.parts()[due].to_vec()))
        });
        let Some((shard, parts)) = due else { return Ok(None) };
        let id = self.new_file();
        let path = part_path(&self.folder, shard, id);
        let written = Dictionary::write_merged(&parts, &*self.vfs, &path).map_err(|error| match error {
            dictionary::MergeError::Read(error) => WriteError::Read(error),
            dictionary::MergeError::Write(error) => self.log.fail("write merged user ids", &error),
        })?;
        self.vfs
            .sync_folder(&self.shard_folder(shard))
            .map_err(|error| self.log.fail("write merged user ids", &error))?;
        let merged = Arc::new(Part::open(&*self.vfs, &path)?);
        let covered = merged.slots();
        let mut report = StepReport { bytes_written: written, ..StepReport::default() };
        let old: Vec<_> = parts.iter().map(|part| part.path().to_owned()).collect();
        self.commit_files(&mut report, |manifest| {
            let files = &mut manifest.shards[shard].parts;
            let is_old = |file: &FileId| old.contains(&part_path(&self.folder, shard, *file));
            let at = files.iter().position(is_old).unwrap_or(files.len());
            files.retain(|file| !is_old(file));
            files.insert(at, id);
        })?;
        debug_assert!(parts.iter().all(|part| covered.start <= part.slots().start && part.slots().end <= covered.end));
        self.dictionaries[shard].replace(merged);
        old.iter().for_each(|path| {
            let _ = self.vfs.remove(path);
        });
        Ok(Some(report))
    }
}

/// Puts `merged` in the place of the items with these ids, which are neighbours.
fn replace_run<T>(items: &mut Vec<T>, id: impl Fn(&T) -> FileId, old: &[FileId], merged: T) {
    let at = items.iter().position(|item| old.contains(&id(item))).unwrap_or(items.len());
    items.retain(|item| !old.contains(&id(item)));
    items.insert(at, merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_rewritten_a_bounded_number_of_times() {
        let mut segments: Vec<u64> = Vec::new();
        let (mut checkpointed, mut rewritten, mut most) = (0u64, 0u64, 0);
        for step in 0..20_000u64 {
            let size = 50 + step * 7919 % 100;
            checkpointed += size;
            segments.insert(0, size);
            while let Some(run) = due(&segments) {
                let merged: u64 = segments[run.clone()].iter().sum();
                rewritten += merged;
                segments.splice(run, [merged]);
            }
            most = most.max(segments.len());
        }
        let amplification = rewritten as f64 / checkpointed as f64;
        let bound = (checkpointed as f64 / 50.0).ln() / (4.0f64 / 3.0).ln();
        assert!(amplification < bound, "{amplification} rewrites of each byte, bound {bound}");
        assert!(amplification < 16.0, "{amplification} rewrites of each byte");
        assert!(most <= SEGMENTS_MAX + 1, "{most} segments");
    }
}
