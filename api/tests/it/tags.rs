//! `POST /v1/tags`: per-line errors, durability, idempotency.

use crate::support::{TestServer, catalog, success};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

fn post(server: &TestServer, key: Option<&str>, body: &str) -> (u16, Value) {
    let mut request = server.post("/v1/tags").body(body.to_owned());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.send().expect("post");
    (answer.status().as_u16(), answer.json().expect("JSON"))
}

#[test]
fn bad_lines_are_told_and_good_ones_taken() {
    let server = TestServer::with_people();
    let body = concat!(
        "{\"user_id\":\"n1\",\"set\":{\"gender\":\"f\"}}\n",
        "{\"user_id\":\"n2\",\"set\":{\"gendr\":\"f\"}}\n",
        "not json\n",
        "{\"user_id\":\"n3\",\"set\":{\"age\":\"old\"}}\n",
        "{\"user_id\":\"\",\"set\":{\"age\":1}}\n",
        "{\"user_id\":\"n4\",\"set\":{\"age\":99999999999999999999}}\n",
        "{\"user_id\":17,\"add\":{\"interest\":[\"chess\"]}}\n",
    );
    let (status, answer) = post(&server, None, body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(2), Some(5)), "{answer}");
    let lines: Vec<u64> =
        answer["errors"].as_array().expect("errors").iter().filter_map(|e| e["line"].as_u64()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    assert!(answer["errors"][0].to_string().contains("gender"), "a suggestion: {answer}");
    server.settle();
    assert_eq!(server.count("user_id IN ('n1', 'n2', 'n3', 'n4', '17')"), 2);
    let long = format!("{{\"user_id\":\"{}\"}}\n", "x".repeat(10_000));
    let (_, answer) = post(&server, None, &long);
    assert_eq!(answer["rejected"], 1, "an id of 10 kB is refused: {answer}");
}

#[test]
fn the_same_key_and_body_change_nothing_and_another_body_is_refused() {
    let mut server = TestServer::with_people();
    let on = "{\"user_id\":\"k\",\"set\":{\"is_member\":true}}\n";
    let off = "{\"user_id\":\"k\",\"set\":{\"is_member\":false}}\n";
    let (_, first) = post(&server, Some("key-1"), on);
    post(&server, None, off);
    let (status, again) = post(&server, Some("key-1"), on);
    assert_eq!((status, &again["accepted"]), (200, &first["accepted"]), "{again}");
    server.settle();
    assert_eq!(server.count("user_id = 'k' AND is_member"), 0, "the repeated request changed nothing");
    let (status, _) = post(&server, Some("key-1"), off);
    assert_eq!(status, 422);
    server.kill();
    server.restart();
    post(&server, Some("key-1"), on);
    server.settle();
    assert_eq!(server.count("user_id = 'k' AND is_member"), 0, "a restart does not forget the key");
}

/// The bytes of a repeated body may be decoded to something else than they were: what is told is what is on disk.
#[test]
fn a_repeated_body_is_told_as_it_was_taken() {
    let mut server = TestServer::with_people();
    let body = "{\"user_id\":\"k1\",\"set\":{\"age\":50}}\n{\"user_id\":\"k2\",\"set\":{\"plan\":\"gold\"}}\n";
    let counts =
        |answer: &Value| (answer["accepted"].as_u64(), answer["rejected"].as_u64(), answer["repeated"].as_bool());
    let (_, first) = post(&server, Some("plans"), body);
    assert_eq!(counts(&first), (Some(1), Some(1), Some(false)), "{first}");
    let (_, again) = post(&server, Some("plans"), body);
    assert_eq!(counts(&again), (Some(1), Some(1), Some(true)), "{again}");
    assert_eq!(again["errors"], first["errors"], "the same line would be refused now");

    let mut with_plan = catalog();
    with_plan["tags"]["plan"] = json!({"type": "enum"});
    server.put_catalog(&with_plan);
    for round in 0..3 {
        let (_, again) = post(&server, Some("plans"), body);
        assert_eq!(counts(&again), (Some(1), Some(1), Some(true)), "round {round}: {again}");
        assert_eq!(again["errors"], json!([]), "round {round}");
        server.settle();
        assert_eq!(server.count("user_id = 'k2'"), 0);
        if round == 0 {
            server.kill();
            server.restart();
        } else {
            // Once more with the keys in a file.
            server.restart();
        }
    }
    // The other way round: what was taken is told as taken, though its tag is gone.
    let (_, other) = post(&server, Some("more"), body);
    assert_eq!(counts(&other), (Some(2), Some(0), Some(false)), "{other}");
    success(server.put("/v1/catalog?allow_drop=true").json(&catalog()).send().expect("put"));
    let (_, other) = post(&server, Some("more"), body);
    assert_eq!(counts(&other), (Some(2), Some(0), Some(true)), "{other}");
    assert_eq!(other["errors"], json!([]));
}

