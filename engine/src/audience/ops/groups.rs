//! Figures of an audience, whole or told apart by tags: what `GROUP BY` asks for.
//!
//! Chunk by chunk the members are split by the values of the first tag, those of each value by the second, and so on; sets without
//! members are not split further. What is asked of a group is then worked out of its members in the chunk: counts and bit-slice sums,
//! never a user's row. Where only counts are asked for, the last tag's values are counted and no sets are made of them.

use super::resolve::resolve_all;
use super::values::TagValues;
use super::{QueryContext, QueryError};
use crate::audience::plan::{Plan, number_layers};
use crate::audience::predicate::Predicate;
use crate::bitmap::ChunkSet;
use crate::bitmap::bsi::{NumberReader, NumberSummary, Sum};
use crate::bitmap::count_each::{CountEach, GroupCounts};
use crate::bitmap::evaluate::Evaluator;
use crate::bitmap::evaluate::split::{Common, Split};
use crate::ids::TagId;
use crate::store::{ShardSnapshot, Snapshot};
use std::collections::BTreeMap;

/// What is asked of an audience.
#[derive(Clone, Copy, Debug)]
pub struct Grouping<'q> {
    /// The tags it is told apart by, each at most once; none: it is one group.
    pub by: &'q [TagValues],
    /// What is asked of each group.
    pub figures: &'q [Figure],
    /// Conditions that figures are restricted by.
    pub conditions: &'q [Predicate],
    /// Tags whose values are counted.
    pub values: &'q [TagValues],
}

/// A figure of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What.
    pub of: FigureOf,
    /// Of those members only who fit this one of the conditions.
    pub within: Option<usize>,
}

/// What is told of a group's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureOf {
    /// How many there are.
    Count,
    /// How many have a number, and their sum.
    Sum(TagId),
    /// The same with the least and the greatest.
    Summary(TagId),
    /// How many have each value of this one of the tags.
    Values(usize),
}

/// An answer, as was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// How many there are.
    Count(u64),
    /// The numbers; least and greatest only if they were asked for.
    Numbers(NumberSummary),
    /// Members per leaf of the tag ([`TagValues::target_count`]), and those who are in any.
    Values(GroupCounts),
}

impl Told {
    /// What is told of nobody.
    ///
    /// # Panics
    /// If the figure names a tag that is not among the values.
    pub fn zero(figure: &Figure, values: &[TagValues]) -> Told {
        match figure.of {
            FigureOf::Count => Told::Count(0),
            FigureOf::Sum(_) | FigureOf::Summary(_) => Told::Numbers(NumberSummary::default()),
            FigureOf::Values(of) => Told::Values(GroupCounts { each: vec![0; values[of].target_count()], any: 0 }),
        }
    }
}

/// A group that has members: its value of each tag, as the place among the tag's values (0 of a flag that is set), `None` for
/// those without; and its figures.
pub type Group = (Vec<Option<u32>>, Vec<Told>);

/// The groups of the members in these shards, in order of their values; without tags exactly one, whether there are members or not.
///
/// A user is in a group of each value of a `set` that is asked by, and in none without a value; otherwise in exactly one. Takes memory for
/// the groups that there are.
///
/// # Panics
/// If a figure names a condition or a tag that is not there.
///
/// # Errors
/// [`QueryError`].
pub fn groups(
    snapshot: &Snapshot,
    predicate: &Predicate,
    asked: &Grouping<'_>,
    shards: impl IntoIterator<Item = usize>,
    context: &QueryContext,
) -> Result<Vec<Group>, QueryError> {
    let mut predicates: Vec<Predicate> = [predicate].into_iter().chain(asked.conditions).cloned().collect();
    resolve_all(snapshot, &mut predicates, context)?;
    let plans = predicates.iter().map(|predicate| Plan::new(snapshot, predicate)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Found { figures: asked.figures, values: asked.values, groups: BTreeMap::new() };
    if asked.by.is_empty() {
        found.group(&[]);
    }
    for number in shards {
        let Some(shard) = snapshot.shards().get(number) else { continue };
        let programs = plans.iter().map(|plan| plan.program(number)).collect::<Result<Vec<_>, _>>()?;
        let mut evaluators: Vec<Evaluator<'_, '_>> = programs.iter().map(Evaluator::new).collect();
        let [members, conditions @ ..] = &mut evaluators[..] else { unreachable!("one plan is there at least") };
        let mut work = Work::new(shard, asked)?;
        for chunk in members.chunks() {
            context.check()?;
            let set = members.members(chunk);
            if !set.is_empty() {
                let conditions: Vec<ChunkSet<'_>> = conditions.iter_mut().map(|of| of.members(chunk)).collect();
                work.add(chunk, set, &conditions, &mut found, context)?;
            }
        }
        work.finish(&mut found);
    }
    Ok(found.groups.into_iter().collect())
}

/// The groups so far.
struct Found<'q> {
    figures: &'q [Figure],
    values: &'q [TagValues],
    groups: BTreeMap<Vec<Option<u32>>, Vec<Told>>,
}

