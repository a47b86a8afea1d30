//! Vectors of a space made from what users did, by [`engine::lookalike::factors`].
//!
//! Events are read twice, of one snapshot: first in any order, for a sample to learn items from; then user by user, who become vectors
//! one after the other, so that no more is held than the sample, the items and a batch. All vectors of the space are of one
//! factorisation when it is over: those of two cannot be compared. So users whose vector is not made anew lose the one they had.
//!
//! Nothing is remembered of a run that was ended early: run again it begins again, and whatever it wrote is replaced.

use super::pace::Pacer;
use super::rows::BatchSize;
use super::run::{CHECKPOINT_BATCH_BYTES, PROGRESS_INTERVAL};
use super::{BackfillError, BackfillReport, Pace, Step, unknown};
use engine::catalog::{Catalog, Space};
use engine::error::ReadError;
use engine::ids::{TagId, shard_of};
use engine::lookalike::factors::sample::{ENTRIES_MAX, Sample};
use engine::lookalike::factors::{Deal, FactorError, Factors, Learned, Setting};
use engine::store::{Snapshot, Store, VectorsError, WriteError};
use engine::update::{Change, UpdateBatch};
use roaring::RoaringBitmap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Decides which users are learned from, and where learning begins: the same events give the same vectors.
const RANDOM_SEED: u64 = 1;
/// Deals of one user that are held, unless there are more items: of a user with more events they are added up on the way.
const DEALS_MAX: usize = 1 << 20;

/// Which space, and of what.
#[derive(Clone, Debug)]
pub struct FactorJob {
    /// The job's name, for messages.
    pub name: String,
    /// The space whose vectors are made.
    pub space: String,
    /// The fact whose events they are made of.
    pub fact: String,
    /// Reads the events that count.
    pub events: Arc<dyn EventReader>,
}

/// What a user did once.
#[derive(Clone, Copy, Debug)]
pub struct EventOf<'a> {
    /// Who.
    pub user: &'a [u8],
    /// With what: any bytes, the same ones for the same item.
    pub item: &'a [u8],
    /// How much; below zero if it takes back.
    pub weight: f64,
}

/// In which order events are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOrder {
    /// Whichever is fastest.
    Any,
    /// All events of a user behind each other.
    ByUser,
}

/// Why events cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsError {
    /// The caller gave up.
    Cancelled,
    /// In a sentence for people.
    Failed(String),
}

/// Reads the events of a fact.
pub trait EventReader: Debug + Send + Sync {
    /// Begins to read those that a snapshot shows.
    ///
    /// # Errors
    /// [`EventsError`].
    fn read(
        &self,
        snapshot: &Snapshot,
        order: EventOrder,
        cancel: &AtomicBool,
    ) -> Result<Box<dyn EventRows>, EventsError>;
}

/// Events as they are read.
pub trait EventRows {
    /// Hands out the next ones and answers how many rows they were; `None` at the end.
    ///
    /// # Errors
    /// [`EventsError`].
    fn next(&mut self, cancel: &AtomicBool, take: &mut dyn FnMut(EventOf<'_>)) -> Result<Option<u64>, EventsError>;
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Made {
    /// What was learned from.
    pub learned: Learned,
    /// Users who have a vector now.
    pub vectors: u64,
    /// Users with events none of whose items counts.
    pub without: u64,
    /// Users whose vector was taken away.
    pub removed: u64,
}

/// Makes the vectors in the calling thread, checkpointing on the way. When it returns, all is durable and visible.
///
/// # Errors
/// See [`BackfillError`]. What was checkpointed stays; run again it begins again.
pub fn factorise(
    store: &Store,
    job: &FactorJob,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&BackfillReport),
) -> Result<BackfillReport, BackfillError> {
    let report = Run::begin(store, job, None, cancel, on_progress)?.run()?;
    store.checkpoint()?;
    while store.compact()?.is_some() {}
    Ok(report)
}

/// The same beside live writes, as [`super::run_beside`] does it.
///
/// # Errors
/// As [`factorise`].
pub fn factorise_beside(
    store: &Store,
    job: &FactorJob,
    pace: Pace,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&BackfillReport),
) -> Result<BackfillReport, BackfillError> {
    let report = Run::begin(store, job, Some(pace), cancel, on_progress)?.run()?;
    store.checkpoint()?;
    Ok(report)
}

struct Run<'a> {
    store: &'a Store,
    job: &'a FactorJob,
    cancel: &'a AtomicBool,
    on_progress: &'a mut dyn FnMut(&BackfillReport),
    told_at: Instant,
    snapshot: Snapshot,
    space: Space,
    fact: TagId,
    report: BackfillReport,
    size: BatchSize,
    pacer: Option<Pacer<'a>>,
    batch: UpdateBatch,
    /// Rows that were read since the last batch was written.
    batch_rows: u64,
    unsaved_bytes: usize,
    /// Users with a vector that was not made anew yet, a bitmap a shard.
    outdated: Vec<RoaringBitmap>,
}

