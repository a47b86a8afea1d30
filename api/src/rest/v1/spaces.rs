//! `POST /v1/spaces/{space}`: vectors of users, a line or a row a user.

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
use engine::catalog::{Catalog, Space};
use ingest::decode::VectorDecoder;
use ingest::decode::body::LineDecoder;
use ingest::decode::column_body::RowTarget;

/// Takes vectors of users.
///
/// The body is NDJSON of any length, also with `Content-Encoding: gzip`; a line a user:
/// `{"user_id":"u1","vector":[0.5,-1.25,3]}`, with as many numbers as the space has dimensions. A vector replaces the one that
/// the user has; `"vector":null` takes it away. Refused lines do not stop the others. What is answered is on disk. With an
/// `Idempotency-Key` header, the same key and body again changes nothing, also when the first attempt broke off.
///
/// With `Content-Type: application/vnd.apache.arrow.stream` the body is an Arrow IPC stream (optionally LZ4 or ZSTD inside),
/// a row a user: `user_id`, and `vector`, a list of floats (best `FixedSizeList<Float32>`). `line` in the answer is the row. A message
/// (record batch) has at most 16 MiB, unless the setting `arrow_message_bytes_max` says otherwise. Other columns, and a damaged
/// stream, refuse the body.
#[utoipa::path(post, path = "/v1/spaces/{space}", operation_id = "post_vectors", tag = "data",
    params(("space" = String, Path, description = "The space's name"), WriteParameters,
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
    let is_arrow = upload::is_arrow(&headers, "vectors", "send application/x-ndjson, a JSON object a line")?;
    let snapshot = state.writable(&principal)?;
    let space = *space(snapshot.catalog(), &name)?;
    let destination = Destination::space(&snapshot, &name, &space).of(&principal);
    drop(snapshot);
    let decoder = if is_arrow {
        Decoder::Columns(RowTarget::Vectors(space))
    } else {
        Decoder::Lines(LineDecoder::Vectors(VectorDecoder::new(&space)))
    };
    upload::answer(&state, destination, parameters, &headers, body, decoder).await.map(Json)
}

/// The vector space of a name.
///
/// # Errors
/// [`Kind::NotFound`] with the nearest name.
pub(crate) fn space<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Space, Failure> {
    catalog.space(name).ok_or_else(|| {
        let failure = Failure::new(Kind::NotFound, format!("there is no vector space `{name}`"));
        match closest(name, catalog.spaces().map(|(known, _)| known)) {
            Some(near) => failure.suggest(format!("did you mean `{near}`?")),
            None => {
                failure.suggest("declare it in the catalog first: spaces: { taste: { dimension: 64, metric: cosine } }")
            }
        }
    })
}
