//! Rows of erased users leave a table for good.
//!
//! A file with such rows is written anew without them and swapped in one commit, as a merge does it, but that rows change. Then the
//! older versions go, with the files that only they have: their entries in the log tell the smallest and the
//! largest user of each file. The newest version's own entry is kept and says nothing of erased users, since the files it adds are files
//! of now. Whatever is cut off is begun again.

use super::DeltaTables;
use super::commit::check_writable;
use super::disk::Disk;
use super::file::WrittenFile;
use super::log::{Change, Plan, Table, state};
use super::merge::{columns_in_files, read, sort_and_write};
use super::schema::DAY;
use super::staged::StagedFile;
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use bytes::Bytes;
use deltalake::DeltaTable;
use deltalake::kernel::{Action, Remove};
use deltalake::protocol::DeltaOperation;
use engine::store::TableError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Files swapped by one commit.
const FILES_AT_ONCE: usize = 64;

impl DeltaTables {
    pub(super) fn erase_users(
        &self,
        name: &str,
        users: &[RoaringBitmap],
        stop: &Arc<AtomicBool>,
    ) -> Result<(), TableError> {
        if users.iter().all(RoaringBitmap::is_empty) {
            return Ok(());
        }
        let (table, users): (_, Arc<[RoaringBitmap]>) = (self.shared.table(name), users.into());
        let stop = Arc::clone(stop);
        self.wait(name, "erase users", async move { table.erase(users, &stop).await })
    }

    pub(super) fn forget_older(&self, name: &str) -> Result<(), TableError> {
        let table = self.shared.table(name);
        self.wait(name, "remove older versions", async move { table.forget_history().await })
    }
}

/// A file with rows of erased users, and what is left of it; `None`: nothing.
struct Rewritten {
    remove: Remove,
    day: String,
    content: Option<WrittenFile>,
}

