//! Events told one by one, each as one thing: a step, or a value of its column. Values are kept once, and events have their places; what is
//! measured stands beside them, since it may be another number each time.

use super::Failure;
use super::condition::{filter_any, meant};
use super::reading::{Gather, Rows, Wanted, columns_of, damaged};
use super::told::leave_out;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::ident;
use engine::audience::scan::{EventCondition, EventValue, Kind, KindScan, ToldKinds, float_key};
use engine::behavior::Window;
use engine::catalog::Fact;
use engine::journey::Event;
use roaring::RoaringBitmap;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Memory of a value that is kept, beside its text: a key, its place, and room that a table leaves.
const VALUE_BYTES: usize = 48;

/// The columns that tell events apart or are measured, each once.
fn columns(scan: &KindScan) -> Vec<u16> {
    let columns = scan.kinds.iter().flat_map(|kind| [kind.column, kind.measure]).flatten();
    columns.collect::<BTreeSet<u16>>().into_iter().collect()
}

/// The rows of any kind: their time, whether each means them (of one alone, that is known), and the columns that tell them apart or are
/// measured.
pub(super) fn wanted(fact: &Fact, scan: &KindScan, within: Option<&Arc<Vec<RoaringBitmap>>>) -> Wanted {
    let mut values = vec![ident("ts")];
    if scan.kinds.len() > 1 {
        let is_of = |kind: &Kind| meant(fact, kind.window, &kind.condition).alias(format!("is {}", kind.number));
        values.extend(scan.kinds.iter().map(is_of));
    }
    let own = columns(scan).into_iter().filter_map(|at| fact.columns.get(usize::from(at)));
    let own: Vec<&str> = own.map(|column| column.name.as_str()).collect();
    values.extend(own.iter().map(|name| ident(*name)));
    let conditions: Vec<(usize, Window, EventCondition)> =
        scan.kinds.iter().map(|kind| (kind.number as usize, kind.window, kind.condition.clone())).collect();
    let mut columns: BTreeSet<String> =
        conditions.iter().flat_map(|(_, _, condition)| columns_of(fact, condition)).collect();
    columns.extend(own.iter().map(|name| (*name).to_owned()));
    Wanted { filter: filter_any(fact, &conditions, within), values, columns }
}

/// The things that the events of a kind are, by their values, with the place of each.
#[derive(Debug, Default)]
struct Things {
    none: Option<u32>,
    flags: [Option<u32>; 2],
    numbers: HashMap<i64, u32>,
    texts: HashMap<Box<str>, u32>,
}

/// A kind by its number, and which of the columns that are read tells its events apart, and which is measured.
#[derive(Debug)]
struct Places {
    number: u32,
    column: Option<usize>,
    measure: Option<usize>,
}

/// Events of a shard.
#[derive(Clone, Debug, Default)]
struct ShardEvents {
    events: Vec<Event>,
    /// Of each its measure; none if no kind has one.
    measures: Vec<i64>,
}

impl ShardEvents {
    fn add(&mut self, mut other: ShardEvents) {
        if self.events.is_empty() {
            *self = other;
        } else {
            self.events.append(&mut other.events);
            self.measures.append(&mut other.measures);
        }
    }

    /// Takes out one event for each that is taken back, which repeats its measure too.
    fn leave_out(&mut self, mut taken_back: ShardEvents) {
        if taken_back.events.is_empty() {
            return;
        }
        if self.measures.is_empty() {
            return leave_out(&mut self.events, &mut taken_back.events, Event::order_of_things);
        }
        let paired = |of: ShardEvents| of.events.into_iter().zip(of.measures).collect::<Vec<(Event, i64)>>();
        let mut events = paired(std::mem::take(self));
        let order = |a: &(Event, i64), b: &(Event, i64)| a.0.order_of_things(&b.0).then(a.1.cmp(&b.1));
        leave_out(&mut events, &mut paired(taken_back), order);
        (self.events, self.measures) = events.into_iter().unzip();
    }

