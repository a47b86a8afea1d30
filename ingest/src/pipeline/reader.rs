//! The thread that polls a source, decodes what it brings and obeys commands.

use super::DeclaredSource;
use super::decoder::{REFUSED_SHOWN_MAX, RecordDecoder};
use super::definition::{Begin, SourceDefinition};
use super::report::{PartitionReport, Rate, SourceReport, SourceState};
use super::watermark::Watermarks;
use super::writer::{Applied, Work, write};
use crate::enrich::{Fate, Mark, Ready, Stage};
use crate::source::{Polled, RecordBatch, Source, SourceError, SourcePosition, Started};
use engine::catalog::Wanted;
use engine::catalog::source::offsets_prefix;
use engine::store::{Store, WriteError};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a poll waits for records; commands wait no longer than that.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// How long answers of look-ups are waited for before the source is polled again: with room for more records, and without.
const ANSWER_WAIT: Duration = Duration::from_millis(5);
const ANSWER_WAIT_FULL: Duration = Duration::from_millis(50);

/// Decoded updates that wait for the writer.
const WAITING_MAX: usize = 2;

/// How often the report is brought up to date and the other side told what is durable.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// How soon a report shows records that came.
const REPORT_SOON: Duration = Duration::from_millis(20);

/// Waits between attempts.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What a reader is told.
#[derive(Debug)]
pub(super) enum Command {
    Want(Wanted),
    /// Try again what could not go on by itself.
    Retry,
    /// The catalog has changed.
    Look,
    Rewind(Begin, SyncSender<Result<Vec<Started>, String>>),
    End,
}

/// What a reader shows.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<SourceReport>);

impl Shared {
    pub(super) fn report(&self) -> SourceReport {
        self.lock().clone()
    }

    /// A panic ended the thread; it was logged where it happened.
    pub(super) fn tell_panicked(&self) {
        let mut report = self.lock();
        report.state = SourceState::Failed;
        report.error = Some("an internal error ended it; the log says more, and `start` begins it anew".to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, SourceReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(super) struct Reader {
    name: String,
    store: Arc<Store>,
    definition: Result<SourceDefinition, String>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    wanted: Wanted,
    ending: bool,
    rewind: Option<Rewind>,
    halted: Option<Halted>,
    /// Why partitions could not be begun yet.
    cannot_begin: Option<String>,
    watermarks: Watermarks,
    rate: Rate,
    /// What was counted so far; shown together with how far the partitions are.
    counts: SourceReport,
}

struct Rewind {
    to: Begin,
    reply: SyncSender<Result<Vec<Started>, String>>,
}

/// How a session with a source ended without trouble.
enum SessionEnd {
    /// A command ended it.
    Told,
    /// The source is finite and was read.
    Finished,
}

/// Why a session ended.
enum Trouble {
    /// It may be over soon.
    Passing(String),
    /// Another catalog may help.
    Misfit(String),
    /// Somebody has to do something.
    Stuck(String),
}

/// Why nothing more happens by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Halted {
    /// Until the catalog changes.
    Misfit,
    /// Until it is told to try again.
    Stuck,
    Finished,
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable { .. } | SourceError::Fatal { .. } => Trouble::Passing(error.to_string()),
            SourceError::Invalid { .. } | SourceError::Missing(_) | SourceError::NotAssigned { .. } => {
                Trouble::Stuck(error.to_string())
            }
        }
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Trouble::Stuck(error.to_string())
    }
}

