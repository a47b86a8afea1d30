//! Whether a record is wanted: one condition on one field.

use super::definition::{Comparison, Test};
use super::find::{Findings, Found, Slot};
use super::number;
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind};
use std::cmp::Ordering;

/// A condition that was checked.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Where it stands in the definition, and its path: for messages.
    place: String,
    path: String,
    slot: Slot,
    test: Checked,
}

#[derive(Clone, Debug)]
enum Checked {
    /// It is one of these, or none of them.
    Listed {
        values: Values,
        wanted: bool,
    },
    Exists(bool),
    IsNull(bool),
    Compare(Comparison, Bound),
}

/// What a value is compared with: text without its quotes, or a number as written.
#[derive(Clone, Debug)]
enum Bound {
    Text(String),
    Number(String),
}

/// A set of values.
#[derive(Clone, Debug, Default)]
struct Values {
    /// In order.
    texts: Vec<String>,
    /// In order of their values.
    numbers: Vec<String>,
    booleans: [bool; 2],
}

/// A value of a condition.
enum Constant {
    Text(String),
    Number(String),
    Boolean(bool),
}

impl Filter {
    /// # Errors
    /// What is wrong with the test's values and what to write instead.
    pub(super) fn new(place: String, path: &str, slot: Slot, test: &Test) -> Result<Filter, LineError> {
        let listed = |values: &[String], wanted| Ok(Checked::Listed { values: Values::of(values)?, wanted });
        let test = match test {
            Test::Equals(value) => listed(std::slice::from_ref(value), true)?,
            Test::NotEquals(value) => listed(std::slice::from_ref(value), false)?,
            Test::In(values) => listed(values, true)?,
            Test::NotIn(values) => listed(values, false)?,
            Test::Exists(wanted) => Checked::Exists(*wanted),
            Test::IsNull(wanted) => Checked::IsNull(*wanted),
            Test::Compare(comparison, value) => match Constant::of(value)? {
                Constant::Text(text) => Checked::Compare(*comparison, Bound::Text(text)),
                Constant::Number(number) => Checked::Compare(*comparison, Bound::Number(number)),
                Constant::Boolean(_) => {
                    let error = refuse("true and false have no order".to_owned());
                    return Err(error.suggest("compare with a number or a string, or say which value it equals"));
                }
            },
        };
        Ok(Filter { place, path: path.to_owned(), slot, test })
    }

    /// Whether the record passes.
    pub(super) fn holds(&self, findings: &Findings<'_>, scratch: &mut String) -> Result<bool, LineError> {
        let found = findings.get(self.slot);
        let value = found.filter(|found| found.kind != Kind::Null);
        match &self.test {
            Checked::Exists(wanted) => Ok(found.is_some() == *wanted),
            Checked::IsNull(wanted) => Ok(value.is_none() == *wanted),
            Checked::Listed { values, wanted } => match value {
                Some(value) => Ok(values.contain(value, scratch)? == *wanted),
                None => Ok(!wanted),
            },
            Checked::Compare(comparison, bound) => match value {
                Some(value) => Ok(comparison.takes(self.compare(value, bound, scratch)?)),
                None => Ok(false),
            },
        }
    }

    fn compare(&self, value: Found<'_>, bound: &Bound, scratch: &mut String) -> Result<Ordering, LineError> {
        let (noun, bound) = match (value.kind, bound) {
            (Kind::Number, Bound::Number(bound)) => return Ok(number::compare(value.text, bound)),
            (Kind::String, Bound::Text(bound)) => {
                return Ok(Json::new(value.text, 0).string(scratch)?.cmp(bound.as_str()));
            }
            (_, Bound::Number(bound)) => ("a number", bound),
            (_, Bound::Text(bound)) => ("a string", bound),
        };
        let Filter { place, path, .. } = self;
        let message = format!("`{place}`: `{path}` is {}, and `{bound}` {noun}", value.kind.noun());
        let error = LineError::new(LineErrorKind::Type, message);
        let error = error.suggest(format!("compare a field that is {noun} in every record that has it"));
        Err(match value.at {
            Some(at) => error.at(at),
            None => error,
        })
    }
}

impl Comparison {
    fn takes(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Values {
    fn of(values: &[String]) -> Result<Values, LineError> {
        if values.is_empty() {
            return Err(refuse("a list without values".to_owned()).suggest("write at least one, as in [paid, shipped]"));
        }
        let mut set = Values::default();
        for value in values {
            match Constant::of(value)? {
                Constant::Text(text) => set.texts.push(text),
                Constant::Number(number) => set.numbers.push(number),
                Constant::Boolean(value) => set.booleans[usize::from(value)] = true,
            }
        }
        set.texts.sort_unstable();
        set.numbers.sort_unstable_by(|a, b| number::compare(a, b));
        Ok(set)
    }

    fn contain(&self, value: Found<'_>, scratch: &mut String) -> Result<bool, LineError> {
        let mut json = Json::new(value.text, 0);
        Ok(match value.kind {
            Kind::String => {
                let text = json.string(scratch)?;
                self.texts.binary_search_by(|known| known.as_str().cmp(text)).is_ok()
            }
            Kind::Number => self.numbers.binary_search_by(|known| number::compare(known, value.text)).is_ok(),
            Kind::Bool => json.word()?.is_some_and(|value| self.booleans[usize::from(value)]),
            Kind::Null | Kind::Array | Kind::Object => false,
        })
    }
}

impl Constant {
    fn of(value: &str) -> Result<Constant, LineError> {
        let mut json = Json::new(value, 0);
        let constant = match json.kind()? {
            Kind::String => {
                let mut text = String::new();
                json.push_string(&mut text)?;
                Constant::Text(text)
            }
            Kind::Number => Constant::Number(json.number()?.to_owned()),
            Kind::Bool => Constant::Boolean(json.word()?.unwrap_or(false)),
            Kind::Null => {
                return Err(refuse("null equals nothing".to_owned()).suggest("ask whether the field `is_null`"));
            }
            kind @ (Kind::Array | Kind::Object) => {
                return Err(refuse(format!("a field cannot be compared with {}", kind.noun()))
                    .suggest("write a string, a number, true or false"));
            }
        };
        json.end()?;
        Ok(constant)
    }
}

fn refuse(what: String) -> LineError {
    LineError::new(LineErrorKind::Syntax, what)
}
