//! A population as files: NDJSON lines of `POST /v1/tags`, and Parquet with a column per tag.

use super::person::{Person, user_id};
use super::tables::{CHANNELS, DEVICES, GENDERS, LANGUAGES, PROVINCES};
use super::{Population, TAGS, categories, generator, interests};
use crate::user::write_ndjson_line;
use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Rows of one Arrow batch.
const ROWS_PER_BATCH: u64 = 16_384;
/// Rows of one row group; of users about 20 MB uncompressed.
const ROWS_PER_GROUP: usize = 256 * 1024;

impl Population {
    /// Writes a range of users as NDJSON lines of `POST /v1/tags`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_ndjson(&self, range: Range<u64>, out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        for user in self.users(range) {
            line.clear();
            write_ndjson_line(&TAGS, &user, &mut line);
            out.write_all(line.as_bytes())?;
        }
        out.flush()
    }

    /// Writes a range of users as one Parquet file: `user_id`, then a column per tag. Sets are lists, `spend` is a
    /// decimal, times are UTC timestamps in microseconds.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_parquet(&self, range: Range<u64>, path: &Path) -> io::Result<()> {
        write_parquet(path, range, |range| self.record_batch(range))
    }

    /// A range of users as an Arrow batch, with the columns of [`Population::write_parquet`].
    ///
    /// # Errors
    /// None that these columns can cause.
    pub fn record_batch(&self, range: Range<u64>) -> Result<RecordBatch, ArrowError> {
        let people: Vec<Person> = range.clone().map(|index| generator().person(self.seed, index)).collect();
        let ids: StringArray =
            range.map(|index| Some(user_id(index).map(char::from).iter().collect::<String>())).collect();
        let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("user_id", Arc::new(ids), false)];
        for (name, _) in TAGS {
            columns.push((name, column(name, &people)?, true));
        }
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}

/// Writes one Parquet file of what `batch` makes of a range.
pub(super) fn write_parquet(
    path: &Path,
    range: Range<u64>,
    batch: impl Fn(Range<u64>) -> Result<RecordBatch, ArrowError>,
) -> io::Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .build();
    let first = batch(range.start..range.start).map_err(io::Error::other)?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, first.schema(), Some(properties))?;
    let mut from = range.start;
    while from < range.end {
        let to = range.end.min(from + ROWS_PER_BATCH);
        writer.write(&batch(from..to).map_err(io::Error::other)?)?;
        from = to;
    }
    writer.close()?;
    Ok(())
}

fn column(name: &str, people: &[Person]) -> Result<ArrayRef, ArrowError> {
    let text = |value: &dyn Fn(&Person) -> Option<&'static str>| -> ArrayRef {
        Arc::new(people.iter().map(value).collect::<StringArray>())
    };
    let number = |value: &dyn Fn(&Person) -> Option<i64>| -> ArrayRef {
        Arc::new(people.iter().map(value).collect::<Int64Array>())
    };
    let flag = |value: &dyn Fn(&Person) -> bool| -> ArrayRef {
        Arc::new(people.iter().map(|person| Some(value(person))).collect::<BooleanArray>())
    };
    let time = |value: &dyn Fn(&Person) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(people.iter().map(value)).with_timezone("UTC"))
    };
    Ok(match name {
        "gender" => text(&|person| Some(GENDERS[usize::from(person.gender?)])),
        "age" => number(&|person| person.age.map(i64::from)),
        "province" => text(&|person| Some(PROVINCES[usize::from(person.province)].0)),
        "city_tier" => number(&|person| Some(person.city_tier.into())),
        "language" => text(&|person| Some(LANGUAGES[usize::from(person.language)])),
        "device" => text(&|person| Some(DEVICES[usize::from(person.device?)])),
        "channel" => text(&|person| Some(CHANNELS[usize::from(person.channel)])),
        "interest" => lists(people.iter().map(|person| interests(person.interests))),
        "category" => lists(people.iter().map(|person| categories(person.categories))),
        "is_member" => flag(&|person| person.is_member),
        "ads_consent" => flag(&|person| person.ads_consent),
        "spend" => {
            let cents = people.iter().map(|person| person.spend_cents.map(i128::from)).collect::<Decimal128Array>();
            Arc::new(cents.with_precision_and_scale(18, 2)?)
        }
        "orders" => number(&|person| Some(person.orders.into())),
        "registered_at" => time(&|person| person.registered_at),
        "last_active_at" => time(&|person| person.last_active_at),
        name => return Err(ArrowError::SchemaError(format!("the population has no tag {name}"))),
    })
}

fn lists(sets: impl Iterator<Item = impl Iterator<Item = &'static str>>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for set in sets {
        set.for_each(|value| builder.values().append_value(value));
        builder.append(true);
    }
    Arc::new(builder.finish())
}
