//! Bit-sliced numbers.
//!
//! A [`NumberView`] holds `value - base` of each user in `exists` as unsigned bit slices, least significant first;
//! `base` is at most the smallest value present. Arithmetic wraps in 64 bits, so all of `i64` is covered.

use super::view::BitmapView;

/// One layer's numbers of one tag.
#[derive(Clone, Debug)]
pub struct NumberView<'a> {
    /// Users with a number in this layer.
    pub exists: BitmapView<'a>,
    /// What is added to every slice sum.
    pub base: i64,
    /// Bit `i` of `value - base`; at most 64.
    pub slices: Vec<BitmapView<'a>>,
}

/// A closed range of numbers; every comparison is one (or a complement within `exists`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NumberRange {
    /// Least number in the range.
    pub min: i64,
    /// Greatest number in the range; below `min` the range is empty.
    pub max: i64,
}
