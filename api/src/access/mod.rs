//! Who may do what: tokens, their scopes, and the check that every call of every door goes through.
//!
//! A server that never had a token lets everybody in, which is meant for loopback. From the first token on each call needs
//! one with the scope of what it does, also when all of them have expired or were revoked; and where an issuer is trusted, always.
//!
//! * [`principal`]: who calls. * [`token`]: the text that a client sends. * [`book`]: what is kept of tokens.
//! * [`jwt`], [`keys`]: tokens that an issuer signed. * [`tenants`]: who shares the server. * [`purposes`]: what users agreed to.
//! * [`view`]: what of the data somebody sees. * [`rates`]: how often one may call.

pub mod book;
mod file;
mod jwt;
mod keys;
mod principal;
pub mod purposes;
pub mod rates;
pub mod tenants;
mod token;
pub mod view;

use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::state::lock;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use book::{Book, Entry};
use engine::vfs::Vfs;
use engine::vfs::real::RealVfs;
pub(crate) use file::failed;
use futures::future::BoxFuture;
use jwt::{Claims, Issuer};
pub use principal::{Principal, Scope};
use purposes::{Purpose, Purposes};
use ring::digest::{SHA256, digest};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tenants::{Tenant, Tenants};

/// Base64 with or without its padding: clients in Go leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The tokens and tenants of a server.
#[derive(Debug, Default)]
pub struct Access {
    shown: RwLock<Option<Known>>,
    /// Whose tokens let in beside our own; not set without one.
    issuer: OnceLock<Issuer>,
    /// Held while tokens are changed, which waits for the disk; calls are checked meanwhile.
    changing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Known {
    book: Arc<Book>,
    tenants: Arc<Tenants>,
    purposes: Arc<Purposes>,
}

impl Access {
    /// Reads the tokens, tenants and purposes of a data directory, which nobody else changes from now on.
    ///
    /// # Errors
    /// [`Kind::LocalFile`], [`Kind::Corrupt`].
    pub fn open(&self, data: &Path) -> Result<(), Failure> {
        let (book, tenants) = (Arc::new(Book::open(data)?), Arc::new(Tenants::open(data)?));
        self.show(Known { book, tenants, purposes: Arc::new(Purposes::open(data)?) });
        Ok(())
    }

