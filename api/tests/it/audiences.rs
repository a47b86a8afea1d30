//! `/v1/audiences`: defined, uploaded, used by one another, listed, changed and forgotten; and still there after an end.

use crate::process::wait_until;
use crate::support::{TestServer, strings, success};
use reqwest::blocking::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

fn define(server: &TestServer, name: &str, expression: &str) -> Response {
    server.put(&format!("/v1/audiences/{name}")).json(&json!({"where": expression})).send().expect("put")
}

fn upload(server: &TestServer, name: &str, content_type: &str, list: impl Into<Vec<u8>>) -> Value {
    let put = server.put(&format!("/v1/audiences/{name}")).header("Content-Type", content_type);
    success(put.body(list.into()).send().expect("put"))
}

fn delete(server: &TestServer, name: &str) -> Response {
    server.client.delete(server.url(&format!("/v1/audiences/{name}"))).send().expect("delete")
}

/// Status, kind and the problem itself.
fn problem(answer: Response) -> (u16, String, Value) {
    let status = answer.status().as_u16();
    let problem: Value = answer.json().expect("JSON");
    assert_eq!(problem["status"], status, "{problem}");
    let kind = problem["type"].as_str().expect("a type").replace("urn:beluga:problem:", "");
    (status, kind, problem)
}

fn names(page: &Value) -> Vec<&str> {
    page["audiences"].as_array().expect("audiences").iter().map(|one| one["name"].as_str().expect("a name")).collect()
}

fn members(server: &TestServer, name: &str) -> BTreeSet<String> {
    let answer = success(server.get(&format!("/v1/audiences/{name}/members")).send().expect("get"));
    assert_eq!(answer["next"], Value::Null);
    strings(&answer["users"]).into_iter().collect()
}

fn set(users: &[&str]) -> BTreeSet<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

#[test]
fn an_audience_is_made_changed_read_and_forgotten() {
    let server = TestServer::with_people();
    let made = server
        .put("/v1/audiences/women")
        .json(&json!({"where": "gender='f'   and  true", "description": "all of them"}))
        .send()
        .expect("put");
    assert_eq!(made.status(), 201);
    let made: Value = made.json().expect("JSON");
    assert_eq!((&made["where"], &made["description"]), (&json!("gender = 'f' AND TRUE"), &json!("all of them")));
    let read = server.get("/v1/audiences/women").send().expect("get");
    let version = read.headers()["etag"].clone();
    assert_eq!(read.json::<Value>().expect("JSON"), made, "what is read is what was put");

    let tree = json!({"where": {"all": [{"tag": "gender", "is": "f"}, {"tag": "age", "op": "<", "value": 30}]}});
    let changed = server.put("/v1/audiences/women").header("If-Match", &version).json(&tree).send().expect("put");
    assert_eq!(changed.status(), 200, "changed, not new");
    assert_eq!(members(&server, "women"), set(&["u3"]));
    let late = server.put("/v1/audiences/women").header("If-Match", &version).json(&tree).send().expect("put");
    let (status, kind, told) = problem(late);
    assert_eq!((status, kind.as_str()), (412, "version-changed"), "{told}");

    assert_eq!(delete(&server, "women").status(), 204);
    let (status, kind, told) = problem(server.get("/v1/audiences/women").send().expect("get"));
    assert_eq!((status, kind.as_str()), (404, "not-found"), "{told}");
    assert_eq!(problem(delete(&server, "women")).0, 404, "what is gone cannot be deleted");
    assert_eq!(problem(server.get("/v1/audiences/women/members").send().expect("get")).0, 404);
    let question = server.post("/v1/count").json(&json!({"where": "in_audience('women')"})).send().expect("ask");
    assert_eq!(problem(question).1, "unknown-audience");
}

