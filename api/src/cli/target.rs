//! Whom a command asks: a server, or a data directory that it opens itself.

use super::Exit;
use crate::config::Config;
use crate::error::{Failure, Kind, Problem};
use crate::jobs::JobDefinition;
use crate::rest::negotiate::Format;
use crate::rest::v1::catalog::{self, CatalogDocument, PutAnswer, PutParameters};
use crate::rest::v1::count::{self, CountAnswer, CountRequest};
use crate::rest::v1::explain::{self, ExplainAnswer, ExplainRequest};
use crate::rest::v1::export::ListFormat;
use crate::rest::v1::expression::Where;
use crate::rest::v1::jobs::JobAnswer;
use crate::rest::v1::members::{self, MembersAnswer, MembersRequest};
use crate::rest::v1::overlap::{self, OverlapAnswer, OverlapRequest};
use crate::rest::v1::profile::{self, ProfileAnswer, ProfileRequest};
use crate::rest::v1::sinks::{SinkAnswer, SinksAnswer};
use crate::rest::v1::sources::{RewindAnswer, RewindRequest, SourceAnswer, SourcesAnswer};
use crate::rest::v1::sql::{self, SqlAnswer, SqlRequest};
use crate::server::{self, OpenedToAsk};
use engine::audience::ops::{self, QueryContext};
use engine::store::Store;
use engine_sql::facts::DeltaTables;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A stream lasts as long as somebody watches.
const STREAM_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The server that is asked when none is named.
pub(super) const URL_DEFAULT: &str = "http://127.0.0.1:7700";
/// How long an answer may take, beyond what the server itself allows a query.
const ANSWER_MAX: Duration = Duration::from_secs(900);

/// Whom to ask.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The server to ask
    #[arg(long, value_name = "URL", env = "BELUGA_URL", default_value = URL_DEFAULT, conflicts_with = "data")]
    url: String,
    /// Open this data directory instead of asking a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// A server, for what only a running one knows.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Server {
    /// The server to ask
    #[arg(long, value_name = "URL", env = "BELUGA_URL", default_value = URL_DEFAULT, global = true)]
    url: String,
}

impl Server {
    /// Prepares to ask it.
    ///
    /// # Errors
    /// [`Failure`] if the URL cannot be.
    pub(super) fn connect(&self) -> Result<Remote, Failure> {
        Remote::new(&self.url)
    }
}

