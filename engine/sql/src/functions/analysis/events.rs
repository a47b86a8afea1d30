//! Events of many groups, in the order that [`engine::journey`] gives them.

use crate::functions::waiting::Waiting;
use datafusion::common::internal_err;
use datafusion::error::Result;
use engine::journey::sort;

pub(super) use engine::journey::Event;

/// Bytes of an event in a state: time and conditions, little-endian.
const ENCODED_BYTES: usize = 12;
/// Events, with those of each group together and in order once they are sorted.
#[derive(Debug, Default)]
pub(super) struct Events {
    events: Vec<Event>,
    is_sorted: bool,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
        self.is_sorted = false;
    }

    /// Events that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.events.capacity()
    }

    /// All, sorted.
    ///
    /// # Errors
    /// If the statement was cancelled.
    pub(super) fn sorted(&mut self, waiting: &Waiting) -> Result<&[Event]> {
        if !self.is_sorted {
            sort(&mut self.events, &|| waiting.check())?;
            self.is_sorted = true;
        }
        Ok(&self.events)
    }

    /// Leaves out the first groups; the others' numbers go down by as many.
    pub(super) fn leave_out(&mut self, groups: u32) {
        self.events.retain_mut(|event| match event.group.checked_sub(groups) {
            Some(group) => {
                event.group = group;
                true
            }
            None => false,
        });
        self.events.shrink_to(self.events.len() * 2);
    }
}

/// The events of each of so many groups, out of sorted ones.
pub(super) fn of_each(sorted: &[Event], groups: usize) -> impl Iterator<Item = &[Event]> {
    let mut rest = sorted;
    (0..groups).map(move |group| {
        let count = rest.iter().take_while(|event| event.group as usize == group).count();
        let (own, others) = rest.split_at(count);
        rest = others;
        own
    })
}

/// Events for another part.
pub(super) fn encode(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len() * ENCODED_BYTES);
    for event in events {
        bytes.extend(event.time.to_le_bytes());
        bytes.extend(event.fulfils.to_le_bytes());
    }
    bytes
}

/// Adds events from another part to a group.
///
/// # Errors
/// If they are none.
pub(super) fn decode(bytes: &[u8], group: u32, events: &mut Events, waiting: &Waiting) -> Result<()> {
    let (encoded, rest) = bytes.as_chunks::<ENCODED_BYTES>();
    if !rest.is_empty() {
        return internal_err!("a state of {} bytes is not one of events", bytes.len());
    }
    for (at, encoded) in encoded.iter().enumerate() {
        waiting.check_at(at)?;
        let [time @ .., a, b, c, d] = encoded;
        events.push(Event { time: i64::from_le_bytes(*time), fulfils: u32::from_le_bytes([*a, *b, *c, *d]), group });
    }
    Ok(())
}
