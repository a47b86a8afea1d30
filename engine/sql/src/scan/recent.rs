//! The rows of a fact that are not in its table yet, column by column: only the columns that a scan looks at, and their memory
//! counted as the scan's.

use super::Failure;
use super::reading::Reading;
use crate::facts::chosen_to_batches;
use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;
use engine::store::{FactRow, Snapshot};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows that are made columns of at once; the query may be cancelled in between.
const ROWS_AT_ONCE: usize = 1 << 15;

/// Rows, and the memory they take.
pub(super) struct Recent {
    pub(super) batches: Vec<RecordBatch>,
    /// Given back when it is dropped.
    pub(super) reserved: MemoryReservation,
}

impl Recent {
    /// Of few users only theirs.
    pub(super) fn new(snapshot: &Snapshot, reading: &Reading, cancelled: &AtomicBool) -> Result<Recent, Failure> {
        let (within, columns) =
            (reading.within.as_deref(), reading.wanted.columns.iter().map(String::as_str).collect());
        let is_asked = |row: &FactRow<'_>| {
            let has = |within: &Vec<roaring::RoaringBitmap>| {
                within.get(usize::from(row.shard.0)).is_some_and(|users| users.contains(row.slot))
            };
            within.is_none_or(has)
        };
        let mut recent = Recent { batches: Vec::new(), reserved: reading.reservation() };
        for log in snapshot.recent_rows(reading.fact.id) {
            let mut asked = log.rows().filter(is_asked);
            loop {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(Failure::Cancelled);
                }
                let rows: Vec<FactRow<'_>> = asked.by_ref().take(ROWS_AT_ONCE).collect();
                if rows.is_empty() {
                    break;
                }
                for batch in chosen_to_batches(&reading.fact, &rows, Some(&columns)).map_err(Failure::Recent)? {
                    recent.reserved.try_grow(batch.get_array_memory_size())?;
                    recent.batches.push(batch);
                }
            }
        }
        Ok(recent)
    }
}
