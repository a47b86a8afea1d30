//! Files of columns, through Arrow: Parquet, and Arrow's own format (IPC), a file or a stream.

use super::BackfillError;
use super::files::{file_error, open_counted};
use super::plan::{Events, Task, Vectors, plan_tags};
use super::rows::{Refused, Rows};
use crate::decode::tag_columns::{Plan, push_columns};
use crate::decode::vectors::columns::{check_columns, push_vectors};
use crate::decode::{BindError, ColumnDecoder, guard};
use crate::objects::{ColumnBytes, Place};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use engine::update::UpdateBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Rows decoded at once.
const ROWS_PER_STEP: usize = 4096;
/// Numbers of vectors decoded at once.
const NUMBERS_PER_STEP: usize = 1 << 20;

/// The rows of a file.
pub(super) struct ColumnRows {
    batches: Box<dyn RecordBatchReader>,
    /// What is left of the batch read last.
    rest: Option<RecordBatch>,
    sink: Sink,
    /// Rows decoded at once.
    step: usize,
    unmatched: Vec<String>,
    row: u64,
    total: Option<u64>,
}

/// What rows become.
enum Sink {
    Tags(Plan),
    Events(Box<ColumnDecoder>),
    Vectors(Box<Vectors>),
}

impl ColumnRows {
    pub(super) fn open_parquet(place: &Place, skip: u64, task: &Task<'_>) -> Result<ColumnRows, BackfillError> {
        let path = place.path();
        let (bytes, footer) = open_footer(place).map_err(|what| file_error(path, what))?;
        let (sink, unmatched) = bind(path, task, footer.schema())?;
        let step = sink.step();
        let total = row_count(&footer);
        let skip = skip.min(total);
        let reader = shielded(|| {
            let (groups, before) = groups_from(&footer, skip);
            let mask = ProjectionMask::roots(footer.parquet_schema(), sink.places(footer.schema()));
            let bytes = bytes.for_columns(footer.metadata(), &groups, &mask);
            ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, footer)
                .with_row_groups(groups)
                .with_projection(mask)
                .with_batch_size(step)
                .with_offset((skip - before) as usize)
                .build()
        });
        let reader = reader.map_err(|error| file_error(path, error))?;
        // The reader gives the columns that are wanted, and the others have no place any more.
        let sink = match (sink, task.events()?) {
            (Sink::Events(_), Some(events)) => {
                Sink::Events(events.bind(&reader.schema()).map_err(|error| file_error(path, error))?)
            }
            (sink, _) => sink,
        };
        Ok(ColumnRows { batches: Box::new(reader), rest: None, sink, step, unmatched, row: skip, total: Some(total) })
    }

    pub(super) fn open_arrow(
        place: &Place,
        skip: u64,
        task: &Task<'_>,
        bytes_read: &Arc<AtomicU64>,
    ) -> Result<ColumnRows, BackfillError> {
        let path = place.path();
        let batches = shielded(|| open_ipc(place, bytes_read)).map_err(|what| file_error(path, what))?;
        let (sink, unmatched) = bind(path, task, &batches.schema())?;
        let step = sink.step();
        let mut rows = ColumnRows { batches, rest: None, sink, step, unmatched, row: 0, total: None };
        while rows.row < skip {
            let most = usize::try_from(skip - rows.row).unwrap_or(usize::MAX);
            match rows.next(most).map_err(|what| file_error(path, what))? {
                Some(skipped) => rows.row += skipped.num_rows() as u64,
                None => break,
            }
        }
        Ok(rows)
    }

    /// The next rows, at most so many; `None` at the end of the file.
    fn next(&mut self, most: usize) -> Result<Option<RecordBatch>, String> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match shielded(|| self.batches.next().transpose()) {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(None),
                Err(what) => return Err(format!("behind row {}: {what}", self.row)),
            },
        };
        let count = batch.num_rows().min(most);
        if count < batch.num_rows() {
            self.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        Ok(Some(batch.slice(0, count)))
    }
}

/// What the rows of a file become, and its columns that are named like nothing there.
fn bind(path: &Path, task: &Task<'_>, schema: &SchemaRef) -> Result<(Sink, Vec<String>), BackfillError> {
    if let Some(events) = task.events()? {
        let decoder = events.bind(schema).map_err(|error| file_error(path, error))?;
        let undeclared = decoder.undeclared().map(str::to_owned).collect();
        return Ok((Sink::Events(decoder), undeclared));
    }
    if let Some(vectors) = task.vectors()? {
        let others = check_columns(&vectors.space, &vectors.fields, schema).map_err(|error| file_error(path, error))?;
        return Ok((Sink::Vectors(Box::new(vectors)), others));
    }
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut plan = plan_tags(task, Some(&columns)).map_err(|what| file_error(path, what))?;
    let unmatched = std::mem::take(&mut plan.unmatched);
    Ok((Sink::Tags(plan), unmatched))
}

