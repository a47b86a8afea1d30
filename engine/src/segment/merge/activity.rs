//! Merges the activity of one fact: counters add up, hours become days, days are summed into months.
//!
//! Nothing hides anything here: every event is in one segment, in one hour or day of it, and what several segments say of a
//! user is added. Of a month that is over and has several slices in the output, a sum is kept besides them; it
//! speaks of this segment alone, so that it is right whatever other segments hold.

use crate::behavior::{Grain, Slice as TimeSlice, Window};
use crate::bitmap::counter::Counter;
use crate::bitmap::rising::BitLists;
use crate::bitmap::sums::{BIT_MAX, ChunkSums, Slice};
use crate::error::MergeError;
use crate::ids::TagId;
use crate::segment::{ActivityKey, Figure, Key, Part, Segment, SegmentWriter, Series};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

/// How the activity of a fact is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivityRules {
    /// The present hour, by the clocks of the fact's zone.
    pub now_hour: i32,
    /// The first hour that is kept.
    pub kept_from: i32,
    /// Whether months are summed: what is read often should be, what is merged again soon need not.
    pub sum_months: bool,
}

impl ActivityRules {
    fn is_kept(&self, slice: TimeSlice) -> bool {
        slice.hours().to > self.kept_from
    }

    /// Whether a sum of this month is of use: it is over, and no day of it is due to go.
    fn is_summed(&self, month: i32) -> bool {
        let hours = TimeSlice { grain: Grain::Month, number: month }.hours();
        self.sum_months && hours.to <= self.now_hour && hours.from >= self.kept_from
    }
}

/// A posting of an input, and what it becomes part of.
#[derive(Clone, Copy, Debug)]
struct Source {
    of: u8,
    /// Of the output.
    slice: TimeSlice,
    is_negative: bool,
    bit: u8,
    input: u32,
    entry: u32,
    /// The slice is the one it had.
    is_same_slice: bool,
}

impl Source {
    /// What the posting becomes part of.
    fn target(&self) -> (u8, TimeSlice) {
        (self.of, self.slice)
    }
}

/// Merges `inputs`.
pub(super) fn merge(
    inputs: &[Arc<Segment>],
    fact: TagId,
    rules: ActivityRules,
    erased: &RoaringBitmap,
    writer: &mut SegmentWriter,
) -> Result<(), MergeError> {
    merge_with(inputs, fact, rules, erased, MEMBERS_SOME, writer)
}

fn merge_with(
    inputs: &[Arc<Segment>],
    fact: TagId,
    rules: ActivityRules,
    erased: &RoaringBitmap,
    members_some: u64,
    writer: &mut SegmentWriter,
) -> Result<(), MergeError> {
    let mut walks: Vec<_> = inputs.iter().map(|input| fact_keys(input, fact).peekable()).collect();
    let next_series = |walk: &mut Peekable<_>| walk.peek().map(|(_, key): &(usize, ActivityKey<'_>)| key.series);
    let scratch = Scratch { members_some, ..Scratch::default() };
    let mut merger = Merger { inputs, fact, rules, erased, writer, sources: Vec::new(), scratch };
    while let Some(series) = walks.iter_mut().filter_map(next_series).min() {
        merger.sources.clear();
        for (input, walk) in walks.iter_mut().enumerate() {
            merger.collect(input, std::iter::from_fn(|| walk.next_if(|(_, key)| key.series == series)));
        }
        merger.write(series)?;
    }
    Ok(())
}

/// The activity keys of a fact, with their places.
fn fact_keys(segment: &Segment, fact: TagId) -> impl Iterator<Item = (usize, ActivityKey<'_>)> {
    segment.keys(segment.entries(fact)).filter_map(|(entry, key)| match key.part {
        Part::Activity(key) => Some((entry, key)),
        _ => None,
    })
}

/// The series of one dimension (counted from 1) of a fact in a segment.
pub(crate) fn dimension_series(segment: &Segment, fact: TagId, dimension: u16) -> Vec<Series<'_>> {
    series_within(segment, fact, segment.dimension_entries(fact, dimension))
}

/// Leaps from one series to the next.
fn series_within(segment: &Segment, fact: TagId, entries: Range<usize>) -> Vec<Series<'_>> {
    let mut found = Vec::new();
    let mut at = entries.start;
    while at < entries.end {
        let Part::Activity(key) = segment.key_at(at).part else { break };
        found.push(key.series);
        at = segment.series_entries(fact, key.series).end;
    }
    found
}

