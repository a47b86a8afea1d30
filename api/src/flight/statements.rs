//! Statements: planned when they come, answered when their ticket does.

use super::Caller;
use super::door::{Flight, Messages, Shared};
use super::held::{HandleKind, Id};
use super::rows::{self, Fetching};
use super::status::{invalid, of_statement, status};
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::queries::{Door, Progress, Watch};
use crate::rest::limits;
use crate::rest::v1::sql::system;
use crate::state::lock;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use engine::store::Snapshot;
use engine_sql::session::{Described, Planned, Question};
use prost::Message;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// A statement whose rows may be fetched.
pub(super) struct Statement {
    /// Who asked, as they were.
    principal: Principal,
    pub(super) text: String,
    schema_name: Option<String>,
    /// Rows of values for its parameters: the answers to them come one behind the other. None for a statement without parameters.
    pub(super) values: Vec<RecordBatch>,
    /// What it reads, however often it is fetched.
    pub(super) snapshot: Snapshot,
    pub(super) schema: SchemaRef,
    /// As it was planned for its first row of values, until it is fetched.
    ready: Mutex<Option<(Planned, Watch)>>,
    /// Ends all answering of it, which goes on or would begin.
    pub(super) cancellation: CancellationToken,
}

/// A statement that was just planned.
pub(super) struct Ready {
    pub(super) planned: Planned,
    pub(super) snapshot: Snapshot,
    pub(super) watch: Watch,
}

impl Flight {
    /// Plans a statement; its columns and its ticket.
    pub(super) async fn plan_statement(
        &self,
        caller: &Caller,
        query: CommandStatementQuery,
    ) -> Result<(SchemaRef, Bytes), Status> {
        no_transaction(query.transaction_id.as_deref())?;
        let schema_name = caller.options().schema;
        self.keep_planned(caller, query.query, schema_name, Vec::new()).await
    }

    /// Plans a statement with rows of values, and keeps it to be fetched.
    pub(super) async fn keep_planned(
        &self,
        caller: &Caller,
        text: String,
        schema_name: Option<String>,
        values: Vec<RecordBatch>,
    ) -> Result<(SchemaRef, Bytes), Status> {
        let question = Question { text, parameters: values.first().cloned(), schema: schema_name, driver: None };
        let id = self.seal.id().map_err(|failure| status(&failure))?;
        let cancellation = CancellationToken::new();
        let Ready { planned, snapshot, watch } = self.plan(caller, &question, None, cancellation.clone()).await?;
        watch.set_waiting(true);
        self.forget_when_cancelled(&watch, id);
        let schema = Arc::clone(planned.schema());
        let statement = Statement {
            principal: caller.principal.clone(),
            text: question.text,
            schema_name: question.schema,
            values,
            snapshot,
            schema: Arc::clone(&schema),
            cancellation: cancellation.clone(),
            ready: Mutex::new(Some((planned, watch))),
        };
        self.statements.keep(id, Arc::new(statement));
        // Somebody was faster than this could be told of.
        if cancellation.is_cancelled() {
            self.forget(&id);
            return Err(cancelled());
        }
        let handle = self.seal.handle(HandleKind::Statement, id, &caller.principal);
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        Ok((schema, ticket.as_any().encode_to_vec().into()))
    }

    /// Plans a statement on a snapshot, or on the newest.
    async fn plan(
        &self,
        caller: &Caller,
        question: &Question,
        on: Option<Snapshot>,
        cancellation: CancellationToken,
    ) -> Result<Ready, Status> {
        let sql = Arc::clone(self.state.sql().map_err(|failure| status(&failure))?);
        let system = system::tables(&self.state, &caller.principal);
        let (statements, who) = (&self.state.statements, &caller.principal);
        let watch = statements.begin_with(Door::Flight, who, &question.text, cancellation.clone());
        let (asked, running) = (question.clone(), watch.running());
        let planned =
            limits::query(&self.state, &caller.principal, caller.timeout_ms(&self.state), move |newest, context| {
                running.sets(Arc::clone(&context.cancelled));
                let snapshot = on.unwrap_or_else(|| newest.clone());
                let planned = sql.plan(snapshot.clone(), &asked, system, context)?;
                running.measures(planned.meter());
                Ok((planned, snapshot))
            });
        let planned = tokio::select! {
            biased;
            // The watch ends with this.
            () = cancellation.cancelled() => return Err(cancelled()),
            planned = planned => planned,
        };
        match planned {
            Ok((planned, snapshot)) => Ok(Ready { planned, snapshot, watch }),
            Err(failure) => {
                let told = of_statement(&failure, &question.text);
                watch.end(Progress::Failed(failure.detail));
                Err(told)
            }
        }
    }

