//! `POST /v1/sql`: a statement over users, facts and what the server tells of itself.
//!
//! JSON is one answer of so many rows, and says if there were more. The formats for programs stream all rows, a batch at a time. In
//! all of them the statement's time ends with its answer: a client that goes away, or takes longer, ends it.

mod batches;
pub(crate) mod system;
mod values;

pub use batches::BatchWriter;
pub use values::Column;

use super::count::elapsed_us;
use super::export::ListFormat;
use super::members::EPOCH;
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::queries::{Progress, Watch};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::limits;
use crate::rest::negotiate::{self, Format};
use crate::rest::stream::Streamed;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use engine_sql::session::{Answer, Sql, SystemTable};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Rows of a JSON answer when `limit` is not given.
pub const ROWS_DEFAULT: usize = 10_000;
/// Rows of the largest JSON answer.
pub const ROWS_MAX: usize = 100_000;
/// Bytes of rows of the largest JSON answer.
pub const JSON_BYTES_MAX: usize = 64 << 20;

/// What is asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sql": "SELECT gender, count(*) FROM users WHERE age < 30 GROUP BY gender"}))]
pub struct SqlRequest {
    /// One statement: SELECT, WITH, VALUES, EXPLAIN, DESCRIBE, SHOW TABLES or SHOW COLUMNS.
    pub sql: String,
    /// Rows of a JSON answer, at most 100,000; 10,000 if left out. The other formats have all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Longest time until the answer ends, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SqlColumn {
    /// Its name; two may have the same.
    pub name: String,
    /// Its Arrow type: `Utf8`, `Int64`, `Decimal128(12, 2)`, …
    pub r#type: String,
    /// Whether it may have NULLs.
    pub nullable: bool,
}

/// The rows of a statement.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SqlAnswer {
    /// The columns, in order.
    pub columns: Vec<SqlColumn>,
    /// The rows, each with a value a column. Decimals have all their digits; times are RFC 3339, a set is a list, what is not a number
    /// is a string.
    #[schema(value_type = Vec<Vec<serde_json::Value>>)]
    pub rows: Vec<Box<RawValue>>,
    /// There were more rows than `limit`, or than an answer may have bytes; they are not shown.
    pub truncated: bool,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the statement, in microseconds.
    pub elapsed_us: u64,
}

