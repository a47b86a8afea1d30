//! Who passes rows of facts on, to sinks: a seam.
//!
//! Rows wait in memory (and in the log) for the next checkpoint, which brings them to their tables and forgets them. Before
//! it does, the tap has to have taken what it wants of them, durably; so a checkpoint waits for the tap, and after a crash
//! the rows that may not have been taken are in the log.

use super::Snapshot;

/// Takes rows of facts as they come.
pub trait RowTap: std::fmt::Debug + Send + Sync {
    /// Takes the numbered rows of [`Snapshot::recent_rows`] that it does not have yet. When this returns it has them
    /// durably. Called by every checkpoint that would forget rows; its owner calls it earlier, so that rows are passed on soon.
    ///
    /// # Errors
    /// Why it could not; the store then takes no more writes.
    fn take(&self, snapshot: &Snapshot) -> std::io::Result<()>;

    /// Has nothing more on the disk of the rows that it had taken when this was first called for the same erased users.
    ///
    /// # Errors
    /// What is left, and why; it is called again later.
    fn let_go(&self, _is_first: bool) -> std::io::Result<()> {
        Ok(())
    }
}
