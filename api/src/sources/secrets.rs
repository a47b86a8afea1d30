//! Secrets of sources and sinks: a declaration says where one stands, and only those are read that are meant for it.

use super::declaration::Place;
use super::folders::check_folder;
use super::kafka::SecretPlace;
use crate::config::Config;

/// Variables of the environment that hold secrets for sources and sinks begin so.
const SECRET_VARIABLES: &str = "BELUGA_SECRET_";

/// Whoever may change the catalog could send any secret of the server to a place of theirs; so only those are read that are
/// meant for sources and sinks.
///
/// # Errors
/// What is wrong with the place, at `pointer`.
pub fn check(place: &SecretPlace, pointer: &str, config: &Config) -> Result<(), Place> {
    match place {
        SecretPlace::Env(name) if name.starts_with(SECRET_VARIABLES) => Ok(()),
        SecretPlace::Env(name) => {
            let why = format!(
                "`{name}`: only variables that begin with `{SECRET_VARIABLES}` are read; name it `{SECRET_VARIABLES}{name}`"
            );
            Err(Place::new(pointer, why))
        }
        SecretPlace::File(path) => {
            check_folder(path, &config.secret_folders, "secret_folders").map_err(|why| Place::new(pointer, why))
        }
    }
}

/// Reads a secret; line ends at its end do not count.
///
/// # Errors
/// For people, without the secret.
pub fn read(place: &SecretPlace) -> Result<String, String> {
    let text = match place {
        // The other case, that it is not Unicode, would print the value.
        SecretPlace::Env(name) => {
            std::env::var(name).map_err(|_| format!("environment variable {name} is not set, or no Unicode"))?
        }
        SecretPlace::File(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?
        }
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(text.to_owned()) }
}
