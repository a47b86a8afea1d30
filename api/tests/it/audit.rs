//! The audit log: who asked what, told by the server and verified by the command line.

use crate::process::{Process, wait_until};
use crate::support::{TestServer, beluga, stderr, stdout, success};
use api::audit::{Auditing, FOLDER, Happened, Outcome, Record, text_hash, verify};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

fn records(data: &Path) -> Vec<Record> {
    let mut told = Vec::new();
    verify(&data.join(FOLDER), None, |record| told.push(record.clone())).expect("a whole log");
    told
}

fn find<'r>(records: &'r [Record], action: &str) -> Vec<&'r Record> {
    records.iter().filter(|record| record.action.as_deref() == Some(action)).collect()
}

#[test]
fn who_asked_and_changed_what_is_told_without_ids_or_expressions() {
    let mut server = TestServer::with_people();
    let made = success(
        server
            .post("/v1/tokens")
            .json(&json!({"name": "root", "scopes": ["query", "export", "ingest", "admin"]}))
            .send()
            .expect("post"),
    );
    let token = made["token"].as_str().expect("text").to_owned();
    let ask = |path: &str, body: &Value| {
        server
            .post(path)
            .bearer_auth(&token)
            .header("x-request-id", "mine")
            .json(body)
            .send()
            .expect("ask")
            .status()
            .as_u16()
    };
    assert_eq!(ask("/v1/members", &json!({"where": "user_id IN ('u1', 'u2', 'u3')"})), 200);
    assert_eq!(ask("/v1/count", &json!({"where": "gendr = 'f'"})), 400);
    assert_eq!(ask("/v1/sql", &json!({"sql": "SELECT user_id FROM users WHERE age = 31"})), 200);
    assert_eq!(ask("/v1/tags", &json!({"user_id": "secretive", "set": {"age": 3}})), 200);
    let user = server.get("/v1/users/u1").bearer_auth(&token).send().expect("get");
    assert_eq!(user.status(), 200);
    let put = server.put("/v1/audiences/some").bearer_auth(&token).json(&json!({"where": "age = 31"})).send();
    assert_eq!(put.expect("put").status(), 201);
    let removed = server.client.delete(server.url("/v1/users/u1/explain")).bearer_auth(&token).send().expect("delete");
    assert_eq!(removed.status(), 405);
    // Of whoever hangs up it is told that they did.
    let body = "x".repeat(100);
    let mut connection = TcpStream::connect(server.url("").trim_start_matches("http://")).expect("a connection");
    let head = format!(
        "POST /v1/tags HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nx-request-id: gone\r\ncontent-length: 1000\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    drop(connection);
    // A method may be any word, of any length.
    let mut connection = TcpStream::connect(server.url("").trim_start_matches("http://")).expect("a connection");
    let head = format!("{} /v1/tokens HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "M".repeat(70_000));
    connection.write_all(head.as_bytes()).expect("sent");
    connection.read_to_end(&mut Vec::new()).expect("an answer");
    let key = server.put("/v1/audiences/a%20b").bearer_auth(&token).json(&json!({"where": "age = 32"})).send();
    assert_eq!(key.expect("put").status(), 201);
    for _ in 0..50 {
        assert_eq!(server.post("/v1/count").json(&json!({"where": "TRUE"})).send().expect("ask").status(), 401);
    }
    let narrow = server.post("/v1/tokens").bearer_auth(&token).json(&json!({"name": "narrow", "scopes": ["query"]}));
    let narrow = success(narrow.send().expect("post"))["token"].as_str().expect("text").to_owned();
    let refused = server.post("/v1/members").bearer_auth(&narrow).json(&json!({"where": "TRUE"})).send().expect("ask");
    assert_eq!(refused.status(), 403);
    let data = server.data();
    // The log is whole while the server runs.
    let verified = beluga(&["audit", "verify", "--data", data.to_str().expect("text")]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    server.stop();
    let told = records(&data);
    assert_eq!((told[0].happened, told.last().expect("some").happened), (Happened::Started, Happened::Stopped));
    let [members] = find(&told, "members")[..] else { panic!("{told:#?}") };
    assert_eq!(members.principal.as_deref(), Some("root"));
    assert_eq!((members.rows.as_deref(), members.outcome), (Some("1-9"), Some(Outcome::Done)));
    assert_eq!(members.text, Some(text_hash("user_id IN ('u1', 'u2', 'u3')")));
    assert_eq!(find(&told, "count")[0].outcome, Some(Outcome::Failed));
    assert_eq!(find(&told, "sql")[0].rows.as_deref(), Some("1-9"));
    let sent = find(&told, "POST /v1/tags");
    let tags = *sent.iter().find(|record| record.id.as_deref() == Some("mine")).expect("tags were sent");
    assert_eq!((tags.status, tags.id.as_deref(), tags.from.as_deref()), (Some(200), Some("mine"), Some("127.0.0.1")));
    let [audience, spaced] = find(&told, "PUT /v1/audiences/{name}")[..] else { panic!("{told:#?}") };
    assert_eq!(spaced.object.as_deref(), Some("a b"));
    let gone: Vec<&Record> = told.iter().filter(|record| record.id.as_deref() == Some("gone")).collect();
    assert!(matches!(gone[..], [Record { outcome: Some(Outcome::Cancelled | Outcome::Failed), .. }]), "{gone:#?}");
    assert_eq!(find(&told, "OTHER /v1/tokens").len(), 1);
    assert_eq!(find(&told, "POST /v1/tokens")[0].object.as_deref(), Some("root"));
    assert_eq!((audience.object.as_deref(), audience.status), (Some("some"), Some(201)));
    assert_eq!(find(&told, "user")[0].text, Some(text_hash("u1")));
    let strangers: Vec<&Record> = told.iter().filter(|record| record.status == Some(401)).collect();
    assert!(!strangers.is_empty() && strangers.len() < 50, "{} of 50 are told", strangers.len());
    let narrow: Vec<&Record> = told.iter().filter(|record| record.outcome == Some(Outcome::Refused)).collect();
    assert!(narrow.iter().any(|record| record.principal.as_deref() == Some("narrow")), "{narrow:#?}");
    assert_eq!(find(&told, "POST /v1/tokens").len(), 2);
    let text = std::fs::read_to_string(data.join(FOLDER).join("00000001.ndjson")).expect("reads");
    for hidden in ["secretive", "'u1'", "users/u1", "age", "gendr", &token] {
        assert!(!text.contains(hidden), "`{hidden}` is told: {text}");
    }
}

#[test]
fn a_changed_record_and_a_log_that_was_cut_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data_text = data.to_str().expect("text").to_owned();
    let served = |answer: &str| {
        let server = Process::serve(&data, &[]);
        let url = format!("http://{}", server.address());
        let counted = beluga(&["count", answer, "--url", &url]);
        assert!(counted.status.success(), "{}", stderr(&counted));
        // It is told right behind the answer, and the process is killed here.
        let text = text_hash(answer);
        wait_until("the question is told", || {
            records(&data).iter().any(|record| record.text.as_deref() == Some(text.as_str()))
        });
    };
    served("TRUE");
    let verify = |more: &[&str]| beluga(&[&["audit", "verify", "--data", &data_text], more].concat());
    let first = verify(&[]);
    assert!(first.status.success(), "{}", stderr(&first));
    let head = stdout(&first).lines().last().expect("a line").rsplit(' ').next().expect("a hash").to_owned();
    // The process was killed; the log goes on, and has what was there.
    served("FALSE");
    assert!(verify(&["--has", &head]).status.success());
    assert!(!verify(&["--has", &"0".repeat(63)]).status.success());
    let shown = stdout(&beluga(&["audit", "show", "--data", &data_text]));
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().filter(|line| line["action"] == "count" && line["door"] == "cli").count(), 2, "{shown}");
    let file = data.join(FOLDER).join("00000001.ndjson");
    let text = std::fs::read_to_string(&file).expect("reads");
    std::fs::write(&file, text.replacen("\"done\"", "\"lost\"", 1)).expect("written");
    let changed = verify(&[]);
    assert!(!changed.status.success() && stderr(&changed).contains("line 3"), "{}", stderr(&changed));
    let kept: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, kept).expect("written");
    assert!(verify(&[]).status.success(), "what is left is whole");
    assert!(!verify(&["--has", &head]).status.success(), "and not all");
}

