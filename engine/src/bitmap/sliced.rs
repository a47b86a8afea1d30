//! Numbers by key, bit-sliced: who has one, and for each bit who has it. A value like a bitmap, that goes in and out as bytes.
//!
//! Numbers are signed 64-bit integers in two's complement with as many slices as the largest one needs, the last of which is the sign;
//! a key without a number is in no slice. 0 is a number. Nothing here changes its operands.
//!
//! The bytes, little-endian: `BSI1`; the number of slices, one byte, at most 64; then who has a number, and the slices from the
//! lowest bit on, each as its length in four bytes and its bitmap as [`super::wide`] writes it.
//!
//! Source: P. O'Neil and D. Quass, "Improved Query Performance with Variant Indexes", SIGMOD 1997, sections 4.1 and 4.2.

use super::wide::{WideView, encode, heap_bytes};
use roaring::RoaringTreemap;
use std::ops::ControlFlow;

const MAGIC: &[u8; 4] = b"BSI1";
/// Bits of a number.
const SLICES_MAX: usize = 64;

/// Numbers by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sliced {
    exists: RoaringTreemap,
    /// From the lowest bit on; the last is the sign. None if every number is 0.
    slices: Vec<RoaringTreemap>,
}

/// Why there are no such numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlicedError {
    /// The bytes are something else.
    #[error("not numbers in bit slices: at byte {offset_bytes}: {what}")]
    Format {
        /// Where.
        offset_bytes: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A number would need more than 64 bits.
    #[error("the number of key {key} does not fit 64 bits")]
    Overflow {
        /// Whose.
        key: u64,
    },
    /// Two that are merged have a key in common.
    #[error("both have a number for key {key}; add them up, or leave it out of one")]
    Common {
        /// The least such key.
        key: u64,
    },
}

/// How numbers compare to one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Who has less.
    pub less: RoaringTreemap,
    /// Who has the same.
    pub equal: RoaringTreemap,
    /// Who has more.
    pub more: RoaringTreemap,
}

impl Sliced {
    /// Numbers of keys; those of the same key add up.
    ///
    /// # Errors
    /// [`SlicedError::Overflow`].
    pub fn from_pairs(mut pairs: Vec<(u64, i64)>) -> Result<Sliced, SlicedError> {
        pairs.sort_unstable_by_key(|(key, _)| *key);
        let mut sliced = Sliced::default();
        let mut slices = vec![Vec::new(); SLICES_MAX];
        let mut keys = Vec::new();
        for same in pairs.chunk_by(|(a, _), (b, _)| a == b) {
            let key = same[0].0;
            let sum: i128 = same.iter().map(|(_, number)| i128::from(*number)).sum();
            let number = i64::try_from(sum).map_err(|_| SlicedError::Overflow { key })?;
            keys.push(key);
            let mut bits = number.cast_unsigned();
            while bits != 0 {
                slices[bits.trailing_zeros() as usize].push(key);
                bits &= bits - 1;
            }
        }
        sliced.exists.extend(keys);
        sliced.slices = slices.into_iter().map(|keys| keys.into_iter().collect()).collect();
        sliced.trim();
        Ok(sliced)
    }

    /// Without slices that say the same as the one below.
    fn trim(&mut self) {
        loop {
            match &self.slices[..] {
                [.., below, last] if below == last => {}
                [only] if only.is_empty() => {}
                _ => return,
            }
            self.slices.pop();
        }
    }

    /// Who has a number.
    pub fn exists(&self) -> &RoaringTreemap {
        &self.exists
    }

    /// The number of a key.
    pub fn get(&self, key: u64) -> Option<i64> {
        self.exists.contains(key).then(|| {
            let bit = |(bit, slice): (usize, &RoaringTreemap)| i64::from(slice.contains(key)) << bit;
            let number = self.slices.iter().enumerate().map(bit).fold(0, |number, bit| number | bit);
            // The sign goes on to the last bit.
            let unused = SLICES_MAX - self.slices.len().max(1);
            number << unused >> unused
        })
    }

    /// Keys and numbers, by rising key.
    pub fn iter(&self) -> impl Iterator<Item = (u64, i64)> {
        self.exists.iter().filter_map(|key| Some((key, self.get(key)?)))
    }

    /// From the highest bit on, turned so that who has a bit has the larger number; with what the bit of a number would be.
    fn turned(&self) -> impl Iterator<Item = (usize, RoaringTreemap)> {
        let sign = self.slices.len().wrapping_sub(1);
        let turn = move |bit, slice: &RoaringTreemap| if bit == sign { &self.exists - slice } else { slice.clone() };
        self.slices.iter().enumerate().rev().map(move |(bit, slice)| (bit, turn(bit, slice)))
    }

