//! Kafka as the other side of a sink. The cluster knows transactions as a conversation: it neither hides what was aborted, nor shuts
//! out earlier producers, nor keeps the offsets that a transaction brings; these are put there by hand where a test needs them.

use crate::cluster::Cluster;
use ingest::sink::kafka::{Guarantee, KafkaSinkOptions};
use ingest::sink::{Connector, Deliver, Delivery, DeliveryError, DeliveryRecord, SinkIdentity, Stop};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn options(cluster: &Cluster, guarantee: Guarantee) -> KafkaSinkOptions {
    let mut options = KafkaSinkOptions::new(vec![cluster.brokers.clone()], "changes".to_owned());
    options.guarantee = guarantee;
    options.properties.insert("reconnect.backoff.max.ms".into(), "200".into());
    options
}

fn identity() -> SinkIdentity {
    SinkIdentity { name: "topic".to_owned(), id: 7 }
}

/// Texts of records: id, user, JSON.
fn texts(offsets: std::ops::Range<u64>) -> Vec<[String; 3]> {
    offsets.map(|offset| [format!("a/{offset}"), format!("u{}", offset % 3), format!("{{\"n\":{offset}}}")]).collect()
}

fn delivery(first: u64, texts: &[[String; 3]]) -> Delivery<'_> {
    let records = texts.iter().map(|[id, user_id, json]| DeliveryRecord { id, user_id, json }).collect();
    Delivery { first, records, left_out: BTreeSet::new(), key: format!("topic/{first}") }
}

fn deliver(side: &mut Box<dyn Deliver>, offsets: std::ops::Range<u64>) -> Result<usize, DeliveryError> {
    let texts = texts(offsets.clone());
    side.deliver(&delivery(offsets.start, &texts), &Stop::default()).map(|refusals| refusals.len())
}

/// What stands in the topic: partition, key, id, payload.
fn read(cluster: &Cluster, count: usize) -> Vec<(i32, String, String, String)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    (0..2).for_each(|partition| list.add_partition_offset("changes", partition, Offset::Beginning).expect("a place"));
    consumer.assign(&list).expect("assigned");
    let mut read = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while read.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} came", read.len());
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.expect("a record");
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("bytes").to_vec()).expect("text");
        let header = message.headers().expect("headers").get(0);
        assert_eq!(header.key, "id");
        read.push((message.partition(), text(message.key()), text(header.value), text(message.payload())));
    }
    read.sort_by_key(|(.., id, _)| id[2..].parse::<u64>().expect("a number"));
    read
}

fn check(cluster: &Cluster, count: u64) {
    let read = read(cluster, count as usize);
    let expected = texts(0..count);
    for ((partition, key, id, json), [expected_id, user, expected_json]) in read.iter().zip(&expected) {
        assert_eq!((key, id, json), (user, expected_id, expected_json));
        let others = read.iter().filter(|(_, other, ..)| other == key);
        assert!(others.clone().all(|(other, ..)| other == partition), "one user is in one partition");
    }
}

/// Puts how far the sink is where a real cluster has it after a transaction.
fn commit(cluster: &Cluster, offset: i64) {
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("group.id", format!("beluga-{}", identity().key()))
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("changes", 0, Offset::Offset(offset)).expect("a place");
    group.commit(&list, CommitMode::Sync).expect("committed");
}

#[test]
fn records_come_with_keys_and_ids() {
    let cluster = Cluster::new(&[("changes", 2)]);
    let mut side = options(&cluster, Guarantee::AtLeastOnce).open(&identity()).expect("opens");
    assert_eq!(side.committed(), Ok(None));
    assert_eq!(deliver(&mut side, 0..100), Ok(0));
    assert_eq!(deliver(&mut side, 100..101), Ok(0));
    check(&cluster, 101);
}