#[test]
fn what_cannot_be_told_is_not_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::serve_with_files_of_at_most(64 << 10, &folder.path().join("data"), &["audit=required"]);
    let ask = || server.post("/v1/count").json(&json!({"where": "TRUE"})).send().expect("ask");
    let mut asked = 0;
    let refused = loop {
        let answer = ask();
        asked += 1;
        if answer.status() != 200 {
            break answer;
        }
        assert!(asked < 5_000, "the log is full");
    };
    assert_eq!(refused.status(), 503);
    let told: Value = refused.json().expect("a problem");
    assert_eq!(told["type"], "urn:beluga:problem:not-audited", "{told}");
    assert!(asked > 50, "{asked}");
    let healthy = crate::support::client().get(format!("http://{}/healthz", server.address())).send().expect("get");
    assert_eq!(healthy.status(), 200);
}

#[test]
fn a_server_that_can_tell_nothing_does_not_start() {
    let mut server = TestServer::with_people();
    server.stop();
    // A folder stands where the next file would.
    let folder = server.data().join(FOLDER);
    std::fs::remove_dir_all(&folder).expect("removed");
    std::fs::write(&folder, "no folder").expect("written");
    let started = api::server::Server::start(crate::support::config(&server.data()));
    assert!(started.is_err(), "a server that can tell nothing does not start");
    std::fs::remove_file(&folder).expect("removed");
    server.restart_with(|config| config.audit = Auditing::Off);
    server.count("TRUE");
    assert!(!folder.exists());
}
