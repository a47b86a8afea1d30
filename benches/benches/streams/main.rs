//! Streams, by the release binary from outside: events of a file or a topic, until they are durable and seen.
//!
//! ```sh
//! pip install apache-flink                        # Python 3.11, Java 17
//! cargo build --release && BELUGA_PYTHON=python3 cargo bench -p benches --bench streams
//! ```
//!
//! Purchases of a million users (`BELUGA_BENCH_USERS`) over the last 20 minutes, as in the `server` figures; each costs
//! a row, two dimensions and a measure. Four figures:
//!
//! * `flink`: `BELUGA_BENCH_EVENTS` (4,000,000) from one NDJSON file, against Flink counting the same file by key and minute
//!   ([compare/flink.py](../../compare/flink.py)) on the same processors. Flink only counts and keeps nothing but its state.
//! * `kafka`: the same from a topic that was filled before, against a bare consumer that only counts its bytes. The broker is
//!   that of librdkafka's tests, in this process; `BELUGA_KAFKA_BROKERS` names another, and
//!   `BELUGA_KAFKA_PROPERTIES` what clients must be told for it (`broker.version.fallback=0.9.0.1`).
//! * `expressions`: a file read with two SQL expressions and an SQL condition, against the same with paths and conditions.
//! * `backfill`: `BELUGA_BENCH_ROWS` (20,000,000) of 90 days from Parquet as a job, while 5,000 a second come live; against only
//!   reading the files.
//!
//! But for the last, each way takes turns (`BELUGA_BENCH_ROUNDS`, 3), and the answers are counted again: how many events, of how many users.

mod backfill;
mod events;
mod expressions;
mod flink;
mod intake;
mod kafka;

use benches::{is_asked, setting};
use events::Purchases;

fn main() {
    let purchases = Purchases::new(setting("BELUGA_BENCH_USERS", 1_000_000), setting("BELUGA_BENCH_EVENTS", 4_000_000));
    let rounds = setting("BELUGA_BENCH_ROUNDS", 3).max(1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    if is_asked("flink") || is_asked("expressions") {
        let file = folder.path().join("purchases.ndjson");
        let expected = purchases.write_file(&file);
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        println!("{} events of {} users in {} MiB of NDJSON", expected.events, expected.users, bytes >> 20);
        if is_asked("flink") {
            flink::run(&file, &expected, rounds);
        }
        if is_asked("expressions") {
            expressions::run(&file, &expected, rounds);
        }
    }
    if is_asked("kafka") {
        kafka::run(&purchases, rounds);
    }
    if is_asked("backfill") {
        backfill::run(setting("BELUGA_BENCH_USERS", 1_000_000), setting("BELUGA_BENCH_ROWS", 20_000_000));
    }
}

/// The middle one, or the upper of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
