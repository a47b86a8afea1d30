//! Loops over bit sets of 1,024 words.
//!
//! Bit-sliced comparison: D. Rinfret, P. O'Neil and E. O'Neil, "Bit-sliced index arithmetic" (2001). Counting operands in
//! bit-sliced counters: O. Kaser and D. Lemire, "Threshold and symmetric functions over bitmaps" (2014).

use super::{ARRAY_ROOM, Level, levels, position, run_bounds};
use crate::bitmap::view::{Le16, Words};

#[inline(always)]
fn load(word: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*word)
}

levels! {
    /// Ones.
    fn count(a: &Words) -> u32 {
        a.iter().map(|a| u64::from(load(a).count_ones())).sum::<u64>() as u32
    }

    /// Ones in both.
    fn and_count(a: &Words, b: &Words) -> u32 {
        a.iter().zip(b).map(|(a, b)| u64::from((load(a) & load(b)).count_ones())).sum::<u64>() as u32
    }

    /// `out = a & b`; answers its ones.
    fn and(out: &mut Words, a: &Words, b: &Words) -> u32 {
        let mut ones = 0;
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            let word = load(a) & load(b);
            ones += u64::from(word.count_ones());
            *out = word.to_le_bytes();
        }
        ones as u32
    }

    /// `out = a & !b`; answers its ones.
    fn and_not(out: &mut Words, a: &Words, b: &Words) -> u32 {
        let mut ones = 0;
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            let word = load(a) & !load(b);
            ones += u64::from(word.count_ones());
            *out = word.to_le_bytes();
        }
        ones as u32
    }

    /// `a &= b`; answers the ones left.
    fn and_assign(a: &mut Words, b: &Words) -> u32 {
        let mut ones = 0;
        for (a, b) in a.iter_mut().zip(b) {
            let word = load(a) & load(b);
            ones += u64::from(word.count_ones());
            *a = word.to_le_bytes();
        }
        ones as u32
    }

    /// `a &= !b`; answers the ones left.
    fn and_not_assign(a: &mut Words, b: &Words) -> u32 {
        let mut ones = 0;
        for (a, b) in a.iter_mut().zip(b) {
            let word = load(a) & !load(b);
            ones += u64::from(word.count_ones());
            *a = word.to_le_bytes();
        }
        ones as u32
    }

    /// Ones of `a & b`, and the ones left of `left &= !b`.
    fn count_and_take_words(a: &Words, b: &Words, left: &mut Words) -> (u32, u32) {
        let (mut common, mut ones) = (0, 0);
        for ((a, b), left) in a.iter().zip(b).zip(left) {
            let (b, rest) = (load(b), load(left) & !load(b));
            common += u64::from((load(a) & b).count_ones());
            ones += u64::from(rest.count_ones());
            *left = rest.to_le_bytes();
        }
        (common as u32, ones as u32)
    }

    /// `a |= b`.
    fn or_assign(a: &mut Words, b: &Words) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = (load(a) | load(b)).to_le_bytes();
        }
    }

    /// `a ^= b`.
    fn xor_assign(a: &mut Words, b: &Words) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = (load(a) ^ load(b)).to_le_bytes();
        }
    }

    /// A bit-sliced half adder: `sum ^= addend`, `carry` = what both had. Answers whether there is any carry.
    fn half_add(sum: &mut Words, addend: &Words, carry: &mut Words) -> bool {
        let mut any = 0;
        for ((sum, addend), carry) in sum.iter_mut().zip(addend).zip(carry) {
            let (a, b) = (load(sum), load(addend));
            any |= a & b;
            *carry = (a & b).to_le_bytes();
            *sum = (a ^ b).to_le_bytes();
        }
        any != 0
    }

    /// A bit-sliced subtractor: `a = a - b - borrow`, and `borrow` as it goes on.
    fn subtract(a: &mut Words, b: &Words, borrow: &mut Words) {
        for ((a, b), borrow) in a.iter_mut().zip(b).zip(borrow) {
            let (x, y, below) = (load(a), load(b), load(borrow));
            *a = (x ^ y ^ below).to_le_bytes();
            *borrow = (!x & y | !(x ^ y) & below).to_le_bytes();
        }
    }

    /// `out` = positions in at least `k` of the operands; answers its ones. `k` is at least 1.
    fn at_least(out: &mut Words, k: u32, operands: &[&Words]) -> u32 {
        // Counters need only tell numbers below a power of two above `k`: what carries beyond is enough for good.
        match u32::BITS - k.leading_zeros() {
            1 => at_least_planes::<1>(out, k, operands),
            2 => at_least_planes::<2>(out, k, operands),
            3 => at_least_planes::<3>(out, k, operands),
            4 => at_least_planes::<4>(out, k, operands),
            _ => at_least_planes::<32>(out, k, operands),
        }
    }

    /// `out` = users whose number is in the range; answers its ones.
    fn range(out: &mut Words, scan: &RangeScan<'_>) -> u32 {
        match (scan.low, scan.high) {
            (Some(low), Some(high)) => range_within::<true, true>(out, scan, low, high),
            (Some(low), None) => range_within::<true, false>(out, scan, low, 0),
            (None, Some(high)) => range_within::<false, true>(out, scan, 0, high),
            (None, None) => range_within::<false, false>(out, scan, 0, 0),
        }
    }

    /// Positions of the ones, rising; answers how many. Stops when the room is full.
    fn extract_plain(words: &Words, out: &mut [Le16; ARRAY_ROOM]) -> usize {
        let mut len = 0;
        for (index, word) in words.iter().enumerate() {
            let mut left = load(word);
            while left != 0 {
                if len == ARRAY_ROOM {
                    return len;
                }
                out[len] = ((index as u32 * 64 + left.trailing_zeros()) as u16).to_le_bytes();
                len += 1;
                left &= left - 1;
            }
        }
        len
    }
}

