//! Rows of facts that are not in their tables yet, as they came.
//!
//! Logged events are numbered, from 0, fact by fact, and a row has the number of its event: so a row has the same number after a
//! crash, and whoever passes rows on knows by it what was passed on already. Numbers rise and have gaps, where an event came again
//! or took back what never came. Rows of a backfill, which are not logged and may come in another order when they come again,
//! have none.

use super::tables::FactRow;
use crate::ids::{ShardId, Slot};
use crate::update::{Event, read_event};
use std::ops::Range;

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
    number: Option<u64>,
}

impl RowLog {
    pub(super) fn push(
        &mut self,
        place: (ShardId, Slot),
        user_id: &[u8],
        weight: i8,
        event: &Event<'_>,
        number: Option<u64>,
    ) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(user_id);
        let event_at = self.bytes.len();
        self.bytes.extend_from_slice(event.as_bytes());
        self.heads.push(Head { at, event_at, slot: place.1, shard: place.0, weight, number });
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

    /// The rows that have numbers, with them, in arrival order.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, FactRow<'_>)> {
        self.heads.iter().zip(self.rows()).filter_map(|(head, row)| Some((head.number?, row)))
    }

    /// From the number of the first row that has one to behind that of the last.
    pub fn numbers(&self) -> Range<u64> {
        let first = self.heads.iter().find_map(|head| head.number);
        let last = self.heads.iter().rev().find_map(|head| head.number);
        first.zip(last).map_or(0..0, |(first, last)| first..last + 1)
    }

    /// Memory held, roughly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>() + self.bytes.capacity()
    }
}
