//! Users and tags as plain maps, and a snapshot read back into them by the layering rule, bitmap by bitmap.

use crate::rows::{Rows, Tables, fact_of, row_text, text_of, time_of, values_of};
use engine::behavior::Grain;
use engine::bitmap::bsi;
use engine::catalog::{Catalog, Space, TagType};
use engine::error::ReadError;
use engine::ids::{CHUNK_SLOTS, ShardId, TagId, shard_of};
use engine::segment::merge::number_view;
use engine::segment::{BlockKey, Form, Key, Part, Segment};
use engine::store::{Audience, ShardSnapshot, Snapshot};
use engine::update::{Change, Event, UpdateBatch};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Set(BTreeSet<String>),
    Enum(String),
    Flag,
    Number(i64),
    /// The bits of its numbers.
    Vector(Vec<u32>),
}

/// Everything a question could be answered from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) catalog: Catalog,
    pub(crate) audiences: BTreeMap<String, Audience>,
    pub(crate) known: BTreeSet<Vec<u8>>,
    /// Values by user and tag; absent where a user has none.
    pub(crate) values: BTreeMap<(Vec<u8>, TagId), Value>,
    /// Counts and sums of events; absent where they are 0.
    pub(crate) activity: BTreeMap<Activity, i128>,
    pub(crate) rows: Rows,
    /// Whom nothing is said of any more; told by nobody.
    pub(crate) suppressed: Suppressed,
    pub(crate) seen: Seen,
    /// Where the topic goes on; told by the store, not by a view.
    pub(crate) offset: u64,
}

/// User, fact, value of the dimension (none: all events), day, figure.
pub(crate) type Activity = (Vec<u8>, TagId, Option<String>, i32, u8);

/// What came under each user's event ids: the event's values, and whether it was taken back. It cannot be asked for, so it is
/// equal to any other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(BTreeMap<(Vec<u8>, TagId, String), (String, bool)>);

/// Users who were erased. It cannot be asked for, so it is equal to any other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suppressed(BTreeSet<Vec<u8>>);

impl PartialEq for Suppressed {
    fn eq(&self, _: &Suppressed) -> bool {
        true
    }
}

impl Eq for Suppressed {}

impl PartialEq for Seen {
    fn eq(&self, _: &Seen) -> bool {
        true
    }
}

impl Eq for Seen {}

impl State {
    pub(crate) fn apply(&mut self, batch: &UpdateBatch) {
        for user in batch.users().filter(|user| !self.suppressed.0.contains(user.user_id)).collect::<Vec<_>>() {
            let mut named = false;
            let mut changes = 0;
            for (tag, change) in user.changes() {
                changes += 1;
                named |= tag >= TagId::FIRST_DECLARED;
                if let Change::Event(event) = change {
                    self.event(user.user_id, tag, &event);
                } else if let Some(dimension) = self.dimension(tag) {
                    self.vector((user.user_id.to_vec(), tag), dimension, change);
                } else if let Some(tag_type) = self.tag_type(tag) {
                    self.change((user.user_id.to_vec(), tag), tag_type, change);
                }
            }
            if named || changes == 0 {
                self.known.insert(user.user_id.to_vec());
            }
        }
    }

    fn tag_type(&self, tag: TagId) -> Option<TagType> {
        if tag == TagId::UPLOADS {
            return Some(TagType::Set);
        }
        self.catalog.tags().find(|(_, known)| known.id == tag).map(|(_, known)| known.tag_type)
    }

    /// Every event in these histories has an id; what is said of one is always the same.
    fn event(&mut self, user: &[u8], fact: TagId, event: &Event<'_>) {
        if self.catalog.fact_of(fact).is_none() {
            return;
        }
        let key = (user.to_vec(), fact, event.head.event_id.to_owned());
        let (values, weight) = match (self.seen.0.get(&key), event.head.is_retraction) {
            (None, false) => (values_of(event), 1),
            (None, true) => (String::new(), 0),
            // What is taken back is what came, with the columns of then.
            (Some((values, false)), true) => (values.clone(), -1),
            _ => return,
        };
        self.seen.0.insert(key, (values.clone(), event.head.is_retraction));
        if weight != 0 {
            let whole = event_of(event.head.event_id);
            self.count(user, fact, i128::from(weight), &whole);
            let user = String::from_utf8_lossy(user);
            let row = row_text(&user, event.head.event_id, whole.0, weight, &values, fact);
            *self.rows.entry(row).or_default() += 1;
        }
    }

