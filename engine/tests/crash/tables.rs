//! Tables of facts as plain files: what a table is asked for, and no more.

use engine::catalog::Fact;
use engine::store::{FactRow, FactTables, TableError};
use engine::update::Value;
use engine::vfs::Vfs;
use engine::vfs::memory::MemoryVfs;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Beside the data directory, since they are not the store's to check.
const FOLDER: &str = "/data/tables";

/// A row as text, and how often it is there.
pub(crate) type Rows = BTreeMap<String, u64>;

#[derive(Debug)]
pub(crate) struct FileTables(pub(crate) MemoryVfs);

/// User, event id, time, weight, category, amount.
pub(crate) fn text_of(row: &FactRow<'_>) -> String {
    let values: Vec<String> = row
        .event
        .values()
        .map(|value| match value {
            Value::Text(text) => text.to_owned(),
            Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    let head = &row.event.head;
    format!("{} {} {} {} {}", row.user_id, head.event_id, head.ts, row.weight, values.join(" "))
}

fn folder(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

impl FileTables {
    /// The rows of a table at an epoch.
    pub(crate) fn rows(&self, name: &str, newest: u64) -> Rows {
        let mut rows = Rows::new();
        for file in self.0.list(&folder(name)).expect("lists") {
            let epoch = file.strip_suffix(".rows").and_then(|epoch| epoch.parse::<u64>().ok());
            if epoch.is_none_or(|epoch| epoch > newest) {
                continue;
            }
            let bytes = self.0.map(&folder(name).join(&file)).expect("maps");
            for row in std::str::from_utf8(&bytes).expect("text").lines() {
                *rows.entry(row.to_owned()).or_default() += 1;
            }
        }
        rows
    }
}

fn failed(name: &str, verb: &'static str) -> impl Fn(io::Error) -> TableError {
    move |error| TableError { fact: name.to_owned(), verb, why: error.to_string() }
}

impl FactTables for FileTables {
    fn stage(&self, name: &str, _: &Fact, epoch: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        let failed = failed(name, "stage rows");
        self.0.create_folder(&folder(name)).map_err(&failed)?;
        let file = format!("{epoch}.staged");
        let path = folder(name).join(&file);
        match self.0.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let writer = self.0.create(&path).map_err(&failed)?;
        let text: String = rows.iter().map(|row| text_of(row) + "\n").collect();
        writer.append(text.as_bytes()).and_then(|()| writer.sync()).map_err(&failed)?;
        self.0.sync_folder(&folder(name)).map_err(&failed)?;
        Ok(file.into_bytes())
    }

    fn commit(&self, name: &str, _: &Fact, epoch: u64, staged: &[u8]) -> Result<u64, TableError> {
        let failed = failed(name, "commit rows");
        let folder = folder(name);
        let committed = format!("{epoch}.rows");
        if !self.0.list(&folder).map_err(&failed)?.contains(&committed) {
            let staged = folder.join(std::str::from_utf8(staged).expect("a name"));
            self.0.rename(&staged, &folder.join(committed)).map_err(&failed)?;
        }
        self.0.sync_folder(&folder).map_err(&failed)?;
        Ok(epoch)
    }

    fn remove(&self, name: &str) -> Result<(), TableError> {
        for file in self.0.list(&folder(name)).map_err(failed(name, "remove"))? {
            self.0.remove(&folder(name).join(file)).map_err(failed(name, "remove"))?;
        }
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
