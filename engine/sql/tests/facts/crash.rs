//! The process stops, or the power goes, before any change to the disk.
//!
//! A run stages, commits and merges while its n-th change to the disk fails, and every later one, for every n. Before the next
//! start a power cut may also take what was not synced: the content of files, and names in folders. After the
//! start the store does what it does: commits again what its manifest says will happen, or forgets what it staged.
//! Then every epoch is in the table once, or not at all if nobody was told otherwise.

use crate::support::{Row, contents, data_files, fact, row, with_rows};
use engine::store::{FactTables, TableError};
use engine_sql::facts::{DeltaTables, Step, Watch};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct Disk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    fails_at: Option<usize>,
    steps: Vec<Step>,
}

impl Watch for Disk {
    fn before(&self, step: &Step) -> io::Result<()> {
        let mut state = self.0.lock().expect("no panic before");
        if state.fails_at.is_some_and(|at| state.steps.len() >= at) {
            return Err(io::Error::other("the simulated disk fails"));
        }
        state.steps.push(step.clone());
        Ok(())
    }
}

impl Disk {
    fn failing_at(at: usize) -> Arc<Self> {
        Arc::new(Disk(Mutex::new(State { fails_at: Some(at), steps: Vec::new() })))
    }

    fn steps(&self) -> Vec<Step> {
        self.0.lock().expect("no panic before").steps.clone()
    }
}

/// Takes what was not synced from the disk.
fn cut_power(steps: &[Step]) {
    let mut unsynced_content: HashSet<PathBuf> = HashSet::new();
    let mut unsynced_names: Vec<PathBuf> = Vec::new();
    for step in steps {
        match step {
            Step::Write(path) => {
                unsynced_content.insert(path.clone());
                unsynced_names.push(path.clone());
            }
            Step::SyncFile(path) => {
                unsynced_content.remove(path);
            }
            Step::MakeFolder(path) => unsynced_names.push(path.clone()),
            Step::Link(from, to) | Step::Rename(from, to) => {
                assert!(!unsynced_content.contains(from), "{} gets its name before its content", to.display());
                unsynced_names.push(to.clone());
            }
            Step::Remove(_) => {}
            Step::SyncFolder(folder) => unsynced_names.retain(|path| path.parent() != Some(folder)),
        }
    }
    for path in unsynced_content {
        if path.exists() {
            std::fs::write(&path, "").expect("is torn");
        }
    }
    for path in unsynced_names.into_iter().rev() {
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

/// What the store remembers over a crash: the bytes of epochs that will happen.
#[derive(Default)]
struct Manifest {
    prepared: Vec<(u64, Vec<u8>)>,
    acknowledged: Vec<u64>,
}

fn rows_of(epoch: u64) -> Vec<Row> {
    (0..3).map(|at| row(epoch as u32 * 10 + at, i64::from(at % 2) * 86_400_000_000, &[])).collect()
}

fn run(root: &Path, disk: &Arc<Disk>, manifest: &mut Manifest) -> Result<(), TableError> {
    let fact = fact(&[]);
    let watch: Arc<dyn Watch> = Arc::clone(disk) as _;
    let tables = DeltaTables::open_watched(root, Some(watch))?;
    for epoch in 1..=3 {
        let staged = with_rows(&rows_of(epoch), |rows| tables.stage("purchase", &fact, epoch, rows))?;
        manifest.prepared.push((epoch, staged.clone()));
        tables.commit("purchase", &fact, epoch, &staged)?;
        manifest.acknowledged.push(epoch);
        if epoch == 2 {
            tables.compact("purchase", 1 << 20)?;
        }
    }
    tables.compact("purchase", 1 << 20)?;
    Ok(())
}

fn expected(epochs: impl Iterator<Item = u64>) -> Vec<(i64, i64)> {
    let rows = epochs.flat_map(rows_of).map(|row| (i64::from(row.slot), row.ts));
    let mut rows: Vec<(i64, i64)> = rows.collect();
    rows.sort_unstable();
    rows
}

fn crash_everywhere(after: impl Fn(&[Step])) {
    for at in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("facts");
        let disk = Disk::failing_at(at);
        let mut manifest = Manifest::default();
        let ended = run(&root, &disk, &mut manifest);
        after(&disk.steps());

        let tables = DeltaTables::open(&root).unwrap_or_else(|error| panic!("stopped at {at}: {error}"));
        let fact = fact(&[]);
        let told = expected(manifest.acknowledged.iter().copied());
        let found = contents(&tables, &fact);
        assert!(told.iter().all(|row| found.contains(row)), "stopped at {at}: {told:?} were told, {found:?} are there");
        for (epoch, staged) in &manifest.prepared {
            tables.commit("purchase", &fact, *epoch, staged).unwrap_or_else(|error| panic!("stopped at {at}: {error}"));
        }
        tables.forget_staged("purchase").unwrap_or_else(|error| panic!("stopped at {at}: {error}"));
        let all = expected(manifest.prepared.iter().map(|(epoch, _)| *epoch));
        assert_eq!(contents(&tables, &fact), all, "stopped at {at}");
        let left = data_files(&root);
        assert!(!left.iter().any(|name| name.contains('#')), "stopped at {at}: {left:?}");
        while tables.compact("purchase", 1 << 20).expect("merges").is_some() {}
        assert_eq!(contents(&tables, &fact), all, "stopped at {at}");
        if ended.is_ok() {
            assert!(at > 50, "the run has {at} changes only");
            return;
        }
    }
}

#[test]
fn a_process_that_stops_anywhere_leaves_all_or_nothing() {
    crash_everywhere(|_| {});
}

#[test]
fn a_power_cut_anywhere_leaves_all_or_nothing() {
    crash_everywhere(cut_power);
}
