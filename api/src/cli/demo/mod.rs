//! `beluga demo`: the whole job on example data, with nothing to prepare.
//!
//! Loads a generated population (or a public data set) into a server, streams what its users do through that server's own
//! doors, asks sample questions, prints what to try next, and keeps serving while more events come.
//!
//! * `load`: the users. `stream`: their events over HTTP; `kafka`: the same by way of a broker. `likeness`: users like others.

#[cfg(feature = "kafka")]
mod kafka;
mod likeness;
mod load;
mod stream;

use super::Exit;
use super::output::{Cell, Table, draw, duration, grouped};
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::rest::v1::count::CountAnswer;
use crate::server::Server;
use crate::signals::Signals;
use datasets::{DataSet, PURCHASE, Question, event_questions, likeness_question, sample_questions};
use engine::audience::suggest::closest;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use stream::Events;

/// Where the sources of public data are told.
const ABOUT_FILES: &str = "the README says where each public data set comes from";

/// The whole job on example data.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga demo\n  beluga demo --users 10000000 --data ./demo-data\n  beluga demo --dataset online-retail --file online-retail.csv.gz\n  beluga demo --kafka 127.0.0.1:9092\n  beluga demo --once"
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
    /// How many events to generate
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    events: u64,
    /// Events to stream a second
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Stream the events by way of this Kafka broker: write them to a new topic and read that as a source
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    /// The data directory; a temporary one, gone afterwards, if not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of REST, the console, docs and metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700")]
    http: SocketAddr,
    /// Address of Flight SQL
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7701")]
    flight: SocketAddr,
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
    let server =
        Server::start(Config { data, http: arguments.http, flight: Some(arguments.flight), ..Config::default() })?;
    let store = server.state().store()?.clone();
    let events = if store.snapshot().catalog().tags().len() == 0 {
        let read = load::load(&store, data_set, arguments)?;
        let events = Events::of(data_set, arguments, read);
        stream(&server, &events, arguments)?;
        events
    } else {
        println!("{} holds data already: it is used as it is.", store.folder().display());
        Events::of(data_set, arguments, Vec::new())
    };
    ask(&server, data_set)?;
    ask_for_likeness(&server, data_set, &events)?;
    what_next(&server, data_set);
    if !arguments.once {
        let more = events.keep_coming(&server)?;
        println!("\nServing until Ctrl-C{}.", if more.is_some() { ", while more events come" } else { "" });
        Signals::listen()?.wait();
    }
    server.stop()?;
    Ok(())
}

/// Streams the events, and tells how fast they came and were seen.
fn stream(server: &Server, events: &Events, arguments: &Arguments) -> Result<(), Exit> {
    if events.count() == 0 {
        return Ok(());
    }
    match &arguments.kafka {
        None => Ok(stream::over_http(server, events, arguments.rate)?),
        #[cfg(feature = "kafka")]
        Some(broker) => Ok(kafka::through(server, events, arguments.rate, broker)?),
        #[cfg(not(feature = "kafka"))]
        Some(_) => Err(Exit::Usage("--kafka: this build reads no Kafka; build it with the feature `kafka`".to_owned())),
    }
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

/// Asks the sample questions over HTTP and prints the answers.
fn ask(server: &Server, data_set: DataSet) -> Result<(), Exit> {
    let failed = |error: reqwest::Error| Failure::new(Kind::LocalFile, format!("ask the server: {error}"));
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).build().map_err(failed)?;
    let count = |expression: &str| -> Result<CountAnswer, Failure> {
        let url = format!("{}/v1/count", server.url());
        let answer = client.post(url).json(&json!({ "where": expression })).send().map_err(failed)?;
        answer.error_for_status().and_then(reqwest::blocking::Response::json).map_err(failed)
    };
    let everybody = count("TRUE")?.count.unwrap_or_default();
    let mut table = Table { columns: vec!["question", "users", "share", "time"], rows: Vec::new() };
    let has_events = server.state().whole()?.catalog().declared_fact(PURCHASE).is_some();
    let about_events: &[Question] = if has_events { event_questions(data_set) } else { &[] };
    for question in sample_questions(data_set).iter().chain(about_events) {
        // Asked once before, so that the time told is that of an answer, not of reading the file the first time.
        count(question.expression)?;
        let answer = count(question.expression)?;
        let fit = answer.count.unwrap_or_default();
        let share = fit as f64 * 100.0 / everybody.max(1) as f64;
        table.rows.push(vec![
            question.title.into(),
            fit.into(),
            Cell::Exact(format!("{share:.2} %")),
            Cell::Exact(duration(answer.elapsed_us)),
        ]);
    }
    println!("\n{}\nAll of {} users were asked; every count is exact.", draw(&table), grouped(everybody));
    Ok(())
}

/// Makes vectors of what users bought, where that is known and they have not been made before, and asks for users like others.
fn ask_for_likeness(server: &Server, data_set: DataSet, events: &Events) -> Result<(), Exit> {
    let snapshot = server.state().whole()?;
    let has_space = snapshot.catalog().space(likeness::SPACE).is_some();
    match likeness_question(data_set) {
        Some(question) if has_space && events.count() > 0 => {
            if likeness::make_vectors(server, &question)? {
                likeness::ask(server, &question)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
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
    if let Some(question) = likeness_question(data_set) {
        println!("  beluga lookalike{url} --space {} --seed \"{}\" --share 0.01", likeness::SPACE, question.seed);
    }
    println!("Or look instead of typing: the console is at {}/", server.url());
    println!("Every call is described at {}/docs", server.url());
    if let Some(url) = server.flight_url() {
        println!("ADBC and JDBC connect to Flight SQL at {url}");
    }
}
