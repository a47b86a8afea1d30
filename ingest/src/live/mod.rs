//! Live audiences: who enters and who leaves as tags and activity change and as the clock moves.
//!
//! The members of a live audience are kept in the store as a list ([`Definition::Live`]). One thread compares them, twice a
//! second by default, with who fits the audience's expression now. What differs is written in one step: the list, and a row of
//! the fact [`engine::catalog::AUDIENCE_CHANGES`] for each user who entered or left. So after a crash the two agree, and
//! whoever follows the rows (sinks, streams) knows the members.
//!
//! Looking costs what changed: only users of whom newly published layers say something that the expression asks for are
//! asked about again, and all of them only if the expression means something else now: another catalog, another definition, or
//! a window of time that has moved on. An audience that is expensive to ask about is looked at less often.
//!
//! * `tracked`: one live audience. `history`: its size over time, and the file that keeps it.

mod history;
mod tracked;

#[cfg(test)]
mod tests;

pub use history::SizePoint;

use crate::keeper::step_back;
use crate::stop::Stop;
use engine::audience::ops::{Known, QueryError};
use engine::audience::scan::FactScanner;
use engine::store::{Definition, PublishedLayers, Snapshot, Store, WriteError};
use engine::vfs::Vfs;
use history::{History, HistoryFolder};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracked::Tracked;

/// How often sizes are written to their files.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// How live audiences are kept.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// How often is looked at each.
    pub interval: Duration,
    /// Where sizes over time are kept.
    pub folder: PathBuf,
    /// Its disk.
    pub vfs: Arc<dyn Vfs>,
    /// Who searches the events of facts, for what was not counted of them as they arrived.
    pub scanner: Option<Arc<dyn FactScanner>>,
    /// Told of each change once it is durable.
    pub observer: Arc<dyn Observer>,
}

/// Is told who entered and who left.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// A change, or a part of one: a large one comes in several. Called by the thread that looks, so it is to return soon.
    fn changed(&self, change: &Arc<MembershipChange>);

    /// Nothing more comes of lists other than these.
    fn keep_only(&self, lists: &[&str]);
}

/// Users who entered and who left a live audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// The audience.
    pub audience: String,
    /// The list of its members; one that is deleted and put again has another.
    pub list_id: String,
    /// When it was seen, in microseconds since 1970; rises from change to change of a list, as long as the clock is not set back
    /// over a restart.
    pub at: i64,
    /// Users who entered.
    pub entered: Vec<String>,
    /// Users who left.
    pub left: Vec<String>,
    /// Members after it.
    pub size: u64,
    /// It is the whole change, or its last part.
    pub is_last: bool,
}

/// How a live audience is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveStatus {
    /// Its members.
    pub size: u64,
    /// When it was last looked at, in microseconds since 1970; 0 before the first time.
    pub looked_at: i64,
    /// When it last changed, likewise.
    pub changed_at: i64,
    /// Users who entered since the server started.
    pub entered: u64,
    /// Users who left since then.
    pub left: u64,
    /// How long the last look took.
    pub took: Duration,
    /// Why it is not kept at present.
    pub failure: Option<String>,
}

/// Why an audience could not be looked at.
#[derive(Clone, Debug, thiserror::Error)]
enum LookError {
    /// Its expression means nothing any more.
    #[error("{0}")]
    Expression(engine::audience::ExprError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A defect of ours.
    #[error("looking at it failed in a way that should not be; see the log of the server")]
    Panicked,
}

/// Keeps the live audiences of a store until dropped.
#[derive(Debug)]
pub struct LiveAudiences {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    options: LiveOptions,
    state: Mutex<State>,
    stop: Stop,
    /// Ends what is being asked.
    cancelled: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// By name, with the list.
    statuses: BTreeMap<String, (String, LiveStatus)>,
    /// By list.
    histories: BTreeMap<String, History>,
}

impl LiveAudiences {
    /// Starts looking.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread or cannot read the folder.
    pub fn start(store: Arc<Store>, options: LiveOptions) -> std::io::Result<LiveAudiences> {
        let files = HistoryFolder::open(options.vfs.clone(), options.folder.clone())?;
        let shared =
            Shared { store, options, state: Mutex::default(), stop: Stop::default(), cancelled: Arc::default() };
        let shared = Arc::new(shared);
        let of_thread = shared.clone();
        let run = move || {
            step_back();
            Looker { shared: of_thread, tracked: BTreeMap::new(), known: None, files }.run();
        };
        let thread = std::thread::Builder::new().name("live".to_owned()).spawn(run)?;
        Ok(LiveAudiences { shared, thread: Mutex::new(Some(thread)) })
    }

    /// How a live audience is; `None` if it is none, or was never looked at.
    pub fn status(&self, name: &str) -> Option<LiveStatus> {
        self.shared.state().statuses.get(name).map(|(_, status)| status.clone())
    }

    /// How all of them are, by name.
    pub fn statuses(&self) -> Vec<(String, LiveStatus)> {
        self.shared.state().statuses.iter().map(|(name, (_, status))| (name.clone(), status.clone())).collect()
    }