#[test]
fn repeated_lines_are_not_counted_again() {
    let server = TestServer::with_people();
    let counted = || {
        let text = server.get("/metrics").send().expect("get").text().expect("text");
        ["accepted", "rejected"].map(|what| {
            let name = format!("beluga_updates_{what}_total ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0, |count| count.parse::<u64>().expect("a count"))
        })
    };
    let before = counted();
    for _ in 0..3 {
        post(&server, Some("once"), "{\"user_id\":\"k1\"}\n{\"user_id\":\"k2\"}\nno\n");
    }
    post(&server, None, "no\n");
    assert_eq!(counted(), [before[0] + 2, before[1] + 2]);
}

#[test]
fn what_was_answered_survives_an_end_without_goodbye() {
    let mut server = TestServer::with_people();
    server.post_tags("{\"user_id\":\"late\",\"set\":{\"age\":77}}\n");
    server.kill();
    server.restart();
    assert_eq!(server.count("age = 77"), 1);
    assert_eq!(server.count("TRUE"), 5);
}

#[test]
fn one_user_can_be_looked_up() {
    let server = TestServer::with_people();
    server
        .post_tags("{\"user_id\":\"look\",\"set\":{\"age\":41,\"gender\":\"f\"},\"add\":{\"interest\":[\"yoga\"]}}\n");
    server.settle();
    let user: Value = server.get("/v1/users/look").send().expect("get").json().expect("JSON");
    assert_eq!((&user["tags"]["age"], &user["tags"]["gender"]), (&json!(41), &json!("f")), "{user}");
    assert_eq!(server.get("/v1/users/nobody").send().expect("get").status(), 404);
}

fn packed(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).expect("pack");
    packed.finish().expect("pack")
}

#[test]
fn a_packed_body_is_taken_whole_or_not_acknowledged() {
    let server = TestServer::with_people();
    let send = |body: Vec<u8>| {
        let answer = server.post("/v1/tags").header("Content-Encoding", "gzip").body(body).send().expect("post");
        (answer.status().as_u16(), answer.json::<Value>().expect("JSON"))
    };
    let line = |id: &str| format!("{{\"user_id\":\"{id}\",\"set\":{{\"age\":99}}}}\n");
    let (status, answer) = send(packed(&line("p1")));
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    // Files that were packed one by one and then joined, as log shippers send them.
    let (status, answer) = send([packed(&line("p2")), packed(&line("p3")), packed(&line("p4"))].concat());
    assert_eq!((status, &answer["accepted"]), (200, &json!(3)), "{answer}");
    let whole = packed(&(0..1_000).map(|n| line(&format!("cut{n}"))).collect::<String>());
    for end in [whole.len() - 1, whole.len() - 8, whole.len() / 2, 5] {
        let (status, answer) = send(whole[..end].to_vec());
        assert_eq!((status, &answer["type"]), (400, &json!("urn:beluga:problem:malformed-body")), "{end}: {answer}");
    }
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert_eq!(send(damaged).0, 400);
    let mut trailing = whole;
    trailing.extend(b"and something else");
    assert_eq!(send(trailing).0, 400);
    server.settle();
    assert_eq!(server.count("user_id IN ('p1', 'p2', 'p3', 'p4')"), 4);
}

#[test]
fn of_many_requests_with_one_key_at_once_one_has_an_effect() {
    let server = TestServer::with_people();
    let lines = |age: u32| {
        (0..2_000).map(|n| format!("{{\"user_id\":\"k{n}\",\"set\":{{\"age\":{age}}}}}\n")).collect::<String>()
    };
    let (body, other) = (lines(70), lines(71));
    let sent: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let send = |number: usize| post(&server, Some("many"), if number == 7 { &other } else { &body });
        let running: Vec<_> = (0..8).map(|number| scope.spawn(move || send(number))).collect();
        running.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let first = sent.iter().filter(|(status, answer)| *status == 200 && answer["repeated"] == false);
    assert_eq!(first.count(), 1, "{sent:?}");
    for (status, answer) in &sent {
        let kind = answer["type"].as_str().unwrap_or_default().replace("urn:beluga:problem:idempotency-key-", "");
        assert!([(200, ""), (409, "in-use"), (422, "reused")].contains(&(*status, kind.as_str())), "{answer}");
    }
    server.settle();
    let effects = (server.count("age = 70"), server.count("age = 71"));
    assert!([(2_000, 0), (0, 2_000)].contains(&effects), "{effects:?}");
}
