//! Groups and best members against plain users.

use super::*;
use crate::audience::ops::{
    Best, Figure, FigureOf, Group, Grouping, RankOf, Ranking, TagValues, Told, best, groups, ranked, ranked_groups,
};
use crate::bitmap::bsi::NumberSummary;
use crate::bitmap::count_each::GroupCounts;

/// A tag of the user as the values it has in groups; `None` is to have none.
fn values_of(user: &User, name: &str, tag_type: TagType) -> Vec<Option<String>> {
    match (user.tags.get(name), tag_type) {
        (Some(Value::Enum(value)), _) => vec![Some(value.clone())],
        (Some(Value::Set(values)), _) => values.iter().cloned().map(Some).collect(),
        (Some(Value::Flag(true)), _) => vec![Some("true".to_owned())],
        (None, TagType::Set) => Vec::new(),
        _ => vec![None],
    }
}

fn number_of(user: &User, name: &str) -> Option<i64> {
    match user.tags.get(name) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

/// What the place of a value stands for.
fn named(values: &TagValues, place: Option<u32>) -> Option<String> {
    let place = place? as usize;
    if values.tag_type() == TagType::Flag {
        assert_eq!(place, 0, "a flag has one leaf");
        return Some("true".to_owned());
    }
    Some(String::from_utf8(values.values().nth(place).expect("a value").to_vec()).expect("text"))
}

/// The figure of these users, worked out one by one.
fn told(world: &World, users: &[&User], figure: &Figure, conditions: &[Predicate], values: &[TagValues]) -> Told {
    let fitting = |user: &&&User| figure.within.is_none_or(|of| fits(&conditions[of], user, &world.catalog));
    let users: Vec<&User> = users.iter().filter(fitting).copied().collect();
    let name = |tag: TagId| world.catalog.name_of(tag).expect("declared");
    let summary = |tag: TagId, with_extremes: bool| {
        let mut summary = NumberSummary::default();
        for number in users.iter().filter_map(|user| number_of(user, name(tag))) {
            let extreme = with_extremes.then_some(number);
            summary.merge(&NumberSummary { count: 1, sum: number.into(), min: extreme, max: extreme });
        }
        Told::Numbers(summary)
    };
    match figure.of {
        FigureOf::Count => Told::Count(users.len() as u64),
        FigureOf::Sum(tag) => summary(tag, false),
        FigureOf::Summary(tag) => summary(tag, true),
        FigureOf::Values(of) => {
            let tag = &values[of];
            let of_user = |user: &&User| values_of(user, name(tag.tag()), tag.tag_type());
            let with =
                |value: Option<String>| users.iter().filter(|user| of_user(user).contains(&value)).count() as u64;
            let each = (0..tag.target_count() as u32).map(|place| with(named(tag, Some(place)))).collect();
            let any = users.iter().filter(|user| of_user(user).iter().any(Option::is_some)).count() as u64;
            Told::Values(GroupCounts { each, any })
        }
    }
}

type Key = Vec<Option<String>>;

/// All combinations of the user's values.
fn keys_of(world: &World, user: &User, by: &[TagValues]) -> Vec<Key> {
    by.iter().fold(vec![Vec::new()], |keys, tag| {
        let values = values_of(user, world.catalog.name_of(tag.tag()).expect("declared"), tag.tag_type());
        keys.iter()
            .flat_map(|key| values.iter().map(|value| [key.as_slice(), std::slice::from_ref(value)].concat()))
            .collect()
    })
}

fn check_groups(world: &World, predicate: &Predicate, random: &mut Random) {
    let snapshot = world.snapshot();
    let tags = |names: &[&str]| -> Vec<TagValues> {
        names.iter().map(|name| TagValues::new(&snapshot, id(&world.catalog, name)).expect("values")).collect()
    };
    let mut names = ["gender", "city", "member", "interest"];
    for last in (1..names.len()).rev() {
        names.swap(last, random.below(last as u64 + 1) as usize);
    }
    let by = tags(&names[..random.below(4) as usize]);
    let values = tags(&["city", "interest"]);
    let conditions = [world.predicate(random), world.predicate(random)];
    let figures: Vec<Figure> = (0..random.below(5))
        .map(|_| {
            let number = id(&world.catalog, ["age", "spend", "seen_at"][random.below(3) as usize]);
            let of = match random.below(6) {
                0..3 => FigureOf::Count,
                3 => FigureOf::Sum(number),
                4 => FigureOf::Summary(number),
                _ => FigureOf::Values(random.below(2) as usize),
            };
            let within = if random.one_in(3) { Some(random.below(2) as usize) } else { None };
            Figure { of, within }
        })
        .collect();
    let asked = Grouping { by: &by, figures: &figures, conditions: &conditions, values: &values };
    let all = 0..snapshot.shards().len();
    let found = groups(&snapshot, predicate, &asked, all.clone(), &world.context()).expect("groups");
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "in order of their values");

    let mut expected: BTreeMap<Key, Vec<&User>> = BTreeMap::new();
    if by.is_empty() {
        expected.insert(Vec::new(), Vec::new());
    }
    let who = world.who(predicate);
    for user in who.iter().map(|id| &world.users[*id]) {
        for key in keys_of(world, user, &by) {
            expected.entry(key).or_default().push(user);
        }
    }
    let named_key = |key: &[Option<u32>]| key.iter().zip(&by).map(|(place, tag)| named(tag, *place)).collect::<Key>();
    let found_by_name: BTreeMap<Key, Vec<Told>> =
        found.iter().map(|(key, told)| (named_key(key), told.clone())).collect();
    assert_eq!(found_by_name.len(), found.len());
    let expected: BTreeMap<Key, Vec<Told>> = expected
        .into_iter()
        .map(|(key, users)| {
            let of = figures.iter().map(|figure| told(world, &users, figure, &conditions, &values)).collect();
            (key, of)
        })
        .collect();
    assert_eq!(found_by_name, expected, "{asked:?}");

    // Shard by shard, the counts add up to the same.
    let of_shards: Vec<Vec<Group>> = all
        .map(|shard| groups(&snapshot, predicate, &asked, [shard], &world.context()).expect("groups of a shard"))
        .collect();
    let total = |groups: &[Group]| -> u64 {
        let counts = groups.iter().flat_map(|(_, told)| told).map(|told| match told {
            Told::Count(count) => *count,
            Told::Numbers(summary) => summary.count,
            Told::Values(counts) => counts.any,
        });
        counts.sum()
    };
    assert_eq!(of_shards.iter().map(|groups| total(groups)).sum::<u64>(), total(&found));
}

