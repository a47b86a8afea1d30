//! Look-ups in a pipeline: stopped, rewound, replayed and answered late, each record counts once and has what a join in memory
//! gives it.

use super::*;
use crate::enrich::{Answer, Asking, Lookup, LookupError, OnFailure, OnMissing, Order, Reply};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender as Queue;

/// A table that answers from a thread of its own, after a while, and now and then fails.
#[derive(Debug)]
struct SlowTable {
    requests: Queue<(Vec<Arc<str>>, Reply)>,
    is_down: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl SlowTable {
    fn start(delay: Duration, fails_every: u64) -> Arc<SlowTable> {
        let (requests, inbox) = channel::<(Vec<Arc<str>>, Reply)>();
        let (is_down, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (down, count) = (Arc::clone(&is_down), Arc::clone(&asked));
        std::thread::spawn(move || {
            for (keys, reply) in inbox {
                std::thread::sleep(delay);
                let number = count.fetch_add(1, Ordering::Relaxed);
                reply.send(match down.load(Ordering::Relaxed) || (fails_every > 0 && number % fails_every == 1) {
                    true => Err(LookupError::passing("it is down")),
                    false => Ok(keys.iter().map(|key| answer(key)).collect()),
                });
            }
        });
        Arc::new(SlowTable { requests, is_down, asked })
    }
}

/// Of every third page nothing is known.
fn answer(key: &str) -> Answer {
    let page: usize = key.parse().map_err(|_| "no number".to_owned())?;
    Ok((!page.is_multiple_of(3)).then(|| format!("{{\"title\":\"p{page:04}\"}}")))
}

impl Lookup for SlowTable {
    fn keys_max(&self) -> usize {
        3
    }

    fn ask(&self, keys: Vec<Arc<str>>, reply: Reply) -> Asking {
        self.requests.send((keys, reply)).expect("the table's thread runs");
        Asking::new(())
    }
}

fn enrichment(table: &Arc<SlowTable>) -> Enrichment {
    Enrichment {
        name: "page".to_owned(),
        key: "id".to_owned(),
        lookup: table.clone(),
        cache: None,
        timeout: Duration::from_secs(10),
        retries: 2,
        in_flight: 4,
        order: Order::Ordered,
        on_missing: OnMissing::Drop,
        on_failure: OnFailure::Wait,
    }
}

fn declare(world: &mut World, enrichment: Enrichment) {
    world.enrich = vec![Arc::new(enrichment)];
    world.mapping = Some(MappingDefinition::Fact(FactMapping {
        fields: vec![
            ("user_id".to_owned(), MappedField::path("user")),
            ("ts".to_owned(), MappedField::path("ts")),
            ("page".to_owned(), MappedField::path("page.title")),
        ],
        keep_others: false,
        conditions: Vec::new(),
    }));
}

fn record(page: usize) -> String {
    format!("{{\"user\":\"u{}\",\"ts\":\"2026-01-01T00:00:{:02}Z\",\"id\":{page}}}", page % 13, page % 60)
}

fn known(pages: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
    pages.filter(|page| !page.is_multiple_of(3))
}

#[test]
fn a_stream_with_look_ups_is_a_join() {
    for order in [Order::Ordered, Order::Unordered] {
        let mut world = World::new(true);
        let table = SlowTable::start(Duration::from_micros(200), 7);
        declare(&mut world, Enrichment { order, ..enrichment(&table) });
        world.topic.push("t/0", (0..100).map(record));
        world.topic.push("t/1", (100..150).map(record));
        world.set(Wanted::Running);
        let report = world.wait(|report| report.state == SourceState::Finished);
        assert_eq!((report.records, report.refused, report.filtered), (150, 0, 50));
        let lookups = &report.lookups[0];
        assert_eq!((lookups.lookups, lookups.found, lookups.missing), (150, 100, 50));
        assert!(lookups.errors > 0, "{lookups:?}");
        assert_rows(&world, known(0..150));
    }
}

#[test]
fn a_source_is_stopped_and_rewound_while_nothing_answers() {
    let mut world = World::new(false);
    let table = SlowTable::start(Duration::ZERO, 0);
    table.is_down.store(true, Ordering::Relaxed);
    declare(&mut world, Enrichment { retries: 0, ..enrichment(&table) });
    world.topic.push("t/0", (0..50).map(record));
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Retrying);
    assert!(report.error.expect("why").contains("look-up `page`: it is down; records wait"));
    assert_eq!(report.records, 0);
    assert_eq!(world.store.source_offset("source/views/t/0"), Some(0));
    let begin = Instant::now();
    world.set(Wanted::Stopped);
    world.wait(|report| report.state == SourceState::Stopped);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(world.store.source_offset("source/views/t/0"), Some(0));
    world.set(Wanted::Running);
    world.wait(|report| report.state == SourceState::Retrying);
    world.pipeline.rewind("views", Begin::Offsets(vec![("t/0".to_owned(), 10)])).expect("rewound");
    // It answers again, and what waited goes on by itself.
    table.is_down.store(false, Ordering::Relaxed);
    world.wait(|report| report.records == 40 && report.state == SourceState::Running);
    world.pipeline.stop();
    assert_rows(&world, known(10..50));
}

#[test]
fn what_cannot_be_looked_up_becomes_a_dead_letter_as_it_came() {
    let mut world = World::new(true);
    let table = SlowTable::start(Duration::ZERO, 0);
    declare(
        &mut world,
        Enrichment { on_missing: OnMissing::DeadLetter, on_failure: OnFailure::DeadLetter, ..enrichment(&table) },
    );
    let odd = ["[1]".to_owned(), "{\"id\":\"odd\"}".to_owned(), "{\"page\":1}".to_owned(), "{\"id\":1}".to_owned()];
    world.topic.push("t/0", [record(1), record(3)].into_iter().chain(odd));
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused), (6, 5));
    let told: Vec<String> = report.refused_last.iter().map(|refused| refused.error.to_string()).collect();
    for (told, part) in told.iter().zip([
        "user_id",
        "look-up `page`: the record has a member `page` already (column 9)",
        "look-up `page`: key `odd`: no number",
        "a JSON object, not a list",
        "look-up `page`: its key is not known there",
    ]) {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(report.refused_last[0].record, "{\"id\":1}");
    let letters = world.rows("dead_letter");
    assert!(letters.iter().any(|letter| letter.contains("Text(\"{\\\"id\\\":1}\")")), "{letters:?}");
    assert_rows(&world, [1]);
}

