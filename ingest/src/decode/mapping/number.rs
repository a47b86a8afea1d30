//! Numbers as JSON writes them, compared and shifted as text: no step goes through a floating-point number.

use engine::computed::{NUMBER_DIGITS, NUMBER_SCALE};
use std::cmp::Ordering;
use std::fmt::Write;

/// How two numbers compare, exactly, in time linear in their digits; `1.0` equals `1e0`.
///
/// Exponents beyond 64 bits count as the largest.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Decimal::of(a), Decimal::of(b));
    let magnitudes = || a.first_digit_at().cmp(&b.first_digit_at()).then_with(|| a.compare_digits(&b));
    match a.sign().cmp(&b.sign()) {
        Ordering::Equal if a.sign() > 0 => magnitudes(),
        Ordering::Equal if a.sign() < 0 => magnitudes().reverse(),
        signs => signs,
    }
}

/// Appends a number times `10^power`.
pub(super) fn push_shifted(number: &str, power: i8, out: &mut String) {
    let (mantissa, exponent) = split_exponent(number);
    let digits = mantissa.trim_start_matches('-');
    let is_plain = exponent.is_none() && !digits.contains('.');
    let places = usize::from(power.unsigned_abs());
    match is_plain {
        // As a person would write it, where that is easy.
        true if power == 0 || digits == "0" => out.push_str(mantissa),
        true if power > 0 => {
            out.push_str(mantissa);
            out.extend(std::iter::repeat_n('0', places));
        }
        true if digits.len() > places => {
            let (whole, fraction) = mantissa.split_at(mantissa.len() - places);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        _ => {
            let exponent = exponent.unwrap_or(0).saturating_add(power.into());
            write!(out, "{mantissa}e{exponent}").expect("a string takes all that is written");
        }
    }
}

/// Why a number is none of [`scaled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It has a digit that is too far behind the point.
    BehindPoint,
    /// It has too many before it.
    BeforePoint,
}

/// A number in units of `10^-`[`NUMBER_SCALE`], if it is a whole number of them of at most [`NUMBER_DIGITS`] digits.
pub(super) fn scaled(number: &str) -> Result<i128, Unfit> {
    let decimal = Decimal::of(number);
    let mut mantissa = 0i128;
    // Zeros count only once another digit follows.
    let (mut zeros, mut behind) = (0u32, 0i64);
    for (index, digit) in decimal.whole.bytes().chain(decimal.fraction.bytes()).enumerate() {
        let is_behind = index >= decimal.whole.len();
        behind += i64::from(is_behind);
        match digit {
            b'0' => zeros = zeros.saturating_add(1),
            _ => {
                let shifted = shift(mantissa, zeros.saturating_add(1)).ok_or(decimal.unfit())?;
                mantissa = shifted.checked_add(i128::from(digit - b'0')).ok_or(decimal.unfit())?;
                zeros = 0;
            }
        }
    }
    if mantissa == 0 {
        return Ok(0);
    }
    let exponent =
        decimal.exponent.saturating_sub(behind).saturating_add(zeros.into()).saturating_add(NUMBER_SCALE.into());
    if exponent < 0 {
        return Err(Unfit::BehindPoint);
    }
    let units = u32::try_from(exponent).ok().and_then(|power| shift(mantissa, power)).ok_or(Unfit::BeforePoint)?;
    match units < 10i128.pow(NUMBER_DIGITS) {
        true => Ok(if decimal.is_negative { -units } else { units }),
        false => Err(Unfit::BeforePoint),
    }
}

/// `value * 10^power`, if 128 bits hold it.
fn shift(value: i128, power: u32) -> Option<i128> {
    match value {
        0 => Some(0),
        _ => 10i128.checked_pow(power).and_then(|factor| value.checked_mul(factor)),
    }
}

/// `± whole.fraction * 10^exponent`.
struct Decimal<'n> {
    is_negative: bool,
    whole: &'n str,
    fraction: &'n str,
    exponent: i64,
}

impl<'n> Decimal<'n> {
    fn of(number: &'n str) -> Self {
        let (mantissa, exponent) = split_exponent(number);
        let digits = mantissa.strip_prefix('-');
        let (whole, fraction) = digits.unwrap_or(mantissa).split_once('.').unwrap_or((digits.unwrap_or(mantissa), ""));
        Decimal { is_negative: digits.is_some(), whole, fraction, exponent: exponent.unwrap_or(0) }
    }

    /// Why it does not fit, if its digits are too many for 128 bits.
    fn unfit(&self) -> Unfit {
        let before_max = i64::from(NUMBER_DIGITS) - i64::from(NUMBER_SCALE);
        if self.first_digit_at() > before_max { Unfit::BeforePoint } else { Unfit::BehindPoint }
    }

    fn all_digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    /// From the first that is not 0.
    fn digits(&self) -> impl Iterator<Item = u8> {
        self.all_digits().skip_while(|digit| *digit == b'0')
    }

    fn sign(&self) -> i8 {
        match self.digits().next() {
            None => 0,
            Some(_) if self.is_negative => -1,
            Some(_) => 1,
        }
    }

    /// The power of ten above the first digit that is not 0.
    fn first_digit_at(&self) -> i64 {
        let zeros = self.all_digits().take_while(|digit| *digit == b'0').count();
        self.exponent.saturating_add(self.whole.len() as i64 - zeros as i64)
    }

