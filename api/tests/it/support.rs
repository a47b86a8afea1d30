//! A server in this process, spoken to over real HTTP, and the binary.

use api::config::Config;
use api::server::Server;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A server on a free port and a temporary directory, both gone with it.
pub(crate) struct TestServer {
    pub(crate) client: Client,
    server: Option<Server>,
    folder: tempfile::TempDir,
}

impl TestServer {
    /// A server without tags.
    pub(crate) fn start() -> TestServer {
        TestServer::with(|_| {})
    }

    /// A server with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> TestServer {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut config = config(&folder.path().join("data"));
        change(&mut config);
        let server = Server::start(config).expect("the server starts");
        TestServer { client: client(), server: Some(server), folder }
    }

    /// A server with some tags and users.
    pub(crate) fn with_people() -> TestServer {
        let server = TestServer::start();
        server.put_people();
        server
    }

    pub(crate) fn put_people(&self) {
        self.put_catalog(&catalog());
        self.post_tags(PEOPLE);
        self.settle();
    }

    fn running(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running().url())
    }

    /// Where Flight SQL listens.
    pub(crate) fn flight(&self) -> std::net::SocketAddr {
        self.running().flight_address().expect("Flight SQL is on")
    }

    /// Where PostgreSQL's protocol is spoken.
    pub(crate) fn postgres(&self) -> std::net::SocketAddr {
        self.running().postgres_address().expect("PostgreSQL's protocol is on")
    }

    /// Stops as a signal would.
    pub(crate) fn stop(&mut self) {
        self.server.take().expect("the server runs").stop().expect("the server stops well");
    }

    /// Ends without a checkpoint, as a kill would, as far as one process can do that to itself.
    pub(crate) fn kill(&mut self) {
        drop(self.server.take());
    }

    /// Starts again on the same directory.
    pub(crate) fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        if self.server.is_some() {
            self.stop();
        }
        let mut config = config(&self.data());
        change(&mut config);
        self.server = Some(Server::start(config).expect("the server starts again"));
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// Posts JSON; the answer must be a success.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> Value {
        success(self.post(path).json(body).send().expect("ask"))
    }

    pub(crate) fn put_catalog(&self, catalog: &Value) {
        success(self.put("/v1/catalog").json(catalog).send().expect("put catalog"));
    }

    /// Sends updates, which all must be accepted.
    pub(crate) fn post_tags(&self, lines: &str) {
        let answer = success(self.post("/v1/tags").body(lines.to_owned()).send().expect("post tags"));
        assert_eq!(answer["rejected"], 0, "{answer}");
    }

    /// Sends events of a fact: user, time and columns of each.
    pub(crate) fn post_events(&self, fact: &str, events: &[(&str, &str, Value)]) {
        let mut body = String::new();
        for (user, ts, more) in events {
            let mut event = more.clone();
            event["user_id"] = json!(user);
            event["ts"] = json!(ts);
            body.push_str(&format!("{event}\n"));
        }
        let answer = success(self.post(&format!("/v1/facts/{fact}")).body(body).send().expect("post events"));
        assert_eq!(answer["rejected"], 0, "{answer}");
    }

    /// Waits until everything written is visible.
    pub(crate) fn settle(&self) {
        success(self.post("/v1/tags?visible=true").body("").send().expect("post tags"));
    }

    pub(crate) fn count(&self, expression: &str) -> u64 {
        self.ask("/v1/count", &json!({"where": expression}))["count"].as_u64().expect("a count")
    }

    /// All members, page by page.
    pub(crate) fn members(&self, expression: &str) -> Vec<String> {
        let mut users = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let page = self.ask("/v1/members", &json!({"where": expression, "limit": 1_000, "cursor": cursor}));
            users.extend(strings(&page["users"]));
            cursor = page["next"].clone();
            if cursor.is_null() {
                return users;
            }
        }
    }
}

pub(crate) fn config(data: &Path) -> Config {
    Config {
        data: data.to_owned(),
        http: "127.0.0.1:0".parse().expect("an address"),
        flight: Some("127.0.0.1:0".parse().expect("an address")),
        publish_interval: Duration::from_millis(20),
        drain: Duration::from_secs(2),
        ..Config::default()
    }
}

pub(crate) fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().expect("client")
}

/// Tags of every type.
pub(crate) fn catalog() -> Value {
    json!({"tags": {
        "gender": {"type": "enum"},
        "age": {"type": "number"},
        "spend": {"type": "number", "scale": 2},
        "seen_at": {"type": "number", "unit": "timestamp"},
        "interest": {"type": "set"},
        "is_member": {"type": "flag"},
    }})
}

/// Four users; the last is known and nothing else.
pub(crate) const PEOPLE: &str = r#"{"user_id":"u1","set":{"gender":"f","age":31,"spend":129.90,"is_member":true,"seen_at":"2026-11-20T10:00:00Z"},"add":{"interest":["yoga","running"]}}
{"user_id":"u2","set":{"gender":"m","age":44,"spend":0.5},"add":{"interest":["golf"]}}
{"user_id":"u3","set":{"gender":"f","age":28},"add":{"interest":["yoga"]}}
{"user_id":"u4"}
"#;

/// Two purchases of [`PEOPLE`].
pub(crate) const PURCHASES: &str = r#"{"user_id":"u1","ts":"2026-11-20T10:00:00Z","category":"shoes","amount":20.5}
{"user_id":"u2","ts":"2026-11-19T10:00:00Z","category":"hats","amount":3}
"#;

/// The JSON of an answer that must be a success.
pub(crate) fn success(answer: Response) -> Value {
    let status = answer.status();
    let text = answer.text().expect("a body");
    assert!(status.is_success(), "{status}: {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
}

pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

/// A command without settings of the environment.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BELUGA_")) {
        command.env_remove(name);
    }
    command
}

/// Where the binary is.
pub(crate) const BELUGA: &str = env!("CARGO_BIN_EXE_beluga");

/// Runs the binary.
pub(crate) fn beluga(arguments: &[&str]) -> Output {
    command(BELUGA).args(arguments).output().expect("run beluga")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
