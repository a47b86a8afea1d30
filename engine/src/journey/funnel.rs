//! How far a chain of steps was followed within a window of time.
//!
//! A chain takes an event for each of the first k conditions: each stands at or behind the one before, and at most `window` later than
//! the first. The answer is the greatest k. Modes say which chains there are:
//!
//! * `deduplication`: between two steps no event fulfils a condition up to the later step's: what repeats ends a chain.
//! * `order`: between two steps each event fulfils a condition up to the later step's: what is out of turn ends a chain.
//! * `increase`: each step is later than the one before.
//! * `once`: an event is one step; otherwise it may be several that follow one another.
//!
//! One pass finds it. Of chains that came equally far the one with the latest start can go on wherever another can, so that one start is
//! kept for each level; with `increase` two, for a chain that has got there at this very moment cannot take its next step yet.

use super::{CONDITIONS_MAX, Event};
use crate::audience::suggest::closest;

/// Which chains there are; see the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// What repeats ends a chain.
    pub deduplication: bool,
    /// What is out of turn ends a chain.
    pub order: bool,
    /// Each step is later than the one before.
    pub increase: bool,
    /// An event is one step.
    pub once: bool,
}

/// A mode that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mode '{name}'{} It has {}", near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default(), NAMES.join(", "))]
pub struct UnknownMode {
    name: String,
    near: Option<&'static str>,
}

/// Events between two looks at whether anybody waits.
const LOOK_EACH: usize = 4096;

/// Modes by the names that others have for them.
const NAMES: [&str; 8] = [
    "default",
    "deduplication",
    "strict_deduplication",
    "fixed",
    "strict_order",
    "increase",
    "strict_increase",
    "strict_once",
];

impl Modes {
    /// Adds one or several by name, with commas between them.
    ///
    /// # Errors
    /// [`UnknownMode`].
    pub fn add(&mut self, names: &str) -> Result<(), UnknownMode> {
        for name in names.split(',').map(str::trim) {
            match name.to_ascii_lowercase().as_str() {
                "default" => {}
                "deduplication" | "strict_deduplication" => self.deduplication = true,
                "fixed" | "strict_order" => self.order = true,
                "increase" | "strict_increase" => self.increase = true,
                "strict_once" => self.once = true,
                other => return Err(UnknownMode { name: name.to_owned(), near: closest(other, NAMES) }),
            }
        }
        Ok(())
    }

    /// Modes as a sum of 1 for deduplication, 2 for order and 4 for increase; `None` if it is none.
    pub fn of_bits(bits: i64) -> Option<Modes> {
        let has = |bit| bits & bit != 0;
        let modes = Modes { deduplication: has(1), order: has(2), increase: has(4), once: false };
        (0..=7).contains(&bits).then_some(modes)
    }
}

/// A question about the events of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Funnel {
    /// How much later than the first step the last one may be, in what times are counted in.
    pub window: i128,
    /// Which chains there are.
    pub modes: Modes,
}

/// The latest start of the chains that came to each level; `None` if there is none. Level 0 is not used.
type Starts = [Option<i64>; CONDITIONS_MAX + 1];
const NONE: Starts = [None; CONDITIONS_MAX + 1];

impl Funnel {
    /// How many conditions, from the first on, a chain fulfils at most. The events stand in order ([`Event::order`]); `check` is asked
    /// now and then whether to go on.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn level<E>(&self, events: &[Event], check: impl Fn() -> Result<(), E>) -> Result<usize, E> {
        let all = events.iter().fold(0, |all, event| all | event.fulfils);
        // Nobody comes beyond the first condition that no event fulfils.
        let levels = all.trailing_ones() as usize;
        // Of chains that got there before the moment of the event, and at it.
        let (mut before, mut now) = (NONE, NONE);
        let mut moment = None;
        let mut furthest = 0;
        for (at, event) in events.iter().enumerate() {
            if at.is_multiple_of(LOOK_EACH) {
                check()?;
            }
            if moment != Some(event.time) {
                moment = Some(event.time);
                for (before, now) in before.iter_mut().zip(&mut now) {
                    *before = (*before).max(now.take());
                }
            }
            let mut stepped = NONE;
            for level in (0..levels).filter(|level| event.fulfils >> level & 1 == 1) {
                stepped[level + 1] = match level {
                    0 => Some(event.time),
                    _ => self.start_to_go_on(event.time, before[level], now[level], stepped[level]),
                };
                if stepped[level + 1].is_some() {
                    furthest = furthest.max(level + 1);
                }
            }
            if furthest == levels {
                break;
            }
            for level in 1..=levels {
                if self.is_ended_by(event.fulfils, level) {
                    (before[level], now[level]) = (None, None);
                }
                now[level] = now[level].max(stepped[level]);
            }
        }
        Ok(furthest)
    }

    /// The latest start of a chain that may take a step at this time, if there is one.
    fn start_to_go_on(&self, time: i64, before: Option<i64>, now: Option<i64>, stepped: Option<i64>) -> Option<i64> {
        let mut start = before;
        if !self.modes.increase {
            start = start.max(now);
            if !self.modes.once {
                start = start.max(stepped);
            }
        }
        start.filter(|start| i128::from(time) - i128::from(*start) <= self.window)
    }

    /// Whether a chain that has come to this level ends at an event which is none of its steps.
    fn is_ended_by(&self, fulfils: u32, level: usize) -> bool {
        let up_to_next = (1u64 << (level + 1)) - 1;
        let is_known = u64::from(fulfils) & up_to_next != 0;
        if is_known { self.modes.deduplication } else { self.modes.order }
    }
}
