//! Profiles against plain users, their figures against the definitions.

use super::*;
use crate::audience::ops::profile::difference::{Difference, Part, distance_significance, distinction};
use crate::audience::ops::profile::{Saying, naive};

type Ids<'w> = BTreeSet<&'w str>;

pub(super) fn check_profile(world: &World, predicate: &Predicate, against: &Predicate) {
    let tags: Vec<(&str, TagId)> = world.catalog.tags().map(|(name, tag)| (name, tag.id)).collect();
    let by: Vec<TagId> = tags.iter().map(|(_, tag)| *tag).collect();
    let told = profile(&world.snapshot(), predicate, &by, against, &world.context()).expect("profile");
    let (own, base) = (world.who(predicate), world.who(against));
    let rest: Ids<'_> = base.difference(&own).copied().collect();
    assert_eq!((told.count, told.baseline_count), (own.len() as u64, base.len() as u64));
    assert_eq!(told.rest_count, rest.len() as u64);
    let mut differences: Vec<(Difference, [Part; 2])> = Vec::new();
    for ((name, _), (_, told)) in tags.iter().zip(&told.tags) {
        let with = |ids: &Ids<'_>, fits: &dyn Fn(Option<&Value>) -> bool| {
            ids.iter().filter(|id| fits(world.users[**id].tags.get(*name))).count() as u64
        };
        match told {
            TagProfile::Values { values, unknown, baseline_unknown, is_flag } => {
                for cell in values {
                    let fits = |value: Option<&Value>| match value {
                        Some(Value::Set(values)) => values.contains(&cell.value),
                        Some(Value::Enum(value)) => *value == cell.value,
                        Some(Value::Flag(value)) => value.to_string() == cell.value,
                        None => *is_flag && cell.value == "false",
                        _ => false,
                    };
                    let expected = [&own, &base, &rest].map(|ids| with(ids, &fits));
                    let counted = [cell.count, cell.baseline_count, cell.rest_count];
                    assert_eq!(counted, expected, "{name} = {}", cell.value);
                    let parts = [
                        Part { count: expected[0], of: own.len() as u64 },
                        Part { count: expected[2], of: rest.len() as u64 },
                    ];
                    let is_tested = !own.is_empty() && !rest.is_empty();
                    assert_eq!(cell.difference.is_some(), is_tested, "{name} = {}", cell.value);
                    if let Some(difference) = cell.difference {
                        let p_value = naive::significance(parts[0], parts[1]);
                        assert!(is_close(difference.p_value, p_value), "{name} = {}: {p_value}", cell.value);
                        differences.push((difference, parts));
                    }
                }
                let none = |value: Option<&Value>| match value {
                    Some(Value::Set(values)) => values.is_empty(),
                    Some(_) => false,
                    None => !is_flag,
                };
                assert_eq!((*unknown, *baseline_unknown), (with(&own, &none), with(&base, &none)), "{name}");
                assert!(values.is_sorted_by(|a, b| a.count >= b.count));
            }
            TagProfile::Number(told) => {
                let [own, base, rest] = [&own, &base, &rest].map(|ids| numbers(world, ids, name));
                check_number(name, told, [&own, &base, &rest]);
                let parts = told.cut.map(|cut| (cut.difference, [cut.audience, cut.rest]));
                differences.extend(parts);
            }
        }
    }
    check_corrected(&differences);
    check_distinguishing(&told, &differences);
}

fn is_close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

