//! Vectors of users through the doors: a space declared, vectors sent as lines and as columns, loaded from files, looked up, and gone
//! with their space.

use crate::process::{Process, wait_until};
use crate::support::{PEOPLE, TestServer, beluga, catalog, stderr, stdout, success};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, LargeListArray, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, Float32Type, Float64Type};
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ARROW: &str = "application/vnd.apache.arrow.stream";

fn with_spaces() -> Value {
    let mut with = catalog();
    with["spaces"] = json!({"taste": {"dimension": 3, "metric": "cosine"}, "words": {"dimension": 2, "metric": "l2"}});
    with
}

fn server() -> TestServer {
    let server = TestServer::start();
    server.put_catalog(&with_spaces());
    server.post_tags(PEOPLE);
    server.settle();
    server
}

fn send(server: &TestServer, path: &str, key: Option<&str>, body: impl Into<String>) -> (u16, Value) {
    let mut request = server.post(path).body(body.into());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.send().expect("post");
    (answer.status().as_u16(), answer.json().expect("JSON"))
}

/// Sends lines, which all must be taken.
#[track_caller]
fn post(server: &TestServer, space: &str, lines: &str) {
    let count = lines.lines().count();
    let (status, answer) = send(server, &format!("/v1/spaces/{space}?visible=true"), None, lines);
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(count), &json!(0)), "{answer}");
    assert!(answer["epoch"].is_u64(), "{answer}");
}

fn user(server: &TestServer, id: &str) -> Value {
    success(server.get(&format!("/v1/users/{id}")).send().expect("get"))
}

fn vector(server: &TestServer, space: &str, id: &str) -> Value {
    user(server, id)["vectors"][space]["values"].clone()
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a writer in memory");
    writer.write(batch).expect("written");
    writer.into_inner().expect("written")
}

fn rows(ids: &[&str], vectors: ArrayRef) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from(ids.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("user_id", ids, true), ("vector", vectors, true)]).expect("rows")
}

fn list<T: ArrowPrimitiveType>(vectors: &[Option<&[T::Native]>]) -> ArrayRef {
    let items = vectors.iter().map(|vector| vector.map(|numbers| numbers.iter().copied().map(Some)));
    Arc::new(ListArray::from_iter_primitive::<T, _, _>(items))
}

fn fixed(vectors: &[Option<[f32; 3]>]) -> ArrayRef {
    let items = vectors.iter().map(|vector| vector.map(|numbers| numbers.map(Some)));
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(items, 3))
}

#[test]
fn vectors_are_kept_replaced_taken_away_and_survive() {
    let mut server = server();
    let before = user(&server, "u1");
    assert_eq!(before["vectors"], json!({}));
    post(&server, "taste", "{\"user_id\":\"u1\",\"vector\":[1,-0.5,0.1]}\n{\"user_id\":\"new\",\"vector\":[0,0,2]}\n");
    post(&server, "words", "{\"user_id\":\"u1\",\"vector\":[0,0]}\n{\"user_id\":\"u2\",\"vector\":[3e5,-7]}\n");
    let both =
        json!({"taste": {"dimension": 3, "values": [1.0, -0.5, 0.1]}, "words": {"dimension": 2, "values": [0.0, 0.0]}});
    let check = |server: &TestServer| {
        let found = user(server, "u1");
        assert_eq!(found["vectors"], both);
        assert_eq!(
            (&found["tags"], &found["audiences"]),
            (&before["tags"], &before["audiences"]),
            "tags are untouched"
        );
        assert_eq!(vector(server, "words", "u2"), json!([300_000.0, -7.0]));
        assert_eq!(user(server, "new")["vectors"], json!({"taste": {"dimension": 3, "values": [0.0, 0.0, 2.0]}}));
        assert_eq!(server.count("TRUE"), PEOPLE.lines().count() as u64 + 1, "a vector makes its user known");
    };
    check(&server);
    // From the log, then from a checkpoint.
    server.kill();
    server.restart();
    check(&server);
    server.restart();
    check(&server);
    post(&server, "taste", "{\"user_id\":\"u1\",\"vector\":[9,8,7]}\n{\"user_id\":\"new\",\"vector\":null}\n");
    for _ in 0..2 {
        assert_eq!(vector(&server, "taste", "u1"), json!([9.0, 8.0, 7.0]));
        assert_eq!(vector(&server, "words", "u1"), json!([0.0, 0.0]));
        assert_eq!(user(&server, "new")["vectors"], json!({}));
        server.restart();
    }
    // Within a body the last line counts.
    post(&server, "taste", "{\"user_id\":\"u1\",\"vector\":null}\n{\"user_id\":\"u1\",\"vector\":[1,1,1]}\n");
    assert_eq!(vector(&server, "taste", "u1"), json!([1.0, 1.0, 1.0]));
}

