//! What of the data somebody may see, as a snapshot: the operator's is the whole, a tenant's has its part of the catalog, its own audiences by
//! its own names, and the users that its filter says; whoever asks for a purpose has those who agreed to it. Whatever asks this snapshot
//! can tell nothing else, and what is another's is not there.

use super::Principal;
use super::tenants::{Ownable, Tenant, Tenants};
use crate::error::{Failure, Kind};
use crate::rest::v1::expression::{Bound, Where};
use crate::state::lock;
use engine::audience::ops::{self, QueryContext};
use engine::audience::parse::parse;
use engine::audience::predicate::Predicate;
use engine::catalog::Catalog;
use engine::ids::Epoch;
use engine::store::{Audience, Definition, Snapshot};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long users that a filter found stand for a snapshot: the clock alone may change whom it means.
const FOUND_FOR: Duration = Duration::from_secs(1);

/// Views that were made lately.
#[derive(Debug, Default)]
pub struct Views {
    of: Mutex<HashMap<String, Kept>>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    names: Option<Names>,
    users: Option<Users>,
}

/// What a tenant knows by name.
#[derive(Clone, Debug)]
struct Names {
    /// What they were made of.
    of: (Arc<Catalog>, Arc<BTreeMap<String, Audience>>, Arc<Tenants>),
    catalog: Arc<Catalog>,
    audiences: Arc<BTreeMap<String, Audience>>,
}

/// Whom the filters of a tenant and of purposes found.
#[derive(Clone, Debug)]
struct Users {
    filters: Vec<String>,
    epoch: Epoch,
    found_at: Instant,
    shards: Arc<Vec<RoaringBitmap>>,
}

impl Views {
    /// What somebody may ask. Finds the users of a tenant's filter, unless it did just now: to be called where questions are answered.
    ///
    /// # Errors
    /// [`Kind::Forbidden`] if the filter means nothing any more; as [`ops::slots`].
    pub fn of(
        &self,
        whole: &Snapshot,
        principal: &Principal,
        tenants: &Arc<Tenants>,
        context: &QueryContext,
    ) -> Result<Snapshot, Failure> {
        if principal.is_operator() {
            return Ok(whole.clone());
        }
        let view = self.catalog_of(whole, principal, tenants);
        Ok(match self.users(whole, principal, tenants, context)? {
            None => view,
            Some(users) => view.only(&users),
        })
    }

    /// What somebody knows by name, to be looked up and not to be asked: a tenant's shows nobody.
    pub fn names(&self, whole: &Snapshot, principal: &Principal, tenants: &Arc<Tenants>) -> Snapshot {
        match principal.is_operator() {
            true => whole.clone(),
            false => self.catalog_of(whole, principal, tenants).only(&[]),
        }
    }

    fn catalog_of(&self, whole: &Snapshot, principal: &Principal, tenants: &Arc<Tenants>) -> Snapshot {
        match &principal.tenant {
            Some(tenant) => self.named(whole, tenant, tenants),
            None if principal.is_operator() => whole.clone(),
            // All that is declared, and nothing of the server's own: raw records may be of anybody.
            None => {
                let declared = whole.catalog().part(|_| true, |_| true, |_| true);
                whole.part(Arc::new(declared), whole.shared_audiences())
            }
        }
    }

    /// The same of what they may write to: of a tenant what it owns.
    pub fn writable(&self, whole: &Snapshot, principal: &Principal) -> Snapshot {
        let Some(tenant) = &principal.tenant else {
            return if principal.is_operator() { whole.clone() } else { whole.only(&[]) };
        };
        let owns = &tenant.owns;
        let catalog = whole.catalog().part(
            |name| owns.tags.contains(name),
            |name| owns.facts.contains(name),
            |name| owns.spaces.contains(name),
        );
        whole.part(Arc::new(catalog), Arc::default()).only(&[])
    }

    fn named(&self, whole: &Snapshot, tenant: &Tenant, tenants: &Arc<Tenants>) -> Snapshot {
        let of = (whole.shared_catalog(), whole.shared_audiences(), Arc::clone(tenants));
        let is_same = |names: &Names| {
            Arc::ptr_eq(&names.of.0, &of.0) && Arc::ptr_eq(&names.of.1, &of.1) && Arc::ptr_eq(&names.of.2, &of.2)
        };
        let known = lock(&self.of).get(&tenant.name).and_then(|kept| kept.names.clone()).filter(is_same);
        let names = known.unwrap_or_else(|| {
            let names = Names {
                catalog: Arc::new(part_of(&of.0, tenant, tenants)),
                audiences: Arc::new(own_audiences(&of.1, tenant)),
                of,
            };
            lock(&self.of).entry(tenant.name.clone()).or_default().names = Some(names.clone());
            names
        });
        whole.part(names.catalog, names.audiences)
    }

