//! Numbers of an audience by order: ranks, quantiles, the top k.
//!
//! Everything is counted by bit slices; no user's number is spread out, but for the `k` that are shown. The number at a rank
//! is searched for: each round counts the members up to a few thresholds per rank, all in one pass, and narrows the
//! interval each rank must lie in.

use super::members::user_id;
use super::resolve::resolve;
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::plan::{number_layers, range_of};
use crate::audience::predicate::Predicate;
use crate::bitmap::bsi::{NumberRange, NumberReader, Sum};
use crate::bitmap::count_each::{CountEach, GroupCounts};
use crate::ids::TagId;
use crate::store::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// Thresholds per rank and round.
const SPLITS: i128 = 7;

/// How many members of the predicate have a number, and their sum.
pub(super) fn sum(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    context: &QueryContext,
) -> Result<Sum, QueryError> {
    let parts = run(snapshot, &[predicate], context, |task| {
        let [evaluator] = &mut task.evaluators()[..] else { unreachable!("one predicate was given") };
        let reader = NumberReader::new(&number_layers(snapshot.shards()[task.shard].layers(), tag)?);
        let mut total = Sum::default();
        for chunk in &task.chunks {
            context.check()?;
            let members = evaluator.members(*chunk);
            if !members.is_empty() {
                reader.sum(*chunk, members, &mut total);
            }
        }
        Ok(total)
    })?;
    let add = |a: Sum, b: Sum| Sum { count: a.count + b.count, sum: a.sum + b.sum };
    Ok(parts.into_iter().fold(Sum::default(), add))
}

/// Per range, the members of the predicate whose number is in it; no two ranges share a number.
pub(super) fn range_counts(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    ranges: &[NumberRange],
    context: &QueryContext,
) -> Result<Vec<u64>, QueryError> {
    let parts = run(snapshot, &[predicate], context, |task| {
        let [evaluator] = &mut task.evaluators()[..] else { unreachable!("one predicate was given") };
        let numbers = number_layers(snapshot.shards()[task.shard].layers(), tag)?;
        let targets: Vec<_> = ranges.iter().map(|range| range_of(&numbers, *range)).collect();
        let mut each = CountEach::new();
        each.group(targets.iter().map(Vec::as_slice), true);
        let mut counts = each.zeros();
        for chunk in &task.chunks {
            context.check()?;
            each.add(*chunk, evaluator.members(*chunk), &mut counts);
        }
        Ok(counts)
    })?;
    let mut total = GroupCounts { each: vec![0; ranges.len()], any: 0 };
    parts.iter().flatten().for_each(|part| total.add(part));
    Ok(total.each)
}

/// The numbers at these ranks (1 is the least) among the members that have one; `ranks` are within their count.
pub(super) fn at_ranks(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    ranks: &BTreeSet<u64>,
    context: &QueryContext,
) -> Result<BTreeMap<u64, i64>, QueryError> {
    let (low, high) = bounds(snapshot, tag)?;
    // Per rank, the interval its number lies in.
    let mut open: BTreeMap<u64, (i64, i64)> = ranks.iter().map(|rank| (*rank, (low, high))).collect();
    loop {
        let thresholds: BTreeSet<i64> =
            open.values().filter(|(low, high)| low < high).flat_map(|(low, high)| splits(*low, *high)).collect();
        if thresholds.is_empty() {
            return Ok(open.into_iter().map(|(rank, (low, _))| (rank, low)).collect());
        }
        // From one threshold to the next; below the least bound there is nobody.
        let starts = [i64::MIN].into_iter().chain(thresholds.iter().map(|threshold| threshold.saturating_add(1)));
        let ranges: Vec<NumberRange> =
            starts.zip(&thresholds).map(|(min, max)| NumberRange { min, max: *max }).collect();
        let counts = range_counts(snapshot, predicate, tag, &ranges, context)?;
        for (rank, (low, high)) in &mut open {
            let mut up_to = 0;
            for (threshold, count) in thresholds.iter().zip(&counts) {
                up_to += count;
                if up_to >= *rank {
                    *high = (*high).min(*threshold);
                } else {
                    *low = (*low).max(threshold.saturating_add(1));
                }
            }
        }
    }
}

/// Thresholds that cut an interval into about equal parts, all below its end.
pub(super) fn splits(low: i64, high: i64) -> impl Iterator<Item = i64> {
    let width = i128::from(high) - i128::from(low);
    (1..=SPLITS).map(move |step| (i128::from(low) + width * step / (SPLITS + 1)) as i64).filter(move |at| *at < high)
}

/// Between what numbers all of a tag's lie, by the layers' bases and widths.
pub(super) fn bounds(snapshot: &Snapshot, tag: TagId) -> Result<(i64, i64), QueryError> {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for shard in snapshot.shards() {
        for layer in number_layers(shard.layers(), tag)? {
            if let Some(numbers) = layer.numbers {
                let width = if numbers.slices.len() >= 64 { u64::MAX } else { (1 << numbers.slices.len()) - 1 };
                low = low.min(numbers.base);
                high = high.max(numbers.base.saturating_add_unsigned(width));
            }
        }
    }
    Ok(if low > high { (0, 0) } else { (low, high) })
}

/// The numbers at some ranks (1 is the least) among the members that have one; `ranks` are told how many those are and answer which.
///
/// # Errors
/// [`QueryError`].
pub fn ranked(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    ranks: impl FnOnce(u64) -> BTreeSet<u64>,
    context: &QueryContext,
) -> Result<BTreeMap<u64, i64>, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let total = known(snapshot, predicate, tag, context)?;
    let mut ranks = ranks(total);
    ranks.retain(|rank| (1..=total).contains(rank));
    at_ranks(snapshot, predicate, tag, &ranks, context)
}

