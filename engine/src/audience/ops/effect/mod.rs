//! What campaigns came to: impressions, clicks and conversions, what they cost and are worth, whom they reached and how often.
//!
//! Where the activity index covers a stage nothing is read ([`index`]). Else its events are read once, of users who may have any, and
//! added up user by user ([`sums`]); then the next stage is read, so that those of one stage at a time are held. Who had any stays as sets of users, by which [`reach`] tells what one more channel adds.

mod grain;
mod index;
mod reach;
mod sums;

pub use grain::{Periods, TimeGrain};
pub use reach::{ReachStep, incremental_reach};

use super::funnel::{asked_about, scanner};
use super::kinds::value_digits;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventValue, EventsMeant, Kind, KindScan, ScanStats, ToldKinds};
use crate::catalog::{Column, ColumnType};
use crate::journey::Event;
use crate::store::Snapshot;
use index::Covered;
use rayon::prelude::*;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use sums::{Summing, of_shard};

/// The most groups.
pub const EFFECT_GROUPS_MAX: usize = 100_000;
/// The most periods of all groups together.
pub const EFFECT_CELLS_MAX: usize = 1_000_000;
/// The most sets of users, one a group, shard and stage: each takes some 150 bytes at least.
const EFFECT_SETS_MAX: usize = 4_000_000;
/// The most numbers of impressions that users are told apart by.
pub const EFFECT_FREQUENCY_MAX: usize = 1_000;

/// What happens in a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Something is shown.
    Impressions,
    /// Somebody takes it up.
    Clicks,
    /// Somebody does what it was for.
    Conversions,
}

/// How many stages there are.
pub const STAGES: usize = 3;

/// The events of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageMeant {
    /// Which.
    pub events: EventsMeant,
    /// The column whose values are groups, by its place in the fact; without one they are in no group.
    pub by: Option<u16>,
    /// A column that is added up: what they cost, or are worth.
    pub measure: Option<u16>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct EffectQuestion<'q> {
    /// By [`Stage`]; an event counts in every stage that means it.
    pub stages: [Option<&'q StageMeant>; STAGES],
    /// How time is divided, if it is.
    pub periods: Option<Periods<'q>>,
    /// How many numbers of impressions users are told apart by, from 1 to [`EFFECT_FREQUENCY_MAX`].
    pub frequencies: usize,
    /// Of whom.
    pub whom: &'q Predicate,
}

/// What events come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many there are.
    pub events: u64,
    /// How many users have any.
    pub users: u64,
    /// The sum of their measure, without the point.
    pub measure: i128,
}

/// What a group came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupEffect {
    /// By stage, in the whole time.
    pub stages: [Figures; STAGES],
    /// Who has any events, by stage: the shard in the upper half of a number, the slot in the lower one.
    pub users: [RoaringTreemap; STAGES],
    /// By the first hour of a period, by the clocks of the zone that was asked for; those without an event are left out.
    pub periods: BTreeMap<i32, [Figures; STAGES]>,
    /// How many users had one impression, two, and so on; the last of [`EffectQuestion::frequencies`] so many or more. Ends with the last that
    /// anybody had.
    pub frequency: Vec<u64>,
    /// Users whom no other group reached; of all groups together, users whom a single one reached.
    pub exclusive: u64,
}

/// What campaigns came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effect {
    /// All events, those of no group included.
    pub all: GroupEffect,
    /// By value; nothing unless impressions are told apart.
    pub groups: BTreeMap<EventValue, GroupEffect>,
    /// Digits of measures that stand behind the point, by stage.
    pub digits: [u8; STAGES],
    /// Events that were looked at; none of a stage that the activity index tells.
    pub events: u64,
    /// How they were read.
    pub stats: ScanStats,
    /// Sets of users of all groups.
    sets: usize,
}

impl GroupEffect {
    /// How many users it reached.
    pub fn reach(&self) -> u64 {
        self.stages[Stage::Impressions as usize].users
    }

    /// What some groups come to together, by stage; who is in several counts once.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`].
    pub fn together<'g>(
        groups: impl IntoIterator<Item = &'g GroupEffect>,
        context: &QueryContext,
    ) -> Result<[Figures; STAGES], QueryError> {
        let mut figures = [Figures::default(); STAGES];
        let mut users: [RoaringTreemap; STAGES] = Default::default();
        for group in groups {
            context.check()?;
            for (stage, of_group) in group.stages.iter().enumerate() {
                figures[stage].events += of_group.events;
                figures[stage].measure += of_group.measure;
                users[stage] |= &group.users[stage];
            }
        }
        for (figures, users) in figures.iter_mut().zip(&users) {
            figures.users = users.len();
        }
        Ok(figures)
    }
}

