//! The centres of a space's cells.

use super::clustering::{Clustering, Sums, in_chain};
use super::finder::Finder;
use crate::lookalike::kernels::Rows;
use crate::lookalike::quantise::{SCALE_BYTES, Scale, norm_of, quantise};
use crate::lookalike::random::Random;
use crate::lookalike::vector::Metric;
use std::sync::{Arc, OnceLock};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a spread.
const SPREAD_BYTES: usize = 4;
/// Vectors that a centre is trained with.
const SAMPLE_PER_CENTRE: u64 = 16;
/// Bytes of codes that centres are trained with, at most.
const SAMPLE_BYTES_MAX: u64 = 256 << 20;
/// Centres fit up to so many times the vectors that they were made for.
const GROWTH: u64 = 4;

/// Bytes of a centre.
pub fn centre_bytes(dimension: usize) -> usize {
    dimension + SCALE_BYTES + SPREAD_BYTES
}

/// Centres that vectors are sorted by; copies share them.
#[derive(Clone, Debug)]
pub struct Centres(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metric: Metric,
    dimension: usize,
    trained_on: u64,
    bytes: Vec<u8>,
    /// Made when it is needed first.
    finder: OnceLock<Finder>,
}

impl Centres {
    /// How many centres a space with so many vectors should have: four times the root, so that scoring them costs about as much
    /// as scoring the vectors of those that are looked into.
    pub fn wanted(dimension: usize, vectors: u64) -> u64 {
        let most = SAMPLE_BYTES_MAX / dimension as u64 / SAMPLE_PER_CENTRE;
        (4 * vectors.isqrt()).clamp(1, most)
    }

    /// How many vectors centres of a space with so many are trained with.
    pub fn sample_size(dimension: usize, vectors: u64) -> u64 {
        (Self::wanted(dimension, vectors) * SAMPLE_PER_CENTRE).min(vectors)
    }

    /// Trains centres by a sample of `vectors` vectors: codes, one vector behind the other, and scales; `None` if there are none.
    ///
    /// # Panics
    /// If there are not as many codes as scales say.
    pub fn train(metric: Metric, dimension: usize, vectors: u64, codes: &[u8], scales: &[Scale]) -> Option<Self> {
        assert_eq!(codes.len(), scales.len() * dimension, "a code a dimension");
        // Who is the same is looked at once: thousands with a vector of their own by default would all have centres for themselves.
        let mut rows: Vec<(&[u8], &Scale)> = codes.chunks_exact(dimension).zip(scales).collect();
        rows.sort_unstable();
        rows.dedup();
        // In the order of codes neighbours stand together, and parts of the sample would be regions.
        Random::new(rows.len() as u64).shuffle(&mut rows);
        let scales: Vec<Scale> = rows.iter().map(|(_, scale)| **scale).collect();
        let codes = rows.iter().map(|(codes, _)| *codes).collect::<Vec<_>>().concat();
        let (codes, scales) = (&codes[..], &scales[..]);
        let clustering = Clustering { metric, dimension, codes, scales };
        let sums = clustering.run(Self::wanted(dimension, vectors) as usize);
        let (mut codes, mut scales, mut spreads) = (Vec::new(), Vec::new(), Vec::new());
        // Cells that a question looks into are near each other, and so are their vectors in files then.
        let centres = in_chain(sums.iter().filter_map(Sums::centre).collect(), |(centre, _)| centre);
        for (centre, spread) in centres {
            scales.push(quantise(&centre, &mut codes));
            spreads.extend_from_slice(&spread.to_le_bytes());
        }
        let bytes = [&codes[..], scales.as_flattened(), &spreads].concat();
        (!bytes.is_empty()).then(|| Self::of_bytes(metric, dimension, vectors, bytes))
    }

    /// Centres as a segment has them.
    pub fn copied(metric: Metric, view: CentresView<'_>, trained_on: u64) -> Self {
        Self::of_bytes(metric, view.dimension, trained_on, view.bytes())
    }

