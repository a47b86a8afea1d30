//! Many small files of a day become a larger one, sorted by user.
//!
//! Every checkpoint leaves a file per day, and a question that opens thousands of them waits for them. Merging reads some, sorts
//! their rows together, writes them as one file and swaps it for them in one commit that says that no row changed. Until that
//! commit the new file is nobody's; if it is never made, [`super::DeltaTables::vacuum`] or the next start removes the file. The
//! commit looks again whether all the files are still in the table: another merger, or the end of their time, may have been first.

use super::DeltaTables;
use super::commit::check_writable;
use super::disk::Disk;
use super::file::{FileWriter, WrittenFile};
use super::log::{Change, Plan, Table, state};
use super::names::{self, FileName, new_name};
use super::schema::DAY;
use super::stage::now_ms;
use super::staged::StagedFile;
use arrow::array::{AsArray, RecordBatch, new_null_array};
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;
use deltalake::DeltaTable;
use deltalake::kernel::{Action, EagerSnapshot, LogicalFileView, Remove};
use deltalake::protocol::DeltaOperation;
use engine::store::TableError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A file joins if it is at most so many times as large as the smaller ones together: so a row is rewritten a few times in
/// its life, and not whenever a small file comes.
const SIZE_RATIO: u64 = 4;
/// Rows given to the writer at once.
const BATCH_ROWS: usize = 1 << 14;

/// What a merge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeReport {
    /// The day whose files were merged: `2024-05-01`.
    pub day: String,
    /// Files before; there is one now.
    pub file_count: usize,
    /// Rows in them.
    pub row_count: u64,
    /// Their size before.
    pub size_bytes_before: u64,
    /// And now.
    pub size_bytes_after: u64,
    /// The version of the table that shows it.
    pub version: u64,
}

impl DeltaTables {
    /// Merges small files of one day, the one that has most, into one of at most about `target_size_bytes`. `None` if there
    /// is nothing to merge; so a caller asks until then, as it has time. The rows, and what was committed when, stay
    /// the same; commits may be made meanwhile. Holds the rows of one target in memory.
    ///
    /// # Errors
    /// [`TableError`]; no row is lost or doubled.
    pub fn compact(&self, name: &str, target_size_bytes: u64) -> Result<Option<MergeReport>, TableError> {
        let table = self.shared.table(name);
        self.wait(name, "merge files", async move { table.merge(target_size_bytes).await })
    }
}

/// A file of the table that may be merged.
struct Small {
    path: String,
    size_bytes: u64,
    row_count: Option<usize>,
    remove: Remove,
}

impl Table {
    async fn merge(self: Arc<Self>, target_size_bytes: u64) -> Result<Option<MergeReport>, String> {
        let _upkeep = self.upkeep.lock().await;
        let mut newest = self.newest.lock().await;
        self.refresh(&mut newest).await?;
        let Some(known) = newest.clone() else { return Ok(None) };
        drop(newest);
        let epoch = self.epoch_in(&known).await?.unwrap_or_default().cast_unsigned();
        let snapshot = state(&known)?;
        check_writable(snapshot)?;
        let Some((day, group)) = choose(snapshot, target_size_bytes) else { return Ok(None) };

        let schema = columns_in_files(snapshot);
        let (this, inputs) =
            (Arc::clone(&self), group.iter().map(|file| (file.path.clone(), file.row_count)).collect());
        let merging = tokio::task::spawn_blocking(move || this.read_and_sort(inputs, schema));
        let content = merging.await.map_err(|error| error.to_string())??;
        let file = self.write_merged(&day, epoch, content).await?;

        let (row_count, size_bytes_after) = (file.row_count, file.size_bytes);
        let (file_count, size_bytes_before) = (group.len(), group.iter().map(|file| file.size_bytes).sum());
        let swap = Swap { removed: group.into_iter().map(|file| file.remove).collect(), file, abandoned: false.into() };
        let version = self.change(&swap).await?;
        if swap.abandoned.into_inner() {
            let path = self.folder.join(&swap.file.path);
            self.disk.remove(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(None);
        }
        Ok(Some(MergeReport { day, file_count, row_count, size_bytes_before, size_bytes_after, version }))
    }

    fn read_and_sort(&self, inputs: Vec<(String, Option<usize>)>, schema: SchemaRef) -> Result<WrittenFile, String> {
        let mut batches = Vec::new();
        for (path, row_count) in inputs {
            let path = self.folder.join(path);
            let before = batches.len();
            read(&self.disk, &path, &schema, &mut batches).map_err(|why| format!("{}: {why}", path.display()))?;
            let found: usize = batches[before..].iter().map(RecordBatch::num_rows).sum();
            if row_count.is_some_and(|told| told != found) {
                let (path, told) = (path.display(), row_count.unwrap_or_default());
                return Err(format!("{path} has {found} rows and the log says {told}; restore it from a backup"));
            }
        }
        sort_and_write(&batches, schema)
    }

    pub(super) async fn write_merged(&self, day: &str, epoch: u64, content: WrittenFile) -> Result<StagedFile, String> {
        let path = new_name(day, FileName { epoch, merged: true }, self.disk.number());
        let WrittenFile { bytes, row_count, statistics } = content;
        let size_bytes = bytes.len() as u64;
        let (disk, at) = (Arc::clone(&self.disk), self.folder.join(&path));
        let shown = at.display().to_string();
        let writing = tokio::task::spawn_blocking(move || {
            disk.write(&at, [bytes.as_slice()].into_iter(), super::disk::Taken::Refuse)
        });
        let written = writing.await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("{shown}: {error}"))?;
        Ok(StagedFile { path, day: day.to_owned(), size_bytes, row_count, written_ms: now_ms(), statistics })
    }
}

