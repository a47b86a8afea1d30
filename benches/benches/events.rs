//! What an event costs, in processor time, from its NDJSON line to the index on disk.
//!
//! ```sh
//! BELUGA_BENCH_EVENTS=4_000_000 BELUGA_BENCH_RATE=250_000 cargo bench -p benches --bench events
//! ```
//!
//! Purchases of a million users (`BELUGA_BENCH_USERS`), a few of whom buy most: a category of 20 values, a campaign of 200, an
//! amount; one in twenty events is up to a week late. Once without ids and once with (`plain`, `ids`). Two figures each:
//!
//! * `steps`: the steps one after another, in the rhythm that 250,000 events a second have (published each half second, or each
//!   tenth; a checkpoint each 8 seconds and whatever merges are due behind it), and the time that all threads spent in
//!   each. Rows are kept and logged, but the table that takes them only counts them: Parquet is not part of this.
//! * `rate`: so many lines a second decoded, written and synced by one thread beside those of the keeper; how many it really
//!   were, and the longest that an acknowledged event was not visible.

use benches::random::Random;
use benches::{is_asked, peak_memory_bytes, reset_peak_memory, setting};
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::ManualClock;
use engine::ids::{Epoch, TagId};
use engine::store::{FactRow, FactTables, Options, Store, TableError};
use engine::update::UpdateBatch;
use engine::vfs::real::RealVfs;
use ingest::decode::body::{BodyReader, LineDecoder};
use ingest::decode::events::EventDecoder;
use ingest::decode::lines::LINE_BYTES_MAX;
use ingest::keeper::{Keeper, KeeperOptions, publishers, workers};
use roaring::RoaringBitmap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events of half a second and of a tenth.
const PUBLISH_EVENTS: [u64; 2] = [125_000, 25_000];
const CHECKPOINT_EVENTS: u64 = 2_000_000;
const DAY_SECONDS: u64 = 86_400;
/// Events of a request.
const BODY_EVENTS: u64 = 10_000;
/// 2026-11-20T15:20:00Z.
const NOW_SECONDS: u64 = 1_795_188_000;
const CATEGORIES: u64 = 20;
const CAMPAIGNS: u64 = 200;

fn main() {
    let (users, count) = (setting("BELUGA_BENCH_USERS", 1_000_000), setting("BELUGA_BENCH_EVENTS", 4_000_000));
    for (name, with_ids) in [("plain", false), ("ids", true)] {
        for publish_events in PUBLISH_EVENTS {
            let title = format!("{name} steps, {publish_events} events published together");
            if is_asked(&title) {
                steps(&title, &mut Sender::new(users, with_ids), count, publish_events);
            }
        }
        let title = format!("{name} rate");
        if is_asked(&title) {
            rate(&title, &mut Sender::new(users, with_ids), count);
        }
    }
}

/// Writes the lines of events.
struct Sender {
    random: Random,
    users: u64,
    with_ids: bool,
    sent: u64,
}

impl Sender {
    fn new(users: u64, with_ids: bool) -> Sender {
        Sender { random: Random(11), users, with_ids, sent: 0 }
    }

    /// The lines of the next events.
    fn lines(&mut self, count: u64) -> Vec<u8> {
        let mut lines = Vec::with_capacity(count as usize * 150);
        for _ in 0..count {
            self.line(&mut lines);
        }
        lines
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        let random = &mut self.random;
        // Odd, so that every number stays one; whoever buys most is not who came first.
        let user = random.skewed(self.users).wrapping_mul(7_368_787) % self.users;
        let seconds = match random.below(20) {
            0 => NOW_SECONDS - random.below(7 * DAY_SECONDS),
            _ => NOW_SECONDS - random.below(60),
        };
        let (category, campaign) = (random.skewed(CATEGORIES), random.below(CAMPAIGNS));
        let (amount, milliseconds) = (random.below(20_000) + 1, random.below(1_000));
        let (day, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
        let date = engine::behavior::calendar::Date::of(day as i64);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        self.sent += 1;
        let written = write!(
            out,
            "{{\"user_id\":\"user-{user:09}\",\"ts\":\"{date}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z\",\
             \"category\":\"category-{category}\",\"campaign\":\"2026-{campaign:03}\",\"amount\":{}.{:02}",
            amount / 100,
            amount % 100
        );
        written.expect("memory does not fail");
        if self.with_ids {
            write!(out, ",\"event_id\":\"4f1c-{:012}\"", self.sent).expect("memory does not fail");
        }
        out.extend_from_slice(b"}\n");
    }
}

fn fact(with_ids: bool) -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId(0),
        columns: vec![
            column("category", ColumnType::String),
            column("campaign", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ],
        activity: Activity { dimensions: vec![0, 1], measures: vec![2] },
        retention_days: Some(400),
        deduplicate_days: with_ids.then_some(8),
        zone: Zone::default(),
    }
}

