//! Running a job: the threads, the place to go on, progress.
//!
//! A place in the job is one number: `file << 40 | rows of that file`. The store keeps it with every checkpoint as the
//! offset of the source `backfill/<name>`, beside the fingerprint of the files and the mapping and the catalog's next free id, which
//! tells what was declared later; so all become durable together with the rows themselves, and so do the counts of rows up to
//! that place.

use super::files::{self, JobFile, Search, file_error};
use super::pace::{Pace, Pacer};
use super::plan::Task;
use super::rows::{BatchSize, OpenFile, Refused};
use super::{
    BackfillError, BackfillJob, BackfillReport, ERRORS_KEPT_MAX, Earlier, FileFormat, Progress, RowError, Target,
};
use crate::objects::{self, Opener};
use engine::catalog::Catalog;
use engine::ids::TagId;
use engine::store::{Store, WriteError};
use engine::update::UpdateBatch;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// Batches decoded ahead of the one being applied.
const BATCHES_AHEAD: usize = 4;
/// Bytes of batches between two checkpoints: the work that a kill can cost.
pub(super) const CHECKPOINT_BATCH_BYTES: usize = 128 << 20;
/// How long a store is waited for before a job is taken.
const CHECK_WAIT: Duration = Duration::from_secs(5);
/// Text of so many files behind the one being decoded is asked for ahead.
const FILES_AHEAD: usize = 4;
/// How soon it is seen that a job is cancelled while no batch comes.
const CANCEL_SEEN_AFTER: Duration = Duration::from_millis(100);
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

const ROW_BITS: u32 = 40;
/// Most rows of one file.
const ROWS_MAX: u64 = (1 << ROW_BITS) - 1;
/// Most files of one job.
const FILES_MAX: usize = 1 << (64 - ROW_BITS - 1);

/// A row of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    file: usize,
    /// Rows of the file before it.
    row: u64,
}

impl Place {
    fn offset(self) -> u64 {
        (self.file as u64) << ROW_BITS | self.row
    }

    fn of_offset(offset: u64) -> Place {
        Place { file: (offset >> ROW_BITS) as usize, row: offset & ROWS_MAX }
    }
}

/// A decoded batch.
struct Decoded {
    batch: UpdateBatch,
    /// Where the job goes on behind it.
    next: Place,
    /// The file it came from, and its rows in it.
    file: usize,
    rows: u64,
    file_bytes_done: u64,
    refused: Refused,
    /// See [`super::rows::Rows::take_unmatched`].
    unmatched: Vec<String>,
}

/// Runs a job to its end in the calling thread (and two more), checkpointing on the way. When it returns, all is durable
/// and visible.
///
/// `cancel` is looked at between batches; `on_progress` is called a few times a second, and once at the end.
///
/// # Errors
/// See [`BackfillError`]. What was checkpointed stays, and the job run again goes on there.
pub fn run(
    store: &Store,
    job: &BackfillJob,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<BackfillReport, BackfillError> {
    let report = load(store, job, None, cancel, &mut |report| on_progress(&report.progress))?;
    forget(store, &job.name);
    store.checkpoint()?;
    while store.compact()?.is_some() {}
    Ok(report)
}

/// The same beside live writes, in a store that somebody else publishes, checkpoints and merges: the job only makes the last
/// checkpoint, so that all is durable when it returns.
///
/// Its place is kept, so that run again it finds nothing to do; [`forget`] it when nobody will. `on_progress` is told what
/// the report would be now, also when the job ends early.
///
/// # Errors
/// As [`run`].
pub fn run_beside(
    store: &Store,
    job: &BackfillJob,
    pace: Pace,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&BackfillReport),
) -> Result<BackfillReport, BackfillError> {
    let report = load(store, job, Some(pace), cancel, on_progress)?;
    store.checkpoint()?;
    Ok(report)
}

