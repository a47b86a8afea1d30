//! `POST /v1/tags`: updates of users' tags, a line or a row a user.

use super::upload::{self, Decoder, Destination, UploadAnswer, WriteParameters};
use crate::access::Principal;
use crate::rest::body::Parameters;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use ingest::decode::TagDecoder;
use ingest::decode::body::LineDecoder;
use ingest::decode::column_body::RowTarget;

/// Updates users' tags.
///
/// The body is NDJSON of any length, also with `Content-Encoding: gzip`; a line a user:
/// `{"user_id":"u1","set":{"gender":"f","age":31},"add":{"interest":["yoga"]},"remove":{"interest":["golf"]},"unset":["age"]}`.
/// A line is applied whole or refused whole; refused lines do not stop the others. What is answered is on disk. With an
/// `Idempotency-Key` header, the same key and body again changes nothing, also when the first attempt broke off.
///
/// With `Content-Type: application/vnd.apache.arrow.stream` the body is an Arrow IPC stream (optionally LZ4 or ZSTD inside), a row a
/// user: `user_id`, and a column named like each tag that is set; a `set` takes a list (or text), which replaces what the user has,
/// and NULL changes nothing. `line` in the answer is the row. A message (record batch) has at most 16 MiB, unless the setting
/// `arrow_message_bytes_max` says otherwise. A column that no tag has the name of, and a damaged stream, refuse the body.
#[utoipa::path(post, path = "/v1/tags", operation_id = "post_tags", tag = "data",
    params(WriteParameters, ("Idempotency-Key" = Option<String>, Header, description = "Of the sender's choice; remembered for a day")),
    request_body(content(
        (String = "application/x-ndjson"),
        (String = "application/vnd.apache.arrow.stream"),
    )),
    responses((status = 200, body = UploadAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Parameters(parameters): Parameters<WriteParameters>,
    headers: HeaderMap,
    body: Body,
) -> Answer<UploadAnswer> {
    let suggestion = "send application/x-ndjson, a JSON object a line; files go through beluga backfill";
    let snapshot = state.writable(&principal)?;
    let decoder = if upload::is_arrow(&headers, "updates", suggestion)? {
        Decoder::Columns(RowTarget::Tags(snapshot.shared_catalog()))
    } else {
        Decoder::Lines(LineDecoder::Tags(TagDecoder::new(snapshot.catalog())))
    };
    let destination = Destination::tags(&snapshot).of(&principal);
    drop(snapshot);
    upload::answer(&state, destination, parameters, &headers, body, decoder).await.map(Json)
}
