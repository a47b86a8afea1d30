//! A leaf's layers, positioned at a chunk.
//!
//! Programs run over rising chunks, so each bitmap keeps a cursor that moves forward instead of searching.

use super::bsi::Bounds;
use super::program::{Layer, LayerValue, Mask};
use super::scratch::{CHUNK_LEN, ChunkSet, Pool, Value, and_not_into, or_into, remove_all};
use super::view::{BitmapView, Container, Le16, Words};
use super::{bsi, kernels};
use std::cell::Cell;

/// Up to this many candidates it is cheaper to look each one up than to work on whole words.
pub(super) const SPARSE_LEN_MAX: u32 = 2048;

/// A bitmap and the container last asked for.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    view: BitmapView<'a>,
    at: Cell<usize>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(view: BitmapView<'a>) -> Self {
        Cursor { view, at: Cell::new(0) }
    }

    /// The index of the chunk's container, if there is one.
    fn seek(&self, chunk: u16) -> Option<usize> {
        let mut at = self.at.get();
        let count = self.view.container_count();
        if at > 0 && self.view.key(at - 1) >= chunk {
            at = 0;
        }
        while at < count && self.view.key(at) < chunk {
            at += 1;
        }
        self.at.set(at);
        (at < count && self.view.key(at) == chunk).then_some(at)
    }

    /// Cardinality of the chunk.
    pub(super) fn len(&self, chunk: u16) -> u32 {
        self.seek(chunk).map_or(0, |index| self.view.cardinality(index))
    }

    /// The chunk's positions.
    pub(super) fn set(&self, chunk: u16) -> ChunkSet<'a> {
        self.seek(chunk).map_or(ChunkSet::Empty, |index| self.view.container(index).into())
    }

    /// Chunks that have positions.
    pub(super) fn chunks(&self) -> impl Iterator<Item = u16> {
        (0..self.view.container_count()).map(|index| self.view.key(index))
    }
}

/// One layer.
#[derive(Debug)]
struct Decided<'a> {
    /// `None`: all.
    mask: Option<Vec<Cursor<'a>>>,
    value: Positioned<'a>,
}

#[derive(Debug)]
enum Positioned<'a> {
    Empty,
    Bitmap(Cursor<'a>),
    /// Members are those of `exists` whose bits are within bounds; all of `exists` is decided.
    InRange {
        exists: Cursor<'a>,
        slices: Vec<Cursor<'a>>,
        bounds: Bounds,
    },
}

/// A leaf's layers, newest first.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    layers: Vec<Decided<'a>>,
}

impl<'a> Stack<'a> {
    pub(super) fn new(layers: &[Layer<'a>]) -> Self {
        let mut decided = Vec::with_capacity(layers.len());
        for layer in layers {
            let mut mask = match &layer.mask {
                Mask::All => None,
                Mask::Bitmaps(bitmaps) => Some(bitmaps.iter().copied().map(Cursor::new).collect::<Vec<_>>()),
            };
            let value = match &layer.value {
                LayerValue::Empty => Positioned::Empty,
                LayerValue::Bitmap(view) => Positioned::Bitmap(Cursor::new(*view)),
                LayerValue::InRange(numbers, range) => {
                    let exists = Cursor::new(numbers.exists);
                    match Bounds::new(numbers.base, numbers.slices.len(), *range) {
                        Bounds::Nobody => {
                            if let Some(mask) = &mut mask {
                                mask.push(exists);
                            }
                            Positioned::Empty
                        }
                        Bounds::Everybody => Positioned::Bitmap(exists),
                        bounds => {
                            let slices = numbers.slices.iter().copied().map(Cursor::new).collect();
                            Positioned::InRange { exists, slices, bounds }
                        }
                    }
                }
            };
            let last = mask.is_none();
            decided.push(Decided { mask, value });
            if last {
                break;
            }
        }
        Stack { layers: decided }
    }

    /// Chunks that may have members, in no order, some twice.
    pub(super) fn chunks(&self) -> Vec<u16> {
        let cursors = self.layers.iter().filter_map(|layer| match &layer.value {
            Positioned::Empty => None,
            Positioned::Bitmap(cursor) | Positioned::InRange { exists: cursor, .. } => Some(cursor),
        });
        cursors.flat_map(Cursor::chunks).collect()
    }

    /// The single plain bitmap the leaf is, if it is no more than that.
    pub(super) fn plain(&self) -> Option<BitmapView<'a>> {
        match self.layers.as_slice() {
            [Decided { value: Positioned::Bitmap(cursor), .. }] => Some(cursor.view),
            _ => None,
        }
    }

