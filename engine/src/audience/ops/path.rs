//! What users did next, after a chosen event or before it.
//!
//! Each user's path ([`crate::journey::path`]) becomes a hop for each two places that follow one another: the depth, what stood there and
//! what came. Hops take the place of the events that they are made of, so that an answer needs no more memory than these did.

use super::kinds::{GatheredKinds, KindMeant, gathered_kinds};
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventValue, ScanStats};
use crate::journey::path::Walk;
use crate::journey::{Event, sort_by};
use crate::store::Snapshot;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most steps beside the chosen one.
pub const PATH_STEPS_MAX: usize = 31;
/// The most values that a step is told apart by.
pub const PATH_VALUES_MAX: usize = 100;
/// The most steps from the chosen event.
pub const PATH_DEPTH_MAX: usize = 20;

/// Bits of a place in [`PathAnswer::nodes`], of which two and a depth make a hop.
const NODE_BITS: u32 = 12;
// Of each step its values and what is put together; and the chosen one.
const _: () = assert!(PATH_STEPS_MAX * (PATH_VALUES_MAX + 1) < 1 << NODE_BITS);
const _: () = assert!(PATH_DEPTH_MAX <= 1 << (u32::BITS - 2 * NODE_BITS));

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct PathQuestion<'q> {
    /// The chosen event, which has no column.
    pub chosen: &'q KindMeant,
    /// What else is looked at, at most [`PATH_STEPS_MAX`]. An event is the chosen one if it can be, else the first of these that it can be.
    pub steps: &'q [KindMeant],
    /// How a path is found; the window is in microseconds.
    pub walk: Walk,
    /// How many values of a step are told apart, at most [`PATH_VALUES_MAX`]: those with most events of users who have the chosen one; of
    /// those with equally many the least. The others are put together.
    pub values: usize,
    /// Of whom.
    pub whom: &'q Predicate,
}

/// What can stand in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathNode {
    /// The chosen event.
    Chosen,
    /// A step, by its place, and which value of its column, if it has one.
    Step(usize, EventValue),
    /// What is put together of a step, by its place, and how many values that is.
    Others(usize, u64),
}

/// Users who went from one node to another, at a depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathLink {
    /// How many steps the first of them is away from the chosen event.
    pub depth: usize,
    /// What stands there: a place in [`PathAnswer::nodes`].
    pub near: usize,
    /// What stands one step further away.
    pub far: usize,
}

/// The paths of users.
pub struct PathAnswer {
    /// What stands in them; the chosen event first, then each step's, those with most events first.
    pub nodes: Vec<PathNode>,
    /// Users (slots per shard) with a chosen event.
    pub users: Vec<RoaringBitmap>,
    /// Where they went, and how many users: those with most first, of those with equally many in order.
    pub links: Vec<(PathLink, u64)>,
    /// Events of those users that were looked at.
    pub events: u64,
    /// How they were read.
    pub stats: ScanStats,
    /// Per shard, in the order of links, times and users; their times are from one event to the next, and what they fulfil is a link.
    hops: Vec<Vec<Event>>,
    depth: usize,
    _held: Vec<Box<dyn Any + Send>>,
}

impl PathLink {
    fn number(self) -> u32 {
        (self.depth as u32) << (2 * NODE_BITS) | (self.near as u32) << NODE_BITS | self.far as u32
    }

    fn of_number(number: u32) -> PathLink {
        let node = |bits: u32| (bits & ((1 << NODE_BITS) - 1)) as usize;
        PathLink { depth: (number >> (2 * NODE_BITS)) as usize, near: node(number >> NODE_BITS), far: node(number) }
    }
}

impl PathAnswer {
    /// How many users came to each node at each depth, and how many of them stopped there: those of the last depth did not, for what comes
    /// behind it is not looked at.
    pub fn places(&self) -> BTreeMap<(usize, usize), (u64, u64)> {
        let mut places: BTreeMap<(usize, usize), (u64, u64)> = BTreeMap::new();
        let all: u64 = self.users.iter().map(RoaringBitmap::len).sum();
        if all > 0 {
            places.insert((0, 0), (all, 0));
        }
        let mut went_on: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (link, users) in &self.links {
            places.entry((link.depth + 1, link.far)).or_default().0 += users;
            *went_on.entry((link.depth, link.near)).or_default() += users;
        }
        for (place, (users, stopped)) in &mut places {
            if place.0 < self.depth {
                *stopped = *users - went_on.get(place).copied().unwrap_or_default();
            }
        }
        places
    }

