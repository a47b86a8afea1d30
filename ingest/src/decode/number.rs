//! Numbers that come as numbers, not as text, to the 64 bits of a number tag or column: exactly, or not at all.

use super::value::{NumberError, check_time, parse_decimal};
use arrow::datatypes::i256;
use std::fmt::Write;

/// `value * 10^scale`.
pub(crate) fn scaled(value: i64, scale: u8) -> Result<i64, NumberError> {
    let power = 10i64.checked_pow(scale.into());
    power.and_then(|power| value.checked_mul(power)).ok_or(NumberError::Overflow { scale })
}

/// `value / 10^scale` as a whole number of `10^-wanted`.
pub(crate) fn rescale(value: i128, scale: i8, wanted: u8) -> Result<i64, NumberError> {
    let overflow = NumberError::Overflow { scale: wanted };
    let shift = i32::from(wanted) - i32::from(scale);
    if shift == 0 || value == 0 {
        return i64::try_from(value).map_err(|_| overflow);
    }
    let scaled = match (10i128.checked_pow(shift.unsigned_abs()), shift > 0) {
        (Some(power), true) => value.checked_mul(power).ok_or(overflow)?,
        (Some(power), false) if value % power == 0 => value / power,
        (None, true) => return Err(overflow),
        (_, false) => return Err(NumberError::TooManyDigits { scale: wanted }),
    };
    i64::try_from(scaled).map_err(|_| overflow)
}

/// The same of a number of 256 bits.
pub(crate) fn rescale_wide(value: i256, scale: i8, wanted: u8) -> Result<i64, NumberError> {
    let shift = i32::from(wanted) - i32::from(scale);
    match value.to_i128() {
        Some(value) => rescale(value, scale, wanted),
        None if shift >= 0 => Err(NumberError::Overflow { scale: wanted }),
        None => {
            let power = i256::from_i128(10).checked_pow(shift.unsigned_abs());
            let part = |of: fn(i256, i256) -> Option<i256>| power.and_then(|power| of(value, power));
            match (part(i256::checked_rem), part(i256::checked_div).and_then(i256::to_i128)) {
                (Some(i256::ZERO), Some(whole)) => rescale(whole, wanted as i8, wanted),
                (Some(i256::ZERO), None) => Err(NumberError::Overflow { scale: wanted }),
                _ => Err(NumberError::TooManyDigits { scale: wanted }),
            }
        }
    }
}

/// A float in units of `10^-scale`. It stands for the shortest decimal that reads back as the same float: that is what was
/// meant by it.
pub(crate) fn of_float(number: f64, scale: u8, scratch: &mut String) -> Result<i64, NumberError> {
    /// Two decimals of 15 digits never are the same float, so one of them that is this float is the shortest.
    const DIGITS_15: f64 = 1e15;
    let power = POWERS.get(usize::from(scale)).copied().unwrap_or(f64::NAN);
    let units = (number * power).round();
    // Both are exact floats, and their quotient is the float next to the decimal.
    if units.abs() < DIGITS_15 && units / power == number {
        return Ok(units as i64);
    }
    shortest(number, scale, scratch)
}

/// The powers of ten that a float has exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The same of a float of 32 bits.
pub(crate) fn of_short_float(number: f32, scale: u8, scratch: &mut String) -> Result<i64, NumberError> {
    shortest(number, scale, scratch)
}

/// Floats are written with the fewest digits that read back as the same; neither NaN nor infinity is a decimal.
fn shortest(number: impl std::fmt::Display, scale: u8, scratch: &mut String) -> Result<i64, NumberError> {
    scratch.clear();
    write!(scratch, "{number}").map_err(|_| NumberError::NotANumber)?;
    parse_decimal(scratch, scale)
}

/// Microseconds of a time of which `per_second` units make a second; what is less is cut off.
pub(crate) fn time_micros(value: i64, per_second: i64) -> Result<i64, NumberError> {
    let micros = if per_second <= MICROS_PER_SECOND {
        value.checked_mul(MICROS_PER_SECOND / per_second).ok_or(NumberError::TimeRange)?
    } else {
        value.div_euclid(per_second / MICROS_PER_SECOND)
    };
    check_time(micros)
}

