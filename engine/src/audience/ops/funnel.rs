//! How many users did some steps in order, and who came how far.
//!
//! The events of the steps are read once, of users who may have done the first; then each user's are walked in order
//! ([`crate::journey::funnel`]).
//!
//! How long users took from one step to the next is kept as *hops*, of a shard when its events are gone, so that an answer needs hardly
//! more memory than these did. Steps that one event is, or that are of one moment, took no time and have no hop: there are always fewer
//! hops than events, and who came to a step without one took no time.

use super::members::slots;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventScan, EventsMeant, FactScanner, ScanStats, ToldEvents};
use crate::ids::{Slot, TagId};
use crate::journey::funnel::Funnel;
use crate::journey::{CONDITIONS_MAX, Event, in_order};
use crate::store::Snapshot;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Users who are walked between two looks at whether anybody waits.
const USERS_BETWEEN_LOOKS: usize = 4096;

/// Who came how far.
#[derive(Clone, Debug)]
pub struct FunnelAnswer {
    /// Of each step, the users (slots per shard) who did all up to it, in order and in time.
    pub reached: Vec<Vec<RoaringBitmap>>,
    /// Events of the steps that were looked at.
    pub events: u64,
    /// How they were read.
    pub stats: ScanStats,
}

impl FunnelAnswer {
    /// How many users did all steps up to one, which is counted from 0.
    pub fn users(&self, step: usize) -> u64 {
        self.reached[step].iter().map(RoaringBitmap::len).sum()
    }

    /// The users who did all steps up to one, and not the next; of the last, all who did it.
    pub fn stopped(&self, step: usize) -> Vec<RoaringBitmap> {
        let mut users = self.reached[step].clone();
        if let Some(next) = self.reached.get(step + 1) {
            users.iter_mut().zip(next).for_each(|(users, next)| *users -= next);
        }
        users
    }
}

/// The same, and how long they took.
pub struct TimedFunnel {
    /// Who came how far.
    pub funnel: FunnelAnswer,
    /// Per shard and step, by user.
    hops: Vec<Vec<Vec<Hop>>>,
    _held: Vec<Box<dyn Any + Send>>,
}

/// How long users took from one step to the next, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// The middle one; of an even number of users the mean of two.
    pub median: f64,
    /// The least that nine of ten users did not exceed.
    pub p90: i64,
}

impl TimedFunnel {
    /// How long the users of a step, which is counted from 0, took from the one before; of all of them, or of those who are among some
    /// (slots per shard). `None` at the first step, and of nobody. Takes 8 bytes for each of them.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`].
    pub fn time_to(
        &self,
        step: usize,
        among: Option<&[RoaringBitmap]>,
        context: &QueryContext,
    ) -> Result<Option<StepTime>, QueryError> {
        if step == 0 {
            return Ok(None);
        }
        let (mut users, mut times) = (0, Vec::new());
        for (shard, reached) in self.funnel.reached[step].iter().enumerate() {
            context.check()?;
            let hops = &self.hops[shard][step][..];
            match among {
                None => {
                    users += reached.len();
                    times.extend(hops.iter().map(|hop| hop.time));
                }
                Some(among) => {
                    let meant = &among[shard] & reached;
                    users += meant.len();
                    times.extend(of_users(hops, &meant));
                }
            }
        }
        Ok(StepTime::of(users, times))
    }
}

impl StepTime {
    /// Of so many users, those who took any time.
    fn of(users: u64, mut times: Vec<i64>) -> Option<StepTime> {
        let last = users.checked_sub(1)?;
        let without = users - times.len() as u64;
        let mut ranked = |rank: u64| match rank.checked_sub(without) {
            None => 0,
            Some(rank) => *times.select_nth_unstable(rank as usize).1,
        };
        let (low, high) = (ranked(last / 2), ranked(last.div_ceil(2)));
        // So many do not exceed it: nine of ten, rounded up.
        let enough = users - users / 10;
        Some(StepTime { median: (low as f64 + high as f64) / 2.0, p90: ranked(enough - 1) })
    }
}

/// How long a user took from one step to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    user: Slot,
    /// In microseconds, more than 0.
    time: i64,
}

/// The times of some users' hops to a step.
fn of_users(mut hops: &[Hop], users: &RoaringBitmap) -> Vec<i64> {
    let mut times = Vec::new();
    for user in users {
        hops = &hops[hops.partition_point(|hop| hop.user < user)..];
        if let Some(hop) = hops.first().filter(|hop| hop.user == user) {
            times.push(hop.time);
        }
    }
    times
}

/// Who of `whom` did the steps; `funnel` has its window in microseconds. Holds the events of the steps, 16 bytes each; those of a shard
/// take up to three times that while they are put in order.
///
/// # Errors
/// [`QueryError`], also if there are no steps or too many.
pub fn funnel(
    snapshot: &Snapshot,
    steps: &[EventsMeant],
    funnel: Funnel,
    whom: &Predicate,
    context: &QueryContext,
) -> Result<TimedFunnel, QueryError> {
    if steps.is_empty() || steps.len() > CONDITIONS_MAX {
        return Err(QueryError::Invalid(format!("a funnel has from 1 to {CONDITIONS_MAX} steps")));
    }
    let Gathered { shards, stats, held } = gathered(snapshot, steps, whom, Some(&steps[0]), context)?;
    let level = |events: &[Event], times: &mut Vec<i64>, hops: &mut [Vec<Hop>]| {
        funnel.chain(events, times, || context.check())?;
        for (pair, hops) in times.windows(2).zip(&mut hops[1..]).filter(|(pair, _)| pair[0] < pair[1]) {
            // No longer than the window, which is a number of microseconds.
            let time = (i128::from(pair[1]) - i128::from(pair[0])) as i64;
            hops.push(Hop { user: events[0].group, time });
        }
        Ok(times.len())
    };
    let Reached { reached, hops, events } = reached(shards, steps.len(), level, context)?;
    Ok(TimedFunnel { funnel: FunnelAnswer { reached, events, stats }, hops, _held: held })
}

