//! Loops over sorted arrays of positions.

use super::{ARRAY_ROOM, Level, has_bit, levels, position, run_bounds};
use crate::bitmap::view::{Container, Le16, Words};

/// Searching the longer of two arrays for each element of the shorter pays when it is this many times longer.
const SKEW: usize = 32;
/// Up to this many elements, vectors do not pay.
const FEW: usize = 4;

/// Positions in both arrays.
#[inline(never)]
pub(crate) fn intersect_count(level: Level, a: &[Le16], b: &[Le16]) -> u32 {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() <= FEW {
        return few_common_count(short, long);
    }
    let is_skewed = short.len() * SKEW < long.len();
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512 | Level::Avx512Intersect if is_skewed => unsafe { super::x86::search_count(short, long) },
        _ if is_skewed => search_count::<1>(short, long, |wanted, tail| tail[0] == wanted),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512Intersect => unsafe { super::x86::intersect_count_vp2(a, b) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; every processor with AVX2 has SSE4.2.
        Level::Avx2 | Level::Avx512 => unsafe { super::x86::intersect_count_sse(a, b) },
        _ => {
            let mut count = 0;
            merge_common(a, b, |_| count += 1);
            count
        }
    }
}

/// All against all.
#[inline]
fn few_common_count(a: &[Le16], b: &[Le16]) -> u32 {
    a.iter().map(|x| b.iter().map(|y| u32::from(x == y)).sum::<u32>()).sum()
}

/// Positions in both arrays, rising; answers how many. Panics if they do not fit.
pub(crate) fn intersect(level: Level, a: &[Le16], b: &[Le16], out: &mut [Le16; ARRAY_ROOM]) -> usize {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut len = 0;
    let mut push = |half| {
        out[len] = half;
        len += 1;
    };
    if short.len() * SKEW < long.len() {
        gallop_common(short, long, &mut push);
        return len;
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for its features.
        Level::Avx512Intersect => unsafe { super::x86::intersect_vp2(a, b, out) },
        _ => {
            merge_common(a, b, &mut push);
            len
        }
    }
}

/// Positions of the array whose bit is set.
#[inline]
pub(crate) fn array_words_count(level: Level, array: &[Le16], words: &Words) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if level >= Level::Avx512
        && let Some(step) = super::x86::look_up::neighbours(array.len())
    {
        // SAFETY: a level is only made by asking the processor for its features.
        return unsafe { super::x86::look_up::array_words_count(array, words, step) };
    }
    look_up_count(level, array, words)
}

/// Positions of the array that are set, and how many of these were in `left`, a part of `words`; clears them there.
pub(crate) fn count_and_take(level: Level, array: &[Le16], words: &Words, left: &mut Words) -> (u32, u32) {
    #[cfg(target_arch = "x86_64")]
    if level >= Level::Avx512 {
        let step = super::x86::look_up::neighbours(array.len()).unwrap_or(8);
        // SAFETY: a level is only made by asking the processor for its features.
        return unsafe { super::x86::look_up::count_and_take(array, words, step, left) };
    }
    let mut taken = 0;
    for half in array {
        let (word, bit) = (&mut left[usize::from(position(half) / 64)], position(half) % 64);
        let old = u64::from_le_bytes(*word);
        taken += (old >> bit & 1) as u32;
        *word = (old & !(1 << bit)).to_le_bytes();
    }
    (array_words_count(level, array, words), taken)
}

levels! {
    fn look_up_count(array: &[Le16], words: &Words) -> u32 {
        array.iter().map(|half| u32::from(has_bit(words, position(half)))).sum()
    }
}

/// Adds to `mask` a bit for each candidate that is set. Where candidates are far apart, bits are looked up one by one, in
/// two chains: gathering them into vectors is slower on the processors at hand.
fn probe_words(level: Level, candidates: &[Le16], words: &Words, mask: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if level >= Level::Avx512
        && let Some(step) = super::x86::look_up::neighbours(candidates.len())
    {
        // SAFETY: a level is only made by asking the processor for its features.
        return unsafe { super::x86::look_up::probe_words(candidates, words, step, mask) };
    }
    let _ = level;
    for (candidates, mask) in candidates.chunks(64).zip(mask) {
        let (low, high) = candidates.split_at(candidates.len().min(32));
        let chain = |half: &[Le16]| {
            let shift = |bits: u32, half: &Le16| bits >> 1 | u32::from(has_bit(words, position(half))) << 31;
            half.iter().fold(0, shift).unbounded_shr(32 - half.len() as u32)
        };
        *mask |= u64::from(chain(low)) | u64::from(chain(high)) << 32;
    }
}

