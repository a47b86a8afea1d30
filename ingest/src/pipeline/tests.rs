//! A pipeline over a source in memory: what is read counts once, whatever commands and failures come between.

mod lookups;
#[cfg(all(feature = "arrow", feature = "avro"))]
mod payloads;

use super::*;
use crate::decode::EventDecoder;
use crate::decode::mapping::{Condition, FactMapping, MappedField, Test, TimeUnit};
use crate::enrich::Enrichment;
use crate::source::{
    MissingRecords, PartitionStatus, Polled, Record, RecordBatch, Source, SourceError, SourcePosition, SourceStatus,
};
use engine::audience::bind::bind;
use engine::audience::ops::{QueryContext, count};
use engine::audience::parse::parse;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::Clock;
use engine::ids::TagId;
use engine::store::{FactRow, FactTables, Options, TableError};
use engine::vfs::memory::MemoryVfs;
use roaring::RoaringBitmap;
use std::path::Path;
use std::time::Instant;

/// A topic in memory, from which any number of readers can be opened, one after another.
#[derive(Debug, Default)]
struct Topic {
    partitions: Mutex<BTreeMap<Arc<str>, Vec<Vec<u8>>>>,
    finite: AtomicBool,
    /// The next polls fail.
    failures: Mutex<Vec<SourceError>>,
    committed: Mutex<SourcePosition>,
}

/// Records a poll gives at most.
const POLL_RECORDS: usize = 7;

impl Topic {
    fn push(&self, partition: &str, lines: impl IntoIterator<Item = String>) {
        let mut partitions = self.partitions.lock().expect("lock");
        partitions.entry(partition.into()).or_default().extend(lines.into_iter().map(String::into_bytes));
    }
}

#[derive(Debug)]
struct Opened {
    topic: Arc<Topic>,
    begin: Option<Begin>,
    positions: Vec<(Arc<str>, u64)>,
    assigned: bool,
    paused: bool,
}

#[derive(Clone, Debug)]
struct Connect(Arc<Topic>);

impl Connector for Connect {
    fn open(&self, begin: Option<&Begin>) -> Result<Box<dyn Source>, SourceError> {
        let (topic, begin) = (self.0.clone(), begin.cloned());
        Ok(Box::new(Opened { topic, begin, positions: Vec::new(), assigned: false, paused: false }))
    }
}

impl Source for Opened {
    fn poll(&mut self, batch: &mut RecordBatch, timeout: Duration) -> Result<Polled, SourceError> {
        batch.clear();
        if let Some(error) = self.topic.failures.lock().expect("lock").pop() {
            return Err(error);
        }
        let partitions = self.topic.partitions.lock().expect("lock");
        if !self.assigned {
            return Ok(Polled::Assigned(partitions.keys().cloned().collect()));
        }
        let mut left = if self.paused { 0 } else { POLL_RECORDS };
        for (name, position) in &mut self.positions {
            let from = *position as usize;
            let records = partitions[name].get(from..).unwrap_or_default();
            if left == 0 || records.is_empty() {
                continue;
            }
            let index = batch.add_partition(name.clone());
            for payload in records.iter().take(left) {
                let payload = Some(payload.as_slice());
                batch.push(Record { partition: index, offset: *position, timestamp_ms: None, key: None, payload });
                *position += 1;
                left -= 1;
            }
        }
        drop(partitions);
        match batch.is_empty() {
            false => Ok(Polled::Batch),
            true if self.topic.finite.load(Ordering::Relaxed) && !self.paused => Ok(Polled::End),
            true => {
                std::thread::sleep(timeout.min(Duration::from_millis(5)));
                Ok(Polled::Idle)
            }
        }
    }

