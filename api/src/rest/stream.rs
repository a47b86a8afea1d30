//! A body that is written while it is read, of an answer that is watched.
//!
//! It is written on a thread of its own, no faster than it is read. What ends it ends the question: the client goes away or stops reading,
//! its time is over, or somebody cancels it. A body that does not come to its end is broken off, which the client notices.

use crate::queries::{Progress, Watch};
use axum::body::{Body, Bytes};
use futures::StreamExt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a client may leave a stream unread.
pub(crate) const STALLED_MAX: Duration = Duration::from_secs(60);

/// An answer that is about to be sent.
pub(in crate::rest) struct Streamed {
    pub(in crate::rest) watch: Watch,
    /// Its place among the answers that are being streamed.
    pub(in crate::rest) permit: OwnedSemaphorePermit,
    /// Set when the answer is not wanted any more.
    pub(in crate::rest) cancelled: Arc<AtomicBool>,
    /// When it must be over, if ever.
    pub(in crate::rest) deadline: Option<Instant>,
}

impl Streamed {
    /// The body that `write` writes; `what` it is, for the log.
    pub(in crate::rest) fn body(
        self,
        what: &'static str,
        write: impl FnOnce(Chunks, &Watch) -> io::Result<()> + Send + 'static,
    ) -> Body {
        let Streamed { watch, permit, cancelled, deadline } = self;
        watch.sets(Arc::clone(&cancelled));
        let (sender, receiver) = mpsc::channel(2);
        let gone = sender.clone();
        let ending = tokio::spawn(async move {
            match deadline {
                None => gone.closed().await,
                Some(deadline) => {
                    let _ = tokio::time::timeout_at(deadline.into(), gone.closed()).await;
                }
            }
            cancelled.store(true, Ordering::Relaxed);
        });
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let out = Chunks {
                sender: sender.clone(),
                runtime: runtime.clone(),
                pending: Vec::with_capacity(CHUNK_BYTES),
                deadline,
                cancelled: watch.cancellation(),
            };
            let written = write(out, &watch);
            ending.abort();
            let Err(error) = written else { return watch.end(Progress::Done) };
            tracing::info!(%error, "{what} were not sent to their end");
            watch.end(if sender.is_closed() { Progress::Cancelled } else { Progress::Failed(error.to_string()) });
            // Its place is free now, not when the client has noticed.
            drop(permit);
            let _ = runtime.block_on(tokio::time::timeout(STALLED_MAX, sender.send(Err(error))));
        });
        let chunks = futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        // What compresses a body asks for more behind its end.
        Body::from_stream(chunks.fuse())
    }
}

/// Sends what is written as chunks of a body.
pub(in crate::rest) struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
    pending: Vec<u8>,
    deadline: Option<Instant>,
    /// Done when somebody cancels the question, also while its client does not read.
    cancelled: CancellationToken,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::replace(&mut self.pending, Vec::with_capacity(CHUNK_BYTES)));
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = left.map_or(STALLED_MAX, |left| left.min(STALLED_MAX));
        let sent = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => None,
                sent = tokio::time::timeout(patience, self.sender.send(Ok(chunk))) => Some(sent),
            }
        });
        let Some(sent) = sent else { return Err(io::Error::other("the question was cancelled")) };
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")),
        }
    }
}
