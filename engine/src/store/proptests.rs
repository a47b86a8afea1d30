//! The store against a plain map: any order of writes, publishes, checkpoints, merges and restarts; power cuts at any
//! moment; every call failing; every bit flipped.

use super::*;
use crate::bitmap::bsi;
use crate::catalog::{Metric, TagType, Unit};
use crate::segment::merge::{merge, number_view};
use crate::segment::{BlockKey, Form, Key, Part, SegmentWriter};
use crate::update::Change;
use crate::update::UpdateBatch;
use crate::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use std::collections::BTreeSet;

const FOLDER: &str = "/data";
const VALUES: [&str; 3] = ["", "a", "b"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    set: BTreeSet<String>,
    choice: Option<String>,
    flag: bool,
    number: Option<i64>,
    /// The bits of its numbers.
    vector: Option<[u32; 2]>,
}

type Users = BTreeMap<String, User>;

#[derive(Clone, Debug)]
enum Op {
    Clear,
    Add(usize),
    Remove(usize),
    Choose(Option<usize>),
    Flag(bool),
    Number(Option<i64>),
    Vector(Option<i8>),
    Touch,
}

fn op() -> impl Strategy<Value = Op> {
    let number = prop_oneof![4 => -5..6i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    prop_oneof![
        1 => Just(Op::Clear),
        3 => (0..3usize).prop_map(Op::Add),
        2 => (0..3usize).prop_map(Op::Remove),
        3 => proptest::option::of(0..3usize).prop_map(Op::Choose),
        2 => any::<bool>().prop_map(Op::Flag),
        3 => proptest::option::of(number).prop_map(Op::Number),
        3 => proptest::option::of(any::<i8>()).prop_map(Op::Vector),
        1 => Just(Op::Touch),
    ]
}

/// A batch: user number and what happens to it, in order.
fn batch() -> impl Strategy<Value = Vec<(u8, Op)>> {
    proptest::collection::vec((0..30u8, op()), 1..25)
}

fn vector(seed: i8) -> [f32; 2] {
    [f32::from(seed) / 3.0, -1.0]
}

fn catalog() -> (Catalog, [TagId; 5]) {
    let mut catalog = Catalog::default();
    let types =
        [("s", TagType::Set), ("e", TagType::Enum), ("f", TagType::Flag), ("n", TagType::Number(Unit::Integer))];
    let [set, choice, flag, number] = types.map(|(name, tag_type)| catalog.declare(name, tag_type).expect("good name"));
    let space = catalog.declare_space("v", 2, Metric::Cosine).expect("good name");
    (catalog, [set, choice, flag, number, space])
}

fn encode(ops: &[(u8, Op)]) -> UpdateBatch {
    let (_, [set, choice, flag, number, space]) = catalog();
    let mut batch = UpdateBatch::new();
    for (user, op) in ops {
        batch.begin_user(format!("user-{user}").as_bytes());
        match op {
            Op::Clear => batch.push(set, Change::Unset),
            Op::Add(value) => batch.push(set, Change::Add(VALUES[*value])),
            Op::Remove(value) => batch.push(set, Change::Remove(VALUES[*value])),
            Op::Choose(None) => batch.push(choice, Change::Unset),
            Op::Choose(Some(value)) => batch.push(choice, Change::Enum(VALUES[*value])),
            Op::Flag(value) => batch.push(flag, Change::Flag(*value)),
            Op::Number(None) => batch.push(number, Change::Unset),
            Op::Number(Some(value)) => batch.push(number, Change::Number(*value)),
            Op::Vector(None) => batch.push(space, Change::Unset),
            Op::Vector(Some(seed)) => batch.push_vector(space, &vector(*seed)),
            Op::Touch => {}
        }
    }
    batch
}

fn apply(users: &mut Users, ops: &[(u8, Op)]) {
    for (user, op) in ops {
        let user = users.entry(format!("user-{user}")).or_default();
        match op {
            Op::Clear => user.set.clear(),
            Op::Add(value) => {
                user.set.insert(VALUES[*value].to_owned());
            }
            Op::Remove(value) => {
                user.set.remove(VALUES[*value]);
            }
            Op::Choose(value) => user.choice = value.map(|value| VALUES[value].to_owned()),
            Op::Flag(value) => user.flag = *value,
            Op::Number(value) => user.number = *value,
            Op::Vector(seed) => user.vector = seed.map(|seed| vector(seed).map(f32::to_bits)),
            Op::Touch => {}
        }
    }
}

/// Everything a snapshot says, by merging each shard's layers to the bottom and reading that.
fn read(snapshot: &Snapshot) -> Result<Users, ReadError> {
    let (_, [set, choice, flag, number, space]) = catalog();
    let rules = OwnedRules::new(snapshot.catalog(), 0, std::iter::empty()).with_bottom(true);
    let mut users = Users::new();
    for shard in snapshot.shards() {
        let mut writer = SegmentWriter::in_memory();
        rules.apply(|rules| merge(shard.layers(), rules, &mut writer)).map_err(|error| match error {
            crate::error::MergeError::Read(error) => error,
            crate::error::MergeError::Write(error) => panic!("memory fails: {error}"),
        })?;
        let segment = Segment::from_memory(writer.finish_in_memory())?;
        let slots = |tag, part| -> Result<Vec<u32>, ReadError> {
            Ok(segment.posting(Key { tag, part })?.map(|posting| posting.bitmap.iter().collect()).unwrap_or_default())
        };
        let name = |slot| -> Result<String, ReadError> {
            let mut id = Vec::new();
            shard.user_id(slot, &mut id)?;
            Ok(String::from_utf8(id).expect("test ids are text"))
        };
        for slot in slots(TagId::UNIVERSE, Part::Exists)? {
            users.insert(name(slot)?, User::default());
        }
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("test values are text");
        for (part, _) in segment.parts(set).collect::<Vec<_>>() {
            let Part::Value(value) = part else { continue };
            for slot in slots(set, part)? {
                users.entry(name(slot)?).or_default().set.insert(text(value));
            }
        }
        for (part, _) in segment.parts(choice).collect::<Vec<_>>() {
            let Part::Value(value) = part else { continue };
            for slot in slots(choice, part)? {
                users.entry(name(slot)?).or_default().choice = Some(text(value));
            }
        }
        for slot in slots(flag, Part::Exists)? {
            users.entry(name(slot)?).or_default().flag = true;
        }
        if let Some(view) = number_view(&segment, number)? {
            for (slot, number) in bsi::decode(&view) {
                users.entry(name(slot)?).or_default().number = Some(number);
            }
        }
        // Few users: all are in one chunk.
        if let Some(block) = segment.block(space, BlockKey { form: Form::Full, chunk: 0 })? {
            for (place, slot) in slots(space, Part::Exists)?.into_iter().enumerate() {
                let (numbers, _) = block.row(place).as_chunks();
                let bits = [0, 1].map(|at| u32::from_le_bytes(numbers[at]));
                users.entry(name(slot)?).or_default().vector = Some(bits);
            }
        }
    }
    let Some(space) = snapshot.catalog().space("v").copied() else {
        // It was taken before the catalog was published.
        assert!(users.is_empty());
        return Ok(users);
    };
    for (id, user) in &users {
        let found = snapshot.vector(&space, id)?;
        let bits = found.map(|numbers| [0, 1].map(|at: usize| numbers[at].to_bits()));
        assert_eq!(bits, user.vector, "{id}, looked up in layers, not merged");
    }
    Ok(users)
}

fn open(vfs: &MemoryVfs) -> Result<Store, OpenError> {
    let options = Options { shard_count: 4, ..Options::default() };
    Store::open(Arc::new(vfs.clone()), Path::new(FOLDER), options)
}

fn fresh(vfs: &MemoryVfs) -> Store {
    let store = open(vfs).expect("open");
    store.put_catalog(catalog().0).expect("catalog");
    store
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Op)>),
    Publish,
    Checkpoint,
    Compact,
    CompactFully,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => batch().prop_map(Step::Write),
        3 => Just(Step::Publish),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Compact),
        1 => Just(Step::CompactFully),
        1 => Just(Step::Reopen),
    ]
}

