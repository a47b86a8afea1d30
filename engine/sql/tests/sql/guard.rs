//! What is refused, what is bounded, and how soon a statement ends.

use crate::support::World;
use engine::audience::naive::Random;
use engine::audience::ops::QueryContext;
use engine::update::UpdateBatch;
use engine_sql::session::{STATEMENT_NAME_BYTES_MAX, STATEMENT_OPERATORS_MAX, SqlErrorKind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn only_questions_are_taken() {
    let world = World::new(1);
    for text in [
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY users TO '/tmp/out.csv'",
        "COPY (SELECT 1) TO '/tmp/out.parquet'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE users",
        "INSERT INTO users VALUES (1)",
        "UPDATE users SET age = 1",
        "DELETE FROM users",
        "SET datafusion.runtime.temp_directory = '/tmp'",
        "RESET datafusion.execution.batch_size",
        "SHOW ALL",
        "SHOW datafusion.execution.batch_size",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "SELECT 1 INTO t",
        "SELECT 1; SELECT 2",
        "EXPLAIN DELETE FROM users",
        "WITH d AS (DELETE FROM users RETURNING *) SELECT 1",
        "LOAD DATA INPATH '/x' INTO TABLE t",
    ] {
        let error = world.refused(text);
        let is_refused = matches!(error.kind, SqlErrorKind::Refused | SqlErrorKind::Syntax);
        assert!(is_refused, "{text}: {error:?}");
    }
    let error = world.refused("COPY users TO '/tmp/out.csv'");
    assert_eq!(error.kind, SqlErrorKind::Refused);
    assert!(error.to_string().contains("SELECT, WITH, VALUES"), "{error}");
}

#[test]
fn no_file_can_be_reached() {
    let world = World::new(1);
    for text in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM information_schema.df_settings",
        "SELECT repeat('x', 2000000000)",
    ] {
        let error = world.refused(text);
        assert!(matches!(error.kind, SqlErrorKind::UnknownTable | SqlErrorKind::Invalid), "{text}: {error:?}");
    }
}

/// What would take the parser or the planner longer than anybody lives, or more memory than there is.
#[test]
fn what_grows_without_bound_is_refused_at_once() {
    let world = World::new(1);
    let many = |part: &str, count: usize| part.repeat(count);
    let doubled = |last: &str| {
        let tables = (1..40).map(|n| format!(", a{n} AS (SELECT x + x AS x FROM a{})", n - 1)).collect::<String>();
        format!("WITH a0 AS (SELECT age AS x FROM users){tables} {last}")
    };
    let quoted =
        (1..40).map(|n| format!(", t{n} AS (SELECT 1 FROM \"t{0}\" a, \"T{0}\" b)", n - 1)).collect::<String>();
    let texts = [
        format!("SELECT {}", many("INTERVAL ", 60)),
        format!("SELECT {}'1 day'", many("INTERVAL ", 100_000)),
        format!("SELECT {}'1 day'", many("INTERVAL - ", 60)),
        format!("SELECT {}x", many("current_time(", 60)),
        format!("SELECT {}x{}", many("cast(", 40), many(")", 40)),
        format!("SELECT {}c", many("case-", 60)),
        format!("SELECT {}c {}", many("case-", 60), many("end ", 60)),
        format!("SELECT cast(1 AS {}int{})", many("array<", 2_000), many(">", 2_000)),
        format!("{}SELECT 1", many("EXPLAIN ", 1_500)),
        doubled("SELECT count(*) FROM a39 WHERE x > 0"),
        doubled("SELECT x FROM a39"),
        format!("WITH t0 AS (SELECT 1 FROM users){quoted} SELECT count(*) FROM t39"),
        format!("SELECT '{}'", many("x", 17_000)),
        "SELECT range(2000000000)".to_owned(),
        "SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)') FROM users".to_owned(),
    ];
    for text in texts {
        let began = Instant::now();
        let shown: String = text.chars().take(60).collect();
        let error = world.refused(&text);
        let is_refused = matches!(error.kind, SqlErrorKind::TooLarge | SqlErrorKind::Syntax | SqlErrorKind::Invalid);
        assert!(is_refused, "{shown}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{shown}: {:?}", began.elapsed());
    }
    // And what people write is not.
    let nested = "SELECT CASE WHEN true THEN CASE WHEN false THEN 1 ELSE 2 END ELSE 3 END";
    assert_eq!(world.ask(nested), ["2"]);
    assert_eq!(world.ask("SELECT trim(cast(substr('  ab  ', 1, 4) AS varchar))"), ["ab"]);
    assert_eq!(world.ask("SELECT to_timestamp(0) + INTERVAL '1 day' > to_timestamp(0)"), ["true"]);
    assert_eq!(
        world.ask("SELECT sum(x) FROM (SELECT a.x + b.x AS x FROM (VALUES (1)) a(x), (VALUES (2)) b(x))"),
        ["3"]
    );
    assert_eq!(world.ask("SELECT count(*) FROM generate_series(1, 5)"), ["5"]);
}

