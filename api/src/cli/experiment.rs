//! `beluga experiment --group NAME=EXPR… --metric METRIC…`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::steps::{footer, step};
use super::target::{Target, about, named_expression};
use crate::rest::v1::experiment::{
    ExperimentAnswer, ExperimentRequest, GroupRequest, IntervalAnswer, Measure, MetricRequest,
};

/// Tells how groups of an experiment differ, and how sure that is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga experiment --group \"old=in_audience('shown_old')\" --group \"new=in_audience('shown_new')\" --metric purchase --metric 'sum(amount) of purchase' --within '14 days'\n  beluga experiment --group \"a=variant = 'a'\" --group \"b=variant = 'b'\" --weights 9,1 --metric \"events of visit where page = 'basket'\" --confidence 0.99"
)]
pub(super) struct Arguments {
    /// A name and an expression for each group; the first one is the control
    #[arg(long = "group", value_name = "NAME=EXPR", required = true)]
    groups: Vec<String>,
    /// How many were planned for each group, in relation to the others; the same if left out
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    weights: Option<Vec<f64>>,
    /// What groups are compared by: `purchase` (the share of users with any), "events of purchase where amount >= 20", "sum(amount) of
    /// purchase"; may be repeated
    #[arg(long = "metric", value_name = "METRIC", required = true)]
    metrics: Vec<String>,
    /// Only events of the time up to now, as '14 days'
    #[arg(long, value_name = "TIME")]
    within: Option<String>,
    /// How sure intervals are; 0.95 if left out
    #[arg(long, value_name = "SHARE")]
    confidence: Option<f64>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (mut groups, mut texts) = (Vec::new(), Vec::new());
    if let Some(weights) = arguments.weights.as_ref().filter(|weights| weights.len() != arguments.groups.len()) {
        let (weights, groups) = (weights.len(), arguments.groups.len());
        return Err(Exit::Usage(format!("--weights has {weights} numbers for {groups} groups; write one for each")));
    }
    let numbers = arguments.weights.iter().flatten().chain(&arguments.confidence);
    if let Some(number) = numbers.into_iter().find(|number| !number.is_finite()) {
        return Err(Exit::Usage(format!("`{number}` is no number that could be asked with")));
    }
    for (at, argument) in arguments.groups.iter().enumerate() {
        let (name, (text, r#where)) = named_expression(argument)?;
        let weight = arguments.weights.as_ref().map(|weights| weights[at]);
        groups.push(GroupRequest { name, r#where, weight });
        texts.push(text);
    }
    let request = ExperimentRequest {
        groups,
        control: None,
        metrics: arguments.metrics.iter().map(|text| metric(text)).collect(),
        within: arguments.within.clone(),
        confidence: arguments.confidence,
        timeout_ms: None,
    };
    let answer = match arguments.target.asker()?.experiment(&request) {
        Ok(answer) => answer,
        Err(failure) => {
            let meant = |at: &usize| failure.pointer.as_deref() == Some(&*format!("/groups/{at}/where"));
            let text = (0..texts.len()).find(meant).map(|at| texts[at].clone());
            about(&text.unwrap_or_default(), Err(failure))?
        }
    };
    let several = match answer.in_several {
        0 => String::new(),
        users => format!("{} users in several groups left out, ", output::grouped(users)),
    };
    let ratio = match &answer.sample_ratio {
        Some(ratio) if ratio.mismatch => format!(
            "groups have other sizes than were planned (p = {:.2e}): differences may come of what put users into them, ",
            ratio.p_value
        ),
        _ => String::new(),
    };
    let footer = format!("{ratio}{several}{}", footer(answer.epoch, answer.elapsed_us, None));
    output::print(arguments.output, &answer, table, &footer)
}

/// Reads `purchase`, `users of purchase`, `events of purchase where …` or `sum(amount) of purchase`.
fn metric(text: &str) -> MetricRequest {
    let trimmed = text.trim();
    let sum = || {
        let (column, rest) = trimmed.strip_prefix("sum(")?.split_once(')')?;
        Some((Measure::Sum, Some(column.trim().to_owned()), rest.trim_start().strip_prefix("of ")?))
    };
    let plain =
        |word: &str, measure| Some((measure, None, trimmed.strip_prefix(word)?.trim_start().strip_prefix("of ")?));
    let told = sum().or_else(|| plain("events ", Measure::Events)).or_else(|| plain("users ", Measure::Users));
    let (measure, value, events) = told.unwrap_or((Measure::Users, None, trimmed));
    let step = step(events);
    MetricRequest { fact: step.fact, r#where: step.r#where, name: None, measure, value }
}

/// A row a metric and group.
fn table(answer: &ExperimentAnswer) -> Table {
    let columns = vec![
        "metric",
        "group",
        "users",
        "with_any",
        "mean",
        "difference",
        "relative",
        "low",
        "high",
        "p_value",
        "q_value",
    ];
    let users = |name: &str| answer.groups.iter().find(|group| group.name == name).map_or(0, |group| group.users);
    let cell = |number: Option<f64>| number.map_or(Cell::Text(String::new()), Cell::from);
    let mut rows = Vec::new();
    for metric in &answer.metrics {
        for read in &metric.groups {
            let of =
                |interval: &Option<IntervalAnswer>, number: fn(&IntervalAnswer) -> f64| interval.as_ref().map(number);
            rows.push(vec![
                metric.metric.as_str().into(),
                read.group.as_str().into(),
                users(&read.group).into(),
                read.users.into(),
                read.mean.into(),
                cell(of(&read.difference, |interval| interval.estimate)),
                cell(of(&read.relative, |interval| interval.estimate)),
                cell(of(&read.difference, |interval| interval.low)),
                cell(of(&read.difference, |interval| interval.high)),
                cell(read.p_value),
                cell(read.q_value),
            ]);
        }
    }
    Table { columns, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let told = |text: &str| {
            let MetricRequest { fact, r#where, measure, value, .. } = metric(text);
            (fact, r#where, measure, value)
        };
        let purchase = || "purchase".to_owned();
        assert_eq!(told("purchase"), (purchase(), None, Measure::Users, None));
        assert_eq!(told("users of purchase"), (purchase(), None, Measure::Users, None));
        let condition = Some("amount > 2".to_owned());
        assert_eq!(told("events of purchase where amount > 2"), (purchase(), condition, Measure::Events, None));
        assert_eq!(told("sum( amount ) of purchase"), (purchase(), None, Measure::Sum, Some("amount".to_owned())));
    }
}
