//! What is told who speaks HTTP to a port that speaks TLS, instead of an alert that looks like noise.

use crate::error::{Failure, Kind};
use axum::http::StatusCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What says it.
const DETAIL: &str = "this port speaks TLS: ask https://, and with Flight SQL grpc+tls://";
/// How clients of HTTP/2 begin, that know of it before.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Bytes that are read and thrown away behind the answer, and for how long: a connection that is closed with bytes unread is torn down, and the
/// answer with it.
const DRAINED_BYTES_MAX: u64 = 64 << 10;
const DRAINING_MAX: Duration = Duration::from_secs(1);

/// Answers somebody whose connection begins with these bytes, and ends it.
pub(super) async fn refuse(mut stream: TcpStream, begin: &[u8]) {
    let answer = match begin {
        begin if begin.starts_with(&PREFACE[..PREFACE.len().min(begin.len())]) && begin.len() > 3 => go_away(),
        // Something like a method.
        begin if begin.first().is_some_and(u8::is_ascii_uppercase) => problem(),
        _ => return,
    };
    if stream.write_all(&answer).await.is_ok() {
        end(stream).await;
    }
}

/// Ends a connection so that its client sees what was sent last.
pub(super) async fn end(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let mut rest = stream.take(DRAINED_BYTES_MAX);
        let mut sink = tokio::io::sink();
        let drained = tokio::io::copy(&mut rest, &mut sink);
        let _ = tokio::time::timeout(DRAINING_MAX, drained).await;
    }
}

/// Of HTTP/1.
fn problem() -> Vec<u8> {
    let body = serde_json::to_vec(&Failure::new(Kind::TlsNeeded, DETAIL).to_problem()).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        StatusCode::BAD_REQUEST,
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Of HTTP/2: empty settings, then GOAWAY with `INADEQUATE_SECURITY` (RFC 9113, sections 6.5, 6.8 and 7).
fn go_away() -> Vec<u8> {
    let length = u8::try_from(8 + DETAIL.len()).expect("a sentence");
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    frames.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
    // The last stream that was looked at, and the code.
    frames.extend([0, 0, 0, 0, 0, 0, 0, 0xc]);
    frames.extend(DETAIL.as_bytes());
    frames
}