    /// Opens those of a data directory that no server runs on, and keeps others from it; makes the directory if there is none.
    ///
    /// # Errors
    /// As [`Access::open`]; [`Kind::InUse`] if a server runs on it.
    pub fn open_alone(data: &Path) -> Result<(Access, Box<dyn Send + Sync>), Failure> {
        RealVfs.create_folder(data).map_err(|error| file::failed(data, &error))?;
        let held = RealVfs.lock(&data.join("LOCK")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                Failure::new(Kind::InUse, format!("{}: a server or a command has it open", data.display()))
                    .suggest("ask the server: leave --data out, and name it with --url")
            }
            _ => file::failed(data, &error),
        })?;
        let access = Access::default();
        access.open(data)?;
        Ok((access, held))
    }

    /// Trusts the issuer of a configuration, if it has one; before anybody is let in.
    ///
    /// # Errors
    /// [`Failure`] if its settings or keys cannot be.
    pub fn trust(&self, config: &Config) -> Result<(), Failure> {
        if let Some(issuer) = Issuer::of(config)? {
            let _ = self.issuer.set(issuer);
        }
        Ok(())
    }

    /// What looks after the issuer's keys for as long as the server runs, if there is one.
    pub fn watch(&self) -> Option<BoxFuture<'static, ()>> {
        self.issuer.get().map(Issuer::watch)
    }

    /// Asks the issuer for keys, if that may bring the one of the token in an `Authorization`: to be waited for before [`Access::check`].
    pub fn missing_keys(&self, authorization: Option<&str>) -> Option<BoxFuture<'static, ()>> {
        let issuer = self.issuer.get()?;
        let token = token_of(authorization?).ok().filter(|token| jwt::is_jwt(token))?;
        issuer.missing_keys(&token)
    }

    /// Whether nobody is let in without a token.
    ///
    /// # Errors
    /// [`Kind::NotReady`] before [`Access::open`].
    pub fn is_closed(&self) -> Result<bool, Failure> {
        Ok(self.known()?.book.is_closed() || self.issuer.get().is_some())
    }

    /// Who sends this `Authorization`: `Bearer TOKEN`, or `Basic` with the token as the password.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`]; [`Kind::NotReady`] before [`Access::open`].
    pub fn check(&self, authorization: Option<&str>) -> Result<Principal, Failure> {
        let Known { book, tenants, purposes } = self.known()?;
        let issuer = self.issuer.get();
        if !book.is_closed() && issuer.is_none() {
            return Ok(Principal::anyone());
        }
        let unauthorized = |detail: &str| Failure::new(Kind::Unauthorized, detail);
        let text = authorization.map(token_of).transpose()?.ok_or_else(|| {
            unauthorized("this server asks for a token")
                .suggest("send `Authorization: Bearer TOKEN`; the command line takes it from BELUGA_TOKEN")
        })?;
        if let Some(issuer) = issuer.filter(|_| jwt::is_jwt(&text)) {
            let seconds = now() as f64 / 1e6;
            return signed(issuer.check(&text, seconds)?, &tenants, &purposes);
        }
        let digest = token::digest(&text)
            .ok_or_else(|| unauthorized("this is no token of Beluga: a part is missing or mistyped"))?;
        let entry = book
            .find(&digest)
            .ok_or_else(|| unauthorized("this token is not known here: it was revoked, or is another server's"))?;
        if entry.has_expired(now()) {
            let told = unauthorized(&format!("the token `{}` has expired", entry.name));
            return Err(told.suggest("ask whoever made it for a new one"));
        }
        let tenant = match &entry.tenant {
            None => None,
            Some(name) => Some(Arc::clone(tenants.find(name).ok_or_else(|| {
                unauthorized(&format!("the token `{}` is of a tenant that is not there any more", entry.name))
            })?)),
        };
        let purposes = asked_for(entry.purpose.as_ref(), tenant.as_deref(), &purposes).map_err(|_| {
            unauthorized(&format!("the token `{}` is for a purpose that is not there any more", entry.name))
        })?;
        Ok(Principal { token: Some(entry.name.clone()), id: digest, scopes: entry.scopes.clone(), tenant, purposes })
    }

    /// Makes a token; its text is told once, here.
    ///
    /// # Errors
    /// [`Failure`] if a field is wrong, the name is taken, or the disk fails.
    pub fn create(&self, asked: book::NewToken) -> Result<(String, Entry), Failure> {
        self.change(|book, tenants, purposes| {
            if let Some(purpose) = &asked.purpose {
                purposes.find(purpose).map_err(|failure| failure.at("/purpose"))?;
            }
            if let Some(tenant) = asked.tenant.as_deref().filter(|name| tenants.find(name).is_none()) {
                return Err(tenants::unknown(tenant).at("/tenant"));
            }
            book.create(asked, now())
        })
    }

    /// Ends a token that `by` may end, at once.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the disk's.
    pub fn revoke(&self, name: &str, by: &Principal) -> Result<(), Failure> {
        self.change(|book, _, _| match book.entries().iter().find(|entry| entry.name == name) {
            // What is another's is not there.
            Some(entry) if !is_of(entry, by) => Err(book::unknown(name)),
            _ => book.revoke(name),
        })
    }

    /// The tokens that `by` may know of, by name.
    ///
    /// # Errors
    /// [`Kind::NotReady`] before [`Access::open`].
    pub fn list(&self, by: &Principal) -> Result<Vec<Entry>, Failure> {
        Ok(self.known()?.book.entries().iter().filter(|entry| is_of(entry, by)).cloned().collect())
    }

    /// Who shares the server.
    ///
    /// # Errors
    /// As [`Access::list`].
    pub fn tenants(&self) -> Result<Arc<Tenants>, Failure> {
        Ok(self.known()?.tenants)
    }

    /// Makes a tenant, or puts it in the place of one: see [`Tenants::put`].
    ///
    /// # Errors
    /// As there, and as [`Access::list`].
    pub fn put_tenant(&self, asked: Tenant) -> Result<(Arc<Tenant>, bool), Failure> {
        let _changing = lock(&self.changing);
        let known = self.known()?;
        if let Some(purpose) = &asked.purpose {
            known.purposes.find(purpose).map_err(|failure| failure.at("/purpose"))?;
        }
        let mut tenants = Tenants::clone(&known.tenants);
        let done = tenants.put(asked)?;
        self.show(Known { tenants: Arc::new(tenants), ..known });
        Ok(done)
    }

    /// Forgets a tenant that has no tokens any more.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::StillUsed`]; the disk's.
    pub fn remove_tenant(&self, name: &str) -> Result<(), Failure> {
        let _changing = lock(&self.changing);
        let known = self.known()?;
        let tokens = known.book.entries().iter().filter(|entry| entry.tenant.as_deref() == Some(name)).count();
        if tokens > 0 {
            let detail = format!("the tenant `{name}` has {tokens} tokens");
            return Err(Failure::new(Kind::StillUsed, detail).suggest("revoke them first"));
        }
        let mut tenants = Tenants::clone(&known.tenants);
        tenants.remove(name)?;
        self.show(Known { tenants: Arc::new(tenants), ..known });
        Ok(())
    }

    /// What users agreed to.
    ///
    /// # Errors
    /// As [`Access::list`].
    pub fn purposes(&self) -> Result<Arc<Purposes>, Failure> {
        Ok(self.known()?.purposes)
    }

    /// Makes a purpose, or puts it in the place of one: see [`Purposes::put`].
    ///
    /// # Errors
    /// As there, and as [`Access::list`].
    pub fn put_purpose(&self, asked: Purpose) -> Result<(Arc<Purpose>, bool), Failure> {
        let _changing = lock(&self.changing);
        let known = self.known()?;
        let mut purposes = Purposes::clone(&known.purposes);
        let done = purposes.put(asked)?;
        self.show(Known { purposes: Arc::new(purposes), ..known });
        Ok(done)
    }

    /// Forgets a purpose that nobody asks for any more.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::StillUsed`]; the disk's.
    pub fn remove_purpose(&self, name: &str) -> Result<(), Failure> {
        let _changing = lock(&self.changing);
        let known = self.known()?;
        let tokens = known.book.entries().iter().filter(|entry| entry.purpose.as_deref() == Some(name)).count();
        let tenants = known.tenants.all().filter(|tenant| tenant.purpose.as_deref() == Some(name)).count();
        if tokens + tenants > 0 {
            let detail = format!("the purpose `{name}` is that of {tokens} tokens and {tenants} tenants");
            return Err(Failure::new(Kind::StillUsed, detail).suggest("revoke them, or take it from them, first"));
        }
        let mut purposes = Purposes::clone(&known.purposes);
        purposes.remove(name)?;
        self.show(Known { purposes: Arc::new(purposes), ..known });
        Ok(())
    }

    fn known(&self) -> Result<Known, Failure> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone().ok_or_else(|| {
            Failure::new(Kind::NotReady, "the server is still opening its data directory").retry_after(1)
        })
    }

    fn show(&self, known: Known) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// What was changed counts once it is on disk.
    fn change<T>(&self, f: impl FnOnce(&mut Book, &Tenants, &Purposes) -> Result<T, Failure>) -> Result<T, Failure> {
        let _changing = lock(&self.changing);
        let known = self.known()?;
        let mut book = Book::clone(&known.book);
        let done = f(&mut book, &known.tenants, &known.purposes)?;
        self.show(Known { book: Arc::new(book), ..known });
        Ok(done)
    }
}

