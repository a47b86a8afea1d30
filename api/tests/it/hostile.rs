//! Requests that no well-meaning client sends: each is refused with a status, a type and words that help, and the server
//! goes on with everything it had acknowledged.

use crate::process::wait_until;
use crate::support::{TestServer, catalog, success};
use reqwest::blocking::{RequestBuilder, Response};
use serde_json::{Value, json};

/// A server with four users, which at the end must still know all that it acknowledged, also after a kill.
struct Besieged(TestServer);

impl Besieged {
    fn start(change: impl FnOnce(&mut api::config::Config)) -> Besieged {
        let server = TestServer::with(change);
        server.put_people();
        Besieged(server)
    }

    fn count(&self, question: &str) -> Response {
        self.0.post("/v1/count").json(&json!({"where": question})).send().expect("ask")
    }

    /// Asserts that nothing was lost or made up; `users` is how many there must be.
    fn unharmed(mut self, users: u64) {
        for _ in 0..2 {
            self.0.settle();
            assert_eq!(self.0.count("TRUE"), users);
            assert_eq!(self.0.count("gender = 'f' AND interest = 'yoga' AND age < 35"), 2);
            self.0.kill();
            self.0.restart();
        }
    }
}

/// The problem of an answer, which must be one of this status and kind.
fn problem(answer: Response, status: u16, kind: &str) -> Value {
    let found = answer.status().as_u16();
    let media_type = answer.headers().get("content-type").map(|value| value.to_str().expect("text").to_owned());
    let text = answer.text().expect("text");
    assert_eq!(found, status, "{text}");
    assert_eq!(media_type.as_deref(), Some("application/problem+json"), "{text}");
    let problem: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(problem["type"], format!("urn:beluga:problem:{kind}"), "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert!(!told(&problem, "title").is_empty() && !told(&problem, "detail").is_empty(), "{problem}");
    problem
}

fn told<'a>(problem: &'a Value, field: &str) -> &'a str {
    problem[field].as_str().unwrap_or_default()
}

fn send(request: RequestBuilder) -> Response {
    request.send().expect("an answer")
}

#[test]
fn a_body_that_is_too_large_is_refused_and_updates_of_any_size_are_not() {
    let server = Besieged::start(|config| config.body_bytes_max = 10_000);
    for bytes in [10_001, 100_000, 20_000_000] {
        for path in ["/v1/count", "/v1/members", "/v1/profile"] {
            let body = format!("{{\"where\":\"{}TRUE\"}}", " ".repeat(bytes));
            let told = problem(send(server.0.post(path).body(body)), 413, "body-too-large");
            assert!(told["detail"].as_str().expect("text").contains("10000 bytes"), "{told}");
        }
    }
    let body = format!("{{\"where\":\"{}TRUE\"}}", " ".repeat(20_000));
    problem(send(server.0.put("/v1/audiences/a").body(body.clone())), 413, "body-too-large");
    problem(send(server.0.put("/v1/catalog").body(body)), 413, "body-too-large");
    let lines: String = (0..5_000).map(|n| format!("{{\"user_id\":\"more{n}\"}}\n")).collect();
    assert!(lines.len() > 10_000);
    server.0.post_tags(&lines);
    server.unharmed(5_004);
}

#[test]
fn a_small_body_that_unpacks_to_a_large_one_is_refused_as_a_large_one() {
    let server = Besieged::start(|_| {});
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, &vec![b' '; 32 << 20]).expect("pack");
    let packed = packed.finish().expect("pack");
    let question = server.0.post("/v1/count").header("Content-Encoding", "gzip").body(packed.clone());
    problem(send(question), 413, "body-too-large");
    let updates = server.0.post("/v1/tags").header("Content-Encoding", "gzip").body(packed);
    let answer = success(send(updates));
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(0), &json!(1)), "one endless line: {answer}");
    let broken = server.0.post("/v1/tags").header("Content-Encoding", "gzip").body("not gzip at all");
    problem(send(broken), 400, "malformed-body");
    let unknown = server.0.post("/v1/tags").header("Content-Encoding", "br").body("x");
    assert!(told(&problem(send(unknown), 415, "unsupported-media-type"), "suggestion").contains("gzip"));
    server.unharmed(4);
}

