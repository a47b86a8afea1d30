//! Conditions on behaviour that no activity index covers: what is asked of each row of a fact, and the seam to whoever reads the
//! rows.
//!
//! The engine keeps no rows that it can search; `engine-sql` does. [`FactScanner`] is all that the engine knows of it. A
//! [`Scan`] stands in a [`Predicate`](super::predicate::Predicate) like any other leaf until [`ops::resolve`](super::ops::resolve)
//! replaces it with the users it finds.
//!
//! An [`EventCondition`] has two values: where SQL says NULL of an event, the event is not meant, and binding has settled
//! that. Floating point numbers, and numbers in JSON, are compared as whole numbers of the same order (see [`float_key`]), so
//! that every comparison of numbers is a closed range.

use super::ops::QueryError;
use super::predicate::{Did, Selection};
use super::similar::{Similar, SimilarStats};
use crate::behavior::Window;
use crate::bitmap::bsi::NumberRange;
use crate::bitmap::view::BitmapView;
use crate::catalog::Fact;
use crate::error::Class;
use crate::ids::{Slot, TagId};
use crate::journey::Event;
use crate::store::Snapshot;
use roaring::RoaringBitmap;
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicBool;

/// The users with at least one event that is meant, whose figure lies in the range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scan {
    /// The fact.
    pub fact: TagId,
    /// When the events happened, by the clocks of the fact's zone; not empty. Within what is kept.
    pub window: Window,
    /// Which events are meant; canonical.
    pub condition: EventCondition,
    /// What they come to.
    pub figure: ScanFigure,
    /// What that must be; its ends stand for all that is beyond them. A sum of floating point numbers as [`float_key`].
    pub range: NumberRange,
}

/// Events of a fact that are meant, each for itself: a step of a funnel, a visit that counts as coming back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsMeant {
    /// The fact.
    pub fact: TagId,
    /// When they happened, by the clocks of the fact's zone. Within what is kept.
    pub window: Window,
    /// Which of those; canonical.
    pub condition: EventCondition,
    /// What the activity index counts them as, and when, if it covers them.
    pub counted: Option<(Selection, Window)>,
}

/// Events to be told one by one.
#[derive(Clone, Debug)]
pub struct EventScan {
    /// The fact.
    pub fact: TagId,
    /// Conditions that events may fulfil, with the number of each, below [`CONDITIONS_MAX`](crate::journey::CONDITIONS_MAX); what
    /// fulfils none is not told.
    pub conditions: Vec<(usize, Window, EventCondition)>,
}

/// Events told one by one.
#[derive(Debug, Default)]
pub struct ToldEvents {
    /// Per shard, in no order: their times are microseconds since 1970, their groups slots. Those that were taken back are left out.
    pub shards: Vec<Vec<Event>>,
    /// How.
    pub stats: ScanStats,
    /// What counts their memory as long as it is not dropped.
    pub held: Option<Box<dyn Any + Send>>,
}

/// Events to be told one by one, each as one thing: a page that was seen, a campaign that was shown.
#[derive(Clone, Debug)]
pub struct KindScan {
    /// The fact.
    pub fact: TagId,
    /// An event is of the first of these that means it; what none means is not told.
    pub kinds: Vec<Kind>,
}

/// Events of a fact that are one thing, or, with a column, as many as it has values.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its number, which no other has.
    pub number: u32,
    /// When they happened, by the clocks of the fact's zone.
    pub window: Window,
    /// Which of those.
    pub condition: EventCondition,
    /// The column whose values tell them apart, by its place.
    pub column: Option<u16>,
    /// The column, of numbers, whose value is told of each event, by its place.
    pub measure: Option<u16>,
}

/// A value of a column by which events are told apart. Their order: none first, then texts by their bytes, then numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventValue {
    /// There is none, or no column was asked for.
    None,
    /// A text, or JSON.
    Text(Box<str>),
    /// A whole number, a time in microseconds since 1970, a decimal times `10^scale`, or a [`float_key`].
    Number(i64),
    /// True or false.
    Flag(bool),
}

