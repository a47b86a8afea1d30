//! `/v1/tokens`: who may call this server, and for what. Whoever is of a tenant makes and sees those of that tenant.

use super::number;
use super::page::PageParameters;
use crate::access::book::{Entry, NewToken};
use crate::access::{Principal, Scope, tenants};
use crate::error::Failure;
use crate::rest::authorize::AuditObject;
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A token to be made.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "dashboards", "scopes": ["query"], "expires_at": "2027-01-01T00:00:00Z"}))]
pub struct TokenRequest {
    /// What it is called: up to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// Whose it is; left out: the operator's, or that of the tenant of who makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What for: it shows the users who agreed to this purpose, and nobody else; left out: for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// When it ends by itself, in RFC 3339; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenAnswer {
    /// What it is called.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// Whose it is; left out of the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What for; left out of one for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: Option<String>,
}

/// A new token.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewTokenAnswer {
    /// Its text, told only here: to be sent as `Authorization: Bearer TOKEN`.
    pub token: String,
    /// What it is called.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// Whose it is; left out of the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What for; left out of one for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: Option<String>,
}

impl NewTokenAnswer {
    /// A token that was just made.
    pub fn new(token: String, entry: &Entry) -> NewTokenAnswer {
        let TokenAnswer { name, scopes, tenant, purpose, created_at, expires_at } = entry.into();
        NewTokenAnswer { token, name, scopes, tenant, purpose, created_at, expires_at }
    }
}

/// A page of tokens, by name.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokensAnswer {
    /// The tokens.
    pub tokens: Vec<TokenAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl From<&Entry> for TokenAnswer {
    fn from(entry: &Entry) -> TokenAnswer {
        TokenAnswer {
            name: entry.name.clone(),
            scopes: entry.scopes.clone(),
            tenant: entry.tenant.clone(),
            purpose: entry.purpose.clone(),
            created_at: number::time(entry.created_at.into()),
            expires_at: entry.expires_at.map(|end| number::time(end.into())),
        }
    }
}

impl TokenRequest {
    /// With its times read.
    ///
    /// # Errors
    /// [`Failure`] if a time is none.
    pub fn read(self) -> Result<NewToken, Failure> {
        let time = |text: String| {
            text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).map_err(|error| {
                Failure::field("/expires_at", format!("`{text}` is no time: {error}"))
                    .suggest("write RFC 3339, as in 2027-01-01T00:00:00Z")
            })
        };
        let TokenRequest { name, scopes, tenant, purpose, expires_at } = self;
        Ok(NewToken { name, scopes, tenant, purpose, expires_at: expires_at.map(time).transpose()? })
    }
}

/// Makes a token.
///
/// Its text is told only in this answer. The first token closes the server: from then on every call needs one.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "post_token", tag = "operations", request_body = TokenRequest,
    responses((status = 201, description = "It is on disk", body = NewTokenAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    JsonBody(mut request): JsonBody<TokenRequest>,
) -> Result<Response, Failure> {
    if let Some(own) = principal.tenant_name() {
        let tenant = request.tenant.get_or_insert_with(|| own.to_owned());
        if tenant != own {
            return Err(tenants::unknown(tenant).at("/tenant"));
        }
        // Names are of the whole server: that another has one is not to be told.
        if !request.name.starts_with(&format!("{own}.")) {
            let failure = Failure::field("/name", format!("names of tokens of `{own}` begin with `{own}.`"));
            return Err(failure.suggest(format!("call it `{own}.{}`", request.name)));
        }
    }
    let (token, entry) = limits::blocking(move || state.access.create(request.read()?)).await?;
    let mut response = (StatusCode::CREATED, Json(NewTokenAnswer::new(token, &entry))).into_response();
    response.extensions_mut().insert(AuditObject(entry.name));
    Ok(response)
}

/// Lists the tokens, by name.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "list_tokens", tag = "operations", params(PageParameters),
    responses((status = 200, body = TokensAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<TokensAnswer> {
    let all = state.access.list(&principal)?;
    let (tokens, next) = parameters.by_name(all.iter().map(TokenAnswer::from), |token| &token.name)?;
    Ok(Json(TokensAnswer { tokens, next }))
}

/// Revokes a token: calls that begin from now on are refused.
#[utoipa::path(delete, path = "/v1/tokens/{name}", operation_id = "delete_token", tag = "operations",
    params(("name" = String, Path)), responses((status = 204, description = "It is revoked, on disk")))]
pub(in crate::rest) async fn delete(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    limits::blocking(move || state.access.revoke(&name, &principal)).await?;
    Ok(StatusCode::NO_CONTENT)
}
