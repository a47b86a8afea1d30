//! What a source is told.

use crate::source::{Source, SourceError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a source reads, and what becomes of its records.
#[derive(Clone, Debug)]
pub struct SourceDefinition {
    /// Opens it.
    pub connector: Arc<dyn Connector>,
    /// What its records become.
    pub into: Target,
    /// A partition that brought nothing for so long does not hold back the watermark.
    pub idle_after: Duration,
}

/// What records become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Events of this fact.
    Fact(String),
    /// Changes of tags.
    Tags,
}

/// Opens a source, as often as needed.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens it. Partitions of which no position is known begin at `begin`, or where the source was told.
    ///
    /// # Errors
    /// [`SourceError`]; it is then asked again later, unless a setting is wrong.
    fn open(&self, begin: Option<&Begin>) -> Result<Box<dyn Source>, SourceError>;
}

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With all that there is.
    Earliest,
    /// With what comes from now on.
    Latest,
    /// With records of this time and later, in milliseconds since 1970.
    Timestamp(i64),
    /// At these offsets; partitions that are not named stay where they are.
    Offsets(Vec<(String, u64)>),
}

#[cfg(feature = "kafka")]
impl Connector for crate::source::kafka::KafkaOptions {
    fn open(&self, begin: Option<&Begin>) -> Result<Box<dyn Source>, SourceError> {
        use crate::source::kafka::{KafkaSource, StartAt};
        let mut options = self.clone();
        match begin {
            Some(Begin::Earliest) => options.start = StartAt::Earliest,
            Some(Begin::Latest) => options.start = StartAt::Latest,
            Some(Begin::Timestamp(time_ms)) => options.start = StartAt::Timestamp(*time_ms),
            Some(Begin::Offsets(_)) | None => {}
        }
        Ok(Box::new(KafkaSource::open(options)?))
    }
}