#[test]
fn lines_that_cannot_be_are_told_and_the_others_taken() {
    let server = server();
    let lines = [
        r#"{"user_id":"u1","vector":[1,2,3]}"#,
        r#"{"user_id":"u2","vector":[1,2]}"#,
        r#"{"user_id":"u2","vector":[0,0,0]}"#,
        r#"{"user_id":"u2","vector":[1,1e39,0]}"#,
        r#"{"user_id":"u2","vector":[1,NaN,0]}"#,
        r#"{"user_id":"u2","vector":[3e19,0,0]}"#,
        r#"{"user_id":"u2","vektor":[1,2,3]}"#,
        r#"{"user_id":"u2","vector":[1,2,3]"#,
        r#"{"user_id":"","vector":[1,2,3]}"#,
        r#"{"user_id":"u3","vector":[4,5,6]}"#,
    ]
    .join("\n");
    let (status, answer) = send(&server, "/v1/spaces/taste?visible=true", None, lines);
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(2), &json!(8)), "{answer}");
    let expected = [
        (2, "a vector of this space has 3 numbers, this one has 2"),
        (3, "no length, so no cosine"),
        (4, "number 2 of the vector is inf"),
        (5, "JSON"),
        (6, "too long"),
        (7, "unknown field `vektor`"),
        (8, "JSON"),
        (9, "the user id is empty"),
    ];
    let errors = answer["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), expected.len(), "{answer}");
    for (error, (line, part)) in errors.iter().zip(expected) {
        assert_eq!(error["line"], line, "{error}");
        let text = error["error"].as_str().expect("text");
        assert!(part == "JSON" || text.contains(part), "{error}");
    }
    assert_eq!(errors[5]["suggestion"], "did you mean `vector`?");
    assert_eq!(user(&server, "u2")["vectors"], json!({}));
    assert_eq!(vector(&server, "taste", "u3"), json!([4.0, 5.0, 6.0]));
}

