//! A store whose facts are in real tables, and what its users did as plain values.

use engine::audience::naive::{Event, NOW, Random, User, sample_catalog, truth};
use engine::audience::ops::{QueryContext, bitmaps};
use engine::audience::predicate::Predicate;
use engine::audience::{bind, expr::Expr, parse};
use engine::catalog::Catalog;
use engine::clock::ManualClock;
use engine::ids::shard_of;
use engine::store::{FactTables, Options, Snapshot, Store};
use engine::update::UpdateBatch;
use engine::vfs::real::RealVfs;
use engine_sql::facts::DeltaTables;
use engine_sql::scan::{MEMORY_BYTES_DEFAULT, TableScanner};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) const DAY_MICROS: i64 = 86_400_000_000;

/// A store, its tables, and what was done.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) tables: Arc<DeltaTables>,
    pub(crate) scanner: Arc<TableScanner>,
    pub(crate) catalog: Catalog,
    /// Per user, events by their ids; `None`: taken back.
    done: BTreeMap<String, BTreeMap<String, Option<Event>>>,
}

impl World {
    pub(crate) fn new(shard_count: u16) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = Arc::new(DeltaTables::open(&folder.path().join("facts")).expect("tables"));
        let clock = Arc::new(ManualClock::default());
        clock.set(NOW);
        let facts: Arc<dyn FactTables> = Arc::clone(&tables) as _;
        let options = Options { shard_count, clock, tables: Some(facts), ..Options::default() };
        let store = Store::open(Arc::new(RealVfs), folder.path(), options).expect("opens");
        let mut catalog = sample_catalog();
        let mut fact = catalog.fact("purchase").expect("declared").clone();
        fact.deduplicate_days = Some(200);
        catalog.declare_fact("purchase", fact).expect("a change that can be");
        store.put_catalog(catalog.clone()).expect("catalog");
        let scanner = Arc::new(TableScanner::new(Arc::clone(&tables), MEMORY_BYTES_DEFAULT).expect("threads"));
        World { folder, store, tables, scanner, catalog, done: BTreeMap::new() }
    }

    pub(crate) fn context(&self) -> QueryContext {
        QueryContext { scanner: Some(Arc::clone(&self.scanner) as _), ..QueryContext::default() }
    }

    /// Some events: new ones, old ones again, and some that are taken back, also before they come.
    pub(crate) fn write(&mut self, random: &mut Random) {
        let fact = self.catalog.fact("purchase").expect("declared").id;
        let mut batch = UpdateBatch::new();
        for _ in 0..random.below(40) {
            let (user, id) = (format!("u{}", random.below(20)), format!("e{}", random.below(30)));
            let known = self.done.entry(user.clone()).or_default();
            let event = match known.get(&id) {
                Some(Some(event)) => event.clone(),
                _ => random.event(),
            };
            let takes_back = random.one_in(4);
            batch.begin_user(user.as_bytes());
            event.push_as(fact, &mut batch, &id, takes_back);
            if takes_back {
                known.insert(id, None);
            } else {
                known.entry(id).or_insert(Some(event));
            }
        }
        self.store.write(&batch, None).expect("write");
    }

    /// Events as they are told, each of its own.
    pub(crate) fn put(&mut self, events: &[(String, Event)]) {
        let fact = self.catalog.fact("purchase").expect("declared").id;
        let mut batch = UpdateBatch::new();
        for (at, (user, event)) in events.iter().enumerate() {
            batch.begin_user(user.as_bytes());
            let id = format!("own-{at}-{}", event.ts);
            event.push_as(fact, &mut batch, &id, false);
            self.done.entry(user.clone()).or_default().insert(id, Some(event.clone()));
        }
        self.store.write(&batch, None).expect("write");
    }

    /// The users as they are now.
    pub(crate) fn users(&self) -> Vec<User> {
        let of_user = |(id, events): (&String, &BTreeMap<String, Option<Event>>)| User {
            id: id.clone(),
            events: events.values().flatten().cloned().collect(),
            ..User::default()
        };
        self.done.iter().map(of_user).collect()
    }

    pub(crate) fn bind(&self, expr: &Expr) -> Predicate {
        bind(expr, &self.catalog, &BTreeMap::new(), NOW).unwrap_or_else(|error| panic!("{expr}: {error}"))
    }

    pub(crate) fn parse(&self, text: &str) -> Predicate {
        self.bind(&parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    pub(crate) fn found(&self, snapshot: &Snapshot, predicate: &Predicate) -> Vec<RoaringBitmap> {
        let found = bitmaps(snapshot, predicate, &self.context()).unwrap_or_else(|error| panic!("{error}"));
        found.iter().map(|bytes| RoaringBitmap::deserialize_from(bytes.as_slice()).expect("a bitmap")).collect()
    }
}

/// Who fits, by a naive recount.
pub(crate) fn expected(snapshot: &Snapshot, expr: &Expr, users: &[User]) -> Vec<RoaringBitmap> {
    let shards = snapshot.shards();
    let mut fitting = vec![RoaringBitmap::new(); shards.len()];
    for user in users.iter().filter(|user| truth(expr, user, &BTreeMap::new()) == Some(true)) {
        let shard = usize::from(shard_of(user.id.as_bytes(), shards.len() as u16).0);
        if let Some(slot) = shards[shard].slot_of(user.id.as_bytes()).expect("a dictionary") {
            fitting[shard].insert(slot);
        }
    }
    fitting
}

pub(crate) fn names(prefix: &str, range: std::ops::Range<u32>) -> BTreeSet<String> {
    range.map(|number| format!("{prefix}{number}")).collect()
}
