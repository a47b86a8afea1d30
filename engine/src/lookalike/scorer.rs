//! What users are compared with: prototypes, or a linear model, which is one prototype under the dot product.
//!
//! A user's score is the greatest similarity to a prototype. Scanning uses bytes on both sides. With `x = x' + e` for a row and
//! its codes, and `q = q' + f` for a prototype and its codes, `|q.x - q'.x'| = |q.e + f.x'| <= |q||e| + |f||x'|` (Cauchy and
//! Schwarz), and the greatest of several sums is off by no more than the worst of them. So every quantised score comes with a
//! bound that holds, and full precision is only needed where a bound does not decide.
//!
//! Vectors lie as they came, of any length. Under cosine a product is divided by the vector's length, and so is its bound.

use super::cells::CentresView;
use super::kernels::{Columns, Compare, Level, Rows, best, best_exact, prefetch};
use super::layer::ChunkRows;
use super::quantise::{Scale, error_of, norm_of};
use super::vector::{Metric, VectorError, checked, norm};

/// Scores vectors of one space.
#[derive(Clone, Debug)]
pub struct Scorer {
    compare: Compare,
    /// Products are divided by the vector's length.
    per_length: bool,
    dimension: usize,
    prototypes: Vec<f32>,
    columns: Columns,
    /// Length of the longest prototype.
    longest: f32,
    bound: Bound,
}

/// Coefficients of a row's bound.
#[derive(Clone, Copy, Debug, Default)]
struct Bound {
    per_error: f64,
    per_norm: f64,
    per_norm_square: f64,
    always: f64,
}

/// The most prototypes a scorer has.
pub const PROTOTYPES_MAX: usize = 256;

impl Scorer {
    /// Similarity to the nearest of some vectors of a space, at least one and at most [`PROTOTYPES_MAX`].
    ///
    /// # Errors
    /// [`VectorError`] of the first that is none.
    ///
    /// # Panics
    /// If there are none or too many.
    pub fn nearest(metric: Metric, dimension: usize, prototypes: &[Vec<f32>]) -> Result<Self, VectorError> {
        assert!((1..=PROTOTYPES_MAX).contains(&prototypes.len()), "the caller counts prototypes");
        let mut all = Vec::with_capacity(prototypes.len() * dimension);
        for prototype in prototypes {
            all.extend(checked(metric, dimension, prototype)?);
        }
        let compare = if metric == Metric::L2 { Compare::L2 } else { Compare::Dot };
        Ok(Scorer::new(compare, metric == Metric::Cosine, dimension, all))
    }

    /// A linear model: the product of these weights with a vector, which under cosine is one of length one.
    ///
    /// # Errors
    /// [`VectorError`] if the weights are not finite, of another dimension or of extreme length.
    pub fn linear(metric: Metric, dimension: usize, weights: &[f32]) -> Result<Self, VectorError> {
        let weights = checked(Metric::Dot, dimension, weights)?;
        Ok(Scorer::new(Compare::Dot, metric == Metric::Cosine, dimension, weights))
    }

    fn new(compare: Compare, per_length: bool, dimension: usize, prototypes: Vec<f32>) -> Self {
        let squared = |prototype: &[f32]| norm(prototype).powi(2);
        let (factor, bias): (f32, fn(f64) -> f64) =
            if compare == Compare::L2 { (2.0, |square| -square) } else { (1.0, |_| 0.0) };
        let biases = prototypes.chunks_exact(dimension).map(|prototype| bias(squared(prototype)) as f32).collect();
        let columns = Columns::new(dimension, &prototypes, factor, biases);
        let mut bound = Bound::default();
        let mut longest = 0.0_f64;
        let (wide, root, unit) = (dimension as f64, (dimension as f64).sqrt(), f64::from(f32::EPSILON));
        for (index, prototype) in prototypes.chunks_exact(dimension).enumerate() {
            let long = norm(prototype);
            longest = longest.max(long);
            let scale = f64::from(columns.scale[index]);
            let left = |(number, code): (&f32, &i8)| (f64::from(*number) - scale * f64::from(*code)).powi(2);
            let error = prototype.iter().zip(columns.codes(index)).map(left).sum::<f64>().sqrt();
            let twice = f64::from(factor);
            // Sums of single precision are rounded at every step, of the codes' parts (`low` and `step` times sums of codes, each
            // at most a few times the root of the dimension longer than both vectors), of full precision, and of the division.
            let rounding = unit * (24.0 * root + wide / 16.0 + 20.0);
            bound.per_error = bound.per_error.max(twice * (long + error) * 1.001);
            bound.per_norm = bound.per_norm.max(twice * (error + (long + error) * rounding));
            if compare == Compare::L2 {
                bound.per_norm_square = unit * (wide / 16.0 + 16.0);
                bound.always = bound.always.max(bound.per_norm_square * long * long);
            }
        }
        // Numbers below the normal ones of single precision are rounded to a multiple of the least.
        bound.always += f64::from(f32::MIN_POSITIVE) * wide;
        Scorer { compare, per_length, dimension, prototypes, columns, longest: longest as f32, bound }
    }

