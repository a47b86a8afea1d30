//! From a topic: filled first, then read by a bare consumer and by the server.

use crate::events::{Expected, Purchases};
use crate::intake::take;
use crate::median;
use benches::server::processor_time;
use benches::setting;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is asked for: events a second from a topic.
const AIM: f64 = 300_000.0;
/// Lines that go to a partition before the next has its turn, so that batches are large.
const RUN: u64 = 2_000;
/// How long a broker may think about a topic; one that does not know the question never answers.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// Longer than any of this takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker with a full topic.
struct Topic {
    /// Holds the broker of this process, if it is that one.
    producer: BaseProducer,
    brokers: String,
    properties: BTreeMap<String, String>,
    name: String,
    partitions: i32,
    is_real: bool,
}

pub(crate) fn run(purchases: &Purchases, rounds: u64) {
    let topic = Topic::new();
    let begun = Instant::now();
    let expected = topic.fill(purchases);
    let broker = if topic.is_real { topic.brokers.as_str() } else { "librdkafka's test broker in this process" };
    println!(
        "{} events in {} partitions of {broker}: {:.0} thousand a second written",
        expected.events,
        topic.partitions,
        expected.events as f64 / begun.elapsed().as_secs_f64() / 1e3
    );
    topic.check(&expected);
    let partitions: Vec<i32> = (0..topic.partitions).collect();
    let kafka = json!({"brokers": topic.brokers, "topic": topic.name, "partitions": partitions, "start": "earliest",
        "properties": topic.properties});
    let source = json!({"kafka": kafka, "into": "purchase"});
    let (mut rates, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let limit = topic.only_read(&expected);
        println!("limit: {:.0} thousand events a second only read", limit / 1e3);
        let before = processor_time("self");
        let ours = take(&source, Path::new("/nonexistent"), &expected);
        let beside = processor_time("self") - before;
        println!("kafka: {}", ours.describe(&expected));
        if !topic.is_real {
            let each = beside.as_secs_f64() * 1e6 / expected.events as f64;
            println!("  and {each:.2} µs an event of the broker's, on the same processors");
        }
        rates.push(ours.rate(&expected));
        shares.push(ours.rate(&expected) / limit);
    }
    let rate = median(&mut rates);
    println!(
        "kafka: {:.0} thousand events a second, {:.2} of the aim, {:.2} of only reading them",
        rate / 1e3,
        rate / AIM,
        median(&mut shares)
    );
}

impl Topic {
    fn new() -> Topic {
        let named = std::env::var("BELUGA_KAFKA_BROKERS").ok();
        let is_real = named.is_some();
        // The test broker keeps 5 MiB a partition: many partitions keep much.
        let partitions = setting("BELUGA_BENCH_PARTITIONS", if is_real { 8 } else { 64 }) as i32;
        let properties = properties();
        let mut config = client(&properties);
        config.set("linger.ms", "100").set("batch.num.messages", RUN.to_string()).set("batch.size", "900000");
        config.set("compression.type", "lz4").set("queue.buffering.max.kbytes", "262144");
        match &named {
            Some(brokers) => config.set("bootstrap.servers", brokers),
            None => config.set("test.mock.num.brokers", "1"),
        };
        let producer: BaseProducer = config.create().expect("a producer");
        let brokers =
            named.unwrap_or_else(|| producer.client().mock_cluster().expect("its broker").bootstrap_servers());
        // A name of its own, since a real broker keeps what earlier runs wrote.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let topic = Topic { producer, brokers, properties, name: format!("beluga-bench-{now}"), partitions, is_real };
        if is_real {
            topic.ask_for();
        } else {
            let cluster = topic.producer.client().mock_cluster().expect("its broker");
            cluster.create_topic(&topic.name, topic.partitions, 1).expect("a topic");
        }
        topic
    }

    /// Asks the broker for the topic, and by its name alone if it is too old to be asked.
    fn ask_for(&self) {
        let admin: AdminClient<DefaultClientContext> =
            client(&self.properties).set("bootstrap.servers", &self.brokers).create().expect("a client");
        let wanted = NewTopic::new(&self.name, self.partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().request_timeout(Some(ASKED_FOR));
        let asked = futures::executor::block_on(admin.create_topics([&wanted], &options));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metadata =
                self.producer.client().fetch_metadata(Some(&self.name), PATIENCE).expect("the broker answers");
            let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            if found >= self.partitions as usize {
                return;
            }
            assert!(Instant::now() < deadline, "no topic with {} partitions but {found}: {asked:?}", self.partitions);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn fill(&self, purchases: &Purchases) -> Expected {
        let partitions = self.partitions as u64;
        let mut expected = purchases.each(|index, line| self.send((index / RUN % partitions) as i32, line));
        for partition in 0..partitions {
            self.send(partition as i32, &purchases.end(partition));
        }
        self.producer.flush(PATIENCE).expect("written");
        expected.add_ends(partitions);
        expected
    }

    fn send(&self, partition: i32, line: &str) {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.name).partition(partition).payload(line.as_bytes());
        while let Err((error, back)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "the broker takes events");
            self.producer.poll(Duration::from_millis(10));
            record = back;
        }
    }

    /// The broker dropped none of them.
    fn check(&self, expected: &Expected) {
        let client = self.producer.client();
        let held: i64 = (0..self.partitions)
            .map(|partition| {
                let (low, high) = client.fetch_watermarks(&self.name, partition, PATIENCE).expect("offsets");
                assert_eq!(low, 0, "partition {partition} dropped its first events: take more BELUGA_BENCH_PARTITIONS");
                high
            })
            .sum();
        assert_eq!(held as u64, expected.events, "the topic holds every event");
    }

    /// Events a second when all that is done with them is to count their bytes.
    fn only_read(&self, expected: &Expected) -> f64 {
        let mut config = client(&self.properties);
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "beluga-bench")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(&self.name, partition, Offset::Beginning).expect("an offset");
        }
        let begun = Instant::now();
        consumer.assign(&list).expect("assigned");
        let (mut events, mut bytes) = (0, 0);
        while events < expected.events {
            let message = consumer.poll(PATIENCE).expect("more events").expect("an event");
            bytes += message.payload_len();
            events += 1;
        }
        assert!(bytes > 0, "events have bytes");
        events as f64 / begun.elapsed().as_secs_f64()
    }
}

/// More settings of librdkafka for a real broker, as `name=value,…` in `BELUGA_KAFKA_PROPERTIES`.
fn properties() -> BTreeMap<String, String> {
    let text = std::env::var("BELUGA_KAFKA_PROPERTIES").unwrap_or_default();
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    text.split(',').filter_map(pair).collect()
}

fn client(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    config
}
