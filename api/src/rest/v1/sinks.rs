//! `/v1/sinks`: how the sinks are, and commands to them.
//!
//! Sinks are declared in the catalog. What they are told to do here (pause, stop) is kept over restarts.

use super::page::{self, PageParameters};
use crate::error::{Failure, Kind};
use crate::rest::body::Parameters;
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::sinks::SinkDeclaration;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use engine::audience::suggest::closest;
use engine::catalog::Wanted;
use ingest::sink::{SinkReport, SinkState};
use serde::{Deserialize, Serialize};

/// How a sink is. Counts are since the server was started.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SinkAnswer {
    /// Its name.
    pub name: String,
    /// What it takes and where it brings it, for people.
    pub about: String,
    /// What it is doing.
    pub state: SinkStateName,
    /// What it or the other side ails from, and what to do.
    pub error: Option<String>,
    /// Records that wait in its queue.
    pub queued: u64,
    /// Bytes of its queue's files.
    pub queue_bytes: u64,
    /// Whether its queue is full, so that those who write wait, or what comes is passed over.
    pub is_full: bool,
    /// How long the record has waited that waits longest, in seconds; 0 if none waits.
    pub lag_seconds: f64,
    /// The offset of its next record: records delivered, and dead letters, since it began.
    pub offset: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Attempts that failed.
    pub retries: u64,
    /// Records that were given up; they are rows of the fact `dead_letter`.
    pub dead_letters: u64,
    /// Records that were passed over while the queue was full.
    pub dropped: u64,
}

/// What a sink is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkStateName {
    /// It begins.
    Starting,
    /// It delivers what comes.
    Running,
    /// It was told to gather and not to deliver.
    Paused,
    /// It was told to do neither.
    Stopped,
    /// The other side is away or refuses; it is tried again.
    Retrying,
    /// It cannot go on by itself; `error` says what to do.
    Failed,
}

/// A page of sinks, by name.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SinksAnswer {
    /// The sinks.
    pub sinks: Vec<SinkAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

/// How long the oldest record of a queue has waited at `now`, in seconds.
pub(in crate::rest) fn lag_seconds(report: &SinkReport, now: i64) -> f64 {
    report.oldest_queued_at.map_or(0.0, |then| (now - then).max(0) as f64 / 1e6)
}

impl SinkAnswer {
    fn of(name: &str, about: String, report: SinkReport, now: i64) -> SinkAnswer {
        SinkAnswer {
            name: name.to_owned(),
            about,
            lag_seconds: lag_seconds(&report, now),
            state: report.state.into(),
            error: report.error,
            queued: report.queued,
            queue_bytes: report.queue_bytes,
            is_full: report.is_full,
            offset: report.offset,
            delivered: report.delivered,
            batches: report.batches,
            retries: report.retries,
            dead_letters: report.dead_letters,
            dropped: report.dropped,
        }
    }
}

impl From<SinkState> for SinkStateName {
    fn from(state: SinkState) -> Self {
        match state {
            SinkState::Starting => SinkStateName::Starting,
            SinkState::Running => SinkStateName::Running,
            SinkState::Paused => SinkStateName::Paused,
            SinkState::Stopped => SinkStateName::Stopped,
            SinkState::Retrying => SinkStateName::Retrying,
            SinkState::Failed => SinkStateName::Failed,
        }
    }
}

/// Lists the sinks, by name.
#[utoipa::path(get, path = "/v1/sinks", operation_id = "list_sinks", tag = "data", params(PageParameters),
    responses((status = 200, body = SinksAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<SinksAnswer> {
    let limit = page::limit(parameters.limit)?;
    let after = parameters.after.unwrap_or_default();
    limits::blocking(move || {
        let now = state.store()?.now();
        let reports = state.sinks()?.reports();
        let mut reports = reports.into_iter().filter(|(name, _)| *name > after);
        let mut sinks = Vec::new();
        for (name, report) in reports.by_ref().take(limit) {
            sinks.push(SinkAnswer::of(&name, about(&state, &name)?, report, now));
        }
        let next = reports.next().and(sinks.last()).map(|last| last.name.clone());
        Ok(SinksAnswer { sinks, next })
    })
    .await
    .map(Json)
}

/// Tells how a sink is.
#[utoipa::path(get, path = "/v1/sinks/{name}", operation_id = "get_sink", tag = "data",
    params(("name" = String, Path)), responses((status = 200, body = SinkAnswer)))]
