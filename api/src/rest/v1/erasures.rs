//! Users who are erased: `DELETE /v1/users/{id}`, `/v1/erasures`, and ids that are let in again.
//!
//! Whoever asks gets a receipt that names no user, the same whether the users were known or not. They are in no answer from then on,
//! and what is sent of them is passed over; their bytes leave the disk by the time the receipt tells.

use super::number;
use super::page::{self, PageParameters};
use super::upload::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::error::{Failure, Kind};
use crate::rest::body::{Parameters, body_failure};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::body::Body;
use axum::extract::{self, State};
use axum::http::{HeaderMap, header};
use engine::ids::USER_ID_BYTES_MAX;
use engine::store::{Erasure, NewErasure, Store};
use engine::update::UpdateBatch;
use futures::StreamExt;
use ingest::decode::body::{BodyReader, LineDecoder};
use ingest::decode::{UserListDecoder, UserListFormat};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The receipt of an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErasureAnswer {
    /// What it is called; the name of no user.
    pub id: String,
    /// Ids that were sent, each counted once, whether they were known or not.
    pub users: u64,
    /// When it took effect: from then on they are in no answer.
    pub at: String,
    /// When no byte of them is left on the disk, at the latest, if the disk and its tables can be written.
    pub clean_by: String,
    /// When that was so; null before.
    pub clean_at: Option<String>,
}

/// A page of erasures, in the order in which they came.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErasuresAnswer {
    /// The erasures.
    pub erasures: Vec<ErasureAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

/// Ids that are let in again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdmissionAnswer {
    /// How many of them were erased before.
    pub admitted: u64,
}

impl ErasureAnswer {
    /// `within`: how long bytes may stay.
    pub fn of(erasure: &Erasure, within: Duration) -> ErasureAnswer {
        let clean_by = i128::from(erasure.at) + within.as_micros().cast_signed();
        ErasureAnswer {
            id: text_of(erasure.id),
            users: erasure.users,
            at: number::time(erasure.at.into()),
            clean_by: number::time(clean_by),
            clean_at: erasure.clean_at.map(|at| number::time(at.into())),
        }
    }
}

fn text_of(id: u128) -> String {
    format!("{id:032x}")
}

fn read_id(text: &str) -> Result<u128, Failure> {
    let read = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    read.ok_or_else(|| Failure::new(Kind::NotFound, format!("there is no erasure `{text}`")))
}

/// Erases ids in a store.
///
/// # Errors
/// Those of [`Store::erase`]; the operating system's, if it gives no random bytes.
pub fn erase(store: &Store, user_ids: &UserIds, name: Option<u128>, digest: u128) -> Result<Erasure, Failure> {
    let id = name.map_or_else(random, Ok)?;
    let asked = NewErasure { id, digest, key: random()? | 1 };
    Ok(store.erase(&user_ids.all(), asked)?)
}

/// Erases whom a file of another state of the directory has erased.
///
/// # Errors
/// Those of [`Store::erase_again`]; the operating system's, if it gives no random bytes.
pub fn erase_again(store: &Store, file: &Path) -> Result<Erasure, Failure> {
    Ok(store.erase_again(file, NewErasure { id: random()?, digest: 0, key: random()? | 1 })?)
}

fn random() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::internal("no random bytes"))?;
    Ok(u128::from_le_bytes(bytes))
}

/// User ids, one after another.
#[derive(Debug, Default)]
pub struct UserIds {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl UserIds {
    /// Adds one.
    ///
    /// # Errors
    /// [`Kind::InvalidField`] if it cannot be one.
    pub fn push(&mut self, user_id: &str) -> Result<(), Failure> {
        if user_id.is_empty() || user_id.len() > USER_ID_BYTES_MAX {
            return Err(Failure::new(Kind::InvalidField, format!("a user id has 1 to {USER_ID_BYTES_MAX} bytes")));
        }
        self.take(user_id.as_bytes());
        Ok(())
    }

    fn take(&mut self, user_id: &[u8]) {
        self.bytes.extend_from_slice(user_id);
        self.ends.push(self.bytes.len());
    }

    /// Takes those of a batch out of it.
    fn drain(&mut self, batch: &mut UpdateBatch) {
        batch.users().for_each(|user| self.take(user.user_id));
        batch.clear();
    }

    /// All of them.
    pub fn all(&self) -> Vec<&[u8]> {
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end]).collect()
    }
}

/// Reads lines of ids, of which each must be one: half an erasure would help nobody. Answers them with the hash of the body.
async fn read_ids(state: &AppState, headers: &HeaderMap, body: Body) -> Result<(UserIds, u128), Failure> {
    let decoder = LineDecoder::UserList(UserListDecoder::new(list_format(headers)?, ""));
    let mut reader = BodyReader::new(decoder, state.config.line_bytes_max);
    let _permit = state.uploads.try_acquire().map_err(|_| {
        Failure::new(Kind::TooManyQueries, "too many bodies are being read; try again a little later").retry_after(1)
    })?;
    let (mut ids, mut batch, mut digest) = (UserIds::default(), UpdateBatch::new(), Xxh3::new());
    let mut chunks = body.into_data_stream();
    let idle = state.config.upload_idle;
    let stalled = || {
        let detail = format!("nothing of the body came for {} ms, so it was given up", idle.as_millis());
        Failure::new(Kind::Stalled, detail).suggest("send it again: nobody was erased")
    };
    while let Some(chunk) = tokio::time::timeout(idle, chunks.next()).await.map_err(|_| stalled())? {
        let chunk = chunk.map_err(|error| body_failure(&error, usize::MAX))?;
        digest.update(&chunk);
        let mut rest = &chunk[..];
        while reader.feed(&mut rest, &mut batch) {
            ids.drain(&mut batch);
        }
        ids.drain(&mut batch);
    }
    let report = reader.finish(&mut batch);
    ids.drain(&mut batch);
    if let Some((line, error)) = report.errors.first() {
        let detail = format!("line {line}: {}; nobody was erased or let in", error.message);
        return Err(Failure::new(Kind::MalformedBody, detail).suggest("send one id a line"));
    }
    if ids.ends.is_empty() {
        let failure = Failure::new(Kind::MalformedBody, "the body has no id");
        return Err(failure.suggest("send one id a line, or NDJSON lines such as \"u1\" or {\"user_id\":\"u1\"}"));
    }
    Ok((ids, digest.digest128()))
}

