//! A fact as a table: its Delta Lake table at the version that the snapshot sees, and the rows that are not in it yet.

use crate::facts::{DeltaTables, rows_to_batches, schema};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use engine::catalog::Fact;
use engine::store::{FactRow, Snapshot};
use std::sync::Arc;

/// Columns that say where a user's bits are; nobody but the engine knows what to do with them.
const INNER: [&str; 2] = ["_shard", "_slot"];
/// Rows that are made columns of at once.
const ROWS_AT_ONCE: usize = 8_192;
/// Batches that wait to be taken.
const BATCHES_WAITING: usize = 2;

/// The table.
#[derive(Debug)]
pub(super) struct FactTable {
    name: String,
    snapshot: Snapshot,
    tables: Arc<DeltaTables>,
    fact: Fact,
    /// All columns that are there.
    all: SchemaRef,
    /// The places of those that are shown.
    shown: Vec<usize>,
    schema: SchemaRef,
}

impl FactTable {
    /// A fact of a snapshot. Nothing is opened yet.
    pub(super) fn new(name: &str, fact: &Fact, snapshot: Snapshot, tables: Arc<DeltaTables>) -> FactTable {
        let all = schema(fact);
        let shown: Vec<usize> =
            (0..all.fields().len()).filter(|at| !INNER.contains(&all.field(*at).name().as_str())).collect();
        let fields: Vec<_> = shown.iter().map(|at| Arc::clone(&all.fields()[*at])).collect();
        let schema = Arc::new(Schema::new(fields));
        FactTable { name: name.to_owned(), snapshot, tables, fact: fact.clone(), all, shown, schema }
    }

    fn failed(&self, why: impl std::fmt::Display) -> DataFusionError {
        DataFusionError::External(format!("the rows of `{}` could not be read: {why}", self.name).into())
    }

    /// The rows in the table, pruned by the filters.
    async fn stored(
        &self,
        epoch: u64,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (tables, name, fact) = (Arc::clone(&self.tables), self.name.clone(), self.fact.clone());
        // Waits for the disk.
        let opened = tokio::task::spawn_blocking(move || tables.read_at(&name, &fact, epoch)).await;
        let table = opened.map_err(|error| self.failed(error))?.map_err(|why| self.failed(why))?;
        table.scan(state, projection, filters, limit).await
    }

    /// The rows that are not in the table yet.
    fn recent(&self, projection: Option<&Vec<usize>>, limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = RecentRows {
            name: self.name.clone(),
            snapshot: self.snapshot.clone(),
            fact: self.fact.clone(),
            schema: Arc::clone(&self.all),
        };
        let parts: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(rows)];
        let read = StreamingTableExec::try_new(Arc::clone(&self.all), parts, projection, [], false, limit)?;
        Ok(Arc::new(read))
    }
}

#[async_trait]
impl TableProvider for FactTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = match projection {
            None => self.shown.clone(),
            Some(projection) => projection.iter().map(|at| self.shown[*at]).collect(),
        };
        let projection = Some(&projection);
        let mut parts = Vec::new();
        if let Some(epoch) = self.snapshot.table_epoch(self.fact.id) {
            parts.push(self.stored(epoch, state, projection, filters, limit).await?);
        }
        if parts.is_empty() || self.snapshot.recent_rows(self.fact.id).iter().any(|log| log.rows().len() > 0) {
            parts.push(self.recent(projection, limit)?);
        }
        UnionExec::try_new(parts)
    }

    /// What files, row groups and pages cannot have is not read; which rows fit is decided above, for recent rows too.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// Makes columns of rows as they are read.
#[derive(Debug)]
struct RecentRows {
    name: String,
    snapshot: Snapshot,
    fact: Fact,
    schema: SchemaRef,
}

impl PartitionStream for RecentRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_WAITING);
        let sender = builder.tx();
        let (snapshot, fact, name) = (self.snapshot.clone(), self.fact.clone(), self.name.clone());
        builder.spawn_blocking(move || {
            for log in snapshot.recent_rows(fact.id) {
                let mut rows = log.rows();
                loop {
                    let some: Vec<FactRow<'_>> = rows.by_ref().take(ROWS_AT_ONCE).collect();
                    if some.is_empty() {
                        break;
                    }
                    let batches = rows_to_batches(&fact, &some).map_err(|error| {
                        DataFusionError::External(format!("recent rows of `{name}`: {error}").into())
                    })?;
                    for batch in batches {
                        // Whoever does not listen any more has enough.
                        if sender.blocking_send(Ok(batch)).is_err() {
                            return Ok(());
                        }
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}
