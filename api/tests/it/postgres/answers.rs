//! Statements and their answers, by both protocols, whole and in parts, to their end and before.

use super::{Client, queries, shop, told};
use futures::TryStreamExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};
use tokio_postgres::NoTls;
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::{FromSql, Type};

/// A statement that ends for no other reason than being told to.
const ENDLESS: &str =
    "SELECT count(*) FROM users a, users b, users c, users d WHERE a.age + b.age + c.age + d.age = -1";
/// How soon a statement ends that nobody wants any more; far less than it takes, far more than it needs, since machines have other work.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn answers_are_those_of_rest() {
    let server = shop();
    let client = Client::of(&server);
    for sql in [
        "SELECT user_id, gender, age FROM users ORDER BY user_id",
        "SELECT count(*), sum(age), min(user_id) FROM users WHERE gender = 'f'",
        "SELECT category, weight FROM purchase ORDER BY ts",
        "SELECT name, type, scale FROM tags ORDER BY name",
        "SELECT did('purchase', category = 'shoes') FROM users WHERE user_id = 'u1' AND did('purchase')",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
        "VALUES (1, 'a'), (2, NULL)",
        "SELECT 1 WHERE FALSE",
    ] {
        let expected = server.ask("/v1/sql", &json!({"sql": sql}));
        let as_text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(true) => Some("t".to_owned()),
            Value::Bool(false) => Some("f".to_owned()),
            other => Some(other.to_string()),
        };
        let row = |row: &Value| row.as_array().expect("a row").iter().map(as_text).collect::<Vec<_>>();
        let expected: Vec<_> = expected["rows"].as_array().expect("rows").iter().map(row).collect();
        assert_eq!(client.texts(sql).expect(sql), expected, "{sql}");
    }
}

#[test]
fn every_type_has_its_text() {
    let server = shop();
    let client = Client::of(&server);
    for (sql, expected) in [
        ("true", "t"),
        ("CAST(-7 AS SMALLINT)", "-7"),
        ("CAST(12.50 AS DECIMAL(12, 2))", "12.50"),
        ("CAST(18446744073709551615 AS BIGINT UNSIGNED)", "18446744073709551615"),
        ("CAST('NaN' AS DOUBLE)", "NaN"),
        ("CAST('-inf' AS DOUBLE)", "-Infinity"),
        ("CAST(0.1 AS DOUBLE)", "0.1"),
        ("CAST(1e300 AS DOUBLE)", "1e300"),
        ("CAST('2026-11-20' AS DATE)", "2026-11-20"),
        ("CAST('2026-11-20T10:00:00.5' AS TIMESTAMP)", "2026-11-20 10:00:00.5"),
        ("(SELECT max(seen_at) FROM users)", "2026-11-20 10:00:00+00"),
        ("CAST('10:00:01' AS TIME)", "10:00:01"),
        ("INTERVAL '1 month 2 days 3 hours'", "1 mon 2 days 03:00:00"),
        ("X'00ff'", "\\x00ff"),
        ("make_array(1, NULL, 3)", "{1,NULL,3}"),
        ("make_array('a b', 'c\"', '', 'null', 'x')", "{\"a b\",\"c\\\"\",\"\",\"null\",x}"),
        ("(SELECT array_sort(interest) FROM users WHERE user_id = 'u1')", "{running,yoga}"),
        ("named_struct('a', 1)", "{a: 1}"),
        ("make_array(named_struct('a', 1), NULL)", "{\"{a: 1}\",NULL}"),
        ("make_array(NULL)", "{NULL}"),
    ] {
        assert_eq!(client.text(&format!("SELECT {sql}")), expected, "{sql}");
    }
    assert_eq!(client.texts("SELECT NULL").expect("null"), [[None]]);
}

/// A value as it came.
struct Raw(Type, Vec<u8>);

