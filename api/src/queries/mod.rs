//! Which statements run and which ran: `system.queries`, `GET /v1/queries`, and how one is cancelled by its number.
//!
//! A door watches each statement that it answers: [`Queries::begin`] when it comes, [`Watch::end`] when it is over. One whose watch is
//! dropped before has lost its client. Those that ended are remembered as long as they are among the newest [`ENDED_MAX`].

use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::state::lock;
use engine_sql::session::Meter;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Statements that are remembered after their end.
pub const ENDED_MAX: usize = 1_000;
/// Bytes that are remembered of a statement.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Where a statement came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `POST /v1/sql`.
    Rest,
    /// Flight SQL.
    Flight,
}

impl Door {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Door::Rest => "rest",
            Door::Flight => "flight",
        }
    }
}

/// How far a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is being planned or answered.
    Running,
    /// It was planned; its rows were not asked for yet.
    Waiting,
    /// All rows were taken.
    Done,
    /// It could not be answered: why.
    Failed(String),
    /// Somebody cancelled it, or its client went away.
    Cancelled,
}

impl Progress {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Progress::Running => "running",
            Progress::Waiting => "waiting",
            Progress::Done => "done",
            Progress::Failed(_) => "failed",
            Progress::Cancelled => "cancelled",
        }
    }

    fn is_over(&self) -> bool {
        !matches!(self, Progress::Running | Progress::Waiting)
    }
}

/// A statement as it is told.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its number: never given twice, also not after a restart.
    pub id: String,
    /// Where it came in.
    pub door: Door,
    /// Who asked.
    pub principal: Principal,
    /// The statement, or its begin.
    pub text: String,
    /// How far it is.
    pub progress: Progress,
    /// When it came, in microseconds since 1970.
    pub started_at: i64,
    /// From then until its end, or until now.
    pub elapsed: Duration,
    /// Rows that were answered so far.
    pub rows: u64,
    /// The most bytes that it held at a time to sort, join and group with.
    pub memory_bytes: u64,
}

/// All statements of a server.
#[derive(Debug)]
pub struct Queries {
    log: Mutex<Log>,
    /// Of the numbers, apart from those of other runs of the server.
    run: String,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Log {
    /// By number, so that they are told in the order in which they came.
    open: BTreeMap<u64, Arc<Watched>>,
    ended: VecDeque<Query>,
}

#[derive(Debug)]
struct Watched {
    number: u64,
    id: String,
    door: Door,
    principal: Principal,
    text: String,
    started_at: i64,
    started: Instant,
    rows: AtomicU64,
    is_waiting: AtomicBool,
    cancelled: CancellationToken,
    /// What else a cancelled statement sets.
    flag: Mutex<Option<Arc<AtomicBool>>>,
    on_cancel: Mutex<OnCancel>,
    meter: OnceLock<Arc<Meter>>,
}

/// What is done when a statement is cancelled.
#[derive(Default)]
struct OnCancel(Option<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnCancel").field(&self.0.is_some()).finish()
    }
}

impl Watched {
    fn told(&self, progress: Progress) -> Query {
        Query {
            id: self.id.clone(),
            door: self.door,
            principal: self.principal.clone(),
            text: self.text.clone(),
            progress,
            started_at: self.started_at,
            elapsed: self.started.elapsed(),
            rows: self.rows.load(Ordering::Relaxed),
            memory_bytes: self.meter.get().map_or(0, |meter| meter.most() as u64),
        }
    }

    fn now(&self) -> Query {
        let is_waiting = self.is_waiting.load(Ordering::Relaxed);
        self.told(if is_waiting { Progress::Waiting } else { Progress::Running })
    }

