//! Rising positions looked up in a bit set, with AVX-512.
//!
//! Two registers hold a window of the bit set, and one instruction looks up 32 positions in it. Positions that lie farther
//! apart than the window is wide are looked up one by one.

use crate::bitmap::kernels::{has_bit, position};
use crate::bitmap::view::{Le16, Words};
use std::arch::x86_64::*;

/// Positions in a window.
const WINDOW: u16 = 1024;

/// How many neighbours of so many positions mostly lie in one window; `None` if too few do for vectors to pay.
#[inline]
pub(in super::super) fn neighbours(len: usize) -> Option<usize> {
    match len {
        2_600.. => Some(32),
        1_300.. => Some(16),
        650.. => Some(8),
        _ => None,
    }
}

/// Up to 32 positions of one window.
struct Near {
    /// A bit for each lane with a position.
    there: u32,
    /// The first byte of the window.
    at: usize,
    /// Of each position its 16 bits' place in the window, and its bit in these.
    places: __m512i,
    bits: __m512i,
}

impl Near {
    /// `None` if the positions are too far apart.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
    fn new(few: &[Le16]) -> Option<Near> {
        let (first, last) = (position(&few[0]), position(&few[few.len() - 1]));
        let base = (first & !15).min(u16::MAX - (WINDOW - 1));
        if last.wrapping_sub(base) >= WINDOW {
            return None;
        }
        let there = u32::MAX >> (32 - few.len());
        // SAFETY: lanes past the last position are masked off and not read.
        let positions = unsafe { _mm512_maskz_loadu_epi16(there, few.as_ptr().cast()) };
        Some(Near {
            there,
            at: usize::from(base / 8),
            places: _mm512_srli_epi16::<4>(_mm512_sub_epi16(positions, _mm512_set1_epi16(base as i16))),
            bits: _mm512_sllv_epi16(_mm512_set1_epi16(1), _mm512_and_si512(positions, _mm512_set1_epi16(15))),
        })
    }

    /// A bit for each position that is set.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
    fn set_in(&self, words: &Words) -> u32 {
        let window = &words.as_flattened()[self.at..][..usize::from(WINDOW / 8)];
        // SAFETY: the window is 128 bytes, and the loads need no alignment.
        let (low, high) =
            unsafe { (_mm512_loadu_si512(window.as_ptr().cast()), _mm512_loadu_si512(window.as_ptr().add(64).cast())) };
        let found = _mm512_permutex2var_epi16(low, self.places, high);
        _mm512_mask_test_epi16_mask(self.there, found, self.bits)
    }
}

/// A bit for each of up to 32 positions that is set.
#[inline]
fn set_one_by_one(few: &[Le16], words: &Words) -> u32 {
    few.iter().enumerate().map(|(at, half)| u32::from(has_bit(words, position(half))) << at).sum()
}

/// Positions of the array that are set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
pub(in super::super) fn array_words_count(array: &[Le16], words: &Words, step: usize) -> u32 {
    let mut count = 0;
    for few in array.chunks(step) {
        let hits = Near::new(few).map_or_else(|| set_one_by_one(few, words), |near| near.set_in(words));
        count += hits.count_ones();
    }
    count
}

/// Adds to `mask` a bit for each candidate that is set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
pub(in super::super) fn probe_words(candidates: &[Le16], words: &Words, step: usize, mask: &mut [u64]) {
    for (index, few) in candidates.chunks(step).enumerate() {
        let hits = Near::new(few).map_or_else(|| set_one_by_one(few, words), |near| near.set_in(words));
        mask[index * step / 64] |= u64::from(hits) << (index * step % 64);
    }
}

/// Positions of the array that are set, and how many of these were in `left`; clears them there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
pub(in super::super) fn count_and_take(array: &[Le16], words: &Words, step: usize, left: &mut Words) -> (u32, u32) {
    let (mut count, mut taken) = (0, 0);
    for few in array.chunks(step) {
        let near = Near::new(few);
        let hits = near.as_ref().map_or_else(|| set_one_by_one(few, words), |near| near.set_in(words));
        let mut new = near.map_or_else(|| set_one_by_one(few, left), |near| near.set_in(left));
        (count, taken) = (count + hits.count_ones(), taken + new.count_ones());
        while new != 0 {
            let position = position(&few[new.trailing_zeros() as usize]);
            left[usize::from(position / 64)][usize::from(position / 8 % 8)] &= !(1 << (position % 8));
            new &= new - 1;
        }
    }
    (count, taken)
}
