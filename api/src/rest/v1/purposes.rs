//! `/v1/purposes`: what users agreed to, and who they are.

use super::expression::Where;
use super::number;
use super::page::PageParameters;
use crate::access::purposes::Purpose;
use crate::access::view::bound_filter;
use crate::error::Failure;
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// What a purpose shall be.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "ads_consent", "description": "advertising"}))]
pub struct PurposeRequest {
    /// Who agreed, by what of the catalog no tenant owns, and the operator's audiences.
    pub r#where: Where,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// A purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposeAnswer {
    /// What it is called.
    pub name: String,
    /// Who agreed, in canonical form.
    pub r#where: String,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub changed_at: String,
}

/// A page of purposes, by name.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposesAnswer {
    /// The purposes.
    pub purposes: Vec<PurposeAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl From<&Purpose> for PurposeAnswer {
    fn from(purpose: &Purpose) -> PurposeAnswer {
        PurposeAnswer {
            name: purpose.name.clone(),
            r#where: purpose.filter.clone(),
            description: purpose.description.clone(),
            created_at: number::time(purpose.created_at.into()),
            changed_at: number::time(purpose.changed_at.into()),
        }
    }
}

/// Lists the purposes, by name.
#[utoipa::path(get, path = "/v1/purposes", operation_id = "list_purposes", tag = "operations", params(PageParameters),
    responses((status = 200, body = PurposesAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<PurposesAnswer> {
    let all = state.access.purposes()?;
    let (purposes, next) =
        parameters.by_name(all.all().map(|purpose| PurposeAnswer::from(&**purpose)), |purpose| &purpose.name)?;
    Ok(Json(PurposesAnswer { purposes, next }))
}

/// Tells what a purpose is.
#[utoipa::path(get, path = "/v1/purposes/{name}", operation_id = "get_purpose", tag = "operations",
    params(("name" = String, Path)), responses((status = 200, body = PurposeAnswer)))]
pub(in crate::rest) async fn get(State(state): State<AppState>, Path(name): Path<String>) -> Answer<PurposeAnswer> {
    let all = state.access.purposes()?;
    Ok(Json(PurposeAnswer::from(&**all.find(&name)?)))
}

/// Makes a purpose, or changes the one of this name.
///
/// Tokens that are made for it, and all tokens of tenants that have it, see the users of `where` and nobody else, whatever they ask. A change counts for
/// questions that begin from now on.
#[utoipa::path(put, path = "/v1/purposes/{name}", operation_id = "put_purpose", tag = "operations",
    params(("name" = String, Path)), request_body = PurposeRequest,
    responses((status = 200, description = "Changed", body = PurposeAnswer), (status = 201, description = "New", body = PurposeAnswer)))]
pub(in crate::rest) async fn put(
    State(state): State<AppState>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<PurposeRequest>,
) -> Result<Response, Failure> {
    let changing = state.lock_definitions().await;
    limits::blocking(move || {
        let _changing = changing;
        let filter = bound_filter(&request.r#where, &state.whole()?, &*state.access.tenants()?)?.text;
        let now = jiff::Timestamp::now().as_microsecond();
        let asked = Purpose { name, description: request.description, filter, created_at: now, changed_at: now };
        let (purpose, is_new) = state.access.put_purpose(asked)?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(PurposeAnswer::from(&*purpose))).into_response())
    })
    .await
}

/// Forgets a purpose that no token and no tenant has any more.
#[utoipa::path(delete, path = "/v1/purposes/{name}", operation_id = "delete_purpose", tag = "operations",
    params(("name" = String, Path)), responses((status = 204, description = "It is gone")))]
pub(in crate::rest) async fn delete(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let changing = state.lock_definitions().await;
    limits::blocking(move || {
        let _changing = changing;
        state.access.remove_purpose(&name)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
