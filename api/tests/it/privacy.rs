//! Tenants under a privacy policy, through REST: numbers of few users are told nowhere, near sets have one number, and what was told outlives the server.

use crate::flight;
use crate::postgres;
use crate::support::{BELUGA, TestServer, catalog, command, stdout, success};
use api::audit::{FOLDER, verify};
use api::config::Config;
use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::{Value, json};

/// No number is told of fewer users, by the policy of most tests here; of three times as many there surely is one.
const MIN_USERS: u64 = 10;
/// Users there are.
const USERS: usize = 400;

struct Guarded {
    server: TestServer,
    operator: String,
    acme: String,
}

/// Users of whom one half has gender `f`, five are rare, each has another age, and all have a vector.
fn people() -> (String, String) {
    let (mut tags, mut vectors) = (String::new(), String::new());
    for user in 0..USERS {
        let id = format!("u{user}");
        let set = json!({"gender": if user % 2 == 0 { "f" } else { "m" }, "age": user, "is_member": user % 4 == 0});
        let interest = if user < 5 { json!(["golf", "rare"]) } else { json!(["golf"]) };
        tags += &format!("{}\n", json!({"user_id": id, "set": set, "add": {"interest": interest}}));
        vectors += &format!("{}\n", json!({"user_id": id, "vector": [1.0 + user as f64, (user % 7) as f64]}));
    }
    (tags, vectors)
}

fn refusal(answer: Response) -> (u16, String, String) {
    let status = answer.status().as_u16();
    let told: Value = answer.json().expect("a problem");
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    (status, text("type").replace("urn:beluga:problem:", ""), text("detail"))
}

impl Guarded {
    fn start(privacy: &Value) -> Guarded {
        Guarded::with(privacy, |_| {})
    }

    fn with(privacy: &Value, change: impl FnOnce(&mut Config)) -> Guarded {
        let server = TestServer::with(change);
        let mut declared = catalog();
        declared["spaces"] = json!({"taste": {"dimension": 2, "metric": "cosine"}});
        declared["facts"] =
            json!({"purchase": {"columns": {"category": "string"}, "activity": {"dimensions": ["category"]}}});
        server.put_catalog(&declared);
        let (tags, vectors) = people();
        server.post_tags(&tags);
        success(server.post("/v1/spaces/taste").body(vectors).send().expect("post"));
        server.post_events("purchase", &[("u1", "2026-11-01T00:00:00Z", json!({"category": "shoes"}))]);
        server.settle();
        success(
            server.put("/v1/tenants/acme").json(&json!({"where": "TRUE", "privacy": privacy})).send().expect("put"),
        );
        let operator = token(&server, None, "operator", None);
        let acme = token(&server, Some(&operator), "acme.all", Some("acme"));
        Guarded { server, operator, acme }
    }

    fn send(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.server.client.request(method, self.server.url(path)).bearer_auth(token);
        let request = match body {
            Value::Null => request,
            Value::String(list) => request.header("Content-Type", "text/plain").body(list.clone()),
            body => request.json(body),
        };
        request.send().expect("ask")
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        success(self.send(&self.acme, "POST", path, body))
    }

    fn count(&self, expression: &str) -> Option<u64> {
        let answer = self.ask("/v1/count", &json!({"where": expression}));
        assert_eq!(answer["elapsed_us"], 0, "how long it took is not told");
        assert_eq!(answer["below"].is_null(), answer["count"].is_u64(), "{answer}");
        answer["count"].as_u64()
    }

    fn refused(&self, method: &str, path: &str, body: &Value) -> (u16, String, String) {
        refusal(self.send(&self.acme, method, path, body))
    }

    fn used(&self) -> Value {
        success(self.send(&self.operator, "GET", "/v1/tenants/acme", &Value::Null))["privacy_used"].clone()
    }

    /// Makes a list of users.
    fn list(&self, name: &str, users: impl IntoIterator<Item = usize>) {
        let ids = users.into_iter().map(|user| format!("u{user}\n")).collect::<String>();
        let told = success(self.send(&self.acme, "PUT", &format!("/v1/audiences/{name}"), &json!(ids)));
        assert_eq!(told["known"], Value::Null, "how many are known is not told: {told}");
    }
}

