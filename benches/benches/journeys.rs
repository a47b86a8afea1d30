//! Funnels and retention: steps in order and who came back, against ClickHouse (chdb, `windowFunnel`) and DuckDB (ASOF joins) with the
//! same events loaded in their own format; asked in turns.
//!
//! ```sh
//! pip install duckdb chdb
//! BELUGA_BENCH_USERS=4_000_000 BELUGA_PYTHON=python3 cargo bench -p benches --bench journeys
//! ```
//!
//! About twelve events a user (`BELUGA_BENCH_USERS`, the default is 1,000,000) over sixty days: visits, carts and purchases. Ours are read
//! from their Delta Lake table; retention is answered by the activity index. Without `BELUGA_PYTHON` only our times are taken.

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, UInt8Array, UInt32Array};
use benches::peer::Peer;
use benches::random::Random;
use benches::{is_asked, peak_memory_bytes, percentile, setting};
use engine::audience::expr::{Did, Expr};
use engine::audience::ops::{Period, QueryContext, RetentionQuestion, funnel, retention};
use engine::audience::predicate::Predicate;
use engine::audience::scan::EventsMeant;
use engine::audience::{bind_events, parse_event};
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::ManualClock;
use engine::ids::TagId;
use engine::journey::funnel::{Funnel, Modes};
use engine::store::{FactTables, Options, Snapshot, Store};
use engine::update::{EventHead, UpdateBatch, Value};
use engine::vfs::real::RealVfs;
use engine_sql::facts::DeltaTables;
use engine_sql::scan::{MEMORY_BYTES_DEFAULT, TableScanner};
use ingest::keeper::workers;
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAYS: i64 = 60;
const DAY_MICROS: i64 = 86_400_000_000;
/// 2026-09-22.
const FIRST_DAY: i64 = 20_718;
const LAST_DAY: i64 = FIRST_DAY + DAYS - 1;
const NOW: i64 = LAST_DAY * DAY_MICROS + DAY_MICROS - 1;
const KINDS: [&str; 3] = ["visit", "cart", "purchase"];
/// The days of the grid.
const GRID: usize = 30;
const WINDOW_DAYS: i64 = 7;

struct Event {
    user: u32,
    ts: i64,
    kind: u8,
}

/// Users begin on a day of their own; half are visits.
fn events(random: &mut Random, day: i64, users: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..users * 24 / DAYS as u64 {
        let user = random.below(users);
        let begins = FIRST_DAY + (user.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as i64 % DAYS;
        let ts = day * DAY_MICROS + random.below(DAY_MICROS as u64) as i64;
        let kind = [0, 0, 0, 1, 1, 2][random.below(6) as usize];
        if begins <= day {
            events.push(Event { user: user as u32, ts, kind });
        }
    }
    events
}

/// One number that tells of all steps, or of all cells: in SQL of DuckDB and of ClickHouse.
fn questions() -> [(&'static str, String, String); 2] {
    let window = WINDOW_DAYS * DAY_MICROS;
    let of = |kind: usize| format!("(SELECT user_id, ts FROM purchase WHERE category = {kind})");
    let asof = format!(
        "SELECT count(DISTINCT v.user_id) + count(DISTINCT CASE WHEN c.ts <= v.ts + {window} THEN v.user_id END) + \
         count(DISTINCT CASE WHEN p.ts <= v.ts + {window} THEN v.user_id END) FROM {} v \
         ASOF LEFT JOIN {} c ON v.user_id = c.user_id AND c.ts >= v.ts ASOF LEFT JOIN {} p ON v.user_id = p.user_id AND p.ts >= c.ts",
        of(0),
        of(1),
        of(2)
    );
    let levels = format!(
        "SELECT sum(level) FROM (SELECT user_id, windowFunnel({window})(toUInt64(ts), category = 0, category = 1, category = 2) AS level \
         FROM purchase GROUP BY user_id)"
    );
    let from = LAST_DAY - GRID as i64 + 1;
    let cells = format!(
        "SELECT sum(n * (day - began + 1)) FROM (SELECT began, day, count(*) AS n FROM (SELECT DISTINCT user_id, day FROM purchase WHERE day >= {from}) a \
         JOIN (SELECT user_id, min(day) AS began FROM purchase GROUP BY user_id HAVING min(day) >= {from}) f USING (user_id) GROUP BY began, day)"
    );
    [("funnel of 3 steps within 7 days", asof, levels), ("retention of 30 × 30 days", cells.clone(), cells)]
}

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 1_000_000);
    let temporary = tempfile::tempdir().expect("temporary folder");
    let parquet = temporary.path().join("events.parquet");
    let (store, tables) = load(temporary.path(), &parquet, users);
    let scanner = TableScanner::new(tables, 4 * MEMORY_BYTES_DEFAULT).expect("threads");
    let context = QueryContext { scanner: Some(Arc::new(scanner)), ..QueryContext::default() };
    let python = std::env::var("BELUGA_PYTHON").ok();
    let mut peers: Vec<(&str, Peer)> = match &python {
        Some(python) => ["duckdb", "chdb"].map(|name| (name, Peer::of_events(python, name, &parquet))).into(),
        None => Vec::new(),
    };
    let snapshot = store.snapshot();
    for (title, duckdb, chdb) in questions() {
        if !is_asked(title) {
            continue;
        }
        let ours = || {
            let begun = Instant::now();
            let told =
                if title.starts_with("funnel") { levels(&snapshot, &context) } else { cells(&snapshot, &context) };
            (begun.elapsed(), told)
        };
        let (_, told) = ours();
        let mut our_times = Vec::new();
        let mut peer_times: Vec<Vec<Duration>> = peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..3 {
            our_times.extend((0..2).map(|_| ours().0));
            for ((name, peer), times) in peers.iter_mut().zip(&mut peer_times) {
                let (time, answer) = peer.ask(if *name == "chdb" { &chdb } else { &duckdb });
                assert_eq!(answer, told.to_string(), "{name} answers the same: {title}");
                times.push(time);
            }
        }
        let median = percentile(&mut our_times, 0.5);
        print!("{title:<34} {median:>10.1?}");
        for ((name, _), times) in peers.iter().zip(&mut peer_times) {
            let peer = percentile(times, 0.5);
            print!("  {name} {peer:>9.1?} {:>6.2}x", peer.as_secs_f64() / median.as_secs_f64());
        }
        println!();
    }
    println!("peak memory {} MiB", peak_memory_bytes() >> 20);
}

