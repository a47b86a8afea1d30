//! Avro and Arrow through the doors: bodies over HTTP, records of topics, and what other makers' libraries write.

use crate::support::{TestServer, success};
use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::prelude::SessionContext;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::ids::TagId;
use engine_sql::facts::DeltaTables;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ARROW: &str = "application/vnd.apache.arrow.stream";

fn fact() -> Value {
    json!({"columns": {"page": "string", "amount": {"decimal": [12, 2]}}, "activity": {"dimensions": ["page"], "measures": ["amount"]}})
}

fn body(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a codec");
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).expect("a writer in memory");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.into_inner().expect("written")
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

/// Events of now; the 7th of each ten has no user.
fn sales(rows: std::ops::Range<i64>) -> RecordBatch {
    let now = jiff::Timestamp::now().as_millisecond();
    let user = |row: i64| (row % 10 != 7).then(|| format!("u{row}"));
    let pages: DictionaryArray<Int32Type> = rows.clone().map(|row| ["home", "shop"][row as usize % 2]).collect();
    batch(vec![
        ("user_id", Arc::new(rows.clone().map(user).collect::<StringArray>())),
        ("ts", Arc::new(rows.clone().map(|_| Some(now)).collect::<TimestampMillisecondArray>())),
        ("page", Arc::new(pages)),
        ("amount", Arc::new(rows.clone().map(|row| Some(row as f64 + 0.25)).collect::<Float64Array>())),
        ("shelf", Arc::new(rows.map(Some).collect::<Int64Array>())),
    ])
}

fn post(server: &TestServer, path: &str, body: Vec<u8>) -> reqwest::blocking::RequestBuilder {
    server.post(path).header("content-type", ARROW).body(body)
}

#[test]
fn events_come_as_columns() {
    let server = TestServer::start();
    server.put_catalog(&json!({"facts": {"sale": fact()}}));
    for (codec, rows) in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)].into_iter().zip(0..) {
        let rows = rows * 20..rows * 20 + 20;
        let answer = success(post(&server, "/v1/facts/sale", body(&[sales(rows)], codec)).send().expect("post"));
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(18), &json!(2)), "{answer}");
        assert_eq!(answer["errors"][1], json!({"line": 18, "error": "`user_id` is NULL"}));
    }
    server.settle();
    assert_eq!(server.count("did('sale')"), 54);
    assert_eq!(server.count("did('sale', page = 'home', sum(amount) = 4.25)"), 1);
}

/// A body of several batches breaks off; sent again with its key it goes on where it stopped.
#[test]
fn a_body_that_broke_off_counts_once() {
    let mut server = TestServer::start();
    server.put_catalog(&json!({"facts": {"sale": fact()}}));
    let whole = body(&[sales(0..30_000), sales(30_000..60_000), sales(60_000..90_000)], None);
    let send = |server: &TestServer, body: &[u8]| {
        post(server, "/v1/facts/sale", body.to_vec()).header("idempotency-key", "k").send().expect("post")
    };
    let broken = send(&server, &whole[..whole.len() - 1000]);
    assert_eq!(broken.status().as_u16(), 400);
    let broken: Value = broken.json().expect("JSON");
    assert!(broken["detail"].as_str().expect("why").contains("ends inside it"), "{broken}");
    assert!(broken["suggestion"].as_str().expect("advice").contains("Idempotency-Key"), "{broken}");
    server.settle();
    let before = server.count("did('sale')");
    assert!(before > 0 && before < 81_000, "{before}");
    server.kill();
    server.restart();
    let answer = success(send(&server, &whole));
    assert_eq!((&answer["accepted"], &answer["repeated"]), (&json!(81_000), &json!(false)), "{answer}");
    let again = success(send(&server, &whole));
    assert_eq!(again["repeated"], true, "{again}");
    let other = send(&server, &body(&[sales(0..10)], None));
    assert_eq!(other.status().as_u16(), 422);
    server.settle();
    assert_eq!(server.count("did('sale', count = 1)"), 81_000);
    assert_eq!(server.count("did('sale')"), 81_000);
}

