//! Rows of a PostgreSQL database: one query for many keys, over a few connections.
//!
//! A statement with a list (`WHERE sku = ANY($1)`) is asked for many keys at once, and says in a column which key a row is of; one
//! with a single value (`WHERE sku = $1`) is asked key by key. Requests on a connection do not wait for the answers of those
//! before them. Sessions are read-only and bound every statement by the look-up's timeout, so that one that nobody waits for any
//! more ends there too. A connection that broke is made anew by the next request that needs it, and so is one whose statement the
//! database does not know any more, as after ALTER TABLE; secrets are read anew then. Connecting goes on when the request that
//! began it is given up, so it may take longer than one.

use super::super::declaration::Place;
use super::super::folders::check_folder;
use super::super::secret::{SecretPlace, TextOrSecret};
use super::cells::{Cell, Raw};
use super::http::chain;
use super::keys::{Key, Parameter};
use super::run;
use super::tls::Tls;
use crate::config::Config;
use engine::audience::suggest::closest;
use ingest::enrich::{Answer, Asking, Lookup, LookupError, Reply};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Column, Row, Statement};

/// Requests in flight, if it is not said.
pub(super) const IN_FLIGHT: usize = 8;

/// Keys of one query, if it is not said, and at most.
const BATCH: usize = 500;
const BATCH_MAX: usize = 10_000;

/// Connections, if it is not said, and at most.
const CONNECTIONS: usize = 4;
const CONNECTIONS_MAX: usize = 64;

/// How long it may take to connect and to prepare the query.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long what was sent may stay unacknowledged, and how long a connection may be silent before it is tried, unless the address
/// says otherwise: a side that went away without a word is noticed then.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
const SILENT_MAX: Duration = Duration::from_secs(30);

/// Rows of a PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresDeclaration {
    /// `postgres://reader@db:5432/shop?sslmode=require`. With a password in it, it stands elsewhere: `{ env: BELUGA_SECRET_PG }`.
    pub url: TextOrSecret,
    /// Where the password stands, if it is not in the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretPlace>,
    /// The statement. `$1` is the list of keys, as in `WHERE sku = ANY($1)`, or one key, as in `WHERE sku = $1`. Its columns
    /// are the fields of what is found.
    pub query: String,
    /// With a list: the column that tells which key a row is of; the first one if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_column: Option<String>,
    /// With a list: keys of one query at most, 500 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Connections at most, 4 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Certificates of the authorities to trust (PEM), in a folder of `secret_folders`; the system's if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub authority_file: Option<PathBuf>,
}

#[derive(Debug)]
struct PostgresLookup {
    declaration: PostgresDeclaration,
    timeout: Duration,
    connections: Vec<Slot>,
    next: AtomicUsize,
    /// Whether `$1` is a list: guessed from the query until the database tells.
    is_list: Arc<AtomicBool>,
}

/// A connection, if there is one.
type Slot = Arc<Mutex<Option<Arc<Connected>>>>;

#[derive(Debug)]
struct Connected {
    client: Client,
    statement: Statement,
    parameter: Parameter,
    /// By column: its name as JSON, and how its values are read.
    columns: Vec<(String, Cell)>,
    key_column: usize,
    /// The database does not take the statement any more.
    is_stale: AtomicBool,
}

