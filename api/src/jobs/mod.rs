//! Jobs: backfills that a server runs beside its live updates.
//!
//! They run one at a time, in the order in which they came. A job is kept in `<data>/jobs` before its client is answered, and
//! how far it is stands in the store with what it brought; so one that a restart or a kill ended goes on, and each row counts
//! once. Whatever comes last is written first: that a job is done is kept before its place in the store is forgotten.
//!
//! * `definition`, `record`: what is asked for, what is known and how it is kept.
//! * `from_fact`: vectors made from what users did.
//! * `check`: whether it can begin.
//! * `runner`: the thread that loads.

mod check;
pub mod definition;
pub mod from_fact;
pub mod record;
mod runner;

pub use record::{JobDefinition, JobProgress, JobState, JobStep, MadeVectors, Record, RefusedRow};

use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::state::{Readers, lock};
use engine::store::Store;
use ingest::backfill;
use record::Records;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Finished jobs that are remembered.
const FINISHED_MAX: usize = 1_000;
/// Jobs that wait.
const QUEUED_MAX: usize = 1_000;
/// How long a client that cancels waits until the job has ended.
const CANCEL_WAIT: Duration = Duration::from_secs(5);
/// How long a job rests whose store is away; twice as long each time, up to the most.
const REST_FIRST: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(60);
/// The begin of the names under which the store keeps the places of jobs.
const NAMES: &str = "job/";

/// All jobs of a server. Dropped, it ends the one that runs, which goes on when the server is started again.
#[derive(Debug)]
pub struct Jobs {
    shared: Arc<Shared>,
    runner: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    /// Of the events that vectors are made of.
    readers: Readers,
    config: Config,
    records: Records,
    state: Mutex<State>,
    /// A job came, was told to end or ended; or all is to end.
    changed: Condvar,
    /// Rows since the server was started.
    rows: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// By id, and so in order of arrival.
    jobs: BTreeMap<String, Record>,
    /// Jobs whose record is damaged: nothing of theirs is forgotten.
    damaged: BTreeSet<String>,
    running: Option<Running>,
    /// Jobs whose store was away.
    resting: BTreeMap<String, Rest>,
    stopping: bool,
}

/// How long a job is left alone.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    /// The next rest.
    next: Duration,
}

/// The job that runs.
#[derive(Debug)]
struct Running {
    id: String,
    cancel: Arc<AtomicBool>,
    /// A client wants it to end, rather than the server.
    is_cancelled: bool,
}

/// What became of a job that was told to end.
#[derive(Debug)]
pub enum Ended {
    /// It was told to end, and is so now.
    Cancelled(Box<Record>),
    /// It had ended before, and is not remembered any more.
    Forgotten,
}

/// How many jobs there are now, and what they have done since the server was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait.
    pub queued: u64,
    /// Rows applied or refused.
    pub rows: u64,
}

impl Jobs {
    /// Reads what is known of jobs; nothing runs yet.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if the folder of jobs cannot be read; a single record that is damaged is only named in the log.
    pub fn open(store: Arc<Store>, readers: Readers, config: Config) -> Result<Jobs, Failure> {
        let records = Records::open(&config.data).map_err(|error| unusable("open the folder of jobs", &error))?;
        let found = records.load().map_err(|error| unusable("read the folder of jobs", &error))?;
        let mut jobs = BTreeMap::new();
        for mut record in found.records {
            if !record.state.is_final() {
                record.state = JobState::Queued;
                record.error = None;
            }
            jobs.insert(record.id.clone(), record);
        }
        let state = State { jobs, damaged: found.damaged, ..State::default() };
        state.forget_places(&store);
        let (state, changed, rows) = (Mutex::new(state), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { store, readers, config, records, state, changed, rows });
        Ok(Jobs { shared, runner: Mutex::default() })
    }

