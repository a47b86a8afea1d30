//! Rows of a fact, of some users only.
//!
//! Who they are is known when the plan runs: then the files are chosen, by the statistics of shards and slots too, and of the rows
//! that are read the user is looked up in bitmaps before other columns are decoded.

use super::by_audience::Audiences;
use super::calls::Calls;
use super::facts::{FactTable, chosen};
use super::late::{Found, Late, Once, Users};
use crate::scan::{membership, places};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use engine::audience::ops::{self, QueryContext, QueryError};
use engine::audience::plan::describe;
use engine::audience::predicate::Predicate;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use std::sync::{Arc, Mutex, PoisonError};

/// Begins of names of what reading files tells; rows are counted here.
const TOLD: [&str; 6] =
    ["bytes_scanned", "files_", "row_groups_", "page_index_", "pushdown_rows_", "predicate_evaluation"];

/// What is asked of a fact.
#[derive(Clone, Debug)]
pub(super) struct FactQuestion {
    /// Places among all columns.
    pub(super) columns: Vec<usize>,
    /// What rows cannot be ruled out by; it is asked again above.
    pub(super) filters: Vec<Expr>,
    /// Users whose rows are asked for, and (`false`) those whose rows are not.
    pub(super) users: Vec<(Predicate, bool)>,
    /// More of both.
    pub(super) late: Option<Arc<Late>>,
    /// Those in any of these, besides.
    pub(super) audiences: Option<Arc<Audiences>>,
}

/// Users who were found: slots per shard.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// `None`: all.
    within: Option<Users>,
    /// But none of these.
    without: Option<Users>,
    /// With the memory they take.
    _found: Option<Arc<Found>>,
}

impl Chosen {
    fn add(&mut self, users: Users, is_within: bool) {
        let joined = |known: &Users| {
            let none = RoaringBitmap::new();
            let of = |shard: usize| (known.get(shard).unwrap_or(&none), users.get(shard).unwrap_or(&none));
            let join = |(known, users)| if is_within { known & users } else { known | users };
            Arc::new((0..known.len().max(users.len())).map(|shard| join(of(shard))).collect::<Vec<_>>())
        };
        let side = if is_within { &mut self.within } else { &mut self.without };
        let users = match side {
            Some(known) => joined(known),
            None => users,
        };
        *side = Some(users);
    }

    /// Whether a user is among them.
    pub(super) fn has(&self, shard: usize, slot: u32) -> bool {
        let is_in = |users: &Users| users.get(shard).is_some_and(|users| users.contains(slot));
        self.within.as_ref().is_none_or(is_in) && !self.without.as_ref().is_some_and(is_in)
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.within.as_ref().is_some_and(|users| users.iter().all(RoaringBitmap::is_empty))
    }

    /// What must hold of their rows: what files can be chosen by, and what is exact.
    pub(super) fn conditions(&self) -> (Option<Expr>, Vec<Expr>) {
        let within = self.within.as_ref().map(membership);
        let without = self.without.as_ref().map(|users| !membership(users));
        (self.within.as_ref().map(|users| places(users)), within.into_iter().chain(without).collect())
    }

    fn count(&self) -> Option<u64> {
        self.within.as_ref().map(|users| users.iter().map(RoaringBitmap::len).sum())
    }
}

/// Reads them.
#[derive(Debug)]
pub(super) struct FactExec {
    table: FactTable,
    asked: FactQuestion,
    context: QueryContext,
    state: SessionState,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// The plans that read, once it is known whose rows.
    reading: Arc<Once<Reading>>,
    /// The same, to tell what they did.
    told: Arc<Mutex<Option<Reading>>>,
}

type Reading = Arc<Vec<Arc<dyn ExecutionPlan>>>;

impl FactExec {
    pub(super) fn try_new(
        table: FactTable,
        asked: FactQuestion,
        calls: &Calls,
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return internal_err!("a fact is read in a session of another kind");
        };
        let made = FactExec::new(table, asked, calls.context().clone(), state.clone());
        Ok(Arc::new(made))
    }

    fn new(table: FactTable, asked: FactQuestion, context: QueryContext, state: SessionState) -> FactExec {
        let schema = chosen(&table.all, &asked.columns);
        let partitions = state.config().target_partitions().max(1);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        FactExec {
            table,
            asked,
            context,
            state,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            reading: Arc::default(),
            told: Arc::default(),
        }
    }

    fn with_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let late = match &self.asked.late {
            Some(late) => Some(late.with_children(children)?),
            None if children.is_empty() => None,
            None => return internal_err!("these rows have no inputs"),
        };
        let asked = FactQuestion { late, ..self.asked.clone() };
        Ok(Arc::new(FactExec::new(self.table.clone(), asked, self.context.clone(), self.state.clone())))
    }
}

