//! A record's bytes to JSON, in one pass.

use super::schema::{AvroSchema, Type, TypeIndex};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json_text::{push_decimal, push_float, push_shown, push_string};
use crate::decode::lines::LINE_BYTES_MAX;
use engine::behavior::calendar::Date;

/// Values inside each other.
const DEPTH_MAX: usize = 64;

/// Bytes of a decimal: about 300 digits.
const DECIMAL_BYTES_MAX: usize = 128;

const SECONDS_PER_DAY: i64 = 86_400;

/// Appends the record to `out`.
pub(super) fn read(schema: &AvroSchema, datum: &[u8], out: &mut Vec<u8>) -> Result<(), LineError> {
    let mut reader = Reader { schema, rest: datum, depth: 0, out_max: out.len() + LINE_BYTES_MAX };
    reader.value(schema.root, out).map_err(|fault| fault.error(datum.len() - reader.rest.len()))?;
    match reader.rest.len() {
        0 => Ok(()),
        left => {
            let message = format!("the record goes on for {left} bytes behind what its schema describes");
            Err(LineError::new(LineErrorKind::Syntax, message).suggest("it was written with another schema"))
        }
    }
}

/// What is wrong with a value, and in which fields it stands, the inner one first.
struct Fault {
    kind: LineErrorKind,
    what: String,
    path: Vec<String>,
}

impl Fault {
    fn new(what: impl Into<String>) -> Fault {
        Fault { kind: LineErrorKind::Syntax, what: what.into(), path: Vec::new() }
    }

    fn error(mut self, at: usize) -> LineError {
        self.path.reverse();
        let message = match self.path.as_slice() {
            [] => self.what,
            path => format!("`{}`: {}", path.join("."), self.what),
        };
        let error = LineError::new(self.kind, message).at(at);
        match self.kind {
            LineErrorKind::Syntax => error.suggest("it is damaged, or was written with another schema"),
            _ => error,
        }
    }
}

struct Reader<'a> {
    schema: &'a AvroSchema,
    rest: &'a [u8],
    depth: usize,
    out_max: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, index: TypeIndex, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::new(format!("values are nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let schema = self.schema;
        match &schema.types[index] {
            // Every name is settled when a schema was read.
            Type::Open | Type::Null => out.extend_from_slice(b"null"),
            Type::Boolean => out.extend_from_slice(if self.boolean()? { b"true" } else { b"false" }),
            Type::Int => push_shown(self.int()?, out),
            Type::Long => push_shown(self.long()?, out),
            Type::Float => {
                let float = f32::from_le_bytes(self.array()?);
                push_float(float, float.abs().into(), out);
            }
            Type::Double => {
                let float = f64::from_le_bytes(self.array()?);
                push_float(float, float.abs(), out);
            }
            Type::String => push_string(self.text()?, out),
            Type::Bytes => push_hex(self.bytes()?, out),
            Type::Fixed(size) => push_hex(self.take(*size)?, out),
            Type::Enum(symbols) => {
                let found = self.int()?;
                let symbol = usize::try_from(found).ok().and_then(|found| symbols.get(found));
                out.extend_from_slice(symbol.ok_or_else(|| Fault::new(format!("its enum has no symbol {found}")))?);
            }
            Type::Array(items) => self.blocks(out, (b'[', b']'), |reader, out| reader.value(*items, out))?,
            Type::Map(values) => self.blocks(out, (b'{', b'}'), |reader, out| {
                push_string(reader.text()?, out);
                out.push(b':');
                reader.value(*values, out)
            })?,
            Type::Union(variants) => {
                let found = self.long()?;
                let variant = usize::try_from(found).ok().and_then(|found| variants.get(found));
                let variant = variant.ok_or_else(|| Fault::new(format!("its union has no type {found}")))?;
                self.value(*variant, out)?;
            }
            Type::Record(fields) => {
                out.push(b'{');
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(&field.key);
                    self.value(field.field_type, out).map_err(|mut fault| {
                        fault.path.push(field.name.clone());
                        fault
                    })?;
                }
                out.push(b'}');
            }
            Type::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                push_decimal(integer(bytes)?, *scale, out);
            }
            Type::Uuid => push_uuid(&self.array()?, out),
            Type::Date => push_time(i64::from(self.int()?).saturating_mul(SECONDS_PER_DAY), 1, out),
            Type::Timestamp { per_second } => push_time(self.long()?, *per_second, out),
            // Both lengths of integers are written alike.
            Type::TimeOfDay { per_second } => push_time_of_day(self.long()?, *per_second, out),
            Type::Duration => push_duration(&self.array()?, out),
        }
        self.depth -= 1;
        self.check_size(out)
    }

    /// What takes no bytes can still be written without end.
    fn check_size(&self, out: &[u8]) -> Result<(), Fault> {
        if out.len() > self.out_max {
            let what =
                format!("the record has more than {LINE_BYTES_MAX} bytes as JSON; split it into several records");
            return Err(Fault { kind: LineErrorKind::TooLong, ..Fault::new(what) });
        }
        Ok(())
    }

    fn blocks(
        &mut self,
        out: &mut Vec<u8>,
        (begin, end): (u8, u8),
        mut item: impl FnMut(&mut Self, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        out.push(begin);
        let mut is_first = true;
        loop {
            let mut count = self.long()?;
            if count < 0 {
                count = count.checked_neg().ok_or_else(|| Fault::new("a block cannot have so many values"))?;
                // The size of the block, for those who pass over it.
                self.long()?;
            }
            if count == 0 {
                out.push(end);
                return Ok(());
            }
            for _ in 0..count {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                item(self, out)?;
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Fault::new(format!("the record ends where {len} bytes were to come")));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Fault::new("the record ends"))
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Fault::new(format!("a boolean cannot be {other}"))),
        }
    }

    /// Seven bits a byte, the lower ones first, the sign in the lowest.
    fn long(&mut self) -> Result<i64, Fault> {
        let mut bits = 0u64;
        for place in 0..10 {
            let [byte] = self.array()?;
            let part = u64::from(byte & 0x7f);
            if place == 9 && part > 1 {
                break;
            }
            bits |= part << (7 * place);
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err(Fault::new("an integer is longer than 64 bits"))
    }

    fn int(&mut self) -> Result<i32, Fault> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| Fault::new(format!("an int cannot be {long}")))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.long()?;
        self.take(usize::try_from(len).map_err(|_| Fault::new(format!("a length cannot be {len}")))?)
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::new("a string is not UTF-8"))
    }
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_digits(bytes, out);
    out.push(b'"');
}

