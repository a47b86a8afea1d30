//! Count, profile, overlap, sample, top, explain.

use crate::support::TestServer;
use serde_json::json;

#[test]
fn counts() {
    let server = TestServer::with_people();
    for (expression, expected) in [
        ("TRUE", 4),
        ("gender = 'f'", 2),
        ("gender <> 'f'", 1),
        ("gender IS NULL", 1),
        ("age BETWEEN 28 AND 31 AND interest = 'yoga'", 2),
        ("spend >= 0.5", 2),
        ("spend > 0.50", 1),
        ("seen_at >= '2026-11-20'", 1),
        ("is_member", 1),
        ("NOT is_member", 3),
        ("user_id IN ('u1', 'u9')", 1),
    ] {
        assert_eq!(server.count(expression), expected, "{expression}");
    }
    let answer = server.ask("/v1/count", &json!({"where": "TRUE", "approximate": true, "timeout_ms": 1000}));
    assert!(answer["epoch"].as_u64() > Some(0) && answer["elapsed_us"].is_u64(), "{answer}");
}

#[test]
fn a_tree_says_what_text_says() {
    let server = TestServer::with_people();
    let tree = json!({"all": [{"tag": "gender", "is": "f"}, {"tag": "interest", "in": ["yoga", "golf"]}]});
    let by_tree = server.ask("/v1/count", &json!({ "where": tree }));
    assert_eq!(by_tree["count"], server.count("gender = 'f' AND interest IN ('yoga', 'golf')"));
    let refused = server.post("/v1/count").json(&json!({"where": {"tga": "gender"}})).send().expect("ask");
    assert_eq!(refused.status(), 400);
}

#[test]
fn errors_are_problems_with_place_and_suggestion() {
    let server = TestServer::with_people();
    for (expression, status) in [("gendr = 'f'", 400), ("age = 'x'", 400), ("age >", 400), ("in_audience('x')", 400)] {
        let answer = server.post("/v1/count").json(&json!({ "where": expression })).send().expect("ask");
        let found = answer.status().as_u16();
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        let body = answer.text().expect("text");
        assert!(found == status || found == 404 || found == 422, "{expression}: {found} {body}");
        assert!(kind.starts_with("application/problem+json"), "{expression}: {kind}");
    }
    let answer = server.post("/v1/count").json(&json!({"where": "gendr = 'f'"})).send().expect("ask");
    let problem: serde_json::Value = answer.json().expect("JSON");
    assert!(problem.to_string().contains("did you mean `gender`"), "{problem}");
    let deep = format!("{}age = 1{}", "(".repeat(10_000), ")".repeat(10_000));
    let answer = server.post("/v1/count").json(&json!({ "where": deep })).send().expect("ask");
    assert!(answer.status().is_client_error());
    assert_eq!(server.count("TRUE"), 4, "the server goes on");
}

#[test]
fn profile_overlap_explain_and_members_agree_with_count() {
    let server = TestServer::with_people();
    let profile = server.ask("/v1/profile", &json!({"where": "TRUE", "by": ["gender", "age"]}));
    assert_eq!(profile["count"], 4, "{profile}");
    let overlap = server.ask("/v1/overlap", &json!({"audiences": {"women": "gender = 'f'", "all": "TRUE"}}));
    assert!(overlap.to_string().contains('2'), "{overlap}");
    let plan = server.ask("/v1/explain", &json!({"where": "gender = 'f' AND NOT age > 30", "analyze": true}));
    assert!(plan.to_string().contains("gender = 'f'"), "{plan}");
    assert_eq!(server.members("gender = 'f'").len() as u64, server.count("gender = 'f'"));
}
