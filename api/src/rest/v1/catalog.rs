//! `PUT` and `GET /v1/catalog`: which tags, facts, vector spaces, sources and sinks there are.
//!
//! A put brings the catalog to what the document says. New tags, facts and spaces are declared; one that is missing from the
//! document would be dropped with all its data, so that is refused unless asked for; a type never changes, a fact gains
//! columns. Everything that is wrong is told at once, and nothing is changed unless everything is right.

use super::expression::Where;
use super::fact_declaration::{FactDeclaration, difference, summary};
use super::profile::type_name;
use super::space_declaration::SpaceDeclaration;
use crate::access::Principal;
use crate::config::Config;
use crate::error::{Failure, Item, Kind, escape_pointer};
use crate::rest::body::{JsonBody, Parameters};
use crate::rest::limits;
use crate::rest::router::Answer;
use crate::sinks::SinkDeclaration;
use crate::sources::SourceDeclaration;
use crate::state::AppState;
use axum::extract::State;
use axum::{Extension, Json};
use engine::catalog::{Catalog, SCALE_MAX, TagType, Unit};
use engine::store::{Audience, Snapshot, Store};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;

/// A catalog, as `catalog.yaml` and REST write it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tags": {"gender": {"type": "enum"}, "age": {"type": "number"}, "interest": {"type": "set"}},
    "facts": {"purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}},
        "activity": {"dimensions": ["category"], "measures": ["amount"]}, "retention": "400 days"}}}))]
pub struct CatalogDocument {
    /// The tags by name.
    #[serde(default, deserialize_with = "declarations")]
    pub tags: BTreeMap<String, TagDeclaration>,
    /// Event types by name.
    #[serde(default, deserialize_with = "declarations", skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, FactDeclaration>,
    /// Vector spaces by name.
    #[serde(default, deserialize_with = "declarations", skip_serializing_if = "BTreeMap::is_empty")]
    pub spaces: BTreeMap<String, SpaceDeclaration>,
    /// Streaming sources by name.
    #[serde(default, deserialize_with = "declarations", skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, SourceDeclaration>,
    /// Sinks by name.
    #[serde(default, deserialize_with = "declarations", skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, SinkDeclaration>,
}

/// One tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagDeclaration {
    /// How its values behave.
    pub r#type: TypeName,
    /// For `number`: digits behind the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u8>,
    /// For `number`: `timestamp` for times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
}

/// The types of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TypeName {
    /// Many values at a time.
    Set,
    /// One value at a time.
    Enum,
    /// True or false.
    Flag,
    /// A number, a decimal or a time.
    Number,
}

/// The units of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnitName {
    /// A time, kept in microseconds.
    Timestamp,
}

/// How to put.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutParameters {
    /// Only tell what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Drop tags, facts, vector spaces, sources and sinks that the document does not have, with all their data.
    #[serde(default)]
    pub allow_drop: bool,
}

/// What a put changed, or would change.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PutAnswer {
    /// The differences; empty if the catalog was so already.
    pub changes: Vec<Change>,
    /// Whether they were made; false with `dry_run`.
    pub applied: bool,
    /// The tags as they are afterwards.
    pub tags: BTreeMap<String, TagDeclaration>,
    /// The facts as they are afterwards.
    #[serde(default)]
    pub facts: BTreeMap<String, FactDeclaration>,
    /// The vector spaces as they are afterwards.
    #[serde(default)]
    pub spaces: BTreeMap<String, SpaceDeclaration>,
    /// The sources as they are afterwards.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceDeclaration>,
    /// The sinks as they are afterwards.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkDeclaration>,
    /// Number of the view that shows the catalog.
    pub epoch: u64,
}

/// One difference, of a tag, a fact, a vector space, a source or a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// `add`, `alter` or `drop`.
    pub change: ChangeKind,
    /// The tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    /// The vector space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// The source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The tag's type, or what the fact, space, source or sink is or how it is altered; for people.
    pub r#type: String,
}

