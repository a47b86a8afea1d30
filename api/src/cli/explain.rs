//! `beluga explain EXPR`, and of one user `beluga explain EXPR --user ID`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::target::{Target, about, expression};
use crate::rest::v1::explain::{ExplainAnswer, ExplainRequest, Node};
use crate::rest::v1::expression::Where;
use crate::rest::v1::judge::{JudgeAnswer, JudgeRequest, Reason};

/// Shows how a question is answered.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga explain \"gender = 'f' AND NOT age > 30\"\n  beluga explain \"gender = 'f' AND NOT age > 30\" --user u17\n  beluga explain --analyze \"gender = 'f' AND NOT age > 30\""
)]
pub(super) struct Arguments {
    /// The expression; `-` reads it from standard input
    #[arg(value_name = "EXPR")]
    expression: String,
    /// Run it as well, and measure
    #[arg(long)]
    analyze: bool,
    /// Tell why this user is in the audience or not, part by part
    #[arg(long, value_name = "ID", conflicts_with = "analyze")]
    user: Option<String>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (text, r#where) = expression(&arguments.expression)?;
    if let Some(user) = &arguments.user {
        return judge(arguments, user, &text, r#where);
    }
    let request = ExplainRequest { r#where, analyze: arguments.analyze, timeout_ms: None };
    let answer = about(&text, arguments.target.asker()?.explain(&request))?;
    if arguments.output == Output::Table {
        use std::io::Write;
        write!(std::io::stdout(), "{}\n{}", answer.r#where, answer.text)?;
        return Ok(());
    }
    output::print(arguments.output, &answer, table, "")
}

fn judge(arguments: &Arguments, user: &str, text: &str, r#where: Where) -> Result<(), Exit> {
    let request = JudgeRequest { r#where, timeout_ms: None };
    let answer = about(text, arguments.target.asker()?.judge(user, &request))?;
    if arguments.output == Output::Table {
        use std::io::Write;
        write!(std::io::stdout(), "{}", answer.text)?;
        return Ok(());
    }
    output::print(arguments.output, &answer, reasons, "")
}

fn reasons(answer: &JudgeAnswer) -> Table {
    fn add(reason: &Reason, depth: u64, rows: &mut Vec<Vec<Cell>>) {
        let truth = reason.truth.map_or(Cell::Empty, |truth| Cell::Text(truth.to_string()));
        let because = Some(reason.because()).filter(|because| !because.is_empty());
        rows.push(vec![
            depth.into(),
            reason.expression.as_str().into(),
            truth,
            because.map_or(Cell::Empty, Cell::Text),
        ]);
        reason.of.iter().for_each(|of| add(of, depth + 1, rows));
    }
    let mut rows = Vec::new();
    add(&answer.explanation, 0, &mut rows);
    Table { columns: vec!["depth", "expression", "truth", "because"], rows }
}

fn table(answer: &ExplainAnswer) -> Table {
    let mut rows = Vec::new();
    add(&answer.plan, 0, &mut rows);
    Table {
        columns: vec![
            "depth",
            "operator",
            "detail",
            "estimate",
            "members",
            "chunks_visited",
            "chunks_skipped",
            "bytes_touched",
            "elapsed_us",
        ],
        rows,
    }
}

fn add(node: &Node, depth: u64, rows: &mut Vec<Vec<Cell>>) {
    let actual = node.actual;
    rows.push(vec![
        depth.into(),
        node.operator.as_str().into(),
        node.detail.as_str().into(),
        node.estimate.into(),
        actual.map(|actual| actual.members).into(),
        actual.map(|actual| actual.chunks_visited).into(),
        actual.map(|actual| actual.chunks_skipped).into(),
        actual.map(|actual| actual.bytes_touched).into(),
        actual.map(|actual| actual.elapsed_us).into(),
    ]);
    node.inputs.iter().for_each(|input| add(input, depth + 1, rows));
}
