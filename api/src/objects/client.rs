//! Requests to object stores.
//!
//! They run on a runtime of their own, so that who waits for them holds no thread of it and can give up; each ends by itself
//! after a while. A client is made for a bucket when it is first asked, and made anew, with secrets read again, when a
//! store refused what it was given: keys change.

use super::declaration::ObjectStoreDeclaration;
use super::failure;
use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use ingest::objects::{Answer, Depth, Object, ObjectError, ObjectErrorKind, ObjectFiles, Page};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::{Error as PathError, Path};
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How often a request is sent again, after waits that grow.
const RETRIES_MAX: usize = 3;
/// After so long it is not sent again.
const RETRY_MAX: Duration = Duration::from_secs(45);
/// How long it takes in all, whatever happens.
const ANSWER_MAX: Duration = Duration::from_secs(90);
/// Names of a page.
const PAGE_NAMES_MAX: usize = 1000;
/// Threads on which requests run.
const THREADS: usize = 2;

/// What a cursor begins with: a token of the store, or the key behind which the listing goes on.
const OF_TOKEN: char = 't';
const BEHIND_KEY: char = 'k';

/// Stores, by the URLs of objects.
pub(crate) struct StoreObjects {
    declared: ObjectStoreDeclaration,
    clients: Arc<Mutex<HashMap<String, Arc<dyn Client>>>>,
}

/// Lists pages and reads.
trait Client: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Client for T {}

/// Shows no credentials.
impl fmt::Debug for StoreObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreObjects")
    }
}

/// A name in its parts: `s3://bucket/` and the key.
struct Name<'a> {
    root: &'a str,
    scheme: &'a str,
    bucket: &'a str,
    key: &'a str,
}

impl Name<'_> {
    fn read(name: &str) -> Option<Name<'_>> {
        let (scheme, rest) = name.split_once("://")?;
        let (bucket, key) = rest.split_once('/')?;
        Some(Name { root: &name[..name.len() - key.len()], scheme, bucket, key })
    }
}

impl StoreObjects {
    pub(crate) fn new(declared: ObjectStoreDeclaration) -> StoreObjects {
        StoreObjects { declared, clients: Arc::default() }
    }

    fn client(&self, name: &Name<'_>) -> Result<Arc<dyn Client>, ObjectError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(name.root) {
            return Ok(Arc::clone(client));
        }
        let refused = |why: String| ObjectError::new(ObjectErrorKind::Refused, why);
        let client = self.connect(name).map_err(refused)?;
        clients.insert(name.root.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    fn connect(&self, name: &Name<'_>) -> Result<Arc<dyn Client>, String> {
        let options = ClientOptions::new().with_connect_timeout(CONNECT_MAX).with_timeout(REQUEST_MAX);
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_MAX,
        };
        let wrong = |error: Error| format!("object_store: {}", failure::read(&error, true).what);
        Ok(match name.scheme {
            "s3" => {
                let options = options.with_allow_http(self.allows_http());
                let builder = self.declared.builder()?.with_client_options(options).with_retry(retry);
                Arc::new(builder.with_bucket_name(name.bucket).build().map_err(wrong)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_client_options(options).with_retry(retry);
                Arc::new(builder.with_bucket_name(name.bucket).build().map_err(wrong)?)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_client_options(options).with_retry(retry);
                Arc::new(builder.with_container_name(name.bucket).build().map_err(wrong)?)
            }
            scheme => return Err(format!("`{scheme}:` is not spoken; s3, gs and az are")),
        })
    }

    /// Of an address that the server was started with, it is the server's business.
    fn allows_http(&self) -> bool {
        let of_server = || {
            let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok());
            endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
        };
        self.declared.allow_http || (self.declared.endpoint.is_none() && of_server())
    }

    /// Runs a request; its answer comes through the channel.
    fn run<T, F>(&self, name: &str, is_listing: bool, request: impl FnOnce(Arc<dyn Client>, String) -> F) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (send, answer) = channel();
        let refused = |why: String| ObjectError::new(ObjectErrorKind::Refused, why);
        let parts = Name::read(name).ok_or_else(|| refused(format!("`{name}` does not name a bucket")));
        let began = parts.and_then(|parts| {
            let client = self.client(&parts)?;
            let runtime = runtime().map_err(|why| ObjectError::new(ObjectErrorKind::Unavailable, why))?;
            Ok((request(client, parts.key.to_owned()), runtime, parts.root.to_owned()))
        });
        let (request, runtime, root) = match began {
            Ok(began) => began,
            Err(error) => {
                // Who asked has the other end.
                let _ = send.send(Err(error));
                return answer;
            }
        };
        let clients = Arc::clone(&self.clients);
        runtime.spawn(async move {
            let answered = match tokio::time::timeout(ANSWER_MAX, request).await {
                Ok(answered) => answered.map_err(|error| failure::read(&error, is_listing)),
                Err(_) => {
                    let what = format!("the store did not answer within {} s", ANSWER_MAX.as_secs());
                    Err(ObjectError::new(ObjectErrorKind::Unavailable, what))
                }
            };
            if answered.as_ref().is_err_and(|error| error.kind == ObjectErrorKind::Refused) {
                clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&root);
            }
            // Who asked may not want it any more.
            let _ = send.send(answered);
        });
        answer
    }
}

