//! Facts joined with the members of audiences against the same rows in plain tables of DataFusion, without anything of ours; and that
//! there is no table of user ids.

use crate::functions::save;
use crate::joins::{Plain, on_event, on_user, some_world, sorted};
use crate::support::World;
use engine::audience::naive::Random;
use engine::update::{Change, UpdateBatch};
use engine_sql::session::SqlErrorKind;
use proptest::prelude::*;

fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

fn with_audiences(random: &mut Random, shards: u16) -> World {
    let world = some_world(random, shards);
    save(&world, "vip", "member");
    save(&world, "young", "age < 30");
    save(&world, "shoes", "did('purchase', category = 'shoes')");
    save(&world, "not vip", "NOT in_audience('vip')");
    save(&world, "nobody", "age < -1000000");
    world
}

/// A condition on a member.
fn on_member(random: &mut Random, name: &str) -> String {
    let condition = pick(
        random,
        &[
            "@audience IN ('vip', 'young')",
            "@audience LIKE '%vip'",
            "@audience <> 'shoes'",
            "@audience = 'nobody'",
            "@user_id < 'u3'",
            "@user_id <> 'u7' AND @audience >= 's'",
            "@audience || @user_id LIKE '%p1%'",
            "TRUE",
            "TRUE",
        ],
    );
    condition.replace('@', name)
}

