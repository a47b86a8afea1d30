//! Who passes rows of facts on, to sinks: a seam.
//!
//! Rows wait in memory (and in the log) for the next checkpoint, which brings them to their tables and forgets them. Before
//! it does, the tap has to have taken what it wants of them, durably; so a checkpoint waits for the tap, and after a crash
//! the rows that may not have been taken are in the log.

use super::Snapshot;
use std::collections::BTreeMap;

/// Takes rows of facts as they come.
pub trait RowTap: std::fmt::Debug + Send + Sync {
    /// Takes the numbered rows of [`Snapshot::recent_rows`] that it does not have yet. When this returns it has them
    /// durably. Called by every checkpoint that would forget rows; its owner calls it earlier, so that rows are passed on soon.
    ///
    /// # Errors
    /// Why it could not; the store then takes no more writes.
    fn take(&self, snapshot: &Snapshot) -> std::io::Result<()>;

    /// Notes what it has taken by now, so that it can let go of it later. `snapshot` shows nobody who was erased before.
    ///
    /// # Errors
    /// Why it could not; it is called again later.
    fn mark(&self, _snapshot: &Snapshot) -> std::io::Result<TapMark> {
        Ok(TapMark::default())
    }

    /// Has nothing more on the disk of what it had taken at a mark.
    ///
    /// # Errors
    /// What is left, and why; it is called again later.
    fn let_go(&self, _mark: &TapMark) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where a tap was: by the number of each queue, the offset behind its last record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapMark(pub BTreeMap<u64, u64>);
