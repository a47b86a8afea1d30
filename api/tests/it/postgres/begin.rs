//! How connections begin and end: tokens, settings, transactions, and how many there may be.

use super::{Client, settings, shop, shop_with, told};
use crate::support::{TestServer, success};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::error::SqlState;

fn token(server: &TestServer, by: Option<&str>, name: &str, scopes: &[&str]) -> String {
    let request = server.post("/v1/tokens").json(&json!({"name": name, "scopes": scopes}));
    let request = by.into_iter().fold(request, |request, by| request.bearer_auth(by));
    success(request.send().expect("post"))["token"].as_str().expect("its text").to_owned()
}

#[test]
fn the_password_is_a_token_and_is_looked_at_with_every_statement() {
    let server = shop();
    let early = Client::of(&server);
    assert_eq!(early.text("SELECT count(*) FROM users"), "4");
    let admin = token(&server, None, "admin", &["admin"]);
    let export = token(&server, Some(&admin), "export", &["query", "export"]);
    let query = token(&server, Some(&admin), "query", &["query"]);
    assert_eq!(early.refused("SELECT 1").0, SqlState::INVALID_PASSWORD, "who came without one is asked now");
    let with = |password: &str| Client::with(settings(&server).password(password));
    let refused = told(&with("blg_wrong").err().expect("no token"));
    assert_eq!(refused.0, SqlState::INVALID_PASSWORD, "{}", refused.1);
    assert!(Client::with(&settings(&server)).is_err(), "a password is asked for");
    let client = with(&export).expect("a token");
    assert_eq!(client.text("SELECT count(*) FROM users"), "4");
    assert_eq!(
        client.text("SELECT principal FROM system.queries WHERE door = 'postgres' AND state = 'running'"),
        "export"
    );
    let (code, why) = told(&with(&query).err().expect("statements could list users"));
    assert_eq!(code, SqlState::INSUFFICIENT_PRIVILEGE);
    assert!(why.contains("`export`"), "{why}");
    let url = server.url("/v1/tokens/export");
    assert!(server.client.delete(url).bearer_auth(&admin).send().expect("delete").status().is_success());
    assert_eq!(client.refused("SELECT 1").0, SqlState::INVALID_PASSWORD, "it was revoked");
}

