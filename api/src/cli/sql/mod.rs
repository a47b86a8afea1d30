//! `beluga sql`: a statement, a file of them, or a prompt.

mod names;
mod prompt;

use super::Exit;
use super::output::{self, Output};
use super::problem;
use super::target::{Asker, Target, about};
use crate::error::Failure;
use crate::rest::v1::export::ListFormat;
use crate::rest::v1::sql::{ROWS_MAX, SqlAnswer, SqlRequest};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table as Drawn};
use engine_sql::session::{Statements, statements};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Rows that people see unless they ask for more.
const SHOWN_DEFAULT: usize = 100;

/// Answers SQL statements; without any it asks for them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga sql\n  beluga sql \"SELECT gender, count(*) FROM users GROUP BY gender\"\n  beluga sql --file report.sql --output csv > report.csv\n  echo \"SHOW TABLES\" | beluga sql -"
)]
pub(super) struct Arguments {
    /// The statement, or several with `;` behind each; `-` reads them from standard input. Without it, a prompt
    #[arg(value_name = "QUERY", conflicts_with = "file")]
    statement: Option<String>,
    /// Read the statements from a file
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    shown: Shown,
}

/// How answers are written.
#[derive(Clone, Debug, clap::Args)]
struct Shown {
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// At most so many rows in a table (100 without it) or in JSON (10,000); the other formats have all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=ROWS_MAX as u64))]
    limit: Option<u64>,
    /// Longest time of a statement, in milliseconds
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    if arguments.statement.is_none() && arguments.file.is_none() && std::io::stdin().is_terminal() {
        return prompt::run(arguments.target.asker()?, arguments.shown.clone());
    }
    let text = text(arguments)?;
    let Statements { ended: mut all, rest } = statements(&text);
    if !rest.is_empty() || all.is_empty() {
        all.push(rest);
    }
    let shown = &arguments.shown;
    if all.len() > 1 && matches!(shown.output, Output::Csv | Output::Parquet) {
        let what = format!("these are {} statements, and one file holds one answer", all.len());
        return Err(Exit::Usage(format!("{what}: use --output ndjson, json or table, or run them one by one")));
    }
    let asker = arguments.target.asker()?;
    all.into_iter().try_for_each(|sql| answer(&*asker, sql, shown, &Arc::default()))
}

/// Answers one statement to standard output, until `stop`.
fn answer(asker: &dyn Asker, sql: &str, shown: &Shown, stop: &Arc<AtomicBool>) -> Result<(), Exit> {
    let format = match shown.output {
        Output::Csv => Some(ListFormat::Csv),
        Output::Ndjson => Some(ListFormat::Ndjson),
        Output::Parquet => Some(ListFormat::Parquet),
        Output::Table | Output::Json => None,
    };
    let mut request = SqlRequest { sql: sql.to_owned(), limit: None, timeout_ms: shown.timeout_ms };
    if let Some(format) = format {
        if shown.limit.is_some() {
            return Err(Exit::Usage("--limit goes with tables and JSON: write LIMIT in the statement".into()));
        }
        if format == ListFormat::Parquet {
            output::refuse_terminal()?;
        }
        let mut out = std::io::BufWriter::new(std::io::stdout());
        return asker.sql_rows(&request, format, &mut out, stop).map_err(|exit| match exit {
            Exit::Failed { failure, .. } => Exit::Failed { failure, expression: Some(sql.to_owned()) },
            other => other,
        });
    }
    let by_output = (shown.output == Output::Table).then_some(SHOWN_DEFAULT);
    request.limit = shown.limit.map(|limit| limit as usize).or(by_output);
    let answer = about(sql, asker.sql(&request, stop))?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if shown.output == Output::Json {
        serde_json::to_writer_pretty(&mut out, &answer).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(out.flush()?);
    }
    writeln!(out, "{}", draw(&answer)?)?;
    out.flush()?;
    let more = if answer.truncated { "; there are more, see --limit and --output" } else { "" };
    eprintln!("{} rows, epoch {}, {}{more}", answer.rows.len(), answer.epoch, output::duration(answer.elapsed_us));
    Ok(())
}

/// Prints why a statement has no answer, when others may come.
fn tell(exit: Exit) -> Result<(), Exit> {
    match exit {
        Exit::Failed { failure, expression } => problem::print(&failure, expression.as_deref()),
        Exit::Usage(message) => problem::print(&Failure::new(crate::error::Kind::InvalidField, message), None),
        told @ Exit::Told(_) => return Err(told),
    }
    Ok(())
}

fn text(arguments: &Arguments) -> Result<String, Exit> {
    let read = match (&arguments.file, arguments.statement.as_deref()) {
        (Some(file), _) => std::fs::read_to_string(file).map_err(|error| format!("read {}: {error}", file.display())),
        (None, None | Some("-")) => std::io::read_to_string(std::io::stdin())
            .map_err(|error| format!("read the statement from standard input: {error}")),
        (None, Some(text)) => Ok(text.to_owned()),
    };
    read.map_err(Exit::Usage)
}

/// A table for people: texts without their quotes, numbers to the right.
fn draw(answer: &SqlAnswer) -> Result<String, Exit> {
    let mut drawn = Drawn::new();
    drawn.load_style(UTF8_HORIZONTAL_ONLY);
    drawn.set_header(answer.columns.iter().map(|column| column.name.as_str()));
    for row in &answer.rows {
        let cells: Vec<Box<serde_json::value::RawValue>> =
            serde_json::from_str(row.get()).map_err(std::io::Error::from)?;
        drawn.add_row(cells.iter().map(|cell| match cell.get() {
            "null" => comfy_table::Cell::new(""),
            text if text.starts_with('"') => {
                comfy_table::Cell::new(serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned()))
            }
            text if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
                comfy_table::Cell::new(text).set_alignment(CellAlignment::Right)
            }
            text => comfy_table::Cell::new(text),
        }));
    }
    Ok(drawn.to_string())
}
