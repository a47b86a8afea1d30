//! Named audiences: expressions, which may be live, and lists of users.

mod lists;

pub(super) use lists::save_users;
pub use lists::{HIDDEN_PREFIX, forget_broken_uploads};

use super::expression::Where;
use super::live::{self, LiveAnswer};
use super::members::{self, MembersRequest};
use super::page;
use super::upload::LineFailure;
use crate::access::view::{renamed, with_text};
use crate::access::{Principal, Scope};
use crate::error::{Failure, Kind};
use crate::rest::asker::Asker;
use crate::rest::body::{self, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use engine::audience::suggest::closest;
use engine::store::{Audience, Definition, Snapshot};
use ingest::decode::UserListFormat;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest audience name, in bytes.
pub const AUDIENCE_NAME_BYTES_MAX: usize = 128;
/// The longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;

/// What an audience shall be.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "interest = 'yoga' AND age < 40", "description": "young and flexible"}))]
pub struct AudienceRequest {
    /// Who belongs to it.
    pub r#where: Where,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether who enters and who leaves is noted and told, as data changes and time goes on.
    #[serde(default)]
    pub live: bool,
}

/// An audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AudienceAnswer {
    /// Its name.
    pub name: String,
    /// Who belongs to it, in canonical form; of an expression only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// The uploaded list; of a list only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<Uploaded>,
    /// For people.
    pub description: String,
    /// When it was defined.
    pub changed_at: String,
    /// How it is kept; of a live audience only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveAnswer>,
}

/// What an uploaded list is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Uploaded {
    /// Ids in it, known or not, as many times as they were sent.
    pub ids: u64,
}

/// What became of an uploaded list.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UploadedAnswer {
    /// The audience.
    pub name: String,
    /// Ids taken.
    pub ids: u64,
    /// How many different users of these are known now. Others join when they become known. Null under a privacy policy.
    pub known: Option<u64>,
    /// Lines refused.
    pub rejected: u64,
    /// The first refused lines, at most 100.
    pub errors: Vec<LineFailure>,
    /// Number of the view that shows the list.
    pub epoch: u64,
}

/// What a put answers.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(in crate::rest) enum AudiencePutAnswer {
    /// An expression is an audience now.
    Defined(AudienceAnswer),
    /// A list is one.
    Uploaded(UploadedAnswer),
}

/// A page of audiences, by name.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AudiencesAnswer {
    /// The audiences.
    pub audiences: Vec<AudienceAnswer>,
    /// To be sent as `cursor` for the next page; null at the end.
    pub next: Option<String>,
    /// Number of the view.
    pub epoch: u64,
}

/// Which page.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct ListParameters {
    /// Audiences of a page, at most 1,000; 100 if left out.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Which page of members.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct MembersParameters {
    /// Users of a page, at most 100,000. Left out: 1,000 in JSON, all in the other formats.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Longest time of a page, in milliseconds.
    timeout_ms: Option<u64>,
    /// With `Accept: application/vnd.roaring`: this shard's bitmap alone.
    shard: Option<u16>,
}

/// How a list is described.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct PutParameters {
    /// Of an uploaded list: for people.
    description: Option<String>,
}

