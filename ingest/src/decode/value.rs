//! Text to the 64 bits of a number tag, exactly: no step goes through a floating-point number.

use engine::catalog::Unit;
use std::fmt;

/// Why text is not a value of a number tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Not a number at all.
    NotANumber,
    /// More digits behind the point than the tag keeps.
    TooManyDigits {
        /// How many it keeps.
        scale: u8,
    },
    /// Beyond 64 bits.
    Overflow {
        /// Digits behind the point.
        scale: u8,
    },
    /// Not a point in time as RFC 3339 writes it.
    NotATime,
    /// A point in time outside the years 0 to 9999.
    TimeRange,
}

impl NumberError {
    /// What to write instead.
    pub fn suggestion(self) -> &'static str {
        match self {
            NumberError::NotANumber => "write digits, as in 31 or -2.50",
            NumberError::TooManyDigits { scale: 0 } => "round it, or declare the tag with a scale",
            NumberError::TooManyDigits { .. } => "round it, or declare the tag with a larger scale",
            NumberError::Overflow { .. } => "choose a unit in which the numbers are smaller",
            NumberError::NotATime => "write 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds since 1970",
            NumberError::TimeRange => "a number is read as milliseconds since 1970",
        }
    }
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberError::NotANumber => f.write_str("is not a number"),
            NumberError::TooManyDigits { scale: 0 } => f.write_str("is not a whole number"),
            NumberError::TooManyDigits { scale } => write!(f, "has more than {scale} digits behind the point"),
            NumberError::Overflow { scale: 0 } => write!(f, "is beyond {} … {}", i64::MIN, i64::MAX),
            NumberError::Overflow { scale } => write!(f, "is beyond 64 bits at {scale} digits behind the point"),
            NumberError::NotATime => f.write_str("is not a point in time"),
            NumberError::TimeRange => f.write_str("is outside the years 0 to 9999"),
        }
    }
}

/// A number as text, for a tag of this unit: an integer, a decimal, or milliseconds since 1970 with at most three
/// digits behind the point. `1e3` is 1000.
///
/// # Errors
/// [`NumberError`]; nothing is rounded.
pub fn parse_number(text: &str, unit: Unit) -> Result<i64, NumberError> {
    match unit {
        Unit::Integer => parse_decimal(text, 0),
        Unit::Decimal { scale } => parse_decimal(text, scale),
        Unit::Timestamp => parse_decimal(text, 3)
            .map_err(|error| match error {
                NumberError::Overflow { .. } => NumberError::TimeRange,
                other => other,
            })
            .and_then(check_time),
    }
}

/// Text for a number tag where text and numbers look alike (CSV, text columns): a timestamp may also be written as
/// [`parse_time`] reads it.
pub fn parse_text(text: &str, unit: Unit) -> Result<i64, NumberError> {
    match unit {
        Unit::Timestamp => match parse_number(text, unit) {
            Err(NumberError::NotANumber) => parse_time(text),
            parsed => parsed,
        },
        _ => parse_number(text, unit),
    }
}

/// A flag where text and numbers look alike.
pub fn parse_flag(text: &str) -> Option<bool> {
    const TRUE: [&str; 5] = ["true", "t", "yes", "y", "1"];
    const FALSE: [&str; 5] = ["false", "f", "no", "n", "0"];
    let is = |words: [&str; 5]| words.iter().any(|word| word.eq_ignore_ascii_case(text.trim()));
    if is(TRUE) {
        return Some(true);
    }
    is(FALSE).then_some(false)
}

/// A point in time, in microseconds since 1970, as the audience language reads it: RFC 3339, or the same without an offset
/// (read as UTC), or a date alone (its midnight in UTC). Digits beyond microseconds are cut off.
///
/// # Errors
/// [`NumberError::NotATime`].
pub fn parse_time(text: &str) -> Result<i64, NumberError> {
    let time = engine::audience::literal::timestamp(text).ok_or(NumberError::NotATime)?;
    i64::try_from(time.floor).map_err(|_| NumberError::TimeRange).and_then(check_time)
}

/// Microseconds since 1970 at the begin of the year 0 and of the year 10000.
const TIMES: std::ops::Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

/// Microseconds since 1970 that RFC 3339 can write.
pub(crate) fn check_time(micros: i64) -> Result<i64, NumberError> {
    if TIMES.contains(&micros) { Ok(micros) } else { Err(NumberError::TimeRange) }
}

/// `text` times `10^scale`.
///
/// The digits are gathered without their trailing zeros as `mantissa * 10^exponent`; a negative exponent that is left
/// over is a digit that the tag cannot keep.
pub fn parse_decimal(text: &str, scale: u8) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut mantissa = Some(0u64);
    let (mut zeros, mut digit_count, mut behind_point, mut at) = (0u32, 0usize, None, 0);
    while let Some(&byte) = digits.get(at) {
        match byte {
            b'0' => zeros += 1,
            b'1'..=b'9' => {
                let shifted = mantissa.and_then(|mantissa| shift(mantissa, zeros.saturating_add(1)));
                mantissa = shifted.and_then(|shifted| shifted.checked_add(u64::from(byte - b'0')));
                zeros = 0;
            }
            b'.' if behind_point.is_none() => {
                behind_point = Some(digit_count);
                at += 1;
                continue;
            }
            _ => break,
        }
        digit_count += 1;
        at += 1;
    }
    if digit_count == 0 {
        return Err(NumberError::NotANumber);
    }
    let fraction = digit_count - behind_point.unwrap_or(digit_count);
    let exponent = parse_exponent(&digits[at..])?
        .saturating_add(i64::from(scale))
        .saturating_sub(fraction as i64)
        .saturating_add(i64::from(zeros));
    scaled(mantissa, exponent, negative, scale)
}

