//! Experiments against plain users.

use super::paths::kind;
use super::*;
use crate::audience::naive::meant;
use crate::audience::scan::EventValue;

fn check_experiment(world: &World, random: &mut Random) {
    let groups: Vec<ExperimentGroup> = (0..2 + random.below(3))
        .map(|_| ExperimentGroup { users: world.predicate(random), weight: 1.0 + random.below(3) as f64 })
        .collect();
    let fact = world.catalog.fact("purchase").expect("declared");
    let (mut dids, mut metrics): (Vec<_>, Vec<Metric>) = (Vec::new(), Vec::new());
    for _ in 0..1 + random.below(4) {
        let (did, mut events, _) = kind(world, random, false);
        let (name, unit) = [(None, 1.0), (Some("amount"), 100.0), (Some("level"), 1.0)][random.below(3) as usize];
        events.column = name.map(|name| fact.column(name).expect("declared") as u16);
        for measured in [Measured::Any, Measured::Events, Measured::Sum] {
            dids.push((did.clone(), name, unit));
            metrics.push(Metric { events: events.clone(), measured });
        }
    }
    let control = random.below(groups.len() as u64) as usize;
    let asked = ExperimentQuestion { groups: &groups, control, metrics: &metrics, confidence: 0.9 };
    let found = experiment(&world.snapshot(), &asked, &world.context()).expect("read out");

    let members: Vec<BTreeSet<&str>> = groups.iter().map(|group| world.who(&group.users)).collect();
    let is_in = |id: &str| members.iter().filter(|members| members.contains(id)).count();
    assert_eq!(found.in_several, world.users.keys().filter(|id| is_in(id) > 1).count() as u64);
    let alone: Vec<Vec<&str>> =
        members.iter().map(|members| members.iter().copied().filter(|id| is_in(id) == 1).collect()).collect();
    assert_eq!(found.users, alone.iter().map(|group| group.len() as u64).collect::<Vec<_>>());
    for ((metric, (did, name, unit)), read) in metrics.iter().zip(&dids).zip(&found.metrics) {
        for (at, (ids, read)) in alone.iter().zip(&read.groups).enumerate() {
            let figure = |id: &&str| {
                let events = meant(did, &world.users[*id]);
                let sum = events.iter().map(|event| match event.value(*name) {
                    EventValue::Number(number) => number,
                    _ => 0,
                });
                match metric.measured {
                    Measured::Any => i64::from(!events.is_empty()),
                    Measured::Events => events.len() as i64,
                    Measured::Sum => sum.sum(),
                }
            };
            let unit = if metric.measured == Measured::Sum { *unit } else { 1.0 };
            let figures: Vec<i64> = ids.iter().map(figure).collect();
            let numbers: Vec<f64> = figures.iter().map(|figure| *figure as f64 / unit).collect();
            let with_any = ids.iter().filter(|id| !meant(did, &world.users[**id]).is_empty()).count() as u64;
            assert_eq!((read.with_any, read.total), (with_any, figures.iter().map(|figure| i128::from(*figure)).sum()));
            let users = numbers.len() as f64;
            let mean = if numbers.is_empty() { 0.0 } else { numbers.iter().sum::<f64>() / users };
            let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
            assert!((read.summary.mean - mean).abs() <= 1e-9 * mean.abs().max(1.0), "{read:?} {mean}");
            assert!((read.summary.squares - squares).abs() <= 1e-6 * squares.max(1.0), "{read:?} {squares}");
            assert_eq!(read.comparison.is_none(), at == control);
            if let Some(difference) = read.comparison.and_then(|comparison| comparison.difference) {
                assert!(difference.low <= difference.estimate && difference.estimate <= difference.high);
                let of_control = found.metrics.iter().zip(&metrics).find(|(_, other)| std::ptr::eq(*other, metric));
                let control = of_control.expect("it is one").0.groups[control].summary.mean;
                assert!((difference.estimate - (mean - control)).abs() <= 1e-9 * mean.abs().max(1.0));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn experiments_are_what_plain_users_say(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << shards);
        for _ in 0..4 {
            check_experiment(&world, &mut random);
        }
    }
}

#[test]
fn what_is_no_experiment_is_refused() {
    let mut random = Random::new(3);
    let world = World::new(&mut random, 1);
    let (_, events, _) = kind(&world, &mut random, false);
    let groups = vec![ExperimentGroup { users: Predicate::All, weight: 1.0 }; GROUPS_MAX + 1];
    let metrics = vec![Metric { events, measured: Measured::Any }; METRICS_MAX + 1];
    let good = ExperimentQuestion { groups: &groups[..2], control: 1, metrics: &metrics[..1], confidence: 0.95 };
    let told = experiment(&world.snapshot(), &good, &world.context()).expect("read out");
    assert_eq!((&told.users[..], told.in_several, told.sample_ratio), (&[0, 0][..], world.users.len() as u64, None));
    let light = [groups[0].clone(), ExperimentGroup { weight: 0.0, ..groups[0].clone() }];
    for (bad, why) in [
        (ExperimentQuestion { groups: &groups[..1], ..good }, "from 2 to 20 groups, not 1"),
        (ExperimentQuestion { groups: &groups, ..good }, "from 2 to 20 groups, not 21"),
        (ExperimentQuestion { metrics: &[], ..good }, "from 1 to 20 metrics, not 0"),
        (ExperimentQuestion { metrics: &metrics, ..good }, "from 1 to 20 metrics, not 21"),
        (ExperimentQuestion { control: 2, ..good }, "the control is one of the groups"),
        (ExperimentQuestion { groups: &light, ..good }, "a number from 0.000001 to 1000000"),
        (ExperimentQuestion { confidence: 1.0, ..good }, "between 0 and 1"),
        (ExperimentQuestion { confidence: f64::NAN, ..good }, "between 0 and 1"),
    ] {
        let error = experiment(&world.snapshot(), &bad, &world.context()).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}
