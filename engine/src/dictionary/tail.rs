//! The ids that are not on disk as a part yet.

use super::record::{GROUP, HEADER_BYTES, Header};
use crate::ids::Slot;
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Ids of consecutive slots, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    first: Slot,
    count: u32,
    records: Records,
    /// Position of every [`GROUP`]th record.
    groups: Vec<u32>,
    /// Positions of records by hash of the id.
    index: HashTable<u32>,
}

/// Records in chunks, so that growing copies nothing and wastes little. A position is the chunk's number and the place in
/// it; a record lies in one chunk.
#[derive(Clone, Debug, Default)]
struct Records(Vec<Arc<Vec<u8>>>);

const CHUNK_BITS: u32 = 20;
const CHUNK_BYTES: usize = 1 << CHUNK_BITS;

impl Records {
    fn push(&mut self, header: Header, id: &[u8]) -> u32 {
        let fits = |chunk: &Arc<Vec<u8>>| chunk.len() + header.record_len() <= CHUNK_BYTES;
        if !self.0.last().is_some_and(fits) {
            // The first chunk grows as it fills: a shard of few users stays small.
            let capacity = if self.0.is_empty() { 0 } else { CHUNK_BYTES };
            self.0.push(Arc::new(Vec::with_capacity(capacity)));
        }
        let number = self.0.len() - 1;
        let chunk = Arc::make_mut(&mut self.0[number]);
        let message = "the store checkpoints ids long before a shard has 4 GiB of them in memory";
        let position = u32::try_from(number << CHUNK_BITS | chunk.len()).expect(message);
        chunk.extend_from_slice(&header.to_bytes());
        chunk.extend_from_slice(id);
        position
    }

    /// The record at a position.
    #[inline]
    fn at(&self, position: u32) -> (Header, &[u8]) {
        let place = position as usize & (CHUNK_BYTES - 1);
        let record = &self.0[(position >> CHUNK_BITS) as usize][place..];
        let (header, rest) = record.split_first_chunk::<HEADER_BYTES>().expect("a position of a record");
        let header = Header::read(header);
        (header, &rest[..usize::from(header.id_len)])
    }

    /// Asks the processor to fetch a record, without waiting for it.
    #[inline]
    fn prefetch(&self, position: u32) {
        #[cfg(target_arch = "x86_64")]
        if let Some(byte) = self.0[(position >> CHUNK_BITS) as usize].get(position as usize & (CHUNK_BYTES - 1)) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing that the program could notice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = position;
    }

    /// Where the next record is: behind this one, or at the begin of the next chunk.
    fn next(&self, position: u32) -> u32 {
        let behind = position as usize + self.at(position).0.record_len();
        let chunk = position >> CHUNK_BITS;
        let is_last = behind - ((chunk as usize) << CHUNK_BITS) >= self.0[chunk as usize].len();
        if is_last { (chunk + 1) << CHUNK_BITS } else { behind as u32 }
    }
}

impl Tail {
    pub(super) fn new(first: Slot) -> Self {
        Tail { first, ..Tail::default() }
    }

    pub(super) fn slots(&self) -> Range<Slot> {
        self.first..self.first + self.count
    }

    /// The id of a slot; empty if it is not here.
    pub(super) fn id(&self, slot: Slot) -> &[u8] {
        let Some(at) = slot.checked_sub(self.first).filter(|at| *at < self.count) else { return &[] };
        let mut position = self.groups[(at / GROUP) as usize];
        for _ in 0..at % GROUP {
            position = self.records.next(position);
        }
        self.records.at(position).1
    }

    pub(super) fn find(&self, id: &[u8], hash: u64) -> Option<Slot> {
        let same = |position: &u32| self.records.at(*position).1 == id;
        self.index.find(hash, same).map(|position| self.records.at(*position).0.slot)
    }

    /// Has fetched the records that [`Tail::find`] will compare with an id of this hash.
    pub(super) fn warm(&self, hash: u64) {
        self.index.find(hash, |position| {
            self.records.prefetch(*position);
            false
        });
    }

    pub(super) fn push(&mut self, id: &[u8], hash: u64) -> Slot {
        let (slot, position) = self.append(id);
        let records = &self.records;
        self.index.insert_unique(hash, position, |position| xxh3_64(records.at(*position).1));
        slot
    }

    fn append(&mut self, id: &[u8]) -> (Slot, u32) {
        let slot = self.first.checked_add(self.count).expect("a shard has at most 2^32 users; use more shards");
        let position = self.records.push(Header::of(slot, id), id);
        if self.count.is_multiple_of(GROUP) {
            self.groups.push(position);
        }
        self.count += 1;
        (slot, position)
    }

    /// Finds the id of a slot no more; its bytes stay until the next checkpoint lets them out of memory.
    pub(super) fn erase(&mut self, slot: Slot) {
        let hash = xxh3_64(self.id(slot));
        let records = &self.records;
        if let Ok(entry) = self.index.find_entry(hash, |position| records.at(*position).0.slot == slot) {
            entry.remove();
        }
    }

    /// The ids below `end`, for writing: shares their bytes, and finds none.
    pub(super) fn below(&self, end: Slot) -> Tail {
        let count = end.saturating_sub(self.first).min(self.count);
        Tail {
            first: self.first,
            count,
            records: self.records.clone(),
            groups: self.groups[..count.div_ceil(GROUP) as usize].to_vec(),
            index: HashTable::new(),
        }
    }

    /// The ids by slot.
    pub(super) fn ids(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = 0;
        (0..self.count).map(move |_| {
            let position = next;
            next = self.records.next(position);
            self.records.at(position).1
        })
    }

    /// Forgets the ids below `end`, and those of erased slots.
    pub(super) fn drop_until(&mut self, end: Slot, erased: &RoaringBitmap) {
        let mut rest = Tail::new(end);
        for slot in end..self.slots().end {
            if erased.contains(slot) {
                rest.append(&[]);
                continue;
            }
            let id = self.id(slot);
            rest.push(id, xxh3_64(id));
        }
        *self = rest;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let records: usize = self.records.0.iter().map(|chunk| chunk.capacity()).sum();
        records + self.groups.capacity() * size_of::<u32>() + self.index.allocation_size()
    }
}
