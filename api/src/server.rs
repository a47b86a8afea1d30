//! A running server: bound before it opens its data, ready when it has, stopped without losing anything.
//!
//! Stopping goes in order: `/readyz` says no, requests in flight are finished (or cancelled after the drain time), what
//! was written is published and checkpointed, the directory is given free.

use crate::audit::Audit;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::flight;
use crate::jobs::Jobs;
use crate::postgres;
use crate::rest::router::router;
use crate::rest::v1::audiences::forget_broken_uploads;
use crate::sinks;
use crate::state::{AppState, Readers};
use crate::tls::{Listener, Speaks, Tls};
use crate::upkeep::TableKeeper;
use axum::serve::ListenerExt;
use engine::audience::scan::FactScanner;
use engine::store::{Options, Store};
use engine::vfs::Vfs;
use engine::vfs::real::RealVfs;
use engine_sql::facts::DeltaTables;
use engine_sql::scan::TableScanner;
use engine_sql::session::{CATALOG, Sql, SqlOptions};
use ingest::clock::SystemClock;
use ingest::keeper::{Keeper, KeeperOptions};
use ingest::live::{LiveAudiences, LiveOptions, Observer};
use ingest::sink::{SinkQueues, Sinks};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// After so long without a byte a client is asked whether it is still there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Stack of a thread that answers: expressions are walked down as deep as they are, `PREDICATE_DEPTH_MAX` of the engine, and this is several times
/// as much as that takes. What is not used takes no memory.
const STACK_BYTES: usize = 16 << 20;
/// How often unused cursors are looked for.
const CURSOR_SWEEP: Duration = Duration::from_secs(10);

/// A server; it ends when [`Server::stop`] is called. Dropping it ends it without a checkpoint, as a kill would.
pub struct Server {
    runtime: Runtime,
    address: SocketAddr,
    flight_address: Option<SocketAddr>,
    postgres_address: Option<SocketAddr>,
    state: AppState,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
    /// Of Flight SQL and of PostgreSQL's protocol, where they are wanted.
    others: Vec<JoinHandle<std::io::Result<()>>>,
    upkeep: TableKeeper,
}

