//! Quantiles: KLL, of Apache DataSketches.
//!
//! Numbers, dates and times are kept as integers of 128 bits in the order of the values. What is kept is every value as long as there
//! are few, and then a sample in which each stands for as many others. Which ones stay is drawn at random, so that two answers to
//! the same question may differ, within the bounds.

use super::answer;
use super::groups::Sketch;
use crate::functions::constant::{constant, integer_within};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{ScalarValue, internal_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datasketches::codec::{SketchBytes, SketchSlice};
use datasketches::common::SearchCriteria;
use datasketches::error::{Error, ErrorKind};
use datasketches::kll::{KllSketch, KllValue};
use std::sync::Arc;

pub(super) const NAME: &str = "approx_quantile";

/// Bounds that are 0.7 % of the rows away, and about 20 KiB a group.
const K_DEFAULT: i64 = 400;

#[derive(Debug)]
pub(super) struct Plan {
    /// The type of the values.
    kind: DataType,
    /// From 0, the least value, to 1, the greatest.
    fraction: f64,
    k: u16,
}

impl Plan {
    /// # Errors
    /// If the fraction or k is out of bounds.
    pub(super) fn of(args: &AccumulatorArgs<'_>) -> Result<Plan> {
        let wanted = "a fraction from 0 to 1 (0.5 is the median)";
        let fraction = match constant(args, 1, NAME, wanted)? {
            ScalarValue::Float64(Some(fraction)) if (0.0..=1.0).contains(&fraction) => fraction,
            other => return plan_err!("`{NAME}` takes {wanted} as argument 2, not {other}"),
        };
        let k = match args.exprs.len() {
            2 => K_DEFAULT,
            _ => integer_within(args, 2, NAME, "a size k", 8..=65_535)?,
        };
        Ok(Plan { kind: args.expr_fields[0].data_type().clone(), fraction, k: k as u16 })
    }
}

/// The type to which values are brought; `None` if they have no order that is one of numbers.
pub(super) fn coerced(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Null => Some(DataType::Float64),
        DataType::Float16 => Some(DataType::Float32),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            Some(DataType::Decimal128(*precision, *scale))
        }
        DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Duration(_) => Some(given.clone()),
        DataType::Dictionary(_, value) => coerced(value),
        given => given.is_integer().then(|| given.clone()),
    }
}

/// A value as an integer in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(i128);

impl KllValue for Key {
    const MIN_SERIALIZED_SIZE: usize = size_of::<i128>();

    fn serialized_size(_: &Key) -> usize {
        size_of::<i128>()
    }

    fn serialize(value: &Key, bytes: &mut SketchBytes) {
        bytes.write(&value.0.to_le_bytes());
    }

    fn deserialize(input: &mut SketchSlice<'_>) -> std::result::Result<Key, Error> {
        let mut bytes = [0; size_of::<i128>()];
        let read = input.read_exact(&mut bytes);
        read.map_err(|_| Error::new(ErrorKind::InvalidData, "a value of 16 bytes is cut off"))?;
        Ok(Key(i128::from_le_bytes(bytes)))
    }
}

