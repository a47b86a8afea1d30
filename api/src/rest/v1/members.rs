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
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::queries::{Asks, Progress};
use crate::rest::asker::{self, Asker};
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::cursors::{self, Held};
use crate::rest::negotiate::{self, Format};
use crate::rest::stream::Streamed;
use crate::state::AppState;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::audience::ops::{self, MemberPage, Position, QueryContext};
use engine::audience::predicate::Predicate;
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

/// Users of a page when `limit` is not given.
pub const PAGE_DEFAULT: usize = 1_000;
/// Users of the largest page.
pub const PAGE_MAX: usize = 100_000;
/// Users fetched at a time for a stream.
const STREAM_BATCH: usize = 16_384;
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
    let (principal, guards) = (asker.principal.clone(), asker.guards(state));
    let answered = asker.ask(state, Asks::Members, text, timeout_ms, move |snapshot, context, running| {
        let started = Instant::now();
        let (users, next, epoch) = match listing(&holder, &principal, snapshot, &request)? {
            Listing::Fresh(bound) => {
                guards.list_of(snapshot, &bound.predicate, context, running)?;
                // Rows are read once, not for every page.
                let predicate = ops::resolve(snapshot, &bound.predicate, context)?.into_owned();
                let MemberPage { users, next } = ops::members(snapshot, &predicate, None, limit, context)?;
                let next = next.map(|position| {
                    let held = holder.cursors.hold(&principal, snapshot.clone(), predicate, bound.text);
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

fn listing(
    state: &AppState,
    principal: &Principal,
    snapshot: &Snapshot,
    request: &MembersRequest,
) -> Result<Listing, Failure> {
    let Some(cursor) = &request.cursor else {
        let missing = || Failure::field("/where", "`where` is missing: who is to be listed?");
        return request.r#where.as_ref().ok_or_else(missing)?.bind(snapshot, "/where").map(Listing::Fresh);
    };
    let (held, position) = state.cursors.resume(cursor, principal)?;
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
    let (text, timeout_ms, guards) = (told(&request), request.timeout_ms, asker.guards(state));
    let answered = asker.ask(state, Asks::Members, text, timeout_ms, move |snapshot, context, running| {
        let missing = || Failure::field("/where", "`where` is missing: who is to be listed?");
        let bound = request.r#where.as_ref().ok_or_else(missing)?.bind(snapshot, "/where")?;
        guards.list_of(snapshot, &bound.predicate, context, running)?;
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
    let (watch, guards) = (asker.watch(state, Asks::Members, told(&request)), asker.guards(state));
    let begun = asker::watched(state, &watch, request.timeout_ms, move |snapshot, context, running| {
        let missing = || Failure::field("/where", "`where` is missing: who is to be listed?");
        let bound = request.r#where.as_ref().ok_or_else(missing)?.bind(snapshot, "/where")?;
        guards.list_of(snapshot, &bound.predicate, context, running)?;
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
    let epoch = snapshot.epoch().0;
    let streamed = Streamed { watch, permit, cancelled: Arc::clone(&context.cancelled), deadline: None };
    let body = streamed.body("the members of a list", move |out, watch| {
        write_all(&snapshot, &predicate, Some(first), list, out, &context, |users| watch.add_rows(users))
    });
    Ok(with_headers(body, format, epoch))
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
