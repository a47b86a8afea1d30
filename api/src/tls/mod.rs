//! TLS at the server's ports: Rustls, with a certificate out of files that may be replaced while it runs.
//!
//! A connection is served by what the files said when it came. Files that cannot be used keep a server from starting; if they come to a
//! running one they are told of in the log, and what was read before goes on.
//!
//! * [`files`]: what the files say, or why they cannot be used. * [`listener`]: connections, encrypted or not.
//! * [`plain`]: what is told who speaks no TLS.

mod files;
mod listener;
mod plain;

use crate::config::Config;
use crate::error::Failure;
use crate::watched::{self, Stamp};
use files::{Files, Identity};
pub(crate) use listener::{Connection, Listener, encrypt};
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a client may take until its connection is encrypted.
const SHAKING_MAX: Duration = Duration::from_secs(10);

/// What is spoken behind TLS, by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP, of either version.
    Web,
    /// gRPC, which is HTTP/2.
    Flight,
    /// PostgreSQL's protocol.
    Postgres,
}

impl Speaks {
    /// As ALPN has it.
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Speaks::Web => &[b"h2", b"http/1.1"],
            Speaks::Flight => &[b"h2"],
            Speaks::Postgres => &[b"postgresql"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The TLS of a server.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    shown: RwLock<Shown>,
    /// Of what was read at the start.
    stamp: Stamp,
}

/// What new connections are served with.
#[derive(Clone, Debug)]
struct Shown {
    web: Arc<ServerConfig>,
    flight: Arc<ServerConfig>,
    postgres: Arc<ServerConfig>,
    /// Seconds since 1970.
    expires_at: Option<u64>,
}

impl Shown {
    fn of(identity: &Identity) -> Result<Shown, Failure> {
        Ok(Shown {
            web: identity.config(Speaks::Web.protocols())?,
            flight: identity.config(Speaks::Flight.protocols())?,
            postgres: identity.config(Speaks::Postgres.protocols())?,
            expires_at: identity.expires_at,
        })
    }
}

impl Tls {
    /// Reads the files of a configuration; `None` if it has none.
    ///
    /// # Errors
    /// [`Failure`], with the file and what is wrong with it.
    pub(crate) fn open(config: &Config) -> Result<Option<Arc<Tls>>, Failure> {
        let Some(files) = Files::of(config)? else { return Ok(None) };
        // Before they are read: what is written meanwhile is read again.
        let stamp = Stamp::of(&files.paths());
        let shown = RwLock::new(Shown::of(&files.read()?)?);
        Ok(Some(Arc::new(Tls { files, shown, stamp })))
    }

    /// What a connection that comes now is served with.
    fn config(&self, speaks: Speaks) -> Arc<ServerConfig> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        match speaks {
            Speaks::Web => Arc::clone(&shown.web),
            Speaks::Flight => Arc::clone(&shown.flight),
            Speaks::Postgres => Arc::clone(&shown.postgres),
        }
    }

    /// For how long the certificate is valid, in seconds; less than none if it has expired.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        shown.expires_at.map(|at| at as f64 - now)
    }

    /// Reads the files again whenever they change; never done.
    pub(crate) async fn watch(self: Arc<Tls>) {
        let paths: Vec<PathBuf> = self.files.paths();
        let stamp = self.stamp.clone();
        watched::watch(paths, stamp, move || self.reload()).await;
    }

    fn reload(&self) {
        match self.files.read().and_then(|identity| Shown::of(&identity)) {
            Ok(shown) => {
                *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
                tracing::info!("the certificate was read again; new connections get it");
            }
            Err(failure) => tracing::error!(%failure, "the new certificate is not used; connections get the old one"),
        }
    }
}
