//! Random events, sent twice, late and taken back, over several checkpoints and some that are in none yet; random conditions;
//! the answer against a recount on plain values. And what the index covers, answered both ways.

use crate::support::{World, expected};
use engine::audience::bind_events;
use engine::audience::expr::{Did, Expr, ExprKind};
use engine::audience::naive::{NOW, Random, User, told_events, told_kinds};
use engine::audience::predicate::Predicate;
use engine::audience::scan::{EventScan, EventValue, FactScanner, Kind, KindScan};
use engine::ids::shard_of;
use engine::journey::Event;
use engine::store::Snapshot;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

/// A question that only reading the events answers, for an index knows no such condition; it holds of each of them.
fn forced(expr: &Expr) -> Expr {
    let ExprKind::Did(did) = &expr.kind else { panic!("a condition on behaviour") };
    let mut did = did.clone();
    did.events.push(ExprKind::IsNull { tag: "ts".to_owned(), negated: true }.into());
    ExprKind::Did(did).into()
}

fn check(world: &World, snapshot: &Snapshot, users: &[User], random: &mut Random) {
    for _ in 0..3 {
        let did: Expr = ExprKind::Did(Box::new(random.did())).into();
        let wanted = expected(snapshot, &did, users);
        assert_eq!(world.found(snapshot, &world.bind(&did)), wanted, "{did}");
        let by_scan = world.bind(&forced(&did));
        let is_constant = matches!(by_scan, Predicate::Nobody | Predicate::All);
        assert!(is_constant || by_scan.needs_scan(), "{did}");
        assert_eq!(world.found(snapshot, &by_scan), wanted, "by a scan: {did}");
        let several: Expr = ExprKind::Or(vec![
            ExprKind::And(vec![did, ExprKind::Did(Box::new(random.did())).into()]).into(),
            ExprKind::Not(Box::new(ExprKind::Did(Box::new(random.did())).into())).into(),
        ])
        .into();
        assert_eq!(world.found(snapshot, &world.bind(&several)), expected(snapshot, &several, users), "{several}");
    }
}

/// Few users, most, or (`None`) all.
fn some_users(snapshot: &Snapshot, random: &mut Random) -> Option<Vec<RoaringBitmap>> {
    let (one_in, are_few) = (2 + random.below(4) as u32, random.one_in(2));
    let some = |slots: u32| (0..slots).filter(|slot| slot.is_multiple_of(one_in) == are_few).collect();
    random.one_in(2).then(|| snapshot.shards().iter().map(|shard| some(shard.slot_count())).collect())
}

/// Events one by one, with the steps that each is.
fn check_told(world: &World, snapshot: &Snapshot, users: &[User], random: &mut Random) {
    let did = |random: &mut Random| Did { figures: Vec::new(), ..random.did() };
    let dids: Vec<Did> = (0..1 + random.below(4)).map(|_| did(random)).collect();
    let meant = dids.iter().enumerate().map(|(at, did)| {
        let meant = bind_events(did, &world.catalog, NOW).expect("binds");
        (at * 3, meant.window, meant.condition)
    });
    let mut conditions: Vec<_> = meant.collect();
    if random.one_in(2) {
        let window = conditions[0].1;
        conditions.iter_mut().for_each(|condition| condition.1 = window);
    }
    let scan = EventScan { fact: world.catalog.fact("purchase").expect("declared").id, conditions };
    let within = some_users(snapshot, random);
    let told = world.scanner.events(snapshot, &scan, within.as_deref(), &AtomicBool::new(false)).expect("told");
    let mut told: Vec<(usize, u32, i64, u32)> = told
        .shards
        .iter()
        .enumerate()
        .flat_map(|(shard, events)| events.iter().map(move |event| (shard, event.group, event.time, event.fulfils)))
        .collect();
    let mut wanted = Vec::new();
    for user in users {
        let shard = usize::from(shard_of(user.id.as_bytes(), snapshot.shards().len() as u16).0);
        let Some(slot) = snapshot.shards()[shard].slot_of(user.id.as_bytes()).expect("a dictionary") else { continue };
        if within.as_ref().is_none_or(|within| within[shard].contains(slot)) {
            let of_user = told_events(&scan, user, &world.catalog).into_iter();
            wanted.extend(of_user.map(|(time, fulfils)| (shard, slot, time, fulfils)));
        }
    }
    told.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(told, wanted, "{dids:?}");
}

