//! Sinks over a store in memory: what is taken, in what order, and what becomes of what cannot be delivered.

use super::files::FilesOptions;
use super::worker::Step;
use super::*;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::ManualClock;
use engine::ids::TagId;
use engine::store::Snapshot;
use engine::store::{Audience, Definition, FactRow, FactTables, Options, RowTap, TableError};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use engine::vfs::Vfs;
use engine::vfs::memory::MemoryVfs;
use roaring::RoaringBitmap;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Tables that keep nothing.
#[derive(Debug)]
pub(super) struct NoTables;

impl FactTables for NoTables {
    fn stage(&self, _: &str, _: &Fact, _: u64, _: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        Ok(Vec::new())
    }

    fn commit(&self, _: &str, _: &Fact, _: u64, _: &[u8]) -> Result<u64, TableError> {
        Ok(0)
    }

    fn remove(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn erase(&self, _: &str, _: &Fact, _: &[RoaringBitmap], _: &Arc<AtomicBool>) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_history(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_staged(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }
}

/// Another side in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox(Arc<Mutex<Mail>>);

#[derive(Debug, Default)]
struct Mail {
    /// All that came, with the keys: also what came again.
    batches: Vec<(String, Vec<String>)>,
    /// What the next deliveries answer instead.
    answers: Vec<DeliveryError>,
    /// A batch with this text in it is refused for good.
    refused: Option<String>,
    /// Records with this text in them are not taken.
    not_taken: Option<String>,
    /// A batch comes as a whole: what is not taken is answered before the others come.
    is_whole: bool,
    is_closed: bool,
    /// Who delivers waits for it, whatever it is told.
    gate: Option<Arc<Mutex<()>>>,
    at_gate: usize,
    /// Decides which deliveries fail, some of them after they came.
    random: Option<u64>,
}

impl Inbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().expect("lock")
    }

    pub(super) fn fail_by(&self, seed: u64) {
        self.mail().random = Some(seed);
    }

    /// Records with a text in them are not taken; and if so before the others of their batch come.
    pub(super) fn refuse(&self, text: &str, is_whole: bool) {
        let mut mail = self.mail();
        (mail.not_taken, mail.is_whole) = (Some(text.to_owned()), is_whole);
    }

    fn arrive(&self) -> Option<Arc<Mutex<()>>> {
        let mut mail = self.mail();
        mail.at_gate += 1;
        mail.gate.clone()
    }

    /// The keys of the batches that came, as often as they came.
    pub(super) fn keys(&self) -> Vec<String> {
        self.mail().batches.iter().map(|(key, _)| key.clone()).collect()
    }

    /// The records of the batches, those of one key once; they must have been the same each time.
    pub(super) fn once(&self) -> Vec<serde_json::Value> {
        self.once_by_key().into_iter().flat_map(|(_, records)| records).collect()
    }

    /// The same, batch by batch and with its key.
    pub(super) fn once_by_key(&self) -> Vec<(String, Vec<serde_json::Value>)> {
        let mut known = BTreeMap::new();
        let mut batches = Vec::new();
        for (key, batch) in &self.mail().batches {
            match known.insert(key.clone(), batch.clone()) {
                Some(before) => assert_eq!(before, *batch, "{key} was another batch before"),
                None => {
                    let records = batch.iter().map(|json| serde_json::from_str(json).expect("JSON")).collect();
                    batches.push((key.clone(), records));
                }
            }
        }
        batches
    }
}

impl Connector for Inbox {
    fn open(&self, _: &SinkIdentity) -> Result<Box<dyn Deliver>, DeliveryError> {
        if self.mail().is_closed { Err(DeliveryError::later("nobody is there")) } else { Ok(Box::new(self.clone())) }
    }
}

