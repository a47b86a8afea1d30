//! Every operator against plain users: random populations written in several steps (so that there are layers), random
//! expressions.

use super::*;
use crate::audience::naive::{NOW, Random, User, Value, fits, sample_catalog, scan_figure, told_events, told_kinds};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventScan, FactScanner, KindScan, Scan, Scanned, ToldEvents, ToldKinds};
use crate::audience::{bind, parse};
use crate::bitmap::view::BitmapView;
use crate::catalog::{Catalog, TagType};
use crate::clock::ManualClock;
use crate::ids::{Slot, TagId, shard_of};
use crate::journey::Event;
use crate::store::{Audience, Definition, Options, Snapshot, Store};
use crate::update::{Change, UpdateBatch};
use crate::vfs::memory::MemoryVfs;
use profile::check_profile;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

mod attribution;
mod effect;
mod experiment;
mod groups;
mod journeys;
mod judge;
mod paths;
mod profile;

/// A store and the users that are in it.
struct World {
    store: Store,
    /// Those that the snapshot shows.
    users: BTreeMap<String, User>,
    /// Those that it does not show.
    hidden: BTreeMap<String, User>,
    /// Whether they are told by whom it shows, instead of by whom it does not.
    shows_some: bool,
    catalog: Catalog,
    audiences: BTreeMap<String, Audience>,
}

/// Reads no rows, but knows what the users did, those who are not shown too; says nothing of users who were not asked about.
#[derive(Debug)]
struct NaiveScanner {
    users: BTreeMap<String, User>,
    /// Of everybody.
    whole: Snapshot,
}

impl NaiveScanner {
    fn place(&self, user: &User) -> (usize, Slot) {
        let shards = self.whole.shards();
        let shard = usize::from(shard_of(user.id.as_bytes(), shards.len() as u16).0);
        (shard, shards[shard].slot_of(user.id.as_bytes()).expect("reads").expect("a known user"))
    }
}

impl FactScanner for NaiveScanner {
    fn scan(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        _cancelled: &AtomicBool,
    ) -> Result<Scanned, QueryError> {
        let mut users = vec![RoaringBitmap::new(); snapshot.shards().len()];
        for user in self.users.values() {
            let (shard, slot) = self.place(user);
            let is_asked = within.is_none_or(|within| within[shard].contains(slot));
            if is_asked && fits(&Predicate::Scan(Box::new(scan.clone())), user, snapshot.catalog()) {
                users[shard].insert(slot);
            }
        }
        Ok(Scanned { users, ..Scanned::default() })
    }

    fn figure(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        (shard, slot): (usize, Slot),
        _cancelled: &AtomicBool,
    ) -> Result<Option<i128>, QueryError> {
        let mut id = Vec::new();
        assert!(snapshot.shards()[shard].user_id(slot, &mut id)?, "a known user");
        let user = &self.users[std::str::from_utf8(&id).expect("text")];
        Ok(scan_figure(scan, user, snapshot.catalog()))
    }

    fn events(
        &self,
        snapshot: &Snapshot,
        scan: &EventScan,
        within: Option<&[RoaringBitmap]>,
        _cancelled: &AtomicBool,
    ) -> Result<ToldEvents, QueryError> {
        let mut shards = vec![Vec::new(); snapshot.shards().len()];
        for user in self.users.values() {
            let (shard, group) = self.place(user);
            if within.is_none_or(|within| within[shard].contains(group)) {
                let told = told_events(scan, user, snapshot.catalog()).into_iter();
                shards[shard].extend(told.map(|(time, fulfils)| Event { time, fulfils, group }));
            }
        }
        Ok(ToldEvents { shards, ..ToldEvents::default() })
    }