fn take(store: Store, vfs: &MemoryVfs, step: &Step) -> Result<Store, OpenError> {
    match step {
        Step::Write(ops) => {
            let written = store.write(&encode(ops), None)?;
            store.sync(written.lsn)?;
        }
        Step::Publish => {
            store.publish()?;
        }
        Step::Checkpoint => {
            store.checkpoint()?;
        }
        Step::Compact => while store.compact()?.is_some() {},
        Step::CompactFully => {
            while store.compact_fully()?.is_some() {}
            let statistics = store.statistics();
            assert!(statistics.segments <= statistics.shards, "{statistics:?}");
        }
        Step::Reopen => {
            drop(store);
            return open(vfs);
        }
    }
    Ok(store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_steps_gives_what_a_map_gives(steps in proptest::collection::vec(step(), 1..40)) {
        let vfs = MemoryVfs::default();
        let mut store = fresh(&vfs);
        let mut model = Users::new();
        for step in &steps {
            if let Step::Write(ops) = step {
                apply(&mut model, ops);
            }
            store = take(store, &vfs, step).expect("nothing fails");
        }
        let before = store.snapshot();
        store.publish().expect("publish");
        prop_assert_eq!(read(&store.snapshot()).expect("good"), model);
        prop_assert!(before.epoch() <= store.snapshot().epoch());
        drop(store);
        let report = check(&vfs, Path::new(FOLDER), |_| {});
        prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
    }

    #[test]
    fn a_snapshot_never_changes(before in batch(), after in proptest::collection::vec(step(), 1..20)) {
        let vfs = MemoryVfs::default();
        let mut store = fresh(&vfs);
        store.write(&encode(&before), None).expect("write");
        store.publish().expect("publish");
        let held = store.snapshot();
        let mut model = Users::new();
        apply(&mut model, &before);
        for step in after.iter().filter(|step| !matches!(step, Step::Reopen)) {
            store = take(store, &vfs, step).expect("nothing fails");
        }
        store.checkpoint().expect("checkpoint");
        while store.compact().expect("compact").is_some() {}
        prop_assert_eq!(read(&held).expect("good"), model);
    }

    #[test]
    fn a_power_cut_loses_nothing_acknowledged(
        steps in proptest::collection::vec(step(), 1..30),
        fail_after in 1..400u64,
        seeds in any::<[u64; 2]>(),
        interrupt_recovery in 0..40u64,
    ) {
        let vfs = MemoryVfs::default();
        let mut store = Some(fresh(&vfs));
        // The state after each write; what is acknowledged so far, and what may or may not have happened.
        let mut acknowledged = Users::new();
        let mut possible = vec![Users::new()];
        vfs.fail_at(fail_after, true, std::io::ErrorKind::StorageFull);
        for step in &steps {
            let before = acknowledged.clone();
            let mut after = before.clone();
            if let Step::Write(ops) = step {
                apply(&mut after, ops);
            }
            possible = vec![before, after.clone()];
            match take(store.take().expect("open"), &vfs, step) {
                Ok(next) => {
                    acknowledged = after.clone();
                    possible = vec![after];
                    store = Some(next);
                }
                Err(_) => break,
            }
        }
        drop(store);
        vfs.power_cut(seeds[0]);
        // The power goes again while the store recovers.
        vfs.fail_at(interrupt_recovery + 1, true, std::io::ErrorKind::Other);
        let interrupted = open(&vfs).and_then(|store| store.checkpoint().map_err(OpenError::from));
        drop(interrupted);
        vfs.power_cut(seeds[1]);
        let store = open(&vfs).expect("recovers unaided");
        let found = read(&store.snapshot()).expect("good");
        prop_assert!(possible.contains(&found), "found {found:?}\nexpected one of {possible:?}");
        store.checkpoint().expect("checkpoint");
        drop(store);
        let report = check(&vfs, Path::new(FOLDER), |_| {});
        prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
        let again = read(&open(&vfs).expect("open").snapshot()).expect("good");
        prop_assert_eq!(again, found);
    }
}

fn some_steps() -> Vec<Step> {
    let ops = |from: u8| {
        (0..20u8)
            .map(|n| {
                let op = match (n + from) % 6 {
                    0 => Op::Add(usize::from(n % 3)),
                    1 => Op::Choose(Some(usize::from(n % 3))),
                    2 => Op::Number(Some(i64::from(n) * 100 - 700)),
                    3 => Op::Flag(n % 2 == 0),
                    4 => Op::Vector((n % 4 > 0).then_some(n as i8)),
                    _ => Op::Remove(usize::from(n % 3)),
                };
                ((n * 7 + from) % 30, op)
            })
            .collect::<Vec<_>>()
    };
    let mut steps = Vec::new();
    for round in 0..4 {
        steps.extend([Step::Write(ops(round)), Step::Publish, Step::Write(ops(round + 9)), Step::Checkpoint]);
    }
    steps.extend([Step::Compact, Step::Write(ops(3)), Step::Publish]);
    steps
}

fn run(vfs: &MemoryVfs, steps: &[Step]) -> (Users, Option<Store>) {
    let mut acknowledged = Users::new();
    let Ok(mut store) = open(vfs) else { return (acknowledged, None) };
    if store.put_catalog(catalog().0).is_err() {
        return (acknowledged, None);
    }
    for step in steps {
        match take(store, vfs, step) {
            Ok(next) => store = next,
            Err(_) => return (acknowledged, None),
        }
        if let Step::Write(ops) = step {
            apply(&mut acknowledged, ops);
        }
    }
    (acknowledged, Some(store))
}

#[test]
fn whichever_call_fails_nothing_acknowledged_is_lost() {
    let steps = some_steps();
    let calls = {
        let vfs = MemoryVfs::default();
        run(&vfs, &steps);
        vfs.calls()
    };
    assert!(calls > 100, "{calls} calls");
    for call in 1..=calls {
        for lasting in [false, true] {
            let vfs = MemoryVfs::default();
            vfs.fail_at(call, lasting, std::io::ErrorKind::StorageFull);
            let (acknowledged, store) = run(&vfs, &steps);
            drop(store);
            vfs.repair();
            let store = open(&vfs).unwrap_or_else(|error| panic!("call {call}: {error}"));
            if store.snapshot().catalog().tags().len() == 0 {
                assert!(acknowledged.is_empty());
                continue;
            }
            let found = read(&store.snapshot()).expect("good");
            // A failed write may have reached the log; then it happened whole.
            let fits = found == acknowledged
                || steps.iter().any(|step| {
                    let mut more = acknowledged.clone();
                    if let Step::Write(ops) = step {
                        apply(&mut more, ops);
                    }
                    more == found
                });
            assert!(fits, "call {call}: found {found:?}, acknowledged {acknowledged:?}");
        }
    }
}

#[test]
fn a_failed_write_makes_the_store_read_only_and_queries_go_on() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    let ops = [(1, Op::Flag(true))];
    store.write(&encode(&ops), None).expect("write");
    store.publish().expect("publish");
    vfs.fail_at(1, true, std::io::ErrorKind::StorageFull);
    let error = store.write(&encode(&ops), None).expect_err("disk full").to_string();
    assert!(error.contains("read-only") && error.contains("append to the log"), "{error}");
    vfs.repair();
    assert!(store.write(&encode(&ops), None).is_err(), "writes stay refused");
    assert!(store.checkpoint().is_err() && store.put_catalog(Catalog::default()).is_err());
    assert_eq!(read(&store.snapshot()).expect("good").len(), 1);
}