impl Sink {
    /// The columns that are read.
    fn places(&self, schema: &SchemaRef) -> Vec<usize> {
        let places = |wanted: &dyn Fn(&String) -> bool| {
            let fields = schema.fields().iter().enumerate();
            fields.filter(|(_, field)| wanted(field.name())).map(|(place, _)| place).collect()
        };
        match self {
            Sink::Events(decoder) => decoder.places(),
            Sink::Tags(plan) => {
                places(&|name| *name == plan.user_id || plan.bounds.iter().any(|bound| bound.column == *name))
            }
            Sink::Vectors(vectors) => places(&|name| *name == vectors.fields.user_id || *name == vectors.fields.vector),
        }
    }

    /// Rows decoded at once: fewer if they are long.
    fn step(&self) -> usize {
        match self {
            Sink::Vectors(vectors) => ROWS_PER_STEP.min(NUMBERS_PER_STEP / usize::from(vectors.space.dimension)),
            Sink::Tags(_) | Sink::Events(_) => ROWS_PER_STEP,
        }
    }
}

impl Events<'_> {
    fn bind(&self, schema: &SchemaRef) -> Result<Box<ColumnDecoder>, BindError> {
        ColumnDecoder::bind(self.fact, self.now, &self.mapping, schema).map(Box::new)
    }
}

/// The rows of a Parquet file, by its footer.
pub(super) fn parquet_row_count(place: &Place) -> Result<u64, String> {
    open_footer(place).map(|(_, footer)| row_count(&footer))
}

fn open_footer(place: &Place) -> Result<(ColumnBytes, ArrowReaderMetadata), String> {
    shielded(|| {
        let bytes = place.open_columns()?;
        let footer = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default())?;
        Ok::<_, ParquetError>((bytes, footer))
    })
}

fn row_count(footer: &ArrowReaderMetadata) -> u64 {
    footer.metadata().file_metadata().num_rows().max(0) as u64
}

/// The row groups from the one with this row on, and the rows before them.
fn groups_from(footer: &ArrowReaderMetadata, row: u64) -> (Vec<usize>, u64) {
    let counts = footer.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u64);
    let (mut first, mut before) = (0, 0_u64);
    for count in counts {
        let behind = before.saturating_add(count);
        if behind > row {
            break;
        }
        (first, before) = (first + 1, behind);
    }
    ((first..footer.metadata().num_row_groups()).collect(), before)
}

/// What a library makes of a file; a panic of it is damage of the file.
fn shielded<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match guard::shielded(read) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(why) => Err(format!("the file is damaged ({why})")),
    }
}

/// A file begins with a mark, a stream does not.
fn open_ipc(place: &Place, bytes_read: &Arc<AtomicU64>) -> Result<Box<dyn RecordBatchReader>, ArrowError> {
    let mut file = open_counted(place, bytes_read)?;
    Ok(if file.fill_buf()?.starts_with(b"ARROW1") {
        Box::new(FileReader::try_new(file, None)?)
    } else {
        Box::new(StreamReader::try_new(file, None)?)
    })
}

impl Rows for ColumnRows {
    fn take_unmatched(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unmatched)
    }

    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String> {
        let Some(rows) = self.next(self.step)? else { return Ok(false) };
        let before = self.row;
        match &mut self.sink {
            Sink::Tags(plan) => {
                push_columns(plan, &rows, batch, &mut |row, error| refused.push(before + row as u64 + 1, error))?;
            }
            Sink::Events(decoder) => decoder
                .decode(&rows, batch, &mut |row, error| refused.push(before + row as u64 + 1, error))
                .map_err(|error| error.to_string())?,
            Sink::Vectors(vectors) => {
                push_vectors(&vectors.space, &vectors.fields, &rows, batch, &mut |row, error| {
                    refused.push(before + row as u64 + 1, error);
                })?;
            }
        }
        self.row += rows.num_rows() as u64;
        Ok(true)
    }

    fn position(&self) -> u64 {
        self.row
    }

    fn total(&self) -> Option<u64> {
        self.total
    }
}
