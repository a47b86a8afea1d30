//! The binary against what happens to processes: two of them on one directory, signals, kills, full and read-only disks,
//! damaged files.

use crate::process::{Process, wait_until};
use crate::support::{BELUGA, PEOPLE, beluga, catalog, client, command, stderr, stdout};
use crate::victim::free_port;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A stopped data directory with the four people in it.
fn with_people(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let mut server = Process::serve(&data, &[]);
    server.put_catalog(&catalog());
    server.post_tags(PEOPLE);
    server.terminate();
    assert_eq!(server.ended().code(), Some(0), "{}", server.told());
    data
}

fn assert_failed(output: &Output, words: &[&str]) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for word in words {
        assert!(told.contains(word), "`{word}` is missing: {told}");
    }
}

#[test]
fn a_second_process_on_a_directory_is_refused_until_the_first_has_ended() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = with_people(folder.path());
    let first = Process::serve(&data, &[]);
    let second = ["serve", "--http", "127.0.0.1:0", "--flight", "off", "--data", text(&data)];
    assert_failed(&beluga(&second), &["in use", text(&data)]);
    assert_failed(&beluga(&["count", "TRUE", "--data", text(&data)]), &["in use"]);
    assert_failed(&beluga(&["check", "--data", text(&data)]), &["in use", "stop the server"]);
    assert_failed(
        &beluga(&["serve", "--http", first.address(), "--flight", "off", "--data", text(&folder.path().join("other"))]),
        &["listen on", "--http"],
    );
    assert_eq!(first.count("TRUE"), 4, "the first one is not disturbed");
    first.kill();
    let counted = beluga(&["count", "TRUE", "--output", "csv", "--data", text(&data)]);
    assert_eq!(stdout(&counted), "count\n4\n", "a kill leaves no lock behind: {}", stderr(&counted));
}

#[test]
fn a_stop_is_heard_while_the_directory_is_being_opened() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = with_people(folder.path());
    // Nobody writes to this pipe, so reading it takes for ever.
    let made = Command::new("mkfifo").arg(data.join("tokens.json")).status().expect("run mkfifo");
    assert!(made.success());
    let address = format!("127.0.0.1:{}", free_port());
    let mut serve = command(BELUGA);
    serve.args(["serve", "--flight", "off", "--http", &address, "--data", text(&data)]);
    let mut server = serve.stderr(Stdio::null()).spawn().expect("start beluga");
    let readiness = || {
        let url = format!("http://{address}/readyz");
        client().get(url).send().map_or(0, |answer| answer.status().as_u16())
    };
    wait_until("it opens the directory", || readiness() == 503);
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", server.id())]).status();
    assert!(sent.expect("run kill").success());
    assert_eq!(server.wait().expect("it ends").code(), Some(0), "it was not ended by the system");
}

#[test]
fn a_stop_answers_what_is_in_flight_and_leaves_nothing_to_replay() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    let mut server = Process::serve(&data, &[]);
    server.put_catalog(&catalog());
    server.post_tags(PEOPLE);
    let line = "{\"user_id\":\"in flight\",\"set\":{\"age\":77}}\n";
    let mut connection = TcpStream::connect(server.address()).expect("connect");
    let length = line.len();
    let head =
        format!("POST /v1/tags HTTP/1.1\r\nHost: beluga\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).expect("send");
    let mut word = [0; 25];
    connection.read_exact(&mut word).expect("a word that the body is awaited");
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (first, rest) = line.split_at(20);
    connection.write_all(first.as_bytes()).expect("send");
    server.terminate();
    wait_until("it is stopping", || server.told().contains("stopping"));
    connection.write_all(rest.as_bytes()).expect("send");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"accepted\":1"), "{answer}");
    assert_eq!(server.ended().code(), Some(0), "{}", server.told());
    assert!(server.told().trim_end().ends_with("stopped"), "{}", server.told());
    let checked = beluga(&["check", "--data", text(&data)]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    let told = stdout(&checked);
    assert!(told.contains("5 users, 0 log records behind the newest checkpoint") && told.contains("sound"), "{told}");
}

/// Runs the binary in a folder.
fn beluga_in(folder: &Path, arguments: &[&str]) -> Output {
    command(BELUGA).current_dir(folder).args(arguments).output().expect("run beluga")
}

#[test]
fn a_directory_that_cannot_be_is_told_by_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let folder = folder.path();
    std::fs::write(folder.join("file"), "not a folder").expect("write");
    std::fs::write(folder.join("catalog.yaml"), "tags: {}").expect("write");
    std::fs::write(folder.join("job.yaml"), "files: [\"x.csv\"]").expect("write");
    for data in ["file", "file/data", "/proc/beluga-data"] {
        for make in [&["serve", "--http", "127.0.0.1:0", "--flight", "off"][..], &["apply", "-f", "catalog.yaml"]] {
            assert_failed(&beluga_in(folder, &[make, &["--data", data]].concat()), &[data]);
        }
    }
    for open in [&["count", "TRUE"][..], &["check"], &["backfill", "-f", "job.yaml"]] {
        let output = beluga_in(folder, &[open, &["--data", "nowhere"]].concat());
        assert_failed(&output, &["nowhere: there is no data directory"]);
        assert!(!folder.join("nowhere").exists(), "a mistyped name makes no directory");
    }
}

