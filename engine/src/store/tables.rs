//! Where the rows of facts are kept for good: a seam, behind which `engine-sql` keeps Delta Lake tables.
//!
//! A checkpoint makes rows durable in two steps. [`FactTables::stage`] writes files that no table names yet. What it answers
//! goes into a prepared manifest together with everything else of the epoch; once that is durable the epoch will
//! happen. Then [`FactTables::commit`] makes the files part of their tables, and the manifest becomes the state. After a crash
//! in between the prepared manifest is carried out to its end, so a commit may be asked for again and must count once.

use crate::catalog::Fact;
use crate::ids::{ShardId, Slot};
use crate::update::Event;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One row of a fact.
#[derive(Clone, Copy, Debug)]
pub struct FactRow<'a> {
    /// Where the user is.
    pub shard: ShardId,
    /// Where the user is in the shard.
    pub slot: Slot,
    /// The user.
    pub user_id: &'a str,
    /// 1, or −1 for a row that takes an earlier one back and repeats its values.
    pub weight: i8,
    /// What happened.
    pub event: Event<'a>,
}

/// Tables of facts, by the facts' names.
pub trait FactTables: std::fmt::Debug + Send + Sync {
    /// Writes rows as files that nobody sees yet, and syncs them. Answers what [`FactTables::commit`] needs to know.
    ///
    /// # Errors
    /// [`TableError`], also if the table could not take the rows then; nothing is visible, and what was written is removed by
    /// [`FactTables::forget_staged`].
    fn stage(&self, name: &str, fact: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError>;

    /// Makes staged rows part of the table, durably, and once: if the table has this epoch already, nothing is changed.
    /// Answers the version of the table that shows them.
    ///
    /// # Errors
    /// [`TableError`]; whether the rows are in the table is then unknown, and commit is to be called again.
    fn commit(&self, name: &str, fact: &Fact, epoch: u64, staged: &[u8]) -> Result<u64, TableError>;

    /// Removes the table of a fact that was dropped. No table is no error.
    ///
    /// # Errors
    /// [`TableError`]; part of the table may be left, and the next call goes on.
    fn remove(&self, name: &str) -> Result<(), TableError>;

    /// Writes the table anew without the rows of these users, told as slots per shard. What was replaced stays for whoever reads an
    /// older version, until [`FactTables::forget_history`]. No table is no error. Once `stop` is set it ends soon, perhaps before it is
    /// done.
    ///
    /// # Errors
    /// [`TableError`]; some of the rows may be gone.
    fn erase(&self, name: &str, fact: &Fact, users: &[RoaringBitmap], stop: &Arc<AtomicBool>)
    -> Result<(), TableError>;

    /// Removes everything that only older versions of the table have, and those versions, so that no byte of an erased row is left.
    ///
    /// # Errors
    /// [`TableError`]; some of it may be left, and the next call goes on.
    fn forget_history(&self, name: &str) -> Result<(), TableError>;

    /// Removes the files that were staged and never committed. Called after every start, once nothing is under way.
    ///
    /// # Errors
    /// [`TableError`]; what is left does no harm.
    fn forget_staged(&self, name: &str) -> Result<(), TableError>;
}

/// Why a table cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("table of fact `{fact}`: cannot {verb}: {why}")]
pub struct TableError {
    /// The fact.
    pub fact: String,
    /// What was tried.
    pub verb: &'static str,
    /// What went wrong, and what to do about it.
    pub why: String,
}
