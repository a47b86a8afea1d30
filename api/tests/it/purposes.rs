//! Purposes: who asks for one sees what is on a server of those alone who agreed to it, by whatever door.

use crate::flight;
use crate::support::{BELUGA, TestServer, catalog, command, stdout, success};
use reqwest::Method;
use serde_json::{Value, json};

/// Fields that tell of the run and not of the data.
const OF_THE_RUN: [&str; 6] = ["epoch", "elapsed_us", "changed_at", "next", "scanned", "more_values"];

/// Fills a server with all users, or with those alone who agreed.
fn fill(server: &TestServer, with_others: bool) {
    let mut declared = catalog();
    declared["tags"]["ads_consent"] = json!({"type": "flag"});
    declared["facts"] =
        json!({"purchase": {"columns": {"category": "string"}, "activity": {"dimensions": ["category"]}}});
    declared["spaces"] = json!({"taste": {"dimension": 2, "metric": "cosine"}});
    server.put_catalog(&declared);
    let (mut tags, mut vectors, mut events) = (String::new(), String::new(), Vec::new());
    for user in 0..60 {
        let agreed = user % 3 > 0;
        if !agreed && !with_others {
            continue;
        }
        let id = format!("u{user:02}");
        let set = json!({"gender": if user % 2 == 0 { "f" } else { "m" }, "age": 20 + user, "ads_consent": agreed});
        tags += &format!("{}\n", json!({"user_id": id, "set": set, "add": {"interest": ["yoga"]}}));
        vectors += &format!("{}\n", json!({"user_id": id, "vector": [1.0 + f64::from(user), f64::from(user % 7)]}));
        let category = if user % 4 == 0 { "shoes" } else { "hats" };
        events.push((id, format!("2026-11-{:02}T05:00:00Z", 1 + user % 20), json!({"category": category})));
    }
    server.post_tags(&tags);
    success(server.post("/v1/spaces/taste").body(vectors).send().expect("post"));
    let events: Vec<(&str, &str, Value)> =
        events.iter().map(|(id, at, more)| (id.as_str(), at.as_str(), more.clone())).collect();
    server.post_events("purchase", &events);
    server.settle();
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.iter().filter(|(name, _)| !OF_THE_RUN.contains(&name.as_str()));
            Value::Object(told.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(all) => {
            let mut all: Vec<Value> = all.iter().map(plain).collect();
            if all.iter().all(|one| one.as_str().is_some_and(|text| text.starts_with('u'))) {
                all.sort_by_key(Value::to_string);
            }
            Value::Array(all)
        }
        other => other.clone(),
    }
}

