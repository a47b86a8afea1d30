//! Two whole bitmaps against each other: a merge walk over their heads, counting straight over the containers.

use crate::bitmap::kernels::{self, Level};
use crate::bitmap::view::BitmapView;

/// Slots in both bitmaps. With the two cardinalities, this gives their union, differences and symmetric difference.
pub fn common_len(a: BitmapView<'_>, b: BitmapView<'_>) -> u64 {
    let level = Level::detect();
    let (mut i, mut j, mut found) = (0, 0, 0);
    let (a_count, b_count) = (a.container_count(), b.container_count());
    while i < a_count && j < b_count {
        let (a_key, b_key) = (a.key(i), b.key(j));
        if a_key == b_key {
            found += u64::from(kernels::common_count(level, a.container(i), b.container(j)));
        }
        i += usize::from(a_key <= b_key);
        j += usize::from(b_key <= a_key);
    }
    found
}
