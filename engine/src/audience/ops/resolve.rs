//! Scans come first: rows are read before a program is made, and what was found becomes a leaf of slots.
//!
//! A scan under an AND is asked about the members of the other operands only, whatever NOTs and ORs stand in between: what it
//! says of others does not matter there. A scan that stands in several places runs once, for the users that matter in
//! any of them. Users like others are found before scans are, since their set does not depend on what stands beside it, and
//! narrows scans. Of several scans the one with the fewest such users runs first, and what it finds narrows the others.

use super::members::slots;
use super::{QueryContext, QueryError};
use crate::audience::plan::estimate;
use crate::audience::predicate::{Predicate, Selection};
use crate::audience::scan::{Found, Given, Scan, ScanStats};
use crate::store::Snapshot;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// The most different scans of one question: each reads rows.
pub const SCANS_MAX: usize = 64;
/// The most terms and values, over all places of a scan, by which its users are restricted; where there are more, what all places
/// have in common restricts them, which is fewer terms and more users.
const RESTRICTION_TERMS_MAX: usize = 100_000;

/// The predicate with what its scans and searches for similar users find in the snapshot, for questions about this snapshot
/// only; itself if it has none. Costs as much as the scans; every operator does it by itself, so it is worth a call only where
/// one question is asked in parts.
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
    check_scans(predicates.iter().copied())?;
    let mut resolved: Vec<Predicate> = predicates.iter().map(|predicate| (*predicate).clone()).collect();
    resolve_all(snapshot, &mut resolved, context)?;
    let mut resolved = resolved.into_iter();
    Ok(predicates.map(|_| Cow::Owned(resolved.next().expect("as many as there were"))))
}

/// The same in place, of predicates of one question.
///
/// # Errors
/// As [`resolve`]; the predicates are then as useless as the question.
pub fn resolve_all(
    snapshot: &Snapshot,
    predicates: &mut [Predicate],
    context: &QueryContext,
) -> Result<(), QueryError> {
    check_scans(predicates.iter())?;
    super::similar::settle(snapshot, predicates, context)?;
    loop {
        let mut next: Option<(u64, &Scan, Option<Predicate>)> = None;
        for (scan, places) in pending(predicates.iter()) {
            context.check()?;
            let within = places.within();
            let cost = within.as_ref().map_or(u64::MAX, |within| estimate(snapshot.shards(), within));
            if next.as_ref().is_none_or(|(least, _, _)| cost < *least) {
                next = Some((cost, scan, within));
            }
        }
        let Some((scan, within)) = next.map(|(_, scan, within)| (scan.clone(), within)) else { return Ok(()) };
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
    check_scans([predicate].into_iter())?;
    let mut restricted = BTreeMap::new();
    for (scan, places) in pending([predicate].into_iter()) {
        context.check()?;
        if let Some(within) = places.within() {
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
    // Of users who are not shown nothing is read.
    let within = within.or((!snapshot.shows_everybody()).then_some(&Predicate::All));
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
    Ok(Given::new(Some(Found::Scan(scan.clone(), stats)), shard_count, &found.users))
}

/// Refuses more scans than there may be, before anything is made of them.
pub(super) fn check_scans<'p>(predicates: impl Iterator<Item = &'p Predicate>) -> Result<(), QueryError> {
    let mut scans = BTreeSet::new();
    predicates.for_each(|predicate| distinct(predicate, &mut scans));
    if scans.len() > SCANS_MAX {
        let message = format!("the question needs {} scans of events, and may need {SCANS_MAX}", scans.len());
        return Err(QueryError::Invalid(message));
    }
    Ok(())
}

fn distinct<'p>(predicate: &'p Predicate, scans: &mut BTreeSet<&'p Scan>) {
    match predicate {
        Predicate::Scan(scan) => drop(scans.insert(scan)),
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter().for_each(|operand| distinct(operand, scans));
        }
        Predicate::Xor(a, b) => {
            distinct(a, scans);
            distinct(b, scans);
        }
        Predicate::Not(of) => distinct(of, scans),
        Predicate::Similar(similar) => similar.inner().into_iter().for_each(|inner| distinct(inner, scans)),
        _ => {}
    }
}

/// What holds of everybody who matters within an AND: its operands without scans, and what holds around it. Shared by all that
/// stands in it.
struct Around<'p> {
    known: Vec<&'p Predicate>,
    outer: Option<Rc<Around<'p>>>,
    /// Terms and values of all of that.
    terms: usize,
}

/// Where a scan stands.
#[derive(Default)]
struct Places<'p> {
    /// In some place all users matter.
    is_unrestricted: bool,
    around: Vec<Rc<Around<'p>>>,
}

impl<'p> Around<'p> {
    /// This and what is around it, innermost first.
    fn levels(self: &Rc<Self>) -> impl Iterator<Item = &Rc<Around<'p>>> {
        std::iter::successors(Some(self), |around| around.outer.as_ref())
    }

    fn predicate(self: &Rc<Self>) -> Predicate {
        Predicate::And(self.levels().flat_map(|level| &level.known).map(|one| (*one).clone()).collect())
    }
}

