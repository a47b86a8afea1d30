//! Files and folders as a source: NDJSON, CSV and Parquet, also files that grow.
//!
//! A file is a partition, named by its path as it was found. Offsets are bytes of the (unpacked) text, a record's that of
//! its last byte, or rows of a Parquet file; so they only rise, and a file that is appended to is read on from where it
//! was. A payload is always a JSON object; what cannot become one (a line too long, a row with cells missing) is
//! handed out as a few words that no decoder takes, so that it is refused and counted where all refusals are.
//!
//! Files are read one at a time, ordered by name, each to where it ended when its turn came, so one that grows without
//! end keeps nobody waiting. In a watched folder a file can be read while it is written: a last line without its line
//! feed waits for it, unless it is gzipped: then the text ends where it says. A file that cannot be read shows in [`Source::status`] and holds up no other; one that is damaged
//! counts as read as far as it goes.
//!
//! Objects of stores elsewhere are files, named by their URLs, with what differs: they do not grow, so a last line without
//! its line feed is a record, and one that was replaced is read on where the old one was, whatever its size.
//!
//! A file is known by its name alone. One that was replaced by another of at least the same length is read on where the
//! old one was; [`Polled::Revoked`] tells when a file went away, so that its position can be forgotten. What
//! became of files while nobody looked is not known here: positions of files that no longer exist mean nothing.

mod csv;
mod input;
mod lines;
mod options;
mod parquet;
mod partition;
pub(crate) mod parts;
mod pattern;
mod records;
#[cfg(test)]
mod tests;

pub(crate) use options::check_within;
pub use options::{FilesFormat, FilesOptions, OnMissing, StartAt};

use super::apart::MayHang;
use super::{
    PartitionStatus, Polled, RecordBatch, Revoked, Source, SourceError, SourcePosition, SourceStatus, Started,
};
use crate::objects::{Opener, is_object_name};
use partition::{Failure, Partition};
use pattern::{Listing, Pattern, Stamp};
use records::{Progress, ReadError, Sink};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Objects behind the one being read whose first bytes are asked for: of small ones most of the time is waiting.
const OBJECTS_AHEAD: usize = 8;

/// Files held open besides the one being read: those that may grow.
const OPEN_MAX: usize = 8;

/// Files, read.
pub struct FilesSource {
    options: FilesOptions,
    patterns: Vec<Pattern>,
    opener: Opener,
    files: BTreeMap<Arc<str>, Partition>,
    /// Those that were found and not begun.
    waiting: BTreeSet<Arc<str>>,
    /// Whether the caller knows of all of those.
    waiting_told: bool,
    /// Those that were there at the first look, and are not begun.
    there_at_first: BTreeSet<Arc<str>>,
    turn: Option<Turn>,
    /// The file that had the last turn of this round; the next is the first due behind it.
    last_turn: Option<Arc<str>>,
    /// Files held open, the one read longest ago first.
    open: VecDeque<Arc<str>>,
    /// A file is gone, or records of one are.
    is_unsettled: bool,
    looked_at: Option<Instant>,
    walk_count: u64,
    /// What the last walk could not look at.
    complaints: Vec<String>,
    /// A walk has seen all there was.
    has_seen_all: bool,
    /// The last walk has not: a store could not be listed.
    is_partial: bool,
    /// An object could not be read as it was listed; it may have been replaced since.
    is_outdated: bool,
    status: SourceStatus,
}

/// A file is being read, to where it ended when it had this stamp.
struct Turn {
    name: Arc<str>,
    stamp: Stamp,
    /// It was opened in this turn, so the handle leads to the file of that name.
    is_fresh: bool,
}

impl fmt::Debug for FilesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesSource").field("options", &self.options).finish_non_exhaustive()
    }
}

impl FilesSource {
    /// Checks the options; files are looked for by the first poll.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] names the setting.
    pub fn open(options: FilesOptions) -> Result<FilesSource, SourceError> {
        options.check()?;
        Ok(FilesSource {
            patterns: options.patterns()?,
            opener: Opener::new(options.objects.clone()),
            options,
            files: BTreeMap::new(),
            waiting: BTreeSet::new(),
            waiting_told: false,
            there_at_first: BTreeSet::new(),
            turn: None,
            last_turn: None,
            open: VecDeque::new(),
            is_unsettled: false,
            looked_at: None,
            walk_count: 0,
            complaints: Vec::new(),
            has_seen_all: false,
            is_partial: false,
            is_outdated: false,
            status: SourceStatus::default(),
        })
    }