#[inline(always)]
pub(super) fn merge_common(a: &[Le16], b: &[Le16], mut call: impl FnMut(Le16)) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (position(&a[i]), position(&b[j]));
        if x == y {
            call(a[i]);
        }
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
}

/// Searches that run side by side, so that they do not wait for each other's loads.
const SEARCHES: usize = 8;

/// Calls with each element's index of the shorter array and whether it is in the longer one, which must not be empty:
/// several searches at once, each until no more than `TAIL` elements are left, among which `is_in` looks.
#[inline(always)]
pub(super) fn search_each<const TAIL: usize>(
    short: &[Le16],
    long: &[Le16],
    is_in: impl Fn(Le16, &[Le16]) -> bool,
    mut call: impl FnMut(usize, bool),
) {
    for (group_index, group) in short.chunks(SEARCHES).enumerate() {
        let mut wanted = [group[0]; SEARCHES];
        wanted[..group.len()].copy_from_slice(group);
        let mut from = [0_usize; SEARCHES];
        let mut size = long.len();
        while size > TAIL {
            let half = size / 2;
            for (from, wanted) in from.iter_mut().zip(&wanted) {
                let is_right = position(&long[*from + half]) <= position(wanted);
                *from += usize::from(is_right) * half;
            }
            size -= half;
        }
        for (index, (from, wanted)) in from.iter().zip(group).enumerate() {
            call(group_index * SEARCHES + index, is_in(*wanted, &long[*from..*from + size]));
        }
    }
}

#[inline(always)]
pub(super) fn search_count<const TAIL: usize>(
    short: &[Le16],
    long: &[Le16],
    is_in: impl Fn(Le16, &[Le16]) -> bool,
) -> u32 {
    let mut count = 0;
    search_each::<TAIL>(short, long, is_in, |_, is_in| count += u32::from(is_in));
    count
}

#[inline(always)]
fn gallop_common(short: &[Le16], long: &[Le16], mut call: impl FnMut(Le16)) {
    let mut from = 0;
    for half in short {
        from = gallop(long, from, position(half));
        match long.get(from) {
            None => return,
            Some(found) if found == half => call(*half),
            Some(_) => {}
        }
    }
}

/// Index of the first element from `from` on that is at least `wanted`.
#[inline(always)]
pub(super) fn gallop(array: &[Le16], from: usize, wanted: u16) -> usize {
    let mut step = 1;
    let mut low = from;
    while low + step < array.len() && position(&array[low + step]) < wanted {
        low += step;
        step *= 2;
    }
    let high = (low + step + 1).min(array.len());
    low + array[low..high].partition_point(|half| position(half) < wanted)
}

/// Writes the elements of both arrays, rising; answers how many. What lies between two of the few is copied at once. Panics
/// if they do not fit.
pub(crate) fn with(array: &[Le16], few: &[Le16], out: &mut [Le16; ARRAY_ROOM]) -> usize {
    let (array, few) = if array.len() < few.len() { (few, array) } else { (array, few) };
    between(array, few, out, true)
}

/// Writes the elements of the array that are not among the few, rising; answers how many.
pub(crate) fn without(array: &[Le16], few: &[Le16], out: &mut [Le16; ARRAY_ROOM]) -> usize {
    between(array, few, out, false)
}

#[inline(always)]
fn between(array: &[Le16], few: &[Le16], out: &mut [Le16; ARRAY_ROOM], is_written: bool) -> usize {
    let (mut from, mut len) = (0, 0);
    for half in few {
        let to = if from < array.len() { gallop(array, from, position(half)) } else { from };
        out[len..len + to - from].copy_from_slice(&array[from..to]);
        len += to - from;
        if is_written {
            out[len] = *half;
            len += 1;
        }
        from = to + usize::from(array.get(to) == Some(half));
    }
    let rest = &array[from..];
    out[len..len + rest.len()].copy_from_slice(rest);
    len + rest.len()
}

