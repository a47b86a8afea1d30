//! Reading the rows of a fact, from its table and from memory, several parts at once, and gathering what they come to.

use super::Failure;
use super::recent::Recent;
use crate::facts::chosen_schema;
use arrow::array::{Array, AsArray, Int8Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{Int8Type, Int32Type, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use datafusion::prelude::{SessionConfig, SessionContext, ident};
use engine::audience::scan::{EventCondition, EventField, JsonPath, ScanStats, UNDECLARED};
use engine::catalog::Fact;
use engine::ids::Slot;
use futures::StreamExt;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What every row tells: whose it is, and whether it takes another back.
const OF_EVERY_ROW: [&str; 3] = ["_shard", "_slot", "weight"];

/// Which rows, and what of them.
pub(super) struct Wanted {
    /// Which; `None`: all.
    pub(super) filter: Option<Expr>,
    /// What is read of each beside what every row tells.
    pub(super) values: Vec<Expr>,
    /// The columns that both look at.
    pub(super) columns: BTreeSet<String>,
}

/// A reading of a fact's rows, and all it needs on another thread.
pub(super) struct Reading {
    pub(super) wanted: Wanted,
    pub(super) fact: Fact,
    pub(super) within: Option<Arc<Vec<RoaringBitmap>>>,
    /// Slots given so far, per shard.
    pub(super) slot_counts: Arc<[u32]>,
    pub(super) environment: Arc<RuntimeEnv>,
    pub(super) partitions: usize,
}

/// What rows come to, in parts that are put together.
pub(super) trait Gather: Send + 'static {
    /// Adds rows; those of users whom nobody knows are another writer's, and nobody asks about them.
    fn add(&mut self, rows: &Rows<'_>) -> Result<(), Failure>;
    /// Adds what other rows come to.
    fn merge(&mut self, other: Self) -> Result<(), Failure>;
    /// Memory held, about.
    fn memory_bytes(&self) -> usize;
}

/// The columns that a condition looks at.
pub(super) fn columns_of(fact: &Fact, condition: &EventCondition) -> BTreeSet<String> {
    let name = |at: u16| fact.columns.get(usize::from(at)).map(|column| column.name.clone());
    let of_field = |field: &EventField| match field {
        EventField::Path(JsonPath { column: None, .. }) => Some(UNDECLARED.to_owned()),
        field => field.column().and_then(name),
    };
    condition.fields().into_iter().filter_map(of_field).collect()
}

impl Reading {
    /// What rows come to, the memory that is held for it, and how they were read.
    pub(super) async fn gather<G: Gather>(
        &self,
        table: Option<Arc<dyn TableProvider>>,
        recent: Recent,
        make: impl Fn() -> G,
    ) -> Result<(G, MemoryReservation, ScanStats), Failure> {
        let Recent { batches, reserved: of_recent } = recent;
        let recent_rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut stats = ScanStats { recent_rows, ..Default::default() };
        let mut gathered = make();
        let reserved = self.reservation();
        if !batches.is_empty() {
            let columns = self.wanted.columns.iter().map(String::as_str).collect();
            let schema = chosen_schema(&self.fact, Some(&columns));
            let memory: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![batches])?);
            self.read(memory, &make, &mut gathered, &reserved, &mut stats).await?;
        }
        drop(of_recent);
        if let Some(table) = table {
            self.read(table, &make, &mut gathered, &reserved, &mut stats).await?;
        }
        Ok((gathered, reserved, stats))
    }

    pub(super) fn reservation(&self) -> MemoryReservation {
        let pool: &Arc<dyn MemoryPool> = &self.environment.memory_pool;
        MemoryConsumer::new("users of a scan").register(pool)
    }

    /// Reads a table, several parts of it at once.
    async fn read<G: Gather>(
        &self,
        table: Arc<dyn TableProvider>,
        make: &impl Fn() -> G,
        gathered: &mut G,
        reserved: &MemoryReservation,
        stats: &mut ScanStats,
    ) -> Result<(), Failure> {
        let mut config = SessionConfig::new().with_target_partitions(self.partitions);
        config.options_mut().execution.parquet.pushdown_filters = true;
        config.options_mut().execution.parquet.schema_force_view_types = false;
        let session = SessionContext::new_with_config_rt(config, Arc::clone(&self.environment));
        let mut frame = session.read_table(table)?;
        if let Some(filter) = &self.wanted.filter {
            frame = frame.filter(filter.clone())?;
        }
        let values: Vec<Expr> = OF_EVERY_ROW.map(ident).into_iter().chain(self.wanted.values.iter().cloned()).collect();
        let plan = frame.select(values)?.create_physical_plan().await?;
        stats.files += file_count(&plan)?;
        let streams = execute_stream_partitioned(plan, session.task_ctx())?;
        let mut parts = futures::stream::FuturesUnordered::new();
        for mut stream in streams {
            let (mut part, of_part) = (make(), self.reservation());
            let slot_counts = Arc::clone(&self.slot_counts);
            let task = async move {
                let mut rows_read = 0;
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    rows_read += batch.num_rows() as u64;
                    part.add(&Rows::of(&batch, &slot_counts)?)?;
                    of_part.try_resize(part.memory_bytes())?;
                }
                Ok::<_, Failure>((part, of_part, rows_read))
            };
            // Ended with this future: a cancelled scan stops reading.
            parts.push(datafusion::common::runtime::SpawnedTask::spawn(task));
        }
        while let Some(part) = parts.next().await {
            let (part, of_part, rows_read) =
                part.map_err(|error| Failure::Other(format!("reading stopped: {error}")))??;
            stats.rows_read += rows_read;
            gathered.merge(part)?;
            drop(of_part);
            reserved.try_resize(gathered.memory_bytes())?;
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

/// Rows that were read, and whose they are.
pub(super) struct Rows<'b> {
    batch: &'b RecordBatch,
    slot_counts: &'b [u32],
    shards: &'b Int32Array,
    slots: &'b Int64Array,
    weights: &'b Int8Array,
}

/// Why a table cannot be what it should.
pub(super) fn damaged(what: &str) -> Failure {
    Failure::Other(format!("the table is damaged: {what}; compare it with a backup"))
}

impl<'b> Rows<'b> {
    pub(super) fn of(batch: &'b RecordBatch, slot_counts: &'b [u32]) -> Result<Rows<'b>, Failure> {
        let column = |at: usize| batch.column(at);
        let shards = column(0).as_primitive_opt::<Int32Type>().ok_or_else(|| damaged("_shard is no integer"))?;
        let slots = column(1).as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("_slot is no integer"))?;
        let weights = column(2).as_primitive_opt::<Int8Type>().ok_or_else(|| damaged("weight is no integer"))?;
        if shards.null_count() + slots.null_count() + weights.null_count() > 0 {
            return Err(damaged("a row does not say whose it is"));
        }
        Ok(Rows { batch, slot_counts, shards, slots, weights })
    }

    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// What was read beside whose they are.
    pub(super) fn values(&self) -> &'b [arrow::array::ArrayRef] {
        &self.batch.columns()[OF_EVERY_ROW.len()..]
    }

    /// Whose a row is: shard and slot; `None` if nobody knows the user.
    pub(super) fn user(&self, row: usize) -> Option<(usize, Slot)> {
        let shard = usize::try_from(self.shards.value(row)).ok()?;
        let slot = u32::try_from(self.slots.value(row)).ok()?;
        self.slot_counts.get(shard).filter(|count| slot < **count).map(|_| (shard, slot))
    }

    pub(super) fn is_same_user(&self, a: usize, b: usize) -> bool {
        self.shards.value(a) == self.shards.value(b) && self.slots.value(a) == self.slots.value(b)
    }

    /// 1, or −1 if it takes another back.
    pub(super) fn weight(&self, row: usize) -> i8 {
        self.weights.value(row)
    }
}
