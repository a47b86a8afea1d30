//! The best few of many: the cells that promise most are looked into first, then as many again as so far, until that brings hardly
//! anybody new.
//!
//! A cell's promise is the score of its centre and some standard deviations of its vectors' scores. Where few of them pass the
//! filter, more cells are looked into before as many as are wanted are found, and each round brings more; so the filter
//! need not be known beforehand. As long as there are fewer than wanted, all cells are looked into, so no user is missing for
//! want of cells. Which cells promise most is found in the same way, among the groups of cells that do. Where promises are worth little,
//! as among many kinds of users in few cells, cells are given up before they take longer than scoring everybody.
//!
//! A cell may hold more than it promises, and a group a better cell, so an answer may lack users that a scan would find.

use super::candidates::Task;
use super::nearest::{BATCH, Kept, Search};
use super::{RecallError, Space};
use crate::bitmap::view::Container;
use crate::lookalike::cells::{Groups, Place, ROWS_PER_CELL};
use crate::lookalike::layer::{ChunkRows, Layer};

/// How many standard deviations above a cell's mean score it promises: more puts cells first whose vectors are far apart.
const DEVIATIONS: f32 = 2.0;
/// Cells are enough when as many as all before brought no more than this share of the wanted.
pub(super) const LEFT: f64 = 0.01;
/// Cells are chosen among so many times as many.
const COMPARED: usize = 8;

/// Vectors of cells that are looked at first, for each that is wanted.
const FIRST_PER_WANTED: f64 = 6.0;
const FIRST_MIN: f64 = 2_048.0;

/// What looking into cells came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probed {
    /// Cells looked into.
    pub cells: u64,
    /// Of so many.
    pub of: u64,
    /// Candidates scored, those that no cell has among them.
    pub vectors: u64,
}

/// Vectors of a space that have cells, and others.
fn vectors(space: &Space<'_>, tasks: &[Task]) -> (u64, u64) {
    let (mut in_cells, mut loose) = (0, 0);
    for (_, layer, rows) in chunks(space, tasks) {
        let count = rows.scales.len() as u64;
        if has_cells(layer, rows) { in_cells += count } else { loose += count }
    }
    (in_cells, loose)
}

/// The chunks of all layers that tasks are about.
fn chunks<'s>(space: &'s Space<'s>, tasks: &[Task]) -> impl Iterator<Item = (Task, &'s Layer<'s>, &'s ChunkRows<'s>)> {
    tasks.iter().flat_map(move |task| {
        let layers = space.shards()[task.shard].iter();
        layers.filter_map(|layer| Some((*task, layer, layer.rows(layer.presence().find(task.chunk)?))))
    })
}

fn has_cells(layer: &Layer<'_>, rows: &ChunkRows<'_>) -> bool {
    layer.groups().is_some() && rows.cells.is_some()
}

/// Whether looking into cells costs less than scoring all candidates.
pub(super) fn is_worth_it(space: &Space<'_>, tasks: &[Task], candidates: u64, size: u64) -> bool {
    // Nobody waits for these.
    if candidates < 1 << 14 {
        return false;
    }
    let (in_cells, loose) = vectors(space, tasks);
    if in_cells == 0 {
        return false;
    }
    // Of each candidate among the best so many times the wanted, the neighbours that do not pass the filter are met, too.
    let share = ((size as f64 * FIRST_PER_WANTED).max(FIRST_MIN) / candidates as f64).min(1.0);
    let passing = candidates as f64 / (in_cells + loose) as f64;
    let met = share * in_cells as f64;
    let cells = in_cells as f64 / ROWS_PER_CELL as f64;
    let centres = cells.sqrt() + (met / ROWS_PER_CELL as f64 * COMPARED as f64).min(cells);
    (centres + cost(met, met * passing) + loose as f64 * passing) * 2.0 < candidates as f64
}

/// What looking into cells costs that hold so many vectors, of which so many are scored, in vectors scored one behind another.
fn cost(met: f64, scored: f64) -> f64 {
    met * 0.5 + scored * 2.0
}

/// A layer with cells in chunks that there are candidates in.
struct Wanted<'s> {
    shard: usize,
    /// Which of the shard's.
    at: usize,
    layer: &'s Layer<'s>,
    groups: &'s Groups,
    /// Which of its chunks.
    chunks: Vec<bool>,
}

/// A cell to look into.
#[derive(Clone, Copy, Debug)]
struct Cell {
    promise: f32,
    /// Of the wanted ones.
    layer: u32,
    place: Place,
}

/// Cells that were not looked into yet.
struct Frontier<'s> {
    wanted: Vec<Wanted<'s>>,
    /// Groups by rising promise, with their layer.
    groups: Vec<(f32, u32, u32)>,
    /// Cells of groups that are open.
    cells: Vec<Cell>,
    /// All cells there are.
    count: u64,
}

