//! What is read and what is not, and what happens when reading does not go well.

use crate::support::{DAY_MICROS, World, names};
use engine::audience::naive::{Event, NOW};
use engine::audience::ops::{QueryContext, QueryError, count, explain, members};
use engine::audience::predicate::Predicate;
use engine::audience::scan::{EventCondition, FactScanner, Kind, KindScan};
use engine::behavior::Window;
use engine::error::Class;
use engine_sql::scan::{MEMORY_BYTES_DEFAULT, TableScanner};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A hundred users with an event on each of ten days, in a file a day.
fn world() -> World {
    let mut world = World::new(1);
    for day in 0..10 {
        let event = |user: u32| Event {
            ts: NOW - day * DAY_MICROS,
            category: Some(if user < 5 { "shoes" } else { "hats" }.to_owned()),
            level: Some(day),
            amount: Some(i64::from(user)),
            rating: Some(2),
            coupon: (user == 7).then(|| "X".to_owned()),
            ..Event::default()
        };
        world.put(&(0..100).map(|user| (format!("u{user}"), event(user))).collect::<Vec<_>>());
        world.store.checkpoint().expect("checkpoint");
    }
    world.store.publish().expect("publish");
    world
}

fn who(world: &World, text: &str) -> BTreeSet<String> {
    let page = members(&world.store.snapshot(), &world.parse(text), None, 1_000, &world.context());
    page.unwrap_or_else(|error| panic!("{text}: {error}")).users.into_iter().collect()
}

#[test]
fn conditions_that_no_index_covers_are_answered() {
    let world = world();
    let ask = |text: &str| who(&world, text);
    assert_eq!(ask("did('purchase', category = 'shoes' AND level = 3)"), names("u", 0..5));
    assert_eq!(ask("did('purchase', amount >= 0.97)"), names("u", 97..100));
    assert_eq!(ask("did('purchase', category < 'i', sum(level) = 45)"), names("u", 5..100));
    assert_eq!(ask("did('purchase', gift IS NULL AND level > 8, sum(rating) >= 0.5)"), names("u", 0..100));
    assert_eq!(ask("did('purchase', undeclared.extra.Coupon = 'X', count = 10)"), names("u", 7..8));
    assert_eq!(ask("did('purchase', undeclared.extra.coupon = 'X')"), BTreeSet::new(), "keys are as written");
    assert_eq!(ask("did('purchase', amount < 0.03, ts >= '2026-11-20T10:00:00Z')"), names("u", 0..3));
    assert_eq!(ask("did('purchase', ts > '2026-11-20T10:00:00Z')"), BTreeSet::new());
    assert_eq!(ask("NOT did('purchase', amount < 0.95 OR level IS NULL)"), names("u", 95..100));
    assert_eq!(ask("did('purchase', category = 'shoes' AND category = 'hats', count = 0)"), names("u", 0..100));
    // Ten days ago to the instant is without, now is within.
    assert_eq!(ask("did('purchase', within => '9 days', exact_window => TRUE, count = 9)"), names("u", 0..100));
    assert_eq!(ask("did('purchase', within => '9 days', count = 10)"), BTreeSet::new());
    assert_eq!(ask("did('purchase', first > '2026-11-11T09:00:00Z', count >= 10)"), names("u", 0..100));
}