#[test]
fn a_line_that_is_too_long_is_refused_and_its_neighbours_are_taken() {
    let server = Besieged::start(|_| {});
    let long = format!("{{\"user_id\":\"long\",\"set\":{{\"gender\":\"{}\"}}}}", "x".repeat(3 << 20));
    let body = format!("{{\"user_id\":\"before\"}}\n{long}\n{{\"user_id\":\"after\"}}\n");
    let answer = success(send(server.0.post("/v1/tags").body(body)));
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)), "{answer}");
    assert_eq!(answer["errors"][0]["line"], 2, "{answer}");
    assert!(answer["errors"][0]["error"].as_str().expect("text").contains("longer than 1048576 bytes"), "{answer}");
    server.unharmed(6);
}

#[test]
fn an_expression_that_is_too_large_is_refused() {
    let server = Besieged::start(|_| {});
    let long = format!("age = 1{}", " ".repeat(1 << 20));
    assert!(told(&problem(server.count(&long), 413, "expression-too-large"), "detail").contains("bytes"));
    let many = vec!["1"; 150_000].join(",");
    let words = problem(server.count(&format!("age IN ({many})")), 413, "expression-too-large");
    assert!(told(&words, "suggestion").contains("audience"), "{words}");
    for (open, close) in [("(", ")"), ("NOT ", ""), ("NOT (", ")")] {
        let deep = format!("{}age = 1{}", open.repeat(5_000), close.repeat(5_000));
        let problem = problem(server.count(&deep), 413, "expression-too-large");
        assert!(told(&problem, "detail").contains("128"), "{problem}");
        assert!(problem["span"]["start"].is_u64(), "{problem}");
    }
    let wide = vec!["age = 1"; 20_000].join(" OR ");
    assert_eq!(success(server.count(&wide))["count"], 0, "long is not too long");
    server.unharmed(4);
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let server = Besieged::start(|_| {});
    for depth in [100, 130, 100_000] {
        let tree = format!("{}{{\"tag\":\"is_member\"}}{}", "{\"not\":".repeat(depth), "}".repeat(depth));
        let answer = send(server.0.post("/v1/count").body(format!("{{\"where\":{tree}}}")));
        if depth == 100 {
            assert_eq!(success(answer)["count"], 1);
            continue;
        }
        let problem = problem(answer, 413, "expression-too-large");
        assert!(told(&problem, "detail").contains("deep"), "{problem}");
    }
    server.unharmed(4);
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_stand() {
    let server = Besieged::start(|_| {});
    problem(send(server.0.post("/v1/count").body(b"{\"where\":\"age = \xff\"}".to_vec())), 400, "malformed-body");
    problem(send(server.0.post("/v1/count").body(vec![0u8; 100])), 400, "malformed-body");
    problem(send(server.0.post("/v1/count").body("")), 400, "malformed-body");
    problem(send(server.0.post("/v1/count").body("{\"where\":\"TRUE\"}{}")), 400, "malformed-body");
    let lines = b"{\"user_id\":\"n1\"}\n{\"user_id\":\"\xc3\x28\"}\n\x00\x01\n{\"user_id\":\"n2\"}\n".to_vec();
    let answer = success(send(server.0.post("/v1/tags").body(lines)));
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(2)), "{answer}");
    assert!(answer["errors"][0]["error"].as_str().expect("text").contains("UTF-8"), "{answer}");
    let put = server.0.put("/v1/audiences/a").header("Content-Type", "text/plain").body(b"u1\n\xff\n".to_vec());
    assert_eq!(success(send(put))["rejected"], 1);
    problem(send(server.0.get("/v1/users/%ff")), 400, "malformed-body");
    server.unharmed(6);
}

