//! A declared vector space: what a vector of a user must be, and how two of them are compared.

use crate::ids::TagId;

/// The fewest and the most numbers of a vector.
pub const DIMENSIONS: std::ops::RangeInclusive<u16> = 2..=4096;

/// How alike two vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The cosine of the angle between them; a vector of zeros has none.
    Cosine,
    /// Their dot product.
    Dot,
    /// Less the square of their Euclidean distance, so that more is more alike, as with the others.
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

/// A vector space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its number, among those of tags and facts.
    pub id: TagId,
    /// How many numbers a vector has; one of [`DIMENSIONS`].
    pub dimension: u16,
    /// How vectors are compared.
    pub metric: Metric,
}

/// Why numbers are no vector of a space.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// Too few or too many.
    #[error("a vector of this space has {wanted} numbers, this one has {found}")]
    Dimension {
        /// The space's dimension.
        wanted: u16,
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
    /// Their squares are too large to be added.
    #[error("the vector is too long to be compared: divide all vectors by the same number")]
    Length,
}

impl Space {
    /// Whether numbers are a vector of this space.
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn check(&self, numbers: &[f32]) -> Result<(), VectorError> {
        if numbers.len() != usize::from(self.dimension) {
            return Err(VectorError::Dimension { wanted: self.dimension, found: numbers.len() });
        }
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(VectorError::Number { place: at + 1, number: numbers[at] });
        }
        let square: f32 = numbers.iter().map(|number| number * number).sum();
        match self.metric {
            // Two that are as long may be opposite: the square of their distance is four times as much, and is to be a number.
            _ if !(square * 8.0).is_finite() => Err(VectorError::Length),
            Metric::Cosine if square < f32::MIN_POSITIVE => Err(VectorError::Zero),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_numbers() {
        let space = |metric| Space { id: TagId(16), dimension: 3, metric };
        let told = |metric, numbers: &[f32]| space(metric).check(numbers).map_err(|error| error.to_string());
        assert_eq!(told(Metric::Cosine, &[1.0, -2.0, 0.0]), Ok(()));
        assert_eq!(told(Metric::Dot, &[0.0; 3]), Ok(()));
        assert_eq!(told(Metric::L2, &[0.0, -6e18, 0.0]), Ok(()));
        assert_eq!(told(Metric::L2, &[0.0; 3]), Ok(()));
        for (metric, numbers, part) in [
            (Metric::Dot, &[1.0, 2.0][..], "has 3 numbers, this one has 2"),
            (Metric::Dot, &[1.0, f32::NAN, 2.0], "number 2 of the vector is NaN"),
            (Metric::L2, &[f32::INFINITY, 1.0, 2.0], "number 1 of the vector is inf"),
            (Metric::Cosine, &[0.0, -0.0, 0.0], "no length"),
            (Metric::Cosine, &[1e-30, 0.0, 0.0], "no length"),
            (Metric::L2, &[1e30, 0.0, 0.0], "too long"),
            (Metric::Cosine, &[0.0, 7e18, 0.0], "too long"),
        ] {
            let error = told(metric, numbers).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        assert!(Metric::ALL.iter().all(|metric| Metric::of(metric.name()) == Some(*metric)));
    }
}