/// Positions of the ones, rising; answers how many. Stops when the room is full.
pub(crate) fn extract(level: Level, words: &Words, out: &mut [Le16; ARRAY_ROOM]) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512 | Level::Avx512Intersect => unsafe { super::x86::extract(words, out) },
        level => extract_plain(level, words, out),
    }
}

/// A few neighbouring words, kept in registers.
type Lanes<const N: usize> = [u64; N];
/// Words a comparison works on at once: few enough that results stay in registers across all slices.
const SCAN: usize = 16;
/// Words counted at once.
const COUNT: usize = 16;

#[inline(always)]
fn lanes<const N: usize>(words: &Words, first: usize) -> Lanes<N> {
    let words: &[[u8; 8]; N] = words[first..].first_chunk().expect("blocks divide the words");
    words.map(u64::from_le_bytes)
}

/// A comparison of bit-sliced numbers with a range, for one chunk.
pub(crate) struct RangeScan<'s> {
    /// Users with a number.
    pub(crate) exists: &'s Words,
    /// The slices that differ among these users, least significant first.
    pub(crate) slices: &'s [&'s Words],
    /// Least bits in the range; `None`: no such bound. Not 0.
    pub(crate) low: Option<u64>,
    /// Greatest bits in the range; `None`: no such bound. Not all ones.
    pub(crate) high: Option<u64>,
}

/// `bits >= low` and `bits <= high`, from the least significant slice up: a slice decides where it differs from the
/// bound's bit, and leaves the decision where it is equal.
#[inline(always)]
fn range_within<const LOW: bool, const HIGH: bool>(out: &mut Words, scan: &RangeScan<'_>, low: u64, high: u64) -> u32 {
    let mut ones = 0;
    for first in (0..out.len()).step_by(SCAN) {
        let (mut above, mut below) = ([!0_u64; SCAN], [!0_u64; SCAN]);
        for (index, slice) in scan.slices.iter().enumerate() {
            let bits: &[[u8; 8]; SCAN] = slice[first..].first_chunk().expect("blocks divide the words");
            // All ones where the bound's bit is one: one formula for both, without a branch.
            let (low_bit, high_bit) = ((low >> index & 1).wrapping_neg(), (high >> index & 1).wrapping_neg());
            for lane in 0..SCAN {
                let bit = load(&bits[lane]);
                if LOW {
                    above[lane] = bit & above[lane] | !low_bit & (bit | above[lane]);
                }
                if HIGH {
                    below[lane] = !bit & below[lane] | high_bit & (!bit | below[lane]);
                }
            }
        }
        let exists: &[[u8; 8]; SCAN] = scan.exists[first..].first_chunk().expect("blocks divide the words");
        let out: &mut [[u8; 8]; SCAN] = out[first..].first_chunk_mut().expect("blocks divide the words");
        for lane in 0..SCAN {
            let word = load(&exists[lane]) & above[lane] & below[lane];
            out[lane] = word.to_le_bytes();
            ones += u64::from(word.count_ones());
        }
    }
    ones as u32
}

