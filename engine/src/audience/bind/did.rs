//! `did(…)`: settles what a condition on behaviour means now, and whether the activity index can answer it.
//!
//! What the index cannot answer goes to [`scanned`]: a scan of the events themselves, beside what the index tells of it.
//!
//! The index counts whole slices of time per value of one dimension. So the conditions on an event must come down to a window
//! made of slices and to some values of one dimension; what they come to is counts and sums that are compared, and
//! the first and the last event are told by which windows have events and which have none.
//!
//! `did` is true or false, never NULL. A count of users without events is 0, a sum is none: `count = 0` is true of them,
//! `sum(amount) < 100` is not. An event without a value adds nothing to a sum.

mod moment;
mod scanned;

use super::{number, range_of, type_error};
use crate::audience::error::{ExprError, ExprErrorKind};
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::literal::{self, Exact};
use crate::audience::path;
use crate::audience::predicate::{self, Predicate, Selection};
use crate::audience::scan::EventsMeant;
use crate::audience::suggest::closest;
use crate::behavior::Window;
use crate::behavior::slice::{HOUR_MICROS, HOURLY_DAYS, hour_of};
use crate::bitmap::bsi::NumberRange;
use crate::catalog::{Catalog, ColumnType, Fact, Unit};
use moment::Moment;
use scanned::Scanned;
use std::collections::BTreeSet;

type Bound<T> = Result<T, ExprError>;

/// The most tests of figures in one `did`: each may be a search of its own.
const FIGURES_MAX: usize = 16;

/// The most hours that a window can be told in: of so many there are hours whatever the time of day.
const HOURS_MAX: i32 = HOURLY_DAYS * 24;

/// The instants up to `now` that `within => '30 days'` means of events of a fact where the window is exact, in microseconds since 1970.
///
/// # Errors
/// [`ExprErrorKind::Value`] if it is no length of time.
pub fn instants_within(text: &str, fact: &Fact, now: i64) -> Result<NumberRange, ExprError> {
    Binder::of("", fact, now).instants_within(text)
}

/// The users for whom `did` is true at `now`, in microseconds since 1970.
pub(super) fn bind(did: &Did, catalog: &Catalog, now: i64) -> Bound<Predicate> {
    let binder = binder(did, catalog, now)?;
    if did.figures.len() > FIGURES_MAX {
        let message = format!("did(…) tests {} figures, and may test {FIGURES_MAX}", did.figures.len());
        return Err(ExprError::new(ExprErrorKind::TooLarge, message).suggest("join several did(…) by AND"));
    }
    let counted = covered(binder.counted(did))?;
    let scanned = || Scanned::new(&binder, did);
    if did.figures.is_empty() {
        return by_index(counted.as_ref(), |counted| counted.some())?.map_or_else(|| scanned()?.some(), Ok);
    }
    let answer = |test: &FigureTest| {
        by_index(counted.as_ref(), |counted| counted.test(test))?.map_or_else(|| scanned()?.test(test), Ok)
    };
    let tests: Bound<Vec<Predicate>> = did.figures.iter().map(answer).collect();
    Ok(Predicate::And(tests?))
}

/// The events that a `did` without figures means.
pub(super) fn meant(did: &Did, catalog: &Catalog, now: i64) -> Bound<EventsMeant> {
    if !did.figures.is_empty() {
        let message = "events are meant one by one here, and what they come to is not tested";
        return Err(ExprError::new(ExprErrorKind::Unsupported, message).suggest("leave count, sum, first and last out"));
    }
    let binder = binder(did, catalog, now)?;
    let kept = Window { from: binder.kept_from, to: i32::MAX };
    let counted = covered(binder.counted(did))?.map(|counted| (counted.of, counted.window.and(kept)));
    let (window, condition) = Scanned::new(&binder, did)?.meant(None);
    Ok(EventsMeant { fact: binder.fact.id, window, condition, counted })
}

