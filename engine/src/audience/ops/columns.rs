//! The tags of an audience as columns: what a table of users shows.
//!
//! Members come chunk by chunk, in order of shard and slot, and only the tags asked for are read: a number straight from its bit
//! slices, the values of an `enum` or `set` by spreading each value's members over the rows, so that layers mean here what they
//! mean everywhere. What is held at a time is one chunk.

use super::resolve::resolve;
use super::{QueryContext, QueryError};
use crate::audience::plan::{Plan, exclusive, number_layers, value_layers};
use crate::audience::predicate::Predicate;
use crate::bitmap::ChunkSet;
use crate::bitmap::bsi::NumberReader;
use crate::bitmap::evaluate::Evaluator;
use crate::bitmap::evaluate::scatter::Scatter;
use crate::catalog::TagType;
use crate::ids::{Slot, TagId};
use crate::segment::Part;
use crate::store::{ShardSnapshot, Snapshot};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnOf {
    /// The user ids.
    UserId,
    /// The shards that the users are in; numbers.
    Shard,
    /// The slots that they have there; numbers.
    Slot,
    /// The values of a tag.
    Tag(TagId),
}

/// Members of one chunk, a row each, by rising slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows<'s> {
    /// Rows; at least one.
    pub len: usize,
    /// In the order asked.
    pub columns: Vec<ColumnValues<'s>>,
}

/// A column of [`Rows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnValues<'s> {
    /// The ids one behind the other, and where each ends.
    UserId {
        /// All of them; UTF-8.
        text: Vec<u8>,
        /// Behind the last byte of each.
        ends: Vec<usize>,
    },
    /// Of a `set`: per row the values it has, as places in `values`, rising; one row behind the other.
    Set {
        /// Places in `values`.
        of: Vec<u32>,
        /// Behind the last place of each row.
        ends: Vec<usize>,
        /// The values, rising.
        values: &'s [&'s [u8]],
    },
    /// Of an `enum`: per row the place in `values`, if it has one.
    Enum {
        /// Places in `values`.
        of: Vec<Option<u32>>,
        /// The values, rising.
        values: &'s [&'s [u8]],
    },
    /// Of a `flag`.
    Flag(Vec<bool>),
    /// Of a `number`, in its unit.
    Number(Vec<Option<i64>>),
}

