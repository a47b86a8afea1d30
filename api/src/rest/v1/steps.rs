//! Events that somebody means, one by one: a step of a funnel, a visit that counts as coming back, pages and campaigns.

use crate::error::{Failure, Kind};
use crate::queries::begin_of;
use engine::audience::expr::{Did, Expr, ExprKind, Literal};
use engine::audience::ops::KindMeant;
use engine::audience::scan::{EventValue, EventsMeant};
use engine::audience::suggest::closest;
use engine::audience::{bind_events, parse_event};
use engine::catalog::{Catalog, Column, ColumnType, Fact};
use engine::clock::Clock;
use engine::ids::TagId;
use engine::journey::CONDITIONS_MAX;
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};

/// Events of a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"fact": "purchase", "where": "category = 'shoes' AND amount >= 20"}))]
pub struct Step {
    /// The fact.
    pub fact: String,
    /// Which of its events: a condition on its columns and its time `ts`, as it stands in `did(…)`; all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// What it is called in the answer; what it means, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Step {
    /// What it means now; `within` is the time up to now that counts, as `30 days`, and `pointer` where the step stands in the body.
    ///
    /// # Errors
    /// As of an expression, with span or pointer.
    pub(super) fn bind(
        &self,
        catalog: &Catalog,
        within: Option<&String>,
        now: i64,
        pointer: &str,
    ) -> Result<EventsMeant, Failure> {
        self.bind_between(catalog, within, None, now, pointer)
    }

    /// The same; `between` are the first and the last time that count, as conditions on `ts` name them.
    ///
    /// # Errors
    /// As [`Step::bind`].
    pub(super) fn bind_between(
        &self,
        catalog: &Catalog,
        within: Option<&String>,
        between: Option<&[String; 2]>,
        now: i64,
        pointer: &str,
    ) -> Result<EventsMeant, Failure> {
        let at_where = format!("{pointer}/where");
        let condition = self.r#where.as_ref().map(|text| parse_event(text)).transpose();
        let condition = condition.map_err(|error| Failure::from(error).at(&*at_where))?;
        let between = between.map(|times| {
            let [low, high] = times.clone().map(Literal::Text);
            Expr::from(ExprKind::Between { tag: "ts".to_owned(), low, high, negated: false })
        });
        let did =
            |events, within| Did { fact: self.fact.clone(), events, figures: Vec::new(), within, exact_window: false };
        let bind = |did: &Did| bind_events(did, catalog, now);
        // What is wrong is told where it stands.
        bind(&did(Vec::new(), None)).map_err(|error| Failure::from(error).at(format!("{pointer}/fact")))?;
        bind(&did(Vec::new(), within.cloned())).map_err(|error| Failure::from(error).at("/within"))?;
        if let Some(between) = &between {
            bind(&did(vec![between.clone()], None)).map_err(|error| Failure::from(error).at("/between"))?;
        }
        bind(&did(condition.into_iter().chain(between).collect(), within.cloned()))
            .map_err(|error| Failure::from(error).at(at_where))
    }

    /// Its name, or what it means.
    pub(super) fn told(&self) -> String {
        match (&self.name, &self.r#where) {
            (Some(name), _) => name.clone(),
            (None, Some(condition)) => begin_of(&format!("{} where {condition}", self.fact)),
            (None, None) => self.fact.clone(),
        }
    }
}

/// What steps of a body mean now, as [`Step::bind`] tells of each.
///
/// # Errors
/// As [`Step::bind`].
pub(super) fn bound(steps: &[Step], catalog: &Catalog, within: Option<&String>) -> Result<Vec<EventsMeant>, Failure> {
    let now = SystemClock.now();
    let steps = steps.iter().enumerate();
    steps.map(|(at, step)| step.bind(catalog, within, now, &format!("/steps/{at}"))).collect()
}

/// The names of steps in a line.
pub(super) fn told(steps: &[Step], between: &str) -> String {
    let names: Vec<String> = steps.iter().take(CONDITIONS_MAX).map(|step| begin_of(&step.told())).collect();
    begin_of(&names.join(between))
}

/// Events of a fact, maybe told apart by the values of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"fact": "visit", "by": "page"}))]
pub struct ValuedStep {
    /// The fact.
    pub fact: String,
    /// Which of its events: a condition on its columns and its time `ts`, as it stands in `did(…)`; all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// What it is called in the answer; what it means, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Each value of this column for itself: a string, an integer or a boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl ValuedStep {
    /// As [`Step::bind`].
    ///
    /// # Errors
    /// As [`Step::bind`], and if the column is none to tell events apart by.
    pub(super) fn bind(
        &self,
        catalog: &Catalog,
        within: Option<&String>,
        now: i64,
        pointer: &str,
    ) -> Result<KindMeant, Failure> {
        let events = self.bind_events(catalog, within, None, now, pointer)?;
        let by = |name: &String| column_by(catalog, events.fact, name, &format!("{pointer}/by"));
        let column = self.by.as_ref().map(by).transpose()?;
        Ok(KindMeant { events, column })
    }

