//! A record of a source to an update, or to a dead letter.

use super::dead_letter::{self, RefusedRecord};
use super::definition::{DefinitionError, SourceDefinition};
use super::lines::{Line, Lines};
use super::payload::Payload;
use crate::clock::SystemClock;
use crate::decode::LineError;
use crate::decode::body::LineDecoder;
#[cfg(feature = "arrow")]
use crate::decode::column_body::BatchDecoder;
use crate::decode::mapping::{Mapped, Mapping, RecordContext};
use crate::enrich::Fate;
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
    lines: Lines,
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
        RecordDecoder { source, definition, payload, lines: Lines::default(), current: None }
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
        let mut begin = 0;
        while begin < records.len() {
            let count = self.lines.read(&mut self.payload, records, begin, fates);
            current.compute(&self.lines, records, begin, count);
            for index in 0..count {
                let record = records.get(begin + index);
                let decoded = &mut open[place_of[record.partition]];
                current.decode(self.lines.get(index, &record), &self.source, &record, decoded, &mut outcome);
                decoded.next_offset = record.offset.saturating_add(1);
                if decoded.batch.as_bytes().len() >= UPDATE_BYTES {
                    let next = Decoded::new(&decoded.partition);
                    give(std::mem::replace(decoded, next))?;
                }
            }
            begin += count;
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
    /// Computes the expressions for these records at once.
    fn compute(&mut self, lines: &Lines, records: &RecordBatch, begin: usize, count: usize) {
        let Some(mapping) = self.mapping.as_mut().filter(|mapping| mapping.computes()) else { return };
        mapping.prepare((0..count).filter_map(|index| {
            let record = records.get(begin + index);
            let Line::Text(line) = lines.get(index, &record) else { return None };
            Some((line, context(&record, records.partition_name(record.partition))))
        }));
    }

    /// What is told of a record in an error is the record as it came.
    fn decode(
        &mut self,
        line: Line<'_>,
        source: &str,
        record: &Record<'_>,
        decoded: &mut Decoded,
        outcome: &mut Outcome,
    ) {
        let taken = match line {
            Line::Nothing => {
                outcome.empty += 1;
                return;
            }
            Line::Unwanted => Ok(Taken::FilteredOut),
            Line::Refused(error) => Err(error.clone()),
            Line::Text(line) => self.take(line, record, decoded),
            #[cfg(feature = "arrow")]
            Line::Rows(rows) => self.take_rows(source, rows, record, decoded, outcome).map(|()| Taken::Yes(None)),
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

    /// Takes one line.
    pub(super) fn take(&mut self, line: &[u8], record: &Record<'_>, decoded: &mut Decoded) -> Result<Taken, LineError> {
        match &mut self.mapping {
            None => drop(self.decoder.decode(line, &mut decoded.batch)?),
            Some(mapping) => {
                let context = context(record, &decoded.partition);
                if mapping.apply(line, &context, &mut self.line)? == Mapped::FilteredOut {
                    return Ok(Taken::FilteredOut);
                }
                let taken = self.decoder.decode(self.line.as_bytes(), &mut decoded.batch);
                taken.map_err(|error| mapping.in_record(error))?;
            }
        }
        Ok(Taken::Yes(self.decoder.event_time()))
    }
}

fn context<'r>(record: &Record<'r>, partition: &'r str) -> RecordContext<'r> {
    RecordContext { key: record.key, timestamp_ms: record.timestamp_ms, partition, offset: record.offset }
}
