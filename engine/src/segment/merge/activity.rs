//! Merges the activity of one fact: counters add up, hours become days, days are summed into months.
//!
//! Nothing hides anything here: every event is in one segment, in one hour or day of it, and what several segments say of a
//! user is added. Of a month that is over and has several slices in the output, a sum is kept besides them; it
//! speaks of this segment alone, so that it is right whatever other segments hold.

use crate::behavior::{Grain, Slice as TimeSlice, Window};
use crate::bitmap::counter::Counter;
use crate::error::MergeError;
use crate::ids::TagId;
use crate::segment::{ActivityKey, Figure, Key, Part, Segment, SegmentWriter, Series};
use std::collections::{BTreeMap, BTreeSet};
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

/// A posting of an input: which input, and its place there.
#[derive(Clone, Copy, Debug)]
struct Source {
    input: usize,
    entry: usize,
    bit: u8,
    /// The slice is the one it will have.
    is_same_slice: bool,
}

/// The postings that become a slice's figure (of both signs).
type Sources = BTreeMap<(u8, TimeSlice), Vec<(bool, Source)>>;

/// Merges `inputs`.
pub(super) fn merge(
    inputs: &[Arc<Segment>],
    fact: TagId,
    rules: ActivityRules,
    writer: &mut SegmentWriter,
) -> Result<(), MergeError> {
    let series: BTreeSet<Series<'_>> = inputs.iter().flat_map(|input| series_of(input, fact)).collect();
    for series in series {
        let sources = sources(inputs, fact, series, rules);
        for ((of, slice), sources) in sources {
            let target = Target { fact, series, slice, of };
            target.write(inputs, &sources, writer)?;
        }
    }
    Ok(())
}

/// The series of a fact in a segment.
fn series_of(segment: &Segment, fact: TagId) -> Vec<Series<'_>> {
    series_within(segment, fact, segment.entries(fact))
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

/// The activity keys of a series, with their places.
fn activity_keys<'s>(
    segment: &'s Segment,
    fact: TagId,
    series: Series<'_>,
) -> impl Iterator<Item = (usize, ActivityKey<'s>)> + use<'s> {
    segment.series_entries(fact, series).filter_map(|entry| activity_key(segment, entry))
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

fn sources(inputs: &[Arc<Segment>], fact: TagId, series: Series<'_>, rules: ActivityRules) -> Sources {
    let mut sources = Sources::new();
    for (input, segment) in inputs.iter().enumerate() {
        // Sums that this input has already, by figure; they come before their days.
        let mut summed = BTreeSet::new();
        for (entry, key) in activity_keys(segment, fact, series) {
            let kept = key.slice.kept_as(rules.now_hour);
            if !rules.is_kept(kept) {
                continue;
            }
            let source = |slice| {
                (key.figure.is_negative, Source { input, entry, bit: key.bit, is_same_slice: slice == key.slice })
            };
            let mut add = |slice: TimeSlice| sources.entry((key.figure.of, slice)).or_default().push(source(slice));
            let month = TimeSlice { grain: Grain::Month, number: kept.month() };
            if kept.grain == Grain::Month {
                summed.insert((key.figure.of, month));
            } else {
                add(kept);
            }
            let is_new = kept.grain == Grain::Month || !summed.contains(&(key.figure.of, month));
            if is_new && rules.is_summed(month.number) {
                add(month);
            }
        }
    }
    keep_useful_months(&mut sources);
    sources
}

/// A sum of one slice would say the same twice.
fn keep_useful_months(sources: &mut Sources) {
    let mut slices: BTreeMap<(u8, i32), u32> = BTreeMap::new();
    for (of, slice) in sources.keys().filter(|(_, slice)| slice.grain != Grain::Month) {
        *slices.entry((*of, slice.month())).or_default() += 1;
    }
    let several = |month: (u8, i32)| slices.get(&month).is_some_and(|slices| *slices > 1);
    sources.retain(|(of, slice), _| slice.grain != Grain::Month || several((*of, slice.number)));
}

/// A figure of a slice in the output.
struct Target<'t> {
    fact: TagId,
    series: Series<'t>,
    slice: TimeSlice,
    of: u8,
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
        sources: &[(bool, Source)],
        writer: &mut SegmentWriter,
    ) -> Result<(), MergeError> {
        let first = sources[0].1.input;
        if sources.iter().all(|(_, source)| source.is_same_slice && source.input == first) {
            for (is_negative, source) in sources {
                let bitmap = inputs[first].posting_at(source.entry)?.bitmap;
                writer.add_serialized(self.key(*is_negative, source.bit), 0, bitmap.len(), bitmap.as_bytes())?;
            }
            return Ok(());
        }
        let [mut plus, mut minus] = [Counter::default(), Counter::default()];
        for (is_negative, source) in sources {
            let users = inputs[source.input].posting_at(source.entry)?.bitmap.to_bitmap();
            let counter = if *is_negative { &mut minus } else { &mut plus };
            counter.add(source.bit.into(), users);
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