    /// Its events, whatever tells them apart; as [`Step::bind_between`].
    ///
    /// # Errors
    /// As [`Step::bind`].
    pub(super) fn bind_events(
        &self,
        catalog: &Catalog,
        within: Option<&String>,
        between: Option<&[String; 2]>,
        now: i64,
        pointer: &str,
    ) -> Result<EventsMeant, Failure> {
        self.step().bind_between(catalog, within, between, now, pointer)
    }

    /// Its name, or what it means, without the column.
    pub(super) fn told(&self) -> String {
        self.step().told()
    }

    fn step(&self) -> Step {
        Step { fact: self.fact.clone(), r#where: self.r#where.clone(), name: self.name.clone() }
    }
}

/// The place of a column that tells events apart.
pub(super) fn column_by(catalog: &Catalog, fact: TagId, name: &str, pointer: &str) -> Result<u16, Failure> {
    let (place, column) = column(catalog, fact, name, pointer)?;
    if !column.column_type.can_be_dimension() {
        let detail = format!("`{name}` is a {}, and events are told apart by values", column.column_type);
        let failure = Failure::new(Kind::InvalidField, detail).at(pointer);
        return Err(failure.suggest("name a string, an integer or a boolean; conditions make groups of other columns"));
    }
    Ok(place)
}

/// The place of a column of a fact, and what it is.
pub(super) fn column<'c>(
    catalog: &'c Catalog,
    fact: TagId,
    name: &str,
    pointer: &str,
) -> Result<(u16, &'c Column), Failure> {
    let known: &[Column] = catalog.fact_of(fact).map_or(&[], |fact: &Fact| &fact.columns);
    let place = known.iter().position(|column| column.name == name);
    let found = place.and_then(|place| Some((u16::try_from(place).ok()?, &known[place])));
    found.ok_or_else(|| {
        let fact = catalog.name_of(fact).unwrap_or_default();
        let failure = Failure::new(Kind::InvalidField, format!("`{fact}` has no column `{name}`")).at(pointer);
        match closest(name, known.iter().map(|column| column.name.as_str())) {
            Some(near) => failure.suggest(format!("did you mean `{near}`?")),
            None => failure.suggest("GET /v1/catalog lists the columns"),
        }
    })
}

/// The place of a column of a fact whose values can be added up.
pub(super) fn number_column(catalog: &Catalog, fact: TagId, name: &str, pointer: &str) -> Result<u16, Failure> {
    let (place, column) = column(catalog, fact, name, pointer)?;
    let column_type = column.column_type;
    if !column_type.can_be_measure() && column_type != ColumnType::Float {
        let detail = format!("`{name}` is a {column_type}, and its values are added up");
        return Err(Failure::field(pointer, detail).suggest("name an integer, a decimal or a float"));
    }
    Ok(place)
}

/// A value as text; `None` if there is none.
pub(super) fn value_text(value: &EventValue) -> Option<String> {
    match value {
        EventValue::None => None,
        EventValue::Text(text) => Some(text.to_string()),
        EventValue::Number(number) => Some(number.to_string()),
        EventValue::Flag(flag) => Some(flag.to_string()),
    }
}

/// Reads `7 days`, in microseconds.
pub(super) fn length_of_time(text: &str, pointer: &str) -> Result<i64, Failure> {
    let mut words = text.split_whitespace();
    let second: i64 = 1_000_000;
    let read = (|| {
        let (count, unit) = (words.next()?, words.next()?);
        let count: i64 = count.parse().ok().filter(|count| *count >= 0 && words.next().is_none())?;
        let unit = unit.to_ascii_lowercase();
        let micros = match unit.strip_suffix('s').unwrap_or(&unit) {
            "second" => second,
            "minute" => 60 * second,
            "hour" => 3_600 * second,
            "day" => 86_400 * second,
            "week" => 7 * 86_400 * second,
            _ => return None,
        };
        count.checked_mul(micros)
    })();
    read.ok_or_else(|| {
        let failure = Failure::new(Kind::InvalidField, format!("`{text}` is not a length of time")).at(pointer);
        failure.suggest("write `30 minutes`, `24 hours`, `7 days` or `2 weeks`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_lengths_of_time() {
        let read = |text: &str| length_of_time(text, "/window").ok();
        assert_eq!(read("30 minutes"), Some(1_800_000_000));
        assert_eq!(read("1 Day"), Some(86_400_000_000));
        assert_eq!(read("0 seconds"), Some(0));
        for wrong in ["", "7", "days", "-1 days", "7 days ago", "3 months", "9223372036854775807 weeks"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
