//! Pages of members are pages of one view, whatever is written while they are read; a cursor that cannot be followed
//! says why.

use crate::support::{TestServer, catalog, strings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const USERS: usize = 3_000;

/// A server with many users, of whom every third is a member.
fn with_many() -> TestServer {
    let server = TestServer::start();
    server.put_catalog(&catalog());
    let lines = (0..USERS).map(|n| format!("{{\"user_id\":\"u{n}\",\"set\":{{\"is_member\":{}}}}}\n", n % 3 == 0));
    server.post_tags(&lines.collect::<String>());
    server.settle();
    server
}

fn page(server: &TestServer, body: &Value) -> (u16, Value) {
    let answer = server.post("/v1/members").json(body).send().expect("ask");
    (answer.status().as_u16(), answer.json().expect("JSON"))
}

/// The cursor behind the first users of a question.
fn begin(server: &TestServer, question: &str) -> String {
    let (status, first) = page(server, &json!({"where": question, "limit": 2}));
    assert_eq!(status, 200, "{first}");
    first["next"].as_str().expect("there is more").to_owned()
}

fn assert_refused(server: &TestServer, body: &Value, status: u16, kind: &str, word: &str) {
    let (found, problem) = page(server, body);
    assert_eq!((found, &problem["type"]), (status, &json!(format!("urn:beluga:problem:{kind}"))), "{body}: {problem}");
    assert!(problem["detail"].as_str().expect("text").contains(word), "{body}: {problem}");
}

/// Ends the writer also when an assertion fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn pages_are_of_one_view_while_everything_changes() {
    let server = with_many();
    let expected: BTreeSet<String> = (0..USERS).filter(|n| n % 3 == 0).map(|n| format!("u{n}")).collect();
    let (started, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let epoch = || server.ask("/v1/count", &json!({"where": "FALSE"}))["epoch"].as_u64();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !started.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                // Members leave, others join, and new users appear; each round is another half of them.
                let changed = (0..USERS).filter(|n| n % 2 == rounds % 2);
                let lines = changed.map(|n| {
                    let becomes = (n + rounds) % 5 < 2;
                    format!("{{\"user_id\":\"u{n}\",\"set\":{{\"is_member\":{becomes}}}}}\n")
                });
                let newcomer = format!("{{\"user_id\":\"new{rounds}\",\"set\":{{\"is_member\":true}}}}\n");
                server.post_tags(&lines.chain([newcomer]).collect::<String>());
                server.settle();
                rounds += 1;
            }
            rounds
        });
        let stop = SetOnDrop(&done);
        // Every list is read on the view of its first page; from the second list on that is some view in between.
        for list in 0..4 {
            let (mut users, mut pages, mut epochs) = (Vec::new(), 0, BTreeSet::new());
            let mut body = json!({"where": "is_member", "limit": 37});
            loop {
                let (status, page) = page(&server, &body);
                assert_eq!(status, 200, "{page}");
                users.extend(strings(&page["users"]));
                epochs.insert(page["epoch"].as_u64().expect("an epoch"));
                pages += 1;
                started.store(true, Ordering::Relaxed);
                // The store is seen to have gone on before the next page is asked for.
                let before = epoch();
                while pages < 4 && epoch() == before {
                    std::thread::yield_now();
                }
                if page["next"].is_null() {
                    break;
                }
                body = json!({"limit": 37, "cursor": page["next"]});
            }
            assert_eq!(epochs.len(), 1, "list {list}: all pages are of one view");
            let distinct: BTreeSet<String> = users.iter().cloned().collect();
            assert_eq!(distinct.len(), users.len(), "list {list}: pages overlap");
            if list == 0 {
                assert_eq!(distinct, expected, "the view before anything changed");
            }
            assert!(pages > 4, "list {list}: {pages} pages prove little");
        }
        drop(stop);
        assert!(writing.join().expect("the writer ends well") > 3, "too little was written to prove anything");
    });
}

#[test]
fn a_page_can_be_asked_for_again_and_with_another_limit() {
    let server = with_many();
    let (_, first) = page(&server, &json!({"where": "TRUE", "limit": 10}));
    let again = json!({"cursor": first["next"], "limit": 10});
    let (_, second) = page(&server, &again);
    server.post_tags("{\"user_id\":\"u1\",\"set\":{\"is_member\":true}}\n");
    server.settle();
    let (_, repeated) = page(&server, &again);
    assert_eq!((&repeated["users"], &repeated["next"]), (&second["users"], &second["next"]));
    let (_, rest) = page(&server, &json!({"cursor": first["next"], "limit": 100_000}));
    assert_eq!((rest["users"].as_array().map(Vec::len), &rest["next"]), (Some(USERS - 10), &Value::Null));
    assert_eq!(rest["epoch"], first["epoch"]);
}

