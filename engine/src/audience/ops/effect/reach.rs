//! Incremental reach: whom one more channel reaches that none before it did.
//!
//! What a channel adds only falls as others come before it. So what it added once is a bound, and the channel that adds most is found
//! without asking all of them again (M. Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978).

use super::{Effect, GroupEffect, Stage};
use crate::audience::ops::{QueryContext, QueryError};
use crate::audience::scan::EventValue;
use roaring::RoaringTreemap;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// What a channel adds to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachStep {
    /// Which group it is.
    pub channel: EventValue,
    /// Users whom it reached.
    pub reach: u64,
    /// Those of them whom no other group reached.
    pub exclusive: u64,
    /// Those of them whom none before it reached.
    pub adds: u64,
    /// Users whom it and those before it reached.
    pub cumulative: u64,
}

/// Groups that reached anybody, one after the other: those of `first` in their order, whether they did or not, and then always the one
/// that adds most, of those that add as much the first in the order of values; as long as there are fewer than `steps`.
///
/// # Errors
/// [`QueryError::Cancelled`].
pub fn incremental_reach(
    effect: &Effect,
    first: &[EventValue],
    steps: usize,
    context: &QueryContext,
) -> Result<Vec<ReachStep>, QueryError> {
    let mut reached = Reached::default();
    let nobody = GroupEffect::default();
    for channel in first {
        context.check()?;
        let group = effect.groups.get(channel).unwrap_or(&nobody);
        reached.add(channel, group, reached.added_by(group));
    }
    let first: BTreeSet<&EventValue> = first.iter().collect();
    let others: Vec<(&EventValue, &GroupEffect)> =
        effect.groups.iter().filter(|(channel, group)| group.reach() > 0 && !first.contains(channel)).collect();
    // What each may add at most, those with most and then in order; and how many stood before it when that was found.
    let bounds = others.iter().enumerate().map(|(at, (_, group))| (group.reach(), Reverse(at), 0));
    let mut bounds: BinaryHeap<(u64, Reverse<usize>, usize)> = bounds.collect();
    while reached.steps.len() < steps
        && let Some((bound, Reverse(at), before)) = bounds.pop()
    {
        context.check()?;
        let (channel, group) = others[at];
        // What may add nobody adds nobody.
        if before == reached.steps.len() || bound == 0 {
            reached.add(channel, group, bound);
        } else {
            bounds.push((reached.added_by(group), Reverse(at), reached.steps.len()));
        }
    }
    Ok(reached.steps)
}

/// Who was reached so far.
#[derive(Default)]
struct Reached {
    users: RoaringTreemap,
    cumulative: u64,
    steps: Vec<ReachStep>,
}

impl Reached {
    fn added_by(&self, group: &GroupEffect) -> u64 {
        group.reach() - self.users.intersection_len(&group.users[Stage::Impressions as usize])
    }

    fn add(&mut self, channel: &EventValue, group: &GroupEffect, adds: u64) {
        self.users |= &group.users[Stage::Impressions as usize];
        self.cumulative += adds;
        let (channel, cumulative) = (channel.clone(), self.cumulative);
        self.steps.push(ReachStep { channel, reach: group.reach(), exclusive: group.exclusive, adds, cumulative });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashSet};

    /// The users of some channels, as an effect.
    fn effect_of(channels: &BTreeMap<i64, HashSet<u64>>) -> Effect {
        let group = |(channel, users): (&i64, &HashSet<u64>)| {
            let mut group = GroupEffect::default();
            group.stages[0].users = users.len() as u64;
            group.users[0] = users.iter().copied().collect();
            let others = || channels.iter().filter(|(other, _)| *other != channel);
            let alone = users.iter().filter(|user| others().all(|(_, users)| !users.contains(user)));
            group.exclusive = alone.count() as u64;
            (EventValue::Number(*channel), group)
        };
        Effect { groups: channels.iter().map(group).collect(), ..Effect::default() }
    }

    fn naive(channels: &BTreeMap<i64, HashSet<u64>>, first: &[i64], steps: usize) -> Vec<(i64, u64, u64)> {
        let mut rest: Vec<i64> =
            channels.iter().filter(|(at, users)| !users.is_empty() && !first.contains(at)).map(|(at, _)| *at).collect();
        let (mut reached, mut told) = (HashSet::new(), Vec::new());
        let none = HashSet::new();
        let mut named = first.iter();
        loop {
            let adds = |channel: &i64| channels.get(channel).unwrap_or(&none).difference(&reached).count() as u64;
            let next = match named.next() {
                Some(channel) => *channel,
                None if told.len() >= steps => return told,
                None => {
                    let Some(most) = rest.iter().map(adds).max() else { return told };
                    let at = rest.iter().position(|channel| adds(channel) == most).expect("one adds most");
                    rest.remove(at)
                }
            };
            let adds = adds(&next);
            reached.extend(channels.get(&next).unwrap_or(&none));
            told.push((next, adds, reached.len() as u64));
        }
    }

    proptest! {
        #[test]
        fn channels_add_what_sets_of_users_say(
            channels in prop::collection::btree_map(0i64..12, prop::collection::hash_set((0u64..3, 0u64..12).prop_map(|(shard, slot)| shard << 32 | slot), 0..12), 0..12),
            first in prop::collection::hash_set(0i64..14, 0..4),
            steps in 0usize..14,
        ) {
            let first: Vec<i64> = first.into_iter().collect();
            let named: Vec<EventValue> = first.iter().map(|channel| EventValue::Number(*channel)).collect();
            let effect = effect_of(&channels);
            let told = incremental_reach(&effect, &named, steps, &QueryContext::default()).expect("steps");
            let wanted: Vec<(EventValue, u64, u64)> =
                naive(&channels, &first, steps).into_iter().map(|(at, adds, all)| (EventValue::Number(at), adds, all)).collect();
            let found: Vec<(EventValue, u64, u64)> =
                told.iter().map(|step| (step.channel.clone(), step.adds, step.cumulative)).collect();
            prop_assert_eq!(found, wanted);
            for step in &told {
                let group = effect.groups.get(&step.channel);
                let alone = group.map_or((0, 0), |group| (group.reach(), group.exclusive));
                prop_assert_eq!((step.reach, step.exclusive), alone);
            }
        }
    }
}
