//! `tag_values`: each value of each tag, how many users have it, and who.
//!
//! Filters on the tag and the value decide which are looked at at all. A bitmap is made only where it is asked for, one at a time; where
//! only counts are asked for, many values of a tag are counted in one pass.

use crate::functions::bitmap::types::{BITMAP, extension_field};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use engine::audience::ops::{self, QueryContext, QueryError, TagProfile};
use engine::audience::predicate::Predicate;
use engine::bitmap::wide::encode;
use engine::catalog::TagType;
use engine::ids::TagId;
use engine::store::Snapshot;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const COLUMNS: [&str; 4] = ["tag", "value", "users", "bitmap"];
const BITMAP_AT: usize = 3;
/// A batch is sent when it has so many rows, or so many bytes of bitmaps.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;
/// Batches that wait to be taken.
const BATCHES_WAITING: usize = 1;
/// Up to here, values are counted one by one; more of them all at once, with those that are not asked for.
const COUNTED_ONE_BY_ONE: usize = 16;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(COLUMNS[0], DataType::Utf8, false),
        Field::new(COLUMNS[1], DataType::Utf8, false),
        Field::new(COLUMNS[2], DataType::Int64, false),
        extension_field(COLUMNS[BITMAP_AT], BITMAP, false),
    ]))
}

/// The columns that filters are taken on.
fn key_schema() -> Schema {
    Schema::new(COLUMNS[..2].iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect::<Vec<_>>())
}

/// The table.
#[derive(Debug)]
pub(super) struct TagValuesTable {
    snapshot: Snapshot,
    context: QueryContext,
}

impl TagValuesTable {
    /// The values of a snapshot; `context` ends the statement that asks.
    pub(super) fn new(snapshot: Snapshot, context: QueryContext) -> TagValuesTable {
        TagValuesTable { snapshot, context }
    }
}

#[async_trait]
impl TableProvider for TagValuesTable {
    fn schema(&self) -> SchemaRef {
        schema()
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
        let keys = DFSchema::try_from(key_schema())?;
        let filters = filters.iter().map(|filter| state.create_physical_expr(filter.clone(), &keys));
        let projection = projection.cloned().unwrap_or_else(|| (0..COLUMNS.len()).collect());
        let question = Question {
            snapshot: self.snapshot.clone(),
            context: self.context.clone(),
            filters: filters.collect::<Result<_>>()?,
            schema: Arc::new(schema().project(&projection)?),
            projection,
            limit,
        };
        Ok(Arc::new(TagValuesExec::new(question)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| {
            let is_of_keys = filter.column_refs().iter().all(|column| COLUMNS[..2].contains(&column.name.as_str()));
            if is_of_keys && !filter.is_volatile() {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(of).collect())
    }
}

/// What is asked.
#[derive(Clone, Debug)]
struct Question {
    snapshot: Snapshot,
    context: QueryContext,
    /// Over the tag and the value.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    projection: Vec<usize>,
    /// Of the answer.
    schema: SchemaRef,
    limit: Option<usize>,
}

/// Looks at value after value.
#[derive(Debug)]
struct TagValuesExec {
    question: Question,
    properties: Arc<PlanProperties>,
}

impl TagValuesExec {
    fn new(question: Question) -> TagValuesExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&question.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        TagValuesExec { question, properties: Arc::new(properties) }
    }
}

impl DisplayAs for TagValuesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.question.projection.iter().map(|at| COLUMNS[*at]).collect();
        let filters: Vec<String> = self.question.filters.iter().map(ToString::to_string).collect();
        write!(f, "TagValuesExec: columns=[{}], where=[{}]", names.join(", "), filters.join(", "))?;
        if let Some(limit) = self.question.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for TagValuesExec {
    fn name(&self) -> &'static str {
        "TagValuesExec"
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
        if children.is_empty() { Ok(self) } else { internal_err!("values of tags have no inputs") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("values of tags have no inputs") }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.question.schema), BATCHES_WAITING);
        let sender = builder.tx();
        let question = self.question.clone();
        builder.spawn_blocking(move || {
            // Whoever does not listen any more has enough.
            question.answer(&mut |batch| sender.blocking_send(Ok(batch)).is_ok())
        });
        Ok(make_cooperative(builder.build()))
    }
}

/// A value that the filters leave.
struct Row {
    tag: Arc<str>,
    value: String,
    users: u64,
    bitmap: Option<Vec<u8>>,
}

/// Takes a batch; false if no more are wanted.
type Send<'s> = &'s mut dyn FnMut(RecordBatch) -> bool;

