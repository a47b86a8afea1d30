//! A client of Flight SQL.

use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;

/// One connection.
pub(crate) struct Client {
    runtime: Runtime,
    sql: FlightSqlServiceClient<Channel>,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Client {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address").tcp_nodelay(true);
        let channel = runtime.block_on(endpoint.connect()).expect("connected");
        Client { runtime, sql: FlightSqlServiceClient::new(channel) }
    }

    /// The time from the statement's text to its last row, and the rows.
    pub(crate) fn ask(&self, statement: &str) -> (Duration, Vec<RecordBatch>) {
        let mut sql = self.sql.clone();
        let begun = Instant::now();
        let batches = self.runtime.block_on(async {
            let info = sql.execute(statement.to_owned(), None).await.expect("a good statement");
            let ticket = info.endpoint.into_iter().find_map(|endpoint| endpoint.ticket);
            let rows = sql.do_get(ticket.expect("one endpoint")).await.expect("rows");
            rows.try_collect().await.expect("all rows")
        });
        (begun.elapsed(), batches)
    }
}
