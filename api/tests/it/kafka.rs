//! Kafka topics from the catalog to the answer, against the cluster that librdkafka brings along for tests: declared, read,
//! commanded, and killed at any moment.
//!
//! `BELUGA_CRASH_ROUNDS=1000` kills more often, `BELUGA_CRASH_SEED` repeats a failed run's choices. `BELUGA_KAFKA_BROKERS` kills a
//! server that reads from that broker, told librdkafka by `BELUGA_KAFKA_PROPERTIES` (`name=value,…`): see benches/compare/kafka.sh.

use crate::process::wait_until;
use crate::support::{TestServer, beluga, stdout, success};
use crate::tables;
use crate::victim::{Random, Server, from_environment};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use engine::catalog::{Catalog, Column, ColumnType, DEAD_LETTERS, Fact};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A broker with one topic.
struct Broker {
    producer: BaseProducer,
    address: String,
    topic: String,
    /// What clients must be told of it.
    properties: BTreeMap<String, String>,
}

const TOPIC: &str = "views";
const PARTITIONS: i32 = 3;

impl Broker {
    fn new() -> Broker {
        let producer: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("linger.ms", "0")
            .create()
            .expect("a producer with a cluster of its own");
        let address = {
            let cluster = producer.client().mock_cluster().expect("a cluster");
            cluster.create_topic(TOPIC, PARTITIONS, 1).expect("a topic");
            cluster.bootstrap_servers()
        };
        Broker { producer, address, topic: TOPIC.to_owned(), properties: BTreeMap::new() }
    }

    /// The broker that the environment names, with a new topic on it.
    fn from_environment() -> Option<Broker> {
        let address = std::env::var("BELUGA_KAFKA_BROKERS").ok()?;
        let text = std::env::var("BELUGA_KAFKA_PROPERTIES").unwrap_or_default();
        let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let properties: BTreeMap<String, String> = text.split(',').filter_map(pair).collect();
        let mut config = ClientConfig::new();
        for (name, value) in &properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &address).set("linger.ms", "0");
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let topic = format!("{TOPIC}-{}", jiff::Timestamp::now().as_millisecond());
        let wanted = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
        let asked = runtime.block_on(admin.create_topics([&wanted], &options));
        let producer: BaseProducer = config.create().expect("a producer");
        // One that is too old to be asked makes a topic when it hears its name.
        wait_until("the broker has the topic", || {
            let metadata = producer.client().fetch_metadata(Some(&topic), Duration::from_secs(10));
            let metadata = metadata.unwrap_or_else(|error| panic!("{error}; {asked:?}"));
            metadata.topics().first().is_some_and(|topic| topic.partitions().len() >= PARTITIONS as usize)
        });
        Some(Broker { producer, address, topic, properties })
    }

    fn send(&self, partition: i32, payload: &str) {
        let record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition).payload(payload.as_bytes());
        self.producer.send(record).map_err(|(error, _)| error).expect("queued");
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(20)).expect("written");
    }

    /// A catalog that reads the topic.
    fn catalog(&self, fact: Value, more: Value) -> Value {
        let mut properties = json!({"reconnect.backoff.max.ms": "200"});
        let more_properties = self.properties.iter().map(|(name, value)| (name.clone(), json!(value)));
        properties.as_object_mut().expect("an object").extend(more_properties);
        let mut source = json!({
            // Partitions of its own: the cluster's groups take seconds to let a killed member go.
            "kafka": {"brokers": self.address, "topic": self.topic, "partitions": [0, 1, 2], "properties": properties},
            "into": "view",
        });
        source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({
            "tags": {"age": {"type": "number"}},
            "facts": {"view": fact},
            "sources": {"views": source},
        })
    }
}

fn view() -> Value {
    json!({"columns": {"page": "string"}, "activity": {"dimensions": ["page"]}})
}

fn event(user: u64, page: &str) -> String {
    let now = jiff::Timestamp::now();
    json!({"user_id": format!("u{user}"), "ts": now.to_string(), "page": page}).to_string()
}

