//! Kafka topics as a source.
//!
//! Brokers that go away are no error: the library connects again by itself, [`Source::status`] tells what it sees
//! meanwhile. Records that are gone are never skipped silently: `auto.offset.reset` is off, and what happens then is
//! [`OnMissing`]'s. A record that comes twice is dropped by its offset. A name of a partition is `topic/number`.
//!
//! Of a group with several members, each must keep its own partitions only: when a partition changes hands, the new
//! member goes on where *its* position says. Members that share no positions read records twice; one process a group is
//! what this is made for.

mod ask;
mod connection;
mod context;
mod intake;
mod options;
mod security;
mod start;
mod table;

pub use options::{KafkaOptions, OnMissing, Reading, StartAt};
pub use security::{Sasl, SaslMechanism, Secret, Security, Tls};

use super::{
    PartitionStatus, Polled, RecordBatch, Revoked, Source, SourceError, SourcePosition, SourceStatus, Started,
};
use connection::{CHUNK_RECORDS_MAX, Connection, fatal};
use context::Change;
use intake::{Failure, Intake};
use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::{Finder, Table};

/// How long records are awaited before events are looked at again.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// How often partitions are forwarded again.
const FORWARD_INTERVAL: Duration = Duration::from_millis(500);

/// Kafka topics, read.
pub struct KafkaSource {
    connection: Connection,
    options: KafkaOptions,
    table: Table,
    /// The group's changes that are not dealt with yet.
    changes: VecDeque<Change>,
    /// Given to us and not begun.
    assigned: Vec<usize>,
    /// Whether the caller knows of all of those.
    assigned_told: bool,
    /// Taken from us; handed over with the next poll.
    revoked: Option<Vec<usize>>,
    /// Their next records are gone.
    astray: Vec<usize>,
    /// When partitions were forwarded last.
    forwarded_at: Instant,
    /// Mean size of the records read last, with which the next chunk is bounded.
    record_bytes_mean: usize,
    status: SourceStatus,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("options", &self.options).finish_non_exhaustive()
    }
}

impl KafkaSource {
    /// Checks the options and begins to connect, without waiting for a broker.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] names the setting.
    pub fn open(options: KafkaOptions) -> Result<KafkaSource, SourceError> {
        let connection = Connection::open(&options.client_config()?)?;
        let mut source = KafkaSource {
            connection,
            table: Table::default(),
            changes: VecDeque::new(),
            assigned: Vec::new(),
            assigned_told: false,
            revoked: None,
            astray: Vec::new(),
            forwarded_at: Instant::now(),
            record_bytes_mean: 1024,
            status: SourceStatus::default(),
            options,
        };
        match &source.options.reading {
            Reading::Group(_) => {
                let topics: Vec<&str> = source.options.topics.iter().map(String::as_str).collect();
                let subscribed = source.connection.consumer().subscribe(&topics);
                subscribed.map_err(|error| fatal("subscribe", &error.to_string()))?;
            }
            Reading::Partitions(numbers) => {
                for topic in &source.options.topics {
                    source.assigned.extend(numbers.iter().map(|number| source.table.intern(topic, *number)));
                }
                source.assigned.sort_unstable();
                source.assigned.dedup();
            }
        }
        Ok(source)
    }

    fn is_group(&self) -> bool {
        matches!(self.options.reading, Reading::Group(_))
    }

    fn names(&self, partitions: &[usize]) -> Vec<Arc<str>> {
        partitions.iter().map(|index| self.table.name(*index)).collect()
    }

    fn list(&self, offsets: impl IntoIterator<Item = (usize, u64)>) -> Result<TopicPartitionList, SourceError> {
        let partitions = offsets.into_iter().map(|(index, offset)| (self.table.get(index), table::offset(offset)));
        table::list(partitions)
            .map_err(|error| SourceError::Invalid { setting: "offset".to_owned(), what: error.to_string() })
    }