    /// The users who came to a node at a depth.
    pub fn users_at(&self, depth: usize, node: usize) -> Vec<RoaringBitmap> {
        match depth.checked_sub(1) {
            None if node == 0 => self.users.clone(),
            None => vec![RoaringBitmap::new(); self.users.len()],
            Some(before) => self.users_of(|link| link.depth == before && link.far == node),
        }
    }

    /// Those of them who went no further.
    pub fn stopped_at(&self, depth: usize, node: usize) -> Vec<RoaringBitmap> {
        let mut users = self.users_at(depth, node);
        let went_on = self.users_of(|link| link.depth == depth && link.near == node);
        users.iter_mut().zip(&went_on).for_each(|(users, went_on)| *users -= went_on);
        users
    }

    /// The users who went over a link.
    pub fn users_over(&self, over: PathLink) -> Vec<RoaringBitmap> {
        self.users_of(|link| link == over)
    }

    fn users_of(&self, is_meant: impl Fn(PathLink) -> bool) -> Vec<RoaringBitmap> {
        let meant: Vec<PathLink> = self.links.iter().map(|(link, _)| *link).filter(|link| is_meant(*link)).collect();
        let of_shard = |hops: &Vec<Event>| {
            meant.iter().flat_map(|link| of_link(hops, *link)).map(|hop| hop.group).collect::<RoaringBitmap>()
        };
        self.hops.iter().map(of_shard).collect()
    }

    /// The middle of the times from one end of a link to the other, in microseconds; of an even number of users the mean of two. `None`
    /// if nobody went over it.
    pub fn median_micros(&self, link: PathLink) -> Option<f64> {
        let shards: Vec<&[Event]> = self.hops.iter().map(|hops| of_link(hops, link)).collect();
        let users: usize = shards.iter().map(|hops| hops.len()).sum();
        let last = users.checked_sub(1)?;
        let (low, high) = (ranked(&shards, last / 2)?, ranked(&shards, last.div_ceil(2))?);
        Some((low as f64 + high as f64) / 2.0)
    }
}

/// The hops of a link.
fn of_link(hops: &[Event], link: PathLink) -> &[Event] {
    let number = link.number();
    let from = hops.partition_point(|hop| hop.fulfils < number);
    let to = hops.partition_point(|hop| hop.fulfils <= number);
    &hops[from..to]
}