#[track_caller]
fn wait(what: &str, ask: impl Fn() -> Value, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask();
        if done(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} never happened: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn source(server: &TestServer) -> Value {
    success(server.get("/v1/sources/views").send().expect("ask"))
}

/// Waits until a source has read so many records.
#[track_caller]
fn wait_records(server: &TestServer, records: u64) -> Value {
    wait("reading", || source(server), |answer| answer["records"] == records && answer["lag"] == 0)
}

#[test]
fn a_topic_is_read_shown_and_commanded() {
    let broker = Broker::new();
    let mut server = TestServer::start();
    server.put_catalog(&broker.catalog(view(), json!({})));
    for number in 0..30 {
        broker.send(number % PARTITIONS, &event(number as u64 % 5, "home"));
    }
    broker.send(1, "{\"user_id\":\"u1\",\"ts\":\"yesterday\"}");
    broker.flush();
    let answer = wait_records(&server, 31);
    assert_eq!((&answer["state"], &answer["refused"], &answer["error"]), (&json!("running"), &json!(1), &Value::Null));
    assert_eq!(answer["about"], "kafka topic views into view");
    assert_eq!(answer["refused_last"][0]["partition"], "views/1");
    assert!(answer["refused_last"][0]["error"].as_str().expect("why").contains("`ts`: `yesterday`"), "{answer}");
    assert_eq!(answer["partitions"].as_array().expect("partitions").len(), 3);
    assert!(answer["watermark"].as_str().expect("a time").starts_with("20"), "{answer}");
    server.settle();
    assert_eq!(server.count("did('view', page = 'home', count = 6)"), 5);
    assert_eq!(server.count("TRUE"), 5, "dead letters make no users");
    let metrics = server.get("/metrics").send().expect("ask").text().expect("text");
    assert!(metrics.contains("beluga_source_records_total{source=\"views\"} 31"), "{metrics}");

    // A pause outlives the server.
    success(server.post("/v1/sources/views/pause").send().expect("told"));
    wait("pausing", || source(&server), |answer| answer["state"] == "paused");
    server.restart();
    broker.send(0, &event(9, "home"));
    broker.flush();
    wait("noticing", || source(&server), |answer| answer["state"] == "paused" && answer["lag"] == 1);
    let shown = stdout(&beluga(&["sources", "--url", &server.url("")]));
    assert!(shown.contains("views") && shown.contains("paused"), "{shown}");
    let resumed = beluga(&["sources", "resume", "views", "--url", &server.url("")]);
    assert!(resumed.status.success(), "{resumed:?}");
    wait_records(&server, 1);
    server.settle();
    assert_eq!(server.count("did('view', page = 'home')"), 6);

    // Reading again counts again, and says so.
    let rewound = server.ask("/v1/sources/views/rewind", &json!({"to": {"views/2": 5}}));
    assert_eq!(rewound["positions"]["views/2"], 5);
    assert!(rewound["note"].as_str().expect("a warning").contains("count again"), "{rewound}");
    wait_records(&server, 1 + 5);
    server.settle();
    assert_eq!(server.count("did('view', count >= 7)"), 5);
    let refused = server.post("/v1/sources/views/rewind").json(&json!({"to": {"views/7": 5}})).send().expect("ask");
    assert_eq!(refused.status().as_u16(), 409);
    let refused = server.post("/v1/sources/viws/pause").send().expect("ask");
    let refused: Value = refused.json().expect("JSON");
    assert_eq!(refused["suggestion"], "did you mean `views`?");

    server.stop();
    let letters = table(&server.data(), DEAD_LETTERS, "SELECT source, reason, record FROM fact");
    let said = |column: usize| text(&letters[0], column).as_string::<i32>().value(0).to_owned();
    assert_eq!((letters.len(), letters[0].num_rows(), said(0).as_str()), (1, 1, "views"));
    assert!(said(1).contains("yesterday") && said(2).starts_with("{\"user_id\":\"u1\""));
}

#[test]
fn other_shapes_are_mapped_and_what_is_not_wanted_is_left_out() {
    let broker = Broker::new();
    let server = TestServer::start();
    let mapping = json!({
        "map": {"user_id": "who.id", "ts": "$timestamp", "page": {"path": "url", "default": "none"}},
        "where": [{"path": "robot", "not": true}],
    });
    server.put_catalog(&broker.catalog(view(), mapping));
    broker.send(0, "{\"who\":{\"id\":7},\"url\":\"home\"}");
    broker.send(0, "{\"who\":{\"id\":8},\"url\":null}");
    broker.send(0, "{\"who\":{\"id\":9},\"url\":\"home\",\"robot\":true}");
    broker.flush();
    let answer = wait_records(&server, 3);
    assert_eq!((&answer["refused"], &answer["filtered"]), (&json!(0), &json!(1)), "{answer}");
    server.settle();
    assert_eq!(server.members("did('view', page = 'home')"), ["7"]);
    assert_eq!(server.members("did('view', page = 'none')"), ["8"]);

    // The same topic into tags, as another source.
    let mut catalog = broker.catalog(view(), json!({}));
    catalog["sources"]["ages"] = json!({
        "kafka": {"brokers": broker.address, "topic": TOPIC, "partitions": [1]},
        "into": "tags", "map": {"user_id": "id", "set": {"age": {"path": "years", "type": "number"}}},
    });
    server.put_catalog(&catalog);
    broker.send(1, "{\"id\":\"a\",\"years\":\"44\"}");
    broker.flush();
    let age = || success(server.get("/v1/sources/ages").send().expect("ask"));
    wait("reading", age, |answer| answer["records"] == 1);
    server.settle();
    assert_eq!(server.count("age = 44"), 1);
}

#[test]
fn what_cannot_be_declared_is_refused_with_its_place() {
    let broker = Broker::new();
    let server = TestServer::start();
    let refused = |change: &dyn Fn(&mut Value), pointer: &str, says: &str| {
        let mut catalog = broker.catalog(view(), json!({}));
        change(&mut catalog["sources"]["views"]);
        let answer = server.put("/v1/catalog").json(&catalog).send().expect("put");
        assert_eq!(answer.status().as_u16(), 400);
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["pointer"], pointer, "{answer}");
        assert!(answer["detail"].as_str().expect("why").contains(says), "{answer}");
    };
    refused(&|source| source["into"] = json!("veiw"), "/sources/views/into", "did you mean `view`?");
    refused(&|source| drop(source["kafka"].take()), "/sources/views", "say where it reads");
    refused(&|source| source["kafka"]["topic"] = json!("a/b"), "/sources/views/kafka/topics", "no topic's name");
    refused(&|source| source["kafka"]["start"] = json!("soon"), "/sources/views/kafka/start", "`latest`");
    refused(&|source| source["map"] = json!({"user_id": "a..b"}), "/sources/views/map/user_id", "");
    refused(&|source| source["map"] = json!({"user_id": "a", "pge": "b"}), "/sources/views/map/pge", "`page`");
    let secret = json!({"mechanism": "plain", "user": "ann", "password": {"env": "HOME"}});
    refused(
        &|source| source["kafka"]["sasl"] = secret.clone(),
        "/sources/views/kafka/sasl/password",
        "`BELUGA_SECRET_`",
    );
    let secret = json!({"mechanism": "plain", "user": "ann", "password": {"file": "/etc/shadow"}});
    refused(
        &|source| source["kafka"]["sasl"] = secret.clone(),
        "/sources/views/kafka/sasl/password",
        "`secret_folders`",
    );
    let mut shared = broker.catalog(view(), json!({}));
    for name in ["views", "again"] {
        shared["sources"][name] =
            json!({"kafka": {"brokers": broker.address, "topic": TOPIC, "group": "g"}, "into": "view"});
    }
    let answer: Value = server.put("/v1/catalog").json(&shared).send().expect("put").json().expect("JSON");
    assert!(answer["detail"].as_str().expect("why").contains("would share topic `views`"), "{answer}");
    assert_eq!(success(server.get("/v1/sources").send().expect("ask"))["sources"], json!([]));

    // Gone without being told so, a source would forget where it was.
    server.put_catalog(&broker.catalog(view(), json!({})));
    let mut without = broker.catalog(view(), json!({}));
    without.as_object_mut().expect("an object").remove("sources");
    let answer = server.put("/v1/catalog").json(&without).send().expect("put");
    assert_eq!(answer.status().as_u16(), 409);
    success(server.put("/v1/catalog?allow_drop=true").json(&without).send().expect("put"));
    assert_eq!(success(server.get("/v1/sources").send().expect("ask"))["sources"], json!([]));
}

