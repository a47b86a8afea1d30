//! The pass over the candidates, and what is decided before and after it.

use super::candidates::{Candidates, Task, count_in_one, tasks};
use super::probe::{LEFT, Probed, is_worth_it};
use super::window::Window;
use super::{RecallError, Space};
use crate::bitmap::view::BitmapView;
use crate::lookalike::layer::ChunkRows;
use crate::lookalike::quantise::Scale;
use crate::lookalike::scorer::Scorer;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows between two looks at the flag: well under a millisecond, unless there are thousands of dimensions and hundreds of
/// prototypes.
pub(super) const BATCH: usize = 1_024;
/// Up to so many candidates a question stays on the calling thread.
const INLINE: u64 = 1 << 15;

/// Rows whose full precision is asked for at once.
const AHEAD: usize = 64;

/// Of so many candidates one is wanted at most, where those that cannot be members are let go on the way.
const FEW_OF: u64 = 8;

/// Up to so many chunks are counted on the calling thread.
const INLINE_TASKS: usize = 24;
/// The same if each is in a single layer.
const INLINE_TASKS_IN_ONE: usize = 1_024;

/// How many are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// As many.
    Count(u64),
    /// This share of the candidates, 0 to 1, rounded up.
    Share(f64),
}

/// The users with the best scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reached {
    /// Their slots, per shard.
    pub members: Vec<RoaringBitmap>,
    /// Users that pass the filter and have a vector.
    pub candidates: u64,
    /// No member scores less; `None` if there are no members, or the last one is the last candidate.
    pub at_least: Option<f32>,
    /// Rows whose full precision was looked at.
    pub rescored: u64,
    /// Passes over the candidates: 1, or 0 if none was needed; more if the sample misled.
    pub passes: u32,
    /// How cells were looked into instead of all candidates; the members are then the best most likely, and not surely.
    pub probed: Option<Probed>,
}

/// How users are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// For a few of many by cells, where vectors have some, else by a scan.
    #[default]
    Quick,
    /// By a scan of a byte a dimension, which full precision settles.
    Scan,
    /// By a scan in full precision; the answer is the same.
    Full,
}

/// A user and how alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The shard.
    pub shard: usize,
    /// The slot.
    pub slot: u32,
    /// In full precision.
    pub score: f32,
}

/// Who might be a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<'s> {
    pub(super) shard: usize,
    pub(super) slot: u32,
    pub(super) row: u32,
    pub(super) chunk: &'s ChunkRows<'s>,
    pub(super) lower: f32,
    pub(super) upper: f32,
}

/// What a pass over a chunk finds.
#[derive(Debug)]
struct Part<'s> {
    /// Members for sure, of this shard.
    shard: usize,
    sure: RoaringBitmap,
    kept: Vec<Kept<'s>>,
    /// Candidates whose score may be above the ceiling.
    above: u64,
    /// Candidates whose score is at least the floor.
    from_floor: u64,
}

/// Finds the `size` users with the best scores among those that pass `filter` (a bitmap a shard) and have a vector; all, if they
/// are fewer.
///
/// # Errors
/// [`RecallError`] if cancelled, or if scorer, filters or size do not fit the space.
pub fn nearest(
    space: &Space<'_>,
    scorer: &Scorer,
    filter: Option<&[BitmapView<'_>]>,
    size: Size,
    way: Way,
    cancelled: &AtomicBool,
) -> Result<Reached, RecallError> {
    let search = Search::new(space, scorer, filter, way == Way::Full, cancelled)?;
    let tasks = tasks(space, filter);
    let counts = search.counts(&tasks)?;
    let candidates: u64 = counts.iter().sum();
    let size = match size {
        Size::Count(count) => count,
        Size::Share(share) if (0.0..=1.0).contains(&share) => (share * candidates as f64).ceil() as u64,
        Size::Share(share) => return Err(RecallError::Share(share)),
    };
    let mut reached =
        Reached { members: vec![RoaringBitmap::new(); space.shards().len()], candidates, ..Reached::default() };
    if size == 0 {
        return Ok(reached);
    }
    let in_parallel = candidates > INLINE;
    if size >= candidates {
        let all = search.over(&tasks, in_parallel, |candidates, task| {
            let mut all = RoaringBitmap::new();
            candidates.list(task, |_, listed| all.extend(listed.slots.iter().copied()));
            Ok((task.shard, all))
        })?;
        all.into_iter().for_each(|(shard, all)| reached.members[shard] |= all);
        return Ok(reached);
    }
    if way == Way::Quick
        && is_worth_it(space, candidates, size)
        && let Some((kept, probed)) = search.probe(&tasks, candidates, size, LEFT, candidates as f64)?
    {
        reached.probed = Some(probed);
        search.choose(kept, size, &mut reached)?;
        return Ok(reached);
    }
    if !in_parallel && size < candidates / FEW_OF {
        let kept = search.best_of_all(&tasks, size)?;
        reached.passes = 1;
        search.choose(kept, size, &mut reached)?;
        return Ok(reached);
    }
    let window = search.window(&tasks, &counts, candidates, size)?;
    search.passes(&tasks, in_parallel, window, size, &mut reached)?;
    Ok(reached)
}

/// The `count` users with the best scores, best first; see [`nearest`].
///
/// # Errors
/// As [`nearest`].
pub fn top(
    space: &Space<'_>,
    scorer: &Scorer,
    filter: Option<&[BitmapView<'_>]>,
    count: u64,
    way: Way,
    cancelled: &AtomicBool,
) -> Result<Vec<Hit>, RecallError> {
    let reached = nearest(space, scorer, filter, Size::Count(count), way, cancelled)?;
    let mut hits = scores(space, scorer, &reached.members, cancelled)?;
    hits.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.shard.cmp(&b.shard)).then(a.slot.cmp(&b.slot)));
    Ok(hits)
}

