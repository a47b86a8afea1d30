//! SQL through its doors: `POST /v1/sql` and `beluga sql`.

use crate::process::Process;
use crate::support::{PEOPLE, PURCHASES, TestServer, beluga, catalog, stderr, stdout, success};
use arrow::ipc::reader::StreamReader;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn shop() -> TestServer {
    shop_with(|_| {})
}

fn shop_with(change: impl FnOnce(&mut api::config::Config)) -> TestServer {
    let server = TestServer::with(change);
    let mut with = catalog();
    with["facts"] = json!({"purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}}}});
    server.put_catalog(&with);
    server.post_tags(PEOPLE);
    let answer = success(server.post("/v1/facts/purchase?visible=true").body(PURCHASES).send().expect("post"));
    assert_eq!(answer["rejected"], 0, "{answer}");
    server
}

fn ask(server: &TestServer, sql: &str) -> Value {
    server.ask("/v1/sql", &json!({"sql": sql}))
}

fn rows(server: &TestServer, sql: &str) -> Value {
    ask(server, sql)["rows"].clone()
}

fn refused(server: &TestServer, body: &Value) -> (u16, Value) {
    let answer = server.post("/v1/sql").json(body).send().expect("ask");
    (answer.status().as_u16(), answer.json().expect("a problem"))
}

#[test]
fn users_and_facts_are_tables_before_and_after_a_restart() {
    let mut server = shop();
    for _ in 0..2 {
        let answer = ask(&server, "SELECT * FROM users ORDER BY user_id");
        let names: Vec<&str> = answer["columns"]
            .as_array()
            .expect("columns")
            .iter()
            .map(|column| column["name"].as_str().expect("text"))
            .collect();
        assert_eq!(names, ["user_id", "age", "gender", "interest", "is_member", "seen_at", "spend"]);
        assert_eq!(answer["columns"][6]["type"], "Decimal128(19, 2)");
        let expected = json!([
            ["u1", 31, "f", ["running", "yoga"], true, "2026-11-20T10:00:00Z", 129.90],
            ["u2", 44, "m", ["golf"], false, null, 0.50],
            ["u3", 28, "f", ["yoga"], false, null, null],
            ["u4", null, null, [], false, null, null],
        ]);
        assert_eq!(answer["rows"], expected);
        assert_eq!(answer["truncated"], false);
        assert_eq!(rows(&server, "SELECT count(*) FROM users WHERE gender <> 'm'"), json!([[2]]));
        let joined = "SELECT u.gender, sum(p.amount) FROM purchase p JOIN users u ON u.user_id = p.user_id GROUP BY 1 ORDER BY 1";
        assert_eq!(rows(&server, joined), json!([["f", 20.5], ["m", 3.0]]));
        server.restart();
    }
}

#[test]
fn funnels_sequences_retention_and_estimates_are_told() {
    let server = shop();
    let events = "{\"user_id\":\"u1\",\"ts\":\"2026-11-20T10:00:00.5Z\",\"category\":\"hats\",\"amount\":1}\n\
                  {\"user_id\":\"u2\",\"ts\":\"2026-11-20T10:00:01Z\",\"category\":\"shoes\",\"amount\":5}\n";
    success(server.post("/v1/facts/purchase?visible=true").body(events).send().expect("post"));
    let is = "category = 'shoes', category = 'hats'";
    let of_each = |call: &str| rows(&server, &format!("SELECT user_id, {call} FROM purchase GROUP BY 1 ORDER BY 1"));
    assert_eq!(of_each(&format!("window_funnel(1, ts, {is})")), json!([["u1", 2], ["u2", 1]]));
    assert_eq!(of_each(&format!("windowFunnel(0, 'strict_order')(ts, {is})")), json!([["u1", 1], ["u2", 1]]));
    assert_eq!(of_each(&format!("window_funnel(INTERVAL '1 hour', ts, 4, [{is}])")), json!([["u1", 2], ["u2", 1]]));
    assert_eq!(of_each(&format!("sequence_match('(?2).*(?1)', ts, {is})")), json!([["u1", false], ["u2", true]]));
    assert_eq!(of_each(&format!("sequenceCount('(?1)(?t<=1)(?2)')(ts, {is})")), json!([["u1", 1], ["u2", 0]]));
    assert_eq!(
        of_each("retention(day = '2026-11-19', day = '2026-11-20')"),
        json!([["u1", [false, false]], ["u2", [true, true]]])
    );
    assert_eq!(
        rows(
            &server,
            "SELECT approx_count_distinct(user_id), approx_quantile(amount, 0.5), approx_top_k(category, 1) FROM purchase"
        ),
        json!([[
            {"estimate": 2, "lower": 2, "upper": 2},
            {"estimate": 3.0, "lower": 3.0, "upper": 3.0},
            [{"value": "hats", "estimate": 2, "lower": 2, "upper": 2}],
        ]])
    );
    let (status, problem) =
        refused(&server, &json!({"sql": "SELECT sequence_match('(?1)(?3)', ts, true, true) FROM purchase"}));
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().expect("text").contains("character 5: there is no condition 3"), "{problem}");
}

#[test]
fn figures_groups_and_first_users_are_told_without_rows() {
    let mut server = shop();
    let interests =
        "SELECT v, count(*) FROM (SELECT unnest(interest) AS v FROM users WHERE gender = 'f') GROUP BY v ORDER BY v";
    for _ in 0..2 {
        for (sql, shown, expected) in [
            (
                "SELECT count(age), sum(age), avg(age), min(spend), max(seen_at), count(DISTINCT gender) FROM users",
                "UsersExec: aggregates=[",
                json!([[3, 103, 103.0 / 3.0, 0.5, "2026-11-20T10:00:00Z", 2]]),
            ),
            (
                "SELECT median(age), sum(spend) FILTER (WHERE gender = 'f') FROM users WHERE age > 29",
                "UsersExec: aggregates=[",
                json!([[37.5, 129.9]]),
            ),
            (
                "SELECT gender, count(*), avg(spend) FROM users GROUP BY gender ORDER BY gender NULLS FIRST",
                "UsersExec: groups=[gender]",
                json!([[null, 1, null], ["f", 2, 129.9], ["m", 1, 0.5]]),
            ),
            (
                "SELECT gender, is_member FROM users GROUP BY gender, is_member HAVING count(*) = 1 ORDER BY 1, 2 LIMIT 2",
                "UsersExec: groups=[gender, is_member]",
                json!([["f", false], ["f", true]]),
            ),
            (interests, "UsersExec: groups=[", json!([["running", 1], ["yoga", 2]])),
            (
                "SELECT user_id FROM users ORDER BY age DESC NULLS LAST LIMIT 2",
                "first=2 by age DESC NULLS LAST",
                json!([["u2"], ["u1"]]),
            ),
        ] {
            assert_eq!(rows(&server, sql), expected, "{sql}");
            let plan = rows(&server, &format!("EXPLAIN {sql}")).to_string();
            assert!(plan.contains(shown), "{sql}: {plan}");
        }
        server.restart();
    }
}

#[test]
fn audiences_and_joins_are_asked_in_sql() {
    let server = shop();
    let saved = server.put("/v1/audiences/women").json(&json!({"where": "gender = 'f'"})).send().expect("saved");
    assert!(saved.status().is_success(), "{}", saved.status());
    server.settle();
    for (text, calls) in [
        ("did('purchase', category = 'shoes')", 1),
        ("NOT did('purchase')", 2),
        ("did('purchase', amount > 2.5 AND category LIKE 'h%')", 0),
        ("at_least(2, gender = 'f', is_member, age < 30)", 2),
        ("in_audience('women') AND age > 30", 1),
    ] {
        let body = json!({"sql": format!("SELECT count(*) FROM users WHERE {text}")});
        let answer = server.post("/v1/sql").json(&body).send().expect("ask");
        if text.contains("LIKE") {
            let problem: Value = answer.json().expect("a problem");
            assert_eq!(problem["suggestion"], "list the values with IN (…)", "{problem}");
            continue;
        }
        let counted = server.ask("/v1/count", &json!({"where": text}))["count"].clone();
        assert_eq!(success(answer)["rows"], json!([[counted]]), "{text}");
        assert_eq!(counted, calls, "{text}");
    }
    for (sql, expected) in [
        ("SELECT count(*) FROM users WHERE user_id IN (SELECT user_id FROM purchase WHERE amount > 10)", json!([[1]])),
        ("SELECT count(*) FROM users WHERE user_id NOT IN (SELECT user_id FROM purchase)", json!([[2]])),
        (
            "SELECT sum(amount) FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE gender = 'f')",
            json!([[20.5]]),
        ),
        ("SELECT p.category FROM purchase p JOIN users u USING (user_id) WHERE u.age > 40", json!([["hats"]])),
        ("SELECT category FROM purchase WHERE NOT in_audience('women')", json!([["hats"]])),
        (
            "SELECT m.audience, count(*), sum(p.amount) FROM purchase p JOIN members m USING (user_id) GROUP BY 1",
            json!([["women", 1, 20.5]]),
        ),
        (
            "SELECT user_id, did('purchase', count >= 1) FROM users ORDER BY 1 LIMIT 3",
            json!([["u1", true], ["u2", true], ["u3", false]]),
        ),
    ] {
        assert_eq!(rows(&server, sql), expected, "{sql}");
    }
    let (status, problem) = refused(&server, &json!({"sql": "SELECT count(*) FROM users WHERE did('purchse')"}));
    assert_eq!((status, &problem["type"]), (400, &json!("urn:beluga:problem:unknown-table")), "{problem}");
    assert_eq!(problem["span"], json!({"start": 33, "end": 47}), "{problem}");
}

#[test]
fn the_format_follows_accept() {
    let server = shop();
    let get = |accept: &str| {
        let body = json!({"sql": "SELECT user_id, interest FROM users WHERE age > 30 ORDER BY user_id"});
        let answer = server.post("/v1/sql").header(ACCEPT, accept).json(&body).send().expect("ask");
        assert!(answer.status().is_success(), "{accept}: {}", answer.status());
        assert_eq!(answer.headers()["content-type"], accept);
        answer.bytes().expect("a body")
    };
    let arrow = get("application/vnd.apache.arrow.stream");
    let batches: Vec<_> =
        StreamReader::try_new(&arrow[..], None).expect("a stream").map(|batch| batch.expect("a batch")).collect();
    assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 2);
    let csv = get("text/csv");
    assert_eq!(
        String::from_utf8_lossy(&csv),
        "user_id,interest\nu1,\"[\"\"running\"\",\"\"yoga\"\"]\"\nu2,\"[\"\"golf\"\"]\"\n"
    );
    let ndjson = get("application/x-ndjson");
    let first = String::from_utf8_lossy(&ndjson).lines().next().map(str::to_owned).expect("a line");
    assert_eq!(first, "{\"user_id\":\"u1\",\"interest\":[\"running\",\"yoga\"]}");
    assert!(get("application/vnd.apache.parquet").starts_with(b"PAR1"));
    let roaring =
        server.post("/v1/sql").header(ACCEPT, "application/vnd.roaring").json(&json!({"sql": "SELECT 1"})).send();
    assert_eq!(roaring.expect("ask").status(), 406);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_a_suggestion() {
    let server = shop();
    let (status, problem) = refused(&server, &json!({"sql": "SELECT gendr FROM users"}));
    assert_eq!(status, 400);
    assert_eq!(problem["type"], "urn:beluga:problem:unknown-column", "{problem}");
    assert_eq!(problem["span"], json!({"start": 7, "end": 12}));
    assert_eq!(problem["suggestion"], "did you mean `gender`?");
    assert_eq!(problem["pointer"], "/sql");
    for (sql, kind) in [
        ("SELECT * FROM purchse", "unknown-table"),
        ("SELECT count(* FROM users", "sql-syntax"),
        ("SELECT age + 'x' FROM users WHERE user_id = 'u1'", "sql-invalid"),
        ("COPY users TO '/tmp/x'", "sql-refused"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "sql-refused"),
        ("SET datafusion.execution.batch_size = 1", "sql-refused"),
        ("SELECT 1; SELECT 2", "sql-refused"),
    ] {
        let (status, problem) = refused(&server, &json!({"sql": sql}));
        assert_eq!((status, &problem["type"]), (400, &json!(format!("urn:beluga:problem:{kind}"))), "{sql}: {problem}");
    }
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let (status, problem) = refused(&server, &json!({"sql": deep}));
    assert_eq!((status, &problem["type"]), (413, &json!("urn:beluga:problem:sql-too-large")));
    let (status, _) = refused(&server, &json!({"sql": "SELECT 1", "limit": 0}));
    assert_eq!(status, 400);
}

#[test]
fn rows_that_are_not_shown_are_told() {
    let server = shop();
    let answer = server.ask("/v1/sql", &json!({"sql": "SELECT user_id FROM users ORDER BY 1", "limit": 2}));
    assert_eq!((&answer["rows"], &answer["truncated"]), (&json!([["u1"], ["u2"]]), &json!(true)));
    let answer = server.ask("/v1/sql", &json!({"sql": "SELECT user_id FROM users", "limit": 4}));
    assert_eq!(answer["truncated"], false);
}

#[test]
fn the_server_tells_of_itself() {
    let server = shop();
    success(server.put("/v1/audiences/women").json(&json!({"where": "gender = 'f'"})).send().expect("put"));
    assert_eq!(
        rows(&server, "SELECT name, definition, live FROM audiences"),
        json!([["women", "gender = 'f'", false]])
    );
    assert_eq!(rows(&server, "SELECT name, type FROM tags WHERE name = 'age'"), json!([["age", "number"]]));
    assert_eq!(rows(&server, "SELECT * FROM system.sources"), json!([]));
    assert_eq!(rows(&server, "SELECT count(*) FROM system.jobs"), json!([[0]]));
    let tables =
        rows(&server, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY 1");
    assert_eq!(tables, json!([["jobs"], ["queries"], ["segments"], ["shards"], ["sources"]]));
    let plan = rows(&server, "EXPLAIN SELECT count(*) FROM users WHERE age > 30").to_string();
    assert!(plan.contains("UsersExec: count, where=age >= 31"), "{plan}");
}

/// Enough work for hours.
fn endless(server: &TestServer) -> &'static str {
    let lines: String =
        (0..3_000).map(|at| format!("{{\"user_id\":\"w{at}\",\"set\":{{\"age\":{}}}}}\n", at % 90)).collect();
    server.post_tags(&lines);
    server.settle();
    "SELECT count(*) FROM users a, users b, users c, users d WHERE a.age + b.age + c.age + d.age = -1"
}

fn running(server: &TestServer) -> bool {
    let metrics = server.get("/metrics").send().expect("get").text().expect("text");
    let line = metrics.lines().find(|line| line.starts_with("beluga_queries_running")).map(str::to_owned);
    !line.unwrap_or_else(|| panic!("{metrics}")).ends_with(" 0")
}

#[test]
fn a_statement_ends_with_its_time_and_with_its_client() {
    let server = shop_with(|config| config.concurrent_uploads = 1);
    let sql = endless(&server);
    let (status, problem) = refused(&server, &json!({"sql": sql, "timeout_ms": 300}));
    assert_eq!((status, &problem["type"]), (504, &json!("urn:beluga:problem:timeout")));
    let impatient =
        reqwest::blocking::Client::builder().timeout(Duration::from_millis(300)).no_proxy().build().expect("client");
    let give_up = |accept: &str| {
        let asked = impatient.post(server.url("/v1/sql")).header(ACCEPT, accept).json(&json!({"sql": sql})).send();
        // The head of a stream comes at once, its rows never.
        assert!(asked.and_then(reqwest::blocking::Response::bytes).is_err(), "{accept}");
        Instant::now()
    };
    let left = give_up("application/json");
    while running(&server) {
        assert!(left.elapsed() < Duration::from_secs(5), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = give_up("text/csv");
    let again = || {
        server
            .post("/v1/sql")
            .header(ACCEPT, "text/csv")
            .json(&json!({"sql": "SELECT 1"}))
            .send()
            .expect("ask")
            .status()
    };
    // One stream at a time: the next one is taken when the first has ended.
    while again() == 429 {
        assert!(left.elapsed() < Duration::from_secs(5), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Its threads are free for others.
    assert_eq!(rows(&server, "SELECT count(*) FROM users WHERE user_id = 'u1'"), json!([[1]]));
}

#[test]
fn the_command_asks_a_server_and_a_directory_alike() {
    let mut server = shop();
    let sql = "SELECT gender, count(*) AS users, avg(age) AS age FROM users GROUP BY gender ORDER BY gender";
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), sql).expect("written");
    let file = file.path().display().to_string();
    let (url, data) = (server.url(""), server.data().display().to_string());
    let run = |target: [&str; 2], output: &str| {
        let direct = beluga(&["sql", sql, target[0], target[1], "--output", output]);
        assert!(direct.status.success(), "{}", stderr(&direct));
        let of_file = beluga(&["sql", "--file", &file, target[0], target[1], "--output", output]);
        if output != "json" {
            assert_eq!(stdout(&of_file), stdout(&direct));
        }
        stdout(&direct)
    };
    let formats = ["table", "csv", "ndjson"];
    let of_server = formats.map(|output| run(["--url", &url], output));
    assert!(of_server[0].contains("gender"), "{}", of_server[0]);
    assert_eq!(of_server[1], "gender,users,age\nf,2,29.5\nm,1,44.0\n,1,\n");
    let answer: Value = serde_json::from_str(&run(["--url", &url], "json")).expect("JSON");
    assert_eq!(answer["rows"][0], json!(["f", 2, 29.5]));
    let wrong = beluga(&["sql", "SELECT agge FROM users", "--url", &url]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("^^^^") && stderr(&wrong).contains("did you mean `age`?"), "{}", stderr(&wrong));
    server.stop();
    assert_eq!(formats.map(|output| run(["--data", &data], output)), of_server);
}

#[test]
fn what_a_killed_server_left_on_disk_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let process = Process::serve(&data, &[]);
    std::fs::write(data.join("spill").join("left"), "x").expect("written");
    drop(process);
    let _process = Process::serve(&data, &[]);
    assert!(data.join("spill").exists() && !data.join("spill").join("left").exists());
}
