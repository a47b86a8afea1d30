//! Sources: logs that can be read again from any place, be it Kafka topics or files.
//!
//! A source is a set of *partitions*, each a log with rising offsets. It is read by one thread that calls
//! [`Source::poll`] when it has room for more: not polling is backpressure, and a source buffers only so much ahead.
//!
//! Where a source goes on is not its own business: the caller keeps a [`SourcePosition`] beside the data it brought,
//! in the same manifest, and says at each assignment from where. So what was read and where reading goes on become durable
//! together, and a record counts once. What the other side remembers of us is for its monitors.
//!
//! ```text
//! loop {
//!     match source.poll(&mut batch, timeout)? {
//!         Batch        => apply the records; position.advance(&batch)
//!         Assigned(..) => source.start(&position), then position.begin(&started): durable even if no record ever comes
//!         Revoked(..)  => finish what is under way; the next poll hands the partitions over
//!         Skipped(..)  => count and show the loss; position.begin(..) where it goes on
//!         Idle         => nothing came in time
//!         End          => the source is finite and was read to its end
//!     }
//! }
//! ```

#[cfg(feature = "files")]
pub(crate) mod apart;
mod batch;
mod error;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "kafka")]
pub mod kafka;
mod position;

pub use batch::{Record, RecordBatch};
pub use error::{MissingRecords, SourceError};
pub use position::SourcePosition;

use std::sync::Arc;
use std::time::Duration;

/// A replayable source, read by one thread.
pub trait Source: Send {
    /// Clears `batch` and reads what there is into it, waiting up to `timeout` for the first record.
    ///
    /// A call is also what keeps the other side aware of us: call it at least every few minutes, paused or not.
    /// An event that needs an answer comes again until it is answered.
    ///
    /// # Errors
    /// [`SourceError::Missing`] if records between the position and the log's begin are gone and the source was told not
    /// to skip them; it comes again until [`Source::seek`] says where that partition goes on. [`SourceError::Fatal`]
    /// if only opening the source again helps. A source that cannot be reached is no error: see [`Source::status`].
    fn poll(&mut self, batch: &mut RecordBatch, timeout: Duration) -> Result<Polled, SourceError>;

    /// Answers [`Polled::Assigned`]: begins reading the assigned partitions, those that `known` has at its offset.
    ///
    /// Tells where each begins. Waits for the other side, a few seconds at most.
    ///
    /// # Errors
    /// [`SourceError::Missing`] as in [`Source::poll`], [`SourceError::Unavailable`] if the other side did not answer in
    /// time. Nothing began then; call again, at the next [`Polled::Assigned`] say, or with another position.
    fn start(&mut self, known: &SourcePosition) -> Result<Vec<Started>, SourceError>;

    /// Goes on in one assigned partition at `offset`, forwards or backwards.
    ///
    /// # Errors
    /// [`SourceError::NotAssigned`], or [`SourceError::Unavailable`].
    fn seek(&mut self, partition: &str, offset: u64) -> Result<(), SourceError>;

    /// Gives no more records until [`Source::resume`]; what is buffered stays, and the buffer fills up to its bound.
    fn pause(&mut self);

    /// Ends a pause.
    fn resume(&mut self);

    /// Tells the other side how far its records are durable here, for its lag monitors; returns without waiting.
    /// A failure shows in [`Source::status`] and changes nothing here.
    fn commit(&mut self, durable: &SourcePosition);

    /// The assigned partitions, ordered by name, with what is known locally about them.
    fn partitions(&self) -> Vec<PartitionStatus>;

    /// How the source is.
    fn status(&self) -> SourceStatus;
}

/// What a poll brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// At least one record is in the batch.
    Batch,
    /// These partitions are ours now and wait for [`Source::start`].
    Assigned(Vec<Arc<str>>),
    /// Somebody else gets these partitions with the next poll. No more records of them come.
    Revoked(Revoked),
    /// The source went over records that are gone, as it was told to in such a case.
    Skipped(Vec<Started>),
    /// Nothing came in time.
    Idle,
    /// A finite source was read to its end.
    End,
}

/// Partitions that are no longer ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Their names.
    pub partitions: Vec<Arc<str>>,
    /// Somebody else may read them already: we were thought dead, having been silent for too long.
    pub lost: bool,
    /// There are no such partitions any more, and one that gets a name of theirs is another: positions are to be forgotten.
    pub gone: bool,
}

/// Where a partition begins or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its name.
    pub partition: Arc<str>,
    /// The offset of the next record.
    pub offset: u64,
    /// The records that it was told to go over, if any.
    pub skipped: Option<MissingRecords>,
}

/// A partition and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Its name.
    pub partition: Arc<str>,
    /// The offset of the next record to hand out.
    pub position: u64,
    /// The offset that the next record written to the log gets, as of the last answer of the other side.
    pub end: Option<u64>,
    /// Records between the two; offsets that hold no record of use (compacted, aborted) count as well.
    pub lag: Option<u64>,
}

/// How a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// What the other side or the way to it last ailed from; none once records came since.
    pub last_error: Option<String>,
    /// Records handed out.
    pub record_count: u64,
    /// Records that came a second time and were dropped.
    pub duplicate_count: u64,
    /// Records that were gone and gone over.
    pub skipped_count: u64,
    /// Records fetched and not handed out yet.
    pub buffered_count: u64,
    /// Whether it is paused.
    pub paused: bool,
}
