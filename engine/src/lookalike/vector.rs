//! What may be a vector of a space.

use crate::error::Class;
use std::ops::RangeInclusive;

/// Dimensions a space can have.
pub const DIMENSIONS: RangeInclusive<usize> = 2..=4_096;

/// The longest vector, so that sums of squares stay far from the end of single precision.
const NORM_MAX: f64 = 1e15;
/// The shortest of a vector that is not zero, for the same reason at the other end.
const NORM_MIN: f64 = 1e-15;

/// How two vectors are compared. More is more alike under each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The cosine of the angle between them. Vectors are kept at length one.
    Cosine,
    /// The dot product: longer vectors are more alike to everything in their direction.
    Dot,
    /// The square of the distance, negative.
    L2,
}

/// Why numbers are not a vector of a space.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// The space has another dimension.
    #[error("the vector has {found} numbers, but the space has dimension {expected}; send {expected} numbers")]
    Dimension {
        /// Of the space.
        expected: usize,
        /// Of the vector.
        found: usize,
    },
    /// A number is NaN or infinite.
    #[error(
        "number {index} of the vector (counted from 0) is {value}; send finite numbers, or no vector for this user"
    )]
    NotFinite {
        /// Which of the numbers.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// All numbers are zero, which has no direction.
    #[error("the vector is zero, which has no angle to others; under the metric cosine, send no vector for this user")]
    Zero,
    /// Sums of squares would leave single precision.
    #[error("the vector has length {length:e}; scale the space's vectors to lengths between 1e-15 and 1e15")]
    Length {
        /// Euclidean.
        length: f64,
    },
}

impl VectorError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// The vector as the space keeps it: of length one under [`Metric::Cosine`], else as it is.
///
/// # Errors
/// [`VectorError`] if it has another dimension, numbers that are not finite, no direction under cosine, or an extreme length.
pub fn checked(metric: Metric, dimension: usize, vector: &[f32]) -> Result<Vec<f32>, VectorError> {
    if vector.len() != dimension {
        return Err(VectorError::Dimension { expected: dimension, found: vector.len() });
    }
    if let Some(index) = vector.iter().position(|number| !number.is_finite()) {
        return Err(VectorError::NotFinite { index, value: vector[index] });
    }
    let length = norm(vector);
    if length == 0.0 {
        return if metric == Metric::Cosine { Err(VectorError::Zero) } else { Ok(vector.to_vec()) };
    }
    match metric {
        Metric::Cosine => Ok(vector.iter().map(|number| (f64::from(*number) / length) as f32).collect()),
        _ if !(NORM_MIN..=NORM_MAX).contains(&length) => Err(VectorError::Length { length }),
        _ => Ok(vector.to_vec()),
    }
}

/// Euclidean length.
pub(super) fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_vector_is_refused() {
        let refused = |metric, vector: &[f32]| checked(metric, 2, vector).expect_err("refused");
        assert_eq!(refused(Metric::Dot, &[1.0]), VectorError::Dimension { expected: 2, found: 1 });
        assert!(matches!(refused(Metric::Dot, &[1.0, f32::NAN]), VectorError::NotFinite { index: 1, .. }));
        assert!(matches!(refused(Metric::L2, &[f32::INFINITY, 0.0]), VectorError::NotFinite { index: 0, .. }));
        assert_eq!(refused(Metric::Cosine, &[0.0, -0.0]), VectorError::Zero);
        assert!(matches!(refused(Metric::L2, &[f32::MAX, 0.0]), VectorError::Length { .. }));
        assert!(matches!(refused(Metric::Dot, &[f32::MIN_POSITIVE, 0.0]), VectorError::Length { .. }));
        assert_eq!(checked(Metric::L2, 2, &[0.0, 0.0]), Ok(vec![0.0, 0.0]));
        // Under cosine only the direction counts, however long or short.
        assert_eq!(checked(Metric::Cosine, 2, &[f32::MAX, 0.0]), Ok(vec![1.0, 0.0]));
        assert_eq!(checked(Metric::Cosine, 2, &[0.0, -f32::MIN_POSITIVE]), Ok(vec![0.0, -1.0]));
    }
}
