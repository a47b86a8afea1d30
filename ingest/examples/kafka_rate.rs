//! How fast records come out of a Kafka source, against the library's own broker in the same process.
//!
//! `cargo run --release -p ingest --features kafka --example kafka_rate [million records] [bytes each]`
//!
//! The figure that counts is the processor time of the polling thread: that is what a core that also decodes has to spare.
//! The library's thread that receives, checks and decompresses is another core's work, the broker a third one's.

use ingest::source::kafka::{KafkaOptions, KafkaSource, Reading};
use ingest::source::{Polled, RecordBatch, Source, SourcePosition};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 8;

/// Processor time of this thread and of the process, in seconds; 0 where the system does not tell.
fn processor_s() -> (f64, f64) {
    let ticks = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let after_name = text.rsplit(')').next().unwrap_or_default().to_owned();
        let fields = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        fields.sum::<f64>() / 100.0
    };
    (ticks("/proc/thread-self/stat"), ticks("/proc/self/stat"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let records = arguments.next().transpose()?.unwrap_or(4) * 1_000_000;
    let bytes = arguments.next().transpose()?.unwrap_or(100);
    let producer: BaseProducer = ClientConfig::new()
        .set("test.mock.num.brokers", "1")
        .set("linger.ms", "50")
        .set("batch.num.messages", "10000")
        .set("batch.size", "4000000")
        .set("message.max.bytes", "8000000")
        .set("queue.buffering.max.messages", "10000000")
        .set("compression.type", "zstd")
        .create()?;
    let brokers = {
        let cluster = producer.client().mock_cluster().ok_or("no mock cluster")?;
        cluster.create_topic("rate", PARTITIONS, 1)?;
        cluster.bootstrap_servers()
    };
    // The broker keeps 5 MiB a partition, compressed: the filling is what compresses best.
    let mut payload = vec![b'.'; bytes];
    for index in 0..records {
        let head = format!("{{\"user_id\":\"u{index}\"");
        let len = head.len().min(bytes);
        payload[..len].copy_from_slice(&head.as_bytes()[..len]);
        let partition = (index / 10_000 % PARTITIONS as usize) as i32;
        let record = BaseRecord::<[u8], [u8]>::to("rate").partition(partition).payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
        if index % 500_000 == 499_999 {
            producer.flush(Duration::from_secs(60))?;
        }
    }
    producer.flush(Duration::from_secs(60))?;

    let mut source = KafkaSource::open(KafkaOptions {
        brokers: vec![brokers],
        topics: vec!["rate".to_owned()],
        reading: Reading::Partitions((0..PARTITIONS).collect()),
        ..KafkaOptions::default()
    })?;
    let mut batch = RecordBatch::new();
    let (mut read, mut batches, mut sum_bytes, mut begin) = (0, 0, 0, None);
    while read < records {
        match source.poll(&mut batch, Duration::from_secs(1))? {
            Polled::Assigned(_) => {
                let started = source.start(&SourcePosition::new())?;
                let kept = started.iter().all(|started| started.offset == 0);
                println!("{} partitions, all records kept: {kept}", started.len());
                begin = Some((Instant::now(), processor_s()));
            }
            Polled::Batch => {
                read += batch.len();
                sum_bytes += batch.size_bytes();
                batches += 1;
            }
            Polled::Idle => return Err(format!("nothing more after {read} records: {:?}", source.status()).into()),
            other => println!("{other:?}"),
        }
    }
    let (begin, before) = begin.ok_or("never assigned")?;
    let (elapsed, after) = (begin.elapsed().as_secs_f64(), processor_s());
    let thread_s = after.0 - before.0;
    println!(
        "{read} records of {} bytes in {batches} batches: {elapsed:.2} s, {:.0} records/s; polling thread {thread_s:.2} s \
         of processor ({:.0} records/s of a core), process {:.2} s with the broker",
        sum_bytes / read,
        read as f64 / elapsed,
        read as f64 / thread_s.max(0.01),
        after.1 - before.1,
    );
    Ok(())
}