#[test]
fn lists_are_taken_as_text_csv_and_ndjson() {
    let server = TestServer::with_people();
    let lists = [
        ("text", "text/plain; charset=utf-8", "u1\r\n  u3 \n\nu1\nnobody"),
        ("table", "text/csv", "name,user_id\n\"Ann, B.\",u1\nx,\"u3\"\ny,u1\nz,nobody\n"),
        (
            "lines",
            "application/x-ndjson",
            "\"u1\"\n{\"user_id\":\"u3\",\"more\":[1]}\n{\"user_id\":\"u1\"}\n\"nobody\"\n",
        ),
    ];
    for (name, content_type, list) in lists {
        let told = upload(&server, &format!("{name}?description=sent"), content_type, list);
        assert_eq!((&told["ids"], &told["known"], &told["rejected"]), (&json!(4), &json!(2), &json!(0)), "{told}");
        assert_eq!(members(&server, name), set(&["u1", "u3"]), "{name}");
        assert_eq!(server.count(&format!("in_audience('{name}') AND age < 30")), 1, "{name}");
        let read: Value = success(server.get(&format!("/v1/audiences/{name}")).send().expect("get"));
        assert_eq!((&read["uploaded"]["ids"], &read["description"]), (&json!(4), &json!("sent")), "{read}");
        assert_eq!(read.get("where"), None, "a list has no expression: {read}");
    }
    assert_eq!(server.count("in_audience('text') XOR in_audience('lines')"), 0);
}

#[test]
fn a_listed_user_who_is_not_known_joins_when_it_becomes_known() {
    let mut server = TestServer::with_people();
    let told = upload(&server, "invited", "text/plain", "u2\nlater\nnever\n");
    assert_eq!((&told["ids"], &told["known"]), (&json!(3), &json!(1)), "{told}");
    assert_eq!(server.count("TRUE"), 4, "being listed makes nobody known");
    assert_eq!(server.count("NOT in_audience('invited')"), 3);
    assert_eq!(server.get("/v1/users/later").send().expect("get").status(), 404);
    server.post_tags("{\"user_id\":\"later\",\"set\":{\"age\":50}}\n");
    server.settle();
    assert_eq!(members(&server, "invited"), set(&["later", "u2"]));
    server.kill();
    server.restart();
    assert_eq!(members(&server, "invited"), set(&["later", "u2"]));
    server.post_tags("{\"user_id\":\"never\"}\n");
    server.settle();
    assert_eq!(members(&server, "invited"), set(&["later", "never", "u2"]), "also when the server ended in between");
}

#[test]
fn a_new_list_replaces_the_old_one_and_bad_lines_are_told() {
    let server = TestServer::with_people();
    upload(&server, "picked", "text/plain", "u1\nu2\n");
    let told = upload(&server, "picked", "application/x-ndjson", "\"u3\"\n{\"id\":1}\n\"\"\nu4\n");
    assert_eq!((&told["ids"], &told["rejected"]), (&json!(1), &json!(3)), "{told}");
    let lines: Vec<u64> =
        told["errors"].as_array().expect("errors").iter().filter_map(|e| e["line"].as_u64()).collect();
    assert_eq!(lines, [2, 3, 4]);
    assert_eq!(members(&server, "picked"), set(&["u3"]), "replaced, not added to");
    let put = server.put("/v1/audiences/picked").header("Content-Type", "text/csv").body("id\nu1\nu2\n");
    let (status, kind, told) = problem(put.send().expect("put"));
    assert_eq!((status, kind.as_str()), (400, "malformed-body"), "{told}");
    assert!(told["detail"].as_str().expect("text").contains("user_id"), "{told}");
    assert_eq!(members(&server, "picked"), set(&["u3"]), "a list that cannot be read changes nothing");
    let told = upload(&server, "picked", "text/plain", "");
    assert_eq!(told["ids"], 0, "an empty list is a list: {told}");
    assert_eq!(members(&server, "picked"), set(&[]));
    let put = server.put("/v1/audiences/picked").header("Content-Type", "image/png").body("u1");
    assert_eq!(problem(put.send().expect("put")).0, 415);
}

#[test]
fn a_list_is_taken_while_questions_have_no_place() {
    let server = TestServer::with(|config| (config.concurrent_queries, config.queued_queries) = (1, 0));
    server.put_people();
    // Far longer in the reading than an upload takes.
    let long = vec!["age = 1"; 45_000].join(" OR ");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.count(&long));
        wait_until("the question runs", || {
            let metrics = server.get("/metrics").send().expect("get").text().expect("text");
            metrics.lines().any(|line| line == "beluga_queries_running 1")
        });
        let told = upload(&server, "picked", "text/plain", "u1\nnobody\n");
        assert_eq!((&told["ids"], &told["known"]), (&json!(2), &json!(1)), "{told}");
        assert_eq!(asking.join().expect("it is answered"), 0);
    });
    assert_eq!(members(&server, "picked"), set(&["u1"]));
}

