//! A data directory that a command opens itself.

use super::{Asker, LOOK_INTERVAL, refuse_missing};
use crate::cli::Exit;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::rest::v1::attribution::{self, AttributionAnswer, AttributionRequest};
use crate::rest::v1::catalog::{self, CatalogDocument, PutAnswer, PutParameters};
use crate::rest::v1::count::{self, CountAnswer, CountRequest};
use crate::rest::v1::effect::{self, EffectAnswer, EffectRequest};
use crate::rest::v1::experiment::{self, ExperimentAnswer, ExperimentRequest};
use crate::rest::v1::explain::{self, ExplainAnswer, ExplainRequest};
use crate::rest::v1::export::ListFormat;
use crate::rest::v1::expression::Where;
use crate::rest::v1::funnel::{self, FunnelAnswer, FunnelRequest};
use crate::rest::v1::judge::{self, JudgeAnswer, JudgeRequest};
use crate::rest::v1::lookalike::{self, LookalikeAnswer, LookalikeRequest};
use crate::rest::v1::members::{self, MembersAnswer};
use crate::rest::v1::movement::{self, MovementAnswer, MovementParameters};
use crate::rest::v1::overlap::{self, OverlapAnswer, OverlapRequest};
use crate::rest::v1::path::{self, PathAnswer, PathRequest};
use crate::rest::v1::profile::{self, ProfileAnswer, ProfileRequest};
use crate::rest::v1::retention::{self, RetentionAnswer, RetentionRequest};
use crate::rest::v1::scores::Claims;
use crate::rest::v1::sequence::{self, SequenceAnswer, SequenceRequest};
use crate::rest::v1::sql::{self, SqlAnswer, SqlRequest};
use crate::server::{self, OpenedToAsk};
use engine::audience::ops::{self, QueryContext};
use engine::store::Store;
use engine_sql::facts::DeltaTables;
use engine_sql::session::Sql;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The settings of the environment, for this data directory.
pub(super) fn config_of(data: &Path) -> Result<Config, Failure> {
    let config = Config::load(None, |name| std::env::var(name).ok(), &BTreeMap::new());
    let config = config.map_err(|error| Failure::new(Kind::InvalidField, error.to_string()))?;
    Ok(Config { data: data.to_owned(), ..config })
}

/// A data directory opened by this process.
pub(super) struct Local {
    store: Arc<Store>,
    tables: Arc<DeltaTables>,
    context: QueryContext,
    config: Config,
    /// Made when it is first asked.
    sql: OnceLock<Arc<Sql>>,
}

impl Local {
    pub(super) fn open(data: &Path) -> Result<Local, Failure> {
        refuse_missing(data)?;
        Local::of(config_of(data)?)
    }

    pub(super) fn of(config: Config) -> Result<Local, Failure> {
        let OpenedToAsk { store, tables, scanner } = server::open_to_ask(&config)?;
        let context = QueryContext { scanner: Some(scanner), ..QueryContext::default() };
        Ok(Local { store, tables, context, config, sql: OnceLock::new() })
    }

    /// What bounds a statement: it ends with `stop`, and after so long a time.
    fn until(&self, stop: &Arc<AtomicBool>, timeout_ms: Option<u64>) -> QueryContext {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (watched, stop) = (Arc::downgrade(&cancelled), Arc::clone(stop));
        let deadline = timeout_ms.map(|timeout_ms| Instant::now() + Duration::from_millis(timeout_ms));
        std::thread::spawn(move || {
            while let Some(cancelled) = watched.upgrade() {
                if stop.load(Ordering::Relaxed) || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    cancelled.store(true, Ordering::Relaxed);
                    return;
                }
                drop(cancelled);
                std::thread::sleep(LOOK_INTERVAL);
            }
        });
        QueryContext { cancelled, scanner: self.context.scanner.clone() }
    }

    fn answers(&self) -> Result<&Sql, Failure> {
        if let Some(sql) = self.sql.get() {
            return Ok(sql);
        }
        let made = server::sql(&self.config, Arc::clone(&self.tables))?;
        Ok(self.sql.get_or_init(|| made))
    }
}

/// Refuses to keep something in a directory that is only read.
fn kept_by_a_server(is_asked: bool, pointer: &str) -> Result<(), Failure> {
    if !is_asked {
        return Ok(());
    }
    let failure = Failure::field(pointer, "what is found is kept by a server");
    Err(failure.suggest("leave `--data` out, so that the server is asked"))
}

impl Asker for Local {
    fn count(&self, request: &CountRequest) -> Result<CountAnswer, Failure> {
        count::answer(&self.store.snapshot(), request, &self.context)
    }

