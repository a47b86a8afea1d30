//! What every error answers: its class. The edge turns a class into an HTTP status or a gRPC code, in one table.

use std::path::PathBuf;

/// The kinds of failure a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request itself is wrong; sending it again will not help.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// The request contradicts the present state.
    Conflict,
    /// A limit of size, memory or time was reached.
    Exhausted,
    /// The store cannot serve this now (read-only after a failed sync, shutting down).
    Unavailable,
    /// The caller gave up, or its deadline passed.
    Cancelled,
    /// Bytes on disk are not what was written.
    Corrupt,
    /// A fault outside the request: the disk, the operating system, a bug.
    Internal,
}

/// A file or its bytes could not be read as what they should be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are damaged. The file is never served; `beluga check` lists all damage.
    #[error("{}: damaged at byte {offset_bytes}: {what}; restore this file from a backup, or run `beluga check`", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file the damage was noticed.
        offset_bytes: u64,
        /// What is wrong.
        what: String,
    },
    /// The operating system refused.
    #[error("{}: {verb}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb phrase: "open", "map into memory".
        verb: &'static str,
        /// The operating system's answer. Shared, because many readers may wait for one result.
        source: std::sync::Arc<std::io::Error>,
    },
}

impl ReadError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            ReadError::Corrupt { .. } => Class::Corrupt,
            ReadError::Io { .. } => Class::Internal,
        }
    }
}

/// Why several files could not become one.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// An input is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output could not be written.
    #[error(transparent)]
    Write(#[from] std::io::Error),
}