    /// Looks for files, if it is time to.
    fn look(&mut self) {
        let is_first = self.looked_at.is_none();
        if self.looked_at.is_some_and(|at| at.elapsed() < self.options.poll_interval) {
            return;
        }
        for file in self.files.values_mut() {
            if let Some(Failure::Unreadable { is_due, .. }) = &mut file.failure {
                *is_due = true;
            }
        }
        if is_first || self.is_partial || self.is_outdated || self.options.watch {
            self.walk();
            if !self.has_seen_all {
                self.there_at_first.clone_from(&self.waiting);
                self.has_seen_all = !self.is_partial;
            }
        }
        // From its end on, so that a slow walk leaves time between.
        self.looked_at = Some(Instant::now());
    }

    fn walk(&mut self) {
        self.walk_count += 1;
        let mut listing = Listing::default();
        let must_match = !self.options.watch;
        self.patterns.iter().for_each(|pattern| pattern.walk(&self.opener, must_match, &mut listing));
        self.complaints = listing.complaints;
        self.is_partial = listing.is_partial;
        self.is_outdated = false;
        for (name, (stamp, in_folder)) in listing.files {
            if let Err(complaint) = self.options.check_place(&name) {
                self.complaints.push(complaint);
            } else if let Some(file) = self.files.get_mut(name.as_str()) {
                if file.begun && stamp.is_of_another(&file.stamp) {
                    // What was there is read to its end as far as it is open, then told to be gone; then the new one is found.
                    file.found_by_walk = self.walk_count;
                    file.vanished();
                    self.is_unsettled = true;
                } else {
                    file.found(stamp, self.walk_count);
                }
            } else if stamp.size_bytes == 0 && is_object_name(&name) {
                // Most are markers of folders, listed without the slash that they end with; no format has a record in nothing.
            } else if let Some(kind) = self.options.kind_of(&name) {
                let name: Arc<str> = name.into();
                self.files.insert(name.clone(), Partition::new(name.clone(), kind, stamp, self.walk_count));
                self.waiting.insert(name);
                self.waiting_told = false;
            } else if !in_folder {
                let what =
                    "its name does not tell the format; state `format` (ndjson, csv or parquet) or narrow `paths`";
                self.complaints.push(format!("{name}: {what}"));
            }
        }
        self.note_vanished();
    }

