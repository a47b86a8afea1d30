//! Delivering: one thread a sink, from its queue to the other side.
//!
//! A batch's bounds are noted before it is sent, so that after a crash the same batch goes with the same key; how far the
//! sink is, is noted once the other side has it. What the other side will never take becomes a dead letter, which is durable
//! before the sink goes on.

use super::definition::SinkDefinition;
use super::deliver::{Deliver, Delivery, DeliveryError, DeliveryRecord, Refusal, SinkIdentity};
use super::queue::{Batch, BatchLimits, Queue, QueueReader};
use super::record::LETTERS_OF_SINKS;
use super::report::{SinkState, Told};
use super::stop::Stop;
use super::tap::Sink;
use crate::pipeline::dead_letter::{Letter, push_letter};
use engine::store::{Once, Store};
use engine::update::UpdateBatch;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

/// How long a thread waits for records before it lets the other side rest.
const REST_INTERVAL: Duration = Duration::from_millis(500);
/// The longest wait that another side may ask for.
const AFTER_MAX: Duration = Duration::from_secs(3600);
/// Records of a write of dead letters.
const LETTERS_MAX: usize = 100;
/// How long the key of such a write is remembered, in seconds: longer than a restart takes.
const LETTERS_REMEMBERED: u64 = 7 * 86_400;

/// See the module.
pub(super) struct Worker {
    identity: SinkIdentity,
    definition: SinkDefinition,
    queue: Arc<Queue>,
    told: Arc<Told>,
    burying: Arc<AtomicUsize>,
    store: Weak<Store>,
    stop: Arc<Stop>,
    reader: QueueReader,
    destination: Option<Box<dyn Deliver>>,
    /// The batch under way, with the attempts that failed.
    batch: Option<(Batch, u32)>,
    /// Times in a row that the other side could not be opened.
    openings: u32,
    seed: u64,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was delivered, or given up.
    Delivered,
    /// There is nothing to deliver.
    Idle,
    /// It is to be tried again after this time.
    Later(Duration),
    /// It cannot go on by itself.
    Failed(String),
}

impl Worker {
    /// For a sink that has a queue and a definition; `None` otherwise.
    pub(super) fn new(sink: &Sink, store: Weak<Store>, stop: Arc<Stop>) -> Option<Worker> {
        let (Ok(definition), Some(queue)) = (&sink.definition, &sink.queue) else { return None };
        Some(Worker {
            identity: SinkIdentity { name: sink.name.clone(), id: queue.id() },
            definition: definition.clone(),
            queue: queue.clone(),
            told: sink.told.clone(),
            burying: sink.burying.clone(),
            store,
            stop,
            reader: QueueReader::default(),
            destination: None,
            batch: None,
            openings: 0,
            seed: std::hash::RandomState::new().build_hasher().finish(),
        })
    }

    /// Delivers until it is told to end.
    pub(super) fn run(mut self) {
        while !self.stop.is_set() {
            if self.queue.is_empty() && self.batch.is_none() && self.destination.is_some() {
                self.await_records();
            }
            if self.stop.is_set() {
                return;
            }
            match self.step() {
                Step::Delivered => {}
                Step::Idle => self.queue.wait(self.queue.position().0, 1, REST_INTERVAL),
                Step::Later(after) => {
                    self.stop.wait(after);
                }
                Step::Failed(why) => {
                    tracing::error!(sink = self.identity.name, why, "sink failed");
                    self.told.change(|told| (told.state, told.error) = (SinkState::Failed, Some(why)));
                    return;
                }
            }
        }
    }

    /// Waits for a record, and then a moment for others to go with it.
    fn await_records(&mut self) {
        let delivered = self.queue.position().0;
        self.queue.wait(delivered, 1, REST_INTERVAL);
        let wanted = self.definition.batch_records_max as u64;
        let since = Instant::now();
        while !self.queue.is_empty() && !self.stop.is_set() && self.queue.end() < delivered + wanted {
            let Some(left) = self.definition.linger.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else {
                return;
            };
            self.queue.wait(delivered, wanted, left);
        }
    }

