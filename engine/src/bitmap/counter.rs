//! Counters of many users as bit slices, on the side that writes: made, added, settled.
//!
//! Source: D. Rinfret, P. O'Neil and E. O'Neil, "Bit-sliced index arithmetic" (2001). The side that reads adds in
//! `evaluate::sum`.

use roaring::RoaringBitmap;

/// A number of at least 0 for each user; those who are in no slice have 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counter {
    /// Bit `i` of the number; the last one is not empty.
    slices: Vec<RoaringBitmap>,
}

impl Counter {
    /// A counter of these users' numbers; slots must rise.
    ///
    /// # Panics
    /// If they do not.
    pub fn of(numbers: impl IntoIterator<Item = (u32, u128)>) -> Counter {
        let mut slices: Vec<Vec<u32>> = Vec::new();
        for (slot, number) in numbers {
            let mut bits = number;
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                if bit >= slices.len() {
                    slices.resize_with(bit + 1, Vec::new);
                }
                slices[bit].push(slot);
                bits &= bits - 1;
            }
        }
        let rising = |slots| RoaringBitmap::from_sorted_iter(slots).expect("the caller gives rising slots");
        Counter { slices: slices.into_iter().map(rising).collect() }
    }

    /// Whether everybody has 0.
    pub fn is_zero(&self) -> bool {
        self.slices.is_empty()
    }

    /// Bit `i` of the numbers, least significant first.
    pub fn into_slices(self) -> Vec<RoaringBitmap> {
        self.slices
    }

    /// Adds 2^`bit` for each of these users.
    pub fn add(&mut self, bit: usize, users: RoaringBitmap) {
        let mut carry = users;
        let mut bit = bit;
        while !carry.is_empty() {
            if bit >= self.slices.len() {
                self.slices.resize_with(bit + 1, RoaringBitmap::new);
            }
            let slice = &mut self.slices[bit];
            let next = &*slice & &carry;
            *slice ^= carry;
            carry = next;
            bit += 1;
        }
    }

    /// Adds the numbers of another counter.
    pub fn absorb(&mut self, other: Counter) {
        if self.is_zero() {
            *self = other;
            return;
        }
        other.slices.into_iter().enumerate().for_each(|(bit, users)| self.add(bit, users));
    }

    /// Takes off both counters what they have in common, so that at most one of them has a number for each user.
    pub fn settle(&mut self, other: &mut Counter) {
        if self.is_zero() || other.is_zero() {
            return;
        }
        let both = self.users() & other.users();
        if both.is_empty() {
            return;
        }
        let (mine, theirs) = (self.take(&both), other.take(&both));
        let pairs = || both.iter().zip(mine.iter().zip(&theirs));
        self.absorb(Counter::of(pairs().map(|(slot, (a, b))| (slot, a.saturating_sub(*b)))));
        other.absorb(Counter::of(pairs().map(|(slot, (a, b))| (slot, b.saturating_sub(*a)))));
    }

    /// Users with a number above 0.
    fn users(&self) -> RoaringBitmap {
        self.slices.iter().fold(RoaringBitmap::new(), |users, slice| users | slice)
    }

    /// The numbers of these users, which have 0 then.
    fn take(&mut self, users: &RoaringBitmap) -> Vec<u128> {
        let mut numbers = vec![0; users.len() as usize];
        for (bit, slice) in self.slices.iter_mut().enumerate() {
            for slot in (&*slice & users).iter() {
                // A member's rank counts itself.
                numbers[users.rank(slot) as usize - 1] |= 1_u128 << bit;
            }
            *slice -= users;
        }
        while self.slices.last().is_some_and(RoaringBitmap::is_empty) {
            self.slices.pop();
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn numbers() -> impl Strategy<Value = BTreeMap<u32, u128>> {
        let slot = prop_oneof![0..20_u32, 65_530..65_545_u32];
        let number = prop_oneof![0..6_u128, any::<u64>().prop_map(u128::from)];
        proptest::collection::btree_map(slot, number, 0..20)
    }

    fn counter(numbers: &BTreeMap<u32, u128>) -> Counter {
        Counter::of(numbers.iter().map(|(slot, number)| (*slot, *number)))
    }

    proptest! {
        #[test]
        fn sums_and_differences_are_those_of_the_numbers(a in numbers(), b in numbers()) {
            let of = |numbers: &BTreeMap<u32, u128>, slot: u32| numbers.get(&slot).copied().unwrap_or(0);
            let slots: Vec<u32> = { let mut s: Vec<u32> = a.keys().chain(b.keys()).copied().collect(); s.sort_unstable(); s.dedup(); s };
            let mut sum = counter(&a);
            sum.absorb(counter(&b));
            prop_assert_eq!(sum, Counter::of(slots.iter().map(|slot| (*slot, of(&a, *slot) + of(&b, *slot)))));
            let (mut left, mut right) = (counter(&a), counter(&b));
            left.settle(&mut right);
            prop_assert_eq!(left, Counter::of(slots.iter().map(|slot| (*slot, of(&a, *slot).saturating_sub(of(&b, *slot))))));
            prop_assert_eq!(right, Counter::of(slots.iter().map(|slot| (*slot, of(&b, *slot).saturating_sub(of(&a, *slot))))));
        }
    }
}
