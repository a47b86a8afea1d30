//! Conditions on behaviour that are answered from the events themselves.
//!
//! An event's columns can be NULL, so a condition is bound twice over as audiences are (see [`super::super`]): to the events
//! of which it is true, and under a NOT to those of which it is false.
//!
//! What the index covers of a condition stands beside the scan: whoever has an event that fits the whole has one that fits
//! the part. So the scan is left with few users where a dimension is named.

use super::moment::Moment;
use super::{Binder, Bound, Chosen, Counted, Events, compare};
use crate::audience::bind::{number, range_of, type_error};
use crate::audience::error::{ExprError, ExprErrorKind};
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::literal::{self, Exact};
use crate::audience::path;
use crate::audience::predicate::Predicate;
use crate::audience::scan::{
    EventCondition, EventField, JsonKind, JsonPath, Scan, ScanFigure, TextOrder, UNDECLARED, float_key,
};
use crate::behavior::Window;
use crate::bitmap::bsi::NumberRange;
use crate::catalog::{ColumnType, Unit};
use std::collections::BTreeMap;

/// How deep a value may lie in JSON.
const JSON_DEPTH_MAX: usize = 32;

/// The most conditions on events of one `did`, joined and negated ones counted too; a list is one, however long it is.
const CONDITIONS_MAX: usize = 500;

/// The events that are meant, to be found one by one.
pub(super) struct Scanned<'s> {
    binder: &'s Binder<'s>,
    window: Window,
    condition: EventCondition,
    /// What the index tells of them, each by one dimension.
    parts: Vec<Counted<'s>>,
}

/// A set of times.
#[derive(Clone, Copy)]
enum Times {
    Hours(Window),
    Instants(NumberRange),
}

impl Times {
    fn condition(self) -> EventCondition {
        match self {
            Times::Hours(hours) => EventCondition::Hours(hours),
            Times::Instants(range) => EventCondition::InRange(EventField::Time, range),
        }
    }

    fn before(self) -> EventCondition {
        match self {
            Times::Hours(hours) => EventCondition::Hours(Window { from: i32::MIN, to: hours.from }),
            Times::Instants(NumberRange { min: i64::MIN, .. }) => EventCondition::Never,
            Times::Instants(range) => {
                EventCondition::InRange(EventField::Time, NumberRange { min: i64::MIN, max: range.min - 1 })
            }
        }
    }

    fn after(self) -> EventCondition {
        match self {
            Times::Hours(hours) => EventCondition::Hours(Window { from: hours.to, to: i32::MAX }),
            Times::Instants(NumberRange { max: i64::MAX, .. }) => EventCondition::Never,
            Times::Instants(range) => {
                EventCondition::InRange(EventField::Time, NumberRange { min: range.max + 1, max: i64::MAX })
            }
        }
    }
}

