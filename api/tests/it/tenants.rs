//! Tenants: what one sees of a server is what the operator sees of another that has the tenant's part alone.

use crate::flight;
use crate::postgres;
use crate::support::{BELUGA, TestServer, catalog, command, stderr, stdout, success};
use api::config::Config;
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};
use std::num::NonZeroU32;

/// Fields that tell of the run and not of the data.
const OF_THE_RUN: [&str; 9] =
    ["epoch", "elapsed_us", "started_at", "changed_at", "next", "bytes_touched", "scanned", "shape", "principal"];
/// Users of each tenant.
const USERS: usize = 24;

fn declared(has_others: bool) -> Value {
    let mut declared = catalog();
    declared["tags"]["advertiser"] = json!({"type": "enum"});
    declared["tags"]["worth"] = json!({"type": "number", "scale": 4});
    let purchase = json!({"columns": {"category": "string", "amount": {"decimal": [12, 2]}},
        "activity": {"dimensions": ["category"], "measures": ["amount"]}});
    declared["facts"] = json!({"purchase": purchase});
    declared["spaces"] = json!({"taste": {"dimension": 2, "metric": "cosine"}});
    if has_others {
        declared["tags"]["secret"] = json!({"type": "enum"});
        declared["facts"]["visit"] = json!({"columns": {"page": "string"}});
        declared["spaces"]["secret_taste"] = json!({"dimension": 2, "metric": "cosine"});
    }
    declared
}

/// Puts users of an advertiser, their purchases and vectors.
fn fill(server: &TestServer, advertiser: &str) {
    let (mut tags, mut events, mut vectors) = (String::new(), Vec::new(), String::new());
    for user in 0..USERS {
        let id = format!("{advertiser}{user}");
        let gender = if user % 3 == 0 { "f" } else { "m" };
        let set = json!({"advertiser": advertiser, "gender": gender, "age": 20 + user, "is_member": user % 2 == 0});
        let interest = if user % 4 == 0 { vec!["yoga", "golf"] } else { vec!["golf"] };
        tags += &format!("{}\n", json!({"user_id": id, "set": set, "add": {"interest": interest}}));
        vectors += &format!("{}\n", json!({"user_id": id, "vector": [1.0 + user as f64, (user % 7) as f64]}));
        for nth in 0..user % 3 + 1 {
            let category = ["shoes", "hats"][(user + nth) % 2];
            let ts = format!("2026-11-{:02}T{:02}:00:00Z", 1 + user % 20, nth + 5);
            events.push((id.clone(), ts, json!({"category": category, "amount": user as f64 + 0.5})));
        }
    }
    server.post_tags(&tags);
    let events: Vec<(&str, &str, Value)> =
        events.iter().map(|(id, ts, more)| (id.as_str(), ts.as_str(), more.clone())).collect();
    server.post_events("purchase", &events);
    success(server.post("/v1/spaces/taste").body(vectors).send().expect("post"));
}

/// A server with users of two tenants and of none, and the tokens of the operator and of both.
struct Shared {
    server: TestServer,
    operator: String,
    acme: String,
    bolt: String,
}

fn token(server: &TestServer, by: Option<&str>, request: &Value) -> String {
    let request = server.post("/v1/tokens").json(request);
    let request = by.iter().fold(request, |request, by| request.bearer_auth(by));
    success(request.send().expect("post"))["token"].as_str().expect("its text").to_owned()
}