    fn memory_bytes(&self) -> usize {
        self.events.capacity() * size_of::<Event>() + self.measures.capacity() * size_of::<i64>()
    }
}

/// Events, those that take others back, and what they are.
#[derive(Debug)]
pub(super) struct Kinds {
    kinds: Arc<Vec<Places>>,
    is_measured: bool,
    things: Vec<Things>,
    thing_count: u32,
    text_bytes: usize,
    shards: Vec<ShardEvents>,
    taken_back: Vec<ShardEvents>,
}

/// Whose values are read one by one.
enum Values<'b> {
    Texts(&'b arrow::array::StringArray),
    Numbers(Box<dyn Fn(usize) -> Option<i64> + 'b>, &'b dyn Array),
    Flags(&'b BooleanArray),
}

impl<'b> Values<'b> {
    fn of(column: &'b ArrayRef) -> Result<Values<'b>, Failure> {
        let numbers = |number: Box<dyn Fn(usize) -> Option<i64> + 'b>| Ok(Values::Numbers(number, column));
        match column.data_type() {
            DataType::Utf8 => Ok(Values::Texts(column.as_string())),
            DataType::Boolean => Ok(Values::Flags(column.as_boolean())),
            DataType::Int64 => {
                let own = column.as_primitive::<Int64Type>();
                numbers(Box::new(|row| Some(own.value(row))))
            }
            DataType::Timestamp(..) => {
                let own = column.as_primitive_opt::<TimestampMicrosecondType>();
                let own = own.ok_or_else(|| damaged("a time is not of microseconds"))?;
                numbers(Box::new(|row| Some(own.value(row))))
            }
            DataType::Float64 => {
                let own = column.as_primitive::<Float64Type>();
                numbers(Box::new(|row| Some(float_key(own.value(row)))))
            }
            DataType::Decimal128(..) => {
                let own = column.as_primitive::<Decimal128Type>();
                numbers(Box::new(|row| own.value(row).try_into().ok()))
            }
            other => Err(damaged(&format!("a column is {other}"))),
        }
    }
}

impl Kinds {
    pub(super) fn new(shard_count: usize, scan: &KindScan) -> Kinds {
        let columns = columns(scan);
        let place = |at: Option<u16>| columns.iter().position(|column| Some(*column) == at);
        let places =
            |kind: &Kind| Places { number: kind.number, column: place(kind.column), measure: place(kind.measure) };
        let kinds: Vec<Places> = scan.kinds.iter().map(places).collect();
        let none = vec![ShardEvents::default(); shard_count];
        Kinds {
            things: kinds.iter().map(|_| Things::default()).collect(),
            is_measured: kinds.iter().any(|kind| kind.measure.is_some()),
            kinds: Arc::new(kinds),
            thing_count: 0,
            text_bytes: 0,
            shards: none.clone(),
            taken_back: none,
        }
    }

    /// The place of a thing, a new one if it is new.
    fn place(&mut self, kind: usize, value: Value<'_>) -> u32 {
        let Kinds { things, thing_count, text_bytes, .. } = self;
        let things = &mut things[kind];
        let mut next = || {
            *thing_count += 1;
            *thing_count - 1
        };
        match value {
            Value::None => *things.none.get_or_insert_with(next),
            Value::Flag(flag) => *things.flags[usize::from(flag)].get_or_insert_with(next),
            Value::Number(number) => *things.numbers.entry(number).or_insert_with(next),
            Value::Text(text) => match things.texts.get(text) {
                Some(place) => *place,
                None => {
                    *text_bytes += text.len();
                    let place = next();
                    things.texts.insert(text.into(), place);
                    place
                }
            },
        }
    }

    /// Those that were not taken back, per shard, and what they are; how they were read is not told yet.
    pub(super) fn finish(mut self) -> ToldKinds {
        for (events, taken_back) in self.shards.iter_mut().zip(self.taken_back) {
            events.leave_out(taken_back);
        }
        let mut values = vec![(0, EventValue::None); self.thing_count as usize];
        for (Places { number, .. }, things) in self.kinds.iter().zip(self.things) {
            let Things { none, flags: [no, yes], numbers, texts } = things;
            let mut put = |place: u32, value| values[place as usize] = (*number, value);
            none.into_iter().for_each(|place| put(place, EventValue::None));
            no.into_iter().for_each(|place| put(place, EventValue::Flag(false)));
            yes.into_iter().for_each(|place| put(place, EventValue::Flag(true)));
            numbers.into_iter().for_each(|(number, place)| put(place, EventValue::Number(number)));
            texts.into_iter().for_each(|(text, place)| put(place, EventValue::Text(text)));
        }
        let (shards, measures) = self.shards.into_iter().map(|of| (of.events, of.measures)).unzip();
        let measures = if self.is_measured { measures } else { Vec::new() };
        ToldKinds { shards, values, measures, ..ToldKinds::default() }
    }
}

/// A value, not kept yet.
enum Value<'v> {
    None,
    Text(&'v str),
    Number(i64),
    Flag(bool),
}

impl Gather for Kinds {
    fn add(&mut self, rows: &Rows<'_>) -> Result<(), Failure> {
        let Some((times, more)) = rows.values().split_first() else { return Err(damaged("rows have no time")) };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.filter(|times| times.null_count() == 0).ok_or_else(|| damaged("ts is no time"))?;
        let kinds = Arc::clone(&self.kinds);
        let (conditions, columns) = more.split_at(if kinds.len() > 1 { kinds.len() } else { 0 });
        let conditions: Vec<&BooleanArray> = conditions.iter().map(|condition| condition.as_boolean()).collect();
        let columns: Vec<Values<'_>> = columns.iter().map(Values::of).collect::<Result<_, _>>()?;
        for row in 0..rows.len() {
            let Some((shard, slot)) = rows.user(row) else { continue };
            let kind = if conditions.is_empty() { Some(0) } else { conditions.iter().position(|is| is.value(row)) };
            let Some(kind) = kind else { continue };
            let value = |at: Option<usize>| {
                Ok::<Value<'_>, Failure>(match at.and_then(|at| columns.get(at)) {
                    Some(Values::Texts(own)) if own.is_valid(row) => Value::Text(own.value(row)),
                    Some(Values::Flags(own)) if own.is_valid(row) => Value::Flag(own.value(row)),
                    Some(Values::Numbers(number, own)) if own.is_valid(row) => {
                        Value::Number(number(row).ok_or_else(|| damaged("a decimal is too large"))?)
                    }
                    _ => Value::None,
                })
            };
            let fulfils = self.place(kind, value(kinds[kind].column)?);
            let to = if rows.weight(row) < 0 { &mut self.taken_back } else { &mut self.shards };
            to[shard].events.push(Event { time: times.value(row), fulfils, group: slot });
            if self.is_measured {
                let measure = match value(kinds[kind].measure)? {
                    Value::Number(number) => number,
                    _ => 0,
                };
                to[shard].measures.push(measure);
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), Failure> {
        let mut places = vec![0; other.thing_count as usize];
        for (kind, Things { none, flags, numbers, texts }) in other.things.into_iter().enumerate() {
            let mut put = |place: u32, value: Value<'_>| places[place as usize] = self.place(kind, value);
            none.into_iter().for_each(|place| put(place, Value::None));
            for (flag, place) in [false, true].into_iter().zip(flags) {
                place.into_iter().for_each(|place| put(place, Value::Flag(flag)));
            }
            numbers.into_iter().for_each(|(number, place)| put(place, Value::Number(number)));
            texts.iter().for_each(|(text, place)| put(*place, Value::Text(text)));
        }
        let pairs = self.shards.iter_mut().zip(other.shards).chain(self.taken_back.iter_mut().zip(other.taken_back));
        for (own, mut other) in pairs {
            other.events.iter_mut().for_each(|event| event.fulfils = places[event.fulfils as usize]);
            own.add(other);
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let events: usize = self.shards.iter().chain(&self.taken_back).map(ShardEvents::memory_bytes).sum();
        events + self.thing_count as usize * VALUE_BYTES + self.text_bytes
    }
}
