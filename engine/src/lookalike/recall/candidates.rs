//! Which rows of which layers are asked about: a chunk's slots that pass the filter, each in the newest layer that speaks of it.

use super::Space;
use super::ranks::Ranks;
use crate::bitmap::ChunkSet;
use crate::bitmap::view::{BitmapView, Container};
use crate::lookalike::layer::{ChunkRows, Layer};

/// A bit a slot of a chunk.
pub(super) type Bits = [u64; 1024];

/// A chunk of a shard: the unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Task {
    pub(super) shard: usize,
    pub(super) chunk: u16,
}

/// The chunks in which there may be candidates, rising.
pub(super) fn tasks(space: &Space<'_>, filter: Option<&[BitmapView<'_>]>) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (shard, layers) in space.shards().iter().enumerate() {
        let mut chunks: Vec<u16> = layers.iter().flat_map(|layer| keys(layer.presence())).collect();
        chunks.sort_unstable();
        chunks.dedup();
        let passes = |chunk: &u16| filter.is_none_or(|filter| filter[shard].find(*chunk).is_some());
        tasks.extend(chunks.into_iter().filter(passes).map(|chunk| Task { shard, chunk }));
    }
    tasks
}

fn keys(bitmap: &BitmapView<'_>) -> impl Iterator<Item = u16> {
    (0..bitmap.container_count()).map(|index| bitmap.key(index))
}

/// Rows of a chunk of one layer, with their slots, both rising.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) rows: Vec<u32>,
    pub(super) slots: Vec<u32>,
}

/// Finds the candidates of chunks; keeps its memory from one to the next.
#[derive(Debug)]
pub(super) struct Candidates<'s> {
    space: &'s Space<'s>,
    filter: Option<&'s [BitmapView<'s>]>,
    open: Box<Bits>,
    present: Box<Bits>,
    live: Box<Bits>,
    listed: Listed,
}