impl Deliver for Inbox {
    fn deliver(&mut self, delivery: &Delivery<'_>, _: &Stop) -> Result<Vec<Refusal>, DeliveryError> {
        if let Some(gate) = self.arrive() {
            drop(gate.lock().expect("lock"));
        }
        let mut mail = self.mail();
        if let Some(answer) = mail.answers.pop() {
            return Err(answer);
        }
        let has = |text: &Option<String>, json: &str| text.as_ref().is_some_and(|text| json.contains(text));
        if delivery.records.iter().any(|record| has(&mail.refused, record.json)) {
            return Err(DeliveryError::Never("I do not like it".to_owned()));
        }
        let chance = mail.random.as_mut().map_or(0, |random| {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *random >> 60
        });
        if chance == 1 {
            return Err(DeliveryError::later("it failed"));
        }
        let not_taken = mail.not_taken.clone();
        let refused = delivery.records.iter().enumerate().filter(|(_, record)| has(&not_taken, record.json));
        let refused: Vec<Refusal> = refused.map(|(index, _)| Refusal { index, why: "too odd".to_owned() }).collect();
        if mail.is_whole {
            let is_new = |refusal: &Refusal| !delivery.left_out.contains(&refusal.index);
            let new: Vec<Refusal> = refused.into_iter().filter(is_new).collect();
            if !new.is_empty() {
                return Err(DeliveryError::Refused(new));
            }
            let sent = delivery.records.iter().enumerate().filter(|(index, _)| !delivery.left_out.contains(index));
            mail.batches.push((delivery.key.clone(), sent.map(|(_, record)| record.json.to_owned()).collect()));
            return if chance == 2 { Err(DeliveryError::later("it failed after it came")) } else { Ok(Vec::new()) };
        }
        let taken = delivery.records.iter().filter(|record| !has(&not_taken, record.json));
        let taken = taken.map(|record| record.json.to_owned()).collect();
        mail.batches.push((delivery.key.clone(), taken));
        if chance == 2 { Err(DeliveryError::later("it failed after it came")) } else { Ok(refused) }
    }
}

/// A catalog with the fact `purchase` and these sinks.
pub(super) fn purchases(sinks: &[&str]) -> (Catalog, TagId) {
    let mut catalog = Catalog::default();
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    let fact = Fact {
        id: TagId(0),
        columns: vec![
            column("n", ColumnType::Integer),
            column("type", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: 9, scale: 2 }),
            column("more", ColumnType::Json),
            column("at", ColumnType::Timestamp),
            column("share", ColumnType::Float),
            column("paid", ColumnType::Boolean),
        ],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: Some(30),
        zone: Zone::default(),
    };
    let fact = catalog.declare_fact("purchase", fact).expect("a fact");
    for sink in sinks {
        catalog.declare_sink(sink, (*sink).to_owned()).expect("a sink");
    }
    (catalog, fact)
}

type Alter = Arc<dyn Fn(SinkDefinition) -> SinkDefinition + Send + Sync>;

/// A store with sinks that run, into an inbox.
struct World {
    vfs: MemoryVfs,
    inbox: Inbox,
    store: Arc<Store>,
    sinks: Sinks,
    fact: TagId,
    takes: Takes,
    change: Alter,
    /// Checkpoints that came to hand rows over.
    taking: Arc<AtomicU64>,
}

/// The tap of a store, which counts the checkpoints that come to it.
#[derive(Debug)]
struct CountedTap {
    queues: Arc<SinkQueues>,
    taking: Arc<AtomicU64>,
}

impl RowTap for CountedTap {
    fn take(&self, snapshot: &Snapshot) -> std::io::Result<()> {
        self.taking.fetch_add(1, Ordering::SeqCst);
        self.queues.take(snapshot)
    }
}

impl World {
    fn new(takes: Takes, change: impl Fn(SinkDefinition) -> SinkDefinition + Send + Sync + 'static) -> World {
        World::on(MemoryVfs::default(), Inbox::default(), takes, Arc::new(change))
    }

    fn on(vfs: MemoryVfs, inbox: Inbox, takes: Takes, change: Alter) -> World {
        let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let clock = Arc::new(ManualClock::at(1_700_000_000_000_000));
        let (told, taken, changed) = (inbox.clone(), takes.clone(), change.clone());
        let read = move |_: &str, text: &str| {
            if text == "nonsense" {
                return Err("it means nothing".to_owned());
            }
            let definition = SinkDefinition::new(Ok(Arc::new(told.clone())), taken.clone());
            let soon = Duration::from_millis(1);
            Ok(changed(SinkDefinition { linger: soon, backoff: soon, backoff_max: soon, ..definition }))
        };
        let queues = Arc::new(SinkQueues::new(disk.clone(), Path::new("/data/sinks"), clock.clone(), Box::new(read)));
        let taking = Arc::new(AtomicU64::new(0));
        let tap: Arc<dyn RowTap> = Arc::new(CountedTap { queues: queues.clone(), taking: taking.clone() });
        let options =
            Options { shard_count: 2, clock, tables: Some(Arc::new(NoTables)), tap: Some(tap), ..Options::default() };
        let store = Arc::new(Store::open(disk, Path::new("/data"), options).expect("opens"));
        let sinks = Sinks::start(store.clone(), queues).expect("threads");
        let fact = store.snapshot().catalog().fact("purchase").map_or(TagId(0), |fact| fact.id);
        World { vfs, inbox, store, sinks, fact, takes, change, taking }
    }

