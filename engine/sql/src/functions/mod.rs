//! Functions that SQL has here beside those of DataFusion.
//!
//! * [`bitmap`]: bitmaps as values, and numbers in bit slices, under the names that users of other engines know.
//! * [`analysis`]: how far users came, who came back, and what happened in which order.
//! * [`sketch`]: estimates with bounds.
//! * [`bounded`]: those of DataFusion that write much of little.
//! * [`constant`]: arguments that have to be constants, and [`waiting`]: whether anybody still waits for the answer.

pub(crate) mod analysis;
pub(crate) mod bitmap;
pub(crate) mod bounded;
mod constant;
pub(crate) mod sketch;
mod waiting;
