//! Behaviour on plain lists of events.

use super::{Random, User};
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::literal::{decimal, timestamp};
use crate::audience::predicate::{self, Selection};
use crate::behavior::calendar::Date;
use crate::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use crate::ids::TagId;
use crate::update::{EventHead, UpdateBatch, Value};

/// The present: 2026-11-20T10:00:00Z, in microseconds since 1970.
pub const NOW: i64 = 1_795_168_800_000_000;
const HOUR: i64 = 3_600_000_000;
const RETENTION_DAYS: i64 = 70;

/// A purchase of [`super::sample_catalog`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since 1970.
    pub ts: i64,
    /// Dimension.
    pub category: Option<String>,
    /// Dimension.
    pub level: Option<i64>,
    /// Dimension.
    pub gift: Option<bool>,
    /// Measure, in hundredths.
    pub amount: Option<i64>,
}

/// A fact whose clocks are half an hour off, and were put forward by another hour ten days ago.
pub(super) fn sample_fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId(0),
        columns: vec![
            column("category", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
            column("gift", ColumnType::Boolean),
            column("level", ColumnType::Integer),
        ],
        activity: Activity { dimensions: vec![0, 3, 2], measures: vec![1] },
        retention_days: Some(RETENTION_DAYS as u32),
        deduplicate_days: None,
        zone: Zone::new("Test/Odd", 19_800, vec![(NOW / 1_000_000 - 864_000, 23_400)]),
    }
}

impl Event {
    /// Appends it to the user begun last.
    pub fn push(&self, fact: TagId, batch: &mut UpdateBatch) {
        let values = [
            self.category.as_deref().map_or(Value::Null, Value::Text),
            self.amount.map_or(Value::Null, Value::Integer),
            self.gift.map_or(Value::Null, Value::Boolean),
            self.level.map_or(Value::Null, Value::Integer),
        ];
        batch.push_event(fact, &EventHead { ts: self.ts, ..EventHead::default() }, &values);
    }

    fn local_day(&self) -> i64 {
        local_hour(self.ts).div_euclid(24)
    }

    fn text(&self, column: &str) -> Option<String> {
        match column {
            "category" => self.category.clone(),
            "level" => self.level.map(|level| level.to_string()),
            "gift" => self.gift.map(|gift| gift.to_string()),
            other => panic!("no dimension {other}"),
        }
    }

    /// What SQL says of a condition for this event.
    fn truth(&self, condition: &Expr) -> Option<bool> {
        let inner = |condition: &Expr| self.truth(condition);
        let text = |literal: &Literal| match literal {
            Literal::Text(text) | Literal::Number(text) => text.clone(),
            Literal::Bool(value) => value.to_string(),
        };
        match &condition.kind {
            ExprKind::Flag(column) => self.text(column).map(|text| text == "true"),
            ExprKind::Compare { tag, op, value } if tag == "ts" => Some(compare_time(local_hour(self.ts), *op, value)),
            ExprKind::Between { tag, low, high, .. } if tag == "ts" => {
                let hour = local_hour(self.ts);
                Some(
                    compare_time(hour, CompareOp::GreaterOrEqual, low)
                        && compare_time(hour, CompareOp::LessOrEqual, high),
                )
            }
            ExprKind::Compare { tag, op, value } => {
                self.text(tag).map(|own| (own == text(value)) == (*op == CompareOp::Equal))
            }
            ExprKind::In { tag, values, negated } => {
                self.text(tag).map(|own| values.iter().any(|value| text(value) == own) != *negated)
            }
            ExprKind::IsNull { tag, negated } => Some(self.text(tag).is_none() != *negated),
            ExprKind::Not(of) => inner(of).map(|value| !value),
            ExprKind::Or(of) => {
                let each: Vec<Option<bool>> = of.iter().map(inner).collect();
                if each.contains(&Some(true)) {
                    Some(true)
                } else {
                    each.into_iter().collect::<Option<Vec<_>>>().map(|_| false)
                }
            }
            other => panic!("{other:?} is not drawn"),
        }
    }
}

fn local_hour(ts: i64) -> i64 {
    let offset = if ts >= NOW - 864_000_000_000 { 23_400 } else { 19_800 };
    (ts + offset * 1_000_000).div_euclid(HOUR)
}

/// Hours since 1970 that a literal stands for, `from..to`.
fn moment(literal: &Literal) -> (i64, i64) {
    let Literal::Text(text) = literal else { panic!("a time is text") };
    let now = local_hour(NOW);
    if let Some((count, unit)) = text.strip_suffix(" ago").and_then(|ago| ago.split_once(' ')) {
        let count: i64 = count.parse().expect("a number");
        let day = now.div_euclid(24) - count;
        return if unit == "hours" { (now - count, now - count + 1) } else { (day * 24, day * 24 + 24) };
    }
    let day = timestamp(text).and_then(|exact| exact.number()).expect("a date") / HOUR;
    (day, day + 24)
}

