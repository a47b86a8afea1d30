//! Statements: planned, fetched, prepared, cancelled.

use super::{Client, assert_told, rows, shop, shop_with, ticket, told};
use crate::support::{TestServer, success};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Code;

/// Work for hours: whoever waits for it waits for its end.
const ENDLESS: &str =
    "SELECT count(*) FROM users a, users b, users c, users d WHERE a.age + b.age + c.age + d.age = -1";
/// How soon a statement ends that nobody wants any more; a hundred times what it takes, since machines have other work.
const SOON: Duration = Duration::from_secs(10);

/// A shop with enough users for [`ENDLESS`].
fn crowd(change: impl FnOnce(&mut api::config::Config)) -> TestServer {
    let server = shop_with(change);
    let lines: String =
        (0..3_000).map(|at| format!("{{\"user_id\":\"w{at}\",\"set\":{{\"age\":{}}}}}\n", at % 90)).collect();
    server.post_tags(&lines);
    server.settle();
    server
}

fn queries(server: &TestServer) -> Vec<Value> {
    success(server.get("/v1/queries").send().expect("get"))["queries"].as_array().expect("a list").clone()
}

fn state_of(server: &TestServer, sql: &str) -> Option<String> {
    let all = queries(server);
    let query = all.iter().find(|query| query["sql"] == sql)?;
    query["state"].as_str().map(str::to_owned)
}

fn cancel_by_number(server: &TestServer, sql: &str) {
    let all = queries(server);
    let query = all.iter().find(|query| query["sql"] == sql).expect("it is listed");
    let url = server.url(&format!("/v1/queries/{}", query["id"].as_str().expect("text")));
    success(server.client.delete(url).send().expect("delete"));
}

/// Waits until a statement is so far.
fn wait_for(server: &TestServer, sql: &str, state: &str) -> Duration {
    let begin = Instant::now();
    while state_of(server, sql).as_deref() != Some(state) {
        assert!(begin.elapsed() < Duration::from_secs(30), "{sql}: {:?}, not {state}", state_of(server, sql));
        std::thread::sleep(Duration::from_millis(2));
    }
    begin.elapsed()
}