impl<'s> Scanned<'s> {
    pub(super) fn new(binder: &'s Binder<'s>, did: &Did) -> Bound<Scanned<'s>> {
        let mut conditions = Vec::new();
        if let Some(within) = &did.within {
            conditions.push(match did.exact_window {
                true => EventCondition::InRange(EventField::Time, binder.instants_within(within)?),
                false => EventCondition::Hours(binder.hours_within(within)?),
            });
        }
        for condition in &did.events {
            conditions.push(binder.event(condition, true)?);
        }
        let condition_count = conditions.iter().map(EventCondition::node_count).sum::<usize>();
        if condition_count > CONDITIONS_MAX {
            let message = format!(
                "the conditions on events of `{}` are {condition_count}, and may be {CONDITIONS_MAX}",
                binder.name
            );
            return Err(ExprError::new(ExprErrorKind::TooLarge, message)
                .suggest("write column IN (…) for many values, BETWEEN for days, or ask in several did(…)"));
        }
        let parts = binder.parts(did)?;
        let kept = Window { from: binder.kept_from, to: i32::MAX };
        Ok(Scanned { binder, window: kept, condition: EventCondition::And(conditions), parts })
    }

    /// At least one event.
    pub(super) fn some(&self) -> Bound<Predicate> {
        Ok(self.having(None, ScanFigure::Count, NumberRange::default()))
    }

    pub(super) fn test(&self, test: &FigureTest) -> Bound<Predicate> {
        match &test.figure {
            Figure::Count => compare(test, "count", Unit::Integer, |range| self.count(range)),
            Figure::Sum(name) => self.sum(name, test),
            Figure::First => self.end(test, true),
            Figure::Last => self.end(test, false),
        }
    }

    /// The events, where `also` holds: hours that hold for every one of them, and the rest.
    pub(super) fn meant(&self, also: Option<EventCondition>) -> (Window, EventCondition) {
        let all = EventCondition::And([Some(self.condition.clone()), also].into_iter().flatten().collect()).canonical();
        let (mut window, mut left) = (self.window, Vec::new());
        for condition in all.conjuncts() {
            match condition {
                EventCondition::Hours(hours) => window = window.and(*hours),
                other => left.push(other.clone()),
            }
        }
        (window, EventCondition::And(left).canonical())
    }

    /// Users with at least one of the events, where `also` holds, whose figure is in the range.
    fn having(&self, also: Option<EventCondition>, figure: ScanFigure, range: NumberRange) -> Predicate {
        let (window, condition) = self.meant(also);
        if window.is_empty() || range.is_empty() || condition == EventCondition::Never {
            return Predicate::Nobody;
        }
        let least = if figure == ScanFigure::Count { range.min.max(1) } else { 1 };
        let enough = NumberRange { min: least, max: i64::MAX };
        let mut all: Vec<Predicate> = self.parts.iter().map(|part| part.did(part.window, 0, enough)).collect();
        let fact = self.binder.fact.id;
        all.push(Predicate::Scan(Box::new(Scan { fact, window, condition, figure, range })));
        Predicate::And(all)
    }

    /// The number of events is in a range. Users without events have 0.
    fn count(&self, range: NumberRange) -> Predicate {
        match (range.min, range.max) {
            (min, max) if min > max || max < 0 => Predicate::Nobody,
            (..=0, i64::MAX) => Predicate::All,
            (..=0, max) => self.having(None, ScanFigure::Count, NumberRange { min: max + 1, max: i64::MAX }).negate(),
            _ => self.having(None, ScanFigure::Count, range),
        }
    }

    fn sum(&self, name: &str, test: &FigureTest) -> Bound<Predicate> {
        let column = self.binder.column(name)?;
        let (figure, shown) = (ScanFigure::Sum(column as u16), format!("sum({name})"));
        let fits = |range: NumberRange| self.having(None, figure, range);
        match self.binder.fact.columns[column].column_type {
            ColumnType::Integer => compare(test, &shown, Unit::Integer, fits),
            ColumnType::Decimal { scale, .. } => compare(test, &shown, Unit::Decimal { scale }, fits),
            ColumnType::Float => float_compare(test, &shown, fits),
            other => {
                let error = type_error(format!("`{name}` is a {other}, which has no sum"));
                Err(error.suggest("sum(…) takes an integer, a decimal or a float"))
            }
        }
    }

    /// The first or the last event is at a time that compares so.
    fn end(&self, test: &FigureTest, is_first: bool) -> Bound<Predicate> {
        let some = |when: EventCondition| self.having(Some(when), ScanFigure::Count, NumberRange::default());
        let between = |low: Times, high: Times| {
            let within = EventCondition::And(vec![low.condition(), high.condition()]);
            let beyond = if is_first { low.before() } else { high.after() };
            Predicate::And(vec![some(within), some(beyond).negate()])
        };
        let not = |found: Predicate| Predicate::And(vec![some(EventCondition::Any), found.negate()]);
        let times = |op: CompareOp, value: &Literal| self.binder.times(op, value);
        Ok(match &test.test {
            Test::Compare(CompareOp::NotEqual | CompareOp::IsDistinctFrom, value) => {
                let at = times(CompareOp::Equal, value)?;
                not(between(at, at))
            }
            Test::Compare(op, value) => {
                let at = times(*op, value)?;
                between(at, at)
            }
            Test::Between { low, high, negated } => {
                let (low, high) = (times(CompareOp::GreaterOrEqual, low)?, times(CompareOp::LessOrEqual, high)?);
                let found = between(low, high);
                if *negated { not(found) } else { found }
            }
        })
    }
}

