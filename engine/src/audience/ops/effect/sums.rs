//! The events of a stage, added up user by user.

use super::grain::Periods;
use super::{EFFECT_CELLS_MAX, EFFECT_GROUPS_MAX, EFFECT_SETS_MAX, Effect, Figures, GroupEffect, Stage};
use crate::audience::ops::kinds::worth;
use crate::audience::ops::{QueryContext, QueryError};
use crate::audience::scan::EventValue;
use crate::catalog::ColumnType;
use crate::journey::{Event, sort_by};
use roaring::{RoaringBitmap, RoaringTreemap};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// Events between two looks at whether anybody waits.
const LOOK_EACH: usize = 1 << 16;

/// How events are added up.
pub(super) struct Summing<'q> {
    pub(super) is_grouped: bool,
    pub(super) periods: Option<Periods<'q>>,
    /// How many numbers of events users are told apart by; 0: they are not.
    pub(super) frequencies: usize,
    /// The type of the measure, if there is one.
    pub(super) measured: Option<ColumnType>,
    pub(super) context: &'q QueryContext,
}

/// What the events of a shard come to, in a group.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) figures: Figures,
    /// Slots, rising.
    users: Vec<u32>,
    periods: BTreeMap<i32, Figures>,
    frequency: Vec<u64>,
    pub(super) exclusive: u64,
}

/// What the events of a shard come to, by the place of a value.
#[derive(Default)]
pub(super) struct ShardSums {
    pub(super) all: Sum,
    groups: HashMap<u32, Sum>,
    /// Periods of all groups.
    cells: usize,
}

/// Adds up the events of a shard, each with its measure if there is one.
pub(super) fn of_shard(
    mut events: Vec<Event>,
    measures: Vec<i64>,
    summing: &Summing<'_>,
) -> Result<ShardSums, QueryError> {
    let mut sums = ShardSums::default();
    // From here on the time of an event is the first hour of its period.
    for (at, event) in events.iter_mut().enumerate() {
        if at.is_multiple_of(LOOK_EACH) {
            summing.context.check()?;
        }
        event.time = summing.periods.map_or(0, |periods| periods.first_hour(event.time)).into();
        if let Some(measure) = measures.get(at) {
            sums.add_measure(event, worth(&EventValue::Number(*measure), summing.measured)?, summing)?;
        }
    }
    drop(measures);
    let by_user = |a: &Event, b: &Event| (a.group, a.fulfils, a.time).cmp(&(b.group, b.fulfils, b.time));
    sort_by(&mut events, by_user, &|| summing.context.check())?;
    let (mut times, mut since) = (Vec::new(), 0);
    for of_user in events.chunk_by(|a, b| a.group == b.group) {
        since += of_user.len();
        if since >= LOOK_EACH {
            since = 0;
            summing.context.check()?;
        }
        sums.add_user(of_user, &mut times, summing)?;
    }
    Ok(sums)
}

impl ShardSums {
    /// What a group comes to, or all, and how many periods all groups have.
    pub(super) fn of(&mut self, group: Option<u32>) -> (&mut Sum, &mut usize) {
        let sum = match group {
            None => &mut self.all,
            Some(group) => self.groups.entry(group).or_default(),
        };
        (sum, &mut self.cells)
    }

    fn add_measure(&mut self, event: &Event, worth: i64, summing: &Summing<'_>) -> Result<(), QueryError> {
        let worth = i128::from(worth);
        let ShardSums { all, groups, cells } = self;
        let group = summing.is_grouped.then(|| groups.entry(event.fulfils).or_default());
        for sum in [Some(all), group].into_iter().flatten() {
            sum.figures.measure += worth;
            if summing.periods.is_some() {
                sum.period(event.time, cells)?.measure += worth;
            }
        }
        check_groups(groups.len())
    }

    /// Adds the events of a user, which stand in the order of values and times.
    fn add_user(&mut self, of_user: &[Event], times: &mut Vec<i64>, summing: &Summing<'_>) -> Result<(), QueryError> {
        let ShardSums { all, groups, cells } = self;
        let (slot, is_alone) = (of_user[0].group, of_user[0].fulfils == of_user[of_user.len() - 1].fulfils);
        let mut add = |sum: &mut Sum, events: &[Event]| {
            times.clear();
            times.extend(events.iter().map(|event| event.time));
            times.sort_unstable();
            sum.exclusive += u64::from(is_alone);
            sum.add_user(slot, times, summing, cells)
        };
        add(all, of_user)?;
        if summing.is_grouped {
            for of_group in of_user.chunk_by(|a, b| a.fulfils == b.fulfils) {
                add(groups.entry(of_group[0].fulfils).or_default(), of_group)?;
            }
        }
        check_groups(groups.len())
    }
}

