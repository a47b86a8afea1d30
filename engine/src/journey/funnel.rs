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
//!
//! When steps were taken is told of one chain: of those that come furthest, the one that is first to get there, and of these the one with
//! the latest first step, then the latest second one, and so on. Whatever goes on from a level goes on from the one that is latest so, so
//! that it takes no more than keeping all times of a chain in the place of its start.

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

/// What is kept of a chain while it goes on. Of two that came to the same level, the one that begins later is the greater.
trait Kept: Copy + Ord {
    /// Of the first step.
    fn begun(time: i64) -> Self;
    /// And of the next one.
    fn gone_on(self, time: i64) -> Self;
    /// When the first step was.
    fn start(&self) -> i64;
}

/// Its start.
impl Kept for i64 {
    fn begun(time: i64) -> i64 {
        time
    }

    fn gone_on(self, _: i64) -> i64 {
        self
    }

    fn start(&self) -> i64 {
        *self
    }
}

/// When its steps were taken, of which there are at most N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chain<const N: usize> {
    count: usize,
    /// Behind the steps that were taken all are 0, so that chains of one level stand in the order of their times.
    times: [i64; N],
}

impl<const N: usize> Kept for Chain<N> {
    fn begun(time: i64) -> Self {
        let mut times = [0; N];
        times[0] = time;
        Chain { count: 1, times }
    }

    fn gone_on(mut self, time: i64) -> Self {
        self.times[self.count] = time;
        self.count += 1;
        self
    }

    fn start(&self) -> i64 {
        self.times[0]
    }
}

/// Conditions of most funnels.
const FEW: usize = 4;

/// As many levels as chains can come to: not beyond the first condition that no event fulfils.
fn levels(events: &[Event]) -> usize {
    events.iter().fold(0, |all, event| all | event.fulfils).trailing_ones() as usize
}

