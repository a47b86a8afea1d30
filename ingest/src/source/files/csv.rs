//! Records of CSV: a row as an object of header to text, an empty cell as null.
//!
//! The parser is fed chunk by chunk, so it says exactly where a row ends, also one with line feeds inside quotes, and
//! a row whose end was not written yet waits for it. A record's offset is that of its row's last byte. To go on at
//! a row, the header is read first.

use super::input::{Filled, TextInput};
use super::records::{Progress, ReadError, Records, Sink};
use crate::decode::json_text as json;
use crate::decode::lines::LINE_BYTES_MAX;
use csv_core::ReadRecordResult;

/// The most cells of a row.
const CELL_COUNT_MAX: usize = 1 << 16;

pub(super) struct CsvRecords {
    input: TextInput,
    parser: csv_core::Reader,
    /// The cells of the open row, one behind the other in the first `cells_bytes`.
    cells: Vec<u8>,
    cells_bytes: usize,
    /// Where each cell ends, in the first `cell_count`.
    ends: Vec<usize>,
    cell_count: usize,
    /// The columns as keys of an object, once the header was read.
    columns: Option<Vec<Vec<u8>>>,
    /// Where the open row begins; before the header was read, where to go on behind it.
    begun: u64,
    /// Nothing but ends of lines came since.
    is_blank: bool,
    row: Vec<u8>,
}

enum Parsed {
    Row,
    /// The parser wants more bytes.
    More,
    End,
}

impl CsvRecords {
    pub(super) fn new(input: TextInput, offset: u64, delimiter: u8) -> CsvRecords {
        CsvRecords {
            input,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            cells: vec![0; 1 << 12],
            cells_bytes: 0,
            ends: vec![0; 1 << 6],
            cell_count: 0,
            columns: None,
            begun: offset,
            is_blank: true,
            row: Vec::new(),
        }
    }

    /// Parses on to the end of the row, with the bytes at hand and those of one fill.
    fn parse(&mut self, last: bool, may_fill: &mut bool) -> Result<Parsed, ReadError> {
        loop {
            if self.input.rest().is_empty() {
                if !std::mem::take(may_fill) {
                    return Ok(Parsed::More);
                }
                match self.input.fill()? {
                    Filled::Bytes => {}
                    Filled::Skipped => return Ok(Parsed::More),
                    Filled::End if !last => return Ok(Parsed::End),
                    // No bytes tell the parser that there are none.
                    Filled::End => *may_fill = true,
                }
            }
            let chunk = self.input.rest();
            let (cells, ends) = (&mut self.cells[self.cells_bytes..], &mut self.ends[self.cell_count..]);
            let (result, used, cells_bytes, cell_count) = self.parser.read_record(chunk, cells, ends);
            self.is_blank &= chunk[..used].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
            self.input.consume(used);
            self.cells_bytes += cells_bytes;
            self.cell_count += cell_count;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    grow(&mut self.cells, LINE_BYTES_MAX, "bytes").map_err(|what| self.damaged(what))?;
                }
                ReadRecordResult::OutputEndsFull => {
                    grow(&mut self.ends, CELL_COUNT_MAX, "cells").map_err(|what| self.damaged(what))?;
                }
                ReadRecordResult::Record => return Ok(Parsed::Row),
                ReadRecordResult::End => return Ok(Parsed::End),
            }
        }
    }

    fn damaged(&self, what: String) -> ReadError {
        ReadError::Damaged(format!("the row at offset {}: {what}", self.begun))
    }

    /// Takes the header and goes to where the rows are wanted from.
    fn take_header(&mut self) -> Result<(), ReadError> {
        let mut names: Vec<&str> = Vec::with_capacity(self.cell_count);
        for cell in cells(&self.cells, &self.ends[..self.cell_count]) {
            let name =
                std::str::from_utf8(cell).map_err(|_| ReadError::Damaged("the header is not UTF-8".to_owned()))?;
            let name = if names.is_empty() { name.trim_start_matches('\u{feff}') } else { name };
            names.push(name);
        }
        let columns = names.iter().map(|name| json::key(name)).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ReadError::Damaged(format!("the header names `{}` twice", pair[0])));
        }
        self.columns = Some(columns);
        self.begun = self.begun.max(self.input.offset());
        self.input.skip_to(self.begun)?;
        Ok(())
    }

    fn take_row(&mut self, columns: &[Vec<u8>], sink: &mut Sink<'_>) {
        let (begin, end) = (self.begun, self.input.offset());
        // Behind its last byte; a last row without an end may consist of quotes alone, but never of nothing.
        let offset = end.saturating_sub(1);
        if self.cell_count != columns.len() {
            let (found, expected) = (self.cell_count, columns.len());
            let what = format_args!("row at offset {begin}: it has {found} cells, the header has {expected}");
            return sink.push_refused(offset, what);
        }
        self.row.clear();
        for (cell, column) in cells(&self.cells, &self.ends[..self.cell_count]).zip(columns) {
            self.row.push(if self.row.is_empty() { b'{' } else { b',' });
            self.row.extend_from_slice(column);
            match std::str::from_utf8(cell) {
                Ok("") => self.row.extend_from_slice(b"null"),
                Ok(text) => json::push_string(text, &mut self.row),
                Err(_) => {
                    let column = String::from_utf8_lossy(column);
                    let what = format_args!("row at offset {begin}: the cell of {column} is not UTF-8");
                    return sink.push_refused(offset, what);
                }
            }
        }
        self.row.push(b'}');
        sink.push(offset, &self.row);
    }
}

impl Records for CsvRecords {
    fn step(&mut self, last: bool, sink: &mut Sink<'_>) -> Result<Progress, ReadError> {
        let mut may_fill = true;
        while !sink.is_full() {
            match self.parse(last, &mut may_fill)? {
                Parsed::Row => match self.columns.take() {
                    None => self.take_header()?,
                    Some(columns) => {
                        self.take_row(&columns, sink);
                        self.columns = Some(columns);
                        self.begun = self.input.offset();
                    }
                },
                Parsed::More => return Ok(Progress::More),
                Parsed::End => return Ok(Progress::End),
            }
            (self.cells_bytes, self.cell_count, self.is_blank) = (0, 0, true);
        }
        Ok(Progress::More)
    }

    fn position(&self) -> u64 {
        // Ends of lines between rows are read over, also the second half of one.
        if self.columns.is_some() && self.is_blank { self.begun.max(self.input.offset()) } else { self.begun }
    }

    fn reached(&self) -> u64 {
        self.input.offset()
    }
}

fn cells<'a>(bytes: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(ends).map(|(begin, end)| &bytes[begin..*end])
}

/// Makes room for more of a row, up to a limit.
fn grow<T: Clone + Default>(room: &mut Vec<T>, max: usize, unit: &str) -> Result<(), String> {
    if room.len() >= max {
        return Err(format!(
            "it has more than {max} {unit}; probably a quote is not closed, or `csv_delimiter` is wrong"
        ));
    }
    room.resize(room.len() * 2, T::default());
    Ok(())
}
