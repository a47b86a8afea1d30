//! Entries of as many users as are learned from, whole users each, however many there are and in whatever order their events come.
//!
//! A user is in the sample if a hash of the user id falls below a bound, which is halved whenever there are too many entries. How often
//! that happens depends on all entries together and not on their order, so the sample does neither. Names of items are not kept, only
//! their hashes: two of the same would be taken for one item.

use super::{hash_of, sum};
use std::cmp::Reverse;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Entries that are learned from, unless it is said otherwise: more of them move the factors less than a day of new events does. While
/// they are gathered they take up to 50 bytes each.
pub const ENTRIES_MAX: usize = 1 << 22;

/// Events of users, added up by user and item.
#[derive(Clone, Debug)]
pub struct Sample {
    entries: Vec<Entry>,
    entries_max: usize,
    random_seed: u64,
    /// How often the bound was halved.
    halved: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    user: u64,
    item: u64,
    weight: f64,
}

/// An item of a finished sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) hash: u64,
    /// How many users have it.
    pub(super) users: u32,
}

/// A sample as it is learned from.
#[derive(Debug)]
pub(super) struct Sampled {
    /// Users with an entry.
    pub(super) users: usize,
    pub(super) one_of: u64,
    pub(super) entries: Sparse,
    /// By place.
    pub(super) items: Vec<Item>,
    pub(super) items_left_out: usize,
}

/// Rows of few entries each, none of them empty.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// Where each row ends.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl Sample {
    /// An empty one, which will keep at most `entries_max` entries, at least one user's. The seed decides which users.
    pub fn new(entries_max: usize, random_seed: u64) -> Sample {
        Sample { entries: Vec::new(), entries_max: entries_max.max(1), random_seed, halved: 0 }
    }

    /// Adds what a user dealt with once. A weight that is not finite says nothing; one below zero takes back.
    pub fn add(&mut self, user: &[u8], item: &[u8], weight: f64) {
        let user = xxh3_64_with_seed(user, self.random_seed);
        if !weight.is_finite() || !self.has(user) {
            return;
        }
        self.entries.push(Entry { user, item: hash_of(item), weight });
        if self.entries.len() >= self.entries_max.saturating_mul(2) {
            self.shrink();
        }
    }

    fn has(&self, user: u64) -> bool {
        user <= u64::MAX.checked_shr(self.halved).unwrap_or(0)
    }

    /// Adds up entries of one user and item; if there are still too many, leaves out users.
    fn shrink(&mut self) {
        self.merge();
        while self.entries.len() > self.entries_max && self.halved < u64::BITS {
            let first = self.entries[0].user;
            if self.entries.iter().all(|entry| entry.user == first) {
                break;
            }
            self.halved += 1;
            let bound = u64::MAX.checked_shr(self.halved).unwrap_or(0);
            let within = self.entries.partition_point(|entry| entry.user <= bound);
            self.entries.truncate(within);
        }
    }

    fn merge(&mut self) {
        let key = |entry: &Entry| (entry.user, entry.item);
        self.entries.sort_unstable_by(|a, b| key(a).cmp(&key(b)).then(a.weight.total_cmp(&b.weight)));
        let (mut kept, mut from) = (0, 0);
        while from < self.entries.len() {
            let first = self.entries[from];
            let len = self.entries[from..].iter().take_while(|entry| key(entry) == key(&first)).count();
            let weight = sum(self.entries[from..from + len].iter().map(|entry| entry.weight));
            self.entries[kept] = Entry { weight, ..first };
            (kept, from) = (kept + 1, from + len);
        }
        self.entries.truncate(kept);
    }

    /// Rows of users by the items that most of them have, at most so many; of as many users the lower hash wins.
    pub(super) fn finish(mut self, items_max: usize) -> Sampled {
        self.shrink();
        self.entries.retain(|entry| entry.weight > 0.0);
        let mut hashes: Vec<u64> = self.entries.iter().map(|entry| entry.item).collect();
        hashes.sort_unstable();
        let of_same = |same: &[u64]| Item { hash: same[0], users: u32::try_from(same.len()).unwrap_or(u32::MAX) };
        let mut items: Vec<Item> = hashes.chunk_by(|a, b| a == b).map(of_same).collect();
        items.sort_unstable_by_key(|item| (Reverse(item.users), item.hash));
        let items_left_out = items.len().saturating_sub(items_max);
        items.truncate(items_max);
        items.sort_unstable_by_key(|item| item.hash);
        let mut entries = Sparse::default();
        for row in self.entries.chunk_by(|a, b| a.user == b.user) {
            let place = |entry: &Entry| items.binary_search_by_key(&entry.item, |item| item.hash).ok();
            entries.push(row.iter().filter_map(|entry| Some((place(entry)? as u32, entry.weight))));
        }
        let one_of = 1_u64.checked_shl(self.halved).unwrap_or(u64::MAX);
        Sampled { users: entries.ends.len(), one_of, entries, items, items_left_out }
    }
}