fn binder<'b>(did: &'b Did, catalog: &'b Catalog, now: i64) -> Bound<Binder<'b>> {
    let fact = catalog.declared_fact(&did.fact).ok_or_else(|| unknown_fact(&did.fact, catalog))?;
    Ok(Binder::of(&did.fact, fact, now))
}

fn by_index(
    counted: Option<&Counted<'_>>,
    ask: impl FnOnce(&Counted<'_>) -> Bound<Predicate>,
) -> Bound<Option<Predicate>> {
    counted.map_or(Ok(None), |counted| covered(ask(counted)))
}

/// What the index answers; `None` if it does not cover the question. Other errors stay.
fn covered<T>(bound: Bound<T>) -> Bound<Option<T>> {
    match bound {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ExprErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

fn unknown_fact(name: &str, catalog: &Catalog) -> ExprError {
    let error = ExprError::new(ExprErrorKind::UnknownFact, format!("unknown fact '{name}'"));
    match closest(name, catalog.declared_facts().map(|(known, _)| known)) {
        Some(near) => error.suggest(format!("did you mean '{near}'?")),
        None => error.suggest("declare it in the catalog first"),
    }
}

/// The events that are meant, as far as conditions were taken in.
struct Events {
    window: Window,
    chosen: Chosen,
}

/// Which values of which dimension.
enum Chosen {
    All,
    Values(usize, BTreeSet<String>),
    Others(usize, BTreeSet<String>),
}

impl Chosen {
    /// `None`: no event.
    fn selection(self) -> Option<Selection> {
        let sorted = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>();
        match self {
            Chosen::All => Some(Selection::All),
            Chosen::Values(_, values) if values.is_empty() => None,
            Chosen::Values(dimension, values) => Some(Selection::Values(dimension as u16, sorted(values))),
            Chosen::Others(dimension, values) => Some(Selection::Others(dimension as u16, sorted(values))),
        }
    }

    fn dimension(&self) -> Option<usize> {
        match self {
            Chosen::All => None,
            Chosen::Values(dimension, _) | Chosen::Others(dimension, _) => Some(*dimension),
        }
    }

    /// What both choose; of the same dimension.
    fn and(self, other: Chosen) -> Chosen {
        match (self, other) {
            (Chosen::All, other) | (other, Chosen::All) => other,
            (Chosen::Values(at, a), Chosen::Values(_, b)) => Chosen::Values(at, &a & &b),
            (Chosen::Others(at, a), Chosen::Others(_, b)) => Chosen::Others(at, &a | &b),
            (Chosen::Values(at, a), Chosen::Others(_, b)) | (Chosen::Others(at, b), Chosen::Values(_, a)) => {
                Chosen::Values(at, &a - &b)
            }
        }
    }

    /// What either chooses; of the same dimension.
    fn or(self, other: Chosen) -> Chosen {
        match (self, other) {
            (Chosen::All, _) | (_, Chosen::All) => Chosen::All,
            (Chosen::Values(at, a), Chosen::Values(_, b)) => Chosen::Values(at, &a | &b),
            (Chosen::Others(at, a), Chosen::Others(_, b)) => Chosen::Others(at, &a & &b),
            (Chosen::Values(at, a), Chosen::Others(_, b)) | (Chosen::Others(at, b), Chosen::Values(_, a)) => {
                Chosen::Others(at, &b - &a)
            }
        }
    }

    /// The events with another value, but not those without one.
    fn negate(self) -> Option<Chosen> {
        match self {
            Chosen::All => None,
            Chosen::Values(at, values) => Some(Chosen::Others(at, values)),
            Chosen::Others(at, values) => Some(Chosen::Values(at, values)),
        }
    }
}

/// Whether a condition is false, and not NULL, of events without a value: then they fit its negation.
fn tells_null(condition: &Expr) -> bool {
    match &condition.kind {
        ExprKind::IsNull { .. }
        | ExprKind::Compare { op: CompareOp::IsDistinctFrom | CompareOp::IsNotDistinctFrom, .. } => true,
        ExprKind::Not(of) => tells_null(of),
        ExprKind::And(of) | ExprKind::Or(of) => of.iter().any(tells_null),
        _ => false,
    }
}

struct Binder<'b> {
    name: &'b str,
    fact: &'b Fact,
    /// Microseconds since 1970.
    now: i64,
    now_hour: i32,
    kept_from: i32,
}

impl<'b> Binder<'b> {
    fn of(name: &'b str, fact: &'b Fact, now: i64) -> Self {
        let (now_hour, kept_from) = fact.hours_at(now);
        Binder { name, fact, now, now_hour, kept_from }
    }
}

impl Binder<'_> {
    /// The events that are meant as the index has them.
    fn counted(&self, did: &Did) -> Bound<Counted<'_>> {
        if did.exact_window {
            return Err(self.not_covered("windows to the instant"));
        }
        let mut events = Events { window: Window::ALL, chosen: Chosen::All };
        if let Some(within) = &did.within {
            events.window = events.window.and(self.within(within)?);
        }
        for condition in &did.events {
            events = self.narrow(events, condition).map_err(|error| error.at(condition.span))?;
        }
        // Values that contradict each other leave no event, which a window without hours says too.
        let none = (Selection::All, Window { from: 0, to: 0 });
        let (of, window) = events.chosen.selection().map_or(none, |of| (of, events.window));
        Ok(Counted { binder: self, of, window })
    }

    fn narrow(&self, mut events: Events, condition: &Expr) -> Bound<Events> {
        match &condition.kind {
            ExprKind::And(of) => of.iter().try_fold(events, |events, condition| self.narrow(events, condition)),
            ExprKind::Compare { tag, op, value } if tag == "ts" => {
                events.window = events.window.and(self.moments(*op, value)?);
                Ok(events)
            }
            ExprKind::Between { tag, low, high, negated: false } if tag == "ts" => {
                let window = self.moments(CompareOp::GreaterOrEqual, low)?;
                events.window = events.window.and(window).and(self.moments(CompareOp::LessOrEqual, high)?);
                Ok(events)
            }
            _ => {
                let chosen = self.choose(condition)?;
                if let (Some(one), Some(other)) = (events.chosen.dimension(), chosen.dimension())
                    && one != other
                {
                    return Err(self.not_covered("two dimensions at once"));
                }
                events.chosen = events.chosen.and(chosen);
                Ok(events)
            }
        }
    }

    /// Which values of a dimension a condition chooses.
    fn choose(&self, condition: &Expr) -> Bound<Chosen> {
        let values = |tag: &String, values: &[Literal], wanted: bool| {
            let (dimension, column_type) = self.dimension(tag)?;
            let texts: Bound<BTreeSet<String>> =
                values.iter().map(|value| dimension_value(tag, column_type, value)).collect();
            Ok(if wanted { Chosen::Values(dimension, texts?) } else { Chosen::Others(dimension, texts?) })
        };
        match &condition.kind {
            ExprKind::Literal(true) => Ok(Chosen::All),
            ExprKind::Flag(tag) => values(tag, &[Literal::Bool(true)], true),
            ExprKind::Compare { tag, op: CompareOp::Equal | CompareOp::IsNotDistinctFrom, value } => {
                values(tag, std::slice::from_ref(value), true)
            }
            ExprKind::Compare { tag, op: CompareOp::NotEqual, value } => {
                values(tag, std::slice::from_ref(value), false)
            }
            ExprKind::Compare { tag, .. } | ExprKind::Between { tag, .. } => {
                self.dimension(tag)?;
                Err(self.not_covered("a comparison other than = and <>"))
            }
            ExprKind::In { tag, values: of, negated } => values(tag, of, !negated),
            ExprKind::IsNull { tag, negated: true } => values(tag, &[], false),
            ExprKind::IsNull { tag, negated: false } => {
                self.dimension(tag)?;
                Err(self.not_covered("events without a value"))
            }
            ExprKind::Not(of) if tells_null(of) => Err(self.not_covered("events without a value")),
            ExprKind::Not(of) => {
                self.choose(of)?.negate().ok_or_else(|| self.not_covered("a NOT that does not name values"))
            }
            ExprKind::And(of) | ExprKind::Or(of) => {
                let all = matches!(condition.kind, ExprKind::And(_));
                let mut chosen: Option<Chosen> = None;
                for operand in of {
                    let next = self.choose(operand).map_err(|error| error.at(operand.span))?;
                    chosen = Some(match chosen {
                        None => next,
                        Some(before) if before.dimension() != next.dimension() => {
                            return Err(self.not_covered("two dimensions at once"));
                        }
                        Some(before) if all => before.and(next),
                        Some(before) => before.or(next),
                    });
                }
                Ok(chosen.unwrap_or(Chosen::All))
            }
            _ => Err(ExprError::new(ExprErrorKind::Unsupported, "this is not a condition on an event")
                .suggest("compare columns of the fact with values")),
        }
    }

    fn not_covered(&self, what: &str) -> ExprError {
        let dimensions: Vec<&str> = self.dimensions().collect();
        let message = format!("the activity index of `{}` does not cover {what}", self.name);
        ExprError::new(ExprErrorKind::Unsupported, message).suggest(match dimensions.as_slice() {
            [] => "it has no dimensions; declare some in the catalog".to_owned(),
            dimensions => format!("it counts each value of {} on its own", dimensions.join(", ")),
        })
    }

    fn dimensions(&self) -> impl Iterator<Item = &str> {
        let places = self.fact.activity.dimensions.iter();
        places.map(|place| self.fact.columns[usize::from(*place)].name.as_str())
    }

    fn column(&self, name: &str) -> Bound<usize> {
        self.fact.column(name).ok_or_else(|| {
            let message = format!("fact `{}` has no column `{name}`", self.name);
            let error = ExprError::new(ExprErrorKind::UnknownColumn, message);
            match closest(name, self.fact.columns.iter().map(|column| column.name.as_str())) {
                Some(near) => error.suggest(format!("did you mean `{near}`?")),
                None => error.suggest("GET /v1/catalog lists its columns"),
            }
        })
    }

    /// The place of a dimension, and the type of its values.
    fn dimension(&self, name: &str) -> Bound<(usize, ColumnType)> {
        if path::split(name).is_some() {
            return Err(self.not_covered("values in JSON"));
        }
        if name == "ts" {
            return Err(self.not_covered("this condition on ts; write ts >= …, ts < … or ts BETWEEN … AND …"));
        }
        let column = self.column(name)?;
        match self.fact.dimension(column) {
            Some(dimension) => Ok((dimension, self.fact.columns[column].column_type)),
            None => Err(self.not_covered(&format!("`{name}`"))),
        }
    }

    /// The window of events at a time that compares so with a literal.
    fn moments(&self, op: CompareOp, value: &Literal) -> Bound<Window> {
        let (at, is_instant) = match self.moment(value)? {
            Moment::Hours(hours)
                if hours.from < self.now_hour - HOURS_MAX && hours.from.saturating_add(24) > hours.to =>
            {
                return Err(self.not_covered(&format!("hours before the last {HOURS_MAX}")));
            }
            Moment::Hours(hours) => (hours, false),
            Moment::Instant(instant) => (self.boundary(instant)?, true),
        };
        let after = |from: i32| Window { from, to: i32::MAX };
        let before = |to: i32| Window { from: i32::MIN, to };
        let window = match op {
            CompareOp::GreaterOrEqual => after(at.from),
            CompareOp::Less => before(at.from),
            _ if is_instant => {
                let message = "the activity index counts whole hours and days, and cannot tell a single instant";
                return Err(ExprError::new(ExprErrorKind::Unsupported, message).suggest("use >= or <, or a date"));
            }
            CompareOp::Greater => after(at.to),
            CompareOp::LessOrEqual => before(at.to),
            CompareOp::Equal | CompareOp::IsNotDistinctFrom => at,
            CompareOp::NotEqual | CompareOp::IsDistinctFrom => return Err(self.not_covered("<> of a time")),
        };
        Ok(window)
    }

    /// The empty window at the midnight that an instant is. Hours of the last days would do too, but are days soon: a condition
    /// must not change its meaning by itself.
    fn boundary(&self, instant: Exact) -> Bound<Window> {
        let zone = &self.fact.zone;
        let is_midnight = |micros: &i64| zone.local(*micros).rem_euclid(24 * HOUR_MICROS) == 0;
        // Where clocks are set back over midnight, what they show does not tell before from after.
        match instant.number().filter(|micros| is_midnight(micros) && zone.divides(*micros)) {
            Some(micros) => {
                let hour = hour_of(zone.local(micros));
                Ok(Window { from: hour, to: hour })
            }
            None => Err(self.not_covered("instants within a day")),
        }
    }

    /// The window of the time up to now: `30 days` are today and the 29 days before.
    fn within(&self, text: &str) -> Bound<Window> {
        let window = self.hours_within(text)?;
        if window.from <= self.now_hour - HOURS_MAX && window.from.rem_euclid(24) != 0 {
            return Err(self.not_covered(&format!("hours before the last {HOURS_MAX}")));
        }
        Ok(window)
    }
}

