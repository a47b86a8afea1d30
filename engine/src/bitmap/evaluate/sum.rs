//! Sums of bit-sliced numbers, chunk by chunk: the slices of time of a behaviour condition.
//!
//! The terms of a sum are containers at a bit. Dense ones are added word by word with bit-sliced half adders; sparse ones
//! are first counted in a byte a position, as many as a byte can count, and the counts are then turned into eight slices and
//! added like the dense ones. What is to be taken off is added up apart and subtracted once. The sum is compared
//! like any bit-sliced number; if only "at least one" is asked and nothing is taken off, a union answers.
//!
//! Source: D. Rinfret, P. O'Neil and E. O'Neil, "Bit-sliced index arithmetic" (2001).

use super::cursor::{Counted, Cursor};
use super::leaf;
use super::run::PASS_COST;
use super::scratch::{Scratch, WordBuffer};
use crate::bitmap::bsi::NumberRange;
use crate::bitmap::chunk_set::CHUNK_LEN;
use crate::bitmap::kernels::{self, RangeScan, TALLY_MAX};
use crate::bitmap::program::SumOf;
use crate::bitmap::view::{ARRAY_LEN_MAX, Container, Le16, Words};

/// A sum prepared for evaluation, and what it is in the current chunk.
#[derive(Debug)]
pub(crate) struct SumLeaf<'a> {
    terms: Vec<(Place, Cursor<'a>)>,
    range: NumberRange,
    /// Terms with users in the current chunk, in the order of their places.
    now: Vec<(Place, Counted<'a>)>,
    upper: u32,
}

/// Where a term is added. Terms of eight bits are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_negative: bool,
    bit: u8,
}

/// Bits that a byte's counts are turned into.
const TALLY_BITS: u8 = 8;
/// The most slices that are compared as one number of 64 bits, one of them for the sign.
const SLICES_MAX: usize = 63;
const EVERYBODY: &Words = &[[0xff; 8]; 1024];

type Slices = Vec<Box<WordBuffer>>;

impl<'a> SumLeaf<'a> {
    pub(crate) fn new(sum: &SumOf<'a>) -> Self {
        debug_assert!(!sum.range.contains(0), "nobody in no term is looked at");
        let place = |term: &crate::bitmap::program::Term<'a>| Place { is_negative: term.is_negative, bit: term.bit };
        let mut terms: Vec<_> = sum.terms.iter().map(|term| (place(term), Cursor::new(term.users))).collect();
        terms.sort_by_key(|(place, _)| *place);
        SumLeaf { terms, range: sum.range, now: Vec::new(), upper: 0 }
    }

    /// Rising chunks outside of which nobody is in the range.
    pub(crate) fn chunks(&self) -> Vec<u16> {
        let mut is_in = vec![false; 1 << 16];
        for (place, users) in &self.terms {
            if place.is_negative != self.is_above() {
                users.chunks().for_each(|chunk| is_in[usize::from(chunk)] = true);
            }
        }
        (0..=u16::MAX).filter(|chunk| is_in[usize::from(*chunk)]).collect()
    }

    /// Whether the range is above 0, not below it.
    fn is_above(&self) -> bool {
        self.range.min > 0
    }

    /// Turns to a chunk; reads heads only.
    pub(crate) fn turn_to(&mut self, chunk: u16) {
        self.now.clear();
        let mut reach = 0_u64;
        for (place, users) in &self.terms {
            let Some(counted) = users.container(chunk) else { continue };
            if place.is_negative != self.is_above() {
                let times = if place.bit < 32 { 1 << place.bit } else { u64::MAX };
                reach = reach.saturating_add(times.saturating_mul(counted.len.into()));
            }
            self.now.push((*place, counted));
        }
        let least = self.range.min.unsigned_abs().min(self.range.max.unsigned_abs()).max(1);
        self.upper = (reach / least).min(CHUNK_LEN.into()) as u32;
        if self.upper == 0 {
            self.now.clear();
        }
    }

    /// At most this many members in the current chunk.
    pub(crate) fn upper(&self) -> u32 {
        self.upper
    }

    /// Look-ups that asking about one candidate takes in the current chunk.
    pub(crate) fn probes(&self) -> u32 {
        self.now.len() as u32
    }

    /// Cost of making the set in the current chunk, in look-ups of one candidate.
    pub(crate) fn cost(&self) -> u32 {
        let of = |counted: &Counted<'_>| if is_dense(counted) { 2 * PASS_COST } else { counted.len };
        4 * PASS_COST + self.now.iter().map(|(_, counted)| of(counted)).fold(0, u32::saturating_add)
    }

