//! `tag_values`: each value of each tag, how many users have it, and who.
//!
//! Filters are taken one after another on what those before have left: those on the tag alone before its values are read, those on
//! the value before anybody is counted, those on the count before a bitmap is made. A bitmap is made only where it is asked for, one at
//! a time; where counts are asked for, many values of a tag are counted in one pass.

use crate::functions::bitmap::types::{BITMAP, extension_field};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::filter_record_batch;
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
const USERS_AT: usize = 2;
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
fn filtered_schema() -> SchemaRef {
    Arc::new(Schema::new(schema().fields()[..BITMAP_AT].to_vec()))
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

/// Which column has a name.
fn place(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|known| *known == name)
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
        let keys = DFSchema::try_from(filtered_schema())?;
        let mut by_column: [Vec<Arc<dyn PhysicalExpr>>; BITMAP_AT] = Default::default();
        for filter in filters {
            let last = filter.column_refs().iter().filter_map(|column| place(&column.name)).max().unwrap_or(0);
            by_column[last.min(BITMAP_AT - 1)].push(state.create_physical_expr(filter.clone(), &keys)?);
        }
        let projection = projection.cloned().unwrap_or_else(|| (0..COLUMNS.len()).collect());
        let question = Question {
            snapshot: self.snapshot.clone(),
            context: self.context.clone(),
            filters: by_column,
            schema: Arc::new(schema().project(&projection)?),
            projection,
            limit,
        };
        Ok(Arc::new(TagValuesExec::new(question)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| {
            let is_taken = |name: &str| place(name).is_some_and(|at| at < BITMAP_AT);
            if filter.column_refs().iter().all(|column| is_taken(&column.name)) && !filter.is_volatile() {
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
    /// By the last of the columns they need.
    filters: [Vec<Arc<dyn PhysicalExpr>>; BITMAP_AT],
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
        let filters: Vec<String> = self.question.filters.iter().flatten().map(ToString::to_string).collect();
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
            self.check()?;
            if left == 0 {
                break;
            }
            if matches!(tag.tag_type, TagType::Number(_)) || self.left(0, name, &[""], &[0])?.is_empty() {
                continue;
            }
            let mut values = match tag.tag_type {
                TagType::Flag => vec!["false".to_owned(), "true".to_owned()],
                _ => {
                    ops::values(&self.snapshot, tag.id, usize::MAX, &self.context).map_err(failed)?.unwrap_or_default()
                }
            };
            let name: Arc<str> = name.into();
            if !self.snapshot.shows_everybody() {
                values = self.shown(tag.id, tag.tag_type, values)?;
            }
            if !self.filters[1].is_empty() {
                let unknown = vec![0; values.len()];
                let is_left = self.left(1, &name, &values, &unknown)?;
                values = is_left.into_iter().map(|at| std::mem::take(&mut values[at])).collect();
            }
            let mut counts = self.counted(tag.id, &values)?;
            if let (Some(known), false) = (&mut counts, self.filters[USERS_AT].is_empty()) {
                let is_left = self.left(USERS_AT, &name, &values, known)?;
                *known = is_left.iter().map(|at| known[*at]).collect();
                values = is_left.into_iter().map(|at| std::mem::take(&mut values[at])).collect();
            }
            for (at, value) in values.into_iter().enumerate() {
                self.check()?;
                if left == 0 {
                    break;
                }
                let count = counts.as_ref().map(|counts| counts[at]);
                // Whose last user is gone is no value any more.
                let row = self.row(&name, tag.id, tag.tag_type, value, count)?;
                let Some(row) = row.filter(|row| row.users > 0) else { continue };
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

    /// The places of the values of a tag that the filters on this column leave.
    fn left(&self, column: usize, tag: &str, values: &[impl AsRef<str>], users: &[u64]) -> Result<Vec<usize>> {
        let mut left = Vec::new();
        for (chunk, (values, users)) in values.chunks(BATCH_ROWS).zip(users.chunks(BATCH_ROWS)).enumerate() {
            self.check()?;
            let tags: ArrayRef = Arc::new(StringArray::from(vec![tag; values.len()]));
            let keys: ArrayRef = Arc::new(StringArray::from_iter_values(values));
            let users: ArrayRef = Arc::new(Int64Array::from_iter_values(users.iter().map(|users| users.cast_signed())));
            let mut batch = RecordBatch::try_new(filtered_schema(), vec![tags, keys, users])?;
            let mut places: Vec<usize> = (0..values.len()).map(|at| chunk * BATCH_ROWS + at).collect();
            for filter in &self.filters[column] {
                if places.is_empty() {
                    break;
                }
                let mask = filter.evaluate(&batch)?.into_array(places.len())?;
                let mask = mask.as_boolean();
                batch = filter_record_batch(&batch, mask)?;
                let is_left = |row: &usize| mask.is_valid(*row) && mask.value(*row);
                places = (0..places.len()).filter(is_left).map(|row| places[row]).collect();
            }
            left.extend(places);
        }
        Ok(left)
    }

    /// Those of the values that somebody has who is shown: a filter that fails tells of the value that it failed at.
    fn shown(&self, tag: TagId, tag_type: TagType, values: Vec<String>) -> Result<Vec<String>> {
        if tag_type == TagType::Flag {
            return Ok(values);
        }
        let counts = self.all_counted(tag)?;
        Ok(values.into_iter().filter(|value| counts.get(value).is_some_and(|count| *count > 0)).collect())
    }

    /// How many users each value of a tag has, where it is worth to count all of them at once.
    fn counted(&self, tag: TagId, values: &[String]) -> Result<Option<Vec<u64>>> {
        let is_asked = !self.projection.contains(&BITMAP_AT) || !self.filters[USERS_AT].is_empty();
        if !is_asked || values.len() <= COUNTED_ONE_BY_ONE {
            return Ok(None);
        }
        let counts = self.all_counted(tag)?;
        Ok(Some(values.iter().map(|value| counts.get(value).copied().unwrap_or(0)).collect()))
    }

    fn all_counted(&self, tag: TagId) -> Result<BTreeMap<String, u64>> {
        let profile = ops::profile(&self.snapshot, &Predicate::All, &[tag], &Predicate::Nobody, &self.context);
        let told = profile.map_err(failed)?.tags.pop();
        let Some((_, TagProfile::Values { values: cells, .. })) = told else {
            return internal_err!("the profile of a tag with values has none");
        };
        Ok(cells.into_iter().map(|cell| (cell.value, cell.count)).collect())
    }

    /// Who has a value; `None` if the filters leave it out. What is counted already has passed them.
    fn row(
        &self,
        name: &Arc<str>,
        tag: TagId,
        tag_type: TagType,
        value: String,
        counted: Option<u64>,
    ) -> Result<Option<Row>> {
        let predicate = match tag_type {
            TagType::Flag if value == "true" => Predicate::Flag(tag),
            TagType::Flag => Predicate::Flag(tag).negate(),
            _ => Predicate::HasAny(tag, vec![value.clone()]),
        };
        let has_bitmap = self.projection.contains(&BITMAP_AT);
        let counted = match counted {
            None if !has_bitmap || !self.filters[USERS_AT].is_empty() => {
                let users = ops::count(&self.snapshot, &predicate, &self.context).map_err(failed)?;
                if users == 0 || self.left(USERS_AT, name, &[&value], &[users])?.is_empty() {
                    return Ok(None);
                }
                Some(users)
            }
            known => known,
        };
        let tag = Arc::clone(name);
        match counted {
            Some(0) => Ok(None),
            Some(users) if !has_bitmap => Ok(Some(Row { tag, value, users, bitmap: None })),
            _ => {
                let slots = ops::slots(&self.snapshot, &predicate, &self.context).map_err(failed)?;
                let users = RoaringTreemap::from_bitmaps((0..).zip(slots));
                Ok(Some(Row { tag, value, users: users.len(), bitmap: Some(encode(&users)) }))
            }
        }
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
