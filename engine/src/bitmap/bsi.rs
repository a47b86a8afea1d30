//! Bit-sliced numbers.
//!
//! A [`NumberView`] holds `value - base` of each user in `exists` as unsigned bit slices, least significant first;
//! `base` is at most the smallest value present. Arithmetic wraps in 64 bits, so all of `i64` is covered.
//!
//! Source: O'Neil and Quass, "Improved Query Performance with Variant Indexes" (1997); Rinfret, O'Neil and O'Neil,
//! "Bit-sliced index arithmetic" (2001). Comparisons are in `evaluate`, figures in
//! [`super::numbers`].

use super::view::BitmapView;
use roaring::RoaringBitmap;

pub use super::numbers::{NumberLayer, NumberReader, NumberSummary, Sum};

/// One layer's numbers of one tag.
#[derive(Clone, Debug)]
pub struct NumberView<'a> {
    /// Users with a number in this layer.
    pub exists: BitmapView<'a>,
    /// What is added to every slice sum.
    pub base: i64,
    /// Bit `i` of `value - base`; at most 64.
    pub slices: Vec<BitmapView<'a>>,
}

impl NumberView<'_> {
    /// The number of a user in this layer. A search in each slice: for single users.
    pub fn get(&self, slot: u32) -> Option<i64> {
        if !self.exists.contains(slot) {
            return None;
        }
        let bits = self.slices.iter().enumerate().map(|(bit, slice)| u64::from(slice.contains(slot)) << bit);
        Some(self.base.wrapping_add(bits.sum::<u64>() as i64))
    }
}

/// A closed range of numbers; every comparison is one (or a complement within `exists`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NumberRange {
    /// Least number in the range.
    pub min: i64,
    /// Greatest number in the range; below `min` the range is empty.
    pub max: i64,
}

impl Default for NumberRange {
    /// Whatever there is at least one of.
    fn default() -> Self {
        NumberRange { min: 1, max: i64::MAX }
    }
}

impl NumberRange {
    /// All numbers.
    pub const ALL: NumberRange = NumberRange { min: i64::MIN, max: i64::MAX };

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// Whether it holds this number.
    pub fn contains(&self, number: i64) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// A range in terms of one layer's slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// No number of the layer can be in it.
    Nobody,
    /// Every number of the layer is in it.
    Everybody,
    /// Slice sums `low..=high`; `None` where that side does not restrict.
    Between { low: Option<u64>, high: Option<u64> },
}

impl Bounds {
    pub(super) fn new(base: i64, slice_count: usize, range: NumberRange) -> Bounds {
        let top = if slice_count >= 64 { u64::MAX } else { (1 << slice_count) - 1 };
        if range.is_empty() || range.max < base {
            return Bounds::Nobody;
        }
        let above_base = |number: i64| number.wrapping_sub(base) as u64;
        let low = if range.min <= base { 0 } else { above_base(range.min) };
        let high = above_base(range.max);
        if low > top {
            return Bounds::Nobody;
        }
        match ((low > 0).then_some(low), (high < top).then_some(high)) {
            (None, None) => Bounds::Everybody,
            (low, high) => Bounds::Between { low, high },
        }
    }
}

/// Numbers of many users as slices, ready to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// The least number; 0 if there are none.
    pub base: i64,
    /// Users with a number.
    pub exists: RoaringBitmap,
    /// Bit `i` of `number - base`.
    pub slices: Vec<RoaringBitmap>,
}

impl Encoded {
    /// A layer's numbers, to be changed.
    pub fn of(view: &NumberView<'_>) -> Encoded {
        Encoded {
            base: view.base,
            exists: view.exists.to_bitmap(),
            slices: view.slices.iter().map(BitmapView::to_bitmap).collect(),
        }
    }

    /// Forgets the numbers of these users.
    pub fn forget(&mut self, users: &RoaringBitmap) {
        self.exists -= users;
        self.slices.iter_mut().for_each(|slice| *slice -= users);
    }

    /// Takes over the numbers of other users; no user may be in both.
    pub fn absorb(&mut self, mut others: Encoded) {
        if self.exists.is_empty() || others.exists.is_empty() {
            if self.exists.is_empty() {
                *self = others;
            }
            return;
        }
        let base = self.base.min(others.base);
        for numbers in [&mut *self, &mut others] {
            numbers.add(numbers.base.wrapping_sub(base) as u64, u64::BITS as usize);
            numbers.base = base;
        }
        self.exists |= others.exists;
        self.slices.resize_with(self.slices.len().max(others.slices.len()), RoaringBitmap::new);
        self.slices.iter_mut().zip(others.slices).for_each(|(slice, other)| *slice |= other);
    }

