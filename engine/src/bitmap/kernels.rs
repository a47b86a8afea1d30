//! The inner loops over containers.
//!
//! Each word kernel is written once, in plain Rust; it is compiled several times for what the processor offers (AVX-512
//! with population count, AVX2, or the portable baseline) and chosen at run time. The array intersection uses the
//! string-compare instruction of SSE4.2 where it exists (after Lemire, Boytsov and Kurz, "SIMD compression and the
//! intersection of sorted integers", 2016) and gallops where sizes are far apart.

use super::view::{Container, Le16, Run, Words, run_last, run_start};

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Any processor.
    Portable,
    /// AVX2 and the scalar population count.
    Avx2,
    /// AVX-512 with vector population count.
    Avx512,
}

impl Level {
    /// The best level of this processor; asked once.
    pub fn detect() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            use std::sync::OnceLock;
            static LEVEL: OnceLock<Level> = OnceLock::new();
            *LEVEL.get_or_init(|| {
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vpopcntdq")
                    && is_x86_feature_detected!("bmi2")
                {
                    Level::Avx512
                } else if is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("popcnt")
                    && is_x86_feature_detected!("bmi2")
                {
                    Level::Avx2
                } else {
                    Level::Portable
                }
            })
        }
        #[cfg(not(target_arch = "x86_64"))]
        Level::Portable
    }
}

/// Declares kernels that are compiled once per [`Level`]: `name` dispatches, `name_at` takes the level (for tests).
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident / $at:ident ($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name($($arg: $type),*) $(-> $out)? {
            $at(Level::detect(), $($arg),*)
        }

        /// The same at a given level, which the processor must have.
        pub(super) fn $at(level: Level, $($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn portable($($arg: $type),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
                fn avx2($($arg: $type),*) $(-> $out)? { portable($($arg),*) }
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,popcnt,bmi1,bmi2")]
                fn avx512($($arg: $type),*) $(-> $out)? { portable($($arg),*) }
                match level {
                    // SAFETY: the level is only given when the processor was found to have these features.
                    Level::Avx512 => unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx2 => unsafe { avx2($($arg),*) },
                    Level::Portable => portable($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = level;
                portable($($arg),*)
            }
        }
    )*};
}

pub(super) use kernels;

#[inline(always)]
fn load(word: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*word)
}

kernels! {
    /// Number of ones.
    fn count / count_at(a: &Words) -> u32 {
        a.iter().map(|a| u64::from(load(a).count_ones())).sum::<u64>() as u32
    }

    /// Ones in both.
    fn and_count / and_count_at(a: &Words, b: &Words) -> u32 {
        a.iter().zip(b).map(|(a, b)| u64::from((load(a) & load(b)).count_ones())).sum::<u64>() as u32
    }

    /// `a &= b`; answers the ones left.
    fn and_assign / and_assign_at(a: &mut Words, b: &Words) -> u32 {
        let mut ones = 0;
        for (a, b) in a.iter_mut().zip(b) {
            let word = load(a) & load(b);
            ones += u64::from(word.count_ones());
            *a = word.to_le_bytes();
        }
        ones as u32
    }

    /// `out = a & b`; answers its ones.
    fn and_into / and_into_at(out: &mut Words, a: &Words, b: &Words) -> u32 {
        let mut ones = 0;
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            let word = load(a) & load(b);
            ones += u64::from(word.count_ones());
            *out = word.to_le_bytes();
        }
        ones as u32
    }

    /// `a |= b`.
    fn or_assign / or_assign_at(a: &mut Words, b: &Words) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = (load(a) | load(b)).to_le_bytes();
        }
    }

    /// `a &= !b`; answers the ones left.
    fn and_not_assign / and_not_assign_at(a: &mut Words, b: &Words) -> u32 {
        let mut ones = 0;
        for (a, b) in a.iter_mut().zip(b) {
            let word = load(a) & !load(b);
            ones += u64::from(word.count_ones());
            *a = word.to_le_bytes();
        }
        ones as u32
    }

    /// `a ^= b`.
    fn xor_assign / xor_assign_at(a: &mut Words, b: &Words) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = (load(a) ^ load(b)).to_le_bytes();
        }
    }

    /// `a = !a`.
    fn not_assign / not_assign_at(a: &mut Words) {
        for a in a.iter_mut() {
            *a = (!load(a)).to_le_bytes();
        }
    }

    /// A half adder: `plane, carry = plane ^ carry, plane & carry`; whether any carry is left.
    fn add_carry / add_carry_at(plane: &mut Words, carry: &mut Words) -> bool {
        let mut any = 0;
        for (plane, carry) in plane.iter_mut().zip(carry) {
            let (a, b) = (load(plane), load(carry));
            any |= a & b;
            *plane = (a ^ b).to_le_bytes();
            *carry = (a & b).to_le_bytes();
        }
        any != 0
    }
}

