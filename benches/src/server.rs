//! A server from outside: the release binary on a folder of its own, asked over HTTP.
//!
//! The client is as little of HTTP as goes, since it shares the processor with the server.

use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; killed when it is dropped.
pub struct Server {
    process: Child,
    address: String,
    flight: String,
}

impl Server {
    /// Starts the binary (`BELUGA_BINARY`, by default `target/release/beluga`) on a data directory and waits until it is ready.
    ///
    /// # Panics
    /// If there is no such binary, or it is not ready within a minute.
    pub fn start(data: &Path, settings: &[&str]) -> Server {
        let binary = std::env::var_os("BELUGA_BINARY")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/beluga"), PathBuf::from);
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [address, flight] = sockets.map(|socket| socket.local_addr().expect("bound").to_string());
        let process = Command::new(&binary)
            .args(["serve", "--http", &address, "--flight", &flight, "--data"])
            .arg(data)
            .args(settings.iter().flat_map(|setting| ["--set", setting]).map(OsStr::new))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; build it, or name one in BELUGA_BINARY", binary.display()));
        let server = Server { process, address, flight };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !server.is_ready() {
            assert!(Instant::now() < deadline, "the server was not ready within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.address) else { return false };
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: beluga\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// Where it speaks Flight SQL.
    pub fn flight(&self) -> &str {
        &self.flight
    }

    /// A connection of its own.
    ///
    /// # Panics
    /// If the server does not listen.
    pub fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_nodelay(true).expect("an option of sockets");
        Connection { stream, answer: Vec::new(), body: 0 }
    }

    /// One request over a connection of its own; its answer, which must be a success.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Value {
        let mut connection = self.connect();
        connection.call(method, path, body);
        serde_json::from_slice(connection.answer_body()).unwrap_or(Value::Null)
    }

    /// Loads files as a job, to its end.
    ///
    /// # Panics
    /// If the job fails.
    pub fn backfill(&self, files: &Path, into: &str) {
        let job = json!({"backfill": {"files": [files], "into": into}});
        let job = self.call("POST", "/v1/jobs", &job.to_string());
        let place = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
        loop {
            let job = self.call("GET", &place, "");
            match job["state"].as_str() {
                Some("done") => return,
                Some("failed" | "cancelled") => panic!("{job}"),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Processor time used so far, by all threads.
    pub fn cpu(&self) -> Duration {
        processor_time(&self.process.id().to_string())
    }

    /// The most memory it has had resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor time that a process has used so far, by its number or as `self`; zero where the system does not tell.
pub fn processor_time(process: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which stands in brackets, user and system time are the 12th and 13th field, in 1/100 s.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A connection to a server, kept open.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// Where the answer's body begins.
    body: usize,
}

impl Connection {
    /// Sends a request and waits for its answer, which must be a success; how long it took.
    ///
    /// # Panics
    /// If it is none, or says that lines were rejected.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> Duration {
        let begun = Instant::now();
        let content = if path.starts_with("/v1/facts/") { "application/x-ndjson" } else { "application/json" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: beluga\r\nContent-Type: {content}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).and_then(|()| self.stream.write_all(body.as_bytes())).expect("sent");
        self.answer.clear();
        let end = loop {
            let mut some = [0; 4096];
            let count = self.stream.read(&mut some).expect("answered");
            assert!(count > 0, "the server hung up");
            self.answer.extend_from_slice(&some[..count]);
            if let Some(at) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.answer[..at]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                let length: usize = length.expect("an answer says how long it is");
                if self.answer.len() >= at + 4 + length {
                    break at;
                }
            }
        };
        let answer = String::from_utf8_lossy(&self.answer);
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        assert!(!answer[end..].contains("\"rejected\":") || answer.contains("\"rejected\":0"), "{answer}");
        let elapsed = begun.elapsed();
        self.body = end + 4;
        elapsed
    }

    /// The body of the last answer.
    pub fn answer_body(&self) -> &[u8] {
        &self.answer[self.body..]
    }
}