    /// Opens the other side if need be, and delivers one batch if there is one.
    pub(super) fn step(&mut self) -> Step {
        if let Err(error) = self.open() {
            return match error {
                DeliveryError::Later { why, after } => {
                    self.openings = self.openings.saturating_add(1);
                    self.later(self.openings, why, after)
                }
                DeliveryError::Never(why) => Step::Failed(why),
            };
        }
        let (batch, attempts) = match self.batch.take() {
            Some(batch) => batch,
            None => match self.next_batch() {
                Ok(Some(batch)) => (batch, 0),
                Ok(None) => return self.rest(),
                Err(why) => return Step::Failed(why),
            },
        };
        let delivery = self.delivery(&batch);
        let Some(destination) = &mut self.destination else { return Step::Idle };
        match destination.deliver(&delivery, &self.stop) {
            Ok(refusals) => self.delivered(batch, &refusals, attempts),
            Err(_) if self.stop.is_set() => {
                self.batch = Some((batch, attempts));
                Step::Later(Duration::ZERO)
            }
            Err(DeliveryError::Never(why)) => self.give_up(batch, &why, attempts),
            Err(DeliveryError::Later { why, .. }) if self.definition.retries.is_some_and(|max| attempts >= max) => {
                let why = format!("given up after {} attempts: {why}", attempts + 1);
                self.give_up(batch, &why, attempts)
            }
            Err(DeliveryError::Later { why, after }) => {
                self.batch = Some((batch, attempts.saturating_add(1)));
                self.later(attempts.saturating_add(1), why, after)
            }
        }
    }

    fn open(&mut self) -> Result<(), DeliveryError> {
        if self.destination.is_some() {
            return Ok(());
        }
        let connector = self.definition.connector.as_ref().map_err(|why| DeliveryError::Never(why.clone()))?;
        let mut destination = connector.open(&self.identity)?;
        if let Some(committed) = destination.committed()? {
            self.follow(committed)?;
        }
        self.destination = Some(destination);
        self.openings = 0;
        self.told.change(|told| (told.state, told.error) = (SinkState::Running, None));
        Ok(())
    }

    /// Goes on where the other side says it is.
    fn follow(&mut self, committed: u64) -> Result<(), DeliveryError> {
        let (delivered, end) = (self.queue.position().0, self.queue.end());
        if committed > end {
            return Err(DeliveryError::Never(format!(
                "the other side has {committed} records of this sink and its queue ends at {end}: the data directory was put back \
                 to an earlier state; drop the sink and declare it again, which begins anew"
            )));
        }
        if committed <= delivered {
            // It kept nothing for a while, as another kind of delivery does.
            return Ok(());
        }
        self.queue.advance(committed, None).map_err(|error| DeliveryError::Never(error.to_string()))
    }

    /// The next batch, its bounds noted.
    fn next_batch(&mut self) -> Result<Option<Batch>, String> {
        let (delivered, sent) = self.queue.position();
        if delivered >= self.queue.end() {
            return Ok(None);
        }
        let limits =
            BatchLimits { records_max: self.definition.batch_records_max, bytes_max: self.definition.batch_bytes_max };
        let batch = self.reader.read(&self.queue, delivered, sent, limits).map_err(|error| error.to_string())?;
        self.queue.advance(delivered, Some(batch.end())).map_err(|error| error.to_string())?;
        Ok(Some(batch))
    }