    /// A file that was not found is gone only if the system says so; its folder may just be unreadable. An object is if the stores
    /// were listed to their end.
    fn note_vanished(&mut self) {
        let walk = self.walk_count;
        let is_partial = self.is_partial;
        let is_gone = |file: &Partition| match file.is_object() {
            true => !is_partial,
            false => fs::metadata(&*file.name)
                .is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)),
        };
        let not_found = self.files.values_mut().filter(|file| file.found_by_walk != walk && !file.gone);
        for file in not_found {
            if is_gone(file) {
                file.vanished();
                self.is_unsettled = true;
            }
        }
        if self.is_unsettled {
            self.files.retain(|_, file| file.begun || !file.gone);
            self.waiting.retain(|name| self.files.contains_key(name));
        }
    }

    /// Lets go of files that are gone and read, then of records that are gone.
    fn settle(&mut self) -> Result<Option<Polled>, SourceError> {
        if !std::mem::take(&mut self.is_unsettled) {
            return Ok(None);
        }
        for file in self.files.values_mut().filter(|file| file.gone && !file.is_due() && !file.is_done()) {
            if file.missing.is_none() {
                file.is_lost();
            }
        }
        let is_over = |file: &&Partition| file.gone && !file.is_due() && file.missing.is_none();
        let over: Vec<Arc<str>> = self.files.values().filter(is_over).map(|file| file.name.clone()).collect();
        if !over.is_empty() {
            // What is missing is looked at with the next poll.
            self.is_unsettled = true;
            over.iter().for_each(|name| drop(self.files.remove(name)));
            self.open.retain(|name| !over.contains(name));
            return Ok(Some(Polled::Revoked(Revoked { partitions: over, lost: false, gone: true })));
        }
        self.settle_missing()
    }

    fn settle_missing(&mut self) -> Result<Option<Polled>, SourceError> {
        let mut skips = Vec::new();
        for file in self.files.values_mut() {
            let Some(missing) = file.missing.clone() else { continue };
            self.is_unsettled = true;
            match self.options.on_missing {
                OnMissing::Fail => return Err(SourceError::Missing(missing)),
                OnMissing::Earliest => {
                    file.go_on_at(0);
                    if file.gone {
                        file.give_up();
                    }
                    // Elsewhere offsets are bytes, and nobody can tell how many records those were.
                    if file.kind.format == FilesFormat::Parquet {
                        self.status.skipped_count += missing.lost().unwrap_or(0);
                    }
                    tracing::warn!("{missing}; going on where `on_missing` says");
                    skips.push(Started { partition: file.name.clone(), offset: 0, skipped: Some(missing) });
                }
            }
        }
        Ok((!skips.is_empty()).then_some(Polled::Skipped(skips)))
    }

    /// Fills the batch from the files that are due. Beyond the deadline it goes on only while records come.
    fn fill(&mut self, batch: &mut RecordBatch, deadline: Instant) {
        let is_full = |batch: &RecordBatch, options: &FilesOptions| {
            batch.len() >= options.batch_records_max || batch.size_bytes() >= options.batch_bytes_max
        };
        while !is_full(batch, &self.options) && !self.is_unsettled && self.take_turn() {
            let before = batch.len();
            self.step(batch);
            if batch.len() == before && Instant::now() >= deadline {
                break;
            }
        }
    }

    /// Sees whose turn it is; false if nobody is due.
    fn take_turn(&mut self) -> bool {
        let is_on = |turn: &Turn| self.files.get(&turn.name).is_some_and(Partition::is_due);
        if self.turn.as_ref().is_some_and(is_on) {
            return true;
        }
        let Some(name) = self.next_due() else {
            (self.turn, self.last_turn) = (None, None);
            return false;
        };
        let Some(file) = self.files.get_mut(&name) else { return false };
        // Cut off since: what the handle has read ahead is of no use.
        if file.kind.is_plain_text() && !file.gone && file.reached().is_some_and(|at| at > file.stamp.size_bytes) {
            file.records = None;
        }
        if file.is_object() {
            let behind = (Bound::Excluded(name.clone()), Bound::Unbounded);
            self.files.range_mut(behind).take(OBJECTS_AHEAD).for_each(|(_, next)| next.ask_ahead(&self.opener));
        }
        let Some(file) = self.files.get(&name) else { return false };
        self.turn = Some(Turn { name: name.clone(), stamp: file.stamp.clone(), is_fresh: false });
        self.last_turn = Some(name);
        true
    }

    /// The next file behind the one that had the last turn; behind the last one, the first.
    fn next_due(&self) -> Option<Arc<str>> {
        let due = |(name, file): (&Arc<str>, &Partition)| file.is_due().then(|| name.clone());
        let Some(last) = &self.last_turn else { return self.files.iter().find_map(due) };
        let behind = (Bound::Excluded(last.clone()), Bound::Unbounded);
        self.files.range(behind).find_map(due).or_else(|| self.files.range(..=last.clone()).find_map(due))
    }

    fn step(&mut self, batch: &mut RecordBatch) {
        let Some(turn) = &mut self.turn else { return };
        let Some(file) = self.files.get_mut(&turn.name) else { return };
        let last = !self.options.watch || !file.may_grow();
        let name = file.name.clone();
        let mut sink = Sink::new(batch, &name, self.options.batch_records_max, self.options.batch_bytes_max);
        let stepped = file.open(&self.opener, self.options.csv_delimiter).and_then(|opened| {
            turn.is_fresh |= opened;
            file.step(last, &mut sink)
        });
        // Where it ended when its turn began; reading to the end of one that grows could take for ever.
        let is_behind = file.reached().is_some_and(|reached| reached >= turn.stamp.size_bytes);
        match stepped {
            Ok(Progress::More) if last || !is_behind => return,
            // The handle leads to a file that was replaced.
            Ok(Progress::End) if !last && !is_behind && !turn.is_fresh => file.records = None,
            Ok(_) => file.was_read(turn.stamp.clone(), last),
            Err(error) => {
                self.is_outdated |= file.is_object() && matches!(error, ReadError::Unreadable(_));
                if let ReadError::Unreadable(what) | ReadError::Damaged(what) = &error {
                    tracing::warn!("{name}: {what}");
                }
                file.failed(error);
            }
        }
        self.is_unsettled |= file.gone || file.missing.is_some();
        let is_open = file.records.is_some();
        self.turn = None;
        self.keep_open(name, is_open);
    }

    /// Closes the file that was read longest ago, if too many are open.
    fn keep_open(&mut self, name: Arc<str>, is_open: bool) {
        self.open.retain(|other| *other != name);
        if is_open {
            self.open.push_back(name);
        }
        if self.open.len() > OPEN_MAX
            && let Some(oldest) = self.open.pop_front()
            && let Some(file) = self.files.get_mut(&oldest)
        {
            file.records = None;
            self.is_unsettled |= file.gone;
        }
    }

    /// Nothing is left to read and nothing to try again.
    fn is_at_end(&self) -> bool {
        !self.options.watch && !self.is_partial && self.files.values().all(|file| !file.is_due() && file.is_done())
    }

    fn until_next_look(&self) -> Duration {
        let since = self.looked_at.map_or(Duration::ZERO, |at| at.elapsed());
        self.options.poll_interval.saturating_sub(since)
    }
}

