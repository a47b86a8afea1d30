//! Where secrets of sources stand: never in the catalog, and only where they are meant for sources.

use super::folders::check_folder;
use crate::config::Config;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Variables of the environment that hold secrets for sources begin so.
const SECRET_VARIABLES: &str = "BELUGA_SECRET_";

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// In this variable of the server's environment.
    Env(String),
    /// In this file of the server.
    #[schema(value_type = String)]
    File(PathBuf),
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
    /// are meant for sources.
    ///
    /// # Errors
    /// For people: why it is not read, and what to do.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        match self {
            SecretPlace::Env(name) if name.starts_with(SECRET_VARIABLES) => Ok(()),
            SecretPlace::Env(name) => Err(format!(
                "`{name}`: sources read variables that begin with `{SECRET_VARIABLES}` only; name it `{SECRET_VARIABLES}{name}`"
            )),
            SecretPlace::File(path) => check_folder(path, &config.secret_folders, "secret_folders"),
        }
    }

    /// Reads it; line ends at the end of a file do not count.
    ///
    /// # Errors
    /// For people; never holds the secret.
    pub(super) fn read(&self) -> Result<String, String> {
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
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        match self {
            TextOrSecret::Text(_) => Ok(()),
            TextOrSecret::Secret(place) => place.check(config),
        }
    }

    /// See [`SecretPlace::read`].
    pub(super) fn read(&self) -> Result<String, String> {
        match self {
            TextOrSecret::Text(text) => Ok(text.clone()),
            TextOrSecret::Secret(place) => place.read(),
        }
    }
}