    fn kinds(
        &self,
        snapshot: &Snapshot,
        scan: &KindScan,
        within: Option<&[RoaringBitmap]>,
        _cancelled: &AtomicBool,
    ) -> Result<ToldKinds, QueryError> {
        let mut told = ToldKinds { shards: vec![Vec::new(); snapshot.shards().len()], ..ToldKinds::default() };
        told.measures = vec![Vec::new(); told.shards.len()];
        for user in self.users.values() {
            let (shard, group) = self.place(user);
            if within.is_none_or(|within| within[shard].contains(group)) {
                for (time, number, value, measure) in told_kinds(scan, user, snapshot.catalog()) {
                    let thing = (number, value);
                    let known = told.values.iter().position(|known| *known == thing);
                    let fulfils = known.unwrap_or(told.values.len()) as u32;
                    if known.is_none() {
                        told.values.push(thing);
                    }
                    told.shards[shard].push(Event { time, fulfils, group });
                    told.measures[shard].push(measure);
                }
            }
        }
        if scan.kinds.iter().all(|kind| kind.measure.is_none()) {
            told.measures.clear();
        }
        Ok(told)
    }
}

fn audiences() -> BTreeMap<String, Audience> {
    let audience = |text: &str| Audience {
        definition: Definition::Expression(text.to_owned()),
        description: String::new(),
        changed_at: 0,
    };
    [("kept", "age > 20 OR gender <> 'f'"), ("nested", "NOT in_audience('kept') AND member")]
        .map(|(name, text)| (name.to_owned(), audience(text)))
        .into()
}

/// Sets every tag of the user to what it is now.
fn push(batch: &mut UpdateBatch, catalog: &Catalog, user: &User) {
    batch.begin_user(user.id.as_bytes());
    for (name, tag) in catalog.tags() {
        match user.tags.get(name) {
            None => batch.push(tag.id, Change::Unset),
            Some(Value::Enum(value)) => batch.push(tag.id, Change::Enum(value)),
            Some(Value::Flag(value)) => batch.push(tag.id, Change::Flag(*value)),
            Some(Value::Number(value)) => batch.push(tag.id, Change::Number(*value)),
            Some(Value::Set(values)) => {
                batch.push(tag.id, Change::Unset);
                values.iter().for_each(|value| batch.push(tag.id, Change::Add(value)));
            }
        }
    }
    user.lists.iter().for_each(|list| batch.push(TagId::UPLOADS, Change::Add(list)));
    let purchase = catalog.fact("purchase").expect("declared").id;
    user.events.iter().for_each(|event| event.push(purchase, batch));
}

impl World {
    fn new(random: &mut Random, shard_count: u16) -> World {
        // What is recent when it is written may be old when it is merged.
        let mut days_ago = random.below(90) as i64;
        let clock = Arc::new(ManualClock::default());
        let options = Options { shard_count, clock: clock.clone(), ..Options::default() };
        let store = Store::open(Arc::new(MemoryVfs::default()), Path::new("/data"), options).expect("open");
        let catalog = sample_catalog();
        store.put_catalog(catalog.clone()).expect("catalog");
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        for _ in 0..1 + random.below(5) {
            clock.set(NOW - days_ago * 86_400_000_000);
            days_ago = random.below(days_ago as u64 + 1) as i64;
            let mut batch = UpdateBatch::new();
            for _ in 0..random.below(40) {
                let mut user = random.user();
                push(&mut batch, &catalog, &user);
                if let Some(before) = users.get_mut(&user.id) {
                    user.events.append(&mut before.events);
                }
                users.insert(user.id.clone(), user);
            }
            store.write(&batch, None).expect("write");
            match random.below(4) {
                0 => drop(store.checkpoint().expect("checkpoint")),
                1 => drop(store.compact().expect("compact")),
                _ => drop(store.publish().expect("publish")),
            }
        }
        store.publish().expect("publish");
        let hides = [0, 1, 4][random.below(3) as usize];
        let (hidden, users) = users.into_iter().partition(|_| random.below(5) < hides);
        World { store, users, hidden, shows_some: random.below(2) == 0, catalog, audiences: audiences() }
    }

