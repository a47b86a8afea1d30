//! Whether an audit log is whole: every record stands behind the one that its hash was made with.

use super::files::{FIRST, Head, LINE_BYTES_MAX, Line, hash_of, list};
use super::record::Record;
use crate::access::failed;
use crate::error::{Failure, Kind};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Files that were read.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Records before them, whose files were removed.
    pub removed: u64,
    /// The hash of the last record: who keeps it elsewhere can tell whether records were cut off at the end.
    pub head: String,
    /// Whether the hash that was asked for is that of a record, or of what is before the first; `true` if none was.
    pub has_known: bool,
    /// The last line was not written whole, as a crash leaves it.
    pub is_torn: bool,
}

/// Reads a log from its begin to its end; `known` is the hash of a record that must be in it, and `each` is told every record.
///
/// # Errors
/// [`Kind::Corrupt`] with file and line of what does not fit; [`Kind::LocalFile`].
pub fn verify(folder: &Path, known: Option<&str>, mut each: impl FnMut(&Record)) -> Result<Verified, Failure> {
    let files = list(folder)?;
    let mut found = Verified {
        files: files.len() as u64,
        records: 0,
        removed: 0,
        head: FIRST.to_owned(),
        has_known: known.is_none(),
        is_torn: false,
    };
    let mut before: Option<u64> = None;
    for (at, (number, path)) in files.iter().enumerate() {
        let corrupt =
            |line: u64, why: &str| Failure::new(Kind::Corrupt, format!("{}: line {line}: {why}", path.display()));
        if before.is_some_and(|before| before + 1 != *number) {
            return Err(corrupt(1, "a file before this one is missing"));
        }
        before = Some(*number);
        let mut reader = BufReader::new(File::open(path).map_err(|error| failed(path, &error))?);
        let (mut text, mut line) = (Vec::new(), 0);
        loop {
            text.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
            if read.map_err(|error| failed(path, &error))? == 0 {
                break;
            }
            line += 1;
            if text.last() != Some(&b'\n') {
                let is_end = at + 1 == files.len() && reader.by_ref().bytes().next().is_none();
                if !is_end {
                    return Err(corrupt(line, "it is not whole"));
                }
                found.is_torn = true;
                break;
            }
            if line == 1 {
                let head: Head = serde_json::from_slice(&text).map_err(|_| corrupt(line, "it is no first line"))?;
                if at == 0 {
                    (found.head, found.removed) = (head.after, head.records);
                } else if head.after != found.head || head.records != found.removed + found.records {
                    return Err(corrupt(line, "records before it are missing"));
                }
                found.has_known |= known == Some(found.head.as_str());
                continue;
            }
            let read: Line<'_> = serde_json::from_slice(&text).map_err(|_| corrupt(line, "it is no record"))?;
            if hash_of(&found.head, read.record.get()) != read.hash {
                return Err(corrupt(line, "the record, or the one before it, is not what was written"));
            }
            let record: Record =
                serde_json::from_str(read.record.get()).map_err(|_| corrupt(line, "it is no record"))?;
            each(&record);
            found.records += 1;
            found.has_known |= known == Some(read.hash.as_str());
            found.head = read.hash;
        }
    }
    Ok(found)
}