impl Sum {
    /// Adds a user who has events at these times, which rise.
    fn add_user(
        &mut self,
        slot: u32,
        times: &[i64],
        summing: &Summing<'_>,
        cells: &mut usize,
    ) -> Result<(), QueryError> {
        self.add_count(slot, times.len() as u64, summing);
        if summing.periods.is_some() {
            for same in times.chunk_by(|a, b| a == b) {
                let figures = self.period(same[0], cells)?;
                figures.users += 1;
                figures.events += same.len() as u64;
            }
        }
        Ok(())
    }

    /// Adds a user who has so many events, at least one, in the whole time.
    pub(super) fn add_count(&mut self, slot: u32, count: u64, summing: &Summing<'_>) {
        self.users.push(slot);
        self.figures.users += 1;
        self.figures.events += count;
        if summing.frequencies > 0 {
            // No longer than it has to be: there may be many groups.
            let number = count.min(summing.frequencies as u64) as usize;
            self.frequency.resize(number.max(self.frequency.len()), 0);
            self.frequency[number - 1] += 1;
        }
    }

    /// What it comes to in a period.
    pub(super) fn period(&mut self, first_hour: i64, cells: &mut usize) -> Result<&mut Figures, QueryError> {
        // It was made from an `i32`.
        Ok(match self.periods.entry(first_hour as i32) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                *cells += 1;
                check_cells(*cells)?;
                new.insert(Figures::default())
            }
        })
    }
}

impl Effect {
    /// Adds what the events of a stage and shard come to; `values` are those of groups by their places.
    pub(super) fn add(
        &mut self,
        stage: Stage,
        shard: u32,
        sums: ShardSums,
        values: &[(u32, EventValue)],
        cells: &mut usize,
    ) -> Result<(), QueryError> {
        self.all.add(stage, shard, sums.all, cells)?;
        self.sets += sums.groups.len();
        check_sets(self.sets)?;
        for (place, sum) in sums.groups {
            let value = values[place as usize].1.clone();
            self.groups.entry(value).or_default().add(stage, shard, sum, cells)?;
        }
        check_groups(self.groups.len())
    }
}

impl GroupEffect {
    fn add(&mut self, stage: Stage, shard: u32, sum: Sum, cells: &mut usize) -> Result<(), QueryError> {
        let at = stage as usize;
        self.stages[at].add(&sum.figures);
        let users = RoaringBitmap::from_sorted_iter(sum.users).unwrap_or_default();
        self.users[at] |= RoaringTreemap::from_bitmaps([(shard, users)]);
        let before = self.periods.len();
        for (first_hour, figures) in sum.periods {
            self.periods.entry(first_hour).or_default()[at].add(&figures);
        }
        *cells += self.periods.len() - before;
        check_cells(*cells)?;
        if stage == Stage::Impressions {
            self.frequency.resize(sum.frequency.len().max(self.frequency.len()), 0);
            self.frequency.iter_mut().zip(sum.frequency).for_each(|(all, own)| *all += own);
            self.exclusive += sum.exclusive;
        }
        Ok(())
    }
}

impl Figures {
    pub(super) fn add(&mut self, other: &Figures) {
        self.events += other.events;
        self.users += other.users;
        self.measure += other.measure;
    }
}

pub(super) fn check_groups(groups: usize) -> Result<(), QueryError> {
    if groups <= EFFECT_GROUPS_MAX {
        return Ok(());
    }
    let why = format!(
        "the column has more than {EFFECT_GROUPS_MAX} values, and there may be as many groups; name a column with fewer values, or fewer events"
    );
    Err(QueryError::Invalid(why))
}

fn check_sets(sets: usize) -> Result<(), QueryError> {
    if sets <= EFFECT_SETS_MAX {
        return Ok(());
    }
    let why = format!(
        "users of groups are more than {EFFECT_SETS_MAX} sets, one a group, shard and kind of events; name a column with fewer values, or fewer events"
    );
    Err(QueryError::Invalid(why))
}

fn check_cells(cells: usize) -> Result<(), QueryError> {
    if cells <= EFFECT_CELLS_MAX {
        return Ok(());
    }
    let why = format!(
        "all groups together have more than {EFFECT_CELLS_MAX} periods with events; ask for longer periods, a shorter time, or a column with fewer values"
    );
    Err(QueryError::Invalid(why))
}
