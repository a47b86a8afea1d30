//! Sinks through the doors: what is declared, who is told what, and what becomes of it when either side fails or is killed.
//!
//! `BELUGA_CRASH_ROUNDS=1000` kills more often, `BELUGA_CRASH_SEED` repeats a failed run's choices.

use crate::process::wait_until;
use crate::support::{TestServer, beluga, stdout, success};
use crate::victim::{Random, Server, from_environment};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ring::hmac;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An address that takes what is posted to it, and answers as it is told.
struct Hook {
    url: String,
    received: Arc<Mutex<Received>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Received {
    posts: Vec<Post>,
    /// What the next posts are answered; none: 200.
    answers: Vec<Reply>,
}

#[derive(Clone)]
struct Post {
    headers: HeaderMap,
    body: String,
    was_taken: bool,
}

#[derive(Clone)]
enum Reply {
    Status(u16, Vec<(&'static str, &'static str)>),
    /// It takes the post, and then longer than anybody waits.
    Silence,
}

impl Hook {
    fn new() -> Hook {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let received: Arc<Mutex<Received>> = Arc::default();
        let shared = received.clone();
        let take = async move |headers: HeaderMap, body: String| {
            let reply = {
                let mut received = shared.lock().expect("lock");
                let reply = if received.answers.is_empty() { None } else { Some(received.answers.remove(0)) };
                let was_taken = !matches!(&reply, Some(Reply::Status(status, _)) if *status > 299);
                received.posts.push(Post { headers, body, was_taken });
                reply
            };
            match reply {
                None => (StatusCode::OK, HeaderMap::new()),
                Some(Reply::Silence) => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    (StatusCode::OK, HeaderMap::new())
                }
                Some(Reply::Status(status, headers)) => {
                    let headers = headers
                        .iter()
                        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
                    (StatusCode::from_u16(status).expect("a status"), headers.collect())
                }
            }
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let routes = axum::Router::new().route("/hook", post(take));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Hook { url, received, _runtime: runtime }
    }

    fn answer(&self, answers: Vec<Reply>) {
        self.received.lock().expect("lock").answers = answers;
    }

    fn posts(&self) -> Vec<Post> {
        self.received.lock().expect("lock").posts.clone()
    }

    /// The records that were taken: all of them, with those that came again.
    fn records(&self) -> Vec<Value> {
        let taken = self.posts().into_iter().filter(|post| post.was_taken);
        taken.flat_map(|post| serde_json::from_str::<Vec<Value>>(&post.body).expect("an array")).collect()
    }
}

impl Post {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }
}

fn text(record: &Value, name: &str) -> String {
    record[name].as_str().unwrap_or_else(|| panic!("no {name} in {record}")).to_owned()
}

/// What records say, shortly.
fn told(records: &[Value]) -> Vec<String> {
    let line = |record: &Value| ["type", "audience", "user_id"].map(|name| text(record, name)).join(" ");
    records.iter().map(line).collect()
}

fn start(change: impl FnOnce(&mut api::config::Config)) -> TestServer {
    TestServer::with(|config| {
        config.live_interval = Duration::from_millis(20);
        change(config);
    })
}

fn put_live(server: &TestServer, name: &str, expression: &str) {
    let body = json!({"where": expression, "live": true});
    success(server.put(&format!("/v1/audiences/{name}")).json(&body).send().expect("put"));
}

fn sink(server: &TestServer, name: &str) -> Value {
    success(server.get(&format!("/v1/sinks/{name}")).send().expect("ask"))
}

fn set_age(server: &TestServer, ages: &[(&str, u64)]) {
    let line = |(user, age): &(&str, u64)| json!({"user_id": user, "set": {"age": age}}).to_string() + "\n";
    server.post_tags(&ages.iter().map(line).collect::<String>());
}

fn people(sinks: Value) -> Value {
    json!({"tags": {"age": {"type": "number"}}, "facts": {"purchase": {"columns": {"n": "integer", "amount": {"decimal": [9, 2]}}}},
        "sinks": sinks})
}

fn buy(server: &TestServer, numbers: std::ops::Range<u64>) {
    let now = jiff::Timestamp::now();
    let line =
        |n| json!({"user_id": format!("u{}", n % 7), "ts": now.to_string(), "n": n, "amount": 12.5}).to_string() + "\n";
    let answer =
        success(server.post("/v1/facts/purchase").body(numbers.map(line).collect::<String>()).send().expect("post"));
    assert_eq!(answer["rejected"], 0, "{answer}");
}