impl Server {
    /// Binds, then opens the data directory; returns when requests are answered.
    ///
    /// # Errors
    /// [`Kind::LocalFile`] if the address is taken; those of opening the store.
    pub fn start(config: Config) -> Result<Server, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("beluga-io")
            .thread_stack_size(STACK_BYTES)
            .build()
            .map_err(no_threads)?;
        let tls = Tls::open(&config)?;
        let (listener, address) = runtime.block_on(bind(config.http, "--http"))?;
        let flight = config.flight.map(|address| runtime.block_on(bind(address, "--flight"))).transpose()?;
        let postgres = config.postgres.map(|address| runtime.block_on(bind(address, "--postgres"))).transpose()?;
        let state = AppState::new(config);
        state.access.trust(&state.config)?;
        if let Some(tls) = &tls {
            state.set_tls(Arc::clone(tls));
            runtime.spawn(Arc::clone(tls).watch());
        }
        if let Some(watched) = state.access.watch() {
            runtime.spawn(watched);
        }
        let (stop, stopped) = watch::channel(false);
        let flight_address = flight.as_ref().map(|(_, address)| *address);
        let postgres_address = postgres.as_ref().map(|(_, address)| *address);
        let mut others = Vec::new();
        if let Some((listener, _)) = flight {
            let listener = Listener::new(listener, Speaks::Flight, tls.clone());
            others.push(runtime.spawn(flight::serve(listener, state.clone(), until_set(stopped.clone()))));
        }
        if let Some((listener, _)) = postgres {
            others.push(runtime.spawn(postgres::serve(listener, state.clone(), until_set(stopped.clone()))));
        }
        let listener = Listener::new(listener, Speaks::Web, tls);
        let serving = runtime.spawn(serve(listener, state.clone(), until_set(stopped)));
        let Opened { store, tables, queues } = open_all(&state.config)?;
        // Before anybody is let in.
        state.set_audit(&Audit::open(&state.config.data, state.config.audit, state.config.audit_keep)?);
        state.access.open(&state.config.data)?;
        state.config.check_exposure(state.access.is_closed()?)?;
        let scanner = scanner(&state.config, Arc::clone(&tables))?;
        let sql = sql(&state.config, Arc::clone(&tables))?;
        let sinks = Sinks::start(Arc::clone(&store), queues).map_err(no_threads)?;
        let upkeep = TableKeeper::start(Arc::clone(&store), tables)?;
        let keeper = Keeper::start(Arc::clone(&store), keeper_options(&state.config)).map_err(no_threads)?;
        let readers = Readers { scanner, sql };
        let jobs = Jobs::open(Arc::clone(&store), readers.clone(), state.config.clone())?;
        let live = live_options(&state, Arc::clone(&readers.scanner));
        let live = LiveAudiences::start(Arc::clone(&store), live).map_err(no_threads)?;
        state.set_opened(store, readers, keeper, jobs, live, sinks);
        state.run_sinks()?;
        state.run_sources()?;
        state.jobs()?.start().map_err(no_threads)?;
        runtime.spawn(sweep_cursors(state.clone()));
        Ok(Server { runtime, address, flight_address, postgres_address, state, stop, serving, others, upkeep })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.with_tls("https", "http"), self.address)
    }

    /// Where Flight SQL listens, if it does.
    pub fn flight_address(&self) -> Option<SocketAddr> {
        self.flight_address
    }

    /// The URL of Flight SQL, as clients take it.
    pub fn flight_url(&self) -> Option<String> {
        let scheme = self.with_tls("grpc+tls", "grpc");
        self.flight_address.map(|address| format!("{scheme}://{address}"))
    }

    /// Where PostgreSQL's protocol is spoken, if it is.
    pub fn postgres_address(&self) -> Option<SocketAddr> {
        self.postgres_address
    }

    /// The URL of that, as clients take it.
    pub fn postgres_url(&self) -> Option<String> {
        let asking = self.with_tls("?sslmode=require", "");
        self.postgres_address.map(|address| format!("postgresql://{address}/{CATALOG}{asking}"))
    }

    /// The one with TLS, or the other.
    fn with_tls(&self, with: &'static str, without: &'static str) -> &'static str {
        if self.state.tls().is_some() { with } else { without }
    }

    /// What its requests share.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Ends: finishes requests, publishes, checkpoints.
    ///
    /// # Errors
    /// The last checkpoint's failure; nothing acknowledged is lost by it.
    pub fn stop(self) -> Result<(), Failure> {
        self.state.set_stopping();
        let _ = self.stop.send(true);
        if let Ok(sinks) = self.state.sinks() {
            // Those who write do not wait any more for another side that is away.
            sinks.lift_bounds();
        }
        let drain = self.state.config.drain;
        let aborts: Vec<_> = std::iter::once(&self.serving).chain(&self.others).map(JoinHandle::abort_handle).collect();
        let all = async {
            let _ = self.serving.await;
            for other in self.others {
                let _ = other.await;
            }
        };
        let drained = self.runtime.block_on(async { tokio::time::timeout(drain, all).await });
        if drained.is_err() {
            tracing::warn!("requests were still running at the end of the drain time and are cut off");
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
        if let Ok(pipeline) = self.state.pipeline() {
            pipeline.stop();
        }
        if let Ok(jobs) = self.state.jobs() {
            jobs.stop();
        }
        self.state.stop_live();
        if let Ok(sinks) = self.state.sinks() {
            sinks.stop();
        }
        // Handlers that were cut off are dropped here, which cancels their queries.
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        drop(self.upkeep);
        self.state.audit().close();
        match self.state.stop_keeper().and_then(|status| status.last_error) {
            Some(error) => Err(Failure::new(Kind::LocalFile, format!("last checkpoint: {error}"))),
            None => Ok(()),
        }
    }
}

pub(crate) fn no_threads(error: std::io::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("start threads: {error}"))
}

/// Listens at an address that is set with `flag`, and tells where.
async fn bind(address: SocketAddr, flag: &str) -> Result<(tokio::net::TcpListener, SocketAddr), Failure> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::new(Kind::LocalFile, format!("listen on {address}: {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure.suggest(format!(
                "another program listens there, perhaps another beluga: stop it, or choose another address with {flag} 127.0.0.1:7710",
            )),
            std::io::ErrorKind::PermissionDenied => failure.suggest(format!("choose a port above 1023 with {flag}")),
            _ => failure.suggest(format!("choose an address of this machine with {flag}")),
        }
    })?;
    let bound = listener.local_addr().map_err(|error| Failure::new(Kind::LocalFile, error.to_string()))?;
    Ok((listener, bound))
}

async fn until_set(mut set: watch::Receiver<bool>) {
    // Whoever could set it is gone otherwise.
    let _ = set.wait_for(|set| *set).await;
}

/// Has the operating system ask a quiet client whether it is still there, so that the connection of one that lost its power or its
/// way ends. Without the option all is as it was.
pub(crate) fn keep_alive(connection: &TcpStream) {
    let asked = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 3);
    let _ = SockRef::from(connection).set_tcp_keepalive(&asked);
}