impl Sparse {
    /// Appends a row, unless it is empty.
    pub(super) fn push(&mut self, row: impl Iterator<Item = (u32, f64)>) {
        for (column, value) in row {
            self.columns.push(column);
            self.values.push(value);
        }
        if self.columns.len() > self.ends.last().copied().unwrap_or(0) {
            self.ends.push(self.columns.len());
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied()
    }

    /// Columns and values of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&[u32], &[f64])> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(from, to)| (&self.columns[from..*to], &self.values[from..*to]))
    }

    /// How many columns there are, at least.
    pub(super) fn width(&self) -> usize {
        self.columns.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// Makes other entries of entries, then each row as long as any other: one. Rows without a length become zeros.
    pub(super) fn scale_rows(&mut self, entry: impl Fn(u32, f64) -> f64) {
        let mut from = 0;
        for to in &self.ends {
            let values = &mut self.values[from..*to];
            for (column, value) in self.columns[from..*to].iter().zip(values.iter_mut()) {
                *value = entry(*column, *value);
            }
            let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            values.iter_mut().for_each(|value| *value *= scale);
            from = *to;
        }
    }

    /// The sum of all squares.
    pub(super) fn squares(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookalike::random::Random;

    fn finished(entries_max: usize, mut events: Vec<(u32, u32)>, order: u64) -> (usize, u64, usize, Vec<f64>) {
        Random::new(order).shuffle(&mut events);
        let mut sample = Sample::new(entries_max, 5);
        for (user, item) in events {
            sample.add(&user.to_le_bytes(), &item.to_le_bytes(), 1.0);
        }
        let sampled = sample.finish(usize::MAX);
        (sampled.users, sampled.one_of, sampled.items.len(), sampled.entries.values().collect())
    }

    #[test]
    fn the_order_of_events_does_not_matter() {
        let events: Vec<(u32, u32)> = (0..40_000).map(|event| (event % 3_000, event % 7)).collect();
        let all = finished(usize::MAX, events.clone(), 0);
        assert_eq!((all.0, all.1, all.2), (3_000, 1, 7));
        for entries_max in [1, 100, 5_000, 20_000] {
            let first = finished(entries_max, events.clone(), 1);
            assert_eq!(first, finished(entries_max, events.clone(), 2));
            assert!(first.3.len() <= entries_max.max(7), "{entries_max}: {}", first.3.len());
            assert!(first.0 >= 1 && first.1 >= 2, "{entries_max}: {first:?}");
        }
    }

    #[test]
    fn whole_users_are_sampled_and_the_commonest_items_kept() {
        let mut sample = Sample::new(1_000, 3);
        for user in 0..2_000_u32 {
            for item in 0..4_u32 {
                // Item 3 is rare, item 2 is taken back by half of them.
                let weight = if item == 3 && user % 10 != 0 { 0.0 } else { 2.0 };
                sample.add(&user.to_le_bytes(), &item.to_le_bytes(), weight);
                if item == 2 && user % 2 == 0 {
                    sample.add(&user.to_le_bytes(), &item.to_le_bytes(), -2.0);
                }
            }
            sample.add(&user.to_le_bytes(), &[9], f64::NAN);
        }
        let sampled = sample.finish(2);
        assert_eq!((sampled.items.len(), sampled.items_left_out), (2, 2));
        assert!(sampled.items.iter().all(|item| item.users as usize == sampled.users), "{:?}", sampled.items);
        assert!(sampled.entries.rows().all(|(columns, values)| columns == [0, 1] && values == [2.0, 2.0]));
    }
}
