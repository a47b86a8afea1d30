//! The Kafka source against a broker of the library's own making, on this machine and without Kafka.
//!
//! Waiting is bounded and for something to happen, never for time to pass.

mod cluster;
mod sinks;

use cluster::{Cluster, Reader};
use ingest::source::kafka::{KafkaSource, OnMissing, Reading, StartAt};
use ingest::source::{Polled, RecordBatch, Source, SourceError, SourcePosition};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn every_record_of_every_partition_once_and_in_order() {
    let cluster = Cluster::new(&[("orders", 3), ("views", 1)]);
    (0..3).for_each(|partition| cluster.numbered("orders", partition, 0..1000 * (partition as u64 + 1)));
    cluster.numbered("views", 0, 0..500);
    let mut reader = Reader::new(cluster.options(&["orders", "views"]));
    reader.until(|reader| reader.count() >= 6500);
    reader.check("orders", &[(0, 1000), (1, 2000), (2, 3000)]);
    reader.check("views", &[(0, 500)]);
    // Then what comes while it reads.
    cluster.numbered("orders", 1, 2000..2100);
    reader.until(|reader| reader.count() >= 6600);
    reader.check("orders", &[(0, 1000), (1, 2100), (2, 3000)]);
    assert_eq!(reader.position().get("orders/1"), Some(2100));
    let partitions = reader.source.partitions();
    assert_eq!(partitions.len(), 4);
    assert!(partitions.iter().all(|partition| partition.lag == Some(0)), "{partitions:?}");
    assert_eq!(reader.source.status().record_count, 6600);
}

#[test]
fn keys_times_and_tombstones_arrive() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.send(BaseRecord::to("t").partition(0).key(&b"k"[..]).payload(&b"p"[..]).timestamp(1_700_000_000_123));
    cluster.send(BaseRecord::to("t").partition(0).key(&b"k"[..]));
    cluster.write("t", 0, [""]);
    let mut source = KafkaSource::open(cluster.fixed("t", &[0])).expect("opens");
    let mut batch = RecordBatch::new();
    let mut read = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while read.len() < 3 && Instant::now() < deadline {
        match source.poll(&mut batch, Duration::from_millis(50)).expect("polls") {
            Polled::Assigned(_) => drop(source.start(&SourcePosition::new()).expect("starts")),
            _ => read.extend(batch.iter().map(|record| {
                let owned = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                assert!(record.timestamp_ms.is_some());
                (
                    record.offset,
                    record.timestamp_ms.filter(|_| record.offset == 0),
                    owned(record.key),
                    owned(record.payload),
                )
            })),
        }
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        read,
        [(0, Some(1_700_000_000_123), text("k"), text("p")), (1, None, text("k"), None), (2, None, None, text("")),]
    );
}

#[test]
fn it_goes_on_where_the_position_says() {
    let cluster = Cluster::new(&[("t", 2)]);
    (0..2).for_each(|partition| cluster.numbered("t", partition, 0..300));
    let mut reader = Reader::new(cluster.options(&["t"]));
    reader.until(|reader| reader.count() >= 600);
    let durable = reader.durable.clone();
    drop(reader);
    (0..2).for_each(|partition| cluster.numbered("t", partition, 300..400));
    // What the broker remembers of us, here nothing, does not matter; nor does where unknown topics begin.
    let options = ingest::source::kafka::KafkaOptions { start: StartAt::Latest, ..cluster.options(&["t"]) };
    let mut reader = Reader::sharing(options, durable);
    reader.until(|reader| reader.count() >= 800);
    reader.check("t", &[(0, 400), (1, 400)]);
    // Back to the middle: the same records again.
    reader.source.seek("t/1", 390).expect("seeks");
    reader.until(|reader| reader.count() >= 810);
    let durable = reader.durable.lock().expect("lock");
    let again: Vec<u64> = durable.1["t/1"][400..].iter().map(|(offset, _)| *offset).collect();
    assert_eq!(again, (390..400).collect::<Vec<_>>());
    assert!(matches!(reader.source.seek("t/7", 0), Err(SourceError::NotAssigned { .. })));
}