/// Texts that are written again and again, before anybody looks how long they become.
#[test]
fn texts_that_multiply_are_refused() {
    let world = World::new(1);
    crowd(&world);
    let (commas, letters) = (",".repeat(16_000), "x".repeat(16_000));
    let list = |count: usize| vec!["''"; count].join(",");
    let half = "x".repeat(15_000);
    for text in [
        format!(
            "SELECT length(array_to_string(string_to_array(array_to_string(string_to_array('{commas}', ','), '{}'), ','), '{commas}'))",
            ",".repeat(60)
        ),
        format!("SELECT length(concat_ws(concat_ws('{letters}', {0}), {0}))", list(2_000)),
        format!("SELECT length(list_join(make_array({}), '{letters}'))", list(2_000)),
        format!(
            "SELECT length(array_join(make_array(NULL::text, NULL::text, NULL::text, NULL::text, NULL::text), ',', '{letters}'))"
        ),
        format!("SELECT length({}'{letters}'{})", "encode(".repeat(8), ", 'hex')".repeat(8)),
        format!("SELECT concat({})", vec![format!("'{letters}'"); 5].join(",")),
        format!("SELECT {}", vec![format!("'{letters}'"); 5].join(" || ")),
        format!("SELECT sum(length(concat_ws(user_id || '{letters}', {}))) FROM users", list(1_000)),
        format!("SELECT sum(length(concat(user_id, {}))) FROM users", vec![format!("'{half}'"); 20].join(",")),
    ] {
        let error = world.refused(&text);
        let is_refused = matches!(error.kind, SqlErrorKind::TooLarge | SqlErrorKind::Invalid);
        assert!(is_refused && error.to_string().contains("at most"), "{}: {error:?}", &text[..60]);
    }
    // And what people write is not.
    assert_eq!(world.ask("SELECT concat_ws('-', 'a', NULL, 'b')"), ["a-b"]);
    assert_eq!(world.ask("SELECT array_to_string(string_to_array('a,b,c', ','), ' ')"), ["a b c"]);
    assert_eq!(world.ask("SELECT concat('a', 1, 'b') || encode('c', 'hex')"), ["a1b63"]);
    let joined =
        "SELECT count(*) FROM (SELECT concat_ws('-', user_id, gender, age) AS x FROM users) WHERE x LIKE 'user-%'";
    assert_eq!(world.ask(joined), ["20000"]);
}

#[test]
fn what_recurs_makes_no_longer_texts() {
    let world = World::new(1);
    let text = "x".repeat(16_000);
    for step in ["s || s", "concat(s, s)", "CAST(s || 'x' AS varchar)"] {
        let error = world.refused(&format!(
            "WITH RECURSIVE t AS (SELECT '{text}' AS s, 1 AS n UNION ALL SELECT {step}, n + 1 FROM t WHERE n < 17) SELECT max(length(s)) FROM t"
        ));
        assert_eq!(error.kind, SqlErrorKind::Refused, "{step}: {error}");
        assert!(error.to_string().contains("cannot compute texts or lists"), "{step}: {error}");
    }
    let within = "WITH RECURSIVE t AS (SELECT [1] AS s, 1 AS n UNION ALL \
                  SELECT l, n + 1 FROM (SELECT array_concat(s, s) AS l, n FROM t) WHERE n < 17) SELECT count(*) FROM t";
    assert_eq!(world.refused(within).kind, SqlErrorKind::Refused);
    let handed_on = "WITH RECURSIVE t AS (SELECT 'a' AS s, 1 AS n UNION ALL SELECT s, n * 2 FROM t WHERE n < 17) \
                     SELECT max(s), max(n) FROM t";
    assert_eq!(world.ask(handed_on), ["a | 32"]);
}

