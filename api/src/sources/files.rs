//! Files and folders, as a catalog document declares them.
//!
//! Whoever may change the catalog could read any file of the server this way. So only folders are read that the server was
//! told of when it was started (`source_folders`).

use super::declaration::Place;
use super::kafka::OneOrMany;
use super::span::Span;
use crate::config::Config;
use ingest::pipeline::Connector;
use ingest::source::files::{FilesFormat, FilesOptions, OnMissing, StartAt};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};
use std::sync::Arc;

/// Files of the server; new ones, and lines that are appended, are read as they come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesDeclaration {
    /// Files, folders and globs (`*`, `?`, `[…]`, `**`), from the root: one, several with commas, or a list.
    pub paths: OneOrMany,
    /// How files are written; left out: by each file's extension (`.ndjson`, `.csv`, `.parquet`; `.gz` behind it for text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormatName>,
    /// Whether to go on looking for new files and lines; if not, the source finishes. True if it is not said.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub watch: bool,
    /// How often to look: `1 s` if it is not said.
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
            check_folder(path, config).map_err(|why| Place::new("/files/paths", why))?;
        }
        let defaults = FilesOptions::default();
        let delimiter = match self.delimiter {
            None => defaults.csv_delimiter,
            Some(delimiter) => u8::try_from(delimiter).ok().filter(u8::is_ascii).ok_or_else(|| {
                Place::new("/files/delimiter", format!("`{delimiter}` is not ASCII; write one such as `;`"))
            })?,
        };
        Ok(Arc::new(FilesOptions {
            paths,
            format: self.format.map(|format| match format {
                FileFormatName::Ndjson => FilesFormat::Ndjson,
                FileFormatName::Csv => FilesFormat::Csv,
                FileFormatName::Parquet => FilesFormat::Parquet,
            }),
            watch: self.watch,
            poll_interval: self.every.map_or(defaults.poll_interval, |span| span.0),
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
        }))
    }
}

/// Whether a path or glob lies in a folder that the server may read.
///
/// # Errors
/// A sentence for people.
pub fn check_folder(path: &str, config: &Config) -> Result<(), String> {
    let parts = Path::new(path);
    if !parts.is_absolute() || parts.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{path}`: write it from the root and without `..`, such as /in/*.ndjson"));
    }
    if config.source_folders.iter().any(|folder| parts.starts_with(folder)) {
        return Ok(());
    }
    let allowed: Vec<String> = config.source_folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(match allowed.as_slice() {
        [] => format!(
            "`{path}`: this server reads no files; start it with `source_folders` (BELUGA_SOURCE_FOLDERS) set to the \
             folders that it may read"
        ),
        allowed => format!("`{path}`: this server reads files in {} only (`source_folders`)", allowed.join(", ")),
    })
}
