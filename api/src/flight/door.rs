//! The calls of Flight, and which of them each command goes to.
//!
//! Every call is looked at first: who asks, in which session. A command is a Protobuf message in an envelope that tells its type; one that
//! cannot be read is the client's mistake, never a fault of the server.

use super::gate::{QUESTION_TIME, late};
use super::held::{Held, Seal};
use super::information;
use super::prepared::{PREPARED_IDLE, PREPARED_MAX, Prepared};
use super::sessions::{SESSION_IDLE, SESSIONS_MAX, Session, malformed};
use super::statements::Statement;
use super::status::{invalid, status};
use super::{Caller, metadata, prepared, scopes, types, waits};
use crate::error::Failure;
use crate::state::AppState;
use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// The service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Flight(pub(super) Arc<Shared>);

/// What a [`Flight`] points to.
pub(super) struct Shared {
    pub(super) state: AppState,
    pub(super) seal: Seal,
    /// Planned statements whose rows may be fetched.
    pub(super) statements: Held<Statement>,
    pub(super) prepared: Held<Prepared>,
    pub(super) sessions: Held<Session>,
    pub(super) information: SqlInfoData,
    pub(super) types: XdbcTypeInfoData,
}

impl std::ops::Deref for Flight {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Lets go of what nobody used for too long.
    pub(super) fn expire(&self) {
        self.statements.expire();
        self.prepared.expire();
        self.sessions.expire();
    }
}

/// Answers of several messages.
pub(super) type Messages<T> = BoxStream<'static, Result<T, Status>>;

impl Flight {
    /// # Errors
    /// [`Failure`] if the system gives no random numbers.
    pub(super) fn new(state: AppState) -> Result<Flight, Failure> {
        let information = information::all(&state.config).map_err(Failure::internal)?;
        let types = types::all().map_err(Failure::internal)?;
        Ok(Flight(Arc::new(Shared {
            seal: Seal::new()?,
            statements: Held::new(state.config.cursors_max, state.config.cursor_idle),
            prepared: Held::new(PREPARED_MAX, PREPARED_IDLE),
            sessions: Held::new(SESSIONS_MAX, SESSION_IDLE),
            information,
            types,
            state,
        })))
    }

    /// Who calls: the gate let them in.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let metadata = request.metadata();
        let authorization = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let principal = self.state.caller(authorization).map_err(|failure| status(&failure))?;
        // Before the data directory is open there is nothing to be asked.
        self.state.store().map_err(|failure| status(&failure))?;
        let session = self.session(metadata, &principal)?;
        Ok(Caller { principal, session, waits: waits(metadata) })
    }

    async fn info(&self, caller: &Caller, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let any = envelope(&descriptor.cmd)?;
        let (schema, ticket) = match allowed(caller, &any)? {
            Command::CommandStatementQuery(query) => self.plan_statement(caller, query).await?,
            Command::CommandPreparedStatementQuery(query) => self.plan_prepared(caller, query).await?,
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            command => match metadata::schema(self, &command) {
                // What is told does not depend on when it is fetched.
                Some(schema) => (schema, any.encode_to_vec().into()),
                None => return Err(unknown(&command)),
            },
        };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket });
        let info = FlightInfo::new().with_endpoint(endpoint).with_descriptor(descriptor);
        info.try_with_schema(&schema).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A command in its envelope.
pub(super) fn envelope(bytes: &[u8]) -> Result<Any, Status> {
    if bytes.is_empty() {
        return Err(invalid("there is no command; send one of Flight SQL's"));
    }
    Any::decode(bytes).map_err(malformed)
}

/// The command in an envelope, which this caller may give.
fn allowed(caller: &Caller, any: &Any) -> Result<Command, Status> {
    let command = Command::try_from(any.clone());
    let command = command.map_err(|error| invalid(format!("the command cannot be read: {error}")))?;
    caller.need(scopes(&command))?;
    metadata::bounded(command)
}

fn unknown(command: &Command) -> Status {
    Status::unimplemented(format!("`{}` is not answered by this call", command.type_url()))
}

fn no_substrait() -> Status {
    Status::unimplemented("plans of Substrait are not taken; send SQL")
}

/// A schema as a message of its own.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message = arrow_flight::IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|message| message.0).map_err(|error| Status::internal(error.to_string()))
}

/// What a client is told of a panic; the log has the rest.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> axum::http::Response<tonic::body::Body> {
    Status::internal("an internal error; the server's log says more").into_http()
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.caller(&request)?;
        super::actions::handshake(&request)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.caller(&request)?;
        // Tables are found by GetTables.
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let caller = self.caller(&request)?;
        self.info(&caller, request.into_inner()).await.map(Response::new)
    }

    /// A statement is planned when this returns, so that there is nothing to poll again.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let caller = self.caller(&request)?;
        let info = self.info(&caller, request.into_inner()).await?;
        Ok(Response::new(PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let caller = self.caller(&request)?;
        let any = envelope(&request.get_ref().cmd)?;
        let schema = match allowed(&caller, &any)? {
            Command::CommandStatementQuery(query) => self.describe_statement(&caller, query.query).await?.columns,
            Command::CommandPreparedStatementQuery(query) => {
                self.prepared(&caller, &query.prepared_statement_handle)?.described.columns.clone()
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            command => metadata::schema(self, &command).ok_or_else(|| unknown(&command))?,
        };
        Ok(Response::new(SchemaResult { schema: schema_bytes(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let caller = self.caller(&request)?;
        let any = envelope(&request.get_ref().ticket)?;
        let messages = match allowed(&caller, &any)? {
            Command::TicketStatementQuery(ticket) => self.fetch(&caller, &ticket.statement_handle).await?,
            Command::CommandStatementQuery(_) | Command::CommandPreparedStatementQuery(_) => {
                return Err(invalid("this is a command, no ticket; ask GetFlightInfo for one"));
            }
            command => metadata::fetch(self, &caller, command).await?,
        };
        Ok(Response::new(messages))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let caller = self.caller(&request)?;
        let (metadata, _, mut messages) = request.into_parts();
        let first = tokio::time::timeout(QUESTION_TIME, messages.message()).await.map_err(|_| late())??;
        let first = first.ok_or_else(|| invalid("there is no message; send a command first"))?;
        let descriptor = first
            .flight_descriptor
            .as_ref()
            .ok_or_else(|| invalid("the first message has no descriptor; put the command into it"))?;
        let command = allowed(&caller, &envelope(&descriptor.cmd)?)?;
        // The first message may bring the columns too.
        let messages = stream::iter([Ok(first)]).chain(messages).boxed();
        let answer = match command {
            Command::CommandStatementIngest(ingest) => self.ingest(&caller, &metadata, ingest, messages).await?,
            Command::CommandPreparedStatementQuery(query) => {
                let bound = self.bind(&caller, &query.prepared_statement_handle, messages);
                tokio::time::timeout(caller.time(&self.state), bound).await.map_err(|_| prepared::late())??
            }
            Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
                return Err(invalid(
                    "nothing is changed by SQL: ask a question as a query, and send rows by bulk ingest (CommandStatementIngest) or HTTP",
                ));
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            command => return Err(unknown(&command)),
        };
        Ok(Response::new(stream::iter([Ok(PutResult { app_metadata: answer })]).boxed()))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.caller(&request)?;
        Err(Status::unimplemented("rows go out by DoGet and in by DoPut; DoExchange is not answered"))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = self.caller(&request)?;
        self.act(&caller, request.into_inner()).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.caller(&request)?;
        Ok(Response::new(stream::iter(super::actions::all().map(Ok)).boxed()))
    }
}