#[test]
fn questions_of_every_kind_are_taken() {
    let world = World::new(1);
    assert_eq!(world.ask("VALUES (1), (2)"), ["1", "2"]);
    assert_eq!(world.ask("WITH a AS (SELECT 1 AS x) SELECT x + 1 FROM a;"), ["2"]);
    assert_eq!(world.ask("SELECT count(*) FROM users"), ["0"]);
    assert!(!world.ask("EXPLAIN ANALYZE SELECT count(*) FROM users").is_empty());
    assert!(world.ask("SELECT user_id FROM users").is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let world = World::new(1);
    let syntax = world.refused("SELECT count(* FROM users");
    assert_eq!(syntax.kind, SqlErrorKind::Syntax);
    assert!(syntax.span.is_some(), "{syntax:?}");
    for (text, suggestion) in [
        ("SELECT count(*) FROM users WHERE interest = 'yoga'", "array_has(interest, 'yoga')"),
        ("SELECT count(*) FROM users WHERE interest IN ('yoga', 'golf')", "array_has_any"),
        ("SELECT count(*) FROM users WHERE did(purchase)", "write did('purchase'"),
        ("SELECT coun(*) FROM users", "did you mean `count`?"),
        ("SELECT frobnicate(age) FROM users", "information_schema.routines"),
    ] {
        let error = world.refused(text);
        assert_eq!(error.kind, SqlErrorKind::Invalid, "{text}: {error:?}");
        assert!(error.to_string().contains(suggestion), "{text}: {error}");
    }
    let column = world.refused("SELECT gendr FROM users");
    assert_eq!((column.kind, column.span), (SqlErrorKind::UnknownColumn, Some(7..12)));
    assert_eq!(column.suggestion.as_deref(), Some("did you mean `gender`?"));
    let table = world.refused("SELECT 1 FROM purchse");
    assert_eq!(table.kind, SqlErrorKind::UnknownTable);
    assert_eq!(table.suggestion.as_deref(), Some("did you mean `purchase`?"));
    assert_eq!(world.refused("SELECT 1 / 0").kind, SqlErrorKind::Invalid);
    assert_eq!(world.refused("").kind, SqlErrorKind::Syntax);
}

#[test]
fn deep_and_long_statements_are_refused_and_what_is_allowed_does_not_overflow() {
    let world = World::new(1);
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(world.refused(&deep).kind, SqlErrorKind::TooLarge);
    let nots = format!("SELECT {} true", "NOT ".repeat(1_900));
    let error = world.refused(&nots);
    assert_eq!(error.kind, SqlErrorKind::TooLarge, "{error}");
    let long = format!("SELECT 1{}", " + 1".repeat(STATEMENT_OPERATORS_MAX));
    assert_eq!(world.refused(&long).kind, SqlErrorKind::TooLarge);
    let mut doubled = "WITH t0 AS (SELECT 1 FROM users)".to_owned();
    for at in 1..40 {
        doubled.push_str(&format!(", t{at} AS (SELECT 1 FROM t{0} a, t{0} b)", at - 1));
    }
    assert_eq!(world.refused(&format!("{doubled} SELECT count(*) FROM t39")).kind, SqlErrorKind::TooLarge);
    let tables: Vec<String> = (0..65).map(|at| format!("users u{at}")).collect();
    assert_eq!(world.refused(&format!("SELECT 1 FROM {}", tables.join(", "))).kind, SqlErrorKind::TooLarge);
    let recursive =
        "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT max(x) FROM n";
    assert_eq!(world.ask(recursive), ["5"]);
    let sum = format!("SELECT length(user_id){} FROM users", " + age".repeat(900));
    assert!(world.ask(&sum).is_empty());
    let any: Vec<String> = (0..600).map(|at| format!("age = {}", at * 2)).collect();
    assert_eq!(world.ask(&format!("SELECT count(*) FROM users WHERE {}", any.join(" OR "))), ["0"]);
    let ids: Vec<String> = (0..20_000).map(|at| format!("'u{at}'")).collect();
    assert_eq!(world.ask(&format!("SELECT count(*) FROM users WHERE user_id IN ({})", ids.join(","))), ["0"]);
}

fn crowd(world: &World) {
    let mut random = Random::new(3);
    let mut batch = UpdateBatch::new();
    for at in 0..20_000 {
        let user = engine::audience::naive::User { id: format!("user-{at}"), ..random.user() };
        world.push(&mut batch, &user);
    }
    world.store.write(&batch, None).expect("write");
    world.store.publish().expect("publish");
}

const ENDLESS: &str = "SELECT count(*) FROM users a, users b, users c WHERE a.age + b.age + c.age = -1";

#[test]
fn a_cancelled_statement_ends_at_once() {
    let world = World::new(2);
    crowd(&world);
    let context = QueryContext::default();
    let mut answer = world.sql.ask(world.store.snapshot(), ENDLESS, Vec::new(), &context).expect("begun");
    let cancelled = std::sync::Arc::clone(&context.cancelled);
    let at = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancelled.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = answer.next(&context.cancelled).expect_err("cancelled");
    let ended = at.join().expect("joins").elapsed();
    assert_eq!(error.kind, SqlErrorKind::Cancelled);
    assert!(ended < Duration::from_secs(10), "{ended:?}");
    drop(answer);
    // The threads are free again.
    assert_eq!(world.ask("SELECT count(*) FROM users"), ["20000"]);
}

#[test]
fn memory_is_bounded_and_what_can_goes_to_disk() {
    let world = World::with_memory(2, 4 << 20);
    crowd(&world);
    let error = world.refused("SELECT array_agg(a.user_id) FROM users a, generate_series(1, 100) t");
    assert_eq!(error.kind, SqlErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains("sql_memory_bytes"), "{error}");
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT user_id FROM users)";
    assert_eq!(world.ask(distinct), ["20000"]);
}