fn list_format(headers: &HeaderMap) -> Result<UserListFormat, Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(UserListFormat::Ndjson),
        "text/csv" => Ok(UserListFormat::Csv),
        "" | "text/plain" | "application/x-www-form-urlencoded" => Ok(UserListFormat::Text),
        other => Err(Failure::new(Kind::UnsupportedMedia, format!("ids cannot be read from `{other}`"))
            .suggest("send them as text/plain, application/x-ndjson or text/csv")),
    }
}

/// The name that an idempotency key gives an erasure.
fn name_by_key(headers: &HeaderMap) -> Result<Option<u128>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    if value.is_empty() || value.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let detail = format!("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
        return Err(Failure::new(Kind::InvalidField, detail).at("Idempotency-Key"));
    }
    Ok(Some(xxh3_128(&[b"erasures\0", value.as_bytes()].concat())))
}

async fn carry_out(state: AppState, ids: UserIds, name: Option<u128>, digest: u128) -> Answer<ErasureAnswer> {
    let store = Arc::clone(state.store()?);
    let within = state.config.erase_within;
    let erased = limits::blocking(move || erase(&store, &ids, name, digest)).await?;
    Ok(Json(ErasureAnswer::of(&erased, within)))
}

/// Erases a user, whether known or not.
///
/// The user is in no answer from then on, and what is sent of it is passed over until it is let in again.
#[utoipa::path(delete, path = "/v1/users/{id}", operation_id = "delete_user", tag = "data", params(("id" = String, Path)),
    responses((status = 200, description = "Who it was is in no answer any more", body = ErasureAnswer)))]
pub(in crate::rest) async fn delete_user(
    State(state): State<AppState>,
    extract::Path(id): extract::Path<String>,
    headers: HeaderMap,
) -> Answer<ErasureAnswer> {
    let mut ids = UserIds::default();
    ids.push(&id)?;
    let name = name_by_key(&headers)?;
    carry_out(state, ids, name, xxh3_128(id.as_bytes())).await
}

/// Erases users.
///
/// The body has an id a line: as text, NDJSON or CSV, of any length. If a line is none, nobody is erased. With an `Idempotency-Key` a
/// body that is sent again gets the receipt of the first time.
#[utoipa::path(post, path = "/v1/erasures", operation_id = "post_erasure", tag = "data",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, description = "They are in no answer any more", body = ErasureAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Answer<ErasureAnswer> {
    let name = name_by_key(&headers)?;
    let (ids, digest) = read_ids(&state, &headers, body).await?;
    carry_out(state, ids, name, digest).await
}

/// Lists the erasures, in the order in which they came.
#[utoipa::path(get, path = "/v1/erasures", operation_id = "list_erasures", tag = "data", params(PageParameters),
    responses((status = 200, body = ErasuresAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<ErasuresAnswer> {
    let limit = page::limit(parameters.limit)?;
    let all = state.store()?.erasures();
    let begin = match &parameters.after {
        None => 0,
        Some(after) => {
            let id = read_id(after)?;
            let at = all.iter().position(|erasure| erasure.id == id);
            at.ok_or_else(|| Failure::new(Kind::NotFound, format!("there is no erasure `{after}`")))? + 1
        }
    };
    let within = state.config.erase_within;
    let mut rest = all[begin..].iter();
    let erasures: Vec<_> = rest.by_ref().take(limit).map(|erasure| ErasureAnswer::of(erasure, within)).collect();
    let next = rest.next().and_then(|_| erasures.last().map(|last| last.id.clone()));
    Ok(Json(ErasuresAnswer { erasures, next }))
}

/// Tells how far an erasure is.
#[utoipa::path(get, path = "/v1/erasures/{id}", operation_id = "get_erasure", tag = "data", params(("id" = String, Path)),
    responses((status = 200, body = ErasureAnswer)))]
pub(in crate::rest) async fn get(
    State(state): State<AppState>,
    extract::Path(id): extract::Path<String>,
) -> Answer<ErasureAnswer> {
    let erasure = state.store()?.erasure(read_id(&id)?);
    let erasure = erasure.ok_or_else(|| Failure::new(Kind::NotFound, format!("there is no erasure `{id}`")))?;
    Ok(Json(ErasureAnswer::of(&erasure, state.config.erase_within)))
}

/// Lets ids in again that were erased.
///
/// What is sent of them from then on is taken; what was erased stays so. The body is as that of an erasure.
#[utoipa::path(post, path = "/v1/admissions", operation_id = "post_admission", tag = "data",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, description = "It is on disk", body = AdmissionAnswer)))]
pub(in crate::rest) async fn admit(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Answer<AdmissionAnswer> {
    let (ids, _) = read_ids(&state, &headers, body).await?;
    let store = Arc::clone(state.store()?);
    let admitted = limits::blocking(move || Ok(store.admit(&ids.all())?)).await?;
    Ok(Json(AdmissionAnswer { admitted }))
}