    fn count(&mut self, user: &[u8], fact: TagId, weight: i128, (ts, category, amount): &(i64, String, i64)) {
        let day = ts.div_euclid(86_400_000_000) as i32;
        for value in [None, Some(category.clone())] {
            for (figure, number) in [(0, 1), (1, i128::from(*amount))] {
                let key = (user.to_vec(), fact, value.clone(), day, figure);
                let sum = self.activity.entry(key.clone()).or_default();
                *sum += weight * number;
                if *sum == 0 {
                    self.activity.remove(&key);
                }
            }
        }
    }

    fn change(&mut self, key: (Vec<u8>, TagId), tag_type: TagType, change: Change<'_>) {
        match (tag_type, change) {
            (TagType::Set, Change::Add(value)) => {
                let entry = self.values.entry(key).or_insert_with(|| Value::Set(BTreeSet::new()));
                if let Value::Set(values) = entry {
                    values.insert(value.to_owned());
                }
            }
            (TagType::Set, Change::Remove(value)) => {
                if let Some(Value::Set(values)) = self.values.get_mut(&key) {
                    values.remove(value);
                    if values.is_empty() {
                        self.values.remove(&key);
                    }
                }
            }
            (TagType::Enum, Change::Enum(value)) => {
                self.values.insert(key, Value::Enum(value.to_owned()));
            }
            (TagType::Flag, Change::Flag(true)) => {
                self.values.insert(key, Value::Flag);
            }
            (TagType::Number(_), Change::Number(value)) => {
                self.values.insert(key, Value::Number(value));
            }
            (_, Change::Unset) | (TagType::Flag, Change::Flag(false)) => {
                self.values.remove(&key);
            }
            // A change that does not fit its tag is ignored.
            _ => {}
        }
    }

    /// Of a vector space.
    fn dimension(&self, id: TagId) -> Option<usize> {
        let mut spaces = self.catalog.spaces();
        spaces.find(|(_, space)| space.id == id).map(|(_, space)| usize::from(space.dimension))
    }

    fn vector(&mut self, key: (Vec<u8>, TagId), dimension: usize, change: Change<'_>) {
        match change {
            Change::Vector(numbers) if numbers.len() == dimension => {
                let bits = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
                self.values.insert(key, Value::Vector(bits));
            }
            Change::Unset => {
                self.values.remove(&key);
            }
            // A change that does not fit its space is ignored.
            _ => {}
        }
    }

    /// Forgets a user, and passes over what is said of it from now on.
    pub(crate) fn erase(&mut self, user: &[u8]) {
        self.known.remove(user);
        self.values.retain(|(id, _), _| id != user);
        self.activity.retain(|(id, ..), _| id != user);
        self.seen.0.retain(|(id, ..), _| id != user);
        self.rows.retain(|row, _| row.split(' ').next().map(str::as_bytes) != Some(user));
        self.suppressed.0.insert(user.to_vec());
    }

    /// Who was erased.
    pub(crate) fn erased(&self) -> &BTreeSet<Vec<u8>> {
        &self.suppressed.0
    }

    pub(crate) fn put_catalog(&mut self, catalog: Catalog) {
        let spaces = catalog.spaces().map(|(_, space)| space.id);
        let live: BTreeSet<TagId> = catalog.tags().map(|(_, tag)| tag.id).chain(spaces).collect();
        self.activity.retain(|(_, fact, ..), _| catalog.fact_of(*fact).is_some());
        self.rows.retain(|row, _| catalog.fact_of(fact_of(row)).is_some());
        self.values.retain(|(_, tag), _| *tag == TagId::UPLOADS || live.contains(tag));
        self.catalog = catalog;
    }

    /// Takes rows of old days out of the tables.
    pub(crate) fn drop_rows_before(&mut self, day: i32) {
        self.rows.retain(|row, _| time_of(row) >= i64::from(day) * 86_400_000_000);
    }