    /// Bytes of the containers in the current chunk.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.now.iter().map(|(_, counted)| counted.container.size_bytes() as u64).sum()
    }

    /// Writes who is in the range in the current chunk; answers how many.
    pub(crate) fn load(&self, target: &mut Words, scratch: &mut Scratch) -> u32 {
        let negative = self.now.partition_point(|(place, _)| !place.is_negative);
        let (plus, minus) = self.now.split_at(negative);
        if minus.is_empty() && self.range == NumberRange::default() {
            return union(plus, target, scratch);
        }
        let mut plus = add_up(plus, scratch);
        let minus = add_up(minus, scratch);
        let len = if plus.len().max(minus.len()) > SLICES_MAX {
            compare_one_by_one(target, &plus, &minus, self.range)
        } else if minus.is_empty() {
            compare(target, &plus, self.range, 0, scratch)
        } else {
            let sign = take_off(&mut plus, &minus, scratch);
            compare(target, &plus, self.range, sign, scratch)
        };
        plus.into_iter().chain(minus).for_each(|words| scratch.give_words(words));
        len
    }

    /// Sets the bits of those candidates who are in the range; bits past the last candidate stay clear.
    pub(crate) fn probe(&self, candidates: &[Le16], mask: &mut [u64], scratch: &mut Scratch) {
        let mut sums = vec![0_i128; candidates.len()];
        let mut bits = scratch.take_mask();
        for (place, counted) in &self.now {
            let bits = &mut bits[..mask.len()];
            bits.fill(0);
            kernels::probe(scratch.level, candidates, counted.container, bits);
            let number = if place.is_negative { -(1_i128 << place.bit) } else { 1 << place.bit };
            for (index, word) in bits.iter().enumerate() {
                let mut left = *word;
                while left != 0 {
                    let sum = &mut sums[index * 64 + left.trailing_zeros() as usize];
                    *sum = sum.wrapping_add(number);
                    left &= left - 1;
                }
            }
        }
        scratch.give_mask(bits);
        mask.fill(0);
        for (index, sum) in sums.iter().enumerate() {
            mask[index / 64] |= u64::from(is_in(self.range, *sum)) << (index % 64);
        }
    }
}

/// Whether a range holds a sum; its ends stand for all that is beyond them.
fn is_in(range: NumberRange, sum: i128) -> bool {
    (range.min == i64::MIN || sum >= range.min.into()) && (range.max == i64::MAX || sum <= range.max.into())
}

fn is_dense(counted: &Counted<'_>) -> bool {
    counted.len as usize > ARRAY_LEN_MAX
}

