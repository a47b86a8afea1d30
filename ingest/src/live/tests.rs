//! Random histories of users, time and crashes against asking anew.

use super::*;
use engine::audience::ops::{QueryContext, members};
use engine::audience::predicate::Predicate;
use engine::audience::{bind, parse};
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, TagType, Unit, Zone};
use engine::clock::{Clock, ManualClock};
use engine::ids::TagId;
use engine::store::{Audience, Options, RowTap};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use engine::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

const HOUR: i64 = 3_600_000_000;
const START: i64 = 20_000 * 24 * HOUR;
const EXPRESSIONS: [&str; 6] = [
    "city = 'rome'",
    "NOT city = 'rome' AND age < 40",
    "interest = 'golf' OR member",
    "did('visit', count >= 2, within => '24 hours')",
    "NOT did('visit', within => '2 days')",
    "in_audience('golfers') AND user_id NOT IN ('u1', 'new')",
];

/// What a sink would know: who entered and did not leave, as the rows say.
#[derive(Debug, Default)]
struct Rows(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl RowTap for Rows {
    fn take(&self, snapshot: &Snapshot) -> std::io::Result<()> {
        let mut taken = self.0.lock().expect("no panic");
        for (number, row) in snapshot.recent_rows(TagId::AUDIENCE_CHANGES).iter().flat_map(|log| log.numbered()) {
            if number < taken.next {
                continue;
            }
            assert_eq!(number, taken.next, "such events have no ids, so none is passed over");
            taken.next += 1;
            let values: Vec<Value<'_>> = row.event.values().collect();
            let [Value::Text(audience), Value::Text(change)] = values[..] else { panic!("two texts") };
            let members = taken.members.entry(audience.to_owned()).or_default();
            let is_news = match change {
                "entered" => members.insert(row.user_id.to_owned()),
                "left" => members.remove(row.user_id),
                other => panic!("{other}"),
            };
            assert!(is_news, "{} {change} twice", row.user_id);
        }
        Ok(())
    }
}

/// What an observer is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<Arc<MembershipChange>>>);

impl Observer for Told {
    fn changed(&self, change: &Arc<MembershipChange>) {
        self.0.lock().expect("no panic").push(change.clone());
    }

    fn keep_only(&self, _: &[&str]) {}
}

struct World {
    vfs: Arc<MemoryVfs>,
    clock: Arc<ManualClock>,
    rows: Arc<Rows>,
    told: Arc<Told>,
    /// None while it is started again: one directory has one store.
    looker: Option<Looker>,
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.declare("city", TagType::Enum).expect("declares");
    catalog.declare("age", TagType::Number(Unit::Integer)).expect("declares");
    catalog.declare("interest", TagType::Set).expect("declares");
    catalog.declare("member", TagType::Flag).expect("declares");
    let visit = Fact {
        id: TagId(0),
        columns: vec![Column { name: "page".to_owned(), column_type: ColumnType::String }],
        activity: Activity { dimensions: vec![0], measures: vec![] },
        retention_days: Some(10),
        deduplicate_days: None,
        zone: Zone::default(),
    };
    catalog.declare_fact("visit", visit).expect("declares");
    catalog
}

impl World {
    fn new() -> World {
        let vfs = Arc::new(MemoryVfs::default());
        let clock = Arc::new(ManualClock::at(START));
        let (rows, told) = (Arc::new(Rows::default()), Arc::new(Told::default()));
        let looker = Some(open(&vfs, &clock, &rows, &told));
        let world = World { vfs, clock, rows, told, looker };
        world.store().put_catalog(catalog()).expect("puts");
        let list = Definition::Uploaded { list_id: "golfers@1".to_owned(), user_count: 0 };
        world.put("golfers", list);
        world.store().publish().expect("publishes");
        world
    }

    fn looker(&self) -> &Looker {
        self.looker.as_ref().expect("it runs")
    }

    fn looker_mut(&mut self) -> &mut Looker {
        self.looker.as_mut().expect("it runs")
    }

    fn store(&self) -> &Arc<Store> {
        &self.looker().shared.store
    }

    fn put(&self, name: &str, definition: Definition) {
        let audience = Audience { definition, description: String::new(), changed_at: 0 };
        self.store().put_audience(name, audience).expect("puts");
    }

    fn put_live(&self, name: &str, expression: &str) {
        let definition = Definition::Live { expression: expression.to_owned(), list_id: format!("{name}@live") };
        self.put(name, definition);
    }

    fn restart(&mut self) {
        drop(self.looker.take());
        self.looker = Some(open(&self.vfs, &self.clock, &self.rows, &self.told));
    }

    fn set(&self, user: &str, tag: &str, change: Change<'_>) {
        let snapshot = self.store().snapshot();
        let tag = if tag == "golfers" { TagId::UPLOADS } else { snapshot.catalog().tag(tag).expect("declared").id };
        let mut batch = UpdateBatch::new();
        batch.begin_user(user.as_bytes());
        batch.push(tag, change);
        self.store().write(&batch, None).expect("writes");
    }

    fn visit(&self, user: &str) {
        let fact = self.store().snapshot().catalog().fact("visit").expect("declared").id;
        let mut batch = UpdateBatch::new();
        batch.begin_user(user.as_bytes());
        let head = EventHead { ts: self.clock.now(), ..EventHead::default() };
        batch.push_event(fact, &head, &[Value::Text("home")]);
        self.store().write(&batch, None).expect("writes");
    }

    fn look(&mut self) {
        self.store().publish().expect("publishes");
        // However long looking took, nobody rests in a test.
        self.looker_mut().tracked.values_mut().for_each(Tracked::wake);
        self.looker_mut().look();
        self.store().publish().expect("publishes");
    }

    fn names(&self, expression: &str) -> BTreeSet<String> {
        let snapshot = self.store().snapshot();
        let parsed = parse(expression).expect("parses");
        let predicate = bind(&parsed, snapshot.catalog(), snapshot.audiences(), self.clock.now()).expect("binds");
        self.users(&predicate)
    }

    fn users(&self, predicate: &Predicate) -> BTreeSet<String> {
        let page = members(&self.store().snapshot(), predicate, None, usize::MAX, &QueryContext::default());
        page.expect("answers").users.into_iter().collect()
    }

    /// The list, the rows and the status agree with who fits now.
    fn check(&self, name: &str, expression: &str) {
        let expected = self.names(expression);
        assert_eq!(self.users(&Predicate::Listed(format!("{name}@live"))), expected, "the list of {expression}");
        self.rows.take(&self.store().snapshot()).expect("takes");
        let rows = self.rows.0.lock().expect("no panic").members.get(name).cloned().unwrap_or_default();
        assert_eq!(rows, expected, "the rows of {expression}");
        let size = self.looker().shared.state().statuses[name].1.size;
        assert_eq!(size, expected.len() as u64, "the size of {expression}");
    }
}

fn open(vfs: &Arc<MemoryVfs>, clock: &Arc<ManualClock>, rows: &Arc<Rows>, told: &Arc<Told>) -> Looker {
    let options = Options {
        shard_count: 2,
        clock: clock.clone(),
        tap: Some(rows.clone()),
        tables: Some(Arc::new(NoTables)),
        ..Options::default()
    };
    let store = Arc::new(Store::open(vfs.clone(), Path::new("/data"), options).expect("opens"));
    let options = LiveOptions {
        interval: Duration::from_millis(1),
        folder: "/data/live".into(),
        vfs: vfs.clone(),
        scanner: None,
        observer: told.clone(),
    };
    let files = HistoryFolder::open(vfs.clone(), options.folder.clone()).expect("opens");
    let shared = Shared { store, options, state: Mutex::default(), stop: Stop::default(), cancelled: Arc::default() };
    Looker { shared: Arc::new(shared), tracked: BTreeMap::new(), known: None, files }
}

/// Rows are kept until a checkpoint and then let go.
#[derive(Debug)]
struct NoTables;

impl engine::store::FactTables for NoTables {
    fn stage(
        &self,
        _: &str,
        _: &Fact,
        _: u64,
        _: &[engine::store::FactRow<'_>],
    ) -> Result<Vec<u8>, engine::store::TableError> {
        Ok(Vec::new())
    }

    fn commit(&self, _: &str, _: &Fact, epoch: u64, _: &[u8]) -> Result<u64, engine::store::TableError> {
        Ok(epoch)
    }

    fn remove(&self, _: &str) -> Result<(), engine::store::TableError> {
        Ok(())
    }

    fn erase(
        &self,
        _: &str,
        _: &engine::catalog::Fact,
        _: &[RoaringBitmap],
        _: &Arc<AtomicBool>,
    ) -> Result<(), engine::store::TableError> {
        Ok(())
    }

    fn forget_history(&self, _: &str) -> Result<(), engine::store::TableError> {
        Ok(())
    }

    fn forget_staged(&self, _: &str) -> Result<(), engine::store::TableError> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize),
    Visit(usize),
    Wait(i64),
    Redefine(usize),
    Look,
    Checkpoint,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..12usize, 0..9usize).prop_map(|(user, change)| Step::Set(user, change)),
        4 => (0..12usize).prop_map(Step::Visit),
        2 => (1..30i64).prop_map(Step::Wait),
        1 => (0..EXPRESSIONS.len()).prop_map(Step::Redefine),
        5 => Just(Step::Look),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lists_and_rows_follow_who_fits(
        which in 0..EXPRESSIONS.len(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        let (fixed, mut second) = (EXPRESSIONS[which], 0);
        world.put_live("fixed", fixed);
        world.put_live("second", EXPRESSIONS[second]);
        for step in steps {
            match step {
                Step::Set(user, change) => {
                    let (tag, change) = match change {
                        0 => ("city", Change::Enum("rome")),
                        1 => ("city", Change::Enum("oslo")),
                        2 => ("city", Change::Unset),
                        3 => ("age", Change::Number(30 + user as i64)),
                        4 => ("interest", Change::Add("golf")),
                        5 => ("interest", Change::Remove("golf")),
                        6 => ("member", Change::Flag(user % 2 == 0)),
                        7 => ("golfers", Change::Add("golfers@1")),
                        _ => ("golfers", Change::Remove("golfers@1")),
                    };
                    world.set(&format!("u{user}"), tag, change);
                }
                Step::Visit(user) => world.visit(&format!("u{user}")),
                Step::Wait(hours) => world.clock.set(world.clock.now() + hours * HOUR),
                Step::Redefine(expression) => {
                    second = expression;
                    world.put_live("second", EXPRESSIONS[second]);
                }
                Step::Look => {
                    world.look();
                    world.check("fixed", fixed);
                    world.check("second", EXPRESSIONS[second]);
                }
                Step::Checkpoint => drop(world.store().checkpoint().expect("saves")),
                Step::Crash => {
                    world.vfs.power_cut(7);
                    world.restart();
                }
            }
        }
        world.restart();
        world.look();
        world.check("fixed", fixed);
        world.check("second", EXPRESSIONS[second]);
    }
}

#[test]
fn a_user_leaves_when_the_window_does() {
    let mut world = World::new();
    world.put_live("recent", "did('visit', within => '24 hours')");
    world.visit("ann");
    world.look();
    world.clock.set(START + 30 * HOUR);
    world.look();
    let told = world.told.0.lock().expect("no panic");
    let told: Vec<_> =
        told.iter().map(|change| (change.entered.join(","), change.left.join(","), change.size)).collect();
    assert_eq!(told, [("ann".to_owned(), String::new(), 1), (String::new(), "ann".to_owned(), 0)]);
    let sizes = world.looker().shared.state().histories["recent@live"].between(i64::MIN, i64::MAX);
    let sizes: Vec<_> = sizes.iter().map(|point| (point.size, point.entered, point.left)).collect();
    assert_eq!(sizes, [(1, 1, 0), (0, 0, 1)]);
}

#[test]
fn only_those_are_asked_about_who_changed() {
    let mut world = World::new();
    world.put_live("romans", "city = 'rome'");
    for user in 0..1_000 {
        world.set(&format!("u{user}"), "city", Change::Enum("rome"));
    }
    world.look();
    world.set("u7", "city", Change::Enum("oslo"));
    world.set("u8", "interest", Change::Add("golf"));
    world.store().publish().expect("publishes");
    let published = world.store().take_published();
    let snapshot = world.store().snapshot();
    let newcomers = world.looker_mut().newcomers(&published, &snapshot).expect("known");
    let tracked = world.looker_mut().tracked.get_mut("romans").expect("live");
    tracked.note(Some((&published, &newcomers)));
    assert_eq!(tracked.pending_count(), Some(1), "u8 has nothing to do with it");
    world.look();
    world.check("romans", "city = 'rome'");
}

#[test]
fn what_means_nothing_any_more_is_told_and_comes_back() {
    let mut world = World::new();
    world.put_live("romans", "city = 'rome'");
    world.set("ann", "city", Change::Enum("rome"));
    world.look();
    let mut without = catalog();
    without.drop_tag("city");
    world.store().put_catalog(without).expect("puts");
    world.look();
    let failure = world.looker().shared.state().statuses["romans"].1.failure.clone();
    assert!(failure.is_some_and(|failure| failure.contains("city")), "it says what is missing");
    world.put_live("romans", "age > 3");
    world.set("bob", "age", Change::Number(4));
    world.look();
    world.check("romans", "age > 3");
}

#[test]
fn one_that_is_deleted_and_put_again_begins_anew() {
    let mut world = World::new();
    world.put_live("romans", "city = 'rome'");
    world.set("ann", "city", Change::Enum("rome"));
    world.set("bob", "city", Change::Enum("rome"));
    world.look();
    world.store().delete_audience("romans").expect("deletes");
    let definition = Definition::Live { expression: "city = 'rome'".to_owned(), list_id: "romans@again".to_owned() };
    world.put("romans", definition);
    world.set("bob", "city", Change::Enum("oslo"));
    // Nobody looked in between.
    world.look();
    let status = world.looker().shared.state().statuses["romans"].clone();
    assert_eq!((status.0.as_str(), status.1.size, status.1.entered, status.1.left), ("romans@again", 1, 1, 0));
    let points = world.looker().shared.state().histories["romans@again"].between(i64::MIN, i64::MAX);
    assert_eq!(points.iter().map(|point| point.entered).sum::<u64>(), 1);
}

#[test]
fn a_large_change_is_told_in_parts() {
    let mut world = World::new();
    world.put_live("all", "TRUE");
    let mut batch = UpdateBatch::new();
    (0..25_000).for_each(|user| batch.begin_user(format!("u{user}").as_bytes()));
    world.store().write(&batch, None).expect("writes");
    world.look();
    let told = world.told.0.lock().expect("no panic");
    let parts: Vec<_> = told.iter().map(|change| (change.entered.len(), change.size, change.is_last)).collect();
    assert_eq!(parts, [(10_000, 25_000, false), (10_000, 25_000, false), (5_000, 25_000, true)]);
}

#[test]
fn the_thread_looks_by_itself_and_ends() {
    let world = World::new();
    let Looker { shared, .. } = world.looker.expect("it runs");
    let (store, options) = (shared.store.clone(), shared.options.clone());
    let live = LiveAudiences::start(store.clone(), options).expect("starts");
    let definition = Definition::Live { expression: "TRUE".to_owned(), list_id: "all@1".to_owned() };
    store.put_audience("all", Audience { definition, description: String::new(), changed_at: 0 }).expect("puts");
    let mut batch = UpdateBatch::new();
    batch.begin_user(b"ann");
    store.write(&batch, None).expect("writes");
    store.publish().expect("publishes");
    let begin = Instant::now();
    while live.status("all").is_none_or(|status| status.size == 0) {
        assert!(begin.elapsed() < Duration::from_secs(30), "it never looked");
        std::thread::yield_now();
    }
    live.stop();
    assert_eq!(live.sizes("all@1", 0, i64::MAX).last().map(|point| point.size), Some(1));
}
