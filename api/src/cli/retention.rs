//! `beluga retention EVENT`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::steps::{OfWhom, footer, step};
use super::target::Target;
use crate::rest::v1::retention::{Every, RetentionAnswer, RetentionRequest, SaveCell};

/// Tells who came back: users by the period of their first event, and how many of them came back in each period from then on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga retention purchase --every week --periods 8\n  beluga retention visit --back \"purchase where amount >= 20\" --every month --where \"gender = 'f'\"\n  beluga retention visit --every week --save-as lost --cohort 2026-11-02 --after 1 --lost"
)]
pub(super) struct Arguments {
    /// The event that a user begins with, and which: `visit` or "purchase where amount >= 20"
    #[arg(value_name = "EVENT")]
    first: String,
    /// What counts as coming back; the same event if left out
    #[arg(long, value_name = "EVENT")]
    back: Option<String>,
    /// How long a period is
    #[arg(long, value_enum, default_value_t)]
    every: Every,
    /// How many periods; 12 if left out
    #[arg(long, value_name = "N")]
    periods: Option<usize>,
    /// A day of the last period, as 2026-11-20; today if left out
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    #[command(flatten)]
    whom: OfWhom,
    /// Keep users as an audience of this name: those of `--cohort` who came back `--after` so many periods
    #[arg(long, value_name = "NAME", requires_all = ["cohort", "after"])]
    save_as: Option<String>,
    /// The first day of the period that they began in
    #[arg(long, value_name = "DAY", requires = "save_as")]
    cohort: Option<String>,
    /// How many periods later
    #[arg(long, value_name = "N", requires = "save_as")]
    after: Option<usize>,
    /// Keep those who did not come back then
    #[arg(long, requires = "save_as")]
    lost: bool,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let whom = arguments.whom.read()?;
    let cell = arguments.save_as.clone().zip(arguments.cohort.clone()).zip(arguments.after);
    let request = RetentionRequest {
        first: step(&arguments.first),
        back: arguments.back.as_deref().map(step),
        every: arguments.every,
        periods: arguments.periods,
        until: arguments.until.clone(),
        r#where: whom.expression(),
        save_as: cell.map(|((audience, cohort), after)| SaveCell { audience, cohort, after, lost: arguments.lost }),
        timeout_ms: None,
    };
    let answer = whom.answered(arguments.target.asker()?.retention(&request))?;
    let footer = footer(answer.epoch, answer.elapsed_us, answer.saved.as_ref());
    output::print(arguments.output, &answer, table, &footer)
}

/// A row a cohort and period.
fn table(answer: &RetentionAnswer) -> Table {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for cohort in &answer.cohorts {
        for (after, back) in cohort.back.iter().enumerate() {
            let share = cohort.shares.get(after).map_or(Cell::Text(String::new()), |share| (*share).into());
            let after = after as u64;
            rows.push(vec![cohort.from.as_str().into(), cohort.users.into(), after.into(), (*back).into(), share]);
        }
    }
    Table { columns: vec!["cohort", "users", "periods_later", "came_back", "share"], rows }
}
