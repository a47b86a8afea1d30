//! A small file of JSON in the data directory, replaced as a whole.

use crate::error::{Failure, Kind};
use engine::vfs::real::RealVfs;
use engine::vfs::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;

/// What it says; `None` if there is none.
///
/// # Errors
/// [`Kind::LocalFile`] if it cannot be read; [`Kind::Corrupt`], with this suggestion, if it is damaged.
pub(super) fn read<T: DeserializeOwned>(path: &Path, suggestion: &str) -> Result<Option<T>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::new(Kind::Corrupt, format!("{}: {error}", path.display())).suggest(suggestion)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Replaces it; on disk when this returns.
///
/// # Errors
/// [`Kind::LocalFile`].
pub(super) fn write(path: &Path, content: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(content).map_err(Failure::internal)?;
    write_atomically(&RealVfs, path, &text).map_err(|error| failed(path, &error))
}

/// What went wrong with a file.
pub(crate) fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("{}: {error}", path.display()))
}

/// Whether a token or a tenant can be called so: a letter or digit, and then letters, digits, `-`, `_` and `.`.
pub(super) fn is_name(name: &str, bytes_max: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && name.len() <= bytes_max && name.bytes().all(is_plain)
}
