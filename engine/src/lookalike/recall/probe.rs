//! The best few of many: the cells that promise most are looked into first, then half as many again as so far, until that brings
//! hardly anybody new.
//!
//! A cell's promise is the score of its centre and some standard deviations of its vectors' scores. Centres are scored once for all
//! shards. Where few vectors pass the filter, more cells are looked into before as many as are wanted are found, and each round brings
//! more; so the filter need not be known beforehand. As long as there are fewer than wanted, all cells are looked into, so no user is
//! missing for want of cells. Where promises are worth little, as among many kinds of users in few cells, cells are given up before they
//! take longer than scoring everybody.
//!
//! A cell may hold more than it promises, so an answer may lack users that a scan would find.

use super::candidates::{Bits, Task, fill};
use super::nearest::{BATCH, Kept, Search};
use super::{RecallError, Space};
use crate::bitmap::view::Container;
use crate::lookalike::cells::Members;
use crate::lookalike::layer::{ChunkRows, Layer};

/// How many standard deviations above a cell's mean score it promises: more puts cells first whose vectors are far apart.
const DEVIATIONS: f32 = 2.0;
/// Cells are enough when half as many as all before brought no more than this share of the wanted.
pub(super) const LEFT: f64 = 0.01;

/// Vectors of cells that are looked at first, for each that is wanted.
const FIRST_PER_WANTED: f64 = 6.0;
const FIRST_MIN: f64 = 2_048.0;

/// From so many vectors of a chunk on, its filter is looked at as bits.
const BITS_FROM: usize = 64;
/// Beyond those that are wanted, so many may be kept before some are let go.
const PRUNED_FROM: usize = 1_024;

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

/// A cell to look into, of all layers that are sorted by the same centres.
#[derive(Clone, Copy, Debug)]
struct Cell {
    promise: f32,
    /// Which of the centres the layers are sorted by.
    sorted: u32,
    cell: u32,
}

/// Vectors of some cells that are of one chunk of a layer.
#[derive(Debug, Default)]
struct OfChunk {
    shard: usize,
    /// The layer's place in its shard, and the chunk's in the layer.
    place: usize,
    index: usize,
    chunk: u16,
    /// Where they stand in the chunk, and among its vectors.
    members: Vec<(u16, u16)>,
}

impl OfChunk {
    fn begin(&mut self, shard: usize, place: usize, index: usize, chunk: u16) {
        self.members.clear();
        let members = std::mem::take(&mut self.members);
        *self = OfChunk { shard, place, index, chunk, members };
    }
}

/// Vectors of a space that have cells, and others.
fn vectors(space: &Space<'_>) -> (u64, u64) {
    let (mut in_cells, mut loose) = (0, 0);
    for layer in space.shards().iter().flatten() {
        let count = layer.presence().len();
        if layer.cells().is_some() { in_cells += count } else { loose += count }
    }
    (in_cells, loose)
}

/// Whether looking into cells costs less than scoring all candidates.
pub(super) fn is_worth_it(space: &Space<'_>, candidates: u64, size: u64) -> bool {
    // Nobody waits for these.
    if candidates < 1 << 14 {
        return false;
    }
    let (in_cells, loose) = vectors(space);
    if in_cells == 0 {
        return false;
    }
    // Of each candidate among the best so many times the wanted, the neighbours that do not pass the filter are met, too.
    let share = ((size as f64 * FIRST_PER_WANTED).max(FIRST_MIN) / candidates as f64).min(1.0);
    let passing = candidates as f64 / (in_cells + loose) as f64;
    let met = share * in_cells as f64;
    let centres: usize = space.sorted().iter().map(|(centres, _)| centres.count()).sum();
    (centres as f64 + cost(met, met * passing) + loose as f64 * passing) * 2.0 < candidates as f64
}

/// What looking into cells costs that hold so many vectors, of which so many are scored, in vectors scored one behind another.
fn cost(met: f64, scored: f64) -> f64 {
    met * 0.5 + scored * 2.0
}

