//! What a function gives, row by row, in bounded memory.

use super::types::{BITMAP, SLICED, extension_field, list_of, pair_fields};
use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringArray,
    StringBuilder, StructBuilder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::exec_err;
use datafusion::error::Result;
use engine::bitmap::sliced::Sliced;
use engine::bitmap::wide::encode;
use roaring::RoaringTreemap;
use std::sync::Arc;

/// The most bytes that a function gives for the rows of one batch.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The most members that a function lists for the rows of one batch.
pub(super) const LISTED_MAX: usize = 2 << 20;

/// The type of what a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// A bitmap.
    Bitmap,
    /// Numbers in bit slices.
    Sliced,
    /// Bytes.
    Bytes,
    /// A count, or a position: signed.
    Count,
    /// A member: unsigned.
    Member,
    Flag,
    Share,
    Text,
    /// A list of members.
    Members,
    /// A list of counts.
    Counts,
    /// A list of user ids.
    Texts,
    /// A list of keys and numbers.
    Pairs,
}

/// What it gives for one row.
pub(super) enum Answer {
    Null,
    Bitmap(RoaringTreemap),
    Sliced(Sliced),
    Bytes(Vec<u8>),
    Count(i64),
    Member(u64),
    Flag(bool),
    Share(f64),
    Text(String),
    Members(Vec<u64>),
    Counts(Vec<i64>),
    Texts(StringArray),
    Pairs(Vec<(u64, i64)>),
}

impl Gives {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Gives::Bitmap | Gives::Sliced | Gives::Bytes => DataType::Binary,
            Gives::Count => DataType::Int64,
            Gives::Member => DataType::UInt64,
            Gives::Flag => DataType::Boolean,
            Gives::Share => DataType::Float64,
            Gives::Text => DataType::Utf8,
            Gives::Members => list_of(DataType::UInt64),
            Gives::Counts => list_of(DataType::Int64),
            Gives::Texts => list_of(DataType::Utf8),
            Gives::Pairs => list_of(DataType::Struct(Fields::from(pair_fields()))),
        }
    }

    /// The field of a column of them.
    pub(super) fn field(self, name: &str) -> Field {
        match self {
            Gives::Bitmap => extension_field(name, BITMAP, true),
            Gives::Sliced => extension_field(name, SLICED, true),
            other => Field::new(name, other.data_type(), true),
        }
    }
}

/// A column of answers.
enum Column {
    Binary(BinaryBuilder),
    Count(Int64Builder),
    Member(UInt64Builder),
    Flag(BooleanBuilder),
    Share(Float64Builder),
    Text(StringBuilder),
    Members(ListBuilder<UInt64Builder>),
    Counts(ListBuilder<Int64Builder>),
    Texts(ListBuilder<StringBuilder>),
    Pairs(ListBuilder<StructBuilder>),
}

/// Answers so far.
pub(super) struct Answers {
    column: Column,
    bytes: usize,
    listed: usize,
}

impl Answers {
    pub(super) fn new(gives: Gives) -> Answers {
        let column = match gives {
            Gives::Bitmap | Gives::Sliced | Gives::Bytes => Column::Binary(BinaryBuilder::new()),
            Gives::Count => Column::Count(Int64Builder::new()),
            Gives::Member => Column::Member(UInt64Builder::new()),
            Gives::Flag => Column::Flag(BooleanBuilder::new()),
            Gives::Share => Column::Share(Float64Builder::new()),
            Gives::Text => Column::Text(StringBuilder::new()),
            Gives::Members => Column::Members(ListBuilder::new(UInt64Builder::new())),
            Gives::Counts => Column::Counts(ListBuilder::new(Int64Builder::new())),
            Gives::Texts => Column::Texts(ListBuilder::new(StringBuilder::new())),
            Gives::Pairs => Column::Pairs(ListBuilder::new(StructBuilder::from_fields(pair_fields(), 0))),
        };
        Answers { column, bytes: 0, listed: 0 }
    }

    fn grow(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        if self.bytes > ANSWER_BYTES_MAX {
            return exec_err!(
                "its answers for one batch of rows take more than {} MiB; ask for fewer rows, or count instead",
                ANSWER_BYTES_MAX >> 20
            );
        }
        Ok(())
    }

    fn list(&mut self, count: usize) -> Result<()> {
        self.listed += count;
        check_listed(self.listed as u128)
    }

