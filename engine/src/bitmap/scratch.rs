//! Sets of one chunk while a program runs, and the memory they are made in.
//!
//! A set is borrowed from the file as long as possible; one that had to be made stands in pooled memory, so that a
//! program in its steady state allocates nothing.

use super::kernels;
use super::view::{ARRAY_LEN_MAX, Container, Le16, Words, run_last, run_start};

/// All positions of a chunk.
pub(super) const CHUNK_LEN: u32 = 1 << 16;

/// The members of a node within one chunk: positions `0..65_536`.
#[derive(Clone, Copy, Debug)]
pub enum ChunkSet<'s> {
    /// Nobody.
    Empty,
    /// Every position.
    Full,
    /// These positions; not necessarily fewer than all.
    Some(Container<'s>),
}

impl<'s> ChunkSet<'s> {
    /// Number of positions.
    pub fn len(&self) -> u32 {
        match self {
            ChunkSet::Empty => 0,
            ChunkSet::Full => CHUNK_LEN,
            ChunkSet::Some(Container::Array(array)) => array.len() as u32,
            ChunkSet::Some(Container::Words(words)) => kernels::count(words),
            ChunkSet::Some(Container::Runs(runs)) => runs.iter().map(|run| run_last(*run) - run_start(*run) + 1).sum(),
        }
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rising positions.
    pub fn iter(self) -> impl Iterator<Item = u16> + use<'s> {
        let (container, full) = match self {
            ChunkSet::Empty => (Container::Array(&[]), 0..0),
            ChunkSet::Full => (Container::Array(&[]), 0..CHUNK_LEN),
            ChunkSet::Some(container) => (container, 0..0),
        };
        container.iter().chain(full.map(|position| position as u16))
    }

    /// Membership of a position.
    pub fn contains(&self, position: u16) -> bool {
        match self {
            ChunkSet::Empty => false,
            ChunkSet::Full => true,
            ChunkSet::Some(container) => container.contains(position),
        }
    }

    /// Positions in both.
    pub fn common_count(&self, other: &ChunkSet<'_>) -> u32 {
        match (self, other) {
            (ChunkSet::Empty, _) | (_, ChunkSet::Empty) => 0,
            (ChunkSet::Full, some) | (some, ChunkSet::Full) => some.len(),
            (ChunkSet::Some(a), ChunkSet::Some(b)) => kernels::common_count(*a, *b),
        }
    }
}

impl<'s> From<Container<'s>> for ChunkSet<'s> {
    fn from(container: Container<'s>) -> Self {
        match container {
            Container::Runs([run]) if run_start(*run) == 0 && run_last(*run) == CHUNK_LEN - 1 => ChunkSet::Full,
            container => ChunkSet::Some(container),
        }
    }
}

/// A set with its memory: borrowed from the file (`'a`), or made.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Borrowed(ChunkSet<'a>),
    Array(Vec<Le16>),
    Words(Box<Words>),
    /// Kept by the evaluator under this node, which several others use.
    Shared(usize),
}

/// Pooled memory.
#[derive(Debug, Default)]
pub(super) struct Pool {
    arrays: Vec<Vec<Le16>>,
    words: Vec<Box<Words>>,
}

impl Pool {
    /// An empty array.
    pub(super) fn array(&mut self) -> Vec<Le16> {
        self.arrays.pop().unwrap_or_else(|| Vec::with_capacity(ARRAY_LEN_MAX))
    }

    /// An array with this content.
    pub(super) fn array_of(&mut self, content: &[Le16]) -> Vec<Le16> {
        let mut array = self.array();
        array.extend_from_slice(content);
        array
    }

    /// Words with any content.
    pub(super) fn words_unspecified(&mut self) -> Box<Words> {
        self.words.pop().unwrap_or_else(|| Box::new([[0; 8]; 1024]))
    }

    /// Words with no bit set.
    pub(super) fn words(&mut self) -> Box<Words> {
        let mut words = self.words_unspecified();
        words.fill([0; 8]);
        words
    }

    /// Words with the bits of `set`.
    pub(super) fn words_of(&mut self, set: ChunkSet<'_>) -> Box<Words> {
        if let ChunkSet::Some(Container::Words(from)) = set {
            let mut words = self.words_unspecified();
            words.copy_from_slice(from);
            return words;
        }
        let mut words = self.words();
        or_into(&mut words, set);
        words
    }