/// An event: shard, slot, time, kind and value, measure.
type Told = (usize, u32, i64, (u32, EventValue), i64);

/// Events one by one, each as one thing.
fn check_kinds(world: &World, snapshot: &Snapshot, users: &[User], random: &mut Random) {
    let fact = world.catalog.fact("purchase").expect("declared");
    let kinds = (0..1 + random.below(4)).map(|at| {
        let did = Did { figures: Vec::new(), ..random.did() };
        let meant = bind_events(&did, &world.catalog, NOW).expect("binds");
        let column = (!random.one_in(4)).then(|| random.below(fact.columns.len() as u64) as u16);
        let numbers = ["amount", "level", "rating"].map(|name| fact.column(name).expect("declared") as u16);
        let measure = random.one_in(2).then(|| numbers[random.below(3) as usize]);
        Kind { number: 7 - at as u32, window: meant.window, condition: meant.condition, column, measure }
    });
    let scan = KindScan { fact: fact.id, kinds: kinds.collect() };
    let within = some_users(snapshot, random);
    let told = world.scanner.kinds(snapshot, &scan, within.as_deref(), &AtomicBool::new(false)).expect("told");
    assert_eq!(told.values.iter().collect::<HashSet<_>>().len(), told.values.len(), "each once");
    assert_eq!(told.measures.is_empty(), scan.kinds.iter().all(|kind| kind.measure.is_none()));
    let mut found: Vec<Told> = Vec::new();
    for (shard, events) in told.shards.iter().enumerate() {
        let measure = |at: usize| told.measures.get(shard).map_or(0, |measures| measures[at]);
        let thing = |event: &Event| told.values[event.fulfils as usize].clone();
        let row = |(at, event): (usize, &Event)| (shard, event.group, event.time, thing(event), measure(at));
        found.extend(events.iter().enumerate().map(row));
    }
    let mut wanted: Vec<Told> = Vec::new();
    for user in users {
        let shard = usize::from(shard_of(user.id.as_bytes(), snapshot.shards().len() as u16).0);
        let Some(slot) = snapshot.shards()[shard].slot_of(user.id.as_bytes()).expect("a dictionary") else { continue };
        if within.as_ref().is_some_and(|within| !within[shard].contains(slot)) {
            continue;
        }
        let of_user = told_kinds(&scan, user, &world.catalog).into_iter();
        wanted.extend(of_user.map(|(time, number, value, measure)| (shard, slot, time, (number, value), measure)));
    }
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{scan:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn scans_find_who_a_recount_finds(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let mut world = World::new(1 << (2 * shards));
        let mut kept: Option<(Snapshot, Vec<User>)> = None;
        for _ in 0..2 + random.below(2) {
            world.write(&mut random);
            match random.below(4) {
                0 => drop(world.store.publish().expect("publish")),
                1 => {
                    world.store.checkpoint().expect("checkpoint");
                    world.tables.compact("purchase", 1 << 20).expect("merges files");
                    world.store.compact().expect("merges segments");
                }
                _ => drop(world.store.checkpoint().expect("checkpoint")),
            }
            world.store.publish().expect("publish");
            if kept.is_none() || random.one_in(3) {
                kept = Some((world.store.snapshot(), world.users()));
            }
        }
        check(&world, &world.store.snapshot(), &world.users(), &mut random);
        for _ in 0..3 {
            check_told(&world, &world.store.snapshot(), &world.users(), &mut random);
            check_kinds(&world, &world.store.snapshot(), &world.users(), &mut random);
        }
        // A view that was kept sees the rows of its time, whatever came since.
        if let Some((snapshot, users)) = &kept {
            check(&world, snapshot, users, &mut random);
            check_told(&world, snapshot, users, &mut random);
        }
    }
}
