//! Effect of campaigns against plain events and sets of users.

use super::journeys::{ids, step};
use super::*;
use crate::audience::expr::Did;
use crate::audience::naive::meant;
use crate::audience::scan::EventValue;
use crate::behavior::calendar::Date;
use crate::catalog::Zone;
use roaring::RoaringTreemap;
use std::collections::{HashMap, HashSet};

const HOUR_MICROS: i64 = 3_600_000_000;

/// What some events come to.
#[derive(Clone, Debug, Default)]
struct Expected {
    events: u64,
    users: HashSet<String>,
    measure: i128,
}

/// A group, or all; a stage; a period, or the whole time.
type Key = (Option<EventValue>, usize, Option<i32>);

/// A stage with what its events are told apart by and what is added up.
type Asked = (Did, StageMeant, Option<&'static str>, Option<&'static str>);

fn stage(world: &World, random: &mut Random, by: Option<&'static str>) -> Asked {
    let (did, events) = step(world, random);
    let fact = world.catalog.fact("purchase").expect("declared");
    let place = |name: Option<&str>| name.map(|name| fact.column(name).expect("declared") as u16);
    let measure = [None, Some("amount"), Some("level"), Some("rating")][random.below(4) as usize];
    (did, StageMeant { events, by: place(by), measure: place(measure) }, by, measure)
}

/// The first hour of the period that holds an hour.
fn begin(grain: TimeGrain, hour: i64) -> i64 {
    let day = hour.div_euclid(24);
    let first = match grain {
        TimeGrain::Hour => return hour,
        TimeGrain::Day => day,
        // The third day of 1970 before the first was a Monday.
        TimeGrain::Week => (0..7).map(|back| day - back).find(|day| (day + 3).rem_euclid(7) == 0).expect("a Monday"),
        TimeGrain::Month => Date { day: 1, ..Date::of(day) }.days_since_1970(),
    };
    first * 24
}

fn of_users(world: &World, users: &RoaringTreemap) -> HashSet<String> {
    let mut shards = vec![RoaringBitmap::new(); world.snapshot().shards().len()];
    users.bitmaps().for_each(|(shard, slots)| shards[shard as usize] = slots.clone());
    ids(world, &shards).into_iter().collect()
}

