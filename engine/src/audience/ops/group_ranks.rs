//! Numbers at ranks, group by group: medians and other percentiles of `GROUP BY`.
//!
//! As of one audience ([`super::number`]), the number at a rank is searched for by counting the members up to a few thresholds, round
//! by round. Here a round does it for all groups and everything that is asked in one pass: a chunk's members are split by group
//! once, and the thresholds of a group share one descent through the slices.

use super::groups::{split_by, splits_of};
use super::number::{bounds, splits};
use super::resolve::resolve_all;
use super::run::run;
use super::values::TagValues;
use super::{QueryContext, QueryError};
use crate::audience::plan::number_layers;
use crate::audience::predicate::Predicate;
use crate::bitmap::ChunkSet;
use crate::bitmap::bsi::NumberReader;
use crate::bitmap::evaluate::split::Common;
use crate::ids::TagId;
use crate::store::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers that are put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankOf {
    /// The tag.
    pub of: TagId,
    /// Of those members only who fit this one of the conditions.
    pub within: Option<usize>,
}

/// What is asked of an audience.
#[derive(Clone, Copy, Debug)]
pub struct Ranking<'q> {
    /// The tags it is told apart by, each at most once; none: it is one group.
    pub by: &'q [TagValues],
    /// What is put in order in each group.
    pub numbers: &'q [RankOf],
    /// Conditions that numbers are restricted by.
    pub conditions: &'q [Predicate],
}

/// How many members have a number, and the numbers at the ranks.
pub type AtRanks = (u64, BTreeMap<u64, i64>);

/// By the values of a group ([`super::Group`]), what is told of each of the numbers.
pub type RankedGroups = BTreeMap<Vec<Option<u32>>, Vec<AtRanks>>;

/// By group, per threshold of each of the numbers, the members up to it.
type Counts = BTreeMap<Vec<Option<u32>>, Vec<Vec<u64>>>;

/// The numbers at some ranks (1 is the least) among those members of each group that have one. `ranks` are told which of the numbers is
/// meant and how many there are, and answer which.
///
/// Groups without members are left out, but for the only one where there are no tags. Takes memory for the groups that there are.
///
/// # Panics
/// If a number names a condition that is not there.
///
/// # Errors
/// [`QueryError`].
pub fn ranked_groups(
    snapshot: &Snapshot,
    predicate: &Predicate,
    asked: &Ranking<'_>,
    ranks: impl Fn(usize, u64) -> BTreeSet<u64>,
    context: &QueryContext,
) -> Result<RankedGroups, QueryError> {
    let mut predicates: Vec<Predicate> = [predicate].into_iter().chain(asked.conditions).cloned().collect();
    resolve_all(snapshot, &mut predicates, context)?;
    let between = asked.numbers.iter().map(|number| bounds(snapshot, number.of)).collect::<Result<Vec<_>, _>>()?;
    let mut counts = count(snapshot, &predicates, asked, None, context)?;
    if asked.by.is_empty() {
        counts.entry(Vec::new()).or_insert_with(|| vec![vec![0]; asked.numbers.len()]);
    }
    let of_group = |counts: Vec<Vec<u64>>| -> Vec<Search> {
        let of = |(at, counts): (usize, Vec<u64>)| Search::new(counts[0], ranks(at, counts[0]), between[at]);
        counts.into_iter().enumerate().map(of).collect()
    };
    let mut searches: Searches = counts.into_iter().map(|(key, counts)| (key, of_group(counts))).collect();
    loop {
        for searches in searches.values_mut() {
            context.check()?;
            searches.iter_mut().for_each(Search::aim);
        }
        if searches.values().flatten().all(|search| search.thresholds.is_empty()) {
            break;
        }
        for (key, counts) in count(snapshot, &predicates, asked, Some(&searches), context)? {
            context.check()?;
            let searches = searches.get_mut(&key).into_iter().flatten();
            searches.zip(counts).for_each(|(search, counts)| search.narrow(&counts));
        }
    }
    let told = |searches: Vec<Search>| searches.into_iter().map(Search::told).collect();
    Ok(searches.into_iter().map(|(key, searches)| (key, told(searches))).collect())
}

type Searches = BTreeMap<Vec<Option<u32>>, Vec<Search>>;

