//! The thread that runs jobs, one after the other.

use super::check::{self, Task, told};
use super::{JobProgress, JobState, Record, RefusedRow, Running, Shared, State};
use crate::state::lock;
use ingest::backfill::factors::factorise_beside;
use ingest::backfill::{self, BackfillError, BackfillReport, ERRORS_KEPT_MAX, Pace, RowError, Step};
use ingest::keeper::step_back;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the record of a job that runs is kept. Its counts do not need it: they are kept with the rows.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// Over how long the speed is measured.
const SPEED_WINDOW: Duration = Duration::from_secs(20);

/// Runs jobs until all is to end.
pub(super) fn run(shared: &Shared) {
    step_back();
    while let Some((record, cancel)) = shared.next() {
        let id = record.id.clone();
        tracing::info!(id, name = record.name(), "a job runs");
        let loaded = std::panic::catch_unwind(AssertUnwindSafe(|| shared.load(record, &cancel)));
        let outcome = match loaded {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed("an internal error; the server's log says more".to_owned()),
        };
        if !shared.settle(&id, outcome) {
            return;
        }
    }
}

/// How a run ended.
enum Outcome {
    Done,
    Failed(String),
    /// Told to end between two batches.
    Ended,
    /// The store takes no more writes, so no job goes on before a restart.
    ReadOnly(String),
    /// A store of objects is away: the job is tried again later, and others come first.
    Away(String),
}