fn scaled(mantissa: Option<u64>, exponent: i64, negative: bool, scale: u8) -> Result<i64, NumberError> {
    if mantissa == Some(0) {
        return Ok(0);
    }
    if exponent < 0 {
        return Err(NumberError::TooManyDigits { scale });
    }
    let overflow = NumberError::Overflow { scale };
    let power = u32::try_from(exponent).map_err(|_| overflow)?;
    let magnitude = mantissa.and_then(|mantissa| shift(mantissa, power)).ok_or(overflow)?;
    let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(value).map_err(|_| overflow)
}

/// `value * 10^power`, if 64 bits hold it.
fn shift(value: u64, power: u32) -> Option<u64> {
    if value == 0 {
        return Some(0);
    }
    10u64.checked_pow(power).and_then(|factor| value.checked_mul(factor))
}

fn parse_exponent(text: &[u8]) -> Result<i64, NumberError> {
    let digits = match text {
        [] => return Ok(0),
        [b'e' | b'E', b'+' | b'-', digits @ ..] | [b'e' | b'E', digits @ ..] => digits,
        _ => return Err(NumberError::NotANumber),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::NotANumber);
    }
    let magnitude =
        digits.iter().fold(0i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Ok(if text[1] == b'-' { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact() {
        let cases: [(&str, u8, Result<i64, NumberError>); 24] = [
            ("31", 0, Ok(31)),
            ("-0", 0, Ok(0)),
            ("0.10", 1, Ok(1)),
            ("12.50", 2, Ok(1250)),
            ("12.505", 2, Err(NumberError::TooManyDigits { scale: 2 })),
            ("0.1", 18, Ok(100_000_000_000_000_000)),
            ("1e3", 0, Ok(1000)),
            ("1.5E1", 0, Ok(15)),
            ("1500e-2", 0, Ok(15)),
            ("1e-1", 0, Err(NumberError::TooManyDigits { scale: 0 })),
            ("0e999999999999999999999", 0, Ok(0)),
            ("1e999999999999999999999", 0, Err(NumberError::Overflow { scale: 0 })),
            ("9223372036854775807", 0, Ok(i64::MAX)),
            ("9223372036854775808", 0, Err(NumberError::Overflow { scale: 0 })),
            ("-9223372036854775808", 0, Ok(i64::MIN)),
            ("-9223372036854775809", 0, Err(NumberError::Overflow { scale: 0 })),
            ("92233720368547758.08", 2, Err(NumberError::Overflow { scale: 2 })),
            ("1.00000000000000000000000", 0, Ok(1)),
            ("99999999999999999999", 0, Err(NumberError::Overflow { scale: 0 })),
            ("NaN", 0, Err(NumberError::NotANumber)),
            ("", 0, Err(NumberError::NotANumber)),
            (".", 0, Err(NumberError::NotANumber)),
            ("1.2.3", 2, Err(NumberError::NotANumber)),
            ("1,000", 0, Err(NumberError::NotANumber)),
        ];
        for (text, scale, expected) in cases {
            assert_eq!(parse_decimal(text, scale), expected, "{text} at scale {scale}");
        }
    }

    #[test]
    fn times_are_microseconds() {
        let at_ten = 1_795_168_800_000_000;
        for text in [
            "2026-11-20T10:00:00Z",
            "2026-11-20 10:00:00",
            "2026-11-20T18:00:00+08:00",
            "2026-11-20T10:00:00.0000009Z",
            "1795168800000",
            "1795168800000.000",
        ] {
            assert_eq!(parse_text(text, Unit::Timestamp), Ok(at_ten), "{text}");
        }
        assert_eq!(parse_time("2026-11-20"), Ok(at_ten - 36_000_000_000));
        assert_eq!(parse_time("1969-12-31T23:59:59.9999999Z"), Ok(-1));
        assert_eq!(parse_number("0.5", Unit::Timestamp), Ok(500));
        assert_eq!(parse_time("0000-01-01"), Ok(TIMES.start));
        assert_eq!(parse_time("9999-12-31T23:59:59.999999Z"), Ok(TIMES.end - 1));
        for text in ["tomorrow", "2026-02-30", "2026-11-20T25:00:00Z", "2026-11-20T10:00:00+99:00", "20:00"] {
            assert_eq!(parse_text(text, Unit::Timestamp), Err(NumberError::NotATime), "{text}");
        }
        // Nanoseconds where milliseconds belong.
        assert_eq!(parse_number("1795168800000000000", Unit::Timestamp), Err(NumberError::TimeRange));
    }

    proptest! {
        #[test]
        fn reads_back_any_printed_decimal(value: i64, scale in 0u8..=18) {
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = usize::from(scale) + 1);
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
            let sign = if value < 0 { "-" } else { "" };
            prop_assert_eq!(parse_decimal(&format!("{sign}{whole}.{fraction}0"), scale), Ok(value));
            prop_assert_eq!(parse_decimal(&format!("{sign}{digits}e-{scale}"), scale), Ok(value));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = parse_text(&text, Unit::Timestamp);
            let _ = parse_text(&text, Unit::Decimal { scale: 3 });
        }
    }
}
