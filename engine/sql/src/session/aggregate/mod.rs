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
use engine::audience::ops::{
    self, ColumnOf, Figure, Group, Grouping, QueryError, RankOf, RankedGroups, Ranking, TagValues, Told, count_at_most,
};
use engine::audience::predicate::Predicate;
use engine::catalog::TagType;
use engine::ids::TagId;
use measure::{Measure, MeasureOf, text};
use source::{Part, Source};
use std::collections::BTreeSet;
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
/// Passes over the users that a search for numbers at ranks is reckoned with.
const RANK_PASSES: u64 = 8;
/// Of more ranks, searching all of them in each pass is more than making rows.
const RANKS_MAX: u64 = 64;
/// What such a search holds of a group and rank, in counts.
const RANK_COUNTS: u64 = 16;
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
    /// Per measure, what is asked for it.
    asked_for: Vec<AskedFor>,
    figures: Vec<Figure>,
    numbers: Vec<RankOf>,
    conditions: Vec<Predicate>,
    values: Vec<TagValues>,
    /// Otherwise states.
    makes_results: bool,
    names: Vec<String>,
    schema: SchemaRef,
}

/// What is asked for a measure, by its place.
#[derive(Clone, Copy, Debug)]
enum AskedFor {
    Figure(usize),
    /// Numbers in order.
    Ranks(usize),
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
        let (mut numbers, mut asked_for) = (Vec::new(), Vec::new());
        for measure in &measures {
            let within = measure.within.as_ref().map(|within| place_of(&mut conditions, within));
            asked_for.push(match (&measure.of, measure.figure(&mut distinct)) {
                (_, Some(of)) => AskedFor::Figure(place_of(&mut figures, &Figure { of, within })),
                (MeasureOf::Rank { of, .. }, None) => {
                    AskedFor::Ranks(place_of(&mut numbers, &RankOf { of: of.tag, within }))
                }
                (_, None) => return None,
            });
        }
        let values =
            distinct.iter().map(|tag| values_of(question, *tag, VALUES_MAX as usize)).collect::<Option<_>>()?;
        Some(Aggregation {
            by,
            measures,
            asked_for,
            figures,
            numbers,
            conditions,
            values,
            makes_results,
            names,
            schema,
        })
    }

    /// What figures are restricted by, which whoever runs it settles for all parts: [`Question::conditions`].
    pub(super) fn conditions(&self) -> &[Predicate] {
        &self.conditions
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
        let asked = self.asked_for.iter().filter(|asked| matches!(asked, AskedFor::Ranks(_))).count() as u64;
        if asked > RANKS_MAX {
            return false;
        }
        let ranks = asked.saturating_mul(RANK_COUNTS);
        let told = values.saturating_add(self.figures.len() as u64).saturating_add(ranks);
        if groups > GROUPS_MAX || groups > 1 && groups.saturating_mul(told) > VALUES_MAX || values > VALUES_MAX {
            return false;
        }
        let chunks = question.snapshot.shards().iter().map(|shard| u64::from(shard.slot_count()).div_ceil(CHUNK_USERS));
        let users = count_at_most(&question.snapshot, &question.predicate);
        let users_per_chunk = users / chunks.sum::<u64>().max(1);
        // Rows are made value by value as well, so that one tag is never slower by its values than by rows.
        let passes = if self.numbers.is_empty() { 1 } else { RANK_PASSES };
        self.by.tags.len() <= 1 && passes == 1
            || splits.saturating_mul(passes) <= SPLITS_FREE.max(users_per_chunk / USERS_PER_SPLIT)
    }

    /// Sends the rows of a part.
    pub(super) fn run(
        &self,
        question: &Question,
        partition: usize,
        send: Send<'_>,
    ) -> std::result::Result<(), QueryError> {
        let asked = Grouping {
            by: &self.by.tags,
            figures: &self.figures,
            conditions: &question.conditions,
            values: &self.values,
        };
        let shards = question.shards(partition);
        let mut groups = ops::groups(&question.snapshot, &question.predicate, &asked, shards, &question.context)?;
        // Numbers at ranks are told of all users at once, by one of the parts: also of groups that it has nobody of.
        let ranks = if partition == 0 { self.ranked(question)? } else { RankedGroups::new() };
        let missing: Vec<&Vec<Option<u32>>> =
            ranks.keys().filter(|key| groups.binary_search_by(|(known, _)| known.cmp(key)).is_err()).collect();
        let nothing = || self.figures.iter().map(|figure| Told::zero(figure, &self.values)).collect();
        groups.extend(missing.into_iter().map(|key| (key.clone(), nothing())));
        for groups in groups.chunks(BATCH_ROWS) {
            if send(self.batch(groups, &ranks)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// What stands at the measures' ranks in each group of all users.
    fn ranked(&self, question: &Question) -> std::result::Result<RankedGroups, QueryError> {
        if self.numbers.is_empty() {
            return Ok(RankedGroups::new());
        }
        let ranks = |at: usize, count: u64| -> BTreeSet<u64> {
            let measures = self.measures.iter().zip(&self.asked_for);
            let of = |(measure, asked): (&Measure, &AskedFor)| match (&measure.of, asked) {
                (MeasureOf::Rank { rank, .. }, AskedFor::Ranks(place)) if *place == at => Some(rank.of(count)),
                _ => None,
            };
            measures.filter_map(of).flatten().collect()
        };
        let asked = Ranking { by: &self.by.tags, numbers: &self.numbers, conditions: &question.conditions };
        ops::ranked_groups(&question.snapshot, &question.predicate, &asked, ranks, &question.context)
    }

    fn batch(&self, groups: &[Group], ranks: &RankedGroups) -> Result<RecordBatch> {
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
            for (key, told) in groups {
                let state = match self.asked_for[at] {
                    AskedFor::Figure(figure) => measure.state(&told[figure], &self.values)?,
                    AskedFor::Ranks(place) => measure.state_at_rank(ranks.get(key).map(|told| &told[place]))?,
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