/// Finds the users and plans the reading of their rows.
async fn begin(
    table: FactTable,
    asked: FactQuestion,
    context: QueryContext,
    state: SessionState,
    task: Arc<TaskContext>,
    users_counter: Count,
) -> Result<Reading> {
    let mut users = Chosen::default();
    if let Some(late) = &asked.late {
        let found = late.found(&task).await?;
        found.within.iter().for_each(|some| users.add(Arc::clone(some), true));
        found.without.iter().for_each(|some| users.add(Arc::clone(some), false));
        users._found = Some(found);
    }
    if let Some(audiences) = &asked.audiences {
        users.add(Arc::clone(&audiences.found(&task).await?.any), true);
    }
    for (predicate, is_within) in asked.users {
        let snapshot = table.snapshot.clone();
        let context = context.clone();
        let slots = move || ops::slots(&snapshot, &predicate.canonical(), &context);
        let slots = SpawnedTask::spawn_blocking(slots).join().await;
        let slots = slots.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let slots = slots.map_err(|error: QueryError| DataFusionError::External(Box::new(error)))?;
        users.add(Arc::new(slots), is_within);
    }
    users_counter.add(usize::try_from(users.count().unwrap_or_default()).unwrap_or(usize::MAX));
    let stored = table.stored_of(&state, &asked.columns, &asked.filters, &users).await?;
    let recent = table.recent_of(&asked.columns, Arc::new(users))?;
    Ok(Arc::new(stored.into_iter().chain([recent]).collect()))
}

impl DisplayAs for FactExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "FactExec: {}, columns=[{}]", self.table.name, names.join(", "))?;
        let catalog = self.table.snapshot.catalog();
        let of = |(users, is_within): &(Predicate, bool)| {
            let not = if *is_within { "" } else { "NOT " };
            format!("{not}{}", describe(users, catalog))
        };
        if !self.asked.users.is_empty() {
            write!(f, ", of users where={}", self.asked.users.iter().map(of).collect::<Vec<_>>().join(" AND "))?;
        }
        if let Some(late) = &self.asked.late {
            write!(f, ", users {}", late.describe())?;
        }
        if let Some(audiences) = &self.asked.audiences {
            write!(f, ", of users in any of {} audiences", audiences.names().len())?;
        }
        if !self.asked.filters.is_empty() {
            let filters: Vec<String> = self.asked.filters.iter().map(ToString::to_string).collect();
            write!(f, ", filters=[{}]", filters.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for FactExec {
    fn name(&self) -> &'static str {
        "FactExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.asked.late.iter().flat_map(|late| late.children()).collect()
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

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.properties.output_partitioning().partition_count();
        let users = MetricBuilder::new(&self.metrics).global_counter("users");
        let start = {
            let (table, asked, context) = (self.table.clone(), self.asked.clone(), self.context.clone());
            let (state, task) = (self.state.clone(), Arc::clone(&task));
            let told = Arc::clone(&self.told);
            move || {
                async move {
                    let reading = begin(table, asked, context, state, task, users).await?;
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&reading));
                    Ok(reading)
                }
                .boxed()
            }
        };
        let reading = Arc::clone(&self.reading);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let schema = Arc::clone(&self.schema);
        let shown = Arc::clone(&schema);
        let rows = async move {
            let mut streams = Vec::new();
            let mut number = 0;
            for plan in reading.get(start).await?.iter() {
                for part in 0..plan.properties().output_partitioning().partition_count() {
                    if number % partitions == partition {
                        streams.push((Arc::clone(plan), part));
                    }
                    number += 1;
                }
            }
            let of_part = move |(plan, part): (Arc<dyn ExecutionPlan>, usize)| plan.execute(part, Arc::clone(&task));
            Ok::<_, DataFusionError>(stream::iter(streams).map(of_part).try_flatten())
        };
        let rows = stream::once(rows).try_flatten().map(move |batch| {
            let batch = relabelled(&batch?, &shown)?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// With what reading the files told.
    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        let reading = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for plan in reading.iter().flat_map(|plans| plans.iter()) {
            // Never fails: nothing below does.
            let _ = plan.apply(|node| {
                let told = node.metrics().into_iter().flat_map(|told| told.iter().cloned().collect::<Vec<_>>());
                told.filter(|metric| TOLD.iter().any(|begin| metric.value().name().starts_with(begin)))
                    .for_each(|metric| metrics.push(metric));
                Ok(TreeNodeRecursion::Continue)
            });
        }
        Some(metrics)
    }
}

/// The same columns under the schema that was promised, which may say less of NULLs.
fn relabelled(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|error| internal_datafusion_err!("the rows of a fact have other columns: {error}"))
}