    /// `None`: everybody.
    fn users(
        &self,
        whole: &Snapshot,
        principal: &Principal,
        tenants: &Tenants,
        context: &QueryContext,
    ) -> Result<Option<Arc<Vec<RoaringBitmap>>>, Failure> {
        let of_tenant = principal.tenant.iter().map(|tenant| tenant.filter.clone());
        let filters: Vec<String> =
            of_tenant.chain(principal.purposes.iter().map(|purpose| purpose.filter.clone())).collect();
        let name = name_of(principal);
        let is_now = |users: &Users| {
            users.epoch == whole.epoch() && users.filters == filters && users.found_at.elapsed() < FOUND_FOR
        };
        let known = lock(&self.of).get(&name).and_then(|kept| kept.users.clone()).filter(is_now);
        if let Some(users) = known {
            return Ok(Some(users.shards));
        }
        let bound = filters.iter().map(|filter| bound_filter(&Where::Text(filter.clone()), whole, tenants));
        let bound = bound.collect::<Result<Vec<Bound>, Failure>>().map_err(|failure| {
            tracing::warn!(token = principal.name(), %failure, "the filter of a tenant or a purpose cannot be asked");
            let detail = "which users may be seen with this token cannot be told: the filter of its tenant, or of what it is for, means nothing any more";
            Failure::new(Kind::Forbidden, detail).suggest("tell the operator of this server")
        })?;
        let predicate = Predicate::And(bound.into_iter().map(|bound| bound.predicate).collect()).canonical();
        if predicate == Predicate::All {
            return Ok(None);
        }
        let found_at = Instant::now();
        let shards = Arc::new(ops::slots(whole, &predicate, context)?);
        let users = Users { filters, epoch: whole.epoch(), found_at, shards: Arc::clone(&shards) };
        lock(&self.of).entry(name).or_default().users = Some(users);
        Ok(Some(shards))
    }
}

/// What views of somebody are kept by: who has the same one sees the same.
fn name_of(principal: &Principal) -> String {
    // No name has a line break.
    let purposes = principal.purposes.iter().map(|purpose| format!("\n{}", purpose.name));
    purposes.fold(principal.tenant_name().unwrap_or_default().to_owned(), |name, purpose| name + &purpose)
}

/// A filter of a tenant or a purpose, which may rest on nothing that a tenant writes: on what of the catalog nobody owns, and the operator's audiences.
///
/// # Errors
/// As [`Where::bind`], at `/where`.
pub(crate) fn bound_filter(filter: &Where, whole: &Snapshot, tenants: &Tenants) -> Result<Bound, Failure> {
    let is_shared = |what: Ownable, name: &str| tenants.owner(what, name).is_none();
    let catalog = whole.catalog().part(
        |name| is_shared(Ownable::Tag, name),
        |name| is_shared(Ownable::Fact, name),
        |name| is_shared(Ownable::Space, name),
    );
    let of_operator =
        |(name, audience): (&String, &Audience)| (!name.contains('/')).then(|| (name.clone(), audience.clone()));
    let audiences = whole.audiences().iter().filter_map(of_operator).collect();
    filter.bind_with(&catalog, &audiences, "/where")
}

/// What is the tenant's own or nobody's.
fn part_of(catalog: &Catalog, tenant: &Tenant, tenants: &Tenants) -> Catalog {
    let sees = |what: Ownable, name: &str| tenants.owner(what, name).is_none_or(|owner| owner == tenant.name);
    catalog.part(|name| sees(Ownable::Tag, name), |name| sees(Ownable::Fact, name), |name| sees(Ownable::Space, name))
}

fn own_audiences(all: &BTreeMap<String, Audience>, tenant: &Tenant) -> BTreeMap<String, Audience> {
    let own = |(name, audience): (&String, &Audience)| {
        let name = tenant.own_name(name)?.to_owned();
        let own_names = |text: &str| renamed(text, &|name| tenant.own_name(name).unwrap_or(name).to_owned());
        Some((name, with_text(audience.clone(), own_names)))
    };
    all.iter().filter_map(own).collect()
}

/// An audience whose expression is written otherwise.
pub(crate) fn with_text(audience: Audience, change: impl FnOnce(&str) -> String) -> Audience {
    let definition = match audience.definition {
        Definition::Expression(text) => Definition::Expression(change(&text)),
        Definition::Live { expression, list_id } => Definition::Live { expression: change(&expression), list_id },
        uploaded @ Definition::Uploaded { .. } => uploaded,
    };
    Audience { definition, ..audience }
}

/// An expression that calls audiences by other names; what is none stays as it is.
pub(crate) fn renamed(text: &str, rename: &impl Fn(&str) -> String) -> String {
    match parse(text) {
        Ok(mut expr) => {
            expr.rename_audiences(rename);
            expr.to_string()
        }
        Err(_) => text.to_owned(),
    }
}
