//! Searching the events of facts: who did what no activity index tells.
//!
//! [`TableScanner`] reads a fact's Delta Lake table at the snapshot's version and the rows that are not in it yet. What can be
//! ruled out is: days by their folders, files by what the log says of them, row groups and pages by their smallest and
//! largest times, slots and values. Of the rows that are left only a few columns are read: shard, slot, weight and what is
//! added up, or their time where events are told one by one.
//!
//! A row that takes another back repeats its values with weight −1, so it fits the same conditions and both are undone in what
//! is added up. Sums are exact: whole numbers in 128 bits, checked, floating point numbers without rounding until the end.
//!
//! * [`condition`]: a condition as an expression over columns. * [`json`]: values in JSON.
//! * [`reading`]: how rows are read, in parts. * [`recent`]: rows that are not in the table yet.
//! * [`tally`]: what is added up per user. * [`told`]: events one by one, by [`texts`] of a column together.
//! * [`kinds`]: the same, each as one thing.

mod condition;
mod json;
mod kinds;
mod reading;
mod recent;
mod tally;
mod texts;
mod told;

pub(crate) use condition::{membership, places};

use crate::facts::{DeltaTables, RowError};
use crate::threads::Threads;
use condition::Bits;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use engine::audience::ops::QueryError;
use engine::audience::scan::{
    EventScan, FactScanner, KindScan, Scan, ScanError, ScanFigure, ScanStats, Scanned, ToldEvents, ToldKinds,
};
use engine::catalog::{ColumnType, Fact};
use engine::error::Class;
use engine::ids::{Slot, TagId};
use engine::store::Snapshot;
use kinds::Kinds;
use reading::{Gather, Reading, Wanted};
use recent::Recent;
use roaring::RoaringBitmap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tally::{Count, FloatSum, Tally, Users, WholeSum};
use told::Told;

/// Memory of all scans that run at once, unless it is set otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 1 << 30;
/// How soon a cancelled query is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Searches the events of facts in their tables, on threads of its own. Blocks; may be used from many threads.
#[derive(Debug)]
pub struct TableScanner {
    tables: Arc<DeltaTables>,
    environment: Arc<RuntimeEnv>,
    memory_bytes_max: usize,
    threads: Threads,
}

impl TableScanner {
    /// A scanner of tables that all its scans together use at most so much memory for.
    ///
    /// # Errors
    /// What the operating system says, if it gives no threads.
    pub fn new(tables: Arc<DeltaTables>, memory_bytes_max: usize) -> std::io::Result<TableScanner> {
        let threads = Threads::new("scan")?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes_max)))
            .build_arc()
            .map_err(std::io::Error::other)?;
        Ok(TableScanner { tables, environment, memory_bytes_max, threads })
    }
}

