//! Which questions run and which ran: `system.queries`, `GET /v1/queries`, and how one is cancelled by its number.
//!
//! A door watches each question that it answers, statements of SQL and questions about audiences alike: [`Queries::begin`] when it comes,
//! [`Watch::end`] when it is over. One whose watch is dropped before has lost its client.
//!
//! * [`watch`]: a question from its begin to its end. * [`log`]: those that are open, and the newest that ended.

mod log;
#[cfg(test)]
mod tests;
mod watch;

pub use log::{ENDED_MAX, TEXT_BYTES_MAX, begin_of};
pub use watch::{Running, Watch};

use crate::access::Principal;
use crate::audit::Audit;
use crate::error::{Failure, Kind};
use crate::rest::metrics::Metrics;
use crate::state::lock;
use log::Log;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use watch::Watched;

/// Where a question came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// REST.
    Rest,
    /// REST, by our own command line.
    Cli,
    /// Flight SQL.
    Flight,
    /// PostgreSQL's protocol.
    Postgres,
}

impl Door {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Door::Rest => "rest",
            Door::Cli => "cli",
            Door::Flight => "flight",
            Door::Postgres => "postgres",
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A statement of SQL.
    Sql,
    /// How many users fit.
    Count,
    /// Who fits.
    Members,
    /// How those who fit are spread over values.
    Profile,
    /// How much audiences share.
    Overlap,
    /// How many did some steps in order.
    Funnel,
    /// Who followed a pattern of events.
    Sequence,
    /// Who came back.
    Retention,
    /// What users did next.
    Path,
    /// To which campaigns conversions are credited.
    Attribution,
    /// What campaigns came to.
    Effect,
    /// How groups of an experiment differ.
    Experiment,
    /// Some of those who fit.
    Sample,
    /// Those with the greatest numbers.
    Top,
    /// Those most like others.
    Lookalike,
    /// How a question is answered, or why a user is in an audience.
    Explain,
    /// Who entered and who left an audience.
    Movement,
    /// What is known of one user.
    User,
}

impl Asks {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Asks::Sql => "sql",
            Asks::Count => "count",
            Asks::Members => "members",
            Asks::Profile => "profile",
            Asks::Overlap => "overlap",
            Asks::Funnel => "funnel",
            Asks::Sequence => "sequence",
            Asks::Retention => "retention",
            Asks::Path => "path",
            Asks::Attribution => "attribution",
            Asks::Effect => "effect",
            Asks::Experiment => "experiment",
            Asks::Sample => "sample",
            Asks::Top => "top",
            Asks::Lookalike => "lookalike",
            Asks::Explain => "explain",
            Asks::Movement => "movement",
            Asks::User => "user",
        }
    }
}

/// How far a question is.
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

/// A question as it is told.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its number: never given twice, also not after a restart.
    pub id: String,
    /// Where it came in.
    pub door: Door,
    /// What is asked.
    pub asks: Asks,
    /// Who asked.
    pub principal: Principal,
    /// The statement or expression, or its begin.
    pub text: String,
    /// How far it is.
    pub progress: Progress,
    /// When it came, in microseconds since 1970.
    pub started_at: i64,
    /// From then until its end, or until now.
    pub elapsed: Duration,
    /// Rows that were answered so far.
    pub rows: u64,
    /// What a privacy policy came to; of tenants under one.
    pub verdict: Option<String>,
    /// The most bytes that it held at a time to sort, join and group with; of statements only.
    pub memory_bytes: Option<u64>,
}

/// All questions of a server.
#[derive(Debug)]
pub struct Queries {
    log: Mutex<Log>,
    /// Of the numbers, apart from those of other runs of the server.
    run: Arc<str>,
    next: AtomicU64,
    /// Who is told of each that ends.
    audit: OnceLock<Audit>,
    /// Where each that ends is counted.
    metrics: OnceLock<Arc<Metrics>>,
    /// Those that take as long are logged.
    slow: OnceLock<Duration>,
}

impl Default for Queries {
    fn default() -> Self {
        let run = format!("{:x}", since_1970().as_millis()).into();
        Queries {
            log: Mutex::default(),
            run,
            next: AtomicU64::new(1),
            audit: OnceLock::new(),
            metrics: OnceLock::new(),
            slow: OnceLock::new(),
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Queries {
    /// From now on those that end are told there.
    pub fn tell(&self, audit: &Audit) {
        let _ = self.audit.set(audit.clone());
    }

    /// From now on those that end are counted there, and those that took as long are logged.
    pub fn measure(&self, metrics: &Arc<Metrics>, slow: Duration) {
        let _ = self.metrics.set(Arc::clone(metrics));
        let _ = self.slow.set(slow);
    }

    /// A question is over.
    fn measured(&self, watched: &Watched, how: &Progress, elapsed: Duration) {
        if let Some(metrics) = self.metrics.get() {
            metrics.question(watched.door, watched.asks, how, elapsed);
        }
        if self.slow.get().is_some_and(|slow| elapsed >= *slow) {
            let Query { id, door, asks, principal, text, rows, memory_bytes, .. } = watched.told(how.clone());
            let (door, asks, how, by) = (door.name(), asks.name(), how.name(), principal.name());
            tracing::warn!(id, door, asks, how, by, ?elapsed, rows, memory_bytes, text, "slow question");
        }
    }

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
        self.watch(door, Asks::Sql, principal, begin_of(text), cancelled)
    }

    /// A question about audiences came. An empty text may be told later: [`Running::says`].
    pub fn begin_question(self: &Arc<Self>, door: Door, asks: Asks, principal: &Principal, text: String) -> Watch {
        self.watch(door, asks, principal, text, CancellationToken::new())
    }

    fn watch(
        self: &Arc<Self>,
        door: Door,
        asks: Asks,
        principal: &Principal,
        text: String,
        cancelled: CancellationToken,
    ) -> Watch {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let run = Arc::clone(&self.run);
        let watched = Arc::new(Watched::new(run, number, door, asks, principal.clone(), text, cancelled));
        lock(&self.log).open(Arc::clone(&watched));
        Watch::new(Arc::clone(self), watched)
    }

    /// Those that are open and those that ended, newest first, as far as `by` may see them.
    pub fn all(&self, by: &Principal) -> Vec<Query> {
        // What is copied is copied behind the lock, which every question takes.
        let (open, ended) = lock(&self.log).all();
        let open = open.iter().filter(|watched| by.may_see(&watched.principal)).map(|watched| watched.now());
        let ended = ended.iter().filter(|ended| by.may_see(&ended.watched.principal)).map(|ended| ended.told());
        open.chain(ended).collect()
    }

    /// Cancels a question, and tells it as it was. One that `by` may not see is not there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none of this number that has not ended.
    pub fn cancel(&self, id: &str, by: &Principal) -> Result<Query, Failure> {
        let (open, ended) = lock(&self.log).all();
        let found = open.iter().find(|watched| watched.is(id) && by.may_see(&watched.principal));
        // It may end with that, which takes the lock.
        if let Some(watched) = found {
            let was = watched.now();
            watched.cancel();
            return Ok(was);
        }
        let detail = match ended.iter().find(|ended| ended.watched.is(id) && by.may_see(&ended.watched.principal)) {
            Some(ended) => format!("the query `{id}` is over: {}", ended.how.name()),
            None => format!("there is no query `{id}`"),
        };
        Err(Failure::new(Kind::NotFound, detail).suggest("GET /v1/queries lists them"))
    }
}
