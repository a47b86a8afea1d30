//! What is known of a job, and how it is kept: a file of JSON per job in `<data>/jobs`, replaced as a whole.
//!
//! A file's name begins with the job's id, and ids rise with time, so that their order is the order of arrival.

use super::definition::BackfillDefinition;
use engine::vfs::real::RealVfs;
use engine::vfs::{Vfs, write_atomically};
use ingest::backfill::Step;
use ingest::backfill::factors::Made;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Digits of an id: microseconds since 1970 in hexadecimal, enough until the year 4253.
const ID_DIGITS: usize = 14;
const SUFFIX: &str = ".json";

/// What to do, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobDefinition {
    /// Files to load, or events to make vectors of.
    pub backfill: BackfillDefinition,
    /// At most so many rows a second; left out: as many as live updates leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for those before it; or for a restart, if `error` says so.
    Queued,
    /// It loads.
    Running,
    /// All is loaded, visible and on disk.
    Done,
    /// It ended early; `error` says why. What was loaded stays.
    Failed,
    /// It was ended early. What was loaded stays.
    Cancelled,
}

impl JobState {
    /// Whether nothing more happens to the job.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

/// What a job has done, restarts of the server included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobProgress {
    /// Files that are done.
    pub files_done: u64,
    /// All files; 0 before the job began.
    pub files_total: u64,
    /// Rows applied or refused.
    pub rows_done: u64,
    /// All rows, if all files say how many they have (Parquet).
    pub rows_total: Option<u64>,
    /// Bytes of files that are done.
    pub bytes_done: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Into tags: values applied.
    pub values: u64,
    /// Into a fact: events applied, those included that turned out to have come before.
    pub events: u64,
    /// Rows that were refused.
    pub rejected: u64,
    /// Of late; null while the job does not run.
    pub rows_per_second: Option<f64>,
    /// An estimate; null while the job does not run.
    pub remaining_seconds: Option<f64>,
    /// Of vectors made from a fact: what the job does, or did last. While it reads, `rows_total` are the events found so far; while it
    /// writes, `rows_done` of them are vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<JobStep>,
}

/// What a job that makes vectors from a fact does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStep {
    /// It reads events, for the items in them.
    Reading,
    /// It learns what items have in common.
    Learning,
    /// It reads events again, user by user, and writes vectors.
    Writing,
}

/// What came of vectors made from a fact.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MadeVectors {
    /// Users who have a vector now.
    pub vectors: u64,
    /// Users with events none of whose items counts; they have no vector.
    pub without_vector: u64,
    /// Users whose vector was taken away, since they have no event that counts any more.
    pub removed: u64,
    /// Items that were learned.
    pub items: u64,
    /// Items that were not, because few users have them and there are too many.
    pub items_left_out: u64,
    /// Users that items were learned from.
    pub learned_from_users: u64,
    /// One of so many users: 1 if they are all.
    pub one_of: u64,
    /// The share of what users did that the dimensions of the space hold, from 0 to 1.
    pub explained: f64,
}

impl From<Made> for MadeVectors {
    fn from(made: Made) -> MadeVectors {
        MadeVectors {
            vectors: made.vectors,
            without_vector: made.without,
            removed: made.removed,
            items: made.learned.items as u64,
            items_left_out: made.learned.items_left_out as u64,
            learned_from_users: made.learned.users as u64,
            one_of: made.learned.one_of,
            explained: made.learned.explained,
        }
    }
}

impl From<Step> for JobStep {
    fn from(step: Step) -> JobStep {
        match step {
            Step::Reading => JobStep::Reading,
            Step::Learning => JobStep::Learning,
            Step::Writing => JobStep::Writing,
        }
    }
}

/// A row that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefusedRow {
    /// The file.
    pub file: String,
    /// The row in it, from 1, a header not counted.
    pub row: u64,
    /// What is wrong with it, where, and what to write instead.
    pub error: String,
}

