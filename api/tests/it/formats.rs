//! Lists of members: each format read back by somebody else's reader gives the same users.

use crate::process::wait_until;
use crate::support::{TestServer, catalog, success};
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::blocking::Response;
use roaring::{RoaringBitmap, RoaringTreemap};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";
const ROARING: &str = "application/vnd.roaring";
const LISTS: [&str; 4] = [NDJSON, CSV, ARROW, PARQUET];

/// Ids that a careless writer or reader would break.
const AWKWARD: [&str; 12] = [
    "plain",
    "17",
    "-0",
    "a,b",
    "say \"hi\"",
    " begins and ends with a space ",
    "two\nlines",
    "carriage\rreturn",
    "tab\tand\u{1}control",
    "西湖-湖州 🐋",
    "null",
    "=1+1",
];

fn ask(server: &TestServer, accept: &str, body: &Value) -> Response {
    let answer = server.post("/v1/members").header("Accept", accept).json(body).send().expect("ask");
    assert_eq!(answer.status(), 200, "{accept}: {body}");
    assert_eq!(answer.headers()["content-type"], accept);
    answer
}

/// The users of a list, in its order.
fn read(accept: &str, bytes: Bytes) -> Vec<String> {
    match accept {
        NDJSON => {
            let lines = std::str::from_utf8(&bytes).expect("UTF-8").lines();
            lines.map(|line| text(&serde_json::from_str::<Value>(line).expect("JSON")["user_id"])).collect()
        }
        CSV => {
            let mut reader = csv::Reader::from_reader(&bytes[..]);
            assert_eq!(reader.headers().expect("a header").iter().collect::<Vec<_>>(), ["user_id"]);
            reader.records().map(|row| row.expect("a row")[0].to_owned()).collect()
        }
        ARROW => {
            let batches = StreamReader::try_new(&bytes[..], None).expect("an Arrow stream");
            batches.flat_map(|batch| ids(&batch.expect("a batch"))).collect()
        }
        PARQUET => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a Parquet file");
            reader.build().expect("rows").flat_map(|batch| ids(&batch.expect("a batch"))).collect()
        }
        other => panic!("{other} is not a list"),
    }
}