/// The activity keys of one figure of a series within a window that whole slices of this length make up.
pub(crate) fn keys_within<'s>(
    segment: &'s Segment,
    (fact, series, figure): (TagId, Series<'_>, u8),
    grain: Grain,
    window: Window,
) -> impl Iterator<Item = (usize, ActivityKey<'s>)> + use<'s> {
    let slices = window.slices(grain);
    let slice = |number| TimeSlice { grain, number };
    let entries = segment.slice_entries(fact, series, figure, slice(slices.start), slice(slices.end));
    entries.filter_map(|entry| activity_key(segment, entry))
}

fn activity_key(segment: &Segment, entry: usize) -> Option<(usize, ActivityKey<'_>)> {
    match segment.key_at(entry).part {
        Part::Activity(key) => Some((entry, key)),
        _ => None,
    }
}

struct Merger<'m> {
    inputs: &'m [Arc<Segment>],
    fact: TagId,
    rules: ActivityRules,
    /// See [`super::MergeRules::erased`].
    erased: &'m RoaringBitmap,
    writer: &'m mut SegmentWriter,
    /// Of the series at hand.
    sources: Vec<Source>,
    scratch: Scratch,
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    /// See [`MEMBERS_SOME`].
    members_some: u64,
    sums: ChunkSums,
    plus: BitLists,
    minus: BitLists,
}

/// Postings that have fewer members together, for each chunk that they have users in, are added up user by user. With more of
/// them, a dozen bits are mostly bit sets, and adding those costs a few words an event.
const MEMBERS_SOME: u64 = 32_768;

impl Merger<'_> {
    /// Notes what an input's keys of the series become.
    fn collect<'k>(&mut self, input: usize, keys: impl Iterator<Item = (usize, ActivityKey<'k>)>) {
        let rules = self.rules;
        // Sums that this input has already, by figure; they come before their days.
        let mut summed = BTreeSet::new();
        // A slice has many keys in a row.
        let mut last: Option<(TimeSlice, Option<TimeSlice>)> = None;
        for (entry, key) in keys {
            let kept = key.slice.kept_as(rules.now_hour);
            if !rules.is_kept(kept) {
                continue;
            }
            let month = match last {
                Some((slice, month)) if slice == kept => month,
                _ => rules.summed_in(kept),
            };
            last = Some((kept, month));
            let of = key.figure.of;
            let mut add = |slice: TimeSlice| {
                self.sources.push(Source {
                    of,
                    slice,
                    is_negative: key.figure.is_negative,
                    bit: key.bit,
                    input: input as u32,
                    entry: entry as u32,
                    is_same_slice: slice == key.slice,
                });
            };
            if kept.grain != Grain::Month {
                add(kept);
            } else if let Some(month) = month {
                summed.insert((of, month));
                add(month);
                continue;
            }
            if let Some(month) = month.filter(|month| !summed.contains(&(of, *month))) {
                add(month);
            }
        }
    }

    /// Writes a series.
    fn write(&mut self, series: Series<'_>) -> Result<(), MergeError> {
        // Stable, so that those of one input stay in the order of their keys.
        self.sources.sort_by_key(Source::target);
        if self.sources.iter().any(|source| source.slice.grain == Grain::Month) {
            keep_useful_months(&mut self.sources);
        }
        let Merger { inputs, fact, erased, writer, sources, scratch, .. } = self;
        for sources in sources.chunk_by(|a, b| a.target() == b.target()) {
            let (of, slice) = sources[0].target();
            let target = Target { fact: *fact, series, slice, of, erased };
            target.write(inputs, sources, writer, scratch)?;
        }
        Ok(())
    }
}