/// The scores of users, in full precision, in order of shard and slot; those without a vector are left out.
///
/// # Errors
/// As [`nearest`].
pub fn scores(
    space: &Space<'_>,
    scorer: &Scorer,
    users: &[RoaringBitmap],
    cancelled: &AtomicBool,
) -> Result<Vec<Hit>, RecallError> {
    let bytes: Vec<Vec<u8>> = users.iter().map(serialized).collect();
    let views: Vec<BitmapView<'_>> = bytes.iter().map(|bytes| BitmapView::trusted(bytes)).collect();
    let search = Search::new(space, scorer, Some(&views), true, cancelled)?;
    let many = users.iter().map(RoaringBitmap::len).sum::<u64>() > INLINE;
    let parts = search.over(&tasks(space, Some(&views)), many, |candidates, task| {
        let window = Window { floor: f32::NEG_INFINITY, ceiling: f32::INFINITY };
        let part = search.pass(candidates, task, window)?;
        let mut hits: Vec<Hit> =
            part.kept.iter().map(|kept| Hit { shard: kept.shard, slot: kept.slot, score: kept.lower }).collect();
        hits.sort_unstable_by_key(|hit| hit.slot);
        Ok(hits)
    })?;
    Ok(parts.into_iter().flatten().collect())
}

fn serialized(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::new();
    bitmap.serialize_into(&mut bytes).expect("memory does not fail");
    bytes
}

pub(super) struct Search<'s> {
    pub(super) space: &'s Space<'s>,
    pub(super) scorer: &'s Scorer,
    pub(super) filter: Option<&'s [BitmapView<'s>]>,
    exact: bool,
    cancelled: &'s AtomicBool,
}

