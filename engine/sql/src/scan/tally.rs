//! What rows come to per user.

use super::Failure;
use super::condition;
use super::reading::{Gather, Rows, Wanted, columns_of, damaged};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use datafusion::prelude::ident;
use engine::audience::scan::{Scan, ScanFigure, float_key, holds};
use engine::bitmap::bsi::NumberRange;
use engine::catalog::Fact;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// The rows that a scan means, and what is added up of them.
pub(super) fn wanted(fact: &Fact, scan: &Scan, within: Option<&Arc<Vec<RoaringBitmap>>>) -> Wanted {
    let summed = match scan.figure {
        ScanFigure::Count => None,
        ScanFigure::Sum(at) => fact.columns.get(usize::from(at)).map(|column| column.name.clone()),
    };
    let mut columns = columns_of(fact, &scan.condition);
    columns.extend(summed.clone());
    Wanted { filter: condition::filter(fact, scan, within), values: summed.iter().map(ident).collect(), columns }
}

/// What the rows of one user come to. Rows may come in any order, and a sum may be made of sums.
pub(super) trait Tally: Default + Send + 'static {
    /// Adds a row. `None`: it would be beyond what can be held.
    fn add(&mut self, weight: i8, number: Number) -> Option<()>;
    /// Adds what other rows of the user come to.
    fn merge(&mut self, other: Self) -> Option<()>;
    /// What they come to, floating point numbers as [`float_key`]; `None` without an event, or if it is no number.
    fn figure(&self) -> Option<i128>;
    /// Whether there is an event, and the figure is in the range.
    fn fits(&self, range: NumberRange) -> bool {
        self.figure().is_some_and(|figure| holds(range, figure))
    }
    /// Memory of a user besides the tally's own size, about.
    const HEAP_BYTES: usize = 0;
}

/// Events.
#[derive(Debug, Default)]
pub(super) struct Count(i64);

impl Tally for Count {
    fn add(&mut self, weight: i8, _: Number) -> Option<()> {
        self.0 = self.0.checked_add(weight.into())?;
        Some(())
    }

    fn merge(&mut self, other: Self) -> Option<()> {
        self.0 = self.0.checked_add(other.0)?;
        Some(())
    }

    fn figure(&self) -> Option<i128> {
        (self.0 > 0).then_some(self.0.into())
    }
}

/// Events, and the sum of whole numbers.
#[derive(Debug, Default)]
pub(super) struct WholeSum {
    events: Count,
    sum: i128,
}

impl Tally for WholeSum {
    fn add(&mut self, weight: i8, number: Number) -> Option<()> {
        self.events.add(weight, number)?;
        if let Number::Whole(number) = number {
            self.sum = self.sum.checked_add(number.checked_mul(weight.into())?)?;
        }
        Some(())
    }

    fn merge(&mut self, other: Self) -> Option<()> {
        self.events.merge(other.events)?;
        self.sum = self.sum.checked_add(other.sum)?;
        Some(())
    }

    fn figure(&self) -> Option<i128> {
        (self.events.0 > 0).then_some(self.sum)
    }
}

/// Events, and the exact sum of floating point numbers: a few that do not overlap and are that sum, smallest first.
///
/// So the order of rows makes no difference, and a number that is taken back is gone without a trace.
///
/// Source: Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates" (1997), section 2.
#[derive(Debug, Default)]
pub(super) struct FloatSum {
    events: Count,
    parts: Vec<f64>,
    /// The same of numbers from [`LARGE`] on, times [`LARGE_SCALE`].
    large: Vec<f64>,
    /// Numbers that are infinite or none, which have no sum, taken off again when they are taken back.
    unbounded: i64,
}

/// Numbers from here on are summed on their own, times [`LARGE_SCALE`], lest a sum on the way be infinite.
const LARGE: f64 = f64::from_bits((1023 + 900) << 52);
/// 2^−200: so many numbers that their sum is infinite yet are beyond counting; and it makes no digits of them disappear.
const LARGE_SCALE: f64 = f64::from_bits((1023 - 200) << 52);

/// Adds a number to a few that do not overlap.
fn add_to(parts: &mut Vec<f64>, mut number: f64) {
    let mut kept = 0;
    for at in 0..parts.len() {
        let part = parts[at];
        let sum = number + part;
        let (large, small) = if number.abs() < part.abs() { (part, number) } else { (number, part) };
        let lost = small - (sum - large);
        if lost != 0.0 {
            parts[kept] = lost;
            kept += 1;
        }
        number = sum;
    }
    parts.truncate(kept);
    if number != 0.0 {
        parts.push(number);
    }
}

impl FloatSum {
    fn add_number(&mut self, number: f64) {
        match number.abs() < LARGE {
            true => add_to(&mut self.parts, number),
            false => add_to(&mut self.large, number * LARGE_SCALE),
        }
    }