impl Binder<'_> {
    /// What the index tells of events that fit all conditions, a part for each condition on a dimension.
    fn parts(&self, did: &Did) -> Bound<Vec<Counted<'_>>> {
        let mut window = Window::ALL;
        if let Some(within) = did.within.as_ref().filter(|_| !did.exact_window) {
            window = self.within(within).unwrap_or(window);
        }
        let mut chosen: Vec<Chosen> = Vec::new();
        for condition in did.events.iter().flat_map(conjuncts) {
            let Ok(events) = self.narrow(Events { window, chosen: Chosen::All }, condition) else { continue };
            window = events.window;
            match chosen.iter().position(|known| known.dimension() == events.chosen.dimension()) {
                _ if events.chosen.dimension().is_none() => {}
                Some(at) => {
                    let known = chosen.swap_remove(at);
                    chosen.push(known.and(events.chosen));
                }
                None => chosen.push(events.chosen),
            }
        }
        let selections = chosen.into_iter().filter_map(Chosen::selection);
        Ok(selections.map(|of| Counted { binder: self, of, window }).collect())
    }

    /// The times that compare so with a literal.
    fn times(&self, op: CompareOp, value: &Literal) -> Bound<Times> {
        Ok(match self.moment(value)? {
            Moment::Instant(instant) => Times::Instants(range_of(op, instant)),
            Moment::Hours(hours) => Times::Hours(match op {
                CompareOp::GreaterOrEqual => Window { from: hours.from, to: i32::MAX },
                CompareOp::Greater => Window { from: hours.to, to: i32::MAX },
                CompareOp::Less => Window { from: i32::MIN, to: hours.from },
                CompareOp::LessOrEqual => Window { from: i32::MIN, to: hours.to },
                _ => hours,
            }),
        })
    }

    /// The events of which a condition is `wanted`.
    fn event(&self, condition: &Expr, wanted: bool) -> Bound<EventCondition> {
        self.event_kind(&condition.kind, wanted).map_err(|error| error.at(condition.span))
    }

    fn event_kind(&self, kind: &ExprKind, wanted: bool) -> Bound<EventCondition> {
        let settled = |condition: EventCondition| Ok(if wanted { condition } else { condition.negate() });
        match kind {
            ExprKind::Literal(value) => settled(if *value { EventCondition::Any } else { EventCondition::Never }),
            ExprKind::Not(of) => self.event(of, !wanted),
            ExprKind::And(of) | ExprKind::Or(of) => {
                let bound = of.iter().map(|operand| self.event(operand, wanted)).collect::<Bound<Vec<_>>>()?;
                let all = matches!(kind, ExprKind::And(_)) == wanted;
                Ok(if all { EventCondition::And(bound) } else { EventCondition::Or(bound) })
            }
            ExprKind::IsNull { tag, negated } => {
                let known = match tag.as_str() {
                    "ts" => EventCondition::Any,
                    tag => EventCondition::Known(self.field(tag, JsonKind::Any)?),
                };
                settled(if *negated { known } else { known.negate() })
            }
            ExprKind::Flag(tag) => self.compared(tag, CompareOp::Equal, &Literal::Bool(true), wanted),
            ExprKind::Compare { tag, op, value } => self.compared(tag, *op, value, wanted),
            ExprKind::Between { tag, low, high, negated } => {
                let wanted = wanted != *negated;
                let low = self.compared(tag, CompareOp::GreaterOrEqual, low, wanted)?;
                let high = self.compared(tag, CompareOp::LessOrEqual, high, wanted)?;
                Ok(if wanted { EventCondition::And(vec![low, high]) } else { EventCondition::Or(vec![low, high]) })
            }
            ExprKind::In { tag, values, negated } => self.one_of(tag, values, wanted != *negated),
            _ => Err(ExprError::new(ExprErrorKind::Unsupported, "this is not a condition on an event")
                .suggest("compare columns of the fact with values, joined by AND, OR and NOT")),
        }
    }

    /// The events whose value is one of these, or is another. Many numbers or texts of one field are one look-up.
    fn one_of(&self, tag: &str, values: &[Literal], wanted: bool) -> Bound<EventCondition> {
        let mut listed: BTreeMap<EventField, (Vec<i64>, Vec<String>)> = BTreeMap::new();
        let mut others = Vec::new();
        for value in values {
            let one = match self.compared(tag, CompareOp::Equal, value, true)? {
                EventCondition::TextIn(field, texts) => {
                    listed.entry(field).or_default().1.extend(texts);
                    continue;
                }
                // Both zeros of floating point are one number.
                EventCondition::InRange(field, range) if range.is_empty() || range.max.abs_diff(range.min) <= 1 => {
                    listed.entry(field).or_default().0.extend(range.min..=range.max);
                    continue;
                }
                one => one,
            };
            others.push(if wanted { one } else { self.compared(tag, CompareOp::Equal, value, false)? });
        }
        let lists = listed.into_iter().map(|(field, (numbers, texts))| {
            let any = EventCondition::Or(vec![
                EventCondition::NumberIn(field.clone(), numbers),
                EventCondition::TextIn(field.clone(), texts),
            ]);
            match (wanted, field) {
                (true, _) => any,
                (false, EventField::Time) => any.negate(),
                (false, field) => EventCondition::And(vec![EventCondition::Known(field), any.negate()]),
            }
        });
        others.extend(lists);
        Ok(if wanted { EventCondition::Or(others) } else { EventCondition::And(others) })
    }

    fn compared(&self, tag: &str, op: CompareOp, value: &Literal, wanted: bool) -> Bound<EventCondition> {
        let is_equality =
            !matches!(op, CompareOp::Less | CompareOp::LessOrEqual | CompareOp::Greater | CompareOp::GreaterOrEqual);
        let is_negative = matches!(op, CompareOp::NotEqual | CompareOp::IsDistinctFrom);
        let is_distinct = matches!(op, CompareOp::IsDistinctFrom | CompareOp::IsNotDistinctFrom);
        let (leaf, known) = if tag == "ts" {
            (self.times(if is_equality { CompareOp::Equal } else { op }, value)?.condition(), None)
        } else {
            let field = self.field(tag, kind_of(value))?;
            (self.leaf(tag, &field, op, value)?, Some(EventCondition::Known(field)))
        };
        Ok(match (known, wanted != is_negative) {
            (_, true) => leaf,
            (Some(known), false) if !is_distinct => EventCondition::And(vec![known, leaf.negate()]),
            (_, false) => leaf.negate(),
        })
    }

    /// The events of which a comparison is true; of an inequality, those of which the equality is.
    fn leaf(&self, tag: &str, field: &EventField, op: CompareOp, value: &Literal) -> Bound<EventCondition> {
        let column_type = match field {
            EventField::Column(at) => self.fact.columns[usize::from(*at)].column_type,
            _ => match value {
                Literal::Text(_) => ColumnType::String,
                Literal::Number(_) => ColumnType::Float,
                Literal::Bool(_) => ColumnType::Boolean,
            },
        };
        let in_range = |exact: Exact| EventCondition::InRange(field.clone(), range_of(op, exact));
        Ok(match column_type {
            ColumnType::String => text_leaf(tag, field, op, value)?,
            ColumnType::Integer => in_range(number(tag, Unit::Integer, value)?),
            ColumnType::Decimal { scale, .. } => in_range(number(tag, Unit::Decimal { scale }, value)?),
            ColumnType::Timestamp => in_range(number(tag, Unit::Timestamp, value)?),
            ColumnType::Float => EventCondition::InRange(field.clone(), float_range(op, float(tag, value)?)),
            ColumnType::Boolean => boolean_leaf(tag, field, op, value)?,
            ColumnType::Json => {
                let error = type_error(format!("`{tag}` is JSON, and is not compared as a whole"));
                return Err(error.suggest(format!("name a value in it: {tag}.key = {value}")));
            }
        })
    }

    /// What a name stands for; a value in JSON is to be of `kind`.
    fn field(&self, name: &str, kind: JsonKind) -> Bound<EventField> {
        let Some(parts) = path::split(name) else { return Ok(EventField::Column(self.column(name)? as u16)) };
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or_default();
        let column = match first.as_str() {
            UNDECLARED => None,
            column => {
                let at = self.column(column)?;
                let column_type = self.fact.columns[at].column_type;
                if column_type != ColumnType::Json {
                    let error = type_error(format!("`{column}` is a {column_type}, and has no values in it"));
                    return Err(error.suggest(format!("compare {column}, or name a field with {UNDECLARED}.…")));
                }
                Some(at as u16)
            }
        };
        let keys: Vec<String> = parts.collect();
        if keys.len() > JSON_DEPTH_MAX {
            let message = format!("`{name}` lies more than {JSON_DEPTH_MAX} deep");
            return Err(ExprError::new(ExprErrorKind::TooLarge, message));
        }
        Ok(EventField::Path(JsonPath { column, keys, kind }))
    }
}

