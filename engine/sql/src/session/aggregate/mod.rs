//! Aggregates over users, without rows: DataFusion's aggregation of each part becomes what the engine tells of the part's members.
//!
//! The rule looks for the lowest aggregation, the one that reads users, and puts [`UsersExec`] in its place, with the same columns: a
//! row a group, of the states that the aggregation above joins, or of results if there is none above. So `HAVING`, `ORDER BY`,
//! `LIMIT` and whatever else stands above are DataFusion's. It is done for all aggregates of a statement or for none; what is not known
//! here, or would take longer this way, is left as it is: DataFusion's aggregation of rows is always right.
//!
//! * [`source`]: what is read. * [`measure`]: one aggregate. Here: groups, when it pays, and the rows.

mod measure;
pub(super) mod source;

use super::users::{Question, Send, UsersExec};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use engine::audience::ops::{self, ColumnOf, Figure, Group, Grouping, QueryError, TagValues, count_at_most};
use engine::audience::predicate::Predicate;
use engine::catalog::TagType;
use engine::ids::TagId;
use measure::{Measure, MeasureOf, text};
use source::{Part, Source};
use std::cell::Cell;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// The most groups that may be; of more, DataFusion's aggregation goes to disk when it has to.
const GROUPS_MAX: u64 = 1 << 16;
/// The most counts of values, over all groups.
const VALUES_MAX: u64 = 1 << 20;
/// Users of a chunk.
const CHUNK_USERS: u64 = 1 << 16;
/// To split a chunk's members by one more value takes about as long as to make rows of so many users and to group them.
const USERS_PER_SPLIT: u64 = 4;
/// So many splits of a chunk always pay.
const SPLITS_FREE: u64 = 1 << 10;
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateUsers;

impl PhysicalOptimizerRule for AggregateUsers {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let aggregate = |plan: Arc<dyn ExecutionPlan>| {
            let aggregated = plan.downcast_ref::<AggregateExec>().and_then(aggregated);
            Ok(match aggregated {
                Some(aggregated) => Transformed::yes(Arc::new(aggregated) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(plan),
            })
        };
        plan.transform_down(aggregate).data()
    }

