//! The thread that applies what was decoded: at once, or for a source that may be seen later, in larger steps.

use super::decoder::Decoded;
use engine::catalog::source::offsets_prefix;
use engine::ids::Lsn;
use engine::store::{Store, WriteError};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::source::SourcePosition;

/// What a writer is told.
pub(super) enum Work {
    /// To be applied.
    Apply(Decoded),
    /// Everything before has been applied when this is answered.
    Barrier(SyncSender<()>),
}

/// What a writer has done.
#[derive(Debug, Default)]
pub(super) struct Applied(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    position: SourcePosition,
    lsn: Option<Lsn>,
    failure: Option<WriteError>,
}

impl Applied {
    /// Where each partition goes on by what was applied, and the place in the log that has it; taken once.
    pub(super) fn take(&self) -> Option<(SourcePosition, Lsn)> {
        let mut state = self.state();
        let lsn = state.lsn.take()?;
        Some((state.position.clone(), lsn))
    }

    /// Why it ended.
    pub(super) fn failure(&self) -> Option<WriteError> {
        self.state().failure.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of decoded updates that are gathered at most; more are applied without waiting.
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// Applies until the reader hangs up or the store refuses. What was decoded waits for more, `gather` at most: each step of
/// applying and publishing costs something of its own, so the fewer they are, the less an update costs.
pub(super) fn write(source: &str, store: &Store, work: &Receiver<Work>, applied: &Applied, gather: Duration) {
    let mut gathered = Gathered { prefix: offsets_prefix(source), updates: Vec::new(), size_bytes: 0, since: None };
    loop {
        let next = match gathered.since {
            None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => work.recv_timeout(gather.saturating_sub(since.elapsed())),
        };
        let is_over = matches!(next, Err(RecvTimeoutError::Disconnected));
        let mut barrier = None;
        match next {
            Ok(Work::Apply(decoded)) => {
                gathered.push(decoded);
                let waited = gathered.since.map_or(Duration::ZERO, |since| since.elapsed());
                if waited < gather && gathered.size_bytes < GATHERED_BYTES_MAX {
                    continue;
                }
            }
            Ok(Work::Barrier(done)) => barrier = Some(done),
            Err(_) => {}
        }
        if !gathered.apply(store, applied) || is_over {
            return;
        }
        // Who waits for it may have gone.
        let _ = barrier.map(|done| done.send(()));
    }
}

/// What was decoded and waits for more.
struct Gathered {
    /// Of the source's partitions in the store.
    prefix: String,
    updates: Vec<Decoded>,
    size_bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Gathered {
    fn push(&mut self, decoded: Decoded) {
        self.since.get_or_insert_with(Instant::now);
        self.size_bytes += decoded.batch.as_bytes().len();
        self.updates.push(decoded);
    }

    /// Applies all of it; false if the store refuses.
    fn apply(&mut self, store: &Store, applied: &Applied) -> bool {
        (self.size_bytes, self.since) = (0, None);
        for decoded in self.updates.drain(..) {
            let key = format!("{}{}", self.prefix, decoded.partition);
            let written = store.write_from(&decoded.batch, &key, decoded.next_offset);
            let mut state = applied.state();
            match written {
                Ok(written) => {
                    state.position.set(decoded.partition, decoded.next_offset);
                    state.lsn = Some(written.lsn);
                }
                Err(error) => {
                    state.failure = Some(error);
                    return false;
                }
            }
        }
        true
    }
}
