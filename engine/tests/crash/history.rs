//! A random history of one data directory: lives of a store, each ended by a restart, a crash or a failing disk.
//!
//! Users whose id begins with `l` come by logged writes, those with `r` by a source that can send again; so what must be there
//! after a crash is a prefix of each of the two streams: of the logged steps at least those acknowledged (synced, published, or
//! shown when the store was opened), of the source exactly those before the offset that the store tells.

use crate::model::{State, check_ids, event_of, read};
use crate::rows::{OpenTables, Tables};
use crate::tap::RowList;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Metric, TagType, Unit, Zone};
use engine::clock::ManualClock;
use engine::ids::{Lsn, TagId};
use engine::store::{
    Audience, Definition, NewErasure, Once, OpenError, Options, PurgeError, RowTap, Snapshot, Store, TableError,
    WriteError, check,
};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use engine::vfs::memory::MemoryVfs;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) const FOLDER: &str = "/data/beluga";
const SOURCE: &str = "job";
const TOPIC: &str = "topic/0";
const SET: TagId = TagId(16);
const CHOICE: TagId = TagId(17);
const FLAG: TagId = TagId(18);
const NUMBER: TagId = TagId(19);
/// Tells one state from the next: each logged batch sets it to its own number.
const CLOCK: TagId = TagId(20);
const FACT: TagId = TagId(21);
const NAME: &str = "purchase";
const SPACE: &str = "taste";
/// Ids of each stream.
const LOGGED_USERS: u64 = 40;
const EXTRA_COLUMNS_MAX: usize = 3;
/// A moment in 2096, which the files of a history have: newer than what tables forget, by the clock of the machine.
const NOW_MS: i64 = 4_000_000_000_000;
const VALUES: [&str; 4] = ["", "a", "b", "a value that is longer than the others"];

/// What may happen to the store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) kills: bool,
    pub(crate) power_cuts: bool,
    /// Random calls fail.
    pub(crate) faults: bool,
    /// Calls may fail, at random or by choice.
    pub(crate) may_fail: bool,
    /// The fact gets columns, is dropped and declared anew, and old days leave its table.
    pub(crate) fact_changes: bool,
    /// Histories are short, since steps take long.
    pub(crate) short: bool,
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

pub(crate) struct History {
    random: Random,
    trouble: Trouble,
    pub(crate) vfs: MemoryVfs,
    options: Options,
    clock: Arc<ManualClock>,
    open_tables: OpenTables,
    /// Those of this life.
    tables: Option<Arc<dyn Tables>>,
    /// Processes begun so far.
    lives: u64,
    /// The fact as it was declared last, and how many columns it has beside the two that it is counted by.
    fact: TagId,
    extra_columns: usize,
    /// Days before this one are to leave the table; a failure left open whether they have.
    dropping: Option<i32>,
    /// Whether days ever left the table.
    has_dropped: bool,
    /// Logs of tables are cut short when they are summed up, so older versions cannot be read.
    forgetful: bool,
    tap: Arc<RowList>,
    /// The logged stream: the state after each step; those up to `durable` were acknowledged.
    logged: Vec<State>,
    durable: usize,
    /// Those up to here were written by a process that was killed, and the power was not cut since.
    present: usize,
    /// The replayable stream: the state after each batch; a checkpoint covered those up to `saved`.
    sent: Vec<State>,
    saved: usize,
    /// Where each logged step ends in the log; `None` for one made by an earlier life.
    ends: Vec<Option<Lsn>>,
    /// Steps with a key, and which logged step they were.
    once: Vec<(Once, UpdateBatch, usize)>,
    /// What each published number showed.
    shown: BTreeMap<u64, State>,
    /// A snapshot taken some time ago and what it showed then.
    kept: Option<(Snapshot, State)>,
    /// Counts the extra tags.
    names: u64,
    /// Counts the uploaded lists; the last one is being uploaded. One begun in an earlier life is never finished.
    lists: u64,
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A table could not be looked after: writes may go on.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The fact, with some columns beside the two that it is counted by.
/// Whether nothing is taken of a user any more.
fn keeps_out(store: &Store, id: &str) -> bool {
    let mut batch = UpdateBatch::new();
    batch.begin_user(id.as_bytes());
    store.suppressed_in(&batch).expect("good") == 1
}

fn purchase(extra_columns: usize) -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    let mut columns = vec![column("category", ColumnType::String), column("amount", ColumnType::Integer)];
    columns.extend((0..extra_columns).map(|number| column(&format!("extra_{number}"), ColumnType::Integer)));
    Fact {
        id: FACT,
        columns,
        activity: Activity { dimensions: vec![0], measures: vec![1] },
        retention_days: None,
        deduplicate_days: Some(1_000),
        zone: Zone::default(),
    }
}

