//! Literals to the 64 bits of a number tag, exactly.
//!
//! A literal may lie between two numbers the tag can hold (`age > 30.5`), or beyond them; it is kept as the floor of
//! the exact value and whether it is exact, from which every comparison follows without rounding.

use crate::behavior::calendar::Date;
use crate::bitmap::bsi::NumberRange;

/// A literal in a tag's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The greatest integer not above the literal; saturated far beyond 64 bits.
    pub floor: i128,
    /// Whether the literal is that integer.
    pub exact: bool,
}

/// Beyond every number a tag can hold, and far from overflow.
const FAR: i128 = 1 << 100;

impl Exact {
    fn ceiling(self) -> i128 {
        self.floor + i128::from(!self.exact)
    }

    /// Numbers equal to it.
    pub fn equal(self) -> NumberRange {
        range(self.ceiling(), self.floor)
    }

    /// Numbers below it, and equal to it if `inclusive`.
    pub fn below(self, inclusive: bool) -> NumberRange {
        range(i64::MIN.into(), if inclusive { self.floor } else { self.ceiling() - 1 })
    }

    /// Numbers above it, and equal to it if `inclusive`.
    pub fn above(self, inclusive: bool) -> NumberRange {
        range(if inclusive { self.ceiling() } else { self.floor + 1 }, i64::MAX.into())
    }

    /// The number itself, if the tag can hold it.
    pub fn number(self) -> Option<i64> {
        self.exact.then(|| i64::try_from(self.floor).ok()).flatten()
    }
}

/// A closed range, cut to 64 bits; empty ranges are all alike.
fn range(min: i128, max: i128) -> NumberRange {
    let (low, high) = (i128::from(i64::MIN), i128::from(i64::MAX));
    if min > max || min > high || max < low {
        return NumberRange { min: 1, max: 0 };
    }
    NumberRange { min: min.max(low) as i64, max: max.min(high) as i64 }
}

/// A decimal literal (`-12.50`, `1e3`) times `10^scale`; `None` if it is not one.
pub fn decimal(text: &str, scale: u8) -> Option<Exact> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() < 1_000_000)?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !all_digits || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Digits that stand before the point once it is moved.
    let before = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let mut floor: i128 = 0;
    let mut exact = true;
    for (index, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if (index as i64) < before {
            floor = (floor * 10 + i128::from(digit - b'0')).min(FAR);
        } else {
            exact &= digit == b'0';
        }
    }
    for _ in (whole.len() + fraction.len()) as i64..before {
        if floor == 0 || floor == FAR {
            break;
        }
        floor = (floor * 10).min(FAR);
    }
    if negative {
        floor = -floor - i128::from(!exact);
    }
    Some(Exact { floor, exact })
}

/// A time (`2026-11-20`, `2026-11-20T10:00:00.5+08:00`; without a zone it is UTC) in microseconds since 1970; `None` if it
/// is not one.
pub fn timestamp(text: &str) -> Option<Exact> {
    let mut rest = text.trim().as_bytes();
    let year = number(&mut rest, 4)?;
    let month = after(&mut rest, b'-').then(|| number(&mut rest, 2))??;
    let day = after(&mut rest, b'-').then(|| number(&mut rest, 2))??;
    let date = Date { year, month, day };
    if !date.exists() {
        return None;
    }
    let mut seconds = date.days_since_1970() * 86_400;
    let (mut micros, mut exact) = (0, true);
    if after(&mut rest, b'T') || after(&mut rest, b't') || after(&mut rest, b' ') {
        let hour = number(&mut rest, 2)?;
        let minute = after(&mut rest, b':').then(|| number(&mut rest, 2))??;
        let second = if after(&mut rest, b':') { number(&mut rest, 2)? } else { 0 };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        seconds += hour * 3_600 + minute * 60 + second;
        if after(&mut rest, b'.') {
            (micros, exact) = fraction(&mut rest)?;
        }
        seconds -= zone(&mut rest)?;
    }
    rest.is_empty().then(|| Exact { floor: i128::from(seconds) * 1_000_000 + i128::from(micros), exact })
}

fn after(rest: &mut &[u8], wanted: u8) -> bool {
    match rest.split_first() {
        Some((first, others)) if *first == wanted => {
            *rest = others;
            true
        }
        _ => false,
    }
}

fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (number, others) = rest.split_at_checked(digits)?;
    *rest = others;
    number.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// Microseconds, and whether nothing follows them.
fn fraction(rest: &mut &[u8]) -> Option<(i64, bool)> {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, others) = rest.split_at(len);
    *rest = others;
    let micros = (0..6).fold(0, |sum, index| sum * 10 + digits.get(index).map_or(0, |digit| i64::from(digit - b'0')));
    (len > 0).then(|| (micros, digits.iter().skip(6).all(|digit| *digit == b'0')))
}

/// Seconds east of UTC.
fn zone(rest: &mut &[u8]) -> Option<i64> {
    if rest.is_empty() || after(rest, b'Z') || after(rest, b'z') {
        return Some(0);
    }
    let sign = if after(rest, b'+') { 1 } else { after(rest, b'-').then_some(-1)? };
    let hours = number(rest, 2)?;
    after(rest, b':');
    let minutes = if rest.is_empty() { 0 } else { number(rest, 2)? };
    (hours <= 23 && minutes <= 59).then(|| sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        let exact = |floor, exact| Some(Exact { floor, exact });
        assert_eq!(decimal("31", 0), exact(31, true));
        assert_eq!(decimal("-12.50", 2), exact(-1250, true));
        assert_eq!(decimal("30.5", 0), exact(30, false));
        assert_eq!(decimal("-30.5", 0), exact(-31, false));
        assert_eq!(decimal(".5", 1), exact(5, true));
        assert_eq!(decimal("1e3", 0), exact(1000, true));
        assert_eq!(decimal("25e-1", 0), exact(2, false));
        assert_eq!(decimal("9223372036854775808", 0).and_then(Exact::number), None);
        assert_eq!(decimal("1e999", 0).map(|far| far.below(true)), Some(NumberRange::ALL));
        for bad in ["", "-", ".", "1.2.3", "1e", "abc", "1e9999999999", "NaN"] {
            assert_eq!(decimal(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let micros = |text: &str| timestamp(text).and_then(Exact::number);
        assert_eq!(micros("1970-01-01"), Some(0));
        assert_eq!(micros("2000-02-29T00:00:00Z"), Some(951_782_400_000_000));
        assert_eq!(micros("2026-11-20 10:00:00.000001"), Some(1_795_168_800_000_001));
        assert_eq!(micros("2026-11-20T18:00:00+08:00"), micros("2026-11-20T10:00"));
        assert_eq!(micros("1969-12-31T23:59:59-00:00"), Some(-1_000_000));
        for bad in
            ["2026-13-01", "2026-02-29", "2026-11-20T25:00:00", "20261120", "2026-11-20T10", "2026-11-20x", "now"]
        {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }
}
