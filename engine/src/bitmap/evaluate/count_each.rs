//! One set against many leaves: the work of a profile.
//!
//! Few candidates are looked up in every leaf of a group, a bit a candidate. Where the leaves exclude each other (the values
//! of an enum, the bins of a histogram), whoever was found is not looked up again, so that a group costs little more
//! than its most frequent leaves.

use super::leaf::{self, Leaf, Now};
use super::scratch::{ArrayBuffer, MaskBuffer, Scratch};
use crate::bitmap::chunk_set::ChunkSet;
use crate::bitmap::kernels;
use crate::bitmap::program::Layer;
use crate::bitmap::view::{ARRAY_LEN_MAX, Container, Le16};

/// Found candidates are taken out of the way once they are this part of all.
const FOUND_PART: usize = 4;

/// Layered leaves, in groups, counted under one filter.
#[derive(Debug)]
pub struct CountEach<'a> {
    groups: Vec<Group<'a>>,
    scratch: Scratch,
}

/// The counts of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Per target, members of the filter that are in it.
    pub each: Vec<u64>,
    /// Members of the filter that are in any target.
    pub any: u64,
}

impl GroupCounts {
    /// Adds the counts of other chunks.
    pub fn add(&mut self, other: &GroupCounts) {
        self.any += other.any;
        self.each.iter_mut().zip(&other.each).for_each(|(sum, count)| *sum += count);
    }
}

#[derive(Debug)]
struct Group<'a> {
    /// Biggest first, each with its place among the group's targets.
    targets: Vec<(usize, Leaf<'a>)>,
    is_exclusive: bool,
}

impl<'a> CountEach<'a> {
    /// Nothing to count yet.
    pub fn new() -> Self {
        CountEach { groups: Vec::new(), scratch: Scratch::default() }
    }

    /// Adds a group; each target is a leaf's layers, newest first. In an exclusive group no two targets share a member.
    pub fn group<'l>(&mut self, targets: impl IntoIterator<Item = &'l [Layer<'a>]>, is_exclusive: bool)
    where
        'a: 'l,
    {
        let mut targets: Vec<_> = targets.into_iter().map(Leaf::new).enumerate().collect();
        targets.sort_by_cached_key(|(_, leaf)| std::cmp::Reverse(leaf.len_at_most()));
        self.groups.push(Group { targets, is_exclusive });
    }

    /// A zero for every target of every group.
    pub fn zeros(&self) -> Vec<GroupCounts> {
        let zeros = |group: &Group<'_>| GroupCounts { each: vec![0; group.targets.len()], any: 0 };
        self.groups.iter().map(zeros).collect()
    }

    /// Adds one chunk's counts to `counts`, which are as [`CountEach::zeros`] made them.
    pub fn add(&mut self, chunk: u16, filter: ChunkSet<'_>, counts: &mut [GroupCounts]) {
        assert_eq!(counts.len(), self.groups.len(), "counts for each group");
        if matches!(filter, ChunkSet::Empty) {
            return;
        }
        let is_full = matches!(filter, ChunkSet::Full);
        for (group, counts) in self.groups.iter_mut().zip(counts) {
            match filter.as_container() {
                Container::Array(candidates) if candidates.len() <= ARRAY_LEN_MAX => {
                    group.add_few(chunk, candidates, counts, &mut self.scratch);
                }
                filter => group.add_many(chunk, filter, is_full, counts, &mut self.scratch),
            }
        }
    }
}

impl Default for CountEach<'_> {
    fn default() -> Self {
        CountEach::new()
    }
}

impl Group<'_> {
    fn add_few(&mut self, chunk: u16, candidates: &[Le16], counts: &mut GroupCounts, scratch: &mut Scratch) {
        let (mut mask, mut seen) = (scratch.take_mask(), scratch.take_mask());
        seen[..candidates.len().div_ceil(64)].fill(0);
        let mut left: Option<Box<ArrayBuffer>> = None;
        let mut found_of_left = 0;
        if let Some((_, leaf)) = self.targets.first_mut() {
            leaf.turn_to(chunk);
        }
        for place in 0..self.targets.len() {
            let candidates = left.as_deref().map_or(candidates, |left| left);
            if candidates.is_empty() {
                break;
            }
            // Few of a container's bytes are read, and none in order: without this, each would be waited for.
            if let Some((_, next)) = self.targets.get_mut(place + 1) {
                next.turn_to(chunk);
                if let Now::Container(next) = next.now() {
                    kernels::prefetch(next.container);
                }
            }
            let (index, leaf) = &self.targets[place];
            let mask = &mut mask[..candidates.len().div_ceil(64)];
            match leaf.now() {
                Now::Empty => continue,
                Now::Container(target) => {
                    mask.fill(0);
                    kernels::probe(scratch.level, candidates, target.container, mask);
                }
                Now::Composed => leaf.probe(candidates, mask, scratch),
            }
            let found = ones(mask);
            if found == 0 {
                continue;
            }
            counts.each[*index] += found as u64;
            seen.iter_mut().zip(mask).for_each(|(seen, mask)| *seen |= *mask);
            found_of_left += found;
            if self.is_exclusive && found_of_left * FOUND_PART >= candidates.len() {
                counts.any += found_of_left as u64;
                let rest = without(candidates, &mut seen, scratch);
                left.replace(rest).into_iter().for_each(|array| scratch.give_array(array));
                found_of_left = 0;
            }
        }
        let words = left.as_deref().map_or(candidates, |left| left).len().div_ceil(64);
        counts.any += ones(&seen[..words]) as u64;
        left.into_iter().for_each(|array| scratch.give_array(array));
        scratch.give_mask(mask);
        scratch.give_mask(seen);
    }

    fn add_many(
        &mut self,
        chunk: u16,
        filter: Container<'_>,
        is_full: bool,
        counts: &mut GroupCounts,
        scratch: &mut Scratch,
    ) {
        let level = scratch.level;
        let mut own = scratch.take_words();
        let mut union = scratch.take_words();
        union.fill([0; 8]);
        for (index, leaf) in &mut self.targets {
            leaf.turn_to(chunk);
            let (target, len) = match leaf.now() {
                Now::Empty => continue,
                Now::Container(target) => (target.container, target.len),
                Now::Composed => {
                    let len = leaf.load(&mut own, scratch);
                    (Container::Words(&own), len)
                }
            };
            let count = u64::from(if is_full { len } else { kernels::common_count(level, filter, target) });
            counts.each[*index] += count;
            if self.is_exclusive {
                counts.any += count;
            } else {
                leaf::add(level, &mut union, target);
            }
        }
        if !self.is_exclusive {
            counts.any += u64::from(kernels::common_count(level, filter, Container::Words(&union)));
        }
        scratch.give_words(own);
        scratch.give_words(union);
    }
}

/// The candidates whose bit is clear; clears the mask.
fn without(candidates: &[Le16], mask: &mut MaskBuffer, scratch: &mut Scratch) -> Box<ArrayBuffer> {
    let mut rest = scratch.take_array();
    let mask = &mut mask[..candidates.len().div_ceil(64)];
    rest.len = kernels::select_mask(scratch.level, candidates, mask, false, &mut rest.room);
    mask.fill(0);
    rest
}

fn ones(mask: &[u64]) -> usize {
    mask.iter().map(|word| word.count_ones() as usize).sum()
}
