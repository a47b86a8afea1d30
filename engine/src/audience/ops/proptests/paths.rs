//! Paths against plain events.

use super::journeys::{DAY_MICROS, ids, step};
use super::*;
use crate::audience::expr::Did;
use crate::audience::naive::meant;
use crate::audience::scan::EventValue;
use crate::journey::naive;
use crate::journey::path::Walk;

/// A step and, if it has one, the column whose values tell its events apart.
pub(super) type Asked = (Did, KindMeant, Option<&'static str>);

pub(super) fn kind(world: &World, random: &mut Random, may_have_column: bool) -> Asked {
    let (did, events) = step(world, random);
    let names = [None, Some("category"), Some("level"), Some("gift"), Some("amount")];
    let name = if may_have_column { names[random.below(5) as usize] } else { None };
    let fact = world.catalog.fact("purchase").expect("declared");
    let column = name.map(|name| fact.column(name).expect("declared") as u16);
    (did, KindMeant { events, column }, name)
}

/// When something happened, and what: a step and a value.
pub(super) type Row = (i64, (u32, EventValue));

/// What a user did: the step that an event is, counted from `first`, and the value of its column; the chosen one comes before others.
pub(super) fn rows(user: &User, chosen: (&Did, u32), steps: &[Asked], first: u32) -> Vec<Row> {
    let is = |did: &Did, event: &crate::audience::naive::Event| {
        meant(did, user).iter().any(|meant| std::ptr::eq(*meant, event))
    };
    let thing = |event: &crate::audience::naive::Event| {
        if is(chosen.0, event) {
            return Some((chosen.1, EventValue::None));
        }
        let at = steps.iter().position(|(did, ..)| is(did, event))?;
        Some((first + at as u32, event.value(steps[at].2)))
    };
    user.events.iter().filter_map(|event| Some((event.ts, thing(event)?))).collect()
}

fn check_path(world: &World, whom: &Predicate, random: &mut Random) {
    let (chosen_did, chosen, _) = kind(world, random, false);
    let steps: Vec<Asked> = (0..1 + random.below(3)).map(|_| kind(world, random, true)).collect();
    let [backwards, last, fold] = std::array::from_fn(|_| random.one_in(2));
    let window = [0, DAY_MICROS, 20 * DAY_MICROS, 1_000 * DAY_MICROS][random.below(4) as usize];
    let walk = Walk { window: window.into(), depth: 1 + random.below(4) as usize, backwards, last, fold };
    let values = 1 + random.below(3) as usize;
    let bound: Vec<KindMeant> = steps.iter().map(|(_, kind, _)| kind.clone()).collect();
    let asked = PathQuestion { chosen: &chosen, steps: &bound, walk, values, whom };
    let found = path(&world.snapshot(), &asked, &world.context()).expect("paths");

    let (number, first) = if backwards { (steps.len() as u32, 0) } else { (0, 1) };
    let chosen_thing = (number, EventValue::None);
    let mut all: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for id in world.who(whom) {
        let of_user = rows(&world.users[id], (&chosen_did, number), &steps, first);
        if of_user.iter().any(|(_, thing)| *thing == chosen_thing) {
            all.insert(id.to_owned(), of_user);
        }
    }
    assert_eq!(found.events, all.values().map(|rows| rows.len() as u64).sum::<u64>());
    assert_eq!(ids(world, &found.users), all.keys().cloned().collect());
    // Which values have most events.
    let mut counts: BTreeMap<(u32, EventValue), u64> = BTreeMap::new();
    all.values().flatten().for_each(|(_, thing)| *counts.entry(thing.clone()).or_default() += 1);
    let mut nodes = vec![PathNode::Chosen];
    let mut node_of = BTreeMap::from([(chosen_thing.clone(), 0)]);
    for step in 0..steps.len() {
        let of_step = counts.iter().filter(|((other, _), _)| *other == first + step as u32);
        let mut of_step: Vec<(u64, EventValue)> = of_step.map(|((_, value), count)| (*count, value.clone())).collect();
        of_step.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (at, (_, value)) in of_step.iter().enumerate() {
            node_of.insert((first + step as u32, value.clone()), nodes.len() + at.min(values));
        }
        let told = of_step.iter().take(values);
        nodes.extend(told.map(|(_, value)| PathNode::Step(step, value.clone())));
        if of_step.len() > values {
            nodes.push(PathNode::Others(step, (of_step.len() - values) as u64));
        }
    }
    assert_eq!(found.nodes, nodes, "{steps:?}");
    // Who was where, who went where, and how long it took.
    let mut at: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
    let mut over: BTreeMap<PathLink, BTreeMap<String, i64>> = BTreeMap::new();
    for (id, rows) in &all {
        let path = naive::path(rows, &chosen_thing, &walk);
        for (depth, (_, thing)) in path.iter().enumerate() {
            at.entry((depth, node_of[thing])).or_default().insert(id.clone());
        }
        for (depth, pair) in path.windows(2).enumerate() {
            let link = PathLink { depth, near: node_of[&pair[0].1], far: node_of[&pair[1].1] };
            over.entry(link).or_default().insert(id.clone(), (pair[0].0 - pair[1].0).abs());
        }
    }
    let mut links: Vec<(PathLink, u64)> = over.iter().map(|(link, users)| (*link, users.len() as u64)).collect();
    links.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    assert_eq!(found.links, links, "{asked:?}");
    for (link, users) in &over {
        assert_eq!(ids(world, &found.users_over(*link)), users.keys().cloned().collect());
        let mut times: Vec<i64> = users.values().copied().collect();
        times.sort_unstable();
        let middle = (times[(times.len() - 1) / 2] + times[times.len() / 2]) as f64 / 2.0;
        assert_eq!(found.median_micros(*link), Some(middle));
    }
    let places = found.places();
    assert_eq!(places.keys().collect::<Vec<_>>(), at.keys().collect::<Vec<_>>());
    for ((depth, node), users) in &at {
        let went_on = over.iter().filter(|(link, _)| (link.depth, link.near) == (*depth, *node));
        let went_on: BTreeSet<String> = went_on.flat_map(|(_, users)| users.keys().cloned()).collect();
        let stopped = users - &went_on;
        assert_eq!(ids(world, &found.users_at(*depth, *node)), *users);
        assert_eq!(ids(world, &found.stopped_at(*depth, *node)), stopped);
        let told = if *depth < walk.depth { stopped.len() as u64 } else { 0 };
        assert_eq!(places[&(*depth, *node)], (users.len() as u64, told), "{depth} {node}");
    }
    let nobody = PathLink { depth: 0, near: 0, far: 4_000 };
    assert_eq!(found.median_micros(nobody), None);
    assert!(ids(world, &found.users_at(0, 1)).is_empty() && ids(world, &found.users_over(nobody)).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn paths_are_what_plain_events_say(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << shards);
        for _ in 0..6 {
            let whom = if random.one_in(2) { Predicate::All } else { world.predicate(&mut random) };
            check_path(&world, &whom, &mut random);
        }
    }
}

#[test]
fn what_is_no_path_is_refused() {
    let mut random = Random::new(3);
    let world = World::new(&mut random, 1);
    let (_, chosen, _) = kind(&world, &mut random, false);
    let many = vec![chosen.clone(); PATH_STEPS_MAX + 1];
    let walk = Walk { window: 1, depth: 1, backwards: false, last: false, fold: false };
    let good = PathQuestion { chosen: &chosen, steps: &many[..1], walk, values: 1, whom: &Predicate::All };
    path(&world.snapshot(), &good, &world.context()).expect("a path");
    for wrong in [
        PathQuestion { steps: &many, ..good },
        PathQuestion { steps: &[], ..good },
        PathQuestion { values: 0, ..good },
        PathQuestion { values: PATH_VALUES_MAX + 1, ..good },
        PathQuestion { walk: Walk { depth: PATH_DEPTH_MAX + 1, ..walk }, ..good },
    ] {
        let refused = path(&world.snapshot(), &wrong, &world.context());
        assert!(matches!(refused, Err(QueryError::Invalid(_))));
    }
    let gone = QueryContext { cancelled: Arc::new(AtomicBool::new(true)), ..world.context() };
    assert!(matches!(path(&world.snapshot(), &good, &gone), Err(QueryError::Cancelled)));
}
