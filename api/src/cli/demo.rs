//! `beluga demo`: the whole job on example data, with nothing to prepare.
//!
//! Loads a generated population (or a public data set) into a server, asks sample questions through that server's own REST
//! door, prints what to try next, and keeps serving.

use super::Exit;
use super::output::{Cell, Table, draw, duration, grouped};
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::rest::v1::count::CountAnswer;
use crate::server::Server;
use datasets::population::Population;
use datasets::user::BatchFiller;
use datasets::{DataSet, sample_questions};
use engine::audience::suggest::closest;
use engine::store::Store;
use engine::update::UpdateBatch;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Users per batch: large enough to be fast, small enough to show progress.
const BATCH_USERS: u64 = 10_000;
/// Where the sources of public data are told.
const ABOUT_FILES: &str = "the README says where each public data set comes from";

/// The whole job on example data.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga demo\n  beluga demo --users 10000000 --data ./demo-data\n  beluga demo --dataset online-retail --file online-retail.csv.gz\n  beluga demo --once"
)]
pub(super) struct Arguments {
    /// How many users to generate
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// The same seed gives the same users
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The data set: population, online-retail, uci-adult, uci-bank, complete-journey or msweb
    #[arg(long, value_name = "NAME", default_value = "population")]
    dataset: String,
    /// The file of a public data set, as its publisher offers it
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The data directory; a temporary one, gone afterwards, if not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of REST, docs and metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700")]
    http: SocketAddr,
    /// Print and exit instead of serving on
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let data_set = data_set(arguments)?;
    let temporary = tempfile::tempdir().map_err(|error| {
        Failure::new(Kind::LocalFile, format!("make a temporary folder: {error}")).suggest("name one with --data DIR")
    })?;
    let data = arguments.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let server = Server::start(Config { data, http: arguments.http, ..Config::default() })?;
    let store = server.state().store()?.clone();
    if store.snapshot().catalog().tags().len() == 0 {
        load(&store, data_set, arguments)?;
    } else {
        println!("{} holds data already: it is used as it is.", store.folder().display());
    }
    ask(&server, data_set)?;
    what_next(&server, data_set);
    if !arguments.once {
        println!("\nServing until Ctrl-C.");
        server.wait_for_signal();
    }
    server.stop()?;
    Ok(())
}

fn data_set(arguments: &Arguments) -> Result<DataSet, Exit> {
    let names = || DataSet::ALL.iter().map(|set| set.name());
    let Some(data_set) = DataSet::by_name(&arguments.dataset) else {
        let meant = closest(&arguments.dataset, names()).map_or_else(
            || format!("known are {}", names().collect::<Vec<_>>().join(", ")),
            |name| format!("did you mean `{name}`?"),
        );
        return Err(Exit::Usage(format!("--dataset: there is no data set `{}`; {meant}", arguments.dataset)));
    };
    match (data_set, &arguments.file) {
        (DataSet::Population, Some(_)) => {
            Err(Exit::Usage("--file: the population is generated; name a --dataset for a file".into()))
        }
        (DataSet::Population, None) | (_, Some(_)) => Ok(data_set),
        (set, None) => {
            Err(Exit::Usage(format!("--dataset {}: name its file with --file PATH; {ABOUT_FILES}", set.name())))
        }
    }
}

/// Makes the users in a second thread while this one loads them.
fn load(store: &Store, data_set: DataSet, arguments: &Arguments) -> Result<(), Exit> {
    let started = Instant::now();
    let catalog = data_set.catalog();
    store.put_catalog(catalog.clone()).map_err(Failure::from)?;
    let source = Source::open(data_set, arguments)?;
    let total = source.user_count();
    println!("Loading {} users of {} …", grouped(total), data_set.name());
    let bar = ProgressBar::new(total);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} users, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut values = 0;
    let (send, receive) = sync_channel(2);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for from in (0..total).step_by(BATCH_USERS as usize) {
                let to = (from + BATCH_USERS).min(total);
                let mut batch = UpdateBatch::new();
                source.fill(from..to, &mut batch);
                if send.send((to, batch)).is_err() {
                    return;
                }
            }
        });
        for (to, batch) in receive {
            store.write_replayable(&batch, "demo", to).map_err(Failure::from)?;
            values += batch.change_count() as u64;
            bar.set_position(to);
        }
        Ok::<(), Failure>(())
    })?;
    bar.finish_and_clear();
    store.forget_source("demo");
    store.checkpoint().map_err(Failure::from)?;
    while store.compact_fully().map_err(Failure::from)?.is_some() {}
    let elapsed = started.elapsed();
    println!(
        "Loaded {} tag values in {:.1} s ({} a second); the index takes {} KiB.",
        grouped(values),
        elapsed.as_secs_f64(),
        grouped((values as f64 / elapsed.as_secs_f64().max(1e-9)) as u64),
        grouped(store.statistics().segment_bytes / 1024),
    );
    Ok(())
}

