//! Range conditions on one layer's numbers, chunk by chunk.
//!
//! Within a chunk, a slice that holds nobody or everybody with a number is the same bit for all. Cardinalities tell,
//! without touching a container, and what can be known from these fixed bits is known at once: whether nobody or everybody
//! fits, and otherwise the range over the bits that do differ. Numbers that follow the order of the slots (a sign-up day)
//! are decided in most chunks this way.

use super::cursor::{Counted, Cursor};
use super::leaf::{add, load, remove};
use super::scratch::{ArrayBuffer, Scratch, WordBuffer};
use crate::bitmap::bsi::{Bounds, NumberRange, NumberView};
use crate::bitmap::kernels::{self, RangeScan};
use crate::bitmap::view::{BitmapView, Container, Le16, Words};

/// One layer's numbers and a range that cuts through them.
#[derive(Debug)]
pub(crate) struct RangeLeaf<'a> {
    exists: Cursor<'a>,
    slices: Vec<Cursor<'a>>,
    low: u64,
    high: u64,
    now: RangeNow<'a>,
}

/// The range in the current chunk.
#[derive(Debug, Default)]
struct RangeNow<'a> {
    /// The slices that differ, least significant first.
    slices: Vec<Container<'a>>,
    /// Bounds over these slices; `None` does not restrict.
    low: Option<u64>,
    high: Option<u64>,
}

/// Who fits in a layer, or in a chunk of it.
pub(crate) enum Fits<T> {
    Nobody,
    /// Everybody with a number.
    Everybody,
    Some(T),
}

impl<'a> RangeLeaf<'a> {
    pub(crate) fn new(number: &NumberView<'a>, range: NumberRange) -> Fits<Self> {
        match Bounds::new(number.base, number.slices.len(), range) {
            Bounds::Nobody => Fits::Nobody,
            Bounds::Everybody => Fits::Everybody,
            Bounds::Between { low, high } => Fits::Some(RangeLeaf {
                exists: Cursor::new(number.exists),
                slices: number.slices.iter().map(|slice| Cursor::new(*slice)).collect(),
                low: low.unwrap_or(0),
                high: high.unwrap_or(u64::MAX),
                now: RangeNow::default(),
            }),
        }
    }

    pub(crate) fn exists(&self) -> BitmapView<'a> {
        self.exists.view()
    }

    /// Users with a number in a chunk.
    pub(crate) fn container(&self, chunk: u16) -> Option<Counted<'a>> {
        self.exists.container(chunk)
    }

    /// Turns to a chunk where `exists` have numbers; answers how many of them are expected to fit if not all or none do.
    pub(crate) fn turn_to(&mut self, chunk: u16, exists: u32) -> Fits<u32> {
        let (mut ones, mut differ) = (0_u64, 0_u64);
        for (bit, slice) in self.slices.iter().enumerate() {
            match slice.len(chunk) {
                0 => {}
                len if len == exists => ones |= 1 << bit,
                _ => differ |= 1 << bit,
            }
        }
        let (Some(low), Some(high)) = (least_from(self.low, ones, differ), greatest_to(self.high, ones, differ)) else {
            return Fits::Nobody;
        };
        if low > high {
            return Fits::Nobody;
        }
        let (is_least, is_greatest) = (low & differ == 0, high & differ == differ);
        if is_least && is_greatest {
            return Fits::Everybody;
        }
        self.now.slices.clear();
        let (mut near, mut far) = (0, 0);
        for (bit, slice) in self.slices.iter().enumerate().filter(|(bit, _)| differ >> bit & 1 == 1) {
            let Some(counted) = slice.container(chunk) else { continue };
            near |= (low >> bit & 1) << self.now.slices.len();
            far |= (high >> bit & 1) << self.now.slices.len();
            self.now.slices.push(counted.container);
        }
        self.now.low = (!is_least).then_some(near);
        self.now.high = (!is_greatest).then_some(far);
        // Below the lowest bit that can fail, everything passes.
        let passing_low = self.now.low.map_or(u64::BITS, u64::trailing_zeros);
        let passing = self.now.high.map_or(u64::BITS, u64::trailing_ones).min(passing_low);
        self.now.slices.drain(..passing as usize);
        for bound in [&mut self.now.low, &mut self.now.high] {
            *bound = bound.map(|bound| bound >> passing);
        }
        let whole = (self.now.slices.len() as f64).exp2();
        let share = (far.wrapping_sub(near) as f64 + 1.0) / whole;
        Fits::Some((f64::from(exists) * share.min(1.0)) as u32 + 1)
    }

    /// Slices that a comparison reads in the current chunk.
    pub(crate) fn slice_count(&self) -> usize {
        self.now.slices.len()
    }

    /// Bytes of the slices that a comparison reads in the current chunk.
    pub(crate) fn slice_bytes(&self) -> u64 {
        self.now.slices.iter().map(|slice| slice.size_bytes() as u64).sum()
    }

    /// Writes who fits in the current chunk; answers how many.
    pub(crate) fn load(&self, target: &mut Words, exists: Container<'a>, scratch: &mut Scratch) -> u32 {
        let split = self.sparse_from();
        let (slices, sparse) = self.now.slices.split_at(split);
        let below = |bound: u64| bound & low_bits(split);
        let scan = Scan { slices, low: self.now.low.map(below), high: self.now.high.map(below) };
        if sparse.is_empty() {
            return scan.load(target, exists, scratch);
        }
        // A number with a bit among the sparse slices is above any bound that has none there.
        let scan = Scan {
            low: scan.low.filter(|low| *low > 0),
            high: scan.high.filter(|high| *high < low_bits(split)),
            ..scan
        };
        scan.load(target, exists, scratch);
        for slice in sparse {
            match self.now.high {
                Some(_) => remove(scratch.level, target, *slice),
                None => add(scratch.level, target, *slice),
            }
        }
        kernels::count(scratch.level, target)
    }

    /// The first of the uppermost slices that can be put right after the others were compared, because they hold few and
    /// no bound has a bit there: the rare large numbers.
    fn sparse_from(&self) -> usize {
        let slices = &self.now.slices;
        let dense = slices.iter().rposition(|slice| matches!(slice, Container::Words(_))).map_or(0, |last| last + 1);
        let bits = self.now.low.unwrap_or(0) | self.now.high.unwrap_or(0);
        dense.max((u64::BITS - bits.leading_zeros()) as usize).min(slices.len())
    }

    /// Who fits of all who have a number in the current chunk.
    pub(crate) fn few(&self, exists: &[Le16], scratch: &mut Scratch) -> Box<ArrayBuffer> {
        let mut mask = scratch.take_mask();
        let words = exists.len().div_ceil(64);
        mask[..words].fill(0);
        self.probe(exists, &mut mask[..words], Container::Array(exists), scratch);
        let mut fitting = scratch.take_array();
        fitting.len = kernels::select_mask(scratch.level, exists, &mask[..words], true, &mut fitting.room);
        scratch.give_mask(mask);
        fitting
    }

    /// Sets the bits of those candidates who fit. The mask has a bit for each.
    pub(crate) fn probe(&self, candidates: &[Le16], mask: &mut [u64], exists: Container<'_>, scratch: &mut Scratch) {
        let count = mask.len();
        let mut bits = scratch.take_mask();
        let mut above = scratch.take_mask();
        let mut below = scratch.take_mask();
        above[..count].fill(!0);
        below[..count].fill(!0);
        for (index, slice) in self.now.slices.iter().enumerate() {
            bits[..count].fill(0);
            kernels::probe(scratch.level, candidates, *slice, &mut bits[..count]);
            for word in 0..count {
                let bit = bits[word];
                if let Some(low) = self.now.low {
                    above[word] = if low >> index & 1 == 1 { above[word] & bit } else { above[word] | bit };
                }
                if let Some(high) = self.now.high {
                    below[word] = if high >> index & 1 == 1 { below[word] | !bit } else { below[word] & !bit };
                }
            }
        }
        bits[..count].fill(0);
        kernels::probe(scratch.level, candidates, exists, &mut bits[..count]);
        for word in 0..count {
            mask[word] |= above[word] & below[word] & bits[word];
        }
        for mask in [bits, above, below] {
            scratch.give_mask(mask);
        }
    }
}

