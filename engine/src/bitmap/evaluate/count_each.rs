//! One set against many leaves: the work of a profile.
//!
//! What takes time is reading the leaves, of which there are more than fit a cache. Each is fetched ahead, of few
//! candidates only what they need. Where the leaves exclude each other (the values of an enum, the bins of a histogram),
//! a chunk is done when everybody is found, and the leaves that had most of the last chunk are asked first.

use super::leaf::{self, Leaf, Now};
use super::scratch::{ArrayBuffer, MaskBuffer, Scratch};
use crate::bitmap::chunk_set::{CHUNK_LEN, ChunkSet};
use crate::bitmap::kernels;
use crate::bitmap::program::Layer;
use crate::bitmap::view::{Container, Le16, Words};
use std::cmp::Reverse;

/// Up to so many candidates, each is looked up; more are taken as a bit set, which takes about as many reads.
const FEW: usize = 128;
/// Containers are fetched so many looks-up ahead.
const AHEAD: usize = 3;
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
    targets: Vec<Leaf<'a>>,
    /// The targets' indices, those first that are likely to have most of the candidates.
    order: Vec<usize>,
    /// Candidates found in each target so far.
    hits: Vec<u64>,
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
        let targets: Vec<_> = targets.into_iter().map(Leaf::new).collect();
        let mut order: Vec<usize> = (0..targets.len()).collect();
        order.sort_by_cached_key(|index| Reverse(targets[*index].len_at_most()));
        let hits = vec![0; targets.len()];
        self.groups.push(Group { targets, order, hits, is_exclusive });
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
        let container = filter.as_container();
        if let Container::Array(candidates) = container
            && candidates.len() <= FEW
        {
            for (group, counts) in self.groups.iter_mut().zip(counts) {
                group.add_few(chunk, candidates, counts, &mut self.scratch);
            }
            return;
        }
        let mut loaded = self.scratch.take_words();
        let members = match container {
            Container::Words(words) => words,
            other => {
                leaf::load(other, &mut loaded);
                &loaded
            }
        };
        let len = filter.len();
        for (group, counts) in self.groups.iter_mut().zip(counts) {
            group.add_many(chunk, members, len, counts, &mut self.scratch);
        }
        self.scratch.give_words(loaded);
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
        (0..AHEAD).for_each(|place| self.turn(place, chunk, |next| kernels::prefetch_at(next, candidates)));
        for place in 0..self.order.len() {
            let candidates = left.as_deref().map_or(candidates, |left| left);
            if candidates.is_empty() {
                break;
            }
            self.turn(place + AHEAD, chunk, |next| kernels::prefetch_at(next, candidates));
            let index = self.order[place];
            let leaf = &self.targets[index];
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
            counts.each[index] += found as u64;
            self.hits[index] += found as u64;
            seen.iter_mut().zip(mask).for_each(|(seen, mask)| *seen |= *mask);
            found_of_left += found;
            if self.is_exclusive && found_of_left * FOUND_PART >= candidates.len() {
                counts.any += ones(&seen[..candidates.len().div_ceil(64)]) as u64;
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
        self.learn();
    }

    fn add_many(&mut self, chunk: u16, members: &Words, len: u32, counts: &mut GroupCounts, scratch: &mut Scratch) {
        let level = scratch.level;
        let is_everybody = len == CHUNK_LEN;
        // Members who are in no target so far, and how many.
        let (mut left, mut left_len) = (scratch.take_words(), len);
        if !self.is_exclusive {
            left.copy_from_slice(members);
        }
        let mut own = scratch.take_words();
        let is_read = !(is_everybody && self.is_exclusive);
        let fetch = |next: Container<'_>| {
            if is_read {
                kernels::prefetch(next);
            }
        };
        (0..AHEAD).for_each(|place| self.turn(place, chunk, fetch));
        for place in 0..self.order.len() {
            if self.is_exclusive && left_len == 0 {
                break;
            }
            self.turn(place + AHEAD, chunk, fetch);
            let index = self.order[place];
            let leaf = &self.targets[index];
            let (target, target_len) = match leaf.now() {
                Now::Empty => continue,
                Now::Container(target) => (target.container, target.len),
                Now::Composed => {
                    let len = leaf.load(&mut own, scratch);
                    (Container::Words(&own), len)
                }
            };
            let common = || {
                if is_everybody { target_len } else { kernels::common_count(level, Container::Words(members), target) }
            };
            let count = match target {
                _ if self.is_exclusive => {
                    let count = common();
                    left_len = left_len.saturating_sub(count);
                    count
                }
                _ if left_len == 0 => common(),
                Container::Array(array) => {
                    let (count, taken) = kernels::count_and_take(level, array, members, &mut left);
                    left_len = left_len.saturating_sub(taken);
                    count
                }
                Container::Words(words) => {
                    let count;
                    (count, left_len) = kernels::count_and_take_words(level, members, words, &mut left);
                    count
                }
                Container::Runs(runs) => {
                    kernels::remove_runs(&mut left, runs);
                    left_len = kernels::count(level, &left);
                    common()
                }
            };
            counts.each[index] += u64::from(count);
            self.hits[index] += u64::from(count);
        }
        counts.any += u64::from(len - left_len);
        scratch.give_words(own);
        scratch.give_words(left);
        self.learn();
    }

    /// Turns a target that is soon read to its chunk. Containers lie far apart and are read in parts: unless they are
    /// fetched, each part is waited for.
    fn turn(&mut self, place: usize, chunk: u16, fetch: impl FnOnce(Container<'_>)) {
        let Some(index) = self.order.get(place) else { return };
        let leaf = &mut self.targets[*index];
        leaf.turn_to(chunk);
        if let Now::Container(next) = leaf.now() {
            fetch(next.container);
        }
    }

    /// The next chunk's members are likely of the same kind: where all of them are found early, the other targets
    /// need not be read.
    fn learn(&mut self) {
        let Group { order, hits, is_exclusive, .. } = self;
        if *is_exclusive {
            order.sort_by_key(|index| Reverse(hits[*index]));
        }
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
