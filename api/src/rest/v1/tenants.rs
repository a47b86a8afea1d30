//! `/v1/tenants`: who shares this server, what is their own, and which users they see.

use super::expression::Where;
use super::number;
use super::page::PageParameters;
use crate::access::tenants::{Limits, Ownable, Owned, Tenant, Tenants, unknown};
use crate::access::view::bound_filter;
use crate::error::{Failure, Kind};
use crate::privacy::{Privacy, Used};
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::audience::suggest::closest;
use engine::catalog::Catalog;
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};

/// What a tenant shall be.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "advertiser = 'acme'", "owns": {"tags": ["acme_value"]}, "description": "Acme Inc."}))]
pub struct TenantRequest {
    /// Which users it sees, by what of the catalog no tenant owns, and the operator's audiences; `TRUE`: everybody.
    pub r#where: Where,
    /// What of the catalog only it sees, and it alone writes to; what nobody owns all see.
    #[serde(default)]
    pub owns: Owned,
    /// How much of the server it may take.
    #[serde(default)]
    pub limits: Limits,
    /// What it is told of its users; left out: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// The purpose that all its tokens are for: it sees the users who agreed to it, and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantAnswer {
    /// What it is called.
    pub name: String,
    /// Which users it sees, in canonical form.
    pub r#where: String,
    /// What is its own.
    pub owns: Owned,
    /// How much of the server it may take.
    pub limits: Limits,
    /// What it is told of its users; left out: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// The purpose that all its tokens are for: it sees the users who agreed to it, and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// How much of that was used; of one tenant under a policy, when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_used: Option<Used>,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub changed_at: String,
}

/// A page of tenants, by name.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantsAnswer {
    /// The tenants.
    pub tenants: Vec<TenantAnswer>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl From<&Tenant> for TenantAnswer {
    fn from(tenant: &Tenant) -> TenantAnswer {
        TenantAnswer {
            name: tenant.name.clone(),
            r#where: tenant.filter.clone(),
            owns: tenant.owns.clone(),
            limits: tenant.limits,
            privacy: tenant.privacy.clone(),
            privacy_used: None,
            purpose: tenant.purpose.clone(),
            description: tenant.description.clone(),
            created_at: number::time(tenant.created_at.into()),
            changed_at: number::time(tenant.changed_at.into()),
        }
    }
}

impl TenantRequest {
    /// The tenant of a name, if the filter means something and what it owns is declared.
    fn read(self, name: String, snapshot: &Snapshot, tenants: &Tenants) -> Result<Tenant, Failure> {
        // What it owns from now on it writes, so that its filter cannot rest on that.
        let mut after = Tenants::clone(tenants);
        after.suppose(&name, &self.owns);
        let filter = bound_filter(&self.r#where, snapshot, &after)?.text;
        for (what, owned) in self.owns.all() {
            check_declared(snapshot.catalog(), what, owned)?;
        }
        let now = jiff::Timestamp::now().as_microsecond();
        let TenantRequest { owns, limits, privacy, purpose, description, .. } = self;
        Ok(Tenant { name, description, filter, owns, limits, privacy, purpose, created_at: now, changed_at: now })
    }
}

fn check_declared(catalog: &Catalog, what: Ownable, name: &str) -> Result<(), Failure> {
    let (pointer, is_there, near) = match what {
        Ownable::Tag => {
            ("/owns/tags", catalog.tag(name).is_some(), closest(name, catalog.tags().map(|(name, _)| name)))
        }
        Ownable::Fact => (
            "/owns/facts",
            catalog.declared_fact(name).is_some(),
            closest(name, catalog.declared_facts().map(|(name, _)| name)),
        ),
        Ownable::Space => {
            ("/owns/spaces", catalog.space(name).is_some(), closest(name, catalog.spaces().map(|(name, _)| name)))
        }
    };
    if is_there {
        return Ok(());
    }
    let failure = Failure::field(pointer, format!("the catalog has no `{name}`"));
    Err(match near {
        Some(near) => failure.suggest(format!("did you mean `{near}`?")),
        None => failure.suggest("declare it in the catalog first"),
    })
}

/// Lists the tenants, by name.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "list_tenants", tag = "operations", params(PageParameters),
    responses((status = 200, body = TenantsAnswer)))]
pub(in crate::rest) async fn list(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PageParameters>,
) -> Answer<TenantsAnswer> {
    let all = state.access.tenants()?;
    let (tenants, next) =
        parameters.by_name(all.all().map(|tenant| TenantAnswer::from(&**tenant)), |tenant| &tenant.name)?;
    Ok(Json(TenantsAnswer { tenants, next }))
}

/// Tells what a tenant is.
#[utoipa::path(get, path = "/v1/tenants/{name}", operation_id = "get_tenant", tag = "operations",
    params(("name" = String, Path)), responses((status = 200, body = TenantAnswer)))]
pub(in crate::rest) async fn get(State(state): State<AppState>, Path(name): Path<String>) -> Answer<TenantAnswer> {
    limits::blocking(move || {
        let all = state.access.tenants()?;
        let tenant = all.find(&name).ok_or_else(|| unknown(&name))?;
        let privacy_used = state.privacy.of_tenant(tenant)?.map(|guard| guard.used());
        Ok(Json(TenantAnswer { privacy_used, ..TenantAnswer::from(&**tenant) }))
    })
    .await
}

/// Makes a tenant, or changes the one of this name.
///
/// Tokens of a tenant (`POST /v1/tokens` with `tenant`) see the users of `where`, what of the catalog it owns or nobody does, and audiences of
/// their own. What is another tenant's is to them as if it were not there. A change counts for questions that begin from now on.
#[utoipa::path(put, path = "/v1/tenants/{name}", operation_id = "put_tenant", tag = "operations",
    params(("name" = String, Path)), request_body = TenantRequest,
    responses((status = 200, description = "Changed", body = TenantAnswer), (status = 201, description = "New", body = TenantAnswer)))]
pub(in crate::rest) async fn put(
    State(state): State<AppState>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<TenantRequest>,
) -> Result<Response, Failure> {
    let changing = state.lock_definitions().await;
    limits::blocking(move || {
        let _changing = changing;
        let asked = request.read(name, &state.whole()?, &*state.access.tenants()?)?;
        let (tenant, is_new) = state.access.put_tenant(asked)?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(TenantAnswer::from(&*tenant))).into_response())
    })
    .await
}

/// Forgets a tenant that has no tokens and no audiences any more.
#[utoipa::path(delete, path = "/v1/tenants/{name}", operation_id = "delete_tenant", tag = "operations",
    params(("name" = String, Path)), responses((status = 204, description = "It is gone")))]
pub(in crate::rest) async fn delete(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let changing = state.lock_definitions().await;
    limits::blocking(move || {
        let _changing = changing;
        let all = state.access.tenants()?;
        let tenant = all.find(&name).ok_or_else(|| unknown(&name))?;
        let snapshot = state.whole()?;
        let audiences = snapshot.audiences().keys().filter(|whole| tenant.own_name(whole).is_some()).count();
        if audiences > 0 {
            let failure = Failure::new(Kind::StillUsed, format!("the tenant `{name}` has {audiences} audiences"));
            return Err(failure.suggest("delete them first"));
        }
        state.access.remove_tenant(&name)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