impl<'p> Places<'p> {
    /// At least the users that matter in any of the places; `None`: all do.
    fn within(&self) -> Option<Predicate> {
        if self.is_unrestricted {
            return None;
        }
        let terms = self.around.iter().fold(0usize, |sum, around| sum.saturating_add(around.terms));
        let within = match terms > RESTRICTION_TERMS_MAX && self.around.len() > 1 {
            true => self.common()?.predicate(),
            false => Predicate::Or(self.around.iter().map(Around::predicate).collect()),
        };
        Some(within.canonical()).filter(|within| *within != Predicate::All)
    }

    /// The innermost AND that all places stand in.
    fn common(&self) -> Option<&Rc<Around<'p>>> {
        let (first, others) = self.around.split_first()?;
        let mut levels: Vec<&Rc<Around<'p>>> = first.levels().collect();
        levels.reverse();
        for other in others {
            let mut own: Vec<&Rc<Around<'p>>> = other.levels().collect();
            own.reverse();
            let shared = levels.iter().zip(&own).take_while(|(a, b)| Rc::ptr_eq(a, b)).count();
            levels.truncate(shared);
        }
        levels.pop()
    }
}

/// The scans of predicates, each with its places.
fn pending<'p>(predicates: impl Iterator<Item = &'p Predicate>) -> BTreeMap<&'p Scan, Places<'p>> {
    let mut places = BTreeMap::new();
    predicates.for_each(|predicate| collect(predicate, None, &mut places));
    places
}

/// Walks down with what holds of everybody who matters there.
fn collect<'p>(predicate: &'p Predicate, around: Option<&Rc<Around<'p>>>, places: &mut BTreeMap<&'p Scan, Places<'p>>) {
    match predicate {
        Predicate::Scan(scan) => {
            let places = places.entry(scan).or_default();
            match around {
                None => places.is_unrestricted = true,
                // Places side by side are one.
                Some(around) if places.around.last().is_some_and(|last| Rc::ptr_eq(last, around)) => {}
                Some(around) => places.around.push(Rc::clone(around)),
            }
        }
        Predicate::And(of) => {
            let (later, known): (Vec<_>, Vec<_>) = of.iter().partition(|operand| operand.needs_scan());
            if later.is_empty() {
                return;
            }
            let own = (!known.is_empty()).then(|| {
                let outer_terms = around.map_or(0, |around| around.terms);
                let terms = known.iter().fold(outer_terms, |sum, one| sum.saturating_add(terms(one)));
                Rc::new(Around { known, outer: around.cloned(), terms })
            });
            later.into_iter().for_each(|operand| collect(operand, own.as_ref().or(around), places));
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

/// Terms of a predicate, values of lists counted.
fn terms(predicate: &Predicate) -> usize {
    1 + match predicate {
        Predicate::HasAny(_, values) | Predicate::Users(values) => values.len(),
        Predicate::Did(did) => match &did.of {
            Selection::All => 0,
            Selection::Values(_, values) | Selection::Others(_, values) => values.len(),
        },
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => of.iter().map(terms).sum(),
        Predicate::Xor(a, b) => terms(a) + terms(b),
        Predicate::Not(of) => terms(of),
        _ => 0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::scan::{EventCondition, ScanFigure};
    use crate::behavior::Window;
    use crate::bitmap::bsi::NumberRange;
    use crate::ids::TagId;

    fn scan(number: i64) -> Predicate {
        let (fact, window, condition) = (TagId(1), Window::ALL, EventCondition::Any);
        let range = NumberRange { min: number, max: i64::MAX };
        Predicate::Scan(Box::new(Scan { fact, window, condition, figure: ScanFigure::Count, range }))
    }

    fn users(prefix: &str, count: usize) -> Predicate {
        Predicate::Users((0..count).map(|number| format!("{prefix}{number:06}")).collect())
    }

    fn within(predicate: &Predicate) -> Option<Predicate> {
        let mut places = pending([predicate].into_iter());
        places.pop_first().expect("a scan").1.within()
    }

    #[test]
    fn too_many_scans_are_refused_before_anything_is_made_of_them() {
        let of = |count: usize| Predicate::Or((0..count as i64).chain([0]).map(scan).collect());
        assert!(check_scans([&of(SCANS_MAX)].into_iter()).is_ok(), "one that stands twice is one");
        let error = check_scans([&of(SCANS_MAX), &scan(1_000)].into_iter()).expect_err("one more");
        assert_eq!(error.to_string(), "the question needs 65 scans of events, and may need 64");
    }

    #[test]
    fn places_with_much_around_them_are_restricted_by_what_they_share() {
        let place = |values: usize| {
            let each = |at: usize| Predicate::And(vec![users(&format!("u{at}-"), values), scan(1)]);
            Predicate::And(vec![Predicate::Flag(TagId(7)), Predicate::Or((0..50).map(each).collect())])
        };
        let Some(Predicate::Or(few)) = within(&place(10)) else { panic!("each place on its own") };
        assert_eq!(few.len(), 50);
        assert_eq!(within(&place(RESTRICTION_TERMS_MAX / 50)), Some(Predicate::Flag(TagId(7))));
        let Predicate::And(mut of) = place(RESTRICTION_TERMS_MAX / 50) else { panic!("an AND") };
        assert_eq!(within(&of.remove(1)), None, "nothing is shared");
        let one = Predicate::And(vec![users("u", 2 * RESTRICTION_TERMS_MAX), Predicate::Or(vec![scan(1), scan(1)])]);
        assert_eq!(within(&one), Some(users("u", 2 * RESTRICTION_TERMS_MAX)), "two places in one AND are one");
    }
}