fn check_ranked_groups(world: &World, predicate: &Predicate, random: &mut Random) {
    let snapshot = world.snapshot();
    let names = ["gender", "city", "member", "interest"].into_iter().filter(|_| random.one_in(2));
    let by: Vec<TagValues> =
        names.map(|name| TagValues::new(&snapshot, id(&world.catalog, name)).expect("values")).collect();
    let conditions = [world.predicate(random), world.predicate(random)];
    let numbers: Vec<RankOf> = (0..1 + random.below(3))
        .map(|_| RankOf {
            of: id(&world.catalog, ["age", "spend", "seen_at"][random.below(3) as usize]),
            within: if random.one_in(2) { Some(random.below(2) as usize) } else { None },
        })
        .collect();
    let mut expected: BTreeMap<Key, Vec<Vec<i64>>> = BTreeMap::new();
    let nothing = || vec![Vec::new(); numbers.len()];
    if by.is_empty() {
        expected.insert(Vec::new(), nothing());
    }
    for user in world.who(predicate).iter().map(|id| &world.users[*id]) {
        for key in keys_of(world, user, &by) {
            let of_group = expected.entry(key).or_insert_with(nothing);
            for (asked, of_group) in numbers.iter().zip(of_group) {
                let number = number_of(user, world.catalog.name_of(asked.of).expect("declared"));
                let fits = asked.within.is_none_or(|of| fits(&conditions[of], user, &world.catalog));
                of_group.extend(number.filter(|_| fits));
            }
        }
    }
    expected.values_mut().flatten().for_each(|numbers| numbers.sort_unstable());
    let asked = Ranking { by: &by, numbers: &numbers, conditions: &conditions };
    let ranks = |at: usize, count: u64| [0, 1, 1 + at as u64, count / 2, count, count + 1].into();
    let found = ranked_groups(&snapshot, predicate, &asked, ranks, &world.context()).expect("ranked groups");
    let found: BTreeMap<Key, _> = found
        .into_iter()
        .map(|(key, told)| (key.iter().zip(&by).map(|(place, tag)| named(tag, *place)).collect(), told))
        .collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{asked:?}");
    for (key, told) in found {
        for (at, ((count, ranked), numbers)) in told.iter().zip(&expected[&key]).enumerate() {
            assert_eq!(*count, numbers.len() as u64, "{key:?} of {asked:?}");
            let wanted: BTreeSet<u64> = ranks(at, *count);
            let wanted = wanted.into_iter().filter(|rank| (1..=*count).contains(rank));
            let expected: BTreeMap<u64, i64> = wanted.map(|rank| (rank, numbers[rank as usize - 1])).collect();
            assert_eq!(*ranked, expected, "{key:?} of {asked:?}");
        }
    }
}

