//! Files to tags, to events of a fact, or to vectors: a batch job that can be killed at any moment and run again.
//!
//! One thread decodes rows into batches, the calling one applies them, a third writes checkpoints. Every checkpoint
//! records how far the job is, as file number and row, so that the job run again under its name goes on there. It does
//! so only if its files (names and sizes) and its mapping are the same as before.
//!
//! Events count exactly once: the checkpoint that says how far the job is brings what was counted, the rows and the event
//! ids that were seen.
//!
//! * `files`: finds the job's files, in a fixed order. `plan`: which column goes into which tag or field.
//! * `columns`, `csv`, `text`: rows of a file to a batch; `rows`: what they have in common.
//! * `factors`: vectors made from what users did, of no files.
//! * `run`: the threads, the place to go on, progress; `pace`: what a job beside live writes leaves to them.

mod columns;
mod csv;
pub mod factors;
mod files;
mod pace;
mod plan;
mod rows;
mod run;
mod text;

#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod object_tests;
#[cfg(test)]
mod tests;

pub use crate::decode::tag_columns::NullMeaning;
pub use pace::Pace;
use plan::unknown;
pub use run::{check_files, check_mapping, forget, run, run_beside, unfinished};

use crate::objects::ObjectFiles;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// How many refused rows are kept with their reason; the others are only counted.
pub const ERRORS_KEPT_MAX: usize = 100;

/// What to load. Relative paths count from the process's folder.
#[derive(Clone, Debug)]
pub struct BackfillJob {
    /// The job's name: a job run again under its name goes on after the last checkpoint.
    pub name: String,
    /// Paths and globs (`*`, `?`, `[…]`, `**`); each glob's files in the order of their names. What begins like a URL names
    /// objects in the same way, or with its begin all that lies below it.
    pub files: Vec<String>,
    /// The stores that objects are read from.
    pub objects: Option<Arc<dyn ObjectFiles>>,
    /// Folders in which files must lie, wherever symbolic links lead; empty: anywhere.
    pub within: Vec<PathBuf>,
    /// How the files are written; `None`: by each file's extension (`.gz` behind it is allowed for text).
    pub format: Option<FileFormat>,
    /// What rows become.
    pub into: Target,
    /// The column with the user id: text or integers.
    pub user_id: String,
    /// Of tags: which column fills which one; empty: every column that is named like a tag.
    pub columns: Vec<ColumnMapping>,
    /// Of tags and vectors: what an empty cell says.
    pub nulls: NullMeaning,
    /// The byte between CSV cells.
    pub csv_delimiter: u8,
    /// The job fails when more rows than this were refused; `None`: never.
    pub errors_max: Option<u64>,
    /// Forget where an earlier run of this name stopped.
    pub restart: bool,
}

/// What rows become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Changes of tags.
    #[default]
    Tags,
    /// Events of a fact, one per row.
    Fact(FactTarget),
    /// Vectors of a space, one per row.
    Space(SpaceTarget),
}

/// Into which vector space, and which column has the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceTarget {
    /// The space.
    pub space: String,
    /// The column with the vectors; `None`: `vector`.
    pub vector: Option<String>,
}

/// Into which fact, and which column is which field of the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactTarget {
    /// The fact.
    pub fact: String,
    /// The column with the event time; `None`: the one of this name.
    pub ts: Option<String>,
    /// The column with the event id; `None`: the one of this name, if there is one and the fact knows ids.
    pub event_id: Option<String>,
    /// Columns that are not what their own name says: a column of the fact (or `retract`), or `None` to leave them out. Columns
    /// of which the fact knows nothing are kept as undeclared fields.
    pub columns: BTreeMap<String, Option<String>>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, a file (Feather 2) or a stream.
    Arrow,
    /// Text with a header line.
    Csv,
    /// A JSON object a line, a key per column.
    Ndjson,
    /// Lines as `POST /v1/tags` takes them; there `columns` must be empty.
    Tags,
}

/// One column into one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMapping {
    /// The column.
    pub column: String,
    /// The tag.
    pub tag: String,
    /// For a set tag in text: what stands between values, for example `|`. `None`: the cell is one value.
    pub separator: Option<String>,
    /// For a set tag: add to what the user has instead of replacing it.
    pub add: bool,
}

