//! A Kafka topic as the other side of a sink.
//!
//! A record's key is its user, so that what concerns one user stays in order; its header `id` is what it is known by.
//!
//! * At least once: an idempotent producer; a batch is delivered when all its records are acknowledged. After a crash it comes
//!   again, with the same ids.
//! * Exactly once, for consumers that read with `isolation.level=read_committed`: a batch is one transaction, and how far the sink is
//!   is committed in it, as the offset of partition 0 for a consumer group that only this sink has. After a start that offset wins over what is
//!   kept here. The transactional id shuts out an earlier producer of the same sink.
//!
//! After any failure the producer is thrown away; the next attempt opens one and asks how far the sink is, which settles whether a
//! commit without an answer came about.

use super::deliver::{Connector, Deliver, Delivery, DeliveryError, Refusal, SinkIdentity};
use crate::source::SourceError;
use crate::source::kafka::{KafkaOptions, Reading, Secret, Security};
use crate::stop::Stop;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long events of the library are awaited before the stop is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Settings of ours, each with what to use instead.
const RESERVED: [(&str, &str); 5] = [
    ("transactional.id", "it is made of the sink's name and life"),
    ("enable.idempotence", "a sink needs it"),
    ("acks", "a sink needs all"),
    ("request.required.acks", "a sink needs all"),
    ("dr_msg_cb", "it belongs to the library"),
];

/// How often a record comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Once, and again after a crash or a failure in between.
    #[default]
    AtLeastOnce,
    /// Once, for those who read what is committed.
    ExactlyOnce,
}

/// Where a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSinkOptions {
    /// Addresses of some brokers, `host:port`.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// How often a record comes.
    pub guarantee: Guarantee,
    /// Protection and name.
    pub security: Security,
    /// More settings of librdkafka.
    pub properties: BTreeMap<String, String>,
    /// More settings of librdkafka whose values are secrets.
    pub secrets: BTreeMap<String, Secret>,
    /// How long an answer of the brokers is awaited.
    pub request_timeout: Duration,
}

impl KafkaSinkOptions {
    /// Of a topic, with what is not said elsewhere.
    pub fn new(brokers: Vec<String>, topic: String) -> KafkaSinkOptions {
        KafkaSinkOptions {
            brokers,
            topic,
            guarantee: Guarantee::default(),
            security: Security::default(),
            properties: BTreeMap::new(),
            secrets: BTreeMap::new(),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// Whether they can be; reads no secret and asks no broker.
    ///
    /// # Errors
    /// [`SourceError::Invalid`], which names the setting.
    pub fn check(&self) -> Result<(), SourceError> {
        for name in self.properties.keys().chain(self.secrets.keys()) {
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(SourceError::Invalid {
                    setting: format!("properties.{name}"),
                    what: (*instead).to_owned(),
                });
            }
        }
        self.connection().check()
    }

    /// What it has in common with a source.
    fn connection(&self) -> KafkaOptions {
        KafkaOptions {
            brokers: self.brokers.clone(),
            topics: vec![self.topic.clone()],
            // A pattern is no topic to write to.
            reading: Reading::Partitions(vec![0]),
            security: self.security.clone(),
            properties: self.properties.clone(),
            secrets: self.secrets.clone(),
            ..KafkaOptions::default()
        }
    }

    fn producer_config(&self, name: &str) -> Result<ClientConfig, SourceError> {
        let mut config = self.connection().client_config()?;
        // Those of a consumer.
        for name in [
            "group.id",
            "isolation.level",
            "check.crcs",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "queued.max.messages.kbytes",
        ] {
            config.remove(name);
        }
        // These may be overridden. Keys go to the partitions that Java's clients choose.
        for (name, value) in [("partitioner", "murmur2_random"), ("message.timeout.ms", "30000")] {
            if !self.properties.contains_key(name) {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        if self.guarantee == Guarantee::ExactlyOnce {
            config.set("transactional.id", name);
        }
        Ok(config)
    }
}

impl Connector for KafkaSinkOptions {
    fn open(&self, sink: &SinkIdentity) -> Result<Box<dyn Deliver>, DeliveryError> {
        let mut topic = Topic { options: self.clone(), name: format!("beluga-{}", sink.key()), link: None };
        topic.open()?;
        Ok(Box::new(topic))
    }
}

/// See the module.
struct Topic {
    options: KafkaSinkOptions,
    /// The transactional id, and the group's.
    name: String,
    link: Option<Link>,
}

struct Link {
    producer: BaseProducer<Reports>,
    /// Of a transactional one.
    group: Option<Group>,
}

/// Where the brokers keep how far the sink is.
struct Group {
    consumer: BaseConsumer,
    metadata: ConsumerGroupMetadata,
}

/// What became of records.
#[derive(Debug, Default)]
struct Reports(Mutex<Reported>);

#[derive(Debug, Default)]
struct Reported {
    count: usize,
    failed: Vec<(usize, KafkaError)>,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Reported> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka sink in trouble; it keeps trying");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut reported = self.lock();
        reported.count += 1;
        if let Err((error, _)) = result {
            reported.failed.push((index, error.clone()));
        }
    }
}

/// What failed, for people.
fn later(doing: &str, error: &KafkaError) -> DeliveryError {
    DeliveryError::later(format!("{doing}: {}", told(error)))
}

fn told(error: &KafkaError) -> String {
    match (error, error.rdkafka_error_code()) {
        (KafkaError::Transaction(error), _) => error.to_string(),
        (_, Some(code)) => code.to_string(),
        (error, None) => error.to_string(),
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{InvalidMessageSize, MessageBatchTooLarge, MessageSizeTooLarge};
    let code = error.rdkafka_error_code();
    matches!(code, Some(MessageSizeTooLarge | InvalidMessageSize | MessageBatchTooLarge))
}

const TOO_LARGE: &str = "it is larger than the topic takes (`message.max.bytes` here, `max.message.bytes` there)";

impl Topic {
    fn open(&mut self) -> Result<(), DeliveryError> {
        let settings = |error: SourceError| DeliveryError::Never(error.to_string());
        let made = |error: KafkaError| DeliveryError::Never(format!("the settings: {error}"));
        let config = self.options.producer_config(&self.name).map_err(settings)?;
        let producer: BaseProducer<Reports> = config.create_with_context(Reports::default()).map_err(made)?;
        let mut group = None;
        if self.options.guarantee == Guarantee::ExactlyOnce {
            let timeout = self.options.request_timeout;
            producer.init_transactions(timeout).map_err(|error| later("begin transactions", &error))?;
            let mut config = self.options.connection().client_config().map_err(settings)?;
            // What a transaction that is under way committed counts when it is through.
            config.set("group.id", &self.name).set("isolation.level", "read_committed");
            let consumer: BaseConsumer = config.create().map_err(made)?;
            let metadata = consumer
                .group_metadata()
                .ok_or_else(|| DeliveryError::later("the library has no group for the sink's offset"))?;
            group = Some(Group { consumer, metadata });
        }
        self.link = Some(Link { producer, group });
        Ok(())
    }

    fn place(&self, offset: Offset) -> Result<TopicPartitionList, DeliveryError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.options.topic, 0, offset)
            .map_err(|error| DeliveryError::Never(error.to_string()))?;
        Ok(list)
    }

    fn ask_committed(&self) -> Result<Option<u64>, DeliveryError> {
        let Some(group) = self.link.as_ref().and_then(|link| link.group.as_ref()) else { return Ok(None) };
        let asked = group.consumer.committed_offsets(self.place(Offset::Invalid)?, self.options.request_timeout);
        let answer = asked.map_err(|error| later("ask how far the sink is", &error))?;
        let element = answer.find_partition(&self.options.topic, 0);
        Ok(element.and_then(|element| match element.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        }))
    }