impl PostgresDeclaration {
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn lookup(&self, timeout: Duration, config: &Config) -> Result<Arc<dyn Lookup>, Place> {
        let at = |field: &str| format!("/postgres{field}");
        self.url.check(config).map_err(|why| Place::new(at("/url"), why))?;
        if let TextOrSecret::Text(url) = &self.url {
            let parsed = settings(url).map_err(|why| Place::new(at("/url"), why))?;
            if parsed.get_password().is_some() {
                let why = "a password is not written into the catalog: write `password: { env: BELUGA_SECRET_… }`, or let the \
                           whole address stand elsewhere";
                return Err(Place::new(at("/url"), why));
            }
        }
        if let Some(password) = &self.password {
            password.check(config).map_err(|why| Place::new(at("/password"), why))?;
        }
        if let Some(file) = &self.authority_file {
            check_folder(file, &config.secret_folders, "secret_folders")
                .map_err(|why| Place::new(at("/authority_file"), why))?;
        }
        let first = self.query.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if !self.query.contains("$1") || self.query.contains("$2") || !matches!(first.as_str(), "select" | "with") {
            let why =
                "write a SELECT with `$1` for the keys, such as SELECT sku, category FROM product WHERE sku = ANY($1)";
            return Err(Place::new(at("/query"), why));
        }
        for (field, value, max) in
            [("/batch", self.batch, BATCH_MAX), ("/connections", self.connections, CONNECTIONS_MAX)]
        {
            if value.is_some_and(|value| !(1..=max).contains(&value)) {
                return Err(Place::new(at(field), format!("write a number from 1 to {max}")));
            }
        }
        let connections = (0..self.connections.unwrap_or(CONNECTIONS)).map(|_| Slot::default()).collect();
        Ok(Arc::new(PostgresLookup {
            declaration: self.clone(),
            timeout,
            connections,
            next: AtomicUsize::new(0),
            is_list: Arc::new(AtomicBool::new(looks_like_a_list(&self.query))),
        }))
    }

    async fn connect(&self, timeout: Duration) -> Result<Connected, LookupError> {
        let lasting = |setting: &'static str| move |why: String| LookupError::lasting(format!("{setting}: {why}"));
        let url = self.url.read().map_err(lasting("url"))?;
        let mut settings = settings(&url).map_err(lasting("url"))?;
        if let Some(password) = &self.password {
            settings.password(password.read().map_err(lasting("password"))?);
        }
        settings.application_name("beluga").connect_timeout(CONNECT_MAX);
        if settings.get_tcp_user_timeout().is_none() {
            settings.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        }
        settings.keepalives_idle(settings.get_keepalives_idle().min(SILENT_MAX));
        let tls = Tls::new(self.authority_file.as_deref()).map_err(lasting("authority_file"))?;
        let (client, connection) = settings.connect(tls).await.map_err(|error| failure("connect", &error))?;
        tokio::spawn(async move {
            // Whoever asks next finds it closed, and why.
            let _ = connection.await;
        });
        let session =
            format!("SET default_transaction_read_only = on; SET statement_timeout = {}", timeout.as_millis().max(1));
        client.batch_execute(&session).await.map_err(|error| failure("begin a session", &error))?;
        let statement = client.prepare(&self.query).await.map_err(|error| failure("prepare the query", &error))?;
        let parameter = match statement.params() {
            [ty] => Parameter::of(ty).ok_or_else(|| {
                LookupError::lasting(format!("query: `$1` is a {ty}, which no key is; write $1::text[] or $1::text"))
            })?,
            others => {
                return Err(LookupError::lasting(format!(
                    "query: it has {} parameters; `$1` is all there is",
                    others.len()
                )));
            }
        };
        let columns = columns(statement.columns())?;
        let key_column = self.key_column(statement.columns())?;
        Ok(Connected { client, statement, parameter, columns, key_column, is_stale: AtomicBool::new(false) })
    }

