//! Events that are one thing each — a step, or a value of its column — gathered and put in order, and what they are worth.

use super::funnel::asked_about;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventValue, EventsMeant, Kind, KindScan, ScanStats, ToldKinds, float_of};
use crate::catalog::ColumnType;
use crate::ids::TagId;
use crate::journey::{Event, in_order};
use crate::store::Snapshot;
use rayon::prelude::*;
use std::any::Any;
use std::collections::BTreeMap;

/// Digits behind the point that a value in floating point is rounded to.
const FLOAT_DIGITS: u8 = 6;

/// Events that are one thing, or, with a column, as many as it has values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindMeant {
    /// Which events.
    pub events: EventsMeant,
    /// The column whose values tell them apart, by its place in the fact.
    pub column: Option<u16>,
}

/// Events of kinds.
#[derive(Default)]
pub(super) struct GatheredKinds {
    /// Per shard, in the order of users, times and things; what an event fulfils is the place of its thing.
    pub(super) shards: Vec<Vec<Event>>,
    /// Things, in order: the number of a kind, and a value of its column.
    pub(super) things: Vec<(u32, EventValue)>,
    /// How they were read.
    pub(super) stats: ScanStats,
    /// See [`crate::audience::scan::ToldEvents::held`].
    pub(super) held: Vec<Box<dyn Any + Send>>,
}

/// The events of some kinds, each with its number, of `whom`. An event is of the first kind that means it. Of users who cannot have an
/// event of `needed`, none may be told.
pub(super) fn gathered_kinds(
    snapshot: &Snapshot,
    kinds: &[(u32, &KindMeant)],
    whom: &Predicate,
    needed: &EventsMeant,
    context: &QueryContext,
) -> Result<GatheredKinds, QueryError> {
    let mut gathered = GatheredKinds { shards: vec![Vec::new(); snapshot.shards().len()], ..GatheredKinds::default() };
    let mut scans: BTreeMap<TagId, KindScan> = BTreeMap::new();
    for (number, KindMeant { events, column }) in kinds.iter().filter(|(_, kind)| !kind.events.is_none()) {
        let scan = scans.entry(events.fact).or_insert(KindScan { fact: events.fact, kinds: Vec::new() });
        let (window, condition) = (events.window, events.condition.clone());
        scan.kinds.push(Kind { number: *number, window, condition, column: *column, measure: None });
    }
    let (within, users) = asked_about(snapshot, whom, Some(needed), context)?;
    gathered.stats.users_within = users;
    if users == Some(0) {
        return Ok(gathered);
    }
    for scan in scans.values() {
        context.check()?;
        let scanner = super::funnel::scanner(snapshot, scan.fact, context)?;
        let ToldKinds { shards, values, stats, held, .. } =
            scanner.kinds(snapshot, scan, within.as_deref(), &context.cancelled)?;
        gathered.stats.add(&stats);
        gathered.held.extend(held);
        let known = gathered.things.len() as u32;
        gathered.things.extend(values);
        for (all, mut events) in gathered.shards.iter_mut().zip(shards) {
            events.iter_mut().for_each(|event| event.fulfils += known);
            if all.is_empty() { *all = events } else { all.extend(events) }
        }
    }
    // Events that were taken back, or are of others, leave things that nobody has.
    let mut has = vec![false; gathered.things.len()];
    gathered.shards.iter().flatten().for_each(|event| has[event.fulfils as usize] = true);
    context.check()?;
    // The same thing comes from one fact only, so that places are all that changes.
    let mut order: Vec<u32> = (0..gathered.things.len() as u32).filter(|thing| has[*thing as usize]).collect();
    order.sort_unstable_by(|a, b| gathered.things[*a as usize].cmp(&gathered.things[*b as usize]));
    let mut places = vec![0; gathered.things.len()];
    order.iter().enumerate().for_each(|(place, at)| places[*at as usize] = place as u32);
    gathered.things = order.iter().map(|thing| gathered.things[*thing as usize].clone()).collect();
    let order = |events: &mut Vec<Event>| {
        events.iter_mut().for_each(|event| event.fulfils = places[event.fulfils as usize]);
        *events = in_order(std::mem::take(events), Event::order_of_things, &|| context.check())?;
        Ok::<_, QueryError>(())
    };
    gathered.shards.par_iter_mut().try_for_each(order)?;
    Ok(gathered)
}

/// Digits behind the point of what a column's values are worth.
pub(super) fn value_digits(value_type: Option<ColumnType>) -> u8 {
    match value_type {
        Some(ColumnType::Decimal { scale, .. }) => scale,
        Some(ColumnType::Float) => FLOAT_DIGITS,
        _ => 0,
    }
}

/// What an event is worth, as a whole number: its value without the point.
pub(super) fn worth(value: &EventValue, value_type: Option<ColumnType>) -> Result<i64, QueryError> {
    match (value, value_type) {
        (EventValue::None, _) => Ok(0),
        (EventValue::Number(key), Some(ColumnType::Float)) => {
            let number = float_of(*key);
            let rounded = (number * 10f64.powi(FLOAT_DIGITS.into())).round();
            // Up to the greatest number that all whole ones are known to.
            if rounded.abs() > (1u64 << 53) as f64 || rounded.is_nan() {
                let why = format!(
                    "an event is worth {number}, and no floating point number beyond 9,007,199,254 is added up"
                );
                return Err(QueryError::Invalid(why));
            }
            Ok(rounded as i64)
        }
        (EventValue::Number(number), Some(ColumnType::Integer | ColumnType::Decimal { .. })) => Ok(*number),
        _ => Err(QueryError::Invalid("what an event is worth is a number; ask again".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::scan::float_key;

    #[test]
    fn floats_are_worth_millionths() {
        let of = |number: f64| worth(&EventValue::Number(float_key(number)), Some(ColumnType::Float));
        assert_eq!(of(0.1).expect("a number"), 100_000);
        assert_eq!(of(-2.000_000_4).expect("a number"), -2_000_000);
        assert_eq!(of(9e9).expect("a number"), 9_000_000_000_000_000);
        for wrong in [1e10, f64::NAN, f64::NEG_INFINITY] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        let decimal = ColumnType::Decimal { precision: 12, scale: 2 };
        assert_eq!(worth(&EventValue::Number(i64::MIN), Some(decimal)).expect("a number"), i64::MIN);
        assert_eq!(worth(&EventValue::None, Some(decimal)).expect("nothing"), 0);
        assert!(worth(&EventValue::Flag(true), Some(ColumnType::Boolean)).is_err());
    }
}
