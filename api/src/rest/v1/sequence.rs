//! `POST /v1/sequence`: who followed a pattern of events, how often, and who came how far in it.

use super::count::elapsed_us;
use super::expression::Where;
use super::funnel::{SaveStep, StepAnswer};
use super::keep::{Found, Keeping, SavedUsers};
use super::steps::{Step, bound, told};
use crate::error::Failure;
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, QueryContext};
use engine::audience::predicate::Predicate;
use engine::journey::CONDITIONS_MAX;
use engine::journey::pattern::Pattern;
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::time::Instant;

const SECOND_MICROS: i64 = 1_000_000;

/// Which events, in what pattern, of whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "steps": [{"fact": "visit"}, {"fact": "cart", "where": "amount > 0"}, {"fact": "purchase"}],
    "pattern": "(?1).*(?2)(?t<=3600)(?3)", "within": "30 days", "where": "gender = 'f'"
}))]
pub struct SequenceRequest {
    /// The events that are looked at; at most 32. Others lie between nothing.
    pub steps: Vec<Step>,
    /// What follows what: `(?1)` is the very next event if it is one of step 1, `.` the very next event, `.*` any number of events,
    /// `(?t<=3600)` any number, and at most so many seconds (also `<`, `>=`, `>`, `==`).
    pub pattern: String,
    /// Only events of the time up to now: `30 days` are today and the 29 days before. All that are kept if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Of these users; of all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// Keeps users as an audience: `step` is a place in `taken` of the answer. Takes the scope `ingest` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_as: Option<SaveStep>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Who followed the pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SequenceAnswer {
    /// Users who followed it to its end.
    pub users: u64,
    /// How often they did, all together; what overlaps counts once.
    pub times: u64,
    /// The events that the pattern takes, in its order, each with the users who came so far.
    pub taken: Vec<StepAnswer>,
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

/// Answers on a snapshot; keeps nothing.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    snapshot: &Snapshot,
    request: &SequenceRequest,
    context: &QueryContext,
) -> Result<SequenceAnswer, Failure> {
    found(snapshot, request, context).map(|found| found.answer)
}

fn found(
    snapshot: &Snapshot,
    request: &SequenceRequest,
    context: &QueryContext,
) -> Result<Found<SequenceAnswer>, Failure> {
    let started = Instant::now();
    let count = request.steps.len();
    if count == 0 || count > CONDITIONS_MAX {
        let detail = format!("a sequence is of 1 to {CONDITIONS_MAX} steps, not {count}");
        return Err(Failure::field("/steps", detail));
    }
    let pattern = Pattern::parse(&request.pattern, count, SECOND_MICROS);
    let pattern = pattern.map_err(|error| Failure::field("/pattern", error.to_string()))?;
    request.save_as.as_ref().map_or(Ok(()), |save| save.check(pattern.taken.len()))?;
    let steps = bound(&request.steps, snapshot.catalog(), request.within.as_ref())?;
    let whom = match &request.r#where {
        Some(whom) => whom.bind(snapshot, "/where")?.predicate,
        None => Predicate::All,
    };
    let ops::SequenceAnswer { funnel, times } = ops::sequence(snapshot, &steps, &pattern, &whom, context)?;
    let name = |fulfils: Option<u32>| match fulfils {
        Some(bit) => request.steps[bit.trailing_zeros() as usize].told(),
        None => "any".to_owned(),
    };
    let taken = StepAnswer::of(&funnel, pattern.taken.iter().map(|taken| name(taken.fulfils)));
    let answer = SequenceAnswer {
        users: taken.last().map_or(0, |last| last.users),
        times,
        taken,
        saved: None,
        events: funnel.events,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    };
    let kept = request.save_as.as_ref().map(|save| save.users(&funnel));
    Ok(Found { answer, kept })
}

/// Tells who followed a pattern of events and how often, and on request keeps those who came so far in it as an audience.
///
/// Only events of the steps are looked at, in the order of their times; those of one moment stand in the order of the steps. A user is
/// counted at an event of the pattern if the pattern up to it happened.
#[utoipa::path(post, path = "/v1/sequence", operation_id = "sequence", tag = "questions", request_body = SequenceRequest,
    responses((status = 200, body = SequenceAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<SequenceRequest>,
) -> Answer<SequenceAnswer> {
    let keeping = Keeping {
        asks: Asks::Sequence,
        text: begin_of(&format!("{} of {}", begin_of(&request.pattern), told(&request.steps, ", "))),
        timeout_ms: request.timeout_ms,
        audience: request.save_as.as_ref().map(|save| save.audience.clone()),
    };
    let rows = |answer: &SequenceAnswer| answer.taken.len();
    let answered = keeping.ask(&state, &asker, rows, move |snapshot, context| found(snapshot, &request, context));
    let (answer, saved) = answered.await?;
    Ok(Json(SequenceAnswer { saved, ..answer }))
}
