//! How audiences overlap.

use super::resolve::resolve_all;
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::bitmap::ChunkSet;
use crate::bitmap::evaluate::regions::Regions;
use crate::store::Snapshot;

/// Pairwise intersection counts, in one pass over the chunks; the diagonal holds the audiences' own counts.
///
/// # Errors
/// [`QueryError`].
pub fn overlap(
    snapshot: &Snapshot,
    predicates: &[Predicate],
    context: &QueryContext,
) -> Result<Vec<Vec<u64>>, QueryError> {
    let size = predicates.len();
    let mut resolved: Vec<Predicate> = predicates.to_vec();
    resolve_all(snapshot, &mut resolved, context)?;
    let predicates = &resolved;
    let references: Vec<&Predicate> = predicates.iter().collect();
    let parts = run(snapshot, &references, context, |task| {
        let mut evaluators = task.evaluators();
        let mut matrix = vec![vec![0u64; size]; size];
        for chunk in &task.chunks {
            context.check()?;
            let sets: Vec<ChunkSet<'_>> = evaluators.iter_mut().map(|evaluator| evaluator.members(*chunk)).collect();
            for (row, a) in sets.iter().enumerate() {
                matrix[row][row] += u64::from(a.len());
                for (column, b) in sets.iter().enumerate().skip(row + 1) {
                    matrix[row][column] += u64::from(a.common_count(b));
                }
            }
        }
        Ok(matrix)
    })?;
    let mut total = vec![vec![0u64; size]; size];
    for part in parts {
        for row in 0..size {
            for column in row..size {
                total[row][column] += part[row][column];
                if column > row {
                    total[column][row] += part[row][column];
                }
            }
        }
    }
    Ok(total)
}

/// The exact regions of up to [`REGION_SETS_MAX`](crate::bitmap::evaluate::regions::REGION_SETS_MAX) audiences, in one pass over
/// the chunks: how many users are in each choice of them and in no other, by the number whose bit `i` says whether audience `i` is chosen.
/// The first one, of users in none, is left at 0.
///
/// # Panics
/// If there are more audiences.
///
/// # Errors
/// [`QueryError`].
pub fn regions(snapshot: &Snapshot, predicates: &[Predicate], context: &QueryContext) -> Result<Vec<u64>, QueryError> {
    let mut resolved: Vec<Predicate> = predicates.to_vec();
    resolve_all(snapshot, &mut resolved, context)?;
    let references: Vec<&Predicate> = resolved.iter().collect();
    let parts = run(snapshot, &references, context, |task| {
        let mut evaluators = task.evaluators();
        let mut regions = Regions::new(references.len());
        for chunk in &task.chunks {
            context.check()?;
            let sets: Vec<ChunkSet<'_>> = evaluators.iter_mut().map(|evaluator| evaluator.members(*chunk)).collect();
            regions.add(&sets);
        }
        Ok(regions.into_counts())
    })?;
    let mut total = vec![0; 1 << predicates.len()];
    parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(sum, count)| *sum += count));
    Ok(total)
}

/// Pairwise intersection counts, as [`overlap`] tells them, from those of the regions of so many audiences.
pub fn overlap_of_regions(regions: &[u64], audiences: usize) -> Vec<Vec<u64>> {
    let in_both = |a: usize, b: usize| {
        let both = regions.iter().enumerate().filter(|(region, _)| region >> a & region >> b & 1 == 1);
        both.map(|(_, count)| count).sum()
    };
    (0..audiences).map(|a| (0..audiences).map(|b| in_both(a, b)).collect()).collect()
}
