//! What is kept of tokens: the file `tokens.json` of the data directory, replaced as a whole. It holds no token, only hashes.

use super::file;
use super::principal::ANONYMOUS;
use super::{Scope, token};
use crate::error::{Failure, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The most tokens of a server.
pub const TOKENS_MAX: usize = 10_000;
/// Bytes of the longest name.
pub const NAME_BYTES_MAX: usize = 64;

/// A token to be made. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// What it may be used for; at least one.
    pub scopes: BTreeSet<Scope>,
    /// Whose it is; `None`: the operator's.
    pub tenant: Option<String>,
    /// What for; `None`: for everything.
    pub purpose: Option<String>,
    /// When it ends by itself.
    pub expires_at: Option<i64>,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called.
    pub name: String,
    /// Of its text, in hexadecimal digits.
    sha256: String,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// Whose it is; `None`: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What for; `None`: for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// When it ends by itself.
    pub expires_at: Option<i64>,
}

impl Entry {
    /// Whether it has ended by itself.
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// By name.
    tokens: Vec<Entry>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Book {
    path: PathBuf,
    /// `None` before the first token.
    content: Option<Content>,
}

impl Book {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if it cannot be read; [`Kind::Corrupt`] if it is damaged: then nobody may be let in.
    pub fn open(data: &Path) -> Result<Book, Failure> {
        let path = data.join("tokens.json");
        let suggestion = "restore the file, or remove it and make new tokens: without it everybody is let in";
        let content = file::read(&path, suggestion)?;
        Ok(Book { path, content })
    }

    /// Whether calls need a token.
    pub fn is_closed(&self) -> bool {
        self.content.is_some()
    }

    /// All of them, by name.
    pub fn entries(&self) -> &[Entry] {
        self.content.as_ref().map_or(&[], |content| &content.tokens)
    }

    pub(super) fn find(&self, sha256: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.sha256 == sha256)
    }

    /// Makes a token; on disk when this returns.
    ///
    /// # Errors
    /// [`Failure`] if a field is wrong, the name is taken, there are too many, or the disk fails.
    pub fn create(&mut self, asked: NewToken, now: i64) -> Result<(String, Entry), Failure> {
        let NewToken { name, scopes, tenant, purpose, expires_at } = asked;
        if !file::is_name(&name, NAME_BYTES_MAX) {
            let detail = format!(
                "a token's name is a letter or digit and up to {} more, or `-`, `_` and `.`; `{}` is not",
                NAME_BYTES_MAX - 1,
                name.chars().take(NAME_BYTES_MAX).collect::<String>()
            );
            return Err(Failure::field("/name", detail));
        }
        if name == ANONYMOUS {
            return Err(Failure::field("/name", format!("`{ANONYMOUS}` is who asked without a token"))
                .suggest("choose another name"));
        }
        if scopes.is_empty() {
            let all = Scope::ALL.map(Scope::name).join(", ");
            return Err(Failure::field("/scopes", format!("a token needs a scope at least: {all}")));
        }
        // What the operator sends may be what the purpose rests on.
        let is_more = scopes.contains(&Scope::Admin) || tenant.is_none() && scopes.contains(&Scope::Ingest);
        if purpose.is_some() && is_more {
            let detail = "a token for a purpose has not the scope `admin`, nor the operator's `ingest`: with these it could take the purpose away";
            return Err(Failure::field("/scopes", detail).suggest("leave them out, or `purpose`"));
        }
        if expires_at.is_some_and(|end| end <= now) {
            return Err(Failure::field("/expires_at", "the token would have expired before it was made"));
        }
        let mut content = self.content.clone().unwrap_or_default();
        if content.tokens.len() >= TOKENS_MAX {
            let detail = format!("there are {TOKENS_MAX} tokens, the most there may be");
            return Err(Failure::new(Kind::StillUsed, detail).suggest("revoke some that nobody uses"));
        }
        let at = match content.tokens.binary_search_by(|entry| entry.name.cmp(&name)) {
            Err(at) => at,
            Ok(_) => {
                return Err(Failure::field("/name", format!("there is a token `{name}` already"))
                    .suggest("choose another name, or revoke it first"));
            }
        };
        let text = token::make()?;
        let sha256 = token::digest(&text).ok_or_else(|| Failure::internal("a new token is not one"))?;
        let entry = Entry { name, sha256, scopes, tenant, purpose, created_at: now, expires_at };
        content.tokens.insert(at, entry.clone());
        self.save(content)?;
        Ok((text, entry))
    }

    /// Ends a token; on disk when this returns.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the disk's.
    pub fn revoke(&mut self, name: &str) -> Result<(), Failure> {
        let mut content = self.content.clone().unwrap_or_default();
        let before = content.tokens.len();
        content.tokens.retain(|entry| entry.name != name);
        if content.tokens.len() == before {
            return Err(unknown(name));
        }
        self.save(content)
    }

    fn save(&mut self, content: Content) -> Result<(), Failure> {
        file::write(&self.path, &content)?;
        self.content = Some(content);
        Ok(())
    }
}

/// That there is no token of a name.
pub(super) fn unknown(name: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no token `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_and_a_damaged_file_lets_nobody_in() {
        let data = tempfile::tempdir().expect("a folder");
        let mut book = Book::open(data.path()).expect("opens");
        let asked = |name: &str, scopes: &[Scope], expires_at| NewToken {
            name: name.to_owned(),
            scopes: scopes.iter().copied().collect(),
            tenant: None,
            purpose: None,
            expires_at,
        };
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "a b", "é", "a/b", "..", ".a", "anonymous", &long] {
            let refused = book.create(asked(name, &[Scope::Query], None), 5).expect_err(name);
            assert_eq!(refused.pointer.as_deref(), Some("/name"));
        }
        assert_eq!(book.create(asked("a", &[], None), 5).expect_err("none").pointer.as_deref(), Some("/scopes"));
        assert!(book.create(asked("a", &[Scope::Query], Some(5)), 5).is_err());
        assert!(!book.is_closed(), "nothing was made");
        let (text, entry) = book.create(asked("b", &Scope::ALL, Some(6)), 5).expect("made");
        assert!(book.create(asked("b", &Scope::ALL, None), 5).expect_err("taken").detail.contains("already"));
        book.create(asked("a", &[Scope::Query], None), 5).expect("made");
        let path = data.path().join("tokens.json");
        let written = std::fs::read_to_string(&path).expect("there");
        assert!(!written.contains(&text) && !written.contains(&text[4..20]), "the token itself is not kept");
        let again = Book::open(data.path()).expect("opens");
        assert_eq!(again.entries().iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(again.entries()[1], entry);
        std::fs::write(&path, &written[..written.len() / 2]).expect("written");
        assert_eq!(Book::open(data.path()).expect_err("damaged").kind, Kind::Corrupt);
    }
}
