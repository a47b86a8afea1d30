//! Who fits: pages, samples, bitmaps.

use super::resolve::resolve;
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::naive::Random;
use crate::audience::plan::Plan;
use crate::audience::predicate::Predicate;
use crate::audience::scan::Given;
use crate::bitmap::canonical::Chunks;
use crate::bitmap::evaluate::Evaluator;
use crate::ids::{ShardId, Slot};
use crate::store::{ShardSnapshot, Snapshot};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where a page of members goes on: the next slot to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The shard.
    pub shard: ShardId,
    /// The slot.
    pub slot: Slot,
}

/// A page of members in (shard, slot) order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberPage {
    /// User ids.
    pub users: Vec<String>,
    /// Where the next page begins on the same snapshot; `None` at the end.
    pub next: Option<Position>,
}

/// The id of a slot that a bitmap of this snapshot has.
pub(super) fn user_id(shard: &ShardSnapshot, slot: Slot) -> Result<Option<String>, QueryError> {
    let mut id = Vec::new();
    let known = shard.user_id(slot, &mut id)?;
    // Ids come in as text; bytes that are not would be damage the checksums have missed.
    Ok(known.then(|| String::from_utf8_lossy(&id).into_owned()))
}

/// Up to `limit` members from `from` on, in (shard, slot) order. Pages of one snapshot never overlap or miss.
///
/// # Errors
/// [`QueryError`].
pub fn members(
    snapshot: &Snapshot,
    predicate: &Predicate,
    from: Option<Position>,
    limit: usize,
    context: &QueryContext,
) -> Result<MemberPage, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let plan = Plan::new(snapshot, predicate)?;
    let from = from.unwrap_or(Position { shard: ShardId(0), slot: 0 });
    let mut page = MemberPage::default();
    for (number, shard) in snapshot.shards().iter().enumerate().skip(from.shard.0.into()) {
        let program = plan.program(number)?;
        let mut evaluator = Evaluator::new(&program);
        let first = if number == usize::from(from.shard.0) { from.slot } else { 0 };
        for chunk in evaluator.chunks().into_iter().filter(|chunk| u32::from(*chunk) >= first >> 16) {
            context.check()?;
            let high = u32::from(chunk) << 16;
            for position in evaluator.members(chunk).iter() {
                let slot = high | u32::from(position);
                if slot < first {
                    continue;
                }
                if page.users.len() == limit {
                    page.next = Some(Position { shard: ShardId(number as u16), slot });
                    return Ok(page);
                }
                page.users.extend(user_id(shard, slot)?);
            }
        }
    }
    Ok(page)
}

/// Members per shard as bitmaps of slots in the portable Roaring format.
///
/// # Errors
/// [`QueryError`].
pub fn bitmaps(snapshot: &Snapshot, predicate: &Predicate, context: &QueryContext) -> Result<Vec<Vec<u8>>, QueryError> {
    let serialized = slots(snapshot, predicate, context)?.into_iter().map(|mut bitmap| {
        bitmap.optimize();
        let mut bytes = Vec::new();
        bitmap.serialize_into(&mut bytes).expect("memory does not fail");
        bytes
    });
    Ok(serialized.collect())
}

/// The members among these users, told as slots per shard (a shard that is left out has none) and answered so. Costs what
/// the predicate costs in the chunks of those users; rows of facts are read for them alone.
///
/// # Errors
/// [`QueryError`].
pub fn bitmaps_within(
    snapshot: &Snapshot,
    predicate: &Predicate,
    within: &[RoaringBitmap],
    context: &QueryContext,
) -> Result<Vec<RoaringBitmap>, QueryError> {
    let given = Given::new(None, snapshot.shards().len(), within);
    let among = Predicate::And(vec![Predicate::Given(Arc::new(given)), predicate.clone()]).canonical();
    slots(snapshot, &among, context)
}

/// Members per shard as sets of slots.
///
/// # Errors
/// [`QueryError`].
pub fn slots(
    snapshot: &Snapshot,
    predicate: &Predicate,
    context: &QueryContext,
) -> Result<Vec<RoaringBitmap>, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let parts = run(snapshot, &[predicate], context, |task| {
        let [evaluator] = &mut task.evaluators()[..] else { unreachable!("one predicate was given") };
        let mut found = Chunks::default();
        for chunk in &task.chunks {
            context.check()?;
            found.push(*chunk, &evaluator.members(*chunk));
        }
        Ok((task.shard, found.finish()))
    })?;
    let mut bitmaps = vec![RoaringBitmap::new(); snapshot.shards().len()];
    parts.into_iter().for_each(|(shard, bitmap)| bitmaps[shard] |= bitmap);
    Ok(bitmaps)
}

/// Up to `size` members chosen uniformly without replacement, the same for the same seed and snapshot, in (shard, slot)
/// order.
///
/// # Errors
/// [`QueryError`].
pub fn sample(
    snapshot: &Snapshot,
    predicate: &Predicate,
    size: usize,
    seed: u64,
    context: &QueryContext,
) -> Result<Vec<String>, QueryError> {
    let predicate = &*resolve(snapshot, predicate, context)?;
    let total = super::count(snapshot, predicate, context)?;
    let mut ranks = choose(total, size, seed).into_iter().peekable();
    let plan = Plan::new(snapshot, predicate)?;
    let mut chosen = Vec::new();
    let mut passed = 0;
    for (number, shard) in snapshot.shards().iter().enumerate() {
        let program = plan.program(number)?;
        let mut evaluator = Evaluator::new(&program);
        for chunk in evaluator.chunks() {
            context.check()?;
            let set = evaluator.members(chunk);
            let len = u64::from(set.len());
            let mut positions = set.iter().enumerate();
            while let Some(rank) = ranks.next_if(|rank| *rank < passed + len) {
                let wanted = (rank - passed) as usize;
                let found = positions.find(|(index, _)| *index == wanted);
                let Some((_, position)) = found else { break };
                chosen.extend(user_id(shard, u32::from(chunk) << 16 | u32::from(position))?);
            }
            passed += len;
        }
    }
    Ok(chosen)
}

/// `size` different numbers below `total`, each set of them as likely as any other (Floyd's algorithm).
fn choose(total: u64, size: usize, seed: u64) -> BTreeSet<u64> {
    let mut random = Random::new(seed);
    let size = (size as u64).min(total);
    let mut chosen = BTreeSet::new();
    for last in total - size..total {
        let candidate = random.below(last + 1);
        if !chosen.insert(candidate) {
            chosen.insert(last);
        }
    }
    chosen
}