/// A source that began at the end of a quiet topic and was restarted began at the end once more, behind what had come
/// in between. So where a partition begins is a position, also if no record ever came.
#[test]
fn the_end_it_began_at_is_remembered() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.numbered("t", 0, 0..10);
    let options = ingest::source::kafka::KafkaOptions { start: StartAt::Latest, ..cluster.fixed("t", &[0]) };
    let mut reader = Reader::new(options.clone());
    reader.until(|reader| !reader.started.is_empty());
    assert_eq!((reader.position().get("t/0"), reader.count()), (Some(10), 0));
    let durable = reader.durable.clone();
    drop(reader);
    cluster.numbered("t", 0, 10..20);
    let mut reader = Reader::sharing(options, durable);
    reader.until(|reader| reader.count() >= 10);
    assert_eq!(reader.durable.lock().expect("lock").1["t/0"][0].0, 10);
}

#[test]
fn members_come_and_go_and_nothing_is_lost_or_repeated() {
    for strategy in ["range", "cooperative-sticky"] {
        let cluster = Cluster::new(&[("t", 4)]);
        let mut options = cluster.options(&["t"]);
        options.properties.insert("partition.assignment.strategy".into(), strategy.into());
        options.batch_records_max = 7;
        (0..4).for_each(|partition| cluster.numbered("t", partition, 0..200));
        let durable = Arc::default();
        let mut one = Reader::sharing(options.clone(), Arc::clone(&durable));
        one.until(|reader| reader.count() > 50);
        let mut two = Reader::sharing(options, Arc::clone(&durable));
        let deadline = Instant::now() + Duration::from_secs(20);
        let both = |one: &Reader, two: &Reader| [one, two].map(|reader| reader.source.partitions().len());
        let mut next = 200;
        while both(&one, &two) != [2, 2] {
            assert!(Instant::now() < deadline, "{strategy}: never shared: {:?}", both(&one, &two));
            one.turn().expect("goes on");
            two.turn().expect("goes on");
            if next < 400 {
                (0..4).for_each(|partition| cluster.numbered("t", partition, next..next + 5));
                next += 5;
            }
        }
        (0..4).for_each(|partition| cluster.numbered("t", partition, next..500));
        drop(one);
        two.until(|reader| reader.count() >= 2000 && reader.source.partitions().len() == 4);
        two.check("t", &[(0, 500), (1, 500), (2, 500), (3, 500)]);
    }
}

#[test]
fn a_topic_made_later_comes_along() {
    let cluster = Cluster::new(&[("shop.a", 1)]);
    cluster.numbered("shop.a", 0, 0..10);
    let mut reader = Reader::new(cluster.options(&["^shop[.].*"]));
    reader.until(|reader| reader.count() >= 10);
    cluster.with(|mock| mock.create_topic("shop.b", 2, 1)).expect("created");
    (0..2).for_each(|partition| cluster.numbered("shop.b", partition, 0..10));
    reader.until(|reader| reader.count() >= 30);
    reader.check("shop.a", &[(0, 10)]);
    reader.check("shop.b", &[(0, 10), (1, 10)]);
}

/// Writes more than the broker keeps of a partition: 5 MiB.
fn truncated(cluster: &Cluster) {
    let payload = vec![b'x'; 100_000];
    (0..80).for_each(|_| cluster.write("t", 0, [&payload]));
}

#[test]
fn records_that_are_gone_are_told() {
    let cluster = Cluster::new(&[("t", 1)]);
    truncated(&cluster);
    let mut reader = Reader::new(cluster.fixed("t", &[0]));
    reader.durable.lock().expect("lock").0.set("t/0", 3);
    let deadline = Instant::now() + Duration::from_secs(20);
    let missing = loop {
        assert!(Instant::now() < deadline);
        match reader.turn() {
            Err(SourceError::Missing(missing)) => break missing,
            other => drop(other.expect("no other error")),
        }
    };
    assert_eq!((missing.needed, missing.end, &*missing.partition), (3, 80, "t/0"));
    assert!(missing.earliest > 3 && missing.lost() == Some(missing.earliest - 3), "{missing:?}");
    let text = SourceError::Missing(missing.clone()).to_string();
    for part in ["offset 3 ", &missing.earliest.to_string(), "on_missing: earliest", "on_missing: latest"] {
        assert!(text.contains(part), "{text}");
    }
    // It stands until somebody decides.
    assert!(matches!(reader.turn(), Err(SourceError::Missing(_))));
    assert_eq!(reader.count(), 0);
    reader.durable.lock().expect("lock").0.set("t/0", missing.earliest);
    reader.until(|reader| reader.count() as u64 == 80 - missing.earliest);
}

