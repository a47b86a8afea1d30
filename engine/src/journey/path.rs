//! What came next: the events behind a chosen one, or before it, one after the other.
//!
//! A user has one path, so that whoever comes to a place in it either goes on from there to one other place or stops. It begins at the
//! first or at the last of the chosen events and goes away from it, forwards or backwards, event by event as they stand in a sequence.

use super::Event;

/// Events between two looks at whether anybody waits.
const LOOK_EACH: usize = 4096;

/// A question about the events of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// How far from the chosen event, in what times are counted in, the last one may be.
    pub window: i128,
    /// How many steps from the chosen event at most.
    pub depth: usize,
    /// Whether the path leads to the chosen event instead of from it.
    pub backwards: bool,
    /// Whether the chosen event is the last one that can be chosen, instead of the first.
    pub last: bool,
    /// Whether what repeats without anything in between is one step: the one that is nearest to the chosen event.
    pub fold: bool,
}

impl Walk {
    /// Puts the places of a path's events in `path`, the chosen one first; none if there is no event of which `is_chosen` holds. The
    /// events stand in order ([`Event::order_of_things`]); `check` is asked now and then whether to go on.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn path<E>(
        &self,
        events: &[Event],
        is_chosen: impl Fn(&Event) -> bool,
        path: &mut Vec<usize>,
        check: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        path.clear();
        let chosen = if self.last { events.iter().rposition(is_chosen) } else { events.iter().position(is_chosen) };
        let Some(chosen) = chosen else { return Ok(()) };
        check()?;
        path.push(chosen);
        let mut nearest = chosen;
        let mut at = chosen;
        while path.len() <= self.depth {
            let next = if self.backwards { at.checked_sub(1) } else { Some(at + 1) };
            let Some(event) = next.and_then(|next| events.get(next)) else { break };
            at = next.unwrap_or(at);
            if at.is_multiple_of(LOOK_EACH) {
                check()?;
            }
            if (i128::from(event.time) - i128::from(events[chosen].time)).abs() > self.window {
                break;
            }
            if !(self.fold && event.fulfils == events[nearest].fulfils) {
                path.push(at);
                nearest = at;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;

    fn path(events: &[Event], walk: &Walk) -> Vec<usize> {
        let mut path = vec![7];
        walk.path(events, |event| event.fulfils == 0, &mut path, || Ok::<(), ()>(())).expect("nobody cancels");
        path
    }

    #[test]
    fn paths_go_from_the_chosen_event_and_to_it() {
        let events: Vec<Event> = [(1, 2), (3, 0), (4, 1), (4, 1), (5, 2), (6, 0), (7, 1)]
            .map(|(time, fulfils)| Event { time, fulfils, group: 0 })
            .into();
        let forwards = Walk { window: 10, depth: 9, backwards: false, last: false, fold: false };
        assert_eq!(path(&events, &forwards), [1, 2, 3, 4, 5, 6]);
        assert_eq!(path(&events, &Walk { fold: true, ..forwards }), [1, 2, 4, 5, 6]);
        assert_eq!(path(&events, &Walk { window: 2, ..forwards }), [1, 2, 3, 4]);
        assert_eq!(path(&events, &Walk { depth: 1, ..forwards }), [1, 2]);
        assert_eq!(path(&events, &Walk { last: true, ..forwards }), [5, 6]);
        assert_eq!(path(&events, &Walk { last: true, backwards: true, fold: true, ..forwards }), [5, 4, 3, 1, 0]);
        assert_eq!(path(&events, &Walk { backwards: true, ..forwards }), [1, 0]);
        assert_eq!(path(&events[2..5], &forwards), [] as [usize; 0]);
    }

    proptest! {
        #[test]
        fn a_path_is_what_its_words_say(
            rows in prop::collection::vec((0..6i64, 0..4u32), 0..12),
            window in 0..6i128,
            depth in 0..6usize,
            flags in any::<(bool, bool, bool)>(),
        ) {
            let walk = Walk { window, depth, backwards: flags.0, last: flags.1, fold: flags.2 };
            let mut events: Vec<Event> =
                rows.iter().map(|(time, fulfils)| Event { time: *time, fulfils: *fulfils, group: 0 }).collect();
            events.sort_by(Event::order_of_things);
            let found: Vec<(i64, u32)> =
                path(&events, &walk).into_iter().map(|at| (events[at].time, events[at].fulfils)).collect();
            prop_assert_eq!(found, naive::path(&rows, &0, &walk));
        }
    }
}
