//! SQL statements over one snapshot: users with a column per tag, facts, and what the process tells of itself.
//!
//! A statement is checked before anything is planned (only questions are taken, of bounded size), planned by DataFusion over the tables
//! of one snapshot, and answered batch by batch, on threads of its own. What it may use is bounded: memory and disk of all statements
//! together. It ends when nobody takes its batches any more. No file, network or setting can be reached by it: there are no
//! functions and no formats for that, and no store but those of the facts.
//!
//! * [`guard`], [`growth`]: what is taken. * [`error`]: why there is no answer. * [`catalog`]: which tables there are.
//! * [`users`], [`columns`], [`filter`], [`count`]: users. * [`facts`]: facts. * [`tag_values`]: values of tags. * [`system`]: the rest.

mod catalog;
mod columns;
mod count;
mod error;
mod facts;
mod filter;
mod growth;
mod guard;
mod system;
mod tag_values;
mod users;

pub use error::{SqlError, SqlErrorKind};
pub use guard::{
    STATEMENT_BYTES_MAX, STATEMENT_DEPTH_MAX, STATEMENT_OPERATORS_MAX, STATEMENT_TABLES_MAX, STATEMENT_TEXT_BYTES_MAX,
    STATEMENT_TOKENS_MAX, STATEMENT_TWICE_READ_MAX,
};
pub use system::SystemTable;

use crate::facts::DeltaTables;
use crate::functions::bitmap;
use crate::threads::Threads;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use catalog::{CATALOG, PUBLIC, World};
use count::CountUsers;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SQLOptions, SessionConfig};
use datafusion::sql::parser::Statement;
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use futures::StreamExt;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Memory of all statements that run at once, unless it is set otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 1 << 30;
/// Bytes on disk of all statements that run at once, unless it is set otherwise.
pub const SPILL_BYTES_DEFAULT: u64 = 10 << 30;
/// How soon it is noticed that nobody waits for an answer any more.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Batches that wait to be taken.
const BATCHES_WAITING: usize = 2;
/// Functions that make any amount of memory of a few bytes, which no pool counts, by any of their names.
const UNBOUNDED: [&str; 11] = [
    "repeat",
    "array_repeat",
    "array_resize",
    "lpad",
    "rpad",
    "range",
    "generate_series",
    "replace",
    "regexp_replace",
    "arrow_cast",
    "arrow_try_cast",
];

/// What bounds all statements together.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// Memory; what sorts, joins and groups goes to disk when it is used up.
    pub memory_bytes_max: usize,
    /// Bytes of that on disk.
    pub spill_bytes_max: u64,
    /// The folder for it, which is made anew: nobody else uses it.
    pub spill_folder: PathBuf,
}

/// Answers statements. May be used from many threads.
#[derive(Debug)]
pub struct Sql {
    tables: Arc<DeltaTables>,
    environment: Arc<RuntimeEnv>,
    threads: Threads,
}

impl Sql {
    /// Answers statements over the facts in these tables.
    ///
    /// # Errors
    /// The operating system's, if it gives no threads or the folder cannot be made.
    pub fn new(tables: Arc<DeltaTables>, options: &SqlOptions) -> io::Result<Sql> {
        make_anew(&options.spill_folder)?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![options.spill_folder.clone()]))
            .with_max_temp_directory_size(options.spill_bytes_max);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes_max)))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(without_files().map_err(io::Error::other)?))
            .build_arc()
            .map_err(io::Error::other)?;
        Ok(Sql { tables, environment, threads: Threads::new("sql")? })
    }

    /// Begins to answer a statement; returns when its columns are known. Blocks; not on a thread of an asynchronous runtime.
    ///
    /// `context` ends it when it is cancelled, and so does dropping the answer. `system` are tables that only the caller knows.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn ask(
        &self,
        snapshot: Snapshot,
        text: &str,
        system: Vec<Arc<dyn SystemTable>>,
        context: &QueryContext,
    ) -> Result<Answer, SqlError> {
        let statement = self.parsed(text)?;
        let own = QueryContext { cancelled: Arc::default(), scanner: context.scanner.clone() };
        let cancel = CancelOnDrop(Arc::clone(&own.cancelled));
        let world = World { snapshot, context: own, tables: Arc::clone(&self.tables), system };
        let names = world.names();
        let state = self.session(world);
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let text = text.to_owned();
        let running = self.threads.handle().spawn(async move {
            // Whoever does not listen any more has dropped the answer, which ends this.
            let told = match run(&state, statement, &sender).await {
                Ok(()) => Told::End,
                Err(error) => Told::Failed(SqlError::from_datafusion(&error, &text, &names)),
            };
            let _ = sender.send(told).await;
        });
        // With a clock of its own: that of the threads stands still while all of them are busy.
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waiting = waiting.map_err(|error| SqlError::new(SqlErrorKind::Internal, error.to_string()))?;
        let running = Running { receiver, task: running.abort_handle(), waiting, cancel };
        running.begin(&context.cancelled)
    }

    /// On a thread with a stack for what recurses.
    fn parsed(&self, text: &str) -> Result<Statement, SqlError> {
        let (sender, parsed) = std::sync::mpsc::channel();
        let text = text.to_owned();
        // Nobody listens any more only if this thread is gone.
        self.threads.handle().spawn_blocking(move || drop(sender.send(guard::check(&text))));
        parsed.recv().map_err(|_| panicked())?
    }

    fn session(&self, world: World) -> SessionState {
        let mut config = SessionConfig::new()
            .with_target_partitions(self.threads.count())
            .with_default_catalog_and_schema(CATALOG, PUBLIC)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.sql_parser.collect_spans = true;
        let mut builder = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.environment))
            .with_physical_optimizer_rule(Arc::new(CountUsers));
        // Nothing is read but the tables of the catalog.
        *builder.table_factories() = Some(HashMap::new());
        *builder.file_formats() = Some(Vec::new());
        if let Some(functions) = builder.scalar_functions() {
            let is_unbounded = |function: &ScalarUDF| {
                let mut names = function.aliases().iter().map(String::as_str).chain([function.name()]);
                names.any(|name| UNBOUNDED.contains(&name))
            };
            functions.retain(|function| !is_unbounded(function));
        }
        bitmap::register(&mut builder, &world.snapshot, &world.context);
        builder.with_catalog_list(world.catalogs()).build()
    }
}