    /// At most this many members are in the chunk.
    pub(super) fn bound(&self, chunk: u16) -> u32 {
        let of = |layer: &Decided<'_>| match &layer.value {
            Positioned::Empty => 0,
            Positioned::Bitmap(cursor) | Positioned::InRange { exists: cursor, .. } => cursor.len(chunk),
        };
        self.layers.iter().map(of).sum::<u32>().min(CHUNK_LEN)
    }

    /// Container bytes of the chunk, over all layers.
    pub(super) fn size_bytes(&self, chunk: u16) -> u64 {
        let size = |cursor: &Cursor<'_>| match cursor.set(chunk) {
            ChunkSet::Some(container) => container.size_bytes() as u64,
            ChunkSet::Full | ChunkSet::Empty => 0,
        };
        let of_layer = |layer: &Decided<'_>| {
            let value = match &layer.value {
                Positioned::Empty => 0,
                Positioned::Bitmap(cursor) => size(cursor),
                Positioned::InRange { exists, slices, .. } => size(exists) + slices.iter().map(size).sum::<u64>(),
            };
            value + layer.mask.iter().flatten().map(size).sum::<u64>()
        };
        self.layers.iter().map(of_layer).sum()
    }

    /// The members in the chunk.
    pub(super) fn evaluate(&self, pool: &mut Pool, chunk: u16) -> Value<'a> {
        let touched = |layer: &&Decided<'a>| {
            let masked = layer.mask.iter().flatten().any(|cursor| cursor.len(chunk) > 0);
            masked || !matches!(layer.value, Positioned::Empty)
        };
        let mut layers = self.layers.iter().filter(touched);
        let (first, more) = (layers.next(), layers.next().is_some());
        match first {
            None => Value::Borrowed(ChunkSet::Empty),
            Some(layer) if !more => layer.value.evaluate(pool, chunk),
            Some(_) if self.bound(chunk) <= SPARSE_LEN_MAX => self.evaluate_sparse(pool, chunk),
            Some(_) => self.evaluate_dense(pool, chunk),
        }
    }

    /// The union of all values, sifted by the layering rule.
    fn evaluate_sparse(&self, pool: &mut Pool, chunk: u16) -> Value<'a> {
        let mut candidates = pool.array();
        for layer in &self.layers {
            if let Positioned::Bitmap(cursor) | Positioned::InRange { exists: cursor, .. } = &layer.value {
                candidates.extend(cursor.set(chunk).iter().map(u16::to_le_bytes));
            }
        }
        candidates.sort_unstable_by_key(|position| u16::from_le_bytes(*position));
        candidates.dedup();
        self.sift(pool, chunk, &mut candidates);
        Value::Array(candidates)
    }

    /// Oldest first: each layer clears what it decides and sets its value.
    fn evaluate_dense(&self, pool: &mut Pool, chunk: u16) -> Value<'a> {
        let mut words = pool.words();
        for layer in self.layers.iter().rev() {
            layer.mask.iter().flatten().for_each(|cursor| and_not_into(&mut words, cursor.set(chunk)));
            if let Positioned::InRange { exists, .. } = &layer.value {
                and_not_into(&mut words, exists.set(chunk));
            }
            let value = layer.value.evaluate(pool, chunk);
            match &value {
                Value::Borrowed(set) => or_into(&mut words, *set),
                Value::Array(array) => or_into(&mut words, ChunkSet::Some(Container::Array(array))),
                Value::Words(made) => kernels::or_assign(&mut words, made),
                Value::Shared(_) => unreachable!("a leaf's value is not shared"),
            }
            pool.give(value);
        }
        Value::Words(words)
    }

    /// Keeps of the rising `candidates` those that are members.
    pub(super) fn sift(&self, pool: &mut Pool, chunk: u16, candidates: &mut Vec<Le16>) {
        if let [layer] = self.layers.as_slice() {
            return layer.value.sift(pool, chunk, candidates);
        }
        let mut open = std::mem::replace(candidates, pool.array());
        for layer in &self.layers {
            let mut members = pool.array_of(&open);
            layer.value.sift(pool, chunk, &mut members);
            candidates.extend_from_slice(&members);
            remove_all(&mut open, &members);
            pool.give_array(members);
            let Some(mask) = &layer.mask else { break };
            let also = match &layer.value {
                Positioned::InRange { exists, .. } => Some(exists),
                _ => None,
            };
            for cursor in mask.iter().chain(also) {
                let mut decided = pool.array_of(&open);
                sift_set(pool, &mut decided, cursor.set(chunk));
                remove_all(&mut open, &decided);
                pool.give_array(decided);
            }
            if open.is_empty() {
                break;
            }
        }
        pool.give_array(open);
        candidates.sort_unstable_by_key(|position| u16::from_le_bytes(*position));
    }
}

