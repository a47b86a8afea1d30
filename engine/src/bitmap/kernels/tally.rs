//! At-least over sparse operands: a byte a position counts the operands that have it.
//!
//! An element of an array costs one addition, where bit-sliced counters would first need all arrays as bit sets.

use super::{Level, levels, position, run_bounds};
use crate::bitmap::view::{Container, Le16, Run, Words};

/// How many operands have each position; all zero between uses.
pub(crate) type Tally = [u8; 1 << 16];

/// The most operands a tally can count.
pub(crate) const TALLY_MAX: usize = u8::MAX as usize;

/// Counts one operand.
pub(crate) fn tally(level: Level, tally: &mut Tally, operand: Container<'_>) {
    match operand {
        Container::Array(array) => tally_array(tally, array),
        Container::Runs(runs) => tally_runs(tally, runs),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Container::Words(words) if level >= Level::Avx512 => unsafe { super::x86::tally_words(tally, words) },
        Container::Words(words) => tally_words(tally, words),
    }
}

fn tally_array(tally: &mut Tally, array: &[Le16]) {
    for half in array {
        let count = &mut tally[usize::from(position(half))];
        *count = count.wrapping_add(1);
    }
}

fn tally_runs(tally: &mut Tally, runs: &[Run]) {
    for run in runs {
        let (first, last) = run_bounds(run);
        tally[usize::from(first)..=usize::from(last)].iter_mut().for_each(|count| *count = count.wrapping_add(1));
    }
}

fn tally_words(tally: &mut Tally, words: &Words) {
    for (counts, word) in tally.as_chunks_mut::<64>().0.iter_mut().zip(words) {
        let mut left = u64::from_le_bytes(*word);
        while left != 0 {
            let count = &mut counts[left.trailing_zeros() as usize];
            *count = count.wrapping_add(1);
            left &= left - 1;
        }
    }
}

/// Counts one sparse operand `weight` times.
pub(crate) fn tally_times(tally: &mut Tally, operand: Container<'_>, weight: u8) {
    match operand {
        Container::Array(array) => {
            for half in array {
                let count = &mut tally[usize::from(position(half))];
                *count = count.wrapping_add(weight);
            }
        }
        Container::Runs(runs) => {
            for run in runs {
                let (first, last) = run_bounds(run);
                let counts = &mut tally[usize::from(first)..=usize::from(last)];
                counts.iter_mut().for_each(|count| *count = count.wrapping_add(weight));
            }
        }
        Container::Words(words) => {
            for (counts, word) in tally.as_chunks_mut::<64>().0.iter_mut().zip(words) {
                let mut left = u64::from_le_bytes(*word);
                while left != 0 {
                    let count = &mut counts[left.trailing_zeros() as usize];
                    *count = count.wrapping_add(weight);
                    left &= left - 1;
                }
            }
        }
    }
}

levels! {
    /// Bit `i` of the counts to `planes[i]`; leaves the tally all zero. Answers a bit for each plane that has ones.
    fn take_planes(tally: &mut Tally, planes: &mut [&mut Words; 8]) -> u8 {
        let mut used = 0;
        for (index, counts) in tally.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let mut words = [0_u64; 8];
            for (byte, eight) in counts.as_chunks::<8>().0.iter().enumerate() {
                let eight = u64::from_le_bytes(*eight);
                if eight == 0 {
                    continue;
                }
                for (bit, word) in words.iter_mut().enumerate() {
                    // The lowest bits of eight bytes, gathered into one byte.
                    let bits = (eight >> bit & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                    *word |= bits << (8 * byte);
                }
            }
            for (bit, word) in words.iter().enumerate() {
                planes[bit][index] = word.to_le_bytes();
                used |= u8::from(*word != 0) << bit;
            }
            counts.fill(0);
        }
        used
    }
}

/// `out` = positions that at least `k` operands have; answers how many, and leaves the tally all zero.
pub(crate) fn take_reached(level: Level, tally: &mut Tally, k: u8, out: &mut Words) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if level >= Level::Avx512 {
        // SAFETY: a level is only made by asking the processor for its features.
        return unsafe { super::x86::take_reached(tally, k, out) };
    }
    let _ = level;
    let mut ones = 0;
    for (counts, word) in tally.as_chunks_mut::<64>().0.iter_mut().zip(out) {
        let reached = counts.iter().rev().fold(0, |bits, count| bits << 1 | u64::from(*count >= k));
        ones += reached.count_ones();
        *word = reached.to_le_bytes();
        counts.fill(0);
    }
    ones
}
