//! CSV: RFC 4180, the first record names the columns.

use super::BackfillError;
use super::files::{file_error, open_text};
use super::plan::{Task, plan_tags};
use super::rows::{Refused, Rows};
use crate::decode::RowDecoder;
use crate::decode::tag_columns::Plan;
use crate::decode::tags::{check_user_id, utf8};
use crate::objects::Place;
use engine::update::UpdateBatch;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The records of a file.
pub(super) struct CsvRows {
    reader: csv::Reader<Guarded>,
    /// Bytes read since the last whole record; see [`Guarded`].
    pending: Arc<AtomicU64>,
    record: csv::ByteRecord,
    sink: Sink,
    unmatched: Vec<String>,
    column_count: usize,
    row: u64,
}

/// What a record becomes.
enum Sink {
    Tags(TagCells),
    Event(Box<RowDecoder>),
}

struct TagCells {
    plan: Plan,
    user_id_place: usize,
    /// Per bound of the plan, its cell.
    places: Vec<usize>,
}

/// Stops a quote that is never closed from pulling the whole file into one record.
struct Guarded {
    text: Box<dyn BufRead + Send>,
    pending: Arc<AtomicU64>,
}

/// The longest CSV record, in bytes; what is read ahead in a buffer counts.
const RECORD_BYTES_MAX: u64 = 16 << 20;

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        if self.pending.fetch_add(count as u64, Ordering::Relaxed) > RECORD_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a record is longer than {RECORD_BYTES_MAX} bytes; probably a quote is not closed"
            )));
        }
        Ok(count)
    }
}

impl CsvRows {
    pub(super) fn open(
        place: &Place,
        skip: u64,
        task: &Task<'_>,
        bytes_read: &Arc<AtomicU64>,
    ) -> Result<CsvRows, BackfillError> {
        let path = place.path();
        let text = open_text(place, bytes_read).map_err(|error| file_error(path, error))?;
        let pending = Arc::new(AtomicU64::new(0));
        let guarded = Guarded { text, pending: pending.clone() };
        let mut reader =
            csv::ReaderBuilder::new().delimiter(task.job.csv_delimiter).flexible(true).from_reader(guarded);
        let header = reader.headers().map_err(|error| file_error(path, error))?;
        let columns: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let (sink, unmatched) = match task.events()? {
            Some(events) => {
                let names: Vec<&str> = columns.iter().map(String::as_str).collect();
                let decoder = RowDecoder::bind(events.fact, events.now, &events.mapping, &names);
                let decoder = decoder.map_err(|error| file_error(path, error))?;
                let unmatched = decoder.undeclared().map(str::to_owned).collect();
                (Sink::Event(Box::new(decoder)), unmatched)
            }
            None => {
                let mut plan = plan_tags(task, Some(&columns)).map_err(|what| file_error(path, what))?;
                let unmatched = std::mem::take(&mut plan.unmatched);
                (Sink::Tags(TagCells::of(plan, &columns)), unmatched)
            }
        };
        let (record, column_count) = (csv::ByteRecord::new(), columns.len());
        let mut rows = CsvRows { reader, pending, record, sink, unmatched, column_count, row: 0 };
        while rows.row < skip && rows.read().map_err(|what| file_error(path, what))? {}
        Ok(rows)
    }

    fn read(&mut self) -> Result<bool, String> {
        self.pending.store(0, Ordering::Relaxed);
        let read = self.reader.read_byte_record(&mut self.record);
        let read = read.map_err(|error| format!("behind row {}: {error}", self.row))?;
        self.row += u64::from(read);
        Ok(read)
    }

    fn push(&mut self, batch: &mut UpdateBatch) -> Result<(), String> {
        let record = &self.record;
        if record.len() != self.column_count {
            return Err(format!("{} cells, the header has {}", record.len(), self.column_count));
        }
        match &mut self.sink {
            Sink::Tags(cells) => cells.push(record, batch),
            Sink::Event(decoder) => decoder.decode(|place| &record[place], batch).map_err(|error| error.to_string()),
        }
    }
}

impl TagCells {
    fn of(plan: Plan, columns: &[String]) -> TagCells {
        let place = |column: &str| columns.iter().position(|name| name == column).expect("the plan has checked it");
        TagCells {
            user_id_place: place(&plan.user_id),
            places: plan.bounds.iter().map(|bound| place(&bound.column)).collect(),
            plan,
        }
    }

    fn push(&self, record: &csv::ByteRecord, batch: &mut UpdateBatch) -> Result<(), String> {
        let user_id = &record[self.user_id_place];
        check_user_id(user_id).map_err(|error| error.to_string())?;
        utf8(user_id).map_err(|_| "the user id is not UTF-8".to_owned())?;
        batch.begin_user(user_id);
        for (bound, place) in self.plan.bounds.iter().zip(&self.places) {
            match &record[*place] {
                [] => bound.push_null(self.plan.nulls, batch),
                cell => {
                    let text =
                        std::str::from_utf8(cell).map_err(|_| bound.error("the cell is not UTF-8".to_owned()))?;
                    bound.push_text(text, batch)?;
                }
            }
        }
        Ok(())
    }
}

impl Rows for CsvRows {
    fn take_unmatched(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unmatched)
    }

    fn step(&mut self, batch: &mut UpdateBatch, refused: &mut Refused) -> Result<bool, String> {
        if !self.read()? {
            return Ok(false);
        }
        let mark = batch.mark();
        if let Err(error) = self.push(batch) {
            batch.truncate(mark);
            refused.push(self.row, error);
        }
        Ok(true)
    }

    fn position(&self) -> u64 {
        self.row
    }
}
