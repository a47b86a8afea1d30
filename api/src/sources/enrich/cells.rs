//! Values of PostgreSQL as JSON, read from the bytes in which they come: no digit of a number is lost.
//!
//! Source of the layouts: the `*_send` functions of PostgreSQL; numbers of the type `numeric` are groups of four decimal digits.

use std::error::Error;
use std::fmt::Write;
use tokio_postgres::types::{FromSql, Kind, Type};

/// Microseconds, and days, from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// The bytes of a value, or none for null.
pub(super) struct Raw<'a>(pub(super) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// How the values of a type are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    /// Text that was filled up with spaces.
    PaddedText,
    Uuid,
    TimestampTz,
    Timestamp,
    Date,
    Time,
    Json,
    Jsonb,
    List(Box<Cell>),
}

impl Cell {
    /// Of a type; none if there is no way to read it.
    pub(super) fn of(ty: &Type) -> Option<Cell> {
        Some(match *ty {
            Type::BOOL => Cell::Bool,
            Type::INT2 => Cell::Int2,
            Type::INT4 => Cell::Int4,
            Type::INT8 => Cell::Int8,
            Type::OID => Cell::Oid,
            Type::FLOAT4 => Cell::Float4,
            Type::FLOAT8 => Cell::Float8,
            Type::NUMERIC => Cell::Numeric,
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::CHAR | Type::UNKNOWN => Cell::Text,
            Type::BPCHAR => Cell::PaddedText,
            Type::UUID => Cell::Uuid,
            Type::TIMESTAMPTZ => Cell::TimestampTz,
            Type::TIMESTAMP => Cell::Timestamp,
            Type::DATE => Cell::Date,
            Type::TIME => Cell::Time,
            Type::JSON => Cell::Json,
            Type::JSONB => Cell::Jsonb,
            _ => match ty.kind() {
                Kind::Enum(_) => Cell::Text,
                Kind::Domain(of) => Cell::of(of)?,
                Kind::Array(of) => match Cell::of(of)? {
                    Cell::List(_) => return None,
                    item => Cell::List(Box::new(item)),
                },
                _ if ty.name() == "citext" => Cell::Text,
                _ => return None,
            },
        })
    }

    /// Appends a value as JSON. Times and numbers that are not finite are null: JSON has none of them.
    ///
    /// # Errors
    /// What is odd about its bytes.
    pub(super) fn push(&self, raw: Option<&[u8]>, out: &mut String) -> Result<(), String> {
        let Some(raw) = raw else {
            out.push_str("null");
            return Ok(());
        };
        match self {
            Cell::Json => out.push_str(text(raw)?),
            Cell::Jsonb => match raw.split_first() {
                Some((1, json)) => out.push_str(text(json)?),
                _ => return Err("jsonb of an unknown version".to_owned()),
            },
            Cell::List(item) => push_list(item, raw, out)?,
            Cell::Bool
            | Cell::Int2
            | Cell::Int4
            | Cell::Int8
            | Cell::Oid
            | Cell::Float4
            | Cell::Float8
            | Cell::Numeric => {
                out.push_str(&self.plain(raw)?.unwrap_or_else(|| "null".to_owned()));
            }
            Cell::Text
            | Cell::PaddedText
            | Cell::Uuid
            | Cell::TimestampTz
            | Cell::Timestamp
            | Cell::Date
            | Cell::Time => match self.plain(raw)? {
                Some(text) => out.push_str(&serde_json::Value::from(text).to_string()),
                None => out.push_str("null"),
            },
        }
        Ok(())
    }

