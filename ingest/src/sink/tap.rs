//! Taking rows: from the store's snapshots to the queues of the sinks.
//!
//! A pass brings the queues to what a snapshot has: sinks that are new in its catalog begin, those that are gone are removed, and
//! the rows that each wants and does not have are appended. Who keeps the sinks makes a pass after each publish; a checkpoint
//! makes one before it forgets rows, and then waits until all queues had room for all rows.

use super::definition::{Initial, SinkDefinition, Takes, WhenFull};
use super::queue::{BlockBuilder, InitialRecords, Queue, QueueError, QueuePlace, Record, clear};
use super::record::{self, AudienceChange};
use super::report::{SinkReport, SinkState, Told};
use engine::audience::ops::{self, QueryContext};
use engine::audience::predicate::Predicate;
use engine::catalog::{Catalog, Wanted};
use engine::clock::Clock;
use engine::ids::{Epoch, TagId};
use engine::store::{Audience, Definition, FactRow, RowTap, Snapshot};
use engine::vfs::Vfs;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a checkpoint looks whether a full queue has room.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// Members of an audience that are read at a time.
const MEMBERS_PAGE: usize = 10_000;

/// What the definition of a sink means: its name and its text to a definition, or why it means nothing.
pub type ReadDefinition = dyn Fn(&str, &str) -> Result<SinkDefinition, String> + Send + Sync;

/// The queues of all sinks of a store, which takes rows by them: see [`RowTap`].
pub struct SinkQueues {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    read: Box<ReadDefinition>,
    /// Held during a pass.
    passing: Mutex<Passing>,
    sinks: Mutex<BTreeMap<String, Arc<Sink>>>,
    /// Queues take whatever comes, because the server ends.
    is_unbounded: AtomicBool,
}

/// What passes remember.
#[derive(Default)]
struct Passing {
    /// The newest snapshot seen, and its catalog. An older one brings no sinks and removes none.
    newest: Option<(Epoch, Arc<Catalog>)>,
}

/// A declared sink.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) name: String,
    /// The text of its definition.
    pub(super) text: String,
    pub(super) definition: Result<SinkDefinition, String>,
    pub(super) wanted: Wanted,
    /// `None` if it has not begun, or cannot.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) told: Arc<Told>,
    /// Writing its dead letters, which may have to wait for a checkpoint, which then must not wait for this queue.
    pub(super) burying: Arc<AtomicUsize>,
}

