//! Look-ups of a source, as a catalog document declares them.
//!
//! ```yaml
//! enrich:
//!   - name: product
//!     key: item.sku
//!     postgres: { url: { env: BELUGA_SECRET_PG }, query: "SELECT sku, category, price FROM product WHERE sku = ANY($1)" }
//!     cache: { entries: 100000, ttl: 10 min, missing_ttl: 1 min }
//! ```
//!
//! How look-ups run is told in [`ingest::enrich`]. Here are the systems that can be asked: `postgres` (with `cells`, values of
//! columns as JSON, and `tls`) and `http`. They run on a runtime of their own, so that neither waits for requests to the
//! server.

mod cells;
mod http;
mod keys;
mod postgres;
mod tls;

pub use http::HttpDeclaration;
pub(super) use http::chain;
pub use postgres::PostgresDeclaration;

use super::declaration::Place;
use super::span::Span;
use crate::config::Config;
use ingest::enrich::{Asking, CachePolicy, Enrichment, Lookup, LookupError, OnFailure, OnMissing, Order, Reply};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

/// How long a request may take, if it is not said.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often a key is asked again after a failure, if it is not said.
const RETRIES: u32 = 3;

/// How long answers are kept, if it is not said.
const TTL: Duration = Duration::from_secs(600);
const MISSING_TTL: Duration = Duration::from_secs(60);

/// Keys that are kept, if it is not said.
const ENTRIES: usize = 100_000;

/// One look-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupDeclaration {
    /// What is found is a member of this name in the record: paths begin with it.
    pub name: String,
    /// The path of the key in the record. A record without it goes on as it is.
    pub key: String,
    /// Rows of a PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresDeclaration>,
    /// JSON over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDeclaration>,
    /// What is kept of answers; nothing if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheDeclaration>,
    /// How long a request may take: `2 s` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "2 s")]
    pub timeout: Option<Span>,
    /// How often a key is asked again after a failure, before `on_error`: 3 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Requests in flight at most: 64 over HTTP, 8 to PostgreSQL if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// Whether partitions wait for each other; records of one partition never overtake each other.
    #[serde(default)]
    pub order: OrderName,
    /// What becomes of a record whose key is not known there.
    #[serde(default)]
    pub on_missing: OnMissingKeyName,
    /// What becomes of a record whose key could not be looked up.
    #[serde(default)]
    pub on_error: OnLookupErrorName,
}

/// What is kept of answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheDeclaration {
    /// Keys at most: 100,000 if it is not said; and 256 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<usize>,
    /// How long what was found is kept: `10 min` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "10 min")]
    pub ttl: Option<Span>,
    /// How long it is kept that a key is not known: `1 min` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1 min")]
    pub missing_ttl: Option<Span>,
}

/// Whether partitions wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderName {
    /// Records go on as they were read.
    #[default]
    Ordered,
    /// Partitions do not wait for each other.
    Unordered,
}

/// What becomes of a record whose key is not known there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissingKeyName {
    /// It goes on without the member.
    #[default]
    Keep,
    /// It is not wanted, and counts as filtered.
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
}

/// What becomes of a record whose key could not be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLookupErrorName {
    /// The source waits and tries again; nothing is lost.
    #[default]
    Wait,
    /// It goes on without the member.
    Keep,
    /// It becomes a dead letter.
    DeadLetter,
}

/// What is to run.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn lookups(declared: &[LookupDeclaration], config: &Config) -> Result<Vec<Arc<Enrichment>>, Place> {
    let mut lookups: Vec<Arc<Enrichment>> = Vec::with_capacity(declared.len());
    for (index, declaration) in declared.iter().enumerate() {
        let at = |place: Place| Place::new(format!("/enrich/{index}{}", place.pointer), place.why);
        if lookups.iter().any(|other| other.name == declaration.name) {
            let why = format!("two look-ups are named `{}`; give one another name", declaration.name);
            return Err(at(Place::new("/name", why)));
        }
        lookups.push(Arc::new(declaration.enrichment(config).map_err(at)?));
    }
    Ok(lookups)
}

impl LookupDeclaration {
    fn enrichment(&self, config: &Config) -> Result<Enrichment, Place> {
        let timeout = self.timeout.map_or(TIMEOUT, |span| span.0);
        let (lookup, in_flight): (Arc<dyn Lookup>, usize) = match (&self.postgres, &self.http) {
            (Some(postgres), None) => (postgres.lookup(timeout, config)?, postgres::IN_FLIGHT),
            (None, Some(http)) => (http.lookup(config)?, http::IN_FLIGHT),
            _ => {
                let why = "say what is asked: either `postgres: { url: …, query: … }` or `http: { url: … }`";
                return Err(Place::new("", why));
            }
        };
        let enrichment = Enrichment {
            name: self.name.clone(),
            key: self.key.clone(),
            lookup,
            cache: self.cache.as_ref().map(|cache| CachePolicy {
                entries: cache.entries.unwrap_or(ENTRIES),
                ttl: cache.ttl.map_or(TTL, |span| span.0),
                missing_ttl: cache.missing_ttl.map_or(MISSING_TTL, |span| span.0),
            }),
            timeout,
            retries: self.retries.unwrap_or(RETRIES),
            in_flight: self.in_flight.unwrap_or(in_flight),
            order: match self.order {
                OrderName::Ordered => Order::Ordered,
                OrderName::Unordered => Order::Unordered,
            },
            on_missing: match self.on_missing {
                OnMissingKeyName::Keep => OnMissing::Keep,
                OnMissingKeyName::Drop => OnMissing::Drop,
                OnMissingKeyName::DeadLetter => OnMissing::DeadLetter,
            },
            on_failure: match self.on_error {
                OnLookupErrorName::Wait => OnFailure::Wait,
                OnLookupErrorName::Keep => OnFailure::Keep,
                OnLookupErrorName::DeadLetter => OnFailure::DeadLetter,
            },
        };
        enrichment.check().map_err(|error| Place::new(format!("/{}", error.setting), error.what))?;
        Ok(enrichment)
    }
}

/// Threads on which look-ups run: a request that waits holds none.
const THREADS: usize = 2;

/// Where look-ups run.
fn runtime() -> Result<&'static Runtime, &'static str> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let built = builder.worker_threads(THREADS).enable_all().thread_name("beluga-lookup").build();
        built.map_err(|error| format!("start threads for look-ups: {error}"))
    });
    runtime.as_ref().map_err(String::as_str)
}

/// Runs a request, until its [`Asking`] is dropped.
fn run(
    reply: Reply,
    request: impl Future<Output = Result<Vec<ingest::enrich::Answer>, LookupError>> + Send + 'static,
) -> Asking {
    struct Guard(AbortHandle);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    match runtime() {
        Ok(runtime) => {
            let task = runtime.spawn(async move { reply.send(request.await) });
            Asking::new(Guard(task.abort_handle()))
        }
        Err(why) => {
            reply.send(Err(LookupError::lasting(why)));
            Asking::new(())
        }
    }
}
