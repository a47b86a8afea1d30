//! Vector loops for x86-64.
//!
//! Intersection by string comparison: B. Schlegel, T. Willhalm and W. Lehner, "Fast sorted-set intersection using SIMD
//! instructions" (2011), as in D. Lemire, L. Boytsov and N. Kurz, "SIMD compression and the intersection of sorted
//! integers" (2016). With VP2INTERSECT one instruction compares all pairs of 16 by 16 elements; tails are padded with
//! values that no position has, so there is no scalar rest.

pub(super) mod look_up;
pub(super) mod pairs;

use super::arrays::{self, merge_common};
use super::tally::Tally;
use super::{ARRAY_ROOM, has_bit, position, run_bounds};
use crate::bitmap::view::{Le16, Run, Words};
use std::arch::asm;
use std::arch::x86_64::*;

/// Positions in both arrays, eight by eight.
#[target_feature(enable = "sse4.2,popcnt")]
pub(super) fn intersect_count_sse(a: &[Le16], b: &[Le16]) -> u32 {
    const EQUAL_ANY: i32 = _SIDD_UWORD_OPS | _SIDD_CMP_EQUAL_ANY | _SIDD_BIT_MASK;
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i + 8 <= a.len() && j + 8 <= b.len() {
        // SAFETY: eight elements are left in both, and the load needs no alignment.
        let (x, y) = unsafe { (_mm_loadu_si128(a[i..].as_ptr().cast()), _mm_loadu_si128(b[j..].as_ptr().cast())) };
        // Lengths are told, because a position may be zero.
        let hits = _mm_cmpestrm::<EQUAL_ANY>(y, 8, x, 8);
        count += (_mm_cvtsi128_si32(hits) as u32).count_ones();
        let (x_last, y_last) = (position(&a[i + 7]), position(&b[j + 7]));
        i += usize::from(x_last <= y_last) * 8;
        j += usize::from(y_last <= x_last) * 8;
    }
    merge_common(&a[i..], &b[j..], |_| count += 1);
    count
}

/// Which of the 16 elements of `a` are among those of `b`, and which of `b` among those of `a`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn among(a: __m512i, b: __m512i) -> (u16, u16) {
    let (in_a, in_b): (u16, u16);
    // SAFETY: the instruction only writes the two mask registers named, and callers run on processors that have it.
    unsafe {
        asm!("vp2intersectd k2, {a}, {b}", a = in(zmm_reg) a, b = in(zmm_reg) b, out("k2") in_a, out("k3") in_b,
             options(pure, nomem, nostack, preserves_flags));
    }
    (in_a, in_b)
}

/// Up to 16 elements from `at` on as 32-bit lanes, the rest of the lanes filled with `padding`; also the last element's
/// value.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn block(array: &[Le16], at: usize, padding: i32) -> (__m512i, u16) {
    let rest = &array[at..];
    if rest.len() >= 16 {
        // SAFETY: 16 elements are left; the load needs no alignment.
        let halves = unsafe { _mm256_loadu_si256(rest.as_ptr().cast()) };
        return (_mm512_cvtepu16_epi32(halves), position(&rest[15]));
    }
    let mask = (1_u16 << rest.len()) - 1;
    // SAFETY: lanes past the array's end are masked off and not read.
    let halves = unsafe { _mm256_maskz_loadu_epi16(mask, rest.as_ptr().cast()) };
    (_mm512_mask_cvtepu16_epi32(_mm512_set1_epi32(padding), mask, halves), position(&rest[rest.len() - 1]))
}

/// Calls with the index of each block of `a` and which of its elements `b` has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn for_each_block(a: &[Le16], b: &[Le16], mut call: impl FnMut(usize, u16)) {
    let mut j = 0;
    for i in (0..a.len()).step_by(16) {
        let (x, x_last) = block(a, i, 1 << 16);
        let mut hits = 0;
        while j < b.len() {
            let (y, y_last) = block(b, j, 1 << 17);
            hits |= among(x, y).0;
            // A block that reaches beyond this one may have elements of the next.
            if y_last > x_last {
                break;
            }
            j += 16;
        }
        call(i, hits);
        if j >= b.len() {
            return;
        }
    }
}

/// Positions in both arrays.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(super) fn intersect_count_vp2(a: &[Le16], b: &[Le16]) -> u32 {
    let (mut i, mut j, mut count) = (0, 0, 0);
    // Whole blocks without a branch, unless one side is so much longer that the branch is foreseen; the few left over
    // with their ends padded.
    let is_even = a.len() < 4 * b.len() && b.len() < 4 * a.len();
    while is_even && i + 16 <= a.len() && j + 16 <= b.len() {
        let ((x, x_last), (y, y_last)) = (block(a, i, 0), block(b, j, 0));
        count += among(x, y).0.count_ones();
        i += usize::from(x_last <= y_last) * 16;
        j += usize::from(y_last <= x_last) * 16;
    }
    for_each_block(&a[i..], &b[j..], |_, hits| count += hits.count_ones());
    count
}

