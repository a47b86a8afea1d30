//! What bitmaps may take: of time where they are gathered, of memory where they are kept.

use crate::support::World;
use engine_sql::session::SqlErrorKind;
use std::time::{Duration, Instant};

/// Were all that is gathered looked at for each row, it would be minutes.
#[test]
fn a_row_costs_the_same_however_much_is_gathered() {
    let world = World::new(1);
    for (call, rows) in [
        ("bitmap_union_count(to_bitmap(x * 65536))", 100_000),
        ("bitmap_union_of_count(to_bitmap(x * 65536), 'a', 'a')", 100_000),
        ("bsi_sum(bsi_add_agg(bsi_build([x * 65536], [1])))[2]", 100_000),
        ("bsi_sum(bsi_merge_agg(bsi_build([x * 65536], [1])))[2]", 100_000),
    ] {
        let begun = Instant::now();
        assert_eq!(world.ask(&format!("SELECT {call} FROM generate_series(1, {rows}) t(x)")), [rows.to_string()]);
        let took = begun.elapsed();
        println!("{call}: {took:?}");
        assert!(took < Duration::from_secs(40), "{call} took {took:?}");
    }
    let error = world.refused("SELECT bsi_merge_agg(bsi_build([x % 9999], [1])) FROM generate_series(1, 10000) t(x)");
    assert!(error.to_string().contains("both have a number for key"), "{error}");
}

#[test]
fn what_is_made_of_constants_is_counted_together() {
    let world = World::new(1);
    let part = |at: usize| format!("bitmap_to_array(bitmap_fill(bitmap_empty(), {at}, 600000))");
    assert_eq!(world.ask(&format!("SELECT cardinality({})", part(0))), ["600000"]);
    for from in ["", " FROM generate_series(1, 3)"] {
        let error = world.refused(&format!("SELECT {}, {}{from}", part(0), part(1)));
        assert_eq!(error.kind, SqlErrorKind::Invalid);
        assert!(error.to_string().contains("what functions make of constants"), "{error}");
    }
    // Answers that are gone with their batch are not counted.
    let many = "SELECT count(*) FROM generate_series(1, 100000) t(x) WHERE bitmap_contains((SELECT bitmap_or(b, b) FROM \
                (SELECT bitmap_fill(to_bitmap(9), 0, 4294967295) AS b)), x)";
    assert_eq!(world.ask(many), ["100000"]);
}

#[test]
fn windows_that_keep_bitmaps_are_bounded() {
    let world = World::new(1);
    let of = |call: &str| {
        format!(
            "SELECT {call} OVER (ORDER BY x) FROM (SELECT x, bitmap_fill(to_bitmap(0), x * 50000000, (x + 1) * 50000000) AS b FROM generate_series(1, 150) t(x))"
        )
    };
    let error = world.refused(&of("bitmap_union(b)"));
    assert_eq!(error.kind, SqlErrorKind::Invalid);
    assert!(error.to_string().contains("count them instead, by"), "{error}");
    assert_eq!(world.ask(&of("bitmap_union_count(b)")).len(), 150);
}

#[test]
fn expressions_are_not_too_deep() {
    let world = World::new(1);
    let nested = |depth: usize| format!("{}A{}", "(A|".repeat(depth), ")".repeat(depth));
    let asked = |depth| {
        format!(
            "SELECT k, bitmap_expr_count(b, 'A', '{}') FROM (VALUES (1, to_bitmap(1)), (2, to_bitmap(2))) t(k, b) GROUP BY k ORDER BY k",
            nested(depth)
        )
    };
    assert_eq!(world.ask(&asked(100)), ["1 | 1", "2 | 1"]);
    let error = world.refused(&asked(101));
    assert!(error.to_string().contains("more than 100 parentheses are open"), "{error}");
}
