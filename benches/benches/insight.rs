//! The profile of an audience over a thousand values of tags, against ClickHouse (chdb) over a table of bitmaps with the same users, and
//! against reading the containers that are looked into, once; all asked in turns, with as many threads as there are processors.
//!
//! ```sh
//! pip install chdb
//! BELUGA_BENCH_USERS=10_000_000 BELUGA_PYTHON=python3 cargo bench -p benches --bench insight
//! ```
//!
//! The default is 2,000,000 users. A user has one of 300 cities and about seven of 700 words, a few of which are had by many. Without
//! `BELUGA_PYTHON` only the containers are compared with.

use arrow::array::{ArrayRef, RecordBatch, UInt8Array, UInt16Array, UInt32Array};
use benches::peer::Peer;
use benches::random::Random;
use benches::{peak_memory_bytes, percentile, setting};
use engine::audience::ops::{self, QueryContext, TagProfile};
use engine::audience::predicate::Predicate;
use engine::audience::{bind, parse};
use engine::bitmap::view::{BitmapView, Container};
use engine::catalog::{Catalog, TagType};
use engine::ids::TagId;
use engine::segment::{Key, Part};
use engine::store::{Options, Snapshot, Store};
use engine::update::{Change, UpdateBatch};
use engine::vfs::real::RealVfs;
use ingest::keeper::{publishers, workers};
use parquet::arrow::ArrowWriter;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CITIES: u64 = 300;
const WORDS: u64 = 700;
const WORDS_OF_A_USER: u64 = 7;
/// The audiences: one in so many users is in each.
const ONE_IN: [u64; 4] = [2, 10, 100, 10_000];
const AUDIENCE: u8 = 0;
const CITY: u8 = 1;
const WORD: u8 = 2;

/// What a user has: tags and values.
fn values(random: &mut Random) -> Vec<(u8, u16)> {
    let low = |random: &mut Random, count: u64| {
        // Low ones are had by more: a hundredth of them by a tenth of all.
        let drawn = random.below(1 << 20) as f64 / f64::from(1 << 20);
        ((count as f64 * drawn * drawn) as u64).min(count - 1) as u16
    };
    let mut values = vec![(CITY, low(random, CITIES))];
    let words: HashSet<u16> = (0..WORDS_OF_A_USER).map(|_| low(random, WORDS)).collect();
    let mut words: Vec<u16> = words.into_iter().collect();
    words.sort_unstable();
    values.extend(words.into_iter().map(|word| (WORD, word)));
    values.extend(ONE_IN.into_iter().filter(|one| random.below(*one) == 0).map(|one| (AUDIENCE, one as u16)));
    values
}

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 2_000_000);
    let temporary = tempfile::tempdir().expect("temporary folder");
    let parquet = temporary.path().join("values.parquet");
    let store = load(temporary.path(), &parquet, users);
    let mut peer = std::env::var("BELUGA_PYTHON").ok().map(|python| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        Peer::start(&python, "bitmaps.py", [parquet.as_os_str(), threads.as_ref()])
    });
    let snapshot = store.snapshot();
    let context = QueryContext::default();
    println!("{users} users, {} values of tags", CITIES + WORDS);
    for one in ONE_IN {
        let text = format!("audience = '{one}'");
        let audience = bind(&parse(&text).expect("parses"), snapshot.catalog(), &BTreeMap::new(), 0).expect("binds");
        let members = members(&snapshot, one);
        let by_hand = format!(
            "SELECT sum((value + 1) * bitmapAndCardinality(users, (SELECT users FROM tags WHERE tag = {AUDIENCE} AND value = {one}))) \
             FROM tags WHERE tag IN ({CITY}, {WORD})"
        );
        let (mut ours, mut reading, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..9 {
            let begun = Instant::now();
            let told = weighed(&snapshot, &audience, &context);
            ours.push(begun.elapsed());
            let begun = Instant::now();
            let bytes = black_box(read(&snapshot, &members));
            reading.push(begun.elapsed());
            if turn == 0 {
                println!("audience of one in {one}: {} MiB of containers", bytes.0 >> 20);
            }
            if let Some(peer) = peer.as_mut() {
                let (time, answer) = peer.ask(&by_hand);
                assert_eq!(answer, told.to_string(), "both answer the same");
                theirs.push(time);
            }
        }
        let [ours, reading] = [&mut ours, &mut reading].map(|times| percentile(times, 0.5));
        let ratio = |other: Duration| other.as_secs_f64() / ours.as_secs_f64();
        print!("  profile {ours:>9.1?}   only reading {reading:>9.1?}: {:.2} times as long", 1.0 / ratio(reading));
        if !theirs.is_empty() {
            let theirs = percentile(&mut theirs, 0.5);
            print!("   chdb {theirs:>9.1?}: {:.2} times as fast", ratio(theirs));
        }
        println!();
    }
    println!("peak memory {} MiB", peak_memory_bytes() >> 20);
}

