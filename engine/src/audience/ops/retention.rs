//! Who came back: users by the period of their first event, and how many of them have an event in each period from then on.
//!
//! Where the activity index covers the events, a period is a question to it, and nothing is read; else the events are read once. From
//! then on it is algebra on a set of users for each period.

use super::funnel::{Gathered, gathered};
use super::members::slots;
use super::{QueryContext, QueryError};
use crate::audience::predicate::{Did, Predicate};
use crate::audience::scan::{EventsMeant, ScanStats};
use crate::behavior::Window;
use crate::behavior::calendar::Date;
use crate::behavior::slice::{Grain, Slice, hour_of};
use crate::bitmap::bsi::NumberRange;
use crate::store::Snapshot;
use rayon::prelude::*;
use roaring::RoaringBitmap;

/// The most periods of an answer.
pub const PERIODS_MAX: usize = 400;

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A calendar day.
    Day,
    /// Seven days from a Monday on.
    Week,
    /// A calendar month.
    Month,
}

/// Slots per shard.
type Users = Vec<RoaringBitmap>;

/// Who came back.
#[derive(Clone, Debug)]
pub struct Retention {
    /// The periods, oldest first: the first day of each since 1970.
    pub first_days: Vec<i32>,
    /// Users whose first event, of all that are kept, is in a period.
    pub cohorts: Vec<Users>,
    /// Users with an event that counts as coming back, in each period.
    pub active: Vec<Users>,
    /// How events were read; `None` if the activity index told it all.
    pub stats: Option<ScanStats>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct RetentionQuestion<'q> {
    /// The event that a user begins with.
    pub first: &'q EventsMeant,
    /// What counts as coming back.
    pub back: &'q EventsMeant,
    /// How long a period is.
    pub period: Period,
    /// How many, up to the one with `last_day`; from 1 to [`PERIODS_MAX`].
    pub periods: usize,
    /// A day of the last period, counted from 1970.
    pub last_day: i32,
    /// Of whom.
    pub whom: &'q Predicate,
}

impl Period {
    /// First days of so many periods up to the one with a day, and of the one behind it.
    fn first_days(self, count: usize, last_day: i32) -> Vec<i32> {
        let first = |back: i32| match self {
            Period::Day => last_day.saturating_sub(back),
            // 1970 began on a Thursday.
            Period::Week => {
                let monday = (last_day.saturating_add(3)).div_euclid(7).saturating_sub(back);
                monday.saturating_mul(7).saturating_sub(3)
            }
            Period::Month => {
                let month = Slice { grain: Grain::Day, number: last_day }.month().saturating_sub(back);
                let date = Date {
                    year: 1970 + i64::from(month.div_euclid(12)),
                    month: i64::from(month.rem_euclid(12)) + 1,
                    day: 1,
                };
                date.days_since_1970() as i32
            }
        };
        (-1..count as i32).rev().map(first).collect()
    }
}

impl Retention {
    /// How many users a cohort has.
    pub fn size(&self, cohort: usize) -> u64 {
        self.cohorts[cohort].iter().map(RoaringBitmap::len).sum()
    }

    /// How many of a cohort have an event of coming back in a period.
    pub fn came_back(&self, cohort: usize, period: usize) -> u64 {
        let shards = self.cohorts[cohort].iter().zip(&self.active[period]);
        shards.map(|(cohort, active)| cohort.intersection_len(active)).sum()
    }

    /// Who of a cohort has an event of coming back in a period, or who has none.
    pub fn members(&self, cohort: usize, period: usize, came_back: bool) -> Vec<RoaringBitmap> {
        let shards = self.cohorts[cohort].iter().zip(&self.active[period]);
        shards.map(|(cohort, active)| if came_back { cohort & active } else { cohort - active }).collect()
    }

    /// All figures: for each cohort, how many came back in its own period and in each later one.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`].
    pub fn grid(&self, context: &QueryContext) -> Result<Vec<Vec<u64>>, QueryError> {
        let row = |cohort: usize| {
            (cohort..self.active.len())
                .map(|period| {
                    context.check()?;
                    Ok(self.came_back(cohort, period))
                })
                .collect::<Result<Vec<u64>, QueryError>>()
        };
        (0..self.cohorts.len()).into_par_iter().map(row).collect()
    }
}