/// Events told one by one, each as one thing.
#[derive(Debug, Default)]
pub struct ToldKinds {
    /// As of [`ToldEvents`], but what an event fulfils is a place in `values`.
    pub shards: Vec<Vec<Event>>,
    /// What events are: the number of a [`Kind`], and a value of its column. In no order, each once.
    pub values: Vec<(u32, EventValue)>,
    /// Per shard, of each event the measure of its kind, as in [`EventValue::Number`]; 0 if it has none. Empty if no kind has a measure.
    pub measures: Vec<Vec<i64>>,
    /// How.
    pub stats: ScanStats,
    /// As of [`ToldEvents`].
    pub held: Option<Box<dyn Any + Send>>,
}

/// What events come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScanFigure {
    /// How many there are.
    Count,
    /// The sum of a column, by its place; what has no value adds nothing.
    Sum(u16),
}

/// What is asked of an event. True or false, never NULL: a comparison is false of an event without the value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventCondition {
    /// Any event.
    Any,
    /// No event.
    Never,
    /// It happened in these hours of the zone's clocks.
    Hours(Window),
    /// The field has a value (of its kind, in JSON).
    Known(EventField),
    /// The field is true.
    IsTrue(EventField),
    /// The number is in the range.
    InRange(EventField, NumberRange),
    /// The number is one of these; sorted, without doubles.
    NumberIn(EventField, Vec<i64>),
    /// The text is one of these; sorted, without doubles.
    TextIn(EventField, Vec<String>),
    /// The text comes so in the order of its bytes.
    TextOrder(EventField, TextOrder, String),
    /// All hold.
    And(Vec<EventCondition>),
    /// Any holds.
    Or(Vec<EventCondition>),
    /// It does not hold.
    Not(Box<EventCondition>),
}

/// Where a text stands in the order of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TextOrder {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What of an event is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventField {
    /// Its time, in microseconds since 1970.
    Time,
    /// A column, by its place in the fact. Decimals are numbers times `10^scale`, floats are [`float_key`]s.
    Column(u16),
    /// A value in JSON.
    Path(JsonPath),
}

/// A value in a JSON column, or in the fields of an event that are not declared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JsonPath {
    /// The column, by its place; `None`: what is not declared.
    pub column: Option<u16>,
    /// The keys that lead to it, outermost first; in an array, a key of digits is a place from 0.
    pub keys: Vec<String>,
    /// What it must be, else it counts as NULL.
    pub kind: JsonKind,
}

/// The kinds of value that JSON has and conditions ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JsonKind {
    /// Anything but null.
    Any,
    /// A string.
    Text,
    /// A number, as a [`float_key`] of the nearest 64-bit floating point number.
    Number,
    /// A boolean.
    Boolean,
}

/// A whole number of the same order as a floating point number; −0 stands right below 0, NaN beyond infinity.
pub fn float_key(number: f64) -> i64 {
    let bits = number.to_bits().cast_signed();
    // Negative numbers grow in size as their bits do; turned, they fall.
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// The floating point number of a [`float_key`].
pub fn float_of(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed()).cast_unsigned())
}

/// Whether a range holds a figure; its ends stand for all that is beyond them.
pub fn holds(range: NumberRange, figure: i128) -> bool {
    (range.min == i64::MIN || figure >= range.min.into()) && (range.max == i64::MAX || figure <= range.max.into())
}

impl EventsMeant {
    /// Whether there can be none.
    pub fn is_none(&self) -> bool {
        self.window.is_empty() || self.condition == EventCondition::Never
    }

    /// Users with any event of the fact in the days that are meant, and maybe with one that is: the index knows them.
    pub(super) fn superset(&self) -> Did {
        match &self.counted {
            Some((of, window)) => {
                Did { fact: self.fact, of: of.clone(), window: *window, figure: 0, range: NumberRange::default() }
            }
            None => days_superset(self.fact, self.window),
        }
    }
}

