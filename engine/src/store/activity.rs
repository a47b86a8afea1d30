//! Recent events of one fact in one shard, and the postings they become.
//!
//! An event is one entry of flat columns: its user, hour and sign, the number of each dimension's value, each measure.
//! Sealing sorts the entries once, deals them out by the values of each dimension, and adds up those of one user, value and
//! slice.

use super::memtable::{Output, Values};
use crate::behavior::Slice as TimeSlice;
use crate::behavior::slice::hour_of;
use crate::bitmap::rising::BitLists;
use crate::catalog::{ColumnType, Fact};
use crate::ids::{Slot, TagId};
use crate::segment::{ActivityKey, Figure, Part, Series};
use crate::update::{Event, Value};
use std::borrow::Cow;

/// Stands for a dimension without a value.
const NO_VALUE: u32 = u32::MAX;

/// Recent events.
#[derive(Debug)]
pub(super) struct ActivityLog {
    entries: Vec<Entry>,
    /// Per entry, per dimension.
    values: Vec<u32>,
    /// Per entry, per measure.
    measures: Vec<i64>,
    /// Per dimension.
    dimensions: Vec<Values>,
    measure_count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: Slot,
    /// By the clocks of the fact's zone.
    hour: i32,
    /// 1, or −1 for what takes an event back.
    weight: i8,
}

impl ActivityLog {
    pub(super) fn new(fact: &Fact) -> ActivityLog {
        ActivityLog {
            entries: Vec::new(),
            values: Vec::new(),
            measures: Vec::new(),
            dimensions: fact.activity.dimensions.iter().map(|_| Values::default()).collect(),
            measure_count: fact.activity.measures.len(),
        }
    }

    /// Appends an event; adds what it costs to `bytes`.
    pub(super) fn push(&mut self, slot: Slot, fact: &Fact, event: &Event<'_>, weight: i8, bytes: &mut usize) {
        let hour = hour_of(fact.zone.local(event.head.ts));
        self.entries.push(Entry { slot, hour, weight });
        let (first_value, first_measure) = (self.values.len(), self.measures.len());
        self.values.resize(first_value + self.dimensions.len(), NO_VALUE);
        self.measures.resize(first_measure + self.measure_count, 0);
        for (column, value) in event.values().enumerate() {
            if let Some(dimension) = fact.dimension(column)
                && let Some(text) = dimension_text(fact.columns[column].column_type, value)
            {
                self.values[first_value + dimension] = self.dimensions[dimension].number(&text, bytes);
            }
            if let (Some(measure), Value::Integer(number)) = (fact.measure(column), value) {
                self.measures[first_measure + measure] = number;
            }
        }
        *bytes += size_of::<Entry>() + self.dimensions.len() * size_of::<u32>() + self.measure_count * size_of::<i64>();
    }

    /// Writes the postings. Hours become days as `now_hour`, of the fact's zone, says.
    pub(super) fn seal(self, out: &mut Output, fact: TagId, now_hour: i32) {
        let (sorted, slices) = self.sorted(now_hour);
        let mut sealer = Sealer { log: &sorted, slices: &slices, out, fact, lists: Default::default() };
        let whole: Vec<u32> = (0..sorted.entries.len() as u32).collect();
        sealer.seal_series(Series::WHOLE, &whole);
        for (dimension, values) in sorted.dimensions.iter().enumerate() {
            let (order, ends) = sorted.by_value(dimension);
            // Keys of a dimension sort by the length of the value first.
            let mut numbers = values.sorted();
            numbers.sort_by_key(|number| values.bytes(*number).len());
            for number in numbers {
                let series = Series { dimension: dimension as u16 + 1, value: values.bytes(number) };
                let begin = number.checked_sub(1).map_or(0, |before| ends[before as usize]);
                sealer.seal_series(series, &order[begin..ends[number as usize]]);
            }
        }
    }