fn failed(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl Question {
    fn answer(&self, send: Send<'_>) -> Result<()> {
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        let mut left = self.limit.unwrap_or(usize::MAX);
        for (name, tag) in self.snapshot.catalog().tags() {
            if matches!(tag.tag_type, TagType::Number(_)) {
                continue;
            }
            let values = match tag.tag_type {
                TagType::Flag => vec!["false".to_owned(), "true".to_owned()],
                _ => {
                    ops::values(&self.snapshot, tag.id, usize::MAX, &self.context).map_err(failed)?.unwrap_or_default()
                }
            };
            let name: Arc<str> = name.into();
            let values = self.filtered(&name, values)?;
            let counted = self.counted(tag.id, &values)?;
            for value in values {
                self.check()?;
                if left == 0 {
                    break;
                }
                let row = match &counted {
                    Some(counts) => {
                        let users = counts.get(&value).copied().unwrap_or(0);
                        Row { tag: Arc::clone(&name), value, users, bitmap: None }
                    }
                    None => self.row(&name, tag.id, tag.tag_type, value)?,
                };
                // Whose last user is gone is no value any more.
                if row.users == 0 {
                    continue;
                }
                left -= 1;
                bytes += row.bitmap.as_ref().map_or(0, Vec::len);
                rows.push(row);
                if rows.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                    bytes = 0;
                    if !send(self.batch(std::mem::take(&mut rows))?) {
                        return Ok(());
                    }
                }
            }
        }
        if !rows.is_empty() {
            send(self.batch(rows)?);
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.context.cancelled.load(Ordering::Relaxed) { Err(failed(QueryError::Cancelled)) } else { Ok(()) }
    }

    /// The values of a tag that the filters leave.
    fn filtered(&self, tag: &str, values: Vec<String>) -> Result<Vec<String>> {
        if self.filters.is_empty() || values.is_empty() {
            return Ok(values);
        }
        let mut left = Vec::new();
        for values in values.chunks(BATCH_ROWS) {
            self.check()?;
            let tags: ArrayRef = Arc::new(StringArray::from(vec![tag; values.len()]));
            let keys: ArrayRef = Arc::new(StringArray::from_iter_values(values));
            let batch = RecordBatch::try_new(Arc::new(key_schema()), vec![tags, keys])?;
            let mut is_left = vec![true; values.len()];
            for filter in &self.filters {
                let mask = filter.evaluate(&batch)?.into_array(values.len())?;
                let mask = mask.as_boolean();
                is_left.iter_mut().enumerate().for_each(|(row, left)| *left &= mask.is_valid(row) && mask.value(row));
            }
            left.extend(values.iter().zip(is_left).filter(|(_, is_left)| *is_left).map(|(value, _)| value.clone()));
        }
        Ok(left)
    }

    /// How many users each value of a tag has, where it is worth to count all of them at once.
    fn counted(&self, tag: TagId, values: &[String]) -> Result<Option<BTreeMap<String, u64>>> {
        if self.projection.contains(&BITMAP_AT) || values.len() <= COUNTED_ONE_BY_ONE {
            return Ok(None);
        }
        let profile = ops::profile(&self.snapshot, &Predicate::All, &[tag], &Predicate::Nobody, &self.context);
        let told = profile.map_err(failed)?.tags.pop();
        let Some((_, TagProfile::Values { values, .. })) = told else {
            return internal_err!("the profile of a tag with values has none");
        };
        Ok(Some(values.into_iter().map(|cell| (cell.value, cell.count)).collect()))
    }

    /// Who has a value.
    fn row(&self, name: &Arc<str>, tag: TagId, tag_type: TagType, value: String) -> Result<Row> {
        let predicate = match tag_type {
            TagType::Flag if value == "true" => Predicate::Flag(tag),
            TagType::Flag => Predicate::Flag(tag).negate(),
            _ => Predicate::HasAny(tag, vec![value.clone()]),
        };
        let tag = Arc::clone(name);
        if !self.projection.contains(&BITMAP_AT) {
            let users = ops::count(&self.snapshot, &predicate, &self.context).map_err(failed)?;
            return Ok(Row { tag, value, users, bitmap: None });
        }
        let slots = ops::slots(&self.snapshot, &predicate, &self.context).map_err(failed)?;
        let users = RoaringTreemap::from_bitmaps((0..).zip(slots));
        Ok(Row { tag, value, users: users.len(), bitmap: Some(encode(&users)) })
    }

    fn batch(&self, rows: Vec<Row>) -> Result<RecordBatch> {
        let columns = self.projection.iter().map(|at| -> ArrayRef {
            match at {
                0 => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.tag))),
                1 => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.value))),
                2 => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.users.cast_signed()))),
                _ => {
                    let mut bitmaps = BinaryBuilder::new();
                    rows.iter().for_each(|row| bitmaps.append_option(row.bitmap.as_ref()));
                    Arc::new(bitmaps.finish())
                }
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)?)
    }
}