/// Users with any event of a fact in the days that a window touches.
fn days_superset(fact: TagId, Window { from, to }: Window) -> Did {
    let from = if from == i32::MIN { from } else { from.div_euclid(24).saturating_mul(24) };
    let to = if to == i32::MAX { to } else { to.div_euclid(24).saturating_add(1).saturating_mul(24) };
    Did { fact, of: Selection::All, window: Window { from, to }, figure: 0, range: NumberRange::default() }
}

impl Scan {
    /// Users with any event of the fact in the days that the window touches: the index knows them.
    pub(super) fn superset(&self) -> Did {
        days_superset(self.fact, self.window)
    }
}

impl EventCondition {
    /// The complement.
    pub fn negate(self) -> EventCondition {
        match self {
            EventCondition::Any => EventCondition::Never,
            EventCondition::Never => EventCondition::Any,
            EventCondition::Not(of) => *of,
            other => EventCondition::Not(Box::new(other)),
        }
    }

    /// The same in canonical form: nested ANDs and ORs flat, operands sorted and without doubles, constants folded.
    pub fn canonical(self) -> EventCondition {
        use EventCondition::{And, Any, Hours, InRange, Never, Not, NumberIn, Or, TextIn};
        match self {
            Hours(window) if window.is_empty() => Never,
            Hours(Window::ALL) => Any,
            InRange(_, range) if range.is_empty() => Never,
            NumberIn(field, mut numbers) => {
                numbers.sort_unstable();
                numbers.dedup();
                match (numbers.first(), numbers.last()) {
                    // Without gaps they are a range.
                    (Some(&min), Some(&max)) if max.abs_diff(min) == numbers.len() as u64 - 1 => {
                        InRange(field, NumberRange { min, max })
                    }
                    (Some(_), Some(_)) => NumberIn(field, numbers),
                    _ => Never,
                }
            }
            TextIn(field, mut texts) => {
                texts.sort_unstable();
                texts.dedup();
                if texts.is_empty() { Never } else { TextIn(field, texts) }
            }
            And(of) => joined(of, Any, Never, And),
            Or(of) => joined(of, Never, Any, Or),
            Not(of) => of.canonical().negate(),
            leaf => leaf,
        }
    }

    /// The fields that it looks at; one may come several times.
    pub fn fields(&self) -> Vec<&EventField> {
        let mut fields = Vec::new();
        self.add_fields(&mut fields);
        fields
    }

    fn add_fields<'c>(&'c self, fields: &mut Vec<&'c EventField>) {
        match self {
            EventCondition::Any | EventCondition::Never => {}
            EventCondition::Hours(_) => fields.push(&EventField::Time),
            EventCondition::Known(field)
            | EventCondition::IsTrue(field)
            | EventCondition::InRange(field, _)
            | EventCondition::NumberIn(field, _)
            | EventCondition::TextIn(field, _)
            | EventCondition::TextOrder(field, _, _) => fields.push(field),
            EventCondition::And(of) | EventCondition::Or(of) => of.iter().for_each(|one| one.add_fields(fields)),
            EventCondition::Not(of) => of.add_fields(fields),
        }
    }

    /// How many conditions it is made of; the values of a list are not counted.
    pub fn node_count(&self) -> usize {
        1 + match self {
            EventCondition::And(of) | EventCondition::Or(of) => of.iter().map(EventCondition::node_count).sum(),
            EventCondition::Not(of) => of.node_count(),
            _ => 0,
        }
    }

    /// What must hold of every event that is meant: the operands of an AND, or the condition itself.
    pub fn conjuncts(&self) -> &[EventCondition] {
        match self {
            EventCondition::And(of) => of,
            other => std::slice::from_ref(other),
        }
    }

    /// The instants (microseconds since 1970) outside of which no event is meant, as far as the condition says so.
    pub fn instants(&self) -> NumberRange {
        self.conjuncts().iter().fold(NumberRange::ALL, |all, one| match one {
            EventCondition::InRange(EventField::Time, range) => {
                NumberRange { min: all.min.max(range.min), max: all.max.min(range.max) }
            }
            _ => all,
        })
    }
}

