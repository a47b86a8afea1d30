//! How many users fit.

use super::resolve::resolve;
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::store::Snapshot;

/// How many users fit; exact.
///
/// # Errors
/// [`QueryError`].
pub fn count(snapshot: &Snapshot, predicate: &Predicate, context: &QueryContext) -> Result<u64, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let counts = run(snapshot, &[predicate], context, |task| {
        let [evaluator] = &mut task.evaluators()[..] else { unreachable!("one predicate was given") };
        task.chunks.iter().try_fold(0u64, |sum, chunk| {
            context.check()?;
            Ok(sum + u64::from(evaluator.count(*chunk)))
        })
    })?;
    Ok(counts.into_iter().sum())
}
