//! All vectors of a space, as they are at one moment.

use super::RecallError;
use crate::lookalike::cells::CentresView;
use crate::lookalike::layer::Layer;
use crate::lookalike::quantise::Scale;
use crate::lookalike::random::Random;
use crate::lookalike::vector::{Metric, checked};
use roaring::RoaringBitmap;

/// Layers per shard, the newest first: a slot's vector is that of the first layer that speaks of it, if it has one.
#[derive(Clone, Debug)]
pub struct Space<'a> {
    metric: Metric,
    dimension: usize,
    shards: Vec<Vec<Layer<'a>>>,
    /// The centres that layers are sorted by, each once, and the layers that are: shard and place.
    sorted: Vec<(CentresView<'a>, Vec<(usize, usize)>)>,
}

impl<'a> Space<'a> {
    /// Takes the layers of all shards.
    ///
    /// # Errors
    /// [`RecallError::Layer`] if one is of another dimension.
    pub fn new(metric: Metric, dimension: usize, shards: Vec<Vec<Layer<'a>>>) -> Result<Self, RecallError> {
        match shards.iter().flatten().find(|layer| layer.dimension() != dimension) {
            Some(layer) => Err(RecallError::Layer { expected: dimension, found: layer.dimension() }),
            None => Ok(Space { metric, dimension, sorted: sorted(&shards), shards }),
        }
    }

    /// The centres that layers are sorted by, each once, and the layers that are: shard and place.
    pub(super) fn sorted(&self) -> &[(CentresView<'a>, Vec<(usize, usize)>)] {
        &self.sorted
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Numbers a vector has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Layers of each shard.
    pub fn shards(&self) -> &[Vec<Layer<'a>>] {
        &self.shards
    }

    /// Codes, one vector behind the other, and scales of so many vectors from all parts of all layers.
    pub fn sample(&self, count: u64) -> (Vec<u8>, Vec<Scale>) {
        let chunks = || self.shards.iter().flatten().flat_map(|layer| layer.chunks());
        let all: u64 = chunks().map(|rows| rows.scales.len() as u64).sum();
        let count = count.min(all);
        let (mut codes, mut scales, mut random) = (Vec::new(), Vec::new(), Random::new(all));
        let place = |index: u64| (u128::from(index) * u128::from(all) / u128::from(count.max(1))) as u64;
        // One of each of as many equal parts.
        let mut picked = (0..count)
            .map(|index| place(index) + random.below((place(index + 1) - place(index)) as usize) as u64)
            .peekable();
        let mut begin = 0;
        for rows in chunks() {
            let end = begin + rows.scales.len() as u64;
            while let Some(row) = picked.next_if(|picked| *picked < end) {
                let row = (row - begin) as usize;
                codes.extend_from_slice(&rows.codes[row * self.dimension..][..self.dimension]);
                scales.push(rows.scales[row]);
            }
            begin = end;
        }
        (codes, scales)
    }

    /// Users with a vector, a bitmap a shard, by the layering rule.
    pub fn present(&self) -> Vec<RoaringBitmap> {
        let of_shard = |layers: &Vec<Layer<'_>>| {
            let (mut present, mut closed) = (RoaringBitmap::new(), RoaringBitmap::new());
            for (at, layer) in layers.iter().enumerate() {
                let here = layer.presence().to_bitmap();
                present |= &here - &closed;
                if at + 1 < layers.len() {
                    closed |= here;
                    closed |= layer.touched().to_bitmap();
                }
            }
            present
        };
        self.shards.iter().map(of_shard).collect()
    }

    /// The vector of a slot, as it came.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn vector(&self, shard: usize, slot: u32) -> Option<Vec<f32>> {
        for layer in &self.shards[shard] {
            let found = layer.vector(slot);
            if found.is_some() || layer.touched().contains(slot) {
                return found;
            }
        }
        None
    }

    /// The same as it is compared: of length one under cosine. `None` also for one that is damaged.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn compared(&self, shard: usize, slot: u32) -> Option<Vec<f32>> {
        checked(self.metric, self.dimension, &self.vector(shard, slot)?).ok()
    }
}

fn sorted<'a>(shards: &[Vec<Layer<'a>>]) -> Vec<(CentresView<'a>, Vec<(usize, usize)>)> {
    let mut sorted: Vec<(CentresView<'a>, Vec<(usize, usize)>)> = Vec::new();
    for (shard, layers) in shards.iter().enumerate() {
        for (place, layer) in layers.iter().enumerate() {
            let Some(centres) = layer.cells().map(|cells| cells.centres()) else { continue };
            match sorted.iter_mut().find(|(known, _)| known.id() == centres.id()) {
                Some((_, places)) => places.push((shard, place)),
                None => sorted.push((centres, vec![(shard, place)])),
            }
        }
    }
    sorted
}
