//! Aggregates, groups and first rows of `users` against the same users as a plain table of DataFusion, without anything of ours; and
//! that they are told without rows.
//!
//! `BELUGA_SQL_STATEMENTS` is how many statements are asked.

use crate::joins;
use crate::support::{World, rows};
use crate::users::{ask_plain, condition, pick, plain, plain_session, some_users, some_world};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use engine::audience::naive::{Random, User, Value};
use engine::audience::ops::{QueryContext, QueryError};
use engine::audience::scan::{EventScan, FactScanner, KindScan, Scan, Scanned, ToldEvents, ToldKinds};
use engine::ids::Slot;
use engine::store::Snapshot;
use engine::update::{Change, UpdateBatch};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Statements unless it is set.
const STATEMENTS: usize = 300;
/// Statements that the same users are asked with.
const STATEMENTS_PER_WORLD: usize = 50;
/// Of so many statements one is looked at how it is answered.
const STATEMENTS_PER_PLAN: usize = 5;

/// Conditions that become part of a program.
const WITHIN: [&str; 7] = [
    "member",
    "gender = 'f'",
    "age BETWEEN 10 AND 40",
    "city IN ('ningbo', 'hangzhou') AND NOT member",
    "spend IS NOT NULL",
    "array_has(interest, 'yoga') OR age < 20",
    "gender IS DISTINCT FROM 'm'",
];

/// An aggregate; with exact results, so that they are the same to the last digit whatever is added first.
fn aggregate(random: &mut Random) -> String {
    let of = match random.below(12) {
        0 => "count(*)".to_owned(),
        1 => "count(1)".to_owned(),
        2 => format!("count({})", pick(random, &["age", "spend", "seen_at", "gender", "city", "member", "user_id"])),
        3 => format!("sum({})", pick(random, &["age", "spend"])),
        4 => "avg(spend)".to_owned(),
        5 => return "avg(age) FILTER (WHERE age BETWEEN -100 AND 1000)".to_owned(),
        6 | 7 => {
            format!("{}({})", pick(random, &["min", "max"]), pick(random, &["age", "spend", "seen_at"]))
        }
        8 => format!("count(DISTINCT {})", pick(random, &["gender", "city"])),
        9 => format!("median({})", pick(random, &["age", "spend"])),
        10 => {
            let place = pick(random, &["0", "0.1", "0.25", "0.333", "0.5", "0.9", "1"]);
            let order = pick(random, &["age", "spend", "age DESC"]);
            format!("percentile_cont({place}) WITHIN GROUP (ORDER BY {order})")
        }
        // What is left to rows.
        _ => pick(random, &["sum(age + 1)", "count(DISTINCT age)", "max(user_id)", "bool_or(member)"]).to_owned(),
    };
    if random.one_in(4) {
        let within = if random.one_in(5) { "city LIKE '%o%'" } else { pick(random, &WITHIN) };
        return format!("{of} FILTER (WHERE {within})");
    }
    of
}

fn aggregates(random: &mut Random, at_least: u64) -> Vec<String> {
    (0..at_least + random.below(4)).map(|_| aggregate(random)).collect()
}

