//! Recent events of one fact in one shard, and the postings they become.
//!
//! An event is one entry of flat columns: its user, hour and sign, the number of each dimension's value, each measure.
//! Sealing sorts the entries once per dimension and adds up those of one user, value and slice.

use super::memtable::{Output, Values};
use crate::behavior::Slice as TimeSlice;
use crate::behavior::slice::hour_of;
use crate::bitmap::counter::Counter;
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
    pub(super) fn seal(&self, out: &mut Output, fact: TagId, now_hour: i32) {
        let slices: Vec<TimeSlice> =
            self.entries.iter().map(|entry| TimeSlice::of_event(entry.hour, now_hour)).collect();
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        let place = |at: &u32| (slices[*at as usize], self.entries[*at as usize].slot);
        order.sort_unstable_by_key(place);
        self.seal_series(out, fact, Series::WHOLE, &order, &slices);
        for (dimension, values) in self.dimensions.iter().enumerate() {
            let value_of = |at: &u32| self.values[*at as usize * self.dimensions.len() + dimension];
            let mut of_value: Vec<Vec<u32>> = vec![Vec::new(); values.count()];
            for at in order.iter().filter(|at| value_of(at) != NO_VALUE) {
                of_value[value_of(at) as usize].push(*at);
            }
            // Keys of a dimension sort by the length of the value first.
            let mut numbers = values.sorted();
            numbers.sort_by_key(|number| values.bytes(*number).len());
            for number in numbers {
                let series = Series { dimension: dimension as u16 + 1, value: values.bytes(number) };
                self.seal_series(out, fact, series, &of_value[number as usize], &slices);
            }
        }
    }

    /// Writes the postings of one series; its events come in order of slice and slot.
    fn seal_series(&self, out: &mut Output, fact: TagId, series: Series<'_>, order: &[u32], slices: &[TimeSlice]) {
        for of in 0..=self.measure_count {
            for of_slice in order.chunk_by(|a, b| slices[*a as usize] == slices[*b as usize]) {
                self.seal_figure(out, fact, (series, slices[of_slice[0] as usize], of), of_slice);
            }
        }
    }

    /// Writes the postings of one figure of a series in a slice; its events come in order of slot.
    fn seal_figure(
        &self,
        out: &mut Output,
        fact: TagId,
        (series, slice, of): (Series<'_>, TimeSlice, usize),
        events: &[u32],
    ) {
        let sums: Vec<(Slot, i128)> = events
            .chunk_by(|a, b| self.entries[*a as usize].slot == self.entries[*b as usize].slot)
            .map(|of_user| {
                let sum = of_user.iter().map(|at| self.figure(*at as usize, of)).sum();
                (self.entries[of_user[0] as usize].slot, sum)
            })
            .collect();
        for is_negative in [false, true] {
            let part = |sum: i128| if (sum < 0) == is_negative { sum.unsigned_abs() } else { 0 };
            let counter = Counter::of(sums.iter().map(|(slot, sum)| (*slot, part(*sum))));
            let figure = Figure { of: of as u8, is_negative };
            for (bit, users) in counter.into_slices().into_iter().enumerate() {
                let key = ActivityKey { series, slice, figure, bit: bit as u8 };
                out.put_bitmap(fact, Part::Activity(key), 0, users);
            }
        }
    }

    /// What an event adds to a figure.
    fn figure(&self, at: usize, of: usize) -> i128 {
        let weight = i128::from(self.entries[at].weight);
        match of.checked_sub(1) {
            None => weight,
            Some(measure) => weight * i128::from(self.measures[at * self.measure_count + measure]),
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
