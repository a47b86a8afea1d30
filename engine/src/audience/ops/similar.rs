//! Users like others come before everything else: they are a set of their own, found once, that becomes a leaf of slots.

use super::lookalike::{Likeness, Measure, lookalike};
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{Found, Given};
use crate::audience::similar::{Similar, SimilarStats};
use crate::store::Snapshot;
use std::sync::Arc;

/// The most different `similar_to` of one question, those within others counted.
pub const SIMILAR_MAX: usize = 16;

/// Finds the users of every `similar_to` that stands in the predicates, also within another one, each once.
pub(super) fn settle(
    snapshot: &Snapshot,
    predicates: &mut [Predicate],
    context: &QueryContext,
) -> Result<(), QueryError> {
    let all = check(predicates.iter())?;
    let mut found: Vec<(Similar, Arc<Given>)> = Vec::with_capacity(all.len());
    for similar in all {
        // Those within it were found before.
        let mut asked = similar.clone();
        for (known, given) in &found {
            asked.inner_mut().into_iter().for_each(|inner| replace(inner, known, given));
        }
        let given = Arc::new(find(snapshot, &similar, &asked, context)?);
        found.push((similar, given));
    }
    for (similar, given) in &found {
        predicates.iter_mut().for_each(|predicate| replace(predicate, similar, given));
    }
    Ok(())
}

/// Every different `similar_to` of a question, those within another before it.
///
/// # Errors
/// If there are more than there may be.
pub(super) fn check<'p>(predicates: impl Iterator<Item = &'p Predicate>) -> Result<Vec<Similar>, QueryError> {
    let mut all: Vec<Similar> = Vec::new();
    predicates.for_each(|predicate| collect(predicate, &mut all));
    if all.len() > SIMILAR_MAX {
        let message = format!("the question has {} different similar_to(…), and may have {SIMILAR_MAX}", all.len());
        return Err(QueryError::Invalid(message));
    }
    Ok(all)
}

/// `asked` is `similar` with what is known of those within it.
fn find(snapshot: &Snapshot, similar: &Similar, asked: &Similar, context: &QueryContext) -> Result<Given, QueryError> {
    let likeness = Likeness::of(asked);
    let found = lookalike(snapshot, &likeness, Measure::default(), context)?;
    let report = &found.report;
    let stats = SimilarStats {
        method: report.method,
        seed_users: report.seed_users,
        seed_with_vector: report.seed_with_vector,
        candidates: report.candidates,
        rescored: report.rescored,
        passes: report.passes,
        probed: report.probed,
        was_tried: !report.tried.is_empty(),
    };
    let by = Found::Similar(Box::new(similar.clone()), stats);
    Ok(Given::new(Some(by), snapshot.shards().len(), &found.members))
}

/// Adds every different `similar_to`, those within another before it.
fn collect(predicate: &Predicate, all: &mut Vec<Similar>) {
    match predicate {
        Predicate::Similar(similar) if !all.contains(similar) => {
            similar.inner().into_iter().for_each(|inner| collect(inner, all));
            all.push((**similar).clone());
        }
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter().for_each(|operand| collect(operand, all));
        }
        Predicate::Xor(a, b) => {
            collect(a, all);
            collect(b, all);
        }
        Predicate::Not(of) => collect(of, all),
        _ => {}
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
