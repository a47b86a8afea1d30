//! Events told one by one: when each happened, and which conditions it fulfils.

use super::Failure;
use super::condition::{Bits, filter_any, filter_when, meant};
use super::reading::{Gather, Rows, Wanted, columns_of, damaged};
use super::texts::Conditions;
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::{TimestampMicrosecondType, UInt32Type};
use datafusion::prelude::ident;
use engine::audience::scan::EventScan;
use engine::catalog::Fact;
use engine::journey::Event;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::sync::Arc;

/// The rows that fulfil any condition, of some users only if there are `few`: their time, and what each fulfils; of one condition alone that
/// is known.
pub(super) fn wanted(fact: &Fact, scan: &EventScan, few: Option<&Arc<Vec<RoaringBitmap>>>) -> Wanted {
    let conditions = Conditions::of(&scan.conditions);
    let mut values = vec![ident("ts")];
    if scan.conditions.len() > 1 {
        let numbered = conditions.bits(fact).into_iter().enumerate();
        values.extend(numbered.map(|(at, bits)| bits.alias(format!("texts {at}"))));
        let fulfilled = |(number, window, condition): &&(usize, _, _)| {
            meant(fact, *window, condition).alias(format!("fulfils {number}"))
        };
        values.extend(conditions.others.iter().map(fulfilled));
    }
    let columns = scan.conditions.iter().flat_map(|(_, _, condition)| columns_of(fact, condition)).collect();
    // Beside what conditions look at only the time is read, which costs less than to ask them twice.
    let filter = match scan.conditions.as_slice() {
        [_] => filter_any(fact, &scan.conditions, few),
        all => filter_when(fact, all, few),
    };
    Wanted { filter, values, columns }
}

/// Events, and those that take others back.
pub(super) struct Told {
    /// What every event fulfils.
    always: u32,
    /// Columns of bits.
    bit_columns: usize,
    /// What each column of a condition stands for.
    bits: Vec<u32>,
    /// Whose; `None`: of all that are read.
    users: Option<Arc<Bits>>,
    shards: Vec<Vec<Event>>,
    taken_back: Vec<Vec<Event>>,
}

impl Told {
    /// Of the conditions of a scan.
    pub(super) fn new(shard_count: usize, scan: &EventScan, users: Option<Arc<Bits>>) -> Told {
        let none = vec![Vec::new(); shard_count];
        let told = Told { always: 0, bit_columns: 0, bits: Vec::new(), users, shards: none.clone(), taken_back: none };
        match scan.conditions.as_slice() {
            [(number, ..)] => Told { always: 1 << number, ..told },
            _ => {
                let conditions = Conditions::of(&scan.conditions);
                let bits = conditions.others.iter().map(|(number, ..)| 1 << number).collect();
                Told { bit_columns: conditions.column_count(), bits, ..told }
            }
        }
    }

    /// Those that were not taken back, per shard.
    pub(super) fn finish(mut self) -> Vec<Vec<Event>> {
        for (events, taken_back) in self.shards.iter_mut().zip(&mut self.taken_back) {
            if !taken_back.is_empty() {
                leave_out(events, taken_back, Event::order);
            }
        }
        self.shards
    }
}

/// Takes out one event for each that is taken back: one that repeats it in all but its weight. What the order does not tell apart is equal.
pub(super) fn leave_out<E: PartialEq>(
    events: &mut Vec<E>,
    taken_back: &mut [E],
    order: impl Fn(&E, &E) -> Ordering + Copy,
) {
    events.sort_unstable_by(order);
    taken_back.sort_unstable_by(order);
    let mut rest = taken_back.iter().peekable();
    events.retain(|event| {
        // What takes back an event that is not there takes back nothing.
        while rest.next_if(|other| order(other, event).is_lt()).is_some() {}
        rest.next_if(|other| *other == event).is_none()
    });
}

impl Gather for Told {
    fn add(&mut self, rows: &Rows<'_>) -> Result<(), Failure> {
        let Some((times, conditions)) = rows.values().split_first() else { return Err(damaged("rows have no time")) };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.filter(|times| times.null_count() == 0).ok_or_else(|| damaged("ts is no time"))?;
        let (bits, conditions) = conditions.split_at_checked(self.bit_columns).ok_or_else(|| damaged("no bits"))?;
        let bits: Vec<&[u32]> = bits.iter().map(|bits| bits.as_primitive::<UInt32Type>().values().as_ref()).collect();
        let conditions: Vec<&BooleanArray> = conditions.iter().map(|condition| condition.as_boolean()).collect();
        for row in 0..rows.len() {
            let Some((shard, slot)) = rows.user(row) else { continue };
            if self.users.as_ref().is_some_and(|users| !users.has(shard as i32, slot.into())) {
                continue;
            }
            let mut fulfils = bits.iter().fold(self.always, |fulfils, bits| fulfils | bits[row]);
            for (condition, bit) in conditions.iter().zip(&self.bits) {
                fulfils |= if condition.value(row) { *bit } else { 0 };
            }
            if fulfils == 0 {
                continue;
            }
            let to = if rows.weight(row) < 0 { &mut self.taken_back } else { &mut self.shards };
            to[shard].push(Event { time: times.value(row), fulfils, group: slot });
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), Failure> {
        let pairs = self.shards.iter_mut().zip(other.shards).chain(self.taken_back.iter_mut().zip(other.taken_back));
        for (own, other) in pairs {
            if own.is_empty() { *own = other } else { own.extend(other) }
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let events: usize = self.shards.iter().chain(&self.taken_back).map(Vec::capacity).sum();
        events * size_of::<Event>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_gone_once() {
        let event = |time: i64, fulfils: u32, group: u32| Event { time, fulfils, group };
        let mut events = vec![event(5, 1, 2), event(5, 2, 2), event(4, 1, 2), event(5, 1, 2), event(5, 1, 3)];
        let mut taken_back = [event(5, 1, 2), event(3, 1, 2), event(5, 1, 3), event(9, 1, 9)];
        leave_out(&mut events, &mut taken_back, Event::order);
        assert_eq!(events, [event(4, 1, 2), event(5, 1, 2), event(5, 2, 2)]);
    }
}