/// Positions of the array that are set in the words.
pub fn array_words_count(array: &[Le16], words: &Words) -> u32 {
    array.iter().map(|position| bit(words, u16::from_le_bytes(*position)) as u32).sum()
}

/// One bit of the words, 0 or 1.
#[inline(always)]
pub fn bit(words: &Words, position: u16) -> u64 {
    load(&words[usize::from(position >> 6)]) >> (position & 63) & 1
}

/// Sets one bit.
#[inline(always)]
pub fn set_bit(words: &mut Words, position: u16) {
    let word = &mut words[usize::from(position >> 6)];
    *word = (load(word) | 1 << (position & 63)).to_le_bytes();
}

/// Clears one bit.
#[inline(always)]
pub fn clear_bit(words: &mut Words, position: u16) {
    let word = &mut words[usize::from(position >> 6)];
    *word = (load(word) & !(1 << (position & 63))).to_le_bytes();
}

/// Ones within positions `start..=last`.
pub fn range_count(words: &Words, start: u32, last: u32) -> u32 {
    let (first, end) = ((start >> 6) as usize, (last >> 6) as usize);
    let (head, tail) = range_masks(start, last);
    if first == end {
        return (load(&words[first]) & head & tail).count_ones();
    }
    let middle: u32 = words[first + 1..end].iter().map(|word| load(word).count_ones()).sum();
    middle + (load(&words[first]) & head).count_ones() + (load(&words[end]) & tail).count_ones()
}

/// Bits from `start` up in its word, and up to `last` in its word.
fn range_masks(start: u32, last: u32) -> (u64, u64) {
    (u64::MAX << (start & 63), u64::MAX >> (63 - (last & 63)))
}

/// Applies `change` to every word within positions `start..=last`, with the bits concerned.
fn for_range(words: &mut Words, start: u32, last: u32, change: impl Fn(u64, u64) -> u64) {
    let (first, end) = ((start >> 6) as usize, (last >> 6) as usize);
    let (head, tail) = range_masks(start, last);
    for index in first..=end {
        let mut mask = u64::MAX;
        if index == first {
            mask &= head;
        }
        if index == end {
            mask &= tail;
        }
        words[index] = change(load(&words[index]), mask).to_le_bytes();
    }
}

/// Sets positions `start..=last`.
pub fn set_range(words: &mut Words, start: u32, last: u32) {
    for_range(words, start, last, |word, mask| word | mask);
}

/// Clears positions `start..=last`.
pub fn clear_range(words: &mut Words, start: u32, last: u32) {
    for_range(words, start, last, |word, mask| word & !mask);
}

/// Flips positions `start..=last`.
pub fn flip_range(words: &mut Words, start: u32, last: u32) {
    for_range(words, start, last, |word, mask| word ^ mask);
}

/// Positions in both arrays.
pub fn array_array_count(a: &[Le16], b: &[Le16]) -> u32 {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if small.is_empty() {
        return 0;
    }
    if large.len() / 32 >= small.len() {
        return gallop_count(small, large);
    }
    #[cfg(target_arch = "x86_64")]
    if small.len() >= 8 && Level::detect() != Level::Portable {
        // SAFETY: every processor with AVX2 has SSE4.2 and the population count.
        return unsafe { x86::array_array_count(small, large) };
    }
    merge_count(small, large)
}

fn value(array: &[Le16], index: usize) -> u16 {
    u16::from_le_bytes(array[index])
}

pub(super) fn merge_count(a: &[Le16], b: &[Le16]) -> u32 {
    let (mut i, mut j, mut found) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (value(a, i), value(b, j));
        found += u32::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    found
}

/// The first index at or behind `from` whose value is at least `wanted`.
pub(super) fn gallop(array: &[Le16], from: usize, wanted: u16) -> usize {
    let mut step = 1;
    let mut low = from;
    while low + step < array.len() && value(array, low + step) < wanted {
        low += step;
        step *= 2;
    }
    let high = (low + step + 1).min(array.len());
    low.min(array.len())
        + array[low.min(array.len())..high].partition_point(|probe| u16::from_le_bytes(*probe) < wanted)
}

