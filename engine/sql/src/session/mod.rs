//! SQL statements over one snapshot: users with a column per tag, facts, and what the process tells of itself.
//!
//! A statement is checked before anything is planned (only questions are taken, of bounded size), planned by DataFusion over the tables
//! of one snapshot, and answered batch by batch, on threads of its own. What it may use is bounded: memory and disk of all statements
//! together. It ends when nobody takes its batches any more. No file, network or setting can be reached by it: there are no
//! functions and no formats for that, and no store but those of the facts.
//!
//! * [`guard`], [`growth`]: what is taken. * [`split`]: where statements end. * [`error`]: why there is no answer.
//! * [`catalog`]: which tables there are. * [`calls`]: functions of the audience language.
//! * [`parametric`]: calls with two pairs of parentheses. * [`driver_functions`]: what clients of PostgreSQL call.
//! * [`users`], [`columns`], [`filter`], [`values`], [`lambda`], [`members`]: users. * [`aggregate`], [`distinct`], [`top`]: figures of them.
//! * [`facts`], [`fact_exec`]: facts. * [`joins`], [`late`], [`by_place`]: joins of both. * [`by_audience`], [`audiences_exec`]: facts with `members`.
//! * [`subqueries`]: told apart. * [`tag_values`]: values of tags. * [`system`]: the rest.
//! * [`plans`]: kept for the next time. * [`answer`]: batches as they come. * [`memory`]: what a statement holds. * [`parameters`]: values that come apart from the text. * [`listing`]: tables and columns without a statement.

mod aggregate;
mod answer;
mod audiences_exec;
mod by_audience;
mod by_place;
mod calls;
mod catalog;
mod columns;
mod distinct;
mod driver_functions;
mod error;
mod fact_exec;
mod facts;
mod filter;
mod growth;
mod guard;
mod joins;
mod lambda;
mod late;
mod listing;
mod members;
mod memory;
mod parameters;
mod parametric;
mod places;
mod plans;
mod sizes;
mod split;
mod subqueries;
mod system;
mod tag_values;
mod top;
mod users;
mod values;

pub use answer::{Answer, Planned};
pub use calls::STATEMENT_CALLS_MAX;
pub use catalog::{CATALOG, PUBLIC, SCHEMAS};
pub use driver_functions::Driver;
pub use error::{SqlError, SqlErrorKind};
pub use guard::{
    STATEMENT_BYTES_MAX, STATEMENT_DEPTH_MAX, STATEMENT_NAME_BYTES_MAX, STATEMENT_OPERATORS_MAX, STATEMENT_TABLES_MAX,
    STATEMENT_TEXT_BYTES_MAX, STATEMENT_TOKENS_MAX, STATEMENT_TWICE_READ_MAX,
};
pub use listing::ListedTable;
pub use memory::Meter;
pub use parameters::STATEMENT_PARAMETERS_MAX;
pub use split::{Statements, statements};
pub use system::SystemTable;

use crate::distinct_from;
use crate::facts::DeltaTables;
use crate::functions::bounded::{self, Bounds, LISTS_OF_ANY_LENGTH, is_called};
use crate::functions::{analysis, bitmap, sketch};
use crate::threads::Threads;
use aggregate::AggregateUsers;
use answer::{CancelOnDrop, Running, Told, panicked};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use calls::Calls;
use catalog::World;
use datafusion::common::internal_err;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SQLOptions, SessionConfig};
use datafusion::sql::parser::Statement;
use distinct::DistinctUsers;
use engine::audience::ops::QueryContext;
use engine::clock::Clock;
use engine::store::Snapshot;
use futures::StreamExt;
use joins::JoinsAsBitmaps;
use memory::Metered;
use plans::{Key, Plans};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subqueries::SubqueriesApart;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use top::TopUsers;
use users::UsersTable;

/// Memory of all statements that run at once, unless it is set otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 1 << 30;
/// Bytes on disk of all statements that run at once, unless it is set otherwise.
pub const SPILL_BYTES_DEFAULT: u64 = 10 << 30;
/// Batches that wait to be taken.
const BATCHES_WAITING: usize = 2;
/// Functions that make any amount of memory of a few bytes, which no pool counts, by any of their names; beside those that make lists.
const UNBOUNDED: [&str; 7] = ["repeat", "lpad", "rpad", "replace", "regexp_replace", "arrow_cast", "arrow_try_cast"];
/// The longest text that functions make of constants alone, in bytes. There is one wherever it is written in a statement.
pub const STATEMENT_MADE_BYTES_MAX: usize = 4 * STATEMENT_TEXT_BYTES_MAX;
/// How long texts become that are not only joined.
const BOUNDS: Bounds =
    Bounds { constant_bytes_max: STATEMENT_MADE_BYTES_MAX as u64, row_bytes_max: 64 << 20, batch_bytes_max: 256 << 20 };

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
    clock: Arc<dyn Clock>,
    plans: Arc<Plans>,
}

