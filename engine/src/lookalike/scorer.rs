//! What users are compared with: prototypes, or a linear model, which is one prototype under the dot product.
//!
//! A user's score is the greatest similarity to a prototype. Scanning uses bytes on both sides. With `x = x' + e` for a row and
//! its codes, and `q = q' + f` for a prototype and its codes, `|q.x - q'.x'| = |q.e + f.x'| <= |q||e| + |f||x'|` (Cauchy and
//! Schwarz), and the greatest of several sums is off by no more than the worst of them. So every quantised score comes with a
//! bound that holds, and full precision is only needed where a bound does not decide.

use super::block::Block;
use super::kernels::{Columns, Compare, Level, best, best_exact};
use super::vector::{Metric, VectorError, checked, norm};

/// Scores vectors of one space.
#[derive(Clone, Debug)]
pub struct Scorer {
    compare: Compare,
    dimension: usize,
    prototypes: Vec<f32>,
    columns: Columns,
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
        Ok(Scorer::new(compare, dimension, all))
    }

    /// A linear model: the product of a vector as its space keeps it with these weights.
    ///
    /// # Errors
    /// [`VectorError`] if the weights are not finite, of another dimension or of extreme length.
    pub fn linear(dimension: usize, weights: &[f32]) -> Result<Self, VectorError> {
        Ok(Scorer::new(Compare::Dot, dimension, checked(Metric::Dot, dimension, weights)?))
    }

    fn new(compare: Compare, dimension: usize, prototypes: Vec<f32>) -> Self {
        let squared = |prototype: &[f32]| norm(prototype).powi(2);
        let (factor, bias): (f32, fn(f64) -> f64) =
            if compare == Compare::L2 { (2.0, |square| -square) } else { (1.0, |_| 0.0) };
        let biases = prototypes.chunks_exact(dimension).map(|prototype| bias(squared(prototype)) as f32).collect();
        let columns = Columns::new(dimension, &prototypes, factor, biases);
        let mut bound = Bound::default();
        let (wide, root, unit) = (dimension as f64, (dimension as f64).sqrt(), f64::from(f32::EPSILON));
        for (index, prototype) in prototypes.chunks_exact(dimension).enumerate() {
            let long = norm(prototype);
            let scale = f64::from(columns.scale[index]);
            let left = |(number, code): (&f32, &i8)| (f64::from(*number) - scale * f64::from(*code)).powi(2);
            let error = prototype.iter().zip(columns.codes(index)).map(left).sum::<f64>().sqrt();
            let twice = f64::from(factor);
            // Sums of single precision are rounded at every step, of the codes' parts (`low` and `step` times sums of codes, each
            // at most a few times the root of the dimension longer than both vectors) and of full precision.
            let rounding = unit * (24.0 * root + wide / 16.0 + 16.0);
            bound.per_error = bound.per_error.max(twice * (long + error) * 1.001);
            bound.per_norm = bound.per_norm.max(twice * (error + (long + error) * rounding));
            if compare == Compare::L2 {
                bound.per_norm_square = unit * (wide / 16.0 + 16.0);
                bound.always = bound.always.max(bound.per_norm_square * long * long);
            }
        }
        // Numbers below the normal ones of single precision are rounded to a multiple of the least.
        bound.always += f64::from(f32::MIN_POSITIVE) * wide;
        Scorer { compare, dimension, prototypes, columns, bound }
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

    /// The score of a vector as its space keeps it ([`checked`]).
    ///
    /// # Panics
    /// If the dimension is another.
    pub fn score(&self, vector: &[f32]) -> f32 {
        assert_eq!(vector.len(), self.dimension, "the vector is of this space");
        let bytes: Vec<[u8; 4]> = vector.iter().map(|number| number.to_le_bytes()).collect();
        let mut out = [0.0];
        best_exact(Level::detect(), self.compare, &bytes, &[0], &self.prototypes, self.dimension, &mut out);
        out[0]
    }

    /// Scores of rows, in full precision.
    pub(super) fn exact(&self, block: &Block<'_>, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(rows.len(), 0.0);
        let level = Level::detect();
        best_exact(level, self.compare, block.vectors(), rows, &self.prototypes, self.dimension, out);
    }

    /// Scores of rows by their codes; the true ones differ by no more than [`Scorer::bound`].
    pub(super) fn approximate(&self, block: &Block<'_>, rows: &[u32], out: &mut Vec<f32>, which: &mut Vec<u32>) {
        out.clear();
        out.resize(rows.len(), 0.0);
        which.resize(rows.len(), 0);
        best(Level::detect(), block.rows(), rows, &self.columns, out, which);
        if self.compare == Compare::L2 {
            for (row, out) in rows.iter().zip(out) {
                let long = block.norm(*row);
                *out -= long * long;
            }
        }
    }

    /// How far a row's quantised score may be off.
    #[inline]
    pub(super) fn bound(&self, block: &Block<'_>, row: u32) -> f32 {
        self.bound_of(block.norm(row), block.error(row))
    }

    /// The greatest bound of any row of a block.
    pub(super) fn widest_bound(&self, block: &Block<'_>) -> f32 {
        self.bound_of(block.norm_max(), block.error_max())
    }

    #[inline]
    fn bound_of(&self, norm: f32, error: f32) -> f32 {
        let (norm, error, bound) = (f64::from(norm), f64::from(error), &self.bound);
        let sum = bound.per_error * error
            + bound.per_norm * (norm + error)
            + bound.per_norm_square * norm * norm
            + bound.always;
        // Rounded up, and never NaN: damaged numbers decide nothing.
        let sum = (sum * 1.000_001) as f32;
        if sum.is_nan() { f32::INFINITY } else { sum }
    }
}