impl<'r> FromSql<'r> for Raw {
    fn from_sql(of: &Type, raw: &'r [u8]) -> Result<Raw, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(of.clone(), raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[test]
fn every_type_is_read_in_binary_by_a_driver() {
    let server = shop();
    let client = Client::of(&server);
    let row = |sql: &str| client.wait(client.client.query_one(&format!("SELECT {sql}"), &[])).expect(sql);
    assert!(row("1 = 1").get::<_, bool>(0));
    assert_eq!(row("CAST(-7 AS SMALLINT)").get::<_, i16>(0), -7);
    assert_eq!(row("CAST(7 AS INT)").get::<_, i32>(0), 7);
    assert_eq!(row("count(*) FROM users").get::<_, i64>(0), 4);
    assert_eq!(row("CAST(0.5 AS REAL)").get::<_, f32>(0), 0.5);
    assert_eq!(row("CAST(0.5 AS DOUBLE)").get::<_, f64>(0), 0.5);
    assert_eq!(row("'ä'").get::<_, String>(0), "ä");
    assert_eq!(row("X'00ff'").get::<_, Vec<u8>>(0), [0, 255]);
    assert_eq!(row("make_array(1, NULL)").get::<_, Vec<Option<i64>>>(0), [Some(1), None]);
    assert_eq!(
        row("array_sort(interest) FROM users WHERE user_id = 'u1'").get::<_, Vec<String>>(0),
        ["running", "yoga"]
    );
    assert_eq!(row("interest FROM users WHERE user_id = 'u4'").get::<_, Vec<String>>(0), [""; 0]);
    assert_eq!(row("make_array(named_struct('a', 1))").get::<_, Vec<String>>(0), ["{a: 1}"]);
    assert_eq!(row("age FROM users WHERE user_id = 'u4'").get::<_, Option<i64>>(0), None);
    let seen = row("max(seen_at) FROM users").get::<_, SystemTime>(0);
    assert_eq!(seen, SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_168_800));
    let Raw(of, decimal) = row("amount FROM purchase WHERE category = 'shoes'").get(0);
    assert_eq!((of, &*decimal), (Type::NUMERIC, [[0, 2], [0, 0], [0, 0], [0, 2], [0, 20], [19, 136]].as_flattened()));
    let Raw(of, day) = row("CAST('2000-01-03' AS DATE)").get(0);
    assert_eq!((of, &*day), (Type::DATE, [0, 0, 0, 2].as_slice()));
    let Raw(of, span) = row("INTERVAL '1 month 2 days 3 hours'").get(0);
    let expected = [&10_800_000_000i64.to_be_bytes()[..], &2i32.to_be_bytes(), &1i32.to_be_bytes()].concat();
    assert_eq!((of, span), (Type::INTERVAL, expected));
}

#[test]
fn parameters_are_of_what_they_are_compared_with() {
    let server = shop();
    let client = Client::of(&server);
    let sql = "SELECT user_id FROM users WHERE age > $1 AND gender = $2 ORDER BY 1";
    let statement = client.wait(client.client.prepare(sql)).expect("prepared");
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT]);
    assert_eq!(statement.columns()[0].type_(), &Type::TEXT);
    let ask = |age: i64, gender: &str| {
        let rows = client.wait(client.client.query(&statement, &[&age, &gender])).expect("rows");
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    assert_eq!(ask(29, "f"), ["u1"]);
    assert_eq!(ask(20, "f"), ["u1", "u3"]);
    assert_eq!(ask(20, "x"), [""; 0]);
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let seen = "SELECT count(*) FROM users WHERE seen_at > $1 AND is_member = $2";
    let row = client.wait(client.client.query_one(seen, &[&since, &true])).expect("a row");
    assert_eq!(row.get::<_, i64>(0), 1);
    let none: Option<i64> = None;
    let row =
        client.wait(client.client.query_one("SELECT count(*) FROM users WHERE age = $1", &[&none])).expect("a row");
    assert_eq!(row.get::<_, i64>(0), 0);
    // What nothing tells the type of is text, or what the client says.
    let row = client.wait(client.client.query_typed("SELECT $1", &[(&7i64, Type::INT8)])).expect("a row");
    assert_eq!(row[0].get::<_, i64>(0), 7);
    let limited = client.wait(client.client.query("SELECT user_id FROM users ORDER BY 1 LIMIT $1", &[&2i64]));
    assert_eq!(limited.expect("rows").len(), 2);
    // What would be cut is compared as it is.
    let older = "SELECT count(*) FROM users WHERE age >= $1";
    let row = client.wait(client.client.query_typed(older, &[(&31.5f64, Type::FLOAT8)])).expect("a row");
    assert_eq!(row[0].get::<_, i64>(0), 1);
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_168_800);
    let day = "SELECT CAST('2026-11-20' AS DATE) < $1";
    let row = client.wait(client.client.query_typed(day, &[(&noon, Type::TIMESTAMP)])).expect("a row");
    assert!(row[0].get::<_, bool>(0));
    let sum = client.wait(client.client.prepare_typed("SELECT age + $1 FROM users WHERE age = 31", &[Type::FLOAT8]));
    let row = client.wait(client.client.query_one(&sum.expect("prepared"), &[&0.5f64])).expect("a row");
    assert_eq!(row.get::<_, f64>(0), 31.5);
    let wrong = client.wait(client.client.query_typed("SELECT 1 WHERE 1 = $1", &[(&"x", Type::TEXT)]));
    let (code, told) = told(&wrong.expect_err("no number"));
    assert_eq!(code, SqlState::INVALID_TEXT_REPRESENTATION, "{told}");
    assert!(told.contains("$1"), "{told}");
}

