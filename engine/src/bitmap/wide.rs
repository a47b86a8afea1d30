//! Bitmaps of 64-bit numbers as values: sets that come from outside and go there, in the portable Roaring formats.
//!
//! Numbers below 2^32 alone are written in the 32-bit format, which every Roaring library reads; others in its 64-bit extension
//! (how many bitmaps, then the upper half of their numbers and a 32-bit bitmap each). A set has one encoding only, so equal sets
//! are equal bytes. Both formats are read.
//!
//! **Telling them apart.** Bytes are 64-bit if their first eight say a number of bitmaps that they have room for, at 12 bytes a
//! bitmap. Those of a 32-bit bitmap never do. Without runs, they say 12,346 bitmaps in the 8 bytes of an empty set, or more than 2^32.
//! With runs, they say more than 2^32 unless their first 32 containers (or all of the fewer) have none, and then 12,347 and 65,536
//! more a container: 786,432 bytes a container, when one of runs takes at most 262,142.
//!
//! Source: the format's specification at <https://github.com/RoaringBitmap/RoaringFormatSpec>.

use super::canonical::{canonical, is_canonical};
use super::view::{BitmapView, FormatError};
use roaring::{RoaringBitmap, RoaringTreemap};

/// The fewest bytes of a bitmap within a 64-bit one: its key, and an empty bitmap.
const PART_BYTES_MIN: u64 = 12;

/// A validated set of 64-bit numbers over borrowed bytes.
#[derive(Clone, Debug)]
pub struct WideView<'a> {
    /// By rising upper halves; none is empty.
    parts: Vec<(u32, BitmapView<'a>)>,
}

impl<'a> WideView<'a> {
    /// Checks every container and takes the bytes, which must be exactly one bitmap of 32 or 64 bits. What is held is smaller than a
    /// few times the bytes.
    ///
    /// # Errors
    /// [`FormatError`] with the offset of the first thing that is wrong.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let Some(count) = count_of_parts(bytes) else {
            let view = BitmapView::new(bytes)?;
            let parts = if view.is_empty() { Vec::new() } else { vec![(0, view)] };
            return Ok(WideView { parts });
        };
        let refuse = |offset_bytes, what| Err(FormatError { offset_bytes, what });
        let mut at = 8;
        let mut parts = Vec::new();
        let mut previous = None;
        for _ in 0..count {
            let Some((key, rest)) = bytes[at..].split_first_chunk::<4>() else { return refuse(at, "key cut short") };
            let key = u32::from_le_bytes(*key);
            if previous >= Some(key) {
                return refuse(at, "the keys of bitmaps do not rise");
            }
            previous = Some(key);
            at += 4;
            let within = |error: FormatError| FormatError { offset_bytes: at + error.offset_bytes, ..error };
            let view = BitmapView::first(rest).map_err(within)?;
            at += view.as_bytes().len();
            if !view.is_empty() {
                parts.push((key, view));
            }
        }
        if at != bytes.len() {
            return refuse(at, "bytes follow the last bitmap");
        }
        Ok(WideView { parts })
    }

    /// How many numbers; up to 2^64.
    pub fn len(&self) -> u128 {
        self.parts.iter().map(|(_, view)| u128::from(view.len())).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Membership.
    pub fn contains(&self, number: u64) -> bool {
        let found = self.parts.binary_search_by_key(&((number >> 32) as u32), |(key, _)| *key);
        found.is_ok_and(|at| self.parts[at].1.contains(number as u32))
    }

    /// Ascending numbers.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().flat_map(|(key, view)| view.iter().map(move |low| u64::from(*key) << 32 | u64::from(low)))
    }

    /// The least number.
    pub fn first(&self) -> Option<u64> {
        self.iter().next()
    }

    /// The greatest number.
    pub fn last(&self) -> Option<u64> {
        let (key, view) = self.parts.last()?;
        view.last().map(|low| u64::from(*key) << 32 | u64::from(low))
    }

    /// A copy that can be changed.
    pub fn to_set(&self) -> RoaringTreemap {
        RoaringTreemap::from_bitmaps(self.parts.iter().map(|(key, view)| (*key, view.to_bitmap())))
    }
}