/// The operands of an AND, and of ANDs in it; else the condition itself.
fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    match &condition.kind {
        ExprKind::And(of) => of.iter().flat_map(conjuncts).collect(),
        _ => vec![condition],
    }
}

fn kind_of(value: &Literal) -> JsonKind {
    match value {
        Literal::Text(_) => JsonKind::Text,
        Literal::Number(_) => JsonKind::Number,
        Literal::Bool(_) => JsonKind::Boolean,
    }
}

fn text_leaf(tag: &str, field: &EventField, op: CompareOp, value: &Literal) -> Bound<EventCondition> {
    let Literal::Text(text) = value else {
        return Err(type_error(format!("`{tag}` is text, {value} is not")).suggest(format!("write '{value}'")));
    };
    let order = match op {
        CompareOp::Less => TextOrder::Less,
        CompareOp::LessOrEqual => TextOrder::LessOrEqual,
        CompareOp::Greater => TextOrder::Greater,
        CompareOp::GreaterOrEqual => TextOrder::GreaterOrEqual,
        _ => return Ok(EventCondition::TextIn(field.clone(), vec![text.clone()])),
    };
    Ok(EventCondition::TextOrder(field.clone(), order, text.clone()))
}

fn boolean_leaf(tag: &str, field: &EventField, op: CompareOp, value: &Literal) -> Bound<EventCondition> {
    let is_order =
        matches!(op, CompareOp::Less | CompareOp::LessOrEqual | CompareOp::Greater | CompareOp::GreaterOrEqual);
    let Literal::Bool(value) = value else {
        return Err(
            type_error(format!("`{tag}` is a boolean, {value} is not")).suggest(format!("write {tag} or NOT {tag}"))
        );
    };
    if is_order {
        return Err(type_error(format!("`{tag}` is a boolean: its values have no order"))
            .suggest(format!("write {tag} or NOT {tag}")));
    }
    let is_true = EventCondition::IsTrue(field.clone());
    Ok(match value {
        true => is_true,
        false => EventCondition::And(vec![EventCondition::Known(field.clone()), is_true.negate()]),
    })
}