    fn key_column(&self, columns: &[Column]) -> Result<usize, LookupError> {
        let Some(wanted) = &self.key_column else { return Ok(0) };
        columns.iter().position(|column| column.name() == wanted).ok_or_else(|| {
            let advice = match closest(wanted, columns.iter().map(Column::name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a column of the query".to_owned(),
            };
            LookupError::lasting(format!("key_column: the query has no column `{wanted}`; {advice}"))
        })
    }
}

/// Whether a query compares with a list of keys, as far as its text tells.
fn looks_like_a_list(query: &str) -> bool {
    let text: String = query.split_whitespace().collect::<String>().to_ascii_lowercase();
    ["any($1", "all($1", "unnest($1"].iter().any(|call| text.contains(call))
}

/// An address, read; what is told of one that is none has nothing of it.
fn settings(url: &str) -> Result<tokio_postgres::Config, String> {
    url.parse().map_err(|_| "it is no address of PostgreSQL; write postgres://reader@db:5432/shop".to_owned())
}

fn columns(columns: &[Column]) -> Result<Vec<(String, Cell)>, LookupError> {
    if columns.is_empty() {
        return Err(LookupError::lasting("query: it has no columns"));
    }
    let mut names: Vec<&str> = columns.iter().map(Column::name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(LookupError::lasting(format!("query: two columns are named `{}`; write AS …", twice[0])));
    }
    let read = columns.iter().map(|column| match Cell::of(column.type_()) {
        Some(cell) => Ok((serde_json::Value::from(column.name()).to_string(), cell)),
        None => Err(LookupError::lasting(format!(
            "query: column `{0}` is a {1}, which is not read; write {0}::text AS {0}",
            column.name(),
            column.type_()
        ))),
    });
    read.collect()
}

impl Lookup for PostgresLookup {
    fn keys_max(&self) -> usize {
        // Key by key there is a statement for each, and all of them under one timeout.
        match self.is_list.load(Ordering::Relaxed) {
            true => self.declaration.batch.unwrap_or(BATCH),
            false => 1,
        }
    }

    fn ask(&self, keys: Vec<Arc<str>>, reply: Reply) -> Asking {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let (slot, declaration, timeout) =
            (Arc::clone(&self.connections[index]), self.declaration.clone(), self.timeout);
        let is_list = Arc::clone(&self.is_list);
        run(reply, async move {
            let connected = connected(slot, declaration, timeout).await?;
            is_list.store(connected.parameter.is_list, Ordering::Relaxed);
            match connected.parameter.is_list {
                true => connected.ask_all(&keys).await,
                false => connected.ask_each(&keys).await,
            }
        })
    }
}

/// The connection of a slot; while it is made, requests wait. It is made to its end, whoever waits no more.
async fn connected(
    slot: Slot,
    declaration: PostgresDeclaration,
    timeout: Duration,
) -> Result<Arc<Connected>, LookupError> {
    let mut slot = slot.lock_owned().await;
    if let Some(connected) = slot.as_ref().filter(|connected| connected.is_usable()) {
        return Ok(Arc::clone(connected));
    }
    let making = tokio::spawn(async move {
        // What was there ends first.
        *slot = None;
        let made = tokio::time::timeout(CONNECT_MAX, declaration.connect(timeout)).await;
        let late = |_| LookupError::passing(format!("connect: no answer within {} s", CONNECT_MAX.as_secs()));
        let made = Arc::new(made.map_err(late)??);
        *slot = Some(Arc::clone(&made));
        Ok(made)
    });
    making.await.map_err(|error| LookupError::passing(format!("connect: {error}")))?
}

impl Connected {
    fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.is_stale.load(Ordering::Relaxed)
    }

    async fn query(&self, parameter: &(dyn ToSql + Sync)) -> Result<Vec<Row>, LookupError> {
        self.client.query(&self.statement, &[parameter]).await.map_err(|error| {
            let failure = failure("query", &error);
            // What it gives has other types now, or the database forgot it: the next request prepares it again.
            let stale = [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME];
            match error.code().is_some_and(|code| stale.contains(code)) {
                true => {
                    self.is_stale.store(true, Ordering::Relaxed);
                    LookupError { is_passing: true, ..failure }
                }
                false => failure,
            }
        })
    }

    async fn ask_all(&self, keys: &[Arc<str>]) -> Result<Vec<Answer>, LookupError> {
        // Different texts may be one value, `7` and `07`.
        let read: Vec<Option<(Key, String)>> = keys.iter().map(|key| self.parameter.read(key)).collect();
        let (asked, shown): (Vec<&Key>, Vec<&str>) =
            read.iter().flatten().map(|(key, shown)| (key, shown.as_str())).unzip();
        let mut found = Rows::new(&shown);
        if !asked.is_empty() {
            for row in self.query(&asked).await? {
                let key = cell(&row, self.key_column).and_then(|raw| match raw {
                    Some(raw) => self.columns[self.key_column].1.plain(raw),
                    None => Ok(None),
                });
                let Some(key) = key.map_err(|why| LookupError::lasting(format!("the key's column: {why}")))? else {
                    continue;
                };
                found.put(key, self.object(&row).map(Some));
            }
        }
        let answers = read.iter().map(|read| read.as_ref().map_or(Ok(None), |(_, shown)| found.answer(shown)));
        Ok(answers.collect())
    }

