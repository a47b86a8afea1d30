//! Count: what expressions mean, as text and as trees.

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
