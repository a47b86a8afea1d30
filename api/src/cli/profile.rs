//! `beluga profile EXPR --by TAG…`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::target::{Target, about, expression};
use crate::rest::v1::expression::Where;
use crate::rest::v1::number::Number;
use crate::rest::v1::profile::{NumberAnswer, ProfileAnswer, ProfileRequest, TagAnswer};

/// Tells how an audience is spread over tags, against a baseline.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga profile \"interest = 'yoga'\" --by gender --by age\n  beluga profile \"gender = 'f'\" --by interest --against \"age < 30\" --values 10"
)]
pub(super) struct Arguments {
    /// The expression; `-` reads it from standard input
    #[arg(value_name = "EXPR")]
    expression: String,
    /// The tags; several times, or with commas between
    #[arg(long, value_name = "TAG", required = true, value_delimiter = ',')]
    by: Vec<String>,
    /// The baseline; everybody if left out
    #[arg(long, value_name = "EXPR")]
    against: Option<String>,
    /// At most so many values of a tag
    #[arg(long, value_name = "N")]
    values: Option<usize>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (text, r#where) = expression(&arguments.expression)?;
    let against = arguments.against.clone().map(Where::Text);
    let request =
        ProfileRequest { r#where, by: arguments.by.clone(), against, values: arguments.values, timeout_ms: None };
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
    output::print(arguments.output, &answer, table, &footer)
}

fn table(answer: &ProfileAnswer) -> Table {
    Table {
        columns: vec!["tag", "value", "count", "share", "baseline_count", "index"],
        rows: answer.tags.iter().flat_map(|tag| rows(tag, answer)).collect(),
    }
}

fn rows(tag: &TagAnswer, answer: &ProfileAnswer) -> Vec<Vec<Cell>> {
    let row = |value: String, count: Cell, share: Cell, baseline: Cell, index: Cell| {
        vec![tag.tag.as_str().into(), Cell::Text(value), count, share, baseline, index]
    };
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for value in tag.values.iter().flatten() {
        let (count, baseline) = (value.count.into(), value.baseline_count.into());
        rows.push(row(value.value.clone(), count, value.share.into(), baseline, value.index.into()));
    }
    if let Some(more) = tag.more_values.filter(|more| *more > 0) {
        rows.push(row(format!("({more} more values)"), Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty));
    }
    if let Some(number) = &tag.number {
        for bin in &number.histogram {
            let value = format!("{} to {}", bin.from, bin.to);
            rows.push(row(value, bin.count.into(), bin.share.into(), bin.baseline_count.into(), bin.index.into()));
        }
        rows.push(row(
            summary(number),
            number.count.into(),
            Cell::Empty,
            number.baseline_count.into(),
            number.index.into(),
        ));
    }
    if tag.unknown > 0 || tag.baseline_unknown > 0 {
        let share = if answer.count == 0 { 0.0 } else { tag.unknown as f64 / answer.count as f64 };
        let unknown = "(unknown)".to_owned();
        rows.push(row(unknown, tag.unknown.into(), share.into(), tag.baseline_unknown.into(), Cell::Empty));
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