    /// Compares the numbers of these keys (all, if `None`) to one.
    pub fn compare(&self, to: i64, among: Option<&RoaringTreemap>) -> Compared {
        let mut compared = Compared { equal: self.among(among), ..Compared::default() };
        // The least and the greatest number that the slices could say.
        let bits = self.slices.len().max(1) - 1;
        let (least, greatest) = (-(1i128 << bits), (1i128 << bits) - 1);
        if self.slices.is_empty() && to == 0 {
            return compared;
        }
        let everybody = |compared: &mut Compared| std::mem::take(&mut compared.equal);
        if self.slices.is_empty() {
            let all = everybody(&mut compared);
            *(if to > 0 { &mut compared.less } else { &mut compared.more }) = all;
            return compared;
        }
        if i128::from(to) > greatest {
            compared.less = everybody(&mut compared);
            return compared;
        }
        if i128::from(to) < least {
            compared.more = everybody(&mut compared);
            return compared;
        }
        let sign = self.slices.len() - 1;
        for (bit, slice) in self.turned() {
            let has_bit = (to >> bit & 1 == 1) != (bit == sign);
            if has_bit {
                compared.less |= &compared.equal - &slice;
                compared.equal &= slice;
            } else {
                compared.more |= &compared.equal & &slice;
                compared.equal -= slice;
            }
        }
        compared
    }

    /// Who has a number from `least` to `greatest`, both included.
    pub fn range(&self, least: i64, greatest: i64, among: Option<&RoaringTreemap>) -> RoaringTreemap {
        let low = self.compare(least, among);
        let high = self.compare(greatest, among);
        (low.equal | low.more) & (high.equal | high.less)
    }

    /// Which of these keys have a number.
    fn among(&self, among: Option<&RoaringTreemap>) -> RoaringTreemap {
        among.map_or_else(|| self.exists.clone(), |among| &self.exists & among)
    }

    /// The sum of the numbers of these keys, and how many there are.
    pub fn sum(&self, among: Option<&RoaringTreemap>) -> (i128, u64) {
        let len = |set: &RoaringTreemap| among.map_or_else(|| set.len(), |among| set.intersection_len(among));
        let mut sum = 0i128;
        for (bit, slice) in self.slices.iter().enumerate() {
            let part = i128::from(len(slice)) << bit;
            sum += if bit + 1 == self.slices.len() { -part } else { part };
        }
        (sum, len(&self.exists))
    }

    /// The `k` keys with the greatest numbers; of those with the same, the least keys.
    pub fn top_k(&self, k: u64, among: Option<&RoaringTreemap>) -> RoaringTreemap {
        let mut open = self.among(among);
        let mut found = RoaringTreemap::new();
        for (_, slice) in self.turned() {
            let more = &open & &slice;
            if found.len() + more.len() > k {
                open = more;
            } else {
                open -= slice;
                found |= more;
            }
        }
        let left = k.saturating_sub(found.len());
        found.extend(open.iter().take(usize::try_from(left).unwrap_or(usize::MAX)));
        found
    }

    /// Calls with each number that there is and who has it, by rising number, until it breaks.
    pub fn for_each_number(&self, mut call: impl FnMut(i64, &RoaringTreemap) -> ControlFlow<()>) {
        let turned: Vec<(usize, RoaringTreemap)> = self.turned().collect();
        let mut open = vec![(0, 0i64, self.exists.clone())];
        while let Some((depth, number, who)) = open.pop() {
            if who.is_empty() {
                continue;
            }
            let Some((bit, slice)) = turned.get(depth) else {
                if call(number, &who).is_break() {
                    return;
                }
                continue;
            };
            let is_sign = depth == 0;
            let (low, high) = if is_sign { (-1 << bit, 0) } else { (number, number | 1 << bit) };
            // What was put last is taken first.
            open.push((depth + 1, high, &who & slice));
            open.push((depth + 1, low, who - slice));
        }
    }

    /// The numbers of these keys alone.
    pub fn filter(&self, among: &RoaringTreemap) -> Sliced {
        let slices = self.slices.iter().map(|slice| slice & among).collect();
        let mut filtered = Sliced { exists: &self.exists & among, slices };
        filtered.trim();
        filtered
    }

