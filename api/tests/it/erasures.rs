//! Users are erased: in no answer from that moment on, and later in no file; what comes of them afterwards is passed over.

use crate::process::{Process, wait_until};
use crate::support::{TestServer, beluga, catalog, stderr, stdout, strings, success};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An id that no other bytes are like.
fn id(number: usize) -> String {
    format!("someone-{number:02}-quite-unlike-any-other-bytes")
}

fn ids(numbers: &[usize]) -> String {
    numbers.iter().map(|number| id(*number) + "\n").collect()
}

/// Tags, events, vectors and a list of these users.
fn send_all(server: &TestServer, numbers: impl Iterator<Item = usize> + Clone) -> u64 {
    let lines = |line: &dyn Fn(usize) -> Value| -> String {
        numbers.clone().map(|number| format!("{}\n", line(number))).collect()
    };
    let tags = lines(&|number| {
        json!({"user_id": id(number), "set": {"gender": "f", "age": 20 + number, "is_member": true},
            "add": {"interest": ["yoga"]}})
    });
    let events = lines(&|number| {
        json!({"user_id": id(number), "event_id": format!("e{number}"), "ts": "2026-11-20T10:00:00Z",
            "category": "shoes", "amount": 2})
    });
    let vectors = lines(&|number| json!({"user_id": id(number), "vector": [number, 1, 2]}));
    let post = |path: &str, body: String| success(server.post(path).body(body).send().expect("post"));
    let answers = [post("/v1/tags", tags), post("/v1/facts/purchase", events), post("/v1/spaces/taste", vectors)];
    answers.iter().map(|answer| answer["suppressed"].as_u64().expect("a count")).sum()
}

fn server(erase_within: Duration) -> TestServer {
    let server = TestServer::with(|config| config.erase_within = erase_within);
    let mut catalog = crate::support::catalog();
    catalog["facts"] = json!({"purchase": {
        "columns": {"category": "string", "amount": "integer"},
        "activity": {"dimensions": ["category"], "measures": ["amount"]}, "deduplicate": "30 days",
    }});
    catalog["spaces"] = json!({"taste": {"dimension": 3, "metric": "dot"}});
    server.put_catalog(&catalog);
    assert_eq!(send_all(&server, 0..12), 0);
    let list = server.put("/v1/audiences/list").header("Content-Type", "text/plain").body(ids(&[0, 1, 2, 3]));
    success(list.send().expect("put"));
    success(server.put("/v1/audiences/living").json(&json!({"where": "age < 26", "live": true})).send().expect("put"));
    server.settle();
    server
}

fn erase(server: &TestServer, numbers: &[usize]) -> Value {
    success(server.post("/v1/erasures").body(ids(numbers)).send().expect("post"))
}

fn sql(server: &TestServer, statement: &str) -> String {
    server.ask("/v1/sql", &json!({"sql": statement}))["rows"].to_string()
}

/// Everything that could tell of a user.
fn all_answers(server: &TestServer) -> String {
    let ask = |path: &str, body: Value| server.ask(path, &body).to_string();
    let answers = [
        server.members("TRUE").join(","),
        ask("/v1/sample", json!({"where": "TRUE", "size": 100})),
        ask("/v1/top", json!({"where": "TRUE", "by": "age", "k": 100})),
        ask(
            "/v1/lookalike",
            json!({"space": "taste", "seed": "age > 28", "size": 100, "limit": 100, "include_seed": true}),
        ),
        success(server.get("/v1/audiences/list/members").send().expect("get")).to_string(),
        success(server.get("/v1/audiences/living/members").send().expect("get")).to_string(),
        sql(server, "SELECT * FROM users"),
        sql(server, "SELECT * FROM purchase"),
        sql(server, "SELECT u.user_id, p.amount FROM users u JOIN purchase p ON p.user_id = u.user_id"),
    ];
    answers.join("\n")
}

fn assert_absent(server: &TestServer, numbers: &[usize]) {
    let answers = all_answers(server);
    for number in numbers {
        assert!(!answers.contains(&id(*number)), "{number} is told of: {answers}");
        assert_eq!(server.get(&format!("/v1/users/{}", id(*number))).send().expect("get").status(), 404);
        assert_eq!(server.count(&format!("user_id = '{}'", id(*number))), 0);
    }
}

/// The files below a folder that have a user's id in them.
fn files_with(folder: &Path, number: usize) -> Vec<PathBuf> {
    let id = id(number);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, number));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(id.len()).any(|part| part == id.as_bytes())) {
            found.push(path);
        }
    }
    found
}

/// Also what is compressed in the tables of facts.
fn rows_of(server: &TestServer, number: usize) -> u64 {
    let statement = format!("SELECT count(*) FROM purchase WHERE user_id = '{}'", id(number));
    server.ask("/v1/sql", &json!({"sql": statement}))["rows"][0][0].as_u64().expect("a count")
}

