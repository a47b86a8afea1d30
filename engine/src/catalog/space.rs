//! A declared vector space: what a vector of a user must be, and how two of them are compared.

pub use crate::lookalike::vector::{DIMENSIONS, Metric, VectorError};

use crate::ids::TagId;
use crate::lookalike::vector;

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

impl Space {
    /// Whether numbers are a vector of this space.
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn check(&self, numbers: &[f32]) -> Result<(), VectorError> {
        vector::check(self.metric, self.dimension.into(), numbers)
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
