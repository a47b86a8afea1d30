//! How many users did some steps in order, and who came how far.
//!
//! The events of the steps are read once, of users who may have done the first; then each user's are walked in order
//! ([`crate::journey::funnel`]).

use super::members::slots;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventScan, EventsMeant, FactScanner, ScanStats, ToldEvents};
use crate::ids::TagId;
use crate::journey::funnel::Funnel;
use crate::journey::{CONDITIONS_MAX, Event, sort};
use crate::store::Snapshot;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Who of `whom` did the steps; `funnel` has its window in microseconds. Holds the events of the steps, 16 bytes each.
///
/// # Errors
/// [`QueryError`], also if there are no steps or too many.
pub fn funnel(
    snapshot: &Snapshot,
    steps: &[EventsMeant],
    funnel: Funnel,
    whom: &Predicate,
    context: &QueryContext,
) -> Result<FunnelAnswer, QueryError> {
    if steps.is_empty() || steps.len() > CONDITIONS_MAX {
        return Err(QueryError::Invalid(format!("a funnel has from 1 to {CONDITIONS_MAX} steps")));
    }
    let Gathered { shards, stats, held: _held } = gathered(snapshot, steps, whom, Some(&steps[0]), context)?;
    let level = |events: &[Event]| funnel.level(events, || context.check());
    let (reached, events) = reached(shards, steps.len(), level, context)?;
    Ok(FunnelAnswer { reached, events, stats })
}

/// Of each of so many levels the users, slots per shard, who came to it, and how many events they all have; `level` tells how far the events
/// of a user come, which stand in order.
pub(super) fn reached(
    shards: Vec<Vec<Event>>,
    levels: usize,
    level: impl Fn(&[Event]) -> Result<usize, QueryError> + Sync,
    context: &QueryContext,
) -> Result<(Vec<Vec<RoaringBitmap>>, u64), QueryError> {
    let of_shard = |mut events: Vec<Event>| {
        sort(&mut events, &|| context.check())?;
        let mut reached: Vec<Vec<u32>> = vec![Vec::new(); levels];
        for of_user in events.chunk_by(|a, b| a.group == b.group) {
            let level = level(of_user)?;
            reached[..level].iter_mut().for_each(|users| users.push(of_user[0].group));
        }
        let users = |users: Vec<u32>| RoaringBitmap::from_sorted_iter(users).unwrap_or_default();
        Ok((events.len() as u64, reached.into_iter().map(users).collect::<Vec<_>>()))
    };
    let walked: Result<Vec<_>, QueryError> = shards.into_par_iter().map(of_shard).collect();
    let walked = walked?;
    let events = walked.iter().map(|(events, _)| events).sum();
    let mut reached = vec![Vec::with_capacity(walked.len()); levels];
    for (_, of_shard) in walked {
        reached.iter_mut().zip(of_shard).for_each(|(reached, users)| reached.push(users));
    }
    Ok((reached, events))
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
        for (shard, mut events) in shards.into_iter().enumerate() {
            if let Some(within) = &within {
                events.retain(|event| within[shard].contains(event.group));
            }
            let all = &mut gathered.shards[shard];
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
