//! Reads on behind a refusal, so that the client gets to see it.
//!
//! A connection that is closed while its client still sends a body is torn down: the client finds a broken pipe instead of
//! the answer that says why. So what a handler left unread is read and thrown away before its answer goes out, up to
//! [`DRAINED_BYTES_MAX`] and for at most [`DRAINING_MAX`]; behind that the connection is closed all the same. Who stopped sending is not
//! waited for.

use axum::Error;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// The most that is read and thrown away.
const DRAINED_BYTES_MAX: usize = 64 << 20;
/// The longest that an answer is held back.
const DRAINING_MAX: Duration = Duration::from_secs(5);

/// Lets the request be answered, then reads what is left of its body.
pub async fn drain(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let version = request.version();
    let waits_for_a_word = request.headers().contains_key(header::EXPECT);
    let (sender, mut left) = oneshot::channel();
    let request = request.map(|body| {
        Body::from_stream(Lent { body: Some(body.into_data_stream()), was_polled: false, back: Some(sender) })
    });
    let mut response = next.run(request).await;
    let Ok((rest, was_polled)) = left.try_recv() else { return response };
    // A client that asked whether to send the body at all has not begun to.
    let is_sending = (was_polled || !waits_for_a_word) && response.status() != StatusCode::REQUEST_TIMEOUT;
    let is_read = is_sending && read_to_end(rest).await;
    if !is_read && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn read_to_end(mut body: BodyDataStream) -> bool {
    let all = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = body.next().await {
            bytes += chunk.len();
            if bytes > DRAINED_BYTES_MAX {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DRAINING_MAX, all).await.unwrap_or(false)
}

/// A body that comes back when whoever reads it lets go of it.
struct Lent {
    body: Option<BodyDataStream>,
    was_polled: bool,
    back: Option<oneshot::Sender<(BodyDataStream, bool)>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.was_polled = true;
        match &mut self.body {
            Some(body) => body.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody wants it back if the request itself was given up.
            let _ = back.send((body, self.was_polled));
        }
    }
}
