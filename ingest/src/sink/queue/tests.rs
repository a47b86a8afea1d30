//! A queue against a list: what was committed is read in any batches; damage is named, and never read.

use super::*;
use engine::vfs::memory::MemoryVfs;
use proptest::prelude::*;

const FACT: TagId = TagId(20);
const FOLDER: &str = "/sinks/s";

fn place(vfs: &Arc<dyn Vfs>) -> QueuePlace<'_> {
    QueuePlace { vfs, folder: Path::new(FOLDER), name: "s", life: TagId(30), bytes_max: 2_000 }
}

/// Rows that are appended and committed together, several times.
fn filled(vfs: &Arc<dyn Vfs>, commits: &[u64]) -> (Queue, Vec<String>) {
    let queue = Queue::begin(&place(vfs), 7, (FACT, 0), 0, |_| Ok(())).expect("begun");
    let mut ids = Vec::new();
    for count in commits {
        let mut builder = BlockBuilder::default();
        for _ in 0..*count {
            let row = ids.len() as u64;
            let id = format!("f/{row}");
            builder.push(&Record { row: Some((FACT, row)), id: &id, user_id: "u", json: "{\"a\":\"b\"}" });
            ids.push(id);
        }
        queue.append(&mut builder, 5).expect("appended");
        queue.commit().expect("committed");
    }
    (queue, ids)
}

/// All records from an offset on, read in batches.
fn read(queue: &Queue, from: u64, records_max: usize) -> Result<Vec<String>, QueueError> {
    let (mut reader, mut ids, mut at) = (QueueReader::default(), Vec::new(), from);
    while at < queue.end() {
        let batch = reader.read(queue, at, None, BatchLimits { records_max, bytes_max: 60 })?;
        assert!((1..=records_max).contains(&batch.records.len()) && batch.first == at);
        at = batch.end();
        ids.extend(batch.records.into_iter().map(|record| record.id));
    }
    Ok(ids)
}

proptest! {
    #[test]
    fn what_was_committed_is_read_and_delivered_files_go(
        commits in prop::collection::vec(0u64..20, 0..30),
        records_max in 1usize..50,
        delivered in 0f64..1.0,
    ) {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::default());
        let (queue, ids) = filled(&vfs, &commits);
        prop_assert_eq!(read(&queue, 0, records_max).expect("read"), ids.clone());
        let delivered = (delivered * ids.len() as f64) as usize;
        queue.advance(delivered as u64, None).expect("noted");
        drop(queue);
        let queue = Queue::open(&place(&vfs)).expect("opens").expect("it began");
        prop_assert_eq!((queue.position().0, queue.end()), (delivered as u64, ids.len() as u64));
        prop_assert_eq!(queue.next_row(FACT), Some(ids.len() as u64));
        prop_assert_eq!(read(&queue, delivered as u64, records_max).expect("read"), &ids[delivered..]);
        // It goes on behind them.
        let mut builder = BlockBuilder::default();
        builder.push(&Record { row: Some((FACT, 1_000)), id: "new", user_id: "u", json: "{}" });
        queue.append(&mut builder, 5).expect("appended");
        prop_assert_eq!(queue.end(), ids.len() as u64, "not before it is durable");
        queue.commit().expect("committed");
        prop_assert_eq!(read(&queue, ids.len() as u64, 9).expect("read"), ["new"]);
        queue.advance(queue.end(), None).expect("noted");
        prop_assert!(vfs.list(Path::new(FOLDER)).expect("listed").len() <= 3, "a cursor and at most two files are left");
    }

    #[test]
    fn damage_is_an_error_or_changes_nothing(
        commits in prop::collection::vec(1u64..20, 1..20),
        file in 0usize..100,
        bit in 0usize..100_000,
    ) {
        let disk = MemoryVfs::default();
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let (queue, ids) = filled(&vfs, &commits);
        drop(queue);
        let files = disk.files();
        let (path, length) = &files[file % files.len()];
        disk.flip_bit(path, bit % (length * 8));
        let Ok(opened) = Queue::open(&place(&vfs)) else { return Ok(()) };
        let queue = opened.expect("it began");
        // What stood last may be taken for what a crash had torn; all before it is there, or missed.
        let last = *commits.last().expect("one") as usize;
        prop_assert!(queue.end() as usize >= ids.len() - last);
        if let Ok(read) = read(&queue, 0, 7) {
            prop_assert_eq!(&read[..], &ids[..queue.end() as usize]);
        }
    }

    #[test]
    fn a_torn_end_is_passed_over(commits in prop::collection::vec(1u64..20, 1..20), cut in 1usize..400) {
        let disk = MemoryVfs::default();
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let (queue, ids) = filled(&vfs, &commits);
        drop(queue);
        let (path, length) = disk.files().into_iter().rfind(|(path, _)| path.ends_with("cursor").eq(&false)).expect("a file");
        disk.truncate(&path, length.saturating_sub(cut));
        match Queue::open(&place(&vfs)) {
            Ok(queue) => {
                let queue = queue.expect("it began");
                prop_assert_eq!(&read(&queue, 0, 7).expect("read")[..], &ids[..queue.end() as usize]);
            }
            Err(error) => prop_assert!(error.to_string().contains("damaged at byte 0"), "only without a header: {}", error),
        }
    }
}

#[test]
fn a_queue_lets_go_of_what_was_before_a_mark_once_it_is_delivered() {
    let disk = MemoryVfs::default();
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let (queue, ids) = filled(&vfs, &[2, 3]);
    let mark = queue.turn_over().expect("a new file");
    assert_eq!(mark, 5);
    assert!(!queue.has_let_go(mark).expect("looks"));
    let mut builder = BlockBuilder::default();
    builder.push(&Record { row: Some((FACT, 5)), id: "later", user_id: "other", json: "{}" });
    queue.append(&mut builder, 5).expect("appended");
    queue.commit().expect("committed");
    queue.advance(4, None).expect("noted");
    assert!(!queue.has_let_go(mark).expect("looks"), "one is not delivered");
    assert_eq!(read(&queue, 4, 9).expect("read"), [ids[4].as_str(), "later"]);
    queue.advance(5, None).expect("noted");
    assert!(queue.has_let_go(mark).expect("looks"));
    let has_first = |(path, _): (PathBuf, usize)| {
        let bytes = vfs.read(&path).expect("reads");
        bytes.windows(ids[0].len()).any(|part| part == ids[0].as_bytes())
    };
    assert!(!disk.files().into_iter().any(has_first));
    assert_eq!(read(&queue, 5, 9).expect("read"), ["later"]);
    // With nothing behind it there is nothing to begin.
    queue.advance(6, None).expect("noted");
    let end = queue.turn_over().expect("a new file");
    assert_eq!((end, queue.turn_over().expect("the same one")), (6, 6));
    assert!(queue.has_let_go(end).expect("looks"));
}