    fn start(&mut self, known: &SourcePosition) -> Result<Vec<Started>, SourceError> {
        let partitions = self.topic.partitions.lock().expect("lock");
        self.assigned = true;
        self.positions = partitions
            .iter()
            .map(|(name, records)| {
                let first = if self.begin == Some(Begin::Latest) { records.len() as u64 } else { 0 };
                (name.clone(), known.get(name).unwrap_or(first))
            })
            .collect();
        let started = self.positions.iter();
        let started = started.map(|(name, offset)| Started { partition: name.clone(), offset: *offset, skipped: None });
        Ok(started.collect())
    }

    fn seek(&mut self, _: &str, _: u64) -> Result<(), SourceError> {
        unreachable!("a pipeline opens a source anew")
    }

    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    fn commit(&mut self, durable: &SourcePosition) {
        *self.topic.committed.lock().expect("lock") = durable.clone();
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let partitions = self.topic.partitions.lock().expect("lock");
        let status = |(name, position): &(Arc<str>, u64)| {
            let end = partitions[name].len() as u64;
            PartitionStatus {
                partition: name.clone(),
                position: *position,
                end: Some(end),
                lag: end.checked_sub(*position),
            }
        };
        self.positions.iter().map(status).collect()
    }

    fn status(&self) -> SourceStatus {
        SourceStatus::default()
    }
}

/// Keeps rows as lines of text.
#[derive(Debug, Default)]
struct TextTables(Mutex<BTreeMap<(String, u64), Vec<String>>>);

impl FactTables for TextTables {
    fn stage(&self, name: &str, _: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        let text = |row: &FactRow<'_>| format!("{} {:?}", row.user_id, row.event.values().collect::<Vec<_>>());
        self.0.lock().expect("lock").insert((name.to_owned(), epoch), rows.iter().map(text).collect());
        Ok(Vec::new())
    }

    fn commit(&self, _: &str, _: &Fact, epoch: u64, _: &[u8]) -> Result<u64, TableError> {
        Ok(epoch)
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

#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn now(&self) -> i64 {
        crate::clock::SystemClock.now()
    }
}

struct World {
    store: Arc<Store>,
    tables: Arc<TextTables>,
    pipeline: Pipeline,
    topic: Arc<Topic>,
    mapping: Option<MappingDefinition>,
    payload: PayloadFormat,
    enrich: Vec<Arc<Enrichment>>,
    gather: Duration,
}

impl World {
    fn new(finite: bool) -> World {
        World::on(Arc::default(), Arc::default(), finite)
    }

    /// On a disk that may hold a store already.
    fn on(disk: Arc<MemoryVfs>, topic: Arc<Topic>, finite: bool) -> World {
        let tables = Arc::new(TextTables::default());
        let options =
            Options { shard_count: 2, tables: Some(tables.clone()), clock: Arc::new(Now), ..Options::default() };
        let store = Arc::new(Store::open(disk, Path::new("/data"), options).expect("opens"));
        if store.snapshot().catalog().declared_fact("view").is_none() {
            let mut catalog = Catalog::default();
            catalog.declare_fact("view", view()).expect("a fact");
            catalog.declare_source("views", "1".to_owned()).expect("a source");
            store.put_catalog(catalog).expect("put");
            store.publish().expect("published");
        }
        topic.finite.store(finite, Ordering::Relaxed);
        World {
            pipeline: Pipeline::new(store.clone()),
            store,
            tables,
            topic,
            mapping: None,
            payload: PayloadFormat::Json,
            enrich: Vec::new(),
            gather: Duration::ZERO,
        }
    }

    fn set(&self, wanted: Wanted) {
        let definition = SourceDefinition {
            connector: Arc::new(Connect(self.topic.clone())),
            payload: self.payload.clone(),
            into: Target::Fact("view".to_owned()),
            mapping: self.mapping.clone(),
            enrich: self.enrich.clone(),
            idle_after: Duration::from_secs(60),
            gather: self.gather,
        };
        let declared =
            DeclaredSource { name: "views".to_owned(), text: "1".to_owned(), definition: Ok(definition), wanted };
        self.pipeline.set(vec![declared]).expect("threads");
    }

    fn report(&self) -> SourceReport {
        self.pipeline.report("views").expect("declared")
    }