#[test]
fn statements_are_answered_as_over_http() {
    let server = shop();
    let mut client = Client::of(&server);
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    assert_eq!(
        client.rows("SELECT user_id, age, spend, interest, is_member, seen_at FROM users ORDER BY user_id LIMIT 2"),
        ["u1 | 31 | 129.90 | [running, yoga] | true | 2026-11-20T10:00:00Z", "u2 | 44 | 0.50 | [golf] | false | NULL"]
    );
    assert_eq!(client.rows("SELECT sum(amount) FROM purchase"), ["23.50"]);
    // No rows are an answer too, with its columns.
    assert_eq!(client.rows("SELECT * FROM users WHERE user_id = 'nobody'"), Vec::<String>::new());
    assert!(client.rows("EXPLAIN SELECT count(*) FROM users WHERE age > 30").concat().contains("UsersExec"));
    let command = CommandStatementQuery { query: "SELECT age FROM users".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let schema = client.wait(client.raw().get_schema(descriptor.clone())).expect("a schema").into_inner();
    let schema = Schema::try_from(&schema).expect("a schema");
    assert_eq!(schema.field(0).name(), "age");
    let polled = client.wait(client.raw().poll_flight_info(descriptor)).expect("a plan").into_inner();
    assert!(polled.flight_descriptor.is_none(), "there is nothing to poll again");
    assert_eq!(rows(&client.fetch_all(polled.info.expect("a plan")).expect("rows")).len(), 4);
}

#[test]
fn large_answers_come_in_many_batches() {
    let server = crowd(|_| {});
    let mut client = Client::of(&server);
    let info = client.info("SELECT a.user_id, b.age FROM users a, users b LIMIT 100000").expect("planned");
    let batches = client.fetch_all(info).expect("rows");
    assert!(batches.len() > 3, "{} batches", batches.len());
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
}

#[test]
fn a_ticket_reads_the_snapshot_of_its_plan() {
    let server = shop_with(|config| config.cursors_max = 2);
    let mut client = Client::of(&server);
    let first = client.info("SELECT count(*) FROM users").expect("planned");
    server.post_tags("{\"user_id\":\"new\"}\n");
    server.settle();
    let second = client.info("SELECT count(*) FROM users").expect("planned");
    assert_eq!(rows(&client.fetch_all(first.clone()).expect("rows")), ["4"]);
    assert_eq!(rows(&client.fetch_all(second).expect("rows")), ["5"]);
    // All rows were sent: nothing is held for it any more.
    assert_told(&client.fetch(ticket(&first)).expect_err("gone"), Code::NotFound, "no longer held");
    // Few are held; the one that waits for longest goes.
    let waiting: Vec<_> = (0..3).map(|_| client.info("SELECT count(*) FROM users").expect("planned")).collect();
    assert_told(&client.fetch(ticket(&waiting[0])).expect_err("gone"), Code::NotFound, "too many wait");
    assert_eq!(rows(&client.fetch_all(waiting[2].clone()).expect("rows")), ["5"]);
    // A ticket of another run of the server is none.
    let mut server = server;
    server.restart();
    let mut client = Client::of(&server);
    assert_told(&client.fetch(ticket(&waiting[2])).expect_err("old"), Code::InvalidArgument, "since it was started");
}

#[test]
fn a_ticket_that_nobody_fetches_expires() {
    let server = shop_with(|config| config.cursor_idle = Duration::from_millis(50));
    let mut client = Client::of(&server);
    let info = client.info("SELECT 1").expect("planned");
    std::thread::sleep(Duration::from_millis(60));
    assert_told(&client.fetch(ticket(&info)).expect_err("late"), Code::NotFound, "not fetched for too long");
}

#[test]
fn errors_have_codes_places_and_suggestions() {
    let server = shop();
    let mut client = Client::of(&server);
    for (sql, code, says) in [
        ("SELECT gendr FROM users", Code::NotFound, "did you mean `gender`?), at line 1, column 8 (`gendr`)"),
        ("SELECT * FROM purchse", Code::NotFound, "did you mean `purchase`?"),
        ("SELECT count(* FROM users", Code::InvalidArgument, "at line 1"),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, "one at a time"),
        ("COPY users TO '/tmp/x'", Code::InvalidArgument, "nothing is changed by SQL"),
        ("SELECT age + 'x' FROM users WHERE user_id = 'u1'", Code::InvalidArgument, ""),
        ("SELECT $1", Code::InvalidArgument, "the statement has 1 parameters, and 0 values came with it"),
        ("", Code::InvalidArgument, "there is no statement"),
    ] {
        assert_told(&client.ask(sql).expect_err(sql), code, says);
    }
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_told(&client.ask(&deep).expect_err("deep"), Code::ResourceExhausted, "deep");
    let mut sql = client.sql.clone();
    let update = client.wait(sql.execute_update("DELETE FROM users".into(), None)).map_err(told);
    assert_told(&update.expect_err("refused"), Code::InvalidArgument, "nothing is changed by SQL");
    let begun = client.wait(sql.begin_transaction()).map_err(told);
    assert_told(&begun.expect_err("refused"), Code::Unimplemented, "there are no transactions");
}

