//! `users` as a table: filters become audience programs, and only the columns asked for are read, chunk by chunk.

use super::aggregate::Aggregation;
use super::columns::{UserColumn, batch, schema_of, user_columns};
use super::filter::translate;
use super::top::Top;
use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use engine::audience::ops::{self, ColumnOf, QueryContext, QueryError};
use engine::audience::plan::describe;
use engine::audience::predicate::Predicate;
use engine::store::Snapshot;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Batches of a part that wait to be taken; so what is held is bounded.
const BATCHES_WAITING: usize = 1;

/// The table.
#[derive(Debug)]
pub(super) struct UsersTable {
    snapshot: Snapshot,
    context: QueryContext,
    columns: Vec<UserColumn>,
    schema: SchemaRef,
}

impl UsersTable {
    /// The users of a snapshot; `context` ends the statement that asks.
    pub(super) fn new(snapshot: Snapshot, context: QueryContext) -> UsersTable {
        let columns = user_columns(snapshot.catalog());
        let schema = schema_of(&columns);
        UsersTable { snapshot, context, columns, schema }
    }
}

#[async_trait]
impl TableProvider for UsersTable {
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
        let catalog = self.snapshot.catalog();
        let Some(predicates) = filters.iter().map(|filter| translate(filter, catalog)).collect::<Option<Vec<_>>>()
        else {
            return internal_err!("a filter of users came back that was not taken");
        };
        let columns = match projection {
            None => self.columns.clone(),
            Some(projection) => projection.iter().map(|at| self.columns[*at].clone()).collect(),
        };
        let shard_count = self.snapshot.shards().len();
        let partitions = state.config().target_partitions().clamp(1, shard_count.max(1));
        let question = Question {
            snapshot: self.snapshot.clone(),
            predicate: Predicate::And(predicates).canonical(),
            partitions,
            context: self.context.clone(),
        };
        let schema = schema_of(&columns);
        let asked = Asked::Rows { columns: columns.iter().map(|column| column.of).collect(), limit, top: None };
        Ok(Arc::new(UsersExec::new(question, asked, schema)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match translate(filter, self.snapshot.catalog()) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }
}

/// Who is asked about.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) snapshot: Snapshot,
    pub(super) predicate: Predicate,
    partitions: usize,
    pub(super) context: QueryContext,
}

/// What is asked of them.
#[derive(Clone, Debug)]
enum Asked {
    /// Their columns; of the first ones in an order only, and few others, if that is enough.
    Rows { columns: Vec<ColumnOf>, limit: Option<usize>, top: Option<Top> },
    /// How many there are, so many times: a row a part, of columns with the same number.
    Count,
    /// What a part's users come to, group by group.
    Figures(Arc<Aggregation>),
}