/// What happens to a tag, a fact, a vector space, a source or a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is declared.
    Add,
    /// A fact gains columns, or keeps its events for another time; a source or a sink is told something else.
    Alter,
    /// It goes, with all its data.
    Drop,
}

fn declarations<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    let declared = each_key_once(deserializer, "an object with a declaration for each name")?;
    Ok(declared.into_iter().collect())
}

/// A map in which no key may come twice, in the order it is written.
pub(super) fn each_key_once<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<Vec<(String, V)>, D::Error> {
    struct Once<V>(&'static str, PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Once<V> {
        type Value = Vec<(String, V)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let (mut declared, mut names) = (Vec::new(), HashSet::new());
            while let Some((name, declaration)) = map.next_entry::<String, V>()? {
                if !names.insert(name.clone()) {
                    return Err(serde::de::Error::custom(format!("`{name}` is declared twice")));
                }
                declared.push((name, declaration));
            }
            Ok(declared)
        }
    }
    deserializer.deserialize_map(Once(expected, PhantomData))
}

impl CatalogDocument {
    /// The document that says what a catalog is.
    pub fn of(catalog: &Catalog) -> CatalogDocument {
        let tags = catalog.tags().map(|(name, tag)| (name.to_owned(), TagDeclaration::of(tag.tag_type)));
        let facts = catalog.declared_facts().map(|(name, fact)| (name.to_owned(), FactDeclaration::of(fact)));
        let sources = catalog.sources();
        let sources = sources.filter_map(|(name, source)| {
            // What another version declared cannot be said in this one's words; the source's state tells of it.
            Some((name.to_owned(), SourceDeclaration::read(&source.definition).ok()?))
        });
        let sinks = catalog.sinks();
        let sinks =
            sinks.filter_map(|(name, sink)| Some((name.to_owned(), SinkDeclaration::read(&sink.definition).ok()?)));
        CatalogDocument {
            tags: tags.collect(),
            facts: facts.collect(),
            spaces: catalog.spaces().map(|(name, space)| (name.to_owned(), SpaceDeclaration::of(space))).collect(),
            sources: sources.collect(),
            sinks: sinks.collect(),
        }
    }
}

impl TagDeclaration {
    /// The declaration of a type.
    pub fn of(tag_type: TagType) -> TagDeclaration {
        let declared = |r#type, scale, unit| TagDeclaration { r#type, scale, unit };
        match tag_type {
            TagType::Set => declared(TypeName::Set, None, None),
            TagType::Enum => declared(TypeName::Enum, None, None),
            TagType::Flag => declared(TypeName::Flag, None, None),
            TagType::Number(Unit::Integer) => declared(TypeName::Number, None, None),
            TagType::Number(Unit::Decimal { scale }) => declared(TypeName::Number, Some(scale), None),
            TagType::Number(Unit::Timestamp) => declared(TypeName::Number, None, Some(UnitName::Timestamp)),
        }
    }

    /// The type that is declared; the error is for people.
    fn tag_type(self) -> Result<TagType, String> {
        if self.r#type != TypeName::Number && (self.scale.is_some() || self.unit.is_some()) {
            return Err("`scale` and `unit` belong to `type: number` only".to_owned());
        }
        match (self.r#type, self.scale, self.unit) {
            (TypeName::Set, ..) => Ok(TagType::Set),
            (TypeName::Enum, ..) => Ok(TagType::Enum),
            (TypeName::Flag, ..) => Ok(TagType::Flag),
            (TypeName::Number, None | Some(0), None) => Ok(TagType::Number(Unit::Integer)),
            (TypeName::Number, Some(scale), None) if scale <= SCALE_MAX => Ok(TagType::Number(Unit::Decimal { scale })),
            (TypeName::Number, Some(_), None) => Err(format!("`scale` is at most {SCALE_MAX}")),
            (TypeName::Number, None, Some(UnitName::Timestamp)) => Ok(TagType::Number(Unit::Timestamp)),
            (TypeName::Number, Some(_), Some(_)) => Err("a timestamp has no `scale`".to_owned()),
        }
    }
}