    #[track_caller]
    fn wait(&self, what: impl Fn(&SourceReport) -> bool) -> SourceReport {
        let begin = Instant::now();
        loop {
            let report = self.report();
            if what(&report) {
                return report;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it never happened: {report:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn count(&self, expression: &str) -> u64 {
        self.store.publish().expect("published");
        let snapshot = self.store.snapshot();
        let parsed = parse(expression).expect("an expression");
        let predicate = bind(&parsed, snapshot.catalog(), snapshot.audiences(), Now.now()).expect("bound");
        count(&snapshot, &predicate, &QueryContext::default()).expect("counted")
    }

    /// The rows of a fact, in order.
    fn rows(&self, fact: &str) -> Vec<String> {
        self.store.checkpoint().expect("saved");
        let tables = self.tables.0.lock().expect("lock");
        let mut rows: Vec<String> =
            tables.iter().filter(|((name, _), _)| name == fact).flat_map(|(_, rows)| rows.clone()).collect();
        rows.sort();
        rows
    }
}

fn view() -> Fact {
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![Column { name: "page".to_owned(), column_type: ColumnType::String }],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

fn line(page: usize) -> String {
    format!("{{\"user_id\":\"u{}\",\"ts\":\"2026-01-01T00:00:{:02}Z\",\"page\":\"p{page:04}\"}}", page % 13, page % 60)
}

fn row(page: usize) -> String {
    format!("u{} [Text(\"p{page:04}\")]", page % 13)
}

#[track_caller]
fn assert_rows(world: &World, pages: impl IntoIterator<Item = usize>) {
    let mut expected: Vec<String> = pages.into_iter().map(row).collect();
    expected.sort();
    assert_eq!(world.rows("view"), expected);
}

#[test]
fn a_finite_source_is_read_whole_and_once() {
    let world = World::new(true);
    world.topic.push("t/0", (0..100).map(line));
    world.topic.push("t/1", (100..150).map(line));
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused, report.lag()), (150, 0, 0));
    assert_eq!(report.watermark, Some(1_767_225_600_000_000 + 59_000_000));
    world.wait(|_| world.topic.committed.lock().expect("lock").get("t/1") == Some(50));
    assert_rows(&world, 0..150);
    // Another catalog does not start it again, a command does.
    world.topic.push("t/0", [line(150)]);
    world.set(Wanted::Running);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(world.report().records, 150);
    world.pipeline.retry("views");
    world.wait(|report| report.state == SourceState::Finished && report.records == 151);
    assert_rows(&world, 0..151);
}

#[test]
fn what_cannot_be_taken_becomes_a_dead_letter_and_stops_nothing() {
    let world = World::new(true);
    let bad = [
        "nonsense".to_owned(),
        "{\"user_id\":\"u\",\"ts\":0,\"page\":7}".to_owned(),
        "{\"user_id\":\"u\",\"ts\":\"2100-01-01T00:00:00Z\"}".to_owned(),
        String::new(),
    ];
    world.topic.push("t/0", bad.into_iter().chain([line(1)]));
    world.topic.partitions.lock().expect("lock").get_mut("t/0").expect("there").push(vec![0xff, 0xfe]);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused, report.empty), (6, 4, 1));
    let newest = &report.refused_last[0];
    assert_eq!((newest.offset, newest.error.kind.name()), (5, "syntax"));
    assert_rows(&world, [1]);
    let letters = world.rows("dead_letter");
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().any(|letter| letter.contains("Integer(5)") && letter.contains("Text(\"fffe\")")));
    assert!(letters.iter().all(|letter| letter.starts_with("source:views [Text(\"views\"), Text(\"t/0\")")));
    // Whom a dead letter stands for is no user.
    assert_eq!(world.count("true"), 1);
    assert_eq!(world.count("did('view')"), 1);
}

