//! What a call goes through before anything of it is read: its token, how large its messages may be, and how long its question may
//! take to come.

use super::door::Flight;
use super::status::status;
use crate::audit::Record;
use crate::queries::Door;
use crate::state::AppState;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::http::{Request, Response, header};
use futures::future::{self, BoxFuture};
use futures::stream::{self, StreamExt};
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// Bytes of the largest message of a call that brings no rows.
pub(super) const QUESTION_BYTES_MAX: usize = 2 << 20;
/// How long the message of such a call may take to come, and the first one of a call that brings rows.
pub(super) const QUESTION_TIME: Duration = Duration::from_secs(30);
/// The call that brings rows.
const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// The service behind its gate. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    state: AppState,
    asks: FlightServiceServer<Flight>,
    puts: FlightServiceServer<Flight>,
}

impl Gate {
    /// `rows_bytes_max`: of the largest message with rows.
    pub(super) fn new(flight: Flight, rows_bytes_max: usize) -> Gate {
        let state = flight.state.clone();
        let service = |message_bytes_max: usize| {
            FlightServiceServer::new(flight.clone())
                .max_decoding_message_size(message_bytes_max)
                // What goes out is cut into smaller messages; a single row may still be long.
                .max_encoding_message_size(usize::MAX)
        };
        Gate { state, asks: service(QUESTION_BYTES_MAX.min(rows_bytes_max)), puts: service(rows_bytes_max) }
    }
}

impl NamedService for Gate {
    const NAME: &'static str = <FlightServiceServer<Flight> as NamedService>::NAME;
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(keys) = self.state.access.missing_keys(authorization(&request)) {
            let mut gate = self.clone();
            return Box::pin(async move {
                keys.await;
                gate.pass(request).await
            });
        }
        self.pass(request)
    }
}

impl Gate {
    fn pass(&mut self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let authorization = authorization(&request);
        if let Err(failure) = self.state.access.check(authorization) {
            let record = Record::of_call(Door::Flight, "call", None).ended(&Err::<(), _>(failure.clone()));
            self.state.audit().note(record);
            return Box::pin(future::ready(Ok(status(&failure).into_http())));
        }
        match request.uri().path() {
            DO_PUT => self.puts.call(request),
            _ => self.asks.call(request.map(|body| timed(body, QUESTION_TIME))),
        }
    }
}

fn authorization(request: &Request<Body>) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// A body that has to come within a time.
fn timed(body: Body, time: Duration) -> Body {
    let until = Instant::now() + time;
    let chunks = axum::body::Body::new(body).into_data_stream();
    let chunks = stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        match tokio::time::timeout_at(until, chunks.next()).await {
            Ok(chunk) => chunk.map(|chunk| (chunk, Some(chunks))),
            Err(_) => Some((Err(axum::Error::new(late())), None)),
        }
    });
    Body::new(axum::body::Body::from_stream(chunks))
}

/// What a client is told whose message did not come.
pub(super) fn late() -> Status {
    Status::deadline_exceeded(format!("the message did not come within {} s", QUESTION_TIME.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_message_that_does_not_come_is_not_waited_for() {
        let sent = |more: stream::BoxStream<'static, Result<Bytes, Status>>| {
            let begin = stream::iter([Ok(Bytes::from_static(b"begin"))]);
            let body = Body::new(axum::body::Body::from_stream(begin.chain(more)));
            axum::body::to_bytes(axum::body::Body::new(timed(body, Duration::from_millis(20))), 100)
        };
        assert_eq!(&*sent(stream::empty().boxed()).await.expect("all of it"), b"begin");
        let error = sent(stream::pending().boxed()).await.expect_err("it never ends");
        let told = Status::from_error(error.into());
        assert_eq!(told.code(), tonic::Code::DeadlineExceeded, "{told}");
    }
}