#[test]
fn a_webhook_is_told_who_enters_and_who_leaves() {
    let hook = Hook::new();
    let secrets = tempfile::tempdir().expect("temporary folder");
    let secret = secrets.path().join("crm");
    std::fs::write(&secret, "tiger-4711\n").expect("written");
    let folder = secrets.path().to_owned();
    let mut server = start(|config| config.secret_folders = vec![folder.clone()]);
    server.put_catalog(&people(json!({})));
    put_live(&server, "grown", "age >= 18");
    put_live(&server, "old", "age >= 65");
    set_age(&server, &[("u1", 20), ("u2", 10), ("u3", 70)]);
    wait_until("three are in", || {
        let live = |name: &str| success(server.get(&format!("/v1/audiences/{name}")).send().expect("get"));
        live("grown")["live"]["size"] == 2 && live("old")["live"]["size"] == 1
    });
    let webhook = json!({"url": hook.url, "secret": {"file": secret}, "headers": {"X-Team": "crm"}, "timeout": "10 s"});
    let crm = json!({"webhook": webhook, "audiences": ["grown"], "linger": "10 ms", "backoff_max": "20 ms"});
    server.put_catalog(&people(json!({"crm": crm})));
    // First those who are in, then changes; of this audience only.
    wait_until("members are told", || hook.records().len() == 2);
    let mut first = told(&hook.records());
    first.sort();
    assert_eq!(first, ["entered grown u1", "entered grown u3"]);
    assert_eq!(hook.records()[0]["initial"], true);
    set_age(&server, &[("u2", 18)]);
    wait_until("u2 enters", || told(&hook.records()).last().is_some_and(|line| line == "entered grown u2"));
    set_age(&server, &[("u3", 11)]);
    wait_until("u3 leaves", || told(&hook.records()).last().is_some_and(|line| line == "left grown u3"));
    for post in hook.posts() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"tiger-4711");
        let signed = hmac::sign(&key, post.body.as_bytes());
        let hex: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(post.header("beluga-signature"), format!("sha256={hex}"));
        assert_eq!((post.header("content-type"), post.header("x-team")), ("application/json", "crm"));
        assert!(post.header("idempotency-key").starts_with("crm-"));
    }
    // A restart tells nothing again that was noted as told.
    wait_until("all is noted", || sink(&server, "crm")["queued"] == 0);
    let before = hook.records().len();
    server.restart_with(|config| {
        config.secret_folders = vec![folder.clone()];
        config.live_interval = Duration::from_millis(20);
    });
    set_age(&server, &[("u4", 40)]);
    wait_until("u4 enters", || told(&hook.records()).last().is_some_and(|line| line == "entered grown u4"));
    assert_eq!(hook.records().len(), before + 1);
    let shown = stdout(&beluga(&["sinks", "--url", &server.url("")]));
    assert!(
        shown.contains("crm") && shown.contains("running") && shown.contains("audiences grown to webhook"),
        "{shown}"
    );
    let answers =
        success(server.get("/v1/catalog").send().expect("ask")).to_string() + &sink(&server, "crm").to_string();
    assert!(!answers.contains("tiger"), "a secret is shown nowhere");
}

