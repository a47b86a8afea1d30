//! Delta tables as a history asks for them.

use crate::rows::{FOLDER, Rows, Tables};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use engine::catalog::Fact;
use engine::store::{FactRow, FactTables, TableError};
use engine::vfs::memory::MemoryVfs;
use engine_sql::facts::{DeltaTables, Simulation};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;

/// Names in one life; no life has so many.
const NAMES_PER_LIFE: u64 = 1 << 20;
/// So few that histories come to it.
const CHECKPOINT_EVERY: u64 = 3;

struct SimulatedTables {
    tables: DeltaTables,
    runtime: Runtime,
    session: SessionContext,
    /// What was read since the last change, by name and epoch.
    known: Mutex<HashMap<(String, u64), Rows>>,
}

impl std::fmt::Debug for SimulatedTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tables.fmt(f)
    }
}

pub(crate) fn open(vfs: &MemoryVfs, life: u64) -> Result<Arc<dyn Tables>, TableError> {
    let simulation = Simulation { first_number: life * NAMES_PER_LIFE, checkpoint_every: CHECKPOINT_EVERY };
    let tables = DeltaTables::open_simulated(Arc::new(vfs.clone()), Path::new(FOLDER), simulation)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let session = SessionContext::new();
    Ok(Arc::new(SimulatedTables { tables, runtime, session, known: Mutex::default() }))
}

impl SimulatedTables {
    fn changed(&self) -> &DeltaTables {
        self.known.lock().expect("nobody panicked").clear();
        &self.tables
    }

    fn read(&self, name: &str, fact: &Fact, epoch: u64) -> Rows {
        let version = self.tables.version_at(name, epoch).expect("the table is read");
        let version = version.unwrap_or_else(|| panic!("no version of `{name}` has epoch {epoch}"));
        let provider = self.tables.read(name, fact, Some(version)).expect("the table is read");
        let batches = self.runtime.block_on(async {
            let plan = provider.scan(&self.session.state(), None, &[], None).await.expect("a plan");
            datafusion::physical_plan::collect(plan, self.session.task_ctx()).await.expect("the table is scanned")
        });
        let mut rows = Rows::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                *rows.entry(row_of(batch, fact, row)).or_default() += 1;
            }
        }
        rows
    }
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
    let array = batch.column_by_name(name).expect("a column of the fact");
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
        let key = (format!("{name} {}", fact.columns.len()), epoch);
        if let Some(rows) = self.known.lock().expect("nobody panicked").get(&key) {
            return rows.clone();
        }
        let rows = self.read(name, fact, epoch);
        self.known.lock().expect("nobody panicked").insert(key, rows.clone());
        rows
    }

    fn tend(&self, name: &str, choice: u64) -> Result<bool, TableError> {
        let tables = self.changed();
        if choice.is_multiple_of(4) {
            // All that has left the table goes, so older versions cannot be read.
            tables.vacuum(name, SystemTime::now() + Duration::from_secs(86_400 * 3_650))?;
            return Ok(false);
        }
        tables.compact(name, 1 << (10 + choice % 16)).map(|_| true)
    }

    fn drop_before(&self, name: &str, day: i32) -> Result<(), TableError> {
        self.changed().drop_before(name, day).map(|_| ())
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
        self.changed().commit(name, fact, epoch, staged)
    }

    fn remove(&self, name: &str) -> Result<(), TableError> {
        self.changed().remove(name)
    }

    fn forget_staged(&self, name: &str) -> Result<(), TableError> {
        self.tables.forget_staged(name)
    }
}