fn base_catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let declare = |catalog: &mut Catalog, name, tag_type| catalog.declare(name, tag_type).expect("a good name");
    assert_eq!(declare(&mut catalog, "interest", TagType::Set), SET);
    assert_eq!(declare(&mut catalog, "city", TagType::Enum), CHOICE);
    assert_eq!(declare(&mut catalog, "member", TagType::Flag), FLAG);
    assert_eq!(declare(&mut catalog, "spend", TagType::Number(Unit::Decimal { scale: 2 })), NUMBER);
    assert_eq!(declare(&mut catalog, "clock", TagType::Number(Unit::Integer)), CLOCK);
    assert_eq!(catalog.declare_fact(NAME, purchase(0)), Ok(FACT));
    catalog.declare_space(SPACE, 3, Metric::Dot).expect("a good name");
    catalog
}

impl History {
    pub(crate) fn new(seed: u64, trouble: Trouble, open_tables: OpenTables) -> History {
        let mut random = Random(seed);
        let vfs = MemoryVfs::default();
        let clock = Arc::new(ManualClock::default());
        let forgetful = random.chance(4);
        vfs.set_now_ms(if forgetful { 0 } else { NOW_MS });
        let tap = Arc::new(RowList::default());
        let options = Options {
            shard_count: random.pick(&[1, 2, 4]),
            // Sometimes so little that writes have to wait for checkpoints.
            memory_bytes_max: random.pick(&[2_000, 1 << 30]),
            workers: None,
            publishers: None,
            clock: clock.clone(),
            tables: None,
            tap: Some(tap.clone()),
        };
        History {
            random,
            trouble,
            vfs,
            options,
            clock,
            open_tables,
            tables: None,
            lives: 0,
            fact: FACT,
            extra_columns: 0,
            dropping: None,
            has_dropped: false,
            forgetful,
            tap,
            logged: vec![State::default()],
            durable: 0,
            present: 0,
            sent: vec![State::default()],
            saved: 0,
            ends: vec![None],
            once: Vec::new(),
            shown: BTreeMap::new(),
            kept: None,
            names: 0,
            lists: 0,
        }
    }

    pub(crate) fn run(mut self) {
        for _ in 0..2 + self.random.below(if self.trouble.short { 2 } else { 4 }) {
            self.live();
        }
        self.vfs.repair();
        let store = self.open_well();
        drop(store);
        let report = check(&self.vfs, Path::new(FOLDER), |_| {});
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }

    /// A history in which one chosen call fails, the process is started again, and later the power goes. False if there
    /// are fewer calls than that.
    pub(crate) fn run_failing_at(mut self, call: u64, lasting: bool) -> bool {
        self.vfs.fail_at(call, lasting, std::io::ErrorKind::StorageFull);
        let before = self.vfs.calls();
        self.live_for(40);
        let reached = self.vfs.calls() - before >= call;
        self.vfs.repair();
        self.live_for(3);
        self.vfs.power_cut(call);
        self.present = 0;
        self.open_well();
        reached
    }

    /// A history after some lives without trouble, with something in the log that no checkpoint covers.
    pub(crate) fn left_behind(mut self) -> History {
        self.live_for(60);
        self.crash(false);
        self.live_for(20);
        let store = self.open_well();
        for _ in 0..3 {
            let end = self.write(&store).map(|()| self.ends.last().copied().flatten().expect("just written"));
            store.sync(end.expect("nothing fails")).expect("nothing fails");
        }
        drop(store);
        self
    }

