//! Hands each row of a fact out to the audiences that have its user.
//!
//! The input's last columns say where the user is. A batch's users are put in order once and made bitmaps, a shard each; those are
//! intersected with each audience, so that what an audience costs is its users among those of the batch. Rows are handed out audience
//! by audience, in batches of bounded size however many audiences there are.

use super::by_audience::{Audiences, Sets};
use super::facts::PLACES;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringBuilder, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A batch of the answer is handed on with so many rows, or a few more.
const ROWS_AT_ONCE: usize = 8_192;

/// See the module.
#[derive(Debug)]
pub(super) struct AudiencesExec {
    input: Arc<dyn ExecutionPlan>,
    /// Per column, the input's; `None`: the name of the audience.
    shown: Vec<Option<usize>>,
    schema: SchemaRef,
    audiences: Arc<Audiences>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AudiencesExec {
    /// The rows of an input whose last columns say where the user is.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        shown: Vec<Option<usize>>,
        schema: SchemaRef,
        audiences: Arc<Audiences>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let own = input.schema().fields().len().checked_sub(PLACES.len());
        if own.is_none_or(|own| shown.iter().flatten().any(|at| *at >= own)) {
            return internal_err!("rows do not say where their user is: {}", input.schema());
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.properties().output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Arc::new(AudiencesExec { input, shown, schema, audiences, properties, metrics }))
    }

    fn with_children(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else { return internal_err!("rows by audience have one input") };
        AudiencesExec::try_new(input, self.shown.clone(), Arc::clone(&self.schema), Arc::clone(&self.audiences))
    }
}

impl DisplayAs for AudiencesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "AudiencesExec: columns=[{}], audiences=[{}]", names.join(", "), self.audiences.describe())
    }
}

impl ExecutionPlan for AudiencesExec {
    fn name(&self) -> &'static str {
        "AudiencesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        let input = self.input.execute(partition, Arc::clone(&task))?;
        let (audiences, shown, schema) = (Arc::clone(&self.audiences), self.shown.clone(), Arc::clone(&self.schema));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = async move {
            let sets = audiences.found(&task).await?;
            let answer = Arc::new(HowToAnswer { audiences, sets, shown, schema });
            let handed_out = move |batch: RecordBatch| {
                Ok::<_, DataFusionError>(stream::iter(HandedOut::new(batch, Arc::clone(&answer))?))
            };
            Ok::<_, DataFusionError>(input.map(move |batch| handed_out(batch?)).try_flatten())
        };
        let rows = stream::once(rows).try_flatten().inspect_ok(move |batch: &RecordBatch| {
            metrics.record_output(batch.num_rows());
        });
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What all batches are answered with.
struct HowToAnswer {
    audiences: Arc<Audiences>,
    sets: Arc<Sets>,
    shown: Vec<Option<usize>>,
    schema: SchemaRef,
}

/// The rows of a batch, audience by audience.
struct HandedOut {
    batch: RecordBatch,
    of_shards: Vec<OfShard>,
    next_audience: usize,
    answer: Arc<HowToAnswer>,
}

/// The users of a batch in one shard.
struct OfShard {
    shard: usize,
    users: RoaringBitmap,
    /// Slot and row, in order.
    rows: Vec<(u32, u32)>,
}

impl HandedOut {
    fn new(batch: RecordBatch, answer: Arc<HowToAnswer>) -> Result<HandedOut> {
        let of_shards = of_shards(&batch)?;
        Ok(HandedOut { batch, of_shards, next_audience: 0, answer })
    }

    fn rows(&self, audience: usize, into: &mut Vec<u32>) {
        let sets = &self.answer.sets.each[audience];
        for OfShard { shard, users, rows } in &self.of_shards {
            let Some(members) = sets.get(*shard) else { continue };
            let mut rest = rows.as_slice();
            for slot in users & members {
                rest = &rest[rest.partition_point(|(known, _)| *known < slot)..];
                let count = rest.iter().take_while(|(known, _)| *known == slot).count();
                let (own, others) = rest.split_at(count);
                into.extend(own.iter().map(|(_, row)| row));
                rest = others;
            }
        }
    }

    fn answered(&self, rows: Vec<u32>, audiences: &ArrayRef) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let rows = UInt32Array::from(rows);
        let column = |shown: &Option<usize>| match shown {
            Some(at) => take(self.batch.column(*at), &rows, None),
            None => Ok(Arc::clone(audiences)),
        };
        let columns = self.answer.shown.iter().map(column).collect::<std::result::Result<_, _>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.answer.schema), columns, &options)?)
    }
}

impl Iterator for HandedOut {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut rows, mut audiences) = (Vec::new(), StringBuilder::new());
        let is_named = self.answer.shown.contains(&None);
        while rows.len() < ROWS_AT_ONCE
            && let Some(name) = self.answer.audiences.names().get(self.next_audience)
        {
            let before = rows.len();
            self.rows(self.next_audience, &mut rows);
            if is_named {
                (before..rows.len()).for_each(|_| audiences.append_value(name));
            }
            self.next_audience += 1;
        }
        if rows.is_empty() {
            return None;
        }
        let audiences: ArrayRef = Arc::new(audiences.finish());
        Some(self.answered(rows, &audiences))
    }
}

/// The users of a batch, shard by shard; rows whose user nobody knows are left out.
fn of_shards(batch: &RecordBatch) -> Result<Vec<OfShard>> {
    let [.., shards, slots] = batch.columns() else { return internal_err!("rows do not say where their user is") };
    let places = (shards.as_primitive_opt::<Int32Type>(), slots.as_primitive_opt::<Int64Type>());
    let (Some(shards), Some(slots)) = places else { return internal_err!("a shard and a slot are integers") };
    let place = |row: usize| {
        let is_told = shards.is_valid(row) && slots.is_valid(row);
        let place = (usize::try_from(shards.value(row)).ok()?, u32::try_from(slots.value(row)).ok()?);
        is_told.then_some((place.0, place.1, u32::try_from(row).ok()?))
    };
    let mut places: Vec<(usize, u32, u32)> = (0..batch.num_rows()).filter_map(place).collect();
    places.sort_unstable();
    let of_shard = |places: &[(usize, u32, u32)]| OfShard {
        shard: places[0].0,
        users: places.iter().map(|(_, slot, _)| *slot).collect(),
        rows: places.iter().map(|(_, slot, row)| (*slot, *row)).collect(),
    };
    Ok(places.chunk_by(|a, b| a.0 == b.0).map(of_shard).collect())
}