/// The events that are counted, whenever they were.
struct Counted<'c> {
    binder: &'c Binder<'c>,
    of: Selection,
    window: Window,
}

impl Counted<'_> {
    fn did(&self, window: Window, figure: u8, range: NumberRange) -> Predicate {
        let kept = Window { from: self.binder.kept_from, to: i32::MAX };
        let window = window.and(kept);
        if window.is_empty() || range.is_empty() {
            return Predicate::Nobody;
        }
        let (fact, of) = (self.binder.fact.id, self.of.clone());
        Predicate::Did(predicate::Did { fact, of, window, figure, range })
    }

    /// At least one event.
    fn some(&self) -> Bound<Predicate> {
        Ok(self.did(self.window, 0, NumberRange::default()))
    }

    fn test(&self, test: &FigureTest) -> Bound<Predicate> {
        let window = self.window;
        match &test.figure {
            Figure::Count => compare(test, "count", Unit::Integer, |range| self.count(window, range)),
            Figure::Sum(name) => {
                let column = self.binder.column(name)?;
                let Some(measure) = self.binder.fact.measure(column) else {
                    let message = format!("`{name}` is not a measure of `{}`", self.binder.name);
                    return Err(ExprError::new(ExprErrorKind::Unsupported, message)
                        .suggest("declare it in `activity: { measures: […] }` of the fact"));
                };
                let unit = match self.binder.fact.columns[column].column_type.scale() {
                    0 => Unit::Integer,
                    scale => Unit::Decimal { scale },
                };
                compare(test, &format!("sum({name})"), unit, |range| self.sum(window, measure as u8 + 1, range))
            }
            Figure::First => self.end(test, window, true),
            Figure::Last => self.end(test, window, false),
        }
    }

    /// The number of events is in a range. Users without events have 0.
    fn count(&self, window: Window, range: NumberRange) -> Predicate {
        match (range.min, range.max) {
            (min, max) if min > max || max < 0 => Predicate::Nobody,
            (..=0, i64::MAX) => Predicate::All,
            (..=0, max) => self.did(window, 0, NumberRange { min: max + 1, max: i64::MAX }).negate(),
            _ => self.did(window, 0, range),
        }
    }

    /// The sum of a measure is in a range. Users without events have none.
    fn sum(&self, window: Window, figure: u8, range: NumberRange) -> Predicate {
        if range.is_empty() {
            return Predicate::Nobody;
        }
        if !range.contains(0) {
            return self.did(window, figure, range);
        }
        let mut parts = vec![self.did(window, 0, NumberRange::default())];
        if range.min > i64::MIN {
            parts.push(self.did(window, figure, NumberRange { min: i64::MIN, max: range.min - 1 }).negate());
        }
        if range.max < i64::MAX {
            parts.push(self.did(window, figure, NumberRange { min: range.max + 1, max: i64::MAX }).negate());
        }
        Predicate::And(parts)
    }

    /// The first or the last event is at a time that compares so.
    fn end(&self, test: &FigureTest, window: Window, is_first: bool) -> Bound<Predicate> {
        let some = |window: Window| self.did(window, 0, NumberRange::default());
        let within = |end: Window| {
            let beyond =
                if is_first { Window { from: i32::MIN, to: end.from } } else { Window { from: end.to, to: i32::MAX } };
            Predicate::And(vec![some(window.and(end)), some(window.and(beyond)).negate()])
        };
        let moments = |op: CompareOp, value: &Literal| self.binder.moments(op, value);
        Ok(match &test.test {
            Test::Compare(CompareOp::NotEqual | CompareOp::IsDistinctFrom, value) => {
                Predicate::And(vec![some(window), within(moments(CompareOp::Equal, value)?).negate()])
            }
            Test::Compare(op, value) => within(moments(*op, value)?),
            Test::Between { low, high, negated } => {
                let low = moments(CompareOp::GreaterOrEqual, low)?;
                let found = within(low.and(moments(CompareOp::LessOrEqual, high)?));
                if *negated { Predicate::And(vec![some(window), found.negate()]) } else { found }
            }
        })
    }
}

