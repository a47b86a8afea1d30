//! Containers of runs as this project writes them: runs that touch are one, and there are runs only where nothing else is as small.
//!
//! The format allows others, the `roaring` library refuses runs that touch, and keeps those that are no smaller than an array.

use super::rising::{Shape, push_container, push_head};
use super::view::{BitmapView, Container, Run, run_last, run_start};

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
        match view.container(index) {
            Container::Runs(runs) if shape.runs.is_none() => {
                let positions: Vec<u32> = joined(runs).flat_map(|(first, last)| first..=last).collect();
                push_container(shape, &positions, &mut out);
            }
            Container::Runs(runs) => {
                let mut push = |number: usize| out.extend_from_slice(&(number as u16).to_le_bytes());
                push(joined(runs).count());
                joined(runs).for_each(|(first, last)| {
                    push(first as usize);
                    push((last - first) as usize);
                });
            }
            Container::Array(array) => out.extend_from_slice(array.as_flattened()),
            Container::Words(words) => out.extend_from_slice(words.as_flattened()),
        }
    }
    out
}

fn shape(view: &BitmapView<'_>, index: usize) -> Shape {
    let (chunk, len) = (view.key(index), view.cardinality(index) as usize);
    match view.container(index) {
        Container::Runs(runs) => Shape::new(chunk, len, joined(runs).count()),
        Container::Array(_) | Container::Words(_) => Shape { chunk, len, runs: None },
    }
}

/// First and last position of each, those that touch as one.
fn joined(runs: &[Run]) -> impl Iterator<Item = (u32, u32)> {
    let one = |runs: &[Run]| (run_start(runs[0]), run_last(runs[runs.len() - 1]));
    runs.chunk_by(|a, b| run_last(*a) + 1 == run_start(*b)).map(one)
}
