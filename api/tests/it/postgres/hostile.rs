//! Clients that mean no good, or nothing at all.

use super::{Client, address, shop, shop_with};
use crate::support::{TestServer, success};
use proptest::prelude::*;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What a server answers to bytes, until it ends the connection or nothing comes any more.
fn answer(server: &TestServer, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address(server)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    // A server that has heard enough does not read on.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn unharmed(server: &TestServer) {
    assert_eq!(Client::of(server).text("SELECT count(*) FROM users"), "4");
}

/// The packet that begins a session.
fn hello() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0ann\0database\0beluga\0\0";
    [&(body.len() as i32 + 4).to_be_bytes()[..], body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as i32 + 4).to_be_bytes(), body].concat()
}

fn has(answer: &[u8], what: &str) -> bool {
    answer.windows(what.len()).any(|window| window == what.as_bytes())
}

#[test]
fn what_is_malformed_is_told_and_ends_the_connection() {
    let server = shop();
    for (bytes, code) in [
        (message(b'Q', b"SELECT 1"), "08P01"),
        (message(b'Q', b"\xff\0"), "08P01"),
        (message(b'P', b"\0SELECT 1\0\x7f\xff"), "08P01"),
        (message(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"), "08P01"),
        (message(b'B', b"\0\0\0\x01\0\x07\0\0\0\0"), "08P01"),
        (message(b'D', b"Zx\0"), "08P01"),
        (message(b'E', b"\0"), "08P01"),
        (message(b'?', b""), "08P01"),
        (b"Q\x7f\xff\xff\xff".to_vec(), "08P01"),
        (b"Q\0\0\0\0".to_vec(), "08P01"),
    ] {
        let told = answer(&server, &[hello(), bytes.clone()].concat());
        assert!(has(&told, code) && has(&told, "FATAL"), "{bytes:?}: {}", String::from_utf8_lossy(&told));
    }
    for (bytes, code) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01"),
        (b"\0\0\0\x08\0\x02\0\0".to_vec(), "0A000"),
        (b"\0\0\0\x0d\0\x03\0\0user\0".to_vec(), "08P01"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f".repeat(9), "08P01"),
    ] {
        let told = answer(&server, &bytes);
        assert!(has(&told, code), "{bytes:?}: {}", String::from_utf8_lossy(&told));
    }
    unharmed(&server);
}

#[test]
fn order_does_not_matter_to_the_server() {
    let server = shop();
    let sync = message(b'S', b"");
    let told = answer(
        &server,
        &[hello(), message(b'E', b"none\0\0\0\0\0"), message(b'Q', b"SELECT 1\0"), sync.clone()].concat(),
    );
    assert!(has(&told, "34000"), "{}", String::from_utf8_lossy(&told));
    assert!(!has(&told, "SELECT 1"), "up to the next sync nothing is answered");
    let told = answer(&server, &[hello(), message(b'B', b"\0none\0\0\0\0\0\0\0"), sync].concat());
    assert!(has(&told, "26000"), "{}", String::from_utf8_lossy(&told));
    unharmed(&server);
}

#[test]
fn what_is_reset_is_told() {
    let server = shop();
    for reset in ["RESET ALL", "RESET application_name", "DISCARD ALL"] {
        let sql = format!("SET application_name = 'other'; {reset}\0");
        let told = answer(&server, &[hello(), message(b'Q', sql.as_bytes())].concat());
        let times = |what: &[u8]| told.windows(what.len()).filter(|window| *window == what).count();
        let (as_begun, as_set) = (times(b"application_name\0\0"), times(b"application_name\0other\0"));
        assert_eq!((as_begun, as_set), (2, 1), "{reset}: {}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn formats_that_do_not_fit_are_a_failure() {
    let server = shop();
    let sql = "SELECT 1 -- of three formats";
    let parse = message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    let bind = message(b'B', b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0");
    // It has to stay: what is planned for a client that goes away is cancelled.
    let mut stream = TcpStream::connect(address(&server)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream.write_all(&[hello(), parse, bind, message(b'S', b"")].concat()).expect("sent");
    let mut told = Vec::new();
    while !has(&told, "08P01") {
        let mut some = [0; 1_000];
        let length = stream.read(&mut some).expect("told");
        assert!(length > 0, "{}", String::from_utf8_lossy(&told));
        told.extend_from_slice(&some[..length]);
    }
    let listed = super::queries(&server).into_iter().find(|query| query["sql"] == sql).expect("listed");
    assert_eq!(listed["state"], "failed", "{listed}");
}

#[test]
fn who_has_not_logged_in_takes_no_memory_and_no_place_for_long() {
    let server = shop_with(|config| config.postgres_connections_max = 4);
    let request = server.post("/v1/tokens").json(&json!({"name": "a", "scopes": ["admin"]}));
    success(request.send().expect("post"));
    // A password of a gigabyte is not waited for.
    let told = answer(&server, &[hello(), b"p\x40\0\0\0".to_vec()].concat());
    assert!(has(&told, "08P01"), "{}", String::from_utf8_lossy(&told));
    let told = answer(&server, &[hello(), message(b'Q', b"SELECT 1\0")].concat());
    assert!(has(&told, "08P01") && !has(&told, "SELECT 1"), "{}", String::from_utf8_lossy(&told));
    let mut slow: Vec<_> = (0..4).map(|_| TcpStream::connect(address(&server)).expect("connect")).collect();
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream.write_all(b"\0").expect("a byte");
    }
    let begin = Instant::now();
    for stream in &mut slow {
        let mut told = Vec::new();
        stream.read_to_end(&mut told).expect("told");
        assert!(has(&told, "08006"), "{}", String::from_utf8_lossy(&told));
    }
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_kept_for_a_connection_is_bounded() {
    let server = shop();
    let client = Client::of(&server);
    let prepared: Vec<_> = (0..300)
        .map(|number| client.wait(client.client.prepare(&format!("SELECT {number}"))))
        .take_while(Result::is_ok)
        .collect();
    assert!((200..=256).contains(&prepared.len()), "{}", prepared.len());
    drop(prepared);
    let long = format!("SELECT 1 -- {}", "x".repeat(1 << 20));
    assert_eq!(client.refused(&long).0.code(), "54000");
    let rather_long = format!("SELECT 1 -- {}", "x".repeat(64 << 10));
    assert_eq!(client.text(&rather_long), "1");
    let sync = message(b'S', b"");
    let name = "n".repeat(2_000);
    let said = [b"\0SELECT 1\0", &2_000i16.to_be_bytes()[..], &[0; 8_000]].concat();
    for (parse, code) in [
        (format!("{name}\0SELECT 1\0\0\0").into_bytes(), "42622"),
        (format!("\0{long}\0\0\0").into_bytes(), "54000"),
        (said, "54000"),
    ] {
        let told = answer(&server, &[hello(), message(b'P', &parse), sync.clone()].concat());
        assert!(has(&told, code) && !has(&told, "FATAL"), "{}", String::from_utf8_lossy(&told));
    }
    let bind = format!("{name}\0\0\0\0\0\0\0\0");
    let told = answer(&server, &[hello(), message(b'B', bind.as_bytes()), sync].concat());
    assert!(has(&told, "42622"), "{}", String::from_utf8_lossy(&told));
    unharmed(&server);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_bytes_harm_nobody(
        begins_well: bool,
        frames in prop::collection::vec(
            (prop::sample::select(b"QPBDECHSXpdcf?".to_vec()), prop::collection::vec(any::<u8>(), 0..40), any::<bool>()),
            0..8,
        ),
        rest in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        use std::sync::LazyLock;
        static SERVER: LazyLock<TestServer> = LazyLock::new(shop);
        let mut bytes = if begins_well { hello() } else { Vec::new() };
        for (kind, body, is_text) in &frames {
            let end = if *is_text { &[0][..] } else { &[] };
            bytes.extend(message(*kind, &[body, end].concat()));
        }
        bytes.extend(&rest);
        let told = answer(&SERVER, &bytes);
        // A thread that panicked would have told nothing of what was asked well.
        prop_assert!(!begins_well || told.first() == Some(&b'R'), "{:?}", told);
        prop_assert!(!has(&told, "panicked"), "{:?}", String::from_utf8_lossy(&told));
        unharmed(&SERVER);
    }
}
