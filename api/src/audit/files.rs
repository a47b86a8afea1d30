//! How records are kept: numbered files of lines, each `{"hash":"…","record":{…}}`. A file begins with a line that names the hash
//! before it, so that older files can be removed and what is left can still be verified.

use super::record::Record;
use crate::access::{failed, hex};
use crate::error::{Failure, Kind};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The folder in the data directory.
pub const FOLDER: &str = "audit";
/// Bytes of a file at which the next one is begun.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the longest line; records are far shorter.
pub(super) const LINE_BYTES_MAX: u64 = 64 << 10;
/// The hash before the first record.
pub(super) const FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What the names of files end with.
const ENDING: &str = ".ndjson";

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The hash of the record before.
    pub(super) after: String,
    /// How many records there were before.
    pub(super) records: u64,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line<'l> {
    pub(super) hash: String,
    /// As it was hashed.
    #[serde(borrow)]
    pub(super) record: &'l RawValue,
}

/// The hash of a record behind another.
pub(super) fn hash_of(before: &str, record: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(before.as_bytes());
    context.update(record.as_bytes());
    hex(context.finish().as_ref())
}

/// The files of a folder, oldest first, with their numbers.
///
/// # Errors
/// [`Kind::LocalFile`].
pub(super) fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_suffix(ENDING)?.parse().ok());
        found.extend(number.map(|number: u64| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

/// The files of a log, open for more records.
pub(super) struct Files {
    folder: PathBuf,
    file_bytes_max: u64,
    keep: Duration,
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
    last: Last,
}

/// The last record of all.
#[derive(Clone, Debug)]
struct Last {
    hash: String,
    /// How many records there are.
    count: u64,
}

impl Files {
    /// Goes on where the newest file ends; a line that a crash broke off there is cut.
    ///
    /// # Errors
    /// [`Kind::LocalFile`]; [`Kind::Corrupt`] if the newest file cannot be gone on with.
    pub(super) fn open(folder: &Path, file_bytes_max: u64, keep: Duration) -> Result<Files, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
        let all = list(folder)?;
        let (number, last) = match all.last() {
            None => (1, Last { hash: FIRST.to_owned(), count: 0 }),
            Some((number, path)) => match end_of(path)? {
                Some((last, bytes)) => {
                    let mut file = open_file(path)?;
                    file.set_len(bytes).map_err(|error| failed(path, &error))?;
                    file.seek(SeekFrom::End(0)).map_err(|error| failed(path, &error))?;
                    let (folder, path) = (folder.to_owned(), path.clone());
                    return Ok(Files { folder, file_bytes_max, keep, number: *number, path, file, bytes, last });
                }
                // It was made, and nothing was written to it: what is before it is the end.
                None => {
                    std::fs::remove_file(path).map_err(|error| failed(path, &error))?;
                    return Files::open(folder, file_bytes_max, keep);
                }
            },
        };
        Files::begin(folder, file_bytes_max, keep, number, last)
    }

    fn begin(folder: &Path, file_bytes_max: u64, keep: Duration, number: u64, last: Last) -> Result<Files, Failure> {
        let path = folder.join(format!("{number:08}{ENDING}"));
        let mut file = open_file(&path)?;
        let head = serde_json::to_string(&Head { after: last.hash.clone(), records: last.count })
            .map_err(Failure::internal)?;
        let head = format!("{head}\n");
        let written = file.write_all(head.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| failed(&path, &error))?;
        sync_folder(folder)?;
        let bytes = head.len() as u64;
        Ok(Files { folder: folder.to_owned(), file_bytes_max, keep, number, path, file, bytes, last })
    }

    /// Adds records; on disk when this returns.
    ///
    /// # Errors
    /// [`Kind::LocalFile`]: then some may be there.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), Failure> {
        if self.bytes >= self.file_bytes_max {
            *self = Files::begin(&self.folder, self.file_bytes_max, self.keep, self.number + 1, self.last.clone())?;
            self.remove_old();
        }
        let mut text = String::new();
        for record in records {
            let record = serde_json::value::to_raw_value(record).map_err(Failure::internal)?;
            let hash = hash_of(&self.last.hash, record.get());
            let line = serde_json::to_string(&Line { hash: hash.clone(), record: &record });
            text.push_str(&line.map_err(Failure::internal)?);
            text.push('\n');
            self.last = Last { hash, count: self.last.count + 1 };
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|error| failed(&self.path, &error))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Removes files that ended long ago; what cannot be removed is tried again with the next file.
    fn remove_old(&self) {
        for (number, path) in list(&self.folder).unwrap_or_default() {
            let modified = std::fs::metadata(&path).and_then(|data| data.modified());
            let is_old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > self.keep);
            if number < self.number && modified.is_ok_and(is_old) && std::fs::remove_file(&path).is_err() {
                tracing::warn!(path = %path.display(), "an old file of the audit log cannot be removed");
            }
        }
    }
}

fn open_file(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    opened.map_err(|error| failed(path, &error))
}

fn sync_folder(folder: &Path) -> Result<(), Failure> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed(folder, &error))
}

/// The last record up to a file's end, and where the file's last whole line ends. `None` of a file without a whole first line.
fn end_of(path: &Path) -> Result<Option<(Last, u64)>, Failure> {
    let corrupt = |line: u64| {
        Failure::new(Kind::Corrupt, format!("{}: line {line} is no record of the audit log", path.display()))
            .suggest("move the folder `audit` away and keep it; a new log begins then")
    };
    let mut reader = BufReader::new(open_file(path)?);
    let (mut text, mut bytes, mut lines) = (Vec::new(), 0u64, 0u64);
    let mut last = None;
    loop {
        text.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        let read = read.map_err(|error| failed(path, &error))?;
        if text.last() != Some(&b'\n') {
            // Only what has no end may be what a crash broke off.
            return if (read as u64) < LINE_BYTES_MAX {
                Ok(last.map(|last| (last, bytes)))
            } else {
                Err(corrupt(lines + 1))
            };
        }
        lines += 1;
        last = Some(match last {
            None => {
                let head: Head = serde_json::from_slice(&text).map_err(|_| corrupt(lines))?;
                Last { hash: head.after, count: head.records }
            }
            Some(Last { count, .. }) => {
                let line: Line<'_> = serde_json::from_slice(&text).map_err(|_| corrupt(lines))?;
                Last { hash: line.hash, count: count + 1 }
            }
        });
        bytes += read as u64;
    }
}
