//! All vectors of a space, as they are at one moment.

use super::RecallError;
use crate::lookalike::block::Block;
use crate::lookalike::vector::Metric;

/// Blocks per shard, the newest first: a slot's vector is that of the first block that has it, unless a newer one says that it
/// was removed.
#[derive(Clone, Debug)]
pub struct Space<'a> {
    dimension: usize,
    shards: Vec<Vec<Block<'a>>>,
}

impl<'a> Space<'a> {
    /// Takes the blocks of all shards.
    ///
    /// # Errors
    /// [`RecallError::Block`] if one is of another dimension or metric.
    pub fn new(metric: Metric, dimension: usize, shards: Vec<Vec<Block<'a>>>) -> Result<Self, RecallError> {
        for block in shards.iter().flatten() {
            if block.dimension() != dimension || block.metric() != metric {
                let (found, metric) = (block.dimension(), block.metric());
                return Err(RecallError::Block { expected: dimension, found, metric });
            }
        }
        Ok(Space { dimension, shards })
    }

    /// Numbers a vector has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Blocks of each shard.
    pub fn shards(&self) -> &[Vec<Block<'a>>] {
        &self.shards
    }

    /// The vector of a slot, as the space keeps it.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn vector(&self, shard: usize, slot: u32) -> Option<Vec<f32>> {
        for block in &self.shards[shard] {
            let found = block.vector(slot);
            if found.is_some() || block.removed().contains(slot) {
                return found;
            }
        }
        None
    }
}
