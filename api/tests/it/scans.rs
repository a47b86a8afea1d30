//! Conditions on events that no activity index covers, asked as people ask them.

use crate::support::{TestServer, beluga, catalog, stderr, stdout, strings, success};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn shop(change: impl FnOnce(&mut api::config::Config)) -> TestServer {
    let server = TestServer::with(change);
    let mut with = catalog();
    with["facts"] = json!({"purchase": {
        "columns": {"category": "string", "campaign": "string", "amount": {"decimal": [12, 2]}, "gift": "boolean",
            "rating": "float", "basket": "json"},
        "activity": {"dimensions": ["category", "gift"], "measures": ["amount"]},
        "deduplicate": "400 days",
    }});
    server.put_catalog(&with);
    server.post_tags(
        "{\"user_id\":\"u1\",\"set\":{\"gender\":\"f\",\"age\":31}}\n{\"user_id\":\"u2\",\"set\":{\"gender\":\"m\"}}\n\
         {\"user_id\":\"u3\",\"set\":{\"gender\":\"f\"}}\n",
    );
    server
}

/// Sends events of a user, so many hours before a moment.
fn send(server: &TestServer, now: Timestamp, events: &[(&str, &str, i64, Value)]) {
    let mut body = String::new();
    for (user, id, hours, fields) in events {
        let mut event = fields.clone();
        event["user_id"] = json!(user);
        event["event_id"] = json!(id);
        event["ts"] = json!((now - SignedDuration::from_hours(*hours)).to_string());
        body.push_str(&format!("{event}\n"));
    }
    let answer = success(server.post("/v1/facts/purchase?visible=true").body(body).send().expect("post"));
    assert_eq!(answer["rejected"], 0, "{answer}");
}

fn purchases(server: &TestServer, now: Timestamp) {
    let shoes = |amount: f64| json!({"category": "shoes", "amount": amount});
    send(
        server,
        now,
        &[
            ("u1", "a", 0, shoes(20.5)),
            ("u1", "b", 72, json!({"category": "shoes", "amount": 10, "gift": true, "rating": 0.1})),
            ("u1", "c", 960, json!({"category": "hats", "amount": 5, "colour": "red", "rating": 0.2})),
            ("u2", "d", 24, json!({"category": "hats", "amount": 100, "basket": {"items": [{"sku": "K7"}]}})),
            ("u3", "e", 240, json!({"category": "shoes"})),
            ("e1", "f", 48, json!({"category": "shoes", "amount": 7, "gift": false})),
            ("u3", "gone", 5, shoes(1_000.0)),
        ],
    );
    send(server, now, &[("u3", "gone", 5, json!({"retract": true})), ("u1", "a", 0, shoes(20.5))]);
}

fn questions(now: Timestamp) -> Vec<(String, u64)> {
    let instant = now - SignedDuration::from_secs(24 * 3_600 + 1);
    let mut questions = vec![
        (format!("did('purchase', ts > '{instant}')"), 2),
        (format!("did('purchase', last < '{instant}')"), 2),
        (format!("did('purchase', ts <> '{instant}', count >= 3)"), 1),
    ];
    questions.extend(
        [
            ("did('purchase', category = 'shoes' AND gift)", 1),
            ("did('purchase', category = 'shoes' OR amount > 50)", 4),
            ("did('purchase', amount > 10)", 2),
            ("did('purchase', amount > 1000 OR amount = 1000)", 0),
            ("did('purchase', amount IS NULL)", 1),
            ("did('purchase', category < 'i')", 2),
            ("did('purchase', campaign = 'spring')", 0),
            ("did('purchase', campaign IS NULL, count >= 3)", 1),
            ("did('purchase', sum(rating) >= 0.3)", 1),
            ("did('purchase', undeclared.colour = 'red')", 1),
            ("did('purchase', basket.items.\"0\".sku IN ('K7', 'K8'))", 1),
            ("did('purchase', within => '2 days', exact_window => TRUE)", 2),
            ("did('purchase', within => '100 hours')", 3),
            ("did('purchase', amount > 4, count = 0)", 1),
            ("NOT did('purchase', amount > 10)", 2),
            ("gender = 'f' AND did('purchase', amount > 4, count >= 3)", 1),
            ("gender = 'm' OR NOT did('purchase', amount > 4 AND category <> 'hats')", 2),
        ]
        .map(|(expression, count)| (expression.to_owned(), count)),
    );
    questions
}

fn check(server: &TestServer, now: Timestamp) {
    for (expression, count) in questions(now) {
        assert_eq!(server.count(&expression), count, "{expression}");
        assert_eq!(server.members(&expression).len() as u64, count, "{expression}");
    }
}