#[test]
fn prepared_statements_take_values() {
    let server = shop();
    let client = Client::of(&server);
    let mut fetch = Client::of(&server);
    let mut sql = client.sql.clone();
    let text = "SELECT user_id FROM users WHERE age > $1 AND gender = $2 ORDER BY user_id";
    let mut prepared = client.wait(sql.prepare(text.into(), None)).expect("prepared");
    let types =
        prepared.parameter_schema().expect("a schema").fields().iter().map(|field| field.data_type().to_string());
    assert_eq!(types.collect::<Vec<_>>(), ["Int64", "Utf8"]);
    assert_eq!(prepared.dataset_schema().expect("a schema").field(0).name(), "user_id");
    let without = client.wait(prepared.execute()).map_err(told).expect_err("no values");
    assert_told(&without, Code::InvalidArgument, "2 parameters, and 0 values");
    let values = |ages: &[i64], genders: &[&str]| {
        let ages = Arc::new(Int64Array::from(ages.to_vec())) as _;
        let genders = Arc::new(StringArray::from(genders.to_vec())) as _;
        RecordBatch::try_from_iter([("age", ages), ("gender", genders)]).expect("values")
    };
    for (ages, genders, users) in [
        (&[20][..], &["f"][..], &["u1", "u3"][..]),
        (&[30], &["f"], &["u1"]),
        (&[30], &["x"], &[]),
        // Several rows of values: their answers come one behind the other.
        (&[30, 20, 20], &["f", "m", "f"], &["u1", "u2", "u1", "u3"]),
    ] {
        prepared.set_parameters(values(ages, genders)).expect("set");
        let info = client.wait(prepared.execute()).expect("planned");
        assert_eq!(rows(&fetch.fetch_all(info).expect("rows")), users, "{ages:?} {genders:?}");
    }
    let one = RecordBatch::try_from_iter([("age", Arc::new(Int64Array::from(vec![1])) as _)]).expect("values");
    prepared.set_parameters(one).expect("set");
    let few = client.wait(prepared.execute()).map_err(told).expect_err("too few");
    assert_told(&few, Code::InvalidArgument, "2 parameters, and 1 values");
    let update = client.wait(prepared.execute_update()).map_err(told).expect_err("refused");
    assert_told(&update, Code::InvalidArgument, "parameters");
    client.wait(prepared.close()).expect("closed");
    let wrong = client.wait(sql.prepare("SELECT agee FROM users".into(), None)).map_err(told);
    assert_told(&wrong.map(drop).expect_err("wrong"), Code::NotFound, "did you mean `age`?");
}

#[test]
fn cancelled_statements_end_at_once() {
    let server = crowd(|_| {});
    let mut client = Client::of(&server);
    // Not fetched yet.
    let info = client.info("SELECT 1").expect("planned");
    let body = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let answer = client.act("CancelFlightInfo", body.clone()).expect("an answer");
    let answer = CancelFlightInfoResult::decode(&*answer[0]).expect("a result");
    assert_eq!(answer.status(), CancelStatus::Cancelled);
    assert_eq!(client.fetch(ticket(&info)).expect_err("gone").code(), Code::NotFound);
    let again = client.act("CancelFlightInfo", body).expect("an answer");
    assert_eq!(CancelFlightInfoResult::decode(&*again[0]).expect("a result").status(), CancelStatus::NotCancellable);
    // Not fetched yet, by its number: it is over when that is answered.
    let info = client.info("SELECT 2").expect("planned");
    cancel_by_number(&server, "SELECT 2");
    assert_eq!(state_of(&server, "SELECT 2").as_deref(), Some("cancelled"));
    assert_eq!(client.fetch(ticket(&info)).expect_err("gone").code(), Code::NotFound);
    assert_eq!(
        queries(&server).iter().filter(|query| query["sql"] == "SELECT 2").count(),
        1,
        "it is not planned again"
    );
    // While it runs: by each of the actions, and by its number.
    for way in ["CancelFlightInfo", "CancelQuery", "REST"] {
        let sql = format!("{ENDLESS} -- {way}");
        let info = client.info(&sql).expect("planned");
        let (mut other, fetched) = (Client::of(&server), ticket(&info));
        let fetching = std::thread::spawn(move || other.fetch(fetched));
        wait_for(&server, &sql, "running");
        let begin = Instant::now();
        match way {
            "CancelFlightInfo" => {
                client.act(way, CancelFlightInfoRequest::new(info).encode_to_vec()).expect("cancelled");
            }
            "CancelQuery" => {
                let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
                let answer = client.act(way, request.as_any().encode_to_vec()).expect("cancelled");
                let answer: ActionCancelQueryResult =
                    Any::decode(&*answer[0]).expect("an envelope").unpack().expect("a result").expect("of this type");
                assert_eq!(answer.result, 1);
            }
            _ => cancel_by_number(&server, &sql),
        }
        let status = fetching.join().expect("no panic").expect_err("cancelled");
        assert!(begin.elapsed() < SOON, "{way}: {:?}", begin.elapsed());
        assert_told(&status, Code::Cancelled, "was cancelled");
        assert_eq!(state_of(&server, &sql).as_deref(), Some("cancelled"));
    }
    assert_eq!(server.client.delete(server.url("/v1/queries/7")).send().expect("delete").status(), 404);
}

