//! Input that is legal and extreme: events at the ends of time, a user who does a million things in a second, a shard that
//! gets all the writes, a table that somebody else changes while it is served.

use crate::process::{Process, wait_until};
use crate::support::{PEOPLE, TestServer, catalog, success};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The catalog, and a fact that is kept for ever.
fn with_views() -> Value {
    let mut catalog = catalog();
    catalog["facts"] = json!({"view": {
        "columns": {"page": "string", "seconds": "integer"},
        "activity": {"dimensions": ["page"], "measures": ["seconds"]},
    }});
    catalog
}

/// The files of a fact's table by its log, with the rows that it tells of each.
fn table(data: &Path, fact: &str) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    for entry in log(data, fact) {
        let text = std::fs::read_to_string(entry).expect("an entry");
        for action in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an action")) {
            if let Some(path) = action["remove"]["path"].as_str() {
                files.remove(path);
            }
            if let Some(path) = action["add"]["path"].as_str() {
                let statistics = action["add"]["stats"].as_str().expect("statistics");
                let statistics: Value = serde_json::from_str(statistics).expect("JSON");
                files.insert(path.to_owned(), statistics["numRecords"].as_u64().expect("a count"));
            }
        }
    }
    files
}

/// The entries of the table's log, in order.
fn log(data: &Path, fact: &str) -> Vec<PathBuf> {
    let log = data.join("facts").join(fact).join("_delta_log");
    let entry = |version: u64| log.join(format!("{version:020}.json"));
    (0..).map(entry).take_while(|entry| entry.exists()).collect()
}

/// Rows of a fact's table.
pub(crate) fn row_count(data: &Path, fact: &str) -> u64 {
    table(data, fact).values().sum()
}

#[test]
fn events_from_1970_are_counted_and_events_from_2100_refused() {
    let mut server = TestServer::with_people();
    server.put_catalog(&with_views());
    let tomorrow = Timestamp::now() + SignedDuration::from_hours(23);
    let too_late = Timestamp::now() + SignedDuration::from_hours(25);
    let times = [
        ("1970-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00.000001Z", None),
        ("1969-12-31T23:59:59.999999Z", Some("is before 1970")),
        ("0001-01-01", Some("is before 1970")),
        ("2100-01-01", Some("is more than a day after now")),
        ("9999-12-31T23:59:59Z", Some("is more than a day after now")),
        ("10000-01-01", Some("is not a point in time")),
        (&tomorrow.to_string(), None),
        (&too_late.to_string(), Some("is more than a day after now")),
    ];
    let line = |ts: &str| format!("{{\"user_id\":\"old\",\"ts\":\"{ts}\",\"page\":\"home\",\"seconds\":2}}\n");
    let body: String = times.iter().map(|(ts, _)| line(ts)).collect();
    let answer = success(server.post("/v1/facts/view?visible=true").body(body).send().expect("post"));
    let told: BTreeMap<u64, &str> =
        answer["errors"].as_array().expect("errors").iter().fold(BTreeMap::new(), |mut told, error| {
            told.insert(error["line"].as_u64().expect("a line"), error["error"].as_str().expect("text"));
            told
        });
    for (number, (ts, why)) in (1..).zip(times) {
        let found = told.get(&number).copied();
        assert_eq!(found.is_some(), why.is_some(), "{ts}: {found:?}");
        assert!(why.is_none_or(|why| found.is_some_and(|found| found.contains(why))), "{ts}: {found:?}");
    }
    let questions = [
        ("did('view', count = 3, sum(seconds) = 6)", 1),
        ("did('view', ts BETWEEN '1970-01-01' AND '1970-01-01', count = 2)", 1),
        ("did('view', ts BETWEEN '1970-01-02' AND '1999-12-31')", 0),
        ("did('view', first <= '1970-01-01')", 1),
        ("did('view', last > '2020-01-01')", 1),
        ("did('view', within => '7 days')", 0),
    ];
    let check = |server: &TestServer| {
        for (question, count) in questions {
            let found = server.count(question);
            // What will be tomorrow may be today by now, if it is about to be midnight.
            let may_be = question.contains("within") && found == 1;
            assert!(found == count || may_be, "{question}: {found}");
        }
    };
    check(&server);
    server.restart();
    check(&server);
    let days: Vec<String> = table(&server.data(), "view").into_keys().map(|path| path[..14].to_owned()).collect();
    assert!(days.contains(&"day=1970-01-01".to_owned()) && row_count(&server.data(), "view") == 3, "{days:?}");
}