/// Whether what rows become is there, and the mapping fits it, as far as no file is needed to tell. `now` is in microseconds
/// since 1970.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_mapping(job: &BackfillJob, catalog: &Catalog, now: i64) -> Result<(), BackfillError> {
    Task { job, catalog, now }.check()
}

/// Whether the files are there, with formats that are known; of objects, whether there are any. A store that does not tell in
/// a few seconds, or cannot now, is left to the job.
///
/// # Errors
/// The first that is not.
pub fn check_files(job: &BackfillJob) -> Result<(), BackfillError> {
    let opener = Opener::new(job.objects.clone());
    let began = Instant::now();
    let is_over = || began.elapsed() > CHECK_WAIT;
    match files::find(job, Search { opener: &opener, is_over: &is_over, first_only: true }) {
        Ok(_) | Err(BackfillError::Cancelled { .. } | BackfillError::Unavailable { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Forgets where the job of this name stopped (durable with the next checkpoint).
pub fn forget(store: &Store, name: &str) {
    Sources::of(name).forget(store);
}

/// The names of the jobs whose place is kept and whose names begin with `prefix`.
pub fn unfinished(store: &Store, prefix: &str) -> BTreeSet<String> {
    let places = store.source_offsets(&format!("{PREFIX}{prefix}"));
    let names = places.into_iter().filter_map(|(place, _)| Some(place.strip_prefix(PREFIX)?.to_owned()));
    names.map(|name| name.split('#').next().unwrap_or_default().to_owned()).collect()
}

fn load(
    store: &Store,
    job: &BackfillJob,
    pace: Option<Pace>,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&BackfillReport),
) -> Result<BackfillReport, BackfillError> {
    // A catalog taken just now shows in the next snapshot.
    store.publish()?;
    let catalog = store.snapshot().shared_catalog();
    let task = Task { job, catalog: &catalog, now: store.now() };
    task.check()?;
    let opener = Opener::new(job.objects.clone());
    let files =
        files::find(job, Search { opener: &opener, is_over: &|| cancel.load(Ordering::Relaxed), first_only: false })?;
    if files.len() > FILES_MAX {
        return Err(wrong(job, format!("{} files; at most {FILES_MAX} go into one job", files.len())));
    }
    let sources = Sources::of(&job.name);
    let start = sources.claim(store, &task, &files)?;
    let mut state = State::new(job, &files, start, sources.earlier(store))?;
    on_progress(&state.report);

    let loaded = std::thread::scope(|scope| {
        let (decoded_out, decoded_in) = sync_channel(BATCHES_AHEAD);
        let (used_out, used_in) = channel();
        let (checkpoint_out, checkpoint_in) = sync_channel(1);
        let (of_decoder, task) = (&files[..], &task);
        let size = pace.as_ref().map_or_else(BatchSize::default, Pace::batch_size);
        scope.spawn(move || decode(of_decoder, start, task, size, &decoded_out, &used_in));
        let checkpoints = scope.spawn(move || keep_checkpointing(store, &checkpoint_in));
        // The checkpointing thread ends when nobody is left who may ask it.
        let others = match (pace, checkpoint_out) {
            (Some(pace), _) => Others::Live(Pacer::new(store, pace, cancel)),
            (None, checkpoint_out) => Others::None(checkpoint_out),
        };
        let of_job = (task, &catalog);
        let applied = apply(of_job, store, &sources, cancel, &mut state, on_progress, &decoded_in, &used_out, others);
        // A decoder that waits for a store is not waited for.
        opener.end_waits();
        drop(decoded_in);
        let checkpointed = checkpoints.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        applied.and(checkpointed.map_err(BackfillError::Write))
    });
    if loaded.is_ok() {
        state.report.progress.files_done = files.len();
        state.report.progress.bytes_done = state.report.progress.bytes_total;
    }
    on_progress(&state.report);
    loaded.map(|()| state.report)
}

/// Who else writes to the store.
enum Others<'a> {
    /// Nobody: the job asks for checkpoints itself.
    None(SyncSender<()>),
    /// Those who come first.
    Live(Pacer<'a>),
}

fn wrong(job: &BackfillJob, what: String) -> BackfillError {
    BackfillError::Job { job: job.name.clone(), what }
}

const PREFIX: &str = "backfill/";

/// The names under which the store keeps the job's place, and what was counted up to it.
struct Sources {
    place: String,
    fingerprint: String,
    /// The next free id of the catalog when the job began.
    next_id: String,
    rows: String,
    changes: String,
    rejected: String,
}

impl Sources {
    fn of(name: &str) -> Sources {
        let of = |what: &str| format!("{PREFIX}{name}{what}");
        Sources {
            place: of(""),
            fingerprint: of("#files"),
            next_id: of("#next_id"),
            rows: of("#rows"),
            changes: of("#changes"),
            rejected: of("#rejected"),
        }
    }

    /// Where the job begins.
    fn claim(&self, store: &Store, task: &Task<'_>, files: &[JobFile]) -> Result<Place, BackfillError> {
        let job = task.job;
        if job.restart {
            self.forget(store);
        }
        let fingerprint = files::fingerprint(job, files);
        let place = match (store.source_offset(&self.place), store.source_offset(&self.fingerprint)) {
            (Some(offset), Some(before)) if before == fingerprint => Some(Place::of_offset(offset)),
            (Some(_), _) => return Err(BackfillError::Changed { job: job.name.clone() }),
            (None, _) => None,
        };
        let began_at = store.source_offset(&self.next_id).filter(|_| place.is_some());
        if let Some(what) = began_at.and_then(|next_id| task.declared_since(TagId(u32::try_from(next_id).ok()?))) {
            return Err(BackfillError::Redeclared { job: job.name.clone(), what });
        }
        if began_at.is_none() {
            // Also of a job that an older release began, which did not note it.
            let offsets = [(&*self.fingerprint, fingerprint), (&*self.next_id, task.catalog.next_id().0.into())];
            store.write_replayable_noting(&UpdateBatch::new(), &offsets, None)?;
        }
        Ok(place.unwrap_or_default())
    }

    /// What was counted up to the place; nothing if an older release began.
    fn earlier(&self, store: &Store) -> Earlier {
        let counted = |name: &str| store.source_offset(name).unwrap_or_default();
        Earlier { rows: counted(&self.rows), changes: counted(&self.changes), rejected: counted(&self.rejected) }
    }

    /// The place and what was counted up to it.
    fn offsets(&self, place: Place, counted: Earlier) -> [(&str, u64); 4] {
        [
            (&self.place, place.offset()),
            (&self.rows, counted.rows),
            (&self.changes, counted.changes),
            (&self.rejected, counted.rejected),
        ]
    }

    fn forget(&self, store: &Store) {
        for name in [&self.place, &self.fingerprint, &self.next_id, &self.rows, &self.changes, &self.rejected] {
            store.forget_source(name);
        }
    }
}

/// What is known while the job runs.
struct State<'a> {
    job: &'a BackfillJob,
    files: &'a [JobFile],
    report: BackfillReport,
}

impl<'a> State<'a> {
    fn new(
        job: &'a BackfillJob,
        files: &'a [JobFile],
        start: Place,
        earlier: Earlier,
    ) -> Result<State<'a>, BackfillError> {
        let progress = Progress {
            files_done: start.file,
            files_total: files.len(),
            bytes_done: files[..start.file.min(files.len())].iter().map(|file| file.size_bytes).sum(),
            bytes_total: files.iter().map(|file| file.size_bytes).sum(),
            rows_total: rows_total(files)?.map(|total| total.rows_from(start)),
            earlier,
            ..Progress::default()
        };
        let resumed_at = files.get(start.file).filter(|_| start != Place::default());
        let resumed_at = resumed_at.map(|file| (file.path().to_owned(), start.row));
        Ok(State { job, files, report: BackfillReport { progress, resumed_at, ..BackfillReport::default() } })
    }

    /// What will be counted, in all runs, when this batch is applied.
    fn counted_with(&self, decoded: &Decoded) -> Earlier {
        let Progress { earlier, rows_done, values, events, rejected, .. } = self.report.progress;
        Earlier {
            rows: earlier.rows + rows_done + decoded.rows,
            changes: earlier.changes + values + events + decoded.batch.change_count() as u64,
            rejected: earlier.rejected + rejected + decoded.refused.count,
        }
    }

    /// Counts a batch that was applied.
    fn note(&mut self, decoded: Decoded) -> Result<UpdateBatch, BackfillError> {
        let BackfillReport { progress, errors, unmatched, .. } = &mut self.report;
        progress.files_done = decoded.next.file;
        progress.rows_done += decoded.rows;
        *match self.job.into {
            Target::Tags | Target::Space(_) => &mut progress.values,
            Target::Fact(_) => &mut progress.events,
        } += decoded.batch.change_count() as u64;
        progress.rejected += decoded.refused.count;
        unmatched.extend(decoded.unmatched);
        let earlier: u64 = self.files[..decoded.file].iter().map(|file| file.size_bytes).sum();
        progress.bytes_done = earlier + decoded.file_bytes_done;
        for (row, error) in decoded.refused.samples {
            if errors.len() < ERRORS_KEPT_MAX {
                errors.push(RowError { file: self.files[decoded.file].path().to_owned(), row, error });
            }
        }
        match (self.job.errors_max, errors.first()) {
            (Some(max), Some(first)) if progress.earlier.rejected + progress.rejected > max => {
                Err(BackfillError::TooManyErrors {
                    job: self.job.name.clone(),
                    rejected: progress.earlier.rejected + progress.rejected,
                    first: first.clone(),
                })
            }
            _ => Ok(decoded.batch),
        }
    }
}

/// Rows of every file.
struct RowCounts(Vec<u64>);

impl RowCounts {
    fn rows_from(&self, start: Place) -> u64 {
        self.0.iter().skip(start.file).sum::<u64>().saturating_sub(start.row)
    }
}

/// Known only if all files are Parquet. Not asked of objects: each footer would be a request or two.
fn rows_total(files: &[JobFile]) -> Result<Option<RowCounts>, BackfillError> {
    let tells = |file: &JobFile| file.format == FileFormat::Parquet && matches!(file.place, objects::Place::Local(_));
    if !files.iter().all(tells) {
        return Ok(None);
    }
    let counts = files
        .iter()
        .map(|file| super::columns::parquet_row_count(&file.place).map_err(|error| file_error(file.path(), error)));
    Ok(Some(RowCounts(counts.collect::<Result<_, _>>()?)))
}

/// The decoding thread: batches in the order of the rows, until the end, an error, or a receiver that is gone.
fn decode(
    files: &[JobFile],
    start: Place,
    task: &Task<'_>,
    size: BatchSize,
    decoded: &SyncSender<Result<Decoded, BackfillError>>,
    used: &Receiver<UpdateBatch>,
) {
    for number in start.file..files.len() {
        let skip = if number == start.file { start.row } else { 0 };
        let ahead = files[number..].iter().take(1 + FILES_AHEAD).filter(|file| file.format != FileFormat::Parquet);
        ahead.for_each(|file| file.place.ask_ahead());
        let mut send = |batch| decoded.send(batch).is_ok();
        match decode_file(files, number, skip, task, size, &mut send, used) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // A receiver that is gone has given up already.
                let _ = decoded.send(Err(error));
                return;
            }
        }
    }
}

