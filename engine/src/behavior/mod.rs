//! Behaviour: what users did, counted per slice of time.
//!
//! Every fact is counted as a whole, and per value of each declared dimension: a *series*. Of each series and slice of time
//! (hour, day, month) a segment holds, per user, the number of events and the sums of declared measures as bit slices, which
//! add up: over slices, over segments, over values. So "at least two purchases of shoes in the last 30 days" is a sum
//! of 30 days, made chunk by chunk while the rest of the question is evaluated, and no row is read.
//!
//! * [`calendar`]: days and months of the calendar.
//! * [`slice`]: slices of time, and windows made of them.

pub mod calendar;
pub mod slice;

pub use slice::{Grain, Slice, Window};