    /// The values of uploaded lists that an audience has, and no others: nobody can ask for the rest.
    fn forget_unlisted(&mut self) {
        let listed: BTreeSet<String> = self.audiences.values().filter_map(list_id).collect();
        self.values.retain(|(_, tag), value| {
            let Value::Set(values) = value else { return true };
            if *tag == TagId::UPLOADS {
                values.retain(|value| listed.contains(value));
            }
            !values.is_empty()
        });
    }

    /// What can be asked of this state.
    pub(crate) fn visible(&self) -> State {
        let mut visible = State { offset: 0, ..self.clone() };
        visible.forget_unlisted();
        visible
    }

    /// Where another state differs, for people.
    pub(crate) fn difference(&self, other: &State) -> String {
        let lines = |state: &State| -> BTreeSet<String> {
            let tags = state.catalog.tags().map(|(name, tag)| format!("tag {name}: {tag:?}"));
            let audiences = state.audiences.iter().map(|(name, audience)| format!("audience {name}: {audience:?}"));
            let known = state.known.iter().map(|id| format!("known {}", id.escape_ascii()));
            let values = state.values.iter();
            let values = values.map(|((id, tag), value)| format!("user {} tag {tag}: {value:?}", id.escape_ascii()));
            let activity = state.activity.iter().map(|(key, sum)| format!("activity {key:?}: {sum}"));
            let rows = state.rows.iter().map(|(row, times)| format!("row {row}, {times} times"));
            tags.chain(audiences).chain(known).chain(values).chain(activity).chain(rows).collect()
        };
        let (here, there) = (lines(self), lines(other));
        let only_here = here.difference(&there).map(|line| format!("- {line}\n"));
        only_here.chain(there.difference(&here).map(|line| format!("+ {line}\n"))).collect()
    }

