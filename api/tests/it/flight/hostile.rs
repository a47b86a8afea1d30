//! Whoever sends what makes no sense is told so, and harms nobody else; and sessions, which are a client's own.

use super::{Client, assert_told, rows, shop};
use arrow_flight::sql::{Any, CommandStatementIngest, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tonic::Code;

#[test]
fn garbage_is_refused_and_the_server_goes_on() {
    let server = shop();
    let mut client = Client::of(&server);
    let real = client.info("SELECT count(*) FROM users").expect("planned");
    let real = real.endpoint[0].ticket.clone().expect("a ticket").ticket.to_vec();
    let mut random = StdRng::seed_from_u64(7);
    let mut noise = |length: usize| (0..length).map(|_| random.random::<u8>()).collect::<Vec<u8>>();
    let mut cases: Vec<Vec<u8>> = (0..200).map(|at| noise(at % 70)).collect();
    for at in 0..real.len() {
        let mut bent = real.clone();
        bent[at] ^= 0x41;
        cases.push(bent);
    }
    let types =
        ["CommandStatementQuery", "CommandGetTables", "TicketStatementQuery", "CommandStatementIngest", "NoSuchThing"];
    for name in types {
        let type_url = format!("type.googleapis.com/arrow.flight.protocol.sql.{name}");
        cases.push(Any { type_url, value: noise(40).into() }.encode_to_vec());
    }
    let refusals = [Code::InvalidArgument, Code::Unimplemented, Code::NotFound];
    let is_refusal = |status: &tonic::Status| refusals.contains(&status.code());
    for bytes in cases {
        let mut raw = client.raw();
        client.wait(async {
            let ticket = Ticket::new(bytes.clone());
            if let Err(status) = raw.do_get(ticket).await {
                assert!(is_refusal(&status), "do_get {bytes:?}: {status}");
            }
            let descriptor = FlightDescriptor::new_cmd(bytes.clone());
            for told in [
                raw.get_flight_info(descriptor.clone()).await.map(drop),
                raw.get_schema(descriptor.clone()).await.map(drop),
                raw.poll_flight_info(descriptor.clone()).await.map(drop),
                raw.do_put(futures::stream::iter([FlightData::new().with_descriptor(descriptor.clone())]))
                    .await
                    .map(drop),
                raw.do_put(futures::stream::iter([FlightData::new().with_data_header(bytes.clone())])).await.map(drop),
            ] {
                if let Err(status) = told {
                    assert!(is_refusal(&status), "{bytes:?}: {status}");
                }
            }
            for action in [
                "CreatePreparedStatement",
                "ClosePreparedStatement",
                "CancelQuery",
                "CancelFlightInfo",
                "SetSessionOptions",
            ] {
                if let Err(status) = raw.do_action(Action::new(action, bytes.clone())).await {
                    assert!(is_refusal(&status), "{action} {bytes:?}: {status}");
                }
            }
        });
    }
    // Rows that are none, behind a command that is one.
    for header in [&b"\xff\xff\xff\xff"[..], &[0; 64], b"not a message at all"] {
        let command = CommandStatementIngest { table: "purchase".into(), ..CommandStatementIngest::default() };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let message = FlightData::new()
            .with_descriptor(descriptor)
            .with_data_header(header.to_vec())
            .with_data_body(vec![1; 100]);
        let status = client.wait(client.raw().do_put(futures::stream::iter([message]))).map(drop).expect_err("no rows");
        assert_told(&status, Code::InvalidArgument, "Arrow stream");
    }
    assert_eq!(client.rows("SELECT count(*) FROM users"), ["4"]);
}

#[test]
fn what_speaks_no_grpc_is_turned_away() {
    let server = shop();
    let mut random = StdRng::seed_from_u64(11);
    for length in [0, 1, 9, 24, 100, 70_000] {
        let noise: Vec<u8> = (0..length).map(|_| random.random()).collect();
        for preface in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(server.flight()).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
            let mut sent = preface.to_vec();
            sent.extend(&noise);
            // It may be closed before all is sent.
            let _ = stream.write_all(&sent).and_then(|()| stream.read(&mut [0; 1024]));
        }
    }
    assert_eq!(Client::of(&server).rows("SELECT 1"), ["1"]);
}

#[test]
fn questions_are_small() {
    let server = shop();
    let mut client = Client::of(&server);
    let long = |bytes: usize| format!("SELECT 1 -- {}", "x".repeat(bytes));
    let large = client.info(&long(3 << 20)).expect_err("too large");
    assert_told(&large, Code::OutOfRange, "too large");
    // Nor is much told of it.
    let wrong = client.info(&format!("SELECT {} FROM users", "x".repeat(100_000))).expect_err("no such column");
    assert!(wrong.message().len() < 2_000, "{} bytes", wrong.message().len());
    assert_eq!(client.rows("SELECT 1"), ["1"]);
}

