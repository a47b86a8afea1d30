//! What a sink is told.

use super::deliver::Connector;
use engine::catalog::{AUDIENCE_CHANGES, Catalog, Fact};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What a sink takes, and how it brings it to where.
#[derive(Clone, Debug)]
pub struct SinkDefinition {
    /// Opens the other side; or why it cannot be, which does not keep the sink from gathering what it will send.
    pub connector: Result<Arc<dyn Connector>, String>,
    /// What it takes.
    pub takes: Takes,
    /// What a new sink of audiences sends first.
    pub initial: Initial,
    /// Bytes of its queue at which it is full.
    pub queue_bytes: u64,
    /// What then.
    pub when_full: WhenFull,
    /// Records of a batch.
    pub batch_records_max: usize,
    /// Bytes of a batch; a single record may be larger.
    pub batch_bytes_max: usize,
    /// How long a record may wait for others to share its batch.
    pub linger: Duration,
    /// How often a batch is tried again before its records become dead letters; `None`: for ever.
    pub retries: Option<u32>,
    /// The wait before the first retry; it doubles with each.
    pub backoff: Duration,
    /// The longest wait between retries.
    pub backoff_max: Duration,
}

/// What a sink takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Who enters and leaves all live audiences.
    AllAudiences,
    /// Who enters and leaves these.
    Audiences(BTreeSet<String>),
    /// The rows of this fact.
    Fact(String),
}

/// What a new sink of audiences sends first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// The present members, each as one who enters.
    #[default]
    Members,
    /// Nothing.
    None,
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The next checkpoint waits, and with it, in time, those who write.
    #[default]
    Wait,
    /// What comes is passed over, and counted.
    Drop,
}

/// Bytes of a queue at which it is full, if nothing else is said.
pub const QUEUE_BYTES: u64 = 4 << 30;
/// The smallest bound of a queue.
pub const QUEUE_BYTES_MIN: u64 = 1 << 20;
/// Records of a batch, if nothing else is said.
pub const BATCH_RECORDS: usize = 1_000;
/// The most records of a batch.
pub const BATCH_RECORDS_MAX: usize = 100_000;
/// Bytes of a batch, if nothing else is said.
pub const BATCH_BYTES: usize = 1 << 20;
/// The most bytes of a batch.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// How long a record may wait for others, if nothing else is said.
pub const LINGER: Duration = Duration::from_millis(100);
/// The wait before the first retry, if nothing else is said.
pub const BACKOFF: Duration = Duration::from_millis(250);
/// The longest wait between retries, if nothing else is said.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

impl SinkDefinition {
    /// One that takes this, with what is not said elsewhere.
    pub fn new(connector: Result<Arc<dyn Connector>, String>, takes: Takes) -> SinkDefinition {
        SinkDefinition {
            connector,
            takes,
            initial: Initial::default(),
            queue_bytes: QUEUE_BYTES,
            when_full: WhenFull::default(),
            batch_records_max: BATCH_RECORDS,
            batch_bytes_max: BATCH_BYTES,
            linger: LINGER,
            retries: None,
            backoff: BACKOFF,
            backoff_max: BACKOFF_MAX,
        }
    }
}

impl Takes {
    /// The fact whose rows it takes, if the catalog has it.
    pub fn fact<'a>(&'a self, catalog: &'a Catalog) -> Option<(&'a str, &'a Fact)> {
        let name = match self {
            Takes::AllAudiences | Takes::Audiences(_) => AUDIENCE_CHANGES,
            Takes::Fact(name) => name,
        };
        catalog.fact(name).map(|fact| (name, fact))
    }

    /// Whether it takes what happens to an audience.
    pub fn has_audience(&self, name: &str) -> bool {
        match self {
            Takes::AllAudiences => true,
            Takes::Audiences(names) => names.contains(name),
            Takes::Fact(_) => false,
        }
    }
}
