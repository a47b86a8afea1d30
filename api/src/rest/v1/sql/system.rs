//! What only a running server knows, as tables: `system.sources`, `system.jobs` and `system.queries`.

use crate::access::Principal;
use crate::rest::v1::queries::QueryAnswer;
use crate::rest::v1::{jobs, sources};
use crate::state::AppState;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use engine_sql::session::SystemTable;
use std::sync::Arc;

/// The tables of a server, as far as who asks may see them.
pub(crate) fn tables(state: &AppState, by: &Principal) -> Vec<Arc<dyn SystemTable>> {
    // Sources and jobs are the operator's.
    let all: &[Table] = if by.is_operator() { &Table::ALL } else { &[Table::Queries] };
    let table = |table: &Table| OfServer { table: *table, state: state.clone(), by: by.clone() };
    all.iter().map(|of| Arc::new(table(of)) as Arc<dyn SystemTable>).collect()
}

#[derive(Clone, Copy, Debug)]
enum Table {
    Sources,
    Jobs,
    Queries,
}

impl Table {
    const ALL: [Table; 3] = [Table::Sources, Table::Jobs, Table::Queries];
}

struct OfServer {
    table: Table,
    state: AppState,
    /// Who asks.
    by: Principal,
}

impl std::fmt::Debug for OfServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.table.fmt(f)
    }
}

impl SystemTable for OfServer {
    fn name(&self) -> &'static str {
        match self.table {
            Table::Sources => "sources",
            Table::Jobs => "jobs",
            Table::Queries => "queries",
        }
    }

    fn schema(&self) -> SchemaRef {
        let columns: &[(&str, DataType)] = match self.table {
            Table::Sources => &[
                ("name", DataType::Utf8),
                ("about", DataType::Utf8),
                ("state", DataType::Utf8),
                ("error", DataType::Utf8),
                ("records", DataType::Int64),
                ("bytes", DataType::Int64),
                ("records_per_second", DataType::Float64),
                ("refused", DataType::Int64),
                ("filtered", DataType::Int64),
                ("empty", DataType::Int64),
                ("lost", DataType::Int64),
                ("lag", DataType::Int64),
                ("watermark", DataType::Utf8),
            ],
            Table::Jobs => &[
                ("id", DataType::Utf8),
                ("name", DataType::Utf8),
                ("state", DataType::Utf8),
                ("error", DataType::Utf8),
                ("created_at", DataType::Utf8),
                ("started_at", DataType::Utf8),
                ("finished_at", DataType::Utf8),
                ("files_done", DataType::Int64),
                ("files_total", DataType::Int64),
                ("rows_done", DataType::Int64),
                ("rows_total", DataType::Int64),
                ("rejected", DataType::Int64),
            ],
            Table::Queries => &[
                ("id", DataType::Utf8),
                ("door", DataType::Utf8),
                ("kind", DataType::Utf8),
                ("principal", DataType::Utf8),
                ("sql", DataType::Utf8),
                ("state", DataType::Utf8),
                ("error", DataType::Utf8),
                ("started_at", DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))),
                ("elapsed_us", DataType::Int64),
                ("rows", DataType::Int64),
                ("memory_bytes", DataType::Int64),
            ],
        };
        let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }

    fn rows(&self) -> Result<RecordBatch, String> {
        let columns = match self.table {
            Table::Sources => self.sources(),
            Table::Jobs => self.jobs(),
            Table::Queries => Ok(self.queries()),
        };
        let schema = self.schema();
        let columns = columns.map_err(|failure| failure.to_string())?;
        RecordBatch::try_new(schema, columns).map_err(|error| error.to_string())
    }
}

fn texts(of: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(of.collect::<StringArray>())
}

fn numbers(of: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(of.map(|number| number.map(u64::cast_signed)).collect::<Int64Array>())
}

impl OfServer {
    fn sources(&self) -> Result<Vec<ArrayRef>, crate::error::Failure> {
        let all = sources::all(&self.state)?;
        let rows = || all.iter();
        Ok(vec![
            texts(rows().map(|source| Some(source.name.clone()))),
            texts(rows().map(|source| Some(source.about.clone()))),
            texts(rows().map(|source| serde_name(&source.state))),
            texts(rows().map(|source| source.error.clone())),
            numbers(rows().map(|source| Some(source.records))),
            numbers(rows().map(|source| Some(source.bytes))),
            Arc::new(rows().map(|source| Some(source.records_per_second)).collect::<Float64Array>()),
            numbers(rows().map(|source| Some(source.refused))),
            numbers(rows().map(|source| Some(source.filtered))),
            numbers(rows().map(|source| Some(source.empty))),
            numbers(rows().map(|source| Some(source.lost))),
            numbers(rows().map(|source| Some(source.lag))),
            texts(rows().map(|source| source.watermark.clone())),
        ])
    }

    fn jobs(&self) -> Result<Vec<ArrayRef>, crate::error::Failure> {
        let (records, _) = self.state.jobs()?.list(usize::MAX, None);
        let all: Vec<jobs::JobAnswer> = records.into_iter().map(jobs::JobAnswer::from).collect();
        let rows = || all.iter();
        Ok(vec![
            texts(rows().map(|job| Some(job.id.clone()))),
            texts(rows().map(|job| Some(job.name.clone()))),
            texts(rows().map(|job| serde_name(&job.state))),
            texts(rows().map(|job| job.error.clone())),
            texts(rows().map(|job| Some(job.created_at.clone()))),
            texts(rows().map(|job| job.started_at.clone())),
            texts(rows().map(|job| job.finished_at.clone())),
            numbers(rows().map(|job| Some(job.progress.files_done))),
            numbers(rows().map(|job| Some(job.progress.files_total))),
            numbers(rows().map(|job| Some(job.progress.rows_done))),
            numbers(rows().map(|job| job.progress.rows_total)),
            numbers(rows().map(|job| Some(job.progress.rejected))),
        ])
    }

    fn queries(&self) -> Vec<ArrayRef> {
        let all = self.state.statements.all(&self.by);
        let starts = all.iter().map(|query| Some(query.started_at)).collect::<TimestampMicrosecondArray>();
        let all: Vec<QueryAnswer> = all.into_iter().map(QueryAnswer::from).collect();
        let rows = || all.iter();
        vec![
            texts(rows().map(|query| Some(query.id.clone()))),
            texts(rows().map(|query| Some(query.door.clone()))),
            texts(rows().map(|query| Some(query.kind.clone()))),
            texts(rows().map(|query| Some(query.principal.clone()))),
            texts(rows().map(|query| Some(query.sql.clone()))),
            texts(rows().map(|query| Some(query.state.clone()))),
            texts(rows().map(|query| query.error.clone())),
            Arc::new(starts.with_timezone("UTC")),
            numbers(rows().map(|query| Some(query.elapsed_us))),
            numbers(rows().map(|query| Some(query.rows))),
            numbers(rows().map(|query| query.memory_bytes)),
        ]
    }
}

/// What REST calls a state.
fn serde_name(state: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(state).ok()?.as_str().map(str::to_owned)
}