/// Runs an audience program over the shards, part by part.
#[derive(Debug)]
pub(super) struct UsersExec {
    question: Question,
    asked: Asked,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl UsersExec {
    fn new(question: Question, asked: Asked, schema: SchemaRef) -> UsersExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(question.partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        UsersExec { question, asked, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Who is asked about.
    pub(super) fn question(&self) -> &Question {
        &self.question
    }

    /// The columns, if all rows are asked for.
    pub(super) fn all_rows(&self) -> Option<&[ColumnOf]> {
        match &self.asked {
            Asked::Rows { columns, limit: None, top: None } => Some(columns),
            _ => None,
        }
    }

    /// The same users counted instead: a row a part, with their number in each column of `schema`, which are all `Int64`. `None`
    /// if something else is asked than all rows.
    pub(super) fn counted(&self, schema: SchemaRef) -> Option<UsersExec> {
        self.all_rows().map(|_| UsersExec::new(self.question.clone(), Asked::Count, schema))
    }

    /// What the same users come to instead, in rows of `schema`.
    pub(super) fn aggregated(&self, aggregation: Aggregation, schema: SchemaRef) -> UsersExec {
        UsersExec::new(self.question.clone(), Asked::Figures(Arc::new(aggregation)), schema)
    }

    /// The first of the same users instead, and few others; `None` if something else is asked than all rows.
    pub(super) fn first(&self, top: Top) -> Option<UsersExec> {
        let asked = Asked::Rows { columns: self.all_rows()?.to_vec(), limit: None, top: Some(top) };
        Some(UsersExec::new(self.question.clone(), asked, Arc::clone(&self.schema)))
    }
}

impl DisplayAs for UsersExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        match &self.asked {
            Asked::Count => write!(f, "UsersExec: count")?,
            Asked::Figures(aggregation) => write!(f, "UsersExec: {aggregation}")?,
            Asked::Rows { columns, .. } if columns.is_empty() => write!(f, "UsersExec: rows without columns")?,
            Asked::Rows { .. } => write!(f, "UsersExec: columns=[{}]", names.join(", "))?,
        }
        write!(f, ", where={}", describe(&self.question.predicate, self.question.snapshot.catalog()))?;
        match &self.asked {
            Asked::Rows { limit: Some(limit), .. } => write!(f, ", limit={limit}"),
            Asked::Rows { top: Some(top), .. } => {
                write!(f, ", {}", top.describe(self.question.snapshot.catalog()))
            }
            _ => Ok(()),
        }
    }
}

impl ExecutionPlan for UsersExec {
    fn name(&self) -> &'static str {
        "UsersExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("users have no inputs") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("users have no inputs") }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_WAITING);
        let sender = builder.tx();
        let (question, asked, schema) = (self.question.clone(), self.asked.clone(), Arc::clone(&self.schema));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        builder.spawn_blocking(move || {
            let mut failure = None;
            // Whoever does not listen any more has enough.
            let mut send = |made: Result<RecordBatch>| match made {
                Ok(batch) => {
                    metrics.record_output(batch.num_rows());
                    match sender.blocking_send(Ok(batch)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            };
            let timer = metrics.elapsed_compute().timer();
            let done = match asked {
                Asked::Rows { columns, limit, top: None } => {
                    question.rows(partition, &question.predicate, &columns, limit, &schema, &mut send).map(drop)
                }
                Asked::Rows { columns, top: Some(top), .. } => {
                    question.first(partition, &columns, &top, &schema, &mut send)
                }
                Asked::Count => question.count(partition, &schema, &mut send),
                Asked::Figures(aggregation) => aggregation.run(&question, partition, &mut send),
            };
            timer.done();
            metrics.done();
            match failure {
                Some(error) => Err(error),
                None => done.map_err(|error| DataFusionError::External(Box::new(error))),
            }
        });
        Ok(make_cooperative(builder.build()))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

pub(super) type Send<'s> = &'s mut dyn FnMut(Result<RecordBatch>) -> ControlFlow<()>;

impl Question {
    /// The shards of a part.
    pub(super) fn shards(&self, partition: usize) -> impl Iterator<Item = usize> {
        (partition..self.snapshot.shards().len()).step_by(self.partitions)
    }

    /// Answers whether there may be enough.
    fn rows(
        &self,
        partition: usize,
        predicate: &Predicate,
        columns: &[ColumnOf],
        limit: Option<usize>,
        schema: &SchemaRef,
        send: Send<'_>,
    ) -> std::result::Result<ControlFlow<()>, QueryError> {
        let mut flow = ControlFlow::Continue(());
        ops::columns(&self.snapshot, predicate, columns, self.shards(partition), limit, &self.context, |rows| {
            flow = send(batch(schema, rows).map_err(DataFusionError::from));
            flow
        })?;
        Ok(flow)
    }

    fn first(
        &self,
        partition: usize,
        columns: &[ColumnOf],
        top: &Top,
        schema: &SchemaRef,
        send: Send<'_>,
    ) -> std::result::Result<(), QueryError> {
        for (predicate, limit) in top.found(&self.snapshot, &self.predicate, &self.context)? {
            if self.rows(partition, predicate, columns, *limit, schema, send)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn count(&self, partition: usize, schema: &SchemaRef, send: Send<'_>) -> std::result::Result<(), QueryError> {
        let mut total = 0u64;
        ops::counts(&self.snapshot, &self.predicate, self.shards(partition), &self.context, |count| {
            total += count;
            ControlFlow::Continue(())
        })?;
        let numbers: Arc<dyn Array> = Arc::new(Int64Array::from(vec![total.cast_signed()]));
        let columns = vec![numbers; schema.fields().len()];
        let _ = send(RecordBatch::try_new(Arc::clone(schema), columns).map_err(DataFusionError::from));
        Ok(())
    }
}
