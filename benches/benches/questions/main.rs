//! Audience questions on a generated population: against `croaring` and `roaring` operand by operand on one thread, then
//! through the store on all threads, at rest and while updates arrive; with load rate, index size, opening time and memory.
//!
//! `BELUGA_BENCH_USERS=10_000_000 cargo bench -p benches --bench questions` (the default is 2,000,000).
//! `BELUGA_BENCH_FOLDER` keeps the data directory there between runs.

mod peer;

use benches::folder::Folder;
use benches::population::{load, open, population};
use benches::{compare, is_asked, peak_memory_bytes, percentile, row, setting};
use datasets::population::AS_OF;
use engine::audience::ops::{self, QueryContext};
use engine::audience::plan::Plan;
use engine::audience::predicate::Predicate;
use engine::audience::{bind, parse};
use engine::bitmap::evaluate::Evaluator;
use engine::catalog::{Catalog, TagType};
use engine::ids::TagId;
use engine::segment::Part;
use engine::store::{Snapshot, Store};
use engine::update::UpdateBatch;
use ingest::keeper::{Keeper, KeeperOptions};
use peer::{Peer, PeerShard, Tree, index_size, posting};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// 8 to 30 leaves each, as audiences are.
const QUESTIONS: [(&str, &str); 8] = [
    (
        "10 leaves: demographics, province, interests",
        "gender = 'f' AND age BETWEEN 25 AND 34 AND province IN ('zhejiang','jiangsu','shanghai') AND (interest IN ('running','yoga') OR at_least(2, interest = 'tennis', interest = 'golf', city_tier <= 2)) AND NOT is_member",
    ),
    (
        "12 leaves: reachable buyers",
        "ads_consent AND NOT is_member AND category IN ('shoes','cosmetics','womenswear','jewellery') AND device IN ('ios','android') AND spend >= 200 AND last_active_at >= '2026-09-01' AND gender IS NOT NULL AND (age < 30 OR city_tier = 1)",
    ),
    (
        "14 leaves: wide OR of interests, minus members",
        "interest IN ('running','yoga','hiking','camping','cycling','skiing','fishing','sailing','parenting','tennis','golf') AND gender = 'm' AND NOT (is_member OR device = 'web')",
    ),
    (
        "9 leaves: lapsed spenders",
        "spend >= 500 AND last_active_at < '2026-08-01' AND age BETWEEN 30 AND 55 AND gender = 'f' AND province IN ('guangdong','zhejiang','beijing','shanghai') AND ads_consent",
    ),
    (
        "16 leaves: nested any of all",
        "(gender = 'f' AND interest = 'yoga' AND category = 'womenswear' AND age < 40) OR (gender = 'm' AND interest = 'running' AND category = 'shoes' AND age < 50) OR (is_member AND orders >= 3 AND device = 'ios' AND city_tier = 1) OR (interest = 'parenting' AND category = 'baby' AND ads_consent AND age BETWEEN 24 AND 40)",
    ),
    (
        "8 leaves: selective first",
        "interest = 'sailing' AND category = 'jewellery' AND gender = 'f' AND age >= 40 AND NOT device = 'web' AND (is_member OR ads_consent) AND city_tier <= 3",
    ),
    (
        "30 leaves: provinces, categories, interests",
        "province IN ('guangdong','shandong','henan','jiangsu','sichuan','hebei','hunan','zhejiang','anhui','hubei') AND category IN ('shoes','cosmetics','womenswear','jewellery','baby','toys') AND interest IN ('running','yoga','hiking','camping','cycling','skiing','fishing','sailing') AND gender = 'f' AND age BETWEEN 20 AND 45 AND device <> 'web' AND ads_consent AND NOT is_member AND spend >= 100",
    ),
    (
        "10 leaves: who is not",
        "NOT (gender = 'm' OR interest = 'golf' OR interest = 'fishing' OR category = 'toys' OR category = 'baby' OR device = 'web') AND age IS NOT NULL AND NOT spend >= 1000 AND ads_consent AND city_tier <= 3",
    ),
];

const OPERATORS: [(&str, &str); 2] = [("at least 3 of 10", AT_LEAST), ("number range AND two tags", RANGE_AND_TAGS)];
const LATENCY: &str = "latency through the store, all threads";
const PROFILE: &str = "profile";
/// Audiences whose profile is asked for: of few users to half of all.
const PROFILED: [&str; 5] =
    [QUESTIONS[1].1, QUESTIONS[0].1, "interest = 'yoga' AND gender = 'f'", QUESTIONS[2].1, "gender = 'f'"];
