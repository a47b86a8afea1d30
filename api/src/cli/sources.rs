//! `beluga sources`: how the streaming sources are, and commands to them.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Server;
use crate::rest::v1::sources::{RewindRequest, RewindTo, SourceAnswer};
use std::collections::BTreeMap;

/// Shows the streaming sources of a server and commands them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga sources\n  beluga sources show purchases\n  beluga sources pause purchases\n  beluga sources rewind purchases --to 2026-11-20T00:00:00Z\n  beluga sources rewind purchases --to purchases/0=1042 --to purchases/1=990"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    server: Server,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All sources; what is shown when nothing else is asked for
    List,
    /// One source, its partitions and the records it refused last
    Show {
        /// The source
        name: String,
    },
    /// Read; also again, after a failure
    Start {
        /// The source
        name: String,
    },
    /// Read nothing, and stay connected
    Pause {
        /// The source
        name: String,
    },
    /// Read again after a pause
    Resume {
        /// The source
        name: String,
    },
    /// Be away
    Stop {
        /// The source
        name: String,
    },
    /// Go on somewhere else; events that are read again count again, unless they have ids
    Rewind {
        /// The source
        name: String,
        /// `earliest`, `latest`, a time, or PARTITION=OFFSET (several times)
        #[arg(long, required = true, value_name = "PLACE")]
        to: Vec<String>,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let server = arguments.server.connect()?;
    let one = |answer: SourceAnswer| output::print(arguments.output, &answer, details, &footer(&answer));
    match arguments.action.as_ref().unwrap_or(&Action::List) {
        Action::List => {
            let answers = server.sources()?;
            let footer = match answers.len() {
                0 => "no sources; declare one under `sources` in the catalog".to_owned(),
                count => output::counted(count, "source"),
            };
            output::print(arguments.output, &answers, |answers| table(answers), &footer)
        }
        Action::Show { name } => one(server.source(name)?),
        Action::Start { name } => one(server.command_source(name, "start")?),
        Action::Pause { name } => one(server.command_source(name, "pause")?),
        Action::Resume { name } => one(server.command_source(name, "resume")?),
        Action::Stop { name } => one(server.command_source(name, "stop")?),
        Action::Rewind { name, to } => {
            let answer = server.rewind_source(name, &RewindRequest { to: place(to)? })?;
            let rows = |answer: &crate::rest::v1::sources::RewindAnswer| Table {
                columns: vec!["partition", "position"],
                rows: answer.positions.iter().map(|(name, at)| vec![name.as_str().into(), (*at).into()]).collect(),
            };
            output::print(arguments.output, &answer, rows, answer.note.as_deref().unwrap_or("it goes on there"))
        }
    }
}

fn place(to: &[String]) -> Result<RewindTo, Exit> {
    if let [place] = to
        && !place.contains('=')
    {
        return Ok(RewindTo::Text(place.clone()));
    }
    let offsets = to.iter().map(|place| {
        let (partition, offset) = place.rsplit_once('=')?;
        Some((partition.to_owned(), offset.parse().ok()?))
    });
    let offsets: Option<BTreeMap<String, u64>> = offsets.collect();
    let offsets = offsets.ok_or_else(|| {
        Exit::Usage("--to is `earliest`, `latest`, a time, or PARTITION=OFFSET, as in purchases/0=1042".to_owned())
    })?;
    Ok(RewindTo::Offsets(offsets))
}

fn state(answer: &SourceAnswer) -> String {
    format!("{:?}", answer.state).to_lowercase()
}

fn table(answers: &[SourceAnswer]) -> Table {
    Table {
        columns: vec!["source", "about", "state", "records", "per second", "lag", "refused", "watermark"],
        rows: answers
            .iter()
            .map(|answer| {
                vec![
                    answer.name.as_str().into(),
                    answer.about.as_str().into(),
                    state(answer).as_str().into(),
                    answer.records.into(),
                    (answer.records_per_second.round() as u64).into(),
                    answer.lag.into(),
                    answer.refused.into(),
                    answer.watermark.as_deref().into(),
                ]
            })
            .collect(),
    }
}

fn details(answer: &SourceAnswer) -> Table {
    Table {
        columns: vec!["partition", "position", "end", "lag", "watermark"],
        rows: answer
            .partitions
            .iter()
            .map(|partition| {
                vec![
                    partition.partition.as_str().into(),
                    partition.position.into(),
                    partition.end.into(),
                    partition.lag.into(),
                    partition.watermark.as_deref().into(),
                ]
            })
            .collect(),
    }
}

fn footer(answer: &SourceAnswer) -> String {
    let mut text = format!(
        "{}: {}, {}; {} records, {:.0} a second, {} refused",
        answer.name,
        answer.about,
        state(answer),
        answer.records,
        answer.records_per_second,
        answer.refused
    );
    if let Some(error) = &answer.error {
        text += &format!("\n{error}");
    }
    for lookup in &answer.lookups {
        text += &format!(
            "\nlook-up {}: {} found, {} not known, {} failed; {} cached, {} requests, {} errors, {} in flight",
            lookup.name,
            lookup.found,
            lookup.missing,
            lookup.failed,
            lookup.cached,
            lookup.requests,
            lookup.errors,
            lookup.in_flight
        );
        if let (Some(half), Some(most)) = (lookup.latency_p50_ms, lookup.latency_p99_ms) {
            text += &format!(", p50 {half:.1} ms, p99 {most:.1} ms");
        }
        if let Some(error) = &lookup.last_error {
            text += &format!("; last error: {error}");
        }
    }
    for refused in &answer.refused_last {
        text +=
            &format!("\nrefused {} at {}: {}\n  {}", refused.partition, refused.offset, refused.error, refused.record);
    }
    text
}
