//! Recent updates of one shard, as they came.
//!
//! Appending is the fastest thing to do, so a memtable is an operation log by tag. Sealing sorts it by slot (stably, so
//! that the last writer wins), and makes the newest layer of the shard out of it: an in-memory segment.

use super::activity::ActivityLog;
use super::vectors::VectorLog;
use crate::bitmap::bsi;
use crate::catalog::{Catalog, Fact, Space, TagType};
use crate::ids::{Slot, TagId};
use crate::segment::{Key, Part, Segment, SegmentWriter};
use crate::update::{Change, Event};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The types of the tags, facts and vector spaces, by id: what a change must fit to be applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Types(Vec<Option<TypeOf>>);

/// What an id is.
#[derive(Clone, Debug)]
pub(super) enum TypeOf {
    Tag(TagType),
    Fact(Arc<Fact>),
    Space(Space),
}

impl Types {
    pub(super) fn of(catalog: &Catalog) -> Types {
        let mut types = vec![None; catalog.next_id().0 as usize];
        types[TagId::UPLOADS.0 as usize] = Some(TypeOf::Tag(TagType::Set));
        catalog.tags().for_each(|(_, tag)| types[tag.id.0 as usize] = Some(TypeOf::Tag(tag.tag_type)));
        catalog.facts().for_each(|(_, fact)| types[fact.id.0 as usize] = Some(TypeOf::Fact(Arc::new(fact.clone()))));
        catalog.spaces().for_each(|(_, space)| types[space.id.0 as usize] = Some(TypeOf::Space(*space)));
        Types(types)
    }

    pub(super) fn get(&self, id: TagId) -> Option<&TypeOf> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    fn fact(&self, id: TagId) -> Option<&Fact> {
        match self.get(id)? {
            TypeOf::Fact(fact) => Some(fact),
            TypeOf::Tag(_) | TypeOf::Space(_) => None,
        }
    }
}

/// Recent updates of one shard.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    /// Users seen, some several times.
    known: Vec<Slot>,
    tags: BTreeMap<TagId, Changes>,
    bytes: usize,
}

#[derive(Debug)]
enum Changes {
    Set(Vec<(Slot, SetChange)>, Values),
    /// `None`: unset.
    Enum(Vec<(Slot, Option<u32>)>, Values),
    Flag(Vec<(Slot, bool)>),
    Number(Vec<(Slot, Option<i64>)>),
    Activity(ActivityLog),
    Vectors(VectorLog),
}

#[derive(Clone, Copy, Debug)]
enum SetChange {
    Clear,
    Add(u32),
    Remove(u32),
}

/// Values seen, numbered in order of first sight. Their texts stand one after another and the table holds their numbers only:
/// a store has these of every dimension in every shard, and looks into them for every event.
#[derive(Debug, Default)]
pub(super) struct Values {
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    texts: Vec<u8>,
    /// Where each one's text ends.
    ends: Vec<usize>,
}

/// What a change costs in memory, in a log that grows by doubling.
pub(super) const CHANGE_BYTES: usize = 24;

/// What a value costs in memory besides its text: where it ends, its place in the hash table, room to grow.
const VALUE_BYTES_MORE: usize = 32;

impl Values {
    /// The number of a value; adds what a new one costs to `bytes`.
    pub(super) fn number(&mut self, value: &str, bytes: &mut usize) -> u32 {
        let Values { numbers, hasher, texts, ends } = self;
        let hash = hasher.hash_one(value.as_bytes());
        if let Some(number) = numbers.find(hash, |number| text_of(texts, ends, *number) == value.as_bytes()) {
            return *number;
        }
        let number = ends.len() as u32;
        *bytes += value.len() + VALUE_BYTES_MORE;
        texts.extend_from_slice(value.as_bytes());
        ends.push(texts.len());
        numbers.insert_unique(hash, number, |number| hasher.hash_one(text_of(texts, ends, *number)));
        number
    }

    /// Numbers in the order of the values' bytes.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.count() as u32).collect();
        numbers.sort_unstable_by_key(|number| self.bytes(*number));
        numbers
    }

    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        text_of(&self.texts, &self.ends, number)
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }
}

fn text_of<'t>(texts: &'t [u8], ends: &[usize], number: u32) -> &'t [u8] {
    let number = number as usize;
    let begin = number.checked_sub(1).map_or(0, |before| ends[before]);
    &texts[begin..ends[number]]
}