/// The time at a rank, counted from 0, of parts that are sorted each for itself.
fn ranked(parts: &[&[Event]], rank: usize) -> Option<i64> {
    let ends = parts.iter().filter_map(|part| Some((part.first()?.time, part.last()?.time)));
    let (mut low, mut high) = ends.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))?;
    while low < high {
        let middle = low.midpoint(high);
        let up_to: usize = parts.iter().map(|part| part.partition_point(|hop| hop.time <= middle)).sum();
        if up_to > rank { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

/// What users of `whom` did next. Holds the events, 16 bytes each, and as many values as their columns have.
///
/// # Errors
/// [`QueryError`], also if there are no steps, or too many, or too many values.
pub fn path(snapshot: &Snapshot, asked: &PathQuestion<'_>, context: &QueryContext) -> Result<PathAnswer, QueryError> {
    let PathQuestion { chosen, steps, walk, .. } = *asked;
    for (count, least, most, what) in [
        (steps.len(), 1, PATH_STEPS_MAX, "steps"),
        (asked.values, 1, PATH_VALUES_MAX, "values of a step"),
        (walk.depth, 1, PATH_DEPTH_MAX, "steps from the chosen event"),
    ] {
        if count < least || count > most {
            return Err(QueryError::Invalid(format!("a path has from {least} to {most} {what}, not {count}")));
        }
    }
    // Of one moment what leads away from the chosen event stands behind it, and what leads to it before.
    let number_of_chosen = if walk.backwards { steps.len() as u32 } else { 0 };
    let first_number = u32::from(!walk.backwards);
    let numbers = (first_number..).zip(steps);
    let kinds: Vec<(u32, &KindMeant)> = std::iter::once((number_of_chosen, chosen)).chain(numbers).collect();
    let GatheredKinds { shards, things, stats, held } =
        gathered_kinds(snapshot, &kinds, asked.whom, &chosen.events, context)?;
    let is_chosen = |event: &Event| things[event.fulfils as usize].0 == number_of_chosen;
    let counted = counted(&shards, things.len(), is_chosen, context)?;
    let events = counted.iter().sum();
    let step_of =
        |thing: usize| things[thing].0.checked_sub(first_number).filter(|_| things[thing].0 != number_of_chosen);
    let (nodes, node_of) = nodes(&things, step_of, &counted, asked.values);
    let check = || context.check();
    let of_shard = |mut events: Vec<Event>| {
        let mut users = RoaringBitmap::new();
        let (mut kept, mut from) = (0, 0);
        let mut path = Vec::new();
        while from < events.len() {
            let of_user = events[from..].partition_point(|event| event.group == events[from].group);
            let own = &events[from..from + of_user];
            walk.path(own, is_chosen, &mut path, check)?;
            if !path.is_empty() {
                users.insert(own[0].group);
            }
            let hop = |(depth, pair): (usize, &[usize])| {
                let [near, far] = [pair[0], pair[1]].map(|at| own[at]);
                let node = |event: Event| node_of[event.fulfils as usize] as usize;
                let link = PathLink { depth, near: node(near), far: node(far) };
                // No longer than the window, which is a number of microseconds.
                let time = (i128::from(far.time) - i128::from(near.time)).unsigned_abs() as i64;
                Event { time, fulfils: link.number(), group: own[0].group }
            };
            let hops: Vec<Event> = path.windows(2).enumerate().map(hop).collect();
            // There are fewer hops than events, so that nothing is written over that is still to be read.
            events[kept..kept + hops.len()].copy_from_slice(&hops);
            kept += hops.len();
            from += of_user;
        }
        events.truncate(kept);
        let in_order = |a: &Event, b: &Event| (a.fulfils, a.time, a.group).cmp(&(b.fulfils, b.time, b.group));
        sort_by(&mut events, in_order, &check)?;
        Ok((users, events))
    };
    let walked: Result<Vec<_>, QueryError> = shards.into_par_iter().map(of_shard).collect();
    let (users, hops): (Vec<RoaringBitmap>, Vec<Vec<Event>>) = walked?.into_iter().unzip();
    let mut found: BTreeMap<u32, u64> = BTreeMap::new();
    for same in hops.iter().flat_map(|hops| hops.chunk_by(|a, b| a.fulfils == b.fulfils)) {
        *found.entry(same[0].fulfils).or_default() += same.len() as u64;
    }
    let mut links: Vec<(PathLink, u64)> =
        found.into_iter().map(|(number, users)| (PathLink::of_number(number), users)).collect();
    links.sort_by_key(|(_, users)| std::cmp::Reverse(*users));
    Ok(PathAnswer { nodes, users, links, events, stats, hops, depth: walk.depth, _held: held })
}

/// How many events each thing has, of users who have a chosen one.
fn counted(
    shards: &[Vec<Event>],
    things: usize,
    is_chosen: impl Fn(&Event) -> bool + Sync,
    context: &QueryContext,
) -> Result<Vec<u64>, QueryError> {
    let counts: Vec<AtomicU64> = (0..things).map(|_| AtomicU64::new(0)).collect();
    shards.par_iter().try_for_each(|events| {
        context.check()?;
        for of_user in events.chunk_by(|a, b| a.group == b.group).filter(|of_user| of_user.iter().any(&is_chosen)) {
            for event in of_user {
                counts[event.fulfils as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok::<(), QueryError>(())
    })?;
    Ok(counts.into_iter().map(AtomicU64::into_inner).collect())
}

/// What can stand in a path, and the place of each thing among that.
fn nodes(
    things: &[(u32, EventValue)],
    step_of: impl Fn(usize) -> Option<u32>,
    counted: &[u64],
    values: usize,
) -> (Vec<PathNode>, Vec<u16>) {
    let mut nodes = vec![PathNode::Chosen];
    let mut node_of = vec![0; things.len()];
    let mut of_steps: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for thing in (0..things.len()).filter(|thing| counted[*thing] > 0) {
        if let Some(step) = step_of(thing) {
            of_steps.entry(step).or_default().push(thing);
        }
    }
    for (step, mut of_step) in of_steps {
        // Those with equally many stay in the order of their values.
        of_step.sort_by_key(|thing| std::cmp::Reverse(counted[*thing]));
        let others = of_step.split_off(values.min(of_step.len()));
        for thing in of_step {
            node_of[thing] = nodes.len() as u16;
            nodes.push(PathNode::Step(step as usize, things[thing].1.clone()));
        }
        if !others.is_empty() {
            others.iter().for_each(|thing| node_of[*thing] = nodes.len() as u16);
            nodes.push(PathNode::Others(step as usize, others.len() as u64));
        }
    }
    (nodes, node_of)
}
