//! What tools ask on connecting: catalogs, schemas, tables with their columns, keys, and what the server can do.
//!
//! Their columns are those of the specification to the letter, also which of them may be NULL: clients compare.

use super::Caller;
use super::door::{Flight, Messages};
use super::status::{invalid, status};
use crate::error::Failure;
use crate::rest::limits;
use crate::rest::v1::sql::system;
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::{FlightError, Result};
use arrow_flight::sql::{Command, CommandGetPrimaryKeys, CommandGetTables};
use engine_sql::session::{CATALOG, PUBLIC, SCHEMAS};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;
use tonic::Status;

/// Types of tables: those of users and facts, and those that tell of the data's upkeep.
const TABLE: &str = "TABLE";
const SYSTEM_TABLE: &str = "SYSTEM TABLE";

/// Items of information, and types of tables, that may be asked for by name.
const ITEMS_MAX: usize = 1_000;
const TABLE_TYPES_MAX: usize = 100;

/// The command with everything named once: work is done for each name.
///
/// # Errors
/// If there are too many.
pub(super) fn bounded(mut command: Command) -> std::result::Result<Command, Status> {
    match &mut command {
        Command::CommandGetSqlInfo(query) => once(&mut query.info, ITEMS_MAX, "items of information")?,
        Command::CommandGetTables(query) => once(&mut query.table_types, TABLE_TYPES_MAX, "types of tables")?,
        _ => {}
    }
    Ok(command)
}

fn once<T: Ord>(names: &mut Vec<T>, names_max: usize, what: &str) -> std::result::Result<(), Status> {
    if names.len() > names_max {
        let came = names.len();
        return Err(invalid(format!("at most {names_max} {what} can be asked for at a time, and {came} were")));
    }
    names.sort_unstable();
    names.dedup();
    Ok(())
}

/// The columns of an answer; `None` of a command that asks for nothing of this kind.
pub(super) fn schema(flight: &Flight, command: &Command) -> Option<SchemaRef> {
    Some(match command.clone() {
        Command::CommandGetCatalogs(query) => query.into_builder().schema(),
        Command::CommandGetDbSchemas(query) => query.into_builder().schema(),
        Command::CommandGetTables(query) => query.into_builder().schema(),
        Command::CommandGetTableTypes(query) => query.into_builder().schema(),
        Command::CommandGetSqlInfo(query) => query.into_builder(&flight.information).schema(),
        Command::CommandGetXdbcTypeInfo(query) => query.into_builder(&flight.types).schema(),
        Command::CommandGetPrimaryKeys(_) => primary_keys_schema(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => references_schema(),
        _ => return None,
    })
}

/// The rows of an answer.
pub(super) async fn fetch(
    flight: &Flight,
    caller: &Caller,
    command: Command,
) -> std::result::Result<Messages<FlightData>, Status> {
    let unknown = Status::unimplemented(format!("`{}` is not answered by this call", command.type_url()));
    let told = match command {
        Command::CommandGetCatalogs(query) => {
            let mut catalogs = query.into_builder();
            catalogs.append(CATALOG);
            catalogs.build()
        }
        Command::CommandGetDbSchemas(query) => {
            let mut schemas = query.into_builder();
            SCHEMAS.iter().for_each(|schema| schemas.append(CATALOG, schema));
            schemas.build()
        }
        Command::CommandGetTables(query) => tables(flight, caller, query).await?,
        Command::CommandGetTableTypes(query) => {
            let mut types = query.into_builder();
            [SYSTEM_TABLE, TABLE].iter().for_each(|name| types.append(name));
            types.build()
        }
        Command::CommandGetSqlInfo(query) => query.into_builder(&flight.information).build(),
        Command::CommandGetXdbcTypeInfo(query) => query.into_builder(&flight.types).build(),
        Command::CommandGetPrimaryKeys(query) => primary_keys(flight, caller, &query)?,
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(references_schema())),
        _ => return Err(unknown),
    };
    let batch = told.map_err(|error| status(&Failure::internal(error)))?;
    let encoder = FlightDataEncoderBuilder::new().with_schema(batch.schema());
    let messages = encoder.build(stream::iter([std::result::Result::<_, FlightError>::Ok(batch)]));
    Ok(messages.map_err(Status::from).boxed())
}

async fn tables(
    flight: &Flight,
    caller: &Caller,
    query: CommandGetTables,
) -> std::result::Result<Result<RecordBatch>, Status> {
    let sql = Arc::clone(flight.state.sql().map_err(|failure| status(&failure))?);
    let system = system::tables(&flight.state, &caller.principal);
    let with_columns = query.include_schema;
    let listed =
        limits::query(&flight.state, &caller.principal, caller.timeout_ms(&flight.state), move |snapshot, _| {
            Ok(sql.tables(snapshot.clone(), system, with_columns, &|_, _| true)?)
        });
    let listed = listed.await.map_err(|failure| status(&failure))?;
    let mut builder = query.into_builder();
    let empty = Arc::new(Schema::empty());
    for table in listed {
        let kind = if table.is_of_system() { SYSTEM_TABLE } else { TABLE };
        let columns = table.columns.as_ref().unwrap_or(&empty);
        if let Err(error) = builder.append(CATALOG, table.schema, &table.name, kind, columns) {
            return Ok(Err(error));
        }
    }
    Ok(builder.build())
}

/// A user is there once; so is an event that has an id, if the fact sees to that.
fn primary_keys(
    flight: &Flight,
    caller: &Caller,
    query: &CommandGetPrimaryKeys,
) -> std::result::Result<Result<RecordBatch>, Status> {
    let snapshot = flight.state.names(&caller.principal).map_err(|failure| status(&failure))?;
    let is_here = query.catalog.as_deref().is_none_or(|name| name == CATALOG)
        && query.db_schema.as_deref().is_none_or(|name| name == PUBLIC);
    let column = match query.table.as_str() {
        _ if !is_here => None,
        "users" => Some("user_id"),
        name => snapshot.catalog().declared_fact(name).and_then(|fact| fact.deduplicate_days).map(|_| "event_id"),
    };
    let texts = |value: &str| Arc::new(StringArray::from_iter_values(column.map(|_| value))) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        texts(CATALOG),
        texts(PUBLIC),
        texts(&query.table),
        texts(column.unwrap_or_default()),
        texts(&format!("{}_key", query.table)),
        Arc::new(Int32Array::from_iter_values(column.map(|_| 1))),
    ];
    Ok(RecordBatch::try_new(primary_keys_schema(), columns).map_err(FlightError::from))
}

fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// Of keys that refer to others; there are none.
fn references_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