    /// The sum, rounded once: to the nearest, and to an even number from the middle between two; infinite if it is beyond them.
    fn rounded(&self) -> f64 {
        if self.unbounded != 0 {
            return f64::NAN;
        }
        if self.large.is_empty() {
            return rounded(&self.parts);
        }
        let mut all = self.parts.clone();
        self.large.iter().for_each(|part| add_to(&mut all, part / LARGE_SCALE));
        if all.iter().all(|part| part.is_finite()) {
            return rounded(&all);
        }
        // About as large as the largest: digits that disappear here are far below its last one.
        let mut all = self.large.clone();
        self.parts.iter().for_each(|part| add_to(&mut all, part * LARGE_SCALE));
        rounded(&all) / LARGE_SCALE
    }
}

fn rounded(parts: &[f64]) -> f64 {
    let mut parts = parts.iter().rev().copied();
    let Some(mut high) = parts.next() else { return 0.0 };
    let mut low = 0.0;
    for part in parts.by_ref() {
        let sum = high + part;
        low = part - (sum - high);
        high = sum;
        if low != 0.0 {
            break;
        }
    }
    // Half way between two numbers, what is left decides.
    if let Some(next) = parts.next()
        && (low < 0.0) == (next < 0.0)
        && low != 0.0
    {
        let doubled = low * 2.0;
        let further = high + doubled;
        if doubled == further - high {
            high = further;
        }
    }
    high
}

impl Tally for FloatSum {
    /// Numbers of like size and precision take one or two parts; a vector begins with room for four.
    const HEAP_BYTES: usize = 4 * size_of::<f64>() + 16;

    fn add(&mut self, weight: i8, number: Number) -> Option<()> {
        self.events.add(weight, number)?;
        if let Number::Float(number) = number {
            if !number.is_finite() {
                self.unbounded += i64::from(weight);
                return Some(());
            }
            self.add_number(number * f64::from(weight));
        }
        Some(())
    }

    fn merge(&mut self, other: Self) -> Option<()> {
        self.events.merge(other.events)?;
        self.unbounded += other.unbounded;
        other.parts.into_iter().for_each(|part| add_to(&mut self.parts, part));
        other.large.into_iter().for_each(|part| add_to(&mut self.large, part));
        Some(())
    }

    fn figure(&self) -> Option<i128> {
        let sum = self.rounded();
        (self.events.0 > 0 && !sum.is_nan()).then(|| float_key(sum).into())
    }
}

/// Users and what they come to.
#[derive(Debug)]
pub(super) struct Users<T> {
    shards: Vec<HashMap<u32, T>>,
}

impl<T: Tally> Users<T> {
    pub(super) fn new(shard_count: usize) -> Self {
        Users { shards: (0..shard_count).map(|_| HashMap::new()).collect() }
    }

    /// What a user's rows come to so far; the shard must exist.
    pub(super) fn of(&mut self, shard: usize, slot: u32) -> &mut T {
        self.shards[shard].entry(slot).or_default()
    }

    /// What a user's rows come to; the shard must exist.
    pub(super) fn figure(&self, shard: usize, slot: u32) -> Option<i128> {
        self.shards[shard].get(&slot).and_then(T::figure)
    }

    pub(super) fn fitting(&self, range: NumberRange) -> Vec<RoaringBitmap> {
        let of_shard = |users: &HashMap<u32, T>| {
            let mut slots: Vec<u32> =
                users.iter().filter(|(_, tally)| tally.fits(range)).map(|(slot, _)| *slot).collect();
            slots.sort_unstable();
            slots.into_iter().collect()
        };
        self.shards.iter().map(of_shard).collect()
    }
}

