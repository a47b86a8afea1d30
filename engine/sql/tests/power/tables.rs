//! Delta tables as a history asks for them.
//!
//! They are read in two ways: by DataFusion, as questions are, at the first look of each life and now and then; and by hand, from the
//! entries of the log and the files they name, which is fast enough to look at every step. Where both are done they agree.

use crate::rows::{FOLDER, Rows, Tables};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use engine::catalog::Fact;
use engine::store::{FactRow, FactTables, TableError};
use engine::vfs::Vfs;
use engine::vfs::memory::MemoryVfs;
use engine_sql::facts::{DeltaTables, Simulation};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringBitmap;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;

/// Names in one life; no life has so many.
const NAMES_PER_LIFE: u64 = 1 << 20;
/// So few that histories come to it.
const CHECKPOINT_EVERY: u64 = 3;

/// Looks after which DataFusion is asked again.
const ASK_EVERY: u64 = 8;

struct SimulatedTables {
    vfs: MemoryVfs,
    tables: DeltaTables,
    /// Of this life, since a session keeps the store of the first table of a name that it has seen.
    session: LazyLock<SessionContext>,
    looks: AtomicU64,
    /// What is in files, which never change, by path and count of columns.
    files: Mutex<HashMap<(String, usize), Rows>>,
}

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
}

impl std::fmt::Debug for SimulatedTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tables.fmt(f)
    }
}

pub(crate) fn open(vfs: &MemoryVfs, life: u64) -> Result<Arc<dyn Tables>, TableError> {
    let simulation = Simulation { first_number: life * NAMES_PER_LIFE, checkpoint_every: CHECKPOINT_EVERY };
    let tables = DeltaTables::open_simulated(Arc::new(vfs.clone()), Path::new(FOLDER), simulation)?;
    let session = LazyLock::new(SessionContext::new as fn() -> SessionContext);
    Ok(Arc::new(SimulatedTables {
        vfs: vfs.clone(),
        tables,
        session,
        looks: AtomicU64::new(0),
        files: Mutex::default(),
    }))
}

impl SimulatedTables {
    /// By DataFusion.
    fn ask(&self, name: &str, fact: &Fact, epoch: u64) -> Rows {
        let version = self.tables.version_at(name, epoch).expect("the table is read");
        let version = version.unwrap_or_else(|| panic!("no version of `{name}` has epoch {epoch}"));
        let provider = self.tables.read(name, fact, Some(version)).expect("the table is read");
        let session = &self.session;
        let batches = RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let plan = provider.scan(&session.state(), None, &[], None).await.expect("a plan");
                datafusion::physical_plan::collect(plan, session.task_ctx()).await.expect("the table is scanned")
            })
        });
        rows_of(&batches, fact)
    }

    /// By hand; `None` if the log does not begin with the first version any more.
    fn look(&self, name: &str, fact: &Fact, epoch: u64) -> Option<Rows> {
        let folder = Path::new(FOLDER).join(name);
        let mut rows = Rows::new();
        for path in files_at(&self.vfs, &folder.join("_delta_log"), epoch)? {
            let key = (path, fact.columns.len());
            let mut files = self.files.lock().expect("nobody panicked");
            let content = files.entry(key).or_insert_with_key(|(path, _)| {
                let bytes = Bytes::from(self.vfs.read(&folder.join(path)).expect("a file that the log names"));
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a whole file");
                let batches = reader.build().expect("a reader").collect::<Result<Vec<_>, _>>().expect("rows");
                rows_of(&batches, fact)
            });
            content.iter().for_each(|(row, times)| *rows.entry(row.clone()).or_default() += times);
        }
        Some(rows)
    }
}