fn numbers(world: &World, ids: &Ids<'_>, tag: &str) -> Vec<i64> {
    let number = |id: &&str| match world.users[*id].tags.get(tag) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    };
    let mut numbers: Vec<i64> = ids.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn check_number(name: &str, told: &NumberProfile, [own, base, rest]: [&[i64]; 3]) {
    assert_eq!((told.count, told.baseline_count), (own.len() as u64, base.len() as u64), "{name}");
    let total = |numbers: &[i64]| numbers.iter().map(|number| i128::from(*number)).sum::<i128>();
    assert_eq!((told.sum, told.baseline_sum), (total(own), total(base)), "{name}");
    assert_eq!((told.min, told.max), (own.first().copied(), own.last().copied()), "{name}");
    assert_eq!((told.baseline_min, told.baseline_max), (base.first().copied(), base.last().copied()), "{name}");
    for (quantiles, numbers) in [(&told.quantiles, own), (&told.baseline_quantiles, base)] {
        assert_eq!(quantiles.is_empty(), numbers.is_empty(), "{name}");
        for (q, number) in quantiles {
            let rank = ((q * numbers.len() as f64).ceil() as usize).clamp(1, numbers.len());
            assert_eq!(*number, numbers[rank - 1], "{name} at {q}");
        }
    }
    let within =
        |numbers: &[i64], from: i64, to: i64| numbers.iter().filter(|n| (from..=to).contains(n)).count() as u64;
    for (from, to, count, baseline) in &told.histogram {
        assert_eq!((*count, *baseline), (within(own, *from, *to), within(base, *from, *to)), "{name} {from}..={to}");
    }
    assert_eq!(told.histogram.iter().map(|bin| bin.2).sum::<u64>(), told.count);
    let seen: u64 = told.histogram.iter().map(|bin| bin.3).sum();
    let below = told.min.map_or(0, |min| base.iter().filter(|number| **number < min).count() as u64);
    let expected = if own.is_empty() { (0, 0) } else { (below, base.len() as u64 - seen - below) };
    assert_eq!((told.baseline_below, told.baseline_above), expected, "{name}");
    check_cut(name, told, [own, base, rest]);
}

/// The cut is right, and no quantile and no end of a bin is a better one.
fn check_cut(name: &str, told: &NumberProfile, [own, base, rest]: [&[i64]; 3]) {
    assert_eq!(told.cut.is_some(), !own.is_empty() && !rest.is_empty(), "{name}");
    let Some(cut) = told.cut else { return };
    let up_to = |numbers: &[i64], at: i64| numbers.iter().filter(|number| **number <= at).count() as u64;
    let part = |numbers: &[i64], at: i64| Part { count: up_to(numbers, at), of: numbers.len() as u64 };
    assert_eq!((cut.audience, cut.rest), (part(own, cut.at), part(rest, cut.at)), "{name} at {}", cut.at);
    assert_eq!(cut.baseline_count, up_to(base, cut.at), "{name}");
    let distance = |at: i64| (part(own, at).share() - part(rest, at).share()).abs();
    let quantiles = told.quantiles.iter().chain(&told.baseline_quantiles).map(|(_, number)| *number);
    let places = quantiles.chain(told.histogram.iter().map(|bin| bin.1));
    assert!(places.into_iter().all(|at| distance(at) <= distance(cut.at)), "{name}");
    let p_value = distance_significance(distance(cut.at), [own.len() as u64, rest.len() as u64]).expect("of some");
    assert!(is_close(cut.difference.p_value, p_value), "{name}");
}

fn check_corrected(differences: &[(Difference, [Part; 2])]) {
    let p_values: Vec<f64> = differences.iter().map(|(difference, _)| difference.p_value).collect();
    for ((told, [audience, rest]), q_value) in differences.iter().zip(naive::q_values(&p_values)) {
        assert!(is_close(told.q_value, q_value), "{} instead of {q_value}", told.q_value);
        assert_eq!(told.distinction, distinction(*audience, *rest, told.q_value));
    }
}

/// Everything that is not chance is said once, the farthest first.
fn check_distinguishing(told: &Profile, differences: &[(Difference, [Part; 2])]) {
    let said = told.distinguishing();
    assert!(said.is_sorted_by(|a, b| a.difference.distinction.abs() >= b.difference.distinction.abs()));
    let falses = told.tags.iter().flat_map(|(_, told)| match told {
        TagProfile::Values { values, is_flag: true, .. } => {
            values.iter().find(|value| value.value == "false").and_then(|value| value.difference)
        }
        _ => None,
    });
    let counted = |differences: &mut dyn Iterator<Item = Difference>| {
        differences.filter(|difference| difference.distinction != 0.0).count()
    };
    let expected =
        counted(&mut differences.iter().map(|(difference, _)| *difference)) - counted(&mut falses.into_iter());
    assert_eq!(said.len(), expected);
    for saying in said {
        let (share, baseline) = (saying.count as f64, saying.baseline_count as f64);
        if let Saying::AtMost(_) | Saying::Above(_) = saying.is {
            assert!(saying.difference.distinction > 0.0, "said of what the audience has more of");
        }
        assert!(share <= told.count as f64 && baseline <= told.baseline_count as f64);
    }
}
