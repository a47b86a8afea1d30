//! `POST /v1/experiment`: how groups of an experiment differ, and how sure that is.

use super::count::elapsed_us;
use super::expression::Where;
use super::number::Number;
use super::steps::{Step, number_column};
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{
    self, Comparison, ExperimentGroup, ExperimentQuestion, GROUPS_MAX, GroupRead, Interval, KindMeant, METRICS_MAX,
    Measured, Metric, MetricRead, QueryContext, WEIGHTS,
};
use engine::clock::Clock;
use engine::store::Snapshot;
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Instant;

/// How sure intervals are, unless it is said.
const CONFIDENCE: f64 = 0.95;
/// Below this p-value groups have other sizes than were planned. It is looked at again and again, so it must not be met by chance.
const MISMATCH: f64 = 0.001;

/// Which groups, compared by what.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "groups": [{"name": "old", "where": "in_audience('shown_old')"}, {"name": "new", "where": "in_audience('shown_new')"}],
    "metrics": [{"fact": "purchase"}, {"fact": "purchase", "measure": "sum", "value": "amount"}], "within": "14 days"
}))]
pub struct ExperimentRequest {
    /// From 2 to 20 groups. Who is in several of them is left out.
    pub groups: Vec<GroupRequest>,
    /// The name of the group that the others are compared with; the first one if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What groups are compared by, at most 20.
    pub metrics: Vec<MetricRequest>,
    /// Only events of the time up to now: `14 days` are today and the 13 days before. All that are kept if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// How sure intervals are; 0.95 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A group of an experiment.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// What it is called.
    pub name: String,
    /// Who was put into it.
    pub r#where: Where,
    /// How many were planned, in relation to the other groups: from 0.000001 to 1000000, and 1 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// What groups are compared by.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"fact": "purchase", "where": "category = 'shoes'", "measure": "sum", "value": "amount"}))]
pub struct MetricRequest {
    /// The fact.
    pub fact: String,
    /// Which of its events: a condition on its columns and its time `ts`, as it stands in `did(…)`; all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// What it is called in the answer; what it means, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is measured of each user.
    #[serde(default)]
    pub measure: Measure,
    /// The column that `sum` adds up: an integer, a decimal or a float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What is measured of each user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Whether there are any of the events.
    #[default]
    Users,
    /// How many there are.
    Events,
    /// The sum of a column over them.
    Sum,
}

/// What an experiment came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExperimentAnswer {
    /// The groups, as they were asked for.
    pub groups: Vec<GroupAnswer>,
    /// Users who are in several groups, and so left out.
    pub in_several: u64,
    /// Whether groups are as large as was planned; left out if there is nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<SampleRatio>,
    /// The metrics, as they were asked for.
    pub metrics: Vec<MetricAnswer>,
    /// How sure intervals are.
    pub confidence: f64,
    /// Events that were looked at.
    pub events: u64,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupAnswer {
    /// What it is called.
    pub name: String,
    /// Users who are in this group only.
    pub users: u64,
    /// Their share of all groups; left out if there is nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The share that was planned.
    pub planned: f64,
}

/// Whether groups are as large as was planned (chi-square test).
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SampleRatio {
    /// How likely sizes would be as far from what was planned by chance alone.
    pub p_value: f64,
    /// The p-value is below 0.001: something else than chance put users into groups, or lost some, and differences between groups may come of
    /// that.
    pub mismatch: bool,
}

/// What a metric came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MetricAnswer {
    /// Its name, or what it means.
    pub metric: String,
    /// What is measured of each user.
    pub measure: Measure,
    /// In the order of the groups.
    pub groups: Vec<ReadAnswer>,
}