/// Bits of a float as a number in the order of floats: all but the sign are turned around in negative ones. It is its own reverse.
fn turned(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn keys(values: &ArrayRef) -> Result<Vec<Key>> {
    let of_integers =
        |numbers: &ArrayRef| numbers.as_primitive::<Int64Type>().values().iter().map(|n| Key((*n).into())).collect();
    Ok(match values.data_type() {
        DataType::Decimal128(..) => values.as_primitive::<Decimal128Type>().values().iter().map(|n| Key(*n)).collect(),
        DataType::UInt64 => values.as_primitive::<UInt64Type>().values().iter().map(|n| Key((*n).into())).collect(),
        DataType::Float32 | DataType::Float64 => {
            let floats = cast(values, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            floats.values().iter().map(|n| Key(turned(n.to_bits() as i64).into())).collect()
        }
        DataType::Time32(_) => of_integers(&cast(&cast(values, &DataType::Int32)?, &DataType::Int64)?),
        _ => of_integers(&cast(values, &DataType::Int64)?),
    })
}

/// Keys as values again, NULL where there is none.
fn values_of(keys: Vec<Option<Key>>, kind: &DataType) -> Result<ArrayRef> {
    let integers = || Int64Array::from_iter(keys.iter().map(|key| key.map(|key| key.0 as i64)));
    Ok(match kind {
        DataType::Decimal128(precision, scale) => {
            let numbers = Decimal128Array::from_iter(keys.iter().map(|key| key.map(|key| key.0)));
            Arc::new(numbers.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::UInt64 => Arc::new(UInt64Array::from_iter(keys.iter().map(|key| key.map(|key| key.0 as u64)))),
        DataType::Float32 | DataType::Float64 => {
            let floats = keys.iter().map(|key| key.map(|key| f64::from_bits(turned(key.0 as i64) as u64)));
            cast(&Float64Array::from_iter(floats), kind)?
        }
        DataType::Time32(_) => cast(&cast(&integers(), &DataType::Int32)?, kind)?,
        _ => cast(&integers(), kind)?,
    })
}

/// The values of a group.
#[derive(Debug)]
pub(super) struct Quantile(Option<Box<KllSketch<Key>>>);

impl Quantile {
    fn sketch(&mut self, plan: &Plan) -> &mut KllSketch<Key> {
        self.0.get_or_insert_with(|| Box::new(KllSketch::new(plan.k).expect("a size that was checked")))
    }

    /// The estimate, the lower and the upper bound; `None` of no value.
    fn answer(&self, fraction: f64) -> Result<[Option<Key>; 3]> {
        let Some(sketch) = &self.0 else { return Ok([None; 3]) };
        let away = if sketch.is_estimation_mode() { sketch.normalized_rank_error() } else { 0.0 };
        let at = |fraction: f64| {
            if fraction <= 0.0 {
                return Ok(sketch.min_item().copied());
            }
            if fraction >= 1.0 {
                return Ok(sketch.max_item().copied());
            }
            let found = sketch.quantile(fraction, SearchCriteria::Inclusive);
            found.map_err(|error| internal_datafusion_err!("{NAME}: {error}"))
        };
        Ok([at(fraction)?, at(fraction - away)?, at(fraction + away)?])
    }
}

impl Sketch for Quantile {
    type Plan = Plan;
    type Column = Vec<Key>;

    const NAME: &'static str = NAME;

    fn new(_: &Plan) -> Quantile {
        Quantile(None)
    }

    fn prepare(_: &Plan, values: &ArrayRef) -> Result<Vec<Key>> {
        keys(values)
    }

    fn update(&mut self, plan: &Plan, values: &Vec<Key>, row: usize) {
        self.sketch(plan).update(values[row]);
    }

    fn encode(&self) -> Vec<u8> {
        self.0.as_ref().map(|sketch| sketch.serialize()).unwrap_or_default()
    }

    fn merge(&mut self, plan: &Plan, encoded: &[u8]) -> Result<()> {
        if encoded.is_empty() {
            return Ok(());
        }
        let of_sketch = |error| internal_datafusion_err!("{NAME}: {error}");
        let other = KllSketch::deserialize(encoded).map_err(of_sketch)?;
        self.sketch(plan).merge(&other).map_err(of_sketch)
    }

    fn answers(plan: &Plan, groups: &[Quantile]) -> Result<ArrayRef> {
        let mut columns: [Vec<Option<Key>>; 3] = Default::default();
        for group in groups {
            for (column, key) in columns.iter_mut().zip(group.answer(plan.fraction)?) {
                column.push(key);
            }
        }
        let nulls: NullBuffer = columns[0].iter().map(Option::is_some).collect::<Vec<bool>>().into();
        let [estimate, lower, upper] = columns.map(|keys| values_of(keys, &plan.kind));
        answer::answers([estimate?, lower?, upper?], Some(nulls))
    }

    fn heap_bytes(&self) -> usize {
        // Lists grow by doubling.
        self.0.as_ref().map_or(0, |sketch| size_of::<KllSketch<Key>>() + 2 * sketch.num_retained() * size_of::<Key>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_keep_their_order_and_come_back(left in any::<f64>(), right in any::<f64>()) {
            let key = |float: f64| turned(float.to_bits() as i64);
            prop_assert_eq!(left.total_cmp(&right), key(left).cmp(&key(right)));
            prop_assert_eq!(f64::from_bits(turned(key(left)) as u64).to_bits(), left.to_bits());
        }
    }
}