    fn declare(&mut self, sinks: &[&str]) {
        let (catalog, fact) = purchases(sinks);
        self.fact = fact;
        self.put(catalog);
    }

    fn put(&self, catalog: Catalog) {
        self.store.put_catalog(catalog).expect("put");
        self.store.publish().expect("published");
        self.sinks.look().expect("brought to it");
    }

    fn want(&self, sink: &str, wanted: Wanted) {
        let mut catalog = self.store.snapshot().catalog().clone();
        assert!(catalog.set_sink_wanted(sink, wanted));
        self.put(catalog);
    }

    fn buy(&self, numbers: std::ops::Range<i64>) {
        let mut batch = UpdateBatch::new();
        for number in numbers {
            batch.begin_user(format!("u{number}").as_bytes());
            batch.push_event(self.fact, &EventHead::default(), &[Value::Integer(number)]);
        }
        self.write(&batch);
    }

    fn write(&self, batch: &UpdateBatch) {
        self.store.write(batch, None).expect("written");
        self.store.publish().expect("published");
    }

    /// Users enter and leave an audience, as the engine itself tells.
    fn change_audience(&self, changes: &[(&str, &str, &str)]) {
        let mut batch = UpdateBatch::new();
        for (user, audience, change) in changes {
            batch.begin_user(user.as_bytes());
            let head = EventHead { ts: 1_700_000_000_000_000, ..EventHead::default() };
            batch.push_event(TagId::AUDIENCE_CHANGES, &head, &[Value::Text(audience), Value::Text(change)]);
        }
        self.write(&batch);
    }