#[test]
fn rows_come_in_parts_as_they_are_asked_for() {
    let server = shop();
    let mut client = Client::of(&server);
    let Client { runtime, client: driver } = &mut client;
    let took = runtime.block_on(async {
        let transaction = driver.transaction().await.expect("begun");
        let portal = transaction.bind("SELECT user_id FROM users ORDER BY 1", &[]).await.expect("bound");
        let mut took = Vec::new();
        loop {
            let rows = transaction.query_portal(&portal, 3).await.expect("rows");
            took.push(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>());
            if rows.len() < 3 {
                break;
            }
        }
        transaction.commit().await.expect("committed");
        took
    });
    assert_eq!(took, [vec!["u1", "u2", "u3"], vec!["u4"]]);
    let newest = queries(&server).into_iter().find(|query| query["door"] == "postgres").expect("listed");
    assert_eq!(json!([newest["kind"], newest["state"], newest["rows"]]), json!(["sql", "done", 4]));
}

#[test]
fn rows_that_were_not_asked_for_in_time_are_not_said_to_be_none() {
    let server = shop();
    for way in ["time", "number"] {
        let sql = format!("SELECT user_id FROM users ORDER BY 1 -- {way}");
        let mut client = Client::of(&server);
        if way == "time" {
            client.texts("SET statement_timeout = '3s'").expect("set");
        }
        let Client { runtime, client: driver } = &mut client;
        let transaction = runtime.block_on(driver.transaction()).expect("begun");
        let portal = runtime.block_on(transaction.bind(&sql, &[])).expect("bound");
        let rows = runtime.block_on(transaction.query_portal(&portal, 3)).expect("rows");
        assert_eq!(rows.len(), 3);
        if way == "number" {
            let id = wait_for(&server, &sql, "waiting")["id"].as_str().expect("a number").to_owned();
            let url = server.url(&format!("/v1/queries/{id}"));
            assert!(server.client.delete(url).send().expect("delete").status().is_success());
        }
        // It ends while its client says nothing.
        wait_for(&server, &sql, if way == "time" { "failed" } else { "cancelled" });
        let (code, told) = told(&runtime.block_on(transaction.query_portal(&portal, 3)).expect_err("it has ended"));
        assert_eq!(code, SqlState::QUERY_CANCELED, "{told}");
        assert!(told.contains(if way == "time" { "3000 ms" } else { "cancelled" }), "{told}");
    }
}

#[test]
fn rows_of_other_columns_than_were_described_are_refused() {
    let server = shop();
    let client = Client::of(&server);
    let before = client.wait(client.client.prepare("SELECT * FROM purchase")).expect("prepared");
    let grown = client.wait(client.client.prepare("SELECT category FROM purchase")).expect("prepared");
    assert_eq!(client.wait(client.client.query(&before, &[])).expect("rows").len(), 2);
    let mut with = crate::support::catalog();
    let columns = json!({"category": "string", "amount": {"decimal": [12, 2]}, "size": "string"});
    with["facts"] = json!({"purchase": {"columns": columns}});
    server.put_catalog(&with);
    server.settle();
    let (code, told) = told(&client.wait(client.client.query(&before, &[])).expect_err("there is another column"));
    assert_eq!((code, told.contains("must not change")), (SqlState::FEATURE_NOT_SUPPORTED, true), "{told}");
    assert_eq!(client.wait(client.client.query(&grown, &[])).expect("the same column").len(), 2);
    let after = client.wait(client.client.prepare("SELECT * FROM purchase")).expect("prepared");
    assert_eq!(client.wait(client.client.query(&after, &[])).expect("rows").len(), 2);
}

#[test]
fn what_is_being_described_is_cancelled_too() {
    let server = shop();
    let client = Client::of(&server);
    let token = client.client.cancel_token();
    // Planning so many columns takes far longer than telling that it is not wanted.
    let many = (0..3_000).map(|number| format!("1 AS a{number}")).collect::<Vec<_>>().join(", ");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.wait(client.client.prepare(&format!("SELECT {many}"))).map(drop));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
        // Before it begins there is nothing to cancel.
        while !asking.is_finished() {
            runtime.block_on(token.cancel_query(NoTls)).expect("sent");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (code, why) = told(&asking.join().expect("no panic").expect_err("it was cancelled"));
        assert_eq!(code, SqlState::QUERY_CANCELED, "{why}");
    });
    assert_eq!(client.text("SELECT 7"), "7", "the connection goes on");
}

#[test]
fn types_have_their_names_row_by_row() {
    let server = shop();
    let client = Client::of(&server);
    let named = "SELECT format_type(23, age) FROM users";
    assert_eq!(client.texts(named).expect("rows"), vec![[Some("integer".to_owned())]; 4]);
}

