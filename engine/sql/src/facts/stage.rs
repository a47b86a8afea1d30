//! Rows become files that no table names yet.

use super::Shared;
use super::file::{FileWriter, day_name};
use super::names::{FileName, new_name};
use super::rows::{RowError, day_of, each_batch};
use super::schema::file_schema;
use super::staged::{Staged, StagedFile};
use engine::catalog::Fact;
use engine::store::FactRow;
use parquet::errors::ParquetError;
use std::time::{SystemTime, UNIX_EPOCH};

impl Shared {
    /// Writes the rows, a file per day, and answers the bytes of [`Staged`].
    pub(super) fn stage(&self, name: &str, fact: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, String> {
        let folder = self.folder(name);
        let order = sorted(fact, rows);
        let mut files = Vec::new();
        for day_rows in order.chunk_by(|a, b| a.day == b.day) {
            let day = day_rows[0].day;
            let content = encode(fact, rows, day_rows).map_err(|error| error.to_string())?;
            let day = day_name(day).map_err(|error| error.to_string())?;
            let path = new_name(&day, FileName { epoch, merged: false }, self.disk.number());
            let at = folder.join(&path);
            let written = self.disk.write(&at, [content.bytes.as_slice()].into_iter(), super::disk::Taken::Refuse);
            written.map_err(|error| format!("{}: {error}", at.display()))?;
            files.push(StagedFile {
                path,
                day,
                size_bytes: content.bytes.len() as u64,
                row_count: content.row_count,
                written_ms: now_ms(),
                statistics: content.statistics,
            });
        }
        Staged::new(files).to_bytes()
    }
}

/// Where a row goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    day: i32,
    shard: u16,
    slot: u32,
    ts: i64,
    row: u32,
}

fn sorted(fact: &Fact, rows: &[FactRow<'_>]) -> Vec<Place> {
    let place = |(row, at): (usize, &FactRow<'_>)| {
        let ts = at.event.head.ts;
        Place { day: day_of(&fact.zone, ts), shard: at.shard.0, slot: at.slot, ts, row: row as u32 }
    };
    debug_assert!(u32::try_from(rows.len()).is_ok(), "a checkpoint has fewer than 2^32 rows");
    let mut places: Vec<Place> = rows.iter().enumerate().map(place).collect();
    places.sort_unstable();
    places
}

fn encode(fact: &Fact, rows: &[FactRow<'_>], places: &[Place]) -> Result<super::file::WrittenFile, StageError> {
    let mut writer = FileWriter::new(file_schema(fact))?;
    let dated = places.iter().map(|place| (&rows[place.row as usize], place.day));
    each_batch(fact, dated, |batch| writer.write(&batch).map_err(StageError::from))?;
    Ok(writer.finish()?)
}

#[derive(Debug, thiserror::Error)]
enum StageError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("write Parquet: {0}")]
    Parquet(#[from] ParquetError),
}

/// Milliseconds since 1970, which is what Delta's log has.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