    /// This state and the users of another.
    pub(crate) fn with_users_of(mut self, other: &State) -> State {
        self.known.extend(other.known.iter().cloned());
        self.values.extend(other.values.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.activity.extend(other.activity.iter().map(|(key, sum)| (key.clone(), *sum)));
        self.rows.extend(other.rows.iter().map(|(row, times)| (row.clone(), *times)));
        self
    }

    /// The part about users whose id begins so.
    pub(crate) fn of_users(&self, prefix: &[u8]) -> State {
        let mut part = self.clone();
        part.known.retain(|id| id.starts_with(prefix));
        part.values.retain(|(id, _), _| id.starts_with(prefix));
        part.activity.retain(|(id, ..), _| id.starts_with(prefix));
        part.rows.retain(|row, _| row.as_bytes().starts_with(prefix));
        part
    }
}

fn list_id(audience: &Audience) -> Option<String> {
    audience.list_id().map(str::to_owned)
}

/// The event of an id, in these histories: its time, category and amount.
pub(crate) fn event_of(event_id: &str) -> (i64, String, i64) {
    let number: i64 = event_id.strip_prefix('e').and_then(|number| number.parse().ok()).expect("an id of ours");
    (number % 40 * 7_000_000_000, ["", "shoes", "hats"][number as usize % 3].to_owned(), number % 11 - 5)
}

/// Reads all of a snapshot, and checks on the way that ids and slots agree.
pub(crate) fn read(snapshot: &Snapshot, tables: &dyn Tables) -> Result<State, ReadError> {
    let mut state =
        State { catalog: snapshot.catalog().clone(), audiences: snapshot.audiences().clone(), ..State::default() };
    let tags = snapshot.catalog().tags().map(|(_, tag)| (tag.id, tag.tag_type));
    let tags: Vec<_> = tags.chain([(TagId::UPLOADS, TagType::Set)]).collect();
    for shard in snapshot.shards() {
        let ids = ids(shard)?;
        let universe = layered(shard.layers(), TagId::UNIVERSE, Part::Exists)?;
        state.known.extend(universe.iter().filter_map(|slot| ids[slot as usize].clone()));
        for (tag, tag_type) in &tags {
            for (slot, value) in values(shard, *tag, *tag_type)? {
                if let Some(id) = &ids[slot as usize] {
                    state.values.insert((id.clone(), *tag), value);
                }
            }
        }
        for (_, space) in snapshot.catalog().spaces() {
            for (slot, value) in vectors(shard, space)? {
                if let Some(id) = &ids[slot as usize] {
                    state.values.insert((id.clone(), space.id), value);
                }
            }
        }
        for (_, fact) in snapshot.catalog().facts() {
            for layer in shard.layers() {
                add_activity(layer, fact.id, &ids, &mut state.activity)?;
            }
        }
    }
    state.activity.retain(|_, sum| *sum != 0);
    for (name, fact) in snapshot.catalog().facts() {
        if let Some(epoch) = snapshot.table_epoch(fact.id) {
            let rows = tables.rows(name, fact, epoch).into_iter();
            state.rows.extend(rows.filter(|(row, _)| is_known(snapshot, row)));
        }
        let recent = snapshot.recent_rows(fact.id).iter().flat_map(|log| log.rows());
        for row in recent.filter(|row| snapshot.shows(row.shard, row.slot)) {
            *state.rows.entry(text_of(&row, fact.id)).or_default() += 1;
        }
    }
    state.forget_unlisted();
    Ok(state)
}

/// That every user who is shown has an id. Of a view from before an erasure this need not hold.
pub(crate) fn check_ids(snapshot: &Snapshot) -> Result<(), ReadError> {
    for (number, shard) in snapshot.shards().iter().enumerate() {
        for slot in layered(shard.layers(), TagId::UNIVERSE, Part::Exists)? {
            let is_shown = snapshot.shows(ShardId(number as u16), slot);
            assert_eq!(shard.user_id(slot, &mut Vec::new())?, is_shown, "who is shown has an id, and nobody else");
        }
    }
    Ok(())
}

/// Whether the user of a row is one: of an erased one the table may still have rows. Nobody is let in again in these histories.
fn is_known(snapshot: &Snapshot, row: &str) -> bool {
    let user = row.split(' ').next().unwrap_or_default().as_bytes();
    let shard = shard_of(user, snapshot.shards().len() as u16);
    snapshot.shards()[usize::from(shard.0)].slot_of(user).expect("good").is_some()
}

/// Adds up a layer's hours and days, and checks that its months say the same.
fn add_activity(
    layer: &Segment,
    fact: TagId,
    ids: &[Option<Vec<u8>>],
    sums: &mut BTreeMap<Activity, i128>,
) -> Result<(), ReadError> {
    let (mut days, mut months) = (BTreeMap::new(), BTreeMap::new());
    for entry in layer.entries(fact) {
        let Part::Activity(key) = layer.key_at(entry).part else { panic!("a fact has only activity") };
        let value = (key.series.dimension > 0).then(|| String::from_utf8_lossy(key.series.value).into_owned());
        for slot in layer.posting_at(entry)?.bitmap.iter() {
            let number = (1_i128 << key.bit) * if key.figure.is_negative { -1 } else { 1 };
            let month = (slot, value.clone(), key.slice.month(), key.figure.of);
            if key.slice.grain == Grain::Month {
                *months.entry(month).or_insert(0) += number;
                continue;
            }
            *days.entry(month).or_insert(0) += number;
            let day = key.slice.hours().from.div_euclid(24);
            let Some(id) = &ids[slot as usize] else { continue };
            let activity = (id.clone(), fact, value.clone(), day, key.figure.of);
            *sums.entry(activity).or_default() += number;
        }
    }
    for (month, sum) in months {
        assert_eq!(days.get(&month), Some(&sum), "a month is the sum of its days: {month:?}");
    }
    Ok(())
}

/// Of each slot; none of one that is erased.
fn ids(shard: &ShardSnapshot) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
    let mut ids = Vec::new();
    for slot in 0..shard.slot_count() {
        let mut id = Vec::new();
        let has_id = shard.user_id(slot, &mut id)?;
        assert!(!has_id || shard.slot_of(&id)? == Some(slot), "the slot of {id:?}");
        ids.push(has_id.then_some(id));
    }
    Ok(ids)
}

fn load(layer: &Segment, tag: TagId, part: Part<'_>) -> Result<RoaringBitmap, ReadError> {
    Ok(layer.posting(Key { tag, part })?.map(|posting| posting.bitmap.iter().collect()).unwrap_or_default())
}