#[test]
fn a_long_answer_streams_to_its_end() {
    let server = shop();
    let client = Client::of(&server);
    let sql = "SELECT a.value + 1000 * b.value AS number, 'some text that makes a row longer' FROM range(1000) a, range(1000) b";
    let rows = client.wait(async {
        let rows = client.client.query_raw(sql, Vec::<i64>::new()).await?;
        rows.try_fold((0u64, 0i64), |(count, sum), row| async move { Ok((count + 1, sum + row.get::<_, i64>(0))) })
            .await
    });
    assert_eq!(rows.expect("all rows"), (1_000_000, 499_999_500_000));
}

#[test]
fn failures_have_a_code_a_place_and_a_hint() {
    let server = shop();
    let client = Client::of(&server);
    let place = |sql: &str| {
        let error = client.texts(sql).expect_err(sql);
        let told = error.as_db_error().expect("told").clone();
        let position = match told.position() {
            Some(ErrorPosition::Original(position)) => Some(*position),
            _ => None,
        };
        (told.code().code().to_owned(), position, told.hint().map(str::to_owned))
    };
    let (code, position, hint) = place("SELECT 'ä', agee FROM users");
    assert_eq!((code.as_str(), position), ("42703", Some(13)));
    assert!(hint.is_some_and(|hint| hint.contains("`age`")));
    assert_eq!(place("SELECT 1; SELECT * FROM usrs").0, "42P01");
    let (code, position, _) = place("SELECT 1; SELECT ) 2");
    assert_eq!(code, "42601");
    assert!(position.is_some_and(|position| position > 10), "{position:?}");
    for sql in ["DELETE FROM users", "CREATE TABLE a (b int)", "INSERT INTO tags VALUES (1)"] {
        assert_eq!(place(sql).0, "25006", "{sql}");
    }
    let error = client.wait(client.client.query("SELECT agee FROM users", &[])).expect_err("no such column");
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
    // The connection goes on.
    assert_eq!(client.text("SELECT 1"), "1");
    assert_eq!(
        client
            .texts("SELECT 1; SELECT 2; SELECT nothing; SELECT 3")
            .expect_err("one is wrong")
            .code()
            .map(SqlState::code),
        Some("42703")
    );
    assert_eq!(client.texts("SELECT 1; SELECT 2;").expect("both").len(), 2);
    assert_eq!(client.texts(" ; -- nothing").expect("nothing").len(), 0);
}

fn wait_for(server: &crate::support::TestServer, sql: &str, state: &str) -> Value {
    let begin = Instant::now();
    loop {
        let found = queries(server).into_iter().find(|query| query["sql"] == sql && query["state"] == state);
        if let Some(query) = found {
            return query;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "it is not {state}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_statement_ends_when_it_is_cancelled_late_or_left() {
    let server = shop();
    let lines: String =
        (0..3_000).map(|at| format!("{{\"user_id\":\"w{at}\",\"set\":{{\"age\":{}}}}}\n", at % 90)).collect();
    server.post_tags(&lines);
    server.settle();
    for way in ["request", "number", "time", "leave"] {
        let sql = format!("{ENDLESS} -- {way}");
        let client = Client::of(&server);
        let token = client.client.cancel_token();
        if way == "time" {
            client.texts("SET statement_timeout = '300ms'").expect("set");
        }
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| match way {
                "leave" => client.wait(async {
                    let asked = client.client.simple_query(&sql);
                    assert!(tokio::time::timeout(Duration::from_millis(500), asked).await.is_err(), "it does not end");
                    None
                }),
                _ => Some(client.refused(&sql)),
            });
            if way != "time" {
                wait_for(&server, &sql, "running");
            }
            let begin = Instant::now();
            match way {
                "request" => {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
                    runtime.block_on(token.cancel_query(NoTls)).expect("sent");
                }
                "number" => {
                    let id = wait_for(&server, &sql, "running")["id"].as_str().expect("a number").to_owned();
                    let url = server.url(&format!("/v1/queries/{id}"));
                    assert!(server.client.delete(url).send().expect("delete").status().is_success());
                }
                _ => {}
            }
            if let Some((code, told)) = asking.join().expect("no panic") {
                assert_eq!(code, SqlState::QUERY_CANCELED, "{way}: {told}");
                assert!(begin.elapsed() < SOON, "{way}: {:?}", begin.elapsed());
                assert!(told.contains(if way == "time" { "300 ms" } else { "cancelled" }), "{told}");
                assert_eq!(client.text("SELECT 7"), "7", "the connection goes on");
            }
        });
        drop(client);
        wait_for(&server, &sql, if way == "time" { "failed" } else { "cancelled" });
    }
}