fn check_effect(world: &World, whom: &Predicate, random: &mut Random) {
    let by = [None, Some("category"), Some("level"), Some("gift")][random.below(4) as usize];
    let impressions = stage(world, random, by);
    let mut stages = vec![Some(impressions)];
    for _ in 1..STAGES {
        let by = if random.one_in(3) { None } else { by };
        stages.push((!random.one_in(4)).then(|| stage(world, random, by)));
    }
    let grain = [None, Some(TimeGrain::Hour), Some(TimeGrain::Day), Some(TimeGrain::Week), Some(TimeGrain::Month)]
        [random.below(5) as usize];
    // Of periods by the clocks of the fact the index knows; not by those of others.
    let zone = match random.one_in(2) {
        true => world.catalog.fact("purchase").expect("declared").zone.clone(),
        false => Zone::new("Test/Behind", -16_200, vec![(NOW / 1_000_000 - 400_000, -12_600)]),
    };
    let frequencies = 1 + random.below(4) as usize;
    let asked = EffectQuestion {
        stages: std::array::from_fn(|at| stages[at].as_ref().map(|(_, meant, ..)| meant)),
        periods: grain.map(|grain| Periods { grain, zone: &zone }),
        frequencies,
        whom,
    };
    let found = effect(&world.snapshot(), &asked, &world.context()).expect("an effect");

    let mut expected: HashMap<Key, Expected> = HashMap::new();
    let mut shown: HashMap<(Option<EventValue>, String), usize> = HashMap::new();
    for id in world.who(whom) {
        let user = &world.users[id];
        for (at, (did, _, own_by, measure)) in
            stages.iter().enumerate().filter_map(|(at, stage)| Some((at, stage.as_ref()?)))
        {
            for event in meant(did, user) {
                let hour = zone.local(event.ts).div_euclid(HOUR_MICROS);
                let period = grain.map(|grain| begin(grain, hour) as i32);
                let group = by.and(*own_by).map(|by| event.value(Some(by)));
                let measure = match (*measure, event.value(*measure)) {
                    (Some("rating"), EventValue::Number(_)) => event.rating.expect("a number") * 250_000,
                    (_, EventValue::Number(number)) => number,
                    _ => 0,
                };
                let groups: HashSet<Option<EventValue>> = [None, group].into();
                let periods: HashSet<Option<i32>> = [None, period].into();
                for group in &groups {
                    for period in &periods {
                        let expected = expected.entry((group.clone(), at, *period)).or_default();
                        expected.events += 1;
                        expected.users.insert(id.to_owned());
                        expected.measure += i128::from(measure);
                    }
                    if at == 0 {
                        *shown.entry((group.clone(), id.to_owned())).or_default() += 1;
                    }
                }
            }
        }
    }
    let known: BTreeSet<EventValue> = expected.keys().filter_map(|(group, ..)| group.clone()).collect();
    assert_eq!(found.groups.keys().cloned().collect::<BTreeSet<_>>(), known, "{asked:?}");
    let told = std::iter::once((None, &found.all))
        .chain(found.groups.iter().map(|(value, group)| (Some(value.clone()), group)));
    let nothing = Expected::default();
    for (value, group) in told {
        let of = |stage: usize, period: Option<i32>| {
            let Expected { events, users, measure } = expected.get(&(value.clone(), stage, period)).unwrap_or(&nothing);
            Figures { events: *events, users: users.len() as u64, measure: *measure }
        };
        for stage in 0..STAGES {
            assert_eq!(group.stages[stage], of(stage, None), "{value:?} {stage} {asked:?}");
            let users = expected.get(&(value.clone(), stage, None)).unwrap_or(&nothing).users.clone();
            assert_eq!(of_users(world, &group.users[stage]), users);
        }
        let periods: BTreeSet<i32> =
            expected.keys().filter(|(of, ..)| *of == value).filter_map(|(.., period)| *period).collect();
        assert_eq!(group.periods.keys().copied().collect::<BTreeSet<_>>(), periods);
        for (period, figures) in &group.periods {
            assert_eq!(*figures, std::array::from_fn(|stage| of(stage, Some(*period))), "{value:?} {period} {asked:?}");
        }
        let mut frequency = vec![0; frequencies];
        let mut exclusive = 0;
        for ((_, user), times) in shown.iter().filter(|((of, _), _)| *of == value) {
            frequency[(*times).min(frequencies) - 1] += 1;
            let groups = known.iter().filter(|group| shown.contains_key(&(Some((*group).clone()), user.clone())));
            exclusive += u64::from(groups.count() < 2);
        }
        // What nobody had behind the last is left out.
        frequency.truncate(frequency.iter().rposition(|users| *users > 0).map_or(0, |last| last + 1));
        assert_eq!((&group.frequency, group.exclusive), (&frequency, exclusive), "{value:?} {asked:?}");
    }
    // Some groups together, and all one after the other.
    let some: Vec<&EventValue> = known.iter().filter(|_| random.one_in(2)).collect();
    let together = GroupEffect::together(some.iter().map(|value| &found.groups[*value]), &world.context());
    for (stage, figures) in together.expect("figures").into_iter().enumerate() {
        let all: Vec<&Expected> =
            some.iter().filter_map(|value| expected.get(&(Some((*value).clone()), stage, None))).collect();
        let users: HashSet<&String> = all.iter().flat_map(|one| &one.users).collect();
        let (events, measure) = (all.iter().map(|one| one.events).sum(), all.iter().map(|one| one.measure).sum());
        assert_eq!(figures, Figures { events, users: users.len() as u64, measure });
    }
    let steps = incremental_reach(&found, &[], usize::MAX, &world.context()).expect("steps");
    if by.is_some() {
        assert_eq!(steps.last().map_or(0, |step| step.cumulative), found.all.reach());
        assert!(steps.is_sorted_by(|a, b| a.adds >= b.adds));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn effects_are_what_plain_events_say(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << shards);
        for _ in 0..6 {
            let whom = if random.one_in(2) { Predicate::All } else { world.predicate(&mut random) };
            check_effect(&world, &whom, &mut random);
        }
    }
}

#[test]
fn what_is_no_effect_is_refused() {
    let mut random = Random::new(3);
    let world = World::new(&mut random, 1);
    let (_, impressions, ..) = stage(&world, &mut random, Some("level"));
    let fact = world.catalog.fact("purchase").expect("declared");
    let text = StageMeant { measure: fact.column("category").map(|at| at as u16), ..impressions.clone() };
    let good = EffectQuestion {
        stages: [Some(&impressions), None, None],
        periods: None,
        frequencies: 10,
        whom: &Predicate::All,
    };
    effect(&world.snapshot(), &good, &world.context()).expect("an effect");
    for wrong in [
        EffectQuestion { frequencies: 0, ..good },
        EffectQuestion { frequencies: EFFECT_FREQUENCY_MAX + 1, ..good },
        EffectQuestion { stages: [Some(&text), None, None], ..good },
    ] {
        let refused = effect(&world.snapshot(), &wrong, &world.context());
        assert!(matches!(refused, Err(QueryError::Invalid(_))));
    }
    let gone = QueryContext { cancelled: Arc::new(AtomicBool::new(true)), ..world.context() };
    assert!(matches!(effect(&world.snapshot(), &good, &gone), Err(QueryError::Cancelled)));
}