#[test]
fn only_what_can_matter_is_read() {
    let world = world();
    let stats = |text: &str| {
        let plan =
            explain(&world.store.snapshot(), &world.parse(text), Some(|| 0), &world.context()).expect("explains");
        let mut open = vec![plan];
        while let Some(node) = open.pop() {
            if let Some(stats) = node.scan {
                assert_eq!(node.operator, "scan");
                return stats;
            }
            open.extend(node.inputs);
        }
        panic!("no scan in {text}")
    };
    let all = stats("did('purchase', amount >= 0)");
    assert_eq!((all.files, all.rows_read, all.users_within), (10, 1_000, None));
    let few_days = stats("did('purchase', amount >= 0, within => '3 days')");
    assert_eq!((few_days.files, few_days.rows_read), (3, 300));
    let instants = stats("did('purchase', ts >= '2026-11-18T12:00:00Z')");
    assert!(instants.files <= 5 && instants.rows_read == 200, "{instants:?}");
    let shoes = stats("did('purchase', category = 'shoes' AND amount >= 0.01)");
    assert_eq!((shoes.rows_read, shoes.users_within), (40, Some(5)), "the index names those who bought shoes");
    let of_some = stats("user_id IN ('u3', 'u99', 'nobody') AND did('purchase', amount > 0.5)");
    assert_eq!((of_some.rows_read, of_some.users_within), (10, Some(2)));
    let plan = explain(
        &world.store.snapshot(),
        &world.parse("did('purchase', amount > 0.5, count >= 2)"),
        None,
        &world.context(),
    );
    let text = plan.expect("explains").to_string();
    assert!(
        text.starts_with("scan did('purchase', amount BETWEEN 0.51")
            || text.starts_with("scan did('purchase', amount >= 0.51"),
        "{text}"
    );
    assert!(text.contains("among all users"), "{text}");
}

#[test]
fn too_much_memory_is_refused_and_said() {
    let world = world();
    let small = Arc::new(TableScanner::new(Arc::clone(&world.tables), 1_000).expect("threads"));
    let context = QueryContext { scanner: Some(small), ..QueryContext::default() };
    let error =
        count(&world.store.snapshot(), &world.parse("did('purchase', amount >= 0)"), &context).expect_err("too much");
    assert_eq!(error.class(), Class::Exhausted, "{error}");
    assert!(error.to_string().contains("scan_memory_bytes"), "{error}");
}

#[test]
fn values_of_events_count_as_memory() {
    let mut world = World::new(1);
    let event = |at: i64| Event { ts: NOW - at, category: Some(format!("{at:01000}")), ..Event::default() };
    world.put(&(0..1_000).map(|at| ("u1".to_owned(), event(at))).collect::<Vec<_>>());
    world.store.checkpoint().expect("checkpoint");
    world.store.publish().expect("publish");
    let fact = world.catalog.fact("purchase").expect("declared");
    let tell = |column: Option<u16>| {
        let scanner = TableScanner::new(Arc::clone(&world.tables), 400_000).expect("threads");
        let kind = Kind { number: 0, window: Window::ALL, condition: EventCondition::Any, column, measure: None };
        let scan = KindScan { fact: fact.id, kinds: vec![kind] };
        scanner.kinds(&world.store.snapshot(), &scan, None, &AtomicBool::new(false)).map(|told| told.shards[0].len())
    };
    assert_eq!(tell(None).expect("16 bytes each"), 1_000);
    let error = tell(fact.column("category").map(|at| at as u16)).expect_err("a megabyte of texts");
    assert!(error.class() == Class::Exhausted && error.to_string().contains("scan_memory_bytes"), "{error}");
}

#[test]
fn rows_that_wait_count_as_memory_too() {
    let mut world = World::new(1);
    let event = |at: i64| Event { ts: NOW - at, amount: Some(7), ..Event::default() };
    world.put(&(0..5_000).map(|at| ("u1".to_owned(), event(at))).collect::<Vec<_>>());
    world.store.publish().expect("publish");
    let ask = |memory_bytes_max| {
        let scanner = TableScanner::new(Arc::clone(&world.tables), memory_bytes_max).expect("threads");
        let context = QueryContext { scanner: Some(Arc::new(scanner)), ..QueryContext::default() };
        count(&world.store.snapshot(), &world.parse("did('purchase', amount = 0.07, count = 5000)"), &context)
    };
    // Of each row seven numbers at most, of which the longest takes 16 bytes; not the names, ids and other columns.
    assert_eq!(ask(5_000 * 64).expect("counts"), 1);
    let error = ask(100_000).expect_err("too much");
    assert_eq!(error.class(), Class::Exhausted, "{error}");
}

