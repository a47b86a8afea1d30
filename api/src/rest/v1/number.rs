//! Numbers as JSON: decimals with their digits, times as RFC 3339, nothing rounded through a float.

use engine::catalog::Unit;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A number of a number tag, in JSON: an integer, a decimal with all its digits, or a time as a string.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Number(pub Box<RawValue>);

impl utoipa::PartialSchema for Number {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let number = ObjectBuilder::new().schema_type(Type::Number).description(Some("With all its digits"));
        let time = ObjectBuilder::new().schema_type(Type::String).description(Some("A time, RFC 3339 in UTC"));
        OneOfBuilder::new().item(number).item(time).into()
    }
}

impl utoipa::ToSchema for Number {}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.get().trim_matches('"'))
    }
}

impl Number {
    /// A value of a tag with this unit.
    pub fn of(unit: Unit, value: i128) -> Number {
        let text = match unit {
            Unit::Integer => value.to_string(),
            Unit::Decimal { scale } => decimal(value, scale),
            Unit::Timestamp => format!("\"{}\"", time(value)),
        };
        Number(RawValue::from_string(text).expect("digits, or text without quotes, are JSON"))
    }

    /// A number with so many digits behind the point, without the zeros at their end.
    pub fn shortest(mut value: i128, mut digits: u8) -> Number {
        while digits > 0 && value % 10 == 0 {
            value /= 10;
            digits -= 1;
        }
        Number::of(if digits == 0 { Unit::Integer } else { Unit::Decimal { scale: digits } }, value)
    }

    /// The mean of `count` values that sum to `sum`; `None` without values.
    pub fn mean(unit: Unit, sum: i128, count: u64) -> Option<Number> {
        if count == 0 {
            return None;
        }
        let mean = match unit {
            Unit::Timestamp => return Some(Number::of(unit, sum / i128::from(count))),
            Unit::Integer => sum as f64 / count as f64,
            Unit::Decimal { scale } => sum as f64 / count as f64 / 10f64.powi(scale.into()),
        };
        serde_json::value::to_raw_value(&mean).ok().map(Number)
    }
}

/// `-1234` at scale 2 is `-12.34`.
fn decimal(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Microseconds since 1970 as RFC 3339; the bare number outside the years that it can write.
pub fn time(micros: i128) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    time.map_or_else(|| micros.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_say_nothing_are_left_out() {
        let text = |value, digits| Number::shortest(value, digits).to_string();
        assert_eq!(text(333_333_333, 9), "0.333333333");
        assert_eq!(text(2_000_000_000, 9), "2");
        assert_eq!(text(-150_000_000_000, 11), "-1.5");
        assert_eq!(text(0, 9), "0");
    }

    #[test]
    fn digits_are_kept() {
        let text = |unit, value| Number::of(unit, value).0.get().to_owned();
        let cents = Unit::Decimal { scale: 2 };
        assert_eq!(text(Unit::Integer, i64::MIN.into()), "-9223372036854775808");
        assert_eq!(text(cents, -5), "-0.05");
        assert_eq!(text(cents, 0), "0.00");
        assert_eq!(text(cents, i128::from(i64::MAX)), "92233720368547758.07");
        assert_eq!(text(Unit::Timestamp, 0), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(text(Unit::Timestamp, i64::MAX.into()), format!("\"{}\"", i64::MAX));
        assert_eq!(Number::mean(cents, 250, 100).map(|mean| mean.to_string()), Some("0.025".to_owned()));
        assert!(Number::mean(cents, 0, 0).is_none());
    }
}
