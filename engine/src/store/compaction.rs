//! Merging segments, so that a question meets few layers.
//!
//! Size-tiered, per shard: a run of the newest segments is merged with the next older one when together they have at
//! least a third of its size. So sizes rise from layer to layer, there are O(log n) of them, and a byte that stands in
//! a segment of size `s` is rewritten only into one of at least `4/3 s`: at most `log(shard size / checkpoint size)` to the base
//! 4/3 times, in practice a few.
//!
//! What counts is what a merge keeps: bytes of tags, facts and spaces that were dropped weigh nothing, and a segment that is
//! half of them is rewritten by itself, so that what was dropped leaves the disk also where segments are too large for any run.
//! So is one with many vectors that should be sorted by newer centres ([`super::centres`]): once for every four times as many vectors.
//!
//! Merging reads and writes beside everything else; only the exchange of the files takes the checkpoint's lock.

use super::centres::{OfSpaces, trained_on};
use super::manifest::Manifest;
use super::{Compacting, DiskSegment, StepReport, Store, WriteError, event_ids_path, held, part_path, segment_path};
use crate::catalog::{Catalog, TagType};
use crate::dictionary::part::Part as DictionaryPart;
use crate::error::MergeError;
use crate::events;
use crate::events::part::Part as EventPart;
use crate::ids::{FileId, TagId};
use crate::lookalike::cells::{Centres, MEMBER_BYTES, copy_bytes};
use crate::segment::merge::{ActivityRules, MergeKind, MergeRules, merge};
use crate::segment::{Key, Part, Segment, SegmentWriter};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A run is due when the newer segments have at least one in so many bytes of the older one.
const SIZE_RATIO: u64 = 3;
/// A segment is rewritten to sort vectors that are at least one in so many of its bytes.
const SORTED_SHARE: u64 = 4;
const DAY_MICROS: i64 = 86_400_000_000;
/// No shard keeps more segments than this, whatever their sizes.
const SEGMENTS_MAX: usize = 8;
/// Segments are merged up to this size, somewhat below the 16 GiB that one can have; larger ones stay beside each other.
const MERGED_BYTES_MAX: u64 = 15 << 30;

/// The rules of a merge, owning what they look at.
#[derive(Clone)]
pub(super) struct OwnedRules {
    kinds: Arc<BTreeMap<TagId, MergeKind>>,
    /// The uploaded lists that are still wanted.
    lists: Arc<HashSet<Vec<u8>>>,
    bottom: bool,
    centres: OfSpaces,
    /// See [`MergeRules::erased`].
    erased: Arc<RoaringBitmap>,
}

