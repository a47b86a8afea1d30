//! What is asked of an event as an expression over the table's columns.
//!
//! Here a comparison may be NULL, where the condition is false. That makes no difference to AND, OR and what is left in the
//! end, and under a NOT it is settled with `IS NOT TRUE`.
//!
//! Beside the condition stand others that say nothing new but can rule out days, files, row groups and pages: the days and
//! instants of a window of hours, and the shards and slots of few users.

use super::json::{Found, tested};
use super::texts::{Condition, Conditions};
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf, lit};
use datafusion::prelude::ident;
use datafusion::scalar::ScalarValue;
use engine::audience::scan::{EventCondition, EventField, JsonPath, Scan, TextOrder, UNDECLARED, float_key, float_of};
use engine::behavior::Window;
use engine::behavior::slice::{HOUR_MICROS, hour_of};
use engine::bitmap::bsi::NumberRange;
use engine::catalog::{ColumnType, Fact, Zone};
use engine::ids::CHUNK_SLOTS;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many users of a shard are named one by one; of more, the smallest and the largest slot.
const SLOTS_NAMED_MAX: u64 = 16;
/// So many shards are named one by one; of more, the smallest and the largest.
const SHARDS_NAMED_MAX: usize = 64;
/// Of more users, where they are is told of all shards together.
const USERS_PLACED_MAX: u64 = 10_000;
/// The most that clocks differ from UTC.
const OFFSET_MICROS_MAX: i64 = 48 * HOUR_MICROS;
/// Days that files are known by, since 1970: those with a four-digit year; events before and after are in the first and the last.
const DAYS: (i64, i64) = (-719_162, 2_932_896);

/// The rows that are meant, of these users; `None`: all.
pub(super) fn filter(fact: &Fact, scan: &Scan, within: Option<&Arc<Vec<RoaringBitmap>>>) -> Option<Expr> {
    let mut all = window(&fact.zone, scan.window);
    all.extend(instants(scan.condition.instants()));
    if let Some(within) = within {
        all.push(places(within));
    }
    for condition in scan.condition.conjuncts().iter().filter(|condition| **condition != EventCondition::Any) {
        all.push(expression(fact, condition));
    }
    if let Some(within) = within {
        all.push(membership(within));
    }
    balanced(all, Expr::and)
}

/// The rows that any of some conditions means, of these users; `None`: all.
pub(super) fn filter_any(fact: &Fact, all: &[Condition], within: Option<&Arc<Vec<RoaringBitmap>>>) -> Option<Expr> {
    let conditions = Conditions::of(all);
    let mut any: Vec<Expr> = conditions.bits(fact).into_iter().map(|bits| bits.not_eq(lit(0_u32))).collect();
    any.extend(conditions.others.iter().map(|(_, window, condition)| meant(fact, *window, condition)));
    let any = balanced(any, Expr::or);
    balanced(filter_when(fact, all, within).into_iter().chain(any).collect(), Expr::and)
}

/// The rows of the time that some conditions look at, of these users; `None`: all.
pub(super) fn filter_when(fact: &Fact, all: &[Condition], within: Option<&Arc<Vec<RoaringBitmap>>>) -> Option<Expr> {
    // All are in the hours from the first to the last of any.
    let from = all.iter().map(|(_, window, _)| window.from).min().unwrap_or(i32::MIN);
    let to = all.iter().map(|(_, window, _)| window.to).max().unwrap_or(i32::MAX);
    let mut asked = window(&fact.zone, Window { from, to });
    asked.extend(within.map(|within| places(within)));
    asked.extend(within.map(membership));
    balanced(asked, Expr::and)
}

/// Whether a condition means a row. Never NULL.
pub(super) fn meant(fact: &Fact, hours: Window, condition: &EventCondition) -> Expr {
    let mut all = window(&fact.zone, hours);
    all.extend(instants(condition.instants()));
    all.push(expression(fact, condition));
    balanced(all, Expr::and).unwrap_or_else(|| lit(true)).is_true()
}

/// Conditions joined in pairs of pairs: what walks down an expression goes no deeper than their number's logarithm.
fn balanced(mut all: Vec<Expr>, join: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    while all.len() > 1 {
        let mut left = all.into_iter();
        let mut pairs = Vec::with_capacity(left.len().div_ceil(2));
        while let Some(first) = left.next() {
            pairs.push(match left.next() {
                Some(second) => join(first, second),
                None => first,
            });
        }
        all = pairs;
    }
    all.pop()
}

