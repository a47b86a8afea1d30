//! A generated ad population: deterministic, any user computable from the seed and its index alone.

use crate::user::User;
use engine::catalog::Catalog;
use engine::update::UpdateBatch;
use std::ops::Range;
use std::path::Path;

/// A population.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    /// The seed; the same seed gives the same users for good.
    pub seed: u64,
    /// How many users.
    pub user_count: u64,
}

impl Population {
    /// The user of this index.
    pub fn user(&self, index: u64) -> User {
        let _ = index;
        todo!()
    }

    /// The users of a range of indexes.
    pub fn users(&self, range: Range<u64>) -> impl Iterator<Item = User> + '_ {
        range.map(|index| self.user(index))
    }

    /// A fast way from indexes to batches for the tags as `catalog` numbers them; `None` if it lacks one.
    pub fn filler(&self, catalog: &Catalog) -> Option<PopulationFiller> {
        let _ = catalog;
        todo!()
    }

    /// The stream of live updates: update `n` of an endless sequence.
    pub fn live(&self, catalog: &Catalog) -> Option<LiveUpdates> {
        let _ = catalog;
        todo!()
    }

    /// Writes a range as NDJSON lines of `POST /v1/tags`.
    pub fn write_ndjson(&self, range: Range<u64>, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let _ = (range, out);
        todo!()
    }

    /// Writes a range as one Parquet file, a column per tag (`user_id` first; sets as lists).
    pub fn write_parquet(&self, range: Range<u64>, path: &Path) -> std::io::Result<()> {
        let _ = (range, path);
        todo!()
    }
}

/// See [`Population::filler`].
#[derive(Clone, Debug)]
pub struct PopulationFiller {}

impl PopulationFiller {
    /// Appends the users of a range of indexes.
    pub fn fill(&mut self, range: Range<u64>, batch: &mut UpdateBatch) {
        let _ = (range, batch);
        todo!()
    }
}

/// See [`Population::live`].
#[derive(Clone, Debug)]
pub struct LiveUpdates {}

impl LiveUpdates {
    /// Appends the next `count` updates as of `now` (microseconds since 1970).
    pub fn fill(&mut self, count: usize, now: i64, batch: &mut UpdateBatch) {
        let _ = (count, now, batch);
        todo!()
    }

    /// Updates a second at the time of day of `now`, for a mean of `mean`: quiet at night, a peak in the evening.
    pub fn rate_at(&self, now: i64, mean: f64) -> f64 {
        let _ = (now, mean);
        todo!()
    }
}