    fn profile(&self, request: &ProfileRequest) -> Result<ProfileAnswer, Failure> {
        profile::answer(&self.store.snapshot(), request, &self.context)
    }

    fn lookalike(&self, request: &LookalikeRequest) -> Result<LookalikeAnswer, Failure> {
        kept_by_a_server(request.save_as.is_some(), "/save_as")?;
        kept_by_a_server(request.scores_to.is_some(), "/scores_to")?;
        lookalike::answer(&self.store.snapshot(), &self.store, &Claims::default(), request, &self.context, None)
    }

    fn funnel(&self, request: &FunnelRequest) -> Result<FunnelAnswer, Failure> {
        kept_by_a_server(request.save_as.is_some(), "/save_as")?;
        funnel::answer(&self.store.snapshot(), request, &self.context)
    }

    fn retention(&self, request: &RetentionRequest) -> Result<RetentionAnswer, Failure> {
        kept_by_a_server(request.save_as.is_some(), "/save_as")?;
        retention::answer(&self.store.snapshot(), request, &self.context)
    }

    fn sequence(&self, request: &SequenceRequest) -> Result<SequenceAnswer, Failure> {
        kept_by_a_server(request.save_as.is_some(), "/save_as")?;
        sequence::answer(&self.store.snapshot(), request, &self.context)
    }

    fn path(&self, request: &PathRequest) -> Result<PathAnswer, Failure> {
        kept_by_a_server(request.save_as.is_some(), "/save_as")?;
        path::answer(&self.store.snapshot(), request, &self.context)
    }

    fn experiment(&self, request: &ExperimentRequest) -> Result<ExperimentAnswer, Failure> {
        experiment::answer(&self.store.snapshot(), request, &self.context)
    }

    fn effect(&self, request: &EffectRequest) -> Result<EffectAnswer, Failure> {
        effect::answer(&self.store.snapshot(), request, &self.context)
    }

    fn attribution(&self, request: &AttributionRequest) -> Result<AttributionAnswer, Failure> {
        attribution::answer(&self.store.snapshot(), request, &self.context)
    }

    fn overlap(&self, request: &OverlapRequest) -> Result<OverlapAnswer, Failure> {
        overlap::answer(&self.store.snapshot(), request, &self.context)
    }

    fn movement(&self, name: &str, parameters: &MovementParameters) -> Result<MovementAnswer, Failure> {
        movement::answer(self.answers()?, &self.store.snapshot(), name, parameters, &self.context)
    }

    fn judge(&self, user_id: &str, request: &JudgeRequest) -> Result<JudgeAnswer, Failure> {
        judge::answer(&self.store.snapshot(), user_id, request, &self.context)
    }

    fn explain(&self, request: &ExplainRequest) -> Result<ExplainAnswer, Failure> {
        explain::answer(&self.store.snapshot(), request, &self.context)
    }

    fn members(&self, expression: &Where, limit: usize) -> Result<MembersAnswer, Failure> {
        let started = Instant::now();
        let snapshot = self.store.snapshot();
        let bound = expression.bind(&snapshot, "/where")?;
        let page = ops::members(&snapshot, &bound.predicate, None, limit, &self.context)?;
        let elapsed_us = started.elapsed().as_micros() as u64;
        // A cursor would outlive this process's snapshot.
        Ok(MembersAnswer { users: page.users, next: None, epoch: snapshot.epoch().0, elapsed_us })
    }

    fn all_members(&self, expression: &Where, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit> {
        let snapshot = self.store.snapshot();
        let bound = expression.bind(&snapshot, "/where")?;
        Ok(members::write_all(&snapshot, &bound.predicate, None, format, out, &self.context, |_| {})?)
    }

    fn sql(&self, request: &SqlRequest, stop: &Arc<AtomicBool>) -> Result<SqlAnswer, Failure> {
        let context = self.until(stop, request.timeout_ms);
        sql::answer(self.answers()?, &self.store.snapshot(), request, Vec::new(), &context, |_| {})
    }

    fn sql_rows(
        &self,
        request: &SqlRequest,
        format: ListFormat,
        out: &mut (dyn Write + Send),
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Exit> {
        let context = self.until(stop, request.timeout_ms);
        let mut answer = sql::begin(self.answers()?, &self.store.snapshot(), &request.sql, Vec::new(), &context)?;
        Ok(sql::write_all(&mut answer, format, out, &context, |_| {})?)
    }

    fn put_catalog(&self, document: &CatalogDocument, parameters: PutParameters) -> Result<PutAnswer, Failure> {
        catalog::apply(&self.store, document, parameters, &self.config)
    }
}
