//! Power cuts, failing disks and failing other sides at any moment: each row comes, and once for whoever looks at keys.
//!
//! In every third history sinks are dropped and declared again in between, with and without a look at it: each life of a sink then has
//! the rows from one on and none twice, and the last one has all. The other side refuses one record, which becomes one dead letter.
//!
//! A history is a sequence of steps chosen by a seed: rows are written, published, taken, checkpointed and delivered, and in between
//! the disk fails and the power goes, or, in every other history, the process is killed. Files become whole by a rename, of which
//! the disk in memory may keep one half only; it is assumed to be atomic, so they do that in histories without power cuts.
//! `BELUGA_CRASH_ROUNDS` makes more histories, `BELUGA_CRASH_SEED` repeats one.

use super::files::FilesOptions;
use super::queue::Queue;
use super::tests::{Inbox, NoTables, purchases};
use super::worker::{Step, Worker};
use super::*;
use engine::clock::ManualClock;
use engine::ids::TagId;
use engine::store::{Options, RowTap};
use engine::update::{EventHead, UpdateBatch, Value};
use engine::vfs::Vfs;
use engine::vfs::memory::MemoryVfs;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct World {
    vfs: MemoryVfs,
    inbox: Inbox,
    /// Rows that were acknowledged, by what they say.
    acknowledged: BTreeSet<u64>,
    written: u64,
    has_power_cuts: bool,
    /// Sinks are dropped and declared again.
    has_lives: bool,
    /// What the record says that the inbox refuses.
    refused: u64,
    /// The first row of each life that was seen to begin.
    begun: BTreeMap<String, u64>,
    fact: TagId,
    running: Option<Machine>,
}

/// What a process holds.
struct Machine {
    store: Arc<Store>,
    queues: Arc<SinkQueues>,
    workers: Vec<Worker>,
}

