//! An answer as it comes: batch by batch, from the threads that make them to whoever takes them.

use super::{Described, Meter, SqlError, SqlErrorKind};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// How soon it is noticed that nobody waits for an answer any more.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What a running statement tells.
#[derive(Debug)]
pub(super) enum Told {
    Columns(Described),
    Rows(RecordBatch),
    Failed(SqlError),
    End,
}

/// Cancels what works for a statement when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Running {
    receiver: mpsc::Receiver<Told>,
    task: AbortHandle,
    cancel: CancelOnDrop,
    meter: Arc<Meter>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without this thread's programs the task has nothing to wait for.
        self.cancel.0.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

impl Running {
    pub(super) fn new(
        receiver: mpsc::Receiver<Told>,
        task: AbortHandle,
        cancel: CancelOnDrop,
        meter: Arc<Meter>,
    ) -> Running {
        Running { receiver, task, cancel, meter }
    }

    /// Waits until the columns are known.
    pub(super) fn begin(mut self, cancelled: &AtomicBool) -> Result<(Described, Running), SqlError> {
        match self.next(cancelled)? {
            Told::Columns(described) => Ok((described, self)),
            Told::Failed(error) => Err(error),
            Told::Rows(_) | Told::End => Err(panicked()),
        }
    }

    fn next(&mut self, cancelled: &AtomicBool) -> Result<Told, SqlError> {
        let waker = Waker::from(Arc::new(Waiting(thread::current())));
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(SqlError::cancelled());
            }
            match self.receiver.poll_recv(&mut Context::from_waker(&waker)) {
                Poll::Ready(told) => return told.ok_or_else(panicked),
                Poll::Pending => thread::park_timeout(LOOK_INTERVAL),
            }
        }
    }
}

/// A thread that waits for what is told.
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(super) fn panicked() -> SqlError {
    SqlError::new(SqlErrorKind::Internal, "answering panicked; the message is in the log of the process")
}

/// A statement that was planned and waits to be started. Dropping it ends it.
#[derive(Debug)]
pub struct Planned {
    schema: SchemaRef,
    start: oneshot::Sender<()>,
    running: Running,
}

impl Planned {
    pub(super) fn new(schema: SchemaRef, start: oneshot::Sender<()>, running: Running) -> Planned {
        Planned { schema, start, running }
    }

    /// The columns of its answer.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What it holds of memory, as it changes.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.running.meter
    }

    /// Begins to answer it. Does not block.
    pub fn start(self) -> Answer {
        // A task that is gone is noticed by whoever asks for rows.
        let _ = self.start.send(());
        Answer { schema: self.schema, running: self.running, is_over: false }
    }
}

/// The answer of a statement, batch by batch. Dropping it ends the statement.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    running: Running,
    is_over: bool,
}

impl Answer {
    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What it holds of memory, as it changes.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.running.meter
    }

    /// The next rows, at least one; `None` at the end. Blocks, as [`Sql::ask`] does, until `cancelled`.
    ///
    /// # Errors
    /// [`SqlError`]; then there is nothing more.
    pub fn next(&mut self, cancelled: &AtomicBool) -> Result<Option<RecordBatch>, SqlError> {
        if self.is_over {
            return Ok(None);
        }
        let told = self.running.next(cancelled);
        self.rows(told)
    }

    /// As [`Answer::next`], for those who must not block: dropping the answer is what cancels it.
    ///
    /// # Errors
    /// [`SqlError`]; then there is nothing more.
    pub async fn next_async(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        if self.is_over {
            return Ok(None);
        }
        let told = self.running.receiver.recv().await.ok_or_else(panicked);
        self.rows(told)
    }

    fn rows(&mut self, told: Result<Told, SqlError>) -> Result<Option<RecordBatch>, SqlError> {
        self.is_over = !matches!(told, Ok(Told::Rows(_)));
        match told? {
            Told::Rows(batch) => Ok(Some(batch)),
            Told::End => Ok(None),
            Told::Failed(error) => Err(error),
            Told::Columns(_) => Err(panicked()),
        }
    }
}