    #[track_caller]
    fn wait(&self, what: impl Fn(&World) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !what(self) {
            assert!(Instant::now() < deadline, "it never happened: {:?} {:?}", self.sinks.reports(), self.inbox);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn wait_numbers(&self, wanted: impl IntoIterator<Item = i64>) {
        let wanted: Vec<i64> = wanted.into_iter().collect();
        self.wait(|world| world.numbers() == wanted);
    }

    fn numbers(&self) -> Vec<i64> {
        self.inbox.once().iter().map(|record| record["n"].as_i64().expect("a number")).collect()
    }

    fn report(&self) -> SinkReport {
        self.sinks.report("inbox").expect("a sink")
    }

    /// Ends as a kill would, and starts again.
    fn restart(self) -> World {
        self.restart_after(|_| {})
    }

    /// The same, with a change of the disk in between.
    fn restart_after(self, damage: impl FnOnce(&MemoryVfs)) -> World {
        let World { vfs, inbox, store, sinks, takes, change, .. } = self;
        drop(sinks);
        drop(store);
        damage(&vfs);
        World::on(vfs, inbox, takes, change)
    }
}

fn of_purchases() -> Takes {
    Takes::Fact("purchase".to_owned())
}

#[test]
fn rows_come_as_they_are_written_and_from_when_the_sink_began() {
    let mut world = World::new(of_purchases(), |definition| SinkDefinition { batch_records_max: 10, ..definition });
    world.declare(&[]);
    world.buy(0..5);
    world.declare(&["inbox"]);
    world.buy(5..40);
    world.wait_numbers(5..40);
    assert!(world.inbox.mail().batches.iter().all(|(_, batch)| batch.len() <= 10));
    // A checkpoint forgets rows, and a restart comes without them.
    world.store.checkpoint().expect("saved");
    world.buy(40..45);
    let world = world.restart();
    world.buy(45..50);
    world.wait_numbers(5..50);
    // What came is noted after it came.
    world.wait(|world| world.report().queued == 0);
    let report = world.report();
    assert_eq!((report.state, report.queued, report.offset), (SinkState::Running, 0, 45));
}

#[test]
fn a_row_says_all_it_has() {
    let mut world = World::new(of_purchases(), |definition| definition);
    world.declare(&["inbox"]);
    let mut batch = UpdateBatch::new();
    batch.begin_user("ü\"1".as_bytes());
    let head = EventHead { ts: 1_700_000_000_123_456, event_id: "e1", undeclared: "{\"a\":\n1}", is_retraction: false };
    let values = [
        Value::Integer(7),
        Value::Text("shoes\n"),
        Value::Integer(-1205),
        Value::Text("{\"b\": [1.50]}"),
        Value::Integer(0),
        Value::Float(0.1),
        Value::Boolean(true),
    ];
    batch.push_event(world.fact, &head, &values);
    batch.begin_user("u2".as_bytes());
    batch.push_event(world.fact, &EventHead { ts: 5_000_000, ..EventHead::default() }, &[Value::Null]);
    world.write(&batch);
    batch = UpdateBatch::new();
    batch.begin_user("ü\"1".as_bytes());
    batch.push_event(world.fact, &EventHead { is_retraction: true, ..head }, &[]);
    world.write(&batch);
    world.wait(|world| world.inbox.once().len() == 3);
    let records = world.inbox.once();
    let event = json!({"id": "purchase/0", "type": "event", "fact": "purchase", "user_id": "ü\"1",
        "ts": "2023-11-14T22:13:20.123456Z", "event_id": "e1", "n": 7, "purchase.type": "shoes\n", "amount": -12.05,
        "more": {"b": [1.5]}, "at": "1970-01-01T00:00:00Z", "share": 0.1, "paid": true, "undeclared": {"a": 1}});
    assert_eq!(records[0], event);
    let bare =
        json!({"id": "purchase/1", "type": "event", "fact": "purchase", "user_id": "u2", "ts": "1970-01-01T00:00:05Z"});
    assert_eq!(records[1], bare);
    assert_eq!(
        (&records[2]["id"], &records[2]["retracted"], &records[2]["n"]),
        (&json!("purchase/2"), &json!(true), &json!(7))
    );
    let texts: Vec<String> = world.inbox.mail().batches.iter().flat_map(|(_, batch)| batch.clone()).collect();
    assert!(texts.iter().all(|text| !text.contains('\n')), "a record is one line");
    assert!(texts[0].contains("\"amount\":-12.05") && texts[0].contains("[1.50]"), "digits are kept: {}", texts[0]);
}

#[test]
fn a_new_sink_first_tells_who_is_in() {
    let of = |names: &[&str]| Takes::Audiences(names.iter().map(|name| (*name).to_owned()).collect());
    let mut world = World::new(of(&["vip", "lapsed"]), |definition| definition);
    world.declare(&[]);
    let live = |name: &str| Audience {
        definition: Definition::Live { expression: "TRUE".to_owned(), list_id: format!("list of {name}") },
        description: String::new(),
        changed_at: 0,
    };
    for name in ["vip", "lapsed", "others"] {
        world.store.put_audience(name, live(name)).expect("put");
    }
    let mut batch = UpdateBatch::new();
    for user in ["u1", "u2", "u3"] {
        batch.begin_user(user.as_bytes());
    }
    for (user, name) in [("u1", "vip"), ("u2", "vip"), ("u2", "lapsed"), ("u3", "others")] {
        batch.begin_user(user.as_bytes());
        batch.push(TagId::UPLOADS, Change::Add(&format!("list of {name}")));
    }
    world.write(&batch);
    world.change_audience(&[("u1", "vip", "entered")]);
    world.declare(&["inbox"]);
    world.change_audience(&[("u4", "vip", "entered"), ("u3", "others", "left"), ("u1", "vip", "left")]);
    world.wait(|world| world.inbox.once().len() == 5);
    let told = |world: &World| -> Vec<String> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let line = |record: &serde_json::Value| {
            let [id, kind, audience, user] = ["id", "type", "audience", "user_id"].map(|name| text(&record[name]));
            format!("{id} {kind} {audience} {user}")
        };
        world.inbox.once().iter().map(line).collect()
    };
    let mut lines = told(&world);
    lines[..3].sort();
    assert_eq!(
        lines,
        [
            "audience_change@1/lapsed/u2 entered lapsed u2",
            "audience_change@1/vip/u1 entered vip u1",
            "audience_change@1/vip/u2 entered vip u2",
            "audience_change/1 entered vip u4",
            "audience_change/3 left vip u1",
        ]
    );
    assert_eq!(world.inbox.once()[0]["initial"], json!(true));
    // It is told once, also over restarts; dropped and declared again it begins anew, under other keys.
    let mut world = world.restart();
    world.change_audience(&[("u5", "lapsed", "entered")]);
    world.wait(|world| told(world).last().is_some_and(|line| line == "audience_change/4 entered lapsed u5"));
    assert_eq!(told(&world).len(), 6);
    world.declare(&[]);
    world.declare(&["inbox"]);
    world.wait(|world| told(world).len() == 9);
}

#[test]
fn what_fails_is_tried_again_and_what_is_refused_becomes_a_dead_letter() {
    let mut world = World::new(of_purchases(), |definition| SinkDefinition { batch_records_max: 2, ..definition });
    world.inbox.mail().is_closed = true;
    world.declare(&["inbox"]);
    world.buy(0..2);
    world.wait(|world| world.report().retries > 1 && world.report().queued == 2);
    assert_eq!(world.report().state, SinkState::Retrying);
    world.inbox.mail().is_closed = false;
    world.wait_numbers(0..2);
    world.inbox.mail().answers = vec![DeliveryError::later("not now"); 3];
    world.buy(2..4);
    world.wait_numbers(0..4);
    // A batch is refused, then a single record.
    world.inbox.mail().refused = Some("\"n\":5".to_owned());
    world.inbox.mail().not_taken = Some("\"n\":7".to_owned());
    world.buy(4..6);
    world.wait(|world| world.report().dead_letters == 2);
    world.buy(6..8);
    world.wait_numbers([0, 1, 2, 3, 6]);
    world.wait(|world| world.report().dead_letters == 3 && world.report().queued == 0);
    world.store.publish().expect("published");
    let snapshot = world.store.snapshot();
    let letters: Vec<Vec<String>> = snapshot
        .recent_rows(TagId::DEAD_LETTERS)
        .iter()
        .flat_map(|log| log.rows().map(|row| row.event.values().map(|value| format!("{value:?}")).collect::<Vec<_>>()))
        .collect();
    assert_eq!(letters.len(), 3);
    assert_eq!(
        letters[0][..5],
        [
            "Text(\"sink/inbox\")",
            "Text(\"purchase/4\")",
            "Integer(4)",
            "Text(\"not_delivered\")",
            "Text(\"I do not like it\")"
        ]
    );
    assert!(letters[2][4].contains("too odd") && letters[2][5].contains("purchase/7"), "{:?}", letters[2]);
}

#[test]
fn retries_can_be_counted() {
    let mut world = World::new(of_purchases(), |definition| SinkDefinition { retries: Some(2), ..definition });
    world.declare(&["inbox"]);
    world.inbox.mail().answers = vec![DeliveryError::later("not now"); 3];
    world.buy(0..2);
    world.wait(|world| world.report().dead_letters == 2);
    assert!(world.report().error.expect("why").contains("given up after 3 attempts: not now"));
    world.buy(2..3);
    world.wait_numbers([2]);
}

#[test]
fn a_pause_gathers_and_a_stop_does_not() {
    let mut world = World::new(of_purchases(), |definition| definition);
    world.declare(&["inbox"]);
    world.want("inbox", Wanted::Paused);
    world.buy(0..3);
    world.wait(|world| world.report().queued == 3);
    assert_eq!((world.report().state, world.numbers().len()), (SinkState::Paused, 0));
    assert!(world.report().oldest_queued_at.is_some());
    let world = world.restart();
    world.wait(|world| world.sinks.report("inbox").is_some_and(|report| report.queued == 3));
    assert_eq!(world.report().state, SinkState::Paused);
    world.want("inbox", Wanted::Stopped);
    world.buy(3..6);
    let world = world.restart();
    world.wait(|world| world.sinks.report("inbox").is_some_and(|report| report.state == SinkState::Stopped));
    world.want("inbox", Wanted::Running);
    world.buy(6..9);
    world.wait_numbers([0, 1, 2, 6, 7, 8]);
}

#[test]
fn a_full_queue_holds_up_a_checkpoint_until_there_is_room_or_the_server_ends() {
    let small = |definition| SinkDefinition { queue_bytes: 2_000, batch_records_max: 2, ..definition };
    let mut world = World::new(of_purchases(), small);
    world.inbox.mail().is_closed = true;
    world.declare(&["inbox"]);
    world.buy(0..100);
    world.wait(|world| world.report().is_full);
    let store = world.store.clone();
    let checkpoint = std::thread::spawn(move || store.checkpoint().map(drop));
    world.wait(|world| world.taking.load(Ordering::SeqCst) == 1);
    // It is there; whoever does not wait is through in this time.
    std::thread::sleep(Duration::from_millis(100));
    assert!(!checkpoint.is_finished(), "the checkpoint did not wait");
    world.inbox.mail().is_closed = false;
    checkpoint.join().expect("no panic").expect("saved");
    world.wait_numbers(0..100);
    world.wait(|world| world.report().queued == 0);
    // The other side is away again, and nobody waits for it at the end. A dead letter is written although its queue is full.
    world.inbox.mail().answers = vec![DeliveryError::Never("never".to_owned())];
    world.buy(100..200);
    world.wait(|world| world.report().offset == 200 && world.report().queued == 0);
    let dead_letters = world.report().dead_letters as usize;
    assert!(dead_letters > 0, "{:?}", world.report());
    world.want("inbox", Wanted::Paused);
    world.buy(200..300);
    world.wait(|world| world.report().is_full);
    world.sinks.lift_bounds();
    world.store.checkpoint().expect("saved");
    let world = world.restart();
    world.want("inbox", Wanted::Running);
    world.wait(|world| world.numbers().len() == 300 - dead_letters);
}

#[test]
fn a_full_queue_can_pass_rows_over() {
    let small = |definition| SinkDefinition { queue_bytes: 2_000, when_full: WhenFull::Drop, ..definition };
    let mut world = World::new(of_purchases(), small);
    world.declare(&["inbox"]);
    world.want("inbox", Wanted::Paused);
    world.buy(0..100);
    world.wait(|world| world.report().dropped > 0);
    world.store.checkpoint().expect("saved");
    let report = world.report();
    assert_eq!(report.queued + report.dropped, 100);
    world.want("inbox", Wanted::Running);
    world.wait_numbers(0..report.queued as i64);
}

#[test]
fn what_means_nothing_says_so_and_can_be_put_right() {
    let mut world = World::new(of_purchases(), |definition| definition);
    world.declare(&["inbox"]);
    world.buy(0..2);
    world.wait_numbers(0..2);
    let mut catalog = world.store.snapshot().catalog().clone();
    catalog.declare_sink("inbox", "nonsense".to_owned()).expect("declared");
    world.put(catalog);
    assert_eq!(world.report().error.as_deref(), Some("it means nothing"));
    assert_eq!(world.report().state, SinkState::Failed);
    world.declare(&["inbox"]);
    world.buy(2..4);
    world.wait_numbers(0..4);
}

#[test]
fn a_damaged_queue_is_named_and_holds_up_nobody() {
    let mut world = World::new(of_purchases(), |definition| definition);
    world.declare(&["inbox"]);
    world.want("inbox", Wanted::Paused);
    for number in 0..4 {
        world.buy(number..number + 1);
        world.wait(|world| world.report().queued == number as u64 + 1);
    }
    let (path, length) = world
        .vfs
        .files()
        .into_iter()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "queue"))
        .expect("a file");
    world.vfs.flip_bit(&path, length / 2 * 8);
    let world = world.restart();
    world.wait(|world| world.sinks.report("inbox").is_some_and(|report| report.state == SinkState::Failed));
    let error = world.report().error.expect("why");
    assert!(error.contains(".queue: damaged at byte") && error.contains("declare it again"), "{error}");
    world.buy(4..5);
    world.store.checkpoint().expect("saved");
    // Mended, it goes on with what it has once it is told to, without a restart.
    world.vfs.flip_bit(&path, length / 2 * 8);
    world.want("inbox", Wanted::Running);
    world.wait_numbers(0..4);
    world.buy(5..6);
    world.wait_numbers([0, 1, 2, 3, 5]);
}

