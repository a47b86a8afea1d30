//! Lookalike: from example users to the users most like them.
//!
//! A *space* gives users vectors of one dimension, compared by one [`Metric`]. The vectors of a shard lie in layers, in slot
//! order; a byte a dimension is scanned, and full precision stands beside it for what a byte cannot decide. Knows bitmaps, and
//! nothing of tags, files or the audience language: filters come in as bitmaps, members go out as bitmaps.
//!
//! * [`vector`]: what may be a vector, and the errors of those that may not.
//! * [`quantise`]: a vector in a byte a dimension. [`layer`]: the view of a layer's vectors, wherever their bytes are.
//! * [`cells`]: which vectors of a chunk are near each other.
//! * `kernels`: the inner loops, for what the processor offers.
//! * [`scorer`]: what users are compared with; how far a quantised score can be off.
//! * [`recall`]: the users with the best scores under a filter: a few, by cells or exactly, or millions, exactly.
//! * [`seeds`]: a scorer from example users: a mean, prototypes or a linear model, whichever finds hidden ones best.
//! * [`factors`]: vectors made from behaviour, by a factorisation of who dealt with what.
//! * [`quality`]: how well a ranking finds whom it should: area under the curve, lift, recall.
//!
//! A score is a number of single precision that is summed in one order on all processors, and the lower shard and slot win a
//! tie; so what is not found by cells depends on the data alone.

pub mod cells;
pub mod factors;
mod kernels;
pub mod layer;
pub mod quality;
pub mod quantise;
pub(crate) mod random;
pub mod recall;
pub mod scorer;
pub mod seeds;
pub mod vector;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod proptests;

pub use vector::{DIMENSIONS, Metric, VectorError};
