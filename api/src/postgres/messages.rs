//! Messages of a client that has logged in, and what the server tells.

use super::frames::{Fields, Frame, FrameError};
use bytes::{BufMut, Bytes, BytesMut};

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Message {
    /// Statements, to be answered one by one.
    Query(String),
    Parse {
        name: String,
        text: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Target),
    Flush,
    Sync,
    Terminate,
}

/// Values for the parameters of a prepared statement.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<Format>,
    pub(super) values: Vec<Option<Bytes>>,
    pub(super) answer_formats: Vec<Format>,
}

/// A prepared statement or a portal.
#[derive(Debug)]
pub(super) enum Target {
    Statement(String),
    Portal(String),
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    /// That of a column or parameter, of those that were said: none, one for all, or one each.
    pub(super) fn of(formats: &[Format], index: usize) -> Format {
        match formats {
            [] => Format::Text,
            [all] => *all,
            each => each.get(index).copied().unwrap_or(Format::Text),
        }
    }
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// [`FrameError::Wrong`].
    pub(super) fn read(frame: Frame) -> Result<Message, FrameError> {
        let mut fields = Fields::new(frame.body);
        let message = match frame.kind {
            b'Q' => Message::Query(fields.text()?),
            b'P' => Message::Parse {
                name: fields.text()?,
                text: fields.text()?,
                types: (0..fields.count(4)?).map(|_| fields.i32().map(i32::cast_unsigned)).collect::<Result<_, _>>()?,
            },
            b'B' => Message::Bind(Bind {
                portal: fields.text()?,
                statement: fields.text()?,
                formats: formats(&mut fields)?,
                values: (0..fields.count(4)?).map(|_| value(&mut fields)).collect::<Result<_, _>>()?,
                answer_formats: formats(&mut fields)?,
            }),
            b'D' => Message::Describe(target(&mut fields)?),
            b'E' => Message::Execute {
                portal: fields.text()?,
                // None and negative mean all.
                rows_max: usize::try_from(fields.i32()?).ok().filter(|rows| *rows > 0).unwrap_or(usize::MAX),
            },
            b'C' => Message::Close(target(&mut fields)?),
            b'H' => Message::Flush,
            b'S' => Message::Sync,
            b'X' => Message::Terminate,
            other => {
                let why = format!("a message of type {:?} is not taken here", char::from(other));
                return Err(FrameError::Wrong(why));
            }
        };
        match fields.is_empty() {
            true => Ok(message),
            false => Err(FrameError::Wrong("a message has bytes behind its last field".to_owned())),
        }
    }
}

fn value(fields: &mut Fields) -> Result<Option<Bytes>, FrameError> {
    match fields.i32()? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => fields.bytes(length).map(Some),
            Err(_) => Err(FrameError::Wrong("a value has a negative length".to_owned())),
        },
    }
}

fn formats(fields: &mut Fields) -> Result<Vec<Format>, FrameError> {
    let count = fields.count(2)?;
    let format = |_| match fields.i16()? {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(FrameError::Wrong(format!("a format is 0 (text) or 1 (binary), not {other}"))),
    };
    (0..count).map(format).collect()
}

fn target(fields: &mut Fields) -> Result<Target, FrameError> {
    match fields.byte()? {
        b'S' => fields.text().map(Target::Statement),
        b'P' => fields.text().map(Target::Portal),
        other => {
            Err(FrameError::Wrong(format!("expected S (a statement) or P (a portal), found {:?}", char::from(other))))
        }
    }
}

/// A column as it is described.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) oid: u32,
    pub(super) type_bytes: i16,
    pub(super) modifier: i32,
    pub(super) format: Format,
}

/// Writes a message: its type, its length and what is in it.
pub(super) fn put(out: &mut BytesMut, kind: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let start = out.len();
    out.put_i32(0);
    write(out);
    // The longest that is written here is a row, of values that were in memory.
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A text, without zeros, and the zero that ends it.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

/// What only says that something is done.
pub(super) fn put_done(out: &mut BytesMut, kind: u8) {
    put(out, kind, |_| {});
}

pub(super) fn put_complete(out: &mut BytesMut, tag: &str) {
    put(out, b'C', |out| put_text(out, tag));
}

pub(super) fn put_setting(out: &mut BytesMut, name: &str, value: &str) {
    put(out, b'S', |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

pub(super) fn put_columns(out: &mut BytesMut, columns: &[Described]) {
    put(out, b'T', |out| {
        // The schema of a statement of a megabyte has no more.
        out.put_i16(i16::try_from(columns.len()).unwrap_or(i16::MAX));
        for column in columns {
            put_text(out, &column.name);
            out.put_i32(0);
            out.put_i16(0);
            out.put_u32(column.oid);
            out.put_i16(column.type_bytes);
            out.put_i32(column.modifier);
            out.put_i16(i16::from(column.format == Format::Binary));
        }
    });
}

pub(super) fn put_parameters(out: &mut BytesMut, oids: &[u32]) {
    put(out, b't', |out| {
        out.put_i16(i16::try_from(oids.len()).unwrap_or(i16::MAX));
        oids.iter().for_each(|oid| out.put_u32(*oid));
    });
}

/// Of a statement that words answer: one row of texts.
pub(super) fn put_texts(out: &mut BytesMut, values: &[&str]) {
    put(out, b'D', |out| {
        out.put_i16(i16::try_from(values.len()).unwrap_or(i16::MAX));
        for value in values {
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(value.as_bytes());
        }
    });
}
