//! Rows in: into facts, tags and vector spaces, durable once they are answered, once under a key.

use super::{Client, assert_told, shop, shop_with, told};
use crate::support::{TestServer, success};
use arrow::array::{
    ArrayRef, FixedSizeListArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::datatypes::{Float32Type, Float64Type};
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::{Code, Status};

/// 2026-11-20 10:00 in milliseconds.
const WHEN: i64 = 1_795_168_800_000;

fn into(table: &str, if_there: TableExistsOption, if_missing: TableNotExistOption) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: if_missing as i32,
            if_exists: if_there as i32,
        }),
        table: table.to_owned(),
        schema: None,
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: Default::default(),
    }
}

fn append(table: &str, options: &[(&str, &str)]) -> CommandStatementIngest {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    CommandStatementIngest { options, ..into(table, TableExistsOption::Append, TableNotExistOption::Fail) }
}

fn events(numbers: std::ops::Range<i64>) -> RecordBatch {
    let users: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(|number| format!("e{number}"))));
    let times: ArrayRef =
        Arc::new(TimestampMillisecondArray::from_iter_values(numbers.clone().map(|number| WHEN + number)));
    let categories: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(|_| "bulk")));
    let amounts: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("user_id", users), ("ts", times), ("category", categories), ("amount", amounts)])
        .expect("events")
}

fn send(client: &Client, command: CommandStatementIngest, batches: Vec<RecordBatch>) -> Result<i64, Status> {
    let mut sql = client.sql.clone();
    client.wait(sql.execute_ingest(command, futures::stream::iter(batches.into_iter().map(Ok)))).map_err(told)
}

const BULK: &str = "SELECT count(*), sum(amount) FROM purchase WHERE category = 'bulk'";

fn bulk(server: &TestServer) -> Vec<String> {
    server.settle();
    Client::of(server).rows(BULK)
}

#[test]
fn events_are_on_disk_once_they_are_answered() {
    let mut server = shop();
    let client = Client::of(&server);
    let batches = vec![events(0..1_000), events(1_000..1_500), events(0..0)];
    assert_eq!(send(&client, append("purchase", &[]), batches).expect("taken"), 1_500);
    server.kill();
    server.restart();
    assert_eq!(bulk(&server), ["1500 | 1124250.00"]);
}

#[test]
fn a_key_counts_once() {
    let server = shop();
    let client = Client::of(&server);
    let keyed = || append("purchase", &[("idempotency_key", "k1")]);
    for _ in 0..2 {
        assert_eq!(send(&client, keyed(), vec![events(0..10)]).expect("taken"), 10);
    }
    assert_eq!(bulk(&server), ["10 | 45.00"]);
    let other = send(&client, keyed(), vec![events(0..11)]).expect_err("other rows");
    assert_told(&other, Code::AlreadyExists, "idempotency key");
    // As a header of the call, for clients that have no options.
    let mut sql = client.sql.clone();
    sql.set_header("idempotency-key", "k2");
    for _ in 0..2 {
        let rows = futures::stream::iter([Ok(events(0..10))]);
        assert_eq!(client.wait(sql.execute_ingest(append("purchase", &[]), rows)).expect("taken"), 10);
    }
    assert_eq!(bulk(&server), ["20 | 90.00"]);
}

#[test]
fn tags_are_updated() {
    let server = shop();
    let client = Client::of(&server);
    let mut interests = ListBuilder::new(StringBuilder::new());
    interests.append_value([Some("chess"), Some("yoga")]);
    interests.append_null();
    let users: ArrayRef = Arc::new(StringArray::from(vec!["u2", "fresh"]));
    let genders: ArrayRef = Arc::new(StringArray::from(vec![None, Some("x")]));
    let rows = RecordBatch::try_from_iter([
        ("user_id", users),
        ("gender", genders),
        ("interest", Arc::new(interests.finish()) as _),
    ]);
    assert_eq!(send(&client, append("users", &[]), vec![rows.expect("rows")]).expect("taken"), 2);
    server.settle();
    let mut client = Client::of(&server);
    let sql = "SELECT user_id, gender, age, interest FROM users WHERE user_id IN ('u2', 'fresh') ORDER BY user_id";
    // NULL changes nothing.
    assert_eq!(client.rows(sql), ["fresh | x | NULL | []", "u2 | m | 44 | [chess, yoga]"]);
}