fn expression(fact: &Fact, condition: &EventCondition) -> Expr {
    let joined = |of: &[EventCondition], join: fn(Expr, Expr) -> Expr, none: bool| {
        balanced(of.iter().map(|one| expression(fact, one)).collect(), join).unwrap_or_else(|| lit(none))
    };
    match condition {
        EventCondition::Any => lit(true),
        EventCondition::Never => lit(false),
        EventCondition::Hours(hours) => {
            window(&fact.zone, *hours).into_iter().reduce(Expr::and).unwrap_or_else(|| lit(true))
        }
        EventCondition::Known(EventField::Path(path)) => json(fact, path, |_| true),
        EventCondition::Known(field) => column(fact, field).is_not_null(),
        EventCondition::IsTrue(EventField::Path(path)) => json(fact, path, |value| value == Found::Boolean(true)),
        EventCondition::IsTrue(field) => column(fact, field),
        EventCondition::InRange(EventField::Path(path), range) => {
            let range = *range;
            json(fact, path, move |value| matches!(value, Found::Number(own) if range.contains(float_key(own))))
        }
        EventCondition::InRange(field, range) => in_range(fact, field, *range),
        EventCondition::NumberIn(EventField::Path(path), keys) => {
            let keys = keys.clone();
            json(
                fact,
                path,
                move |value| matches!(value, Found::Number(own) if keys.binary_search(&float_key(own)).is_ok()),
            )
        }
        EventCondition::NumberIn(field, numbers) => {
            let column_type = number_type(fact, field);
            let can_be = |number: &&i64| most(column_type).is_none_or(|most| (-most..=most).contains(*number));
            let can_be = numbers.iter().filter(can_be);
            column(fact, field).in_list(can_be.map(|number| literal(column_type, *number)).collect(), false)
        }
        EventCondition::TextIn(EventField::Path(path), texts) => {
            let texts = texts.clone();
            json(
                fact,
                path,
                move |value| matches!(value, Found::Text(own) if texts.binary_search_by(|text| text.as_str().cmp(own)).is_ok()),
            )
        }
        EventCondition::TextIn(field, texts) => match texts.as_slice() {
            [text] => column(fact, field).eq(lit(text.as_str())),
            texts => column(fact, field).in_list(texts.iter().map(|text| lit(text.as_str())).collect(), false),
        },
        EventCondition::TextOrder(EventField::Path(path), order, text) => {
            let (order, text) = (*order, text.clone());
            json(fact, path, move |value| matches!(value, Found::Text(own) if comes(order, own, &text)))
        }
        EventCondition::TextOrder(field, order, text) => {
            let (column, text) = (column(fact, field), lit(text.as_str()));
            match order {
                TextOrder::Less => column.lt(text),
                TextOrder::LessOrEqual => column.lt_eq(text),
                TextOrder::Greater => column.gt(text),
                TextOrder::GreaterOrEqual => column.gt_eq(text),
            }
        }
        EventCondition::And(of) => joined(of, Expr::and, true),
        EventCondition::Or(of) => joined(of, Expr::or, false),
        EventCondition::Not(of) => expression(fact, of).is_not_true(),
    }
}

fn comes(order: TextOrder, own: &str, text: &str) -> bool {
    match order {
        TextOrder::Less => own < text,
        TextOrder::LessOrEqual => own <= text,
        TextOrder::Greater => own > text,
        TextOrder::GreaterOrEqual => own >= text,
    }
}

fn column(fact: &Fact, field: &EventField) -> Expr {
    match field.column() {
        Some(at) => ident(&fact.columns[usize::from(at)].name),
        None => ident("ts"),
    }
}