    fn context(&self) -> QueryContext {
        let users = self.users.iter().chain(&self.hidden).map(|(id, user)| (id.clone(), user.clone()));
        let scanner = NaiveScanner { users: users.collect(), whole: self.store.snapshot() };
        QueryContext { scanner: Some(Arc::new(scanner)), ..QueryContext::default() }
    }

    fn snapshot(&self) -> Snapshot {
        let whole = self.store.snapshot();
        let slots = |users: &BTreeMap<String, User>| {
            let ids: Vec<String> = users.keys().cloned().collect();
            slots(&whole, &Predicate::Users(ids), &context()).expect("known users")
        };
        match (self.hidden.is_empty(), self.shows_some) {
            (true, _) => whole,
            // In two steps, of which the second does not show anybody again.
            (false, true) => whole.only(&slots(&self.users)).only(&slots(&self.users)).without(&slots(&self.hidden)),
            (false, false) => whole.without(&slots(&self.hidden)).without(&[]),
        }
    }

    fn predicate(&self, random: &mut Random) -> Predicate {
        bind(&random.expression(3), &self.catalog, &self.audiences, NOW).expect("binds")
    }

    fn who(&self, predicate: &Predicate) -> BTreeSet<&str> {
        let fitting = self.users.values().filter(|user| fits(predicate, user, &self.catalog));
        fitting.map(|user| user.id.as_str()).collect()
    }

    fn numbers(&self, predicate: &Predicate, tag: &str) -> Vec<i64> {
        let mut numbers: Vec<i64> = self
            .who(predicate)
            .iter()
            .filter_map(|id| match self.users[*id].tags.get(tag) {
                Some(Value::Number(number)) => Some(*number),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

fn context() -> QueryContext {
    QueryContext::default()
}

fn id(catalog: &Catalog, name: &str) -> TagId {
    catalog.tag(name).expect("declared").id
}

fn check_members(world: &World, predicate: &Predicate, page_size: usize) {
    let snapshot = world.snapshot();
    let expected = world.who(predicate);
    assert_eq!(count(&snapshot, predicate, &world.context()).expect("count"), expected.len() as u64);
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = members(&snapshot, predicate, from, page_size, &world.context()).expect("members");
        assert!(page.users.len() == page_size || page.next.is_none());
        found.extend(page.users);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    let distinct: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), found.len(), "pages do not overlap");
    assert_eq!(distinct, expected);
    let slots = bitmaps(&snapshot, predicate, &world.context()).expect("bitmaps");
    let total: u64 = slots.iter().map(|bytes| BitmapView::new(bytes).expect("valid").len()).sum();
    assert_eq!(total, expected.len() as u64);
    let whole: Vec<RoaringBitmap> =
        slots.iter().map(|bytes| BitmapView::new(bytes).expect("valid").to_bitmap()).collect();
    let within: Vec<RoaringBitmap> =
        snapshot.shards().iter().map(|shard| (0..shard.slot_count()).filter(|slot| slot % 3 > 0).collect()).collect();
    let expected_within: Vec<RoaringBitmap> = whole.iter().zip(&within).map(|(whole, within)| whole & within).collect();
    let found = bitmaps_within(&snapshot, predicate, &within, &world.context()).expect("bitmaps within");
    assert_eq!(found, expected_within);
    assert!(
        bitmaps_within(&snapshot, predicate, &[], &world.context())
            .expect("of nobody")
            .iter()
            .all(|set| set.is_empty())
    );
    let shown = explain(&snapshot, predicate, None, &world.context()).expect("explain");
    assert!(shown.actual.is_none());
    let plan = explain(&snapshot, predicate, Some(|| 0), &world.context()).expect("explain");
    assert_eq!(plan.actual.expect("analyzed").members, expected.len() as u64, "{plan}");
    assert!(plan.estimate >= expected.len() as u64, "{plan}");
}

fn check_sample(world: &World, predicate: &Predicate, size: usize, seed: u64) {
    let snapshot = world.snapshot();
    let expected = world.who(predicate);
    let chosen = sample(&snapshot, predicate, size, seed, &world.context()).expect("sample");
    assert_eq!(
        chosen,
        sample(&snapshot, predicate, size, seed, &world.context()).expect("sample"),
        "same seed, same sample"
    );
    let distinct: BTreeSet<&str> = chosen.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), size.min(expected.len()));
    assert!(distinct.is_subset(&expected));
}