#[test]
fn a_key_counts_once() {
    let server = server();
    let path = "/v1/spaces/taste?visible=true";
    let body = r#"{"user_id":"u1","vector":[1,2,3]}"#;
    assert_eq!(send(&server, path, Some("k"), body).1["repeated"], false);
    post(&server, "taste", r#"{"user_id":"u1","vector":[4,5,6]}"#);
    assert_eq!(send(&server, path, Some("k"), body).1["repeated"], true);
    assert_eq!(vector(&server, "taste", "u1"), json!([4.0, 5.0, 6.0]), "what came again changed nothing");
    let (status, problem) = send(&server, path, Some("k"), r#"{"user_id":"u1","vector":[3,2,1]}"#);
    assert_eq!(status, 422, "{problem}");
    // A key of another space is another key.
    let (status, answer) = send(&server, "/v1/spaces/words", Some("k"), r#"{"user_id":"u1","vector":[1,2]}"#);
    assert_eq!((status, &answer["repeated"]), (200, &json!(false)), "{answer}");
}

#[test]
fn a_key_is_one_of_the_space_as_it_was_declared() {
    let server = server();
    let path = "/v1/spaces/taste?visible=true";
    let body = r#"{"user_id":"u1","vector":[1,2,3]}"#;
    assert_eq!(send(&server, path, Some("k"), body).1["repeated"], false);
    declare_anew(&server, with_spaces(), "/spaces", "taste");
    assert_eq!(vector(&server, "taste", "u1"), Value::Null);
    assert_eq!(send(&server, path, Some("k"), body).1["repeated"], false);
    assert_eq!(vector(&server, "taste", "u1"), json!([1.0, 2.0, 3.0]));
}

/// Drops what stands under a name in the catalog, and declares it again.
fn declare_anew(server: &TestServer, whole: Value, place: &str, name: &str) {
    let mut less = whole.clone();
    less.pointer_mut(place).and_then(Value::as_object_mut).expect("an object").remove(name).expect("declared");
    success(server.put("/v1/catalog?allow_drop=true").json(&less).send().expect("put"));
    success(server.put("/v1/catalog").json(&whole).send().expect("put"));
}

/// A body in parts; what is to be done before a part is done when the one before was sent.
struct Parts<F: FnMut(usize)> {
    parts: Vec<Vec<u8>>,
    begun: usize,
    rest: std::io::Cursor<Vec<u8>>,
    before: F,
}

impl<F: FnMut(usize)> std::io::Read for Parts<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.rest.read(buffer)?;
        if count > 0 || self.begun == self.parts.len() {
            return Ok(count);
        }
        (self.before)(self.begun);
        self.rest = std::io::Cursor::new(std::mem::take(&mut self.parts[self.begun]));
        self.begun += 1;
        self.rest.read(buffer)
    }
}

#[test]
fn a_body_is_refused_once_what_it_goes_into_was_dropped() {
    let server = Arc::new(server());
    let lines = |users: std::ops::Range<usize>, name: &str, rest: &str| -> Vec<u8> {
        users.flat_map(|user| format!("{{\"user_id\":\"{name}{user}\",{rest}}}\n").into_bytes()).collect()
    };
    let whole: Value = success(server.get("/v1/catalog").send().expect("get"));
    for (path, rest, place, name, again) in [
        ("/v1/spaces/taste", "\"vector\":[1,2,3]", "/spaces", "taste", true),
        ("/v1/spaces/words", "\"vector\":[1,2]", "/spaces", "words", false),
        ("/v1/tags", "\"set\":{\"age\":31}", "/tags", "age", true),
    ] {
        // So much that some of it is written before the rest comes.
        let parts = vec![lines(0..80_000, name, rest), lines(80_000..80_100, name, rest)];
        let (drops, declared) = (Arc::clone(&server), whole.clone());
        let before = move |part: usize| {
            if part == 0 {
                return;
            }
            wait_until("the first part is there", || drops.count(&format!("user_id = '{name}0'")) == 1);
            declare_anew(&drops, declared.clone(), place, name);
            if !again {
                let mut less = declared.clone();
                less.pointer_mut(place).and_then(Value::as_object_mut).expect("an object").remove(name);
                success(drops.put("/v1/catalog?allow_drop=true").json(&less).send().expect("put"));
            }
        };
        let body = Parts { parts, begun: 0, rest: std::io::Cursor::default(), before };
        let body = reqwest::blocking::Body::new(body);
        let answer = server.post(path).header("Idempotency-Key", "key").body(body).send().expect("post");
        let (status, problem) = (answer.status().as_u16(), answer.json::<Value>().expect("JSON"));
        assert_eq!((status, &problem["type"]), (409, &json!("urn:beluga:problem:dropped")), "{path}: {problem}");
        let told = problem["detail"].as_str().expect("text");
        assert!(told.contains(&format!("`{name}` was dropped from the catalog while the body came")), "{problem}");
        success(server.put("/v1/catalog").json(&whole).send().expect("put"));
        // What came before of it is gone. A key of a space is one of the space as it is declared, a key of tags is one of all.
        let again = |key: &str| {
            let body = lines(0..80_100, name, rest);
            let answer = server.post(path).header("Idempotency-Key", key).body(body).send().expect("post");
            (answer.status().as_u16(), answer.json::<Value>().expect("JSON"))
        };
        let (status, answer) = again("key");
        if path == "/v1/tags" {
            assert_eq!((status, &answer["type"]), (409, &json!("urn:beluga:problem:dropped")), "{answer}");
            assert!(answer["suggestion"].as_str().expect("text").contains("another Idempotency-Key"), "{answer}");
        } else {
            assert_eq!((&answer["accepted"], &answer["repeated"]), (&json!(80_100), &json!(false)), "{answer}");
        }
        let (_, answer) = again("another key");
        assert_eq!((&answer["accepted"], &answer["repeated"]), (&json!(80_100), &json!(false)), "{answer}");
        success(server.post(path).body(lines(0..1, name, rest)).send().expect("post"));
    }
}

#[test]
fn messages_may_be_as_large_as_the_setting_says() {
    let mut with = catalog();
    with["spaces"] = json!({"wide": {"dimension": 4096, "metric": "l2"}});
    let server = TestServer::with(|config| config.arrow_message_bytes_max = 64 << 20);
    server.put_catalog(&with);
    // More numbers than a message of the usual size may have.
    let count = 2_100;
    let numbers = Float32Array::from_iter_values((0..count * 4096).map(|at| (at % 251) as f32));
    let field = Arc::new(arrow::datatypes::Field::new("item", arrow::datatypes::DataType::Float32, true));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(field, 4096, Arc::new(numbers), None));
    let ids: Vec<String> = (0..count).map(|user| format!("w{user}")).collect();
    let rows = rows(&ids.iter().map(String::as_str).collect::<Vec<_>>(), vectors);
    let request = server.post("/v1/spaces/wide").header("content-type", ARROW).body(stream(&rows));
    let answer: Value = success(request.send().expect("post"));
    assert_eq!(answer["accepted"], count, "{answer}");
}

