//! `beluga backfill -f job.yaml --data DIR`.

use super::Exit;
use super::apply::read_yaml;
use super::output::grouped;
use super::target::open_existing;
use crate::error::{Failure, Kind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::backfill::{
    self, BackfillError, BackfillJob, BackfillReport, ColumnMapping, FactTarget, FileFormat, NullMeaning, Progress,
    Target,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often a log, which is no terminal, is told how far the job is.
const PLAIN_PROGRESS: Duration = Duration::from_secs(10);
/// Refused rows that are printed.
const ERRORS_SHOWN: usize = 10;

/// Loads files into tags, or into a fact. A job that was killed goes on where it stopped when it is run again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example of a job:\n  files: [\"users/*.parquet\"]\n  user_id: customer_no                  # the column with the ids\n  columns:                              # left out: every column that is named like a tag\n    sex: gender\n    hobbies: { tag: interest, separator: \"|\", add: true }\n\nExample of a job that loads events:\n  into: purchase                        # the fact; left out: tags\n  files: [\"orders/*.parquet\"]\n  user_id: customer_no\n  ts: ordered_at                        # the column with the time; left out: ts\n  event_id: order_no                    # left out: event_id, if there is one\n  columns:                              # what is not named as in the fact; others are matched by name or kept as they are\n    total: amount\n    internal_note: null                 # not loaded\n\nAlso: name, format (parquet, arrow, csv, ndjson, tags), nulls (keep, unset), delimiter, errors_max.\nTags and facts must be declared (beluga apply), and no server may have the directory open.\n\nExample:\n  beluga backfill -f job.yaml --data ./beluga-data"
)]
pub(super) struct Arguments {
    /// The job, YAML or JSON
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Begin again, even if an earlier run of this job stopped in its middle
    #[arg(long)]
    restart: bool,
}