#[test]
fn any_flipped_bit_is_found_or_harmless() {
    let vfs = MemoryVfs::default();
    let (expected, store) = run(&vfs, &some_steps());
    drop(store.expect("nothing fails"));
    let mut found_damage = 0;
    for (path, len) in vfs.files() {
        for bit in (3..len * 8).step_by(1 + len * 8 / 60) {
            vfs.flip_bit(&path, bit);
            let report = check(&vfs, Path::new(FOLDER), |_| {});
            found_damage += u32::from(!report.problems.is_empty());
            if let Ok(store) = open(&vfs) {
                // A damaged end of the newest log file is what a crash leaves; everything else is named.
                if let Ok(found) = read(&store.snapshot()) {
                    let log = path.extension().is_some_and(|extension| extension == "log");
                    assert!(found == expected || log, "{} bit {bit}", path.display());
                }
                assert!(!report.problems.is_empty() || read(&store.snapshot()).is_ok());
            }
            vfs.flip_bit(&path, bit);
            // What opening added (a new log file) is the same each time; the next check ignores it.
        }
    }
    assert!(found_damage > 100, "{found_damage} of the flips were found");
}

#[test]
fn two_stores_on_one_directory_are_refused() {
    let vfs = MemoryVfs::default();
    let _first = open(&vfs).expect("open");
    let error = open(&vfs).expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

#[test]
fn a_checkpoint_costs_what_changed() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    let (_, [set, ..]) = catalog();
    let mut batch = UpdateBatch::new();
    for user in 0..60_000 {
        batch.begin_user(format!("user-{user}").as_bytes());
        batch.push(set, Change::Add(["a", "b", "c", "d"][user % 4]));
    }
    store.write(&batch, None).expect("write");
    let full = store.checkpoint().expect("checkpoint").bytes_written;
    assert_eq!(store.checkpoint().expect("checkpoint"), StepReport::default(), "nothing changed, nothing is written");
    store.write(&encode(&[(1, Op::Flag(true))]), None).expect("write");
    let small = store.checkpoint().expect("checkpoint").bytes_written;
    assert!(small * 50 < full, "{small} bytes after one change, {full} in full");
}

