//! What a fact's table looks like: its columns in Arrow, in Delta, and whether a table that is there already can be it.
//!
//! ```text
//! user_id | ts | event_id | weight | the declared columns | undeclared | _shard | _slot | day
//! ```
//!
//! `day` is the date in the fact's zone, and the partition: it is in the files' folders, not in the files. `_shard` and `_slot`
//! say where the user is, so that a question about few users reads few pages.

use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::{DataType, PrimitiveType, StructField, StructType};
use engine::catalog::{ColumnType, Fact};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The partition column.
pub(super) const DAY: &str = "day";
/// Columns before the declared ones.
pub(super) const COLUMNS_BEFORE: usize = 4;
/// Columns behind the declared ones.
pub(super) const COLUMNS_AFTER: usize = 4;

/// The columns of a fact's table: what [`super::rows_to_batches`] makes and [`super::DeltaTables::read`] shows.
pub fn schema(fact: &Fact) -> SchemaRef {
    let own = |name: &str, data_type: ArrowType, nullable: bool| Field::new(name, data_type, nullable);
    let mut fields = vec![
        own("user_id", ArrowType::Utf8, false),
        own("ts", timestamp(), false),
        own("event_id", ArrowType::Utf8, true),
        own("weight", ArrowType::Int8, false),
    ];
    fields.extend(fact.columns.iter().map(|column| own(&column.name, arrow_type(column.column_type), true)));
    fields.extend([
        own("undeclared", ArrowType::Utf8, true),
        own("_shard", ArrowType::Int32, false),
        own("_slot", ArrowType::Int64, false),
        own(DAY, ArrowType::Date32, false),
    ]);
    debug_assert_eq!(fields.len(), COLUMNS_BEFORE + fact.columns.len() + COLUMNS_AFTER);
    Arc::new(Schema::new(fields))
}

/// The columns that are always there, and the chosen ones of the others; `None`: all.
pub(crate) fn chosen_schema(fact: &Fact, chosen: Option<&BTreeSet<&str>>) -> SchemaRef {
    const ALWAYS: [&str; 5] = ["ts", "weight", "_shard", "_slot", DAY];
    let schema = schema(fact);
    let Some(chosen) = chosen else { return schema };
    let is_wanted = |name: &str| ALWAYS.contains(&name) || chosen.contains(name);
    Arc::new(Schema::new(schema.fields().iter().filter(|field| is_wanted(field.name())).cloned().collect::<Vec<_>>()))
}

/// The columns that stand in the files.
pub(super) fn file_schema(fact: &Fact) -> SchemaRef {
    let schema = schema(fact);
    Arc::new(Schema::new(schema.fields()[..schema.fields().len() - 1].to_vec()))
}

fn timestamp() -> ArrowType {
    ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn arrow_type(column_type: ColumnType) -> ArrowType {
    match column_type {
        ColumnType::String | ColumnType::Json => ArrowType::Utf8,
        ColumnType::Integer => ArrowType::Int64,
        ColumnType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale.cast_signed()),
        ColumnType::Float => ArrowType::Float64,
        ColumnType::Boolean => ArrowType::Boolean,
        ColumnType::Timestamp => timestamp(),
    }
}

/// The same columns as Delta names them.
pub(super) fn delta_schema(fact: &Fact) -> Result<StructType, String> {
    let fields = schema(fact).fields().iter().map(|field| delta_field(field)).collect::<Result<Vec<_>, _>>()?;
    StructType::try_new(fields).map_err(|error| error.to_string())
}

fn delta_field(field: &Field) -> Result<StructField, String> {
    let data_type = match field.data_type() {
        ArrowType::Utf8 => DataType::STRING,
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int8 => DataType::BYTE,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Date32 => DataType::DATE,
        ArrowType::Timestamp(..) => DataType::TIMESTAMP,
        ArrowType::Decimal128(precision, scale) => {
            let made = PrimitiveType::decimal(*precision, scale.cast_unsigned());
            DataType::Primitive(made.map_err(|error| error.to_string())?)
        }
        other => return Err(format!("column `{}` has type {other}, which facts do not have", field.name())),
    };
    Ok(StructField::new(field.name(), data_type, field.is_nullable()))
}

/// What must become of a table's columns so that rows of the fact can be added: nothing, or new columns.
///
/// A table may have more columns than the fact if they may be NULL: an earlier state of the fact is being replayed, or somebody
/// added them.
///
/// # Errors
/// Why the table cannot be the fact's, and what to do.
pub(super) fn reconcile(found: &StructType, fact: &Fact) -> Result<Option<StructType>, String> {
    let wanted = delta_schema(fact)?;
    let advice = "somebody else changed the table, or the fact was dropped and declared anew: \
                  change the table back, or move its folder away";
    for field in wanted.fields() {
        if let Some(other) = found.field(field.name())
            && other.data_type() != field.data_type()
        {
            let (name, is, should) = (field.name(), other.data_type(), field.data_type());
            return Err(format!("column `{name}` of the table is a {is} and should be a {should}; {advice}"));
        }
    }
    let extra: Vec<StructField> =
        found.fields().filter(|field| wanted.field(field.name()).is_none()).cloned().collect();
    if let Some(field) = extra.iter().find(|field| !field.is_nullable()) {
        return Err(format!("the table has a column `{}` that cannot be NULL; {advice}", field.name()));
    }
    if wanted.fields().all(|field| found.field(field.name()).is_some()) {
        return Ok(None);
    }
    let fields = wanted.fields().cloned().chain(extra);
    StructType::try_new(fields).map(Some).map_err(|error| error.to_string())
}
