//! Tokens and their scopes, at the door of Flight SQL.

use super::Client;
use crate::support::{TestServer, success};
use arrow_flight::sql::CommandGetTables;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use std::time::Duration;
use tonic::Code;
use tower::Service;

fn token(server: &TestServer, by: Option<&str>, name: &str, scopes: &[&str]) -> String {
    let request = server.post("/v1/tokens").json(&json!({"name": name, "scopes": scopes}));
    let request = by.into_iter().fold(request, |request, by| request.bearer_auth(by));
    success(request.send().expect("post"))["token"].as_str().expect("its text").to_owned()
}

fn client(server: &TestServer, token: &str) -> Client {
    let mut client = Client::of(server);
    client.sql.set_token(token.to_owned());
    client
}

#[test]
fn each_call_needs_the_scopes_of_what_it_does() {
    let server = TestServer::with_people();
    let admin = token(&server, None, "admin", &["admin"]);
    let query = token(&server, Some(&admin), "query", &["query"]);
    let export = token(&server, Some(&admin), "export", &["query", "export"]);
    let other = token(&server, Some(&admin), "other", &["query", "export"]);
    let ask = |client: &mut Client| client.ask("SELECT count(*) FROM users");
    let tables = |client: &mut Client| {
        let mut sql = client.sql.clone();
        client.wait(sql.get_tables(CommandGetTables::default())).map(drop).map_err(super::told)
    };
    let mut nobody = Client::of(&server);
    assert_eq!(ask(&mut nobody).expect_err("no token").code(), Code::Unauthenticated);
    assert_eq!(tables(&mut nobody).expect_err("no token").code(), Code::Unauthenticated);
    let mut wrong = client(&server, "blg_wrong");
    assert_eq!(ask(&mut wrong).expect_err("no such token").code(), Code::Unauthenticated);
    let mut admin = client(&server, &admin);
    assert_eq!(tables(&mut admin).expect_err("makes tokens only").code(), Code::PermissionDenied);
    let mut of_query = client(&server, &query);
    tables(&mut of_query).expect("tells nothing of users");
    let refused = ask(&mut of_query).expect_err("could list users");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("`export`"), "{refused}");
    let prepared = {
        let mut sql = of_query.sql.clone();
        of_query.wait(sql.prepare("SELECT 1".to_owned(), None)).map(drop).map_err(super::told)
    };
    assert_eq!(prepared.expect_err("could list users").code(), Code::PermissionDenied);
    let mut exporter = client(&server, &export);
    assert_eq!(ask(&mut exporter).expect("may"), ["4"]);
    // Another's ticket is none.
    let info = exporter.info("SELECT user_id FROM users").expect("may");
    let stolen = client(&server, &other).fetch(super::ticket(&info));
    assert_eq!(stolen.expect_err("another's").code(), Code::InvalidArgument);
    assert_eq!(
        exporter.fetch_all(info).expect("its own").iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(),
        4
    );
    // The name and password that clients are given.
    let client = Client::of(&server);
    let mut handshake = client.sql.clone();
    let shaken = client.wait(handshake.handshake("anybody", &export)).expect("known");
    assert_eq!(String::from_utf8_lossy(&shaken), format!("Bearer {export}"));
    // The first one would go on with the token that it was given.
    let other = Client::of(&server);
    let mut sql = other.sql.clone();
    let refused = other.wait(sql.handshake("anybody", "nonsense"));
    assert!(refused.is_err(), "nobody is known by that");
}

#[test]
fn nothing_is_read_of_whoever_has_no_token() {
    let server = TestServer::with_people();
    token(&server, None, "admin", &["admin"]);
    let client = Client::of(&server);
    for call in ["Handshake", "GetFlightInfo", "GetSchema", "DoGet", "DoPut", "DoAction", "DoExchange", "ListFlights"] {
        let mut channel = client.channel.clone();
        // The begin of a large message, the rest of which never comes.
        let begin = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(&[0, 0, 0xf0, 0, 0, 7, 7]))]);
        let body = tonic::body::Body::new(axum::body::Body::from_stream(begin.chain(futures::stream::pending())));
        let request = axum::http::Request::post(format!("/arrow.flight.protocol.FlightService/{call}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .expect("a request");
        let answer = client.wait(async {
            futures::future::poll_fn(|context| channel.poll_ready(context)).await.expect("connected");
            tokio::time::timeout(Duration::from_secs(10), channel.call(request)).await
        });
        let answer = answer.unwrap_or_else(|_| panic!("{call} waits for the message")).expect("an answer");
        let code = answer.headers().get("grpc-status").map(|value| value.as_bytes().to_vec());
        assert_eq!(code.as_deref(), Some(&b"16"[..]), "{call}");
    }
}