/// Megabytes of memory that a process has held at most.
fn memory_peak_megabytes(process: &Process) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes / 1_024)
}

#[test]
fn a_user_with_a_million_events_in_a_second_is_counted_in_bounded_memory() {
    const EVENTS: u64 = 1_000_000;
    const BATCH: u64 = 50_000;
    /// Far less than the events take as they come, which is some 100 MB, and again as rows of their table.
    const PEAK_MEGABYTES: u64 = 400;
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    let mut server = Process::serve(&data, &["memory_bytes_max=33554432", "checkpoint_memory_bytes=16777216"]);
    server.put_catalog(&with_views());
    let second = Timestamp::now().as_second() - 3_600;
    for batch in 0..EVENTS / BATCH {
        let mut body = String::new();
        for event in batch * BATCH..(batch + 1) * BATCH {
            let milliseconds = second * 1_000 + (event % 1_000) as i64;
            let page = event % 7;
            writeln!(
                body,
                "{{\"user_id\":\"busy\",\"ts\":{milliseconds},\"page\":\"p{page}\",\"seconds\":{}}}",
                event % 3
            )
            .expect("text grows");
        }
        let answer = success(server.post("/v1/facts/view?visible=true").body(body).send().expect("post"));
        assert_eq!(answer["accepted"], BATCH, "{answer}");
    }
    let pages = EVENTS.div_ceil(7);
    let seconds: u64 = (0..EVENTS).map(|event| event % 3).sum();
    let questions = [
        format!("did('view', count = {EVENTS}, sum(seconds) = {seconds})"),
        format!("did('view', page = 'p0', count = {pages})"),
        format!("did('view', within => '2 days', count >= {EVENTS})"),
    ];
    let check = |server: &Process| {
        for question in &questions {
            assert_eq!(server.count(question), 1, "{question}");
        }
        assert_eq!(server.count(&format!("did('view', count > {EVENTS})")), 0);
    };
    check(&server);
    let peak = memory_peak_megabytes(&server).unwrap_or_default();
    assert!(peak < PEAK_MEGABYTES, "it held {peak} MB");
    server.terminate();
    assert_eq!(server.ended().code(), Some(0), "{}", server.told());
    assert_eq!(row_count(&data, "view"), EVENTS, "each event has its row");
    check(&Process::serve(&data, &[]));
}

/// One shard gets all the writes, as fast as it takes them; users of the others are changed and seen meanwhile.
#[test]
fn a_hot_shard_does_not_keep_others_from_being_seen() {
    const CHANGES: usize = 11;
    let server = TestServer::with_people();
    server.put_catalog(&with_views());
    let stop = AtomicBool::new(false);
    let now_ms = Timestamp::now().as_millisecond();
    let body: String = (0..2_000)
        .map(|number| format!("{{\"user_id\":\"hot\",\"ts\":{},\"page\":\"p{}\"}}\n", now_ms - number, number % 50))
        .collect();
    let sent = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = success(server.post("/v1/facts/view").body(body.clone()).send().expect("post"));
                sent += answer["accepted"].as_u64().expect("a count");
            }
            sent
        });
        for change in 0..CHANGES {
            let age = 100 + change;
            let user = format!("{{\"user_id\":\"cold-{change}\",\"set\":{{\"age\":{age}}}}}\n");
            server.post_tags(&user);
            wait_until("the change is seen", || server.count(&format!("age = {age}")) == 1);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer goes on")
    });
    server.settle();
    assert_eq!(server.count(&format!("did('view', count = {sent})")), 1, "{sent} were sent");
}

