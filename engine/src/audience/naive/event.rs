//! Behaviour on plain lists of events.

mod draw;

use super::User;
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::literal::{decimal, timestamp};
use crate::audience::predicate::{self, Selection};
use crate::audience::scan::{
    self, EventCondition, EventField, EventScan, EventValue, Kind, KindScan, Scan, ScanFigure, TextOrder, float_key,
};
use crate::behavior::Window;
use crate::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use crate::ids::TagId;
use crate::update::{EventHead, UpdateBatch, Value};
use std::cmp::Ordering;

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
    /// Neither, a floating point number: in quarters.
    pub rating: Option<i64>,
    /// Not declared: `extra.Coupon`.
    pub coupon: Option<String>,
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
            column("rating", ColumnType::Float),
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
        self.push_as(fact, batch, "", false);
    }

    /// The same under an id, or takes back what came under it.
    pub fn push_as(&self, fact: TagId, batch: &mut UpdateBatch, event_id: &str, is_retraction: bool) {
        let values = [
            self.category.as_deref().map_or(Value::Null, Value::Text),
            self.amount.map_or(Value::Null, Value::Integer),
            self.gift.map_or(Value::Null, Value::Boolean),
            self.level.map_or(Value::Null, Value::Integer),
            self.rating.map_or(Value::Null, |quarters| Value::Float(quarters as f64 / 4.0)),
        ];
        let undeclared = match &self.coupon {
            Some(coupon) => format!("{{\"extra\":{{\"Coupon\":\"{coupon}\",\"n\":[1,2.5]}}}}"),
            None => String::new(),
        };
        let head = EventHead { ts: self.ts, is_retraction, event_id, undeclared: &undeclared };
        batch.push_event(fact, &head, &values);
    }

    /// The day by the clocks of its fact's zone, since 1970.
    pub fn local_day(&self) -> i64 {
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

    fn own(&self, column: &str) -> Option<Own> {
        match column {
            "category" => self.category.clone().map(Own::Text),
            "amount" => self.amount.map(|amount| Own::Number(amount, 2)),
            "gift" => self.gift.map(Own::Flag),
            "level" => self.level.map(|level| Own::Number(level, 0)),
            "rating" => self.rating.map(|quarters| Own::Float(quarters as f64 / 4.0)),
            COUPON => self.coupon.clone().map(Own::Text),
            "undeclared.extra.n.\"1\"" => self.coupon.as_ref().map(|_| Own::Float(2.5)),
            other => panic!("no column {other}"),
        }
    }

    /// The value by which it is told apart; none without a column.
    pub fn value(&self, column: Option<&str>) -> EventValue {
        match column.and_then(|column| self.own(column)) {
            None => EventValue::None,
            Some(Own::Text(text)) => EventValue::Text(text.into()),
            Some(Own::Number(number, _)) => EventValue::Number(number),
            Some(Own::Float(number)) => EventValue::Number(float_key(number)),
            Some(Own::Flag(flag)) => EventValue::Flag(flag),
        }
    }

    /// What SQL says of a condition for this event.
    #[expect(clippy::manual_try_fold, reason = "NULL does not end AND and OR: a later operand may settle them")]
    fn truth(&self, condition: &Expr) -> Option<bool> {
        let compare = |tag: &str, op: CompareOp, value: &Literal| match tag {
            "ts" => Some(compare_time(self.ts, op, value)),
            tag => self.own(tag)?.compare(op, value),
        };
        let inner = |condition: &Expr| self.truth(condition);
        match &condition.kind {
            ExprKind::Literal(value) => Some(*value),
            ExprKind::Flag(column) => compare(column, CompareOp::Equal, &Literal::Bool(true)),
            ExprKind::Compare { tag, op: CompareOp::IsDistinctFrom, value } => {
                Some(compare(tag, CompareOp::Equal, value) != Some(true))
            }
            ExprKind::Compare { tag, op: CompareOp::IsNotDistinctFrom, value } => {
                Some(compare(tag, CompareOp::Equal, value) == Some(true))
            }
            ExprKind::Compare { tag, op, value } => compare(tag, *op, value),
            ExprKind::Between { tag, low, high, negated } => {
                let above = compare(tag, CompareOp::GreaterOrEqual, low)?;
                Some((above && compare(tag, CompareOp::LessOrEqual, high)?) != *negated)
            }
            ExprKind::In { tag, values, negated } => {
                let equal: Option<Vec<bool>> =
                    values.iter().map(|value| compare(tag, CompareOp::Equal, value)).collect();
                Some(equal?.contains(&true) != *negated)
            }
            ExprKind::IsNull { tag, negated } => Some((tag != "ts" && self.own(tag).is_none()) != *negated),
            ExprKind::Not(of) => inner(of).map(|value| !value),
            ExprKind::And(of) => of.iter().map(inner).fold(Some(true), |all, one| match (all, one) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            }),
            ExprKind::Or(of) => of.iter().map(inner).fold(Some(false), |any, one| match (any, one) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            }),
            other => panic!("{other:?} is not drawn"),
        }
    }

    /// Whether a bound condition holds.
    fn fits(&self, condition: &EventCondition, fact: &Fact) -> bool {
        let own = |field: &EventField| match field {
            EventField::Time => panic!("the time is a number"),
            EventField::Column(at) => self.own(&fact.columns[usize::from(*at)].name),
            EventField::Path(_) => self.own(&field.name(fact)),
        };
        match condition {
            EventCondition::Any => true,
            EventCondition::Never => false,
            EventCondition::Hours(window) => {
                let hour = local_hour(self.ts);
                i64::from(window.from) <= hour && hour < window.to.into()
            }
            EventCondition::Known(field) => own(field).is_some(),
            EventCondition::IsTrue(field) => matches!(own(field), Some(Own::Flag(true))),
            EventCondition::InRange(EventField::Time, range) => range.contains(self.ts),
            EventCondition::InRange(field, range) => match own(field) {
                Some(Own::Number(number, _)) => range.contains(number),
                Some(Own::Float(number)) => range.contains(float_key(number)),
                _ => false,
            },
            EventCondition::NumberIn(EventField::Time, numbers) => numbers.contains(&self.ts),
            EventCondition::NumberIn(field, numbers) => match own(field) {
                Some(Own::Number(number, _)) => numbers.contains(&number),
                Some(Own::Float(number)) => numbers.contains(&float_key(number)),
                _ => false,
            },
            EventCondition::TextIn(field, texts) => matches!(own(field), Some(Own::Text(own)) if texts.contains(&own)),
            EventCondition::TextOrder(field, order, text) => match own(field) {
                Some(Own::Text(own)) => match order {
                    TextOrder::Less => own < *text,
                    TextOrder::LessOrEqual => own <= *text,
                    TextOrder::Greater => own > *text,
                    TextOrder::GreaterOrEqual => own >= *text,
                },
                _ => false,
            },
            EventCondition::And(of) => of.iter().all(|one| self.fits(one, fact)),
            EventCondition::Or(of) => of.iter().any(|one| self.fits(one, fact)),
            EventCondition::Not(of) => !self.fits(of, fact),
        }
    }
}

