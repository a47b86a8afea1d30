//! Tables of facts: a Delta Lake table per fact, which Spark, DuckDB, Polars and others open as they are.
//!
//! ```text
//! <root>/<fact>/_delta_log/00000000000000000007.json          what version 7 changed
//! <root>/<fact>/day=2024-05-01/part-<epoch>-<number>.parquet  rows of one day, sorted by user
//! ```
//!
//! Rows get into a table in two steps, see [`engine::store::FactTables`]. A commit carries the epoch as Delta's application
//! transaction, so that asked for twice it happens once. Every attempt at a commit starts from the newest version and checks
//! everything against it again; another writer who is first costs an attempt, nothing else. Delta's own rules for
//! conflicts are not relied upon: they let two mergers of the same files both succeed, and rows would be there twice.
//!
//! * [`disk`], [`store`]: writes that survive a power cut; [`vfs_store`]: reads from a simulated disk.
//! * [`schema`], [`rows`], [`file`], [`names`]: what a table and its files look like.
//! * [`log`]: a table's newest version, and what may be wrong with its log.
//! * [`stage`], [`commit`], [`merge`], [`erase`], [`upkeep`]: what changes a table.
//! * [`read`]: what SQL sees.

mod commit;
mod disk;
mod erase;
mod file;
mod log;
mod merge;
mod names;
mod read;
mod rows;
mod schema;
mod stage;
mod staged;
mod store;
mod upkeep;
mod vfs_store;

pub use merge::MergeReport;
pub(crate) use rows::chosen_to_batches;
pub use rows::{RowError, rows_to_batches};
pub(crate) use schema::chosen_schema;
pub use schema::schema;

use disk::{Disk, Numbers};
use engine::catalog::Fact;
use engine::store::{FactRow, FactTables, TableError};
use engine::vfs::Vfs;
use engine::vfs::real::RealVfs;
use log::Table;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use store::DurableLocalStore;
use tokio::runtime::Runtime;
use vfs_store::VfsStore;

/// The name under which Beluga's epochs stand in a table's log.
const APPLICATION: &str = "beluga";

/// Threads that wait for the disk.
const WORKER_COUNT: usize = 2;

/// The tables of all facts, below one folder. Every method blocks until it is done and may be called from any thread.
#[derive(Debug)]
pub struct DeltaTables {
    shared: Arc<Shared>,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<Disk>,
    store: Arc<dyn ObjectStore>,
    tables: Mutex<HashMap<String, Arc<Table>>>,
    checkpoint_every: u64,
}

/// What a simulation decides that else is decided by chance, or takes longer to come about than it has time for.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// Where the numbers in files' names begin; a table opened again must begin elsewhere.
    pub first_number: u64,
    /// Versions after which a table's log is summed up.
    pub checkpoint_every: u64,
}

impl DeltaTables {
    /// Opens the tables in `root`, which is made if it does not exist. Every log is looked at.
    ///
    /// # Errors
    /// [`TableError`] if the folder cannot be made or read, or the newest entry of a log is torn; the entry is named.
    pub fn open(root: &Path) -> Result<Self, TableError> {
        let refuse = |error: std::io::Error| failed("", "open the folder of facts", error.to_string());
        let disk = Disk::new(Arc::new(RealVfs), std::path::absolute(root).map_err(refuse)?, Numbers::Random);
        // The operating system's files are read in ranges, and not through the seam.
        Self::open_disk(disk, Arc::new(LocalFileSystem::new()), log::CHECKPOINT_EVERY)
    }

    /// As [`DeltaTables::open`], on a simulated disk. `root` is absolute.
    ///
    /// # Errors
    /// As [`DeltaTables::open`].
    pub fn open_simulated(vfs: Arc<dyn Vfs>, root: &Path, simulation: Simulation) -> Result<Self, TableError> {
        let numbers = Numbers::From(simulation.first_number.into());
        let disk = Disk::new(Arc::clone(&vfs), root.to_owned(), numbers);
        Self::open_disk(disk, Arc::new(VfsStore::new(vfs)), simulation.checkpoint_every)
    }