fn check_top(world: &World, predicate: &Predicate, tag: &str, k: usize) {
    let mut expected = world.numbers(predicate, tag);
    for descending in [false, true] {
        let by = id(&world.catalog, tag);
        let found = top_k(&world.snapshot(), predicate, by, k, descending, &world.context()).expect("top k");
        let numbers: Vec<i64> = found.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, expected[..k.min(expected.len())]);
        for (user, number) in &found {
            assert_eq!(world.users[user].tags[tag], Value::Number(*number));
        }
        expected.reverse();
    }
}

fn check_fits(world: &World, predicates: &[Predicate]) {
    let sets: Vec<BTreeSet<&str>> = predicates.iter().map(|predicate| world.who(predicate)).collect();
    for id in world.users.keys().map(String::as_str).chain(["nobody"]) {
        let expected: Vec<bool> = sets.iter().map(|set| set.contains(id)).collect();
        assert_eq!(user_fits(&world.snapshot(), id, predicates, &world.context()).expect("look up"), expected, "{id}");
    }
}

fn check_overlap(world: &World, predicates: &[Predicate]) {
    let sets: Vec<BTreeSet<&str>> = predicates.iter().map(|predicate| world.who(predicate)).collect();
    let matrix = overlap(&world.snapshot(), predicates, &world.context()).expect("overlap");
    for (row, a) in sets.iter().enumerate() {
        for (column, b) in sets.iter().enumerate() {
            assert_eq!(matrix[row][column], a.intersection(b).count() as u64);
        }
    }
    for some in 0..=predicates.len() {
        check_regions(world, &predicates[..some], &sets[..some]);
    }
}

fn check_regions(world: &World, predicates: &[Predicate], sets: &[BTreeSet<&str>]) {
    let told = regions(&world.snapshot(), predicates, &world.context()).expect("regions");
    let mut expected = vec![0; 1 << sets.len()];
    for user in world.users.keys() {
        let chosen: usize =
            sets.iter().enumerate().map(|(set, users)| usize::from(users.contains(&**user)) << set).sum();
        expected[chosen] += 1;
    }
    expected[0] = 0;
    assert_eq!(told, expected);
    let matrix = overlap(&world.snapshot(), predicates, &world.context()).expect("overlap");
    assert_eq!(overlap_of_regions(&told, sets.len()), matrix);
}

/// What a user shows in a column; a tag without a value is NULL, empty or false.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Id(String),
    Text(Option<String>),
    Texts(Vec<String>),
    Flag(bool),
    Number(Option<i64>),
}

fn shown(user: &User, column: ColumnOf, world: &World) -> Shown {
    let catalog = &world.catalog;
    let position = || {
        let positions = positions(&world.snapshot(), &[user.id.as_bytes()]).expect("look up");
        positions.into_iter().next().flatten().expect("a known user")
    };
    let tag = match column {
        ColumnOf::UserId => return Shown::Id(user.id.clone()),
        ColumnOf::Shard => return Shown::Number(Some(position().shard.0.into())),
        ColumnOf::Slot => return Shown::Number(Some(position().slot.into())),
        ColumnOf::Tag(tag) => tag,
    };
    let name = catalog.name_of(tag).expect("declared");
    match (catalog.tag(name).expect("declared").tag_type, user.tags.get(name)) {
        (_, Some(Value::Enum(value))) => Shown::Text(Some(value.clone())),
        (_, Some(Value::Set(values))) => Shown::Texts(values.iter().cloned().collect()),
        (_, Some(Value::Flag(value))) => Shown::Flag(*value),
        (_, Some(Value::Number(value))) => Shown::Number(Some(*value)),
        (TagType::Enum, None) => Shown::Text(None),
        (TagType::Set, None) => Shown::Texts(Vec::new()),
        (TagType::Flag, None) => Shown::Flag(false),
        (TagType::Number(_), None) => Shown::Number(None),
    }
}

