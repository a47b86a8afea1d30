//! Schemas by number, asked for once.

use super::schema::AvroSchema;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Gives the schemas of a registry.
pub trait SchemaSource: Debug + Send + Sync {
    /// The schema of this number; waits for the answer, some seconds at most.
    ///
    /// # Errors
    /// [`FetchError`].
    fn fetch(&self, id: u32) -> Result<RegisteredSchema, FetchError>;
}

/// A schema, and those that it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// As Avro writes it, in JSON.
    pub text: String,
    /// The others, each behind those that it refers to.
    pub references: Vec<String>,
}

/// Why a registry gives no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is none, or none of Avro: records that name it cannot be read.
    #[error("{0}")]
    None(String),
    /// It could not be asked, or would not say; it may tell later.
    #[error("{0}")]
    Unavailable(String),
}

/// How many schemas are remembered.
const SCHEMAS_MAX: usize = 1024;

/// How long it is believed that there is no such schema.
const ABSENT_FOR: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Registry {
    source: Arc<dyn SchemaSource>,
    known: HashMap<u32, Known>,
}

#[derive(Debug)]
enum Known {
    Schema(Arc<AvroSchema>),
    None { why: String, since: Instant },
}

impl Registry {
    pub(super) fn new(source: Arc<dyn SchemaSource>) -> Registry {
        Registry { source, known: HashMap::new() }
    }

    /// Asks for a schema unless it is known.
    pub(super) fn fetch(&mut self, id: u32) -> Result<(), String> {
        match self.known.get(&id) {
            Some(Known::Schema(_)) => return Ok(()),
            Some(Known::None { since, .. }) if since.elapsed() < ABSENT_FOR => return Ok(()),
            _ => {}
        }
        let known = match self.source.fetch(id) {
            Ok(schema) => match AvroSchema::parse(&schema.text, &schema.references) {
                Ok(schema) => Known::Schema(Arc::new(schema)),
                Err(error) => Known::none(format!("schema {id} of the registry: {error}")),
            },
            Err(FetchError::None(why)) => Known::none(why),
            Err(FetchError::Unavailable(why)) => return Err(why),
        };
        if self.known.len() >= SCHEMAS_MAX {
            // Numbers that damage made up go first.
            self.known.retain(|_, known| matches!(known, Known::Schema(_)));
            if self.known.len() >= SCHEMAS_MAX {
                self.known.clear();
            }
        }
        self.known.insert(id, known);
        Ok(())
    }

    pub(super) fn known(&self, id: u32) -> Result<&Arc<AvroSchema>, String> {
        match self.known.get(&id) {
            Some(Known::Schema(schema)) => Ok(schema),
            Some(Known::None { why, .. }) => Err(why.clone()),
            // More different numbers came in one batch than are remembered.
            None => Err(format!("schema {id} of the registry was not asked for; rewind to read the record again")),
        }
    }
}

impl Known {
    fn none(why: String) -> Known {
        Known::None { why, since: Instant::now() }
    }
}
