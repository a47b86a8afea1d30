//! `beluga generate NAME --out DIR --scale N`.

use super::Exit;
use super::output::grouped;
use crate::error::{Failure, Kind};
use clap::ValueEnum;
use datasets::DataSet;
use datasets::population::Population;
use engine::audience::suggest::closest;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Users of one file.
const USERS_PER_FILE: u64 = 1_000_000;

/// Writes an example data set to files, with the catalog and the job that load it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  beluga generate population --out ./people --scale 1000000\n  beluga apply -f people/catalog.yaml --data ./beluga-data\n  beluga backfill -f people/job.yaml --data ./beluga-data"
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
    let started = Instant::now();
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(|error| cannot("make the folder", out, &error))?;
    let population = Population { seed: arguments.seed, user_count: arguments.scale };
    let mut written = 0;
    for number in 0.. {
        let from = number * USERS_PER_FILE;
        if from >= arguments.scale {
            break;
        }
        let range = from..arguments.scale.min(from + USERS_PER_FILE);
        let path = out.join(format!("users-{number:05}.{}", extension(arguments.format)));
        write_users(&population, range, arguments.format, &path).map_err(|error| cannot("write", &path, &error))?;
        written += 1;
        eprintln!(
            "{}: {} of {} users",
            path.display(),
            grouped(arguments.scale.min(from + USERS_PER_FILE)),
            grouped(arguments.scale)
        );
    }
    write_text(&out.join("catalog.yaml"), &DataSet::Population.catalog_yaml())?;
    write_text(&out.join("job.yaml"), &job(arguments))?;
    println!("{} users in {written} files, {:.1} s", grouped(arguments.scale), started.elapsed().as_secs_f64());
    Ok(())
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

fn write_users(
    population: &Population,
    range: std::ops::Range<u64>,
    format: Format,
    path: &Path,
) -> std::io::Result<()> {
    match format {
        Format::Parquet => population.write_parquet(range, path),
        Format::Ndjson => {
            let mut out = BufWriter::new(File::create(path)?);
            population.write_ndjson(range, &mut out)?;
            out.flush()
        }
    }
}

fn job(arguments: &Arguments) -> String {
    let files = arguments.out.join(format!("users-*.{}", extension(arguments.format)));
    let format = match arguments.format {
        Format::Parquet => "parquet",
        Format::Ndjson => "tags",
    };
    format!("files: [{}]\nformat: {format}\nuser_id: user_id\n", serde_json::json!(files))
}

fn write_text(path: &Path, text: &str) -> Result<(), Exit> {
    Ok(std::fs::write(path, text).map_err(|error| cannot("write", path, &error))?)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("{}: {what}: {error}", path.display()))
}