    async fn ask_each(&self, keys: &[Arc<str>]) -> Result<Vec<Answer>, LookupError> {
        let each = keys.iter().map(|key| async move {
            let Some((key, _)) = self.parameter.read(key) else { return Ok(Ok(None)) };
            Ok(match self.query(&key).await?.as_slice() {
                [] => Ok(None),
                [row] => self.object(row).map(Some),
                rows => Err(format!("the query gives {} rows for it; add LIMIT 1", rows.len())),
            })
        });
        // They go out together, and the connection keeps their order.
        futures::future::join_all(each).await.into_iter().collect()
    }

    fn object(&self, row: &Row) -> Result<String, String> {
        let mut object = String::from("{");
        for (index, (name, column)) in self.columns.iter().enumerate() {
            if index > 0 {
                object.push(',');
            }
            object.push_str(name);
            object.push(':');
            column.push(cell(row, index)?, &mut object).map_err(|why| format!("column {name}: {why}"))?;
        }
        object.push('}');
        Ok(object)
    }
}

/// What a query gives of a list of keys.
struct Rows {
    /// By key; nothing yet of those without a row.
    answers: HashMap<String, Option<Answer>>,
    /// Keys that were not asked for, by what is left of them where case and blanks do not count.
    strange: HashMap<String, String>,
    /// One that is like none that was asked for.
    stranger: Option<String>,
    /// What was asked for, by what is left of it; made once it is needed.
    asked_alike: Option<HashSet<String>>,
}

impl Rows {
    fn new(asked: &[&str]) -> Rows {
        let answers = asked.iter().map(|key| ((*key).to_owned(), None)).collect();
        Rows { answers, strange: HashMap::new(), stranger: None, asked_alike: None }
    }

    fn put(&mut self, key: String, answer: Answer) {
        match self.answers.get_mut(&key) {
            Some(slot @ None) => *slot = Some(answer),
            Some(slot) => {
                *slot = Some(Err("the query gives several rows for it; write DISTINCT ON or GROUP BY".to_owned()));
            }
            None => {
                let asked_alike =
                    self.asked_alike.get_or_insert_with(|| self.answers.keys().map(|asked| alike(asked)).collect());
                if !asked_alike.contains(&alike(&key)) {
                    self.stranger.get_or_insert_with(|| key.clone());
                }
                self.strange.insert(alike(&key), key);
            }
        }
    }

    /// A database may find `Foo` equal to `foo`, and then answers for a key that nobody asked for: the one that was asked for is
    /// not missing.
    fn answer(&self, key: &str) -> Answer {
        if let Some(answer) = self.answers.get(key).and_then(Option::as_ref) {
            return answer.clone();
        }
        match self.strange.get(&alike(key)).or(self.stranger.as_ref()) {
            None => Ok(None),
            Some(other) => Err(format!(
                "the query gives a row for the key `{other}`, which was not asked for; let the key's column be the key as it is asked"
            )),
        }
    }
}

fn alike(key: &str) -> String {
    key.trim().to_lowercase()
}

fn cell(row: &Row, index: usize) -> Result<Option<&[u8]>, String> {
    row.try_get::<_, Raw<'_>>(index).map(|raw| raw.0).map_err(|error| error.to_string())
}