#[test]
fn rows_that_cannot_be_are_told_and_the_others_taken() {
    let server = shop();
    let client = Client::of(&server);
    let users: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let times: ArrayRef =
        Arc::new(StringArray::from(vec!["2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z", "yesterday"]));
    let categories: ArrayRef = Arc::new(StringArray::from(vec!["bulk"; 3]));
    let amounts: ArrayRef = Arc::new(Int64Array::from(vec![1; 3]));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("user_id", users, true),
        ("ts", times, true),
        ("category", categories, true),
        ("amount", amounts, true),
    ])
    .expect("rows");
    let status = send(&client, append("purchase", &[]), vec![rows.clone()]).expect_err("two are refused");
    assert_told(&status, Code::InvalidArgument, "1 rows were taken and are on disk, 2 were refused: row 2: ");
    assert!(status.message().contains("row 3: "), "{status}");
    assert_eq!(bulk(&server), ["1 | 1.00"]);
    assert_eq!(send(&client, append("purchase", &[("refused_rows", "skip")]), vec![rows]).expect("taken"), 1);
    assert_eq!(bulk(&server), ["2 | 2.00"]);
}

#[test]
fn rows_that_were_refused_stay_refused_under_their_key() {
    let server = shop();
    let client = Client::of(&server);
    let whole: Value = server.get("/v1/catalog").send().expect("get").json().expect("JSON");
    let with_plan = |tag_type: &str| {
        let mut with = whole.clone();
        with["tags"]["plan"] = json!({"type": tag_type});
        success(server.put("/v1/catalog?allow_drop=true").json(&with).send().expect("put"));
    };
    with_plan("number");
    let users: ArrayRef = Arc::new(StringArray::from(vec!["u1", "u2"]));
    let plans: ArrayRef = Arc::new(StringArray::from(vec!["7", "gold"]));
    let rows = RecordBatch::try_from_iter([("user_id", users), ("plan", plans)]).expect("rows");
    let keyed = || append("users", &[("idempotency_key", "plans")]);
    let refused = send(&client, keyed(), vec![rows.clone()]).expect_err("gold is no number");
    assert_told(&refused, Code::InvalidArgument, "1 rows were taken and are on disk, 1 were refused: row 2: ");
    // Now both rows would be taken.
    success(server.put("/v1/catalog?allow_drop=true").json(&whole).send().expect("put"));
    with_plan("enum");
    let again = send(&client, keyed(), vec![rows.clone()]).expect_err("nothing has changed");
    assert_told(
        &again,
        Code::InvalidArgument,
        "1 rows were taken and are on disk, 1 were refused: which ones is not known",
    );
    assert_eq!(send(&client, append("users", &[]), vec![rows]).expect("another call"), 2);
}

