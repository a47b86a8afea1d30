//! `beluga profile EXPR --by TAG…`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::target::{Target, about, expression};
use crate::rest::v1::distinguish::{Distinguish, DistinguishingAnswer};
use crate::rest::v1::expression::Where;
use crate::rest::v1::number::Number;
use crate::rest::v1::profile::{NumberAnswer, ProfileAnswer, ProfileRequest, TagAnswer, ValueOrder};

/// Tells how an audience is spread over tags, against a baseline.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga profile \"interest = 'yoga'\" --by gender --by age\n  beluga profile \"gender = 'f'\" --by interest --against \"age < 30\" --values 10\n  beluga profile \"gender = 'f'\" --distinguish"
)]
pub(super) struct Arguments {
    /// The expression; `-` reads it from standard input
    #[arg(value_name = "EXPR")]
    expression: String,
    /// The tags, several times or with commas between; all there are if left out
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    by: Vec<String>,
    /// The baseline; everybody if left out
    #[arg(long, value_name = "EXPR")]
    against: Option<String>,
    /// At most so many values of a tag
    #[arg(long, value_name = "N")]
    values: Option<usize>,
    /// Which values of a tag come first
    #[arg(long, value_enum, default_value_t = ValueOrder::Count)]
    order: ValueOrder,
    /// Tell only what most distinguishes the audience from the rest of the baseline, N things at most
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    distinguish: Option<usize>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (text, r#where) = expression(&arguments.expression)?;
    let against = arguments.against.clone().map(Where::Text);
    let request = ProfileRequest {
        r#where,
        by: Some(arguments.by.clone()).filter(|by| !by.is_empty()),
        against,
        values: arguments.values,
        order: arguments.order,
        distinguish: Distinguish(arguments.distinguish.unwrap_or(0)),
        timeout_ms: None,
    };
    let result = arguments.target.asker()?.profile(&request);
    let is_baseline = |pointer: &Option<String>| pointer.as_deref() == Some("/against");
    let answer = match (result, &arguments.against) {
        (Err(failure), Some(baseline)) if is_baseline(&failure.pointer) => about(baseline, Err(failure))?,
        (result, _) => about(&text, result)?,
    };
    let footer = format!(
        "{} users against {}, epoch {}, {}",
        output::grouped(answer.count),
        output::grouped(answer.baseline_count),
        answer.epoch,
        output::duration(answer.elapsed_us)
    );
    let table = |answer: &ProfileAnswer| match &answer.distinguishing {
        Some(list) => distinguishing(list),
        None => table(answer),
    };
    output::print(arguments.output, &answer, table, &footer)
}

/// What distinguishes an audience, as rows.
pub(super) fn distinguishing(list: &[DistinguishingAnswer]) -> Table {
    let row = |thing: &DistinguishingAnswer| {
        vec![
            thing.expression.as_str().into(),
            thing.count.into(),
            thing.share.into(),
            thing.baseline_count.into(),
            thing.baseline_share.into(),
            thing.index.into(),
            thing.q_value.into(),
            thing.distinction.into(),
        ]
    };
    let columns =
        vec!["expression", "count", "share", "baseline_count", "baseline_share", "index", "q_value", "distinction"];
    Table { columns, rows: list.iter().map(row).collect() }
}

fn table(answer: &ProfileAnswer) -> Table {
    Table {
        columns: vec!["tag", "value", "count", "share", "baseline_count", "index", "q_value", "distinction"],
        rows: answer.tags.iter().flat_map(|tag| rows(tag, answer)).collect(),
    }
}

fn rows(tag: &TagAnswer, answer: &ProfileAnswer) -> Vec<Vec<Cell>> {
    let row = |value: String, counts: [Cell; 4], [q_value, distinction]: [Option<f64>; 2]| {
        let [count, share, baseline, index] = counts;
        vec![
            tag.tag.as_str().into(),
            Cell::Text(value),
            count,
            share,
            baseline,
            index,
            q_value.into(),
            distinction.into(),
        ]
    };
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for value in tag.values.iter().flatten() {
        let counts = [value.count.into(), value.share.into(), value.baseline_count.into(), value.index.into()];
        rows.push(row(value.value.clone(), counts, [value.q_value, value.distinction]));
    }
    if let Some(more) = tag.more_values.filter(|more| *more > 0) {
        rows.push(row(format!("({more} more values)"), [const { Cell::Empty }; 4], [None; 2]));
    }
    if let Some(number) = &tag.number {
        for bin in &number.histogram {
            let counts = [bin.count.into(), bin.share.into(), bin.baseline_count.into(), bin.index.into()];
            rows.push(row(format!("{} to {}", bin.from, bin.to), counts, [None; 2]));
        }
        let counts = [number.count.into(), Cell::Empty, number.baseline_count.into(), number.index.into()];
        let difference = number.difference.as_ref().map(|difference| [difference.q_value, difference.distinction]);
        rows.push(row(summary(number), counts, difference.map_or([None; 2], |both| both.map(Some))));
    }
    let (unknown, baseline_unknown) = (tag.unknown.unwrap_or_default(), tag.baseline_unknown.unwrap_or_default());
    if unknown > 0 || baseline_unknown > 0 {
        let share = if answer.count == 0 { 0.0 } else { unknown as f64 / answer.count as f64 };
        let counts = [unknown.into(), share.into(), baseline_unknown.into(), Cell::Empty];
        rows.push(row("(unknown)".to_owned(), counts, [None; 2]));
    }
    rows
}

/// `mean 31.2, min 0, median 30, max 99`.
fn summary(number: &NumberAnswer) -> String {
    let median = number.quantiles.iter().find(|quantile| (quantile.q - 0.5).abs() < 1e-9);
    let parts: [(&str, Option<&Number>); 5] = [
        ("sum", number.sum.as_ref()),
        ("mean", number.mean.as_ref()),
        ("min", number.min.as_ref()),
        ("median", median.map(|quantile| &quantile.value)),
        ("max", number.max.as_ref()),
    ];
    let told: Vec<String> =
        parts.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}"))).collect();
    format!("({})", told.join(", "))
}
