//! `/v1/jobs`: loading files beside live updates.

use super::number;
use super::page::{self, PageParameters};
use crate::error::Failure;
use crate::jobs::{Ended, JobDefinition, JobProgress, JobState, MadeVectors, Record, RefusedRow};
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// How a job is.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobAnswer {
    /// Its id; ids rise with time.
    pub id: String,
    /// What it is called: as its definition says, or `backfill`.
    pub name: String,
    /// How far it is.
    pub state: JobState,
    /// What it does, as it was asked for.
    pub definition: JobDefinition,
    /// When it was asked for.
    pub created_at: String,
    /// When it began, first.
    pub started_at: Option<String>,
    /// When it came to its end.
    pub finished_at: Option<String>,
    /// What it has done, restarts of the server included.
    pub progress: JobProgress,
    /// Why it failed; or why it waits for a restart of the server.
    pub error: Option<String>,
    /// Columns that no tag has the name of, which were left out, or that the fact does not declare, which were kept as undeclared
    /// fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<String>,
    /// The first rows that were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRow>,
    /// Of vectors made from a fact, what came of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeVectors>,
}

/// A page of jobs, newest first, without their refused rows.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobsAnswer {
    /// The jobs.
    pub jobs: Vec<JobAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl From<Record> for JobAnswer {
    fn from(record: Record) -> Self {
        let time = |micros: i64| number::time(micros.into());
        JobAnswer {
            name: record.name().to_owned(),
            id: record.id,
            state: record.state,
            definition: record.definition,
            created_at: time(record.created_at),
            started_at: record.started_at.map(time),
            finished_at: record.finished_at.map(time),
            progress: record.progress,
            error: record.error,
            unmatched: record.unmatched.into_iter().collect(),
            refused: record.refused,
            made: record.made,
        }
    }
}

/// Loads files of the server into tags, a fact or a vector space, or makes the vectors of a space from the events of a fact, beside
/// live updates.
///
/// What is loaded is what the same rows would be if they were sent as they are. Jobs run one at a time, in the order in which they
/// came, as fast as live updates leave room for, and at most at `rate` rows a second. One that a restart or a kill of the server
/// ended goes on, and each row counts once. Only files in the folders of the setting `source_folders` are read, and
/// objects in the stores of `source_stores`. A job whose store is away goes on when it is back.
#[utoipa::path(post, path = "/v1/jobs", operation_id = "post_job", tag = "data", request_body = JobDefinition,
    responses((status = 202, description = "It was taken, and is on disk", body = JobAnswer,
        headers(("location" = String, description = "Where its progress is told")))))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    JsonBody(definition): JsonBody<JobDefinition>,
) -> Result<Response, Failure> {
    let record = limits::blocking(move || state.jobs()?.submit(definition)).await?;
    let location = format!("/v1/jobs/{}", record.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(JobAnswer::from(record))).into_response())
}

/// Lists the jobs, newest first. Of those that have ended the newest thousand are remembered.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "data", params(PageParameters),
    responses((status = 200, body = JobsAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<JobsAnswer> {
    let limit = page::limit(parameters.limit)?;
    limits::blocking(move || {
        let (page, more) = state.jobs()?.list(limit, parameters.after.as_deref());
        let jobs: Vec<JobAnswer> = page.into_iter().map(JobAnswer::from).collect();
        let next = jobs.last().filter(|_| more).map(|last| last.id.clone());
        Ok(JobsAnswer { jobs, next })
    })
    .await
    .map(Json)
}

/// Tells how a job is, with the first rows that it refused.
#[utoipa::path(get, path = "/v1/jobs/{id}", operation_id = "get_job", tag = "data", params(("id" = String, Path)),
    responses((status = 200, body = JobAnswer)))]
pub(in crate::rest) async fn get(State(state): State<AppState>, Path(id): Path<String>) -> Answer<JobAnswer> {
    limits::blocking(move || state.jobs()?.get(&id).map(JobAnswer::from)).await.map(Json)
}

/// Cancels a job that waits or runs; forgets one that has ended.
///
/// What a cancelled job has loaded stays. It ends between two batches, which takes a moment; if it takes longer than that, the
/// answer still says `running`.
#[utoipa::path(delete, path = "/v1/jobs/{id}", operation_id = "delete_job", tag = "data", params(("id" = String, Path)),
    responses((status = 200, description = "It was told to end, and is so now", body = JobAnswer),
        (status = 204, description = "It had ended, and is forgotten")))]
pub(in crate::rest) async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let ended = limits::blocking(move || state.jobs()?.end(&id)).await?;
    Ok(match ended {
        Ended::Cancelled(record) => Json(JobAnswer::from(*record)).into_response(),
        Ended::Forgotten => StatusCode::NO_CONTENT.into_response(),
    })
}