/// A literal as the nearest floating point number.
fn float(name: &str, value: &Literal) -> Bound<f64> {
    let Literal::Number(digits) = value else {
        let error = type_error(format!("`{name}` is a number, {value} is not"));
        return Err(error.suggest("write a number without quotes"));
    };
    // The same forms as other numbers have, then Rust's reading of them, which rounds to the nearest.
    let known =
        literal::decimal(digits, 0).and_then(|_| digits.parse::<f64>().ok()).filter(|number| number.is_finite());
    known.ok_or_else(|| {
        ExprError::new(ExprErrorKind::Value, format!("{value} is not a number that a float can be compared with"))
    })
}

/// The keys of the floating point numbers that compare so; those equal for (in)equality. −0 equals 0, NaN is nowhere.
fn float_range(op: CompareOp, number: f64) -> NumberRange {
    let (least, most) =
        if number == 0.0 { (float_key(-0.0), float_key(0.0)) } else { (float_key(number), float_key(number)) };
    let (low, high) = (float_key(f64::NEG_INFINITY), float_key(f64::INFINITY));
    match op {
        CompareOp::Less => NumberRange { min: low, max: least - 1 },
        CompareOp::LessOrEqual => NumberRange { min: low, max: most },
        CompareOp::Greater => NumberRange { min: most + 1, max: high },
        CompareOp::GreaterOrEqual => NumberRange { min: least, max: high },
        _ => NumberRange { min: least, max: most },
    }
}

/// Turns a comparison of a floating point figure into a range of keys.
fn float_compare(test: &FigureTest, name: &str, fits: impl Fn(NumberRange) -> Predicate) -> Bound<Predicate> {
    let range = |op: CompareOp, value: &Literal| Ok::<_, ExprError>(float_range(op, float(name, value)?));
    let outside = |low: NumberRange, high: NumberRange| Predicate::Or(vec![fits(low), fits(high)]);
    Ok(match &test.test {
        Test::Compare(CompareOp::NotEqual | CompareOp::IsDistinctFrom, value) => {
            outside(range(CompareOp::Less, value)?, range(CompareOp::Greater, value)?)
        }
        Test::Compare(op, value) => fits(range(*op, value)?),
        Test::Between { low, high, negated: true } => {
            outside(range(CompareOp::Less, low)?, range(CompareOp::Greater, high)?)
        }
        Test::Between { low, high, negated: false } => {
            let (above, below) = (range(CompareOp::GreaterOrEqual, low)?, range(CompareOp::LessOrEqual, high)?);
            fits(NumberRange { min: above.min, max: below.max })
        }
    })
}
