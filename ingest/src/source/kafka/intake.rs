//! The way of a message into a batch: of which partition it is, whether it is new, one copy.

use super::super::{Record, RecordBatch, SourceStatus};
use super::connection::Message;
use super::table::{Finder, Table};
use rdkafka::error::RDKafkaErrorCode;

/// Messages on their way into a batch.
pub(super) struct Intake<'a> {
    pub(super) table: &'a mut Table,
    pub(super) status: &'a mut SourceStatus,
    pub(super) batch: &'a mut RecordBatch,
    pub(super) finder: Finder,
    pub(super) failed: Vec<Failure>,
}

/// A partition's error.
pub(super) struct Failure {
    pub(super) partition: Option<usize>,
    pub(super) name: String,
    pub(super) code: RDKafkaErrorCode,
    pub(super) text: String,
}

impl Intake<'_> {
    pub(super) fn take(&mut self, message: &Message<'_>) {
        let index = self.finder.find(self.table, message).filter(|index| self.table.get(*index).active);
        if let Some((code, text)) = message.error() {
            let name = format!("{}/{}", message.topic(), message.partition());
            self.failed.push(Failure { partition: index, name, code, text });
            return;
        }
        let (Some(index), Ok(offset)) = (index, u64::try_from(message.offset())) else { return };
        let partition = self.table.get_mut(index);
        if offset < partition.next {
            self.status.duplicate_count += 1;
            return;
        }
        partition.next = offset + 1;
        let in_batch = match partition.in_batch {
            Some(in_batch) => in_batch,
            None => *partition.in_batch.insert(self.batch.add_partition(partition.name.clone())),
        };
        self.status.record_count += 1;
        self.batch.push(Record {
            partition: in_batch,
            offset,
            timestamp_ms: message.timestamp_ms(),
            key: message.key(),
            payload: message.payload(),
        });
    }
}
