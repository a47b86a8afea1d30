//! Facts from the catalog to the answer: declared, sent, asked with `did(…)`.

use crate::support::{TestServer, beluga, catalog, stderr, stdout, success};
use engine::store::{Once, Options, Store};
use engine::update::UpdateBatch;
use engine::vfs::real::RealVfs;
use engine_sql::facts::DeltaTables;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

const DAY_SECONDS: i64 = 86_400;

fn purchase() -> Value {
    json!({
        "columns": {"category": "string", "campaign": "string", "amount": {"decimal": [12, 2]}, "gift": "boolean"},
        "activity": {"dimensions": ["category", "gift"], "measures": ["amount"]},
        "retention": "400 days",
    })
}

fn catalog_with(fact: Value) -> Value {
    let mut with = catalog();
    with["facts"] = json!({ "purchase": fact });
    with
}

/// The present time, not so shortly before a midnight (of clocks so far ahead of UTC) that a test would run over it.
pub(crate) fn now(ahead_seconds: i64) -> Timestamp {
    let now = Timestamp::now();
    let left = DAY_SECONDS - (now.as_second() + ahead_seconds).rem_euclid(DAY_SECONDS);
    if left < 120 {
        std::thread::sleep(std::time::Duration::from_secs(left.unsigned_abs() + 1));
    }
    Timestamp::now()
}

fn earlier(now: Timestamp, days: i64) -> Timestamp {
    now - SignedDuration::from_hours(24 * days)
}

/// The date so many days ago.
fn date(now: Timestamp, days: i64) -> String {
    earlier(now, days).strftime("%Y-%m-%d").to_string()
}

fn post(server: &TestServer, path: &str, key: Option<&str>, body: &str) -> (u16, Value) {
    let mut request = server.post(path).body(body.to_owned());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.send().expect("post");
    (answer.status().as_u16(), answer.json().expect("JSON"))
}

/// Events of four users, one of whom is known by nothing else.
fn events(now: Timestamp) -> String {
    let event = |user: &str, days: i64, fields: &str| {
        format!("{{\"user_id\":\"{user}\",\"ts\":\"{}\"{fields}}}\n", earlier(now, days))
    };
    [
        event("u1", 0, ",\"category\":\"shoes\",\"amount\":20.50"),
        event("u1", 3, ",\"category\":\"shoes\",\"amount\":\"10\",\"gift\":true"),
        event("u1", 40, ",\"category\":\"hats\",\"amount\":5,\"colour\":\"red\""),
        event("u2", 1, ",\"category\":\"hats\",\"amount\":100"),
        event("u3", 10, ",\"category\":\"shoes\""),
        event("e1", 2, ",\"category\":\"shoes\",\"amount\":7,\"gift\":false"),
    ]
    .concat()
}

/// The people, and their purchases.
fn shop(now: Timestamp) -> TestServer {
    let server = TestServer::with_people();
    server.put_catalog(&catalog_with(purchase()));
    let (status, answer) = post(&server, "/v1/facts/purchase?visible=true", None, &events(now));
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(6), &json!(0)), "{answer}");
    assert!(answer["epoch"].is_u64(), "{answer}");
    server
}

fn questions(now: Timestamp) -> Vec<(String, u64)> {
    let between = format!("did('purchase', ts BETWEEN '{}' AND '{}')", date(now, 10), date(now, 3));
    let mut questions = vec![(between, 2)];
    questions.extend(
        [
            ("TRUE", 5),
            ("did('purchase')", 4),
            ("NOT did('purchase')", 1),
            ("did('purchase', category = 'shoes')", 3),
            ("did('purchase', category <> 'shoes')", 2),
            ("did('purchase', category IN ('hats', 'gloves'))", 2),
            ("did('purchase', category = 'shoes', count >= 2)", 1),
            ("did('purchase', count = 0)", 1),
            ("did('purchase', count <= 1)", 4),
            ("did('purchase', gift)", 1),
            ("did('purchase', sum(amount) >= 30)", 2),
            ("did('purchase', sum(amount) = 35.5)", 1),
            // Whose events have no amount has spent nothing; who has no events has no sum.
            ("did('purchase', sum(amount) < 1000)", 4),
            ("did('purchase', category = 'shoes', sum(amount) BETWEEN 7 AND 31)", 2),
            ("did('purchase', within => '5 days')", 3),
            ("did('purchase', within => '3 days')", 3),
            ("did('purchase', within => '1 day')", 1),
            ("did('purchase', first < '30 days ago')", 1),
            ("did('purchase', last >= '2 days ago')", 3),
            ("did('purchase', last < '2 days ago')", 1),
            ("gender = 'f' AND did('purchase', category = 'shoes')", 2),
            ("at_least(2, is_member, did('purchase'), did('purchase', count >= 3))", 1),
        ]
        .map(|(expression, count)| (expression.to_owned(), count)),
    );
    questions
}

