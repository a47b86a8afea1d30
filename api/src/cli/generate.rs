//! `beluga generate NAME --out DIR --scale N`.

use super::Exit;
use super::output::grouped;
use crate::error::{Failure, Kind};
use crate::rest::v1::fact_declaration::FactDeclaration;
use clap::ValueEnum;
use datasets::DataSet;
use datasets::population::Population;
use datasets::population::purchases::History;
use datasets::population::vectors::Tastes;
use engine::audience::suggest::closest;
use engine::clock::Clock;
use ingest::clock::SystemClock;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Users of one file.
const USERS_PER_FILE: u64 = 1_000_000;
/// Events of one file.
const EVENTS_PER_FILE: u64 = 5_000_000;
const DAY_MICROS: i64 = 86_400_000_000;
/// What categories by channels can carry.
const DIMENSION_MAX: u16 = 144;

/// Writes an example data set to files, with the catalog and the jobs that load it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  beluga generate population --out ./people --scale 1000000 --events 10000000\n  beluga apply -f people/catalog.yaml --data ./beluga-data\n  beluga backfill -f people/job.yaml --data ./beluga-data\n  beluga backfill -f people/purchases.yaml --data ./beluga-data\n\nWith --dimension, also:\n  beluga backfill -f people/vectors.yaml --data ./beluga-data"
)]
pub(super) struct Arguments {
    /// The data set: population
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder to write to; made if there is none
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many users
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    scale: u64,
    /// How many purchases of theirs, in the order of their times
    #[arg(long, value_name = "N", default_value_t = 0)]
    events: u64,
    /// Over how many days up to last midnight (UTC)
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Also a vector of so many numbers for each user who bought something, made of who bought what: a space `taste`
    #[arg(long, value_name = "N", requires = "events", value_parser = clap::value_parser!(u16).range(2..=i64::from(DIMENSION_MAX)))]
    dimension: Option<u16>,
    /// The same seed gives the same users
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How to write them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A column a tag
    #[default]
    Parquet,
    /// Lines as POST /v1/tags takes them
    Ndjson,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    refuse_other_sets(&arguments.name)?;
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(|error| cannot("make the folder", out, &error))?;
    let population = Population { seed: arguments.seed, user_count: arguments.scale };
    write_files(arguments, "users", arguments.scale, USERS_PER_FILE, |range, path| match arguments.format {
        Format::Parquet => population.write_parquet(range, path),
        Format::Ndjson => population.write_ndjson(range, &mut BufWriter::new(File::create(path)?)),
    })?;
    write_text(&out.join("catalog.yaml"), &catalog(arguments.dimension))?;
    let format = match arguments.format {
        Format::Parquet => "parquet",
        Format::Ndjson => "tags",
    };
    write_text(&out.join("job.yaml"), &job(arguments, "users", format))?;
    if arguments.events == 0 {
        return Ok(());
    }
    let until = SystemClock.now() / DAY_MICROS * DAY_MICROS;
    let history = History { population, count: arguments.events, until, days: arguments.days };
    write_files(arguments, "purchases", arguments.events, EVENTS_PER_FILE, |range, path| match arguments.format {
        Format::Parquet => history.write_parquet(range, path),
        Format::Ndjson => history.write_ndjson(range, &mut BufWriter::new(File::create(path)?)),
    })?;
    let job = job(arguments, "purchases", extension(arguments.format));
    write_text(&out.join("purchases.yaml"), &format!("into: purchase\n{job}"))?;
    arguments.dimension.map_or(Ok(()), |dimension| write_vectors(arguments, history, dimension))
}

