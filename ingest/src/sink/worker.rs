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
use super::tap::Sink;
use crate::pipeline::dead_letter::{Letter, push_letter};
use crate::stop::Stop;
use engine::store::{Once, Store};
use engine::update::UpdateBatch;
use std::collections::BTreeSet;
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
    underway: Option<Underway>,
    /// Times in a row that the other side could not be opened.
    openings: u32,
    seed: u64,
}

/// The batch under way.
#[derive(Default)]
struct Underway {
    batch: Batch,
    /// Attempts that failed.
    attempts: u32,
    /// Places of records that the other side refused before it took the others, and that are dead letters.
    left_out: BTreeSet<usize>,
    /// What the other side answered to it, while there are dead letters to be written: it is not asked again for that.
    burial: Option<Burial>,
}

/// Dead letters to be written.
struct Burial {
    refusals: Vec<Refusal>,
    then: AfterBurial,
    /// Attempts that failed.
    attempts: u32,
}

/// What follows a burial.
enum AfterBurial {
    /// The others were delivered.
    Delivered,
    /// The batch goes without them.
    Again,
    /// All of it is given up, for this reason.
    GivenUp(String),
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
            underway: None,
            openings: 0,
            seed: std::hash::RandomState::new().build_hasher().finish(),
        })
    }

    /// Delivers until it is told to end.
    pub(super) fn run(mut self) {
        while !self.stop.is_set() {
            if self.queue.is_empty() && self.underway.is_none() && self.destination.is_some() {
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
                Step::Failed(_) if self.queue.is_removed() => return,
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
                refused @ DeliveryError::Refused(_) => Step::Failed(refused.to_string()),
            };
        }
        let underway = match self.underway.take() {
            Some(underway) => underway,
            None => match self.next_batch() {
                Ok(Some(batch)) => Underway { batch, ..Underway::default() },
                Ok(None) => return self.rest(),
                Err(why) => return Step::Failed(why),
            },
        };
        if underway.burial.is_some() { self.bury(underway) } else { self.deliver(underway) }
    }

    fn deliver(&mut self, mut underway: Underway) -> Step {
        let delivery = self.delivery(&underway);
        let Some(destination) = &mut self.destination else { return Step::Idle };
        let (refusals, then) = match destination.deliver(&delivery, &self.stop) {
            Ok(refusals) => (refusals, AfterBurial::Delivered),
            Err(_) if self.stop.is_set() => {
                self.underway = Some(underway);
                return Step::Later(Duration::ZERO);
            }
            Err(DeliveryError::Refused(refusals)) => {
                let is_news = |refusal: &Refusal| {
                    refusal.index < underway.batch.records.len() && !underway.left_out.contains(&refusal.index)
                };
                let news: Vec<Refusal> = refusals.into_iter().filter(is_news).collect();
                if news.is_empty() {
                    return self.again(underway, "it refuses what it was not sent".to_owned(), None);
                }
                (news, AfterBurial::Again)
            }
            Err(DeliveryError::Never(why)) => (underway.remaining(&why), AfterBurial::GivenUp(why)),
            Err(DeliveryError::Later { why, .. })
                if self.definition.retries.is_some_and(|max| underway.attempts >= max) =>
            {
                let why = format!("given up after {} attempts: {why}", underway.attempts + 1);
                (underway.remaining(&why), AfterBurial::GivenUp(why))
            }
            Err(DeliveryError::Later { why, after }) => return self.again(underway, why, after),
        };
        underway.burial = Some(Burial { refusals, then, attempts: 0 });
        self.bury(underway)
    }

    /// Tries it again later.
    fn again(&mut self, mut underway: Underway, why: String, after: Option<Duration>) -> Step {
        underway.attempts = underway.attempts.saturating_add(1);
        let attempts = underway.attempts;
        self.underway = Some(underway);
        self.later(attempts, why, after)
    }

    /// Writes the dead letters of a batch and goes on as it is to.
    fn bury(&mut self, mut underway: Underway) -> Step {
        let Some(Burial { refusals, then, attempts }) = underway.burial.take() else { return Step::Idle };
        if let Err(why) = self.write_letters(&underway.batch, &refusals) {
            let attempts = attempts.saturating_add(1);
            underway.burial = Some(Burial { refusals, then, attempts });
            self.underway = Some(underway);
            return self.later(attempts, format!("dead letters: {why}"), None);
        }
        match then {
            AfterBurial::Again => {
                underway.left_out.extend(refusals.iter().map(|refusal| refusal.index));
                self.underway = Some(underway);
                Step::Delivered
            }
            AfterBurial::Delivered => {
                let step = self.note(&underway.batch);
                let count = (underway.batch.records.len() - refusals.len() - underway.left_out.len()) as u64;
                self.told.change(|told| {
                    (told.state, told.error) = (SinkState::Running, None);
                    told.delivered += count;
                    told.batches += 1;
                });
                step
            }
            AfterBurial::GivenUp(why) => {
                tracing::warn!(sink = self.identity.name, why, records = refusals.len(), "records became dead letters");
                if let Some(destination) = &mut self.destination {
                    destination.pass_over(underway.batch.first);
                }
                let step = self.note(&underway.batch);
                self.told.change(|told| (told.state, told.error) = (SinkState::Running, Some(why)));
                step
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

    fn delivery<'a>(&self, underway: &'a Underway) -> Delivery<'a> {
        let batch = &underway.batch;
        let record = |record: &'a super::queue::BatchRecord| DeliveryRecord {
            id: &record.id,
            user_id: &record.user_id,
            json: &record.json,
        };
        Delivery {
            first: batch.first,
            records: batch.records.iter().map(record).collect(),
            left_out: underway.left_out.clone(),
            key: format!("{}/{}-{}", self.identity.key(), batch.first, batch.end()),
        }
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
    fn write_letters(&self, batch: &Batch, refusals: &[Refusal]) -> Result<(), String> {
        if refusals.is_empty() {
            return Ok(());
        }
        let store = self.store.upgrade().ok_or("the store is closed")?;
        self.burying.fetch_add(1, Ordering::Relaxed);
        let written = refusals.chunks(LETTERS_MAX).try_for_each(|refusals| {
            // Another attempt may refuse others, whose letters are other ones.
            let places: Vec<usize> = refusals.iter().map(|refusal| refusal.index).collect();
            let (life, first, end) = (self.identity.key(), batch.first, batch.end());
            let key = format!("dead letters of sink {life}/{first}-{end}/{places:?}");
            let key = xxh3_128(key.as_bytes());
            let now = store.now();
            let now_seconds = u64::try_from(now / 1_000_000).unwrap_or(0);
            let once = Once { key, digest: key, now_seconds, remember_seconds: LETTERS_REMEMBERED, note: 0 };
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

impl Underway {
    /// Refuses all that are not dead letters yet.
    fn remaining(&self, why: &str) -> Vec<Refusal> {
        let places = (0..self.batch.records.len()).filter(|index| !self.left_out.contains(index));
        places.map(|index| Refusal { index, why: why.to_owned() }).collect()
    }
}
