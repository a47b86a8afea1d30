//! External user id ↔ slot, for one shard.
//!
//! Slots are given in order of first sight. Ids already checkpointed stand in immutable, mapped [`part`]s that cover slot
//! ranges without gaps; newer ones in a [`tail`] in memory. Both are the ids one after another
//! ([`record`]) and a hash index of where they stand, so an id costs its bytes and some 17 more; opening reads none of them.
//!
//! An id can be erased: its slot stays, with no bytes and out of the index, and is never given again. Until the part that has its
//! bytes is written anew, the slot is passed over here; the id, let in again, gets another one.

pub mod part;
mod record;
mod tail;

use crate::error::{MergeError, ReadError};
use crate::ids::Slot;
use crate::vfs::Vfs;
use part::{Part, Warm, write_part};
use roaring::RoaringBitmap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tail::Tail;
use xxhash_rust::xxh3::xxh3_64;

/// The ids of one shard: many readers, one writer at a time.
#[derive(Debug, Default)]
pub struct Dictionary(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By rising slot, without gaps, from slot 0.
    parts: Vec<Arc<Part>>,
    /// What follows the last part.
    tail: Tail,
    /// Slots that were erased, some of which a part still has the id of.
    erased: RoaringBitmap,
}

/// Look-ups whose waits for memory overlap.
const TOGETHER: usize = 32;

/// An id and its [`hash_of`].
pub type HashedId<'i> = (&'i [u8], u64);

/// The hash of an id, by which it is found.
pub fn hash_of(id: &[u8]) -> u64 {
    xxh3_64(id)
}

