//! The public keys of an issuer: a JWKS (RFC 7517), in a file or at an address.
//!
//! A key is of a kind, and of a kind there are few algorithms; a token that names another is not checked with it. So a public key is never
//! taken for a secret, and no signature for none. A file is read again when it changes. An address is asked at the start, now and then, and
//! when a token names a key that is not known, but not more often than once a minute; while it does not answer, what was read before counts.

use crate::config::Insecure;
use crate::error::{Failure, Kind};
use crate::watched::{self, Stamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The most keys of an issuer: a token that names none is tried with each.
const KEYS_MAX: usize = 64;
/// Bytes of a JWKS.
const BYTES_MAX: usize = 1 << 20;
/// How long an address may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often it is asked at most, and without being needed.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const ASK_INTERVAL: Duration = Duration::from_secs(600);

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub(super) const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// As it is written in tokens and keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The one of a name, to the letter.
    pub(super) fn of(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn of_rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
        }
    }
}

/// A key as a JWKS has it; what a key has besides is not needed.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    used_for: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    /// The only algorithm, if one is named.
    algorithm: Option<Algorithm>,
    public: Public,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Public {
    /// The key, if it is one that signatures are checked with here.
    fn of(key: &Jwk) -> Option<Public> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
        // Some leave out leading zeros.
        let number = |text: &Option<String>, length: usize| {
            let bytes = bytes(text)?;
            let missing = length.checked_sub(bytes.len())?;
            Some([vec![0; missing], bytes].concat())
        };
        let point = |length: usize| Some([vec![4], number(&key.x, length)?, number(&key.y, length)?].concat());
        match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", _) => {
                let significant = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect();
                Some(Public::Rsa { n: significant(bytes(&key.n)?), e: significant(bytes(&key.e)?) })
            }
            ("EC", Some("P-256")) => Some(Public::P256(point(32)?)),
            ("EC", Some("P-384")) => Some(Public::P384(point(48)?)),
            ("OKP", Some("Ed25519")) => bytes(&key.x).filter(|bytes| bytes.len() == 32).map(Public::Ed25519),
            _ => None,
        }
    }

    fn takes(&self, algorithm: Algorithm) -> bool {
        match self {
            Public::Rsa { .. } => algorithm.of_rsa().is_some(),
            Public::P256(_) => algorithm == Algorithm::Es256,
            Public::P384(_) => algorithm == Algorithm::Es384,
            Public::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let plain = |parameters: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(parameters, key).verify(signed, signature).is_ok()
        };
        match self {
            Public::Rsa { n, e } => algorithm.of_rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }),
            Public::P256(point) => plain(&ECDSA_P256_SHA256_FIXED, point),
            Public::P384(point) => plain(&ECDSA_P384_SHA384_FIXED, point),
            Public::Ed25519(point) => plain(&ED25519, point),
        }
    }
}

impl Key {
    /// `None` if it is of another kind, or for something else than signatures.
    fn of(value: &serde_json::Value) -> Option<Key> {
        let key = Jwk::deserialize(value).ok()?;
        let is_for_signatures = key.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
            && key.key_ops.as_ref().is_none_or(|does| does.iter().any(|does| does == "verify"));
        let public = Public::of(&key).filter(|_| is_for_signatures)?;
        let algorithm = match &key.alg {
            None => None,
            Some(name) => Some(Algorithm::of(name).filter(|algorithm| public.takes(*algorithm))?),
        };
        Some(Key { id: key.kid, algorithm, public })
    }

    fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && self.public.takes(algorithm)
    }
}

/// The keys of a JWKS that can be used, at least one.
///
/// # Errors
/// What is wrong with it.
fn read(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: Jwks =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JWKS ({{\"keys\": […]}}): {error}"))?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("it has {} keys; at most {KEYS_MAX} are taken", set.keys.len()));
    }
    let keys: Vec<Key> = set.keys.iter().filter_map(Key::of).collect();
    match keys.is_empty() {
        true => Err("it has no public key for signatures: RSA, EC (P-256, P-384) or OKP (Ed25519)".to_owned()),
        false => Ok(keys),
    }
}

/// Where a JWKS is.
#[derive(Debug)]
enum Place {
    File(PathBuf, Stamp),
    Address(Box<Url>, reqwest::Client),
}

/// The keys of an issuer, as they are known now.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    place: Place,
    known: RwLock<Arc<Vec<Key>>>,
    /// When the address was last asked. Held while it is.
    asked_at: tokio::sync::Mutex<Option<Instant>>,
}

