//! What all requests share: the store, its keeper, and what bounds the work on it.

use crate::access::rates::Rates;
use crate::access::view::Views;
use crate::access::{Access, Principal};
use crate::audit::Audit;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::jobs::Jobs;
use crate::live::ChangeFeeds;
use crate::privacy::{Guards, doors};
use crate::queries::Queries;
use crate::rest::cursors::Cursors;
use crate::rest::limits::QueryGate;
use crate::rest::metrics::Metrics;
use crate::rest::v1::scores::Claims;
use crate::sources;
use crate::tls::Tls;
use engine::audience::ops::QueryContext;
use engine::audience::scan::FactScanner;
use engine::store::{Snapshot, Store};
use engine_sql::session::Sql;
use ingest::keeper::{Keeper, KeeperStatus};
use ingest::live::{LiveAudiences, LiveStatus, SizePoint};
use ingest::pipeline::Pipeline;
use ingest::sink::Sinks;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Semaphore;

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The data directory is being opened.
    Starting,
    /// Requests are answered.
    Ready,
    /// The server takes no new work and ends.
    Stopping,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// What an [`AppState`] points to.
pub struct Shared {
    /// How the server runs.
    pub config: Config,
    /// Who may do what.
    pub access: Access,
    /// What of the data its callers see.
    pub views: Views,
    /// What tenants under a privacy policy were told.
    pub privacy: Guards,
    /// How often they may call.
    pub rates: Rates,
    /// Which queries run and wait.
    pub queries: QueryGate,
    /// Which statements run and which ran.
    pub statements: Arc<Queries>,
    /// Bodies of updates being read.
    pub uploads: Arc<Semaphore>,
    /// Exports being written.
    pub exports: Arc<Semaphore>,
    /// Snapshots held for cursors.
    pub cursors: Cursors,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who enters and leaves live audiences.
    pub feeds: Arc<ChangeFeeds>,
    /// Tags that scores are written to.
    pub scores: Claims,
    /// What connections are encrypted with; not set without TLS.
    tls: OnceLock<Arc<Tls>>,
    /// What is told of who asks what.
    audit: OnceLock<Audit>,
    opened: OnceLock<Opened>,
    phase: AtomicU8,
    /// Hashes of the idempotency keys whose requests are running.
    keys_in_use: Mutex<HashSet<u128>>,
    /// Held while the sources are brought to what the catalog declares.
    reconciling: Mutex<()>,
    /// Held while the catalog or an audience is read, checked and changed.
    definitions: Arc<tokio::sync::Mutex<()>>,
}

/// Who reads the tables of facts.
#[derive(Clone, Debug)]
pub struct Readers {
    /// Searches events for conditions.
    pub scanner: Arc<dyn FactScanner>,
    /// Answers statements.
    pub sql: Arc<Sql>,
}

struct Opened {
    store: Arc<Store>,
    readers: Readers,
    pipeline: Pipeline,
    jobs: Jobs,
    live: LiveAudiences,
    sinks: Sinks,
    keeper: Mutex<Option<Keeper>>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        // The others join threads that may write, which may wait for a full queue. Once the server was stopped this is done.
        self.sinks.lift_bounds();
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl AppState {
    /// The state of a server whose store is not open yet.
    pub fn new(config: Config) -> AppState {
        let (metrics, statements) = (Arc::new(Metrics::new()), Arc::new(Queries::default()));
        statements.measure(&metrics, config.slow_query);
        AppState(Arc::new(Shared {
            queries: QueryGate::new(config.concurrent_queries, config.queued_queries),
            statements,
            uploads: Arc::new(Semaphore::new(config.concurrent_uploads)),
            exports: Arc::new(Semaphore::new(config.concurrent_uploads)),
            cursors: Cursors::new(config.cursors_max, config.cursor_idle),
            metrics,
            feeds: Arc::default(),
            access: Access::default(),
            views: Views::default(),
            privacy: Guards::new(&config.data),
            rates: Rates::new(config.token_calls_per_second),
            scores: Claims::default(),
            tls: OnceLock::new(),
            audit: OnceLock::new(),
            opened: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            keys_in_use: Mutex::default(),
            reconciling: Mutex::default(),
            definitions: Arc::default(),
            config,
        }))
    }

    /// Hands over the open store, who reads its events, and what tends it; from now on requests are answered.
    pub fn set_opened(
        &self,
        store: Arc<Store>,
        readers: Readers,
        keeper: Keeper,
        jobs: Jobs,
        live: LiveAudiences,
        sinks: Sinks,
    ) {
        let pipeline = Pipeline::new(Arc::clone(&store));
        let keeper = Mutex::new(Some(keeper));
        let _ = self.opened.set(Opened { store, readers, pipeline, jobs, live, sinks, keeper });
        self.metrics.opened();
        self.phase.store(Phase::Ready as u8, Ordering::Release);
    }

    /// Who sends this `Authorization`, if statements of theirs may be answered now: see [`Access::check`].
    ///
    /// # Errors
    /// As there; [`Kind::TooManyCalls`], [`Kind::NotAudited`]; [`Kind::Forbidden`] of who is under a privacy policy.
    pub fn caller(&self, authorization: Option<&str>) -> Result<Principal, Failure> {
        let principal = self.access.check(authorization)?;
        self.rates.check(&principal)?;
        doors::check_statements(&principal)?;
        self.audit().check()?;
        Ok(principal)
    }

    /// Connections are encrypted with this.
    pub(crate) fn set_tls(&self, tls: Arc<Tls>) {
        let _ = self.tls.set(tls);
    }

    /// What connections are encrypted with, if they are.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.get()
    }