fn union(terms: &[(Place, Counted<'_>)], target: &mut Words, scratch: &Scratch) -> u32 {
    target.fill([0; 8]);
    for (index, (_, counted)) in terms.iter().enumerate() {
        if let Some((_, next)) = terms.get(index + 1) {
            kernels::prefetch(next.container);
        }
        leaf::add(scratch.level, target, counted.container);
    }
    kernels::count(scratch.level, target)
}

/// Adds up terms of one sign: slices, least significant first.
fn add_up(terms: &[(Place, Counted<'_>)], scratch: &mut Scratch) -> Slices {
    let mut slices = Slices::new();
    for of_byte in terms.chunk_by(|(a, _), (b, _)| a.bit / TALLY_BITS == b.bit / TALLY_BITS) {
        let first_bit = of_byte[0].0.bit / TALLY_BITS * TALLY_BITS;
        let mut tally = scratch.take_tally();
        let mut tallied = 0;
        for (index, (place, counted)) in of_byte.iter().enumerate() {
            if let Some((_, next)) = of_byte.get(index + 1) {
                kernels::prefetch(next.container);
            }
            if is_dense(counted) {
                add_dense(&mut slices, place.bit, counted.container, scratch);
                continue;
            }
            let weight = 1_u8 << (place.bit - first_bit);
            if tallied + usize::from(weight) > TALLY_MAX {
                add_tally(&mut slices, first_bit, &mut tally, scratch);
                tallied = 0;
            }
            kernels::tally_times(&mut tally, counted.container, weight);
            tallied += usize::from(weight);
        }
        if tallied > 0 {
            add_tally(&mut slices, first_bit, &mut tally, scratch);
        }
        scratch.give_tally(tally);
    }
    slices
}

/// Adds a byte a position, and leaves all of them zero.
fn add_tally(slices: &mut Slices, first_bit: u8, tally: &mut kernels::Tally, scratch: &mut Scratch) {
    let mut planes: [Box<WordBuffer>; TALLY_BITS as usize] = std::array::from_fn(|_| scratch.take_words());
    let used = kernels::take_planes(scratch.level, tally, &mut planes.each_mut().map(|plane| &mut ***plane));
    for (bit, plane) in planes.into_iter().enumerate() {
        if used >> bit & 1 == 1 {
            add_words(slices, usize::from(first_bit) + bit, plane, scratch);
        } else {
            scratch.give_words(plane);
        }
    }
}

fn add_dense(slices: &mut Slices, bit: u8, container: Container<'_>, scratch: &mut Scratch) {
    let mut words = scratch.take_words();
    leaf::load(container, &mut words);
    add_words(slices, bit.into(), words, scratch);
}

/// Adds 2^`bit` for each position of `addend`: half adders up to where nothing is carried on.
fn add_words(slices: &mut Slices, bit: usize, mut addend: Box<WordBuffer>, scratch: &mut Scratch) {
    let mut carry = scratch.take_words();
    let mut bit = bit;
    loop {
        while slices.len() <= bit {
            let mut zeros = scratch.take_words();
            zeros.fill([0; 8]);
            slices.push(zeros);
        }
        if !kernels::half_add(scratch.level, &mut slices[bit], &addend, &mut carry) {
            break;
        }
        std::mem::swap(&mut addend, &mut carry);
        bit += 1;
    }
    scratch.give_words(addend);
    scratch.give_words(carry);
}

/// `plus = plus - minus + 2^n`, where `n`, which is answered as a number 2^n, is one more than both have bits: so that no
/// sum is negative and their order is kept.
fn take_off(plus: &mut Slices, minus: &Slices, scratch: &mut Scratch) -> u64 {
    let bits = plus.len().max(minus.len());
    let zeros = |scratch: &mut Scratch| {
        let mut zeros = scratch.take_words();
        zeros.fill([0; 8]);
        zeros
    };
    while plus.len() < bits {
        let zeros = zeros(scratch);
        plus.push(zeros);
    }
    let mut borrow = zeros(scratch);
    let nothing = zeros(scratch);
    for (bit, slice) in plus.iter_mut().enumerate() {
        kernels::subtract(scratch.level, slice, minus.get(bit).unwrap_or(&nothing), &mut borrow);
    }
    scratch.give_words(nothing);
    // Whoever had to borrow is below zero; the others have the uppermost bit.
    kernels::xor_assign(scratch.level, &mut borrow, EVERYBODY);
    plus.push(borrow);
    1 << bits
}

/// Compares slices, whose numbers were raised by `raised`, with the range.
fn compare(target: &mut Words, slices: &Slices, range: NumberRange, raised: u64, scratch: &Scratch) -> u32 {
    let top = slices.len().try_into().ok().and_then(|bits| 1_u64.checked_shl(bits)).map_or(u64::MAX, |bit| bit - 1);
    let bound = |number: i64| i128::from(number) + i128::from(raised);
    let (low, high) = (bound(range.min), bound(range.max));
    let low = if range.min == i64::MIN { 0 } else { low.max(0) };
    let high = if range.max == i64::MAX { top.into() } else { high };
    if low > top.into() || high < 0 || low > high {
        target.fill([0; 8]);
        return 0;
    }
    let (low, high) = (low as u64, high.min(top.into()) as u64);
    let words: Vec<&Words> = slices.iter().map(|slice| &***slice).collect();
    let scan = RangeScan {
        exists: EVERYBODY,
        slices: &words,
        low: (low > 0).then_some(low),
        high: (high < top).then_some(high),
    };
    kernels::range(scratch.level, target, &scan)
}

/// The same for sums that take more than 64 bits; rare, so simple.
fn compare_one_by_one(target: &mut Words, plus: &Slices, minus: &Slices, range: NumberRange) -> u32 {
    let number = |slices: &Slices, position: u16| {
        let bits = slices.iter().map(|words| i128::from(kernels::has_bit(words, position)));
        bits.enumerate().fold(0_i128, |sum, (bit, one)| sum.wrapping_add(one << bit))
    };
    target.fill([0; 8]);
    let mut len = 0;
    for position in 0..=u16::MAX {
        if is_in(range, number(plus, position).wrapping_sub(number(minus, position))) {
            let word = &mut target[usize::from(position >> 6)];
            *word = (u64::from_le_bytes(*word) | 1 << (position & 63)).to_le_bytes();
            len += 1;
        }
    }
    len
}