impl Found<'_> {
    fn group(&mut self, key: &[Option<u32>]) -> &mut Vec<Told> {
        if !self.groups.contains_key(key) {
            let zeros = self.figures.iter().map(|figure| Told::zero(figure, self.values)).collect();
            self.groups.insert(key.to_vec(), zeros);
        }
        self.groups.get_mut(key).expect("just put there")
    }
}

/// What reads one shard.
struct Work<'s, 'q> {
    splits: Vec<Split<'s>>,
    last: Option<Last<'s>>,
    measure: Measure<'s, 'q>,
}

/// The last tag where nothing but counts is asked for.
struct Last<'s> {
    each: CountEach<'s>,
    is_exclusive: bool,
    /// By the values of the other tags: the members, and how many have each value.
    counts: BTreeMap<Vec<Option<u32>>, (u64, Vec<GroupCounts>)>,
}

impl<'s, 'q> Work<'s, 'q> {
    fn new(shard: &'s ShardSnapshot, asked: &Grouping<'q>) -> Result<Work<'s, 'q>, QueryError> {
        let is_counted = asked.figures.iter().all(|figure| figure.of == FigureOf::Count && figure.within.is_none());
        let (split, counted) = match asked.by.split_last() {
            Some((last, others)) if is_counted => (others, Some(last)),
            _ => (asked.by, None),
        };
        let splits = splits_of(shard, split)?;
        let last = match counted {
            None => None,
            Some(by) => {
                let mut each = CountEach::new();
                each.group(by.targets(shard)?.iter().map(Vec::as_slice), by.is_exclusive());
                Some(Last { each, is_exclusive: by.is_exclusive(), counts: BTreeMap::new() })
            }
        };
        Ok(Work { splits, last, measure: Measure::new(shard, asked)? })
    }

    fn add(
        &mut self,
        chunk: u16,
        set: ChunkSet<'_>,
        conditions: &[ChunkSet<'_>],
        found: &mut Found<'_>,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let Work { splits, last, measure } = self;
        let mut end = |key: &[Option<u32>], set: ChunkSet<'_>| {
            // Of many groups a chunk takes long.
            context.check()?;
            match last {
                Some(last) => last.add(chunk, key, set),
                None => measure.add(chunk, set, conditions, found.group(key)),
            }
            Ok(())
        };
        split_by(splits, chunk, set, &mut Vec::new(), &mut end)
    }

    fn finish(self, found: &mut Found<'_>) {
        let Some(Last { is_exclusive, counts, .. }) = self.last else { return };
        for (mut key, (total, counts)) in counts {
            let GroupCounts { each, any } = &counts[0];
            let rest = if is_exclusive { total.saturating_sub(*any) } else { 0 };
            let with = each.iter().enumerate().map(|(value, count)| (Some(value as u32), *count));
            for (value, count) in with.chain([(None, rest)]).filter(|(_, count)| *count > 0) {
                key.push(value);
                for told in found.group(&key) {
                    let Told::Count(sum) = told else { unreachable!("only counts are asked for") };
                    *sum += count;
                }
                key.pop();
            }
        }
    }
}