/// A table that only counts its rows.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl FactTables for Counting {
    fn stage(&self, _: &str, _: &Fact, _: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        self.0.fetch_add(rows.len() as u64, Ordering::Relaxed);
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

/// An empty store with the fact, and the fact as the store numbered it.
fn open(folder: &Path, with_ids: bool) -> (Arc<Store>, Fact, Arc<Counting>) {
    let clock = Arc::new(ManualClock::at(NOW_SECONDS as i64 * 1_000_000));
    let tables = Arc::new(Counting::default());
    let (workers, publishers) = (Some(workers().expect("threads")), Some(publishers().expect("threads")));
    let options = Options {
        workers,
        publishers,
        clock,
        tables: Some(tables.clone()),
        memory_bytes_max: 2 << 30,
        ..Options::default()
    };
    let store = Store::open(Arc::new(RealVfs), &folder.join("data"), options).expect("open");
    let mut catalog = Catalog::default();
    catalog.declare_fact("purchase", fact(with_ids)).expect("a good fact");
    let declared = catalog.fact("purchase").expect("just declared").clone();
    store.put_catalog(catalog).expect("catalog");
    (Arc::new(store), declared, tables)
}

fn decode(fact: &Fact, mut lines: &[u8], count: u64) -> Vec<UpdateBatch> {
    let decoder = EventDecoder::new(fact, NOW_SECONDS as i64 * 1_000_000);
    let mut reader = BodyReader::new(LineDecoder::Events(Box::new(decoder)), LINE_BYTES_MAX);
    let (mut batches, mut batch) = (Vec::new(), UpdateBatch::new());
    while reader.feed(&mut lines, &mut batch) {
        batches.push(std::mem::replace(&mut batch, UpdateBatch::new()));
    }
    let report = reader.finish(&mut batch);
    assert_eq!((report.accepted, report.rejected), (count, 0), "{:?}", report.errors.first());
    batches.push(batch);
    batches
}

/// Time of all threads of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    // Linux has a hundred ticks a second on every machine at hand.
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Processor time by step, in the order of first use.
#[derive(Default)]
struct Meter(Vec<(&'static str, Duration)>);

impl Meter {
    fn time<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let result = work();
        let spent = processor_time() - before;
        match self.0.iter_mut().find(|(known, _)| *known == step) {
            Some((_, sum)) => *sum += spent,
            None => self.0.push((step, spent)),
        }
        result
    }

    fn print(&self, title: &str, count: u64) {
        let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / count as f64;
        print!("{title}:");
        for (step, spent) in &self.0 {
            print!("  {step} {:.2}", micros(*spent));
        }
        let whole = self.0.iter().map(|(_, spent)| *spent).sum();
        println!("  together {:.2} µs of processor time an event", micros(whole));
    }
}

fn steps(title: &str, sender: &mut Sender, count: u64, publish_events: u64) {
    let temporary = tempfile::tempdir().expect("temporary folder");
    let (store, fact, tables) = open(temporary.path(), sender.with_ids);
    let mut meter = Meter::default();
    reset_peak_memory();
    let (mut layers_most, mut written) = (0, 0);
    while sender.sent < count {
        let lines = sender.lines(publish_events);
        let batches = meter.time("decode", || decode(&fact, &lines, publish_events));
        for batch in &batches {
            let lsn = meter.time("write", || store.write(batch, None).expect("write").lsn);
            meter.time("sync", || store.sync(lsn).expect("sync"));
        }
        meter.time("publish", || store.publish().expect("publish"));
        layers_most = layers_most.max(store.statistics().layers_max);
        if sender.sent.is_multiple_of(CHECKPOINT_EVENTS) {
            written += meter.time("checkpoint", || store.checkpoint().expect("checkpoint")).bytes_written;
            while let Some(step) = meter.time("compact", || store.compact().expect("compact")) {
                written += step.bytes_written;
            }
        }
    }
    meter.print(title, sender.sent);
    store.checkpoint().expect("checkpoint");
    assert_eq!(tables.0.load(Ordering::Relaxed), sender.sent, "every event is a row");
    let statistics = store.statistics();
    println!(
        "  at most {layers_most} layers, {} MiB written, index {} MiB, peak memory {} MiB",
        written >> 20,
        statistics.segment_bytes >> 20,
        peak_memory_bytes() >> 20
    );
}

fn rate(title: &str, sender: &mut Sender, count: u64) {
    let temporary = tempfile::tempdir().expect("temporary folder");
    let (store, fact, _) = open(temporary.path(), sender.with_ids);
    let bodies: Vec<Vec<u8>> = (0..count.div_ceil(BODY_EVENTS)).map(|_| sender.lines(BODY_EVENTS)).collect();
    let wanted = setting("BELUGA_BENCH_RATE", 250_000);
    let keeper = Keeper::start(store.clone(), KeeperOptions::default()).expect("threads");
    let (begun, before) = (Instant::now(), processor_time());
    // The oldest event that is not visible yet: when it came, and the view that did not show it.
    let mut unseen: Option<(Instant, Epoch)> = None;
    let mut longest = Duration::ZERO;
    for (number, lines) in (0..).zip(&bodies) {
        let due = begun + Duration::from_secs_f64((number * BODY_EVENTS) as f64 / wanted as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for batch in decode(&fact, lines, BODY_EVENTS) {
            let lsn = store.write(&batch, None).expect("write").lsn;
            store.sync(lsn).expect("sync");
        }
        let shown = store.snapshot().epoch();
        if let Some((since, _)) = unseen.take_if(|(_, epoch)| *epoch < shown) {
            longest = longest.max(since.elapsed());
        }
        unseen.get_or_insert((Instant::now(), shown));
    }
    let (elapsed, spent) = (begun.elapsed(), processor_time() - before);
    let status = keeper.status();
    assert_eq!(status.last_error, None);
    println!(
        "{title}: {:.0} of {:.0} thousand events a second, {:.2} µs of processor time an event; unseen for at most \
         {longest:.1?}; {} checkpoints, {} merges",
        sender.sent as f64 / elapsed.as_secs_f64() / 1e3,
        wanted as f64 / 1e3,
        spent.as_secs_f64() * 1e6 / sender.sent as f64,
        status.checkpoint_count,
        status.compaction_count
    );
}
