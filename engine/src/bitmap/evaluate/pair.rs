//! Two whole bitmaps against each other: a walk over their heads, counting straight over the containers.

use crate::bitmap::chunk_set::CHUNK_LEN;
use crate::bitmap::kernels::{self, Level};
use crate::bitmap::view::BitmapView;

/// Slots in both bitmaps.
pub fn common_len(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    let mut found = 0;
    kernels::for_each_common_head(a.heads(), b.heads(), |i, j| found += common_at(a, i, b, j));
    found
}

/// Positions that two containers share. Kept apart from the walk, which then fits into registers.
#[inline(never)]
fn common_at(a: &BitmapView<'_>, i: usize, b: &BitmapView<'_>, j: usize) -> u64 {
    let (a_len, b_len) = (a.cardinality(i), b.cardinality(j));
    u64::from(if a_len == CHUNK_LEN || b_len == CHUNK_LEN {
        a_len.min(b_len)
    } else {
        kernels::common_count(Level::detect(), a.container(i), b.container(j))
    })
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