#[test]
fn a_webhook_that_fails_is_told_again_and_one_that_refuses_is_not() {
    let hook = Hook::new();
    let server = start(|_| {});
    let to_hook = json!({"webhook": {"url": hook.url, "timeout": "2 s"}, "from": "purchase", "batch_records": 4,
        "linger": "20 ms", "backoff_max": "20 ms"});
    server.put_catalog(&people(json!({"shop": to_hook})));
    hook.answer(vec![
        Reply::Status(500, vec![]),
        Reply::Status(429, vec![("retry-after", "1")]),
        Reply::Status(408, vec![]),
        Reply::Silence,
    ]);
    let begin = std::time::Instant::now();
    buy(&server, 0..3);
    wait_until("it is told", || sink(&server, "shop")["delivered"] == 3);
    assert!(begin.elapsed() > Duration::from_secs(3), "it asked to be left alone for a second, and was silent for two");
    let posts = hook.posts();
    assert_eq!(posts.len(), 5);
    let same = |name: &str| posts.iter().all(|post| post.header(name) == posts[0].header(name));
    assert!(same("idempotency-key") && posts.iter().all(|post| post.body == posts[0].body));
    let record: Value = serde_json::from_str::<Vec<Value>>(&posts[0].body).expect("an array").remove(0);
    assert_eq!(
        (text(&record, "id"), text(&record, "fact"), &record["n"]),
        ("purchase/0".into(), "purchase".into(), &json!(0))
    );
    assert!(posts[0].body.contains("\"amount\":12.50"), "{}", posts[0].body);
    let answer = sink(&server, "shop");
    assert_eq!((&answer["delivered"], &answer["retries"], &answer["state"]), (&json!(3), &json!(4), &json!("running")));

    // What it will never take becomes dead letters, and the next batch comes.
    hook.answer(vec![Reply::Status(404, vec![]), Reply::Status(302, vec![("location", "http://127.0.0.1:1/")])]);
    buy(&server, 3..5);
    wait_until("two are given up", || sink(&server, "shop")["dead_letters"] == 2);
    buy(&server, 5..6);
    wait_until("a redirect is not followed", || sink(&server, "shop")["dead_letters"] == 3);
    assert!(text(&sink(&server, "shop"), "error").contains("redirects are not followed"));
    buy(&server, 6..7);
    wait_until("it goes on", || hook.records().last().is_some_and(|record| record["n"] == 6));
    wait_until("it is noted", || sink(&server, "shop")["queued"] == 0);
    let metrics = server.get("/metrics").send().expect("ask").text().expect("text");
    assert!(metrics.contains("beluga_sink_dead_letters_total{sink=\"shop\"} 3"), "{metrics}");
    assert!(metrics.contains("beluga_sink_queued{sink=\"shop\"} 0"));

    // A pause gathers.
    success(server.post("/v1/sinks/shop/pause").send().expect("told"));
    buy(&server, 7..9);
    wait_until("they wait", || sink(&server, "shop")["queued"] == 2);
    assert_eq!(sink(&server, "shop")["state"], "paused");
    success(server.post("/v1/sinks/shop/resume").send().expect("told"));
    wait_until("they come", || hook.records().last().is_some_and(|record| record["n"] == 8));
    let unknown: Value = server.post("/v1/sinks/shp/pause").send().expect("ask").json().expect("JSON");
    assert_eq!(unknown["suggestion"], "did you mean `shop`?");
    // Nobody answers any more; the server ends all the same, and soon.
    hook.answer(vec![Reply::Silence; 1000]);
    buy(&server, 9..10);
    wait_until("it is sent", || hook.posts().last().is_some_and(|post| post.body.contains("\"n\":9")));
    let (mut server, begin) = (server, std::time::Instant::now());
    server.stop();
    assert!(begin.elapsed() < Duration::from_secs(8), "it waited for the other side");
}

