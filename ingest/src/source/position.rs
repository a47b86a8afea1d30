//! Where a source goes on: for each partition the offset of its next record.
//!
//! In the store each partition stands alone, as `source/<name>/<partition>` with its offset.

use super::{RecordBatch, Started};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Partition to the offset of its next record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePosition {
    offsets: BTreeMap<Arc<str>, u64>,
}

impl SourcePosition {
    /// Of nothing.
    pub fn new() -> Self {
        SourcePosition::default()
    }

    /// The offset of the next record, if the partition is known.
    pub fn get(&self, partition: &str) -> Option<u64> {
        self.offsets.get(partition).copied()
    }

    /// Sets the offset of the next record.
    pub fn set(&mut self, partition: impl Into<Arc<str>>, offset: u64) {
        self.offsets.insert(partition.into(), offset);
    }

    /// Forgets a partition; whether it was known.
    pub fn remove(&mut self, partition: &str) -> bool {
        self.offsets.remove(partition).is_some()
    }

    /// Goes behind the records of `batch`.
    pub fn advance(&mut self, batch: &RecordBatch) {
        for (partition, next) in batch.next_offsets() {
            match self.offsets.get_mut(&**partition) {
                Some(offset) => *offset = next,
                None => self.set(partition.clone(), next),
            }
        }
    }

    /// Notes where partitions began, so that they go on there even if no record came.
    pub fn begin(&mut self, started: &[Started]) {
        for partition in started {
            self.set(partition.partition.clone(), partition.offset);
        }
    }

    /// The partitions, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.offsets.iter().map(|(partition, offset)| (&**partition, *offset))
    }

    /// How many partitions are known.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}
