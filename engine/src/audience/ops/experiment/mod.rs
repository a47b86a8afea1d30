//! What an experiment came to: groups of users, what they did, and how far each group is from the control.
//!
//! Groups are audiences; whoever is in several of them is in none, since nobody can say what made them act. Events of a metric are read
//! once for all groups; figures of users are exact, and only what statistics makes of them is in floating point.

mod statistics;

pub use statistics::{Comparison, Interval, Summary};

use super::kinds::{GatheredKinds, KindMeant, gathered_kinds, value_digits, worth};
use super::members::slots;
use super::profile::difference::{Part, q_values};
use super::resolve::resolve_all;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventValue, EventsMeant, ScanStats};
use crate::behavior::Window;
use crate::store::Snapshot;
use roaring::RoaringBitmap;
use std::ops::RangeInclusive;

/// The most groups of an experiment.
pub const GROUPS_MAX: usize = 20;
/// The most metrics of an experiment.
pub const METRICS_MAX: usize = 20;

/// What can be planned for a group.
pub const WEIGHTS: RangeInclusive<f64> = 1e-6..=1e6;

/// Users between two looks at whether anybody waits.
const LOOK_EACH: usize = 4_096;

/// A group of an experiment.
#[derive(Clone, Debug)]
pub struct ExperimentGroup {
    /// Who was put into it.
    pub users: Predicate,
    /// How many were planned, in relation to the other groups; within [`WEIGHTS`].
    pub weight: f64,
}

/// What is measured of each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measured {
    /// Whether there are any events.
    Any,
    /// How many.
    Events,
    /// The sum of their column; events without a value add nothing.
    Sum,
}

/// A figure of each user that groups are compared by.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Which events; with the column that is summed up.
    pub events: KindMeant,
    /// What is measured of them.
    pub measured: Measured,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct ExperimentQuestion<'q> {
    /// From 2 to [`GROUPS_MAX`].
    pub groups: &'q [ExperimentGroup],
    /// Which of them the others are compared with.
    pub control: usize,
    /// At most [`METRICS_MAX`].
    pub metrics: &'q [Metric],
    /// How sure intervals are: between 0 and 1.
    pub confidence: f64,
}

/// What an experiment came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Users of each group who are in no other.
    pub users: Vec<u64>,
    /// Users who are in several groups, and so left out.
    pub in_several: u64,
    /// How likely groups would have sizes as far from what was planned by chance alone; `None` if there is nobody.
    pub sample_ratio: Option<f64>,
    /// In the order of the metrics.
    pub metrics: Vec<MetricRead>,
    /// Events that were looked at.
    pub events: u64,
    /// How they were read.
    pub stats: ScanStats,
}

/// What a metric came to.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRead {
    /// In the order of the groups.
    pub groups: Vec<GroupRead>,
    /// Digits of sums that stand behind the point.
    pub digits: u8,
}

/// What a metric came to in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupRead {
    /// Users with any of the events.
    pub with_any: u64,
    /// What all users have together: users with any, events, or the sum.
    pub total: i128,
    /// A user's figure: 1 or 0, number of events, or sum.
    pub summary: Summary,
    /// Against the control; nothing for the control itself.
    pub comparison: Option<Comparison>,
    /// The p-value, corrected for all groups and metrics that were looked at (Benjamini and Hochberg).
    pub q_value: Option<f64>,
}