#[test]
fn a_declaration_that_cannot_be_is_refused_with_what_to_write() {
    let input = tempfile::tempdir().expect("temporary folder");
    let folder = input.path().to_owned();
    let server = start(|config| config.sink_folders = vec![folder.clone()]);
    server.put_catalog(&people(json!({})));
    put_live(&server, "grown", "age >= 18");
    success(server.put("/v1/audiences/still").json(&json!({"where": "age = 1"})).send().expect("put"));
    let refused = |sink: Value, pointer: &str, says: &str| {
        let answer = server.put("/v1/catalog").json(&people(json!({"s": sink}))).send().expect("put");
        assert_eq!(answer.status().as_u16(), 400, "{sink}");
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["pointer"], format!("/sinks/s{pointer}"), "{answer}");
        assert!(text(&answer, "detail").contains(says), "{answer}");
    };
    let files = json!({"folder": folder});
    refused(json!({"from": "purchase"}), "", "say where it goes");
    refused(json!({"files": files}), "", "say what it takes");
    refused(json!({"files": files, "from": "purchase", "audiences": "all"}), "", "say what it takes");
    refused(json!({"files": files, "from": "purchas"}), "/from", "did you mean `purchase`?");
    refused(json!({"files": files, "audiences": ["grwn"]}), "/audiences", "did you mean `grown`?");
    refused(json!({"files": files, "audiences": ["still"]}), "/audiences", "\"live\": true");
    refused(json!({"files": files, "audiences": []}), "/audiences", "write `all`");
    refused(json!({"files": files, "from": "purchase", "initial": "none"}), "/initial", "goes with `audiences`");
    refused(json!({"files": {"folder": "/etc"}, "from": "purchase"}), "/files/folder", "writes such files in");
    refused(json!({"files": {"folder": "out"}, "from": "purchase"}), "/files/folder", "from the root");
    refused(json!({"files": files, "from": "purchase", "queue_bytes": 10}), "/queue_bytes", "from 1048576");
    refused(json!({"webhook": {"url": "crm"}, "from": "purchase"}), "/webhook/url", "write it as https://");
    let hook = json!({"url": "https://crm.example/hook"});
    refused(json!({"webhook": hook, "from": "purchase", "delivery": "exactly_once"}), "/delivery", "Idempotency-Key");
    let answer = server.put("/v1/catalog").json(&people(json!({"s": {"files": files, "form": "purchase"}}))).send();
    assert!(answer.expect("put").text().expect("text").contains("form"));
    // Dropping one must be meant.
    server.put_catalog(&people(json!({"s": {"files": files, "audiences": ["grown"]}})));
    let answer = server.put("/v1/catalog").json(&people(json!({}))).send().expect("put");
    assert_eq!(answer.status().as_u16(), 409);
    // An audience that went does not make the same catalog wrong.
    success(server.client.delete(server.url("/v1/audiences/grown")).send().expect("gone"));
    server.put_catalog(&people(json!({"s": {"files": files, "audiences": ["grown"]}})));
    success(server.put("/v1/catalog?allow_drop=true").json(&people(json!({}))).send().expect("put"));
    assert_eq!(server.get("/v1/sinks/s").send().expect("ask").status().as_u16(), 404);
}

/// The lines of all files, whole or not, in order.
fn lines_in(folder: &Path) -> Vec<Value> {
    let now = || -> std::io::Result<Vec<Value>> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| [Some("ndjson"), Some("part")].contains(&path.extension().and_then(|end| end.to_str())));
        paths.sort();
        let texts = paths.into_iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.iter().flat_map(|text| text.lines()).filter_map(|line| serde_json::from_str(line).ok()).collect())
    };
    loop {
        match now() {
            // It got its last name meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => return read.expect("read"),
        }
    }
}