/// Where a catalog is going.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The catalog as it will be.
    pub catalog: Catalog,
    /// How it differs.
    pub changes: Vec<Change>,
}

/// Compares a catalog with a document.
///
/// # Errors
/// [`Kind::InvalidCatalog`] or [`Kind::UnsafeChange`] with everything that is wrong.
pub fn plan(
    snapshot: &Snapshot,
    document: &CatalogDocument,
    allow_drop: bool,
    config: &Config,
) -> Result<Plan, Failure> {
    let mut plan = Plan { catalog: snapshot.catalog().clone(), changes: Vec::new() };
    let mut wrong = plan.declare(document);
    if allow_drop {
        plan.drop_others(document);
    } else {
        wrong.extend(losses(&plan.catalog, document));
    }
    // Against what facts there will be.
    wrong.extend(plan.declare_sources(document, config));
    wrong.extend(plan.declare_sinks(document, snapshot.audiences(), config));
    if wrong.is_empty() {
        wrong = broken_audiences(snapshot, &plan.catalog);
    }
    match all_wrong(wrong) {
        Some(failure) => Err(failure),
        None => Ok(plan),
    }
}

impl Plan {
    /// Takes in what the document declares; answers what is wrong with it.
    fn declare(&mut self, document: &CatalogDocument) -> Vec<Failure> {
        let mut wrong = Vec::new();
        for (name, declaration) in &document.tags {
            match declare(&mut self.catalog, name, *declaration) {
                Ok(None) => {}
                Ok(Some(tag_type)) => self.changes.push(Change::of_tag(ChangeKind::Add, name, tag_type)),
                Err(failure) => wrong.push(failure),
            }
        }
        for (name, declaration) in &document.facts {
            match declare_fact(&mut self.catalog, name, declaration) {
                Ok(change) => self.changes.extend(change),
                Err(failure) => wrong.push(failure),
            }
        }
        for (name, declaration) in &document.spaces {
            match declaration.declare(&mut self.catalog, name) {
                Ok(change) => self.changes.extend(change),
                Err(failure) => wrong.push(failure),
            }
        }
        wrong
    }

    /// Takes in the sources; answers what is wrong with them.
    fn declare_sources(&mut self, document: &CatalogDocument, config: &Config) -> Vec<Failure> {
        let mut wrong = Vec::new();
        for (name, declaration) in &document.sources {
            let at = |pointer: &str| format!("/sources/{}{pointer}", escape_pointer(name));
            let shared = document
                .sources
                .iter()
                .filter(|(other, _)| *other < name)
                .find_map(|(other, declared)| Some((other, declaration.shares_topic(name, declared, other)?)));
            if let Some((other, topic)) = shared {
                let detail = format!(
                    "source `{name}`: it would share topic `{topic}` with source `{other}`, each getting some of its records; give \
                     it a `group` of its own"
                );
                wrong.push(Failure::new(Kind::InvalidCatalog, detail).at(at("/kafka/group")));
                continue;
            }
            if let Err(place) = declaration.check(name, &self.catalog, config) {
                let detail = format!("source `{name}`: {}", place.why);
                wrong.push(Failure::new(Kind::InvalidCatalog, detail).at(at(&place.pointer)));
                continue;
            }
            let is_new = self.catalog.source(name).is_none();
            match self.catalog.declare_source(name, declaration.text()) {
                Ok(false) => {}
                Ok(true) => {
                    let change = if is_new { ChangeKind::Add } else { ChangeKind::Alter };
                    self.changes.push(Change::of_source(change, name, declaration.summary()));
                }
                Err(error) => wrong.push(Failure::from(error).at(at(""))),
            }
        }
        wrong
    }

