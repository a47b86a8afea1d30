//! `POST /v1/members`: who fits, as a page or as a stream, in the format that `Accept` asks for.
//!
//! * A *page* is what `limit` (or a cursor) asks for, and what JSON always is: at most [`PAGE_MAX`] users. `next`, in
//!   other formats the header `x-next-cursor`, goes on from there on the same snapshot.
//! * Without them the formats for programs stream all members, a batch at a time; a client that goes away or stops
//!   reading ends the stream.
//! * Portable Roaring is bitmaps of slots: of one shard with `?shard=`, of all as one 64-bit bitmap without
//!   (see [`super::export`]).

use super::count::elapsed_us;
use super::export::{self, ListFormat, UserWriter};
use super::expression::{Bound, Where};
use crate::error::{Failure, Kind};
use crate::queries::{Asks, Progress, Watch};
use crate::rest::asker::{self, Asker};
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::cursors::{self, Held};
use crate::rest::negotiate::{self, Format};
use crate::state::AppState;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::audience::ops::{self, MemberPage, Position, QueryContext};
use engine::audience::predicate::Predicate;
use engine::store::Snapshot;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// Users of a page when `limit` is not given.
pub const PAGE_DEFAULT: usize = 1_000;
/// Users of the largest page.
pub const PAGE_MAX: usize = 100_000;
/// Users fetched at a time for a stream.
const STREAM_BATCH: usize = 16_384;
/// Bytes of a stream that are sent at a time.
pub(super) const STREAM_BYTES: usize = 64 << 10;
/// How long a client may leave a stream unread.
pub(crate) const STALLED_MAX: Duration = Duration::from_secs(60);
/// Where a page in a format other than JSON says how to go on.
pub const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
/// The view that an answer in a format other than JSON is of.
pub const EPOCH: HeaderName = HeaderName::from_static("x-epoch");

/// Whose ids.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "gender = 'f' AND age < 30", "limit": 100}))]
pub struct MembersRequest {
    /// Who is listed; may be left out with a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// Users of a page, at most 100,000. Left out: 1,000 in JSON, all in the other formats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Longest time of a page, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A page of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MembersAnswer {
    /// User ids, each member in exactly one page.
    pub users: Vec<String>,
    /// To be sent as `cursor` for the next page; null at the end.
    pub next: Option<String>,
    /// Number of the view that all pages are of.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// What is in the query string of a members call.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShardParameter {
    /// With `Accept: application/vnd.roaring`: this shard's bitmap alone.
    pub shard: Option<u16>,
}

/// A question being listed: fresh, or held by a cursor.
enum Listing {
    Fresh(Bound),
    Held(Arc<Held>, Position),
}

/// Lists the members of an expression.
///
/// The format follows `Accept`: `application/json` (a page), `application/x-ndjson`, `text/csv`,
/// `application/vnd.apache.arrow.stream`, `application/vnd.apache.parquet` (all members as a stream, or a page with
/// `limit`, whose `next` is in the header `x-next-cursor`), or `application/vnd.roaring`: the members' slots as one
/// portable 64-bit Roaring bitmap (value = shard × 2^32 + slot), or with `?shard=` one shard's portable 32-bit bitmap.
#[utoipa::path(post, path = "/v1/members", operation_id = "members", tag = "questions", params(ShardParameter),
    request_body = MembersRequest,
    responses((status = 200, content(
        (MembersAnswer = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"), (Vec<u8> = "application/vnd.apache.parquet"),
        (Vec<u8> = "application/vnd.roaring")))))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<ShardParameter>,
    asker: Asker,
    headers: HeaderMap,
    JsonBody(request): JsonBody<MembersRequest>,
) -> Result<Response, Failure> {
    respond(&state, &asker, &headers, request, parameters.shard).await
}

/// Answers a members call, whatever route it came by.
pub(super) async fn respond(
    state: &AppState,
    asker: &Asker,
    headers: &HeaderMap,
    request: MembersRequest,
    shard: Option<u16>,
) -> Result<Response, Failure> {
    let format = negotiate::accepted(headers)?;
    if shard.is_some() && format != Format::Roaring {
        let detail = "`shard` goes with `Accept: application/vnd.roaring` only";
        return Err(Failure::new(Kind::InvalidField, detail).at("shard"));
    }
    let list = match format {
        Format::Json => return Ok(Json(page(state, asker, request).await?).into_response()),
        Format::Roaring => return bitmaps(state, asker, request, shard).await,
        Format::Ndjson => ListFormat::Ndjson,
        Format::Csv => ListFormat::Csv,
        Format::Arrow => ListFormat::Arrow,
        Format::Parquet => ListFormat::Parquet,
    };
    if request.limit.is_some() || request.cursor.is_some() {
        let page = page(state, asker, request).await?;
        return page_as(list, format, page);
    }
    stream(state, asker, request, list, format).await
}

