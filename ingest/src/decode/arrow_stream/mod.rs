//! Arrow's streaming format (IPC), from bytes as they arrive to record batches, one message at a time.
//!
//! ```text
//! message = FF FF FF FF | i32 length of the head | head (flatbuffer `Message`, padded) | body (`bodyLength` of the head)
//! stream  = schema message, then dictionary and record batch messages, then FF FF FF FF 00 00 00 00 or the end of the bytes
//! ```
//!
//! The bytes come from anybody. Arrow's own reader believes what a message says of its lengths: it reserves what it is told
//! and panics where that does not add up. So nothing reaches it before it was looked at:
//!
//! 1. the frame: the marker, lengths within [`Limits`]; memory grows with the bytes that are there, not with those announced;
//! 2. the head: verified as a flatbuffer with few tables, of a version and a kind that we know;
//! 3. the schema: types that there are and that are read (see `columns`);
//! 4. nodes and buffers against the schema: as many as its types take, every length sane, every buffer inside the body,
//!    compressed ones within a bound once decompressed (see `check`).
//!
//! Then Arrow decodes with full validation of offsets and text, behind a guard for what is left. What is not taken: delta
//! dictionaries, unions, run-end encoded and list view columns, dictionaries of nested values, big-endian data, tensors, and
//! the framing without a marker that Arrow wrote before 0.15.
//!
//! Source: Apache Arrow, "Columnar format", sections "Encapsulated message format" and "IPC streaming format".

mod check;
mod columns;
mod frame;
pub mod pieces;

#[cfg(test)]
mod tests;

use super::guard::shielded;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{Message, MessageHeader, MetadataVersion};
use flatbuffers::VerifierOptions;
use frame::{Frame, Framer};
use std::collections::HashMap;
use std::sync::Arc;

/// What a message may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message's head: the schema, or where the buffers of a batch stand.
    pub head_bytes_max: usize,
    /// Bytes of a message's body.
    pub body_bytes_max: usize,
    /// Bytes of all buffers of a compressed message once they are decompressed.
    pub decompressed_bytes_max: usize,
    /// Bytes of all dictionaries that are kept at a time.
    pub dictionary_bytes_max: usize,
    /// Values of a column, or of what it is made of, in a message.
    pub values_max: usize,
    /// Rows of a message without a body: those of columns that have nothing but NULL.
    pub bare_rows_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes_max: 1 << 20,
            body_bytes_max: 16 << 20,
            decompressed_bytes_max: 64 << 20,
            dictionary_bytes_max: 16 << 20,
            values_max: 1 << 23,
            bare_rows_max: 0,
        }
    }
}

impl Limits {
    /// The usual ones, in proportion to how large the body of a message may be; small ones may have as many values as by default,
    /// which may take a bit each.
    pub fn of_body(body_bytes_max: usize) -> Limits {
        let usual = Limits::default();
        Limits {
            body_bytes_max,
            decompressed_bytes_max: body_bytes_max.saturating_mul(usual.decompressed_bytes_max / usual.body_bytes_max),
            values_max: usual.values_max.max(body_bytes_max / (usual.body_bytes_max / usual.values_max)),
            ..usual
        }
    }
}

/// Flatbuffer tables of a head: a column takes two or three of them, a pair of its metadata one.
const HEAD_TABLES_MAX: usize = 1 << 14;

/// Flatbuffer tables inside each other: a column inside a column takes one.
const HEAD_DEPTH_MAX: usize = 64;

/// Why a stream cannot be read. Nothing behind that place is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {message} of the Arrow stream, at byte {at_bytes}: {what}")]
pub struct StreamError {
    /// The message, from 1; the schema is the first.
    pub message: u64,
    /// Where it begins, in bytes from 0.
    pub at_bytes: u64,
    /// What is wrong, and what to send instead.
    pub what: String,
    /// It may be well formed, but larger than the limit.
    pub is_too_large: bool,
}

/// What is wrong with a message.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is damaged, or nothing that we take.
    Wrong(String),
    /// It is larger than a limit.
    TooLarge(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Fault::Wrong(what)
    }
}

/// Reads one stream.
#[derive(Debug)]
pub struct ArrowStream {
    limits: Limits,
    framer: Framer,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    message: u64,
    message_at_bytes: u64,
    /// Bytes of the stream so far.
    taken_bytes: u64,
}

impl ArrowStream {
    /// At the begin of a stream.
    pub fn new(limits: Limits) -> ArrowStream {
        ArrowStream {
            limits,
            framer: Framer::new(),
            schema: None,
            dictionaries: HashMap::new(),
            message: 1,
            message_at_bytes: 0,
            taken_bytes: 0,
        }
    }