#[test]
fn all_that_fetch_with_a_ticket_are_cancelled() {
    let server = crowd(|_| {});
    let mut client = Client::of(&server);
    let sql = format!("{ENDLESS} -- twice");
    let ticket = ticket(&client.info(&sql).expect("planned"));
    let fetching = [1, 2].map(|count| {
        let (mut other, ticket) = (Client::of(&server), ticket.clone());
        let fetching = std::thread::spawn(move || other.fetch(ticket));
        let begin = Instant::now();
        let is_running = |query: &&Value| query["sql"] == sql.as_str() && query["state"] == "running";
        while queries(&server).iter().filter(is_running).count() < count {
            assert!(begin.elapsed() < Duration::from_secs(10), "it does not run");
            std::thread::sleep(Duration::from_millis(2));
        }
        fetching
    });
    cancel_by_number(&server, &sql);
    for fetching in fetching {
        assert_told(&fetching.join().expect("no panic").expect_err("cancelled"), Code::Cancelled, "was cancelled");
    }
    assert_eq!(client.fetch(ticket).expect_err("gone").code(), Code::NotFound);
}

#[test]
fn a_statement_over_http_is_told_as_it_ended() {
    let server = crowd(|config| (config.concurrent_queries, config.queued_queries) = (1, 0));
    let left = format!("{ENDLESS} -- left");
    let leaving = server.post("/v1/sql").json(&json!({"sql": left})).timeout(Duration::from_secs(10));
    let leaving = std::thread::spawn(move || leaving.send());
    wait_for(&server, &left, "running");
    for accept in ["application/json", "text/csv"] {
        let sql = format!("SELECT 1 -- {accept}");
        let refused = server.post("/v1/sql").header("accept", accept).json(&json!({"sql": sql})).send().expect("post");
        assert_eq!(refused.status(), 429);
        assert_eq!(state_of(&server, &sql).as_deref(), Some("failed"));
    }
    leaving.join().expect("no panic").expect_err("it went away");
    wait_for(&server, &left, "cancelled");
}

#[test]
fn values_are_bounded_as_they_come() {
    let server = shop();
    let client = Client::of(&server);
    let query = "SELECT user_id FROM users WHERE gender = ?".to_owned();
    let request = ActionCreatePreparedStatementRequest { query, transaction_id: None };
    let made = client.act("CreatePreparedStatement", request.as_any().encode_to_vec()).expect("prepared");
    let made: ActionCreatePreparedStatementResult =
        Any::decode(&*made[0]).expect("an envelope").unpack().expect("a result").expect("of this type");
    let command = CommandPreparedStatementQuery { prepared_statement_handle: made.prepared_statement_handle };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let bind = |batches: Vec<RecordBatch>, schema: &Schema| {
        let encoder = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(descriptor.clone()))
            .with_schema(Arc::new(schema.clone()));
        let messages = encoder.build(futures::stream::iter(batches.into_iter().map(Ok)));
        let messages = messages.map(|message| message.expect("a message"));
        client.wait(client.raw().do_put(messages)).map(drop)
    };
    let text = |bytes: usize| {
        let texts = Arc::new(StringArray::from(vec!["x".repeat(bytes)])) as _;
        RecordBatch::try_from_iter([("gender", texts)]).expect("values")
    };
    let one = text(1).schema();
    bind(vec![text(1 << 20), text(1 << 20)], &one).expect("they fit");
    // Each of them would.
    let many = bind(vec![text(3 << 20), text(3 << 20)], &one).expect_err("too large");
    assert_told(&many, Code::InvalidArgument, "bytes of values can be bound");
    // Columns are counted before there are rows.
    let two = Schema::new(vec![one.field(0).clone(), one.field(0).clone().with_name("more")]);
    let columns = bind(Vec::new(), &two).expect_err("too many");
    assert_told(&columns, Code::InvalidArgument, "1 parameters, and 2 values");
}

