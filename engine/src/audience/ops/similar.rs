//! Users like others come before everything else: they are a set of their own, found once, that becomes a leaf of slots.

use super::lookalike::{Likeness, Measure, lookalike};
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{Found, Given};
use crate::audience::similar::{Similar, SimilarStats};
use crate::store::Snapshot;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most different `similar_to` of one question, those within others counted.
pub const SIMILAR_MAX: usize = 16;

/// Finds the users of every `similar_to` that stands in the predicates, each once.
pub(super) fn settle(
    snapshot: &Snapshot,
    predicates: &mut [Predicate],
    context: &QueryContext,
) -> Result<(), QueryError> {
    let (mut all, mut outer) = (BTreeSet::new(), BTreeSet::new());
    for predicate in &*predicates {
        collect(predicate, &mut |similar| {
            outer.insert(similar.clone());
        });
    }
    outer.iter().for_each(|similar| with_inner(similar, &mut all));
    if all.len() > SIMILAR_MAX {
        let message = format!("the question has {} different similar_to(…), and may have {SIMILAR_MAX}", all.len());
        return Err(QueryError::Invalid(message));
    }
    for similar in &outer {
        let given = Arc::new(find(snapshot, similar, context)?);
        predicates.iter_mut().for_each(|predicate| replace(predicate, similar, &given));
    }
    Ok(())
}

fn find(snapshot: &Snapshot, similar: &Similar, context: &QueryContext) -> Result<Given, QueryError> {
    let likeness = Likeness::of(similar);
    let found = lookalike(snapshot, &likeness, Measure::default(), context)?;
    let report = &found.report;
    let stats = SimilarStats {
        method: report.method,
        seed_users: report.seed_users,
        seed_with_vector: report.seed_with_vector,
        candidates: report.candidates,
        rescored: report.rescored,
        passes: report.passes,
    };
    let by = Found::Similar(Box::new(similar.clone()), stats);
    Ok(Given::new(Some(by), snapshot.shards().len(), &found.members))
}

/// Calls with every `similar_to` that does not stand in another.
fn collect<'p>(predicate: &'p Predicate, call: &mut impl FnMut(&'p Similar)) {
    match predicate {
        Predicate::Similar(similar) => call(similar),
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter().for_each(|operand| collect(operand, call));
        }
        Predicate::Xor(a, b) => {
            collect(a, call);
            collect(b, call);
        }
        Predicate::Not(of) => collect(of, call),
        _ => {}
    }
}

fn with_inner<'p>(similar: &'p Similar, all: &mut BTreeSet<&'p Similar>) {
    if all.insert(similar) {
        let mut inner = Vec::new();
        similar.inner().into_iter().for_each(|predicate| collect(predicate, &mut |similar| inner.push(similar)));
        inner.into_iter().for_each(|similar| with_inner(similar, all));
    }
}

fn replace(predicate: &mut Predicate, similar: &Similar, given: &Arc<Given>) {
    match predicate {
        Predicate::Similar(own) if **own == *similar => *predicate = Predicate::Given(Arc::clone(given)),
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter_mut().for_each(|operand| replace(operand, similar, given));
        }
        Predicate::Xor(a, b) => {
            replace(a, similar, given);
            replace(b, similar, given);
        }
        Predicate::Not(of) => replace(of, similar, given),
        _ => {}
    }
}
