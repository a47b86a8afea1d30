//! The prompt of `beluga sql` on a terminal, and files of several statements.

use crate::process::wait_until;
use crate::support::{BELUGA, TestServer, beluga, command, stderr, stdout, success};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal.
struct Terminal {
    child: Child,
    keys: File,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn run(mut program: Command) -> Terminal {
        let (mut ours, mut theirs) = (0, 0);
        let mut size = libc::winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::from_mut(&mut size));
        // SAFETY: what is pointed to outlives the call, or may be null.
        let opened = unsafe { libc::openpty(&mut ours, &mut theirs, name, settings, size) };
        assert_eq!(opened, 0, "a terminal");
        // SAFETY: the call gave us both, and nobody else has them.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let end = || Stdio::from(theirs.try_clone().expect("another handle"));
        program.env("TERM", "xterm").env("NO_COLOR", "1").stdin(end()).stdout(end()).stderr(end());
        let child = program.spawn().expect("starts");
        drop((program, theirs));
        let mut screen = File::from(ours.try_clone().expect("another handle"));
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                shown.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Terminal { child, keys: File::from(ours), seen }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until it was shown, and forgets what came up to there.
    fn wait_for(&self, text: &str) {
        let started = Instant::now();
        loop {
            let mut seen = self.seen.lock().expect("nobody panics with it");
            if let Some(at) = seen.find(text) {
                seen.drain(..at + text.len());
                return;
            }
            assert!(started.elapsed() < PATIENCE, "`{text}` did not come, but {seen}");
            drop(seen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn statements_are_answered_remembered_completed_and_ended_at_a_prompt() {
    let server = TestServer::with_people();
    let state = tempfile::tempdir().expect("temporary folder");
    let start = || {
        let mut program = command(BELUGA);
        program.args(["sql", "--url", &server.url("")]).env("XDG_STATE_HOME", state.path());
        let terminal = Terminal::run(program);
        terminal.wait_for("beluga> ");
        terminal
    };
    let mut prompt = start();
    prompt.type_in("SELECT count(*) AS howmany\rFROM users;\r");
    prompt.wait_for("howmany");
    prompt.wait_for("4");
    prompt.wait_for("1 rows, epoch");
    prompt.type_in("SELECT gendr FROM users; \r");
    prompt.wait_for("did you mean `gender`?");
    prompt.type_in("\\d users\r");
    prompt.wait_for("interest");
    prompt.type_in("\\x\r");
    prompt.wait_for("there is no command \\x");
    // Tab completes what only one name begins with.
    prompt.type_in("SELECT is_memb\t AS done FROM users LIMIT 1;\r");
    prompt.wait_for("1 rows, epoch");
    let endless = "SELECT count(*) FROM users a, users b, users c, users d, users e, users f, users g, users h, users i, users j, \
                   users k, users l, users m, users n, users o WHERE a.age + o.age > 3 AND b.user_id || n.user_id <> 'x';\r";
    prompt.type_in(endless);
    wait_until("it runs", || {
        let all = success(server.get("/v1/queries").send().expect("ask"));
        all["queries"].as_array().expect("a list").iter().any(|query| query["state"] == "running")
    });
    let asked = Instant::now();
    let key = Command::new("kill").args(["-INT", &prompt.child.id().to_string()]).status();
    assert!(key.expect("run kill").success());
    prompt.wait_for("cancelled");
    assert!(asked.elapsed() < Duration::from_secs(10), "it went on");
    prompt.wait_for("beluga> ");
    prompt.type_in("\\q\r");
    assert!(prompt.child.wait().expect("ends").success());
    let file = state.path().join("beluga/sql_history");
    let remembered = std::fs::read_to_string(&file).expect("remembered");
    assert!(remembered.contains("howmany") && remembered.contains("is_member AS done"), "{remembered}");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o077, 0, "only its owner may read it");
    let mut again = start();
    // The last line was the command to end, the one before the endless statement.
    again.type_in("\x1b[A\x1b[A\x1b[A\r");
    again.wait_for("1 rows, epoch");
    again.type_in("\x04");
    assert!(again.child.wait().expect("ends").success());
}

#[test]
fn a_file_may_hold_several_statements() {
    let server = TestServer::with_people();
    let url = server.url("");
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("two.sql");
    std::fs::write(&file, "-- how many;\nSELECT count(*) AS n FROM users;\nSELECT 'a;b' AS t;\n").expect("written");
    let file = file.to_str().expect("text");
    let ask = |output: &str| beluga(&["sql", "--file", file, "--url", &url, "--output", output]);
    assert_eq!(stdout(&ask("ndjson")), "{\"n\":4}\n{\"t\":\"a;b\"}\n");
    let refused = ask("csv");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("2 statements"), "{}", stderr(&refused));
    let stopped =
        beluga(&["sql", "SELECT 1 AS a; SELECT gendr FROM users; SELECT 2 AS b", "--url", &url, "--output", "ndjson"]);
    assert_eq!((stdout(&stopped).as_str(), stopped.status.code()), ("{\"a\":1}\n", Some(2)));
    // A caret points into the statement that failed.
    assert!(stderr(&stopped).contains("  SELECT gendr FROM users\n         ^^^^^\n"), "{}", stderr(&stopped));
    let mut piped = command(BELUGA);
    piped.args(["sql", "--url", &url, "--output", "ndjson"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.spawn().expect("starts");
    piped.stdin.take().expect("a pipe").write_all(b"SELECT 1 AS a;\nSELECT 2 AS b;\n").expect("written");
    let answered = piped.wait_with_output().expect("ends");
    assert_eq!(stdout(&answered), "{\"a\":1}\n{\"b\":2}\n");
}