    fn open_disk(disk: Disk, reads: Arc<dyn ObjectStore>, checkpoint_every: u64) -> Result<Self, TableError> {
        let refuse = |why: String| failed("", "open the folder of facts", why);
        let disk = Arc::new(disk);
        let root = disk.root().to_owned();
        let explain = |error: std::io::Error| refuse(format!("{}: {error}", root.display()));
        disk.make_folder(&root).map_err(explain)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_COUNT)
            .thread_name("facts")
            .enable_all()
            .build()
            .map_err(|error| refuse(format!("no threads for it: {error}")))?;
        let store = Arc::new(DurableLocalStore::new(Arc::clone(&disk), reads));
        let shared = Arc::new(Shared { disk, store, tables: Mutex::default(), checkpoint_every });
        for name in shared.folder_names().map_err(explain)? {
            log::check_newest(&shared.disk, &shared.folder(&name))
                .map_err(|why| failed(&name, "open the table", why))?;
        }
        Ok(DeltaTables { shared, runtime: Some(runtime) })
    }

    /// Removes what a crash left of removed tables. The caller has the data directory to itself.
    ///
    /// # Errors
    /// [`TableError`]; what is left does no harm.
    pub fn sweep(&self) -> Result<(), TableError> {
        self.shared.disk.remove_gone().map_err(|error| failed("", "remove what is left of tables", error.to_string()))
    }

    /// Does work on our own threads and waits for it here, which must hold on a thread of any runtime too.
    fn wait<T: Send + 'static>(
        &self,
        name: &str,
        verb: &'static str,
        work: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, TableError> {
        let Some(runtime) = &self.runtime else {
            return Err(failed(name, verb, "the tables are closed".to_owned()));
        };
        let (sender, receiver) = mpsc::channel();
        runtime.spawn(async move {
            // The receiver waits until this is sent.
            let _ = sender.send(work.await);
        });
        let panicked = || Err("the Delta library panicked; its message is in the log of the process".to_owned());
        receiver.recv().unwrap_or_else(|_| panicked()).map_err(|why| failed(name, verb, why))
    }
}

impl Drop for DeltaTables {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing is under way, since every method waits; and waiting here would panic within another runtime.
            runtime.shutdown_background();
        }
    }
}

impl FactTables for DeltaTables {
    fn stage(&self, name: &str, fact: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        const VERB: &str = "stage rows";
        let (table, known) = (self.shared.table(name), fact.clone());
        self.wait(name, VERB, async move { table.check_ready(&known, epoch).await })?;
        self.shared.stage(name, fact, epoch, rows).map_err(|why| failed(name, VERB, why))
    }

    fn commit(&self, name: &str, fact: &Fact, epoch: u64, staged: &[u8]) -> Result<u64, TableError> {
        const VERB: &str = "commit rows";
        let staged = staged::Staged::from_bytes(staged).map_err(|why| failed(name, VERB, why))?;
        let (table, fact) = (self.shared.table(name), fact.clone());
        self.wait(name, VERB, async move { table.commit_epoch(&fact, epoch, &staged).await })
    }

    fn remove(&self, name: &str) -> Result<(), TableError> {
        let table = self.shared.table(name);
        let shared = Arc::clone(&self.shared);
        let named = name.to_owned();
        self.wait(name, "remove the table", async move {
            let _upkeep = table.upkeep.lock().await;
            let mut newest = table.newest.lock().await;
            *newest = None;
            shared.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(&named);
            let folder = shared.folder(&named);
            shared.disk.remove_folder(&folder).map_err(|error| format!("{}: {error}", folder.display()))
        })
    }

    fn erase(&self, name: &str, _: &Fact, users: &[RoaringBitmap], stop: &Arc<AtomicBool>) -> Result<(), TableError> {
        self.erase_users(name, users, stop)
    }

    fn forget_history(&self, name: &str) -> Result<(), TableError> {
        self.forget_older(name)
    }

    fn forget_staged(&self, name: &str) -> Result<(), TableError> {
        let table = self.shared.table(name);
        self.wait(name, "remove staged files", async move { table.forget_staged().await })
    }
}

impl Shared {
    fn folder(&self, name: &str) -> PathBuf {
        self.disk.root().join(name)
    }

    /// The table of a name, which need not exist on disk.
    fn table(&self, name: &str) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let (disk, store) = (Arc::clone(&self.disk), Arc::clone(&self.store));
        let made = || Arc::new(Table::new(self.folder(name), disk, store, self.checkpoint_every));
        Arc::clone(tables.entry(name.to_owned()).or_insert_with(made))
    }

    fn folder_names(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        // What is left of a table that is being removed need not make sense.
        for name in self.disk.names(self.disk.root())?.into_iter().filter(|name| !disk::is_gone(name)) {
            if self.disk.is_folder(&self.folder(&name))? {
                names.push(name);
            }
        }
        Ok(names)
    }
}

fn failed(name: &str, verb: &'static str, why: String) -> TableError {
    TableError { fact: name.to_owned(), verb, why }
}