fn json(fact: &Fact, path: &JsonPath, test: impl Fn(Found<'_>) -> bool + Send + Sync + 'static) -> Expr {
    let column = path.column.map_or(UNDECLARED, |at| &fact.columns[usize::from(at)].name);
    tested(column, path, test)
}

fn number_type(fact: &Fact, field: &EventField) -> ColumnType {
    match field.column() {
        Some(at) => fact.columns[usize::from(at)].column_type,
        None => ColumnType::Timestamp,
    }
}

/// A decimal column holds no more digits than it was declared with, and neither do literals.
fn most(column_type: ColumnType) -> Option<i64> {
    match column_type {
        ColumnType::Decimal { precision, .. } => Some(10i64.pow(precision.into()) - 1),
        _ => None,
    }
}

fn literal(column_type: ColumnType, number: i64) -> Expr {
    lit(match column_type {
        ColumnType::Decimal { precision, scale } => {
            ScalarValue::Decimal128(Some(number.into()), precision, scale.cast_signed())
        }
        ColumnType::Float => ScalarValue::Float64(Some(float_of(number))),
        ColumnType::Timestamp => instant(number),
        _ => ScalarValue::Int64(Some(number)),
    })
}

fn in_range(fact: &Fact, field: &EventField, range: NumberRange) -> Expr {
    let column_type = number_type(fact, field);
    let literal = |number: i64| literal(column_type, number);
    let column = column(fact, field);
    let range = match most(column_type) {
        Some(most) => {
            if range.min > most || range.max < -most {
                return lit(false);
            }
            NumberRange {
                min: if range.min < -most { i64::MIN } else { range.min },
                max: if range.max > most { i64::MAX } else { range.max },
            }
        }
        None => range,
    };
    match (range.min, range.max) {
        (i64::MIN, i64::MAX) => column.is_not_null(),
        (min, max) if min == max && column_type != ColumnType::Float => column.eq(literal(min)),
        (i64::MIN, max) => column.lt_eq(literal(max)),
        (min, i64::MAX) => column.gt_eq(literal(min)),
        (min, max) => column.clone().gt_eq(literal(min)).and(column.lt_eq(literal(max))),
    }
}

fn instant(micros: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
}

/// The days that events between two instants are in, with room for any zone.
fn instants(range: NumberRange) -> Vec<Expr> {
    let day = |micros: i64| micros.div_euclid(24 * HOUR_MICROS);
    let from = (range.min > i64::MIN).then(|| day(range.min.saturating_sub(OFFSET_MICROS_MAX)));
    let to = (range.max < i64::MAX).then(|| day(range.max.saturating_add(OFFSET_MICROS_MAX)));
    days(from, to)
}

/// Days from the first to the last, both included.
fn days(from: Option<i64>, to: Option<i64>) -> Vec<Expr> {
    let date = |day: i64| lit(ScalarValue::Date32(Some(day as i32)));
    let from = from.filter(|day| *day > DAYS.0).map(|day| ident("day").gt_eq(date(day.min(DAYS.1))));
    let to = to.filter(|day| *day < DAYS.1).map(|day| ident("day").lt_eq(date(day.max(DAYS.0))));
    from.into_iter().chain(to).collect()
}

/// Events of these hours of the zone's clocks: by day and by time roughly, then exactly.
fn window(zone: &Zone, hours: Window) -> Vec<Expr> {
    if hours == Window::ALL {
        return Vec::new();
    }
    let from = (hours.from > i32::MIN).then_some(hours.from);
    let to = (hours.to < i32::MAX).then_some(hours.to);
    let mut all = days(from.map(|hour| hour.div_euclid(24).into()), to.map(|hour| (hour - 1).div_euclid(24).into()));
    let micros = |hour: i32| i64::from(hour) * HOUR_MICROS;
    all.extend(from.map(|hour| ident("ts").gt_eq(lit(instant(micros(hour) - OFFSET_MICROS_MAX)))));
    all.extend(to.map(|hour| ident("ts").lt(lit(instant(micros(hour) + OFFSET_MICROS_MAX)))));
    let zone = zone.clone();
    let function = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let Some(times) = arrays.first().and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>()) else {
            return exec_err!("`ts` is no time");
        };
        let is_within = |ts: i64| {
            let hour = hour_of(zone.local(ts));
            hours.from <= hour && hour < hours.to
        };
        let answers: BooleanArray = times.iter().map(|ts| Some(ts.is_some_and(is_within))).collect();
        Ok(ColumnarValue::Array(Arc::new(answers)))
    };
    let times = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    all.push(row_test("in_hours", vec![times], function).call(vec![ident("ts")]));
    all
}

/// Where these users are, roughly: files are sorted by shard and slot.
pub(crate) fn places(within: &[RoaringBitmap]) -> Expr {
    let shard = |at: usize| lit(ScalarValue::Int32(Some(at as i32)));
    let slot = |slot: u32| lit(ScalarValue::Int64(Some(slot.into())));
    let some: Vec<(usize, &RoaringBitmap)> = within.iter().enumerate().filter(|(_, users)| !users.is_empty()).collect();
    let (Some((first, _)), Some((last, _))) = (some.first(), some.last()) else { return lit(false) };
    if some.len() > SHARDS_NAMED_MAX {
        return ident("_shard").gt_eq(shard(*first)).and(ident("_shard").lt_eq(shard(*last)));
    }
    let count: u64 = some.iter().map(|(_, users)| users.len()).sum();
    if count > USERS_PLACED_MAX {
        // Each row is asked, and of many users it is seldom more than this that rules any out.
        let least = some.iter().filter_map(|(_, users)| users.min()).min().unwrap_or(0);
        let most = some.iter().filter_map(|(_, users)| users.max()).max().unwrap_or(u32::MAX);
        return ident("_slot").gt_eq(slot(least)).and(ident("_slot").lt_eq(slot(most)));
    }
    let of_shard = |(at, users): (usize, &RoaringBitmap)| {
        let slots = if users.len() <= SLOTS_NAMED_MAX {
            ident("_slot").in_list(users.iter().map(slot).collect(), false)
        } else {
            let (least, most) = (users.min().unwrap_or(0), users.max().unwrap_or(u32::MAX));
            ident("_slot").gt_eq(slot(least)).and(ident("_slot").lt_eq(slot(most)))
        };
        ident("_shard").eq(shard(at)).and(slots)
    };
    balanced(some.into_iter().map(of_shard).collect(), Expr::or).unwrap_or_else(|| lit(false))
}