impl ObjectFiles for StoreObjects {
    fn list(&self, prefix: &str, depth: Depth, next: Option<&str>) -> Answer<Page> {
        let root = Name::read(prefix).map_or_else(String::new, |name| name.root.to_owned());
        let listing = Listing { root, depth, next: next.map(str::to_owned) };
        self.run(prefix, true, move |client, prefix| listing.page(client, prefix))
    }

    fn stat(&self, name: &str) -> Answer<Object> {
        let root = Name::read(name).map_or_else(String::new, |name| name.root.to_owned());
        self.run(
            name,
            false,
            move |client, key| async move { Ok(object(&root, client.head(&Path::parse(key)?).await?)) },
        )
    }

    fn read(&self, object: &Object, range: Range<u64>) -> Answer<Bytes> {
        let if_match = object.version.as_deref().map(str::to_owned);
        self.run(&object.name, false, move |client, key| async move {
            let options = GetOptions { if_match, range: Some(range.clone().into()), ..GetOptions::default() };
            collect(client.get_opts(&Path::parse(key)?, options).await?.into_stream(), range.end - range.start).await
        })
    }
}

/// The bytes of an answer, which a store may send more of than it was asked for.
async fn collect(
    mut parts: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    bytes_expected: u64,
) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(part) = parts.try_next().await? {
        if (bytes.len() + part.len()) as u64 > bytes_expected {
            let what = format!("more came than the {bytes_expected} bytes that were asked for");
            return Err(Error::Generic { store: "object", source: what.into() });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

fn object(root: &str, found: ObjectMeta) -> Object {
    Object {
        name: format!("{root}{}", found.location).into(),
        size_bytes: found.size,
        version: found.e_tag.map(Into::into),
        modified: Some(found.last_modified.into()),
    }
}

/// A page to be listed.
struct Listing {
    root: String,
    depth: Depth,
    next: Option<String>,
}

impl Listing {
    /// The client gives no page on which any name is odd (`a//b`, control characters). Such a page is asked for in ever smaller
    /// parts, until the name is alone; then the listing goes on behind it.
    async fn page(self, client: Arc<dyn Client>, prefix: String) -> Result<Page, Error> {
        let mut odd_names = Vec::new();
        let mut cursor = self.next.clone();
        let mut names = PAGE_NAMES_MAX;
        loop {
            let found = client.list_paginated(Some(&prefix), self.options(cursor.as_deref(), names)).await;
            let source = match found {
                Ok(found) => {
                    let is_below = |found: &ObjectMeta| found.location.as_ref().starts_with(&prefix);
                    let objects = found.result.objects.into_iter().filter(is_below);
                    let objects = objects.map(|found| object(&self.root, found)).collect();
                    let next = found.page_token.map(|token| format!("{OF_TOKEN}{token}"));
                    return Ok(Page { objects, odd_names, next });
                }
                Err(Error::InvalidPath { source }) => source,
                Err(error) => return Err(error),
            };
            if names > 1 {
                names = names.div_ceil(4);
                continue;
            }
            let Some(key) = odd_key(&source) else { return Err(Error::InvalidPath { source }) };
            odd_names.push(format!("{}{key}", self.root));
            let behind = Some(format!("{BEHIND_KEY}{}", behind(&key)));
            if behind == cursor {
                return Err(Error::InvalidPath { source });
            }
            cursor = behind;
        }
    }

    fn options(&self, cursor: Option<&str>, names: usize) -> PaginatedListOptions {
        let of_kind = |kind: char| cursor.and_then(|cursor| cursor.strip_prefix(kind)).map(str::to_owned);
        PaginatedListOptions {
            offset: of_kind(BEHIND_KEY),
            page_token: of_kind(OF_TOKEN),
            delimiter: (self.depth == Depth::Here).then_some("/".into()),
            max_keys: Some(names),
            ..PaginatedListOptions::default()
        }
    }
}

/// The key that a client could not read.
fn odd_key(error: &PathError) -> Option<String> {
    match error {
        PathError::EmptySegment { path } | PathError::BadSegment { path, .. } => Some(path.clone()),
        _ => None,
    }
}

/// From where on names may be better again: below an empty part none is.
fn behind(key: &str) -> String {
    match key.find("//") {
        Some(at) => format!("{}{}", &key[..at + 2], char::MAX),
        None if key.ends_with('/') => format!("{key}{}", char::MAX),
        None => key.to_owned(),
    }
}

/// Where requests run.
fn runtime() -> Result<&'static Runtime, &'static str> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let built = builder.worker_threads(THREADS).enable_all().thread_name("beluga-objects").build();
        built.map_err(|error| format!("start threads for object stores: {error}"))
    });
    runtime.as_ref().map_err(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_was_asked_for() {
        let collected = |expected| {
            let endless = std::iter::repeat_with(|| Ok(Bytes::from_static(b"abcd")));
            let parts: Box<dyn Iterator<Item = _>> =
                if expected == 8 { Box::new(endless.take(2)) } else { Box::new(endless) };
            futures::executor::block_on(collect(futures::stream::iter(parts), expected))
        };
        assert_eq!(collected(8).expect("all"), "abcdabcd".as_bytes());
        let error = failure::read(&collected(10).expect_err("too many"), false);
        assert!(error.kind == ObjectErrorKind::Unavailable && error.what.contains("the 10 bytes"), "{error}");
    }
}
