//! The Flight SQL door: what ADBC, JDBC and tools built on them speak.
//!
//! A client asks for a statement (`GetFlightInfo`), gets a ticket, and fetches the rows with it (`DoGet`). The statement is planned when
//! it comes, on the newest snapshot; the rows are of that snapshot whenever they are fetched. Nothing of a statement is in a ticket.
//!
//! * [`gate`]: the token, before anything is read. [`door`]: the calls. * [`statements`], [`prepared`], [`rows`]: questions and their answers.
//! * [`metadata`], [`information`], [`types`]: what tools ask on connecting. * [`ingest`]: rows in, by the way that HTTP has.
//! * [`actions`], [`sessions`]: the rest. * [`held`]: what is kept between calls. * [`status`]: errors.

mod actions;
mod door;
mod gate;
mod held;
mod information;
mod ingest;
mod metadata;
mod prepared;
mod rows;
mod sessions;
mod statements;
mod status;
mod types;

use crate::access::{Principal, Scope};
use crate::server::KEEP_ALIVE;
use crate::state::AppState;
use crate::tls::Listener;
use arrow_flight::sql::Command;
use door::Flight;
use futures::stream;
use gate::Gate;
use held::Id;
use sessions::{Options, Session};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tower_http::catch_panic::CatchPanicLayer;

/// What a message may have beside its rows.
const MESSAGE_BYTES_MORE: usize = 1 << 20;
/// Calls that one connection may have open at a time.
const CALLS_MAX: u32 = 256;
/// What a client may send ahead of being read, for a call and for a connection.
const WINDOW_BYTES: (u32, u32) = (4 << 20, 16 << 20);
/// How often what nobody uses any more is looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Answers until `stopping`, and then until the open calls are over.
///
/// # Errors
/// The operating system's; and if it gives no random numbers.
pub(crate) async fn serve(
    listener: Listener,
    state: AppState,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let message_bytes_max = state.config.arrow_message_bytes_max.saturating_add(MESSAGE_BYTES_MORE);
    let flight = Flight::new(state).map_err(io::Error::other)?;
    let swept = Arc::downgrade(&flight.0);
    let sweep = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            match swept.upgrade() {
                Some(shared) => shared.expire(),
                None => break,
            }
        }
    });
    let incoming = stream::unfold(listener, |mut listener| async move {
        let (connection, _) = listener.next().await;
        Some((Ok::<_, io::Error>(connection), listener))
    });
    let service = Gate::new(flight, message_bytes_max);
    let served = Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1)
        .layer(CatchPanicLayer::custom(door::panicked as fn(_) -> _))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stopping)
        .await;
    sweep.abort();
    served.map_err(io::Error::other)
}

/// Who calls, and what the call may take.
#[derive(Clone, Debug)]
struct Caller {
    principal: Principal,
    session: Option<(Id, Arc<Session>)>,
    /// What the client said how long it waits.
    waits: Option<Duration>,
}

/// What asking statements needs: they can list users.
const EXPORT: &[Scope] = &[Scope::Query, Scope::Export];

/// What a command needs.
fn scopes(command: &Command) -> &'static [Scope] {
    match command {
        Command::CommandStatementIngest(_) => &[Scope::Ingest],
        Command::CommandStatementQuery(_)
        | Command::CommandStatementUpdate(_)
        | Command::CommandStatementSubstraitPlan(_)
        | Command::CommandPreparedStatementQuery(_)
        | Command::CommandPreparedStatementUpdate(_)
        | Command::TicketStatementQuery(_) => EXPORT,
        // They tell of tables, not of users.
        _ => &[Scope::Query],
    }
}

impl Caller {
    /// # Errors
    /// If a scope is missing.
    fn need(&self, scopes: &[Scope]) -> Result<(), Status> {
        self.principal.need(scopes).map_err(|failure| status::status(&failure))
    }

    /// What it set in its session.
    fn options(&self) -> Options {
        self.session.as_ref().map(|(_, session)| session.options()).unwrap_or_default()
    }

    /// How long a statement may take: what the client waits, or set, or the server allows if nothing was said; at most what it allows
    /// at all.
    fn time(&self, state: &AppState) -> Duration {
        let said = self.waits.or_else(|| self.options().timeout_ms.map(Duration::from_millis));
        let time = said.unwrap_or(state.config.query_timeout).min(state.config.query_timeout_max);
        time.max(Duration::from_millis(1))
    }

    /// The same as REST takes it.
    fn timeout_ms(&self, state: &AppState) -> Option<u64> {
        Some(u64::try_from(self.time(state).as_millis()).unwrap_or(u64::MAX).max(1))
    }

    fn deadline(&self, state: &AppState) -> Instant {
        Instant::now() + self.time(state)
    }
}

/// `grpc-timeout`: up to eight digits and a unit.
fn waits(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_waits_is_read() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("a value"));
            waits(&metadata)
        };
        assert_eq!(read("10S"), Some(Duration::from_secs(10)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "S", "10", "10x", "-1S", "999999999S", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(waits(&MetadataMap::new()), None);
    }
}