impl<'a> Positioned<'a> {
    fn evaluate(&self, pool: &mut Pool, chunk: u16) -> Value<'a> {
        match self {
            Positioned::Empty => Value::Borrowed(ChunkSet::Empty),
            Positioned::Bitmap(cursor) => Value::Borrowed(cursor.set(chunk)),
            Positioned::InRange { exists, slices, bounds } => {
                let exists = exists.set(chunk);
                if exists.len() <= SPARSE_LEN_MAX {
                    let mut array = pool.array_from(exists);
                    sift_range(&mut array, slices, chunk, bounds);
                    return Value::Array(array);
                }
                Value::Words(range_words(pool, exists, slices, chunk, bounds))
            }
        }
    }

    fn sift(&self, pool: &mut Pool, chunk: u16, candidates: &mut Vec<Le16>) {
        match self {
            Positioned::Empty => candidates.clear(),
            Positioned::Bitmap(cursor) => sift_set(pool, candidates, cursor.set(chunk)),
            Positioned::InRange { exists, slices, bounds } => {
                sift_set(pool, candidates, exists.set(chunk));
                sift_range(candidates, slices, chunk, bounds);
            }
        }
    }
}

/// Keeps of the rising `candidates` those in `set`.
pub(super) fn sift_set(pool: &mut Pool, candidates: &mut Vec<Le16>, set: ChunkSet<'_>) {
    match set {
        ChunkSet::Empty => candidates.clear(),
        ChunkSet::Full => {}
        ChunkSet::Some(Container::Words(words)) => {
            candidates.retain(|position| kernels::bit(words, u16::from_le_bytes(*position)) == 1);
        }
        ChunkSet::Some(container) => {
            let mut kept = pool.array();
            kernels::for_common(candidates, container, |index| kept.push(candidates[index]));
            pool.give_array(std::mem::replace(candidates, kept));
        }
    }
}

/// Keeps of the rising `candidates`, all of whom have a number, those whose number is within bounds.
fn sift_range(candidates: &mut Vec<Le16>, slices: &[Cursor<'_>], chunk: u16, bounds: &Bounds) {
    let mut numbers = vec![0u64; candidates.len()];
    for (bit, slice) in slices.iter().enumerate() {
        bsi::gather(candidates, slice.set(chunk), |index| numbers[index] |= 1 << bit);
    }
    let mut numbers = numbers.iter();
    candidates.retain(|_| numbers.next().is_some_and(|number| bounds.contain(*number)));
}

/// The bit-sliced comparison of a whole chunk.
fn range_words(
    pool: &mut Pool,
    exists: ChunkSet<'_>,
    slices: &[Cursor<'_>],
    chunk: u16,
    bounds: &Bounds,
) -> Box<Words> {
    let sets: Vec<ChunkSet<'_>> = slices.iter().map(|slice| slice.set(chunk)).collect();
    // What is not words in the file is spread out first.
    let spread: Vec<Option<Box<Words>>> = sets
        .iter()
        .map(|set| match set {
            ChunkSet::Empty | ChunkSet::Some(Container::Words(_)) => None,
            set => Some(pool.words_of(*set)),
        })
        .collect();
    let planes: Vec<Option<&Words>> = sets
        .iter()
        .zip(&spread)
        .map(|(set, spread)| match set {
            ChunkSet::Some(Container::Words(words)) => Some(*words),
            _ => spread.as_deref(),
        })
        .collect();
    let mut words = pool.words_of(exists);
    bounds.restrict(&mut words, &planes);
    spread.into_iter().flatten().for_each(|words| pool.give_words(words));
    words
}