impl Shared {
    fn start() -> Shared {
        Shared::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Shared {
        let server = TestServer::with(change);
        server.put_catalog(&declared(true));
        for advertiser in ["acme", "bolt"] {
            fill(&server, advertiser);
        }
        server.post_tags(
            "{\"user_id\":\"nobodys\",\"set\":{\"gender\":\"x\",\"age\":99}}\n{\"user_id\":\"bolt1\",\"set\":{\"secret\":\"hidden\"}}\n",
        );
        server.post_events("visit", &[("bolt1", "2026-11-01T00:00:00Z", json!({"page": "hidden"}))]);
        server.settle();
        for (name, owns) in [
            ("acme", json!({"tags": ["worth"]})),
            ("bolt", json!({"tags": ["secret"], "facts": ["visit"], "spaces": ["secret_taste"]})),
        ] {
            let request = json!({"where": format!("advertiser = '{name}'"), "owns": owns});
            let answer = success(server.put(&format!("/v1/tenants/{name}")).json(&request).send().expect("put"));
            assert_eq!(answer["where"], request["where"], "{answer}");
        }
        let all = json!(["query", "export", "ingest", "admin"]);
        let operator = token(&server, None, &json!({"name": "operator", "scopes": all}));
        let of = |tenant: &str| {
            token(&server, Some(&operator), &json!({"name": format!("{tenant}.all"), "scopes": all, "tenant": tenant}))
        };
        let (acme, bolt) = (of("acme"), of("bolt"));
        Shared { server, operator, acme, bolt }
    }

    fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        sent(self.server.client.request(method, self.server.url(path)).bearer_auth(token), body)
    }
}

fn sent(request: RequestBuilder, body: &Value) -> (u16, Value) {
    let request = match body {
        Value::Null => request,
        Value::String(list) => request.header("Content-Type", "text/plain").body(list.clone()),
        body => request.json(body),
    };
    let answer = request.send().expect("ask");
    let status = answer.status().as_u16();
    let text = answer.text().expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The answer without what tells of the run; lists of users in the order of their ids, since slots decide it.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.iter().filter(|(name, _)| !OF_THE_RUN.contains(&name.as_str()));
            Value::Object(told.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(all) => {
            let mut all: Vec<Value> = all.iter().map(plain).collect();
            if all.iter().all(|one| one.as_str().is_some_and(|text| text.starts_with("acme"))) {
                all.sort_by_key(Value::to_string);
            }
            Value::Array(all)
        }
        other => other.clone(),
    }
}

