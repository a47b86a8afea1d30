//! What may be a vector of a space.

use crate::error::Class;
use std::ops::RangeInclusive;

/// The fewest and the most numbers of a vector.
pub const DIMENSIONS: RangeInclusive<u16> = 2..=4_096;

/// The longest vector. Two that are as long may be opposite: the square of their distance is four times as much as theirs, and is
/// to be a number of single precision.
const LENGTH_MAX: f64 = 6.5e18;
/// The shortest where its length counts, so that products stay far from zero. A vector of zeros is one, too.
const LENGTH_MIN: f64 = 1e-15;
/// The shortest where only directions are compared.
const DIRECTION_LENGTH_MIN: f64 = 1e-19;

/// How alike two vectors are. More is more alike under each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The cosine of the angle between them; a vector of zeros has none.
    Cosine,
    /// Their dot product: longer vectors are more alike to everything in their direction.
    Dot,
    /// Less the square of their Euclidean distance.
    L2,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

    /// Its name in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::L2 => "l2",
        }
    }

    /// The metric of a name.
    pub fn of(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// Why numbers are no vector of a space.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// Too few or too many.
    #[error("a vector of this space has {wanted} numbers, this one has {found}")]
    Dimension {
        /// The space's dimension.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// One is infinite or not a number.
    #[error("number {place} of the vector is {number}: each must be finite")]
    Number {
        /// Which one, from 1.
        place: usize,
        /// It.
        number: f32,
    },
    /// All are zero where directions are compared, or so small that their squares are.
    #[error(
        "the vector has no length, so no cosine: leave this user out, or declare the space with `metric: dot` or `l2`"
    )]
    Zero,
    /// Sums of squares would leave single precision.
    #[error(
        "the vector is too long or too short to be compared, its length is {length:e}: multiply all vectors by the same number, so that lengths are about 1"
    )]
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

/// Whether numbers are a vector of a space.
///
/// # Errors
/// [`VectorError`] if there are too few or too many, if one is not finite, or if the length cannot be compared.
pub fn check(metric: Metric, dimension: usize, vector: &[f32]) -> Result<(), VectorError> {
    if vector.len() != dimension {
        return Err(VectorError::Dimension { wanted: dimension, found: vector.len() });
    }
    if let Some(at) = vector.iter().position(|number| !number.is_finite()) {
        return Err(VectorError::Number { place: at + 1, number: vector[at] });
    }
    let length = norm(vector);
    match metric {
        _ if length > LENGTH_MAX => Err(VectorError::Length { length }),
        Metric::Cosine if length < DIRECTION_LENGTH_MIN => Err(VectorError::Zero),
        Metric::Dot | Metric::L2 if length != 0.0 && length < LENGTH_MIN => Err(VectorError::Length { length }),
        _ => Ok(()),
    }
}

/// The vector as it is compared: of length one under [`Metric::Cosine`], else as it is.
///
/// # Errors
/// As [`check`].
pub fn checked(metric: Metric, dimension: usize, vector: &[f32]) -> Result<Vec<f32>, VectorError> {
    check(metric, dimension, vector)?;
    if metric != Metric::Cosine {
        return Ok(vector.to_vec());
    }
    let length = norm(vector);
    Ok(vector.iter().map(|number| (f64::from(*number) / length) as f32).collect())
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
        assert_eq!(refused(Metric::Dot, &[1.0]), VectorError::Dimension { wanted: 2, found: 1 });
        assert!(matches!(refused(Metric::Dot, &[1.0, f32::NAN]), VectorError::Number { place: 2, .. }));
        assert!(matches!(refused(Metric::L2, &[f32::INFINITY, 0.0]), VectorError::Number { place: 1, .. }));
        assert_eq!(refused(Metric::Cosine, &[0.0, -0.0]), VectorError::Zero);
        assert_eq!(refused(Metric::Cosine, &[0.0, -f32::MIN_POSITIVE]), VectorError::Zero);
        assert!(matches!(refused(Metric::Cosine, &[f32::MAX, 0.0]), VectorError::Length { .. }));
        assert!(matches!(refused(Metric::L2, &[f32::MAX, 0.0]), VectorError::Length { .. }));
        assert!(matches!(refused(Metric::Dot, &[f32::MIN_POSITIVE, 0.0]), VectorError::Length { .. }));
        assert_eq!(checked(Metric::L2, 2, &[0.0, 0.0]), Ok(vec![0.0, 0.0]));
        // Under cosine only the direction counts, however long or short.
        assert_eq!(checked(Metric::Cosine, 2, &[1e18, 0.0]), Ok(vec![1.0, 0.0]));
        assert_eq!(checked(Metric::Cosine, 2, &[0.0, -1e-18]), Ok(vec![0.0, -1.0]));
        assert!(Metric::ALL.iter().all(|metric| Metric::of(metric.name()) == Some(*metric)));
    }
}
