//! Searching the events of facts: who did what no activity index tells.
//!
//! [`TableScanner`] reads a fact's Delta Lake table at the snapshot's version and the rows that are not in it yet. What can be
//! ruled out is: days by their folders, files by what the log says of them, row groups and pages by their smallest and
//! largest times, slots and values. Of the rows that are left only a few columns are read: shard, slot, weight and what is
//! added up.
//!
//! A row that takes another back repeats its values with weight −1, so it fits the same conditions and both are undone in what
//! is added up. Sums are exact: whole numbers in 128 bits, checked, floating point numbers without rounding until the end.
//!
//! * [`condition`]: a condition as an expression over columns. * [`json`]: values in JSON.
//! * [`recent`]: rows that are not in the table yet. * [`tally`]: what is added up per user.

mod condition;
mod json;
mod recent;
mod tally;

pub(crate) use condition::{membership, places};

use crate::facts::{DeltaTables, RowError, chosen_schema};
use crate::threads::Threads;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Float64Type, Int8Type, Int32Type, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use datafusion::prelude::{SessionConfig, SessionContext};
use engine::audience::ops::QueryError;
use engine::audience::scan::{
    EventField, FactScanner, JsonPath, Scan, ScanError, ScanFigure, ScanStats, Scanned, UNDECLARED,
};
use engine::catalog::{ColumnType, Fact};
use engine::error::Class;
use engine::ids::Slot;
use engine::store::Snapshot;
use futures::StreamExt;
use recent::Recent;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tally::{Count, FloatSum, Tally, Users, WholeSum};

/// Memory of all scans that run at once, unless it is set otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 1 << 30;
/// How soon a cancelled query is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Searches the events of facts in their tables, on threads of its own. Blocks; may be used from many threads.
#[derive(Debug)]
pub struct TableScanner {
    tables: Arc<DeltaTables>,
    environment: Arc<RuntimeEnv>,
    memory_bytes_max: usize,
    threads: Threads,
}

impl TableScanner {
    /// A scanner of tables that all its scans together use at most so much memory for.
    ///
    /// # Errors
    /// What the operating system says, if it gives no threads.
    pub fn new(tables: Arc<DeltaTables>, memory_bytes_max: usize) -> std::io::Result<TableScanner> {
        let threads = Threads::new("scan")?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes_max)))
            .build_arc()
            .map_err(std::io::Error::other)?;
        Ok(TableScanner { tables, environment, memory_bytes_max, threads })
    }
}

impl FactScanner for TableScanner {
    fn scan(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<Scanned, QueryError> {
        let (users, _, stats) = self.answer(snapshot, scan, within, None, cancelled)?;
        Ok(Scanned { users, stats })
    }

    fn figure(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        (shard, slot): (usize, Slot),
        cancelled: &AtomicBool,
    ) -> Result<Option<i128>, QueryError> {
        let mut within = vec![RoaringBitmap::new(); snapshot.shards().len()];
        within[shard].insert(slot);
        let (_, figure, _) = self.answer(snapshot, scan, Some(&within), Some((shard, slot)), cancelled)?;
        Ok(figure)
    }
}

impl TableScanner {
    /// The users who fit, the figure of the one that it is asked of, and how they were found.
    fn answer(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        figure_of: Option<(usize, Slot)>,
        cancelled: &AtomicBool,
    ) -> Result<(Vec<RoaringBitmap>, Option<i128>, ScanStats), QueryError> {
        let started = Instant::now();
        let catalog = snapshot.catalog();
        let name = catalog.name_of(scan.fact).unwrap_or("dropped").to_owned();
        let refuse = |class, why: String| QueryError::Scan(ScanError { fact: name.clone(), why, class });
        let Some(fact) = catalog.fact_of(scan.fact).cloned() else {
            return Err(refuse(Class::NotFound, "it is not declared any more; ask again".to_owned()));
        };
        let threads = self.threads.handle();
        let shard_count = snapshot.shards().len();
        let slot_counts = snapshot.shards().iter().map(engine::store::ShardSnapshot::slot_count).collect();
        let question = Question {
            fact,
            scan: scan.clone(),
            within: within.map(|within| Arc::new(within.to_vec())),
            figure_of,
            slot_counts,
            environment: Arc::clone(&self.environment),
            partitions: self.threads.count(),
            rows_read: Arc::default(),
        };
        let recent = Recent::new(snapshot, &question, cancelled).map_err(|failure| self.error(failure, &refuse))?;
        let table = snapshot.table_epoch(scan.fact).map(|epoch| {
            let (tables, name, fact) = (Arc::clone(&self.tables), name.clone(), question.fact.clone());
            // Waits for the disk, and is not waited for once it is cancelled.
            threads.spawn_blocking(move || tables.read_at(&name, &fact, epoch))
        });
        debug_assert_eq!(shard_count, question.slot_counts.len());
        let (sender, receiver) = mpsc::channel();
        let running = threads.spawn(async move {
            // Nobody waits for it once it is cancelled.
            let table = match table {
                None => Ok(None),
                Some(opening) => opening.await.map_err(|error| error.to_string()).flatten().map(Some),
            };
            let _ = sender.send(match table {
                Ok(table) => question.answer(table, recent).await,
                Err(why) => Err(Failure::Other(why)),
            });
        });
        let answer = loop {
            match receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(answer) => break answer,
                Err(mpsc::RecvTimeoutError::Timeout) if cancelled.load(Ordering::Relaxed) => {
                    running.abort();
                    return Err(QueryError::Cancelled);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let why = "reading panicked; the message is in the log of the process".to_owned();
                    return Err(refuse(Class::Internal, why));
                }
            }
        };
        let (users, figure, mut stats) = answer.map_err(|failure| self.error(failure, &refuse))?;
        stats.microseconds = started.elapsed().as_micros() as u64;
        Ok((users, figure, stats))
    }