/// Whether a row is of one of these users, exactly; so that other columns are read of those rows alone.
pub(crate) fn membership(within: &Arc<Vec<RoaringBitmap>>) -> Expr {
    let users = Bits::of(within);
    let function = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [shards, slots] = arrays.as_slice() else { return exec_err!("a user is a shard and a slot") };
        let (Some(shards), Some(slots)) =
            (shards.as_primitive_opt::<Int32Type>(), slots.as_primitive_opt::<Int64Type>())
        else {
            return exec_err!("a shard and a slot are integers");
        };
        let mut answers =
            BooleanBuffer::collect_bool(shards.len(), |row| users.has(shards.values()[row], slots.values()[row]));
        // What another writer left out is nobody.
        if let Some(nulls) = NullBuffer::union(shards.nulls(), slots.nulls()) {
            answers = &answers & nulls.inner();
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(answers, None))))
    };
    let types = vec![DataType::Int32, DataType::Int64];
    row_test("is_asked_about", types, function).call(vec![ident("_shard"), ident("_slot")])
}

/// Users as a bit each, so that looking one up takes the same few instructions for every row: rows are in the order of slots, but there may
/// be far more of them than users.
#[derive(Debug)]
pub(super) struct Bits {
    /// By shard and chunk; none where there is nobody.
    chunks: Vec<Vec<Option<Box<[u64; CHUNK_WORDS]>>>>,
}

/// Words of a chunk.
const CHUNK_WORDS: usize = CHUNK_SLOTS as usize / 64;

impl Bits {
    pub(super) fn of(users: &[RoaringBitmap]) -> Bits {
        let of_shard = |users: &RoaringBitmap| {
            let mut chunks = vec![None; users.max().map_or(0, |most| most / CHUNK_SLOTS + 1) as usize];
            for slot in users {
                let words = chunks[(slot / CHUNK_SLOTS) as usize].get_or_insert_with(|| Box::new([0; CHUNK_WORDS]));
                words[(slot % CHUNK_SLOTS) as usize / 64] |= 1 << (slot % 64);
            }
            chunks
        };
        Bits { chunks: users.iter().map(of_shard).collect() }
    }

    #[inline]
    pub(super) fn has(&self, shard: i32, slot: i64) -> bool {
        let chunks = usize::try_from(shard).ok().and_then(|shard| self.chunks.get(shard));
        let Some((chunks, slot)) = chunks.zip(usize::try_from(slot).ok()) else { return false };
        let chunk = chunks.get(slot / CHUNK_SLOTS as usize).and_then(Option::as_ref);
        chunk.is_some_and(|words| words[slot % CHUNK_SLOTS as usize / 64] >> (slot % 64) & 1 == 1)
    }
}

/// A function of rows that is true or false.
pub(super) fn row_test(
    name: &str,
    types: Vec<DataType>,
    function: impl Fn(&[ColumnarValue]) -> datafusion::error::Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    row_function(name, types, DataType::Boolean, function)
}

/// A function of rows. No two have one name, so that none is taken for another.
pub(super) fn row_function(
    name: &str,
    types: Vec<DataType>,
    told: DataType,
    function: impl Fn(&[ColumnarValue]) -> datafusion::error::Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("{name}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    create_udf(&name, types, told, Volatility::Immutable, Arc::new(function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_users() {
        let users: Vec<RoaringBitmap> = [vec![], vec![0, 63, 64, 65_535, 65_536, 200_000], vec![131_072]]
            .into_iter()
            .map(RoaringBitmap::from_iter)
            .collect();
        let bits = Bits::of(&users);
        for (shard, users) in users.iter().enumerate() {
            for slot in
                (0..140).chain(65_400..65_700).chain(131_000..131_100).chain([199_999, 200_000, 200_001, u32::MAX])
            {
                assert_eq!(bits.has(shard as i32, slot.into()), users.contains(slot), "{shard} {slot}");
            }
        }
        for (shard, slot) in [(-1, 0), (3, 0), (1, -1), (1, i64::MAX), (i32::MAX, 0)] {
            assert!(!bits.has(shard, slot), "{shard} {slot}");
        }
    }
}
