//! `POST /v1/count`: how many users fit.

use super::expression::{Bound, Where};
use crate::error::{Failure, Kind};
use crate::privacy::Guard;
use crate::queries::{Asks, Running};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, QueryContext};
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How many users fit.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "gender = 'f' AND age BETWEEN 25 AND 34"}))]
pub struct CountRequest {
    /// Who is counted.
    pub r#where: Where,
    /// An estimate would do. Counts are fast enough to be exact, so today this changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate: Option<bool>,
    /// An earlier epoch or time to count at. Not available yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub as_of: Option<serde_json::Value>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How many users fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CountAnswer {
    /// Users that fit; exact, but for a tenant under a privacy policy. Null if that tells no number of so few.
    pub count: Option<u64>,
    /// They are fewer than this, if no number is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u64>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds; 0 under a privacy policy.
    pub elapsed_us: u64,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &CountRequest, context: &QueryContext) -> Result<CountAnswer, Failure> {
    let started = Instant::now();
    let bound = bound(snapshot, request)?;
    let count = Some(ops::count(snapshot, &bound.predicate, context)?);
    Ok(CountAnswer { count, below: None, epoch: snapshot.epoch().0, elapsed_us: elapsed_us(started) })
}

/// Answers under a privacy policy.
fn guarded(
    snapshot: &Snapshot,
    request: &CountRequest,
    context: &QueryContext,
    guard: &Guard,
    running: &Running,
) -> Result<CountAnswer, Failure> {
    let bound = bound(snapshot, request)?;
    let users = guard.users(snapshot, &bound.predicate, context)?;
    let count = guard.tell(&[guard.asked(&users, &bound.text)], context, running)?[0].number();
    let below = count.is_none().then(|| guard.few());
    // How long it took tells how many they are.
    Ok(CountAnswer { count, below, epoch: snapshot.epoch().0, elapsed_us: 0 })
}

fn bound(snapshot: &Snapshot, request: &CountRequest) -> Result<Bound, Failure> {
    if request.as_of.is_some() {
        return Err(Failure::new(Kind::NotAvailable, "`as_of` is not available yet; leave it out to ask the present")
            .at("/as_of"));
    }
    request.r#where.bind(snapshot, "/where")
}

/// Microseconds since `started`.
pub(super) fn elapsed_us(started: Instant) -> u64 {
    started.elapsed().as_micros() as u64
}

/// Counts the users that fit an expression.
#[utoipa::path(post, path = "/v1/count", operation_id = "count", tag = "questions", request_body = CountRequest,
    responses((status = 200, body = CountAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<CountRequest>,
) -> Answer<CountAnswer> {
    let (text, timeout_ms) = (request.r#where.told(), request.timeout_ms);
    let guards = asker.guards(&state);
    let answered = asker.ask(&state, Asks::Count, text, timeout_ms, move |snapshot, context, running| {
        let answer = match guards.guard()? {
            None => answer(snapshot, &request, context)?,
            Some(guard) => guarded(snapshot, &request, context, &guard, running)?,
        };
        running.add_rows(1);
        Ok(answer)
    });
    answered.await.map(Json)
}