/// Answers questions.
pub(super) trait Asker {
    fn count(&self, request: &CountRequest) -> Result<CountAnswer, Failure>;
    fn profile(&self, request: &ProfileRequest) -> Result<ProfileAnswer, Failure>;
    fn overlap(&self, request: &OverlapRequest) -> Result<OverlapAnswer, Failure>;
    fn explain(&self, request: &ExplainRequest) -> Result<ExplainAnswer, Failure>;
    /// The first `limit` members.
    fn members(&self, expression: &Where, limit: usize) -> Result<MembersAnswer, Failure>;
    /// All members, written as they come.
    fn all_members(&self, expression: &Where, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit>;
    /// A statement's first rows.
    fn sql(&self, request: &SqlRequest) -> Result<SqlAnswer, Failure>;
    /// All rows of a statement, written as they come.
    fn sql_rows(&self, request: &SqlRequest, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit>;
    fn put_catalog(&self, document: &CatalogDocument, parameters: PutParameters) -> Result<PutAnswer, Failure>;
}

impl Target {
    /// Opens the directory, or prepares to ask the server.
    ///
    /// # Errors
    /// [`Failure`] if the directory cannot be opened or the URL cannot be.
    pub(super) fn asker(&self) -> Result<Box<dyn Asker>, Failure> {
        match &self.data {
            Some(data) => Ok(Box::new(Local::open(data)?)),
            None => Ok(Box::new(Remote::new(&self.url)?)),
        }
    }

    /// As [`Target::asker`], and makes the data directory if there is none.
    ///
    /// # Errors
    /// As [`Target::asker`].
    pub(super) fn asker_or_new(&self) -> Result<Box<dyn Asker>, Failure> {
        match &self.data {
            Some(data) => {
                let config = config_of(data)?;
                Ok(Box::new(Local::of(config)?))
            }
            None => self.asker(),
        }
    }
}

/// The settings of the environment, for this data directory.
fn config_of(data: &Path) -> Result<Config, Failure> {
    let config = Config::load(None, |name| std::env::var(name).ok(), &BTreeMap::new());
    let config = config.map_err(|error| Failure::new(Kind::InvalidField, error.to_string()))?;
    Ok(Config { data: data.to_owned(), ..config })
}

/// Opens an existing data directory; a mistyped name makes no new one.
pub(super) fn open_existing(data: &Path) -> Result<Arc<Store>, Failure> {
    refuse_missing(data)?;
    server::open(&Config { data: data.to_owned(), ..Config::default() })
}

/// Refuses a folder that is no data directory.
pub(super) fn refuse_missing(data: &Path) -> Result<(), Failure> {
    if data.join("manifest").is_dir() {
        return Ok(());
    }
    let failure = Failure::new(Kind::LocalFile, format!("{}: there is no data directory", data.display()));
    Err(failure.suggest(
        "check the name; `beluga apply -f catalog.yaml --data DIR` and `beluga serve --data DIR` make a new one",
    ))
}

/// A data directory opened by this process.
struct Local {
    store: Arc<Store>,
    tables: Arc<DeltaTables>,
    context: QueryContext,
    config: Config,
}

impl Local {
    fn open(data: &Path) -> Result<Local, Failure> {
        refuse_missing(data)?;
        Local::of(config_of(data)?)
    }

    fn of(config: Config) -> Result<Local, Failure> {
        let OpenedToAsk { store, tables, context } = server::open_to_ask(&config)?;
        Ok(Local { store, tables, context, config })
    }

    /// Ends questions that are asked from now on after so long a time.
    fn end_after(&self, timeout_ms: Option<u64>) {
        let Some(timeout_ms) = timeout_ms else { return };
        let cancelled = Arc::clone(&self.context.cancelled);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(timeout_ms));
            cancelled.store(true, Ordering::Relaxed);
        });
    }
}

impl Asker for Local {
    fn count(&self, request: &CountRequest) -> Result<CountAnswer, Failure> {
        count::answer(&self.store.snapshot(), request, &self.context)
    }

    fn profile(&self, request: &ProfileRequest) -> Result<ProfileAnswer, Failure> {
        profile::answer(&self.store.snapshot(), request, &self.context)
    }

    fn overlap(&self, request: &OverlapRequest) -> Result<OverlapAnswer, Failure> {
        overlap::answer(&self.store.snapshot(), request, &self.context)
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
        Ok(members::write_all(&snapshot, &bound.predicate, None, format, out, &self.context)?)
    }

    fn sql(&self, request: &SqlRequest) -> Result<SqlAnswer, Failure> {
        let sql = server::sql(&self.config, Arc::clone(&self.tables))?;
        self.end_after(request.timeout_ms);
        sql::answer(&sql, &self.store.snapshot(), request, Vec::new(), &self.context, |_| {})
    }

