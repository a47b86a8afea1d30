//! Attribution against plain events.

use super::journeys::DAY_MICROS;
use super::paths::{kind, rows};
use super::*;
use crate::audience::scan::EventValue;
use crate::journey::attribution::{Crediting, MODELS, PARTS};
use crate::journey::naive;

#[derive(Default)]
struct Expected {
    conversions: u64,
    users: BTreeSet<String>,
    shares: [f64; MODELS],
    values: [f64; MODELS],
}

fn check_attribution(world: &World, whom: &Predicate, random: &mut Random) {
    let by_value = random.one_in(2);
    let (conversion_did, mut conversion, _) = kind(world, random, false);
    let touches: Vec<_> = (0..1 + random.below(3)).map(|_| kind(world, random, by_value)).collect();
    let fact = world.catalog.fact("purchase").expect("declared");
    let (name, scale) =
        [(None, 1.0), (Some("amount"), 1.0), (Some("level"), 1.0), (Some("rating"), 1e6)][random.below(4) as usize];
    conversion.column = name.map(|name| fact.column(name).expect("declared") as u16);
    let lookback = [0, DAY_MICROS, 20 * DAY_MICROS, 1_000 * DAY_MICROS][random.below(4) as usize];
    let first = random.below(60) as u32;
    let crediting = Crediting {
        lookback: lookback.into(),
        half_life: 1 + random.below(20 * DAY_MICROS as u64) as i64,
        position: [first, 100 - first - 40, 40],
    };
    let bound: Vec<KindMeant> = touches.iter().map(|(_, kind, _)| kind.clone()).collect();
    let asked = AttributionQuestion { conversion: &conversion, touches: &bound, by_value, crediting, whom };
    let found = attribution(&world.snapshot(), &asked, &world.context()).expect("credits");

    let number = touches.len() as u32;
    let thing = (number, EventValue::None);
    let mut credits: BTreeMap<Campaign, Expected> = BTreeMap::new();
    let (mut all, mut untouched) = (Expected::default(), Expected::default());
    for id in world.who(whom) {
        let user = &world.users[id];
        // Events of one moment that are conversions differ in their value only, and each has the same touches.
        let worth = |time: i64| -> Vec<f64> {
            let is_conversion = |event: &&crate::audience::naive::Event| {
                event.ts == time
                    && crate::audience::naive::meant(&conversion_did, user)
                        .iter()
                        .any(|meant| std::ptr::eq(*meant, *event))
            };
            let worth = |event: &crate::audience::naive::Event| match (name, event.value(name)) {
                (Some("rating"), EventValue::Number(_)) => event.rating.expect("a number") as f64 / 4.0 * scale,
                (_, EventValue::Number(number)) => number as f64,
                _ => 0.0,
            };
            user.events.iter().filter(is_conversion).map(worth).collect()
        };
        let mut before: Option<(i64, usize)> = None;
        for (time, touched) in naive::credits(&rows(user, (&conversion_did, number), &touches, 0), &thing, &crediting) {
            let at = before.filter(|(other, _)| *other == time).map_or(0, |(_, at)| at + 1);
            before = Some((time, at));
            let worth = worth(time)[at];
            let of = |expected: &mut Expected| {
                expected.conversions += 1;
                expected.users.insert(id.to_owned());
                expected.values[0] += worth;
            };
            of(&mut all);
            if touched.is_empty() {
                of(&mut untouched);
            }
            let campaign = |(touch, value): &(u32, EventValue)| match by_value {
                true => Campaign::Value(value.clone()),
                false => Campaign::Touch(*touch as usize),
            };
            for (_, thing, shares) in &touched {
                let expected = credits.entry(campaign(thing)).or_default();
                for (model, share) in shares.iter().enumerate() {
                    expected.shares[model] += share;
                    expected.values[model] += share * worth;
                }
            }
            let campaigns: BTreeSet<Campaign> = touched.iter().map(|(_, thing, _)| campaign(thing)).collect();
            for campaign in campaigns {
                let expected = credits.entry(campaign).or_default();
                expected.conversions += 1;
                expected.users.insert(id.to_owned());
            }
        }
    }
    let converted = |expected: &Expected| (expected.conversions, expected.users.len() as u64, expected.values[0]);
    let told = |converted: &Converted| (converted.conversions, converted.users, converted.value as f64);
    assert_eq!(told(&found.all), converted(&all), "{asked:?}");
    assert_eq!(told(&found.untouched), converted(&untouched), "{asked:?}");
    assert_eq!(found.credits.keys().collect::<Vec<_>>(), credits.keys().collect::<Vec<_>>(), "{asked:?}");
    for (campaign, expected) in &credits {
        let credit = &found.credits[campaign];
        assert_eq!((credit.conversions, credit.users), (expected.conversions, expected.users.len() as u64));
        for model in 0..MODELS {
            let near = |found: i128, wanted: f64| {
                (found as f64 / f64::from(PARTS) - wanted).abs() <= 1e-6 * wanted.abs().max(scale * 100.0)
            };
            assert!(near(credit.parts[model], expected.shares[model]), "{campaign:?} {model} {asked:?}");
            assert!(near(credit.values[model], expected.values[model]), "{campaign:?} {model} {asked:?}");
        }
    }
    // Credits are whole conversions, and all that they are worth.
    for model in 0..MODELS {
        let sum = |of: fn(&Credit, usize) -> i128| found.credits.values().map(|credit| of(credit, model)).sum::<i128>();
        let touched = i128::from(found.all.conversions - found.untouched.conversions);
        assert_eq!(sum(|credit, model| credit.parts[model]), touched * i128::from(PARTS));
        let worth = found.all.value - found.untouched.value;
        assert_eq!(sum(|credit, model| credit.values[model]), worth * i128::from(PARTS));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn credits_are_what_plain_events_say(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << shards);
        for _ in 0..6 {
            let whom = if random.one_in(2) { Predicate::All } else { world.predicate(&mut random) };
            check_attribution(&world, &whom, &mut random);
        }
    }
}

#[test]
fn what_is_no_attribution_is_refused() {
    let mut random = Random::new(3);
    let world = World::new(&mut random, 1);
    let (_, conversion, _) = kind(&world, &mut random, false);
    let many = vec![conversion.clone(); TOUCHES_MAX + 1];
    let crediting = Crediting { lookback: 1, half_life: 1, position: [40, 20, 40] };
    let whom = &Predicate::All;
    let good = AttributionQuestion { conversion: &conversion, touches: &many[..1], by_value: false, crediting, whom };
    attribution(&world.snapshot(), &good, &world.context()).expect("credits");
    for wrong in [
        AttributionQuestion { touches: &many, ..good },
        AttributionQuestion { touches: &[], ..good },
        AttributionQuestion { crediting: Crediting { half_life: 0, ..crediting }, ..good },
        AttributionQuestion { crediting: Crediting { position: [40, 40, 40], ..crediting }, ..good },
    ] {
        let refused = attribution(&world.snapshot(), &wrong, &world.context());
        assert!(matches!(refused, Err(QueryError::Invalid(_))));
    }
    let gone = QueryContext { cancelled: Arc::new(AtomicBool::new(true)), ..world.context() };
    assert!(matches!(attribution(&world.snapshot(), &good, &gone), Err(QueryError::Cancelled)));
}
