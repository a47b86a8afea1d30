//! How a sink is, for people and monitors.

use super::queue::{Queue, QueueReader};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a sink is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkState {
    /// It begins.
    #[default]
    Starting,
    /// It delivers what comes.
    Running,
    /// It was told to gather and not to deliver.
    Paused,
    /// It was told to do neither.
    Stopped,
    /// The other side is away or refuses; the batch is tried again.
    Retrying,
    /// It cannot go on by itself; its error says what to do.
    Failed,
}

/// How a sink is. Counts are since the server was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkReport {
    /// What it is doing.
    pub state: SinkState,
    /// What it or the other side ails from.
    pub error: Option<String>,
    /// Records that wait in its queue.
    pub queued: u64,
    /// Bytes of its queue's files.
    pub queue_bytes: u64,
    /// Whether its queue is full.
    pub is_full: bool,
    /// When the record came that waits longest, in microseconds since 1970.
    pub oldest_queued_at: Option<i64>,
    /// The offset of its next record: records delivered, and dead letters, since it began.
    pub offset: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Attempts that failed and are or were made again.
    pub retries: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Records that were passed over while the queue was full.
    pub dropped: u64,
}

/// What threads tell of a sink.
#[derive(Debug, Default)]
pub(super) struct Told {
    inner: Mutex<Inner>,
    reader: Mutex<QueueReader>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) state: SinkState,
    pub(super) error: Option<String>,
    pub(super) is_full: bool,
    pub(super) delivered: u64,
    pub(super) batches: u64,
    pub(super) retries: u64,
    pub(super) dead_letters: u64,
    pub(super) dropped: u64,
}

impl Told {
    pub(super) fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of the counts is a single step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, queue: Option<&Queue>) -> SinkReport {
        let mut report = {
            let inner = self.lock();
            SinkReport {
                state: inner.state,
                error: inner.error.clone(),
                is_full: inner.is_full,
                delivered: inner.delivered,
                batches: inner.batches,
                retries: inner.retries,
                dead_letters: inner.dead_letters,
                dropped: inner.dropped,
                ..SinkReport::default()
            }
        };
        let Some(queue) = queue else { return report };
        report.offset = queue.position().0;
        (report.queued, report.queue_bytes) = queue.backlog();
        if report.queued > 0 {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            // What cannot be read stops the delivery, which tells of it.
            report.oldest_queued_at = reader.queued_at(queue, report.offset).ok();
        }
        report
    }
}