    /// What could be asked of the state after each step.
    pub(crate) fn states(&self) -> Vec<State> {
        let sent = self.sent.last().expect("begins with one");
        let visible = self.logged.iter().map(|state| state.visible().with_users_of(sent));
        visible.collect()
    }

    /// From opening to a crash.
    fn live(&mut self) {
        if self.trouble.faults && self.random.chance(3) {
            self.break_disk(30);
        }
        let steps = self.random.below(if self.trouble.short { 25 } else { 50 });
        let failed = self.live_for(steps);
        self.crash(failed);
    }

    /// From opening to the end of the process; whether the disk failed.
    fn live_for(&mut self, steps: u64) -> bool {
        let Ok(store) = self.open() else { return true };
        if self.settle().is_err() {
            return true;
        }
        self.judge(&store);
        self.next_list();
        if self.trouble.faults && self.random.chance(2) {
            self.break_disk(200);
        }
        let mut failed = false;
        for _ in 0..steps {
            if let Err(error) = self.step(&store) {
                assert!(self.trouble.may_fail, "nothing fails here: {error}");
                if let StepError::Write(error) = &error {
                    self.expect_read_only(&store, error);
                }
                failed = true;
                break;
            }
        }
        if let Some((snapshot, state)) = self.kept.take() {
            let now = read(&snapshot, self.tables()).expect("good");
            assert!(now == state, "a snapshot has changed:\n{}", state.difference(&now));
        }
        failed
    }

    fn break_disk(&mut self, within_calls: u64) {
        let kind = self.random.pick(&[std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other]);
        let (call, lasting) = (1 + self.random.below(within_calls), self.random.chance(2));
        self.vfs.fail_at(call, lasting, kind);
    }

    fn crash(&mut self, failed: bool) {
        self.vfs.repair();
        let cut = self.trouble.power_cuts && (!self.trouble.kills || self.random.chance(2));
        if cut {
            self.vfs.power_cut(self.random.next());
            self.present = 0;
        } else if !failed {
            // What a killed process wrote is with the operating system, until the power goes.
            self.present = self.logged.len() - 1;
        }
    }

    /// Starts as a server does.
    fn open(&mut self) -> Result<Store, OpenError> {
        self.lives += 1;
        let tables = (self.open_tables)(&self.vfs, self.lives)?;
        self.options.tables = Some(tables.clone());
        self.tables = Some(tables);
        let store = Store::open(Arc::new(self.vfs.clone()), Path::new(FOLDER), self.options.clone())?;
        self.tables().sweep()?;
        Ok(store)
    }

    fn open_well(&mut self) -> Store {
        let store = self.open().expect("nothing fails");
        self.settle().expect("nothing fails");
        self.judge(&store);
        store
    }

    fn tables(&self) -> &dyn Tables {
        &**self.tables.as_ref().expect("the store was opened")
    }

    /// Ends what a failure left open.
    fn settle(&mut self) -> Result<(), TableError> {
        if let Some(day) = self.dropping {
            self.tables().drop_before(NAME, day)?;
            self.dropping = None;
        }
        Ok(())
    }

    /// Finds out what survived; it becomes the history.
    fn judge(&mut self, store: &Store) {
        let found = read(&store.snapshot(), self.tables()).expect("good");
        let offset = store.source_offset(SOURCE).unwrap_or(0) as usize;
        assert!((self.saved..self.sent.len()).contains(&offset), "offset {offset}, {} were saved", self.saved);
        let logged = found.of_users(b"l");
        let ids: Vec<String> = (0..LOGGED_USERS).map(|number| format!("l-{number}")).collect();
        let kept = (self.durable.max(self.present)..self.logged.len()).find(|kept| {
            // An erasure of somebody unknown shows in nothing but that they are kept out.
            let state = &self.logged[*kept];
            state.visible() == logged
                && ids.iter().all(|id| keeps_out(store, id) == state.erased().contains(id.as_bytes()))
        });
        let kept = kept.unwrap_or_else(|| {
            let acknowledged = self.logged[self.durable].visible().difference(&logged);
            let last = self.last().visible().difference(&logged);
            panic!("found, against what was acknowledged:\n{acknowledged}\nagainst the last step:\n{last}")
        });
        // Of facts that are dropped nothing is left, whoever sent it.
        let catalog = self.logged[kept].catalog.clone();
        self.sent.iter_mut().for_each(|state| state.put_catalog(catalog.clone()));
        self.know_fact(&catalog);
        self.tap.erase(self.logged[kept].erased());
        let sent = found.of_users(b"r");
        let users =
            |state: &State| (state.known.clone(), state.values.clone(), state.activity.clone(), state.rows.clone());
        assert_eq!(users(&sent), users(&self.sent[offset]));
        assert_eq!(store.source_offset(TOPIC).unwrap_or(0), self.logged[kept].offset, "the topic goes on behind it");
        self.logged.truncate(kept + 1);
        self.ends = vec![None; kept + 1];
        self.once.retain(|(_, _, step)| *step <= kept);
        self.sent.truncate(offset + 1);
        // What was shown once is never taken back.
        (self.durable, self.saved) = (kept, offset);
        self.observe(store);
    }

