//! The API's description: every change of it is seen, and it says what is routed, no more and no less.

use crate::support::{TestServer, catalog, config, success};
use api::rest::router::router;
use api::state::AppState;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// What is served beside the API: the description itself and pages for people.
const PAGES: [&str; 6] = ["/", "/console/{*path}", "/openapi.json", "/docs", "/docs/", "/docs/{*rest}"];

/// A change of the API must be meant: look at the difference, then bless it with `BELUGA_BLESS=1 cargo test`.
#[test]
fn the_description_is_the_one_agreed_on() {
    let server = TestServer::start();
    let described = success(server.get("/openapi.json").send().expect("get"));
    let described = format!("{}\n", serde_json::to_string_pretty(&described).expect("JSON"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    if std::env::var_os("BELUGA_BLESS").is_some() {
        std::fs::write(&file, &described).expect("write the blessed description");
    }
    let agreed = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = agreed.lines().zip(described.lines()).position(|(agreed, described)| agreed != described);
    let line = differs.unwrap_or(agreed.lines().count().min(described.lines().count()));
    assert!(
        agreed == described,
        "the API's description changed at line {} of {}:\n- {}\n+ {}\nif that is meant, run again with BELUGA_BLESS=1",
        line + 1,
        file.display(),
        agreed.lines().nth(line).unwrap_or("(its end)"),
        described.lines().nth(line).unwrap_or("(its end)"),
    );
}

#[test]
fn every_described_call_is_routed_and_no_other_method_is() {
    let server = TestServer::with_people();
    let description = success(server.get("/openapi.json").send().expect("get"));
    for (path, methods) in described(&description) {
        let url = server.url(&path.replace("{name}", "nothing").replace("{id}", "nobody"));
        for method in &methods {
            let name = format!("{method} {path}");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = server.client.request(method, &url).json(&json!({})).send().expect("ask");
            let (status, text) = (answer.status().as_u16(), answer.text().expect("text"));
            assert!(![405, 500, 501].contains(&status), "{name}: {status} {text}");
            assert!(!text.contains("no-such-route"), "{name}: {status} {text}");
        }
        let refused = server.client.request(Method::PATCH, &url).send().expect("ask");
        assert_eq!(refused.status(), 405, "{path}");
        let allowed = refused.headers()["allow"].to_str().expect("text").to_owned();
        // HEAD comes with GET, and is nothing to describe.
        let allowed: BTreeSet<String> = allowed.split(',').filter(|name| *name != "HEAD").map(str::to_owned).collect();
        assert_eq!(allowed, methods, "{path}: what is routed, and what is described");
    }
}

#[test]
fn every_route_is_described() {
    let server = TestServer::start();
    let description = success(server.get("/openapi.json").send().expect("get"));
    let described: BTreeSet<String> = described(&description).into_iter().map(|(path, _)| path).collect();
    let folder = tempfile::tempdir().expect("temporary folder");
    let routed = paths_of(&format!("{:?}", router(&AppState::new(config(folder.path())))));
    let pages = PAGES.map(str::to_owned).into();
    assert_eq!(routed, described.union(&pages).cloned().collect(), "what is routed, and what is described");
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_tells_how_it_fails() {
    let server = TestServer::start();
    let description = success(server.get("/openapi.json").send().expect("get"));
    let mut references = Vec::new();
    collect_references(&description, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference into the description itself");
        assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, methods) in described(&description) {
        for method in methods {
            let operation = &description["paths"][&path][method.to_lowercase()];
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert!(problem.is_object(), "{method} {path} does not say how it fails");
            let id = operation["operationId"].as_str().expect("an operation has an id");
            assert!(ids.insert(id.to_owned()), "{id} is the id of two operations");
        }
    }
}

#[test]
fn answers_look_as_described() {
    let input = tempfile::tempdir().expect("temporary folder");
    std::fs::write(input.path().join("a.ndjson"), "{\"user_id\":\"u1\",\"ts\":0}\nnonsense\n").expect("written");
    let files = tempfile::tempdir().expect("temporary folder");
    let file = files.path().join("people.csv");
    std::fs::write(&file, "user_id,sex,note\nu1,f,x\n").expect("written");
    let folders = [&input, &files].map(|folder| folder.path().to_owned());
    let server = TestServer::with(|config| {
        config.sink_folders = folders.to_vec();
        config.source_folders = folders.into();
    });
    server.put_people();
    let description = success(server.get("/openapi.json").send().expect("get"));
    let columns = json!({"sex": "gender", "note": {"tag": "interest", "add": true}});
    let mut with_fact = catalog();
    with_fact["facts"]["purchase"] = json!({"columns": {"category": "string", "amount": {"decimal": [12, 2]}},
        "activity": {"dimensions": ["category"], "measures": ["amount"]}, "retention": "400 days", "time_zone": "Asia/Shanghai"});
    with_fact["spaces"]["taste"] = json!({"dimension": 2, "metric": "cosine"});
    with_fact["sources"]["some"] = json!({"files": {"paths": input.path(), "every": "10 ms"}, "into": "purchase"});
    with_fact["sinks"]["some"] = json!({"files": {"folder": files.path().join("out"), "max_age": "1 s"},
        "from": "purchase", "when_full": "drop"});
    let calls: Vec<(&str, &str, u16, Value)> = vec![
        ("GET /healthz", "", 200, Value::Null),
        ("GET /readyz", "", 200, Value::Null),
        ("GET /metrics", "", 200, Value::Null),
        ("PUT /v1/catalog", "", 200, catalog()),
        ("PUT /v1/catalog", "", 200, with_fact),
        ("GET /v1/catalog", "", 200, Value::Null),
        ("POST /v1/spaces/{space}", "?visible=true", 200, json!({"user_id": "u1", "vector": [1, 2]})),
        ("POST /v1/spaces/{space}", "", 200, json!({"user_id": "u1", "vector": [1]})),
        ("POST /v1/facts/{fact}", "?visible=true", 200, json!({"user_id": "u1", "ts": "2026-02-30"})),
        ("POST /v1/sources/{name}/rewind", "", 200, json!({"to": "earliest"})),
        ("POST /v1/sources/{name}/rewind", "", 400, json!({"to": "yesterday"})),
        ("GET /v1/sources", "", 200, Value::Null),
        ("GET /v1/sources/{name}", "", 200, Value::Null),
        ("POST /v1/sources/{name}/pause", "", 200, Value::Null),
        ("POST /v1/sources/{name}/resume", "", 200, Value::Null),
        ("POST /v1/sources/{name}/stop", "", 200, Value::Null),
        ("POST /v1/sources/{name}/start", "", 200, Value::Null),
        ("GET /v1/sinks", "", 200, Value::Null),
        ("GET /v1/sinks/{name}", "", 200, Value::Null),
        ("POST /v1/sinks/{name}/pause", "", 200, Value::Null),
        ("POST /v1/sinks/{name}/resume", "", 200, Value::Null),
        ("POST /v1/sinks/{name}/stop", "", 200, Value::Null),
        ("POST /v1/sinks/{name}/start", "", 200, Value::Null),
        ("POST /v1/tags", "?visible=true", 200, json!({"user_id": "u1", "set": {"gendr": "f"}})),
        ("POST /v1/count", "", 200, json!({"where": "TRUE"})),
        ("POST /v1/members", "", 200, json!({"where": {"not": {"tag": "is_member"}}, "limit": 2})),
        ("POST /v1/sample", "", 200, json!({"where": "TRUE", "size": 2})),
        ("POST /v1/top", "", 200, json!({"where": "TRUE", "by": "seen_at", "k": 2})),
        (
            "POST /v1/lookalike",
            "",
            200,
            json!({"space": "taste", "seed": "TRUE", "size": 2, "include_seed": true, "holdout": true, "distinguish": true, "scores_to": "spend"}),
        ),
        ("POST /v1/overlap", "", 200, json!({"audiences": {"a": "TRUE", "b": "is_member"}, "regions": true})),
        (
            "POST /v1/profile",
            "",
            200,
            json!({"where": "TRUE", "by": ["gender", "age", "seen_at", "spend", "interest", "is_member"]}),
        ),
        ("POST /v1/profile", "", 200, json!({"where": "gender = 'f'", "distinguish": 3, "order": "distinction"})),
        ("POST /v1/explain", "", 200, json!({"where": "gender = 'f' AND NOT is_member", "analyze": true})),
        ("POST /v1/translate", "", 200, json!({"where": "gender = 'f' AND NOT is_member"})),
        ("POST /v1/translate", "", 400, json!({"where": "gender ="})),
        ("GET /v1/status", "", 200, Value::Null),
        (
            "POST /v1/funnel",
            "",
            200,
            json!({"steps": [{"fact": "purchase"}, {"fact": "purchase", "where": "amount > 3", "name": "large"}], "window": "7 days",
                "by": "gender", "save_as": {"audience": "stopped", "step": 1, "stopped": true}}),
        ),
        ("POST /v1/funnel", "", 400, json!({"steps": [], "window": "7 days"})),
        (
            "POST /v1/sequence",
            "",
            200,
            json!({"steps": [{"fact": "purchase"}], "pattern": "(?1).*(?1)", "within": "30 days",
                "save_as": {"audience": "stopped", "step": 1, "stopped": true}}),
        ),
        ("POST /v1/sequence", "", 400, json!({"steps": [{"fact": "purchase"}], "pattern": "(?2)"})),
        ("POST /v1/retention", "", 200, json!({"first": {"fact": "purchase"}, "every": "week", "periods": 2})),
        (
            "POST /v1/path",
            "",
            200,
            json!({"from": {"fact": "purchase", "name": "any"}, "steps": [{"fact": "purchase", "by": "category"}], "window": "7 days",
                "save_as": {"audience": "stopped", "depth": 0, "at": {"step": "any"}, "stopped": true}}),
        ),
        (
            "POST /v1/attribution",
            "",
            200,
            json!({"conversion": {"fact": "purchase", "where": "amount > 3"}, "value": "amount", "touches": [{"fact": "purchase"}], "by": "category",
                "lookback": "400 days", "position": [40, 20, 40]}),
        ),
        (
            "POST /v1/attribution",
            "",
            400,
            json!({"conversion": {"fact": "purchase"}, "touches": [], "lookback": "7 days"}),
        ),
        (
            "POST /v1/effect",
            "",
            200,
            json!({"impressions": {"fact": "purchase"}, "clicks": {"fact": "purchase", "where": "amount > 3"}, "conversions": {"fact": "purchase"},
                "cost": "amount", "cost_of": "clicks", "value": "amount", "by": "category", "grain": "week", "time_zone": "Europe/Berlin",
                "between": ["2026-01-01", "2026-12-31"], "channels": ["shoes", null], "limit": 1}),
        ),
        ("POST /v1/effect", "", 400, json!({"impressions": {"fact": "purchase"}, "cap": 0})),
        ("POST /v1/path", "", 400, json!({"steps": [], "window": "7 days"})),
        (
            "POST /v1/experiment",
            "",
            200,
            json!({"groups": [{"name": "a", "where": "age > 30"}, {"name": "b", "where": "NOT age > 30", "weight": 2}], "control": "b",
                "metrics": [{"fact": "purchase"}, {"fact": "purchase", "where": "amount > 3", "measure": "sum", "value": "amount"}], "confidence": 0.9}),
        ),
        ("POST /v1/experiment", "", 400, json!({"groups": [], "metrics": []})),
        ("POST /v1/retention", "", 400, json!({"first": {"fact": "purchase", "where": "amount >"}})),
        (
            "POST /v1/users/{id}/explain",
            "",
            200,
            json!({"where": "at_least(1, age > 3, NOT did('purchase', sum(amount) > 3), similar_to('taste', seed => TRUE, size => 1, include_seed => TRUE))"}),
        ),
        ("POST /v1/users/{id}/explain", "", 400, json!({"where": "age >"})),
        ("POST /v1/sql", "", 200, json!({"sql": "SELECT user_id, age, spend, interest FROM users ORDER BY 1"})),
        ("POST /v1/sql", "", 400, json!({"sql": "SELECT gendr FROM users"})),
        ("PUT /v1/audiences/{name}", "", 201, json!({"where": "is_member", "description": "paying"})),
        ("PUT /v1/audiences/{name}", "", 200, json!({"where": "NOT is_member"})),
        ("GET /v1/audiences/{name}/changes", "", 409, Value::Null),
        ("GET /v1/audiences/{name}/movement", "?from=2026-01-01T00:00:00Z", 409, Value::Null),
        ("PUT /v1/audiences/{name}", "", 200, json!({"where": "NOT is_member", "live": true})),
        ("GET /v1/audiences/{name}/sizes", "", 200, Value::Null),
        ("GET /v1/audiences/{name}/movement", "?from=2026-01-01T00:00:00Z", 200, Value::Null),
        ("PUT /v1/audiences/{name}", "", 200, json!("u1\n\n")),
        ("GET /v1/audiences/{name}", "", 200, Value::Null),
        ("GET /v1/audiences", "", 200, Value::Null),
        ("GET /v1/audiences/{name}/members", "?limit=1", 200, Value::Null),
        ("GET /v1/users/{id}", "", 200, Value::Null),
        ("POST /v1/jobs", "", 202, json!({"backfill": {"files": [file], "columns": columns}, "rate": 5})),
        ("GET /v1/jobs", "", 200, Value::Null),
        ("GET /v1/jobs/{id}", "", 404, Value::Null),
        ("DELETE /v1/jobs/{id}", "", 404, Value::Null),
        ("GET /v1/queries", "", 200, Value::Null),
        ("DELETE /v1/queries/{id}", "", 404, Value::Null),
        ("DELETE /v1/users/{id}", "", 200, Value::Null),
        ("POST /v1/erasures", "", 200, json!("u1\nu9\n")),
        ("POST /v1/erasures", "", 415, json!({})),
        ("GET /v1/erasures", "", 200, Value::Null),
        ("GET /v1/erasures/{id}", "", 404, Value::Null),
        ("POST /v1/admissions", "", 200, json!("u1\n")),
        ("DELETE /v1/audiences/{name}", "", 204, Value::Null),
        ("GET /v1/audiences/{name}", "", 404, Value::Null),
        ("POST /v1/count", "", 400, json!({"where": "gendr = 'f'"})),
        ("PUT /v1/catalog", "", 409, json!({"tags": {"age": {"type": "set"}}})),
        ("GET /v1/purposes", "", 200, Value::Null),
        ("PUT /v1/purposes/{name}", "", 201, json!({"where": "age > 20"})),
        ("PUT /v1/purposes/{name}", "", 200, json!({"where": "age > 30", "description": "some"})),
        ("PUT /v1/purposes/{name}", "", 400, json!({"where": "nothing > 30"})),
        ("GET /v1/purposes/{name}", "", 200, Value::Null),
        ("GET /v1/tenants", "", 200, Value::Null),
        ("PUT /v1/tenants/{name}", "", 201, json!({"where": "age > 20", "owns": {"tags": ["spend"]}})),
        ("PUT /v1/tenants/{name}", "", 200, json!({"where": "TRUE", "description": "some"})),
        ("PUT /v1/tenants/{name}", "", 200, json!({"where": "TRUE", "privacy": {"min_users": 100}, "purpose": "some"})),
        ("PUT /v1/tenants/{name}", "", 400, json!({"where": "TRUE", "owns": {"facts": ["nothing"]}})),
        ("GET /v1/tenants/{name}", "", 200, Value::Null),
        ("DELETE /v1/purposes/{name}", "", 409, Value::Null),
        ("DELETE /v1/tenants/{name}", "", 204, Value::Null),
        ("DELETE /v1/purposes/{name}", "", 204, Value::Null),
        ("GET /v1/tokens", "", 200, Value::Null),
        ("DELETE /v1/tokens/{name}", "", 404, Value::Null),
        // From here on a token is needed.
        ("POST /v1/tokens", "", 201, json!({"name": "a", "scopes": ["query"], "expires_at": "2999-01-01T00:00:00Z"})),
        ("GET /v1/tokens", "", 401, Value::Null),
    ];
    let mut left: BTreeSet<String> = BTreeSet::new();
    for (path, methods) in described(&description) {
        left.extend(methods.iter().map(|method| format!("{method} {path}")));
    }
    for (call, query, status, body) in calls {
        left.remove(call);
        let (method, path) = call.split_once(' ').expect("a method and a path");
        let url = server.url(
            &format!("{path}{query}")
                .replace("{name}", "some")
                .replace("{id}", "u1")
                .replace("{fact}", "purchase")
                .replace("{space}", "taste"),
        );
        let request = server.client.request(Method::from_bytes(method.as_bytes()).expect("a method"), url);
        let request = match &body {
            Value::Null => request,
            Value::String(list) => request.header("Content-Type", "text/plain").body(list.clone()),
            body => request.json(body),
        };
        let answer = request.send().expect("ask");
        assert_eq!(answer.status(), status, "{call} {body}");
        let responses = &description["paths"][path][method.to_lowercase()]["responses"];
        let described = responses.get(status.to_string()).unwrap_or(&responses["default"]);
        let Some(content) = described.get("content").and_then(Value::as_object) else {
            assert_eq!(answer.bytes().expect("bytes").len(), 0, "{call} answers nothing");
            continue;
        };
        let media_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
        let media_type = media_type.split(';').next().expect("a type");
        let schema =
            &content.get(media_type).unwrap_or_else(|| panic!("{call}: {media_type} is not described"))["schema"];
        if media_type.ends_with("json") {
            let answer: Value = answer.json().expect("JSON");
            let fits = fits(&description, schema, &answer);
            assert!(fits.is_ok(), "{call} {body}: {}\n{answer:#}", fits.unwrap_err());
        }
    }
    assert!(left.is_empty(), "described, and not tried here: {left:?}");
}

/// Whether a value is what a schema says. Fields that the schema does not have are wrong too.
fn fits(description: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = description.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere");
        return fits(description, schema, value).map_err(|why| format!("{reference}{why}"));
    }
    // What is described in words alone may be any JSON.
    if schema.as_object().is_some_and(|schema| schema.keys().eq(["description"])) {
        return Ok(());
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[several].as_array() {
            let tried: Vec<String> = choices.iter().filter_map(|one| fits(description, one, value).err()).collect();
            return if tried.len() < choices.len() {
                Ok(())
            } else {
                Err(format!(": none fits: {}", tried.join("; ")))
            };
        }
    }
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let is_one = types.is_empty() || types.contains(&name) || (name == "integer" && types.contains(&"number"));
    if !is_one {
        return Err(format!(": {value} is {name}, not {types:?}"));
    }
    let within = |schema: &Value, key: &str, value: &Value| {
        fits(description, schema, value).map_err(|why| format!(".{key}{why}"))
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(key).or(schema.get("additionalProperties")) {
            Some(schema) => within(schema, key, value)?,
            None => return Err(format!(": `{key}` is not described")),
        }
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(required).ok_or_else(|| format!(": `{required}` is missing"))?;
    }
    value.as_array().into_iter().flatten().try_for_each(|item| within(&schema["items"], "[]", item))
}

#[test]
fn the_pages_for_people_need_nothing_from_elsewhere() {
    let server = TestServer::start();
    for page in ["/", "/docs"] {
        let answer = server.get(page).send().expect("get");
        let base = answer.url().clone();
        assert!(answer.status().is_success(), "{page}: {}", answer.status());
        assert!(answer.headers()["content-type"].to_str().expect("text").starts_with("text/html"), "{page}");
        let html = answer.text().expect("text");
        let links = links(&html);
        assert!(!links.is_empty(), "{page}: {html}");
        for link in links.iter().filter(|link| !link.starts_with("data:")) {
            let target = base.join(link).expect("a URL");
            assert_eq!(target.origin(), base.origin(), "{page} wants {link}");
            let answer = server.client.get(target).send().expect("get");
            assert!(answer.status().is_success(), "{page}: {link}: {}", answer.status());
        }
    }
    let script = server.get("/docs/swagger-initializer.js").send().expect("get").text().expect("text");
    assert!(script.contains("/openapi.json"), "the page shows our description: {script}");
    assert!(!script.contains("https://"), "and nobody else's: {script}");
}

/// The paths of a description with their methods, in capitals.
fn described(description: &Value) -> Vec<(String, BTreeSet<String>)> {
    let paths = description["paths"].as_object().expect("paths");
    let methods = |item: &Value| item.as_object().expect("a path").keys().map(|method| method.to_uppercase()).collect();
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

/// A router does not list its routes but for debugging: `RouteId(0): "/v1/catalog"`.
fn paths_of(debug: &str) -> BTreeSet<String> {
    let named = debug.split("RouteId(").filter_map(|part| part.split_once("): \""));
    let paths = named.filter_map(|(_, rest)| rest.split_once('"')).map(|(path, _)| path.to_owned());
    paths.filter(|path| !path.contains("__private__axum")).collect()
}

fn collect_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// What `href` and `src` of a page point to.
fn links(html: &str) -> Vec<String> {
    let behind = ["href=\"", "src=\""].into_iter().flat_map(|name| html.split(name).skip(1));
    behind.filter_map(|rest| rest.split_once('"')).map(|(link, _)| link.to_owned()).collect()
}
