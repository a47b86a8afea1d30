//! Files that a sink writes, as a catalog document declares them.
//!
//! Whoever may change the catalog could write anywhere on the server this way. So only folders are written to that the server was
//! told of when it was started (`sink_folders`).

use crate::config::Config;
use crate::sources::Place;
use crate::sources::folders::check_folder_to_write;
use crate::sources::span::Span;
use engine::vfs::real::RealVfs;
use ingest::sink::files::{FILE_AGE, FILE_BYTES, FilesOptions};
use ingest::sink::{Connector, Deliver, DeliveryError, SinkIdentity};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of NDJSON; one whose name ends with `.ndjson` is whole and does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesSinkDeclaration {
    /// The folder, from the root, within the server's `sink_folders`.
    #[schema(value_type = String)]
    pub folder: PathBuf,
    /// Bytes at which a file is whole: 64 MiB if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The age at which a file is whole: `5 min` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "5 min")]
    pub max_age: Option<Span>,
}

impl FilesSinkDeclaration {
    /// For people: `files in /srv/out`.
    pub(super) fn summary(&self) -> String {
        format!("files in {}", self.folder.display())
    }

    /// What opens them.
    ///
    /// # Errors
    /// What is wrong in the declaration.
    pub(super) fn connector(&self, config: &Config) -> Result<Arc<dyn Connector>, Place> {
        check_folder_to_write(&self.folder, &config.sink_folders, "sink_folders")
            .map_err(|why| Place::new("/files/folder", why))?;
        if self.max_bytes == Some(0) {
            return Err(Place::new("/files/max_bytes", "a file must hold something"));
        }
        let options = FilesOptions {
            vfs: Arc::new(RealVfs),
            folder: self.folder.clone(),
            max_bytes: self.max_bytes.unwrap_or(FILE_BYTES),
            max_age: self.max_age.map_or(FILE_AGE, |span| span.0),
        };
        Ok(Arc::new(Within { options, folders: config.sink_folders.clone() }))
    }
}

/// Files that links do not lead out of the folders.
#[derive(Debug)]
struct Within {
    options: FilesOptions,
    folders: Vec<PathBuf>,
}

impl Connector for Within {
    fn open(&self, sink: &SinkIdentity) -> Result<Box<dyn Deliver>, DeliveryError> {
        let folder = &self.options.folder;
        let real =
            real_path(folder).map_err(|error| DeliveryError::later(format!("find {}: {error}", folder.display())))?;
        let is_within =
            self.folders.iter().filter_map(|folder| real_path(folder).ok()).any(|folder| real.starts_with(folder));
        if !is_within {
            let why = format!(
                "{}: a link leads out of the folders of `sink_folders`, to {}",
                folder.display(),
                real.display()
            );
            return Err(DeliveryError::Never(why));
        }
        self.options.open(sink)
    }
}

/// Where a path leads; parts that are not there yet stay as they are.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(real_path(parent)?.join(name))
        }
        (found, ..) => found,
    }
}
