//! Who may do what: tokens, their scopes, and the check that every call of every door goes through.
//!
//! A server that never had a token lets everybody in, which is meant for loopback. From the first token on each call needs
//! one with the scope of what it does, also when all of them have expired or were revoked.
//!
//! * [`token`]: the text that a client sends. * [`book`]: what is kept of tokens.

pub mod book;
mod token;

use crate::error::{Failure, Kind};
use crate::state::lock;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use book::{Book, Entry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Base64 with or without its padding: clients in Go leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What who needs no token is called.
const ANONYMOUS: &str = "anonymous";

/// What a token may be used for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Ask for figures; save audiences.
    Query,
    /// See which users they are: members, samples, SQL.
    Export,
    /// Send updates, events and lists of users.
    Ingest,
    /// Change the catalog, run sources, sinks and jobs, make tokens.
    Admin,
    /// Erase users, and let their ids in again.
    Erase,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 5] = [Scope::Query, Scope::Export, Scope::Ingest, Scope::Admin, Scope::Erase];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Query => "query",
            Scope::Export => "export",
            Scope::Ingest => "ingest",
            Scope::Admin => "admin",
            Scope::Erase => "erase",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token; `None` where nobody needs one.
    pub token: Option<String>,
    /// Tells them apart from everybody else, also from who had a token of this name before.
    id: String,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
}

impl Principal {
    /// Somebody at a server without tokens.
    pub(crate) fn anyone() -> Principal {
        Principal { token: None, id: String::new(), scopes: Scope::ALL.into() }
    }

    /// What they are called in lists.
    pub fn name(&self) -> &str {
        self.token.as_deref().unwrap_or(ANONYMOUS)
    }

    /// See the field.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether what another asked is theirs to see: if they are the same, and everything for who may do everything.
    pub fn may_see(&self, of: &Principal) -> bool {
        self.id == of.id || self.scopes.contains(&Scope::Admin)
    }

    #[cfg(test)]
    pub(crate) fn with_token(name: &str, id: &str, scopes: &[Scope]) -> Principal {
        Principal { token: Some(name.to_owned()), id: id.to_owned(), scopes: scopes.iter().copied().collect() }
    }

    /// # Errors
    /// [`Kind::Forbidden`] if a scope is missing.
    pub fn need(&self, scopes: &[Scope]) -> Result<(), Failure> {
        let Some(missing) = scopes.iter().find(|scope| !self.scopes.contains(scope)) else { return Ok(()) };
        let detail = format!("the token `{}` has not the scope `{}`", self.name(), missing.name());
        Err(Failure::new(Kind::Forbidden, detail).suggest("ask whoever made it for one that has"))
    }
}

/// The tokens of a server.
#[derive(Debug, Default)]
pub struct Access {
    shown: RwLock<Option<Arc<Book>>>,
    /// Held while tokens are changed, which waits for the disk; calls are checked meanwhile.
    changing: Mutex<()>,
}

impl Access {
    /// Reads the tokens of a data directory, which nobody else changes from now on.
    ///
    /// # Errors
    /// [`Kind::LocalFile`], [`Kind::Corrupt`].
    pub fn open(&self, data: &Path) -> Result<(), Failure> {
        self.show(Book::open(data)?);
        Ok(())
    }

    /// Who sends this `Authorization`: `Bearer TOKEN`, or `Basic` with the token as the password.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`]; [`Kind::NotReady`] before [`Access::open`].
    pub fn check(&self, authorization: Option<&str>) -> Result<Principal, Failure> {
        let book = self.book()?;
        if !book.is_closed() {
            return Ok(Principal::anyone());
        }
        let unauthorized = |detail: &str| Failure::new(Kind::Unauthorized, detail);
        let text = authorization.map(token_of).transpose()?.ok_or_else(|| {
            unauthorized("this server asks for a token")
                .suggest("send `Authorization: Bearer TOKEN`; the command line takes it from BELUGA_TOKEN")
        })?;
        let digest = token::digest(&text)
            .ok_or_else(|| unauthorized("this is no token of Beluga: a part is missing or mistyped"))?;
        let entry = book
            .find(&digest)
            .ok_or_else(|| unauthorized("this token is not known here: it was revoked, or is another server's"))?;
        if entry.has_expired(now()) {
            let told = unauthorized(&format!("the token `{}` has expired", entry.name));
            return Err(told.suggest("ask whoever made it for a new one"));
        }
        Ok(Principal { token: Some(entry.name.clone()), id: digest, scopes: entry.scopes.clone() })
    }

    /// Makes a token; its text is told once, here.
    ///
    /// # Errors
    /// [`Failure`] if a field is wrong, the name is taken, or the disk fails.
    pub fn create(&self, asked: book::NewToken) -> Result<(String, Entry), Failure> {
        self.change(|book| book.create(asked, now()))
    }

    /// Ends a token, at once.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the disk's.
    pub fn revoke(&self, name: &str) -> Result<(), Failure> {
        self.change(|book| book.revoke(name))
    }

    /// All tokens, by name.
    ///
    /// # Errors
    /// [`Kind::NotReady`] before [`Access::open`].
    pub fn list(&self) -> Result<Vec<Entry>, Failure> {
        Ok(self.book()?.entries().to_vec())
    }