    /// The published view is that of all steps so far, and its number belongs to it alone.
    fn observe(&mut self, store: &Store) {
        let snapshot = store.snapshot();
        let found = read(&snapshot, self.tables()).expect("good");
        check_ids(&snapshot).expect("good");
        let expected = self.last().visible().with_users_of(self.sent.last().expect("begins with one"));
        assert!(found == expected, "found, against what was written:\n{}", expected.difference(&found));
        self.tap.take(&snapshot).expect("it has room");
        if snapshot.catalog().fact_of(self.fact).is_some() {
            self.tap.check(&found.of_users(b"l").rows, self.fact, self.has_dropped);
        }
        let number = snapshot.epoch().0;
        let before = self.shown.entry(number).or_insert_with(|| found.clone());
        assert!(*before == found, "epoch {number} showed something else:\n{}", before.difference(&found));
        let newest = self.shown.last_key_value().map(|(number, _)| *number);
        assert_eq!(newest, Some(number), "epochs rise");
        if self.random.chance(10) && !self.forgetful {
            self.kept = Some((snapshot, found));
        }
    }

    fn last(&self) -> &State {
        self.logged.last().expect("begins with one")
    }

    fn step(&mut self, store: &Store) -> Result<(), StepError> {
        if self.last().catalog.tags().len() == 0 {
            return Ok(self.put_catalog(store, base_catalog())?);
        }
        match self.random.below(if self.trouble.fact_changes { 31 } else { 27 }) {
            0..8 => self.write(store)?,
            8..10 => self.write_replayable(store)?,
            10..12 => self.sync(store)?,
            12..15 => {
                store.publish()?;
                self.durable = self.logged.len() - 1;
                self.observe(store);
            }
            15..18 => self.checkpoint(store)?,
            18..20 => {
                self.clock.set(self.random.below(90) as i64 * 86_400_000_000);
                while store.compact()?.is_some() {}
            }
            20 => self.change_catalog(store)?,
            21..23 => self.change_audiences(store)?,
            23 => self.repeat(store)?,
            24..26 => self.erase(store)?,
            26 => self.purge(store)?,
            27..29 => self.tend()?,
            29 => self.change_fact(store)?,
            _ => self.drop_days(store)?,
        }
        Ok(())
    }

    fn checkpoint(&mut self, store: &Store) -> Result<(), WriteError> {
        store.checkpoint()?;
        (self.durable, self.saved) = (self.logged.len() - 1, self.sent.len() - 1);
        self.observe(store);
        Ok(())
    }

    fn tend(&mut self) -> Result<(), TableError> {
        let choice = self.random.next();
        if !self.tables().tend(NAME, choice)? {
            self.kept = None;
        }
        Ok(())
    }