    /// Takes the answer of the next row.
    ///
    /// # Errors
    /// If they take too much memory.
    pub(super) fn push(&mut self, answer: Answer) -> Result<()> {
        let answer = match answer {
            Answer::Bitmap(set) => Answer::Bytes(encode(&set)),
            Answer::Sliced(sliced) => Answer::Bytes(sliced.encode()),
            other => other,
        };
        match &answer {
            Answer::Bytes(bytes) => self.grow(bytes.len())?,
            Answer::Text(text) => self.grow(text.len())?,
            Answer::Members(members) => self.list(members.len())?,
            Answer::Texts(texts) => {
                self.list(texts.len())?;
                self.grow(texts.value_data().len())?;
            }
            Answer::Pairs(pairs) => self.list(pairs.len())?,
            _ => {}
        }
        match (&mut self.column, answer) {
            (column, Answer::Null) => column.push_null(),
            (Column::Binary(column), Answer::Bytes(bytes)) => column.append_value(bytes),
            (Column::Count(column), Answer::Count(count)) => column.append_value(count),
            (Column::Member(column), Answer::Member(member)) => column.append_value(member),
            (Column::Flag(column), Answer::Flag(flag)) => column.append_value(flag),
            (Column::Share(column), Answer::Share(share)) => column.append_value(share),
            (Column::Text(column), Answer::Text(text)) => column.append_value(text),
            (Column::Members(column), Answer::Members(members)) => {
                column.values().append_slice(&members);
                column.append(true);
            }
            (Column::Counts(column), Answer::Counts(counts)) => {
                column.values().append_slice(&counts);
                column.append(true);
            }
            (Column::Texts(column), Answer::Texts(texts)) => column.append_value(&texts),
            (Column::Pairs(column), Answer::Pairs(pairs)) => push_pairs(column, pairs),
            _ => unreachable!("a function gives what its table says"),
        }
        Ok(())
    }

    /// Bytes and listed members so far.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.bytes, self.listed)
    }

    pub(super) fn finish(self) -> ArrayRef {
        match self.column {
            Column::Binary(mut column) => Arc::new(column.finish()),
            Column::Count(mut column) => Arc::new(column.finish()),
            Column::Member(mut column) => Arc::new(column.finish()),
            Column::Flag(mut column) => Arc::new(column.finish()),
            Column::Share(mut column) => Arc::new(column.finish()),
            Column::Text(mut column) => Arc::new(column.finish()),
            Column::Members(mut column) => Arc::new(column.finish()),
            Column::Counts(mut column) => Arc::new(column.finish()),
            Column::Texts(mut column) => Arc::new(column.finish()),
            Column::Pairs(mut column) => Arc::new(column.finish()),
        }
    }
}

impl Column {
    fn push_null(&mut self) {
        match self {
            Column::Binary(column) => column.append_null(),
            Column::Count(column) => column.append_null(),
            Column::Member(column) => column.append_null(),
            Column::Flag(column) => column.append_null(),
            Column::Share(column) => column.append_null(),
            Column::Text(column) => column.append_null(),
            Column::Members(column) => column.append_null(),
            Column::Counts(column) => column.append_null(),
            Column::Texts(column) => column.append_null(),
            Column::Pairs(column) => column.append_null(),
        }
    }
}

fn push_pairs(column: &mut ListBuilder<StructBuilder>, pairs: Vec<(u64, i64)>) {
    let of = column.values();
    for (key, number) in pairs {
        if let Some(keys) = of.field_builder::<UInt64Builder>(0) {
            keys.append_value(key);
        }
        if let Some(numbers) = of.field_builder::<Int64Builder>(1) {
            numbers.append_value(number);
        }
        of.append(true);
    }
    column.append(true);
}

/// Whether so many members may be listed; asked before they are.
///
/// # Errors
/// If they are too many.
pub(super) fn check_listed(count: u128) -> Result<()> {
    if count > LISTED_MAX as u128 {
        return exec_err!(
            "{count} members would be listed for one batch of rows, and at most {LISTED_MAX} are; take them in pages by \
             sub_bitmap(b, offset, count)"
        );
    }
    Ok(())
}

/// A count, as a signed number.
///
/// # Errors
/// If it is too large for one.
pub(super) fn count(count: impl TryInto<i64> + Copy + std::fmt::Display) -> Result<Answer> {
    match count.try_into() {
        Ok(count) => Ok(Answer::Count(count)),
        Err(_) => exec_err!("a count of {count} does not fit 64 bits with a sign"),
    }
}
