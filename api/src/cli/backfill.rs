//! `beluga backfill -f job.yaml --data DIR`, or `--url URL`.

mod remote;

use super::Exit;
use super::apply::read_yaml;
use super::output::grouped;
use super::target::{TrustArguments, open_existing, readers_of};
use crate::error::{Failure, Kind};
use crate::jobs::definition::BackfillDefinition;
use crate::jobs::from_fact::FromFactDefinition;
use crate::jobs::{JobDefinition, JobProgress, JobStep, MadeVectors};
use crate::sources::Place;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::backfill::factors::factorise;
use ingest::backfill::{self, BackfillError, BackfillJob, BackfillReport, Progress};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often a log, which is no terminal, is told how far the job is.
const PLAIN_PROGRESS: Duration = Duration::from_secs(10);
/// What a bar shows of a job that reads files, and of one that makes vectors of events.
const OF_FILES: &str = "{bar:40} {percent}% {bytes}/{total_bytes} {msg} {eta} left";
const OF_EVENTS: &str = "{bar:40} {percent}% {msg} {eta} left";
/// Refused rows that are printed.
const ERRORS_SHOWN: usize = 10;

/// Loads files into tags, a fact or a vector space, or makes vectors from a fact. A job that was killed goes on where it stopped when it is run again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example of a job:\n  files: [\"users/*.parquet\"]\n  user_id: customer_no                  # the column with the ids\n  columns:                              # left out: every column that is named like a tag\n    sex: gender\n    hobbies: { tag: interest, separator: \"|\", add: true }\n\nExample of a job that loads events:\n  into: purchase                        # the fact; left out: tags\n  files: [\"orders/*.parquet\"]\n  user_id: customer_no\n  ts: ordered_at                        # the column with the time; left out: ts\n  event_id: order_no                    # left out: event_id, if there is one\n  columns:                              # what is not named as in the fact; others are matched by name or kept as they are\n    total: amount\n    internal_note: null                 # not loaded\n\nExample of a job that loads vectors:\n  into: spaces/taste                    # the vector space\n  files: [\"vectors/*.parquet\"]\n  columns: { embedding: vector }        # the column with the numbers; left out: vector\n\nExample of a job that makes vectors from what users did:\n  into: spaces/taste                    # all its vectors are replaced\n  from_fact:\n    fact: purchase\n    item: category                      # or several columns: [category, campaign]\n    weight: amount                      # left out: how many events\n    within: 365 days                    # left out: all\n    where: amount > 0                   # SQL; left out: all\n\nFiles may be objects: s3://bucket/users/*.parquet, with AWS_REGION, AWS_ACCESS_KEY_ID, … as usual, or `object_store` in the job.\n\nAlso: name, format (parquet, arrow, csv, ndjson, tags), nulls (keep, unset), delimiter, errors_max.\nTags, facts and vector spaces must be declared (beluga apply).\n\nWith --data no server may have the directory open. With --url a running server loads files of its own machine, named from the root\nand in its `source_folders`, or objects in its `source_stores`, as a job: Ctrl-C leaves it running, and it outlives restarts of the server.\n\nExamples:\n  beluga backfill -f job.yaml --data ./beluga-data\n  beluga backfill -f job.yaml --url http://127.0.0.1:7700 --rate 50000"
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
    #[command(flatten)]
    trust: TrustArguments,
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
        (None, Some(url)) => {
            let definition = JobDefinition { backfill: definition, rate: arguments.rate };
            remote::run(url, &arguments.trust, definition)
        }
        (None, None) => Err(Exit::Usage(
            "say where to: --url URL lets a running server do it, --data DIR opens a data directory that no server has open"
                .to_owned(),
        )),
    }
}

fn load(arguments: &Arguments, definition: &BackfillDefinition, data: &Path) -> Result<(), Exit> {
    let name = definition.name.clone().unwrap_or_else(|| "backfill".to_owned());
    if let Some((from, space)) = definition.vectors_from_fact().map_err(|place| wrong(arguments, &place))? {
        return make_vectors(arguments, name, from, space, data);
    }
    let job = definition.job(name, None).map_err(|place| wrong(arguments, &place))?;
    let job = BackfillJob { restart: arguments.restart, ..job };
    let store = open_existing(data)?;
    let mut shown = Shown::new();
    let started = Instant::now();
    let report = backfill::run(&store, &job, &AtomicBool::new(false), &mut |progress| {
        shown.update(&Seen::from(progress));
    });
    shown.bar.finish_and_clear();
    let report = report.map_err(failure)?;
    tell(definition, &report, started.elapsed());
    Ok(())
}