const FOLDER: &str = "/out";
const NAMES: [&str; 2] = ["files", "inbox"];

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            vfs: MemoryVfs::default(),
            inbox: Inbox::default(),
            acknowledged: BTreeSet::new(),
            written: 0,
            has_power_cuts: seed.is_multiple_of(2),
            has_lives: seed.is_multiple_of(3),
            refused: seed % 40,
            begun: BTreeMap::new(),
            fact: TagId(0),
            running: None,
        };
        world.inbox.fail_by(seed);
        world.inbox.refuse(&format!("\"n\":{}}}", world.refused), seed % 5 < 2);
        world.open().expect("opens");
        let machine = world.running.as_ref().expect("it runs");
        let (catalog, fact) = purchases(&NAMES);
        machine.store.put_catalog(catalog).expect("put");
        machine.store.publish().expect("published");
        machine.queues.pass(&machine.store.snapshot()).expect("begun");
        world.fact = fact;
        world
    }

    fn open(&mut self) -> Result<(), String> {
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let clock = Arc::new(ManualClock::at(1_000_000));
        let (inbox, disk) = (self.inbox.clone(), vfs.clone());
        let max_bytes = if self.has_power_cuts { u64::MAX } else { 300 };
        let read = move |name: &str, _: &str| {
            let files = FilesOptions { vfs: disk.clone(), folder: FOLDER.into(), max_bytes, max_age: Duration::MAX };
            let connector: Arc<dyn Connector> = if name == "files" { Arc::new(files) } else { Arc::new(inbox.clone()) };
            let takes = Takes::Fact("purchase".to_owned());
            Ok(SinkDefinition { batch_records_max: 3, queue_bytes: 4_000, ..SinkDefinition::new(Ok(connector), takes) })
        };
        let queues = Arc::new(SinkQueues::new(vfs.clone(), Path::new("/data/sinks"), clock.clone(), Box::new(read)));
        let tap: Arc<dyn RowTap> = queues.clone();
        let options =
            Options { shard_count: 2, clock, tables: Some(Arc::new(NoTables)), tap: Some(tap), ..Options::default() };
        let store = Store::open(vfs, Path::new("/data"), options).map_err(|error| error.to_string())?;
        self.running = Some(Machine { store: Arc::new(store), queues, workers: Vec::new() });
        Ok(())
    }

    /// One step; false if the process is to be taken for dead.
    fn step(&mut self, random: &mut Random) -> bool {
        let choice = random.below(14);
        if self.has_lives && random.below(10) == 0 {
            return self.declare_again(random);
        }
        let Some(machine) = &mut self.running else { return false };
        match choice {
            0..=4 => {
                let mut batch = UpdateBatch::new();
                let begin = self.written;
                for _ in 0..=random.below(4) {
                    batch.begin_user(format!("u{}", self.written).as_bytes());
                    let head = EventHead { ts: 5, ..EventHead::default() };
                    batch.push_event(self.fact, &head, &[Value::Integer(self.written as i64)]);
                    self.written += 1;
                }
                let Ok(written) = machine.store.write(&batch, None) else { return false };
                if random.below(2) == 0 {
                    if machine.store.sync(written.lsn).is_err() {
                        return false;
                    }
                    self.acknowledged.extend(begin..self.written);
                }
                true
            }
            5..=6 => machine.store.publish().is_ok(),
            7..=8 => machine.queues.pass(&machine.store.snapshot()).is_ok(),
            9 => {
                // Nobody delivers meanwhile, so there must be room.
                match machine.queues.pass(&machine.store.snapshot()) {
                    Ok(true) if machine.store.publish().is_ok() => {}
                    Ok(_) => return true,
                    Err(_) => return false,
                }
                match machine.queues.pass(&machine.store.snapshot()) {
                    Ok(true) => machine.store.checkpoint().is_ok(),
                    other => other.is_ok(),
                }
            }
            _ => machine.deliver(random.below(2) as usize) != Some(Outcome::Dead),
        }
    }

    /// Drops a sink and declares it again; somebody may look in between.
    fn declare_again(&mut self, random: &mut Random) -> bool {
        let name = NAMES[random.below(2) as usize];
        let Some(machine) = &mut self.running else { return false };
        machine.workers.clear();
        if machine.store.publish().is_err() {
            return false;
        }
        let before = machine.queue_id(name);
        let mut catalog = machine.store.snapshot().catalog().clone();
        catalog.drop_sink(name);
        if random.below(2) == 0 {
            let dropped = machine.store.put_catalog(catalog.clone()).is_ok() && machine.store.publish().is_ok();
            if !dropped || machine.queues.pass(&machine.store.snapshot()).is_err() || random.below(3) == 0 {
                return false;
            }
        }
        catalog.declare_sink(name, name.to_owned()).expect("declared");
        if machine.store.put_catalog(catalog).is_err() || random.below(3) == 0 || machine.store.publish().is_err() {
            return false;
        }
        let snapshot = machine.store.snapshot();
        if machine.queues.pass(&snapshot).is_err() {
            return false;
        }
        // A disk that failed meanwhile failed the sink.
        let Some(id) = machine.queue_id(name) else { return false };
        assert_ne!(Some(id), before, "it went on with the queue of the sink that was dropped");
        let life = SinkIdentity { name: name.to_owned(), id }.key();
        self.begun.insert(life, snapshot.next_row(self.fact));
        true
    }

    /// Declares what a crash left dropped.
    fn declare_missing(&mut self) {
        let machine = self.running.as_mut().expect("it runs");
        machine.workers.clear();
        machine.store.publish().expect("published");
        let mut catalog = machine.store.snapshot().catalog().clone();
        for name in NAMES {
            catalog.declare_sink(name, name.to_owned()).expect("declared");
        }
        machine.store.put_catalog(catalog).expect("put");
    }

    /// The process is gone, and the power with it if it is that kind of history. The disk is whole again.
    fn die(&mut self, seed: u64) {
        self.running = None;
        if self.has_power_cuts {
            self.vfs.power_cut(seed);
        }
        self.vfs.repair();
    }

    /// What is left comes to its end.
    fn settle(&mut self) {
        self.declare_missing();
        let machine = self.running.as_mut().expect("it runs");
        machine.store.publish().expect("published");
        loop {
            let had_room = machine.queues.pass(&machine.store.snapshot()).expect("taken");
            let outcomes: Vec<_> = (0..2).map(|index| machine.deliver(index)).collect();
            assert!(!outcomes.contains(&Some(Outcome::Dead)), "{outcomes:?}");
            if had_room && machine.queues.sinks().iter().all(|sink| sink.queue.as_deref().is_some_and(Queue::is_empty))
            {
                // So the dead letters are seen.
                machine.store.publish().expect("published");
                return;
            }
        }
    }

    fn check(&self, seed: u64) {
        let machine = self.running.as_ref().expect("it runs");
        let rows = machine.store.snapshot().next_row(self.fact);
        if self.has_lives {
            return self.check_lives(seed, rows);
        }
        let refused = self.lines().into_iter().filter(|line| line["n"] == self.refused).count() as u64;
        let letters = machine.store.snapshot().next_row(TagId::DEAD_LETTERS);
        assert_eq!(letters, refused, "seed {seed}: dead letters");
        let wanted: Vec<String> = (0..rows).map(|row| format!("purchase/{row}")).collect();
        let (mut once, lines) = (self.inbox.once(), self.lines());
        assert!(once.iter().all(|record| record["n"] != self.refused), "seed {seed}: it was refused");
        once.extend(lines.iter().filter(|line| line["n"] == self.refused).cloned());
        once.sort_by_key(row_of);
        let ids = |records: &[serde_json::Value]| -> Vec<String> {
            records.iter().map(|record| record["id"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!(ids(&once), wanted, "seed {seed}: by key");
        assert_eq!(ids(&lines), wanted, "seed {seed}: in files");
        assert_eq!(once, lines, "seed {seed}: a row is another one now");
        let said: BTreeSet<u64> = once.iter().map(|record| record["n"].as_u64().expect("a number")).collect();
        assert!(said.is_superset(&self.acknowledged), "seed {seed}: an acknowledged row is gone");
    }

    fn check_lives(&self, seed: u64, rows: u64) {
        let machine = self.running.as_ref().expect("it runs");
        let mut lives: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for (key, records) in self.inbox.once_by_key() {
            lives.entry(key.split('/').next().unwrap_or_default().to_owned()).or_default().extend(records);
        }
        for (name, records) in self.files() {
            // `files-<life>-<first offset>.ndjson`
            let life = name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
            lives.entry(life).or_default().extend(records);
        }
        let refused: Vec<u64> = lives.values().flatten().filter(|it| it["n"] == self.refused).map(row_of).collect();
        for name in NAMES {
            let id = machine.queue_id(name).expect("a queue");
            let life = SinkIdentity { name: name.to_owned(), id }.key();
            let end = machine.queues.sinks().into_iter().find(|sink| sink.name == name);
            let end = end.and_then(|sink| sink.queue.as_ref()?.next_row(self.fact));
            assert_eq!(end, Some(rows), "seed {seed}: {name} does not have all rows");
            let last = lives.get(&life).and_then(|records| records.last()).map(row_of);
            let is_all = last.is_none_or(|last| last + 1 == rows || (name == "inbox" && last + 2 == rows));
            assert!(is_all, "seed {seed}: {life} ends with {last:?} of {rows}");
        }
        for (life, records) in &lives {
            let said: Vec<u64> = records.iter().map(row_of).collect();
            let Some(first) = said.first().copied() else { continue };
            let gap = |row: &u64| life.starts_with("inbox") && (refused.contains(row) || refused.is_empty());
            if let Some(begun) = self.begun.get(life) {
                assert!(
                    first == *begun || (gap(begun) && first == begun + 1),
                    "seed {seed}: {life} begins with {first}"
                );
            }
            for pair in said.windows(2) {
                let follows = pair[1] == pair[0] + 1 || (pair[1] == pair[0] + 2 && gap(&(pair[0] + 1)));
                assert!(follows, "seed {seed}: {life}: {said:?}");
            }
        }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        self.files().into_iter().flat_map(|(_, records)| records).collect()
    }

    /// The files by name, each with its records. A life that is over may have left a part with a torn end, which nobody mends.
    fn files(&self) -> Vec<(String, Vec<serde_json::Value>)> {
        let mut names: Vec<PathBuf> = self.vfs.files().into_iter().map(|(path, _)| path).collect();
        names.retain(|path| path.starts_with(FOLDER) && !path.to_string_lossy().ends_with(".tmp"));
        names.sort();
        let read = |path: PathBuf| String::from_utf8(self.vfs.map(&path).expect("mapped").to_vec()).expect("text");
        let machine = self.running.as_ref().expect("it runs");
        let living = SinkIdentity { name: "files".to_owned(), id: machine.queue_id("files").expect("a queue") }.key();
        let records = |path: PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let may_be_torn = name.ends_with(".part") && !name.starts_with(&living);
            let text = read(path);
            let whole = text.lines().map(serde_json::from_str).take_while(|line| line.is_ok() || !may_be_torn);
            (name, whole.map(|line| line.expect("JSON")).collect())
        };
        names.into_iter().map(records).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Alive,
    Dead,
}

impl Machine {
    fn queue_id(&self, name: &str) -> Option<u64> {
        let sinks = self.queues.sinks();
        sinks.iter().find(|sink| sink.name == name)?.queue.as_ref().map(|queue| queue.id())
    }

    fn deliver(&mut self, index: usize) -> Option<Outcome> {
        if self.workers.is_empty() {
            for sink in self.queues.sinks() {
                self.workers.push(Worker::new(&sink, Arc::downgrade(&self.store), Arc::default())?);
            }
        }
        match self.workers.get_mut(index)?.step() {
            Step::Failed(_) => Some(Outcome::Dead),
            _ => Some(Outcome::Alive),
        }
    }
}

/// The number of the row that a record tells.
fn row_of(record: &serde_json::Value) -> u64 {
    let id = record["id"].as_str().expect("an id");
    id.strip_prefix("purchase/").and_then(|row| row.parse().ok()).expect("a row of a purchase")
}

fn history(seed: u64) {
    let mut random = Random(seed);
    let mut world = World::new(seed);
    for _ in 0..random.below(120) + 20 {
        if random.below(12) == 0 {
            world.vfs.fail_at(random.below(40) + 1, random.below(2) == 0, std::io::ErrorKind::StorageFull);
        }
        let lives = world.step(&mut random);
        if !lives || random.below(15) == 0 {
            world.die(random.below(u64::MAX));
            world.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let machine = world.running.as_ref().expect("it runs");
            machine.queues.pass(&machine.store.snapshot()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            for (name, report) in machine.queues.reports() {
                assert_eq!(report.error, None, "seed {seed}: {name}");
            }
        }
    }
    world.die(seed);
    world.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    world.settle();
    world.check(seed);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

#[test]
fn each_row_comes_once_whatever_happens() {
    if let Some(seed) = number("BELUGA_CRASH_SEED") {
        return history(seed);
    }
    (0..number("BELUGA_CRASH_ROUNDS").unwrap_or(400)).for_each(history);
}
