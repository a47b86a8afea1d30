//! Objects load as files with the same bytes do, whatever their store does on the way.

use super::tests::{as_csv, as_json_rows, job, load, new_store, some_rows, state, write_parquet};
use super::*;
use crate::objects::memory::{Fault, MemoryObjects};
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FAULTS: [Fault; 4] = [Fault::Away, Fault::Refused, Fault::Short, Fault::Lost];

fn of_objects(job: &BackfillJob, files: &str, objects: Arc<MemoryObjects>) -> BackfillJob {
    BackfillJob { files: vec![files.to_owned()], objects: Some(objects), ..job.clone() }
}

/// Files of a folder in all formats, and the same as objects.
fn files_of(count: u32, folder: &Path, objects: &MemoryObjects) {
    let rows = some_rows(count);
    std::fs::write(folder.join("a.csv"), as_csv(&rows)).expect("written");
    std::fs::write(folder.join("b.ndjson"), as_json_rows(&rows)).expect("written");
    write_parquet(&rows, &folder.join("c.parquet"), 1 + count as usize / 3);
    for name in ["a.csv", "b.ndjson", "c.parquet"] {
        objects.put(&format!("s3://b/in/{name}"), std::fs::read(folder.join(name)).expect("read"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// A job that is run again after each failure loads each row once.
    #[test]
    fn a_job_that_fails_anywhere_goes_on(count in 1_u32..3_000, seed in any::<u64>(), fault_rate in 0_u64..50) {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = MemoryObjects::new(move |request| {
            let roll = xxhash_rust::xxh3::xxh3_64_with_seed(&request.to_le_bytes(), seed);
            if roll % 100 < fault_rate { FAULTS[(roll >> 32) as usize % FAULTS.len()] } else { Fault::None }
        });
        files_of(count, folder.path(), &objects);
        let local = job(&folder.path().join("*"));
        let expected = new_store();
        let whole = load(&expected, &local).expect("loads");

        let store = new_store();
        let remote = of_objects(&local, "s3://b/in/", objects);
        let mut runs = 0;
        let report = loop {
            match load(&store, &remote) {
                Ok(report) => break report,
                Err(BackfillError::Unavailable { .. } | BackfillError::File { .. }) => runs += 1,
                Err(error) => panic!("{error}"),
            }
            prop_assert!(runs < 1_000);
        };
        let progress = report.progress;
        prop_assert_eq!(progress.earlier.rows + progress.rows_done, whole.progress.rows_done);
        prop_assert_eq!((progress.bytes_total, progress.files_total), (whole.progress.bytes_total, 3));
        prop_assert_eq!(state(&store, (0..count).step_by(7)), state(&expected, (0..count).step_by(7)));
    }
}

#[test]
fn a_job_of_a_store_that_hangs_is_cancelled() {
    for hangs_from in 0..4 {
        let objects = MemoryObjects::new(move |request| if request >= hangs_from { Fault::Hang } else { Fault::None });
        let folder = tempfile::tempdir().expect("a folder");
        files_of(50, folder.path(), &objects);
        let cancel = Arc::new(AtomicBool::new(false));
        let soon = Arc::clone(&cancel);
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            soon.store(true, Ordering::Relaxed);
        });
        let begin = Instant::now();
        let remote = of_objects(&job(Path::new("/in")), "s3://b/in/", objects);
        let stopped = run(&new_store(), &remote, &cancel, &mut |_| {});
        assert!(matches!(stopped, Err(BackfillError::Cancelled { .. })), "{stopped:?}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
        canceller.join().expect("it does not panic");
    }
}

#[test]
fn objects_that_were_replaced_are_not_resumed() {
    let objects = MemoryObjects::new(|request| if request == 2 { Fault::Away } else { Fault::None });
    objects.put("s3://b/in/a.csv", as_csv(&some_rows(10)));
    let remote = of_objects(&job(Path::new("/in")), "s3://b/in/*.csv", objects.clone());
    let store = new_store();
    // The listing, what is asked for, and its failure.
    objects.put("s3://b/in/b.csv", as_csv(&some_rows(10)));
    let away = load(&store, &remote).expect_err("away");
    assert!(matches!(&away, BackfillError::Unavailable { path, .. } if path == Path::new("s3://b/in/b.csv")), "{away}");
    // Of the same name and size.
    objects.put("s3://b/in/a.csv", as_csv(&some_rows(10)));
    assert!(matches!(load(&store, &remote), Err(BackfillError::Changed { .. })));
    let report = load(&store, &BackfillJob { restart: true, ..remote }).expect("loads all");
    assert_eq!((report.progress.rows_done, report.resumed_at), (20, None));
}

#[test]
fn what_objects_are_not_there_is_told() {
    let objects = MemoryObjects::new(|_| Fault::None);
    objects.put("s3://b/in/a.csv", "user_id,age\n1,2\n");
    objects.put("s3://b/in/_SUCCESS", "");
    let remote = |files: &str| of_objects(&job(Path::new("/in")), files, objects.clone());
    for files in ["s3://b/*.csv", "s3://b/a.csv", "s3://b/i"] {
        let told = check_files(&remote(files)).expect_err("refused").to_string();
        assert!(told.contains(&format!("no object matches `{files}`")), "{told}");
    }
    assert!(check_files(&remote("s3://b/in/_SUCCESS")).expect_err("refused").to_string().contains("state `format`"));
    // What is empty and was not named marks a folder, or an end; anything else of no format was meant by a glob.
    assert!(check_files(&remote("s3://b/in")).is_ok() && check_files(&remote("s3://b/**")).is_ok());
    let with_format = BackfillJob { format: Some(FileFormat::Csv), ..remote("s3://b/in/") };
    assert_eq!(files::find_all(&with_format).expect("found").len(), 1);
    objects.put("s3://b/in/_README", "words");
    assert!(check_files(&remote("s3://b/in")).is_ok() && check_files(&remote("s3://b/**")).is_err());
    // One that does not tell is left to the job.
    let away = MemoryObjects::new(|_| Fault::Away);
    assert!(check_files(&of_objects(&job(Path::new("/in")), "s3://b/in/", away)).is_ok());
    let report = load(&new_store(), &remote("s3://b/in/")).expect("loads");
    assert_eq!((report.progress.rows_done, report.progress.files_total), (1, 1));
}