    /// Tells what a statement answers and takes.
    pub(super) async fn describe_statement(&self, caller: &Caller, text: String) -> Result<Described, Status> {
        let sql = Arc::clone(self.state.sql().map_err(|failure| status(&failure))?);
        let system = system::tables(&self.state, &caller.principal);
        let question = Question { text, schema: caller.options().schema, ..Question::default() };
        let asked = question.clone();
        let described =
            limits::query(&self.state, &caller.principal, caller.timeout_ms(&self.state), move |snapshot, context| {
                sql.describe(snapshot.clone(), &asked, system, context).map_err(Failure::from)
            });
        described.await.map_err(|failure| of_statement(&failure, &question.text))
    }

    /// The rows of a ticket. As long as not all of them were sent they can be fetched again.
    pub(super) async fn fetch(&self, caller: &Caller, handle: &[u8]) -> Result<Messages<FlightData>, Status> {
        let Some(id) = self.seal.open(HandleKind::Statement, handle, &caller.principal) else {
            return Err(invalid(
                "this is no ticket that this server gave to this user since it was started; ask for the statement again",
            ));
        };
        let held = self.statements.get(&id).filter(|statement| !statement.cancellation.is_cancelled());
        // What their tenant sees may have changed.
        let held = held.filter(|statement| statement.principal == caller.principal);
        let statement = held.ok_or_else(|| {
            Status::not_found(
                "the answer is no longer held: its rows were all sent, it was cancelled, it was not fetched for too long, or too many wait; ask for the statement again",
            )
        })?;
        let permit = Arc::clone(&self.state.exports).try_acquire_owned().map_err(|_| {
            let why = "too many answers are being streamed; try again a little later";
            status(&Failure::new(Kind::TooManyQueries, why))
        })?;
        let ready = lock(&statement.ready).take();
        let (planned, watch) = match ready {
            Some(ready) => ready,
            None => self.plan_again(caller, id, &statement).await?,
        };
        watch.set_waiting(false);
        let fetching = Fetching {
            flight: self.clone(),
            principal: caller.principal.clone(),
            id,
            statement,
            watch,
            time: caller.time(&self.state),
            deadline: caller.deadline(&self.state),
        };
        Ok(rows::stream(fetching, planned, permit))
    }

    async fn plan_again(&self, caller: &Caller, id: Id, statement: &Statement) -> Result<(Planned, Watch), Status> {
        let question = statement.question(statement.values.first().cloned());
        let (on, cancellation) = (statement.snapshot.clone(), statement.cancellation.clone());
        let ready = self.plan(caller, &question, Some(on), cancellation).await;
        if let Ok(ready) = &ready {
            self.forget_when_cancelled(&ready.watch, id);
        }
        // Somebody was faster than this could be told of.
        if statement.cancellation.is_cancelled() {
            self.forget(&id);
        }
        let ready = ready?;
        Ok((ready.planned, ready.watch))
    }

    /// Somebody may cancel the statement by its number.
    fn forget_when_cancelled(&self, watch: &Watch, id: Id) {
        let shared = Arc::downgrade(&self.0);
        watch.on_cancel(move || {
            if let Some(shared) = shared.upgrade() {
                shared.forget(&id);
            }
        });
    }

    /// Cancels the statement of a ticket; false if there is none, or no longer.
    pub(super) fn cancel(&self, caller: &Caller, ticket: &[u8]) -> Result<bool, Status> {
        let any = super::door::envelope(ticket)?;
        let ticket: Option<TicketStatementQuery> =
            any.unpack().map_err(|error| invalid(format!("the ticket cannot be read: {error}")))?;
        let ticket = ticket.ok_or_else(|| invalid("only the ticket of a statement can be cancelled"))?;
        let id = self.seal.open(HandleKind::Statement, &ticket.statement_handle, &caller.principal);
        Ok(id.is_some_and(|id| self.forget(&id)))
    }
}

impl Shared {
    /// Cancels a statement and lets go of it: its ticket is none any more. False if it is not there.
    fn forget(&self, id: &Id) -> bool {
        let Some(statement) = self.statements.take(id) else { return false };
        statement.cancellation.cancel();
        // What was not fetched ends with its watch.
        let ready = lock(&statement.ready).take();
        drop(ready);
        true
    }
}

impl Statement {
    /// The statement with a row of values.
    pub(super) fn question(&self, values: Option<RecordBatch>) -> Question {
        Question { text: self.text.clone(), parameters: values, schema: self.schema_name.clone(), driver: None }
    }
}

/// What a client is told whose statement somebody cancelled.
pub(super) fn cancelled() -> Status {
    Status::cancelled("the statement was cancelled")
}

/// # Errors
/// If there is a transaction.
pub(super) fn no_transaction(id: Option<&[u8]>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(Status::unimplemented(
            "there are no transactions: each statement reads one snapshot, and what is sent is durable when it is answered",
        )),
        _ => Ok(()),
    }
}