/// Elements of the shorter array that are in the longer one: searched until 32 elements are left, compared at once.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
pub(super) fn search_count(short: &[Le16], long: &[Le16]) -> u32 {
    arrays::search_count::<32>(short, long, |wanted, tail| is_in(wanted, tail))
}

/// Adds to `mask` a bit for each candidate in the much longer array.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
pub(super) fn search_probe(candidates: &[Le16], array: &[Le16], mask: &mut [u64]) {
    arrays::search_each::<32>(
        candidates,
        array,
        |wanted, tail| is_in(wanted, tail),
        |index, is_in| mask[index / 64] |= u64::from(is_in) << (index % 64),
    );
}

/// Whether one of up to 32 elements is the wanted one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn is_in(wanted: Le16, elements: &[Le16]) -> bool {
    let there = u32::MAX >> (32 - elements.len());
    // SAFETY: lanes past the end are masked off and not read.
    let elements = unsafe { _mm512_maskz_loadu_epi16(there, elements.as_ptr().cast()) };
    _mm512_mask_cmpeq_epi16_mask(there, elements, _mm512_set1_epi16(position(&wanted) as i16)) != 0
}

/// Positions in both arrays, rising; answers how many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
pub(super) fn intersect_vp2(a: &[Le16], b: &[Le16], out: &mut [Le16; ARRAY_ROOM]) -> usize {
    let mut len = 0;
    for_each_block(a, b, |i, hits| {
        let rest = &a[i..];
        let mask = if rest.len() >= 16 { u16::MAX } else { (1 << rest.len()) - 1 };
        assert!(len + 16 <= ARRAY_ROOM, "arrays have at most 4,096 elements");
        // SAFETY: lanes past the array's end are masked off; 16 elements fit behind `len`, as just checked.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(mask, rest.as_ptr().cast());
            _mm256_storeu_si256(out.as_mut_ptr().add(len).cast(), _mm256_maskz_compress_epi16(hits, halves));
        }
        len += hits.count_ones() as usize;
    });
    len
}

/// Writes the elements of the array whose bit is set in a mask: `bits(index, elements)` tells those of up to 32 elements
/// from `index` on. Answers how many.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi1,bmi2")]
fn select(array: &[Le16], out: &mut [Le16; ARRAY_ROOM], bits: impl Fn(usize, &[Le16]) -> u32) -> usize {
    let mut len = 0;
    for (index, elements) in array.chunks(32).enumerate() {
        let mask = bits(index * 32, elements);
        let there = u32::MAX >> (32 - elements.len());
        assert!(len + 32 <= ARRAY_ROOM, "arrays have at most 4,096 elements");
        // SAFETY: lanes past the array's end are masked off and not read; 32 elements fit behind `len`, as just checked.
        unsafe {
            let halves = _mm512_maskz_loadu_epi16(there, elements.as_ptr().cast());
            _mm512_storeu_epi16(out.as_mut_ptr().add(len).cast(), _mm512_maskz_compress_epi16(mask & there, halves));
        }
        len += (mask & there).count_ones() as usize;
    }
    len
}

/// Writes the positions of the array that are (`keep`) or are not set in the words; answers how many.
///
/// Bits are looked up one by one: gathering them is slower on the processors at hand.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi1,bmi2")]
pub(super) fn select_words(array: &[Le16], words: &Words, keep: bool, out: &mut [Le16; ARRAY_ROOM]) -> usize {
    let flip = if keep { 0 } else { u32::MAX };
    select(array, out, |_, elements| {
        let bits = elements.iter().enumerate().map(|(index, half)| u32::from(has_bit(words, position(half))) << index);
        bits.fold(0, |mask, bit| mask | bit) ^ flip
    })
}

/// Writes the elements of the array whose bit in `mask` is (`keep`) or is not set; answers how many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi1,bmi2")]
pub(super) fn select_mask(array: &[Le16], mask: &[u64], keep: bool, out: &mut [Le16; ARRAY_ROOM]) -> usize {
    let flip = if keep { 0 } else { u32::MAX };
    select(array, out, |index, _| (mask[index / 64] >> (index % 64)) as u32 ^ flip)
}

/// Adds to `mask` a bit for each candidate in the array.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(super) fn probe_vp2(candidates: &[Le16], array: &[Le16], mask: &mut [u64]) {
    for_each_block(candidates, array, |i, hits| mask[i / 64] |= u64::from(hits) << (i % 64));
}

/// Positions of the ones, rising; answers how many. Stops when the room is full.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi1")]
pub(super) fn extract(words: &Words, out: &mut [Le16; ARRAY_ROOM]) -> usize {
    let ascending: [u8; 64] = std::array::from_fn(|index| index as u8);
    // SAFETY: the array is 64 bytes.
    let ascending = unsafe { _mm512_loadu_si512(ascending.as_ptr().cast()) };
    let mut len = 0;
    for (group, eight) in words.as_chunks::<8>().0.iter().enumerate() {
        // SAFETY: eight words are 64 bytes; the load needs no alignment.
        let mut some =
            unsafe { _mm512_test_epi64_mask(_mm512_loadu_si512(eight.as_ptr().cast()), _mm512_set1_epi64(-1)) };
        while some != 0 {
            let index = some.trailing_zeros();
            some &= some - 1;
            let word = u64::from_le_bytes(eight[index as usize]);
            if len + 64 > ARRAY_ROOM {
                return len;
            }
            let bits = _mm512_maskz_compress_epi8(word, ascending);
            let base = _mm512_set1_epi16((group as u32 * 512 + index * 64) as i16);
            let low = _mm512_add_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(bits)), base);
            let high = _mm512_add_epi16(_mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(bits)), base);
            // SAFETY: 64 elements fit behind `len`, as just checked.
            unsafe {
                _mm512_storeu_si512(out.as_mut_ptr().add(len).cast(), low);
                if word.count_ones() > 32 {
                    _mm512_storeu_si512(out.as_mut_ptr().add(len + 32).cast(), high);
                }
            }
            len += word.count_ones() as usize;
        }
    }
    len
}

