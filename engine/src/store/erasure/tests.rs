use super::*;
use crate::audience::ops::{self, QueryContext};
use crate::audience::predicate::Predicate;
use crate::catalog::{Activity, Catalog, Column, ColumnType, Fact, Metric, TagType, Unit, Zone};
use crate::clock::ManualClock;
use crate::ids::TagId;
use crate::store::{FactRow, FactTables, Options, PurgeError, RowTap, Snapshot, TableError, TapMark, check};
use crate::update::{Change, EventHead, UpdateBatch, Value};
use crate::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FOLDER: &str = "/data";
const NOW: i64 = 1_700_000_000_000_000;

/// A table that keeps nothing.
#[derive(Debug)]
struct NoTables;

impl FactTables for NoTables {
    fn stage(&self, _: &str, _: &Fact, _: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        Ok(rows.iter().flat_map(|row| row.user_id.bytes()).collect())
    }

    fn commit(&self, _: &str, _: &Fact, epoch: u64, _: &[u8]) -> Result<u64, TableError> {
        Ok(epoch)
    }

    fn remove(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn erase(&self, _: &str, _: &Fact, _: &[RoaringBitmap], _: &Arc<AtomicBool>) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_history(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_staged(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.declare("interest", TagType::Set).expect("a good name");
    catalog.declare("city", TagType::Enum).expect("a good name");
    catalog.declare("member", TagType::Flag).expect("a good name");
    catalog.declare("spend", TagType::Number(Unit::Integer)).expect("a good name");
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    let fact = Fact {
        id: TagId(0),
        columns: vec![column("category", ColumnType::String), column("amount", ColumnType::Integer)],
        activity: Activity { dimensions: vec![0], measures: vec![1] },
        retention_days: None,
        deduplicate_days: Some(30),
        zone: Zone::default(),
    };
    catalog.declare_fact("purchase", fact).expect("a good fact");
    catalog.declare_space("taste", 2, Metric::Dot).expect("a good name");
    catalog
}

fn open(vfs: &MemoryVfs) -> Store {
    open_with(vfs, None)
}

fn open_with(vfs: &MemoryVfs, tap: Option<Arc<dyn RowTap>>) -> Store {
    let clock = Arc::new(ManualClock::at(NOW));
    let options = Options { shard_count: 2, clock, tables: Some(Arc::new(NoTables)), tap, ..Options::default() };
    Store::open(Arc::new(vfs.clone()), Path::new(FOLDER), options).expect("opens")
}

fn new_store(vfs: &MemoryVfs) -> Store {
    let store = open(vfs);
    store.put_catalog(catalog()).expect("taken");
    store
}

fn id(number: u64) -> String {
    format!("somebody-of-the-number-{number:03}-whom-no-other-bytes-are-like")
}

/// Something of everything.
fn say(store: &Store, batch: &mut UpdateBatch, number: u64) {
    let snapshot = store.snapshot();
    let catalog = snapshot.catalog();
    let tag = |name: &str| catalog.tags().find(|(known, _)| *known == name).expect("declared").1.id;
    batch.begin_user(id(number).as_bytes());
    batch.push(tag("interest"), Change::Add("running"));
    batch.push(tag("interest"), Change::Remove("tennis"));
    batch.push(tag("city"), Change::Enum("ulm"));
    batch.push(tag("member"), Change::Flag(number.is_multiple_of(2)));
    batch.push(tag("spend"), Change::Number(number as i64));
    batch.push(TagId::UPLOADS, Change::Add("list"));
    batch.push_vector(catalog.space("taste").expect("declared").id, &[number as f32, 1.0]);
    let event_id = format!("e{number}");
    let head = EventHead { ts: NOW - number as i64 * 86_400_000_000, event_id: &event_id, ..EventHead::default() };
    let fact = catalog.fact("purchase").expect("declared").id;
    batch.push_event(fact, &head, &[Value::Text("shoes"), Value::Integer(3)]);
}

fn write(store: &Store, numbers: impl IntoIterator<Item = u64>) {
    store.publish().expect("published");
    let mut batch = UpdateBatch::new();
    numbers.into_iter().for_each(|number| say(store, &mut batch, number));
    store.write(&batch, None).expect("written");
}

fn erase(store: &Store, name: u128, numbers: &[u64]) -> Erasure {
    let ids: Vec<String> = numbers.iter().map(|number| id(*number)).collect();
    let ids: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    store.erase(&ids, NewErasure { id: name, digest: 1, key: 77 }).expect("erased")
}

/// Who is there, by number.
fn users(snapshot: &Snapshot) -> Vec<u64> {
    let slots = ops::slots(snapshot, &Predicate::All, &QueryContext::default()).expect("answered");
    let mut found = Vec::new();
    for (shard, slots) in snapshot.shards().iter().zip(slots) {
        for slot in slots {
            let mut id = Vec::new();
            assert!(shard.user_id(slot, &mut id).expect("good"), "who is counted has an id");
            assert_eq!(shard.slot_of(&id).expect("good"), Some(slot));
            found.push(std::str::from_utf8(&id[23..26]).expect("text").parse().expect("a number"));
        }
    }
    found.sort_unstable();
    found
}

/// The files that have an id in them.
fn files_with(vfs: &MemoryVfs, number: u64) -> Vec<PathBuf> {
    let id = id(number);
    let has = |path: &Path| vfs.read(path).expect("reads").windows(id.len()).any(|bytes| bytes == id.as_bytes());
    vfs.files().into_iter().map(|(path, _)| path).filter(|path| has(path)).collect()
}

fn assert_sound(vfs: &MemoryVfs) {
    let report = check(vfs, Path::new(FOLDER), |_| {});
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn hashes_are_those_of_the_paper() {
    let key = u128::from_le_bytes(std::array::from_fn(|at| at as u8));
    let hash = |len: u8| {
        let bytes: Vec<u8> = (0..len).collect();
        keyed_hash(key, &bytes).to_le_bytes().map(|byte| format!("{byte:02x}")).concat()
    };
    assert_eq!(hash(0), "a3817f04ba25a8e66df67214c7550293");
    assert_eq!(hash(1), "da87c1d86b99af44347659119b22fc45");
}

#[test]
fn who_is_erased_is_gone_at_once_and_later_from_every_file() {
    let vfs = MemoryVfs::default();
    let store = new_store(&vfs);
    write(&store, 0..8);
    store.checkpoint().expect("saved");
    write(&store, 4..12);
    store.checkpoint().expect("saved");
    write(&store, 10..16);
    // 3 is in the oldest segment, 5 in both, 11 in a segment and in memory, 14 in memory, 99 nowhere.
    let erasure = erase(&store, 7, &[3, 5, 11, 14, 99]);
    assert_eq!(erasure, Erasure { id: 7, at: NOW, users: 5, clean_at: None });
    let left = vec![0, 1, 2, 4, 6, 7, 8, 9, 10, 12, 13, 15];
    assert_eq!(users(&store.snapshot()), left);
    assert!(!files_with(&vfs, 3).is_empty() && !files_with(&vfs, 14).is_empty());
    assert!(files_with(&vfs, 99).is_empty(), "an id that is not known is written nowhere");
    drop(store);

    let store = open(&vfs);
    assert_eq!(users(&store.snapshot()), left, "it survives a start");
    assert_eq!(store.erasures(), [erasure]);
    write(&store, [5, 99, 16]);
    store.publish().expect("published");
    assert_eq!(users(&store.snapshot()).last(), Some(&16));
    assert_eq!(store.statistics().suppressed, 2);
    store.checkpoint().expect("saved");
    assert_sound(&vfs);

    let report = store.purge(&Arc::default()).expect("purged").expect("there was something to do");
    assert_eq!((report.erasures, report.users), (1, 4));
    assert_eq!(store.erasure(7).expect("known").clean_at, Some(NOW));
    assert_eq!((store.unclean_since(), store.purge(&Arc::default()).expect("nothing to do")), (None, None));
    for number in [3, 5, 11, 14, 99] {
        assert_eq!(files_with(&vfs, number), Vec::<PathBuf>::new());
    }
    assert!(!files_with(&vfs, 4).is_empty(), "others are still there");
    assert!(store.snapshot().shows_everybody());
    let with_16: Vec<u64> = left.iter().copied().chain([16]).collect();
    assert_eq!(users(&store.snapshot()), with_16);
    drop(store);
    assert_sound(&vfs);

    let store = open(&vfs);
    assert_eq!(users(&store.snapshot()), with_16);
    write(&store, [5]);
    store.publish().expect("published");
    assert_eq!(users(&store.snapshot()), with_16, "late updates are passed over for good");
}

#[test]
fn who_is_admitted_again_has_nothing_of_before() {
    let vfs = MemoryVfs::default();
    let store = new_store(&vfs);
    write(&store, 0..4);
    store.checkpoint().expect("saved");
    erase(&store, 1, &[2]);
    assert_eq!(store.admit(&[id(2).as_bytes(), id(3).as_bytes()]).expect("admitted"), 1);
    let mut batch = UpdateBatch::new();
    batch.begin_user(id(2).as_bytes());
    store.write(&batch, None).expect("written");
    store.publish().expect("published");
    let told = |store: &Store| ops::user_tags(&store.snapshot(), &id(2)).expect("answered").map(|tags| tags.len());
    let has_vector = |store: &Store| {
        let snapshot = store.snapshot();
        let space = *snapshot.catalog().space("taste").expect("declared");
        snapshot.vector(&space, &id(2)).expect("good").is_some()
    };
    assert_eq!(users(&store.snapshot()), [0, 1, 2, 3]);
    let blank = (told(&store), has_vector(&store));
    assert_eq!(blank, (Some(1), false), "but the flag, which everybody has");
    store.checkpoint().expect("saved");
    drop(store);
    assert_sound(&vfs);
    let store = open(&vfs);
    store.purge(&Arc::default()).expect("purged").expect("something to do");
    assert_eq!((told(&store), has_vector(&store)), blank);
    assert_eq!(users(&store.snapshot()), [0, 1, 2, 3]);
    assert!(!files_with(&vfs, 2).is_empty());
    drop(store);
    assert_sound(&vfs);
}

/// A batch that was not logged gave slots; after a crash others have them, and the log's record of an erasure must not mean those.
#[test]
fn a_replay_erases_whom_it_meant() {
    let vfs = MemoryVfs::default();
    let store = new_store(&vfs);
    let mut batch = UpdateBatch::new();
    (0..20).for_each(|number| batch.begin_user(id(number).as_bytes()));
    store.write_replayable(&batch, "job", 1).expect("written");
    write(&store, 20..40);
    erase(&store, 1, &[25, 30, 7]);
    drop(store);
    let store = open(&vfs);
    let expected: Vec<u64> = (20..40).filter(|number| ![25, 30].contains(number)).collect();
    assert_eq!(users(&store.snapshot()), expected);
    store.write_replayable(&batch, "job", 1).expect("written");
    store.publish().expect("published");
    let expected: Vec<u64> = (0..40).filter(|number| ![7, 25, 30].contains(number)).collect();
    assert_eq!(users(&store.snapshot()), expected);
}

/// A merge of parts leaves the id out before a checkpoint covers the record that erased it.
#[test]
fn a_replay_erases_whom_a_merge_has_forgotten() {
    let vfs = MemoryVfs::default();
    let store = new_store(&vfs);
    for number in 0..6 {
        write(&store, [number]);
        store.checkpoint().expect("saved");
    }
    // What is written last is in the log, and comes to another slot when the merge has forgotten the id.
    write(&store, [0]);
    erase(&store, 1, &[0, 1]);
    while store.compact().expect("merged").is_some() {}
    drop(store);
    let store = open(&vfs);
    assert_eq!(users(&store.snapshot()), [2, 3, 4, 5]);
    write(&store, [0, 1]);
    assert_eq!(users(&store.snapshot()), [2, 3, 4, 5]);
    store.purge(&Arc::default()).expect("purged").expect("something to do");
    assert_eq!(users(&store.snapshot()), [2, 3, 4, 5]);
}

#[test]
fn what_a_backup_does_not_know_is_erased_again() {
    let vfs = MemoryVfs::default();
    let store = new_store(&vfs);
    write(&store, 0..5);
    erase(&store, 1, &[0]);
    store.checkpoint().expect("saved");
    let named = |vfs: &MemoryVfs| {
        let files = vfs.files().into_iter().map(|(path, _)| path);
        { files }.rfind(|path| path.extension().is_some_and(|kind| kind == "erased")).expect("a file")
    };
    // Another state of the same directory, and one of another.
    let newer = Erasures::read(&vfs, &named(&vfs)).expect("good");
    let mut later = newer.clone();
    later.suppressed.extend([2, 9].map(|number| keyed_hash(newer.key, id(number).as_bytes())));
    // One who was erased there, too, and came back since.
    later.admitted.insert(keyed_hash(newer.key, id(4).as_bytes()));
    later.write(&vfs, Path::new("/later")).expect("written");
    let asked = NewErasure { id: 2, digest: 0, key: 5 };
    let erasure = store.erase_again(Path::new("/later"), asked).expect("erased");
    assert_eq!((erasure.users, users(&store.snapshot())), (3, vec![1, 3]));
    write(&store, [2, 4, 9, 10]);
    drop(store);
    let store = open(&vfs);
    assert_eq!(users(&store.snapshot()), [1, 3, 4, 10]);
    // What came since is not erased by the same file.
    let erasure = store.erase_again(Path::new("/later"), NewErasure { id: 3, ..asked }).expect("erased");
    assert_eq!((erasure.users, users(&store.snapshot())), (0, vec![1, 3, 4, 10]));
    // One came back twice there, and another was let in.
    let [two, four] = [2, 4].map(|number| keyed_hash(newer.key, id(number).as_bytes()));
    later.more.insert(four, 2);
    later.suppressed.remove(&two);
    later.admitted.insert(two);
    later.write(&vfs, Path::new("/latest")).expect("written");
    let erasure = store.erase_again(Path::new("/latest"), NewErasure { id: 4, ..asked }).expect("erased");
    assert_eq!((erasure.users, users(&store.snapshot())), (1, vec![1, 3, 10]));
    write(&store, [2, 4, 9]);
    drop(store);
    let store = open(&vfs);
    assert_eq!(users(&store.snapshot()), [1, 2, 3, 4, 10]);
    later.key += 1;
    later.write(&vfs, Path::new("/other")).expect("written");
    assert!(matches!(store.erase_again(Path::new("/other"), asked), Err(WriteError::OtherErasures)));
}

/// Lets go of what it had at a mark when it is told to.
#[derive(Debug, Default)]
struct Slow {
    marks: AtomicU64,
    let_go: AtomicU64,
}

impl RowTap for Slow {
    fn take(&self, _: &Snapshot) -> std::io::Result<()> {
        Ok(())
    }

    fn mark(&self, _: &Snapshot) -> std::io::Result<TapMark> {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(TapMark([(0, mark)].into()))
    }

    fn let_go(&self, mark: &TapMark) -> std::io::Result<()> {
        let is_gone = mark.0[&0] <= self.let_go.load(Ordering::Relaxed);
        if is_gone { Ok(()) } else { Err(std::io::Error::other("not delivered")) }
    }
}

#[test]
fn an_erasure_waits_for_what_was_taken_before_it_and_for_nothing_later() {
    let tap = Arc::new(Slow::default());
    let store = open_with(&MemoryVfs::default(), Some(tap.clone()));
    store.put_catalog(catalog()).expect("taken");
    write(&store, 0..6);
    let purge = || store.purge(&Arc::default());
    let clean = || store.erasures().iter().map(|erasure| erasure.clean_at.is_some()).collect::<Vec<_>>();
    erase(&store, 1, &[0]);
    assert!(matches!(purge(), Err(PurgeError::Waits(_))));
    assert_eq!((store.purges_due(), clean()), ((None, true), vec![false]));
    erase(&store, 2, &[1]);
    assert!(store.purges_due().0.is_some());
    assert!(matches!(purge(), Err(PurgeError::Waits(_))));
    assert!(matches!(store.end_purges(), Err(PurgeError::Waits(_))));
    assert_eq!(tap.marks.load(Ordering::Relaxed), 2, "what waits is not marked again");
    tap.let_go.store(1, Ordering::Relaxed);
    assert!(matches!(store.end_purges(), Err(PurgeError::Waits(_))));
    assert_eq!((store.purges_due(), clean()), ((None, true), vec![true, false]));
    erase(&store, 3, &[2]);
    tap.let_go.store(2, Ordering::Relaxed);
    assert_eq!(store.end_purges().expect("nothing waits"), 1);
    assert_eq!(clean(), [true, true, false]);
    tap.let_go.store(3, Ordering::Relaxed);
    assert_eq!(purge().expect("purged").expect("something to do").erasures, 1);
    assert_eq!((clean(), users(&store.snapshot())), (vec![true; 3], vec![3, 4, 5]));
}

#[test]
fn a_purge_that_is_stopped_is_begun_again() {
    let store = new_store(&MemoryVfs::default());
    write(&store, 0..6);
    erase(&store, 1, &[0]);
    let stop = Arc::new(AtomicBool::new(true));
    assert!(matches!(store.purge(&stop), Err(PurgeError::Stopped)));
    assert!(store.unclean_since().is_some() && store.purges_due().0.is_some());
    assert_eq!(store.purge(&Arc::default()).expect("purged").map(|report| report.erasures), Some(1));
}

#[test]
fn a_name_stands_for_one_erasure() {
    let store = new_store(&MemoryVfs::default());
    let first = erase(&store, 5, &[1]);
    assert_eq!(erase(&store, 5, &[1]), first);
    let other = store.erase(&[b"x"], NewErasure { id: 5, digest: 2, key: 1 });
    assert!(matches!(other, Err(WriteError::KeyReused)), "{other:?}");
    assert_eq!(store.erasures(), [first]);
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u64>),
    Erase(Vec<u64>),
    Admit(u64),
    Publish,
    Checkpoint,
    Compact,
    Purge,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = || proptest::collection::vec(0..24u64, 1..6);
    prop_oneof![
        5 => numbers().prop_map(Step::Write),
        2 => numbers().prop_map(Step::Erase),
        1 => (0..24u64).prop_map(Step::Admit),
        1 => Just(Step::Publish),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        2 => Just(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn erasures_are_as_a_set_says(steps in proptest::collection::vec(step(), 1..30)) {
        let vfs = MemoryVfs::default();
        let mut store = new_store(&vfs);
        // Whether each is suppressed, of those that were ever spoken of.
        let mut known: BTreeMap<u64, bool> = BTreeMap::new();
        let mut purged: BTreeSet<u64> = BTreeSet::new();
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(numbers) => {
                    write(&store, numbers.clone());
                    for number in numbers {
                        if !*known.entry(number).or_insert(false) {
                            purged.remove(&number);
                            known.insert(number, false);
                        }
                    }
                }
                Step::Erase(numbers) => {
                    erase(&store, name as u128, &numbers);
                    known.extend(numbers.into_iter().map(|number| (number, true)));
                }
                Step::Admit(number) => {
                    let admitted = store.admit(&[id(number).as_bytes()]).expect("admitted");
                    let was_suppressed = known.get(&number) == Some(&true);
                    prop_assert_eq!(admitted, u64::from(was_suppressed));
                    if was_suppressed {
                        known.remove(&number);
                    }
                }
                Step::Publish => drop(store.publish().expect("published")),
                Step::Checkpoint => drop(store.checkpoint().expect("saved")),
                Step::Compact => while store.compact().expect("merged").is_some() {},
                Step::Purge => {
                    store.purge(&Arc::default()).expect("purged");
                    purged = (0..24).filter(|number| known.get(number) != Some(&false)).collect();
                }
                Step::Reopen => {
                    drop(store);
                    assert_sound(&vfs);
                    store = open(&vfs);
                }
            }
            store.publish().expect("published");
            let expected: Vec<u64> = known.iter().filter(|(_, gone)| !**gone).map(|(number, _)| *number).collect();
            prop_assert_eq!(users(&store.snapshot()), expected);
            for number in &purged {
                prop_assert_eq!(files_with(&vfs, *number), Vec::<PathBuf>::new());
            }
        }
    }
}