fn gallop_count(small: &[Le16], large: &[Le16]) -> u32 {
    let (mut at, mut found) = (0, 0);
    for wanted in small {
        let wanted = u16::from_le_bytes(*wanted);
        at = gallop(large, at, wanted);
        if at == large.len() {
            break;
        }
        found += u32::from(value(large, at) == wanted);
    }
    found
}

/// Calls `hit` with the index in `array` of every position that the container has too.
#[inline]
pub fn for_common(array: &[Le16], container: Container<'_>, mut hit: impl FnMut(usize)) {
    match container {
        Container::Words(words) => {
            for (index, position) in array.iter().enumerate() {
                if bit(words, u16::from_le_bytes(*position)) == 1 {
                    hit(index);
                }
            }
        }
        Container::Array(other) if other.len() / 16 >= array.len() => {
            let mut at = 0;
            for (index, wanted) in array.iter().enumerate() {
                let wanted = u16::from_le_bytes(*wanted);
                at = gallop(other, at, wanted);
                if at == other.len() {
                    break;
                }
                if value(other, at) == wanted {
                    hit(index);
                }
            }
        }
        Container::Array(other) if array.len() / 16 >= other.len() => {
            let mut at = 0;
            for wanted in other {
                let wanted = u16::from_le_bytes(*wanted);
                at = gallop(array, at, wanted);
                if at == array.len() {
                    break;
                }
                if value(array, at) == wanted {
                    hit(at);
                }
            }
        }
        Container::Array(other) => {
            let (mut i, mut j) = (0, 0);
            while i < array.len() && j < other.len() {
                let (x, y) = (value(array, i), value(other, j));
                if x == y {
                    hit(i);
                }
                i += usize::from(x <= y);
                j += usize::from(y <= x);
            }
        }
        Container::Runs(runs) => {
            let mut at = 0;
            for run in runs {
                let (start, last) = (run_start(*run), run_last(*run));
                at = gallop(array, at, start as u16);
                while at < array.len() && u32::from(value(array, at)) <= last {
                    hit(at);
                    at += 1;
                }
            }
        }
    }
}

/// Positions in both containers.
pub fn common_count(a: Container<'_>, b: Container<'_>) -> u32 {
    match (a, b) {
        (Container::Words(a), Container::Words(b)) => and_count(a, b),
        (Container::Array(a), Container::Array(b)) => array_array_count(a, b),
        (Container::Array(array), Container::Words(words)) | (Container::Words(words), Container::Array(array)) => {
            array_words_count(array, words)
        }
        (Container::Runs(runs), Container::Words(words)) | (Container::Words(words), Container::Runs(runs)) => {
            runs.iter().map(|run| range_count(words, run_start(*run), run_last(*run))).sum()
        }
        (Container::Runs(a), Container::Runs(b)) => runs_runs_count(a, b),
        (Container::Array(array), Container::Runs(runs)) | (Container::Runs(runs), Container::Array(array)) => {
            array_runs_count(array, runs)
        }
    }
}

fn array_runs_count(array: &[Le16], runs: &[Run]) -> u32 {
    let (mut at, mut found) = (0, 0);
    for run in runs {
        let (start, last) = (run_start(*run), run_last(*run));
        at = gallop(array, at, start as u16);
        let end = if last == 65_535 { array.len() } else { gallop(array, at, last as u16 + 1) };
        found += (end - at) as u32;
        at = end;
        if at == array.len() {
            break;
        }
    }
    found
}

