//! All vectors of a space, as they are at one moment.

use super::RecallError;
use crate::lookalike::cells::CentresView;
use crate::lookalike::layer::Layer;
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
