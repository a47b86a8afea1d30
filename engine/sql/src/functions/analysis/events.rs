//! Events of many groups, and the order in which they stand.
//!
//! Events stand in the order of their times. Those of one moment stand in the order of the conditions that they fulfil: an event with a
//! lower number first, of those that have their first one in common the one with the lower second, what has no further one before what
//! has, and what fulfils nothing last. Events that this does not tell apart are the same, so that the order is settled by the data
//! alone: whichever way rows come, their sequence is one.

use crate::functions::waiting::Waiting;
use datafusion::common::internal_err;
use datafusion::error::Result;
use std::cmp::Ordering;

/// Bytes of an event in a state: time and conditions, little-endian.
const ENCODED_BYTES: usize = 12;
/// Events that are sorted between two looks at whether anybody waits.
const SORTED_AT_ONCE: usize = 1 << 20;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) time: i64,
    /// The conditions that it fulfils, the first one in the lowest bit.
    pub(super) fulfils: u32,
    /// Of which group.
    pub(super) group: u32,
}

/// Which of two sets of conditions stands first at one moment.
fn by_conditions(left: u32, right: u32) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    if left == 0 || right == 0 {
        return if left == 0 { Ordering::Greater } else { Ordering::Less };
    }
    // The first condition that only one of them has stands before the next one of the other, if that has any more.
    let differing = left ^ right;
    let first = differing & differing.wrapping_neg();
    let (has, lacks, which) =
        if left & first != 0 { (left, right, Ordering::Less) } else { (right, left, Ordering::Greater) };
    debug_assert!(has & first != 0);
    let has_more = lacks & !(first | (first - 1)) != 0;
    if has_more { which } else { which.reverse() }
}

fn order(left: &Event, right: &Event) -> Ordering {
    let by_time = left.group.cmp(&right.group).then(left.time.cmp(&right.time));
    by_time.then_with(|| by_conditions(left.fulfils, right.fulfils))
}

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
            sort(&mut self.events, waiting)?;
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

/// In halves as long as there is much of it: a sort alone does not look at whether anybody waits.
fn sort(events: &mut [Event], waiting: &Waiting) -> Result<()> {
    waiting.check()?;
    if events.len() <= SORTED_AT_ONCE {
        events.sort_unstable_by(order);
        return Ok(());
    }
    let middle = events.len() / 2;
    events.select_nth_unstable_by(middle, order);
    let (left, right) = events.split_at_mut(middle);
    sort(left, waiting)?;
    sort(right, waiting)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_much_is_sorted_as_what_is_little() {
        let mut many: Vec<Event> = (0..SORTED_AT_ONCE as u64 * 2 + 3)
            .map(|at| {
                let mixed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
                Event {
                    time: (mixed % 1000) as i64,
                    fulfils: (mixed >> 12) as u32 % 8,
                    group: (mixed >> 30) as u32 % 3,
                }
            })
            .collect();
        let mut wanted = many.clone();
        wanted.sort_by(order);
        sort(&mut many, &Waiting::default()).expect("nobody cancels");
        assert!(many == wanted);
    }

    proptest! {
        /// Bits as lists of numbers: what stands first by the words of the rule.
        #[test]
        fn conditions_stand_in_the_order_of_their_lists(left in 0u32..64, right in 0u32..64, high in any::<u32>()) {
            let list = |bits: u32| -> (bool, Vec<u32>) { (bits == 0, (0..32).filter(|at| bits >> at & 1 == 1).collect()) };
            for (left, right) in [(left, right), (left | high, right | high), (left, high), (high, right)] {
                prop_assert_eq!(by_conditions(left, right), list(left).cmp(&list(right)));
            }
        }
    }
}
