//! Prepared statements: a text with parameters, and rows of values that were bound to them.

use super::Caller;
use super::door::{Flight, Messages, schema_bytes};
use super::held::HandleKind;
use super::ingest::framed;
use super::statements::no_transaction;
use super::status::{invalid, status};
use crate::state::lock;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandPreparedStatementQuery,
    DoPutPreparedStatementResult,
};
use bytes::Bytes;
use engine_sql::session::Described;
use futures::StreamExt;
use ingest::decode::arrow_stream::{ArrowStream, Limits};
use prost::Message;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Status;

/// Prepared statements that are kept.
pub(super) const PREPARED_MAX: usize = 1_024;
/// How long an unused one is kept.
pub(super) const PREPARED_IDLE: Duration = Duration::from_secs(3_600);
/// Rows of values that may be bound at a time.
const ROWS_MAX: usize = 1_000;
/// Bytes of a message of values.
const VALUES_BYTES_MAX: usize = 4 << 20;

/// A prepared statement.
pub(super) struct Prepared {
    text: String,
    schema_name: Option<String>,
    pub(super) described: Described,
    /// A row each.
    bound: Mutex<Vec<RecordBatch>>,
}

impl Flight {
    /// Prepares a statement.
    pub(super) async fn prepare(
        &self,
        caller: &Caller,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        no_transaction(request.transaction_id.as_deref())?;
        let described = self.describe_statement(caller, request.query.clone()).await?;
        let id = self.seal.id().map_err(|failure| status(&failure))?;
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.seal.handle(HandleKind::Prepared, id, &caller.principal).into(),
            dataset_schema: schema_bytes(&described.columns)?,
            parameter_schema: schema_bytes(&described.parameters)?,
        };
        let schema_name = caller.options().schema;
        let prepared = Prepared { text: request.query, schema_name, described, bound: Mutex::default() };
        self.prepared.keep(id, Arc::new(prepared));
        Ok(result)
    }

    /// The prepared statement of a handle.
    pub(super) fn prepared(&self, caller: &Caller, handle: &[u8]) -> Result<Arc<Prepared>, Status> {
        let id = self.seal.open(HandleKind::Prepared, handle, &caller.principal);
        id.and_then(|id| self.prepared.get(&id)).ok_or_else(|| {
            Status::not_found(
                "there is no such prepared statement: it was closed or unused for too long, too many were prepared, or the server was restarted; prepare it again",
            )
        })
    }

    /// Lets go of a prepared statement.
    pub(super) fn close_prepared(&self, caller: &Caller, handle: &[u8]) -> Result<(), Status> {
        self.prepared(caller, handle)?;
        if let Some(id) = self.seal.open(HandleKind::Prepared, handle, &caller.principal) {
            self.prepared.take(&id);
        }
        Ok(())
    }

    /// Plans a prepared statement with what was bound to it.
    pub(super) async fn plan_prepared(
        &self,
        caller: &Caller,
        query: CommandPreparedStatementQuery,
    ) -> Result<(SchemaRef, Bytes), Status> {
        let prepared = self.prepared(caller, &query.prepared_statement_handle)?;
        let values = lock(&prepared.bound).clone();
        self.keep_planned(caller, prepared.text.clone(), prepared.schema_name.clone(), values).await
    }

    /// Binds rows of values, in place of those bound before.
    pub(super) async fn bind(
        &self,
        caller: &Caller,
        handle: &[u8],
        mut messages: Messages<FlightData>,
    ) -> Result<Bytes, Status> {
        let prepared = self.prepared(caller, handle)?;
        let expected = prepared.described.parameters.fields().len();
        let limits = Limits {
            body_bytes_max: VALUES_BYTES_MAX,
            decompressed_bytes_max: VALUES_BYTES_MAX,
            dictionary_bytes_max: VALUES_BYTES_MAX,
            bare_rows_max: ROWS_MAX,
            ..Limits::default()
        };
        let mut stream = ArrowStream::new(limits);
        let mut rows = Vec::new();
        while let Some(message) = messages.next().await {
            for piece in framed(message?) {
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    let batch = stream.feed(&mut rest).map_err(|error| invalid(error.to_string()))?;
                    for batch in batch.iter().filter(|batch| batch.num_rows() > 0) {
                        if rows.len() + batch.num_rows() > ROWS_MAX {
                            return Err(invalid(format!("at most {ROWS_MAX} rows of values can be bound at a time")));
                        }
                        rows.extend((0..batch.num_rows()).map(|row| batch.slice(row, 1)));
                    }
                }
            }
        }
        stream.finish().map_err(|error| invalid(error.to_string()))?;
        if let Some(row) = rows.first()
            && row.num_columns() != expected
        {
            let came = row.num_columns();
            return Err(invalid(format!("the statement has {expected} parameters, and {came} values came with it")));
        }
        *lock(&prepared.bound) = rows;
        Ok(DoPutPreparedStatementResult::default().encode_to_vec().into())
    }
}
