//! How many users fit.

use super::resolve::resolve;
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::plan::estimate;
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

/// At most so many users fit; from the key directories alone, so no posting is read and it costs next to nothing.
pub fn count_at_most(snapshot: &Snapshot, predicate: &Predicate) -> u64 {
    estimate(snapshot.shards(), predicate)
}
