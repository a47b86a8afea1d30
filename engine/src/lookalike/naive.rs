//! The slow twin: vectors in a map, and everything sorted.

use super::block::{Block, BlockWriter};
use super::random::Random;
use super::scorer::Scorer;
use super::vector::{Metric, checked};
use std::collections::{BTreeMap, BTreeSet};

/// What users have, and the layers that say so.
#[derive(Debug)]
pub(super) struct Model {
    /// As the space keeps them, by shard and slot.
    pub(super) vectors: BTreeMap<(usize, u32), Vec<f32>>,
    /// Bytes of blocks per shard, the newest first.
    pub(super) layers: Vec<Vec<Vec<u8>>>,
}

impl Model {
    /// Random vectors, of which many are equal, in random slots of a few chunks; later layers change and remove some.
    pub(super) fn random(
        metric: Metric,
        dimension: usize,
        shards: usize,
        layers: usize,
        rows: usize,
        random: &mut Random,
    ) -> Self {
        let mut model = Model { vectors: BTreeMap::new(), layers: vec![Vec::new(); shards] };
        for shard in 0..shards {
            for _ in 0..layers {
                let mut changes: BTreeMap<u32, Option<Vec<f32>>> = BTreeMap::new();
                for _ in 0..random.below(rows + 1) {
                    // Near each other at both sides of a chunk's end, so that layers and filters meet.
                    let slot = [60_000, 65_536 * 5, 0][random.below(3)] + random.below(7_000) as u32;
                    let vector = (random.below(5) > 0).then(|| vector(dimension, random));
                    changes.insert(slot, vector);
                }
                let mut writer = BlockWriter::new(metric, dimension);
                for (slot, change) in changes {
                    match change {
                        Some(vector) if writer.push(slot, &vector).is_ok() => {
                            let kept = checked(metric, dimension, &vector).expect("the writer took it");
                            model.vectors.insert((shard, slot), kept);
                        }
                        Some(_) => {}
                        None => {
                            writer.remove(slot);
                            model.vectors.remove(&(shard, slot));
                        }
                    }
                }
                model.layers[shard].insert(0, writer.finish());
            }
        }
        model
    }

    pub(super) fn blocks(&self) -> Vec<Vec<Block<'_>>> {
        fn open(bytes: &Vec<u8>) -> Block<'_> {
            Block::new(bytes).expect("a block")
        }
        self.layers.iter().map(|layers| layers.iter().map(open).collect()).collect()
    }

    /// All that pass the filter, best first.
    pub(super) fn ranked(&self, scorer: &Scorer, filter: Option<&[BTreeSet<u32>]>) -> Vec<(f32, usize, u32)> {
        let passes = |shard: usize, slot: &u32| filter.is_none_or(|filter| filter[shard].contains(slot));
        let users = self.vectors.iter().filter(|((shard, slot), _)| passes(*shard, slot));
        let mut all: Vec<(f32, usize, u32)> =
            users.map(|((shard, slot), vector)| (scorer.score(vector), *shard, *slot)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        all
    }
}

/// Numbers of very different sizes, or of few values.
pub(super) fn vector(dimension: usize, random: &mut Random) -> Vec<f32> {
    let few = random.below(2) == 0;
    let size = 10.0_f64.powi(random.below(7) as i32 - 3);
    let number = |random: &mut Random| {
        if few { random.below(3) as f32 - 1.0 } else { ((random.unit() - 0.3) * size) as f32 }
    };
    (0..dimension).map(|_| number(random)).collect()
}

/// Similarity in double precision.
pub(super) fn similarity(metric: Metric, vector: &[f32], prototype: &[f32]) -> f64 {
    let pairs = vector.iter().zip(prototype).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    match metric {
        Metric::L2 => -pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>(),
        Metric::Dot => pairs.map(|(a, b)| a * b).sum(),
        Metric::Cosine => {
            let long = |vector: &[f32]| vector.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
            pairs.map(|(a, b)| a * b).sum::<f64>() / long(vector) / long(prototype)
        }
    }
}
