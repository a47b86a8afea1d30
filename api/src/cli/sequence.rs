//! `beluga sequence STEP… --pattern PATTERN`.

use super::Exit;
use super::output::{self, Output};
use super::steps::{Keep, OfWhom, footer, step, steps_table};
use super::target::Target;
use crate::rest::v1::sequence::SequenceRequest;

/// Tells who followed a pattern of events, and how often.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga sequence visit cart purchase --pattern '(?1).*(?2)(?t<=3600)(?3)'\n  beluga sequence visit \"purchase where amount >= 20\" --pattern '(?1)(?1)(?2)' --within '30 days' --where \"gender = 'f'\"\n  beluga sequence cart purchase --pattern '(?1)(?t<=86400)(?2)' --save-as left_the_cart --step 1 --stopped"
)]
pub(super) struct Arguments {
    /// A fact, and which of its events: `purchase` or "purchase where amount >= 20"
    #[arg(value_name = "STEP", required = true)]
    steps: Vec<String>,
    /// What follows what: `(?1)` the very next event, of step 1; `.` the very next; `.*` any number; `(?t<=60)` any, in so many seconds
    #[arg(long, value_name = "PATTERN")]
    pattern: String,
    /// Only events of the time up to now, as '30 days'
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
    #[command(flatten)]
    whom: OfWhom,
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
    let request = SequenceRequest {
        steps: arguments.steps.iter().map(|text| step(text)).collect(),
        pattern: arguments.pattern.clone(),
        within: arguments.within.clone(),
        r#where: whom.expression(),
        save_as: arguments.keep.save_as(),
        timeout_ms: None,
    };
    let answer = whom.answered(arguments.target.asker()?.sequence(&request))?;
    let (users, times) = (output::grouped(answer.users), output::grouped(answer.times));
    let footer =
        format!("{users} users, {times} times, {}", footer(answer.epoch, answer.elapsed_us, answer.saved.as_ref()));
    output::print(arguments.output, &answer, |answer| steps_table(&answer.taken), &footer)
}
