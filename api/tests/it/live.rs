//! Live audiences through the doors: who enters and leaves, as a stream, as numbers, as rows; and after an end.

use crate::process::wait_until;
use crate::support::{BELUGA, TestServer, beluga, command, stderr, success};
use crate::tables;
use engine::catalog::{AUDIENCE_CHANGES, Catalog};
use reqwest::blocking::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn start() -> TestServer {
    TestServer::with(|config| config.live_interval = Duration::from_millis(20))
}

fn put_live(server: &TestServer, name: &str, expression: &str) -> Value {
    let body = json!({"where": expression, "live": true});
    success(server.put(&format!("/v1/audiences/{name}")).json(&body).send().expect("put"))
}

fn live(server: &TestServer, name: &str) -> Value {
    success(server.get(&format!("/v1/audiences/{name}")).send().expect("get"))["live"].clone()
}

fn wait_for_size(server: &TestServer, name: &str, size: u64) {
    wait_until(&format!("{name} has {size} members"), || live(server, name)["size"] == size);
}

/// An event of a stream.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Event {
    fn users(&self, field: &str) -> BTreeSet<&str> {
        self.data[field].as_array().expect("a list").iter().map(|user| user.as_str().expect("text")).collect()
    }
}

struct Listener(Receiver<Event>);