/// The files that the newest version has of which this epoch is the newest.
fn files_at(vfs: &MemoryVfs, log: &Path, epoch: u64) -> Option<BTreeSet<String>> {
    let (mut files, mut newest) = (BTreeSet::new(), None);
    for version in 0.. {
        let Ok(entry) = vfs.read(&log.join(format!("{version:020}.json"))) else { break };
        let actions = serde_json::Deserializer::from_slice(&entry).into_iter::<Value>();
        let actions: Vec<Value> = actions.collect::<Result<_, _>>().expect("a whole entry");
        let told = actions.iter().find_map(|action| action["txn"]["version"].as_u64());
        if told.is_some_and(|told| told > epoch) {
            break;
        }
        newest = told.or(newest);
        for action in &actions {
            let path = |kind: &str| action[kind]["path"].as_str().map(str::to_owned);
            path("remove").iter().for_each(|path| assert!(files.remove(path), "{path} is removed and was not there"));
            path("add").into_iter().for_each(|path| assert!(files.insert(path), "a file is added twice"));
        }
    }
    (newest == Some(epoch)).then_some(files)
}

fn rows_of(batches: &[RecordBatch], fact: &Fact) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            *rows.entry(row_of(batch, fact, row)).or_default() += 1;
        }
    }
    rows
}

/// As [`crate::rows::text_of`] has it.
fn row_of(batch: &RecordBatch, fact: &Fact, row: usize) -> String {
    let text = |name: &str| value_of(batch, name, row).unwrap_or_default();
    let ts = text("ts").parse().expect("a time");
    let weight = text("weight").parse().expect("a weight");
    let mut values: Vec<Option<String>> =
        fact.columns.iter().map(|column| value_of(batch, &column.name, row)).collect();
    while values.pop_if(|value| value.is_none()).is_some() {}
    let values: Vec<String> = values.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect();
    crate::rows::row_text(&text("user_id"), &text("event_id"), ts, weight, &values.join(" "), fact.id)
}

fn value_of(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    // A column that was declared later is not in the file.
    let array = batch.column_by_name(name)?;
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        other => panic!("`{name}` is a {other}"),
    })
}

impl Tables for SimulatedTables {
    fn rows(&self, name: &str, fact: &Fact, epoch: u64) -> Rows {
        let looked = self.look(name, fact, epoch);
        let is_due = self.looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(ASK_EVERY);
        match looked {
            Some(looked) if !is_due => looked,
            looked => {
                let asked = self.ask(name, fact, epoch);
                assert!(looked.is_none_or(|looked| looked == asked), "DataFusion finds other rows than there are");
                asked
            }
        }
    }

    fn tend(&self, name: &str, choice: u64) -> Result<bool, TableError> {
        if choice.is_multiple_of(4) {
            // All that has left the table goes, so older versions cannot be read.
            self.tables.vacuum(name, SystemTime::now() + Duration::from_secs(86_400 * 365 * 200))?;
            return Ok(false);
        }
        self.tables.compact(name, 1 << (10 + choice % 16)).map(|_| true)
    }

    fn drop_before(&self, name: &str, day: i32) -> Result<(), TableError> {
        self.tables.drop_before(name, day).map(|_| ())
    }

    fn sweep(&self) -> Result<(), TableError> {
        self.tables.sweep()
    }
}

impl FactTables for SimulatedTables {
    fn stage(&self, name: &str, fact: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        self.tables.stage(name, fact, epoch, rows)
    }

    fn commit(&self, name: &str, fact: &Fact, epoch: u64, staged: &[u8]) -> Result<u64, TableError> {
        self.tables.commit(name, fact, epoch, staged)
    }

    fn remove(&self, name: &str) -> Result<(), TableError> {
        self.tables.remove(name)
    }

    fn erase(
        &self,
        name: &str,
        fact: &Fact,
        users: &[RoaringBitmap],
        stop: &Arc<AtomicBool>,
    ) -> Result<(), TableError> {
        self.tables.erase(name, fact, users, stop)
    }

    fn forget_history(&self, name: &str) -> Result<(), TableError> {
        self.tables.forget_history(name)
    }

    fn forget_staged(&self, name: &str) -> Result<(), TableError> {
        self.tables.forget_staged(name)
    }
}