#[inline(always)]
fn at_least_planes<const PLANES: usize>(out: &mut Words, k: u32, operands: &[&Words]) -> u32 {
    let mut ones = 0;
    for first in (0..out.len()).step_by(COUNT) {
        let mut counter = [[0; COUNT]; PLANES];
        let mut enough = [0; COUNT];
        for operand in operands {
            let mut carry: Lanes<COUNT> = lanes(operand, first);
            for plane in &mut counter {
                for (plane, carry) in plane.iter_mut().zip(&mut carry) {
                    (*plane, *carry) = (*plane ^ *carry, *plane & *carry);
                }
            }
            enough.iter_mut().zip(carry).for_each(|(enough, carry)| *enough |= carry);
        }
        let mut reached = [!0; COUNT];
        for (index, plane) in counter.iter().enumerate() {
            let each = reached.iter_mut().zip(plane);
            match k >> index & 1 {
                1 => each.for_each(|(reached, plane)| *reached &= plane),
                _ => each.for_each(|(reached, plane)| *reached |= plane),
            }
        }
        for (lane, out) in out[first..first + COUNT].iter_mut().enumerate() {
            let word = reached[lane] | enough[lane];
            *out = word.to_le_bytes();
            ones += u64::from(word.count_ones());
        }
    }
    ones as u32
}

#[inline(always)]
fn for_each_bit(target: &mut Words, array: &[Le16], change: impl Fn(u64, u64) -> u64) {
    for half in array {
        let position = position(half);
        let word = &mut target[usize::from(position >> 6)];
        *word = change(load(word), 1 << (position & 63)).to_le_bytes();
    }
}

/// Sets the positions of an array.
pub(crate) fn add_array(target: &mut Words, array: &[Le16]) {
    for_each_bit(target, array, |word, bit| word | bit);
}

/// Makes these positions what the mask says, a bit each.
pub(crate) fn put_back(target: &mut Words, positions: &[Le16], mask: &[u64]) {
    for (index, half) in positions.iter().enumerate() {
        let (word, at) = (&mut target[usize::from(position(half) / 64)], position(half) % 64);
        let bit = mask[index / 64] >> (index % 64) & 1;
        *word = (u64::from_le_bytes(*word) & !(1 << at) | bit << at).to_le_bytes();
    }
}

/// Clears the positions of an array.
pub(crate) fn remove_array(target: &mut Words, array: &[Le16]) {
    for_each_bit(target, array, |word, bit| word & !bit);
}

/// Flips the positions of an array.
pub(crate) fn flip_array(target: &mut Words, array: &[Le16]) {
    for_each_bit(target, array, |word, bit| word ^ bit);
}

#[inline(always)]
fn for_each_run(target: &mut Words, runs: &[[u8; 4]], change: impl Fn(u64, u64) -> u64) {
    for run in runs {
        let (first, last) = run_bounds(run);
        for_each_word(first, last, |index, bits| target[index] = change(load(&target[index]), bits).to_le_bytes());
    }
}

/// Sets the positions of runs.
pub(crate) fn add_runs(target: &mut Words, runs: &[[u8; 4]]) {
    for_each_run(target, runs, |word, bits| word | bits);
}

/// Clears the positions of runs.
pub(crate) fn remove_runs(target: &mut Words, runs: &[[u8; 4]]) {
    for_each_run(target, runs, |word, bits| word & !bits);
}

/// Flips the positions of runs.
pub(crate) fn flip_runs(target: &mut Words, runs: &[[u8; 4]]) {
    for_each_run(target, runs, |word, bits| word ^ bits);
}

/// Calls with each word that `first..=last` touches and the bits in it.
#[inline(always)]
pub(super) fn for_each_word(first: u16, last: u16, mut call: impl FnMut(usize, u64)) {
    let (from, to) = (usize::from(first >> 6), usize::from(last >> 6));
    let head = !0_u64 << (first & 63);
    let tail = !0_u64 >> (63 - (last & 63));
    if from == to {
        return call(from, head & tail);
    }
    call(from, head);
    for index in from + 1..to {
        call(index, !0);
    }
    call(to, tail);
}
