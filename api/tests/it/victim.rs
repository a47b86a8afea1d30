//! The real binary as a process to be killed, and what tests need that do so.

use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A server that runs.
pub(crate) struct Server {
    process: Child,
    pub(crate) url: String,
    pub(crate) client: reqwest::blocking::Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// Starts the binary and waits until it is ready.
    pub(crate) fn start(folder: &Path) -> Server {
        let mut server = Server::spawn(folder);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(answer) = server.client.get(format!("{}/readyz", server.url)).send()
                && answer.status().is_success()
            {
                return server;
            }
            if let Some(status) = server.process.try_wait().expect("ask for the process's state") {
                panic!("the server ended by itself: {status}");
            }
            assert!(Instant::now() < deadline, "the server was not ready within 30 s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the binary, with checkpoints and merges so frequent that kills land in them. It may read the folder `in` beside
    /// its own, and write to `out`.
    pub(crate) fn spawn(folder: &Path) -> Server {
        let port = free_port();
        let process = beluga()
            .args(["serve", "--http", &format!("127.0.0.1:{port}"), "--flight", "off", "--data"])
            .arg(folder)
            .env("BELUGA_CHECKPOINT_INTERVAL_MS", "50")
            .env("BELUGA_SOURCE_FOLDERS", folder.with_file_name("in"))
            .env("BELUGA_SINK_FOLDERS", folder.with_file_name("out"))
            .stdout(Stdio::null())
            .spawn()
            .expect("start beluga");
        Server { process, url: format!("http://127.0.0.1:{port}"), client: client() }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Puts a catalog.
    pub(crate) fn put(&self, catalog: &Value) {
        let answer = self.client.put(format!("{}/v1/catalog", self.url)).json(catalog).send().expect("put catalog");
        assert!(answer.status().is_success(), "{}", answer.text().unwrap_or_default());
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop_well(&mut self) {
        let told = Command::new("kill").arg(self.process.id().to_string()).status().expect("run kill");
        assert!(told.success());
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }

    /// Publishes what was written last.
    pub(crate) fn make_visible(&self) {
        let answer = self.client.post(format!("{}/v1/tags?visible=true", self.url)).body("").send().expect("publish");
        assert!(answer.status().is_success(), "{}", answer.text().unwrap_or_default());
    }

    pub(crate) fn ask(&self, path: &str, body: &Value) -> Value {
        let answer = self.client.post(format!("{}{path}", self.url)).json(body).send().expect("ask");
        let status = answer.status();
        let body: Value = answer.json().expect("JSON");
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    pub(crate) fn count(&self, question: &str) -> u64 {
        self.ask("/v1/count", &json!({"where": question}))["count"].as_u64().expect("a count")
    }

    pub(crate) fn members(&self, question: &str) -> Vec<String> {
        let page = self.ask("/v1/members", &json!({"where": question, "limit": 10_000}));
        assert_eq!(page["next"], Value::Null, "all members fit one page");
        let users = page["users"].as_array().expect("users");
        users.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
    }
}

/// A port that another process may listen at, or nobody. Linux gives connections and port 0 those from 32,768 on; since this is none
/// of them, nobody is given it meanwhile.
pub(crate) fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Another process of tests begins elsewhere.
    let first = std::process::id().wrapping_mul(64);
    let mut ports = (0..20_000).map(|_| {
        let at = first.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % 20_000;
        10_000 + u16::try_from(at).expect("it is below 20,000")
    });
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

pub(crate) fn client() -> reqwest::blocking::Client {
    reqwest::blocking::Client::builder().timeout(Duration::from_secs(30)).build().expect("client")
}

pub(crate) fn beluga() -> Command {
    Command::new(env!("CARGO_BIN_EXE_beluga"))
}

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

/// SplitMix64: small, seeded, good enough to choose moments.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