impl<'s> Candidates<'s> {
    pub(super) fn new(space: &'s Space<'s>, filter: Option<&'s [BitmapView<'s>]>) -> Self {
        let bits = || Box::new([0; 1024]);
        Candidates { space, filter, open: bits(), present: bits(), live: bits(), listed: Listed::default() }
    }

    /// How many the chunk has.
    pub(super) fn count(&mut self, task: Task) -> u32 {
        if let Some(count) = count_in_one(self.space, self.filter, task) {
            return count;
        }
        let mut count = 0;
        self.for_each(task, |_| true, |_, _, live| count += live.iter().map(|word| word.count_ones()).sum::<u32>());
        count
    }

    /// Hands out the chunk's candidates, a layer at a time, the newest first.
    pub(super) fn list(&mut self, task: Task, take: impl FnMut(&'s ChunkRows<'s>, &Listed)) {
        self.list_of(task, |_| true, take);
    }

    /// The same of those layers only that are wanted.
    pub(super) fn list_of(
        &mut self,
        task: Task,
        is_wanted: impl Fn(&Layer<'_>) -> bool,
        mut take: impl FnMut(&'s ChunkRows<'s>, &Listed),
    ) {
        let mut listed = std::mem::take(&mut self.listed);
        if let Some((layer, rows)) = self.list_few(task, &mut listed) {
            if is_wanted(layer) && !listed.rows.is_empty() {
                take(rows, &listed);
            }
            self.listed = listed;
            return;
        }
        self.for_each(task, is_wanted, |rows, present, live| {
            listed.rows.clear();
            listed.slots.clear();
            let mut row = 0;
            for (index, (present, live)) in present.iter().zip(live).enumerate() {
                let slot = (u32::from(task.chunk) << 16) | (index as u32 * 64);
                if *live == u64::MAX {
                    listed.rows.extend(row..row + 64);
                    listed.slots.extend(slot..=slot + 63);
                } else {
                    let mut rest = *live;
                    while rest != 0 {
                        let bit = rest.trailing_zeros();
                        listed.rows.push(row + (present & ((1 << bit) - 1)).count_ones());
                        listed.slots.push(slot + bit);
                        rest &= rest - 1;
                    }
                }
                row += present.count_ones();
            }
            take(rows, &listed);
        });
        self.listed = listed;
    }

    /// The same of a chunk that is in a single layer under a filter that few of the chunk pass, without a look at the others. `None` for
    /// other chunks.
    fn list_few(&self, task: Task, listed: &mut Listed) -> Option<(&'s Layer<'s>, &'s ChunkRows<'s>)> {
        let [layer] = &self.space.shards()[task.shard][..] else { return None };
        let filter = &self.filter?[task.shard];
        let Container::Array(passing) = filter.container(filter.find(task.chunk)?) else { return None };
        let index = layer.presence().find(task.chunk)?;
        let mut ranks = Ranks::new(layer.presence().container(index));
        listed.rows.clear();
        listed.slots.clear();
        for position in passing.iter().map(|position| u16::from_le_bytes(*position)) {
            if let Some(row) = ranks.rank(position) {
                listed.rows.push(row);
                listed.slots.push(u32::from(task.chunk) << 16 | u32::from(position));
            }
        }
        Some((layer, layer.rows(index)))
    }

    /// The layering rule, a chunk at a time: what is open, is asked of each layer, and what the layer speaks of is closed for
    /// those below it.
    fn for_each(
        &mut self,
        task: Task,
        is_wanted: impl Fn(&Layer<'_>) -> bool,
        mut take: impl FnMut(&'s ChunkRows<'s>, &Bits, &Bits),
    ) {
        match self.filter {
            None => self.open.fill(u64::MAX),
            Some(filter) => fill(&filter[task.shard], task.chunk, &mut self.open),
        }
        let layers = &self.space.shards()[task.shard];
        for (at, layer) in layers.iter().enumerate() {
            if let Some(index) = layer.presence().find(task.chunk) {
                fill(layer.presence(), task.chunk, &mut self.present);
                let mut any = 0;
                for ((live, open), present) in self.live.iter_mut().zip(&mut self.open[..]).zip(&self.present[..]) {
                    *live = *open & present;
                    *open &= !present;
                    any |= *live;
                }
                if any != 0 && is_wanted(layer) {
                    take(layer.rows(index), &self.present, &self.live);
                }
            }
            if at + 1 < layers.len() && layer.touched().find(task.chunk).is_some() {
                fill(layer.touched(), task.chunk, &mut self.present);
                self.open.iter_mut().zip(&self.present[..]).for_each(|(open, touched)| *open &= !touched);
            }
        }
    }
}

/// How many candidates a chunk has that is in a single layer, which takes no more than a look at it.
pub(super) fn count_in_one(space: &Space<'_>, filter: Option<&[BitmapView<'_>]>, task: Task) -> Option<u32> {
    let [layer] = &space.shards()[task.shard][..] else { return None };
    let presence = layer.presence();
    let Some(filter) = filter else { return Some(presence.chunk_len(task.chunk)) };
    let filter = &filter[task.shard];
    let (Some(here), Some(passing)) = (presence.find(task.chunk), filter.find(task.chunk)) else { return Some(0) };
    Some(ChunkSet::Some(presence.container(here)).common_count(&ChunkSet::Some(filter.container(passing))))
}

/// The bits of a chunk.
pub(super) fn fill(bitmap: &BitmapView<'_>, chunk: u16, out: &mut Bits) {
    out.fill(0);
    let Some(index) = bitmap.find(chunk) else { return };
    match bitmap.container(index) {
        Container::Words(words) => {
            out.iter_mut().zip(words).for_each(|(out, word)| *out = u64::from_le_bytes(*word));
        }
        Container::Array(array) => {
            for position in array {
                let position = u16::from_le_bytes(*position);
                out[usize::from(position >> 6)] |= 1 << (position & 63);
            }
        }
        Container::Runs(runs) => {
            for run in runs {
                let first = usize::from(u16::from_le_bytes([run[0], run[1]]));
                // Validated runs end within the chunk.
                let last = (first + usize::from(u16::from_le_bytes([run[2], run[3]]))).min(0xffff);
                let (head, tail) = (u64::MAX << (first & 63), u64::MAX >> (63 - (last & 63)));
                let (first, last) = (first >> 6, last >> 6);
                if first == last {
                    out[first] |= head & tail;
                } else {
                    out[first] |= head;
                    out[first + 1..last].fill(u64::MAX);
                    out[last] |= tail;
                }
            }
        }
    }
}
