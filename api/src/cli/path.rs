//! `beluga path STEP… --from EVENT --window TIME`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::steps::{OfWhom, footer, step, valued_step};
use super::target::Target;
use crate::rest::v1::path::{Occurrence, PathAnswer, PathPlace, PathRequest, PlaceName, SavePlace};

/// Tells what users did next, after an event or before it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga path \"visit by page\" purchase --from \"visit where page = 'home'\" --window '1 hour' --fold\n  beluga path \"visit by page\" --to purchase --window '7 days' --depth 3 --where \"gender = 'f'\"\n  beluga path \"visit by page\" purchase --from signup --window '1 day' --save-as looked_and_left --at 1 --step visit --value pricing --stopped"
)]
pub(super) struct Arguments {
    /// What else is looked at: `purchase`, "purchase where amount >= 20" or, for each value of a column, "visit by page"
    #[arg(value_name = "STEP", required = true)]
    steps: Vec<String>,
    /// The event that paths begin with
    #[arg(long, value_name = "EVENT", required_unless_present = "to", conflicts_with = "to")]
    from: Option<String>,
    /// The event that paths lead to
    #[arg(long, value_name = "EVENT")]
    to: Option<String>,
    /// How far from that event the last one may be
    #[arg(long, value_name = "TIME")]
    window: String,
    /// How many steps; 5 if left out
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Which of several such events of a user
    #[arg(long, value_enum, default_value_t)]
    occurrence: Occurrence,
    /// What repeats is one step
    #[arg(long)]
    fold: bool,
    /// How many values of a column are told apart; 10 if left out
    #[arg(long, value_name = "N")]
    values: Option<usize>,
    /// How many links are told; 100 if left out
    #[arg(long, value_name = "N")]
    links: Option<usize>,
    /// Only events of the time up to now, as '30 days'
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
    #[command(flatten)]
    whom: OfWhom,
    /// Keep users as an audience of this name: those who came to `--step` after `--at` steps
    #[arg(long, value_name = "NAME", requires_all = ["at", "step"])]
    save_as: Option<String>,
    /// How many steps from the event
    #[arg(long, value_name = "N", requires = "save_as")]
    at: Option<usize>,
    /// What stands there, as the answer names it
    #[arg(long, value_name = "NAME", requires = "save_as")]
    step: Option<String>,
    /// And which value
    #[arg(long, value_name = "VALUE", requires = "save_as")]
    value: Option<String>,
    /// What is put together of the step, instead of a value
    #[arg(long, requires = "save_as", conflicts_with = "value")]
    others: bool,
    /// Keep those who went on to this step
    #[arg(long, value_name = "NAME", requires = "save_as", conflicts_with = "stopped")]
    then: Option<String>,
    /// And to which value of it
    #[arg(long, value_name = "VALUE", requires = "then")]
    then_value: Option<String>,
    /// Keep those who went no further
    #[arg(long, requires = "save_as")]
    stopped: bool,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let whom = arguments.whom.read()?;
    let place = arguments.save_as.clone().zip(arguments.at).zip(arguments.step.clone());
    let then = |step: &String| PlaceName { step: step.clone(), value: arguments.then_value.clone(), others: false };
    let save_as = place.map(|((audience, depth), step)| SavePlace {
        audience,
        depth,
        at: PlaceName { step, value: arguments.value.clone(), others: arguments.others },
        then: arguments.then.as_ref().map(then),
        stopped: arguments.stopped,
    });
    let request = PathRequest {
        from: arguments.from.as_deref().map(step),
        to: arguments.to.as_deref().map(step),
        steps: arguments.steps.iter().map(|text| valued_step(text)).collect(),
        window: arguments.window.clone(),
        depth: arguments.depth,
        occurrence: arguments.occurrence,
        fold: arguments.fold,
        values: arguments.values,
        links: arguments.links,
        within: arguments.within.clone(),
        r#where: whom.expression(),
        save_as,
        timeout_ms: None,
    };
    let answer = whom.answered(arguments.target.asker()?.path(&request))?;
    let more = match answer.more_links {
        0 => String::new(),
        more => format!(", {} more links: ask for them with --links", output::grouped(more)),
    };
    let users = format!("{} users", output::grouped(answer.users));
    let footer = format!("{users}{more}, {}", footer(answer.epoch, answer.elapsed_us, answer.saved.as_ref()));
    output::print(arguments.output, &answer, table, &footer)
}

/// A row a link.
fn table(answer: &PathAnswer) -> Table {
    let rows = answer.links.iter().map(|link| {
        let (from, to) = (&answer.places[link.from], &answer.places[link.to]);
        let depth = from.depth.min(to.depth) as u64;
        vec![
            depth.into(),
            Cell::Text(named(from)),
            Cell::Text(named(to)),
            link.users.into(),
            link.share.into(),
            link.median_seconds.into(),
        ]
    });
    Table {
        columns: vec!["depth", "from", "to", "users", "share", "median_seconds"],
        rows: rows.collect::<Vec<Vec<Cell>>>(),
    }
}

fn named(place: &PathPlace) -> String {
    match (&place.value, place.others) {
        (Some(value), _) => format!("{}: {value}", place.step),
        (None, Some(values)) => format!("{}: {values} others", place.step),
        (None, None) => place.step.clone(),
    }
}