fn send(server: &TestServer, token: Option<&str>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = server.client.request(Method::from_bytes(method.as_bytes()).expect("a method"), server.url(path));
    let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
    let request = if body.is_null() { request } else { request.json(body) };
    let answer = request.send().expect("ask");
    let status = answer.status().as_u16();
    let text = answer.text().expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn token(server: &TestServer, by: Option<&str>, request: &Value) -> String {
    let (status, made) = send(server, by, "POST", "/v1/tokens", request);
    assert_eq!(status, 201, "{made}");
    made["token"].as_str().expect("its text").to_owned()
}

fn questions() -> Vec<(&'static str, &'static str, Value)> {
    let did = "did('purchase', category = 'shoes', within => '400 days')";
    let step = json!({"fact": "purchase"});
    let mut all = vec![
        ("GET", "/v1/users/u01", Value::Null),
        ("GET", "/v1/users/u03", Value::Null),
        ("POST", "/v1/users/u03/explain", json!({"where": did})),
        ("POST", "/v1/profile", json!({"where": did, "by": ["gender", "age"]})),
        ("POST", "/v1/overlap", json!({"audiences": {"a": "TRUE", "b": "gender = 'f'", "c": did}, "regions": true})),
        ("POST", "/v1/sample", json!({"where": "TRUE", "size": 100})),
        ("POST", "/v1/top", json!({"where": "TRUE", "by": "age", "k": 5})),
        ("POST", "/v1/funnel", json!({"steps": [step, step], "window": "7 days", "within": "400 days"})),
        ("POST", "/v1/retention", json!({"first": step, "every": "week", "periods": 3})),
        (
            "POST",
            "/v1/lookalike",
            json!({"space": "taste", "seed": "age < 30", "size": 5, "method": "mean", "exact": true}),
        ),
    ];
    for expression in
        ["TRUE", "NOT gender = 'f'", "NOT ads_consent", "user_id IN ('u01', 'u03')", did, "NOT did('purchase')"]
    {
        all.push(("POST", "/v1/count", json!({"where": expression})));
        all.push(("POST", "/v1/members", json!({"where": expression, "limit": 100})));
    }
    for text in [
        "SELECT user_id, age FROM users ORDER BY 1",
        "SELECT gender, count(*), avg(age) FROM users GROUP BY 1 ORDER BY 1",
        "SELECT category, count(*), count(DISTINCT user_id) FROM purchase GROUP BY 1 ORDER BY 1",
        "SELECT tag, value, users FROM tag_values ORDER BY 1, 2",
        "SELECT rb_cardinality(rb_build_agg(user_id)) FROM purchase",
    ] {
        all.push(("POST", "/v1/sql", json!({"sql": text})));
    }
    all
}

#[test]
fn who_asks_for_a_purpose_sees_those_who_agreed_and_nobody_else() {
    let (mut shared, mut own) = (TestServer::start(), TestServer::start());
    fill(&shared, true);
    fill(&own, false);
    let (status, made) = send(&shared, None, "PUT", "/v1/purposes/ads", &json!({"where": "ads_consent"}));
    assert_eq!((status, &made["where"]), (201, &json!("ads_consent")), "{made}");
    send(&shared, None, "PUT", "/v1/tenants/acme", &json!({"where": "TRUE", "purpose": "ads"}));
    let root = token(&shared, None, &json!({"name": "root", "scopes": ["query", "export", "ingest", "admin"]}));
    let ads = token(&shared, Some(&root), &json!({"name": "ads", "scopes": ["query", "export"], "purpose": "ads"}));
    let all = json!({"name": "acme.all", "scopes": ["query", "export", "admin"], "tenant": "acme"});
    let acme = token(&shared, Some(&root), &all);
    // Whom it makes is for the tenant's purpose, too.
    let made = token(&shared, Some(&acme), &json!({"name": "acme.more", "scopes": ["query", "export"]}));
    for _ in 0..2 {
        for (method, path, body) in questions() {
            let (expected_status, expected) = send(&own, None, method, path, &body);
            for by in [&ads, &acme, &made] {
                let (status, answer) = send(&shared, Some(by), method, path, &body);
                assert_eq!((status, plain(&answer)), (expected_status, plain(&expected)), "{method} {path} {body}");
            }
        }
        let mut flight = flight::Client::of(&shared);
        flight.sql.set_token(ads.clone());
        assert_eq!(flight.ask("SELECT count(*) FROM users").expect("an answer"), ["40"]);
        assert_eq!(send(&shared, Some(&root), "POST", "/v1/count", &json!({"where": "TRUE"})).1["count"], 60);
        // Now events are in tables, and tags in segments.
        shared.restart();
        own.restart();
    }
    // Who takes it back is gone at once.
    let request = shared.post("/v1/tags?visible=true").bearer_auth(&root);
    success(request.body("{\"user_id\":\"u01\",\"set\":{\"ads_consent\":false}}\n").send().expect("post"));
    assert_eq!(send(&shared, Some(&ads), "POST", "/v1/count", &json!({"where": "TRUE"})).1["count"], 39);
    assert_eq!(send(&shared, Some(&ads), "GET", "/v1/users/u01", &Value::Null).0, 404);
}

#[test]
fn what_is_of_all_users_is_not_told_for_a_purpose() {
    let server = TestServer::start();
    fill(&server, true);
    send(&server, None, "PUT", "/v1/purposes/ads", &json!({"where": "ads_consent"}));
    send(&server, None, "PUT", "/v1/audiences/live", &json!({"where": "TRUE", "live": true}));
    let root = token(&server, None, &json!({"name": "root", "scopes": ["query", "export", "ingest", "admin"]}));
    for scopes in [json!(["query", "admin"]), json!(["query", "ingest"])] {
        let request = json!({"name": "ads", "scopes": scopes, "purpose": "ads"});
        let (status, refused) = send(&server, Some(&root), "POST", "/v1/tokens", &request);
        assert_eq!((status, &refused["pointer"]), (400, &json!("/scopes")), "{refused}");
    }
    let ads = token(&server, Some(&root), &json!({"name": "ads", "scopes": ["query", "export"], "purpose": "ads"}));
    for path in ["/metrics", "/v1/jobs", "/v1/sources", "/v1/audiences/live/sizes", "/v1/audiences/live/changes"] {
        let (status, answer) = send(&server, Some(&ads), "GET", path, &Value::Null);
        assert_eq!(status, 403, "{path}: {answer}");
    }
    let told = send(&server, Some(&ads), "GET", "/v1/audiences/live", &Value::Null).1;
    assert!(told["live"].is_null() && told["where"] == "TRUE", "{told}");
    let status = send(&server, Some(&ads), "GET", "/v1/status", &Value::Null).1;
    assert!(status["users"].is_null() && status["principal"]["purposes"] == json!(["ads"]), "{status}");
    // Purposes may rest on audiences of the operator.
    for (method, body) in [("PUT", json!({"where": "TRUE"})), ("DELETE", Value::Null)] {
        assert_eq!(send(&server, Some(&ads), method, "/v1/audiences/live", &body).0, 403, "{method}");
    }
    // Raw records may be of anybody.
    let raw = json!({"sql": "SELECT count(*) FROM dead_letter"});
    assert_eq!(send(&server, Some(&root), "POST", "/v1/sql", &raw).0, 200);
    assert_eq!(send(&server, Some(&ads), "POST", "/v1/sql", &raw).0, 400);
    // It is there as long as somebody asks for it, and means what it means.
    assert_eq!(send(&server, Some(&root), "DELETE", "/v1/purposes/ads", &Value::Null).0, 409);
    assert_eq!(send(&server, Some(&root), "PUT", "/v1/purposes/ads", &json!({"where": "no_such_tag"})).0, 400);
    let url = server.url("");
    let run = |arguments: &[&str]| {
        let output = command(BELUGA).env("BELUGA_TOKEN", &root).args(arguments).args(["--url", &url]).output();
        stdout(&output.expect("run"))
    };
    assert!(run(&["purpose", "set", "email", "--where", "is_member", "--output", "csv"]).contains("email,is_member"));
    assert!(run(&["purpose", "--output", "csv"]).lines().count() == 3);
    run(&["purpose", "remove", "email"]);
    assert_eq!(run(&["purpose", "--output", "csv"]).lines().count(), 2);
    assert!(!run(&["token", "create", "mail", "--scope", "query", "--purpose", "ads"]).is_empty());
    assert!(run(&["token", "--output", "csv"]).contains("mail,query,,ads"));
}