#[test]
fn events_are_searched_wherever_they_are() {
    let now = Timestamp::now();
    let mut server = shop(|_| {});
    purchases(&server, now);
    check(&server, now);
    server.kill();
    server.restart();
    check(&server, now);
    // Now they are in the table, and an empty rest is in memory; then some are there.
    server.restart();
    check(&server, now);
    send(&server, now, &[("u9", "g", 1, json!({"category": "hats", "amount": 11}))]);
    assert_eq!(server.count("did('purchase', amount > 10)"), 3);
    server.stop();
    let data = server.data().display().to_string();
    let output = beluga(&["members", "did('purchase', amount > 10)", "--data", &data, "--output", "ndjson"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3, "{}", stdout(&output));
}

#[test]
fn every_operator_asks_the_same() {
    let now = Timestamp::now();
    let server = shop(|_| {});
    purchases(&server, now);
    let expression = "did('purchase', amount > 4 AND category <> 'hats')";
    let tree = json!({"did": "purchase", "within": "2000 hours", "exact_window": true,
        "where": [{"all": [{"column": "amount", "op": ">", "value": 4}, {"not": {"column": "category", "is": "hats"}}]}]});
    assert_eq!(server.ask("/v1/count", &json!({ "where": tree }))["count"], 2);
    let profile = server
        .ask("/v1/profile", &json!({"where": expression, "by": ["gender"], "against": "did('purchase', amount > 50)"}));
    assert_eq!((&profile["count"], &profile["baseline_count"]), (&json!(2), &json!(1)), "{profile}");
    let overlap =
        server.ask("/v1/overlap", &json!({"audiences": {"a": expression, "b": "did('purchase', amount > 10)"}}));
    assert_eq!(overlap["counts"], json!([[2, 1], [1, 2]]), "{overlap}");
    let sample = server.ask("/v1/sample", &json!({"where": expression, "size": 9, "seed": 1}));
    assert_eq!(strings(&sample["users"]).len(), 2, "{sample}");
    let top = server.ask("/v1/top", &json!({"where": expression, "by": "age", "k": 5}));
    assert_eq!(top["users"].as_array().expect("users").len(), 1, "{top}");
    let list = server.post("/v1/members").header("Accept", "text/csv").json(&json!({"where": expression}));
    assert_eq!(list.send().expect("list").text().expect("text").lines().count(), 3);
    success(
        server.put("/v1/audiences/rich").json(&json!({"where": "did('purchase', amount > 10)"})).send().expect("put"),
    );
    let user: Value = success(server.get("/v1/users/u1").send().expect("get"));
    assert_eq!(user["audiences"], json!(["rich"]), "{user}");
    let user: Value = success(server.get("/v1/users/u3").send().expect("get"));
    assert_eq!(user["audiences"], json!([]), "{user}");
}

#[test]
fn pages_are_of_the_events_at_their_beginning() {
    let now = Timestamp::now();
    let server = shop(|_| {});
    purchases(&server, now);
    let first = server.ask("/v1/members", &json!({"where": "did('purchase', amount > 4)", "limit": 1}));
    send(&server, now, &[("u2", "d", 24, json!({"retract": true})), ("u8", "h", 2, json!({"amount": 9}))]);
    let rest = server.ask("/v1/members", &json!({"cursor": first["next"], "limit": 100}));
    let mut users = [strings(&first["users"]), strings(&rest["users"])].concat();
    users.sort();
    assert_eq!(users, ["e1", "u1", "u2"]);
    let mut users = server.members("did('purchase', amount > 4)");
    users.sort();
    assert_eq!(users, ["e1", "u1", "u8"]);
}

#[test]
fn a_plan_says_what_is_searched() {
    let now = Timestamp::now();
    let server = shop(|_| {});
    purchases(&server, now);
    let question = "gender = 'f' AND did('purchase', amount > 4, within => '30 days')";
    let shown = server.ask("/v1/explain", &json!({ "where": question }));
    let text = shown["text"].as_str().expect("text");
    assert!(text.contains("scan did('purchase', amount >= 4.01, count >= 1, ts >= "), "{text}");
    assert!(text.contains("among 2 users"), "{text}");
    let run = server.ask("/v1/explain", &json!({ "where": question, "analyze": true }));
    let text = run["text"].as_str().expect("text");
    // Of the two women one has two such purchases in that time; what was taken back is two rows more.
    assert!(text.contains("among 2 users: 4 rows of 0 files"), "{text}");
}

#[test]
fn what_takes_too_much_is_refused() {
    let now = Timestamp::now();
    let server = shop(|config| config.scan_memory_bytes = 100);
    purchases(&server, now);
    let answer = server.post("/v1/count").json(&json!({"where": "did('purchase', amount > 4)"})).send().expect("ask");
    assert_eq!(answer.status().as_u16(), 413);
    let told: Value = answer.json().expect("JSON");
    assert_eq!(told["type"], "urn:beluga:problem:scan-too-large", "{told}");
    assert!(told["detail"].as_str().expect("text").contains("scan_memory_bytes"), "{told}");
    for (expression, kind) in [
        ("did('purchase', colour = 'red')", "unknown-column"),
        ("did('purchase', category.x = 'red')", "tag-type"),
        ("did('purchase', basket = 'x')", "tag-type"),
        ("did('purchase', sum(category) > 1)", "tag-type"),
        ("did('purchase', gift > TRUE)", "tag-type"),
        ("did('purchase', rating > 'x')", "tag-type"),
        ("did('purchase', rating > 1e999)", "tag-value"),
        ("did('purchase', in_audience('x'))", "unsupported"),
    ] {
        let answer = server.post("/v1/count").json(&json!({ "where": expression })).send().expect("ask");
        let told: Value = answer.json().expect("JSON");
        assert_eq!(told["type"], format!("urn:beluga:problem:{kind}"), "{expression}: {told}");
    }
}
