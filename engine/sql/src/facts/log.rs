//! A table's log: its newest version, and entries that are not what a writer wrote.
//!
//! An entry without a byte is read by the Delta library as a version that changed nothing, so rows would be lost without a
//! word; one that ends in the middle makes it refuse the table without saying which file. So new entries are
//! looked at before the library sees them.

use super::disk::Disk;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake::kernel::{Action, EagerSnapshot};
use deltalake::protocol::DeltaOperation;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use object_store::ObjectStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;
use url::Url;

/// Versions after which the log is summed up again, so that opening reads few entries.
pub(super) const CHECKPOINT_EVERY: u64 = 50;
/// Other writers who may be first, in a row.
const ATTEMPTS: usize = 50;

/// A table on disk, or the place for one.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) folder: PathBuf,
    pub(super) disk: Arc<Disk>,
    pub(super) store: Arc<dyn ObjectStore>,
    /// The newest version known; held while a change is made.
    pub(super) newest: Mutex<Option<DeltaTable>>,
    /// Held while files are merged or removed.
    pub(super) upkeep: Mutex<()>,
    checkpoint_every: u64,
    checkpoint_due: AtomicU64,
}

/// A change to a table.
pub(super) trait Change: Send + Sync {
    /// What to do, given the newest version, or that there is no table. Asked again whenever another writer was first.
    fn plan(&self, newest: Option<&DeltaTable>) -> impl Future<Output = Result<Plan, String>> + Send;
}

/// What a change comes to.
pub(super) enum Plan {
    /// Nothing is left to be done.
    Done,
    Commit(Vec<Action>, Box<DeltaOperation>),
}

impl Table {
    pub(super) fn new(folder: PathBuf, disk: Arc<Disk>, store: Arc<dyn ObjectStore>, checkpoint_every: u64) -> Self {
        let (newest, upkeep) = (Mutex::default(), Mutex::default());
        let checkpoint_due = AtomicU64::new(checkpoint_every);
        Table { folder, disk, store, newest, upkeep, checkpoint_every, checkpoint_due }
    }

    pub(super) fn url(&self) -> Result<Url, String> {
        let refuse = || format!("{} is not a path that a URL can name", self.folder.display());
        let url = Url::from_directory_path(&self.folder).map_err(|()| refuse())?;
        if self.disk.is_simulated() {
            // Folders of `file:` URLs are looked for on the real disk before the store is asked.
            return Url::parse(&format!("memory://{}", url.path())).map_err(|_| refuse());
        }
        Ok(url)
    }

    pub(super) fn log_folder(&self) -> PathBuf {
        self.folder.join("_delta_log")
    }

    /// Makes `known` the newest version. Whether there is a table.
    pub(super) async fn refresh(&self, known: &mut Option<DeltaTable>) -> Result<bool, String> {
        if let Some(table) = known {
            let version = table.version().unwrap_or_default();
            let log_folder = self.log_folder();
            let entry = entry_path(&log_folder, version);
            if !self.has(&entry)? && entries(&self.disk, &log_folder)?.last().is_none_or(|newest| *newest < version) {
                let path = self.folder.display();
                return Err(format!("version {version} is gone: somebody removed the log of {path}; restore a backup"));
            }
            let mut next = version + 1;
            while self.has(&entry_path(&log_folder, next))? {
                check_entry(&self.disk, &log_folder, next)?;
                next += 1;
            }
            if table.update_state().await.is_ok() {
                return Ok(true);
            }
            // It is loaded anew, which says better what is wrong.
            *known = None;
        }
        check_newest(&self.disk, &self.folder)?;
        if entries(&self.disk, &self.log_folder())?.is_empty() {
            return Ok(false);
        }
        let mut table = self.unloaded()?;
        table.load().await.map_err(|error| self.explain(&error))?;
        let checkpoint = self.newest_checkpoint()?;
        self.checkpoint_due.store(checkpoint + self.checkpoint_every, Ordering::Relaxed);
        *known = Some(table);
        Ok(true)
    }

    /// The table without its state.
    pub(super) fn unloaded(&self) -> Result<DeltaTable, String> {
        let url = self.url()?;
        let builder = DeltaTableBuilder::from_url(url.clone()).map_err(|error| self.explain(&error))?;
        let built = builder.with_storage_backend(Arc::clone(&self.store), url).build();
        built.map_err(|error| self.explain(&error))
    }

    /// Makes a change, and answers a version that shows it.
    pub(super) async fn change(&self, change: &impl Change) -> Result<u64, String> {
        let mut newest = self.newest.lock().await;
        let newest = &mut *newest;
        for _ in 0..ATTEMPTS {
            self.refresh(newest).await?;
            let (actions, operation) = match change.plan(newest.as_ref()).await? {
                Plan::Done => return Ok(newest.as_ref().and_then(DeltaTable::version).unwrap_or_default()),
                Plan::Commit(actions, operation) => (actions, operation),
            };
            // No retry by the library: we look at what has changed ourselves.
            let properties = CommitProperties::default()
                .with_max_retries(0)
                .with_create_checkpoint(false)
                .with_cleanup_expired_logs(Some(false));
            let unloaded = self.unloaded()?;
            let snapshot = newest.as_ref().map(|table| table.snapshot()).transpose();
            let snapshot = snapshot.map_err(|error| self.explain(&error))?;
            let commit = CommitBuilder::from(properties).with_actions(actions).build(
                snapshot.map(|state| state as &dyn TableReference),
                unloaded.log_store(),
                *operation,
            );
            match commit.await {
                Ok(committed) => {
                    let version = committed.version();
                    self.refresh(newest).await?;
                    if let Some(table) = newest {
                        self.checkpoint(table).await;
                    }
                    return Ok(version);
                }
                Err(error) if is_contention(&error) => {}
                Err(error) => return Err(self.explain(&error)),
            }
        }
        Err(format!("other writers were first {ATTEMPTS} times in a row; stop one of them"))
    }