fn check(server: &TestServer, now: Timestamp) {
    for (expression, count) in questions(now) {
        assert_eq!(server.count(&expression), count, "{expression}");
    }
}

#[test]
fn what_users_did_is_counted_and_survives() {
    let now = now(0);
    let mut server = shop(now);
    check(&server, now);
    server.kill();
    server.restart();
    check(&server, now);
    server.restart();
    check(&server, now);
    assert_eq!(server.members("did('purchase', category = 'shoes')").len(), 3);
    let user: Value = server.get("/v1/users/e1").send().expect("get").json().expect("JSON");
    assert_eq!(user["user_id"], "e1", "an event makes its user known: {user}");
}

#[test]
fn a_tree_asks_the_same() {
    let now = now(0);
    let server = shop(now);
    let tree = json!({"not": {"did": "purchase",
        "where": [{"column": "category", "is": "shoes"}, {"column": "ts", "op": ">=", "value": date(now, 10)}],
        "having": [{"figure": "count", "op": ">=", "value": 2}, {"figure": "sum", "column": "amount", "between": [30, 31]}],
        "within": "30 days"}});
    assert_eq!(server.ask("/v1/count", &json!({ "where": tree }))["count"], 4);
}

#[test]
fn bad_events_are_told_and_good_ones_taken() {
    let server = TestServer::start();
    server.put_catalog(&catalog_with(purchase()));
    let ts = Timestamp::now();
    let body = format!(
        "{{\"user_id\":\"a\",\"ts\":\"{ts}\",\"amount\":1.005}}\n\
         {{\"user_id\":\"b\",\"ts\":\"{ts}\",\"amount\":1.25}}\n\
         {{\"user_id\":\"c\",\"ts\":\"2999-01-01\"}}\n\
         not json\n\
         {{\"user_id\":\"d\",\"category\":\"shoes\"}}\n\
         {{\"user_id\":\"e\",\"ts\":\"1999-12-31\"}}\n\
         {{\"user_id\":\"f\",\"ts\":{},\"gift\":true,\"more\":[1]}}\n",
        ts.as_millisecond()
    );
    let (status, answer) = post(&server, "/v1/facts/purchase?visible=true", None, &body);
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(2), &json!(5)), "{answer}");
    let told: Vec<(u64, &str)> = answer["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| (error["line"].as_u64().expect("a line"), error["error"].as_str().expect("text")))
        .collect();
    let expected = [
        (1, "`amount`: `1.005` has more than 2 digits behind the point"),
        (3, "`ts`: `2999-01-01` is more than a day after now"),
        (4, "a line is a JSON object"),
        (5, "`ts` is missing"),
        (6, "`ts`: `1999-12-31` is older than the 400 days that the fact keeps"),
    ];
    assert_eq!(told, expected);
    assert_eq!((server.count("did('purchase')"), server.count("TRUE")), (2, 2));
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(format!("{{\"user_id\":\"g\",\"ts\":\"{ts}\"}}\n").as_bytes()).expect("pack");
    let request = server.post("/v1/facts/purchase?visible=true").header("Content-Encoding", "gzip");
    success(request.body(packed.finish().expect("pack")).send().expect("post"));
    assert_eq!(server.count("did('purchase')"), 3);
}