impl ActivityRules {
    /// The month in whose sum a slice is, if there is to be one.
    fn summed_in(&self, slice: TimeSlice) -> Option<TimeSlice> {
        let number = self.sum_months.then(|| slice.month())?;
        self.is_summed(number).then_some(TimeSlice { grain: Grain::Month, number })
    }
}

/// A sum of one slice would say the same twice.
fn keep_useful_months(sources: &mut Vec<Source>) {
    let mut slices: BTreeMap<(u8, i32), u32> = BTreeMap::new();
    for same in sources.chunk_by(|a, b| a.target() == b.target()) {
        if same[0].slice.grain != Grain::Month {
            *slices.entry((same[0].of, same[0].slice.month())).or_default() += 1;
        }
    }
    let several = |month: (u8, i32)| slices.get(&month).is_some_and(|slices| *slices > 1);
    sources.retain(|source| source.slice.grain != Grain::Month || several((source.of, source.slice.number)));
}

/// A figure of a slice in the output.
struct Target<'t> {
    fact: TagId,
    series: Series<'t>,
    slice: TimeSlice,
    of: u8,
    erased: &'t RoaringBitmap,
}

impl Target<'_> {
    fn key(&self, is_negative: bool, bit: u8) -> Key<'_> {
        let figure = Figure { of: self.of, is_negative };
        let part = Part::Activity(ActivityKey { series: self.series, slice: self.slice, figure, bit });
        Key { tag: self.fact, part }
    }

    fn write(
        &self,
        inputs: &[Arc<Segment>],
        sources: &[Source],
        writer: &mut SegmentWriter,
        scratch: &mut Scratch,
    ) -> Result<(), MergeError> {
        let first = sources[0].input;
        if self.erased.is_empty() && sources.iter().all(|source| source.is_same_slice && source.input == first) {
            for source in sources {
                writer.add_stored(&inputs[first as usize].stored_at(source.entry as usize)?)?;
            }
            return Ok(());
        }
        let mut slices = Vec::with_capacity(sources.len());
        for source in sources {
            let users = inputs[source.input as usize].posting_at(source.entry as usize)?.bitmap;
            slices.push(Slice { users, bit: source.bit, is_negative: source.is_negative });
        }
        let members: u64 = slices.iter().map(|slice| slice.users.len()).sum();
        let chunks = slices.iter().map(|slice| slice.users.container_count()).max().unwrap_or(0);
        if members < scratch.members_some.saturating_mul(chunks as u64)
            && sources.iter().all(|source| source.bit <= BIT_MAX)
        {
            self.add_members(&slices, writer, scratch)
        } else {
            self.add_bitmaps(&slices, writer)
        }
    }

    /// Adds up user by user.
    fn add_members(
        &self,
        slices: &[Slice<'_>],
        writer: &mut SegmentWriter,
        scratch: &mut Scratch,
    ) -> Result<(), MergeError> {
        let Scratch { sums, plus, minus, .. } = scratch;
        sums.add_up(slices, plus, minus);
        for (is_negative, lists) in [(false, plus), (true, minus)] {
            for (bit, users) in lists.iter() {
                if self.erased.is_empty() {
                    writer.add_rising(self.key(is_negative, bit), 0, users)?;
                    continue;
                }
                let left: Vec<_> = users.iter().copied().filter(|slot| !self.erased.contains(*slot)).collect();
                writer.add_rising(self.key(is_negative, bit), 0, &left)?;
            }
            lists.clear();
        }
        Ok(())
    }

    /// Adds up bit by bit.
    fn add_bitmaps(&self, slices: &[Slice<'_>], writer: &mut SegmentWriter) -> Result<(), MergeError> {
        let [mut plus, mut minus] = [Counter::default(), Counter::default()];
        for slice in slices {
            let counter = if slice.is_negative { &mut minus } else { &mut plus };
            counter.add(slice.bit.into(), slice.users.to_bitmap() - self.erased);
        }
        plus.settle(&mut minus);
        for (is_negative, counter) in [(false, plus), (true, minus)] {
            for (bit, mut users) in counter.into_slices().into_iter().enumerate() {
                users.optimize();
                writer.add(self.key(is_negative, bit as u8), 0, &users)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FACT: TagId = TagId(20);

    /// Numbers of users by series, figure, slice and sign.
    type Model = BTreeMap<(Vec<u8>, u8, i32), BTreeMap<u32, i64>>;

    fn model() -> impl Strategy<Value = Model> {
        let key = ("[ab]{0,2}".prop_map(String::into_bytes), 0..2u8, 990..1_010i32);
        let slot = prop_oneof![0..40u32, 65_530..65_540u32];
        let number = prop_oneof![3 => -9..9i64, 1 => any::<i32>().prop_map(i64::from)];
        proptest::collection::btree_map(key, proptest::collection::btree_map(slot, number, 1..20), 0..20)
    }

    fn series_of(value: &[u8]) -> Series<'_> {
        Series { dimension: u16::from(!value.is_empty()), value }
    }

    fn segment(model: &Model) -> Arc<Segment> {
        let mut writer = SegmentWriter::in_memory();
        let mut keys: Vec<_> = model.iter().collect();
        let slice = |hour| TimeSlice { grain: Grain::Hour, number: hour };
        keys.sort_by_key(|((value, of, hour), _)| (series_of(value), *of, slice(*hour)));
        for ((value, of, hour), numbers) in keys {
            let erased = &RoaringBitmap::new();
            let target = Target { fact: FACT, series: series_of(value), slice: slice(*hour), of: *of, erased };
            for is_negative in [false, true] {
                let mut lists = BitLists::default();
                let part = numbers.iter().filter(|(_, number)| (**number < 0) == is_negative);
                part.for_each(|(slot, number)| lists.push(*slot, number.unsigned_abs().into()));
                for (bit, users) in lists.iter() {
                    writer.add_rising(target.key(is_negative, bit), 0, users).expect("memory does not fail");
                }
            }
        }
        Arc::new(writer.into_segment())
    }

    /// The number of every user, who has it in one of its parts only.
    fn read(segment: &Segment) -> BTreeMap<(Vec<u8>, u8, TimeSlice, u32), i128> {
        let mut read = BTreeMap::new();
        for (entry, key) in fact_keys(segment, FACT) {
            for slot in segment.posting_at(entry).expect("good").bitmap.iter() {
                let at = (key.series.value.to_vec(), key.figure.of, key.slice, slot);
                let number: &mut i128 = read.entry(at).or_default();
                assert!(*number == 0 || (*number < 0) == key.figure.is_negative, "one sign");
                *number += if key.figure.is_negative { -1 << key.bit } else { 1 << key.bit };
            }
        }
        read
    }

    proptest! {
        #[test]
        fn users_and_bitmaps_add_up_to_the_same(
            models in proptest::collection::vec(model(), 1..5),
            now_hour in 1_000..1_100i32,
            erased in proptest::collection::vec(prop_oneof![0..40u32, 65_530..65_540u32], 0..10),
        ) {
            let erased: RoaringBitmap = erased.into_iter().collect();
            let rules = ActivityRules { now_hour, kept_from: 995, sum_months: false };
            let inputs: Vec<Arc<Segment>> = models.iter().map(segment).collect();
            let merged = |members_some: u64| {
                let mut writer = SegmentWriter::in_memory();
                merge_with(&inputs, FACT, rules, &erased, members_some, &mut writer).expect("merges");
                let merged = Segment::from_memory(writer.finish_in_memory()).expect("valid");
                merged.verify().expect("good");
                read(&merged)
            };
            let mut expected = BTreeMap::new();
            for ((value, of, hour), numbers) in models.iter().flatten() {
                let kept = TimeSlice { grain: Grain::Hour, number: *hour }.kept_as(now_hour);
                if rules.is_kept(kept) {
                    for (slot, number) in numbers {
                        *expected.entry((value.clone(), *of, kept, *slot)).or_insert(0) += i128::from(*number);
                    }
                }
            }
            expected.retain(|(.., slot), number| *number != 0 && !erased.contains(*slot));
            prop_assert_eq!(&merged(0), &expected);
            prop_assert_eq!(&merged(10), &expected);
            prop_assert_eq!(&merged(u64::MAX), &expected);
        }
    }
}
