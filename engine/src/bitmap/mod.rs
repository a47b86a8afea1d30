//! Sets of slots: zero-copy views over serialised Roaring bitmaps, and the fused evaluator.
//!
//! Knows nothing of tags. The `roaring` crate builds bitmaps and is the tests' oracle; its type does not leave this
//! module's writers.
//!
//! * [`view`]: a validated, read-only face over bytes in the portable Roaring format.
//! * [`program`]: an expression over layered leaves, as a graph.
//! * [`evaluate`]: runs a program a chunk (65,536 slots) at a time to a count, a bitmap or many counts.
//! * [`bsi`]: bit-sliced numbers: comparisons, sums, quantiles.

pub mod bsi;
pub mod evaluate;
pub mod program;
pub mod view;
