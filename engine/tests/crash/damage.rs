//! Damage to a directory at rest: every file, bits flipped and ends cut off.
//!
//! A damaged file is refused by name, when the store is opened or when what is damaged is asked for; the answer is never another
//! one. Only the end of the log may go unnoticed, since a crash may leave it torn: then an older state is found, that was once there.

use crate::history::{FOLDER, History, Trouble};
use crate::model::{State, read};
use crate::tables::{self, FileTables};
use engine::catalog::Fact;
use engine::ids::TagId;
use engine::store::{FactTables, Options, Store, check};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use engine::vfs::memory::MemoryVfs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What opening and reading everything gives.
fn look(vfs: &MemoryVfs) -> Result<State, String> {
    let store = Store::open_read_only(Arc::new(vfs.clone()), Path::new(FOLDER)).map_err(|error| error.to_string())?;
    read(&store.snapshot(), &FileTables(vfs.clone())).map_err(|error| error.to_string())
}

/// The files of the directory; tables are not the store's to check.
fn files(vfs: &MemoryVfs) -> Vec<(PathBuf, usize)> {
    vfs.files().into_iter().filter(|(path, _)| path.starts_with(FOLDER)).collect()
}

#[derive(Default)]
struct Tally {
    refused: usize,
    harmless: usize,
    older: usize,
}

fn judge(history: &History, path: &Path, what: &str, tally: &mut Tally) {
    let report = check(&history.vfs, Path::new(FOLDER), |_| {});
    let states = history.states();
    let last = states.last().expect("a state");
    match look(&history.vfs) {
        Err(error) => {
            tally.refused += 1;
            assert!(error.contains(FOLDER), "{} {what}: no file is named: {error}", path.display());
            assert!(
                !report.problems.is_empty(),
                "{} {what}: the check finds nothing, opening says {error}",
                path.display()
            );
        }
        Ok(found) if found == *last => tally.harmless += 1,
        Ok(found) => {
            tally.older += 1;
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            assert!(is_log, "{} {what}: another answer\n{}", path.display(), last.difference(&found));
            assert!(states.contains(&found), "{} {what}: made up\n{}", path.display(), last.difference(&found));
        }
    }
}

#[test]
fn damage_is_named_or_harmless() {
    let mut tally = Tally::default();
    for seed in 0..3 {
        let history = History::new(seed ^ 6 << 32, Trouble::default(), tables::open).left_behind();
        let vfs = history.vfs.clone();
        assert_eq!(&look(&vfs).expect("sound"), history.states().last().expect("a state"));
        for (path, len) in files(&vfs) {
            for bit in (seed as usize..len * 8).step_by(1 + len * 8 / 60) {
                vfs.flip_bit(&path, bit);
                judge(&history, &path, &format!("bit {bit}"), &mut tally);
                vfs.flip_bit(&path, bit);
            }
        }
    }
    let Tally { refused, harmless, older } = tally;
    assert!(refused > 500 && older > 0, "{refused} refused, {harmless} harmless, {older} older");
}

#[test]
fn a_file_cut_short_is_named_or_harmless() {
    let mut tally = Tally::default();
    for seed in 0..60 {
        let files = files(&History::new(seed ^ 7 << 32, Trouble::default(), tables::open).left_behind().vfs);
        let (path, len) = &files[seed as usize % files.len()];
        let history = History::new(seed ^ 7 << 32, Trouble::default(), tables::open).left_behind();
        history.vfs.truncate(path, len * (seed as usize % 7) / 7);
        judge(&history, path, "cut short", &mut tally);
    }
    let Tally { refused, harmless, older } = tally;
    assert!(refused > 20, "{refused} refused, {harmless} harmless, {older} older");
}

#[test]
fn a_check_lists_all_damage() {
    let history = History::new(8 << 32, Trouble::default(), tables::open).left_behind();
    let damaged = files(&history.vfs).into_iter().filter(|(path, len)| {
        let kind = path.extension().and_then(|extension| extension.to_str());
        *len > 0 && matches!(kind, Some("seg" | "ids" | "once" | "evt"))
    });
    let damaged: Vec<_> = damaged.collect();
    assert!(damaged.len() > 3, "{damaged:?}");
    damaged.iter().for_each(|(path, _)| history.vfs.flip_bit(path, 9));
    let report = check(&history.vfs, Path::new(FOLDER), |_| {});
    for (path, _) in damaged {
        let named = report.problems.iter().any(|problem| problem.starts_with(&path.display().to_string()));
        assert!(named, "{} is not in {:#?}", path.display(), report.problems);
    }
}

#[test]
fn opening_to_read_changes_nothing_and_writing_is_refused() {
    let history = History::new(9 << 32, Trouble::default(), tables::open).left_behind();
    let vfs = history.vfs.clone();
    let (files, calls) = (vfs.files(), vfs.calls());
    let store = Store::open_read_only(Arc::new(vfs.clone()), Path::new(FOLDER)).expect("open");
    assert!(store.publish().is_err() && store.checkpoint().is_err() && store.put_catalog(Default::default()).is_err());
    assert_eq!((vfs.files(), vfs.calls()), (files, calls));
    let taken = Store::open(Arc::new(vfs.clone()), Path::new(FOLDER), Options::default());
    assert!(taken.expect_err("in use").to_string().contains("in use by another process"));
    let nowhere = Store::open_read_only(Arc::new(vfs.clone()), Path::new("/data/nowhere"));
    assert!(nowhere.expect_err("no directory").to_string().contains("no manifest"));
    assert_eq!(vfs.files().len(), history.vfs.files().len(), "a mistyped path stays untouched");
}

/// The engine's own facts and lists are as sound as declared ones.
#[test]
fn a_check_knows_what_the_engine_keeps_for_itself() {
    let vfs = MemoryVfs::default();
    let tables = Some(Arc::new(FileTables(vfs.clone())) as Arc<dyn FactTables>);
    let store = Store::open(Arc::new(vfs.clone()), Path::new(FOLDER), Options { tables, ..Options::default() });
    let store = store.expect("opens");
    let mut batch = UpdateBatch::new();
    batch.begin_user(b"u");
    batch.push(TagId::UPLOADS, Change::Add("a list"));
    let snapshot = store.snapshot();
    let own: Vec<&Fact> = snapshot.catalog().facts().map(|(_, fact)| fact).collect();
    assert!(own.len() >= 2 && own.iter().all(|fact| fact.id < TagId::FIRST_DECLARED));
    for fact in own {
        let values = vec![Value::Null; fact.columns.len()];
        batch.push_event(fact.id, &EventHead::default(), &values);
    }
    store.write(&batch, None).expect("written");
    store.checkpoint().expect("saved");
    drop(store);
    let report = check(&vfs, Path::new(FOLDER), |_| {});
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