/// How many members have a number.
fn known(snapshot: &Snapshot, predicate: &Predicate, tag: TagId, context: &QueryContext) -> Result<u64, QueryError> {
    Ok(range_counts(snapshot, predicate, tag, &[NumberRange::ALL], context)?[0])
}

/// The `k`-th best number, where `total` members have one, at least `k`.
fn cut(
    snapshot: &Snapshot,
    predicate: &Predicate,
    best: &Best,
    (k, total): (u64, u64),
    context: &QueryContext,
) -> Result<i64, QueryError> {
    let rank = if best.descending { total - k + 1 } else { k };
    Ok(at_ranks(snapshot, predicate, best.by, &BTreeSet::from([rank]), context)?[&rank])
}

/// The first members in an order by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// The tag.
    pub by: TagId,
    /// The greatest number first.
    pub descending: bool,
    /// Who has no number comes before all others, instead of behind.
    pub unknown_first: bool,
    /// How many are wanted.
    pub k: usize,
    /// Where some of those with the same number are enough, whoever they are.
    pub any_of_equals: bool,
}

/// Where the best members are to be found: disjoint audiences, and how many members of each are enough if not all are needed. All
/// together have the `k` best, and few others.
///
/// # Errors
/// [`QueryError`].
pub fn best(
    snapshot: &Snapshot,
    predicate: &Predicate,
    best: &Best,
    context: &QueryContext,
) -> Result<Vec<(Predicate, Option<usize>)>, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let and = |other: Predicate| Predicate::And(vec![predicate.clone(), other]).canonical();
    let enough = |count: u64| best.any_of_equals.then_some(count as usize);
    let unknown = || and(Predicate::Known(best.by).negate());
    let mut parts = Vec::new();
    let mut left = best.k as u64;
    if best.unknown_first && left > 0 {
        let unknown = unknown();
        let count = super::count(snapshot, &unknown, context)?;
        parts.push((unknown, enough(left)));
        left = left.saturating_sub(count);
    }
    if left == 0 {
        return Ok(parts);
    }
    let total = known(snapshot, predicate, best.by, context)?;
    if total <= left {
        parts.push((and(Predicate::Known(best.by)), None));
        if !best.unknown_first && total < left {
            parts.push((unknown(), enough(left - total)));
        }
        return Ok(parts);
    }
    let cut = cut(snapshot, predicate, best, (left, total), context)?;
    let better = match best.descending {
        true => cut.checked_add(1).map(|min| NumberRange { min, max: i64::MAX }),
        false => cut.checked_sub(1).map(|max| NumberRange { min: i64::MIN, max }),
    };
    parts.extend(better.map(|better| (and(Predicate::InRange(best.by, better)), None)));
    parts.push((and(Predicate::InRange(best.by, NumberRange { min: cut, max: cut })), enough(left)));
    Ok(parts)
}

/// The `k` members with the greatest (or least) number of a tag, best first; ties by (shard, slot). Members without a
/// number are left out.
///
/// # Errors
/// [`QueryError`].
pub fn top_k(
    snapshot: &Snapshot,
    predicate: &Predicate,
    by: TagId,
    k: usize,
    descending: bool,
    context: &QueryContext,
) -> Result<Vec<(String, i64)>, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let total = known(snapshot, predicate, by, context)?;
    let k = (k as u64).min(total);
    if k == 0 {
        return Ok(Vec::new());
    }
    let wanted = Best { by, descending, unknown_first: false, k: k as usize, any_of_equals: true };
    let cut = cut(snapshot, predicate, &wanted, (k, total), context)?;
    let range = match descending {
        true => NumberRange { min: cut, max: i64::MAX },
        false => NumberRange { min: i64::MIN, max: cut },
    };
    let within = Predicate::And(vec![predicate.clone(), Predicate::InRange(by, range)]).canonical();
    let mut best = numbers_of(snapshot, &within, by, cut, k as usize, context)?;
    // Stable: ties stay in order of shard and slot.
    best.sort_by(|a, b| if descending { b.2.cmp(&a.2) } else { a.2.cmp(&b.2) });
    best.truncate(k as usize);
    let named = best
        .into_iter()
        .map(|(shard, slot, number)| Ok(user_id(&snapshot.shards()[shard], slot)?.map(|id| (id, number))));
    named.filter_map(Result::transpose).collect()
}

/// Shard, slot and number of the members, in order; of those at the cut no more than `k`.
fn numbers_of(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    cut: i64,
    k: usize,
    context: &QueryContext,
) -> Result<Vec<(usize, u32, i64)>, QueryError> {
    let parts = run(snapshot, &[predicate], context, |task| {
        let [evaluator] = &mut task.evaluators()[..] else { unreachable!("one predicate was given") };
        let reader = NumberReader::new(&number_layers(snapshot.shards()[task.shard].layers(), tag)?);
        let mut found = Vec::new();
        let mut at_cut = 0;
        for chunk in &task.chunks {
            context.check()?;
            let positions: Vec<[u8; 2]> = evaluator.members(*chunk).iter().map(u16::to_le_bytes).collect();
            for (position, number) in positions.iter().zip(reader.numbers(*chunk, &positions)) {
                let Some(number) = number else { continue };
                at_cut += usize::from(number == cut);
                if number != cut || at_cut <= k {
                    let slot = u32::from(*chunk) << 16 | u32::from(u16::from_le_bytes(*position));
                    found.push((task.shard, slot, number));
                }
            }
        }
        Ok(found)
    })?;
    Ok(parts.into_iter().flatten().collect())
}
