//! Whether, and how often, a pattern of events happened.
//!
//! A chain takes events as the pattern says; chains do not overlap if one ends before the other begins. What is counted is the most
//! chains that do not overlap: the chain that ends first, then the one that ends first of those behind it, and so on.
//!
//! For each event, [`follow`] settles which places of the pattern it may be taken at. Of the events before it that may be taken at the
//! place before, the latest one that is far enough away in time is the one to ask: if it is too far away, so are all others. Times rise,
//! so that this latest one only moves on. That takes events × places at most, whatever the pattern: nothing is tried and taken back.

use super::Event;
use super::pattern::Pattern;

/// Bytes that are needed beside an event.
pub const BYTES_BESIDE: usize = size_of::<u64>();
/// Events between two looks at whether anybody waits.
const LOOK_EACH: usize = 4096;

/// What became of a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Chains that do not overlap.
    pub chains: u64,
    /// How many events of the pattern the one that came furthest took.
    pub furthest: usize,
}

/// The latest event that may be taken at a place, as far as one looked.
#[derive(Clone, Copy, Default)]
struct Latest {
    time: Option<i64>,
    /// The next one to look at.
    next: usize,
}

/// How many chains there are that do not overlap, but at most so many, and how far they came. The events stand in order; `check` is asked
/// now and then whether to go on.
///
/// # Errors
/// Those of `check`.
pub fn follow<E>(
    pattern: &Pattern,
    events: &[Event],
    most: u64,
    check: impl Fn() -> Result<(), E>,
) -> Result<Followed, E> {
    let last = 1u64 << (pattern.taken.len() - 1);
    // For each event the places it may be taken at.
    let mut places = vec![0u64; events.len()];
    let mut latest = vec![Latest::default(); pattern.taken.len()];
    let (mut begun, mut followed) = (0, Followed::default());
    for (at, event) in events.iter().enumerate() {
        if at.is_multiple_of(LOOK_EACH) {
            check()?;
        }
        for (place, taken) in pattern.taken.iter().enumerate() {
            let is_fulfilled = taken.fulfils.is_none_or(|bit| event.fulfils & bit != 0);
            if is_fulfilled && (place == 0 || is_reached(pattern, place, &events[..=at], &places, begun, &mut latest)) {
                places[at] |= 1 << place;
            }
        }
        followed.furthest = followed.furthest.max((u64::BITS - places[at].leading_zeros()) as usize);
        if places[at] & last != 0 {
            followed.chains += 1;
            if followed.chains == most {
                break;
            }
            begun = at + 1;
            latest.fill(Latest { time: None, next: begun });
        }
    }
    Ok(followed)
}

/// Whether the last of these events may stand at a place, by those before it.
fn is_reached(
    pattern: &Pattern,
    place: usize,
    events: &[Event],
    places: &[u64],
    begun: usize,
    latest: &mut [Latest],
) -> bool {
    let gap = pattern.taken[place].gap;
    let was_taken = |at: usize| places[at] >> (place - 1) & 1 == 1;
    let at = events.len() - 1;
    if gap.is_adjacent {
        return at > begun && was_taken(at - 1);
    }
    let since = |time: i64| i128::from(events[at].time) - i128::from(time);
    let latest = &mut latest[place];
    while latest.next < at && since(events[latest.next].time) >= gap.least {
        if was_taken(latest.next) {
            latest.time = Some(events[latest.next].time);
        }
        latest.next += 1;
    }
    latest.time.is_some_and(|time| since(time) <= gap.most)
}
