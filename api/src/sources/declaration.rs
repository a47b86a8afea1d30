//! A source as a catalog document declares it.
//!
//! ```yaml
//! purchases:
//!   kafka: { brokers: "127.0.0.1:9092", topic: purchases }
//!   into: purchase
//!   format: json
//! ```

use super::enrich::{self, LookupDeclaration};
use super::files::FilesDeclaration;
use super::kafka::KafkaDeclaration;
use super::map;
use super::payload::{FormatName, RegistryDeclaration};
use super::span::Span;
use crate::config::Config;
use engine::audience::suggest::closest;
use engine::catalog::Catalog;
use ingest::enrich::Enrichment;
use ingest::pipeline::{Connector, DefinitionError, MappingDefinition, SourceDefinition, Target};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a partition may bring nothing before the watermark goes on without it.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// The longest that a source may wait before its records are seen.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// One source: where it reads, and what its records become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceDeclaration {
    /// Topics of a Kafka cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaDeclaration>,
    /// Files and folders of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesDeclaration>,
    /// What its records become: events of the fact of this name, or `tags`.
    pub into: String,
    /// How records are written.
    #[serde(default)]
    pub format: FormatName,
    /// With `format: avro`: the schema that all records were written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Value>,
    /// The same as a file of the server, in one of its `source_folders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub schema_file: Option<PathBuf>,
    /// With `format: avro`: where the schemas are that records name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<RegistryDeclaration>,
    /// What other systems know of each record, looked up one after another: it is in the record by the name of the look-up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enrich: Vec<LookupDeclaration>,
    /// Where in a record the fields of its target stand, by path, or what they are computed of; `{"user_id": "customer.id",
    /// "amount": {"sql": "price * quantity"}, …}`. Left out: a record is what `POST /v1/facts/{fact}` or `POST /v1/tags` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub map: Option<map::Object>,
    /// With `map`, of a fact: whether the record's other fields are kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_others: bool,
    /// What must hold of a record to be taken: `[{"path": "status", "in": ["paid", "shipped"]}]`, or an SQL expression such as
    /// `status IN ('paid', 'shipped') AND amount > 0`, which may also stand in the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "map::one_or_more")]
    #[schema(value_type = serde_json::Value)]
    pub r#where: Vec<serde_json::Value>,
    /// A partition that brought nothing for so long does not hold back the watermark: `60 s` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "60 s")]
    pub idle_after: Option<Span>,
    /// How long a record may take until it is seen, such as `10 s` and at most `10 min`: records are gathered meanwhile and
    /// applied in fewer, larger steps, which cost less. As soon as can be if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "10 s")]
    pub latency: Option<Span>,
}

/// Where something is wrong in a declaration: the path to the field, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `/kafka/brokers`; empty for the source as a whole.
    pub pointer: String,
    /// What is wrong, and what to write instead.
    pub why: String,
}

impl Place {
    pub(crate) fn new(pointer: impl Into<String>, why: impl Into<String>) -> Place {
        Place { pointer: pointer.into(), why: why.into() }
    }
}

/// The word for tag updates in `into`.
pub const TAGS: &str = "tags";