#[test]
fn records_that_go_while_it_reads_are_told() {
    let cluster = Cluster::new(&[("t", 1)]);
    truncated(&cluster);
    for (on_missing, skips) in [(OnMissing::Fail, 0), (OnMissing::Earliest, 1), (OnMissing::Latest, 1)] {
        let options = ingest::source::kafka::KafkaOptions { on_missing, ..cluster.fixed("t", &[0]) };
        let mut reader = Reader::new(options);
        reader.until(|reader| reader.position().get("t/0") == Some(80));
        let earliest = reader.started[0].offset;
        // As if it had been slower than the broker deletes.
        reader.source.seek("t/0", 2).expect("seeks");
        if skips == 0 {
            let deadline = Instant::now() + Duration::from_secs(20);
            let missing = loop {
                assert!(Instant::now() < deadline);
                match reader.turn() {
                    Err(SourceError::Missing(missing)) => break missing,
                    other => drop(other.expect("no other error")),
                }
            };
            assert_eq!((missing.needed, missing.lost()), (2, Some(earliest - 2)));
            assert!(matches!(reader.turn(), Err(SourceError::Missing(_))));
            reader.source.seek("t/0", 79).expect("seeks");
            let before = reader.count();
            reader.until(|reader| reader.count() == before + 1);
            continue;
        }
        reader.until(|reader| !reader.skipped.is_empty());
        let skipped = &reader.skipped[0];
        let goes_on = if on_missing == OnMissing::Earliest { earliest } else { 80 };
        assert_eq!(skipped.offset, goes_on);
        assert_eq!(skipped.skipped.as_ref().and_then(|missing| missing.lost()), Some(earliest - 2));
        assert_eq!(reader.source.status().skipped_count, goes_on - 2);
        reader.until(|reader| reader.position().get("t/0") == Some(80));
    }
}

/// The library stops a partition it begins again, and ended the process if that was let go before it had stopped.
#[test]
fn what_was_just_begun_again_can_be_let_go() {
    let cluster = Cluster::new(&[("t", 1)]);
    truncated(&cluster);
    for _ in 0..5 {
        let options = ingest::source::kafka::KafkaOptions { on_missing: OnMissing::Latest, ..cluster.fixed("t", &[0]) };
        let mut reader = Reader::new(options);
        reader.until(|reader| reader.position().get("t/0").is_some());
        reader.source.seek("t/0", 2).expect("seeks");
        reader.until(|reader| !reader.skipped.is_empty());
    }
}

#[test]
fn a_broker_that_goes_and_comes_back_is_waited_for() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.numbered("t", 0, 0..10);
    let mut reader = Reader::new(cluster.options(&["t"]));
    reader.until(|reader| reader.count() >= 10);
    cluster.with(|mock| mock.broker_down(-1)).expect("down");
    reader.until(|reader| reader.source.status().last_error.is_some());
    assert_eq!(reader.turn().expect("no error"), Polled::Idle);
    cluster.with(|mock| mock.broker_up(-1)).expect("up");
    cluster.numbered("t", 0, 10..20);
    reader.until(|reader| reader.count() >= 20);
    reader.check("t", &[(0, 20)]);
    assert_eq!(reader.source.status().last_error, None);
}

