//! Who calls, and what they may do.

use super::purposes::Purpose;
use super::tenants::Tenant;
use crate::error::{Failure, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What who needs no token is called.
pub(super) const ANONYMOUS: &str = "anonymous";

/// What a token may be used for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Ask for figures; save audiences.
    Query,
    /// See which users they are: members, samples, SQL.
    Export,
    /// Send updates, events and lists of users.
    Ingest,
    /// Change the catalog, run sources, sinks and jobs, make tokens.
    Admin,
    /// Erase users, and let their ids in again.
    Erase,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 5] = [Scope::Query, Scope::Export, Scope::Ingest, Scope::Admin, Scope::Erase];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Query => "query",
            Scope::Export => "export",
            Scope::Ingest => "ingest",
            Scope::Admin => "admin",
            Scope::Erase => "erase",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token, or `jwt:` and whom it is about; `None` where nobody needs one.
    pub token: Option<String>,
    /// Tells them apart from everybody else, also from who had a token of this name before.
    pub(super) id: String,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// Of whom they are; `None`: the operator.
    pub tenant: Option<Arc<Tenant>>,
    /// What they ask for: they see users who agreed to all of it; none: everybody.
    pub purposes: Vec<Arc<Purpose>>,
}

impl Principal {
    /// Somebody at a server without tokens.
    pub fn anyone() -> Principal {
        Principal { token: None, id: String::new(), scopes: Scope::ALL.into(), tenant: None, purposes: Vec::new() }
    }

    /// What they are called in lists.
    pub fn name(&self) -> &str {
        self.token.as_deref().unwrap_or(ANONYMOUS)
    }

    /// See the field.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether they may see the server as a whole.
    pub fn is_operator(&self) -> bool {
        self.tenant.is_none() && self.purposes.is_empty()
    }

    /// The name of their tenant.
    pub fn tenant_name(&self) -> Option<&str> {
        self.tenant.as_ref().map(|tenant| tenant.name.as_str())
    }

    /// Whether what another asked is theirs to see: if they are the same, and everything of their tenant for who may do everything there.
    pub fn may_see(&self, of: &Principal) -> bool {
        let is_within = self.tenant.is_none() || self.tenant_name() == of.tenant_name();
        self.id == of.id || is_within && self.scopes.contains(&Scope::Admin)
    }

    /// What an audience is called among those of all.
    pub fn whole_name(&self, audience: &str) -> String {
        self.tenant.as_ref().map_or_else(|| audience.to_owned(), |tenant| tenant.whole_name(audience))
    }

    /// What an audience is called that they define or forget.
    ///
    /// # Errors
    /// [`Kind::Forbidden`] of one of the operator's who asks for a purpose: what may be seen for it rests on such audiences.
    pub fn defined_name(&self, audience: &str) -> Result<String, Failure> {
        if self.tenant.is_none() && !self.purposes.is_empty() {
            let detail = format!("the token `{}` is for a purpose, and changes no audience", self.name());
            return Err(Failure::new(Kind::Forbidden, detail).suggest("ask whoever made it for one of a tenant"));
        }
        Ok(self.whole_name(audience))
    }

    #[cfg(test)]
    pub(crate) fn with_token(name: &str, id: &str, scopes: &[Scope]) -> Principal {
        let scopes = scopes.iter().copied().collect();
        Principal { token: Some(name.to_owned()), id: id.to_owned(), scopes, tenant: None, purposes: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn of(self, tenant: Tenant) -> Principal {
        Principal { tenant: Some(Arc::new(tenant)), ..self }
    }

    /// # Errors
    /// [`Kind::Forbidden`] if a scope is missing.
    pub fn need(&self, scopes: &[Scope]) -> Result<(), Failure> {
        let Some(missing) = scopes.iter().find(|scope| !self.scopes.contains(scope)) else { return Ok(()) };
        let detail = format!("the token `{}` has not the scope `{}`", self.name(), missing.name());
        Err(Failure::new(Kind::Forbidden, detail).suggest("ask whoever made it for one that has"))
    }
}
