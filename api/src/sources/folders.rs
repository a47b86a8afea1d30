//! Which files of the server a definition may name: those in folders that the server was told of when it was started.

use std::path::{Component, Path, PathBuf};

/// Whether a path lies in one of `folders`, which `setting` names.
///
/// # Errors
/// For people: why not, and what to do.
pub fn check_folder(path: &Path, folders: &[PathBuf], setting: &str) -> Result<(), String> {
    check(path, folders, setting, ["reads", "read", "/in/*.ndjson"])
}

/// The same for a folder that is written to.
///
/// # Errors
/// As [`check_folder`].
pub fn check_folder_to_write(path: &Path, folders: &[PathBuf], setting: &str) -> Result<(), String> {
    check(path, folders, setting, ["writes", "write to", "/srv/out"])
}

fn check(path: &Path, folders: &[PathBuf], setting: &str, [does, may, example]: [&str; 3]) -> Result<(), String> {
    let shown = path.display();
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{shown}`: write it from the root and without `..`, such as {example}"));
    }
    if folders.iter().any(|folder| path.starts_with(folder)) {
        return Ok(());
    }
    let known: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(match known.as_slice() {
        [] => format!(
            "`{shown}`: this server {does} no such files; start it with `{setting}` (BELUGA_{}) set to the folders that it may \
             {may}",
            setting.to_uppercase()
        ),
        known => format!("`{shown}`: this server {does} such files in {} only (`{setting}`)", known.join(", ")),
    })
}
