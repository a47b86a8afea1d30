//! How the records of a source are written, as a catalog document declares it.
//!
//! ```yaml
//! format: avro                       # json if it is not said; arrow
//! schema_file: /schemas/view.avsc    # or schema: {…}, or schema_registry: { url: "https://registry:8081", user: …, password: … }
//! ```

use super::declaration::{Place, SourceDeclaration};
use super::folders::check_folder;
use super::registry::HttpRegistry;
use super::secret::SecretPlace;
use crate::config::Config;
use ingest::decode::avro::{AvroFormat, AvroSchema};
use ingest::pipeline::PayloadFormat;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// A JSON object a record, as `POST /v1/facts/{fact}` or `POST /v1/tags` take it.
    #[default]
    Json,
    /// A value of Apache Avro a record; its fields are those of such an object.
    Avro,
    /// A stream of Apache Arrow (IPC) a record, whose rows are what such objects are.
    Arrow,
}

/// A registry of schemas, of which each record names one by its number (Confluent's wire format).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryDeclaration {
    /// Its address: `https://registry:8081`.
    pub url: String,
    /// The name, if it asks for one.
    #[serde(default, alias = "username", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretPlace>,
}

/// The largest schema, in bytes.
pub(super) const SCHEMA_BYTES_MAX: u64 = 1 << 20;

impl SourceDeclaration {
    /// How its records are written.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    pub(super) fn payload(&self, config: &Config) -> Result<PayloadFormat, Place> {
        let given = [
            ("/schema", self.schema.is_some()),
            ("/schema_file", self.schema_file.is_some()),
            ("/schema_registry", self.schema_registry.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given).map(|(pointer, _)| pointer);
        let (first, second) = (given.next(), given.next());
        if self.files.is_some() && self.format != FormatName::Json {
            let why = "it is for the records of topics; how files are written stands in `files.format`";
            return Err(Place::new("/format", why));
        }
        if !self.enrich.is_empty() && self.format != FormatName::Json {
            let why = "look-ups read records of JSON; leave `enrich` out, or let the topic have JSON";
            return Err(Place::new("/enrich", why));
        }
        match (self.format, first, second) {
            (FormatName::Json, None, _) => Ok(PayloadFormat::Json),
            (FormatName::Arrow, None, _) => Ok(PayloadFormat::Arrow),
            (FormatName::Json | FormatName::Arrow, Some(pointer), _) => {
                Err(Place::new(pointer, "it goes with `format: avro`"))
            }
            (FormatName::Avro, _, Some(pointer)) => {
                Err(Place::new(pointer, "say one of `schema`, `schema_file` and `schema_registry`"))
            }
            (FormatName::Avro, None, None) => {
                let why = "avro takes `schema`, `schema_file` or `schema_registry`: what its records are written with";
                Err(Place::new("/format", why))
            }
            (FormatName::Avro, Some(pointer), None) => self.avro(pointer, config).map(PayloadFormat::Avro),
        }
    }

    fn avro(&self, pointer: &str, config: &Config) -> Result<AvroFormat, Place> {
        let wrong = |why: String| Place::new(pointer, why);
        let text = match (&self.schema, &self.schema_file, &self.schema_registry) {
            (Some(schema), ..) => schema.to_string(),
            (_, Some(path), _) => {
                check_folder(path, &config.source_folders, "source_folders").map_err(wrong)?;
                read_file(path).map_err(wrong)?
            }
            (.., Some(registry)) => {
                let password = registry.password.as_ref();
                if let Some(place) = password {
                    place.check(config).map_err(|why| Place::new("/schema_registry/password", why))?;
                }
                let registry = HttpRegistry::new(&registry.url, registry.user.clone(), password.cloned());
                return Ok(AvroFormat::Registry(Arc::new(
                    registry.map_err(|why| Place::new("/schema_registry/url", why))?,
                )));
            }
            (None, None, None) => String::new(),
        };
        let schema = AvroSchema::parse(&text, &[]).map_err(|error| wrong(error.to_string()))?;
        Ok(AvroFormat::Schema(Arc::new(schema)))
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(SCHEMA_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SCHEMA_BYTES_MAX {
        return Err(format!("{} has more than {SCHEMA_BYTES_MAX} bytes", path.display()));
    }
    Ok(text)
}