/// Positions in both, 16 runs of the longer list at a time against one of the shorter.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn runs_runs_count(short: &[Run], long: &[Run]) -> u32 {
    common_with_runs(short, run_bounds, long)
}

/// Positions in both, 32 positions at a time against one run; a short array as runs of one position.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub(super) fn array_runs_count(array: &[Le16], runs: &[Run]) -> u32 {
    if array.len() < runs.len() {
        return common_with_runs(array, |half| (position(half), position(half)), runs);
    }
    let (mut next, mut count) = (0, 0);
    for block in array.chunks(32) {
        let there = u32::MAX >> (32 - block.len());
        // SAFETY: lanes past the array's end are masked off and not read.
        let positions = unsafe { _mm512_maskz_loadu_epi16(there, block.as_ptr().cast()) };
        let block_last = position(&block[block.len() - 1]);
        loop {
            let Some(run) = runs.get(next) else { return count };
            let (first, last) = run_bounds(run);
            let (from_first, length) = (_mm512_set1_epi16(first as i16), _mm512_set1_epi16((last - first) as i16));
            let within = _mm512_mask_cmple_epu16_mask(there, _mm512_sub_epi16(positions, from_first), length);
            count += within.count_ones();
            if last > block_last {
                break;
            }
            next += 1;
        }
    }
    count
}

/// Positions of the short list's elements, whose first and last positions `bounds` tells, that are in the runs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn common_with_runs<T>(short: &[T], bounds: impl Fn(&T) -> (u16, u16), runs: &[Run]) -> u32 {
    let mut common = _mm512_setzero_si512();
    let mut next = 0;
    for block in runs.chunks(16) {
        let there = u16::MAX >> (16 - block.len());
        // SAFETY: lanes past the end are masked off and not read.
        let heads = unsafe { _mm512_maskz_loadu_epi32(there, block.as_ptr().cast()) };
        let firsts = _mm512_and_epi32(heads, _mm512_set1_epi32(0xFFFF));
        let lasts = _mm512_add_epi32(firsts, _mm512_srli_epi32::<16>(heads));
        // Lanes without a run end before they begin.
        let ends = _mm512_maskz_add_epi32(there, lasts, _mm512_set1_epi32(1));
        let block_last = run_bounds(&block[block.len() - 1]).1;
        while let Some(element) = short.get(next) {
            let (first, last) = bounds(element);
            let from = _mm512_max_epi32(firsts, _mm512_set1_epi32(first.into()));
            let end = _mm512_min_epi32(ends, _mm512_set1_epi32(i32::from(last) + 1));
            let overlap = _mm512_max_epi32(_mm512_sub_epi32(end, from), _mm512_setzero_si512());
            common = _mm512_add_epi32(common, overlap);
            if last > block_last {
                break;
            }
            next += 1;
        }
    }
    _mm512_reduce_add_epi32(common) as u32
}

/// Counts an operand's ones, 64 positions at a time.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn tally_words(tally: &mut Tally, words: &Words) {
    for (counts, word) in tally.as_chunks_mut::<64>().0.iter_mut().zip(words) {
        // SAFETY: 64 counts are read and written; no alignment is needed.
        unsafe {
            let old = _mm512_loadu_si512(counts.as_ptr().cast());
            let new = _mm512_mask_add_epi8(old, u64::from_le_bytes(*word), old, _mm512_set1_epi8(1));
            _mm512_storeu_si512(counts.as_mut_ptr().cast(), new);
        }
    }
}

/// `out` = positions counted at least `k` times; answers how many, and clears the counts.
#[target_feature(enable = "avx512f,avx512bw,popcnt")]
pub(super) fn take_reached(tally: &mut Tally, k: u8, out: &mut Words) -> u32 {
    let mut ones = 0;
    for (counts, word) in tally.as_chunks_mut::<64>().0.iter_mut().zip(out) {
        // SAFETY: 64 counts are read and written; no alignment is needed.
        let reached = unsafe {
            let old = _mm512_loadu_si512(counts.as_ptr().cast());
            _mm512_storeu_si512(counts.as_mut_ptr().cast(), _mm512_setzero_si512());
            _mm512_cmpge_epu8_mask(old, _mm512_set1_epi8(k as i8))
        };
        ones += reached.count_ones();
        *word = reached.to_le_bytes();
    }
    ones
}