fn runs_runs_count(a: &[Run], b: &[Run]) -> u32 {
    let (mut i, mut j, mut found) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (a_last, b_last) = (run_last(a[i]), run_last(b[j]));
        let from = run_start(a[i]).max(run_start(b[j]));
        let to = a_last.min(b_last);
        found += (to + 1).saturating_sub(from);
        i += usize::from(a_last <= b_last);
        j += usize::from(b_last <= a_last);
    }
    found
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Le16, merge_count, value};
    use std::arch::x86_64::*;

    /// Positions in both arrays, eight by eight. Both are not empty.
    #[target_feature(enable = "sse4.2,popcnt")]
    pub(super) fn array_array_count(a: &[Le16], b: &[Le16]) -> u32 {
        const EQUAL_ANY: i32 = _SIDD_UWORD_OPS | _SIDD_CMP_EQUAL_ANY | _SIDD_BIT_MASK;
        // The instruction stops at a zero; only the first position of an array can be one.
        let (skip_a, skip_b) = (usize::from(value(a, 0) == 0), usize::from(value(b, 0) == 0));
        let mut found = (skip_a & skip_b) as u32;
        let (a, b) = (&a[skip_a..], &b[skip_b..]);
        let (full_a, full_b) = (a.len() / 8 * 8, b.len() / 8 * 8);
        let (mut i, mut j) = (0, 0);
        while i < full_a && j < full_b {
            // SAFETY: `i + 8 <= a.len()` and `j + 8 <= b.len()`, and the load needs no alignment.
            let (x, y) =
                unsafe { (_mm_loadu_si128(a.as_ptr().add(i).cast()), _mm_loadu_si128(b.as_ptr().add(j).cast())) };
            let hits = _mm_cmpistrm::<EQUAL_ANY>(y, x);
            found += (_mm_cvtsi128_si32(hits) as u32).count_ones();
            let (x_last, y_last) = (value(a, i + 7), value(b, j + 7));
            i += usize::from(x_last <= y_last) * 8;
            j += usize::from(y_last <= x_last) * 8;
        }
        found + merge_count(&a[i..], &b[j..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn levels() -> Vec<Level> {
        let all = [Level::Portable, Level::Avx2, Level::Avx512];
        let best = all.iter().position(|level| *level == Level::detect()).expect("one of them");
        all[..=best].to_vec()
    }

    fn words(seed: u64) -> Box<Words> {
        let mut state = seed;
        let mut words = Box::new([[0; 8]; 1024]);
        for word in words.iter_mut() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *word = (state ^ (state >> 29)).to_le_bytes();
        }
        words
    }

    proptest! {
        #[test]
        fn every_level_computes_the_same(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (words(a), words(b));
            let with = |change: &dyn Fn(&mut Words) -> u32| { let mut c = a.clone(); let n = change(&mut c); (c, n) };
            for level in levels() {
                prop_assert_eq!(count_at(level, &a), count_at(Level::Portable, &a));
                prop_assert_eq!(and_count_at(level, &a, &b), and_count_at(Level::Portable, &a, &b));
                for kernel in [and_assign_at, and_not_assign_at] {
                    prop_assert_eq!(with(&|c| kernel(level, c, &b)), with(&|c| kernel(Level::Portable, c, &b)));
                }
                for kernel in [or_assign_at, xor_assign_at] {
                    let at = |level| with(&|c| { kernel(level, c, &b); 0 });
                    prop_assert_eq!(at(level), at(Level::Portable));
                }
                prop_assert_eq!(with(&|c| and_into_at(level, c, &a, &b)), with(&|c| and_assign_at(level, c, &b)));
                let not = |level| with(&|c| { not_assign_at(level, c); 0 });
                prop_assert_eq!(not(level), not(Level::Portable));
                let add = |level| { let (mut p, mut c) = (a.clone(), b.clone()); (add_carry_at(level, &mut p, &mut c), p, c) };
                prop_assert_eq!(add(level), add(Level::Portable));
            }
        }

        #[test]
        fn arrays_intersect(a in proptest::collection::btree_set(0u16..600, 0..300), b in proptest::collection::btree_set(0u16..9000, 0..3000)) {
            let bytes = |set: &std::collections::BTreeSet<u16>| set.iter().map(|v| v.to_le_bytes()).collect::<Vec<_>>();
            let expected = a.intersection(&b).count() as u32;
            let (x, y) = (bytes(&a), bytes(&b));
            prop_assert_eq!(array_array_count(&x, &y), expected);
            prop_assert_eq!(array_array_count(&y, &x), expected);
            prop_assert_eq!(merge_count(&x, &y), expected);
            let mut hits = 0;
            for_common(&x, Container::Array(&y), |index| { assert!(y.contains(&x[index])); hits += 1; });
            prop_assert_eq!(hits, expected);
        }

        #[test]
        fn ranges(start in 0u32..65_536, len in 0u32..65_536, seed in any::<u64>()) {
            let last = (start + len).min(65_535);
            let base = words(seed);
            let inside = (start..=last).filter(|p| bit(&base, *p as u16) == 1).count() as u32;
            prop_assert_eq!(range_count(&base, start, last), inside);
            let mut changed = base.clone();
            set_range(&mut changed, start, last);
            prop_assert_eq!(range_count(&changed, start, last), last - start + 1);
            flip_range(&mut changed, start, last);
            prop_assert_eq!(range_count(&changed, start, last), 0);
            let mut cleared = base.clone();
            clear_range(&mut cleared, start, last);
            prop_assert_eq!(cleared, changed);
        }
    }
}