#[test]
fn a_step_happens_once_also_across_restarts() {
    let vfs = MemoryVfs::default();
    let mut store = fresh(&vfs);
    let once = Once { key: 7, digest: 1, now_seconds: 1_000, remember_seconds: 100, note: 31 };
    let on = encode(&[(1, Op::Flag(true))]);
    let off = encode(&[(1, Op::Flag(false))]);
    assert!(!store.write(&on, Some(once)).expect("write").repeated);
    for round in 0..3 {
        store.write(&off, None).expect("write");
        let again = store.write(&on, Some(Once { note: 32, ..once })).expect("write");
        assert!(again.repeated && again.note == 31, "round {round}: {again:?}");
        let other = Once { digest: 2, ..once };
        assert!(matches!(store.write(&on, Some(other)), Err(WriteError::KeyReused)));
        store.publish().expect("publish");
        assert!(!read(&store.snapshot()).expect("good")["user-1"].flag);
        if round == 1 {
            store.checkpoint().expect("checkpoint");
        }
        drop(store);
        store = open(&vfs).expect("open");
    }
    let later = Once { now_seconds: 1_100, ..once };
    assert!(!store.write(&on, Some(later)).expect("write").repeated, "the key has expired");
}

#[test]
fn what_was_dropped_leaves_the_disk_though_nothing_is_written() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    let (mut catalog, [set, ..]) = catalog();
    let space = catalog.declare_space("wide", 64, Metric::Dot).expect("a good space");
    store.put_catalog(catalog.clone()).expect("taken");
    let mut batch = UpdateBatch::new();
    for user in 0..2_000_u32 {
        batch.begin_user(format!("user-{user}").as_bytes());
        batch.push(set, Change::Add(["a", "b"][user as usize % 2]));
        batch.push_vector(space, &[1.0 + user as f32; 64]);
    }
    store.write(&batch, None).expect("write");
    store.checkpoint().expect("checkpoint");
    while store.compact().expect("compact").is_some() {}
    let before = store.statistics();
    assert_eq!(store.compact().expect("compact"), None, "nothing is due");
    catalog.drop_space("wide");
    store.put_catalog(catalog).expect("taken");
    store.publish().expect("publish");
    while store.compact().expect("compact").is_some() {}
    let after = store.statistics();
    assert_eq!(after.segments, before.segments);
    assert!(after.segment_bytes * 10 < before.segment_bytes, "{before:?} {after:?}");
    assert_eq!(read(&store.snapshot()).expect("good").len(), 2_000);
    store.checkpoint().expect("checkpoint");
    drop(store);
    assert_eq!(read(&open(&vfs).expect("open").snapshot()).expect("good").len(), 2_000);
}

