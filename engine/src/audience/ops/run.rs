//! Running programs over shards and chunks.
//!
//! The unit of work is a shard's range of chunks. A small question is answered on the calling thread, because waking
//! others takes longer than the answer.

use super::{QueryContext, QueryError};
use crate::audience::plan::Plan;
use crate::audience::predicate::Predicate;
use crate::bitmap::CHUNK_LEN;
use crate::bitmap::evaluate::Evaluator;
use crate::bitmap::program::Program;
use crate::store::Snapshot;
use rayon::prelude::*;

/// Chunks of one task at most.
const TASK_CHUNKS: usize = 64;
/// Up to so many chunks in all are run on the calling thread.
const INLINE_CHUNKS: usize = 24;

/// A share of the work: some chunks of one shard.
pub(super) struct Task<'t> {
    pub(super) shard: usize,
    /// A program per predicate.
    pub(super) programs: &'t [Program<'t>],
    /// Rising.
    pub(super) chunks: Vec<u16>,
}

impl<'t> Task<'t> {
    /// An evaluator per predicate.
    pub(super) fn evaluators(&self) -> Vec<Evaluator<'t, 't>> {
        self.programs.iter().map(Evaluator::new).collect()
    }
}

/// Runs `work` on all chunks where any of the predicates may have members, and answers its results in order of shard and
/// chunk.
pub(super) fn run<T: Send>(
    snapshot: &Snapshot,
    predicates: &[&Predicate],
    context: &QueryContext,
    work: impl Fn(&Task<'_>) -> Result<T, QueryError> + Sync,
) -> Result<Vec<T>, QueryError> {
    context.check()?;
    let slots: u64 = snapshot.shards().iter().map(|shard| u64::from(shard.slot_count())).sum();
    if slots <= INLINE_CHUNKS as u64 * u64::from(CHUNK_LEN) {
        return run_here(snapshot, predicates, &work, false);
    }
    // Into the pool once: on busy processors every change of threads is a wait.
    rayon::scope(|_| run_here(snapshot, predicates, &work, true))
}

fn run_here<T: Send>(
    snapshot: &Snapshot,
    predicates: &[&Predicate],
    work: &(impl Fn(&Task<'_>) -> Result<T, QueryError> + Sync),
    in_parallel: bool,
) -> Result<Vec<T>, QueryError> {
    let plans: Result<Vec<Plan<'_>>, _> = predicates.iter().map(|predicate| Plan::new(snapshot, predicate)).collect();
    let plans = plans?;
    let programs_of = |shard: usize| -> Result<(Vec<Program<'_>>, Vec<u16>), QueryError> {
        let programs: Result<Vec<_>, _> = plans.iter().map(|plan| plan.program(shard)).collect();
        let programs = programs?;
        let mut chunks: Vec<u16> = programs.iter().flat_map(|program| Evaluator::new(program).chunks()).collect();
        chunks.sort_unstable();
        chunks.dedup();
        Ok((programs, chunks))
    };
    let shards = 0..snapshot.shards().len();
    let planned: Result<Vec<_>, QueryError> =
        if in_parallel { shards.into_par_iter().map(programs_of).collect() } else { shards.map(programs_of).collect() };
    let planned = planned?;
    let mut tasks = Vec::new();
    for (shard, (programs, chunks)) in planned.iter().enumerate() {
        let share = |chunks: &[u16]| Task { shard, programs, chunks: chunks.to_vec() };
        tasks.extend(chunks.chunks(TASK_CHUNKS).map(share));
    }
    let total: usize = tasks.iter().map(|task| task.chunks.len()).sum();
    if total <= INLINE_CHUNKS { tasks.iter().map(work).collect() } else { tasks.par_iter().map(work).collect() }
}
