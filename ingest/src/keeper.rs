//! The thread that keeps a store fresh while it serves: publishes, checkpoints, compacts.

use engine::store::Store;
use std::sync::Arc;
use std::time::Duration;

/// How often a store is tended.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// How long a write may stay invisible; default 100 ms.
    pub publish_interval: Duration,
    /// How long a write may stay out of a checkpoint (and so in the log to replay); default 60 s.
    pub checkpoint_interval: Duration,
    /// Bytes in the log at which a checkpoint is made earlier; default 256 MiB.
    pub checkpoint_log_bytes: u64,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        KeeperOptions {
            publish_interval: Duration::from_millis(100),
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_log_bytes: 256 << 20,
        }
    }
}

/// What the keeper did so far.
#[derive(Clone, Debug, Default)]
pub struct KeeperStatus {
    /// Checkpoints made.
    pub checkpoint_count: u64,
    /// Bytes that checkpoints wrote.
    pub checkpoint_bytes: u64,
    /// Merges made.
    pub compaction_count: u64,
    /// Bytes that merges wrote.
    pub compaction_bytes: u64,
    /// The newest failure, as text, until a later step of the same kind succeeds.
    pub last_error: Option<String>,
}

/// Tends one store until stopped.
#[derive(Debug)]
pub struct Keeper {}

impl Keeper {
    /// Starts tending `store`.
    pub fn start(store: Arc<Store>, options: KeeperOptions) -> Keeper {
        let _ = (store, options);
        todo!()
    }

    /// What was done so far.
    pub fn status(&self) -> KeeperStatus {
        todo!()
    }

    /// Publishes what is left, makes a last checkpoint if asked, and ends the threads. Dropping a keeper stops it
    /// without a checkpoint.
    pub fn stop(self, checkpoint: bool) -> KeeperStatus {
        let _ = checkpoint;
        todo!()
    }
}
