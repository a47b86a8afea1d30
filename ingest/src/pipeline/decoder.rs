//! A record of a source to an update, or to a dead letter.

use super::dead_letter::{self, RefusedRecord};
use super::definition::{DefinitionError, SourceDefinition};
use super::payload::Payload;
use crate::clock::SystemClock;
use crate::decode::body::LineDecoder;
#[cfg(feature = "arrow")]
use crate::decode::column_body::BatchDecoder;
use crate::decode::mapping::{Mapped, Mapping, RecordContext};
use crate::decode::{LINE_BYTES_MAX, LineError, LineErrorKind};
use crate::enrich::{Fate, splice};
use crate::source::{Record, RecordBatch};
use engine::catalog::Catalog;
use engine::clock::Clock;
use engine::store::Store;
use engine::update::UpdateBatch;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of an update at which the next begins: the log's records stay small, and the writer has something to do soon.
const UPDATE_BYTES: usize = 2 << 20;

/// How long a decoder is used: it knows what time it is.
const DECODER_AGE_MAX: Duration = Duration::from_secs(1);

/// Refused records that a report shows.
pub(super) const REFUSED_SHOWN_MAX: usize = 20;

/// Records of one partition, decoded.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) partition: Arc<str>,
    pub(super) batch: UpdateBatch,
    /// The offset of the record behind them.
    pub(super) next_offset: u64,
    /// The latest event time among them, in microseconds since 1970.
    pub(super) event_time: Option<i64>,
}

/// What became of the records of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) refused: u64,
    pub(super) filtered: u64,
    pub(super) empty: u64,
    /// The last ones refused, newest first.
    pub(super) refused_last: Vec<RefusedRecord>,
}

/// Decodes the records of one source.
#[derive(Debug)]
pub(super) struct RecordDecoder {
    source: String,
    definition: SourceDefinition,
    payload: Payload,
    current: Option<Current>,
}

#[derive(Debug)]
pub(super) struct Current {
    catalog: Arc<Catalog>,
    made: Instant,
    pub(super) now: i64,
    mapping: Option<Mapping>,
    decoder: LineDecoder,
    /// Of records of columns that are not mapped.
    #[cfg(feature = "arrow")]
    pub(super) columns: Option<BatchDecoder>,
    /// What the mapping makes of a record; used again.
    line: String,
    /// A record with what was looked up; used again.
    enriched: Vec<u8>,
}

/// What became of one record.
pub(super) enum Taken {
    /// It is in the update; with the time of its event.
    Yes(Option<i64>),
    /// Its mapping does not want it.
    FilteredOut,
}

impl RecordDecoder {
    pub(super) fn new(source: String, definition: SourceDefinition) -> RecordDecoder {
        let payload = Payload::new(&definition.payload);
        RecordDecoder { source, definition, payload, current: None }
    }

    /// Looks up the target in the newest catalog.
    ///
    /// # Errors
    /// What does not fit it any more.
    pub(super) fn refresh(&mut self, store: &Store) -> Result<(), DefinitionError> {
        let catalog = store.snapshot().shared_catalog();
        let is_new =
            |current: &Current| Arc::ptr_eq(&current.catalog, &catalog) && current.made.elapsed() < DECODER_AGE_MAX;
        if self.current.as_ref().is_some_and(is_new) {
            return Ok(());
        }
        let now = SystemClock.now();
        let decoder = self.definition.decoder(&catalog, now)?;
        let mapping = self.definition.mapping(&catalog)?;
        #[cfg(feature = "arrow")]
        let columns = match (&self.payload, &mapping) {
            (Payload::Arrow, None) => Some(BatchDecoder::new(self.definition.rows(&catalog, now)?)),
            _ => None,
        };
        self.current = Some(Current {
            catalog,
            made: Instant::now(),
            now,
            mapping,
            decoder,
            #[cfg(feature = "arrow")]
            columns,
            line: String::new(),
            enriched: Vec::new(),
        });
        Ok(())
    }

    /// Sees to it that what the records need to be decoded is there.
    ///
    /// # Errors
    /// What is not there now and may be later.
    pub(super) fn prepare(&mut self, records: &RecordBatch) -> Result<(), String> {
        self.payload.prepare(records)
    }

