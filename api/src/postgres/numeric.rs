//! PostgreSQL's `numeric` in binary: groups of four decimal digits, with a weight, a sign and the digits behind the point.

use super::frames::{Fields, FrameError};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt::Write;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
/// Digits that are read of a value: more than any decimal has.
const DIGITS_MAX: usize = 1_000;

/// Writes a decimal, as `-12.50`.
pub(super) fn put(out: &mut BytesMut, decimal: &str) {
    let (sign, digits) = match decimal.strip_prefix('-') {
        Some(digits) => (NEGATIVE, digits),
        None => (0, decimal),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    // Groups stand around the point.
    let before = (4 - whole.len() % 4) % 4;
    let behind = (4 - part.len() % 4) % 4;
    let all: Vec<u8> = std::iter::repeat_n(b'0', before)
        .chain(whole.bytes())
        .chain(part.bytes())
        .chain(std::iter::repeat_n(b'0', behind))
        .collect();
    let group = |group: &[u8]| group.iter().fold(0i16, |number, digit| number * 10 + i16::from(digit - b'0'));
    let mut groups: &[i16] = &all.chunks(4).map(group).collect::<Vec<_>>();
    let mut weight = ((before + whole.len()) / 4) as i16 - 1;
    while let [0, rest @ ..] = groups {
        groups = rest;
        weight -= 1;
    }
    while let [rest @ .., 0] = groups {
        groups = rest;
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(groups.len() as i16);
    out.put_i16(weight);
    out.put_u16(if groups.is_empty() { 0 } else { sign });
    out.put_i16(part.len() as i16);
    groups.iter().for_each(|group| out.put_i16(*group));
}

/// Reads a value as its decimal text.
///
/// # Errors
/// [`FrameError::Wrong`].
pub(super) fn read(value: Bytes) -> Result<String, FrameError> {
    let wrong = |why: &str| FrameError::Wrong(format!("a numeric value {why}"));
    let mut fields = Fields::new(value);
    let count = fields.i16()?.cast_unsigned();
    let (weight, sign, scale) = (fields.i16()?, fields.i16()?.cast_unsigned(), fields.i16()?.cast_unsigned());
    if sign == NAN {
        return Ok("NaN".to_owned());
    }
    if sign != 0 && sign != NEGATIVE {
        return Err(wrong("is infinite, or none"));
    }
    let weight = isize::from(weight);
    if usize::from(scale) > DIGITS_MAX || weight.unsigned_abs() * 4 > DIGITS_MAX {
        return Err(wrong("has too many digits"));
    }
    let groups: Vec<i16> = (0..count).map(|_| fields.i16()).collect::<Result<_, _>>()?;
    if !fields.is_empty() || groups.iter().any(|group| !(0..10_000).contains(group)) {
        return Err(wrong("is malformed"));
    }
    let group = |at: isize| usize::try_from(weight - at).ok().and_then(|index| groups.get(index)).copied().unwrap_or(0);
    let mut text = if sign == NEGATIVE { "-".to_owned() } else { String::new() };
    let mut whole = String::new();
    for at in (0..=weight).rev() {
        let _ = write!(whole, "{:04}", group(at));
    }
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let mut part = String::new();
        for at in 1..=usize::from(scale).div_ceil(4) as isize {
            let _ = write!(part, "{:04}", group(-at));
        }
        text.push('.');
        text.push_str(&part[..usize::from(scale)]);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(decimal: &str) -> Bytes {
        let mut out = BytesMut::new();
        put(&mut out, decimal);
        out.freeze()
    }

    #[test]
    fn groups_stand_around_the_point() {
        // 12345.678 is 1, 2345 and 6780, the first of which counts ten thousands.
        let expected = [[0, 3], [0, 1], [0, 0], [0, 3], [0, 1], [9, 41], [26, 124]].concat();
        assert_eq!(&*written("12345.678"), expected);
        assert_eq!(&*written("-0.0001"), [[0, 1], [255, 255], [64, 0], [0, 4], [0, 1]].concat());
        assert_eq!(&*written("0.00"), [[0, 0], [0, 0], [0, 0], [0, 2]].concat());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number: i128, scale in 0..38usize) {
            let digits = format!("{:0width$}", number.unsigned_abs(), width = scale + 1);
            let (whole, part) = digits.split_at(digits.len() - scale);
            let sign = if number < 0 { "-" } else { "" };
            let decimal = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") };
            prop_assert_eq!(read(written(&decimal)).expect("a number"), decimal);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(Bytes::from(bytes));
        }
    }
}
