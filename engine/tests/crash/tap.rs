//! Who passes rows on: keeps what it took over crashes, as a sink does, and looks that each row comes once.

use crate::tables::{Rows, text_of};
use engine::ids::TagId;
use engine::store::{RowTap, Snapshot};
use std::sync::{Mutex, PoisonError};

/// The rows of one fact, by number.
#[derive(Debug)]
pub(crate) struct RowList {
    pub(crate) fact: TagId,
    pub(crate) taken: Mutex<Vec<String>>,
}

impl RowList {
    /// How often each row was taken.
    pub(crate) fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        for row in &*self.taken.lock().unwrap_or_else(PoisonError::into_inner) {
            *rows.entry(row.clone()).or_default() += 1;
        }
        rows
    }
}

impl RowTap for RowList {
    fn take(&self, snapshot: &Snapshot) -> std::io::Result<()> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, row) in snapshot.recent_rows(self.fact).iter().flat_map(|log| log.numbered()) {
            let text = text_of(&row);
            match taken.get(number as usize) {
                Some(known) => assert_eq!(*known, text, "row {number} is another one now"),
                None => {
                    assert_eq!(number as usize, taken.len(), "a row was passed over");
                    taken.push(text);
                }
            }
        }
        assert_eq!(snapshot.next_row(self.fact) as usize, taken.len());
        Ok(())
    }
}