#[test]
fn a_failed_queue_is_opened_by_another_try() {
    let mut world = World::new(of_purchases(), |definition| definition);
    world.declare(&["inbox"]);
    world.buy(0..2);
    world.wait_numbers(0..2);
    let cursor = Path::new("/data/sinks/inbox/cursor");
    let mut world = world.restart_after(|vfs| vfs.flip_bit(cursor, 100));
    world.wait(|world| world.sinks.report("inbox").is_some_and(|report| report.state == SinkState::Failed));
    world.sinks.retry("inbox").expect("tried");
    assert_eq!(world.report().state, SinkState::Failed, "it is still damaged");
    world.vfs.flip_bit(cursor, 100);
    world.sinks.retry("inbox").expect("tried");
    world.buy(2..4);
    world.wait_numbers(0..4);
    // One that stays damaged begins anew when the sink is dropped and declared again.
    world = world.restart_after(|vfs| vfs.flip_bit(cursor, 100));
    world.wait(|world| world.sinks.report("inbox").is_some_and(|report| report.state == SinkState::Failed));
    world.declare(&[]);
    world.declare(&["inbox"]);
    world.buy(4..6);
    world.wait_numbers(0..6);
}

#[test]
fn what_lies_in_the_folder_of_queues_fails_no_checkpoint() {
    let vfs = MemoryVfs::default();
    let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
    disk.create_folder(Path::new("/data/sinks/inbox/odd")).expect("a folder");
    disk.create_folder(Path::new("/data/sinks/gone/odd")).expect("a folder");
    disk.create(Path::new("/data/sinks/stray")).expect("a file");
    let mut world = World::on(vfs, Inbox::default(), of_purchases(), Arc::new(|definition| definition));
    world.declare(&["inbox", "second"]);
    world.buy(0..3);
    assert_eq!(world.report().state, SinkState::Failed);
    world.store.checkpoint().expect("saved");
    world.wait_numbers(0..3);
    world.buy(3..6);
    // The folder goes, and the sink begins with the next row.
    world.vfs.remove_tree(Path::new("/data/sinks/inbox/odd")).expect("removed");
    world.wait_numbers(0..6);
    world.sinks.retry("inbox").expect("tried");
    world.buy(6..7);
    world.wait(|world| world.report().delivered == 1);
    world.store.checkpoint().expect("saved");
}

