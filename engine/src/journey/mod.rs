//! What users did in which order: events in one sequence, and what is told of a user's.
//!
//! Events stand in the order of their times. Those of one moment stand in the order of the conditions that they fulfil: an event with a
//! lower number first, of those that have their first one in common the one with the lower second, what has no further one before what
//! has, and what fulfils nothing last. Events that this does not tell apart are the same, so that the order is settled by the data
//! alone: whichever way rows come, their sequence is one.
//!
//! Where an event is one thing only, as a page in a path, events of one moment stand in the order of the numbers of these things.
//!
//! * [`funnel`]: how far a chain of steps was followed. [`sequence`]: how often, and how far, a [`pattern`] was. [`path`]: what came next.
//!   [`attribution`]: what led to it. [`naive`]: their slow twins.

pub mod attribution;
pub mod funnel;
pub mod naive;
pub mod path;
pub mod pattern;
pub mod sequence;

use std::cmp::Ordering;

/// The most conditions.
pub const CONDITIONS_MAX: usize = 32;
/// Events that are sorted between two looks at whether anybody waits.
const SORTED_AT_ONCE: usize = 1 << 20;
/// Groups are put in their places where there are at most so many numbers to an event, of which each takes four bytes meanwhile.
const NUMBERS_TO_AN_EVENT: usize = 4;

/// Something that happened, and what of it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: i64,
    /// The conditions that it fulfils, the first one in the lowest bit; where an event is one thing only, the number of that.
    pub fulfils: u32,
    /// Whose it is: a slot, or a group.
    pub group: u32,
}

impl Event {
    /// By group, then as they stand in a sequence.
    pub fn order(&self, other: &Event) -> Ordering {
        let by_time = self.group.cmp(&other.group).then(self.time.cmp(&other.time));
        by_time.then_with(|| by_conditions(self.fulfils, other.fulfils))
    }

    /// The same of events that are one thing each.
    pub fn order_of_things(&self, other: &Event) -> Ordering {
        (self.group, self.time, self.fulfils).cmp(&(other.group, other.time, other.fulfils))
    }
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

/// Events of many groups in order, those of a group behind one another; `order` tells only how those of one group stand. Where there are
/// enough of them each goes to the place of its group, so that only what is of one group is compared; that takes up to twice their memory
/// more, until it is done.
///
/// # Errors
/// Those of `check`.
pub fn in_order<E>(
    mut events: Vec<Event>,
    order: impl Fn(&Event, &Event) -> Ordering + Copy,
    check: &impl Fn() -> Result<(), E>,
) -> Result<Vec<Event>, E> {
    let groups = events.iter().map(|event| event.group as usize + 1).max().unwrap_or(0);
    if groups > events.len().saturating_mul(NUMBERS_TO_AN_EVENT) || u32::try_from(events.len()).is_err() {
        sort_by(&mut events, |a, b| a.group.cmp(&b.group).then_with(|| order(a, b)), check)?;
        return Ok(events);
    }
    check()?;
    // Where each group begins, and then, when its events are there, where it ends.
    let mut places = vec![0_u32; groups + 1];
    events.iter().for_each(|event| places[event.group as usize + 1] += 1);
    for group in 1..places.len() {
        places[group] += places[group - 1];
    }
    let mut ordered = vec![Event { time: 0, fulfils: 0, group: 0 }; events.len()];
    for event in &events {
        let place = &mut places[event.group as usize];
        ordered[*place as usize] = *event;
        *place += 1;
    }
    drop(events);
    let (mut from, mut looked) = (0, 0);
    for to in places.into_iter().map(|place| place as usize) {
        if to - looked >= SORTED_AT_ONCE {
            check()?;
            looked = to;
        }
        match to - from {
            0 | 1 => {}
            SORTED_AT_ONCE.. => sort_by(&mut ordered[from..to], order, check)?,
            _ => ordered[from..to].sort_unstable_by(order),
        }
        from = to;
    }
    Ok(ordered)
}

/// Puts events in order; in halves as long as there is much of it, since a sort alone does not look at whether anybody waits.
///
/// # Errors
/// Those of `check`.
pub fn sort<E>(events: &mut [Event], check: &impl Fn() -> Result<(), E>) -> Result<(), E> {
    sort_by(events, Event::order, check)
}

/// The same in another order.
///
/// # Errors
/// Those of `check`.
pub fn sort_by<E>(
    events: &mut [Event],
    order: impl Fn(&Event, &Event) -> Ordering + Copy,
    check: &impl Fn() -> Result<(), E>,
) -> Result<(), E> {
    check()?;
    if events.len() <= SORTED_AT_ONCE {
        events.sort_unstable_by(order);
        return Ok(());
    }
    let middle = events.len() / 2;
    events.select_nth_unstable_by(middle, order);
    let (left, right) = events.split_at_mut(middle);
    sort_by(left, order, check)?;
    sort_by(right, order, check)
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
        wanted.sort_by(Event::order);
        sort(&mut many, &|| Ok::<(), ()>(())).expect("nobody cancels");
        assert!(many == wanted);
    }

    fn events(groups: u32) -> impl Strategy<Value = Vec<Event>> {
        let event = (0..groups, 0..5i64, 0..8u32).prop_map(|(group, time, fulfils)| Event { time, fulfils, group });
        prop::collection::vec(event, 0..60)
    }

    proptest! {
        /// Whether their groups are close together or far apart.
        #[test]
        fn events_of_many_groups_stand_as_sorted_ones(events in prop_oneof![events(1), events(20), events(100_000)]) {
            let mut wanted = events.clone();
            wanted.sort_by(Event::order);
            let found = in_order(events, Event::order, &|| Ok::<(), ()>(())).expect("nobody cancels");
            prop_assert_eq!(found, wanted);
        }

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
