//! Who shares a server: tenants, as the file `tenants.json` of the data directory keeps them.
//!
//! A tenant has tokens, audiences and lists of its own, may own tags, facts and vector spaces, and sees the users that its filter says.
//! Whoever has a token of no tenant is the operator, who sees everything. What all that comes to is a view of the data: see
//! [`super::view`].

use super::file;
use crate::error::{Failure, Kind};
use crate::privacy::Privacy;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most tenants of a server.
pub const TENANTS_MAX: usize = 10_000;
/// Bytes of the longest name.
pub const TENANT_NAME_BYTES_MAX: usize = 64;
/// Bytes of the longest description.
const DESCRIPTION_BYTES_MAX: usize = 1_000;
/// Names that a tenant may own.
const OWNED_MAX: usize = 10_000;

/// What only its tenant sees and writes; the rest of the catalog is shared, to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Owned {
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Facts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub facts: BTreeSet<String>,
    /// Vector spaces.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub spaces: BTreeSet<String>,
}

/// How much of the server a tenant may take; what is left out is not limited but by the server's own settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls in a second, over all its tokens and doors; twice as many may come at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub calls_per_second: Option<NonZeroU32>,
    /// Questions that are answered at a time; more wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub concurrent_queries: Option<NonZeroU32>,
}

/// A tenant. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// What it is called.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The audience expression that says which users it sees, in the operator's words; `TRUE`: everybody.
    pub filter: String,
    /// What is its own.
    #[serde(default)]
    pub owns: Owned,
    /// How much of the server it may take.
    #[serde(default)]
    pub limits: Limits,
    /// What it is told of its users; `None`: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// What all its tokens ask for; `None`: what each was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// When it was last changed.
    pub changed_at: i64,
}

/// What of the catalog a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ownable {
    /// A tag.
    Tag,
    /// A fact.
    Fact,
    /// A vector space.
    Space,
}

impl Ownable {
    /// As it is called, and how it is listed.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Ownable::Tag => ("tag", "tags"),
            Ownable::Fact => ("fact", "facts"),
            Ownable::Space => ("vector space", "spaces"),
        }
    }
}

impl Owned {
    /// All of it.
    pub fn all(&self) -> impl Iterator<Item = (Ownable, &String)> {
        let tags = self.tags.iter().map(|name| (Ownable::Tag, name));
        let facts = self.facts.iter().map(|name| (Ownable::Fact, name));
        tags.chain(facts).chain(self.spaces.iter().map(|name| (Ownable::Space, name)))
    }
}

impl Tenant {
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Tenant {
        Tenant {
            name: name.to_owned(),
            description: String::new(),
            filter: "TRUE".to_owned(),
            owns: Owned::default(),
            limits: Limits::default(),
            privacy: None,
            purpose: None,
            created_at: 1,
            changed_at: 1,
        }
    }

    /// What an audience of this tenant is called among those of all.
    pub fn whole_name(&self, audience: &str) -> String {
        format!("{}/{audience}", self.name)
    }

    /// What it calls an audience; `None` if that is not its own.
    pub fn own_name<'n>(&self, whole: &'n str) -> Option<&'n str> {
        whole.strip_prefix(self.name.as_str())?.strip_prefix('/')
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    tenants: BTreeMap<String, Arc<Tenant>>,
}

/// All tenants of a server.
#[derive(Clone, Debug)]
pub struct Tenants {
    path: PathBuf,
    content: Content,
    owners: BTreeMap<(Ownable, String), String>,
}

impl Tenants {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if it cannot be read; [`Kind::Corrupt`] if it is damaged: then nobody may be let in.
    pub fn open(data: &Path) -> Result<Tenants, Failure> {
        let path = data.join("tenants.json");
        let content = file::read(&path, "restore the file: it says who may see what")?.unwrap_or_default();
        let mut tenants = Tenants { path, content, owners: BTreeMap::new() };
        tenants.owners = owners(&tenants.content);
        Ok(tenants)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Arc<Tenant>> {
        self.content.tenants.values()
    }

    /// One of them.
    pub fn find(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.content.tenants.get(name)
    }

    /// The tenant that owns something of the catalog.
    pub fn owner(&self, what: Ownable, name: &str) -> Option<&str> {
        self.owners.get(&(what, name.to_owned())).map(String::as_str)
    }

    /// Puts what a tenant would own in the place of what it owns, without keeping it.
    pub(crate) fn suppose(&mut self, name: &str, owns: &Owned) {
        self.owners.retain(|_, owner| owner != name);
        let owned = owns.all().map(|(what, owned)| ((what, owned.clone()), name.to_owned()));
        self.owners.extend(owned);
    }

    /// Makes a tenant, or puts it in the place of the one of its name; on disk when this returns. Tells it, and whether it is new. What the
    /// filter means, and whether what is owned is declared, is for who has the catalog to check.
    ///
    /// # Errors
    /// [`Failure`] if a field is wrong, something is another's, there are too many, or the disk fails.
    pub fn put(&mut self, asked: Tenant) -> Result<(Arc<Tenant>, bool), Failure> {
        check(&asked)?;
        for (what, name) in asked.owns.all() {
            if let Some(owner) = self.owner(what, name).filter(|owner| *owner != asked.name) {
                let (one, all) = what.names();
                return Err(Failure::field(
                    format!("/owns/{all}"),
                    format!("the {one} `{name}` is owned by `{owner}`"),
                )
                .suggest("take it away from there first"));
            }
        }
        let mut content = self.content.clone();
        let before = content.tenants.get(&asked.name);
        if before.is_none() && content.tenants.len() >= TENANTS_MAX {
            let detail = format!("there are {TENANTS_MAX} tenants, the most there may be");
            return Err(Failure::new(Kind::StillUsed, detail).suggest("delete some that nobody uses"));
        }
        let is_new = before.is_none();
        let created_at = before.map_or(asked.created_at, |before| before.created_at);
        let tenant = Arc::new(Tenant { created_at, ..asked });
        content.tenants.insert(tenant.name.clone(), Arc::clone(&tenant));
        self.save(content)?;
        Ok((tenant, is_new))
    }

    /// Forgets a tenant; on disk when this returns. Who has tokens or audiences of it is for others to look at, before.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the disk's.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        let mut content = self.content.clone();
        if content.tenants.remove(name).is_none() {
            return Err(unknown(name));
        }
        self.save(content)
    }

