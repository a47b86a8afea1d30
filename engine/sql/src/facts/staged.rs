//! What a commit needs to know of files that nobody sees yet, as bytes that outlive a crash.

use deltalake::kernel::Add;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

const FORMAT: u32 = 1;

/// Files of one fact and one epoch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Staged {
    format: u32,
    pub(super) files: Vec<StagedFile>,
}

/// A file that is written and synced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StagedFile {
    /// Within the table.
    pub(super) path: String,
    pub(super) day: String,
    pub(super) size_bytes: u64,
    pub(super) row_count: u64,
    pub(super) written_ms: i64,
    pub(super) statistics: String,
}

impl Staged {
    pub(super) fn new(files: Vec<StagedFile>) -> Self {
        Staged { format: FORMAT, files }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let read: Staged = serde_json::from_slice(bytes)
            .map_err(|error| format!("what the checkpoint says of the files is damaged ({error}); restore a backup"))?;
        if read.format != FORMAT {
            let found = read.format;
            return Err(format!("the checkpoint has staged files of format {found}; use the release that wrote it"));
        }
        Ok(read)
    }
}

impl StagedFile {
    /// The action that makes the file part of its table.
    pub(super) fn add(&self, data_change: bool) -> Add {
        Add {
            path: self.path.clone(),
            partition_values: HashMap::from([(super::schema::DAY.to_owned(), Some(self.day.clone()))]),
            size: self.size_bytes.cast_signed(),
            modification_time: self.written_ms,
            data_change,
            stats: Some(self.statistics.clone()),
            ..Add::default()
        }
    }
}
