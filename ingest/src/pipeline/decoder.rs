//! A record of a source to an update, or to a dead letter.

use super::dead_letter::{self, RefusedRecord};
use super::definition::{DefinitionError, SourceDefinition};
use crate::clock::SystemClock;
use crate::decode::body::LineDecoder;
use crate::decode::mapping::{Mapped, Mapping, RecordContext};
use crate::decode::{LINE_BYTES_MAX, LineError, LineErrorKind};
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

/// Records whose expressions are computed at once: enough that what is done once for all of them weighs little.
const COMPUTED_RECORDS: usize = 1024;

/// Bytes at which no further record is computed with them: what is read of them is copied.
const COMPUTED_BYTES: usize = 4 << 20;

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
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    catalog: Arc<Catalog>,
    made: Instant,
    now: i64,
    mapping: Option<Mapping>,
    decoder: LineDecoder,
    /// What the mapping makes of a record; used again.
    line: String,
}

/// What became of one record.
enum Taken {
    /// It is in the update; with the time of its event.
    Yes(Option<i64>),
    /// Its mapping does not want it.
    FilteredOut,
}

impl RecordDecoder {
    pub(super) fn new(source: String, definition: SourceDefinition) -> RecordDecoder {
        RecordDecoder { source, definition, current: None }
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
        // Its expressions are made ready once for a catalog: that takes longer than to compute them.
        let known = self.current.as_mut().filter(|current| Arc::ptr_eq(&current.catalog, &catalog));
        let mapping = match known {
            Some(current) => current.mapping.take(),
            None => self.definition.mapping(&catalog)?,
        };
        self.current = Some(Current { catalog, made: Instant::now(), now, mapping, decoder, line: String::new() });
        Ok(())
    }

    /// Decodes all records, partition by partition, and gives each update away as it is full.
    ///
    /// # Errors
    /// That of `give`.
    pub(super) fn decode<E>(
        &mut self,
        records: &RecordBatch,
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
        let mut computed = 0;
        for (index, record) in records.iter().enumerate() {
            if index == computed {
                computed += current.compute(records, index);
            }
            let decoded = &mut open[place_of[record.partition]];
            current.decode(&self.source, &record, decoded, &mut outcome);
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

impl Current {
    /// Computes the expressions for the records from `begin` on, and says how many were taken.
    fn compute(&mut self, records: &RecordBatch, begin: usize) -> usize {
        let rest = records.len() - begin;
        let Some(mapping) = self.mapping.as_mut().filter(|mapping| mapping.computes()) else { return rest };
        let (mut bytes, mut taken) = (0, 0);
        while taken < rest.min(COMPUTED_RECORDS) && bytes < COMPUTED_BYTES {
            bytes += records.get(begin + taken).payload.map_or(0, <[u8]>::len);
            taken += 1;
        }
        let taken_records = (begin..begin + taken).map(|index| records.get(index));
        mapping.prepare(taken_records.filter_map(|record| {
            let payload = said(&record).filter(|payload| payload.len() <= LINE_BYTES_MAX)?;
            Some((payload, context(&record, records.partition_name(record.partition))))
        }));
        taken
    }

    fn decode(&mut self, source: &str, record: &Record<'_>, decoded: &mut Decoded, outcome: &mut Outcome) {
        let Some(payload) = said(record) else {
            outcome.empty += 1;
            return;
        };
        match self.take(payload, record, decoded) {
            Ok(Taken::FilteredOut) => outcome.filtered += 1,
            Ok(Taken::Yes(event_time)) => decoded.event_time = decoded.event_time.max(event_time),
            Err(error) => {
                outcome.refused += 1;
                dead_letter::push(source, &decoded.partition, record, &error, self.now, &mut decoded.batch);
                if outcome.refused_last.len() == REFUSED_SHOWN_MAX {
                    outcome.refused_last.remove(0);
                }
                outcome.refused_last.push(dead_letter::shown(&decoded.partition, record, error));
            }
        }
    }

    fn take(&mut self, payload: &[u8], record: &Record<'_>, decoded: &mut Decoded) -> Result<Taken, LineError> {
        if payload.len() > LINE_BYTES_MAX {
            return Err(too_long(payload.len()));
        }
        match &mut self.mapping {
            None => drop(self.decoder.decode(payload, &mut decoded.batch)?),
            Some(mapping) => {
                let context = context(record, &decoded.partition);
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

/// What a record says, if anything.
fn said<'r>(record: &Record<'r>) -> Option<&'r [u8]> {
    record.payload.filter(|payload| !payload.trim_ascii().is_empty())
}

fn context<'r>(record: &Record<'r>, partition: &'r str) -> RecordContext<'r> {
    RecordContext { key: record.key, timestamp_ms: record.timestamp_ms, partition, offset: record.offset }
}

fn too_long(len: usize) -> LineError {
    let message = format!("the record has {len} bytes; at most {LINE_BYTES_MAX} are taken");
    LineError::new(LineErrorKind::TooLong, message).suggest("split it into several records")
}