#[test]
fn an_audience_never_contains_itself() {
    let server = TestServer::with_people();
    let (status, kind, told) = problem(define(&server, "self", "age > 3 OR in_audience('self')"));
    assert_eq!((status, kind.as_str()), (400, "audience-cycle"), "{told}");
    assert_eq!(define(&server, "a", "gender = 'f'").status(), 201);
    assert_eq!(define(&server, "b", "in_audience('a') AND age < 30").status(), 201);
    assert_eq!(define(&server, "c", "NOT in_audience('b')").status(), 201);
    let (status, kind, told) = problem(define(&server, "a", "in_audience('c')"));
    assert_eq!((status, kind.as_str()), (400, "audience-cycle"), "{told}");
    assert_eq!(members(&server, "a"), set(&["u1", "u3"]), "what it was before");
    assert_eq!(members(&server, "c"), set(&["u1", "u2", "u4"]));
    let (_, kind, told) = problem(define(&server, "d", "in_audience('bb')"));
    assert_eq!(kind, "unknown-audience", "{told}");
}

#[test]
fn of_two_changes_at_once_that_would_make_a_cycle_one_is_refused() {
    let server = TestServer::with_people();
    for round in 0..20 {
        for name in ["a", "b"] {
            assert!(define(&server, name, "TRUE").status().is_success());
        }
        let define = |name, other: &str| define(&server, name, &format!("in_audience('{other}')")).status().as_u16();
        let (a, b) = std::thread::scope(|scope| {
            let (a, b) = (scope.spawn(|| define("a", "b")), scope.spawn(|| define("b", "a")));
            (a.join().expect("an answer"), b.join().expect("an answer"))
        });
        assert!([(200, 400), (400, 200)].contains(&(a, b)), "round {round}: {a} and {b}");
        assert_eq!(server.count("in_audience('a') AND in_audience('b')"), 4);
        let (_, kind, told) = problem(delete(&server, if a == 200 { "b" } else { "a" }));
        assert_eq!(kind, "still-used", "{told}");
    }
}

#[test]
fn an_audience_that_others_use_stays() {
    let server = TestServer::with_people();
    upload(&server, "base", "text/plain", "u1\nu2\n");
    assert_eq!(define(&server, "upper", "in_audience('base') AND gender = 'm'").status(), 201);
    let (status, kind, told) = problem(delete(&server, "base"));
    assert_eq!((status, kind.as_str()), (409, "still-used"), "{told}");
    assert!(told["detail"].as_str().expect("text").contains("`upper`"), "{told}");
    assert_eq!(members(&server, "upper"), set(&["u2"]), "nothing was changed");
    assert_eq!(define(&server, "upper", "gender = 'm'").status(), 200);
    assert_eq!(delete(&server, "base").status(), 204, "nobody uses it any more");

    assert_eq!(define(&server, "young", "age < 30").status(), 201);
    let without = json!({"tags": {"gender": {"type": "enum"}}});
    let dropped = server.put("/v1/catalog?allow_drop=true").json(&without).send().expect("put");
    let (status, kind, told) = problem(dropped);
    assert_eq!((status, kind.as_str()), (409, "unsafe-change"), "a tag that an audience needs: {told}");
    assert!(told.to_string().contains("audience `young` would break"), "{told}");
}

#[test]
fn audiences_are_listed_page_by_page() {
    let server = TestServer::with_people();
    let mut expected: Vec<String> = (0..25).map(|number| format!("audience {number:02}")).collect();
    expected.push("ünï🐋".to_owned());
    for name in expected.iter().rev() {
        assert_eq!(define(&server, name, "TRUE").status(), 201, "{name}");
    }
    let whole = success(server.get("/v1/audiences").send().expect("get"));
    assert_eq!((names(&whole), &whole["next"]), (expected.iter().map(String::as_str).collect(), &Value::Null));
    let (mut found, mut path) = (Vec::new(), "/v1/audiences?limit=10".to_owned());
    loop {
        let page = success(server.get(&path).send().expect("get"));
        found.push(names(&page).into_iter().map(str::to_owned).collect::<Vec<_>>());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/audiences?limit=10&cursor={next}");
    }
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 6]);
    assert_eq!(found.concat(), expected);
    for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=xyz", "cursor=ff", "page=2"] {
        let (status, _, told) = problem(server.get(&format!("/v1/audiences?{wrong}")).send().expect("get"));
        assert_eq!(status, 400, "{wrong}: {told}");
    }
}

