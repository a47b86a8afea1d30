//! `/v1/sources`: how the streaming sources are, and commands to them.
//!
//! Sources are declared in the catalog. What they are told to do here (pause, stop) is kept over restarts.

use super::page::{self, PageParameters};
use crate::error::{Failure, Kind};
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::sources::SourceDeclaration;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use engine::audience::suggest::closest;
use engine::catalog::Wanted;
use ingest::enrich::LookupReport;
use ingest::pipeline::{Begin, CommandError, PartitionReport, RefusedRecord, SourceReport, SourceState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a source is. Counts are since the server was started.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceAnswer {
    /// Its name.
    pub name: String,
    /// Where it reads and what its records become, for people.
    pub about: String,
    /// What it is doing.
    pub state: StateName,
    /// What it or the other side ails from, and what to do.
    pub error: Option<String>,
    /// Records read.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Records a second, over the last ten seconds.
    pub records_per_second: f64,
    /// Records that were refused; they are rows of the fact `dead_letter`.
    pub refused: u64,
    /// Records that its conditions do not want.
    pub filtered: u64,
    /// Records without a payload, which say nothing.
    pub empty: u64,
    /// Records that were gone before they were read; of files of text, bytes.
    pub lost: u64,
    /// Records that wait to be read, as far as that is known; of files of text, bytes.
    pub lag: u64,
    /// The event time up to which all partitions have come.
    pub watermark: Option<String>,
    /// Its partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionAnswer>,
    /// Its look-ups, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<LookupAnswer>,
    /// The records refused last, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_last: Vec<RefusedAnswer>,
}

/// How a look-up is. Counts are since the source was begun.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LookupAnswer {
    /// Its name.
    pub name: String,
    /// Records that had a key.
    pub lookups: u64,
    /// Of these, answered from the cache.
    pub cached: u64,
    /// Of these, those whose key was known.
    pub found: u64,
    /// Of these, those whose key was not known.
    pub missing: u64,
    /// Of these, those whose key could not be looked up, and that did not wait for it.
    pub failed: u64,
    /// Requests sent.
    pub requests: u64,
    /// Keys that were sent with them.
    pub keys: u64,
    /// Requests that failed or took too long.
    pub errors: u64,
    /// Requests in flight.
    pub in_flight: usize,
    /// Keys that wait for an answer.
    pub waiting: usize,
    /// Keys in the cache.
    pub cache_entries: usize,
    /// It failed so often that it is left alone for a while.
    pub resting: bool,
    /// The last failure; null once a request succeeded since.
    pub last_error: Option<String>,
    /// How long half of the requests took at most, to about a fifth of it.
    pub latency_p50_ms: Option<f64>,
    /// How long 99 of 100 requests took at most, to about a fifth of it.
    pub latency_p99_ms: Option<f64>,
}

/// What a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// It begins.
    Starting,
    /// It reads.
    Running,
    /// It was told to read nothing, and stays connected.
    Paused,
    /// It was told to be away.
    Stopped,
    /// The other side is away; it is tried again.
    Retrying,
    /// It cannot go on by itself; `error` says what to do.
    Failed,
    /// It was read to its end.
    Finished,
}

/// A partition and how far it is.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartitionAnswer {
    /// Its name: `topic/3`, or a file.
    pub partition: String,
    /// The offset of the next record.
    pub position: u64,
    /// The offset behind the last one, as far as that is known.
    pub end: Option<u64>,
    /// Records between the two; of files of text, bytes.
    pub lag: Option<u64>,
    /// The latest event time it brought.
    pub watermark: Option<String>,
    /// It brought nothing for a while and does not hold back the source's watermark.
    pub idle: bool,
}

/// A record that was refused.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefusedAnswer {
    /// Its partition.
    pub partition: String,
    /// Its offset.
    pub offset: u64,
    /// What is wrong with it, where, and what to write instead.
    pub error: String,
    /// The begin of it.
    pub record: String,
}

/// A page of sources, by name, without their partitions, look-ups and refused records.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourcesAnswer {
    /// The sources.
    pub sources: Vec<SourceAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

/// Where a source goes on.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewindRequest {
    /// `earliest`, `latest`, a time (RFC 3339), or an offset for each partition that is to go on elsewhere.
    pub to: RewindTo,
}

/// See [`RewindRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum RewindTo {
    /// `earliest`, `latest` or a time.
    Text(String),
    /// Offsets by partition.
    Offsets(BTreeMap<String, u64>),
}