impl Table {
    async fn erase(self: Arc<Self>, users: Arc<[RoaringBitmap]>, stop: &AtomicBool) -> Result<(), String> {
        let _upkeep = self.upkeep.lock().await;
        // Files that have no such rows; nobody changes a file.
        let mut clean: HashSet<String> = HashSet::new();
        loop {
            let mut newest = self.newest.lock().await;
            self.refresh(&mut newest).await?;
            let Some(known) = newest.clone() else { return Ok(()) };
            drop(newest);
            let epoch = self.epoch_in(&known).await?.unwrap_or_default().cast_unsigned();
            let snapshot = state(&known)?;
            check_writable(snapshot)?;
            let schema = columns_in_files(snapshot);
            let mut rewrite = Rewrite::default();
            for view in snapshot.log_data().iter() {
                let path = view.path().into_owned();
                if clean.contains(&path) {
                    continue;
                }
                if rewrite.removed.len() == FILES_AT_ONCE || stop.load(Ordering::Relaxed) {
                    break;
                }
                if view.deletion_vector_descriptor().is_some() {
                    return Err(format!(
                        "{path} has a deletion vector, which another writer made: let that one write the file anew \
                         (`REORG TABLE … APPLY (PURGE)`), and try again"
                    ));
                }
                let day = view.partition_values_map().remove(DAY).flatten();
                let day = day.ok_or_else(|| format!("{path} has no day"))?;
                let (this, users, schema) = (Arc::clone(&self), Arc::clone(&users), Arc::clone(&schema));
                let at = path.clone();
                let reading = tokio::task::spawn_blocking(move || this.without(&at, schema, &users));
                let Some(content) = reading.await.map_err(|error| error.to_string())?? else {
                    clean.insert(path);
                    continue;
                };
                let rewritten = Rewritten { remove: view.remove_action(true), day, content };
                self.write_rewritten(rewritten, epoch, &mut rewrite).await?;
            }
            if rewrite.removed.is_empty() {
                // Nothing is left to be done, or it was stopped.
                return Ok(());
            }
            self.change(&rewrite).await?;
            if rewrite.abandoned.load(Ordering::Relaxed) {
                for file in &rewrite.added {
                    let path = self.folder.join(&file.path);
                    self.disk.remove(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                }
            }
        }
    }

    /// What is left of a file: `None` if it has no rows of these users.
    fn without(
        &self,
        path: &str,
        schema: SchemaRef,
        users: &[RoaringBitmap],
    ) -> Result<Option<Option<WrittenFile>>, String> {
        let path = self.folder.join(path);
        let explain = |why: String| format!("{}: {why}", path.display());
        if !has_rows_of(&self.disk, &path, users).map_err(explain)? {
            return Ok(None);
        }
        let mut batches = Vec::new();
        read(&self.disk, &path, &schema, &mut batches).map_err(explain)?;
        let left = batches.iter().map(|batch| rows_left(batch, users)).collect::<Result<Vec<_>, _>>();
        let left = left.map_err(explain)?;
        let after: usize = left.iter().map(RecordBatch::num_rows).sum();
        let content = (after > 0).then(|| sort_and_write(&left, schema)).transpose();
        content.map(Some).map_err(explain)
    }

    async fn write_rewritten(
        self: &Arc<Self>,
        rewritten: Rewritten,
        epoch: u64,
        rewrite: &mut Rewrite,
    ) -> Result<(), String> {
        if let Some(content) = rewritten.content {
            rewrite.added.push(self.write_merged(&rewritten.day, epoch, content).await?);
        }
        rewrite.removed.push(rewritten.remove);
        Ok(())
    }

    async fn forget_history(&self) -> Result<(), String> {
        // What was removed this very moment too, whatever the clock says.
        self.vacuum(SystemTime::now() + Duration::from_secs(100 * 365 * 24 * 3600)).await?;
        let _upkeep = self.upkeep.lock().await;
        let mut newest = self.newest.lock().await;
        self.refresh(&mut newest).await?;
        let Some(table) = newest.clone() else { return Ok(()) };
        let version = table.version().unwrap_or_default();
        let log_folder = self.log_folder();
        let names = self.disk.names(&log_folder).map_err(|error| format!("{}: {error}", log_folder.display()))?;
        let mut older: Vec<String> = names.into_iter().filter(|name| is_before(name, version)).collect();
        if older.is_empty() {
            return Ok(());
        }
        let made = deltalake::checkpoints::create_checkpoint(&table, None).await;
        made.map_err(|error| self.explain(&error))?;
        // Rising, so that what is left after a crash has no gap.
        older.sort_unstable();
        older.iter().try_for_each(|name| self.remove_from(&log_folder, name))?;
        self.disk.make_durable(&log_folder).map_err(|error| format!("{}: {error}", log_folder.display()))
    }

    fn remove_from(&self, folder: &Path, name: &str) -> Result<(), String> {
        let path = folder.join(name);
        self.disk.remove(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Whether a file of a table's log is of a version before this one.
fn is_before(name: &str, version: u64) -> bool {
    let number = name.split_once('.').map(|(number, _)| number).filter(|number| number.len() == 20);
    number.and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number < version)
}

/// Whether a file has a row of one of these users; reads the columns that tell, and no others.
fn has_rows_of(disk: &Disk, path: &Path, users: &[RoaringBitmap]) -> Result<bool, String> {
    let bytes = Bytes::from(disk.read(path).map_err(|error| error.to_string())?);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
    let telling = ProjectionMask::columns(builder.parquet_schema(), ["_shard", "_slot"]);
    for batch in builder.with_projection(telling).build().map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        if is_left(&batch, users)?.has_false() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows of others than these users.
fn rows_left(batch: &RecordBatch, users: &[RoaringBitmap]) -> Result<RecordBatch, String> {
    filter_record_batch(batch, &is_left(batch, users)?).map_err(|error| error.to_string())
}

/// Of each row, whether it is of another than these users.
fn is_left(batch: &RecordBatch, users: &[RoaringBitmap]) -> Result<BooleanArray, String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"));
    let places = (column("_shard")?.as_primitive_opt::<Int32Type>(), column("_slot")?.as_primitive_opt::<Int64Type>());
    let (Some(shards), Some(slots)) = places else {
        return Err("`_shard` or `_slot` has another type than Beluga gave it".to_owned());
    };
    let is_erased = |(shard, slot): (&i32, &i64)| {
        let of_shard = usize::try_from(*shard).ok().and_then(|shard| users.get(shard));
        of_shard.zip(u32::try_from(*slot).ok()).is_some_and(|(users, slot)| users.contains(slot))
    };
    let places = shards.values().iter().zip(slots.values());
    Ok(BooleanArray::new(places.map(|place| !is_erased(place)).collect(), None))
}

/// Files without some rows in place of those that have them.
#[derive(Default)]
struct Rewrite {
    removed: Vec<Remove>,
    added: Vec<StagedFile>,
    /// Not all of them are in the table any more.
    abandoned: AtomicBool,
}

impl Change for Rewrite {
    async fn plan(&self, newest: Option<&DeltaTable>) -> Result<Plan, String> {
        let active: HashSet<String> = match newest {
            Some(newest) => {
                let snapshot = state(newest)?;
                check_writable(snapshot)?;
                snapshot.log_data().iter().map(|view| view.path().into_owned()).collect()
            }
            None => HashSet::new(),
        };
        if !self.removed.iter().all(|file| active.contains(&file.path)) {
            self.abandoned.store(true, Ordering::Relaxed);
            return Ok(Plan::Done);
        }
        let removed = self.removed.iter().cloned().map(Action::Remove);
        let actions = removed.chain(self.added.iter().map(|file| Action::Add(file.add(true)))).collect();
        let predicate = Some("users that were erased".to_owned());
        Ok(Plan::Commit(actions, Box::new(DeltaOperation::Delete { predicate })))
    }
}