#[test]
fn handles_are_of_one_kind_and_end() {
    let server = shop();
    let client = Client::of(&server);
    let mut sql = client.sql.clone();
    let prepared = client.wait(sql.prepare("SELECT 1".into(), None)).expect("prepared");
    let close = |handle: Vec<u8>| {
        let request =
            arrow_flight::sql::ActionClosePreparedStatementRequest { prepared_statement_handle: handle.into() };
        client.act("ClosePreparedStatement", request.as_any().encode_to_vec())
    };
    assert_told(&close(vec![7; 48]).expect_err("never was"), Code::NotFound, "no such prepared statement");
    assert_told(&close(Vec::new()).expect_err("never was"), Code::NotFound, "no such prepared statement");
    client.wait(prepared.close()).expect("closed");
    let request =
        arrow_flight::sql::ActionCreatePreparedStatementRequest { query: "SELECT 1".into(), transaction_id: None };
    let answer = client.act("CreatePreparedStatement", request.as_any().encode_to_vec()).expect("prepared");
    let answer: arrow_flight::sql::ActionCreatePreparedStatementResult =
        Any::decode(&*answer[0]).expect("an envelope").unpack().expect("a result").expect("of this type");
    let handle = answer.prepared_statement_handle;
    // The handle of a prepared statement is no ticket.
    let ticket = TicketStatementQuery { statement_handle: handle.clone() }.as_any().encode_to_vec();
    let mut fetching = Client::of(&server);
    assert_told(&fetching.fetch(Ticket::new(ticket)).expect_err("no ticket"), Code::InvalidArgument, "no ticket");
    close(handle.to_vec()).expect("closed");
    assert_told(&close(handle.to_vec()).expect_err("closed"), Code::NotFound, "it was closed");
}

#[test]
fn a_session_keeps_its_options_under_a_cookie() {
    let server = shop();
    let client = Client::of(&server);
    // Messages by hand: field 1 a map entry of a name and a value, whose field 1 is a text and 3 a number.
    let text = |name: &str, value: &str| {
        let value = [&[0x0a, value.len() as u8], value.as_bytes()].concat();
        option(name, &value)
    };
    fn option(name: &str, value: &[u8]) -> Vec<u8> {
        let entry = [&[0x0a, name.len() as u8], name.as_bytes(), &[0x12, value.len() as u8], value].concat();
        [&[0x0a, entry.len() as u8], &*entry].concat()
    }
    let number = |name: &str, value: i64| option(name, &[&[0x19][..], &value.to_le_bytes()].concat());
    let act = |name: &str, body: Vec<u8>, cookie: Option<&str>| {
        let mut raw = client.raw();
        client.wait(async {
            let mut request = tonic::Request::new(Action::new(name, body));
            if let Some(cookie) = cookie {
                request.metadata_mut().insert("cookie", format!("a=b; {cookie}").parse().expect("a cookie"));
            }
            let response = raw.do_action(request).await.expect("an answer");
            let set = response.metadata().get("set-cookie").map(|value| value.to_str().expect("text").to_owned());
            let answer = response.into_inner().message().await.expect("an answer").map(|answer| answer.body.to_vec());
            (answer.unwrap_or_default(), set)
        })
    };
    let contains = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    let good = [text("schema", "system"), text("catalog", "beluga"), number("timeout_ms", 1234)].concat();
    let (errors, cookie) = act("SetSessionOptions", good, None);
    assert!(errors.is_empty(), "{errors:?}");
    let cookie = cookie.expect("a cookie");
    let cookie = cookie.split(';').next().expect("a pair");
    let (told, _) = act("GetSessionOptions", Vec::new(), Some(cookie));
    assert!(contains(&told, "system") && told.windows(8).any(|window| window == 1234_i64.to_le_bytes()), "{told:?}");
    let (told, _) = act("GetSessionOptions", Vec::new(), None);
    assert!(contains(&told, "public"), "{told:?}");
    let (errors, again) =
        act("SetSessionOptions", [text("schema", "nowhere"), number("colour", 1)].concat(), Some(cookie));
    assert!(contains(&errors, "schema") && contains(&errors, "colour"), "{errors:?}");
    assert!(again.is_none(), "the session goes on");
    // Tables are looked for in the session's schema.
    let mut sql = client.sql.clone();
    sql.set_header("cookie", cookie);
    let ask = |sql: &arrow_flight::sql::client::FlightSqlServiceClient<_>| {
        let mut sql = sql.clone();
        client.wait(sql.execute("SELECT count(*) FROM queries".into(), None)).map_err(super::told)
    };
    ask(&sql).expect("system.queries");
    act("CloseSession", Vec::new(), Some(cookie));
    // What it set holds no longer, which the client has to know.
    assert_told(&ask(&sql).expect_err("the session is closed"), Code::NotFound, "no such session: it was closed");
}

#[test]
fn a_handshake_gives_the_header_of_all_calls() {
    let server = shop();
    let mut client = Client::of(&server);
    let mut sql = client.sql.clone();
    let payload = client.wait(sql.handshake("ann", "secret")).expect("let in");
    assert_eq!((&payload[..], sql.token().map(String::as_str)), (&b"Bearer secret"[..], Some("secret")));
    let info = client.wait(sql.execute("SELECT 1".into(), None)).expect("planned");
    assert_eq!(rows(&client.fetch_all(info).expect("rows")), ["1"]);
}

#[test]
fn a_server_without_flight_has_none() {
    let server = crate::support::TestServer::with(|config| config.flight = None);
    assert!(server.get("/readyz").send().expect("get").status().is_success());
}