#[test]
#[cfg(unix)]
fn files_stay_in_their_folders() {
    let (inside, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let folder = inside.path().to_owned();
    std::os::unix::fs::symlink(outside.path(), folder.join("link")).expect("linked");
    let server = start(|config| config.sink_folders = vec![folder.clone()]);
    let to = |folder: PathBuf| people(json!({"s": {"files": {"folder": folder}, "from": "purchase"}}));
    server.put_catalog(&to(folder.join("link")));
    buy(&server, 0..2);
    wait_until("it fails", || sink(&server, "s")["state"] == "failed");
    assert!(text(&sink(&server, "s"), "error").contains("leads out of the folders"));
    assert_eq!(std::fs::read_dir(outside.path()).expect("listed").count(), 0);
    // What came meanwhile waits for a place to go.
    server.put_catalog(&to(folder.join("new/er")));
    wait_until("they come", || lines_in(&folder.join("new/er")).len() == 2);
}

/// The real binary is killed while it delivers. A webhook gets each row, again only under the same id; files get each once.
#[test]
fn killed_at_any_moment_each_row_comes() {
    let rounds = from_environment("BELUGA_CRASH_ROUNDS").unwrap_or(8);
    let seed = from_environment("BELUGA_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("sinks: {rounds} rounds, BELUGA_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let home = tempfile::tempdir().expect("temporary folder");
    let (data, out) = (home.path().join("data"), home.path().join("out"));
    let hook = Hook::new();
    let small = json!({"batch_records": 20, "linger": "5 ms", "backoff_max": "20 ms", "from": "purchase"});
    let sink = |more: Value| {
        let mut sink = small.clone();
        sink.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        sink
    };
    let mut server = Server::start(&data);
    server.put(&people(json!({
        "hook": sink(json!({"webhook": {"url": hook.url, "timeout": "1 s"}})),
        "files": sink(json!({"files": {"folder": out, "max_bytes": 20_000}})),
    })));
    let (mut next, mut acknowledged) = (0, BTreeSet::new());
    for _ in 0..rounds {
        let until = std::time::Instant::now() + Duration::from_millis(random.below(400));
        while std::time::Instant::now() < until {
            let numbers = next..next + 1 + random.below(50);
            let line =
                |n| json!({"user_id": format!("u{}", n % 7), "ts": "2026-11-20T10:00:00Z", "n": n}).to_string() + "\n";
            let body = numbers.clone().map(line).collect::<String>();
            let sent = server.client.post(format!("{}/v1/facts/purchase", server.url)).body(body).send();
            assert!(sent.expect("sent").status().is_success());
            next = numbers.end;
            acknowledged.extend(numbers);
            if random.below(10) == 0 {
                hook.answer(vec![Reply::Status(503, vec![])]);
            }
        }
        server.kill();
        server = Server::start(&data);
    }
    let ask = |name: &str| -> Value {
        server.client.get(format!("{}/v1/sinks/{name}", server.url)).send().expect("ask").json().expect("JSON")
    };
    server.make_visible();
    let numbers = |records: &[Value]| -> BTreeSet<u64> {
        records.iter().map(|record| record["n"].as_u64().expect("a number")).collect()
    };
    wait_until("all came", || {
        numbers(&hook.records()).is_superset(&acknowledged) && numbers(&lines_in(&out)).is_superset(&acknowledged)
    });
    wait_until("nothing waits", || ask("hook")["queued"] == 0 && ask("files")["queued"] == 0);
    let lines = lines_in(&out);
    let ids: Vec<String> = lines.iter().map(|line| text(line, "id")).collect();
    let expected: Vec<String> = (0..ids.len()).map(|row| format!("purchase/{row}")).collect();
    assert_eq!(ids, expected, "each row once, and in order");
    assert_eq!(numbers(&lines).len(), lines.len());
    let mut by_id = BTreeMap::new();
    for record in hook.records() {
        let before = by_id.insert(text(&record, "id"), record.clone());
        assert!(before.is_none_or(|before| before == record), "{record} was another row before");
    }
    assert_eq!(by_id.into_values().collect::<Vec<_>>().len(), lines.len());
    assert!(acknowledged.len() > 100, "too little came through to prove anything");
    server.stop_well();
}

#[cfg(feature = "kafka")]
mod kafka {
    use super::*;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::{Headers, Message};
    use rdkafka::producer::{BaseProducer, Producer};
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

    #[test]
    fn a_topic_gets_each_row_once() {
        let broker: BaseProducer =
            ClientConfig::new().set("test.mock.num.brokers", "1").create().expect("a cluster of its own");
        let address = {
            let cluster = broker.client().mock_cluster().expect("a cluster");
            cluster.create_topic("changes", 1, 1).expect("a topic");
            cluster.bootstrap_servers()
        };
        let mut server = start(|_| {});
        let topic = json!({"kafka": {"brokers": address, "topic": "changes"}, "from": "purchase",
            "delivery": "exactly_once", "batch_records": 10});
        server.put_catalog(&people(json!({"topic": topic})));
        buy(&server, 0..35);
        wait_until("they are sent", || sink(&server, "topic")["delivered"] == 35);
        server.restart();
        buy(&server, 35..50);
        wait_until("the rest is sent", || sink(&server, "topic")["delivered"] == 15);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &address)
            .set("group.id", "reader")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("changes", 0, Offset::Beginning).expect("a place");
        consumer.assign(&list).expect("assigned");
        let mut seen = Vec::new();
        wait_until("they are read", || {
            while let Some(message) = consumer.poll(Duration::from_millis(20)) {
                let message = message.expect("a record");
                let record: Value = serde_json::from_slice(message.payload().expect("bytes")).expect("JSON");
                assert_eq!(message.key().expect("a key"), text(&record, "user_id").as_bytes());
                let header = message.headers().expect("headers").get(0);
                assert_eq!(header.value.expect("bytes"), text(&record, "id").as_bytes());
                seen.push(record["n"].as_u64().expect("a number"));
            }
            seen.len() >= 50
        });
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        let bad = people(json!({"topic": {"kafka": {"brokers": address, "topic": "a/b"}, "from": "purchase"}}));
        let refused: Value = server.put("/v1/catalog").json(&bad).send().expect("put").json().expect("JSON");
        assert_eq!(refused["pointer"], "/sinks/topic/kafka/topic");
    }
}
