//! One set against many leaves: the work of a profile.

use super::program::Layer;
use super::scratch::{ChunkSet, Pool, Value};
use super::stack::Stack;
use super::view::Container;

/// Many layered leaves counted under one filter: for each target, `|filter ∩ target|` in a chunk is added to its count.
#[derive(Debug)]
pub struct CountEach<'a> {
    targets: Vec<Stack<'a>>,
    pool: Pool,
}

impl<'a> CountEach<'a> {
    /// Counts for these targets; each is a leaf's layers, newest first.
    pub fn new<'l>(targets: impl IntoIterator<Item = &'l [Layer<'a>]>) -> Self
    where
        'a: 'l,
    {
        CountEach { targets: targets.into_iter().map(Stack::new).collect(), pool: Pool::default() }
    }

    /// Adds one chunk's counts to `counts`, which is as long as the targets.
    pub fn add(&mut self, chunk: u16, filter: ChunkSet<'_>, counts: &mut [u64]) {
        if matches!(filter, ChunkSet::Empty) {
            return;
        }
        for (target, count) in self.targets.iter().zip(counts) {
            let bound = target.bound(chunk);
            if bound == 0 {
                continue;
            }
            if matches!(filter, ChunkSet::Full) && target.plain().is_some() {
                *count += u64::from(bound);
                continue;
            }
            let value = target.evaluate(&mut self.pool, chunk);
            let set = match &value {
                Value::Borrowed(set) => *set,
                Value::Array(array) => ChunkSet::Some(Container::Array(array)),
                Value::Words(words) => ChunkSet::Some(Container::Words(words)),
                Value::Shared(_) => unreachable!("a leaf's value is not shared"),
            };
            *count += u64::from(filter.common_count(&set));
            self.pool.give(value);
        }
    }
}
