//! A registry of schemas over HTTP, as Confluent's answers and those that follow it (Karapace, Apicurio, Redpanda).
//!
//! `GET /schemas/ids/{id}` gives a schema with the subjects and versions that it refers to, `GET
//! /subjects/{subject}/versions/{version}` each of those.
//!
//! Source: Confluent, "Schema Registry API reference".

use super::enrich::chain;
use super::payload::SCHEMA_BYTES_MAX;
use super::secret::SecretPlace;
use ingest::decode::avro::{FetchError, RegisteredSchema, SchemaSource};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a schema may take, with all that it refers to.
const FETCH_MAX: Duration = Duration::from_secs(20);

/// Schemas that one refers to, in all.
const REFERENCES_MAX: usize = 100;

const MEDIA_TYPES: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// A registry; it is connected to when it is first asked.
pub(super) struct HttpRegistry {
    url: reqwest::Url,
    user: Option<String>,
    password: Option<SecretPlace>,
    client: OnceLock<Client>,
}

impl fmt::Debug for HttpRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpRegistry({})", self.url)
    }
}

/// A schema as a registry tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

impl HttpRegistry {
    /// # Errors
    /// Why that is no address.
    pub(super) fn new(url: &str, user: Option<String>, password: Option<SecretPlace>) -> Result<HttpRegistry, String> {
        const EXAMPLE: &str = "write one such as https://registry:8081";
        let url = reqwest::Url::parse(url).map_err(|error| format!("`{url}` is no address ({error}); {EXAMPLE}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(format!("`{}:` is not spoken; {EXAMPLE}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a name and a password stand in `user` and `password`, not in the address".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("it ends with its path; {EXAMPLE}"));
        }
        Ok(HttpRegistry { url, user, password, client: OnceLock::new() })
    }

    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // Elsewhere the name and the password are not for.
        let client = Client::builder().redirect(Policy::none()).no_proxy().build();
        let client = client.map_err(|error| FetchError::Unavailable(format!("schema registry: {error}")))?;
        Ok(self.client.get_or_init(|| client))
    }

    fn get<T: DeserializeOwned>(&self, path: &[&str], deadline: Instant) -> Result<T, FetchError> {
        let unavailable = |what: String| FetchError::Unavailable(format!("schema registry {}: {what}", self.url));
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(unavailable(format!(
                "a schema with all that it refers to took longer than {} s",
                FETCH_MAX.as_secs()
            )));
        }
        let mut request = self.client()?.get(url).timeout(left.min(ANSWER_MAX)).header(ACCEPT, MEDIA_TYPES);
        if let Some(user) = &self.user {
            let password = self.password.as_ref().map(SecretPlace::read).transpose();
            request = request.basic_auth(user, password.map_err(|why| unavailable(format!("its password: {why}")))?);
        }
        let answer = request.send().map_err(|error| unavailable(chain(&error.without_url())))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(FetchError::None(format!("{} is not in the registry {}", path.join("/"), self.url)));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(unavailable("it refuses the name and password; see `user` and `password`".to_owned()));
            }
            status => return Err(unavailable(format!("it answers {status}"))),
        }
        serde_json::from_slice(&body(answer).map_err(unavailable)?)
            .map_err(|error| unavailable(format!("its answer is not one of a schema registry ({error})")))
    }

    /// The schemas that others refer to, each behind those that it refers to itself.
    fn follow(&self, references: &[Reference], found: &mut Found) -> Result<(), FetchError> {
        for reference in references {
            if !found.seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            if found.seen.len() > REFERENCES_MAX {
                return Err(FetchError::None(format!("a schema refers to more than {REFERENCES_MAX} others")));
            }
            let version = reference.version.to_string();
            let told: Told = self.get(&["subjects", &reference.subject, "versions", &version], found.deadline)?;
            self.follow(&told.references, found)?;
            found.texts.push(told.schema);
        }
        Ok(())
    }
}

struct Found {
    deadline: Instant,
    seen: HashSet<(String, u32)>,
    texts: Vec<String>,
}

impl SchemaSource for HttpRegistry {
    fn fetch(&self, id: u32) -> Result<RegisteredSchema, FetchError> {
        let deadline = Instant::now() + FETCH_MAX;
        let told: Told = self.get(&["schemas", "ids", &id.to_string()], deadline)?;
        if let Some(other) = told.schema_type.filter(|name| !name.eq_ignore_ascii_case("avro")) {
            return Err(FetchError::None(format!("schema {id} of the registry is one of {other}, not of Avro")));
        }
        let mut found = Found { deadline, seen: HashSet::new(), texts: Vec::new() };
        self.follow(&told.references, &mut found)?;
        Ok(RegisteredSchema { text: told.schema, references: found.texts })
    }
}

fn body(answer: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    answer.take(SCHEMA_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SCHEMA_BYTES_MAX {
        return Err(format!("its answer has more than {SCHEMA_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_takes_no_longer_than_its_deadline() {
        // It takes connections in, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", silent.local_addr().expect("an address"));
        let registry = HttpRegistry::new(&url, None, None).expect("an address");
        let begin = Instant::now();
        let get = |deadline| registry.get::<Told>(&["schemas", "ids", "1"], deadline).map(|told| told.schema);
        let Err(FetchError::Unavailable(late)) = get(begin + Duration::from_millis(300)) else { panic!("no answer") };
        assert!(late.contains("timed out") && begin.elapsed() < ANSWER_MAX, "{late}");
        let Err(FetchError::Unavailable(late)) = get(begin) else { panic!("no time") };
        assert!(late.contains("took longer than 20 s"), "{late}");
    }
}
