//! One data file: rows of one day, sorted by user, in Parquet.
//!
//! Rows stand by shard, slot and time, so that the smallest and largest slot of a row group and of a page say which users are
//! in it, and a question about few users skips the rest. What the log tells of a file (see [`Statistics`]) lets a reader skip
//! it unopened.

use super::schema;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Int8Type, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Rows in a row group.
const GROUP_ROWS: usize = 1 << 17;
/// Rows in a page, about: what is read at least.
const PAGE_ROWS: usize = 1 << 13;

/// A file being written, in memory.
pub(super) struct FileWriter {
    writer: ArrowWriter<Vec<u8>>,
    statistics: Statistics,
}

/// A file that is written.
pub(super) struct WrittenFile {
    pub(super) bytes: Vec<u8>,
    pub(super) row_count: u64,
    /// As Delta's log has it: JSON.
    pub(super) statistics: String,
}

impl FileWriter {
    /// A file of these columns (without the day).
    pub(super) fn new(schema: SchemaRef) -> Result<Self> {
        let properties = properties(&schema)?;
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        Ok(FileWriter { writer, statistics: Statistics::default() })
    }

    /// Appends rows. A column for the day, if there is one, comes last and is left out.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let column_count = batch.num_columns();
        let without_day = match batch.schema_ref().field(column_count - 1).name() == schema::DAY {
            true => batch.project(&(0..column_count - 1).collect::<Vec<_>>())?,
            false => batch.clone(),
        };
        self.statistics.add(&without_day);
        self.writer.write(&without_day)
    }

    pub(super) fn finish(self) -> Result<WrittenFile> {
        let row_count = self.statistics.row_count;
        let bytes = self.writer.into_inner()?;
        Ok(WrittenFile { bytes, row_count, statistics: self.statistics.to_json() })
    }
}

fn properties(schema: &SchemaRef) -> Result<WriterProperties> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(1024)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in ["_shard", "_slot", "ts"] {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
    }
    // A dictionary of values that hardly repeat is built in vain.
    for name in ["event_id", "undeclared"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in ["_slot", "ts"] {
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    debug_assert!(schema.column_with_name("_slot").is_some());
    Ok(builder.build())
}

/// What the log tells of a file: how many rows, and per column how many NULLs and, for whole numbers, times and user ids, the
/// smallest and the largest value. Of the other types readers disagree how values are written, so they are left out.
#[derive(Default)]
struct Statistics {
    row_count: u64,
    null_counts: BTreeMap<String, u64>,
    numbers: BTreeMap<String, (i64, i64, Kind)>,
    users: Option<(String, String)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Time,
}

impl Statistics {
    fn add(&mut self, batch: &RecordBatch) {
        self.row_count += batch.num_rows() as u64;
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            *self.null_counts.entry(field.name().clone()).or_default() += array.null_count() as u64;
            let (range, kind) = match field.data_type() {
                DataType::Int8 => (range::<Int8Type>(array), Kind::Number),
                DataType::Int32 => (range::<Int32Type>(array), Kind::Number),
                DataType::Int64 => (range::<Int64Type>(array), Kind::Number),
                DataType::Timestamp(TimeUnit::Microsecond, _) => (range::<TimestampMicrosecondType>(array), Kind::Time),
                _ => continue,
            };
            if let Some((least, most)) = range {
                let entry = self.numbers.entry(field.name().clone()).or_insert((least, most, kind));
                *entry = (entry.0.min(least), entry.1.max(most), kind);
            }
        }
        if let Some(users) = batch.column_by_name("user_id").and_then(|array| array.as_string_opt::<i32>())
            && let (Some(least), Some(most)) = (compute::min_string(users), compute::max_string(users))
        {
            match &mut self.users {
                None => self.users = Some((least.to_owned(), most.to_owned())),
                Some((least_so_far, most_so_far)) => {
                    if least < least_so_far.as_str() {
                        *least_so_far = least.to_owned();
                    }
                    if most > most_so_far.as_str() {
                        *most_so_far = most.to_owned();
                    }
                }
            }
        }
    }

    fn to_json(&self) -> String {
        let (mut least_values, mut most_values) = (Map::new(), Map::new());
        for (name, (least, most, kind)) in &self.numbers {
            let written = match kind {
                Kind::Number => Some((json!(least), json!(most))),
                Kind::Time => time(*least).zip(time(*most)),
            };
            if let Some((least, most)) = written {
                least_values.insert(name.clone(), least);
                most_values.insert(name.clone(), most);
            }
        }
        if let Some((least, most)) = &self.users {
            least_values.insert("user_id".to_owned(), json!(least));
            most_values.insert("user_id".to_owned(), json!(most));
        }
        let statistics = json!({
            "numRecords": self.row_count,
            "minValues": least_values,
            "maxValues": most_values,
            "nullCount": self.null_counts,
        });
        statistics.to_string()
    }
}

fn range<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<(i64, i64)>
where
    T::Native: Into<i64>,
{
    let values = array.as_primitive_opt::<T>()?;
    Some((compute::min(values)?.into(), compute::max(values)?.into()))
}

/// A point in time as the log writes it; `None` outside the years that all readers know.
fn time(micros: i64) -> Option<Value> {
    let text = arrow::temporal_conversions::timestamp_us_to_datetime(micros)?.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let text = text.to_string();
    text.starts_with(|first: char| first.is_ascii_digit()).then_some(Value::String(text))
}

/// A day's folder, from days since 1970.
pub(super) fn day_name(day: i32) -> Result<String> {
    let date = arrow::temporal_conversions::date32_to_datetime(day);
    date.map(|date| date.format("%Y-%m-%d").to_string())
        .ok_or_else(|| ParquetError::General(format!("day {day} is no date")))
}