    fn error(&self, failure: Failure, refuse: &impl Fn(Class, String) -> QueryError) -> QueryError {
        match failure {
            Failure::Cancelled => QueryError::Cancelled,
            Failure::Memory => refuse(Class::Exhausted, self.out_of_memory()),
            Failure::Overflow => {
                refuse(Class::Exhausted, "a sum is beyond 128 bits; ask for a shorter time".to_owned())
            }
            Failure::Recent(error) => refuse(Class::Corrupt, format!("rows in memory: {error}")),
            Failure::Other(error) => refuse(Class::Internal, error),
        }
    }

    fn out_of_memory(&self) -> String {
        format!(
            "it takes more than the {} bytes of memory that all scans may use; name fewer users, or a shorter time, or set `scan_memory_bytes` higher",
            self.memory_bytes_max
        )
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    Cancelled,
    Memory,
    Overflow,
    /// Rows that are not in the table yet are none of the fact.
    Recent(RowError),
    Other(String),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Failure {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Failure::Memory,
            _ => Failure::Other(error.to_string()),
        }
    }
}

/// A scan, and all it needs on another thread.
struct Question {
    fact: Fact,
    scan: Scan,
    within: Option<Arc<Vec<RoaringBitmap>>>,
    /// Whose figure is asked for.
    figure_of: Option<(usize, Slot)>,
    /// Slots given so far, per shard.
    slot_counts: Arc<[u32]>,
    environment: Arc<RuntimeEnv>,
    partitions: usize,
    rows_read: Arc<AtomicU64>,
}

type Answer = Result<(Vec<RoaringBitmap>, Option<i128>, ScanStats), Failure>;

impl Question {
    async fn answer(self, table: Option<Arc<dyn TableProvider>>, recent: Recent) -> Answer {
        match self.scan.figure {
            ScanFigure::Count => self.tallied::<Count>(table, recent).await,
            ScanFigure::Sum(at) => match self.fact.columns.get(usize::from(at)).map(|column| column.column_type) {
                Some(ColumnType::Integer | ColumnType::Decimal { .. }) => self.tallied::<WholeSum>(table, recent).await,
                Some(ColumnType::Float) => self.tallied::<FloatSum>(table, recent).await,
                _ => Err(Failure::Other("the column has no sum; ask again".to_owned())),
            },
        }
    }