/// A job as its file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    name: Option<String>,
    files: Vec<String>,
    format: Option<FormatName>,
    /// `tags`, which no fact is called, or a fact.
    into: Option<String>,
    user_id: Option<String>,
    ts: Option<String>,
    event_id: Option<String>,
    #[serde(default)]
    columns: BTreeMap<String, Option<ColumnFile>>,
    #[serde(default)]
    nulls: NullsName,
    delimiter: Option<String>,
    errors_max: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    Parquet,
    Arrow,
    Csv,
    Ndjson,
    Tags,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NullsName {
    #[default]
    Keep,
    Unset,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ColumnFile {
    /// The tag, or the column of the fact.
    Name(String),
    Mapping(MappingFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingFile {
    tag: String,
    separator: Option<String>,
    #[serde(default)]
    add: bool,
}

impl JobFile {
    fn into_job(self, path: &Path, restart: bool) -> Result<BackfillJob, Exit> {
        let name = self.name.or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned()));
        let wrong = |what: String| Exit::Usage(format!("{}: {what}", path.display()));
        let (into, columns) = match self.into.filter(|into| into != "tags") {
            Some(fact) => {
                let columns = columns_of_fact(self.columns).map_err(&wrong)?;
                let target = FactTarget { fact, ts: self.ts, event_id: self.event_id, columns };
                (Target::Fact(target), Vec::new())
            }
            None if self.ts.is_some() || self.event_id.is_some() => {
                return Err(wrong("ts and event_id are for events; say of which fact with `into`".to_owned()));
            }
            None => (Target::Tags, columns_of_tags(self.columns).map_err(&wrong)?),
        };
        let csv_delimiter = match self.delimiter.as_deref().map(str::as_bytes) {
            None => b',',
            Some([byte]) => *byte,
            Some(_) => return Err(wrong("delimiter: expected one character".to_owned())),
        };
        Ok(BackfillJob {
            format: self.format.map(|format| match format {
                FormatName::Parquet => FileFormat::Parquet,
                FormatName::Arrow => FileFormat::Arrow,
                FormatName::Csv => FileFormat::Csv,
                FormatName::Ndjson => FileFormat::Ndjson,
                FormatName::Tags => FileFormat::Tags,
            }),
            into,
            columns,
            nulls: match self.nulls {
                NullsName::Keep => NullMeaning::Keep,
                NullsName::Unset => NullMeaning::Unset,
            },
            csv_delimiter,
            errors_max: self.errors_max,
            restart,
            ..BackfillJob::new(
                name.unwrap_or_else(|| "backfill".to_owned()),
                self.files,
                self.user_id.unwrap_or_else(|| "user_id".to_owned()),
            )
        })
    }
}

fn columns_of_tags(columns: BTreeMap<String, Option<ColumnFile>>) -> Result<Vec<ColumnMapping>, String> {
    let mapping = |(column, what)| match what {
        Some(ColumnFile::Name(tag)) => Ok(ColumnMapping { column, tag, separator: None, add: false }),
        Some(ColumnFile::Mapping(MappingFile { tag, separator, add })) => {
            Ok(ColumnMapping { column, tag, separator, add })
        }
        None => Err(format!("columns.{column}: write the tag, or leave the column out")),
    };
    columns.into_iter().map(mapping).collect()
}

fn columns_of_fact(columns: BTreeMap<String, Option<ColumnFile>>) -> Result<BTreeMap<String, Option<String>>, String> {
    let field = |(column, what)| match what {
        Some(ColumnFile::Name(field)) => Ok((column, Some(field))),
        None => Ok((column, None)),
        Some(ColumnFile::Mapping(_)) => Err(format!(
            "columns.{column}: write the name of a column of the fact; tag, separator and add are for tags"
        )),
    };
    columns.into_iter().map(field).collect()
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let file: JobFile = read_yaml(&arguments.file)?;
    let job = file.into_job(&arguments.file, arguments.restart)?;
    let store = open_existing(&arguments.data)?;
    let mut shown = Shown::new();
    let started = Instant::now();
    let report = backfill::run(&store, &job, &AtomicBool::new(false), &mut |progress| shown.update(progress));
    shown.bar.finish_and_clear();
    let report = report.map_err(failure)?;
    tell(&job.into, &report, started.elapsed());
    Ok(())
}

fn failure(error: BackfillError) -> Exit {
    let kind = match &error {
        BackfillError::Write(error) => return Failure::from(error.clone()).into(),
        BackfillError::Job { .. } => Kind::InvalidField,
        _ => Kind::LocalFile,
    };
    Failure::new(kind, error.to_string()).into()
}

fn tell(into: &Target, report: &BackfillReport, took: Duration) {
    let progress = &report.progress;
    let (unmatched, count, noun) = match into {
        Target::Tags => ("not loaded, because no tag has their name", progress.values, "tag values"),
        Target::Fact(_) => ("kept as undeclared fields", progress.events, "events"),
    };
    for row in report.errors.iter().take(ERRORS_SHOWN) {
        eprintln!("refused: {}, row {}: {}", row.file.display(), row.row, row.error);
    }
    if let Some((file, row)) = &report.resumed_at {
        println!("went on behind row {} of {}, where an earlier run had stopped", grouped(*row), file.display());
    }
    if !report.unmatched.is_empty() {
        let columns: Vec<&str> = report.unmatched.iter().map(String::as_str).collect();
        println!("{unmatched}: {}", columns.join(", "));
    }
    println!(
        "{} rows, {} {noun}, {} rows refused, {} files in {:.1} s",
        grouped(progress.rows_done),
        grouped(count),
        grouped(progress.rejected),
        progress.files_total,
        took.as_secs_f64()
    );
}

/// A bar on a terminal, a line now and then elsewhere.
struct Shown {
    bar: ProgressBar,
    is_terminal: bool,
    told: Instant,
}

impl Shown {
    fn new() -> Shown {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::hidden();
        if is_terminal {
            let template = "{bar:40} {percent}% {bytes}/{total_bytes} {msg} {eta} left";
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
        }
        Shown { bar, is_terminal, told: Instant::now() }
    }

    fn update(&mut self, progress: &Progress) {
        let rows = grouped(progress.rows_done);
        if self.is_terminal {
            self.bar.set_length(progress.bytes_total);
            self.bar.set_position(progress.bytes_done);
            self.bar.set_message(format!("{rows} rows"));
        } else if self.told.elapsed() >= PLAIN_PROGRESS {
            self.told = Instant::now();
            let percent = 100 * progress.bytes_done / progress.bytes_total.max(1);
            eprintln!("{percent} %, {rows} rows, {} refused", grouped(progress.rejected));
        }
    }
}
