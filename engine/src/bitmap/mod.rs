//! Sets of slots: zero-copy views over serialised Roaring bitmaps, and the fused evaluator.
//!
//! Knows nothing of tags. The `roaring` crate builds bitmaps and is the tests' oracle; its type does not leave this
//! module's writers.
//!
//! * [`view`]: a validated, read-only face over bytes in the portable Roaring format.
//! * [`kernels`]: the inner loops over containers, compiled for what the processor offers.
//! * [`program`]: an expression over layered leaves, as a graph.
//! * [`evaluate`]: runs a program a chunk (65,536 slots) at a time to a count or a set; [`count_each`]: one set against
//!   many leaves.
//! * [`bsi`]: bit-sliced numbers: encoding, comparisons, sums, values.

pub mod bsi;
pub mod count_each;
pub mod evaluate;
pub mod kernels;
pub mod program;
mod scratch;
mod stack;
pub mod view;

#[cfg(test)]
mod proptests;

pub use scratch::ChunkSet;