/// However often, and in whatever order, it is said.
#[test]
fn an_event_counts_once_and_is_taken_back() {
    let mut server = TestServer::start();
    let mut fact = purchase();
    fact["deduplicate"] = json!("30 days");
    server.put_catalog(&catalog_with(fact));
    let ts = now(0);
    let event = |id: &str, amount: &str| {
        format!(
            "{{\"user_id\":\"u\",\"ts\":\"{ts}\",\"event_id\":\"{id}\",\"category\":\"shoes\",\"amount\":{amount}}}\n"
        )
    };
    let retract = |id: &str| format!("{{\"user_id\":\"u\",\"ts\":\"{ts}\",\"event_id\":\"{id}\",\"retract\":true}}\n");
    let send = |server: &TestServer, lines: String| {
        let (status, answer) = post(server, "/v1/facts/purchase?visible=true", None, &lines);
        assert_eq!((status, &answer["rejected"]), (200, &json!(0)), "{answer}");
    };
    let holds = |server: &TestServer, condition: &str| server.count(&format!("did('purchase', {condition})")) == 1;

    send(&server, event("a", "10") + &event("b", "20") + &event("a", "10"));
    assert!(holds(&server, "count = 2, sum(amount) = 30"));
    server.restart();
    send(&server, event("b", "20") + &retract("a") + &retract("a") + &event("a", "10"));
    assert!(holds(&server, "count = 1, sum(amount) = 20"));
    // Taken back before it came.
    send(&server, retract("c"));
    server.kill();
    server.restart();
    send(&server, event("c", "70") + &event("d", "-5"));
    assert!(holds(&server, "category = 'shoes', count = 2, sum(amount) = 15"));
    send(&server, retract("b") + &retract("d"));
    assert_eq!(server.count("did('purchase')"), 0);
    assert_eq!(server.count("TRUE"), 1, "the user stays known");
    server.stop();
    let table = server.data().join("facts/purchase/_delta_log");
    let commits = std::fs::read_dir(&table).expect("a Delta Lake table").count();
    assert!(commits >= 2, "rows of each life are in the table");
    let without_ids = "{\"user_id\":\"u\",\"ts\":\"2026-11-20T10:00:00Z\",\"retract\":true}\n";
    server.restart();
    let (_, answer) = post(&server, "/v1/facts/purchase", None, without_ids);
    assert_eq!(answer["rejected"], 1, "{answer}");
}

#[test]
fn the_same_key_and_body_count_once() {
    let mut server = TestServer::start();
    let mut two = catalog_with(purchase());
    two["facts"]["visit"] = json!({"columns": {}});
    server.put_catalog(&two);
    let body = format!("{{\"user_id\":\"k\",\"ts\":\"{}\"}}\n", Timestamp::now());
    let send = |server: &TestServer, fact: &str, body: &str| {
        post(server, &format!("/v1/facts/{fact}?visible=true"), Some("key"), body)
    };
    assert_eq!(send(&server, "purchase", &body).1["repeated"], false);
    assert_eq!(send(&server, "purchase", &body).1["repeated"], true);
    let (status, answer) = send(&server, "purchase", &body.replace("\"k\"", "\"l\""));
    assert_eq!((status, &answer["type"]), (422, &json!("urn:beluga:problem:idempotency-key-reused")), "{answer}");
    assert_eq!(send(&server, "visit", &body).1["repeated"], false, "another fact is another request");
    server.kill();
    server.restart();
    assert_eq!(send(&server, "purchase", &body).1["repeated"], true);
    assert_eq!(server.count("did('purchase', count = 1) AND did('visit', count = 1)"), 1);
}

#[test]
fn a_key_is_one_of_the_fact_as_it_was_declared() {
    let mut server = TestServer::start();
    let with = catalog_with(purchase());
    server.put_catalog(&with);
    let body = format!("{{\"user_id\":\"k\",\"ts\":\"{}\"}}\n", Timestamp::now());
    let send =
        |server: &TestServer, key: &str, body: &str| post(server, "/v1/facts/purchase?visible=true", Some(key), body);
    assert_eq!(send(&server, "key", &body).1["repeated"], false);
    // A body that came when keys were told apart by the name of the fact.
    let data = server.data();
    server.stop();
    let hash = |bytes: &[&[u8]]| xxh3_128(&bytes.concat());
    let key = hash(&[&hash(&[b"facts/purchase\0old"]).to_le_bytes(), &0u64.to_le_bytes()]);
    let now_seconds = Timestamp::now().as_second().unsigned_abs();
    let once = Once { key, digest: hash(&[body.as_bytes(), &[1]]), now_seconds, remember_seconds: 3_600, note: 0 };
    let tables = Arc::new(DeltaTables::open(&data.join("facts")).expect("tables"));
    let options = Options { tables: Some(tables), ..Options::default() };
    let store = Store::open(Arc::new(RealVfs), &data, options).expect("opens");
    store
        .write(&UpdateBatch::new(), Some(once))
        .map(|written| store.sync(written.lsn))
        .expect("written")
        .expect("kept");
    drop(store);
    server.restart();
    assert_eq!(send(&server, "old", &body).1["repeated"], true, "does not count again");
    assert_eq!(send(&server, "old", &body.replace("\"k\"", "\"l\"")).0, 422);

    success(server.put("/v1/catalog?allow_drop=true").json(&catalog()).send().expect("put"));
    success(server.put("/v1/catalog").json(&with).send().expect("put"));
    assert_eq!(server.count("did('purchase')"), 0);
    assert_eq!(send(&server, "key", &body).1["repeated"], false);
    assert_eq!(send(&server, "key", &body).1["repeated"], true);
    assert_eq!(server.count("did('purchase', count = 1)"), 1);
}