/// An AND or OR in canonical form: `neutral` is left out, `settling` settles it.
fn joined(
    of: Vec<EventCondition>,
    neutral: EventCondition,
    settling: EventCondition,
    join: fn(Vec<EventCondition>) -> EventCondition,
) -> EventCondition {
    let mut operands = Vec::with_capacity(of.len());
    for operand in of {
        match (operand.canonical(), &settling) {
            (operand, _) if operand == neutral => {}
            (EventCondition::And(inner), EventCondition::Never) => operands.extend(inner),
            (EventCondition::Or(inner), EventCondition::Any) => operands.extend(inner),
            (operand, _) => operands.push(operand),
        }
    }
    operands.sort_unstable();
    operands.dedup();
    if operands.contains(&settling) {
        return settling;
    }
    match operands.len() {
        0 => neutral,
        1 => operands.remove(0),
        _ => join(operands),
    }
}

impl EventField {
    /// The column it reads, by its place; `None` for the time and for what is not declared.
    pub fn column(&self) -> Option<u16> {
        match self {
            EventField::Time => None,
            EventField::Column(at) => Some(*at),
            EventField::Path(path) => path.column,
        }
    }

    /// Its name in the audience language.
    pub fn name(&self, fact: &Fact) -> String {
        let column = |at: u16| fact.columns[usize::from(at)].name.clone();
        match self {
            EventField::Time => "ts".to_owned(),
            EventField::Column(at) => column(*at),
            EventField::Path(path) => {
                let mut name = path.column.map_or(UNDECLARED.to_owned(), column);
                for key in &path.keys {
                    name.push('.');
                    name.push_str(&super::path::quoted(key));
                }
                name
            }
        }
    }
}

/// The name of the fields that are not declared.
pub const UNDECLARED: &str = "undeclared";

/// What reading rows came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanStats {
    /// Rows that were left by the filters and looked at.
    pub rows_read: u64,
    /// Files of the table that were opened, after whole days and files were ruled out.
    pub files: u64,
    /// Rows that were not in the table yet.
    pub recent_rows: u64,
    /// Users the scan was restricted to; `None`: all.
    pub users_within: Option<u64>,
    /// Time it took.
    pub microseconds: u64,
}

impl ScanStats {
    /// Adds what reading more rows came to.
    pub fn add(&mut self, more: &ScanStats) {
        self.rows_read += more.rows_read;
        self.files += more.files;
        self.recent_rows += more.recent_rows;
        self.microseconds += more.microseconds;
    }
}

/// What a scan found.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    /// Slots per shard.
    pub users: Vec<RoaringBitmap>,
    /// How.
    pub stats: ScanStats,
}