    /// Takes the group's changes; what the caller has to know of them, if anything.
    fn follow_group(&mut self) -> Result<Option<Polled>, SourceError> {
        self.changes.extend(self.connection.context().take_changes());
        while let Some(change) = self.changes.pop_front() {
            match change {
                Change::Assign(partitions) => {
                    let assigned = partitions.iter().map(|(topic, number)| self.table.intern(topic, *number));
                    self.assigned.extend(assigned);
                    self.assigned_told = false;
                    if self.assigned.is_empty() {
                        // More members than partitions. The group waits for this answer too.
                        self.begin(&[])?;
                    }
                }
                Change::Revoke { partitions, lost } => {
                    let indices: Vec<usize> =
                        partitions.iter().map(|(topic, number)| self.table.intern(topic, *number)).collect();
                    self.assigned.retain(|index| !indices.contains(index));
                    self.astray.retain(|index| !indices.contains(index));
                    let active = |index: &&usize| self.table.get(**index).active;
                    let ours: Vec<usize> = indices.iter().filter(active).copied().collect();
                    ours.iter().for_each(|index| self.table.get_mut(*index).active = false);
                    self.revoked = Some(indices);
                    if ours.is_empty() {
                        self.hand_over()?;
                    } else {
                        return Ok(Some(Polled::Revoked(Revoked { partitions: self.names(&ours), lost, gone: false })));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Gives revoked partitions back, now that the caller has done with them what it wanted.
    fn hand_over(&mut self) -> Result<(), SourceError> {
        let Some(revoked) = self.revoked.take() else { return Ok(()) };
        let list = self.list(revoked.into_iter().map(|index| (index, 0)))?;
        let consumer = self.connection.consumer();
        let released = context::release(consumer, &list).and_then(|()| context::settle(consumer));
        released.map_err(|error| fatal("hand partitions over", &error.to_string()))
    }

    /// Begins assigned partitions.
    fn begin(&mut self, started: &[(usize, u64)]) -> Result<(), SourceError> {
        for (index, _) in started {
            let partition = self.table.get(*index);
            self.connection.forward(&partition.topic, partition.number)?;
        }
        let list = self.list(started.iter().copied())?;
        let consumer = self.connection.consumer();
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&list),
        };
        assigned.map_err(|error| fatal("begin partitions", &error.to_string()))?;
        for (index, offset) in started {
            let partition = self.table.get_mut(*index);
            partition.next = *offset;
            partition.active = true;
        }
        Ok(())
    }

    /// Where these partitions go on, by what there is of them.
    fn decide(&self, partitions: &[usize], known: &SourcePosition) -> Result<Vec<Started>, SourceError> {
        let asked: Vec<&table::Partition> = partitions.iter().map(|index| self.table.get(*index)).collect();
        let options = &self.options;
        let found = ask::ask(&self.connection, &asked, known, options.start, options.request_timeout)?;
        let mut started = Vec::with_capacity(found.len());
        for mut found in found {
            // Fixed partitions are those that somebody wrote down; none is there by surprise.
            found.topic_known &= self.is_group();
            started.push(start::decide(&found, options.start, options.on_missing).map_err(SourceError::Missing)?);
        }
        Ok(started)
    }

    /// Puts partitions whose next records are gone where they are told to go on; those skips.
    fn return_astray(&mut self) -> Result<Option<Polled>, SourceError> {
        if self.astray.is_empty() {
            return Ok(None);
        }
        let mut known = SourcePosition::new();
        self.astray.iter().for_each(|index| known.set(self.table.name(*index), self.table.get(*index).next));
        let started = match self.decide(&self.astray, &known) {
            // As with any other question to a broker that is away.
            Err(error @ SourceError::Unavailable { .. }) => {
                self.connection.context().note(&error.to_string());
                return Ok(None);
            }
            started => started?,
        };
        let moved: Vec<(usize, u64)> =
            self.astray.iter().zip(&started).map(|(index, started)| (*index, started.offset)).collect();
        self.restart(&moved)?;
        let skips: Vec<Started> = started.into_iter().filter(|started| started.skipped.is_some()).collect();
        self.count_skips(&skips);
        Ok((!skips.is_empty()).then_some(Polled::Skipped(skips)))
    }

    fn count_skips(&mut self, started: &[Started]) {
        for Started { offset, skipped, .. } in started {
            if let Some(missing) = skipped {
                self.status.skipped_count += offset.saturating_sub(missing.needed);
                tracing::warn!(offset, "{missing}; going on where `on_missing` says");
            }
        }
    }

    /// Goes on in an active partition at `offset`.
    fn put(&mut self, index: usize, offset: u64) -> Result<(), SourceError> {
        if self.astray.contains(&index) {
            return self.restart(&[(index, offset)]);
        }
        let partition = self.table.get(index);
        let timeout = self.options.request_timeout;
        let consumer = self.connection.consumer();
        let sought = consumer.seek(&partition.topic, partition.number, table::offset(offset), timeout);
        sought.map_err(|error| SourceError::Unavailable {
            doing: format!("go on in {} at offset {offset}", partition.name),
            why: error.to_string(),
        })?;
        self.table.get_mut(index).next = offset;
        Ok(())
    }

    /// Goes on in astray partitions. The library has stopped those, and begins a stopped one only by an assignment: of
    /// these, where a group is cooperative, else of all.
    fn restart(&mut self, moved: &[(usize, u64)]) -> Result<(), SourceError> {
        let moves = self.list(moved.iter().copied())?;
        moved.iter().for_each(|(index, offset)| self.table.get_mut(*index).next = *offset);
        let consumer = self.connection.consumer();
        let restarted = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                consumer.incremental_unassign(&moves).and_then(|()| consumer.incremental_assign(&moves))
            }
            RebalanceProtocol::Eager | RebalanceProtocol::None => {
                let active = self.table.active().map(|partition| (partition, table::offset(partition.next)));
                table::list(active).and_then(|list| consumer.assign(&list))
            }
        };
        let settled = restarted.and_then(|()| context::settle(consumer));
        settled.map_err(|error| fatal("begin partitions again", &error.to_string()))?;
        self.astray.retain(|index| !moved.iter().any(|(other, _)| other == index));
        Ok(())
    }

    /// Stopping a partition undoes its forwarding, at some time after the call that stops it; what comes after a new
    /// start would wait in a queue that nobody reads. Doing it again is cheap and moves what waits there.
    fn keep_forwarding(&mut self) -> Result<(), SourceError> {
        if self.forwarded_at.elapsed() < FORWARD_INTERVAL {
            return Ok(());
        }
        self.forwarded_at = Instant::now();
        self.table.active().try_for_each(|partition| self.connection.forward(&partition.topic, partition.number))
    }

    /// Fills the batch, waiting up to `timeout` for the first record.
    fn fill(&mut self, batch: &mut RecordBatch, timeout: Duration) -> Result<(), SourceError> {
        let (records_max, bytes_max) = (self.options.batch_records_max, self.options.batch_bytes_max);
        let mut timeout = timeout;
        while batch.len() < records_max && batch.size_bytes() < bytes_max {
            let fitting = (bytes_max - batch.size_bytes()) / self.record_bytes_mean.max(1);
            let max = fitting.min(records_max - batch.len()).clamp(1, CHUNK_RECORDS_MAX);
            let before = (batch.len(), batch.size_bytes());
            let mut intake = Intake {
                table: &mut self.table,
                status: &mut self.status,
                batch,
                finder: Finder::default(),
                failed: Vec::new(),
            };
            let taken = self.connection.take(max, timeout, |message| intake.take(&message));
            let failed = intake.failed;
            failed.into_iter().try_for_each(|failure| self.note_failure(failure))?;
            let records = batch.len() - before.0;
            if let Some(mean) = (batch.size_bytes() - before.1).checked_div(records) {
                self.record_bytes_mean = mean;
            }
            if taken == 0 {
                break;
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    fn note_failure(&mut self, failure: Failure) -> Result<(), SourceError> {
        let Failure { partition, name, code, text } = failure;
        match (code, partition) {
            (RDKafkaErrorCode::AutoOffsetReset, Some(index)) => {
                if !self.astray.contains(&index) {
                    self.astray.push(index);
                }
            }
            // The library would go on behind what it cannot read.
            (RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::NotImplemented, _) => {
                let next = partition.map_or(0, |index| self.table.get(index).next);
                return Err(fatal(&format!("read {name} at offset {next}"), &format!("{code}: {text}")));
            }
            _ => self.connection.context().note(&format!("{name}: {code}: {text}")),
        }
        Ok(())
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, batch: &mut RecordBatch, timeout: Duration) -> Result<Polled, SourceError> {
        batch.clear();
        self.table.clear_batch();
        self.hand_over()?;
        let deadline = Instant::now() + timeout;
        loop {
            self.connection.serve(Duration::ZERO)?;
            self.keep_forwarding()?;
            if let Some(told) = self.follow_group()? {
                return Ok(told);
            }
            let wait = deadline.saturating_duration_since(Instant::now()).min(WAIT_MAX);
            if !self.assigned.is_empty() {
                // Told before, the caller tries again only after a while.
                if !std::mem::replace(&mut self.assigned_told, true) || wait.is_zero() {
                    return Ok(Polled::Assigned(self.names(&self.assigned)));
                }
                self.connection.serve(wait)?;
                continue;
            }
            if let Some(told) = self.return_astray()? {
                return Ok(told);
            }
            if self.status.paused {
                self.connection.serve(wait)?;
            } else {
                self.fill(batch, wait)?;
            }
            if !batch.is_empty() {
                self.connection.context().note_success();
                return Ok(Polled::Batch);
            }
            if wait.is_zero() {
                return Ok(Polled::Idle);
            }
        }
    }

    fn start(&mut self, known: &SourcePosition) -> Result<Vec<Started>, SourceError> {
        if self.assigned.is_empty() {
            return Ok(Vec::new());
        }
        let started = self.decide(&self.assigned, known)?;
        let offsets: Vec<(usize, u64)> =
            self.assigned.iter().zip(&started).map(|(index, started)| (*index, started.offset)).collect();
        self.begin(&offsets)?;
        self.assigned.clear();
        self.count_skips(&started);
        Ok(started)
    }

    fn seek(&mut self, partition: &str, offset: u64) -> Result<(), SourceError> {
        let index = self.table.find_active(partition);
        let index = index.ok_or_else(|| SourceError::NotAssigned { partition: partition.to_owned() })?;
        self.put(index, offset)
    }

    fn pause(&mut self) {
        self.status.paused = true;
    }

    fn resume(&mut self) {
        self.status.paused = false;
    }

    fn commit(&mut self, durable: &SourcePosition) {
        if !self.is_group() {
            return;
        }
        let leaving = self.revoked.iter().flatten().map(|index| self.table.get(*index));
        let ours = self.table.active().chain(leaving);
        let offsets = ours.filter_map(|partition| Some((partition, table::offset(durable.get(&partition.name)?))));
        let told = table::list(offsets).and_then(|list| match list.count() {
            0 => Ok(()),
            _ => self.connection.consumer().commit(&list, CommitMode::Async),
        });
        if let Err(error) = told {
            self.connection.context().note(&format!("tell the broker how far we are: {error}"));
        }
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        // The library's own position has gone over markers of transactions, which are no records.
        let list = self.connection.consumer().position().unwrap_or_default();
        let reached: HashMap<(String, i32), u64> = list
            .elements()
            .iter()
            .filter_map(|element| {
                let offset = u64::try_from(element.offset().to_raw()?).ok()?;
                Some(((element.topic().to_owned(), element.partition()), offset))
            })
            .collect();
        let mut partitions: Vec<PartitionStatus> = self
            .table
            .active()
            .map(|partition| {
                let reached = reached.get(&(partition.topic.to_string(), partition.number)).copied();
                let end = self.connection.end(&partition.topic, partition.number);
                let lag = end.map(|end| end.saturating_sub(partition.next.max(reached.unwrap_or(0))));
                PartitionStatus { partition: partition.name.clone(), position: partition.next, end, lag }
            })
            .collect();
        partitions.sort_by(|one, other| one.partition.cmp(&other.partition));
        partitions
    }

    fn status(&self) -> SourceStatus {
        SourceStatus {
            last_error: self.connection.context().last_error(),
            buffered_count: self.connection.buffered_count(),
            ..self.status.clone()
        }
    }
}
