//! `beluga members EXPR`.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::{Target, about, expression};
use crate::rest::v1::export::ListFormat;
use crate::rest::v1::members::{MembersAnswer, PAGE_MAX};

/// Members that people see unless they ask for more.
const SHOWN_DEFAULT: usize = 20;

/// Lists the users that fit an expression.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga members \"interest = 'yoga'\" --limit 50\n  beluga members \"interest = 'yoga'\" --output parquet > yoga.parquet"
)]
pub(super) struct Arguments {
    /// The expression; `-` reads it from standard input
    #[arg(value_name = "EXPR")]
    expression: String,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// At most so many; without it 20 in a table, 1,000 in JSON, all in the other formats
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PAGE_MAX as u64))]
    limit: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (text, r#where) = expression(&arguments.expression)?;
    let asker = arguments.target.asker()?;
    let stream = match (arguments.output, arguments.limit) {
        (Output::Csv, None) => Some(ListFormat::Csv),
        (Output::Ndjson, None) => Some(ListFormat::Ndjson),
        (Output::Parquet, None) => Some(ListFormat::Parquet),
        _ => None,
    };
    if let Some(format) = stream {
        if format == ListFormat::Parquet {
            output::refuse_terminal()?;
        }
        let mut out = std::io::BufWriter::new(std::io::stdout());
        return asker.all_members(&r#where, format, &mut out).map_err(|exit| match exit {
            Exit::Failed { failure, .. } => Exit::Failed { failure, expression: Some(text) },
            other => other,
        });
    }
    let by_output = if arguments.output == Output::Table { SHOWN_DEFAULT } else { 1_000 };
    let limit = arguments.limit.map_or(by_output, |limit| limit as usize);
    let answer = about(&text, asker.members(&r#where, limit))?;
    let shown = answer.users.len();
    let more = if shown == limit { "; there may be more, see --limit and --output" } else { "" };
    let footer = format!("{shown} users, epoch {}, {}{more}", answer.epoch, output::duration(answer.elapsed_us));
    output::print(arguments.output, &answer, table, &footer)
}

fn table(answer: &MembersAnswer) -> Table {
    let rows = answer.users.iter().map(|user| vec![user.as_str().into()]).collect();
    Table { columns: vec!["user_id"], rows }
}
