//! Verifying a data directory: every checksum, every container, and what must hold between them.

use super::manifest::ShardFiles;
use super::recovery::{Record, newest, open_dictionary, open_segment, unknown_record};
use super::{part_path, wal};
use crate::dictionary::part::Part;
use crate::error::ReadError;
use crate::ids::{TagId, shard_of};
use crate::segment::Segment;
use crate::vfs::Vfs;
use std::path::Path;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Users with a slot.
    pub users: u64,
    /// Log records behind the newest checkpoint.
    pub log_records: u64,
    /// Everything that is wrong; empty for a sound directory.
    pub problems: Vec<String>,
}

/// Reads and verifies everything in `folder`, telling `progress` each file's bytes as it goes. Goes on after damage, to list all
/// of it. The directory must not be open.
pub fn check(vfs: &dyn Vfs, folder: &Path, mut progress: impl FnMut(u64)) -> CheckReport {
    let mut report = CheckReport::default();
    let (_, manifest) = match newest(vfs, folder) {
        Ok(Some(found)) => found,
        Ok(None) => {
            report.problems.push(format!("{}: no manifest: not a Beluga directory", folder.display()));
            return report;
        }
        Err(error) => {
            report.problems.push(error.to_string());
            return report;
        }
    };
    let shard_count = manifest.shards.len() as u16;
    for (shard, files) in manifest.shards.iter().enumerate() {
        check_shard(vfs, folder, shard, shard_count, files, &mut report, &mut progress);
    }
    let mut records = 0;
    let replayed = wal::replay(vfs, &folder.join("wal"), manifest.position(), |kind, lsn, payload| {
        records += 1;
        Record::decode(kind, payload).map(|_| ()).ok_or_else(|| unknown_record(&folder.join("wal"), lsn))
    });
    report.log_records = records;
    report.problems.extend(replayed.err().map(|error| error.to_string()));
    report
}

fn check_shard(
    vfs: &dyn Vfs,
    folder: &Path,
    shard: usize,
    shard_count: u16,
    files: &ShardFiles,
    report: &mut CheckReport,
    progress: &mut impl FnMut(u64),
) {
    let mut read = |report: &mut CheckReport, bytes: u64| {
        report.files += 1;
        report.bytes += bytes;
        progress(bytes);
    };
    for (id, len) in &files.segments {
        match open_segment(vfs, folder, shard, *id, *len) {
            Err(error) => report.problems.push(error.to_string()),
            Ok(segment) => {
                read(report, segment.size_bytes());
                report.problems.extend(check_segment(&segment, files.slot_count).err().map(|error| error.to_string()));
            }
        }
    }
    for id in &files.parts {
        match Part::open(vfs, &part_path(folder, shard, *id)) {
            Err(error) => report.problems.push(error.to_string()),
            Ok(part) => {
                read(report, part.size_bytes());
                report.users += part.slots().len() as u64;
                report.problems.extend(check_part(&part, shard, shard_count).err().map(|error| error.to_string()));
            }
        }
    }
    report.problems.extend(open_dictionary(vfs, folder, shard, files).err().map(|error| error.to_string()));
}

fn check_segment(segment: &Segment, slot_count: u32) -> Result<(), ReadError> {
    segment.verify()?;
    for number in 0..segment.entry_count() {
        let (key, posting) = (segment.key_at(number), segment.posting_at(number)?);
        let beyond = posting.bitmap.last().is_some_and(|slot| slot >= slot_count);
        if beyond || key.tag < TagId::FIRST_DECLARED && key.tag > TagId::UPLOADS {
            return Err(ReadError::Corrupt {
                path: segment.path().to_owned(),
                offset_bytes: 0,
                what: format!("posting {key:?} names users that the dictionary does not know"),
            });
        }
    }
    Ok(())
}

fn check_part(part: &Part, shard: usize, shard_count: u16) -> Result<(), ReadError> {
    part.verify()?;
    for slot in part.slots() {
        let id = part.id(slot)?;
        if !id.is_empty() && usize::from(shard_of(id, shard_count).0) != shard {
            return Err(part.corrupt("a user id belongs to another shard"));
        }
    }
    Ok(())
}