fn ids(batch: &RecordBatch) -> Vec<String> {
    assert_eq!(batch.schema().fields().iter().map(|field| field.name()).collect::<Vec<_>>(), ["user_id"]);
    let column = batch.column(0).as_any().downcast_ref::<StringArray>().expect("text");
    assert_eq!(column.null_count(), 0);
    column.iter().flatten().map(str::to_owned).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn set(users: &[String]) -> BTreeSet<&str> {
    users.iter().map(String::as_str).collect()
}

/// A server with the awkward users, every other one a member.
fn with_awkward_users() -> TestServer {
    let server = TestServer::start();
    server.put_catalog(&catalog());
    let lines = AWKWARD.iter().enumerate().map(|(number, id)| {
        format!("{}\n", json!({"user_id": id, "set": {"age": number, "is_member": number % 2 == 0}}))
    });
    server.post_tags(&lines.collect::<String>());
    server.settle();
    server
}

#[test]
fn every_format_gives_the_same_users_however_awkward_their_ids() {
    let server = with_awkward_users();
    for question in ["TRUE", "is_member", "age > 100"] {
        let expected = server.members(question);
        let fits = |number: &usize| question == "TRUE" || (question == "is_member" && number.is_multiple_of(2));
        let known: Vec<String> = (0..AWKWARD.len()).filter(fits).map(|number| AWKWARD[number].to_owned()).collect();
        assert_eq!(set(&expected), set(&known), "JSON: {question}");
        for accept in LISTS {
            let answer = ask(&server, accept, &json!({"where": question}));
            assert!(answer.headers()["x-epoch"].to_str().expect("text").parse::<u64>().expect("a number") > 0);
            assert_eq!(read(accept, answer.bytes().expect("bytes")), expected, "{accept}: {question}");
        }
    }
}

#[test]
fn bitmaps_hold_the_slots_of_the_same_users_in_whole_and_shard_by_shard() {
    let server = with_awkward_users();
    let bitmap = |question: &str| {
        let bytes = ask(&server, ROARING, &json!({"where": question})).bytes().expect("bytes");
        RoaringTreemap::deserialize_from(&bytes[..]).expect("a portable 64-bit bitmap")
    };
    // What a slot means is told by the questions that one user alone fits.
    let user_of: BTreeMap<u64, &str> = AWKWARD
        .iter()
        .enumerate()
        .map(|(number, id)| {
            let found: Vec<u64> = bitmap(&format!("age = {number}")).iter().collect();
            assert_eq!(found.len(), 1, "{id}");
            (found[0], *id)
        })
        .collect();
    assert_eq!(user_of.len(), AWKWARD.len(), "every user has a slot of its own");
    for question in ["TRUE", "is_member", "NOT is_member AND age > 4", "FALSE"] {
        let whole = bitmap(question);
        let users: BTreeSet<&str> = whole.iter().map(|slot| user_of[&slot]).collect();
        assert_eq!(users, set(&server.members(question)), "{question}");
        let mut joined = RoaringTreemap::new();
        let mut shard = 0;
        loop {
            let path = format!("/v1/members?shard={shard}");
            let answer = server.post(&path).header("Accept", ROARING).json(&json!({"where": question})).send();
            let answer = answer.expect("ask");
            if answer.status() == 404 {
                break;
            }
            let bytes = answer.bytes().expect("bytes");
            let slots = RoaringBitmap::deserialize_from(&bytes[..]).expect("a portable 32-bit bitmap");
            joined.extend(slots.iter().map(|slot| (shard << 32) + u64::from(slot)));
            shard += 1;
        }
        assert!(shard > 1, "one shard would prove little");
        assert_eq!(joined, whole, "{question}");
    }
}

#[test]
fn pages_in_other_formats_say_in_a_header_how_to_go_on() {
    let server = with_awkward_users();
    let expected = server.members("TRUE");
    for accept in LISTS {
        let mut users = Vec::new();
        let mut body = json!({"where": "TRUE", "limit": 5});
        let mut pages = 0;
        loop {
            let answer = ask(&server, accept, &body);
            let next = answer.headers().get("x-next-cursor").map(|value| value.to_str().expect("text").to_owned());
            users.extend(read(accept, answer.bytes().expect("bytes")));
            pages += 1;
            match next {
                Some(cursor) => body = json!({"limit": 5, "cursor": cursor}),
                None => break,
            }
        }
        assert_eq!((pages, users), (3, expected.clone()), "{accept}");
    }
}

/// A server with users whose ids end in their number, of an age that is the number's last two digits.
fn with_many(many: usize, id: &str, change: impl FnOnce(&mut api::config::Config)) -> TestServer {
    let server = TestServer::with(change);
    server.put_catalog(&catalog());
    let line = |n: usize| format!("{{\"user_id\":\"{id}{n}\",\"set\":{{\"age\":{}}}}}\n", n % 100);
    server.post_tags(&(0..many).map(line).collect::<String>());
    server.settle();
    server
}

#[test]
fn a_stream_of_many_users_gives_each_once() {
    let many = 50_000;
    let server = with_many(many, "user-", |_| {});
    let expected: BTreeSet<String> = (0..many).filter(|n| n % 100 != 7).map(|n| format!("user-{n}")).collect();
    for accept in LISTS {
        let bytes = ask(&server, accept, &json!({"where": "age <> 7"})).bytes().expect("bytes");
        let users = read(accept, bytes);
        assert_eq!(users.len(), expected.len(), "{accept}: nobody comes twice");
        assert!(users.into_iter().collect::<BTreeSet<_>>() == expected, "{accept}");
    }
    let bytes = ask(&server, ROARING, &json!({"where": "age <> 7"})).bytes().expect("bytes");
    let bitmap = RoaringTreemap::deserialize_from(&bytes[..]).expect("a portable 64-bit bitmap");
    assert_eq!(bitmap.len(), expected.len() as u64);
    assert!(server.members("age <> 7").into_iter().collect::<BTreeSet<_>>() == expected, "JSON, page by page");

    let pack = |accept: &str| {
        let body = json!({"where": "age <> 7"});
        server.post("/v1/members").header("Accept", accept).header("Accept-Encoding", "gzip").json(&body).send()
    };
    assert_eq!(pack(PARQUET).expect("ask").headers().get("content-encoding"), None, "it is packed in itself");
    let packed = pack(CSV).expect("ask");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().expect("bytes");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("unpack");
    assert!(packed.len() * 2 < unpacked.len(), "{} bytes for {}", packed.len(), unpacked.len());
    assert!(read(CSV, unpacked.into()).into_iter().collect::<BTreeSet<_>>() == expected, "packed");
}

#[test]
fn a_client_that_stops_reading_holds_one_place_and_gives_it_free_when_it_goes_or_is_cancelled() {
    // More than fits between a server and a client that does not read.
    let server = with_many(60_000, &"x".repeat(500), |config| config.concurrent_uploads = 1);
    let body = json!({"where": "TRUE"}).to_string();
    let begin = || {
        let mut connection = TcpStream::connect(server.url("").trim_start_matches("http://")).expect("connect");
        let head =
            format!("POST /v1/members HTTP/1.1\r\nHost: x\r\nAccept: {CSV}\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).expect("send");
        let mut status = *b"HTTP/1.1 ...";
        connection.read_exact(&mut status).expect("an answer");
        status.ends_with(b"200").then_some(connection)
    };
    let connection = begin().expect("the list begins");
    let stream = || server.post("/v1/members").header("Accept", CSV).body(body.clone()).send().expect("ask");
    let refused = stream();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"5".parse().expect("a value")));
    assert_eq!(server.count("TRUE"), 60_000, "questions are answered meanwhile");
    drop(connection);
    wait_until("the place is free", || stream().status() == 200);
    let mut held = None;
    // The list before may still be ending.
    wait_until("another one begins", || {
        held = begin();
        held.is_some()
    });
    let listed =
        || success(server.get("/v1/queries").send().expect("get"))["queries"].as_array().expect("a list").clone();
    for query in listed().iter().filter(|query| query["kind"] == "members" && query["state"] == "running") {
        let url = server.url(&format!("/v1/queries/{}", text(&query["id"])));
        assert!(server.client.delete(url).send().expect("delete").status().is_success());
    }
    wait_until("the place is free, though its client is still there", || stream().status() == 200);
    drop(held);
}

