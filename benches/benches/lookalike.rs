//! The users most like a vector, against `faiss` (flat, IVF and HNSW), `hnswlib` and `usearch`, with two threads each on the same
//! vectors: the first 100 at a recall of at least 0.95, without and with filters; and the best 5 % from a seed of 10,000.
//!
//! ```sh
//! pip install faiss-cpu hnswlib usearch
//! BELUGA_PYTHON=python3 cargo bench -p benches --bench lookalike
//! BELUGA_BENCH_USERS=10_000_000 BELUGA_PYTHON=python3 cargo bench -p benches --bench lookalike reach
//! ```
//!
//! Vectors are clustered, of 64 numbers, with more variance in some directions than in others. Without `BELUGA_PYTHON` only our
//! figures are taken. Peers are asked with the least effort that reaches that recall, and again
//! with the least that reaches ours; ours is what every user gets.

use benches::folder::Folder;
use benches::peer::Peer;
use benches::random::Random;
use benches::{is_asked, percentile, setting};
use engine::audience::ops::{Likeness, Lookalike, Measure, QueryContext, Seed, lookalike};
use engine::audience::predicate::Predicate;
use engine::audience::similar::{Amount, Extent};
use engine::catalog::{Catalog, Metric, TagType};
use engine::ids::TagId;
use engine::lookalike::seeds::Method;
use engine::store::{Options, Snapshot, Store};
use engine::update::{Change, UpdateBatch};
use engine::vfs::real::RealVfs;
use ingest::keeper::workers;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DIMENSION: usize = 64;
const CLUSTERS: u64 = 1_000;
const QUERIES: usize = 400;
const WANTED: u64 = 100;
const RECALL: f64 = 0.95;
/// A user is in a filter if its number divides by this.
const MODULI: [u64; 4] = [2, 10, 100, 1_000];
const THREADS: usize = 2;
/// Users a batch.
const BATCH: u64 = 10_000;

struct Vectors {
    middles: Vec<Vec<f32>>,
    random: Random,
}

impl Vectors {
    fn new(middles: u64, random: u64) -> Vectors {
        let mut drawn = Random(middles);
        let middle = |random: &mut Random| (0..DIMENSION).map(|at| random.normal() * width(at)).collect();
        Vectors { middles: (0..CLUSTERS).map(|_| middle(&mut drawn)).collect(), random: Random(random) }
    }

    fn next(&mut self) -> Vec<f32> {
        let middle = &self.middles[(self.random.next() % CLUSTERS) as usize];
        let random = &mut self.random;
        middle.iter().enumerate().map(|(at, number)| number + 0.5 * width(at) * random.normal()).collect()
    }
}

/// How far vectors are apart in a direction.
fn width(at: usize) -> f32 {
    1.0 / (1.0 + at as f32 * 0.05)
}

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 1_000_000);
    let folder = Folder::new(&format!("lookalike-{users}"));
    let (vectors, queries) = (folder.path().join("vectors.f32"), folder.path().join("queries.f32"));
    folder.once("vectors", || {
        let mut made = Vectors::new(7, 1);
        write(&vectors, (0..users).map(|_| made.next()));
        let mut made = Vectors::new(7, 2);
        write(&queries, (0..QUERIES).map(|_| made.next()));
    });
    let built = folder.path().join("built");
    folder.once("data", || {
        let begun = Instant::now();
        load(folder.path(), users);
        std::fs::write(&built, begun.elapsed().as_secs_f64().to_string()).expect("written");
    });
    let store = Store::open(Arc::new(RealVfs), &folder.path().join("data"), options()).expect("open");
    let asked: Vec<Vec<f32>> = {
        let mut made = Vectors::new(7, 2);
        (0..QUERIES).map(|_| made.next()).collect()
    };
    let bench = Bench { snapshot: store.snapshot(), asked, pool: pool() };
    let python = std::env::var("BELUGA_PYTHON").ok();
    if is_asked("top") {
        println!("loading, durable, merged and with cells: {} s", std::fs::read_to_string(&built).unwrap_or_default());
        let mut peers: Vec<(&str, Peer)> = Vec::new();
        for name in ["flat", "ivf", "hnsw", "hnswlib", "usearch"].into_iter().filter(|_| python.is_some()) {
            let mut peer = start(python.as_deref().unwrap_or_default(), name, &vectors, &queries);
            println!("{name} built in {:.1?}", peer.ask("build").0);
            peers.push((name, peer));
        }
        bench.top(None, &mut peers);
        MODULI[1..].iter().for_each(|modulus| bench.top(Some(*modulus), &mut peers));
    }
    if is_asked("reach") {
        let mut flat = python.map(|python| start(&python, "flat", &vectors, &queries));
        bench.reach(users, flat.as_mut());
    }
}

fn write(path: &Path, vectors: impl Iterator<Item = Vec<f32>>) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for number in vectors.flatten() {
        file.write_all(&number.to_le_bytes()).expect("written");
    }
    file.flush().expect("written");
}

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("threads")
}

fn options() -> Options {
    Options { workers: Some(workers().expect("threads")), ..Options::default() }
}

fn start(python: &str, name: &str, vectors: &Path, queries: &Path) -> Peer {
    let numbers = [DIMENSION.to_string(), WANTED.to_string()];
    let [dimension, wanted] = &numbers;
    let arguments = [name.as_ref(), vectors.as_os_str(), queries.as_os_str(), dimension.as_ref(), wanted.as_ref()];
    Peer::start(python, "nearest.py", arguments)
}