/// Writes the next version of the table as another program would.
fn commit_foreign(data: &Path, actions: &[Value]) {
    let version = log(data, "view").len();
    let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
    let folder = data.join("facts/view/_delta_log");
    let written = folder.join("foreign");
    std::fs::write(&written, lines.join("\n")).expect("written");
    // As all writers do it: only if there is none yet.
    std::fs::hard_link(&written, folder.join(format!("{version:020}.json"))).expect("nobody was first");
    std::fs::remove_file(written).expect("removed");
}

#[test]
fn a_table_that_somebody_else_changes_goes_on() {
    let mut server = TestServer::with(|config| config.checkpoint_interval = Duration::from_millis(50));
    server.put_catalog(&with_views());
    server.post_tags(PEOPLE);
    let data = server.data();
    let now = Timestamp::now();
    let post = |user: &str| {
        let event = format!("{{\"user_id\":\"{user}\",\"ts\":\"{now}\",\"page\":\"home\"}}\n");
        let answer = success(server.post("/v1/facts/view?visible=true").body(event).send().expect("post"));
        assert_eq!(answer["accepted"], 1, "{answer}");
    };
    post("u1");
    wait_until("the row is in its table", || row_count(&data, "view") == 1);
    let (ours, rows) = table(&data, "view").pop_first().expect("a file");
    // An append of theirs.
    let theirs = format!("{}/theirs.parquet", ours.split_once('/').expect("a day's folder").0);
    let facts = data.join("facts/view");
    std::fs::copy(facts.join(&ours), facts.join(&theirs)).expect("copied");
    let add = |path: &str| {
        json!({"add": {
            "path": path, "partitionValues": {"day": &path[4..14]}, "modificationTime": 0, "dataChange": true,
            "size": facts.join(path).metadata().expect("a file").len(), "stats": format!("{{\"numRecords\":{rows}}}"),
        }})
    };
    commit_foreign(&data, &[add(&theirs)]);
    post("u2");
    wait_until("the next row is behind it", || row_count(&data, "view") == 3);
    // A deletion of theirs: what they took out stays out.
    let remove = json!({"remove": {"path": ours, "deletionTimestamp": now.as_millisecond(), "dataChange": true}});
    commit_foreign(&data, &[remove]);
    post("u3");
    wait_until("the next row is behind it", || row_count(&data, "view") == 3);
    assert!(!table(&data, "view").contains_key(&ours), "it did not come back");
    assert_eq!(server.count("did('view', count = 1)"), 3, "what is counted is ours");
    // A protocol that we do not know: refused before it could do harm, and said.
    let raised = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly"]}});
    let versions = log(&data, "view").len();
    commit_foreign(&data, &[raised]);
    let event = format!("{{\"user_id\":\"u4\",\"ts\":\"{now}\",\"page\":\"home\"}}\n");
    let mut told = Value::Null;
    wait_until("updates are refused", || {
        let answer = server.post("/v1/facts/view").body(event.clone()).send().expect("post");
        let refused = answer.status() == 503;
        told = answer.json().expect("JSON");
        refused
    });
    let detail = told["detail"].as_str().expect("text");
    assert!(detail.contains("raised the table's protocol"), "{told}");
    assert_eq!(log(&data, "view").len(), versions + 1, "nothing is written behind it");
    assert!(server.count("did('view')") >= 3, "questions are answered");
    // Once it is put right, what was acknowledged is there.
    std::fs::remove_file(log(&data, "view").pop().expect("an entry")).expect("removed");
    server.kill();
    server.restart();
    assert!(server.count("did('view')") >= 3);
}