    /// The size of the audience with this list over time, oldest first: of points from `from` on and before `to`, in microseconds
    /// since 1970.
    pub fn sizes(&self, list_id: &str, from: i64, to: i64) -> Vec<SizePoint> {
        let state = self.shared.state();
        state.histories.get(list_id).map_or_else(Vec::new, |history| history.between(from, to))
    }

    /// Ends the thread, once what it is writing is written; what it is asking is cancelled. Dropping does the same.
    pub fn stop(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        self.shared.stop.set();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for LiveAudiences {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own.
struct Looker {
    shared: Arc<Shared>,
    /// By name.
    tracked: BTreeMap<String, Tracked>,
    /// The users of all that was published; none while that is not known.
    known: Option<Known>,
    files: HistoryFolder,
}

impl Looker {
    fn run(mut self) {
        let mut saved_at = Instant::now();
        while !self.shared.stop.wait(self.shared.options.interval) {
            self.look();
            if saved_at.elapsed() >= SAVE_INTERVAL {
                self.save();
                saved_at = Instant::now();
            }
        }
        self.save();
    }

    /// Looks at all that are due.
    fn look(&mut self) {
        let store = self.shared.store.clone();
        // In this order: the snapshot has all that the layers say, and perhaps more, which comes again then.
        let published = store.take_published();
        let snapshot = store.snapshot();
        self.forget_others(&snapshot);
        if self.tracked.is_empty() && snapshot.audiences().values().all(|audience| !audience.is_live()) {
            self.known = None;
            return;
        }
        let newcomers = self.newcomers(&published, &snapshot);
        let news = newcomers.as_ref().map(|newcomers| (&published, newcomers.as_slice()));
        for (name, audience) in snapshot.audiences() {
            let Definition::Live { expression, list_id } = &audience.definition else { continue };
            let tracked = self.tracked.entry(name.clone()).or_insert_with(|| Tracked::new(name, list_id));
            tracked.note(news);
            if !tracked.is_due() {
                continue;
            }
            let look = || tracked.look(&store, &snapshot, expression, &self.shared);
            let looked = catch_unwind(AssertUnwindSafe(look)).unwrap_or(Err(LookError::Panicked));
            if self.shared.stop.is_set() {
                return;
            }
            if matches!(looked, Err(LookError::Panicked)) {
                // Whatever is known of it may be half of something.
                self.tracked.remove(name);
            }
            self.tell(name, list_id, looked);
        }
    }

    /// Who became known; `None` if that cannot be told.
    fn newcomers(&mut self, published: &PublishedLayers, snapshot: &Snapshot) -> Option<Vec<RoaringBitmap>> {
        let newcomers = match (&mut self.known, published.overflown) {
            (Some(known), false) => known.take_newcomers(published).ok(),
            _ => None,
        };
        if newcomers.is_none() {
            self.known = Known::of(snapshot).ok();
        }
        newcomers
    }

    /// Forgets what is live no more; one that was replaced begins anew.
    fn forget_others(&mut self, snapshot: &Snapshot) {
        let list_of = |name: &str| match &snapshot.audiences().get(name)?.definition {
            Definition::Live { list_id, .. } => Some(list_id.as_str()),
            _ => None,
        };
        self.tracked.retain(|name, tracked| list_of(name) == Some(tracked.list_id()));
        let lists: Vec<&str> = snapshot.audiences().keys().filter_map(|name| list_of(name)).collect();
        let mut state = self.shared.state();
        state.statuses.retain(|name, (list, _)| list_of(name) == Some(list.as_str()));
        state.histories.retain(|list, _| lists.contains(&list.as_str()));
        drop(state);
        self.shared.options.observer.keep_only(&lists);
        self.files.keep_only(&lists);
    }

    fn tell(&mut self, name: &str, list_id: &str, looked: Result<LiveStatus, LookError>) {
        let mut state = self.shared.state();
        let (_, before) =
            state.statuses.entry(name.to_owned()).or_insert_with(|| (list_id.to_owned(), LiveStatus::default()));
        let status = match looked {
            Ok(status) => status,
            Err(error) => {
                let failure = error.to_string();
                if before.failure.as_ref() != Some(&failure) {
                    tracing::warn!(audience = name, %error, "a live audience is not kept at present");
                }
                before.failure = Some(failure);
                return;
            }
        };
        // One that began anew counts from 0 again.
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let (entered, left) = (since(status.entered, before.entered), since(status.left, before.left));
        *before = status.clone();
        let files = &self.files;
        let history = state.histories.entry(list_id.to_owned()).or_insert_with(|| files.read(list_id));
        history.note(SizePoint { at: status.looked_at, size: status.size, entered, left });
    }

    fn save(&mut self) {
        let changed: Vec<(String, Vec<u8>)> = {
            let mut state = self.shared.state();
            let histories = state.histories.iter_mut();
            histories.filter_map(|(list, history)| Some((list.clone(), history.take_unsaved()?))).collect()
        };
        for (list, bytes) in changed {
            if let Err(error) = self.files.write(&list, &bytes) {
                tracing::warn!(%error, "the sizes of a live audience are not saved and will be tried again");
                if let Some(history) = self.shared.state().histories.get_mut(&list) {
                    history.set_unsaved();
                }
            }
        }
    }
}