/// False if nobody wants more.
fn decode_file(
    files: &[JobFile],
    number: usize,
    skip: u64,
    task: &Task<'_>,
    size: BatchSize,
    send: &mut dyn FnMut(Result<Decoded, BackfillError>) -> bool,
    used: &Receiver<UpdateBatch>,
) -> Result<bool, BackfillError> {
    let file = &files[number];
    let mut open = OpenFile::open(file, skip, task).map_err(|error| file.explain(error))?;
    loop {
        let mut batch = used.try_recv().unwrap_or_default();
        batch.clear();
        let mut refused = Refused::default();
        let from = open.position();
        let goes_on = open.fill(file, size, &mut batch, &mut refused).map_err(|error| file.explain(error))?;
        if open.position() > ROWS_MAX {
            return Err(file_error(file.path(), format!("more than {ROWS_MAX} rows; split the file")));
        }
        let next =
            if goes_on { Place { file: number, row: open.position() } } else { Place { file: number + 1, row: 0 } };
        let file_bytes_done = if goes_on { open.bytes_done() } else { file.size_bytes };
        let rows = open.position() - from;
        let unmatched = open.take_unmatched();
        if !send(Ok(Decoded { batch, next, file: number, rows, file_bytes_done, refused, unmatched })) {
            return Ok(false);
        }
        if !goes_on {
            return Ok(true);
        }
    }
}

