//! One set against many leaves: the work of a profile.

use super::leaf::{Leaf, Now};
use super::scratch::Scratch;
use crate::bitmap::chunk_set::ChunkSet;
use crate::bitmap::kernels;
use crate::bitmap::program::Layer;
use crate::bitmap::view::{ARRAY_LEN_MAX, Container};

/// Many layered leaves counted under one filter: for each target, `|filter ∩ target|` in a chunk is added to its count.
#[derive(Debug)]
pub struct CountEach<'a> {
    targets: Vec<Leaf<'a>>,
    scratch: Scratch,
}

impl<'a> CountEach<'a> {
    /// Counts for these targets; each is a leaf's layers, newest first.
    pub fn new<'l>(targets: impl IntoIterator<Item = &'l [Layer<'a>]>) -> Self
    where
        'a: 'l,
    {
        CountEach { targets: targets.into_iter().map(Leaf::new).collect(), scratch: Scratch::default() }
    }

    /// Adds one chunk's counts to `counts`, which is as long as the targets.
    pub fn add(&mut self, chunk: u16, filter: ChunkSet<'_>, counts: &mut [u64]) {
        assert_eq!(counts.len(), self.targets.len(), "a count for each target");
        if matches!(filter, ChunkSet::Empty) {
            return;
        }
        let is_full = matches!(filter, ChunkSet::Full);
        let filter = filter.as_container();
        for (target, count) in self.targets.iter_mut().zip(counts) {
            target.turn_to(chunk);
            *count += u64::from(match target.now() {
                Now::Empty => 0,
                Now::Container(target) if is_full => target.len,
                Now::Container(target) => kernels::common_count(self.scratch.level, filter, target.container),
                Now::Composed => count_composed(target, filter, &mut self.scratch),
            });
        }
    }
}

fn count_composed(target: &Leaf<'_>, filter: Container<'_>, scratch: &mut Scratch) -> u32 {
    if let Container::Array(candidates) = filter
        && candidates.len() <= ARRAY_LEN_MAX
    {
        let mut mask = scratch.take_mask();
        let words = candidates.len().div_ceil(64);
        target.probe(candidates, &mut mask[..words], scratch);
        let count = mask[..words].iter().map(|word| word.count_ones()).sum();
        scratch.give_mask(mask);
        return count;
    }
    let mut words = scratch.take_words();
    target.load(&mut words, scratch);
    let count = kernels::common_count(scratch.level, filter, Container::Words(&words));
    scratch.give_words(words);
    count
}
