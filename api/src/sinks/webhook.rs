//! An address that a sink posts to: how it is declared, and how it is told.
//!
//! A batch is one `POST`. Its `Idempotency-Key` is the same when it comes again. With a secret, `Beluga-Signature: sha256=<hex>` is the
//! HMAC-SHA256 (RFC 2104) of the body. An answer of 2xx means that all of it was taken; 408, 425, 429, 5xx and silence that it is to be
//! sent again; anything else that it will never be taken. Redirects are not followed: they would take the records, and the
//! signature, where nobody said.

use crate::config::Config;
use crate::sources::Place;
use crate::sources::secret::{SecretPlace, TextOrSecret};
use crate::sources::span::Span;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ingest::sink::{Connector, Deliver, Delivery, DeliveryError, Refusal, SinkIdentity, Stop};
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long an answer is awaited, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often is looked whether the sink is to end.
const STOP_LOOK: Duration = Duration::from_millis(50);
/// Characters of an answer that an error shows.
const SHOWN_CHARS_MAX: usize = 200;

const SIGNATURE: HeaderName = HeaderName::from_static("beluga-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers that are ours to say.
const RESERVED: [HeaderName; 7] = [
    SIGNATURE,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    IDEMPOTENCY_KEY,
    header::TRANSFER_ENCODING,
];

/// An address that records are posted to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookDeclaration {
    /// `https://…` or `http://…`.
    pub url: String,
    /// How records are written.
    #[serde(default, skip_serializing_if = "BodyFormat::is_default")]
    pub format: BodyFormat,
    /// Signs the body: `Beluga-Signature: sha256=<hex of HMAC-SHA256>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretPlace>,
    /// More headers; a value is text, or where a secret stands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextOrSecret>,
    /// How long an answer is awaited: `30 s` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30 s")]
    pub timeout: Option<Span>,
}

/// How the records of a body are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BodyFormat {
    /// A JSON array.
    #[default]
    Json,
    /// A JSON object a line.
    Ndjson,
}

impl BodyFormat {
    fn is_default(&self) -> bool {
        *self == BodyFormat::default()
    }
}

impl WebhookDeclaration {
    /// For people: `webhook https://crm.example/hook`.
    pub(super) fn summary(&self) -> String {
        // What follows may be a secret of somebody's.
        let shown = self.url.split(['?', '#']).next().unwrap_or_default();
        format!("webhook {shown}")
    }

    /// What opens it.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    pub(super) fn connector(&self, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        let url = self.checked_url().map_err(|why| Place::new("/webhook/url", why))?;
        if let Some(secret) = &self.secret {
            secret.check(config).map_err(|why| Place::new("/webhook/secret", why))?;
        }
        for (name, value) in &self.headers {
            let at = |why: String| Place::new(format!("/webhook/headers/{name}"), why);
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| at("it is no name of a header".to_owned()))?;
            if RESERVED.contains(&parsed) {
                return Err(at("this header is ours to say; leave it out".to_owned()));
            }
            value.check(config).map_err(at)?;
            if let TextOrSecret::Text(text) = value
                && HeaderValue::from_str(text).is_err()
            {
                return Err(at("its value cannot stand in a header".to_owned()));
            }
        }
        Ok(Arc::new(Webhook { declaration: self.clone(), url }))
    }

    fn checked_url(&self) -> Result<reqwest::Url, String> {
        let url = reqwest::Url::parse(&self.url).map_err(|error| {
            // What it says may hold a password.
            format!("it is no address ({error}); write it as https://HOST/PATH")
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("write it as https://HOST/PATH".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            let why = "a name and a password are no part of it, since the catalog is shown; say `headers: { Authorization: { env: \
                       BELUGA_SECRET_… } }`";
            return Err(why.to_owned());
        }
        Ok(url)
    }
}

#[derive(Debug)]
struct Webhook {
    declaration: WebhookDeclaration,
    url: reqwest::Url,
}

impl Connector for Webhook {
    fn open(&self, _: &SinkIdentity) -> Result<Box<dyn Deliver>, DeliveryError> {
        let never = |what: &str, why: String| DeliveryError::Never(format!("{what}: {why}"));
        let key = match &self.declaration.secret {
            None => None,
            Some(place) => {
                let secret = place.read().map_err(|why| never("/webhook/secret", why))?;
                Some(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.declaration.headers {
            let at = |why: String| never(&format!("/webhook/headers/{name}"), why);
            let text = value.read().map_err(at)?;
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|error| at(error.to_string()))?;
            let mut value = HeaderValue::from_str(&text).map_err(|error| at(error.to_string()))?;
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(self.declaration.timeout.map_or(TIMEOUT, |span| span.0))
            .user_agent("beluga")
            .default_headers(headers)
            .build();
        let client = client.map_err(|error| never("/webhook", error.to_string()))?;
        // Its own, so that it ends when the sink is told to, whatever the server's does.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| DeliveryError::later(error.to_string()))?;
        Ok(Box::new(Poster {
            client,
            runtime: Some(runtime),
            url: self.url.clone(),
            format: self.declaration.format,
            key,
        }))
    }
}

/// Posts.
struct Poster {
    client: reqwest::Client,
    /// There until it is dropped.
    runtime: Option<Runtime>,
    url: reqwest::Url,
    format: BodyFormat,
    key: Option<hmac::Key>,
}

/// What an answer says.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// The begin of its body.
    text: String,
}

impl Poster {
    fn request(&self, delivery: &Delivery<'_>) -> reqwest::RequestBuilder {
        let body = body(self.format, delivery);
        let media_type = match self.format {
            BodyFormat::Json => "application/json",
            BodyFormat::Ndjson => "application/x-ndjson",
        };
        let mut request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, media_type)
            .header(IDEMPOTENCY_KEY, &delivery.key);
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE, signature(key, body.as_bytes()));
        }
        request.body(body)
    }
}