    fn sql_rows(&self, request: &SqlRequest, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit> {
        let sql = server::sql(&self.config, Arc::clone(&self.tables))?;
        self.end_after(request.timeout_ms);
        let mut answer = sql::begin(&sql, &self.store.snapshot(), &request.sql, Vec::new(), &self.context)?;
        Ok(sql::write_all(&mut answer, format, out, &self.context, |_| {})?)
    }

    fn put_catalog(&self, document: &CatalogDocument, parameters: PutParameters) -> Result<PutAnswer, Failure> {
        catalog::apply(&self.store, document, parameters, &self.config)
    }
}

/// A server asked by REST.
pub(super) struct Remote {
    url: String,
    client: reqwest::blocking::Client,
}

impl Remote {
    pub(super) fn new(url: &str) -> Result<Remote, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") {
            let failure = Failure::new(Kind::InvalidField, format!("--url `{url}`: expected http://HOST:PORT"));
            return Err(failure.suggest(format!("as in --url {URL_DEFAULT}")));
        }
        let client = reqwest::blocking::Client::builder().timeout(ANSWER_MAX).no_proxy().build();
        Ok(Remote { url, client: client.map_err(|error| Failure::new(Kind::Unreachable, error.to_string()))? })
    }

    fn post<Q: Serialize, A: DeserializeOwned>(&self, path: &str, request: &Q) -> Result<A, Failure> {
        read(self.send(self.client.post(format!("{}{path}", self.url)).json(request))?)
    }

    fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        read(self.send(self.client.get(format!("{}{path}", self.url)))?)
    }

    /// Posts a question and copies the answer in this format as it comes.
    fn copy<Q: Serialize>(
        &self,
        path: &str,
        request: &Q,
        format: ListFormat,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Exit> {
        let format = match format {
            ListFormat::Ndjson => Format::Ndjson,
            ListFormat::Csv => Format::Csv,
            ListFormat::Arrow => Format::Arrow,
            ListFormat::Parquet => Format::Parquet,
        };
        let call = self.client.post(format!("{}{path}", self.url)).header("accept", format.media_type());
        let mut response = self.send(call.json(request))?;
        response
            .copy_to(out)
            .map_err(|error| Failure::new(Kind::Unreachable, format!("the list broke off: {error}")))?;
        Ok(out.flush()?)
    }

    /// Posts a job.
    pub(super) fn post_job(&self, definition: &JobDefinition) -> Result<JobAnswer, Failure> {
        self.post("/v1/jobs", definition)
    }

    /// How a job is.
    pub(super) fn job(&self, id: &str) -> Result<JobAnswer, Failure> {
        self.get(&format!("/v1/jobs/{id}"))
    }

    /// All sources, by name.
    pub(super) fn sources(&self) -> Result<Vec<SourceAnswer>, Failure> {
        let mut page: SourcesAnswer = self.get("/v1/sources")?;
        let mut sources = std::mem::take(&mut page.sources);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/sources?after={after}"))?;
            sources.append(&mut page.sources);
        }
        Ok(sources)
    }

    /// How a source is.
    pub(super) fn source(&self, name: &str) -> Result<SourceAnswer, Failure> {
        self.get(&format!("/v1/sources/{name}"))
    }

    /// Tells a source what to do.
    pub(super) fn command_source(&self, name: &str, command: &str) -> Result<SourceAnswer, Failure> {
        self.post(&format!("/v1/sources/{name}/{command}"), &())
    }

    /// All sinks, by name.
    pub(super) fn sinks(&self) -> Result<Vec<SinkAnswer>, Failure> {
        let mut page: SinksAnswer = self.get("/v1/sinks")?;
        let mut sinks = std::mem::take(&mut page.sinks);
        while let Some(after) = page.next {
            page = self.get(&format!("/v1/sinks?after={after}"))?;
            sinks.append(&mut page.sinks);
        }
        Ok(sinks)
    }

    /// How a sink is.
    pub(super) fn sink(&self, name: &str) -> Result<SinkAnswer, Failure> {
        self.get(&format!("/v1/sinks/{name}"))
    }

    /// Tells a sink what to do.
    pub(super) fn command_sink(&self, name: &str, command: &str) -> Result<SinkAnswer, Failure> {
        self.post(&format!("/v1/sinks/{name}/{command}"), &())
    }

    /// Lets a source go on somewhere else.
    pub(super) fn rewind_source(&self, name: &str, request: &RewindRequest) -> Result<RewindAnswer, Failure> {
        self.post(&format!("/v1/sources/{name}/rewind"), request)
    }

    /// The stream of changes of a live audience behind the one with this id.
    pub(super) fn changes(&self, name: &str, last_id: Option<&str>) -> Result<reqwest::blocking::Response, Failure> {
        let wrong = |why: &dyn std::fmt::Display| Failure::new(Kind::InvalidField, format!("{}: {why}", self.url));
        let mut url = reqwest::Url::parse(&self.url).map_err(|error| wrong(&error))?;
        let mut path = url.path_segments_mut().map_err(|()| wrong(&"it can have no path"))?;
        path.pop_if_empty().extend(["v1", "audiences", name, "changes"]);
        drop(path);
        let request = self.client.get(url).timeout(STREAM_MAX);
        self.send(match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        })
    }

    fn send(&self, request: reqwest::blocking::RequestBuilder) -> Result<reqwest::blocking::Response, Failure> {
        let response = request.send().map_err(|error| {
            let why = if error.is_connect() { "no server answers there".to_owned() } else { error.to_string() };
            Failure::new(Kind::Unreachable, format!("{}: {why}", self.url)).suggest(
                "start one with `beluga serve --data DIR`, name another with --url, or open the directory itself with --data",
            )
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().unwrap_or_default();
        Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Failure::from_problem(problem),
            Err(_) => {
                Failure::new(Kind::Unreachable, format!("{} answered {status}: is it a Beluga server?", self.url))
            }
        })
    }
}