#[test]
fn who_is_erased_is_in_no_answer_at_once() {
    // As it is unless it is set, so that a restart changes nothing.
    let mut server = server(Duration::from_secs(24 * 3600));
    let everybody = all_answers(&server);
    assert!((0..12).all(|number| everybody.contains(&id(number))), "{everybody}");
    let receipt = erase(&server, &[1, 5, 11, 99]);
    assert_eq!((&receipt["users"], &receipt["clean_at"]), (&json!(4), &Value::Null));
    assert!(!receipt.to_string().contains("someone"), "{receipt}");
    let gone = [1, 5, 11, 99];
    let look = |server: &TestServer| {
        assert_absent(server, &gone);
        assert_eq!(server.count("TRUE"), 9);
        assert_eq!(server.count("did('purchase')"), 9);
        assert_eq!(server.count("did('purchase', amount = 2)"), 9);
        assert_eq!(server.count("in_audience('list')"), 3);
        let profile = server.ask("/v1/profile", &json!({"where": "TRUE"}));
        assert_eq!(profile["count"], 9, "{profile}");
        let funnel = server.ask("/v1/funnel", &json!({"steps": [{"fact": "purchase"}], "window": "1 day"}));
        assert_eq!(funnel["steps"][0]["users"], 9, "{funnel}");
        assert_eq!(sql(server, "SELECT count(*), sum(amount) FROM purchase"), "[[9,18]]");
    };
    look(&server);
    // What comes late is passed over.
    assert_eq!(send_all(&server, [1, 2].into_iter()), 3);
    server.settle();
    look(&server);
    server.restart();
    look(&server);
    server.kill();
    server.restart();
    look(&server);

    let told = success(server.get("/v1/erasures").send().expect("get"));
    assert_eq!((&told["erasures"], &told["next"]), (&json!([receipt]), &Value::Null));
    let one = server.get(&format!("/v1/erasures/{}", receipt["id"].as_str().expect("an id"))).send().expect("get");
    assert_eq!(success(one), receipt);
    assert_eq!(server.get("/v1/erasures/nobody").send().expect("get").status(), 404);
}

#[test]
fn who_is_erased_is_in_no_file_later_and_may_come_back_as_a_stranger() {
    let mut server = server(Duration::from_millis(1));
    // Into every kind of file.
    server.restart_with(|config| config.erase_within = Duration::from_secs(3600));
    send_all(&server, 8..14);
    server.settle();
    assert!(!files_with(&server.data(), 9).is_empty());
    let deleted = server.client.delete(server.url(&format!("/v1/users/{}", id(9)))).send().expect("delete");
    let name = success(deleted)["id"].as_str().expect("an id").to_owned();
    erase(&server, &[3, 13]);
    server.restart_with(|config| config.erase_within = Duration::from_millis(1));
    wait_until("the disk is clean", || {
        let told = success(server.get("/v1/erasures").send().expect("get"));
        told["erasures"].as_array().expect("a list").iter().all(|erasure| !erasure["clean_at"].is_null())
    });
    let clean = success(server.get(&format!("/v1/erasures/{name}")).send().expect("get"));
    assert_eq!(clean["users"], 1);
    for number in [3, 9, 13] {
        assert_eq!(files_with(&server.data(), number), Vec::<PathBuf>::new());
        assert_eq!(rows_of(&server, number), 0);
    }
    assert_absent(&server, &[3, 9, 13]);
    assert_eq!((server.count("TRUE"), rows_of(&server, 10)), (11, 1));
    server.restart();
    assert_absent(&server, &[3, 9, 13]);
    assert_eq!(sql(&server, "SELECT count(*) FROM purchase"), "[[11]]");

    assert_eq!(success(server.post("/v1/admissions").body(ids(&[9, 10])).send().expect("post"))["admitted"], 1);
    server.post_tags(&format!("{{\"user_id\":\"{}\"}}\n", id(9)));
    server.settle();
    let back = success(server.get(&format!("/v1/users/{}", id(9))).send().expect("get"));
    assert_eq!((&back["audiences"], &back["vectors"]), (&json!([]), &json!({})), "{back}");
    assert_eq!((back["tags"].get("age"), server.count("TRUE")), (None, 12));
    server.stop();
    let check = beluga(&["check", "--data", server.data().to_str().expect("text")]);
    assert!(check.status.success(), "{}", stderr(&check));
}