#[test]
fn another_content_type_is_refused_where_it_could_be_mistaken() {
    let server = Besieged::start(|_| {});
    for name in ["text/csv", "multipart/form-data; boundary=x", "application/vnd.apache.parquet"] {
        // Refused by its headers alone, and told so although it is sent to its end.
        let large = "user_id,age\nu9,3\n".repeat(500_000);
        let sent = server.0.post("/v1/tags").header("Content-Type", name).body(large);
        let told = problem(send(sent), 415, "unsupported-media-type");
        assert!(told["suggestion"].as_str().expect("text").contains("application/x-ndjson"), "{told}");
    }
    // `curl -d` says that it sends a form; what it sends is read all the same.
    let form = server.0.post("/v1/count").header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(success(send(form.body("{\"where\":\"TRUE\"}")))["count"], 4);
    let page = server.0.post("/v1/tags").header("Sec-Fetch-Site", "cross-site").body("{\"user_id\":\"evil\"}\n");
    problem(send(page), 403, "cross-site");
    server.unharmed(4);
}

#[test]
fn fields_that_do_not_exist_are_refused_with_those_that_may_be_meant() {
    let server = Besieged::start(|_| {});
    for (path, body, pointer, suggestion) in [
        ("/v1/count", json!({"were": "TRUE"}), "/were", "`where`"),
        ("/v1/members", json!({"where": "TRUE", "limt": 3}), "/limt", "`limit`"),
        ("/v1/profile", json!({"where": "TRUE", "by": ["age"], "agains": "TRUE"}), "/agains", "`against`"),
        ("/v1/profile", json!({"where": "TRUE", "by": ["agee"]}), "/by/0", "`age`"),
        ("/v1/sample", json!({"where": "TRUE", "sise": 3}), "/sise", "`size`"),
        ("/v1/top", json!({"where": "TRUE", "by": "age", "k": 3, "order": "dsc"}), "/order", "`desc`"),
        ("/v1/explain", json!({"where": "TRUE", "analyse": true}), "/analyse", "`analyze`"),
        ("/v1/overlap", json!({"audience": {}}), "/audience", "`audiences`"),
    ] {
        let answer = send(server.0.post(path).json(&body));
        let kind = if pointer == "/by/0" { "unknown-tag" } else { "invalid-field" };
        let problem = problem(answer, 400, kind);
        assert_eq!(problem["pointer"], pointer, "{body}: {problem}");
        assert!(told(&problem, "suggestion").contains(suggestion), "{body}: {problem}");
    }
    let answer = send(server.0.post("/v1/tags?visibel=true").body(""));
    assert!(told(&problem(answer, 400, "invalid-field"), "suggestion").contains("`visible`"));
    for (body, word) in [(json!({}), "where"), (json!([]), "expected"), (json!({"where": null}), "where")] {
        let told = problem(send(server.0.post("/v1/count").json(&body)), 400, "invalid-field");
        assert!(told.to_string().contains(word), "{body}: {told}");
    }
    let twice = send(server.0.post("/v1/count").body("{\"where\":\"TRUE\",\"where\":\"FALSE\"}"));
    assert!(told(&problem(twice, 400, "invalid-field"), "detail").contains("where"));
    server.unharmed(4);
}

#[test]
fn numbers_out_of_their_range_are_refused() {
    let server = Besieged::start(|_| {});
    for (path, body, pointer) in [
        ("/v1/sample", json!({"where": "TRUE", "size": 0}), "/size"),
        ("/v1/sample", json!({"where": "TRUE", "size": 100_001}), "/size"),
        ("/v1/sample", json!({"where": "TRUE", "size": -1}), "/size"),
        ("/v1/top", json!({"where": "TRUE", "by": "age", "k": 0}), "/k"),
        ("/v1/top", json!({"where": "TRUE", "by": "age", "k": 10_001}), "/k"),
        ("/v1/count", json!({"where": "TRUE", "timeout_ms": 0}), "/timeout_ms"),
        ("/v1/count", json!({"where": "TRUE", "timeout_ms": 1e30}), "/timeout_ms"),
        ("/v1/count", json!({"where": "TRUE", "timeout_ms": 600_001}), "/timeout_ms"),
        ("/v1/profile", json!({"where": "TRUE", "by": []}), "/by"),
        ("/v1/profile", json!({"where": "TRUE", "by": vec!["age"; 101]}), "/by"),
        ("/v1/profile", json!({"where": "TRUE", "by": ["age"], "values": -1}), "/values"),
        ("/v1/overlap", json!({"audiences": {}}), "/audiences"),
    ] {
        let told = problem(send(server.0.post(path).json(&body)), 400, "invalid-field");
        assert_eq!(told["pointer"], pointer, "{body}: {told}");
    }
    server.unharmed(4);
}