#[test]
fn columns_are_taken_as_lines_are() {
    let server = server();
    let send = |batch: &RecordBatch| {
        let request = server.post("/v1/spaces/taste?visible=true").header("content-type", ARROW).body(stream(batch));
        let answer = request.send().expect("post");
        (answer.status().as_u16(), answer.json::<Value>().expect("JSON"))
    };
    let taken = rows(&["u1", "u2", "u3"], fixed(&[Some([1.0, 2.0, 3.0]), None, Some([0.5, -1.0, 0.0])]));
    assert_eq!(send(&taken).1["accepted"], 3);
    assert_eq!(vector(&server, "taste", "u3"), json!([0.5, -1.0, 0.0]));
    let doubles: &[Option<&[f64]>] = &[
        Some(&[0.1, 0.2, 0.3]),
        Some(&[1.0]),
        Some(&[f64::NAN, 1.0, 1.0]),
        Some(&[1e300, 1.0, 1.0]),
        Some(&[0.0; 3]),
        None,
    ];
    let (status, answer) = send(&rows(&["u2", "u4", "u4", "u4", "u4", "u1"], list::<Float64Type>(doubles)));
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(2), &json!(4)), "{answer}");
    let errors: Vec<_> = answer["errors"].as_array().expect("errors").iter().map(|error| &error["line"]).collect();
    assert_eq!(errors, [&json!(2), &json!(3), &json!(4), &json!(5)]);
    assert_eq!(vector(&server, "taste", "u2"), json!([0.1, 0.2, 0.3]));
    assert_eq!(user(&server, "u1")["vectors"], json!({}), "a NULL takes it away");
    assert_eq!(user(&server, "u4")["vectors"], json!({}));

    let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>([Some([1.0, 1.0, 4.0].map(Some))]);
    assert_eq!(send(&rows(&["u4"], Arc::new(large))).1["accepted"], 1);
    assert_eq!(vector(&server, "taste", "u4"), json!([1.0, 1.0, 4.0]));
    for (batch, part) in [
        (rows(&["u4"], Arc::new(Float32Array::from(vec![1.0]))), "a list of floats is expected"),
        (
            rows(
                &["u4"],
                Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some([Some(1.0); 2])], 2)),
            ),
            "has 3 numbers, these have 2",
        ),
        (taken.project(&[0]).expect("a column"), "there is no column `vector`"),
    ] {
        let (status, problem) = send(&batch);
        assert_eq!(status, 400, "{problem}");
        assert!(problem["detail"].as_str().expect("text").contains(part), "{problem}");
    }
}

