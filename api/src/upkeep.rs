//! Keeps the tables of facts in order while a server runs: small files are merged, days past their retention are dropped, and
//! files that no reader can still need are removed.
//!
//! Beside everything else: a failure is logged and tried again at the next turn, and nothing waits for it.

use crate::error::{Failure, Kind};
use crate::state::lock;
use engine::clock::Clock;
use engine::store::{Store, TableError};
use engine_sql::facts::DeltaTables;
use ingest::clock::SystemClock;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How often tables are looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// Files are merged up to about this size.
const FILE_BYTES: u64 = 64 << 20;
/// Merges of one table in one turn; the others have theirs.
const MERGES_PER_TURN: usize = 8;
/// How long a file that left its table stays: longer than the longest query.
const REMOVED_FILES_STAY: Duration = Duration::from_secs(3_600);

/// The thread that does it; ends when dropped.
#[derive(Debug)]
pub struct TableKeeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl TableKeeper {
    /// Starts tending the tables of a store's facts.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if the operating system gives no thread.
    pub fn start(store: Arc<Store>, tables: Arc<DeltaTables>) -> Result<TableKeeper, Failure> {
        let stop: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let stopped = Arc::clone(&stop);
        let run = move || {
            while !wait(&stopped) {
                tend(&store, &tables, &stopped);
            }
        };
        let thread = std::thread::Builder::new().name("tables".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Failure::new(Kind::LocalFile, format!("start threads: {error}")))?;
        Ok(TableKeeper { stop, thread: Some(thread) })
    }
}

impl Drop for TableKeeper {
    fn drop(&mut self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Waits for the next turn; true if there is none.
fn wait(stop: &(Mutex<bool>, Condvar)) -> bool {
    let stopping = lock(&stop.0);
    match stop.1.wait_timeout_while(stopping, INTERVAL, |stopping| !*stopping) {
        Ok((stopping, _)) => *stopping,
        Err(_) => true,
    }
}

fn tend(store: &Store, tables: &DeltaTables, stop: &(Mutex<bool>, Condvar)) {
    let snapshot = store.snapshot();
    for (name, fact) in snapshot.catalog().facts() {
        if *lock(&stop.0) {
            return;
        }
        let expired = fact.retention_days.map(|days| fact.day_of(SystemClock.now()).saturating_sub_unsigned(days));
        if let Err(error) = tend_table(tables, name, expired, stop) {
            tracing::warn!(%error, "a table is tended again later");
        }
    }
}

fn tend_table(
    tables: &DeltaTables,
    name: &str,
    expired_before: Option<i32>,
    stop: &(Mutex<bool>, Condvar),
) -> Result<(), TableError> {
    if let Some(day) = expired_before {
        tables.drop_before(name, day)?;
    }
    for _ in 0..MERGES_PER_TURN {
        if *lock(&stop.0) || tables.compact(name, FILE_BYTES)?.is_none() {
            break;
        }
    }
    tables.vacuum(name, SystemTime::now() - REMOVED_FILES_STAY)?;
    Ok(())
}
