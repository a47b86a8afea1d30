//! What is known of event ids, where histories of random steps seldom come: the turn of days, a changed declaration, damage.

use crate::history::FOLDER;
use crate::tables::FileTables;
use engine::audience::ops::{QueryContext, count};
use engine::audience::{bind, parse};
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::{Clock, ManualClock};
use engine::ids::TagId;
use engine::store::{Options, Store, WriteError};
use engine::update::{EventHead, UpdateBatch, Value};
use engine::vfs::memory::MemoryVfs;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DAY_MICROS: i64 = 86_400_000_000;

/// A store that is killed and opened again, and a clock that goes on.
struct World {
    vfs: MemoryVfs,
    clock: Arc<ManualClock>,
    store: Store,
}

fn catalog(deduplicate_days: u32) -> Catalog {
    let mut catalog = Catalog::default();
    let fact = Fact {
        id: TagId(0),
        columns: vec![Column { name: "category".to_owned(), column_type: ColumnType::String }],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: Some(deduplicate_days),
        zone: Zone::default(),
    };
    catalog.declare_fact("purchase", fact).expect("a good fact");
    catalog
}

fn open(vfs: &MemoryVfs, clock: &Arc<ManualClock>) -> Store {
    let tables = Arc::new(FileTables(vfs.clone()));
    let options = Options { shard_count: 1, clock: clock.clone(), tables: Some(tables), ..Options::default() };
    Store::open(Arc::new(vfs.clone()), Path::new(FOLDER), options).expect("opens")
}

impl World {
    fn new(deduplicate_days: u32) -> World {
        let (vfs, clock) = (MemoryVfs::default(), Arc::new(ManualClock::at(1_000 * DAY_MICROS)));
        let store = open(&vfs, &clock);
        store.put_catalog(catalog(deduplicate_days)).expect("catalog");
        World { vfs, clock, store }
    }

    fn days_later(&self, days: i64) {
        self.clock.set(self.clock.now() + days * DAY_MICROS);
    }

    fn restart(self) -> World {
        let World { vfs, clock, store } = self;
        drop(store);
        let store = open(&vfs, &clock);
        World { vfs, clock, store }
    }

    /// Events of one user, of the day the world began, under these ids; those that begin with `-` are taken back.
    fn send(&self, ids: &[&str]) -> Result<(), WriteError> {
        let mut batch = UpdateBatch::new();
        batch.begin_user(b"u");
        for id in ids {
            let (event_id, is_retraction) = id.strip_prefix('-').map_or((*id, false), |id| (id, true));
            let head = EventHead { ts: 1_000 * DAY_MICROS, is_retraction, event_id, undeclared: "" };
            batch.push_event(TagId::FIRST_DECLARED, &head, &[Value::Text("shoes")]);
        }
        let written = self.store.write(&batch, None)?;
        self.store.sync(written.lsn)
    }

    #[track_caller]
    fn expect(&self, events: i64) {
        self.store.publish().expect("publish");
        let snapshot = self.store.snapshot();
        let expr = parse(&format!("did('purchase', count = {events})")).expect("parses");
        let bound = bind(&expr, snapshot.catalog(), &BTreeMap::new(), self.clock.now()).expect("binds");
        assert_eq!(count(&snapshot, &bound, &QueryContext::default()).expect("counts"), 1, "{events} events");
    }
}

#[test]
fn a_replay_after_midnight_settles_as_before_it() {
    let world = World::new(1);
    world.send(&["a", "b"]).expect("written");
    world.store.checkpoint().expect("checkpoint");
    world.days_later(1);
    // Known until today: the one came before, the other is taken back.
    world.send(&["a", "-b"]).expect("written");
    world.expect(1);
    world.days_later(1);
    let world = world.restart();
    world.expect(1);
}

#[test]
fn a_shorter_memory_does_not_bring_back_what_was_taken_back() {
    let world = World::new(30);
    world.send(&["a", "b"]).expect("written");
    world.store.checkpoint().expect("checkpoint");
    world.store.put_catalog(catalog(1)).expect("catalog");
    world.days_later(1);
    world.send(&["-a"]).expect("written");
    world.store.checkpoint().expect("checkpoint");
    world.days_later(4);
    while world.store.compact().expect("compact").is_some() {}
    world.send(&["a", "-a", "-a"]).expect("written");
    world.expect(1);
}

#[test]
fn what_was_refused_for_damage_can_be_sent_again() {
    const EVENTS: usize = 5_000;
    let world = World::new(30);
    let ids: Vec<String> = (0..EVENTS).map(|number| format!("e{number}")).collect();
    world.send(&ids.iter().map(String::as_str).collect::<Vec<_>>()).expect("written");
    world.store.checkpoint().expect("checkpoint");
    let is_ids = |path: &Path| path.extension().is_some_and(|extension| extension == "evt");
    let (path, len) = world.vfs.files().into_iter().find(|(path, _)| is_ids(path)).expect("a file of ids");
    world.vfs.flip_bit(&path, len * 4);
    let world = world.restart();
    let refused = ids.iter().find(|id| world.send(&["new", id]).is_err()).expect("some ids are damaged").clone();
    world.send(&["other"]).expect("its place is whole");
    world.store.checkpoint().expect("checkpoint");
    world.vfs.flip_bit(&path, len * 4);
    let world = world.restart();
    world.send(&["new", &refused]).expect("written");
    world.expect(EVENTS as i64 + 2);
}

/// What a backfill brought is not logged, so after a crash a retraction may meet nothing. Rows behind it keep their numbers.
#[test]
fn rows_keep_their_numbers_when_a_backfill_has_to_come_again() {
    let world = World::new(1_000);
    let numbers = |world: &World| -> Vec<(u64, i8, String)> {
        world.store.publish().expect("publish");
        let snapshot = world.store.snapshot();
        let logs = snapshot.recent_rows(TagId::FIRST_DECLARED).iter();
        let rows = logs.flat_map(|log| log.numbered());
        rows.map(|(number, row)| (number, row.weight, row.event.head.event_id.to_owned())).collect()
    };
    let mut batch = UpdateBatch::new();
    batch.begin_user(b"u");
    let head = EventHead { ts: 1_000 * DAY_MICROS, is_retraction: false, event_id: "x", undeclared: "" };
    batch.push_event(TagId::FIRST_DECLARED, &head, &[Value::Text("shoes")]);
    world.store.write_replayable(&batch, "job", 1).expect("written");
    world.send(&["a", "a", "-x", "b"]).expect("written");
    let row = |number: u64, weight: i8, id: &str| (number, weight, id.to_owned());
    assert_eq!(numbers(&world), [row(0, 1, "a"), row(2, -1, "x"), row(3, 1, "b")]);
    let world = world.restart();
    assert_eq!(numbers(&world), [row(0, 1, "a"), row(3, 1, "b")]);
    world.send(&["c"]).expect("written");
    assert_eq!(numbers(&world).last(), Some(&row(4, 1, "c")), "no number is given twice");
}
