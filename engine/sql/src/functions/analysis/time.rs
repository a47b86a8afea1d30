//! Units of time: what a number of a window or a pattern means beside a column of times.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit, UInt64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Integers: whatever they mean.
    Plain,
    /// Dates.
    Day,
    /// Timestamps, of this many ticks a second.
    Ticks(i64),
}

const NANOS_OF_SECOND: i128 = 1_000_000_000;
const SECONDS_OF_DAY: i128 = 86_400;

impl Unit {
    /// The unit of a column that was brought to a type of [`coerced`].
    pub(super) fn of(kind: &DataType) -> Unit {
        match kind {
            DataType::Date32 => Unit::Day,
            DataType::Timestamp(unit, _) => Unit::Ticks(match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            }),
            _ => Unit::Plain,
        }
    }

    /// What a number in a statement stands for (seconds beside timestamps, days beside dates), as times are counted.
    pub(super) fn per_number(self) -> i64 {
        match self {
            Unit::Plain | Unit::Day => 1,
            Unit::Ticks(per_second) => per_second,
        }
    }

    /// A number as it stands in a statement, as times are counted.
    fn ticks(self, number: i128) -> i128 {
        number.saturating_mul(i128::from(self.per_number()))
    }

    /// How long a window is.
    ///
    /// # Errors
    /// If it is negative, or an interval whose length depends on where it begins or that this unit cannot tell.
    pub(super) fn window(self, window: &ScalarValue, function: &str) -> Result<i128> {
        let length = match window {
            ScalarValue::Int64(Some(number)) => self.ticks(i128::from(*number)),
            ScalarValue::IntervalMonthDayNano(Some(interval)) => self.of_interval(*interval, function)?,
            other => return plan_err!("`{function}`: {other} is no length of a window"),
        };
        if length < 0 {
            return plan_err!("`{function}`: a window is not negative, as {window} is");
        }
        Ok(length)
    }

    fn of_interval(self, interval: IntervalMonthDayNano, function: &str) -> Result<i128> {
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        if months != 0 {
            return plan_err!("`{function}`: months are not all as long; write days: INTERVAL '30 days'");
        }
        let nanos = i128::from(days) * SECONDS_OF_DAY * NANOS_OF_SECOND + i128::from(nanoseconds);
        let of_tick = match self {
            Unit::Plain => {
                return plan_err!(
                    "`{function}`: nobody knows what a time that is an integer counts; write the window as an integer too"
                );
            }
            Unit::Day => SECONDS_OF_DAY * NANOS_OF_SECOND,
            Unit::Ticks(per_second) => NANOS_OF_SECOND / i128::from(per_second),
        };
        // What is shorter than a tick adds no time that there is.
        Ok(nanos.div_euclid(of_tick))
    }
}

/// The type to which a column of times is brought.
pub(super) fn coerced(given: &DataType) -> Option<DataType> {
    match given {
        DataType::UInt64 | DataType::Date32 | DataType::Timestamp(..) => Some(given.clone()),
        DataType::Date64 => Some(DataType::Date32),
        DataType::Null => Some(DataType::Int64),
        given if given.is_integer() => Some(DataType::Int64),
        DataType::Dictionary(_, value) => coerced(value),
        _ => None,
    }
}

/// Times as numbers, NULL where there is none.
///
/// # Errors
/// If an integer is more than 63 bits can tell.
pub(super) fn numbers(times: &ArrayRef, function: &str) -> Result<Int64Array> {
    if let Some(unsigned) = times.as_primitive_opt::<UInt64Type>() {
        let too_large = unsigned.iter().flatten().find(|time| i64::try_from(*time).is_err());
        if let Some(time) = too_large {
            return exec_err!("{function}: {time} is too large for a time; times go up to {}", i64::MAX);
        }
    }
    Ok(cast(times, &DataType::Int64)?.as_primitive().clone())
}
