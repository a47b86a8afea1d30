//! Containers as this project writes them: what is smallest, runs that touch as one, and there are runs only where nothing else is as
//! small.
//!
//! The format allows others, the `roaring` library refuses runs that touch, and keeps those that are no smaller than an array.

use super::chunk_set::ChunkSet;
use super::rising::{Shape, push_container, push_head};
use super::view::{ARRAY_LEN_MAX, BitmapView, Container, Run, run_last, run_start};
use roaring::RoaringBitmap;

/// Whether all containers of runs are.
pub(super) fn is_canonical(view: &BitmapView<'_>) -> bool {
    (0..view.container_count()).all(|index| match view.container(index) {
        Container::Runs(runs) => shape(view, index).runs == Some(runs.len()),
        Container::Array(_) | Container::Words(_) => true,
    })
}

/// The bytes of the same set with such.
pub(super) fn canonical(view: &BitmapView<'_>) -> Vec<u8> {
    let shapes: Vec<Shape> = (0..view.container_count()).map(|index| shape(view, index)).collect();
    let mut out = Vec::with_capacity(view.as_bytes().len());
    push_head(&shapes, 0, &mut out);
    for (index, shape) in shapes.iter().enumerate() {
        push(shape, view.container(index), &mut out);
    }
    out
}

fn shape(view: &BitmapView<'_>, index: usize) -> Shape {
    shape_of(view.key(index), view.cardinality(index) as usize, view.container(index))
}

fn shape_of(chunk: u16, len: usize, container: Container<'_>) -> Shape {
    match container {
        Container::Runs(runs) => Shape::new(chunk, len, joined(runs).count()),
        Container::Array(_) | Container::Words(_) => Shape { chunk, len, runs: None },
    }
}

fn push(shape: &Shape, container: Container<'_>, out: &mut Vec<u8>) {
    match container {
        Container::Runs(runs) if shape.runs.is_none() => {
            let positions: Vec<u32> = joined(runs).flat_map(|(first, last)| first..=last).collect();
            push_container(shape, &positions, out);
        }
        Container::Runs(runs) => {
            let mut push = |number: usize| out.extend_from_slice(&(number as u16).to_le_bytes());
            push(joined(runs).count());
            joined(runs).for_each(|(first, last)| {
                push(first as usize);
                push((last - first) as usize);
            });
        }
        // On the way there may be others than the format has.
        Container::Array(array) if shape.len <= ARRAY_LEN_MAX => out.extend_from_slice(array.as_flattened()),
        Container::Words(words) if shape.len > ARRAY_LEN_MAX => out.extend_from_slice(words.as_flattened()),
        Container::Array(_) | Container::Words(_) => {
            let positions: Vec<u32> = container.iter().map(u32::from).collect();
            push_container(shape, &positions, out);
        }
    }
}

/// First and last position of each, those that touch as one.
fn joined(runs: &[Run]) -> impl Iterator<Item = (u32, u32)> {
    let one = |runs: &[Run]| (run_start(runs[0]), run_last(runs[runs.len() - 1]));
    runs.chunk_by(|a, b| run_last(*a) + 1 == run_start(*b)).map(one)
}

/// A set that is put together from sets of rising chunks, a container at a time.
#[derive(Default)]
pub(crate) struct Chunks {
    shapes: Vec<Shape>,
    containers: Vec<u8>,
}

impl Chunks {
    /// Adds what is in a chunk, which stands behind all before it.
    pub(crate) fn push(&mut self, chunk: u16, set: &ChunkSet<'_>) {
        const ALL: &[Run] = &[[0, 0, 0xff, 0xff]];
        let container = match set {
            ChunkSet::Empty => return,
            ChunkSet::Full => Container::Runs(ALL),
            ChunkSet::Some(container) => *container,
        };
        let len = set.len() as usize;
        if len > 0 {
            let shape = shape_of(chunk, len, container);
            push(&shape, container, &mut self.containers);
            self.shapes.push(shape);
        }
    }

    /// All of it.
    pub(crate) fn finish(self) -> RoaringBitmap {
        if self.shapes.is_empty() {
            return RoaringBitmap::new();
        }
        let mut bytes = Vec::with_capacity(self.containers.len() + self.shapes.len() * 9 + 8);
        push_head(&self.shapes, 0, &mut bytes);
        bytes.extend_from_slice(&self.containers);
        RoaringBitmap::deserialize_unchecked_from(&bytes[..]).expect("what was written is read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitmap::shapes::{bytes, named, run_bytes};

    #[test]
    fn chunks_put_together_are_the_set() {
        for (name, bitmap) in named() {
            for bytes in [bytes(&bitmap), run_bytes(&bitmap)] {
                let view = BitmapView::new(&bytes).expect("valid");
                let mut chunks = Chunks::default();
                let mut words = Box::new([[0; 8]; 1024]);
                for index in 0..view.container_count() {
                    let container = view.container(index);
                    chunks.push(view.key(index), &ChunkSet::Some(container));
                    chunks.push(view.key(index), &ChunkSet::Empty);
                }
                let together = chunks.finish();
                assert_eq!(together, bitmap, "{name}");
                // The same as words, however few, and whole chunks as such.
                let mut chunks = Chunks::default();
                for index in 0..view.container_count() {
                    words.fill([0; 8]);
                    for position in view.container(index).iter() {
                        words[usize::from(position >> 6)][usize::from(position >> 3 & 7)] |= 1 << (position & 7);
                    }
                    let is_full = view.cardinality(index) == 65_536;
                    let set = if is_full { ChunkSet::Full } else { ChunkSet::Some(Container::Words(&words)) };
                    chunks.push(view.key(index), &set);
                }
                assert_eq!(chunks.finish(), bitmap, "{name}");
            }
        }
    }
}