/// Sends what must be refused; answers the problem.
fn problem(request: reqwest::blocking::RequestBuilder, status: u16, kind: &str) -> Value {
    let answer = request.send().expect("ask");
    assert_eq!(answer.status().as_u16(), status);
    let told: Value = answer.json().expect("JSON");
    assert_eq!(told["type"], format!("urn:beluga:problem:{kind}"), "{told}");
    told
}

#[test]
fn names_that_are_not_known_get_a_suggestion() {
    let server = shop(now(0));
    let ask = |expression: &str, kind: &str| {
        problem(server.post("/v1/count").json(&json!({ "where": expression })), 400, kind)
    };
    let told = ask("TRUE AND did('purchas')", "unknown-fact");
    assert_eq!(told["suggestion"], "did you mean 'purchase'?", "{told}");
    assert_eq!(told["span"], json!({"start": 9, "end": 23}), "{told}");
    let told = ask("did('purchase', categry = 'shoes')", "unknown-column");
    assert_eq!(told["suggestion"], "did you mean `category`?", "{told}");
    assert_eq!(told["span"], json!({"start": 16, "end": 33}), "{told}");
    let told = ask("did('purchase', in_audience('x'))", "unsupported");
    assert!(told["suggestion"].as_str().expect("text").contains("columns of the fact"), "{told}");
    let told = problem(server.post("/v1/facts/purchases").body("{}"), 404, "not-found");
    assert_eq!(told["suggestion"], "did you mean `purchase`?", "{told}");
    let arrow = server.post("/v1/facts/purchase").header("Content-Type", "application/vnd.apache.arrow.file");
    let told = problem(arrow.body("x"), 415, "unsupported-media-type");
    assert!(told["detail"].as_str().expect("text").starts_with("events are NDJSON"), "{told}");
    let output = beluga(&["count", "did('purchas')", "--url", &server.url("")]);
    assert_eq!(output.status.code(), Some(2), "the expression is wrong: {}", stderr(&output));
    assert!(stderr(&output).contains("did you mean 'purchase'?"), "{}", stderr(&output));
}

#[test]
fn explain_names_the_activity_index() {
    let server = shop(now(0));
    let question =
        json!({"where": "gender = 'f' AND did('purchase', category = 'shoes', within => '30 days')", "analyze": true});
    let answer = server.ask("/v1/explain", &question);
    let text = answer["text"].as_str().expect("text");
    assert!(text.contains("activity") && text.contains("purchase") && text.contains("shoes"), "{text}");
    assert_eq!(answer["where"], question["where"]);
}

#[test]
fn audiences_of_behaviour_hold_the_fact() {
    let server = shop(now(0));
    let define = server.put("/v1/audiences/buyers").json(&json!({"where": "did('purchase', count >= 2)"}));
    success(define.send().expect("define"));
    assert_eq!(server.count("in_audience('buyers')"), 1);
    let drop = || server.put("/v1/catalog?allow_drop=true").json(&catalog());
    let told = problem(drop(), 409, "unsafe-change");
    assert!(told["detail"].as_str().expect("text").contains("audience `buyers` would break"), "{told}");
    success(server.client.delete(server.url("/v1/audiences/buyers")).send().expect("delete"));
    let answer = success(drop().send().expect("drop"));
    let what = "4 columns, activity by category, gift; sums of amount";
    assert_eq!(answer["changes"], json!([{"change": "drop", "fact": "purchase", "type": what}]));
    problem(server.post("/v1/count").json(&json!({"where": "did('purchase')"})), 400, "unknown-fact");
    server.put_catalog(&catalog_with(purchase()));
    assert_eq!(server.count("did('purchase')"), 0, "a fact declared anew begins empty");
}

