//! Loops over runs.

use super::arrays::gallop;
use super::words::for_each_word;
use super::{Level, levels, position, run_bounds};
use crate::bitmap::view::{Le16, Run, Words};

/// Positions in both.
pub(crate) fn runs_runs_count(a: &[Run], b: &[Run]) -> u32 {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let ((a_first, a_last), (b_first, b_last)) = (run_bounds(&a[i]), run_bounds(&b[j]));
        let (first, end) = (u32::from(a_first.max(b_first)), u32::from(a_last.min(b_last)) + 1);
        count += end.saturating_sub(first);
        i += usize::from(a_last <= b_last);
        j += usize::from(b_last <= a_last);
    }
    count
}

/// Positions in both.
pub(crate) fn array_runs_count(array: &[Le16], runs: &[Run]) -> u32 {
    if runs.len() * 8 < array.len() {
        return long_array_runs_count(array, runs);
    }
    let (mut from, mut count) = (0, 0);
    for half in array {
        let position = position(half);
        while from < runs.len() && run_bounds(&runs[from]).1 < position {
            from += 1;
        }
        if from == runs.len() {
            break;
        }
        count += u32::from(run_bounds(&runs[from]).0 <= position);
    }
    count
}

/// Looks for the ends of each run.
fn long_array_runs_count(array: &[Le16], runs: &[Run]) -> u32 {
    let (mut from, mut count) = (0, 0);
    for run in runs {
        let (first, last) = run_bounds(run);
        from = gallop(array, from, first);
        let end = if last == u16::MAX { array.len() } else { gallop(array, from, last + 1) };
        count += (end - from) as u32;
        from = end;
    }
    count
}

levels! {
    /// Positions in both.
    fn words_runs_count(words: &Words, runs: &[Run]) -> u32 {
        let mut count = 0;
        for run in runs {
            let (first, last) = run_bounds(run);
            for_each_word(first, last, |index, bits| count += (u64::from_le_bytes(words[index]) & bits).count_ones());
        }
        count
    }
}