/// Where the partitions of a source go on.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RewindAnswer {
    /// Offsets by partition; durable.
    pub positions: BTreeMap<String, u64>,
    /// What to keep in mind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl SourceAnswer {
    fn of(name: &str, about: String, report: SourceReport) -> SourceAnswer {
        let lag = report.lag();
        SourceAnswer {
            name: name.to_owned(),
            about,
            state: report.state.into(),
            error: report.error,
            records: report.records,
            bytes: report.bytes,
            records_per_second: report.rate,
            refused: report.refused,
            filtered: report.filtered,
            empty: report.empty,
            lost: report.lost,
            lag,
            watermark: report.watermark.map(time),
            partitions: report.partitions.into_iter().map(PartitionAnswer::from).collect(),
            lookups: report.lookups.into_iter().map(LookupAnswer::from).collect(),
            refused_last: report.refused_last.into_iter().map(RefusedAnswer::from).collect(),
        }
    }
}

fn time(micros: i64) -> String {
    super::number::time(micros.into())
}

impl From<SourceState> for StateName {
    fn from(state: SourceState) -> Self {
        match state {
            SourceState::Starting => StateName::Starting,
            SourceState::Running => StateName::Running,
            SourceState::Paused => StateName::Paused,
            SourceState::Stopped => StateName::Stopped,
            SourceState::Retrying => StateName::Retrying,
            SourceState::Failed => StateName::Failed,
            SourceState::Finished => StateName::Finished,
        }
    }
}

impl From<PartitionReport> for PartitionAnswer {
    fn from(report: PartitionReport) -> Self {
        PartitionAnswer {
            partition: report.partition.to_string(),
            position: report.position,
            end: report.end,
            lag: report.lag,
            watermark: report.watermark.map(time),
            idle: report.idle,
        }
    }
}

impl From<LookupReport> for LookupAnswer {
    fn from(report: LookupReport) -> Self {
        let millis = |micros: u64| micros as f64 / 1e3;
        LookupAnswer {
            name: report.name,
            lookups: report.lookups,
            cached: report.cached,
            found: report.found,
            missing: report.missing,
            failed: report.failed,
            requests: report.requests,
            keys: report.keys,
            errors: report.errors,
            in_flight: report.in_flight,
            waiting: report.waiting,
            cache_entries: report.cache_entries,
            resting: report.is_resting,
            last_error: report.last_error,
            latency_p50_ms: report.latency_p50_us.map(millis),
            latency_p99_ms: report.latency_p99_us.map(millis),
        }
    }
}

impl From<RefusedRecord> for RefusedAnswer {
    fn from(refused: RefusedRecord) -> Self {
        RefusedAnswer {
            partition: refused.partition.to_string(),
            offset: refused.offset,
            error: refused.error.to_string(),
            record: refused.record,
        }
    }
}

impl RewindTo {
    fn begin(self) -> Result<Begin, Failure> {
        match self {
            RewindTo::Offsets(offsets) if offsets.is_empty() => {
                Err(Failure::field("/to", "no partition is named").suggest("write {\"purchases/0\": 1042}"))
            }
            RewindTo::Offsets(offsets) => Ok(Begin::Offsets(offsets.into_iter().collect())),
            RewindTo::Text(text) => match text.as_str() {
                "earliest" => Ok(Begin::Earliest),
                "latest" => Ok(Begin::Latest),
                time => match time.parse::<jiff::Timestamp>() {
                    Ok(time) => Ok(Begin::Timestamp(time.as_millisecond())),
                    Err(_) => Err(Failure::field("/to", format!("`{time}` is no place to go on"))
                        .suggest("write `earliest`, `latest`, a time such as 2026-11-20T00:00:00Z, or offsets")),
                },
            },
        }
    }
}

/// All sources, by name, as they are listed.
pub(super) fn all(state: &AppState) -> Result<Vec<SourceAnswer>, Failure> {
    let reports = state.pipeline()?.reports().into_iter();
    reports.map(|(name, report)| Ok(SourceAnswer::of(&name, about(state, &name)?, report))).collect()
}

/// Lists the streaming sources, by name.
#[utoipa::path(get, path = "/v1/sources", operation_id = "list_sources", tag = "data", params(PageParameters),
    responses((status = 200, body = SourcesAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<SourcesAnswer> {
    let limit = page::limit(parameters.limit)?;
    let after = parameters.after.unwrap_or_default();
    let reports = state.pipeline()?.reports();
    let mut reports = reports.into_iter().filter(|(name, _)| *name > after);
    let mut sources = Vec::new();
    for (name, report) in reports.by_ref().take(limit) {
        let answer = SourceAnswer::of(&name, about(&state, &name)?, report);
        sources.push(SourceAnswer { partitions: Vec::new(), lookups: Vec::new(), refused_last: Vec::new(), ..answer });
    }
    let next = reports.next().and(sources.last()).map(|last| last.name.clone());
    Ok(Json(SourcesAnswer { sources, next }))
}

/// Tells how a source is, with its partitions and the records refused last.
#[utoipa::path(get, path = "/v1/sources/{name}", operation_id = "get_source", tag = "data",
    params(("name" = String, Path)), responses((status = 200, body = SourceAnswer)))]
