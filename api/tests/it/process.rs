//! `beluga serve` as a process of its own, to be asked, signalled and killed.

use crate::support::{BELUGA, client, command, success};
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Far longer than anything here takes, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; killed when dropped.
pub(crate) struct Process {
    child: Child,
    told: Arc<Mutex<String>>,
    url: String,
    client: Client,
}

impl Process {
    /// Serves a directory and waits until questions are answered.
    pub(crate) fn serve(data: &Path, settings: &[&str]) -> Process {
        let mut serve = command(BELUGA);
        serve.args(serve_arguments(data, settings));
        Process::spawn(serve)
    }

    /// As [`Process::serve`], where no file may grow beyond a size, as if the disk were full.
    pub(crate) fn serve_with_files_of_at_most(bytes: u64, data: &Path, settings: &[&str]) -> Process {
        let mut shell = command("sh");
        // With the signal ignored the write fails instead. The shell counts in blocks of 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
        shell.args(["-c", &script, BELUGA]).args(serve_arguments(data, settings));
        Process::spawn(shell)
    }

    fn spawn(mut command: Command) -> Process {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("start beluga");
        let told = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
        let heard = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut heard = heard.lock().expect("nobody panics with it");
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        let mut process = Process { child, told, url: String::new(), client: client() };
        wait_until("the server is ready", || {
            let ended = process.child.try_wait().expect("ask for the state");
            assert!(ended.is_none(), "the server ended by itself: {}", process.told());
            process.url = url_in(&process.told()).unwrap_or_default();
            !process.url.is_empty()
        });
        process
    }

    /// What it said on standard error so far.
    pub(crate) fn told(&self) -> String {
        self.told.lock().expect("nobody panics with it").clone()
    }

    /// Its number with the operating system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its address, without `http://`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    pub(crate) fn put_catalog(&self, catalog: &Value) {
        success(self.client.put(format!("{}/v1/catalog", self.url)).json(catalog).send().expect("put catalog"));
    }

    /// Sends updates, which all must be accepted, and waits until they are visible.
    pub(crate) fn post_tags(&self, lines: &str) {
        let answer = success(self.post("/v1/tags?visible=true").body(lines.to_owned()).send().expect("post tags"));
        assert_eq!(answer["rejected"], 0, "{answer}");
    }

    pub(crate) fn count(&self, expression: &str) -> u64 {
        let answer = success(self.post("/v1/count").json(&json!({"where": expression})).send().expect("ask"));
        answer["count"].as_u64().expect("a count")
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        assert!(sent.expect("run kill").success());
    }

    /// Tells it that its files changed.
    pub(crate) fn hang_up(&self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -HUP {}", self.child.id())]).status();
        assert!(sent.expect("run kill").success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().expect("ask for the state");
            status.is_some()
        });
        status.expect("it ended")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve_arguments(data: &Path, settings: &[&str]) -> Vec<String> {
    let data = data.to_str().expect("text").to_owned();
    let mut arguments = vec!["serve".to_owned(), "--http".into(), "127.0.0.1:0".into(), "--data".into(), data];
    arguments.extend(["--flight".to_owned(), "127.0.0.1:0".to_owned()]);
    for setting in settings {
        arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    arguments
}

/// `beluga … serves … at URL`.
fn url_in(told: &str) -> Option<String> {
    let line = told.lines().find(|line| line.starts_with("beluga ") && line.contains(" serves "))?;
    line.rsplit_once(" at ").map(|(_, url)| url.to_owned())
}

/// Waits for a condition, looking often.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