#[test]
fn drivers_find_the_settings_that_they_look_for() {
    let server = shop();
    let mut with = settings(&server);
    with.application_name("test").options("-c statement_timeout=60s --search_path=system");
    let client = Client::with(&with).expect("a connection");
    for (name, value) in [
        ("transaction_isolation", "read committed"),
        ("TRANSACTION ISOLATION LEVEL", "read committed"),
        ("server_version_num", "150000"),
        ("client_encoding", "UTF8"),
        ("application_name", "test"),
        ("statement_timeout", "60s"),
        ("standard_conforming_strings", "on"),
        ("default_transaction_read_only", "on"),
    ] {
        assert_eq!(client.text(&format!("SHOW {name}")), value, "{name}");
    }
    assert!(client.texts("SHOW ALL").expect("all").len() > 20);
    client.texts("SELECT count(*) FROM queries").expect("in the schema `system`");
    client.texts("SET search_path TO public; SET TIME ZONE 'Europe/Berlin'; SET DateStyle = ISO").expect("set");
    assert_eq!(client.text("SELECT max(seen_at) FROM users"), "2026-11-20 10:00:00+00", "in UTC, and says so");
    client.texts("SELECT count(*) FROM users").expect("in the schema `public`");
    assert_eq!(client.refused("SET client_encoding = 'LATIN1'").0, SqlState::INVALID_PARAMETER_VALUE);
    assert_eq!(client.refused("SHOW nothing").0, SqlState::UNDEFINED_OBJECT);
    client.texts("SET application_name='a  b'").expect("set");
    assert_eq!(client.text("SHOW application_name"), "a  b");
    client.texts("RESET ALL; DISCARD ALL; DEALLOCATE ALL; UNLISTEN *").expect("words");
    assert!(!client.texts("SHOW TABLES").expect("a question").is_empty());
    let shown = client.wait(client.client.query_one("SHOW server_version", &[])).expect("a row");
    assert!(shown.get::<_, String>(0).starts_with("15.0 (Beluga"));
    let kept = client.wait(client.client.prepare("SELECT 1")).expect("prepared");
    client.texts("DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES").expect("there are none");
    assert_eq!(client.wait(client.client.query(&kept, &[])).expect("it is still there").len(), 1);
    let all = client.texts(&"SHOW ALL;".repeat(1_000)).expect("as often as one likes");
    assert!(all.len() > 20_000 && all.len().is_multiple_of(1_000), "{}", all.len());
    let long = Client::with(settings(&server).user("u".repeat(2_000))).err().expect("too long");
    assert_eq!(long.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
    let wrong = Client::with(settings(&server).dbname("elsewhere")).err().expect("no such database");
    assert_eq!(wrong.code(), Some(&SqlState::INVALID_CATALOG_NAME));
    // That is what clients ask for that are told nothing.
    Client::with(settings(&server).dbname("ann")).expect("the name of the user");
}

#[test]
fn transactions_are_words() {
    let server = shop();
    let mut client = Client::of(&server);
    client.texts("BEGIN; SELECT 1; COMMIT").expect("words");
    client.texts("BEGIN").expect("begun");
    assert_eq!(client.refused("SELECT nothing").0, SqlState::UNDEFINED_COLUMN);
    let (code, told) = client.refused("SELECT 1");
    assert_eq!(code, SqlState::IN_FAILED_SQL_TRANSACTION, "{told}");
    assert!(told.contains("ROLLBACK"), "{told}");
    client.texts("ROLLBACK").expect("ended");
    assert_eq!(client.text("SELECT 1"), "1");
    for end in ["COMMIT", "ROLLBACK"] {
        client.texts("BEGIN; SET LOCAL statement_timeout = '50s'").expect("set");
        assert_eq!(client.text("SHOW statement_timeout"), "50s");
        client.texts(end).expect("ended");
        assert_eq!(client.text("SHOW statement_timeout"), "0", "{end}");
    }
    client.texts("SET LOCAL statement_timeout = '50s'").expect("over at once");
    assert_eq!(client.text("SHOW statement_timeout"), "0");
    for several in ["COMMIT; SELECT 1", "SELECT 1; SELECT 2", "SELECT 1; COMMIT"] {
        let error = client.wait(client.client.prepare(several)).expect_err("one at a time");
        assert_eq!(error.code(), Some(&SqlState::SYNTAX_ERROR), "{several}");
    }
    assert_eq!(client.wait(client.client.query("; SELECT 1;", &[])).expect("one").len(), 1);
    let Client { runtime, client: driver } = &mut client;
    runtime.block_on(async {
        let mut transaction = driver.build_transaction().read_only(true).start().await.expect("begun");
        let savepoint = transaction.savepoint("a").await.expect("a savepoint");
        savepoint.query("SELECT nothing", &[]).await.expect_err("no such column");
        savepoint.rollback().await.expect("back");
        let row = transaction.query_one("SELECT count(*) FROM users", &[]).await.expect("a row");
        assert_eq!(row.get::<_, i64>(0), 4);
        transaction.commit().await.expect("committed");
    });
}

#[test]
fn there_are_as_many_connections_as_may_be() {
    let server = shop_with(|config| config.postgres_connections_max = 2);
    let first = Client::of(&server);
    let _second = Client::of(&server);
    let refused = Client::with(&settings(&server)).err().expect("one too many");
    let (code, hint) = told(&refused);
    assert_eq!(code, SqlState::TOO_MANY_CONNECTIONS);
    assert!(hint.contains("postgres_connections_max"), "{hint}");
    drop(first);
    let begin = std::time::Instant::now();
    while Client::with(&settings(&server)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "its place is not given free");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_stops_says_so() {
    let mut server = shop_with(|config| config.drain = Duration::from_secs(120));
    let client = Client::of(&server);
    assert_eq!(client.text("SELECT 1"), "1");
    let begin = std::time::Instant::now();
    server.stop();
    assert!(begin.elapsed() < Duration::from_secs(60), "a quiet connection does not hold it up");
    let error = client.texts("SELECT 1").expect_err("it has ended");
    assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
}

#[test]
fn tools_find_tables_columns_and_types() {
    let server = shop();
    let client = Client::of(&server);
    let rows = |sql: &str| {
        let rows = client.texts(sql).expect(sql).into_iter();
        rows.map(|row| row.into_iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>().join("|"))
            .collect::<Vec<_>>()
    };
    let columns = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), t.typname, a.attnotnull
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE n.nspname = 'public' AND c.relname = 'users' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname";
    let expected = [
        "age|bigint|int8|f",
        "gender|text|text|f",
        "interest|text[]|_text|t",
        "is_member|boolean|bool|t",
        "seen_at|timestamp with time zone|timestamptz|f",
        "spend|numeric|numeric|f",
        "user_id|text|text|t",
    ];
    assert_eq!(rows(columns), expected);
    let told = rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1");
    let listed = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' ORDER BY 1";
    assert_eq!(rows(&listed.replace("pg_", "pg_catalog.pg_")), told, "the same as the other schema tells");
    assert_eq!(rows("SELECT count(*) = count(DISTINCT oid) FROM pg_catalog.pg_class"), ["t"]);
    assert_eq!(
        rows("SELECT current_database(), current_schema(), current_user, pg_catalog.version() LIKE 'PostgreSQL 15%'"),
        ["beluga|public|ann|t"]
    );
    assert!(rows("SELECT typname FROM pg_catalog.pg_type WHERE typelem = 20") == ["_int8"]);
    for empty in ["pg_index", "pg_description", "pg_attrdef", "pg_constraint", "pg_proc"] {
        assert_eq!(rows(&format!("SELECT count(*) FROM pg_catalog.{empty}")), ["0"]);
    }
    // Nobody else is shown it.
    let told = server.post("/v1/sql").json(&json!({"sql": "SELECT * FROM pg_catalog.pg_class"})).send().expect("post");
    assert_eq!(told.status(), 400);
    assert_eq!(
        server.ask(
            "/v1/sql",
            &json!({"sql": "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'pg_catalog'"})
        )["rows"],
        json!([[0]])
    );
}
