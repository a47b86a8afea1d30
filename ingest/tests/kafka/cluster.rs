//! A cluster of the library's own making, somebody who writes to it, and a reader that follows the rules of a source.

use ingest::source::kafka::{KafkaOptions, KafkaSource, Reading};
use ingest::source::{Polled, RecordBatch, Source, SourceError, SourcePosition, Started};
use rdkafka::bindings as c;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A broker, and the producer that owns it.
pub(crate) struct Cluster {
    producer: BaseProducer,
    pub(crate) brokers: String,
}

impl Cluster {
    pub(crate) fn new(topics: &[(&str, i32)]) -> Cluster {
        let producer: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("linger.ms", "0")
            .set("queue.buffering.max.kbytes", "100000")
            .create()
            .expect("producer");
        let brokers = {
            let cluster = producer.client().mock_cluster().expect("a mock cluster");
            topics.iter().for_each(|(topic, count)| cluster.create_topic(topic, *count, 1).expect("topic"));
            cluster.bootstrap_servers()
        };
        // SAFETY: the client is live, and the cluster lives as long as it. By default a group waits 3 s for members.
        unsafe {
            let cluster = c::rd_kafka_handle_mock_cluster(producer.client().native_ptr());
            c::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 50);
        }
        Cluster { producer, brokers }
    }

    pub(crate) fn with<T>(
        &self,
        act: impl FnOnce(&MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> T,
    ) -> T {
        act(&self.producer.client().mock_cluster().expect("a mock cluster"))
    }

    /// Writes `payloads` to one partition.
    pub(crate) fn write<P: AsRef<[u8]>>(&self, topic: &str, partition: i32, payloads: impl IntoIterator<Item = P>) {
        for payload in payloads {
            self.send(BaseRecord::<[u8], [u8]>::to(topic).partition(partition).payload(payload.as_ref()));
        }
        self.producer.flush(Duration::from_secs(10)).expect("written");
    }

    pub(crate) fn send(&self, record: BaseRecord<'_, [u8], [u8]>) {
        self.producer.send(record).map_err(|(error, _)| error).expect("queued");
    }

    pub(crate) fn numbered(&self, topic: &str, partition: i32, numbers: std::ops::Range<u64>) {
        self.write(topic, partition, numbers.map(|number| format!("{topic}/{partition}#{number}")));
    }

    pub(crate) fn options(&self, topics: &[&str]) -> KafkaOptions {
        KafkaOptions {
            brokers: vec![self.brokers.clone()],
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            properties: [
                ("session.timeout.ms", "1500"),
                ("heartbeat.interval.ms", "100"),
                ("reconnect.backoff.max.ms", "200"),
                ("topic.metadata.refresh.interval.ms", "300"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..KafkaOptions::default()
        }
    }

    pub(crate) fn fixed(&self, topic: &str, partitions: &[i32]) -> KafkaOptions {
        KafkaOptions { reading: Reading::Partitions(partitions.to_vec()), ..self.options(&[topic]) }
    }
}

/// What was read, by partition: offset and payload in order of arrival.
pub(crate) type Seen = BTreeMap<String, Vec<(u64, String)>>;

/// Reads as the documentation of a source says. Position and what was seen may be shared, as members of a group would.
pub(crate) struct Reader {
    pub(crate) source: KafkaSource,
    pub(crate) durable: Arc<Mutex<(SourcePosition, Seen)>>,
    pub(crate) started: Vec<Started>,
    pub(crate) skipped: Vec<Started>,
    batch: RecordBatch,
}

impl Reader {
    pub(crate) fn new(options: KafkaOptions) -> Reader {
        Reader::sharing(options, Arc::default())
    }

    pub(crate) fn sharing(options: KafkaOptions, durable: Arc<Mutex<(SourcePosition, Seen)>>) -> Reader {
        let source = KafkaSource::open(options).expect("opens");
        Reader { source, durable, started: Vec::new(), skipped: Vec::new(), batch: RecordBatch::new() }
    }

    /// One turn.
    pub(crate) fn turn(&mut self) -> Result<Polled, SourceError> {
        let polled = self.source.poll(&mut self.batch, Duration::from_millis(50))?;
        let mut durable = self.durable.lock().expect("lock");
        let (position, seen) = &mut *durable;
        match &polled {
            Polled::Batch => {
                for record in self.batch.iter() {
                    let partition = self.batch.partition_name(record.partition).to_string();
                    let payload = String::from_utf8_lossy(record.payload.unwrap_or(b"(none)")).into_owned();
                    seen.entry(partition).or_default().push((record.offset, payload));
                }
                position.advance(&self.batch);
            }
            Polled::Assigned(_) => match self.source.start(position) {
                Ok(started) => {
                    position.begin(&started);
                    self.started.extend(started);
                }
                Err(SourceError::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            },
            Polled::Skipped(skipped) => {
                position.begin(skipped);
                self.skipped.extend_from_slice(skipped);
            }
            Polled::Revoked(_) => self.source.commit(position),
            Polled::Idle | Polled::End => {}
        }
        Ok(polled)
    }

    /// Turns until `done`, for 20 s at most.
    #[track_caller]
    pub(crate) fn until(&mut self, done: impl Fn(&Reader) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            self.turn().expect("goes on");
            assert!(Instant::now() < deadline, "it never happened: {:?}", self.source.status());
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.durable.lock().expect("lock").1.values().map(Vec::len).sum()
    }

    pub(crate) fn position(&self) -> SourcePosition {
        self.durable.lock().expect("lock").0.clone()
    }

    /// Each partition has the records `0..count`, once and in order, and no other.
    #[track_caller]
    pub(crate) fn check(&self, topic: &str, expected: &[(i32, u64)]) {
        let durable = self.durable.lock().expect("lock");
        for (partition, count) in expected {
            let name = format!("{topic}/{partition}");
            let expected: Vec<(u64, String)> = (0..*count).map(|number| (number, format!("{name}#{number}"))).collect();
            assert_eq!(durable.1.get(&name).map_or(&[][..], Vec::as_slice), expected, "{name}");
        }
    }
}
