//! All levels of the processor against the plainest loops.

use super::pairs::{common_walk, for_each_common_head};
use super::*;
use crate::bitmap::view::{BitmapView, Run};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| *level <= Level::detect())
}

fn words(seed: u64, density: u32) -> Box<Words> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 31
    };
    let mut words = Box::new([[0; 8]; 1024]);
    for word in words.iter_mut() {
        // Each further operand halves the ones.
        *word = (1..density).fold(next(), |word, _| word & next()).to_le_bytes();
    }
    words
}

fn ones(words: &Words) -> Vec<u16> {
    (0..=u16::MAX).filter(|position| has_bit(words, *position)).collect()
}

fn halves(set: &BTreeSet<u16>) -> Vec<Le16> {
    set.iter().map(|position| position.to_le_bytes()).collect()
}

fn combined(a: &Words, b: &Words, combine: impl Fn(u64, u64) -> u64) -> Box<Words> {
    let mut out = Box::new([[0; 8]; 1024]);
    for (index, out) in out.iter_mut().enumerate() {
        *out = combine(u64::from_le_bytes(a[index]), u64::from_le_bytes(b[index])).to_le_bytes();
    }
    out
}

fn few(positions: impl Strategy<Value = u16>, len: usize) -> impl Strategy<Value = BTreeSet<u16>> {
    proptest::collection::vec(positions, 0..len).prop_map(BTreeSet::from_iter)
}

/// Sizes below, at and above vector lengths, and skewed ones; 0 and 65,535 included.
fn array() -> impl Strategy<Value = BTreeSet<u16>> {
    let many =
        (any::<u64>(), 1..4_097_u64, prop_oneof![Just(5_000_u64), Just(65_536)]).prop_map(|(seed, len, span)| {
            let mixed = (0..len).map(|index| (seed ^ index).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 13);
            mixed.map(|mixed| (mixed % span) as u16).collect()
        });
    prop_oneof![few(prop_oneof![0..200_u16, 65_400..=u16::MAX], 80), few(any::<u16>(), 40), many]
}

/// Rising disjoint runs, possibly touching.
fn runs(marks: &BTreeSet<u16>) -> Vec<[u8; 4]> {
    let marks: Vec<u16> = marks.iter().copied().collect();
    let run = |pair: &[u16]| {
        let ([a, b], [c, d]) = (pair[0].to_le_bytes(), (pair[1] - pair[0]).to_le_bytes());
        [a, b, c, d]
    };
    marks.as_chunks::<2>().0.iter().map(|pair| run(pair)).collect()
}