    fn cancel(&self) {
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

impl Default for Queries {
    fn default() -> Self {
        let run = format!("{:x}", since_1970().as_millis());
        Queries { log: Mutex::default(), run, next: AtomicU64::new(1) }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Queries {
    /// A statement came.
    pub fn begin(self: &Arc<Self>, door: Door, principal: &Principal, text: &str) -> Watch {
        self.begin_with(door, principal, text, CancellationToken::new())
    }

    /// A statement came, once more perhaps: all with the same token are cancelled together.
    pub fn begin_with(
        self: &Arc<Self>,
        door: Door,
        principal: &Principal,
        text: &str,
        cancelled: CancellationToken,
    ) -> Watch {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let watched = Arc::new(Watched {
            number,
            id: format!("{}-{number}", self.run),
            door,
            principal: principal.clone(),
            text: begin_of(text),
            started_at: i64::try_from(since_1970().as_micros()).unwrap_or(i64::MAX),
            started: Instant::now(),
            rows: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            cancelled,
            flag: Mutex::default(),
            on_cancel: Mutex::default(),
            meter: OnceLock::new(),
        });
        lock(&self.log).open.insert(number, Arc::clone(&watched));
        Watch { queries: Arc::clone(self), running: Running(watched), is_over: false }
    }

    /// Those that are open and those that ended, newest first, as far as `by` may see them.
    pub fn all(&self, by: &Principal) -> Vec<Query> {
        let log = lock(&self.log);
        let open = log.open.values().rev().filter(|watched| by.may_see(&watched.principal));
        let ended = log.ended.iter().rev().filter(|query| by.may_see(&query.principal));
        open.map(|watched| watched.now()).chain(ended.cloned()).collect()
    }

    /// Cancels a statement, and tells it as it was. One that `by` may not see is not there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none of this number that has not ended.
    pub fn cancel(&self, id: &str, by: &Principal) -> Result<Query, Failure> {
        let log = lock(&self.log);
        let mut open = log.open.values();
        let found = open.find(|watched| watched.id == id && by.may_see(&watched.principal)).map(Arc::clone);
        if let Some(watched) = found {
            // It may end with that, which takes the lock.
            drop(log);
            let was = watched.now();
            watched.cancel();
            return Ok(was);
        }
        let detail = match log.ended.iter().find(|query| query.id == id && by.may_see(&query.principal)) {
            Some(query) => format!("the query `{id}` is over: {}", query.progress.name()),
            None => format!("there is no query `{id}`"),
        };
        Err(Failure::new(Kind::NotFound, detail).suggest("GET /v1/queries lists them"))
    }
}

/// The begin of a long text, at the border of a character.
fn begin_of(text: &str) -> String {
    match text.len() > TEXT_BYTES_MAX {
        false => text.to_owned(),
        true => format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]),
    }
}

/// A statement that is watched, for whoever works on it. It does not end with that.
#[derive(Clone, Debug)]
pub struct Running(Arc<Watched>);

/// Watches a statement until its end.
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
        &self.0.id
    }