const COUPON: &str = "undeclared.extra.\"Coupon\"";

/// The value of a column; whole numbers with their scale.
enum Own {
    Text(String),
    Number(i64, u8),
    Float(f64),
    Flag(bool),
}

impl Own {
    /// `None`: they cannot be compared, as values in JSON of another kind.
    fn compare(&self, op: CompareOp, value: &Literal) -> Option<bool> {
        match (self, value) {
            (Own::Text(own), Literal::Text(text)) => Some(holds(own.cmp(text), op)),
            (Own::Number(own, scale), Literal::Number(_)) => Some(compare_number((*own).into(), op, value, *scale)),
            (Own::Float(own), Literal::Number(digits)) => {
                let other: f64 = digits.parse().expect("a number");
                Some(holds(own.partial_cmp(&other).expect("no NaN is drawn"), op))
            }
            (Own::Flag(own), Literal::Bool(value)) => Some(holds(own.cmp(value), op)),
            _ => None,
        }
    }
}

fn holds(order: Ordering, op: CompareOp) -> bool {
    match op {
        CompareOp::Less => order.is_lt(),
        CompareOp::LessOrEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterOrEqual => order.is_ge(),
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        other => panic!("{other} is settled before"),
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

fn compare_time(ts: i64, op: CompareOp, literal: &Literal) -> bool {
    if let Literal::Text(text) = literal
        && text.contains(':')
    {
        return holds(ts.cmp(&timestamp(text).and_then(|exact| exact.number()).expect("an instant")), op);
    }
    let (hour, (from, to)) = (local_hour(ts), moment(literal));
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
    let meant = meant(did, user);
    match did.figures.as_slice() {
        [] => !meant.is_empty(),
        figures => figures.iter().all(|test| figure_fits(test, &meant)),
    }
}

/// The user's purchases that are meant.
pub fn meant<'u>(did: &Did, user: &'u User) -> Vec<&'u Event> {
    let today = local_hour(NOW).div_euclid(24);
    let is_within = |event: &Event| {
        let Some((count, unit)) = did.within.as_deref().and_then(|within| within.split_once(' ')) else { return true };
        let count: i64 = count.parse().expect("a number");
        let hour = local_hour(event.ts);
        match unit {
            unit if did.exact_window => {
                let length = count * if unit == "hours" { HOUR } else { 24 * HOUR };
                event.ts > NOW - length && event.ts <= NOW
            }
            "hours" => hour > local_hour(NOW) - count && hour <= local_hour(NOW),
            _ => event.local_day() > today - count && event.local_day() <= today,
        }
    };
    let kept = user.events.iter().filter(|event| event.local_day() >= today - RETENTION_DAYS && is_within(event));
    kept.filter(|event| did.events.iter().all(|condition| event.truth(condition) == Some(true))).collect()
}