impl<T: Tally> Gather for Users<T> {
    /// Rows come sorted by user as far as files go, so that of one user's rows only the first is looked up.
    fn add(&mut self, rows: &Rows<'_>) -> Result<(), Failure> {
        let numbers = Numbers::of(rows.values().first()).ok_or_else(|| damaged("a summed column is no number"))?;
        let mut row = 0;
        while row < rows.len() {
            let Some((shard, slot)) = rows.user(row) else {
                row += 1;
                continue;
            };
            let (tally, first) = (self.of(shard, slot), row);
            while row < rows.len() && rows.is_same_user(first, row) {
                tally.add(rows.weight(row), numbers.at(row)).ok_or(Failure::Overflow)?;
                row += 1;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), Failure> {
        for (own, other) in self.shards.iter_mut().zip(other.shards) {
            if own.is_empty() {
                *own = other;
                continue;
            }
            for (slot, tally) in other {
                own.entry(slot).or_default().merge(tally).ok_or(Failure::Overflow)?;
            }
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let place = size_of::<(u32, T)>() + 1;
        // Tables are at most seven eighths full.
        let of_shard = |users: &HashMap<u32, T>| users.capacity() * place * 8 / 7 + users.len() * T::HEAP_BYTES;
        self.shards.iter().map(of_shard).sum()
    }
}

/// The numbers that are added up.
enum Numbers<'b> {
    None,
    Integers(&'b arrow::array::Int64Array),
    Decimals(&'b arrow::array::Decimal128Array),
    Floats(&'b arrow::array::Float64Array),
}

/// A number that is added up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    None,
    Whole(i128),
    Float(f64),
}

impl<'b> Numbers<'b> {
    fn of(column: Option<&'b arrow::array::ArrayRef>) -> Option<Numbers<'b>> {
        let Some(column) = column else { return Some(Numbers::None) };
        let integers = column.as_primitive_opt::<Int64Type>().map(Numbers::Integers);
        let decimals = || column.as_primitive_opt::<Decimal128Type>().map(Numbers::Decimals);
        let floats = || column.as_primitive_opt::<Float64Type>().map(Numbers::Floats);
        integers.or_else(decimals).or_else(floats)
    }

    fn at(&self, row: usize) -> Number {
        match self {
            Numbers::Integers(array) if array.is_valid(row) => Number::Whole(array.value(row).into()),
            Numbers::Decimals(array) if array.is_valid(row) => Number::Whole(array.value(row)),
            Numbers::Floats(array) if array.is_valid(row) => Number::Float(array.value(row)),
            _ => Number::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int8Array, Int32Array, Int64Array, RecordBatch};
    use proptest::prelude::*;

    #[test]
    fn rows_of_users_whom_nobody_knows_are_passed_over() {
        let columns: [(&str, ArrayRef); 3] = [
            ("_shard", Arc::new(Int32Array::from(vec![0, 0, 1, 2, -1, 0]))),
            ("_slot", Arc::new(Int64Array::from(vec![1, 5, 0, 0, 0, -3]))),
            ("weight", Arc::new(Int8Array::from(vec![1; 6]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut users: Users<Count> = Users::new(2);
        let rows = Rows::of(&batch, &[2, 1]).expect("columns of every row");
        users.add(&rows).expect("passed over");
        let found = users.fitting(NumberRange::ALL);
        assert_eq!(found, [RoaringBitmap::from([1]), RoaringBitmap::from([0])]);
    }

    #[test]
    fn sums_that_cannot_be_held_are_told() {
        let mut sum = WholeSum::default();
        sum.add(1, Number::Whole(i128::MAX)).expect("fits");
        assert_eq!(sum.add(1, Number::Whole(1)), None);
        assert_eq!(WholeSum::default().add(-1, Number::Whole(i128::MIN)), None);
    }

    #[test]
    fn a_sum_of_floats_beyond_them_is_infinite_until_it_is_taken_back() {
        let mut sum = FloatSum::default();
        let mut add = |weight: i8, number: f64| {
            sum.add(weight, Number::Float(number)).expect("held");
            sum.rounded()
        };
        add(1, 0.25);
        assert_eq!((add(1, f64::MAX), add(1, f64::MAX)), (f64::MAX, f64::INFINITY));
        assert_eq!(add(1, -f64::MAX), f64::MAX);
        assert_eq!(add(-1, f64::MAX), 0.25);
        assert_eq!((add(1, -1e308), add(1, -1e308)), (-1e308, f64::NEG_INFINITY));
        let all_finite = NumberRange { min: float_key(f64::MIN), max: float_key(f64::MAX) };
        assert!(!sum.fits(all_finite) && sum.fits(NumberRange::ALL));
    }

    #[test]
    fn a_sum_of_floats_is_rounded_once() {
        let sum = |numbers: &[f64]| {
            let mut sum = FloatSum::default();
            numbers.iter().for_each(|number| sum.add(1, Number::Float(*number)).expect("finite"));
            sum.rounded()
        };
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e300, 1.0, -1e300]), 1.0);
        assert_eq!(sum(&[1.0, 1e-16, 1e-16]), 1.0000000000000002);
        assert_eq!(sum(&[9007199254740992.0, 1.0, f64::MIN_POSITIVE]), 9007199254740994.0, "just above the middle");
        assert_eq!(sum(&[9007199254740992.0, 1.0]), 9007199254740992.0, "the middle goes to the even one");
        assert!(sum(&[f64::INFINITY]).is_nan() && sum(&[]) == 0.0);
    }

    proptest! {
        #[test]
        fn what_is_taken_back_leaves_no_trace(
            numbers in proptest::collection::vec(prop_oneof![-1e200..1e200f64, -1e308..1e308f64], 0..20),
            small in proptest::collection::vec(-1000i32..1000, 0..20),
            split in 0..20usize,
        ) {
            let (mut first, mut second) = (FloatSum::default(), FloatSum::default());
            for number in &numbers {
                first.add(1, Number::Float(*number)).expect("finite");
            }
            for (at, number) in small.iter().enumerate() {
                let of = if at < split { &mut first } else { &mut second };
                of.add(1, Number::Float(f64::from(*number) / 8.0)).expect("finite");
            }
            for number in numbers.iter().rev() {
                second.add(-1, Number::Float(*number)).expect("finite");
            }
            second.merge(first).expect("finite");
            prop_assert_eq!(second.rounded(), f64::from(small.iter().sum::<i32>()) / 8.0);
            prop_assert_eq!(second.events.0, small.len() as i64);
        }
    }
}
