//! What a look-up is told.

use super::lookup::Lookup;
use super::splice::KeyReader;
use std::sync::Arc;
use std::time::Duration;

/// Requests in flight at most, of one look-up.
pub const IN_FLIGHT_MAX: usize = 1_000;

/// Characters of a look-up's name at most.
pub const NAME_CHARS_MAX: usize = 64;

/// One look-up of a source.
#[derive(Clone, Debug)]
pub struct Enrichment {
    /// The member that each record gets.
    pub name: String,
    /// Where the key stands in the record: a path as mappings have it.
    pub key: String,
    /// The other system.
    pub lookup: Arc<dyn Lookup>,
    /// What is kept of its answers; none: nothing, but equal keys that wait are asked once.
    pub cache: Option<CachePolicy>,
    /// How long a request may take.
    pub timeout: Duration,
    /// How often a key is asked again after a failure, before [`Enrichment::on_failure`] says what becomes of it.
    pub retries: u32,
    /// Requests in flight at most.
    pub in_flight: usize,
    /// Whether partitions wait for each other.
    pub order: Order,
    /// What becomes of a record whose key the other system does not know.
    pub on_missing: OnMissing,
    /// What becomes of a record whose key could not be looked up.
    pub on_failure: OnFailure,
}

/// What is kept of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// Keys at most.
    pub entries: usize,
    /// How long what was found is kept.
    pub ttl: Duration,
    /// How long it is kept that a key is not known.
    pub missing_ttl: Duration,
}

/// In which order records go on. Those of one partition never overtake each other: the offset that is noted with a record
/// stands for all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In that in which they were read.
    #[default]
    Ordered,
    /// Partitions do not wait for each other.
    Unordered,
}

/// What becomes of a record whose key the other system does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// It goes on without the member.
    #[default]
    Keep,
    /// It is not wanted.
    Drop,
    /// It is refused, and becomes a dead letter.
    DeadLetter,
}

/// What becomes of a record whose key could not be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It waits, and so do those behind it, until the other system answers.
    #[default]
    Wait,
    /// It goes on without the member.
    Keep,
    /// It is refused, and becomes a dead letter.
    DeadLetter,
}

/// What is wrong with a look-up: in which setting, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}")]
pub struct EnrichmentError {
    /// The setting, as a field of [`Enrichment`].
    pub setting: &'static str,
    /// What is wrong, and what to write instead.
    pub what: String,
}

impl Enrichment {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), EnrichmentError> {
        let wrong = |setting, what: String| Err(EnrichmentError { setting, what });
        let begins_well = self.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_word = self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !begins_well || !is_word || self.name.len() > NAME_CHARS_MAX {
            let what = format!(
                "`{}`: write a letter or `_`, then letters, digits and `_`, at most {NAME_CHARS_MAX}; paths begin with it",
                self.name
            );
            return wrong("name", what);
        }
        KeyReader::new(&self.name, &self.key)?;
        if self.timeout.is_zero() {
            return wrong("timeout", "a request needs some time; write 2 s".to_owned());
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            return wrong("in_flight", format!("write a number from 1 to {IN_FLIGHT_MAX}"));
        }
        match self.cache {
            Some(cache) if cache.entries == 0 => {
                wrong("cache", "`entries` is how many keys are kept; write some, or leave `cache` out".to_owned())
            }
            _ => Ok(()),
        }
    }
}
