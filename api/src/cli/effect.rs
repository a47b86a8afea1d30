//! `beluga effect IMPRESSIONS`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::steps::{OfWhom, footer, valued_step};
use super::target::Target;
use crate::rest::v1::effect::{CostOf, EffectAnswer, EffectFigures, EffectOrder, EffectPeriod, EffectRequest, Grain};
use crate::rest::v1::number::Number;

/// Tells what campaigns came to: impressions, clicks, conversions, cost, reach, frequency, and what one more channel adds.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga effect impression --clicks click --conversions \"purchase where amount >= 20\" --cost price --value amount --by campaign --within '30 days'\n  beluga effect \"impression where campaign = 'autumn'\" --by channel --grain week --between 2026-10-01,2026-11-15 --time-zone Asia/Shanghai\n  beluga effect impression --by channel --show reach --channel tv --channel search --where \"gender = 'f'\"\n  beluga effect impression --clicks \"click by campaign_id\" --cost price --cost-of clicks --by campaign --show frequency --cap 20"
)]
pub(super) struct Arguments {
    /// What is shown: `impression` or "impression where campaign = 'autumn'"
    #[arg(value_name = "IMPRESSIONS")]
    impressions: String,
    /// What counts as taking it up
    #[arg(long, value_name = "EVENT")]
    clicks: Option<String>,
    /// What it was for
    #[arg(long, value_name = "EVENT")]
    conversions: Option<String>,
    /// A column that tells what an impression costs
    #[arg(long, value_name = "COLUMN")]
    cost: Option<String>,
    /// Whose column the cost is
    #[arg(long, value_enum, default_value_t, requires = "cost")]
    cost_of: CostOf,
    /// A column that tells what a conversion is worth
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// A column each of whose values is a group; where it has another name, write "click by campaign_id"
    #[arg(long, value_name = "COLUMN")]
    by: Option<String>,
    /// Each period for itself, too
    #[arg(long, value_enum)]
    grain: Option<Grain>,
    /// By whose clocks periods are: Asia/Shanghai; those of the impressions' fact if left out
    #[arg(long, value_name = "ZONE", requires = "grain")]
    time_zone: Option<String>,
    /// Only events of the time up to now, as '30 days'
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
    /// Only events from one time to another, as 2026-11-01,2026-11-14
    #[arg(long, value_name = "FROM,TO", value_delimiter = ',')]
    between: Option<Vec<String>>,
    #[command(flatten)]
    whom: OfWhom,
    /// How many numbers of impressions users are told apart by; 10 if left out
    #[arg(long, value_name = "N")]
    cap: Option<usize>,
    /// By what groups are ordered
    #[arg(long, value_enum, default_value_t)]
    order: EffectOrder,
    /// How many groups are listed; 100 if left out
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// A group that comes first in the incremental reach; may be repeated, and the others follow
    #[arg(long = "channel", value_name = "VALUE", requires = "by")]
    channels: Vec<String>,
    /// Which part of the answer the table has
    #[arg(long, value_enum, default_value_t)]
    show: Show,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// A part of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Show {
    /// What groups and periods came to
    #[default]
    Figures,
    /// How many users had how many impressions
    Frequency,
    /// What one more channel adds
    Reach,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let whom = arguments.whom.read()?;
    let between = arguments.between.clone().map(<[String; 2]>::try_from).transpose();
    let between =
        between.map_err(|_| Exit::Usage("--between takes two times, as in 2026-11-01,2026-11-14".to_owned()))?;
    if arguments.show == Show::Reach && arguments.by.is_none() {
        return Err(Exit::Usage(
            "--show reach tells what one more channel adds: name their column with --by".to_owned(),
        ));
    }
    let request = EffectRequest {
        impressions: valued_step(&arguments.impressions),
        clicks: arguments.clicks.as_deref().map(valued_step),
        conversions: arguments.conversions.as_deref().map(valued_step),
        cost: arguments.cost.clone(),
        cost_of: arguments.cost_of,
        value: arguments.value.clone(),
        by: arguments.by.clone(),
        grain: arguments.grain,
        time_zone: arguments.time_zone.clone(),
        within: arguments.within.clone(),
        between,
        r#where: whom.expression(),
        cap: arguments.cap,
        order: arguments.order,
        limit: arguments.limit,
        channels: arguments.channels.iter().cloned().map(Some).collect(),
        timeout_ms: None,
    };
    let answer = whom.answered(arguments.target.asker()?.effect(&request))?;
    let more = match (arguments.show, &answer.more, answer.incremental.as_ref().and_then(|all| all.more.as_ref())) {
        (Show::Reach, _, Some(more)) => format!(
            "{} more channels add {}: ask for them with --limit, ",
            output::grouped(more.channels),
            output::grouped(more.adds)
        ),
        (Show::Figures | Show::Frequency, Some(more), _) => {
            format!("{} more groups: ask for them with --limit, ", output::grouped(more.groups))
        }
        _ => String::new(),
    };
    let table = match arguments.show {
        Show::Figures => figures,
        Show::Frequency => frequency,
        Show::Reach => reach,
    };
    output::print(arguments.output, &answer, table, &format!("{more}{}", footer(answer.epoch, answer.elapsed_us, None)))
}