fn token(server: &TestServer, by: Option<&str>, name: &str, tenant: Option<&str>) -> String {
    let request = json!({"name": name, "scopes": ["query", "export", "ingest", "admin"], "tenant": tenant});
    let request = server.post("/v1/tokens").json(&request);
    let request = by.iter().fold(request, |request, by| request.bearer_auth(by));
    success(request.send().expect("post"))["token"].as_str().expect("its text").to_owned()
}

#[test]
fn of_few_users_nothing_is_told_at_any_door() {
    let guarded = Guarded::start(&json!({"min_users": MIN_USERS}));
    let few = ["FALSE", "age < 1", "age < 9", "interest = 'rare'", "user_id = 'u1'", "user_id = 'nobody'"];
    for expression in few {
        assert_eq!(guarded.count(expression), None, "{expression}");
        for (path, more) in [
            ("/v1/members", json!({})),
            ("/v1/members", json!({"limit": 1})),
            ("/v1/sample", json!({"size": 3})),
            ("/v1/top", json!({"by": "age", "k": 3})),
            ("/v1/profile", json!({"by": ["gender"]})),
        ] {
            let mut request = more.clone();
            request["where"] = json!(expression);
            let (status, kind, detail) = guarded.refused("POST", path, &request);
            assert_eq!((status, kind.as_str()), (403, "too-few-users"), "{path} {expression}");
            assert!(detail.contains("fewer than 30"), "{detail}");
        }
        for format in ["application/x-ndjson", "application/vnd.roaring", "application/vnd.apache.parquet"] {
            let request = guarded.server.post("/v1/members").bearer_auth(&guarded.acme).header("Accept", format);
            let (_, kind, _) = refusal(request.json(&json!({"where": expression})).send().expect("ask"));
            assert_eq!(kind, "too-few-users", "{format} {expression}");
        }
        let seeded = json!({"space": "taste", "seed": expression, "size": 100, "method": "mean"});
        assert_eq!(guarded.refused("POST", "/v1/lookalike", &seeded).1, "too-few-users", "{expression}");
        let against = json!({"where": "TRUE", "against": expression, "by": ["gender"]});
        assert_eq!(guarded.refused("POST", "/v1/profile", &against).1, "too-few-users", "{expression}");
    }
    guarded.list("listed", 0..9);
    assert_eq!(guarded.refused("GET", "/v1/audiences/listed/members", &Value::Null).1, "too-few-users");
    assert_eq!(guarded.count("in_audience('listed')"), None);
    // Few are not told, and neither is by how many others are more.
    let answer = guarded.ask(
        "/v1/overlap",
        &json!({"audiences": {"f": "gender = 'f'", "few": "age < 9", "m": "gender = 'm'"}, "regions": true}),
    );
    assert_eq!(answer["below"], 3 * MIN_USERS, "{answer}");
    for (a, b) in [(0, 1), (1, 0), (1, 1), (1, 2), (0, 2)] {
        assert!(answer["counts"][a][b].is_null() && answer["jaccard"][a][b].is_null(), "{a} {b}: {answer}");
    }
    assert!(answer["counts"][0][0].is_u64() && answer["counts"][2][2].is_u64(), "{answer}");
    for region in answer["regions"].as_array().expect("regions") {
        let is_large = region["in"] == json!(["f"]) || region["in"] == json!(["m"]);
        assert_eq!(region["count"].is_u64(), is_large, "{region}");
    }
    let alike = guarded.refused(
        "POST",
        "/v1/lookalike",
        &json!({"space": "taste", "seed": "TRUE", "include_seed": true, "size": 3, "method": "mean"}),
    );
    assert_eq!(alike.1, "too-few-users", "so few are not listed either");
}