const MICROS_PER_SECOND: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scales_are_exact() {
        assert_eq!(rescale(1250, 2, 2), Ok(1250));
        assert_eq!(rescale(1250, 2, 1), Ok(125));
        assert_eq!(rescale(1250, 3, 1), Err(NumberError::TooManyDigits { scale: 1 }));
        assert_eq!(rescale(31, 0, 2), Ok(3100));
        assert_eq!(rescale(5, -2, 0), Ok(500));
        assert_eq!(rescale(0, 100, 0), Ok(0));
        assert_eq!(rescale(1, 100, 0), Err(NumberError::TooManyDigits { scale: 0 }));
        assert_eq!(rescale(1, -100, 0), Err(NumberError::Overflow { scale: 0 }));
        assert_eq!(rescale(i128::from(i64::MAX), 0, 1), Err(NumberError::Overflow { scale: 1 }));
        assert_eq!(rescale(i128::MAX, 0, 18), Err(NumberError::Overflow { scale: 18 }));
        assert_eq!(scaled(-31, 2), Ok(-3100));
        assert_eq!(scaled(i64::MAX, 1), Err(NumberError::Overflow { scale: 1 }));
    }

    #[test]
    fn wide_decimals_are_exact() {
        let wide = |digits: u32| i256::from_i128(10).checked_pow(digits).expect("fits");
        assert_eq!(rescale_wide(i256::from_i128(-1250), 2, 1), Ok(-125));
        assert_eq!(rescale_wide(wide(60), 60, 2), Ok(100));
        assert_eq!(rescale_wide(wide(60), 61, 0), Err(NumberError::TooManyDigits { scale: 0 }));
        assert_eq!(rescale_wide(wide(60), 0, 2), Err(NumberError::Overflow { scale: 2 }));
        assert_eq!(rescale_wide(wide(60), 2, 1), Err(NumberError::Overflow { scale: 1 }));
        assert_eq!(rescale_wide(i256::MAX, 76, 0), Err(NumberError::TooManyDigits { scale: 0 }));
    }

    #[test]
    fn times_are_cut_to_microseconds() {
        assert_eq!(time_micros(-1, 1_000_000_000), Ok(-1));
        assert_eq!(time_micros(1_999, 1_000_000_000), Ok(1));
        assert_eq!(time_micros(2, 1), Ok(2_000_000));
        assert_eq!(time_micros(i64::MAX, 1), Err(NumberError::TimeRange));
    }

    #[test]
    fn floats_are_the_decimal_that_was_meant() {
        let mut scratch = String::new();
        let mut check = |number: f64, scale, expected| {
            assert_eq!(of_float(number, scale, &mut scratch), expected, "{number} at scale {scale}");
        };
        check(12.5, 2, Ok(1250));
        check(0.1, 18, Ok(100_000_000_000_000_000));
        check(0.1 + 0.2, 2, Err(NumberError::TooManyDigits { scale: 2 }));
        check(1e18, 0, Ok(1_000_000_000_000_000_000));
        check(9_007_199_254_740_993.0, 0, Ok(9_007_199_254_740_992));
        check(1e300, 2, Err(NumberError::Overflow { scale: 2 }));
        check(-0.0, 2, Ok(0));
        check(f64::NAN, 2, Err(NumberError::NotANumber));
        check(f64::INFINITY, 2, Err(NumberError::NotANumber));
        assert_eq!(of_short_float(0.1, 2, &mut scratch), Ok(10));
        assert_eq!(of_short_float(f32::NAN, 2, &mut scratch), Err(NumberError::NotANumber));
    }

    proptest! {
        #[test]
        fn the_short_way_is_the_long_one(units in -2_000_000_000_000_000i64..2_000_000_000_000_000, scale in 0u8..=18, any: f64) {
            let mut scratch = String::new();
            let near = units as f64 / 10f64.powi(scale.into());
            for number in [near, near.next_up(), any] {
                let long = shortest(number, scale, &mut scratch);
                prop_assert_eq!(of_float(number, scale, &mut scratch), long, "{}", number);
            }
        }
    }
}