#[test]
fn a_catalog_reads_back_and_changes_only_safely() {
    let mut server = TestServer::start();
    let mut fact = purchase();
    fact["time_zone"] = json!("Asia/Shanghai");
    fact["deduplicate"] = json!("30 days");
    let put = |server: &TestServer, fact: &Value| server.put("/v1/catalog").json(&catalog_with(fact.clone()));
    let answer = success(put(&server, &fact).send().expect("put"));
    assert_eq!(answer["facts"]["purchase"], fact);
    assert_eq!(answer["changes"][0]["tag"], "age", "tags are told as before: {answer}");
    assert_eq!(
        answer["changes"][6],
        json!({"change": "add", "fact": "purchase", "type": "4 columns, activity by category, gift; sums of amount"})
    );
    server.kill();
    server.restart();
    let read = success(server.get("/v1/catalog").send().expect("get"));
    assert_eq!(read, catalog_with(fact.clone()));
    let again = success(server.put("/v1/catalog").json(&read).send().expect("put"));
    assert_eq!(again["changes"], json!([]));

    let refused = |change: fn(&mut Value), status: u16, kind: &str, words: &str| {
        let mut changed = fact.clone();
        change(&mut changed);
        let told = problem(put(&server, &changed), status, kind);
        let detail = told["detail"].as_str().expect("text");
        assert!(detail.contains(words), "{words}: {told}");
        assert!(told["pointer"].as_str().expect("a pointer").starts_with("/facts/purchase"), "{told}");
    };
    refused(|fact| fact["columns"]["gift"] = json!("string"), 409, "unsafe-change", "its type cannot become string");
    refused(
        |fact| drop(fact["columns"].as_object_mut().expect("columns").remove("campaign")),
        409,
        "unsafe-change",
        "column `campaign` is missing",
    );
    refused(|fact| fact["activity"]["measures"] = json!([]), 409, "unsafe-change", "declare a new fact");
    refused(|fact| fact["time_zone"] = json!("UTC"), 409, "unsafe-change", "cannot become UTC");
    refused(|fact| fact["time_zone"] = json!("Asia/Shanghia"), 400, "invalid-catalog", "did you mean `Asia/Shanghai`?");
    refused(|fact| fact["activity"]["measures"] = json!(["gift"]), 400, "invalid-catalog", "a measure is an integer");
    refused(|fact| fact["columns"]["new"] = json!("strng"), 400, "invalid-field", "unknown variant `strng`");
    refused(|fact| fact["retention"] = json!("soon"), 400, "invalid-field", "a number of days such as `400 days`");
    refused(|fact| fact["colums"] = json!({}), 400, "invalid-field", "unknown field `colums`");
    let told = problem(server.put("/v1/catalog").json(&catalog()), 409, "unsafe-change");
    assert_eq!(told["pointer"], "/facts/purchase", "{told}");
    assert!(told["suggestion"].as_str().expect("text").contains("allow_drop"), "{told}");

    fact["columns"]["grams"] = json!("integer");
    fact["retention"] = json!("500 days");
    let answer = success(put(&server, &fact).send().expect("put"));
    let what = "column grams: integer; retention 400 days → 500 days";
    assert_eq!(answer["changes"], json!([{"change": "alter", "fact": "purchase", "type": what}]));
    let line = format!("{{\"user_id\":\"w\",\"ts\":\"{}\",\"grams\":3}}\n", Timestamp::now());
    assert_eq!(post(&server, "/v1/facts/purchase", None, &line).1["accepted"], 1);
}

const YAML: &str = "tags:\n  gender: { type: enum }\nfacts:\n  purchase:\n    \
    columns: { category: string, campaign: string, amount: { decimal: [12, 2] } }\n    \
    activity: { dimensions: [category, campaign], measures: [amount] }\n    retention: 400 days\n";