fn questions() -> Vec<(&'static str, &'static str, Value)> {
    let sql = |text: &str| ("POST", "/v1/sql", json!({"sql": text}));
    let ask = |path: &'static str, body: Value| ("POST", path, body);
    let did = "did('purchase', category = 'shoes', count >= 2, within => '400 days')";
    let step = json!({"fact": "purchase"});
    let shoes = json!({"fact": "purchase", "where": "category = 'shoes'"});
    let mut all = vec![
        ("GET", "/v1/catalog", Value::Null),
        ("GET", "/v1/users/acme3", Value::Null),
        ("GET", "/v1/users/bolt3", Value::Null),
        ("PUT", "/v1/audiences/women", json!({"where": "gender = 'f'"})),
        ("PUT", "/v1/audiences/listed", json!("acme1\nacme2\nbolt1\nnew\n")),
        (
            "PUT",
            "/v1/audiences/young",
            json!({"where": "in_audience('women') AND NOT in_audience('listed') AND age < 30"}),
        ),
        ("GET", "/v1/audiences", Value::Null),
        ("GET", "/v1/audiences/young", Value::Null),
        ("GET", "/v1/audiences/young/members", Value::Null),
        ("PUT", "/v1/audiences/women", json!({"where": "in_audience('young')"})),
        ("DELETE", "/v1/audiences/listed", Value::Null),
        ask("/v1/translate", json!({"where": "gender = 'f' AND secret = 'hidden'"})),
        ask("/v1/sample", json!({"where": "TRUE", "size": 100})),
        ask("/v1/top", json!({"where": "TRUE", "by": "age", "k": 5})),
        ask("/v1/profile", json!({"where": did, "by": ["gender", "age", "interest", "is_member"]})),
        ask("/v1/profile", json!({"where": "gender = 'f'", "distinguish": 3, "order": "distinction"})),
        ask("/v1/overlap", json!({"audiences": {"a": "TRUE", "b": "is_member", "c": did}, "regions": true})),
        ask("/v1/funnel", json!({"steps": [step, shoes], "window": "7 days", "within": "400 days"})),
        ask("/v1/sequence", json!({"steps": [step, shoes], "pattern": "(?1).*(?2)", "within": "400 days"})),
        ask("/v1/retention", json!({"first": step, "every": "week", "periods": 3})),
        ask(
            "/v1/path",
            json!({"from": shoes, "steps": [{"fact": "purchase", "by": "category"}], "window": "7 days", "within": "400 days"}),
        ),
        ask(
            "/v1/attribution",
            json!({"conversion": shoes, "touches": [step], "by": "category", "lookback": "30 days", "within": "400 days"}),
        ),
        ask("/v1/effect", json!({"impressions": step, "conversions": shoes, "by": "category", "within": "400 days"})),
        ask(
            "/v1/effect",
            json!({"impressions": {"fact": "purchase", "where": "amount > 3"}, "cost": "amount", "within": "400 days"}),
        ),
        ask(
            "/v1/experiment",
            json!({"groups": [{"name": "a", "where": "age > 30"}, {"name": "b", "where": "age <= 30"}],
            "metrics": [{"fact": "purchase", "measure": "sum", "value": "amount"}], "within": "400 days"}),
        ),
        ask("/v1/lookalike", json!({"space": "taste", "seed": "age < 24", "size": 5, "method": "mean", "exact": true})),
        ask(
            "/v1/lookalike",
            json!({"space": "taste", "seed": "age < 40", "share": 0.3, "method": "linear", "distinguish": true}),
        ),
        ask("/v1/users/acme3/explain", json!({"where": did})),
        ask("/v1/users/bolt3/explain", json!({"where": did})),
    ];
    for expression in [
        "TRUE",
        "NOT FALSE",
        "gender <> 'f'",
        "advertiser = 'bolt'",
        "gender = 'x' OR age > 40",
        "NOT advertiser = 'acme'",
        "user_id IN ('acme1', 'bolt1', 'nobodys')",
        "NOT user_id IN ('acme1', 'bolt1', 'nobodys')",
        did,
        "NOT did('purchase')",
        "did('purchase', amount > 3, sum(amount) >= 5, within => '400 days')",
        "at_least(2, is_member, interest = 'yoga', age > 30)",
        "in_audience('young')",
        "in_audience('bolt/young')",
        "in_audience('acme/young')",
        "in_audience('theirs')",
        "secret = 'hidden'",
        "did('visit')",
        "similar_to('taste', seed => age < 24, size => 4)",
        "similar_to('secret_taste', seed => age < 24, size => 4)",
    ] {
        all.push(ask("/v1/count", json!({"where": expression})));
        all.push(ask("/v1/members", json!({"where": expression, "limit": 100})));
    }
    for text in [
        "SELECT count(*) FROM users",
        "SELECT * FROM users ORDER BY user_id",
        "SELECT advertiser, gender, count(*), avg(age), min(age) FROM users GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT approx_percentile_cont(age, 0.5), max(age) FROM users",
        "SELECT user_id FROM users ORDER BY age DESC LIMIT 3",
        "SELECT user_id FROM users WHERE user_id LIKE 'bolt%' ORDER BY 1",
        "SELECT count(*), sum(amount), count(DISTINCT user_id) FROM purchase",
        "SELECT category, count(*) FROM purchase WHERE amount > 3 GROUP BY 1 ORDER BY 1",
        "SELECT count(*) FROM purchase p JOIN users u ON u.user_id = p.user_id WHERE u.gender = 'f'",
        "SELECT count(*) FROM users WHERE user_id IN (SELECT user_id FROM purchase WHERE amount > 10)",
        "SELECT count(*) FROM users WHERE user_id NOT IN (SELECT user_id FROM purchase WHERE amount > 10)",
        "SELECT count(*) FROM users WHERE did('purchase', category = 'hats', within => '400 days')",
        "SELECT * FROM tags ORDER BY name",
        "SELECT tag, value, users FROM tag_values WHERE tag <> 'worth' ORDER BY 1, 2",
        "SELECT name, kind, definition FROM audiences ORDER BY 1",
        "SELECT audience, count(*) FROM members GROUP BY 1 ORDER BY 1",
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'system' ORDER BY 1, 2",
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
        "SELECT groupBitmap(user_id) FROM purchase",
        "SELECT bitmap_count(bitmap_not(bitmap_union(to_bitmap(user_id)))) FROM purchase",
        "SELECT rb_cardinality(rb_build_agg(user_id)) FROM users",
        "SELECT secret FROM users",
        "SELECT * FROM visit",
    ] {
        all.push(sql(text));
    }
    all
}