#[test]
fn a_dropped_tag_of_many_values_leaves_the_disk() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    let (mut catalog, [set, ..]) = catalog();
    let set_name = catalog.name_of(set).expect("declared").to_owned();
    // A value has one user: what the directory holds of it is more than its posting.
    let mut batch = UpdateBatch::new();
    for user in 0..20_000_u32 {
        batch.begin_user(format!("user-{user}").as_bytes());
        batch.push(set, Change::Add(&format!("device-{user:012}")));
    }
    store.write(&batch, None).expect("write");
    store.checkpoint().expect("checkpoint");
    while store.compact().expect("compact").is_some() {}
    let before = store.statistics();
    catalog.drop_tag(&set_name);
    store.put_catalog(catalog).expect("taken");
    store.publish().expect("publish");
    while store.compact().expect("compact").is_some() {}
    let after = store.statistics();
    assert!(after.segment_bytes * 20 < before.segment_bytes, "{before:?} {after:?}");
    assert_eq!(read(&store.snapshot()).expect("good").len(), 20_000);
}

#[test]
fn a_batch_is_refused_once_what_it_is_about_was_dropped() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    store.publish().expect("publish");
    let made_by = store.snapshot().shared_catalog();
    let once = Once { key: 7, digest: 1, now_seconds: 1_000, remember_seconds: 100, note: 31 };
    let on = encode(&[(1, Op::Flag(true))]);
    let flag = made_by.tags().find(|(_, tag)| tag.tag_type == TagType::Flag).map(|(name, _)| name.to_owned());
    let flag = flag.expect("a flag");
    let id = made_by.tag(&flag).expect("declared").id;
    // Another catalog that still has it does not matter.
    let mut more = Catalog::clone(&made_by);
    more.declare("more", TagType::Flag).expect("a good name");
    store.put_catalog(more.clone()).expect("taken");
    assert!(!store.write_declared(&on, Some(once), &made_by).expect("write").repeated);
    assert!(store.write_declared(&on, Some(once), &made_by).expect("write").repeated);
    assert!(
        store.declares(id) && store.remembers(7, 1_099) && !store.remembers(7, 1_100) && !store.remembers(8, 1_000)
    );

    more.drop_tag(&flag);
    more.declare(&flag, TagType::Flag).expect("a good name");
    store.put_catalog(more).expect("taken");
    let other = Once { key: 8, ..once };
    for once in [Some(other), Some(once), None] {
        let refused = store.write_declared(&on, once, &made_by).expect_err("dropped");
        assert!(matches!(refused, WriteError::Dropped { id: told } if told == id), "{refused}");
    }
    assert!(!store.declares(id) && !store.remembers(8, 1_000), "the step can come again");
    store.publish().expect("publish");
    let made_by = store.snapshot().shared_catalog();
    assert!(!store.write_declared(&on, Some(other), &made_by).expect("nothing was dropped since").repeated);
}

