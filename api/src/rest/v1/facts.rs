//! `POST /v1/facts/{fact}`: events, a line or a row an event.

use super::upload::{self, Decoder, Destination, UploadAnswer, WriteParameters};
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::rest::body::Parameters;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, Fact};
use engine::clock::Clock;
use ingest::clock::SystemClock;
use ingest::decode::EventDecoder;
use ingest::decode::body::LineDecoder;
use ingest::decode::column_body::RowTarget;

/// Takes events of a fact.
///
/// The body is NDJSON of any length, also with `Content-Encoding: gzip`; a line an event:
/// `{"user_id":"u1","ts":"2026-11-20T10:00:00Z","category":"shoes","amount":12.50}`. `ts` is an RFC 3339 time or
/// milliseconds since 1970; columns stand by their names, a missing one is NULL, and fields that are not declared are
/// kept as they are. If the fact has `deduplicate`, `event_id` names the event, and `"retract": true` takes it back.
/// A line is taken whole or refused whole; refused lines do not stop the others. What is answered is on disk. With an
/// `Idempotency-Key` header, the same key and body again changes nothing, also when the first attempt broke off.
///
/// With `Content-Type: application/vnd.apache.arrow.stream` the body is an Arrow IPC stream (optionally LZ4 or ZSTD inside), a row an
/// event, with a column for each field; a row means what a line of the same values would. Timestamps, dates, decimals and
/// dictionaries are taken as they are; `line` in the answer is the row. A message (record batch) has at most 16 MiB, unless the
/// setting `arrow_message_bytes_max` says otherwise. Columns that do not fit the fact, and a damaged stream, refuse the body.
#[utoipa::path(post, path = "/v1/facts/{fact}", operation_id = "post_events", tag = "data",
    params(("fact" = String, Path, description = "The fact's name"), WriteParameters,
        ("Idempotency-Key" = Option<String>, Header, description = "Of the sender's choice; remembered for a day")),
    request_body(content(
        (String = "application/x-ndjson"),
        (String = "application/vnd.apache.arrow.stream"),
    )),
    responses((status = 200, body = UploadAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<WriteParameters>,
    headers: HeaderMap,
    body: Body,
) -> Answer<UploadAnswer> {
    let is_arrow = upload::is_arrow(&headers, "events", "send application/x-ndjson, a JSON object a line")?;
    let (decoder, destination) = {
        let (snapshot, now) = (state.writable(&principal)?, SystemClock.now());
        let fact = fact(snapshot.catalog(), &name)?;
        let decoder = if is_arrow {
            Decoder::Columns(RowTarget::Events { fact: Box::new(fact.clone()), now })
        } else {
            Decoder::Lines(LineDecoder::Events(Box::new(EventDecoder::new(fact, now))))
        };
        (decoder, Destination::fact(&snapshot, &name, fact).of(&principal))
    };
    upload::answer(&state, destination, parameters, &headers, body, decoder).await.map(Json)
}

/// The fact of a name.
///
/// # Errors
/// [`Kind::NotFound`] with the nearest name.
pub(crate) fn fact<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Fact, Failure> {
    catalog.declared_fact(name).ok_or_else(|| {
        let failure = Failure::new(Kind::NotFound, format!("there is no fact `{name}`"));
        match closest(name, catalog.declared_facts().map(|(known, _)| known)) {
            Some(near) => failure.suggest(format!("did you mean `{near}`?")),
            None => failure.suggest("declare it in the catalog first; GET /v1/catalog lists the facts"),
        }
    })
}