const OVERLAP: &str = "overlap 10 x 10";
const AT_LEAST: &str = "at_least(3, interest = 'running', interest = 'hiking', interest = 'camping', interest = 'cycling', interest = 'skiing', interest = 'fishing', interest = 'sailing', interest = 'yoga', interest = 'tennis', interest = 'golf')";
const RANGE_AND_TAGS: &str = "age BETWEEN 25 AND 44 AND gender = 'f' AND device = 'ios'";

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 2_000_000);
    let folder = Folder::new(&format!("population-{users}"));
    let data = folder.path().join("data");
    println!("{users} users, {} threads", rayon::current_num_threads());
    folder.once("data", || load(&data, users));
    let begun = Instant::now();
    let store = open(&data);
    println!("opened in {:.1?}", begun.elapsed());
    let snapshot = store.snapshot();
    if users <= 20_000_000 {
        let shards = index_size(&snapshot);
        against_peers(&snapshot, &shards);
    }
    if is_asked(LATENCY) {
        latencies(&snapshot);
        // What updates change is a copy: a kept folder stays as it was loaded.
        let changed = tempfile::tempdir().expect("a temporary folder");
        copy(&data, changed.path());
        under_updates(open(changed.path()), users);
    }
    println!("peak memory {} MiB", peak_memory_bytes() >> 20);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a folder");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn predicate(snapshot: &Snapshot, text: &str) -> Predicate {
    bind(&parse(text).expect("parses"), snapshot.catalog(), &BTreeMap::new(), 0).expect("binds")
}

/// Our count on one thread, with everything from planning on.
fn count_ours(snapshot: &Snapshot, predicate: &Predicate) -> u64 {
    let plan = Plan::new(snapshot, predicate).expect("good");
    (0..snapshot.shards().len()).map(|shard| Evaluator::new(&plan.program(shard).expect("good")).count_all()).sum()
}

/// Prints a question's ratio, if it is asked for, and answers it.
fn against<B: Peer>(snapshot: &Snapshot, shards: &[PeerShard], title: &str, text: &str) -> Option<f64> {
    if !is_asked(title) {
        return None;
    }
    let predicate = predicate(snapshot, text);
    let trees: Vec<Tree<B>> = shards.iter().map(|shard| Tree::new(shard, &predicate)).collect();
    let ratio = compare(
        Duration::from_millis(1_200),
        || count_ours(snapshot, &predicate),
        || trees.iter().map(Tree::count).sum::<u64>(),
    );
    row(title, &ratio);
    Some(ratio.times)
}

fn against_peers(snapshot: &Snapshot, shards: &[PeerShard]) {
    println!(
        "\n{:<52} {:>11} {:>11} {:>9}",
        "one thread, against croaring operand by operand", "ours", "peer", "ratio"
    );
    let of_question = |(title, text)| against::<croaring::Bitmap>(snapshot, shards, title, text);
    let mut ratios: Vec<f64> = QUESTIONS.into_iter().filter_map(of_question).collect();
    ratios.sort_by(f64::total_cmp);
    if let Some(least) = ratios.first() {
        println!("median {:.2}x, least {least:.2}x", ratios[ratios.len() / 2]);
    }
    for (title, text) in OPERATORS {
        against::<croaring::Bitmap>(snapshot, shards, title, text);
    }
    if is_asked(PROFILE) {
        profile(snapshot, shards);
    }
    if is_asked(OVERLAP) {
        overlap(snapshot, shards);
    }
    println!("\n{:<52} {:>11} {:>11} {:>9}", "one thread, against roaring operand by operand", "ours", "peer", "ratio");
    for (title, text) in QUESTIONS {
        against::<roaring::RoaringBitmap>(snapshot, shards, title, text);
    }
}

/// On one thread: the operators choose their threads themselves, so they run in a pool of one.
fn pool_of_one() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one")
}

/// Members of the postings, which are sorted by falling cardinality, and of none of them.
fn counts_by_hand(members: &croaring::Bitmap, postings: &[croaring::Bitmap], is_set: bool) -> (u64, u64) {
    let (len, mut count) = (members.cardinality(), 0);
    if is_set {
        // Who has one of several values is counted once for each.
        let mut unknown = members.clone();
        for posting in postings {
            count += members.and_cardinality(posting);
            unknown.andnot_inplace(posting);
        }
        return (count, unknown.cardinality());
    }
    for posting in postings {
        count += members.and_cardinality(posting);
        if count == len {
            break;
        }
    }
    (count, len - count)
}

