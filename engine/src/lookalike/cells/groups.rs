//! Groups of cells: those of all chunks of a segment whose centres are near each other, so that a few hundred scores tell which
//! thousand of a hundred thousand cells are worth a look.
//!
//! They are derived from the cells when a segment's vectors are opened first, and held in memory with a copy of the centres, group
//! by group: about a byte and a half for each vector of 64 numbers.

use super::clustering::Clustering;
use crate::lookalike::kernels::Rows;
use crate::lookalike::layer::ChunkRows;
use crate::lookalike::quantise::{Scale, norm_of, quantise};
use crate::lookalike::vector::Metric;
use std::ops::Range;

/// Which cells are near each other.
#[derive(Debug)]
pub struct Groups {
    heads: Centres,
    /// Of all cells, group by group.
    cells: Centres,
    /// Where each of them is.
    places: Vec<Place>,
    /// Where each group's cells end.
    ends: Vec<usize>,
}

/// A cell of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::lookalike) struct Place {
    /// Which of the layer's chunks, counted among those with vectors.
    pub(in crate::lookalike) container: u16,
    /// Which of its cells.
    pub(in crate::lookalike) cell: u16,
}

/// Means of vectors, quantised, and how far these are from them.
#[derive(Debug, Default)]
pub(in crate::lookalike) struct Centres {
    dimension: usize,
    codes: Vec<u8>,
    scales: Vec<Scale>,
    spreads: Vec<f32>,
}

impl Groups {
    /// Of the cells of a layer's chunks; `None` if there are none.
    pub fn new(metric: Metric, dimension: usize, chunks: &[ChunkRows<'_>]) -> Option<Groups> {
        let (mut places, mut codes, mut scales, mut spreads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (container, chunk) in chunks.iter().enumerate() {
            for (cells, cell) in chunk.cells.iter().flat_map(|cells| (0..cells.count()).map(move |cell| (cells, cell)))
            {
                // A shard has at most as many chunks, and a chunk as many cells.
                places.push(Place { container: container as u16, cell: cell as u16 });
                codes.push(cells.codes(cell));
                scales.push(cells.scales[cell]);
                spreads.push(cells.spread(cell));
            }
        }
        if places.is_empty() {
            return None;
        }
        let clustering = Clustering { metric, dimension, codes: &codes, scales: &scales };
        let clusters = clustering.run(places.len().isqrt());
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|cell| clusters.sides[*cell]);
        let (mut heads, mut ends) = (Centres::new(dimension), Vec::new());
        for group in order.chunk_by(|a, b| clusters.sides[*a] == clusters.sides[*b]) {
            let sums = &clusters.sums[clusters.sides[group[0]] as usize];
            let (centre, apart) = sums.centre(dimension);
            // Vectors are as far from the group's centre as their cell's centre is, and they are from that.
            let within = group.iter().map(|cell| spreads[*cell].powi(2)).sum::<f32>() / group.len() as f32;
            let scale = quantise(&centre, &mut heads.codes);
            heads.scales.push(scale);
            heads.spreads.push((apart * apart + within).sqrt());
            ends.push(ends.last().copied().unwrap_or(0) + group.len());
        }
        let cells = Centres {
            dimension,
            codes: order.iter().flat_map(|cell| codes[*cell]).copied().collect(),
            scales: order.iter().map(|cell| scales[*cell]).collect(),
            spreads: order.iter().map(|cell| spreads[*cell]).collect(),
        };
        Some(Groups { heads, cells, places: order.iter().map(|cell| places[*cell]).collect(), ends })
    }

    /// How many.
    pub(in crate::lookalike) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Centres of the groups.
    pub(in crate::lookalike) fn heads(&self) -> &Centres {
        &self.heads
    }

    /// Centres of all cells, group by group.
    pub(in crate::lookalike) fn cells(&self) -> &Centres {
        &self.cells
    }

    /// Where these cells are.
    pub(in crate::lookalike) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Which of them are in a group.
    pub(in crate::lookalike) fn cells_of(&self, group: usize) -> Range<usize> {
        group.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[group]
    }
}

impl Centres {
    fn new(dimension: usize) -> Centres {
        Centres { dimension, ..Centres::default() }
    }

    pub(in crate::lookalike) fn rows(&self) -> Rows<'_> {
        Rows { dimension: self.dimension, codes: &self.codes, scales: &self.scales }
    }

    /// The length of one.
    pub(in crate::lookalike) fn length(&self, index: usize) -> f32 {
        norm_of(&self.scales[index])
    }

    /// How far vectors are from it in one direction: a standard deviation, if all directions are alike.
    pub(in crate::lookalike) fn spread(&self, index: usize) -> f32 {
        self.spreads[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookalike::naive::OwnedLayer;
    use crate::lookalike::random::Random;

    #[test]
    fn every_cell_is_in_one_group_with_its_neighbours() {
        let (dimension, mut random) = (4, Random::new(5));
        let corner = |slot: u32| -> Vec<f32> {
            (0..dimension).map(|at| if (slot & 3) >> at & 1 == 0 { 9.0 } else { -9.0 }).collect()
        };
        let mut vector =
            |slot: u32| -> Vec<f32> { corner(slot).iter().map(|number| number + random.unit() as f32).collect() };
        // Two chunks with cells, and one between that has too few vectors.
        let slots = (0..6_000).chain(70_000..70_100).chain(1 << 20..(1 << 20) + 6_000);
        for metric in Metric::ALL {
            let changes: Vec<(u32, Option<Vec<f32>>)> = slots.clone().map(|slot| (slot, Some(vector(slot)))).collect();
            let owned = OwnedLayer::new(dimension as usize, changes).with_cells(metric);
            let layer = owned.view();
            let groups = layer.groups().expect("there are cells");
            let of_chunk = |container: usize| layer.rows(container).cells.map_or(0, |cells| cells.count());
            assert_eq!(of_chunk(1), 0);
            let mut places = groups.places().to_vec();
            places.sort_unstable();
            let all = [0, 2].into_iter().flat_map(|container| {
                (0..of_chunk(container)).map(move |cell| Place { container: container as u16, cell: cell as u16 })
            });
            assert!(places.into_iter().eq(all), "{metric:?}");
            assert!((4..=9).contains(&groups.count()), "{}", groups.count());
            assert_eq!(groups.cells_of(groups.count() - 1).end, groups.places().len());
            let mut apart = 0;
            for group in 0..groups.count() {
                let corners: Vec<u32> = groups.places()[groups.cells_of(group)]
                    .iter()
                    .map(|place| {
                        let cells = layer.rows(place.container.into()).cells.expect("cells");
                        u32::from(cells.members(place.cell.into()).next().expect("a member").position) & 3
                    })
                    .collect();
                apart += corners.iter().filter(|corner| **corner != corners[0]).count();
            }
            assert!(apart * 10 <= groups.places().len(), "{metric:?}: {apart} of {}", groups.places().len());
        }
    }
}
