//! How audiences overlap.

use super::resolve::resolve_all;
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::bitmap::ChunkSet;
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