#[test]
fn the_demo_takes_a_broker() {
    let broker = Broker::new();
    let arguments = [
        "demo",
        "--once",
        "--users",
        "1000",
        "--events",
        "3000",
        "--http",
        "127.0.0.1:0",
        "--flight",
        "127.0.0.1:0",
        "--kafka",
    ];
    let demo = beluga(&[&arguments[..], &[broker.address.as_str()]].concat());
    let told = stdout(&demo);
    assert!(demo.status.success() && told.contains("Streamed 3,000 events"), "{demo:?}");
    assert!(told.contains("All of 1,000 users were asked"), "{told}");
}

const USERS: u64 = 40;

/// The real binary is killed at random moments while it reads a topic and a growing file, also while it recovers. No event has
/// an id, so one that was lost or read twice shows in the counts, of the activity and of the rows.
#[test]
fn killed_while_it_reads_it_counts_each_record_once() {
    let rounds = from_environment("BELUGA_CRASH_ROUNDS").unwrap_or(30);
    let seed = from_environment("BELUGA_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let mut random = Random(seed);
    let broker = Broker::from_environment().unwrap_or_else(Broker::new);
    println!("crash test of sources: {rounds} rounds beside {}, BELUGA_CRASH_SEED={seed}", broker.address);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (data, input) = (folder.path().join("data"), folder.path().join("in"));
    std::fs::create_dir(&input).expect("a folder");
    let file = File::create(input.join("views.ndjson")).expect("a file");
    let mut server = Server::start(&data);
    let mut catalog = broker.catalog(view(), json!({}));
    catalog["sources"]["lines"] = json!({"files": {"paths": input, "every": "20 ms"}, "into": "view"});
    server.put(&catalog);
    let mut expected = [0u64; USERS as usize];
    for round in 0..rounds {
        let writing = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let written = scope.spawn(|| write_until(&broker, &file, &writing, seed ^ round));
            std::thread::sleep(Duration::from_millis(random.below(300)));
            server.kill();
            while random.below(3) == 0 {
                let mut recovering = Server::spawn(&data);
                std::thread::sleep(Duration::from_millis(random.below(150)));
                recovering.kill();
            }
            writing.store(false, Ordering::Relaxed);
            for (sum, more) in expected.iter_mut().zip(written.join().expect("written")) {
                *sum += more;
            }
        });
        server = Server::start(&data);
        compare(&server, &expected, round);
    }
    server.kill();
    server = Server::start(&data);
    server.stop_well();
    assert_eq!(rows(&data), counts(&expected), "the rows are those of the activity");
    assert!(expected.iter().sum::<u64>() > rounds, "too little was written to prove anything");
}

