//! What users agreed to: purposes, as the file `purposes.json` of the data directory keeps them.
//!
//! A purpose has an expression, such as `ads_consent`. Whoever asks for a purpose, by a token that was made for it or of a tenant that has it,
//! sees the users who fit that expression and nobody else: see [`super::view`].

use super::file;
use crate::error::{Failure, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most purposes of a server.
pub const PURPOSES_MAX: usize = 1_000;
/// Bytes of the longest name.
pub const PURPOSE_NAME_BYTES_MAX: usize = 64;
/// Bytes of the longest description.
const DESCRIPTION_BYTES_MAX: usize = 1_000;

/// A purpose. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// What it is called.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The audience expression that says who agreed, in the operator's words.
    pub filter: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was last changed.
    pub changed_at: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    purposes: BTreeMap<String, Arc<Purpose>>,
}

/// All purposes of a server.
#[derive(Clone, Debug)]
pub struct Purposes {
    path: PathBuf,
    content: Content,
}

impl Purposes {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if it cannot be read; [`Kind::Corrupt`] if it is damaged: then nobody may be let in.
    pub fn open(data: &Path) -> Result<Purposes, Failure> {
        let path = data.join("purposes.json");
        let content = file::read(&path, "restore the file: it says what users agreed to")?.unwrap_or_default();
        Ok(Purposes { path, content })
    }

    /// All of them, by name.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Arc<Purpose>> {
        self.content.purposes.values()
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn find(&self, name: &str) -> Result<&Arc<Purpose>, Failure> {
        self.content.purposes.get(name).ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("there is no purpose `{name}`")).suggest("GET /v1/purposes lists them")
        })
    }

    /// Makes a purpose, or puts it in the place of the one of its name; on disk when this returns. Tells it, and whether it is new. What
    /// the filter means is for who has the catalog to check.
    ///
    /// # Errors
    /// [`Failure`] if a field is wrong, there are too many, or the disk fails.
    pub fn put(&mut self, asked: Purpose) -> Result<(Arc<Purpose>, bool), Failure> {
        if !file::is_name(&asked.name, PURPOSE_NAME_BYTES_MAX) {
            let most = PURPOSE_NAME_BYTES_MAX - 1;
            let detail = format!("a purpose's name is a letter or digit and up to {most} more, or `-`, `_` and `.`");
            return Err(Failure::new(Kind::InvalidField, detail).at("name"));
        }
        if asked.description.len() > DESCRIPTION_BYTES_MAX {
            let detail = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
            return Err(Failure::field("/description", detail));
        }
        let before = self.content.purposes.get(&asked.name);
        if before.is_none() && self.content.purposes.len() >= PURPOSES_MAX {
            let detail = format!("there are {PURPOSES_MAX} purposes, the most there may be");
            return Err(Failure::new(Kind::StillUsed, detail).suggest("delete some that nobody uses"));
        }
        let is_new = before.is_none();
        let created_at = before.map_or(asked.created_at, |before| before.created_at);
        let purpose = Arc::new(Purpose { created_at, ..asked });
        let mut content = self.content.clone();
        content.purposes.insert(purpose.name.clone(), Arc::clone(&purpose));
        self.save(content)?;
        Ok((purpose, is_new))
    }

    /// Forgets a purpose; on disk when this returns. Who asks for it is for others to look at, before.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the disk's.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.find(name)?;
        let mut content = self.content.clone();
        content.purposes.remove(name);
        self.save(content)
    }

    fn save(&mut self, content: Content) -> Result<(), Failure> {
        file::write(&self.path, &content)?;
        self.content = content;
        Ok(())
    }
}