/// Counts of each value of seven tags, and of the users who have none, for audiences from few users to half of all.
fn profile(snapshot: &Snapshot, shards: &[PeerShard]) {
    let pool = pool_of_one();
    let context = QueryContext::default();
    let tags = ["province", "interest", "category", "device", "channel", "language", "gender"]
        .map(|name| snapshot.catalog().tag(name).expect("declared"));
    let by = tags.map(|tag| tag.id);
    let are_sets = tags.map(|tag| tag.tag_type == TagType::Set);
    let mut cells: Vec<(TagId, Vec<u8>)> = shards_values(snapshot, &by);
    cells.sort();
    cells.dedup();
    // Per shard and tag.
    let postings: Vec<Vec<Vec<croaring::Bitmap>>> = shards
        .iter()
        .map(|shard| {
            let of_tag = |tag: &TagId| cells.iter().filter(|cell| cell.0 == *tag).collect::<Vec<_>>();
            let postings = |tag| {
                let mut postings: Vec<_> = of_tag(tag).iter().map(|(tag, value)| posting(shard, *tag, value)).collect();
                postings.sort_by_key(|posting| Reverse(posting.cardinality()));
                postings
            };
            by.iter().map(postings).collect()
        })
        .collect();
    let mut ratios = Vec::new();
    for text in PROFILED {
        let audience = predicate(snapshot, text);
        let trees: Vec<Tree<croaring::Bitmap>> = shards.iter().map(|shard| Tree::new(shard, &audience)).collect();
        let size = pool.install(|| ops::count(snapshot, &audience, &context)).expect("good");
        let ratio = compare(
            Duration::from_secs(2),
            || {
                let told = pool.install(|| ops::profile(snapshot, &audience, &by, &Predicate::Nobody, &context));
                let told = told.expect("good").tags;
                let sums = told.iter().map(|(_, tag)| match tag {
                    ops::TagProfile::Values { values, unknown, .. } => {
                        (values.iter().map(|cell| cell.count).sum::<u64>(), *unknown)
                    }
                    ops::TagProfile::Number(_) => (0, 0),
                });
                sums.collect::<Vec<_>>()
            },
            || {
                let mut sums = vec![(0, 0); by.len()];
                for (tree, postings) in trees.iter().zip(&postings) {
                    tree.with(|members| {
                        for ((sum, postings), is_set) in sums.iter_mut().zip(postings).zip(&are_sets) {
                            let (count, unknown) = counts_by_hand(members, postings, *is_set);
                            *sum = (sum.0 + count, sum.1 + unknown);
                        }
                    });
                }
                sums
            },
        );
        row(&format!("{PROFILE} over {} tag values, {size} users", cells.len()), &ratio);
        ratios.push(ratio.times);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median {:.2}x, least {:.2}x", ratios[ratios.len() / 2], ratios[0]);
}

fn overlap(snapshot: &Snapshot, shards: &[PeerShard]) {
    let (pool, context) = (pool_of_one(), QueryContext::default());
    let audiences: Vec<Predicate> = QUESTIONS
        .iter()
        .map(|(_, text)| predicate(snapshot, text))
        .chain([AT_LEAST, RANGE_AND_TAGS].map(|text| predicate(snapshot, text)))
        .collect();
    let trees: Vec<Vec<Tree<croaring::Bitmap>>> =
        shards.iter().map(|shard| audiences.iter().map(|audience| Tree::new(shard, audience)).collect()).collect();
    let ratio = compare(
        Duration::from_secs(3),
        || {
            pool.install(|| ops::overlap(snapshot, &audiences, &context))
                .expect("good")
                .into_iter()
                .flatten()
                .sum::<u64>()
        },
        || {
            trees
                .iter()
                .map(|trees| {
                    let sets: Vec<croaring::Bitmap> = trees.iter().map(Tree::evaluate).collect();
                    sets.iter().map(|a| sets.iter().map(|b| a.and_cardinality(b)).sum::<u64>()).sum::<u64>()
                })
                .sum::<u64>()
        },
    );
    row(OVERLAP, &ratio);
}

fn shards_values(snapshot: &Snapshot, by: &[TagId]) -> Vec<(TagId, Vec<u8>)> {
    let segments = snapshot.shards().iter().flat_map(|shard| shard.layers());
    segments
        .flat_map(|segment| {
            by.iter().flat_map(|tag| {
                segment.parts(*tag).filter_map(|(part, _)| match part {
                    Part::Value(value) => Some((*tag, value.to_vec())),
                    _ => None,
                })
            })
        })
        .collect()
}

/// Median and 99th percentile of every question, on all threads.
/// The first time, when postings are read from the disk and checked, and the times after that.
fn latencies(snapshot: &Snapshot) {
    println!("\n{:<52} {:>11} {:>11} {:>11}", LATENCY, "first", "p50", "p99");
    for (title, text) in QUESTIONS.iter().chain(&OPERATORS) {
        let predicate = predicate(snapshot, text);
        let first = ask(snapshot, &predicate);
        let mut times = Vec::new();
        let begun = Instant::now();
        while times.len() < 300 || begun.elapsed() < Duration::from_secs(1) {
            times.push(ask(snapshot, &predicate));
        }
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut times, share));
        println!("{title:<52} {first:>11.1?} {p50:>11.1?} {p99:>11.1?}");
    }
}