/// Who came to some levels.
pub(super) struct Reached {
    /// Of each level the users, slots per shard.
    pub(super) reached: Vec<Vec<RoaringBitmap>>,
    /// Per shard and level, what was kept, by user.
    pub(super) hops: Vec<Vec<Vec<Hop>>>,
    /// How many events there were.
    pub(super) events: u64,
}

/// Who came to each of so many levels; `level` tells how far the events of a user come, which stand in order, and may keep a hop to each
/// level. It has a list of times for its own use.
pub(super) fn reached(
    shards: Vec<Vec<Event>>,
    levels: usize,
    level: impl Fn(&[Event], &mut Vec<i64>, &mut [Vec<Hop>]) -> Result<usize, QueryError> + Sync,
    context: &QueryContext,
) -> Result<Reached, QueryError> {
    let check = || context.check();
    let of_shard = |events: Vec<Event>| {
        let events = in_order(events, Event::order, &check)?;
        let mut reached: Vec<Vec<Slot>> = vec![Vec::new(); levels];
        let (mut hops, mut times) = (vec![Vec::new(); levels], Vec::new());
        for (number, of_user) in events.chunk_by(|a, b| a.group == b.group).enumerate() {
            if number.is_multiple_of(USERS_BETWEEN_LOOKS) {
                check()?;
            }
            let level = level(of_user, &mut times, &mut hops)?;
            reached[..level].iter_mut().for_each(|users| users.push(of_user[0].group));
        }
        hops.iter_mut().for_each(Vec::shrink_to_fit);
        let users = |users: Vec<Slot>| RoaringBitmap::from_sorted_iter(users).unwrap_or_default();
        Ok((reached.into_iter().map(users).collect::<Vec<_>>(), hops, events.len() as u64))
    };
    let walked: Result<Vec<_>, QueryError> = shards.into_par_iter().map(of_shard).collect();
    let walked = walked?;
    let mut all = Reached { reached: vec![Vec::with_capacity(walked.len()); levels], hops: Vec::new(), events: 0 };
    for (of_shard, hops, events) in walked {
        all.reached.iter_mut().zip(of_shard).for_each(|(reached, users)| reached.push(users));
        all.hops.push(hops);
        all.events += events;
    }
    Ok(all)
}

/// Events of steps.
#[derive(Default)]
pub(super) struct Gathered {
    /// Per shard, each with the places of the steps that it is.
    pub(super) shards: Vec<Vec<Event>>,
    /// How they were read.
    pub(super) stats: ScanStats,
    /// See [`ToldEvents::held`].
    pub(super) held: Vec<Box<dyn Any + Send>>,
}

/// The events of some steps of `whom`. Of users who cannot have an event of `needed`, none may be told.
pub(super) fn gathered(
    snapshot: &Snapshot,
    steps: &[EventsMeant],
    whom: &Predicate,
    needed: Option<&EventsMeant>,
    context: &QueryContext,
) -> Result<Gathered, QueryError> {
    let mut gathered = Gathered { shards: vec![Vec::new(); snapshot.shards().len()], ..Gathered::default() };
    let mut scans: BTreeMap<TagId, EventScan> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| !step.is_none()) {
        let scan = scans.entry(step.fact).or_insert(EventScan { fact: step.fact, conditions: Vec::new() });
        scan.conditions.push((at, step.window, step.condition.clone()));
    }
    let (within, users) = asked_about(snapshot, whom, needed, context)?;
    gathered.stats.users_within = users;
    if scans.is_empty() || gathered.stats.users_within == Some(0) {
        return Ok(gathered);
    }
    for scan in scans.values() {
        context.check()?;
        let scanner = scanner(snapshot, scan.fact, context)?;
        let ToldEvents { shards, stats, held } =
            scanner.events(snapshot, scan, within.as_deref(), &context.cancelled)?;
        gathered.stats.add(&stats);
        gathered.held.extend(held);
        for (all, events) in gathered.shards.iter_mut().zip(shards) {
            if all.is_empty() { *all = events } else { all.extend(events) }
        }
    }
    Ok(gathered)
}

/// The users whose events are read, and how many; all if they are not told: those of `whom` who may have an event of `needed`.
pub(super) fn asked_about(
    snapshot: &Snapshot,
    whom: &Predicate,
    needed: Option<&EventsMeant>,
    context: &QueryContext,
) -> Result<(Option<Vec<RoaringBitmap>>, Option<u64>), QueryError> {
    let needed = needed.map(|needed| Predicate::Did(needed.superset()));
    let asked = Predicate::And([Some(whom.clone()), needed].into_iter().flatten().collect()).canonical();
    let within = match asked {
        Predicate::All if snapshot.shows_everybody() => None,
        asked => Some(slots(snapshot, &asked, context)?),
    };
    let users = within.as_ref().map(|within| within.iter().map(RoaringBitmap::len).sum());
    Ok((within, users))
}

/// Who reads the events of a fact.
pub(super) fn scanner<'c>(
    snapshot: &Snapshot,
    fact: TagId,
    context: &'c QueryContext,
) -> Result<&'c Arc<dyn FactScanner>, QueryError> {
    context.scanner.as_ref().ok_or_else(|| {
        let fact = snapshot.catalog().name_of(fact).unwrap_or("dropped");
        QueryError::NoScanner { fact: fact.to_owned() }
    })
}