    fn of_bytes(metric: Metric, dimension: usize, trained_on: u64, bytes: Vec<u8>) -> Self {
        Centres(Arc::new(Shared { metric, dimension, trained_on, bytes, finder: OnceLock::new() }))
    }

    /// How many vectors the space had when they were trained.
    pub fn trained_on(&self) -> u64 {
        self.0.trained_on
    }

    /// Whether those that were trained on so many vectors are too few for a space that has `vectors` now.
    pub fn is_outgrown(trained_on: u64, vectors: u64) -> bool {
        trained_on.saturating_mul(GROWTH) <= vectors
    }

    /// Numbers a vector has.
    pub fn dimension(&self) -> usize {
        self.0.dimension
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.bytes.len() / centre_bytes(self.0.dimension)
    }

    /// Their bytes, [`centre_bytes`] each.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Tells them from others.
    pub fn id(&self) -> u64 {
        id_of(&self.0.bytes)
    }

    /// As they are looked at.
    pub fn view(&self) -> CentresView<'_> {
        CentresView::new(self.0.dimension, self.count(), self.id(), &self.0.bytes).expect("as many bytes as there are")
    }

    /// The nearest centre of each of some vectors: codes, one vector behind the other, and scales. Most likely the nearest, where there
    /// are many.
    pub(super) fn nearest(&self, codes: &[u8], scales: &[Scale]) -> Vec<u32> {
        let Shared { metric, dimension, finder, .. } = &*self.0;
        let finder = finder.get_or_init(|| Finder::new(*metric, *dimension, &self.view().numbers(*metric)));
        finder.nearest(Rows { dimension: *dimension, codes, scales })
    }
}

fn id_of(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Centres as they lie in a segment.
#[derive(Clone, Copy, Debug)]
pub struct CentresView<'a> {
    dimension: usize,
    id: u64,
    codes: &'a [u8],
    scales: &'a [Scale],
    spreads: &'a [[u8; SPREAD_BYTES]],
}

impl<'a> CentresView<'a> {
    /// Numbers a centre has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// So many centres; `None` if the bytes are none.
    pub fn new(dimension: usize, count: usize, id: u64, bytes: &'a [u8]) -> Option<Self> {
        if count == 0 || bytes.len() != count * centre_bytes(dimension) {
            return None;
        }
        let (codes, rest) = bytes.split_at(count * dimension);
        let (scales, spreads) = rest.split_at(count * SCALE_BYTES);
        Some(CentresView { dimension, id, codes, scales: scales.as_chunks().0, spreads: spreads.as_chunks().0 })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.spreads.len()
    }

    /// Tells them from others.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the bytes are those that the id was made of.
    pub fn has_its_id(&self) -> bool {
        id_of(&self.bytes()) == self.id
    }

    fn bytes(&self) -> Vec<u8> {
        [self.codes, self.scales.as_flattened(), self.spreads.as_flattened()].concat()
    }

    /// The centres, as quantised rows.
    pub(in crate::lookalike) fn rows(&self) -> Rows<'a> {
        Rows { dimension: self.dimension, codes: self.codes, scales: self.scales }
    }

    /// The length of a centre.
    pub(in crate::lookalike) fn length(&self, cell: usize) -> f32 {
        norm_of(&self.scales[cell])
    }

    /// How far vectors of a cell are from its centre in one direction: a standard deviation, if all directions are alike.
    pub(in crate::lookalike) fn spread(&self, cell: usize) -> f32 {
        f32::from_le_bytes(self.spreads[cell])
    }

    /// The centres themselves.
    pub(super) fn numbers(&self, metric: Metric) -> Vec<Vec<f32>> {
        let clustering = Clustering { metric, dimension: self.dimension, codes: self.codes, scales: self.scales };
        (0..self.count()).map(|cell| clustering.vector(cell)).collect()
    }
}