#[test]
fn a_cursor_goes_with_its_own_question_only() {
    let server = with_many();
    let cursor = begin(&server, "is_member AND user_id NOT IN ('u0')");
    let (status, same) = page(&server, &json!({"where": "is_member  and user_id not in ('u0')", "cursor": cursor}));
    assert_eq!(status, 200, "spelled another way it is the same question: {same}");
    for other in ["NOT is_member", "in_audience('made later')", "nonsense = 1"] {
        server.put("/v1/audiences/made later").json(&json!({"where": "TRUE"})).send().expect("put");
        let body = json!({"where": other, "cursor": cursor});
        assert_refused(&server, &body, 400, "invalid-field", "belongs to another question");
    }
    assert_refused(&server, &json!({"where": "is_member AND", "cursor": cursor}), 400, "syntax", "");
    assert_eq!(page(&server, &json!({"cursor": cursor})).0, 200, "the cursor itself goes on");
}

#[test]
fn a_damaged_or_made_up_cursor_is_refused() {
    let server = with_many();
    let cursor = begin(&server, "TRUE");
    let swapped = format!("{}{}", &cursor[1..], &cursor[..1]);
    let damaged = [
        String::new(),
        "null".to_owned(),
        cursor[..cursor.len() - 1].to_owned(),
        format!("{cursor}0"),
        cursor.replace(|c: char| c.is_ascii_digit(), "a"),
        swapped,
        "é".repeat(18),
        "0".repeat(1 << 20),
    ];
    for cursor in damaged {
        assert_refused(&server, &json!({"where": "TRUE", "cursor": cursor}), 400, "invalid-cursor", "not a cursor");
    }
    assert_refused(&server, &json!({"where": "TRUE", "cursor": 5}), 400, "invalid-field", "");
    // Well formed, but never given by this server: it means nothing, also with a checksum that fits.
    let forged = api::rest::cursors::print(1, position(0, 0));
    assert_refused(&server, &json!({"cursor": forged}), 410, "cursor-expired", "begin again");
    // The right question at a place where nobody is: an empty end, nothing worse.
    let id = u64::from_str_radix(&cursor[..16], 16).expect("hex digits");
    for (shard, slot) in [(u16::MAX, 0), (0, u32::MAX), (u16::MAX, u32::MAX)] {
        let (status, end) = page(&server, &json!({"cursor": api::rest::cursors::print(id, position(shard, slot))}));
        assert_eq!(status, 200, "{end}");
    }
    assert_eq!(page(&server, &json!({"cursor": cursor, "limit": 3})).0, 200);
}

fn position(shard: u16, slot: u32) -> engine::audience::ops::Position {
    engine::audience::ops::Position { shard: engine::ids::ShardId(shard), slot }
}

#[test]
fn a_cursor_expires_when_it_is_not_used_or_when_there_are_too_many_or_with_the_server() {
    let mut server = with_many();
    let cursor = begin(&server, "TRUE");
    server.restart_with(|config| config.cursors_max = 2);
    assert_refused(&server, &json!({"where": "TRUE", "cursor": cursor}), 410, "cursor-expired", "restarted");

    let (first, second) = (begin(&server, "TRUE"), begin(&server, "is_member"));
    assert_eq!(page(&server, &json!({"cursor": first})).0, 200, "used again, so not the one unused for longest");
    let third = begin(&server, "NOT is_member");
    assert_refused(&server, &json!({"cursor": second}), 410, "cursor-expired", "too many lists");
    for cursor in [first, third] {
        assert_eq!(page(&server, &json!({"cursor": cursor})).0, 200);
    }

    server.restart_with(|config| config.cursor_idle = Duration::from_nanos(1));
    let cursor = begin(&server, "TRUE");
    assert_refused(&server, &json!({"cursor": cursor}), 410, "cursor-expired", "unused for too long");
}

#[test]
fn limits_are_from_one_to_the_largest_page() {
    let server = with_many();
    for (limit, status) in
        [(json!(0), 400), (json!(100_001), 400), (json!(-1), 400), (json!("ten"), 400), (json!(1), 200)]
    {
        let (found, answer) = page(&server, &json!({"where": "TRUE", "limit": limit}));
        assert_eq!(found, status, "{limit}: {answer}");
        if status == 400 {
            let told = (&answer["type"], &answer["pointer"]);
            assert_eq!(told, (&json!("urn:beluga:problem:invalid-field"), &json!("/limit")), "{answer}");
        }
    }
    let (_, whole) = page(&server, &json!({"where": "TRUE", "limit": 100_000}));
    assert_eq!((whole["users"].as_array().map(Vec::len), &whole["next"]), (Some(USERS), &Value::Null));
    let (_, exact) = page(&server, &json!({"where": "TRUE", "limit": USERS}));
    assert_eq!(exact["next"], Value::Null, "a page that ends with the last member is the last one");
}
