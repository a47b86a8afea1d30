//! `POST /v1/tags`: updates of users' tags, a line a user.

use super::upload::{self, UploadAnswer, WriteParameters};
use crate::rest::body::Parameters;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use ingest::decode::TagDecoder;
use ingest::decode::body::LineDecoder;

/// Updates users' tags.
///
/// The body is NDJSON of any length, also with `Content-Encoding: gzip`; a line a user:
/// `{"user_id":"u1","set":{"gender":"f","age":31},"add":{"interest":["yoga"]},"remove":{"interest":["golf"]},"unset":["age"]}`.
/// A line is applied whole or refused whole; refused lines do not stop the others. What is answered is on disk. With an
/// `Idempotency-Key` header, the same key and body again changes nothing, also when the first attempt broke off.
#[utoipa::path(post, path = "/v1/tags", operation_id = "post_tags", tag = "data",
    params(WriteParameters, ("Idempotency-Key" = Option<String>, Header, description = "Of the sender's choice; remembered for a day")),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = UploadAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<WriteParameters>,
    headers: HeaderMap,
    body: Body,
) -> Answer<UploadAnswer> {
    let suggestion = "send application/x-ndjson, a JSON object a line; files go through beluga backfill";
    upload::refuse_other_formats(&headers, "updates", suggestion)?;
    let decoder = LineDecoder::Tags(TagDecoder::new(state.snapshot()?.catalog()));
    upload::answer(&state, "tags", parameters, &headers, body, decoder).await.map(Json)
}