    /// Of the vectors it is asked for.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of vectors a user is compared with.
    pub fn prototype_count(&self) -> usize {
        self.columns.count()
    }

    /// What users are compared with, one behind the other.
    pub fn prototypes(&self) -> &[f32] {
        &self.prototypes
    }

    /// The score of a vector, as it came.
    ///
    /// # Panics
    /// If the dimension is another.
    pub fn score(&self, vector: &[f32]) -> f32 {
        assert_eq!(vector.len(), self.dimension, "the vector is of this space");
        let bytes: Vec<[u8; 4]> = vector.iter().map(|number| number.to_le_bytes()).collect();
        let mut out = [0.0];
        best_exact(Level::detect(), self.compare, &bytes, &[0], &self.prototypes, self.dimension, &mut out);
        if self.per_length { out[0] / norm(vector) as f32 } else { out[0] }
    }

    /// Scores of rows, in full precision.
    pub(super) fn exact(&self, chunk: &ChunkRows<'_>, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(rows.len(), 0.0);
        let level = Level::detect();
        best_exact(level, self.compare, chunk.vectors, rows, &self.prototypes, self.dimension, out);
        self.divide(chunk.scales, rows, out);
    }

    /// Asks memory for the full precision of a row that is scored soon.
    #[inline]
    pub(super) fn prefetch(&self, chunk: &ChunkRows<'_>, row: u32) {
        let begin = row as usize * self.dimension;
        prefetch(chunk.vectors.get(begin..begin + self.dimension).unwrap_or_default().as_flattened());
    }

    /// Scores of rows by their codes; the true ones differ by no more than [`Scorer::bound`].
    pub(super) fn approximate(&self, rows: Rows<'_>, list: &[u32], out: &mut Vec<f32>, which: &mut Vec<u32>) {
        out.clear();
        out.resize(list.len(), 0.0);
        which.resize(list.len(), 0);
        best(Level::detect(), rows, list, &self.columns, out, which);
        if self.compare == Compare::L2 {
            for (row, out) in list.iter().zip(&mut *out) {
                let long = norm_of(&rows.scales[*row as usize]);
                *out -= long * long;
            }
        }
        self.divide(rows.scales, list, out);
    }

    fn divide(&self, scales: &[Scale], rows: &[u32], out: &mut [f32]) {
        if self.per_length {
            rows.iter().zip(out).for_each(|(row, out)| *out /= norm_of(&scales[*row as usize]));
        }
    }

    /// What the best vectors of each cell may score, at most so many standard deviations above the mean; most likely, not surely.
    pub(super) fn promises(&self, centres: CentresView<'_>, deviations: f32) -> Vec<f32> {
        let list: Vec<u32> = (0..centres.count() as u32).collect();
        let (mut promises, mut which) = (vec![0.0; list.len()], vec![0; list.len()]);
        best(Level::detect(), centres.rows(), &list, &self.columns, &mut promises, &mut which);
        let wide = self.dimension as f32;
        for (cell, out) in promises.iter_mut().enumerate() {
            let (spread, long) = (centres.spread(cell), centres.length(cell));
            *out += match self.compare {
                // Directions have length one, and so scores are products with the vectors that cells are made of.
                Compare::Dot => deviations * self.longest * spread,
                Compare::L2 => {
                    let (from_centre, within) = ((long * long - *out).max(0.0), spread * spread * wide);
                    let deviation = (4.0 * from_centre * spread * spread + 2.0 * within * within / wide).sqrt();
                    // Nothing is nearer than what is there.
                    (deviations * deviation - within - long * long).min(-*out)
                }
            };
        }
        promises
    }

    /// How far the quantised score of a row with this scale may be off.
    #[inline]
    pub(super) fn bound(&self, scale: &Scale) -> f32 {
        self.bound_of(norm_of(scale), error_of(scale))
    }

    /// The greatest bound of any row of a chunk.
    pub(super) fn widest_bound(&self, chunk: &ChunkRows<'_>) -> f32 {
        self.bound_of(chunk.most.norm(), chunk.most.error())
    }

    /// The bound of a row of a length, whose codes leave out a share of it.
    #[inline]
    fn bound_of(&self, norm: f32, error: f64) -> f32 {
        let (norm, bound) = (f64::from(norm), &self.bound);
        let sum = if self.per_length {
            // No vector of a space of directions is shorter than 1e-19.
            bound.per_error * error + bound.per_norm * (1.0 + error) + bound.always * 1e19
        } else {
            let error = error * norm;
            bound.per_error * error
                + bound.per_norm * (norm + error)
                + bound.per_norm_square * norm * norm
                + bound.always
        };
        // Rounded up, and never NaN: damaged numbers decide nothing.
        let sum = (sum * 1.000_001) as f32;
        if sum.is_nan() { f32::INFINITY } else { sum }
    }
}
