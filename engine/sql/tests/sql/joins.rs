//! Joins of users and facts against the same rows in plain tables of DataFusion, without anything of ours.

use crate::support::{World, rows};
use crate::users::some_users;
use datafusion::arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use engine::audience::naive::Random;
use engine::update::UpdateBatch;
use proptest::prelude::*;
use std::sync::Arc;

/// Some users with tags, and events of them and of others.
pub(crate) fn some_world(random: &mut Random, shards: u16) -> World {
    let world = World::new(shards);
    some_users(random, &world);
    let fact = world.catalog.fact("purchase").expect("declared").id;
    for round in 0..3 {
        let mut batch = UpdateBatch::new();
        for number in 0..random.below(60) {
            batch.begin_user(format!("u{}", random.below(70)).as_bytes());
            let takes_back = random.one_in(9);
            random.event().push_as(fact, &mut batch, &format!("{round}-{number}"), takes_back);
        }
        world.store.write(&batch, None).expect("write");
        if random.one_in(2) {
            world.store.checkpoint().expect("checkpoint");
        }
    }
    world.store.publish().expect("publish");
    world
}

/// Asks plain DataFusion.
pub(crate) struct Plain {
    pub(crate) session: SessionContext,
    runtime: tokio::runtime::Runtime,
}

