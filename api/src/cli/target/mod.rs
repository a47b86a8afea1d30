//! Whom a command asks: a server, or a data directory that it opens itself.
//!
//! * [`remote`]: a server. * [`trust`]: whom to trust that it is. * [`local`]: a data directory.

mod local;
mod remote;
mod trust;

pub(super) use remote::Remote;
pub(super) use trust::TrustArguments;

use super::Exit;
use crate::access::{Access, Principal};
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::rest::v1::attribution::{AttributionAnswer, AttributionRequest};
use crate::rest::v1::catalog::{CatalogDocument, PutAnswer, PutParameters};
use crate::rest::v1::count::{CountAnswer, CountRequest};
use crate::rest::v1::effect::{EffectAnswer, EffectRequest};
use crate::rest::v1::erasures::{self, ErasureAnswer, UserIds};
use crate::rest::v1::experiment::{ExperimentAnswer, ExperimentRequest};
use crate::rest::v1::explain::{ExplainAnswer, ExplainRequest};
use crate::rest::v1::export::ListFormat;
use crate::rest::v1::expression::Where;
use crate::rest::v1::funnel::{FunnelAnswer, FunnelRequest};
use crate::rest::v1::judge::{JudgeAnswer, JudgeRequest};
use crate::rest::v1::lookalike::{LookalikeAnswer, LookalikeRequest};
use crate::rest::v1::members::MembersAnswer;
use crate::rest::v1::movement::{MovementAnswer, MovementParameters};
use crate::rest::v1::overlap::{OverlapAnswer, OverlapRequest};
use crate::rest::v1::path::{PathAnswer, PathRequest};
use crate::rest::v1::profile::{ProfileAnswer, ProfileRequest};
use crate::rest::v1::retention::{RetentionAnswer, RetentionRequest};
use crate::rest::v1::sequence::{SequenceAnswer, SequenceRequest};
use crate::rest::v1::sql::{SqlAnswer, SqlRequest};
use crate::rest::v1::tokens::{NewTokenAnswer, TokenAnswer, TokenRequest};
use crate::server::{self, OpenedToAsk};
use crate::state::Readers;
use engine::store::{Erasure, PurgeError, Store};
use local::{Local, config_of};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The server that is asked when none is named.
pub(super) const URL_DEFAULT: &str = "http://127.0.0.1:7700";
/// How soon it is noticed that an answer is not wanted any more.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Whom to ask.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The server to ask
    #[arg(long, value_name = "URL", env = "BELUGA_URL", default_value = URL_DEFAULT, conflicts_with = "data", global = true)]
    url: String,
    /// Open this data directory instead of asking a server
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArguments,
}

/// A server, for what only a running one knows.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Server {
    /// The server to ask
    #[arg(long, value_name = "URL", env = "BELUGA_URL", default_value = URL_DEFAULT, global = true)]
    url: String,
    #[command(flatten)]
    trust: TrustArguments,
}

impl Server {
    /// Prepares to ask it.
    ///
    /// # Errors
    /// [`Failure`] if the URL cannot be.
    pub(super) fn connect(&self) -> Result<Remote, Failure> {
        Remote::new(&self.url, &self.trust)
    }
}

