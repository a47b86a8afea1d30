//! `/v1/queries`: which questions run and which ran, and cancelling one.

use super::number;
use crate::access::Principal;
use crate::error::Failure;
use crate::queries::{Progress, Query};
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

/// The questions.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueriesAnswer {
    /// Those that are not over, then those that are; newest first.
    pub queries: Vec<QueryAnswer>,
}

/// A question: a statement of SQL, or a call about audiences.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueryAnswer {
    /// Its number, to cancel it with.
    pub id: String,
    /// Where it came in: `rest`, `cli` (our own command line), `flight` or `postgres`.
    pub door: String,
    /// What is asked: `sql`, `count`, `members`, `profile`, `overlap`, `sample`, `top`, `lookalike`, `explain`, `movement` or `user`.
    pub kind: String,
    /// Who asked.
    pub principal: String,
    /// The statement, or the audience expression (of `user` the id); of a long one its begin.
    pub sql: String,
    /// `running`, `waiting` (to be fetched), `done`, `failed` or `cancelled` (also by its client going away).
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it came.
    pub started_at: String,
    /// From then until its end, or until now, in microseconds.
    pub elapsed_us: u64,
    /// Rows that were answered so far.
    pub rows: u64,
    /// The most bytes of memory that a statement held at a time to sort, join and group with; of other questions it is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl From<Query> for QueryAnswer {
    fn from(query: Query) -> Self {
        QueryAnswer {
            id: query.id,
            door: query.door.name().to_owned(),
            kind: query.asks.name().to_owned(),
            principal: query.principal.name().to_owned(),
            sql: query.text,
            state: query.progress.name().to_owned(),
            error: match query.progress {
                Progress::Failed(why) => Some(why),
                _ => None,
            },
            started_at: number::time(query.started_at.into()),
            elapsed_us: u64::try_from(query.elapsed.as_micros()).unwrap_or(u64::MAX),
            rows: query.rows,
            memory_bytes: query.memory_bytes,
        }
    }
}

/// Lists the questions that run, and of those that ran since the server started the newest thousand statements of SQL and the newest
/// thousand others: one's own, or all for who has the scope `admin`.
#[utoipa::path(get, path = "/v1/queries", operation_id = "list_queries", tag = "operations",
    responses((status = 200, body = QueriesAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
) -> Json<QueriesAnswer> {
    Json(QueriesAnswer { queries: state.statements.all(&principal).into_iter().map(QueryAnswer::from).collect() })
}

/// Cancels a question that runs. The answer tells it as it was; it ends within a tenth of a second.
#[utoipa::path(delete, path = "/v1/queries/{id}", operation_id = "cancel_query", tag = "operations",
    params(("id" = String, Path)), responses((status = 200, body = QueryAnswer)))]
pub(in crate::rest) async fn delete(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer<QueryAnswer> {
    let cancelled: Result<Query, Failure> = state.statements.cancel(&id, &principal);
    cancelled.map(QueryAnswer::from).map(Json)
}
