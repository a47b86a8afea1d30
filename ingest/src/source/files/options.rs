//! What a source of files is told, and what a file's name tells of its format.

use super::super::SourceError;
use super::pattern::Pattern;
use crate::objects::{ObjectFiles, is_object_name};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How the records of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesFormat {
    /// A JSON object a line.
    Ndjson,
    /// CSV with a header row.
    Csv,
    /// Parquet.
    Parquet,
}

/// Where a file is read from when nothing of any file was read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// All that there is.
    #[default]
    Earliest,
    /// Only what comes from now on: behind the last line feed of a text, the last row of a Parquet file. A gzipped
    /// text is unpacked for that, once. A file that cannot be read then is read whole when it can.
    Latest,
}

/// What to do when a file is shorter than what was read of it, or vanished before it was read to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// Stop with an error that says which.
    #[default]
    Fail,
    /// Read it from its begin, if there is one; told by [`super::super::Polled::Skipped`].
    Earliest,
}

/// What a source of files is told.
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// Paths of files; globs, in which `*`, `?` and `[..]` stand for parts of a name and `**` for folders at any depth;
    /// folders, for the files in and below them whose names tell a format. Names that begin with a dot must be written
    /// out: they are those of files that are still being written. What begins like a URL names objects in the same way.
    pub paths: Vec<String>,
    /// The stores that objects are read from.
    pub objects: Option<Arc<dyn ObjectFiles>>,
    /// Folders in which files must lie, wherever symbolic links lead; empty: anywhere.
    pub within: Vec<PathBuf>,
    /// The format of all files; none: by the name, `.ndjson`, `.jsonl`, `.csv` or `.parquet`. A `.gz` behind it is a
    /// gzipped text.
    pub format: Option<FilesFormat>,
    /// Whether to keep looking for new files and for what is appended to known ones; else the source has an end.
    pub watch: bool,
    /// How often to look, and to try unreadable files again; default 1 s.
    pub poll_interval: Duration,
    /// Where to begin; default: earliest. A file that turns up later is read whole.
    pub start: StartAt,
    /// What to do when records are gone; default: fail.
    pub on_missing: OnMissing,
    /// What separates the cells of a CSV row; default: a comma.
    pub csv_delimiter: u8,
    /// Records of a batch; default 16,384.
    pub batch_records_max: usize,
    /// Bytes of a batch (the last record may go over); default 8 MiB.
    pub batch_bytes_max: usize,
}

impl Default for FilesOptions {
    fn default() -> Self {
        FilesOptions {
            paths: Vec::new(),
            objects: None,
            within: Vec::new(),
            format: None,
            watch: false,
            poll_interval: Duration::from_secs(1),
            start: StartAt::default(),
            on_missing: OnMissing::default(),
            csv_delimiter: b',',
            batch_records_max: 16_384,
            batch_bytes_max: 8 << 20,
        }
    }
}

impl FilesOptions {
    /// Whether they can be; looks at no file.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] names the setting.
    pub fn check(&self) -> Result<(), SourceError> {
        if self.paths.iter().all(|path| path.trim().is_empty()) {
            return Err(invalid("paths", "none is given; write for example `events/*.ndjson`"));
        }
        if let b'"' | b'\n' | b'\r' | 0x80.. = self.csv_delimiter {
            return Err(invalid("csv_delimiter", "it must be one ASCII character, no quote and no end of a line"));
        }
        if self.poll_interval.is_zero() {
            return Err(invalid("poll_interval", "it must be above 0; write for example `1s`"));
        }
        if self.batch_records_max == 0 || self.batch_bytes_max == 0 {
            return Err(invalid("batch", "a batch must hold something"));
        }
        if self.objects.is_none() && self.reads_objects() {
            return Err(invalid("paths", "there is no access to object stores here; name files and folders"));
        }
        self.patterns().map(drop)
    }

    pub(super) fn patterns(&self) -> Result<Vec<Pattern>, SourceError> {
        let texts = self.paths.iter().filter(|path| !path.trim().is_empty());
        let patterns = texts.map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
        patterns.map_err(|what| invalid("paths", what))
    }

    /// Whether any path names objects.
    pub fn reads_objects(&self) -> bool {
        self.paths.iter().any(|path| is_object_name(path))
    }

    /// Whether a file lies where files may lie, whatever links lead to it; the error is for people. Objects have no links: they lie
    /// where their names say.
    pub(super) fn check_place(&self, name: &str) -> Result<(), String> {
        if is_object_name(name) {
            return Ok(());
        }
        check_within(Path::new(name), &self.within)
    }

    /// How a file of this name is read, if that can be told.
    pub(super) fn kind_of(&self, name: &str) -> Option<Kind> {
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let stem = name.strip_suffix(".gz");
        let by_name = || match stem.unwrap_or(&name).rsplit_once('.')?.1 {
            "ndjson" | "jsonl" => Some(FilesFormat::Ndjson),
            "csv" => Some(FilesFormat::Csv),
            // Compressed inside; one that is gzipped as well cannot be read from any row.
            "parquet" if stem.is_none() => Some(FilesFormat::Parquet),
            _ => None,
        };
        Some(Kind { format: self.format.or_else(by_name)?, gzip: stem.is_some() })
    }
}

/// Whether a file lies in one of these folders, whatever links lead to it; anywhere, if none is given. The error is for people.
pub(crate) fn check_within(file: &Path, folders: &[PathBuf]) -> Result<(), String> {
    if folders.is_empty() {
        return Ok(());
    }
    // One that is gone meanwhile is met again as such.
    let Ok(place) = fs::canonicalize(file) else { return Ok(()) };
    let is_in = |folder: &PathBuf| fs::canonicalize(folder).is_ok_and(|folder| place.starts_with(folder));
    if folders.iter().any(is_in) {
        Ok(())
    } else {
        Err(format!("{}: leads out of the folders that may be read", file.display()))
    }
}

pub(super) fn invalid(setting: &str, what: impl Into<String>) -> SourceError {
    SourceError::Invalid { setting: setting.to_owned(), what: what.into() }
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) format: FilesFormat,
    pub(super) gzip: bool,
}

impl Kind {
    /// Whether it may grow under an open handle and its size is an offset.
    pub(super) fn is_plain_text(self) -> bool {
        self.format != FilesFormat::Parquet && !self.gzip
    }
}
