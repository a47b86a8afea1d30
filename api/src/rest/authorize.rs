//! Before every request: whether its sender may do what it asks for.
//!
//! [`policy`] is the one list of what a call needs; a test compares it with the description of the API, so that no route can be
//! without one.

use crate::access::{Principal, Scope};
use crate::audit::{Record, Telling, text_hash};
use crate::error::{Failure, Kind};
use crate::privacy::doors;
use crate::queries::Door;
use crate::rest::observe::RequestId;
use crate::state::AppState;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use std::net::SocketAddr;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing: it tells nothing of the data.
    Open,
    /// A token with all of these scopes.
    Scopes(&'static [Scope]),
    /// The same, and of no tenant: it is about the server as a whole.
    Operator(&'static [Scope]),
}

impl Policy {
    /// The scopes that are needed.
    pub fn scopes(self) -> &'static [Scope] {
        match self {
            Policy::Open => &[],
            Policy::Scopes(scopes) | Policy::Operator(scopes) => scopes,
        }
    }

    /// Whether such a call sends or changes something, or tells who may.
    fn is_change(self, method: &Method) -> bool {
        let scopes = self.scopes();
        let is_more = [Scope::Ingest, Scope::Admin, Scope::Erase].iter().any(|scope| scopes.contains(scope));
        is_more || [PUT, DELETE].contains(&method)
    }

    /// # Errors
    /// [`Kind::Forbidden`] if somebody may not.
    fn check(self, principal: &Principal) -> Result<(), Failure> {
        if matches!(self, Policy::Operator(_)) && !principal.is_operator() {
            let detail = "this is about the server as a whole, and the token is of a tenant, or for a purpose";
            return Err(Failure::new(Kind::Forbidden, detail).suggest("ask the operator of the server"));
        }
        principal.need(self.scopes())
    }
}

const QUERY: Policy = Policy::Scopes(&[Scope::Query]);
/// Tells which users they are.
const EXPORT: Policy = Policy::Scopes(&[Scope::Query, Scope::Export]);
const INGEST: Policy = Policy::Scopes(&[Scope::Ingest]);
/// Of one's own tenant.
const ADMIN: Policy = Policy::Scopes(&[Scope::Admin]);
const OPERATOR_QUERY: Policy = Policy::Operator(&[Scope::Query]);
const OPERATOR_ADMIN: Policy = Policy::Operator(&[Scope::Admin]);
const ERASE: Policy = Policy::Operator(&[Scope::Erase]);
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
        "/metrics" => OPERATOR_QUERY,
        "/v1/count" | "/v1/profile" | "/v1/overlap" | "/v1/funnel" | "/v1/sequence" | "/v1/retention" | "/v1/path"
        | "/v1/attribution" | "/v1/effect" | "/v1/experiment" => QUERY,
        "/v1/translate" | "/v1/status" => QUERY,
        // Plans tell how much is read, and how much there is.
        "/v1/explain" => OPERATOR_QUERY,
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
        "/v1/catalog" if method == PUT => OPERATOR_ADMIN,
        "/v1/audiences" => QUERY,
        "/v1/audiences/{name}" if [GET, PUT, DELETE].contains(&method) => QUERY,
        "/v1/audiences/{name}/sizes" => QUERY,
        "/v1/audiences/{name}/members" | "/v1/audiences/{name}/changes" | "/v1/audiences/{name}/movement" => EXPORT,
        "/v1/sources" | "/v1/sources/{name}" | "/v1/sinks" | "/v1/sinks/{name}" if method == GET => OPERATOR_QUERY,
        route
            if method == POST
                && (route.starts_with("/v1/sources/{name}/") || route.starts_with("/v1/sinks/{name}/")) =>
        {
            OPERATOR_ADMIN
        }
        "/v1/jobs" | "/v1/jobs/{id}" if method == GET => OPERATOR_QUERY,
        "/v1/jobs" | "/v1/jobs/{id}" if method == POST || method == DELETE => OPERATOR_ADMIN,
        "/v1/tenants" | "/v1/tenants/{name}" | "/v1/purposes" | "/v1/purposes/{name}" => OPERATOR_ADMIN,
        // Of statements each sees and cancels their own.
        "/v1/queries" | "/v1/queries/{id}" => QUERY,
        "/v1/tokens" | "/v1/tokens/{name}" => ADMIN,
        _ => return None,
    })
}