/// Vectors of who bought what, and the job that loads them.
fn write_vectors(arguments: &Arguments, history: History, dimension: u16) -> Result<(), Exit> {
    let tastes = Tastes::learn(history, dimension.into())
        .map_err(|error| Exit::Usage(format!("--dimension {dimension}: {error}; generate more --events")))?;
    // As many files as of users; each is made of all purchases, of which those of its users are kept.
    let started = Instant::now();
    let mut count = 0;
    for number in 0..arguments.scale.div_ceil(USERS_PER_FILE) {
        let users = number * USERS_PER_FILE..arguments.scale.min((number + 1) * USERS_PER_FILE);
        let path = file(arguments, "vectors", &format!("{number:05}"));
        let written = match arguments.format {
            Format::Parquet => tastes.write_parquet(users, &path),
            Format::Ndjson => {
                File::create(&path).and_then(|file| tastes.write_ndjson(users, &mut BufWriter::new(file)))
            }
        };
        count += written.map_err(|error| cannot("write", &path, &error))?;
        eprintln!("{}: {} vectors so far", path.display(), grouped(count));
    }
    println!("{} vectors, {:.1} s", grouped(count), started.elapsed().as_secs_f64());
    let job = job(arguments, "vectors", extension(arguments.format));
    write_text(&arguments.out.join("vectors.yaml"), &format!("into: spaces/taste\n{job}"))
}

/// The tags and facts of the population, and the space of its vectors.
fn catalog(dimension: Option<u16>) -> String {
    let catalog = DataSet::Population.catalog();
    let facts: BTreeMap<&str, FactDeclaration> =
        catalog.declared_facts().map(|(name, fact)| (name, FactDeclaration::of(fact))).collect();
    // JSON is YAML, too.
    let facts = serde_json::to_string(&facts).expect("declarations have text keys only");
    let space = dimension.map(|dimension| format!("spaces:\n  taste: {{ dimension: {dimension}, metric: cosine }}\n"));
    DataSet::Population.catalog_yaml() + &format!("facts: {facts}\n") + &space.unwrap_or_default()
}

/// Writes `count` of something to files of so many each.
fn write_files(
    arguments: &Arguments,
    what: &str,
    count: u64,
    per_file: u64,
    write: impl Fn(Range<u64>, &Path) -> std::io::Result<()>,
) -> Result<(), Exit> {
    let started = Instant::now();
    let files = count.div_ceil(per_file);
    for number in 0..files {
        let range = number * per_file..count.min((number + 1) * per_file);
        let (path, end) = (file(arguments, what, &format!("{number:05}")), range.end);
        write(range, &path).map_err(|error| cannot("write", &path, &error))?;
        eprintln!("{}: {} of {} {what}", path.display(), grouped(end), grouped(count));
    }
    println!("{} {what} in {files} files, {:.1} s", grouped(count), started.elapsed().as_secs_f64());
    Ok(())
}

fn file(arguments: &Arguments, what: &str, number: &str) -> PathBuf {
    arguments.out.join(format!("{what}-{number}.{}", extension(arguments.format)))
}

fn refuse_other_sets(name: &str) -> Result<(), Exit> {
    match DataSet::by_name(name) {
        Some(DataSet::Population) => Ok(()),
        Some(_) => Err(Exit::Usage(format!(
            "`{name}` is public data, not generated; get its file from its publisher, then `beluga demo --dataset {name} --file PATH`"
        ))),
        None => {
            let meant = closest(name, ["population"])
                .map_or("there is: population".to_owned(), |name| format!("did you mean `{name}`?"));
            Err(Exit::Usage(format!("there is no data set `{name}`; {meant}")))
        }
    }
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Parquet => "parquet",
        Format::Ndjson => "ndjson",
    }
}

fn job(arguments: &Arguments, what: &str, format: &str) -> String {
    let files = file(arguments, what, "*");
    format!("files: [{}]\nformat: {format}\nuser_id: user_id\n", serde_json::json!(files))
}

fn write_text(path: &Path, text: &str) -> Result<(), Exit> {
    Ok(std::fs::write(path, text).map_err(|error| cannot("write", path, &error))?)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("{}: {what}: {error}", path.display()))
}