#[test]
fn a_tenant_sees_what_is_on_a_server_of_its_own() {
    let mut shared = Shared::start();
    let mut own = TestServer::start();
    own.put_catalog(&declared(false));
    fill(&own, "acme");
    own.settle();
    // The other one has the same names for something else.
    for (name, expression) in [("young", "TRUE"), ("theirs", "age > 1"), ("women", "FALSE")] {
        let (status, _) =
            shared.call(&shared.bolt, "PUT", &format!("/v1/audiences/{name}"), &json!({"where": expression}));
        assert_eq!(status, 201);
    }
    compare(&shared, &own);
    // Now events are in tables, and tags in segments.
    shared.server.restart();
    own.restart();
    compare(&shared, &own);
}

fn compare(shared: &Shared, own: &TestServer) {
    let mut refused = Vec::new();
    for (method, path, body) in questions() {
        let (status, answer) = shared.call(&shared.acme, method, path, &body);
        let method_name = Method::from_bytes(method.as_bytes()).expect("a method");
        let (expected_status, expected) = sent(own.client.request(method_name, own.url(path)), &body);
        let (mut answer, mut expected) = (plain(&answer), plain(&expected));
        if path == "/v1/catalog" {
            // The engine's own facts are the operator's.
            for told in [&mut answer, &mut expected] {
                told["facts"].as_object_mut().expect("facts").retain(|name, _| name == "purchase");
            }
        }
        if body["sql"].as_str().is_some_and(|text| text.contains("information_schema")) {
            let is_own = |row: &Value| {
                ["dead_letter", "audience_change"].iter().any(|own| row.to_string().contains(&format!("\"{own}\"")))
            };
            expected["rows"].as_array_mut().expect("rows").retain(|row| !is_own(row));
        }
        assert_eq!((status, &answer), (expected_status, &expected), "{method} {path} {body}");
        if status >= 400 {
            refused.push(format!("{method} {path} {body}: {}", answer["detail"]));
        }
    }
    assert_eq!(refused.len(), 18, "what names another's, and what cannot be: {refused:#?}");
}