/// The calling thread: applies what was decoded.
#[expect(clippy::too_many_arguments, reason = "the ends of three channels")]
fn apply(
    (task, catalog): (&Task<'_>, &Arc<Catalog>),
    store: &Store,
    sources: &Sources,
    cancel: &AtomicBool,
    state: &mut State<'_>,
    on_progress: &mut dyn FnMut(&BackfillReport),
    decoded: &Receiver<Result<Decoded, BackfillError>>,
    used: &Sender<UpdateBatch>,
    mut others: Others<'_>,
) -> Result<(), BackfillError> {
    let mut told_at = Instant::now();
    let mut unsaved_bytes = 0;
    while let Some(decoded) = next(decoded, task.job, cancel) {
        if cancel.load(Ordering::Relaxed) {
            return Err(BackfillError::Cancelled { job: state.job.name.clone() });
        }
        let decoded = decoded?;
        let (rows, bytes, began) = (decoded.rows, decoded.batch.as_bytes().len(), Instant::now());
        let offsets = sources.offsets(decoded.next, state.counted_with(&decoded));
        // Changes of what was dropped would get lost unsaid.
        let written = store.write_replayable_noting(&decoded.batch, &offsets, Some(catalog));
        written.map_err(|error| task.not_written(error))?;
        let took = began.elapsed();
        // A decoder that has ended takes no batch back.
        let _ = used.send(state.note(decoded)?);
        if told_at.elapsed() >= PROGRESS_INTERVAL {
            told_at = Instant::now();
            on_progress(&state.report);
        }
        match &mut others {
            Others::Live(pacer) => pacer.rest(rows, bytes, took),
            Others::None(checkpoint) => {
                unsaved_bytes += bytes;
                if unsaved_bytes >= CHECKPOINT_BATCH_BYTES && checkpoint.try_send(()).is_ok() {
                    unsaved_bytes = 0;
                }
            }
        }
    }
    Ok(())
}

/// The next batch; none at the end.
fn next(
    decoded: &Receiver<Result<Decoded, BackfillError>>,
    job: &BackfillJob,
    cancel: &AtomicBool,
) -> Option<Result<Decoded, BackfillError>> {
    loop {
        match decoded.recv_timeout(CANCEL_SEEN_AFTER) {
            Ok(decoded) => return Some(decoded),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) => {
                return Some(Err(BackfillError::Cancelled { job: job.name.clone() }));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The checkpointing thread.
fn keep_checkpointing(store: &Store, wanted: &Receiver<()>) -> Result<(), WriteError> {
    for () in wanted {
        store.checkpoint()?;
        while store.compact()?.is_some() {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_offsets() {
        for place in [Place::default(), Place { file: 3, row: 17 }, Place { file: FILES_MAX, row: ROWS_MAX }] {
            assert_eq!(Place::of_offset(place.offset()), place);
        }
    }
}