#[test]
fn a_sink_that_is_dropped_and_declared_again_at_once_begins_anew() {
    let mut world = World::new(of_purchases(), |definition| definition);
    world.inbox.mail().is_closed = true;
    world.declare(&["inbox"]);
    world.buy(0..3);
    world.wait(|world| world.report().queued == 3);
    let life = world.store.snapshot().catalog().sink("inbox").expect("a sink").life;
    // Nobody looks in between: the catalog is published with both changes.
    let mut catalog = world.store.snapshot().catalog().clone();
    catalog.drop_sink("inbox").expect("there was one");
    catalog.declare_sink("inbox", "inbox".to_owned()).expect("declared");
    assert_ne!(catalog.sink("inbox").expect("a sink").life, life);
    world.put(catalog);
    assert_eq!(world.report().queued, 0);
    // Also over a restart in which nobody looked.
    world.buy(3..5);
    world.wait(|world| world.report().queued == 2);
    let mut catalog = world.store.snapshot().catalog().clone();
    catalog.drop_sink("inbox").expect("there was one");
    catalog.declare_sink("inbox", "inbox".to_owned()).expect("declared");
    world.sinks.stop();
    world.store.put_catalog(catalog).expect("put");
    world.store.publish().expect("published");
    let world = world.restart();
    world.wait(|world| world.sinks.report("inbox").is_some());
    world.inbox.mail().is_closed = false;
    world.buy(5..7);
    world.wait_numbers(5..7);
}