    /// Done when somebody cancels the statement.
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
        debug_assert!(how.is_over(), "a statement ends with how it ended");
        let watched = &self.running.0;
        let how = match how {
            _ if watched.cancelled.is_cancelled() => Progress::Cancelled,
            Progress::Failed(why) => Progress::Failed(begin_of(&why)),
            how => how,
        };
        // Dropped behind the locks.
        let _gone = std::mem::take(&mut *lock(&watched.on_cancel));
        let mut log = lock(&self.queries.log);
        log.open.remove(&watched.number);
        if log.ended.len() >= ENDED_MAX {
            log.ended.pop_front();
        }
        log.ended.push_back(watched.told(how));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.close(Progress::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;

    fn states(queries: &Queries) -> Vec<(String, &'static str)> {
        queries.all(&Principal::anyone()).into_iter().map(|query| (query.text, query.progress.name())).collect()
    }

    #[test]
    fn what_runs_and_what_ran_is_told_newest_first() {
        let queries = Arc::new(Queries::default());
        let who = Principal::anyone();
        let first = queries.begin(Door::Rest, &who, "SELECT 1");
        let second = queries.begin(Door::Flight, &who, "SELECT 2");
        let third = queries.begin(Door::Flight, &who, "SELECT 3");
        first.add_rows(3);
        first.end(Progress::Done);
        drop(third);
        let told = [("SELECT 2", "running"), ("SELECT 3", "cancelled"), ("SELECT 1", "done")];
        assert_eq!(states(&queries), told.map(|(text, state)| (text.to_owned(), state)));
        assert_eq!(queries.all(&Principal::anyone())[2].rows, 3);
        let id = second.id().to_owned();
        let flag = Arc::new(AtomicBool::new(false));
        second.sets(Arc::clone(&flag));
        assert_eq!(queries.cancel(&id, &who).expect("it runs").id, id);
        assert!(flag.load(Ordering::Relaxed) && second.cancellation().is_cancelled());
        // What came of it does not matter any more.
        second.end(Progress::Done);
        assert_eq!(states(&queries)[0], ("SELECT 2".to_owned(), "cancelled"));
        assert!(queries.cancel(&id, &who).expect_err("it is over").detail.contains("is over: cancelled"));
        assert_eq!(queries.cancel("7", &who).expect_err("never was").kind, Kind::NotFound);
    }

    #[test]
    fn those_of_one_token_are_cancelled_together() {
        let queries = Arc::new(Queries::default());
        let who = Principal::anyone();
        let token = CancellationToken::new();
        let waiting = queries.begin_with(Door::Flight, &who, "SELECT 1", token.clone());
        let second = queries.begin_with(Door::Flight, &who, "SELECT 2", token);
        let id = waiting.id().to_owned();
        waiting.set_waiting(true);
        let running = waiting.running();
        // What waits goes with that: its end takes the lock of the list.
        running.on_cancel(move || drop(waiting));
        assert_eq!(queries.cancel(&id, &who).expect("it waits").progress, Progress::Waiting);
        assert!(second.cancellation().is_cancelled());
        let told = [("SELECT 2", "running"), ("SELECT 1", "cancelled")];
        assert_eq!(states(&queries), told.map(|(text, state)| (text.to_owned(), state)));
    }

    #[test]
    fn each_sees_their_own() {
        let queries = Arc::new(Queries::default());
        let ann = Principal::with_token("ann", "1", &[Scope::Query]);
        // Somebody else, who was given a token of the same name.
        let bob = Principal::with_token("ann", "2", &[Scope::Query]);
        let admin = Principal::with_token("root", "3", &[Scope::Admin]);
        let of_ann = queries.begin(Door::Rest, &ann, "SELECT 1");
        queries.begin(Door::Rest, &ann, "SELECT 2").end(Progress::Done);
        assert_eq!([&ann, &bob, &admin].map(|by| queries.all(by).len()), [2, 0, 2]);
        assert_eq!(queries.cancel(of_ann.id(), &bob).expect_err("not theirs").kind, Kind::NotFound);
        assert!(!of_ann.cancellation().is_cancelled());
        queries.cancel(of_ann.id(), &admin).expect("sees all");
        assert!(of_ann.cancellation().is_cancelled());
    }

    #[test]
    fn memory_is_bounded() {
        let queries = Arc::new(Queries::default());
        let who = Principal::anyone();
        let long = "ä".repeat(TEXT_BYTES_MAX);
        for _ in 0..ENDED_MAX + 5 {
            queries.begin(Door::Rest, &who, &long).end(Progress::Failed(long.clone()));
        }
        let all = queries.all(&Principal::anyone());
        assert_eq!(all.len(), ENDED_MAX);
        let is_short = |text: &str| text.len() <= TEXT_BYTES_MAX + '…'.len_utf8();
        assert!(all.iter().all(|query| is_short(&query.text)));
        assert!(all.iter().all(|query| matches!(&query.progress, Progress::Failed(why) if is_short(why))));
    }
}