impl<'s> Search<'s> {
    fn new(
        space: &'s Space<'s>,
        scorer: &'s Scorer,
        filter: Option<&'s [BitmapView<'s>]>,
        exact: bool,
        cancelled: &'s AtomicBool,
    ) -> Result<Self, RecallError> {
        if scorer.dimension() != space.dimension() {
            return Err(RecallError::Dimension { expected: space.dimension(), found: scorer.dimension() });
        }
        let expected = space.shards().len();
        if let Some(found) = filter.map(<[_]>::len).filter(|found| *found != expected) {
            return Err(RecallError::Filters { expected, found });
        }
        Ok(Search { space, scorer, filter, exact, cancelled })
    }

    pub(super) fn look(&self) -> Result<(), RecallError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(RecallError::Cancelled) } else { Ok(()) }
    }

    pub(super) fn candidates(&self) -> Candidates<'s> {
        Candidates::new(self.space, self.filter)
    }

    /// How many candidates each task has.
    fn counts(&self, tasks: &[Task]) -> Result<Vec<u64>, RecallError> {
        let at_once = |task: &Task| count_in_one(self.space, self.filter, *task).map(u64::from);
        if tasks.len() <= INLINE_TASKS_IN_ONE
            && let Some(counts) = tasks.iter().map(at_once).collect()
        {
            return Ok(counts);
        }
        self.over(tasks, tasks.len() > INLINE_TASKS, |candidates, task| Ok(u64::from(candidates.count(task))))
    }

    /// Works on all tasks, and answers in their order.
    fn over<T: Send>(
        &self,
        tasks: &[Task],
        in_parallel: bool,
        work: impl Fn(&mut Candidates<'s>, Task) -> Result<T, RecallError> + Sync,
    ) -> Result<Vec<T>, RecallError> {
        let make = || self.candidates();
        let one = |candidates: &mut Candidates<'s>, task: &Task| {
            self.look()?;
            work(candidates, *task)
        };
        if in_parallel && tasks.len() > 1 {
            return tasks.par_iter().map_init(make, one).collect();
        }
        let mut candidates = make();
        tasks.iter().map(|task| one(&mut candidates, task)).collect()
    }

    pub(super) fn score(&self, chunk: &ChunkRows<'_>, rows: &[u32], values: &mut Vec<f32>, which: &mut Vec<u32>) {
        if self.exact {
            self.scorer.exact(chunk, rows, values)
        } else {
            self.scorer.approximate(chunk.quantised(self.space.dimension()), rows, values, which)
        }
    }

    /// Between what numbers the score of a row with this scale is.
    #[inline]
    pub(super) fn bounds(&self, scale: &Scale, value: f32) -> (f32, f32) {
        let bound = if self.exact { 0.0 } else { self.scorer.bound(scale) };
        // Numbers that are damaged, or beyond single precision on the way, decide nothing.
        if !value.is_finite() || bound == f32::INFINITY {
            return (f32::NEG_INFINITY, f32::INFINITY);
        }
        (value - bound, value + bound)
    }

    /// Passes over the candidates until the counts prove that the window holds the last member, and chooses the members; there
    /// are more candidates than `size`.
    fn passes(
        &self,
        tasks: &[Task],
        in_parallel: bool,
        mut window: Window,
        size: u64,
        reached: &mut Reached,
    ) -> Result<(), RecallError> {
        loop {
            reached.passes += 1;
            let parts = self.over(tasks, in_parallel, |candidates, task| self.pass(candidates, task, window))?;
            let above: u64 = parts.iter().map(|part| part.above).sum();
            let from_floor: u64 = parts.iter().map(|part| part.from_floor).sum();
            if above <= size && from_floor >= size {
                return self.settle(parts, size, reached);
            }
            // The sample misled. An open side cannot fail, so there are at most three passes.
            if above > size {
                window.ceiling = f32::INFINITY;
            }
            if from_floor < size {
                window.floor = f32::NEG_INFINITY;
            }
        }
    }

    /// Scores the candidates of a chunk and tells them apart.
    fn pass(&self, candidates: &mut Candidates<'s>, task: Task, window: Window) -> Result<Part<'s>, RecallError> {
        let mut part =
            Part { shard: task.shard, sure: RoaringBitmap::new(), kept: Vec::new(), above: 0, from_floor: 0 };
        let (mut values, mut which, mut sure) = (Vec::new(), Vec::new(), Vec::new());
        let mut looked = Ok(());
        candidates.list(task, |chunk, listed| {
            sure.clear();
            let widest = if self.exact { 0.0 } else { self.scorer.widest_bound(chunk) };
            for (rows, slots) in listed.rows.chunks(BATCH).zip(listed.slots.chunks(BATCH)) {
                looked = looked.clone().and_then(|()| self.look());
                if looked.is_err() {
                    return;
                }
                self.score(chunk, rows, &mut values, &mut which);
                for ((row, slot), value) in rows.iter().zip(slots).zip(&values) {
                    // Most are far below, and need no bound of their own.
                    if *value + widest < window.floor && value.is_finite() {
                        continue;
                    }
                    let (lower, upper) = self.bounds(&chunk.scales[*row as usize], *value);
                    if upper < window.floor {
                        continue;
                    }
                    part.from_floor += u64::from(lower >= window.floor);
                    part.above += u64::from(upper > window.ceiling);
                    if lower > window.ceiling {
                        sure.push(*slot);
                    } else {
                        part.kept.push(Kept { shard: task.shard, slot: *slot, row: *row, chunk, lower, upper });
                    }
                }
            }
            part.sure |= RoaringBitmap::from_sorted_iter(sure.iter().copied()).unwrap_or_default();
        });
        looked.map(|()| part)
    }

    /// Takes the sure ones, and chooses among those kept aside.
    fn settle(&self, parts: Vec<Part<'s>>, size: u64, reached: &mut Reached) -> Result<(), RecallError> {
        let mut kept = Vec::new();
        let mut missing = size;
        for part in parts {
            missing -= part.sure.len();
            reached.members[part.shard] |= part.sure;
            kept.extend(part.kept);
        }
        self.choose(kept, missing, reached)
    }

    /// Looks at the full precision of rows.
    fn rescore(&self, open: &mut [Kept<'_>]) -> Result<(), RecallError> {
        let mut value = Vec::with_capacity(1);
        for some in open.chunks_mut(AHEAD).filter(|_| !self.exact) {
            self.look()?;
            // They lie anywhere, so that waiting for one after another is most of the time.
            some.iter().for_each(|open| self.scorer.prefetch(open.chunk, open.row));
            for open in some {
                self.scorer.exact(open.chunk, &[open.row], &mut value);
                open.lower = value[0];
            }
        }
        Ok(())
    }

    /// Adds the best of those kept aside, of whom there are as many at least, unless cells are damaged and hold fewer.
    fn choose(&self, kept: Vec<Kept<'s>>, mut missing: u64, reached: &mut Reached) -> Result<(), RecallError> {
        missing = missing.min(kept.len() as u64);
        let nth = |bounds: &mut Vec<f32>| {
            let index = missing as usize - 1;
            *bounds.select_nth_unstable_by(index, |a, b| b.total_cmp(a)).1
        };
        if missing == 0 {
            return Ok(());
        }
        // At least `missing` of them score this much, and no more than `missing` can score more than that.
        let from = nth(&mut kept.iter().map(|kept| kept.lower).collect());
        let above = nth(&mut kept.iter().map(|kept| kept.upper).collect());
        reached.at_least = Some(from);
        let mut open = Vec::new();
        let mut add = |kept: &Kept<'_>| reached.members[kept.shard].insert(kept.slot);
        for kept in kept {
            if kept.lower > above {
                add(&kept);
                missing -= 1;
            } else if kept.upper >= from {
                open.push(kept);
            }
        }
        reached.rescored = open.len() as u64;
        if open.len() as u64 > INLINE / 8 {
            open.par_chunks_mut(BATCH).try_for_each(|open| self.rescore(open))?;
        } else {
            self.rescore(&mut open)?;
        }
        let order = |a: &Kept<'_>, b: &Kept<'_>| {
            b.lower.total_cmp(&a.lower).then(a.shard.cmp(&b.shard)).then(a.slot.cmp(&b.slot))
        };
        if missing > 0 && (missing as usize) < open.len() {
            open.select_nth_unstable_by(missing as usize - 1, order);
        }
        let chosen = open.iter().take(missing as usize);
        // The last of them is the last of all; without any, only a bound of the last is known.
        reached.at_least = chosen.clone().map(|kept| kept.lower).min_by(f32::total_cmp).or(reached.at_least);
        chosen.for_each(|kept| {
            add(kept);
        });
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::lookalike) mod misled {
    //! A search whose sample said anything at all.

    use super::*;

    /// All cells are looked into, whatever they promise.
    pub(in crate::lookalike) fn in_all_cells(
        space: &Space<'_>,
        scorer: &Scorer,
        filter: Option<&[BitmapView<'_>]>,
        size: u64,
    ) -> Reached {
        let never = AtomicBool::new(false);
        let search = Search::new(space, scorer, filter, false, &never).expect("all fits");
        let tasks = tasks(space, filter);
        let candidates = tasks.iter().map(|task| u64::from(search.candidates().count(*task))).sum();
        let probed = search.probe(&tasks, candidates, size, -1.0, f64::INFINITY).expect("not cancelled");
        let (kept, probed) = probed.expect("nothing costs too much");
        let members = vec![RoaringBitmap::new(); space.shards().len()];
        let mut reached = Reached { members, candidates, probed: Some(probed), ..Reached::default() };
        search.choose(kept, size, &mut reached).expect("not cancelled");
        reached
    }

    pub(in crate::lookalike) fn nearest(
        space: &Space<'_>,
        scorer: &Scorer,
        filter: Option<&[BitmapView<'_>]>,
        size: u64,
        (floor, ceiling): (f32, f32),
    ) -> Reached {
        let never = AtomicBool::new(false);
        let search = Search::new(space, scorer, filter, false, &never).expect("all fits");
        let members = vec![RoaringBitmap::new(); space.shards().len()];
        let mut reached = Reached { members, ..Reached::default() };
        let tasks = tasks(space, filter);
        search.passes(&tasks, true, Window { floor, ceiling }, size, &mut reached).expect("not cancelled");
        reached
    }
}