fn shown_in(column: &ColumnValues<'_>, row: usize) -> Shown {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let from = |ends: &[usize]| row.checked_sub(1).map_or(0, |before| ends[before]);
    match column {
        ColumnValues::UserId { text: all, ends } => Shown::Id(text(&all[from(ends)..ends[row]])),
        ColumnValues::Set { of, ends, values } => {
            Shown::Texts(of[from(ends)..ends[row]].iter().map(|value| text(values[*value as usize])).collect())
        }
        ColumnValues::Enum { of, values } => Shown::Text(of[row].map(|value| text(values[value as usize]))),
        ColumnValues::Flag(flags) => Shown::Flag(flags[row]),
        ColumnValues::Number(numbers) => Shown::Number(numbers[row]),
    }
}

/// All rows of a snapshot, of shard after shard.
fn rows_of(
    snapshot: &Snapshot,
    predicate: &Predicate,
    asked: &[ColumnOf],
    limit: Option<usize>,
    context: &QueryContext,
) -> Vec<Vec<Shown>> {
    let mut found = Vec::new();
    let shards = 0..snapshot.shards().len();
    let done = columns(snapshot, predicate, asked, shards, limit, context, |rows| {
        assert_eq!(rows.columns.len(), asked.len());
        found.extend((0..rows.len).map(|row| rows.columns.iter().map(|column| shown_in(column, row)).collect()));
        std::ops::ControlFlow::Continue(())
    });
    done.expect("rows");
    found
}

fn check_columns(world: &World, predicate: &Predicate, random: &mut Random) {
    let mut asked: Vec<ColumnOf> =
        world.catalog.tags().map(|(_, tag)| ColumnOf::Tag(tag.id)).filter(|_| !random.one_in(3)).collect();
    asked.extend([ColumnOf::Shard, ColumnOf::Slot, ColumnOf::UserId]);
    let (snapshot, context) = (world.snapshot(), world.context());
    let found = rows_of(&snapshot, predicate, &asked, None, &context);
    let id_of = |row: &Vec<Shown>| match row.last() {
        Some(Shown::Id(id)) => id.clone(),
        other => panic!("{other:?} is no id"),
    };
    let listed = members(&snapshot, predicate, None, usize::MAX, &context).expect("members").users;
    assert_eq!(found.iter().map(id_of).collect::<Vec<_>>(), listed, "in order of shard and slot");
    for row in &found {
        let user = &world.users[&id_of(row)];
        let expected: Vec<Shown> = asked.iter().map(|column| shown(user, *column, world)).collect();
        assert_eq!(*row, expected);
    }
    let limit = random.below(found.len() as u64 + 2) as usize;
    assert_eq!(rows_of(&snapshot, predicate, &asked, Some(limit), &context), found[..limit.min(found.len())]);
    let mut total = 0;
    let done = counts(&snapshot, predicate, 0..snapshot.shards().len(), &context, |count| {
        total += count;
        std::ops::ControlFlow::Continue(())
    });
    done.expect("counts");
    assert_eq!(total, found.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn operators_answer_what_plain_users_say(seed in any::<u64>(), shards in 0..3u32, page_size in 1..9usize) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << (2 * shards));
        for _ in 0..6 {
            let predicate = world.predicate(&mut random);
            check_members(&world, &predicate, page_size);
            check_sample(&world, &predicate, page_size, seed);
            check_columns(&world, &predicate, &mut random);
            check_top(&world, &predicate, "age", page_size);
            check_top(&world, &predicate, "seen_at", page_size);
        }
        let predicates: Vec<Predicate> = (0..6).map(|_| world.predicate(&mut random)).collect();
        check_overlap(&world, &predicates);
        check_fits(&world, &predicates);
        check_profile(&world, &predicates[0], &Predicate::All);
        check_profile(&world, &predicates[1], &predicates[2]);
        for user in world.users.values().take(5) {
            let told = user_tags(&world.snapshot(), &user.id).expect("look up").expect("known");
            let expected: BTreeMap<TagId, Value> = user.tags.iter().map(|(name, value)| (id(&world.catalog, name), value.clone())).collect();
            let told: BTreeMap<TagId, Value> = told.into_iter().map(|(tag, value)| (tag, match value {
                UserValue::Set(values) => Value::Set(values.into_iter().collect()),
                UserValue::Enum(value) => Value::Enum(value),
                UserValue::Flag(value) => Value::Flag(value),
                UserValue::Number(value) => Value::Number(value),
            })).collect();
            let expected: BTreeMap<TagId, Value> = expected.into_iter().filter(|(_, value)| *value != Value::Set(BTreeSet::new())).collect();
            prop_assert_eq!(told, expected);
        }
        prop_assert_eq!(user_tags(&world.snapshot(), "nobody").expect("look up"), None);
    }
}