fn make_vectors(
    arguments: &Arguments,
    name: String,
    from: &FromFactDefinition,
    space: &str,
    data: &Path,
) -> Result<(), Exit> {
    let (store, readers) = readers_of(data)?;
    let place = |place: Place| wrong(arguments, &Place::new(format!("/from_fact{}", place.pointer), place.why));
    from.check(&store.snapshot(), &readers, store.now()).map_err(place)?;
    let mut shown = Shown::new();
    let started = Instant::now();
    let job = from.job(name, space, readers);
    let report = factorise(&store, &job, &AtomicBool::new(false), &mut |report| {
        shown.update(&Seen::from(&report.progress));
    });
    shown.bar.finish_and_clear();
    let report = report.map_err(failure)?;
    if let Some(made) = report.made {
        println!("{}, in {:.1} s", told_made(&made.into(), report.progress.rows_done), started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn wrong(arguments: &Arguments, place: &Place) -> Exit {
    let field = place.pointer.trim_start_matches('/').replace('/', ".");
    Exit::Usage(format!("{}: {field}: {}", arguments.file.display(), place.why))
}

/// What came of vectors made from so many events.
fn told_made(made: &MadeVectors, events: u64) -> String {
    let part = |count: u64, what: &str| if count > 0 { format!("; {} {what}", grouped(count)) } else { String::new() };
    let of = match made.one_of {
        1 => format!("{} users", grouped(made.learned_from_users)),
        one_of => format!("{} users, one of {one_of}", grouped(made.learned_from_users)),
    };
    format!(
        "{} vectors of {} events, learned from {of} and {} items, of whose entries they hold {:.0} %{}{}{}",
        grouped(made.vectors),
        grouped(events),
        grouped(made.items),
        made.explained * 100.0,
        part(made.items_left_out, "rarer items are left out"),
        part(made.without_vector, "users have no item that counts, and no vector"),
        part(made.removed, "vectors of users without such events were taken away"),
    )
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
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template(OF_FILES).expect("a valid template"));
        }
        Shown { bar, is_terminal, told: Instant::now() }
    }

    fn update(&mut self, seen: &Seen) {
        let rows = grouped(seen.rows);
        let told = match seen.step {
            None => format!("{rows} rows"),
            Some(JobStep::Reading) => format!("reading, {} events", grouped(seen.rows_total)),
            Some(JobStep::Learning) => "learning".to_owned(),
            Some(JobStep::Writing) => format!("writing vectors, {rows} events"),
        };
        // Of events, rows are what is known of how much there is.
        let (done, total) = match seen.step {
            None => (seen.bytes_done, seen.bytes_total),
            Some(JobStep::Writing) => (seen.rows, seen.rows_total),
            Some(JobStep::Reading | JobStep::Learning) => (0, seen.rows_total),
        };
        if self.is_terminal {
            if seen.step.is_some() {
                self.bar.set_style(ProgressStyle::with_template(OF_EVENTS).expect("a valid template"));
            }
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(told);
        } else if self.told.elapsed() >= PLAIN_PROGRESS {
            self.told = Instant::now();
            let percent = 100 * done / total.max(1);
            eprintln!("{percent} %, {told}, {} refused", grouped(seen.rejected));
        }
    }
}

/// How far a job is, here or at a server.
struct Seen {
    rows: u64,
    rows_total: u64,
    rejected: u64,
    bytes_done: u64,
    bytes_total: u64,
    step: Option<JobStep>,
}

impl From<&Progress> for Seen {
    fn from(of: &Progress) -> Seen {
        Seen {
            rows: of.rows_done,
            rows_total: of.rows_total.unwrap_or_default(),
            rejected: of.rejected,
            bytes_done: of.bytes_done,
            bytes_total: of.bytes_total,
            step: of.step.map(Into::into),
        }
    }
}

impl From<&JobProgress> for Seen {
    fn from(of: &JobProgress) -> Seen {
        Seen {
            rows: of.rows_done,
            rows_total: of.rows_total.unwrap_or_default(),
            rejected: of.rejected,
            bytes_done: of.bytes_done,
            bytes_total: of.bytes_total,
            step: of.step,
        }
    }
}