/// Users with vectors and flags, durable and merged.
fn load(folder: &Path, users: u64) {
    let store = Store::open(Arc::new(RealVfs), &folder.join("data"), options()).expect("open");
    let mut catalog = Catalog::default();
    let space = catalog.declare_space("taste", DIMENSION as u16, Metric::Cosine).expect("a space");
    let flags =
        MODULI.map(|modulus| (modulus, catalog.declare(&format!("every_{modulus}"), TagType::Flag).expect("a tag")));
    store.put_catalog(catalog).expect("catalog");
    let mut made = Vectors::new(7, 1);
    for from in (0..users).step_by(BATCH as usize) {
        let mut batch = UpdateBatch::new();
        for user in from..users.min(from + BATCH) {
            batch.begin_user(format!("u{user}").as_bytes());
            batch.push_vector(space, &made.next());
            for (modulus, flag) in flags {
                if user % modulus == 0 {
                    batch.push(flag, Change::Flag(true));
                }
            }
        }
        store.write(&batch, None).expect("written");
        if from / BATCH % 20 == 19 {
            store.publish().expect("published");
            store.checkpoint().expect("checkpoint");
        }
    }
    store.publish().expect("published");
    store.checkpoint().expect("checkpoint");
    while store.compact_fully().expect("merged").is_some() {}
}

struct Bench {
    snapshot: Snapshot,
    asked: Vec<Vec<f32>>,
    pool: rayon::ThreadPool,
}

impl Bench {
    /// Who is in a filter.
    fn within(&self, modulus: Option<u64>) -> Predicate {
        let flag = |modulus| self.snapshot.catalog().tag(&format!("every_{modulus}")).expect("declared").id;
        modulus.map_or(Predicate::All, |modulus| Predicate::Flag(flag(modulus)))
    }

    fn space(&self) -> TagId {
        self.snapshot.catalog().space("taste").expect("declared").id
    }

    fn ask(&self, seed: Seed<'_>, extent: Extent, within: &Predicate, exact: bool) -> Lookalike {
        let asked = Likeness {
            space: self.space(),
            seed,
            weights: None,
            method: Some(Method::Mean),
            extent,
            within,
            exclude: &Predicate::Nobody,
            include_seed: false,
            exact,
        };
        lookalike(&self.snapshot, &asked, Measure::default(), &QueryContext::default()).expect("found")
    }

    /// The first few for every query, against peers that reach the recall.
    fn top(&self, modulus: Option<u64>, peers: &mut [(&str, Peer)]) {
        let within = self.within(modulus);
        let extent = Extent::new(Amount::Count(WANTED), None).expect("an extent");
        let one =
            |vector: &Vec<f32>, exact| self.ask(Seed::Vectors(std::slice::from_ref(vector)), extent, &within, exact);
        let mut common = 0;
        for vector in &self.asked {
            let (found, expected) = (one(vector, false), one(vector, true));
            common += found.members.iter().zip(&expected.members).map(|(a, b)| a.intersection_len(b)).sum::<u64>();
        }
        let recall = common as f64 / (self.asked.len() as u64 * WANTED) as f64;
        let all = || self.pool.install(|| self.asked.par_iter().for_each(|vector| drop(one(vector, false))));
        let ours = median(all);
        let rate = |time: Duration| self.asked.len() as f64 / time.as_secs_f64();
        let filter =
            modulus.map_or("no filter".to_owned(), |modulus| format!("filter of {} %", 100.0 / modulus as f64));
        println!("first {WANTED}, {filter}: {:.0} a second at recall {recall:.4}", rate(ours));
        for (name, peer) in peers {
            let modulus = modulus.map_or_else(String::new, |modulus| modulus.to_string());
            for wanted in [RECALL, recall.max(RECALL)] {
                let (time, answer) = peer.ask(&format!("search {wanted} {modulus}"));
                if time.is_zero() {
                    println!("  {name}: {answer}");
                } else {
                    let times = time.as_secs_f64() / ours.as_secs_f64();
                    println!("  {name}: {:.0} a second at recall {answer}: {times:.2} times its rate", rate(time));
                }
            }
        }
    }

    /// The best 5 % of every other user, from a seed of a thousandth.
    fn reach(&self, users: u64, flat: Option<&mut Peer>) {
        let [every_other, .., seed] = MODULI.map(|modulus| self.within(Some(modulus)));
        let extent = Extent::new(Amount::share_of("0.05").expect("a share"), None).expect("an extent");
        let ask = |exact| self.pool.install(|| self.ask(Seed::Users(&seed), extent, &every_other, exact));
        let found = ask(false);
        assert!(found.members == ask(true).members, "recall is 1");
        let ours = median(|| drop(ask(false)));
        // What is scanned of a candidate: its codes and what stands beside them.
        let candidates = found.report.candidates;
        let bytes = candidates as usize * (DIMENSION + 14);
        let plain = vec![1_u8; bytes];
        let sum = || {
            let of = |part: &[u8]| part.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            assert_eq!(self.pool.install(|| plain.par_chunks(1 << 16).map(of).sum::<u64>()), bytes as u64);
        };
        let summed = median(sum);
        let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
        println!(
            "best 5 % of {candidates}, learning included: {ours:.1?}, {:.1} GB/s; a plain sum over the bytes that are scanned {summed:.1?}, {:.1} GB/s: {:.2} of it",
            rate(ours),
            rate(summed),
            rate(ours) / rate(summed),
        );
        let Some(flat) = flat else { return };
        flat.ask("build");
        let (time, _) = flat.ask(&format!("reach {} {}", users / MODULI[0] / 20, MODULI[0]));
        println!("  faiss flat {time:.1?}: {:.1} times as fast", time.as_secs_f64() / ours.as_secs_f64());
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let timed = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..5).map(|_| timed(&mut work)).collect();
    percentile(&mut times, 0.5)
}