#[test]
fn tags_come_as_columns() {
    let server = TestServer::with_people();
    let mut interest = ListBuilder::new(StringBuilder::new());
    interest.append_value([Some("chess")]);
    interest.append_null();
    let rows = batch(vec![
        ("user_id", Arc::new(StringArray::from(vec!["u1", "u9"]))),
        ("age", Arc::new(Int64Array::from(vec![None, Some(50)]))),
        ("interest", Arc::new(interest.finish())),
    ]);
    let answer =
        success(post(&server, "/v1/tags?visible=true", body(std::slice::from_ref(&rows), None)).send().expect("post"));
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(0)), "{answer}");
    assert_eq!(server.members("age = 50"), ["u9"]);
    assert_eq!(server.members("interest = 'chess' AND age = 31"), ["u1"], "NULL changes nothing");
    assert_eq!(server.count("interest = 'running'"), 0, "a list replaces what was there");
    let rows = batch(vec![("user_id", rows.column(0).clone()), ("agee", rows.column(1).clone())]);
    let refused = post(&server, "/v1/tags", body(&[rows], None)).send().expect("post");
    assert_eq!(refused.status().as_u16(), 400);
    let refused: Value = refused.json().expect("JSON");
    assert_eq!(refused["detail"], "there is no tag `agee`; did you mean `age`?", "{refused}");
}

#[test]
fn bodies_that_cannot_be_are_refused() {
    let server = TestServer::with(|config| config.arrow_message_bytes_max = 100_000);
    server.put_catalog(&json!({"facts": {"sale": fact()}}));
    let refused = |body: Vec<u8>, status: u16, kind: &str, says: &str| {
        let answer = post(&server, "/v1/facts/sale", body).send().expect("post");
        assert_eq!(answer.status().as_u16(), status);
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["type"], format!("urn:beluga:problem:{kind}"), "{answer}");
        assert!(answer["detail"].as_str().expect("why").contains(says), "{answer}");
    };
    refused(Vec::new(), 400, "malformed-body", "the stream is empty");
    refused(b"{\"user_id\":\"u1\"}\n".to_vec(), 400, "malformed-body", "application/x-ndjson");
    refused(body(&[sales(0..10_000)], None), 413, "body-too-large", "fewer rows");
    let zeros: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(300_000)]));
    refused(body(&[batch(vec![("x", zeros)])], Some(CompressionType::ZSTD)), 400, "invalid-field", "`user_id`");
    let users: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(500_000)]));
    let long = batch(vec![("user_id", users), ("ts", Arc::new(Int64Array::from(vec![0])))]);
    refused(body(&[long], Some(CompressionType::LZ4_FRAME)), 413, "body-too-large", "decompressed");
    let untimed = batch(vec![("user_id", Arc::new(StringArray::from(vec!["u1"])))]);
    refused(body(&[untimed], None), 400, "invalid-field", "`ts`");
    let mut bytes = body(&[sales(0..10)], None);
    bytes[4..8].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    refused(bytes, 413, "body-too-large", "2147483647 bytes");
    let answer = server.post("/v1/facts/sale").header("content-type", "application/vnd.apache.arrow.file").body("");
    assert_eq!(answer.send().expect("post").status().as_u16(), 415);
    assert_eq!(server.count("TRUE"), 0);
}

/// A broker with one partition.
struct Broker {
    producer: BaseProducer,
    address: String,
}

const TOPIC: &str = "sales";

impl Broker {
    fn new() -> Broker {
        let producer: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("linger.ms", "0")
            .create()
            .expect("a producer with a cluster of its own");
        let address = {
            let cluster = producer.client().mock_cluster().expect("a cluster");
            cluster.create_topic(TOPIC, 1, 1).expect("a topic");
            cluster.bootstrap_servers()
        };
        Broker { producer, address }
    }

    fn send(&self, payload: &[u8]) {
        let record = BaseRecord::<[u8], [u8]>::to(TOPIC).partition(0).payload(payload);
        self.producer.send(record).map_err(|(error, _)| error).expect("queued");
        self.producer.flush(Duration::from_secs(20)).expect("written");
    }

    fn catalog(&self, more: Value) -> Value {
        let mut source = json!({"kafka": {"brokers": self.address, "topic": TOPIC, "partitions": [0]}, "into": "sale"});
        source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"facts": {"sale": fact()}, "sources": {"sales": source}})
    }
}