impl<'s> Frontier<'s> {
    fn new(search: &Search<'s>, tasks: &[Task]) -> Result<Self, RecallError> {
        let mut frontier = Frontier { wanted: Vec::new(), groups: Vec::new(), cells: Vec::new(), count: 0 };
        let mut promises = Vec::new();
        for of_shard in tasks.chunk_by(|a, b| a.shard == b.shard) {
            let shard = of_shard[0].shard;
            for (at, layer) in search.space.shards()[shard].iter().enumerate() {
                let Some(groups) = layer.groups() else { continue };
                search.look()?;
                let mut chunks = vec![false; layer.chunks().len()];
                let of_layer = of_shard.iter().filter_map(|task| layer.presence().find(task.chunk));
                for (container, cells) in of_layer.filter_map(|index| Some((index, layer.rows(index).cells?))) {
                    chunks[container] = true;
                    frontier.count += cells.count() as u64;
                }
                let number = frontier.wanted.len() as u32;
                search.scorer.promises(groups.heads(), 0..groups.count(), DEVIATIONS, &mut promises);
                let numbered = promises.iter().zip(0..).map(|(promise, group)| (*promise, number, group));
                frontier.groups.extend(numbered);
                frontier.wanted.push(Wanted { shard, at, layer, groups, chunks });
            }
        }
        frontier.groups.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Ok(frontier)
    }

    /// Takes the `count` cells that promise most, as far as is known, in their order; all that are left, if they are fewer.
    fn take(&mut self, search: &Search<'s>, count: usize, cells: &mut Vec<Cell>) -> Result<(), RecallError> {
        let mut promises = Vec::new();
        while self.cells.len() < count.saturating_mul(COMPARED)
            && let Some((_, layer, group)) = self.groups.pop()
        {
            search.look()?;
            let of = &self.wanted[layer as usize];
            let which = of.groups.cells_of(group as usize);
            search.scorer.promises(of.groups.cells(), which.clone(), DEVIATIONS, &mut promises);
            let found = of.groups.places()[which].iter().zip(&promises);
            let found = found.filter(|(place, _)| of.chunks[usize::from(place.container)]);
            self.cells.extend(found.map(|(place, promise)| Cell { promise: *promise, layer, place: *place }));
        }
        cells.clear();
        if count < self.cells.len() {
            let left = self.cells.len() - count;
            self.cells.select_nth_unstable_by(left, |a, b| a.promise.total_cmp(&b.promise));
            cells.extend(self.cells.drain(left..));
        } else {
            cells.append(&mut self.cells);
        }
        cells.sort_unstable_by_key(|cell| (cell.layer, cell.place));
        Ok(())
    }
}

impl<'s> Search<'s> {
    /// The best `size` of the candidates, of whom there are more, as far as cells keep what they promise: until twice as many bring
    /// no more than the share `left` of the wanted. `None` if that would cost more than `cost_max`.
    ///
    /// # Errors
    /// [`RecallError::Cancelled`].
    pub(super) fn probe(
        &self,
        tasks: &[Task],
        candidates: u64,
        size: u64,
        left: f64,
        cost_max: f64,
    ) -> Result<Option<(Vec<Kept<'s>>, Probed)>, RecallError> {
        let mut best = Best::new(size as usize);
        let mut frontier = Frontier::new(self, tasks)?;
        let mut probed = Probed { of: frontier.count, ..Probed::default() };
        self.loose(tasks, &mut best)?;
        let in_cells = vectors(self.space, tasks).0 as f64;
        let per_cell = in_cells / probed.of.max(1) as f64;
        let passing = (candidates as f64 / in_cells).min(1.0);
        let first = (size as f64 * FIRST_PER_WANTED).max(FIRST_MIN) / (passing * per_cell);
        let mut next = (first as usize).max(1);
        let mut cells = Vec::new();
        loop {
            frontier.take(self, next, &mut cells)?;
            if cells.is_empty() {
                break;
            }
            for of_chunk in cells.chunk_by(|a, b| (a.layer, a.place.container) == (b.layer, b.place.container)) {
                self.look_into(&frontier.wanted[of_chunk[0].layer as usize], of_chunk, &mut best)?;
            }
            probed.cells += cells.len() as u64;
            let found = best.prune();
            if best.is_full() && (found as f64) <= size as f64 * left {
                break;
            }
            // As many again as so far.
            next = probed.cells as usize;
            if cost(best.met as f64, best.scored as f64) * 2.0 > cost_max {
                return Ok(None);
            }
        }
        probed.vectors = best.scored;
        Ok(Some((best.kept, probed)))
    }

    /// Scores the candidates that no cell has.
    fn loose(&self, tasks: &[Task], best: &mut Best<'s>) -> Result<(), RecallError> {
        let mut with_loose: Vec<Task> = chunks(self.space, tasks)
            .filter(|(_, layer, rows)| !has_cells(layer, rows))
            .map(|(task, ..)| task)
            .collect();
        with_loose.dedup();
        if with_loose.is_empty() {
            return Ok(());
        }
        let mut candidates = self.candidates();
        for task in with_loose {
            let mut kept = Ok(());
            candidates.list_of(
                task,
                |layer, rows| !has_cells(layer, rows),
                |rows, listed| {
                    kept = kept.clone().and_then(|()| self.keep(task.shard, rows, &listed.rows, &listed.slots, best));
                },
            );
            kept?;
            best.prune();
        }
        Ok(())
    }

