//! Tokens of somebody else: JWTs (RFC 7519) that a configured issuer signed for us.
//!
//! The signature is checked before anything that the token claims is believed, with a key of the issuer's that is made for the algorithm
//! ([`super::keys`]): the token chooses neither. What its header says of where a key could be had is not looked at. Then it has to be of
//! the issuer, for our audience, and of now; whom it names has the scopes and the tenant that it claims.

use super::Scope;
use super::keys::{Algorithm, IssuerKeys};
use crate::config::Config;
use crate::error::{Failure, Kind};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far clocks may differ, in seconds.
const LEEWAY: f64 = 30.0;
/// Bytes of the longest name of whom a token is about.
const SUBJECT_BYTES_MAX: usize = 255;
/// What a token may say to be, if it says it: others of an issuer (to log out, to prove who sends it) are signed with the same keys.
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];

/// Who signs tokens beside us.
#[derive(Debug)]
pub(super) struct Issuer {
    name: String,
    audience: String,
    tenant_claim: String,
    keys: Arc<IssuerKeys>,
}

/// What a token says that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) scopes: BTreeSet<Scope>,
    pub(super) tenant: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// What must be understood; nothing of it is.
    #[serde(default)]
    crit: Option<Value>,
}

/// A token in its parts; nothing is checked yet.
struct Parts<'t> {
    header: Header,
    /// What is signed.
    signed: &'t [u8],
    claims: &'t str,
    signature: Vec<u8>,
}

/// Whether a text is built as one.
pub(super) fn is_jwt(token: &str) -> bool {
    token.split('.').count() == 3
}

impl Issuer {
    /// The one of a configuration; `None` if it has none.
    ///
    /// # Errors
    /// [`Kind::InvalidField`] if a setting is missing or cannot be; [`Kind::LocalFile`] if there is a file of keys that cannot be read.
    pub(super) fn of(config: &Config) -> Result<Option<Issuer>, Failure> {
        let set = [
            ("jwt_issuer", &config.jwt_issuer),
            ("jwt_audience", &config.jwt_audience),
            ("jwt_keys", &config.jwt_keys),
        ];
        if let [(_, Some(name)), (_, Some(audience)), (_, Some(keys))] = set {
            return Ok(Some(Issuer {
                name: name.clone(),
                audience: audience.clone(),
                tenant_claim: config.jwt_tenant_claim.clone(),
                keys: Arc::new(IssuerKeys::of(keys, config.insecure)?),
            }));
        }
        let Some((there, _)) = set.iter().find(|(_, value)| value.is_some()) else { return Ok(None) };
        let missing = set.iter().find(|(_, value)| value.is_none()).map_or("", |(name, _)| *name);
        let failure = Failure::new(Kind::InvalidField, format!("{there} is set, and {missing} is not"));
        Err(failure
            .suggest("tokens of an issuer need jwt_issuer (their iss), jwt_audience (their aud) and jwt_keys (a JWKS)"))
    }

