//! Who may call what, with which token: through REST and the command line.

use crate::process::Process;
use crate::support::{BELUGA, TestServer, beluga, command, config, stderr, stdout, success};
use api::access::Scope;
use api::config::{Config, Insecure};
use api::rest::authorize::{Policy, policy};
use api::server::Server;
use reqwest::Method;
use serde_json::{Value, json};

/// Makes a token by REST.
fn made(server: &TestServer, by: Option<&str>, name: &str, scopes: &[Scope]) -> String {
    let scopes: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
    let mut request = server.post("/v1/tokens").json(&json!({"name": name, "scopes": scopes}));
    if let Some(by) = by {
        request = request.bearer_auth(by);
    }
    let answer = success(request.send().expect("post"));
    answer["token"].as_str().expect("its text").to_owned()
}

fn call(server: &TestServer, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let mut request = server.client.request(method, server.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.json(&json!({})).send().expect("ask");
    let challenge = answer.headers().get("www-authenticate").map(|text| text.to_str().expect("text").to_owned());
    let status = answer.status().as_u16();
    assert_eq!(challenge.as_deref(), (status == 401).then_some("Bearer"), "{path}");
    (status, answer.text().unwrap_or_default())
}

/// Of every call with every set of scopes: who lacks one is refused before anything else is looked at, and who does not is let in.
#[test]
fn every_call_needs_the_scopes_of_its_policy() {
    let server = TestServer::with_people();
    let description = success(server.get("/openapi.json").send().expect("get"));
    let admin = made(&server, None, "admin", &Scope::ALL);
    let tokens: Vec<(Vec<Scope>, String)> = (0..32_usize)
        .filter(|bits| *bits > 0)
        .map(|bits| {
            let scopes: Vec<Scope> =
                (0..Scope::ALL.len()).filter(|at| bits >> at & 1 == 1).map(|at| Scope::ALL[at]).collect();
            let text = made(&server, Some(&admin), &format!("of.{bits}"), &scopes);
            (scopes, text)
        })
        .collect();
    let mut calls = 0;
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            let name = format!("{method} {path}");
            let decided = policy(&Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"), path);
            // A change stream would not end, and the catalog is to stay.
            let at = path.replace("{name}", "nothing").replace("{id}", "nobody").replace("{fact}", "nothing");
            let policy = decided.unwrap_or_else(|| panic!("{name}: nobody has decided"));
            let needed = policy.scopes();
            if policy == Policy::Open {
                assert_eq!(call(&server, method, &at, None).0, 200, "{name}");
                continue;
            }
            assert_eq!(call(&server, method, &at, None).0, 401, "{name}: without a token");
            for (scopes, token) in &tokens {
                let (status, text) = call(&server, method, &at, Some(token));
                let may = needed.iter().all(|scope| scopes.contains(scope));
                assert_eq!(![401, 403].contains(&status), may, "{name} by {scopes:?}: {status} {text}");
                calls += 1;
            }
        }
    }
    assert!(calls > 400, "only {calls} calls");
}

#[test]
fn a_token_is_made_listed_and_revoked_and_the_server_stays_closed() {
    let mut server = TestServer::with_people();
    let operator = made(&server, None, "operator", &[Scope::Admin]);
    let reader = made(&server, Some(&operator), "reader", &[Scope::Query]);
    let page: Value = success(server.get("/v1/tokens?limit=1").bearer_auth(&operator).send().expect("get"));
    assert_eq!((&page["tokens"][0]["name"], &page["next"]), (&json!("operator"), &json!("operator")));
    let page: Value = success(server.get("/v1/tokens?after=operator").bearer_auth(&operator).send().expect("get"));
    assert_eq!(page["tokens"].as_array().expect("a list").len(), 1);
    assert_eq!((&page["tokens"][0]["scopes"], &page["next"]), (&json!(["query"]), &Value::Null));
    assert!(!page.to_string().contains(&reader[4..]), "the text is told once");
    let count = |server: &TestServer| {
        let asked = server.post("/v1/count").json(&json!({"where": "gender = 'f'"}));
        asked.bearer_auth(&reader).send().expect("ask").status().as_u16()
    };
    assert_eq!(count(&server), 200);
    assert_eq!(call(&server, "delete", "/v1/tokens/reader", Some(&operator)).0, 204);
    assert_eq!(call(&server, "delete", "/v1/tokens/reader", Some(&operator)).0, 404);
    assert_eq!(count(&server), 401);
    assert_eq!(call(&server, "delete", "/v1/tokens/operator", Some(&operator)).0, 204);
    server.restart();
    let (status, text) = call(&server, "post", "/v1/count", None);
    assert!(status == 401 && text.contains("BELUGA_TOKEN"), "the last token is gone, the lock is not: {text}");
    let wrong = [json!({"name": "a b", "scopes": ["query"]}), json!({"name": "a", "scopes": []})];
    let open = TestServer::start();
    for body in wrong {
        assert_eq!(open.post("/v1/tokens").json(&body).send().expect("post").status(), 400, "{body}");
    }
    let body = json!({"name": "a", "scopes": ["query"], "expires_at": "tomorrow"});
    let answer = open.post("/v1/tokens").json(&body).send().expect("post").text().expect("text");
    assert!(answer.contains("RFC 3339") && answer.contains("/expires_at"), "{answer}");
    open.ask("/v1/count", &json!({"where": "TRUE"}));
}