    pub(super) fn give_array(&mut self, mut array: Vec<Le16>) {
        array.clear();
        self.arrays.push(array);
    }

    pub(super) fn give_words(&mut self, words: Box<Words>) {
        self.words.push(words);
    }

    /// Takes a value's memory back.
    pub(super) fn give(&mut self, value: Value<'_>) {
        match value {
            Value::Array(array) => self.give_array(array),
            Value::Words(words) => self.give_words(words),
            Value::Borrowed(_) | Value::Shared(_) => {}
        }
    }

    /// The positions of `set` as an array.
    pub(super) fn array_from(&mut self, set: ChunkSet<'_>) -> Vec<Le16> {
        let mut array = self.array();
        match set {
            ChunkSet::Some(Container::Array(from)) => array.extend_from_slice(from),
            set => array.extend(set.iter().map(u16::to_le_bytes)),
        }
        array
    }
}

/// `words |= set`.
pub(super) fn or_into(words: &mut Words, set: ChunkSet<'_>) {
    match set {
        ChunkSet::Empty => {}
        ChunkSet::Full => words.fill([0xff; 8]),
        ChunkSet::Some(Container::Words(other)) => kernels::or_assign(words, other),
        ChunkSet::Some(Container::Array(array)) => {
            array.iter().for_each(|position| kernels::set_bit(words, u16::from_le_bytes(*position)));
        }
        ChunkSet::Some(Container::Runs(runs)) => {
            runs.iter().for_each(|run| kernels::set_range(words, run_start(*run), run_last(*run)));
        }
    }
}

/// `words &= !set`.
pub(super) fn and_not_into(words: &mut Words, set: ChunkSet<'_>) {
    match set {
        ChunkSet::Empty => {}
        ChunkSet::Full => words.fill([0; 8]),
        ChunkSet::Some(Container::Words(other)) => {
            kernels::and_not_assign(words, other);
        }
        ChunkSet::Some(Container::Array(array)) => {
            array.iter().for_each(|position| kernels::clear_bit(words, u16::from_le_bytes(*position)));
        }
        ChunkSet::Some(Container::Runs(runs)) => {
            runs.iter().for_each(|run| kernels::clear_range(words, run_start(*run), run_last(*run)));
        }
    }
}

/// `words &= set`, where `set` is not an array (an array is better intersected the other way round).
pub(super) fn and_into(words: &mut Words, set: ChunkSet<'_>) {
    match set {
        ChunkSet::Empty => words.fill([0; 8]),
        ChunkSet::Full => {}
        ChunkSet::Some(Container::Words(other)) => {
            kernels::and_assign(words, other);
        }
        ChunkSet::Some(container) => {
            let mut next = 0;
            let mut keep = |start: u32, last: u32| {
                if start > next {
                    kernels::clear_range(words, next, start - 1);
                }
                next = last + 1;
            };
            match container {
                Container::Runs(runs) => runs.iter().for_each(|run| keep(run_start(*run), run_last(*run))),
                other => other.iter().for_each(|position| keep(position.into(), position.into())),
            }
            if next < CHUNK_LEN {
                kernels::clear_range(words, next, CHUNK_LEN - 1);
            }
        }
    }
}

/// `words ^= set`.
pub(super) fn xor_into(words: &mut Words, set: ChunkSet<'_>) {
    match set {
        ChunkSet::Empty => {}
        ChunkSet::Full => kernels::not_assign(words),
        ChunkSet::Some(Container::Words(other)) => kernels::xor_assign(words, other),
        ChunkSet::Some(Container::Array(array)) => {
            array.iter().for_each(|position| {
                let position = u32::from(u16::from_le_bytes(*position));
                kernels::flip_range(words, position, position);
            });
        }
        ChunkSet::Some(Container::Runs(runs)) => {
            runs.iter().for_each(|run| kernels::flip_range(words, run_start(*run), run_last(*run)));
        }
    }
}

/// Removes from the rising `array` the positions of the rising `others`, all of which it has.
pub(super) fn remove_all(array: &mut Vec<Le16>, others: &[Le16]) {
    let mut others = others.iter().peekable();
    array.retain(|position| others.next_if_eq(&position).is_none());
}