#[test]
fn no_broker_is_a_state_and_closing_does_not_wait_for_it() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("port");
    let cluster = Cluster::new(&[("t", 1)]);
    for reading in [Reading::Group("g".into()), Reading::Partitions(vec![0])] {
        let mut options = cluster.options(&["t"]);
        options.brokers = vec![closed.to_string()];
        options.request_timeout = Duration::from_millis(100);
        options.reading = reading;
        let mut reader = Reader::new(options);
        reader.until(|reader| reader.source.status().last_error.is_some());
        assert_eq!(reader.count(), 0);
        let begin = Instant::now();
        drop(reader);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn an_assignment_that_nobody_answered_does_not_hold_up_closing() {
    let cluster = Cluster::new(&[("t", 1)]);
    let mut source = KafkaSource::open(cluster.options(&["t"])).expect("opens");
    let mut batch = RecordBatch::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches!(source.poll(&mut batch, Duration::from_millis(50)), Ok(Polled::Assigned(_))) {
        assert!(Instant::now() < deadline, "never assigned");
    }
    // It comes again, though not at once.
    assert!(matches!(source.poll(&mut batch, Duration::from_millis(10)), Ok(Polled::Assigned(_))));
    let begin = Instant::now();
    drop(source);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_pause_ends_fetching_at_the_buffers_bound() {
    let cluster = Cluster::new(&[("t", 1)]);
    let mut options = cluster.fixed("t", &[0]);
    options.buffer_bytes_max = 100_000;
    options.properties.insert("fetch.message.max.bytes".into(), "20000".into());
    let mut reader = Reader::new(options);
    reader.until(|reader| !reader.started.is_empty());
    reader.source.pause();
    let payload = vec![b'x'; 10_000];
    // Each in a batch of its own, so that the broker has something to bound.
    (0..60).for_each(|_| cluster.write("t", 0, [&payload]));
    reader.until(|reader| reader.source.status().buffered_count >= 9);
    for _ in 0..10 {
        assert_eq!(reader.turn().expect("no error"), Polled::Idle);
        assert!(reader.source.status().buffered_count < 20, "{:?}", reader.source.status());
    }
    assert!(reader.source.status().paused);
    reader.source.resume();
    reader.until(|reader| reader.count() >= 60);
    assert_eq!(reader.position().get("t/0"), Some(60));
}

#[test]
fn the_group_is_told_how_far_records_are_durable() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.numbered("t", 0, 0..10);
    let mut reader = Reader::new(cluster.options(&["t"]));
    reader.until(|reader| reader.count() >= 10);
    let mut durable = SourcePosition::new();
    durable.set("t/0", 7);
    durable.set("elsewhere/0", 1);
    let monitor: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("group.id", "beluga")
        .create()
        .expect("monitor");
    let committed = || {
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 0);
        let list = monitor.committed_offsets(list, Duration::from_secs(5)).expect("answers");
        list.find_partition("t", 0).expect("asked for").offset()
    };
    assert_eq!(committed(), Offset::Invalid, "nothing is committed by itself");
    reader.source.commit(&durable);
    reader.until(|_| committed() == Offset::Offset(7));
}

/// Clients of other makers write, if `BELUGA_KAFKA_PYTHON` names a Python that has kafka-python and confluent-kafka.
#[test]
fn what_other_clients_write_is_read() {
    let Some(python) = std::env::var_os("BELUGA_KAFKA_PYTHON") else { return };
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/kafka_producer.py");
    for (client, compression) in [
        ("kafka-python", "none"),
        ("kafka-python", "gzip"),
        ("confluent-kafka", "gzip"),
        ("confluent-kafka", "snappy"),
        ("confluent-kafka", "lz4"),
        ("confluent-kafka", "zstd"),
    ] {
        let cluster = Cluster::new(&[("t", 2)]);
        let output = std::process::Command::new(&python)
            .arg(&script)
            .args([
                &cluster.brokers,
                "t",
                "1000",
                "--partitions",
                "2",
                "--client",
                client,
                "--compression",
                compression,
            ])
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{client} {compression}: {}", String::from_utf8_lossy(&output.stderr));
        let mut reader = Reader::new(cluster.options(&["t"]));
        reader.until(|reader| reader.count() >= 1000);
        let durable = reader.durable.lock().expect("lock");
        for partition in 0..2 {
            let seen = &durable.1[&format!("t/{partition}")];
            assert_eq!(seen.len(), 500, "{client} {compression}");
            for (offset, payload) in seen {
                let event: serde_json::Value = serde_json::from_str(payload).expect("JSON");
                assert_eq!(event["user_id"], format!("u{}", offset * 2 + partition), "{client} {compression}");
            }
        }
    }
}
