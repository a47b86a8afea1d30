//! Files that are read again when they change: every few seconds their times and sizes are looked at, and SIGHUP says that they did.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How often is looked.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What tells that files changed: of each when it was written, its bytes, and which file the name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<(Option<SystemTime>, u64, u64)>>);

impl Stamp {
    /// As they are now; what is not there has none.
    pub(crate) fn of(paths: &[PathBuf]) -> Stamp {
        let one = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok(), metadata.len(), number(&metadata)))
        };
        Stamp(paths.iter().map(one).collect())
    }
}

/// A link that leads elsewhere now leads to another number.
#[cfg(unix)]
fn number(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.ino()
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}

/// Calls `reload` whenever files are not any more as at `stamp`, or SIGHUP comes; never done.
pub(crate) async fn watch(paths: Vec<PathBuf>, mut stamp: Stamp, reload: impl Fn() + Send + 'static) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let mut told = Told::listen();
    loop {
        let is_told = tokio::select! {
            _ = ticks.tick() => false,
            () = told.next() => true,
        };
        let now = Stamp::of(&paths);
        if is_told || now != stamp {
            stamp = now;
            // A few kilobytes: nobody else waits for this task.
            reload();
        }
    }
}

/// SIGHUP, where there is one.
struct Told {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Told {
    #[cfg(unix)]
    fn listen() -> Told {
        use tokio::signal::unix::{SignalKind, signal};
        Told { signal: signal(SignalKind::hangup()).ok() }
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let came = match &mut self.signal {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    fn listen() -> Told {
        Told {}
    }

    #[cfg(not(unix))]
    fn next(&mut self) -> impl Future<Output = ()> {
        std::future::pending()
    }
}
