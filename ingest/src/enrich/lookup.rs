//! The seam to the system that is asked.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Bytes of what is found of one key, at most: it becomes part of a record.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Another system that knows something of keys.
pub trait Lookup: fmt::Debug + Send + Sync {
    /// Keys of one request at most, at least 1.
    fn keys_max(&self) -> usize;

    /// Begins to ask for these keys, which differ, and returns at once. The answer is sent through `reply`, from any
    /// thread; it has one [`Answer`] a key, in their order. Once what is returned is dropped, nobody waits any more.
    ///
    /// It need not watch the time: a request that takes too long is given up by the caller.
    fn ask(&self, keys: Vec<Arc<str>>, reply: Reply) -> Asking;
}

/// What is known of one key: a JSON object, at most [`ANSWER_BYTES_MAX`] bytes; nothing; or why this key cannot be asked for.
pub type Answer = Result<Option<String>, String>;

/// A request that is under way; dropping it gives the request up.
#[derive(Debug)]
pub struct Asking(#[expect(dead_code, reason = "what counts is when it is dropped")] Box<dyn Any + Send>);

impl Asking {
    /// Of something that ends the request when it is dropped.
    pub fn new(guard: impl Any + Send) -> Asking {
        Asking(Box::new(guard))
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct LookupError {
    /// What happened, for people. Never holds a secret.
    pub why: String,
    /// It may be over soon: asking again soon makes sense.
    pub is_passing: bool,
    /// How long the other side wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl LookupError {
    /// One that may be over soon.
    pub fn passing(why: impl Into<String>) -> LookupError {
        LookupError { why: why.into(), is_passing: true, retry_after: None }
    }

    /// One that somebody has to do something about.
    pub fn lasting(why: impl Into<String>) -> LookupError {
        LookupError { why: why.into(), is_passing: false, retry_after: None }
    }
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Which look-up asked.
    pub(super) asker: usize,
    pub(super) request: u64,
    pub(super) result: Result<Vec<Answer>, LookupError>,
}

/// Where the answer of a request goes.
#[derive(Debug)]
pub struct Reply {
    to: Sender<Arrival>,
    asker: usize,
    request: u64,
    is_sent: bool,
}

impl Reply {
    pub(super) fn new(to: Sender<Arrival>, asker: usize, request: u64) -> Reply {
        Reply { to, asker, request, is_sent: false }
    }

    /// Sends it.
    pub fn send(mut self, result: Result<Vec<Answer>, LookupError>) {
        self.put(result);
    }

    fn put(&mut self, result: Result<Vec<Answer>, LookupError>) {
        self.is_sent = true;
        // Nobody waits any more.
        let _ = self.to.send(Arrival { asker: self.asker, request: self.request, result });
    }
}

impl Drop for Reply {
    /// One that was never sent is a failure, lest somebody waits for it.
    fn drop(&mut self) {
        if !self.is_sent {
            self.put(Err(LookupError::passing("the request ended without an answer")));
        }
    }
}
