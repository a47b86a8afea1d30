//! `POST /v1/funnel`: how many users did some steps in order, and who came how far.

use super::count::elapsed_us;
use super::expression::{Where, tag};
use super::keep::{Found, Keeping, SavedUsers};
use super::steps::{Step, bound, length_of_time, told};
use crate::error::Failure;
use crate::queries::Asks;
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, Figure, FigureOf, Grouping, QueryContext, StepTime, TagValues, TimedFunnel, Told};
use engine::audience::predicate::Predicate;
use engine::audience::scan::{EventsMeant, Given};
use engine::catalog::TagType;
use engine::journey::CONDITIONS_MAX;
use engine::journey::funnel::{Funnel, Modes};
use engine::store::Snapshot;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Values that a funnel is told apart by; the tag may have more, of which those with most users are told.
pub const FUNNEL_GROUPS_MAX: usize = 100;

/// Which steps, of whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "steps": [{"fact": "visit"}, {"fact": "cart", "where": "amount > 0"}, {"fact": "purchase"}],
    "window": "7 days", "within": "30 days", "where": "gender = 'f'", "by": "city"
}))]
pub struct FunnelRequest {
    /// The steps, in order; at most 32.
    pub steps: Vec<Step>,
    /// How much later than the first step the last one may be: `30 minutes`, `7 days`.
    pub window: String,
    /// Only events of the time up to now: `30 days` are today and the 29 days before. All that are kept if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// What is asked of the steps beside their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mode: Vec<FunnelMode>,
    /// Of these users; of all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// Told apart by the values of this tag, too: an `enum`, a `set` or a `flag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Keeps users as an audience. Takes the scope `ingest` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_as: Option<SaveStep>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What is asked of steps beside their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum FunnelMode {
    /// Between two steps there is none that is out of turn.
    StrictOrder,
    /// Between two steps there is none that repeats.
    StrictDeduplication,
    /// Each step is later than the one before.
    StrictIncrease,
    /// An event is one step.
    StrictOnce,
}

/// Which users become an audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"audience": "left_the_cart", "step": 2, "stopped": true}))]
pub struct SaveStep {
    /// Its name. It is a list, as if it had been uploaded: who they are now.
    pub audience: String,
    /// Those who did all steps up to this one, counted from 1.
    pub step: usize,
    /// And not the next one.
    #[serde(default)]
    pub stopped: bool,
}

/// Who came how far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FunnelAnswer {
    /// The steps, in order.
    pub steps: Vec<StepAnswer>,
    /// The same by the values of the tag, those with most users at the first step first, at most 100; then users without a value. If they
    /// were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<FunnelGroup>>,
    /// What was kept as an audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedUsers>,
    /// Events of the steps that were looked at.
    pub events: u64,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepAnswer {
    /// Its name.
    pub name: String,
    /// Users who did all steps up to it, in order and in time.
    pub users: u64,
    /// Of the users of the first step; null if there are none.
    pub of_first: Option<f64>,
    /// Of the users of the step before; null if there are none.
    pub of_previous: Option<f64>,
    /// Those of its users who did not do the next step; of the last step 0.
    pub stopped: u64,
    /// The middle of the times that users took from the step before to this one, of an even number of users the mean of two. Left out at the
    /// first step, if nobody came to this one, and of sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_seconds: Option<f64>,
    /// The least of these times that nine of ten users did not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_seconds: Option<f64>,
}

/// A funnel of the users with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FunnelGroup {
    /// The value; of a flag `true`; null: users without one.
    pub value: Option<String>,
    /// Users of each step.
    pub users: Vec<u64>,
    /// The middle of the times that they took to each step from the one before; null at the first step, and if nobody came there.
    pub median_seconds: Vec<Option<f64>>,
    /// The least of these times that nine of ten of them did not exceed.
    pub p90_seconds: Vec<Option<f64>>,
}

/// Answers on a snapshot; keeps nothing.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &FunnelRequest, context: &QueryContext) -> Result<FunnelAnswer, Failure> {
    found(snapshot, request, context).map(|found| found.answer)
}

