//! Lists of users in formats for programs, written as a stream.
//!
//! [`UserWriter`] turns batches of ids into NDJSON, CSV, an Arrow IPC stream or a Parquet file with one column
//! `user_id`. [`roaring64`] frames the bitmaps of all shards as one bitmap in the portable 64-bit Roaring format, whose
//! keys are the shard numbers: value = shard × 2^32 + slot. So any Roaring library opens an exported audience, and
//! two exports of one data directory can be combined outside.

use crate::error::Failure;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

/// A format of lists that is written batch by batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// `{"user_id":"…"}` a line.
    Ndjson,
    /// A header line, then an id a line.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

static SCHEMA: LazyLock<Arc<Schema>> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("user_id", DataType::Utf8, false)])));

/// Writes users batch by batch.
pub enum UserWriter<W: Write + Send> {
    /// See [`ListFormat::Ndjson`].
    Ndjson(W),
    /// See [`ListFormat::Csv`].
    Csv(W),
    /// See [`ListFormat::Arrow`].
    Arrow(Box<StreamWriter<W>>),
    /// See [`ListFormat::Parquet`].
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> UserWriter<W> {
    /// Begins a list.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin(format: ListFormat, mut out: W) -> io::Result<Self> {
        Ok(match format {
            ListFormat::Ndjson => UserWriter::Ndjson(out),
            ListFormat::Csv => {
                out.write_all(b"user_id\n")?;
                UserWriter::Csv(out)
            }
            ListFormat::Arrow => {
                UserWriter::Arrow(Box::new(StreamWriter::try_new(out, &SCHEMA).map_err(io::Error::other)?))
            }
            ListFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(out, SCHEMA.clone(), Some(properties)).map_err(io::Error::other)?;
                UserWriter::Parquet(Box::new(writer))
            }
        })
    }

    /// Adds users.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, users: &[String]) -> io::Result<()> {
        if users.is_empty() {
            return Ok(());
        }
        match self {
            UserWriter::Ndjson(out) => {
                for user in users {
                    out.write_all(b"{\"user_id\":")?;
                    serde_json::to_writer(&mut *out, user)?;
                    out.write_all(b"}\n")?;
                }
                Ok(())
            }
            UserWriter::Csv(out) => users.iter().try_for_each(|user| writeln!(out, "{}", csv_cell(user))),
            UserWriter::Arrow(out) => out.write(&batch(users)).map_err(io::Error::other),
            UserWriter::Parquet(out) => out.write(&batch(users)).map_err(io::Error::other),
        }
    }

    /// Writes what ends a list.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(self) -> io::Result<W> {
        match self {
            UserWriter::Ndjson(out) | UserWriter::Csv(out) => Ok(out),
            UserWriter::Arrow(out) => out.into_inner().map_err(io::Error::other),
            UserWriter::Parquet(out) => out.into_inner().map_err(io::Error::other),
        }
    }
}

fn batch(users: &[String]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(users));
    RecordBatch::try_new(SCHEMA.clone(), vec![ids]).expect("one column of the schema's type")
}

/// Text as a CSV cell (RFC 4180).
pub fn csv_cell(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

/// The bitmaps of all shards, by shard number, as one portable 64-bit Roaring bitmap: the number of bitmaps as a
/// `u64`, then each as its key (`u32`, the shard) and the portable 32-bit bitmap; little-endian. Empty ones are left out.
pub fn roaring64(shards: &[Vec<u8>]) -> Vec<u8> {
    let filled: Vec<(u32, &Vec<u8>)> = (0..).zip(shards).filter(|(_, bitmap)| !is_empty_bitmap(bitmap)).collect();
    let mut out = Vec::with_capacity(8 + filled.iter().map(|(_, bitmap)| 4 + bitmap.len()).sum::<usize>());
    out.extend_from_slice(&(filled.len() as u64).to_le_bytes());
    for (shard, bitmap) in filled {
        out.extend_from_slice(&shard.to_le_bytes());
        out.extend_from_slice(bitmap);
    }
    out
}

/// A bitmap without containers is its cookie (12346) and a container count of zero.
fn is_empty_bitmap(bitmap: &[u8]) -> bool {
    bitmap.len() <= 8
}

/// What a failed write of a list means to the one who asked for it.
pub fn write_failure(error: &io::Error) -> Failure {
    Failure::internal(format!("write a list: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(csv_cell("u1"), "u1");
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        let mut writer = UserWriter::begin(ListFormat::Csv, Vec::new()).expect("begin");
        writer.write(&["x".into(), "a\nb".into()]).expect("write");
        assert_eq!(writer.finish().expect("finish"), b"user_id\nx\n\"a\nb\"\n");
    }

    #[test]
    fn every_format_is_whole_without_users() {
        for format in [ListFormat::Ndjson, ListFormat::Csv, ListFormat::Arrow, ListFormat::Parquet] {
            let writer = UserWriter::begin(format, Vec::new()).expect("begin");
            let bytes = writer.finish().expect("finish");
            assert_eq!(bytes.is_empty(), format == ListFormat::Ndjson, "{format:?}");
        }
    }

    #[test]
    fn shards_become_one_64_bit_bitmap() {
        let serialise = |values: &[u32]| {
            let mut bytes = Vec::new();
            values.iter().copied().collect::<roaring::RoaringBitmap>().serialize_into(&mut bytes).expect("serialise");
            bytes
        };
        let bytes = roaring64(&[serialise(&[1, 70_000]), serialise(&[]), serialise(&[5])]);
        let read = roaring::RoaringTreemap::deserialize_from(&bytes[..]).expect("a portable 64-bit bitmap");
        assert_eq!(read.iter().collect::<Vec<_>>(), [1, 70_000, (2 << 32) + 5]);
    }
}
