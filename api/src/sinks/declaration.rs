//! A sink as a catalog document declares it.
//!
//! ```yaml
//! crm:
//!   webhook: { url: "https://crm.example/hook", secret: { env: BELUGA_SECRET_CRM } }
//!   audiences: [vip, lapsed]
//! ```

use super::files::FilesSinkDeclaration;
use super::kafka::KafkaSinkDeclaration;
use super::webhook::WebhookDeclaration;
use crate::config::Config;
use crate::sources::Place;
use crate::sources::span::Span;
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, DEAD_LETTERS};
use engine::store::{Audience, Definition};
use ingest::sink::{
    BACKOFF, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Connector, Initial, QUEUE_BYTES_MIN, SinkDefinition, Takes, WhenFull,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One sink: what it takes, and where it brings it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkDeclaration {
    /// An address that records are posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookDeclaration>,
    /// A topic of a Kafka cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSinkDeclaration>,
    /// Files in a folder of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSinkDeclaration>,
    /// Who enters and who leaves these live audiences: a list of names, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiences: Option<AudienceNames>,
    /// The rows of this fact, as they come; or `dead_letter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// With `audiences`: what a new sink sends first. `members` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<InitialName>,
    /// How often a record comes: to Kafka `at_least_once` if it is not said; to a webhook always so, to files `exactly_once`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryName>,
    /// Bytes of its queue at which it is full: 4 GiB if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u64>,
    /// What then: `wait` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFullName>,
    /// Records that are sent together, at most: 1,000 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_records: Option<usize>,
    /// Bytes that are sent together, at most, unless a single record is larger: 1 MiB if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<usize>,
    /// How long a record may wait for others to go with it: `100 ms` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "100 ms")]
    pub linger: Option<Span>,
    /// How often what failed is tried again before it becomes dead letters: for ever if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The longest wait between retries: `1 min` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1 min")]
    pub backoff_max: Option<Span>,
}

/// Audiences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum AudienceNames {
    /// `all`.
    All(AllName),
    /// These.
    Some(Vec<String>),
}

/// The word for all audiences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AllName {
    /// All that are live, also those to come.
    All,
}

/// What a new sink of audiences sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InitialName {
    /// The present members, each as one who enters.
    Members,
    /// Nothing.
    None,
}

/// How often a record comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryName {
    /// Once, and again after a failure or a crash in between, under the same id.
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFullName {
    /// Checkpoints wait for room, and in time those who write.
    Wait,
    /// What comes is passed over, and counted.
    Drop,
}