#[test]
fn a_sink_that_is_told_another_fact_begins_with_its_next_row() {
    let told = Arc::new(Mutex::new("purchase"));
    let takes = told.clone();
    let other = move |definition| SinkDefinition {
        takes: Takes::Fact((*takes.lock().expect("lock")).to_owned()),
        ..definition
    };
    let mut world = World::on(MemoryVfs::default(), Inbox::default(), of_purchases(), Arc::new(other));
    let (mut catalog, fact) = purchases(&["inbox"]);
    world.fact = fact;
    let refund = catalog.fact("purchase").expect("a fact").clone();
    let refund = catalog.declare_fact("refund", refund).expect("a fact");
    world.put(catalog.clone());
    world.buy(0..2);
    world.wait_numbers(0..2);
    let turn = |world: &World, name: &'static str| {
        *told.lock().expect("lock") = name;
        let mut catalog = world.store.snapshot().catalog().clone();
        catalog.declare_sink("inbox", format!("from {name}")).expect("declared");
        world.put(catalog);
    };
    turn(&world, "refund");
    world.buy(2..4);
    world.fact = refund;
    world.buy(4..6);
    world.wait_numbers([0, 1, 4, 5]);
    // What came of the first fact meanwhile is not sent.
    world.fact = fact;
    turn(&world, "purchase");
    world.buy(6..8);
    world.wait_numbers([0, 1, 4, 5, 6, 7]);
}

#[test]
fn what_was_delivered_is_not_sent_again_while_its_dead_letter_waits() {
    let mut world = World::new(of_purchases(), |definition| SinkDefinition { batch_records_max: 10, ..definition });
    world.inbox.refuse("\"n\":1}", false);
    world.declare(&["inbox"]);
    world.want("inbox", Wanted::Paused);
    world.buy(0..3);
    world.wait(|world| world.report().queued == 3);
    let queues = &world.sinks.shared.queues;
    let sink = queues.sinks().into_iter().next().expect("a sink");
    // A store that is closed takes no letters.
    let mut worker = Worker::new(&sink, std::sync::Weak::new(), Arc::default()).expect("a worker");
    for _ in 0..3 {
        assert!(matches!(worker.step(), Step::Later(_)));
    }
    assert_eq!(world.inbox.keys().len(), 1);
    assert!(world.report().error.expect("why").contains("dead letters: the store is closed"));
    assert_eq!(world.report().queued, 3, "it is not done");
}