/// Reads an experiment out. Holds the events of one metric at a time, 16 bytes each, unless the activity index tells who has any.
///
/// # Errors
/// [`QueryError`], also if there are too few groups, too many of anything, or values that cannot be added up.
pub fn experiment(
    snapshot: &Snapshot,
    asked: &ExperimentQuestion<'_>,
    context: &QueryContext,
) -> Result<Experiment, QueryError> {
    check(asked)?;
    let mut predicates: Vec<Predicate> = asked.groups.iter().map(|group| group.users.clone()).collect();
    resolve_all(snapshot, &mut predicates, context)?;
    let (groups, in_several) = apart(snapshot, &predicates, context)?;
    let users: Vec<u64> = groups.iter().map(|group| group.iter().map(RoaringBitmap::len).sum()).collect();
    let weights: Vec<f64> = asked.groups.iter().map(|group| group.weight).collect();
    let whom = Predicate::Or(predicates);
    let mut read = Experiment {
        sample_ratio: statistics::sample_ratio(&users, &weights),
        users,
        in_several,
        metrics: vec![MetricRead { groups: Vec::new(), digits: 0 }; asked.metrics.len()],
        events: 0,
        stats: ScanStats::default(),
    };
    // Metrics of the same events and column are read together.
    let mut rest: Vec<usize> = (0..asked.metrics.len()).collect();
    while let Some(first) = rest.first().copied() {
        let kind = &asked.metrics[first].events;
        let (same, others) = rest.into_iter().partition::<Vec<usize>, _>(|at| asked.metrics[*at].events == *kind);
        rest = others;
        let is_any = |at: &usize| asked.metrics[*at].measured == Measured::Any;
        if same.iter().all(is_any)
            && let Some(told) = by_index(snapshot, &kind.events, &whom, &groups, asked, context)?
        {
            same.iter().for_each(|at| read.metrics[*at] = told.clone());
            continue;
        }
        let figures = Figures::new(snapshot, kind, &whom, &groups, context)?;
        read.stats.add(&figures.gathered.stats);
        read.events += figures.gathered.shards.iter().map(|events| events.len() as u64).sum::<u64>();
        for at in same {
            read.metrics[at] = figures.read(asked.metrics[at].measured, &read.users, asked)?;
        }
    }
    let told = |read: &Experiment| -> Vec<(usize, usize, f64)> {
        let metrics = read.metrics.iter().enumerate();
        let all =
            metrics.flat_map(|(metric, of)| of.groups.iter().enumerate().map(move |(group, of)| (metric, group, of)));
        all.filter_map(|(metric, group, of)| Some((metric, group, of.comparison?.p_value?))).collect()
    };
    let told = told(&read);
    let p_values: Vec<f64> = told.iter().map(|(.., p_value)| *p_value).collect();
    for ((metric, group, _), q_value) in told.iter().zip(q_values(&p_values)) {
        read.metrics[*metric].groups[*group].q_value = Some(q_value);
    }
    Ok(read)
}

fn check(asked: &ExperimentQuestion<'_>) -> Result<(), QueryError> {
    let invalid = |why: String| Err(QueryError::Invalid(why));
    if asked.groups.len() < 2 || asked.groups.len() > GROUPS_MAX {
        return invalid(format!("an experiment has from 2 to {GROUPS_MAX} groups, not {}", asked.groups.len()));
    }
    if asked.metrics.is_empty() || asked.metrics.len() > METRICS_MAX {
        return invalid(format!("an experiment has from 1 to {METRICS_MAX} metrics, not {}", asked.metrics.len()));
    }
    if asked.control >= asked.groups.len() {
        return invalid("the control is one of the groups".to_owned());
    }
    if asked.groups.iter().any(|group| !WEIGHTS.contains(&group.weight)) {
        return invalid("what was planned for a group is a number from 0.000001 to 1000000".to_owned());
    }
    if !(asked.confidence > 0.0 && asked.confidence < 1.0) {
        return invalid(format!("a confidence is between 0 and 1, as 0.95, and not {}", asked.confidence));
    }
    Ok(())
}

/// Who is in one group only: per group and shard. And how many are in several.
fn apart(
    snapshot: &Snapshot,
    predicates: &[Predicate],
    context: &QueryContext,
) -> Result<(Vec<Vec<RoaringBitmap>>, u64), QueryError> {
    let groups = predicates.iter().map(|users| slots(snapshot, users, context));
    let mut groups: Vec<Vec<RoaringBitmap>> = groups.collect::<Result<_, QueryError>>()?;
    let mut in_several = 0;
    for shard in 0..snapshot.shards().len() {
        let (mut any, mut several) = (RoaringBitmap::new(), RoaringBitmap::new());
        for group in &groups {
            several |= &any & &group[shard];
            any |= &group[shard];
        }
        groups.iter_mut().for_each(|group| group[shard] -= &several);
        in_several += several.len();
    }
    Ok((groups, in_several))
}

/// What users of a group have of a metric, before it is known how they are spread.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    with_any: u64,
    total: i128,
}

/// Events of metrics, by whose users groups are compared.
struct Figures<'f> {
    gathered: GatheredKinds,
    /// What an event of each thing is worth.
    worth: Vec<i64>,
    digits: u8,
    groups: &'f [Vec<RoaringBitmap>],
    context: &'f QueryContext,
}

