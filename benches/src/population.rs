//! The generated population, loaded as a backfill loads it.

use crate::peak_memory_bytes;
use datasets::population::Population;
use engine::store::{Options, Store};
use engine::update::UpdateBatch;
use engine::vfs::real::RealVfs;
use ingest::keeper::{publishers, workers};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many users, the same in every run.
pub fn population(user_count: u64) -> Population {
    Population { seed: 1, user_count }
}

/// Opens a directory with the threads that a server has.
///
/// # Panics
/// If it cannot be opened.
pub fn open(folder: &Path) -> Store {
    let (workers, publishers) = (Some(workers().expect("threads")), Some(publishers().expect("threads")));
    let options = Options { workers, publishers, ..Options::default() };
    Store::open(Arc::new(RealVfs), folder, options).expect("open")
}

/// Loads the generated population and prints how fast that went.
///
/// # Panics
/// If something of it fails.
pub fn load(folder: &Path, users: u64) {
    let store = open(folder);
    store.put_catalog(datasets::DataSet::Population.catalog()).expect("catalog");
    let filler = population(users).filler(&datasets::DataSet::Population.catalog()).expect("same catalog");
    let begun = Instant::now();
    let mut values = 0;
    let rewritten = AtomicU64::new(0);
    let (send, receive) = std::sync::mpsc::sync_channel::<(UpdateBatch, u64)>(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for from in (0..users).step_by(20_000) {
                let to = (from + 20_000).min(users);
                let mut batch = UpdateBatch::new();
                filler.fill(from..to, &mut batch);
                if send.send((batch, to)).is_err() {
                    return;
                }
            }
        });
        // Merges go on beside the load, as in a backfill.
        let is_loading = AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while is_loading.load(Ordering::Relaxed) {
                    match store.compact().expect("compact") {
                        Some(step) => rewritten.fetch_add(step.bytes_written, Ordering::Relaxed),
                        None => {
                            std::thread::sleep(Duration::from_millis(50));
                            0
                        }
                    };
                }
            });
            for (batch, to) in receive {
                values += batch.change_count() as u64;
                store.write_replayable(&batch, "load", to).expect("write");
            }
            is_loading.store(false, Ordering::Relaxed);
        });
    });
    store.forget_source("load");
    store.checkpoint().expect("checkpoint");
    let loaded = begun.elapsed();
    while let Some(step) = store.compact_fully().expect("compact") {
        rewritten.fetch_add(step.bytes_written, Ordering::Relaxed);
    }
    let statistics = store.statistics();
    println!(
        "loaded {values} tag values in {loaded:.1?}: {:.2} million a second; merged {} MiB, the last in {:.1?} more; index {} MiB; peak memory {} MiB",
        values as f64 / loaded.as_secs_f64() / 1e6,
        rewritten.into_inner() >> 20,
        begun.elapsed() - loaded,
        statistics.segment_bytes >> 20,
        peak_memory_bytes() >> 20,
    );
}