impl Listener {
    fn new(server: &TestServer, name: &str, last_id: Option<&str>) -> Listener {
        let mut request = server.get(&format!("/v1/audiences/{name}/changes"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().expect("listen");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Listener(events(answer))
    }

    fn next_named(&self, name: &str) -> Event {
        let event = self.0.recv_timeout(PATIENCE).expect("an event");
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

/// Reads a stream on a thread of its own.
fn events(answer: Response) -> Receiver<Event> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut event = Event { name: String::new(), id: None, data: Value::Null };
        for line in BufReader::new(answer).lines().map_while(Result::ok) {
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                _ if line.is_empty() && !event.name.is_empty() => {
                    let next = Event { name: String::new(), id: None, data: Value::Null };
                    if sender.send(std::mem::replace(&mut event, next)).is_err() {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
    receiver
}

#[test]
fn who_may_not_listen_any_more_is_told_no_more() {
    let server = start();
    server.put_people();
    put_live(&server, "yogis", "interest = 'yoga'");
    wait_for_size(&server, "yogis", 2);
    let token = |by: Option<&str>, name: &str, scopes: &[&str]| -> String {
        let asked = server.post("/v1/tokens").json(&json!({"name": name, "scopes": scopes}));
        let asked = by.iter().fold(asked, |asked, by| asked.bearer_auth(by));
        success(asked.send().expect("post"))["token"].as_str().expect("its text").to_owned()
    };
    let root = token(None, "root", &["admin"]);
    let reader = token(Some(&root), "reader", &["query", "export"]);
    let asked = server.get("/v1/audiences/yogis/changes").bearer_auth(&reader);
    let listener = Listener(events(asked.send().expect("listen")));
    listener.next_named("size");
    let gone = server.client.delete(server.url("/v1/tokens/reader")).bearer_auth(&root).send().expect("revoke");
    assert!(gone.status().is_success());
    assert_eq!(listener.0.recv_timeout(PATIENCE).expect_err("the stream ends"), RecvTimeoutError::Disconnected);
}

#[test]
fn who_enters_and_leaves_is_told() {
    let server = start();
    server.put_people();
    let made = put_live(&server, "yogis", "interest = 'yoga'");
    assert_eq!((&made["where"], made["live"].is_object()), (&json!("interest = 'yoga'"), true));
    wait_for_size(&server, "yogis", 2);
    let listener = Listener::new(&server, "yogis", None);
    assert_eq!(listener.next_named("size").data, json!({"audience": "yogis", "size": 2}));
    server.post_tags(
        r#"{"user_id":"u4","add":{"interest":["yoga"]}}
{"user_id":"u5","add":{"interest":["yoga"]}}
{"user_id":"u1","remove":{"interest":["yoga"]}}
"#,
    );
    let (mut entered, mut left, mut last) = (BTreeSet::new(), BTreeSet::new(), None);
    while entered.len() + left.len() < 3 {
        let event = listener.next_named("change");
        entered.extend(event.users("entered").into_iter().map(str::to_owned));
        left.extend(event.users("left").into_iter().map(str::to_owned));
        last = event.id.or(last);
    }
    assert_eq!((entered, left), (BTreeSet::from(["u4".into(), "u5".into()]), BTreeSet::from(["u1".into()])));
    wait_for_size(&server, "yogis", 3);
    let status = live(&server, "yogis");
    assert_eq!((&status["entered"], &status["left"], &status["error"]), (&json!(4), &json!(1), &Value::Null));

    // Who lost the connection gets what came since.
    server.post_tags("{\"user_id\":\"u6\",\"add\":{\"interest\":[\"yoga\"]}}\n");
    wait_for_size(&server, "yogis", 4);
    let back = Listener::new(&server, "yogis", last.as_deref());
    assert_eq!(back.next_named("size").data["size"], 4);
    assert_eq!(back.next_named("change").users("entered"), BTreeSet::from(["u6"]));
    let long_ago = Listener::new(&server, "yogis", Some("1"));
    long_ago.next_named("reset");
    assert_eq!(long_ago.next_named("size").data["size"], 4);

    let sizes = success(server.get("/v1/audiences/yogis/sizes").send().expect("get"));
    let points = sizes["points"].as_array().expect("points");
    let sum = |field: &str| points.iter().map(|point| point[field].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((sum("entered"), sum("left"), &sizes["next"]), (5, 1, &Value::Null));
    assert_eq!(points.last().expect("one at least")["size"], 4);
    let metrics = server.get("/metrics").send().expect("get").text().expect("text");
    assert!(metrics.contains("beluga_live_audience_size{audience=\"yogis\"} 4"), "{metrics}");
}

#[test]
fn behaviour_and_new_users_move_it() {
    let server = start();
    let visit = json!({"columns": {"page": "string"}});
    server.put_catalog(&json!({"tags": {"vip": {"type": "flag"}}, "facts": {"visit": visit}}));
    put_live(&server, "silent", "NOT did('visit', within => '2 days')");
    put_live(&server, "active", "did('visit', count >= 2, within => '2 days')");
    server.post_tags("{\"user_id\":\"ann\"}\n{\"user_id\":\"bob\"}\n");
    wait_for_size(&server, "silent", 2);
    let visit = json!({"user_id": "ann", "ts": now(), "page": "home"}).to_string() + "\n";
    success(server.post("/v1/facts/visit").body(visit.clone()).send().expect("post"));
    wait_for_size(&server, "silent", 1);
    success(server.post("/v1/facts/visit").body(visit).send().expect("post"));
    wait_for_size(&server, "active", 1);
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as u64
}

#[test]
fn restarts_and_kills_neither_lose_nor_repeat() {
    let mut server = start();
    server.put_people();
    put_live(&server, "women", "gender = 'f'");
    wait_for_size(&server, "women", 2);
    for round in 0..3 {
        let user = format!("{{\"user_id\":\"new{round}\",\"set\":{{\"gender\":\"f\"}}}}\n");
        success(server.post("/v1/tags").body(user).send().expect("post"));
        if round == 1 {
            wait_for_size(&server, "women", 4);
        }
        server.kill();
        server.restart_with(|config| config.live_interval = Duration::from_millis(20));
    }
    wait_for_size(&server, "women", 5);
    // Redefined, it says who differs.
    put_live(&server, "women", "gender = 'm'");
    wait_for_size(&server, "women", 1);
    server.stop();
    let checked = beluga(&["check", "--data", server.data().to_str().expect("text")]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    let catalog = Catalog::default();
    let fact = catalog.fact(AUDIENCE_CHANGES).expect("always there");
    let query = "SELECT user_id, change, count(*) FROM fact WHERE audience = 'women' GROUP BY user_id, change";
    let rows: BTreeSet<String> = tables::lines(&server.data(), AUDIENCE_CHANGES, fact, query).into_iter().collect();
    let of = |user: &str| [format!("{user},entered,1"), format!("{user},left,1")];
    let mut expected: BTreeSet<String> = ["u1", "u3", "new0", "new1", "new2"].into_iter().flat_map(of).collect();
    expected.insert("u2,entered,1".to_owned());
    assert_eq!(rows, expected);
    server.restart();
    wait_until("the sizes are read again", || {
        let sizes = success(server.get("/v1/audiences/women/sizes").send().expect("get"));
        sizes["points"].as_array().and_then(|points| points.last()).is_some_and(|last| last["size"] == 1)
    });
}

#[test]
fn what_is_not_live_says_so_and_a_stream_ends_with_the_server() {
    let mut server = TestServer::with(|config| config.drain = PATIENCE);
    server.put_people();
    success(server.put("/v1/audiences/plain").json(&json!({"where": "is_member"})).send().expect("put"));
    for path in ["/v1/audiences/plain/changes", "/v1/audiences/plain/sizes"] {
        let answer = server.get(path).send().expect("get");
        assert_eq!(answer.status(), 409);
        let problem: Value = answer.json().expect("JSON");
        assert_eq!(problem["type"], "urn:beluga:problem:not-live");
        assert!(problem["suggestion"].as_str().is_some_and(|text| text.contains("\"live\": true")), "{problem}");
    }
    assert_eq!(server.get("/v1/audiences/none/changes").send().expect("get").status(), 404);
    put_live(&server, "members", "is_member");
    let wrong = server.get("/v1/audiences/members/changes").header("last-event-id", "x").send().expect("get");
    assert_eq!(wrong.status(), 400);
    let wrong = server.get("/v1/audiences/members/sizes?from=yesterday").send().expect("get");
    assert_eq!(wrong.status(), 400);
    let listener = Listener::new(&server, "members", None);
    listener.next_named("size");
    let begin = Instant::now();
    server.stop();
    // A stream that did not end by itself would have been cut off after that time.
    assert!(begin.elapsed() < PATIENCE, "the stream ended");
    while let Ok(event) = listener.0.recv() {
        assert_eq!(event.name, "change");
    }
}

#[test]
fn the_command_line_watches() {
    let server = start();
    server.put_people();
    put_live(&server, "a%20b", "interest = 'golf'");
    wait_for_size(&server, "a%20b", 1);
    let mut watch = command(BELUGA);
    watch.args(["watch", "a b", "--output", "ndjson", "--url", &server.url("")]);
    let mut child = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start beluga");
    let mut told = BufReader::new(child.stderr.take().expect("standard error")).lines();
    assert_eq!(told.next().expect("a line").expect("text"), "a b: 1 members");
    server.post_tags("{\"user_id\":\"u9\",\"add\":{\"interest\":[\"golf\"]}}\n");
    let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
    let line: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
    let told = (&line["user_id"], &line["change"], &line["audience"]);
    assert_eq!(told, (&json!("u9"), &json!("entered"), &json!("a b")));
    child.kill().expect("kill");
    child.wait().expect("wait");
}
