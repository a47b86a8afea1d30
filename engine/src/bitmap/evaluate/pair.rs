//! Two whole bitmaps against each other: a walk over their heads, counting straight over the containers.

use crate::bitmap::kernels;
use crate::bitmap::view::BitmapView;

/// Slots in both bitmaps.
pub fn common_len(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    kernels::common_len(a, b)
}

/// Slots in at least one of the bitmaps.
pub fn union_len(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    a.len() + b.len() - common_len(a, b)
}

/// Slots in `a` and not in `b`.
pub fn difference_len(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    a.len() - common_len(a, b)
}

/// Slots in exactly one of the bitmaps.
pub fn symmetric_difference_len(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    a.len() + b.len() - 2 * common_len(a, b)
}
