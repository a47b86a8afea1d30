//! Files and folders as sources, from the catalog to the answer. Topics have tests of their own, in `kafka`.

use crate::support::{TestServer, success};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A server that may read a folder, which goes with the answer.
fn server() -> (TestServer, tempfile::TempDir) {
    let input = tempfile::tempdir().expect("temporary folder");
    let folder = input.path().to_owned();
    let server = TestServer::with(|config| config.source_folders = vec![folder]);
    (server, input)
}

fn catalog(files: Value, more: Value) -> Value {
    let mut source = json!({"files": files, "into": "view"});
    source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({
        "facts": {"view": {"columns": {"page": "string", "price": {"decimal": [8, 2]}},
            "activity": {"dimensions": ["page"], "measures": ["price"]}}},
        "sources": {"lines": source},
    })
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

#[track_caller]
fn wait(server: &TestServer, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = success(server.get("/v1/sources/lines").send().expect("ask"));
        if done(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn line(user: &str, page: &str) -> String {
    format!("{{\"user_id\":\"{user}\",\"ts\":\"{}\",\"page\":\"{page}\"}}\n", jiff::Timestamp::now())
}

#[test]
fn a_folder_is_watched() {
    let (mut server, input) = server();
    let folder = input.path().to_owned();
    append(&folder.join("a.ndjson"), &(line("u1", "home") + &line("u2", "home")));
    server.put_catalog(&catalog(json!({"paths": folder, "every": "20 ms"}), json!({})));
    let answer = wait(&server, |answer| answer["records"] == 2);
    assert_eq!(answer["state"], "running", "{answer}");
    append(&folder.join("a.ndjson"), &(line("u1", "home") + "nonsense\n"));
    append(&folder.join("b.ndjson"), &line("u3", "cart"));
    let answer = wait(&server, |answer| answer["records"] == 5 && answer["lag"] == 0);
    assert_eq!(answer["refused"], 1, "{answer}");
    assert_eq!(answer["partitions"][0]["partition"], json!(folder.join("a.ndjson")));
    // Read on where it was.
    server.restart_with(|config| config.source_folders = vec![folder.clone()]);
    append(&folder.join("a.ndjson"), &line("u1", "home"));
    wait(&server, |answer| answer["records"] == 1);
    server.settle();
    assert_eq!(server.members("did('view', page = 'home', count = 3)"), ["u1"]);
    assert_eq!(server.count("did('view')"), 3);
    // Without leave to read the folder any more, it says so.
    server.restart_with(|_| {});
    let answer = wait(&server, |answer| answer["state"] == "failed");
    assert!(answer["error"].as_str().expect("why").contains("source_folders"), "{answer}");
}

#[test]
fn a_file_that_takes_the_place_of_another_is_read_whole() {
    let (mut server, input) = server();
    let folder = input.path().to_owned();
    let (file, away) = (folder.join("day.ndjson"), folder.join("day.1"));
    append(&file, &line("u1", "home"));
    server.put_catalog(&catalog(json!({"paths": folder.join("*.ndjson"), "every": "20 ms"}), json!({})));
    wait(&server, |answer| answer["records"] == 1);
    // Rotated: the last lines come by the old name, those of the new file from its begin.
    append(&file, &line("u1", "home"));
    std::fs::rename(&file, &away).expect("renamed");
    append(&file, &(line("u2", "home") + &line("u2", "home") + &line("u2", "home")));
    wait(&server, |answer| answer["records"] == 5 && answer["lag"] == 0);
    // Gone, and one of the same name when nobody looks.
    std::fs::remove_file(&file).expect("removed");
    wait(&server, |answer| answer["partitions"].as_array().is_none_or(Vec::is_empty));
    server.stop();
    append(&file, &(line("u3", "home") + &line("u3", "home") + &line("u3", "home") + &line("u3", "home")));
    server.restart_with(|config| config.source_folders = vec![folder.clone()]);
    wait(&server, |answer| answer["records"] == 4);
    server.settle();
    for (user, count) in [("u1", 2), ("u2", 3), ("u3", 4)] {
        assert_eq!(server.members(&format!("did('view', count = {count})")), [user]);
    }
}

#[test]
#[cfg(unix)]
fn links_do_not_lead_out() {
    let (server, input) = server();
    let elsewhere = tempfile::tempdir().expect("temporary folder");
    append(&elsewhere.path().join("secret.ndjson"), "a secret\n");
    std::os::unix::fs::symlink(elsewhere.path().join("secret.ndjson"), input.path().join("a.ndjson")).expect("linked");
    server.put_catalog(&catalog(json!({"paths": input.path(), "every": "20 ms"}), json!({})));
    let answer = wait(&server, |answer| !answer["error"].is_null());
    assert!(answer["error"].as_str().expect("why").contains("leads out of the folders"), "{answer}");
    assert_eq!((&answer["records"], &answer["partitions"]), (&json!(0), &Value::Null), "{answer}");
}

#[test]
fn tables_are_mapped_and_read_to_their_end() {
    let (server, input) = server();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%dT00:00:00Z").to_string();
    let csv = format!("customer;at;what;price\nu1;{today};home;1.50\nu1;{today};\"ho\nme\";2\nu2;never;home;3\n");
    append(&input.path().join("views.csv"), &csv);
    let map = json!({"map": {"user_id": "customer", "ts": "at", "page": "what",
        "price": {"path": "price", "type": "decimal"}}});
    let files = json!({"paths": input.path().join("*.csv"), "watch": false, "delimiter": ";"});
    server.put_catalog(&catalog(files, map));
    let answer = wait(&server, |answer| answer["state"] == "finished");
    assert_eq!((&answer["records"], &answer["refused"]), (&json!(3), &json!(1)), "{answer}");
    assert!(answer["refused_last"][0]["error"].as_str().expect("why").contains("never"), "{answer}");
    server.settle();
    assert_eq!(server.members("did('view', sum(price) = 3.5, count = 2)"), ["u1"]);
    assert_eq!(server.count("TRUE"), 1);
    // Read again from the begin, it counts again.
    server.ask("/v1/sources/lines/rewind", &json!({"to": "earliest"}));
    wait(&server, |answer| answer["state"] == "finished" && answer["records"] == 6);
    server.settle();
    assert_eq!(server.members("did('view', sum(price) = 7, count = 4)"), ["u1"]);
    let refused = server.post("/v1/sources/lines/rewind").json(&json!({"to": "2026-01-01T00:00:00Z"})).send();
    let refused: Value = refused.expect("ask").json().expect("JSON");
    assert!(refused["detail"].as_str().expect("why").contains("no times of their own"), "{refused}");
    wait(&server, |answer| answer["state"] == "finished");
}

#[test]
fn other_folders_are_not_read() {
    let (server, input) = server();
    let refused = |paths: PathBuf, says: &str| {
        let declared = catalog(json!({"paths": paths}), json!({}));
        let answer = server.put("/v1/catalog").json(&declared).send().expect("put");
        assert_eq!(answer.status().as_u16(), 400);
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["pointer"], "/sources/lines/files/paths");
        assert!(answer["detail"].as_str().expect("why").contains(says), "{answer}");
    };
    refused(PathBuf::from("/etc/*"), "this server reads such files in");
    refused(input.path().join("../other/*"), "without `..`");
    refused(PathBuf::from("views.ndjson"), "from the root");
    let declared = catalog(json!({"paths": input.path()}), json!({"map": {"user_id": "customer"}}));
    let answer: Value = server.put("/v1/catalog").json(&declared).send().expect("put").json().expect("JSON");
    assert!(answer["detail"].as_str().expect("why").contains("say where `ts` stands"), "{answer}");
    let closed = TestServer::start();
    let declared = catalog(json!({"paths": input.path()}), json!({}));
    let answer: Value = closed.put("/v1/catalog").json(&declared).send().expect("put").json().expect("JSON");
    assert!(answer["detail"].as_str().expect("why").contains("this server reads no such files"), "{answer}");
}

#[test]
fn expressions_are_computed() {
    let (server, input) = server();
    let now = jiff::Timestamp::now().as_millisecond();
    let orders = [
        json!({"customer": {"id": 1}, "at": now, "url": "/Shop/Shoes/7", "price": 12.1, "quantity": 3, "status": "paid"}),
        json!({"customer": {"id": 1}, "at": now, "url": "/Shop/HATS", "price": "0.40", "quantity": 2, "discount": 0.5,
            "status": "shipped"}),
        json!({"customer": {"id": 2}, "at": now, "url": "/Shop/Shoes", "price": "gratis", "quantity": 1, "status": "paid"}),
        json!({"customer": {"id": 2}, "at": now, "url": "/Shop/Shoes", "price": 5, "quantity": 0, "status": "paid"}),
        json!({"customer": {"id": 2}, "at": now, "url": "/Shop/Shoes", "price": 1.111, "quantity": 1, "status": "paid"}),
        json!({"customer": {"id": 3}, "at": now, "url": "/Shop/Shoes", "price": 5, "quantity": 1, "status": "open"}),
        json!({"customer": {"id": 3}, "at": now, "price": 5, "quantity": 1}),
        json!({"customer": {"id": 4}, "at": now, "url": "/Shop", "price": 5, "quantity": 1, "status": "paid"}),
    ];
    let lines: Vec<String> = orders.iter().map(Value::to_string).collect();
    append(&input.path().join("orders.ndjson"), &(lines.join("\n") + "\n"));
    let more = json!({
        "map": {
            "user_id": {"sql": "'c-' || customer.id"},
            "ts": {"sql": "to_timestamp_millis(at)"},
            "page": {"sql": "nullif(lower(split_part(url, '/', 3)), '')", "default": "none"},
            "price": {"sql": "price * quantity * (1 - coalesce(discount, 0)) / CASE WHEN quantity > 2 THEN 1 ELSE quantity END"},
        },
        "where": "status IN ('paid', 'shipped') AND price IS NOT NULL",
    });
    server.put_catalog(&catalog(json!({"paths": input.path(), "watch": false}), more));
    let answer = wait(&server, |answer| answer["state"] == "finished");
    let counts = [&answer["records"], &answer["refused"], &answer["filtered"]];
    assert_eq!(counts, [&json!(8), &json!(3), &json!(2)], "{answer}");
    let why: Vec<&str> = (0..3).map(|n| answer["refused_last"][n]["error"].as_str().expect("why")).collect();
    assert!(why[0].contains("more than 2 digits behind the point"), "{answer}");
    assert!(why[1].starts_with("`price`: division by zero"), "{answer}");
    assert!(why[2].starts_with("`price`: `price` is `gratis`, not a number"), "{answer}");
    server.settle();
    assert_eq!(server.members("did('view', page = 'shoes', sum(price) = 36.3)"), ["c-1"]);
    assert_eq!(server.members("did('view', page = 'hats', sum(price) = 0.2)"), ["c-1"]);
    assert_eq!(server.members("did('view', page = 'none')"), ["c-4"]);
    // Read again, it is the same again.
    server.ask("/v1/sources/lines/rewind", &json!({"to": "earliest"}));
    wait(&server, |answer| answer["state"] == "finished" && answer["records"] == 16);
    server.settle();
    assert_eq!(server.members("did('view', page = 'shoes', sum(price) = 72.6, count = 2)"), ["c-1"]);
}

#[test]
fn a_source_that_may_take_its_time_is_seen_within_it() {
    let (server, input) = server();
    let folder = input.path().to_owned();
    append(&folder.join("a.ndjson"), &(line("u1", "home") + &line("u2", "home")));
    let with = |latency: &str| catalog(json!({"paths": folder, "every": "20 ms"}), json!({"latency": latency}));
    server.put_catalog(&with("10 min"));
    wait(&server, |answer| answer["records"] == 2);
    assert_eq!(server.count("did('view')"), 0);
    // Its definition changes: what was read is applied, and counts once.
    server.put_catalog(&with("1 s"));
    append(&folder.join("a.ndjson"), &line("u3", "home"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.count("did('view', count = 1)") < 3 {
        assert!(Instant::now() < deadline, "it was never seen");
        std::thread::sleep(Duration::from_millis(20));
    }
    for (latency, why) in [("10 ms", "publish_interval_ms"), ("1 h", "at most 600 s")] {
        let answer = server.put("/v1/catalog").json(&with(latency)).send().expect("put");
        assert_eq!(answer.status(), 400, "{latency}");
        let problem: Value = answer.json().expect("JSON");
        assert_eq!(problem["pointer"], "/sources/lines/latency", "{problem}");
        assert!(problem["detail"].as_str().expect("why").contains(why), "{problem}");
    }
}

#[test]
fn wrong_expressions_are_refused_with_the_catalog() {
    let (server, input) = server();
    let refused = |field: Value, condition: Value| {
        let more = json!({"map": {"user_id": "u", "ts": "t", "price": field}, "where": condition});
        let catalog = catalog(json!({"paths": input.path()}), more);
        let answer = server.put("/v1/catalog").json(&catalog).send().expect("put catalog");
        assert_eq!(answer.status(), 400, "{catalog}");
        let problem: Value = answer.json().expect("JSON");
        problem.to_string()
    };
    let fine = || json!("price");
    let problem = refused(json!({"sql": "roun(price, 2)"}), json!([]));
    assert!(problem.contains("did you mean `round`?") && problem.contains("/map/price/sql"), "{problem}");
    let problem = refused(json!({"sql": "price * (2"}), json!([]));
    assert!(problem.contains("found: EOF"), "{problem}");
    let problem = refused(json!({"sql": "lower(page)"}), json!([]));
    assert!(problem.contains("gives text, and a number is needed"), "{problem}");
    assert!(refused(json!({"sql": "random()"}), json!([])).contains("another value whenever it is asked"));
    assert!(refused(fine(), json!("now() > 1")).contains("$timestamp"));
    let problem = refused(fine(), json!(["status = 'paid'", {"sql": "price + 1"}]));
    assert!(problem.contains("/where/1") && problem.contains("true or false is needed"), "{problem}");
    assert!(refused(fine(), json!(7)).contains("amount > 0"));
}