fn meant(snapshot: &Snapshot, condition: Option<&str>) -> EventsMeant {
    let events: Vec<Expr> = condition.into_iter().map(|text| parse_event(text).expect("parses")).collect();
    let did = Did { fact: "event".to_owned(), events, figures: Vec::new(), within: None, exact_window: false };
    bind_events(&did, snapshot.catalog(), NOW).expect("binds")
}

/// How many steps all users did together.
fn levels(snapshot: &Snapshot, context: &QueryContext) -> u64 {
    let steps = KINDS.map(|kind| meant(snapshot, Some(&format!("kind = '{kind}'"))));
    let asked = Funnel { window: (WINDOW_DAYS * DAY_MICROS).into(), modes: Modes::default() };
    let found = funnel(snapshot, &steps, asked, &Predicate::All, context).expect("a funnel");
    (0..KINDS.len()).map(|step| found.funnel.users(step)).sum()
}

/// The cells of a grid, those of later days weighing more.
fn cells(snapshot: &Snapshot, context: &QueryContext) -> u64 {
    let any = meant(snapshot, None);
    let asked = RetentionQuestion {
        first: &any,
        back: &any,
        period: Period::Day,
        periods: GRID,
        last_day: LAST_DAY as i32,
        whom: &Predicate::All,
    };
    let found = retention(snapshot, &asked, context).expect("an answer");
    let grid = found.grid(context).expect("figures");
    grid.iter().flat_map(|row| row.iter().zip(1..)).map(|(users, weight)| users * weight).sum()
}

fn load(folder: &Path, parquet: &Path, users: u64) -> (Store, Arc<DeltaTables>) {
    let clock = Arc::new(ManualClock::default());
    let workers = Some(workers().expect("threads"));
    let tables = Arc::new(DeltaTables::open(&folder.join("data/facts")).expect("tables"));
    let facts: Arc<dyn FactTables> = Arc::clone(&tables) as _;
    let options =
        Options { workers, clock: clock.clone(), tables: Some(facts), memory_bytes_max: 1 << 30, ..Options::default() };
    let store = Store::open(Arc::new(RealVfs), &folder.join("data"), options).expect("open");
    let mut catalog = Catalog::default();
    let fact = Fact {
        id: TagId(0),
        columns: vec![Column { name: "kind".to_owned(), column_type: ColumnType::String }],
        activity: Activity { dimensions: vec![0], measures: Vec::new() },
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    };
    let fact = catalog.declare_fact("event", fact).expect("a good fact");
    store.put_catalog(catalog).expect("catalog");
    let mut random = Random(7);
    let mut table = None;
    let (mut loading, mut count) = (Duration::ZERO, 0);
    for day in FIRST_DAY..=LAST_DAY {
        let events = events(&mut random, day, users);
        write_parquet(&mut table, parquet, &events);
        let begun = Instant::now();
        clock.set(day * DAY_MICROS + DAY_MICROS / 2);
        for some in events.chunks(20_000) {
            let mut batch = UpdateBatch::new();
            for event in some {
                batch.begin_user(format!("user-{:09}", event.user).as_bytes());
                let head = EventHead { ts: event.ts, ..EventHead::default() };
                batch.push_event(fact, &head, &[Value::Text(KINDS[usize::from(event.kind)])]);
            }
            count += some.len();
            store.write_replayable(&batch, "bench", count as u64).expect("write");
        }
        store.checkpoint().expect("checkpoint");
        while store.compact().expect("compact").is_some() {}
        loading += begun.elapsed();
    }
    store.publish().expect("publish");
    table.map(ArrowWriter::close);
    println!(
        "{count} events of {users} users loaded in {loading:.1?}, index {} MiB",
        store.statistics().segment_bytes >> 20
    );
    (store, tables)
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
        ("category", column(Arc::new(UInt8Array::from_iter_values(events.iter().map(|event| event.kind))))),
    ])
    .expect("columns of one length");
    let begin = || ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a writer");
    table.get_or_insert_with(begin).write(&batch).expect("written");
}