/// Lets the request through if its sender may; tells handlers who that is, and the audit log what was refused, sent or changed. (What was
/// asked is told when the question is over.)
pub async fn authorize(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    // What no route has is told to everybody.
    let Some(route) = request.extensions().get::<MatchedPath>().cloned() else { return next.run(request).await };
    let policy = policy(request.method(), route.as_str());
    if policy == Some(Policy::Open) {
        return next.run(request).await;
    }
    let missing = state.access.missing_keys(authorization(&request));
    if let Some(keys) = missing {
        keys.await;
    }
    let principal = state.access.check(authorization(&request));
    let allowed = match (&principal, policy) {
        (Ok(principal), Some(policy)) => {
            let may = state.rates.check(principal).and_then(|()| policy.check(principal));
            may.and_then(|()| doors::check(principal, request.method(), route.as_str()))
                .and_then(|()| state.audit().check())
        }
        // The router tells which methods there are.
        (Ok(principal), None) if principal.token.is_none() => Ok(()),
        (Ok(_), None) => {
            let detail = format!("{} does not take {}", route.as_str(), request.method());
            Err(Failure::new(Kind::MethodNotAllowed, detail))
        }
        (Err(failure), _) => Err(failure.clone()),
    };
    // Whoever listens to changes is told ids for as long as they like.
    let is_change =
        route.as_str().ends_with("/changes") || policy.is_some_and(|policy| policy.is_change(request.method()));
    let record = record_of(&request, route.as_str());
    let record = match &principal {
        Ok(principal) => record.by(principal),
        Err(_) => record,
    };
    // A question that nobody waits for any more is told as one, where it is answered.
    let mut told = Telling::new(state.audit(), is_change.then(|| record.clone()));
    let response = match (&principal, allowed) {
        (Ok(principal), Ok(())) => {
            request.extensions_mut().insert(principal.clone());
            next.run(request).await
        }
        (_, Err(failure)) => failure.into_response(),
        (Err(failure), Ok(())) => failure.clone().into_response(),
    };
    let status = response.status().as_u16();
    if is_change || [401, 403].contains(&status) {
        let object = response.extensions().get::<AuditObject>().map(|object| object.0.clone());
        told.record = Some(Record { object: object.or(record.object.clone()), ..record.answered(status) });
    }
    response
}

/// What a request says to be let in by. What is no text is no token either.
fn authorization(request: &Request) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
}

/// What a call was about, where its path does not say it: put into an answer, for the audit log.
#[derive(Clone, Debug)]
pub struct AuditObject(pub String);

/// What the audit log tells of a call.
fn record_of(request: &Request, route: &str) -> Record {
    // Names are told, ids of users are not.
    let is_user = route.starts_with("/v1/users/");
    let parts = route.split('/').zip(request.uri().path().split('/'));
    let named = parts.filter(|(pattern, _)| pattern.starts_with('{')).map(|(_, part)| {
        let part = percent_decode_str(part).decode_utf8_lossy();
        if is_user { text_hash(&part) } else { part.into_owned() }
    });
    let named = named.collect::<Vec<_>>().join("/");
    // A method may be any word.
    let is_known = [GET, PUT, POST, DELETE, &Method::HEAD].contains(&request.method());
    let method = if is_known { request.method().as_str() } else { "OTHER" };
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip().to_string());
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    let object = (!named.is_empty()).then_some(named);
    Record::of_call(Door::Rest, &format!("{method} {route}"), object.as_deref()).from(from, id)
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