fn told(arguments: &[&str]) -> String {
    let output = beluga(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn the_command_line_declares_and_asks() {
    let now = now(0);
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("catalog.yaml");
    std::fs::write(&file, YAML).expect("write");
    let mut server = TestServer::start();
    let (url, data) = (server.url(""), server.data());
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let apply = told(&["apply", "-f", &text(&file), "--url", &url]);
    assert_eq!(apply, "+ gender: enum\n+ fact purchase: 3 columns, activity by category, campaign; sums of amount\n");
    std::fs::write(&file, YAML.replace("400", "30")).expect("write");
    let apply = told(&["apply", "-f", &text(&file), "--url", &url]);
    assert_eq!(apply, "~ fact purchase: retention 400 days → 30 days\n");
    std::fs::write(&file, YAML.replace("category: string", "category: strng")).expect("write");
    let output = beluga(&["apply", "-f", &text(&file), "--url", &url]);
    assert!(stderr(&output).contains("did you mean `string`?"), "{}", stderr(&output));

    let event = |user: &str, days: i64| format!("{{\"user_id\":\"{user}\",\"ts\":\"{}\"}}\n", earlier(now, days));
    let body = [event("a", 0), event("a", 1), event("b", 2)].concat();
    assert_eq!(post(&server, "/v1/facts/purchase?visible=true", None, &body).1["accepted"], 3);
    let count =
        |arguments: &[&str]| told(&[&["count", "did('purchase', count >= 2)", "--output", "csv"], arguments].concat());
    assert_eq!(count(&["--url", &url]), "count\n1\n");
    server.stop();
    assert_eq!(count(&["--data", &text(&data)]), "count\n1\n");
    let members = told(&["members", "did('purchase')", "--output", "csv", "--data", &text(&data)]);
    assert_eq!(members.lines().count(), 3, "{members}");
}

// ---- random events against a recount

/// Seconds that clocks in Shanghai are ahead.
const AHEAD: i64 = 8 * 3600;
const CATEGORIES: [&str; 4] = ["shoes", "hats", "it's", ""];

#[derive(Clone, Debug)]
struct Event {
    /// Days before today, in Shanghai.
    age: i64,
    category: Option<&'static str>,
    gift: Option<bool>,
    cents: Option<i64>,
}

type Users = BTreeMap<String, Vec<Event>>;

/// An event as it is sent; `midnight` is today's in Shanghai, in seconds since 1970.
fn line(random: &mut StdRng, user: &str, event: &Event, midnight: i64, now: i64) -> String {
    let seconds = midnight - event.age * DAY_SECONDS + random.random_range(0..DAY_SECONDS);
    let mut fields = json!({"user_id": user, "ts": seconds.min(now) * 1000});
    if random.random_bool(0.3) {
        fields["ts"] = json!(Timestamp::from_second(seconds.min(now)).expect("a time").to_string());
    }
    fields["category"] = json!(event.category);
    fields["gift"] = json!(event.gift);
    fields["amount"] = json!(event.cents.map(|cents| cents as f64 / 100.0));
    format!("{fields}\n")
}

/// A condition as text, and as what it says of a user's events.
fn condition(random: &mut StdRng, today: i64) -> (String, impl Fn(&[Event]) -> bool + use<>) {
    let mut parts = vec!["'purchase'".to_owned()];
    let wanted = match random.random_range(0..4) {
        0 => {
            let category = CATEGORIES[random.random_range(0..4)];
            parts.push(format!("category = '{}'", category.replace('\'', "''")));
            Wanted::Category(category, true)
        }
        1 => {
            let category = CATEGORIES[random.random_range(0..4)];
            parts.push(format!("category <> '{}'", category.replace('\'', "''")));
            Wanted::Category(category, false)
        }
        2 => {
            let gift = random.random_bool(0.5);
            parts.push(if gift { "gift".to_owned() } else { "NOT gift".to_owned() });
            Wanted::Gift(gift)
        }
        _ => Wanted::Any,
    };
    let mut ages = 0..=i64::MAX;
    if random.random_bool(0.5) {
        let days = random.random_range(1..70);
        parts.push(format!("within => '{days} days'"));
        ages = 0..=days - 1;
    } else if random.random_bool(0.5) {
        let (old, young) = (random.random_range(20..70), random.random_range(0..20));
        let name = |age: i64| {
            let midnight = Timestamp::from_second((today - age) * DAY_SECONDS).expect("a time");
            midnight.strftime("%Y-%m-%d").to_string()
        };
        parts.insert(1, format!("ts BETWEEN '{}' AND '{}'", name(old), name(young)));
        ages = young..=old;
    }
    let figure = random.random_range(0..5);
    let bound: i64 = match figure {
        0 => random.random_range(0..5),
        1 => random.random_range(-20_000..20_000),
        _ => random.random_range(1..70),
    };
    // Arguments with a name stand last.
    let place = parts.len() - usize::from(parts.last().is_some_and(|part| part.starts_with("within")));
    match figure {
        0 => parts.insert(place, format!("count >= {bound}")),
        1 => parts.insert(place, format!("sum(amount) < {}.{:02}", bound / 100, (bound % 100).abs())),
        2 => parts.insert(place, format!("first >= '{bound} days ago'")),
        3 => parts.insert(place, format!("last < '{bound} days ago'")),
        _ => {}
    }
    // The sign of less than a whole stands nowhere else.
    let bound = if figure == 1 && bound < 0 && bound > -100 { -bound } else { bound };
    let holds = move |events: &[Event]| {
        let meant = |event: &&Event| {
            let is_wanted = match wanted {
                Wanted::Any => true,
                Wanted::Category(category, is) => event.category.is_some_and(|own| (own == category) == is),
                Wanted::Gift(gift) => event.gift == Some(gift),
            };
            is_wanted && ages.contains(&event.age)
        };
        let meant: Vec<&Event> = events.iter().filter(meant).collect();
        let oldest = meant.iter().map(|event| event.age).max();
        let youngest = meant.iter().map(|event| event.age).min();
        match figure {
            0 => meant.len() as i64 >= bound,
            1 => !meant.is_empty() && meant.iter().filter_map(|event| event.cents).sum::<i64>() < bound,
            2 => oldest.is_some_and(|age| age <= bound),
            3 => youngest.is_some_and(|age| age > bound),
            _ => !meant.is_empty(),
        }
    };
    (format!("did({})", parts.join(", ")), holds)
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Any,
    Category(&'static str, bool),
    Gift(bool),
}

fn recount(server: &TestServer, random: &mut StdRng, users: &Users, today: i64) {
    for _ in 0..60 {
        let (expression, holds) = condition(random, today);
        let expected: BTreeSet<&str> =
            users.iter().filter(|(_, events)| holds(events)).map(|(user, _)| user.as_str()).collect();
        let found = server.members(&expression);
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{expression}");
        assert_eq!(server.count(&format!("NOT {expression}")), (users.len() - expected.len()) as u64, "{expression}");
    }
}

#[test]
fn random_events_agree_with_a_recount() {
    let mut random = StdRng::seed_from_u64(11);
    let now = now(AHEAD).as_second();
    let today = (now + AHEAD).div_euclid(DAY_SECONDS);
    let midnight = today * DAY_SECONDS - AHEAD;
    let mut server = TestServer::start();
    let mut fact = purchase();
    fact["time_zone"] = json!("Asia/Shanghai");
    server.put_catalog(&catalog_with(fact));
    let mut users = Users::new();
    for round in 0..4 {
        let mut body = String::new();
        for _ in 0..150 {
            let user = format!("u{}", random.random_range(0..60));
            let event = Event {
                age: if random.random_bool(0.5) { random.random_range(0..4) } else { random.random_range(0..80) },
                category: random.random_bool(0.8).then(|| CATEGORIES[random.random_range(0..4)]),
                gift: random.random_bool(0.8).then(|| random.random_bool(0.5)),
                cents: random.random_bool(0.8).then(|| random.random_range(-9_999..20_000)),
            };
            body += &line(&mut random, &user, &event, midnight, now);
            users.entry(user).or_default().push(event);
        }
        let (_, answer) = post(&server, "/v1/facts/purchase?visible=true", None, &body);
        assert_eq!(answer["accepted"], 150, "{answer}");
        recount(&server, &mut random, &users, today);
        match round {
            0 => server.kill(),
            1 => server.stop(),
            _ => continue,
        }
        server.restart();
        recount(&server, &mut random, &users, today);
    }
    let all: Vec<String> = users.into_keys().collect();
    let mut known = server.members("TRUE");
    known.sort_unstable();
    assert_eq!(known, all);
}