/// What campaigns came to. Holds the events of one stage at a time, 16 bytes each, 24 with a measure; and each group's users.
///
/// # Errors
/// [`QueryError`], also if there are too many groups or periods, or if a measure is none or beyond what can be added up.
pub fn effect(snapshot: &Snapshot, asked: &EffectQuestion<'_>, context: &QueryContext) -> Result<Effect, QueryError> {
    if asked.frequencies == 0 || asked.frequencies > EFFECT_FREQUENCY_MAX {
        let why = format!("users are told apart by from 1 to {EFFECT_FREQUENCY_MAX} numbers of impressions");
        return Err(QueryError::Invalid(why));
    }
    let whom = super::resolve(snapshot, asked.whom, context)?;
    let is_grouped = asked.stages[Stage::Impressions as usize].is_some_and(|impressions| impressions.by.is_some());
    let mut found = Effect::default();
    let mut cells = 0;
    for stage in [Stage::Impressions, Stage::Clicks, Stage::Conversions] {
        let Some(meant) = asked.stages[stage as usize] else { continue };
        let measured = measured(snapshot, meant)?;
        found.digits[stage as usize] = value_digits(measured);
        let summing = Summing {
            is_grouped: is_grouped && meant.by.is_some(),
            periods: asked.periods,
            frequencies: if stage == Stage::Impressions { asked.frequencies } else { 0 },
            measured,
            context,
        };
        let fact = snapshot.catalog().fact_of(meant.events.fact);
        if let Some(covered) = fact.and_then(|fact| Covered::of(fact, meant, &summing)) {
            by_index(snapshot, (stage, &covered), &whom, meant, &summing, (&mut found, &mut cells))?;
            continue;
        }
        let ToldKinds { shards, values, measures, stats, held: _held } = told(snapshot, meant, &whom, context)?;
        found.stats.add(&stats);
        found.events += shards.iter().map(|events| events.len() as u64).sum::<u64>();
        let measures = measures.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let shards: Vec<(Vec<Event>, Option<Vec<i64>>)> = shards.into_iter().zip(measures).collect();
        let all = Mutex::new((&mut found, &mut cells));
        shards.into_par_iter().enumerate().try_for_each(|(shard, (events, measures))| {
            let sums = of_shard(events, measures.unwrap_or_default(), &summing)?;
            // A thread's own are put in here before it goes on, so that they are no more than threads.
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let (found, cells) = &mut *all;
            found.add(stage, shard as u32, sums, &values, cells)
        })?;
    }
    Ok(found)
}

/// Adds a stage that the activity index covers.
fn by_index(
    snapshot: &Snapshot,
    (stage, covered): (Stage, &Covered<'_>),
    whom: &Predicate,
    meant: &StageMeant,
    summing: &Summing<'_>,
    found: (&mut Effect, &mut usize),
) -> Result<(), QueryError> {
    let (within, users) = asked_about(snapshot, whom, Some(&meant.events), summing.context)?;
    if meant.events.is_none() || users == Some(0) {
        return Ok(());
    }
    let all = Mutex::new(found);
    snapshot.shards().par_iter().enumerate().try_for_each(|(shard, own)| {
        let within = within.as_ref().map(|within| &within[shard]);
        let (sums, values) = covered.of_shard(own.layers(), within, stage, summing)?;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, cells) = &mut *all;
        found.add(stage, shard as u32, sums, &values, cells)
    })
}

/// What is added up of a stage's events.
fn measured(snapshot: &Snapshot, meant: &StageMeant) -> Result<Option<ColumnType>, QueryError> {
    let Some(at) = meant.measure else { return Ok(None) };
    let fact = snapshot.catalog().fact_of(meant.events.fact);
    let column = fact.and_then(|fact| fact.columns.get(usize::from(at)));
    match column {
        Some(Column { column_type, .. }) if column_type.can_be_measure() || *column_type == ColumnType::Float => {
            Ok(Some(*column_type))
        }
        _ => Err(QueryError::Invalid("a measure is a column of numbers; ask again".to_owned())),
    }
}

/// The events of a stage of `whom`.
fn told(
    snapshot: &Snapshot,
    meant: &StageMeant,
    whom: &Predicate,
    context: &QueryContext,
) -> Result<ToldKinds, QueryError> {
    context.check()?;
    let StageMeant { events: EventsMeant { fact, window, condition, .. }, by, measure } = meant;
    let (within, users) = asked_about(snapshot, whom, Some(&meant.events), context)?;
    if meant.events.is_none() || users == Some(0) {
        let stats = ScanStats { users_within: users, ..ScanStats::default() };
        return Ok(ToldKinds { stats, ..ToldKinds::default() });
    }
    let kind = Kind { number: 0, window: *window, condition: condition.clone(), column: *by, measure: *measure };
    let scan = KindScan { fact: *fact, kinds: vec![kind] };
    let scanner = scanner(snapshot, *fact, context)?;
    let mut told = scanner.kinds(snapshot, &scan, within.as_deref(), &context.cancelled)?;
    told.stats.users_within = users;
    Ok(told)
}