impl SinkDeclaration {
    /// Reads what [`SinkDeclaration::text`] wrote.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn read(text: &str) -> Result<SinkDeclaration, String> {
        serde_json::from_str(text).map_err(|error| format!("its declaration is of another version: {error}"))
    }

    /// As the catalog keeps it: the same for declarations that say the same.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a declaration has text keys only")
    }

    /// What is to run. Where it goes may be wrong, what it takes may not.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn definition(&self, config: &Config) -> Result<SinkDefinition, String> {
        let told = |place: Place| format!("{}: {}", place.pointer, place.why);
        self.read_definition(self.connector(config).map_err(told)).map_err(told)
    }

    fn read_definition(&self, connector: Result<Arc<dyn Connector>, String>) -> Result<SinkDefinition, Place> {
        let mut definition = SinkDefinition::new(connector, self.takes()?);
        match self.initial {
            Some(_) if self.audiences.is_none() => {
                return Err(Place::new("/initial", "it goes with `audiences`; rows of a fact are sent from now on"));
            }
            Some(InitialName::None) => definition.initial = Initial::None,
            Some(InitialName::Members) | None => {}
        }
        if self.when_full == Some(WhenFullName::Drop) {
            definition.when_full = WhenFull::Drop;
        }
        let bounded = |name: &str, value: u64, min: u64, max: u64| {
            let why = || format!("`{value}`: it is from {min} to {max}");
            if (min..=max).contains(&value) { Ok(value) } else { Err(Place::new(format!("/{name}"), why())) }
        };
        if let Some(bytes) = self.queue_bytes {
            definition.queue_bytes = bounded("queue_bytes", bytes, QUEUE_BYTES_MIN, i64::MAX as u64)?;
        }
        if let Some(records) = self.batch_records {
            definition.batch_records_max =
                bounded("batch_records", records as u64, 1, BATCH_RECORDS_MAX as u64)? as usize;
        }
        if let Some(bytes) = self.batch_bytes {
            definition.batch_bytes_max = bounded("batch_bytes", bytes as u64, 1, BATCH_BYTES_MAX as u64)? as usize;
        }
        definition.linger = self.linger.map_or(definition.linger, |span| span.0);
        definition.retries = self.retries;
        definition.backoff_max = self.backoff_max.map_or(definition.backoff_max, |span| span.0);
        definition.backoff = BACKOFF.min(definition.backoff_max);
        Ok(definition)
    }

    fn takes(&self) -> Result<Takes, Place> {
        match (&self.audiences, &self.from) {
            (Some(AudienceNames::All(AllName::All)), None) => Ok(Takes::AllAudiences),
            (Some(AudienceNames::Some(names)), None) if names.is_empty() => {
                Err(Place::new("/audiences", "none is named; write `all` for all live ones"))
            }
            (Some(AudienceNames::Some(names)), None) => Ok(Takes::Audiences(names.iter().cloned().collect())),
            (None, Some(fact)) => Ok(Takes::Fact(fact.clone())),
            _ => {
                let why = "say what it takes: either `audiences: all`, `audiences: [vip, …]` or `from: <fact>`";
                Err(Place::new("", why))
            }
        }
    }

    fn connector(&self, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        let exactly = self.delivery == Some(DeliveryName::ExactlyOnce);
        match (&self.webhook, &self.kafka, &self.files) {
            (Some(_), None, None) if exactly => {
                let why = "a webhook is told at least once; it can look at `Idempotency-Key`, or at the records' ids";
                Err(Place::new("/delivery", why))
            }
            (Some(webhook), None, None) => webhook.connector(config),
            (None, Some(kafka), None) => kafka.connector(exactly, config),
            (None, None, Some(files)) => files.connector(config),
            _ => {
                let why = "say where it goes: one of `webhook: { url: … }`, `kafka: { brokers: …, topic: … }` and \
                           `files: { folder: … }`";
                Err(Place::new("", why))
            }
        }
    }

    /// Whether it can run with a catalog. `known` is what the sink was before, whose audiences may be gone meanwhile.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(
        &self,
        catalog: &Catalog,
        audiences: &BTreeMap<String, Audience>,
        known: Option<&SinkDeclaration>,
        config: &Config,
    ) -> Result<(), Place> {
        let connector = self.connector(config)?;
        match self.read_definition(Ok(connector))?.takes {
            Takes::AllAudiences => Ok(()),
            Takes::Fact(name) if name == DEAD_LETTERS || catalog.declared_fact(&name).is_some() => Ok(()),
            Takes::Fact(name) => {
                let names = catalog.declared_facts().map(|(name, _)| name).chain([DEAD_LETTERS]);
                let advice = match closest(&name, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name a fact of this catalog; who enters and leaves is `audiences: all`".to_owned(),
                };
                Err(Place::new("/from", format!("there is no fact `{name}`; {advice}")))
            }
            Takes::Audiences(names) => {
                let known = known.and_then(|known| known.takes().ok());
                let is_known = |name: &str| known.as_ref().is_some_and(|takes| takes.has_audience(name));
                names.iter().filter(|name| !is_known(name)).try_for_each(|name| check_audience(name, audiences))
            }
        }
    }

    /// What it takes and where it goes, for people: `audiences vip, lapsed to webhook https://crm.example/hook`.
    pub fn summary(&self) -> String {
        let what = match (&self.audiences, &self.from) {
            (Some(AudienceNames::All(_)), _) => "all audiences".to_owned(),
            (Some(AudienceNames::Some(names)), _) => format!("audiences {}", names.join(", ")),
            (None, from) => from.clone().unwrap_or_default(),
        };
        let to = match (&self.webhook, &self.kafka, &self.files) {
            (Some(webhook), ..) => webhook.summary(),
            (_, Some(kafka), _) => kafka.summary(),
            (.., Some(files)) => files.summary(),
            _ => String::new(),
        };
        format!("{what} to {to}")
    }
}

fn check_audience(name: &str, audiences: &BTreeMap<String, Audience>) -> Result<(), Place> {
    let refuse = |why: String| Err(Place::new("/audiences", why));
    match audiences.get(name) {
        Some(Audience { definition: Definition::Live { .. }, .. }) => Ok(()),
        Some(_) => refuse(format!(
            "audience `{name}` is not live, so nobody is told who enters it; put it again with `\"live\": true`"
        )),
        None => match closest(name, audiences.keys().map(String::as_str)) {
            Some(near) => refuse(format!("there is no audience `{name}`; did you mean `{near}`?")),
            None => refuse(format!(
                "there is no audience `{name}`; put it first, with `\"live\": true`, or write `audiences: all`"
            )),
        },
    }
}