#[test]
fn a_statement_ends_with_its_time_and_with_its_client() {
    let server = crowd(|config| config.concurrent_uploads = 1);
    let mut client = Client::of(&server);
    let sql = format!("{ENDLESS} -- left");
    let info = client.info(&sql).expect("planned");
    let leaving = Client::of(&server);
    let mut sql_client = leaving.sql.clone();
    leaving.wait(async {
        let mut stream = sql_client.do_get(ticket(&info)).await.expect("a stream");
        let waited = tokio::time::timeout(Duration::from_millis(200), stream.try_next()).await;
        assert!(waited.is_err(), "there are no rows for hours");
    });
    drop((sql_client, leaving));
    let took = wait_for(&server, &sql, "cancelled");
    assert!(took < SOON, "{took:?}");
    // One answer is streamed at a time; its place is free again.
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    // The client waits so long and no longer, and the server knows.
    let late = format!("{ENDLESS} -- late");
    let info = client.info(&late).expect("planned");
    let mut request = tonic::Request::new(ticket(&info));
    request.set_timeout(Duration::from_secs(2));
    let begin = Instant::now();
    let mut raw = client.raw();
    let ended = client.wait(async { raw.do_get(request).await?.into_inner().try_collect::<Vec<_>>().await });
    assert!(matches!(ended.expect_err("late").code(), Code::DeadlineExceeded | Code::Cancelled));
    assert!(begin.elapsed() < Duration::from_secs(2) + SOON, "{:?}", begin.elapsed());
    // Whichever of them noticed first.
    let begin = Instant::now();
    while !matches!(state_of(&server, &late).as_deref(), Some("failed" | "cancelled")) {
        assert!(begin.elapsed() < SOON, "it still runs");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_ran_is_told() {
    let server = shop();
    let mut client = Client::of(&server);
    client.rows("SELECT user_id FROM users");
    client.ask("SELECT nothing FROM users").expect_err("no column");
    server.ask("/v1/sql", &json!({"sql": "SELECT gender FROM users"}));
    let waiting = client.info("SELECT 7").expect("planned");
    let told = client.rows("SELECT door, sql, state, rows, principal FROM system.queries ORDER BY started_at");
    assert_eq!(
        told[..4],
        [
            "flight | SELECT user_id FROM users | done | 4 | anonymous",
            "flight | SELECT nothing FROM users | failed | 0 | anonymous",
            "rest | SELECT gender FROM users | done | 4 | anonymous",
            "flight | SELECT 7 | waiting | 0 | anonymous",
        ]
    );
    let all = queries(&server);
    assert!(all.iter().any(|query| query["error"].as_str().is_some_and(|why| why.contains("nothing"))), "{all:?}");
    assert!(all.iter().all(|query| query["elapsed_us"].as_u64().is_some_and(|elapsed| elapsed > 0)), "{all:?}");
    client.fetch_all(waiting).expect("rows");
    assert_eq!(state_of(&server, "SELECT 7").as_deref(), Some("done"));
    // What sorts holds memory, through whichever door it came.
    let sorts = "SELECT user_id FROM users ORDER BY age";
    client.rows(sorts);
    server.ask("/v1/sql", &json!({"sql": sorts}));
    let held = "SELECT count(*) FROM system.queries WHERE sql LIKE '%ORDER BY age' AND memory_bytes > 0";
    assert_eq!(client.rows(held), ["2"]);
}