#[test]
fn what_is_anothers_is_as_if_it_were_not_there() {
    let shared = Shared::start();
    for tenant in [&shared.acme, &shared.bolt] {
        let (status, _) =
            shared.call(tenant, "PUT", "/v1/audiences/same", &json!({"where": "in_audience('base') OR TRUE"}));
        assert_eq!(status, 400, "there is no base");
    }
    assert_eq!(shared.call(&shared.bolt, "PUT", "/v1/audiences/base", &json!({"where": "age > 30"})).0, 201);
    assert_eq!(shared.call(&shared.bolt, "PUT", "/v1/audiences/same", &json!({"where": "in_audience('base')"})).0, 201);
    assert_eq!(shared.call(&shared.bolt, "DELETE", "/v1/audiences/base", &Value::Null).0, 409, "it is used");
    let alike = |method: &str, one: &str, other: &str, body: &Value| {
        let [(status, one), (other_status, other)] = [one, other].map(|name| {
            let (status, answer) = shared.call(&shared.acme, method, name, body);
            let name = name.trim_start_matches("/v1/audiences/").trim_start_matches("/v1/users/");
            let name = name.trim_end_matches("/members").replace("%2F", "/");
            (status, answer.to_string().replace(&name, "…"))
        });
        assert_eq!((status, one), (other_status, other));
        assert_eq!(status, 404, "{method}");
    };
    for method in ["GET", "DELETE"] {
        alike(method, "/v1/audiences/base", "/v1/audiences/none", &Value::Null);
        alike(method, "/v1/audiences/bolt%2Fbase", "/v1/audiences/bolt%2Fnone", &Value::Null);
    }
    alike("GET", "/v1/users/bolt1", "/v1/users/none1", &Value::Null);
    alike("GET", "/v1/audiences/base/members", "/v1/audiences/none/members", &Value::Null);
    let post = |path: &str| {
        let lines = "{\"user_id\":\"acme1\",\"ts\":0,\"vector\":[1,2]}\n";
        let request = shared.server.post(path).bearer_auth(&shared.acme).body(lines);
        sent(request, &Value::Null)
    };
    // What is shared is read, and what is another's is not there.
    for path in ["/v1/facts/visit", "/v1/facts/purchase", "/v1/spaces/taste", "/v1/spaces/secret_taste"] {
        assert_eq!(post(path).0, 404, "{path}");
    }
    let tags = "{\"user_id\":\"acme1\",\"set\":{\"gender\":\"q\"}}\n{\"user_id\":\"acme1\",\"set\":{\"secret\":\"q\"}}\n{\"user_id\":\"acme1\",\"set\":{\"worth\":1.5}}\n";
    let request = shared.server.post("/v1/tags?visible=true").bearer_auth(&shared.acme).body(tags);
    let (_, answer) = sent(request, &Value::Null);
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(2)), "{answer}");
    let count = |token: &str, expression: &str| {
        shared.call(token, "POST", "/v1/count", &json!({"where": expression})).1["count"].clone()
    };
    assert_eq!(count(&shared.acme, "worth = 1.5"), 1);
    assert_eq!(shared.call(&shared.bolt, "POST", "/v1/count", &json!({"where": "worth = 1.5"})).0, 400);
    assert_eq!(
        count(&shared.operator, "in_audience('bolt/same') AND advertiser <> 'bolt'"),
        13,
        "an operator sees all"
    );
    // What is about the server is for its operator.
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/v1/sources"),
        ("GET", "/v1/sinks"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/tenants"),
        ("GET", "/v1/tenants/acme"),
        ("PUT", "/v1/tenants/acme"),
        ("PUT", "/v1/catalog"),
        ("POST", "/v1/explain"),
    ] {
        assert_eq!(shared.call(&shared.acme, method, path, &json!({})).0, 403, "{method} {path}");
    }
    for text in ["SELECT * FROM system.shards", "SELECT * FROM system.jobs", "SELECT * FROM dead_letter"] {
        assert_eq!(shared.call(&shared.acme, "POST", "/v1/sql", &json!({"sql": text})).0, 400, "{text}");
    }
    // What fails at a row tells of that row: of rows that are hidden nothing is told.
    for text in [
        "SELECT count(*) FROM purchase WHERE user_id NOT LIKE 'acme%' AND CAST(user_id AS BIGINT) > 0",
        "SELECT count(*) FROM purchase WHERE CAST(substr(user_id, 5) AS BIGINT) >= 0",
        "SELECT count(*) FROM tag_values WHERE tag = 'advertiser' AND CAST(concat(substr(value, 5), '1') AS BIGINT) > 0",
        "SELECT count(*) FROM users WHERE CAST(substr(user_id, 5) AS BIGINT) >= 0",
        "SELECT count(bitmap_to_users(bitmap_from_array([0, 1, 2, 3, 4, 5, 4000000000]))) FROM users LIMIT 1",
    ] {
        let (_, answer) = shared.call(&shared.acme, "POST", "/v1/sql", &json!({"sql": text}));
        assert!(!answer.to_string().contains("bolt"), "{text}: {answer}");
        // One fails at a row of its own.
        assert!(answer["rows"][0][0].is_number() || answer.to_string().contains("'acme0'"), "{text}: {answer}");
    }
    // A cursor is of whoever it was given to, as they were then.
    let page = |token: &str, cursor: &Value| {
        let request = json!({"where": "age > 1", "limit": 3, "cursor": cursor});
        shared.call(token, "POST", "/v1/members", &request)
    };
    let (_, first) = page(&shared.bolt, &Value::Null);
    assert!(first["next"].is_string(), "{first}");
    assert_eq!(page(&shared.acme, &first["next"]).0, 410);
    assert_eq!(page(&shared.operator, &first["next"]).0, 410);
    assert_eq!(page(&shared.bolt, &first["next"]).0, 200);
    let narrower = json!({"where": "advertiser = 'bolt' AND age < 30", "owns": {"tags": ["secret"], "facts": ["visit"], "spaces": ["secret_taste"]}});
    assert_eq!(shared.call(&shared.operator, "PUT", "/v1/tenants/bolt", &narrower).0, 200);
    assert_eq!(page(&shared.bolt, &first["next"]).0, 410, "they see less now");
    for text in ["EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT count(*) FROM users"] {
        assert_eq!(shared.call(&shared.acme, "POST", "/v1/sql", &json!({"sql": text})).0, 400, "{text}");
    }
    let (_, status) = shared.call(&shared.acme, "GET", "/v1/status", &Value::Null);
    assert_eq!((&status["users"], &status["principal"]["tenant"]), (&Value::Null, &json!("acme")));
    // Questions are seen by those of the tenant.
    let seen = |token: &str| shared.call(token, "GET", "/v1/queries", &Value::Null).1.to_string();
    assert!(!seen(&shared.acme).contains("bolt.all") && seen(&shared.operator).contains("bolt.all"));
    // The same key of two tenants is two.
    for (tenant, tag) in [(&shared.acme, "worth"), (&shared.bolt, "secret")] {
        let value = if tag == "worth" { json!(2) } else { json!("x") };
        let line = json!({"user_id": "shared", "set": {tag: value}}).to_string();
        let request = shared.server.post("/v1/tags").bearer_auth(tenant).header("Idempotency-Key", "1").body(line);
        let (status, answer) = sent(request, &Value::Null);
        assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    }
}