#[test]
fn comments_that_are_read_as_words_are_refused() {
    let world = World::new(1);
    for text in [
        "/*!äää;*/ SELECT 1",
        "SELECT 1 /*! ; */ + 2",
        "SELECT /*!did(äää)*/ 1",
        "SELECT /*!50110 1*/",
        "SELECT 1 /* a */ /*!*/",
        "SELECT 1 /*! 'open */",
    ] {
        let error = world.refused(text);
        assert_eq!(error.kind, SqlErrorKind::Refused, "{text}: {error}");
        let start = text.find("/*!").expect("it stands there");
        assert_eq!(error.span, Some(start..start + 3), "{text}");
    }
    assert_eq!(world.ask("SELECT '/*!', 1 /* /*! */ */ + 1 -- /*!"), ["/*! | 2"]);
}

#[test]
fn long_names_are_refused_and_messages_stay_short() {
    let world = World::new(1);
    let long = "n".repeat(STATEMENT_NAME_BYTES_MAX + 1);
    for text in [format!("SELECT \"{long}\" FROM users"), format!("SELECT {long}"), format!("SELECT 1 AS `{long}`")] {
        let error = world.refused(&text);
        assert_eq!(error.kind, SqlErrorKind::TooLarge, "{error}");
        assert!(error.message.contains("name"), "{error}");
    }
    let just = &long[1..];
    assert_eq!(world.refused(&format!("SELECT \"{just}\" FROM users")).kind, SqlErrorKind::UnknownColumn);
    for text in [format!("SELECT ${}", "9".repeat(100_000)), format!("SELECT abs('{}')", "ä".repeat(8_000))] {
        let error = world.refused(&text);
        assert!(error.to_string().len() < 5_000, "{} bytes: {error}", error.to_string().len());
    }
}
