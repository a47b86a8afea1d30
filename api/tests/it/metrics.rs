//! What operators are told: figures of `/metrics`, and questions that took long in the log.

use crate::process::{Process, wait_until};
use crate::support::{PEOPLE, TestServer, catalog};
use serde_json::json;

/// The number behind a series.
fn figure(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn questions_are_counted_by_door_and_failures_by_kind() {
    let server = TestServer::start();
    server.put_catalog(&catalog());
    server.post_tags(PEOPLE);
    server.settle();
    assert_eq!(server.count("TRUE"), 4);
    assert_eq!(server.post("/v1/count").json(&json!({"where": "age >"})).send().expect("ask").status(), 400);
    let sql = server.post("/v1/sql").json(&json!({"sql": "SELECT count(*) FROM users"})).send().expect("ask");
    assert!(sql.status().is_success());
    sql.text().expect("rows");
    let told = || server.get("/metrics").send().expect("ask").text().expect("text");
    wait_until("all are over", || {
        figure(&told(), "beluga_query_seconds_count{door=\"rest\",asks=\"sql\"}") == Some(1.0)
    });
    let told = told();
    for (series, wanted) in [
        ("beluga_queries_total{door=\"rest\",asks=\"count\",outcome=\"done\"}", 1.0),
        ("beluga_failures_total{kind=\"syntax\"}", 1.0),
        ("beluga_read_only", 0.0),
        ("beluga_keeper_failing", 0.0),
        ("beluga_sql_spill_bytes", 0.0),
        (concat!("beluga_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(figure(&told, series), Some(wanted), "{series} in\n{told}");
    }
    for series in ["beluga_opening_seconds", "beluga_shards", "beluga_log_bytes", "beluga_disk_free_bytes"] {
        assert!(figure(&told, series).is_some_and(|figure| figure > 0.0), "{series} in\n{told}");
    }
    if cfg!(target_os = "linux") {
        assert!(figure(&told, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{told}");
    }
}

#[test]
fn questions_that_take_long_are_logged() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Process::serve(&folder.path().join("data"), &["slow_query_ms=200"]);
    server.put_catalog(&catalog());
    server.post_tags(PEOPLE);
    assert_eq!(server.count("TRUE"), 4);
    // It runs until its time is over.
    let text =
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value > b.value";
    let asked = server.post("/v1/sql").json(&json!({"sql": text, "timeout_ms": 300})).send().expect("ask");
    assert!(!asked.status().is_success(), "{}", asked.text().expect("text"));
    wait_until("it is logged", || server.told().contains("slow question"));
    let told = server.told();
    let line = told.lines().find(|line| line.contains("slow question")).expect("a line");
    assert!(line.contains(text) && line.contains("rest"), "{line}");
    assert_eq!(told.matches("slow question").count(), 1, "{told}");
}