#[test]
fn a_source_goes_on_where_the_last_checkpoint_left_it() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    store.write_replayable(&encode(&[(1, Op::Flag(true))]), "job", 10).expect("write");
    store.checkpoint().expect("checkpoint");
    store.write_replayable(&encode(&[(2, Op::Flag(true))]), "job", 20).expect("write");
    store.publish().expect("publish");
    assert_eq!(read(&store.snapshot()).expect("good").len(), 2);
    drop(store);
    let store = open(&vfs).expect("open");
    assert_eq!(store.source_offset("job"), Some(10));
    assert_eq!(read(&store.snapshot()).expect("good").len(), 1);
    store.forget_source("job");
    store.checkpoint().expect("checkpoint");
    drop(store);
    assert_eq!(open(&vfs).expect("open").source_offset("job"), None);
}

#[test]
fn replaced_lists_go_when_everything_is_merged() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    let list = |id: &str| Audience {
        definition: Definition::Uploaded { list_id: id.to_owned(), user_count: 1 },
        description: String::new(),
        changed_at: 0,
    };
    for id in ["one", "two"] {
        let mut batch = UpdateBatch::new();
        batch.begin_user(b"listed");
        batch.push(TagId::UPLOADS, Change::Add(id));
        store.write(&batch, None).expect("write");
        store.put_audience("audience", list(id)).expect("put");
        store.checkpoint().expect("checkpoint");
    }
    while store.compact().expect("compact").is_some() {}
    let snapshot = store.snapshot();
    assert_eq!(snapshot.audiences()["audience"], list("two"));
    let stored: Vec<_> = snapshot
        .shards()
        .iter()
        .flat_map(|shard| shard.layers())
        .flat_map(|segment| segment.parts(TagId::UPLOADS))
        .collect();
    assert_eq!(stored, [(Part::Value(&b"two"[..]), 1)]);
    assert!(read(&snapshot).expect("good").is_empty(), "being listed does not make a user known");
    assert!(store.delete_audience("audience").expect("delete") && !store.delete_audience("audience").expect("gone"));
}

#[test]
fn readers_go_on_while_others_write() {
    let vfs = MemoryVfs::default();
    let store = fresh(&vfs);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60u8 {
                // All users change together, so a consistent view sees them equal.
                let ops: Vec<_> = (0..30).map(|user| (user, Op::Number(Some(round.into())))).collect();
                store.write(&encode(&ops), None).expect("write");
                match round % 5 {
                    0 => drop(store.checkpoint().expect("checkpoint")),
                    1 => drop(store.compact().expect("compact")),
                    _ => drop(store.publish().expect("publish")),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let users = read(&store.snapshot()).expect("good");
                let numbers: BTreeSet<_> = users.values().map(|user| user.number).collect();
                assert!(numbers.len() <= 1 && (users.is_empty() || users.len() == 30), "{numbers:?}");
            }
        });
    });
}