#[test]
fn a_space_that_is_not_there_is_told_with_the_one_that_is_meant() {
    let server = server();
    let (status, problem) = send(&server, "/v1/spaces/tase", None, r#"{"user_id":"u1","vector":[1,2,3]}"#);
    assert_eq!((status, &problem["suggestion"]), (404, &json!("did you mean `taste`?")), "{problem}");
    assert!(problem["detail"].as_str().expect("text").contains("no vector space `tase`"), "{problem}");
    server.put("/v1/catalog?allow_drop=true").json(&catalog()).send().expect("put");
    let (status, problem) = send(&server, "/v1/spaces/taste", None, "");
    assert_eq!(status, 404, "{problem}");
    assert!(problem["suggestion"].as_str().expect("text").starts_with("declare it in the catalog first"), "{problem}");
    let csv = server.post("/v1/spaces/taste").header("content-type", "text/csv").body("a").send().expect("post");
    assert_eq!(csv.status(), 415);
}

#[test]
fn the_catalog_tells_spaces_and_keeps_them() {
    let server = server();
    let put = |document: &Value, query: &str| {
        let answer = server.put(&format!("/v1/catalog{query}")).json(document).send().expect("put");
        (answer.status().as_u16(), answer.json::<Value>().expect("JSON"))
    };
    let told: Value = success(server.get("/v1/catalog").send().expect("get"));
    assert_eq!(told["spaces"], with_spaces()["spaces"]);
    let (status, again) = put(&told, "");
    assert_eq!((status, &again["changes"]), (200, &json!([])), "what was told is what was put: {again}");

    let mut other = with_spaces();
    other["spaces"]["taste"]["dimension"] = json!(4);
    let (status, problem) = put(&other, "");
    assert_eq!((status, &problem["pointer"]), (409, &json!("/spaces/taste")), "{problem}");
    assert!(problem["detail"].as_str().expect("text").contains("dimension 3 and metric cosine, which cannot change"));
    for (space, part) in [
        (json!({"dimension": 1, "metric": "dot"}), "not one of 2 to 4096"),
        (json!({"dimension": 4097, "metric": "dot"}), "not one of 2 to 4096"),
        (json!({"dimension": 8, "metric": "cosin"}), "did you mean `cosine`?"),
        (json!({"dimension": 8}), "metric"),
        (json!({"dimension": 8, "metric": "dot", "indexed": true}), "indexed"),
        (json!({"dimension": -8, "metric": "dot"}), "-8"),
    ] {
        let mut other = with_spaces();
        other["spaces"]["more"] = space;
        let (status, problem) = put(&other, "");
        assert!((400..=422).contains(&status), "{problem}");
        assert!(problem.to_string().contains(part), "{problem}");
    }
    let mut less = with_spaces();
    less["spaces"].as_object_mut().expect("spaces").remove("taste");
    let (status, problem) = put(&less, "");
    assert_eq!((status, &problem["pointer"]), (409, &json!("/spaces/taste")), "{problem}");

    // Dropped, a space takes its vectors along: one of its name is another one.
    post(&server, "taste", r#"{"user_id":"u1","vector":[1,2,3]}"#);
    post(&server, "words", r#"{"user_id":"u1","vector":[1,2]}"#);
    let (status, answer) = put(&less, "?allow_drop=true");
    assert_eq!((status, &answer["changes"][0]["space"]), (200, &json!("taste")), "{answer}");
    assert_eq!(user(&server, "u1")["vectors"], json!({"words": {"dimension": 2, "values": [1.0, 2.0]}}));
    put(&with_spaces(), "");
    assert_eq!(vector(&server, "taste", "u1"), Value::Null);
    assert_eq!(vector(&server, "words", "u1"), json!([1.0, 2.0]));
}

#[test]
fn the_command_line_applies_and_checks_spaces() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("catalog.yaml");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let mut server = TestServer::start();
    let url = server.url("");
    let apply = |more: &[&str]| {
        let file = file.to_string_lossy();
        beluga(&[&["apply", "-f", &file, "--url", &url], more].concat())
    };
    write("tags: { age: { type: number } }\nspaces:\n  taste: { dimension: 64, metric: cosine }\n");
    let dry = apply(&["--dry-run"]);
    assert!(stdout(&dry).contains("+ space taste: dimension 64, metric cosine"), "{}{}", stdout(&dry), stderr(&dry));
    assert!(apply(&[]).status.success());
    let told: Value = success(server.get("/v1/catalog").send().expect("get"));
    assert_eq!(told["spaces"], json!({"taste": {"dimension": 64, "metric": "cosine"}}));
    write("tags: { age: { type: number } }\nspaces:\n  taste: { dimension: 64, metric: dot }\n");
    let refused = apply(&[]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("cannot change: declare a new space"), "{}", stderr(&refused));

    let line = |n: u32| json!({"user_id": format!("u{n}"), "vector": (0..64).map(|at| n + at + 1).collect::<Vec<_>>()});
    let lines: String = (0..2_000).map(|n| format!("{}\n", line(n))).collect();
    post(&server, "taste", &lines);
    server.stop();
    let data = server.data();
    let check = || beluga(&["check", "--data", &data.to_string_lossy()]);
    assert!(check().status.success(), "{}", stderr(&check()));
    // Each vector is the same bytes in some segment; one of them changes.
    let needle: Vec<u8> = (0..64).flat_map(|at| (1_000_f32 + at as f32 + 1.0).to_le_bytes()).collect();
    let (path, mut bytes, at) = segments(&data)
        .into_iter()
        .find_map(|path| {
            let bytes = std::fs::read(&path).expect("read");
            let at = bytes.windows(needle.len()).position(|window| window == needle)?;
            Some((path, bytes, at))
        })
        .expect("the vector is in a segment");
    bytes[at + 7] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let damaged = check();
    assert!(!damaged.status.success());
    let told = stdout(&damaged) + &stderr(&damaged);
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(told.contains(&name), "{told}");
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.to_string_lossy().contains("shards") {
            found.push(path);
        }
    }
    found
}

/// Parquet of ids and vectors.
fn parquet(path: &Path, id: &str, vector: &str, ids: Vec<String>, vectors: ArrayRef) {
    let ids: ArrayRef = Arc::new(StringArray::from(ids));
    let extra: ArrayRef = Arc::new(Float32Array::from(vec![1.0; ids.len()]));
    let rows =
        RecordBatch::try_from_iter_with_nullable([(id, ids, true), (vector, vectors, true), ("more", extra, true)]);
    let rows = rows.expect("rows");
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("written");
    writer.close().expect("written");
}

fn numbers(n: usize) -> [f32; 3] {
    [n as f32 / 8.0, -1.0, (n % 7) as f32]
}

#[test]
fn files_are_loaded_into_spaces() {
    let input = tempfile::tempdir().expect("a folder");
    let at = |name: &str| input.path().join(name);
    let ids = |range: std::ops::Range<usize>| range.map(|n| format!("p{n}")).collect::<Vec<_>>();
    let some: Vec<Option<[f32; 3]>> = (0..9_000).map(|n| (n % 1_000 != 3).then(|| numbers(n))).collect();
    parquet(&at("fixed.parquet"), "customer", "embedding", ids(0..9_000), fixed(&some));
    let doubles: Vec<[f64; 3]> = (0..100).map(|n| numbers(n + 9_000).map(f64::from)).collect();
    let doubles: Vec<Option<&[f64]>> = doubles.iter().map(|vector| Some(vector.as_slice())).collect();
    parquet(&at("list.parquet"), "customer", "embedding", ids(9_000..9_100), list::<Float64Type>(&doubles));
    let line = |n: usize| json!({"customer": format!("p{n}"), "embedding": numbers(n), "name": {"first": "x"}});
    let lines: String = (9_100..9_200).map(|n| format!("{}\n", line(n))).collect();
    let lines = lines + "{\"customer\":\"p1\",\"embedding\":[1,2]}\n{\"customer\":\"bare\",\"embedding\":null}\n";
    std::fs::write(at("more.ndjson"), lines).expect("written");

    let server = TestServer::with(|config| config.source_folders = vec![input.path().to_owned()]);
    server.put_catalog(&with_spaces());
    let definition = |files: &str, more: &[(&str, Value)]| {
        let mut backfill = json!({"files": [at(files)], "into": "spaces/taste", "user_id": "customer",
            "columns": {"embedding": "vector"}});
        more.iter().for_each(|(field, value)| backfill[*field] = value.clone());
        json!({ "backfill": backfill })
    };
    let run = |server: &TestServer, body: &Value| {
        let answer = success(server.post("/v1/jobs").json(body).send().expect("post"));
        let id = answer["id"].as_str().expect("an id").to_owned();
        let job = || success(server.get(&format!("/v1/jobs/{id}")).send().expect("get"));
        wait_until("the job ends", || !["queued", "running"].contains(&job()["state"].as_str().expect("a state")));
        job()
    };
    // A NULL leaves what there is.
    post(&server, "taste", r#"{"user_id":"p3","vector":[7,7,7]}"#);
    let done = run(&server, &definition("*", &[]));
    let progress = &done["progress"];
    assert_eq!((&done["state"], &done["error"]), (&json!("done"), &Value::Null), "{done}");
    assert_eq!((&progress["rows_done"], &progress["rejected"]), (&json!(9_202), &json!(1)), "{done}");
    assert_eq!(progress["values"], json!(9_200 - 9), "{done}");
    assert_eq!(done["unmatched"], json!(["more", "name"]), "{done}");
    assert!(done["refused"][0]["error"].as_str().expect("why").contains("`embedding`: a vector of this space has 3"));
    server.settle();
    for n in [0, 1, 4_095, 4_096, 8_999, 9_000, 9_099, 9_100, 9_199] {
        assert_eq!(vector(&server, "taste", &format!("p{n}")), json!(numbers(n)), "{n}");
    }
    assert_eq!(vector(&server, "taste", "p3"), json!([7.0, 7.0, 7.0]));
    assert_eq!(user(&server, "p1003")["vectors"], json!({}), "known, with no vector");
    assert_eq!(user(&server, "bare")["vectors"], json!({}));
    // Unless it is to take it away.
    let done = run(&server, &definition("fixed.parquet", &[("nulls", json!("unset"))]));
    assert_eq!(done["progress"]["values"], 9_000, "{done}");
    server.settle();
    assert_eq!(user(&server, "p3")["vectors"], json!({}));

    std::fs::write(at("x.csv"), "customer,embedding\na,1\n").expect("written");
    let failed = run(&server, &definition("x.csv", &[]));
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["error"].as_str().expect("why").contains("a cell of CSV holds no vector"), "{failed}");
    let failed = run(&server, &definition("fixed.parquet", &[("columns", json!({"embeding": "vector"}))]));
    assert!(failed["error"].as_str().expect("why").contains("did you mean `embedding`?"), "{failed}");
    let failed = run(&server, &definition("fixed.parquet", &[("into", json!("spaces/words"))]));
    assert!(failed["error"].as_str().expect("why").contains("has 2 numbers, these have 3"), "{failed}");
    for (more, pointer, part) in [
        (("into", json!("spaces/tase")), "/backfill/into", "taste"),
        (("into", json!("taste")), "/backfill/into", "write `spaces/taste`"),
        (("columns", json!({"embedding": "vectr"})), "/backfill/columns/embedding", "{ embedding: vector }"),
        (("columns", json!({"customer": "vector"})), "/backfill", "cannot be the user id and the vector"),
        (("ts", json!("at")), "/backfill/ts", "for events"),
        (("format", json!("csv")), "/backfill", "a cell of CSV holds no vector"),
    ] {
        let body = definition("fixed.parquet", &[more]);
        let answer = server.post("/v1/jobs").json(&body).send().expect("post");
        assert_eq!(answer.status(), 400, "{body}");
        let problem: Value = answer.json().expect("JSON");
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(problem.to_string().contains(part), "{problem}");
    }
}

#[test]
fn what_the_command_line_loads_survives_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, data) = (folder.path().join("in"), folder.path().join("data"));
    std::fs::create_dir(&input).expect("a folder");
    let ids = (0..300).map(|n| format!("p{n}")).collect();
    let items: Vec<_> = (0..300).map(|n| Some(numbers(n))).collect();
    parquet(&input.join("v.parquet"), "user_id", "vector", ids, fixed(&items));
    let server = Process::serve(&data, &[]);
    server.put_catalog(&with_spaces());
    server.kill();
    let job = folder.path().join("job.yaml");
    let files = input.join("*.parquet");
    std::fs::write(&job, format!("into: spaces/taste\nfiles: [\"{}\"]\n", files.display())).expect("written");
    let loaded = beluga(&["backfill", "-f", &job.to_string_lossy(), "--data", &data.to_string_lossy()]);
    assert!(loaded.status.success(), "{}", stderr(&loaded));
    assert!(stdout(&loaded).contains("300 rows, 300 vectors, 0 rows refused"), "{}", stdout(&loaded));
    assert!(stdout(&loaded).contains("because a vector is an id and numbers: more"), "{}", stdout(&loaded));
    let server = Process::serve(&data, &[]);
    let sent = server.post("/v1/spaces/taste").body(r#"{"user_id":"p7","vector":[1,2,3]}"#).send().expect("post");
    assert!(sent.status().is_success());
    server.kill();
    let server = Process::serve(&data, &[]);
    let values = |id: &str| -> Value {
        let url = format!("http://{}/v1/users/{id}", server.address());
        let user: Value = reqwest::blocking::get(url).expect("get").json().expect("JSON");
        user["vectors"]["taste"]["values"].clone()
    };
    wait_until("what was loaded shows", || values("p299") == json!(numbers(299)));
    assert_eq!(values("p0"), json!(numbers(0)));
    assert_eq!(values("p7"), json!([1.0, 2.0, 3.0]));
}