    /// A value as text without quotes, as keys are; none if it is not finite.
    ///
    /// # Errors
    /// What is odd about its bytes, or that no key is of this type.
    pub(super) fn plain(&self, raw: &[u8]) -> Result<Option<String>, String> {
        let finite = |value: f64, shown: String| value.is_finite().then_some(shown);
        Ok(Some(match self {
            Cell::Bool => (bytes::<1>(raw)? != [0]).to_string(),
            Cell::Int2 => i16::from_be_bytes(bytes(raw)?).to_string(),
            Cell::Int4 => i32::from_be_bytes(bytes(raw)?).to_string(),
            Cell::Int8 => i64::from_be_bytes(bytes(raw)?).to_string(),
            Cell::Oid => u32::from_be_bytes(bytes(raw)?).to_string(),
            Cell::Float4 => {
                let value = f32::from_be_bytes(bytes(raw)?);
                return Ok(finite(value.into(), value.to_string()));
            }
            Cell::Float8 => {
                let value = f64::from_be_bytes(bytes(raw)?);
                return Ok(finite(value, value.to_string()));
            }
            Cell::Numeric => return numeric(raw),
            Cell::Text => text(raw)?.to_owned(),
            Cell::PaddedText => text(raw)?.trim_end_matches(' ').to_owned(),
            Cell::Uuid => uuid(u128::from_be_bytes(bytes(raw)?)),
            Cell::TimestampTz | Cell::Timestamp => {
                let micros = i64::from_be_bytes(bytes(raw)?);
                if matches!(micros, i64::MIN | i64::MAX) {
                    return Ok(None);
                }
                let odd = || "a time out of range".to_owned();
                let micros = micros.checked_add(EPOCH_MICROS).ok_or_else(odd)?;
                let time = jiff::Timestamp::from_microsecond(micros).map_err(|_| odd())?;
                match self {
                    Cell::TimestampTz => time.to_string(),
                    _ => jiff::tz::Offset::UTC.to_datetime(time).to_string(),
                }
            }
            Cell::Date => {
                let days = i32::from_be_bytes(bytes(raw)?);
                if matches!(days, i32::MIN | i32::MAX) {
                    return Ok(None);
                }
                let odd = || "a date out of range".to_owned();
                let days = days.checked_add(EPOCH_DAYS).ok_or_else(odd)?;
                let span = jiff::Span::new().try_days(days).map_err(|_| odd())?;
                jiff::civil::date(1970, 1, 1).checked_add(span).map_err(|_| odd())?.to_string()
            }
            Cell::Time => {
                let micros = i64::from_be_bytes(bytes(raw)?);
                let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
                let mut shown = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
                if rest > 0 {
                    shown += format!(".{rest:06}").trim_end_matches('0');
                }
                shown
            }
            Cell::Json | Cell::Jsonb | Cell::List(_) => return Err("no key is of this type".to_owned()),
        }))
    }
}

fn bytes<const N: usize>(raw: &[u8]) -> Result<[u8; N], String> {
    raw.try_into().map_err(|_| format!("{} bytes came where {N} were expected", raw.len()))
}

fn text(raw: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(raw).map_err(|_| "a text that is not UTF-8".to_owned())
}

/// As PostgreSQL writes it.
pub(super) fn uuid(value: u128) -> String {
    let hex = format!("{value:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Groups of four digits, how many of them stand before the point, the sign, and how many digits stand behind it.
fn numeric(raw: &[u8]) -> Result<Option<String>, String> {
    let odd = || "an odd numeric".to_owned();
    let mut words = raw.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let mut next = || words.next().ok_or_else(odd);
    let (count, weight, sign, scale) = (next()?, next()? as i16, next()?, next()?);
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        // Not a number, and the infinities.
        0xC000 | 0xD000 | 0xF000 => return Ok(None),
        _ => return Err(odd()),
    };
    let digits: Vec<u16> = words.collect();
    if digits.len() != usize::from(count) || digits.iter().any(|digit| *digit > 9_999) {
        return Err(odd());
    }
    let group = |index: i32| usize::try_from(index).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0);
    let mut shown = String::from(if negative { "-" } else { "" });
    let write = |shown: &mut String, text: std::fmt::Arguments<'_>| {
        shown.write_fmt(text).expect("a string takes all that is written");
    };
    let weight = i32::from(weight);
    if weight < 0 {
        shown.push('0');
    }
    for index in 0..=weight {
        match index {
            0 => write(&mut shown, format_args!("{}", group(0))),
            _ => write(&mut shown, format_args!("{:04}", group(index))),
        }
    }
    let scale = usize::from(scale);
    if scale > 0 {
        let mut fraction = String::new();
        let mut index = weight + 1;
        while fraction.len() < scale {
            write(&mut fraction, format_args!("{:04}", group(index)));
            index += 1;
        }
        shown.push('.');
        shown.push_str(&fraction[..scale]);
    }
    Ok(Some(shown))
}