/// Ended again and again while look-ups are under way, without a checkpoint: what is noted in the log is what was decided.
#[test]
fn a_log_that_is_replayed_has_each_record_once() {
    let (disk, topic) = (Arc::new(MemoryVfs::default()), Arc::new(Topic::default()));
    topic.push("t/0", (0..200).map(record));
    topic.push("t/1", (200..300).map(record));
    let table = SlowTable::start(Duration::from_millis(1), 11);
    let mut rows = Vec::new();
    let mut ends = 0;
    // A slow machine may be through with all before the later ends.
    let mut early = 0;
    loop {
        let mut world = World::on(disk.clone(), topic.clone(), true);
        declare(&mut world, Enrichment { order: Order::Unordered, ..enrichment(&table) });
        world.set(Wanted::Running);
        let is_over = ends == 12;
        match is_over {
            true => drop(world.wait(|report| report.state == SourceState::Finished)),
            false => std::thread::sleep(Duration::from_millis(5 + ends * 3)),
        }
        let noted: u64 = world.store.source_offsets("source/views/").iter().map(|(_, offset)| offset).sum();
        early += u32::from(!is_over && noted < 300);
        world.pipeline.stop();
        // What is in the log comes back; what waited for look-ups is read again.
        if is_over {
            rows.extend(world.rows("view"));
            break;
        }
        ends += 1;
        drop(world);
    }
    assert!(early > 0, "too quick to be ended");
    let mut expected: Vec<String> = known(0..300).map(row).collect();
    expected.sort();
    assert_eq!(rows, expected);
    assert!(table.asked.load(Ordering::Relaxed) > 100);
}
