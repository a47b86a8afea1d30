//! The ids that are not on disk as a part yet.

use crate::ids::Slot;
use hashbrown::HashTable;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Ids of consecutive slots, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    first: Slot,
    blob: Vec<u8>,
    /// End of each id in the blob.
    ends: Vec<usize>,
    /// Slots less `first`, by hash of the id.
    index: HashTable<u32>,
}

impl Tail {
    pub(super) fn new(first: Slot) -> Self {
        Tail { first, ..Tail::default() }
    }

    pub(super) fn slots(&self) -> Range<Slot> {
        self.first..self.first + self.ends.len() as u32
    }

    /// The id of a slot; empty if it is not here.
    pub(super) fn id(&self, slot: Slot) -> &[u8] {
        slot.checked_sub(self.first).map_or(&[], |at| id_at(&self.blob, &self.ends, at as usize))
    }

    pub(super) fn find(&self, id: &[u8], hash: u64) -> Option<Slot> {
        let same = |at: &u32| id_at(&self.blob, &self.ends, *at as usize) == id;
        self.index.find(hash, same).map(|at| self.first + at)
    }

    pub(super) fn push(&mut self, id: &[u8], hash: u64) -> Slot {
        let at = self.ends.len() as u32;
        let slot = self.first.checked_add(at).expect("a shard has at most 2^32 users; use more shards");
        self.blob.extend_from_slice(id);
        self.ends.push(self.blob.len());
        let (blob, ends) = (&self.blob, &self.ends);
        self.index.insert_unique(hash, at, |at| xxh3_64(id_at(blob, ends, *at as usize)));
        slot
    }

    /// A copy of the ids below `end`, for writing; its index is empty.
    pub(super) fn clone_until(&self, end: Slot) -> Tail {
        let count = end.saturating_sub(self.first).min(self.ends.len() as u32) as usize;
        let blob_len = if count == 0 { 0 } else { self.ends[count - 1] };
        Tail {
            first: self.first,
            blob: self.blob[..blob_len].to_vec(),
            ends: self.ends[..count].to_vec(),
            index: HashTable::new(),
        }
    }

    /// Forgets the ids below `end`.
    pub(super) fn drop_until(&mut self, end: Slot) {
        let mut rest = Tail::new(end);
        for slot in end..self.slots().end {
            let id = self.id(slot);
            rest.push(id, xxh3_64(id));
        }
        *self = rest;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.blob.capacity() + self.ends.capacity() * size_of::<usize>() + self.index.allocation_size()
    }
}

fn id_at<'a>(blob: &'a [u8], ends: &[usize], at: usize) -> &'a [u8] {
    let Some(end) = ends.get(at) else { return &[] };
    let begin = if at == 0 { 0 } else { ends[at - 1] };
    &blob[begin..*end]
}