async fn page(state: &AppState, asker: &Asker, request: MembersRequest) -> Result<MembersAnswer, Failure> {
    let limit = request.limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        let failure = Failure::field("/limit", format!("`limit` is from 1 to {PAGE_MAX}"));
        return Err(failure.suggest("leave it out and accept application/x-ndjson to get all members as a stream"));
    }
    let (holder, text, timeout_ms) = (state.clone(), told(&request), request.timeout_ms);
    let answered = asker.ask(state, Asks::Members, text, timeout_ms, move |snapshot, context, running| {
        let started = Instant::now();
        let (users, next, epoch) = match listing(&holder, snapshot, &request)? {
            Listing::Fresh(bound) => {
                // Rows are read once, not for every page.
                let predicate = ops::resolve(snapshot, &bound.predicate, context)?.into_owned();
                let MemberPage { users, next } = ops::members(snapshot, &predicate, None, limit, context)?;
                let next = next.map(|position| {
                    let held = holder.cursors.hold(snapshot.clone(), predicate, bound.text);
                    cursors::print(held.id, position)
                });
                (users, next, snapshot.epoch().0)
            }
            Listing::Held(held, from) => {
                running.says(&held.text);
                let page = ops::members(&held.snapshot, &held.predicate, Some(from), limit, context)?;
                (page.users, page.next.map(|position| cursors::print(held.id, position)), held.snapshot.epoch().0)
            }
        };
        running.add_rows(users.len());
        Ok(MembersAnswer { users, next, epoch, elapsed_us: elapsed_us(started) })
    });
    answered.await
}

/// The question for lists of what was asked; nothing where a cursor tells it.
fn told(request: &MembersRequest) -> String {
    request.r#where.as_ref().map(Where::told).unwrap_or_default()
}

fn listing(state: &AppState, snapshot: &Snapshot, request: &MembersRequest) -> Result<Listing, Failure> {
    let Some(cursor) = &request.cursor else {
        let missing = || Failure::field("/where", "`where` is missing: who is to be listed?");
        return request.r#where.as_ref().ok_or_else(missing)?.bind(snapshot, "/where").map(Listing::Fresh);
    };
    let (held, position) = state.cursors.resume(cursor)?;
    if let Some(expression) = &request.r#where
        && expression.text("/where")? != held.text
    {
        let failure = Failure::field("/where", format!("the cursor belongs to another question: {}", held.text));
        return Err(failure.suggest("send the same `where`, or none, with a cursor"));
    }
    Ok(Listing::Held(held, position))
}

/// A page in a format other than JSON.
fn page_as(list: ListFormat, format: Format, page: MembersAnswer) -> Result<Response, Failure> {
    let written = UserWriter::begin(list, Vec::new()).and_then(|mut writer| {
        writer.write(&page.users)?;
        writer.finish()
    });
    let bytes = written.map_err(|error| export::write_failure(&error))?;
    let mut response = with_headers(Body::from(bytes), format, page.epoch);
    if let Some(next) = &page.next {
        response.headers_mut().insert(NEXT_CURSOR, HeaderValue::from_str(next).expect("a cursor is hex digits"));
    }
    Ok(response)
}

fn with_headers(body: Body, format: Format, epoch: u64) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(EPOCH, HeaderValue::from(epoch));
    let name = match format {
        Format::Csv => "members.csv",
        Format::Parquet => "members.parquet",
        Format::Arrow => "members.arrows",
        Format::Roaring => "members.roaring",
        Format::Json | Format::Ndjson => return response,
    };
    let disposition = HeaderValue::from_str(&format!("attachment; filename={name}")).expect("plain text");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    response
}

async fn bitmaps(
    state: &AppState,
    asker: &Asker,
    request: MembersRequest,
    shard: Option<u16>,
) -> Result<Response, Failure> {
    if request.limit.is_some() || request.cursor.is_some() {
        return Err(Failure::field("/limit", "a bitmap has no pages: leave `limit` and `cursor` out"));
    }
    let (text, timeout_ms) = (told(&request), request.timeout_ms);
    let answered = asker.ask(state, Asks::Members, text, timeout_ms, move |snapshot, context, _| {
        let missing = || Failure::field("/where", "`where` is missing: who is to be listed?");
        let bound = request.r#where.as_ref().ok_or_else(missing)?.bind(snapshot, "/where")?;
        let mut shards = ops::bitmaps(snapshot, &bound.predicate, context)?;
        let bytes = match shard {
            None => export::roaring64(&shards),
            Some(shard) if usize::from(shard) < shards.len() => shards.swap_remove(shard.into()),
            Some(shard) => {
                let detail = format!("there is no shard {shard}; they are 0 to {}", shards.len() - 1);
                return Err(Failure::new(Kind::NotFound, detail).at("shard"));
            }
        };
        Ok((snapshot.epoch().0, bytes))
    });
    let (epoch, bytes) = answered.await?;
    Ok(with_headers(Body::from(bytes), Format::Roaring, epoch))
}