impl Memtable {
    /// Notes that a user exists.
    pub(super) fn know(&mut self, slot: Slot) {
        if self.known.last() != Some(&slot) {
            self.known.push(slot);
            self.bytes += size_of::<Slot>();
        }
    }

    /// Appends a change; one that does not fit the tag's type is ignored (the tag was dropped or declared anew since it was
    /// decoded).
    pub(super) fn apply(&mut self, slot: Slot, tag: TagId, tag_type: TagType, change: Change<'_>) {
        let Memtable { tags, bytes, .. } = self;
        let changes = tags.entry(tag).or_insert_with(|| match tag_type {
            TagType::Set => Changes::Set(Vec::new(), Values::default()),
            TagType::Enum => Changes::Enum(Vec::new(), Values::default()),
            TagType::Flag => Changes::Flag(Vec::new()),
            TagType::Number(_) => Changes::Number(Vec::new()),
        });
        match (changes, change) {
            (Changes::Set(log, _), Change::Unset) => log.push((slot, SetChange::Clear)),
            (Changes::Set(log, values), Change::Add(value)) => {
                log.push((slot, SetChange::Add(values.number(value, bytes))));
            }
            (Changes::Set(log, values), Change::Remove(value)) => {
                log.push((slot, SetChange::Remove(values.number(value, bytes))));
            }
            (Changes::Enum(log, _), Change::Unset) => log.push((slot, None)),
            (Changes::Enum(log, values), Change::Enum(value)) => {
                log.push((slot, Some(values.number(value, bytes))));
            }
            (Changes::Flag(log), Change::Unset) => log.push((slot, false)),
            (Changes::Flag(log), Change::Flag(value)) => log.push((slot, value)),
            (Changes::Number(log), Change::Unset) => log.push((slot, None)),
            (Changes::Number(log), Change::Number(value)) => log.push((slot, Some(value))),
            _ => return,
        }
        *bytes += CHANGE_BYTES;
    }

    /// Appends an event, or with weight −1 what takes one back.
    pub(super) fn count_event(&mut self, slot: Slot, fact: &Fact, event: &Event<'_>, weight: i8) {
        let Memtable { tags, bytes, .. } = self;
        let log = tags.entry(fact.id).or_insert_with(|| Changes::Activity(ActivityLog::new(fact)));
        if let Changes::Activity(log) = log {
            log.push(slot, fact, event, weight, bytes);
        }
    }

    /// Appends what happens to a user's vector; ignored if it does not fit the space.
    pub(super) fn put_vector(&mut self, slot: Slot, space: &Space, change: Change<'_>) {
        let Memtable { tags, bytes, .. } = self;
        let log = tags.entry(space.id).or_insert_with(|| Changes::Vectors(VectorLog::new(space)));
        if let Changes::Vectors(log) = log {
            log.push(slot, change, bytes);
        }
    }

    /// Memory held, roughly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was applied.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.tags.is_empty()
    }

    /// Makes a layer of it; `None` if nothing was applied. `now` (microseconds since 1970) says which events are recent
    /// enough to be kept by the hour.
    pub(super) fn seal(mut self, types: &Types, now: i64) -> Option<Segment> {
        if self.is_empty() {
            return None;
        }
        let mut out = Output(SegmentWriter::in_memory());
        sort_by_slot(&mut self.known, |slot| *slot);
        self.known.dedup();
        out.put(TagId::UNIVERSE, Part::Exists, 0, &self.known);
        for (tag, changes) in self.tags {
            match changes {
                Changes::Set(log, values) => seal_set(&mut out, tag, log, &values),
                Changes::Enum(log, values) => seal_enum(&mut out, tag, log, &values),
                Changes::Flag(log) => {
                    let last = last_of_each(log);
                    out.put(tag, Part::Touched, 0, &slots(&last, |_| true));
                    out.put(tag, Part::Exists, 0, &slots(&last, |value| *value));
                }
                Changes::Number(log) => seal_number(&mut out, tag, log),
                Changes::Vectors(log) => log.seal(&mut out, tag),
                Changes::Activity(log) => {
                    if let Some(fact) = types.fact(tag) {
                        log.seal(&mut out, tag, fact.hours_at(now).0);
                    }
                }
            }
        }
        Some(out.0.into_segment())
    }
}

pub(super) struct Output(pub(super) SegmentWriter);

impl Output {
    /// Adds a posting of rising slots.
    pub(super) fn put(&mut self, tag: TagId, part: Part<'_>, aux: i64, slots: &[Slot]) {
        self.0.add_rising(Key { tag, part }, aux, slots).expect(LAYERS_ARE_SMALL);
    }

