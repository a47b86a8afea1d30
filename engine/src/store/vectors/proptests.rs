//! Vectors pushed, changed and taken away, through layers, checkpoints, merges and restarts, against a map and a sorted scan.

use crate::catalog::{Catalog, Metric, Space};
use crate::ids::{TagId, shard_of};
use crate::lookalike::layer::Layer;
use crate::lookalike::recall::{self, Size, Way, nearest, top};
use crate::lookalike::scorer::Scorer;
use crate::segment::{BlockKey, Form, Key, Part, Segment, SegmentWriter};
use crate::store::centres::trained_on;
use crate::store::{Options, Snapshot, Store, check};
use crate::update::{Change, UpdateBatch};
use crate::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const DIMENSION: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Users, and their vector from now on.
    Write(Vec<(u8, Option<[i8; 3]>)>),
    Publish,
    Checkpoint,
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..40_u8, proptest::option::weighted(0.8, any::<[i8; 3]>()));
    prop_oneof![
        5 => proptest::collection::vec(change, 1..25).prop_map(Step::Write),
        2 => Just(Step::Publish),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn name(user: u8) -> String {
    format!("user-{user}")
}

type Vectors = BTreeMap<u8, Vec<f32>>;

/// Everybody in order of score, shard and slot.
fn ranked(snapshot: &Snapshot, users: &Vectors, scorer: &Scorer) -> Vec<(f32, usize, u32)> {
    let place = |(user, vector): (&u8, &Vec<f32>)| {
        let shard = usize::from(shard_of(name(*user).as_bytes(), snapshot.shards().len() as u16).0);
        let slot = snapshot.shards()[shard].slot_of(name(*user).as_bytes()).expect("sound").expect("known");
        (scorer.score(vector), shard, slot)
    };
    let mut all: Vec<_> = users.iter().map(place).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    all
}

fn compare(snapshot: &Snapshot, space: &Space, users: &Vectors) {
    let view = snapshot.vectors(space, &AtomicBool::new(false)).expect("sound");
    let never = AtomicBool::new(false);
    let scorer = Scorer::nearest(space.metric, 3, &[vec![1.0, -2.0, 0.5], vec![-3.0, 0.0, 1.0]]).expect("vectors");
    let ranked = ranked(snapshot, users, &scorer);
    for (_, shard, slot) in &ranked {
        assert!(users.values().any(|vector| view.view().vector(*shard, *slot).as_ref() == Some(vector)));
    }
    for size in [1, 3, users.len() / 2, users.len(), users.len() + 1] {
        let best = &ranked[..size.min(ranked.len())];
        let hits = top(view.view(), &scorer, None, size as u64, Way::Scan, &never).expect("found");
        assert!(hits.iter().map(|hit| (hit.score, hit.shard, hit.slot)).eq(best.iter().copied()), "{size}");
        for way in [Way::Quick, Way::Scan, Way::Full] {
            let found = nearest(view.view(), &scorer, None, Size::Count(size as u64), way, &never).expect("found");
            assert_eq!(found.candidates, users.len() as u64);
            assert!(best.iter().all(|(_, shard, slot)| found.members[*shard].contains(*slot)));
            assert_eq!(found.members.iter().map(|members| members.len()).sum::<u64>(), best.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn vectors_survive_whatever_is_done_to_their_files(
        metric in 0..3_usize,
        shard_count in prop_oneof![Just(1_u16), Just(4)],
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        let vfs = Arc::new(MemoryVfs::default());
        let folder = Path::new("/data");
        let open = || Store::open(vfs.clone(), folder, Options { shard_count, ..Options::default() }).expect("open");
        let mut store = open();
        let mut catalog = Catalog::default();
        let id = catalog.declare_space("taste", DIMENSION, Metric::ALL[metric]).expect("a good name");
        let space = *catalog.space("taste").expect("declared");
        store.put_catalog(catalog).expect("catalog");
        let mut users = Vectors::new();
        for step in steps {
            match step {
                Step::Write(changes) => {
                    let mut batch = UpdateBatch::new();
                    for (user, vector) in changes {
                        batch.begin_user(name(user).as_bytes());
                        let vector = vector.map(|vector| vector.map(|number| f32::from(number) / 8.0));
                        match vector.filter(|vector| space.check(vector).is_ok()) {
                            Some(vector) => {
                                batch.push_vector(id, &vector);
                                users.insert(user, vector.to_vec());
                            }
                            None => {
                                batch.push(id, Change::Unset);
                                users.remove(&user);
                            }
                        }
                    }
                    store.write(&batch, None).expect("write");
                }
                Step::Publish => drop(store.publish().expect("publish")),
                Step::Checkpoint => drop(store.checkpoint().expect("checkpoint")),
                Step::Compact => drop(store.compact().expect("compact")),
                Step::Reopen => {
                    drop(store);
                    store = open();
                }
            }
            store.publish().expect("publish");
            compare(&store.snapshot(), &space, &users);
        }
        store.checkpoint().expect("checkpoint");
        drop(store);
        let report = check(&*vfs, folder, |_| {});
        prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

/// Merges sort vectors that are left into cells, newer ones and those taken away included, in all shards by the same centres; and sort
/// them again when there are many more.
#[test]
fn merges_make_cells() {
    let (vfs, folder) = (Arc::new(MemoryVfs::default()), Path::new("/data"));
    let options = || Options { shard_count: 2, ..Options::default() };
    let store = Store::open(vfs.clone(), folder, options()).expect("open");
    let mut catalog = Catalog::default();
    let id = catalog.declare_space("taste", DIMENSION, Metric::L2).expect("a good name");
    let space = *catalog.space("taste").expect("declared");
    store.put_catalog(catalog).expect("catalog");
    let vector = |user: u32, round: u32| [(user % 50) as f32, (user / 50 % 50) as f32, (user % 7 + round) as f32];
    let mut users: BTreeMap<u32, [f32; 3]> = BTreeMap::new();
    let mut write = |store: &Store, which: std::ops::Range<u32>, round: u32| {
        let mut batch = UpdateBatch::new();
        for user in which.filter(|user| round == 0 || user % 100 == round) {
            batch.begin_user(user.to_string().as_bytes());
            if round == 2 {
                batch.push(id, Change::Unset);
                users.remove(&user);
            } else {
                batch.push_vector(id, &vector(user, round));
                users.insert(user, vector(user, round));
            }
        }
        store.write(&batch, None).expect("write");
        store.publish().expect("publish");
        store.checkpoint().expect("checkpoint");
        users.len() as u64
    };
    let never = AtomicBool::new(false);
    let scorer = Scorer::nearest(Metric::L2, 3, &[vec![25.2, 24.9, 3.3]]).expect("a vector");
    let find =
        |view: &recall::Space<'_>, way| nearest(view, &scorer, None, Size::Count(20), way, &never).expect("found");
    // So many centres, so many sorted layers.
    let sorted = |view: &recall::Space<'_>| {
        let layers = || view.shards().iter().flatten().filter_map(Layer::cells);
        let centres: BTreeSet<(u64, usize)> =
            layers().map(|cells| (cells.centres().id(), cells.centres().count())).collect();
        (centres.into_iter().map(|(_, count)| count).collect::<Vec<_>>(), layers().count())
    };
    for round in 0..3 {
        write(&store, 0..70_000, round);
    }
    let view = |snapshot: &Snapshot| sorted(snapshot.vectors(&space, &never).expect("sound").view());
    assert_eq!(view(&store.snapshot()), (vec![], 0), "nothing is merged yet");
    while store.compact().expect("compact").is_some() {}
    let (counts, layers) = view(&store.snapshot());
    assert!(matches!(counts[..], [500..1_100]), "{counts:?}: one training");
    assert_eq!(layers, 2, "every shard's large segment");
    drop(store);
    let report = check(&*vfs, folder, |_| {});
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let store = Store::open(vfs.clone(), folder, options()).expect("open");
    // What is only written is sorted by what is known.
    write(&store, 70_000..76_000, 0);
    while store.compact().expect("compact").is_some() {}
    assert_eq!(view(&store.snapshot()).0, counts, "the centres are found again, and fit");
    let count = write(&store, 76_000..290_000, 0);
    while store.compact().expect("compact").is_some() {}
    let snapshot = store.snapshot();
    assert!(matches!(snapshot.vectors(&space, &AtomicBool::new(true)), Err(crate::store::VectorsError::Cancelled)));
    let (counts, _) = view(&snapshot);
    assert!(snapshot.vectors(&space, &AtomicBool::new(true)).is_ok(), "what was found is kept");
    assert!(matches!(counts[..], [1_101..2_200]), "{counts:?}: trained again, and all sorted again");
    let view = snapshot.vectors(&space, &never).expect("sound");
    let (quick, scanned) = (find(view.view(), Way::Quick), find(view.view(), Way::Scan));
    assert!(quick.probed.is_some_and(|probed| probed.cells * 2 < probed.of), "{:?}", quick.probed);
    assert_eq!((quick.candidates, scanned.probed), (count, None));
    let same = |shard: usize| quick.members[shard].intersection_len(&scanned.members[shard]);
    assert!(same(0) + same(1) >= 19);

    // Cells that are not those of the vectors are told by the check, and those that are cut short by whoever reads them.
    let layer = snapshot.shards()[0].layers().last().expect("layers");
    let problem = |segment| crate::store::check::space_problem(segment, 300_000, true, &space).expect("damage");
    let flipped = |wanted: Form, at: fn(&[u8]) -> usize| {
        copy(layer, id, &|form, bytes, _| {
            if form == wanted {
                let at = at(bytes);
                bytes[at] ^= 1;
            }
            true
        })
    };
    let told = problem(flipped(Form::Members, |_| 0));
    assert!(told.contains("in no cell, in several"), "{told}");
    let told = problem(flipped(Form::Copies, |bytes| bytes.len() / 2));
    assert!(told.contains("or in one as another"), "{told}");
    let told = problem(flipped(Form::Centres, |_| 0));
    assert!(told.contains("not those that they say they are"), "{told}");
    let old = copy(layer, id, &|at, _, _| at != Form::Copies);
    let read = super::layer(&old, &space, &never).expect("as if it was not sorted").expect("a layer");
    assert!(read.cells().is_none());
    assert!(trained_on(layer, id) > 0);
    assert_eq!(trained_on(&old, id), 0, "it is sorted again");
    for missing in [Form::Centres, Form::Ends, Form::Members] {
        let segment = copy(layer, id, &|at, _, _| at != missing);
        let error = super::layer(&segment, &space, &never).expect_err("damage").to_string();
        assert!(error.contains("only there in part"), "{error}");
    }
    let cut = flipped(Form::Ends, |bytes| bytes.len() - 1);
    let error = super::layer(&cut, &space, &never).expect_err("damage").to_string();
    assert!(error.contains("cells are not of its vectors"), "{error}");
}

/// What a segment says of a space, its blocks changed or left out.
fn copy(layer: &Segment, id: TagId, change: &dyn Fn(Form, &mut Vec<u8>, &mut i64) -> bool) -> Segment {
    let mut writer = SegmentWriter::in_memory();
    for number in layer.entries(id) {
        let key = layer.key_at(number);
        if let Part::Block(BlockKey { form, .. }) = key.part {
            let block = layer.block_at(number).expect("sound");
            let (mut bytes, mut aux) = (block.bytes.to_vec(), block.aux);
            if change(form, &mut bytes, &mut aux) {
                let rows = block.row_count as u64;
                let put = |put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| put(&bytes);
                writer.add_block::<std::io::Error>(key, aux, rows, put).expect("memory");
            }
        } else {
            let posting = layer.posting_at(number).expect("sound");
            writer.add(Key { tag: id, part: key.part }, posting.aux, &posting.bitmap.to_bitmap()).expect("memory");
        }
    }
    Segment::from_memory(writer.finish_in_memory()).expect("a segment")
}

/// A bit of what is scanned is damaged behind the checksums' back, in memory: the check tells it.
#[test]
fn what_is_scanned_must_be_what_the_vectors_give() {
    let vfs = MemoryVfs::default();
    let (folder, shared) = (Path::new("/data"), Arc::new(vfs));
    let store = Store::open(shared.clone(), folder, Options { shard_count: 1, ..Options::default() }).expect("open");
    let mut catalog = Catalog::default();
    let id = catalog.declare_space("taste", DIMENSION, Metric::Dot).expect("a good name");
    let space = *catalog.space("taste").expect("declared");
    store.put_catalog(catalog).expect("catalog");
    let mut batch = UpdateBatch::new();
    for user in 0..3 {
        batch.begin_user(name(user).as_bytes());
        batch.push_vector(id, &[f32::from(user), 1.0, -1.0]);
    }
    store.write(&batch, None).expect("write");
    store.publish().expect("publish");
    let snapshot = store.snapshot();
    let layer = &snapshot.shards()[0].layers()[0];
    let copy = |change: &dyn Fn(Form, &mut Vec<u8>, &mut i64) -> bool| copy(layer, id, change);
    let problem = |segment: Segment| crate::store::check::space_problem(segment, 3, false, &space);
    assert_eq!(problem(copy(&|_, _, _| true)), None);
    for form in Form::OF_VECTORS {
        let flip = |at: Form, bytes: &mut Vec<u8>, _: &mut i64| {
            if at == form {
                bytes[3] ^= 0x40;
            }
            true
        };
        let found = problem(copy(&flip)).expect("damage");
        assert!(found.contains("what is scanned of a vector is not what its numbers give"), "{form:?}: {found}");
        let segment = copy(&|at, _, _| at != form);
        let error = super::layer(&segment, &space, &AtomicBool::new(false)).expect_err("damage").to_string();
        assert!(error.contains("its vectors are missing in some form"), "{error}");
        let missing = problem(segment).expect("damage");
        assert!(missing.contains("vectors are missing"), "{form:?}: {missing}");
    }
    let cut = |form: Form, bytes: &mut Vec<u8>, _: &mut i64| {
        let rest = if form == Form::Codes { bytes.len() - 3 } else { bytes.len() };
        bytes.truncate(rest);
        true
    };
    let error = super::layer(&copy(&cut), &space, &AtomicBool::new(false)).expect_err("damage").to_string();
    assert!(error.contains("there are not as many vectors as users with one"), "{error}");
    let more = |form: Form, _: &mut Vec<u8>, aux: &mut i64| {
        *aux += i64::from(form == Form::Scale);
        true
    };
    let found = problem(copy(&more)).expect("damage");
    assert!(found.contains("the greatest length or error"), "{found}");
}
