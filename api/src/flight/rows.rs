//! The rows of a statement on their way out: batch by batch, as fast as the client takes them, until its time is over.

use super::door::{Flight, Messages};
use super::held::Id;
use super::statements::{Statement, cancelled};
use super::status::of_statement;
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::queries::{Progress, Watch};
use crate::rest::limits;
use crate::rest::stream::STALLED_MAX;
use crate::rest::v1::sql::system;
use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use engine_sql::session::{Answer, Planned};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

/// Batches that wait to be sent.
const BATCHES_WAITING: usize = 1;

/// A statement whose rows are being fetched.
pub(super) struct Fetching {
    pub(super) flight: Flight,
    pub(super) principal: Principal,
    pub(super) id: Id,
    pub(super) statement: Arc<Statement>,
    pub(super) watch: Watch,
    pub(super) time: Duration,
    pub(super) deadline: Instant,
}

type Batches = mpsc::Sender<Result<RecordBatch, FlightError>>;

/// Begins to answer; the answering ends when nobody takes its messages any more.
pub(super) fn stream(fetching: Fetching, planned: Planned, permit: OwnedSemaphorePermit) -> Messages<FlightData> {
    let schema = Arc::clone(&fetching.statement.schema);
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
    tokio::spawn(fetching.run(planned.start(), sender, permit));
    let batches =
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|batch| (batch, receiver)) });
    // Columns go out as they were told.
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(batches);
    encoder.map_err(Status::from).boxed()
}

impl Fetching {
    /// Also while the client takes nothing the statement's time passes.
    async fn run(self, answer: Answer, sender: Batches, permit: OwnedSemaphorePermit) {
        let cancellation = self.statement.cancellation.clone();
        let sent = tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(cancelled()),
            () = sender.closed() => return self.flight.statements.touch(&self.id),
            () = tokio::time::sleep_until(self.deadline.into()) => Err(self.late()),
            sent = self.send_all(answer, &sender) => sent,
        };
        let Fetching { flight, id, statement, watch, .. } = self;
        match sent {
            Ok(()) => {
                watch.end(Progress::Done);
                flight.statements.take(&id);
            }
            Err(status) => {
                watch.end(Progress::Failed(status.message().to_owned()));
                // It can be fetched again for as long as one that just came.
                flight.statements.touch(&id);
                drop((flight, statement));
                // The client may take some time to hear of it; what waits for it still has its place.
                let _ = tokio::time::timeout(STALLED_MAX, sender.send(Err(FlightError::from(status)))).await;
            }
        }
        drop(permit);
    }

    async fn send_all(&self, mut answer: Answer, sender: &Batches) -> Result<(), Status> {
        let mut more = self.statement.values.iter().skip(1);
        loop {
            let next = answer.next_async().await.map_err(|error| self.failed(&error.into()))?;
            match next {
                Some(batch) => {
                    self.watch.add_rows(batch.num_rows());
                    if sender.send(Ok(batch)).await.is_err() {
                        return Ok(());
                    }
                }
                None => match more.next() {
                    Some(values) => answer = self.answer(values.clone()).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// The answer for one more row of values.
    async fn answer(&self, values: RecordBatch) -> Result<Answer, Status> {
        let sql = Arc::clone(self.flight.state.sql().map_err(|failure| self.failed(&failure))?);
        let (question, snapshot) = (self.statement.question(Some(values)), self.statement.snapshot.clone());
        let system = system::tables(&self.flight.state, &self.principal);
        let context = self.flight.state.query_context();
        // Should nobody wait for it any more, planning is short and what it made is dropped.
        let planned = limits::blocking(move || Ok(sql.plan(snapshot, &question, system, &context)?)).await;
        let planned = planned.map_err(|failure| self.failed(&failure))?;
        if planned.schema() != &self.statement.schema {
            let (first, this) = (&self.statement.schema, planned.schema());
            let message = format!("the rows of values have answers of different columns: {first} and {this}");
            let failure = Failure::new(Kind::SqlInvalid, message).suggest("bind one row at a time");
            return Err(self.failed(&failure));
        }
        Ok(planned.start())
    }

    fn failed(&self, failure: &Failure) -> Status {
        of_statement(failure, &self.statement.text)
    }

    fn late(&self) -> Status {
        let message = format!(
            "the statement ran out of its time, {} ms; ask something narrower, or give it more time (a deadline of the call, or the session's `timeout_ms`)",
            self.time.as_millis()
        );
        self.failed(&Failure::new(Kind::Timeout, message))
    }
}
