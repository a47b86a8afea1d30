//! The users with the best scores, under a filter.
//!
//! A few of many are looked for where they most likely are (`probe`), if that costs less; else, and for tens of millions, they
//! are found exactly, in one pass over the quantised rows that the filter leaves:
//!
//! 1. An even sample of them is scored. Where the wanted size lies among the sample, give or take, stands a *window* of scores.
//! 2. All are scored. Who is surely above the window, error bounds taken into account, is in; who is surely below is out; who is
//!    in between is kept aside. The counts prove whether the window holds the last score that is wanted; if not, the pass is done
//!    again with the side that failed thrown open.
//! 3. Of those kept aside, bounds decide again, now against their own order, and the few left are scored in full precision.
//!
//! So the memory needed beside the members is that of the window, a few per cent of the candidates for any size, and the answer
//! is that of a scan in full precision: equal scores go to the lower shard, then the lower slot. A histogram of scores would
//! decide the same with two passes or a number a row.

mod best;
mod candidates;
pub(super) mod nearest;
mod probe;
mod ranks;
mod space;
mod window;

pub use self::nearest::{Hit, Reached, Size, Way, nearest, scores, top};
pub use self::probe::Probed;
pub use space::Space;

use super::vector::VectorError;
use crate::error::Class;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecallError {
    /// The caller gave up.
    #[error("the search was cancelled or ran out of time")]
    Cancelled,
    /// The scorer is of another dimension than the space.
    #[error("the vectors compared with have dimension {found}, but the space has {expected}")]
    Dimension {
        /// Of the space.
        expected: usize,
        /// Of the scorer.
        found: usize,
    },
    /// A layer is of another space.
    #[error("vectors of dimension {found} lie in a space that has dimension {expected}; load the space anew")]
    Layer {
        /// The space's dimension.
        expected: usize,
        /// The layer's.
        found: usize,
    },
    /// A share is asked for that is none.
    #[error("the share {0} is not between 0 and 1; give 0.02 for the most similar 2 %")]
    Share(f64),
    /// Filters are not one a shard.
    #[error("{found} filters were given for {expected} shards")]
    Filters {
        /// Shards of the space.
        expected: usize,
        /// Filters.
        found: usize,
    },
    /// A vector to compare with is none of the space.
    #[error(transparent)]
    Vector(#[from] VectorError),
}

impl RecallError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            RecallError::Cancelled => Class::Cancelled,
            RecallError::Layer { .. } => Class::Corrupt,
            RecallError::Filters { .. } => Class::Internal,
            RecallError::Dimension { .. } | RecallError::Share(_) => Class::Invalid,
            RecallError::Vector(error) => error.class(),
        }
    }
}
