//! `GET /v1/status`: how the server is at this moment, once or again and again.
//!
//! It tells what a screen on a wall shows: how many events came, how fresh questions are, how sources and live audiences are. It reads
//! no file and asks no question, so it may be asked often.

use super::number::time;
use super::sources::StateName;
use crate::access::{Principal, Scope};
use crate::error::Failure;
use crate::rest::router::Answer;
use crate::state::{AppState, Phase};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ingest::pipeline::Pipeline;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

/// How often a stream tells.
const INTERVAL: Duration = Duration::from_secs(1);

/// How the server is. Counts are since it started.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusAnswer {
    /// The server's time.
    pub at: String,
    /// Beluga's version.
    pub version: String,
    /// Who asks, and what they may do.
    pub principal: PrincipalAnswer,
    /// Number of the view that questions see.
    pub epoch: u64,
    /// Age of the oldest acknowledged write that questions do not see yet, in seconds; 0 if they see all.
    pub freshness_seconds: f64,
    /// Users ever seen, with those known only from lists; null for a tenant.
    pub users: Option<u64>,
    /// Events counted, by whatever door they came; that somebody entered or left a live audience is one, too. Null for a tenant.
    pub events: Option<u64>,
    /// Questions that are answered now.
    pub queries_running: u64,
    /// Questions that wait for their turn.
    pub queries_waiting: u64,
    /// Why the server takes no writes, or does not do its upkeep; null if it does.
    pub warning: Option<String>,
    /// The sources, by name.
    pub sources: Vec<SourceStatus>,
    /// The live audiences that were looked at, by name.
    pub live: Vec<LiveSize>,
}

/// Who asks.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PrincipalAnswer {
    /// The token's name; null where nobody needs one.
    pub token: Option<String>,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// Of whom they are; null for the operator.
    pub tenant: Option<String>,
    /// What they ask for: they see users who agreed to all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purposes: Vec<String>,
}

/// How a source is, in short.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: StateName,
    /// Records read.
    pub records: u64,
    /// Records a second, over the last ten seconds.
    pub records_per_second: f64,
    /// Records that wait to be read; of files of text, bytes.
    pub lag: u64,
    /// The event time up to which all its partitions have come.
    pub watermark: Option<String>,
}

/// How large a live audience is.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LiveSize {
    /// Its name.
    pub name: String,
    /// Its members.
    pub size: u64,
    /// Users who entered.
    pub entered: u64,
    /// Users who left.
    pub left: u64,
}

/// Tells how the server is now.
///
/// # Errors
/// [`Failure`] before the store is open.
pub fn answer(state: &AppState, principal: &Principal) -> Result<StatusAnswer, Failure> {
    let statistics = state.store()?.statistics();
    let epoch = state.whole()?.epoch();
    let is_operator = principal.is_operator();
    let sources = state.pipeline().map(Pipeline::reports).unwrap_or_default().into_iter().filter(|_| is_operator);
    let live = state.live_statuses().into_iter().filter(|_| is_operator);
    Ok(StatusAnswer {
        at: time(jiff::Timestamp::now().as_microsecond().into()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        principal: PrincipalAnswer {
            token: principal.token.clone(),
            scopes: principal.scopes.clone(),
            tenant: principal.tenant_name().map(str::to_owned),
            purposes: principal.purposes.iter().map(|purpose| purpose.name.clone()).collect(),
        },
        epoch: epoch.0,
        freshness_seconds: state.metrics.freshness(epoch).as_secs_f64(),
        users: is_operator.then_some(statistics.slots),
        events: is_operator.then_some(statistics.events),
        queries_running: state.queries.running() as u64,
        queries_waiting: state.queries.waiting() as u64,
        warning: state
            .keeper_status()
            .and_then(|keeper| keeper.last_error)
            .or_else(|| state.audit().problem())
            .filter(|_| is_operator),
        sources: sources
            .map(|(name, report)| SourceStatus {
                name,
                state: report.state.into(),
                records: report.records,
                records_per_second: report.rate,
                lag: report.lag(),
                watermark: report.watermark.map(|micros| time(micros.into())),
            })
            .collect(),
        live: live.map(|(name, of)| LiveSize { name, size: of.size, entered: of.entered, left: of.left }).collect(),
    })
}

/// Tells how the server is.
///
/// With `Accept: text/event-stream` it tells so every second, as server-sent events `status`, until either side ends.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", tag = "operations",
    responses((status = 200, content((StatusAnswer = "application/json"), (String = "text/event-stream")))))]
pub(in crate::rest) async fn get(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/event-stream") {
        return Ok(stream(state, principal, headers).into_response());
    }
    let once: Answer<StatusAnswer> = answer(&state, &principal).map(Json);
    Ok(once?.into_response())
}

/// Tells at once, and every second from then on, for as long as who asks may.
fn stream(state: AppState, principal: Principal, headers: HeaderMap) -> impl IntoResponse {
    let ticks = tokio::time::interval(INTERVAL);
    let told = futures::stream::unfold(
        (state, principal, headers, ticks),
        |(state, principal, headers, mut ticks)| async move {
            ticks.tick().await;
            let authorization = headers.get(header::AUTHORIZATION).and_then(|text| text.to_str().ok());
            let may =
                state.phase() == Phase::Ready && state.access.check(authorization).is_ok_and(|now| now == principal);
            let status = answer(&state, &principal).ok().filter(|_| may)?;
            let event = Event::default().event("status").data(serde_json::to_string(&status).unwrap_or_default());
            Some((Ok::<_, Infallible>(event), (state, principal, headers, ticks)))
        },
    );
    Sse::new(told).keep_alive(KeepAlive::default())
}