fn make_anew(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(folder)
}

/// Stores by their addresses, none of them the machine's own files.
fn without_files() -> datafusion::error::Result<DefaultObjectStoreRegistry> {
    let stores = DefaultObjectStoreRegistry::new();
    let files =
        url::Url::parse("file:///").map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
    stores.deregister_store(&files)?;
    Ok(stores)
}

/// Plans a statement, tells its columns and sends its batches.
async fn run(state: &SessionState, statement: Statement, sender: &mpsc::Sender<Told>) -> datafusion::error::Result<()> {
    // Planning may take long, and other statements do not wait for it.
    let plan = tokio::task::block_in_place(|| {
        Handle::current().block_on(async {
            let plan = state.statement_to_plan(statement).await?;
            SQLOptions::new()
                .with_allow_ddl(false)
                .with_allow_dml(false)
                .with_allow_statements(false)
                .verify_plan(&plan)?;
            growth::check(&plan)?;
            state.create_physical_plan(&plan).await
        })
    })?;
    let mut batches: SendableRecordBatchStream = execute_stream(plan, state.task_ctx())?;
    if sender.send(Told::Columns(batches.schema())).await.is_err() {
        return Ok(());
    }
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 && sender.send(Told::Rows(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What a running statement tells.
#[derive(Debug)]
enum Told {
    Columns(SchemaRef),
    Rows(RecordBatch),
    Failed(SqlError),
    End,
}

/// Cancels what works for a statement when nobody waits for it any more.
#[derive(Debug)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Running {
    receiver: mpsc::Receiver<Told>,
    task: AbortHandle,
    waiting: Runtime,
    cancel: CancelOnDrop,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without this thread's programs the task has nothing to wait for.
        self.cancel.0.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

impl Running {
    fn begin(mut self, cancelled: &AtomicBool) -> Result<Answer, SqlError> {
        match self.next(cancelled)? {
            Told::Columns(schema) => Ok(Answer { schema, running: self, is_over: false }),
            Told::Failed(error) => Err(error),
            Told::Rows(_) | Told::End => Err(panicked()),
        }
    }

    fn next(&mut self, cancelled: &AtomicBool) -> Result<Told, SqlError> {
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(SqlError::cancelled());
            }
            let receiver = &mut self.receiver;
            let told = self.waiting.block_on(async { tokio::time::timeout(LOOK_INTERVAL, receiver.recv()).await });
            match told {
                Ok(Some(told)) => return Ok(told),
                Ok(None) => return Err(panicked()),
                Err(_) => {}
            }
        }
    }
}

fn panicked() -> SqlError {
    SqlError::new(SqlErrorKind::Internal, "answering panicked; the message is in the log of the process")
}

/// The answer of a statement, batch by batch. Dropping it ends the statement.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    running: Running,
    is_over: bool,
}

impl Answer {
    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows, at least one; `None` at the end. Blocks, as [`Sql::ask`] does, until `cancelled`.
    ///
    /// # Errors
    /// [`SqlError`]; then there is nothing more.
    pub fn next(&mut self, cancelled: &AtomicBool) -> Result<Option<RecordBatch>, SqlError> {
        if self.is_over {
            return Ok(None);
        }
        let told = self.running.next(cancelled);
        self.is_over = !matches!(told, Ok(Told::Rows(_)));
        match told? {
            Told::Rows(batch) => Ok(Some(batch)),
            Told::End => Ok(None),
            Told::Failed(error) => Err(error),
            Told::Columns(_) => Err(panicked()),
        }
    }
}
