//! Many records in one flat buffer.
//!
//! All bytes stand in one buffer, key before payload, record after record; an entry of fixed size says where each ends
//! and what it is. A batch that is filled again reuses both, so a record costs no allocation.

use std::ops::Range;
use std::sync::Arc;

/// Records in the order in which they came; within a partition their offsets rise.
#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The partitions of these records, in order of appearance.
    partitions: Vec<PartitionRun>,
}

/// A record in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its partition: an index into [`RecordBatch::partition_names`].
    pub partition: usize,
    /// Its place in the partition.
    pub offset: u64,
    /// Milliseconds since 1970, if the log keeps a time for each record.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its payload; none for a tombstone, which deletes what its key stood for.
    pub payload: Option<&'a [u8]>,
}

#[derive(Clone, Debug)]
struct PartitionRun {
    name: Arc<str>,
    /// The offset behind its last record in this batch.
    next_offset: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    /// `i64::MIN` for none.
    timestamp_ms: i64,
    /// Where its bytes end; they begin where those of the entry before end.
    end: usize,
    /// `u32::MAX` for no key.
    key_bytes: u32,
    /// The top bit is set if there is a payload.
    partition: u32,
}

const NO_TIMESTAMP: i64 = i64::MIN;
const NO_KEY: u32 = u32::MAX;
const HAS_PAYLOAD: u32 = 1 << 31;

impl RecordBatch {
    /// Without records.
    pub fn new() -> Self {
        RecordBatch::default()
    }

    /// Takes the records out and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.partitions.clear();
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and payloads.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The record at `index`, counted from 0.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, index: usize) -> Record<'_> {
        let begin = index.checked_sub(1).map_or(0, |before| self.entries[before].end);
        self.record(begin, &self.entries[index])
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut begin = 0;
        self.entries.iter().map(move |entry| {
            let record = self.record(begin, entry);
            begin = entry.end;
            record
        })
    }

    /// The partitions that have a record here, in order of appearance.
    pub fn partition_names(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.partitions.iter().map(|partition| &partition.name)
    }

    /// The name of a [`Record::partition`].
    ///
    /// # Panics
    /// If the index is of another batch.
    pub fn partition_name(&self, partition: usize) -> &Arc<str> {
        &self.partitions[partition].name
    }

    /// Each partition with the offset behind its last record here.
    pub fn next_offsets(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, u64)> {
        self.partitions.iter().map(|partition| (&partition.name, partition.next_offset))
    }

    /// Adds a partition and gives its index; the same name twice gets two.
    pub fn add_partition(&mut self, name: Arc<str>) -> usize {
        self.partitions.push(PartitionRun { name, next_offset: 0 });
        self.partitions.len() - 1
    }

    /// Appends a record of a partition added before. Its offset is above those of earlier records of its partition.
    ///
    /// # Panics
    /// If its partition was not added.
    pub fn push(&mut self, record: Record<'_>) {
        self.partitions[record.partition].next_offset = record.offset.saturating_add(1);
        // A log's record is far below 4 GiB; Kafka counts in i32.
        let key_bytes = record.key.map_or(NO_KEY, |key| key.len() as u32);
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        self.bytes.extend_from_slice(record.payload.unwrap_or_default());
        let has_payload = if record.payload.is_some() { HAS_PAYLOAD } else { 0 };
        self.entries.push(Entry {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms.unwrap_or(NO_TIMESTAMP),
            end: self.bytes.len(),
            key_bytes,
            partition: record.partition as u32 | has_payload,
        });
    }

    fn record(&self, begin: usize, entry: &Entry) -> Record<'_> {
        let key_end = begin + if entry.key_bytes == NO_KEY { 0 } else { entry.key_bytes as usize };
        let part = |range: Range<usize>, there: bool| there.then(|| &self.bytes[range]);
        Record {
            partition: (entry.partition & !HAS_PAYLOAD) as usize,
            offset: entry.offset,
            timestamp_ms: (entry.timestamp_ms != NO_TIMESTAMP).then_some(entry.timestamp_ms),
            key: part(begin..key_end, entry.key_bytes != NO_KEY),
            payload: part(key_end..entry.end, entry.partition & HAS_PAYLOAD != 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        type Shape = (Option<&'static [u8]>, Option<&'static [u8]>, Option<i64>);
        let shapes: [Shape; 6] = [
            (None, None, None),
            (Some(b""), Some(b""), Some(0)),
            (Some(b"key"), None, Some(-1)),
            (None, Some(b"payload"), Some(i64::MAX)),
            (Some(b"key"), Some(b"payload"), None),
            (None, Some(b""), Some(5)),
        ];
        let mut batch = RecordBatch::new();
        for _ in 0..2 {
            batch.clear();
            let partitions = [batch.add_partition("a/0".into()), batch.add_partition("a/1".into())];
            let records: Vec<Record<'_>> = (0..)
                .zip(shapes)
                .map(|(index, (key, payload, timestamp_ms))| Record {
                    partition: partitions[index % 2],
                    offset: index as u64 * 10,
                    timestamp_ms,
                    key,
                    payload,
                })
                .collect();
            records.iter().for_each(|record| batch.push(*record));
            assert!(batch.iter().eq(records.iter().copied()));
            assert_eq!(batch.get(0), records[0]);
            assert_eq!(batch.get(4), records[4]);
            assert_eq!((batch.len(), batch.size_bytes()), (6, 20));
            let next: Vec<(&str, u64)> = batch.next_offsets().map(|(name, next)| (&**name, next)).collect();
            assert_eq!(next, [("a/0", 41), ("a/1", 51)]);
        }
    }
}