impl Shared {
    /// Waits for the next job and marks it as running; none when all is to end.
    fn next(&self) -> Option<(Record, Arc<AtomicBool>)> {
        let mut state = lock(&self.state);
        loop {
            if state.stopping || first_queued(&state).is_some() {
                break;
            }
            // Only of jobs that wait: the rest of another one is over without anybody to wake up for.
            let queued = state.jobs.values().filter(|job| job.state == JobState::Queued);
            let until = queued.filter_map(|job| state.resting.get(&job.id)).map(|rest| rest.until).min();
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        if state.stopping {
            return None;
        }
        let id = first_queued(&state)?;
        let cancel = Arc::new(AtomicBool::new(false));
        state.running = Some(Running { id: id.clone(), cancel: Arc::clone(&cancel), is_cancelled: false });
        let record = state.jobs.get_mut(&id)?;
        record.state = JobState::Running;
        record.error = None;
        record.started_at.get_or_insert(self.store.now());
        self.keep(record);
        Some((record.clone(), cancel))
    }

    fn load(&self, record: Record, cancel: &AtomicBool) -> Outcome {
        // Leave to read a folder may have been taken since.
        let task = match check::task(&record.definition, &record.id, &self.config, &self.readers) {
            Ok(task) => task,
            Err(place) => return Outcome::Failed(format!("{}: {}", place.pointer, place.why)),
        };
        let writers_wait_at = self.config.memory_bytes_max as u64;
        let checkpoint_at = self.config.checkpoint_memory_bytes.min(writers_wait_at);
        let pace = Pace {
            rows_per_second_max: record.definition.rate,
            memory_bytes_max: checkpoint_at + (writers_wait_at - checkpoint_at) / 2,
        };
        let mut told_to =
            Told { shared: self, before: record, speed: Speed::default(), rows: 0, saved: Instant::now() };
        let mut tell = |report: &BackfillReport| told_to.update(report);
        let loaded = match task {
            Task::Files(job) => backfill::run_beside(&self.store, &job, pace, cancel, &mut tell),
            Task::Vectors(job) => factorise_beside(&self.store, &job, pace, cancel, &mut tell),
        };
        match loaded {
            Ok(_) => Outcome::Done,
            Err(BackfillError::Cancelled { .. }) => Outcome::Ended,
            Err(error @ BackfillError::Unavailable { .. }) => Outcome::Away(told(&error)),
            Err(error) if self.store.read_only().is_some() => Outcome::ReadOnly(error.to_string()),
            Err(error) => Outcome::Failed(told(&error)),
        }
    }

    /// Keeps how a run ended; false if no other is to begin.
    fn settle(&self, id: &str, outcome: Outcome) -> bool {
        let mut outcome = outcome;
        if let Outcome::Failed(_) | Outcome::Ended | Outcome::Away(_) = outcome
            && let Err(error) = self.store.checkpoint()
        {
            // What was loaded is to stay.
            outcome = Outcome::ReadOnly(error.to_string());
        }
        let mut state = lock(&self.state);
        let is_cancelled = state.running.take().is_some_and(|running| running.is_cancelled);
        let goes_on = match state.jobs.get(id).cloned() {
            Some(record) => self.settle_record(&mut state, record, outcome, is_cancelled),
            None => true,
        };
        drop(state);
        self.changed.notify_all();
        goes_on
    }

    fn settle_record(
        &self,
        state: &mut MutexGuard<'_, State>,
        mut record: Record,
        outcome: Outcome,
        is_cancelled: bool,
    ) -> bool {
        record.progress.rows_per_second = None;
        record.progress.remaining_seconds = None;
        record.finished_at = Some(self.store.now());
        match &outcome {
            Outcome::Away(_) if !is_cancelled => state.rest(&record.id),
            _ => drop(state.resting.remove(&record.id)),
        }
        (record.state, record.error) = match outcome {
            Outcome::Away(_) if is_cancelled => (JobState::Cancelled, None),
            Outcome::Away(error) => {
                tracing::warn!(id = record.id, error, "a job waits for its store");
                record.finished_at = None;
                record.state = JobState::Queued;
                record.error = Some(format!("{error}; it is tried again"));
                self.keep(&record);
                state.jobs.insert(record.id.clone(), record);
                return true;
            }
            Outcome::Done => (JobState::Done, None),
            Outcome::Failed(error) => (JobState::Failed, Some(error)),
            Outcome::Ended if is_cancelled => (JobState::Cancelled, None),
            Outcome::Ended => {
                record.finished_at = None;
                record.state = JobState::Queued;
                self.keep(&record);
                state.jobs.insert(record.id.clone(), record);
                return false;
            }
            Outcome::ReadOnly(error) => {
                tracing::error!(id = record.id, error, "a job waits until the server is started again");
                record.finished_at = None;
                record.state = JobState::Queued;
                record.error = Some(format!("{error}; the job goes on when the server is started again"));
                state.jobs.insert(record.id.clone(), record);
                return false;
            }
        };
        let JobProgress { rows_done, rejected, .. } = record.progress;
        tracing::info!(id = record.id, state = ?record.state, rows_done, rejected, error = record.error, "a job ended");
        if let Err(error) = self.finish(state, record.clone()) {
            // It is found again at the next start, at its end, so that nothing is loaded twice.
            tracing::warn!(id = record.id, %error, "how a job ended could not be kept");
            state.jobs.insert(record.id.clone(), record);
        }
        true
    }

    /// Keeps a record of a job that is not at its end. A failure costs nothing but what a restart would show.
    fn keep(&self, record: &Record) {
        if let Err(error) = self.records.save(record) {
            tracing::warn!(id = record.id, %error, "the record of a job could not be kept; it is kept later");
        }
    }
}

fn first_queued(state: &State) -> Option<String> {
    let now = Instant::now();
    let rests = |job: &Record| state.resting.get(&job.id).is_some_and(|rest| rest.until > now);
    state.jobs.values().find(|job| job.state == JobState::Queued && !rests(job)).map(|job| job.id.clone())
}

/// Where the progress of a run is told.
struct Told<'a> {
    shared: &'a Shared,
    /// As it was when the run began.
    before: Record,
    speed: Speed,
    /// Rows of this run that are counted already.
    rows: u64,
    saved: Instant,
}