/// Reads rows of facts.
pub trait FactScanner: std::fmt::Debug + Send + Sync {
    /// The users of whom the scan holds in the snapshot, as slots per shard; with `within`, of these users and nobody else. Blocks; looks
    /// at `cancelled` as it goes.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`], or [`QueryError::Scan`].
    fn scan(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<Scanned, QueryError>;

    /// What the events of one user (shard and slot) that are meant come to in the snapshot, which the range is compared with: sums of
    /// floating point numbers as [`float_key`]. `None` if there are no such events. Blocks as [`FactScanner::scan`] does.
    ///
    /// # Errors
    /// As [`FactScanner::scan`].
    fn figure(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        user: (usize, Slot),
        cancelled: &AtomicBool,
    ) -> Result<Option<i128>, QueryError>;

    /// The events that fulfil some conditions in the snapshot; with `within`, of these users and nobody else. Blocks as
    /// [`FactScanner::scan`] does.
    ///
    /// # Errors
    /// As [`FactScanner::scan`].
    fn events(
        &self,
        snapshot: &Snapshot,
        scan: &EventScan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<ToldEvents, QueryError>;

    /// The events of some kinds in the snapshot, as [`FactScanner::events`] tells those that fulfil conditions.
    ///
    /// # Errors
    /// As [`FactScanner::scan`].
    fn kinds(
        &self,
        snapshot: &Snapshot,
        scan: &KindScan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<ToldKinds, QueryError>;
}

/// Why rows of a fact cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the events of fact `{fact}` cannot be searched: {why}")]
pub struct ScanError {
    /// The fact.
    pub fact: String,
    /// What went wrong, and what to do about it.
    pub why: String,
    /// See [`Class`].
    pub class: Class,
}

/// What users were found by, and what that came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Rows of a fact.
    Scan(Scan, ScanStats),
    /// Their vectors.
    Similar(Box<Similar>, SimilarStats),
}

/// Users told one by one: those a scan or a search found, or was told to look among.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// What they were found by, if by anything.
    pub by: Option<Found>,
    /// Slots per shard, serialised.
    pub(super) slots: Vec<Vec<u8>>,
}

impl Given {
    /// Users of a snapshot, as slots per shard; a shard that is left out has none.
    pub fn new(by: Option<Found>, shard_count: usize, users: &[RoaringBitmap]) -> Given {
        let none = RoaringBitmap::new();
        let serialized = |shard: usize| {
            let users = users.get(shard).unwrap_or(&none);
            let mut bytes = Vec::with_capacity(users.serialized_size());
            users.serialize_into(&mut bytes).expect("memory does not fail");
            bytes
        };
        Given { by, slots: (0..shard_count).map(serialized).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.slots.iter().map(|slots| BitmapView::trusted(slots).len()).sum()
    }
}

impl Hash for Given {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.by {
            None => {}
            Some(Found::Scan(scan, _)) => scan.hash(state),
            Some(Found::Similar(similar, _)) => similar.hash(state),
        }
        self.slots.iter().map(Vec::len).for_each(|len| len.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_floats_have_their_order() {
        let rising = [f64::NEG_INFINITY, f64::MIN, -1.5, -1e-300, -0.0, 0.0, 1e-300, 1.5, f64::MAX, f64::INFINITY];
        assert!(rising.is_sorted_by(|a, b| float_key(*a) < float_key(*b)));
        assert!(rising.iter().all(|number| float_of(float_key(*number)).to_bits() == number.to_bits()));
        assert!(float_key(f64::NAN) > float_key(f64::INFINITY));
    }

    #[test]
    fn conditions_have_one_form() {
        use EventCondition::{And, Any, IsTrue, Known, Never, Or};
        let (a, b) = (IsTrue(EventField::Column(0)), Known(EventField::Column(1)));
        let nested = And(vec![And(vec![b.clone(), a.clone()]), Any, a.clone()]);
        assert_eq!(nested.canonical(), And(vec![b.clone(), a.clone()]).canonical());
        assert_eq!(And(vec![a.clone(), Never]).canonical(), Never);
        assert_eq!(Or(vec![a.clone(), Or(vec![Any, b.clone()])]).canonical(), Any);
        assert_eq!(Or(vec![]).canonical(), Never);
        assert_eq!(And(vec![Or(vec![a.clone(), a.clone()])]).canonical(), a);
        assert_eq!(a.clone().negate().negate(), a);
        let numbers = |numbers: &[i64]| EventCondition::NumberIn(EventField::Column(0), numbers.to_vec()).canonical();
        assert_eq!(numbers(&[5, 1, 5]), EventCondition::NumberIn(EventField::Column(0), vec![1, 5]));
        assert_eq!(
            numbers(&[3, 2, 4, 2]),
            EventCondition::InRange(EventField::Column(0), NumberRange { min: 2, max: 4 })
        );
        assert!(matches!(numbers(&[i64::MIN, i64::MAX]), EventCondition::NumberIn(_, _)));
        assert_eq!(numbers(&[]), Never);
    }
}
