//! Avro records to lines of JSON, which then go the way of all lines.
//!
//! | Avro | JSON |
//! |---|---|
//! | null, boolean, int, long, string | the same |
//! | float, double | a number; NaN and the infinities are text, which no number takes |
//! | bytes, fixed | hexadecimal digits |
//! | enum | its symbol |
//! | record, map | an object |
//! | array | an array |
//! | union | what is in it |
//! | decimal | a number with all its digits |
//! | date, timestamp-*, local-timestamp-* | RFC 3339 in UTC; a date is its midnight |
//! | time-* | `10:00:00.125` |
//! | uuid | `550e8400-e29b-41d4-a716-446655440000` |
//! | duration | ISO 8601: `P1M2DT3.004S` |
//!
//! The schema that a record was written with reads it, and fields are taken by their names: writers may add, leave out and reorder
//! fields. Which schema that is, a record says (Confluent's framing: a zero byte and four bytes of a registry's number), or
//! the source was told. A record with Avro's single-object framing (C3 01 and a fingerprint) of that schema is taken as well.
//!
//! Records come from anybody: every length is held against the bytes that are there, and what is written is bounded, since values
//! may take no bytes at all. Nothing is built in between: bytes are read once and JSON is written as they are.
//!
//! * `schema`: text to a graph of types. `fingerprint`: its canonical form. `read`: a record's bytes to JSON. `registry`:
//!   schemas by number.
//!
//! Source: Apache Avro 1.12 specification; Confluent, "Wire format".

mod fingerprint;
mod read;
mod registry;
mod schema;

#[cfg(test)]
mod tests;

pub use registry::{FetchError, RegisteredSchema, SchemaSource};
pub use schema::{AvroSchema, SchemaError};

use super::error::{LineError, LineErrorKind};
use registry::Registry;
use std::sync::Arc;

/// Where the schema of a record comes from.
#[derive(Clone, Debug)]
pub enum AvroFormat {
    /// It is this one for all.
    Schema(Arc<AvroSchema>),
    /// Each record names one of a registry.
    Registry(Arc<dyn SchemaSource>),
}

/// Reads records.
#[derive(Debug)]
pub struct AvroReader {
    schemas: Schemas,
    json: Vec<u8>,
}

#[derive(Debug)]
enum Schemas {
    One(Arc<AvroSchema>),
    Registry(Registry),
}

/// Before a record that names the schema of a registry.
const REGISTRY_MAGIC: u8 = 0;
/// Before a record that names its schema by fingerprint.
const SINGLE_OBJECT_MAGIC: [u8; 2] = [0xc3, 0x01];

impl AvroReader {
    /// A reader of one source.
    pub fn new(format: &AvroFormat) -> AvroReader {
        let schemas = match format {
            AvroFormat::Schema(schema) => Schemas::One(schema.clone()),
            AvroFormat::Registry(source) => Schemas::Registry(Registry::new(source.clone())),
        };
        AvroReader { schemas, json: Vec::new() }
    }

    /// Sees to it that the schema that a record names is known, as far as it can be.
    ///
    /// # Errors
    /// Why it cannot be asked for now; asking later may help.
    pub fn prepare(&mut self, record: &[u8]) -> Result<(), String> {
        match (&mut self.schemas, registered(record)) {
            (Schemas::Registry(registry), Some((id, _))) => registry.fetch(id),
            _ => Ok(()),
        }
    }

    /// The record as a line of JSON. Of a registry, its schema was asked for by [`AvroReader::prepare`].
    ///
    /// # Errors
    /// [`LineError`]: what is wrong with it.
    pub fn line(&mut self, record: &[u8]) -> Result<&[u8], LineError> {
        let (schema, datum) = match &self.schemas {
            Schemas::One(schema) => (schema, without_head(record, schema.fingerprint())),
            Schemas::Registry(registry) => {
                let (id, datum) = registered(record).ok_or_else(|| {
                    let message = "the record does not begin with a zero byte and the number of its schema";
                    let error = LineError::new(LineErrorKind::Syntax, message);
                    error.suggest("records without them need `schema` instead of `schema_registry`")
                })?;
                (registry.known(id).map_err(|why| LineError::new(LineErrorKind::Syntax, why))?, datum)
            }
        };
        self.json.clear();
        read::read(schema, datum, &mut self.json)?;
        Ok(&self.json)
    }
}

/// The number of its schema, and what stands behind it.
fn registered(record: &[u8]) -> Option<(u32, &[u8])> {
    let (head, datum) = record.split_first_chunk::<5>()?;
    let [REGISTRY_MAGIC, id @ ..] = *head else { return None };
    Some((u32::from_be_bytes(id), datum))
}

/// A record without the head of a single object, if it has one of this schema.
fn without_head(record: &[u8], fingerprint: u64) -> &[u8] {
    match record.split_first_chunk::<10>() {
        Some((head, datum)) if head[..2] == SINGLE_OBJECT_MAGIC && head[2..] == fingerprint.to_le_bytes() => datum,
        _ => record,
    }
}
