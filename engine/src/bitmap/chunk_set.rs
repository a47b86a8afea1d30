//! Members of one chunk, as they are handed out and taken in.

use super::kernels::{self, Level};
use super::view::{Container, Run};

/// All positions of a chunk.
pub(crate) const CHUNK_LEN: u32 = 1 << 16;
/// All positions, as a container.
pub(crate) const EVERYBODY: &[Run] = &[[0, 0, 0xff, 0xff]];

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
            ChunkSet::Some(container) => container_len(*container),
        }
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rising positions.
    pub fn iter(self) -> impl Iterator<Item = u16> + use<'s> {
        self.as_container().iter()
    }

    /// Membership of a position.
    pub fn contains(&self, position: u16) -> bool {
        self.as_container().contains(position)
    }

    /// Positions in both.
    pub fn common_count(&self, other: &ChunkSet<'_>) -> u32 {
        match (self, other) {
            (ChunkSet::Empty, _) | (_, ChunkSet::Empty) => 0,
            (ChunkSet::Full, some) | (some, ChunkSet::Full) => some.len(),
            (ChunkSet::Some(a), ChunkSet::Some(b)) => kernels::common_count(Level::detect(), *a, *b),
        }
    }

    pub(crate) fn as_container(self) -> Container<'s> {
        match self {
            ChunkSet::Empty => Container::Array(&[]),
            ChunkSet::Full => Container::Runs(EVERYBODY),
            ChunkSet::Some(container) => container,
        }
    }
}

/// Positions in a container, counted.
pub(crate) fn container_len(container: Container<'_>) -> u32 {
    match container {
        Container::Array(array) => array.len() as u32,
        Container::Words(words) => kernels::count(Level::detect(), words),
        Container::Runs(runs) => runs.iter().map(|run| u32::from(u16::from_le_bytes([run[2], run[3]])) + 1).sum(),
    }
}

impl<'s> From<Container<'s>> for ChunkSet<'s> {
    fn from(container: Container<'s>) -> Self {
        match container {
            Container::Runs(runs) if runs == EVERYBODY => ChunkSet::Full,
            Container::Array([]) => ChunkSet::Empty,
            container => ChunkSet::Some(container),
        }
    }
}
