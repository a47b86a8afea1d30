//! What users did: `did(…)` on the activity index, against the same as SQL on the events in DuckDB and in ClickHouse (chdb),
//! both with the events loaded in their own format; asked in turns.
//!
//! ```sh
//! pip install duckdb chdb
//! BELUGA_BENCH_USERS=10_000_000 BELUGA_PYTHON=python3 cargo bench -p benches --bench behavior
//! ```
//!
//! A year of events, one in a hundred users a day (`BELUGA_BENCH_USERS`, the default is 2,000,000). Without
//! `BELUGA_PYTHON` only our times are taken.

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, UInt8Array, UInt32Array};
use benches::peer::Peer;
use benches::random::Random;
use benches::{is_asked, peak_memory_bytes, percentile, setting};
use engine::audience::ops::{QueryContext, count};
use engine::audience::{bind, parse};
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::ManualClock;
use engine::ids::TagId;
use engine::store::{Options, Store};
use engine::update::{EventHead, UpdateBatch, Value};
use engine::vfs::real::RealVfs;
use ingest::keeper::workers;
use parquet::arrow::ArrowWriter;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAYS: i64 = 365;
const DAY_MICROS: i64 = 86_400_000_000;
/// 2025-11-20.
const FIRST_DAY: i64 = 20_412;
const NOW: i64 = (FIRST_DAY + DAYS - 1) * DAY_MICROS + DAY_MICROS / 2;
const CATEGORIES: u64 = 20;

/// What is asked: in the audience language and in SQL.
const QUESTIONS: [(&str, &str); 6] = [
    ("did('purchase', within => '30 days')", "SELECT count(DISTINCT user_id) FROM purchase WHERE day > 20746"),
    (
        "did('purchase', count >= 2, within => '30 days')",
        "SELECT count(*) FROM (SELECT user_id FROM purchase WHERE day > 20746 GROUP BY user_id HAVING count(*) >= 2)",
    ),
    (
        "did('purchase', category = 'c3', count >= 2, within => '30 days')",
        "SELECT count(*) FROM (SELECT user_id FROM purchase WHERE category = 3 AND day > 20746 GROUP BY user_id HAVING count(*) >= 2)",
    ),
    (
        "did('purchase', count >= 3, within => '365 days')",
        "SELECT count(*) FROM (SELECT user_id FROM purchase WHERE day > 20411 GROUP BY user_id HAVING count(*) >= 3)",
    ),
    (
        "did('purchase', category = 'c3', count >= 2, within => '365 days')",
        "SELECT count(*) FROM (SELECT user_id FROM purchase WHERE category = 3 AND day > 20411 GROUP BY user_id HAVING count(*) >= 2)",
    ),
    (
        "did('purchase', sum(amount) >= 100.00, within => '365 days')",
        "SELECT count(*) FROM (SELECT user_id FROM purchase WHERE day > 20411 GROUP BY user_id HAVING sum(amount) >= 10000)",
    ),
];

struct Event {
    user: u32,
    ts: i64,
    category: u8,
    amount: i64,
}

fn events(random: &mut Random, day: i64, users: u64) -> Vec<Event> {
    let event = |_| Event {
        user: random.below(users) as u32,
        ts: day * DAY_MICROS + random.below(DAY_MICROS as u64 / 2) as i64,
        // The lower ones more often.
        category: (random.below(CATEGORIES) * random.below(CATEGORIES) / CATEGORIES) as u8,
        amount: random.below(5_000) as i64 + 1,
    };
    (0..users / 100).map(event).collect()
}

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 2_000_000);
    let temporary = tempfile::tempdir().expect("temporary folder");
    let parquet = temporary.path().join("events.parquet");
    let store = load(temporary.path(), &parquet, users);
    let python = std::env::var("BELUGA_PYTHON").ok();
    let mut peers: Vec<(&str, Peer)> = match &python {
        Some(python) => ["duckdb", "chdb"].map(|name| (name, Peer::of_events(python, name, &parquet))).into(),
        None => Vec::new(),
    };
    let snapshot = store.snapshot();
    for (text, sql) in QUESTIONS.into_iter().filter(|(text, _)| is_asked(text)) {
        let ours = || {
            let begun = Instant::now();
            let expr = parse(text).expect("parses");
            let bound = bind(&expr, snapshot.catalog(), &BTreeMap::new(), NOW).expect("binds");
            let found = count(&snapshot, &bound, &QueryContext::default()).expect("counts");
            (begun.elapsed(), found)
        };
        let (_, found) = ours();
        let mut our_times = Vec::new();
        let mut peer_times: Vec<Vec<Duration>> = peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..7 {
            our_times.extend((0..5).map(|_| ours().0));
            for ((name, peer), times) in peers.iter_mut().zip(&mut peer_times) {
                let (time, answer) = peer.ask(sql);
                assert_eq!(answer, found.to_string(), "{name} answers the same: {text}");
                times.push(time);
            }
        }
        let median = percentile(&mut our_times, 0.5);
        print!("{text:<68} {found:>9} users {median:>10.1?}");
        for ((name, _), times) in peers.iter().zip(&mut peer_times) {
            let peer = percentile(times, 0.5);
            print!("  {name} {peer:>9.1?} {:>6.1}x", peer.as_secs_f64() / median.as_secs_f64());
        }
        println!();
    }
}

