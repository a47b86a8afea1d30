//! Who passes rows on: keeps what it took over crashes, as a sink does, and looks that each row comes once.

use crate::rows::{Rows, fact_of, text_of};
use engine::ids::TagId;
use engine::store::{RowTap, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// The rows of each fact, by number.
#[derive(Debug, Default)]
pub(crate) struct RowList(Mutex<BTreeMap<TagId, BTreeMap<u64, String>>>);

impl RowList {
    /// The rows taken of a fact are those found, once each. Rows of days that were dropped from the table were taken before.
    pub(crate) fn check(&self, found: &Rows, fact: TagId, some_were_dropped: bool) {
        let mut taken = Rows::new();
        for row in
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&fact).into_iter().flat_map(BTreeMap::values)
        {
            *taken.entry(row.clone()).or_default() += 1;
        }
        for (row, count) in found.iter().filter(|(row, _)| fact_of(row) == fact) {
            assert_eq!(taken.remove(row), Some(*count), "{row} is passed on as often as it is there");
        }
        assert!(some_were_dropped || taken.is_empty(), "these were passed on and are not there: {taken:?}");
    }
}

impl RowList {
    /// Forgets the rows of these users.
    pub(crate) fn erase(&self, user_ids: &BTreeSet<Vec<u8>>) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = |row: &str| !user_ids.contains(row.split(' ').next().unwrap_or_default().as_bytes());
        taken.values_mut().for_each(|rows| rows.retain(|_, row| is_other(row)));
    }
}

impl RowTap for RowList {
    fn take(&self, snapshot: &Snapshot) -> std::io::Result<()> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, fact) in snapshot.catalog().declared_facts() {
            let taken = taken.entry(fact.id).or_default();
            let next = snapshot.next_row(fact.id);
            for (number, row) in snapshot.recent_rows(fact.id).iter().flat_map(|log| log.numbered()) {
                if !snapshot.shows(row.shard, row.slot) {
                    continue;
                }
                let text = text_of(&row, fact.id);
                assert!(number < next, "row {number} has a number that another will get");
                match taken.get(&number) {
                    Some(known) => assert_eq!(*known, text, "row {number} is another one now"),
                    None => {
                        let last = taken.last_key_value().map(|(last, _)| *last);
                        assert!(last.is_none_or(|last| last < number), "row {number} was passed over");
                        taken.insert(number, text);
                    }
                }
            }
        }
        Ok(())
    }
}
