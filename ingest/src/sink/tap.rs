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
use engine::store::{Audience, Definition, FactRow, RowTap, Snapshot, TapMark};
use engine::vfs::Vfs;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Sinks whose queue the next pass opens if they have none.
    anew: BTreeSet<String>,
}

/// A declared sink.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub(super) name: String,
    /// Another number for a sink that was dropped and declared again.
    pub(super) life: TagId,
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

impl Sink {
    /// It cannot go on by itself.
    fn fail(&self, why: &str) {
        tracing::warn!(sink = self.name, why, "sink failed");
        self.told.change(|told| (told.state, told.error) = (SinkState::Failed, Some(why.to_owned())));
    }
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

    /// Brings the queues to what a snapshot has, as far as they have room; false if one of them is full and holds up. A sink that
    /// cannot begin, or go on with its queue, fails alone.
    ///
    /// # Errors
    /// The disk's, if rows could not be appended; the queue it happened to takes no more then.
    pub fn pass(&self, snapshot: &Snapshot) -> io::Result<bool> {
        let mut passing = lock(&self.passing);
        let is_newest = passing.newest.as_ref().is_none_or(|(epoch, _)| snapshot.epoch() >= *epoch);
        if is_newest {
            if passing.newest.is_none() {
                self.remove_undeclared(snapshot.catalog());
            }
            let anew = std::mem::take(&mut passing.anew);
            self.declare(snapshot, &anew);
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

    /// The next pass opens the queue of a sink that has none, because it was damaged or could not begin.
    pub(super) fn open_anew(&self, name: &str) {
        lock(&self.passing).anew.insert(name.to_owned());
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

    /// Removes the queues of sinks that were dropped when nobody looked.
    fn remove_undeclared(&self, catalog: &Catalog) {
        let names = self.vfs.list(&self.folder).unwrap_or_else(|error| {
            tracing::warn!(folder = %self.folder.display(), %error, "the queues of sinks cannot be listed");
            Vec::new()
        });
        for name in names.into_iter().filter(|name| catalog.sink(name).is_none()) {
            self.remove_folder(&name);
        }
    }

    /// What cannot be removed is of a life that is over, so it is in nobody's way.
    fn remove_folder(&self, name: &str) {
        if let Err(error) = clear(&*self.vfs, &self.folder.join(name)) {
            tracing::warn!(sink = name, %error, "what is left of a sink that was dropped cannot be removed from the data directory");
        }
    }

    /// Brings the sinks to those of a snapshot's catalog; those in `anew` that have no queue open it.
    fn declare(&self, snapshot: &Snapshot, anew: &BTreeSet<String>) {
        let catalog = snapshot.catalog();
        let is_gone = |sink: &Sink| catalog.sink(&sink.name).is_none_or(|declared| declared.life != sink.life);
        let gone: Vec<Arc<Sink>> =
            lock(&self.sinks).extract_if(.., |_, sink| is_gone(sink)).map(|(_, sink)| sink).collect();
        for sink in gone {
            if let Some(queue) = &sink.queue {
                queue.leave();
            }
            self.remove_folder(&sink.name);
        }
        for (name, declared) in catalog.sinks() {
            let known = lock(&self.sinks).get(name).cloned();
            let stays = |sink: &Sink| {
                let is_anew = sink.queue.is_none() && anew.contains(name);
                sink.text == declared.definition && sink.wanted == declared.wanted && !is_anew
            };
            if known.as_deref().is_some_and(stays) {
                continue;
            }
            let sink = self.sink_of(name, declared, known.as_deref(), snapshot);
            lock(&self.sinks).insert(name.to_owned(), Arc::new(sink));
        }
    }

    /// A sink as it is declared now; it goes on with the queue that it has.
    fn sink_of(&self, name: &str, declared: &engine::catalog::Sink, known: Option<&Sink>, snapshot: &Snapshot) -> Sink {
        let mut sink = Sink {
            name: name.to_owned(),
            life: declared.life,
            text: declared.definition.clone(),
            wanted: declared.wanted,
            queue: known.and_then(|known| known.queue.clone()),
            told: known.map_or_else(Arc::default, |known| known.told.clone()),
            burying: known.map_or_else(Arc::default, |known| known.burying.clone()),
            definition: (self.read)(name, &declared.definition),
        };
        let state = match declared.wanted {
            Wanted::Running => SinkState::Starting,
            Wanted::Paused => SinkState::Paused,
            Wanted::Stopped => SinkState::Stopped,
        };
        sink.told.change(|told| (told.state, told.error, told.is_full) = (state, None, false));
        let definition = match &sink.definition {
            Ok(definition) => definition,
            Err(why) => {
                sink.fail(why);
                return sink;
            }
        };
        if sink.queue.is_none() {
            match self.open(name, declared, definition, snapshot) {
                Ok(queue) => sink.queue = queue.map(Arc::new),
                // It is the sink's affair and holds up nobody else.
                Err(error) => {
                    sink.fail(&error.to_string());
                    return sink;
                }
            }
        }
        let was_stopped = known.is_some_and(|known| known.wanted == Wanted::Stopped);
        if let Some(queue) = sink.queue.clone()
            && let Err(error) = turn(&queue, definition, declared.wanted, was_stopped, snapshot)
        {
            sink.fail(&format!("its queue: {error}"));
            if declared.wanted != Wanted::Stopped {
                queue.leave();
                sink.queue = None;
            }
        }
        sink
    }

    /// Opens the queue of a sink, or begins it; one that is declared and stopped does not begin.
    fn open(
        &self,
        name: &str,
        declared: &engine::catalog::Sink,
        definition: &SinkDefinition,
        snapshot: &Snapshot,
    ) -> Result<Option<Queue>, QueueError> {
        let folder = self.folder.join(name);
        let bytes_max = definition.queue_bytes;
        let place = QueuePlace { vfs: &self.vfs, folder: &folder, name, life: declared.life, bytes_max };
        let known = Queue::open(&place)?;
        let Some((_, fact)) = definition.takes.fact(snapshot.catalog()) else { return Ok(known) };
        if known.is_some() || declared.wanted == Wanted::Stopped {
            return Ok(known);
        }
        let id = std::hash::RandomState::new().build_hasher().finish();
        let (now, next) = (self.clock.now(), snapshot.next_row(fact.id));
        let begun = Queue::begin(&place, id, (fact.id, next), now, |records| {
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

    /// A sink goes on without its queue, which it may open again.
    fn set_aside(&self, sink: &Sink, queue: &Queue, why: &str) {
        queue.leave();
        sink.fail(why);
        lock(&self.sinks).insert(sink.name.clone(), Arc::new(Sink { queue: None, ..sink.clone() }));
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
        if queue.fact() != fact.id {
            // It took another fact before, and nothing of this one.
            if is_newest && let Err(error) = queue.skip_to(fact.id, snapshot.next_row(fact.id)) {
                self.set_aside(sink, queue, &format!("its queue: {error}"));
            }
            return Ok(true);
        }
        let mut next = queue.next_row(fact.id).unwrap_or_default();
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
        // Who was erased meanwhile is told of no more.
        let is_left = |row: &FactRow<'_>| snapshot.shows(row.shard, row.slot);
        for (number, row) in rows.filter(|(number, row)| *number >= next && is_left(row)) {
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

/// Brings a queue to what its sink is to do.
fn turn(
    queue: &Queue,
    definition: &SinkDefinition,
    wanted: Wanted,
    was_stopped: bool,
    snapshot: &Snapshot,
) -> io::Result<()> {
    if wanted != Wanted::Stopped
        && (queue.is_stopped() || was_stopped)
        && let Some((_, fact)) = definition.takes.fact(snapshot.catalog())
    {
        queue.skip_to(fact.id, snapshot.next_row(fact.id))?;
    }
    queue.set_stopped(wanted == Wanted::Stopped)
}

impl RowTap for SinkQueues {
    fn take(&self, snapshot: &Snapshot) -> io::Result<()> {
        while !self.pass(snapshot)? {
            std::thread::sleep(ROOM_LOOK);
        }
        Ok(())
    }

    fn mark(&self, snapshot: &Snapshot) -> io::Result<TapMark> {
        // Where nobody delivers, the queues are opened by this.
        self.pass(snapshot)?;
        let mut mark = TapMark::default();
        for queue in self.sinks().iter().filter_map(|sink| sink.queue.as_ref()) {
            mark.0.insert(queue.id(), queue.turn_over()?);
        }
        Ok(mark)
    }

    fn let_go(&self, mark: &TapMark) -> io::Result<()> {
        for sink in self.sinks() {
            let left = |why: &str| {
                let name = &sink.name;
                io::Error::other(format!(
                    "sink `{name}` has records in its queue that may be about users who were erased ({why}); let it deliver \
                     them, or drop it"
                ))
            };
            let Some(queue) = &sink.queue else {
                if self.vfs.list(&self.folder.join(&sink.name))?.iter().any(|file| file.ends_with(".queue")) {
                    return Err(left("the queue is not open"));
                }
                continue;
            };
            // One that began since has taken no row of theirs.
            let Some(mark) = mark.0.get(&queue.id()) else { continue };
            if !queue.has_let_go(*mark).map_err(io::Error::other)? {
                return Err(left("they are not delivered"));
            }
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
