//! The questions a snapshot answers about a predicate.
//!
//! Each runs one program per shard, chunk by chunk, on as many threads as the work is worth ([`run`]), and looks at the context's
//! flag before every chunk.

mod count;
mod explain;
mod members;
mod number;
mod overlap;
mod profile;
mod run;
mod touched;
mod user;

#[cfg(test)]
mod proptests;

pub use count::count;
pub use explain::{NodeStats, PlanNode, explain};
pub use members::{MemberPage, Position, bitmaps, members, sample, slots, slots_within};
pub use number::top_k;
pub use overlap::overlap;
pub use profile::{NumberProfile, Profile, TagProfile, ValueCount, profile, significance};
pub use touched::{Known, Reads};
pub use user::{UserValue, user_lists, user_tags};

use crate::error::{Class, ReadError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What bounds a query: it looks at `cancelled` before every chunk, which takes well under a millisecond. The caller sets
/// it on a deadline, a lost client or a shutdown; the engine has no clock.
#[derive(Clone, Debug, Default)]
pub struct QueryContext {
    /// Set to end the query with [`QueryError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
}

impl QueryContext {
    fn check(&self) -> Result<(), QueryError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(QueryError::Cancelled) } else { Ok(()) }
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The context was cancelled.
    #[error("the query was cancelled or ran out of time")]
    Cancelled,
    /// The question does not fit the tag.
    #[error("{0}")]
    Invalid(String),
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl QueryError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            QueryError::Cancelled => Class::Cancelled,
            QueryError::Invalid(_) => Class::Invalid,
            QueryError::Read(error) => error.class(),
        }
    }
}
