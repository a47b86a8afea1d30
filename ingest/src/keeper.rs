//! The threads that keep a store fresh while it serves.
//!
//! One publishes, so that a write is visible soon after it is acknowledged; the second makes checkpoints and merges,
//! which take longer; the third takes erased users off the disk, which may take longest. A step that fails is logged,
//! shown in [`KeeperStatus::last_error`], and tried again at its next turn; a store that became read-only stays so, and
//! readers go on.
//!
//! All but the first, and the [`workers`], run at a lower priority than the threads that answer, where the system has such a thing.

use crate::stop::Stop;
use engine::store::{PurgeError, PurgeReport, StepReport, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Threads for [`engine::store::Options::workers`], one a core, that give way to threads that answer.
///
/// # Errors
/// The operating system's, if it gives no thread.
pub fn workers() -> std::io::Result<Arc<rayon::ThreadPool>> {
    threads("store", step_back)
}

/// Threads for [`engine::store::Options::publishers`], one a core. They give way to nobody: on a busy machine what was
/// written would else not be seen for long.
///
/// # Errors
/// The operating system's, if it gives no thread.
pub fn publishers() -> std::io::Result<Arc<rayon::ThreadPool>> {
    threads("publish", || {})
}

fn threads(name: &'static str, begin: fn()) -> std::io::Result<Arc<rayon::ThreadPool>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .thread_name(move |index| format!("{name}-{index}"))
        .start_handler(move |_| begin())
        .build();
    pool.map(Arc::new).map_err(std::io::Error::other)
}

/// Lowers the priority of this thread, and of those that it starts from now on; at the default one it would take its share of
/// the cores from every question.
pub fn step_back() {
    // On other systems the call would mean the whole process. Where it is refused, work goes on as it was.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

/// How often a store is tended.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// How long a write may stay invisible; default 100 ms.
    pub publish_interval: Duration,
    /// How long a write may stay out of a checkpoint (and so in the log to replay); default 60 s.
    pub checkpoint_interval: Duration,
    /// Memory of updates outside a checkpoint at which one is made earlier; default 256 MiB. Choose it below the store's
    /// `memory_bytes_max`, at which writers wait.
    pub checkpoint_memory_bytes: u64,
    /// How long bytes of erased users may stay on the disk; default a day. They go by the half of it, which leaves time to try again.
    pub erase_within: Duration,
    /// How often is looked whether a checkpoint or a merge is due; default 500 ms.
    pub look_interval: Duration,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        KeeperOptions {
            publish_interval: Duration::from_millis(100),
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_memory_bytes: 256 << 20,
            erase_within: Duration::from_secs(24 * 3600),
            look_interval: Duration::from_millis(500),
        }
    }
}

/// How long a purge that failed rests before it is tried again; each time twice as long, up to the other.
const PURGE_REST: Duration = Duration::from_secs(60);
const PURGE_REST_MAX: Duration = Duration::from_secs(3600);

/// What the keeper did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperStatus {
    /// Checkpoints that had something to write.
    pub checkpoint_count: u64,
    /// Bytes that checkpoints wrote.
    pub checkpoint_bytes: u64,
    /// How long the last one took that had something to write.
    pub checkpoint_took: Duration,
    /// When one last went well, whether it had something to write or not.
    pub checkpointed_at: Option<Instant>,
    /// Merges made.
    pub compaction_count: u64,
    /// Bytes that merges wrote.
    pub compaction_bytes: u64,
    /// How long the last one took.
    pub compaction_took: Duration,
    /// Times that erased users were taken off the disk.
    pub purge_count: u64,
    /// What failed last, and why; none when that step has succeeded since.
    pub last_error: Option<String>,
}

/// Tends one store until stopped.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    options: KeeperOptions,
    state: Mutex<State>,
    stop: Stop,
    /// Ends a purge that is under way.
    stop_purge: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    status: KeeperStatus,
    /// The step behind `status.last_error`.
    failed_step: Option<&'static str>,
}

