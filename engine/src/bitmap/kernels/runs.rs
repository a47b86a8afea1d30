//! Loops over runs.
//!
//! Counting takes the longer list in blocks, all of whose elements are compared at once with one run of the shorter list;
//! a block is left behind when it ends before the run does.

use super::words::for_each_word;
use super::{Level, levels, position, run_bounds};
use crate::bitmap::view::{Le16, Run, Words};

/// Runs compared at once.
const BLOCK: usize = 16;
/// Up to this many runs, a walk with branches is as fast: processors foresee them.
const FEW: usize = 4;

/// Positions in both.
#[inline(never)]
pub(crate) fn runs_runs_count(level: Level, a: &[Run], b: &[Run]) -> u32 {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() <= FEW {
        return merge_runs(short, long);
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512 | Level::Avx512Intersect => unsafe { super::x86::runs_runs_count(short, long) },
        _ => blocks_runs_count(level, short, long),
    }
}

/// Positions in both.
#[inline(never)]
pub(crate) fn array_runs_count(level: Level, array: &[Le16], runs: &[Run]) -> u32 {
    if array.len() <= FEW && runs.len() <= FEW {
        return merge_array(array, runs);
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512 | Level::Avx512Intersect => unsafe { super::x86::array_runs_count(array, runs) },
        _ if array.len() < 2 * runs.len() || array.len() < 2 * BLOCK => merge_array(array, runs),
        _ => blocks_array_count(level, array, runs),
    }
}

levels! {
    /// Positions in both.
    fn blocks_runs_count(short: &[Run], long: &[Run]) -> u32 {
        let (blocks, rest) = long.as_chunks::<BLOCK>();
        let (mut next, mut count) = (0, 0);
        for block in blocks {
            let block_last = run_bounds(&block[BLOCK - 1]).1;
            while next < short.len() {
                let (first, last) = run_bounds(&short[next]);
                count += common_with(block, first, last);
                if last > block_last {
                    break;
                }
                next += 1;
            }
        }
        // The last run looked at may reach into the rest.
        count + merge_runs(&short[next..], rest)
    }

    /// Positions in both.
    fn blocks_array_count(array: &[Le16], runs: &[Run]) -> u32 {
        let (blocks, rest) = array.as_chunks::<{ 2 * BLOCK }>();
        let (mut next, mut count) = (0, 0);
        for block in blocks {
            let block_last = position(&block[2 * BLOCK - 1]);
            while next < runs.len() {
                let (first, last) = run_bounds(&runs[next]);
                let within = |half: &Le16| u16::from(position(half).wrapping_sub(first) <= last - first);
                count += u32::from(block.iter().map(within).sum::<u16>());
                if last > block_last {
                    break;
                }
                next += 1;
            }
        }
        count + merge_array(rest, &runs[next..])
    }

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

/// Positions of `first..=last` in a block of runs.
#[inline(always)]
fn common_with(block: &[Run; BLOCK], first: u16, last: u16) -> u32 {
    let mut count = 0;
    for run in block {
        let (run_first, run_last) = run_bounds(run);
        let (from, end) = (i32::from(run_first.max(first)), i32::from(run_last.min(last)) + 1);
        count += (end - from).max(0);
    }
    count as u32
}

#[inline(always)]
fn merge_runs(a: &[Run], b: &[Run]) -> u32 {
    let (mut a, mut b) = (a.iter().map(run_bounds), b.iter().map(run_bounds));
    let (Some(mut x), Some(mut y)) = (a.next(), b.next()) else { return 0 };
    let mut count = 0;
    loop {
        if x.1 >= y.0 && y.1 >= x.0 {
            count += u32::from(x.1.min(y.1) - x.0.max(y.0)) + 1;
        }
        let next = if x.1 < y.1 { a.next().map(|run| x = run) } else { b.next().map(|run| y = run) };
        if next.is_none() {
            return count;
        }
    }
}

#[inline(always)]
fn merge_array(array: &[Le16], runs: &[Run]) -> u32 {
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