    fn send(&self, delivery: &Delivery<'_>, stop: &Stop) -> Result<Vec<Refusal>, DeliveryError> {
        let Some(link) = &self.link else { return Err(DeliveryError::later("not connected")) };
        let is_transaction = link.group.is_some();
        if is_transaction {
            link.producer.begin_transaction().map_err(|error| later("begin a transaction", &error))?;
        }
        *link.producer.context().lock() = Reported::default();
        let mut refusals = Vec::new();
        let mut refuse = |index: usize| refusals.push(Refusal { index, why: TOO_LARGE.to_owned() });
        let mut sent = 0;
        for (index, record) in delivery.records.iter().enumerate() {
            if delivery.left_out.contains(&index) {
                continue;
            }
            if enqueue(&link.producer, &self.options.topic, index, record, stop)? {
                sent += 1;
            } else {
                refuse(index);
            }
        }
        while link.producer.context().lock().count < sent {
            if stop.is_set() {
                return Err(DeliveryError::later("stopped"));
            }
            link.producer.poll(POLL_INTERVAL);
        }
        let failed = std::mem::take(&mut link.producer.context().lock().failed);
        let (too_large, others): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(_, error)| is_too_large(error));
        if let Some((_, error)) = others.first() {
            return Err(later("send", error));
        }
        too_large.iter().for_each(|(index, _)| refuse(*index));
        let Some(group) = &link.group else { return Ok(refusals) };
        if !refusals.is_empty() {
            // Nothing is committed before there are dead letters of them.
            return Err(DeliveryError::Refused(refusals));
        }
        let end = i64::try_from(delivery.end()).map_err(|_| DeliveryError::Never("the offset is too large".into()))?;
        let timeout = self.options.request_timeout;
        let committed = link
            .producer
            .send_offsets_to_transaction(&self.place(Offset::Offset(end))?, &group.metadata, timeout)
            .and_then(|()| link.producer.commit_transaction(timeout));
        committed.map_err(|error| later("commit a transaction", &error))?;
        Ok(Vec::new())
    }
}

/// Hands a record to the library; false if it is too large.
fn enqueue(
    producer: &BaseProducer<Reports>,
    topic: &str,
    index: usize,
    record: &super::deliver::DeliveryRecord<'_>,
    stop: &Stop,
) -> Result<bool, DeliveryError> {
    loop {
        let headers = OwnedHeaders::new().insert(Header { key: "id", value: Some(record.id) });
        let message =
            BaseRecord::with_opaque_to(topic, index).key(record.user_id).payload(record.json).headers(headers);
        match producer.send(message) {
            Ok(()) => return Ok(true),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                if stop.is_set() {
                    return Err(DeliveryError::later("stopped"));
                }
                producer.poll(POLL_INTERVAL);
            }
            Err((error, _)) if is_too_large(&error) => return Ok(false),
            Err((error, _)) => return Err(later("send", &error)),
        }
    }
}

impl Deliver for Topic {
    fn committed(&mut self) -> Result<Option<u64>, DeliveryError> {
        self.ask_committed()
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, stop: &Stop) -> Result<Vec<Refusal>, DeliveryError> {
        if self.link.is_none() {
            self.open()?;
            if self.ask_committed()?.is_some_and(|committed| committed >= delivery.end()) {
                // The commit that had no answer came about.
                return Ok(Vec::new());
            }
        }
        let sent = self.send(delivery, stop);
        if sent.is_err() {
            // Whatever is left of it is given up with it; a transaction is aborted when the next one begins.
            self.link = None;
        }
        sent
    }
}