/// Who came back. Holds two sets of users a period.
///
/// # Errors
/// [`QueryError`], also if there are no periods or too many.
pub fn retention(
    snapshot: &Snapshot,
    asked: &RetentionQuestion<'_>,
    context: &QueryContext,
) -> Result<Retention, QueryError> {
    if asked.periods == 0 || asked.periods > PERIODS_MAX {
        return Err(QueryError::Invalid(format!("from 1 to {PERIODS_MAX} periods can be asked for")));
    }
    let mut first_days = asked.period.first_days(asked.periods, asked.last_day);
    // Before the first period, and then each.
    let hour = |day: &i32| day.saturating_mul(24);
    let mut windows = vec![Window { from: i32::MIN, to: hour(&first_days[0]) }];
    windows.extend(first_days.windows(2).map(|pair| Window { from: hour(&pair[0]), to: hour(&pair[1]) }));
    first_days.pop();
    let mut stats = None;
    let mut each = |meant: &EventsMeant, windows: &[Window]| match &meant.counted {
        Some(_) => by_index(snapshot, meant, windows, asked.whom, context),
        None => {
            let (users, read) = by_events(snapshot, meant, windows, asked.whom, context)?;
            stats.get_or_insert_with(ScanStats::default).add(&read);
            Ok(users)
        }
    };
    let mut cohorts = each(asked.first, &windows)?;
    let active = if asked.first == asked.back { cohorts[1..].to_vec() } else { each(asked.back, &windows[1..])? };
    let mut seen = cohorts.remove(0);
    for cohort in &mut cohorts {
        context.check()?;
        for (cohort, seen) in cohort.iter_mut().zip(&mut seen) {
            *cohort -= &*seen;
            *seen |= &*cohort;
        }
    }
    Ok(Retention { first_days, cohorts, active, stats })
}

/// Who has an event in each window, by the activity index.
pub(super) fn by_index(
    snapshot: &Snapshot,
    meant: &EventsMeant,
    windows: &[Window],
    whom: &Predicate,
    context: &QueryContext,
) -> Result<Vec<Users>, QueryError> {
    let whom = super::resolve(snapshot, whom, context)?;
    let Some((of, kept)) = &meant.counted else { return Ok(Vec::new()) };
    let users = |window: &Window| {
        let window = window.and(*kept);
        if window.is_empty() {
            return Ok(vec![RoaringBitmap::new(); snapshot.shards().len()]);
        }
        let did = Did { fact: meant.fact, of: of.clone(), window, figure: 0, range: NumberRange::default() };
        slots(snapshot, &Predicate::And(vec![whom.clone().into_owned(), Predicate::Did(did)]).canonical(), context)
    };
    windows.iter().map(users).collect()
}

/// The same of events that are read.
fn by_events(
    snapshot: &Snapshot,
    meant: &EventsMeant,
    windows: &[Window],
    whom: &Predicate,
    context: &QueryContext,
) -> Result<(Vec<Users>, ScanStats), QueryError> {
    let mut users = vec![vec![RoaringBitmap::new(); snapshot.shards().len()]; windows.len()];
    let Some(fact) = snapshot.catalog().fact_of(meant.fact) else { return Ok((users, ScanStats::default())) };
    let Gathered { shards, stats, held: _held } = gathered(snapshot, std::slice::from_ref(meant), whom, None, context)?;
    for (shard, events) in shards.into_iter().enumerate() {
        context.check()?;
        for event in events {
            let hour = hour_of(fact.zone.local(event.time));
            // Windows follow one another.
            let window = windows.partition_point(|window| window.to <= hour);
            if windows.get(window).is_some_and(|window| window.from <= hour) {
                users[window][shard].insert(event.group);
            }
        }
    }
    Ok((users, stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_where_calendars_say() {
        let day = |year, month, day| Date { year, month, day }.days_since_1970() as i32;
        let last = day(2026, 11, 22);
        assert_eq!(Period::Day.first_days(2, last), [last - 1, last, last + 1]);
        // A Sunday; weeks begin on the Monday before.
        assert_eq!(Period::Week.first_days(2, last), [day(2026, 11, 9), day(2026, 11, 16), day(2026, 11, 23)]);
        let months = [day(2025, 12, 1), day(2026, 1, 1), day(2026, 2, 1)];
        assert_eq!(Period::Month.first_days(2, day(2026, 1, 31)), months);
        assert_eq!(Period::Week.first_days(1, -1), [-3, 4]);
    }
}
