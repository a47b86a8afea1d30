//! Answers to standard output: a table for people, formats for programs.

use super::Exit;
use crate::error::{Failure, Kind};
use crate::rest::v1::export::csv_cell;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use clap::ValueEnum;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table as Drawn};
use parquet::arrow::ArrowWriter;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

/// How to write an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// The answer as REST gives it
    Json,
    /// A header line, then a line a row
    Csv,
    /// A JSON object a row
    Ndjson,
    /// A Parquet file, to be redirected
    Parquet,
}

/// An answer as rows.
pub(super) struct Table {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// One cell; a column holds one kind, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Whole(u64),
    Real(f64),
    /// A number with all its digits, or a time.
    Exact(String),
    /// A number that is not told, and is less than this; programs read it as none.
    Below(u64),
    Empty,
}

impl Cell {
    /// A number, or that it is less than another.
    pub(super) fn of_number(number: Option<u64>, below: Option<u64>) -> Cell {
        match (number, below) {
            (Some(number), _) => Cell::Whole(number),
            (None, Some(below)) => Cell::Below(below),
            (None, None) => Cell::Empty,
        }
    }

    /// Whether it tells programs nothing.
    fn is_null(&self) -> bool {
        matches!(self, Cell::Below(_) | Cell::Empty)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Cell {
        Cell::Whole(number)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Cell {
        Cell::Real(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Empty, Into::into)
    }
}

/// Writes an answer; `table` is made only where it is needed, `footer` goes to people only.
pub(super) fn print<A: Serialize>(
    output: Output,
    answer: &A,
    table: impl FnOnce(&A) -> Table,
    footer: &str,
) -> Result<(), Exit> {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, answer).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Table => {
            writeln!(out, "{}", draw(&table(answer)))?;
            if !footer.is_empty() {
                eprintln!("{footer}");
            }
        }
        Output::Csv => write_csv(&table(answer), &mut out)?,
        Output::Ndjson => write_ndjson(&table(answer), &mut out)?,
        Output::Parquet => {
            refuse_terminal()?;
            write_parquet(&table(answer), &mut out)?;
        }
    }
    Ok(out.flush()?)
}

/// Bytes are no sight for a terminal.
pub(super) fn refuse_terminal() -> Result<(), Exit> {
    if std::io::stdout().is_terminal() {
        return Err(Exit::Usage(
            "Parquet is bytes: send it to a file, as in `… --output parquet > answer.parquet`".into(),
        ));
    }
    Ok(())
}

/// A table for people.
pub(super) fn draw(table: &Table) -> String {
    let mut drawn = Drawn::new();
    drawn.load_style(UTF8_HORIZONTAL_ONLY);
    drawn.set_header(table.columns.iter().map(|name| name.replace('_', " ")));
    for row in &table.rows {
        drawn.add_row(row.iter().map(|cell| {
            let aligned = comfy_table::Cell::new(for_people(cell));
            match cell {
                Cell::Text(_) | Cell::Empty => aligned,
                Cell::Whole(_) | Cell::Real(_) | Cell::Exact(_) | Cell::Below(_) => {
                    aligned.set_alignment(CellAlignment::Right)
                }
            }
        }));
    }
    drawn.to_string()
}

fn for_people(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) | Cell::Exact(text) => text.clone(),
        Cell::Whole(number) => grouped(*number),
        Cell::Real(number) => format!("{number:.3}"),
        Cell::Below(number) => format!("<{}", grouped(*number)),
        Cell::Empty => String::new(),
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many things of a name there are.
pub(super) fn counted(count: usize, name: &str) -> String {
    match count {
        0 => format!("no {name}s"),
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

/// Microseconds for people.
pub(super) fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) | Cell::Exact(text) => text.clone(),
        Cell::Whole(number) => number.to_string(),
        Cell::Real(number) => number.to_string(),
        Cell::Below(number) => format!("<{number}"),
        Cell::Empty => String::new(),
    }
}

fn write_csv(table: &Table, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{}", table.columns.join(","))?;
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|cell| csv_cell(&plain(cell)).into_owned()).collect();
        writeln!(out, "{}", cells.join(","))?;
    }
    Ok(())
}

fn write_ndjson(table: &Table, out: &mut impl Write) -> std::io::Result<()> {
    for row in &table.rows {
        let mut object = serde_json::Map::new();
        for (column, cell) in table.columns.iter().zip(row) {
            let value = match cell {
                Cell::Text(text) | Cell::Exact(text) => text.as_str().into(),
                Cell::Whole(number) => (*number).into(),
                Cell::Real(number) => (*number).into(),
                Cell::Below(_) | Cell::Empty => serde_json::Value::Null,
            };
            object.insert((*column).to_owned(), value);
        }
        serde_json::to_writer(&mut *out, &object)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_parquet(table: &Table, out: &mut (impl Write + Send)) -> Result<(), Exit> {
    let columns = table.columns.iter().enumerate().map(|(at, name)| (*name, column(table, at), true));
    let written =
        RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| error.to_string()).and_then(|batch| {
            let mut writer = ArrowWriter::try_new(out, batch.schema(), None).map_err(|error| error.to_string())?;
            writer.write(&batch).map_err(|error| error.to_string())?;
            writer.close().map_err(|error| error.to_string())
        });
    written.map_err(|why| Failure::new(Kind::LocalFile, format!("write Parquet: {why}")))?;
    Ok(())
}

/// A column of one Arrow type: that of its first cell that says something.
fn column(table: &Table, at: usize) -> ArrayRef {
    let cells = || table.rows.iter().map(|row| &row[at]);
    match cells().find(|cell| !cell.is_null()) {
        Some(Cell::Whole(_)) => Arc::new(UInt64Array::from_iter(cells().map(|cell| match cell {
            Cell::Whole(number) => Some(*number),
            _ => None,
        }))),
        Some(Cell::Real(_)) => Arc::new(Float64Array::from_iter(cells().map(|cell| match cell {
            Cell::Real(number) => Some(*number),
            _ => None,
        }))),
        _ => Arc::new(StringArray::from_iter(cells().map(|cell| match cell {
            cell if cell.is_null() => None,
            cell => Some(plain(cell)),
        }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        Table {
            columns: vec!["value", "count", "share", "index"],
            rows: vec![
                vec!["a,b".into(), 1_234_567.into(), 0.5.into(), Cell::Empty],
                vec!["c".into(), 2.into(), 0.25.into(), Cell::Exact("1.50".into())],
            ],
        }
    }

    #[test]
    fn writes_every_format() {
        let mut csv = Vec::new();
        write_csv(&sample(), &mut csv).expect("write");
        assert_eq!(String::from_utf8_lossy(&csv), "value,count,share,index\n\"a,b\",1234567,0.5,\nc,2,0.25,1.50\n");
        let mut ndjson = Vec::new();
        write_ndjson(&sample(), &mut ndjson).expect("write");
        let first = String::from_utf8_lossy(&ndjson).lines().next().map(str::to_owned).expect("a line");
        let value: serde_json::Value = serde_json::from_str(&first).expect("JSON");
        assert_eq!(value, serde_json::json!({"value": "a,b", "count": 1_234_567, "share": 0.5, "index": null}));
        let mut parquet = Vec::new();
        assert!(write_parquet(&sample(), &mut parquet).is_ok());
        assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
        assert!(draw(&sample()).contains("1,234,567"));
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([7, 1_500, 2_000_000].map(duration), ["7 µs", "1.50 ms", "2.00 s"]);
    }
}