#[test]
fn rows_that_stop_coming_give_their_place_free() {
    let server = shop_with(|config| {
        config.concurrent_uploads = 1;
        config.upload_idle = std::time::Duration::from_secs(1);
    });
    let client = Client::of(&server);
    let keyed = || append("purchase", &[("idempotency_key", "slow")]);
    let mut sql = client.sql.clone();
    let rows = futures::stream::iter([Ok(events(0..10))]).chain(futures::stream::pending());
    let stalled = client.wait(sql.execute_ingest(keyed(), rows)).map_err(told).expect_err("nothing comes any more");
    assert_told(&stalled, Code::DeadlineExceeded, "nothing of the body came for 1000 ms");
    assert_eq!(send(&client, keyed(), vec![events(0..10)]).expect("taken"), 10);
    assert_eq!(bulk(&server), ["10 | 45.00"]);
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_taken() {
    let server = shop_with(|config| config.arrow_message_bytes_max = 64 << 10);
    let client = Client::of(&server);
    use {TableExistsOption as There, TableNotExistOption as Missing};
    let cases = [
        (into("purchase", There::Fail, Missing::Create), Code::AlreadyExists, "append to it"),
        (into("purchase", There::Replace, Missing::Create), Code::InvalidArgument, "cannot be replaced"),
        (into("orders", There::Fail, Missing::Create), Code::InvalidArgument, "declare a fact `orders`"),
        (into("purchse", There::Append, Missing::Fail), Code::NotFound, "did you mean `purchase`?"),
        (
            append("purchase", &[("idempotency_kee", "x")]),
            Code::InvalidArgument,
            "there is no option `idempotency_kee`",
        ),
        (append("purchase", &[("refused_rows", "maybe")]), Code::InvalidArgument, "`fail` or `skip`"),
        (CommandStatementIngest { temporary: true, ..append("purchase", &[]) }, Code::InvalidArgument, "temporary"),
        (
            CommandStatementIngest { catalog: Some("x".into()), ..append("purchase", &[]) },
            Code::NotFound,
            "no catalog `x`",
        ),
        (
            CommandStatementIngest { schema: Some("system".into()), ..append("jobs", &[]) },
            Code::InvalidArgument,
            "not of `system`",
        ),
        (
            CommandStatementIngest { transaction_id: Some("t".into()), ..append("purchase", &[]) },
            Code::Unimplemented,
            "no transactions",
        ),
    ];
    for (command, code, says) in cases {
        assert_told(&send(&client, command, vec![events(0..5)]).expect_err(says), code, says);
    }
    let wrong = RecordBatch::try_from_iter([("user", Arc::new(StringArray::from(vec!["a"])) as _)]).expect("rows");
    assert_told(
        &send(&client, append("purchase", &[]), vec![wrong]).expect_err("columns"),
        Code::InvalidArgument,
        "user_id",
    );
    assert_eq!(bulk(&server), ["0 | NULL"]);
    // A message that is larger than one may be.
    let large = send(&client, append("purchase", &[]), vec![events(0..50_000)]).expect_err("too large");
    assert_told(&large, Code::InvalidArgument, "larger than 65536 bytes; send smaller ones");
    // A create_append into a table that is there is an append.
    let both = into("purchase", There::Append, Missing::Create);
    assert_eq!(send(&client, both, vec![events(0..5)]).expect("taken"), 5);
}

/// Vectors of users; `None`: none any more.
fn vectors<const N: usize>(users: &[(&str, Option<[f32; N]>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(users.iter().map(|(id, _)| id)));
    let numbers = users.iter().map(|(_, vector)| vector.map(|numbers| numbers.map(Some)));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(numbers, N as i32));
    RecordBatch::try_from_iter_with_nullable([("user_id", ids, false), ("vector", vectors, true)]).expect("rows")
}

#[test]
fn vectors_go_into_spaces() {
    let mut server = shop();
    let mut catalog: Value = server.get("/v1/catalog").send().expect("get").json().expect("JSON");
    catalog["spaces"] =
        json!({"taste": {"dimension": 2, "metric": "cosine"}, "visit": {"dimension": 3, "metric": "l2"}});
    server.put_catalog(&catalog);
    let client = Client::of(&server);
    let taste = |server: &TestServer, id: &str| {
        let user: Value = server.get(&format!("/v1/users/{id}")).send().expect("get").json().expect("JSON");
        user["vectors"]["taste"]["values"].clone()
    };
    let rows = vectors(&[("u1", Some([1.0, -0.5])), ("new", Some([0.0, 2.0])), ("u2", Some([1.0, 1.0]))]);
    let keyed = || append("taste", &[("idempotency_key", "v1")]);
    for _ in 0..2 {
        assert_eq!(send(&client, keyed(), vec![rows.clone()]).expect("taken"), 3);
    }
    // A list of doubles is as good, in several messages.
    let mut doubles = ListBuilder::new(arrow::array::PrimitiveBuilder::<Float64Type>::new());
    doubles.append_value([Some(0.25), Some(4.0)]);
    let columns: [(&str, ArrayRef); 2] =
        [("user_id", Arc::new(StringArray::from(vec!["u2"]))), ("vector", Arc::new(doubles.finish()))];
    let doubles = RecordBatch::try_from_iter(columns).expect("rows");
    assert_eq!(send(&client, append("taste", &[]), vec![doubles.clone(), doubles]).expect("taken"), 2);
    assert_eq!(send(&client, append("taste", &[]), vec![vectors::<2>(&[("new", None)])]).expect("taken"), 1);
    server.kill();
    server.restart();
    assert_eq!(taste(&server, "u1"), json!([1.0, -0.5]));
    assert_eq!(taste(&server, "u2"), json!([0.25, 4.0]));
    assert_eq!(taste(&server, "new"), Value::Null);

    // The space that has the name of a fact is reached through its schema.
    let client = Client::of(&server);
    let in_spaces = |table: &str| CommandStatementIngest { schema: Some("spaces".into()), ..append(table, &[]) };
    let rows = || vec![vectors(&[("u1", Some([1.0, 2.0, 3.0]))])];
    assert_eq!(send(&client, in_spaces("visit"), rows()).expect("taken"), 1);
    assert_told(&send(&client, append("visit", &[]), rows()).expect_err("a fact"), Code::InvalidArgument, "ts");
    for (command, code, says) in [
        (in_spaces("tase"), Code::NotFound, "did you mean `taste`?"),
        (in_spaces("users"), Code::NotFound, "no vector space `users`"),
        (in_spaces("taste"), Code::InvalidArgument, "has 2 numbers, these have 3"),
    ] {
        assert_told(&send(&client, command, rows()).expect_err(says), code, says);
    }
    let some = vectors(&[("u1", Some([7.0, 7.0])), ("u2", Some([0.0, 0.0]))]);
    let status = send(&client, append("taste", &[]), vec![some]).expect_err("one is refused");
    assert_told(&status, Code::InvalidArgument, "row 2: `vector`: the vector has no length");
    server.settle();
    assert_eq!(taste(&server, "u1"), json!([7.0, 7.0]));
}
