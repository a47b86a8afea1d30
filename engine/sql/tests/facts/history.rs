//! Commits, merges, restarts: what the table has is always what was committed.

use crate::support::{DAY_MICROS, Row, add, contents, data_files, fact, query, row, stage};
use engine::catalog::Fact;
use engine::store::FactTables;
use engine_sql::facts::DeltaTables;
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

fn plain() -> Fact {
    fact(&[])
}

#[test]
fn what_is_staged_is_seen_by_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    stage(&tables, &plain(), 1, &[row(1, 0, &[])]);
    assert_eq!(tables.version("purchase").expect("reads"), None);
    assert_eq!(contents(&tables, &plain()), []);
    add(&tables, &plain(), 2, &[row(2, 0, &[])]);
    stage(&tables, &plain(), 3, &[row(3, 0, &[])]);
    assert_eq!(contents(&tables, &plain()), [(2, 0)]);
}

#[test]
fn a_commit_asked_for_twice_counts_once_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let staged = stage(&tables, &plain(), 1, &[row(1, 0, &[]), row(2, DAY_MICROS, &[])]);
    drop(tables);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    assert_eq!(tables.commit("purchase", &plain(), 1, &staged).expect("commits"), 0);
    assert_eq!(tables.commit("purchase", &plain(), 1, &staged).expect("commits"), 0);
    drop(tables);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    assert_eq!(tables.commit("purchase", &plain(), 1, &staged).expect("commits"), 0);
    assert_eq!(contents(&tables, &plain()), [(1, 0), (2, DAY_MICROS)]);
}

#[test]
fn only_what_was_never_committed_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    stage(&tables, &plain(), 1, &[row(9, 0, &[])]);
    tables.forget_staged("purchase").expect("forgets");
    assert_eq!(data_files(folder.path()), Vec::<String>::new());
    add(&tables, &plain(), 1, &[row(1, 0, &[])]);
    add(&tables, &plain(), 2, &[row(2, 0, &[])]);
    tables.compact("purchase", 1 << 20).expect("merges").expect("two files");
    let committed = data_files(folder.path());
    assert_eq!(committed.len(), 3, "the merged files stay for readers of older versions: {committed:?}");
    let day = folder.path().join("purchase/day=1970-01-01");
    let foreign = ["part-00000-5b1b-c000.snappy.parquet", "notes.txt", "part-0.parquet#1"];
    for name in foreign {
        std::fs::write(day.join(name), "theirs").expect("a file");
    }
    std::fs::write(day.join("part-x.parquet#01234567890123456789"), "half of it").expect("a file");
    stage(&tables, &plain(), 3, &[row(3, 0, &[])]);
    let tables = DeltaTables::open(folder.path()).expect("opens");
    tables.forget_staged("purchase").expect("forgets");
    let mut expected = committed;
    expected.extend(foreign.iter().map(|name| day.join(name).display().to_string()));
    expected.sort();
    assert_eq!(data_files(folder.path()), expected);
    assert_eq!(contents(&tables, &plain()), [(1, 0), (2, 0)]);
}

#[test]
fn old_days_leave_the_table_and_then_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let rows: Vec<Row> = (0..4).map(|day| row(day, i64::from(day) * DAY_MICROS, &[])).collect();
    let before = add(&tables, &plain(), 1, &rows);
    assert_eq!(tables.drop_before("purchase", 2).expect("drops"), 2);
    assert_eq!(tables.drop_before("purchase", 2).expect("drops"), 0);
    assert_eq!(contents(&tables, &plain()), [(2, 2 * DAY_MICROS), (3, 3 * DAY_MICROS)]);
    let sql = "SELECT user_id FROM purchase WHERE _slot < 2";
    assert_eq!(query(&tables, &plain(), Some(before), sql), ["user-0", "user-1"], "older versions still have them");
    stage(&tables, &plain(), 2, &[row(5, 0, &[])]);
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    assert_eq!(tables.vacuum("purchase", hour_ago).expect("cleans"), 0);
    let soon = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(tables.vacuum("purchase", soon).expect("cleans"), 2);
    assert_eq!(data_files(folder.path()).len(), 3, "what is staged may be committed yet");
    assert_eq!(contents(&tables, &plain()), [(2, 2 * DAY_MICROS), (3, 3 * DAY_MICROS)]);
}

