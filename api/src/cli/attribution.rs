//! `beluga attribution CONVERSION --touch EVENT --lookback TIME`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::steps::{OfWhom, footer, step};
use super::target::Target;
use crate::rest::v1::attribution::{AttributionAnswer, AttributionRequest, Credits, ModelName};

/// Tells to which campaigns conversions are credited.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga attribution purchase --touch impression --touch click --by campaign --lookback '30 days'\n  beluga attribution \"purchase where amount >= 20\" --value amount --touch email --touch \"visit where source = 'search'\" --lookback '7 days' --within '90 days' --half-life '2 days' --position 30,40,30"
)]
pub(super) struct Arguments {
    /// What counts as a conversion: `purchase` or "purchase where amount >= 20"
    #[arg(value_name = "CONVERSION")]
    conversion: String,
    /// A column that tells what a conversion is worth
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// What conversions can be credited to; may be repeated
    #[arg(long = "touch", value_name = "EVENT", required = true)]
    touches: Vec<String>,
    /// A column of all touches: each of its values is a campaign
    #[arg(long, value_name = "COLUMN")]
    by: Option<String>,
    /// How long before a conversion a touch may be
    #[arg(long, value_name = "TIME")]
    lookback: String,
    /// After how long a touch has half as much; 7 days if left out
    #[arg(long, value_name = "TIME")]
    half_life: Option<String>,
    /// What the first touch, those in between and the last one have of 100; 40,20,40 if left out
    #[arg(long, value_name = "N,N,N", value_delimiter = ',')]
    position: Option<Vec<u32>>,
    /// Only conversions of the time up to now, as '30 days'
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
    #[command(flatten)]
    whom: OfWhom,
    /// The model by which campaigns are ordered
    #[arg(long, value_enum, default_value_t)]
    order: ModelName,
    /// How many campaigns are listed; 100 if left out
    #[arg(long, value_name = "N")]
    campaigns: Option<usize>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let whom = arguments.whom.read()?;
    let position = arguments.position.clone().map(<[u32; 3]>::try_from).transpose();
    let position = position.map_err(|_| Exit::Usage("--position takes three numbers, as in 40,20,40".to_owned()))?;
    let request = AttributionRequest {
        conversion: step(&arguments.conversion),
        value: arguments.value.clone(),
        touches: arguments.touches.iter().map(|text| step(text)).collect(),
        by: arguments.by.clone(),
        lookback: arguments.lookback.clone(),
        half_life: arguments.half_life.clone(),
        position,
        within: arguments.within.clone(),
        r#where: whom.expression(),
        order: arguments.order,
        campaigns: arguments.campaigns,
        timeout_ms: None,
    };
    let answer = whom.answered(arguments.target.asker()?.attribution(&request))?;
    let all = format!("{} conversions", output::grouped(answer.all.conversions));
    let untouched = format!("{} without a touch", output::grouped(answer.untouched.conversions));
    let more = answer.more.as_ref().map_or_else(String::new, |more| {
        format!(", {} more campaigns: ask for them with --campaigns", output::grouped(more.campaigns))
    });
    let footer = format!("{all}, {untouched}{more}, {}", footer(answer.epoch, answer.elapsed_us, None));
    output::print(arguments.output, &answer, table, &footer)
}

/// A row a campaign.
fn table(answer: &AttributionAnswer) -> Table {
    let models = |credits: &Credits| {
        let Credits { first, last, linear, decay, position } = credits;
        [first, last, linear, decay, position].map(|number| Cell::Exact(number.to_string()))
    };
    let mut columns = vec!["campaign", "conversions", "users", "first", "last", "linear", "decay", "position"];
    if answer.all.value.is_some() {
        columns.extend(["value_first", "value_last", "value_linear", "value_decay", "value_position"]);
    }
    let row = |campaign: &crate::rest::v1::attribution::CreditAnswer| {
        let name = campaign.campaign.as_deref().unwrap_or("(none)");
        let mut row: Vec<Cell> = vec![name.into(), campaign.conversions.into(), campaign.users.into()];
        row.extend(models(&campaign.credited));
        row.extend(campaign.value.iter().flat_map(models));
        row
    };
    Table { columns, rows: answer.campaigns.iter().map(row).collect() }
}
