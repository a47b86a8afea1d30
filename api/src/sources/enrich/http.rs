//! JSON over HTTP: `GET` of an address that has the key in it.
//!
//! An object is found; 404 and 410 say that the key is not known. 408, 429 and 5xx are tried again, after `Retry-After` if
//! that is said. Redirects are not followed: they could lead where nobody meant to ask.

use super::super::declaration::Place;
use super::super::secret::TextOrSecret;
use super::run;
use crate::config::Config;
use ingest::enrich::{ANSWER_BYTES_MAX, Answer, Asking, Lookup, LookupError, Reply};
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Requests in flight, if it is not said.
pub(super) const IN_FLIGHT: usize = 64;

/// What stands for the key in an address.
const KEY: &str = "{key}";

/// JSON over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpDeclaration {
    /// The address, with `{key}` where the key stands: `https://catalog.local/products/{key}`.
    pub url: String,
    /// Headers to send along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextOrSecret>,
}

#[derive(Debug)]
struct HttpLookup {
    declaration: HttpDeclaration,
    client: OnceLock<Result<Client, String>>,
}

impl HttpDeclaration {
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn lookup(&self, config: &Config) -> Result<Arc<dyn Lookup>, Place> {
        self.check_url().map_err(|why| Place::new("/http/url", why))?;
        for (name, value) in &self.headers {
            let at = |why: String| Place::new(format!("/http/headers/{name}"), why);
            HeaderName::try_from(name).map_err(|_| at(format!("`{name}` is no name of a header")))?;
            value.check(config).map_err(at)?;
            if let TextOrSecret::Text(text) = value {
                let secret = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
                if secret.contains(&name.to_ascii_lowercase().as_str()) {
                    let why = "secrets are not written into the catalog: write { env: BELUGA_SECRET_… } or { file: … }";
                    return Err(at(why.to_owned()));
                }
                HeaderValue::try_from(text)
                    .map_err(|_| at("a header has no line ends or control characters".to_owned()))?;
            }
        }
        Ok(Arc::new(HttpLookup { declaration: self.clone(), client: OnceLock::new() }))
    }

    fn check_url(&self) -> Result<(), String> {
        let advice = "write an address with {key} where the key stands, such as https://catalog.local/products/{key}";
        if !self.url.contains(KEY) {
            return Err(format!("it has no `{KEY}`; {advice}"));
        }
        let read = |key: &str| Url::parse(&self.url.replace(KEY, key)).map_err(|error| format!("{error}; {advice}"));
        let (url, other) = (read("a")?, read("b")?);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{}:` is not asked; {advice}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "a name or a password does not stand in an address; send a header that stands elsewhere".to_owned()
            );
        }
        if (url.host(), url.port()) != (other.host(), other.port()) {
            return Err(format!("a record does not say whom to ask, so `{KEY}` stands behind the host; {advice}"));
        }
        Ok(())
    }

    /// The address of a key. None of its characters means anything in an address.
    fn url(&self, key: &str) -> Result<Url, String> {
        if matches!(key, "." | "..") {
            return Err("a key of dots alone is another folder in an address".to_owned());
        }
        let mut encoded = String::with_capacity(key.len());
        for byte in key.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
                byte => write!(encoded, "%{byte:02X}").expect("a string takes all that is written"),
            }
        }
        Url::parse(&self.url.replace(KEY, &encoded)).map_err(|error| error.to_string())
    }

    fn headers(&self) -> Result<HeaderMap, LookupError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            let lasting = |why: &str| LookupError::lasting(format!("header `{name}`: {why}"));
            let text = value.read().map_err(|why| lasting(&why))?;
            let mut value =
                HeaderValue::try_from(text).map_err(|_| lasting("it has line ends or control characters"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name).map_err(|_| lasting("no name of a header"))?, value);
        }
        Ok(headers)
    }
}

impl Lookup for HttpLookup {
    fn keys_max(&self) -> usize {
        1
    }

    fn ask(&self, keys: Vec<Arc<str>>, reply: Reply) -> Asking {
        let client = self.client.get_or_init(|| {
            let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().user_agent("beluga");
            builder.build().map_err(|error| chain(&error))
        });
        let (client, declaration) = (client.clone(), self.declaration.clone());
        run(reply, async move {
            let client = client.map_err(LookupError::lasting)?;
            let headers = declaration.headers()?;
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(match declaration.url(&key) {
                    Ok(url) => get(&client, url, headers.clone()).await?,
                    Err(why) => Err(why),
                });
            }
            Ok(answers)
        })
    }
}

async fn get(client: &Client, url: Url, headers: HeaderMap) -> Result<Answer, LookupError> {
    // An address may have what nobody else is to see.
    let passing = |error: reqwest::Error| LookupError::passing(chain(&error.without_url()));
    let answer = client.get(url).headers(headers).send().await.map_err(passing)?;
    let status = answer.status();
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Ok(None)),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(busy(&answer)),
        _ if status.is_server_error() => Err(busy(&answer)),
        _ if status.is_success() => body(answer).await.map_err(passing),
        _ if status.is_redirection() => Err(LookupError::lasting(format!(
            "it answered {status}; redirects are not followed, so write the address they lead to"
        ))),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(LookupError::lasting(format!("it answered {status}; look at `headers`")))
        }
        _ => Ok(Err(format!("it answered {status}"))),
    }
}

fn busy(answer: &Response) -> LookupError {
    // A date instead of seconds is rare, and our own waits do then.
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    LookupError {
        retry_after: seconds.map(Duration::from_secs),
        ..LookupError::passing(format!("it answered {}", answer.status()))
    }
}

/// The body as text, read only as far as it is taken.
async fn body(mut answer: Response) -> Result<Answer, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Ok(Err(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    Ok(match String::from_utf8(body) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err("its answer is not UTF-8".to_owned()),
    })
}

/// An error with its causes, which say what happened.
pub(in crate::sources) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(url: &str) -> HttpDeclaration {
        HttpDeclaration { url: url.to_owned(), headers: BTreeMap::new() }
    }

    #[test]
    fn a_key_means_nothing_in_an_address() {
        let address = |key: &str| declaration("http://h/p/{key}/x?q={key}").url(key).map(String::from);
        assert_eq!(address("a-1").as_deref(), Ok("http://h/p/a-1/x?q=a-1"));
        assert_eq!(
            address("../a?b#c/ü&").as_deref(),
            Ok("http://h/p/..%2Fa%3Fb%23c%2F%C3%BC%26/x?q=..%2Fa%3Fb%23c%2F%C3%BC%26")
        );
        assert!(address("..").is_err() && address(".").is_err());
    }

    #[test]
    fn addresses_that_cannot_be_are_named() {
        for (url, part) in [
            ("http://h/p", "it has no `{key}`"),
            ("h/{key}", "relative URL"),
            ("file:///{key}", "`file:` is not asked"),
            ("http://{key}/p", "stands behind the host"),
            ("http://u:p@h/{key}", "a password does not stand in an address"),
        ] {
            let why = declaration(url).check_url().expect_err(url);
            assert!(why.contains(part), "{why}");
        }
        let mut declaration = declaration("http://h/{key}");
        let text = TextOrSecret::Text("Bearer x".to_owned());
        declaration.headers.insert("Authorization".to_owned(), text);
        let place = declaration.lookup(&Config::default()).expect_err("a secret");
        assert_eq!(
            (place.pointer.as_str(), place.why.contains("BELUGA_SECRET_")),
            ("/http/headers/Authorization", true)
        );
        assert!(!place.why.contains("Bearer"));
    }
}
