//! Several sets against each other: who is in which of them, and in no other.
//!
//! Bits of all sets are read side by side, 64 positions at a time, and split by one set after another; positions that nobody has
//! are passed over.

use super::leaf;
use super::scratch::Scratch;
use crate::bitmap::ChunkSet;

/// The most sets that are told apart.
pub const REGION_SETS_MAX: usize = 6;

/// Counts the positions of each region, a chunk at a time. A region is a choice of sets, as a number whose bit `i` says whether
/// its positions are in set `i`.
#[derive(Debug)]
pub struct Regions {
    counts: Vec<u64>,
    scratch: Scratch,
}

impl Regions {
    /// Of so many sets, with no positions so far.
    ///
    /// # Panics
    /// If they are more than [`REGION_SETS_MAX`].
    pub fn new(sets: usize) -> Regions {
        assert!(sets <= REGION_SETS_MAX, "the caller refuses more");
        Regions { counts: vec![0; 1 << sets], scratch: Scratch::default() }
    }

    /// Adds a chunk: the members of each set, as many sets as were said.
    pub fn add(&mut self, sets: &[ChunkSet<'_>]) {
        assert_eq!(1 << sets.len(), self.counts.len(), "as many sets as were said");
        let present: Vec<usize> = (0..sets.len()).filter(|set| !sets[*set].is_empty()).collect();
        if let [only] = present[..] {
            self.counts[1 << only] += u64::from(sets[only].len());
            return;
        }
        let loaded: Vec<_> = present
            .iter()
            .map(|set| {
                let mut words = self.scratch.take_words();
                leaf::load(sets[*set].as_container(), &mut words);
                words
            })
            .collect();
        // By the sets that are present.
        let mut counts = [0u64; 1 << REGION_SETS_MAX];
        for at in 0..loaded.first().map_or(0, |words| words.len()) {
            let mut words = [0u64; REGION_SETS_MAX];
            words.iter_mut().zip(&loaded).for_each(|(word, loaded)| *word = u64::from_le_bytes(loaded[at]));
            let anybody = words.iter().fold(0, |all, word| all | word);
            if anybody != 0 {
                split(&words[..loaded.len()], anybody, &mut counts);
            }
        }
        for (region, count) in counts.iter().enumerate().take(1 << present.len()) {
            let sets = present.iter().enumerate().filter(|(bit, _)| region >> bit & 1 == 1).map(|(_, set)| 1 << set);
            self.counts[sets.sum::<usize>()] += count;
        }
        loaded.into_iter().for_each(|words| self.scratch.give_words(words));
    }

    /// Positions per region; those that are in no set are not counted.
    pub fn into_counts(self) -> Vec<u64> {
        self.counts
    }
}

/// Counts the bits of each region; `anybody` has those that any set has.
fn split(words: &[u64], anybody: u64, counts: &mut [u64; 1 << REGION_SETS_MAX]) {
    let mut regions = [0u64; 1 << REGION_SETS_MAX];
    regions[0] = anybody;
    for (set, word) in words.iter().enumerate() {
        let (out, within) = regions.split_at_mut(1 << set);
        for (out, within) in out.iter_mut().zip(within) {
            *within = *out & word;
            *out &= !word;
        }
    }
    counts
        .iter_mut()
        .zip(regions)
        .take(1 << words.len())
        .for_each(|(count, bits)| *count += u64::from(bits.count_ones()));
}
