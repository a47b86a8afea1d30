//! `beluga funnel STEP… --window TIME`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::steps::{Keep, OfWhom, footer, step, steps_table};
use super::target::Target;
use crate::rest::v1::funnel::{FunnelAnswer, FunnelMode, FunnelRequest};

/// Tells how many users did some steps in order.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga funnel visit cart purchase --window '7 days'\n  beluga funnel visit \"purchase where amount >= 20\" --window '1 day' --within '30 days' --where \"gender = 'f'\" --by city\n  beluga funnel visit cart purchase --window '7 days' --save-as left_the_cart --step 2 --stopped"
)]
pub(super) struct Arguments {
    /// A fact, and which of its events: `purchase` or "purchase where amount >= 20"
    #[arg(value_name = "STEP", required = true)]
    steps: Vec<String>,
    /// How much later than the first step the last one may be
    #[arg(long, value_name = "TIME")]
    window: String,
    /// Only events of the time up to now, as '30 days'
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
    #[command(flatten)]
    whom: OfWhom,
    /// Told apart by the values of this tag
    #[arg(long, value_name = "TAG")]
    by: Option<String>,
    /// What is asked of the steps beside their order; may be repeated
    #[arg(long, value_enum)]
    mode: Vec<FunnelMode>,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let whom = arguments.whom.read()?;
    let request = FunnelRequest {
        steps: arguments.steps.iter().map(|text| step(text)).collect(),
        window: arguments.window.clone(),
        within: arguments.within.clone(),
        mode: arguments.mode.clone(),
        r#where: whom.expression(),
        by: arguments.by.clone(),
        save_as: arguments.keep.save_as(),
        timeout_ms: None,
    };
    let answer = whom.answered(arguments.target.asker()?.funnel(&request))?;
    let footer = footer(answer.epoch, answer.elapsed_us, answer.saved.as_ref());
    output::print(arguments.output, &answer, table, &footer)
}

/// A row a step; told apart, a row a value and step. Times are from the step before.
fn table(answer: &FunnelAnswer) -> Table {
    let Some(groups) = &answer.groups else {
        let Table { mut columns, mut rows } = steps_table(&answer.steps);
        columns.extend(TIMES);
        for (row, step) in rows.iter_mut().zip(&answer.steps) {
            row.extend([step.median_seconds.into(), step.p90_seconds.into()]);
        }
        return Table { columns, rows };
    };
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for group in groups {
        for (at, (step, users)) in answer.steps.iter().zip(&group.users).enumerate() {
            let of_first = (group.users[0] > 0).then(|| *users as f64 / group.users[0] as f64);
            let value = group.value.as_deref().unwrap_or("(none)");
            let of_first = of_first.map_or(Cell::Text(String::new()), Cell::from);
            let times = [group.median_seconds[at].into(), group.p90_seconds[at].into()];
            rows.push(
                [value.into(), step.name.as_str().into(), (*users).into(), of_first].into_iter().chain(times).collect(),
            );
        }
    }
    Table { columns: ["value", "step", "users", "of_first"].into_iter().chain(TIMES).collect(), rows }
}

const TIMES: [&str; 2] = ["median_seconds", "p90_seconds"];
