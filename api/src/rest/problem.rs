//! Failures as RFC 9457 `application/problem+json`, whoever made them: a handler, a layer, or a panic.

use crate::error::{Failure, Kind};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        let body = serde_json::to_vec(&self.to_problem()).expect("a problem is plain text and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // For whoever counts them.
        response.extensions_mut().insert(self.kind);
        response
    }
}

/// Rewrites errors that a layer answered in its own words.
pub async fn unify(request: Request, next: Next) -> axum::response::Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if !is_error || content_type.is_some_and(|value| value == PROBLEM_JSON) {
        return response;
    }
    let failure = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            // The header is added by the router, outside of all layers.
            Failure::new(
                Kind::MethodNotAllowed,
                format!("{path} does not take {method}; the header Allow names what it takes"),
            )
        }
        _ => Failure::new(Kind::from_status(status), status.canonical_reason().unwrap_or("the request failed")),
    };
    let mut rewritten = failure.into_response();
    *rewritten.status_mut() = status;
    rewritten
}

/// The answer when a handler panicked: the server lives on, the log has the message.
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Failure::internal(format!("a handler panicked: {text}")).into_response()
}

/// The answer for a path that no route has.
pub async fn no_route(request: Request) -> Failure {
    Failure::new(Kind::NoRoute, format!("there is no {}; see /docs for all calls", request.uri().path()))
}