fn found(snapshot: &Snapshot, request: &FunnelRequest, context: &QueryContext) -> Result<Found<FunnelAnswer>, Failure> {
    let started = Instant::now();
    let steps = request.bound(snapshot)?;
    let funnel = Funnel { window: length_of_time(&request.window, "/window")?.into(), modes: request.modes() };
    let whom = match &request.r#where {
        Some(whom) => whom.bind(snapshot, "/where")?.predicate,
        None => Predicate::All,
    };
    let by = request.by.as_ref().map(|name| values_of(snapshot, name, context)).transpose()?;
    let found = ops::funnel(snapshot, &steps, funnel, &whom, context)?;
    let groups = by.map(|by| groups(snapshot, &by, &found, context)).transpose()?;
    let mut steps = StepAnswer::of(&found.funnel, request.steps.iter().map(Step::told));
    let times = times(&found, None, context)?;
    for (step, time) in steps.iter_mut().zip(times) {
        (step.median_seconds, step.p90_seconds) = seconds(time);
    }
    let answer = FunnelAnswer {
        steps,
        groups,
        saved: None,
        events: found.funnel.events,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    };
    let kept = request.save_as.as_ref().map(|save| save.users(&found.funnel));
    Ok(Found { answer, kept })
}

/// Of each step how long users took to it, all or those among some.
fn times(
    found: &TimedFunnel,
    among: Option<&[RoaringBitmap]>,
    context: &QueryContext,
) -> Result<Vec<Option<StepTime>>, Failure> {
    let steps = 0..found.funnel.reached.len();
    steps.map(|step| Ok(found.time_to(step, among, context)?)).collect()
}

/// Median and 90th percentile.
fn seconds(time: Option<StepTime>) -> (Option<f64>, Option<f64>) {
    time.map(|time| (time.median / 1e6, time.p90 as f64 / 1e6)).unzip()
}

impl StepAnswer {
    /// Of steps with these names.
    pub(super) fn of(found: &ops::FunnelAnswer, names: impl Iterator<Item = String>) -> Vec<StepAnswer> {
        let users: Vec<u64> = (0..found.reached.len()).map(|step| found.users(step)).collect();
        let share = |of: u64, all: u64| (all > 0).then(|| of as f64 / all as f64);
        let told = names.enumerate().map(|(at, name)| StepAnswer {
            name,
            users: users[at],
            of_first: share(users[at], users[0]),
            of_previous: share(users[at], users[at.saturating_sub(1)]),
            stopped: users.get(at + 1).map_or(0, |next| users[at] - next),
            median_seconds: None,
            p90_seconds: None,
        });
        told.collect()
    }
}

impl SaveStep {
    /// Whether there is such a step among so many.
    pub(super) fn check(&self, count: usize) -> Result<(), Failure> {
        if (1..=count).contains(&self.step) {
            return Ok(());
        }
        let detail = format!("there is no step {}; they are counted from 1 to {count}", self.step);
        Err(Failure::field("/save_as/step", detail))
    }

    /// Whom it means.
    pub(super) fn users(&self, found: &ops::FunnelAnswer) -> Vec<RoaringBitmap> {
        if self.stopped { found.stopped(self.step - 1) } else { found.reached[self.step - 1].clone() }
    }
}

impl FunnelRequest {
    fn bound(&self, snapshot: &Snapshot) -> Result<Vec<EventsMeant>, Failure> {
        let count = self.steps.len();
        if count == 0 || count > CONDITIONS_MAX {
            return Err(Failure::field(
                "/steps",
                format!("a funnel has from 1 to {CONDITIONS_MAX} steps, not {count}"),
            ));
        }
        self.save_as.as_ref().map_or(Ok(()), |save| save.check(count))?;
        bound(&self.steps, snapshot.catalog(), self.within.as_ref())
    }

    fn modes(&self) -> Modes {
        let has = |mode| self.mode.contains(&mode);
        Modes {
            deduplication: has(FunnelMode::StrictDeduplication),
            order: has(FunnelMode::StrictOrder),
            increase: has(FunnelMode::StrictIncrease),
            once: has(FunnelMode::StrictOnce),
        }
    }

    /// The question for lists of what was asked.
    fn told(&self) -> String {
        told(&self.steps, " → ")
    }
}

/// The values that a funnel is told apart by.
fn values_of(snapshot: &Snapshot, name: &str, context: &QueryContext) -> Result<TagValues, Failure> {
    let tag = tag(snapshot.catalog(), name, "/by")?;
    if let TagType::Number(_) = tag.tag_type {
        let failure = Failure::field("/by", format!("`{name}` is a number, and a funnel is told apart by values"));
        return Err(failure.suggest("name an `enum`, a `set` or a `flag`"));
    }
    let values = TagValues::at_most(snapshot, tag.id, usize::MAX, context)?;
    values.ok_or_else(|| Failure::internal("there are more values than can be counted"))
}

