//! A server that reads a source to its end.

use crate::events::Expected;
use benches::server::{Connection, Server};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rows are brought to their table about as often as Flink keeps its state.
pub(crate) const CHECKPOINT_SECONDS: u64 = 5;
/// How often is asked whether the last events are seen.
const ASKED_EVERY: Duration = Duration::from_millis(10);
/// Longer than any of this takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(900);

/// What taking a stream in took.
pub(crate) struct Intake {
    /// From declaring the source until all of its events were durable (in the log) and seen by questions.
    pub(crate) seen: Duration,
    /// From declaring the source until all rows were in their Delta table.
    pub(crate) in_table: Duration,
    /// Processor time of the server until they were seen.
    pub(crate) cpu: Duration,
    /// The most memory that the server had, in bytes.
    pub(crate) peak_memory: u64,
}

impl Intake {
    /// Events a second until all were seen.
    pub(crate) fn rate(&self, expected: &Expected) -> f64 {
        expected.events as f64 / self.seen.as_secs_f64()
    }

    /// For people.
    pub(crate) fn describe(&self, expected: &Expected) -> String {
        format!(
            "{:.0} thousand events a second until durable and seen, {:.0} until in their table; {:.2} µs of the server's \
             processor time an event, {} MiB at most",
            self.rate(expected) / 1e3,
            expected.events as f64 / self.in_table.as_secs_f64() / 1e3,
            self.cpu.as_secs_f64() * 1e6 / expected.events as f64,
            self.peak_memory >> 20
        )
    }
}

/// Lets a new server read this source, which may read files of a folder, and counts again what came of it.
///
/// # Panics
/// If it is anything else than was expected.
pub(crate) fn take(source: &Value, folder: &Path, expected: &Expected) -> Intake {
    let data = tempfile::tempdir().expect("a temporary folder");
    let checkpoints = format!("checkpoint_interval_ms={}", CHECKPOINT_SECONDS * 1_000);
    let folders = format!("source_folders={}", folder.display());
    let server = Server::start(data.path(), &[&checkpoints, &folders]);
    let before = server.cpu();
    let begun = Instant::now();
    let sources = json!({ "purchases": source });
    server.call("PUT", "/v1/catalog", &catalog(&sources).to_string());
    let mut connection = server.connect();
    wait("all events are seen", &server, || {
        count(&mut connection, "did('purchase', category = 'end')") == expected.ends
    });
    let (seen, cpu) = (begun.elapsed(), server.cpu() - before);
    let table = data.path().join("facts/purchase/_delta_log");
    wait("all rows are in their table", &server, || rows(&table) >= expected.events);
    let in_table = begun.elapsed();
    check(&server, &mut connection, expected);
    assert_eq!(rows(&table), expected.events, "every event is one row");
    Intake { seen, in_table, cpu, peak_memory: server.peak_memory() }
}

/// The fact `purchase`, and these sources.
pub(crate) fn catalog(sources: &Value) -> Value {
    json!({
        "facts": {"purchase": {
            "columns": {"category": "string", "channel": "string", "amount": {"decimal": [12, 2]}},
            "activity": {"dimensions": ["category", "channel"], "measures": ["amount"]},
            "retention": "400 days",
        }},
        "sources": sources,
    })
}

fn wait(what: &str, server: &Server, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: never; {}", server.call("GET", "/v1/sources/purchases", ""));
        std::thread::sleep(ASKED_EVERY);
    }
}

fn count(connection: &mut Connection, expression: &str) -> u64 {
    connection.call("POST", "/v1/count", &json!({ "where": expression }).to_string());
    let answer: Value = serde_json::from_slice(connection.answer_body()).expect("JSON");
    answer["count"].as_u64().expect("a count")
}

fn check(server: &Server, connection: &mut Connection, expected: &Expected) {
    let source = server.call("GET", "/v1/sources/purchases", "");
    let counters = ["refused", "lost", "filtered", "lag"].map(|name| source[name].as_u64());
    assert_eq!(counters, [Some(0); 4], "nothing was refused, lost or left: {source}");
    assert_eq!(count(connection, "did('purchase')"), expected.users, "every user was counted");
    assert_eq!(events(connection), expected.events, "every event was counted once");
}

/// How many events were counted: the index is asked for each number of them how many users have at least so many.
pub(crate) fn events(connection: &mut Connection) -> u64 {
    let mut at_least = |times: u64| count(connection, &format!("did('purchase', count >= {times})"));
    let (mut last, mut top) = (1, 1);
    while top > 0 {
        last *= 2;
        top = at_least(last);
    }
    let first = at_least(1);
    first + sum(&mut at_least, (1, first), (last, 0))
}

/// The sum over all counts in `low.0 + 1..=high.0` of the users with at least so many events, of which both ends are known.
/// Added up from 1 this is the number of events; where both ends are equal, so is everything between them.
fn sum(at_least: &mut impl FnMut(u64) -> u64, low: (u64, u64), high: (u64, u64)) -> u64 {
    if low.1 == high.1 || high.0 - low.0 == 1 {
        return high.1 * (high.0 - low.0);
    }
    let middle = low.0 + (high.0 - low.0) / 2;
    let middle = (middle, at_least(middle));
    sum(at_least, low, middle) + sum(at_least, middle, high)
}

/// How many rows the files of a Delta table have, by its log.
fn rows(log: &Path) -> u64 {
    let mut files: HashMap<String, u64> = HashMap::new();
    let mut versions: Vec<_> =
        std::fs::read_dir(log).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort();
    for version in versions.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        for line in std::fs::read_to_string(version).unwrap_or_default().lines() {
            let action: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(path) = action["add"]["path"].as_str() {
                let statistics = action["add"]["stats"].as_str().unwrap_or_default();
                let statistics: Value = serde_json::from_str(statistics).unwrap_or_default();
                files.insert(path.to_owned(), statistics["numRecords"].as_u64().expect("a file's rows are told"));
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                files.remove(path);
            }
        }
    }
    files.values().sum()
}