impl Keeper {
    /// Starts tending `store`.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(store: Arc<Store>, options: KeeperOptions) -> std::io::Result<Keeper> {
        let (state, stop, stop_purge) = Default::default();
        let shared = Arc::new(Shared { store, options, state, stop, stop_purge });
        let mut keeper = Keeper { shared, threads: Vec::new() };
        keeper.spawn("publisher", Shared::keep_publishing)?;
        keeper.spawn("checkpointer", |shared| {
            step_back();
            shared.keep_saving();
        })?;
        keeper.spawn("purger", |shared| {
            step_back();
            shared.keep_purging();
        })?;
        Ok(keeper)
    }

    fn spawn(&mut self, name: &str, run: fn(&Shared)) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let run = move || run(&shared);
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// What was done so far.
    pub fn status(&self) -> KeeperStatus {
        self.shared.state().status.clone()
    }

    /// Ends the threads, publishes what is left, and makes a last checkpoint if asked, so that the next start replays
    /// nothing. Dropping a keeper only ends the threads.
    pub fn stop(mut self, checkpoint: bool) -> KeeperStatus {
        self.end_threads();
        self.shared.publish();
        if checkpoint {
            self.shared.checkpoint();
        }
        self.status()
    }

    fn end_threads(&mut self) {
        self.shared.stop.set();
        self.shared.stop_purge.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end_threads();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, or returns false when it is time to stop.
    fn sleep(&self, how_long: Duration) -> bool {
        !self.stop.wait(how_long)
    }

    fn keep_publishing(&self) {
        while self.sleep(self.options.publish_interval) {
            self.publish();
        }
    }

    fn keep_saving(&self) {
        let mut saved_at = Instant::now();
        let is_due = |saved_at: Instant| {
            let is_full = self.store.statistics().memory_bytes >= self.options.checkpoint_memory_bytes;
            is_full || saved_at.elapsed() >= self.options.checkpoint_interval
        };
        while self.sleep(self.options.look_interval) {
            if is_due(saved_at) {
                self.checkpoint();
                saved_at = Instant::now();
            }
            // However many merges are due, no checkpoint waits for more than one.
            while !self.stop.is_set() && self.compact() {
                if is_due(saved_at) {
                    self.checkpoint();
                    saved_at = Instant::now();
                }
            }
        }
    }

    fn publish(&self) {
        let published = self.store.publish();
        self.note("publish", published.map(drop));
    }

    fn checkpoint(&self) {
        let begun = Instant::now();
        let made = self.store.checkpoint().map(|report| {
            let mut state = self.state();
            state.status.checkpointed_at = Some(Instant::now());
            if report != StepReport::default() {
                tracing::debug!(?report, "checkpoint");
                state.status.checkpoint_count += 1;
                state.status.checkpoint_bytes += report.bytes_written;
                state.status.checkpoint_took = begun.elapsed();
            }
        });
        self.note("checkpoint", made);
    }

    fn keep_purging(&self) {
        let mut rest = PURGE_REST;
        let mut rests_until: Option<Instant> = None;
        while self.sleep(self.options.look_interval) {
            if rests_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            let (since, waits) = self.store.purges_due();
            let age = since.map_or(0, |since| self.store.now().saturating_sub(since));
            let is_due =
                since.is_some() && u128::try_from(age).unwrap_or(0) >= self.options.erase_within.as_micros() / 2;
            if !is_due && !waits {
                continue;
            }
            if self.purge(is_due) {
                (rest, rests_until) = (PURGE_REST, None);
            } else {
                rests_until = Some(Instant::now() + rest);
                // One that only waits for other sides costs little.
                rest = if is_due { (rest * 2).min(PURGE_REST_MAX) } else { PURGE_REST };
            }
        }
    }

    /// Takes erased users off the disk, or ends what was begun; false if that failed.
    fn purge(&self, is_due: bool) -> bool {
        let purged = if is_due {
            self.store.purge(&self.stop_purge).map(|report| report.unwrap_or_default())
        } else {
            self.store.end_purges().map(|erasures| PurgeReport { erasures, ..PurgeReport::default() })
        };
        if matches!(purged, Err(PurgeError::Stopped)) {
            return false;
        }
        let is_done = purged.is_ok();
        let noted = purged.map(|report| {
            if report.erasures > 0 {
                tracing::info!(?report, "erased users are gone from the disk");
                self.state().status.purge_count += 1;
            }
        });
        self.note("purge", noted);
        is_done
    }

    /// Does one merge; false if none is due or it failed.
    fn compact(&self) -> bool {
        let begun = Instant::now();
        let merged = self.store.compact();
        let went_on = matches!(merged, Ok(Some(_)));
        let noted = merged.map(|report| {
            if let Some(report) = report {
                tracing::debug!(?report, "compaction");
                let mut state = self.state();
                state.status.compaction_count += 1;
                state.status.compaction_bytes += report.bytes_written;
                state.status.compaction_took = begun.elapsed();
            }
        });
        self.note("compact", noted);
        went_on
    }

    /// Keeps the newest failure, and logs each one once however often it comes again.
    fn note(&self, step: &'static str, outcome: Result<(), impl std::fmt::Display>) {
        let mut state = self.state();
        match outcome {
            Ok(()) if state.failed_step == Some(step) => {
                tracing::info!(step, "succeeded again");
                state.failed_step = None;
                state.status.last_error = None;
            }
            Ok(()) => {}
            Err(error) => {
                let text = format!("{step}: {error}");
                if state.status.last_error.as_ref() != Some(&text) {
                    tracing::error!(step, %error, "the store could not be tended");
                }
                state.failed_step = Some(step);
                state.status.last_error = Some(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::store::Options;
    use engine::update::UpdateBatch;
    use engine::vfs::memory::MemoryVfs;
    use std::path::Path;

    fn store(vfs: &Arc<MemoryVfs>) -> Arc<Store> {
        let options = Options { shard_count: 2, ..Options::default() };
        Arc::new(Store::open(vfs.clone(), Path::new("/data"), options).expect("opens"))
    }

    fn eager() -> KeeperOptions {
        let soon = Duration::from_millis(2);
        KeeperOptions { publish_interval: soon, checkpoint_interval: soon, look_interval: soon, ..Default::default() }
    }

    fn one_user(id: &str) -> UpdateBatch {
        let mut batch = UpdateBatch::new();
        batch.begin_user(id.as_bytes());
        batch
    }

    #[track_caller]
    fn wait_for(what: impl Fn() -> bool) {
        let begin = Instant::now();
        while !what() {
            assert!(begin.elapsed() < Duration::from_secs(30), "it never happened");
            std::thread::yield_now();
        }
    }

    #[test]
    fn writes_become_visible_and_saved() {
        let vfs = Arc::new(MemoryVfs::default());
        let store = store(&vfs);
        let keeper = Keeper::start(store.clone(), eager()).expect("threads");
        store.write(&one_user("a"), None).expect("written");
        wait_for(|| store.snapshot().shards().iter().map(|shard| shard.slot_count()).sum::<u32>() == 1);
        wait_for(|| keeper.status().checkpoint_count > 0 && store.statistics().log_records == 0);
        assert_eq!(keeper.stop(true).last_error, None);
    }

    #[test]
    fn stopping_saves_what_is_left() {
        let vfs = Arc::new(MemoryVfs::default());
        let store = store(&vfs);
        let never = Duration::from_secs(3600);
        let options = KeeperOptions { publish_interval: never, look_interval: never, ..Default::default() };
        let keeper = Keeper::start(store.clone(), options).expect("threads");
        store.write(&one_user("a"), None).expect("written");
        assert_eq!(keeper.stop(true).checkpoint_count, 1);
        assert_eq!(store.statistics().log_records, 0);
    }

    #[test]
    fn a_failure_is_shown() {
        let vfs = Arc::new(MemoryVfs::default());
        let store = store(&vfs);
        let keeper = Keeper::start(store.clone(), eager()).expect("threads");
        vfs.fail_at(1, true, std::io::ErrorKind::StorageFull);
        // Either the write itself or the publish behind it meets the full disk.
        let _ = store.write(&one_user("a"), None);
        wait_for(|| keeper.status().last_error.is_some());
        assert!(store.read_only().is_some());
    }
}