/// Turns a comparison into a range of numbers.
fn compare(test: &FigureTest, name: &str, unit: Unit, fits: impl Fn(NumberRange) -> Predicate) -> Bound<Predicate> {
    Ok(match &test.test {
        Test::Compare(op, value) => {
            let exact = number(name, unit, value)?;
            match op {
                CompareOp::NotEqual | CompareOp::IsDistinctFrom => {
                    Predicate::Or(vec![fits(exact.below(false)), fits(exact.above(false))])
                }
                op => fits(range_of(*op, exact)),
            }
        }
        Test::Between { low, high, negated } => {
            let (low, high) = (number(name, unit, low)?, number(name, unit, high)?);
            if *negated {
                Predicate::Or(vec![fits(low.below(false)), fits(high.above(false))])
            } else {
                let (above, below) = (low.above(true), high.below(true));
                if above.is_empty() || below.is_empty() {
                    Predicate::Nobody
                } else {
                    fits(NumberRange { min: above.min, max: below.max })
                }
            }
        }
    })
}

/// The text by which a literal is counted.
fn dimension_value(name: &str, column_type: ColumnType, value: &Literal) -> Bound<String> {
    let wrong = |what: &str, write: String| {
        Err(type_error(format!("`{name}` is {what}, {value} is not")).suggest(format!("write {write}")))
    };
    match (column_type, value) {
        (ColumnType::String, Literal::Text(text)) => Ok(text.clone()),
        (ColumnType::String, other) => wrong("text", format!("'{other}'")),
        (ColumnType::Integer, Literal::Number(digits)) => match literal::decimal(digits, 0).and_then(|n| n.number()) {
            Some(number) => Ok(number.to_string()),
            None => wrong("an integer", format!("{name} = 3")),
        },
        (ColumnType::Integer, _) => wrong("an integer", format!("{name} = 3")),
        (_, Literal::Bool(value)) => Ok(value.to_string()),
        _ => wrong("a boolean", format!("{name} or NOT {name}")),
    }
}
