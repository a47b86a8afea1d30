//! A record of a source to an update, or to a dead letter.

use super::Target;
use super::dead_letter::{self, RefusedRecord};
use crate::clock::SystemClock;
use crate::decode::{EventDecoder, LINE_BYTES_MAX, LineError, LineErrorKind, TagDecoder};
use crate::source::{Record, RecordBatch};
use engine::catalog::Catalog;
use engine::clock::Clock;
use engine::store::Store;
use engine::update::UpdateBatch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of an update at which the next begins: the log's records stay small, and the writer has something to do soon.
const UPDATE_BYTES: usize = 2 << 20;

/// How long a decoder is used: it knows what time it is.
const DECODER_AGE_MAX: Duration = Duration::from_secs(1);

/// Refused records that a report shows.
const REFUSED_SHOWN_MAX: usize = 20;

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
    pub(super) empty: u64,
    /// The last ones refused, newest first.
    pub(super) refused_last: Vec<RefusedRecord>,
}

/// Decodes the records of one source.
#[derive(Debug)]
pub(super) struct RecordDecoder {
    source: String,
    into: Target,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    catalog: Arc<Catalog>,
    made: Instant,
    now: i64,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    Events(Box<EventDecoder>),
    Tags(TagDecoder),
}

impl RecordDecoder {
    pub(super) fn new(source: String, into: Target) -> RecordDecoder {
        RecordDecoder { source, into, current: None }
    }

    /// Looks up the target in the newest catalog.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn refresh(&mut self, store: &Store) -> Result<(), String> {
        let catalog = store.snapshot().shared_catalog();
        let is_new =
            |current: &Current| Arc::ptr_eq(&current.catalog, &catalog) && current.made.elapsed() < DECODER_AGE_MAX;
        if self.current.as_ref().is_some_and(is_new) {
            return Ok(());
        }
        let now = SystemClock.now();
        let decoder = match &self.into {
            Target::Tags => Decoder::Tags(TagDecoder::new(&catalog)),
            Target::Fact(name) => match catalog.declared_fact(name) {
                Some(fact) => Decoder::Events(Box::new(EventDecoder::new(fact, now))),
                None => return Err(format!("there is no fact `{name}`; declare it, or change `into`")),
            },
        };
        self.current = Some(Current { catalog, made: Instant::now(), now, decoder });
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
        for (index, partition) in records.partition_names().enumerate() {
            let mut decoded = Decoded::new(partition);
            for record in records.iter().filter(|record| record.partition == index) {
                current.decode(&self.source, &record, &mut decoded, &mut outcome);
                decoded.next_offset = record.offset.saturating_add(1);
                if decoded.batch.as_bytes().len() >= UPDATE_BYTES {
                    give(std::mem::replace(&mut decoded, Decoded::new(partition)))?;
                }
            }
            if decoded.next_offset > 0 {
                give(decoded)?;
            }
        }
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
    fn decode(&mut self, source: &str, record: &Record<'_>, decoded: &mut Decoded, outcome: &mut Outcome) {
        let Some(payload) = record.payload.filter(|payload| !payload.trim_ascii().is_empty()) else {
            outcome.empty += 1;
            return;
        };
        let done = match &mut self.decoder {
            _ if payload.len() > LINE_BYTES_MAX => Err(too_long(payload.len())),
            Decoder::Tags(decoder) => decoder.decode(payload, &mut decoded.batch).map(|()| None),
            Decoder::Events(decoder) => {
                decoder.decode(payload, &mut decoded.batch).map(|()| Some(decoder.event_time()))
            }
        };
        match done {
            Ok(event_time) => decoded.event_time = decoded.event_time.max(event_time),
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
}

fn too_long(len: usize) -> LineError {
    let message = format!("the record has {len} bytes; at most {LINE_BYTES_MAX} are taken");
    LineError::new(LineErrorKind::TooLong, message).suggest("split it into several records")
}