    fn delivery<'a>(&self, batch: &'a Batch) -> Delivery<'a> {
        let record = |record: &'a super::queue::BatchRecord| DeliveryRecord {
            id: &record.id,
            user_id: &record.user_id,
            json: &record.json,
        };
        Delivery {
            first: batch.first,
            records: batch.records.iter().map(record).collect(),
            key: format!("{}/{}-{}", self.identity.key(), batch.first, batch.end()),
        }
    }

    fn delivered(&mut self, batch: Batch, refusals: &[Refusal], attempts: u32) -> Step {
        if let Err(why) = self.bury(&batch, refusals) {
            self.batch = Some((batch, attempts.saturating_add(1)));
            return self.later(attempts.saturating_add(1), why, None);
        }
        let step = self.note(&batch);
        let count = (batch.records.len() - refusals.len()) as u64;
        self.told.change(|told| {
            (told.state, told.error) = (SinkState::Running, None);
            told.delivered += count;
            told.batches += 1;
        });
        step
    }

    /// Makes dead letters of all records of a batch.
    fn give_up(&mut self, batch: Batch, why: &str, attempts: u32) -> Step {
        let refusals: Vec<Refusal> =
            (0..batch.records.len()).map(|index| Refusal { index, why: why.to_owned() }).collect();
        if let Err(why) = self.bury(&batch, &refusals) {
            self.batch = Some((batch, attempts));
            return self.later(attempts.saturating_add(1), why, None);
        }
        tracing::warn!(sink = self.identity.name, why, records = batch.records.len(), "records became dead letters");
        if let Some(destination) = &mut self.destination {
            destination.pass_over(batch.first);
        }
        let step = self.note(&batch);
        self.told.change(|told| (told.state, told.error) = (SinkState::Running, Some(why.to_owned())));
        step
    }

    /// Notes that a batch is done.
    fn note(&self, batch: &Batch) -> Step {
        match self.queue.advance(batch.end(), None) {
            Ok(()) => Step::Delivered,
            Err(error) => Step::Failed(error.to_string()),
        }
    }

    fn rest(&mut self) -> Step {
        let end = self.queue.position().0;
        match self.destination.as_mut().map_or(Ok(()), |destination| destination.rest(end)) {
            Ok(()) => Step::Idle,
            Err(error) => self.later(1, error.to_string(), None),
        }
    }

    /// Writes dead letters; they are durable when this returns, and written once also if the batch comes again.
    fn bury(&self, batch: &Batch, refusals: &[Refusal]) -> Result<(), String> {
        if refusals.is_empty() {
            return Ok(());
        }
        let store = self.store.upgrade().ok_or("the store is closed")?;
        self.burying.fetch_add(1, Ordering::Relaxed);
        let written = refusals.chunks(LETTERS_MAX).enumerate().try_for_each(|(part, refusals)| {
            let key = format!("dead letters of sink {}/{}-{}/{part}", self.identity.key(), batch.first, batch.end());
            let key = xxh3_128(key.as_bytes());
            let now = store.now();
            let now_seconds = u64::try_from(now / 1_000_000).unwrap_or(0);
            let once = Once { key, digest: key, now_seconds, remember_seconds: LETTERS_REMEMBERED };
            let letters = self.letters(batch, refusals, now);
            let written = store.write(&letters, Some(once)).map_err(|error| error.to_string())?;
            store.sync(written.lsn).map_err(|error| error.to_string())
        });
        self.burying.fetch_sub(1, Ordering::Relaxed);
        if written.is_ok() {
            self.told.change(|told| told.dead_letters += refusals.len() as u64);
        }
        written
    }

    fn letters(&self, batch: &Batch, refusals: &[Refusal], now: i64) -> UpdateBatch {
        let mut letters = UpdateBatch::new();
        let source = format!("{LETTERS_OF_SINKS}{}", self.identity.name);
        for Refusal { index, why } in refusals {
            let Some(record) = batch.records.get(*index) else { continue };
            let letter = Letter {
                source: &source,
                partition: &record.id,
                position: i64::try_from(batch.first + *index as u64).unwrap_or(i64::MAX),
                kind: "not_delivered",
                reason: why,
                payload: record.json.as_bytes(),
            };
            push_letter(&letter, now, &mut letters);
        }
        letters
    }

    /// The wait before the next attempt: twice as long each time, and shortened by chance by up to a half, so that sinks that
    /// failed together do not come back together.
    fn later(&mut self, attempts: u32, why: String, after: Option<Duration>) -> Step {
        tracing::warn!(sink = self.identity.name, why, "sink tries again later");
        self.told.change(|told| {
            (told.state, told.error) = (SinkState::Retrying, Some(why));
            told.retries += 1;
        });
        let doubled = self.definition.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        let wait = doubled.min(self.definition.backoff_max);
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = 0.5 + (self.seed >> 33) as f64 / (1u64 << 32) as f64;
        Step::Later(wait.mul_f64(share.min(1.0)).max(after.unwrap_or_default().min(AFTER_MAX)))
    }
}
