//! Jobs: files loaded by a running server, beside live updates, through stops and kills.

use crate::process::{Process, wait_until};
use crate::support::{BELUGA, TestServer, beluga, catalog, client, command, config, stderr, stdout, success};
use api::config::Config;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A server that may read a folder, which goes with the answer, with tags and a fact.
fn server() -> (TestServer, tempfile::TempDir) {
    let input = tempfile::tempdir().expect("temporary folder");
    let server = TestServer::with(|config| allow(config, input.path()));
    server.put_catalog(&shop());
    (server, input)
}

/// Lets the folder be read, and checkpoints be so frequent that kills land between them.
fn allow(config: &mut Config, folder: &Path) {
    config.source_folders = vec![folder.to_owned()];
    config.checkpoint_interval = Duration::from_millis(50);
}

fn shop() -> Value {
    let mut shop = catalog();
    shop["facts"] = json!({"purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}},
        "activity": {"dimensions": ["category"], "measures": ["amount"]}}});
    shop
}

fn write(input: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = input.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// Events, two of each user; the same without ids, so that one that is loaded twice counts twice.
fn purchases(users: usize) -> String {
    let today = jiff::Timestamp::now();
    let line = |n: usize| {
        let (user, category) = (n % users, if n.is_multiple_of(3) { "shoes" } else { "hats" });
        format!("{{\"user_id\":\"u{user}\",\"ts\":\"{today}\",\"category\":\"{category}\",\"amount\":{}.5}}\n", n % 50)
    };
    (0..2 * users).map(line).collect()
}

fn people(count: usize) -> String {
    let row = |n: usize| format!("u{n},{},{}\n", n % 90, if n.is_multiple_of(2) { "f" } else { "m" });
    format!("user_id,age,gender\n{}", (0..count).map(row).collect::<String>())
}

fn post(server: &TestServer, body: &Value) -> String {
    let answer = server.post("/v1/jobs").json(body).send().expect("post");
    let location = answer.headers().get("location").map(|place| place.to_str().expect("text").to_owned());
    assert_eq!(answer.status(), 202, "{}", answer.text().expect("text"));
    let answer: Value = answer.json().expect("JSON");
    let id = answer["id"].as_str().expect("an id").to_owned();
    assert_eq!(location, Some(format!("/v1/jobs/{id}")));
    id
}

fn job(server: &TestServer, id: &str) -> Value {
    success(server.get(&format!("/v1/jobs/{id}")).send().expect("ask"))
}

#[track_caller]
fn wait(server: &TestServer, id: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = job(server, id);
        if done(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened: {answer}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ended(answer: &Value) -> bool {
    !matches!(answer["state"].as_str(), Some("queued" | "running"))
}

fn has_begun(answer: &Value) -> bool {
    answer["progress"]["rows_done"].as_u64().expect("a number") > 0
}

const QUESTIONS: [&str; 7] = [
    "TRUE",
    "gender = 'f' AND age < 30",
    "did('purchase')",
    "did('purchase', count >= 2)",
    "did('purchase', category = 'shoes')",
    "did('purchase', sum(amount) >= 40)",
    "did('purchase', category = 'hats', count >= 2)",
];

fn answers(server: &TestServer) -> Vec<u64> {
    server.settle();
    QUESTIONS.iter().map(|question| server.count(question)).collect()
}

#[test]
fn a_job_loads_what_streaming_would() {
    let (server, input) = server();
    let (people, purchases) = (people(500), purchases(400));
    let tags = write(&input, "people.csv", &people);
    let events = write(&input, "purchases.ndjson", &(purchases.clone() + "{\"user_id\":\"u1\",\"ts\":\"never\"}\n"));
    let tags = post(&server, &json!({"backfill": {"name": "people", "files": [tags]}}));
    let id = post(&server, &json!({"backfill": {"files": [input.path().join("*.ndjson")], "into": "purchase"}}));
    let done = wait(&server, &tags, ended);
    let progress = &done["progress"];
    assert_eq!((&done["state"], &done["name"], &done["error"]), (&json!("done"), &json!("people"), &Value::Null));
    assert_eq!((&progress["rows_done"], &progress["values"]), (&json!(500), &json!(1_000)), "{done}");
    assert_eq!((&progress["files_done"], &progress["files_total"]), (&json!(1), &json!(1)), "{done}");
    assert_eq!(progress["bytes_done"], json!(people.len()), "{done}");
    for time in ["created_at", "started_at", "finished_at"] {
        done[time].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    }
    let done = wait(&server, &id, ended);
    let progress = &done["progress"];
    assert_eq!((&done["state"], &done["name"]), (&json!("done"), &json!("backfill")), "{done}");
    assert_eq!((&progress["rows_done"], &progress["events"]), (&json!(801), &json!(800)), "{done}");
    assert_eq!((&progress["rejected"], &done["refused"][0]["row"]), (&json!(1), &json!(801)), "{done}");
    assert_eq!(done["refused"][0]["file"], json!(events));
    assert!(done["refused"][0]["error"].as_str().expect("why").contains("never"), "{done}");

    let streamed = TestServer::start();
    streamed.put_catalog(&shop());
    let lines: String = (0..500)
        .map(|n| json!({"user_id": format!("u{n}"), "set": {"age": n % 90, "gender": if n % 2 == 0 {"f"} else {"m"}}}))
        .map(|line| format!("{line}\n"))
        .collect();
    streamed.post_tags(&lines);
    success(streamed.post("/v1/facts/purchase").body(purchases).send().expect("post"));
    let expected = answers(&streamed);
    assert!(expected.iter().all(|count| *count > 0), "{expected:?}");
    assert_eq!(answers(&server), expected);

    let metrics = server.get("/metrics").send().expect("ask").text().expect("text");
    for line in ["beluga_jobs_running 0", "beluga_jobs_queued 0", "beluga_job_rows_total 1301"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    let (server, input) = server();
    let file = write(&input, "people.csv", &people(3));
    let refused = |body: Value, pointer: &str, says: &str| {
        let answer = server.post("/v1/jobs").json(&body).send().expect("post");
        assert_eq!(answer.status().as_u16(), 400);
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["pointer"], pointer, "{answer}");
        let told = format!("{} {}", answer["detail"], answer["suggestion"]);
        assert!(told.contains(says), "{answer}");
    };
    let of = |more: Value| {
        let mut backfill = json!({"files": [file]});
        backfill.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "backfill": backfill })
    };
    refused(of(json!({"into": "purchas"})), "/backfill/into", "did you mean `purchase`?");
    refused(of(json!({"ts": "at"})), "/backfill/ts", "say of which fact with `into`");
    refused(of(json!({"columns": {"age": "agee"}})), "/backfill/columns/age", "did you mean `age`?");
    refused(of(json!({"columns": {"age": {"tg": "age"}}})), "/backfill/columns/age/tg", "did you mean `tag`?");
    refused(of(json!({"columns": {"age": 3}})), "/backfill/columns/age", "a name, or { tag: interest");
    refused(of(json!({"delimiter": "::"})), "/backfill/delimiter", "one ASCII character");
    refused(of(json!({"file": "x"})), "/backfill/file", "did you mean `files`?");
    refused(of(json!({"name": ""})), "/backfill/name", "1 to 200 bytes");
    refused(of(json!({"into": "purchase", "nulls": "unset"})), "/backfill", "are for tags");
    refused(json!({"backfill": {"files": [file]}, "rate": 0}), "/rate", "write 1 or more");
    refused(json!({"backfill": {"files": []}}), "/backfill/files", "none is given");
    let files = |files: Value| json!({"backfill": {"files": files}});
    refused(files(json!([input.path().join("*.parquet")])), "/backfill/files", "no file matches");
    refused(files(json!([file, "/etc/passwd"])), "/backfill/files/1", "this server reads such files in");
    refused(files(json!([input.path().join("../x.csv")])), "/backfill/files/0", "without `..`");
    std::os::unix::fs::symlink("/etc/passwd", input.path().join("link.csv")).expect("linked");
    refused(files(json!([input.path().join("l*.csv")])), "/backfill/files", "leads out of the folders");
    refused(files(json!(["people.csv"])), "/backfill/files/0", "from the root");
    for (path, status) in [("/v1/jobs/nothing", 404), ("/v1/jobs?limit=0", 400), ("/v1/jobs?limt=1", 400)] {
        assert_eq!(server.get(path).send().expect("ask").status(), status, "{path}");
    }
    assert_eq!(success(server.get("/v1/jobs").send().expect("ask")), json!({"jobs": [], "next": null}));
}

#[test]
fn too_many_refused_rows_end_a_job() {
    let (server, input) = server();
    let rows = format!("{}u1,old,f\nu2,older,f\n", people(10));
    let file = write(&input, "people.csv", &rows);
    let id = post(&server, &json!({"backfill": {"files": [file], "errors_max": 1}}));
    let answer = wait(&server, &id, ended);
    assert_eq!(answer["state"], "failed", "{answer}");
    assert!(answer["error"].as_str().expect("why").contains("2 rows were refused, more than errors_max"), "{answer}");
    assert_eq!(answer["refused"].as_array().map(Vec::len), Some(2), "{answer}");
    server.settle();
    assert_eq!(server.count("TRUE"), 10, "what was loaded stays");
}

#[test]
fn jobs_wait_for_each_other_and_are_cancelled() {
    let (server, input) = server();
    let slow = write(&input, "slow.ndjson", &purchases(2_000));
    let fast = write(&input, "fast.csv", &people(20));
    let slow = post(&server, &json!({"backfill": {"files": [slow], "into": "purchase"}, "rate": 400}));
    let fast = post(&server, &json!({"backfill": {"files": [fast]}}));
    let running = wait(&server, &slow, has_begun);
    assert_eq!((&running["state"], &job(&server, &fast)["state"]), (&json!("running"), &json!("queued")));
    let running = wait(&server, &slow, |answer| answer["progress"]["remaining_seconds"].is_number());
    assert!(running["progress"]["rows_per_second"].as_f64().expect("a speed") < 4_000.0, "{running}");

    let page = success(server.get("/v1/jobs?limit=1").send().expect("ask"));
    assert_eq!((&page["jobs"][0]["id"], &page["next"]), (&json!(fast), &json!(fast)), "newest first: {page}");
    let page = success(server.get(&format!("/v1/jobs?limit=1&after={fast}")).send().expect("ask"));
    assert_eq!((&page["jobs"][0]["id"], &page["next"]), (&json!(slow), &Value::Null), "{page}");

    let delete = |id: &str| server.client.delete(server.url(&format!("/v1/jobs/{id}"))).send().expect("delete");
    let cancelled = success(delete(&slow));
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let rows = cancelled["progress"]["rows_done"].as_u64().expect("a number");
    assert!((1..4_000).contains(&rows), "{cancelled}");
    assert_eq!(wait(&server, &fast, ended)["state"], "done");
    server.settle();
    assert_eq!(server.count("did('purchase')"), rows.min(2_000), "what was loaded stays");
    assert_eq!(delete(&slow).status(), 204, "what has ended is forgotten");
    assert_eq!(delete(&slow).status(), 404);
    assert_eq!(success(server.get("/v1/jobs").send().expect("ask"))["jobs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_job_outlives_kills_and_stops_and_counts_each_row_once() {
    let (mut server, input) = server();
    let lines = purchases(1_500);
    let file = write(&input, "purchases.ndjson", &(lines.clone() + "nonsense\n"));
    let id = post(&server, &json!({"backfill": {"files": [file], "into": "purchase"}, "rate": 300}));
    let waiting = write(&input, "people.csv", &people(100));
    let waiting = post(&server, &json!({"backfill": {"files": [waiting]}}));
    let done = |server: &TestServer| job(server, &id)["progress"]["rows_done"].as_u64().expect("a number");
    let checkpointed = |server: &TestServer| {
        let metrics = server.get("/metrics").send().expect("ask").text().expect("text");
        let line = metrics.lines().find_map(|line| line.strip_prefix("beluga_checkpoints_total "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    wait(&server, &id, has_begun);
    let before = checkpointed(&server);
    wait_until("some rows are in a checkpoint", || checkpointed(&server) > before + 1);
    server.kill();
    server.restart_with(|config| allow(config, input.path()));
    wait(&server, &id, has_begun);
    let before = done(&server);
    assert!((1..3_001).contains(&before), "{before}");
    server.restart_with(|config| allow(config, input.path()));
    let answer = wait(&server, &id, ended);
    let progress = &answer["progress"];
    assert_eq!(answer["state"], "done", "{answer}");
    assert_eq!((&progress["rows_done"], &progress["events"]), (&json!(3_001), &json!(3_000)), "{answer}");
    assert_eq!((&progress["rejected"], &answer["refused"][0]["row"]), (&json!(1), &json!(3_001)), "{answer}");
    assert_eq!(wait(&server, &waiting, ended)["state"], "done");
    server.settle();
    assert_eq!((server.count("did('purchase', count = 2)"), server.count("did('purchase')")), (1_500, 1_500));
    // A finished job is done once and for all.
    server.kill();
    server.restart_with(|config| allow(config, input.path()));
    assert_eq!(job(&server, &id), answer);
    server.settle();
    assert_eq!(server.count("did('purchase', count = 2)"), 1_500);
}

#[test]
fn a_job_of_a_process_that_is_killed_counts_each_row_once() {
    let (input, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let data = folder.path().join("data");
    let source_folders = format!("source_folders={}", input.path().display());
    let serve = || Process::serve(&data, &[&source_folders, "checkpoint_interval_ms=20"]);
    let file = write(&input, "purchases.ndjson", &purchases(3_000));
    let mut server = serve();
    server.put_catalog(&shop());
    let body = json!({"backfill": {"files": [file], "into": "purchase"}, "rate": 2_500});
    let taken = success(server.post("/v1/jobs").json(&body).send().expect("post"));
    let path = format!("/v1/jobs/{}", taken["id"].as_str().expect("an id"));
    let client = client();
    let ask = |server: &Process| success(client.get(format!("http://{}{path}", server.address())).send().expect("ask"));
    // At the moment it was answered, in the middle, and a little later.
    let (mut rows, mut in_the_middle) = (0, 0);
    for more in [0, 800, 700] {
        wait_until("more rows are done", || {
            let now = ask(&server)["progress"]["rows_done"].as_u64().expect("a number");
            now >= (rows + more).min(6_000)
        });
        rows = ask(&server)["progress"]["rows_done"].as_u64().expect("a number");
        server.kill();
        in_the_middle += u32::from(rows < 6_000);
        server = serve();
    }
    assert!(in_the_middle > 0, "it was done before it was killed");
    wait_until("the job is done", || ended(&ask(&server)));
    let done = ask(&server);
    assert_eq!((&done["state"], &done["progress"]["rows_done"]), (&json!("done"), &json!(6_000)), "{done}");
    server.post_tags("");
    assert_eq!(server.count("did('purchase', count = 2)"), 3_000);
}

#[test]
fn what_was_taken_away_from_a_waiting_job_is_told() {
    let (mut server, input) = server();
    let slow = write(&input, "slow.ndjson", &purchases(2_000));
    let file = write(&input, "people.csv", &people(5));
    let slow = post(&server, &json!({"backfill": {"files": [slow], "into": "purchase"}, "rate": 100}));
    let waiting = post(&server, &json!({"backfill": {"files": [file]}}));
    wait(&server, &slow, has_begun);
    server.stop();
    let jobs = server.data().join("jobs");
    std::fs::write(jobs.join(format!("{slow}.json")), "{\"id\":").expect("damaged");
    std::fs::write(jobs.join("readme.txt"), "not a job").expect("written");
    let mut config = config(&server.data());
    config.source_folders = Vec::new();
    server.restart_with(|changed| *changed = config);
    let answer = wait(&server, &waiting, ended);
    assert_eq!(answer["state"], "failed", "{answer}");
    assert!(answer["error"].as_str().expect("why").contains("source_folders"), "{answer}");
    assert_eq!(server.get(&format!("/v1/jobs/{slow}")).send().expect("ask").status(), 404, "damage is passed over");
}

#[test]
fn a_fact_that_is_dropped_ends_its_job() {
    let (server, input) = server();
    let file = write(&input, "purchases.ndjson", &purchases(2_000));
    let id = post(&server, &json!({"backfill": {"files": [file], "into": "purchase"}, "rate": 400}));
    wait(&server, &id, has_begun);
    success(server.put("/v1/catalog?allow_drop=true").json(&catalog()).send().expect("put"));
    let answer = wait(&server, &id, ended);
    assert_eq!(answer["state"], "failed", "{answer}");
    assert!(answer["error"].as_str().expect("why").contains("the fact `purchase` was dropped"), "{answer}");
}

#[test]
fn live_writes_stay_visible_while_a_job_runs() {
    let (server, input) = server();
    let file = write(&input, "people.csv", &people(300_000));
    let id = post(&server, &json!({"backfill": {"files": [file], "columns": {"age": "age", "gender": "gender"}}}));
    wait(&server, &id, has_begun);
    let mut waits = Vec::new();
    while !ended(&job(&server, &id)) {
        let user = format!("live-{}", waits.len());
        let began = Instant::now();
        let line = format!("{{\"user_id\":\"{user}\",\"set\":{{\"is_member\":true}}}}\n");
        success(server.post("/v1/tags?visible=true").body(line).send().expect("post"));
        waits.push(began.elapsed());
        assert_eq!(server.count("is_member"), waits.len() as u64);
    }
    assert_eq!(job(&server, &id)["state"], "done");
    waits.sort();
    assert!(waits.len() > 3, "the job was too short to prove anything: {waits:?}");
    assert!(waits[waits.len() / 2] < Duration::from_secs(5), "{waits:?}");
    server.settle();
    assert_eq!(server.count("age IS NOT NULL"), 300_000);
}

#[test]
fn the_command_line_posts_a_job_and_waits_for_its_end() {
    let (server, input) = server();
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let people = write(&input, "people.csv", &(people(50) + "u1,old,f\n"));
    let file = text(&write(&input, "first load.yaml", &format!("files: [\"{}\"]", text(&people))));
    let url = server.url("");
    let done = beluga(&["backfill", "-f", &file, "--url", &url]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).contains("51 rows, 100 tag values, 1 rows refused, 1 files"), "{}", stdout(&done));
    assert!(stderr(&done).contains("row 51: "), "{}", stderr(&done));
    assert_eq!(success(server.get("/v1/jobs").send().expect("ask"))["jobs"][0]["name"], "first load");

    let neither = beluga(&["backfill", "-f", &file]);
    assert_eq!(neither.status.code(), Some(2));
    assert!(stderr(&neither).contains("say where to: --url URL"), "{}", stderr(&neither));
    let both = beluga(&["backfill", "-f", &file, "--url", &url, "--data", "x"]);
    assert_eq!(both.status.code(), Some(2));
    let elsewhere = text(&write(&input, "elsewhere.yaml", "files: [\"/etc/*.csv\"]"));
    let refused = beluga(&["backfill", "-f", &elsewhere, "--url", &url]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("this server reads such files in"), "{}", stderr(&refused));

    // Ctrl-C ends the command, not the job.
    let slow = write(&input, "slow.ndjson", &purchases(2_000));
    let slow = text(&write(&input, "slow.yaml", &format!("into: purchase\nfiles: [\"{}\"]", text(&slow))));
    let mut watching = command(BELUGA)
        .args(["backfill", "-f", &slow, "--url", &url, "--rate", "1000"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("start beluga");
    let mut told = BufReader::new(watching.stderr.take().expect("standard error")).lines().map_while(Result::ok);
    let taken = told.next().expect("it says that the job is taken");
    let id = taken.split(' ').nth(1).expect("an id").to_owned();
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -INT {}", watching.id())]).status();
    assert!(sent.expect("run kill").success());
    assert_eq!(watching.wait().expect("it ends").code(), Some(1));
    let rest: Vec<String> = told.collect();
    assert!(rest.iter().any(|line| line.contains("the job goes on in the server")), "{rest:?}");
    assert_eq!(wait(&server, &id, ended)["state"], "done");
}