impl OwnedRules {
    /// Rules that are not yet for the bottom; `lists` are kept there, and no others.
    /// `now`: microseconds since 1970.
    pub(super) fn new<'l>(catalog: &Catalog, now: i64, lists: impl Iterator<Item = &'l str>) -> OwnedRules {
        let tags = catalog.tags().map(|(_, tag)| (tag.id, kind_of(tag.tag_type)));
        let facts = catalog.facts().map(|(_, fact)| {
            let (now_hour, kept_from) = fact.hours_at(now);
            (fact.id, MergeKind::Activity(ActivityRules { now_hour, kept_from, sum_months: true }))
        });
        let spaces = catalog.spaces().map(|(_, space)| (space.id, MergeKind::Vectors));
        OwnedRules {
            kinds: Arc::new(tags.chain(facts).chain(spaces).collect()),
            lists: Arc::new(lists.map(|list| list.as_bytes().to_vec()).collect()),
            bottom: false,
            centres: OfSpaces::default(),
            erased: Arc::default(),
        }
    }

    /// Rules for what is not merged again soon: vectors are sorted by these centres.
    pub(super) fn with_centres(self, centres: OfSpaces) -> OwnedRules {
        OwnedRules { centres, ..self }
    }

    /// Whether a segment has so many vectors that they should be sorted by newer centres than they are. All of it is rewritten for that,
    /// so they are a part of it that is worth it.
    fn is_unsorted(&self, segment: &Segment) -> bool {
        self.centres.iter().any(|(space, centres)| {
            let of_space = segment.tag_bytes().iter().find(|(tag, _)| tag == space).map_or(0, |(_, bytes)| *bytes);
            let (now, newest) = (trained_on(segment, *space), centres.trained_on());
            segment.cardinality(Key { tag: *space, part: Part::Exists }) >= centres.count() as u64
                && now < newest
                && Centres::is_outgrown(now, newest)
                && of_space >= segment.size_bytes() / SORTED_SHARE
        })
    }

    /// Bytes of a segment that a merge keeps or makes, and those that it leaves out since what they are of was dropped.
    fn weigh(&self, segment: &Segment) -> Weight {
        let is_dropped =
            |tag: TagId| ![TagId::UNIVERSE, TagId::UPLOADS].contains(&tag) && !self.kinds.contains_key(&tag);
        let dropped = segment.tag_bytes().iter().filter(|(tag, _)| is_dropped(*tag)).map(|(_, bytes)| bytes).sum();
        let kept = segment.size_bytes().saturating_sub(dropped) + self.cells_bytes(segment);
        Weight { kept, dropped, is_unsorted: self.is_unsorted(segment) }
    }

    /// Bytes that cells of vectors take which are not sorted yet.
    fn cells_bytes(&self, segment: &Segment) -> u64 {
        let unsorted = self.centres.iter().filter(|(space, _)| trained_on(segment, **space) == 0);
        let bytes = |(space, centres): (&TagId, &Centres)| {
            let vectors = segment.cardinality(Key { tag: *space, part: Part::Exists });
            vectors * (MEMBER_BYTES + copy_bytes(centres.dimension())) as u64
        };
        unsorted.map(bytes).sum()
    }

    pub(super) fn with_bottom(&self, bottom: bool) -> OwnedRules {
        OwnedRules { bottom, ..self.clone() }
    }

    /// Rules by which nothing of these users is left.
    pub(super) fn without(self, users: RoaringBitmap) -> OwnedRules {
        OwnedRules { erased: Arc::new(users), ..self }
    }

    /// Rules for what is merged again soon.
    pub(super) fn in_memory(mut self) -> OwnedRules {
        for kind in Arc::make_mut(&mut self.kinds).values_mut() {
            if let MergeKind::Activity(rules) = kind {
                rules.sum_months = false;
            }
        }
        self
    }

    pub(super) fn apply<T>(&self, merge: impl FnOnce(&MergeRules<'_>) -> T) -> T {
        let kind = |tag: TagId| match tag {
            TagId::UNIVERSE => Some(MergeKind::Exclusive),
            TagId::UPLOADS => Some(MergeKind::Set),
            // A tag declared after this catalog was read is newer than the merge; one dropped before it is gone.
            tag => self.kinds.get(&tag).copied(),
        };
        // Above the bottom a list cannot be left out: its removals hide what is below.
        let wanted = |tag: TagId, value: &[u8]| tag != TagId::UPLOADS || !self.bottom || self.lists.contains(value);
        let centres = |space: TagId| self.centres.get(&space).cloned();
        let erased = &self.erased;
        merge(&MergeRules { bottom: self.bottom, kind: &kind, wanted: &wanted, centres: &centres, erased })
    }
}

fn kind_of(tag_type: TagType) -> MergeKind {
    match tag_type {
        TagType::Set => MergeKind::Set,
        TagType::Enum | TagType::Flag => MergeKind::Exclusive,
        TagType::Number(_) => MergeKind::Number,
    }
}

/// Bytes of a segment.
#[derive(Clone, Copy, Debug)]
struct Weight {
    kept: u64,
    dropped: u64,
    /// See [`OwnedRules::is_unsorted`].
    is_unsorted: bool,
}