impl SourceDeclaration {
    /// Reads what [`SourceDeclaration::text`] wrote.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn read(text: &str) -> Result<SourceDeclaration, String> {
        serde_json::from_str(text).map_err(|error| format!("its declaration is of another version: {error}"))
    }

    /// As the catalog keeps it: the same for declarations that say the same.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a declaration has text keys only")
    }

    /// What is to run.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn definition(&self, name: &str, config: &Config) -> Result<SourceDefinition, String> {
        self.read_definition(name, config).map_err(|place| format!("{}: {}", place.pointer, place.why))
    }

    fn read_definition(&self, name: &str, config: &Config) -> Result<SourceDefinition, Place> {
        let into = if self.into == TAGS { Target::Tags } else { Target::Fact(self.into.clone()) };
        let idle_after = self.idle_after.map_or(IDLE_AFTER, |span| span.0);
        Ok(SourceDefinition {
            connector: self.connector(name, config)?,
            payload: self.payload(config)?,
            enrich: self.lookups(config)?,
            mapping: self.mapping(&into)?,
            into,
            idle_after,
            gather: self.gather(config)?,
        })
    }

    /// How long records are gathered: until they must be applied to be seen in time.
    fn gather(&self, config: &Config) -> Result<Duration, Place> {
        let Some(Span(latency)) = self.latency else { return Ok(Duration::ZERO) };
        let publish = config.publish_interval;
        if latency < publish {
            let what = format!(
                "this server shows what was written every {} ms (`publish_interval_ms`); ask for no less",
                publish.as_millis()
            );
            return Err(Place::new("/latency", what));
        }
        if latency > LATENCY_MAX {
            return Err(Place::new("/latency", format!("at most {} s", LATENCY_MAX.as_secs())));
        }
        // One interval until the next publishing begins, and another for the work itself.
        Ok(latency.saturating_sub(publish * 2))
    }

    fn lookups(&self, config: &Config) -> Result<Vec<Arc<Enrichment>>, Place> {
        if !self.enrich.is_empty() && self.map.is_none() && self.into == TAGS {
            return Err(Place::new(
                "/enrich",
                "into tags it goes with `map`, which says what becomes of what is found",
            ));
        }
        enrich::lookups(&self.enrich, config)
    }

    fn mapping(&self, into: &Target) -> Result<Option<MappingDefinition>, Place> {
        if self.keep_others && (self.map.is_none() || *into == Target::Tags) {
            return Err(Place::new("/keep_others", "it goes with `map`, into a fact"));
        }
        let has_time = self.map.as_ref().is_none_or(|map| map.contains_key("ts"));
        if self.files.is_some() && *into != Target::Tags && !has_time {
            return Err(Place::new("/map", "lines of files have no times of their own; say where `ts` stands"));
        }
        Ok(match (into, &self.map) {
            (_, None) if self.r#where.is_empty() => None,
            (Target::Tags, None) => return Err(Place::new("/where", "into tags it goes with `map`; write one")),
            (Target::Fact(_), None) => Some(MappingDefinition::Fact(map::filtered(&self.r#where)?)),
            (Target::Fact(_), Some(map)) => {
                Some(MappingDefinition::Fact(map::to_fact(map, self.keep_others, &self.r#where)?))
            }
            (Target::Tags, Some(map)) => Some(MappingDefinition::Tags(map::to_tags(map, &self.r#where)?)),
        })
    }

    /// Whether it can run with a catalog.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, name: &str, catalog: &Catalog, config: &Config) -> Result<(), Place> {
        match self.read_definition(name, config)?.mapping(catalog) {
            Ok(_) if self.into == TAGS || catalog.declared_fact(&self.into).is_some() => Ok(()),
            Err(DefinitionError::Mapping(error)) => {
                let pointer = error.place.replace(['.', '['], "/").replace(']', "");
                Err(Place::new(format!("/{pointer}"), error.to_string()))
            }
            Ok(_) | Err(DefinitionError::NoFact(_)) => Err(no_fact(&self.into, catalog)),
        }
    }

    fn connector(&self, name: &str, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        match (&self.kafka, &self.files) {
            (Some(kafka), None) => kafka.connector(name, config),
            (None, Some(files)) => files.connector(config),
            _ => {
                let why = "say where it reads: either `kafka: { brokers: …, topic: … }` or `files: { paths: … }`";
                Err(Place::new("", why))
            }
        }
    }

    /// A topic that both would read as members of one group, so that each would get only some of its records.
    pub fn shares_topic(&self, name: &str, other: &SourceDeclaration, other_name: &str) -> Option<String> {
        let (Some(kafka), Some(other)) = (&self.kafka, &other.kafka) else { return None };
        let ((topics, group), (others, other_group)) = (kafka.claims(name), other.claims(other_name));
        let is_shared = group.is_some() && group == other_group && kafka.brokers == other.brokers;
        topics.into_iter().find(|topic| is_shared && others.contains(topic))
    }

    /// Where it reads, for people: `kafka topic purchases`.
    pub fn summary(&self) -> String {
        let from = match (&self.kafka, &self.files) {
            (Some(kafka), _) => kafka.summary(),
            (None, Some(files)) => files.summary(),
            (None, None) => String::new(),
        };
        format!("{from} into {}", self.into)
    }
}

/// What is told of an `into` that is neither a declared fact nor `tags`.
pub fn no_fact(into: &str, catalog: &Catalog) -> Place {
    let names = catalog.declared_facts().map(|(name, _)| name).chain([TAGS]);
    let advice = match closest(into, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a fact of this catalog, or `tags`".to_owned(),
    };
    Place::new("/into", format!("there is no fact `{into}`; {advice}"))
}