/// The number of dimensions, whether there are nulls, the type; for each dimension its length and lower bound; the items.
fn push_list(item: &Cell, raw: &[u8], out: &mut String) -> Result<(), String> {
    let mut rest = raw;
    let word = |rest: &mut &[u8]| -> Result<i32, String> {
        let (word, behind) = rest.split_first_chunk::<4>().ok_or("a list is cut off")?;
        *rest = behind;
        Ok(i32::from_be_bytes(*word))
    };
    let dimensions = word(&mut rest)?;
    word(&mut rest)?;
    word(&mut rest)?;
    let count = match dimensions {
        0 => 0,
        1 => word(&mut rest).and_then(|count| word(&mut rest).map(|_| count))?,
        _ => return Err("a list of lists; write it as JSON with to_jsonb(…)".to_owned()),
    };
    out.push('[');
    for index in 0..count {
        if index > 0 {
            out.push(',');
        }
        let len = word(&mut rest)?;
        match usize::try_from(len) {
            Err(_) => item.push(None, out)?,
            Ok(len) => {
                let (value, behind) = rest.split_at_checked(len).ok_or("a list is cut off")?;
                rest = behind;
                item.push(Some(value), out)?;
            }
        }
    }
    out.push(']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(cell: &Cell, raw: &[u8]) -> String {
        let mut out = String::new();
        match cell.push(Some(raw), &mut out) {
            Ok(()) => out,
            Err(why) => why,
        }
    }

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn values_are_json() {
        assert_eq!(shown(&Cell::Int8, &i64::MIN.to_be_bytes()), "-9223372036854775808");
        assert_eq!(shown(&Cell::Float4, &0.1_f32.to_be_bytes()), "0.1");
        assert_eq!(shown(&Cell::Float8, &f64::NAN.to_be_bytes()), "null");
        assert_eq!(shown(&Cell::Text, b"a\"\n"), "\"a\\\"\\n\"");
        assert_eq!(shown(&Cell::PaddedText, b"a  "), "\"a\"");
        assert_eq!(shown(&Cell::TimestampTz, &1_500_000_i64.to_be_bytes()), "\"2000-01-01T00:00:01.5Z\"");
        assert_eq!(shown(&Cell::Timestamp, &0_i64.to_be_bytes()), "\"2000-01-01T00:00:00\"");
        assert_eq!(shown(&Cell::TimestampTz, &i64::MAX.to_be_bytes()), "null");
        assert_eq!(shown(&Cell::Date, &(-1_i32).to_be_bytes()), "\"1999-12-31\"");
        assert_eq!(shown(&Cell::Time, &3_661_500_000_i64.to_be_bytes()), "\"01:01:01.5\"");
        assert_eq!(shown(&Cell::Jsonb, b"\x01{\"a\":1}"), "{\"a\":1}");
        assert_eq!(shown(&Cell::Uuid, &[0xab; 16]), "\"abababab-abab-abab-abab-abababababab\"");
        assert_eq!(shown(&Cell::Numeric, &words(&[2, 0, 0, 2, 12, 5000])), "12.50");
        assert_eq!(shown(&Cell::Numeric, &words(&[1, 1, 0x4000, 0, 3])), "-30000");
        assert_eq!(shown(&Cell::Numeric, &words(&[1, 0xfffe, 0, 8, 7])), "0.00000007");
        assert_eq!(shown(&Cell::Numeric, &words(&[0, 0, 0, 0])), "0");
        assert_eq!(shown(&Cell::Numeric, &words(&[0, 0, 0xC000, 0])), "null");
        let list =
            [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1][..], &[0, 0, 0, 4, 0, 0, 0, 7]].concat();
        let list = [&list[..], &[255; 4]].concat();
        assert_eq!(shown(&Cell::List(Box::new(Cell::Int4)), &list), "[7,null]");
        assert_eq!(shown(&Cell::List(Box::new(Cell::Int4)), &[0; 12]), "[]");
    }

    fn any_cell() -> impl Strategy<Value = Cell> {
        let one = prop::sample::select(vec![
            Cell::Bool,
            Cell::Int2,
            Cell::Int4,
            Cell::Int8,
            Cell::Oid,
            Cell::Float4,
            Cell::Float8,
            Cell::Numeric,
            Cell::Text,
            Cell::PaddedText,
            Cell::Uuid,
            Cell::TimestampTz,
            Cell::Timestamp,
            Cell::Date,
            Cell::Time,
            Cell::Jsonb,
        ]);
        (one, any::<bool>()).prop_map(|(cell, list)| if list { Cell::List(Box::new(cell)) } else { cell })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(cell in any_cell(), raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = String::new();
            let is_json = !matches!(&cell, Cell::Jsonb) && cell != Cell::List(Box::new(Cell::Jsonb));
            if cell.push(Some(&raw), &mut out).is_ok() && is_json {
                let read: Result<serde_json::Value, _> = serde_json::from_str(&out);
                prop_assert!(read.is_ok(), "{out}");
            }
        }
    }
}