fn ask(snapshot: &Snapshot, predicate: &Predicate) -> Duration {
    let begun = Instant::now();
    ops::count(snapshot, predicate, &QueryContext::default()).expect("good");
    begun.elapsed()
}

/// All questions in turn for 20 seconds, each of the newest snapshot, by somebody who asks again at once or `every` so often;
/// the times of each, from when it was due.
fn in_turn(store: &Store, every: Duration) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::new(); QUESTIONS.len()];
    let begun = Instant::now();
    let mut due = begun;
    while begun.elapsed() < Duration::from_secs(20) {
        for ((_, text), times) in QUESTIONS.iter().zip(&mut times) {
            if every.is_zero() {
                due = Instant::now();
            } else {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let snapshot = store.snapshot();
            ask(&snapshot, &predicate(&snapshot, text));
            times.push(due.elapsed());
            due += every;
        }
    }
    times
}

/// The same questions at rest and while 200,000 tag values a second are written, synced, published, and saved, as a server
/// does it: asked as fast as they are answered, so that both want all of the machine, and at a quarter of that rate.
fn under_updates(store: Store, users: u64) {
    const CHANGES_A_SECOND: f64 = 200_000.0;
    let store = Arc::new(store);
    let mut idle = in_turn(&store, Duration::ZERO);
    let mean = idle.concat().iter().sum::<Duration>() / idle.iter().map(Vec::len).sum::<usize>() as u32;
    let idle_calm = in_turn(&store, mean * 4);
    let options = KeeperOptions { checkpoint_interval: Duration::from_secs(10), ..KeeperOptions::default() };
    let keeper = Keeper::start(store.clone(), options).expect("threads");
    let catalog: Catalog = store.snapshot().catalog().clone();
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let begun = Instant::now();
    let mut layers = 0;
    let (mut busy, busy_calm) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut live = population(users).live(&catalog).expect("same catalog");
            let mut batch = UpdateBatch::new();
            while !stop.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * CHANGES_A_SECOND) as u64;
                if written.load(Ordering::Relaxed) >= due {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                batch.clear();
                live.fill(1_000, AS_OF, &mut batch);
                let position = store.write(&batch, None).expect("write");
                store.sync(position.lsn).expect("sync");
                written.fetch_add(batch.change_count() as u64, Ordering::Relaxed);
            }
        });
        std::thread::sleep(Duration::from_secs(2));
        let busy = in_turn(&store, Duration::ZERO);
        let busy_calm = in_turn(&store, mean * 4);
        layers = store.statistics().layers_max;
        stop.store(true, Ordering::Relaxed);
        (busy, busy_calm)
    });
    let rate = written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let status = keeper.stop(false);
    println!("\n{:<52} {:>11} {:>11} {:>11} {:>11}", "all questions in turn", "p50", "p99", "busy p50", "busy p99");
    for (((title, _), idle), busy) in QUESTIONS.iter().zip(&mut idle).zip(&mut busy) {
        let [idle, busy] = [idle, busy].map(|times| [percentile(times, 0.5), percentile(times, 0.99)]);
        println!("{title:<52} {:>11.1?} {:>11.1?} {:>11.1?} {:>11.1?}", idle[0], idle[1], busy[0], busy[1]);
    }
    for (title, idle, busy) in [("all of them", idle, busy), ("all, at a quarter of the rate", idle_calm, busy_calm)] {
        let [mut idle, mut busy] = [idle, busy].map(|times| times.concat());
        let [idle_p50, busy_p50] = [&mut idle, &mut busy].map(|times| percentile(times, 0.5));
        let [idle_p99, busy_p99] = [&mut idle, &mut busy].map(|times| percentile(times, 0.99));
        let times = busy_p99.as_secs_f64() / idle_p99.as_secs_f64();
        println!(
            "{title:<52} {idle_p50:>11.1?} {idle_p99:>11.1?} {busy_p50:>11.1?} {busy_p99:>11.1?}: {times:.2} times the p99"
        );
    }
    println!(
        "under {rate:.0} tag values a second, at most {layers} layers; {} checkpoints, {} merges",
        status.checkpoint_count, status.compaction_count,
    );
}
