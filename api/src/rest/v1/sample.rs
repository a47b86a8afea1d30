//! `POST /v1/sample`: some users that fit, chosen at random.

use super::count::elapsed_us;
use super::expression::Where;
use crate::error::Failure;
use crate::queries::Asks;
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

/// The largest sample.
pub const SAMPLE_SIZE_MAX: usize = 100_000;

/// Which users to choose from, and how many.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "interest = 'yoga'", "size": 20, "seed": 7}))]
pub struct SampleRequest {
    /// Whom to choose from.
    pub r#where: Where,
    /// How many, at most 100,000; fewer if fewer fit.
    pub size: usize,
    /// The same seed chooses the same users of the same view; 0 if left out.
    #[serde(default)]
    pub seed: u64,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Users chosen uniformly.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SampleAnswer {
    /// The chosen users.
    pub users: Vec<String>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &SampleRequest, context: &QueryContext) -> Result<SampleAnswer, Failure> {
    let started = Instant::now();
    if request.size == 0 || request.size > SAMPLE_SIZE_MAX {
        return Err(Failure::field("/size", format!("`size` is from 1 to {SAMPLE_SIZE_MAX}")));
    }
    let bound = request.r#where.bind(snapshot, "/where")?;
    let users = ops::sample(snapshot, &bound.predicate, request.size, request.seed, context)?;
    Ok(SampleAnswer { users, epoch: snapshot.epoch().0, elapsed_us: elapsed_us(started) })
}

/// Chooses users that fit, uniformly at random.
#[utoipa::path(post, path = "/v1/sample", operation_id = "sample", tag = "questions", request_body = SampleRequest,
    responses((status = 200, body = SampleAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<SampleRequest>,
) -> Answer<SampleAnswer> {
    let (text, timeout_ms) = (request.r#where.told(), request.timeout_ms);
    let guards = asker.guards(&state);
    let answered = asker.ask(&state, Asks::Sample, text, timeout_ms, move |snapshot, context, running| {
        guards.list(snapshot, &request.r#where, context, running)?;
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.users.len());
        Ok(answer)
    });
    answered.await.map(Json)
}