    /// Takes in the sinks; answers what is wrong with them.
    fn declare_sinks(
        &mut self,
        document: &CatalogDocument,
        audiences: &BTreeMap<String, Audience>,
        config: &Config,
    ) -> Vec<Failure> {
        let mut wrong = Vec::new();
        for (name, declaration) in &document.sinks {
            let at = |pointer: &str| format!("/sinks/{}{pointer}", escape_pointer(name));
            let known = self.catalog.sink(name).map(|known| SinkDeclaration::read(&known.definition).ok());
            let before = known.as_ref().and_then(Option::as_ref);
            if let Err(place) = declaration.check(&self.catalog, audiences, before, config) {
                let detail = format!("sink `{name}`: {}", place.why);
                wrong.push(Failure::new(Kind::InvalidCatalog, detail).at(at(&place.pointer)));
                continue;
            }
            match self.catalog.declare_sink(name, declaration.text()) {
                Ok(false) => {}
                Ok(true) => {
                    let change = if known.is_none() { ChangeKind::Add } else { ChangeKind::Alter };
                    self.changes.push(Change::of_sink(change, name, declaration.summary()));
                }
                Err(error) => wrong.push(Failure::from(error).at(at(""))),
            }
        }
        wrong
    }

    fn drop_others(&mut self, document: &CatalogDocument) {
        let tags: Vec<String> = self.catalog.tags().map(|(name, _)| name.to_owned()).collect();
        for name in tags.into_iter().filter(|name| !document.tags.contains_key(name)) {
            let dropped = self.catalog.drop_tag(&name);
            self.changes.extend(dropped.map(|tag| Change::of_tag(ChangeKind::Drop, &name, tag.tag_type)));
        }
        let facts: Vec<String> = self.catalog.declared_facts().map(|(name, _)| name.to_owned()).collect();
        for name in facts.into_iter().filter(|name| !document.facts.contains_key(name)) {
            let dropped = self.catalog.drop_fact(&name);
            self.changes.extend(dropped.map(|fact| Change::of_fact(ChangeKind::Drop, &name, summary(&fact))));
        }
        let spaces: Vec<String> = self.catalog.spaces().map(|(name, _)| name.to_owned()).collect();
        for name in spaces.into_iter().filter(|name| !document.spaces.contains_key(name)) {
            let what = self.catalog.drop_space(&name).map(|space| SpaceDeclaration::of(&space).summary());
            self.changes.extend(what.map(|what| Change::of_space(ChangeKind::Drop, &name, what)));
        }
        let sources: Vec<String> = self.catalog.sources().map(|(name, _)| name.to_owned()).collect();
        for name in sources.into_iter().filter(|name| !document.sources.contains_key(name)) {
            let dropped = self.catalog.drop_source(&name);
            let what = dropped.and_then(|source| SourceDeclaration::read(&source.definition).ok());
            let what = what.map_or_else(String::new, |declaration| declaration.summary());
            self.changes.push(Change::of_source(ChangeKind::Drop, &name, what));
        }
        let sinks: Vec<String> = self.catalog.sinks().map(|(name, _)| name.to_owned()).collect();
        for name in sinks.into_iter().filter(|name| !document.sinks.contains_key(name)) {
            let dropped = self.catalog.drop_sink(&name);
            let what = dropped.and_then(|sink| SinkDeclaration::read(&sink.definition).ok());
            let what = what.map_or_else(String::new, |declaration| declaration.summary());
            self.changes.push(Change::of_sink(ChangeKind::Drop, &name, what));
        }
    }
}

/// What the catalog has and the document does not.
fn losses(catalog: &Catalog, document: &CatalogDocument) -> Vec<Failure> {
    let tags = catalog.tags().map(|(name, _)| ("tag", name)).filter(|(_, name)| !document.tags.contains_key(*name));
    let facts = catalog.declared_facts().map(|(name, _)| ("fact", name));
    let facts = facts.filter(|(_, name)| !document.facts.contains_key(*name));
    let spaces = catalog.spaces().map(|(name, _)| ("space", name));
    let spaces = spaces.filter(|(_, name)| !document.spaces.contains_key(*name));
    let loss = |(what, name): (&str, &str)| {
        let detail = format!("{what} `{name}` is not in the new catalog: dropping it would lose its data");
        Failure::new(Kind::UnsafeChange, detail).at(format!("/{what}s/{}", escape_pointer(name)))
    };
    let sources = catalog.sources().map(|(name, _)| name).filter(|name| !document.sources.contains_key(*name));
    let ends = |name: &str| {
        let detail = format!("source `{name}` is not in the new catalog: dropping it would lose where it was");
        Failure::new(Kind::UnsafeChange, detail).at(format!("/sources/{}", escape_pointer(name)))
    };
    let sinks = catalog.sinks().map(|(name, _)| name).filter(|name| !document.sinks.contains_key(*name));
    let forgets = |name: &str| {
        let detail =
            format!("sink `{name}` is not in the new catalog: dropping it would lose what it has not delivered");
        Failure::new(Kind::UnsafeChange, detail).at(format!("/sinks/{}", escape_pointer(name)))
    };
    tags.chain(facts).chain(spaces).map(loss).chain(sources.map(ends)).chain(sinks.map(forgets)).collect()
}