/// What a metric came to in a group.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReadAnswer {
    /// The group.
    pub group: String,
    /// Users with any of the events.
    pub users: u64,
    /// Of all users together: users with any, events, or the sum; exact.
    pub total: Number,
    /// The mean of all users of the group, those without an event included. Of `users`, the share of them.
    pub mean: f64,
    /// The standard error of the mean; left out of fewer than two users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// The mean minus that of the control; left out of the control, and if there are too few users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<IntervalAnswer>,
    /// The same in parts of the control's mean: 0.1 is a tenth more. Left out also if that is not above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<IntervalAnswer>,
    /// How likely means would be as far apart by chance alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// The same, corrected for all groups and metrics of this answer (Benjamini and Hochberg).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// A number, and between what it is with the confidence of the answer.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IntervalAnswer {
    /// The number.
    pub estimate: f64,
    /// Not less.
    pub low: f64,
    /// Not more.
    pub high: f64,
}

impl From<Interval> for IntervalAnswer {
    fn from(Interval { estimate, low, high }: Interval) -> Self {
        IntervalAnswer { estimate, low, high }
    }
}

impl From<Measure> for Measured {
    fn from(measure: Measure) -> Measured {
        match measure {
            Measure::Users => Measured::Any,
            Measure::Events => Measured::Events,
            Measure::Sum => Measured::Sum,
        }
    }
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    snapshot: &Snapshot,
    request: &ExperimentRequest,
    context: &QueryContext,
) -> Result<ExperimentAnswer, Failure> {
    let started = Instant::now();
    let bounds =
        [(request.groups.len(), 2, GROUPS_MAX, "/groups"), (request.metrics.len(), 1, METRICS_MAX, "/metrics")];
    for (value, least, most, pointer) in bounds {
        if value < least || value > most {
            return Err(Failure::field(pointer, format!("there may be from {least} to {most}, not {value}")));
        }
    }
    let confidence = request.confidence.unwrap_or(CONFIDENCE);
    if !(confidence > 0.0 && confidence < 1.0) {
        let detail = format!("a confidence is between 0 and 1, and not {confidence}");
        return Err(Failure::field("/confidence", detail).suggest("write 0.95"));
    }
    let control = request.control()?;
    let groups = request.bound_groups(snapshot)?;
    let metrics = request.bound_metrics(snapshot)?;
    let asked = ExperimentQuestion { groups: &groups, control, metrics: &metrics, confidence };
    let found = ops::experiment(snapshot, &asked, context)?;
    let (all, planned) = (found.users.iter().sum::<u64>(), groups.iter().map(|group| group.weight).sum::<f64>());
    let group = |((group, bound), users): ((&GroupRequest, &ExperimentGroup), &u64)| GroupAnswer {
        name: group.name.clone(),
        users: *users,
        share: (all > 0).then(|| *users as f64 / all as f64),
        planned: bound.weight / planned,
    };
    let metric = |(metric, read): (&MetricRequest, &MetricRead)| MetricAnswer {
        metric: metric.told(),
        measure: metric.measure,
        groups: request.groups.iter().zip(&read.groups).map(|(group, of)| told(&group.name, of, read.digits)).collect(),
    };
    Ok(ExperimentAnswer {
        groups: request.groups.iter().zip(&groups).zip(&found.users).map(group).collect(),
        in_several: found.in_several,
        sample_ratio: found.sample_ratio.map(|p_value| SampleRatio { p_value, mismatch: p_value < MISMATCH }),
        metrics: request.metrics.iter().zip(&found.metrics).map(metric).collect(),
        confidence,
        events: found.events,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

fn told(group: &str, read: &GroupRead, digits: u8) -> ReadAnswer {
    let Comparison { difference, relative, p_value } = read.comparison.unwrap_or_default();
    ReadAnswer {
        group: group.to_owned(),
        users: read.with_any,
        total: Number::shortest(read.total, digits),
        mean: read.summary.mean,
        error: read.summary.error(),
        difference: difference.map(Into::into),
        relative: relative.map(Into::into),
        p_value,
        q_value: read.q_value,
    }
}

impl MetricRequest {
    fn step(&self) -> Step {
        Step { fact: self.fact.clone(), r#where: self.r#where.clone(), name: self.name.clone() }
    }

    /// Its name, or what it means.
    fn told(&self) -> String {
        let events = self.step().told();
        match (&self.name, self.measure, &self.value) {
            (Some(name), ..) => name.clone(),
            (None, Measure::Sum, Some(value)) => format!("sum({value}) of {events}"),
            (None, Measure::Events, _) => format!("events of {events}"),
            (None, ..) => format!("users of {events}"),
        }
    }
}

impl ExperimentRequest {
    fn control(&self) -> Result<usize, Failure> {
        let mut names = BTreeSet::new();
        if let Some(same) = self.groups.iter().position(|group| !names.insert(&group.name)) {
            let detail = format!("two groups are called `{}`", self.groups[same].name);
            return Err(Failure::new(Kind::InvalidField, detail).at(format!("/groups/{same}/name")));
        }
        let Some(control) = &self.control else { return Ok(0) };
        let place = self.groups.iter().position(|group| group.name == *control);
        place.ok_or_else(|| {
            let names: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
            let failure = Failure::field("/control", format!("no group is called `{control}`"));
            failure.suggest(format!("name one of them: {}", names.join(", ")))
        })
    }

    fn bound_groups(&self, snapshot: &Snapshot) -> Result<Vec<ExperimentGroup>, Failure> {
        let bound = |(at, group): (usize, &GroupRequest)| {
            let weight = group.weight.unwrap_or(1.0);
            if !WEIGHTS.contains(&weight) {
                let detail =
                    format!("what was planned for a group is a number from 0.000001 to 1000000, and not {weight}");
                return Err(Failure::field(format!("/groups/{at}/weight"), detail));
            }
            let users = group.r#where.bind(snapshot, &format!("/groups/{at}/where"))?.predicate;
            Ok(ExperimentGroup { users, weight })
        };
        self.groups.iter().enumerate().map(bound).collect()
    }

    fn bound_metrics(&self, snapshot: &Snapshot) -> Result<Vec<Metric>, Failure> {
        let (catalog, now) = (snapshot.catalog(), SystemClock.now());
        let bound = |(at, metric): (usize, &MetricRequest)| {
            let events = metric.step().bind(catalog, self.within.as_ref(), now, &format!("/metrics/{at}"))?;
            let pointer = format!("/metrics/{at}/value");
            let column = match (&metric.value, metric.measure) {
                (Some(name), Measure::Sum) => Some(number_column(catalog, events.fact, name, &pointer)?),
                (None, Measure::Sum) => {
                    let failure = Failure::field(&pointer, "it is not said what is summed up");
                    return Err(failure.suggest("name a column of the fact"));
                }
                (Some(_), _) => {
                    let failure = Failure::field(&pointer, "a column is only looked at where it is summed up");
                    return Err(failure.suggest("write `\"measure\": \"sum\"`, or leave it out"));
                }
                (None, _) => None,
            };
            Ok(Metric { events: KindMeant { events, column }, measured: metric.measure.into() })
        };
        self.metrics.iter().enumerate().map(bound).collect()
    }

    /// The question for lists of what was asked.
    fn text(&self) -> String {
        let groups: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
        begin_of(&groups.join(" against "))
    }
}

/// Tells how groups of an experiment differ, and how sure that is.
///
/// Every user of a group counts, also those who did nothing. Shares of users are compared by Fisher's exact test and Newcombe's interval,
/// means by Welch's.
#[utoipa::path(post, path = "/v1/experiment", operation_id = "experiment", tag = "questions", request_body = ExperimentRequest,
    responses((status = 200, body = ExperimentAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<ExperimentRequest>,
) -> Answer<ExperimentAnswer> {
    let (text, timeout_ms) = (request.text(), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Experiment, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.metrics.len() * answer.groups.len());
        Ok(answer)
    });
    Ok(Json(answered.await?))
}