fn source(server: &TestServer) -> Value {
    success(server.get("/v1/sources/sales").send().expect("ask"))
}

#[track_caller]
fn wait(server: &TestServer, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = source(server);
        if done(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A registry of schemas over HTTP, with a name and a password; the first question is answered with a failure.
struct Registry {
    url: String,
    asked: Arc<AtomicU32>,
}

const MONEY: &str = r#"{"type":"fixed","name":"shop.Money","size":4,"logicalType":"decimal","precision":9,"scale":2}"#;
const SALE: &str = r#"{"type":"record","name":"shop.Sale","fields":[{"name":"amount","type":"Money"},
    {"name":"user_id","type":"string"},{"name":"page","type":["null","string"]},
    {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

impl Registry {
    fn start(other: Option<String>) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/registry", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicU32::new(0));
        let counter = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = Vec::new();
                let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
                while let Some(Ok(line)) = lines.next().filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
                {
                    head.push(line);
                }
                let (status, body) = answer(&head, counter.fetch_add(1, Ordering::Relaxed), other.as_deref());
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Registry { url, asked }
    }
}

fn answer(head: &[String], number: u32, other: Option<&str>) -> (&'static str, String) {
    let path = head[0].split(' ').nth(1).unwrap_or_default();
    // ann:swordfish
    let is_known = head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Basic YW5uOnN3b3JkZmlzaA=="));
    match (number, is_known, path, other) {
        (0, ..) => ("503 Service Unavailable", String::new()),
        (_, false, ..) => ("401 Unauthorized", String::new()),
        (_, _, "/registry/schemas/ids/7", _) => {
            let references = json!([{"name": "shop.Money", "subject": "mo ney", "version": 3}]);
            ("200 OK", json!({"schema": SALE, "references": references}).to_string())
        }
        (_, _, "/registry/subjects/mo%20ney/versions/3", _) => ("200 OK", json!({"schema": MONEY}).to_string()),
        (_, _, "/registry/schemas/ids/8", _) => {
            ("200 OK", json!({"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}).to_string())
        }
        (_, _, "/registry/schemas/ids/9", Some(schema)) => ("200 OK", json!({"schema": schema}).to_string()),
        _ => ("404 Not Found", json!({"error_code": 40403, "message": "Schema not found"}).to_string()),
    }
}

fn zigzag(value: i64, out: &mut Vec<u8>) {
    let mut bits = (value << 1 ^ value >> 63) as u64;
    while bits > 0x7f {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

/// A sale as [`SALE`] writes it.
fn sale(user: &str, cents: i32) -> Vec<u8> {
    let mut out = cents.to_be_bytes().to_vec();
    zigzag(user.len() as i64, &mut out);
    out.extend_from_slice(user.as_bytes());
    zigzag(0, &mut out);
    zigzag(jiff::Timestamp::now().as_millisecond(), &mut out);
    out
}

fn framed(id: u32, record: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], record].concat()
}

#[test]
fn a_topic_of_avro_is_read_with_schemas_of_a_registry() {
    let broker = Broker::new();
    let registry = Registry::start(None);
    let folder = tempfile::tempdir().expect("temporary folder");
    let secret = folder.path().join("password");
    std::fs::write(&secret, "swordfish\n").expect("written");
    let server = TestServer::with(|config| config.secret_folders = vec![folder.path().to_owned()]);
    (0..10).for_each(|user| broker.send(&framed(7, &sale(&format!("u{user}"), 1234))));
    broker.send(&framed(7, &sale("u1", -34)));
    broker.send(&framed(8, &sale("x", 1)));
    broker.send(&framed(70, &sale("x", 1)));
    broker.send(&framed(7, &[1, 2, 3]));
    let schemas = json!({"url": registry.url, "user": "ann", "password": {"file": secret}});
    server.put_catalog(&broker.catalog(json!({"format": "avro", "schema_registry": schemas})));
    let answer = wait(&server, |answer| answer["records"] == 14 && answer["lag"] == 0);
    assert_eq!((&answer["refused"], &answer["error"]), (&json!(3), &Value::Null), "{answer}");
    let reasons = answer["refused_last"].to_string();
    for reason in ["is one of PROTOBUF", "schemas/ids/70 is not in the registry", "`amount`"] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
    server.settle();
    assert_eq!(server.members("did('sale', sum(amount) = 12.00, count = 2)"), ["u1"]);
    assert_eq!(server.count("did('sale', sum(amount) = 12.34)"), 9);
    // The failure, the schema, what it refers to, and the two that are none.
    assert_eq!(registry.asked.load(Ordering::Relaxed), 5);
    let catalog = server.get("/v1/catalog").send().expect("ask").text().expect("text");
    assert!(!catalog.contains("swordfish") && catalog.contains("\"schema_registry\""), "{catalog}");
}

#[test]
fn a_schema_may_stand_in_the_catalog_or_a_file() {
    let broker = Broker::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("sale.avsc");
    let schema = SALE.replace("\"Money\"", MONEY);
    std::fs::write(&file, &schema).expect("written");
    let server = TestServer::with(|config| config.source_folders = vec![folder.path().to_owned()]);
    broker.send(&sale("u1", 100));
    let inline: Value = serde_json::from_str(&schema).expect("JSON");
    server.put_catalog(&broker.catalog(json!({"format": "avro", "schema": inline})));
    wait(&server, |answer| answer["records"] == 1);
    server.put_catalog(&broker.catalog(json!({"format": "avro", "schema_file": file,
        "map": {"user_id": "user_id", "ts": "ts", "amount": "amount", "page": {"path": "page", "default": "none"}}})));
    broker.send(&sale("u2", 100));
    wait(&server, |answer| answer["records"] == 1 && answer["partitions"][0]["position"] == 2);
    server.settle();
    assert_eq!(server.members("did('sale', page = 'none')"), ["u2"]);
    assert_eq!(server.count("did('sale', sum(amount) = 1.00)"), 2);
}

#[test]
fn a_topic_of_arrow_is_read_row_by_row() {
    let broker = Broker::new();
    let server = TestServer::start();
    broker.send(&body(&[sales(0..20), sales(20..40)], Some(CompressionType::ZSTD)));
    let whole = body(&[sales(40..60)], None);
    broker.send(&whole[..whole.len() - 50]);
    broker.send(&whole);
    server.put_catalog(&broker.catalog(json!({"format": "arrow"})));
    let answer = wait(&server, |answer| answer["records"] == 3 && answer["lag"] == 0);
    assert_eq!(answer["refused"], 1 + 6, "{answer}");
    assert!(answer["refused_last"].to_string().contains("row 18: `user_id` is NULL"), "{answer}");
    server.settle();
    assert_eq!(server.count("did('sale', count = 1)"), 54);
    assert_eq!(server.count("did('sale')"), 54);
}

#[test]
fn formats_that_cannot_be_are_refused_with_their_place() {
    let broker = Broker::new();
    let server = TestServer::start();
    let refused = |more: Value, pointer: &str, says: &str| {
        let answer = server.put("/v1/catalog").json(&broker.catalog(more)).send().expect("put");
        assert_eq!(answer.status().as_u16(), 400);
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["pointer"], format!("/sources/sales{pointer}"), "{answer}");
        assert!(answer["detail"].as_str().expect("why").contains(says), "{answer}");
    };
    let record = || json!({"type": "record", "name": "R", "fields": []});
    refused(json!({"format": "avro"}), "/format", "avro takes `schema`");
    refused(json!({"schema": record()}), "/schema", "it goes with `format: avro`");
    refused(json!({"format": "avro", "schema": {"type": "int"}}), "/schema", "must be a record");
    refused(json!({"format": "avro", "schema": record(), "schema_file": "/a"}), "/schema_file", "say one of");
    refused(json!({"format": "avro", "schema_file": "/etc/passwd"}), "/schema_file", "`source_folders`");
    let registry = |more: Value| json!({"format": "avro", "schema_registry": more});
    refused(registry(json!({"url": "ftp://x"})), "/schema_registry/url", "`ftp:` is not spoken");
    refused(registry(json!({"url": "http://a:b@x"})), "/schema_registry/url", "not in the address");
    let secret = json!({"url": "http://x", "user": "a", "password": {"env": "HOME"}});
    refused(registry(secret), "/schema_registry/password", "`BELUGA_SECRET_`");
}

/// Runs the script, if `BELUGA_KAFKA_PYTHON` names a Python with its libraries.
fn python(arguments: &[&str]) -> Option<Vec<u8>> {
    let python = std::env::var_os("BELUGA_KAFKA_PYTHON")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/payload_producer.py");
    let output = Command::new(python).arg(script).args(arguments).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// fastavro and pyarrow write the same rows, one to a topic and the other as a body; they give the same events.
#[test]
fn what_other_libraries_write_is_read() {
    let Some(schema) = python(&["schema"]) else { return };
    let broker = Broker::new();
    let registry = Registry::start(Some(String::from_utf8(schema).expect("text")));
    let folder = tempfile::tempdir().expect("temporary folder");
    let secret = folder.path().join("password");
    std::fs::write(&secret, "swordfish").expect("written");
    let mut server = TestServer::with(|config| config.secret_folders = vec![folder.path().to_owned()]);
    python(&["avro", &broker.address, TOPIC, "2500", "9"]).expect("written");
    let schemas = json!({"url": registry.url, "user": "ann", "password": {"file": secret}});
    let mut catalog = broker.catalog(json!({"format": "avro", "schema_registry": schemas}));
    let columns = json!({"page": "string", "amount": {"decimal": [12, 2]}, "sold_on": "timestamp", "order_id": "string", "items": "json"});
    for name in ["sale", "body"] {
        catalog["facts"][name] = fact();
        catalog["facts"][name]["columns"] = columns.clone();
    }
    server.put_catalog(&catalog);
    let answer = wait(&server, |answer| answer["records"] == 2500 && answer["lag"] == 0);
    assert_eq!(answer["refused"], 0, "{answer}");
    for (codec, rows) in [("none", 2500), ("lz4", 10), ("zstd", 10)] {
        let body = python(&["arrow", &rows.to_string(), codec]).expect("written");
        let answer = success(post(&server, "/v1/facts/body", body).send().expect("post"));
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(rows), &json!(0)), "{codec}: {answer}");
    }
    server.stop();
    let read = |fact: &str, rows: usize| {
        let sql = "SELECT user_id, ts, page, amount, sold_on, order_id, items FROM fact";
        let batches = table(&server.data(), fact, sql);
        let text = |array: &ArrayRef| cast(array, &DataType::Utf8).expect("text");
        let mut lines: Vec<String> = batches
            .iter()
            .flat_map(|batch| {
                let columns: Vec<ArrayRef> = batch.columns().iter().map(text).collect();
                (0..batch.num_rows())
                    .map(|row| {
                        let cells = columns.iter().map(|column| column.as_string::<i32>().value(row).to_owned());
                        cells.collect::<Vec<_>>().join(" ")
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(lines.len(), rows);
        lines.sort();
        lines.dedup();
        lines
    };
    let (avro, arrow) = (read("sale", 2500), read("body", 2520));
    assert_eq!(avro.len(), 2500);
    assert_eq!(avro, arrow);
    assert!(
        avro.iter().any(|line| line.starts_with("u3 2026-11-01T10:00:00.000003") && line.contains(" -0.25 ")),
        "{}",
        avro[3]
    );
}

/// Rows of a fact of the comparison.
fn table(data: &Path, name: &str, query: &str) -> Vec<RecordBatch> {
    let column = |(name, column_type): (&str, ColumnType)| Column { name: name.to_owned(), column_type };
    let columns = [
        ("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ("sold_on", ColumnType::Timestamp),
        ("items", ColumnType::Json),
        ("order_id", ColumnType::String),
        ("page", ColumnType::String),
    ];
    let fact = Fact {
        id: TagId::FIRST_DECLARED,
        columns: columns.map(column).into(),
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    };
    let mut catalog = Catalog::default();
    catalog.declare_fact(name, fact).expect("a fact");
    let tables = DeltaTables::open(&data.join("facts")).expect("tables");
    let provider = tables.read(name, catalog.fact(name).expect("declared"), None).expect("readable");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let session = SessionContext::new();
        session.register_table("fact", provider).expect("registered");
        session.sql(query).await.expect("planned").collect().await.expect("read")
    })
}