    /// The stream's schema, once its first message was read.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// Takes bytes from the begin of `chunk` and moves it behind them: up to and with the next batch that has rows, or all.
    ///
    /// # Errors
    /// [`StreamError`]; the stream cannot be read on then.
    pub fn feed(&mut self, chunk: &mut &[u8]) -> Result<Option<RecordBatch>, StreamError> {
        while !chunk.is_empty() {
            let before = chunk.len();
            let fed = self.framer.feed(chunk, &self.limits);
            let taken = (before - chunk.len()) as u64;
            let frame = match fed {
                Ok(frame) => frame,
                Err(fault) => return Err(self.error(fault)),
            };
            self.taken_bytes += taken;
            let Some(frame) = frame else { continue };
            let batch = self.read(frame).map_err(|fault| self.error(fault))?;
            self.message += 1;
            self.message_at_bytes = self.taken_bytes;
            if batch.as_ref().is_some_and(|batch| batch.num_rows() > 0) {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    /// That the bytes so far are a whole stream.
    ///
    /// # Errors
    /// [`StreamError`] if they end inside a message, or there is not even a schema.
    pub fn finish(&self) -> Result<(), StreamError> {
        let what = if !self.framer.is_between_messages() {
            "the stream ends inside it; send all of it"
        } else if self.schema.is_none() {
            "the stream is empty; send at least its schema"
        } else {
            return Ok(());
        };
        Err(self.error(Fault::Wrong(what.to_owned())))
    }

    fn error(&self, fault: Fault) -> StreamError {
        let (what, is_too_large) = match fault {
            Fault::Wrong(what) => (what, false),
            Fault::TooLarge(what) => (what, true),
        };
        StreamError { message: self.message, at_bytes: self.message_at_bytes, what, is_too_large }
    }

    /// Reads a whole message.
    fn read(&mut self, frame: Frame) -> Result<Option<RecordBatch>, Fault> {
        let message = verified(&frame.head)?;
        let body = Buffer::from(frame.body);
        match (message.header_type(), &self.schema) {
            (MessageHeader::Schema, None) => {
                self.schema = Some(read_schema(&message, &body)?);
                Ok(None)
            }
            (MessageHeader::Schema, Some(_)) => Err(Fault::Wrong("a second schema; send it as another stream".into())),
            (MessageHeader::DictionaryBatch | MessageHeader::RecordBatch, None) => {
                Err(Fault::Wrong("it stands before the schema".into()))
            }
            (MessageHeader::DictionaryBatch, Some(schema)) => {
                let schema = Arc::clone(schema);
                self.read_dictionary(&message, &body, &schema).map(|()| None)
            }
            (MessageHeader::RecordBatch, Some(schema)) => {
                read_rows(&message, &body, schema, &self.dictionaries, &self.limits).map(Some)
            }
            (other, _) => Err(Fault::Wrong(format!("it is of kind {other:?}; rows are taken"))),
        }
    }

    fn read_dictionary(&mut self, message: &Message<'_>, body: &Buffer, schema: &Schema) -> Result<(), Fault> {
        let dictionary = message.header_as_dictionary_batch().ok_or_else(|| "its head has no content".to_owned())?;
        if dictionary.isDelta() {
            return Err(Fault::Wrong("a delta of a dictionary; send whole dictionaries".into()));
        }
        let data = dictionary.data().ok_or_else(|| "a dictionary without data".to_owned())?;
        let value_type = check::dictionary_value_type(schema, dictionary.id())?;
        check::batch(&data, std::iter::once(value_type), body, &self.limits)?;
        let version = message.version();
        // What it replaces goes first: otherwise both would be kept.
        self.dictionaries.remove(&dictionary.id());
        let dictionaries = &mut self.dictionaries;
        let read = shielded(|| read_dictionary(body, dictionary, schema, dictionaries, &version));
        read.map_err(damaged)?.map_err(|error| error.to_string())?;
        let size: usize = self.dictionaries.values().map(|values| values.get_array_memory_size()).sum();
        let most = self.limits.dictionary_bytes_max;
        if size > most {
            let what =
                format!("the dictionaries take {size} bytes; at most {most} are kept; write plain columns instead");
            return Err(Fault::TooLarge(what));
        }
        Ok(())
    }
}

fn damaged(why: String) -> Fault {
    Fault::Wrong(format!("it is damaged ({why})"))
}

fn verified(head: &[u8]) -> Result<Message<'_>, Fault> {
    let options =
        VerifierOptions { max_depth: HEAD_DEPTH_MAX, max_tables: HEAD_TABLES_MAX, ..VerifierOptions::default() };
    let message = arrow::ipc::root_as_message_with_opts(&options, head)
        .map_err(|error| Fault::Wrong(format!("its head is damaged ({error})")))?;
    if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
        return Err(Fault::Wrong(format!("its format is {:?}; V4 and V5 are read", message.version())));
    }
    Ok(message)
}

fn read_schema(message: &Message<'_>, body: &Buffer) -> Result<SchemaRef, Fault> {
    let schema = message.header_as_schema().ok_or_else(|| "its head has no content".to_owned())?;
    if !body.is_empty() {
        return Err(Fault::Wrong("a schema has no body".into()));
    }
    if !schema.endianness().equals_to_target_endianness() {
        return Err(Fault::Wrong("its numbers are big-endian; write them little-endian".into()));
    }
    columns::check(&schema)?;
    let schema = shielded(|| fb_to_schema(schema)).map_err(damaged)?;
    check::schema(&schema)?;
    Ok(Arc::new(schema))
}

fn read_rows(
    message: &Message<'_>,
    body: &Buffer,
    schema: &SchemaRef,
    dictionaries: &HashMap<i64, ArrayRef>,
    limits: &Limits,
) -> Result<RecordBatch, Fault> {
    let batch = message.header_as_record_batch().ok_or_else(|| "its head has no content".to_owned())?;
    check::batch(&batch, schema.fields().iter().map(|field| field.data_type()), body, limits)?;
    let version = message.version();
    let read = shielded(|| read_record_batch(body, batch, schema.clone(), dictionaries, None, &version));
    Ok(read.map_err(damaged)?.map_err(|error| error.to_string())?)
}