impl BackfillJob {
    /// A job into tags with the usual choices: format by extension, columns by name, NULL keeps, no error limit.
    pub fn new(name: impl Into<String>, files: Vec<String>, user_id: impl Into<String>) -> Self {
        BackfillJob {
            name: name.into(),
            files,
            objects: None,
            within: Vec::new(),
            format: None,
            into: Target::Tags,
            user_id: user_id.into(),
            columns: Vec::new(),
            nulls: NullMeaning::Keep,
            csv_delimiter: b',',
            errors_max: None,
            restart: false,
        }
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files done, in this run or before.
    pub files_done: usize,
    /// All files.
    pub files_total: usize,
    /// Rows applied or refused in this run.
    pub rows_done: u64,
    /// Rows of this run, if all files say how many they have (Parquet).
    pub rows_total: Option<u64>,
    /// Bytes of the files that are done, in this run or before.
    pub bytes_done: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Changes of tags applied in this run, one per value; or vectors.
    pub values: u64,
    /// Events applied in this run, those included that turned out to have come before.
    pub events: u64,
    /// Rows refused in this run.
    pub rejected: u64,
    /// What earlier runs brought, behind which this one goes on.
    pub earlier: Earlier,
    /// Of vectors made from events: what is done now.
    pub step: Option<Step>,
}

/// What a job that makes vectors from events does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It reads events, for the items in them; the total of rows grows.
    Reading,
    /// It learns what items have in common.
    Learning,
    /// It reads the events again, user by user, and writes vectors.
    Writing,
}

/// What the earlier runs of a job brought: exactly what is in the store, whatever ended them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Rows applied or refused.
    pub rows: u64,
    /// Changes of tags, events, or vectors.
    pub changes: u64,
    /// Rows refused.
    pub rejected: u64,
}

/// What a job did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackfillReport {
    /// The last progress.
    pub progress: Progress,
    /// The first refused rows of this run.
    pub errors: Vec<RowError>,
    /// Where this run went on, if an earlier one had begun: the file, and its rows that were loaded before.
    pub resumed_at: Option<(PathBuf, u64)>,
    /// Columns of Parquet, Arrow and CSV files that no tag has the name of, or that are no part of a vector (the first 100 of
    /// NDJSON, too), which were left out, or that the fact does not declare, which were kept as undeclared fields.
    pub unmatched: BTreeSet<String>,
    /// What came of vectors that were made from events.
    pub made: Option<factors::Made>,
}

/// Why one row was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// The file.
    pub file: PathBuf,
    /// The row in the file, from 1, a header not counted.
    pub row: u64,
    /// What is wrong, where, and what to write instead.
    pub error: String,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, row {}: {}", self.file.display(), self.row, self.error)
    }
}

/// Why a job ends early. What was checkpointed stays; the job can be run again.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// The job itself is wrong.
    #[error("backfill `{job}`: {what}")]
    Job {
        /// The job's name.
        job: String,
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// A file cannot be read as what it should be.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A store of objects does not answer, or cannot now.
    #[error("{}: {what}; run it again to go on", path.display())]
    Unavailable {
        /// The object, or where objects were looked for.
        path: PathBuf,
        /// What the store or the way to it ails from.
        what: String,
    },
    /// More rows refused than `errors_max` allows.
    #[error("backfill `{job}`: {rejected} rows were refused; the first is {first}")]
    TooManyErrors {
        /// The job's name.
        job: String,
        /// Rows refused.
        rejected: u64,
        /// The first of them.
        first: RowError,
    },
    /// An earlier run began with something else.
    #[error(
        "backfill `{job}`: an unfinished job of this name had other files (by name and size, of objects by e-tag too) or another mapping; bring them \
         back to go on, choose another name, or set `restart: true` to load all files from the begin"
    )]
    Changed {
        /// The job's name.
        job: String,
    },
    /// What rows go into is not what an earlier run put its rows into.
    #[error(
        "backfill `{job}`: {what} was declared after the unfinished job of this name began, so the rows loaded before are not in it; \
         choose another name, or set `restart: true` to load all files from the begin"
    )]
    Redeclared {
        /// The job's name.
        job: String,
        /// The fact, the tag or the space.
        what: String,
    },
    /// What rows go into was dropped while the job ran.
    #[error(
        "backfill `{job}`: {what} was dropped from the catalog while the job ran; declare it, and load all files again with `restart: true`"
    )]
    Dropped {
        /// The job's name.
        job: String,
        /// The fact, the tag or the space.
        what: String,
    },
    /// The caller gave up.
    #[error("backfill `{job}`: cancelled; run it again to go on")]
    Cancelled {
        /// The job's name.
        job: String,
    },
    /// The store refused.
    #[error(transparent)]
    Write(#[from] engine::store::WriteError),
}