fn body(format: BodyFormat, delivery: &Delivery<'_>) -> String {
    let bytes: usize = delivery.records.iter().map(|record| record.json.len() + 1).sum();
    let mut body = String::with_capacity(bytes + 2);
    for (index, record) in delivery.records.iter().enumerate() {
        match format {
            BodyFormat::Json => body.push(if index == 0 { '[' } else { ',' }),
            BodyFormat::Ndjson => {}
        }
        body.push_str(record.json);
        if format == BodyFormat::Ndjson {
            body.push('\n');
        }
    }
    if format == BodyFormat::Json {
        body.push(']');
    }
    body
}

fn signature(key: &hmac::Key, body: &[u8]) -> String {
    hmac::sign(key, body).as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sends a request, and reads the begin of an answer that is no success.
async fn exchange(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let mut response = request.send().await?;
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let mut text = String::new();
    if !status.is_success()
        && let Ok(Some(chunk)) = response.chunk().await
    {
        text = String::from_utf8_lossy(&chunk).chars().take(SHOWN_CHARS_MAX).collect();
    }
    Ok(Answer { status, retry_after, text })
}

/// A number of seconds, or a time.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(until.duration_since(jiff::Timestamp::now()).unsigned_abs()).filter(|_| until > jiff::Timestamp::now())
}

impl Deliver for Poster {
    fn deliver(&mut self, delivery: &Delivery<'_>, stop: &Stop) -> Result<Vec<Refusal>, DeliveryError> {
        let exchange = exchange(self.request(delivery));
        let Some(runtime) = &self.runtime else { return Err(DeliveryError::later("stopped")) };
        let answer = runtime.block_on(async {
            tokio::pin!(exchange);
            let mut looks = tokio::time::interval(STOP_LOOK);
            loop {
                tokio::select! {
                    answer = &mut exchange => return Some(answer),
                    _ = looks.tick() => if stop.is_set() { return None },
                }
            }
        });
        match answer {
            None => Err(DeliveryError::later("stopped")),
            Some(Ok(answer)) => answer.verdict(),
            Some(Err(error)) => Err(DeliveryError::later(chain(&error.without_url()))),
        }
    }
}

impl Drop for Poster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nobody waits for the look-up of a name that is under way.
            runtime.shutdown_background();
        }
    }
}

impl Answer {
    fn verdict(self) -> Result<Vec<Refusal>, DeliveryError> {
        let Answer { status, retry_after, text } = self;
        let said =
            if text.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {text}") };
        match status.as_u16() {
            200..=299 => Ok(Vec::new()),
            408 | 425 | 429 | 500..=599 => Err(DeliveryError::Later { why: said, after: retry_after }),
            300..=399 => {
                Err(DeliveryError::Never(format!("{said}; redirects are not followed, so give the address itself")))
            }
            _ => Err(DeliveryError::Never(said)),
        }
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_signed_as_published() {
        // RFC 4231, test cases 2 and 6.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let signed = signature(&key, b"what do ya want for nothing?");
        assert_eq!(signed, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[0xaa; 131]);
        let signed = signature(&key, b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(signed, "sha256=60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn waits_are_seconds_or_a_time() {
        assert_eq!(retry_after(" 120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None, "it is over");
        let soon = jiff::Timestamp::now() + Duration::from_secs(100);
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).expect("a time");
        let wait = retry_after(&text).expect("a wait").as_secs();
        assert!((98..=100).contains(&wait), "{text}: {wait}");
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let refused = |yaml: &str, pointer: &str, says: &str| {
            let declaration: WebhookDeclaration = serde_yaml_ng::from_str(yaml).expect("a declaration");
            let place = declaration.connector(&Config::default()).expect_err("refused");
            assert_eq!(place.pointer, pointer, "{}", place.why);
            assert!(place.why.contains(says), "{}", place.why);
        };
        refused("url: nowhere", "/webhook/url", "https://HOST/PATH");
        let unreadable: WebhookDeclaration =
            serde_yaml_ng::from_str("url: 'https://ann:tiger@a:port/b'").expect("a declaration");
        let place = unreadable.connector(&Config::default()).expect_err("refused");
        assert!(place.why.contains("https://HOST/PATH") && !place.why.contains("tiger"), "{}", place.why);
        refused("url: 'ftp://a/b'", "/webhook/url", "https://HOST/PATH");
        refused("url: 'https://ann:tiger@a/b'", "/webhook/url", "no part of it");
        refused("{url: 'https://a', secret: {env: HOME}}", "/webhook/secret", "BELUGA_SECRET_HOME");
        refused("{url: 'https://a', secret: {file: /etc/passwd}}", "/webhook/secret", "secret_folders");
        refused("{url: 'https://a', headers: {Host: b}}", "/webhook/headers/Host", "ours to say");
        refused("{url: 'https://a', headers: {'a b': c}}", "/webhook/headers/a b", "no name of a header");
        refused("{url: 'https://a', headers: {A: {env: PATH}}}", "/webhook/headers/A", "BELUGA_SECRET_PATH");
    }
}