impl Sql {
    /// Answers statements over the facts in these tables; what the clock shows is the present of `within => '30 days'`.
    ///
    /// # Errors
    /// The operating system's, if it gives no threads or the folder cannot be made.
    pub fn new(tables: Arc<DeltaTables>, clock: Arc<dyn Clock>, options: &SqlOptions) -> io::Result<Sql> {
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
        Ok(Sql { tables, environment, threads: Threads::new("sql")?, clock, plans: Arc::new(Plans::new()) })
    }

    /// Memory that statements hold now.
    pub fn memory_bytes(&self) -> u64 {
        self.environment.memory_pool.reserved() as u64
    }

    /// Bytes that statements have on disk now.
    pub fn spill_bytes(&self) -> u64 {
        self.environment.disk_manager.used_disk_space()
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
        let question = Question { text: text.to_owned(), ..Question::default() };
        self.plan(snapshot, &question, system, context).map(Planned::start)
    }

    /// Plans a statement, which reads this snapshot whenever it is started. Blocks, as [`Sql::ask`] does.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn plan(
        &self,
        snapshot: Snapshot,
        question: &Question,
        system: Vec<Arc<dyn SystemTable>>,
        context: &QueryContext,
    ) -> Result<Planned, SqlError> {
        let (start, may_start) = oneshot::channel();
        let (described, running) = self.begin(snapshot, question, system, context, Some(may_start))?;
        Ok(Planned::new(described.columns, start, running))
    }

    /// Tells what a statement answers and which parameters it has, without running it. Blocks, as [`Sql::ask`] does.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn describe(
        &self,
        snapshot: Snapshot,
        question: &Question,
        system: Vec<Arc<dyn SystemTable>>,
        context: &QueryContext,
    ) -> Result<Described, SqlError> {
        self.begin(snapshot, question, system, context, None).map(|(described, _)| described)
    }

    /// Without `may_start` the statement is only described.
    fn begin(
        &self,
        snapshot: Snapshot,
        question: &Question,
        system: Vec<Arc<dyn SystemTable>>,
        context: &QueryContext,
        may_start: Option<oneshot::Receiver<()>>,
    ) -> Result<(Described, Running), SqlError> {
        let own = QueryContext { cancelled: Arc::default(), scanner: context.scanner.clone() };
        let cancel = CancelOnDrop(Arc::clone(&own.cancelled));
        let schema = question.schema.as_deref().unwrap_or(PUBLIC);
        let key =
            Key { text: question.text.clone(), schema: schema.to_owned(), is_of_driver: question.driver.is_some() };
        let now = self.clock.now();
        let calls = || Calls::of(&question.text, &snapshot, &own, now).map(Arc::new);
        let users = || Some(UsersTable::new(snapshot.clone(), own.clone(), calls().ok()?));
        let kept =
            (may_start.is_some() && question.parameters.is_none()).then(|| self.plans.find(&key, users)).flatten();
        let planning = match kept {
            Some(plan) => Planning::Kept(plan),
            None => {
                let (statement, parameter_count) = self.parsed(&question.text)?;
                if snapshot.is_part() {
                    guard::check_of_part(&statement)?;
                }
                let parameters = question.parameters.clone();
                Planning::Anew { statement, parameters, parameter_count, plans: Arc::clone(&self.plans), key }
            }
        };
        let world = World {
            calls: calls()?,
            snapshot: snapshot.clone(),
            context: own.clone(),
            tables: Arc::clone(&self.tables),
            system,
        };
        let names = world.names();
        let meter = Arc::new(Meter::default());
        let state = match planning {
            Planning::Kept(_) => self.bounded(schema, &meter).build(),
            Planning::Anew { .. } => self
                .session(world, schema, question.driver.as_ref(), now, &meter)
                .map_err(|error| SqlError::from_datafusion(&error, &question.text, &names))?,
        };
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let text = question.text.clone();
        let asked = Asked { state, planning };
        let running = self.threads.handle().spawn(async move {
            let told = match may_start {
                Some(may_start) => run(asked, may_start, &sender).await,
                None => describe(asked, &sender).await,
            };
            // Whoever does not listen any more has dropped the answer, which ends this.
            let told = match told {
                Ok(()) => Told::End,
                Err(error) => Told::Failed(SqlError::from_datafusion(&error, &text, &names)),
            };
            let _ = sender.send(told).await;
        });
        Running::new(receiver, running.abort_handle(), cancel, meter).begin(&context.cancelled)
    }

    /// Whether a text is a condition of SQL, one that can stand in the parentheses of a statement and ends there. Whether its columns are
    /// there, is not known. Blocks, as [`Sql::ask`] does.
    ///
    /// # Errors
    /// [`SqlError`].
    pub fn check_condition(&self, text: &str) -> Result<(), SqlError> {
        // Its places would be those of another text.
        let parsed = self.parsed(&guard::around(text)).map_err(|error| SqlError { span: None, ..error })?;
        guard::is_condition(&parsed.0)
    }

    /// On a thread with a stack for what recurses.
    fn parsed(&self, text: &str) -> Result<(Statement, usize), SqlError> {
        let (sender, parsed) = std::sync::mpsc::channel();
        let text = text.to_owned();
        let parse = move || {
            let mut statement = guard::check(&text)?;
            guard::parsed(&mut statement).into_iter().for_each(distinct_from::rejoin);
            let parameter_count = parameters::number(&mut statement, &text)?;
            Ok((statement, parameter_count))
        };
        // Nobody listens any more only if this thread is gone.
        self.threads.handle().spawn_blocking(move || drop(sender.send(parse())));
        parsed.recv().map_err(|_| panicked())?
    }

    /// A session within its bounds: for a plan that needs no names any more.
    fn bounded(&self, schema: &str, meter: &Arc<Meter>) -> SessionStateBuilder {
        let mut environment = RuntimeEnv::clone(&self.environment);
        environment.memory_pool = Arc::new(Metered::new(environment.memory_pool, Arc::clone(meter)));
        let mut config = SessionConfig::new()
            .with_target_partitions(self.threads.count())
            .with_default_catalog_and_schema(CATALOG, schema)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.sql_parser.collect_spans = true;
        SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(environment))
            .with_physical_optimizer_rule(Arc::new(AggregateUsers))
            .with_physical_optimizer_rule(Arc::new(TopUsers))
    }

    /// The same with all tables and functions.
    fn session(
        &self,
        world: World,
        schema: &str,
        driver: Option<&Driver>,
        now: i64,
        meter: &Arc<Meter>,
    ) -> datafusion::error::Result<SessionState> {
        let mut builder = self
            .bounded(schema, meter)
            .with_default_features()
            .with_analyzer_rule(Arc::new(DistinctUsers))
            .with_analyzer_rule(Arc::new(SubqueriesApart::default()))
            .with_optimizer_rule(Arc::new(JoinsAsBitmaps));
        // Nothing is read but the tables of the catalog.
        *builder.table_factories() = Some(HashMap::new());
        *builder.file_formats() = Some(Vec::new());
        if let Some(functions) = builder.scalar_functions() {
            functions.retain(|function| !is_called(function, &UNBOUNDED) && !is_called(function, &LISTS_OF_ANY_LENGTH));
            bounded::bound(functions, BOUNDS);
        }
        if let Some(functions) = builder.higher_order_functions() {
            functions.retain(|function| lambda::TAKEN.contains(&function.name()));
        }
        bitmap::register(&mut builder, &world.snapshot, &world.context);
        analysis::register(&mut builder, &world.context);
        sketch::register(&mut builder, &world.context);
        let of_driver = driver.map_or_else(Vec::new, |driver| driver_functions::functions(driver, schema));
        let calls = Arc::clone(&world.calls);
        let mut state = builder.with_catalog_list(world.catalogs()).build();
        let options = Arc::clone(state.config().options());
        let properties = state.execution_props_mut();
        properties.mark_start_execution(options);
        // `now()` is the present of `did(…, within => '30 days')`, too.
        properties.query_execution_start_time = timestamp_us_to_datetime(now).map(|now| now.and_utc());
        for function in of_driver.into_iter().chain(calls.functions()) {
            // One of DataFusion's own may have the name of a driver's.
            drop(state.register_udf(function)?);
        }
        Ok(state)
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

/// A statement in its session.
struct Asked {
    state: SessionState,
    planning: Planning,
}

/// What is known of its plan.
enum Planning {
    /// It is optimized already.
    Kept(LogicalPlan),
    /// It was parsed.
    Anew { statement: Statement, parameters: Option<RecordBatch>, parameter_count: usize, plans: Arc<Plans>, key: Key },
}

impl Asked {
    /// The plan that answers it.
    async fn planned(self) -> datafusion::error::Result<(SessionState, Arc<dyn ExecutionPlan>)> {
        let Asked { state, planning } = self;
        let optimized = match planning {
            Planning::Kept(plan) => plan,
            Planning::Anew { statement, parameters, parameter_count, plans, key } => {
                let plan = logical(&state, statement).await?;
                let columns = parameters.is_none().then(|| plans.columns_of(&key, &plan)).flatten();
                let plan = optimized(&state, parameters::bind(plan, parameter_count, parameters.as_ref())?)?;
                if let Some(columns) = columns {
                    plans.keep(key, &plan, columns);
                }
                plan
            }
        };
        let plan = state.query_planner().create_physical_plan(&optimized, &state).await?;
        Ok((state, plan))
    }
}

/// Plans a statement without its parameters' values, and refuses what is no question.
async fn logical(state: &SessionState, statement: Statement) -> datafusion::error::Result<LogicalPlan> {
    let plan = state.statement_to_plan(statement).await?;
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
    lambda::check(&plan)?;
    growth::check_recursion(&plan)?;
    Ok(plan)
}

fn optimized(state: &SessionState, plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    growth::check(&plan)?;
    let plan = state.optimize(&plan)?;
    growth::check_texts(&plan)?;
    by_place::by_places(plan, state)
}

/// Planning may take long, and other statements do not wait for it.
fn aside<T>(planning: impl Future<Output = datafusion::error::Result<T>>) -> datafusion::error::Result<T> {
    tokio::task::block_in_place(|| Handle::current().block_on(planning))
}

/// Plans a statement, tells its columns and, once that may start, sends its batches.
async fn run(
    asked: Asked,
    may_start: oneshot::Receiver<()>,
    sender: &mpsc::Sender<Told>,
) -> datafusion::error::Result<()> {
    let (state, plan) = aside(asked.planned())?;
    let described = Described { columns: plan.schema(), parameters: Arc::new(Schema::empty()) };
    if sender.send(Told::Columns(described)).await.is_err() || may_start.await.is_err() {
        return Ok(());
    }
    let mut batches: SendableRecordBatchStream = execute_stream(plan, task(&state))?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 && sender.send(Told::Rows(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What plans run with. Functions would be looked up in it by plans that were read from bytes; there are none.
fn task(state: &SessionState) -> Arc<TaskContext> {
    let session = state.session_id().to_owned();
    let (config, environment) = (state.config().clone(), Arc::clone(state.runtime_env()));
    let none = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
    Arc::new(TaskContext::new(None, session, config, none.0, none.1, none.2, none.3, environment))
}

/// Plans a statement and tells its columns and parameters.
async fn describe(asked: Asked, sender: &mpsc::Sender<Told>) -> datafusion::error::Result<()> {
    let Asked { state, planning } = asked;
    let described = aside(async {
        let Planning::Anew { statement, parameters: values, parameter_count, .. } = planning else {
            return internal_err!("a statement is described before it is planned");
        };
        let plan = logical(&state, statement).await?;
        let parameters = parameters::described(&plan, parameter_count)?;
        // What is answered may depend on what the values are, where whoever asks knows that.
        let plan = match values {
            Some(_) => parameters::bind(plan, parameter_count, values.as_ref())?,
            None => parameters::with_nulls(plan, parameter_count)?,
        };
        let plan = optimized(&state, plan)?;
        let plan = state.query_planner().create_physical_plan(&plan, &state).await?;
        Ok(Described { columns: plan.schema(), parameters })
    })?;
    // Whoever does not listen any more needs it no more.
    let _ = sender.send(Told::Columns(described)).await;
    Ok(())
}

/// A statement, and what it is asked with.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The statement.
    pub text: String,
    /// Values of its parameters, in order: one row, a column each.
    pub parameters: Option<RecordBatch>,
    /// Where a table is looked for that is named without its schema; [`PUBLIC`] if it is not said.
    pub schema: Option<String>,
    /// Who asks by PostgreSQL's protocol, for the functions that its clients call.
    pub driver: Option<Driver>,
}

/// What a statement answers and takes.
#[derive(Clone, Debug)]
pub struct Described {
    /// The columns of its answer.
    pub columns: SchemaRef,
    /// Its parameters, in order; their types as far as they are known, text otherwise.
    pub parameters: SchemaRef,
}