impl<'s> Search<'s> {
    /// The best `size` of the candidates, of whom there are more, as far as cells keep what they promise: until half as many
    /// more bring no more than the share `left` of the wanted. `None` if that would cost more than `cost_max`.
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
        let mut cells = self.cells()?;
        let mut probed = Probed { of: cells.len() as u64, ..Probed::default() };
        self.keep_of(tasks, |layer| layer.cells().is_none(), &mut best)?;
        let loose = best.scored;
        let in_cells = vectors(self.space).0 as f64;
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
            now.sort_unstable_by_key(|cell| (cell.sorted, cell.cell));
            self.look_into(now, &mut best)?;
            probed.cells += count as u64;
            let found = best.prune();
            if best.is_full() && (found as f64) <= size as f64 * left {
                break;
            }
            // Half as many again as so far.
            next = (probed.cells as usize).div_ceil(2);
            rest = later;
            if (cost(best.met as f64, (best.scored - loose) as f64) + loose as f64) * 2.0 > cost_max {
                return Ok(None);
            }
        }
        probed.vectors = best.scored;
        Ok(Some((best.kept, probed)))
    }

    /// All cells, with what they promise.
    fn cells(&self) -> Result<Vec<Cell>, RecallError> {
        let mut cells = Vec::new();
        for (sorted, (centres, _)) in self.space.sorted().iter().enumerate() {
            self.look()?;
            let promises = self.scorer.promises(*centres, DEVIATIONS);
            let cell = |(cell, promise)| Cell { promise, sorted: sorted as u32, cell: cell as u32 };
            cells.extend(promises.into_iter().enumerate().map(cell));
        }
        Ok(cells)
    }

    /// Scores the candidates that are in these layers.
    fn keep_of(
        &self,
        tasks: &[Task],
        is_wanted: impl Fn(&Layer<'_>) -> bool,
        best: &mut Best<'s>,
    ) -> Result<(), RecallError> {
        let mut candidates = self.candidates();
        for task in tasks {
            let here = |layer: &Layer<'_>| is_wanted(layer) && layer.presence().find(task.chunk).is_some();
            if !self.space.shards()[task.shard].iter().any(here) {
                continue;
            }
            let mut kept = Ok(());
            candidates.list_of(*task, &is_wanted, |rows, listed| {
                kept = kept.clone().and_then(|()| self.keep(task.shard, rows, &listed.rows, &listed.slots, best));
            });
            kept?;
            if best.kept.len() > best.size + PRUNED_FROM {
                best.prune();
            }
        }
        best.prune();
        Ok(())
    }

    /// Scores the candidates of some cells.
    ///
    /// What they have lies anywhere in memory. So it is asked for in steps, of all layers at once, instead of waiting for one after another.
    fn look_into(&self, cells: &[Cell], best: &mut Best<'s>) -> Result<(), RecallError> {
        let mut parts: Vec<(usize, usize, Members<'s>)> = Vec::new();
        for of_centres in cells.chunk_by(|a, b| a.sorted == b.sorted) {
            for (shard, place) in &self.space.sorted()[of_centres[0].sorted as usize].1 {
                if self.filter.is_some_and(|filter| filter[*shard].container_count() == 0) {
                    continue;
                }
                let Some(sorted) = self.space.shards()[*shard][*place].cells() else { continue };
                for cell in of_centres {
                    let members = sorted.members(cell.cell);
                    members.prefetch();
                    parts.push((*shard, *place, members));
                }
            }
        }
        let mut chunks = std::mem::take(&mut best.chunks);
        let mut used = 0;
        for of_layer in parts.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (shard, place, _) = of_layer[0];
            let layer = &self.space.shards()[shard][place];
            // Where the chunks of this layer are gathered, by their place, and the one of the last member.
            best.gathered.clear();
            best.gathered.resize(layer.presence().container_count(), usize::MAX);
            let mut here: Option<usize> = None;
            for member in of_layer.iter().flat_map(|(.., members)| members.iter()) {
                best.met += 1;
                let chunk = (member.slot >> 16) as u16;
                let at = match here.filter(|here| chunks[*here].chunk == chunk) {
                    Some(at) => at,
                    None => {
                        // One that is damaged may be of no chunk.
                        let Some(index) = layer.presence().find(chunk) else { continue };
                        if best.gathered[index] == usize::MAX {
                            if used == chunks.len() {
                                chunks.push(OfChunk::default());
                            }
                            chunks[used].begin(shard, place, index, chunk);
                            best.gathered[index] = used;
                            used += 1;
                        }
                        *here.insert(best.gathered[index])
                    }
                };
                chunks[at].members.push((member.slot as u16, member.row));
            }
        }
        chunks[..used].iter_mut().for_each(|of_chunk| self.leave_out(of_chunk, &mut best.bits));
        let scored = chunks[..used].iter().try_for_each(|of_chunk| self.score_members(of_chunk, best));
        best.chunks = chunks;
        scored
    }

    /// Leaves out whom the filter does not let pass, and of whom a newer layer speaks; asks memory for the others.
    fn leave_out(&self, of_chunk: &mut OfChunk, bits: &mut Bits) {
        let OfChunk { shard, place, index, chunk, ref mut members } = *of_chunk;
        let layers = &self.space.shards()[shard];
        let rows = layers[place].rows(index);
        let newer = layers[..place].iter().flat_map(|layer| [layer.presence(), layer.touched()]);
        let hidden: Vec<Container<'_>> =
            newer.filter_map(|users| users.find(chunk).map(|index| users.container(index))).collect();
        let leave = |members: &mut Vec<(u16, u16)>, passes: &dyn Fn(u16) -> bool| {
            members.retain(|(position, row)| {
                // One that is damaged may be beyond the last.
                let is_left = passes(*position)
                    && hidden.iter().all(|hidden| !hidden.contains(*position))
                    && usize::from(*row) < rows.scales.len();
                if is_left {
                    self.scorer.prefetch_codes(rows, *row);
                }
                is_left
            });
        };
        let Some(filter) = self.filter.map(|filter| &filter[shard]) else { return leave(members, &|_| true) };
        match filter.find(chunk).map(|index| filter.container(index)) {
            None => members.clear(),
            // A bit is told at once, where something else is searched for each.
            Some(Container::Array(_) | Container::Runs(_)) if members.len() > BITS_FROM => {
                fill(filter, chunk, bits);
                leave(members, &|position| bits[usize::from(position >> 6)] >> (position & 63) & 1 == 1);
            }
            Some(filter) => leave(members, &|position| filter.contains(position)),
        }
    }

    /// Scores vectors of a chunk.
    fn score_members(&self, of_chunk: &OfChunk, best: &mut Best<'s>) -> Result<(), RecallError> {
        let OfChunk { shard, place, index, chunk, ref members } = *of_chunk;
        let rows = self.space.shards()[shard][place].rows(index);
        let (mut which, mut slots) = (std::mem::take(&mut best.rows), std::mem::take(&mut best.slots));
        which.clear();
        slots.clear();
        which.extend(members.iter().map(|(_, row)| u32::from(*row)));
        slots.extend(members.iter().map(|(position, _)| u32::from(chunk) << 16 | u32::from(*position)));
        let kept = self.keep(shard, rows, &which, &slots, best);
        (best.rows, best.slots) = (which, slots);
        kept
    }

    /// The best `size` of few candidates, of whom all are scored.
    pub(super) fn best_of_all(&self, tasks: &[Task], size: u64) -> Result<Vec<Kept<'s>>, RecallError> {
        let mut best = Best::new(size as usize);
        self.keep_of(tasks, |_| true, &mut best)?;
        Ok(best.kept)
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
    chunks: Vec<OfChunk>,
    gathered: Vec<usize>,
    bits: Box<Bits>,
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
            chunks: Vec::new(),
            gathered: Vec::new(),
            bits: Box::new([0; 1024]),
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