/// Calls with the index of each candidate and whether it is in the container. Candidates rise.
#[inline(always)]
pub(crate) fn for_each_candidate(candidates: &[Le16], container: Container<'_>, mut call: impl FnMut(usize, bool)) {
    match container {
        Container::Words(words) => {
            for (index, half) in candidates.iter().enumerate() {
                call(index, has_bit(words, position(half)));
            }
        }
        Container::Array(array) => {
            let skewed = candidates.len() * SKEW / 2 < array.len();
            let mut from = 0;
            for (index, half) in candidates.iter().enumerate() {
                let wanted = position(half);
                if skewed && from < array.len() {
                    from = gallop(array, from, wanted);
                }
                while from < array.len() && position(&array[from]) < wanted {
                    from += 1;
                }
                call(index, from < array.len() && array[from] == *half);
            }
        }
        Container::Runs(runs) => {
            let mut from = 0;
            for (index, half) in candidates.iter().enumerate() {
                let position = position(half);
                while from < runs.len() && run_bounds(&runs[from]).1 < position {
                    from += 1;
                }
                call(index, from < runs.len() && run_bounds(&runs[from]).0 <= position);
            }
        }
    }
}

/// Adds to `mask` a bit for each candidate in the container. `mask` has room for as many bits.
pub(crate) fn probe(level: Level, candidates: &[Le16], container: Container<'_>, mask: &mut [u64]) {
    match (level, container) {
        (_, Container::Words(words)) => probe_words(level, candidates, words, mask),
        (_, Container::Array(array)) if array.len() * SKEW < candidates.len() => {
            for half in array {
                if let Ok(index) = candidates.binary_search_by_key(&position(half), position) {
                    mask[index / 64] |= 1 << (index % 64);
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512 | Level::Avx512Intersect, Container::Array(array))
            if candidates.len() * SKEW * 4 < array.len() =>
        {
            // SAFETY: a level is only made by asking the processor for its features.
            unsafe { super::x86::search_probe(candidates, array, mask) };
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512Intersect, Container::Array(array)) => {
            // SAFETY: a level is only made by asking the processor for its features.
            unsafe { super::x86::probe_vp2(candidates, array, mask) };
        }
        _ => for_each_candidate(candidates, container, |index, is_in| {
            mask[index / 64] |= u64::from(is_in) << (index % 64);
        }),
    }
}

/// Keeps in `array` what is (`keep`) or is not in the container, in place; answers the new length.
pub(crate) fn retain(array: &mut [Le16], container: Container<'_>, keep: bool) -> usize {
    let mut len = 0;
    match container {
        Container::Words(words) => {
            for index in 0..array.len() {
                let half = array[index];
                array[len] = half;
                len += usize::from(has_bit(words, position(&half)) == keep);
            }
        }
        Container::Array(other) => {
            let skewed = array.len() * SKEW / 2 < other.len();
            let mut from = 0;
            for index in 0..array.len() {
                let half = array[index];
                let wanted = position(&half);
                if skewed && from < other.len() {
                    from = gallop(other, from, wanted);
                }
                while from < other.len() && position(&other[from]) < wanted {
                    from += 1;
                }
                array[len] = half;
                len += usize::from((from < other.len() && other[from] == half) == keep);
            }
        }
        Container::Runs(runs) => {
            let mut from = 0;
            for index in 0..array.len() {
                let half = array[index];
                let wanted = position(&half);
                while from < runs.len() && run_bounds(&runs[from]).1 < wanted {
                    from += 1;
                }
                array[len] = half;
                len += usize::from((from < runs.len() && run_bounds(&runs[from]).0 <= wanted) == keep);
            }
        }
    }
    len
}

/// Writes what of the array is (`keep`) or is not in the container, rising; answers how many.
pub(crate) fn select(
    level: Level,
    array: &[Le16],
    container: Container<'_>,
    keep: bool,
    out: &mut [Le16; ARRAY_ROOM],
) -> usize {
    match (level, container) {
        (_, Container::Array(other)) if keep => intersect(level, array, other, out),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512 | Level::Avx512Intersect, Container::Words(words)) => {
            // SAFETY: a level is only made by asking the processor for its features.
            unsafe { super::x86::select_words(array, words, keep, out) }
        }
        _ => {
            out[..array.len()].copy_from_slice(array);
            retain(&mut out[..array.len()], container, keep)
        }
    }
}

/// Writes the elements of the array whose bit in `mask` is (`keep`) or is not set; answers how many.
pub(crate) fn select_mask(
    level: Level,
    array: &[Le16],
    mask: &[u64],
    keep: bool,
    out: &mut [Le16; ARRAY_ROOM],
) -> usize {
    #[cfg(target_arch = "x86_64")]
    if level >= Level::Avx512 {
        // SAFETY: a level is only made by asking the processor for its features.
        return unsafe { super::x86::select_mask(array, mask, keep, out) };
    }
    let mut len = 0;
    for (index, half) in array.iter().enumerate() {
        out[len] = *half;
        len += usize::from((mask[index / 64] >> (index % 64) & 1 == 1) == keep);
    }
    len
}