fn catalog() -> (Catalog, TagId) {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    let mut catalog = Catalog::default();
    let fact = Fact {
        id: TagId(0),
        columns: vec![
            column("category", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ],
        activity: Activity { dimensions: vec![0], measures: vec![1] },
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    };
    let id = catalog.declare_fact("purchase", fact).expect("a good fact");
    (catalog, id)
}

fn load(folder: &Path, parquet: &Path, users: u64) -> Store {
    let clock = Arc::new(ManualClock::default());
    let workers = Some(workers().expect("threads"));
    let options = Options { workers, clock: clock.clone(), memory_bytes_max: 1 << 30, ..Options::default() };
    let store = Store::open(Arc::new(RealVfs), &folder.join("data"), options).expect("open");
    let (catalog, fact) = catalog();
    store.put_catalog(catalog).expect("catalog");
    let mut random = Random(7);
    let mut table = None;
    let (mut loading, mut count) = (Duration::ZERO, 0);
    let names: Vec<String> = (0..CATEGORIES).map(|number| format!("c{number}")).collect();
    for day in FIRST_DAY..FIRST_DAY + DAYS {
        let events = events(&mut random, day, users);
        write_parquet(&mut table, parquet, &events);
        let begun = Instant::now();
        clock.set(day * DAY_MICROS + DAY_MICROS / 2);
        for some in events.chunks(20_000) {
            let mut batch = UpdateBatch::new();
            for event in some {
                batch.begin_user(format!("user-{:09}", event.user).as_bytes());
                let head = EventHead { ts: event.ts, ..EventHead::default() };
                let values = [Value::Text(&names[usize::from(event.category)]), Value::Integer(event.amount)];
                batch.push_event(fact, &head, &values);
            }
            count += some.len();
            store.write_replayable(&batch, "bench", count as u64).expect("write");
        }
        store.publish().expect("publish");
        if day % 10 == 0 {
            store.checkpoint().expect("checkpoint");
            while store.compact().expect("compact").is_some() {}
        }
        loading += begun.elapsed();
    }
    let begun = Instant::now();
    store.checkpoint().expect("checkpoint");
    while store.compact().expect("compact").is_some() {}
    loading += begun.elapsed();
    table.map(ArrowWriter::close);
    let statistics = store.statistics();
    println!(
        "{count} events of {users} users loaded in {loading:.1?}: {:.0} thousand a second; index {} MiB in {} segments, peak memory {} MiB",
        count as f64 / loading.as_secs_f64() / 1e3,
        statistics.segment_bytes >> 20,
        statistics.segments,
        peak_memory_bytes() >> 20
    );
    store
}

fn write_parquet(table: &mut Option<ArrowWriter<File>>, path: &Path, events: &[Event]) {
    let column = |array: ArrayRef| array;
    let batch = RecordBatch::try_from_iter([
        ("user_id", column(Arc::new(UInt32Array::from_iter_values(events.iter().map(|event| event.user))))),
        (
            "day",
            column(Arc::new(Int32Array::from_iter_values(events.iter().map(|event| (event.ts / DAY_MICROS) as i32)))),
        ),
        ("ts", column(Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.ts))))),
        ("category", column(Arc::new(UInt8Array::from_iter_values(events.iter().map(|event| event.category))))),
        ("amount", column(Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.amount))))),
    ])
    .expect("columns of one length");
    let begin = || ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a writer");
    table.get_or_insert_with(begin).write(&batch).expect("written");
}