impl Inner {
    /// Has fetched what looking for these ids will read: a few ids together wait for memory once, not once each.
    fn warm(&self, ids: &[HashedId<'_>]) {
        ids.iter().for_each(|(_, hash)| self.tail.warm(*hash));
        for step in [Warm::Index, Warm::Record] {
            for part in &self.parts {
                ids.iter().for_each(|(_, hash)| part.warm(*hash, step));
            }
        }
    }

    fn find_or_push(
        &mut self,
        id: &[u8],
        hash: u64,
        admits: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Slot>, ReadError> {
        match self.find(id, hash)? {
            None if admits(id) => Ok(Some(self.tail.push(id, hash))),
            found => Ok(found),
        }
    }

    fn find(&self, id: &[u8], hash: u64) -> Result<Option<Slot>, ReadError> {
        if let Some(slot) = self.tail.find(id, hash) {
            return Ok(Some(slot));
        }
        // The largest part is the oldest; most ids are there.
        for part in &self.parts {
            if let Some(slot) = part.find(id, hash)?.filter(|slot| !self.erased.contains(*slot)) {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }
}

/// Exclusive access for a batch of insertions.
#[derive(Debug)]
pub struct DictionaryWriter<'d>(RwLockWriteGuard<'d, Inner>);

impl DictionaryWriter<'_> {
    /// Slots given so far.
    pub fn slot_count(&self) -> u32 {
        self.0.tail.slots().end
    }

    /// The slot of an id, given now if it is new.
    ///
    /// # Errors
    /// [`ReadError`] if a part is damaged.
    ///
    /// # Panics
    /// If the shard would have more than 2^32 users.
    pub fn get_or_insert(&mut self, id: &[u8]) -> Result<Slot, ReadError> {
        let slot = self.0.find_or_push(id, hash_of(id), |_| true)?;
        Ok(slot.expect("every new id is let in"))
    }

    /// The same of several ids with their hashes, one after another; faster than one by one. A new id that is not to be let in gets none.
    ///
    /// # Errors
    /// [`ReadError`] if a part is damaged; ids before it may have got their slots.
    ///
    /// # Panics
    /// If the shard would have more than 2^32 users.
    pub fn get_or_insert_each(
        &mut self,
        ids: &[HashedId<'_>],
        admits: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Option<Slot>>, ReadError> {
        let mut slots = Vec::with_capacity(ids.len());
        for ids in ids.chunks(TOGETHER) {
            self.0.warm(ids);
            for (id, hash) in ids {
                slots.push(self.0.find_or_push(id, *hash, &admits)?);
            }
        }
        Ok(slots)
    }
}

impl Dictionary {
    /// A dictionary of these parts, by rising slot.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the parts leave a gap.
    pub fn open(parts: Vec<Arc<Part>>) -> Result<Self, ReadError> {
        let mut next = 0;
        for part in &parts {
            if part.slots().start != next {
                return Err(part.corrupt("the part before it is missing"));
            }
            next = part.slots().end;
        }
        Ok(Dictionary(RwLock::new(Inner { parts, tail: Tail::new(next), erased: RoaringBitmap::new() })))
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Exclusive access; readers wait until it is dropped, so keep it for a batch, not longer.
    pub fn writer(&self) -> DictionaryWriter<'_> {
        DictionaryWriter(self.write())
    }

    /// The slot of a known id.
    ///
    /// # Errors
    /// [`ReadError`] if a part is damaged.
    pub fn slot_of(&self, id: &[u8]) -> Result<Option<Slot>, ReadError> {
        self.read().find(id, hash_of(id))
    }

    /// The slots of several ids with their hashes; faster than one by one.
    ///
    /// # Errors
    /// [`ReadError`] if a part is damaged.
    pub fn slots_of(&self, ids: &[HashedId<'_>]) -> Result<Vec<Option<Slot>>, ReadError> {
        let inner = self.read();
        let mut slots = Vec::with_capacity(ids.len());
        for ids in ids.chunks(TOGETHER) {
            inner.warm(ids);
            for (id, hash) in ids {
                slots.push(inner.find(id, *hash)?);
            }
        }
        Ok(slots)
    }

    /// Appends the id of a slot to `out`; false if there is no such slot or its id was erased.
    ///
    /// # Errors
    /// [`ReadError`] if a part is damaged.
    pub fn user_id(&self, slot: Slot, out: &mut Vec<u8>) -> Result<bool, ReadError> {
        let inner = self.read();
        if inner.erased.contains(slot) {
            return Ok(false);
        }
        let id = if slot >= inner.tail.slots().start {
            inner.tail.id(slot)
        } else {
            let at = inner.parts.partition_point(|part| part.slots().end <= slot);
            inner.parts[at].id(slot)?
        };
        out.extend_from_slice(id);
        Ok(!id.is_empty())
    }

    /// Slots given so far.
    pub fn slot_count(&self) -> u32 {
        self.read().tail.slots().end
    }

    /// Slots that are only in memory.
    pub fn unsealed(&self) -> Range<Slot> {
        self.read().tail.slots()
    }

    /// Writes the in-memory ids below `end` as a part file and syncs it (not its folder). Writers go on meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_unsealed(&self, end: Slot, vfs: &dyn Vfs, path: &Path) -> std::io::Result<u64> {
        let (ids, erased) = {
            let inner = self.read();
            (inner.tail.below(end), inner.erased.clone())
        };
        let left = ids.slots().zip(ids.ids()).map(|(slot, id)| if erased.contains(slot) { &[][..] } else { id });
        write_part(vfs, path, ids.slots(), left)
    }

    /// Takes a written part in and lets its ids out of memory.
    pub fn adopt(&self, part: Arc<Part>) {
        let mut inner = self.write();
        let Inner { parts, tail, erased } = &mut *inner;
        tail.drop_until(part.slots().end, erased);
        parts.push(part);
    }

    /// Forgets the ids of these slots: none of them is found any more, and what is written from now on has no bytes of them.
    pub fn erase(&self, slots: &RoaringBitmap) {
        let mut inner = self.write();
        let Inner { tail, erased, .. } = &mut *inner;
        (slots - &*erased).iter().for_each(|slot| tail.erase(slot));
        *erased |= slots;
    }

    /// No part has the ids of these slots any more.
    pub fn forget_erased(&self, slots: &RoaringBitmap) {
        self.write().erased -= slots;
    }

    /// A part that has the id of one of these slots.
    ///
    /// # Errors
    /// [`ReadError`] if a part is damaged.
    pub fn part_with(&self, slots: &RoaringBitmap) -> Result<Option<Arc<Part>>, ReadError> {
        for part in self.parts() {
            for slot in slots.range(part.slots()) {
                if !part.id(slot)?.is_empty() {
                    return Ok(Some(part));
                }
            }
        }
        Ok(None)
    }

    /// The parts, by rising slot.
    pub fn parts(&self) -> Vec<Arc<Part>> {
        self.read().parts.clone()
    }

    /// A run of neighbouring parts worth merging: sizes are kept falling at least fourfold, so that there are
    /// O(log n) parts and an id is rewritten O(log n) times.
    pub fn merge_due(&self) -> Option<Range<usize>> {
        let parts = self.parts();
        let len = |index: usize| parts[index].slots().len();
        let mut first = parts.len().checked_sub(1)?;
        let mut total = len(first);
        let mut due = None;
        while first > 0 {
            first -= 1;
            if total * 4 > len(first) {
                due = Some(first..parts.len());
            }
            total += len(first);
        }
        due
    }

    /// Writes neighbouring parts as one file, without the ids of what is erased, and syncs it (not its folder).
    ///
    /// # Errors
    /// A damaged part, or what the disk says.
    pub fn write_merged(&self, parts: &[Arc<Part>], vfs: &dyn Vfs, path: &Path) -> Result<u64, MergeError> {
        let Some(first) = parts.first() else { return Ok(0) };
        let slots = first.slots().start..parts.last().unwrap_or(first).slots().end;
        let erased = self.read().erased.clone();
        let mut damage = None;
        let ids =
            parts.iter().flat_map(|part| part.ids()).map_while(|id| id.map_err(|error| damage = Some(error)).ok());
        let left = slots.clone().zip(ids).map(|(slot, id)| if erased.contains(slot) { &[][..] } else { id });
        let written = write_part(vfs, path, slots, left)?;
        damage.map_or(Ok(written), |error| Err(error.into()))
    }

    /// Puts a merged part in the place of the parts it covers.
    pub fn replace(&self, merged: Arc<Part>) {
        let mut inner = self.write();
        let covered =
            |part: &Part| part.slots().start >= merged.slots().start && part.slots().end <= merged.slots().end;
        let at = inner.parts.iter().position(|part| covered(part)).unwrap_or(inner.parts.len());
        inner.parts.retain(|part| !covered(part));
        inner.parts.insert(at, merged);
    }

    /// Bytes of memory (not of mapped files).
    pub fn heap_bytes(&self) -> usize {
        self.read().tail.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::memory::MemoryVfs;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::path::PathBuf;

    fn path(number: usize) -> PathBuf {
        PathBuf::from(format!("/{number}.ids"))
    }

    fn seal(dictionary: &Dictionary, vfs: &MemoryVfs, number: usize) {
        let end = dictionary.slot_count();
        if !dictionary.unsealed().is_empty() {
            dictionary.write_unsealed(end, vfs, &path(number)).expect("write");
            dictionary.adopt(Arc::new(Part::open(vfs, &path(number)).expect("open")));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn gives_each_id_one_slot_for_good(
            steps in proptest::collection::vec((proptest::collection::vec("[a-d]{1,3}|[0-9]{1,20}", 1..40), 0..4u8), 1..20),
        ) {
            let vfs = MemoryVfs::default();
            let mut dictionary = Dictionary::default();
            let mut model: HashMap<String, Slot> = HashMap::new();
            for (number, (ids, then)) in steps.into_iter().enumerate() {
                let hashed: Vec<HashedId<'_>> = ids.iter().map(|id| (id.as_bytes(), hash_of(id.as_bytes()))).collect();
                let slots: Vec<Slot> = if then % 2 == 0 {
                    {
                        let slots = dictionary.writer().get_or_insert_each(&hashed, |_| true).expect("good");
                        slots.into_iter().flatten().collect()
                    }
                } else {
                    let one = |(id, _): &HashedId<'_>| dictionary.writer().get_or_insert(id).expect("good");
                    hashed.iter().map(one).collect()
                };
                for (id, slot) in ids.into_iter().zip(slots) {
                    let next = model.len() as Slot;
                    prop_assert_eq!(slot, *model.entry(id).or_insert(next));
                }
                if then > 0 {
                    seal(&dictionary, &vfs, number);
                }
                if then > 1 && let Some(due) = dictionary.merge_due() {
                    let merged = PathBuf::from(format!("/merged-{number}.ids"));
                    dictionary.write_merged(&dictionary.parts()[due], &vfs, &merged).expect("merge");
                    dictionary.replace(Arc::new(Part::open(&vfs, &merged).expect("open")));
                }
                if then > 2 {
                    dictionary = Dictionary::open(dictionary.parts()).expect("no gap");
                }
                prop_assert_eq!(dictionary.slot_count() as usize, model.len());
                for (id, slot) in &model {
                    prop_assert_eq!(dictionary.slot_of(id.as_bytes()).expect("good"), Some(*slot));
                    let mut found = Vec::new();
                    prop_assert!(dictionary.user_id(*slot, &mut found).expect("good"));
                    prop_assert_eq!(found, id.as_bytes());
                }
                let asked: Vec<HashedId<'_>> =
                    model.keys().map(String::as_bytes).chain([&b"nobody"[..]]).map(|id| (id, hash_of(id))).collect();
                let expected: Vec<Option<Slot>> = model.values().copied().map(Some).chain([None]).collect();
                prop_assert_eq!(dictionary.slots_of(&asked).expect("good"), expected);
                prop_assert_eq!(dictionary.slot_of(b"nobody").expect("good"), None);
                prop_assert!(!dictionary.user_id(dictionary.slot_count(), &mut Vec::new()).expect("good"));
            }
        }
    }

    #[test]
    fn an_erased_id_leaves_its_slot() {
        let vfs = MemoryVfs::default();
        let ids: [&[u8]; 3] = [b"a", b"", b"c"];
        write_part(&vfs, &path(0), 0..ids.len() as Slot, ids.into_iter()).expect("write");
        let part = Arc::new(Part::open(&vfs, &path(0)).expect("open"));
        part.verify().expect("good");
        let dictionary = Dictionary::open(vec![part]).expect("no gap");
        assert_eq!(dictionary.slot_of(b"").expect("good"), None);
        assert!(!dictionary.user_id(1, &mut Vec::new()).expect("good"));
        assert_eq!(dictionary.writer().get_or_insert(b"b").expect("good"), 3);
    }

    #[test]
    fn an_id_that_is_erased_and_let_in_again_gets_another_slot() {
        let vfs = MemoryVfs::default();
        let dictionary = Dictionary::default();
        let slot = |id: &[u8]| dictionary.writer().get_or_insert(id).expect("good");
        let id_of = |slot| {
            let mut id = Vec::new();
            dictionary.user_id(slot, &mut id).expect("good").then_some(id)
        };
        let erase = |slot: Slot| dictionary.erase(&RoaringBitmap::from([slot]));
        assert_eq!((slot(b"a"), slot(b"b")), (0, 1));
        seal(&dictionary, &vfs, 0);
        assert_eq!(slot(b"c"), 2);
        // One in a part, one in memory.
        erase(0);
        erase(2);
        assert_eq!((id_of(0), id_of(1), id_of(2)), (None, Some(b"b".to_vec()), None));
        assert_eq!(dictionary.slot_of(b"a").expect("good"), None);
        let refused = dictionary.writer().get_or_insert_each(&[(b"a", hash_of(b"a"))], |_| false);
        assert_eq!(refused.expect("good"), [None]);
        assert_eq!((slot(b"a"), slot(b"c"), slot(b"b")), (3, 4, 1));
        erase(4);
        assert_eq!(slot(b"c"), 5);
        seal(&dictionary, &vfs, 1);
        let doomed = RoaringBitmap::from([0, 2, 4]);
        let part = dictionary.part_with(&doomed).expect("good").expect("the first has `a`");
        assert_eq!(part.slots(), 0..2);
        dictionary.write_merged(&[part], &vfs, &path(2)).expect("write");
        dictionary.replace(Arc::new(Part::open(&vfs, &path(2)).expect("open")));
        assert!(dictionary.part_with(&doomed).expect("good").is_none());
        dictionary.forget_erased(&doomed);
        let ids: Vec<_> = (0..6).map(id_of).collect();
        let expected = [None, Some("b"), None, Some("a"), None, Some("c")];
        assert_eq!(ids, expected.map(|id| id.map(|id| id.as_bytes().to_vec())));
        assert_eq!(dictionary.slot_of(b"a").expect("good"), Some(3));
    }

    #[test]
    fn damage_is_named() {
        let vfs = MemoryVfs::default();
        let ids: Vec<String> = (0..5_000).map(|number| format!("user-{number}")).collect();
        write_part(&vfs, &path(0), 0..ids.len() as Slot, ids.iter().map(String::as_bytes)).expect("write");
        let len = vfs.files()[0].1;
        for bit in (0..len * 8).step_by(len / 30) {
            vfs.flip_bit(&path(0), bit);
            let found = Part::open(&vfs, &path(0)).and_then(|part| part.verify());
            assert!(found.is_err(), "bit {bit}");
            if let Ok(part) = Part::open(&vfs, &path(0)) {
                ids.iter().enumerate().for_each(|(slot, id)| {
                    // A wrong answer is never given; an error or the right one is.
                    if let Ok(found) = part.find(id.as_bytes(), xxh3_64(id.as_bytes())) {
                        assert_eq!(found, Some(slot as Slot));
                    }
                });
            }
            vfs.flip_bit(&path(0), bit);
        }
    }
}
