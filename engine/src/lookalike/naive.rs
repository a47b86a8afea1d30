//! The slow twin: vectors in a map, and everything sorted.

use super::cells::{Cells, Centres, Made, Sorter};
use super::layer::{ChunkRows, Layer};
use super::quantise::{Most, Scale, quantise};
use super::random::Random;
use super::scorer::Scorer;
use super::vector::{Metric, check};
use crate::bitmap::rising;
use crate::bitmap::view::BitmapView;
use std::collections::{BTreeMap, BTreeSet};

/// What users have, and the layers that say so.
#[derive(Debug)]
pub(super) struct Model {
    /// By shard and slot.
    pub(super) vectors: BTreeMap<(usize, u32), Vec<f32>>,
    /// Per shard, the newest first.
    pub(super) layers: Vec<Vec<OwnedLayer>>,
}

/// The bytes of a layer.
#[derive(Debug)]
pub(super) struct OwnedLayer {
    dimension: usize,
    presence: Vec<u8>,
    touched: Vec<u8>,
    scales: Vec<Scale>,
    codes: Vec<u8>,
    vectors: Vec<[u8; 4]>,
    /// With copies of what is scanned.
    cells: Option<(Centres, Made, Vec<u8>)>,
}

/// What is scanned of vectors, cell by cell.
pub(super) fn copies(made: &Made, dimension: usize, scales: &[Scale], codes: &[u8]) -> Vec<u8> {
    let of_one = |at: &u32| {
        let at = *at as usize;
        [&scales[at][..], &codes[at * dimension..][..dimension]].concat()
    };
    made.order.iter().flat_map(of_one).collect()
}

impl OwnedLayer {
    /// Centres that fit its vectors.
    pub(super) fn centres(&self, metric: Metric) -> Centres {
        let count = self.scales.len() as u64;
        Centres::train(metric, self.dimension, count, &self.codes, &self.scales).expect("it has vectors")
    }

    /// Sorted into the cells of centres.
    pub(super) fn with_cells(mut self, centres: &Centres) -> Self {
        let slots: Vec<u32> = BitmapView::new(&self.presence).expect("valid").iter().collect();
        let mut sorter = Sorter::new(centres);
        let mut from = 0;
        for of_chunk in slots.chunk_by(|a, b| a >> 16 == b >> 16) {
            let rows = from..from + of_chunk.len();
            from = rows.end;
            let codes: Vec<&[u8]> =
                rows.clone().map(|row| &self.codes[row * self.dimension..][..self.dimension]).collect();
            sorter.add(of_chunk.iter().copied(), &codes, &self.scales[rows]);
        }
        let made = sorter.finish();
        let copies = copies(&made, self.dimension, &self.scales, &self.codes);
        self.cells = Some((centres.clone(), made, copies));
        self
    }

    /// Of changes by rising slot; `None` takes a vector away.
    pub(super) fn new(dimension: usize, changes: impl IntoIterator<Item = (u32, Option<Vec<f32>>)>) -> Self {
        let (mut present, mut touched) = (Vec::new(), Vec::new());
        let (mut scales, mut codes, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, vector) in changes {
            touched.push(slot);
            if let Some(vector) = vector {
                present.push(slot);
                scales.push(quantise(&vector, &mut codes));
                vectors.extend(vector.iter().map(|number| number.to_le_bytes()));
            }
        }
        let bytes = |slots: &[u32]| {
            let mut out = Vec::new();
            rising::serialize(slots, &mut out);
            out
        };
        let (presence, touched) = (bytes(&present), bytes(&touched));
        OwnedLayer { dimension, presence, touched, scales, codes, vectors, cells: None }
    }

    pub(super) fn view(&self) -> Layer<'_> {
        let presence = BitmapView::new(&self.presence).expect("valid");
        let (mut rows, mut from) = (Vec::new(), 0);
        for index in 0..presence.container_count() {
            let to = from + presence.cardinality(index) as usize;
            let numbers = from * self.dimension..to * self.dimension;
            let scales = &self.scales[from..to];
            let (codes, vectors) = (&self.codes[numbers.clone()], &self.vectors[numbers]);
            rows.push(ChunkRows { scales, codes, vectors, most: Most::among(scales) });
            from = to;
        }
        let cells = self.cells.as_ref().map(|(centres, made, copies)| {
            let cells = Cells::new(centres.view(), &made.ends, &made.members, copies, self.scales.len() as u64);
            cells.expect("cells of these vectors")
        });
        let layer = Layer::new(self.dimension, presence, BitmapView::new(&self.touched).expect("valid"), rows);
        layer.expect("a layer").with_cells(cells)
    }
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
        let mut model = Model { vectors: BTreeMap::new(), layers: (0..shards).map(|_| Vec::new()).collect() };
        for shard in 0..shards {
            for _ in 0..layers {
                let mut changes: BTreeMap<u32, Option<Vec<f32>>> = BTreeMap::new();
                for _ in 0..random.below(rows + 1) {
                    // Near each other at both sides of a chunk's end, so that layers and filters meet.
                    let slot = [60_000, 65_536 * 5, 0][random.below(3)] + random.below(7_000) as u32;
                    let vector = (random.below(5) > 0).then(|| vector(dimension, random));
                    changes.insert(slot, vector);
                }
                changes
                    .retain(|_, change| change.as_ref().is_none_or(|vector| check(metric, dimension, vector).is_ok()));
                for (slot, change) in &changes {
                    match change {
                        Some(vector) => model.vectors.insert((shard, *slot), vector.clone()),
                        None => model.vectors.remove(&(shard, *slot)),
                    };
                }
                model.layers[shard].insert(0, OwnedLayer::new(dimension, changes));
            }
        }
        model
    }

    pub(super) fn views(&self) -> Vec<Vec<Layer<'_>>> {
        self.layers.iter().map(|layers| layers.iter().map(OwnedLayer::view).collect()).collect()
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
    let size = match random.below(16) {
        // At both ends of what a vector can be.
        0 => 3e17,
        1 => 1e-14,
        _ => 10.0_f64.powi(random.below(7) as i32 - 3),
    };
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
