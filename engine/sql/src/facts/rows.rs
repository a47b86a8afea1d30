//! Rows of a fact, column by column.

use super::schema::{COLUMNS_AFTER, COLUMNS_BEFORE, chosen_schema};
use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int8Builder, Int32Builder,
    Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use engine::catalog::{Column, ColumnType, Fact, Zone};
use engine::store::FactRow;
use engine::update::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why rows cannot be a fact's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A value is not of its column's type.
    #[error("an event has {found} for column `{column}`, which is a {expected}")]
    Value {
        /// The column.
        column: String,
        /// Its type.
        expected: ColumnType,
        /// The value.
        found: String,
    },
    /// An event has more values than the fact has columns.
    #[error("an event has {found} values, but the fact has {expected} columns; the fact is older than the event")]
    Count {
        /// Columns of the fact.
        expected: usize,
        /// Values of the event.
        found: usize,
    },
    /// Arrow refuses the columns.
    #[error("the rows do not make a batch: {0}")]
    Batch(String),
}

const DAY_MICROS: i64 = 86_400_000_000;
/// 0001-01-01 and 9999-12-31, in days since 1970: further dates have no name that all readers know.
const DAYS: (i64, i64) = (-719_162, 2_932_896);

/// The day an event belongs to, in days since 1970.
pub(super) fn day_of(zone: &Zone, ts: i64) -> i32 {
    zone.local(ts).div_euclid(DAY_MICROS).clamp(DAYS.0, DAYS.1) as i32
}

/// Rows in a batch, at most: few enough for the processor's cache.
const BATCH_ROWS: usize = 1 << 15;
/// Text of one column in a batch, about: Arrow's offsets end at 2 GiB, and a batch is looked at every so many rows.
const BATCH_TEXT_BYTES: usize = 1 << 28;
const LOOK_EVERY_ROWS: usize = 256;

