//! A question from its begin to its end.

use super::{Asks, Door, Progress, Queries, Query, begin_of, since_1970};
use crate::access::Principal;
use crate::audit::Record;
use crate::error::Failure;
use crate::state::lock;
use engine_sql::session::Meter;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(super) struct Watched {
    run: Arc<str>,
    pub(super) number: u64,
    /// Made when somebody asks for it.
    id: OnceLock<String>,
    pub(super) door: Door,
    pub(super) asks: Asks,
    pub(super) principal: Principal,
    text: String,
    /// If it was not known when the question came.
    text_later: OnceLock<String>,
    started_at: i64,
    started: Instant,
    rows: AtomicU64,
    is_waiting: AtomicBool,
    cancelled: CancellationToken,
    /// What else a cancelled question sets.
    flag: Mutex<Option<Arc<AtomicBool>>>,
    on_cancel: Mutex<OnCancel>,
    meter: OnceLock<Arc<Meter>>,
    verdict: OnceLock<String>,
}

/// What is done when a question is cancelled.
#[derive(Default)]
struct OnCancel(Option<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnCancel").field(&self.0.is_some()).finish()
    }
}

impl Watched {
    pub(super) fn new(
        run: Arc<str>,
        number: u64,
        door: Door,
        asks: Asks,
        principal: Principal,
        text: String,
        cancelled: CancellationToken,
    ) -> Watched {
        Watched {
            run,
            number,
            id: OnceLock::new(),
            door,
            asks,
            principal,
            text,
            text_later: OnceLock::new(),
            started_at: i64::try_from(since_1970().as_micros()).unwrap_or(i64::MAX),
            started: Instant::now(),
            rows: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            cancelled,
            flag: Mutex::default(),
            on_cancel: Mutex::default(),
            meter: OnceLock::new(),
            verdict: OnceLock::new(),
        }
    }

    fn id(&self) -> &str {
        self.id.get_or_init(|| format!("{}-{}", self.run, self.number))
    }

    /// Whether this is its number.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id() == id
    }

    pub(super) fn told(&self, progress: Progress) -> Query {
        let text = if self.text.is_empty() { self.text_later.get() } else { None };
        Query {
            id: self.id().to_owned(),
            door: self.door,
            asks: self.asks,
            principal: self.principal.clone(),
            text: text.unwrap_or(&self.text).clone(),
            progress,
            started_at: self.started_at,
            elapsed: self.started.elapsed(),
            rows: self.rows.load(Ordering::Relaxed),
            verdict: self.verdict.get().cloned(),
            memory_bytes: match self.meter.get() {
                Some(meter) => Some(meter.most() as u64),
                // A statement that was not begun held nothing.
                None => (self.asks == Asks::Sql).then_some(0),
            },
        }
    }

    pub(super) fn now(&self) -> Query {
        let is_waiting = self.is_waiting.load(Ordering::Relaxed);
        self.told(if is_waiting { Progress::Waiting } else { Progress::Running })
    }

    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
        if let Some(flag) = &*lock(&self.flag) {
            flag.store(true, Ordering::Relaxed);
        }
        let on_cancel = lock(&self.on_cancel).0.take();
        if let Some(on_cancel) = on_cancel {
            on_cancel();
        }
    }
}

/// A question that is watched, for whoever works on it. It does not end with that.
#[derive(Clone, Debug)]
pub struct Running(Arc<Watched>);

/// Watches a question until its end.
#[derive(Debug)]
pub struct Watch {
    queries: Arc<Queries>,
    running: Running,
    is_over: bool,
}

impl Deref for Watch {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Running {
    /// Its number.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Done when somebody cancels the question.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancelled.clone()
    }

    /// From now on cancelling it sets this too; at once if it was cancelled before.
    pub fn sets(&self, flag: Arc<AtomicBool>) {
        let mut set = lock(&self.0.flag);
        if self.0.cancelled.is_cancelled() {
            flag.store(true, Ordering::Relaxed);
        }
        *set = Some(flag);
    }

    /// What its memory is read from; the first that is told.
    pub fn measures(&self, meter: &Arc<Meter>) {
        let _ = self.0.meter.set(Arc::clone(meter));
    }

    /// What it asks, if that was not told when it began; the first that is told.
    pub fn says(&self, text: &str) {
        let _ = self.0.text_later.set(begin_of(text));
    }

    /// What a privacy policy came to; the first that is told.
    pub fn judges(&self, verdict: &str) {
        let _ = self.0.verdict.set(verdict.to_owned());
    }

    /// So many more rows were answered.
    pub fn add_rows(&self, rows: usize) {
        self.0.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// It waits to be fetched, or is being answered.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.0.is_waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// When it is cancelled this is done too; not if it was cancelled before. Holds it alive until then, or until its end.
    pub fn on_cancel(&self, act: impl FnOnce() + Send + 'static) {
        *lock(&self.0.on_cancel) = OnCancel(Some(Box::new(act)));
    }
}

impl Watch {
    /// Who asks.
    pub(crate) fn principal(&self) -> &Principal {
        &self.running.0.principal
    }

    pub(super) fn new(queries: Arc<Queries>, watched: Arc<Watched>) -> Watch {
        Watch { queries, running: Running(watched), is_over: false }
    }

    /// For whoever works on it.
    pub fn running(&self) -> Running {
        self.running.clone()
    }

    /// It is over. One that was cancelled is told to be, whatever came of it.
    pub fn end(mut self, how: Progress) {
        self.close(how);
    }

    /// It is over, well or with a failure.
    pub fn end_with<T>(self, result: &Result<T, Failure>) {
        match result {
            Ok(_) => self.end(Progress::Done),
            Err(failure) => self.end(Progress::Failed(failure.detail.clone())),
        }
    }

    fn close(&mut self, how: Progress) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        debug_assert!(how.is_over(), "a question ends with how it ended");
        let watched = &self.running.0;
        let how = match how {
            _ if watched.cancelled.is_cancelled() => Progress::Cancelled,
            Progress::Failed(why) => Progress::Failed(begin_of(&why)),
            how => how,
        };
        let elapsed = watched.started.elapsed();
        // Dropped behind the locks, and so that one that is remembered holds nothing of its answer.
        let _flag = lock(&watched.flag).take();
        let _gone = std::mem::take(&mut *lock(&watched.on_cancel));
        if let Some(audit) = self.queries.audit.get() {
            audit.note(Record::of_question(watched.told(how.clone())));
        }
        self.queries.measured(watched, &how, elapsed);
        let _forgotten = lock(&self.queries.log).end(watched, how, elapsed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.close(Progress::Cancelled);
    }
}