async fn stream(
    state: &AppState,
    asker: &Asker,
    request: MembersRequest,
    list: ListFormat,
    format: Format,
) -> Result<Response, Failure> {
    let permit = Arc::clone(&state.exports).try_acquire_owned().map_err(|_| {
        Failure::new(Kind::TooManyQueries, "too many lists are being streamed; try again a little later").retry_after(5)
    })?;
    // The first batch is found before anything is sent, so that what is wrong with the question has its status.
    let watch = asker.watch(state, Asks::Members, told(&request));
    let begun = asker::watched(state, &watch, request.timeout_ms, move |snapshot, context, _| {
        let missing = || Failure::field("/where", "`where` is missing: who is to be listed?");
        let bound = request.r#where.as_ref().ok_or_else(missing)?.bind(snapshot, "/where")?;
        let predicate = ops::resolve(snapshot, &bound.predicate, context)?.into_owned();
        let first = ops::members(snapshot, &predicate, None, STREAM_BATCH, context)?;
        Ok((snapshot.clone(), predicate, first))
    });
    let (snapshot, predicate, first) = match begun.await {
        Ok(begun) => begun,
        Err(failure) => {
            watch.end(Progress::Failed(failure.detail.clone()));
            return Err(failure);
        }
    };
    let context = state.query_context();
    watch.sets(Arc::clone(&context.cancelled));
    let epoch = snapshot.epoch().0;
    let (sender, receiver) = mpsc::channel(2);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let list = Sending { snapshot, predicate, first, list };
        list.send_all(sender, runtime, &context, watch, permit);
    });
    let chunks = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    // What compresses a body asks for more behind its end.
    Ok(with_headers(Body::from_stream(chunks.fuse()), format, epoch))
}

/// A list on its way out.
struct Sending {
    snapshot: Snapshot,
    predicate: Predicate,
    first: MemberPage,
    list: ListFormat,
}

impl Sending {
    /// Writes the first batch and all that follow; an error ends the body before its end, which the client notices.
    fn send_all(
        self,
        sender: mpsc::Sender<io::Result<Bytes>>,
        runtime: tokio::runtime::Handle,
        context: &QueryContext,
        watch: Watch,
        permit: OwnedSemaphorePermit,
    ) {
        let out = ChunkSender {
            sender: sender.clone(),
            runtime: runtime.clone(),
            pending: Vec::with_capacity(STREAM_BYTES),
            deadline: None,
            cancelled: watch.cancellation(),
        };
        let Sending { snapshot, predicate, first, list } = self;
        let wrote = |users| watch.add_rows(users);
        let Err(error) = write_all(&snapshot, &predicate, Some(first), list, out, context, wrote) else {
            return watch.end(Progress::Done);
        };
        tracing::info!(%error, "a list of members was not sent to its end");
        watch.end(if sender.is_closed() { Progress::Cancelled } else { Progress::Failed(error.to_string()) });
        // Its place is free now, not when the client has noticed.
        drop(permit);
        let _ = runtime.block_on(tokio::time::timeout(STALLED_MAX, sender.send(Err(error))));
    }
}

/// Writes all members to `out`; `first` if it was fetched already. `wrote` is told how many, batch by batch.
///
/// # Errors
/// Those of `out`; a failed query as [`io::ErrorKind::Other`] around its [`Failure`].
pub fn write_all<W: Write + Send>(
    snapshot: &Snapshot,
    predicate: &Predicate,
    first: Option<MemberPage>,
    list: ListFormat,
    out: W,
    context: &QueryContext,
    mut wrote: impl FnMut(usize),
) -> io::Result<()> {
    let resolved =
        ops::resolve(snapshot, predicate, context).map_err(|error| io::Error::other(Failure::from(error)))?;
    let fetch = |from| {
        ops::members(snapshot, &resolved, from, STREAM_BATCH, context)
            .map_err(|error| io::Error::other(Failure::from(error)))
    };
    let mut writer = UserWriter::begin(list, out)?;
    let mut page = match first {
        Some(page) => page,
        None => fetch(None)?,
    };
    loop {
        writer.write(&page.users)?;
        wrote(page.users.len());
        match page.next {
            Some(position) => page = fetch(Some(position))?,
            None => return writer.finish()?.flush(),
        }
    }
}

/// Sends what is written as chunks of a body.
pub(super) struct ChunkSender {
    pub(super) sender: mpsc::Sender<io::Result<Bytes>>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) pending: Vec<u8>,
    /// When the answer must be over, if ever.
    pub(super) deadline: Option<Instant>,
    /// Done when somebody cancels the question, also while its client does not read.
    pub(super) cancelled: CancellationToken,
}

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= STREAM_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::replace(&mut self.pending, Vec::with_capacity(STREAM_BYTES)));
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = left.map_or(STALLED_MAX, |left| left.min(STALLED_MAX));
        let sent = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => None,
                sent = tokio::time::timeout(patience, self.sender.send(Ok(chunk))) => Some(sent),
            }
        });
        let Some(sent) = sent else { return Err(io::Error::other("the question was cancelled")) };
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")),
        }
    }
}
