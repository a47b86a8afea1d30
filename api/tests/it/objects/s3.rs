//! A small S3: lists in pages, gives ranges, and fails as it is told to. Signatures are not checked, keys are.

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The one bucket, and the key that may read it.
pub(super) const BUCKET: &str = "bucket";
pub(super) const KEY_ID: &str = "AKIATESTKEY";
pub(super) const SECRET: &str = "s3cr3t/of+the+test";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// 503 to everything.
    Away,
    /// No answer.
    Hang,
    /// Half of what was asked for, then the connection ends.
    Torn,
}

#[derive(Default)]
struct Shelf {
    objects: BTreeMap<String, (u64, Bytes)>,
    written: u64,
    fault: Fault,
    /// Ranges of `GET`s, by key.
    reads: Vec<(String, u64)>,
    listed: u64,
}

/// A running server; its thread ends with the process.
pub(super) struct S3 {
    shelf: Arc<Mutex<Shelf>>,
    pub(super) url: String,
}

/// Names of a page, whatever is asked for.
const PAGE: usize = 100;

impl S3 {
    pub(super) fn start() -> S3 {
        let shelf = Arc::<Mutex<Shelf>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, router).await.expect("serves");
            });
        });
        S3 { shelf, url }
    }

    pub(super) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let mut shelf = self.shelf.lock().expect("unpoisoned");
        shelf.written += 1;
        let written = shelf.written;
        shelf.objects.insert(key.to_owned(), (written, bytes.into()));
    }

    pub(super) fn remove(&self, key: &str) {
        self.shelf.lock().expect("unpoisoned").objects.remove(key);
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.shelf.lock().expect("unpoisoned").fault = fault;
    }

    /// Bytes given of a key: the most at once, and all.
    pub(super) fn given(&self, key: &str) -> (u64, u64) {
        let shelf = self.shelf.lock().expect("unpoisoned");
        let sizes = shelf.reads.iter().filter(|(read, _)| read == key).map(|(_, size)| *size);
        (sizes.clone().max().unwrap_or(0), sizes.sum())
    }

    pub(super) fn listed(&self) -> u64 {
        self.shelf.lock().expect("unpoisoned").listed
    }
}

async fn answer(
    State(shelf): State<Arc<Mutex<Shelf>>>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let fault = shelf.lock().expect("unpoisoned").fault;
    match fault {
        Fault::Away => return error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Reduce your request rate."),
        Fault::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
        Fault::None | Fault::Torn => {}
    }
    let signed = headers.get(header::AUTHORIZATION).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.contains(&format!("Credential={KEY_ID}/")) && !value.contains(SECRET))
    });
    if !signed {
        return error(StatusCode::FORBIDDEN, "InvalidAccessKeyId", "The key you gave does not exist.");
    }
    let path = decoded(uri.path().trim_start_matches('/'));
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    if bucket != BUCKET {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist");
    }
    let mut shelf = shelf.lock().expect("unpoisoned");
    if key.is_empty() { list(&mut shelf, &query) } else { get(&mut shelf, &method, key, &headers, fault) }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    (status, text).into_response()
}

fn list(shelf: &mut Shelf, query: &HashMap<String, String>) -> Response {
    shelf.listed += 1;
    let of = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, delimiter) = (of("prefix"), of("delimiter"));
    let behind = if of("continuation-token").is_empty() { of("start-after") } else { of("continuation-token") };
    let most = of("max-keys").parse().unwrap_or(PAGE).min(PAGE);
    let matching = shelf.objects.iter().filter(|(key, _)| {
        let rest = key.strip_prefix(prefix);
        rest.is_some_and(|rest| delimiter.is_empty() || !rest.contains(delimiter))
            && (behind.is_empty() || key.as_str() > behind)
    });
    let page: Vec<_> = matching.take(most).collect();
    let mut xml = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
    for (key, (written, bytes)) in &page {
        let key = key.replace('&', "&amp;").replace('<', "&lt;");
        let size = bytes.len();
        xml.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-21T10:00:00.000Z</LastModified><ETag>\"{written}\"</ETag>\
             <Size>{size}</Size></Contents>"
        ));
    }
    if page.len() == most && most > 0 {
        let last = page[page.len() - 1].0.replace('&', "&amp;").replace('<', "&lt;");
        xml.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    xml.push_str("</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], xml).into_response()
}

fn get(shelf: &mut Shelf, method: &Method, key: &str, headers: &HeaderMap, fault: Fault) -> Response {
    let Some((written, bytes)) = shelf.objects.get(key).cloned() else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let tag = format!("\"{written}\"");
    if text(header::IF_MATCH).is_some_and(|wanted| wanted != tag) {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "It changed.");
    }
    let size = bytes.len();
    let range = text(header::RANGE).and_then(|range| {
        let (begin, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((begin.parse::<usize>().ok()?, end.parse::<usize>().ok()?.min(size - 1)))
    });
    let builder = Response::builder()
        .header(header::ETAG, tag)
        .header(header::LAST_MODIFIED, "Sat, 21 Nov 2026 10:00:00 GMT")
        .header(header::ACCEPT_RANGES, "bytes");
    let (status, body) = match range {
        Some((begin, end)) => (StatusCode::PARTIAL_CONTENT, bytes.slice(begin..=end)),
        None => (StatusCode::OK, bytes),
    };
    let mut builder = builder.status(status).header(header::CONTENT_LENGTH, body.len());
    if let Some((begin, end)) = range {
        builder = builder.header(header::CONTENT_RANGE, format!("bytes {begin}-{end}/{size}"));
    }
    if method == Method::HEAD {
        return builder.body(Body::empty()).expect("an answer");
    }
    shelf.reads.push((key.to_owned(), body.len() as u64));
    if fault == Fault::Torn {
        let half = body.slice(..body.len() / 2);
        let torn = futures::stream::iter([Ok(half), Err(std::io::Error::other("torn"))]);
        return builder.body(Body::from_stream(torn)).expect("an answer");
    }
    builder.body(Body::from(body)).expect("an answer")
}

/// `%20` to a space.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let hex = (*first == b'%').then(|| std::str::from_utf8(&behind[..2]).expect("two digits"));
        match hex {
            Some(hex) => {
                bytes.push(u8::from_str_radix(hex, 16).expect("hexadecimal"));
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
