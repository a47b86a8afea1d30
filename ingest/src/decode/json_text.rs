//! Values as JSON text, appended to bytes.

use std::fmt::{Display, LowerExp};
use std::io::Write;

/// Appends text as a JSON string.
pub(crate) fn push_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => push_shown(format_args!("\\u{byte:04x}"), out),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The key of an object's member, with its colon.
pub(crate) fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    push_string(name, &mut key);
    key.push(b':');
    key
}

/// Appends what `shown` shows.
pub(crate) fn push_shown(shown: impl Display, out: &mut Vec<u8>) {
    write!(out, "{shown}").expect("writing to memory does not fail");
}

/// Appends the shortest number that reads back as the same float. What is no number becomes text, which no numeric
/// column takes, so that it is refused instead of being taken for nothing.
pub(crate) fn push_float(float: impl Display + LowerExp + Copy, magnitude: f64, out: &mut Vec<u8>) {
    if !magnitude.is_finite() {
        push_shown(format_args!("\"{float}\""), out);
    } else if magnitude == 0.0 || (1e-7..1e21).contains(&magnitude) {
        push_shown(float, out);
    } else {
        push_shown(format_args!("{float:e}"), out);
    }
}

/// Appends a decimal, `number / 10^scale`, with all its digits.
pub(crate) fn push_decimal(number: impl Display, scale: i8, out: &mut Vec<u8>) {
    let text = number.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    out.extend_from_slice(sign.as_bytes());
    match usize::try_from(scale) {
        Err(_) | Ok(0) => {
            out.extend_from_slice(digits.as_bytes());
            let zeros = if digits == "0" { 0 } else { usize::from(scale.unsigned_abs()) };
            out.resize(out.len() + zeros, b'0');
        }
        Ok(scale) => {
            let whole = digits.len().saturating_sub(scale);
            out.extend_from_slice(if whole == 0 { b"0" } else { &digits.as_bytes()[..whole] });
            out.push(b'.');
            out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
            out.extend_from_slice(&digits.as_bytes()[whole..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).expect("text")
    }

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let json = written(|out| push_string(&text, out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("a string"), text);
        }

        #[test]
        fn floats_read_back(float in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
            let json = written(|out| push_float(float, float.abs(), out));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
            prop_assert_eq!(json.parse::<f64>().expect("a number"), float);
        }
    }

    #[test]
    fn numbers_are_written_as_people_do() {
        let float = |float: f64| written(|out| push_float(float, float.abs(), out));
        assert_eq!([0.1, 7.0, -1e20, 1e300, 1e-9].map(float), ["0.1", "7", "-100000000000000000000", "1e300", "1e-9"]);
        assert_eq!([f64::NAN, f64::NEG_INFINITY].map(float), ["\"NaN\"", "\"-inf\""]);
        let decimal = |number: i64, scale: i8| written(|out| push_decimal(number, scale, out));
        assert_eq!([decimal(1250, 2), decimal(-5, 3), decimal(0, 2)], ["12.50", "-0.005", "0.00"]);
        assert_eq!([decimal(-125, 3), decimal(7, 0), decimal(7, -2), decimal(0, -2)], ["-0.125", "7", "700", "0"]);
    }
}
