//! Vector loops for x86-64.

use super::{Columns, Compare, Rows, Scale, best_exact_plain, best_plain, low_of, step_of};
use std::arch::x86_64::*;

/// Rows that are multiplied together: a lane each.
const TILE: usize = 16;
/// How many rows ahead memory is asked for what a list names.
const AHEAD: usize = 3 * TILE;

#[inline]
pub(super) fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        // SAFETY: every x86-64 processor has this instruction, and asking for memory has no effect that is seen.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn best_avx2(rows: Rows<'_>, list: &[u32], columns: &Columns, out: &mut [f32], which: &mut [u32]) {
    best_plain(rows, list, columns, out, which);
}

#[target_feature(enable = "avx2")]
pub(super) fn best_exact_avx2(
    compare: Compare,
    vectors: &[[u8; 4]],
    list: &[u32],
    prototypes: &[f32],
    dimension: usize,
    out: &mut [f32],
) {
    best_exact_plain(compare, vectors, list, prototypes, dimension, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn best_exact_avx512(
    compare: Compare,
    vectors: &[[u8; 4]],
    list: &[u32],
    prototypes: &[f32],
    dimension: usize,
    out: &mut [f32],
) {
    best_exact_plain(compare, vectors, list, prototypes, dimension, out);
}

/// # Safety
/// Every listed row is in `rows`, with its scale.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn best_avx512(rows: Rows<'_>, list: &[u32], columns: &Columns, out: &mut [f32], which: &mut [u32]) {
    let dimension = rows.dimension;
    // A register per four dimensions, with those of all rows of a tile.
    let mut turned = vec![_mm512_setzero_si512(); dimension.div_ceil(64) * 16];
    for (at, tile) in list.chunks(TILE).enumerate() {
        let at = at * TILE;
        for ahead in list.iter().skip(at + AHEAD).take(TILE) {
            let begin = *ahead as usize * dimension;
            _mm_prefetch::<_MM_HINT_T0>(rows.scales.as_ptr().wrapping_add(*ahead as usize).cast());
            for line in (0..dimension).step_by(64) {
                // Asking for memory has no effect that is seen, wherever it is.
                _mm_prefetch::<_MM_HINT_T0>(rows.codes.as_ptr().wrapping_add(begin + line).cast());
            }
        }
        // A tile that is not full repeats its first row.
        let row = |lane: usize| tile.get(lane).map_or(tile[0], |row| *row) as usize;
        for (piece, turned) in turned.chunks_exact_mut(16).enumerate() {
            let left = dimension - piece * 64;
            let mask = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            let load = |lane: usize| {
                let begin = row(lane) * dimension + piece * 64;
                // SAFETY: the row is there, so as many bytes as the mask has bits are; the load needs no alignment.
                unsafe { _mm512_maskz_loadu_epi8(mask, rows.codes.as_ptr().add(begin).cast()) }
            };
            turn(std::array::from_fn(load), turned);
        }
        let lane = |of: fn(&Scale) -> f32| -> __m512 {
            let numbers: [f32; TILE] = std::array::from_fn(|lane| of(&rows.scales[row(lane)]));
            // SAFETY: sixteen numbers are as many as a register has.
            unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
        };
        let (low, step) = (lane(low_of), lane(step_of));
        let quads = &turned[..dimension.div_ceil(4)];
        let mut best = (_mm512_set1_ps(f32::NEG_INFINITY), _mm512_setzero_si512());
        let mut column = 0;
        while column < columns.count() {
            column += match columns.count() - column {
                8.. => group::<8>(quads, columns, column, low, step, &mut best),
                4.. => group::<4>(quads, columns, column, low, step, &mut best),
                2.. => group::<2>(quads, columns, column, low, step, &mut best),
                _ => group::<1>(quads, columns, column, low, step, &mut best),
            };
        }
        let (mut values, mut indexes) = ([0.0_f32; TILE], [0_u32; TILE]);
        // SAFETY: both have sixteen elements.
        unsafe {
            _mm512_storeu_ps(values.as_mut_ptr(), best.0);
            _mm512_storeu_si512(indexes.as_mut_ptr().cast(), best.1);
        }
        out[at..at + tile.len()].copy_from_slice(&values[..tile.len()]);
        which[at..at + tile.len()].copy_from_slice(&indexes[..tile.len()]);
    }
}

/// Multiplies a tile with some columns at once, so that each register of rows is loaded once for all of them. Answers how many.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn group<const COUNT: usize>(
    quads: &[__m512i],
    columns: &Columns,
    first: usize,
    low: __m512,
    step: __m512,
    best: &mut (__m512, __m512i),
) -> usize {
    let codes: [&[[i8; 4]]; COUNT] = std::array::from_fn(|at| &columns.codes(first + at).as_chunks().0[..quads.len()]);
    let mut products = [_mm512_setzero_si512(); COUNT];
    for (quad, rows) in quads.iter().enumerate() {
        for (product, codes) in products.iter_mut().zip(codes) {
            let column = _mm512_set1_epi32(i32::from_le_bytes(codes[quad].map(|code| code as u8)));
            *product = _mm512_dpbusd_epi32(*product, *rows, column);
        }
    }
    for (at, product) in products.into_iter().enumerate() {
        let column = first + at;
        // The same steps as `Columns::value`.
        let shift = _mm512_mul_ps(low, _mm512_set1_ps(columns.sum[column]));
        let scaled = _mm512_mul_ps(step, _mm512_cvtepi32_ps(product));
        let scale = _mm512_set1_ps(columns.scale[column] * columns.factor);
        let value = _mm512_mul_ps(_mm512_add_ps(shift, scaled), scale);
        let value = _mm512_add_ps(value, _mm512_set1_ps(columns.bias[column]));
        let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, best.0);
        best.0 = _mm512_mask_mov_ps(best.0, greater, value);
        best.1 = _mm512_mask_mov_epi32(best.1, greater, _mm512_set1_epi32(column as i32));
    }
    COUNT
}

/// Turns 16 rows of 16 quads into 16 registers of one quad of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn turn(rows: [__m512i; 16], out: &mut [__m512i]) {
    let zero = _mm512_setzero_si512();
    let (mut pairs, mut fours) = ([zero; 16], [zero; 16]);
    for at in (0..16).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Now each quarter of a register has one quad of four rows.
    for at in (0..16).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    for at in 0..4 {
        let (a, b, c, d) = (fours[at], fours[4 + at], fours[8 + at], fours[12 + at]);
        let (ab_low, cd_low) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
        let (ab_high, cd_high) = (_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d));
        out[at] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
        out[4 + at] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
        out[8 + at] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        out[12 + at] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
}