impl std::fmt::Debug for SinkQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkQueues").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of what is behind these locks is a single step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SinkQueues {
    /// Queues in folders within `folder`, one for each sink.
    pub fn new(vfs: Arc<dyn Vfs>, folder: &Path, clock: Arc<dyn Clock>, read: Box<ReadDefinition>) -> SinkQueues {
        SinkQueues {
            vfs,
            folder: folder.to_owned(),
            clock,
            read,
            passing: Mutex::default(),
            sinks: Mutex::default(),
            is_unbounded: AtomicBool::new(false),
        }
    }

    /// From now on no queue is full: a server that ends does not wait for other sides.
    pub fn lift_bounds(&self) {
        self.is_unbounded.store(true, Ordering::Relaxed);
    }

    /// Brings the queues to what a snapshot has, as far as they have room; false if one of them is full and holds up.
    ///
    /// # Errors
    /// The disk's; the queue it happened to takes no more then.
    pub fn pass(&self, snapshot: &Snapshot) -> io::Result<bool> {
        let mut passing = lock(&self.passing);
        let is_newest = passing.newest.as_ref().is_none_or(|(epoch, _)| snapshot.epoch() >= *epoch);
        if is_newest {
            let is_first = passing.newest.is_none();
            self.declare(snapshot, is_first)?;
            passing.newest = Some((snapshot.epoch(), snapshot.shared_catalog()));
        }
        let mut has_room = true;
        for sink in self.sinks() {
            if let (Some(queue), Ok(definition)) = (&sink.queue, &sink.definition)
                && sink.wanted != Wanted::Stopped
            {
                has_room &= self.take_rows(&sink, queue, definition, snapshot, is_newest)?;
            }
        }
        Ok(has_room)
    }

    /// The sinks, by name.
    pub(super) fn sinks(&self) -> Vec<Arc<Sink>> {
        lock(&self.sinks).values().cloned().collect()
    }

    /// How a sink is.
    pub fn report(&self, name: &str) -> Option<SinkReport> {
        let sink = lock(&self.sinks).get(name).cloned();
        sink.map(|sink| sink.told.report(sink.queue.as_deref()))
    }

    /// How all sinks are, by name.
    pub fn reports(&self) -> Vec<(String, SinkReport)> {
        let report = |sink: Arc<Sink>| (sink.name.clone(), sink.told.report(sink.queue.as_deref()));
        self.sinks().into_iter().map(report).collect()
    }

    /// Brings the sinks to those of a snapshot's catalog.
    fn declare(&self, snapshot: &Snapshot, is_first: bool) -> io::Result<()> {
        let catalog = snapshot.catalog();
        if is_first {
            for name in self.vfs.list(&self.folder)? {
                if catalog.sink(&name).is_none() {
                    // Of a sink that was dropped when nobody looked.
                    clear(&*self.vfs, &self.folder.join(name))?;
                }
            }
        }
        let gone: Vec<Arc<Sink>> =
            lock(&self.sinks).extract_if(.., |name, _| catalog.sink(name).is_none()).map(|(_, sink)| sink).collect();
        for sink in gone {
            if let Some(queue) = &sink.queue {
                queue.remove()?;
            }
        }
        for (name, declared) in catalog.sinks() {
            let known = lock(&self.sinks).get(name).cloned();
            let is_same = |sink: &Sink| sink.text == declared.definition && sink.wanted == declared.wanted;
            if known.as_deref().is_some_and(is_same) {
                continue;
            }
            let sink = self.sink_of(name, declared, known.as_deref(), snapshot)?;
            lock(&self.sinks).insert(name.to_owned(), Arc::new(sink));
        }
        Ok(())
    }

    /// A sink as it is declared now; it goes on with the queue that it has.
    fn sink_of(
        &self,
        name: &str,
        declared: &engine::catalog::Sink,
        known: Option<&Sink>,
        snapshot: &Snapshot,
    ) -> io::Result<Sink> {
        let definition = (self.read)(name, &declared.definition);
        let mut sink = Sink {
            name: name.to_owned(),
            text: declared.definition.clone(),
            wanted: declared.wanted,
            queue: known.and_then(|known| known.queue.clone()),
            told: known.map_or_else(Arc::default, |known| known.told.clone()),
            burying: known.map_or_else(Arc::default, |known| known.burying.clone()),
            definition,
        };
        let state = match declared.wanted {
            Wanted::Running => SinkState::Starting,
            Wanted::Paused => SinkState::Paused,
            Wanted::Stopped => SinkState::Stopped,
        };
        sink.told.change(|told| (told.state, told.error, told.is_full) = (state, None, false));
        let failed =
            |why: &str| sink.told.change(|told| (told.state, told.error) = (SinkState::Failed, Some(why.to_owned())));
        let definition = match &sink.definition {
            Ok(definition) => definition,
            Err(why) => {
                failed(why);
                return Ok(sink);
            }
        };
        if sink.queue.is_none() {
            match self.open(name, definition, declared.wanted, snapshot) {
                Ok(queue) => sink.queue = queue.map(Arc::new),
                // Damage is the sink's affair and holds up nobody else.
                Err(error @ (QueueError::Damaged { .. } | QueueError::Missing { .. })) => {
                    failed(&error.to_string());
                    return Ok(sink);
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        if let Some(queue) = &sink.queue {
            if declared.wanted != Wanted::Stopped
                && queue.is_stopped()
                && let Some((_, fact)) = definition.takes.fact(snapshot.catalog())
            {
                queue.skip_to(fact.id, snapshot.next_row(fact.id))?;
            }
            queue.set_stopped(declared.wanted == Wanted::Stopped)?;
        }
        Ok(sink)
    }

    /// Opens the queue of a sink, or begins it; one that is declared and stopped does not begin.
    fn open(
        &self,
        name: &str,
        definition: &SinkDefinition,
        wanted: Wanted,
        snapshot: &Snapshot,
    ) -> Result<Option<Queue>, QueueError> {
        let folder = self.folder.join(name);
        let place = QueuePlace { vfs: &self.vfs, folder: &folder, name, bytes_max: definition.queue_bytes };
        let known = Queue::open(&place)?;
        let Some((_, fact)) = definition.takes.fact(snapshot.catalog()) else { return Ok(known) };
        if known.is_some() || wanted == Wanted::Stopped {
            return Ok(known);
        }
        let next_rows = BTreeMap::from([(fact.id, snapshot.next_row(fact.id))]);
        let id = std::hash::RandomState::new().build_hasher().finish();
        let (now, next) = (self.clock.now(), snapshot.next_row(fact.id));
        let begun = Queue::begin(&place, id, next_rows, now, |records| {
            if definition.initial == Initial::Members {
                push_members(snapshot, &definition.takes, next, now, records)
            } else {
                Ok(())
            }
        });
        let failed =
            |error| QueueError::Disk { verb: format!("begin the queue of sink `{name}`"), error: Arc::new(error) };
        begun.map(Some).map_err(failed)
    }

    /// Appends the rows that a sink wants and does not have; false if its queue is full and holds up.
    fn take_rows(
        &self,
        sink: &Sink,
        queue: &Queue,
        definition: &SinkDefinition,
        snapshot: &Snapshot,
        is_newest: bool,
    ) -> io::Result<bool> {
        let Some((name, fact)) = definition.takes.fact(snapshot.catalog()) else { return Ok(true) };
        let Some(mut next) = queue.next_row(fact.id) else {
            // It took another fact before.
            return if is_newest {
                queue.skip_to(fact.id, snapshot.next_row(fact.id)).map(|()| true)
            } else {
                Ok(true)
            };
        };
        let taker = Taker {
            takes: &definition.takes,
            fact: (fact.id, name),
            columns: record::columns(snapshot.catalog(), fact.id),
        };
        let now = self.clock.now();
        let (bounded, block_bytes) = (queue.bounded_bytes(), queue.block_bytes());
        let is_bounded = !self.is_unbounded.load(Ordering::Relaxed) && sink.burying.load(Ordering::Relaxed) == 0;
        let mut appended = 0;
        let mut builder = BlockBuilder::default();
        let (mut dropped, mut was_full, mut json) = (0, false, String::new());
        let logs = snapshot.recent_rows(fact.id).iter().filter(|log| log.numbers().end > next);
        let rows = logs.flat_map(|log| log.numbered());
        for (number, row) in rows.filter(|(number, _)| *number >= next) {
            json.clear();
            if !taker.write(number, &row, &mut json) {
                continue;
            }
            let is_full = is_bounded && bounded + appended + builder.size_bytes() as u64 >= definition.queue_bytes;
            was_full |= is_full;
            if is_full && definition.when_full == WhenFull::Drop {
                dropped += 1;
                continue;
            }
            if is_full {
                next = number;
                break;
            }
            let id = record::id_of(name, number);
            builder.push(&Record { row: Some((fact.id, number)), id: &id, user_id: row.user_id, json: &json });
            if builder.size_bytes() >= block_bytes {
                appended += builder.size_bytes() as u64;
                queue.append(&mut builder, now)?;
            }
        }
        queue.append(&mut builder, now)?;
        queue.commit()?;
        let holds_up = was_full && definition.when_full == WhenFull::Wait;
        queue.passed(fact.id, if holds_up { next } else { snapshot.next_row(fact.id) });
        sink.told.change(|told| {
            told.is_full = was_full;
            told.dropped += dropped;
        });
        Ok(!holds_up)
    }
}

impl RowTap for SinkQueues {
    fn take(&self, snapshot: &Snapshot) -> io::Result<()> {
        while !self.pass(snapshot)? {
            std::thread::sleep(ROOM_LOOK);
        }
        Ok(())
    }
}

/// Makes records of the rows of a fact.
struct Taker<'a> {
    takes: &'a Takes,
    fact: (TagId, &'a str),
    columns: &'a [engine::catalog::Column],
}

impl Taker<'_> {
    /// Appends a row as JSON; false if the sink does not want it.
    fn write(&self, number: u64, row: &FactRow<'_>, json: &mut String) -> bool {
        let (_, name) = self.fact;
        if let Takes::Fact(_) = self.takes {
            if record::is_letter_of_a_sink(name, row) {
                return false;
            }
            record::write_event(&record::id_of(name, number), name, self.columns, row, json);
            return true;
        }
        let Some(change) = AudienceChange::of(row).filter(|change| self.takes.has_audience(change.audience)) else {
            return false;
        };
        change.write(&record::id_of(name, number), row.user_id, row.event.head.ts, false, json);
        true
    }
}

/// Tells the members that live audiences have in a snapshot, as users who enter before row `next`.
fn push_members(
    snapshot: &Snapshot,
    takes: &Takes,
    next: u64,
    now: i64,
    records: &mut InitialRecords<'_>,
) -> io::Result<()> {
    let is_live = |audience: &Audience| matches!(audience.definition, Definition::Live { .. });
    for (name, audience) in snapshot.audiences().iter().filter(|(name, _)| takes.has_audience(name)) {
        let Some(list_id) = audience.list_id().filter(|_| is_live(audience)) else { continue };
        let listed = Predicate::Listed(list_id.to_owned());
        let mut from = None;
        loop {
            let page = ops::members(snapshot, &listed, from, MEMBERS_PAGE, &QueryContext::default());
            let page = page.map_err(io::Error::other)?;
            for user_id in &page.users {
                let id = format!("audience_change@{next}/{name}/{user_id}");
                let mut json = String::new();
                AudienceChange { audience: name, change: "entered" }.write(&id, user_id, now, true, &mut json);
                records.push(&Record { row: None, id: &id, user_id, json: &json })?;
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(())
}