#[test]
fn members_of_an_audience_come_in_pages_and_formats() {
    let server = TestServer::with_people();
    define(&server, "it's all", "TRUE");
    let first = success(server.get("/v1/audiences/it's all/members?limit=3").send().expect("get"));
    let next = first["next"].as_str().expect("there is more").to_owned();
    let path = format!("/v1/audiences/it's all/members?limit=3&cursor={next}");
    let rest = success(server.get(&path).send().expect("get"));
    let found: Vec<String> = [strings(&first["users"]), strings(&rest["users"])].concat();
    assert_eq!((found.len(), found.iter().cloned().collect()), (4, set(&["u1", "u2", "u3", "u4"])));
    define(&server, "women", "gender = 'f'");
    let (status, kind, told) = problem(server.get(&path.replace("it's all", "women")).send().expect("get"));
    assert_eq!((status, kind.as_str()), (400, "invalid-field"), "another audience's cursor: {told}");
    let csv = server.get("/v1/audiences/women/members").header("Accept", "text/csv").send().expect("get");
    let text = csv.text().expect("text");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("user_id"));
    assert_eq!(lines.map(str::to_owned).collect::<BTreeSet<_>>(), set(&["u1", "u3"]));
}

#[test]
fn names_that_cannot_be_are_refused() {
    let server = TestServer::with_people();
    for name in [".hidden", ".uploading%2Fx", "a%2Fb", "%20x", "x%0A", &"n".repeat(129)] {
        let (status, kind, told) = problem(define(&server, name, "TRUE"));
        assert_eq!((status, kind.as_str()), (400, "invalid-field"), "{name}: {told}");
        assert_eq!(told["pointer"], "name", "{told}");
    }
    let long = json!({"where": "TRUE", "description": "d".repeat(5_000)});
    let (status, _, told) = problem(server.put("/v1/audiences/x").json(&long).send().expect("put"));
    assert_eq!((status, &told["pointer"]), (400, &json!("/description")));
    assert_eq!(names(&success(server.get("/v1/audiences").send().expect("get"))), Vec::<&str>::new());
}

#[test]
fn audiences_outlive_a_stop_and_an_end_without_goodbye() {
    let mut server = TestServer::with_people();
    define(&server, "women", "gender = 'f'");
    upload(&server, "picked", "text/plain", "u1\nu2\n");
    define(&server, "both", "in_audience('women') AND in_audience('picked')");
    define(&server, "gone", "TRUE");
    delete(&server, "gone");
    let before = success(server.get("/v1/audiences").send().expect("get"));
    for end in [TestServer::kill, TestServer::stop, TestServer::kill] {
        end(&mut server);
        server.restart();
        let after = success(server.get("/v1/audiences").send().expect("get"));
        assert_eq!(after["audiences"], before["audiences"]);
        assert_eq!(members(&server, "picked"), set(&["u1", "u2"]));
        assert_eq!(members(&server, "both"), set(&["u1"]));
    }
    upload(&server, "picked", "text/plain", "u3\n");
    server.kill();
    server.restart();
    assert_eq!(members(&server, "both"), set(&["u3"]), "the newest list");
}

#[test]
fn a_list_that_breaks_off_leaves_what_was_there() {
    let mut server = TestServer::with_people();
    upload(&server, "picked", "text/plain", "u1\n");
    let begin = |server: &TestServer, name: &str| {
        let mut connection = TcpStream::connect(server.url("").trim_start_matches("http://")).expect("connect");
        let head = format!(
            "PUT /v1/audiences/{name} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nExpect: 100-continue\r\n\
             Content-Length: 1000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).expect("send");
        connection.read_exact(&mut [0; 25]).expect("a word that the body is awaited");
        connection.write_all(b"u2\nu3\n").expect("send");
        connection
    };
    drop([begin(&server, "picked"), begin(&server, "new")]);
    let unfinished = [begin(&server, "picked"), begin(&server, "new")];
    let listed = |server: &TestServer| success(server.get("/v1/audiences").send().expect("get"))["audiences"].clone();
    let before = listed(&server);
    assert_eq!((before.as_array().map(Vec::len), members(&server, "picked")), (Some(1), set(&["u1"])));
    server.kill();
    drop(unfinished);
    server.restart();
    assert_eq!((listed(&server), members(&server, "picked")), (before, set(&["u1"])));
    assert_eq!(server.count("TRUE"), 4);
    upload(&server, "new", "text/plain", "u2\n");
    assert_eq!(members(&server, "new"), set(&["u2"]));
}