/// What splits a shard's members by the values of each tag.
pub(super) fn splits_of<'s>(shard: &'s ShardSnapshot, by: &[TagValues]) -> Result<Vec<Split<'s>>, QueryError> {
    let split = |by: &TagValues| {
        let any = if by.is_exclusive() { Some(by.any(shard)?) } else { None };
        let targets = by.targets(shard)?;
        Ok::<_, QueryError>(Split::new(targets.iter().map(Vec::as_slice), any.as_deref()))
    };
    by.iter().map(split).collect()
}

/// Calls with the values of all tags, and those who have them.
pub(super) fn split_by(
    splits: &mut [Split<'_>],
    chunk: u16,
    set: ChunkSet<'_>,
    key: &mut Vec<Option<u32>>,
    end: &mut impl FnMut(&[Option<u32>], ChunkSet<'_>) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let Some((first, others)) = splits.split_first_mut() else { return end(key, set) };
    first.for_each(chunk, set, |value, set| {
        key.push(value.map(|value| value as u32));
        let done = split_by(others, chunk, set, key, end);
        key.pop();
        done
    })
}

impl Last<'_> {
    fn add(&mut self, chunk: u16, key: &[Option<u32>], set: ChunkSet<'_>) {
        if !self.counts.contains_key(key) {
            self.counts.insert(key.to_vec(), (0, self.each.zeros()));
        }
        let (total, counts) = self.counts.get_mut(key).expect("just put there");
        *total += u64::from(set.len());
        self.each.add(chunk, set, counts);
    }
}

/// Works figures out of sets.
struct Measure<'s, 'q> {
    figures: &'q [Figure],
    /// As the figures; nothing for those that need none.
    readers: Vec<Reader<'s>>,
    common: Common,
}

enum Reader<'s> {
    None,
    Numbers(NumberReader<'s>),
    Values(CountEach<'s>),
}

impl<'s, 'q> Measure<'s, 'q> {
    fn new(shard: &'s ShardSnapshot, asked: &Grouping<'q>) -> Result<Measure<'s, 'q>, QueryError> {
        let reader = |figure: &Figure| {
            Ok::<_, QueryError>(match figure.of {
                FigureOf::Count => Reader::None,
                FigureOf::Sum(tag) | FigureOf::Summary(tag) => {
                    Reader::Numbers(NumberReader::new(&number_layers(shard.layers(), tag)?))
                }
                FigureOf::Values(of) => {
                    let mut each = CountEach::new();
                    let values = &asked.values[of];
                    each.group(values.targets(shard)?.iter().map(Vec::as_slice), values.is_exclusive());
                    Reader::Values(each)
                }
            })
        };
        let readers = asked.figures.iter().map(reader).collect::<Result<_, _>>()?;
        Ok(Measure { figures: asked.figures, readers, common: Common::default() })
    }

    fn add(&mut self, chunk: u16, set: ChunkSet<'_>, conditions: &[ChunkSet<'_>], told: &mut [Told]) {
        for ((figure, reader), told) in self.figures.iter().zip(&mut self.readers).zip(told) {
            match (figure.within.map(|of| &conditions[of]), &figure.of, told) {
                (None, FigureOf::Count, Told::Count(count)) => *count += u64::from(set.len()),
                (Some(within), FigureOf::Count, Told::Count(count)) => *count += u64::from(set.common_count(within)),
                (None, of, told) => read(reader, chunk, set, of, told),
                (Some(within), of, told) => self.common.with(set, *within, |set| read(reader, chunk, set, of, told)),
            }
        }
    }
}

fn read(reader: &mut Reader<'_>, chunk: u16, set: ChunkSet<'_>, of: &FigureOf, told: &mut Told) {
    if set.is_empty() {
        return;
    }
    match (reader, told) {
        (Reader::Numbers(reader), Told::Numbers(summary)) => match of {
            FigureOf::Summary(_) => reader.summarize(chunk, set, summary),
            _ => {
                let mut sum = Sum::default();
                reader.sum(chunk, set, &mut sum);
                summary.merge(&NumberSummary { count: sum.count, sum: sum.sum, ..NumberSummary::default() });
            }
        },
        (Reader::Values(each), Told::Values(counts)) => each.add(chunk, set, std::slice::from_mut(counts)),
        _ => unreachable!("readers and answers are made of the same figures"),
    }
}
