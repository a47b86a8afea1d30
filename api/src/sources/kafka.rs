//! Topics of a Kafka cluster, as a catalog document declares them.
//!
//! Secrets are not written there: `password: { env: BELUGA_SECRET_KAFKA }` or `{ file: /run/secrets/kafka }` says where one
//! stands.

use super::declaration::Place;
#[cfg(feature = "kafka")]
use super::folders::check_folder;
use super::secret::SecretPlace;
use crate::config::Config;
use ingest::pipeline::Connector;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Topics of a Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaDeclaration {
    /// Addresses of some brokers: `host:port`, several with commas or as a list.
    pub brokers: OneOrMany,
    /// The topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Several topics; one that begins with `^` is a regular expression, for a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The consumer group, of this source alone; `beluga-<source>` if neither this nor `partitions` is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Read these partitions of every topic, without a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<i32>,
    /// Where to begin: `earliest`, `latest`, or a time (RFC 3339); `earliest` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// What to do if the records that come next are gone.
    #[serde(default)]
    pub on_missing: OnMissingName,
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

/// One text, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One, or several with commas.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl OneOrMany {
    pub(crate) fn list(&self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            OneOrMany::Many(list) => list.clone(),
        }
    }
}

/// What to do if the records that come next are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMissingName {
    /// Stop, and say how many are gone.
    #[default]
    Fail,
    /// Go on with what is left.
    Earliest,
    /// Go on with what comes from now on.
    Latest,
}

/// Encryption; `tls: {}` trusts the system's authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsDeclaration {
    /// Certificates of the authorities to trust (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub authority_file: Option<PathBuf>,
    /// Our own certificate (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
    /// The password of that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_password: Option<SecretPlace>,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslDeclaration {
    /// How they are told.
    pub mechanism: MechanismName,
    /// The name.
    pub user: String,
    /// The password.
    pub password: SecretPlace,
}

/// How a name and a password are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum MechanismName {
    /// As they are.
    #[serde(rename = "plain")]
    Plain,
    /// Salted challenge and response.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with a longer hash.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl KafkaDeclaration {
    /// For people: `kafka topic purchases`.
    pub(super) fn summary(&self) -> String {
        format!("kafka topic {}", self.names().join(", "))
    }

    fn names(&self) -> Vec<String> {
        self.topic.iter().chain(&self.topics).cloned().collect()
    }

    /// The topics and the group, for telling whether two sources would share records.
    pub(super) fn claims(&self, source: &str) -> (Vec<String>, Option<String>) {
        let group = || self.group.clone().unwrap_or_else(|| format!("beluga-{source}"));
        (self.names(), self.partitions.is_empty().then(group))
    }

    #[cfg(feature = "kafka")]
    fn check_secrets(&self, config: &Config) -> Result<(), Place> {
        check_secrets(self.tls.as_ref(), self.sasl.as_ref(), &self.secrets, config)
    }

    /// What opens them.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    #[cfg(not(feature = "kafka"))]
    pub(super) fn connector(&self, _source: &str, _config: &Config) -> Result<Arc<dyn Connector>, Place> {
        Err(Place::new("/kafka", "this build reads no Kafka; build it with the feature `kafka`"))
    }

    /// What opens them.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    #[cfg(feature = "kafka")]
    pub(super) fn connector(&self, source: &str, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        let options = self.options(source)?;
        self.check_secrets(config)?;
        options.check().map_err(|error| match error {
            ingest::source::SourceError::Invalid { setting, what } => {
                let setting = setting.trim_start_matches("security.").replace('.', "/");
                Place::new(format!("/kafka/{setting}"), what)
            }
            other => Place::new("/kafka", other.to_string()),
        })?;
        Ok(Arc::new(options))
    }

    #[cfg(feature = "kafka")]
    fn options(&self, source: &str) -> Result<ingest::source::kafka::KafkaOptions, Place> {
        use ingest::source::kafka::{KafkaOptions, OnMissing, Reading, StartAt};
        let reading = match (&self.group, self.partitions.is_empty()) {
            (Some(_), false) => {
                return Err(Place::new("/kafka/partitions", "say either `group` or `partitions`, not both"));
            }
            (None, false) => Reading::Partitions(self.partitions.clone()),
            (group, true) => Reading::Group(group.clone().unwrap_or_else(|| format!("beluga-{source}"))),
        };
        let start = match self.start.as_deref() {
            None | Some("earliest") => StartAt::Earliest,
            Some("latest") => StartAt::Latest,
            Some(time) => match time.parse::<jiff::Timestamp>() {
                Ok(time) => StartAt::Timestamp(time.as_millisecond()),
                Err(_) => {
                    let why = format!("`{time}`: write `earliest`, `latest` or a time such as 2026-11-20T00:00:00Z");
                    return Err(Place::new("/kafka/start", why));
                }
            },
        };
        let on_missing = match self.on_missing {
            OnMissingName::Fail => OnMissing::Fail,
            OnMissingName::Earliest => OnMissing::Earliest,
            OnMissingName::Latest => OnMissing::Latest,
        };
        Ok(KafkaOptions {
            brokers: self.brokers.list(),
            topics: self.names(),
            reading,
            start,
            on_missing,
            security: security(self.tls.as_ref(), self.sasl.as_ref()),
            properties: self.properties.clone(),
            secrets: self.secrets.iter().map(|(name, place)| (name.clone(), place.secret())).collect(),
            ..KafkaOptions::default()
        })
    }
}