#[test]
fn records_of_another_shape_are_mapped() {
    let mut world = World::new(true);
    world.mapping = Some(MappingDefinition::Fact(FactMapping {
        fields: vec![
            ("user_id".to_owned(), MappedField::path("who.id")),
            ("ts".to_owned(), MappedField { unit: Some(TimeUnit::Seconds), ..MappedField::path("at") }),
            ("page".to_owned(), MappedField::path("url")),
        ],
        keep_others: false,
        conditions: vec![Condition::Field { path: "robot".to_owned(), test: Test::NotEquals("true".to_owned()) }],
    }));
    let record =
        |page: &str, more: &str| format!("{{\"at\":1767225600,\"who\":{{\"id\":\"u{}\"}},\"url\":{page}{more}}}", 1);
    let records = [record("\"p0001\"", ""), record("\"p2\"", ",\"robot\":true"), record("[1]", "")];
    world.topic.push("t/0", records);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused, report.filtered), (3, 1, 1));
    let error = &report.refused_last[0].error;
    assert_eq!((error.kind.name(), error.column), ("type", Some(42)), "{error}");
    assert_rows(&world, [1]);
}

#[test]
fn commands_are_obeyed_and_nothing_counts_twice() {
    let world = World::new(false);
    world.topic.push("t/0", (0..50).map(line));
    world.set(Wanted::Running);
    world.wait(|report| report.records == 50 && report.state == SourceState::Running);
    world.set(Wanted::Paused);
    world.wait(|report| report.state == SourceState::Paused);
    world.topic.push("t/0", (50..60).map(line));
    world.wait(|report| report.lag() == 10);
    assert_eq!(world.report().records, 50);
    world.set(Wanted::Stopped);
    world.wait(|report| report.state == SourceState::Stopped);
    world.set(Wanted::Running);
    world.wait(|report| report.records == 60);
    world.pipeline.stop();
    assert_rows(&world, 0..60);
    assert_eq!(world.pipeline.report("views"), None);
}

#[test]
fn what_may_be_seen_later_waits_for_more() {
    let mut world = World::new(false);
    world.gather = Duration::from_secs(3600);
    world.topic.push("t/0", (0..50).map(line));
    world.set(Wanted::Running);
    world.wait(|report| report.records == 50);
    assert_eq!(world.count("did('view')"), 0);
    // A stop waits for nothing, and neither does what must not be behind: where it goes on is kept with what was read.
    world.set(Wanted::Stopped);
    world.wait(|report| report.state == SourceState::Stopped);
    assert_rows(&world, 0..50);
    world.set(Wanted::Running);
    world.topic.push("t/0", (50..60).map(line));
    world.wait(|report| report.records == 60);
    world.pipeline.rewind("views", Begin::Latest).expect("rewound");
    assert_rows(&world, 0..60);
}

#[test]
fn what_waits_for_more_is_applied_in_time_also_while_more_comes() {
    let mut world = World::new(false);
    world.gather = Duration::from_millis(20);
    world.topic.push("t/0", [line(0)]);
    world.set(Wanted::Running);
    let began = Instant::now();
    let mut next = 1;
    while world.count("did('view')") == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it was never applied");
        world.topic.push("t/0", [line(next)]);
        next += 1;
    }
    world.wait(|report| report.records == next as u64);
    world.pipeline.stop();
    assert_rows(&world, 0..next);
}