/// A comparison of some slices with bounds over them; `None` does not restrict.
struct Scan<'s, 'a> {
    slices: &'s [Container<'a>],
    low: Option<u64>,
    high: Option<u64>,
}

impl<'a> Scan<'_, 'a> {
    fn load(&self, target: &mut Words, exists: Container<'a>, scratch: &mut Scratch) -> u32 {
        if self.low.is_none() && self.high.is_none() {
            load(exists, target);
            return kernels::count(scratch.level, target);
        }
        let mut held: [Option<Box<WordBuffer>>; 65] = [const { None }; 65];
        for (held, container) in held.iter_mut().zip(self.slices.iter().chain([&exists])) {
            if !matches!(container, Container::Words(_)) {
                let mut words = scratch.take_words();
                load(*container, &mut words);
                *held = Some(words);
            }
        }
        let count = self.slices.len();
        let words = |index: usize, container: Container<'a>| match (&held[index], container) {
            (Some(held), _) => &***held,
            (None, Container::Words(words)) => words,
            (None, _) => unreachable!("what is not words is held"),
        };
        let exists = words(count, exists);
        let mut slices = [exists; 64];
        for (index, container) in self.slices.iter().enumerate() {
            slices[index] = words(index, *container);
        }
        let scan = RangeScan { exists, slices: &slices[..count], low: self.low, high: self.high };
        let len = kernels::range(scratch.level, target, &scan);
        for words in held.into_iter().flatten() {
            scratch.give_words(words);
        }
        len
    }
}

/// The lowest `count` bits; all of them from 64 on.
fn low_bits(count: usize) -> u64 {
    1_u64.checked_shl(count as u32).map_or(u64::MAX, |bit| bit - 1)
}

/// The least number of at least `bound` among those with all the bits `ones`, any of `differ`, and no others.
fn least_from(bound: u64, ones: u64, differ: u64) -> Option<u64> {
    let mut number = ones;
    // The lowest bit passed so far that may be raised instead of following the bound.
    let mut raise = None;
    for bit in (0..u64::BITS).rev() {
        let flag = 1 << bit;
        let wanted = bound & flag;
        if differ & flag != 0 {
            number |= wanted;
            if wanted == 0 {
                raise = Some(flag);
            }
        } else if ones & flag > wanted {
            return Some(number);
        } else if ones & flag < wanted {
            let flag = raise?;
            return Some(number & !(differ & (flag - 1)) | flag);
        }
    }
    Some(number)
}

/// The greatest number of at most `bound` among those with all the bits `ones`, any of `differ`, and no others.
fn greatest_to(bound: u64, ones: u64, differ: u64) -> Option<u64> {
    least_from(!bound, !ones & !differ, differ).map(|number| !number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_over_fixed_bits(bound in 0..80_u64, ones in 0..64_u64, differ in 0..64_u64) {
            let ones = ones & !differ;
            let possible: Vec<u64> = (0..64).filter(|number| number & !differ == ones).collect();
            prop_assert_eq!(least_from(bound, ones, differ), possible.iter().copied().find(|number| *number >= bound));
            prop_assert_eq!(greatest_to(bound, ones, differ), possible.iter().copied().rfind(|number| *number <= bound));
        }
    }
}
