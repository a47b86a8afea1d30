//! What runs and what ran, by every call that asks.

use crate::support::{BELUGA, TestServer, command, stderr, success};
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn queries(server: &TestServer) -> Vec<Value> {
    success(server.get("/v1/queries").send().expect("get"))["queries"].as_array().expect("a list").clone()
}

/// The newest question is this one.
fn check(server: &TestServer, kind: &str, text: &str, rows: u64) {
    let newest = queries(server).swap_remove(0);
    let told = json!([newest["door"], newest["kind"], newest["sql"], newest["state"], newest["rows"]]);
    assert_eq!(told, json!(["rest", kind, text, "done", rows]), "{newest}");
    assert!(newest.get("memory_bytes").is_none(), "what was not measured is not told: {newest}");
}

fn text(request: RequestBuilder) -> String {
    request.send().expect("send").error_for_status().expect("a success").text().expect("text")
}

#[test]
fn every_question_about_audiences_is_listed() {
    let server = TestServer::with_people();
    assert_eq!(server.count("gender = 'f'"), 2);
    check(&server, "count", "gender = 'f'", 1);
    server.ask("/v1/count", &json!({"where": {"tag": "age", "op": ">", "value": 30}}));
    let tree = queries(&server).swap_remove(0)["sql"].as_str().expect("text").to_owned();
    let tree: Value = serde_json::from_str(&tree).expect("a tree");
    assert_eq!(tree, json!({"tag": "age", "op": ">", "value": 30}));
    server.ask("/v1/profile", &json!({"where": "TRUE", "against": "age > 1", "by": ["gender", "age"]}));
    check(&server, "profile", "TRUE AGAINST age > 1 BY gender, age", 2);
    server.ask("/v1/overlap", &json!({"audiences": {"a": "TRUE", "b": "age > 30"}}));
    check(&server, "overlap", "a: TRUE; b: age > 30", 2);
    server.ask("/v1/sample", &json!({"where": "TRUE", "size": 3}));
    check(&server, "sample", "TRUE", 3);
    server.ask("/v1/top", &json!({"where": "TRUE", "by": "age", "k": 2}));
    check(&server, "top", "TRUE BY age", 2);
    server.ask("/v1/explain", &json!({"where": "age > 2", "analyze": true}));
    check(&server, "explain", "age > 2", 1);
    success(server.get("/v1/users/u1").send().expect("get"));
    check(&server, "user", "u1", 1);
    let page = server.ask("/v1/members", &json!({"where": "age > 3", "limit": 2}));
    check(&server, "members", "age > 3", 2);
    server.ask("/v1/members", &json!({"cursor": page["next"]}));
    check(&server, "members", "age > 3", 1);
    for format in ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet"] {
        let request = server.post("/v1/members").header("accept", format).json(&json!({"where": "TRUE"}));
        request.send().expect("send").error_for_status().expect("a success").bytes().expect("a list");
        check(&server, "members", "TRUE", 4);
    }
    let many: Vec<_> = (0..3_000).map(|n| format!("age = {n}")).collect();
    server.count(&many.join(" OR "));
    let newest = queries(&server).swap_remove(0);
    assert!(newest["sql"].as_str().is_some_and(|text| text.len() < 5_000 && text.ends_with('…')), "its begin is kept");
}

#[test]
fn questions_that_fail_are_told_with_the_reason_and_the_command_line_by_its_name() {
    let server = TestServer::with_people();
    assert_eq!(server.post("/v1/count").json(&json!({"where": "agee > 3"})).send().expect("post").status(), 400);
    let newest = queries(&server).swap_remove(0);
    assert_eq!((&newest["state"], &newest["sql"]), (&json!("failed"), &json!("agee > 3")));
    assert!(newest["error"].as_str().is_some_and(|why| why.contains("`agee`")), "{newest}");
    let url = server.url("");
    for arguments in [["count", "age > 30"], ["sql", "SELECT 7"]] {
        let ran = command(BELUGA).args(arguments).args(["--url", &url]).output().expect("run");
        assert!(ran.status.success(), "{}", stderr(&ran));
        let newest = queries(&server).swap_remove(0);
        assert_eq!(json!([newest["door"], newest["kind"], newest["sql"]]), json!(["cli", arguments[0], arguments[1]]));
    }
    let asked =
        "SELECT door, kind, sql, memory_bytes IS NULL FROM system.queries WHERE door = 'cli' AND kind = 'count'";
    let rows = server.ask("/v1/sql", &json!({"sql": asked}))["rows"].clone();
    assert_eq!(rows, json!([["cli", "count", "age > 30", true]]));
    assert!(text(server.get("/openapi.json")).contains("\"kind\""));
}

#[test]
fn a_question_about_an_audience_is_cancelled_by_its_number() {
    let server = TestServer::with_people();
    // Far longer in the reading than this test waits.
    let long = vec!["age = 1"; 45_000].join(" OR ");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.post("/v1/count").json(&json!({"where": long})).send().expect("post"));
        let begin = Instant::now();
        let running = loop {
            let running = queries(&server).into_iter().find(|query| query["state"] == "running");
            if let Some(query) = running {
                break query;
            }
            assert!(begin.elapsed() < Duration::from_secs(10) && !asking.is_finished(), "it was not seen");
            std::thread::sleep(Duration::from_millis(1));
        };
        let url = format!("/v1/queries/{}", running["id"].as_str().expect("a number"));
        success(server.client.delete(server.url(&url)).send().expect("delete"));
        let answer = asking.join().expect("no panic");
        assert_eq!(answer.status(), 504);
        assert!(answer.text().expect("text").contains("cancelled"));
        let ended = queries(&server).into_iter().find(|query| query["id"] == running["id"]).expect("it is remembered");
        assert_eq!((&ended["state"], &ended["kind"]), (&json!("cancelled"), &json!("count")));
    });
}
