//! Rows of facts as text, and what a history asks of the tables that keep them.

use engine::catalog::Fact;
use engine::ids::TagId;
use engine::store::{FactRow, FactTables, TableError};
use engine::update::{Event, Value};
use engine::vfs::memory::MemoryVfs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where tables are: beside the data directory, since they are not the store's to check.
pub(crate) const FOLDER: &str = "/data/tables";

/// A row as text, and how often it is there.
pub(crate) type Rows = BTreeMap<String, u64>;

/// Opens the tables on a disk as a process does that starts; lives are counted.
pub(crate) type OpenTables = fn(&MemoryVfs, life: u64) -> Result<Arc<dyn Tables>, TableError>;

/// Tables that can be read back.
pub(crate) trait Tables: FactTables {
    /// The rows of a table as a snapshot sees them that has this epoch of it.
    fn rows(&self, name: &str, fact: &Fact, epoch: u64) -> Rows;

    /// Looks after a table, one way or another: no row changes. Whether older epochs can still be read.
    fn tend(&self, name: &str, choice: u64) -> Result<bool, TableError>;

    /// Takes the rows of the days before `day` out of a table.
    fn drop_before(&self, name: &str, day: i32) -> Result<(), TableError>;

    /// Removes what a crash left of removed tables.
    fn sweep(&self) -> Result<(), TableError>;
}

/// User, event id, time, weight, values, fact.
pub(crate) fn text_of(row: &FactRow<'_>, fact: TagId) -> String {
    row_text(row.user_id, row.event.head.event_id, row.event.head.ts, row.weight, &values_of(&row.event), fact)
}

/// The same, of its parts.
pub(crate) fn row_text(user: &str, event_id: &str, ts: i64, weight: i8, values: &str, fact: TagId) -> String {
    format!("{user} {event_id} {ts} {weight} {values} @{}", fact.0)
}

/// Values as text: NULLs at the end are of columns that were declared later.
pub(crate) fn values_of(event: &Event<'_>) -> String {
    let values = event.values().map(|value| match value {
        Value::Text(text) => text.to_owned(),
        Value::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    });
    values.collect::<Vec<_>>().join(" ")
}

/// The time in a row's text.
pub(crate) fn time_of(row: &str) -> i64 {
    row.split(' ').nth(2).and_then(|ts| ts.parse().ok()).expect("a row of ours")
}

/// The fact in a row's text.
pub(crate) fn fact_of(row: &str) -> TagId {
    TagId(row.rsplit_once('@').and_then(|(_, fact)| fact.parse().ok()).expect("a row of ours"))
}