/// Answers a statement.
///
/// The format follows `Accept`: `application/json` (up to `limit` rows; `truncated` says if there were more),
/// `application/vnd.apache.arrow.stream`, `application/x-ndjson`, `text/csv` or `application/vnd.apache.parquet` (all rows as a
/// stream). All tables are those of one view of the data.
#[utoipa::path(post, path = "/v1/sql", operation_id = "sql", tag = "questions", request_body = SqlRequest,
    responses((status = 200, content(
        (SqlAnswer = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"), (Vec<u8> = "application/vnd.apache.parquet")))))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SqlRequest>,
) -> Result<Response, Failure> {
    let format = negotiate::accepted(&headers)?;
    let principal = &asker.principal;
    let watch = || state.statements.begin(asker.door, principal, &request.sql);
    let list = match format {
        Format::Json => {
            let sql = Arc::clone(state.sql()?);
            let system = system::tables(&state, principal);
            // It stays here: when the client goes away it is dropped, whatever still runs.
            let watch = watch();
            let (timeout_ms, running) = (request.timeout_ms, watch.running());
            let answer = limits::query(&state, principal, timeout_ms, move |snapshot, context| {
                running.sets(Arc::clone(&context.cancelled));
                answer(&sql, snapshot, &request, system, context, |begun| running.measures(begun.meter()))
            });
            let answer = answer.await;
            watch.add_rows(answer.as_ref().map_or(0, |answer| answer.rows.len()));
            watch.end_with(&answer);
            return Ok(Json(answer?).into_response());
        }
        Format::Ndjson => ListFormat::Ndjson,
        Format::Csv => ListFormat::Csv,
        Format::Arrow => ListFormat::Arrow,
        Format::Parquet => ListFormat::Parquet,
        Format::Roaring => {
            let failure = Failure::new(Kind::NotAcceptable, "rows are no bitmap");
            return Err(failure.suggest("accept application/json or application/vnd.apache.arrow.stream"));
        }
    };
    if request.limit.is_some() {
        let failure = Failure::field("/limit", "`limit` goes with JSON only; the other formats have all rows");
        return Err(failure.suggest("write LIMIT in the statement"));
    }
    let watch = watch();
    stream(&state, request, list, format, watch, principal).await
}

/// Answers with up to so many rows as are asked for; `begun` is shown the answer before its rows are.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    sql: &Sql,
    snapshot: &Snapshot,
    request: &SqlRequest,
    system: Vec<Arc<dyn SystemTable>>,
    context: &QueryContext,
    begun: impl FnOnce(&Answer),
) -> Result<SqlAnswer, Failure> {
    let started = Instant::now();
    let limit = request.limit.unwrap_or(ROWS_DEFAULT);
    if limit == 0 || limit > ROWS_MAX {
        let failure = Failure::field("/limit", format!("`limit` is from 1 to {ROWS_MAX}"));
        return Err(failure.suggest("accept application/vnd.apache.arrow.stream to get all rows as a stream"));
    }
    let mut asked = sql.ask(snapshot.clone(), &request.sql, system, context).map_err(failed)?;
    begun(&asked);
    let columns = asked.schema().fields().iter().map(|field| SqlColumn {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    });
    let columns = columns.collect();
    let (mut rows, mut bytes, mut truncated) = (Vec::new(), 0, false);
    'all: while let Some(batch) = asked.next(&context.cancelled).map_err(failed)? {
        let shown = Column::all(&batch).map_err(Failure::internal)?;
        for row in 0..batch.num_rows() {
            if rows.len() == limit || bytes > JSON_BYTES_MAX {
                truncated = true;
                break 'all;
            }
            let text = values::row_as_list(&shown, row);
            bytes += text.len();
            rows.push(RawValue::from_string(text).map_err(Failure::internal)?);
        }
    }
    Ok(SqlAnswer { columns, rows, truncated, epoch: snapshot.epoch().0, elapsed_us: elapsed_us(started) })
}

/// Writes all rows; `wrote` is told how many, batch by batch.
///
/// # Errors
/// Those of `out`; a failed statement as [`io::ErrorKind::Other`] around its [`Failure`].
pub fn write_all<W: io::Write + Send>(
    answer: &mut Answer,
    format: ListFormat,
    out: W,
    context: &QueryContext,
    mut wrote: impl FnMut(usize),
) -> io::Result<()> {
    let mut writer = BatchWriter::begin(format, answer.schema(), out)?;
    while let Some(batch) = answer.next(&context.cancelled).map_err(|error| io::Error::other(failed(error)))? {
        writer.write(&batch)?;
        wrote(batch.num_rows());
    }
    writer.finish()?.flush()
}

/// Begins a statement whose rows are all wanted.
///
/// # Errors
/// [`Failure`] for the client.
pub fn begin(
    sql: &Sql,
    snapshot: &Snapshot,
    text: &str,
    system: Vec<Arc<dyn SystemTable>>,
    context: &QueryContext,
) -> Result<Answer, Failure> {
    sql.ask(snapshot.clone(), text, system, context).map_err(failed)
}

/// A failed statement, with the field that it stands in.
fn failed(error: engine_sql::session::SqlError) -> Failure {
    Failure::from(error).at("/sql")
}

async fn stream(
    state: &AppState,
    request: SqlRequest,
    list: ListFormat,
    format: Format,
    watch: Watch,
    principal: &Principal,
) -> Result<Response, Failure> {
    let entered = || -> Result<_, Failure> {
        let permit = Arc::clone(&state.exports).try_acquire_owned().map_err(|_| {
            Failure::new(Kind::TooManyQueries, "too many answers are being streamed; try again a little later")
                .retry_after(5)
        })?;
        let deadline = Instant::now() + limits::timeout(state, request.timeout_ms)?;
        Ok((permit, deadline, Arc::clone(state.sql()?)))
    };
    let (permit, deadline, sql) = match entered() {
        Ok(entered) => entered,
        Err(failure) => {
            watch.end(Progress::Failed(failure.detail.clone()));
            return Err(failure);
        }
    };
    let system = system::tables(state, principal);
    // Begun before anything is sent, so that what is wrong with the statement has its status.
    let running = watch.running();
    let begun = limits::query(state, principal, request.timeout_ms, move |snapshot, context| {
        running.sets(Arc::clone(&context.cancelled));
        let answer = begin(&sql, snapshot, &request.sql, system, context)?;
        running.measures(answer.meter());
        Ok((answer, snapshot.epoch().0))
    });
    let (answer, epoch) = match begun.await {
        Ok(begun) => begun,
        Err(failure) => {
            watch.end(Progress::Failed(failure.detail.clone()));
            return Err(failure);
        }
    };
    let context = state.query_context();
    let cancelled = Arc::clone(&context.cancelled);
    let streamed = Streamed { watch, permit, cancelled, deadline: Some(deadline) };
    let body = streamed.body("the rows of a statement", move |out, watch| {
        // The statement ends with this.
        let mut answer = answer;
        write_all(&mut answer, list, out, &context, |rows| watch.add_rows(rows))
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(EPOCH, HeaderValue::from(epoch));
    Ok(response)
}