impl AudienceAnswer {
    fn of(state: &AppState, principal: &Principal, name: &str, audience: &Audience) -> AudienceAnswer {
        // How many there are of all users.
        let is_whole = principal.purposes.is_empty();
        let uploaded = match &audience.definition {
            Definition::Uploaded { user_count, .. } => Some(Uploaded { ids: *user_count }),
            Definition::Expression(_) | Definition::Live { .. } => None,
        };
        AudienceAnswer {
            name: name.to_owned(),
            r#where: audience.expression().map(str::to_owned),
            uploaded,
            description: audience.description.clone(),
            changed_at: super::number::time(audience.changed_at.into()),
            live: live::answer_of(state, name, audience).filter(|_| is_whole),
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let refuse = |why: &str| Err(Failure::new(Kind::InvalidField, format!("audience name: {why}")).at("name"));
    if name.is_empty() || name.len() > AUDIENCE_NAME_BYTES_MAX {
        return refuse(&format!("it has 1 to {AUDIENCE_NAME_BYTES_MAX} bytes"));
    }
    if name.starts_with('.') || name.chars().any(|c| c.is_control() || c == '/') || name.trim() != name {
        return refuse(
            "it may not begin with a point, hold `/` or control characters, or begin or end with white space",
        );
    }
    Ok(())
}

fn check_description(description: &str) -> Result<(), Failure> {
    if description.len() > DESCRIPTION_BYTES_MAX {
        let detail = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
        return Err(Failure::field("/description", detail));
    }
    Ok(())
}

/// The audience of a name.
///
/// # Errors
/// [`Kind::NotFound`] with the nearest name.
pub fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Audience, Failure> {
    if let Some(audience) = snapshot.audiences().get(name).filter(|_| !name.starts_with('.')) {
        return Ok(audience);
    }
    let failure = Failure::new(Kind::NotFound, format!("there is no audience `{name}`"));
    Err(match closest(name, snapshot.audiences().keys().map(String::as_str)) {
        Some(name) => failure.suggest(format!("did you mean `{name}`?")),
        None => failure,
    })
}

/// The version of an audience, for `If-Match`.
fn version(audience: &Audience) -> String {
    let text = format!("{:?}", (&audience.definition, &audience.description, audience.changed_at));
    format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

/// Refuses a change of another version than the client has seen.
fn check_version(headers: &HeaderMap, present: Option<&Audience>) -> Result<(), Failure> {
    let Some(wanted) = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()) else { return Ok(()) };
    let is_met = present.is_some_and(|audience| {
        let version = version(audience);
        wanted.split(',').map(str::trim).any(|tag| tag == "*" || tag == version)
    });
    if is_met {
        return Ok(());
    }
    let detail = "the audience is not the version in If-Match any more; read it again, then decide";
    Err(Failure::new(Kind::VersionChanged, detail))
}

fn with_version(status: StatusCode, audience: &Audience, body: impl Serialize) -> Response {
    let tag = HeaderValue::from_str(&version(audience)).expect("quoted hex digits");
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    response
}

/// Lists the audiences, by name.
#[utoipa::path(get, path = "/v1/audiences", operation_id = "list_audiences", tag = "audiences", params(ListParameters),
    responses((status = 200, body = AudiencesAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Parameters(parameters): Parameters<ListParameters>,
) -> Answer<AudiencesAnswer> {
    let limit = page::limit(parameters.limit)?;
    let after = match &parameters.cursor {
        None => String::new(),
        Some(cursor) => from_hex(cursor).ok_or_else(|| {
            Failure::new(Kind::InvalidCursor, "this is not a cursor; send `next` of the page before as it is")
                .at("cursor")
        })?,
    };
    let snapshot = state.names(&principal)?;
    let mut named = snapshot.audiences().iter().filter(|(name, _)| !name.starts_with('.') && **name > after);
    let audiences: Vec<_> = named
        .by_ref()
        .take(limit)
        .map(|(name, audience)| AudienceAnswer::of(&state, &principal, name, audience))
        .collect();
    let next = named.next().and(audiences.last()).map(|last| to_hex(&last.name));
    Ok(Json(AudiencesAnswer { audiences, next, epoch: snapshot.epoch().0 }))
}

fn to_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<String> {
    if text.is_empty() || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// Tells what an audience is.
#[utoipa::path(get, path = "/v1/audiences/{name}", operation_id = "get_audience", tag = "audiences",
    params(("name" = String, Path)), responses((status = 200, body = AudienceAnswer)))]
pub(in crate::rest) async fn get(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let snapshot = state.names(&principal)?;
    let audience = find(&snapshot, &name)?;
    Ok(with_version(StatusCode::OK, audience, AudienceAnswer::of(&state, &principal, &name, audience)))
}

/// Defines an audience, or uploads a list of users as one.
///
/// With a JSON body the audience is an expression; with `"live": true` who enters and who leaves is noted from now on, see
/// `/v1/audiences/{name}/changes`. With `application/x-ndjson`, `text/csv` (a column `user_id`) or
/// `text/plain` (an id a line) the body is a list of users, of any length; it replaces the audience at once when it
/// was read to its end. An uploaded user who is not known yet becomes a member when it becomes known.
/// `If-Match` with the `ETag` of a `GET` refuses the change if somebody else was faster.
#[utoipa::path(put, path = "/v1/audiences/{name}", operation_id = "put_audience", tag = "audiences",
    params(("name" = String, Path), PutParameters, ("If-Match" = Option<String>, Header, description = "The version to replace")),
    request_body(content((AudienceRequest = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"), (String = "text/plain"))),
    responses((status = 200, description = "Replaced, or a list was uploaded", body = AudiencePutAnswer),
        (status = 201, description = "New", body = AudienceAnswer)))]
pub(in crate::rest) async fn put(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<PutParameters>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Failure> {
    check_name(&name)?;
    match list_format(&headers)? {
        Some(format) => {
            principal.need(&[Scope::Ingest])?;
            let description = parameters.description.unwrap_or_default();
            check_description(&description)?;
            lists::upload(state, &principal, name, description, headers, request, format).await
        }
        None => {
            let limit = state.config.body_bytes_max;
            let bytes = to_bytes(request, limit).await.map_err(|error| body::body_failure(&error, limit))?;
            define(state, &principal, name, headers, body::parse(&bytes)?).await
        }
    }
}

/// How a list is written, by `Content-Type`; `None` for an expression in JSON.
fn list_format(headers: &HeaderMap) -> Result<Option<UserListFormat>, Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(None),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Some(UserListFormat::Ndjson)),
        "text/csv" => Ok(Some(UserListFormat::Csv)),
        "text/plain" => Ok(Some(UserListFormat::Text)),
        other => Err(Failure::new(Kind::UnsupportedMedia, format!("an audience cannot be read from `{other}`"))
            .suggest("send application/json with `where`, or a list as application/x-ndjson, text/csv or text/plain")),
    }
}

async fn define(
    state: AppState,
    principal: &Principal,
    name: String,
    headers: HeaderMap,
    request: AudienceRequest,
) -> Result<Response, Failure> {
    check_description(&request.description)?;
    if request.live && !principal.is_operator() {
        let failure = Failure::new(Kind::Forbidden, "audiences of tenants are not live yet").at("/live");
        return Err(failure.suggest("leave `live` out, and ask for its members when they are wanted"));
    }
    let changing = state.lock_definitions().await;
    let store = Arc::clone(state.store()?);
    let principal = principal.clone();
    limits::blocking(move || {
        let _changing = changing;
        state.still(&principal)?;
        let snapshot = state.names(&principal)?;
        let present = visible_audience(&snapshot, &name);
        check_version(&headers, present)?;
        let audience = checked(&snapshot, &name, &request)?;
        let audience = if request.live { made_live(&name, audience, present) } else { audience };
        let whole = with_text(audience.clone(), |text| renamed(text, &|name| principal.whole_name(name)));
        store.put_audience(&principal.defined_name(&name)?, whole)?;
        store.publish()?;
        let status = if present.is_some() { StatusCode::OK } else { StatusCode::CREATED };
        let answer = AudiencePutAnswer::Defined(AudienceAnswer::of(&state, &principal, &name, &audience));
        Ok(with_version(status, &audience, answer))
    })
    .await
}

/// Whether an expression could be kept as this audience.
///
/// # Errors
/// As [`save`].
pub(super) fn check(snapshot: &Snapshot, name: &str, r#where: Where) -> Result<(), Failure> {
    checked(snapshot, name, &AudienceRequest { r#where, description: String::new(), live: false }).map(drop)
}

/// Keeps an expression as an audience, in the place of one that had the name.
///
/// # Errors
/// As `PUT /v1/audiences/{name}`.
pub(super) async fn save(state: &AppState, principal: &Principal, name: String, r#where: Where) -> Result<(), Failure> {
    let request = AudienceRequest { r#where, description: String::new(), live: false };
    define(state.clone(), principal, name, HeaderMap::new(), request).await.map(drop)
}

/// An audience with a list of its members. One that was live before keeps its list: who differs entered or left.
fn made_live(name: &str, audience: Audience, present: Option<&Audience>) -> Audience {
    let Definition::Expression(expression) = audience.definition else { return audience };
    let list_id = match present.map(|present| &present.definition) {
        Some(Definition::Live { list_id, .. }) => list_id.clone(),
        _ => lists::new_list_id(name),
    };
    Audience { definition: Definition::Live { expression, list_id }, ..audience }
}

fn visible_audience<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Audience> {
    snapshot.audiences().get(name).filter(|_| !name.starts_with('.'))
}

/// The audience in canonical form, if it and all that it names can be.
fn checked(snapshot: &Snapshot, name: &str, request: &AudienceRequest) -> Result<Audience, Failure> {
    let changed_at = jiff::Timestamp::now().as_microsecond();
    let of = |text: String| Audience {
        definition: Definition::Expression(text),
        description: request.description.clone(),
        changed_at,
    };
    // An expression that names its own audience must meet itself to be refused, hence the two steps: what it would
    // mean to others is checked with the new definition in place.
    let text = request.r#where.text("/where")?;
    let mut audiences = snapshot.audiences().clone();
    audiences.insert(name.to_owned(), of(text));
    let bound = request.r#where.bind_with(snapshot.catalog(), &audiences, "/where")?;
    Ok(of(bound.text))
}

/// Forgets an audience. Refused while other audiences use it.
#[utoipa::path(delete, path = "/v1/audiences/{name}", operation_id = "delete_audience", tag = "audiences",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "The version to delete")),
    responses((status = 204, description = "It is gone")))]
pub(in crate::rest) async fn delete(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    let changing = state.lock_definitions().await;
    let store = Arc::clone(state.store()?);
    limits::blocking(move || {
        let _changing = changing;
        check_version(&headers, Some(find(&state.names(&principal)?, &name)?))?;
        let whole_name = principal.defined_name(&name)?;
        let users = users_of(&store.snapshot(), &whole_name);
        if !users.is_empty() {
            let known = |user: &String| match &principal.tenant {
                None => Some(format!("`{user}`")),
                Some(tenant) => tenant.own_name(user).map(|own| format!("`{own}`")),
            };
            let mut told: Vec<String> = users.iter().filter_map(known).collect();
            if told.len() < users.len() {
                told.push("the operator of this server".to_owned());
            }
            let detail = format!("audience `{name}` is used by {}; change or delete these first", told.join(", "));
            return Err(Failure::new(Kind::StillUsed, detail));
        }
        store.delete_audience(&whole_name)?;
        store.publish()?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// The audiences that would mean nothing without this one.
fn users_of(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let mut rest = snapshot.audiences().clone();
    rest.remove(name);
    let uses = |(_, audience): &(&String, &Audience)| {
        let Some(text) = audience.expression() else { return false };
        let expression = Where::Text(text.to_owned());
        let failure = expression.bind_with(snapshot.catalog(), &rest, "").err();
        failure.is_some_and(|failure| failure.kind == Kind::UnknownAudience)
    };
    rest.iter().filter(uses).map(|(user, _)| user.clone()).collect()
}

/// Lists the members of an audience; formats and pages as `POST /v1/members`.
#[utoipa::path(get, path = "/v1/audiences/{name}/members", operation_id = "audience_members", tag = "audiences",
    params(("name" = String, Path), MembersParameters),
    responses((status = 200, content(
        (members::MembersAnswer = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"), (Vec<u8> = "application/vnd.apache.parquet"),
        (Vec<u8> = "application/vnd.roaring")))))]
pub(in crate::rest) async fn members(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<MembersParameters>,
    asker: Asker,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    find(&state.names(&asker.principal)?, &name)?;
    let MembersParameters { limit, cursor, timeout_ms, shard } = parameters;
    let expression = format!("in_audience('{}')", name.replace('\'', "''"));
    let request = MembersRequest { r#where: Some(Where::Text(expression)), limit, cursor, timeout_ms };
    members::respond(&state, &asker, &headers, request, shard).await
}
