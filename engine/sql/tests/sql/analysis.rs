//! Funnels, sequences and retention over many rows, beside the same questions in plain SQL; and what they may take.

use crate::support::{World, rows};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use engine_sql::session::{Question, SqlErrorKind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Events of 997 users in no order at all, with many of one moment.
fn events(rows: usize) -> String {
    let mixed = |by: u32, below: u32| format!("(i * {by}) % 4294967296 / 65536 % {below}");
    format!(
        "(SELECT i % 997 AS u, {} AS ts, {} AS e FROM generate_series(1, {rows}) t(i))",
        mixed(2_246_822_519, 150),
        mixed(2_654_435_761, 9)
    )
}

/// Two steps can be asked with a join.
#[test]
fn two_steps_are_those_of_a_join() {
    let world = World::new(1);
    for (condition, modes) in [
        ("b.ts BETWEEN a.ts AND a.ts + 9", ""),
        ("b.ts BETWEEN a.ts + 1 AND a.ts + 9", "'strict_increase',"),
        ("b.ts BETWEEN a.ts AND a.ts + 9", "'strict_once',"),
    ] {
        let joined = world.ask(&format!(
            "WITH e AS {events} SELECT a.u, max(CASE WHEN b.u IS NULL THEN 1 ELSE 2 END) FROM e a LEFT JOIN e b \
             ON a.u = b.u AND b.e = 1 AND {condition} WHERE a.e = 0 GROUP BY a.u ORDER BY a.u",
            events = events(20_000)
        ));
        let levels = |call: &str| {
            world.ask(&format!(
                "SELECT u, l FROM (SELECT u, {call} AS l FROM {} GROUP BY u) WHERE l > 0 ORDER BY u",
                events(20_000)
            ))
        };
        assert_eq!(levels(&format!("window_funnel(9, {modes} ts, e = 0, e = 1)")), joined, "{modes}");
        let ones = joined.iter().filter(|row| row.ends_with("| 1")).count();
        assert!(ones > 50 && joined.len() - ones > 50, "{ones} of {}", joined.len());
        if !modes.contains("increase") {
            let matched = levels("CASE WHEN sequence_match('(?1)(?t<=9)(?2)', ts, e = 0, e = 1) THEN 2 ELSE 0 END");
            let twos: Vec<String> = joined.iter().filter(|row| row.ends_with("| 2")).cloned().collect();
            assert_eq!(matched, twos);
        }
    }
}

#[test]
fn what_came_back_and_how_often_are_those_of_plain_aggregates() {
    let world = World::new(1);
    let asked = |calls: &str| world.ask(&format!("SELECT u, {calls} FROM {} GROUP BY u ORDER BY u", events(20_000)));
    assert_eq!(
        asked(
            "retention(e = 0, e = 1, e = 2), sequence_count('(?1)', ts, e = 0), sequence_count('..', ts, e = 0, e < 5)"
        ),
        asked(
            "[bool_or(e = 0), bool_or(e = 0) AND bool_or(e = 1), bool_or(e = 0) AND bool_or(e = 2)], \
             count(*) FILTER (WHERE e = 0), count(*) FILTER (WHERE e < 5) / 2"
        )
    );
}

/// Groups that do not fit go to disk, and one group that does not fit is refused.
#[test]
fn they_hold_what_a_statement_may() {
    let (large, small) = (World::new(1), World::with_memory(1, 12 << 20));
    let sorted = |world: &World| {
        let mut rows = world.ask(&format!(
            "SELECT u, window_funnel(9, 'strict_order', ts, e = 0, e = 1), sequence_count('(?1).*(?2)', ts, e = 0, e = 1) FROM {} GROUP BY u",
            events(150_000)
        ));
        rows.sort();
        rows
    };
    assert_eq!(sorted(&small), sorted(&large));
    let one = format!("SELECT window_funnel(9, 'strict_order', ts, e = 0) FROM {}", events(600_000));
    let error = small.refused(&one);
    assert_eq!(error.kind, SqlErrorKind::Exhausted, "{error}");
    assert_eq!(large.ask(&one), ["1"]);
}

/// What is a constant of a call may be a parameter, and is described before anybody knows it.
#[test]
fn parameters_are_taken_and_described() {
    let world = World::new(1);
    let text = "SELECT window_funnel($1, $2, ts, e = 0, e = 1), sequenceMatch($3)(ts, e = 0, e = 1), \
                approx_count_distinct(e)['estimate'] FROM (VALUES (1, 0), (5, 1)) t(ts, e)";
    let ask = |parameters: Option<RecordBatch>| {
        let question = Question { text: text.to_owned(), parameters, ..Question::default() };
        world.sql.plan(world.store.snapshot(), &question, Vec::new(), &world.context())
    };
    let question = Question { text: text.to_owned(), ..Question::default() };
    let described = world.sql.describe(world.store.snapshot(), &question, Vec::new(), &world.context());
    assert_eq!(described.expect("described").parameters.fields().len(), 3);
    for (window, mode, pattern, wanted) in
        [(4, "default", "(?1)(?2)", "2 | true | 2"), (3, "strict_once", "(?2).*(?1)", "1 | false | 2")]
    {
        let columns: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![window])),
            Arc::new(StringArray::from(vec![mode])),
            Arc::new(StringArray::from(vec![pattern])),
        ];
        let named = columns.into_iter().enumerate().map(|(at, column)| (format!("${}", at + 1), column));
        let parameters = RecordBatch::try_from_iter(named).expect("a row");
        let mut answer = ask(Some(parameters)).expect("planned").start();
        let batch = answer.next(&AtomicBool::new(false)).expect("answered").expect("a row");
        assert_eq!(rows(&[batch]), [wanted]);
    }
}