#[test]
fn a_record_that_is_too_large_is_refused_alone() {
    let cluster = Cluster::new(&[("changes", 2)]);
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let mut options = options(&cluster, guarantee);
        options.properties.insert("message.max.bytes".into(), "2000".into());
        let mut side = options.open(&identity()).expect("opens");
        let mut texts = texts(0..3);
        texts[1][2] = "x".repeat(10_000);
        let answer = side.deliver(&delivery(0, &texts), &Stop::default());
        let refusals = match guarantee {
            Guarantee::AtLeastOnce => answer.expect("delivered"),
            Guarantee::ExactlyOnce => {
                // Nothing is there before there are dead letters; then the others come.
                let Err(DeliveryError::Refused(refusals)) = answer else { panic!("{answer:?}") };
                let without = Delivery { left_out: BTreeSet::from([1]), ..delivery(0, &texts) };
                assert_eq!(side.deliver(&without, &Stop::default()), Ok(Vec::new()));
                refusals
            }
        };
        assert_eq!(refusals.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [1]);
        assert!(refusals[0].why.contains("larger than the topic takes"));
    }
}

#[test]
fn a_transaction_that_was_committed_before_a_crash_is_not_sent_again() {
    let cluster = Cluster::new(&[("changes", 2)]);
    let options = options(&cluster, Guarantee::ExactlyOnce);
    let mut side = options.open(&identity()).expect("opens");
    assert_eq!(side.committed(), Ok(None));
    assert_eq!(deliver(&mut side, 0..10), Ok(0));
    // The crash comes before the sink noted it. The offset is where a real cluster has it now.
    drop(side);
    commit(&cluster, 10);
    let mut side = options.open(&identity()).expect("opens");
    assert_eq!(side.committed(), Ok(Some(10)));
    assert_eq!(deliver(&mut side, 10..20), Ok(0));
    check(&cluster, 20);
    // Of another life of the sink nothing is known.
    let mut other = options.open(&SinkIdentity { id: 8, ..identity() }).expect("opens");
    assert_eq!(other.committed(), Ok(None));
}

/// Whether a commit without an answer came about is asked of the brokers.
#[test]
fn a_transaction_whose_commit_had_no_answer_is_not_sent_again() {
    let cluster = Cluster::new(&[("changes", 2)]);
    let mut side = options(&cluster, Guarantee::ExactlyOnce).open(&identity()).expect("opens");
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED];
    cluster.with(|cluster| cluster.request_errors(RDKafkaApiKey::EndTxn, &refused));
    assert!(matches!(deliver(&mut side, 0..10), Err(DeliveryError::Later { .. })));
    commit(&cluster, 10);
    assert_eq!(deliver(&mut side, 0..10), Ok(0));
    assert_eq!(deliver(&mut side, 10..12), Ok(0));
    check(&cluster, 12);
}

#[test]
fn brokers_that_are_away_are_waited_for() {
    let cluster = Cluster::new(&[("changes", 2)]);
    let mut options = options(&cluster, Guarantee::AtLeastOnce);
    let [mut hasty, mut side] = ["1000", "20000"].map(|timeout| {
        options.properties.insert("message.timeout.ms".into(), timeout.into());
        options.open(&identity()).expect("opens")
    });
    cluster.with(|cluster| cluster.broker_down(1)).expect("down");
    assert!(matches!(deliver(&mut hasty, 0..5), Err(DeliveryError::Later { .. })));
    // It ends at once when it is told to.
    let (stop, texts) = (Stop::default(), texts(0..5));
    stop.set();
    let begin = Instant::now();
    assert!(side.deliver(&delivery(0, &texts), &stop).is_err());
    assert!(begin.elapsed() < Duration::from_secs(10));
    cluster.with(|cluster| cluster.broker_up(1)).expect("up");
    let deadline = Instant::now() + Duration::from_secs(60);
    while deliver(&mut side, 0..5).is_err() {
        assert!(Instant::now() < deadline, "it never came back");
    }
    check(&cluster, 5);
}

#[test]
fn wrong_settings_are_named() {
    let refused = |change: fn(&mut KafkaSinkOptions), says: &str| {
        let mut options = KafkaSinkOptions::new(vec!["a:1".to_owned()], "t".to_owned());
        change(&mut options);
        let error = options.check().expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(|options| options.topic = "^a".to_owned(), "no topic's name");
    refused(|options| drop(options.properties.insert("acks".into(), "1".into())), "properties.acks: a sink needs all");
    refused(|options| drop(options.properties.insert("sasl.password".into(), "x".into())), "its value is a secret");
    refused(|options| options.brokers.clear(), "brokers: none");
}