impl Plain {
    /// With all rows of these tables.
    pub(crate) fn of(world: &World) -> Plain {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let session = SessionContext::new_with_config(config);
        for table in ["users", "purchase", "members"] {
            let batches = world.try_ask(&format!("SELECT * FROM {table}")).expect("all rows");
            let schema = match batches.first() {
                Some(batch) => batch.schema(),
                None => continue,
            };
            let rows = MemTable::try_new(schema, vec![batches]).expect("a table");
            session.register_table(table, Arc::new(rows)).expect("registered");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Plain { session, runtime }
    }

    pub(crate) fn ask(&self, text: &str) -> Result<Vec<RecordBatch>, String> {
        let answered = self.runtime.block_on(async { self.session.sql(text).await?.collect().await });
        answered.map_err(|error| error.to_string())
    }
}

pub(crate) fn sorted(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = rows(batches);
    rows.sort();
    rows
}

fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

/// A condition on a user of a table that is called `u.`, or anything else.
pub(crate) fn on_user(random: &mut Random, name: &str) -> String {
    let condition = pick(
        random,
        &[
            "@gender = 'f'",
            "@age > 30",
            "@member",
            "NOT @member AND @city IS NOT NULL",
            "@city LIKE '%o%'",
            "@age + 1 > 20",
            "array_has(@interest, 'yoga')",
            "@spend < 10 OR @gender IS NULL",
            "TRUE",
            "FALSE",
            "@user_id < 'u3'",
            "@user_id IN ('u1', 'u2', 'u33', 'u65')",
        ],
    );
    condition.replace('@', name)
}

/// A condition on an event.
pub(crate) fn on_event(random: &mut Random, name: &str) -> String {
    let condition = pick(
        random,
        &[
            "@category = 'shoes'",
            "@amount > 0.5",
            "@category IS NULL OR @level = 1",
            "@weight = -1",
            "@ts > TIMESTAMP '2026-11-15T00:00:00Z'",
            "@gift",
            "TRUE",
            "@amount > 1000",
            "@user_id <> 'u7'",
        ],
    );
    condition.replace('@', name)
}

/// What is asked of another column than the id, or told again, is easily taken for the id itself.
const MISLEADING: [&str; 6] = [
    "SELECT count(*) FROM users WHERE user_id {not}IN (SELECT city FROM users WHERE member)",
    "SELECT count(*) FROM purchase WHERE user_id {not}IN (SELECT gender FROM users)",
    "SELECT user_id FROM users WHERE user_id {not}IN (SELECT category FROM purchase)",
    "SELECT count(*) FROM users WHERE user_id IN (SELECT city FROM users UNION ALL SELECT user_id FROM users WHERE member)",
    "SELECT v, count(*) FROM (SELECT unnest_outer(interest) AS v FROM users WHERE user_id {not}IN (SELECT user_id FROM purchase)) GROUP BY v",
    "SELECT u.user_id, count(p.event_id) FROM users u LEFT JOIN purchase p USING (user_id) WHERE u.user_id {not}IN \
     (SELECT user_id FROM users WHERE age > 20 AND user_id IN (SELECT user_id FROM purchase WHERE amount > 1)) GROUP BY 1",
];

pub(crate) fn statement(random: &mut Random) -> String {
    let not = pick(random, &["", "", "NOT "]);
    let and = pick(random, &["AND", "AND", "OR"]);
    match random.below(22) {
        20 | 21 => pick(random, &MISLEADING).replace("{not}", not),
        0 => {
            let (u, p) = (on_user(random, ""), on_event(random, ""));
            format!(
                "SELECT count(*) FROM users WHERE user_id {not}IN (SELECT user_id FROM purchase WHERE {p}) {and} ({u})"
            )
        }
        1 => {
            let (u, p) = (on_user(random, "u."), on_event(random, "p."));
            format!(
                "SELECT u.user_id, u.age FROM users u WHERE {not}EXISTS (SELECT 1 FROM purchase p WHERE p.user_id = u.user_id AND ({p})) \
                 {and} ({u})"
            )
        }
        2 => {
            let (u, p) = (on_user(random, ""), on_event(random, ""));
            format!(
                "SELECT category, count(*), sum(amount) FROM purchase WHERE user_id {not}IN (SELECT user_id FROM users WHERE {u}) \
                 {and} ({p}) GROUP BY category"
            )
        }
        3 => {
            let (u, p) = (on_user(random, "u."), on_event(random, "p."));
            format!(
                "SELECT p.category, sum(p.amount), count(*) FROM purchase p JOIN users u USING (user_id) WHERE ({u}) AND ({p}) GROUP BY 1"
            )
        }
        4 => {
            let (u, p) = (on_user(random, "u."), on_event(random, "p."));
            format!(
                "SELECT u.gender, p.category, count(*) FROM users u JOIN purchase p ON p.user_id = u.user_id WHERE ({u}) AND ({p}) \
                 GROUP BY 1, 2"
            )
        }
        5 => {
            let (u, p) = (on_user(random, "u."), on_event(random, "p."));
            let side = pick(random, &["LEFT", "RIGHT", "FULL"]);
            format!(
                "SELECT u.user_id, count(p.user_id), min(u.age) FROM users u {side} JOIN purchase p ON u.user_id = p.user_id AND ({p}) \
                 AND ({u}) GROUP BY 1"
            )
        }
        6 => {
            let (u, p) = (on_user(random, "u."), on_event(random, "p."));
            format!(
                "SELECT u.user_id, p.amount FROM users u LEFT JOIN purchase p ON u.user_id = p.user_id WHERE ({u}) AND ({p})"
            )
        }
        7 => {
            let (u, p) = (on_user(random, "u."), on_event(random, "p."));
            format!(
                "SELECT u.user_id, p.amount FROM users u LEFT JOIN (SELECT * FROM purchase p WHERE {p}) p ON u.user_id = p.user_id \
                 WHERE {u}"
            )
        }
        8 => {
            let (u, p) = (on_user(random, ""), on_event(random, ""));
            format!(
                "SELECT level, count(*) FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE ({u}) AND user_id {not}IN \
                 (SELECT user_id FROM purchase WHERE {p})) GROUP BY level"
            )
        }
        9 => {
            let p = on_event(random, "");
            format!(
                "SELECT count(*) FROM users WHERE user_id NOT IN (SELECT CASE WHEN amount > 1.5 THEN user_id END FROM purchase WHERE {p})"
            )
        }
        10 => {
            let (u, p) = (on_user(random, ""), on_event(random, ""));
            format!(
                "SELECT gender, count(*) FROM users WHERE ({u}) AND user_id {not}IN (SELECT user_id FROM purchase WHERE {p} \
                 GROUP BY user_id HAVING count(*) > 1) GROUP BY gender"
            )
        }
        11 => {
            let (p, limit) = (on_event(random, ""), random.below(9));
            format!(
                "SELECT count(*) FROM (SELECT user_id FROM users WHERE user_id {not}IN (SELECT DISTINCT user_id FROM purchase WHERE {p}) \
                 LIMIT {limit})"
            )
        }
        12 => {
            let (u, p) = (on_user(random, ""), on_event(random, ""));
            let how = pick(random, &["INTERSECT", "EXCEPT", "UNION"]);
            format!("SELECT user_id FROM users WHERE {u} {how} SELECT user_id FROM purchase WHERE {p}")
        }
        13 => {
            let (u, p) = (on_user(random, "b."), on_event(random, "p."));
            format!(
                "SELECT a.user_id, p.category FROM users a JOIN users b ON a.city = b.city JOIN purchase p ON p.user_id = a.user_id \
                 WHERE ({u}) AND ({p}) AND b.user_id {not}IN (SELECT user_id FROM purchase WHERE gift)"
            )
        }
        14 => {
            let p = on_event(random, "p.");
            format!(
                "SELECT u.user_id FROM users u WHERE {not}EXISTS (SELECT 1 FROM purchase p WHERE p.user_id = u.user_id AND \
                 p.amount < u.spend AND ({p}))"
            )
        }
        15 => {
            let (p, u) = (on_event(random, ""), on_user(random, ""));
            format!(
                "WITH some AS (SELECT user_id, count(*) AS n FROM purchase WHERE {p} GROUP BY user_id) SELECT n, count(*) FROM some \
                 WHERE user_id {not}IN (SELECT user_id FROM users WHERE {u}) GROUP BY n"
            )
        }
        16 => {
            let (u, p) = (on_user(random, ""), on_event(random, ""));
            format!(
                "SELECT gender, count(*) FROM users WHERE ({u}) OR user_id {not}IN (SELECT user_id FROM purchase WHERE {p}) GROUP BY gender"
            )
        }
        17 => {
            let (p, q) = (on_event(random, "a."), on_event(random, "b."));
            format!(
                "SELECT count(*), sum(a.amount) FROM purchase a WHERE ({p}) AND {not}EXISTS (SELECT 1 FROM purchase b WHERE \
                 b.user_id = a.user_id AND ({q}))"
            )
        }
        18 => {
            let u = on_user(random, "");
            format!(
                "SELECT count(*) FROM purchase WHERE user_id {not}IN (SELECT upper(user_id) FROM users WHERE {u}) AND user_id IN (SELECT id FROM (VALUES ('u1'), ('u2'), ('nobody'), (NULL)) AS v(id))"
            )
        }
        _ => {
            let (u, p) = (on_user(random, ""), on_event(random, "p."));
            format!(
                "SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY amount, category, level, ts, event_id) AS n FROM \
                 purchase p WHERE ({p}) AND user_id {not}IN (SELECT user_id FROM users WHERE {u} LIMIT 1000)"
            )
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn joins_say_what_they_say_of_plain_tables(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = some_world(&mut random, 1 << (2 * shards));
        let plain = Plain::of(&world);
        for _ in 0..40 {
            let text = statement(&mut random);
            let found = world.try_ask(&text).map(|batches| sorted(&batches)).map_err(|error| error.to_string());
            match (found, plain.ask(&text).map(|batches| sorted(&batches))) {
                (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected, "{}", text),
                // A fact without any event has no rows to make a plain table of.
                (Ok(_), Err(error)) if error.contains("table 'datafusion.public") => {}
                (found, expected) => prop_assert!(false, "{text}: {found:?} and not {expected:?}"),
            }
        }
    }
}

fn shop() -> World {
    let world = World::new(2);
    let fact = world.catalog.fact("purchase").expect("declared").id;
    some_users(&mut Random::new(7), &world);
    let mut random = Random::new(8);
    for round in 0..3 {
        let mut batch = UpdateBatch::new();
        for number in 0..40 {
            batch.begin_user(format!("u{}", random.below(60)).as_bytes());
            random.event().push_as(fact, &mut batch, &format!("{round}-{number}"), false);
        }
        world.store.write(&batch, None).expect("write");
        if round < 2 {
            world.store.checkpoint().expect("checkpoint");
        }
    }
    world.store.publish().expect("publish");
    world
}

#[test]
fn what_is_in_a_fact_is_a_bitmap_of_users() {
    let world = shop();
    let of_fact = "(SELECT user_id FROM purchase WHERE category = 'shoes')";
    for (text, is_count) in [
        (format!("SELECT count(*) FROM users WHERE member AND user_id IN {of_fact}"), true),
        (format!("SELECT count(*) FROM users WHERE user_id NOT IN {of_fact}"), true),
        (format!("SELECT age FROM users WHERE user_id IN {of_fact} LIMIT 3"), false),
        (
            "SELECT count(*) FROM users u WHERE NOT EXISTS (SELECT 1 FROM purchase p WHERE p.user_id = u.user_id)"
                .to_owned(),
            true,
        ),
    ] {
        let plan = world.plan(&text);
        assert!(!plan.contains("Join"), "{plan}");
        assert!(plan.contains("_shard") && plan.contains("_slot"), "told by place: {plan}");
        assert_eq!(plan.contains("UsersExec: count"), is_count, "{plan}");
        assert!(plan.contains(", users in 1") || plan.contains(", users not in 1"), "{plan}");
    }
    let limited = world.plan(&format!("SELECT age FROM users WHERE user_id IN {of_fact} LIMIT 3"));
    assert!(limited.contains("limit=3"), "{limited}");
}

#[test]
fn a_fact_of_some_users_reads_only_their_rows() {
    let world = shop();
    for text in [
        "SELECT category, sum(amount) FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE gender = 'f') GROUP BY 1",
        "SELECT p.category, sum(p.amount) FROM purchase p JOIN users u USING (user_id) WHERE u.gender = 'f' GROUP BY 1",
        "SELECT count(*) FROM purchase WHERE user_id NOT IN (SELECT user_id FROM users WHERE gender = 'f')",
    ] {
        let plan = world.plan(text);
        assert!(!plan.contains("Join"), "{plan}");
        assert!(plan.contains("FactExec: purchase") && plan.contains("where=gender = 'f'"), "{plan}");
    }
    let shown = "SELECT u.age, p.amount FROM purchase p JOIN users u USING (user_id) WHERE u.gender = 'f'";
    let plan = world.plan(shown);
    assert!(plan.contains("HashJoin") && plan.contains("FactExec: purchase"), "{plan}");
    assert!(!plan.contains("in 2"), "told once: {plan}");
    // Without a choice of users there is nothing to be gained.
    let all = world.plan("SELECT u.age, p.amount FROM purchase p JOIN users u USING (user_id)");
    assert!(!all.contains("FactExec"), "{all}");
}

#[test]
fn row_groups_and_files_of_others_are_not_read() {
    let world = shop();
    let analyzed = |users: &str| {
        let text = format!(
            "EXPLAIN ANALYZE SELECT sum(amount) FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE {users})"
        );
        world.ask(&text).join("\n")
    };
    let number = |plan: &str, name: &str| -> u64 {
        let line = plan.lines().find(|line| line.contains("FactExec")).unwrap_or_else(|| panic!("{plan}"));
        let value = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name}: {line}"));
        value.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_else(|_| panic!("{value}"))
    };
    let (one, all) = (analyzed("user_id = 'u1'"), analyzed("TRUE"));
    assert_eq!(number(&one, "users"), 1, "{one}");
    assert!(number(&all, "users") > 30, "{all}");
    assert!(number(&one, "output_rows") < number(&all, "output_rows"), "{one}\n{all}");
    assert!(one.contains("row_groups_pruned_statistics") || one.contains("files_"), "{one}");
    let nobody = analyzed("user_id = 'nobody'");
    assert_eq!(number(&nobody, "output_rows"), 0, "{nobody}");
    assert!(!nobody.contains("bytes_scanned"), "no file is opened: {nobody}");
}

#[test]
fn a_cancelled_join_ends() {
    let world = shop();
    let context = world.context();
    let text = "SELECT count(*) FROM users WHERE user_id IN (SELECT a.user_id FROM purchase a, purchase b, purchase c, purchase d, \
                purchase e WHERE a.amount + b.amount + c.amount + d.amount + e.amount > 0)";
    let mut answer = world.sql.ask(world.store.snapshot(), text, Vec::new(), &context).expect("asked");
    let cancelled = Arc::clone(&context.cancelled);
    let began = std::time::Instant::now();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let error = answer.next(&context.cancelled).expect_err("it takes for ever");
    assert_eq!(error.kind, engine_sql::session::SqlErrorKind::Cancelled);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Ids are not read to join by them.
#[test]
fn joins_are_made_by_where_users_are() {
    let world = shop();
    for (kind, of) in [("JOIN", "users"), ("LEFT JOIN", "users"), ("FULL JOIN", "users"), ("JOIN", "purchase")] {
        let column = if of == "users" { "age" } else { "amount" };
        let on = "p.user_id = o.user_id AND p.amount > 1";
        let plan = world.plan(&format!("SELECT max(o.{column}), sum(p.amount) FROM purchase p {kind} {of} o ON {on}"));
        assert!(plan.contains("(_slot@") && !plan.contains("(user_id@"), "{kind} {of}: {plan}");
    }
    let join = "SELECT u.gender, sum(p.amount) FROM purchase p JOIN users u USING (user_id) GROUP BY u.gender";
    let plan = world.plan(join);
    assert!(plan.contains("(_slot@") && !plan.contains("user_id"), "{plan}");
}

/// Users who are others each time are asked for once: a fact's rows are not chosen by others than are shown.
#[test]
fn what_is_drawn_by_chance_is_drawn_once() {
    let world = shop();
    let plan = world.plan(
        "SELECT u.user_id, p.amount FROM (SELECT user_id FROM users WHERE random() < 0.5) u LEFT JOIN purchase p USING (user_id)",
    );
    assert!(!plan.contains("users in"), "{plan}");
    let plan = world.plan(
        "SELECT u.user_id, p.amount FROM users u LEFT JOIN purchase p USING (user_id) WHERE u.user_id IN \
         (SELECT user_id FROM purchase ORDER BY amount LIMIT 3)",
    );
    assert_eq!(plan.matches("users in").count(), 1, "{plan}");
    let plan = world.plan(
        "SELECT u.user_id, p.amount FROM users u LEFT JOIN purchase p USING (user_id) WHERE u.user_id IN \
         (SELECT user_id FROM purchase WHERE amount > 1)",
    );
    assert!(plan.contains("FactExec: purchase") && plan.matches("users in").count() > 1, "{plan}");
}