fn in_runs(runs: &[[u8; 4]]) -> BTreeSet<u16> {
    runs.iter().flat_map(|run| run_bounds(run).0..=run_bounds(run).1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn words_with_words(a in (any::<u64>(), 1..8_u32), b in (any::<u64>(), 1..8_u32)) {
        let (a, b) = (words(a.0, a.1), words(b.0, b.1));
        let (both, only) = (combined(&a, &b, |a, b| a & b), combined(&a, &b, |a, b| a & !b));
        let (both_len, only_len) = (ones(&both).len() as u32, ones(&only).len() as u32);
        for level in levels() {
            prop_assert_eq!(count(level, &a), ones(&a).len() as u32);
            prop_assert_eq!(and_count(level, &a, &b), both_len);
            let mut out = a.clone();
            prop_assert_eq!((and(level, &mut out, &a, &b), &out), (both_len, &both));
            prop_assert_eq!((and_not(level, &mut out, &a, &b), &out), (only_len, &only));
            out = a.clone();
            prop_assert_eq!((and_assign(level, &mut out, &b), &out), (both_len, &both));
            out = a.clone();
            prop_assert_eq!((and_not_assign(level, &mut out, &b), &out), (only_len, &only));
            out = a.clone();
            or_assign(level, &mut out, &b);
            prop_assert_eq!(&out, &combined(&a, &b, |a, b| a | b));
            out = a.clone();
            xor_assign(level, &mut out, &b);
            prop_assert_eq!(&out, &combined(&a, &b, |a, b| a ^ b));
        }
    }

    #[test]
    fn what_is_found_first_is_taken(a in array(), seeds in (any::<u64>(), any::<u64>()), density in 1..8_u32) {
        let (members, target) = (words(seeds.0, density), words(seeds.1, 2));
        let before = combined(&members, &words(!seeds.1, 1), |a, b| a & b);
        for level in levels() {
            let mut left = before.clone();
            let (count, left_len) = count_and_take_words(level, &members, &target, &mut left);
            prop_assert_eq!(count, and_count(Level::Portable, &members, &target));
            prop_assert_eq!(&left, &combined(&before, &target, |a, b| a & !b));
            prop_assert_eq!(left_len as usize, ones(&left).len());
            let mut left = before.clone();
            let found: Vec<u16> = a.iter().copied().filter(|position| has_bit(&members, *position)).collect();
            let taken: Vec<u16> = found.iter().copied().filter(|position| has_bit(&before, *position)).collect();
            let expected = (found.len() as u32, taken.len() as u32);
            prop_assert_eq!(count_and_take(level, &halves(&a), &members, &mut left), expected);
            let rest: Vec<u16> = ones(&before).into_iter().filter(|position| !a.contains(position)).collect();
            prop_assert_eq!(ones(&left), rest);
        }
    }

    #[test]
    fn ones_are_extracted(seed in any::<u64>(), density in 4..12_u32) {
        let words = words(seed, density);
        let expected = ones(&words);
        for level in levels() {
            let mut room = [[0; 2]; ARRAY_ROOM];
            let len = extract(level, &words, &mut room);
            let found: Vec<u16> = room[..len].iter().map(position).collect();
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn operands_are_counted(seeds in proptest::collection::vec(any::<u64>(), 1..20), k in 1..18_u32) {
        let operands: Vec<_> = seeds.iter().map(|seed| words(*seed, 1 + (seed % 3) as u32)).collect();
        let reached = |position: u16| operands.iter().filter(|words| has_bit(words, position)).count() >= k as usize;
        let expected: Vec<u16> = (0..=u16::MAX).filter(|position| reached(*position)).collect();
        let operands: Vec<&Words> = operands.iter().map(|words| &**words).collect();
        for level in levels() {
            let mut out = Box::new([[0; 8]; 1024]);
            prop_assert_eq!(at_least(level, &mut out, k, &operands) as usize, expected.len());
            prop_assert_eq!(&ones(&out), &expected);
            let mut counts: Box<Tally> = vec![0; 1 << 16].try_into().expect("65,536 counts");
            for (index, operand) in operands.iter().enumerate() {
                // In any form.
                let members = ones(operand);
                let array: Vec<Le16> = members.iter().map(|position| position.to_le_bytes()).collect();
                let runs: Vec<Run> = array.iter().map(|half| [half[0], half[1], 0, 0]).collect();
                tally(level, &mut counts, match index % 3 {
                    0 => Container::Words(operand),
                    1 => Container::Array(&array),
                    _ => Container::Runs(&runs),
                });
            }
            out.fill([7; 8]);
            prop_assert_eq!(take_reached(level, &mut counts, k as u8, &mut out) as usize, expected.len());
            prop_assert_eq!(&ones(&out), &expected);
            prop_assert!(counts.iter().all(|count| *count == 0));
        }
    }

    #[test]
    fn numbers_are_compared(
        seeds in proptest::collection::vec(any::<u64>(), 1..12), low in 1..2_000_u64, high in 0..2_000_u64,
        bounds in (any::<bool>(), any::<bool>()),
    ) {
        let slices: Vec<_> = seeds.iter().map(|seed| words(*seed, 1)).collect();
        let exists = words(seeds[0] ^ 77, 1);
        let (low, high) = (bounds.0.then_some(low), bounds.1.then_some(high));
        let number = |position: u16| -> u64 {
            slices.iter().enumerate().map(|(bit, slice)| u64::from(has_bit(slice, position)) << bit).sum()
        };
        let all_ones = (1 << slices.len()) - 1;
        let fits = |number: u64| low.is_none_or(|low| number >= low) && high.is_none_or(|high| number <= high);
        let expected: Vec<u16> =
            (0..=u16::MAX).filter(|position| has_bit(&exists, *position) && fits(number(*position))).collect();
        let slices: Vec<&Words> = slices.iter().map(|slice| &**slice).collect();
        // Bounds above what the slices can hold are cut before they come here.
        prop_assume!(low.is_none_or(|low| low <= all_ones) && high.is_none_or(|high| high <= all_ones));
        for level in levels() {
            let mut out = Box::new([[0; 8]; 1024]);
            let scan = RangeScan { exists: &exists, slices: &slices, low, high };
            prop_assert_eq!(range(level, &mut out, &scan) as usize, expected.len());
            prop_assert_eq!(&ones(&out), &expected);
        }
    }

    #[test]
    fn arrays_with_arrays(a in array(), b in array(), shift in 0..3_usize) {
        let expected: BTreeSet<u16> = a.intersection(&b).copied().collect();
        // Elements lie at any alignment.
        let mut bytes = vec![0; shift];
        bytes.extend(halves(&a).iter().flatten());
        let (x, y) = (bytes[shift..].as_chunks::<2>().0, halves(&b));
        for level in levels() {
            prop_assert_eq!(intersect_count(level, x, &y) as usize, expected.len());
            prop_assert_eq!(intersect_count(level, &y, x) as usize, expected.len());
            let mut room = [[0; 2]; ARRAY_ROOM];
            let len = intersect(level, x, &y, &mut room);
            prop_assert!(room[..len].iter().map(position).eq(expected.iter().copied()));
            check_candidates(level, &a, Container::Array(&y), &b);
        }
        let mut room = [[0; 2]; ARRAY_ROOM];
        let len = with(x, &y, &mut room);
        prop_assert!(room[..len].iter().map(position).eq(a.union(&b).copied()));
        let len = without(x, &y, &mut room);
        prop_assert!(room[..len].iter().map(position).eq(a.difference(&b).copied()));
    }

    #[test]
    fn arrays_with_words(a in array(), seed in any::<u64>(), density in 1..6_u32) {
        let words = words(seed, density);
        let members: BTreeSet<u16> = ones(&words).into_iter().collect();
        for level in levels() {
            let container = Container::Words(&words);
            prop_assert_eq!(common_count(level, Container::Array(&halves(&a)), container) as usize, a.intersection(&members).count());
            check_candidates(level, &a, container, &members);
        }
    }

    #[test]
    fn runs_with_all(a in few(any::<u16>(), 60), b in few(any::<u16>(), 400), c in array(), seed in any::<u64>()) {
        let (a, b) = (runs(&a), runs(&b));
        let (in_a, in_b) = (in_runs(&a), in_runs(&b));
        let words = words(seed, 2);
        let array = halves(&c);
        for level in levels() {
            let count = |x, y| common_count(level, x, y) as usize;
            prop_assert_eq!(count(Container::Runs(&a), Container::Runs(&b)), in_a.intersection(&in_b).count());
            prop_assert_eq!(count(Container::Runs(&a), Container::Array(&array)), in_a.intersection(&c).count());
            let in_words = in_a.iter().filter(|position| has_bit(&words, **position)).count();
            prop_assert_eq!(count(Container::Words(&words), Container::Runs(&a)), in_words);
            check_candidates(level, &c, Container::Runs(&a), &in_a);
        }
        let mut changed = words.clone();
        add_runs(&mut changed, &a);
        prop_assert!(in_a.iter().all(|position| has_bit(&changed, *position)));
        flip_runs(&mut changed, &a);
        let mut removed = words.clone();
        remove_runs(&mut removed, &a);
        prop_assert_eq!(&changed, &removed);
        flip_array(&mut changed, &halves(&c));
        add_array(&mut removed, &halves(&c));
        prop_assert!(c.iter().all(|position| has_bit(&removed, *position)));
        remove_array(&mut removed, &halves(&c));
        add_array(&mut changed, &halves(&c));
        remove_array(&mut changed, &halves(&c));
        prop_assert_eq!(&changed, &removed);
    }
}

fn check_candidates(level: Level, candidates: &BTreeSet<u16>, container: Container<'_>, members: &BTreeSet<u16>) {
    let array = halves(candidates);
    let mut mask = vec![0; array.len().div_ceil(64)];
    probe(level, &array, container, &mut mask);
    for (index, position) in candidates.iter().enumerate() {
        assert_eq!(mask[index / 64] >> (index % 64) & 1 == 1, members.contains(position), "{level:?} {position}");
    }
    for keep in [true, false] {
        let mut kept = array.clone();
        let mut room = [[0; 2]; ARRAY_ROOM];
        let expected = candidates.iter().copied().filter(|position| members.contains(position) == keep);
        let len = retain(&mut kept, container, keep);
        assert!(kept[..len].iter().map(position).eq(expected.clone()), "{level:?} {keep}");
        let len = select(level, &array, container, keep, &mut room);
        assert!(room[..len].iter().map(position).eq(expected.clone()), "{level:?} {keep}");
        let len = select_mask(level, &array, &mask, keep, &mut room);
        assert!(room[..len].iter().map(position).eq(expected), "{level:?} {keep}");
    }
}

#[test]
fn heads_meet() {
    let heads = |step: usize, count: usize| -> Vec<[u8; 4]> {
        (0..count).map(|index| [(index * step) as u8, ((index * step) >> 8) as u8, 7, index as u8]).collect()
    };
    for (a, b) in [(0, 5), (1, 1), (15, 16), (16, 17), (33, 90), (700, 3), (300, 300)] {
        let (a, b) = (heads(2, a), heads(3, b));
        let chunk = |head: &[u8; 4]| u16::from_le_bytes([head[0], head[1]]);
        let mut expected = vec![];
        for (i, x) in a.iter().enumerate() {
            expected.extend(b.iter().position(|y| chunk(x) == chunk(y)).map(|j| (i, j)));
        }
        let mut found = vec![];
        for_each_common_head(&a, &b, |i, j| found.push((i, j)));
        assert_eq!(found, expected);
    }
}

/// A bitmap whose containers are of all kinds, mostly small.
fn any_bitmap() -> impl Strategy<Value = RoaringBitmap> {
    let container = prop_oneof![
        4 => (any::<u16>(), 1..40_u32, 1..9_u32, Just(0_u32)),
        4 => (any::<u16>(), 1..20_u32, 1..900_u32, 0..60_u32),
        1 => (any::<u16>(), 1..6_000_u32, 1..9_u32, 0..4_u32),
        1 => Just((0_u16, 1, 1, u32::from(u16::MAX))),
    ];
    let chunk = prop_oneof![3 => 0..4_u32, 2 => 0..70_u32, 1 => 0..=u32::from(u16::MAX)];
    let containers = prop_oneof![
        2 => prop::collection::vec((chunk.clone(), container.clone()), 0..3),
        1 => prop::collection::vec((chunk, container), 0..90),
    ];
    (containers, any::<bool>()).prop_map(|(containers, with_runs)| {
        let mut bitmap = RoaringBitmap::new();
        for (chunk, (first, count, step, len)) in containers {
            for run in 0..count {
                let from = (u32::from(first) + run * (step + len)).min(u32::from(u16::MAX));
                let last = (from + len).min(u32::from(u16::MAX));
                bitmap.insert_range(chunk << 16 | from..=chunk << 16 | last);
            }
        }
        if with_runs {
            bitmap.optimize();
        }
        bitmap
    })
}

proptest! {
    #[test]
    fn damaged_bitmaps_stay_in_bounds(a in any_bitmap(), b in any_bitmap(), damage in any::<(prop::sample::Index, u8)>()) {
        let [mut a, b] = [&a, &b].map(|bitmap| {
            let mut bytes = Vec::new();
            bitmap.serialize_into(&mut bytes).expect("memory does not fail");
            bytes
        });
        let at = damage.0.index(a.len());
        a[at] ^= damage.1;
        // A panic is allowed, a read outside is not.
        let _ = std::panic::catch_unwind(move || {
            let [a, b] = [&a, &b].map(|bytes| BitmapView::trusted(bytes));
            common_len(&a, &b) + common_walk(&a, &b)
        });
    }

    #[test]
    fn common_of_two_bitmaps(a in any_bitmap(), b in any_bitmap()) {
        let bytes = [&a, &b].map(|bitmap| {
            let mut bytes = Vec::new();
            bitmap.serialize_into(&mut bytes).expect("memory does not fail");
            bytes
        });
        let [x, y] = [&bytes[0], &bytes[1]].map(|bytes| BitmapView::new(bytes).expect("valid"));
        let expected = a.intersection_len(&b);
        prop_assert_eq!(common_len(&x, &y), expected);
        prop_assert_eq!(common_len(&y, &x), expected);
        prop_assert_eq!(common_walk(&x, &y), expected, "without vectors");
    }
}

#[test]
fn damaged_arrays_stay_in_bounds() {
    let same = vec![7_u16.to_le_bytes(); ARRAY_LEN_MAX];
    let falling: Vec<Le16> = (0..4_096_u16).rev().map(u16::to_le_bytes).collect();
    for level in levels() {
        for (a, b) in [(&same, &same), (&same, &falling), (&falling, &same), (&falling, &falling)] {
            intersect_count(level, a, b);
            let mut room = [[0; 2]; ARRAY_ROOM];
            // A panic is allowed, a write outside is not.
            let _ = std::panic::catch_unwind(move || intersect(level, a, b, &mut room));
            probe(level, a, Container::Array(b), &mut [0; 64]);
            let (words, mut left) = (words(1, 1), words(2, 1));
            probe(level, a, Container::Words(&words), &mut [0; 64]);
            array_words_count(level, a, &words);
            count_and_take(level, a, &words, &mut left);
            array_runs_count(level, a, &[[9, 0, 0xff, 0xff], [3, 0, 1, 0]]);
        }
    }
}

proptest! {
    #[test]
    fn counts_add_up(seeds in any::<[u64; 3]>(), densities in [1..6_u32, 1..6, 1..6], weights in [1..128_u8, 1..127]) {
        let [a, b, c] = [0, 1, 2].map(|index| words(seeds[index], densities[index]));
        for level in levels() {
            let (mut sum, mut carry) = (a.clone(), words(9, 1));
            let any = half_add(level, &mut sum, &b, &mut carry);
            prop_assert_eq!(&sum, &combined(&a, &b, |a, b| a ^ b));
            prop_assert_eq!(&carry, &combined(&a, &b, |a, b| a & b));
            prop_assert_eq!(any, !ones(&carry).is_empty());

            let (mut difference, mut borrow) = (a.clone(), c.clone());
            subtract(level, &mut difference, &b, &mut borrow);
            for position in 0..=u16::MAX {
                let bit = |words: &Words| i8::from(has_bit(words, position));
                let expected = bit(&a) - bit(&b) - bit(&c);
                prop_assert_eq!(bit(&difference) - 2 * bit(&borrow), expected, "{:?} at {}", level, position);
            }

            let mut tally: Box<Tally> = vec![0; 1 << 16].try_into().expect("65,536 counts");
            tally_times(&mut tally, Container::Words(&a), weights[0]);
            let positions: Vec<Le16> = ones(&b).into_iter().map(u16::to_le_bytes).collect();
            tally_times(&mut tally, Container::Array(&positions), weights[1]);
            let mut planes: [Box<Words>; 8] = std::array::from_fn(|_| words(7, 1));
            let used = take_planes(level, &mut tally, &mut planes.each_mut().map(|plane| &mut **plane));
            prop_assert!(tally.iter().all(|count| *count == 0));
            for position in 0..=u16::MAX {
                let of = |words: &Words, weight: u8| u32::from(has_bit(words, position)) * u32::from(weight);
                let count = (0..8).map(|bit| u32::from(has_bit(&planes[bit], position)) << bit).sum::<u32>();
                prop_assert_eq!(count, of(&a, weights[0]) + of(&b, weights[1]));
            }
            let found = (0..8).map(|bit| u8::from(!ones(&planes[bit]).is_empty()) << bit).sum::<u8>();
            prop_assert_eq!(used, found);
        }
    }
}