/// A statement, and whether its rows have one order.
fn statement(random: &mut Random) -> (String, bool) {
    let c = if random.one_in(4) { pick(random, &WITHIN).to_owned() } else { condition(random, 2) };
    let named = |aggregates: &[String], from: usize| -> Vec<String> {
        aggregates.iter().enumerate().map(|(at, of)| format!("{of} AS a{}", at + from)).collect()
    };
    match random.below(10) {
        0..3 => (format!("SELECT {} FROM users WHERE {c}", named(&aggregates(random, 1), 0).join(", ")), true),
        3..8 => {
            let mut by: Vec<&str> = ["gender", "city", "member"].into_iter().filter(|_| random.one_in(2)).collect();
            let mut from = format!("users WHERE {c}");
            if random.one_in(3) {
                by.insert(random.below(by.len() as u64 + 1) as usize, "v");
                from = format!(
                    "(SELECT unnest(interest) AS v, user_id, age, spend, seen_at, gender, city, member, interest FROM users \
                     WHERE {c})"
                );
            }
            if by.is_empty() || random.one_in(12) {
                by.push("age");
            }
            let aggregates = aggregates(random, 0);
            let asked: Vec<String> = by.iter().map(|of| (*of).to_owned()).chain(named(&aggregates, 0)).collect();
            let mut text = format!("SELECT {} FROM {from} GROUP BY {}", asked.join(", "), by.join(", "));
            if random.one_in(4) {
                text += &format!(" HAVING count(*) > {}", random.below(4));
            }
            let is_ordered = random.one_in(2);
            if is_ordered {
                let order = |of: &&str| {
                    let order = pick(random, &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
                    format!("{of}{order}")
                };
                text += &format!(" ORDER BY {}", by.iter().map(order).collect::<Vec<_>>().join(", "));
                if random.one_in(2) {
                    text += &format!(" LIMIT {} OFFSET {}", random.below(6), random.below(4));
                }
            }
            (text, is_ordered)
        }
        8 => {
            let by = pick(random, &["age", "spend", "seen_at"]);
            let order = pick(random, &["", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST"]);
            let (limit, offset) = (random.below(20), pick(random, &["", " OFFSET 2", " OFFSET 30"]));
            // Of users with the same number any will do, unless something else tells them apart.
            match random.below(3) {
                0 => (format!("SELECT {by} FROM users WHERE {c} ORDER BY {by}{order} LIMIT {limit}{offset}"), true),
                1 => {
                    let then = pick(random, &["city DESC, user_id", "user_id", "user_id DESC"]);
                    (
                        format!(
                            "SELECT user_id, {by} AS n, city FROM users WHERE {c} ORDER BY n{order}, {then} LIMIT {limit}{offset}"
                        ),
                        true,
                    )
                }
                _ => (
                    format!(
                        "SELECT count(*), min(n), max(n) FROM (SELECT user_id, {by} AS n FROM users WHERE {c} ORDER BY {by}{order} \
                         LIMIT {limit}{offset})"
                    ),
                    true,
                ),
            }
        }
        _ => {
            let text = match random.below(6) {
                0 => format!("SELECT DISTINCT gender, member FROM users WHERE {c}"),
                1 => format!("SELECT count(DISTINCT user_id), count(DISTINCT gender) FROM users WHERE {c}"),
                2 => format!(
                    "SELECT count(DISTINCT a.user_id), count(*) FROM users a JOIN (SELECT city FROM users WHERE {c}) b ON a.city = b.city"
                ),
                3 => format!(
                    "SELECT city, count(DISTINCT user_id) FROM (SELECT user_id, city, unnest(interest) FROM users WHERE {c}) GROUP BY city"
                ),
                4 => format!("SELECT count(*) FROM (SELECT unnest(interest) AS v, age FROM users WHERE {c})"),
                _ => format!(
                    "SELECT gender, sum(n) FROM (SELECT gender, city, count(*) AS n FROM users WHERE {c} GROUP BY gender, city) GROUP BY gender"
                ),
            };
            (text, false)
        }
    }
}

fn types(batches: &[RecordBatch]) -> Option<Vec<DataType>> {
    let schema = batches.first()?.schema();
    Some(schema.fields().iter().map(|field| field.data_type().clone()).collect())
}

#[test]
fn figures_are_those_of_a_plain_table() {
    let wanted = match std::env::var("BELUGA_SQL_STATEMENTS") {
        Ok(count) => count.parse().expect("a number of statements"),
        Err(_) => STATEMENTS,
    };
    let seed = match std::env::var("BELUGA_SQL_SEED") {
        Ok(seed) => seed.parse().expect("a seed"),
        Err(_) => 4,
    };
    let (mut told, mut looked_at, mut without_rows) = (0, 0, 0);
    for number in 0..wanted.div_ceil(STATEMENTS_PER_WORLD) as u64 {
        let mut random = Random::new(seed + number);
        let world = World::new([1, 4, 16][number as usize % 3]);
        let users = some_users(&mut random, &world);
        let session = plain_session(&plain(&users));
        for _ in 0..STATEMENTS_PER_WORLD {
            let (text, is_ordered) = statement(&mut random);
            let found = world.try_ask(&text).map_err(|error| error.to_string());
            match (found, ask_plain(&session, &text)) {
                (Ok(found), Ok(expected)) => {
                    if let (Some(found), Some(expected)) = (types(&found), types(&expected)) {
                        assert_eq!(found, expected, "seed {}: {text}", seed + number);
                    }
                    let (mut found, mut expected) = (rows(&found), rows(&expected));
                    if !is_ordered {
                        found.sort();
                        expected.sort();
                    }
                    assert_eq!(found, expected, "seed {}: {text}\n{}", seed + number, world.plan(&text));
                    told += 1;
                    if told % STATEMENTS_PER_PLAN == 0 {
                        looked_at += 1;
                        let plan = world.plan(&text);
                        let is_told = |shown| plan.contains(&format!("UsersExec: {shown}"));
                        without_rows += usize::from(["count", "aggregates=[", "groups=["].into_iter().any(is_told));
                    }
                }
                (Err(_), Err(_)) => {}
                // Which rows an expression is evaluated for before another filter drops them is not laid down.
                (Ok(_), Err(error)) if error.contains("Arrow error") => {}
                (found, expected) => panic!("seed {}: {text}: {found:?} and not {expected:?}", seed + number),
            }
        }
    }
    assert!(told * 10 >= wanted * 9, "{told} of {wanted} statements were answered");
    assert!(without_rows * 4 >= looked_at, "{without_rows} of {looked_at} statements were told without rows");
}

#[test]
fn approximate_percentiles_are_between_their_neighbours() {
    let mut random = Random::new(11);
    let world = World::new(4);
    let users = some_users(&mut random, &world);
    let mut ages: Vec<i64> = users
        .values()
        .filter_map(|user| match user.tags.get("age") {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        })
        .collect();
    ages.sort_unstable();
    for (function, place) in [("approx_median(age)", 0.5), ("approx_percentile_cont(age, 0.9)", 0.9)] {
        let text = format!("SELECT {function} FROM users");
        let plan = world.plan(&text);
        assert!(plan.contains("UsersExec: aggregates=["), "{plan}");
        let found: f64 = world.ask(&text)[0].parse().expect("a number");
        let at = place * (ages.len() - 1) as f64;
        let (low, high) = (ages[at.floor() as usize] as f64, ages[at.ceil() as usize] as f64);
        assert!((low..=high).contains(&found), "{function}: {found} and not {low} to {high}");
    }
    assert_eq!(
        world.ask("SELECT approx_percentile_cont(age, 0.5), median(spend) FROM users WHERE FALSE"),
        ["NULL | NULL"]
    );
}

#[test]
fn approximate_percentiles_of_groups_are_between_their_neighbours() {
    let mut random = Random::new(12);
    let world = World::new(16);
    let users = some_users(&mut random, &world);
    let mut ages: BTreeMap<(bool, String), Vec<i64>> = BTreeMap::new();
    for user in users.values() {
        let member = user.tags.get("member") == Some(&Value::Flag(true));
        let gender = match user.tags.get("gender") {
            Some(Value::Enum(gender)) => gender.clone(),
            _ => "NULL".to_owned(),
        };
        let ages = ages.entry((member, gender)).or_default();
        ages.extend(user.tags.get("age").and_then(|age| if let Value::Number(age) = age { Some(*age) } else { None }));
    }
    let text = "SELECT member, gender, approx_median(age), approx_percentile_cont(age, 0.9), approx_percentile_cont(age, 0.25, 200) \
                FROM users GROUP BY member, gender";
    let plan = world.plan(text);
    assert!(plan.contains("UsersExec: groups=["), "{plan}");
    let found = world.ask(text);
    assert_eq!(found.len(), ages.len(), "{found:?}");
    for row in found {
        let cells: Vec<&str> = row.split(" | ").collect();
        let ages =
            ages.get_mut(&(cells[0] == "true", cells[1].to_owned())).unwrap_or_else(|| panic!("no group: {row}"));
        ages.sort_unstable();
        for (cell, place) in cells[2..].iter().zip([0.5, 0.9, 0.25]) {
            if ages.is_empty() {
                assert_eq!(*cell, "NULL", "{row}");
                continue;
            }
            let found: f64 = cell.parse().expect("a number");
            let at = place * (ages.len() - 1) as f64;
            let (low, high) = (ages[at.floor() as usize] as f64, ages[at.ceil() as usize] as f64);
            assert!((low..=high).contains(&found), "{place} of {row}: {low} to {high}");
        }
    }
}

#[test]
fn figures_and_groups_make_no_rows() {
    let world = some_world();
    for (text, shown) in [
        ("SELECT count(age) FROM users", "aggregates=[count(users.age)], where=TRUE"),
        ("SELECT sum(age), avg(spend), min(seen_at), max(spend), count(*) FROM users WHERE member", "where=member"),
        ("SELECT avg(age) FROM users", "aggregates=[avg(users.age)], where=TRUE"),
        ("SELECT count(*) FILTER (WHERE member), sum(age) FILTER (WHERE gender = 'f') FROM users", "aggregates=["),
        ("SELECT count(*), count(DISTINCT gender), count(DISTINCT city) FROM users", "aggregates=["),
        ("SELECT count(DISTINCT gender) FROM users WHERE member", "groups=["),
        ("SELECT median(age), percentile_cont(0.9) WITHIN GROUP (ORDER BY spend) FROM users", "aggregates=["),
        (
            "SELECT gender, count(*) FROM users WHERE age > 20 GROUP BY gender",
            "groups=[gender], aggregates=[count(Int64(1))], where=age >= 21",
        ),
        (
            "SELECT gender, member, avg(spend) FROM users GROUP BY gender, member HAVING count(*) > 1",
            "groups=[gender, member]",
        ),
        ("SELECT v, count(*) FROM (SELECT unnest(interest) AS v FROM users WHERE member) GROUP BY v", "groups=["),
        (
            "SELECT v, gender, max(age) FROM (SELECT unnest(interest) AS v, gender, age FROM users) GROUP BY v, gender",
            "groups=[",
        ),
        ("SELECT DISTINCT city FROM users", "groups=[city]"),
        ("SELECT gender, median(age) FROM users GROUP BY gender", "groups=[gender], aggregates=[median(users.age)]"),
        (
            "SELECT member, city, count(*), median(age) FILTER (WHERE gender = 'f'), approx_percentile_cont(age, 0.9), \
             percentile_cont(0.1) WITHIN GROUP (ORDER BY spend) FROM users WHERE age > 20 GROUP BY member, city",
            "groups=[member, city]",
        ),
        (
            "SELECT v, approx_median(spend) FROM (SELECT unnest(interest) AS v, spend FROM users WHERE member) GROUP BY v",
            "groups=[",
        ),
    ] {
        let plan = world.plan(text);
        assert!(
            plan.contains(&format!("UsersExec: {shown}")) || plan.contains(shown) && !plan.contains("columns=["),
            "{text}: {plan}"
        );
        assert!(plan.contains("UsersExec: aggregates=[") || plan.contains("UsersExec: groups=["), "{text}: {plan}");
    }
    for text in [
        "SELECT sum(age + 1) FROM users",
        "SELECT count(age) FROM users WHERE age % 2 = 1",
        "SELECT count(*) FILTER (WHERE age % 2 = 1) FROM users",
        "SELECT sum(age) FROM (SELECT age FROM users LIMIT 3)",
        "SELECT age, count(*) FROM users GROUP BY age",
        "SELECT interest, count(*) FROM users GROUP BY interest",
        "SELECT gender, count(*) FROM users GROUP BY ROLLUP (gender)",
        "SELECT sum(age) FROM (SELECT unnest(interest) AS v, age FROM users)",
    ] {
        let plan = world.plan(text);
        assert!(plan.contains("UsersExec: columns=["), "{text}: {plan}");
    }
}

#[test]
fn only_the_first_users_in_an_order_are_read() {
    let world = some_world();
    for (text, shown) in [
        (
            "SELECT user_id, age FROM users WHERE member ORDER BY age DESC LIMIT 3",
            "where=member, first=3 by age DESC NULLS FIRST",
        ),
        ("SELECT user_id FROM users ORDER BY spend LIMIT 3 OFFSET 4", "first=7 by spend ASC NULLS LAST"),
        (
            "SELECT user_id FROM users ORDER BY seen_at DESC NULLS LAST, user_id LIMIT 2",
            "first=2 by seen_at DESC NULLS LAST",
        ),
    ] {
        let plan = world.plan(text);
        assert!(plan.contains(shown), "{text}: {plan}");
    }
    for text in [
        "SELECT user_id, age FROM users ORDER BY age",
        "SELECT user_id FROM users ORDER BY user_id LIMIT 3",
        "SELECT user_id FROM users ORDER BY age + 1 LIMIT 3",
        "SELECT user_id FROM users WHERE age % 2 = 1 ORDER BY age LIMIT 3",
        "SELECT user_id FROM users ORDER BY age LIMIT 1000001",
    ] {
        let plan = world.plan(text);
        assert!(!plan.contains("first="), "{text}: {plan}");
    }
    // Of all that are read, no more than are asked for by each part, and those that are better than the last.
    let shown = world.ask("EXPLAIN ANALYZE SELECT user_id FROM users ORDER BY age DESC NULLS LAST LIMIT 1").join("\n");
    let users = shown.lines().find(|line| line.contains("UsersExec")).expect("the table");
    let read = users.split("output_rows=").nth(1).and_then(|rest| rest.split(',').next()).expect("a metric");
    assert!(read.trim().parse::<u64>().expect("a number") <= 4, "{users}");
}

/// So many values of two tags that to split by both would take longer than to make rows of the few users.
#[test]
fn many_groups_of_few_users_are_left_to_rows() {
    let world = World::new(1);
    let [city, gender] = ["city", "gender"].map(|name| world.catalog.tag(name).expect("declared").id);
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    let mut batch = UpdateBatch::new();
    for number in 0..400 {
        let user = format!("u{number:03}");
        let (one, other) = (format!("c{number}"), format!("g{}", number % 97));
        batch.begin_user(user.as_bytes());
        batch.push(city, Change::Enum(&one));
        batch.push(gender, Change::Enum(&other));
        let tags = [("city", one), ("gender", other)].map(|(name, value)| (name.to_owned(), Value::Enum(value)));
        users.insert(user.clone(), User { id: user, tags: tags.into_iter().collect(), ..User::default() });
    }
    world.store.write(&batch, None).expect("write");
    world.store.publish().expect("publish");
    let session = plain_session(&plain(&users));
    for (by, is_split) in [("city", true), ("gender, member", true), ("city, gender", false)] {
        let text = format!("SELECT {by}, count(*) FROM users GROUP BY {by}");
        let plan = world.plan(&text);
        assert_eq!(plan.contains("UsersExec: groups=["), is_split, "{plan}");
        let (mut found, mut expected) = (world.ask(&text), rows(&ask_plain(&session, &text).expect("an answer")));
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

/// Counts how often events are searched.
#[derive(Debug)]
struct Counting {
    scanner: Arc<dyn FactScanner>,
    searches: AtomicUsize,
}

impl FactScanner for Counting {
    fn scan(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<Scanned, QueryError> {
        self.searches.fetch_add(1, Ordering::Relaxed);
        self.scanner.scan(snapshot, scan, within, cancelled)
    }

    fn figure(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        user: (usize, Slot),
        cancelled: &AtomicBool,
    ) -> Result<Option<i128>, QueryError> {
        self.scanner.figure(snapshot, scan, user, cancelled)
    }

    fn events(
        &self,
        snapshot: &Snapshot,
        scan: &EventScan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<ToldEvents, QueryError> {
        self.scanner.events(snapshot, scan, within, cancelled)
    }

    fn kinds(
        &self,
        snapshot: &Snapshot,
        scan: &KindScan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<ToldKinds, QueryError> {
        self.scanner.kinds(snapshot, scan, within, cancelled)
    }
}

#[test]
fn what_figures_are_restricted_by_is_searched_once_for_all_parts() {
    let world = joins::some_world(&mut Random::new(7), 4);
    let bought = "did('purchase', amount > 3)";
    let scanner: Arc<dyn FactScanner> = Arc::clone(&world.scanner) as _;
    let ask = |text: &str| {
        let counting = Arc::new(Counting { scanner: Arc::clone(&scanner), searches: AtomicUsize::new(0) });
        let context = QueryContext { scanner: Some(Arc::clone(&counting) as _), ..QueryContext::default() };
        let mut answer = world.sql.ask(world.store.snapshot(), text, Vec::new(), &context).expect("planned");
        let mut batches = Vec::new();
        while let Some(batch) = answer.next(&AtomicBool::new(false)).expect("answered") {
            batches.push(batch);
        }
        (rows(&batches), counting.searches.load(Ordering::Relaxed))
    };
    let (alone, searches) = ask(&format!("SELECT count(*) FROM users WHERE {bought}"));
    assert_eq!(searches, 1);
    let told = ask(&format!("SELECT count(*) FILTER (WHERE {bought}) FROM users"));
    assert_eq!(told, (alone.clone(), 1));
    let text = format!("SELECT count(*) FILTER (WHERE {bought}), sum(age), count(*) FROM users WHERE {bought}");
    assert!(world.plan(&text).contains("aggregates=["), "{}", world.plan(&text));
    let (told, searches) = ask(&text);
    let cells: Vec<&str> = told[0].split(" | ").collect();
    assert_eq!((cells[0], cells[2], searches), (alone[0].as_str(), alone[0].as_str(), 1));
}