/// Whatever the moment of the kill, the next start goes on with it.
#[test]
fn a_purge_that_is_killed_goes_on_after_the_next_start() {
    let mut server = server(Duration::from_secs(3600));
    erase(&server, &[0, 4, 7]);
    let data = server.data();
    server.stop();
    for wait in [0, 2, 5, 10, 20, 40, 80] {
        let killed = Process::serve(&data, &["erase_within_ms=1", "checkpoint_interval_ms=5"]);
        std::thread::sleep(Duration::from_millis(wait));
        killed.kill();
    }
    server.restart_with(|config| config.erase_within = Duration::from_millis(1));
    wait_until("the disk is clean", || {
        let told = success(server.get("/v1/erasures").send().expect("get"));
        !told["erasures"][0]["clean_at"].is_null()
    });
    for number in [0, 4, 7] {
        assert_eq!(files_with(&server.data(), number), Vec::<PathBuf>::new());
    }
    assert_absent(&server, &[0, 4, 7]);
    assert_eq!((server.count("TRUE"), rows_of(&server, 1)), (9, 1));
}

#[test]
fn a_body_with_a_line_that_is_no_id_erases_nobody_and_a_key_stands_for_one_erasure() {
    let server = server(Duration::from_secs(3600));
    let refused = server.post("/v1/erasures").header("Content-Type", "application/x-ndjson");
    let refused = refused.body(format!("\"{}\"\n{{}}\n", id(1))).send().expect("post");
    assert_eq!(refused.status(), 400);
    assert_eq!(server.post("/v1/erasures").body("").send().expect("post").status(), 400);
    assert_eq!(server.count("TRUE"), 12);
    let send =
        |body: String| server.post("/v1/erasures").header("Idempotency-Key", "one").body(body).send().expect("post");
    let first = success(send(ids(&[1])));
    assert_eq!(success(send(ids(&[1]))), first);
    assert_eq!(send(ids(&[2])).status(), 422);
    assert_eq!(server.count("TRUE"), 11);
    let page = success(server.get("/v1/erasures?limit=1").send().expect("get"));
    assert_eq!(page["next"], Value::Null);
}

#[test]
fn the_command_line_erases_and_lets_in_again() {
    let mut server = server(Duration::from_secs(3600));
    let (url, one) = (server.url(""), id(1));
    let run = |arguments: &[&str]| {
        let output = beluga(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let erased: Value = serde_json::from_str(&run(&["erase", &one, "--url", &url, "-o", "json"])).expect("JSON");
    assert_eq!(erased["users"], 1);
    assert_eq!(server.count("TRUE"), 11);
    assert!(run(&["erase", "--url", &url]).contains(erased["id"].as_str().expect("an id")));
    run(&["erase", "--admit", &one, "--url", &url]);
    server.post_tags(&format!("{{\"user_id\":\"{one}\"}}\n"));
    server.settle();
    assert_eq!(server.count("TRUE"), 12);

    server.stop();
    let data = server.data();
    let file = data.with_file_name("ids.txt");
    std::fs::write(&file, ids(&[2, 3])).expect("written");
    let (data_text, file_text) = (data.to_str().expect("text"), file.to_str().expect("text"));
    let erased = run(&["erase", "--file", file_text, "--data", data_text, "-o", "json"]);
    let erased: Value = serde_json::from_str(&erased).expect("JSON");
    assert!(!erased["clean_at"].is_null(), "{erased}");
    for number in [2, 3] {
        assert_eq!(files_with(&data, number), Vec::<PathBuf>::new());
    }
    server.restart();
    assert_absent(&server, &[2, 3]);
    assert_eq!(strings(&json!(server.members("TRUE"))).len(), 10);
}

#[test]
fn no_tenant_is_told_whom_another_had_erased() {
    let server = TestServer::start();
    server.put_catalog(&catalog());
    let tenant = json!({"where": "TRUE", "owns": {"tags": ["age"]}});
    success(server.put("/v1/tenants/acme").json(&tenant).send().expect("put"));
    let token = |by: Option<&str>, request: Value| -> String {
        let asked = server.post("/v1/tokens").json(&request);
        let asked = by.iter().fold(asked, |asked, by| asked.bearer_auth(by));
        success(asked.send().expect("post"))["token"].as_str().expect("its text").to_owned()
    };
    let root = token(None, json!({"name": "root", "scopes": ["ingest", "admin", "erase"]}));
    let acme = token(Some(&root), json!({"name": "acme.in", "scopes": ["ingest"], "tenant": "acme"}));
    let gone = server.client.delete(server.url("/v1/users/u1")).bearer_auth(&root);
    success(gone.send().expect("delete"));
    let told = |by: &str| {
        let lines = "{\"user_id\":\"u1\",\"set\":{\"age\":31}}\n{\"user_id\":\"u2\",\"set\":{\"age\":32}}\n";
        let told = success(server.post("/v1/tags").bearer_auth(by).body(lines).send().expect("post"));
        (told["accepted"].clone(), told["suppressed"].clone())
    };
    assert_eq!(told(&root), (json!(1), json!(1)));
    assert_eq!(told(&acme), (json!(2), json!(0)));
}