    /// The numbers of both; where both have one, their sum.
    ///
    /// # Errors
    /// [`SlicedError::Overflow`].
    pub fn add(&self, other: &Sliced) -> Result<Sliced, SlicedError> {
        let exists = &self.exists | &other.exists;
        let count = self.slices.len().max(other.slices.len()) + 1;
        let none = RoaringTreemap::new();
        let mut carry = RoaringTreemap::new();
        let mut slices = Vec::with_capacity(count);
        for bit in 0..count {
            // Above the last slice the sign goes on.
            let of = |sliced: &'_ Sliced| sliced.slices.get(bit).or(sliced.slices.last()).cloned();
            let (a, b) = (of(self).unwrap_or_else(|| none.clone()), of(other).unwrap_or_else(|| none.clone()));
            let either = &a ^ &b;
            slices.push(&either ^ &carry);
            carry = (a & b) | (either & carry);
        }
        let mut sum = Sliced { exists, slices };
        sum.trim();
        if sum.slices.len() > SLICES_MAX {
            let beyond = &sum.slices[SLICES_MAX] ^ &sum.slices[SLICES_MAX - 1];
            let key = beyond.min().unwrap_or_default();
            return Err(SlicedError::Overflow { key });
        }
        Ok(sum)
    }

    /// The numbers of both, which have no key in common.
    ///
    /// # Errors
    /// [`SlicedError::Common`].
    pub fn merge(&self, other: &Sliced) -> Result<Sliced, SlicedError> {
        if let Some(key) = (&self.exists & &other.exists).min() {
            return Err(SlicedError::Common { key });
        }
        self.add(other)
    }

