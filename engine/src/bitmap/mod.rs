//! Sets of slots: zero-copy views over serialised Roaring bitmaps, and the fused evaluator.
//!
//! Knows nothing of tags. The `roaring` crate builds bitmaps and is the tests' oracle; its type does not leave this
//! module's writers.
//!
//! * [`view`]: a validated, read-only face over bytes in the portable Roaring format.
//! * [`program`]: an expression over layered leaves, as a graph.
//! * [`evaluate`]: runs a program a chunk (65,536 slots) at a time to a count or a set ([`ChunkSet`]); [`count_each`]: one
//!   set against many leaves.
//! * [`counter`]: bit-sliced counters that add up, `sums`: those of few users; `rising`: bytes straight from rising slots.
//! * [`bsi`]: bit-sliced numbers: encoding and ranges; [`numbers`]: sums, extremes and counts below thresholds of a number
//!   tag under a filter.
//! * [`wide`]: bitmaps of 64-bit numbers as values: the bytes that go in and out. [`sliced`]: numbers by such numbers.

pub mod bsi;
pub(crate) mod canonical;
mod chunk_set;
pub mod counter;
pub mod evaluate;
mod kernels;
pub mod numbers;
pub mod program;
pub(crate) mod rising;
pub mod sliced;
pub(crate) mod sums;
pub mod view;
pub mod wide;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod vectors;

pub(crate) use chunk_set::CHUNK_LEN;
pub use chunk_set::ChunkSet;
pub use evaluate::count_each;