/// Calls with the rows of the members in these shards, chunk by chunk, until it breaks or there were `limit` rows.
///
/// Costs what the predicate costs, and per chunk a pass over the members for each value that some of them have.
///
/// # Errors
/// [`QueryError`].
pub fn columns(
    snapshot: &Snapshot,
    predicate: &Predicate,
    asked: &[ColumnOf],
    shards: impl IntoIterator<Item = usize>,
    limit: Option<usize>,
    context: &QueryContext,
    mut call: impl FnMut(Rows<'_>) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let plan = Plan::new(snapshot, predicate)?;
    let mut left = limit.unwrap_or(usize::MAX);
    for number in shards {
        let Some(shard) = snapshot.shards().get(number) else { continue };
        let program = plan.program(number)?;
        let mut evaluator = Evaluator::new(&program);
        let values = asked.iter().map(|column| values_of(snapshot, shard, *column)).collect::<Result<Vec<_>, _>>()?;
        let mut readers = Vec::with_capacity(asked.len());
        for (column, values) in asked.iter().zip(&values) {
            readers.push(Reader::new(snapshot, shard, *column, values)?);
        }
        for chunk in evaluator.chunks() {
            context.check()?;
            if left == 0 {
                return Ok(());
            }
            let members = evaluator.members(chunk);
            if members.is_empty() {
                continue;
            }
            let positions: Vec<[u8; 2]> = members.iter().take(left).map(u16::to_le_bytes).collect();
            let rows = Members { shard: number, chunk, set: members, positions: &positions };
            let columns = readers.iter_mut().map(|reader| reader.read(&rows)).collect::<Result<Vec<_>, _>>()?;
            left -= positions.len();
            if call(Rows { len: positions.len(), columns }).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Calls with how many members each chunk of these shards has; nothing is made of them.
///
/// # Errors
/// [`QueryError`].
pub fn counts(
    snapshot: &Snapshot,
    predicate: &Predicate,
    shards: impl IntoIterator<Item = usize>,
    context: &QueryContext,
    mut call: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let plan = Plan::new(snapshot, predicate)?;
    for number in shards.into_iter().filter(|number| *number < snapshot.shards().len()) {
        let program = plan.program(number)?;
        let mut evaluator = Evaluator::new(&program);
        for chunk in evaluator.chunks() {
            context.check()?;
            if call(u64::from(evaluator.count(chunk))).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Members whose rows are made.
struct Members<'m> {
    shard: usize,
    chunk: u16,
    set: ChunkSet<'m>,
    /// Of the rows, rising; the first ones of the set.
    positions: &'m [[u8; 2]],
}

impl Members<'_> {
    fn slots(&self) -> impl Iterator<Item = Slot> {
        let chunk = Slot::from(self.chunk) << 16;
        self.positions.iter().map(move |position| chunk | Slot::from(u16::from_le_bytes(*position)))
    }
}

fn tag_type(snapshot: &Snapshot, tag: TagId) -> Result<TagType, QueryError> {
    let known = snapshot.catalog().tags().find(|(_, known)| known.id == tag);
    known.map(|(_, known)| known.tag_type).ok_or_else(|| QueryError::Invalid(format!("there is no tag {tag}")))
}

/// The values of an `enum` or `set` that some layer of the shard has, rising.
fn values_of<'s>(snapshot: &Snapshot, shard: &'s ShardSnapshot, column: ColumnOf) -> Result<Vec<&'s [u8]>, QueryError> {
    let ColumnOf::Tag(tag) = column else { return Ok(Vec::new()) };
    if !matches!(tag_type(snapshot, tag)?, TagType::Set | TagType::Enum) {
        return Ok(Vec::new());
    }
    let parts = shard.layers().iter().flat_map(|segment| segment.parts(tag));
    let values: BTreeSet<&[u8]> =
        parts.filter_map(|(part, _)| if let Part::Value(value) = part { Some(value) } else { None }).collect();
    Ok(values.into_iter().collect())
}

/// Reads one column of one shard.
enum Reader<'s> {
    UserId(&'s ShardSnapshot),
    Shard,
    Slot,
    Set(Scatter<'s>, &'s [&'s [u8]]),
    Enum(Scatter<'s>, &'s [&'s [u8]]),
    Flag(Scatter<'s>),
    Number(NumberReader<'s>),
}

impl<'s> Reader<'s> {
    fn new(
        snapshot: &Snapshot,
        shard: &'s ShardSnapshot,
        column: ColumnOf,
        values: &'s [&'s [u8]],
    ) -> Result<Reader<'s>, QueryError> {
        let tag = match column {
            ColumnOf::UserId => return Ok(Reader::UserId(shard)),
            ColumnOf::Shard => return Ok(Reader::Shard),
            ColumnOf::Slot => return Ok(Reader::Slot),
            ColumnOf::Tag(tag) => tag,
        };
        let layers = shard.layers();
        let tag_type = tag_type(snapshot, tag)?;
        let is_set = tag_type == TagType::Set;
        let targets = values.iter().map(|value| value_layers(layers, is_set, tag, value));
        Ok(match tag_type {
            TagType::Set | TagType::Enum => {
                let targets = targets.collect::<Result<Vec<_>, _>>()?;
                let scatter = Scatter::new(targets.iter().map(Vec::as_slice), !is_set);
                if is_set { Reader::Set(scatter, values) } else { Reader::Enum(scatter, values) }
            }
            TagType::Flag => {
                let target = exclusive(layers, tag, Part::Exists)?;
                Reader::Flag(Scatter::new([target.as_slice()], true))
            }
            TagType::Number(_) => Reader::Number(NumberReader::new(&number_layers(layers, tag)?)),
        })
    }

    fn read(&mut self, members: &Members<'_>) -> Result<ColumnValues<'s>, QueryError> {
        let len = members.positions.len();
        Ok(match self {
            Reader::UserId(shard) => user_ids(shard, members)?,
            Reader::Shard => ColumnValues::Number(vec![Some(members.shard as i64); len]),
            Reader::Slot => ColumnValues::Number(members.slots().map(|slot| Some(slot.into())).collect()),
            Reader::Number(reader) => ColumnValues::Number(reader.numbers(members.chunk, members.positions)),
            Reader::Flag(scatter) => {
                let mut flags = vec![false; len];
                spread(scatter, members, |_, row| flags[row] = true);
                ColumnValues::Flag(flags)
            }
            Reader::Enum(scatter, values) => {
                let mut of = vec![None; len];
                spread(scatter, members, |value, row| of[row] = Some(value));
                ColumnValues::Enum { of, values }
            }
            Reader::Set(scatter, values) => {
                let mut pairs = Vec::new();
                let mut ends = vec![0; len];
                spread(scatter, members, |value, row| {
                    pairs.push((row, value));
                    ends[row] += 1;
                });
                ColumnValues::Set { of: by_row(&pairs, &mut ends), ends, values }
            }
        })
    }
}

/// Calls with the value and the row of each member that has it; by value.
fn spread(scatter: &mut Scatter<'_>, members: &Members<'_>, mut call: impl FnMut(u32, usize)) {
    let len = members.positions.len() as u32;
    let set = if len == members.set.len() {
        members.set
    } else {
        // Of a part of the members only that part is asked about.
        ChunkSet::Some(crate::bitmap::view::Container::Array(members.positions))
    };
    scatter.for_each(members.chunk, set, |value, rank| call(value as u32, rank as usize));
}

/// Puts pairs that are ordered by value into order of rows; `ends` comes with how many each row has and leaves with where each ends.
fn by_row(pairs: &[(usize, u32)], ends: &mut [usize]) -> Vec<u32> {
    let mut total = 0;
    for end in ends.iter_mut() {
        // Where the row begins; it moves to its end as it is filled.
        let count = std::mem::replace(end, total);
        total += count;
    }
    let mut of = vec![0; pairs.len()];
    for (row, value) in pairs {
        of[ends[*row]] = *value;
        ends[*row] += 1;
    }
    of
}

fn user_ids<'s>(shard: &ShardSnapshot, members: &Members<'_>) -> Result<ColumnValues<'s>, QueryError> {
    let mut text = Vec::new();
    let mut ends = Vec::with_capacity(members.positions.len());
    for slot in members.slots() {
        // An id that was erased while this view is held is empty.
        shard.user_id(slot, &mut text)?;
        ends.push(text.len());
    }
    Ok(ColumnValues::UserId { text, ends })
}
