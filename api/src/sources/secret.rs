//! Secrets that a declaration names: which places it may name, and what stands there.

use super::declaration::Place;
use super::folders::check_folder;
use super::kafka::SecretPlace;
use crate::config::Config;

/// Variables of the environment that hold secrets for sources begin so.
const SECRET_VARIABLES: &str = "BELUGA_SECRET_";

/// Whoever may change the catalog could send any secret of the server to a broker or registry of theirs; so only those are read
/// that are meant for sources.
///
/// # Errors
/// Why this is none of them.
pub(super) fn check(pointer: &str, place: &SecretPlace, config: &Config) -> Result<(), Place> {
    match place {
        SecretPlace::Env(name) if name.starts_with(SECRET_VARIABLES) => Ok(()),
        SecretPlace::Env(name) => {
            let why = format!(
                "`{name}`: sources read variables that begin with `{SECRET_VARIABLES}` only; name it \
                 `{SECRET_VARIABLES}{name}`"
            );
            Err(Place::new(pointer, why))
        }
        SecretPlace::File(path) => {
            check_folder(path, &config.secret_folders, "secret_folders").map_err(|why| Place::new(pointer, why))
        }
    }
}

/// The secret.
///
/// # Errors
/// For people: the place, never the secret.
pub(super) fn read(place: &SecretPlace) -> Result<String, String> {
    let text = match place {
        // The other case, that it is not Unicode, would print the value.
        SecretPlace::Env(name) => {
            std::env::var(name).map_err(|_| format!("environment variable {name} is not set, or no Unicode"))?
        }
        SecretPlace::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if text.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(text) }
}