/// What the database or the way to it says. What does not pass by itself is told by its code.
fn failure(doing: &str, error: &tokio_postgres::Error) -> LookupError {
    let Some(told) = error.as_db_error() else { return LookupError::passing(format!("{doing}: {}", chain(error))) };
    let why = format!("{doing}: {} ({})", told.message(), told.code().code());
    // Lost connections, too few resources, somebody who stopped it, transactions that got into each other's way.
    let passes = ["08", "53", "57", "40"].iter().any(|class| told.code().code().starts_with(class));
    match passes {
        true => LookupError::passing(why),
        false => LookupError::lasting(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(url: &str, query: &str) -> PostgresDeclaration {
        PostgresDeclaration {
            url: TextOrSecret::Text(url.to_owned()),
            password: None,
            query: query.to_owned(),
            key_column: None,
            batch: None,
            connections: None,
            authority_file: None,
        }
    }

    #[test]
    fn what_cannot_be_is_named_without_secrets() {
        let good = "SELECT sku FROM product WHERE sku = ANY($1)";
        let refused = |declaration: PostgresDeclaration| {
            let lookup = declaration.lookup(Duration::from_secs(1), &Config::default());
            let place = lookup.expect_err("refused");
            assert!(!place.why.contains("s3cret"), "{}", place.why);
            place.pointer
        };
        assert_eq!(refused(declaration("postgres://u:s3cret@h/d", good)), "/postgres/url");
        assert_eq!(refused(declaration("s3cret", good)), "/postgres/url");
        for query in ["SELECT 1", "DELETE FROM product WHERE sku = $1", "SELECT $1, $2", ""] {
            assert_eq!(refused(declaration("postgres://h/d", query)), "/postgres/query");
        }
        assert_eq!(
            refused(PostgresDeclaration { batch: Some(0), ..declaration("postgres://h/d", good) }),
            "/postgres/batch"
        );
        let many = PostgresDeclaration { connections: Some(65), ..declaration("postgres://h/d", good) };
        assert_eq!(refused(many), "/postgres/connections");
        let password = Some(SecretPlace::Env("HOME".to_owned()));
        assert_eq!(
            refused(PostgresDeclaration { password, ..declaration("postgres://h/d", good) }),
            "/postgres/password"
        );
        let authority_file = Some(PathBuf::from("/etc/authorities.pem"));
        let trusting = PostgresDeclaration { authority_file, ..declaration("postgres://h/d", good) };
        assert_eq!(refused(trusting.clone()), "/postgres/authority_file");
        let config = Config { secret_folders: vec![PathBuf::from("/etc")], ..Config::default() };
        assert!(trusting.lookup(Duration::from_secs(1), &config).is_ok());
        assert!(declaration("postgres://h/d", good).lookup(Duration::from_secs(1), &Config::default()).is_ok());
    }

    #[test]
    fn only_lists_are_asked_for_many_keys() {
        let keys_max = |query: &str| {
            let lookup = declaration("postgres://h/d", query).lookup(Duration::from_secs(1), &Config::default());
            lookup.expect("right").keys_max()
        };
        assert_eq!(keys_max("SELECT sku FROM product WHERE sku = Any ( $1::text[] )"), BATCH);
        assert_eq!(keys_max("SELECT key, v FROM unnest($1) AS key, LATERAL f(key) AS v"), BATCH);
        assert_eq!(keys_max("SELECT sku FROM product WHERE sku = $1"), 1);
    }

    #[test]
    fn rows_of_keys_that_were_not_asked_for_are_told() {
        let row = |key: &str| Ok(Some(format!("{{\"key\":\"{key}\"}}")));
        let mut rows = Rows::new(&["a", "foo@x", "none", "twice"]);
        for key in ["a", "Foo@x", "twice", "twice"] {
            rows.put(key.to_owned(), row(key));
        }
        assert_eq!((rows.answer("a"), rows.answer("none")), (row("a"), Ok(None)));
        assert!(rows.answer("twice").expect_err("two rows").contains("several rows"));
        assert!(
            rows.answer("foo@x").expect_err("another key").contains("for the key `Foo@x`, which was not asked for")
        );
        // One that is like none of those asked may be any of them.
        rows.put("b".to_owned(), row("b"));
        assert_eq!(rows.answer("a"), row("a"));
        assert!(rows.answer("none").expect_err("another key").contains("for the key `b`"));
    }
}
