//! What stands in `deploy/` and what a server really has: metrics that alerts and the dashboard ask for, with their labels, and settings.

use crate::support::{TestServer, success};
use api::config::{SETTINGS, Setting};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A metric's name, and the labels of its series.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// What metrics begin with.
const PREFIX: &str = "beluga_";
/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];
/// Far longer than it takes until all of them are there.
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The queries of the alerts and of the dashboard.
fn queries() -> Vec<String> {
    let mut queries = Vec::new();
    let rules: serde_json::Value =
        serde_yaml_ng::from_str(&read(&root().join("deploy/monitoring/alerts.yaml"))).expect("YAML");
    for group in rules["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            queries.push(rule["expr"].as_str().expect("an expression").to_owned());
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read(&root().join("deploy/monitoring/dashboard.json"))).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    queries
}

/// The metrics of a text and the labels in the braces behind them, in a query and in an answer of `/metrics` alike.
fn metrics(text: &str) -> Labels {
    let mut found = Labels::new();
    for (at, _) in text.match_indices(PREFIX) {
        let rest = &text[at..];
        let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(rest.len());
        let labels = found.entry(rest[..end].to_owned()).or_default();
        if let Some(braces) = rest[end..].strip_prefix('{') {
            let inside = braces.split('}').next().expect("a text has a beginning");
            let pairs = inside.split(',').filter_map(|pair| pair.split(['=', '!']).next());
            labels.extend(pairs.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()));
        }
    }
    found
}

/// A server with one of everything that has metrics.
fn with_everything(folder: &Path) -> TestServer {
    std::fs::create_dir(folder.join("out")).expect("made");
    let server = TestServer::with(|config| {
        config.live_interval = Duration::from_millis(20);
        config.checkpoint_interval = Duration::from_millis(50);
        config.source_folders = vec![folder.to_owned()];
        config.sink_folders = vec![folder.join("out")];
    });
    server.put_catalog(&json!({
        "tags": {"age": {"type": "number"}},
        "facts": {"view": {"columns": {"page": "string"}}},
        "sources": {
            "plain": {"files": {"paths": folder.join("plain.ndjson"), "every": "20 ms"}, "into": "view"},
            // Nobody listens there.
            "looked_up": {"files": {"paths": folder.join("looked-up.ndjson"), "every": "20 ms"}, "into": "view",
                "enrich": [{"name": "pages", "key": "page", "http": {"url": "http://127.0.0.1:1/{key}"}}]},
        },
        "sinks": {"changes": {"files": {"folder": folder.join("out")}, "audiences": "all"}},
    }));
    let live = json!({"where": "age > 30", "live": true});
    success(server.put("/v1/audiences/old").json(&live).send().expect("put"));
    server.post_tags("{\"user_id\":\"u1\",\"set\":{\"age\":31}}\n");
    let event = json!({"user_id": "u1", "ts": jiff::Timestamp::now().to_string(), "page": "home"});
    for name in ["plain.ndjson", "looked-up.ndjson"] {
        std::fs::write(folder.join(name), format!("{event}\n")).expect("written");
    }
    server.settle();
    assert_eq!(server.count("age = 31"), 1);
    server
}

/// What a query names and a server does not tell.
fn missing(query: &str, told: &Labels) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, labels) in metrics(query) {
        let Some(known) = told.get(&name) else {
            missing.push(format!("{name} in `{query}`"));
            continue;
        };
        let unknown = labels.iter().filter(|label| !known.contains(*label) && !OF_PROMETHEUS.contains(&label.as_str()));
        missing.extend(unknown.map(|label| format!("{name}{{{label}}} in `{query}`")));
    }
    missing
}

#[test]
fn alerts_and_the_dashboard_ask_for_what_is_told() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = with_everything(folder.path());
    let queries = queries();
    let named: usize = queries.iter().map(|query| metrics(query).len()).sum();
    assert!(named > 30, "they were not understood: {queries:?}");
    let look = || {
        let text = server.get("/metrics").send().expect("ask").text().expect("text");
        let series: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let told = metrics(&series);
        queries.iter().flat_map(|query| missing(query, &told)).collect::<Vec<_>>()
    };
    // What runs beside the requests is told once it has begun.
    let deadline = Instant::now() + PATIENCE;
    let mut missing = look();
    while !missing.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        missing = look();
    }
    assert_eq!(missing, Vec::<String>::new(), "no server tells these");
}

/// The files of a folder and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let each = entries.map(|entry| entry.expect("an entry").path());
    each.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn settings_in_files_of_deployment_are_settings() {
    let variables: BTreeSet<String> = SETTINGS.iter().map(Setting::variable).collect();
    let mut found = 0;
    for path in files(&root().join("deploy")).into_iter().chain([root().join("docs/operate.md")]) {
        let text = read(&path);
        for (at, _) in text.match_indices("BELUGA_") {
            let rest = &text[at..];
            let name =
                rest.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_')).next().expect("a part");
            // The prefix itself, as prose tells it; and what is no setting of a server.
            if !["BELUGA_", "BELUGA_CONFIG", "BELUGA_TOKEN", "BELUGA_URL"].contains(&name) {
                assert!(variables.contains(name), "{}: there is no setting {name}", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 10, "the files were not understood");
}
