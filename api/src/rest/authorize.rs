//! Before every request: whether its sender may do what it asks for.
//!
//! [`policy`] is the one list of what a call needs; a test compares it with the description of the API, so that no route can be
//! without one.

use crate::access::Scope;
use crate::error::{Failure, Kind};
use crate::state::AppState;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing: it tells nothing of the data.
    Open,
    /// A token with all of these scopes.
    Scopes(&'static [Scope]),
}

const QUERY: Policy = Policy::Scopes(&[Scope::Query]);
/// Tells which users they are.
const EXPORT: Policy = Policy::Scopes(&[Scope::Query, Scope::Export]);
const INGEST: Policy = Policy::Scopes(&[Scope::Ingest]);
const ADMIN: Policy = Policy::Scopes(&[Scope::Admin]);
const ERASE: Policy = Policy::Scopes(&[Scope::Erase]);
const POST: &Method = &Method::POST;
const GET: &Method = &Method::GET;
const PUT: &Method = &Method::PUT;
const DELETE: &Method = &Method::DELETE;

/// What a route needs; `None` for a route that nobody has decided about, which is then for nobody.
pub fn policy(method: &Method, route: &str) -> Option<Policy> {
    // A HEAD is answered as a GET.
    let method = if method == Method::HEAD { GET } else { method };
    Some(match route {
        "/" | "/openapi.json" | "/healthz" | "/readyz" => Policy::Open,
        route if route == "/docs" || route.starts_with("/docs/") => Policy::Open,
        // The pages; what they show they ask for with the reader's token.
        "/console/{*path}" => Policy::Open,
        "/metrics" => QUERY,
        "/v1/count" | "/v1/profile" | "/v1/overlap" | "/v1/funnel" | "/v1/sequence" | "/v1/retention" | "/v1/path"
        | "/v1/attribution" | "/v1/effect" | "/v1/experiment" => QUERY,
        "/v1/explain" | "/v1/translate" | "/v1/status" => QUERY,
        "/v1/users/{id}" if method == DELETE => ERASE,
        "/v1/erasures" | "/v1/erasures/{id}" | "/v1/admissions" => ERASE,
        "/v1/members"
        | "/v1/sample"
        | "/v1/top"
        | "/v1/lookalike"
        | "/v1/sql"
        | "/v1/users/{id}"
        | "/v1/users/{id}/explain" => EXPORT,
        "/v1/tags" | "/v1/facts/{fact}" | "/v1/spaces/{space}" => INGEST,
        "/v1/catalog" if method == GET => QUERY,
        "/v1/catalog" if method == PUT => ADMIN,
        "/v1/audiences" => QUERY,
        "/v1/audiences/{name}" if [GET, PUT, DELETE].contains(&method) => QUERY,
        "/v1/audiences/{name}/sizes" => QUERY,
        "/v1/audiences/{name}/members" | "/v1/audiences/{name}/changes" | "/v1/audiences/{name}/movement" => EXPORT,
        "/v1/sources" | "/v1/sources/{name}" | "/v1/sinks" | "/v1/sinks/{name}" if method == GET => QUERY,
        route
            if method == POST
                && (route.starts_with("/v1/sources/{name}/") || route.starts_with("/v1/sinks/{name}/")) =>
        {
            ADMIN
        }
        "/v1/jobs" | "/v1/jobs/{id}" if method == GET => QUERY,
        "/v1/jobs" | "/v1/jobs/{id}" if method == POST || method == DELETE => ADMIN,
        // Of statements each sees and cancels their own.
        "/v1/queries" | "/v1/queries/{id}" => QUERY,
        "/v1/tokens" | "/v1/tokens/{name}" => ADMIN,
        _ => return None,
    })
}

/// Lets the request through if its sender may; tells handlers who that is.
pub async fn authorize(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    // What no route has is told to everybody.
    let Some(route) = request.extensions().get::<MatchedPath>().cloned() else { return next.run(request).await };
    let policy = policy(request.method(), route.as_str());
    if policy == Some(Policy::Open) {
        return next.run(request).await;
    }
    let authorization = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str());
    // What is no text is no token either.
    let principal = state.access.check(authorization.map(|text| text.unwrap_or_default()));
    let allowed = principal.and_then(|principal| match policy {
        Some(Policy::Scopes(scopes)) => principal.need(scopes).map(|()| principal),
        // The router tells which methods there are.
        _ if principal.token.is_none() => Ok(principal),
        _ => {
            Err(Failure::new(Kind::MethodNotAllowed, format!("{} does not take {}", route.as_str(), request.method())))
        }
    });
    match allowed {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::router::description;

    #[test]
    fn every_route_has_a_policy() {
        for (path, item) in description().paths.paths {
            let operations = [(GET, item.get), (PUT, item.put), (POST, item.post), (DELETE, item.delete)];
            for (method, _) in operations.into_iter().filter(|(_, operation)| operation.is_some()) {
                let policy = policy(method, &path);
                assert!(policy.is_some(), "{method} {path}: nobody has decided who may");
                let tells_data = path.starts_with("/v1/") || path == "/metrics";
                assert_eq!(policy == Some(Policy::Open), !tells_data, "{method} {path}");
            }
            assert!(item.patch.is_none() && item.head.is_none() && item.options.is_none(), "{path}: another method");
        }
        assert_eq!(policy(GET, "/v1/new"), None);
        assert_eq!(policy(DELETE, "/v1/catalog"), None);
    }
}
