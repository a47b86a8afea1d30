//! A topic that a sink writes to, as a catalog document declares it.

use crate::config::Config;
use crate::sources::Place;
use crate::sources::kafka::{OneOrMany, SaslDeclaration, TlsDeclaration};
use crate::sources::secret::SecretPlace;
use ingest::sink::Connector;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic of a Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSinkDeclaration {
    /// Addresses of some brokers: `host:port`, several with commas or as a list.
    pub brokers: OneOrMany,
    /// The topic. A record's key is its user, its header `id` what it is known by.
    pub topic: String,
    /// Encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsDeclaration>,
    /// A name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslDeclaration>,
    /// More settings of librdkafka.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// More settings of librdkafka whose values are secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretPlace>,
}

impl KafkaSinkDeclaration {
    /// For people: `kafka topic changes`.
    pub(super) fn summary(&self) -> String {
        format!("kafka topic {}", self.topic)
    }

    /// What opens it.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    #[cfg(not(feature = "kafka"))]
    pub(super) fn connector(&self, _exactly_once: bool, _config: &Config) -> Result<Arc<dyn Connector>, Place> {
        Err(Place::new("/kafka", "this build knows no Kafka; build it with the feature `kafka`"))
    }

    /// What opens it.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    #[cfg(feature = "kafka")]
    pub(super) fn connector(&self, exactly_once: bool, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        use crate::sources::kafka::{check_secrets, security};
        use ingest::sink::kafka::{Guarantee, KafkaSinkOptions};
        check_secrets(self.tls.as_ref(), self.sasl.as_ref(), &self.secrets, config)?;
        let mut options = KafkaSinkOptions::new(self.brokers.list(), self.topic.clone());
        options.guarantee = if exactly_once { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce };
        options.security = security(self.tls.as_ref(), self.sasl.as_ref());
        options.properties = self.properties.clone();
        options.secrets = self.secrets.iter().map(|(name, place)| (name.clone(), place.secret())).collect();
        options.check().map_err(|error| match error {
            ingest::source::SourceError::Invalid { setting, what } => {
                let setting = match setting.trim_start_matches("security.") {
                    "topics" => "topic".to_owned(),
                    other => other.replacen('.', "/", 1),
                };
                Place::new(format!("/kafka/{setting}"), what)
            }
            other => Place::new("/kafka", other.to_string()),
        })?;
        Ok(Arc::new(options))
    }
}
