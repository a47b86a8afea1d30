//! Files and folders, as a catalog document declares them.
//!
//! Whoever may change the catalog could read any file of the server this way. So only folders are read that the server was
//! told of when it was started (`source_folders`).

use super::declaration::Place;
use super::folders::check_folder;
use super::kafka::OneOrMany;
use super::span::Span;
use crate::config::Config;
use crate::objects::{ObjectStoreDeclaration, check_store, objects};
use ingest::objects::is_object_name;
use ingest::pipeline::Connector;
use ingest::source::SourceError;
use ingest::source::files::{FilesFormat, FilesOptions, OnMissing, StartAt};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often object stores are listed: each time is a request for every thousand names.
const OBJECTS_EVERY: Duration = Duration::from_secs(10);

/// Files of the server, or objects of a store; new ones, and lines that are appended, are read as they come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesDeclaration {
    /// Files, folders and globs (`*`, `?`, `[…]`, `**`), from the root: one, several with commas, or a list. The same of objects by
    /// URL: `s3://bucket/visits/*.parquet` (`gs://`, `az://`).
    pub paths: OneOrMany,
    /// How files are written; left out: by each file's extension (`.ndjson`, `.csv`, `.parquet`; `.gz` behind it for text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormatName>,
    /// Whether to go on looking for new files and lines; if not, the source finishes. True if it is not said.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub watch: bool,
    /// How often to look: `1 s` if it is not said, `10 s` with objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1 s")]
    pub every: Option<Span>,
    /// Where to begin.
    #[serde(default)]
    pub start: FilesStartName,
    /// What to do if a file became shorter, or went before it was read.
    #[serde(default)]
    pub on_missing: FilesOnMissingName,
    /// What stands between CSV cells; a comma if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// How an S3-compatible store is reached, where the server's environment does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreDeclaration>,
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormatName {
    /// A JSON object a line.
    Ndjson,
    /// Text with a header line; a record is an object of text by column.
    Csv,
    /// Apache Parquet; a record is an object of a row's values by column.
    Parquet,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilesStartName {
    /// With all that there is.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// What to do if a file became shorter, or went before it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilesOnMissingName {
    /// Stop, and say so.
    #[default]
    Fail,
    /// Read it from its begin, or let it go.
    Earliest,
}

impl FilesDeclaration {
    /// For people: `files /in/*.ndjson`.
    pub(super) fn summary(&self) -> String {
        format!("files {}", self.paths.list().join(", "))
    }

    /// What opens them.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    pub(super) fn connector(&self, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        let paths = self.paths.list();
        if paths.iter().all(String::is_empty) {
            return Err(Place::new("/files/paths", "none is given; write a folder or a glob such as /in/*.ndjson"));
        }
        for path in &paths {
            match is_object_name(path) {
                true => check_store(path, &config.source_stores),
                false => check_folder(Path::new(path), &config.source_folders, "source_folders"),
            }
            .map_err(|why| Place::new("/files/paths", why))?;
        }
        let objects = objects(self.object_store.as_ref(), &paths, Some(config))
            .map_err(|place| Place::new(format!("/files{}", place.pointer), place.why))?;
        let defaults = FilesOptions::default();
        let delimiter = match self.delimiter {
            None => defaults.csv_delimiter,
            Some(delimiter) => u8::try_from(delimiter).ok().filter(u8::is_ascii).ok_or_else(|| {
                Place::new("/files/delimiter", format!("`{delimiter}` is not ASCII; write one such as `;`"))
            })?,
        };
        let options = FilesOptions {
            within: config.source_folders.clone(),
            paths,
            format: self.format.map(|format| match format {
                FileFormatName::Ndjson => FilesFormat::Ndjson,
                FileFormatName::Csv => FilesFormat::Csv,
                FileFormatName::Parquet => FilesFormat::Parquet,
            }),
            watch: self.watch,
            poll_interval: self
                .every
                .map_or(if objects.is_some() { OBJECTS_EVERY } else { defaults.poll_interval }, |span| span.0),
            objects,
            start: match self.start {
                FilesStartName::Earliest => StartAt::Earliest,
                FilesStartName::Latest => StartAt::Latest,
            },
            on_missing: match self.on_missing {
                FilesOnMissingName::Fail => OnMissing::Fail,
                FilesOnMissingName::Earliest => OnMissing::Earliest,
            },
            csv_delimiter: delimiter,
            ..defaults
        };
        options.check().map_err(|error| match error {
            SourceError::Invalid { setting, what } => {
                let setting = match setting.as_str() {
                    "csv_delimiter" => "delimiter",
                    "poll_interval" => "every",
                    other => other,
                };
                Place::new(format!("/files/{setting}"), what)
            }
            other => Place::new("/files", other.to_string()),
        })?;
        Ok(Arc::new(options))
    }
}
