//! Where secrets of sources and sinks stand: never in the catalog, and only where they are meant for them.

use super::folders::check_folder;
use crate::config::Config;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Variables of the environment that hold secrets for sources and sinks begin so.
const SECRET_VARIABLES: &str = "BELUGA_SECRET_";

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase", try_from = "SecretFields", into = "SecretFields")]
pub enum SecretPlace {
    /// In this variable of the server's environment.
    Env(String),
    /// In this file of the server.
    #[schema(value_type = String)]
    File(PathBuf),
}

/// A place as it is written: YAML knows no enum as a map, JSON does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl TryFrom<SecretFields> for SecretPlace {
    type Error = &'static str;

    fn try_from(fields: SecretFields) -> Result<Self, Self::Error> {
        match fields {
            SecretFields { env: Some(name), file: None } => Ok(SecretPlace::Env(name)),
            SecretFields { env: None, file: Some(path) } => Ok(SecretPlace::File(path)),
            _ => Err("say where the secret stands: either `{ env: BELUGA_SECRET_… }` or `{ file: /… }`"),
        }
    }
}

impl From<SecretPlace> for SecretFields {
    fn from(place: SecretPlace) -> Self {
        match place {
            SecretPlace::Env(name) => SecretFields { env: Some(name), file: None },
            SecretPlace::File(path) => SecretFields { env: None, file: Some(path) },
        }
    }
}

/// A text that may be a secret, and then stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum TextOrSecret {
    /// As it is.
    Text(String),
    /// It stands there.
    Secret(SecretPlace),
}

impl SecretPlace {
    /// Whoever may change the catalog could send any secret of the server to a system of theirs; so only those are read that
    /// are meant for sources and sinks.
    ///
    /// # Errors
    /// For people: why it is not read, and what to do.
    pub(crate) fn check(&self, config: &Config) -> Result<(), String> {
        match self {
            SecretPlace::Env(name) if name.starts_with(SECRET_VARIABLES) => Ok(()),
            SecretPlace::Env(name) => Err(format!(
                "`{name}`: only variables that begin with `{SECRET_VARIABLES}` are read; name it `{SECRET_VARIABLES}{name}`"
            )),
            SecretPlace::File(path) => check_folder(path, &config.secret_folders, "secret_folders"),
        }
    }

    /// Reads it; line ends at the end of a file do not count.
    ///
    /// # Errors
    /// For people; never holds the secret.
    pub(crate) fn read(&self) -> Result<String, String> {
        let text = match self {
            // The other case, that it is not Unicode, would print the value.
            SecretPlace::Env(name) => {
                std::env::var(name).map_err(|_| format!("environment variable {name} is not set, or no Unicode"))?
            }
            SecretPlace::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("read {}: {error}", path.display()))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        };
        match text.is_empty() {
            true => Err("the secret is empty".to_owned()),
            false => Ok(text),
        }
    }
}

impl TextOrSecret {
    /// See [`SecretPlace::check`].
    pub(crate) fn check(&self, config: &Config) -> Result<(), String> {
        match self {
            TextOrSecret::Text(_) => Ok(()),
            TextOrSecret::Secret(place) => place.check(config),
        }
    }

    /// See [`SecretPlace::read`].
    pub(crate) fn read(&self) -> Result<String, String> {
        match self {
            TextOrSecret::Text(text) => Ok(text.clone()),
            TextOrSecret::Secret(place) => place.read(),
        }
    }
}