impl Change {
    fn of_tag(change: ChangeKind, name: &str, tag_type: TagType) -> Change {
        Change { tag: Some(name.to_owned()), ..Change::new(change, tag_type.to_string()) }
    }

    fn of_fact(change: ChangeKind, name: &str, what: String) -> Change {
        Change { fact: Some(name.to_owned()), ..Change::new(change, what) }
    }

    pub(super) fn of_space(change: ChangeKind, name: &str, what: String) -> Change {
        Change { space: Some(name.to_owned()), ..Change::new(change, what) }
    }

    fn of_source(change: ChangeKind, name: &str, what: String) -> Change {
        Change { source: Some(name.to_owned()), ..Change::new(change, what) }
    }

    fn of_sink(change: ChangeKind, name: &str, what: String) -> Change {
        Change { sink: Some(name.to_owned()), ..Change::new(change, what) }
    }

    fn new(change: ChangeKind, r#type: String) -> Change {
        Change { change, tag: None, fact: None, space: None, source: None, sink: None, r#type }
    }
}

/// The type if the tag is new.
fn declare(catalog: &mut Catalog, name: &str, declaration: TagDeclaration) -> Result<Option<TagType>, Failure> {
    let pointer = || format!("/tags/{}", escape_pointer(name));
    let tag_type = declaration
        .tag_type()
        .map_err(|why| Failure::new(Kind::InvalidCatalog, format!("tag `{name}`: {why}")).at(pointer()))?;
    let is_new = catalog.tag(name).is_none();
    catalog.declare(name, tag_type)?;
    Ok(is_new.then_some(tag_type))
}

/// What changes if the fact is new or becomes another.
fn declare_fact(catalog: &mut Catalog, name: &str, declaration: &FactDeclaration) -> Result<Option<Change>, Failure> {
    let at = |failure: Failure| failure.at(format!("/facts/{}", escape_pointer(name)));
    let wanted =
        declaration.fact().map_err(|why| at(Failure::new(Kind::InvalidCatalog, format!("fact `{name}`: {why}"))))?;
    let before = catalog.fact(name).cloned();
    if let Err(error) = catalog.declare_fact(name, wanted.clone()) {
        let failure = at(error.into());
        // What could be declared anew is only not what the fact can become.
        let is_change = before.is_some() && Catalog::default().declare_fact(name, wanted).is_ok();
        return Err(if is_change { Failure { kind: Kind::UnsafeChange, ..failure } } else { failure });
    }
    let Some(after) = catalog.fact(name) else { return Ok(None) };
    Ok(match before {
        None => Some(Change::of_fact(ChangeKind::Add, name, summary(after))),
        Some(before) if before == *after => None,
        Some(before) => Some(Change::of_fact(ChangeKind::Alter, name, difference(&before, after))),
    })
}

/// Audiences that mean something now and would not with the new catalog.
fn broken_audiences(snapshot: &Snapshot, catalog: &Catalog) -> Vec<Failure> {
    let audiences = snapshot.audiences();
    let breaks = |(name, audience): (&String, &Audience)| {
        let expression = Where::Text(audience.expression()?.to_owned());
        expression.bind_with(snapshot.catalog(), audiences, "").ok()?;
        let failure = expression.bind_with(catalog, audiences, "").err()?;
        let detail = format!("audience `{name}` would break: {}", failure.detail);
        Some(Failure::new(Kind::UnsafeChange, detail))
    };
    audiences.iter().filter_map(breaks).collect()
}

/// One failure that tells all.
fn all_wrong(mut wrong: Vec<Failure>) -> Option<Failure> {
    if wrong.len() < 2 {
        let failure = wrong.pop()?;
        return Some(advise(failure));
    }
    let errors = wrong.iter().map(|failure| Item { pointer: failure.pointer.clone(), detail: failure.detail.clone() });
    let errors: Vec<Item> = errors.collect();
    let first = &wrong[0];
    let detail = format!("{} ({} more things are wrong, see errors)", first.detail, wrong.len() - 1);
    let mut failure = Failure { errors, ..Failure::new(first.kind, detail) };
    failure.pointer.clone_from(&first.pointer);
    Some(advise(failure))
}

fn advise(failure: Failure) -> Failure {
    let is_drop = failure.kind == Kind::UnsafeChange && failure.detail.contains("not in the new catalog");
    if is_drop {
        failure.suggest("keep it in the document, or allow it with allow_drop=true (beluga apply --allow-drop)")
    } else {
        failure
    }
}

/// Brings a store to what a document says, and makes it visible.
///
/// # Errors
/// As [`plan`]; and those of the store.
pub fn apply(
    store: &Store,
    document: &CatalogDocument,
    parameters: PutParameters,
    config: &Config,
) -> Result<PutAnswer, Failure> {
    // What was put before may not be published yet.
    store.publish()?;
    let snapshot = store.snapshot();
    let plan = plan(&snapshot, document, parameters.allow_drop, config)?;
    let mut epoch = snapshot.epoch();
    if !parameters.dry_run && !plan.changes.is_empty() {
        store.put_catalog(plan.catalog.clone())?;
        epoch = store.publish()?;
    }
    let CatalogDocument { tags, facts, spaces, sources, sinks } = CatalogDocument::of(&plan.catalog);
    let (changes, applied) = (plan.changes, !parameters.dry_run);
    Ok(PutAnswer { changes, applied, tags, facts, spaces, sources, sinks, epoch: epoch.0 })
}

/// The tags, facts, vector spaces, sources and sinks there are.
#[utoipa::path(get, path = "/v1/catalog", operation_id = "get_catalog", tag = "data",
    responses((status = 200, body = CatalogDocument)))]
