//! Who asked what of whom, and what came of it: an append-only log whose records hold each other, so that none can be changed, left out or
//! put in between without being noticed.
//!
//! Each line of the files in `audit/` is a record and its hash, the SHA-256 of the hash before it and of the record as it stands there.
//! Records tell no user id and no expression, only hashes of these, and how many rows were answered only by the power of ten.
//! A thread writes them, and syncs what it wrote before it waits for more. If that fails nothing can be told any more until the server was
//! started again; where the log is required, nothing is answered either: [`Audit::check`].
//!
//! * [`record`]: what is told. * [`files`]: how it is kept. * [`verify`](mod@verify): whether it is whole.

mod files;
mod record;
mod verify;

pub use files::{FILE_BYTES_MAX, FOLDER};
pub use record::{Happened, Outcome, Record, text_hash};
pub use verify::{Verified, verify};

use crate::error::{Failure, Kind};
use crate::state::lock;
use files::Files;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records that may wait to be written; who would add more is refused instead.
const WAITING_MAX: usize = 100_000;
/// Refused calls without a token that is known, a second; more are only counted.
const STRANGERS_MAX: u64 = 10;

/// Whether who asks what is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auditing {
    /// It is not.
    Off,
    /// It is, as long as it can be.
    #[default]
    On,
    /// It is, and nothing is answered that cannot be told.
    Required,
}

impl Auditing {
    /// All of them.
    pub const ALL: [Auditing; 3] = [Auditing::Off, Auditing::On, Auditing::Required];

    /// As it is set.
    pub fn name(self) -> &'static str {
        match self {
            Auditing::Off => "off",
            Auditing::On => "on",
            Auditing::Required => "required",
        }
    }
}

/// The log of a server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    is_required: bool,
    /// `None` once it was closed.
    sender: Mutex<Option<Sender<Record>>>,
    state: Arc<State>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: std::sync::atomic::AtomicUsize,
    failed: Mutex<Option<String>>,
    strangers: Mutex<Strangers>,
}

/// Calls of nobody known, in the present second.
#[derive(Debug, Default)]
struct Strangers {
    second: i64,
    told: u64,
    left_out: u64,
}

impl Audit {
    /// Goes on with the log of a data directory. Files whose newest record is older than `keep` are removed when one is begun.
    ///
    /// # Errors
    /// [`Kind::LocalFile`]; [`Kind::Corrupt`] if the end of the log is damaged beyond what a crash does.
    pub fn open(data: &Path, auditing: Auditing, keep: Duration) -> Result<Audit, Failure> {
        if auditing == Auditing::Off {
            return Ok(Audit(None));
        }
        let files = Files::open(&data.join(FOLDER), FILE_BYTES_MAX, keep)?;
        let (sender, receiver) = channel();
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        let writer =
            std::thread::Builder::new().name("beluga-audit".to_owned()).spawn(move || write(files, &receiver, &own));
        let writer = Mutex::new(Some(writer.map_err(crate::server::no_threads)?));
        let audit = Audit(Some(Arc::new(Shared {
            is_required: auditing == Auditing::Required,
            sender: Mutex::new(Some(sender)),
            state,
            writer,
        })));
        audit.note(Record::of_server(Happened::Started));
        Ok(audit)
    }

    /// Tells what happened. Never waits.
    pub fn note(&self, mut record: Record) {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(shared) = &self.0 else { return };
        if record.is_of_stranger() && !lock(&shared.state.strangers).takes(&mut record) {
            return;
        }
        let sender = lock(&shared.sender);
        let is_full = shared.state.waiting.load(Relaxed) > 2 * WAITING_MAX;
        if let Some(sender) = sender.as_ref().filter(|_| !is_full) {
            shared.state.waiting.fetch_add(1, Relaxed);
            let _ = sender.send(record);
        }
    }

    /// Why what happens cannot be told; `None` if it can, or is not to be.
    pub fn problem(&self) -> Option<String> {
        let shared = self.0.as_ref()?;
        let why = match &*lock(&shared.state.failed) {
            Some(why) => why.clone(),
            None if shared.state.waiting.load(std::sync::atomic::Ordering::Relaxed) > WAITING_MAX => {
                "its disk is too slow".to_owned()
            }
            None => return None,
        };
        Some(format!("the audit log cannot be written: {why}"))
    }

    /// Whether a call may be answered: it can be told, or need not be.
    ///
    /// # Errors
    /// [`Kind::NotAudited`].
    pub fn check(&self) -> Result<(), Failure> {
        let is_required = self.0.as_ref().is_some_and(|shared| shared.is_required);
        match self.problem().filter(|_| is_required) {
            None => Ok(()),
            Some(problem) => {
                Err(Failure::new(Kind::NotAudited, problem).suggest("make room on the disk and start the server again"))
            }
        }
    }

    /// Writes what waits, and ends.
    pub fn close(&self) {
        let Some(shared) = &self.0 else { return };
        self.note(Record::of_server(Happened::Stopped));
        drop(lock(&shared.sender).take());
        if let Some(writer) = lock(&shared.writer).take() {
            let _ = writer.join();
        }
    }
}

/// A record that is told when this is dropped, as it is then: also if nobody waits for the answer any more.
pub struct Telling {
    audit: Audit,
    /// `None`: nothing is told.
    pub record: Option<Record>,
}

impl Telling {
    /// Of a record, or of none yet.
    pub fn new(audit: Audit, record: impl Into<Option<Record>>) -> Telling {
        Telling { audit, record: record.into() }
    }

    /// Changes what will be told.
    pub fn change(&mut self, change: impl FnOnce(Record) -> Record) {
        self.record = self.record.take().map(change);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.audit.note(record);
        }
    }
}

impl Strangers {
    fn takes(&mut self, record: &mut Record) -> bool {
        let second = record.at.div_euclid(1_000_000);
        if second != self.second {
            (self.second, self.told) = (second, 0);
        }
        if self.told >= STRANGERS_MAX {
            self.left_out += 1;
            return false;
        }
        self.told += 1;
        record.left_out = std::mem::take(&mut self.left_out);
        true
    }
}

/// Writes records as they come, as many at once as wait, until nobody can tell any more.
fn write(mut files: Files, receiver: &Receiver<Record>, state: &State) {
    while let Ok(first) = receiver.recv() {
        let records: Vec<Record> = std::iter::once(first).chain(receiver.try_iter()).collect();
        let written = if lock(&state.failed).is_some() { Ok(()) } else { files.append(&records) };
        state.waiting.fetch_sub(records.len(), std::sync::atomic::Ordering::Relaxed);
        if let Err(failure) = written {
            tracing::error!(%failure, "the audit log cannot be written until the server was started again");
            // What was not synced is not tried again: it may be there or not.
            *lock(&state.failed) = Some(failure.detail);
        }
    }
}

#[cfg(test)]
mod tests;
