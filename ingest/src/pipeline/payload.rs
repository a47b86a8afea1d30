//! How the records of a source are written, and what reads them.

#[cfg(feature = "avro")]
use crate::decode::avro::{AvroFormat, AvroReader};
use crate::source::RecordBatch;

/// How records are written.
#[derive(Clone, Debug, Default)]
pub enum PayloadFormat {
    /// A JSON object a record.
    #[default]
    Json,
    /// A value of Avro a record.
    #[cfg(feature = "avro")]
    Avro(AvroFormat),
    /// An Arrow stream a record, each of its rows what a line is elsewhere.
    #[cfg(feature = "arrow")]
    Arrow,
}

/// What reads them, for as long as a source is open.
#[derive(Debug)]
pub(super) enum Payload {
    Json,
    #[cfg(feature = "avro")]
    Avro(AvroReader),
    #[cfg(feature = "arrow")]
    Arrow,
}

impl Payload {
    pub(super) fn new(format: &PayloadFormat) -> Payload {
        match format {
            PayloadFormat::Json => Payload::Json,
            #[cfg(feature = "avro")]
            PayloadFormat::Avro(format) => Payload::Avro(AvroReader::new(format)),
            #[cfg(feature = "arrow")]
            PayloadFormat::Arrow => Payload::Arrow,
        }
    }

    /// Sees to it that what the records need is there.
    ///
    /// # Errors
    /// What is not there now and may be later.
    #[cfg_attr(
        not(feature = "avro"),
        expect(unused_variables, clippy::unused_self, reason = "Avro's schemas are all that is asked for")
    )]
    pub(super) fn prepare(&mut self, records: &RecordBatch) -> Result<(), String> {
        #[cfg(feature = "avro")]
        if let Payload::Avro(reader) = self {
            return records.iter().filter_map(|record| record.payload).try_for_each(|payload| reader.prepare(payload));
        }
        Ok(())
    }

    /// Whether a record says nothing.
    pub(super) fn is_blank(&self, payload: &[u8]) -> bool {
        match self {
            Payload::Json => payload.trim_ascii().is_empty(),
            // A blank may be a value there.
            #[cfg(any(feature = "avro", feature = "arrow"))]
            _ => payload.is_empty(),
        }
    }
}
