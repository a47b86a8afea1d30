//! Objects of an S3-compatible store, as sources and jobs: from the catalog and the command line to the answer.

mod s3;

use crate::process::{Process, wait_until};
use crate::support::{BELUGA, TestServer, catalog as people_catalog, client, command, stderr, stdout, success};
use api::config::Config;
use s3::{BUCKET, Fault, KEY_ID, S3, SECRET};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A store, a folder with its secret, and settings to read it with.
struct Store {
    s3: S3,
    secrets: tempfile::TempDir,
}

impl Store {
    fn start() -> Store {
        let secrets = tempfile::tempdir().expect("temporary folder");
        std::fs::write(secrets.path().join("key"), format!("{SECRET}\n")).expect("written");
        Store { s3: S3::start(), secrets }
    }

    fn allow(&self, config: &mut Config) {
        config.source_stores = vec![format!("s3://{BUCKET}")];
        config.secret_folders = vec![self.secrets.path().to_owned()];
        config.checkpoint_interval = Duration::from_millis(50);
    }

    fn server(&self) -> TestServer {
        TestServer::with(|config| self.allow(config))
    }

    fn access(&self) -> Value {
        json!({"endpoint": self.s3.url, "allow_http": true, "region": "eu-central-1", "access_key_id": KEY_ID,
            "secret_access_key": {"file": self.secrets.path().join("key")}})
    }

    /// A source of views.
    fn catalog(&self, files: Value) -> Value {
        let mut all = json!({"every": "20 ms", "object_store": self.access()});
        all.as_object_mut().expect("an object").extend(files.as_object().expect("an object").clone());
        json!({
            "facts": {"view": {"columns": {"page": "string"}, "activity": {"dimensions": ["page"]}}},
            "sources": {"views": {"files": all, "into": "view"}},
        })
    }
}

fn view(user: &str, page: &str) -> String {
    format!("{{\"user_id\":\"{user}\",\"ts\":\"{}\",\"page\":\"{page}\"}}\n", jiff::Timestamp::now())
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).expect("packed");
    packed.finish().expect("packed")
}

fn source(server: &TestServer) -> Value {
    success(server.get("/v1/sources/views").send().expect("ask"))
}

