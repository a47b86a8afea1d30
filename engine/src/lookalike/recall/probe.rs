//! The best few of many: the cells that promise most are looked into first, then as many again as so far, until that brings hardly
//! anybody new.
//!
//! A cell's promise is the score of its centre and some standard deviations of its vectors' scores. Where few of them pass the
//! filter, more cells are looked into before as many as are wanted are found, and each round brings more; so the filter
//! need not be known beforehand. As long as there are fewer than wanted, all cells are looked into, so no user is missing for
//! want of cells. Where promises are worth little,
//! as among many kinds of users in few cells, cells are given up before they take longer than scoring everybody.
//!
//! A cell may hold more than it promises, so an answer may lack users that a scan would find.

use super::candidates::Task;
use super::nearest::{BATCH, Kept, Search};
use super::{RecallError, Space};
use crate::bitmap::view::Container;
use crate::lookalike::cells::ROWS_PER_CELL;
use crate::lookalike::layer::ChunkRows;

/// How many standard deviations above a cell's mean score it promises: more puts cells first whose vectors are far apart.
const DEVIATIONS: f32 = 2.0;
/// Cells are enough when as many as all before brought no more than this share of the wanted.
pub(super) const LEFT: f64 = 0.01;

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

/// A cell to look into.
#[derive(Clone, Copy, Debug)]
struct Cell {
    promise: f32,
    /// Which of the tasks, layers of its shard and cells of the chunk.
    task: u32,
    layer: u16,
    cell: u16,
}

/// Vectors of a space that have cells, and others.
fn vectors(space: &Space<'_>, tasks: &[Task]) -> (u64, u64) {
    let (mut in_cells, mut loose) = (0, 0);
    for (_, _, rows) in chunks(space, tasks) {
        let count = rows.scales.len() as u64;
        if rows.cells.is_some() { in_cells += count } else { loose += count }
    }
    (in_cells, loose)
}

/// The chunks of all layers that tasks are about: which task, which layer, and its vectors there.
fn chunks<'s>(space: &'s Space<'s>, tasks: &[Task]) -> impl Iterator<Item = (usize, usize, &'s ChunkRows<'s>)> {
    tasks.iter().enumerate().flat_map(move |(at, task)| {
        let layers = space.shards()[task.shard].iter().enumerate();
        let chunk = task.chunk;
        layers.filter_map(move |(layer, view)| Some((at, layer, view.rows(view.presence().find(chunk)?))))
    })
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
    let centres = in_cells as f64 / ROWS_PER_CELL as f64;
    (centres + cost(met, met * passing) + loose as f64 * passing) * 2.0 < candidates as f64
}

/// What looking into cells costs that hold so many vectors, of which so many are scored, in vectors scored one behind another.
fn cost(met: f64, scored: f64) -> f64 {
    met * 0.5 + scored * 2.0
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
        let mut cells = self.cells(tasks)?;
        let mut probed = Probed { of: cells.len() as u64, ..Probed::default() };
        self.loose(tasks, &mut best)?;
        let in_cells = vectors(self.space, tasks).0 as f64;
        let per_cell = in_cells / cells.len().max(1) as f64;
        let passing = (candidates as f64 / in_cells).min(1.0);
        let first = (size as f64 * FIRST_PER_WANTED).max(FIRST_MIN) / (passing * per_cell);
        let mut next = (first as usize).max(1);
        let mut rest = &mut cells[..];
        while !rest.is_empty() {
            let count = next.min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable_by(count, |a, b| b.promise.total_cmp(&a.promise));
            }
            let (now, later) = rest.split_at_mut(count);
            now.sort_unstable_by_key(|cell| (cell.task, cell.layer, cell.cell));
            for of_chunk in now.chunk_by(|a, b| (a.task, a.layer) == (b.task, b.layer)) {
                self.look_into(tasks[of_chunk[0].task as usize], of_chunk, &mut best)?;
            }
            probed.cells += count as u64;
            let found = best.prune();
            if best.is_full() && (found as f64) <= size as f64 * left {
                break;
            }
            // As many again as so far.
            next = probed.cells as usize;
            rest = later;
            if cost(best.met as f64, best.scored as f64) * 2.0 > cost_max {
                return Ok(None);
            }
        }
        probed.vectors = best.scored;
        Ok(Some((best.kept, probed)))
    }

    /// All cells, with what they promise.
    fn cells(&self, tasks: &[Task]) -> Result<Vec<Cell>, RecallError> {
        let (mut cells, mut promises, mut which) = (Vec::new(), Vec::new(), Vec::new());
        for (task, layer, rows) in chunks(self.space, tasks) {
            let Some(of_chunk) = &rows.cells else { continue };
            self.look()?;
            self.scorer.promises(of_chunk, DEVIATIONS, &mut promises, &mut which);
            let (task, layer) = (task as u32, layer as u16);
            cells.extend(promises.iter().enumerate().map(|(cell, promise)| Cell {
                promise: *promise,
                task,
                layer,
                cell: cell as u16,
            }));
        }
        Ok(cells)
    }

    /// Scores the candidates that no cell has.
    fn loose(&self, tasks: &[Task], best: &mut Best<'s>) -> Result<(), RecallError> {
        let mut with_loose: Vec<Task> =
            chunks(self.space, tasks).filter(|(.., rows)| rows.cells.is_none()).map(|(at, ..)| tasks[at]).collect();
        with_loose.dedup();
        if with_loose.is_empty() {
            return Ok(());
        }
        let mut candidates = self.candidates();
        for task in with_loose {
            let has_none = |rows: &ChunkRows<'_>| rows.cells.is_none();
            let mut kept = Ok(());
            candidates.list_of(task, has_none, |rows, listed| {
                kept = kept.clone().and_then(|()| self.keep(task.shard, rows, &listed.rows, &listed.slots, best));
            });
            kept?;
            best.prune();
        }
        Ok(())
    }

    /// Scores the candidates of some cells of a chunk of one layer.
    fn look_into(&self, task: Task, cells: &[Cell], best: &mut Best<'s>) -> Result<(), RecallError> {
        let layers = &self.space.shards()[task.shard];
        let at = usize::from(cells[0].layer);
        let Some(rows) = layers[at].presence().find(task.chunk).map(|index| layers[at].rows(index)) else {
            return Ok(());
        };
        let Some(of_chunk) = &rows.cells else { return Ok(()) };
        // The layering rule for a few users: of those that pass the filter, whom no newer layer speaks of.
        let filter = match self.filter {
            None => None,
            Some(filter) => match filter[task.shard].find(task.chunk) {
                Some(index) => Some(filter[task.shard].container(index)),
                None => return Ok(()),
            },
        };
        let newer = layers[..at].iter().flat_map(|layer| [layer.presence(), layer.touched()]);
        let hidden: Vec<Container<'_>> =
            newer.filter_map(|users| users.find(task.chunk).map(|index| users.container(index))).collect();
        let passes = |position: u16| {
            filter.as_ref().is_none_or(|filter| filter.contains(position))
                && hidden.iter().all(|hidden| !hidden.contains(position))
        };
        let (mut which, mut slots) = (std::mem::take(&mut best.rows), std::mem::take(&mut best.slots));
        which.clear();
        slots.clear();
        for member in cells.iter().flat_map(|cell| of_chunk.members(cell.cell.into())) {
            best.met += 1;
            // One that is damaged may be beyond the last.
            if passes(member.position) && usize::from(member.row) < rows.scales.len() {
                which.push(member.row.into());
                slots.push(u32::from(task.chunk) << 16 | u32::from(member.position));
            }
        }
        let kept = self.keep(task.shard, rows, &which, &slots, best);
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