#[test]
fn a_read_only_directory_is_checked_but_not_served() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = with_people(folder.path());
    let Some(mount) = Mount::new(folder.path().join("read-only"), &["--bind", text(&data)]) else { return };
    assert!(mount.remount("bind,ro"), "what was mounted can be made read-only");
    let data = text(&mount.0);
    assert_failed(
        &beluga(&["serve", "--http", "127.0.0.1:0", "--flight", "off", "--data", data]),
        &[data, "Read-only file system"],
    );
    assert_failed(&beluga(&["count", "TRUE", "--data", data]), &[data, "Read-only file system"]);
    let checked = beluga(&["check", "--data", data]);
    assert!(checked.status.success() && stdout(&checked).contains("4 users"), "{}", stderr(&checked));
}

/// Something mounted, where the one who runs the tests may mount; gone when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf, what: &[&str]) -> Option<Mount> {
        std::fs::create_dir(&at).expect("make the folder");
        let mounted = Command::new("mount").args(what).arg(&at).output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: mounting is not permitted here");
        }
        mounted.then_some(Mount(at))
    }

    fn remount(&self, options: &str) -> bool {
        let remounted = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).output();
        remounted.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Posts users to a server until it takes no more; then it must say why, and still answer questions. Returns the
/// numbers of users acknowledged, and sent.
fn fill(server: &Process) -> (u64, u64) {
    server.put_catalog(&catalog());
    let (mut acknowledged, batch) = (0, 1_000);
    loop {
        let lines: String = (acknowledged..acknowledged + batch)
            .map(|n| {
                format!("{{\"user_id\":\"a user with a rather long name, number {n}\",\"set\":{{\"age\":{n}}}}}\n")
            })
            .collect();
        let answer = server.post("/v1/tags").body(lines.clone()).send().expect("an answer");
        let status = answer.status().as_u16();
        let answer: Value = answer.json().expect("JSON");
        if status == 200 {
            assert_eq!(answer["accepted"], batch, "{answer}");
            acknowledged += batch;
            assert!(acknowledged < 1_000_000, "the disk was never full");
            continue;
        }
        assert_eq!((status, &answer["type"]), (503, &json!("urn:beluga:problem:read-only")), "{answer}");
        assert!(answer["detail"].as_str().expect("text").contains("free the disk"), "{answer}");
        let again = server.post("/v1/tags").body(lines).send().expect("an answer");
        assert_eq!(again.status(), 503, "it stays so");
        assert!(server.count("TRUE") <= acknowledged + batch, "questions are answered all the same");
        return (acknowledged, acknowledged + batch);
    }
}

/// After a restart with room everything acknowledged is there; what was refused is there whole or not at all.
fn assert_kept(data: &Path, (acknowledged, sent): (u64, u64)) {
    let mut server = Process::serve(data, &[]);
    assert!(acknowledged > 0, "a disk that takes nothing proves nothing");
    assert_eq!(server.count(&format!("age < {acknowledged}")), acknowledged);
    let found = server.count("TRUE");
    assert!(found == acknowledged || found == sent, "{found} users, of {acknowledged} acknowledged, {sent} sent");
    server.post_tags("{\"user_id\":\"one more\"}\n");
    assert_eq!(server.count("TRUE"), found + 1, "it takes updates again");
    server.terminate();
    assert_eq!(server.ended().code(), Some(0), "{}", server.told());
    let checked = beluga(&["check", "--data", text(data)]);
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[test]
fn a_full_disk_ends_updates_with_a_clear_answer_and_loses_nothing() {
    // Without checkpoints the log fills the disk, with many of them other files do.
    for (bytes, setting) in [(2 << 20, "checkpoint_interval_ms=3600000"), (256 << 10, "checkpoint_interval_ms=20")] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = folder.path().join("data");
        let mut server = Process::serve_with_files_of_at_most(bytes, &data, &[setting]);
        let users = fill(&server);
        server.terminate();
        assert_eq!(server.ended().code(), Some(1), "what could not be checkpointed is told: {}", server.told());
        assert!(server.told().contains("read-only"), "{}", server.told());
        assert_kept(&data, users);
    }
}

#[test]
fn a_full_file_system_does_the_same_and_a_kill_there_loses_nothing_either() {
    for setting in ["checkpoint_interval_ms=3600000", "checkpoint_interval_ms=20"] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let small = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        let Some(mount) = Mount::new(folder.path().join("small"), &small) else { return };
        let data = mount.0.join("data");
        let server = Process::serve(&data, &[setting]);
        let users = fill(&server);
        server.kill();
        assert!(mount.remount("size=64m"), "a file system in memory can grow");
        assert_kept(&data, users);
    }
}

/// The files of a directory that have something in them.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("list").map(|entry| entry.expect("an entry").path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    let mut found: Vec<PathBuf> = entries.flat_map(below).collect();
    // A file may go while the folder is being read, if somebody has it open.
    found.retain(|path| path.metadata().is_ok_and(|file| file.len() > 0));
    found.sort();
    found
}

