//! One set against many leaves: which leaves each member is in.
//!
//! The answer is told leaf by leaf as ranks, the places of those members within the set: what is needed to spread the values of
//! a tag over the rows of a table. Of few members each is looked up; more are taken as a bit set. Where the leaves exclude
//! each other (the values of an enum), a chunk is done when everybody is found.

use super::leaf::{self, Leaf};
use super::scratch::Scratch;
use crate::bitmap::chunk_set::ChunkSet;
use crate::bitmap::kernels;
use crate::bitmap::program::Layer;
use crate::bitmap::view::{Container, Le16, Words};

/// Up to so many members, each is looked up; more are taken as a bit set.
const FEW: usize = 512;
/// Words of a bit set that has a place for every position.
const WORD_COUNT: usize = 1 << 10;

/// Layered leaves, to be asked which of a chunk's members they have.
#[derive(Debug)]
pub struct Scatter<'a> {
    leaves: Vec<Leaf<'a>>,
    is_exclusive: bool,
    scratch: Scratch,
}

impl<'a> Scatter<'a> {
    /// Each target is a leaf's layers, newest first. If they are exclusive, no two of them share a member.
    pub fn new<'l>(targets: impl IntoIterator<Item = &'l [Layer<'a>]>, is_exclusive: bool) -> Self
    where
        'a: 'l,
    {
        Scatter { leaves: targets.into_iter().map(Leaf::new).collect(), is_exclusive, scratch: Scratch::default() }
    }

    /// Calls with the number of a target and the rank (from 0) of a member in it, for all such pairs: by target, then by rank.
    ///
    /// O(targets) heads, and per target that has members in the chunk one pass over the members.
    pub fn for_each(&mut self, chunk: u16, members: ChunkSet<'_>, mut call: impl FnMut(usize, u32)) {
        let len = members.len();
        if len as usize <= FEW {
            let candidates: Vec<Le16> = members.iter().map(u16::to_le_bytes).collect();
            return self.each_of_few(chunk, &candidates, call);
        }
        let mut wanted = self.scratch.take_words();
        leaf::load(members.as_container(), &mut wanted);
        let before = ranks(&wanted);
        let mut own = self.scratch.take_words();
        let mut left = len;
        for (target, leaf) in self.leaves.iter_mut().enumerate() {
            if self.is_exclusive && left == 0 {
                break;
            }
            leaf.turn_to(chunk);
            if leaf.upper() == 0 || leaf.load(&mut own, &mut self.scratch) == 0 {
                continue;
            }
            left = left.saturating_sub(kernels::and_assign(self.scratch.level, &mut own, &wanted));
            for position in Container::Words(&own).iter() {
                let (word, bit) = (usize::from(position >> 6), position & 63);
                let below = u64::from_le_bytes(wanted[word]) & ((1 << bit) - 1);
                call(target, before[word] + below.count_ones());
            }
        }
        self.scratch.give_words(own);
        self.scratch.give_words(wanted);
    }

    fn each_of_few(&mut self, chunk: u16, candidates: &[Le16], mut call: impl FnMut(usize, u32)) {
        let mut mask = vec![0; candidates.len().div_ceil(64)];
        let mut left = candidates.len();
        for (target, leaf) in self.leaves.iter_mut().enumerate() {
            if left == 0 {
                break;
            }
            leaf.turn_to(chunk);
            if leaf.upper() == 0 {
                continue;
            }
            leaf.probe(candidates, &mut mask, &mut self.scratch);
            for (index, word) in mask.iter().enumerate() {
                let mut rest = *word;
                while rest != 0 {
                    call(target, index as u32 * 64 + rest.trailing_zeros());
                    left -= usize::from(self.is_exclusive);
                    rest &= rest - 1;
                }
            }
        }
    }
}

/// Members before each word.
fn ranks(words: &Words) -> Vec<u32> {
    let mut before = Vec::with_capacity(WORD_COUNT);
    let mut total = 0;
    for word in words {
        before.push(total);
        total += u64::from_le_bytes(*word).count_ones();
    }
    before
}