    /// Starts what waits.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("jobs".to_owned()).spawn(move || runner::run(&shared))?;
        *lock(&self.runner) = Some(thread);
        Ok(())
    }

    /// Ends the job that runs, between two batches; it goes on when the server is started again.
    pub fn stop(&self) {
        let mut state = lock(&self.shared.state);
        state.stopping = true;
        if let Some(running) = &state.running {
            running.cancel.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.shared.changed.notify_all();
        if let Some(thread) = lock(&self.runner).take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }

    /// Takes a job; it is on disk when this returns.
    ///
    /// # Errors
    /// What is wrong with it, with a pointer; [`Kind::TooManyJobs`]; [`Kind::ReadOnly`]; a folder that cannot be written.
    pub fn submit(&self, definition: JobDefinition) -> Result<Record, Failure> {
        let Shared { store, readers, config, records, .. } = &*self.shared;
        check::check(&definition, &store.snapshot(), readers, config, store.now())?;
        if let Some(error) = store.read_only() {
            return Err(error.into());
        }
        let mut state = lock(&self.shared.state);
        if state.jobs.values().filter(|job| job.state == JobState::Queued).count() >= QUEUED_MAX {
            let detail = format!("{QUEUED_MAX} jobs wait already; cancel some, or try again when some are done");
            return Err(Failure::new(Kind::TooManyJobs, detail).retry_after(60));
        }
        let now = store.now();
        let record = Record {
            id: state.new_id(now),
            state: JobState::Queued,
            definition,
            created_at: now,
            started_at: None,
            finished_at: None,
            progress: JobProgress::default(),
            refused: Vec::new(),
            unmatched: BTreeSet::new(),
            error: None,
            made: None,
        };
        records.save(&record).map_err(|error| unusable("keep the job", &error))?;
        state.jobs.insert(record.id.clone(), record.clone());
        drop(state);
        self.shared.changed.notify_all();
        Ok(record)
    }

    /// A page of jobs, newest first, without their refused rows; and whether there are more.
    pub fn list(&self, limit: usize, after: Option<&str>) -> (Vec<Record>, bool) {
        let state = lock(&self.shared.state);
        let below = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut jobs = state.jobs.range::<str, _>((std::ops::Bound::Unbounded, below)).rev();
        let page = jobs.by_ref().take(limit).map(|(_, job)| Record { refused: Vec::new(), ..job.clone() }).collect();
        (page, jobs.next().is_some())
    }

    /// What is known of a job.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn get(&self, id: &str) -> Result<Record, Failure> {
        lock(&self.shared.state).jobs.get(id).cloned().ok_or_else(|| unknown(id))
    }

    /// Ends a job early, or forgets one that has ended.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or a folder that cannot be written; then nothing is changed.
    pub fn end(&self, id: &str) -> Result<Ended, Failure> {
        let Shared { store, records, changed, .. } = &*self.shared;
        let mut state = lock(&self.shared.state);
        if let Some(running) = state.running.as_mut().filter(|running| running.id == id) {
            running.is_cancelled = true;
            running.cancel.store(true, Ordering::Relaxed);
            let is_running = |state: &mut State| state.running.as_ref().is_some_and(|running| running.id == id);
            let waited = changed.wait_timeout_while(state, CANCEL_WAIT, |state| !state.stopping && is_running(state));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let record = state.jobs.get(id).ok_or_else(|| unknown(id))?;
            return Ok(Ended::Cancelled(Box::new(record.clone())));
        }
        let mut record = state.jobs.get(id).cloned().ok_or_else(|| unknown(id))?;
        if record.state.is_final() {
            records.remove(id).map_err(|error| unusable("forget the job", &error))?;
            state.jobs.remove(id);
            return Ok(Ended::Forgotten);
        }
        record.state = JobState::Cancelled;
        record.finished_at = Some(store.now());
        self.shared.finish(&mut state, record.clone()).map_err(|error| unusable("cancel the job", &error))?;
        Ok(Ended::Cancelled(Box::new(record)))
    }

    /// For metrics.
    pub fn counts(&self) -> Counts {
        let state = lock(&self.shared.state);
        let count = |wanted| state.jobs.values().filter(|job| job.state == wanted).count() as u64;
        Counts {
            running: count(JobState::Running),
            queued: count(JobState::Queued),
            rows: self.shared.rows.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Keeps what became of a job, then forgets its place, in this order; and the oldest finished jobs.
    fn finish(&self, state: &mut MutexGuard<'_, State>, record: Record) -> io::Result<()> {
        self.records.save(&record)?;
        backfill::forget(&self.store, &name_of(&record.id));
        state.resting.remove(&record.id);
        state.jobs.insert(record.id.clone(), record);
        let finished: Vec<&String> = state.jobs.iter().filter(|job| job.1.state.is_final()).map(|job| job.0).collect();
        let too_many = finished.len().saturating_sub(FINISHED_MAX);
        let oldest: Vec<String> = finished.into_iter().take(too_many).cloned().collect();
        for id in oldest {
            self.records.remove(&id)?;
            state.jobs.remove(&id);
        }
        Ok(())
    }
}

impl State {
    /// An id above all others.
    fn new_id(&self, now: i64) -> String {
        let mut micros = now.max(0);
        let newest = self.jobs.keys().next_back().max(self.damaged.iter().next_back());
        if let Some(newest) = newest.and_then(|id| i64::from_str_radix(id, 16).ok()) {
            micros = micros.max(newest.saturating_add(1));
        }
        record::id_at(micros)
    }

    fn rest(&mut self, id: &str) {
        let span = self.resting.get(id).map_or(REST_FIRST, |rest| rest.next);
        let rest = Rest { until: Instant::now() + span, next: (span * 2).min(REST_MAX) };
        self.resting.insert(id.to_owned(), rest);
    }

    /// Forgets the places of jobs that ended when there was no time left to forget them.
    fn forget_places(&self, store: &Store) {
        for name in backfill::unfinished(store, NAMES) {
            let Some(id) = name.strip_prefix(NAMES).filter(|id| record::is_id(id)) else { continue };
            let goes_on = self.jobs.get(id).is_some_and(|job| !job.state.is_final());
            if !goes_on && !self.damaged.contains(id) {
                backfill::forget(store, &name);
            }
        }
    }
}

/// Under what name the store keeps a job's place.
fn name_of(id: &str) -> String {
    format!("{NAMES}{id}")
}

fn unknown(id: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no job `{id}`"))
        .suggest("GET /v1/jobs lists them; of those that ended, the newest are remembered")
}

fn unusable(doing: &str, error: &io::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("{doing}: {error}"))
        .suggest("the server must be able to write to `jobs` in its data directory")
}