    /// Old days leave the table, of which all rows are in it then, so that it is known which rows these are.
    /// Users of the logged stream are erased, known or not.
    fn erase(&mut self, store: &Store) -> Result<(), WriteError> {
        let ids: Vec<String> =
            (0..1 + self.random.below(3)).map(|_| format!("l-{}", self.random.below(LOGGED_USERS))).collect();
        let mut state = self.last().clone();
        ids.iter().for_each(|id| state.erase(id.as_bytes()));
        self.begin(state);
        // What a view shows of them is gone from older ones too.
        self.kept = None;
        let asked = NewErasure { id: self.random.next().into(), digest: 1, key: u128::from(self.random.next()) | 1 };
        let bytes: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
        let erased = store.erase(&bytes, asked)?;
        assert_eq!(store.erase(&bytes, asked)?, erased, "an erasure of this name came before");
        self.durable = self.logged.len() - 1;
        self.tap.erase(self.last().erased());
        self.observe(store);
        Ok(())
    }

    /// Nothing that can be asked for changes; in no file is a byte of who was erased.
    fn purge(&mut self, store: &Store) -> Result<(), StepError> {
        self.kept = None;
        let purged = store.purge(&Arc::default());
        if let Err(PurgeError::Write(error)) = purged {
            return Err(error.into());
        }
        // One that begins makes a checkpoint first, but not one that goes on.
        store.publish()?;
        self.durable = self.logged.len() - 1;
        self.observe(store);
        match purged {
            Err(PurgeError::Table(error)) => Err(error.into()),
            Err(error @ (PurgeError::Waits(_) | PurgeError::Stopped)) => panic!("nobody is waited for: {error}"),
            Err(PurgeError::Remove(error)) if !self.trouble.may_fail => panic!("nothing fails here: {error}"),
            _ => {
                assert!(!matches!(purged, Ok(None)) || store.unclean_since().is_none());
                Ok(())
            }
        }
    }

    fn drop_days(&mut self, store: &Store) -> Result<(), StepError> {
        self.checkpoint(store)?;
        let day = self.random.below(4) as i32;
        self.dropping = Some(day);
        self.has_dropped = true;
        // A view that was taken before is of the same epoch, and shows what is left of it.
        self.kept = None;
        self.shown.pop_last();
        for stream in [&mut self.logged, &mut self.sent] {
            stream.last_mut().expect("begins with one").drop_rows_before(day);
        }
        self.settle()?;
        self.observe(store);
        Ok(())
    }

    /// The fact gets a column, or is dropped, or is declared anew.
    fn change_fact(&mut self, store: &Store) -> Result<(), WriteError> {
        let mut catalog = self.last().catalog.clone();
        if catalog.fact(NAME).is_some() && self.random.chance(2) {
            catalog.drop_fact(NAME);
            self.kept = None;
        } else {
            let known = catalog.fact(NAME).map_or(0, |_| self.extra_columns + 1);
            catalog.declare_fact(NAME, purchase(known.min(EXTRA_COLUMNS_MAX))).expect("columns come at the end");
        }
        self.put_catalog(store, catalog)
    }

    fn know_fact(&mut self, catalog: &Catalog) {
        if let Some(fact) = catalog.fact(NAME) {
            (self.fact, self.extra_columns) = (fact.id, fact.columns.len() - 2);
        }
    }

    /// Appends a step to the logged stream before it is tried: if it fails it may have happened all the same.
    fn begin(&mut self, state: State) {
        self.logged.push(state);
        self.ends.push(None);
    }

    fn write(&mut self, store: &Store) -> Result<(), WriteError> {
        let mut batch = self.batch('l');
        batch.begin_user(b"l-clock");
        batch.push(CLOCK, Change::Number(self.logged.len() as i64));
        let once = self.random.chance(3).then(|| Once {
            key: u128::from(self.random.next()),
            digest: u128::from(self.random.next()),
            now_seconds: 1_000,
            remember_seconds: 1_000,
            note: 31,
        });
        let mut state = self.last().clone();
        state.apply(&batch);
        let from_topic = once.is_none() && self.random.chance(3);
        state.offset += u64::from(from_topic);
        let offset = state.offset;
        self.begin(state);
        let written = if from_topic { store.write_from(&batch, TOPIC, offset)? } else { store.write(&batch, once)? };
        assert!(!written.repeated);
        if from_topic && self.random.chance(3) {
            assert!(store.write_from(&batch, TOPIC, offset)?.repeated, "the source has sent it before");
        }
        *self.ends.last_mut().expect("just begun") = Some(written.lsn);
        self.once.extend(once.map(|once| (once, batch, self.logged.len() - 1)));
        Ok(())
    }

