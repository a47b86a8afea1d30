//! The thread that applies what was decoded.

use super::decoder::Decoded;
use engine::catalog::source::offsets_prefix;
use engine::ids::Lsn;
use engine::store::{Store, WriteError};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Applies until the reader hangs up or the store refuses.
pub(super) fn write(source: &str, store: &Store, work: &Receiver<Work>, applied: &Applied) {
    let prefix = offsets_prefix(source);
    for work in work {
        match work {
            Work::Barrier(done) => drop(done.send(())),
            Work::Apply(decoded) => {
                let key = format!("{prefix}{}", decoded.partition);
                let written = store.write_from(&decoded.batch, &key, decoded.next_offset);
                let mut state = applied.state();
                match written {
                    Ok(written) => {
                        state.position.set(decoded.partition, decoded.next_offset);
                        state.lsn = Some(written.lsn);
                    }
                    Err(error) => {
                        state.failure = Some(error);
                        return;
                    }
                }
            }
        }
    }
}
