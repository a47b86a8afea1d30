//! Which events of a shard were seen: what makes an event count once and lets it be taken back.
//!
//! A source that delivers at least once sends an event again under the same id; a cancellation names the id of what it
//! cancels. So of each id (within its user and fact) is kept for a while that the event came, with its bytes, or that it
//! was taken back. What came first or last does not matter: an event counts if it came and was not taken back, however
//! often and in whatever order both were said.
//!
//! Recent ids are in memory, older ones in immutable sorted files (`part`), which are merged as they grow in number; an id that
//! no file has is told by their filters, without a look at the files themselves.

mod filter;
pub mod part;

use crate::error::ReadError;
use crate::ids::{Slot, TagId};
use hashbrown::HashMap;
use part::Part;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// An event's id within its shard: a hash of the fact, the user and the id that the sender gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub u128);

impl EventKey {
    /// The key of an id.
    pub fn of(fact: TagId, slot: Slot, event_id: &str) -> EventKey {
        let mut bytes = Vec::with_capacity(8 + event_id.len());
        bytes.extend_from_slice(&fact.0.to_le_bytes());
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.extend_from_slice(event_id.as_bytes());
        EventKey(xxh3_128(&bytes))
    }
}

/// What is kept of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// The event came; its bytes.
    Event(&'a [u8]),
    /// It was taken back, before it came or after.
    TakenBack,
}

/// What is known of an id, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// The last day, since 1970, on which it is known.
    pub last_day: i32,
    /// What is known.
    pub seen: Seen<'a>,
}

/// The ids of one shard.
#[derive(Debug, Default)]
pub struct EventIds {
    recent: Recent,
    /// Being written by a checkpoint.
    frozen: Option<Arc<Recent>>,
    /// Newest first.
    parts: Vec<Arc<Part>>,
}

/// Ids in memory.
#[derive(Debug, Default)]
pub struct Recent {
    entries: HashMap<EventKey, Entry>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The last day, since 1970, on which it is known.
    last_day: i32,
    /// Where in `bytes` the event is; `None` for what was taken back.
    event: Option<(usize, u32)>,
}

/// What an id costs in memory besides its event.
const ENTRY_BYTES: usize = 56;

impl Recent {
    fn get(&self, key: EventKey) -> Option<Known<'_>> {
        self.entries.get(&key).map(|entry| self.known(entry))
    }

    fn known(&self, entry: &Entry) -> Known<'_> {
        let event = entry.event.map(|(at, len)| &self.bytes[at..at + len as usize]);
        Known { last_day: entry.last_day, seen: event.map_or(Seen::TakenBack, Seen::Event) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The ids by rising key.
    pub fn sorted(&self) -> Vec<(EventKey, Known<'_>)> {
        let mut all: Vec<_> = self.entries.iter().map(|(key, entry)| (*key, self.known(entry))).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}

impl EventIds {
    /// Ids that are in files, newest first.
    pub fn of(parts: Vec<Arc<Part>>) -> EventIds {
        EventIds { parts, ..EventIds::default() }
    }

    /// What is known of an id on this day.
    ///
    /// # Errors
    /// [`ReadError`] if a file is damaged.
    pub fn get(&self, key: EventKey, today: i32) -> Result<Option<Known<'_>>, ReadError> {
        let in_memory = [Some(&self.recent), self.frozen.as_deref()].into_iter().flatten();
        let mut found = in_memory.filter_map(|recent| recent.get(key)).next();
        for part in &self.parts {
            if found.is_some() {
                break;
            }
            found = part.get(key)?;
        }
        Ok(found.filter(|known| known.last_day >= today))
    }

    /// Notes that an event came; answers what that costs in memory. `last_day` must not be before that of what is known.
    pub fn note_event(&mut self, key: EventKey, last_day: i32, event: &[u8]) -> usize {
        let at = self.recent.bytes.len();
        self.recent.bytes.extend_from_slice(event);
        self.recent.entries.insert(key, Entry { last_day, event: Some((at, event.len() as u32)) });
        ENTRY_BYTES + event.len()
    }

    /// Notes that an event was taken back; answers what that costs in memory. `last_day` must not be before that of what is
    /// known.
    pub fn note_taken_back(&mut self, key: EventKey, last_day: i32) -> usize {
        self.recent.entries.insert(key, Entry { last_day, event: None });
        ENTRY_BYTES
    }

    /// Sets aside what is in memory, for a checkpoint to write; it goes on being known.
    pub fn freeze(&mut self) -> Arc<Recent> {
        let frozen = Arc::new(std::mem::take(&mut self.recent));
        self.frozen = Some(frozen.clone());
        frozen
    }

    /// Takes the file in the place of what was set aside.
    pub fn adopt(&mut self, part: Option<Arc<Part>>) {
        self.frozen = None;
        self.parts.splice(..0, part);
    }

    /// The files, newest first.
    pub fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    /// Takes what several neighbouring files became in their place.
    pub fn replace(&mut self, old: &[Arc<Part>], merged: Option<Arc<Part>>) {
        let is_old = |part: &Arc<Part>| old.iter().any(|old| Arc::ptr_eq(old, part));
        let at = self.parts.iter().position(is_old).unwrap_or(self.parts.len());
        self.parts.retain(|part| !is_old(part));
        self.parts.splice(at..at, merged);
    }
}

