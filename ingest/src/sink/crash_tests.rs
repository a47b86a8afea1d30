//! Power cuts, failing disks and failing other sides at any moment: each row comes, and once for whoever looks at keys.
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

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            vfs: MemoryVfs::default(),
            inbox: Inbox::default(),
            acknowledged: BTreeSet::new(),
            written: 0,
            has_power_cuts: seed.is_multiple_of(2),
            fact: TagId(0),
            running: None,
        };
        world.inbox.fail_by(seed);
        world.open().expect("opens");
        let machine = world.running.as_ref().expect("it runs");
        let (catalog, fact) = purchases(&["files", "inbox"]);
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
        let machine = self.running.as_mut().expect("it runs");
        machine.store.publish().expect("published");
        loop {
            let had_room = machine.queues.pass(&machine.store.snapshot()).expect("taken");
            let outcomes: Vec<_> = (0..2).map(|index| machine.deliver(index)).collect();
            assert!(!outcomes.contains(&Some(Outcome::Dead)), "{outcomes:?}");
            if had_room && machine.queues.sinks().iter().all(|sink| sink.queue.as_deref().is_some_and(Queue::is_empty))
            {
                return;
            }
        }
    }

    fn check(&self, seed: u64) {
        let machine = self.running.as_ref().expect("it runs");
        let rows = machine.store.snapshot().next_row(self.fact);
        let wanted: Vec<String> = (0..rows).map(|row| format!("purchase/{row}")).collect();
        let (once, lines) = (self.inbox.once(), self.lines());
        let ids = |records: &[serde_json::Value]| -> Vec<String> {
            records.iter().map(|record| record["id"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!(ids(&once), wanted, "seed {seed}: by key");
        assert_eq!(ids(&lines), wanted, "seed {seed}: in files");
        assert_eq!(once, lines, "seed {seed}: a row is another one now");
        let said: BTreeSet<u64> = once.iter().map(|record| record["n"].as_u64().expect("a number")).collect();
        assert!(said.is_superset(&self.acknowledged), "seed {seed}: an acknowledged row is gone");
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let mut names: Vec<PathBuf> = self.vfs.files().into_iter().map(|(path, _)| path).collect();
        names.retain(|path| path.starts_with(FOLDER) && !path.to_string_lossy().ends_with(".tmp"));
        names.sort();
        let read = |path: PathBuf| String::from_utf8(self.vfs.map(&path).expect("mapped").to_vec()).expect("text");
        let text: String = names.into_iter().map(read).collect();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Alive,
    Dead,
}

impl Machine {
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