impl Reader {
    pub(super) fn new(
        store: Arc<Store>,
        source: &DeclaredSource,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Reader {
        Reader {
            name: source.name.clone(),
            store,
            definition: source.definition.clone(),
            commands,
            shared,
            wanted: source.wanted,
            ending: false,
            rewind: None,
            halted: None,
            cannot_begin: None,
            watermarks: Watermarks::default(),
            rate: Rate::default(),
            counts: SourceReport::default(),
        }
    }

    /// Until it is told to end.
    pub(super) fn run(mut self) {
        let definition = match self.definition.clone() {
            Ok(definition) => definition,
            Err(why) => return self.refuse_all(why),
        };
        // What was found by look-ups, and how their other sides are, outlives a session.
        let mut stage = match Stage::new(&definition.enrich) {
            Ok(stage) => stage,
            Err(why) => return self.refuse_all(why),
        };
        let mut wait = RETRY_FIRST;
        while !self.ending {
            if self.rewind.is_none() && (self.halted.is_some() || self.wanted == Wanted::Stopped) {
                if self.wanted == Wanted::Stopped {
                    self.halted = None;
                    self.tell(SourceState::Stopped, None);
                }
                self.obey_next(None);
                continue;
            }
            self.halted = None;
            let began = Instant::now();
            let ended = self.session(&definition, &mut stage);
            if began.elapsed() > RETRY_MAX {
                wait = RETRY_FIRST;
            }
            let why = match ended {
                Ok(SessionEnd::Told) => continue,
                Ok(SessionEnd::Finished) => {
                    self.halted = Some(Halted::Finished);
                    continue;
                }
                Err(trouble) => trouble,
            };
            if self.rewind.is_some() {
                // It goes on where it was.
                let (Trouble::Passing(why) | Trouble::Misfit(why) | Trouble::Stuck(why)) = why;
                self.answer_rewind(Err(why));
                continue;
            }
            match why {
                Trouble::Stuck(why) => self.halt(Halted::Stuck, why),
                Trouble::Misfit(why) => self.halt(Halted::Misfit, why),
                Trouble::Passing(why) => {
                    tracing::warn!(source = %self.name, %why, "the source is tried again");
                    self.tell(SourceState::Retrying, Some(why));
                    self.obey_next(Some(wait));
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// A definition that means nothing: only another one helps.
    fn refuse_all(mut self, why: String) {
        self.tell(SourceState::Failed, Some(why.clone()));
        while !self.ending {
            self.obey_next(None);
            self.answer_rewind(Err(why.clone()));
        }
    }

    fn halt(&mut self, halted: Halted, why: String) {
        tracing::error!(source = %self.name, %why, "the source stopped");
        self.tell(SourceState::Failed, Some(why));
        self.halted = Some(halted);
    }

    fn tell(&self, state: SourceState, error: Option<String>) {
        let mut report = self.shared.lock();
        let (watermark, partitions) = (report.watermark, std::mem::take(&mut report.partitions));
        *report = SourceReport { state, error, watermark, partitions, ..self.counts.clone() };
    }

    /// Waits for a command and takes it in.
    fn obey_next(&mut self, timeout: Option<Duration>) {
        let command = match timeout {
            Some(timeout) => self.commands.recv_timeout(timeout),
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match command {
            Ok(command) => drop(self.obey(command)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.ending = true,
        }
    }

    /// Takes in a command; true if a session must end for it.
    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Want(wanted) => {
                self.wanted = wanted;
                wanted == Wanted::Stopped
            }
            Command::Retry => {
                self.halted = None;
                false
            }
            Command::Look => {
                self.halted = self.halted.filter(|halted| *halted != Halted::Misfit);
                false
            }
            Command::Rewind(to, reply) => {
                self.answer_rewind(Err("another rewind came".to_owned()));
                self.rewind = Some(Rewind { to, reply });
                true
            }
            Command::End => {
                self.ending = true;
                true
            }
        }
    }

    /// Opens the source and reads it until something ends that; then everything that was read has been applied.
    fn session(&mut self, definition: &SourceDefinition, stage: &mut Stage) -> Result<SessionEnd, Trouble> {
        self.tell(SourceState::Starting, None);
        self.cannot_begin = None;
        let mut source = definition.connector.open(self.rewind.as_ref().map(|rewind| &rewind.to))?;
        let applied = Applied::default();
        let (send, work) = sync_channel(WAITING_MAX);
        let (name, store, gather) = (self.name.clone(), Arc::clone(&self.store), definition.gather);
        let ended = std::thread::scope(|scope| {
            let writer = std::thread::Builder::new().name(format!("writer-{name}"));
            let writing = writer.spawn_scoped(scope, || write(&name, &store, &{ work }, &applied, gather));
            writing.map_err(|error| Trouble::Passing(format!("start a thread: {error}")))?;
            // The writer ends when it has applied what was sent: `send` goes with this.
            self.read(definition, &mut *source, stage, &applied, send)
        });
        // Nothing of what still waits for look-ups was noted: it is read again.
        let gone = stage.forget();
        if let Some(failure) = applied.failure() {
            return Err(failure.into());
        }
        self.forget_partitions(&gone)?;
        self.confirm(&mut *source, &applied)?;
        ended
    }

    fn read(
        &mut self,
        definition: &SourceDefinition,
        source: &mut dyn Source,
        stage: &mut Stage,
        applied: &Applied,
        send: SyncSender<Work>,
    ) -> Result<SessionEnd, Trouble> {
        let mut decoder = RecordDecoder::new(self.name.clone(), definition.clone());
        let mut records = RecordBatch::new();
        let (mut reported, mut confirmed) = (None::<Instant>, Instant::now());
        // Records came since the last report.
        let mut is_behind = false;
        let mut paused = false;
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(command) => {
                        if self.obey(command) {
                            return Ok(SessionEnd::Told);
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.ending = true;
                        return Ok(SessionEnd::Told);
                    }
                }
            }
            if self.wanted == Wanted::Stopped && self.rewind.is_none() {
                return Ok(SessionEnd::Told);
            }
            if paused != (self.wanted == Wanted::Paused) {
                paused = !paused;
                if paused {
                    source.pause()
                } else {
                    source.resume()
                }
                reported = None;
            }
            is_behind |= self.release(&mut decoder, stage, &send)?;
            let timeout = if is_behind { REPORT_SOON } else { POLL_TIMEOUT };
            match poll(source, stage, &mut records, paused, timeout)? {
                Polled::Batch if stage.has_no_lookups() => {
                    self.take(&mut decoder, &records, &[], &send)?;
                    is_behind = true;
                }
                Polled::Batch => stage.push(&mut records),
                // What is left of such a partition has its turn first; this comes again.
                Polled::Assigned(partitions) if partitions.iter().any(|name| stage.has(name)) => {
                    stage.wait(ANSWER_WAIT_FULL);
                }
                Polled::Assigned(partitions) => self.begin(source, &partitions, &send)?,
                Polled::Revoked(revoked) if revoked.gone => stage.mark(Mark::Gone(revoked.partitions)),
                Polled::Revoked(revoked) => {
                    // Look-ups may take long; whoever gets the partition reads from what is noted.
                    stage.discard(&revoked.partitions);
                    drain(&send)?;
                    revoked.partitions.iter().for_each(|partition| self.watermarks.forget(partition));
                }
                Polled::Skipped(started) => stage.mark(Mark::Skipped(started)),
                Polled::Idle => {
                    if !stage.is_empty() {
                        stage.wait(if stage.has_room() { ANSWER_WAIT } else { ANSWER_WAIT_FULL });
                    }
                }
                Polled::End if !stage.is_empty() => stage.wait(ANSWER_WAIT_FULL),
                Polled::End => {
                    drain(&send)?;
                    self.report(definition, source, stage, SourceState::Finished);
                    return Ok(SessionEnd::Finished);
                }
            }
            if confirmed.elapsed() >= REPORT_INTERVAL {
                self.confirm(source, applied)?;
                confirmed = Instant::now();
            }
            let due = if is_behind { REPORT_SOON } else { REPORT_INTERVAL };
            if reported.is_none_or(|then| then.elapsed() >= due) {
                (reported, is_behind) = (Some(Instant::now()), false);
                self.report(definition, source, stage, if paused { SourceState::Paused } else { SourceState::Running });
            }
        }
    }

    /// There are no such partitions any more.
    fn forget_partitions(&mut self, partitions: &[Arc<str>]) -> Result<(), Trouble> {
        partitions.iter().for_each(|partition| self.watermarks.forget(partition));
        let prefix = offsets_prefix(&self.name);
        let keys: Vec<String> = partitions.iter().map(|partition| format!("{prefix}{partition}")).collect();
        if !keys.is_empty() {
            self.store.forget_sources(keys.iter().map(String::as_str))?;
        }
        Ok(())
    }

    /// Gives away what has been looked up; true if there were records.
    fn release(
        &mut self,
        decoder: &mut RecordDecoder,
        stage: &mut Stage,
        send: &SyncSender<Work>,
    ) -> Result<bool, Trouble> {
        let mut is_some = false;
        while let Some(ready) = stage.next() {
            match ready {
                Ready::Records(records, fates) => {
                    self.take(decoder, &records, &fates, send)?;
                    is_some = true;
                }
                Ready::Mark(Mark::Skipped(started)) => {
                    drain(send)?;
                    self.note_lost(&started);
                    self.store.set_source_offsets(&self.keyed(&started))?;
                }
                Ready::Mark(Mark::Gone(partitions)) => {
                    drain(send)?;
                    self.forget_partitions(&partitions)?;
                }
            }
        }
        Ok(is_some)
    }

    fn take(
        &mut self,
        decoder: &mut RecordDecoder,
        records: &RecordBatch,
        fates: &[Fate],
        send: &SyncSender<Work>,
    ) -> Result<(), Trouble> {
        decoder.refresh(&self.store).map_err(|error| Trouble::Misfit(error.to_string()))?;
        decoder.prepare(records).map_err(Trouble::Passing)?;
        let now = Instant::now();
        let outcome = decoder.decode(records, fates, |decoded| {
            if let Some(event_time) = decoded.event_time {
                self.watermarks.note(&decoded.partition, event_time, now);
            }
            send.send(Work::Apply(decoded)).map_err(|_| hung_up())
        })?;
        let report = &mut self.counts;
        report.records += records.len() as u64;
        report.bytes += records.size_bytes() as u64;
        report.refused += outcome.refused;
        report.filtered += outcome.filtered;
        report.empty += outcome.empty;
        report.refused_last.splice(..0, outcome.refused_last);
        report.refused_last.truncate(REFUSED_SHOWN_MAX);
        Ok(())
    }

    /// Begins reading partitions: where the store says, or where a rewind does.
    fn begin(
        &mut self,
        source: &mut dyn Source,
        partitions: &[Arc<str>],
        send: &SyncSender<Work>,
    ) -> Result<(), Trouble> {
        drain(send)?;
        let mut known = self.position();
        match &self.rewind {
            None => {}
            Some(Rewind { to: Begin::Offsets(offsets), .. }) => {
                if let Some((name, _)) = offsets.iter().find(|(name, _)| !partitions.iter().any(|own| **own == **name))
                {
                    let own: Vec<&str> = partitions.iter().take(20).map(|own| &**own).collect();
                    let why = format!("there is no partition `{name}`; there are {}", own.join(", "));
                    self.answer_rewind(Err(why));
                } else {
                    offsets.iter().for_each(|(name, offset)| known.set(name.as_str(), *offset));
                }
            }
            Some(_) => known = SourcePosition::new(),
        }
        let started = match source.start(&known) {
            Ok(started) => started,
            Err(error @ SourceError::Unavailable { .. }) => {
                // It is assigned again.
                self.cannot_begin = Some(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.cannot_begin = None;
        self.note_lost(&started);
        let before = self.position();
        let moved = |start: &&Started| before.get(&start.partition) != Some(start.offset);
        let moved: Vec<Started> = started.iter().filter(moved).cloned().collect();
        self.store.set_source_offsets(&self.keyed(&moved))?;
        self.answer_rewind(Ok(started));
        Ok(())
    }

    fn answer_rewind(&mut self, answer: Result<Vec<Started>, String>) {
        if let Some(rewind) = self.rewind.take() {
            // Nobody waits any more: it has taken too long.
            let _ = rewind.reply.send(answer);
        }
    }

    fn note_lost(&mut self, started: &[Started]) {
        for missing in started.iter().filter_map(|started| started.skipped.as_ref()) {
            tracing::warn!(source = %self.name, "{missing}; they were passed over");
            self.counts.lost += missing.lost().unwrap_or(0);
        }
    }

    /// Where the source goes on by what was applied.
    fn position(&self) -> SourcePosition {
        let prefix = offsets_prefix(&self.name);
        let mut position = SourcePosition::new();
        for (key, offset) in self.store.source_offsets(&prefix) {
            position.set(&key[prefix.len()..], offset);
        }
        position
    }

    fn keyed(&self, started: &[Started]) -> Vec<(String, u64)> {
        let prefix = offsets_prefix(&self.name);
        started.iter().map(|started| (format!("{prefix}{}", started.partition), started.offset)).collect()
    }

    /// Makes durable what was applied, and tells the other side.
    fn confirm(&self, source: &mut dyn Source, applied: &Applied) -> Result<(), Trouble> {
        let Some((position, lsn)) = applied.take() else { return Ok(()) };
        self.store.sync(lsn)?;
        source.commit(&position);
        Ok(())
    }

    fn report(&mut self, definition: &SourceDefinition, source: &dyn Source, stage: &Stage, state: SourceState) {
        let (now, idle_after) = (Instant::now(), definition.idle_after);
        let partitions = source.partitions().into_iter().map(|status| {
            let (watermark, idle) = self.watermarks.of(&status.partition, now, idle_after);
            PartitionReport {
                partition: status.partition,
                position: status.position,
                end: status.end,
                lag: status.lag,
                watermark,
                idle,
            }
        });
        let partitions = partitions.collect();
        self.counts.lookups = stage.reports();
        let waits = self.cannot_begin.clone().or_else(|| stage.trouble());
        let report = SourceReport {
            state: if waits.is_some() { SourceState::Retrying } else { state },
            error: waits.or_else(|| source.status().last_error),
            rate: self.rate.at(now, self.counts.records),
            watermark: self.watermarks.of_all(now, idle_after),
            partitions,
            ..self.counts.clone()
        };
        *self.shared.lock() = report;
    }
}

/// Polls. While records wait for look-ups it returns at once, and brings no more if there is no room for them; but the
/// other side must hear of us, and we of what it wants.
fn poll(
    source: &mut dyn Source,
    stage: &Stage,
    records: &mut RecordBatch,
    paused: bool,
    timeout: Duration,
) -> Result<Polled, SourceError> {
    if stage.is_empty() {
        return source.poll(records, timeout);
    }
    if paused || stage.has_room() {
        return source.poll(records, Duration::ZERO);
    }
    source.pause();
    let polled = source.poll(records, Duration::ZERO);
    source.resume();
    polled
}

/// Waits until everything that was sent has been applied.
fn drain(send: &SyncSender<Work>) -> Result<(), Trouble> {
    let (done, is_done) = sync_channel(1);
    send.send(Work::Barrier(done)).map_err(|_| hung_up())?;
    is_done.recv().map_err(|_| hung_up())
}

/// The writer ended; its reason is told instead of this.
fn hung_up() -> Trouble {
    Trouble::Stuck("the store takes no more writes".to_owned())
}
