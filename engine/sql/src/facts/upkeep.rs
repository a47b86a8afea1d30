//! What leaves a table, and what is left lying about.
//!
//! A file may be removed from the disk only if no version that somebody may still read has it. Files that the newest version
//! has are never touched; those it has removed stay for as long as the caller says; and of those that no version
//! has, only our own are ours to judge.

use super::DeltaTables;
use super::commit::check_writable;
use super::disk::is_temporary;
use super::file::day_name;
use super::log::{Change, Plan, Table, state};
use super::names;
use super::schema::DAY;
use deltalake::DeltaTable;
use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use engine::store::TableError;
use futures::TryStreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

impl DeltaTables {
    /// Takes the days before `day` (days since 1970, in the fact's zone) out of the table, and answers how many files these
    /// were. Versions read meanwhile keep them until [`DeltaTables::vacuum`].
    ///
    /// # Errors
    /// [`TableError`]; whether they are out is then unknown, and it is to be called again.
    pub fn drop_before(&self, name: &str, day: i32) -> Result<u64, TableError> {
        let table = self.shared.table(name);
        self.wait(name, "drop old days", async move { table.drop_before(day).await })
    }

    /// Removes the files that left the table before `removed_before`, and answers how many. Whoever reads an older version
    /// from then on finds files missing; so leave time enough for the longest query. Delta forgets after seven days
    /// which files were removed when: a longer time is no longer.
    ///
    /// # Errors
    /// [`TableError`]; what is left is removed next time.
    pub fn vacuum(&self, name: &str, removed_before: SystemTime) -> Result<u64, TableError> {
        let table = self.shared.table(name);
        self.wait(name, "remove old files", async move { table.vacuum(removed_before).await })
    }
}

/// Files that the log knows.
struct Known {
    active: HashSet<String>,
    /// When files were removed, in milliseconds since 1970.
    removed: HashMap<String, i64>,
    /// The newest epoch; `None` if there is none.
    epoch: Option<i64>,
}

impl Table {
    /// Removes what was staged or merged and never committed, and files that were being written.
    pub(super) async fn forget_staged(&self) -> Result<(), String> {
        let _upkeep = self.upkeep.lock().await;
        let known = self.known().await?;
        for path in self.files()? {
            let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
            let is_left = match names::parse(&path) {
                Some(file) => {
                    let is_later = known.epoch.is_none_or(|epoch| file.epoch > epoch.cast_unsigned());
                    !known.has(&path) && (file.merged || is_later)
                }
                None => is_temporary(name),
            };
            if is_left {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    pub(super) async fn vacuum(&self, removed_before: SystemTime) -> Result<u64, String> {
        let _upkeep = self.upkeep.lock().await;
        let known = self.known().await?;
        let since = removed_before.duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let mut count = 0;
        for path in self.files()? {
            let Some(file) = names::parse(&path).filter(|_| !known.active.contains(&path)) else { continue };
            let is_old = match known.removed.get(&path) {
                Some(removed_ms) => *removed_ms < limit_ms,
                // Of a later epoch it may be about to be committed.
                None => {
                    let is_settled = known.epoch.is_some_and(|epoch| file.epoch <= epoch.cast_unsigned());
                    is_settled && self.written_before(&path, limit_ms)
                }
            };
            if is_old {
                self.remove(&path)?;
                count += 1;
            }
        }
        Ok(count)
    }

    async fn drop_before(&self, day: i32) -> Result<u64, String> {
        let first_kept = day_name(day).map_err(|error| error.to_string())?;
        let change = DropDays { first_kept, file_count: AtomicU64::new(0) };
        self.change(&change).await?;
        Ok(change.file_count.into_inner())
    }

    async fn known(&self) -> Result<Known, String> {
        let mut newest = self.newest.lock().await;
        self.refresh(&mut newest).await?;
        let Some(table) = newest.clone() else {
            return Ok(Known { active: HashSet::new(), removed: HashMap::new(), epoch: None });
        };
        drop(newest);
        let active = state(&table)?.log_data().iter().map(|view| view.path().into_owned()).collect();
        let log_store = table.log_store();
        let snapshot = table.snapshot().map_err(|error| self.explain(&error))?;
        let tombstones = snapshot.all_tombstones(log_store.as_ref());
        let dated = tombstones.map_ok(|view| (view.path().into_owned(), view.deletion_timestamp().unwrap_or_default()));
        let removed = dated.try_collect().await.map_err(|error| self.explain(&error))?;
        Ok(Known { active, removed, epoch: self.epoch_in(&table).await? })
    }

    fn written_before(&self, path: &str, limit_ms: i64) -> bool {
        let written = self.disk.look(&self.folder.join(path));
        matches!(written, Ok(Some(written)) if written.modified_ms < limit_ms)
    }

    /// Files one folder deep, as paths within the table.
    fn files(&self) -> Result<Vec<String>, String> {
        let explain = |error: std::io::Error| format!("{}: {error}", self.folder.display());
        let mut paths = Vec::new();
        for name in self.disk.names(&self.folder).map_err(explain)? {
            let folder = self.folder.join(&name);
            if self.disk.is_folder(&folder).map_err(explain)? {
                let files = self.disk.names(&folder).map_err(explain)?;
                paths.extend(files.into_iter().map(|file| format!("{name}/{file}")));
            }
        }
        Ok(paths)
    }

    fn remove(&self, path: &str) -> Result<(), String> {
        let path = self.folder.join(path);
        self.disk.remove(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Known {
    fn has(&self, path: &str) -> bool {
        self.active.contains(path) || self.removed.contains_key(path)
    }
}

struct DropDays {
    first_kept: String,
    file_count: AtomicU64,
}

impl Change for DropDays {
    async fn plan(&self, newest: Option<&DeltaTable>) -> Result<Plan, String> {
        let Some(newest) = newest else { return Ok(Plan::Done) };
        let snapshot = state(newest)?;
        check_writable(snapshot)?;
        let mut actions = Vec::new();
        for view in snapshot.log_data().iter() {
            // Dates of four-digit years sort as text.
            if view.partition_values_map().remove(DAY).flatten().is_some_and(|day| day < self.first_kept) {
                actions.push(Action::Remove(view.remove_action(true)));
            }
        }
        self.file_count.store(actions.len() as u64, Ordering::Relaxed);
        if actions.is_empty() {
            return Ok(Plan::Done);
        }
        let predicate = Some(format!("{DAY} < '{}'", self.first_kept));
        Ok(Plan::Commit(actions, Box::new(DeltaOperation::Delete { predicate })))
    }
}