    async fn tallied<T: Tally>(self, table: Option<Arc<dyn TableProvider>>, recent: Recent) -> Answer {
        let Recent { batches, reserved: of_recent } = recent;
        let recent_rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut stats = ScanStats { recent_rows, ..Default::default() };
        let mut users: Users<T> = Users::new(self.slot_counts.len());
        let mut reserved = self.reservation();
        if !batches.is_empty() {
            let schema = chosen_schema(&self.fact, Some(&self.columns()));
            let memory: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![batches])?);
            self.read(memory, &mut users, &mut reserved, &mut stats).await?;
        }
        drop(of_recent);
        if let Some(table) = table {
            self.read(table, &mut users, &mut reserved, &mut stats).await?;
        }
        stats.rows_read = self.rows_read.load(Ordering::Relaxed);
        let figure = self.figure_of.and_then(|(shard, slot)| users.figure(shard, slot));
        Ok((users.fitting(self.scan.range), figure, stats))
    }

    fn reservation(&self) -> MemoryReservation {
        let pool: &Arc<dyn MemoryPool> = &self.environment.memory_pool;
        MemoryConsumer::new("users of a scan").register(pool)
    }

    /// The columns that are looked at, besides those that every row has for this.
    fn columns(&self) -> BTreeSet<&str> {
        let name = |at: u16| self.fact.columns.get(usize::from(at)).map(|column| column.name.as_str());
        let summed = match self.scan.figure {
            ScanFigure::Count => None,
            ScanFigure::Sum(at) => name(at),
        };
        let of_field = |field: &EventField| match field {
            EventField::Path(JsonPath { column: None, .. }) => Some(UNDECLARED),
            field => field.column().and_then(name),
        };
        self.scan.condition.fields().into_iter().filter_map(of_field).chain(summed).collect()
    }

    /// Reads a table, several parts of it at once.
    async fn read<T: Tally>(
        &self,
        table: Arc<dyn TableProvider>,
        users: &mut Users<T>,
        reserved: &mut MemoryReservation,
        stats: &mut ScanStats,
    ) -> Result<(), Failure> {
        let mut config = SessionConfig::new().with_target_partitions(self.partitions);
        config.options_mut().execution.parquet.pushdown_filters = true;
        config.options_mut().execution.parquet.schema_force_view_types = false;
        let session = SessionContext::new_with_config_rt(config, Arc::clone(&self.environment));
        let mut columns = vec!["_shard", "_slot", "weight"];
        if let ScanFigure::Sum(at) = self.scan.figure {
            columns.push(&self.fact.columns[usize::from(at)].name);
        }
        let filter = condition::filter(&self.fact, &self.scan, self.within.as_ref());
        let mut frame = session.read_table(table)?;
        if let Some(filter) = filter {
            frame = frame.filter(filter)?;
        }
        let columns = columns.into_iter().map(datafusion::prelude::ident).collect::<Vec<_>>();
        let plan = frame.select(columns)?.create_physical_plan().await?;
        stats.files += file_count(&plan)?;
        let streams = execute_stream_partitioned(plan, session.task_ctx())?;
        let mut parts = futures::stream::FuturesUnordered::new();
        for mut stream in streams {
            let mut part: Users<T> = Users::new(self.slot_counts.len());
            let of_part = self.reservation();
            let (slot_counts, rows_read) = (Arc::clone(&self.slot_counts), Arc::clone(&self.rows_read));
            let task = async move {
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    rows_read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    add_batch(&mut part, &batch, &slot_counts)?;
                    of_part.try_resize(part.memory_bytes())?;
                }
                Ok::<_, Failure>((part, of_part))
            };
            // Ended with this future: a cancelled scan stops reading.
            parts.push(datafusion::common::runtime::SpawnedTask::spawn(task));
        }
        while let Some(part) = parts.next().await {
            let (part, of_part) = part.map_err(|error| Failure::Other(format!("reading stopped: {error}")))??;
            users.merge(part).ok_or(Failure::Overflow)?;
            drop(of_part);
            reserved.try_resize(users.memory_bytes())?;
        }
        Ok(())
    }
}

