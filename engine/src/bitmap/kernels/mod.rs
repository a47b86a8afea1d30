//! The inner loops over containers, compiled for what the processor offers and chosen at run time.
//!
//! Loops over words are written once, in plain Rust, and compiled for each [`Level`]; loops over arrays have vector
//! versions of their own. All levels give the same answers (tested equal).
//!
//! Inputs lie at any alignment and may come from bytes taken on trust: damaged ones give wrong answers or a panic, but no
//! kernel reads or writes outside its buffers.

mod arrays;
mod pairs;
mod runs;
mod tally;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use super::view::{ARRAY_LEN_MAX, Container, Le16, Words};

pub(crate) use arrays::{
    array_words_count, count_and_take, intersect, intersect_count, probe, retain, select, select_mask, with, without,
};
pub(crate) use pairs::common_len;
pub(crate) use runs::{array_runs_count, runs_runs_count, words_runs_count};
pub(crate) use tally::{TALLY_MAX, Tally, take_planes, take_reached, tally, tally_times};
pub(crate) use words::{
    RangeScan, add_array, add_runs, and, and_assign, and_count, and_not, and_not_assign, at_least, count,
    count_and_take_words, extract, flip_array, flip_runs, half_add, or_assign, put_back, range, remove_array,
    remove_runs, subtract, xor_assign,
};

/// Room an array kernel needs: it may write whole vectors behind the last element.
pub(crate) const ARRAY_ROOM: usize = 2 * ARRAY_LEN_MAX + 64;

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Any processor.
    Portable,
    /// AVX2, with the scalar population count and the string comparison of SSE4.2.
    Avx2,
    /// AVX-512 with vector population count and byte compression.
    Avx512,
    /// That, and VP2INTERSECT.
    Avx512Intersect,
}

impl Level {
    /// All, rising.
    #[cfg(test)]
    pub(crate) const ALL: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Intersect];

    /// The best level of this processor.
    #[inline]
    pub(crate) fn detect() -> Level {
        static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
        *LEVEL.get_or_init(Level::ask_processor)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn ask_processor() -> Level {
        Level::Portable
    }

    #[cfg(target_arch = "x86_64")]
    fn ask_processor() -> Level {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("avx512vpopcntdq");
        match (avx2, avx512) {
            (true, true) if is_x86_feature_detected!("avx512vp2intersect") => Level::Avx512Intersect,
            (true, true) => Level::Avx512,
            (true, false) => Level::Avx2,
            _ => Level::Portable,
        }
    }
}

/// Declares loops that are compiled once per [`Level`]; the level comes first and must be one the processor has.
macro_rules! levels {
    ($($(#[$attribute:meta])* fn $name:ident ($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        #[inline]
        pub(crate) fn $name(level: Level, $($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
                fn avx2($($arg: $type),*) $(-> $out)? { plain($($arg),*) }
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vpopcntdq,popcnt,bmi1,bmi2")]
                fn avx512($($arg: $type),*) $(-> $out)? { plain($($arg),*) }
                #[inline(never)]
                fn portable($($arg: $type),*) $(-> $out)? { plain($($arg),*) }
                match level {
                    // SAFETY: a level is only made by asking the processor for these features.
                    Level::Avx512 | Level::Avx512Intersect => unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx2 => unsafe { avx2($($arg),*) },
                    Level::Portable => portable($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = level;
                plain($($arg),*)
            }
        }
    )*};
}
use levels;

/// Positions in both containers.
#[inline]
pub(crate) fn common_count(level: Level, a: Container<'_>, b: Container<'_>) -> u32 {
    match (a, b) {
        (Container::Array(a), Container::Array(b)) => intersect_count(level, a, b),
        (Container::Words(a), Container::Words(b)) => and_count(level, a, b),
        (Container::Array(array), Container::Words(words)) | (Container::Words(words), Container::Array(array)) => {
            array_words_count(level, array, words)
        }
        (Container::Runs(a), Container::Runs(b)) => runs_runs_count(level, a, b),
        (Container::Array(array), Container::Runs(runs)) | (Container::Runs(runs), Container::Array(array)) => {
            array_runs_count(level, array, runs)
        }
        (Container::Words(words), Container::Runs(runs)) | (Container::Runs(runs), Container::Words(words)) => {
            words_runs_count(level, words, runs)
        }
    }
}

/// Asks the processor to fetch a container that is about to be read.
#[inline]
pub(crate) fn prefetch(container: Container<'_>) {
    bytes_of(container).chunks(64).for_each(|line| prefetch_line(&line[0]));
}

/// Asks the processor to fetch what is about to be read of a container when these positions are looked up in it.
#[inline]
pub(crate) fn prefetch_at(container: Container<'_>, positions: &[Le16]) {
    match container {
        // As many lines as there are: one by one they would be fetched several times.
        Container::Words(words) if positions.len() < words.len() / 8 => {
            positions.iter().for_each(|half| prefetch_line(&words[usize::from(position(half) >> 6)][0]));
        }
        container => prefetch(container),
    }
}

#[inline]
fn bytes_of(container: Container<'_>) -> &[u8] {
    match container {
        Container::Array(array) => array.as_flattened(),
        Container::Words(words) => words.as_flattened(),
        Container::Runs(runs) => runs.as_flattened(),
    }
}

#[inline(always)]
fn prefetch_line(byte: &u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could notice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = byte;
}

#[inline(always)]
fn position(half: &Le16) -> u16 {
    u16::from_le_bytes(*half)
}

/// One bit of the words.
#[inline(always)]
pub(crate) fn has_bit(words: &Words, position: u16) -> bool {
    u64::from_le_bytes(words[usize::from(position >> 6)]) >> (position & 63) & 1 != 0
}

/// First and last position of a run; a damaged one that leaves the chunk is cut.
#[inline(always)]
pub(crate) fn run_bounds(run: &[u8; 4]) -> (u16, u16) {
    let first = u16::from_le_bytes([run[0], run[1]]);
    (first, first.saturating_add(u16::from_le_bytes([run[2], run[3]])))
}
