//! What an experiment came to: groups of users, what they did, and how far each group is from the control.
//!
//! Groups are audiences; whoever is in several of them is in none, since nobody can say what made them act. Events of a metric are read
//! once for all groups; figures of users are exact, and only what statistics makes of them is in floating point.

mod statistics;

pub use statistics::{Comparison, Interval, Summary};

use super::attribution::{value_digits, worth};
use super::kinds::{GatheredKinds, KindMeant, gathered_kinds};
use super::members::slots;
use super::profile::difference::{Part, q_values};
use super::resolve::resolve_all;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::ScanStats;
use crate::store::Snapshot;
use roaring::RoaringBitmap;

/// The most groups of an experiment.
pub const GROUPS_MAX: usize = 20;
/// The most metrics of an experiment.
pub const METRICS_MAX: usize = 20;

/// A group of an experiment.
#[derive(Clone, Debug)]
pub struct ExperimentGroup {
    /// Who was put into it.
    pub users: Predicate,
    /// How many were planned, in relation to the other groups; more than 0.
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

/// Reads an experiment out. Holds the events of a metric, 16 bytes each.
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
        let figures = figures(snapshot, kind, &whom, &groups, &mut read, context)?;
        for at in same {
            let measured = asked.metrics[at].measured;
            read.metrics[at] = figures.read(measured, &read.users, asked);
        }
        rest = others;
    }
    let compared = |read: &Experiment| -> Vec<(usize, usize, f64)> {
        let metrics = read.metrics.iter().enumerate();
        let all =
            metrics.flat_map(|(metric, of)| of.groups.iter().enumerate().map(move |(group, of)| (metric, group, of)));
        all.filter_map(|(metric, group, of)| Some((metric, group, of.comparison?.p_value?))).collect()
    };
    let compared = compared(&read);
    let p_values: Vec<f64> = compared.iter().map(|(.., p_value)| *p_value).collect();
    for ((metric, group, _), q_value) in compared.iter().zip(q_values(&p_values)) {
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
    if asked.groups.iter().any(|group| !(group.weight > 0.0 && group.weight.is_finite())) {
        return invalid("what was planned for a group is a number above 0".to_owned());
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

/// What users of a group did, who did anything.
#[derive(Clone, Debug, Default)]
struct Did {
    events: Vec<u64>,
    sums: Vec<i128>,
}

/// Figures of users, by group.
struct Figures {
    groups: Vec<Did>,
    digits: u8,
}

/// Reads the events of a metric.
fn figures(
    snapshot: &Snapshot,
    kind: &KindMeant,
    whom: &Predicate,
    groups: &[Vec<RoaringBitmap>],
    read: &mut Experiment,
    context: &QueryContext,
) -> Result<Figures, QueryError> {
    let GatheredKinds { shards, things, stats, held: _held } =
        gathered_kinds(snapshot, &[(0, kind)], whom, &kind.events, context)?;
    read.stats.add(&stats);
    let fact = snapshot.catalog().fact_of(kind.events.fact);
    let column = fact.zip(kind.column).and_then(|(fact, at)| fact.columns.get(usize::from(at)));
    let column_type = column.map(|column| column.column_type);
    let worth: Vec<i64> = match column_type {
        None => vec![0; things.len()],
        _ => things.iter().map(|(_, value)| worth(value, column_type)).collect::<Result<_, QueryError>>()?,
    };
    let mut figures = Figures { groups: vec![Did::default(); groups.len()], digits: value_digits(column_type) };
    for (shard, events) in shards.iter().enumerate() {
        context.check()?;
        read.events += events.len() as u64;
        for of_user in events.chunk_by(|a, b| a.group == b.group) {
            let slot = of_user[0].group;
            let Some(group) = groups.iter().position(|group| group[shard].contains(slot)) else { continue };
            let did = &mut figures.groups[group];
            did.events.push(of_user.len() as u64);
            did.sums.push(of_user.iter().map(|event| i128::from(worth[event.fulfils as usize])).sum());
        }
    }
    Ok(figures)
}

impl Figures {
    fn read(&self, measured: Measured, users: &[u64], asked: &ExperimentQuestion<'_>) -> MetricRead {
        let digits = if measured == Measured::Sum { self.digits } else { 0 };
        let unit = 10_f64.powi(digits.into());
        let mut groups: Vec<GroupRead> =
            self.groups.iter().zip(users).map(|(did, users)| did.read(measured, *users, unit)).collect();
        let control = groups[asked.control];
        for (at, group) in groups.iter_mut().enumerate().filter(|(at, _)| *at != asked.control) {
            let part = |group: &GroupRead, at: usize| Part { count: group.with_any, of: users[at] };
            group.comparison = Some(match measured {
                Measured::Any => statistics::shares(part(group, at), part(&control, asked.control), asked.confidence),
                _ => statistics::means(&group.summary, &control.summary, asked.confidence),
            });
        }
        MetricRead { groups, digits }
    }
}

impl Did {
    /// `unit`: as what 1 stands in sums.
    fn read(&self, measured: Measured, users: u64, unit: f64) -> GroupRead {
        let with_any = self.events.len() as u64;
        let (total, numbers): (i128, Vec<f64>) = match measured {
            Measured::Any => (with_any.into(), vec![1.0; self.events.len()]),
            Measured::Events => (
                self.events.iter().map(|events| i128::from(*events)).sum(),
                self.events.iter().map(|events| *events as f64).collect(),
            ),
            Measured::Sum => (self.sums.iter().sum(), self.sums.iter().map(|sum| *sum as f64 / unit).collect()),
        };
        let summary = Summary::of(&numbers, total as f64 / unit, users - with_any);
        GroupRead { with_any, total, summary, ..GroupRead::default() }
    }
}