fn check_best(world: &World, predicate: &Predicate, wanted: Best) {
    let snapshot = world.snapshot();
    let name = world.catalog.name_of(wanted.by).expect("declared");
    // The place in the order: who has no number is before or behind all others.
    let place = |user: &&User| {
        let number = number_of(user, name);
        (
            number.is_none() != wanted.unknown_first,
            number.map(|number| if wanted.descending { !number } else { number }),
        )
    };
    let who = world.who(predicate);
    let mut expected: Vec<_> = who.iter().map(|id| place(&&world.users[*id])).collect();
    expected.sort_unstable();
    let parts = best(&snapshot, predicate, &wanted, &world.context()).expect("best");
    let mut found = Vec::new();
    let mut distinct = BTreeSet::new();
    for (part, enough) in &parts {
        let ids =
            members(&snapshot, part, None, enough.unwrap_or(usize::MAX), &world.context()).expect("members").users;
        for id in ids {
            found.push(place(&&world.users[&id]));
            assert!(who.contains(id.as_str()) && distinct.insert(id), "a member, once");
        }
    }
    found.sort_unstable();
    let k = wanted.k.min(expected.len());
    assert_eq!(found[..k], expected[..k], "{wanted:?}: {parts:?}");
    if !wanted.any_of_equals && k > 0 {
        let equal = |places: &[(bool, Option<i64>)]| places.iter().filter(|place| **place <= expected[k - 1]).count();
        assert_eq!(equal(&found), equal(&expected), "all equals of the last one: {wanted:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn groups_and_best_members_are_those_of_plain_users(seed in any::<u64>(), shards in 0..3u32, k in 0..12usize) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << (2 * shards));
        for _ in 0..6 {
            let predicate = world.predicate(&mut random);
            check_groups(&world, &predicate, &mut random);
            check_ranked_groups(&world, &predicate, &mut random);
            let by = id(&world.catalog, ["age", "spend", "seen_at"][random.below(3) as usize]);
            let [descending, unknown_first, any_of_equals] = std::array::from_fn(|_| random.one_in(2));
            check_best(&world, &predicate, Best { by, descending, unknown_first, k, any_of_equals });
            let numbers = world.numbers(&predicate, "age");
            let asked = |count: u64| {
                assert_eq!(count, numbers.len() as u64);
                [1, count / 2, count, count + 1].into()
            };
            let found = ranked(&world.snapshot(), &predicate, id(&world.catalog, "age"), asked, &world.context()).expect("ranked");
            for (rank, number) in found {
                prop_assert_eq!(number, numbers[rank as usize - 1]);
            }
        }
    }
}

/// Chunks with many members, sparse and dense values, and a newer layer that changes some.
#[test]
fn groups_of_full_chunks_are_those_of_their_users() {
    let users = 140_000u32;
    let (store, catalog) = crowd(users);
    let [gender, city, age] = ["gender", "city", "age"].map(|name| id(&catalog, name));
    let member = id(&catalog, "member");
    let mut batch = UpdateBatch::new();
    let letter = |user: u32| match user {
        _ if user % 9_000 == 3 => Some("rare"),
        _ => [None, Some("a"), Some("a"), Some("b"), Some("b")][user as usize % 5],
    };
    for user in 0..users {
        batch.begin_user(format!("user-{user}").as_bytes());
        letter(user).into_iter().for_each(|letter| batch.push(gender, Change::Enum(letter)));
        batch.push(city, Change::Enum(["x", "y", "z"][user as usize % 3]));
    }
    store.write(&batch, None).expect("write");
    store.checkpoint().expect("checkpoint");
    let mut batch = UpdateBatch::new();
    for user in (0..users).step_by(7) {
        batch.begin_user(format!("user-{user}").as_bytes());
        batch.push(gender, Change::Enum("b"));
        batch.push(age, Change::Number(-1));
    }
    store.write(&batch, None).expect("write");
    store.publish().expect("publish");

    let mut expected: BTreeMap<Key, (u64, i128, u64)> = BTreeMap::new();
    let mut ages: BTreeMap<Key, Vec<i64>> = BTreeMap::new();
    for user in 0..users {
        let is_changed = user % 7 == 0;
        let gender = if is_changed { Some("b") } else { letter(user) };
        let city = ["x", "y", "z"][user as usize % 3];
        let key = vec![gender.map(str::to_owned), Some(city.to_owned())];
        ages.entry(key.clone()).or_default().push(if is_changed { -1 } else { i64::from(user % 100) });
        let (count, sum, members) = expected.entry(key).or_default();
        *count += 1;
        *sum += if is_changed { -1 } else { i128::from(user % 100) };
        *members += u64::from(user % 3 == 0);
    }
    let snapshot = store.snapshot();
    let by = [gender, city].map(|tag| TagValues::new(&snapshot, tag).expect("values"));
    let figure = |of, within| Figure { of, within };
    let counted = figure(FigureOf::Count, None);
    let figures = [counted, figure(FigureOf::Sum(age), None), figure(FigureOf::Count, Some(0))];
    let conditions = [Predicate::Flag(member)];
    let asked = Ranking { by: &by, numbers: &[RankOf { of: age, within: None }], conditions: &[] };
    let deciles = |_, count: u64| (1..10).map(|part| 1 + count * part / 10).collect();
    let ranked = ranked_groups(&snapshot, &Predicate::All, &asked, deciles, &context()).expect("ranked groups");
    assert_eq!(ranked.len(), ages.len());
    for (key, told) in ranked {
        let numbers = ages.get_mut(&key.iter().zip(&by).map(|(place, tag)| named(tag, *place)).collect::<Key>());
        let numbers = numbers.expect("a group");
        numbers.sort_unstable();
        assert_eq!(told[0].0, numbers.len() as u64, "{key:?}");
        assert!(
            told[0].1.len() >= 9 && told[0].1.iter().all(|(rank, of)| numbers[*rank as usize - 1] == *of),
            "{key:?}"
        );
    }
    for figures in [&figures[..], &figures[..1]] {
        let asked = Grouping { by: &by, figures, conditions: &conditions, values: &[] };
        let found = groups(&snapshot, &Predicate::All, &asked, [0], &context()).expect("groups");
        assert_eq!(found.len(), expected.len());
        for (key, told) in found {
            let key: Key = key.iter().zip(&by).map(|(place, tag)| named(tag, *place)).collect();
            let (count, sum, members) = expected[&key];
            let summary = NumberSummary { count, sum, min: None, max: None };
            let all = [Told::Count(count), Told::Numbers(summary), Told::Count(members)];
            assert_eq!(told, all[..figures.len()], "{key:?}");
        }
    }
}

#[test]
fn a_cancelled_grouping_ends() {
    let (store, catalog) = crowd(1_000);
    let cancelled = context();
    cancelled.cancelled.store(true, Ordering::Relaxed);
    let snapshot = store.snapshot();
    let by = [TagValues::new(&snapshot, id(&catalog, "member")).expect("values")];
    let asked = Grouping { by: &by, figures: &[], conditions: &[], values: &[] };
    let ended = groups(&snapshot, &Predicate::All, &asked, [0], &cancelled);
    assert!(matches!(ended, Err(QueryError::Cancelled)));
    assert!(TagValues::new(&snapshot, id(&catalog, "age")).is_err(), "a number has no values");
}
