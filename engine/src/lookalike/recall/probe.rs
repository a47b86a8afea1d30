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

use super::best::{Best, Met, OfChunk, Room};
use super::candidates::{Task, fill};
use super::nearest::{BATCH, Kept, Search};
use super::{RecallError, Space};
use crate::bitmap::view::Container;
use crate::lookalike::cells::{Cells, Members};
use crate::lookalike::kernels::Rows;
use crate::lookalike::layer::{ChunkRows, Layer};

/// How many standard deviations above a cell's mean score it promises: more puts cells first whose vectors are far apart.
const DEVIATIONS: f32 = 2.0;
/// Cells are enough when half as many as all before brought no more than this share of the wanted.
pub(super) const LEFT: f64 = 0.01;

/// Vectors of cells that are looked at first, for each that is wanted.
const FIRST_PER_WANTED: f64 = 6.0;
const FIRST_MIN: f64 = 2_048.0;

/// So many copies are gathered before they are scored.
const COPIED: usize = 256;
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

/// A cell of a layer.
#[derive(Clone, Copy, Debug)]
struct Part<'s> {
    shard: usize,
    /// The layer's place in its shard.
    place: usize,
    cells: &'s Cells<'s>,
    members: Members<'s>,
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
        Ok(Some((best.into_kept(), probed)))
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
        best.chunks.clear();
        best.room.here.clear();
        for of_layer in self.parts(cells).chunk_by(|a, b| (a.shard, a.place) == (b.shard, b.place)) {
            self.gather(of_layer, best);
        }
        self.score_copies(best)
    }

    /// The cells in all layers that are sorted by the same, layer by layer.
    fn parts(&self, cells: &[Cell]) -> Vec<Part<'s>> {
        let mut found = Vec::new();
        for of_centres in cells.chunk_by(|a, b| a.sorted == b.sorted) {
            let places = self.space.sorted()[of_centres[0].sorted as usize].1.iter();
            let some = |shard: usize| self.filter.is_none_or(|filter| filter[shard].container_count() > 0);
            let sorted = places.filter(|(shard, _)| some(*shard)).filter_map(|(shard, place)| {
                let cells = self.space.shards()[*shard][*place].cells()?;
                Some((*shard, *place, cells))
            });
            sorted.clone().for_each(|(.., cells)| of_centres.iter().for_each(|cell| cells.prefetch(cell.cell)));
            for (shard, place, cells) in sorted {
                for cell in of_centres {
                    let members = cells.members(cell.cell);
                    members.prefetch();
                    found.push(Part { shard, place, cells, members });
                }
            }
        }
        found
    }

    /// Adds the candidates of cells of one layer to those that are here, and asks memory for what is scanned of them.
    fn gather(&self, parts: &[Part<'s>], best: &mut Best<'s>) {
        let Part { shard, place, cells, .. } = parts[0];
        let layer = &self.space.shards()[shard][place];
        let (from, first) = (best.room.here.len(), best.chunks.len());
        let Room { here, places, .. } = &mut *best.room;
        // Where the chunks of this layer stand among all, by their place in it.
        places.clear();
        places.resize(layer.presence().container_count(), u32::MAX);
        // The chunk of the last member, where it stands among all, and how many vectors it has.
        let (mut chunk, mut at, mut rows) = (u32::MAX, 0, 0);
        for part in parts {
            best.met += part.members.len() as u64;
            for (member_place, member) in part.members.iter() {
                if member.slot >> 16 != chunk {
                    chunk = member.slot >> 16;
                    // One that is damaged may be of no chunk.
                    let Some(index) = layer.presence().find(chunk as u16) else {
                        rows = 0;
                        continue;
                    };
                    if places[index] == u32::MAX {
                        places[index] = best.chunks.len() as u32;
                        best.chunks.push(OfChunk { shard, chunk: chunk as u16, rows: layer.rows(index), cells });
                    }
                    (at, rows) = (places[index], layer.rows(index).scales.len());
                }
                // One that is damaged may be beyond the last.
                if usize::from(member.row) < rows {
                    let position = member.slot as u16;
                    here.push(Met { chunk: at, position, row: member.row, place: member_place });
                }
            }
        }
        // The newest layer is right about everybody.
        if self.filter.is_some() || place > 0 {
            best.group(from, first);
            let grouped = std::mem::take(&mut best.room.grouped);
            for of_chunk in grouped.chunk_by(|a, b| a.chunk == b.chunk) {
                self.let_pass(of_chunk, place, best);
            }
            best.room.grouped = grouped;
        }
        best.room.here[from..].iter().for_each(|met| cells.prefetch_copy(met.place));
    }

    /// Adds vectors of one chunk to those that are here, without those that do not pass the filter or of whom a newer layer speaks.
    fn let_pass(&self, of_chunk: &[Met], place: usize, best: &mut Best<'s>) {
        let OfChunk { shard, chunk, .. } = best.chunks[of_chunk[0].chunk as usize];
        let newer = self.space.shards()[shard][..place].iter().flat_map(|layer| [layer.presence(), layer.touched()]);
        let hidden: Vec<Container<'_>> =
            newer.filter_map(|users| users.find(chunk).map(|index| users.container(index))).collect();
        let Room { here, bits, .. } = &mut *best.room;
        let mut add = |passes: &dyn Fn(u16) -> bool| {
            let is_left =
                |met: &&Met| passes(met.position) && hidden.iter().all(|hidden| !hidden.contains(met.position));
            here.extend(of_chunk.iter().filter(is_left));
        };
        let Some(filter) = self.filter.map(|filter| &filter[shard]) else { return add(&|_| true) };
        match filter.find(chunk).map(|index| filter.container(index)) {
            None => {}
            // A bit is told at once, where something else is searched for each.
            Some(Container::Array(_) | Container::Runs(_)) if of_chunk.len() > BITS_FROM => {
                fill(filter, chunk, bits);
                add(&|position| bits[usize::from(position >> 6)] >> (position & 63) & 1 == 1);
            }
            Some(filter) => add(&|position| filter.contains(position)),
        }
    }

    /// Scores those that are here by their copies, and keeps those that may be among the best.
    fn score_copies(&self, best: &mut Best<'s>) -> Result<(), RecallError> {
        let Best { chunks, kept, room, floor, .. } = best;
        let Room { here, codes, scales, rows, values, which, .. } = &mut **room;
        for batch in here.chunks(COPIED) {
            self.look()?;
            codes.clear();
            scales.clear();
            for met in batch {
                let (scale, of_one) = chunks[met.chunk as usize].cells.copy(met.place);
                scales.push(*scale);
                codes.extend_from_slice(of_one);
            }
            rows.clear();
            rows.extend(0..batch.len() as u32);
            self.scorer.approximate(Rows { dimension: self.space.dimension(), codes, scales }, rows, values, which);
            for ((met, scale), value) in batch.iter().zip(&*scales).zip(&*values) {
                let (lower, upper) = self.bounds(scale, *value);
                if upper >= *floor {
                    let OfChunk { shard, chunk, rows, .. } = chunks[met.chunk as usize];
                    let slot = u32::from(chunk) << 16 | u32::from(met.position);
                    kept.push(Kept { shard, slot, row: met.row.into(), chunk: rows, lower, upper });
                }
            }
        }
        best.scored += here.len() as u64;
        Ok(())
    }

    /// The best `size` of few candidates, of whom all are scored.
    pub(super) fn best_of_all(&self, tasks: &[Task], size: u64) -> Result<Vec<Kept<'s>>, RecallError> {
        let mut best = Best::new(size as usize);
        self.keep_of(tasks, |_| true, &mut best)?;
        Ok(best.into_kept())
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
            self.score(chunk, rows, &mut best.room.values, &mut best.room.which);
            for ((row, slot), value) in rows.iter().zip(slots).zip(&best.room.values) {
                let (lower, upper) = self.bounds(&chunk.scales[*row as usize], *value);
                if upper >= best.floor {
                    best.kept.push(Kept { shard, slot: *slot, row: *row, chunk, lower, upper });
                }
            }
        }
        best.scored += rows.len() as u64;
        Ok(())
    }
}
