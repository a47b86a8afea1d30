//! Rows of erased users are in no version of a table, and in no file.

use crate::support::{DAY_MICROS, Row, add, contents, data_files, fact, row, stage};
use arrow::array::AsArray;
use engine::store::FactTables;
use engine_sql::facts::DeltaTables;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringBitmap;
use std::path::Path;
use std::sync::Arc;

/// Slots per shard, as the rows of these tests are spread.
fn users(slots: &[u32]) -> Vec<RoaringBitmap> {
    (0..4).map(|shard| slots.iter().copied().filter(|slot| slot % 4 == shard).collect()).collect()
}

fn users_in_files(root: &Path) -> Vec<String> {
    let mut users = Vec::new();
    for path in data_files(root) {
        let file = std::fs::File::open(path).expect("a file");
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader") {
            let batch = batch.expect("rows");
            let ids = batch.column_by_name("user_id").expect("a column").as_string::<i32>();
            users.extend(ids.iter().flatten().map(str::to_owned));
        }
    }
    users.sort();
    users
}

/// What the log says, all of it.
fn log_text(root: &Path) -> String {
    let files = std::fs::read_dir(root.join("purchase/_delta_log")).expect("a log");
    let bytes = files.map(|file| std::fs::read(file.expect("an entry").path()).expect("reads"));
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[test]
fn who_is_erased_is_in_no_version_and_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let plain = fact(&[]);
    let of_days = |slots: &[u32]| -> Vec<Row> {
        slots.iter().flat_map(|slot| (0..2).map(|day| row(*slot, day * DAY_MICROS, &[]))).collect()
    };
    add(&tables, &plain, 1, &of_days(&[1, 2, 3]));
    add(&tables, &plain, 2, &of_days(&[3, 4, 5]));
    add(&tables, &plain, 3, &of_days(&[2]));
    // They are in a file that has left the table already, too.
    tables.compact("purchase", 1 << 20).expect("merges").expect("files of a day");
    add(&tables, &plain, 4, &of_days(&[6]));
    let staged = stage(&tables, &plain, 5, &of_days(&[7]));

    tables.erase("purchase", &plain, &users(&[2, 3]), &Arc::default()).expect("erases");
    let left: Vec<(i64, i64)> = [1, 4, 5, 6].iter().flat_map(|slot| [(*slot, 0), (*slot, DAY_MICROS)]).collect();
    assert_eq!(contents(&tables, &plain), left);
    assert!(users_in_files(folder.path()).contains(&"user-2".to_owned()), "older versions have them");
    assert_eq!(tables.version_at("purchase", 4).expect("reads"), tables.version("purchase").expect("reads"));

    tables.forget_history("purchase").expect("forgets");
    let in_files = users_in_files(folder.path());
    assert!(!in_files.iter().any(|user| ["user-2", "user-3"].contains(&user.as_str())), "{in_files:?}");
    let log = log_text(folder.path());
    assert!(!log.contains("user-2") && !log.contains("user-3") && log.contains("user-1"), "{log}");
    assert_eq!(contents(&tables, &plain), left);
    tables.commit("purchase", &plain, 5, &staged).expect("what was staged is still there");
    // Nothing is left to do.
    let version = tables.version("purchase").expect("reads");
    tables.erase("purchase", &plain, &users(&[2, 3]), &Arc::default()).expect("erases");
    assert_eq!(tables.version("purchase").expect("reads"), version);
    drop(tables);

    let tables = DeltaTables::open(folder.path()).expect("opens");
    let with_7: Vec<(i64, i64)> = left.iter().copied().chain([(7, 0), (7, DAY_MICROS)]).collect();
    assert_eq!(contents(&tables, &plain), with_7);
    assert_eq!(tables.commit("purchase", &plain, 5, &staged).expect("commits"), version.expect("a version"));
    add(&tables, &plain, 6, &of_days(&[8]));
    tables.erase("purchase", &plain, &users(&[1, 4, 5, 6, 7, 8]), &Arc::default()).expect("erases");
    tables.forget_history("purchase").expect("forgets");
    assert_eq!(contents(&tables, &plain), []);
    assert_eq!(data_files(folder.path()), Vec::<String>::new());
    tables.erase("view", &plain, &users(&[1]), &Arc::default()).expect("there is no such table");
    tables.forget_history("view").expect("there is no such table");
}