    /// Makes the least number the base, so that there are as few slices as can be.
    pub fn tighten(&mut self) {
        if self.exists.is_empty() {
            *self = Encoded::default();
            return;
        }
        let (mut least, mut smallest) = (0_u64, self.exists.clone());
        for (bit, slice) in self.slices.iter().enumerate().rev() {
            let clear = &smallest - slice;
            if clear.is_empty() {
                least |= 1 << bit;
            } else {
                smallest = clear;
            }
        }
        // No sum is below the least, so taking it off borrows from nowhere: adding its complement, cut off, is the same.
        self.add(least.wrapping_neg(), self.slices.len());
        self.base = self.base.wrapping_add(least as i64);
        while self.slices.last().is_some_and(RoaringBitmap::is_empty) {
            self.slices.pop();
        }
    }

    /// Adds a number to every slice sum, modulo 2^`width`: a ripple-carry adder.
    fn add(&mut self, number: u64, width: usize) {
        let mut carry = RoaringBitmap::new();
        for bit in 0..width {
            if number >> bit == 0 && carry.is_empty() {
                return;
            }
            if bit == self.slices.len() {
                self.slices.push(RoaringBitmap::new());
            }
            let slice = &mut self.slices[bit];
            if number >> bit & 1 == 1 {
                let next = &*slice | &carry;
                *slice ^= carry;
                *slice = &self.exists - &*slice;
                carry = next;
            } else {
                let next = &*slice & &carry;
                *slice ^= carry;
                carry = next;
            }
        }
    }
}

/// Slices numbers; slots must rise.
///
/// # Panics
/// If they do not.
pub fn encode(numbers: &[(u32, i64)]) -> Encoded {
    let Some(base) = numbers.iter().map(|(_, number)| *number).min() else { return Encoded::default() };
    let above_base = |number: i64| number.wrapping_sub(base) as u64;
    let top = numbers.iter().map(|(_, number)| above_base(*number)).max().unwrap_or(0);
    let mut slices = vec![vec![]; (u64::BITS - top.leading_zeros()) as usize];
    for &(slot, number) in numbers {
        let mut bits = above_base(number);
        while bits != 0 {
            slices[bits.trailing_zeros() as usize].push(slot);
            bits &= bits - 1;
        }
    }
    let rising = |slots: Vec<u32>| RoaringBitmap::from_sorted_iter(slots).expect("the caller gives rising slots");
    let exists = rising(numbers.iter().map(|(slot, _)| *slot).collect());
    Encoded { base, exists, slices: slices.into_iter().map(rising).collect() }
}

/// All numbers of one layer, by rising slot; what checks compare with.
pub fn decode(view: &NumberView<'_>) -> Vec<(u32, i64)> {
    let mut numbers: Vec<(u32, i64)> = view.exists.iter().map(|slot| (slot, 0)).collect();
    for (bit, slice) in view.slices.iter().enumerate() {
        let mut at = 0;
        for slot in slice.iter() {
            while at < numbers.len() && numbers[at].0 < slot {
                at += 1;
            }
            if let Some(entry) = numbers.get_mut(at).filter(|entry| entry.0 == slot) {
                entry.1 |= 1 << bit;
            }
        }
    }
    numbers.iter_mut().for_each(|(_, number)| *number = number.wrapping_add(view.base));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![0..20i64, -1_000..1_000i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    fn numbers() -> impl Strategy<Value = BTreeMap<u32, i64>> {
        proptest::collection::btree_map(0..150_000u32, number(), 0..40)
    }

    fn encoded(numbers: &BTreeMap<u32, i64>) -> Encoded {
        encode(&numbers.iter().map(|(slot, number)| (*slot, *number)).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn layers_become_what_their_numbers_encode_to(layers in proptest::collection::vec(numbers(), 1..5), gone in numbers()) {
            let (mut seen, mut expected) = (RoaringBitmap::new(), BTreeMap::new());
            seen.extend(gone.keys());
            let mut merged = Encoded::default();
            for layer in &layers {
                let mut here = encoded(layer);
                here.forget(&seen);
                merged.absorb(here);
                for (slot, number) in layer {
                    if seen.insert(*slot) {
                        expected.insert(*slot, *number);
                    }
                }
            }
            merged.tighten();
            prop_assert_eq!(merged, encoded(&expected));
        }
    }
}