/// Writes as fast as it is allowed to; answers how often each user came.
fn write_until(broker: &Broker, mut file: &File, writing: &AtomicBool, seed: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let mut counts = vec![0; USERS as usize];
    while writing.load(Ordering::Relaxed) {
        for _ in 0..=random.below(60) {
            let user = random.below(USERS);
            counts[user as usize] += 1;
            let line = event(user, "home");
            match random.below(PARTITIONS as u64 + 1) as i32 {
                PARTITIONS => {
                    // A line may be read before it is whole.
                    let (begin, end) = line.split_at(random.below(line.len() as u64) as usize);
                    file.write_all(begin.as_bytes()).expect("written");
                    file.write_all(format!("{end}\n").as_bytes()).expect("written");
                }
                partition => broker.send(partition, &line),
            }
        }
        broker.flush();
        std::thread::sleep(Duration::from_millis(random.below(4)));
    }
    counts
}

fn counts(expected: &[u64]) -> BTreeMap<String, u64> {
    let seen = (0..USERS).zip(expected).filter(|(_, count)| **count > 0);
    seen.map(|(user, count)| (format!("u{user}"), *count)).collect()
}

fn compare(server: &Server, expected: &[u64], round: u64) {
    let total: u64 = expected.iter().sum();
    let by_count = |found: &mut BTreeMap<String, u64>, count: u64| {
        for user in server.members(&format!("did('view', page = 'home', count = {count})")) {
            found.insert(user, count);
        }
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        server.make_visible();
        let mut found = BTreeMap::new();
        let mut distinct: Vec<u64> = expected.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.into_iter().filter(|count| *count > 0).for_each(|count| by_count(&mut found, count));
        if found == counts(expected) {
            return;
        }
        let seen: u64 = found.values().sum();
        assert!(Instant::now() < deadline, "round {round}: {seen} of {total} events, {found:?}, {expected:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many rows each user has in the fact's table.
fn rows(data: &Path) -> BTreeMap<String, u64> {
    let mut rows = BTreeMap::new();
    for batch in table(data, "view", "SELECT user_id, CAST(weight AS BIGINT) AS weight FROM fact") {
        for (user, weight) in text(&batch, 0).as_string::<i32>().iter().zip(batch.column(1).as_primitive::<Int64Type>())
        {
            assert_eq!(weight, Some(1));
            *rows.entry(user.expect("a user").to_owned()).or_default() += 1;
        }
    }
    rows
}

fn text(batch: &RecordBatch, column: usize) -> ArrayRef {
    cast(batch.column(column), &DataType::Utf8).expect("text")
}

/// What a query of a fact's table answers.
fn table(data: &Path, name: &str, query: &str) -> Vec<RecordBatch> {
    let mut catalog = Catalog::default();
    let view = Fact { columns: vec![Column { name: "page".to_owned(), column_type: ColumnType::String }], ..letters() };
    catalog.declare_fact("view", view).expect("a fact");
    tables::query(data, name, catalog.fact(name).expect("declared"), query)
}

fn letters() -> Fact {
    Catalog::default().fact(DEAD_LETTERS).expect("always there").clone()
}
