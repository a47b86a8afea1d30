//! What a job beside live writes leaves to them.
//!
//! A live write is to be visible within its usual time, so a job never has much more in the store than a publish sorts at
//! once, never fills the memory at which writers wait, and lets go of the writer behind each batch.

use super::rows::{BatchSize, ROWS_PER_BATCH_MAX};
use engine::store::Store;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a batch, for which live writes wait while it is applied.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of batches that one publish has to sort besides what is live.
const UNPUBLISHED_BYTES_MAX: usize = 16 << 20;
/// Publishing may be slow or fail; the job's next write finds out.
const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(10);
/// The longest rest behind a batch.
const REST_MAX: Duration = Duration::from_millis(100);
/// Of the time that a batch took, the share that the writer is let go of behind it.
const REST_SHARE: f64 = 0.25;
/// How often what is waited for is looked at, and so how soon a job that waits is cancelled.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// With a rate, batches in a second.
const BATCHES_PER_SECOND: u64 = 10;

/// How fast a job may be whose store somebody else publishes and checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Rows a second; `None`: as many as the live stream leaves.
    pub rows_per_second_max: Option<u64>,
    /// Memory of updates outside a checkpoint ([`engine::store::Statistics::memory_bytes`]) above which the job waits for the
    /// next one. Choose it above where checkpoints are made, and below where writers wait.
    pub memory_bytes_max: u64,
}

impl Pace {
    pub(super) fn batch_size(&self) -> BatchSize {
        let rows = match self.rows_per_second_max {
            Some(rate) => (rate / BATCHES_PER_SECOND).clamp(1, ROWS_PER_BATCH_MAX),
            None => ROWS_PER_BATCH_MAX,
        };
        BatchSize { bytes: BATCH_BYTES, rows }
    }
}

/// A pace being kept.
pub(super) struct Pacer<'a> {
    store: &'a Store,
    pace: Pace,
    cancel: &'a AtomicBool,
    /// The view that was shown when the oldest of the unpublished batches was applied.
    epoch: u64,
    unpublished_bytes: usize,
    /// When the next rows may come.
    due: Instant,
}

impl<'a> Pacer<'a> {
    pub(super) fn new(store: &'a Store, pace: Pace, cancel: &'a AtomicBool) -> Pacer<'a> {
        Pacer { store, pace, cancel, epoch: epoch(store), unpublished_bytes: 0, due: Instant::now() }
    }

    /// Waits behind a batch that took so long to apply, until the next may come or the job is cancelled.
    pub(super) fn rest(&mut self, rows: u64, bytes: usize, took: Duration) {
        std::thread::sleep(took.mul_f64(REST_SHARE).min(REST_MAX));
        self.let_publish(bytes);
        self.wait(|pacer| {
            pacer.store.read_only().is_none() && pacer.store.statistics().memory_bytes > pacer.pace.memory_bytes_max
        });
        if let Some(rate) = self.pace.rows_per_second_max {
            let share = Duration::try_from_secs_f64(rows as f64 / rate.max(1) as f64).unwrap_or(Duration::MAX);
            let now = Instant::now();
            self.due = self.due.max(now).checked_add(share).unwrap_or(now);
            self.wait(|pacer| Instant::now() < pacer.due);
        }
    }

    fn let_publish(&mut self, bytes: usize) {
        let shown = epoch(self.store);
        if shown != self.epoch {
            self.epoch = shown;
            self.unpublished_bytes = 0;
        }
        self.unpublished_bytes += bytes;
        if self.unpublished_bytes < UNPUBLISHED_BYTES_MAX {
            return;
        }
        let until = Instant::now() + PUBLISH_WAIT_MAX;
        self.wait(|pacer| epoch(pacer.store) == pacer.epoch && Instant::now() < until);
    }

    fn wait(&self, more: impl Fn(&Self) -> bool) {
        while !self.cancel.load(Ordering::Relaxed) && more(self) {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn epoch(store: &Store) -> u64 {
    store.snapshot().epoch().0
}