/// The day and files to merge; `None` if there are none.
fn choose(snapshot: &EagerSnapshot, target_size_bytes: u64) -> Option<(String, Vec<Small>)> {
    let mut days: BTreeMap<String, Vec<Small>> = BTreeMap::new();
    for view in snapshot.log_data().iter() {
        if let Some((day, small)) = small(&view) {
            days.entry(day).or_default().push(small);
        }
    }
    let groups = days.into_iter().map(|(day, files)| (day, group(files, target_size_bytes)));
    groups.filter(|(_, files)| files.len() > 1).max_by_key(|(_, files)| files.len())
}

/// Files of others, and files some rows of which somebody has deleted, stay as they are.
fn small(view: &LogicalFileView) -> Option<(String, Small)> {
    let path = view.path().into_owned();
    names::parse(&path)?;
    if view.deletion_vector_descriptor().is_some() {
        return None;
    }
    let day = view.partition_values_map().remove(DAY)??;
    let size_bytes = view.size().cast_unsigned();
    Some((day, Small { path, size_bytes, row_count: view.num_records(), remove: view.remove_action(false) }))
}

/// The smallest files that are together no larger than the target.
fn group(mut files: Vec<Small>, target_size_bytes: u64) -> Vec<Small> {
    files.sort_by(|a, b| (a.size_bytes, &a.path).cmp(&(b.size_bytes, &b.path)));
    let mut together = 0;
    let joining = files.iter().enumerate().take_while(|(at, file)| {
        let is_dwarfing = *at > 0 && file.size_bytes > SIZE_RATIO * together;
        together += file.size_bytes;
        !is_dwarfing && together <= target_size_bytes
    });
    let count = joining.count();
    files.truncate(count);
    files
}

pub(super) fn columns_in_files(snapshot: &EagerSnapshot) -> SchemaRef {
    let schema = snapshot.arrow_schema();
    let fields = schema.fields().iter().filter(|field| field.name() != DAY);
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// Reads a file; columns that were declared later are NULL.
pub(super) fn read(disk: &Disk, path: &Path, schema: &SchemaRef, batches: &mut Vec<RecordBatch>) -> Result<(), String> {
    let bytes = Bytes::from(disk.read(path).map_err(|error| error.to_string())?);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
    for batch in builder.with_batch_size(BATCH_ROWS).build().map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        let column = |field: &Arc<arrow::datatypes::Field>| match batch.column_by_name(field.name()) {
            Some(array) => cast(array, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>();
        let made = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns));
        batches.push(made.map_err(|error| error.to_string())?);
    }
    Ok(())
}

pub(super) fn sort_and_write(batches: &[RecordBatch], schema: SchemaRef) -> Result<WrittenFile, String> {
    let mut places: Vec<(i32, i64, i64, usize, usize)> = Vec::new();
    for (at, batch) in batches.iter().enumerate() {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"));
        let typed = (
            column("_shard")?.as_primitive_opt::<Int32Type>(),
            column("_slot")?.as_primitive_opt::<Int64Type>(),
            column("ts")?.as_primitive_opt::<TimestampMicrosecondType>(),
        );
        let (Some(shards), Some(slots), Some(times)) = typed else {
            return Err("`_shard`, `_slot` or `ts` has another type than Beluga gave it".to_owned());
        };
        let rows = shards.values().iter().zip(slots.values()).zip(times.values()).enumerate();
        places.extend(rows.map(|(row, ((shard, slot), ts))| (*shard, *slot, *ts, at, row)));
    }
    places.sort_unstable();
    let sources: Vec<&RecordBatch> = batches.iter().collect();
    let mut writer = FileWriter::new(schema).map_err(|error| error.to_string())?;
    for chunk in places.chunks(BATCH_ROWS) {
        let order: Vec<(usize, usize)> = chunk.iter().map(|place| (place.3, place.4)).collect();
        let sorted = interleave_record_batch(&sources, &order).map_err(|error| error.to_string())?;
        writer.write(&sorted).map_err(|error| error.to_string())?;
    }
    writer.finish().map_err(|error| error.to_string())
}

/// One file in place of several, with the same rows.
struct Swap {
    removed: Vec<Remove>,
    file: StagedFile,
    /// Not all of them are in the table any more.
    abandoned: AtomicBool,
}

impl Change for Swap {
    async fn plan(&self, newest: Option<&DeltaTable>) -> Result<Plan, String> {
        let mut actions = Vec::with_capacity(self.removed.len() + 1);
        if let Some(newest) = newest {
            let snapshot = state(newest)?;
            check_writable(snapshot)?;
            let active: HashSet<String> = snapshot.log_data().iter().map(|view| view.path().into_owned()).collect();
            if self.removed.iter().all(|file| active.contains(&file.path)) {
                actions.extend(self.removed.iter().cloned().map(Action::Remove));
                actions.push(Action::Add(self.file.add(false)));
            }
        }
        if actions.is_empty() {
            self.abandoned.store(true, Ordering::Relaxed);
            return Ok(Plan::Done);
        }
        let target_size = self.file.size_bytes.cast_signed();
        Ok(Plan::Commit(actions, Box::new(DeltaOperation::Optimize { predicate: None, target_size })))
    }
}