    fn put_bitmap(&mut self, tag: TagId, part: Part<'_>, aux: i64, mut bitmap: RoaringBitmap) {
        bitmap.optimize();
        self.0.add(Key { tag, part }, aux, &bitmap).expect(LAYERS_ARE_SMALL);
    }
}

pub(super) const LAYERS_ARE_SMALL: &str = "memory does not fail, and layers are small";

/// Sorts stably; a log is often in order already, as slots are given in order of arrival.
fn sort_by_slot<T>(log: &mut [T], slot: impl Fn(&T) -> Slot) {
    if !log.is_sorted_by_key(&slot) {
        log.sort_by_key(slot);
    }
}

/// The last entry of each slot, by rising slot.
pub(super) fn last_of_each<T: Copy>(mut log: Vec<(Slot, T)>) -> Vec<(Slot, T)> {
    sort_by_slot(&mut log, |(slot, _)| *slot);
    let mut last: Vec<(Slot, T)> = Vec::with_capacity(log.len());
    for entry in log {
        match last.last_mut() {
            Some(before) if before.0 == entry.0 => *before = entry,
            _ => last.push(entry),
        }
    }
    last
}

pub(super) fn slots<T>(entries: &[(Slot, T)], wanted: impl Fn(&T) -> bool) -> Vec<Slot> {
    entries.iter().filter(|(_, value)| wanted(value)).map(|(slot, _)| *slot).collect()
}

fn seal_enum(out: &mut Output, tag: TagId, log: Vec<(Slot, Option<u32>)>, values: &Values) {
    let last = last_of_each(log);
    out.put(tag, Part::Touched, 0, &slots(&last, |_| true));
    out.put(tag, Part::Exists, 0, &slots(&last, Option::is_some));
    let mut by_value: Vec<Vec<Slot>> = vec![Vec::new(); values.count()];
    for (slot, value) in last {
        if let Some(value) = value {
            by_value[value as usize].push(slot);
        }
    }
    for number in values.sorted() {
        out.put(tag, Part::Value(values.bytes(number)), 0, &by_value[number as usize]);
    }
}

fn seal_number(out: &mut Output, tag: TagId, log: Vec<(Slot, Option<i64>)>) {
    let last = last_of_each(log);
    out.put(tag, Part::Touched, 0, &slots(&last, |_| true));
    let numbers: Vec<(Slot, i64)> = last.into_iter().filter_map(|(slot, number)| Some((slot, number?))).collect();
    let encoded = bsi::encode(&numbers);
    out.put_bitmap(tag, Part::Exists, encoded.base, encoded.exists);
    for (bit, slice) in encoded.slices.into_iter().enumerate() {
        out.put_bitmap(tag, Part::Slice(bit as u8), 0, slice);
    }
}

fn seal_set(out: &mut Output, tag: TagId, mut log: Vec<(Slot, SetChange)>, values: &Values) {
    sort_by_slot(&mut log, |(slot, _)| *slot);
    let mut cleared: Vec<Slot> = Vec::new();
    let mut added: Vec<Vec<Slot>> = vec![Vec::new(); values.count()];
    let mut removed: Vec<Vec<Slot>> = vec![Vec::new(); values.count()];
    // Value, and whether it was added last; of the user at hand.
    let mut state: HashMap<u32, bool> = HashMap::new();
    for of_user in log.chunk_by(|a, b| a.0 == b.0) {
        let slot = of_user[0].0;
        // What came before the last clearing does not count.
        let from = of_user.iter().rposition(|(_, change)| matches!(change, SetChange::Clear));
        if from.is_some() {
            cleared.push(slot);
        }
        state.clear();
        for (_, change) in &of_user[from.map_or(0, |at| at + 1)..] {
            match change {
                SetChange::Add(value) => state.insert(*value, true),
                SetChange::Remove(value) => state.insert(*value, false),
                SetChange::Clear => None,
            };
        }
        for (value, is_added) in &state {
            let lists = if *is_added { &mut added } else { &mut removed };
            lists[*value as usize].push(slot);
        }
    }
    out.put(tag, Part::Touched, 0, &cleared);
    let sorted = values.sorted();
    for number in &sorted {
        out.put(tag, Part::Value(values.bytes(*number)), 0, &added[*number as usize]);
    }
    for number in &sorted {
        out.put(tag, Part::Removed(values.bytes(*number)), 0, &removed[*number as usize]);
    }
}
