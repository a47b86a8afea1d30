//! The PostgreSQL door: what `psql`, JDBC and drivers of that database speak. It only reads, and is closed unless it is asked for.
//!
//! A statement goes the way that Flight SQL's go: the same guard and plan, the same place in line, time and list of what runs. It is
//! answered on the newest snapshot; its rows stream as fast as the client takes them. Libraries for this protocol either plan by themselves,
//! past the guard, or trust the lengths in a message; so what is read of a client is read here, byte by byte, with nothing that can panic.
//!
//! * [`connection`], [`startup`], [`keys`]: a connection, who it is, and how it is cancelled from another.
//! * [`frames`], [`messages`]: bytes in and out. * [`session`], [`statements`], [`prepared`], [`portal`]: statements and their
//!   answers.
//! * [`words`], [`commands`], [`settings`], [`catalog`]: what drivers say and look for besides. * [`errors`]: what goes wrong.
//! * [`types`], [`values`], [`numeric`], [`times`], [`parameters`]: types, and values in both directions.

mod catalog;
mod commands;
mod connection;
mod errors;
mod frames;
mod keys;
mod messages;
mod numeric;
mod parameters;
mod portal;
mod prepared;
mod session;
mod settings;
mod startup;
mod statements;
mod times;
mod types;
mod values;
mod words;

use crate::server::keep_alive;
use crate::state::AppState;
use keys::Keys;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client may take to log in.
const TIME_TO_BEGIN: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that are told at a time that there are too many.
const REFUSED_MAX: usize = 16;

/// What all connections share.
struct Shared {
    state: AppState,
    keys: Arc<Keys>,
    stopping: CancellationToken,
}

/// Answers until `stopping`, and then until the statements that run are over.
///
/// # Errors
/// None: a connection that cannot be taken is tried again.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let connections_max = state.config.postgres_connections_max;
    let places = Arc::new(Semaphore::new(connections_max));
    let refused = Arc::new(Semaphore::new(REFUSED_MAX));
    let shared = Arc::new(Shared { state, keys: Arc::default(), stopping: CancellationToken::new() });
    // When this is dropped all of them are.
    let mut connections = JoinSet::new();
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection of PostgreSQL's protocol was not taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        keep_alive(&stream);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                connection::serve(stream, peer, shared).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refused).try_acquire_owned() {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                connection::refuse(stream, shared, connections_max).await;
                drop(place);
            });
        }
    }
    drop(listener);
    shared.stopping.cancel();
    while connections.join_next().await.is_some() {}
    Ok(())
}