pub(in crate::rest) async fn get(State(state): State<AppState>, Path(name): Path<String>) -> Answer<SourceAnswer> {
    answer(&state, &name).map(Json)
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident, $path:literal, $operation:literal, $wanted:expr;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, operation_id = $operation, tag = "data", params(("name" = String, Path)),
            responses((status = 200, description = "How it is now; what was asked for may take a moment", body = SourceAnswer)))]
        pub(in crate::rest) async fn $name(State(state): State<AppState>, Path(name): Path<String>) -> Answer<SourceAnswer> {
            command(state, name, $wanted).await
        }
    )*};
}

commands! {
    /// Lets a source read; also again, after a failure.
    start, "/v1/sources/{name}/start", "start_source", Wanted::Running;
    /// Lets a source read nothing and stay connected. It stays so over restarts.
    pause, "/v1/sources/{name}/pause", "pause_source", Wanted::Paused;
    /// Lets a source read again after a pause.
    resume, "/v1/sources/{name}/resume", "resume_source", Wanted::Running;
    /// Lets a source be away. It stays so over restarts.
    stop, "/v1/sources/{name}/stop", "stop_source", Wanted::Stopped;
}

async fn command(state: AppState, name: String, wanted: Wanted) -> Answer<SourceAnswer> {
    let changing = state.lock_definitions().await;
    limits::blocking(move || {
        let store = state.store()?;
        // What was put before may not be published yet.
        store.publish()?;
        let mut catalog = state.whole()?.catalog().clone();
        let before = catalog.source(&name).ok_or_else(|| unknown(&state, &name))?.wanted;
        if before != wanted {
            catalog.set_wanted(&name, wanted);
            store.put_catalog(catalog)?;
            store.publish()?;
        }
        // Nobody who changes a definition waits for threads that end.
        drop(changing);
        state.run_sources()?;
        if wanted == Wanted::Running {
            state.pipeline()?.retry(&name);
        }
        answer(&state, &name)
    })
    .await
    .map(Json)
}

/// Lets a source go on somewhere else.
///
/// Events that are read again count again, unless their fact has `deduplicate` and they have ids.
#[utoipa::path(post, path = "/v1/sources/{name}/rewind", operation_id = "rewind_source", tag = "data",
    params(("name" = String, Path)), request_body = RewindRequest, responses((status = 200, body = RewindAnswer)))]
pub(in crate::rest) async fn rewind(
    State(state): State<AppState>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<RewindRequest>,
) -> Answer<RewindAnswer> {
    let begin = request.to.begin()?;
    limits::blocking(move || {
        let started = state.pipeline()?.rewind(&name, begin).map_err(|error| match error {
            CommandError::Unknown(_) => unknown(&state, &name),
            CommandError::Failed { .. } => Failure::new(Kind::SourceStuck, error.to_string()),
        })?;
        let positions = started.into_iter().map(|started| (started.partition.to_string(), started.offset));
        Ok(RewindAnswer { positions: positions.collect(), note: note(&state, &name) })
    })
    .await
    .map(Json)
}

/// Warns of events that will count twice.
fn note(state: &AppState, name: &str) -> Option<String> {
    let snapshot = state.whole().ok()?;
    let declared = SourceDeclaration::read(&snapshot.catalog().source(name)?.definition).ok()?;
    let fact = snapshot.catalog().declared_fact(&declared.into)?;
    let counts_twice = fact.deduplicate_days.is_none();
    counts_twice.then(|| {
        format!("events that are read again count again, since the fact `{}` has no `deduplicate`", declared.into)
    })
}

fn answer(state: &AppState, name: &str) -> Result<SourceAnswer, Failure> {
    let report = state.pipeline()?.report(name).ok_or_else(|| unknown(state, name))?;
    Ok(SourceAnswer::of(name, about(state, name)?, report))
}

fn about(state: &AppState, name: &str) -> Result<String, Failure> {
    let snapshot = state.whole()?;
    let declared = snapshot.catalog().source(name).map(|source| SourceDeclaration::read(&source.definition));
    Ok(declared.and_then(Result::ok).map(|declared| declared.summary()).unwrap_or_default())
}

fn unknown(state: &AppState, name: &str) -> Failure {
    let failure = Failure::new(Kind::NotFound, format!("there is no source `{name}`"));
    let reports = state.pipeline().map(ingest::pipeline::Pipeline::reports).unwrap_or_default();
    match closest(name, reports.iter().map(|(known, _)| known.as_str())) {
        Some(near) => failure.suggest(format!("did you mean `{near}`?")),
        None => failure.suggest("declare it under `sources` in the catalog; GET /v1/sources lists them"),
    }
}