impl MayHang for FilesSource {
    fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(self.opener.stop())
    }
}

impl Source for FilesSource {
    fn poll(&mut self, batch: &mut RecordBatch, timeout: Duration) -> Result<Polled, SourceError> {
        batch.clear();
        let deadline = Instant::now() + timeout;
        loop {
            self.look();
            let wait = deadline.saturating_duration_since(Instant::now());
            if !self.waiting.is_empty() {
                // Told before, the caller tries again only after a while.
                if !std::mem::replace(&mut self.waiting_told, true) || wait.is_zero() {
                    return Ok(Polled::Assigned(self.waiting.iter().cloned().collect()));
                }
                sleep(wait.min(self.until_next_look()));
                continue;
            }
            if let Some(told) = self.settle()? {
                return Ok(told);
            }
            if !self.status.paused {
                self.fill(batch, deadline);
            }
            if !batch.is_empty() {
                self.status.record_count += batch.len() as u64;
                return Ok(Polled::Batch);
            }
            if self.is_unsettled {
                continue;
            }
            if self.is_at_end() {
                return Ok(Polled::End);
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(Polled::Idle);
            }
            sleep(wait.min(self.until_next_look()));
        }
    }

    fn start(&mut self, known: &SourcePosition) -> Result<Vec<Started>, SourceError> {
        let skips_all = self.options.start == StartAt::Latest && known.is_empty();
        if skips_all && !self.has_seen_all {
            // Once some began, what the store shows later would count as new.
            let doing = "find what is there already, for `start: latest`".to_owned();
            let why = self.complaints.first().cloned().unwrap_or_else(|| "not all could be listed".to_owned());
            return Err(SourceError::Unavailable { doing, why });
        }
        let mut started = Vec::with_capacity(self.waiting.len());
        for name in &self.waiting {
            let Some(file) = self.files.get(name) else { continue };
            // Of a source that was read before, a file without a position is new.
            let offset = match known.get(name) {
                Some(offset) => offset,
                None if skips_all && self.there_at_first.contains(name) => {
                    match file.find_end(&self.opener, self.options.watch) {
                        Ok(end) => end,
                        // Its store may tell later; a file of the machine is read whole when it can be.
                        Err(ReadError::Unreadable(why)) if file.is_object() => {
                            return Err(SourceError::Unavailable { doing: format!("find the end of {name}"), why });
                        }
                        Err(_) => 0,
                    }
                }
                None => 0,
            };
            started.push(Started { partition: name.clone(), offset, skipped: None });
        }
        for Started { partition, offset, .. } in &started {
            if let Some(file) = self.files.get_mut(partition) {
                file.begin_at(*offset);
            }
        }
        self.waiting.clear();
        self.there_at_first.clear();
        Ok(started)
    }

    fn seek(&mut self, partition: &str, offset: u64) -> Result<(), SourceError> {
        let file = self.files.get_mut(partition).filter(|file| file.begun);
        let file = file.ok_or_else(|| SourceError::NotAssigned { partition: partition.to_owned() })?;
        file.go_on_at(offset);
        if file.gone {
            // Wherever that is, nothing is there.
            file.give_up();
            self.is_unsettled = true;
        }
        Ok(())
    }

    fn pause(&mut self) {
        self.status.paused = true;
    }

    fn resume(&mut self) {
        self.status.paused = false;
    }

    /// Nobody else wants to know.
    fn commit(&mut self, _durable: &SourcePosition) {}

    /// A plain text's end is its size; that of other files is known once they were opened, and of gzipped ones read.
    fn partitions(&self) -> Vec<PartitionStatus> {
        self.files.values().filter(|file| file.begun).map(Partition::status).collect()
    }

    /// An error stays as long as its file cannot be read.
    fn status(&self) -> SourceStatus {
        let failures = || self.files.values().filter_map(|file| Some((&file.name, file.failure.as_ref()?)));
        let mut errors = failures().map(|(name, failure)| format!("{name}: {failure}"));
        let first = errors.next().or_else(|| self.complaints.first().cloned());
        let others = (failures().count() + self.complaints.len()).saturating_sub(1);
        let last_error = first.map(|first| if others > 0 { format!("{first} (and {others} more)") } else { first });
        SourceStatus { last_error, ..self.status.clone() }
    }
}
