//! SQL over `users`: a count of ten tags through a statement against the engine's own call, and counts, groups, averages and first
//! rows under filters against DuckDB on the widest and so fastest table; asked in turns, warm.
//!
//! ```sh
//! pip install duckdb
//! BELUGA_BENCH_USERS=10_000_000 BELUGA_DUCKDB_PYTHON=python3 cargo bench -p benches --bench sql
//! ```
//!
//! The default is 2,000,000 users. Without `BELUGA_DUCKDB_PYTHON` only our times are taken.

use benches::peer::Peer;
use benches::rows::text;
use benches::{is_asked, peak_memory_bytes, percentile, setting};
use datasets::population::Population;
use engine::audience::ops::{QueryContext, count};
use engine::audience::{bind, parse};
use engine::store::{Options, Snapshot, Store};
use engine::update::UpdateBatch;
use engine::vfs::real::RealVfs;
use engine_sql::facts::DeltaTables;
use engine_sql::session::{Sql, SqlOptions};
use ingest::clock::SystemClock;
use ingest::keeper::workers;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Ten tags: in the audience language, and in SQL.
const TEN_TAGS: &str = "gender = 'f' AND age BETWEEN 25 AND 44 AND province IN ('zhejiang','jiangsu','shanghai') AND \
                        (interest = 'running' OR interest = 'yoga') AND device = 'ios' AND city_tier <= 3 AND ads_consent \
                        AND NOT is_member AND category = 'shoes' AND spend >= 10";
const OURS_TEN: &str = "gender = 'f' AND age BETWEEN 25 AND 44 AND province IN ('zhejiang','jiangsu','shanghai') AND \
                        (array_has(interest, 'running') OR array_has(interest, 'yoga')) AND device = 'ios' AND city_tier <= 3 \
                        AND ads_consent AND NOT is_member AND array_has(category, 'shoes') AND spend >= 10";
const THEIRS_TEN: &str = "gender = 'f' AND age BETWEEN 25 AND 44 AND province IN ('zhejiang','jiangsu','shanghai') AND \
                          (interest_running OR interest_yoga) AND device = 'ios' AND city_tier <= 3 AND ads_consent AND NOT \
                          is_member AND category_shoes AND spend >= 10";

/// What is asked of us and of DuckDB.
fn questions() -> Vec<(&'static str, String, String)> {
    let same = |title, text: &str| (title, text.to_owned(), text.to_owned());
    vec![
        (
            "count(*) of ten tags",
            format!("SELECT count(*) FROM users WHERE {OURS_TEN}"),
            format!("SELECT count(*) FROM users WHERE {THEIRS_TEN}"),
        ),
        same(
            "GROUP BY province under a filter",
            "SELECT province, count(*) FROM users WHERE gender = 'f' AND age BETWEEN 25 AND 34 GROUP BY province",
        ),
        same("GROUP BY province, of all", "SELECT province, count(*) FROM users GROUP BY province"),
        same(
            "GROUP BY gender, device, with sums",
            "SELECT gender, device, count(*), sum(orders) FROM users WHERE ads_consent GROUP BY gender, device",
        ),
        same(
            "avg(number) under a filter",
            "SELECT avg(age) FROM users WHERE gender = 'f' AND province = 'zhejiang' AND NOT is_member",
        ),
        same("avg(number) of many", "SELECT avg(age), min(age), max(age) FROM users WHERE gender = 'f'"),
        same("count(DISTINCT enum) under a filter", "SELECT count(DISTINCT province) FROM users WHERE age > 90"),
        same(
            "ORDER BY number LIMIT 100",
            "SELECT spend FROM users WHERE gender = 'f' ORDER BY spend DESC NULLS LAST LIMIT 100",
        ),
    ]
}

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 2_000_000);
    let folder = tempfile::tempdir().expect("temporary folder");
    let population = Population { seed: 1, user_count: users };
    let store = load(&folder.path().join("data"), &population);
    let tables = Arc::new(DeltaTables::open(&folder.path().join("facts")).expect("tables"));
    let options =
        SqlOptions { memory_bytes_max: 1 << 30, spill_bytes_max: 10 << 30, spill_folder: folder.path().join("spill") };
    let sql = Sql::new(tables, Arc::new(SystemClock), &options).expect("threads");
    let snapshot = store.snapshot();
    println!("{users} users, index {} MiB", store.statistics().segment_bytes >> 20);
    against_the_engine(&sql, &snapshot);
    against_duckdb(&sql, &snapshot, &population, folder.path());
    println!("peak memory {} MiB", peak_memory_bytes() >> 20);
}