#[test]
fn a_question_that_runs_out_of_its_time_says_so_and_gives_its_place_free() {
    let server = Besieged::start(|config| config.concurrent_queries = 1);
    // Just to be read this takes far longer than it may.
    let long = vec!["age = 1"; 40_000].join(" OR ");
    for _ in 0..3 {
        let answer = send(server.0.post("/v1/count").json(&json!({"where": long, "timeout_ms": 1})));
        let kind = if answer.status() == 429 { (429, "too-many-queries") } else { (504, "timeout") };
        let told = problem(answer, kind.0, kind.1);
        assert!(told["detail"].as_str().expect("text").contains("timeout_ms"), "{told}");
    }
    assert_eq!(success(server.count(&long))["count"], 0, "with its time it is answered");
    server.unharmed(4);
}

#[test]
fn routes_and_methods_that_do_not_exist_are_problems_too() {
    let server = Besieged::start(|_| {});
    for path in ["/v2/count", "/v1", "/v1/counts", "/v1/users", "/v1/users/a/b", "/v1/count/", "/../etc/passwd"] {
        let told = problem(send(server.0.get(path)), 404, "no-such-route");
        assert!(told["detail"].as_str().expect("text").contains("/docs"), "{told}");
    }
    let wrong = send(server.0.get("/v1/count"));
    assert_eq!(wrong.headers()["allow"], "POST");
    let problem_of_method = problem(wrong, 405, "method-not-allowed");
    assert!(told(&problem_of_method, "detail").contains("does not take GET"), "{problem_of_method}");
    problem(send(server.0.put("/healthz")), 405, "method-not-allowed");
    let undeclared = problem(send(server.0.post("/v1/spaces/taste").body("{}")), 404, "not-found");
    assert!(told(&undeclared, "suggestion").contains("catalog"), "{undeclared}");
    problem(send(server.0.post("/v1/count").json(&json!({"where": "TRUE", "as_of": 3}))), 501, "not-available");
    server.unharmed(4);
}

#[test]
fn names_that_are_not_known_are_pointed_at_with_what_may_be_meant() {
    let server = Besieged::start(|_| {});
    for question in ["age > 30 AND gendr = 'f'", "gender = '湖州🐋' OR\r\n\tgendr = 'f' OR age > 30"] {
        let told_tag = problem(server.count(question), 400, "unknown-tag");
        let span = &told_tag["span"];
        let (start, end) = (span["start"].as_u64().expect("a place"), span["end"].as_u64().expect("a place"));
        assert_eq!(&question[start as usize..end as usize], "gendr = 'f'", "{told_tag}");
        assert!(told(&told_tag, "suggestion").contains("gender") && told_tag["pointer"] == "/where", "{told_tag}");
    }
    let told_tree = problem(
        send(server.0.post("/v1/count").json(&json!({"where": {"all": [true, {"tag": "gendr", "is": "f"}]}}))),
        400,
        "unknown-tag",
    );
    assert!(told(&told_tree, "suggestion").contains("gender"), "{told_tree}");
    success(send(server.0.put("/v1/audiences/women").json(&json!({"where": "gender = 'f'"}))));
    let question = "age > 30 OR in_audience('womn')";
    let told_audience = problem(server.count(question), 400, "unknown-audience");
    assert!(told(&told_audience, "suggestion").contains("women"), "{told_audience}");
    assert!(told_audience["span"]["start"].as_u64() >= Some(12), "{told_audience}");
    let missing = problem(send(server.0.get("/v1/audiences/womn")), 404, "not-found");
    assert!(told(&missing, "suggestion").contains("women"), "{missing}");
    problem(send(server.0.get("/v1/users/nobody")), 404, "not-found");
    for (question, kind) in [
        ("age = 'x'", "tag-type"),
        ("seen_at > 'soon'", "tag-value"),
        ("gender > 'f'", "tag-type"),
        ("age >", "syntax"),
        ("age = (SELECT 1)", "unsupported"),
    ] {
        assert!(problem(server.count(question), 400, kind)["span"]["start"].is_u64(), "{question}");
    }
    server.unharmed(4);
}

