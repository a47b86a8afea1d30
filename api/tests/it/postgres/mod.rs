//! PostgreSQL's protocol as its clients speak it, over real connections.

mod answers;
mod begin;
mod hostile;
mod psql;

use crate::support::{PEOPLE, PURCHASES, TestServer, catalog, success};
use api::config::Config;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, NoTls, SimpleQueryMessage};

/// A client with a connection of its own.
pub(crate) struct Client {
    runtime: Runtime,
    pub(crate) client: tokio_postgres::Client,
}

/// What a client connects with.
pub(crate) fn settings(server: &TestServer) -> tokio_postgres::Config {
    let address = address(server);
    let mut settings = tokio_postgres::Config::new();
    settings.host(address.ip().to_string()).port(address.port()).user("ann").dbname("beluga");
    settings
}

pub(crate) fn address(server: &TestServer) -> SocketAddr {
    server.postgres()
}

impl Client {
    pub(crate) fn of(server: &TestServer) -> Client {
        Client::with(&settings(server)).expect("a connection")
    }

    /// Why there is no connection.
    pub(crate) fn of_refused(server: &TestServer) -> Error {
        Client::with(&settings(server)).err().expect("it is refused")
    }

    pub(crate) fn with(settings: &tokio_postgres::Config) -> Result<Client, Error> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let (client, connection) = runtime.block_on(settings.connect(NoTls))?;
        runtime.spawn(connection);
        Ok(Client { runtime, client })
    }

    /// Waits for what the client does.
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Rows as texts, of all statements of a text.
    pub(crate) fn texts(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        let messages = self.wait(self.client.simple_query(sql))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The only value of a statement's answer.
    pub(crate) fn text(&self, sql: &str) -> String {
        let rows = self.texts(sql).expect(sql);
        rows[0][0].clone().expect("a value")
    }

    /// The code, sentence and hint of a statement that fails.
    pub(crate) fn refused(&self, sql: &str) -> (SqlState, String) {
        told(&self.texts(sql).expect_err(sql))
    }
}

/// What a server told of a failure.
pub(crate) fn told(error: &Error) -> (SqlState, String) {
    let told = error.as_db_error().unwrap_or_else(|| panic!("not told by the server: {error:?}"));
    (told.code().clone(), format!("{} ({})", told.message(), told.hint().unwrap_or("no hint")))
}

/// A shop, with this door open.
pub(crate) fn shop_with(change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(|config| {
        config.postgres = Some("127.0.0.1:0".parse().expect("an address"));
        change(config);
    });
    let mut with = catalog();
    with["facts"] = json!({"purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}}}});
    server.put_catalog(&with);
    server.post_tags(PEOPLE);
    let answer = success(server.post("/v1/facts/purchase?visible=true").body(PURCHASES).send().expect("post"));
    assert_eq!(answer["rejected"], 0, "{answer}");
    server.settle();
    server
}

pub(crate) fn shop() -> TestServer {
    shop_with(|_| {})
}

pub(crate) fn queries(server: &TestServer) -> Vec<Value> {
    success(server.get("/v1/queries").send().expect("get"))["queries"].as_array().expect("a list").clone()
}
