//! At-least over sparse operands: a byte a position counts the operands that have it.
//!
//! An element of an array costs one addition, where bit-sliced counters would first need all arrays as bit sets.

use super::{Level, position, run_bounds};
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