/// A statement, and whether nothing is joined by a table of ids.
fn statement(random: &mut Random) -> (String, bool) {
    let (p, m) = (on_event(random, "p."), on_member(random, "m."));
    match random.below(21) {
        // Alike but for what their tables read.
        18 => (
            format!(
                "SELECT (SELECT count(*) FROM purchase JOIN members USING (user_id) WHERE audience = '{}') AS a, (SELECT count(*) FROM \
                 purchase JOIN members USING (user_id) WHERE audience = '{}') AS b",
                pick(random, &["vip", "shoes"]),
                pick(random, &["young", "not vip"])
            ),
            false,
        ),
        19 => (
            "SELECT (SELECT count(*) FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE age < 30)) AS a, (SELECT count(*) \
             FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE age >= 30)) AS b"
                .to_owned(),
            false,
        ),
        // Two ids are held against that of the member.
        20 => (
            format!(
                "SELECT m.audience, count(*) FROM purchase a JOIN purchase b ON a.category = b.category JOIN members m ON m.user_id = \
                 a.user_id AND m.user_id = b.user_id WHERE {m} GROUP BY 1"
            ),
            false,
        ),
        0 | 1 => (
            format!(
                "SELECT m.audience, sum(p.amount), count(*) FROM purchase p JOIN members m USING (user_id) WHERE ({p}) AND ({m}) \
                 GROUP BY m.audience"
            ),
            true,
        ),
        2 => (
            format!(
                "SELECT m.audience, p.category, min(p.ts), count(DISTINCT m.user_id) FROM members m JOIN purchase p ON \
                 p.user_id = m.user_id WHERE ({m}) AND ({p}) GROUP BY 1, 2"
            ),
            true,
        ),
        3 => (
            format!(
                "SELECT m.user_id, p.user_id, upper(m.audience), p.amount, p.event_id FROM purchase p, members m WHERE \
                 p.user_id = m.user_id AND ({p}) AND ({m})"
            ),
            true,
        ),
        4 => (
            format!(
                "SELECT p.category, m.audience, count(*) FROM purchase p JOIN members m ON p.user_id = m.user_id AND \
                 (m.audience > p.category OR p.gift) WHERE ({p}) AND ({m}) GROUP BY 1, 2"
            ),
            true,
        ),
        5 => (
            format!(
                "SELECT count(*) FROM purchase p JOIN members m ON p.user_id = m.user_id AND p.category = m.audience WHERE {p}"
            ),
            true,
        ),
        6 => (
            format!(
                "SELECT m.a, m.n, p.level FROM (SELECT user_id AS user_id, audience || '!' AS a, length(audience) AS n FROM members m \
                 WHERE {m}) m JOIN (SELECT user_id, level FROM purchase p WHERE {p}) p USING (user_id)"
            ),
            true,
        ),
        7 => (
            format!(
                "SELECT count(*), sum(p.amount) FROM purchase p JOIN members m USING (user_id) WHERE ({p}) AND ({m})"
            ),
            true,
        ),
        8 => {
            let u = on_user(random, "u.");
            (
                format!(
                    "SELECT m.audience, u.gender, count(*), sum(p.amount) FROM purchase p JOIN users u ON u.user_id = p.user_id JOIN \
                     members m ON m.user_id = p.user_id WHERE ({u}) AND ({p}) AND ({m}) GROUP BY 1, 2"
                ),
                false,
            )
        }
        9 => {
            let u = on_user(random, "u.");
            (
                format!(
                    "SELECT m.audience, u.gender, count(*) FROM members m JOIN purchase p ON p.user_id = m.user_id JOIN users u ON \
                     u.user_id = m.user_id WHERE ({u}) AND ({p}) AND ({m}) GROUP BY 1, 2"
                ),
                false,
            )
        }
        10 => (
            format!(
                "SELECT a.audience, b.audience, count(*) FROM purchase p JOIN members a ON a.user_id = p.user_id JOIN members b ON \
                 b.user_id = p.user_id AND a.audience < b.audience WHERE {p} GROUP BY 1, 2"
            ),
            false,
        ),
        11 => {
            let side = pick(random, &["LEFT", "RIGHT", "FULL"]);
            (
                format!(
                    "SELECT m.audience, count(p.user_id), sum(p.amount) FROM purchase p {side} JOIN members m ON p.user_id = m.user_id \
                     AND ({p}) AND ({m}) GROUP BY 1"
                ),
                false,
            )
        }
        12 => {
            let not = pick(random, &["", "NOT "]);
            (
                format!(
                    "SELECT gender, count(*) FROM users WHERE user_id {not}IN (SELECT p.user_id FROM purchase p JOIN members m ON \
                     p.user_id = m.user_id WHERE ({p}) AND ({m})) GROUP BY gender"
                ),
                false,
            )
        }
        13 => {
            let (u, not) = (on_user(random, ""), pick(random, &["", "NOT "]));
            (
                format!(
                    "SELECT m.audience, sum(p.amount) FROM purchase p JOIN members m USING (user_id) WHERE p.user_id {not}IN \
                     (SELECT user_id FROM users WHERE {u}) AND ({m}) GROUP BY 1"
                ),
                false,
            )
        }
        14 => {
            let of = pick(
                random,
                &[
                    "SELECT user_id, sum(amount) AS n FROM purchase GROUP BY user_id",
                    "SELECT DISTINCT user_id, level AS n FROM purchase",
                    "SELECT user_id, amount AS n FROM purchase ORDER BY event_id, amount, weight LIMIT 1000",
                ],
            );
            (
                format!(
                    "SELECT m.audience, sum(p.n) FROM ({of}) p JOIN members m USING (user_id) WHERE {m} GROUP BY 1"
                ),
                false,
            )
        }
        16 => (
            format!(
                "SELECT p._shard, m._slot, m.audience FROM (SELECT user_id, level AS _shard, gift FROM purchase p WHERE {p}) p JOIN \
                 (SELECT user_id, audience, length(audience) AS _slot FROM members) m USING (user_id)"
            ),
            false,
        ),
        15 => (
            format!(
                "WITH some AS (SELECT p.user_id AS u, m.audience AS a, p.amount AS n FROM purchase p JOIN members m ON \
                 p.user_id = m.user_id WHERE ({p}) AND ({m})) SELECT x.a, y.a, count(*) FROM some x JOIN some y ON x.u = y.u GROUP BY 1, 2"
            ),
            false,
        ),
        _ => (
            format!(
                "SELECT m.audience, p.category FROM members m LEFT JOIN users u ON u.user_id = m.user_id JOIN purchase p ON \
                 p.user_id = m.user_id WHERE ({p}) AND ({m})"
            ),
            false,
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn rows_by_audience_are_those_of_plain_tables(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = with_audiences(&mut random, 1 << (2 * shards));
        let plain = Plain::of(&world);
        for _ in 0..30 {
            let (text, is_looked_up) = statement(&mut random);
            let found = world.try_ask(&text).map(|batches| sorted(&batches)).map_err(|error| error.to_string());
            match (found, plain.ask(&text).map(|batches| sorted(&batches))) {
                (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected, "{}\n{}", text, world.plan(&text)),
                // A table without any row is not there as a plain one.
                (Ok(_), Err(error)) if error.contains("table 'datafusion.public") => {}
                (found, expected) => prop_assert!(false, "{text}: {found:?} and not {expected:?}"),
            }
            if is_looked_up && random.one_in(6) {
                let plan = world.plan(&text);
                let is_empty = !plan.contains("FactExec") && plan.contains("EmptyExec");
                prop_assert!(is_empty || plan.contains("AudiencesExec") && !plan.contains("Join"), "{}: {}", text, plan);
            }
        }
    }
}

#[test]
fn each_row_is_looked_up_in_the_audiences() {
    let world = with_audiences(&mut Random::new(3), 4);
    let text = "SELECT m.audience, sum(p.amount) FROM purchase p JOIN members m USING (user_id) WHERE m.audience IN ('vip', 'young') \
                AND p.category = 'shoes' GROUP BY m.audience";
    let plan = world.plan(text);
    assert!(!plan.contains("Join"), "{plan}");
    assert!(plan.contains("AudiencesExec: columns=[amount, audience], audiences=[vip, young]"), "{plan}");
    assert_eq!(plan.matches("FactExec: purchase").count(), 1, "{plan}");
    assert!(plan.contains(", of users in any of 2 audiences") && plan.contains("category"), "{plan}");
    assert!(!plan.contains("UsersExec"), "no user's row is made: {plan}");
    let analyzed = world.ask(&format!("EXPLAIN ANALYZE {text}")).join("\n");
    let line = |name: &str| analyzed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{analyzed}"));
    assert!(line("AudiencesExec").contains("output_rows="), "{analyzed}");
    assert!(line("FactExec").contains("users="), "{analyzed}");
    for text in [
        "SELECT m.audience, count(*) FROM members m LEFT JOIN purchase p USING (user_id) GROUP BY 1",
        "SELECT m.audience, count(*) FROM members m JOIN users u USING (user_id) GROUP BY 1",
        "SELECT m.audience, count(*) FROM (SELECT user_id, count(*) FROM purchase GROUP BY 1) p JOIN members m USING (user_id) GROUP BY 1",
        "SELECT m.audience, count(*) FROM purchase p JOIN (SELECT * FROM members LIMIT 3) m USING (user_id) GROUP BY 1",
    ] {
        let plan = world.plan(text);
        assert!(plan.contains("Join") && !plan.contains("AudiencesExec"), "{text}: {plan}");
    }
}

/// So many events and audiences that the rows of a batch are handed on in several.
#[test]
fn many_audiences_are_counted_one_by_one() {
    let world = some_world(&mut Random::new(5), 4);
    let fact = world.catalog.fact("purchase").expect("declared").id;
    let (mut random, mut batch) = (Random::new(6), UpdateBatch::new());
    for number in 0..3_000 {
        batch.begin_user(format!("u{}", random.below(60)).as_bytes());
        random.event().push_as(fact, &mut batch, &format!("more-{number}"), false);
    }
    world.store.write(&batch, None).expect("write");
    world.store.checkpoint().expect("checkpoint");
    let of = ["member", "age < 30", "gender = 'f'", "NOT member OR age > 20", "spend > 3"];
    let expected: Vec<String> = of
        .iter()
        .map(|of| {
            let called = format!("at_least(1, {of})");
            world.ask(&format!("SELECT count(*), sum(amount) FROM purchase WHERE {called}")).remove(0)
        })
        .collect();
    for number in 0..15 {
        save(&world, &format!("a{number:02}"), of[number % of.len()]);
    }
    let text = "SELECT m.audience, count(*), sum(p.amount) FROM purchase p JOIN members m USING (user_id) GROUP BY 1 ORDER BY 1";
    assert!(world.plan(text).contains("a09, and 5 more]"), "{}", world.plan(text));
    let expected: Vec<String> =
        (0..15).map(|number| format!("a{number:02} | {}", expected[number % of.len()])).collect();
    assert_eq!(world.ask(text), expected);
    let rows = world.ask("SELECT count(*) FROM purchase p JOIN members m USING (user_id)");
    assert!(rows[0].parse::<u64>().expect("a number") > 8_192, "{rows:?}");
}

#[test]
fn audiences_that_take_too_much_memory_are_refused() {
    let world = World::with_memory(1, 64 << 10);
    let mut batch = UpdateBatch::new();
    let age = world.catalog.tag("age").expect("declared").id;
    for number in 0..60_000i64 {
        batch.begin_user(format!("u{number}").as_bytes());
        batch.push(age, Change::Number(number * 7_919 % 60_000));
    }
    world.store.write(&batch, None).expect("write");
    world.store.publish().expect("publish");
    for number in 0..40 {
        save(&world, &format!("a{number}"), &format!("age < {}", 20_000 + number));
    }
    let error = world.refused("SELECT m.audience, count(*) FROM purchase p JOIN members m USING (user_id) GROUP BY 1");
    assert_eq!(error.kind, SqlErrorKind::Exhausted, "{error:?}");
}