/// The files that a plan opens.
fn file_count(plan: &Arc<dyn ExecutionPlan>) -> Result<u64, Failure> {
    let mut paths = std::collections::HashSet::new();
    plan.apply(|node| {
        if let Some(source) = node.downcast_ref::<DataSourceExec>()
            && let Some(files) = source.data_source().downcast_ref::<FileScanConfig>()
        {
            let files = files.file_groups.iter().flat_map(|group| group.iter());
            paths.extend(files.map(|file| file.object_meta.location.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(paths.len() as u64)
}

/// Adds rows to their users; rows of users whom nobody knows are another writer's, and nobody asks about them. The rows come sorted by user as far as files go, so that of one user's rows only the first is
/// looked up.
fn add_batch<T: Tally>(users: &mut Users<T>, batch: &RecordBatch, slot_counts: &[u32]) -> Result<(), Failure> {
    let damaged = |what: &str| Failure::Other(format!("the table is damaged: {what}; compare it with a backup"));
    let shards = batch.column(0).as_primitive_opt::<Int32Type>().ok_or_else(|| damaged("_shard is no integer"))?;
    let slots = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("_slot is no integer"))?;
    let weights = batch.column(2).as_primitive_opt::<Int8Type>().ok_or_else(|| damaged("weight is no integer"))?;
    let numbers = Numbers::of(batch.columns().get(3)).ok_or_else(|| damaged("a summed column is no number"))?;
    if shards.null_count() + slots.null_count() + weights.null_count() > 0 {
        return Err(damaged("a row does not say whose it is"));
    }
    let is_same_user = |a: usize, b: usize| shards.value(a) == shards.value(b) && slots.value(a) == slots.value(b);
    let mut row = 0;
    while row < batch.num_rows() {
        let shard = usize::try_from(shards.value(row)).unwrap_or(usize::MAX);
        let slot = u32::try_from(slots.value(row)).unwrap_or(u32::MAX);
        if slot_counts.get(shard).is_none_or(|count| slot >= *count) {
            row += 1;
            continue;
        }
        let (tally, first) = (users.of(shard, slot), row);
        while row < batch.num_rows() && is_same_user(first, row) {
            tally.add(weights.value(row), numbers.at(row)).ok_or(Failure::Overflow)?;
            row += 1;
        }
    }
    Ok(())
}

/// The numbers that are added up.
enum Numbers<'b> {
    None,
    Integers(&'b arrow::array::Int64Array),
    Decimals(&'b arrow::array::Decimal128Array),
    Floats(&'b arrow::array::Float64Array),
}

/// A number that is added up.
#[derive(Clone, Copy, Debug)]
enum Number {
    None,
    Whole(i128),
    Float(f64),
}

impl<'b> Numbers<'b> {
    fn of(column: Option<&'b arrow::array::ArrayRef>) -> Option<Numbers<'b>> {
        let Some(column) = column else { return Some(Numbers::None) };
        let integers = column.as_primitive_opt::<Int64Type>().map(Numbers::Integers);
        let decimals = || column.as_primitive_opt::<Decimal128Type>().map(Numbers::Decimals);
        let floats = || column.as_primitive_opt::<Float64Type>().map(Numbers::Floats);
        integers.or_else(decimals).or_else(floats)
    }

    fn at(&self, row: usize) -> Number {
        match self {
            Numbers::Integers(array) if array.is_valid(row) => Number::Whole(array.value(row).into()),
            Numbers::Decimals(array) if array.is_valid(row) => Number::Whole(array.value(row)),
            Numbers::Floats(array) if array.is_valid(row) => Number::Float(array.value(row)),
            _ => Number::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int8Array, Int32Array, Int64Array};
    use engine::bitmap::bsi::NumberRange;

    #[test]
    fn rows_of_users_whom_nobody_knows_are_passed_over() {
        let columns: [(&str, ArrayRef); 3] = [
            ("_shard", Arc::new(Int32Array::from(vec![0, 0, 1, 2, -1, 0]))),
            ("_slot", Arc::new(Int64Array::from(vec![1, 5, 0, 0, 0, -3]))),
            ("weight", Arc::new(Int8Array::from(vec![1; 6]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut users: Users<Count> = Users::new(2);
        add_batch(&mut users, &batch, &[2, 1]).expect("passed over");
        let found = users.fitting(NumberRange::ALL);
        assert_eq!(found, [RoaringBitmap::from([1]), RoaringBitmap::from([0])]);
    }
}