/// Opening a table reads its log from the newest checkpoint on; that there is one, and that it is whole, only shows after
/// many commits.
#[test]
fn a_long_log_is_summed_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let fact = plain();
    for epoch in 1..=120 {
        add(&tables, &fact, epoch, &[row(epoch as u32, 0, &[])]);
    }
    let log = folder.path().join("purchase/_delta_log");
    let names: Vec<String> = std::fs::read_dir(&log)
        .expect("a log")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let checkpoints = names.iter().filter(|name| name.contains(".checkpoint.")).count();
    assert_eq!(checkpoints, 2, "{names:?}");
    assert!(!names.iter().any(|name| name.contains('#')), "{names:?}");
    // The entries that the checkpoint sums up are not needed any more.
    for version in 0..50 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).expect("an entry");
    }
    let tables = DeltaTables::open(folder.path()).expect("opens");
    assert_eq!(contents(&tables, &fact).len(), 120);
    let staged = stage(&tables, &fact, 120, &[row(0, 0, &[])]);
    tables.commit("purchase", &fact, 120, &staged).expect("is known");
    assert_eq!(contents(&tables, &fact).len(), 120);
    let mut merged = 0;
    while let Some(report) = tables.compact("purchase", 1 << 24).expect("merges") {
        merged += report.file_count;
    }
    assert!(merged >= 120);
    assert_eq!(contents(&tables, &fact).len(), 120);
}

#[test]
fn merging_and_committing_go_on_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let fact = plain();
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| {
            for epoch in 1..=20 {
                add(&tables, &fact, epoch, &[row(epoch as u32, 0, &[]), row(epoch as u32, DAY_MICROS, &[])]);
            }
        });
        while !committing.is_finished() {
            tables.compact("purchase", 1 << 20).expect("merges");
        }
    });
    let expected: Vec<(i64, i64)> = (1..=20).flat_map(|slot| [(slot, 0), (slot, DAY_MICROS)]).collect();
    assert_eq!(contents(&tables, &fact), expected);
}

/// The tables are called from wherever the store is: also from the threads of an async runtime.
#[test]
fn within_another_runtime_nothing_blocks_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let found = runtime.block_on(async {
        let tables = DeltaTables::open(folder.path()).expect("opens");
        add(&tables, &plain(), 1, &[row(1, 0, &[])])
    });
    assert_eq!(found, 0);
}

#[derive(Clone, Debug)]
enum Move {
    Stage(Vec<(u32, i64)>),
    Commit,
    CommitAgain,
    Compact(u64),
    Reopen,
    Forget,
    DropBefore(i32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let rows = proptest::collection::vec((0u32..50, 0i64..4), 0..20);
    let step = prop_oneof![
        4 => rows.prop_map(Move::Stage),
        4 => Just(Move::Commit),
        1 => Just(Move::CommitAgain),
        3 => prop_oneof![Just(3_000u64), Just(1 << 20)].prop_map(Move::Compact),
        1 => Just(Move::Reopen),
        1 => Just(Move::Forget),
        1 => (0i32..3).prop_map(Move::DropBefore),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_table_has_what_was_committed(moves in moves()) {
        let folder = tempfile::tempdir().expect("a folder");
        let fact = plain();
        let mut tables = DeltaTables::open(folder.path()).expect("opens");
        let mut expected: Vec<(i64, i64)> = Vec::new();
        let (mut epoch, mut waiting, mut last) = (0, None, None);
        for step in moves {
            match step {
                Move::Stage(rows) => {
                    epoch += 1;
                    let rows: Vec<Row> = rows.iter().map(|(slot, day)| row(*slot, day * DAY_MICROS + 5, &[])).collect();
                    waiting = Some((epoch, stage(&tables, &fact, epoch, &rows), rows));
                }
                Move::Commit => {
                    if let Some((epoch, staged, rows)) = waiting.take() {
                        tables.commit("purchase", &fact, epoch, &staged).expect("commits");
                        expected.extend(rows.iter().map(|row| (i64::from(row.slot), row.ts)));
                        last = Some((epoch, staged));
                    }
                }
                Move::CommitAgain => {
                    if let Some((epoch, staged)) = &last {
                        tables.commit("purchase", &fact, *epoch, staged).expect("is known");
                    }
                }
                Move::Compact(target) => {
                    tables.compact("purchase", target).expect("merges");
                }
                Move::Reopen => {
                    drop(tables);
                    tables = DeltaTables::open(folder.path()).expect("opens");
                }
                Move::Forget => {
                    waiting = None;
                    tables.forget_staged("purchase").expect("forgets");
                }
                Move::DropBefore(day) => {
                    tables.drop_before("purchase", day).expect("drops");
                    expected.retain(|(_, ts)| *ts >= i64::from(day) * DAY_MICROS);
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(&contents(&tables, &fact), &expected);
        }
    }
}
