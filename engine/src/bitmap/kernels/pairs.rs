//! Two whole bitmaps against each other: a walk over their heads, counting straight over the containers.

use super::{Level, common_count};
use crate::bitmap::chunk_set::CHUNK_LEN;
use crate::bitmap::view::BitmapView;

/// Slots in both bitmaps.
#[inline]
pub(crate) fn common_len(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    // Bitmaps far from each other are common. The walks are kept apart, so that no registers are saved for these.
    if !heads_meet(a.heads(), b.heads()) {
        return 0;
    }
    match Level::detect() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512 | Level::Avx512Intersect => unsafe { super::x86::pairs::common_len(a, b, common_at) },
        _ => common_walk(a, b),
    }
}

/// For any processor.
#[inline(never)]
pub(super) fn common_walk(a: &BitmapView<'_>, b: &BitmapView<'_>) -> u64 {
    let mut found = 0;
    for_each_common_head(a.heads(), b.heads(), |i, j| found += u64::from(common_at(a, i, b, j)));
    found
}

/// Whether neither ends before the other begins.
#[inline(always)]
fn heads_meet(a: &[[u8; 4]], b: &[[u8; 4]]) -> bool {
    let ([a_first, ..], [.., a_last], [b_first, ..], [.., b_last]) = (a, a, b, b) else { return false };
    head_chunk(a_first) <= head_chunk(b_last) && head_chunk(b_first) <= head_chunk(a_last)
}

/// Positions that two containers share. Kept apart from the walk, which then fits into registers.
#[inline(never)]
fn common_at(a: &BitmapView<'_>, i: usize, b: &BitmapView<'_>, j: usize) -> u32 {
    let (a_len, b_len) = (a.cardinality(i), b.cardinality(j));
    if a_len == CHUNK_LEN || b_len == CHUNK_LEN {
        return a_len.min(b_len);
    }
    common_count(Level::detect(), a.container(i), b.container(j))
}

/// Calls with the indices of heads of the same chunk in two bitmaps.
#[inline(always)]
pub(super) fn for_each_common_head(a: &[[u8; 4]], b: &[[u8; 4]], mut call: impl FnMut(usize, usize)) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (head_chunk(&a[i]), head_chunk(&b[j]));
        if x == y {
            call(i, j);
            (i, j) = (i + 1, j + 1);
        } else if x < y {
            i = skip_heads(a, i + 1, y);
        } else {
            j = skip_heads(b, j + 1, x);
        }
    }
}

/// The chunk of a container's head.
#[inline(always)]
pub(super) fn head_chunk(head: &[u8; 4]) -> u16 {
    u16::from_le_bytes([head[0], head[1]])
}

/// Index of the first head from `from` on whose chunk is at least `wanted`.
#[inline]
fn skip_heads(heads: &[[u8; 4]], from: usize, wanted: u16) -> usize {
    // Mostly the next; else by doubling steps.
    if from >= heads.len() || head_chunk(&heads[from]) >= wanted {
        return from;
    }
    let (mut low, mut step) = (from, 1);
    while low + step < heads.len() && head_chunk(&heads[low + step]) < wanted {
        low += step;
        step *= 2;
    }
    let high = (low + step).min(heads.len());
    low + 1 + heads[low + 1..high].partition_point(|head| head_chunk(head) < wanted)
}