    /// Bytes of memory, nearly.
    pub fn heap_bytes(&self) -> usize {
        heap_bytes(&self.exists) + self.slices.iter().map(heap_bytes).sum::<usize>()
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(self.slices.len() as u8);
        for set in std::iter::once(&self.exists).chain(&self.slices) {
            let bytes = encode(set);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Checks the bytes and takes them; what is held is smaller than a few times the bytes.
    ///
    /// # Errors
    /// [`SlicedError::Format`].
    pub fn decode(bytes: &[u8]) -> Result<Sliced, SlicedError> {
        let refuse = |offset_bytes, what| Err(SlicedError::Format { offset_bytes, what });
        let Some((count, mut rest)) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first()) else {
            return refuse(0, "they do not begin with BSI1 and how many slices there are");
        };
        if usize::from(*count) > SLICES_MAX {
            return refuse(MAGIC.len(), "more than 64 slices");
        }
        let mut sliced = Sliced::default();
        for index in 0..=*count {
            let at = bytes.len() - rest.len();
            let Some((len, behind)) = rest.split_first_chunk::<4>() else { return refuse(at, "a length is cut short") };
            let Some((set, behind)) = behind.split_at_checked(u32::from_le_bytes(*len) as usize) else {
                return refuse(at, "a slice is cut short");
            };
            rest = behind;
            let view = WideView::new(set)
                .map_err(|error| SlicedError::Format { offset_bytes: at + 4 + error.offset_bytes, what: error.what })?;
            let set = view.to_set();
            if index == 0 {
                sliced.exists = set;
            } else if set.is_subset(&sliced.exists) {
                sliced.slices.push(set);
            } else {
                return refuse(at, "a slice has keys that have no number");
            }
        }
        if !rest.is_empty() {
            return refuse(bytes.len() - rest.len(), "bytes follow the last slice");
        }
        sliced.trim();
        Ok(sliced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![4 => -8..8i64, 2 => -3000..3000i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![6 => 0..40u64, 1 => 65_530..65_540u64, 1 => (1u64 << 32)..(1 << 32) + 5]
    }

    fn numbers() -> impl Strategy<Value = BTreeMap<u64, i64>> {
        proptest::collection::btree_map(key(), number(), 0..30)
    }

    fn sliced(numbers: &BTreeMap<u64, i64>) -> Sliced {
        Sliced::from_pairs(numbers.iter().map(|(key, number)| (*key, *number)).collect()).expect("no sums")
    }

    fn keys(set: &RoaringTreemap) -> Vec<u64> {
        set.iter().collect()
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in numbers(), probes in proptest::collection::vec(key(), 0..20)) {
            let made = sliced(&numbers);
            prop_assert!(made.iter().eq(numbers.iter().map(|(key, number)| (*key, *number))));
            for probe in probes {
                prop_assert_eq!(made.get(probe), numbers.get(&probe).copied());
            }
            let bytes = made.encode();
            prop_assert_eq!(&Sliced::decode(&bytes).expect("valid"), &made);
            let by_number = numbers.iter().fold(BTreeMap::<i64, Vec<u64>>::new(), |mut all, (key, number)| {
                all.entry(*number).or_default().push(*key);
                all
            });
            let mut found = Vec::new();
            made.for_each_number(|number, who| {
                found.push((number, keys(who)));
                ControlFlow::Continue(())
            });
            prop_assert!(found.into_iter().eq(by_number));
        }

        #[test]
        fn questions_have_the_answers_of_plain_numbers(
            numbers in numbers(),
            crowd in proptest::option::of(proptest::collection::btree_set(key(), 0..30)),
            (to, least, greatest, k) in (number(), number(), number(), 0..12u64),
        ) {
            let made = sliced(&numbers);
            let set: Option<RoaringTreemap> = crowd.as_ref().map(|crowd| crowd.iter().copied().collect());
            let in_crowd = |key: &u64| crowd.as_ref().is_none_or(|crowd: &BTreeSet<u64>| crowd.contains(key));
            let those: BTreeMap<u64, i64> =
                numbers.iter().filter(|(key, _)| in_crowd(key)).map(|(key, number)| (*key, *number)).collect();
            let with = |wanted: &dyn Fn(i64) -> bool| -> Vec<u64> {
                those.iter().filter(|(_, number)| wanted(**number)).map(|(key, _)| *key).collect()
            };
            for to in [to, 0, -1, numbers.values().copied().max().unwrap_or(1)] {
                let compared = made.compare(to, set.as_ref());
                prop_assert_eq!(keys(&compared.less), with(&|number| number < to));
                prop_assert_eq!(keys(&compared.equal), with(&|number| number == to));
                prop_assert_eq!(keys(&compared.more), with(&|number| number > to));
            }
            let found = made.range(least, greatest, set.as_ref());
            prop_assert_eq!(keys(&found), with(&|number| least <= number && number <= greatest));
            let sum: i128 = those.values().map(|number| i128::from(*number)).sum();
            prop_assert_eq!(made.sum(set.as_ref()), (sum, those.len() as u64));
            let mut ordered: Vec<(std::cmp::Reverse<i64>, u64)> =
                those.iter().map(|(key, number)| (std::cmp::Reverse(*number), *key)).collect();
            ordered.sort_unstable();
            let mut top: Vec<u64> = ordered.into_iter().take(k as usize).map(|(_, key)| key).collect();
            top.sort_unstable();
            prop_assert_eq!(keys(&made.top_k(k, set.as_ref())), top);
            if let Some(set) = &set {
                prop_assert_eq!(&made.filter(set), &sliced(&those));
            }
            prop_assert_eq!(made, sliced(&numbers));
        }

        #[test]
        fn sums_are_those_of_plain_numbers(a in numbers(), b in numbers()) {
            let mut sums: BTreeMap<u64, i128> = BTreeMap::new();
            for (key, number) in a.iter().chain(&b) {
                *sums.entry(*key).or_default() += i128::from(*number);
            }
            let beyond = sums.values().any(|sum| i64::try_from(*sum).is_err());
            let (first, second) = (sliced(&a), sliced(&b));
            let pairs = a.iter().chain(&b).map(|(key, number)| (*key, *number)).collect();
            match (first.add(&second), Sliced::from_pairs(pairs)) {
                (Ok(added), Ok(built)) => {
                    prop_assert!(!beyond);
                    prop_assert!(added.iter().eq(sums.into_iter().map(|(key, sum)| (key, sum as i64))));
                    prop_assert_eq!(added, built);
                }
                (Err(SlicedError::Overflow { key }), Err(SlicedError::Overflow { .. })) => {
                    prop_assert!(i64::try_from(sums[&key]).is_err());
                }
                other => prop_assert!(false, "{other:?}"),
            }
            let common = a.keys().find(|key| b.contains_key(key));
            match (first.merge(&second), common) {
                (Ok(merged), None) => prop_assert_eq!(merged.exists().len() as usize, a.len() + b.len()),
                (Err(SlicedError::Common { key }), Some(common)) => prop_assert_eq!(key, *common),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn any_damage_is_refused_or_understood(numbers in numbers(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let good = sliced(&numbers).encode();
            prop_assert!(Sliced::decode(&good[..at.index(good.len())]).is_err());
            let mut bad = good;
            let at = at.index(bad.len());
            bad[at] ^= 1 << bit;
            if let Ok(read) = Sliced::decode(&bad) {
                prop_assert_eq!(read.iter().count() as u64, read.exists().len());
                prop_assert_eq!(Sliced::decode(&read.encode()), Ok(read));
            }
        }
    }
}