/// All that is known of a job. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// See the module.
    pub id: String,
    /// How far it is.
    pub state: JobState,
    /// What it does.
    pub definition: JobDefinition,
    /// When it was asked for.
    pub created_at: i64,
    /// When it began, first.
    pub started_at: Option<i64>,
    /// When it came to its end.
    pub finished_at: Option<i64>,
    /// What it has done.
    pub progress: JobProgress,
    /// The first rows that were refused.
    pub refused: Vec<RefusedRow>,
    /// Columns that no tag has the name of, which were left out, or that the fact does not declare, which were kept.
    pub unmatched: BTreeSet<String>,
    /// Why it failed, or waits.
    pub error: Option<String>,
    /// Of vectors made from a fact, what came of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeVectors>,
}

impl Record {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.definition.backfill.name.as_deref().unwrap_or("backfill")
    }
}

/// The id of a job that comes at this time.
pub(super) fn id_at(micros: i64) -> String {
    format!("{micros:0ID_DIGITS$x}")
}

/// Whether it is an id; what is not, is no file's name either.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The folder of the records.
#[derive(Debug)]
pub(super) struct Records(PathBuf);

/// What is in the folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// Jobs whose record is damaged.
    pub(super) damaged: BTreeSet<String>,
}

impl Records {
    /// Opens the folder; makes it if there is none.
    pub(super) fn open(data: &Path) -> io::Result<Records> {
        let folder = data.join("jobs");
        RealVfs.create_folder(&folder)?;
        Ok(Records(folder))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}{SUFFIX}"))
    }

    /// Reads all records. One that is damaged is named in the log and left alone.
    pub(super) fn load(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for name in RealVfs.list(&self.0)? {
            let Some(id) = name.strip_suffix(SUFFIX).filter(|id| is_id(id)) else { continue };
            match self.read(id) {
                Ok(record) => found.records.push(record),
                Err(error) => {
                    let path = self.path(id);
                    tracing::warn!(path = %path.display(), %error, "the record of a job is damaged; the job is passed over");
                    found.damaged.insert(id.to_owned());
                }
            }
        }
        Ok(found)
    }

    fn read(&self, id: &str) -> io::Result<Record> {
        let record: Record = serde_json::from_slice(&std::fs::read(self.path(id))?)?;
        if record.id != id {
            return Err(io::Error::other(format!("it is of the job `{}`", record.id)));
        }
        Ok(record)
    }

    /// Keeps a record; it is on disk when this returns.
    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        write_atomically(&RealVfs, &self.path(&record.id), &text)
    }

    /// Forgets a record, for good when this returns.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        match RealVfs.remove(&self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => RealVfs.sync_folder(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_with_time() {
        let ids: Vec<String> = [0, 1, 1_700_000_000_000_000, (1 << 56) - 1].map(id_at).into();
        assert!(ids.is_sorted() && ids.iter().all(|id| is_id(id)), "{ids:?}");
        assert!(!is_id("../../../../etc") && !is_id("0000000000000G"));
    }

    #[test]
    fn damage_is_passed_over() {
        let data = tempfile::tempdir().expect("a folder");
        let records = Records::open(data.path()).expect("opens");
        let record = Record {
            id: id_at(7),
            state: JobState::Running,
            definition: JobDefinition {
                backfill: BackfillDefinition { files: vec!["/in/a.csv".to_owned()], ..BackfillDefinition::default() },
                rate: Some(5),
            },
            created_at: 7,
            started_at: None,
            finished_at: None,
            progress: JobProgress::default(),
            refused: Vec::new(),
            unmatched: BTreeSet::new(),
            error: None,
            made: None,
        };
        records.save(&record).expect("saved");
        records.save(&record).expect("saved again");
        std::fs::write(records.path(&id_at(8)), "{\"id\":").expect("written");
        std::fs::copy(records.path(&id_at(7)), records.path(&id_at(9))).expect("copied");
        std::fs::write(records.0.join("notes.txt"), "mine").expect("written");
        let found = records.load().expect("loads");
        assert_eq!(found.records, [record]);
        assert_eq!(found.damaged, BTreeSet::from([id_at(8), id_at(9)]));
        records.remove(&id_at(7)).expect("removed");
        records.remove(&id_at(7)).expect("is not there");
        assert!(records.load().expect("loads").records.is_empty());
    }
}