    /// From now on who asks what is told there.
    pub fn set_audit(&self, audit: &Audit) {
        let _ = self.audit.set(audit.clone());
        self.statements.tell(audit);
    }

    /// What is told of who asks what; of a server that tells nothing, nothing.
    pub fn audit(&self) -> Audit {
        self.audit.get().cloned().unwrap_or_default()
    }

    /// How far the server is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Stopping,
        }
    }

    /// From now on `/readyz` says no.
    pub fn set_stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
        self.feeds.close();
    }

    /// The store.
    ///
    /// # Errors
    /// [`Kind::NotReady`] before it is open.
    pub fn store(&self) -> Result<&Arc<Store>, Failure> {
        match self.opened.get() {
            Some(opened) => Ok(&opened.store),
            None => Err(Failure::new(
                Kind::NotReady,
                "the server is still opening its data directory; /readyz tells when it is ready",
            )
            .retry_after(1)),
        }
    }

    /// What bounds a question that begins now.
    pub fn query_context(&self) -> QueryContext {
        let scanner = self.opened.get().map(|opened| Arc::clone(&opened.readers.scanner));
        QueryContext { scanner, ..QueryContext::default() }
    }

    /// The sources that run.
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn pipeline(&self) -> Result<&Pipeline, Failure> {
        self.store()?;
        self.opened.get().map(|opened| &opened.pipeline).ok_or_else(|| Failure::internal("no pipeline"))
    }

    /// The jobs.
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn jobs(&self) -> Result<&Jobs, Failure> {
        self.store()?;
        self.opened.get().map(|opened| &opened.jobs).ok_or_else(|| Failure::internal("no jobs"))
    }

    /// Who answers SQL.
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn sql(&self) -> Result<&Arc<Sql>, Failure> {
        self.store()?;
        self.opened.get().map(|opened| &opened.readers.sql).ok_or_else(|| Failure::internal("no SQL"))
    }

    /// The sinks.
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn sinks(&self) -> Result<&Sinks, Failure> {
        self.store()?;
        self.opened.get().map(|opened| &opened.sinks).ok_or_else(|| Failure::internal("no sinks"))
    }

    /// Brings the sinks to what the catalog declares; those that are new begin with what is visible now. By someone who does not
    /// hold the definitions.
    ///
    /// # Errors
    /// As [`AppState::store`]; and the disk's, or the operating system's if it gives no thread.
    pub fn run_sinks(&self) -> Result<(), Failure> {
        self.sinks()?.look().map_err(sinks_failed)
    }

    /// How a live audience is; `None` before it was looked at.
    pub fn live_status(&self, name: &str) -> Option<LiveStatus> {
        self.opened.get()?.live.status(name)
    }

    /// How all live audiences are that were looked at, by name.
    pub fn live_statuses(&self) -> Vec<(String, LiveStatus)> {
        self.opened.get().map_or_else(Vec::new, |opened| opened.live.statuses())
    }

    /// The size of the live audience with this list over time; see [`LiveAudiences::sizes`].
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn live_sizes(&self, list_id: &str, from: i64, to: i64) -> Result<Vec<SizePoint>, Failure> {
        self.store()?;
        Ok(self.opened.get().map_or_else(Vec::new, |opened| opened.live.sizes(list_id, from, to)))
    }

    /// Ends the looking at live audiences.
    pub fn stop_live(&self) {
        if let Some(opened) = self.opened.get() {
            opened.live.stop();
        }
    }

    /// Brings the running sources to what the catalog declares. Waits for those that end, which may wait for a full queue of a sink:
    /// so this comes behind [`AppState::run_sinks`], by someone who does not hold the definitions.
    ///
    /// # Errors
    /// As [`AppState::store`]; and the operating system's, if it gives no thread.
    pub fn run_sources(&self) -> Result<(), Failure> {
        let _reconciling = lock(&self.reconciling);
        sources::reconcile(self.pipeline()?, self.whole()?.catalog(), &self.config)
    }

    /// The newest published snapshot, of everybody and everything: for what the server does by itself, or the operator asks.
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn whole(&self) -> Result<Snapshot, Failure> {
        Ok(self.store()?.snapshot())
    }

    /// What somebody may ask of the newest snapshot; see [`Views::of`].
    ///
    /// # Errors
    /// As there, and as [`AppState::store`].
    pub fn view(&self, principal: &Principal, context: &QueryContext) -> Result<Snapshot, Failure> {
        self.views.of(&self.whole()?, principal, &self.access.tenants()?, context)
    }

    /// What somebody knows by name; see [`Views::names`].
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn names(&self, principal: &Principal) -> Result<Snapshot, Failure> {
        Ok(self.views.names(&self.whole()?, principal, &self.access.tenants()?))
    }

    /// That the tenant of somebody is still there: to be asked by who makes something of it, and holds the definitions.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`]; as [`AppState::store`].
    pub fn still(&self, principal: &Principal) -> Result<(), Failure> {
        match principal.tenant_name() {
            Some(name) if self.access.tenants()?.find(name).is_none() => {
                Err(Failure::new(Kind::Unauthorized, format!("the tenant `{name}` is not there any more")))
            }
            _ => Ok(()),
        }
    }

    /// What somebody may write to; see [`Views::writable`].
    ///
    /// # Errors
    /// As [`AppState::store`].
    pub fn writable(&self, principal: &Principal) -> Result<Snapshot, Failure> {
        Ok(self.views.writable(&self.whole()?, principal))
    }

    /// What the keeper did; `None` before it started and after it stopped.
    pub fn keeper_status(&self) -> Option<KeeperStatus> {
        let opened = self.opened.get()?;
        let keeper = lock(&opened.keeper);
        keeper.as_ref().map(Keeper::status)
    }

    /// Ends the keeper with a last publish and checkpoint.
    pub fn stop_keeper(&self) -> Option<KeeperStatus> {
        let opened = self.opened.get()?;
        let keeper = lock(&opened.keeper).take();
        keeper.map(|keeper| keeper.stop(true))
    }

    /// Waits for the right to change definitions (catalog, audiences): check and change are one step.
    pub async fn lock_definitions(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.definitions).lock_owned().await
    }

    /// Reserves an idempotency key while its request runs.
    ///
    /// # Errors
    /// [`Kind::KeyInUse`] if another request with it runs.
    pub fn use_key(&self, key: u128) -> Result<KeyInUse, Failure> {
        if !lock(&self.keys_in_use).insert(key) {
            let detail =
                "the first request with this idempotency key is still running; wait for its answer, then repeat";
            return Err(Failure::new(Kind::KeyInUse, detail).retry_after(1));
        }
        Ok(KeyInUse { state: self.clone(), key })
    }
}

/// The sinks could not be brought to what is declared.
pub(crate) fn sinks_failed(error: std::io::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("queues of sinks: {error}"))
}

/// Gives an idempotency key free when dropped.
pub struct KeyInUse {
    state: AppState,
    key: u128,
}

impl Drop for KeyInUse {
    fn drop(&mut self) {
        lock(&self.state.keys_in_use).remove(&self.key);
    }
}

/// Locks; a panic elsewhere does not make what is behind the lock wrong, since every change of it is one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
