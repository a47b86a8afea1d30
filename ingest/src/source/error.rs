//! Why a source cannot go on: what, where, and what to do.

use engine::error::Class;
use std::fmt;
use std::sync::Arc;

/// Records that were to be read next and are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRecords {
    /// The partition.
    pub partition: Arc<str>,
    /// The offset that comes next for us.
    pub needed: u64,
    /// The first offset there is.
    pub earliest: u64,
    /// The offset behind the last there is.
    pub end: u64,
}

impl MissingRecords {
    /// How many records are lost: those between ours and the earliest. None if the log ends before ours, when
    /// nobody can tell what was there.
    pub fn lost(&self) -> Option<u64> {
        self.earliest.checked_sub(self.needed)
    }
}

impl fmt::Display for MissingRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingRecords { partition, needed, earliest, end } = self;
        match self.lost() {
            Some(lost) => write!(
                f,
                "{partition}: offset {needed} comes next, but the earliest there is is {earliest}: the {lost} offsets \
                 between were deleted before they were read"
            ),
            None => write!(
                f,
                "{partition}: offset {needed} comes next, but the log ends at {end} (it begins at {earliest}): it was made \
                 anew or lost records"
            ),
        }
    }
}

/// Why a source cannot be opened or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A setting is wrong; nothing was opened.
    #[error("{setting}: {what}")]
    Invalid {
        /// The setting, as it is written.
        setting: String,
        /// What is wrong and what to write instead. Never holds a secret.
        what: String,
    },
    /// Records are gone, and the source was told to stop in that case.
    #[error(
        "{0}; reading it stops here. To go on, set `on_missing: earliest` (take what is left; the lost records stay \
         lost), for a topic also `on_missing: latest` (only what comes from now on), or give the partition another offset"
    )]
    Missing(MissingRecords),
    /// The other side did not answer; it may later.
    #[error("{doing}: {why}; it is tried again")]
    Unavailable {
        /// What was being done, as a verb phrase.
        doing: String,
        /// The other side's or the network's reason.
        why: String,
    },
    /// The partition is not ours.
    #[error("{partition} is not assigned to this source; assigned ones are told by `Polled::Assigned`")]
    NotAssigned {
        /// The partition.
        partition: String,
    },
    /// This connection is over; open the source again.
    #[error("{doing}: {why}; open the source again")]
    Fatal {
        /// What was being done, as a verb phrase.
        doing: String,
        /// The reason.
        why: String,
    },
}

impl SourceError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            SourceError::Invalid { .. } => Class::Invalid,
            SourceError::Missing(_) => Class::Conflict,
            SourceError::Unavailable { .. } | SourceError::Fatal { .. } => Class::Unavailable,
            SourceError::NotAssigned { .. } => Class::NotFound,
        }
    }
}