/// On a stack as threads have, whatever the one of the test has.
#[test]
fn long_lists_and_many_conditions_need_no_deep_stack() {
    let search = || {
        let world = world();
        let ask = |text: &str| who(&world, text);
        let numbers: Vec<String> = (0..20_000).map(|number| format!("{}.5", number * 3)).collect();
        let few = format!("0.07, 0.12, {}", numbers.join(","));
        let those = ["u7", "u12", "u50"].map(str::to_owned).into();
        assert_eq!(ask(&format!("did('purchase', amount IN ({few}))")), those);
        assert_eq!(ask(&format!("NOT did('purchase', amount NOT IN ({few}))")).len(), 3);
        let texts: Vec<String> = (0..20_000).map(|number| format!("'{number}'")).collect();
        let texts = texts.join(",");
        assert_eq!(ask(&format!("did('purchase', undeclared.extra.Coupon NOT IN ({texts}))")), names("u", 7..8));
        assert_eq!(ask(&format!("did('purchase', undeclared.extra.Coupon IN ({texts}, 'X'))")), names("u", 7..8));
        assert_eq!(ask("did('purchase', undeclared.extra.n.\"1\" IN (7, 2.5, 100))"), names("u", 7..8));
        assert_eq!(ask("did('purchase', rating IN (0.5, 9))").len(), 100);
        for join in [" OR ", " AND "] {
            let all: Vec<String> = (0..490).map(|number| format!("amount <> {}", 100 + number * 2)).collect();
            assert_eq!(ask(&format!("did('purchase', amount < 0.05 AND ({}))", all[..100].join(join))).len(), 5);
        }
        let all: Vec<String> = (0..490).map(|number| format!("amount > {}", 100 + number * 2)).collect();
        assert_eq!(ask(&format!("did('purchase', amount = 0.05 OR {})", all.join(" OR "))), names("u", 5..6));
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(search).expect("a thread");
    thread.join().expect("answers");
}

#[test]
fn without_a_scanner_it_is_said_who_can() {
    let world = world();
    let predicate = world.parse("did('purchase', amount >= 0)");
    let error = count(&world.store.snapshot(), &predicate, &QueryContext::default()).expect_err("nobody reads");
    assert!(matches!(&error, QueryError::NoScanner { fact } if fact == "purchase"), "{error}");
    let plan =
        explain(&world.store.snapshot(), &predicate, None, &QueryContext::default()).expect("a plan reads nothing");
    assert_eq!(plan.operator, "scan");
}

#[test]
fn a_cancelled_scan_ends() {
    let world = world();
    let context = world.context();
    context.cancelled.store(true, Ordering::Relaxed);
    let found = count(&world.store.snapshot(), &world.parse("did('purchase', amount >= 0)"), &context);
    assert!(matches!(found, Err(QueryError::Cancelled)));
}

#[test]
fn a_damaged_or_missing_file_is_an_error() {
    let world = world();
    let table = world.folder.path().join("facts/purchase");
    let files = || {
        let days = std::fs::read_dir(&table).expect("a table").map(|day| day.expect("an entry").path());
        days.filter(|day| day.to_string_lossy().contains("day="))
            .map(|day| std::fs::read_dir(day).expect("a day").next().expect("a file").expect("an entry").path())
    };
    let predicate: Predicate = world.parse("did('purchase', amount >= 0.5, count = 10)");
    // Another scanner each time: what one has read of a file's end it need not read again.
    let ask = || {
        let scanner = TableScanner::new(Arc::clone(&world.tables), MEMORY_BYTES_DEFAULT).expect("threads");
        let context = QueryContext { scanner: Some(Arc::new(scanner)), ..QueryContext::default() };
        count(&world.store.snapshot(), &predicate, &context)
    };
    assert_eq!(ask().expect("counts"), 50);
    let path = files().next().expect("a file");
    let good = std::fs::read(&path).expect("bytes");
    let middle = good.len() / 2;
    for damaged in [good[..middle].to_vec(), Vec::new(), vec![0xff; good.len()]] {
        std::fs::write(&path, damaged).expect("writes");
        let error = ask().expect_err("damage");
        assert!(error.to_string().starts_with("the events of fact `purchase` cannot be searched"), "{error}");
    }
    std::fs::remove_file(&path).expect("removes");
    assert!(ask().is_err());
    std::fs::write(&path, good).expect("writes");
    assert_eq!(ask().expect("counts"), 50);
}
