//! Around every request: its id, its log line, its figures.

use crate::error::Kind;
use crate::state::AppState;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::Instrument;

/// The header that names a request, in the log and to the client.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A client's own request id is kept up to this length.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What a request is called, for those it comes to.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Names, times and logs a request.
pub async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.to_str().unwrap_or_default().to_owned()));
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let took = started.elapsed();
    state.metrics.request(method.as_str(), &route, status, took);
    if let Some(kind) = response.extensions().get::<Kind>() {
        state.metrics.failure(*kind);
    }
    span.in_scope(|| {
        let elapsed_us = took.as_micros() as u64;
        if status >= 500 {
            tracing::warn!(%method, route, status, elapsed_us, "answered");
        } else {
            tracing::debug!(%method, route, status, elapsed_us, "answered");
        }
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(request: &Request) -> HeaderValue {
    match request.headers().get(REQUEST_ID) {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX => id.clone(),
        _ => new_id(),
    }
}

/// A number of its own for every request of every run.
fn new_id() -> HeaderValue {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::from_str(&format!("{:016x}-{number}", *RUN)).expect("hex digits are a header value")
}