impl FactScanner for TableScanner {
    fn scan(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<Scanned, QueryError> {
        let (users, _, stats) = self.answer(snapshot, scan, within, None, cancelled)?;
        Ok(Scanned { users, stats })
    }

    fn figure(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        (shard, slot): (usize, Slot),
        cancelled: &AtomicBool,
    ) -> Result<Option<i128>, QueryError> {
        let mut within = vec![RoaringBitmap::new(); snapshot.shards().len()];
        within[shard].insert(slot);
        let (_, figure, _) = self.answer(snapshot, scan, Some(&within), Some((shard, slot)), cancelled)?;
        Ok(figure)
    }

    fn events(
        &self,
        snapshot: &Snapshot,
        scan: &EventScan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<ToldEvents, QueryError> {
        // Where most are asked about it takes longer to read other columns for some than to leave the others out then.
        let known: u64 = snapshot.shards().iter().map(|shard| u64::from(shard.slot_count())).sum();
        let is_most = |within: &&[RoaringBitmap]| within.iter().map(RoaringBitmap::len).sum::<u64>() > known / 2;
        let most = within.filter(is_most).map(|within| Arc::new(Bits::of(within)));
        let wanted = |fact: &Fact, within: Option<&Arc<Vec<RoaringBitmap>>>| {
            told::wanted(fact, scan, within.filter(|_| most.is_none()))
        };
        let (asked, users, shard_count) = (scan.clone(), most.clone(), snapshot.shards().len());
        let make = move || Told::new(shard_count, &asked, users.clone());
        let (told, reserved, stats) = self.gather(snapshot, scan.fact, wanted, within, cancelled, make)?;
        Ok(ToldEvents { shards: told.finish(), stats, held: Some(Box::new(reserved)) })
    }

    fn kinds(
        &self,
        snapshot: &Snapshot,
        scan: &KindScan,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
    ) -> Result<ToldKinds, QueryError> {
        let wanted = |fact: &Fact, within: Option<&Arc<Vec<RoaringBitmap>>>| kinds::wanted(fact, scan, within);
        let (asked, shard_count) = (scan.clone(), snapshot.shards().len());
        let make = move || Kinds::new(shard_count, &asked);
        let (told, reserved, stats) = self.gather(snapshot, scan.fact, wanted, within, cancelled, make)?;
        Ok(ToldKinds { stats, held: Some(Box::new(reserved)), ..told.finish() })
    }
}

impl TableScanner {
    /// The users who fit, the figure of the one that it is asked of, and how they were found.
    fn answer(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        figure_of: Option<(usize, Slot)>,
        cancelled: &AtomicBool,
    ) -> Result<(Vec<RoaringBitmap>, Option<i128>, ScanStats), QueryError> {
        match scan.figure {
            ScanFigure::Count => self.tallied::<Count>(snapshot, scan, within, figure_of, cancelled),
            ScanFigure::Sum(at) => {
                let fact = snapshot.catalog().fact_of(scan.fact);
                match fact.and_then(|fact| fact.columns.get(usize::from(at))).map(|column| column.column_type) {
                    Some(ColumnType::Float) => self.tallied::<FloatSum>(snapshot, scan, within, figure_of, cancelled),
                    Some(ColumnType::Integer | ColumnType::Decimal { .. }) => {
                        self.tallied::<WholeSum>(snapshot, scan, within, figure_of, cancelled)
                    }
                    _ => Err(QueryError::Invalid("the column has no sum any more; ask again".to_owned())),
                }
            }
        }
    }

    fn tallied<T: Tally>(
        &self,
        snapshot: &Snapshot,
        scan: &Scan,
        within: Option<&[RoaringBitmap]>,
        figure_of: Option<(usize, Slot)>,
        cancelled: &AtomicBool,
    ) -> Result<(Vec<RoaringBitmap>, Option<i128>, ScanStats), QueryError> {
        let wanted = |fact: &Fact, within: Option<&Arc<Vec<RoaringBitmap>>>| tally::wanted(fact, scan, within);
        let shard_count = snapshot.shards().len();
        let make = move || Users::<T>::new(shard_count);
        let (users, _reserved, stats) = self.gather(snapshot, scan.fact, wanted, within, cancelled, make)?;
        let figure = figure_of.and_then(|(shard, slot)| users.figure(shard, slot));
        Ok((users.fitting(scan.range), figure, stats))
    }

    /// What the wanted rows of a fact come to, the memory that is held for it, and how they were read.
    fn gather<G: Gather>(
        &self,
        snapshot: &Snapshot,
        of: TagId,
        wanted: impl Fn(&Fact, Option<&Arc<Vec<RoaringBitmap>>>) -> Wanted,
        within: Option<&[RoaringBitmap]>,
        cancelled: &AtomicBool,
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> Result<(G, MemoryReservation, ScanStats), QueryError> {
        let started = Instant::now();
        let catalog = snapshot.catalog();
        let name = catalog.name_of(of).unwrap_or("dropped").to_owned();
        let refuse = |class, why: String| QueryError::Scan(ScanError { fact: name.clone(), why, class });
        let Some(fact) = catalog.fact_of(of).cloned() else {
            return Err(refuse(Class::NotFound, "it is not declared any more; ask again".to_owned()));
        };
        let threads = self.threads.handle();
        let within = within.map(|within| Arc::new(within.to_vec()));
        let reading = Reading {
            wanted: wanted(&fact, within.as_ref()),
            fact,
            within,
            slot_counts: snapshot.shards().iter().map(engine::store::ShardSnapshot::slot_count).collect(),
            environment: Arc::clone(&self.environment),
            partitions: self.threads.count(),
        };
        let recent = Recent::new(snapshot, &reading, cancelled).map_err(|failure| self.error(failure, &refuse))?;
        let table = snapshot.table_epoch(of).map(|epoch| {
            let (tables, name, fact) = (Arc::clone(&self.tables), name.clone(), reading.fact.clone());
            // Waits for the disk, and is not waited for once it is cancelled.
            threads.spawn_blocking(move || tables.read_at(&name, &fact, epoch))
        });
        let (sender, receiver) = mpsc::channel();
        let running = threads.spawn(async move {
            // Nobody waits for it once it is cancelled.
            let table = match table {
                None => Ok(None),
                Some(opening) => opening.await.map_err(|error| error.to_string()).flatten().map(Some),
            };
            let _ = sender.send(match table {
                Ok(table) => reading.gather(table, recent, make).await,
                Err(why) => Err(Failure::Other(why)),
            });
        });
        let answer = loop {
            match receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(answer) => break answer,
                Err(mpsc::RecvTimeoutError::Timeout) if cancelled.load(Ordering::Relaxed) => {
                    running.abort();
                    return Err(QueryError::Cancelled);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let why = "reading panicked; the message is in the log of the process".to_owned();
                    return Err(refuse(Class::Internal, why));
                }
            }
        };
        let (gathered, reserved, mut stats) = answer.map_err(|failure| self.error(failure, &refuse))?;
        stats.microseconds = started.elapsed().as_micros() as u64;
        Ok((gathered, reserved, stats))
    }

    fn error(&self, failure: Failure, refuse: &impl Fn(Class, String) -> QueryError) -> QueryError {
        match failure {
            Failure::Cancelled => QueryError::Cancelled,
            Failure::Memory => refuse(Class::Exhausted, self.out_of_memory()),
            Failure::Overflow => {
                refuse(Class::Exhausted, "a sum is beyond 128 bits; ask for a shorter time".to_owned())
            }
            Failure::Recent(error) => refuse(Class::Corrupt, format!("rows in memory: {error}")),
            Failure::Other(error) => refuse(Class::Internal, error),
        }
    }

    fn out_of_memory(&self) -> String {
        format!(
            "it takes more than the {} bytes of memory that all scans may use; name fewer users, or a shorter time, or set `scan_memory_bytes` higher",
            self.memory_bytes_max
        )
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    Cancelled,
    Memory,
    Overflow,
    /// Rows that are not in the table yet are none of the fact.
    Recent(RowError),
    Other(String),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Failure {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Failure::Memory,
            _ => Failure::Other(error.to_string()),
        }
    }
}