impl<'a> Run<'a> {
    fn begin(
        store: &'a Store,
        job: &'a FactorJob,
        pace: Option<Pace>,
        cancel: &'a AtomicBool,
        on_progress: &'a mut dyn FnMut(&BackfillReport),
    ) -> Result<Run<'a>, BackfillError> {
        // What was written just now counts, too.
        store.publish()?;
        let snapshot = store.snapshot();
        let (space, fact) = declared(job, snapshot.catalog())?;
        let vectors = snapshot.vectors(&space, cancel).map_err(|error| match error {
            VectorsError::Cancelled => BackfillError::Cancelled { job: job.name.clone() },
            VectorsError::Read(error) => unreadable(job, &error),
        })?;
        let outdated = vectors.present().to_vec();
        let size = pace.as_ref().map_or_else(BatchSize::default, Pace::batch_size);
        let pacer = pace.map(|pace| Pacer::new(store, pace, cancel));
        Ok(Run {
            store,
            job,
            cancel,
            on_progress,
            told_at: Instant::now(),
            snapshot,
            space,
            fact,
            report: BackfillReport::default(),
            size,
            pacer,
            batch: UpdateBatch::new(),
            batch_rows: 0,
            unsaved_bytes: 0,
            outdated,
        })
    }

    fn run(mut self) -> Result<BackfillReport, BackfillError> {
        let sample = self.gather()?;
        self.step(Step::Learning);
        let setting =
            Setting { dimension: self.space.dimension.into(), random_seed: RANDOM_SEED, cancelled: self.cancel };
        let factors = Factors::learn(&setting, sample).map_err(|error| self.not_learned(&error))?;
        let made = Made { learned: *factors.learned(), vectors: 0, without: 0, removed: 0 };
        self.report.made = Some(made);
        self.step(Step::Writing);
        self.fold_in(&factors)?;
        self.take_away()?;
        self.write()?;
        // The numbers are those of a run that came to its end.
        (self.on_progress)(&self.report);
        Ok(self.report)
    }

    /// The first reading.
    fn gather(&mut self) -> Result<Sample, BackfillError> {
        self.step(Step::Reading);
        let mut sample = Sample::new(ENTRIES_MAX, RANDOM_SEED);
        let mut rows = self.read(EventOrder::Any)?;
        let mut count = 0;
        while let Some(more) = self.more(&mut *rows, &mut |event| sample.add(event.user, event.item, event.weight))? {
            count += more;
            self.report.progress.rows_total = Some(count);
            self.tell();
        }
        if count == 0 {
            return Err(self.wrong(format!(
                "no event of `{}` counts: look at `within` and `where`, and whether the columns of `item` and `weight` have values",
                self.job.fact
            )));
        }
        Ok(sample)
    }

    /// The second reading: a vector a user.
    fn fold_in(&mut self, factors: &Factors) -> Result<(), BackfillError> {
        let mut rows = self.read(EventOrder::ByUser)?;
        let mut last = UserDeals::default();
        let deals_max = DEALS_MAX.max(2 * factors.learned().items);
        let mut vector = vec![0.0; self.space.dimension.into()];
        loop {
            let mut done: Vec<UserDeals> = Vec::new();
            let more = self.more(&mut *rows, &mut |event| {
                if last.user != event.user {
                    let next = UserDeals { user: event.user.to_vec(), deals: Vec::new() };
                    done.push(std::mem::replace(&mut last, next));
                }
                if let Some(item) = factors.item(event.item) {
                    last.push(Deal { item, weight: event.weight }, deals_max);
                }
            })?;
            if more.is_none() {
                done.push(std::mem::take(&mut last));
            }
            self.batch_rows += more.unwrap_or_default();
            for user in done.into_iter().filter(|user| !user.user.is_empty()) {
                self.fold_in_user(factors, user, &mut vector)?;
            }
            let Some(more) = more else { return Ok(()) };
            self.report.progress.rows_done += more;
            self.tell();
        }
    }

    fn fold_in_user(
        &mut self,
        factors: &Factors,
        mut user: UserDeals,
        vector: &mut [f32],
    ) -> Result<(), BackfillError> {
        let has_one = factors.vector(&mut user.deals, vector) && self.space.check(vector).is_ok();
        if let Some(made) = &mut self.report.made {
            made.vectors += u64::from(has_one);
            made.without += u64::from(!has_one);
        }
        if !has_one {
            return Ok(());
        }
        self.report.progress.values += 1;
        self.batch.begin_user(&user.user);
        self.batch.push_vector(self.space.id, vector);
        self.keep(&user.user)?;
        self.write_if_full()
    }

    /// The user's vector is not outdated any more.
    fn keep(&mut self, user: &[u8]) -> Result<(), BackfillError> {
        let shards = self.snapshot.shards();
        let shard = usize::from(shard_of(user, shards.len() as u16).0);
        if !self.outdated[shard].is_empty() {
            let slot = shards[shard].slot_of(user).map_err(|error| unreadable(self.job, &error))?;
            if let Some(slot) = slot {
                self.outdated[shard].remove(slot);
            }
        }
        Ok(())
    }

    /// Takes the vectors away that were not made anew.
    fn take_away(&mut self) -> Result<(), BackfillError> {
        let snapshot = self.snapshot.clone();
        for (shard, outdated) in std::mem::take(&mut self.outdated).into_iter().enumerate() {
            for slot in outdated {
                let mut user = Vec::new();
                let known = snapshot.shards()[shard].user_id(slot, &mut user);
                if !known.map_err(|error| unreadable(self.job, &error))? {
                    continue;
                }
                self.batch.begin_user(&user);
                self.batch.push(self.space.id, Change::Unset);
                if let Some(made) = &mut self.report.made {
                    made.removed += 1;
                }
                self.write_if_full()?;
            }
        }
        Ok(())
    }

    fn write_if_full(&mut self) -> Result<(), BackfillError> {
        let is_full = self.batch.as_bytes().len() >= self.size.bytes || self.batch_rows >= self.size.rows;
        if is_full { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), BackfillError> {
        self.look()?;
        if self.batch.is_empty() {
            return Ok(());
        }
        self.still_declared()?;
        let (bytes, began) = (self.batch.as_bytes().len(), Instant::now());
        let made_by = self.snapshot.shared_catalog();
        let written = self.store.write_replayable_noting(&self.batch, &[], Some(&made_by));
        written.map_err(|error| match error {
            WriteError::Dropped { .. } => self.dropped(format!("the vector space `{}`", self.job.space)),
            error => error.into(),
        })?;
        let took = began.elapsed();
        self.batch.clear();
        let rows = std::mem::take(&mut self.batch_rows);
        match &mut self.pacer {
            Some(pacer) => pacer.rest(rows, bytes, took),
            None => {
                self.unsaved_bytes += bytes;
                if self.unsaved_bytes >= CHECKPOINT_BATCH_BYTES {
                    self.unsaved_bytes = 0;
                    self.store.checkpoint()?;
                }
            }
        }
        Ok(())
    }

    /// Vectors of events that are gone are of no use.
    fn still_declared(&self) -> Result<(), BackfillError> {
        let (now, name) = (self.store.snapshot(), &self.job.fact);
        if now.catalog().fact(name).map(|fact| fact.id) != Some(self.fact) {
            return Err(self.dropped(format!("the fact `{name}`")));
        }
        Ok(())
    }

    fn dropped(&self, what: String) -> BackfillError {
        BackfillError::Dropped { job: self.job.name.clone(), what }
    }

    fn read(&self, order: EventOrder) -> Result<Box<dyn EventRows>, BackfillError> {
        self.job.events.read(&self.snapshot, order, self.cancel).map_err(|error| self.not_read(error))
    }

    fn more(&self, rows: &mut dyn EventRows, take: &mut dyn FnMut(EventOf<'_>)) -> Result<Option<u64>, BackfillError> {
        self.look()?;
        rows.next(self.cancel, take).map_err(|error| self.not_read(error))
    }

    fn look(&self) -> Result<(), BackfillError> {
        if self.cancel.load(Ordering::Relaxed) { Err(self.cancelled()) } else { Ok(()) }
    }

    fn step(&mut self, step: Step) {
        self.report.progress.step = Some(step);
        (self.on_progress)(&self.report);
    }

    fn tell(&mut self) {
        if self.told_at.elapsed() >= PROGRESS_INTERVAL {
            self.told_at = Instant::now();
            (self.on_progress)(&self.report);
        }
    }

    fn wrong(&self, what: String) -> BackfillError {
        BackfillError::Job { job: self.job.name.clone(), what }
    }

    fn cancelled(&self) -> BackfillError {
        BackfillError::Cancelled { job: self.job.name.clone() }
    }

    fn not_read(&self, error: EventsError) -> BackfillError {
        match error {
            EventsError::Cancelled => self.cancelled(),
            EventsError::Failed(what) => self.wrong(format!("the events of `{}`: {what}", self.job.fact)),
        }
    }

    fn not_learned(&self, error: &FactorError) -> BackfillError {
        let FactorJob { fact, space, .. } = self.job;
        match error {
            FactorError::Cancelled => self.cancelled(),
            FactorError::Empty => self.wrong(format!(
                "nobody has an item of `{fact}` with a weight above zero, once what was taken back is subtracted"
            )),
            FactorError::Dimension { wanted, rank, items, users } => self.wrong(format!(
                "{users} users and {items} items of `{fact}` carry no more than {rank} numbers a user, and the space `{space}` has \
                 {wanted}: declare a space with `dimension: {rank}` or less, or tell items apart by more columns in `item`"
            )),
        }
    }
}

/// A user and what is known of the user's events.
#[derive(Debug, Default)]
struct UserDeals {
    user: Vec<u8>,
    deals: Vec<Deal>,
}

impl UserDeals {
    /// Adds one, and adds up what is there where it has become `most` of them, which are more than there are items.
    fn push(&mut self, deal: Deal, most: usize) {
        if self.deals.len() >= most {
            Deal::add_up(&mut self.deals);
        }
        self.deals.push(deal);
    }
}

/// The space and the fact of a job.
fn declared(job: &FactorJob, catalog: &Catalog) -> Result<(Space, TagId), BackfillError> {
    let wrong = |what: String| BackfillError::Job { job: job.name.clone(), what };
    let space = catalog.space(&job.space);
    let space =
        space.ok_or_else(|| wrong(unknown("vector space", &job.space, catalog.spaces().map(|space| space.0))))?;
    let fact = catalog.fact(&job.fact);
    let fact = fact.ok_or_else(|| wrong(unknown("fact", &job.fact, catalog.facts().map(|fact| fact.0))))?;
    Ok((*space, fact.id))
}

fn unreadable(job: &FactorJob, error: &ReadError) -> BackfillError {
    BackfillError::Job { job: job.name.clone(), what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_user_with_many_events_few_deals_are_held() {
        let mut user = UserDeals::default();
        for nth in 0..10_000_u32 {
            user.push(Deal { item: nth % 3, weight: f64::from(nth % 5) - 1.0 }, 8);
            assert!(user.deals.len() <= 8, "{}", user.deals.len());
        }
        Deal::add_up(&mut user.deals);
        let sum = |item: u32| (0..10_000).filter(|nth| nth % 3 == item).map(|nth| f64::from(nth % 5) - 1.0).sum();
        assert_eq!(user.deals, [0, 1, 2].map(|item| Deal { item, weight: sum(item) }));
    }
}