/// The rows, in their order, as [`super::schema`] says: to be read beside the table while they are not in it yet.
///
/// # Errors
/// [`RowError`] if they are not rows of the fact.
pub fn rows_to_batches(fact: &Fact, rows: &[FactRow<'_>]) -> Result<Vec<RecordBatch>, RowError> {
    chosen_to_batches(fact, rows, None)
}

/// The same with some of the columns, by their names; `None`: all. In their order.
pub(crate) fn chosen_to_batches(
    fact: &Fact,
    rows: &[FactRow<'_>],
    chosen: Option<&BTreeSet<&str>>,
) -> Result<Vec<RecordBatch>, RowError> {
    let mut batches = Vec::with_capacity(rows.len() / BATCH_ROWS + 1);
    let dated = rows.iter().map(|row| (row, day_of(&fact.zone, row.event.head.ts)));
    each_chosen_batch(fact, chosen, dated, |batch| {
        batches.push(batch);
        Ok::<(), RowError>(())
    })?;
    Ok(batches)
}

/// Gives rows, each with its day, to `take`, a batch at a time.
pub(super) fn each_batch<'r, E: From<RowError>>(
    fact: &Fact,
    rows: impl ExactSizeIterator<Item = (&'r FactRow<'r>, i32)>,
    take: impl FnMut(RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    each_chosen_batch(fact, None, rows, take)
}

fn each_chosen_batch<'r, E: From<RowError>>(
    fact: &Fact,
    chosen: Option<&BTreeSet<&str>>,
    rows: impl ExactSizeIterator<Item = (&'r FactRow<'r>, i32)>,
    mut take: impl FnMut(RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let mut left = rows.len();
    let new = |left: usize| Columns::new(fact, chosen, left.min(BATCH_ROWS));
    let mut columns = new(left);
    let mut filled = 0;
    for (row, day) in rows {
        columns.push(row, day)?;
        (filled, left) = (filled + 1, left - 1);
        if filled == BATCH_ROWS || (filled % LOOK_EVERY_ROWS == 0 && columns.is_long()) {
            let full = std::mem::replace(&mut columns, new(left));
            take(full.finish()?)?;
            filled = 0;
        }
    }
    if filled > 0 { take(columns.finish()?) } else { Ok(()) }
}

/// The columns of a batch being built; `None`: one that is not wanted. The others are small, and always there.
struct Columns<'f> {
    fact: &'f Fact,
    schema: SchemaRef,
    user_id: Option<StringBuilder>,
    ts: TimestampMicrosecondBuilder,
    event_id: Option<StringBuilder>,
    weight: Int8Builder,
    declared: Vec<Option<Declared>>,
    undeclared: Option<StringBuilder>,
    shard: Int32Builder,
    slot: Int64Builder,
    day: Date32Builder,
}

enum Declared {
    Text(StringBuilder),
    Integer(Int64Builder),
    /// With the first number that has too many digits.
    Decimal(Decimal128Builder, i64),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl<'f> Columns<'f> {
    fn new(fact: &'f Fact, chosen: Option<&BTreeSet<&str>>, row_count: usize) -> Self {
        let is_wanted = |name: &str| chosen.is_none_or(|chosen| chosen.contains(name));
        let text =
            |name, bytes: usize| is_wanted(name).then(|| StringBuilder::with_capacity(row_count, row_count * bytes));
        let declared = |column: &Column| is_wanted(&column.name).then(|| Declared::new(column.column_type, row_count));
        Columns {
            fact,
            schema: chosen_schema(fact, chosen),
            user_id: text("user_id", 12),
            ts: TimestampMicrosecondBuilder::with_capacity(row_count),
            event_id: text("event_id", 12),
            weight: Int8Builder::with_capacity(row_count),
            declared: fact.columns.iter().map(declared).collect(),
            undeclared: text("undeclared", 0),
            shard: Int32Builder::with_capacity(row_count),
            slot: Int64Builder::with_capacity(row_count),
            day: Date32Builder::with_capacity(row_count),
        }
    }

    fn is_long(&self) -> bool {
        let declared = self.declared.iter().filter_map(|column| match column {
            Some(Declared::Text(builder)) => Some(builder),
            _ => None,
        });
        let mut texts = declared.chain([&self.user_id, &self.event_id, &self.undeclared].into_iter().flatten());
        texts.any(|builder| builder.values_slice().len() > BATCH_TEXT_BYTES)
    }

    fn push(&mut self, row: &FactRow<'_>, day: i32) -> Result<(), RowError> {
        let head = &row.event.head;
        if let Some(user_id) = &mut self.user_id {
            user_id.append_value(row.user_id);
        }
        self.ts.append_value(head.ts);
        if let Some(event_id) = &mut self.event_id {
            event_id.append_option(some_text(head.event_id));
        }
        self.weight.append_value(row.weight);
        if let Some(undeclared) = &mut self.undeclared {
            undeclared.append_option(some_text(head.undeclared));
        }
        self.shard.append_value(i32::from(row.shard.0));
        self.slot.append_value(i64::from(row.slot));
        self.day.append_value(day);
        let mut values = row.event.values();
        for (at, column) in self.declared.iter_mut().enumerate() {
            // A column declared after the event was written has no value in it.
            let value = values.next().unwrap_or(Value::Null);
            if column.as_mut().is_some_and(|column| !column.push(value)) {
                let known = &self.fact.columns[at];
                let found = format!("{value:?}");
                return Err(RowError::Value { column: known.name.clone(), expected: known.column_type, found });
            }
        }
        match values.count() {
            0 => Ok(()),
            more => Err(RowError::Count { expected: self.declared.len(), found: self.declared.len() + more }),
        }
    }

    fn finish(mut self) -> Result<RecordBatch, RowError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(COLUMNS_BEFORE + self.declared.len() + COLUMNS_AFTER);
        let text = |builder: StringBuilder| -> ArrayRef {
            let mut builder = builder;
            Arc::new(builder.finish())
        };
        arrays.extend(self.user_id.map(text));
        arrays.push(Arc::new(self.ts.finish().with_timezone("UTC")));
        arrays.extend(self.event_id.map(text));
        arrays.push(Arc::new(self.weight.finish()));
        for (column, known) in self.declared.into_iter().zip(&self.fact.columns) {
            if let Some(column) = column {
                arrays.push(column.finish(known.column_type)?);
            }
        }
        arrays.extend(self.undeclared.map(text));
        arrays.push(Arc::new(self.shard.finish()));
        arrays.push(Arc::new(self.slot.finish()));
        arrays.push(Arc::new(self.day.finish()));
        RecordBatch::try_new(self.schema, arrays).map_err(|error| RowError::Batch(error.to_string()))
    }
}

fn some_text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Declared {
    fn new(column_type: ColumnType, row_count: usize) -> Self {
        match column_type {
            ColumnType::String | ColumnType::Json => {
                Declared::Text(StringBuilder::with_capacity(row_count, row_count * 8))
            }
            ColumnType::Integer => Declared::Integer(Int64Builder::with_capacity(row_count)),
            ColumnType::Decimal { precision, .. } => {
                let limit = 10i64.saturating_pow(u32::from(precision));
                Declared::Decimal(Decimal128Builder::with_capacity(row_count), limit)
            }
            ColumnType::Float => Declared::Float(Float64Builder::with_capacity(row_count)),
            ColumnType::Boolean => Declared::Boolean(BooleanBuilder::with_capacity(row_count)),
            ColumnType::Timestamp => Declared::Timestamp(TimestampMicrosecondBuilder::with_capacity(row_count)),
        }
    }

    /// Whether the value fits the column.
    fn push(&mut self, value: Value<'_>) -> bool {
        match (self, value) {
            (Declared::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Declared::Text(builder), Value::Null) => builder.append_null(),
            (Declared::Integer(builder), Value::Integer(number)) => builder.append_value(number),
            (Declared::Integer(builder), Value::Null) => builder.append_null(),
            (Declared::Decimal(builder, limit), Value::Integer(number)) if number > -*limit && number < *limit => {
                builder.append_value(i128::from(number));
            }
            (Declared::Decimal(builder, _), Value::Null) => builder.append_null(),
            (Declared::Float(builder), Value::Float(number)) => builder.append_value(number),
            (Declared::Float(builder), Value::Null) => builder.append_null(),
            (Declared::Boolean(builder), Value::Boolean(value)) => builder.append_value(value),
            (Declared::Boolean(builder), Value::Null) => builder.append_null(),
            (Declared::Timestamp(builder), Value::Integer(micros)) => builder.append_value(micros),
            (Declared::Timestamp(builder), Value::Null) => builder.append_null(),
            _ => return false,
        }
        true
    }

    fn finish(self, column_type: ColumnType) -> Result<ArrayRef, RowError> {
        Ok(match self {
            Declared::Text(mut builder) => Arc::new(builder.finish()),
            Declared::Integer(mut builder) => Arc::new(builder.finish()),
            Declared::Decimal(mut builder, _) => {
                let precision = match column_type {
                    ColumnType::Decimal { precision, .. } => precision,
                    _ => engine::catalog::fact::PRECISION_MAX,
                };
                let typed = builder.finish().with_precision_and_scale(precision, column_type.scale().cast_signed());
                Arc::new(typed.map_err(|error| RowError::Batch(error.to_string()))?)
            }
            Declared::Float(mut builder) => Arc::new(builder.finish()),
            Declared::Boolean(mut builder) => Arc::new(builder.finish()),
            Declared::Timestamp(mut builder) => Arc::new(builder.finish().with_timezone("UTC")),
        })
    }
}
