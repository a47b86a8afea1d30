//! `GET /` and `/console/…`: the console, pages for people over the same calls as for programs.
//!
//! Its files are those of `api/console`, in the binary; a build for development reads them from that folder at each request. Nothing
//! in them is made for who asks, so they are open: what the pages show they ask for themselves, with the reader's token. The policy
//! below keeps them to this server and to their own files, whatever a tag's value or a user's id may contain.

use crate::error::{Failure, Kind};
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::fmt::Write;

/// The files, by their path in the folder.
#[derive(RustEmbed)]
#[folder = "console"]
struct Files;

/// Only files and calls of this server; no code in the page, none made from text; in nobody's frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// `GET /`.
pub async fn page(headers: HeaderMap) -> Result<Response, Failure> {
    answer("index.html", &headers)
}

/// `GET /console/{path}`.
pub async fn file(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    answer(&path, &headers)
}

fn answer(path: &str, headers: &HeaderMap) -> Result<Response, Failure> {
    let none = || Failure::new(Kind::NotFound, format!("the console has no file `{path}`")).suggest("it begins at /");
    let file = Files::get(path).ok_or_else(none)?;
    let tag = entity_tag(&file);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|known| known.trim() == tag);
    let media_type = match file.metadata.mimetype() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(file.data.into_owned()) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, HeaderValue::from_str(&media_type).map_err(Failure::internal)?);
    told.insert(header::ETAG, HeaderValue::from_str(&tag).map_err(Failure::internal)?);
    // Kept, and asked for again each time: a newer server has newer pages, all of them at once.
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    told.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    told.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    told.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    told.insert(OPENER, HeaderValue::from_static("same-origin"));
    Ok(response)
}

/// Of the file's bytes; a weak one, since they go out packed or not. Sixteen of the hash's bytes tell any two files apart.
fn entity_tag(file: &EmbeddedFile) -> String {
    let hash = &file.metadata.sha256_hash()[..16];
    let hex = hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("W/\"{hex}\"")
}
