//! Rows of facts that are not in their tables yet, as they came.
//!
//! Rows that were logged are numbered, from 0, fact by fact: a row has the same number after a crash, so whoever passes rows on
//! knows by it what was passed on already. Rows of a backfill, which are not logged and may come in another order when they
//! come again, have none.

use super::tables::FactRow;
use crate::ids::{ShardId, Slot};
use crate::update::{Event, read_event};
use std::ops::Range;

/// Recent rows of one fact, in arrival order.
#[derive(Debug, Default)]
pub struct RowLog {
    heads: Vec<Head>,
    /// The number of the first row that has one.
    first_number: u64,
    /// The number that the next row gets.
    next_number: u64,
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
    is_numbered: bool,
}

impl RowLog {
    pub(super) fn beginning_at(first_number: u64) -> RowLog {
        RowLog { first_number, next_number: first_number, ..RowLog::default() }
    }

    pub(super) fn push(
        &mut self,
        place: (ShardId, Slot),
        user_id: &[u8],
        weight: i8,
        event: &Event<'_>,
        is_numbered: bool,
    ) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(user_id);
        let event_at = self.bytes.len();
        self.bytes.extend_from_slice(event.as_bytes());
        self.next_number += u64::from(is_numbered);
        self.heads.push(Head { at, event_at, slot: place.1, shard: place.0, weight, is_numbered });
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
        let is_numbered = self.heads.iter().map(|head| head.is_numbered);
        let rows = self.rows().zip(is_numbered).filter(|(_, is_numbered)| *is_numbered);
        (self.first_number..).zip(rows.map(|(row, _)| row))
    }

    /// The numbers of the rows that have one.
    pub fn numbers(&self) -> Range<u64> {
        self.first_number..self.next_number
    }

    /// Memory held, roughly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>() + self.bytes.capacity()
    }
}