#[test]
fn what_a_whole_batch_goes_without_is_a_dead_letter_before_it_goes() {
    let mut world = World::new(of_purchases(), |definition| SinkDefinition { batch_records_max: 10, ..definition });
    world.inbox.refuse("\"n\":1}", true);
    world.declare(&["inbox"]);
    world.want("inbox", Wanted::Paused);
    world.buy(0..3);
    world.wait(|world| world.report().queued == 3);
    let sink = world.sinks.shared.queues.sinks().into_iter().next().expect("a sink");
    let mut worker = Worker::new(&sink, std::sync::Weak::new(), Arc::default()).expect("a worker");
    for _ in 0..3 {
        assert!(matches!(worker.step(), Step::Later(_)));
    }
    assert_eq!(world.inbox.keys().len(), 0, "nothing goes before");
    // Another one comes after a crash; its letter is written once, and others of the same batch are other letters.
    for _ in 0..2 {
        let mut worker = Worker::new(&sink, Arc::downgrade(&world.store), Arc::default()).expect("a worker");
        assert_eq!(worker.step(), Step::Delivered);
        assert_eq!((world.inbox.keys().len(), world.report().queued), (0, 3));
    }
    let letters = |world: &World| {
        world.store.publish().expect("published");
        world.store.snapshot().next_row(TagId::DEAD_LETTERS)
    };
    assert_eq!(letters(&world), 1);
    world.inbox.refuse("\"n\":2}", true);
    let mut worker = Worker::new(&sink, Arc::downgrade(&world.store), Arc::default()).expect("a worker");
    assert_eq!(worker.step(), Step::Delivered);
    assert_eq!(letters(&world), 2);
    assert_eq!(worker.step(), Step::Delivered);
    assert_eq!((world.numbers(), world.report().queued), (vec![0, 1], 0));
}

#[test]
fn who_does_not_end_locks_nobody_out() {
    let mut world = World::new(of_purchases(), |definition| definition);
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().expect("lock");
    world.inbox.mail().gate = Some(gate.clone());
    world.declare(&["inbox"]);
    world.buy(0..3);
    world.wait(|world| world.inbox.mail().at_gate == 1);
    // The thread of this sink does not end; others come and go meanwhile.
    let shared = world.sinks.shared.clone();
    let (catalog, _) = purchases(&["second"]);
    world.store.put_catalog(catalog).expect("put");
    world.store.publish().expect("published");
    assert!(!shared.look().expect("looked").is_settled);
    assert!(world.sinks.report("inbox").is_none() && world.sinks.report("second").is_some());
    drop(held);
    world.sinks.look().expect("looked");
    assert!(shared.look().expect("looked").is_settled);
}

#[test]
fn files_become_whole_by_size_and_age() {
    let vfs = MemoryVfs::default();
    let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let files = FilesOptions { vfs: disk, folder: "/out".into(), max_bytes: 500, max_age: Duration::from_millis(50) };
    let into_files =
        move |definition| SinkDefinition { connector: Ok(Arc::new(files.clone())), batch_records_max: 3, ..definition };
    let mut world = World::on(vfs.clone(), Inbox::default(), of_purchases(), Arc::new(into_files));
    world.declare(&["inbox"]);
    world.buy(0..30);
    let whole = |vfs: &MemoryVfs| -> Vec<String> {
        let names = vfs.files().into_iter().map(|(path, _)| path.display().to_string());
        names.filter(|name| name.starts_with("/out/inbox-") && name.ends_with(".ndjson")).collect()
    };
    let lines = |vfs: &MemoryVfs| {
        let read = |name: &String| String::from_utf8(vfs.map(Path::new(name)).expect("mapped").to_vec()).expect("text");
        whole(vfs).iter().map(read).collect::<String>().lines().count()
    };
    world.wait(|world| lines(&world.vfs) == 30);
    assert!(whole(&vfs).len() > 3);
    assert!(vfs.files().iter().all(|(path, _)| !path.to_string_lossy().ends_with(".part")));
}
