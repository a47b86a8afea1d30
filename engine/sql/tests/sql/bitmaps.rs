//! Bitmaps against plain sets of numbers, and what they may take of memory and time.

use crate::support::World;
use engine::audience::naive::{Random, User};
use engine::audience::ops::QueryContext;
use engine::update::UpdateBatch;
use engine_sql::session::SqlErrorKind;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

type Set = BTreeSet<u64>;

/// Calls in one statement.
const TOGETHER: usize = 8;

/// Small ones, crowded ones, and some beyond 32 bits.
fn number(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => (1 << 32) + random.below(6),
        1 => u64::MAX - random.below(3),
        2 => 65_530 + random.below(12),
        _ => random.below(24),
    }
}

fn set(random: &mut Random) -> Set {
    let mut set: Set = (0..random.below(14)).map(|_| number(random)).collect();
    if random.one_in(4) {
        let from = number(random);
        set.extend((0..random.below(40)).map(|at| from.saturating_add(at)));
    }
    set
}

fn text(set: &Set) -> String {
    set.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn list(set: impl IntoIterator<Item = u64>) -> String {
    format!("[{}]", set.into_iter().map(|number| number.to_string()).collect::<Vec<_>>().join(", "))
}

fn optional(number: Option<u64>) -> String {
    number.map_or("NULL".to_owned(), |number| number.to_string())
}

/// A row of arguments.
struct Row {
    a: Set,
    b: Set,
    c: Set,
    v: u64,
    s: u64,
    e: u64,
    /// An offset, and how many.
    o: i64,
    n: u64,
}

impl Row {
    fn draw(random: &mut Random) -> Row {
        Row {
            a: set(random),
            b: set(random),
            c: set(random),
            v: number(random),
            s: number(random),
            e: number(random),
            o: random.below(16) as i64 - 8,
            n: random.below(12),
        }
    }

    fn values(&self) -> String {
        let Row { a, b, c, v, s, e, o, n } = self;
        format!("('{}', '{}', '{}', '{v}', '{s}', '{e}', {o}, {n})", text(a), text(b), text(c))
    }

    fn ops(&self) -> Vec<(&'static str, String)> {
        let Row { a, b, c, v, s, e, o, n } = self;
        let (and, or, xor, andnot): (Set, Set, Set, Set) = (a & b, a | b, a ^ b, a - b);
        let within: Set = a.iter().copied().filter(|x| s <= x && x < e).collect();
        let outside: Set = a - &within;
        let page = |from: usize, many: u64| -> Set { a.iter().copied().skip(from).take(many as usize).collect() };
        let from_value: Set = a.iter().copied().filter(|x| x >= v).take(*n as usize).collect();
        let up_to: Set = a.iter().rev().copied().filter(|x| x <= v).take(*n as usize).collect();
        let start = if *o < 0 { a.len() as i64 + o } else { *o };
        let sub = if start < 0 { Set::new() } else { page(start as usize, *n) };
        let rank = a.iter().filter(|x| *x <= v).count();
        let index = if a.contains(v) { rank as i64 - 1 } else { -1 };
        let shared =
            if or.is_empty() { "NULL".to_owned() } else { format!("{:?}", and.len() as f64 / or.len() as f64) };
        let with = |x: u64| -> Set { a.iter().copied().chain([x]).collect() };
        let without: Set = a.iter().copied().filter(|x| x != v).collect();
        let sets = [
            ("bitmap_and(a, b)", and.clone()),
            ("bitmap_or(a, b)", or.clone()),
            ("bitmap_xor(a, b)", xor.clone()),
            ("bitmap_andnot(a, b)", andnot.clone()),
            ("bitmap_not(a, b)", andnot.clone()),
            ("bitmap_and(a, b, c)", &and & c),
            ("bitmap_or(a, b, c)", &or | c),
            ("bitmap_xor(a, b, c)", &xor ^ c),
            ("bitmap_andnot(a, b, c)", &andnot - c),
            ("bitmap_and_null2empty(a, NULL)", Set::new()),
            ("bitmap_or_null2empty(NULL, a)", a.clone()),
            ("bitmap_add(a, v)", with(*v)),
            ("bitmap_remove(a, v)", without),
            ("bitmap_subset_in_range(a, s, e)", within.clone()),
            ("bitmap_clear(a, s, e)", outside),
            ("bitmap_subset_limit(a, v, n)", from_value),
            ("bitmap_subset_limit(a, v, -n)", up_to),
            ("sub_bitmap(a, o, n)", sub),
            ("rb_select(a, n, abs(o))", page(o.unsigned_abs() as usize, *n)),
            ("rb_select(a, n, 0, true)", page(a.len().saturating_sub(*n as usize), *n)),
            ("bitmap_from_array(bitmap_to_array(a))", a.clone()),
            ("bitmap_from_base64(bitmap_to_base64(a))", a.clone()),
            ("bitmap_from_binary(bitmap_to_binary(a))", a.clone()),
        ];
        let mut found: Vec<(&'static str, String)> = sets.into_iter().map(|(call, set)| (call, list(set))).collect();
        if s <= e && e - s < 1_000 {
            let range: Set = (*s..*e).collect();
            found.push(("CASE WHEN small THEN bitmap_fill(a, s, e) ELSE NULL END", list(a | &range)));
            found.push(("CASE WHEN small THEN bitmap_flip(a, s, e) ELSE NULL END", list(a ^ &range)));
        } else {
            found.push(("CASE WHEN small THEN bitmap_fill(a, s, e) ELSE NULL END", "NULL".to_owned()));
            found.push(("CASE WHEN small THEN bitmap_flip(a, s, e) ELSE NULL END", "NULL".to_owned()));
        }
        found.extend([
            ("#bitmap_count(a)", a.len().to_string()),
            ("#bitmap_and_count(a, b)", and.len().to_string()),
            ("#bitmap_or_count(a, b)", or.len().to_string()),
            ("#bitmap_xor_count(a, b)", xor.len().to_string()),
            ("#bitmap_andnot_count(a, b)", andnot.len().to_string()),
            ("#bitmap_and_count(a, b, c)", (&and & c).len().to_string()),
            ("#bitmap_andnot_count(a, b, c)", (&andnot - c).len().to_string()),
            ("#bitmap_or_count_null2empty(a, NULL, c)", (a | c).len().to_string()),
            ("#bitmap_range_count(a, s, e)", within.len().to_string()),
            ("#bitmap_contains(a, v)", a.contains(v).to_string()),
            ("#bitmap_contains(a, b)", b.is_subset(a).to_string()),
            ("#bitmap_has_any(a, b)", (!and.is_empty()).to_string()),
            ("#bitmap_has_all(a, b)", b.is_subset(a).to_string()),
            ("#bitmap_equals(a, b)", (a == b).to_string()),
            ("#a = b", (a == b).to_string()),
            ("#bitmap_is_empty(a)", a.is_empty().to_string()),
            ("#bitmap_min(a)", optional(a.first().copied())),
            ("#bitmap_max(a)", optional(a.last().copied())),
            ("#bitmap_rank(a, v)", rank.to_string()),
            ("#bitmap_index(a, v)", index.to_string()),
            ("#bitmap_select(a, n)", optional(a.iter().nth(*n as usize).copied())),
            ("#bitmap_jaccard(a, b)", shared),
            ("#bitmap_to_string(a)", text(a)),
        ]);
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn functions_of_rows_say_what_plain_sets_say(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let world = World::new(1);
        let rows: Vec<Row> = (0..20).map(|_| Row::draw(&mut random)).collect();
        let values: Vec<String> = rows.iter().enumerate().map(|(at, row)| format!("({at}, {}", &row.values()[1..])).collect();
        let inner = format!(
            "SELECT r, bitmap_from_string(a) AS a, bitmap_from_string(b) AS b, bitmap_from_string(c) AS c, \
             CAST(v AS BIGINT UNSIGNED) AS v, CAST(s AS BIGINT UNSIGNED) AS s, CAST(e AS BIGINT UNSIGNED) AS e, o, n, \
             CAST(e AS DECIMAL(20, 0)) - CAST(s AS DECIMAL(20, 0)) BETWEEN 0 AND 999 AS small \
             FROM (VALUES {}) t(r, a, b, c, v, s, e, o, n)",
            values.join(", ")
        );
        let calls: Vec<&str> = rows[0].ops().into_iter().map(|(call, _)| call).collect();
        let shown = |call: &&str| match call.strip_prefix('#') {
            Some(call) => call.to_owned(),
            None => format!("bitmap_to_array({call})"),
        };
        // Some together: each statement is planned anew.
        for (part, calls) in calls.chunks(TOGETHER).enumerate() {
            let columns: Vec<String> = calls.iter().map(shown).collect();
            let found = world.ask(&format!("SELECT {} FROM ({inner}) ORDER BY r", columns.join(", ")));
            for (row, found) in rows.iter().zip(found) {
                let cells: Vec<String> = row.ops().into_iter().map(|(_, cell)| cell).collect();
                let expected = cells[part * TOGETHER..][..calls.len()].join(" | ");
                prop_assert_eq!(found, expected, "{}", columns.join(", "));
            }
        }
    }

    #[test]
    fn functions_of_groups_say_what_plain_sets_say(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let world = World::new(1);
        let rows: Vec<Tagged> = (0..1 + random.below(60))
            .map(|_| {
                let set = (!random.one_in(6)).then(|| set(&mut random));
                let member = (!random.one_in(6)).then(|| number(&mut random));
                (random.below(5), set, member, ['A', 'B', 'C'][random.below(3) as usize])
            })
            .collect();
        let quoted = |value: Option<String>| value.map_or("NULL".to_owned(), |value| format!("'{value}'"));
        let values: Vec<String> = rows
            .iter()
            .map(|(k, set, x, d)| {
                let (set, x) = (quoted(set.as_ref().map(text)), quoted(x.map(|x| x.to_string())));
                format!("({k}, {set}, {x}, '{d}')")
            })
            .collect();
        let inner = format!(
            "SELECT k, d, bitmap_from_string(b) AS b, CAST(x AS BIGINT UNSIGNED) AS x FROM (VALUES {}) t(k, b, x, d)",
            values.join(", ")
        );
        let mut groups: BTreeMap<u64, Vec<&Tagged>> = BTreeMap::new();
        for row in &rows {
            groups.entry(row.0).or_default().push(row);
        }
        let calls: [(&str, Naive); 8] = [
            ("bitmap_agg(x)", |rows| rows.iter().filter_map(|row| row.2).collect()),
            ("bitmap_union(b)", |rows| rows.iter().filter_map(|row| row.1.clone()).flatten().collect()),
            ("bitmap_intersect(b)", |rows| {
                rows.iter().filter_map(|row| row.1.clone()).reduce(|a, b| &a & &b).unwrap_or_default()
            }),
            ("bitmap_xor_agg(b)", |rows| {
                rows.iter().filter_map(|row| row.1.clone()).fold(Set::new(), |a, b| &a ^ &b)
            }),
            ("orthogonal_bitmap_intersect(b, d, 'A', 'B')", |rows| &of(rows, 'A') & &of(rows, 'B')),
            ("bitmap_union_of(b, d, 'A', 'B')", |rows| &of(rows, 'A') | &of(rows, 'B')),
            ("bitmap_expr(b, d, '(A|B)-C^A')", |rows| &(&(&of(rows, 'A') | &of(rows, 'B')) - &of(rows, 'C')) ^ &of(rows, 'A')),
            ("bitmap_agg(x) FILTER (WHERE d = 'A')", |rows| {
                rows.iter().filter(|row| row.3 == 'A').filter_map(|row| row.2).collect()
            }),
        ];
        for (call, oracle) in calls {
            let found = world.ask(&format!("SELECT k, bitmap_to_array({call}) FROM ({inner}) GROUP BY k ORDER BY k"));
            let expected: Vec<String> = groups.iter().map(|(k, rows)| format!("{k} | {}", list(oracle(rows)))).collect();
            prop_assert_eq!(found, expected, "{}", call);
            let all: Vec<_> = rows.iter().collect();
            let found = world.ask(&format!("SELECT bitmap_to_array({call}) FROM ({inner})"));
            prop_assert_eq!(found, [list(oracle(&all))], "{}", call);
        }
        for (count, of) in [
            ("bitmap_agg_count(x)", "bitmap_agg(x)"),
            ("bitmap_union_count(b)", "bitmap_union(b)"),
            ("bitmap_intersect_count(b)", "bitmap_intersect(b)"),
            ("bitmap_xor_agg_count(b)", "bitmap_xor_agg(b)"),
            ("intersect_count(b, d, 'A', 'B')", "orthogonal_bitmap_intersect(b, d, 'A', 'B')"),
            ("bitmap_union_of_count(b, d, 'A', 'B')", "bitmap_union_of(b, d, 'A', 'B')"),
            ("bitmap_expr_count(b, d, 'A-B')", "bitmap_expr(b, d, 'A-B')"),
        ] {
            let differs = format!("SELECT count(*) FROM (SELECT {count} AS n, bitmap_count({of}) AS m FROM ({inner}) GROUP BY k) WHERE n <> m");
            prop_assert_eq!(world.ask(&differs), ["0"], "{}", count);
        }
    }
}

/// A group, a set, a number and a letter.
type Tagged = (u64, Option<Set>, Option<u64>, char);
/// What an aggregate makes of rows, by hand.
type Naive = fn(&[&Tagged]) -> Set;

/// What the rows with this letter have together.
fn of(rows: &[&Tagged], letter: char) -> Set {
    rows.iter().filter(|row| row.3 == letter).filter_map(|row| row.1.clone()).flatten().collect()
}

fn crowd(world: &World, count: u64) -> BTreeMap<String, User> {
    let mut random = Random::new(3);
    let mut batch = UpdateBatch::new();
    let mut users = BTreeMap::new();
    for at in 0..count {
        let user = User { id: format!("user-{at}"), ..random.user() };
        world.push(&mut batch, &user);
        users.insert(user.id.clone(), user);
    }
    world.store.write(&batch, None).expect("write");
    world.store.publish().expect("publish");
    users
}

/// Gathered in parts, by shard, and put together.
#[test]
fn users_are_gathered_in_parts_as_at_once() {
    let world = World::new(16);
    crowd(&world, 20_000);
    let plan = world.plan("SELECT city, bitmap_agg(user_id) FROM users GROUP BY city");
    assert!(plan.contains("mode=Partial") && plan.contains("mode=FinalPartitioned"), "{plan}");
    // Of the others sums are beyond 64 bits.
    let usual = "age IS NULL OR age BETWEEN -1000 AND 1000";
    for by in ["city", "age", "member"] {
        let ours =
            format!("SELECT {by}, array_sort(bitmap_to_users(bitmap_agg(user_id))) AS u FROM users GROUP BY {by}");
        let plain = format!("SELECT {by}, array_sort(array_agg(user_id)) AS u FROM users GROUP BY {by}");
        let (mut ours, mut plain) = (world.ask(&ours), world.ask(&plain));
        ours.sort();
        plain.sort();
        assert_eq!(ours, plain, "{by}");
        let ours = format!(
            "SELECT {by}, groupBitmap(user_id), bsi_sum(bsi_agg(user_id, age))[1] FROM users WHERE {usual} GROUP BY {by}"
        );
        let plain = format!("SELECT {by}, count(*), coalesce(sum(age), 0) FROM users WHERE {usual} GROUP BY {by}");
        let (mut ours, mut plain) = (world.ask(&ours), world.ask(&plain));
        ours.sort();
        plain.sort();
        assert_eq!(ours, plain, "{by}");
    }
    assert_eq!(
        world.ask("SELECT groupBitmap(user_id), bitmap_count(bitmap_all_users()) FROM users"),
        ["20000 | 20000"]
    );
    let parts = "SELECT bitmap_union_count(b), bitmap_intersect_count(b) FROM (SELECT age, bitmap_agg(user_id) AS b FROM users GROUP BY age)";
    assert_eq!(world.ask(parts), ["20000 | 0"]);
}

#[test]
fn values_of_tags_are_the_users_that_have_them() {
    let world = World::new(4);
    crowd(&world, 3_000);
    let found =
        world.ask("SELECT value, users, bitmap_count(bitmap) FROM tag_values WHERE tag = 'city' ORDER BY value");
    let plain = world
        .ask("SELECT city, count(*) AS n, count(*) AS m FROM users WHERE city IS NOT NULL GROUP BY city ORDER BY city");
    assert_eq!(found, plain);
    let plain = world.ask("SELECT i, count(*) FROM (SELECT unnest(interest) AS i FROM users) GROUP BY i ORDER BY i");
    assert_eq!(world.ask("SELECT value, users FROM tag_values WHERE tag = 'interest' ORDER BY value"), plain);
    let of_one = "SELECT array_sort(bitmap_to_users(bitmap)) FROM tag_values WHERE tag = 'interest' AND value = 'yoga'";
    let plain = "SELECT array_sort(array_agg(user_id)) FROM users WHERE array_has(interest, 'yoga')";
    assert_eq!(world.ask(of_one), world.ask(plain));
    let plan = world.plan("SELECT users FROM tag_values WHERE tag = 'city' AND value LIKE 'h%' AND users > 3");
    assert!(plan.contains("TagValuesExec: columns=[users], where=[tag"), "{plan}");
    assert!(plan.contains("users@2 > 3") && !plan.contains("FilterExec"), "{plan}");
}

#[test]
fn bitmaps_say_what_they_are() {
    let world = World::new(1);
    let batches = world
        .try_ask("SELECT bitmap_agg(x) AS a, bsi_agg(x, x) AS b, to_bitmap(1) AS c, bitmap_count(bitmap_agg(x)) AS d FROM (VALUES (1)) t(x)")
        .expect("answered");
    let schema = batches[0].schema();
    let extension =
        |name: &str| schema.field_with_name(name).expect("a column").metadata().get("ARROW:extension:name").cloned();
    assert_eq!(extension("a").as_deref(), Some("beluga.bitmap"));
    assert_eq!(extension("b").as_deref(), Some("beluga.bsi"));
    assert_eq!(extension("c").as_deref(), Some("beluga.bitmap"));
    assert_eq!(extension("d"), None);
    // And go through whatever stands between.
    for text in [
        "SELECT bitmap_count(b) FROM (SELECT to_bitmap(1) AS b UNION ALL SELECT bitmap_agg(age) FROM users) ORDER BY b",
        "SELECT bitmap_count(max(b)) FROM (SELECT DISTINCT bitmap_agg(age) AS b FROM users GROUP BY city LIMIT 3)",
        "SELECT a.b FROM (SELECT bitmap_empty() AS b) a JOIN (SELECT bitmap_agg(age) AS b FROM users) c ON a.b = c.b",
        "SELECT bitmap_count(coalesce(b, bitmap_empty())), bitmap_count(CASE WHEN true THEN b END) FROM (SELECT to_bitmap(1) AS b)",
        "SELECT bitmap_count(b) FROM (SELECT first_value(bitmap) OVER (ORDER BY tag) AS b FROM tag_values)",
    ] {
        world.ask(text);
    }
}

#[test]
fn memory_of_bitmaps_is_bounded() {
    let world = World::with_memory(1, 8 << 20);
    let one = "SELECT bitmap_count(bitmap_agg(x * 65537)) FROM generate_series(1, 10000000) t(x)";
    let error = world.refused(one);
    assert_eq!(error.kind, SqlErrorKind::Exhausted, "{error}");
    // Of many groups some can go to disk.
    let groups = "SELECT sum(bitmap_count(b)) FROM (SELECT x % 1000 AS k, bitmap_agg(x * 70000) AS b \
                  FROM generate_series(1, 1000000) t(x) GROUP BY x % 1000)";
    match world.try_ask(groups) {
        Ok(batches) => assert_eq!(crate::support::rows(&batches), ["1000000"]),
        Err(error) => assert_eq!(error.kind, SqlErrorKind::Exhausted, "{error}"),
    }
    let crowded = "SELECT bitmap_count(bitmap_agg(x)) FROM generate_series(1, 1000000) t(x)";
    assert_eq!(world.ask(crowded), ["1000000"]);
    let wide = "bitmap_fill(bitmap_empty(), 0, 4294967296)";
    let many = format!("SELECT bitmap_count(bitmap_or({}))", [wide; 5].join(", "));
    assert_eq!(world.ask(&many), ["4294967296"]);
    for text in [
        format!("SELECT bitmap_to_array({wide}) FROM generate_series(1, 3)"),
        "SELECT bitmap_to_array(bitmap_fill(to_bitmap(x), 0, 1000000)) FROM generate_series(1, 1000) t(x)".to_owned(),
        "SELECT bitmap_fill(to_bitmap(x), 0, 4294967295) FROM generate_series(1, 8000) t(x)".to_owned(),
    ] {
        assert_eq!(world.refused(&text).kind, SqlErrorKind::Invalid, "{text}");
    }
}

#[test]
fn a_cancelled_statement_stops_its_bitmaps() {
    let world = World::new(1);
    let endless = "SELECT sum(bitmap_or_count(bitmap_fill(to_bitmap(x), 0, 4294967295), to_bitmap(x + 1))) FROM generate_series(1, 100000000) t(x)";
    let context = QueryContext::default();
    let mut answer = world.sql.ask(world.store.snapshot(), endless, Vec::new(), &context).expect("begun");
    let cancelled = std::sync::Arc::clone(&context.cancelled);
    let at = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancelled.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = answer.next(&context.cancelled).expect_err("cancelled");
    assert_eq!(error.kind, SqlErrorKind::Cancelled);
    assert!(at.join().expect("joins").elapsed() < Duration::from_secs(10));
    drop(answer);
    assert_eq!(world.ask("SELECT bitmap_count(to_bitmap(1))"), ["1"]);
}

/// Every name that `docs/bitmaps.md` tells is one.
#[test]
fn names_in_the_document_are_functions() {
    let world = World::new(1);
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bitmaps.md")).expect("the document");
    let mut count = 0;
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        for name in line.split('`').skip(1).step_by(2) {
            let told = world.try_ask(&format!("SELECT {name}()")).err().map(|error| error.to_string());
            let is_unknown = told.is_some_and(|told| told.contains("there is no function"));
            assert!(!is_unknown, "`{name}` is no function: {line}");
            count += 1;
        }
    }
    assert!(count > 100, "{count} names");
}