#[test]
fn a_format_that_is_not_known_is_refused_with_those_that_are() {
    let server = TestServer::with_people();
    let answer =
        server.post("/v1/members").header("Accept", "application/vnd.ms-excel").json(&json!({"where": "TRUE"}));
    let answer = answer.send().expect("ask");
    assert_eq!(answer.status(), 406);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().expect("JSON");
    assert_eq!(problem["type"], "urn:beluga:problem:not-acceptable", "{problem}");
    assert!(text(&problem["detail"]).contains("application/vnd.ms-excel"), "{problem}");
    for known in ["application/json", ROARING].into_iter().chain(LISTS) {
        assert!(text(&problem["suggestion"]).contains(known), "{known} is missing: {problem}");
    }
    let any = success(
        server
            .post("/v1/members")
            .header("Accept", "image/png, */*;q=0.1")
            .json(&json!({"where": "TRUE"}))
            .send()
            .expect("ask"),
    );
    assert_eq!(any["users"].as_array().map(Vec::len), Some(4), "who takes anything gets JSON: {any}");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let server = TestServer::with_people();
    let refused = |path: &str, accept: &str, body: Value| {
        let answer = server.post(path).header("Accept", accept).json(&body).send().expect("ask");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().expect("JSON");
        (status, text(&problem["type"]).replace("urn:beluga:problem:", ""), text(&problem["detail"]))
    };
    let (status, kind, detail) = refused("/v1/members?shard=0", "application/json", json!({"where": "TRUE"}));
    assert_eq!((status, kind.as_str()), (400, "invalid-field"), "{detail}");
    let (status, kind, detail) = refused("/v1/members", ROARING, json!({"where": "TRUE", "limit": 3}));
    assert_eq!((status, kind.as_str()), (400, "invalid-field"), "{detail}");
    let (status, kind, detail) = refused("/v1/members?shard=9999", ROARING, json!({"where": "TRUE"}));
    assert_eq!((status, kind.as_str()), (404, "not-found"), "{detail}");
    for accept in ["application/json", ROARING].into_iter().chain(LISTS) {
        let (status, kind, detail) = refused("/v1/members", accept, json!({}));
        assert_eq!((status, kind.as_str()), (400, "invalid-field"), "{accept}: {detail}");
        assert!(detail.contains("`where` is missing"), "{accept}: {detail}");
        let (status, kind, _) = refused("/v1/members", accept, json!({"where": "gendr = 'f'"}));
        assert_eq!((status, kind.as_str()), (400, "unknown-tag"), "{accept}");
    }
}