#[test]
fn a_rewound_source_reads_again() {
    let world = World::new(false);
    world.topic.push("t/0", (0..20).map(line));
    world.set(Wanted::Running);
    world.wait(|report| report.records == 20);
    let offsets = Begin::Offsets(vec![("t/0".to_owned(), 15)]);
    let started = world.pipeline.rewind("views", offsets).expect("rewound");
    assert_eq!((started.len(), started[0].offset), (1, 15));
    world.wait(|report| report.records == 25);
    // One that cannot be leaves it where it was, running.
    let none = world.pipeline.rewind("views", Begin::Offsets(vec![("t/9".to_owned(), 1)])).expect_err("no such one");
    assert!(none.to_string().contains("there is no partition `t/9`; there are t/0"), "{none}");
    world.wait(|report| report.state == SourceState::Running);
    world.topic.failures.lock().expect("lock").push(SourceError::Invalid { setting: "to".into(), what: "no".into() });
    let refused = world.pipeline.rewind("views", Begin::Timestamp(5)).expect_err("refused");
    assert!(refused.to_string().contains("to: no"), "{refused}");
    world.wait(|report| report.state == SourceState::Running);
    world.pipeline.rewind("views", Begin::Latest).expect("rewound");
    world.pipeline.rewind("views", Begin::Earliest).expect("rewound");
    world.wait(|report| report.records == 45);
    // One that is stopped stays so, and goes on from there when it is started.
    world.set(Wanted::Stopped);
    world.wait(|report| report.state == SourceState::Stopped);
    world.pipeline.rewind("views", Begin::Offsets(vec![("t/0".to_owned(), 18)])).expect("rewound");
    world.wait(|report| report.state == SourceState::Stopped);
    assert_eq!(world.report().records, 45);
    world.set(Wanted::Running);
    world.wait(|report| report.records == 47);
    world.pipeline.stop();
    assert_rows(&world, (0..20).chain(15..20).chain(0..20).chain(18..20));
    let unknown = world.pipeline.rewind("others", Begin::Latest);
    assert_eq!(unknown, Err(CommandError::Unknown("others".to_owned())));
}

#[test]
fn passing_troubles_pass_and_others_wait_for_somebody() {
    let world = World::new(false);
    world.topic.push("t/0", (0..20).map(line));
    let fatal = || SourceError::Fatal { doing: "read".to_owned(), why: "gone".to_owned() };
    world.topic.failures.lock().expect("lock").extend([fatal(), fatal()]);
    world.set(Wanted::Running);
    world.wait(|report| report.records == 20);
    let missing = MissingRecords { partition: "t/0".into(), needed: 20, earliest: 30, end: 40 };
    world.topic.failures.lock().expect("lock").push(SourceError::Missing(missing));
    let report = world.wait(|report| report.state == SourceState::Failed);
    assert!(report.error.expect("why").contains("the 10 offsets between"));
    world.pipeline.rewind("views", Begin::Earliest).expect("rewound");
    world.wait(|report| report.records == 40 && report.state == SourceState::Running);

    // A fact that goes while events come.
    let mut catalog = world.store.snapshot().catalog().clone();
    catalog.drop_fact("view");
    world.store.put_catalog(catalog).expect("put");
    world.store.publish().expect("published");
    world.topic.push("t/0", (20..30).map(line));
    let report = world.wait(|report| report.state == SourceState::Failed);
    assert_eq!(report.error.as_deref(), Some("there is no fact `view`; declare it, or change `into`"));
}

#[test]
fn a_source_that_is_gone_from_the_catalog_forgets_where_it_was() {
    let world = World::new(true);
    world.topic.push("t/0", (0..5).map(line));
    world.set(Wanted::Running);
    world.wait(|report| report.state == SourceState::Finished);
    assert_eq!(world.store.source_offset("source/views/t/0"), Some(5));
    let mut catalog = world.store.snapshot().catalog().clone();
    catalog.drop_source("views");
    world.store.put_catalog(catalog).expect("put");
    assert_eq!(world.store.source_offset("source/views/t/0"), None);
    // Its threads may still bring what they had read.
    world.store.write_from(&engine::update::UpdateBatch::new(), "source/views/t/0", 6).expect("taken");
    assert_eq!(world.store.source_offset("source/views/t/0"), None);
}

#[test]
fn a_decoder_tells_the_time_of_its_event() {
    let mut decoder = EventDecoder::new(&view(), Now.now());
    let mut batch = engine::update::UpdateBatch::new();
    decoder.decode(line(7).as_bytes(), &mut batch).expect("taken");
    assert_eq!(decoder.event_time(), 1_767_225_600_000_000 + 7_000_000);
}