/// The other doors take the same views.
#[test]
fn every_door_has_the_same_view() {
    let shared = Shared::with(|config| config.postgres = Some("127.0.0.1:0".parse().expect("an address")));
    let texts = [
        "SELECT count(*) FROM users",
        "SELECT count(*) FROM purchase",
        "SELECT count(*) FROM information_schema.tables WHERE table_name IN ('visit', 'dead_letter', 'jobs')",
    ];
    let rest = |token: &str, text: &str| {
        shared.call(token, "POST", "/v1/sql", &json!({"sql": text})).1["rows"][0][0].to_string()
    };
    for (token, users) in [(&shared.operator, "49"), (&shared.acme, "24"), (&shared.bolt, "24")] {
        let expected = texts.map(|text| rest(token, text));
        assert_eq!(expected[0], users);
        let mut flight = flight::Client::of(&shared.server);
        flight.sql.set_token(token.clone());
        let mut settings = postgres::settings(&shared.server);
        let postgres = postgres::Client::with(settings.password(token)).expect("a connection");
        for (text, expected) in texts.into_iter().zip(expected) {
            assert_eq!(flight.ask(text).expect("an answer"), [expected.as_str()], "{text}");
            assert_eq!(postgres.text(text), expected, "{text}");
        }
    }
    let (tables, others) = ("SELECT relname FROM pg_catalog.pg_class ORDER BY 1", ["visit", "shards", "jobs"]);
    let seen = |token: &str| {
        let mut settings = postgres::settings(&shared.server);
        let postgres = postgres::Client::with(settings.password(token)).expect("a connection");
        format!("{:?}", postgres.texts(tables).expect("tables"))
    };
    let (operator, acme) = (seen(&shared.operator), seen(&shared.acme));
    assert!(others.iter().all(|name| operator.contains(name)), "{operator}");
    assert!(others.iter().all(|name| !acme.contains(name)) && acme.contains("purchase"), "{acme}");
}