/// Answers questions.
pub(super) trait Asker {
    fn count(&self, request: &CountRequest) -> Result<CountAnswer, Failure>;
    fn profile(&self, request: &ProfileRequest) -> Result<ProfileAnswer, Failure>;
    fn overlap(&self, request: &OverlapRequest) -> Result<OverlapAnswer, Failure>;
    fn lookalike(&self, request: &LookalikeRequest) -> Result<LookalikeAnswer, Failure>;
    /// How many did some steps in order.
    fn funnel(&self, request: &FunnelRequest) -> Result<FunnelAnswer, Failure>;
    /// Who came back.
    fn retention(&self, request: &RetentionRequest) -> Result<RetentionAnswer, Failure>;
    /// Who followed a pattern of events.
    fn sequence(&self, request: &SequenceRequest) -> Result<SequenceAnswer, Failure>;
    /// What users did next.
    fn path(&self, request: &PathRequest) -> Result<PathAnswer, Failure>;
    /// To which campaigns conversions are credited.
    fn attribution(&self, request: &AttributionRequest) -> Result<AttributionAnswer, Failure>;
    /// What campaigns came to.
    fn effect(&self, request: &EffectRequest) -> Result<EffectAnswer, Failure>;
    /// How groups of an experiment differ.
    fn experiment(&self, request: &ExperimentRequest) -> Result<ExperimentAnswer, Failure>;
    fn explain(&self, request: &ExplainRequest) -> Result<ExplainAnswer, Failure>;
    /// Who entered and left an audience.
    fn movement(&self, name: &str, parameters: &MovementParameters) -> Result<MovementAnswer, Failure>;
    /// Why a user is in an audience.
    fn judge(&self, user_id: &str, request: &JudgeRequest) -> Result<JudgeAnswer, Failure>;
    /// The first `limit` members.
    fn members(&self, expression: &Where, limit: usize) -> Result<MembersAnswer, Failure>;
    /// All members, written as they come.
    fn all_members(&self, expression: &Where, format: ListFormat, out: &mut (dyn Write + Send)) -> Result<(), Exit>;
    /// A statement's first rows, until `stop`.
    fn sql(&self, request: &SqlRequest, stop: &Arc<AtomicBool>) -> Result<SqlAnswer, Failure>;
    /// All rows of a statement, written as they come, until `stop`.
    fn sql_rows(
        &self,
        request: &SqlRequest,
        format: ListFormat,
        out: &mut (dyn Write + Send),
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Exit>;
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
            None => Ok(Box::new(Remote::new(&self.url, &self.trust)?)),
        }
    }

    /// The server, of what only a server has: `what`.
    ///
    /// # Errors
    /// [`Kind::InvalidField`] if a data directory is named, or the URL cannot be.
    pub(super) fn server(&self, what: &str) -> Result<Remote, Failure> {
        if self.data.is_some() {
            let failure = Failure::new(Kind::InvalidField, format!("{what} are looked after by a server"));
            return Err(failure.suggest("leave --data out, and start `beluga serve` on the directory"));
        }
        Remote::new(&self.url, &self.trust)
    }

    /// The tokens there.
    ///
    /// # Errors
    /// [`Failure`] if the directory is in use or cannot be opened, or the URL cannot be.
    pub(super) fn tokens(&self) -> Result<Tokens, Failure> {
        match &self.data {
            Some(data) => {
                let (access, held) = Access::open_alone(data)?;
                Ok(Tokens::Alone { access, _held: held })
            }
            None => Ok(Tokens::Remote(Remote::new(&self.url, &self.trust)?)),
        }
    }

    /// The erasures there.
    ///
    /// # Errors
    /// As [`Target::tokens`].
    pub(super) fn erasures(&self) -> Result<Erasures, Failure> {
        match &self.data {
            Some(data) => {
                refuse_missing(data)?;
                let config = config_of(data)?;
                Ok(Erasures::Alone { store: server::open(&config)?, within: config.erase_within })
            }
            None => Ok(Erasures::Remote(Remote::new(&self.url, &self.trust)?)),
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

/// The tokens of a server, or of a data directory that none runs on.
pub(super) enum Tokens {
    Remote(Remote),
    Alone {
        access: Access,
        /// Nobody else opens the directory.
        _held: Box<dyn Send + Sync>,
    },
}

impl Tokens {
    pub(super) fn list(&self) -> Result<Vec<TokenAnswer>, Failure> {
        match self {
            Tokens::Remote(remote) => remote.tokens(),
            Tokens::Alone { access, .. } => {
                Ok(access.list(&Principal::anyone())?.iter().map(TokenAnswer::from).collect())
            }
        }
    }

    pub(super) fn create(&mut self, request: TokenRequest) -> Result<NewTokenAnswer, Failure> {
        match self {
            Tokens::Remote(remote) => remote.create_token(&request),
            Tokens::Alone { access, .. } => {
                let (token, entry) = access.create(request.read()?)?;
                Ok(NewTokenAnswer::new(token, &entry))
            }
        }
    }

    pub(super) fn revoke(&mut self, name: &str) -> Result<(), Failure> {
        match self {
            Tokens::Remote(remote) => remote.revoke_token(name),
            Tokens::Alone { access, .. } => access.revoke(name, &Principal::anyone()),
        }
    }
}

/// The erasures of a server, or of a data directory that none runs on.
pub(super) enum Erasures {
    Remote(Remote),
    Alone { store: Arc<Store>, within: Duration },
}

impl Erasures {
    pub(super) fn list(&self) -> Result<Vec<ErasureAnswer>, Failure> {
        match self {
            Erasures::Remote(remote) => remote.erasures(),
            Erasures::Alone { store, within } => {
                Ok(store.erasures().iter().map(|erasure| ErasureAnswer::of(erasure, *within)).collect())
            }
        }
    }

    /// In a directory of nobody else, to the last byte.
    pub(super) fn erase(&self, ids: &UserIds) -> Result<ErasureAnswer, Failure> {
        match self {
            Erasures::Remote(remote) => remote.erase(ids),
            Erasures::Alone { store, within } => {
                let erased = erasures::erase(store, ids, None, 0)?;
                purged(store, erased, *within)
            }
        }
    }

    /// What a backup does not know.
    pub(super) fn erase_again(&self, file: &Path) -> Result<ErasureAnswer, Failure> {
        match self {
            Erasures::Remote(_) => {
                let failure = Failure::new(Kind::InvalidField, "--again is for a directory that no server runs on");
                Err(failure.suggest("name it with --data DIR"))
            }
            Erasures::Alone { store, within } => {
                let erased = erasures::erase_again(store, file)?;
                purged(store, erased, *within)
            }
        }
    }

    pub(super) fn admit(&self, ids: &UserIds) -> Result<u64, Failure> {
        match self {
            Erasures::Remote(remote) => remote.admit(ids),
            Erasures::Alone { store, .. } => Ok(store.admit(&ids.all())?),
        }
    }
}

/// An erasure whose bytes are gone, but for those that wait for other sides.
fn purged(store: &Store, erased: Erasure, within: Duration) -> Result<ErasureAnswer, Failure> {
    match store.purge(&Arc::default()) {
        // Only a server delivers.
        Err(PurgeError::Waits(why)) => eprintln!("{why}; a server does, and removes them then"),
        purged => drop(purged?),
    }
    let erased = store.erasure(erased.id).unwrap_or(erased);
    Ok(ErasureAnswer::of(&erased, within))
}

/// Opens an existing data directory; a mistyped name makes no new one.
pub(super) fn open_existing(data: &Path) -> Result<Arc<Store>, Failure> {
    refuse_missing(data)?;
    server::open(&Config { data: data.to_owned(), ..Config::default() })
}

/// The same, with who reads the tables of its facts.
///
/// # Errors
/// As [`open_existing`].
pub(super) fn readers_of(data: &Path) -> Result<(Arc<Store>, Readers), Failure> {
    refuse_missing(data)?;
    let config = config_of(data)?;
    let OpenedToAsk { store, tables, scanner, .. } = server::open_to_ask(&config)?;
    Ok((store, Readers { scanner, sql: server::sql(&config, tables)? }))
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

/// A name and an expression, `women=gender = 'f'`: the name, the expression as it was written, and what it is.
///
/// # Errors
/// [`Exit::Usage`] if it is not of this form.
pub(super) fn named_expression(argument: &str) -> Result<(String, (String, Where)), Exit> {
    let is_name = |name: &str| {
        let name = name.trim();
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-. ".contains(c))
    };
    let Some((name, text)) = argument.split_once('=').filter(|(name, _)| is_name(name)) else {
        return Err(Exit::Usage(format!("`{argument}`: expected NAME=EXPR, as in \"women=gender = 'f'\"")));
    };
    Ok((name.trim().to_owned(), expression(text.trim())?))
}
