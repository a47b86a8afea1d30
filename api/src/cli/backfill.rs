//! `beluga backfill -f job.yaml --data DIR`, or `--url URL`.

mod remote;

use super::Exit;
use super::apply::read_yaml;
use super::output::grouped;
use super::target::open_existing;
use crate::error::{Failure, Kind};
use crate::jobs::JobDefinition;
use crate::jobs::definition::BackfillDefinition;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::backfill::{self, BackfillError, BackfillJob, BackfillReport};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often a log, which is no terminal, is told how far the job is.
const PLAIN_PROGRESS: Duration = Duration::from_secs(10);
/// Refused rows that are printed.
const ERRORS_SHOWN: usize = 10;

/// Loads files into tags, a fact or a vector space. A job that was killed goes on where it stopped when it is run again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example of a job:\n  files: [\"users/*.parquet\"]\n  user_id: customer_no                  # the column with the ids\n  columns:                              # left out: every column that is named like a tag\n    sex: gender\n    hobbies: { tag: interest, separator: \"|\", add: true }\n\nExample of a job that loads events:\n  into: purchase                        # the fact; left out: tags\n  files: [\"orders/*.parquet\"]\n  user_id: customer_no\n  ts: ordered_at                        # the column with the time; left out: ts\n  event_id: order_no                    # left out: event_id, if there is one\n  columns:                              # what is not named as in the fact; others are matched by name or kept as they are\n    total: amount\n    internal_note: null                 # not loaded\n\nExample of a job that loads vectors:\n  into: spaces/taste                    # the vector space\n  files: [\"vectors/*.parquet\"]\n  columns: { embedding: vector }        # the column with the numbers; left out: vector\n\nFiles may be objects: s3://bucket/users/*.parquet, with AWS_REGION, AWS_ACCESS_KEY_ID, … as usual, or `object_store` in the job.\n\nAlso: name, format (parquet, arrow, csv, ndjson, tags), nulls (keep, unset), delimiter, errors_max.\nTags, facts and vector spaces must be declared (beluga apply).\n\nWith --data no server may have the directory open. With --url a running server loads files of its own machine, named from the root\nand in its `source_folders`, or objects in its `source_stores`, as a job: Ctrl-C leaves it running, and it outlives restarts of the server.\n\nExamples:\n  beluga backfill -f job.yaml --data ./beluga-data\n  beluga backfill -f job.yaml --url http://127.0.0.1:7700 --rate 50000"
)]
pub(super) struct Arguments {
    /// The job, YAML or JSON
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Open this data directory, which no server has open
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data: Option<PathBuf>,
    /// Let a running server load files that it can read, beside its live updates
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// With --data: begin again, even if an earlier run of this job stopped in its middle
    #[arg(long, conflicts_with = "url")]
    restart: bool,
    /// With --url: at most so many rows a second
    #[arg(long, value_name = "ROWS", conflicts_with = "data")]
    rate: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let mut definition: BackfillDefinition = read_yaml(&arguments.file)?;
    if definition.name.is_none() {
        definition.name = arguments.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    }
    match (&arguments.data, &arguments.url) {
        (Some(data), _) => load(arguments, &definition, data),
        (None, Some(url)) => remote::run(url, JobDefinition { backfill: definition, rate: arguments.rate }),
        (None, None) => Err(Exit::Usage(
            "say where to: --url URL lets a running server do it, --data DIR opens a data directory that no server has open"
                .to_owned(),
        )),
    }
}

fn load(arguments: &Arguments, definition: &BackfillDefinition, data: &Path) -> Result<(), Exit> {
    let name = definition.name.clone().unwrap_or_else(|| "backfill".to_owned());
    let job = definition.job(name, None).map_err(|place| {
        let field = place.pointer.trim_start_matches('/').replace('/', ".");
        Exit::Usage(format!("{}: {field}: {}", arguments.file.display(), place.why))
    })?;
    let job = BackfillJob { restart: arguments.restart, ..job };
    let store = open_existing(data)?;
    let mut shown = Shown::new();
    let started = Instant::now();
    let report = backfill::run(&store, &job, &AtomicBool::new(false), &mut |progress| {
        shown.update(progress.rows_done, progress.rejected, progress.bytes_done, progress.bytes_total);
    });
    shown.bar.finish_and_clear();
    let report = report.map_err(failure)?;
    tell(definition, &report, started.elapsed());
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

fn tell(definition: &BackfillDefinition, report: &BackfillReport, took: Duration) {
    let progress = &report.progress;
    let (noun, unmatched) = words(definition);
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
        grouped(progress.values + progress.events),
        grouped(progress.rejected),
        progress.files_total,
        took.as_secs_f64()
    );
}

/// What rows became, and what became of columns that were not known.
fn words(definition: &BackfillDefinition) -> (&'static str, &'static str) {
    match (definition.fact(), definition.space()) {
        (Some(_), _) => ("events", "kept as undeclared fields"),
        (None, Some(_)) => ("vectors", "not loaded, because a vector is an id and numbers"),
        (None, None) => ("tag values", "not loaded, because no tag has their name"),
    }
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

    fn update(&mut self, rows_done: u64, rejected: u64, bytes_done: u64, bytes_total: u64) {
        let rows = grouped(rows_done);
        if self.is_terminal {
            self.bar.set_length(bytes_total);
            self.bar.set_position(bytes_done);
            self.bar.set_message(format!("{rows} rows"));
        } else if self.told.elapsed() >= PLAIN_PROGRESS {
            self.told = Instant::now();
            let percent = 100 * bytes_done / bytes_total.max(1);
            eprintln!("{percent} %, {rows} rows, {} refused", grouped(rejected));
        }
    }
}
