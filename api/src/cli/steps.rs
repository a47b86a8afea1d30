//! What `beluga funnel`, `beluga sequence`, `beluga retention`, `beluga path`, `beluga attribution` and `beluga effect` have in common: events of a fact as an argument, `purchase`,
//! `purchase where amount >= 20` or `visit by page`, of whom is asked, and what was kept.

use super::Exit;
use super::output::{self, Cell, Table};
use super::target::{about, expression};
use crate::error::Failure;
use crate::rest::v1::expression::Where;
use crate::rest::v1::funnel::{SaveStep, StepAnswer};
use crate::rest::v1::keep::SavedUsers;
use crate::rest::v1::steps::{Step, ValuedStep};

/// Of whom is asked, as an argument.
#[derive(Debug, clap::Args)]
pub(super) struct OfWhom {
    /// Of the users that fit this expression
    #[arg(long = "where", value_name = "EXPR")]
    whom: Option<String>,
}

impl OfWhom {
    pub(super) fn read(&self) -> Result<Whom, Exit> {
        Ok(Whom(self.whom.as_deref().map(expression).transpose()?))
    }
}

/// As it was written, and what it is; everybody if it was not.
pub(super) struct Whom(Option<(String, Where)>);

impl Whom {
    pub(super) fn expression(&self) -> Option<Where> {
        self.0.as_ref().map(|(_, whom)| whom.clone())
    }

    /// The answer; a failure that is about this expression points into it.
    pub(super) fn answered<T>(&self, answer: Result<T, Failure>) -> Result<T, Exit> {
        match (answer, &self.0) {
            (Err(failure), Some((text, _))) if failure.pointer.as_deref() == Some("/where") => {
                about(text, Err(failure))
            }
            (answer, _) => Ok(answer?),
        }
    }
}

/// Who is kept as an audience.
#[derive(Debug, clap::Args)]
pub(super) struct Keep {
    /// Keep users as an audience of this name: those who did all up to `--step`
    #[arg(long, value_name = "NAME", requires = "step")]
    save_as: Option<String>,
    /// Which step, counted from 1
    #[arg(long, value_name = "N", requires = "save_as")]
    step: Option<usize>,
    /// Keep those who did not do the next step
    #[arg(long, requires = "save_as")]
    stopped: bool,
}

impl Keep {
    pub(super) fn save_as(&self) -> Option<SaveStep> {
        let (audience, step) = self.save_as.clone().zip(self.step)?;
        Some(SaveStep { audience, step, stopped: self.stopped })
    }
}

/// A row a step: its name, its users, and of them who stopped there.
pub(super) fn steps_table(steps: &[StepAnswer]) -> Table {
    let share = |share: Option<f64>| share.map_or(Cell::Text(String::new()), Cell::from);
    let row = |step: &StepAnswer| {
        vec![
            step.name.as_str().into(),
            step.users.into(),
            share(step.of_first),
            share(step.of_previous),
            step.stopped.into(),
        ]
    };
    let columns = vec!["step", "users", "of_first", "of_previous", "stopped"];
    Table { columns, rows: steps.iter().map(row).collect() }
}

/// The line below a table.
pub(super) fn footer(epoch: u64, elapsed_us: u64, saved: Option<&SavedUsers>) -> String {
    let saved = saved.map_or_else(String::new, |saved| {
        format!(", {} users kept as `{}`", output::grouped(saved.users), saved.audience)
    });
    format!("epoch {epoch}, {}{saved}", output::duration(elapsed_us))
}

/// Reads it.
pub(super) fn step(text: &str) -> Step {
    let words = || text.split_inclusive(char::is_whitespace);
    let condition_at = words().position(|word| word.trim_end().eq_ignore_ascii_case("where"));
    let (fact, condition) = match condition_at {
        Some(at) => (words().take(at).collect::<String>(), Some(words().skip(at + 1).collect::<String>())),
        None => (text.to_owned(), None),
    };
    Step { fact: fact.trim().to_owned(), r#where: condition.map(|text| text.trim().to_owned()), name: None }
}

/// Reads it with the column that tells its events apart.
pub(super) fn valued_step(text: &str) -> ValuedStep {
    let Step { fact, r#where, name } = step(text);
    let words: Vec<&str> = fact.split_whitespace().collect();
    let (fact, by) = match words[..] {
        [fact, by, column] if by.eq_ignore_ascii_case("by") => (fact.to_owned(), Some(column.to_owned())),
        _ => (fact, None),
    };
    ValuedStep { fact, r#where, name, by }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_and_a_condition() {
        let read = |text: &str| {
            let step = step(text);
            (step.fact, step.r#where)
        };
        assert_eq!(read("visit"), ("visit".to_owned(), None));
        let expected = ("purchase".to_owned(), Some("note = 'where it was'".to_owned()));
        assert_eq!(read("purchase where note = 'where it was'"), expected);
        assert_eq!(read(" purchase WHERE\nnote = 'where it was' "), expected);
        let step = valued_step("visit by page where ms > 3");
        assert_eq!((&*step.fact, step.by.as_deref(), step.r#where.as_deref()), ("visit", Some("page"), Some("ms > 3")));
        assert_eq!(valued_step("visit").by, None);
    }
}