    fn repeat(&mut self, store: &Store) -> Result<(), WriteError> {
        let Some((once, batch, step)) = self.once.last().cloned() else { return Ok(()) };
        let other = Once { digest: once.digest ^ 1, ..once };
        match store.write(&batch, Some(other)) {
            Err(WriteError::KeyReused) => {}
            // Making room comes first, and may fail.
            Err(error) => return Err(error),
            Ok(written) => panic!("a reused key was taken: {written:?}"),
        }
        let written = store.write(&batch, Some(once))?;
        assert!(written.repeated && written.note == once.note, "step {step} happened already");
        store.sync(written.lsn)?;
        self.durable = self.durable.max(step);
        Ok(())
    }

    fn write_replayable(&mut self, store: &Store) -> Result<(), WriteError> {
        let batch = self.batch('r');
        let mut state = self.sent.last().expect("begins with one").clone();
        state.catalog = self.last().catalog.clone();
        state.apply(&batch);
        let offset = self.sent.len() as u64;
        store.write_replayable(&batch, SOURCE, offset)?;
        self.sent.push(state);
        Ok(())
    }

    fn sync(&mut self, store: &Store) -> Result<(), WriteError> {
        let step = self.random.below(self.logged.len() as u64) as usize;
        if let Some(end) = self.ends[step] {
            store.sync(end)?;
            self.durable = self.durable.max(step);
        }
        Ok(())
    }

    fn put_catalog(&mut self, store: &Store, catalog: Catalog) -> Result<(), WriteError> {
        let mut state = self.last().clone();
        state.put_catalog(catalog.clone());
        self.begin(state);
        store.put_catalog(catalog.clone())?;
        self.durable = self.logged.len() - 1;
        self.sent.iter_mut().for_each(|state| state.put_catalog(catalog.clone()));
        self.know_fact(&catalog);
        Ok(())
    }

    /// Declares or drops a tag beside the five, or the space.
    fn change_catalog(&mut self, store: &Store) -> Result<(), WriteError> {
        let mut catalog = self.last().catalog.clone();
        let extra = catalog.tags().map(|(name, _)| name.to_owned()).find(|name| name.starts_with("extra"));
        match extra {
            _ if self.random.chance(4) => {
                if catalog.drop_space(SPACE).is_none() {
                    catalog.declare_space(SPACE, self.random.pick(&[2, 3, 5]), Metric::L2).expect("a good name");
                }
            }
            Some(name) if self.random.chance(2) => drop(catalog.drop_tag(&name)),
            _ => {
                self.names += 1;
                let types = [TagType::Set, TagType::Enum, TagType::Flag, TagType::Number(Unit::Timestamp)];
                let name = format!("extra_{}", self.names);
                catalog.declare(&name, self.random.pick(&types)).expect("a good name");
            }
        }
        self.put_catalog(store, catalog)
    }

    fn change_audiences(&mut self, store: &Store) -> Result<(), WriteError> {
        let name = self.random.pick(&["one", "two"]);
        let mut state = self.last().clone();
        if self.random.chance(3) {
            if state.audiences.remove(name).is_none() {
                assert!(!store.delete_audience(name)?);
                return Ok(());
            }
            self.begin(state);
            assert!(store.delete_audience(name)?);
        } else {
            let definition = if self.random.chance(2) {
                Definition::Expression("member".to_owned())
            } else {
                let list_id = self.list();
                self.next_list();
                match self.random.chance(2) {
                    true => Definition::Uploaded { list_id, user_count: 3 },
                    false => Definition::Live { expression: "member".to_owned(), list_id },
                }
            };
            let changed_at = self.logged.len() as i64;
            let audience = Audience { definition, description: "é".to_owned(), changed_at };
            state.audiences.insert(name.to_owned(), audience.clone());
            self.begin(state);
            store.put_audience(name, audience)?;
        }
        self.durable = self.logged.len() - 1;
        Ok(())
    }

    fn list(&self) -> String {
        format!("list-{}", self.lists)
    }

    fn next_list(&mut self) {
        self.lists += 1;
    }