fn read<A: DeserializeOwned>(response: reqwest::blocking::Response) -> Result<A, Failure> {
    let bytes =
        response.bytes().map_err(|error| Failure::new(Kind::Unreachable, format!("read the answer: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Kind::Unreachable, format!("the answer is not understood: {error}")))
}

impl Asker for Remote {
    fn count(&self, request: &CountRequest) -> Result<CountAnswer, Failure> {
        self.post("/v1/count", request)
    }

    fn profile(&self, request: &ProfileRequest) -> Result<ProfileAnswer, Failure> {
        self.post("/v1/profile", request)
    }

    fn overlap(&self, request: &OverlapRequest) -> Result<OverlapAnswer, Failure> {
        self.post("/v1/overlap", request)
    }

    fn explain(&self, request: &ExplainRequest) -> Result<ExplainAnswer, Failure> {
        self.post("/v1/explain", request)
    }

    fn members(&self, expression: &Where, limit: usize) -> Result<MembersAnswer, Failure> {
        let r#where = Some(expression.clone());
        self.post("/v1/members", &MembersRequest { r#where, limit: Some(limit), ..MembersRequest::default() })
    }

    fn all_members(&self, expression: &Where, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit> {
        let request = MembersRequest { r#where: Some(expression.clone()), ..MembersRequest::default() };
        self.copy("/v1/members", &request, format, out)
    }

    fn sql(&self, request: &SqlRequest) -> Result<SqlAnswer, Failure> {
        self.post("/v1/sql", request)
    }

    fn sql_rows(&self, request: &SqlRequest, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit> {
        self.copy("/v1/sql", request, format, out)
    }

    fn put_catalog(&self, document: &CatalogDocument, parameters: PutParameters) -> Result<PutAnswer, Failure> {
        let PutParameters { dry_run, allow_drop } = parameters;
        let path = format!("{}/v1/catalog?dry_run={dry_run}&allow_drop={allow_drop}", self.url);
        read(self.send(self.client.put(path).json(document))?)
    }
}

/// Keeps the expression with a failure, to point into it.
pub(super) fn about<T>(expression: &str, result: Result<T, Failure>) -> Result<T, Exit> {
    result.map_err(|failure| Exit::Failed { failure, expression: Some(expression.to_owned()) })
}

/// The expression of an argument: itself, a JSON tree if it begins with `{`, or standard input for `-`.
///
/// # Errors
/// [`Exit::Usage`] if standard input or the tree cannot be read.
pub(super) fn expression(argument: &str) -> Result<(String, Where), Exit> {
    let text = match argument {
        "-" => std::io::read_to_string(std::io::stdin())
            .map_err(|error| Exit::Usage(format!("read the expression from standard input: {error}")))?,
        text => text.to_owned(),
    };
    if text.trim_start().starts_with('{') {
        let tree =
            serde_json::from_str(&text).map_err(|error| Exit::Usage(format!("the expression's JSON: {error}")))?;
        return Ok((text, Where::Tree(tree)));
    }
    Ok((text.clone(), Where::Text(text)))
}
