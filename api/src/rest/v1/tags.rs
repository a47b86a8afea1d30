//! `POST /v1/tags`: updates of users' tags, a line a user.

use super::upload::{self, IdempotencyKey, UploadAnswer};
use crate::error::{Failure, Kind};
use crate::rest::body::Parameters;
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use ingest::decode::TagDecoder;
use ingest::decode::body::LineDecoder;
use serde::Deserialize;
use std::sync::Arc;

/// How to write.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct WriteParameters {
    /// Answer only once queries see the updates (they do within a second anyway).
    #[serde(default)]
    visible: bool,
}

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
    refuse_other_formats(&headers)?;
    let key = IdempotencyKey::of(&state, &headers, "tags")?;
    let decoder = LineDecoder::Tags(TagDecoder::new(state.snapshot()?.catalog()));
    let mut answer = upload::receive(&state, body, decoder, key).await?;
    if parameters.visible {
        let store = Arc::clone(state.store()?);
        answer.epoch = Some(limits::blocking(move || Ok(store.publish()?.0)).await?);
    }
    Ok(Json(answer))
}

/// A body that says to be something else than text is refused before it is read; anything else is taken for NDJSON.
fn refuse_other_formats(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return Ok(());
    };
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let others =
        ["text/csv", "multipart/form-data", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"];
    if others.contains(&name.as_str()) {
        let failure = Failure::new(Kind::UnsupportedMedia, format!("updates are NDJSON, not `{name}`"));
        return Err(
            failure.suggest("send application/x-ndjson, a JSON object a line; files go through beluga backfill")
        );
    }
    Ok(())
}
