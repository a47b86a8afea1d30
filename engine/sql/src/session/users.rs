//! `users` as a table: filters become audience programs, and only the columns asked for are read, chunk by chunk.

use super::aggregate::Aggregation;
use super::calls::Calls;
use super::columns::{UserColumn, batch, place_columns, schema_of, user_columns};
use super::facts::PLACES;
use super::filter::translate;
use super::late::{Found, Late, Once, Restriction, Users};
use super::top::Top;
use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::common::runtime::SpawnedTask;
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
use engine::audience::scan::Given;
use engine::store::Snapshot;
use futures::future::FutureExt;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

/// Batches of a part that wait to be taken; so what is held is bounded.
const BATCHES_WAITING: usize = 1;

/// The table.
#[derive(Debug)]
pub(super) struct UsersTable {
    snapshot: Snapshot,
    context: QueryContext,
    calls: Arc<Calls>,
    columns: Vec<UserColumn>,
    schema: SchemaRef,
    /// Filters that were translated before: a plan is asked about them several times.
    translated: Mutex<HashMap<Expr, Option<Predicate>>>,
    restrictions: Vec<Restriction>,
}

impl UsersTable {
    /// The users of a snapshot; `context` ends the statement that asks.
    pub(super) fn new(snapshot: Snapshot, context: QueryContext, calls: Arc<Calls>) -> UsersTable {
        let columns = user_columns(snapshot.catalog());
        let schema = schema_of(&columns);
        UsersTable { snapshot, context, calls, columns, schema, translated: Mutex::default(), restrictions: Vec::new() }
    }

    /// The same table, with those users only; `None` if it is that already.
    pub(super) fn restricted(&self, restriction: Restriction) -> Option<UsersTable> {
        if self.restrictions.iter().any(|known| known.is_like(&restriction)) {
            return None;
        }
        let mut table = UsersTable::new(self.snapshot.clone(), self.context.clone(), Arc::clone(&self.calls));
        table.columns.clone_from(&self.columns);
        table.schema = Arc::clone(&self.schema);
        table.restrictions = self.restrictions.iter().cloned().chain([restriction]).collect();
        Some(table)
    }

    /// The same table with where the users are as the last columns; `None` if it has them already, or what is called so is something
    /// else.
    pub(super) fn with_places(&self) -> Option<UsersTable> {
        if self.schema.fields().iter().any(|field| PLACES.contains(&field.name().as_str())) {
            return None;
        }
        let mut table = UsersTable::new(self.snapshot.clone(), self.context.clone(), Arc::clone(&self.calls));
        table.restrictions.clone_from(&self.restrictions);
        table.columns.extend(place_columns());
        table.schema = schema_of(&table.columns);
        Some(table)
    }

    /// Which of the users it has, whatever filters say.
    pub(super) fn restrictions(&self) -> &[Restriction] {
        &self.restrictions
    }

    /// Whether it has only some of the users, whatever filters say.
    pub(super) fn is_restricted(&self) -> bool {
        !self.restrictions.is_empty()
    }

    /// The users of a predicate, with these columns.
    pub(super) fn of(&self, predicate: Predicate, columns: &[usize], partitions: usize) -> UsersExec {
        let columns: Vec<UserColumn> = columns.iter().map(|at| self.columns[*at].clone()).collect();
        let (snapshot, context) = (self.snapshot.clone(), self.context.clone());
        let partitions = partitions.clamp(1, snapshot.shards().len().max(1));
        let question = Question {
            snapshot,
            predicate,
            partitions,
            context,
            calls: Arc::clone(&self.calls),
            late: None,
            conditions: Vec::new(),
            searched: Arc::default(),
        };
        let asked = Asked::Rows { columns: columns.iter().map(|column| column.of).collect(), limit: None, top: None };
        UsersExec::new(question, asked, schema_of(&columns))
    }