/// Many users in one shard, so that there are several chunks and threads.
fn crowd(users: u32) -> (Store, Catalog) {
    let options = Options { shard_count: 1, ..Options::default() };
    let store = Store::open(Arc::new(MemoryVfs::default()), Path::new("/data"), options).expect("open");
    let catalog = sample_catalog();
    store.put_catalog(catalog.clone()).expect("catalog");
    let mut batch = UpdateBatch::new();
    for user in 0..users {
        batch.begin_user(format!("user-{user}").as_bytes());
        batch.push(id(&catalog, "age"), Change::Number(i64::from(user % 100)));
        if user % 3 == 0 {
            batch.push(id(&catalog, "member"), Change::Flag(true));
        }
    }
    store.write(&batch, None).expect("write");
    store.checkpoint().expect("checkpoint");
    (store, catalog)
}

#[test]
fn counts_go_across_chunk_borders() {
    let users = 200_000;
    let (store, catalog) = crowd(users);
    let ask = |text: &str| {
        let predicate = bind(&parse(text).expect("parses"), &catalog, &BTreeMap::new(), NOW).expect("binds");
        count(&store.snapshot(), &predicate, &context()).expect("count")
    };
    let expected = |fits: &dyn Fn(u32) -> bool| (0..users).filter(|user| fits(*user)).count() as u64;
    assert_eq!(ask("TRUE"), u64::from(users));
    assert_eq!(ask("age < 30 AND member"), expected(&|user| user % 100 < 30 && user % 3 == 0));
    assert_eq!(
        ask("NOT member AND age BETWEEN 90 AND 95"),
        expected(&|user| user % 3 != 0 && (90..96).contains(&(user % 100)))
    );
    assert_eq!(
        ask("at_least(2, member, age > 50, age < 80)"),
        expected(&|user| { u32::from(user % 3 == 0) + u32::from(user % 100 > 50) + u32::from(user % 100 < 80) >= 2 })
    );
    assert_eq!(ask("(member) XOR (age = 7)"), expected(&|user| (user % 3 == 0) != (user % 100 == 7)));
}