    /// Sums the log up if it is time. Failing to costs time at the next start, nothing else.
    async fn checkpoint(&self, table: &DeltaTable) {
        let version = table.version().unwrap_or_default();
        if version < self.checkpoint_due.load(Ordering::Relaxed) {
            return;
        }
        self.checkpoint_due.store(version + self.checkpoint_every, Ordering::Relaxed);
        let made = match deltalake::checkpoints::create_checkpoint(table, None).await {
            Ok(()) => deltalake::checkpoints::cleanup_metadata(table, None).await.map(|_| ()),
            failed => failed,
        };
        if let Err(error) = made {
            let path = self.folder.display();
            tracing::warn!(%path, version, %error, "the log of a table of facts was not summed up; it will be tried again");
        }
    }

    fn newest_checkpoint(&self) -> Result<u64, String> {
        let names = names_in(&self.disk, &self.log_folder())?;
        let versions = names.iter().filter_map(|name| name.split_once(".checkpoint.")?.0.parse::<u64>().ok());
        Ok(versions.max().unwrap_or_default())
    }

    fn has(&self, path: &Path) -> Result<bool, String> {
        let found = self.disk.look(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(found.is_some())
    }

    pub(super) fn explain(&self, error: &DeltaTableError) -> String {
        let mut text = format!("{}: {error}", self.folder.display());
        let mut source = std::error::Error::source(error);
        while let Some(next) = source {
            let next_text = next.to_string();
            if !text.contains(&next_text) {
                text = format!("{text}: {next_text}");
            }
            source = next.source();
        }
        text
    }
}

pub(super) fn state(table: &DeltaTable) -> Result<&EagerSnapshot, String> {
    table.snapshot().map(|state| state.snapshot()).map_err(|error| error.to_string())
}

fn is_contention(error: &DeltaTableError) -> bool {
    let contended = |inner: &TransactionError| {
        matches!(
            inner,
            TransactionError::MaxCommitAttempts(_)
                | TransactionError::VersionAlreadyExists(_)
                | TransactionError::CommitConflict(_)
        )
    };
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => contended(source),
        _ => false,
    }
}

fn entry_path(log_folder: &Path, version: u64) -> PathBuf {
    log_folder.join(format!("{version:020}.json"))
}

/// Versions that have an entry, rising.
fn entries(disk: &Disk, log_folder: &Path) -> Result<Vec<u64>, String> {
    let names = names_in(disk, log_folder)?;
    let version = |name: &String| name.strip_suffix(".json").filter(|digits| digits.len() == 20)?.parse().ok();
    let mut versions: Vec<u64> = names.iter().filter_map(version).collect();
    versions.sort_unstable();
    Ok(versions)
}

fn names_in(disk: &Disk, folder: &Path) -> Result<Vec<String>, String> {
    disk.names(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Looks at the newest entry of a table's log, which is the one that may be torn.
pub(super) fn check_newest(disk: &Disk, folder: &Path) -> Result<(), String> {
    let log_folder = folder.join("_delta_log");
    match entries(disk, &log_folder)?.last() {
        Some(newest) => {
            check_entry(disk, &log_folder, *newest)?;
            // Whoever wrote it may have been stopped before its name was durable. What is seen from now on is built upon.
            disk.make_durable(&log_folder).map_err(|error| format!("{}: {error}", log_folder.display()))
        }
        None if !names_in(disk, &log_folder)?.iter().all(|name| name.contains('#')) => {
            let path = log_folder.display();
            Err(format!("{path} has no entry but other files: somebody removed entries of the log; restore a backup"))
        }
        None => Ok(()),
    }
}

fn check_entry(disk: &Disk, log_folder: &Path, version: u64) -> Result<(), String> {
    let path = entry_path(log_folder, version);
    let shown = path.display();
    let text = disk.read(&path).map_err(|error| format!("{shown}: {error}"))?;
    let advice = format!(
        "Beluga never leaves one so, thus a copy, a restore or another writer did: put the whole file in its place, \
         or, if it is the newest and losing version {version} is acceptable, move it away; then start again"
    );
    if text.is_empty() {
        return Err(format!("{shown} is empty. {advice}"));
    }
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()) {
        if let Err(error) = serde_json::from_slice::<serde_json::map::Map<String, serde_json::Value>>(line) {
            return Err(format!("{shown} is damaged in line {} ({error}). {advice}", at + 1));
        }
    }
    Ok(())
}