impl Funnel {
    /// How many conditions, from the first on, a chain fulfils at most. The events stand in order ([`Event::order`]); `check` is asked
    /// now and then whether to go on.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn level<E>(&self, events: &[Event], check: impl Fn() -> Result<(), E>) -> Result<usize, E> {
        match levels(events) {
            levels @ (0 | 1) => Ok(levels),
            levels @ 2..=FEW => Ok(self.furthest::<i64, FEW, E>(events, levels, check)?.0),
            levels => Ok(self.furthest::<i64, CONDITIONS_MAX, E>(events, levels, check)?.0),
        }
    }

    /// When the steps of the chain that is told of were taken (see the module): a time for each, rising; none if nothing fulfils the first
    /// condition. As [`Funnel::level`].
    ///
    /// # Errors
    /// Those of `check`.
    pub fn chain<E>(&self, events: &[Event], times: &mut Vec<i64>, check: impl Fn() -> Result<(), E>) -> Result<(), E> {
        times.clear();
        match levels(events) {
            0 => {}
            1 => times.extend(events.iter().find(|event| event.fulfils & 1 != 0).map(|event| event.time)),
            levels @ 2..=FEW => self.times_of::<FEW, E>(events, levels, times, check)?,
            _ => {
                // Chains are longer than starts: they are kept only as far as anybody came.
                let level = self.level(events, &check)?;
                self.times_of::<CONDITIONS_MAX, E>(events, level, times, check)?;
            }
        }
        Ok(())
    }

    fn times_of<const N: usize, E>(
        &self,
        events: &[Event],
        levels: usize,
        times: &mut Vec<i64>,
        check: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        if let (_, Some(chain)) = self.furthest::<Chain<N>, N, E>(events, levels, check)? {
            times.extend(&chain.times[..chain.count]);
        }
        Ok(())
    }

    /// How far chains come, of so many levels, N at most, and the greatest of those that are first to come so far.
    fn furthest<C: Kept, const N: usize, E>(
        &self,
        events: &[Event],
        levels: usize,
        check: impl Fn() -> Result<(), E>,
    ) -> Result<(usize, Option<C>), E> {
        // The greatest of the chains that came to each level and can go on, before the moment of the event and at it; level 0 is not used.
        let (mut before, mut now) = ([None; N], [None; N]);
        let (before, now) = (&mut before[..levels], &mut now[..levels]);
        let all_levels = ((1_u64 << levels) - 1) as u32;
        let mut moment = None;
        let mut furthest = (0, None);
        for (at, event) in events.iter().enumerate() {
            if at != 0 && at.is_multiple_of(LOOK_EACH) {
                check()?;
            }
            if moment != Some(event.time) {
                moment = Some(event.time);
                for (before, now) in before.iter_mut().zip(now.iter_mut()) {
                    if now.is_some() {
                        *before = (*before).max(now.take());
                    }
                }
            }
            // What comes to a level by this event.
            let mut stepped: Option<C> = None;
            // Where nothing ends a chain, levels that it neither takes nor comes to stay as they are.
            let mut looked_at =
                if self.ends_chains() { u32::MAX } else { event.fulfils | event.fulfils << 1 } & all_levels;
            while looked_at != 0 {
                let level = looked_at.trailing_zeros() as usize;
                looked_at &= looked_at - 1;
                let came = stepped;
                stepped = match level {
                    _ if event.fulfils >> level & 1 == 0 => None,
                    0 => Some(C::begun(event.time)),
                    _ => self
                        .carried_on(event.time, before[level], now[level], came)
                        .map(|chain| chain.gone_on(event.time)),
                };
                if stepped.is_some() && level + 1 > furthest.0 {
                    furthest = (level + 1, stepped);
                }
                if level > 0 {
                    if self.is_ended_by(event.fulfils, level) {
                        (before[level], now[level]) = (None, None);
                    }
                    now[level] = now[level].max(came);
                }
            }
            if furthest.0 == levels {
                break;
            }
        }
        Ok(furthest)
    }

    /// The greatest chain that may take a step at this time, if there is one.
    fn carried_on<C: Kept>(&self, time: i64, before: Option<C>, now: Option<C>, stepped: Option<C>) -> Option<C> {
        let mut chain = before;
        if !self.modes.increase {
            chain = chain.max(now);
            if !self.modes.once {
                chain = chain.max(stepped);
            }
        }
        chain.filter(|chain| i128::from(time) - i128::from(chain.start()) <= self.window)
    }

    /// Whether there are events that end chains.
    fn ends_chains(&self) -> bool {
        self.modes.deduplication || self.modes.order
    }

    /// Whether a chain that has come to this level ends at an event which is none of its steps.
    fn is_ended_by(&self, fulfils: u32, level: usize) -> bool {
        let up_to_next = (1u64 << (level + 1)) - 1;
        let is_known = u64::from(fulfils) & up_to_next != 0;
        if is_known { self.modes.deduplication } else { self.modes.order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::naive::{self, Row};
    use crate::journey::sort;
    use proptest::prelude::*;

    fn chain(funnel: &Funnel, rows: &[Row]) -> Vec<i64> {
        let bits = |fulfils: &std::collections::BTreeSet<usize>| fulfils.iter().fold(0, |bits, bit| bits | 1 << bit);
        let mut events: Vec<Event> =
            rows.iter().map(|(time, fulfils)| Event { time: *time, fulfils: bits(fulfils), group: 7 }).collect();
        sort(&mut events, &|| Ok::<(), ()>(())).expect("nobody cancels");
        let mut times = vec![3];
        funnel.chain(&events, &mut times, || Ok::<(), ()>(())).expect("nobody cancels");
        times
    }

    #[test]
    fn the_chain_that_is_told_of_is_the_latest_of_those_that_are_first_to_come_so_far() {
        let rows =
            |rows: &[(i64, usize)]| -> Vec<Row> { rows.iter().map(|(time, one)| (*time, [*one].into())).collect() };
        let funnel = |window, modes| Funnel { window, modes };
        let all = funnel(100, Modes::default());
        // The second visit led to the purchase, the third came too late for it, and another purchase does not count.
        let bought = rows(&[(1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (11, 0), (12, 1), (13, 2)]);
        assert_eq!(chain(&all, &bought), [5, 8, 9]);
        // Nobody came further, so it is the first that came there.
        assert_eq!(chain(&all, &bought[5..7]), [11, 12]);
        assert_eq!(chain(&all, &bought[5..6]), [11]);
        assert_eq!(chain(&all, &bought[6..]), [0; 0]);
        let deduplicated = funnel(100, Modes { deduplication: true, ..Modes::default() });
        assert_eq!(chain(&deduplicated, &bought), [11, 12, 13]);
        assert_eq!(chain(&funnel(2, Modes::default()), &bought[..5]), [5, 6]);
    }

    fn rows(conditions: usize) -> impl Strategy<Value = Vec<Row>> {
        prop::collection::vec((0..9i64, prop::collection::btree_set(0..conditions, 0..4)), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn chains_are_those_of_the_slow_twin(rows in prop_oneof![rows(4), rows(FEW + 2)], window in 0..9i128, modes in prop::array::uniform4(any::<bool>())) {
            let [deduplication, order, increase, once] = modes;
            let funnel = Funnel { window, modes: Modes { deduplication, order, increase, once } };
            prop_assert_eq!(chain(&funnel, &rows), naive::times(&rows, &funnel));
        }
    }
}
