//! The process stops, or the power goes, before any change to the disk.
//!
//! A run stages, commits and merges while its n-th change to the disk fails, and every later one, for every n. Before the next
//! start a power cut may also take what was not synced: the content of files, and names in folders. After the
//! start the store does what it does: commits again what its manifest says will happen, or forgets what it staged.
//! Then every epoch is in the table once, or not at all if nobody was told otherwise.

use crate::support::{Row, contents, fact, row, with_rows};
use engine::store::{FactTables, TableError};
use engine::vfs::memory::MemoryVfs;
use engine_sql::facts::{DeltaTables, Simulation};
use std::path::Path;
use std::sync::Arc;

const ROOT: &str = "/data/facts";

fn open(vfs: &MemoryVfs, first_number: u64) -> Result<DeltaTables, TableError> {
    let simulation = Simulation { first_number, checkpoint_every: 3 };
    DeltaTables::open_simulated(Arc::new(vfs.clone()), Path::new(ROOT), simulation)
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

fn run(vfs: &MemoryVfs, manifest: &mut Manifest) -> Result<(), TableError> {
    let fact = fact(&[]);
    let tables = open(vfs, 0)?;
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

/// `lasting`: every later call fails as well, as if the process had stopped there.
fn crash_everywhere(lasting: bool, power_cut: bool) {
    for at in 1.. {
        let vfs = MemoryVfs::default();
        vfs.fail_at(at, lasting, std::io::ErrorKind::StorageFull);
        let mut manifest = Manifest::default();
        let ended = run(&vfs, &mut manifest);
        let reached = vfs.calls() >= at;
        vfs.repair();
        if power_cut {
            vfs.power_cut(at);
        }

        let tables = open(&vfs, 1 << 20).unwrap_or_else(|error| panic!("stopped at {at}: {error}"));
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
        let mut data_files = vfs.files();
        data_files.retain(|(path, _)| !path.to_string_lossy().contains("_delta_log"));
        let left = data_files.iter().find(|(path, _)| path.to_string_lossy().contains('#'));
        assert_eq!(left, None, "stopped at {at}");
        while tables.compact("purchase", 1 << 20).expect("merges").is_some() {}
        assert_eq!(contents(&tables, &fact), all, "stopped at {at}");
        if !reached {
            assert!(ended.is_ok() && at > 50, "the run has {at} changes only");
            return;
        }
    }
}

#[test]
fn a_process_that_stops_anywhere_leaves_all_or_nothing() {
    crash_everywhere(true, false);
}

#[test]
fn a_power_cut_anywhere_leaves_all_or_nothing() {
    crash_everywhere(true, true);
}

#[test]
fn a_call_that_fails_anywhere_leaves_all_or_nothing() {
    crash_everywhere(false, true);
}