    /// Decodes all records, partition by partition, and gives each update away as it is full. `fates` has what look-ups
    /// decided of each record, or is empty.
    ///
    /// # Errors
    /// That of `give`.
    pub(super) fn decode<E>(
        &mut self,
        records: &RecordBatch,
        fates: &[Fate],
        mut give: impl FnMut(Decoded) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let mut outcome = Outcome::default();
        let Some(current) = &mut self.current else { return Ok(outcome) };
        // A partition may have several runs of records; what comes of them is one sequence.
        let mut places = HashMap::new();
        let mut open: Vec<Decoded> = Vec::new();
        let place_of: Vec<usize> = records
            .partition_names()
            .map(|name| {
                *places.entry(name.clone()).or_insert_with(|| {
                    open.push(Decoded::new(name));
                    open.len() - 1
                })
            })
            .collect();
        for (index, record) in records.iter().enumerate() {
            let decoded = &mut open[place_of[record.partition]];
            let fate = fates.get(index);
            current.decode(&mut self.payload, &self.source, &record, fate, decoded, &mut outcome);
            decoded.next_offset = record.offset.saturating_add(1);
            if decoded.batch.as_bytes().len() >= UPDATE_BYTES {
                let next = Decoded::new(&decoded.partition);
                give(std::mem::replace(decoded, next))?;
            }
        }
        open.into_iter().filter(|decoded| decoded.next_offset > 0).try_for_each(give)?;
        outcome.refused_last.reverse();
        Ok(outcome)
    }
}

impl Decoded {
    fn new(partition: &Arc<str>) -> Decoded {
        Decoded { partition: partition.clone(), batch: UpdateBatch::new(), next_offset: 0, event_time: None }
    }
}

impl Outcome {
    /// Counts a record that was refused.
    pub(super) fn note(&mut self, refused: RefusedRecord) {
        self.refused += 1;
        if self.refused_last.len() == REFUSED_SHOWN_MAX {
            self.refused_last.remove(0);
        }
        self.refused_last.push(refused);
    }
}

impl Current {
    fn decode(
        &mut self,
        payload: &mut Payload,
        source: &str,
        record: &Record<'_>,
        fate: Option<&Fate>,
        decoded: &mut Decoded,
        outcome: &mut Outcome,
    ) {
        let Some(bytes) = record.payload.filter(|bytes| !payload.is_blank(bytes)) else {
            outcome.empty += 1;
            return;
        };
        let taken = match payload {
            Payload::Json => self.take_enriched(bytes, record, fate, decoded),
            #[cfg(feature = "avro")]
            Payload::Avro(_) if bytes.len() > LINE_BYTES_MAX => Err(too_long(bytes.len())),
            #[cfg(feature = "avro")]
            Payload::Avro(reader) => reader.line(bytes).and_then(|line| self.take(line, record, decoded)),
            #[cfg(feature = "arrow")]
            Payload::Arrow => self.take_rows(source, bytes, record, decoded, outcome).map(|()| Taken::Yes(None)),
        };
        match taken {
            Ok(Taken::FilteredOut) => outcome.filtered += 1,
            Ok(Taken::Yes(event_time)) => decoded.event_time = decoded.event_time.max(event_time),
            Err(error) => {
                dead_letter::push(source, &decoded.partition, record, &error, self.now, &mut decoded.batch);
                outcome.note(dead_letter::shown(&decoded.partition, record, error));
            }
        }
    }

    /// Takes a record as look-ups decided. What is told of it in an error is the record as it came.
    fn take_enriched(
        &mut self,
        payload: &[u8],
        record: &Record<'_>,
        fate: Option<&Fate>,
        decoded: &mut Decoded,
    ) -> Result<Taken, LineError> {
        match fate {
            Some(Fate::Refused(error)) => Err(error.clone()),
            Some(Fate::Dropped) => Ok(Taken::FilteredOut),
            Some(Fate::Taken(members)) if !members.is_empty() => {
                let mut enriched = std::mem::take(&mut self.enriched);
                splice(payload, members, &mut enriched);
                let taken = self.take(&enriched, record, decoded);
                self.enriched = enriched;
                taken
            }
            Some(Fate::Taken(_)) | None => self.take(payload, record, decoded),
        }
    }

    /// Takes one line.
    pub(super) fn take(
        &mut self,
        payload: &[u8],
        record: &Record<'_>,
        decoded: &mut Decoded,
    ) -> Result<Taken, LineError> {
        if payload.len() > LINE_BYTES_MAX {
            return Err(too_long(payload.len()));
        }
        match &mut self.mapping {
            None => drop(self.decoder.decode(payload, &mut decoded.batch)?),
            Some(mapping) => {
                let context = RecordContext {
                    key: record.key,
                    timestamp_ms: record.timestamp_ms,
                    partition: &decoded.partition,
                    offset: record.offset,
                };
                if mapping.apply(payload, &context, &mut self.line)? == Mapped::FilteredOut {
                    return Ok(Taken::FilteredOut);
                }
                let taken = self.decoder.decode(self.line.as_bytes(), &mut decoded.batch);
                taken.map_err(|error| mapping.in_record(error))?;
            }
        }
        Ok(Taken::Yes(self.decoder.event_time()))
    }
}

fn too_long(len: usize) -> LineError {
    let message = format!("the record has {len} bytes; at most {LINE_BYTES_MAX} are taken");
    LineError::new(LineErrorKind::TooLong, message).suggest("split it into several records")
}