#[test]
fn a_list_of_users_is_sent_with_the_scope_of_sending() {
    let server = TestServer::with_people();
    let admin = made(&server, None, "admin", &Scope::ALL);
    let query = made(&server, Some(&admin), "query", &[Scope::Query]);
    let put = |token: &str, media_type: &str, body: &'static str| {
        let request = server.put("/v1/audiences/some").bearer_auth(token).header("content-type", media_type);
        request.body(body).send().expect("put").status().as_u16()
    };
    assert_eq!(put(&query, "application/json", "{\"where\": \"is_member\"}"), 201);
    assert_eq!(put(&query, "text/plain", "u1\nu2\n"), 403);
    assert_eq!(put(&admin, "text/plain", "u1\nu2\n"), 200);
}

#[test]
fn commands_send_the_token_of_the_environment() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    let data_text = data.to_str().expect("text");
    let make = |name: &str, more: &[&str]| {
        let mut arguments = vec!["token", "create", name];
        arguments.extend(more);
        beluga(&arguments)
    };
    let operator = make("operator", &["--scope", "query,export,ingest,admin", "--data", data_text]);
    assert!(operator.status.success(), "{}", stderr(&operator));
    let operator = stdout(&operator).trim().to_owned();
    assert!(operator.starts_with("blg_") && !operator.contains('\n'), "{operator}");
    let server = Process::serve(&data, &[]);
    let url = format!("http://{}", server.address());
    let ask = |token: Option<&str>, arguments: &[&str]| {
        let mut command = command(BELUGA);
        if let Some(token) = token {
            command.env("BELUGA_TOKEN", token);
        }
        command.args(arguments).args(["--url", &url]).output().expect("run beluga")
    };
    let refused = ask(None, &["count", "TRUE"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    assert!(stderr(&refused).contains("BELUGA_TOKEN"), "{}", stderr(&refused));
    assert!(ask(Some(&operator), &["count", "TRUE"]).status.success());
    let made = ask(Some(&operator), &["token", "create", "brief", "--scope", "query", "--expires", "90d"]);
    let brief = stdout(&made).trim().to_owned();
    assert!(ask(Some(&brief), &["count", "TRUE"]).status.success(), "{}", stderr(&made));
    let refused = ask(Some(&brief), &["members", "TRUE"]);
    assert!(stderr(&refused).contains("has not the scope `export`"), "{}", stderr(&refused));
    let listed = stdout(&ask(Some(&operator), &["token", "--output", "csv"]));
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(ask(Some(&operator), &["token", "revoke", "brief"]).status.success());
    assert!(!ask(Some(&brief), &["count", "TRUE"]).status.success());
    let wrong = ask(Some("line\nbreak"), &["count", "TRUE"]);
    assert!(stderr(&wrong).contains("BELUGA_TOKEN holds no token") && !stderr(&wrong).contains("break"));
    let held = make("late", &["--scope", "admin", "--data", data_text]);
    assert!(stderr(&held).contains("--url"), "{}", stderr(&held));
    let other = folder.path().join("other");
    let span = make("late", &["--scope", "admin", "--expires", "soon", "--data", other.to_str().expect("text")]);
    assert!(stderr(&span).contains("90d"), "{}", stderr(&span));
}

#[test]
fn a_server_is_not_open_to_others_by_mistake() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    let start = |insecure: Insecure| {
        let config = Config { http: "0.0.0.0:0".parse().expect("an address"), insecure, ..config(&data) };
        Server::start(config).map(|server| server.stop().expect("stops")).map_err(|failure| failure.to_string())
    };
    for insecure in [Insecure::Off, Insecure::Plaintext] {
        let refused = start(insecure).expect_err("anybody could do anything");
        assert!(refused.contains("there is no token"), "{refused}");
    }
    start(Insecure::Open).expect("it is meant");
    let made = beluga(&["token", "create", "a", "--scope", "query", "--data", data.to_str().expect("text")]);
    assert!(made.status.success(), "{}", stderr(&made));
    let refused = start(Insecure::Off).expect_err("tokens would travel as they are");
    assert!(refused.contains("not encrypted"), "{refused}");
    start(Insecure::Plaintext).expect("it is meant");
}