/// The newest files that are due to become one: so many that together they are not much smaller than the next older one, or
/// those of which nothing is known any more on this day.
pub fn merge_due(parts: &[Arc<Part>], today: i32) -> Option<Range<usize>> {
    if let Some(at) = parts.iter().position(|part| part.last_day() < today) {
        return Some(at..at + 1);
    }
    let mut total = parts.first()?.len();
    let mut due = None;
    for (index, part) in parts.iter().enumerate().skip(1) {
        if total * 4 > part.len() {
            due = Some(0..index + 1);
        }
        total += part.len();
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::memory::MemoryVfs;
    use part::write;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    #[derive(Clone, Debug)]
    enum Step {
        Event(u8, i32),
        TakeBack(u8, i32),
        Save,
        Merge(i32),
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<u8>(), 0..6).prop_map(|(id, day)| Step::Event(id, day)),
            2 => (any::<u8>(), 0..6).prop_map(|(id, day)| Step::TakeBack(id, day)),
            2 => Just(Step::Save),
            1 => (0..4).prop_map(Step::Merge),
            1 => Just(Step::Reopen),
        ]
    }

    fn key(id: u8) -> EventKey {
        EventKey::of(TagId(20), u32::from(id % 7), &format!("e{id}"))
    }

    proptest! {
        #[test]
        fn what_was_noted_last_is_known(steps in proptest::collection::vec(step(), 0..60), today in 0..4) {
            let vfs = MemoryVfs::default();
            let (mut ids, mut model, mut files) = (EventIds::default(), BTreeMap::<u8, (i32, Option<[u8; 2]>)>::new(), 0);
            let open = |ids: &EventIds| EventIds::of(
                ids.parts().iter().map(|part| Arc::new(Part::open(&vfs, part.path()).expect("open"))).collect(),
            );
            let mut path = || { files += 1; PathBuf::from(format!("/{files}.evt")) };
            let save = |ids: &mut EventIds, path: PathBuf| {
                let frozen = ids.freeze();
                let part = (!frozen.is_empty()).then(|| {
                    write(&vfs, &path, frozen.sorted().into_iter()).expect("write");
                    Arc::new(Part::open(&vfs, &path).expect("open"))
                });
                ids.adopt(part);
            };
            for step in steps {
                match step {
                    Step::Event(id, day) => {
                        let day = model.get(&id).map_or(day, |(before, _)| day.max(*before));
                        ids.note_event(key(id), day, &[id, 1]);
                        model.insert(id, (day, Some([id, 1])));
                    }
                    Step::TakeBack(id, day) => {
                        let day = model.get(&id).map_or(day, |(before, _)| day.max(*before));
                        ids.note_taken_back(key(id), day);
                        model.insert(id, (day, None));
                    }
                    Step::Save => save(&mut ids, path()),
                    Step::Merge(from) => {
                        if let Some(due) = merge_due(ids.parts(), from.min(today)) {
                            let old = ids.parts()[due].to_vec();
                            let to = path();
                            let kept = part::merge(&vfs, &to, &old, from.min(today)).expect("merge");
                            let merged = kept.map(|_| Arc::new(Part::open(&vfs, &to).expect("open")));
                            ids.replace(&old, merged);
                        }
                    }
                    Step::Reopen => {
                        save(&mut ids, path());
                        ids = open(&ids);
                    }
                }
                for id in 0..=u8::MAX {
                    let expected = model.get(&id).filter(|(day, _)| *day >= today).map(|(_, event)| *event);
                    let found = ids.get(key(id), today).expect("good").map(|known| match known.seen {
                        Seen::Event(bytes) => Some(bytes.to_vec()),
                        Seen::TakenBack => None,
                    });
                    prop_assert_eq!(found, expected.map(|event| event.map(|bytes| bytes.to_vec())));
                }
            }
        }
    }
}
