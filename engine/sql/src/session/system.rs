//! What the process tells of itself: `tags`, `audiences` and the schema `system`.
//!
//! What only a running server knows comes as a [`SystemTable`] from whoever runs it.

use super::filter::timestamp;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::Result;
use engine::catalog::{TagType, Unit};
use engine::store::{Definition, Snapshot};
use std::sync::Arc;

/// A table of the schema `system` that somebody else fills.
pub trait SystemTable: std::fmt::Debug + Send + Sync {
    /// Its schema: `system`, or one of its own that is not shown among the others.
    fn schema_name(&self) -> &'static str {
        "system"
    }
    /// Its name in the schema.
    fn name(&self) -> &'static str;
    /// Its columns.
    fn schema(&self) -> SchemaRef;
    /// What it says now; with the columns of [`SystemTable::schema`].
    ///
    /// # Errors
    /// Why it cannot be told, for people.
    fn rows(&self) -> std::result::Result<RecordBatch, String>;
}

/// A column of a table that is made here.
fn column(name: &str, values: ArrayRef, is_nullable: bool) -> (Field, ArrayRef) {
    (Field::new(name, values.data_type().clone(), is_nullable), values)
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> std::result::Result<RecordBatch, ArrowError> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

fn texts<'t>(of: impl Iterator<Item = Option<&'t str>>) -> ArrayRef {
    Arc::new(of.collect::<StringArray>())
}

fn numbers(of: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(of.map(|number| Some(number.cast_signed())).collect::<Int64Array>())
}

/// A table of these rows.
pub(super) fn table(batch: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// `tags`: what is declared.
pub(super) fn tags(snapshot: &Snapshot) -> std::result::Result<RecordBatch, ArrowError> {
    let tags = || snapshot.catalog().tags();
    let kind = |tag_type| match tag_type {
        TagType::Set => "set",
        TagType::Enum => "enum",
        TagType::Flag => "flag",
        TagType::Number(_) => "number",
    };
    let scale = |tag_type| match tag_type {
        TagType::Number(Unit::Decimal { scale }) => Some(i64::from(scale)),
        TagType::Number(Unit::Integer) => Some(0),
        _ => None,
    };
    let unit = |tag_type| match tag_type {
        TagType::Number(Unit::Timestamp) => Some("timestamp"),
        _ => None,
    };
    batch(vec![
        column("name", texts(tags().map(|(name, _)| Some(name))), false),
        column("type", texts(tags().map(|(_, tag)| Some(kind(tag.tag_type)))), false),
        column("scale", Arc::new(tags().map(|(_, tag)| scale(tag.tag_type)).collect::<Int64Array>()), true),
        column("unit", texts(tags().map(|(_, tag)| unit(tag.tag_type))), true),
    ])
}

/// `audiences`: what they are called and mean.
pub(super) fn audiences(snapshot: &Snapshot) -> std::result::Result<RecordBatch, ArrowError> {
    let all = || snapshot.audiences().values();
    let kind = |definition: &Definition| match definition {
        Definition::Expression(_) => "expression",
        Definition::Live { .. } => "live",
        Definition::Uploaded { .. } => "uploaded",
    };
    let changed = all().map(|audience| Some(audience.changed_at)).collect::<TimestampMicrosecondArray>();
    batch(vec![
        column("name", texts(snapshot.audiences().keys().map(|name| Some(name.as_str()))), false),
        column("kind", texts(all().map(|audience| Some(kind(&audience.definition)))), false),
        column("definition", texts(all().map(|audience| audience.expression())), true),
        column("live", Arc::new(all().map(|audience| Some(audience.is_live())).collect::<BooleanArray>()), false),
        column("description", texts(all().map(|audience| Some(audience.description.as_str()))), false),
        column("changed_at", Arc::new(changed.with_data_type(timestamp())), false),
    ])
}

/// `system.shards`: a row a shard.
pub(super) fn shards(snapshot: &Snapshot) -> std::result::Result<RecordBatch, ArrowError> {
    let shards = snapshot.shards();
    let bytes = |shard: &engine::store::ShardSnapshot| shard.layers().iter().map(|segment| segment.size_bytes()).sum();
    batch(vec![
        column("shard", numbers(0..shards.len() as u64), false),
        column("slots", numbers(shards.iter().map(|shard| u64::from(shard.slot_count()))), false),
        column("segments", numbers(shards.iter().map(|shard| shard.layers().len() as u64)), false),
        column("size_bytes", numbers(shards.iter().map(bytes)), false),
    ])
}

/// `system.segments`: a row a segment, newest first within its shard.
pub(super) fn segments(snapshot: &Snapshot) -> std::result::Result<RecordBatch, ArrowError> {
    let all = || {
        let shards = snapshot.shards().iter().enumerate();
        shards.flat_map(|(number, shard)| shard.layers().iter().enumerate().map(move |(at, layer)| (number, at, layer)))
    };
    batch(vec![
        column("shard", numbers(all().map(|(shard, ..)| shard as u64)), false),
        column("layer", numbers(all().map(|(_, at, _)| at as u64)), false),
        column("postings", numbers(all().map(|(.., segment)| segment.entry_count() as u64)), false),
        column("size_bytes", numbers(all().map(|(.., segment)| segment.size_bytes())), false),
    ])
}
