//! What is there most often: counters for the values that may be, by the method of Misra and Gries.
//!
//! A counter keeps the most times that its value may have been there, and how many of these are not certain. With more than twice as many
//! counters as are allowed, those go that are not among the greatest: `forgotten` is the most times that a value without a counter may
//! have been there, at most rows ÷ (counters + 1). Which go depends on their counts alone. As long as there are fewer values, all is exact.
//!
//! This is not the library's: its table gives up on a thousand values that collide, which whoever sends values may choose.

use super::answer;
use super::groups::Sketch;
use crate::functions::constant::integer_within;
use arrow::array::{Array, ArrayRef, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) const NAME: &str = "approx_top_k";

const COUNTERS_DEFAULT: i64 = 1024;
const COUNTERS_MAX: i64 = 65_536;
/// What a counter takes beside its value: itself, twice as a table that is half full.
const COUNTER_BYTES: usize = 2 * (size_of::<Box<[u8]>>() + size_of::<Counter>() + 1);

#[derive(Debug)]
pub(super) struct Plan {
    kind: DataType,
    /// Values that are told.
    told: usize,
    /// Values that are certainly counted.
    counters: usize,
    rows: RowConverter,
}

impl Plan {
    /// # Errors
    /// If a number is out of bounds.
    pub(super) fn of(args: &AccumulatorArgs<'_>) -> Result<Plan> {
        let told = integer_within(args, 1, NAME, "how many values are told", 1..=COUNTERS_MAX)?;
        let counters = match args.exprs.len() {
            2 => COUNTERS_DEFAULT.max(told.saturating_mul(8)).min(COUNTERS_MAX),
            _ => integer_within(args, 2, NAME, "how many values are counted", 1..=COUNTERS_MAX)?,
        };
        if counters < told {
            return plan_err!(
                "`{NAME}` tells {told} values of {counters} counters; it takes at least as many counters"
            );
        }
        let kind = args.expr_fields[0].data_type().clone();
        let rows = RowConverter::new(vec![SortField::new(kind.clone())])?;
        Ok(Plan { kind, told: told as usize, counters: counters as usize, rows })
    }
}

/// How often a value may have been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counter {
    most: u64,
    /// How many of these are not certain.
    uncertain: u64,
}

/// The values of a group, as bytes in their order.
#[derive(Debug, Default)]
pub(super) struct Top {
    counters: HashMap<Box<[u8]>, Counter>,
    forgotten: u64,
    value_bytes: usize,
}

impl Top {
    fn add(&mut self, value: &[u8], counter: Counter, most_without: u64) {
        if let Some(known) = self.counters.get_mut(value) {
            known.most += counter.most;
            known.uncertain += counter.uncertain;
            return;
        }
        self.value_bytes += value.len();
        let Counter { most, uncertain } = counter;
        let counter = Counter { most: most + most_without, uncertain: uncertain + most_without };
        self.counters.insert(value.into(), counter);
    }

    /// Leaves the greatest ones, once there are twice as many.
    fn shrink(&mut self, counters: usize) {
        if self.counters.len() <= counters * 2 {
            return;
        }
        let mut most: Vec<u64> = self.counters.values().map(|counter| counter.most).collect();
        let (_, next, _) = most.select_nth_unstable_by_key(counters, |most| Reverse(*most));
        self.forgotten = *next;
        self.counters.retain(|_, counter| counter.most > self.forgotten);
        self.value_bytes = self.counters.keys().map(|value| value.len()).sum();
    }

    /// The greatest ones first, of equals the least value.
    fn first(&self, count: usize) -> Vec<(&[u8], Counter)> {
        let mut counters: Vec<(&[u8], Counter)> = self.counters.iter().map(|(value, of)| (&**value, *of)).collect();
        counters.sort_unstable_by_key(|(value, counter)| (Reverse(counter.most), *value));
        counters.truncate(count);
        counters
    }
}

/// Takes so many bytes off the front.
fn cut<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8]> {
    let Some((front, rest)) = bytes.split_at_checked(count) else {
        return internal_err!("{NAME}: a state is cut off");
    };
    *bytes = rest;
    Ok(front)
}

fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = [0; size_of::<u64>()];
    number.copy_from_slice(cut(bytes, size_of::<u64>())?);
    Ok(u64::from_le_bytes(number))
}

impl Sketch for Top {
    type Plan = Plan;
    type Column = Rows;

    const NAME: &'static str = NAME;

    fn new(_: &Plan) -> Top {
        Top::default()
    }

    fn prepare(plan: &Plan, values: &ArrayRef) -> Result<Rows> {
        Ok(plan.rows.convert_columns(&[Arc::clone(values)])?)
    }

    fn update(&mut self, plan: &Plan, values: &Rows, row: usize) {
        self.add(values.row(row).data(), Counter { most: 1, uncertain: 0 }, self.forgotten);
        self.shrink(plan.counters);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.forgotten.to_le_bytes().to_vec();
        for (value, counter) in &self.counters {
            for number in [counter.most, counter.uncertain, value.len() as u64] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(&**value);
        }
        bytes
    }

    fn merge(&mut self, plan: &Plan, mut encoded: &[u8]) -> Result<()> {
        let forgotten_there = number(&mut encoded)?;
        let forgotten_here = self.forgotten;
        let mut there = Top::default();
        while !encoded.is_empty() {
            let counter = Counter { most: number(&mut encoded)?, uncertain: number(&mut encoded)? };
            let length = number(&mut encoded)? as usize;
            there.add(cut(&mut encoded, length)?, counter, 0);
        }
        for (value, counter) in &mut self.counters {
            if !there.counters.contains_key(value) {
                counter.most += forgotten_there;
                counter.uncertain += forgotten_there;
            }
        }
        for (value, counter) in there.counters {
            self.add(&value, counter, forgotten_here);
        }
        self.forgotten += forgotten_there;
        self.shrink(plan.counters);
        Ok(())
    }

    fn answers(plan: &Plan, groups: &[Top]) -> Result<ArrayRef> {
        let told: Vec<Vec<(&[u8], Counter)>> = groups.iter().map(|group| group.first(plan.told)).collect();
        let offsets = OffsetBuffer::from_lengths(told.iter().map(Vec::len));
        let parser = plan.rows.parser();
        let values = plan.rows.convert_rows(told.iter().flatten().map(|(value, _)| parser.parse(value)))?;
        let counts = |of: fn(&Counter) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(told.iter().flatten().map(|(_, counter)| of(counter) as i64)))
        };
        let most = counts(|counter| counter.most);
        let columns = [Arc::clone(&most), counts(|counter| counter.most - counter.uncertain), most];
        let fields = answer::item_fields(&plan.kind);
        let items = StructArray::try_new(fields, values.into_iter().chain(columns).collect(), None)?;
        let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(items), None)?))
    }

    fn heap_bytes(&self) -> usize {
        self.counters.len() * COUNTER_BYTES + self.value_bytes
    }
}