/// How many 32-bit bitmaps a 64-bit one says it has; `None` if the bytes are no 64-bit one.
fn count_of_parts(bytes: &[u8]) -> Option<u64> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = u64::from_le_bytes(*count);
    (count <= rest.len() as u64 / PART_BYTES_MIN).then_some(count)
}

/// The bytes of a set.
pub fn encode(set: &RoaringTreemap) -> Vec<u8> {
    let parts: Vec<(u32, &RoaringBitmap)> = set.bitmaps().filter(|(_, bitmap)| !bitmap.is_empty()).collect();
    let mut out = Vec::new();
    match parts[..] {
        [] => out.extend_from_slice(BitmapView::EMPTY.as_bytes()),
        [(0, bitmap)] => push_canonical(bitmap, &mut out),
        _ => {
            out.extend_from_slice(&(parts.len() as u64).to_le_bytes());
            for (key, bitmap) in parts {
                out.extend_from_slice(&key.to_le_bytes());
                push_canonical(bitmap, &mut out);
            }
        }
    }
    out
}

/// Appends the smallest encoding; where runs and an array are equally small, the array, whichever the set is held as.
fn push_canonical(bitmap: &RoaringBitmap, out: &mut Vec<u8>) {
    let mut bitmap = bitmap.clone();
    bitmap.optimize();
    let begin = out.len();
    bitmap.serialize_into(&mut *out).expect("memory does not fail");
    drop(bitmap);
    let written = BitmapView::trusted(&out[begin..]);
    if !is_canonical(&written) {
        let canonical = canonical(&written);
        out.truncate(begin);
        out.extend_from_slice(&canonical);
    }
}

