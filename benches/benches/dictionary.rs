//! User ids to slots: look-ups of known ids in random order and memory an id, against a `HashMap` of the same ids with the
//! same hash, on one thread.
//!
//! `BELUGA_BENCH_IDS=10_000_000 cargo bench -p benches --bench dictionary` (that is the default).

use benches::{compare, row, setting};
use engine::dictionary::part::Part;
use engine::dictionary::{Dictionary, HashedId, hash_of};
use engine::vfs::real::RealVfs;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Look-ups of one turn.
const LOOKUPS: u64 = 1_000_000;

/// The dictionary's hash for the peer.
#[derive(Default)]
struct Xxh(Xxh3);

impl Hasher for Xxh {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

type Peer = HashMap<Box<[u8]>, u32, BuildHasherDefault<Xxh>>;

/// About 16 bytes, as ids of devices and accounts are.
fn id(number: u64) -> String {
    format!("{:016x}", xxh3_64(&number.to_le_bytes()))
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn main() {
    let count = setting("BELUGA_BENCH_IDS", 10_000_000);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("all.ids");
    let begun = Instant::now();
    let ids_bytes = {
        let dictionary = Dictionary::default();
        let mut bytes = 0;
        for number in 0..count {
            let id = id(number);
            bytes += id.len() as u64;
            dictionary.writer().get_or_insert(id.as_bytes()).expect("memory");
        }
        println!(
            "{count} new ids in {:.1?}; in memory {:.1} bytes an id over its own",
            begun.elapsed(),
            (dictionary.heap_bytes() as u64 - bytes) as f64 / count as f64
        );
        dictionary.write_unsealed(count as u32, &RealVfs, &path).expect("written");
        bytes
    };
    let before = resident_bytes();
    let part = Part::open(&RealVfs, &path).expect("good");
    let size = part.size_bytes();
    let dictionary = Dictionary::open(vec![Arc::new(part)]).expect("whole");
    // Every page is touched, so that all of it is resident.
    let known = (0..count).filter(|number| slot(&dictionary, &id(*number)).is_some()).count();
    assert_eq!(known as u64, count, "every id is known");
    println!(
        "checkpointed: file {:.1} bytes an id over its own, resident {:.1}",
        (size - ids_bytes) as f64 / count as f64,
        (resident_bytes() - before).saturating_sub(ids_bytes) as f64 / count as f64,
    );
    let before = resident_bytes();
    let peer: Peer = (0..count).map(|number| (id(number).into_bytes().into(), number as u32)).collect();
    println!(
        "HashMap: resident {:.1} bytes an id over its own",
        (resident_bytes() - before).saturating_sub(ids_bytes) as f64 / count as f64
    );
    let asked: Vec<String> = (0..LOOKUPS).map(|turn| id(xxh3_64(&turn.to_le_bytes()) % count)).collect();
    println!("{:<52} {:>11} {:>11} {:>9}", "", "ours", "HashMap", "ratio");
    let ratio = compare(
        Duration::from_secs(5),
        || asked.iter().filter_map(|id| slot(&dictionary, id)).map(u64::from).sum::<u64>(),
        || asked.iter().filter_map(|id| peer.get(id.as_bytes())).map(|slot| u64::from(*slot)).sum::<u64>(),
    );
    row(&format!("{LOOKUPS} look-ups of known ids, random order"), &ratio);
    println!("{:.1} million look-ups a second", LOOKUPS as f64 / ratio.ours.as_secs_f64() / 1e6);
    let ratio = compare(
        Duration::from_secs(5),
        || {
            let hashed: Vec<HashedId<'_>> = asked.iter().map(|id| (id.as_bytes(), hash_of(id.as_bytes()))).collect();
            dictionary.slots_of(&hashed).expect("good").into_iter().flatten().map(u64::from).sum::<u64>()
        },
        || asked.iter().filter_map(|id| peer.get(id.as_bytes())).map(|slot| u64::from(*slot)).sum::<u64>(),
    );
    row(&format!("{LOOKUPS} look-ups together, as a batch of updates does"), &ratio);
    println!("{:.1} million look-ups a second", LOOKUPS as f64 / ratio.ours.as_secs_f64() / 1e6);
}

fn slot(dictionary: &Dictionary, id: &str) -> Option<u32> {
    dictionary.slot_of(id.as_bytes()).expect("good")
}