#[test]
fn tenants_have_tokens_of_their_own_and_end_with_them() {
    let shared = Shared::start();
    let (status, made) =
        shared.call(&shared.acme, "POST", "/v1/tokens", &json!({"name": "acme.reader", "scopes": ["query"]}));
    assert_eq!((status, &made["tenant"]), (201, &json!("acme")), "{made}");
    let reader = made["token"].as_str().expect("text").to_owned();
    let ask = json!({"where": "TRUE"});
    assert_eq!(shared.call(&reader, "POST", "/v1/count", &ask).1["count"], json!(USERS));
    for name in ["operator", "bolt.all", "none"] {
        let (status, answer) =
            shared.call(&shared.acme, "POST", "/v1/tokens", &json!({"name": name, "scopes": ["query"]}));
        assert!(status == 400 && !answer.to_string().contains("already"), "{answer}");
    }
    for tenant in ["bolt", "none"] {
        let request = json!({"name": "x", "scopes": ["query"], "tenant": tenant});
        assert_eq!(shared.call(&shared.acme, "POST", "/v1/tokens", &request).0, 404, "{tenant}");
    }
    let names = |token: &str| {
        let (_, page) = shared.call(token, "GET", "/v1/tokens", &Value::Null);
        page["tokens"].as_array().expect("tokens").iter().map(|one| one["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&shared.acme), [json!("acme.all"), json!("acme.reader")]);
    assert_eq!(names(&shared.operator).len(), 4);
    for name in ["bolt.all", "operator", "none"] {
        assert_eq!(shared.call(&shared.acme, "DELETE", &format!("/v1/tokens/{name}"), &Value::Null).0, 404, "{name}");
    }
    // A change counts at once.
    let narrower = json!({"where": "advertiser = 'acme' AND age < 30", "owns": {"tags": ["worth"]}});
    assert_eq!(shared.call(&shared.operator, "PUT", "/v1/tenants/acme", &narrower).0, 200);
    assert_eq!(shared.call(&reader, "POST", "/v1/count", &ask).1["count"], json!(10));
    // It is kept, and a filter that means nothing any more shows nobody.
    let mut shared = shared;
    shared.server.restart();
    assert_eq!(shared.call(&reader, "POST", "/v1/count", &ask).1["count"], json!(10));
    let mut without = declared(true);
    without["tags"].as_object_mut().expect("tags").remove("advertiser");
    assert_eq!(shared.call(&shared.operator, "PUT", "/v1/catalog?allow_drop=true", &without).0, 200);
    let (status, answer) = shared.call(&reader, "POST", "/v1/count", &ask);
    assert_eq!(status, 403, "{answer}");
    assert!(!answer.to_string().contains("advertiser"), "{answer}");
    // One that is used stays.
    assert_eq!(shared.call(&shared.bolt, "PUT", "/v1/audiences/a", &json!({"where": "TRUE"})).0, 201);
    for name in ["acme", "bolt"] {
        assert_eq!(shared.call(&shared.operator, "DELETE", &format!("/v1/tenants/{name}"), &Value::Null).0, 409);
    }
    for name in ["acme.all", "acme.reader"] {
        assert_eq!(shared.call(&shared.operator, "DELETE", &format!("/v1/tokens/{name}"), &Value::Null).0, 204);
    }
    assert_eq!(shared.call(&shared.operator, "DELETE", "/v1/tenants/acme", &Value::Null).0, 204);
    assert_eq!(shared.call(&reader, "POST", "/v1/count", &ask).0, 401);
    for (wrong, pointer) in [
        (json!({"where": "agee > 3"}), "/where"),
        (json!({"where": "TRUE", "owns": {"tags": ["secret"]}}), "/owns/tags"),
        (json!({"where": "TRUE", "owns": {"facts": ["vist"]}}), "/owns/facts"),
        (json!({"where": "TRUE", "description": "x".repeat(2_000)}), "/description"),
        // A filter that its tenant, or another one, could change at will.
        (json!({"where": "is_member", "owns": {"tags": ["is_member"]}}), "/where"),
        (json!({"where": "secret = 'hidden'"}), "/where"),
        (json!({"where": "in_audience('bolt/a')"}), "/where"),
    ] {
        let (status, answer) = shared.call(&shared.operator, "PUT", "/v1/tenants/new", &wrong);
        assert_eq!((status, &answer["pointer"]), (400, &json!(pointer)), "{answer}");
    }
}

#[test]
fn a_tenant_takes_its_share_and_no_more() {
    let shared = Shared::with(|config| config.token_calls_per_second = NonZeroU32::new(2_000));
    let limits = json!({"calls_per_second": 5, "concurrent_queries": 1});
    let request = json!({"where": "advertiser = 'acme'", "limits": limits});
    let (_, answer) = shared.call(&shared.operator, "PUT", "/v1/tenants/acme", &request);
    assert_eq!(answer["limits"], limits);
    let other =
        token(&shared.server, Some(&shared.operator), &json!({"name": "a2", "scopes": ["query"], "tenant": "acme"}));
    let ask = |token: &str| {
        let request = shared.server.post("/v1/count").bearer_auth(token).json(&json!({"where": "TRUE"}));
        request.send().expect("ask")
    };
    let answers: Vec<_> = (0..60).map(|nth| ask(if nth % 2 == 0 { &shared.acme } else { &other })).collect();
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
    assert!(done.len() >= 10 && !refused.is_empty(), "{} of 60 were answered", done.len());
    for answer in refused {
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().expect("text")), (429, "1"));
        let problem: Value = answer.json().expect("a problem");
        assert_eq!(problem["type"], "urn:beluga:problem:too-many-calls");
    }
    assert!((0..60).all(|_| ask(&shared.bolt).status() == 200), "others do not notice");
    assert_eq!(shared.server.get("/healthz").send().expect("get").status(), 200);
    let mut flight = flight::Client::of(&shared.server);
    flight.sql.set_token(shared.acme.clone());
    let refused = (0..60).filter_map(|_| flight.ask("SELECT 1").err()).next().expect("too many");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
}

#[test]
fn the_command_line_makes_tenants() {
    let shared = Shared::start();
    let run = |token: &str, arguments: &[&str]| {
        let url = shared.server.url("");
        command(BELUGA).env("BELUGA_TOKEN", token).args(arguments).args(["--url", &url]).output().expect("run")
    };
    let set = run(
        &shared.operator,
        &["tenant", "set", "cord", "--where", "age < 23", "--own-spaces", "taste", "--description", "Cord Ltd."],
    );
    assert!(set.status.success(), "{}", stderr(&set));
    let listed = stdout(&run(&shared.operator, &["tenant"]));
    assert!(listed.contains("cord") && listed.contains("Cord Ltd.") && listed.contains("taste"), "{listed}");
    let made = run(&shared.operator, &["token", "create", "c", "--scope", "query,export", "--tenant", "cord"]);
    let cord = stdout(&made).trim().to_owned();
    let counted = run(&cord, &["count", "TRUE", "--output", "json"]);
    let counted: Value = serde_json::from_str(&stdout(&counted)).expect("JSON");
    assert_eq!(counted["count"], 6);
    let members = run(&cord, &["members", "NOT gender = 'f'", "--output", "csv"]);
    let mut members: Vec<String> = stdout(&members).lines().map(str::to_owned).collect();
    members.sort();
    assert_eq!(members, ["acme1", "acme2", "bolt1", "bolt2", "user_id"]);
    assert!(stdout(&run(&shared.operator, &["token"])).contains("cord"));
    let refused = run(&cord, &["tenant"]);
    assert!(!refused.status.success() && stderr(&refused).contains("tenant"), "{}", stderr(&refused));
    assert!(run(&shared.operator, &["token", "revoke", "c"]).status.success());
    assert!(run(&shared.operator, &["tenant", "remove", "cord"]).status.success());
    let elsewhere = command(BELUGA).args(["tenant", "--data", "/nowhere"]).output().expect("run");
    assert!(stderr(&elsewhere).contains("--data"), "{}", stderr(&elsewhere));
}