/// Bytes of memory that a set takes, nearly.
pub fn heap_bytes(set: &RoaringTreemap) -> usize {
    /// Of a container besides what is in it; and of a bitmap besides its containers: its part of a tree's node, and room for a few.
    const CONTAINER_BYTES: u64 = 48;
    const BITMAP_BYTES: u64 = 352;
    let of = |bitmap: &RoaringBitmap| {
        let told = bitmap.statistics();
        let within = told.n_bytes_array_containers + told.n_bytes_bitset_containers + told.n_bytes_run_containers;
        BITMAP_BYTES + u64::from(told.n_containers) * CONTAINER_BYTES + within
    };
    set.bitmaps().map(|(_, bitmap)| of(bitmap)).sum::<u64>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn numbers() -> impl Strategy<Value = BTreeSet<u64>> {
        let high = prop_oneof![5 => Just(0u64), 1 => 0..3u64, 1 => Just(u64::from(u32::MAX))];
        let run = (high, 0..4u64, any::<u16>(), prop_oneof![3 => 1..8u64, 1 => 1..9000u64], 1..4u64);
        proptest::collection::vec(run, 0..12).prop_map(|runs| {
            let one = |(high, chunk, from, len, step): (u64, u64, u16, u64, u64)| {
                let from = high << 32 | chunk << 16 | u64::from(from);
                (0..len).map(move |at| from.saturating_add(at * step))
            };
            runs.into_iter().flat_map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in numbers()) {
            let set: RoaringTreemap = numbers.iter().copied().collect();
            let bytes = encode(&set);
            let view = WideView::new(&bytes).expect("valid");
            prop_assert_eq!(view.len(), numbers.len() as u128);
            prop_assert!(view.iter().eq(numbers.iter().copied()));
            prop_assert_eq!((view.first(), view.last()), (numbers.first().copied(), numbers.last().copied()));
            prop_assert!(view.to_set().iter().eq(numbers.iter().copied()));
            for number in numbers.iter().take(40).flat_map(|number| [*number, number.wrapping_add(1), number ^ 1 << 33]) {
                prop_assert_eq!(view.contains(number), numbers.contains(&number));
            }
            // Whether others read it, and which of the two formats it is.
            if numbers.last().is_none_or(|last| *last <= u64::from(u32::MAX)) {
                let read = RoaringBitmap::deserialize_from(&bytes[..]).expect("32 bits");
                prop_assert!(read.iter().map(u64::from).eq(numbers.iter().copied()));
            } else {
                let read = RoaringTreemap::deserialize_from(&bytes[..]).expect("64 bits");
                prop_assert!(read.iter().eq(numbers.iter().copied()));
            }
        }

        #[test]
        fn another_maker_reads_and_writes_the_same(numbers in numbers()) {
            let bytes = encode(&numbers.iter().copied().collect());
            let is_narrow = numbers.last().is_none_or(|last| *last <= u64::from(u32::MAX));
            let mut theirs: croaring::Treemap = numbers.iter().copied().collect();
            theirs.run_optimize();
            let wide = theirs.serialize::<croaring::Portable>();
            let read = WideView::new(&wide).expect("64 bits");
            prop_assert!(read.iter().eq(numbers.iter().copied()));
            if is_narrow {
                let mut narrow: croaring::Bitmap = numbers.iter().map(|number| *number as u32).collect();
                let read = croaring::Bitmap::try_deserialize::<croaring::Portable>(&bytes).expect("32 bits");
                prop_assert!(read == narrow);
                narrow.run_optimize();
                let theirs = narrow.serialize::<croaring::Portable>();
                prop_assert!(WideView::new(&theirs).expect("32 bits").iter().eq(numbers.iter().copied()));
            } else {
                let read = croaring::Treemap::try_deserialize::<croaring::Portable>(&bytes).expect("64 bits");
                prop_assert!(read == theirs);
            }
        }

        #[test]
        fn a_set_has_one_encoding(numbers in numbers(), others in numbers()) {
            let plain: RoaringTreemap = numbers.iter().copied().collect();
            let bytes = encode(&plain);
            let mut runs = plain.clone();
            runs.optimize();
            prop_assert_eq!(&encode(&runs), &bytes);
            let mut ranges = RoaringTreemap::new();
            for number in &numbers {
                ranges.insert_range(*number..=*number);
            }
            ranges.optimize();
            let other: RoaringTreemap = others.iter().copied().collect();
            ranges |= &other;
            ranges.optimize();
            ranges -= &other;
            ranges |= &plain;
            prop_assert_eq!(&encode(&ranges), &bytes);
            // Both formats of it mean the same.
            let mut wide = Vec::new();
            plain.serialize_into(&mut wide).expect("memory does not fail");
            let read = WideView::new(&wide).expect("64 bits").to_set();
            prop_assert_eq!(encode(&read), bytes);
        }

        #[test]
        fn any_damage_is_refused_or_understood(numbers in numbers(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let good = encode(&numbers.iter().copied().collect());
            prop_assert!(WideView::new(&good[..at.index(good.len())]).is_err());
            let mut bad = good;
            let at = at.index(bad.len());
            bad[at] ^= 1 << bit;
            if let Ok(view) = WideView::new(&bad) {
                prop_assert_eq!(view.iter().count() as u128, view.len());
                prop_assert!(view.to_set().iter().eq(view.iter()));
            }
        }
    }

    /// The most bytes of a 32-bit bitmap whose first eight bytes could be a number of bitmaps.
    #[test]
    fn the_two_formats_cannot_be_taken_for_each_other() {
        for containers in 1..=65_536u64 {
            let plain = containers.min(32);
            let largest = 4 + containers.div_ceil(8) + 8 * containers + 8192 * plain + 262_142 * (containers - plain);
            let says = 12_347 + (containers - 1) * 65_536;
            assert!(says > (largest - 8) / PART_BYTES_MIN, "{containers}");
        }
        assert!(count_of_parts(BitmapView::EMPTY.as_bytes()).is_none());
        let view = |bytes: &[u8]| WideView::new(bytes).map(|view| view.len());
        assert_eq!(view(BitmapView::EMPTY.as_bytes()), Ok(0));
        assert_eq!(view(&[0; 8]), Ok(0));
        assert!(view(&[]).is_err() && view(&[0; 7]).is_err() && view(&[0; 9]).is_err());
    }
}