    /// Changes of a few users whose ids begin with `stream`.
    fn batch(&mut self, stream: char) -> UpdateBatch {
        let mut batch = UpdateBatch::new();
        for _ in 0..1 + self.random.below(6) {
            let id = format!("{stream}-{}", self.random.below(LOGGED_USERS));
            batch.begin_user(id.as_bytes());
            for _ in 0..self.random.below(5) {
                if self.random.chance(3) {
                    self.push_event(&mut batch);
                } else {
                    self.push_change(&mut batch, stream);
                }
            }
        }
        batch
    }

    /// An event that may have come before, or one that takes it back.
    fn push_event(&mut self, batch: &mut UpdateBatch) {
        let event_id = format!("e{}", self.random.below(30));
        let (ts, category, amount) = event_of(&event_id);
        let is_retraction = self.random.chance(4);
        let head = EventHead { ts, is_retraction, event_id: &event_id, undeclared: "" };
        let mut values = vec![Value::Text(&category), Value::Integer(amount)];
        values.extend((0..self.extra_columns).map(|column| Value::Integer(ts + column as i64)));
        // Who has not heard that the fact was declared anew means the old one.
        let fact = if self.trouble.fact_changes && self.random.chance(20) { FACT } else { self.fact };
        batch.push_event(fact, &head, if is_retraction { &[] } else { &values });
    }

    fn push_change(&mut self, batch: &mut UpdateBatch, stream: char) {
        let value = self.random.pick(&VALUES);
        let number = self.random.pick(&[i64::MIN, -7, 0, 1, 250, i64::MAX]);
        if self.random.chance(6) {
            return self.push_vector(batch);
        }
        let change = match self.random.below(8) {
            0 => Change::Unset,
            1 | 2 => Change::Add(value),
            3 => Change::Remove(value),
            4 => Change::Enum(value),
            5 => Change::Flag(self.random.chance(2)),
            _ => Change::Number(number),
        };
        let fitting = match change {
            Change::Unset => self.random.pick(&[SET, CHOICE, FLAG, NUMBER]),
            Change::Add(_) | Change::Remove(_) => SET,
            Change::Enum(_) => CHOICE,
            Change::Flag(_) => FLAG,
            Change::Number(_) | Change::Event(_) | Change::Vector(_) => NUMBER,
        };
        if stream == 'l' && self.random.chance(5) {
            // A tag that comes and goes, may have another type, or was never declared.
            let extras = self.last().catalog.next_id().0;
            batch.push(TagId(CLOCK.0 + self.random.below(u64::from(extras + 2 - CLOCK.0)) as u32), change);
        } else if stream == 'l' && self.random.chance(5) {
            let list = self.list();
            let listed = if self.random.chance(5) { Change::Remove(&list) } else { Change::Add(&list) };
            batch.push(TagId::UPLOADS, listed);
        } else {
            batch.push(fitting, change);
        }
    }

    /// A vector of the space as it is now, or one of a length that it had or will have, or none any more.
    fn push_vector(&mut self, batch: &mut UpdateBatch) {
        let Some(space) = self.last().catalog.space(SPACE).copied() else { return };
        if self.random.chance(4) {
            return batch.push(space.id, Change::Unset);
        }
        let dimension = if self.random.chance(10) { 3 } else { space.dimension };
        let numbers: Vec<f32> = (0..dimension).map(|_| self.random.below(64) as f32 / 8.0 - 4.0).collect();
        batch.push_vector(space.id, &numbers);
    }

    /// Writes are over, and reading is not.
    fn expect_read_only(&mut self, store: &Store, error: &WriteError) {
        assert!(matches!(error, WriteError::ReadOnly { .. }), "{error}");
        assert!(store.read_only().is_some());
        self.vfs.repair();
        let mut batch = UpdateBatch::new();
        batch.begin_user(b"l-late");
        assert!(store.write(&batch, None).is_err());
        assert!(store.write_replayable(&batch, SOURCE, u64::MAX).is_err());
        assert!(store.put_catalog(Catalog::default()).is_err());
        assert!(store.publish().is_err());
        assert!(store.checkpoint().is_err());
        assert!(store.compact().is_err());
        read(&store.snapshot(), self.tables()).expect("queries go on");
    }
}