/// Chunks with more members than are looked up one by one, and newer layers that change some of them.
#[test]
fn columns_of_full_chunks_are_those_of_their_users() {
    let users = 70_000u32;
    let (store, catalog) = crowd(users);
    let [gender, interest, age] = ["gender", "interest", "age"].map(|name| id(&catalog, name));
    let member = id(&catalog, "member");
    let mut expected: Vec<Vec<Shown>> = Vec::new();
    let mut batch = UpdateBatch::new();
    for user in 0..users {
        batch.begin_user(format!("user-{user}").as_bytes());
        let letter = char::from(b'a' + (user % 5) as u8).to_string();
        let mut interests = Vec::new();
        if user % 7 != 0 {
            batch.push(gender, Change::Enum(&letter));
        }
        for (divisor, value) in [(2, "even"), (3, "third")] {
            if user % divisor == 0 {
                batch.push(interest, Change::Add(value));
                interests.push(value.to_owned());
            }
        }
        expected.push(vec![
            Shown::Text((user % 7 != 0).then_some(letter)),
            Shown::Texts(interests),
            Shown::Flag(user % 3 == 0),
            Shown::Number(Some(i64::from(user % 100))),
            Shown::Id(format!("user-{user}")),
        ]);
    }
    store.write(&batch, None).expect("write");
    store.checkpoint().expect("checkpoint");
    let mut batch = UpdateBatch::new();
    for user in (0..users).step_by(9) {
        batch.begin_user(format!("user-{user}").as_bytes());
        batch.push(gender, Change::Enum("z"));
        batch.push(interest, Change::Remove("even"));
        batch.push(age, Change::Unset);
        let row = &mut expected[user as usize];
        row[0] = Shown::Text(Some("z".to_owned()));
        row[1] = Shown::Texts(if user % 3 == 0 { vec!["third".to_owned()] } else { Vec::new() });
        row[3] = Shown::Number(None);
    }
    store.write(&batch, None).expect("write");
    store.publish().expect("publish");
    let asked =
        [gender, interest, member, age].map(ColumnOf::Tag).into_iter().chain([ColumnOf::UserId]).collect::<Vec<_>>();
    assert_eq!(rows_of(&store.snapshot(), &Predicate::All, &asked, None, &context()), expected);
    assert_eq!(rows_of(&store.snapshot(), &Predicate::All, &asked, Some(600), &context()), expected[..600]);
    let members: Vec<Vec<Shown>> = expected.iter().filter(|row| row[2] == Shown::Flag(true)).cloned().collect();
    assert_eq!(rows_of(&store.snapshot(), &Predicate::Flag(member), &asked, None, &context()), members);
}

#[test]
fn a_cancelled_query_ends() {
    let (store, _) = crowd(1_000);
    let cancelled = context();
    cancelled.cancelled.store(true, Ordering::Relaxed);
    let snapshot = store.snapshot();
    assert!(matches!(count(&snapshot, &Predicate::All, &cancelled), Err(QueryError::Cancelled)));
    assert!(matches!(members(&snapshot, &Predicate::All, None, 10, &cancelled), Err(QueryError::Cancelled)));
    assert!(matches!(
        profile(&snapshot, &Predicate::All, &[], &Predicate::All, &cancelled),
        Err(QueryError::Cancelled)
    ));
}

#[test]
fn being_listed_does_not_make_a_user_countable() {
    let (store, _) = crowd(10);
    let mut batch = UpdateBatch::new();
    for user in ["user-1", "user-2", "stranger"] {
        batch.begin_user(user.as_bytes());
        batch.push(TagId::UPLOADS, Change::Add("list"));
    }
    store.write(&batch, None).expect("write");
    store.publish().expect("publish");
    let snapshot = store.snapshot();
    assert_eq!(count(&snapshot, &Predicate::Listed("list".into()), &context()).expect("count"), 2);
    let strangers = Predicate::Users(vec!["stranger".into(), "user-3".into()]);
    assert_eq!(count(&snapshot, &strangers, &context()).expect("count"), 1);
    assert_eq!(count(&snapshot, &strangers.negate(), &context()).expect("count"), 9);
    assert_eq!(user_lists(&snapshot, "user-1", &["list", "other"]).expect("look up"), ["list"]);
}