fn name(group: Option<&String>) -> Cell {
    group.map_or("(none)", String::as_str).into()
}

/// A row for all, for each group, and for those that are not listed; of each, a row a period.
fn figures(answer: &EffectAnswer) -> Table {
    let all = &answer.all.figures;
    let has_periods = answer.time_zone.is_some();
    let mut columns = vec!["group"];
    columns.extend(has_periods.then_some("from"));
    columns.extend(["impressions", "reach", "frequency"]);
    let optional = [
        (all.clicks.is_some(), &["clicks", "clickers", "click_rate"][..]),
        (all.conversions.is_some(), &["conversions", "converters"]),
        (all.clicks.is_some() && all.conversions.is_some(), &["conversion_rate"]),
        (all.cost.is_some(), &["cost", "cost_per_thousand", "cost_per_user"]),
        (all.cost.is_some() && all.clicks.is_some(), &["cost_per_click"]),
        (all.cost.is_some() && all.conversions.is_some(), &["cost_per_conversion"]),
        (all.value.is_some(), &["value"]),
        (all.value.is_some() && all.cost.is_some(), &["return_on_cost"]),
    ];
    columns.extend(optional.iter().filter(|(is_asked, _)| *is_asked).flat_map(|(_, names)| names.iter().copied()));
    let row = |group: Cell, from: Cell, figures: &EffectFigures| -> Vec<Cell> {
        let cell = |column: &&'static str| match *column {
            "group" => group.clone(),
            "from" => from.clone(),
            column => cell(figures, column),
        };
        columns.iter().map(cell).collect()
    };
    let mut rows = Vec::new();
    let mut add = |group: Cell, whole: &EffectFigures, periods: &[EffectPeriod]| {
        rows.push(row(group.clone(), Cell::Empty, whole));
        rows.extend(periods.iter().map(|period| row(group.clone(), period.from.as_str().into(), &period.figures)));
    };
    add("(all)".into(), all, &answer.all.periods);
    answer.groups.iter().for_each(|group| add(name(group.group.as_ref()), &group.figures, &group.periods));
    if let Some(more) = &answer.more {
        add("(others)".into(), &more.figures, &[]);
    }
    Table { columns, rows }
}

/// What a column of figures has.
fn cell(figures: &EffectFigures, column: &str) -> Cell {
    let exact = |number: &Option<Number>| number.as_ref().map_or(Cell::Empty, |number| Cell::Exact(number.to_string()));
    match column {
        "impressions" => figures.impressions.into(),
        "reach" => figures.reach.into(),
        "frequency" => figures.frequency.into(),
        "clicks" => figures.clicks.into(),
        "clickers" => figures.clickers.into(),
        "click_rate" => figures.click_rate.into(),
        "conversions" => figures.conversions.into(),
        "converters" => figures.converters.into(),
        "conversion_rate" => figures.conversion_rate.into(),
        "cost" => exact(&figures.cost),
        "cost_per_thousand" => figures.cost_per_thousand.into(),
        "cost_per_user" => figures.cost_per_user.into(),
        "cost_per_click" => figures.cost_per_click.into(),
        "cost_per_conversion" => figures.cost_per_conversion.into(),
        "value" => exact(&figures.value),
        "return_on_cost" => figures.return_on_cost.into(),
        _ => Cell::Empty,
    }
}

/// A row a group and number of impressions.
fn frequency(answer: &EffectAnswer) -> Table {
    let of = |group: Cell, users: &[u64]| -> Vec<Vec<Cell>> {
        let last = users.len();
        let times = |at: usize| if at + 1 == last { format!("{last}+") } else { (at + 1).to_string() };
        users
            .iter()
            .enumerate()
            .map(|(at, users)| vec![group.clone(), Cell::Text(times(at)), (*users).into()])
            .collect()
    };
    let mut rows = of("(all)".into(), &answer.all.frequency);
    rows.extend(answer.groups.iter().flat_map(|group| of(name(group.group.as_ref()), &group.frequency)));
    Table { columns: vec!["group", "impressions", "users"], rows }
}

/// A row a channel.
fn reach(answer: &EffectAnswer) -> Table {
    let steps = answer.incremental.iter().flat_map(|incremental| &incremental.channels);
    let row = |step: &crate::rest::v1::effect::ChannelReach| {
        vec![
            name(step.channel.as_ref()),
            step.reach.into(),
            step.exclusive.into(),
            step.adds.into(),
            step.cumulative.into(),
            step.share.into(),
        ]
    };
    Table {
        columns: vec!["channel", "reach", "exclusive", "adds", "cumulative", "share"],
        rows: steps.map(row).collect(),
    }
}
