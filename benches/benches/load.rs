//! What durable costs: loading from Parquet, against reading the same files and throwing the rows away; then checkpoints
//! after changes to few and to many users, which should cost what changed and not what there is; then how often a byte
//! is written in a minute of updates.
//!
//! `BELUGA_BENCH_USERS=10_000_000 cargo bench -p benches --bench load` (the default is 2,000,000).

use benches::{is_asked, peak_memory_bytes, reset_peak_memory, setting};
use datasets::DataSet;
use datasets::population::{AS_OF, Population};
use engine::store::{Options, Store};
use engine::update::UpdateBatch;
use engine::vfs::real::RealVfs;
use ingest::backfill::{BackfillJob, run};
use ingest::keeper::workers;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Users of one Parquet file.
const FILE_USERS: u64 = 1_000_000;

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 2_000_000);
    let temporary = tempfile::tempdir().expect("temporary folder");
    let population = Population { seed: 1, user_count: users };
    let files: Vec<PathBuf> = (0..users.div_ceil(FILE_USERS))
        .map(|number| {
            let path = temporary.path().join(format!("{number:04}.parquet"));
            let from = number * FILE_USERS;
            population.write_parquet(from..(from + FILE_USERS).min(users), &path).expect("written");
            path
        })
        .collect();
    let options = Options { workers: Some(workers().expect("threads")), ..Options::default() };
    let store = Store::open(Arc::new(RealVfs), &temporary.path().join("data"), options).expect("open");
    store.put_catalog(DataSet::Population.catalog()).expect("catalog");
    load(&store, &files, users);
    if is_asked("checkpoint") {
        checkpoints(&store, users);
    }
    if is_asked("amplification") {
        amplification(&store, users);
    }
}

fn load(store: &Store, files: &[PathBuf], users: u64) {
    let begun = Instant::now();
    let rows: usize = files.iter().map(|file| read(file)).sum();
    let reading = begun.elapsed();
    assert_eq!(rows as u64, users, "every user is a row");
    let listed = files.iter().map(|file| file.display().to_string()).collect();
    let job = BackfillJob::new("load", listed, "user_id");
    reset_peak_memory();
    let begun = Instant::now();
    let report = run(store, &job, &AtomicBool::new(false), &mut |_| {}).expect("loaded");
    let loading = begun.elapsed();
    let progress = report.progress;
    assert_eq!((progress.rows_done, progress.rejected), (users, 0), "every row is good");
    println!(
        "bulk load: {users} rows, {} tag values in {loading:.1?}: {:.0} thousand rows and {:.2} million values a second",
        progress.values,
        users as f64 / loading.as_secs_f64() / 1e3,
        progress.values as f64 / loading.as_secs_f64() / 1e6,
    );
    println!(
        "bulk load: {:.1} times the time of only reading the files ({reading:.1?}, one thread); peak memory {} MiB",
        loading.as_secs_f64() / reading.as_secs_f64(),
        peak_memory_bytes() >> 20
    );
}

fn read(file: &Path) -> usize {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).expect("there")).expect("Parquet");
    reader.build().expect("Parquet").map(|batch| batch.expect("good").num_rows()).sum()
}

fn checkpoints(store: &Store, users: u64) {
    let index_mib = store.statistics().segment_bytes as f64 / f64::from(1 << 20);
    println!("checkpoint of an index of {index_mib:.0} MiB after changes to …");
    let mut live = Population { seed: 1, user_count: users }.live(store.snapshot().catalog()).expect("same catalog");
    for changed in [100, 1_000, 10_000, 100_000, 1_000_000] {
        let mut batch = UpdateBatch::new();
        live.fill(changed, AS_OF, &mut batch);
        store.write(&batch, None).expect("write");
        store.publish().expect("publish");
        let begun = Instant::now();
        let report = store.checkpoint().expect("checkpoint");
        println!(
            "  {changed:>9} users, {:>9} values: {:>8.1} KiB written in {:.1?}",
            batch.change_count(),
            report.bytes_written as f64 / 1024.0,
            begun.elapsed()
        );
    }
    while store.compact().expect("compact").is_some() {}
}

/// A minute's updates, a checkpoint for each second of them, and merges as they fall due.
fn amplification(store: &Store, users: u64) {
    let mut live = Population { seed: 2, user_count: users }.live(store.snapshot().catalog()).expect("same catalog");
    let (mut saved, mut merged) = (0, 0);
    for _ in 0..60 {
        let mut batch = UpdateBatch::new();
        live.fill(60_000, AS_OF, &mut batch);
        store.write(&batch, None).expect("write");
        saved += store.checkpoint().expect("checkpoint").bytes_written;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1)
            && let Some(step) = store.compact().expect("compact")
        {
            merged += step.bytes_written;
        }
    }
    println!(
        "write amplification: {:.1} (60 checkpoints wrote {} MiB, merges {} MiB)",
        (saved + merged) as f64 / saved as f64,
        saved >> 20,
        merged >> 20
    );
}