    fn book(&self) -> Result<Arc<Book>, Failure> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone().ok_or_else(|| {
            Failure::new(Kind::NotReady, "the server is still opening its data directory").retry_after(1)
        })
    }

    fn show(&self, book: Book) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(book));
    }

    /// What was changed counts once it is on disk.
    fn change<T>(&self, f: impl FnOnce(&mut Book) -> Result<T, Failure>) -> Result<T, Failure> {
        let _changing = lock(&self.changing);
        let mut book = Book::clone(&*self.book()?);
        let done = f(&mut book)?;
        self.show(book);
        Ok(done)
    }
}

/// The token in an `Authorization`.
///
/// # Errors
/// [`Kind::Unauthorized`] if it cannot be read.
pub(crate) fn token_of(authorization: &str) -> Result<String, Failure> {
    let malformed = || {
        Failure::new(Kind::Unauthorized, "the header Authorization is not understood")
            .suggest("send `Authorization: Bearer TOKEN`")
    };
    let (scheme, value) = authorization.trim().split_once(' ').ok_or_else(malformed)?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(value.trim().to_owned()),
        "basic" => {
            let decoded = BASE64.decode(value.trim()).map_err(|_| malformed())?;
            let text = String::from_utf8(decoded).map_err(|_| malformed())?;
            text.split_once(':').map(|(_, password)| password.to_owned()).ok_or_else(malformed)
        }
        _ => Err(malformed()),
    }
}

/// Microseconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use book::NewToken;

    fn opened() -> (tempfile::TempDir, Access) {
        let data = tempfile::tempdir().expect("a folder");
        let access = Access::default();
        assert_eq!(access.check(None).expect_err("closed").kind, Kind::NotReady);
        access.open(data.path()).expect("opens");
        (data, access)
    }

    fn token(name: &str, scopes: &[Scope], expires_at: Option<i64>) -> NewToken {
        NewToken { name: name.into(), scopes: scopes.iter().copied().collect(), expires_at }
    }

    #[test]
    fn a_server_without_tokens_lets_everybody_in_and_one_with_tokens_nobody_else() {
        let (data, access) = opened();
        assert_eq!(access.check(None).expect("open"), Principal::anyone());
        assert_eq!(access.check(Some("Bearer whatever")).expect("open"), Principal::anyone());
        let (text, _) = access.create(token("a", &[Scope::Query], None)).expect("made");
        for wrong in [None, Some("Bearer"), Some("Bearer "), Some("Bearer x"), Some("Digest x"), Some("Basic %%")] {
            assert_eq!(access.check(wrong).expect_err("closed").kind, Kind::Unauthorized, "{wrong:?}");
        }
        let principal = access.check(Some(&format!("bearer {text}"))).expect("known");
        assert_eq!((principal.token.as_deref(), principal.need(&[Scope::Query])), (Some("a"), Ok(())));
        let missing = principal.need(&[Scope::Query, Scope::Admin]).expect_err("not that");
        assert_eq!(missing.kind, Kind::Forbidden);
        assert!(missing.detail.contains("`admin`"), "{missing:?}");
        let basic = format!("Basic {}", BASE64.encode(format!("anybody:{text}")));
        assert_eq!(access.check(Some(&basic)).expect("known"), principal);
        assert_eq!(access.check(Some(basic.trim_end_matches('='))).expect("known"), principal);
        // What was one character off is told apart from what was revoked.
        let mistyped = format!("Bearer {}0", &text[..text.len() - 1]);
        let refused = [mistyped, format!("Bearer {text}0")].map(|sent| access.check(Some(&sent)));
        assert!(refused.iter().any(Result::is_err) && refused[1].is_err(), "{refused:?}");
        access.revoke("a").expect("there");
        assert_eq!(access.check(Some(&basic)).expect_err("revoked").kind, Kind::Unauthorized);
        assert_eq!(access.check(None).expect_err("still closed").kind, Kind::Unauthorized);
        let again = Access::default();
        again.open(data.path()).expect("opens");
        assert_eq!(again.check(None).expect_err("still closed").kind, Kind::Unauthorized);
    }

    #[test]
    fn the_token_is_the_password() {
        let basic = |pair: &[u8]| token_of(&format!("Basic {}", BASE64.encode(pair)));
        assert_eq!(basic(b"ann:to:ken").expect("a pair"), "to:ken");
        for wrong in [b"ann".as_slice(), &[0xff, b':', 0xfe]] {
            assert_eq!(basic(wrong).expect_err("no pair").kind, Kind::Unauthorized);
        }
    }

    #[test]
    fn a_token_ends_when_it_expires() {
        let (_data, access) = opened();
        let (text, _) = access.create(token("brief", &Scope::ALL, Some(now() + 3_000_000))).expect("made");
        let sent = format!("Bearer {text}");
        access.check(Some(&sent)).expect("is young");
        std::thread::sleep(std::time::Duration::from_millis(3_050));
        assert!(access.check(Some(&sent)).expect_err("is old").detail.contains("expired"));
    }
}
