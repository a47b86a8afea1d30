//! DataFusion as it comes: the same files of the fact, the users in memory, a hash join.

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Plain {
    runtime: Runtime,
    session: SessionContext,
}

impl Plain {
    /// Users of a Parquet file, loaded, and a fact by the files that its table has now.
    pub(crate) fn open(users: &Path, table: &Path) -> Plain {
        let runtime = Builder::new_multi_thread().enable_all().build().expect("threads");
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
        let files: Vec<String> = files(table).iter().map(|path| path.display().to_string()).collect();
        runtime.block_on(async {
            let path = users.display().to_string();
            let columns = ["user_id", "gender", "age", "province"];
            let users = session.read_parquet(path, ParquetReadOptions::default()).await.expect("users");
            let users = users.select_columns(&columns).expect("columns");
            let schema = Arc::clone(users.schema().inner());
            let batches = users.collect_partitioned().await.expect("rows");
            session
                .register_table("users", Arc::new(MemTable::try_new(schema, batches).expect("a table")))
                .expect("users");
            let purchases = session.read_parquet(files, ParquetReadOptions::default()).await.expect("files");
            session.register_table("purchase", purchases.into_view()).expect("purchases");
        });
        Plain { runtime, session }
    }

    /// The time from the statement's text to its last row, and the rows.
    pub(crate) fn ask(&mut self, statement: &str) -> (Duration, Vec<RecordBatch>) {
        let begun = Instant::now();
        let rows = self.runtime.block_on(async { self.session.sql(statement).await?.collect().await });
        (begun.elapsed(), rows.expect("a good statement"))
    }
}

/// The files of a Delta table, by its log.
fn files(table: &Path) -> BTreeSet<PathBuf> {
    let log = std::fs::read_dir(table.join("_delta_log")).expect("a Delta table");
    let mut versions: Vec<PathBuf> = log.map(|entry| entry.expect("a file").path()).collect();
    versions.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    versions.sort();
    let mut files = BTreeSet::new();
    for version in versions {
        for line in std::fs::read_to_string(version).expect("text").lines() {
            let action: Value = serde_json::from_str(line).expect("JSON");
            let path = |kind: &str| action[kind]["path"].as_str().map(|path| table.join(path.replace("%3D", "=")));
            path("add").map(|path| files.insert(path));
            path("remove").map(|path| files.remove(&path));
        }
    }
    files
}