    fn translate(&self, filter: &Expr) -> Option<Predicate> {
        let mut translated = self.translated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = translated.get(filter) {
            return known.clone();
        }
        let predicate = translate(filter, &self.calls);
        translated.insert(filter.clone(), predicate.clone());
        predicate
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
        let Some(predicates) = filters.iter().map(|filter| self.translate(filter)).collect::<Option<Vec<_>>>() else {
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
            calls: Arc::clone(&self.calls),
            late: Late::plan(&self.restrictions, &self.snapshot, &self.context, state).await?,
            conditions: Vec::new(),
            searched: Arc::default(),
        };
        let schema = schema_of(&columns);
        let asked = Asked::Rows { columns: columns.iter().map(|column| column.of).collect(), limit, top: None };
        Ok(Arc::new(UsersExec::new(question, asked, schema)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match self.translate(filter) {
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
    /// The functions of the audience language in the statement.
    pub(super) calls: Arc<Calls>,
    /// Who else is asked about, if that is known only when other plans have run.
    late: Option<Arc<Late>>,
    /// What figures of them are restricted by.
    pub(super) conditions: Vec<Predicate>,
    /// The predicate and the conditions once events were searched for them and other plans have run: for all parts.
    searched: Arc<Once<Settled>>,
}

/// Who is asked about, and what figures of them are restricted by, when nothing is left to be searched.
type Settled = Arc<(Predicate, Vec<Predicate>)>;

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
        let conditions = aggregation.conditions().to_vec();
        let question = Question { conditions, searched: Arc::default(), ..self.question.clone() };
        UsersExec::new(question, Asked::Figures(Arc::new(aggregation)), schema)
    }

    /// The first of the same users instead, and few others; `None` if something else is asked than all rows.
    pub(super) fn first(&self, top: Top) -> Option<UsersExec> {
        let asked = Asked::Rows { columns: self.all_rows()?.to_vec(), limit: None, top: Some(top) };
        Some(UsersExec::new(self.question.clone(), asked, Arc::clone(&self.schema)))
    }

    /// Who is asked about, if the ids of all of them are told and nothing else.
    pub(super) fn whole(&self) -> Option<Question> {
        (self.all_rows()? == [ColumnOf::UserId]).then(|| self.question.clone())
    }

    /// The same, with these plans to run before.
    fn with_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(late) = &self.question.late else {
            return if children.is_empty() { Ok(self) } else { internal_err!("these users have no inputs") };
        };
        let late = Some(late.with_children(children)?);
        let question = Question { late, searched: Arc::default(), ..self.question.clone() };
        Ok(Arc::new(UsersExec::new(question, self.asked.clone(), Arc::clone(&self.schema))))
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
        if let Some(late) = &self.question.late {
            write!(f, ", users {}", late.describe())?;
        }
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
        self.question.late.iter().flat_map(|late| late.children()).collect()
    }

    /// What runs before makes bitmaps, of which each part needs all.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
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
        self.with_children(children)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.with_children(children)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_WAITING);
        let sender = builder.tx();
        let (question, asked, schema) = (self.question.clone(), self.asked.clone(), Arc::clone(&self.schema));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let answer = move |question: Question| {
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
        };
        if question.is_settled() {
            builder.spawn_blocking(move || answer(question));
        } else {
            builder.spawn(async move {
                let question = question.settled(&context).await?;
                let answered = SpawnedTask::spawn_blocking(move || answer(question)).join().await;
                answered.map_err(|error| DataFusionError::External(Box::new(error)))?
            });
        }
        Ok(make_cooperative(builder.build()))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

pub(super) type Send<'s> = &'s mut dyn FnMut(Result<RecordBatch>) -> ControlFlow<()>;

impl Question {
    /// Whether nothing is left to run before.
    fn is_settled(&self) -> bool {
        let needs_scan = [&self.predicate].into_iter().chain(&self.conditions).any(Predicate::needs_scan);
        self.late.is_none() && !needs_scan
    }

    /// The same with nothing left to run before: other plans have run, and events were searched, once for all parts.
    pub(super) async fn settled(mut self, context: &Arc<TaskContext>) -> Result<Question> {
        if self.is_settled() {
            return Ok(self);
        }
        let found = match self.late.take() {
            Some(late) => Some(late.found(context).await?),
            None => None,
        };
        let searched = Arc::clone(&self.searched);
        let asked = self.clone();
        let search = || SpawnedTask::spawn_blocking(move || asked.search(found.as_deref())).join();
        let settled = searched.get(|| {
            let search = search();
            async move { search.await.map_err(|error| DataFusionError::External(Box::new(error)))? }.boxed()
        });
        (self.predicate, self.conditions) = <(Predicate, Vec<Predicate>)>::clone(&*settled.await?);
        Ok(self)
    }

    /// Who is asked about among those that were found, and the conditions; what both search for is searched for once.
    fn search(&self, found: Option<&Found>) -> Result<Settled> {
        let mut all = vec![self.predicate.clone()];
        if let Some(found) = found {
            let count = self.snapshot.shards().len();
            let given = |users: &Users| Predicate::Given(Arc::new(Given::new(None, count, users)));
            all.extend(found.within.iter().map(given));
            all.extend(found.without.iter().map(|users| given(users).negate()));
        }
        let mut settled = vec![Predicate::And(all).canonical()];
        settled.extend_from_slice(&self.conditions);
        let resolved = ops::resolve_all(&self.snapshot, &mut settled, &self.context);
        resolved.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let predicate = settled.remove(0);
        Ok(Arc::new((predicate, settled)))
    }

    /// Who they are, of all shards; it is settled.
    pub(super) fn slots(&self) -> std::result::Result<Vec<RoaringBitmap>, QueryError> {
        ops::slots(&self.snapshot, &self.predicate, &self.context)
    }

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
