use super::files::Files;
use super::*;
use crate::error::Kind;
use crate::queries::Door;
use std::fs;

fn record(n: u64) -> Record {
    Record { at: n.cast_signed(), ..Record::of_call(Door::Rest, &format!("PUT /v1/{n}"), None).answered(200) }
}

/// A log of so many records, in several files.
fn log(records: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Files::open(folder.path(), 400, Duration::from_secs(60)).expect("opens");
    for n in 0..records {
        files.append(&[record(n)]).expect("written");
    }
    folder
}

fn whole(folder: &Path) -> Verified {
    verify(folder, None, |_| {}).expect("whole")
}

#[test]
fn a_log_goes_on_where_it_ended_and_files_follow_each_other() {
    let folder = log(10);
    let (mut told, before) = (Vec::new(), whole(folder.path()));
    assert!(before.files > 2 && before.records == 10, "{before:?}");
    let mut files = Files::open(folder.path(), 400, Duration::from_secs(60)).expect("opens");
    files.append(&[record(10), record(11)]).expect("written");
    let after = verify(folder.path(), Some(&before.head), |record| told.push(record.at)).expect("whole");
    assert_eq!((after.records, after.has_known, after.is_torn), (12, true, false));
    assert_eq!(told, (0..12).collect::<Vec<_>>());
    assert!(!verify(folder.path(), Some(&"f".repeat(64)), |_| {}).expect("whole").has_known);
    // Old files may go; what is left says how many records there were.
    fs::remove_file(folder.path().join("00000001.ndjson")).expect("removed");
    let left = whole(folder.path());
    assert!(left.removed > 0 && left.removed + left.records == 12, "{left:?}");
    assert_eq!(left.head, after.head);
}

#[test]
fn files_are_removed_when_they_are_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Files::open(folder.path(), 400, Duration::ZERO).expect("opens");
    for n in 0..20 {
        files.append(&[record(n)]).expect("written");
    }
    let left = whole(folder.path());
    assert!(left.files <= 2 && left.removed > 10 && left.removed + left.records == 20, "{left:?}");
}

#[test]
fn any_change_is_noticed() {
    let folder = log(6);
    let paths: Vec<_> = files::list(folder.path()).expect("lists").into_iter().map(|(_, path)| path).collect();
    let head = whole(folder.path()).head;
    for path in &paths {
        let bytes = fs::read(path).expect("reads");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(path, &changed).expect("written");
            let told = verify(folder.path(), None, |_| {});
            // A change that leaves all as it was read, as the case of a digit would, is none; the last line's end may be torn.
            let is_noticed = told.is_err() || told.is_ok_and(|told| told.head != head || told.is_torn);
            assert!(is_noticed, "{} at {at}", path.display());
        }
        fs::write(path, &bytes).expect("written");
    }
    // A line left out, and two changed places.
    let text = fs::read_to_string(&paths[0]).expect("reads");
    let lines: Vec<&str> = text.lines().collect();
    for order in [vec![0, 2], vec![0, 2, 1]] {
        let changed: String = order.iter().filter_map(|at| lines.get(*at)).map(|line| format!("{line}\n")).collect();
        fs::write(&paths[0], changed).expect("written");
        let failure = verify(folder.path(), None, |_| {}).expect_err("is noticed");
        assert_eq!(failure.kind, Kind::Corrupt);
    }
    fs::write(&paths[0], &text).expect("written");
    fs::remove_file(&paths[1]).expect("removed");
    assert!(verify(folder.path(), None, |_| {}).expect_err("is noticed").detail.contains("missing"));
}

#[test]
fn what_a_crash_broke_off_is_cut_and_damage_is_not() {
    let folder = log(6);
    let (_, path) = files::list(folder.path()).expect("lists").pop().expect("a file");
    let bytes = fs::read(&path).expect("reads");
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).expect("written");
        let mut files = Files::open(folder.path(), 400, Duration::from_secs(60)).expect("goes on");
        files.append(&[record(99)]).expect("written");
        let told = whole(folder.path());
        assert!(!told.is_torn && (4..=7).contains(&told.records), "cut at {cut}: {told:?}");
        let _ = fs::remove_file(folder.path().join("00000004.ndjson"));
    }
    let mut torn = bytes.clone();
    torn.extend_from_slice(&[0xff, 0xfe]);
    fs::write(&path, &torn).expect("written");
    assert!(whole(folder.path()).is_torn);
    let mut damaged = bytes;
    damaged[2] = b'x';
    fs::write(&path, &damaged).expect("written");
    let opened = Files::open(folder.path(), 400, Duration::from_secs(60));
    assert_eq!(opened.map(drop).expect_err("damaged").kind, Kind::Corrupt);
}

#[test]
fn a_server_that_cannot_tell_says_so() {
    let data = tempfile::tempdir().expect("a folder");
    let audit = Audit::open(data.path(), Auditing::Required, Duration::from_secs(60)).expect("opens");
    audit.check().expect("it can");
    for n in 0..100 {
        audit.note(Record { status: Some(401), ..record(n) });
    }
    audit.note(record(1));
    audit.close();
    let mut told = Vec::new();
    verify(&data.path().join(FOLDER), None, |record| told.push(record.clone())).expect("whole");
    assert_eq!(told.first().map(|record| record.happened), Some(Happened::Started));
    assert_eq!(told.last().map(|record| record.happened), Some(Happened::Stopped));
    // Strangers fill no disk: ten of a second are told.
    assert_eq!(told.iter().filter(|record| record.status == Some(401)).count(), 10);
    Audit::default().check().expect("nothing is to be told");
}