    fn save(&mut self, content: Content) -> Result<(), Failure> {
        file::write(&self.path, &content)?;
        self.owners = owners(&content);
        self.content = content;
        Ok(())
    }
}

fn owners(content: &Content) -> BTreeMap<(Ownable, String), String> {
    let of = |tenant: &Arc<Tenant>| {
        let name = tenant.name.clone();
        tenant.owns.all().map(move |(what, owned)| ((what, owned.clone()), name.clone())).collect::<Vec<_>>()
    };
    content.tenants.values().flat_map(of).collect()
}

/// That there is no tenant of a name.
pub(crate) fn unknown(name: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no tenant `{name}`")).suggest("GET /v1/tenants lists them")
}

fn check(tenant: &Tenant) -> Result<(), Failure> {
    if !file::is_name(&tenant.name, TENANT_NAME_BYTES_MAX) {
        let detail = format!(
            "a tenant's name is a letter or digit and up to {} more, or `-`, `_` and `.`",
            TENANT_NAME_BYTES_MAX - 1
        );
        return Err(Failure::new(Kind::InvalidField, detail).at("name"));
    }
    if tenant.description.len() > DESCRIPTION_BYTES_MAX {
        let detail = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
        return Err(Failure::field("/description", detail));
    }
    if let Some(privacy) = &tenant.privacy {
        privacy.check()?;
    }
    if tenant.owns.all().count() > OWNED_MAX {
        return Err(Failure::field("/owns", format!("a tenant owns at most {OWNED_MAX} things")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, tags: &[&str]) -> Tenant {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let owns = Owned { tags, ..Owned::default() };
        Tenant { filter: "age > 20".to_owned(), owns, created_at: 5, changed_at: 5, ..Tenant::named(name) }
    }

    #[test]
    fn nothing_has_two_owners_and_all_is_kept() {
        let data = tempfile::tempdir().expect("a folder");
        let mut tenants = Tenants::open(data.path()).expect("opens");
        assert!(tenants.put(tenant("acme", &["ltv"])).expect("made").1);
        let refused = tenants.put(tenant("bolt", &["x", "ltv"])).expect_err("another's");
        assert!(refused.detail.contains("`acme`") && refused.pointer.as_deref() == Some("/owns/tags"), "{refused:?}");
        tenants.put(tenant("bolt", &["x"])).expect("made");
        let changed = Tenant { created_at: 9, changed_at: 9, ..tenant("acme", &["y"]) };
        let (acme, is_new) = tenants.put(changed).expect("changed");
        assert_eq!((acme.created_at, acme.changed_at, is_new), (5, 9, false));
        assert_eq!(tenants.owner(Ownable::Tag, "ltv"), None);
        assert_eq!(tenants.owner(Ownable::Tag, "y"), Some("acme"));
        assert_eq!(tenants.owner(Ownable::Fact, "y"), None);
        let again = Tenants::open(data.path()).expect("opens");
        assert_eq!(again.all().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["acme", "bolt"]);
        assert_eq!(again.owner(Ownable::Tag, "x"), Some("bolt"));
        tenants.remove("bolt").expect("there");
        assert_eq!(tenants.remove("bolt").expect_err("gone").kind, Kind::NotFound);
        for name in ["", "a/b", ".a", "a b", &"x".repeat(65)] {
            assert_eq!(tenants.put(tenant(name, &[])).expect_err("no name").kind, Kind::InvalidField, "{name}");
        }
        std::fs::write(data.path().join("tenants.json"), "{\"tenants\": ").expect("written");
        assert_eq!(Tenants::open(data.path()).expect_err("damaged").kind, Kind::Corrupt);
    }

    #[test]
    fn audiences_have_names_of_their_tenant() {
        let acme = tenant("acme", &[]);
        assert_eq!(acme.own_name(&acme.whole_name("a b")), Some("a b"));
        for other in ["acme", "acmex/a", "x/acme/a", "a"] {
            assert_eq!(acme.own_name(other), None, "{other}");
        }
    }
}