/// The layering rule as the design words it: `result |= value & open; open -= mask`.
fn layered(layers: &[std::sync::Arc<Segment>], tag: TagId, part: Part<'_>) -> Result<RoaringBitmap, ReadError> {
    let (mut result, mut closed) = (RoaringBitmap::new(), RoaringBitmap::new());
    for layer in layers {
        let here = load(layer, tag, part)?;
        result |= &here - &closed;
        closed |= here;
        closed |= load(layer, tag, Part::Touched)?;
        if let Part::Value(value) = part {
            closed |= load(layer, tag, Part::Removed(value))?;
        }
    }
    Ok(result)
}

/// Of each user the newest vector, unless something newer took it away.
fn vectors(shard: &ShardSnapshot, space: &Space) -> Result<Vec<(u32, Value)>, ReadError> {
    let (mut found, mut closed) = (Vec::new(), RoaringBitmap::new());
    for layer in shard.layers() {
        let exists = load(layer, space.id, Part::Exists)?;
        for (place, slot) in exists.iter().enumerate() {
            let chunk = (slot / CHUNK_SLOTS) as u16;
            let block = layer.block(space.id, BlockKey { form: Form::Full, chunk })?.expect("who exists has a vector");
            assert_eq!(block.row_bytes(), usize::from(space.dimension) * 4);
            // These histories have few users, all in one chunk.
            let bits = block.row(place).as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)).collect();
            if !closed.contains(slot) {
                found.push((slot, Value::Vector(bits)));
            }
        }
        closed |= load(layer, space.id, Part::Touched)?;
    }
    Ok(found)
}

fn values(shard: &ShardSnapshot, tag: TagId, tag_type: TagType) -> Result<Vec<(u32, Value)>, ReadError> {
    match tag_type {
        TagType::Number(_) => numbers(shard, tag),
        TagType::Flag => {
            let users = layered(shard.layers(), tag, Part::Exists)?;
            Ok(users.iter().map(|slot| (slot, Value::Flag)).collect())
        }
        TagType::Set => {
            let mut sets: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
            for (name, users) in named(shard, tag)? {
                users.iter().for_each(|slot| {
                    sets.entry(slot).or_default().insert(name.clone());
                });
            }
            Ok(sets.into_iter().map(|(slot, values)| (slot, Value::Set(values))).collect())
        }
        TagType::Enum => {
            let mut chosen = RoaringBitmap::new();
            let mut found = Vec::new();
            for (name, users) in named(shard, tag)? {
                assert!(chosen.is_disjoint(&users), "one value at a time");
                chosen |= &users;
                found.extend(users.iter().map(|slot| (slot, Value::Enum(name.clone()))));
            }
            assert_eq!(layered(shard.layers(), tag, Part::Exists)?, chosen, "`Exists` is the union of the values");
            Ok(found)
        }
    }
}

fn named(shard: &ShardSnapshot, tag: TagId) -> Result<Vec<(String, RoaringBitmap)>, ReadError> {
    let mut names = BTreeSet::new();
    for layer in shard.layers() {
        names.extend(layer.parts(tag).filter_map(|(part, _)| match part {
            Part::Value(value) => Some(value.to_vec()),
            _ => None,
        }));
    }
    let mut found = Vec::new();
    for name in names {
        let users = layered(shard.layers(), tag, Part::Value(&name))?;
        found.push((String::from_utf8(name).expect("values are text"), users));
    }
    Ok(found)
}

fn numbers(shard: &ShardSnapshot, tag: TagId) -> Result<Vec<(u32, Value)>, ReadError> {
    let (mut found, mut closed) = (Vec::new(), RoaringBitmap::new());
    for layer in shard.layers() {
        if let Some(view) = number_view(layer, tag)? {
            let open = bsi::decode(&view).into_iter().filter(|(slot, _)| !closed.contains(*slot));
            found.extend(open.map(|(slot, number)| (slot, Value::Number(number))));
        }
        closed |= load(layer, tag, Part::Exists)?;
        closed |= load(layer, tag, Part::Touched)?;
    }
    Ok(found)
}
