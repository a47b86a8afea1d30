//! Functions that SQL has here beside those of DataFusion.
//!
//! * [`bitmap`]: bitmaps as values, and numbers in bit slices, under the names that users of other engines know.

pub(crate) mod bitmap;