fn load(folder: &Path, population: &Population) -> Store {
    let options = Options { workers: Some(workers().expect("threads")), ..Options::default() };
    let store = Store::open(Arc::new(RealVfs), folder, options).expect("open");
    let catalog = datasets::DataSet::Population.catalog();
    store.put_catalog(catalog.clone()).expect("catalog");
    let filler = population.filler(&catalog).expect("same catalog");
    for from in (0..population.user_count).step_by(20_000) {
        let to = (from + 20_000).min(population.user_count);
        let mut batch = UpdateBatch::new();
        filler.fill(from..to, &mut batch);
        store.write_replayable(&batch, "load", to).expect("write");
        while store.compact().expect("compact").is_some() {}
    }
    store.forget_source("load");
    store.checkpoint().expect("checkpoint");
    while store.compact_fully().expect("compact").is_some() {}
    store
}

/// How much a statement takes beyond what the engine takes: parsing, planning, threads, batches.
fn against_the_engine(sql: &Sql, snapshot: &Snapshot) {
    let title = "count(*) of ten tags, beyond the engine's own call";
    if !is_asked(title) {
        return;
    }
    let predicate = bind(&parse(TEN_TAGS).expect("parses"), snapshot.catalog(), &BTreeMap::new(), 0).expect("binds");
    let statement = format!("SELECT count(*) FROM users WHERE {OURS_TEN}");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        let found = count(snapshot, &predicate, &QueryContext::default()).expect("counts");
        theirs.push(begun.elapsed());
        let (time, answer) = ask(sql, snapshot, &statement);
        assert_eq!(answer, found.to_string(), "the statement counts the same");
        ours.push(time);
    }
    let [engine, statement] = [&mut theirs, &mut ours].map(|times| percentile(times, 0.5));
    println!("{title:<52} {engine:>11.1?} {statement:>11.1?} {:>11.1?} more", statement.saturating_sub(engine));
}

fn against_duckdb(sql: &Sql, snapshot: &Snapshot, population: &Population, folder: &Path) {
    let mut peer = std::env::var("BELUGA_DUCKDB_PYTHON").ok().map(|python| {
        let parquet = folder.join("users.parquet");
        population.write_parquet(0..population.user_count, &parquet).expect("written");
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        Peer::start(&python, "wide.py", [parquet.as_os_str(), threads.as_ref()])
    });
    println!("\n{:<52} {:>11} {:>11} {:>9}", "all threads, against DuckDB on a wide table", "ours", "DuckDB", "ratio");
    for (title, ours, theirs) in questions().into_iter().filter(|(title, ..)| is_asked(title)) {
        let (mut our_times, mut peer_times): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let (_, found) = ask(sql, snapshot, &ours);
            our_times.extend((0..3).map(|_| ask(sql, snapshot, &ours).0));
            if let Some(peer) = &mut peer {
                let (time, answer) = peer.ask(&theirs);
                assert_eq!(answer, found, "DuckDB answers the same: {title}");
                peer_times.push(time);
            }
        }
        let median = percentile(&mut our_times, 0.5);
        print!("{title:<52} {median:>11.1?}");
        if !peer_times.is_empty() {
            let peer = percentile(&mut peer_times, 0.5);
            print!(" {peer:>11.1?} {:>8.1}x", peer.as_secs_f64() / median.as_secs_f64());
        }
        println!();
    }
}

/// The time of a statement from its text to its last row, and the rows, sorted, as one line.
fn ask(sql: &Sql, snapshot: &Snapshot, statement: &str) -> (Duration, String) {
    let never = AtomicBool::new(false);
    let begun = Instant::now();
    let context = QueryContext::default();
    let mut answer = sql.ask(snapshot.clone(), statement, Vec::new(), &context).expect("a good statement");
    let mut batches = Vec::new();
    while let Some(batch) = answer.next(&never).expect("rows") {
        batches.push(batch);
    }
    let time = begun.elapsed();
    (time, text(&batches))
}
