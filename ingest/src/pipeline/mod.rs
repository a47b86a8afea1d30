//! From sources to the store: what runs while a server serves.
//!
//! Each declared source has two threads. The *reader* polls the source, decodes its records against the newest catalog and
//! watches for commands; the *writer* applies what was decoded. Between them is a channel with room for two batches:
//! while the store is busy the channel is full, the reader does not poll, and the source holds back.
//!
//! A batch is logged together with the offset its partition goes on at, so a record counts once whatever happens: after a
//! crash the source is read again from the offset behind the last record that is still in the log. Records that cannot be
//! taken go into the same batch, as events of the fact [`engine::catalog::DEAD_LETTERS`].
//!
//! Between the poll and the decoder stand the source's look-ups, if it has any: see [`crate::enrich`].
//!
//! * `definition`: what a source is told. `decoder`: a record to an update, or to a dead letter. `payload`: how records are
//!   written; `lines`: what they say as JSON; `arrow_record`: one that holds many rows.
//! * `reader`: the thread that polls; `writer`: the thread that applies.
//! * `report`: how a source is. `watermark`: how far its event time is.

#[cfg(feature = "arrow")]
mod arrow_record;
pub(crate) mod dead_letter;
mod decoder;
mod definition;
mod lines;
mod payload;
mod reader;
mod report;
mod watermark;
mod writer;

#[cfg(test)]
mod tests;

pub use dead_letter::RefusedRecord;
pub use definition::{Begin, Connector, DefinitionError, MappingDefinition, SourceDefinition, Target};
pub use payload::PayloadFormat;
pub use report::{PartitionReport, SourceReport, SourceState};

use crate::source::Started;
use engine::catalog::Wanted;
use engine::store::Store;
use reader::{Command, Reader, Shared};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a rewind may take before it is given up.
const REWIND_TIMEOUT: Duration = Duration::from_secs(30);

/// The running sources of a store.
#[derive(Debug)]
pub struct Pipeline {
    store: Arc<Store>,
    running: Mutex<BTreeMap<String, Running>>,
    /// No more are started.
    stopped: AtomicBool,
}

/// A source as it is declared.
#[derive(Clone, Debug)]
pub struct DeclaredSource {
    /// Its name.
    pub name: String,
    /// The text of its definition: another one starts it anew.
    pub text: String,
    /// What the text means, or why it means nothing.
    pub definition: Result<SourceDefinition, String>,
    /// What it is to do.
    pub wanted: Wanted,
}

#[derive(Debug)]
struct Running {
    text: String,
    inbox: Sender<Command>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Why a command to a source failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such source.
    #[error("there is no source `{0}`")]
    Unknown(String),
    /// It was not carried out.
    #[error("source `{name}`: {why}")]
    Failed {
        /// The source.
        name: String,
        /// Why, and what to do.
        why: String,
    },
}

impl Pipeline {
    /// Without sources.
    pub fn new(store: Arc<Store>) -> Pipeline {
        Pipeline { store, running: Mutex::default(), stopped: AtomicBool::new(false) }
    }

    /// Brings the running sources to what is declared now: new ones start, others go, changed ones begin anew where they
    /// were, and each is told what it is to do. Waits until those that go have applied what they had read.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn set(&self, declared: Vec<DeclaredSource>) -> std::io::Result<()> {
        let stays = |name: &str, text: &str| declared.iter().any(|source| source.name == name && source.text == text);
        // Nobody who asks how the others are waits for those that go.
        let gone: Vec<Running> = self
            .running()
            .extract_if(.., |name, source| !stays(name, &source.text) || source.is_over())
            .map(|(_, source)| source)
            .collect();
        end(gone);
        let mut running = self.running();
        if self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        for source in declared {
            match running.get(&source.name) {
                // One whose thread is gone takes no more commands; its state says so.
                Some(known) => {
                    let _ = known.inbox.send(Command::Want(source.wanted));
                    let _ = known.inbox.send(Command::Look);
                }
                None => {
                    let name = source.name.clone();
                    running.insert(name, Running::start(&self.store, source)?);
                }
            }
        }
        Ok(())
    }

    /// Lets a source that could not go on, or was read to its end, try again.
    pub fn retry(&self, name: &str) {
        if let Some(source) = self.running().get(name) {
            let _ = source.inbox.send(Command::Retry);
        }
    }

    /// How a source is.
    pub fn report(&self, name: &str) -> Option<SourceReport> {
        self.running().get(name).map(|source| source.shared.report())
    }

    /// How all sources are, by name.
    pub fn reports(&self) -> Vec<(String, SourceReport)> {
        self.running().iter().map(|(name, source)| (name.clone(), source.shared.report())).collect()
    }

    /// Lets a source go on somewhere else; answers where each of its partitions begins, which is durable then. Events that
    /// are read again count again, unless their fact knows them by their ids.
    ///
    /// # Errors
    /// [`CommandError`]; it then goes on where it was, unless the other side was only slow.
    pub fn rewind(&self, name: &str, to: Begin) -> Result<Vec<Started>, CommandError> {
        let (reply, answer) = sync_channel(1);
        let failed = |why: String| CommandError::Failed { name: name.to_owned(), why };
        {
            let running = self.running();
            let source = running.get(name).ok_or_else(|| CommandError::Unknown(name.to_owned()))?;
            let sent = source.inbox.send(Command::Rewind(to, reply));
            sent.map_err(|_| failed("its thread has ended; restart the server".to_owned()))?;
        }
        match answer.recv_timeout(REWIND_TIMEOUT) {
            Ok(answer) => answer.map_err(failed),
            Err(RecvTimeoutError::Disconnected) => Err(failed("it ended meanwhile".to_owned())),
            Err(RecvTimeoutError::Timeout) => Err(failed(format!(
                "nothing was heard of it for {} s; it may still come about, so see its state before trying again",
                REWIND_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Ends all sources, once they have applied what they had read.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        end(std::mem::take(&mut *self.running()).into_values().collect());
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        // Every change of the map is a single step.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(store: &Arc<Store>, source: DeclaredSource) -> std::io::Result<Running> {
        let (inbox, commands) = channel();
        let shared = Arc::new(Shared::default());
        let reader = Reader::new(store.clone(), &source, commands, shared.clone());
        let watched = shared.clone();
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| reader.run())).is_err() {
                watched.tell_panicked();
            }
        };
        let thread = std::thread::Builder::new().name(format!("source-{}", source.name)).spawn(run)?;
        Ok(Running { text: source.text, inbox, shared, thread: Some(thread) })
    }
}

impl Running {
    /// Its thread has ended without being told to.
    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Ends them together, since each may take a moment.
fn end(mut gone: Vec<Running>) {
    for source in &gone {
        let _ = source.inbox.send(Command::End);
    }
    for thread in gone.iter_mut().filter_map(|source| source.thread.take()) {
        // A panic of the thread was reported when it happened.
        let _ = thread.join();
    }
}