impl IssuerKeys {
    /// Reads those of a file; those of an address are had later. `insecure`: whether an address may be asked without TLS.
    ///
    /// # Errors
    /// [`Failure`] if it is no address and no file with keys.
    pub(super) fn of(place: &str, insecure: Insecure) -> Result<IssuerKeys, Failure> {
        let keys = |place, known| IssuerKeys {
            place,
            known: RwLock::new(Arc::new(known)),
            asked_at: tokio::sync::Mutex::default(),
        };
        if place.contains("://") {
            return Ok(keys(address(place, insecure)?, Vec::new()));
        }
        let path = PathBuf::from(place);
        // Before it is read: what is written meanwhile is read again.
        let stamp = Stamp::of(std::slice::from_ref(&path));
        let told =
            |kind, why: &dyn std::fmt::Display| Failure::new(kind, format!("jwt_keys: {}: {why}", path.display()));
        let known = std::fs::read(&path).map_err(|error| told(Kind::LocalFile, &error))?;
        let known = read(&known).map_err(|why| told(Kind::InvalidField, &why))?;
        Ok(keys(Place::File(path, stamp), known))
    }

    /// Whether none are known.
    pub(super) fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// Whether there is a key with this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.known().iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Checks a signature with the key of this id, or without one with each that there is.
    ///
    /// # Errors
    /// Why it is not one.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), &'static str> {
        let known = self.known();
        let named: Vec<&Key> = known.iter().filter(|key| id.is_none() || key.id.as_deref() == id).collect();
        if named.is_empty() {
            return Err("this token is signed with a key (kid) that is not known to be its issuer's");
        }
        let mut fitting = named.into_iter().filter(|key| key.takes(algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err("the algorithm of this token (alg) is not that of its issuer's key");
        }
        match fitting.any(|key| key.public.verify(algorithm, signed, signature)) {
            true => Ok(()),
            false => Err("the signature of this token is not its issuer's"),
        }
    }

    fn known(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, keys: Vec<Key>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Whether asking could tell something new.
    pub(super) fn may_ask(&self) -> bool {
        let is_address = matches!(self.place, Place::Address(..));
        // Who asks now is waited for.
        is_address && self.asked_at.try_lock().map_or(true, |asked_at| is_long_ago(*asked_at))
    }

    /// Asks the address, unless it was just now.
    pub(super) async fn ask(&self) {
        let Place::Address(url, client) = &self.place else { return };
        let mut asked_at = self.asked_at.lock().await;
        if !is_long_ago(*asked_at) {
            return;
        }
        // Also if it fails.
        *asked_at = Some(Instant::now());
        match get(client, url).await {
            Ok(keys) => self.show(keys),
            Err(why) => {
                tracing::warn!(%url, why, "the issuer's keys could not be had; those that are known count");
            }
        }
    }

    /// Keeps up with the place; never done.
    pub(super) async fn watch(self: Arc<Self>) {
        if let Place::File(path, stamp) = &self.place {
            let (path, stamp, keys) = (path.clone(), stamp.clone(), Arc::clone(&self));
            return watched::watch(vec![path.clone()], stamp, move || keys.read_again(&path)).await;
        }
        let mut ticks = tokio::time::interval(ASK_INTERVAL);
        loop {
            ticks.tick().await;
            self.ask().await;
        }
    }

    fn read_again(&self, path: &Path) {
        let keys = std::fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| read(&bytes));
        match keys {
            Ok(keys) => self.show(keys),
            Err(why) => {
                let path = path.display();
                tracing::error!(%path, why, "the issuer's keys could not be read; those that are known count");
            }
        }
    }
}

fn is_long_ago(asked_at: Option<Instant>) -> bool {
    asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN)
}

fn address(text: &str, insecure: Insecure) -> Result<Place, Failure> {
    let wrong = |why: String| Failure::new(Kind::InvalidField, format!("jwt_keys: `{text}`: {why}"));
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a name or a password does not stand in an address".to_owned()));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if is_here || insecure >= Insecure::Plaintext => {}
        "http" => {
            let why = "without TLS anybody on the way could put keys of theirs in the place of the issuer's";
            return Err(
                wrong(why.to_owned()).suggest("use https://, or a file; in a closed network set insecure=plaintext")
            );
        }
        scheme => return Err(wrong(format!("`{scheme}:` is not asked")).suggest("use https://, or a file")),
    }
    let client = reqwest::Client::builder()
        .timeout(ANSWER_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent("beluga")
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Place::Address(Box::new(url), client))
}

async fn get(client: &reqwest::Client, url: &Url) -> Result<Vec<Key>, String> {
    let told = |error: reqwest::Error| error.without_url().to_string();
    let mut answer = client.get(url.clone()).send().await.map_err(told)?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > BYTES_MAX {
            return Err(format!("it has more than {BYTES_MAX} bytes"));
        }
    }
    read(&bytes)
}