fn compare_time(hour: i64, op: CompareOp, literal: &Literal) -> bool {
    let (from, to) = moment(literal);
    match op {
        CompareOp::Less => hour < from,
        CompareOp::LessOrEqual => hour < to,
        CompareOp::Greater => hour >= to,
        CompareOp::GreaterOrEqual => hour >= from,
        CompareOp::Equal => (from..to).contains(&hour),
        CompareOp::NotEqual => !(from..to).contains(&hour),
        other => panic!("{other} is not drawn"),
    }
}

/// Whether the user's purchases come to what is asked.
pub(super) fn did(did: &Did, user: &User) -> bool {
    let today = local_hour(NOW).div_euclid(24);
    let is_within = |event: &Event| {
        let Some((count, unit)) = did.within.as_deref().and_then(|within| within.split_once(' ')) else { return true };
        let count: i64 = count.parse().expect("a number");
        let hour = local_hour(event.ts);
        match unit {
            "hours" => hour > local_hour(NOW) - count && hour <= local_hour(NOW),
            _ => event.local_day() > today - count && event.local_day() <= today,
        }
    };
    let meant: Vec<&Event> = user
        .events
        .iter()
        .filter(|event| event.local_day() >= today - RETENTION_DAYS && is_within(event))
        .filter(|event| did.events.iter().all(|condition| event.truth(condition) == Some(true)))
        .collect();
    match did.figures.as_slice() {
        [] => !meant.is_empty(),
        figures => figures.iter().all(|test| figure_fits(test, &meant)),
    }
}

fn figure_fits(test: &FigureTest, events: &[&Event]) -> bool {
    let hours = events.iter().map(|event| local_hour(event.ts));
    type Compare<'c> = Box<dyn Fn(CompareOp, &Literal) -> bool + 'c>;
    let compare: Compare<'_> = match &test.figure {
        Figure::Count => Box::new(move |op, value| compare_number(events.len() as i128, op, value, 0)),
        Figure::Sum(_) if events.is_empty() => return false,
        Figure::Sum(_) => {
            let sum: i128 = events.iter().filter_map(|event| event.amount).map(i128::from).sum();
            Box::new(move |op, value| compare_number(sum, op, value, 2))
        }
        Figure::First | Figure::Last => {
            let end = if test.figure == Figure::First { hours.min() } else { hours.max() };
            let Some(end) = end else { return false };
            Box::new(move |op, value| compare_time(end, op, value))
        }
    };
    match &test.test {
        Test::Compare(op, value) => compare(*op, value),
        Test::Between { low, high, negated } => {
            (compare(CompareOp::GreaterOrEqual, low) && compare(CompareOp::LessOrEqual, high)) != *negated
        }
    }
}

fn compare_number(own: i128, op: CompareOp, value: &Literal, scale: u8) -> bool {
    let Literal::Number(digits) = value else { panic!("a number") };
    // Twice as fine, so that what lies between two numbers is a number.
    let other = decimal(digits, scale + 1).expect("a number");
    assert!(other.exact, "drawn with one digit more at most");
    let order = (own * 10).cmp(&other.floor);
    match op {
        CompareOp::Less => order.is_lt(),
        CompareOp::LessOrEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterOrEqual => order.is_ge(),
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        other => panic!("{other} is not drawn"),
    }
}

/// Whether a bound condition holds of the user.
pub(super) fn fits(did: &predicate::Did, user: &User, catalog: &Catalog) -> bool {
    let fact = catalog.fact_of(did.fact).expect("a declared fact");
    let is_meant = |event: &&Event| {
        let hour = local_hour(event.ts) as i32;
        let value = |dimension: &u16| {
            let column = fact.activity.dimensions[usize::from(*dimension)];
            event.text(&fact.columns[usize::from(column)].name)
        };
        let is_chosen = match &did.of {
            Selection::All => true,
            Selection::Values(dimension, values) => value(dimension).is_some_and(|own| values.contains(&own)),
            Selection::Others(dimension, values) => value(dimension).is_some_and(|own| !values.contains(&own)),
        };
        is_chosen && did.window.from <= hour && hour < did.window.to
    };
    let meant = user.events.iter().filter(is_meant);
    let sum = match did.figure {
        0 => meant.count() as i128,
        _ => meant.filter_map(|event| event.amount).map(i128::from).sum(),
    };
    sum >= did.range.min.into() && sum <= did.range.max.into()
}