    fn compare_digits(&self, other: &Decimal<'_>) -> Ordering {
        let (mut ours, mut theirs) = (self.digits(), other.digits());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return Ordering::Equal,
                (a, b) => match a.unwrap_or(b'0').cmp(&b.unwrap_or(b'0')) {
                    Ordering::Equal => {}
                    different => return different,
                },
            }
        }
    }
}

fn split_exponent(number: &str) -> (&str, Option<i64>) {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else { return (number, None) };
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    (mantissa, Some(exponent.parse().unwrap_or(beyond)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::value::{parse_decimal, parse_number};
    use engine::catalog::Unit;
    use proptest::prelude::*;

    #[test]
    fn numbers_compare_by_value() {
        let rising = [
            "-1e99999999999999999999",
            "-1e3",
            "-999.999",
            "-1",
            "-1e-99999999999999999999",
            "0",
            "1e-99999999999999999999",
            "0.05",
            "0.5",
            "1",
            "1.000000000000000000000000000001",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e99999999999999999999",
        ];
        for (a, left) in rising.iter().enumerate() {
            for (b, right) in rising.iter().enumerate() {
                assert_eq!(compare(left, right), a.cmp(&b), "{left} {right}");
            }
        }
        for (a, b) in [("0", "-0.0e5"), ("1", "1.0"), ("100", "1E+2"), ("0.1", "100e-3"), ("-5", "-0.5e1")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn shifts_are_exact() {
        let shifted = |number: &str, power: i8| {
            let mut out = String::new();
            push_shifted(number, power, &mut out);
            out
        };
        assert_eq!(shifted("1795168800", 3), "1795168800000");
        assert_eq!(shifted("0", 3), "0");
        assert_eq!(shifted("1795168800.25", 3), "1795168800.25e3");
        assert_eq!(shifted("1.795e9", 3), "1.795e12");
        assert_eq!(shifted("1795168800000123", -3), "1795168800000.123");
        assert_eq!(shifted("-1795", -3), "-1.795");
        assert_eq!(shifted("-795", -3), "-795e-3");
        assert_eq!(shifted("5", 0), "5");
        assert_eq!(shifted("1e99999999999999999999", 3), format!("1e{}", i64::MAX));
        assert_eq!(shifted("1e-99999999999999999999", -3), format!("1e{}", i64::MIN));
    }

    #[test]
    fn scaled_numbers_are_exact() {
        let one = 10i128.pow(18);
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0.0e99999999999999999999", Ok(0)),
            ("1", Ok(one)),
            ("-12.50", Ok(-125 * one / 10)),
            ("1e-18", Ok(1)),
            ("0.000000000000000001000", Ok(1)),
            ("1e-19", Err(Unfit::BehindPoint)),
            ("0.30000000000000004", Ok(300_000_000_000_000_040)),
            ("99999999999999999999.999999999999999999", Ok(10i128.pow(38) - 1)),
            ("100000000000000000000", Err(Unfit::BeforePoint)),
            ("1e19", Ok(10i128.pow(37))),
            ("1000e16", Ok(10i128.pow(37))),
            ("1e20", Err(Unfit::BeforePoint)),
            ("1e99999999999999999999", Err(Unfit::BeforePoint)),
            ("1e-99999999999999999999", Err(Unfit::BehindPoint)),
            ("1.0000000000000000000000000000000000000000001", Err(Unfit::BehindPoint)),
            ("123456789012345678901234567890123456789012345", Err(Unfit::BeforePoint)),
            ("5.0000000000000000000000000000000000000000000", Ok(5 * one)),
        ] {
            assert_eq!(scaled(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn scaling_agrees_with_integers(number: i64, scale in 0u8..=18) {
            let expected = i128::from(number) * 10i128.pow(18 - u32::from(scale));
            prop_assert_eq!(scaled(&format!("{number}e-{scale}")), Ok(expected));
            let digits = format!("{:0>20}", number.unsigned_abs());
            let (whole, fraction) = digits.split_at(20 - usize::from(scale));
            let sign = if number < 0 { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            prop_assert_eq!(scaled(&format!("{sign}{whole}{point}{fraction}")), Ok(expected));
        }

        #[test]
        fn comparing_agrees_with_integers(a in -2000i64..2000, b in -2000i64..2000, a_scale in 0u8..5, b_scale in 0u8..5) {
            let written = |number: i64, scale: u8| format!("{number}e-{scale}");
            let value = |number: i64, scale: u8| parse_decimal(&written(number, scale), 5).expect("fits");
            let ordering = compare(&written(a, a_scale), &written(b, b_scale));
            prop_assert_eq!(ordering, value(a, a_scale).cmp(&value(b, b_scale)));
        }

        #[test]
        fn times_keep_their_microseconds(micros in 0i64..4_000_000_000_000_000) {
            let mut millis = String::new();
            push_shifted(&micros.to_string(), -3, &mut millis);
            prop_assert_eq!(parse_number(&millis, Unit::Timestamp), Ok(micros));
            millis.clear();
            push_shifted(&format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000), 3, &mut millis);
            prop_assert_eq!(parse_number(&millis, Unit::Timestamp), Ok(micros));
        }
    }
}