fn push_digits(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

fn push_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    out.push(b'"');
    for (index, part) in [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].into_iter().enumerate()
    {
        if index > 0 {
            out.push(b'-');
        }
        push_digits(part, out);
    }
    out.push(b'"');
}

/// The decimal text of a big-endian number in two's complement.
fn integer(bytes: &[u8]) -> Result<String, Fault> {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    if bytes.len() <= 16 {
        let sign = if is_negative { 0xff } else { 0 };
        let mut wide = [sign; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        return Ok(i128::from_be_bytes(wide).to_string());
    }
    if bytes.len() > DECIMAL_BYTES_MAX {
        let what = format!("a decimal of {} bytes; at most {DECIMAL_BYTES_MAX} are read", bytes.len());
        return Err(Fault { kind: LineErrorKind::Value, ..Fault::new(what) });
    }
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(carry.into());
        }
    }
    // Divided by a billion again and again: its digits, nine at a time, the last ones first.
    let mut groups = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut left = 0u64;
        for byte in &mut magnitude {
            left = left << 8 | u64::from(*byte);
            *byte = (left / 1_000_000_000) as u8;
            left %= 1_000_000_000;
        }
        groups.push(left);
    }
    let first = groups.pop().unwrap_or(0);
    let sign = if is_negative { "-" } else { "" };
    let rest = groups.iter().rev().map(|group| format!("{group:09}"));
    Ok(std::iter::once(format!("{sign}{first}")).chain(rest).collect())
}

/// A time outside the years of the calendar is told as what it is, which no column of times takes.
fn push_time(value: i64, per_second: i64, out: &mut Vec<u8>) {
    let (seconds, part) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let date = Date::of(seconds.div_euclid(SECONDS_PER_DAY));
    if !(0..=9999).contains(&date.year) {
        return push_shown(format_args!("\"{value}/{per_second} s since 1970\""), out);
    }
    push_shown(format_args!("\"{date}T"), out);
    push_clock(seconds.rem_euclid(SECONDS_PER_DAY), part, per_second, out);
    out.extend_from_slice(b"Z\"");
}

fn push_time_of_day(value: i64, per_second: i64, out: &mut Vec<u8>) {
    let (seconds, part) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    if !(0..SECONDS_PER_DAY).contains(&seconds) {
        return push_shown(format_args!("\"{value}/{per_second} s of a day\""), out);
    }
    out.push(b'"');
    push_clock(seconds, part, per_second, out);
    out.push(b'"');
}

/// With as many digits of the fraction as it takes, by threes.
fn push_clock(seconds: i64, part: i64, per_second: i64, out: &mut Vec<u8>) {
    push_shown(format_args!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60), out);
    let nanos = part * (1_000_000_000 / per_second);
    match nanos {
        0 => {}
        nanos if nanos % 1_000_000 == 0 => push_shown(format_args!(".{:03}", nanos / 1_000_000), out),
        nanos if nanos % 1_000 == 0 => push_shown(format_args!(".{:06}", nanos / 1_000), out),
        nanos => push_shown(format_args!(".{nanos:09}"), out),
    }
}

/// Months, days and milliseconds, each in four bytes.
fn push_duration(bytes: &[u8; 12], out: &mut Vec<u8>) {
    let part = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (months, days, millis) = (part(0), part(4), part(8));
    push_shown(format_args!("\"P{months}M{days}DT{}.{:03}S\"", millis / 1_000, millis % 1_000), out);
}