#[test]
fn of_many_users_numbers_are_told_with_noise_that_stays() {
    let guarded = Guarded::start(&json!({"min_users": MIN_USERS, "noise": 1.0}));
    let women = guarded.count("gender = 'f'").expect("many");
    // Noise of more than 20 is as rare as one in a billion.
    assert!(women.abs_diff(200) <= 20, "{women}");
    for expression in ["gender IN ('f')", "NOT gender = 'm'", "gender = 'f' AND age >= 0", "NOT NOT gender = 'f'"] {
        assert_eq!(guarded.count(expression), Some(women), "{expression}");
    }
    let profile = guarded.ask("/v1/profile", &json!({"where": "age >= 100"}));
    let tags: Vec<&str> =
        profile["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["tag"].as_str()).collect();
    assert_eq!(tags, ["gender", "interest", "is_member"], "numbers are left out");
    for tag in profile["tags"].as_array().expect("tags") {
        assert!(tag["unknown"].is_null() && tag["more_values"] == 0, "{tag}");
        for value in tag["values"].as_array().expect("values") {
            assert_ne!(value["value"], "rare", "a value of few is not named");
            assert!(value["count"].as_u64() >= Some(MIN_USERS) && value["p_value"].is_null(), "{value}");
        }
    }
    assert!(profile["count"].as_u64().expect("a count").abs_diff(300) <= 20, "{profile}");
    assert_eq!(
        guarded.ask("/v1/profile", &json!({"where": "TRUE", "by": ["gender"]}))["tags"][0]["values"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let of_profile = guarded.ask("/v1/profile", &json!({"where": "TRUE", "by": ["gender"]}));
    let women_told =
        of_profile["tags"][0]["values"].as_array().expect("values").iter().find(|value| value["value"] == "f");
    assert_eq!(women_told.expect("told")["count"], women, "a cell is a set as any other");
    // Who may export is told who they are.
    let members = guarded.ask("/v1/members", &json!({"where": "gender = 'f'", "limit": 1_000}));
    assert_eq!(members["users"].as_array().map(Vec::len), Some(200));
    let alike = guarded.ask(
        "/v1/lookalike",
        &json!({"space": "taste", "seed": "gender = 'f'", "size": 100, "method": "mean", "limit": 5}),
    );
    assert!(alike["users"].as_array().map(Vec::len) == Some(5) && alike["candidates"].is_null(), "{alike}");
    // Programs of people.
    let url = guarded.server.url("");
    let printed = |expression: &str, format: &str| {
        let arguments = ["count", expression, "--url", &url, "--output", format];
        stdout(&command(BELUGA).env("BELUGA_TOKEN", &guarded.acme).args(arguments).output().expect("run"))
    };
    assert!(printed("age < 5", "table").contains("<30"), "{}", printed("age < 5", "table"));
    assert_eq!(printed("age < 5", "ndjson"), "{\"count\":null}\n");
    assert_eq!(printed("gender = 'f'", "csv"), format!("count\n{women}\n"));
}

#[test]
fn taking_one_user_away_changes_no_number() {
    // Without noise, so that any difference would be seen.
    let guarded = Guarded::start(&json!({"min_users": MIN_USERS, "noise": 0}));
    for target in 0..6 {
        let (from, name) = (target * 60, format!("list{target}"));
        guarded.list(&name, from..from + 60);
        let told = guarded.count(&format!("in_audience('{name}')"));
        assert_eq!(told, Some(60), "{target}");
        let without = format!("in_audience('{name}') AND user_id <> 'u{}'", from + 3);
        let least = guarded.count(&format!("in_audience('{name}') AND age >= {}", from + 9));
        assert_eq!((guarded.count(&without), least), (told, told));
        let both =
            guarded.ask("/v1/overlap", &json!({"audiences": {"a": format!("in_audience('{name}')"), "b": without}}));
        assert_eq!(both["counts"], json!([[60, 60], [60, 60]]), "{both}");
    }
    assert_eq!(guarded.count("TRUE"), Some(400));
    // Also what is written meanwhile.
    guarded
        .server
        .client
        .post(guarded.server.url("/v1/tags?visible=true"))
        .bearer_auth(&guarded.operator)
        .body("{\"user_id\":\"new\",\"set\":{\"gender\":\"f\"}}\n")
        .send()
        .expect("post");
    assert_eq!(guarded.count("TRUE"), Some(400));
}

#[test]
fn what_no_guard_looks_at_is_refused() {
    let mut guarded = Guarded::with(&json!({"min_users": MIN_USERS}), |config| {
        config.postgres = Some("127.0.0.1:0".parse().expect("an address"));
    });
    let step = json!({"fact": "purchase"});
    for (method, path, body) in [
        ("POST", "/v1/sql", json!({"sql": "SELECT count(*) FROM users"})),
        ("GET", "/v1/users/u1", Value::Null),
        ("POST", "/v1/users/u1/explain", json!({"where": "TRUE"})),
        ("POST", "/v1/funnel", json!({"steps": [step, step], "window": "7 days"})),
        ("POST", "/v1/retention", json!({"first": step, "every": "week", "periods": 3})),
        ("POST", "/v1/effect", json!({"impressions": step, "conversions": step, "by": "category"})),
        ("GET", "/v1/queries", Value::Null),
        ("POST", "/v1/count", json!({"where": "similar_to('taste', seed => user_id = 'u1', size => 100)"})),
        ("POST", "/v1/members", json!({"where": "NOT similar_to('taste', seed => user_id = 'u1', size => 100)"})),
        ("POST", "/v1/profile", json!({"where": "TRUE", "by": ["age"]})),
        ("POST", "/v1/profile", json!({"where": "TRUE", "distinguish": true})),
        ("POST", "/v1/lookalike", json!({"space": "taste", "seed": "TRUE", "size": 200, "holdout": true})),
    ] {
        let (status, kind, detail) = guarded.refused(method, path, &body);
        assert_eq!((status, kind.as_str()), (403, "forbidden"), "{method} {path} {body}: {detail}");
        assert!(detail.contains("is not answered under a minimum audience size"), "{detail}");
    }
    let mut flight = flight::Client::of(&guarded.server);
    flight.sql.set_token(guarded.acme.clone());
    assert_eq!(flight.ask("SELECT 1").expect_err("refused").code(), tonic::Code::PermissionDenied);
    let mut settings = postgres::settings(&guarded.server);
    assert!(postgres::Client::with(settings.password(&guarded.acme)).is_err());
    assert!(postgres::Client::with(settings.password(&guarded.operator)).is_ok());
    // The operator is told everything.
    let told = success(guarded.send(&guarded.operator, "POST", "/v1/count", &json!({"where": "age < 9"})));
    assert_eq!((&told["count"], &told["below"]), (&json!(9), &Value::Null));
    // A damaged ledger is named, and answers nothing.
    for expression in ["gender = 'f'", "age < 100", "age > 300"] {
        guarded.count(expression).expect("many");
    }
    guarded.server.stop();
    let path = guarded.server.data().join("privacy/acme.ledger");
    let mut bytes = std::fs::read(&path).expect("a ledger");
    bytes[200] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    guarded.server.restart();
    let (status, kind, detail) = guarded.refused("POST", "/v1/count", &json!({"where": "gender = 'f'"}));
    assert_eq!((status, kind.as_str()), (500, "corrupt"));
    assert!(detail.contains("acme.ledger") && detail.contains("damaged"), "{detail}");
}

#[test]
fn the_budget_outlives_the_server_and_what_was_told_is_told_again() {
    let mut guarded = Guarded::start(&json!({"min_users": MIN_USERS, "answers": 3, "every_hours": 24}));
    let told = ["gender = 'f'", "age < 100", "age > 300"].map(|expression| guarded.count(expression).expect("many"));
    assert_eq!(guarded.used(), json!({"answers": 3, "left": 0, "epsilon": 0.1 * 3.0}));
    for round in 0..3 {
        let again =
            ["gender = 'f'", "age < 100", "age > 300"].map(|expression| guarded.count(expression).expect("many"));
        assert_eq!(again, told, "{round}");
        for expression in ["TRUE", "age < 9", "age < 101", "FALSE"] {
            let answer = guarded.send(&guarded.acme, "POST", "/v1/count", &json!({"where": expression}));
            let wait: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
            assert!((86_000..=86_401).contains(&wait), "{wait}");
            let (status, kind, detail) = refusal(answer);
            assert_eq!((status, kind.as_str()), (429, "privacy-budget"), "{expression}: whatever it means");
            assert!(detail.contains("3 different answers within 24 hours"), "{detail}");
        }
        assert_eq!(guarded.refused("POST", "/v1/profile", &json!({"where": "gender = 'f'"})).1, "privacy-budget");
        match round {
            0 => guarded.server.stop(),
            _ => guarded.server.kill(),
        }
        guarded.server.restart();
    }
    // The audit log tells what came of it, and no numbers.
    guarded.server.stop();
    let mut verdicts = Vec::new();
    verify(&guarded.server.data().join(FOLDER), None, |record| verdicts.extend(record.privacy.clone()))
        .expect("a whole log");
    assert_eq!(verdicts[..3], ["noised", "noised", "noised"]);
    assert!(verdicts.contains(&"over budget".to_owned()), "{verdicts:?}");
}

#[test]
fn what_is_written_down_of_a_baseline_tells_nothing_of_the_audience() {
    // One user decides whether the audience has as many as nobody is told of fewer.
    let used = [MIN_USERS - 1, MIN_USERS].map(|users| {
        let guarded = Guarded::start(&json!({"min_users": MIN_USERS}));
        let request = json!({"where": format!("age < {users}"), "by": ["interest"], "against": "TRUE"});
        let (status, kind, _) = guarded.refused("POST", "/v1/profile", &request);
        assert_eq!((status, kind.as_str()), (403, "too-few-users"));
        guarded.used()["answers"].as_u64().expect("a number")
    });
    assert!(used[0] > 0 && used[0] == used[1], "{used:?}");
}

#[test]
fn verdicts_are_in_the_audit_log() {
    let mut guarded = Guarded::start(&json!({"min_users": MIN_USERS, "noise": 0}));
    guarded.count("gender = 'f'");
    guarded.count("gender = 'f' AND user_id <> 'u2'");
    guarded.count("age < 3");
    guarded.ask("/v1/overlap", &json!({"audiences": {"a": "gender = 'm'", "b": "age < 3"}}));
    guarded.refused("POST", "/v1/members", &json!({"where": "age < 3"}));
    guarded.server.stop();
    let mut told = Vec::new();
    let mut tell = |record: &api::audit::Record| {
        if record.tenant.is_some() && record.rows.is_some() {
            told.push((record.action.clone().unwrap_or_default(), record.privacy.clone().unwrap_or_default()));
        }
    };
    verify(&guarded.server.data().join(FOLDER), None, |record| tell(record)).expect("a whole log");
    let told: Vec<(&str, &str)> = told.iter().map(|(action, verdict)| (action.as_str(), verdict.as_str())).collect();
    let expected = [
        ("count", "exact"),
        ("count", "snapped"),
        ("count", "below"),
        ("overlap", "below exact"),
        ("members", "below"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_policy_is_set_by_rest_and_the_command_line() {
    let guarded = Guarded::start(&json!({"min_users": 50}));
    let told = success(guarded.send(&guarded.operator, "GET", "/v1/tenants/acme", &Value::Null));
    assert_eq!(told["privacy"], json!({"min_users": 50, "noise": 0.1, "answers": 1000, "every_hours": 720}));
    assert_eq!(told["privacy_used"], json!({"answers": 0, "left": 1000, "epsilon": 0.0}));
    for (privacy, pointer) in [
        (json!({"min_users": 1}), "/privacy/min_users"),
        (json!({"min_users": 10, "noise": 100}), "/privacy/noise"),
        (json!({"min_users": 10, "answers": 0}), "/privacy/answers"),
    ] {
        let request = json!({"where": "TRUE", "privacy": privacy});
        let refused = guarded.send(&guarded.operator, "PUT", "/v1/tenants/acme", &request);
        let (status, refused) = (refused.status().as_u16(), refused.json::<Value>().expect("a problem"));
        assert_eq!((status, refused["pointer"].as_str()), (400, Some(pointer)), "{refused}");
    }
    let url = guarded.server.url("");
    let run = |arguments: &[&str]| {
        let output =
            command(BELUGA).env("BELUGA_TOKEN", &guarded.operator).args(arguments).args(["--url", &url]).output();
        output.expect("run")
    };
    let set = [
        "tenant",
        "set",
        "acme",
        "--where",
        "TRUE",
        "--min-users",
        "10",
        "--noise",
        "0",
        "--answers",
        "7",
        "--output",
        "json",
    ];
    let told: Value = serde_json::from_str(&stdout(&run(&set))).expect("JSON");
    assert_eq!(told[0]["privacy"], json!({"min_users": 10, "noise": 0.0, "answers": 7, "every_hours": 720}));
    assert_eq!(guarded.count("gender = 'f'"), Some(200));
    assert_eq!(guarded.used(), json!({"answers": 1, "left": 6, "epsilon": null}));
    // Without one the tenant is told everything.
    assert!(run(&["tenant", "set", "acme", "--where", "TRUE"]).status.success());
    assert_eq!(guarded.ask("/v1/count", &json!({"where": "age < 3"}))["count"], 3);
    assert_eq!(guarded.used(), Value::Null);
    // Nor does who had one before see more of what was told under it.
    assert!(run(&["tenant", "set", "acme", "--where", "TRUE", "--min-users", "10", "--answers", "7"]).status.success());
    assert_eq!(guarded.used()["answers"], 1);
}
