//! The best vectors of cells so far, and room to work in.

use super::candidates::Bits;
use super::nearest::Kept;
use crate::lookalike::cells::Cells;
use crate::lookalike::layer::ChunkRows;
use crate::lookalike::quantise::Scale;
use std::cell::Cell;

/// A thread keeps no more room than this for its next question.
const ROOM_BYTES_MAX: usize = 4 << 20;

/// A chunk of a layer that vectors of cells are in.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfChunk<'s> {
    pub(super) shard: usize,
    pub(super) chunk: u16,
    pub(super) rows: &'s ChunkRows<'s>,
    pub(super) cells: &'s Cells<'s>,
}

/// A vector of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    /// Which of [`Best::chunks`].
    pub(super) chunk: u32,
    pub(super) position: u16,
    /// Where it stands among the chunk's vectors,
    pub(super) row: u16,
    /// and among those of all cells of the layer.
    pub(super) place: u32,
}

/// Room to work in. What a question takes and gives back costs it a tenth of its time, so threads keep it.
#[derive(Debug)]
pub(super) struct Room {
    /// Candidates of the cells that are looked into.
    pub(super) here: Vec<Met>,
    /// Those of one layer, chunk by chunk.
    pub(super) grouped: Vec<Met>,
    pub(super) places: Vec<u32>,
    pub(super) bits: Box<Bits>,
    pub(super) codes: Vec<u8>,
    pub(super) scales: Vec<Scale>,
    pub(super) rows: Vec<u32>,
    pub(super) values: Vec<f32>,
    pub(super) which: Vec<u32>,
}

thread_local! {
    static ROOM: Cell<Option<Box<Room>>> = const { Cell::new(None) };
}

impl Default for Room {
    fn default() -> Self {
        Room {
            here: Vec::new(),
            grouped: Vec::new(),
            places: Vec::new(),
            bits: Box::new([0; 1024]),
            codes: Vec::new(),
            scales: Vec::new(),
            rows: Vec::new(),
            values: Vec::new(),
            which: Vec::new(),
        }
    }
}

impl Room {
    fn bytes(&self) -> usize {
        let met = (self.here.capacity() + self.grouped.capacity()) * size_of::<Met>();
        let numbers = self.places.capacity() + self.rows.capacity() + self.values.capacity() + self.which.capacity();
        met + numbers * 4 + self.codes.capacity() + self.scales.capacity() * size_of::<Scale>()
    }
}

/// The best vectors so far.
pub(super) struct Best<'s> {
    pub(super) size: usize,
    /// As many as are wanted score at least this.
    pub(super) floor: f32,
    pub(super) kept: Vec<Kept<'s>>,
    /// So many of them, the first ones, were there when it was pruned last.
    settled: usize,
    /// Vectors of the cells that were looked into, whether they passed the filter or not.
    pub(super) met: u64,
    pub(super) scored: u64,
    /// Chunks of the candidates that are here.
    pub(super) chunks: Vec<OfChunk<'s>>,
    pub(super) room: Box<Room>,
}

impl<'s> Best<'s> {
    pub(super) fn new(size: usize) -> Self {
        Best {
            size,
            floor: f32::NEG_INFINITY,
            kept: Vec::new(),
            settled: 0,
            met: 0,
            scored: 0,
            chunks: Vec::new(),
            room: ROOM.take().unwrap_or_default(),
        }
    }

    /// The best vectors, as far as their codes tell.
    pub(super) fn into_kept(self) -> Vec<Kept<'s>> {
        if self.room.bytes() <= ROOM_BYTES_MAX {
            ROOM.set(Some(self.room));
        }
        self.kept
    }

    /// Takes those that came from a place on, and puts them chunk by chunk, of chunks that came from another place on.
    pub(super) fn group(&mut self, from: usize, first: usize) {
        let Room { here, grouped, places, .. } = &mut *self.room;
        places.clear();
        places.resize(self.chunks.len() - first, 0);
        here[from..].iter().for_each(|met| places[met.chunk as usize - first] += 1);
        let mut end = 0;
        for count in &mut *places {
            end += std::mem::replace(count, end);
        }
        grouped.clear();
        grouped.extend_from_slice(&here[from..]);
        for met in here.drain(from..) {
            let next = &mut places[met.chunk as usize - first];
            grouped[*next as usize] = met;
            *next += 1;
        }
    }

    /// Lets go of those that cannot be among the best any more; how many of those that came since the last time are now among the best,
    /// as far as their codes tell. (Bounds are so wide that many more might be.)
    pub(super) fn prune(&mut self) -> usize {
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

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= self.size
    }
}
