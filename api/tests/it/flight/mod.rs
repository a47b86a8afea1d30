//! Flight SQL as its clients speak it, over real connections.

mod answers;
mod hostile;
mod ingest;
mod metadata;
mod tokens;

use crate::support::{PEOPLE, PURCHASES, TestServer, catalog, success};
use api::config::Config;
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, FlightInfo, Ticket};
use futures::TryStreamExt;
use serde_json::json;
use std::net::SocketAddr;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A client with a connection of its own.
pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
    pub(crate) sql: FlightSqlServiceClient<Channel>,
}

impl Client {
    pub(crate) fn of(server: &TestServer) -> Client {
        Client::at(server.flight())
    }

    pub(crate) fn at(address: SocketAddr) -> Client {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let url = format!("http://{address}");
        let endpoint = Channel::from_shared(url).expect("a URL");
        let channel = runtime.block_on(endpoint.connect()).expect("a connection");
        let sql = FlightSqlServiceClient::new(channel.clone());
        Client { runtime, channel, sql }
    }

    /// Waits for what the client does.
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// The calls of Flight itself.
    pub(crate) fn raw(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone())
    }

    pub(crate) fn info(&mut self, sql: &str) -> Result<FlightInfo, Status> {
        let mut client = self.sql.clone();
        self.wait(client.execute(sql.to_owned(), None)).map_err(told)
    }

    pub(crate) fn fetch(&mut self, ticket: Ticket) -> Result<Vec<RecordBatch>, Status> {
        let mut client = self.sql.clone();
        self.wait(async { client.do_get(ticket).await?.try_collect().await }).map_err(told)
    }

    /// All rows of a plan.
    pub(crate) fn fetch_all(&mut self, info: FlightInfo) -> Result<Vec<RecordBatch>, Status> {
        let schema = info.clone().try_decode_schema().expect("a schema");
        let batches = self.fetch(ticket(&info))?;
        // What is told is what comes, to the letter.
        batches.iter().for_each(|batch| assert_eq!(*batch.schema(), schema));
        Ok(batches)
    }

    pub(crate) fn ask(&mut self, sql: &str) -> Result<Vec<String>, Status> {
        let info = self.info(sql)?;
        self.fetch_all(info).map(|batches| rows(&batches))
    }

    pub(crate) fn rows(&mut self, sql: &str) -> Vec<String> {
        self.ask(sql).unwrap_or_else(|status| panic!("{sql}: {status}"))
    }

    /// Does an action; the bodies of its answers.
    pub(crate) fn act(&self, name: &str, body: Vec<u8>) -> Result<Vec<Vec<u8>>, Status> {
        let mut client = self.raw();
        self.wait(async {
            let answers = client.do_action(Action::new(name, body)).await?.into_inner();
            answers.map_ok(|answer| answer.body.to_vec()).try_collect().await
        })
    }
}

pub(crate) fn ticket(info: &FlightInfo) -> Ticket {
    assert_eq!(info.endpoint.len(), 1);
    info.endpoint[0].ticket.clone().expect("a ticket")
}

/// What the server said.
pub(crate) fn told(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("the server said nothing: {other}"),
    }
}

pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("shown")).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join(" | "));
        }
    }
    rows
}

pub(crate) fn assert_told(status: &Status, code: Code, says: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(says), "{status}");
}

/// Four users and two events.
pub(crate) fn shop_with(change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(change);
    let mut with = catalog();
    with["facts"] = json!({
        "purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}}},
        "visit": {"columns": {"page": "string"}, "deduplicate": "30 days"},
    });
    server.put_catalog(&with);
    server.post_tags(PEOPLE);
    let answer = success(server.post("/v1/facts/purchase?visible=true").body(PURCHASES).send().expect("post"));
    assert_eq!(answer["rejected"], 0, "{answer}");
    server
}

pub(crate) fn shop() -> TestServer {
    shop_with(|_| {})
}