    /// What looks after the keys, for as long as the server runs.
    pub(super) fn watch(&self) -> BoxFuture<'static, ()> {
        Box::pin(Arc::clone(&self.keys).watch())
    }

    /// Asks for the issuer's keys, if that may bring the one of a token; to be waited for before [`Issuer::check`].
    pub(super) fn missing_keys(&self, token: &str) -> Option<BoxFuture<'static, ()>> {
        if !self.keys.may_ask() {
            return None;
        }
        let id = parts(token).ok()?.header.kid;
        if id.map_or_else(|| !self.keys.is_empty(), |id| self.keys.has(&id)) {
            return None;
        }
        let keys = Arc::clone(&self.keys);
        Some(Box::pin(async move {
            // It goes on for others if this call is given up.
            let _ = tokio::spawn(async move { keys.ask().await }).await;
        }))
    }

    /// What a token says; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`].
    pub(super) fn check(&self, token: &str, now: f64) -> Result<Claims, Failure> {
        let Parts { header, signed, claims, signature } = parts(token)?;
        if header.crit.is_some() {
            return Err(unauthorized("this token has conditions (crit) that are not known here"));
        }
        if header.typ.is_some_and(|typ| !TYPES.contains(&typ.to_ascii_lowercase().as_str())) {
            return Err(unauthorized("this is a token of another type (typ) than those that let in"));
        }
        let algorithm = Algorithm::of(&header.alg).ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            unauthorized("the algorithm of this token (alg) is not taken")
                .suggest(format!("sign it with one of {names}"))
        })?;
        self.keys.verify(header.kid.as_deref(), algorithm, signed, &signature).map_err(unauthorized)?;
        let claims: Map<String, Value> = decode(claims)?;
        self.check_claims(&claims, now)
    }

    fn check_claims(&self, claims: &Map<String, Value>, now: f64) -> Result<Claims, Failure> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.name.as_str()) {
            return Err(unauthorized("this token is of another issuer (iss)"));
        }
        let audiences = claims.get("aud").and_then(one_or_many).unwrap_or_default();
        if !audiences.contains(&self.audience.as_str()) {
            return Err(unauthorized("this token is for another audience (aud)"));
        }
        let expires_at = time(claims, "exp")?.ok_or_else(|| unauthorized("this token never expires (exp)"))?;
        if now >= expires_at + LEEWAY {
            return Err(unauthorized("this token has expired").suggest("ask its issuer for a new one"));
        }
        if time(claims, "nbf")?.is_some_and(|begin| now < begin - LEEWAY) {
            return Err(unauthorized("this token is not valid yet (nbf)"));
        }
        let is_name =
            |name: &&str| !name.is_empty() && name.len() <= SUBJECT_BYTES_MAX && !name.chars().any(char::is_control);
        let subject = claims.get("sub").and_then(Value::as_str).filter(is_name);
        let subject = subject.ok_or_else(|| {
            unauthorized(&format!("this token does not name whom it is about (sub) in 1 to {SUBJECT_BYTES_MAX} bytes"))
        })?;
        let tenant = match claims.get(&self.tenant_claim) {
            None => None,
            // Whoever forgets the name is not the operator.
            Some(Value::String(name)) if !name.is_empty() => Some(name.clone()),
            Some(_) => {
                return Err(unauthorized(&format!("the claim `{}` of this token is no name", self.tenant_claim)));
            }
        };
        Ok(Claims { subject: subject.to_owned(), scopes: scopes(claims), tenant })
    }
}

/// Those of ours that a token has; others are of other services.
fn scopes(claims: &Map<String, Value>) -> BTreeSet<Scope> {
    let named = ["scope", "scp"].iter().filter_map(|claim| claims.get(*claim)).filter_map(one_or_many);
    let words = named.flatten().flat_map(str::split_ascii_whitespace);
    words.filter_map(|word| Scope::ALL.into_iter().find(|scope| scope.name() == word)).collect()
}

/// A text, or a list of them.
fn one_or_many(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// A time, if it is claimed.
fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<f64>, Failure> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let wrong = || unauthorized(&format!("the claim `{claim}` of this token is no time"));
    value.as_f64().filter(|seconds| seconds.is_finite()).map(Some).ok_or_else(wrong)
}

fn parts(token: &str) -> Result<Parts<'_>, Failure> {
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    Ok(Parts { header: decode(header)?, signed: signed.as_bytes(), claims, signature })
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed())?;
    serde_json::from_slice(&bytes).map_err(|_| malformed())
}

fn malformed() -> Failure {
    unauthorized("this is no token: a part of it is missing or mistyped")
}

fn unauthorized(detail: &str) -> Failure {
    Failure::new(Kind::Unauthorized, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Insecure;
    use serde_json::json;

    #[test]
    fn clocks_may_differ_by_half_a_minute() {
        let issuer = Issuer {
            name: "us".to_owned(),
            audience: "here".to_owned(),
            tenant_claim: "tenant".to_owned(),
            keys: Arc::new(IssuerKeys::of("https://localhost/keys", Insecure::Off).expect("an address")),
        };
        let check = |now: f64| {
            let claims =
                json!({"iss": "us", "aud": "here", "sub": "a", "nbf": 1_000, "exp": 1_060.5, "scope": "query"});
            issuer.check_claims(claims.as_object().expect("claims"), now)
        };
        for outside in [0.0, 969.9, 1_090.5, 1e12] {
            assert_eq!(check(outside).expect_err("not now").kind, Kind::Unauthorized, "{outside}");
        }
        for inside in [970.0, 1_000.0, 1_060.5, 1_090.4] {
            let claims = check(inside).expect("now");
            assert_eq!((claims.subject.as_str(), claims.tenant), ("a", None));
            assert_eq!(claims.scopes, [Scope::Query].into());
        }
    }
}