const CATEGORIES: [&str; 4] = ["shoes", "hats", "it's", ""];

impl Random {
    /// A purchase of the last months, more likely of the last days.
    pub fn event(&mut self) -> Event {
        let hours = if self.one_in(2) { self.below(80) } else { self.below(24 * 80) };
        Event {
            ts: NOW - hours as i64 * HOUR - self.below(HOUR as u64) as i64,
            category: (!self.one_in(5)).then(|| self.of(&CATEGORIES).to_owned()),
            level: (!self.one_in(5)).then(|| self.below(3) as i64 - 1),
            gift: (!self.one_in(5)).then(|| self.one_in(2)),
            amount: (!self.one_in(5)).then(|| self.below(400) as i64 - 150),
        }
    }

    /// A condition on purchases.
    pub(super) fn did(&mut self) -> Did {
        let mut did = Did { fact: "purchase".to_owned(), events: Vec::new(), figures: Vec::new(), within: None };
        if self.one_in(2) {
            did.events.push(self.event_condition());
        }
        if self.one_in(4) {
            let (tag, op) = ("ts".to_owned(), self.order());
            did.events.push(ExprKind::Compare { tag, op, value: self.date() }.into());
        }
        if self.one_in(2) {
            did.within = Some(if self.one_in(3) {
                format!("{} hours", 1 + self.below(48))
            } else {
                format!("{} days", 1 + self.below(70))
            });
        }
        for _ in 0..self.below(3) {
            let figure = self.figure_test();
            did.figures.push(figure);
        }
        did
    }

    fn event_condition(&mut self) -> Expr {
        let category = || "category".to_owned();
        let text = |random: &mut Random| Literal::Text(random.of(&CATEGORIES).to_owned());
        match self.below(7) {
            0 => ExprKind::Flag("gift".to_owned()).into(),
            1 => {
                let op = if self.one_in(2) { CompareOp::Equal } else { CompareOp::NotEqual };
                ExprKind::Compare {
                    tag: "level".to_owned(),
                    op,
                    value: Literal::Number((self.below(3) as i64 - 1).to_string()),
                }
                .into()
            }
            2 => ExprKind::Not(Box::new(
                ExprKind::Compare { tag: category(), op: CompareOp::Equal, value: text(self) }.into(),
            ))
            .into(),
            3 => ExprKind::IsNull { tag: category(), negated: true }.into(),
            4 => {
                let values = (0..1 + self.below(3)).map(|_| text(self)).collect();
                ExprKind::In { tag: category(), values, negated: self.one_in(3) }.into()
            }
            5 => {
                let values = vec![text(self), text(self)];
                ExprKind::Or(vec![
                    ExprKind::In { tag: category(), values, negated: self.one_in(2) }.into(),
                    ExprKind::Compare { tag: category(), op: CompareOp::Equal, value: text(self) }.into(),
                ])
                .into()
            }
            _ => ExprKind::Compare { tag: category(), op: CompareOp::Equal, value: text(self) }.into(),
        }
    }

    fn figure_test(&mut self) -> FigureTest {
        let negated = self.one_in(4);
        let op =
            if self.one_in(4) { if negated { CompareOp::NotEqual } else { CompareOp::Equal } } else { self.order() };
        let figure = match self.below(8) {
            0..=3 => Figure::Count,
            4 | 5 => Figure::Sum("amount".to_owned()),
            6 => Figure::First,
            _ => Figure::Last,
        };
        let literal = |random: &mut Random| match figure {
            Figure::Count => Literal::Number((random.below(6) as i64 - 1).to_string()),
            Figure::Sum(_) => Literal::Number(format!(
                "{}{}.{:02}",
                if random.one_in(3) { "-" } else { "" },
                random.below(4),
                random.below(100)
            )),
            _ => random.date(),
        };
        let test = if self.one_in(4) {
            Test::Between { low: literal(self), high: literal(self), negated }
        } else {
            Test::Compare(op, literal(self))
        };
        FigureTest { figure, test }
    }

    fn order(&mut self) -> CompareOp {
        use CompareOp::{Greater, GreaterOrEqual, Less, LessOrEqual};
        [Less, LessOrEqual, Greater, GreaterOrEqual][self.below(4) as usize]
    }

    fn date(&mut self) -> Literal {
        Literal::Text(match self.below(3) {
            0 => format!("{} days ago", 1 + self.below(70)),
            1 => format!("{} hours ago", 1 + self.below(40)),
            _ => Date::of(local_hour(NOW).div_euclid(24) - self.below(80) as i64).to_string(),
        })
    }
}
