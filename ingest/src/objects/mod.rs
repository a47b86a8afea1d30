//! Objects in stores elsewhere (S3 and its like), read as files are.
//!
//! The seam is [`ObjectFiles`]: list names, ask for one, read a range. A request returns at once and its answer comes through
//! a channel, so whoever waits can be told to stop while a store hangs, and the next range is on its way while this one is
//! decoded. What speaks to a store, and with what credentials, is not known here.
//!
//! Behind the seam local files and objects are the same: a [`Place`] opens as text ([`FileBytes`]) or as columns
//! ([`ColumnBytes`]), and the readers of formats know neither. An object is read as it was listed: each range is asked for
//! with the object's version, so bytes of two versions never mix.
//!
//! * `reader`: an object from front to back, a few megabytes ahead. `blocks`: its columns, block by block.
//! * `place`: files here and elsewhere under one face. `pattern`: which objects a path or glob names.

mod blocks;
#[cfg(test)]
pub(crate) mod memory;
mod pattern;
mod place;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use pattern::{Enough, Found, ObjectPattern, odd_name};
pub(crate) use place::{ColumnBytes, FileBytes, Opener, Place};

use bytes::Bytes;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Objects that a path or glob may name: each takes some hundred bytes of memory.
pub const OBJECTS_MAX: usize = 1_000_000;
/// How soon who waits for an answer sees that it was told to stop.
const STOP_SEEN_AFTER: Duration = Duration::from_millis(50);

/// The answer to a request, when it comes. Who drops it does not want it any more.
pub type Answer<T> = Receiver<Result<T, ObjectError>>;

/// Stores of objects. A name is a URL: `s3://bucket/visits/2026.parquet`, its key written as it is, with nothing encoded.
///
/// Requests must end by themselves, with [`ObjectErrorKind::Unavailable`] when a store does not answer in time; what may pass
/// soon is tried again before that is said.
pub trait ObjectFiles: fmt::Debug + Send + Sync {
    /// Asks for some of the objects whose names begin with `prefix`, in any order; with `next` of a page, for the ones behind it.
    fn list(&self, prefix: &str, depth: Depth, next: Option<&str>) -> Answer<Page>;

    /// Asks what is known of an object.
    fn stat(&self, name: &str) -> Answer<Object>;

    /// Asks for these bytes of an object, not empty and inside it, all of them, and as it was when it had this version.
    fn read(&self, object: &Object, range: Range<u64>) -> Answer<Bytes>;
}

/// Which objects below a prefix are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Those without a `/` behind the prefix.
    Here,
    /// All.
    Any,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Object>,
    /// Names of objects that cannot be read because of what they are called.
    pub odd_names: Vec<String>,
    /// What to ask for the next part with; none: this was the last.
    pub next: Option<String>,
}

/// An object as a store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: Arc<str>,
    /// Its size.
    pub size_bytes: u64,
    /// What changes with its content (an e-tag), if the store tells.
    pub version: Option<Arc<str>>,
    /// When it was written, if the store tells.
    pub modified: Option<SystemTime>,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ObjectError {
    /// What it means.
    pub kind: ObjectErrorKind,
    /// For people; never holds a secret.
    pub what: String,
}

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// There is no such object.
    Gone,
    /// The object was replaced by another version.
    Changed,
    /// The store will not: no permission, no such bucket, a setting that is wrong.
    Refused,
    /// The store does not answer, or says that it cannot now.
    Unavailable,
    /// Who waited was told to stop.
    Stopped,
}

impl ObjectError {
    /// An error of this kind.
    pub fn new(kind: ObjectErrorKind, what: impl Into<String>) -> ObjectError {
        ObjectError { kind, what: what.into() }
    }
}

impl From<ObjectError> for io::Error {
    fn from(error: ObjectError) -> Self {
        match error.kind {
            ObjectErrorKind::Gone => io::Error::new(io::ErrorKind::NotFound, error),
            _ => io::Error::other(error),
        }
    }
}

/// Whether a path names objects: it begins like a URL.
pub fn is_object_name(path: &str) -> bool {
    path.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// Waits for an answer, or until it is to stop.
pub(crate) fn wait<T>(answer: &Answer<T>, is_over: &dyn Fn() -> bool) -> Result<T, ObjectError> {
    loop {
        if is_over() {
            return Err(ObjectError::new(ObjectErrorKind::Stopped, "told to stop"));
        }
        match answer.recv_timeout(STOP_SEEN_AFTER) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ObjectError::new(ObjectErrorKind::Unavailable, "the request ended without an answer"));
            }
        }
    }
}

/// An object that is read, and why the last attempt failed: formats' libraries keep only words of that.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    files: Arc<dyn ObjectFiles>,
    object: Object,
    stop: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<ObjectError>>>,
    /// The first bytes, asked for before anybody reads.
    first: Arc<Mutex<Option<Asked>>>,
}

/// Bytes that were asked for, and their answer.
type Asked = (Range<u64>, Answer<Bytes>);

impl Handle {
    fn new(files: Arc<dyn ObjectFiles>, object: Object, stop: Arc<AtomicBool>) -> Handle {
        Handle { files, object, stop, trouble: Arc::default(), first: Arc::default() }
    }

    fn size_bytes(&self) -> u64 {
        self.object.size_bytes
    }

    /// Has the first bytes come while something else is done.
    fn ask_ahead(&self) {
        let range = 0..reader::CHUNK_BYTES_FIRST.min(self.size_bytes());
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() && !range.is_empty() {
            *first = Some((range.clone(), self.ask(range)));
        }
    }

    fn take_first(&self) -> Option<Asked> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn ask(&self, range: Range<u64>) -> Answer<Bytes> {
        self.files.read(&self.object, range)
    }

    /// Waits for bytes that were asked for.
    fn wait(&self, answer: &Answer<Bytes>, range: &Range<u64>) -> io::Result<Bytes> {
        let expected = range.end - range.start;
        let bytes = wait(answer, &|| self.stop.load(Ordering::Relaxed)).and_then(|bytes| match bytes.len() as u64 {
            found if found == expected => Ok(bytes),
            found => {
                let what = format!("the store gave {found} bytes of {expected}");
                Err(ObjectError::new(ObjectErrorKind::Unavailable, what))
            }
        });
        bytes.map_err(|error| {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            error.into()
        })
    }

    fn get(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.wait(&self.ask(range.clone()), &range)
    }

    fn trouble(&self) -> Option<ObjectError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