/// One number that tells of all counts.
fn weighed(snapshot: &Snapshot, audience: &Predicate, context: &QueryContext) -> u64 {
    let by = ["city", "word"].map(|name| snapshot.catalog().tag(name).expect("declared").id);
    let told = ops::profile(snapshot, audience, &by, &Predicate::Nobody, context).expect("good");
    let of_tag = |(_, tag): &(TagId, TagProfile)| match tag {
        TagProfile::Values { values, .. } => {
            values.iter().map(|cell| (cell.value.parse::<u64>().expect("a number") + 1) * cell.count).sum()
        }
        TagProfile::Number(_) => 0,
    };
    told.tags.iter().map(of_tag).sum()
}

/// Per shard, the chunks that an audience has members in.
fn members(snapshot: &Snapshot, one: u64) -> Vec<HashSet<u16>> {
    let tag = snapshot.catalog().tag("audience").expect("declared").id;
    let value = one.to_string();
    let of_shard = |shard: &engine::store::ShardSnapshot| {
        let key = Key { tag, part: Part::Value(value.as_bytes()) };
        let posting = shard.layers()[0].posting(key).expect("good");
        posting.map_or_else(HashSet::new, |posting| {
            (0..posting.bitmap.container_count()).map(|at| posting.bitmap.key(at)).collect()
        })
    };
    snapshot.shards().iter().map(of_shard).collect()
}

/// Reads the containers of all values in these chunks, and does no more with them than to add up their words; answers how many bytes there
/// were, and the sum.
fn read(snapshot: &Snapshot, members: &[HashSet<u16>]) -> (u64, u64) {
    let by = ["city", "word"].map(|name| snapshot.catalog().tag(name).expect("declared").id);
    let of_shard = |(shard, members): (&engine::store::ShardSnapshot, &HashSet<u16>)| {
        let segment = &shard.layers()[0];
        let postings = by.iter().flat_map(|tag| segment.entries(*tag)).map(|number| segment.posting_at(number));
        postings.fold((0, 0), |sum, posting| added(sum, &posting.expect("good").bitmap, members))
    };
    let sums = snapshot.shards().par_iter().zip(members).map(of_shard);
    sums.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1.wrapping_add(b.1)))
}

fn added((mut bytes, mut sum): (u64, u64), bitmap: &BitmapView<'_>, members: &HashSet<u16>) -> (u64, u64) {
    for at in (0..bitmap.container_count()).filter(|at| members.contains(&bitmap.key(*at))) {
        let container = match bitmap.container(at) {
            Container::Array(positions) => positions.as_flattened(),
            Container::Words(words) => words.as_flattened(),
            Container::Runs(runs) => runs.as_flattened(),
        };
        bytes += container.len() as u64;
        let words = container.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        sum = words.fold(sum, u64::wrapping_add);
    }
    (bytes, sum)
}

fn load(folder: &Path, parquet: &Path, users: u64) -> Store {
    let (of_store, of_view) = (Some(workers().expect("threads")), Some(publishers().expect("threads")));
    let options = Options { workers: of_store, publishers: of_view, ..Options::default() };
    let store = Store::open(Arc::new(RealVfs), &folder.join("data"), options).expect("open");
    let mut catalog = Catalog::default();
    let mut declare = |name, tag_type| catalog.declare(name, tag_type).expect("a good tag");
    let tags = [declare("audience", TagType::Set), declare("city", TagType::Enum), declare("word", TagType::Set)];
    store.put_catalog(catalog).expect("catalog");
    let mut random = Random(11);
    let mut table = None;
    for from in (0..users).step_by(50_000) {
        let mut batch = UpdateBatch::new();
        let mut rows = (Vec::new(), Vec::new(), Vec::new());
        for user in from..(from + 50_000).min(users) {
            batch.begin_user(format!("user-{user:09}").as_bytes());
            for (tag, value) in values(&mut random) {
                let text = value.to_string();
                batch.push(tags[usize::from(tag)], if tag == CITY { Change::Enum(&text) } else { Change::Add(&text) });
                rows.0.push(tag);
                rows.1.push(value);
                rows.2.push(user as u32);
            }
        }
        write_parquet(&mut table, parquet, rows);
        store.write_replayable(&batch, "load", from + 1).expect("write");
        while store.compact().expect("compact").is_some() {}
    }
    store.forget_source("load");
    store.checkpoint().expect("checkpoint");
    while store.compact_fully().expect("compact").is_some() {}
    table.map(ArrowWriter::close);
    println!("index {} MiB", store.statistics().segment_bytes >> 20);
    store
}

fn write_parquet(
    table: &mut Option<ArrowWriter<File>>,
    path: &Path,
    (tags, values, users): (Vec<u8>, Vec<u16>, Vec<u32>),
) {
    let columns: [(&str, ArrayRef); 3] = [
        ("tag", Arc::new(UInt8Array::from(tags))),
        ("value", Arc::new(UInt16Array::from(values))),
        ("user_id", Arc::new(UInt32Array::from(users))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let begin = || ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a writer");
    table.get_or_insert_with(begin).write(&batch).expect("written");
}