#[track_caller]
fn wait(server: &TestServer, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = success(server.get(path).send().expect("ask"));
        if done(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn wait_source(server: &TestServer, done: impl Fn(&Value) -> bool) -> Value {
    wait(server, "/v1/sources/views", done)
}

fn tells(answer: &Value, words: &str) -> bool {
    answer["error"].as_str().is_some_and(|error| error.contains(words))
}

/// Without waiting for a store: one that hangs does so for an hour, and whoever asked it waits for half a minute.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
fn a_prefix_is_watched() {
    let store = Store::start();
    let s3 = &store.s3;
    s3.put("in/a.ndjson", view("u1", "home") + view("u2", "home").trim_end());
    s3.put("in/deep/b c+%20&ü.csv", format!("user_id,ts,page\nu1,{},home\n", jiff::Timestamp::now()));
    s3.put("in/c.ndjson.gz", gzip(&view("u3", "home")));
    s3.put("in//odd.ndjson", view("u9", "home"));
    s3.put("in/tab\tod.ndjson", view("u9", "home"));
    s3.put("in/readme.txt", "of no format");
    s3.put("in/.hidden.ndjson", view("u9", "home"));
    s3.put("other/a.ndjson", view("u9", "home"));
    let mut server = store.server();
    server.put_catalog(&store.catalog(json!({"paths": "s3://bucket/in/"})));
    let answer = wait_source(&server, |answer| answer["records"] == 4);
    assert_eq!((&answer["state"], &answer["refused"]), (&json!("running"), &json!(0)), "{answer}");
    let names: Vec<&str> = answer["partitions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["partition"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["s3://bucket/in/a.ndjson", "s3://bucket/in/c.ndjson.gz", "s3://bucket/in/deep/b c+%20&ü.csv"]);
    // What cannot be read because of its name is told.
    let answer = wait_source(&server, |answer| tells(answer, "odd"));
    assert!(tells(&answer, "rename the object") && tells(&answer, "1 more"), "{answer}");
    s3.remove("in//odd.ndjson");
    s3.remove("in/tab\tod.ndjson");
    s3.put("in/d.ndjson", view("u1", "home") + "nonsense\n");
    let answer = wait_source(&server, |answer| answer["records"] == 6 && answer["error"].is_null());
    assert_eq!(answer["refused"], 1, "{answer}");
    // Nothing of it is read twice, by another process.
    server.restart_with(|config| store.allow(config));
    let first = view("u1", "home");
    s3.put("in/e.ndjson", first.clone());
    wait_source(&server, |answer| answer["records"] == 1);
    server.settle();
    assert_eq!(server.members("did('view', page = 'home', count = 4)"), ["u1"]);
    assert_eq!(server.count("did('view')"), 3);
    // An object that is replaced by a longer one is read on, one that is shorter stops the source.
    s3.put("in/e.ndjson", first + &view("u4", "home"));
    wait_source(&server, |answer| answer["records"] == 2);
    s3.put("in/e.ndjson", "{}\n");
    let answer = wait_source(&server, |answer| answer["state"] == "failed");
    assert!(tells(&answer, "s3://bucket/in/e.ndjson") && tells(&answer, "on_missing"), "{answer}");
    for answer in [answer, success(server.get("/v1/catalog").send().expect("ask"))] {
        assert!(!answer.to_string().contains(SECRET), "{answer}");
    }
}

#[test]
fn a_source_reads_only_what_the_server_was_told_of() {
    let store = Store::start();
    let refused = |server: &TestServer, files: Value| {
        let answer = server.put("/v1/catalog").json(&store.catalog(files)).send().expect("put");
        assert!(answer.status().is_client_error(), "{}", answer.status());
        answer.text().expect("text")
    };
    let closed = TestServer::start();
    let told = refused(&closed, json!({"paths": "s3://bucket/in/"}));
    assert!(told.contains("source_stores") && told.contains("BELUGA_SOURCE_STORES"), "{told}");
    let server = TestServer::with(|config| {
        store.allow(config);
        config.source_stores = vec!["s3://bucket/in".to_owned()];
    });
    for path in [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/i*",
        "s3://bucket/in2/a.csv",
        "s3://bucket/in*/a.csv",
        "s3://other/in/a.csv",
    ] {
        let told = refused(&server, json!({"paths": path}));
        assert!(told.contains("s3://bucket/in only"), "{path}: {told}");
    }
    for (files, words) in [
        (json!({"paths": "ftp://bucket/in/a.csv"}), "`ftp:` is not spoken"),
        (json!({"paths": "s3://bucket/in/[a"}), "is not a glob"),
        (json!({"paths": "s3://bucket/in/", "object_store": {"endpoint": "http://127.0.0.1:1"}}), "allow_http"),
        (json!({"paths": "s3://bucket/in/", "object_store": {"endpoint": "https://127.0.0.1:1"}}), "own credentials"),
        (json!({"paths": "s3://bucket/in/", "object_store": {"endpoint": "ftp://h"}}), "`ftp:` is not spoken"),
        (json!({"paths": "s3://bucket/in/", "object_store": {"access_key_id": "k"}}), "go together"),
        (
            json!({"paths": "s3://bucket/in/", "object_store": {"access_key_id": "k", "secret_access_key": {"env": "PATH"}}}),
            "BELUGA_SECRET_",
        ),
        (
            json!({"paths": "s3://bucket/in/", "object_store": {"access_key_id": "k", "secret_access_key": {"file": "/etc/passwd"}}}),
            "secret_folders",
        ),
        (json!({"paths": "s3://bucket/in/", "object_store": {"secret_access_key": "in clear"}}), "secret_access_key"),
    ] {
        let told = refused(&server, files);
        assert!(told.contains(words), "{words}: {told}");
    }
    // Only what the folders say; nothing was asked of the store.
    server.put_catalog(&store.catalog(json!({"paths": "s3://bucket/in/*.ndjson"})));
    assert_eq!(store.s3.given("in/a.ndjson"), (0, 0));
}

#[test]
fn what_ails_a_store_is_told_and_passes() {
    let store = Store::start();
    store.s3.put("in/a.ndjson", view("u1", "home"));
    let server = TestServer::with(|config| {
        store.allow(config);
        config.source_stores.push("s3://nowhere".to_owned());
    });
    server.put_catalog(&store.catalog(json!({"paths": "s3://nowhere/in/"})));
    let answer = wait_source(&server, |answer| tells(answer, "no such bucket"));
    assert!(tells(&answer, "NoSuchBucket") && answer["state"] == "running", "{answer}");

    let key = store.secrets.path().join("id");
    std::fs::write(&key, "WRONG").expect("written");
    let mut access = store.access();
    access["access_key_id"] = json!({"file": key});
    store.s3.fault(Fault::Away);
    server.put_catalog(&store.catalog(json!({"paths": "s3://bucket/in/", "object_store": access})));
    let answer = wait_source(&server, |answer| tells(answer, "SlowDown"));
    assert_eq!(answer["state"], "running", "{answer}");
    store.s3.fault(Fault::None);
    let answer = wait_source(&server, |answer| tells(answer, "refuses access"));
    assert!(tells(&answer, "InvalidAccessKeyId"), "{answer}");
    // Keys that were changed are read again.
    std::fs::write(&key, KEY_ID).expect("written");
    wait_source(&server, |answer| answer["records"] == 1 && answer["error"].is_null());
    // In the middle of an answer, again and again.
    store.s3.fault(Fault::Torn);
    store.s3.put("in/b.ndjson", view("u2", "home"));
    wait_source(&server, |answer| !answer["error"].is_null());
    store.s3.fault(Fault::None);
    wait_source(&server, |answer| answer["records"] == 2 && answer["error"].is_null());
    server.settle();
    assert_eq!(server.count("did('view', count = 1)"), 2);
}

#[test]
fn a_source_of_a_store_that_hangs_obeys() {
    let store = Store::start();
    store.s3.put("in/a.ndjson", view("u1", "home"));
    let server = store.server();
    server.put_catalog(&store.catalog(json!({"paths": "s3://bucket/in/"})));
    wait_source(&server, |answer| answer["records"] == 1);
    store.s3.fault(Fault::Hang);
    store.s3.put("in/b.ndjson", view("u2", "home"));
    wait_source(&server, |answer| tells(answer, "waiting for its store"));
    for (verb, state) in [("pause", "paused"), ("resume", "running"), ("stop", "stopped")] {
        let begin = Instant::now();
        success(server.post(&format!("/v1/sources/views/{verb}")).send().expect("ask"));
        wait_source(&server, |answer| answer["state"] == state);
        assert!(begin.elapsed() < AT_ONCE, "{verb} took {:?}", begin.elapsed());
    }
    store.s3.fault(Fault::None);
    success(server.post("/v1/sources/views/start").send().expect("ask"));
    wait_source(&server, |answer| answer["records"] == 2);
}

#[test]
fn many_objects_are_listed_page_by_page() {
    let store = Store::start();
    let count = 1_500;
    for n in 0..count {
        store.s3.put(&format!("in/{n:05}.ndjson"), view(&format!("u{n}"), "home"));
    }
    let server = store.server();
    server.put_catalog(&store.catalog(json!({"paths": "s3://bucket/in/*.ndjson", "watch": false})));
    let answer = wait_source(&server, |answer| answer["records"] == count && answer["state"] == "finished");
    assert_eq!(answer["error"], Value::Null, "{answer}");
    assert!(store.s3.listed() >= count / 100, "{}", store.s3.listed());
    server.settle();
    assert_eq!(server.count("did('view')"), count);
}

/// Events without ids, so that one that is loaded twice counts twice.
fn views(count: usize) -> String {
    let now = jiff::Timestamp::now();
    let padding = "x".repeat(80);
    (0..count)
        .map(|n| format!("{{\"user_id\":\"u{}\",\"ts\":\"{now}\",\"page\":\"home\",\"note\":\"{padding}\"}}\n", n / 2))
        .collect()
}

fn job(store: &Store, files: Value, rate: Option<u64>) -> Value {
    json!({"backfill": {"files": files, "into": "view", "object_store": store.access()}, "rate": rate})
}

fn ended(answer: &Value) -> bool {
    !matches!(answer["state"].as_str(), Some("queued" | "running"))
}

/// A catalog without sources.
fn facts(store: &Store) -> Value {
    let mut catalog = store.catalog(json!({"paths": "s3://bucket/"}));
    catalog.as_object_mut().expect("an object").remove("sources");
    catalog
}

#[test]
fn a_job_loads_objects() {
    let store = Store::start();
    let (text, rows) = (views(60_000), parquet_views(10_000));
    store.s3.put("in/a.ndjson", text.clone());
    store.s3.put("in/b.parquet", rows.clone());
    store.s3.put("in/_SUCCESS", "");
    let server = store.server();
    server.put_catalog(&facts(&store));
    let taken = server.ask("/v1/jobs", &job(&store, json!(["s3://bucket/in/"]), None));
    let path = format!("/v1/jobs/{}", taken["id"].as_str().expect("an id"));
    let done = wait(&server, &path, ended);
    let progress = &done["progress"];
    assert_eq!((&done["state"], &progress["rows_done"]), (&json!("done"), &json!(70_000)), "{done}");
    assert_eq!((&progress["files_done"], &progress["files_total"]), (&json!(2), &json!(2)), "{done}");
    assert_eq!(progress["bytes_total"], json!(text.len() + rows.len()), "{done}");
    assert!(!done.to_string().contains(SECRET), "{done}");
    server.settle();
    assert_eq!(server.count("did('view', count = 2)"), 25_000);
    assert_eq!(server.count("did('view', count = 4)"), 5_000);
    // In pieces, and once.
    let (most, all) = store.s3.given("in/a.ndjson");
    assert!(most <= 4 << 20 && all == text.len() as u64, "{most} {all} {}", text.len());
    let refused = |body: Value| {
        let answer = server.post("/v1/jobs").json(&body).send().expect("post");
        assert!(answer.status().is_client_error(), "{}", answer.status());
        answer.text().expect("text")
    };
    for (files, words) in [
        (json!(["s3://bucket/in/*.csv"]), "no object matches"),
        (json!(["s3://bucket/in/c.ndjson"]), "no object matches"),
        (json!(["s3://other/in/"]), "source_stores"),
    ] {
        let told = refused(job(&store, files, None));
        assert!(told.contains(words), "{words}: {told}");
    }
    let mut body = job(&store, json!(["s3://bucket/in/"]), None);
    body["backfill"]["object_store"]["access_key_id"] = json!("WRONG");
    assert!(refused(body).contains("refuses access"));
    body = job(&store, json!(["/in/a.csv"]), None);
    assert!(refused(body).contains("source_folders"));
}

fn parquet_views(count: usize) -> Vec<u8> {
    use arrow::array::{RecordBatch, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;
    let now = jiff::Timestamp::now().as_microsecond();
    let users = StringArray::from_iter_values((0..count).map(|n| format!("u{}", n / 2)));
    let pages = StringArray::from_iter_values((0..count).map(|_| "home"));
    let times = TimestampMicrosecondArray::from_iter_values((0..count).map(|_| now)).with_timezone("UTC");
    let rows = RecordBatch::try_from_iter([
        ("user_id", Arc::new(users) as _),
        ("ts", Arc::new(times) as _),
        ("page", Arc::new(pages) as _),
    ]);
    let rows = rows.expect("a batch");
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("written");
    writer.close().expect("closed");
    bytes
}

#[test]
fn a_job_waits_for_its_store_and_is_cancelled_while_it_hangs() {
    let store = Store::start();
    store.s3.put("in/a.ndjson", views(4_000));
    store.s3.put("in/b.ndjson", views(60_000));
    let server = store.server();
    server.put_catalog(&facts(&store));
    let taken = server.ask("/v1/jobs", &job(&store, json!(["s3://bucket/in/*.ndjson"]), Some(3_000)));
    let path = format!("/v1/jobs/{}", taken["id"].as_str().expect("an id"));
    wait(&server, &path, |answer| answer["progress"]["rows_done"].as_u64() > Some(0));
    store.s3.fault(Fault::Away);
    let answer = wait(&server, &path, |answer| tells(answer, "it is tried again"));
    assert!(tells(&answer, "SlowDown") && answer["state"] == "queued", "{answer}");
    store.s3.fault(Fault::None);
    let rows = answer["progress"]["rows_done"].as_u64().expect("a number");
    let answer = wait(&server, &path, |answer| answer["progress"]["rows_done"].as_u64() > Some(rows));
    assert_eq!((&answer["state"], &answer["error"]), (&json!("running"), &Value::Null), "{answer}");
    // An object that is still to come.
    store.s3.fault(Fault::Hang);
    let hung = server.ask("/v1/jobs", &job(&store, json!(["s3://bucket/in/b.ndjson"]), None));
    for id in [&taken["id"], &hung["id"]] {
        let path = format!("/v1/jobs/{}", id.as_str().expect("an id"));
        if id == &hung["id"] {
            wait(&server, &path, |answer| answer["state"] == "running");
            std::thread::sleep(Duration::from_millis(200));
        }
        let begin = Instant::now();
        let url = server.url(&path);
        let answer = success(client().delete(url).send().expect("cancel"));
        assert_eq!(answer["state"], "cancelled", "{answer}");
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    }
}

#[test]
fn a_job_of_a_process_that_is_killed_goes_on() {
    let store = Store::start();
    store.s3.put("in/a.ndjson", views(6_000));
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    let secrets = format!("secret_folders={}", store.secrets.path().display());
    let serve = || Process::serve(&data, &["source_stores=s3://bucket/in", &secrets, "checkpoint_interval_ms=20"]);
    let mut server = serve();
    server.put_catalog(&facts(&store));
    let body = job(&store, json!(["s3://bucket/in/a.ndjson"]), Some(3_000));
    let taken = success(server.post("/v1/jobs").json(&body).send().expect("post"));
    let path = format!("/v1/jobs/{}", taken["id"].as_str().expect("an id"));
    let client = client();
    let ask = |server: &Process| success(client.get(format!("http://{}{path}", server.address())).send().expect("ask"));
    for rows in [0, 800, 1_600] {
        wait_until("more rows are done", || ask(&server)["progress"]["rows_done"].as_u64() >= Some(rows));
        assert!(!server.told().contains(SECRET), "{}", server.told());
        server.kill();
        server = serve();
    }
    wait_until("the job is done", || ended(&ask(&server)));
    let done = ask(&server);
    assert_eq!((&done["state"], &done["progress"]["rows_done"]), (&json!("done"), &json!(6_000)), "{done}");
    server.post_tags("");
    assert_eq!(server.count("did('view', count = 2)"), 3_000);
}

/// The store as the usual variables of the environment say it.
fn load(store: &Store, data: &Path, file: &Path) -> std::process::Output {
    let mut load = command(BELUGA);
    load.args(["backfill", "-f"]).arg(file).arg("--data").arg(data);
    load.envs([("AWS_ENDPOINT_URL", store.s3.url.as_str()), ("AWS_REGION", "eu-central-1")]);
    load.envs([("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]);
    load.output().expect("run beluga")
}

#[test]
fn the_command_line_loads_objects_without_a_server() {
    let store = Store::start();
    store.s3.put("in/a.csv", "user_id,age\nu1,30\nu2,31\n");
    store.s3.put("in/b.csv.gz", gzip("user_id,age\nu3,32\n"));
    let mut server = TestServer::start();
    server.put_catalog(&people_catalog());
    server.stop();
    let file = server.data().with_file_name("job.yaml");
    std::fs::write(&file, "files: [\"s3://bucket/in/*\"]\n").expect("written");
    let output = load(&store, &server.data(), &file);
    assert!(output.status.success() && stdout(&output).contains("3 rows"), "{} {}", stdout(&output), stderr(&output));
    store.s3.fault(Fault::Away);
    let output = load(&store, &server.data(), &file);
    let told = stderr(&output);
    assert!(!output.status.success() && told.contains("run it again to go on") && !told.contains(SECRET), "{told}");
    store.s3.fault(Fault::None);
    std::fs::write(&file, "files: [\"s3://nowhere/in/*\"]\n").expect("written");
    assert!(stderr(&load(&store, &server.data(), &file)).contains("no such bucket"));
    server.restart();
    assert_eq!(server.count("age >= 30"), 3);
}

/// moto, if `BELUGA_S3_PYTHON` names a Python that has it: `.ci/object_store.py` tells what is in its bucket.
#[test]
fn a_store_that_others_made_is_read() {
    let Some(python) = std::env::var_os("BELUGA_S3_PYTHON") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/object_store.py");
    let mut moto = Command::new(python);
    moto.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut moto = moto.spawn().expect("Python runs");
    let mut url = String::new();
    BufReader::new(moto.stdout.take().expect("its output")).read_line(&mut url).expect("its address");
    assert!(url.starts_with("http://"), "moto did not start: {url}");
    let store = Store::start();
    let mut catalog = store.catalog(json!({"paths": "s3://bucket/in/", "every": "5 s"}));
    catalog["sources"]["views"]["files"]["object_store"]["endpoint"] = json!(url.trim());
    let server = store.server();
    server.put_catalog(&catalog);
    let all = 1_100 + 1 + 50_000 + 200_000;
    let answer = wait_source(&server, |answer| answer["records"].as_u64() >= Some(all));
    assert_eq!((&answer["records"], &answer["refused"]), (&json!(all), &json!(0)), "{answer}");
    assert_eq!(answer["error"], Value::Null, "{answer}");
    let mut body = job(&store, json!(["s3://bucket/in/**/*.ndjson*", "s3://bucket/in/large.parquet"]), None);
    body["backfill"]["object_store"]["endpoint"] = json!(url.trim());
    let taken = server.ask("/v1/jobs", &body);
    let done = wait(&server, &format!("/v1/jobs/{}", taken["id"].as_str().expect("an id")), ended);
    assert_eq!((&done["state"], &done["progress"]["rows_done"]), (&json!("done"), &json!(all - 1)), "{done}");
    server.settle();
    assert_eq!(server.count("did('view')"), 200_000);
    // Small, packed and large; and those of the job.
    assert_eq!(server.count("did('view', count = 6)"), 1_099);
    assert_eq!(server.members("did('view', count = 7)"), ["u0"]);
    drop(moto.stdin.take());
    moto.wait().expect("it ends");
}

#[test]
fn what_a_source_read_before_counts_once_when_it_is_asked_often() {
    let store = Store::start();
    store.s3.put("in/a.ndjson", views(10_000));
    let mut server = store.server();
    server.put_catalog(&store.catalog(json!({"paths": "s3://bucket/in/*.ndjson"})));
    for _ in 0..4 {
        wait_source(&server, |answer| answer["records"].as_u64() >= Some(1) || answer["lag"] == 0);
        server.kill();
        server.restart_with(|config| store.allow(config));
    }
    wait_source(&server, |answer| answer["lag"] == 0 && answer["partitions"][0]["position"].as_u64() > Some(0));
    server.settle();
    assert_eq!(server.count("did('view', count = 2)"), 5_000);
    assert_eq!(source(&server)["state"], "running");
}
