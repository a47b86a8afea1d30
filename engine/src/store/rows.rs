//! Rows of facts that are not in their tables yet, as they came.

use super::tables::FactRow;
use crate::ids::{ShardId, Slot};
use crate::update::{Event, read_event};

/// Recent rows of one fact, in arrival order.
#[derive(Debug, Default)]
pub struct RowLog {
    heads: Vec<Head>,
    /// Per row: the user id, then the event as it stood in the batch.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    at: usize,
    event_at: usize,
    slot: Slot,
    shard: ShardId,
    weight: i8,
}

impl RowLog {
    pub(super) fn push(&mut self, place: (ShardId, Slot), user_id: &[u8], weight: i8, event: &Event<'_>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(user_id);
        let event_at = self.bytes.len();
        self.bytes.extend_from_slice(event.as_bytes());
        self.heads.push(Head { at, event_at, slot: place.1, shard: place.0, weight });
    }

    /// The rows, in arrival order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = FactRow<'_>> {
        self.heads.iter().enumerate().map(|(index, head)| {
            let end = self.heads.get(index + 1).map_or(self.bytes.len(), |next| next.at);
            FactRow {
                shard: head.shard,
                slot: head.slot,
                // A user id is text; one that is not was refused before.
                user_id: std::str::from_utf8(&self.bytes[head.at..head.event_at]).unwrap_or_default(),
                weight: head.weight,
                event: read_event(&self.bytes[head.event_at..end]),
            }
        })
    }

    /// Memory held, roughly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>() + self.bytes.capacity()
    }
}
