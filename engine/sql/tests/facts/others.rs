//! Other writers of the same table, and other causes of a damaged log.

use crate::support::{add, contents, fact, row, stage};
use engine::store::FactTables;
use engine_sql::facts::DeltaTables;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::path::Path;

fn log_entry(root: &Path, version: u64) -> std::path::PathBuf {
    root.join(format!("purchase/_delta_log/{version:020}.json"))
}

/// Writes a version as another writer would.
fn commit_foreign(root: &Path, version: u64, actions: &[serde_json::Value]) {
    let lines: Vec<String> = actions.iter().map(ToString::to_string).collect();
    std::fs::write(log_entry(root, version), lines.join("\n")).expect("an entry");
}

#[test]
fn an_append_of_another_writer_costs_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let fact = fact(&[]);
    let tables = DeltaTables::open(root).expect("opens");
    add(&tables, &fact, 1, &[row(1, 0, &[])]);
    let staged = stage(&tables, &fact, 2, &[row(2, 0, &[])]);
    // Another process with the same table: its own tables, which ours know nothing of.
    let other = DeltaTables::open(root).expect("opens");
    let path = "day=1970-01-01/theirs.parquet";
    let ours = std::fs::read_dir(root.join("purchase/day=1970-01-01")).expect("a day").next().expect("a file");
    std::fs::copy(ours.expect("an entry").path(), root.join("purchase").join(path)).expect("a copy");
    let size = std::fs::metadata(root.join("purchase").join(path)).expect("a file").len();
    let add_action = serde_json::json!({ "add": {
        "path": path, "partitionValues": { "day": "1970-01-01" }, "size": size, "modificationTime": 0, "dataChange": true,
    }});
    commit_foreign(root, 1, &[add_action]);
    assert_eq!(tables.commit("purchase", &fact, 2, &staged).expect("commits"), 2);
    assert_eq!(contents(&tables, &fact).len(), 3);
    add(&other, &fact, 3, &[row(3, 0, &[])]);
    add(&tables, &fact, 4, &[row(4, 0, &[])]);
    assert_eq!(contents(&tables, &fact).len(), 5);
    let report = tables.compact("purchase", 1 << 20).expect("merges").expect("ours are small");
    assert_eq!(report.row_count, report.file_count as u64);
    assert_eq!(contents(&other, &fact).len(), 5);
}

/// Rows of files that are there, in one file as another tool would write it, and the actions that put it in their place.
fn optimized_by_others(root: &Path, name: &str) -> Vec<serde_json::Value> {
    let table = root.join("purchase");
    let ours = crate::support::data_files(root);
    let batches: Vec<_> = ours
        .iter()
        .flat_map(|path| {
            let file = std::fs::File::open(path).expect("a file");
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
            reader.map(|batch| batch.expect("rows")).collect::<Vec<_>>()
        })
        .collect();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).expect("a writer");
    batches.iter().for_each(|batch| writer.write(batch).expect("writes"));
    let bytes = writer.into_inner().expect("a file");
    std::fs::write(table.join(name), &bytes).expect("is written");
    let removed = ours.iter().map(|path| remove_action(&table, path));
    let add = serde_json::json!({ "add": {
        "path": name, "partitionValues": { "day": "1970-01-01" }, "size": bytes.len(), "modificationTime": 0, "dataChange": false,
    }});
    removed.chain([add]).collect()
}

fn remove_action(table: &Path, path: &str) -> serde_json::Value {
    let path = Path::new(path).strip_prefix(table).expect("within the table");
    serde_json::json!({ "remove": {
        "path": path, "deletionTimestamp": 1, "dataChange": false, "extendedFileMetadata": true,
        "partitionValues": { "day": "1970-01-01" },
    }})
}

#[test]
fn what_another_tool_has_merged_stays_merged() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let fact = fact(&[]);
    let tables = DeltaTables::open(root).expect("opens");
    add(&tables, &fact, 1, &[row(1, 0, &[])]);
    add(&tables, &fact, 2, &[row(2, 0, &[])]);
    let theirs = "day=1970-01-01/theirs-optimized.parquet";
    let actions = optimized_by_others(root, theirs);
    let staged = stage(&tables, &fact, 3, &[row(3, 0, &[])]);
    commit_foreign(root, 2, &actions);
    assert_eq!(tables.commit("purchase", &fact, 3, &staged).expect("commits"), 3);
    add(&tables, &fact, 4, &[row(4, 0, &[])]);
    tables.compact("purchase", 1 << 20).expect("merges").expect("two files of ours");
    tables.vacuum("purchase", std::time::SystemTime::now()).expect("removes what left");
    assert!(root.join("purchase").join(theirs).exists(), "it is not ours to remove");
    let reopened = DeltaTables::open(root).expect("opens");
    assert_eq!(contents(&reopened, &fact), [(1, 0), (2, 0), (3, 0), (4, 0)]);
}

#[test]
fn what_somebody_deleted_does_not_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let fact = fact(&[]);
    let tables = DeltaTables::open(root).expect("opens");
    let first = stage(&tables, &fact, 1, &[row(1, 0, &[])]);
    tables.commit("purchase", &fact, 1, &first).expect("commits");
    let deleted = remove_action(&root.join("purchase"), &crate::support::data_files(root)[0]);
    add(&tables, &fact, 2, &[row(2, 0, &[])]);
    commit_foreign(root, 2, &[deleted]);
    add(&tables, &fact, 3, &[row(3, 0, &[])]);
    assert_eq!(contents(&tables, &fact), [(2, 0), (3, 0)]);
    // As after a crash, when it is not known whether it was committed.
    tables.commit("purchase", &fact, 1, &first).expect("has it already");
    while tables.compact("purchase", 1 << 20).expect("merges").is_some() {}
    assert_eq!(contents(&DeltaTables::open(root).expect("opens"), &fact), [(2, 0), (3, 0)]);
}

