//! Facts as tables: rows in the Delta table and rows that are not in it yet.

use crate::support::World;
use engine::audience::naive::{Event, NOW, Random};
use engine::update::UpdateBatch;

const DAY: i64 = 86_400_000_000;

fn write(world: &World, events: &[(&str, &str, Event, bool)]) {
    let fact = world.catalog.fact("purchase").expect("declared").id;
    let mut batch = UpdateBatch::new();
    for (user, id, event, takes_back) in events {
        batch.begin_user(user.as_bytes());
        event.push_as(fact, &mut batch, id, *takes_back);
    }
    world.store.write(&batch, None).expect("write");
}

fn event(days_ago: i64, category: &str, amount: i64) -> Event {
    let mut event = Random::new(1).event();
    event.ts = NOW - days_ago * DAY;
    event.category = Some(category.to_owned());
    event.amount = Some(amount);
    event
}

/// Two days in the table, a third one recent.
fn shop() -> World {
    let world = World::new(2);
    write(&world, &[("u1", "a", event(9, "shoes", 2_050), false), ("u2", "b", event(9, "hats", 100), false)]);
    world.store.checkpoint().expect("checkpoint");
    write(&world, &[("u1", "c", event(3, "hats", 500), false)]);
    world.store.checkpoint().expect("checkpoint");
    write(&world, &[("u3", "d", event(1, "shoes", 700), false), ("u2", "b", event(9, "hats", 100), true)]);
    world.store.publish().expect("publish");
    world
}

#[test]
fn rows_are_those_in_the_table_and_those_that_are_recent() {
    let world = shop();
    let asked = "SELECT user_id, category, sum(amount * weight) FROM purchase GROUP BY 1, 2 HAVING sum(weight) > 0 ORDER BY 1, 2";
    let expected = world.ask(asked);
    assert_eq!(expected.len(), 3, "{expected:?}");
    assert!(expected[0].starts_with("u1 | hats | 5"), "{expected:?}");
    assert_eq!(world.ask("SELECT count(*), sum(weight) FROM purchase"), ["5 | 3"]);
    world.store.checkpoint().expect("checkpoint");
    assert_eq!(world.ask(asked), expected, "where they are makes no difference");
    assert_eq!(world.ask("SELECT count(*), sum(weight) FROM purchase"), ["5 | 3"]);
}

#[test]
fn every_column_is_shown_but_the_inner_ones() {
    let world = shop();
    let columns = world.ask("DESCRIBE purchase").join("\n");
    for name in ["user_id", "ts", "weight", "category", "amount", "day"] {
        assert!(columns.contains(&format!("{name} | ")), "{columns}");
    }
    assert!(!columns.contains("_slot"), "{columns}");
    assert_eq!(world.ask("SELECT * FROM purchase").len(), 5);
    assert_eq!(world.ask("SELECT user_id FROM purchase LIMIT 2").len(), 2);
    assert_eq!(world.ask("SELECT category FROM purchase WHERE user_id = 'u3'"), ["shoes"]);
}

#[test]
fn files_of_other_times_are_not_read() {
    let world = shop();
    world.store.checkpoint().expect("checkpoint");
    let since = |days: i64| {
        let seconds = (NOW - days * DAY) / 1_000_000;
        format!("SELECT user_id FROM purchase WHERE ts >= to_timestamp({seconds})")
    };
    let files = |text: &str| {
        let plan = world.plan(text);
        plan.matches(".parquet").count()
    };
    let all = files("SELECT user_id FROM purchase");
    assert!(all >= 3, "{all}");
    assert!(files(&since(2)) < all, "{}", world.plan(&since(2)));
    assert_eq!(world.ask(&since(2)), ["u3"]);
    let of_day = "SELECT user_id FROM purchase WHERE day < DATE '1990-01-01'";
    assert_eq!(files(of_day), 0, "{}", world.plan(of_day));
}

#[test]
fn a_snapshot_stays_as_it_is() {
    let world = shop();
    let held = world.store.snapshot();
    write(&world, &[("u9", "z", event(1, "shoes", 1), false)]);
    world.store.checkpoint().expect("checkpoint");
    let context = engine::audience::ops::QueryContext::default();
    let mut answer = world.sql.ask(held, "SELECT count(*) FROM purchase", Vec::new(), &context).expect("asked");
    let batch = answer.next(&context.cancelled).expect("answered").expect("a row");
    assert_eq!(crate::support::rows(&[batch]), ["5"]);
    assert_eq!(world.ask("SELECT count(*) FROM purchase"), ["6"]);
}

#[test]
fn users_and_facts_go_together() {
    let world = shop();
    let joined = "SELECT u.user_id, count(*) FROM users u JOIN purchase p ON p.user_id = u.user_id WHERE p.weight = 1 GROUP BY 1 ORDER BY 1";
    assert_eq!(world.ask(joined), ["u1 | 2", "u2 | 1", "u3 | 1"]);
    let within = "SELECT count(*) FROM users WHERE user_id IN (SELECT user_id FROM purchase WHERE category = 'shoes')";
    assert_eq!(world.ask(within), ["2"]);
}
