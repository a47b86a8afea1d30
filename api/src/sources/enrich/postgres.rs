//! Rows of a PostgreSQL database: one query for many keys, over a few connections.
//!
//! A statement with a list (`WHERE sku = ANY($1)`) is asked for many keys at once, and says in a column which key a row is of; one
//! with a single value (`WHERE sku = $1`) is asked key by key. Requests on a connection do not wait for the answers of those
//! before them. Sessions are read-only and bound every statement by the look-up's timeout, so that one that nobody waits for any
//! more ends there too. A connection that broke is made anew by the next request that needs it, and secrets are read anew then.

use super::super::declaration::Place;
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
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Column, Row, Statement};

/// Requests in flight, if it is not said.
pub(super) const IN_FLIGHT: usize = 8;

/// Keys of one query, if it is not said, and at most.
const BATCH: usize = 500;
const BATCH_MAX: usize = 10_000;

/// Connections, if it is not said, and at most.
const CONNECTIONS: usize = 4;
const CONNECTIONS_MAX: usize = 64;

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
    /// Certificates of the authorities to trust (PEM); the system's if it is not said.
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
        Ok(Arc::new(PostgresLookup { declaration: self.clone(), timeout, connections, next: AtomicUsize::new(0) }))
    }

    async fn connect(&self, timeout: Duration) -> Result<Connected, LookupError> {
        let lasting = |setting: &'static str| move |why: String| LookupError::lasting(format!("{setting}: {why}"));
        let url = self.url.read().map_err(lasting("url"))?;
        let mut settings = settings(&url).map_err(lasting("url"))?;
        if let Some(password) = &self.password {
            settings.password(password.read().map_err(lasting("password"))?);
        }
        settings.application_name("beluga").connect_timeout(timeout);
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
        Ok(Connected { client, statement, parameter, columns, key_column })
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
        self.declaration.batch.unwrap_or(BATCH)
    }

    fn ask(&self, keys: Vec<Arc<str>>, reply: Reply) -> Asking {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let (slot, declaration, timeout) =
            (Arc::clone(&self.connections[index]), self.declaration.clone(), self.timeout);
        run(reply, async move {
            let connected = connected(&slot, &declaration, timeout).await?;
            match connected.parameter.is_list {
                true => connected.ask_all(&keys).await,
                false => connected.ask_each(&keys).await,
            }
        })
    }
}

/// The connection of a slot; while one request makes it, others wait.
async fn connected(
    slot: &Slot,
    declaration: &PostgresDeclaration,
    timeout: Duration,
) -> Result<Arc<Connected>, LookupError> {
    let mut slot = slot.lock().await;
    if let Some(connected) = slot.as_ref().filter(|connected| !connected.client.is_closed()) {
        return Ok(Arc::clone(connected));
    }
    let made = Arc::new(declaration.connect(timeout).await?);
    *slot = Some(Arc::clone(&made));
    Ok(made)
}

impl Connected {
    async fn ask_all(&self, keys: &[Arc<str>]) -> Result<Vec<Answer>, LookupError> {
        // Different texts may be one value, `7` and `07`.
        let read: Vec<Option<(Key, String)>> = keys.iter().map(|key| self.parameter.read(key)).collect();
        let asked: Vec<&Key> = read.iter().flatten().map(|(key, _)| key).collect();
        let mut found: HashMap<String, Answer> = HashMap::with_capacity(asked.len());
        if !asked.is_empty() {
            let rows = self.client.query(&self.statement, &[&asked]).await;
            for row in rows.map_err(|error| failure("query", &error))? {
                let key = cell(&row, self.key_column).and_then(|raw| match raw {
                    Some(raw) => self.columns[self.key_column].1.plain(raw),
                    None => Ok(None),
                });
                let Some(key) = key.map_err(|why| LookupError::lasting(format!("the key's column: {why}")))? else {
                    continue;
                };
                let object = self.object(&row);
                let several = || Err("the query gives several rows for it; write DISTINCT ON or GROUP BY".to_owned());
                found.entry(key).and_modify(|answer| *answer = several()).or_insert(object.map(Some));
            }
        }
        let answer =
            |read: Option<(Key, String)>| read.and_then(|(_, shown)| found.get(&shown).cloned()).unwrap_or(Ok(None));
        Ok(read.into_iter().map(answer).collect())
    }

    async fn ask_each(&self, keys: &[Arc<str>]) -> Result<Vec<Answer>, LookupError> {
        let each = keys.iter().map(|key| async move {
            let Some((key, _)) = self.parameter.read(key) else { return Ok(Ok(None)) };
            let rows = self.client.query(&self.statement, &[&key]).await;
            Ok(match rows.map_err(|error| failure("query", &error))?.as_slice() {
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

fn cell(row: &Row, index: usize) -> Result<Option<&[u8]>, String> {
    row.try_get::<_, Raw<'_>>(index).map(|raw| raw.0).map_err(|error| error.to_string())
}

/// What the database or the way to it says. What does not pass by itself is told by its code.
fn failure(doing: &str, error: &tokio_postgres::Error) -> LookupError {
    let Some(told) = error.as_db_error() else { return LookupError::passing(format!("{doing}: {}", chain(error))) };
    let why = format!("{doing}: {} ({})", told.message(), told.code().code());
    // Lost connections, too few resources, somebody who stopped it, transactions that got into each other's way.
    let passes = ["08", "53", "57", "40"].iter().any(|class| told.code().code().starts_with(class));
    let is_gone = *told.code() == SqlState::INVALID_SQL_STATEMENT_NAME;
    match passes || is_gone {
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
        assert!(declaration("postgres://h/d", good).lookup(Duration::from_secs(1), &Config::default()).is_ok());
    }
}
