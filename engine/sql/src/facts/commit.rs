//! Staged files become part of their table.

use super::APPLICATION;
use super::log::{Change, Plan, Table, state};
use super::schema::{DAY, delta_schema, reconcile};
use super::stage::now_ms;
use super::staged::Staged;
use deltalake::DeltaTable;
use deltalake::kernel::{
    Action, EagerSnapshot, Metadata, MetadataExt, Protocol, StructType, Transaction, new_metadata,
};
use deltalake::protocol::{DeltaOperation, SaveMode};
use engine::catalog::Fact;

/// What a reader and a writer of our tables must know: the least there is, so that any can.
const READER: i32 = 1;
const WRITER: i32 = 2;

/// Files of an epoch, to be added once.
struct EpochCommit<'e> {
    table: &'e Table,
    fact: &'e Fact,
    /// The epoch, as Delta counts transactions.
    transaction: i64,
    staged: &'e Staged,
}

impl Change for EpochCommit<'_> {
    async fn plan(&self, newest: Option<&DeltaTable>) -> Result<Plan, String> {
        let mut actions = Vec::new();
        match newest {
            None => actions.extend(creation(self.fact)?),
            Some(newest) => {
                if self.table.epoch_in(newest).await?.is_some_and(|known| known >= self.transaction) {
                    self.table.settle_log()?;
                    return Ok(Plan::Done);
                }
                let found = state(newest)?;
                check_writable(found)?;
                if let Some(changed) = reconcile(&found.schema(), self.fact)? {
                    actions.push(Action::Metadata(with_schema(found.metadata(), &changed)?));
                }
            }
        }
        self.table.check_staged(self.staged)?;
        actions.extend(self.staged.files.iter().map(|file| Action::Add(file.add(true))));
        actions.push(Action::Txn(Transaction::new_with_last_update(APPLICATION, self.transaction, Some(now_ms()))));
        let partition_by = Some(vec![DAY.to_owned()]);
        Ok(Plan::Commit(
            actions,
            Box::new(DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None }),
        ))
    }
}

impl Table {
    /// Adds the files and records the epoch, unless the table has it. Answers a version that has it.
    pub(super) async fn commit_epoch(&self, fact: &Fact, epoch: u64, staged: &Staged) -> Result<u64, String> {
        let transaction = transaction(epoch)?;
        self.change(&EpochCommit { table: self, fact, transaction, staged }).await
    }

    /// Whether rows of this epoch could be committed: told before they are staged, since afterwards there is no way back.
    pub(super) async fn check_ready(&self, fact: &Fact, epoch: u64) -> Result<(), String> {
        let mut newest = self.newest.lock().await;
        self.refresh(&mut newest).await?;
        let Some(newest) = newest.as_ref() else { return Ok(()) };
        let (known, wanted) = (self.epoch_in(newest).await?, transaction(epoch)?);
        if let Some(known) = known.filter(|known| *known > wanted) {
            return Err(format!(
                "{} has epoch {known} and the data directory is at {wanted} only, so it is older than its table: \
                 restore both from one backup, or move the table's folder away",
                self.folder.display()
            ));
        }
        let found = state(newest)?;
        check_writable(found)?;
        reconcile(&found.schema(), fact).map(|_| ())
    }

    /// The newest epoch that a version of the table has.
    pub(super) async fn epoch_in(&self, table: &DeltaTable) -> Result<Option<i64>, String> {
        let log_store = table.log_store();
        let known = state(table)?.transaction_version(log_store.as_ref(), APPLICATION).await;
        known.map_err(|error| self.explain(&error))
    }

    /// An entry is synced before it has its name, but whoever gave it may have been stopped before the folder was.
    fn settle_log(&self) -> Result<(), String> {
        let folder = self.log_folder();
        self.disk.settle_folder(&folder).map_err(|error| format!("sync {}: {error}", folder.display()))
    }

    fn check_staged(&self, staged: &Staged) -> Result<(), String> {
        for file in &staged.files {
            let path = self.folder.join(&file.path);
            let (shown, expected) = (path.display(), file.size_bytes);
            match self.disk.look(&path) {
                Ok(Some(found)) if found.size_bytes == expected => {}
                Ok(Some(found)) => {
                    let found = found.size_bytes;
                    return Err(format!("{shown} has {found} bytes and should have {expected}; restore a backup"));
                }
                Ok(None) => return Err(format!("{shown} is gone; it was staged, so restore it from a backup")),
                Err(error) => return Err(format!("{shown}: {error}; it was staged, so restore it from a backup")),
            }
        }
        Ok(())
    }
}

/// An epoch, as Delta counts transactions.
fn transaction(epoch: u64) -> Result<i64, String> {
    i64::try_from(epoch).map_err(|_| format!("epoch {epoch} is beyond what Delta can count"))
}

/// What the first version of a table begins with.
fn creation(fact: &Fact) -> Result<[Action; 2], String> {
    let protocol: Protocol =
        serde_json::from_value(serde_json::json!({ "minReaderVersion": READER, "minWriterVersion": WRITER }))
            .map_err(|error| error.to_string())?;
    let properties: [(&str, &str); 0] = [];
    let metadata = new_metadata(&delta_schema(fact)?, [DAY], properties).map_err(|error| error.to_string())?;
    Ok([Action::Protocol(protocol), Action::Metadata(metadata)])
}

/// Whether we know how to write to the table.
pub(super) fn check_writable(table: &EagerSnapshot) -> Result<(), String> {
    let protocol = table.protocol();
    let (reader, writer) = (protocol.min_reader_version(), protocol.min_writer_version());
    if reader != READER || writer != WRITER {
        return Err(format!(
            "somebody raised the table's protocol to reader {reader} and writer {writer}; \
             Beluga writes reader {READER} and writer {WRITER}: restore the table, or move its folder away"
        ));
    }
    let partition_columns = table.metadata().partition_columns();
    if partition_columns != [DAY] {
        return Err(format!("the table is partitioned by {partition_columns:?} and should be by [\"{DAY}\"]"));
    }
    Ok(())
}

fn with_schema(metadata: &Metadata, schema: &StructType) -> Result<Metadata, String> {
    metadata.clone().with_schema(schema).map_err(|error| error.to_string())
}
