//! Who followed a pattern of events, how often, and who came how far in it.
//!
//! As a funnel, but a pattern says what may lie between two events, and how much time ([`crate::journey::pattern`]).

use super::funnel::{FunnelAnswer, Gathered, Hop, Reached, gathered, reached};
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::EventsMeant;
use crate::journey::pattern::Pattern;
use crate::journey::sequence::follow;
use crate::journey::{CONDITIONS_MAX, Event};
use crate::store::Snapshot;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who followed a pattern.
#[derive(Clone, Debug)]
pub struct SequenceAnswer {
    /// Users by the events of the pattern, as by the steps of a funnel.
    pub funnel: FunnelAnswer,
    /// How often it was followed to its end, without overlaps, by all users together.
    pub times: u64,
}

/// Who of `whom` followed a pattern of the steps; its times are in microseconds. Holds the events of the steps, 16 bytes each; those
/// of a shard take up to three times that while they are put in order.
///
/// # Errors
/// [`QueryError`], also if there are no steps or too many.
pub fn sequence(
    snapshot: &Snapshot,
    steps: &[EventsMeant],
    pattern: &Pattern,
    whom: &Predicate,
    context: &QueryContext,
) -> Result<SequenceAnswer, QueryError> {
    if steps.is_empty() || steps.len() > CONDITIONS_MAX {
        return Err(QueryError::Invalid(format!("a sequence is of 1 to {CONDITIONS_MAX} steps")));
    }
    // Whoever has none of the first event does not begin.
    let first = pattern.taken[0].fulfils.and_then(|bit| steps.get(bit.trailing_zeros() as usize));
    let Gathered { shards, stats, held: _held } = gathered(snapshot, steps, whom, first, context)?;
    let times = AtomicU64::new(0);
    let level = |events: &[Event], _: &mut Vec<i64>, _: &mut [Vec<Hop>]| {
        let followed = follow(pattern, events, u64::MAX, || context.check())?;
        times.fetch_add(followed.chains, Ordering::Relaxed);
        Ok(followed.furthest)
    };
    let Reached { reached, events, .. } = reached(shards, pattern.taken.len(), level, context)?;
    Ok(SequenceAnswer { funnel: FunnelAnswer { reached, events, stats }, times: times.into_inner() })
}
