//! Rows in formats for programs, written batch by batch.

use super::values::Column;
use crate::rest::v1::export::{ListFormat, csv_cell};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};

/// Writes rows batch by batch.
pub enum BatchWriter<W: Write + Send> {
    /// A JSON object a row; of columns with the same name the last one counts, as JSON has it.
    Ndjson(W),
    /// A header line, then a line a row.
    Csv(W),
    /// An Arrow IPC stream.
    Arrow(Box<StreamWriter<W>>),
    /// A Parquet file.
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> BatchWriter<W> {
    /// Begins rows of a schema.
    ///
    /// # Errors
    /// Those of `out`, or that the format does not have one of the types.
    pub fn begin(format: ListFormat, schema: &SchemaRef, mut out: W) -> io::Result<Self> {
        Ok(match format {
            ListFormat::Ndjson => BatchWriter::Ndjson(out),
            ListFormat::Csv => {
                let names: Vec<_> = schema.fields().iter().map(|field| csv_cell(field.name())).collect();
                writeln!(out, "{}", names.join(","))?;
                BatchWriter::Csv(out)
            }
            ListFormat::Arrow => {
                BatchWriter::Arrow(Box::new(StreamWriter::try_new(out, schema).map_err(io::Error::other)?))
            }
            ListFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                BatchWriter::Parquet(Box::new(writer.map_err(io::Error::other)?))
            }
        })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            BatchWriter::Ndjson(out) => {
                let schema = batch.schema();
                let names: Vec<String> = schema
                    .fields()
                    .iter()
                    .map(|field| serde_json::Value::from(field.name().as_str()).to_string())
                    .collect();
                let columns = Column::all(batch).map_err(io::Error::other)?;
                let mut line = String::new();
                for row in 0..batch.num_rows() {
                    line.clear();
                    for (name, column) in names.iter().zip(&columns) {
                        line.push(if line.is_empty() { '{' } else { ',' });
                        line.push_str(name);
                        line.push(':');
                        column.json(row, &mut line);
                    }
                    if line.is_empty() {
                        line.push('{');
                    }
                    line.push_str("}\n");
                    out.write_all(line.as_bytes())?;
                }
                Ok(())
            }
            BatchWriter::Csv(out) => {
                let columns = Column::all(batch).map_err(io::Error::other)?;
                for row in 0..batch.num_rows() {
                    let cells: Vec<String> =
                        columns.iter().map(|column| csv_cell(&column.text(row)).into_owned()).collect();
                    writeln!(out, "{}", cells.join(","))?;
                }
                Ok(())
            }
            BatchWriter::Arrow(out) => out.write(batch).map_err(io::Error::other),
            BatchWriter::Parquet(out) => out.write(batch).map_err(io::Error::other),
        }
    }

    /// Writes what ends the rows.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(self) -> io::Result<W> {
        match self {
            BatchWriter::Ndjson(out) | BatchWriter::Csv(out) => Ok(out),
            BatchWriter::Arrow(out) => out.into_inner().map_err(io::Error::other),
            BatchWriter::Parquet(out) => out.into_inner().map_err(io::Error::other),
        }
    }
}