    fn name(&self) -> &str {
        "AggregateUsers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What stands for the aggregation, if the engine can tell it.
fn aggregated(aggregate: &AggregateExec) -> Option<UsersExec> {
    let makes_results = match aggregate.mode() {
        AggregateMode::Partial => false,
        AggregateMode::Single | AggregateMode::SinglePartitioned => true,
        _ => return None,
    };
    let groups = aggregate.group_expr();
    if groups.has_grouping_set() || groups.expr().is_empty() && aggregate.aggr_expr().is_empty() {
        return None;
    }
    let source = Source::of(aggregate.input())?;
    let measures = aggregate.aggr_expr().iter().zip(aggregate.filter_expr());
    let measures: Vec<Measure> =
        measures.map(|(function, filter)| Measure::new(&source, function, filter.as_ref())).collect::<Option<_>>()?;
    let by = Keys::of(&source, groups.expr().iter().map(|(expr, _)| source.part(expr)))?;
    let schema = aggregate.schema();
    let is_count = |measure: &Measure| measure.of == MeasureOf::Count && measure.within.is_none();
    if by.tags.is_empty() && measures.iter().all(is_count) {
        // One column of one row a part, whether it is the state of the count or the count itself.
        return source.users.counted(schema);
    }
    let has_ranks = measures.iter().any(|measure| matches!(measure.of, MeasureOf::Rank { .. }));
    if has_ranks && !by.tags.is_empty() {
        return None;
    }
    let names = aggregate.aggr_expr().iter().map(|function| function.name().to_owned()).collect();
    let question = source.users.question();
    let aggregation = Aggregation::new(question, by, measures, makes_results, names, Arc::clone(&schema))?;
    aggregation.pays(question).then(|| source.users.aggregated(aggregation, schema))
}

/// The tags that users are told apart by.
#[derive(Clone, Debug)]
struct Keys {
    /// Those with fewest values first: so that few sets are split by many values.
    tags: Vec<TagValues>,
    /// Per column of the statement, the place among the tags.
    columns: Vec<usize>,
}

impl Keys {
    fn of(source: &Source<'_>, parts: impl Iterator<Item = Option<Part>>) -> Option<Keys> {
        let question = source.users.question();
        let mut asked = Vec::new();
        for part in parts {
            let (tag, is_unnested) = match part? {
                Part::Column(ColumnOf::Tag(tag)) => (tag, false),
                Part::Unnested(tag) => (tag, true),
                _ => return None,
            };
            let is_group = match source.tag_type(tag)? {
                TagType::Enum | TagType::Flag => true,
                TagType::Set => is_unnested,
                TagType::Number(_) => false,
            };
            if !is_group || asked.contains(&tag) {
                return None;
            }
            asked.push(tag);
        }
        if source.unnested().is_some_and(|tag| !asked.contains(&tag)) {
            // A user counts as often as it has values.
            return None;
        }
        let mut tags =
            asked.iter().map(|tag| values_of(question, *tag, GROUPS_MAX as usize)).collect::<Option<Vec<_>>>()?;
        tags.sort_by_key(TagValues::target_count);
        let place = |tag: &TagId| tags.iter().position(|values| values.tag() == *tag);
        let columns = asked.iter().map(place).collect::<Option<_>>()?;
        Some(Keys { tags, columns })
    }
}

/// Aggregates of users, group by group.
#[derive(Debug)]
pub(super) struct Aggregation {
    by: Keys,
    measures: Vec<Measure>,
    /// Per measure, the figure that is asked for it.
    figure_of: Vec<Option<usize>>,
    figures: Vec<Figure>,
    conditions: Vec<Predicate>,
    values: Vec<TagValues>,
    /// Otherwise states.
    makes_results: bool,
    names: Vec<String>,
    schema: SchemaRef,
}

impl Aggregation {
    fn new(
        question: &Question,
        by: Keys,
        measures: Vec<Measure>,
        makes_results: bool,
        names: Vec<String>,
        schema: SchemaRef,
    ) -> Option<Aggregation> {
        let (mut figures, mut conditions, mut distinct) = (Vec::new(), Vec::new(), Vec::new());
        let mut figure_of = Vec::new();
        for measure in &measures {
            let Some(of) = measure.figure(&mut distinct) else {
                figure_of.push(None);
                continue;
            };
            let within = measure.within.as_ref().map(|within| place_of(&mut conditions, within));
            figure_of.push(Some(place_of(&mut figures, &Figure { of, within })));
        }
        let values =
            distinct.iter().map(|tag| values_of(question, *tag, VALUES_MAX as usize)).collect::<Option<_>>()?;
        Some(Aggregation { by, measures, figure_of, figures, conditions, values, makes_results, names, schema })
    }

    /// Whether it takes less time than to make rows of the users, and no more memory than is reasonable.
    fn pays(&self, question: &Question) -> bool {
        let (mut groups, mut splits) = (1u64, 0u64);
        for tag in &self.by.tags {
            // And those without a value.
            groups = groups.saturating_mul(tag.target_count() as u64 + 1);
            splits = splits.saturating_add(groups);
        }
        let values: u64 = self.values.iter().map(|tag| tag.target_count() as u64).sum();
        let told = values.saturating_add(self.figures.len() as u64);
        if groups > GROUPS_MAX || groups > 1 && groups.saturating_mul(told) > VALUES_MAX || values > VALUES_MAX {
            return false;
        }
        let chunks = question.snapshot.shards().iter().map(|shard| u64::from(shard.slot_count()).div_ceil(CHUNK_USERS));
        let users = count_at_most(&question.snapshot, &question.predicate);
        let users_per_chunk = users / chunks.sum::<u64>().max(1);
        // Rows are made value by value as well, so that one tag is never slower by its values than by rows.
        self.by.tags.len() <= 1 || splits <= SPLITS_FREE.max(users_per_chunk / USERS_PER_SPLIT)
    }

    /// Sends the rows of a part.
    pub(super) fn run(
        &self,
        question: &Question,
        partition: usize,
        send: Send<'_>,
    ) -> std::result::Result<(), QueryError> {
        let asked =
            Grouping { by: &self.by.tags, figures: &self.figures, conditions: &self.conditions, values: &self.values };
        let shards = question.shards(partition);
        let groups = ops::groups(&question.snapshot, &question.predicate, &asked, shards, &question.context)?;
        let mut ranks = Vec::new();
        for measure in &self.measures {
            // They are told of all users at once, by one of the parts.
            let rank = match (&measure.of, partition) {
                (MeasureOf::Rank { .. }, 0) => at_rank(question, measure)?,
                _ => Ok(Vec::new()),
            };
            match rank {
                Ok(numbers) => ranks.push(numbers),
                Err(error) => {
                    let _ = send(Err(error));
                    return Ok(());
                }
            }
        }
        for groups in groups.chunks(BATCH_ROWS) {
            if send(self.batch(groups, &ranks)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn batch(&self, groups: &[Group], ranks: &[Vec<ScalarValue>]) -> Result<RecordBatch> {
        let mut columns: Vec<Vec<ScalarValue>> = Vec::with_capacity(self.schema.fields().len());
        for place in &self.by.columns {
            let tag = &self.by.tags[*place];
            let values: Vec<&[u8]> = tag.values().collect();
            let is_flag = tag.tag_type() == TagType::Flag;
            let value = |(key, _): &Group| match key[*place] {
                value if is_flag => ScalarValue::Boolean(Some(value.is_some())),
                Some(value) => text(values[value as usize]),
                None => ScalarValue::Utf8(None),
            };
            columns.push(groups.iter().map(value).collect());
        }
        for (at, measure) in self.measures.iter().enumerate() {
            let from = columns.len();
            for (_, told) in groups {
                let state = match self.figure_of[at] {
                    Some(figure) => measure.state(&told[figure], &self.values)?,
                    None => measure.state_at_rank(&ranks[at])?,
                };
                let made = if self.makes_results { vec![measure.result(state)?] } else { state };
                columns.resize_with(columns.len().max(from + made.len()), || Vec::with_capacity(groups.len()));
                columns[from..].iter_mut().zip(made).for_each(|(column, value)| column.push(value));
            }
        }
        if columns.len() != self.schema.fields().len() {
            return internal_err!("{} columns were made of {}", columns.len(), self.schema);
        }
        let arrays =
            columns.into_iter().zip(self.schema.fields()).map(|(values, field)| array(values, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(DataFusionError::from)
    }
}

/// What stands at a measure's rank among all users; the inner error is DataFusion's.
fn at_rank(question: &Question, measure: &Measure) -> std::result::Result<Result<Vec<ScalarValue>>, QueryError> {
    let MeasureOf::Rank { of, rank } = &measure.of else { return Ok(Ok(Vec::new())) };
    let within = measure.within.iter().chain([&question.predicate]).cloned().collect();
    let within = Predicate::And(within).canonical();
    let total = Cell::new(0);
    let ranks = |count| {
        total.set(count);
        rank.of(count)
    };
    let numbers = ops::ranked(&question.snapshot, &within, of.tag, ranks, &question.context)?;
    Ok(rank.numbers(of, total.get(), &numbers))
}

fn array(values: Vec<ScalarValue>, data_type: &DataType) -> Result<ArrayRef> {
    if values.is_empty() { Ok(arrow::array::new_empty_array(data_type)) } else { ScalarValue::iter_to_array(values) }
}

/// The values of a tag; `None` if there are more, or the statement was cancelled.
fn values_of(question: &Question, tag: TagId, max: usize) -> Option<TagValues> {
    TagValues::at_most(&question.snapshot, tag, max, &question.context).ok()?
}

/// The place of something in a list, where it is put if it is not there yet.
fn place_of<T: Clone + PartialEq>(list: &mut Vec<T>, wanted: &T) -> usize {
    list.iter().position(|known| known == wanted).unwrap_or_else(|| {
        list.push(wanted.clone());
        list.len() - 1
    })
}

impl Display for Aggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = &self.schema.fields()[..self.by.columns.len()];
        let groups: Vec<&str> = columns.iter().map(|field| field.name().as_str()).collect();
        if !groups.is_empty() {
            write!(f, "groups=[{}], ", groups.join(", "))?;
        }
        write!(f, "aggregates=[{}]", self.names.join(", "))
    }
}