    /// Scores the candidates of some cells of a chunk of one layer.
    fn look_into(&self, of: &Wanted<'s>, cells: &[Cell], best: &mut Best<'s>) -> Result<(), RecallError> {
        let container = usize::from(cells[0].place.container);
        let (chunk, rows) = (of.layer.presence().key(container), of.layer.rows(container));
        let Some(of_chunk) = &rows.cells else { return Ok(()) };
        // The layering rule for a few users: of those that pass the filter, whom no newer layer speaks of.
        let filter = match self.filter {
            None => None,
            Some(filter) => match filter[of.shard].find(chunk) {
                Some(index) => Some(filter[of.shard].container(index)),
                None => return Ok(()),
            },
        };
        let newer = self.space.shards()[of.shard][..of.at].iter().flat_map(|layer| [layer.presence(), layer.touched()]);
        let hidden: Vec<Container<'_>> =
            newer.filter_map(|users| users.find(chunk).map(|index| users.container(index))).collect();
        let passes = |position: u16| {
            filter.as_ref().is_none_or(|filter| filter.contains(position))
                && hidden.iter().all(|hidden| !hidden.contains(position))
        };
        let (mut which, mut slots) = (std::mem::take(&mut best.rows), std::mem::take(&mut best.slots));
        which.clear();
        slots.clear();
        for member in cells.iter().flat_map(|cell| of_chunk.members(cell.place.cell.into())) {
            best.met += 1;
            // One that is damaged may be beyond the last.
            if passes(member.position) && usize::from(member.row) < rows.scales.len() {
                which.push(member.row.into());
                slots.push(u32::from(chunk) << 16 | u32::from(member.position));
            }
        }
        let kept = self.keep(of.shard, rows, &which, &slots, best);
        (best.rows, best.slots) = (which, slots);
        kept
    }

    /// Scores some vectors, and keeps those that may be among the best.
    fn keep(
        &self,
        shard: usize,
        chunk: &'s ChunkRows<'s>,
        rows: &[u32],
        slots: &[u32],
        best: &mut Best<'s>,
    ) -> Result<(), RecallError> {
        for (rows, slots) in rows.chunks(BATCH).zip(slots.chunks(BATCH)) {
            self.look()?;
            self.score(chunk, rows, &mut best.values, &mut best.which);
            for ((row, slot), value) in rows.iter().zip(slots).zip(&best.values) {
                let (lower, upper) = self.bounds(chunk, *row, *value);
                if upper >= best.floor {
                    best.kept.push(Kept { shard, slot: *slot, row: *row, chunk, lower, upper });
                }
            }
        }
        best.scored += rows.len() as u64;
        Ok(())
    }
}

/// The best vectors so far.
struct Best<'s> {
    size: usize,
    /// As many as are wanted score at least this.
    floor: f32,
    kept: Vec<Kept<'s>>,
    /// So many of them, the first ones, were there when it was pruned last.
    settled: usize,
    /// Vectors of the cells that were looked into, whether they passed the filter or not.
    met: u64,
    scored: u64,
    // Room to work in.
    rows: Vec<u32>,
    slots: Vec<u32>,
    values: Vec<f32>,
    which: Vec<u32>,
}

impl<'s> Best<'s> {
    fn new(size: usize) -> Self {
        Best {
            size,
            floor: f32::NEG_INFINITY,
            kept: Vec::new(),
            settled: 0,
            met: 0,
            scored: 0,
            rows: Vec::new(),
            slots: Vec::new(),
            values: Vec::new(),
            which: Vec::new(),
        }
    }

    /// Lets go of those that cannot be among the best any more; how many of those that came since the last time are now among the best,
    /// as far as their codes tell. (Bounds are so wide that many more might be.)
    fn prune(&mut self) -> usize {
        let (size, before) = (self.size, self.settled);
        if self.kept.len() <= size {
            self.settled = self.kept.len();
            return self.settled - before;
        }
        let nth = |mut scores: Vec<f32>| *scores.select_nth_unstable_by(size - 1, |a, b| b.total_cmp(a)).1;
        let about = |kept: &Kept<'_>| kept.lower + (kept.upper - kept.lower) / 2.0;
        let best = nth(self.kept.iter().map(about).collect());
        let found = self.kept[before..].iter().filter(|kept| about(kept) >= best).count();
        self.floor = nth(self.kept.iter().map(|kept| kept.lower).collect());
        let floor = self.floor;
        self.kept.retain(|kept| kept.upper >= floor);
        self.settled = self.kept.len();
        found
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.size
    }
}