impl Told<'_> {
    fn update(&mut self, report: &BackfillReport) {
        let done = report.progress.rows_done;
        self.shared.rows.fetch_add(done.saturating_sub(self.rows), Ordering::Relaxed);
        self.rows = done;
        let progress = self.progress(report);
        let mut state = lock(&self.shared.state);
        let Some(record) = state.jobs.get_mut(&self.before.id) else { return };
        record.progress = progress;
        record.made = report.made.map(Into::into);
        record.refused = merged(&self.before.refused, &report.errors);
        record.unmatched.extend(report.unmatched.iter().cloned());
        if self.saved.elapsed() >= SAVE_INTERVAL {
            self.saved = Instant::now();
            self.shared.keep(record);
        }
    }

    fn progress(&mut self, report: &BackfillReport) -> JobProgress {
        let now = &report.progress;
        let earlier = now.earlier;
        let is_fact = self.before.definition.backfill.fact().is_some();
        let (of_values, of_events) = if is_fact { (0, earlier.changes) } else { (earlier.changes, 0) };
        // Of events, rows are what is known of how much there is.
        let (done, total) = match (now.step, now.rows_total) {
            (Some(Step::Writing), Some(total)) => (now.rows_done, total),
            (Some(_), _) => (0, 0),
            (None, _) => (now.bytes_done, now.bytes_total),
        };
        let (rows_per_second, remaining_seconds) = self.speed.measure(now.rows_done, done, total);
        JobProgress {
            files_done: now.files_done as u64,
            files_total: now.files_total as u64,
            rows_done: earlier.rows + now.rows_done,
            rows_total: now.rows_total.map(|total| earlier.rows + total),
            bytes_done: now.bytes_done,
            bytes_total: now.bytes_total,
            values: of_values + now.values,
            events: of_events + now.events,
            rejected: earlier.rejected + now.rejected,
            rows_per_second,
            remaining_seconds,
            step: now.step.map(Into::into),
        }
    }
}

/// The rows refused by earlier runs and by this one, which may have met some of the same.
fn merged(before: &[RefusedRow], errors: &[RowError]) -> Vec<RefusedRow> {
    let mut refused = before.to_vec();
    for RowError { file, row, error } in errors {
        let file = file.display().to_string();
        if refused.len() < ERRORS_KEPT_MAX && !refused.iter().any(|known| known.row == *row && known.file == file) {
            refused.push(RefusedRow { file, row: *row, error: error.clone() });
        }
    }
    refused
}

/// Rows a second, and how long the bytes that are left will take.
#[derive(Default)]
struct Speed(VecDeque<(Instant, u64, u64)>);

impl Speed {
    fn measure(&mut self, rows: u64, bytes: u64, bytes_total: u64) -> (Option<f64>, Option<f64>) {
        let now = Instant::now();
        while self.0.len() > 1 && now.duration_since(self.0[0].0) > SPEED_WINDOW {
            self.0.pop_front();
        }
        self.0.push_back((now, rows, bytes));
        let (since, rows_then, bytes_then) = self.0[0];
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds <= 0.0 {
            return (None, None);
        }
        let of_bytes = bytes.saturating_sub(bytes_then) as f64 / seconds;
        let remaining = (of_bytes > 0.0).then(|| bytes_total.saturating_sub(bytes) as f64 / of_bytes);
        (Some(rows.saturating_sub(rows_then) as f64 / seconds), remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_rows_are_named_once() {
        let error = |row| RowError { file: "/in/a.csv".into(), row, error: "no".to_owned() };
        let before = merged(&[], &[error(1), error(2)]);
        let rows: Vec<u64> = merged(&before, &[error(2), error(3)]).iter().map(|refused| refused.row).collect();
        assert_eq!(rows, [1, 2, 3]);
        let many: Vec<RowError> = (0..1_000).map(error).collect();
        assert_eq!(merged(&before, &many).len(), ERRORS_KEPT_MAX);
    }

    #[test]
    fn speed_needs_time() {
        let mut speed = Speed::default();
        assert_eq!(speed.measure(0, 0, 100), (None, None));
        std::thread::sleep(Duration::from_millis(2));
        let (rows, remaining) = speed.measure(10, 50, 100);
        assert!(rows.is_some_and(|rows| rows > 0.0) && remaining.is_some_and(|seconds| seconds > 0.0));
    }
}
