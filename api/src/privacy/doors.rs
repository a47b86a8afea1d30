//! What is answered to a tenant under a privacy policy, by which door: one list, which refuses whatever it does not name.

use super::refused;
use crate::access::Principal;
use crate::error::Failure;
use axum::http::Method;

/// How a route answers under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// What it tells of users was asked of a guard.
    Guarded,
    /// It tells nothing of users.
    Plain,
    /// It does not.
    Refused,
}

/// How a route answers under a policy; `None` for one that nobody has decided about, which then does not.
pub fn answered(method: &Method, route: &str) -> Option<Answered> {
    use Answered::{Guarded, Plain, Refused};
    let is = |one: &Method| method == one || one == Method::GET && method == Method::HEAD;
    let (get, put, post) = (is(&Method::GET), is(&Method::PUT), is(&Method::POST));
    let delete = is(&Method::DELETE);
    Some(match route {
        // Numbers.
        "/v1/count" | "/v1/profile" | "/v1/overlap" if post => Guarded,
        // Lists: only of those who are many.
        "/v1/members" | "/v1/sample" | "/v1/top" | "/v1/lookalike" if post => Guarded,
        "/v1/audiences/{name}/members" if get => Guarded,
        // How many of an uploaded list are known is not told.
        "/v1/audiences/{name}" if put => Guarded,
        "/v1/audiences" if get => Plain,
        "/v1/audiences/{name}" if get || delete => Plain,
        "/v1/catalog" if get => Plain,
        "/v1/translate" if post => Plain,
        "/v1/status" if get => Plain,
        "/v1/tags" | "/v1/facts/{fact}" | "/v1/spaces/{space}" if post => Plain,
        "/v1/tokens" if get || post => Plain,
        "/v1/tokens/{name}" if delete => Plain,
        // Statements take any number apart.
        "/v1/sql" if post => Refused,
        // One user.
        "/v1/users/{id}" if get || delete => Refused,
        "/v1/users/{id}/explain" if post => Refused,
        // Many numbers, whose sets nobody looks at yet.
        "/v1/funnel" | "/v1/sequence" | "/v1/retention" | "/v1/path" | "/v1/attribution" | "/v1/effect"
        | "/v1/experiment"
            if post =>
        {
            Refused
        }
        "/v1/audiences/{name}/sizes" | "/v1/audiences/{name}/changes" if get => Refused,
        "/v1/audiences/{name}/movement" if get || post => Refused,
        // How long others of the tenant waited, and for how many rows.
        "/v1/queries" if get => Refused,
        "/v1/queries/{id}" if delete => Refused,
        // The operator's.
        "/metrics"
        | "/v1/explain"
        | "/v1/tenants"
        | "/v1/tenants/{name}"
        | "/v1/purposes"
        | "/v1/purposes/{name}"
        | "/v1/erasures"
        | "/v1/erasures/{id}"
        | "/v1/admissions"
        | "/v1/jobs"
        | "/v1/jobs/{id}" => Refused,
        "/v1/catalog" if put => Refused,
        route if route.starts_with("/v1/sources") || route.starts_with("/v1/sinks") => Refused,
        _ => return None,
    })
}

/// # Errors
/// [`crate::error::Kind::Forbidden`] if who is under a policy is not answered there.
pub fn check(principal: &Principal, method: &Method, route: &str) -> Result<(), Failure> {
    let is_under = principal.tenant.as_ref().is_some_and(|tenant| tenant.privacy.is_some());
    match answered(method, route) {
        Some(Answered::Guarded | Answered::Plain) => Ok(()),
        _ if is_under => Err(told(&format!("{method} {route}"))),
        _ => Ok(()),
    }
}

/// That somebody may ask statements, by whatever door.
///
/// # Errors
/// [`crate::error::Kind::Forbidden`] of who is under a policy.
pub fn check_statements(principal: &Principal) -> Result<(), Failure> {
    match principal.tenant.as_ref().is_some_and(|tenant| tenant.privacy.is_some()) {
        true => Err(told("SQL, over Flight or PostgreSQL's protocol,")),
        false => Ok(()),
    }
}

fn told(what: &str) -> Failure {
    refused(what)
        .suggest("ask POST /v1/count, /v1/profile or /v1/overlap; with the scope `export` also for lists of many users")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;
    use crate::access::tenants::Tenant;
    use crate::error::Kind;
    use crate::privacy::Privacy;
    use crate::rest::router::description;

    #[test]
    fn somebody_decided_about_every_route() {
        let (mut guarded, mut refused) = (0, 0);
        for (path, item) in description().paths.paths {
            let operations = [
                (Method::GET, item.get),
                (Method::PUT, item.put),
                (Method::POST, item.post),
                (Method::DELETE, item.delete),
            ];
            for (method, _) in operations.into_iter().filter(|(_, operation)| operation.is_some()) {
                if !path.starts_with("/v1/") && path != "/metrics" {
                    continue;
                }
                let answered = answered(&method, &path);
                assert!(answered.is_some(), "{method} {path}: nobody has decided what is told under a privacy policy");
                guarded += usize::from(answered == Some(Answered::Guarded));
                refused += usize::from(answered == Some(Answered::Refused));
            }
        }
        assert_eq!(guarded, 9, "what is new among these asks a guard");
        assert!(refused > 20);
    }

    #[test]
    fn what_nobody_decided_about_is_refused_under_a_policy_alone() {
        let of = |privacy| {
            let principal = Principal::with_token("a", "a", &[Scope::Query]);
            principal.of(Tenant { privacy, ..Tenant::named("acme") })
        };
        let (free, under) = (of(None), of(Some(Privacy::of(100))));
        for (method, route) in [(Method::POST, "/v1/new"), (Method::POST, "/v1/sql"), (Method::PUT, "/v1/count")] {
            assert_eq!(check(&free, &method, route), Ok(()), "{route}");
            let failure = check(&under, &method, route).expect_err("refused");
            assert_eq!(failure.kind, Kind::Forbidden, "{route}");
            assert!(failure.detail.contains("not answered under a minimum audience size"), "{failure:?}");
        }
        assert_eq!(check(&under, &Method::POST, "/v1/count"), Ok(()));
        assert!(check_statements(&free).is_ok() && check_statements(&under).is_err());
        assert!(check_statements(&Principal::anyone()).is_ok());
    }
}
