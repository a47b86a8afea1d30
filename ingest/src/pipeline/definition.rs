//! What a source is told.

use super::payload::PayloadFormat;
use crate::decode::body::LineDecoder;
#[cfg(feature = "arrow")]
use crate::decode::column_body::RowTarget;
use crate::decode::mapping::{FactMapping, Mapping, MappingError, TagMapping};
use crate::decode::{EventDecoder, TagDecoder};
use crate::enrich::Enrichment;
use crate::source::{Source, SourceError};
use engine::catalog::Catalog;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a source reads, and what becomes of its records.
#[derive(Clone, Debug)]
pub struct SourceDefinition {
    /// Opens it.
    pub connector: Arc<dyn Connector>,
    /// How its records are written.
    pub payload: PayloadFormat,
    /// What its records become.
    pub into: Target,
    /// How a record becomes a line of that; `None`: it is one already.
    pub mapping: Option<MappingDefinition>,
    /// What is looked up elsewhere for each record, one after another: a later look-up's key may be found by an earlier one.
    pub enrich: Vec<Arc<Enrichment>>,
    /// A partition that brought nothing for so long does not hold back the watermark.
    pub idle_after: Duration,
    /// How long what was read may wait for more before it is applied, in one step; zero: not at all.
    pub gather: Duration,
}

/// What records become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Events of this fact.
    Fact(String),
    /// Changes of tags.
    Tags,
}

/// How a record becomes a line of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingDefinition {
    /// Of a fact.
    Fact(FactMapping),
    /// Of tags.
    Tags(TagMapping),
}

/// Opens a source, as often as needed.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens it. Partitions of which no position is known begin at `begin`, or where the source was told.
    ///
    /// # Errors
    /// [`SourceError`]; it is then asked again later, unless a setting is wrong.
    fn open(&self, begin: Option<&Begin>) -> Result<Box<dyn Source>, SourceError>;
}

impl SourceDefinition {
    /// What decodes its records against a catalog.
    ///
    /// # Errors
    /// What does not fit the catalog.
    pub fn decoder(&self, catalog: &Catalog, now: i64) -> Result<LineDecoder, DefinitionError> {
        match &self.into {
            Target::Tags => Ok(LineDecoder::Tags(TagDecoder::new(catalog))),
            Target::Fact(name) => match catalog.declared_fact(name) {
                Some(fact) => Ok(LineDecoder::Events(Box::new(EventDecoder::new(fact, now)))),
                None => Err(DefinitionError::NoFact(name.clone())),
            },
        }
    }

    /// What rows of columns become against a catalog.
    ///
    /// # Errors
    /// What does not fit the catalog.
    #[cfg(feature = "arrow")]
    pub(super) fn rows(&self, catalog: &Arc<Catalog>, now: i64) -> Result<RowTarget, DefinitionError> {
        match &self.into {
            Target::Tags => Ok(RowTarget::Tags(catalog.clone())),
            Target::Fact(name) => match catalog.declared_fact(name) {
                Some(fact) => Ok(RowTarget::Events { fact: Box::new(fact.clone()), now }),
                None => Err(DefinitionError::NoFact(name.clone())),
            },
        }
    }

    /// Its mapping against a catalog.
    ///
    /// # Errors
    /// What does not fit the catalog.
    pub fn mapping(&self, catalog: &Catalog) -> Result<Option<Mapping>, DefinitionError> {
        let mapping = match (&self.mapping, &self.into) {
            (Some(MappingDefinition::Tags(mapping)), _) => Mapping::to_tags(mapping, catalog),
            (Some(MappingDefinition::Fact(mapping)), Target::Fact(name)) => match catalog.declared_fact(name) {
                Some(fact) => Mapping::to_fact(mapping, fact),
                None => return Err(DefinitionError::NoFact(name.clone())),
            },
            (None, _) | (Some(MappingDefinition::Fact(_)), Target::Tags) => return Ok(None),
        };
        mapping.map(Some).map_err(DefinitionError::Mapping)
    }
}

/// Why a source does not fit a catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// The fact is not declared.
    #[error("there is no fact `{0}`; declare it, or change `into`")]
    NoFact(String),
    /// The mapping names what there is not, or cannot be.
    #[error(transparent)]
    Mapping(MappingError),
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

#[cfg(feature = "files")]
impl Connector for crate::source::files::FilesOptions {
    fn open(&self, begin: Option<&Begin>) -> Result<Box<dyn Source>, SourceError> {
        use crate::source::apart::Apart;
        use crate::source::files::{FilesSource, StartAt};
        let mut options = self.clone();
        match begin {
            Some(Begin::Earliest) => options.start = StartAt::Earliest,
            Some(Begin::Latest) => options.start = StartAt::Latest,
            Some(Begin::Timestamp(_)) => {
                return Err(SourceError::Invalid {
                    setting: "to".to_owned(),
                    what: "lines of files have no times of their own; say `earliest`, `latest` or offsets".to_owned(),
                });
            }
            Some(Begin::Offsets(_)) | None => {}
        }
        let is_elsewhere = options.reads_objects();
        let source = FilesSource::open(options)?;
        Ok(if is_elsewhere { Box::new(Apart::new(source)?) } else { Box::new(source) })
    }
}