#[test]
fn a_client_that_asks_first_is_refused_before_it_sends() {
    use std::io::{Read, Write};
    let server = Besieged::start(|_| {});
    let mut connection = std::net::TcpStream::connect(server.0.url("").replace("http://", "")).expect("connect");
    let head = "POST /v1/tags HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n";
    connection.write_all(head.as_bytes()).expect("send");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 415") && answer.contains("unsupported-media-type"), "{answer}");
    server.unharmed(4);
}

#[test]
fn a_connection_that_breaks_off_in_the_middle_harms_nobody() {
    use std::io::Write;
    let server = Besieged::start(|_| {});
    let address = server.0.url("").replace("http://", "");
    for sent in [
        "POST /v1/tags HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"user_id\":\"half",
        "POST /v1/count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\0\0\0\0",
        "POST /v1/tags HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ] {
        let mut connection = std::net::TcpStream::connect(&address).expect("connect");
        connection.write_all(sent.as_bytes()).expect("send");
    }
    server.0.put_catalog(&catalog());
    server.unharmed(4);
}

#[test]
fn a_body_that_stops_coming_gives_its_place_and_its_key_free() {
    use std::io::{Read, Write};
    let server = Besieged::start(|config| {
        config.concurrent_uploads = 1;
        config.upload_idle = std::time::Duration::from_secs(1);
    });
    let line = "{\"user_id\":\"slow\",\"set\":{\"gender\":\"f\"}}\n";
    for (head, sent) in [
        ("Content-Length: 1000", line),
        ("Content-Length: 1000", ""),
        ("Content-Encoding: gzip\r\nContent-Length: 9", "\x1f"),
    ] {
        let mut connection = std::net::TcpStream::connect(server.0.url("").replace("http://", "")).expect("connect");
        let head = format!("POST /v1/tags HTTP/1.1\r\nHost: x\r\nIdempotency-Key: slow\r\n{head}\r\n\r\n");
        connection.write_all(format!("{head}{sent}").as_bytes()).expect("send");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer, and the end");
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("urn:beluga:problem:body-stalled"), "{answer}");
        assert!(answer.contains("1000 ms") && answer.contains("upload_idle_ms"), "{answer}");
    }
    let again = server.0.post("/v1/tags").header("Idempotency-Key", "slow").body(line).send().expect("post");
    let again = success(again);
    assert_eq!((&again["accepted"], &again["repeated"]), (&json!(1), &json!(false)), "{again}");
    server.unharmed(5);
}

/// Whether the end of a connection at one of our ports has a timer that asks the other end.
#[cfg(target_os = "linux")]
fn is_watched(ours: u16, theirs: u16) -> bool {
    let connections = std::fs::read_to_string("/proc/net/tcp").expect("the system's connections");
    connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| match fields[..] {
        [_, local, remote, _, _, timer, ..] => {
            local.ends_with(&format!(":{ours:04X}"))
                && remote.ends_with(&format!(":{theirs:04X}"))
                && timer.starts_with("02:")
        }
        _ => false,
    })
}

#[cfg(target_os = "linux")]
#[test]
fn quiet_clients_are_asked_whether_they_are_still_there() {
    let server = Besieged::start(|config| config.postgres = Some(config.http));
    let http = server.0.url("").replace("http://", "").parse().expect("an address");
    for address in [http, server.0.flight(), server.0.postgres()] {
        let quiet = std::net::TcpStream::connect(address).expect("connect");
        let theirs = quiet.local_addr().expect("bound").port();
        wait_until("it is watched", || is_watched(address.port(), theirs));
    }
    server.unharmed(4);
}