/// A search for the numbers at some ranks.
struct Search {
    count: u64,
    /// Per rank, the interval its number lies in.
    open: BTreeMap<u64, (i64, i64)>,
    /// What is counted up to next; rising.
    thresholds: Vec<i64>,
}

impl Search {
    fn new(count: u64, ranks: BTreeSet<u64>, between: (i64, i64)) -> Search {
        let within = ranks.into_iter().filter(|rank| (1..=count).contains(rank));
        Search { count, open: within.map(|rank| (rank, between)).collect(), thresholds: Vec::new() }
    }

    fn aim(&mut self) {
        let open = self.open.values().filter(|(low, high)| low < high);
        let thresholds: BTreeSet<i64> = open.flat_map(|(low, high)| splits(*low, *high)).collect();
        self.thresholds = thresholds.into_iter().collect();
    }

    /// Takes how many numbers are at most each of the thresholds.
    fn narrow(&mut self, counts: &[u64]) {
        for (rank, (low, high)) in &mut self.open {
            // Counts rise with what they are counted up to.
            let place = counts.partition_point(|up_to| up_to < rank);
            if let Some(threshold) = self.thresholds.get(place) {
                *high = (*high).min(*threshold);
            }
            if let Some(below) = place.checked_sub(1) {
                *low = (*low).max(self.thresholds[below].saturating_add(1));
            }
        }
    }

    fn told(self) -> AtRanks {
        (self.count, self.open.into_iter().map(|(rank, (low, _))| (rank, low)).collect())
    }
}

/// Counts up to the thresholds of the searches; without searches all numbers of all groups.
fn count(
    snapshot: &Snapshot,
    predicates: &[Predicate],
    asked: &Ranking<'_>,
    searches: Option<&Searches>,
    context: &QueryContext,
) -> Result<Counts, QueryError> {
    let predicates: Vec<&Predicate> = predicates.iter().collect();
    let parts = run(snapshot, &predicates, context, |task| {
        let mut evaluators = task.evaluators();
        let [members, conditions @ ..] = &mut evaluators[..] else { unreachable!("one predicate is there at least") };
        let shard = &snapshot.shards()[task.shard];
        let mut splits = splits_of(shard, asked.by)?;
        let reader =
            |number: &RankOf| Ok::<_, QueryError>(NumberReader::new(&number_layers(shard.layers(), number.of)?));
        let readers = asked.numbers.iter().map(reader).collect::<Result<Vec<_>, _>>()?;
        let mut common = Common::default();
        let mut counts = Counts::new();
        for chunk in &task.chunks {
            context.check()?;
            let set = members.members(*chunk);
            if set.is_empty() {
                continue;
            }
            let conditions: Vec<ChunkSet<'_>> = conditions.iter_mut().map(|of| of.members(*chunk)).collect();
            let mut end = |key: &[Option<u32>], set: ChunkSet<'_>| {
                // Of many groups a chunk takes long.
                context.check()?;
                let searches = searches.map(|searches| searches.get(key).map_or(&[][..], Vec::as_slice));
                let thresholds = |at: usize| match searches {
                    None => &[i64::MAX][..],
                    Some(searches) => searches.get(at).map_or(&[][..], |search| search.thresholds.as_slice()),
                };
                if !counts.contains_key(key) {
                    let zeros = (0..readers.len()).map(|at| vec![0; thresholds(at).len()]).collect();
                    counts.insert(key.to_vec(), zeros);
                }
                let counts = counts.get_mut(key).expect("just put there");
                for (at, ((number, reader), counts)) in asked.numbers.iter().zip(&readers).zip(counts).enumerate() {
                    let thresholds = thresholds(at);
                    if thresholds.is_empty() {
                        continue;
                    }
                    match number.within {
                        None => reader.count_at_most(*chunk, set, thresholds, counts),
                        Some(of) => common.with(set, conditions[of], |set| {
                            reader.count_at_most(*chunk, set, thresholds, counts);
                        }),
                    }
                }
                Ok::<_, QueryError>(())
            };
            split_by(&mut splits, *chunk, set, &mut Vec::new(), &mut end)?;
        }
        Ok(counts)
    })?;
    let mut total = Counts::new();
    for (key, counts) in parts.into_iter().flatten() {
        match total.get_mut(&key) {
            None => drop(total.insert(key, counts)),
            Some(total) => total.iter_mut().zip(counts).for_each(|(total, counts)| {
                total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
            }),
        }
    }
    Ok(total)
}