    /// The same events in order of slice and slot, and their slices.
    fn sorted(self, now_hour: i32) -> (ActivityLog, Vec<TimeSlice>) {
        // Slice, slot and place side by side in one number sort several times as fast as by reading them at their places.
        let key = |(at, entry): (usize, &Entry)| {
            let slice = TimeSlice::of_event(entry.hour, now_hour);
            let turned = (slice.number as u32) ^ (1 << 31);
            u128::from(slice.grain as u8) << 96 | u128::from(turned) << 64 | u128::from(entry.slot) << 32 | at as u128
        };
        let mut keys: Vec<u128> = self.entries.iter().enumerate().map(key).collect();
        keys.sort_unstable();
        let order = || keys.iter().map(|key| *key as u32 as usize);
        let slices = order().map(|at| TimeSlice::of_event(self.entries[at].hour, now_hour)).collect();
        let (dimensions, measures) = (self.dimensions.len(), self.measure_count);
        let sorted = ActivityLog {
            entries: order().map(|at| self.entries[at]).collect(),
            values: order().flat_map(|at| &self.values[at * dimensions..][..dimensions]).copied().collect(),
            measures: order().flat_map(|at| &self.measures[at * measures..][..measures]).copied().collect(),
            dimensions: self.dimensions,
            measure_count: measures,
        };
        (sorted, slices)
    }

    /// The events by their value of a dimension, without those that have none; and where each value's end.
    fn by_value(&self, dimension: usize) -> (Vec<u32>, Vec<usize>) {
        let mut places = vec![0; self.dimensions[dimension].count()];
        let values = || self.values.iter().skip(dimension).step_by(self.dimensions.len());
        let known = || values().enumerate().filter(|(_, value)| **value != NO_VALUE);
        known().for_each(|(_, value)| places[*value as usize] += 1);
        let mut total = 0;
        for place in &mut places {
            total += std::mem::replace(place, total);
        }
        let mut order = vec![0; total];
        for (at, value) in known() {
            let place = &mut places[*value as usize];
            order[*place] = at as u32;
            *place += 1;
        }
        (order, places)
    }

    /// What an event adds to a figure.
    fn figure(&self, at: usize, of: usize) -> i128 {
        let number = match of.checked_sub(1) {
            None => 1,
            Some(measure) => i128::from(self.measures[at * self.measure_count + measure]),
        };
        if self.entries[at].weight < 0 { -number } else { number }
    }
}

/// Writes the postings of sorted events.
struct Sealer<'s> {
    log: &'s ActivityLog,
    /// Per event.
    slices: &'s [TimeSlice],
    out: &'s mut Output,
    fact: TagId,
    /// Of a figure's parts above and below 0.
    lists: [BitLists; 2],
}

impl Sealer<'_> {
    /// Writes the postings of one series; its events come in order of slice and slot.
    fn seal_series(&mut self, series: Series<'_>, events: &[u32]) {
        let slices = self.slices;
        for of in 0..=self.log.measure_count {
            for of_slice in events.chunk_by(|a, b| slices[*a as usize] == slices[*b as usize]) {
                self.seal_figure((series, slices[of_slice[0] as usize], of), of_slice);
            }
        }
    }

    /// Writes the postings of one figure of a series in a slice; its events come in order of slot.
    fn seal_figure(&mut self, (series, slice, of): (Series<'_>, TimeSlice, usize), events: &[u32]) {
        let log = self.log;
        let slot = |at: &u32| log.entries[*at as usize].slot;
        for of_user in events.chunk_by(|a, b| slot(a) == slot(b)) {
            let sum: i128 = of_user.iter().map(|at| log.figure(*at as usize, of)).sum();
            self.lists[usize::from(sum < 0)].push(slot(&of_user[0]), sum.unsigned_abs());
        }
        for (is_negative, lists) in [false, true].into_iter().zip(&mut self.lists) {
            let figure = Figure { of: of as u8, is_negative };
            for (bit, users) in lists.iter() {
                let key = ActivityKey { series, slice, figure, bit };
                self.out.put(self.fact, Part::Activity(key), 0, users);
            }
            lists.clear();
        }
    }
}

/// The text by which a dimension's value is counted.
pub(crate) fn dimension_text(column_type: ColumnType, value: Value<'_>) -> Option<Cow<'_, str>> {
    match (column_type, value) {
        (ColumnType::String, Value::Text(text)) => Some(text.into()),
        (ColumnType::Integer, Value::Integer(number)) => Some(number.to_string().into()),
        (ColumnType::Boolean, Value::Boolean(value)) => Some(if value { "true" } else { "false" }.into()),
        _ => None,
    }
}
