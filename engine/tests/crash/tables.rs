//! Tables of facts as plain files: what a table is asked for, and no more.

use crate::rows::{FOLDER, Rows, Tables, text_of, time_of};
use engine::catalog::Fact;
use engine::store::{FactRow, FactTables, TableError};
use engine::vfs::memory::MemoryVfs;
use engine::vfs::{Vfs, write_atomically};
use roaring::RoaringBitmap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug)]
pub(crate) struct FileTables(pub(crate) MemoryVfs);

/// Nothing is remembered from one life to the next.
pub(crate) fn open(vfs: &MemoryVfs, _: u64) -> Result<Arc<dyn Tables>, TableError> {
    Ok(Arc::new(FileTables(vfs.clone())))
}

fn folder(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

impl Tables for FileTables {
    fn rows(&self, name: &str, _: &Fact, newest: u64) -> Rows {
        let mut rows = Rows::new();
        for file in self.0.list(&folder(name)).expect("lists") {
            let epoch = file.strip_suffix(".rows").and_then(|epoch| epoch.parse::<u64>().ok());
            if epoch.is_none_or(|epoch| epoch > newest) {
                continue;
            }
            let bytes = self.0.map(&folder(name).join(&file)).expect("maps");
            for line in std::str::from_utf8(&bytes).expect("text").lines() {
                *rows.entry(place_and_row(line).1.to_owned()).or_default() += 1;
            }
        }
        rows
    }

    /// A file an epoch is as it should be.
    fn tend(&self, _: &str, _: u64) -> Result<bool, TableError> {
        Ok(true)
    }

    fn drop_before(&self, name: &str, day: i32) -> Result<(), TableError> {
        let is_kept = |line: &str| time_of(place_and_row(line).1) >= i64::from(day) * 86_400_000_000;
        self.keep(name, is_kept).map_err(failed(name, "drop old days"))
    }

    fn sweep(&self) -> Result<(), TableError> {
        Ok(())
    }
}

/// A line of a file: `shard slot|row`.
fn place_and_row(line: &str) -> ((usize, u32), &str) {
    let (place, row) = line.split_once('|').expect("a line of ours");
    let (shard, slot) = place.split_once(' ').expect("a place");
    ((shard.parse().expect("a shard"), slot.parse().expect("a slot")), row)
}

impl FileTables {
    /// Writes the files anew with some of their lines.
    fn keep(&self, name: &str, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
        for file in self.0.list(&folder(name))?.iter().filter(|file| file.ends_with(".rows")) {
            let path = folder(name).join(file);
            let text = String::from_utf8(self.0.read(&path)?).expect("text");
            let kept: String = text.lines().filter(|line| is_kept(line)).flat_map(|line| [line, "\n"]).collect();
            if kept.len() < text.len() {
                write_atomically(&self.0, &path, kept.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn failed(name: &str, verb: &'static str) -> impl Fn(io::Error) -> TableError {
    move |error| TableError { fact: name.to_owned(), verb, why: error.to_string() }
}

impl FactTables for FileTables {
    fn stage(&self, name: &str, fact: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        let failed = failed(name, "stage rows");
        self.0.create_folder(&folder(name)).map_err(&failed)?;
        let file = format!("{epoch}.staged");
        let path = folder(name).join(&file);
        match self.0.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let writer = self.0.create(&path).map_err(&failed)?;
        let line = |row: &FactRow<'_>| format!("{} {}|{}\n", row.shard.0, row.slot, text_of(row, fact.id));
        let text: String = rows.iter().map(line).collect();
        writer.append(text.as_bytes()).and_then(|()| writer.sync()).map_err(&failed)?;
        self.0.sync_folder(&folder(name)).map_err(&failed)?;
        Ok(file.into_bytes())
    }

    fn commit(&self, name: &str, _: &Fact, epoch: u64, staged: &[u8]) -> Result<u64, TableError> {
        let failed = failed(name, "commit rows");
        let folder = folder(name);
        let committed = format!("{epoch}.rows");
        // A name beside the other: of one that is changed and not synced, this disk may lose both.
        let staged = folder.join(std::str::from_utf8(staged).expect("a name"));
        if !self.0.list(&folder).map_err(&failed)?.contains(&committed) {
            self.0.link(&staged, &folder.join(committed)).map_err(&failed)?;
        }
        self.0.sync_folder(&folder).map_err(&failed)?;
        // What is left goes with the next start.
        let _ = self.0.remove(&staged);
        Ok(epoch)
    }

    fn remove(&self, name: &str) -> Result<(), TableError> {
        // By one name, so that there is no half of a table.
        let gone = Path::new(FOLDER).join("gone");
        let swept = || match self.0.remove_tree(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let removed = swept().and_then(|()| match self.0.rename(&folder(name), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| self.0.sync_folder(Path::new(FOLDER))).and_then(|()| swept()),
        });
        removed.map_err(failed(name, "remove"))
    }

    fn erase(&self, name: &str, _: &Fact, users: &[RoaringBitmap], _: &Arc<AtomicBool>) -> Result<(), TableError> {
        let is_kept = |line: &str| {
            let (shard, slot) = place_and_row(line).0;
            !users.get(shard).is_some_and(|users| users.contains(slot))
        };
        self.keep(name, is_kept).map_err(failed(name, "erase users"))
    }

    /// There is one version.
    fn forget_history(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_staged(&self, name: &str) -> Result<(), TableError> {
        for file in self.0.list(&folder(name)).map_err(failed(name, "forget"))? {
            if file.ends_with(".staged") {
                self.0.remove(&folder(name).join(file)).map_err(failed(name, "forget"))?;
            }
        }
        Ok(())
    }
}
