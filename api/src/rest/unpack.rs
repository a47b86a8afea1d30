//! Bodies with `Content-Encoding: gzip`, unpacked as they are read.
//!
//! All members of a body are read: files that were packed one by one may be joined. What cannot be unpacked to its end is
//! an error of the body, so nothing behind a damage is passed over in silence.

use crate::error::{Failure, Kind};
use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use std::io;
use tokio_util::io::{ReaderStream, StreamReader};

/// Bytes that are unpacked at a time.
const UNPACKED_BYTES: usize = 64 << 10;

/// Gives the handler the body as it was before it was packed.
pub async fn unpack(mut request: Request, next: Next) -> Response {
    let Some(encoding) = request.headers_mut().remove(header::CONTENT_ENCODING) else { return next.run(request).await };
    match encoding.as_bytes().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => next.run(request).await,
        b"gzip" | b"x-gzip" => {
            request.headers_mut().remove(header::CONTENT_LENGTH);
            next.run(request.map(unpacked)).await
        }
        _ => {
            let name = String::from_utf8_lossy(encoding.as_bytes());
            let failure =
                Failure::new(Kind::UnsupportedMedia, format!("the Content-Encoding `{name}` is not understood"));
            let mut refused = failure.suggest("send the body as it is, or packed with gzip").into_response();
            refused.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            refused
        }
    }
}

fn unpacked(body: Body) -> Body {
    let packed = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut decoder = GzipDecoder::new(packed);
    decoder.multiple_members(true);
    Body::from_stream(ReaderStream::with_capacity(decoder, UNPACKED_BYTES))
}