#[cfg(feature = "kafka")]
impl SecretPlace {
    pub(crate) fn secret(&self) -> ingest::source::kafka::Secret {
        use ingest::source::kafka::Secret;
        match self {
            SecretPlace::Env(name) => Secret::Environment(name.clone()),
            SecretPlace::File(path) => Secret::File(path.clone()),
        }
    }
}

/// Whether all secrets of a connection are meant to be read.
#[cfg(feature = "kafka")]
pub(crate) fn check_secrets(
    tls: Option<&TlsDeclaration>,
    sasl: Option<&SaslDeclaration>,
    secrets: &BTreeMap<String, SecretPlace>,
    config: &Config,
) -> Result<(), Place> {
    let places = sasl.iter().map(|sasl| ("/kafka/sasl/password", &sasl.password));
    let places =
        places.chain(tls.iter().filter_map(|tls| Some(("/kafka/tls/key_password", tls.key_password.as_ref()?))));
    let mut places = places.chain(secrets.values().map(|place| ("/kafka/secrets", place)));
    places.try_for_each(|(pointer, place)| place.check(config).map_err(|why| Place::new(pointer, why)))?;
    let Some(tls) = tls else { return Ok(()) };
    let files = [
        ("/kafka/tls/authority_file", &tls.authority_file),
        ("/kafka/tls/certificate_file", &tls.certificate_file),
        ("/kafka/tls/key_file", &tls.key_file),
    ];
    files.into_iter().filter_map(|(pointer, file)| Some((pointer, file.as_ref()?))).try_for_each(|(pointer, file)| {
        check_folder(file, &config.secret_folders, "secret_folders").map_err(|why| Place::new(pointer, why))
    })
}

/// The protection of a connection.
#[cfg(feature = "kafka")]
pub(crate) fn security(
    tls: Option<&TlsDeclaration>,
    sasl: Option<&SaslDeclaration>,
) -> ingest::source::kafka::Security {
    use ingest::source::kafka::{Sasl, SaslMechanism, Security, Tls};
    let tls = tls.map(|tls| Tls {
        authority_file: tls.authority_file.clone(),
        certificate_file: tls.certificate_file.clone(),
        key_file: tls.key_file.clone(),
        key_password: tls.key_password.as_ref().map(SecretPlace::secret),
    });
    let sasl = sasl.map(|sasl| Sasl {
        mechanism: match sasl.mechanism {
            MechanismName::Plain => SaslMechanism::Plain,
            MechanismName::ScramSha256 => SaslMechanism::ScramSha256,
            MechanismName::ScramSha512 => SaslMechanism::ScramSha512,
        },
        user: sasl.user.clone(),
        password: sasl.password.secret(),
    });
    Security { tls, sasl }
}
