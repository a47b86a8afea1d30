//! The events of the demo by way of a broker: written to a topic, read from it as a source.

use super::stream::{Door, Events, spread, take};
use crate::cli::output::grouped;
use crate::error::{Failure, Kind};
use crate::rest::v1::catalog::{self, CatalogDocument, PutParameters};
use crate::server::Server;
use crate::sources::SourceDeclaration;
use datasets::PURCHASE;
use engine::catalog::source::offsets_prefix;
use engine::clock::Clock;
use ingest::clock::SystemClock;
use ingest::pipeline::SourceState;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often records are written, and how often one batch is watched until it is seen.
const TICK: Duration = Duration::from_millis(20);
const PROBE: Duration = Duration::from_millis(100);
/// How long a broker may stay silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The source's name.
const SOURCE: &str = "demo";

/// Writes all events to a new topic at a rate, reads them as a source, and waits until all have come.
pub(super) fn through(server: &Server, events: &Events, rate: u64, broker: &str) -> Result<(), Failure> {
    // Of its own, so that events of an earlier demo do not count again.
    let topic = format!("beluga-demo-{}", SystemClock.now() / 1_000);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .set("linger.ms", "5")
        .create()
        .map_err(|error| failed(broker, &error.to_string()))?;
    println!(
        "Streaming {} purchases through topic {topic} of {broker}, up to {} a second …",
        grouped(events.count()),
        grouped(rate)
    );
    // The first record makes the topic, where the broker allows that.
    let (next, began, written) = (AtomicU64::new(0), Instant::now(), AtomicU64::new(0));
    let first = events.count().min(1);
    write(&producer, &topic, events, 0..first).map_err(|error| failed(broker, &error.to_string()))?;
    producer.flush(PATIENCE).map_err(|error| failed(broker, &error.to_string()))?;
    next.store(first, Ordering::Relaxed);
    written.store(first, Ordering::Relaxed);
    declare(server, broker, &topic)?;
    let done = AtomicBool::new(false);
    let (sent, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(server, events, &written, &done));
        let sent = (|| {
            while let Some(range) = take(&next, events.count(), began, rate, TICK) {
                let count = range.end - range.start;
                write(&producer, &topic, events, range)?;
                written.fetch_add(count, Ordering::Relaxed);
            }
            producer.flush(PATIENCE)
        })();
        done.store(true, Ordering::Relaxed);
        (sent, watching.join().unwrap_or_else(|_| Err(Failure::internal("the watching thread panicked"))))
    });
    sent.map_err(|error| failed(broker, &error.to_string()))?;
    let seen = seen?;
    let elapsed = began.elapsed();
    println!(
        "Streamed {} events in {:.1} s ({} a second): seen by questions {} after they were written to the topic.",
        grouped(events.count()),
        elapsed.as_secs_f64(),
        grouped((events.count() as f64 / elapsed.as_secs_f64()) as u64),
        spread(seen),
    );
    Ok(())
}

fn failed(broker: &str, why: &str) -> Failure {
    Failure::new(Kind::Unreachable, format!("Kafka broker {broker}: {why}"))
        .suggest("name a broker as HOST:PORT, one that makes topics by itself")
}

/// Queues the lines of some events; waits where the queue is full.
fn write(producer: &BaseProducer, topic: &str, events: &Events, range: std::ops::Range<u64>) -> Result<(), KafkaError> {
    let mut lines = String::new();
    events.lines(range, &mut lines);
    for line in lines.lines() {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(line.as_bytes());
        while let Err((error, returned)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            producer.poll(TICK);
            record = returned;
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

/// Adds the source to the catalog, and starts it.
fn declare(server: &Server, broker: &str, topic: &str) -> Result<(), Failure> {
    let state = server.state();
    let mut document = CatalogDocument::of(state.whole()?.catalog());
    let source = json!({"kafka": {"brokers": broker, "topic": topic, "group": topic}, "into": PURCHASE});
    let source: SourceDeclaration = serde_json::from_value(source).map_err(Failure::internal)?;
    document.sources.insert(SOURCE.to_owned(), source);
    catalog::apply(state.store()?, &document, PutParameters::default(), &state.config)?;
    state.run_sources()
}

/// Measures how long what was written takes to be seen, until all events are. Answers these times.
fn watch(server: &Server, events: &Events, written: &AtomicU64, done: &AtomicBool) -> Result<Vec<Duration>, Failure> {
    let door = Door::of(server)?;
    let mut seen = Vec::new();
    let mut last = (0, Instant::now());
    loop {
        std::thread::sleep(PROBE);
        let (is_last, count, began) = (done.load(Ordering::Relaxed), written.load(Ordering::Relaxed), Instant::now());
        loop {
            // By what was applied; the topic has no other records, so offsets count them.
            let applied = server.state().store()?.source_offsets(&offsets_prefix(SOURCE));
            let applied: u64 = applied.iter().map(|(_, offset)| offset).sum();
            if applied >= count {
                break;
            }
            let report = server.state().pipeline()?.report(SOURCE).unwrap_or_default();
            if report.state == SourceState::Failed {
                return Err(Failure::new(Kind::SourceStuck, report.error.unwrap_or_default()));
            }
            if applied > last.0 {
                last = (applied, Instant::now());
            }
            if last.1.elapsed() > PATIENCE {
                let why = report.error.unwrap_or_else(|| "nothing more comes from the topic".to_owned());
                return Err(Failure::new(Kind::SourceStuck, why));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // An empty request that waits until everything before it is seen.
        door.send(events, 0..0, "?visible=true")?;
        seen.push(began.elapsed());
        if is_last {
            return Ok(seen);
        }
    }
}
