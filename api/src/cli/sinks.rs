//! `beluga sinks`: how the sinks are, and commands to them.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Server;
use crate::rest::v1::sinks::SinkAnswer;

/// Shows the sinks of a server and commands them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga sinks\n  beluga sinks show crm\n  beluga sinks pause crm\n  beluga sinks start crm"
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
    /// All sinks; what is shown when nothing else is asked for
    List,
    /// One sink
    Show {
        /// The sink
        name: String,
    },
    /// Deliver; also again, after a failure
    Start {
        /// The sink
        name: String,
    },
    /// Gather, and deliver nothing
    Pause {
        /// The sink
        name: String,
    },
    /// Deliver again after a pause
    Resume {
        /// The sink
        name: String,
    },
    /// Neither gather nor deliver
    Stop {
        /// The sink
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let server = arguments.server.connect()?;
    let one = |answer: SinkAnswer| {
        output::print(arguments.output, &answer, |answer| table(std::slice::from_ref(answer)), &footer(&answer))
    };
    match arguments.action.as_ref().unwrap_or(&Action::List) {
        Action::List => {
            let answers = server.sinks()?;
            let footer = match answers.len() {
                0 => "no sinks; declare one under `sinks` in the catalog".to_owned(),
                count => output::counted(count, "sink"),
            };
            output::print(arguments.output, &answers, |answers| table(answers), &footer)
        }
        Action::Show { name } => one(server.sink(name)?),
        Action::Start { name } => one(server.command_sink(name, "start")?),
        Action::Pause { name } => one(server.command_sink(name, "pause")?),
        Action::Resume { name } => one(server.command_sink(name, "resume")?),
        Action::Stop { name } => one(server.command_sink(name, "stop")?),
    }
}

fn state(answer: &SinkAnswer) -> String {
    format!("{:?}", answer.state).to_lowercase()
}

fn table(answers: &[SinkAnswer]) -> Table {
    Table {
        columns: vec!["sink", "about", "state", "queued", "lag s", "delivered", "retries", "dead letters", "dropped"],
        rows: answers
            .iter()
            .map(|answer| {
                vec![
                    answer.name.as_str().into(),
                    answer.about.as_str().into(),
                    state(answer).as_str().into(),
                    answer.queued.into(),
                    (answer.lag_seconds.round() as u64).into(),
                    answer.delivered.into(),
                    answer.retries.into(),
                    answer.dead_letters.into(),
                    answer.dropped.into(),
                ]
            })
            .collect(),
    }
}

fn footer(answer: &SinkAnswer) -> String {
    let full = if answer.is_full { ", full" } else { "" };
    let mut text = format!(
        "{}: {}; {} bytes in its queue{full}, next offset {}",
        answer.name,
        state(answer),
        answer.queue_bytes,
        answer.offset
    );
    if let Some(error) = &answer.error {
        text += &format!("\n{error}");
    }
    text
}
