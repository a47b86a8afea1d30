//! Two whole bitmaps against each other, with AVX-512.
//!
//! Where containers hold a few elements, what takes time is not counting but finding out what they are. So small arrays and
//! runs are taken alike, a position being a run that nobody follows, and compared four elements by four, all against
//! all; nothing is added up across lanes before the end.
//!
//! How the functions are cut matters as much: what most pairs need must not save registers for what few need.

use crate::bitmap::kernels::pairs::{for_each_common_head, head_chunk};
use crate::bitmap::view::BitmapView;
use std::arch::x86_64::*;

/// Index of the head of the same chunk; up to 64 heads are all looked at, 16 at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn find_head(heads: &[[u8; 4]], wanted: &[u8; 4]) -> Option<usize> {
    if heads.len() > 64 {
        return heads.binary_search_by_key(&head_chunk(wanted), head_chunk).ok();
    }
    let wanted = _mm512_set1_epi16(head_chunk(wanted) as i16);
    for (block, heads) in heads.chunks(16).enumerate() {
        let there = _bzhi_u32(0xFFFF, heads.len() as u32) as u16;
        // SAFETY: lanes past the end are masked off and not read.
        let lanes = unsafe { _mm512_maskz_loadu_epi32(there, heads.as_ptr().cast()) };
        // Of a head's two halves the first is the chunk.
        let hit = _mm512_cmpeq_epi16_mask(lanes, wanted) & _bzhi_u32(0x5555_5555, 2 * heads.len() as u32);
        if hit != 0 {
            return Some(block * 16 + hit.trailing_zeros() as usize / 2);
        }
    }
    None
}

/// Containers of up to so many elements are small.
const SMALL: usize = 16;

/// Counts what two containers share that are not both small.
type Rest = fn(&BitmapView<'_>, usize, &BitmapView<'_>, usize) -> u32;

/// Positions in both bitmaps, neither of which ends before the other begins.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
pub(in super::super) fn common_len(a: &BitmapView<'_>, b: &BitmapView<'_>, rest: Rest) -> u64 {
    // Bitmaps of one container are common: they need no walk.
    match (a.heads(), b.heads()) {
        ([_], [_]) => common_of_two(a, 0, b, 0, rest),
        ([one], many) => find_head(many, one).map_or(0, |j| common_of_two(a, 0, b, j, rest)),
        (many, [one]) => find_head(many, one).map_or(0, |i| common_of_two(a, i, b, 0, rest)),
        _ => common_of_many(a, b, rest),
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn common_of_two(a: &BitmapView<'_>, i: usize, b: &BitmapView<'_>, j: usize, rest: Rest) -> u64 {
    let (x, y) = (Elements::of(a, i), Elements::of(b, j));
    if x.len == 1 && y.len == 1 { x.common_of_first(&y) } else { rest(a, i, b, j).into() }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn common_of_many(a: &BitmapView<'_>, b: &BitmapView<'_>, rest: Rest) -> u64 {
    let (mut small, mut other) = (_mm512_setzero_si512(), 0);
    for_each_common_head(a.heads(), b.heads(), |i, j| {
        let (x, y) = (Elements::of(a, i), Elements::of(b, j));
        if x.len == 1 && y.len == 1 {
            other += x.common_of_first(&y);
        } else if x.len <= SMALL && y.len <= SMALL {
            small = _mm512_add_epi32(small, x.common_with(&y));
        } else {
            other += u64::from(rest(a, i, b, j));
        }
    });
    other + u64::from(_mm512_reduce_add_epi32(small) as u32)
}

/// An array or runs: sixteen bits or thirty-two an element.
struct Elements<'a> {
    bytes: &'a [u8],
    len: usize,
    are_runs: bool,
}

impl<'a> Elements<'a> {
    #[inline(always)]
    fn of(view: &BitmapView<'a>, index: usize) -> Elements<'a> {
        let (bytes, len, are_runs) = view.elements(index);
        Elements { bytes, len, are_runs }
    }

    /// Positions in the first elements of both.
    #[inline(always)]
    fn common_of_first(&self, other: &Elements<'_>) -> u64 {
        let ((a_first, a_end), (b_first, b_end)) = (self.first(), other.first());
        a_end.min(b_end).saturating_sub(a_first.max(b_first)).into()
    }

    /// First position of the first element and the one behind its last.
    #[inline(always)]
    fn first(&self) -> (u32, u32) {
        let half = |at: usize| u32::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        (half(0), half(0) + 1 + if self.are_runs { half(2) } else { 0 })
    }

    /// First positions of up to four elements from `from` on and those behind their last; lanes without an element end
    /// before they begin.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
    fn four(&self, from: usize) -> (__m128i, __m128i) {
        let there = _bzhi_u32(0xF, (self.len - from) as u32) as u8;
        let (positions, runs) = if self.are_runs { (0, there) } else { (there, 0) };
        let (positions_at, runs_at) =
            (self.bytes.as_ptr().wrapping_add(from * 2), self.bytes.as_ptr().wrapping_add(from * 4));
        // SAFETY: lanes without an element are masked off, and the elements lie within the bytes, as `common_with` checked.
        let elements = unsafe {
            let positions = _mm_cvtepu16_epi32(_mm_maskz_loadu_epi16(positions, positions_at.cast()));
            _mm_or_si128(positions, _mm_maskz_loadu_epi32(runs, runs_at.cast()))
        };
        let firsts = _mm_and_si128(elements, _mm_set1_epi32(0xFFFF));
        let lengths = _mm_sub_epi32(_mm_srli_epi32::<16>(elements), _mm_set1_epi32(-1));
        (firsts, _mm_maskz_add_epi32(there, firsts, lengths))
    }

    /// Positions in both, in any lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
    fn common_with(&self, other: &Elements<'_>) -> __m512i {
        for elements in [self, other] {
            assert!(elements.bytes.len() >= elements.len * if elements.are_runs { 4 } else { 2 }, "elements cut short");
        }
        let each_four_times = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        let spread = |lanes| _mm512_permutexvar_epi32(each_four_times, _mm512_castsi128_si512(lanes));
        let mut common = _mm512_setzero_si512();
        let mut i = 0;
        while i < self.len {
            let (firsts, ends) = self.four(i);
            let (a_firsts, a_ends) = (_mm512_broadcast_i32x4(firsts), _mm512_broadcast_i32x4(ends));
            let mut j = 0;
            while j < other.len {
                let (firsts, ends) = other.four(j);
                let (from, end) = (_mm512_max_epi32(a_firsts, spread(firsts)), _mm512_min_epi32(a_ends, spread(ends)));
                let overlap = _mm512_max_epi32(_mm512_sub_epi32(end, from), _mm512_setzero_si512());
                common = _mm512_add_epi32(common, overlap);
                j += 4;
            }
            i += 4;
        }
        common
    }
}