pub(in crate::rest) async fn get(State(state): State<AppState>, Path(name): Path<String>) -> Answer<SinkAnswer> {
    limits::blocking(move || answer(&state, &name)).await.map(Json)
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident, $path:literal, $operation:literal, $wanted:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, operation_id = $operation, tag = "data", params(("name" = String, Path)),
            responses((status = 200, description = "How it is now; what was asked for may take a moment", body = SinkAnswer)))]
        pub(in crate::rest) async fn $name(State(state): State<AppState>, Path(name): Path<String>) -> Answer<SinkAnswer> {
            command(state, name, $wanted).await
        }
    )*};
}

commands! {
    /// Lets a sink deliver; also again, after a failure. What came while it was stopped is not sent.
    start, "/v1/sinks/{name}/start", "start_sink", Wanted::Running;
    /// Lets a sink gather and not deliver. It stays so over restarts.
    pause, "/v1/sinks/{name}/pause", "pause_sink", Wanted::Paused;
    /// Lets a sink deliver again after a pause, first what it gathered.
    resume, "/v1/sinks/{name}/resume", "resume_sink", Wanted::Running;
    /// Lets a sink neither gather nor deliver. It stays so over restarts.
    stop, "/v1/sinks/{name}/stop", "stop_sink", Wanted::Stopped;
}

async fn command(state: AppState, name: String, wanted: Wanted) -> Answer<SinkAnswer> {
    let changing = state.lock_definitions().await;
    limits::blocking(move || {
        let store = state.store()?;
        // What was put before may not be published yet.
        store.publish()?;
        let mut catalog = state.whole()?.catalog().clone();
        let before = catalog.sink(&name).ok_or_else(|| unknown(&state, &name))?.wanted;
        if before != wanted {
            catalog.set_sink_wanted(&name, wanted);
            store.put_catalog(catalog)?;
            store.publish()?;
        }
        // Nobody who changes a definition waits for threads that end.
        drop(changing);
        state.run_sinks()?;
        if wanted == Wanted::Running && before == wanted {
            state.sinks()?.retry(&name).map_err(crate::state::sinks_failed)?;
        }
        answer(&state, &name)
    })
    .await
    .map(Json)
}

fn answer(state: &AppState, name: &str) -> Result<SinkAnswer, Failure> {
    let report = state.sinks()?.report(name).ok_or_else(|| unknown(state, name))?;
    Ok(SinkAnswer::of(name, about(state, name)?, report, state.store()?.now()))
}

fn about(state: &AppState, name: &str) -> Result<String, Failure> {
    let snapshot = state.whole()?;
    let declared = snapshot.catalog().sink(name).map(|sink| SinkDeclaration::read(&sink.definition));
    Ok(declared.and_then(Result::ok).map(|declared| declared.summary()).unwrap_or_default())
}

fn unknown(state: &AppState, name: &str) -> Failure {
    let failure = Failure::new(Kind::NotFound, format!("there is no sink `{name}`"));
    let snapshot = state.whole().ok();
    let names = snapshot.iter().flat_map(|snapshot| snapshot.catalog().sinks().map(|(known, _)| known));
    match closest(name, names) {
        Some(near) => failure.suggest(format!("did you mean `{near}`?")),
        None => failure.suggest("declare it under `sinks` in the catalog; GET /v1/sinks lists them"),
    }
}
