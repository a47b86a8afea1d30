//! Where a source goes on: for each partition the offset of its next record.
//!
//! Inside a manifest each partition stands alone, as `<source>/<partition>` with its offset, so that a checkpoint
//! writes what changed and nothing has to be parsed out of a blob. As text it is a line a partition.

use super::{RecordBatch, Started};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Partition to the offset of its next record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePosition {
    offsets: BTreeMap<Arc<str>, u64>,
}

/// A line that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected a partition, a space and an offset, as in `purchases/3 1042`, found `{found}`")]
pub struct PositionError {
    /// From 1.
    pub line: usize,
    /// What stands there.
    pub found: String,
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

    /// The names in a manifest, each with its offset: `<source>/<partition>`.
    pub fn keyed(&self, source: &str) -> impl Iterator<Item = (String, u64)> {
        self.iter().map(move |(partition, offset)| (format!("{source}/{partition}"), offset))
    }

    /// Picks the partitions of `source` out of a manifest's names.
    pub fn from_keyed<'a>(source: &str, entries: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let ours = entries.into_iter().filter_map(|(name, offset)| {
            let partition = name.strip_prefix(source)?.strip_prefix('/')?;
            Some((Arc::from(partition), offset))
        });
        SourcePosition { offsets: ours.collect() }
    }
}

/// A line a partition: its name, a space, its offset.
impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(partition, offset)| writeln!(f, "{partition} {offset}"))
    }
}

impl FromStr for SourcePosition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut position = SourcePosition::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parsed = line.rsplit_once(' ').and_then(|(partition, offset)| Some((partition, offset.parse().ok()?)));
            let (partition, offset) =
                parsed.ok_or_else(|| PositionError { line: index + 1, found: line.chars().take(80).collect() })?;
            position.set(partition, offset);
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(entries: &[(&str, u64)]) -> SourcePosition {
        let mut position = SourcePosition::new();
        entries.iter().for_each(|(partition, offset)| position.set(*partition, *offset));
        position
    }

    #[test]
    fn text_and_back() {
        let there = position(&[("purchases/10", 7), ("purchases/3", u64::MAX), ("a topic/0", 0)]);
        assert_eq!(there.to_string(), format!("a topic/0 0\npurchases/10 7\npurchases/3 {}\n", u64::MAX));
        assert_eq!(there.to_string().parse(), Ok(there));
        let error = "purchases/3 1\npurchases/4 many".parse::<SourcePosition>().expect_err("no number");
        assert_eq!((error.line, error.found.as_str()), (2, "purchases/4 many"));
    }

    #[test]
    fn manifest_names_and_back() {
        let there = position(&[("purchases/0", 5), ("views/1", 6)]);
        let mut names: Vec<(String, u64)> = there.keyed("events").collect();
        assert_eq!(names[0], ("events/purchases/0".to_owned(), 5));
        // Of other sources, one of which begins like ours.
        names.extend([("events2/purchases/0".to_owned(), 1), ("backfill".to_owned(), 2)]);
        let entries = names.iter().map(|(name, offset)| (name.as_str(), *offset));
        assert_eq!(SourcePosition::from_keyed("events", entries), there);
    }
}
