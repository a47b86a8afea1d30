//! The console's files and the calls made for it. What it does in a browser is tried by `.ci/console`.

use crate::support::{TestServer, catalog, success};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The folder that the files are embedded from.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("console")
}

/// All files below a folder, by their path in it.
fn files(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = format!("{prefix}{}", entry.file_name().to_str().expect("text"));
        if entry.file_type().expect("a type").is_dir() {
            files(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_file_is_served_with_what_keeps_it_to_this_server() {
    let server = TestServer::start();
    let mut paths = Vec::new();
    files(&folder(), "", &mut paths);
    assert!(paths.len() > 30, "{paths:?}");
    let mut urls: Vec<String> = paths.iter().map(|path| format!("/console/{path}")).collect();
    urls.push("/".to_owned());
    for url in urls {
        let answer = server.get(&url).send().expect("get");
        assert_eq!(answer.status(), 200, "{url}");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        let expected = match url.rsplit_once('.').map_or("html", |(_, end)| end) {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("what is a file of `{other}`?"),
        };
        assert_eq!(header("content-type"), expected, "{url}");
        let policy = header("content-security-policy");
        for part in ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "trusted-types 'none'"] {
            assert!(policy.contains(part), "{url}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{url}: {policy}");
        assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff".into(), "no-cache".into()));
        let tag = header("etag");
        assert!(!answer.bytes().expect("bytes").is_empty(), "{url}");
        let again = server.get(&url).header("if-none-match", tag).send().expect("get");
        assert_eq!((again.status().as_u16(), again.bytes().expect("bytes").len()), (304, 0), "{url}");
    }
}

#[test]
fn nothing_outside_of_the_folder_is_served() {
    let server = TestServer::start();
    for path in ["none.js", "js", "%2e%2e%2fCargo.toml", "js%2F..%2F..%2FCargo.toml", "%2Fetc%2Fpasswd", "%00"] {
        let answer = server.get(&format!("/console/{path}")).send().expect("get");
        assert_eq!(answer.status(), 404, "{path}");
        let problem: Value = answer.json().expect("JSON");
        assert_eq!(problem["type"], "urn:beluga:problem:not-found", "{path}");
    }
}

/// Modules name files that there are, and markup and code stand in files alone: the policy lets no others run.
#[test]
fn pages_are_made_of_their_own_files() {
    let mut paths = Vec::new();
    files(&folder(), "", &mut paths);
    for path in paths.iter().filter(|path| path.ends_with(".js")) {
        let text = std::fs::read_to_string(folder().join(path)).expect("text");
        let imported = text.split("from \"").skip(1).filter_map(|rest| rest.split_once('"'));
        for (name, _) in imported.filter(|(name, _)| name.starts_with('.')) {
            let target = folder().join(path).parent().expect("a folder").join(name);
            assert!(target.is_file(), "{path} wants {name}");
        }
        for made_of_text in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!text.contains(made_of_text), "{path}: {made_of_text}");
        }
        assert!(!text.contains("http://") || path == "js/core/dom.js", "{path} leads elsewhere");
        assert!(!text.contains("https://"), "{path} leads elsewhere");
    }
    let page = std::fs::read_to_string(folder().join("index.html")).expect("text");
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"), "{page}");
    assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"/console/").count());
}

#[test]
fn an_expression_is_told_in_both_forms() {
    let server = TestServer::with_people();
    let tree = json!({"all": [{"tag": "gender", "is": "f"}, {"not": {"in_audience": "é"}}, {"tag": "age", "between": [25, 34]}]});
    let of_tree = server.ask("/v1/translate", &json!({"where": tree}));
    let text = of_tree["where"].as_str().expect("text");
    assert_eq!(text, "gender = 'f' AND NOT in_audience('é') AND age BETWEEN 25 AND 34");
    let of_text = server.ask("/v1/translate", &json!({"where": format!("  ({text})  ")}));
    assert_eq!(of_text, of_tree);
    assert_eq!(of_text["tree"], tree);
    let conditions = of_text["conditions"].as_array().expect("places");
    let place =
        |at: &Value| at["start"].as_u64().expect("a place") as usize..at["end"].as_u64().expect("a place") as usize;
    let told: Vec<&str> = conditions.iter().map(|at| &text[place(at)]).collect();
    assert_eq!(told, ["gender = 'f'", "in_audience('é')", "age BETWEEN 25 AND 34"]);
    let wrong = server.post("/v1/translate").json(&json!({"where": "gender = "})).send().expect("ask");
    assert_eq!(wrong.status(), 400);
    assert!(wrong.json::<Value>().expect("JSON")["span"].is_object());
}

#[test]
fn the_status_is_told_once_and_every_second() {
    let server = TestServer::start();
    let mut declared = catalog();
    declared["facts"]["purchase"] = json!({"columns": {"category": "string"}});
    server.put_catalog(&declared);
    success(
        server
            .put("/v1/audiences/buyers")
            .json(&json!({"where": "did('purchase')", "live": true}))
            .send()
            .expect("put"),
    );
    let before = success(server.get("/v1/status").send().expect("get"));
    assert_eq!((&before["events"], &before["principal"]["token"]), (&json!(0), &Value::Null));
    assert_eq!(before["principal"]["scopes"], json!(["query", "export", "ingest", "admin", "erase"]));
    let line = json!({"user_id": "u1", "ts": "2026-11-20T10:00:00Z", "category": "shoes"}).to_string();
    success(server.post("/v1/facts/purchase?visible=true").body(line).send().expect("post"));
    let after = success(server.get("/v1/status").send().expect("get"));
    // That the user entered the live audience is an event, too, once it was noticed.
    assert!(matches!(after["events"].as_u64(), Some(1 | 2)), "{after}");
    assert_eq!(after["users"], 1);
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64());
    let made = |by: Option<&str>, name: &str, scope: &str| {
        let request = server.post("/v1/tokens").json(&json!({"name": name, "scopes": [scope]}));
        let request = if let Some(by) = by { request.bearer_auth(by) } else { request };
        success(request.send().expect("post"))["token"].as_str().expect("text").to_owned()
    };
    let operator = made(None, "operator", "admin");
    let figures = made(Some(&operator), "figures", "query");
    assert_eq!(server.get("/v1/status").send().expect("get").status(), 401);
    let asked = server.get("/v1/status").bearer_auth(figures);
    let stream = asked.header("accept", "text/event-stream").send().expect("get");
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut told = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).expect("JSON")));
    let first = told.next().expect("told at once");
    assert_eq!(first["principal"], json!({"token": "figures", "scopes": ["query"], "tenant": null}));
    let second = told.next().expect("told again");
    assert!(second["at"].as_str() > first["at"].as_str());
    // Who may not ask any more is told nothing more.
    let revoked = server.client.delete(server.url("/v1/tokens/figures")).bearer_auth(&operator).send().expect("delete");
    assert_eq!(revoked.status(), 204);
    assert!(told.take(10).count() < 10, "the stream has ended");
}
