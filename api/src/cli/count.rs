//! `beluga count EXPR`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::target::{Target, about, expression};
use crate::rest::v1::count::CountRequest;

/// Counts the users that fit an expression.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga count \"gender = 'f' AND age BETWEEN 25 AND 34\"\n  beluga count --data ./beluga-data --output json TRUE"
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
    /// Longest time, in milliseconds
    #[arg(long, value_name = "N")]
    timeout_ms: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (text, r#where) = expression(&arguments.expression)?;
    let request = CountRequest { r#where, approximate: None, as_of: None, timeout_ms: arguments.timeout_ms };
    let answer = about(&text, arguments.target.asker()?.count(&request))?;
    let footer = format!("epoch {}, {}", answer.epoch, output::duration(answer.elapsed_us));
    let table = |answer: &crate::rest::v1::count::CountAnswer| Table {
        columns: vec!["count"],
        rows: vec![vec![Cell::of_number(answer.count, answer.below)]],
    };
    output::print(arguments.output, &answer, table, &footer)
}