impl<'f> Figures<'f> {
    /// Reads the events of `whom`.
    fn new(
        snapshot: &Snapshot,
        kind: &KindMeant,
        whom: &Predicate,
        groups: &'f [Vec<RoaringBitmap>],
        context: &'f QueryContext,
    ) -> Result<Self, QueryError> {
        let gathered = gathered_kinds(snapshot, &[(0, kind)], whom, &kind.events, context)?;
        let fact = snapshot.catalog().fact_of(kind.events.fact);
        let column = fact.zip(kind.column).and_then(|(fact, at)| fact.columns.get(usize::from(at)));
        let column_type = column.map(|column| column.column_type);
        let of = |(_, value): &(u32, EventValue)| match column_type {
            None => Ok(0),
            _ => worth(value, column_type),
        };
        let worth = gathered.things.iter().map(of).collect::<Result<_, QueryError>>()?;
        Ok(Figures { gathered, worth, digits: value_digits(column_type), groups, context })
    }

    /// Calls `take` with the group and the figure of each user of a group who has events.
    fn each(&self, measured: Measured, mut take: impl FnMut(usize, i128)) -> Result<(), QueryError> {
        for (shard, events) in self.gathered.shards.iter().enumerate() {
            for (at, of_user) in events.chunk_by(|a, b| a.group == b.group).enumerate() {
                if at.is_multiple_of(LOOK_EACH) {
                    self.context.check()?;
                }
                let slot = of_user[0].group;
                let Some(group) = self.groups.iter().position(|group| group[shard].contains(slot)) else { continue };
                let figure = match measured {
                    Measured::Any => 1,
                    Measured::Events => of_user.len() as i128,
                    Measured::Sum => of_user.iter().map(|event| i128::from(self.worth[event.fulfils as usize])).sum(),
                };
                take(group, figure);
            }
        }
        Ok(())
    }

    fn read(
        &self,
        measured: Measured,
        users: &[u64],
        asked: &ExperimentQuestion<'_>,
    ) -> Result<MetricRead, QueryError> {
        let digits = if measured == Measured::Sum { self.digits } else { 0 };
        let unit = 10_f64.powi(digits.into());
        let mut totals = vec![Totals::default(); users.len()];
        self.each(measured, |group, figure| {
            totals[group].with_any += 1;
            totals[group].total += figure;
        })?;
        let mut groups: Vec<GroupRead> =
            totals.iter().zip(users).map(|(totals, users)| totals.read(*users, unit)).collect();
        self.each(measured, |group, figure| groups[group].summary.add(figure as f64 / unit, 1))?;
        Ok(compared(groups, measured, digits, asked))
    }
}

impl Totals {
    /// With the squares of those who have no events.
    fn read(&self, users: u64, unit: f64) -> GroupRead {
        let Totals { with_any, total } = *self;
        let mut summary = Summary::of(users, total, unit);
        summary.add(0.0, users - with_any);
        GroupRead { with_any, total, summary, ..GroupRead::default() }
    }
}

/// Who has any of the events, told by the activity index, so that nothing is read; `None` if it does not cover them.
fn by_index(
    snapshot: &Snapshot,
    events: &EventsMeant,
    whom: &Predicate,
    groups: &[Vec<RoaringBitmap>],
    asked: &ExperimentQuestion<'_>,
    context: &QueryContext,
) -> Result<Option<MetricRead>, QueryError> {
    if events.counted.is_none() {
        return Ok(None);
    }
    let windows = [Window { from: i32::MIN, to: i32::MAX }];
    let Some(any) = super::retention::by_index(snapshot, events, &windows, whom, context)?.pop() else {
        return Ok(None);
    };
    let read = |group: &Vec<RoaringBitmap>| {
        let with_any = group.iter().zip(&any).map(|(group, any)| group.intersection_len(any)).sum::<u64>();
        let mut read =
            Totals { with_any, total: with_any.into() }.read(group.iter().map(RoaringBitmap::len).sum(), 1.0);
        read.summary.add(1.0, with_any);
        read
    };
    Ok(Some(compared(groups.iter().map(read).collect(), Measured::Any, 0, asked)))
}

/// The groups with how far they are from the control.
fn compared(mut groups: Vec<GroupRead>, measured: Measured, digits: u8, asked: &ExperimentQuestion<'_>) -> MetricRead {
    let control = groups[asked.control];
    for (_, group) in groups.iter_mut().enumerate().filter(|(at, _)| *at != asked.control) {
        let part = |group: &GroupRead| Part { count: group.with_any, of: group.summary.users };
        group.comparison = Some(match measured {
            Measured::Any => statistics::shares(part(group), part(&control), asked.confidence),
            _ => statistics::means(&group.summary, &control.summary, asked.confidence),
        });
    }
    MetricRead { groups, digits }
}