#[test]
fn a_flipped_bit_is_found_in_whatever_file_it_is_and_never_answered() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = with_people(folder.path());
    let server = Process::serve(&data, &[]);
    for number in 5..9 {
        server.post_tags(&format!("{{\"user_id\":\"u{number}\",\"set\":{{\"age\":{number}}}}}\n"));
    }
    server.kill();
    let files = files(&data);
    let kinds: BTreeSet<&str> = files.iter().filter_map(|file| file.extension()?.to_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["ids", "log", "manifest", "ndjson", "seg"]));
    for file in &files {
        let length = file.metadata().expect("a file").len() as usize;
        let is_log = file.extension().is_some_and(|kind| kind == "log" || kind == "ndjson");
        // The end of a log is what a crash leaves; damage before it is none.
        let places = if is_log { vec![0, length / 2] } else { vec![0, length / 2, length - 1] };
        for at in places {
            let copy = tempfile::tempdir().expect("temporary folder");
            copy_folder(&data, copy.path());
            let damaged = copy.path().join(file.strip_prefix(&data).expect("a file of the directory"));
            let mut bytes = std::fs::read(&damaged).expect("read");
            bytes[at] ^= 0x10;
            std::fs::write(&damaged, bytes).expect("write");
            let place = format!("{}, byte {at} of {length}", damaged.display());
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
            let checked = beluga(&["check", "--data", text(copy.path())]);
            assert_eq!(checked.status.code(), Some(1), "{place}: {}", stdout(&checked));
            assert!(stderr(&checked).contains(name), "{place}: {}", stderr(&checked));
            let question = "gender = 'f' OR interest = 'golf' OR is_member OR age < 10";
            let counted = beluga(&["count", question, "--output", "csv", "--data", text(copy.path())]);
            match counted.status.code() {
                Some(0) => assert_eq!(stdout(&counted), "count\n7\n", "{place}: not read for this, or wrong"),
                code => assert!(code == Some(1) && stderr(&counted).contains(name), "{place}: {}", stderr(&counted)),
            }
        }
    }
    let checked = beluga(&["check", "--data", text(&data)]);
    assert!(checked.status.success(), "what was not damaged is sound: {}", stderr(&checked));
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).expect("make the folder");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}

/// Rows of the backfill that is killed, and how long a value of each is: enough for several checkpoints on the way.
const ROWS: usize = 300_000;
const NOTE_BYTES: usize = 1_000;

#[test]
fn a_backfill_that_was_killed_goes_on_and_ends_with_every_row_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let folder = folder.path();
    let rows = std::fs::File::create(folder.join("rows.csv.gz")).expect("create");
    let mut rows = flate2::write::GzEncoder::new(rows, flate2::Compression::fast());
    let note = "n".repeat(NOTE_BYTES);
    writeln!(rows, "user_id,age,note").expect("write");
    for number in 0..ROWS {
        writeln!(rows, "user-{number},{},{note}", number % 100).expect("write");
    }
    rows.finish().expect("write");
    std::fs::write(folder.join("job.yaml"), "files: [\"rows.csv.gz\"]").expect("write");
    std::fs::write(folder.join("catalog.yaml"), "tags: { age: { type: number }, note: { type: set } }").expect("write");
    let applied = beluga_in(folder, &["apply", "-f", "catalog.yaml", "--data", "data"]);
    assert!(applied.status.success(), "{}", stderr(&applied));

    let data = folder.join("data");
    let segments = || files(&data).iter().filter(|file| file.extension().is_some_and(|kind| kind == "seg")).count();
    let shards = usize::from(api::config::Config::default().shard_count);
    // A checkpoint writes a segment for each shard; when there are more, the first one is done.
    let moments: [(&str, &dyn Fn() -> bool); 3] = [
        ("it has begun", &|| true),
        ("the first checkpoint is being written", &|| segments() > 0),
        ("the second checkpoint is being written", &|| segments() > shards),
    ];
    let backfill = ["backfill", "-f", "job.yaml", "--data", "data"];
    for (moment, is_now) in moments {
        let mut running = command(BELUGA).current_dir(folder).args(backfill).spawn().expect("start beluga");
        wait_until(moment, || {
            assert!(running.try_wait().expect("ask for the state").is_none(), "it ended before {moment}");
            is_now()
        });
        running.kill().expect("kill");
        running.wait().expect("wait");
    }
    let ended = beluga_in(folder, &backfill);
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(stdout(&ended).contains("went on behind row"), "{}", stdout(&ended));
    let server = Process::serve(&data, &[]);
    assert_eq!(server.count("TRUE"), ROWS as u64);
    for age in [0, 1, 50, 99] {
        assert_eq!(server.count(&format!("age = {age} AND note IN ('{note}')")), ROWS as u64 / 100);
    }
    server.kill();
    let checked = beluga(&["check", "--data", text(&data)]);
    assert!(checked.status.success() && stdout(&checked).contains("300,000 users"), "{}", stderr(&checked));
}
