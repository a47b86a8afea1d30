//! Another engine in a process of its own, asked line by line.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A script of `compare/` that reads questions and prints, for each, the seconds it took and the answer.
#[derive(Debug)]
pub struct Peer {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a script and waits until it has its data.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start<'a>(python: &str, script: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Peer {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare").join(script);
        let mut process = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let questions = process.stdin.take().expect("piped");
        let mut peer = Peer { questions, answers: BufReader::new(process.stdout.take().expect("piped")), process };
        assert_eq!(peer.line(), "ready", "the peer has its data");
        peer
    }

    /// DuckDB or ClickHouse (`duckdb`, `chdb`) with events of a Parquet file loaded, and as many threads as there are processors.
    ///
    /// # Panics
    /// As [`Peer::start`].
    pub fn of_events(python: &str, name: &str, parquet: &Path) -> Peer {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        Peer::start(python, "sql.py", [name.as_ref(), parquet.as_os_str(), threads.as_ref()])
    }

    /// The time that the peer took, and its answer.
    ///
    /// # Panics
    /// If there is none.
    pub fn ask(&mut self, question: &str) -> (Duration, String) {
        writeln!(self.questions, "{question}").expect("the peer listens");
        let line = self.line();
        let (seconds, answer) = line.split_once(' ').expect("seconds and an answer");
        (Duration::from_secs_f64(seconds.parse().expect("seconds")), answer.to_owned())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the peer answers");
        line.trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