/// Merging files makes versions of which the store knows nothing.
#[test]
fn an_epoch_is_found_whatever_was_merged() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    assert_eq!(tables.version_at("purchase", 1).expect("looks"), None);
    for epoch in [1, 2, 5] {
        add(&tables, &fact, epoch, &[row(epoch as u32, 0, &[])]);
    }
    tables.compact("purchase", 1 << 20).expect("merges").expect("there are small files");
    let at = |epoch| tables.version_at("purchase", epoch).expect("looks");
    assert_eq!((at(1), at(2), at(3), at(5), at(6)), (Some(0), Some(1), None, Some(3), None));
}

#[test]
fn a_directory_older_than_its_table_is_told_before_anything_is_staged() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    add(&tables, &fact, 7, &[row(1, 0, &[])]);
    let refused = tables.stage("purchase", &fact, 6, &[]).expect_err("older");
    assert!(refused.to_string().contains("older than its table"), "{refused}");
}

#[test]
fn a_removed_table_begins_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    add(&tables, &fact, 1, &[row(1, 0, &[]), row(2, 0, &[])]);
    tables.remove("purchase").expect("removes");
    tables.remove("purchase").expect("there is nothing to remove");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    assert_eq!(contents(&tables, &fact), []);
    assert_eq!(add(&tables, &fact, 2, &[row(3, 7, &[])]), 0);
    assert_eq!(contents(&DeltaTables::open(folder.path()).expect("opens"), &fact), [(3, 7)]);
}

/// Delta's own check lets both commit, since neither says that rows changed; then the rows are there twice.
#[test]
fn two_mergers_of_the_same_files_do_not_double_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = [DeltaTables::open(folder.path()).expect("opens"), DeltaTables::open(folder.path()).expect("opens")];
    let mut epoch = 0;
    for _ in 0..5 {
        for _ in 0..4 {
            epoch += 1;
            add(&tables[0], &fact, epoch, &[row(epoch as u32, 0, &[])]);
        }
        std::thread::scope(|scope| {
            for tables in &tables {
                scope.spawn(|| tables.compact("purchase", 1 << 20).expect("merges"));
            }
        });
        assert_eq!(contents(&tables[1], &fact).len() as u64, epoch);
    }
}

#[test]
fn a_raised_protocol_is_not_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    add(&tables, &fact, 1, &[row(1, 0, &[])]);
    let raised = serde_json::json!({ "protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly"],
    }});
    let staged = stage(&tables, &fact, 2, &[row(2, 0, &[])]);
    commit_foreign(folder.path(), 1, &[raised]);
    let committed = tables.commit("purchase", &fact, 2, &staged);
    // Told before anything is written as well, while there is a way back.
    let refused = [committed.map(|_| ()), tables.stage("purchase", &fact, 3, &[]).map(|_| ())];
    for refused in refused {
        let text = refused.expect_err("is refused").to_string();
        assert!(text.contains("reader 1 and writer 7"), "{text}");
    }
    assert_eq!(contents(&tables, &fact), [(1, 0)]);
}

#[test]
fn a_table_that_was_taken_away_is_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    add(&tables, &fact, 1, &[row(1, 0, &[])]);
    let staged = stage(&tables, &fact, 2, &[row(2, 0, &[])]);
    std::fs::remove_dir_all(folder.path().join("purchase")).expect("is removed");
    for _ in 0..2 {
        let text = tables.commit("purchase", &fact, 2, &staged).expect_err("is missed").to_string();
        assert!(text.contains("version 0 is gone"), "{text}");
    }
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let text = tables.commit("purchase", &fact, 2, &staged).expect_err("is missed").to_string();
    assert!(text.contains("it was staged"), "{text}");
}

/// ClickHouse's power cuts left such entries: an empty one is read as a version without changes, so rows are lost in silence.
#[test]
fn a_torn_entry_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let fact = fact(&[]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    add(&tables, &fact, 1, &[row(1, 0, &[])]);
    add(&tables, &fact, 2, &[row(2, 0, &[])]);
    let entry = log_entry(folder.path(), 1);
    let whole = std::fs::read(&entry).expect("an entry");
    for torn in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&entry, &whole[..torn]).expect("is torn");
        let text = DeltaTables::open(folder.path()).expect_err("is noticed").to_string();
        assert!(text.contains("00000000000000000001.json"), "{torn}: {text}");
    }
    std::fs::write(&entry, &whole).expect("is put back");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    // And while it runs.
    let staged = stage(&tables, &fact, 3, &[row(3, 0, &[])]);
    std::fs::write(log_entry(folder.path(), 2), "").expect("is torn");
    let _ = tables.version("purchase");
    let committed = tables.commit("purchase", &fact, 3, &staged).map(|_| ());
    for refused in [committed, tables.stage("purchase", &fact, 4, &[]).map(|_| ())] {
        let text = refused.expect_err("is noticed").to_string();
        assert!(text.contains("00000000000000000002.json"), "{text}");
    }
}

#[test]
fn damaged_staged_bytes_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let staged = stage(&tables, &fact(&[]), 1, &[row(1, 0, &[])]);
    for end in 0..staged.len() {
        assert!(tables.commit("purchase", &fact(&[]), 1, &staged[..end]).is_err(), "{end}");
    }
    tables.commit("purchase", &fact(&[]), 1, &staged).expect("commits");
}
