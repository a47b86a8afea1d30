//! JSON bodies and query parameters, with errors that name the field and suggest another.
//!
//! A body is read as JSON whatever its `Content-Type` says, as `curl -d` sends it. What that type guards against in
//! browsers, other sites posting without asking, is refused by [`refuse_cross_site`] instead.

use crate::error::{Failure, Kind, escape_pointer};
use crate::state::AppState;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::audience::suggest::closest;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

/// The deepest nesting of a JSON body: serde_json's own limit.
const BODY_DEPTH_MAX: usize = 127;

/// A JSON body.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Failure> {
        let limit = state.config.body_bytes_max;
        let bytes = to_bytes(request.into_body(), limit).await.map_err(|error| body_failure(&error, limit))?;
        parse(&bytes).map(JsonBody)
    }
}

/// Query parameters.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Failure> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(parameters)) => Ok(Parameters(parameters)),
            Err(rejection) => {
                let text = std::error::Error::source(&rejection).map_or(rejection.to_string(), ToString::to_string);
                Err(with_suggestion(Failure::new(Kind::InvalidField, format!("query parameters: {text}"))))
            }
        }
    }
}

/// Reads a JSON value; errors carry a pointer to the field.
///
/// # Errors
/// [`Kind::MalformedBody`] if it is not JSON at all, [`Kind::InvalidField`] otherwise.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    if bytes.is_empty() {
        return Err(Failure::new(Kind::MalformedBody, "the body is empty; expected a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.inner();
        // Told before anything recursive of ours sees the value; what nests so deep is an expression's tree.
        if inner.to_string().starts_with("recursion limit exceeded") {
            let detail = format!("the body is nested too deep: more than {BODY_DEPTH_MAX} levels");
            return Failure::new(Kind::ExpressionTooLarge, detail);
        }
        if inner.is_syntax() || inner.is_eof() {
            return Failure::new(Kind::MalformedBody, format!("the body is not JSON: {inner}"));
        }
        let failure = Failure::new(Kind::InvalidField, inner.to_string());
        with_suggestion(if pointer.is_empty() { failure } else { failure.at(pointer) })
    })?;
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(Failure::new(Kind::MalformedBody, format!("the body is more than one JSON value: {error}"))),
    }
}

/// What the failure to read a body means; `limit` is what it was read with.
pub fn body_failure(error: &(dyn std::error::Error + 'static), limit: usize) -> Failure {
    let mut cause = Some(error);
    while let Some(link) = cause {
        if link.to_string().contains("length limit exceeded") {
            return Failure::new(Kind::BodyTooLarge, format!("the body has more than {limit} bytes"));
        }
        cause = link.source();
    }
    Failure::new(Kind::MalformedBody, format!("the body could not be read to its end: {}", chain(error)))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(link) = cause {
        let next = link.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = link.source();
    }
    text
}

fn pointer(path: &Path) -> String {
    let mut text = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("/{index}")),
            Segment::Map { key } => text.push_str(&format!("/{}", escape_pointer(key))),
            Segment::Enum { variant } => text.push_str(&format!("/{}", escape_pointer(variant))),
            Segment::Unknown => {}
        }
    }
    text
}

/// Serde's words for an unknown field name it and the fields there are, each in backticks.
fn with_suggestion(failure: Failure) -> Failure {
    if !failure.detail.contains("unknown field") && !failure.detail.contains("unknown variant") {
        return failure;
    }
    let mut quoted = failure.detail.split('`').skip(1).step_by(2);
    let Some(written) = quoted.next() else { return failure };
    match closest(written, quoted) {
        Some(name) => {
            let suggestion = format!("did you mean `{name}`?");
            failure.suggest(suggestion)
        }
        None => failure,
    }
}

/// Refuses what another site's page sends through the reader's browser. Programs send no such header.
pub async fn refuse_cross_site(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && matches!(site, Some(b"cross-site" | b"same-site")) {
        let detail = "a page of another site may not use this server through your browser; call it from a program";
        return Failure::new(Kind::CrossSite, detail).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        limit: Option<u64>,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        scale: u8,
    }

    fn refused(text: &str) -> Failure {
        parse::<Outer>(text.as_bytes()).expect_err("refused")
    }

    #[test]
    fn errors_point_at_the_field_and_suggest() {
        let failure = refused(r#"{"inner":[{"scale":1},{"scal":1}]}"#);
        assert_eq!(failure.pointer.as_deref(), Some("/inner/1/scal"));
        assert_eq!(failure.suggestion.as_deref(), Some("did you mean `scale`?"));
        assert_eq!(refused(r#"{"limit":"ten"}"#).pointer.as_deref(), Some("/limit"));
        assert_eq!(refused(r#"{"limit":1"#).kind, Kind::MalformedBody);
        assert_eq!(refused(r#"{"limit":1} x"#).kind, Kind::MalformedBody);
        assert_eq!(refused("").kind, Kind::MalformedBody);
        assert_eq!(refused("[1]").kind, Kind::InvalidField);
    }
}