fn figure_fits(test: &FigureTest, events: &[&Event]) -> bool {
    let times = events.iter().map(|event| event.ts);
    type Compare<'c> = Box<dyn Fn(CompareOp, &Literal) -> bool + 'c>;
    let compare: Compare<'_> = match &test.figure {
        Figure::Count => Box::new(move |op, value| compare_number(events.len() as i128, op, value, 0)),
        Figure::Sum(_) if events.is_empty() => return false,
        Figure::Sum(column) if column == "rating" => {
            let quarters: i64 = events.iter().filter_map(|event| event.rating).sum();
            let sum = Own::Float(quarters as f64 / 4.0);
            Box::new(move |op, value| sum.compare(op, value).expect("a number"))
        }
        Figure::Sum(column) => {
            let amounts = events.iter().filter_map(|event| if column == "level" { event.level } else { event.amount });
            let sum: i128 = amounts.map(i128::from).sum();
            let scale = if column == "level" { 0 } else { 2 };
            Box::new(move |op, value| compare_number(sum, op, value, scale))
        }
        Figure::First | Figure::Last => {
            let end = if test.figure == Figure::First { times.min() } else { times.max() };
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
    // Finer, so that what lies between two numbers is a number.
    let other = decimal(digits, scale + 3).expect("a number");
    assert!(other.exact, "drawn with three digits more at most");
    holds((own * 1_000).cmp(&other.floor), op)
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

/// Whether a scan would find the user.
pub(super) fn fits_scan(scan: &Scan, user: &User, catalog: &Catalog) -> bool {
    scan_figure(scan, user, catalog).is_some_and(|figure| scan::holds(scan.range, figure))
}

/// The user's purchases that fulfil some conditions: when, and which.
pub fn told_events(scan: &EventScan, user: &User, catalog: &Catalog) -> Vec<(i64, u32)> {
    let fact = catalog.fact_of(scan.fact).expect("a declared fact");
    let fulfils = |event: &Event| {
        let holds = |(_, window, condition): &&(usize, Window, EventCondition)| {
            event.fits(&EventCondition::Hours(*window), fact) && event.fits(condition, fact)
        };
        scan.conditions.iter().filter(holds).map(|(number, ..)| 1 << number).sum()
    };
    user.events.iter().map(|event| (event.ts, fulfils(event))).filter(|(_, fulfils)| *fulfils != 0).collect()
}

/// The user's purchases of some kinds: when, of which, the value of its column, and its measure.
pub fn told_kinds(scan: &KindScan, user: &User, catalog: &Catalog) -> Vec<(i64, u32, EventValue, i64)> {
    let fact = catalog.fact_of(scan.fact).expect("a declared fact");
    let told = |event: &Event| {
        let is_meant =
            |kind: &&Kind| event.fits(&EventCondition::Hours(kind.window), fact) && event.fits(&kind.condition, fact);
        let kind = scan.kinds.iter().find(is_meant)?;
        let value = |column: Option<u16>| event.value(column.map(|at| fact.columns[usize::from(at)].name.as_str()));
        let measure = match value(kind.measure) {
            EventValue::Number(number) => number,
            _ => 0,
        };
        Some((event.ts, kind.number, value(kind.column), measure))
    };
    user.events.iter().filter_map(told).collect()
}

/// What the events that a scan means come to; `None` without any.
pub fn scan_figure(scan: &Scan, user: &User, catalog: &Catalog) -> Option<i128> {
    let fact = catalog.fact_of(scan.fact).expect("a declared fact");
    let within = EventCondition::Hours(scan.window);
    let is_meant = |event: &&Event| event.fits(&within, fact) && event.fits(&scan.condition, fact);
    let meant: Vec<&Event> = user.events.iter().filter(is_meant).collect();
    let column = |at: u16| fact.columns[usize::from(at)].name.as_str();
    let figure: i128 = match scan.figure {
        ScanFigure::Count => meant.len() as i128,
        ScanFigure::Sum(at) if column(at) == "rating" => {
            let quarters: i64 = meant.iter().filter_map(|event| event.rating).sum();
            float_key(quarters as f64 / 4.0).into()
        }
        ScanFigure::Sum(at) => {
            let number = |event: &&Event| match event.own(column(at)) {
                Some(Own::Number(number, _)) => i128::from(number),
                _ => 0,
            };
            meant.iter().map(number).sum()
        }
    };
    (!meant.is_empty()).then_some(figure)
}