async fn serve(
    listener: Listener,
    state: AppState,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // Only so are addresses told of a listener that is not axum's.
    let listener = listener.tap_io(|_| {});
    let routes = router(&state);
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, routes).with_graceful_shutdown(stopping).await
}

/// Opens the store of a configuration for serving.
///
/// # Errors
/// Those of [`Store::open`], and the operating system's if it gives no thread.
pub fn open(config: &Config) -> Result<Arc<Store>, Failure> {
    let Opened { store, queues, .. } = open_all(config)?;
    // Nobody delivers.
    queues.lift_bounds();
    Ok(store)
}

/// A store opened for asking it.
pub struct OpenedToAsk {
    /// The store.
    pub store: Arc<Store>,
    /// The tables of its facts.
    pub tables: Arc<DeltaTables>,
    /// Searches their events.
    pub scanner: Arc<dyn FactScanner>,
}

/// Opens the store of a configuration for asking it.
///
/// # Errors
/// As [`open`].
pub fn open_to_ask(config: &Config) -> Result<OpenedToAsk, Failure> {
    let Opened { store, tables, queues } = open_all(config)?;
    // Nobody delivers.
    queues.lift_bounds();
    let scanner = scanner(config, Arc::clone(&tables))?;
    Ok(OpenedToAsk { store, tables, scanner })
}

fn scanner(config: &Config, tables: Arc<DeltaTables>) -> Result<Arc<dyn FactScanner>, Failure> {
    let scanner = TableScanner::new(tables, config.scan_memory_bytes).map_err(no_threads)?;
    Ok(Arc::new(scanner))
}

/// Who answers SQL over an open store's tables.
///
/// # Errors
/// The operating system's, if it gives no threads or no folder.
pub fn sql(config: &Config, tables: Arc<DeltaTables>) -> Result<Arc<Sql>, Failure> {
    let options = SqlOptions {
        memory_bytes_max: config.sql_memory_bytes,
        spill_bytes_max: config.sql_spill_bytes,
        spill_folder: config.data.join("spill"),
    };
    Sql::new(tables, Arc::new(SystemClock), &options).map(Arc::new).map_err(no_threads)
}

/// A store, and what it writes to besides its own files.
struct Opened {
    store: Arc<Store>,
    tables: Arc<DeltaTables>,
    queues: Arc<SinkQueues>,
}

fn open_all(config: &Config) -> Result<Opened, Failure> {
    RealVfs.create_folder(&config.data).map_err(|error| {
        Failure::new(Kind::LocalFile, format!("{}: cannot make the directory: {error}", config.data.display()))
            .suggest("Beluga needs a directory it may write to")
    })?;
    let tables = Arc::new(DeltaTables::open(&config.data.join("facts"))?);
    let queues = sinks::queues(Arc::new(RealVfs), config);
    let options = Options {
        shard_count: config.shard_count,
        memory_bytes_max: config.memory_bytes_max,
        workers: Some(ingest::keeper::workers().map_err(no_threads)?),
        publishers: Some(ingest::keeper::publishers().map_err(no_threads)?),
        clock: Arc::new(SystemClock),
        tables: Some(tables.clone()),
        tap: Some(queues.clone()),
    };
    let store = Store::open(Arc::new(RealVfs), &config.data, options)?;
    // Only now the directory is ours alone.
    tables.sweep()?;
    forget_broken_uploads(&store)?;
    Ok(Opened { store: Arc::new(store), tables, queues })
}

/// How a keeper tends the store of a configuration.
pub fn keeper_options(config: &Config) -> KeeperOptions {
    KeeperOptions {
        publish_interval: config.publish_interval,
        checkpoint_interval: config.checkpoint_interval,
        checkpoint_memory_bytes: config.checkpoint_memory_bytes,
        erase_within: config.erase_within,
        look_interval: KeeperOptions::default().look_interval.min(config.checkpoint_interval),
    }
}

fn live_options(state: &AppState, scanner: Arc<dyn FactScanner>) -> LiveOptions {
    LiveOptions {
        scanner: Some(scanner),
        interval: state.config.live_interval,
        folder: state.config.data.join("live"),
        vfs: Arc::new(RealVfs),
        observer: Arc::clone(&state.feeds) as Arc<dyn Observer>,
    }
}

async fn sweep_cursors(state: AppState) {
    let mut ticks = tokio::time::interval(CURSOR_SWEEP);
    loop {
        ticks.tick().await;
        state.cursors.expire();
    }
}
