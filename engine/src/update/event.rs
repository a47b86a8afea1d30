//! One event of a fact, within the flat buffer of a batch.
//!
//! ```text
//! event = ts i64 | flags u8 (1: retraction) | id length u16 | id | undeclared length u32 | undeclared | value count u16 | value*
//! value = 0 NULL | 1 text: length u32, bytes | 2 integer: i64 | 3 float: f64 | 4 boolean: u8, 0 or 1
//! ```

use super::{BatchDamage, Reader};
use crate::ids::EVENT_ID_BYTES_MAX;

/// The value of one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// Of a string or JSON column.
    Text(&'a str),
    /// Of an integer, decimal (times `10^scale`) or timestamp (microseconds since 1970) column.
    Integer(i64),
    /// Of a float column.
    Float(f64),
    /// Of a boolean column.
    Boolean(bool),
}

/// What an event says besides its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventHead<'a> {
    /// When it happened, in microseconds since 1970.
    pub ts: i64,
    /// It takes back the event of this id; its values do not matter.
    pub is_retraction: bool,
    /// Its id; empty if it has none.
    pub event_id: &'a str,
    /// The fields that are not declared, as one JSON object; empty if there are none.
    pub undeclared: &'a str,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// What it says besides its columns.
    pub head: EventHead<'a>,
    value_count: u16,
    values: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Event<'a> {
    /// The event as it stands in its batch.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// The values of the columns, in the order of declaration; columns declared later than it was written are missing.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader { bytes: self.values, at: 0 };
        (0..self.value_count).map(move |_| value(&mut reader).expect(super::CHECKED))
    }

    /// Reads the values to the end.
    pub(super) fn check(&self) -> Result<(), BatchDamage> {
        let mut reader = Reader { bytes: self.values, at: 0 };
        for _ in 0..self.value_count {
            value(&mut reader)?;
        }
        if reader.at < reader.bytes.len() {
            return Err(reader.damage("bytes follow the last value"));
        }
        Ok(())
    }
}

pub(super) fn push(bytes: &mut Vec<u8>, head: &EventHead<'_>, values: &[Value<'_>]) {
    assert!(head.event_id.len() <= EVENT_ID_BYTES_MAX, "the decoder checks id lengths");
    bytes.extend_from_slice(&head.ts.to_le_bytes());
    bytes.push(u8::from(head.is_retraction));
    bytes.extend_from_slice(&(head.event_id.len() as u16).to_le_bytes());
    bytes.extend_from_slice(head.event_id.as_bytes());
    bytes.extend_from_slice(&(head.undeclared.len() as u32).to_le_bytes());
    bytes.extend_from_slice(head.undeclared.as_bytes());
    bytes.extend_from_slice(&(values.len() as u16).to_le_bytes());
    for value in values {
        match value {
            Value::Null => bytes.push(0),
            Value::Text(text) => {
                bytes.push(1);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Value::Integer(number) => {
                bytes.push(2);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Float(number) => {
                bytes.push(3);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Boolean(value) => bytes.extend_from_slice(&[4, u8::from(*value)]),
        }
    }
}

/// Reads what [`Event::as_bytes`] told.
pub(crate) fn read_event(bytes: &[u8]) -> Event<'_> {
    read(bytes).expect("bytes of an event that was read before")
}

/// Reads an event; its values are not looked at.
pub(super) fn read<'a>(bytes: &'a [u8]) -> Result<Event<'a>, BatchDamage> {
    let mut reader = Reader { bytes, at: 0 };
    let ts = i64::from_le_bytes(reader.array()?);
    let [flags] = reader.array()?;
    if flags > 1 {
        return Err(reader.damage("unknown flags of an event"));
    }
    let id_len = u16::from_le_bytes(reader.array()?);
    let event_id = reader.utf8(id_len.into())?;
    let undeclared = reader.text()?;
    let value_count = u16::from_le_bytes(reader.array()?);
    let head = EventHead { ts, is_retraction: flags == 1, event_id, undeclared };
    Ok(Event { head, value_count, values: &bytes[reader.at..], whole: bytes })
}

fn value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, BatchDamage> {
    let [kind] = reader.array()?;
    Ok(match kind {
        0 => Value::Null,
        1 => Value::Text(reader.text()?),
        2 => Value::Integer(i64::from_le_bytes(reader.array()?)),
        3 => Value::Float(f64::from_le_bytes(reader.array()?)),
        4 => Value::Boolean(reader.array::<1>()? != [0]),
        _ => return Err(reader.damage("unknown kind of value")),
    })
}