/// Where the users come from.
enum Source {
    Generated(datasets::population::PopulationFiller, u64),
    Public(Vec<datasets::User>, BatchFiller),
}

impl Source {
    fn open(data_set: DataSet, arguments: &Arguments) -> Result<Source, Exit> {
        let catalog = data_set.catalog();
        let same = "the catalog was made of the same list of tags";
        let Some(file) = &arguments.file else {
            let population = Population { seed: arguments.seed, user_count: arguments.users };
            return Ok(Source::Generated(population.filler(&catalog).expect(same), arguments.users));
        };
        let loaded = datasets::load(data_set, file)
            .map_err(|error| Failure::new(Kind::LocalFile, error.to_string()).suggest(ABOUT_FILES))?;
        for (what, count) in &loaded.skipped {
            println!("Left out: {} {what}.", grouped(*count));
        }
        Ok(Source::Public(loaded.users, BatchFiller::new(data_set, &catalog).expect(same)))
    }

    fn user_count(&self) -> u64 {
        match self {
            Source::Generated(_, count) => *count,
            Source::Public(users, _) => users.len() as u64,
        }
    }

    fn fill(&self, range: Range<u64>, batch: &mut UpdateBatch) {
        match self {
            Source::Generated(filler, _) => filler.fill(range, batch),
            Source::Public(users, filler) => {
                users[range.start as usize..range.end as usize].iter().for_each(|user| filler.push(user, batch));
            }
        }
    }
}

/// Asks the sample questions over HTTP and prints the answers.
fn ask(server: &Server, data_set: DataSet) -> Result<(), Exit> {
    let failed = |error: reqwest::Error| Failure::new(Kind::LocalFile, format!("ask the server: {error}"));
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).build().map_err(failed)?;
    let count = |expression: &str| -> Result<CountAnswer, Failure> {
        let url = format!("{}/v1/count", server.url());
        let answer = client.post(url).json(&json!({ "where": expression })).send().map_err(failed)?;
        answer.error_for_status().and_then(reqwest::blocking::Response::json).map_err(failed)
    };
    let everybody = count("TRUE")?.count;
    let mut table = Table { columns: vec!["question", "users", "share", "time"], rows: Vec::new() };
    for question in sample_questions(data_set) {
        // Asked once before, so that the time told is that of an answer, not of reading the file the first time.
        count(question.expression)?;
        let answer = count(question.expression)?;
        let share = answer.count as f64 * 100.0 / everybody.max(1) as f64;
        table.rows.push(vec![
            question.title.into(),
            answer.count.into(),
            Cell::Exact(format!("{share:.2} %")),
            Cell::Exact(duration(answer.elapsed_us)),
        ]);
    }
    println!("\n{}\nAll of {} users were asked; every count is exact.", draw(&table), grouped(everybody));
    Ok(())
}

fn what_next(server: &Server, data_set: DataSet) {
    let questions = sample_questions(data_set);
    let expression = |at: usize| questions.get(at).map_or("TRUE", |question| question.expression);
    let by = data_set.tags().iter().map(|(name, _)| *name).next().unwrap_or("user_id");
    let url = match server.address().port() {
        7700 => String::new(),
        _ => format!(" --url {}", server.url()),
    };
    println!("\nTry next, in another terminal:");
    println!("  beluga count{url} \"{}\"", expression(1));
    println!("  beluga profile{url} \"{}\" --by {by}", expression(2));
    println!("  beluga explain{url} \"{}\" --analyze", expression(3));
    println!("Every call is described at {}/docs", server.url());
}