fn groups(
    snapshot: &Snapshot,
    by: &TagValues,
    timed: &TimedFunnel,
    context: &QueryContext,
) -> Result<Vec<FunnelGroup>, Failure> {
    let reached = &timed.funnel.reached;
    let shard_count = snapshot.shards().len();
    let given = |step: usize| Predicate::Given(Arc::new(Given::new(None, shard_count, &reached[step])));
    let figures = [Figure { of: FigureOf::Count, within: None }];
    let asked = Grouping { by: std::slice::from_ref(by), figures: &figures, conditions: &[], values: &[] };
    let mut found: BTreeMap<Option<u32>, Vec<u64>> = BTreeMap::new();
    for step in 0..reached.len() {
        for (key, told) in ops::groups(snapshot, &given(step), &asked, 0..shard_count, context)? {
            let [Told::Count(count)] = told[..] else { return Err(Failure::internal("a count is no count")) };
            found.entry(key[0]).or_insert_with(|| vec![0; reached.len()])[step] = count;
        }
    }
    let values: Vec<String> = by.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    let without = found.remove(&None);
    let mut groups: Vec<(Option<u32>, Vec<u64>)> = found.into_iter().collect();
    // Those who come equally often stay in the order of their values.
    groups.sort_by_key(|(_, users)| std::cmp::Reverse(users[0]));
    groups.truncate(FUNNEL_GROUPS_MAX);
    groups.extend(without.map(|users| (None, users)));
    // Whoever took any time came to the second step.
    let moved = (reached.len() > 1).then(|| given(1));
    let told = |(value, users): (Option<u32>, Vec<u64>)| {
        let value = value.map(|value| values.get(value as usize).map_or("true", String::as_str));
        let times = match moved.as_ref().filter(|_| users.iter().skip(1).any(|users| *users > 0)) {
            None => vec![None; users.len()],
            Some(moved) => {
                let of_value = Predicate::And(vec![moved.clone(), with_value(by, value, &values)]).canonical();
                times(timed, Some(&ops::slots(snapshot, &of_value, context)?), context)?
            }
        };
        let (median_seconds, p90_seconds) = times.into_iter().map(seconds).unzip();
        Ok(FunnelGroup { value: value.map(str::to_owned), users, median_seconds, p90_seconds })
    };
    groups.into_iter().map(told).collect()
}

/// Users with a value, or without any.
fn with_value(by: &TagValues, value: Option<&str>, values: &[String]) -> Predicate {
    let tag = by.tag();
    match (by.tag_type(), value) {
        (TagType::Flag, Some(_)) => Predicate::Flag(tag),
        (TagType::Flag, None) => Predicate::Flag(tag).negate(),
        (_, Some(value)) => Predicate::HasAny(tag, vec![value.to_owned()]),
        (TagType::Set, None) => Predicate::HasAny(tag, values.to_vec()).negate(),
        (_, None) => Predicate::Known(tag).negate(),
    }
}

/// Tells how many users did some steps in order, and on request keeps those who came so far as an audience.
///
/// A user is counted at a step who did all steps up to it, each at or behind the one before, the last at most `window` later than the
/// first; of all ways to take steps the one that leads furthest counts. Other events may lie in between. Steps of one moment are taken in
/// the order they are named. Of ways that lead equally far, times are of the one that is first to get there, and of these of the one whose
/// first step is the latest, then the second one, and so on.
#[utoipa::path(post, path = "/v1/funnel", operation_id = "funnel", tag = "questions", request_body = FunnelRequest,
    responses((status = 200, body = FunnelAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<FunnelRequest>,
) -> Answer<FunnelAnswer> {
    let keeping = Keeping {
        asks: Asks::Funnel,
        text: request.told(),
        timeout_ms: request.timeout_ms,
        audience: request.save_as.as_ref().map(|save| save.audience.clone()),
    };
    let rows = |answer: &FunnelAnswer| answer.steps.len();
    let answered = keeping.ask(&state, &asker, rows, move |snapshot, context| found(snapshot, &request, context));
    let (answer, saved) = answered.await?;
    Ok(Json(FunnelAnswer { saved, ..answer }))
}