/// What is due: a run by what its segments keep, else the first segment of which half was dropped, or whose vectors should be sorted.
/// One that alone keeps more than a segment can be merged to is let be.
fn due_of(weights: &[Weight], due: impl Fn(&[u64]) -> Option<Range<usize>>) -> Option<Range<usize>> {
    let kept: Vec<u64> = weights.iter().map(|weight| weight.kept).collect();
    let alone = |weight: &Weight| {
        let is_half_dropped = weight.dropped > 0 && weight.dropped >= weight.kept;
        (is_half_dropped || weight.is_unsorted) && weight.kept <= MERGED_BYTES_MAX
    };
    due(&kept[..fitting(&kept)]).or_else(|| weights.iter().position(alone).map(|at| at..at + 1))
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

/// How many of the newest segments one segment can hold. Vectors make segments that are as large as one can be, and a merge that
/// finds that out while it writes would end all writing.
fn fitting(sizes: &[u64]) -> usize {
    let mut merged = 0_u64;
    let fits = |size: &&u64| {
        merged += **size;
        merged <= MERGED_BYTES_MAX
    };
    sizes.iter().take_while(fits).count()
}

impl Store {
    /// Does the most useful merge, if any is due; to be called until it answers `None`.
    ///
    /// # Errors
    /// [`WriteError`]; the files stay as they were.
    pub fn compact(&self) -> Result<Option<StepReport>, WriteError> {
        self.compact_runs(due)
    }

    /// The same, down to one segment a shard, whatever their sizes: what is read best, for data that has come to rest.
    ///
    /// # Errors
    /// As [`Store::compact`].
    pub fn compact_fully(&self) -> Result<Option<StepReport>, WriteError> {
        self.compact_runs(|sizes| (sizes.len() > 1).then_some(0..sizes.len()))
    }

    fn compact_runs(&self, due: impl Fn(&[u64]) -> Option<Range<usize>>) -> Result<Option<StepReport>, WriteError> {
        let mut compacting = held(&self.compacting);
        self.log.check()?;
        // Parts first: under a load segments are always due, and every new id is looked for in each part. Parts are due
        // seldom enough to leave room for segments.
        if let Some(report) = self.compact_dictionary(&mut compacting)? {
            return Ok(Some(report));
        }
        if let Some(report) = self.compact_event_ids(&mut compacting)? {
            return Ok(Some(report));
        }
        self.compact_segments(&mut compacting, due)
    }

    fn compact_segments(
        &self,
        compacting: &mut Compacting,
        due: impl Fn(&[u64]) -> Option<Range<usize>>,
    ) -> Result<Option<StepReport>, WriteError> {
        let disks: Vec<Vec<DiskSegment>> = held(&self.layers).shards.iter().map(|shard| shard.disk.clone()).collect();
        // Behind the segments: so nothing is in them that the rules do not know yet and would leave out.
        let rules = held(&self.writer).merge_rules(Some(&self.snapshot()), self.options.clock.now());
        let rules = rules.with_centres(self.renewed_centres());
        let Some(due) = segments_due(disks, compacting, &rules, due) else { return Ok(None) };
        self.rewrite_segments(compacting, due, &rules).map(Some)
    }

    /// Puts one segment in the place of neighbouring ones.
    pub(super) fn rewrite_segments(
        &self,
        compacting: &mut Compacting,
        due: Due,
        rules: &OwnedRules,
    ) -> Result<StepReport, WriteError> {
        let (shard, run) = (due.shard, due.run);
        let id = self.new_file();
        let path = segment_path(&self.folder, shard, id);
        let merged = self.merge_segments(&path, &run, &rules.with_bottom(due.bottom));
        let segment = Arc::new(merged.map_err(|error| self.step_failed(compacting, shard, &path, error))?);
        let mut report =
            StepReport { bytes_written: segment.size_bytes(), segments_written: 1, segments_removed: run.len() };
        let merged = DiskSegment { id, segment };
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
        Ok(report)
    }

    /// What a failed merge leaves behind: nothing. Damage concerns its shard; a disk that cannot be written, the store.
    fn step_failed(&self, compacting: &mut Compacting, shard: usize, path: &Path, error: MergeError) -> WriteError {
        let _ = self.vfs.remove(path);
        match error {
            MergeError::Read(error) => {
                compacting.damaged.insert(shard);
                WriteError::Read(error)
            }
            MergeError::Write(error) => self.log.fail("merge files", &error),
        }
    }

    fn merge_segments(&self, path: &Path, run: &[DiskSegment], rules: &OwnedRules) -> Result<Segment, MergeError> {
        let inputs: Vec<Arc<Segment>> = run.iter().map(|disk| disk.segment.clone()).collect();
        let mut writer = SegmentWriter::create(&*self.vfs, path)?;
        rules.apply(|rules| merge(&inputs, rules, &mut writer))?;
        writer.finish()?;
        self.vfs.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(Segment::open(&*self.vfs, path)?)
    }

    /// Makes a change of files, and nothing else, the state on disk.
    pub(super) fn commit_files(
        &self,
        report: &mut StepReport,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), WriteError> {
        let mut checkpointed = held(&self.checkpointing);
        // After a failure a prepared manifest may be the next one; it must not be overtaken.
        self.log.check()?;
        let mut next = checkpointed.manifest.clone();
        change(&mut next);
        self.commit(&mut checkpointed, next, report)
    }

    fn compact_event_ids(&self, compacting: &mut Compacting) -> Result<Option<StepReport>, WriteError> {
        // A day late, since somewhere it is still yesterday.
        let today = (self.options.clock.now() / DAY_MICROS - 1) as i32;
        let due = {
            let writer = held(&self.writer);
            let shards = writer.event_ids.iter().enumerate();
            let mut sound = shards.filter(|(shard, _)| !compacting.damaged.contains(shard));
            sound.find_map(|(shard, ids)| Some((shard, ids.parts()[events::merge_due(ids.parts(), today)?].to_vec())))
        };
        let Some((shard, parts)) = due else { return Ok(None) };
        let id = self.new_file();
        let path = event_ids_path(&self.folder, shard, id);
        let merged = self.merge_event_ids(&path, &parts, today);
        let merged = merged.map_err(|error| self.step_failed(compacting, shard, &path, error))?;
        let written = merged.as_ref().map_or(0, |part| part.size_bytes());
        let mut report = StepReport { bytes_written: written, ..StepReport::default() };
        let old: Vec<_> = parts.iter().map(|part| part.path().to_owned()).collect();
        self.commit_files(&mut report, |manifest| {
            let files = &mut manifest.shards[shard].event_ids;
            let is_old = |file: &FileId| old.contains(&event_ids_path(&self.folder, shard, *file));
            let at = files.iter().position(is_old).unwrap_or(files.len());
            files.retain(|file| !is_old(file));
            files.splice(at..at, merged.as_ref().map(|_| id));
        })?;
        held(&self.writer).event_ids[shard].replace(&parts, merged);
        old.iter().for_each(|path| {
            let _ = self.vfs.remove(path);
        });
        Ok(Some(report))
    }

    fn merge_event_ids(
        &self,
        path: &Path,
        parts: &[Arc<EventPart>],
        today: i32,
    ) -> Result<Option<Arc<EventPart>>, MergeError> {
        if events::part::merge(&*self.vfs, path, parts, today)?.is_none() {
            return Ok(None);
        }
        self.vfs.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(Some(Arc::new(EventPart::open(&*self.vfs, path)?)))
    }

    fn compact_dictionary(&self, compacting: &mut Compacting) -> Result<Option<StepReport>, WriteError> {
        let sound = self.dictionaries.iter().enumerate().filter(|(shard, _)| !compacting.damaged.contains(shard));
        let due = { sound }.find_map(|(shard, dictionary)| {
            let due = dictionary.merge_due()?;
            Some((shard, dictionary.parts()[due].to_vec()))
        });
        let Some((shard, parts)) = due else { return Ok(None) };
        self.rewrite_parts(compacting, shard, &parts).map(Some)
    }

    /// Puts one part of a dictionary in the place of neighbouring ones.
    pub(super) fn rewrite_parts(
        &self,
        compacting: &mut Compacting,
        shard: usize,
        parts: &[Arc<DictionaryPart>],
    ) -> Result<StepReport, WriteError> {
        let id = self.new_file();
        let path = part_path(&self.folder, shard, id);
        let merged = self.merge_parts(shard, &path, parts);
        let merged = Arc::new(merged.map_err(|error| self.step_failed(compacting, shard, &path, error))?);
        let written = merged.size_bytes();
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
        Ok(report)
    }

    fn merge_parts(
        &self,
        shard: usize,
        path: &Path,
        parts: &[Arc<DictionaryPart>],
    ) -> Result<DictionaryPart, MergeError> {
        self.dictionaries[shard].write_merged(parts, &*self.vfs, path)?;
        self.vfs.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(DictionaryPart::open(&*self.vfs, path)?)
    }
}

/// The longest run that is due, of the segments of all shards.
fn segments_due(
    disks: Vec<Vec<DiskSegment>>,
    compacting: &Compacting,
    rules: &OwnedRules,
    due: impl Fn(&[u64]) -> Option<Range<usize>>,
) -> Option<Due> {
    let sound = disks.into_iter().enumerate().filter(|(shard, _)| !compacting.damaged.contains(shard));
    let runs = sound.filter_map(|(shard, disk)| {
        let weights: Vec<Weight> = disk.iter().map(|disk| rules.weigh(&disk.segment)).collect();
        let run = due_of(&weights, &due)?;
        Some(Due { shard, bottom: run.end == weights.len(), run: disk[run].to_vec() })
    });
    runs.max_by_key(|due| due.run.len())
}

/// A run of segments to merge.
pub(super) struct Due {
    pub(super) shard: usize,
    pub(super) run: Vec<DiskSegment>,
    /// It reaches the oldest one.
    pub(super) bottom: bool,
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
    fn what_one_segment_cannot_hold_is_not_merged() {
        let most = MERGED_BYTES_MAX;
        for (sizes, count) in [
            (&[][..], 0),
            (&[most], 1),
            (&[most + 1], 0),
            (&[1, 2, 3], 3),
            (&[1, most - 1, 5], 2),
            (&[1, most, 5], 1),
            (&[most, most], 1),
            (&[u64::MAX], 0),
        ] {
            assert_eq!(fitting(sizes), count, "{sizes:?}");
        }
        // What is new is not written again and again with a segment that is nearly full.
        let sizes = [1 << 20, most - (2 << 20), most - 1];
        assert_eq!(due(&sizes[..fitting(&sizes)]), None);
    }

    #[test]
    fn what_was_dropped_weighs_nothing() {
        let most = MERGED_BYTES_MAX;
        let weight = |kept, dropped| Weight { kept, dropped, is_unsorted: false };
        let weights = |all: &[(u64, u64)]| all.iter().map(|(kept, dropped)| weight(*kept, *dropped)).collect();
        for (all, expected) in [
            (&[][..], None),
            (&[(10, 0)], None),
            (&[(10, 9)], None),
            (&[(10, 10)], Some(0..1)),
            (&[(1, 0), (100, 0), (most - 1_000, most)], Some(2..3)),
            (&[(1, 0), (100, 0), (most + 1, most + 2)], None),
            // Together they are no larger than one can be, once what was dropped is left out.
            (&[(most / 4, 0), (most / 2, most / 3)], Some(0..2)),
            (&[(most / 4, 0), (most, 0)], None),
            (&[(1, 1), (2, 2)], Some(0..2)),
        ] {
            let all: Vec<Weight> = weights(all);
            assert_eq!(due_of(&all, due), expected, "{all:?}");
        }
        let unsorted = |kept| Weight { is_unsorted: true, ..weight(kept, 0) };
        assert_eq!(due_of(&[weight(1, 0), unsorted(100), unsorted(1_000)], due), Some(1..2));
        assert_eq!(due_of(&[weight(1, 0), unsorted(most + 1)], due), None);
    }

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
