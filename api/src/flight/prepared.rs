//! Prepared statements: a text with parameters, and rows of values that were bound to them.

use super::Caller;
use super::door::{Flight, Messages, schema_bytes};
use super::held::HandleKind;
use super::ingest::framed;
use super::statements::no_transaction;
use super::status::{invalid, status};
use crate::state::lock;
use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::buffer::NullBuffer;
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
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Status;

/// Prepared statements that are kept.
pub(super) const PREPARED_MAX: usize = 1_024;
/// How long an unused one is kept.
pub(super) const PREPARED_IDLE: Duration = Duration::from_secs(3_600);
/// Rows of values that may be bound at a time.
const ROWS_MAX: usize = 1_000;
/// Bytes of values that may be bound at a time, as they come and as they are kept.
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
        let (mut came_bytes, mut held) = (0, HeldBytes::default());
        while let Some(message) = messages.next().await {
            for piece in framed(message?) {
                came_bytes += piece.len();
                fits(came_bytes)?;
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    let batch = stream.feed(&mut rest).map_err(|error| invalid(error.to_string()))?;
                    let came = stream.schema().map_or(expected, |schema| schema.fields().len());
                    if came != expected {
                        return Err(invalid(format!(
                            "the statement has {expected} parameters, and {came} values came with it"
                        )));
                    }
                    for batch in batch.iter().filter(|batch| batch.num_rows() > 0) {
                        if rows.len() + batch.num_rows() > ROWS_MAX {
                            return Err(invalid(format!("at most {ROWS_MAX} rows of values can be bound at a time")));
                        }
                        batch.columns().iter().for_each(|column| held.add(&column.to_data()));
                        fits(held.bytes)?;
                        rows.extend((0..batch.num_rows()).map(|row| batch.slice(row, 1)));
                    }
                }
            }
        }
        stream.finish().map_err(|error| invalid(error.to_string()))?;
        *lock(&prepared.bound) = rows;
        Ok(DoPutPreparedStatementResult::default().encode_to_vec().into())
    }
}

/// # Errors
/// If these are more bytes than values may have.
fn fits(bytes: usize) -> Result<(), Status> {
    match bytes > VALUES_BYTES_MAX {
        true => Err(invalid(format!("at most {VALUES_BYTES_MAX} bytes of values can be bound at a time"))),
        false => Ok(()),
    }
}

/// What a client is told whose values took too long to come.
pub(super) fn late() -> Status {
    Status::deadline_exceeded("the values did not all come within the time that a statement has; send them again")
}

/// Memory that values hold; what several of them share counts once.
#[derive(Default)]
struct HeldBytes {
    seen: HashSet<usize>,
    bytes: usize,
}

impl HeldBytes {
    fn add(&mut self, data: &ArrayData) {
        let buffers = data.buffers().iter().chain(data.nulls().map(NullBuffer::buffer));
        for buffer in buffers {
            if self.seen.insert(buffer.data_ptr().as_ptr().addr()) {
                self.bytes += buffer.capacity();
            }
        }
        data.child_data().iter().for_each(|child| self.add(child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    #[test]
    fn what_is_shared_counts_once() {
        let values = Int64Array::from(vec![Some(1); 1_000]);
        let mut held = HeldBytes::default();
        held.add(&values.to_data());
        let once = held.bytes;
        assert!(once >= 8_000, "{once}");
        held.add(&values.slice(5, 10).to_data());
        assert_eq!(held.bytes, once);
        held.add(&Int64Array::from(vec![1; 1_000]).to_data());
        assert!(held.bytes >= once + 8_000);
        assert!(fits(VALUES_BYTES_MAX).is_ok() && fits(VALUES_BYTES_MAX + 1).is_err());
    }
}
