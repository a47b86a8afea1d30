//! Rows in: into facts and tags, durable once they are answered, once under a key.

use super::{Client, assert_told, shop, shop_with, told};
use crate::support::TestServer;
use arrow::array::{
    ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
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
