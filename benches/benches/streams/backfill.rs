//! A backfill of Parquet files beside a live stream.

use crate::intake::{catalog, events};
use benches::percentile;
use benches::server::{Connection, Server};
use datasets::population::Population;
use datasets::population::purchases::{History, write_line};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const DAYS: u32 = 90;
const EVENTS_PER_FILE: u64 = 5_000_000;
/// The live stream: so many events at a time, so often.
const LIVE_EVENTS: u64 = 500;
const LIVE_EVERY: Duration = Duration::from_millis(100);

/// Loads `count` purchases of 90 days while 5,000 a second come live.
pub(crate) fn run(user_count: u64, count: u64) {
    let population = Population { seed: 1, user_count };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = write_files(population, count, folder.path());
    let begun = Instant::now();
    let rows: usize = files.iter().map(|file| read(file)).sum();
    let reading = begun.elapsed();
    assert_eq!(rows as u64, count, "every event is a row");

    let data = folder.path().join("data");
    let folders = format!("source_folders={}", folder.path().display());
    let server = Server::start(&data, &[&folders]);
    server.call("PUT", "/v1/catalog", &catalog(&json!({})).to_string());
    let at_rest = live(&server, population, || std::thread::sleep(Duration::from_secs(20)));
    let before = server.cpu();
    let begun = Instant::now();
    let meanwhile = live(&server, population, || {
        server.backfill(&folder.path().join("*.parquet"), "purchase");
    });
    let elapsed = begun.elapsed();
    let cpu = server.cpu() - before;
    assert_eq!(events(&mut server.connect()), count + at_rest.sent + meanwhile.sent, "every event was counted once");
    println!(
        "backfill: {:.0} thousand events a second until durable, in their table and seen; {:.1} times the time of only reading \
         the files; {:.2} µs of the server's processor time an event, live ones counted; {} MiB at most",
        count as f64 / elapsed.as_secs_f64() / 1e3,
        elapsed.as_secs_f64() / reading.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64,
        server.peak_memory() >> 20
    );
    for (when, mut live) in [("at rest", at_rest), ("meanwhile", meanwhile)] {
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut live.seen, share));
        println!("live events {when}: seen after p50 {p50:.1?}, p99 {p99:.1?}");
    }
}

fn write_files(population: Population, count: u64, folder: &Path) -> Vec<PathBuf> {
    const DAY_MICROS: i64 = 86_400_000_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64;
    let history = History { population, count, until: now / DAY_MICROS * DAY_MICROS, days: DAYS };
    let ranges = (0..count).step_by(EVENTS_PER_FILE as usize).map(|from| from..count.min(from + EVENTS_PER_FILE));
    let files: Vec<_> = ranges.map(|range| (folder.join(format!("{:012}.parquet", range.start)), range)).collect();
    files
        .into_iter()
        .map(|(file, range)| {
            history.write_parquet(range, &file).expect("written");
            file
        })
        .collect()
}

/// The physical limit: all columns decoded and thrown away.
fn read(file: &Path) -> usize {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).expect("there")).expect("Parquet");
    reader.build().expect("Parquet").map(|batch| batch.expect("rows").num_rows()).sum()
}

struct Live {
    sent: u64,
    /// From sending until seen.
    seen: Vec<Duration>,
}

/// Sends live events while something else is done. Each request waits until its events are seen.
fn live(server: &Server, population: Population, work: impl FnOnce()) -> Live {
    let is_working = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            // Two in turn, so that one may wait while the other sends.
            let senders = [0, 1].map(|offset| {
                let is_working = &is_working;
                scope.spawn(move || send(server.connect(), population, offset, is_working))
            });
            let mut all = Live { sent: 0, seen: Vec::new() };
            for sender in senders {
                let live = sender.join().expect("sent");
                all.sent += live.sent;
                all.seen.extend(live.seen);
            }
            all
        });
        work();
        is_working.store(false, Ordering::Relaxed);
        sending.join().expect("sent")
    })
}

fn send(mut connection: Connection, population: Population, offset: u32, is_working: &AtomicBool) -> Live {
    let mut live = Live { sent: 0, seen: Vec::new() };
    let mut due = Instant::now() + LIVE_EVERY * offset;
    while is_working.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let mut body = String::new();
        (0..LIVE_EVENTS).for_each(|index| write_line(&population, live.sent + index, now, &mut body));
        connection.call("POST", "/v1/facts/purchase?visible=true", &body);
        live.seen.push(due.elapsed());
        live.sent += LIVE_EVENTS;
        due += LIVE_EVERY * 2;
    }
    live
}
