//! Scans come first: rows are read before a program is made, and what was found becomes a leaf of slots.
//!
//! A scan under an AND is asked about the members of the other operands only, whatever NOTs and ORs stand in between: what it
//! says of others does not matter there. A scan that stands in several places runs once, for the users that matter in
//! any of them. Of several scans the one with the fewest such users runs first, and what it finds narrows the others.

use super::members::slots;
use super::{QueryContext, QueryError};
use crate::audience::plan::estimate;
use crate::audience::predicate::Predicate;
use crate::audience::scan::{Given, Scan, ScanStats};
use crate::store::Snapshot;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most different scans of one question: each reads rows.
pub const SCANS_MAX: usize = 64;

/// The predicate with what its scans find in the snapshot, for questions about this snapshot only; itself if it has none. Costs
/// as much as the scans; every operator does it by itself, so it is worth a call only where one question is asked in parts.
///
/// # Errors
/// [`QueryError`], also if there is nobody to scan.
pub fn resolve<'p>(
    snapshot: &Snapshot,
    predicate: &'p Predicate,
    context: &QueryContext,
) -> Result<Cow<'p, Predicate>, QueryError> {
    let [resolved] = resolve_each(snapshot, [predicate], context)?;
    Ok(resolved)
}

/// The same of several predicates: a scan that several have runs once.
pub(super) fn resolve_each<'p, const N: usize>(
    snapshot: &Snapshot,
    predicates: [&'p Predicate; N],
    context: &QueryContext,
) -> Result<[Cow<'p, Predicate>; N], QueryError> {
    if !predicates.iter().any(|predicate| predicate.needs_scan()) {
        return Ok(predicates.map(Cow::Borrowed));
    }
    let mut resolved: Vec<Predicate> = predicates.iter().map(|predicate| (*predicate).clone()).collect();
    resolve_all(snapshot, &mut resolved, context)?;
    let mut resolved = resolved.into_iter();
    Ok(predicates.map(|_| Cow::Owned(resolved.next().expect("as many as there were"))))
}

/// The same in place.
pub(super) fn resolve_all(
    snapshot: &Snapshot,
    predicates: &mut [Predicate],
    context: &QueryContext,
) -> Result<(), QueryError> {
    let scan_count = pending(predicates.iter()).len();
    if scan_count > SCANS_MAX {
        let message = format!("the question needs {scan_count} scans of events, and may need {SCANS_MAX}");
        return Err(QueryError::Invalid(message));
    }
    loop {
        context.check()?;
        let places = pending(predicates.iter());
        let cost =
            |within: &Option<Predicate>| within.as_ref().map_or(u64::MAX, |within| estimate(snapshot.shards(), within));
        let next = places.into_iter().min_by_key(|(_, within)| cost(within));
        let Some((scan, within)) = next.map(|(scan, within)| (scan.clone(), within)) else { return Ok(()) };
        let given = Arc::new(run(snapshot, &scan, within.as_ref(), context)?);
        predicates.iter_mut().for_each(|predicate| replace(predicate, &scan, &given));
    }
}

/// For each scan whose users are restricted, by how many at most.
pub(super) fn restrictions(
    snapshot: &Snapshot,
    predicate: &Predicate,
    context: &QueryContext,
) -> Result<BTreeMap<Scan, u64>, QueryError> {
    let mut restricted = BTreeMap::new();
    for (scan, within) in pending([predicate].into_iter()) {
        if let Some(within) = within {
            restricted.insert(scan.clone(), super::count(snapshot, &within, context)?);
        }
    }
    Ok(restricted)
}

fn run(
    snapshot: &Snapshot,
    scan: &Scan,
    within: Option<&Predicate>,
    context: &QueryContext,
) -> Result<Given, QueryError> {
    let Some(scanner) = &context.scanner else {
        let fact = snapshot.catalog().name_of(scan.fact).unwrap_or("dropped");
        return Err(QueryError::NoScanner { fact: fact.to_owned() });
    };
    let shard_count = snapshot.shards().len();
    let within = within.map(|within| slots(snapshot, within, context)).transpose()?;
    let users_within = within.as_ref().map(|within| within.iter().map(|users| users.len()).sum::<u64>());
    let mut found = match users_within {
        Some(0) => Default::default(),
        _ => scanner.scan(snapshot, scan, within.as_deref(), &context.cancelled)?,
    };
    if let Some(within) = &within {
        found.users.iter_mut().zip(within).for_each(|(found, within)| *found &= within);
    }
    let stats = ScanStats { users_within, ..found.stats };
    Ok(Given::new(Some((scan.clone(), stats)), shard_count, &found.users))
}

/// The scans of predicates, each with the users that matter in any of its places; `None`: all do.
fn pending<'p>(predicates: impl Iterator<Item = &'p Predicate>) -> BTreeMap<&'p Scan, Option<Predicate>> {
    let mut places: BTreeMap<&Scan, Option<Vec<Predicate>>> = BTreeMap::new();
    for predicate in predicates {
        collect(predicate, &mut Vec::new(), &mut places);
    }
    let any = |within: Vec<Predicate>| Predicate::Or(within).canonical();
    let all_but_everybody = |within: Option<Vec<Predicate>>| within.map(any).filter(|within| *within != Predicate::All);
    places.into_iter().map(|(scan, within)| (scan, all_but_everybody(within))).collect()
}

/// Walks down with what holds of everybody who matters there.
fn collect<'p>(
    predicate: &'p Predicate,
    around: &mut Vec<&'p Predicate>,
    places: &mut BTreeMap<&'p Scan, Option<Vec<Predicate>>>,
) {
    match predicate {
        Predicate::Scan(scan) => {
            let place = places.entry(scan).or_insert_with(|| Some(Vec::new()));
            if around.is_empty() {
                *place = None;
            } else if let Some(within) = place {
                within.push(Predicate::And(around.iter().map(|one| (*one).clone()).collect()));
            }
        }
        Predicate::And(of) => {
            let (later, known): (Vec<_>, Vec<_>) = of.iter().partition(|operand| operand.needs_scan());
            if later.is_empty() {
                return;
            }
            let outer = around.len();
            around.extend(known);
            later.into_iter().for_each(|operand| collect(operand, around, places));
            around.truncate(outer);
        }
        Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter().for_each(|operand| collect(operand, around, places));
        }
        Predicate::Xor(a, b) => {
            collect(a, around, places);
            collect(b, around, places);
        }
        Predicate::Not(of) => collect(of, around, places),
        _ => {}
    }
}

fn replace(predicate: &mut Predicate, scan: &Scan, given: &Arc<Given>) {
    match predicate {
        Predicate::Scan(own) if **own == *scan => *predicate = Predicate::Given(Arc::clone(given)),
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter_mut().for_each(|operand| replace(operand, scan, given));
        }
        Predicate::Xor(a, b) => {
            replace(a, scan, given);
            replace(b, scan, given);
        }
        Predicate::Not(of) => replace(of, scan, given),
        _ => {}
    }
}