pub(in crate::rest) async fn get(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
) -> Answer<CatalogDocument> {
    Ok(Json(CatalogDocument::of(state.names(&principal)?.catalog())))
}

/// Brings the catalog to what the document says.
///
/// A tag's type never changes, a fact gains columns and keeps those it has, and what has data is dropped only with
/// `allow_drop`. Sources and sinks start when they are declared, and a changed one goes on where it was.
#[utoipa::path(put, path = "/v1/catalog", operation_id = "put_catalog", tag = "data", params(PutParameters),
    request_body = CatalogDocument, responses((status = 200, body = PutAnswer)))]
pub(in crate::rest) async fn put(
    State(state): State<AppState>,
    Parameters(parameters): Parameters<PutParameters>,
    JsonBody(document): JsonBody<CatalogDocument>,
) -> Answer<PutAnswer> {
    let changing = state.lock_definitions().await;
    let store = std::sync::Arc::clone(state.store()?);
    limits::blocking(move || {
        let answer = apply(&store, &document, parameters, &state.config);
        // Whoever comes next can change what those wait for who are waited for here.
        drop(changing);
        let answer = answer?;
        if answer.applied {
            state.run_sinks()?;
            state.run_sources()?;
        }
        Ok(answer)
    })
    .await
    .map(Json)
}

/// A type as a catalog writes it, with its scale or unit.
pub fn type_text(tag_type: TagType) -> String {
    match tag_type {
        TagType::Number(Unit::Decimal { scale }) => format!("number, scale: {scale}"),
        TagType::Number(Unit::Timestamp) => "number, unit: timestamp".to_owned(),
        other => type_name(other).to_owned(),
    }
}