/// Who an issuer says that it is.
///
/// # Errors
/// [`Kind::Unauthorized`] if there is no such tenant, or its purpose is not there any more.
fn signed(claims: Claims, tenants: &Tenants, purposes: &Purposes) -> Result<Principal, Failure> {
    let Claims { subject, scopes, tenant } = claims;
    let tenant = match tenant {
        None => None,
        Some(name) => Some(Arc::clone(
            tenants
                .find(&name)
                .ok_or_else(|| Failure::new(Kind::Unauthorized, "this token is of a tenant that is not there"))?,
        )),
    };
    let purposes = asked_for(None, tenant.as_deref(), purposes)
        .map_err(|_| Failure::new(Kind::Unauthorized, "this token is for a purpose that is not there any more"))?;
    // Whoever is one of two tenants is two. No hash of a token is written like this.
    let of = tenant.as_ref().map_or("", |tenant| &tenant.name);
    let id = format!("jwt:{}", hex(digest(&SHA256, format!("{of}\0{subject}").as_bytes()).as_ref()));
    Ok(Principal { token: Some(format!("jwt:{subject}")), id, scopes, tenant, purposes })
}

/// What whoever has a token asks for: its own purpose, and its tenant's.
///
/// # Errors
/// [`Kind::NotFound`].
fn asked_for(own: Option<&String>, tenant: Option<&Tenant>, purposes: &Purposes) -> Result<Vec<Arc<Purpose>>, Failure> {
    let of_tenant = tenant.and_then(|tenant| tenant.purpose.as_ref());
    let asked: BTreeSet<&String> = own.into_iter().chain(of_tenant).collect();
    asked.into_iter().map(|name| purposes.find(name).map(Arc::clone)).collect()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a token is of the same tenant; all are the operator's to see.
fn is_of(entry: &Entry, by: &Principal) -> bool {
    by.tenant.is_none() || entry.tenant.as_deref() == by.tenant_name()
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
        let scopes = scopes.iter().copied().collect();
        NewToken { name: name.into(), scopes, tenant: None, purpose: None, expires_at }
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
        access.revoke("a", &Principal::anyone()).expect("there");
        assert_eq!(access.check(Some(&basic)).expect_err("revoked").kind, Kind::Unauthorized);
        assert_eq!(access.check(None).expect_err("still closed").kind, Kind::Unauthorized);
        let again = Access::default();
        again.open(data.path()).expect("opens");
        assert_eq!(again.check(None).expect_err("still closed").kind, Kind::Unauthorized);
    }

    #[test]
    fn a_directory_that_is_in_use_is_left_alone() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().join("new");
        let (_access, held) = Access::open_alone(&folder).expect("makes it");
        assert_eq!(Access::open_alone(&folder).map(drop).expect_err("held").kind, Kind::InUse);
        drop(held);
        Access::open_alone(&folder).expect("free again");
    }

    #[test]
    fn tokens_are_of_tenants_that_are_there() {
        let (_data, access) = opened();
        let (operator, _) = access.create(token("root", &Scope::ALL, None)).expect("made");
        let of = |name: &str, tenant: &str| NewToken { tenant: Some(tenant.into()), ..token(name, &Scope::ALL, None) };
        assert_eq!(access.create(of("a", "acme")).expect_err("unknown").pointer.as_deref(), Some("/tenant"));
        for name in ["acme", "bolt"] {
            access.put_tenant(Tenant::named(name)).expect("made");
        }
        let (acme, _) = access.create(of("a", "acme")).expect("made");
        access.create(of("b", "bolt")).expect("made");
        let known = |text: &str| access.check(Some(&format!("Bearer {text}"))).expect("known");
        let (operator, acme) = (known(&operator), known(&acme));
        assert_eq!((operator.tenant_name(), acme.tenant_name()), (None, Some("acme")));
        assert_eq!((operator.whole_name("x"), acme.whole_name("x")), ("x".to_owned(), "acme/x".to_owned()));
        let names = |by: &Principal| -> Vec<String> {
            access.list(by).expect("open").into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(&operator), ["a", "b", "root"]);
        assert_eq!(names(&acme), ["a"]);
        let (other, none) = (access.revoke("b", &acme).expect_err("another's"), access.revoke("c", &acme));
        assert_eq!(other.detail.replace('b', "c"), none.expect_err("none").detail.replace('b', "c"));
        assert!(operator.may_see(&acme) && acme.may_see(&acme) && !acme.may_see(&operator));
        assert_eq!(access.remove_tenant("acme").expect_err("has tokens").kind, Kind::StillUsed);
        access.revoke("a", &acme).expect("one's own");
        access.remove_tenant("acme").expect("has none");
        assert_eq!(access.remove_tenant("acme").expect_err("gone").kind, Kind::NotFound);
    }

    #[test]
    fn who_asks_for_a_purpose_is_told_apart_from_the_operator() {
        let (data, access) = opened();
        access.create(token("root", &Scope::ALL, None)).expect("made");
        let of = |purpose: &str| NewToken { purpose: Some(purpose.into()), ..token("ads", &[Scope::Query], None) };
        assert_eq!(access.create(of("ads")).expect_err("unknown").pointer.as_deref(), Some("/purpose"));
        for name in ["ads", "email"] {
            let (filter, description) = (format!("{name}_consent"), String::new());
            let purpose = Purpose { name: name.into(), description, filter, created_at: 1, changed_at: 1 };
            assert!(access.put_purpose(purpose).expect("made").1);
        }
        // Who may change the server as a whole could take the purpose away.
        let all = NewToken { purpose: Some("ads".into()), ..token("all", &Scope::ALL, None) };
        assert_eq!(access.create(all).expect_err("too much").pointer.as_deref(), Some("/scopes"));
        access.put_tenant(Tenant { purpose: Some("email".into()), ..Tenant::named("acme") }).expect("made");
        let (ads, _) = access.create(of("ads")).expect("made");
        let of_acme = NewToken { name: "acme.ads".into(), tenant: Some("acme".into()), ..of("ads") };
        let (acme, _) = access.create(of_acme).expect("made");
        let names = |text: &str| {
            let principal = access.check(Some(&format!("Bearer {text}"))).expect("known");
            assert!(!principal.is_operator());
            principal.purposes.iter().map(|purpose| purpose.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!((names(&ads), names(&acme)), (vec!["ads".to_owned()], vec!["ads".to_owned(), "email".to_owned()]));
        assert_eq!(access.remove_purpose("ads").expect_err("used").kind, Kind::StillUsed);
        assert_eq!(access.remove_purpose("email").expect_err("used").kind, Kind::StillUsed);
        for name in ["ads", "acme.ads"] {
            access.revoke(name, &Principal::anyone()).expect("there");
        }
        access.remove_purpose("ads").expect("nobody asks for it");
        assert_eq!(access.remove_purpose("ads").expect_err("gone").kind, Kind::NotFound);
        let again = Access::default();
        again.open(data.path()).expect("opens");
        assert_eq!(
            again.purposes().expect("open").all().map(|purpose| purpose.name.clone()).collect::<Vec<_>>(),
            ["email"]
        );
        std::fs::write(data.path().join("purposes.json"), "{").expect("written");
        assert_eq!(again.open(data.path()).expect_err("damaged").kind, Kind::Corrupt);
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
