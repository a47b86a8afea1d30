//! The queue of what was read and waits for its look-ups.

use super::asker::{Asker, Finding, Ticket};
use super::definition::{Enrichment, OnFailure, OnMissing, Order};
use super::lookup::Arrival;
use super::report::LookupReport;
use super::splice::{Fate, KeyReader, refused, splice};
use crate::decode::LINE_BYTES_MAX;
use crate::decode::mapping::RecordContext;
use crate::source::{Record, RecordBatch, Started};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Records that wait, at most; what one poll brings comes on top.
const PENDING_RECORDS_MAX: usize = 32_768;

/// Bytes of these, with what was found for them.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// The look-ups of a source, and what waits for them.
#[derive(Debug)]
pub(crate) struct Stage {
    steps: Vec<Step>,
    order: Order,
    /// By rising number.
    queue: VecDeque<Entry>,
    next_number: u64,
    pending_records: usize,
    pending_bytes: usize,
    arrivals: Receiver<Arrival>,
    /// Reused: a record with what was found before.
    spliced: Vec<u8>,
}

#[derive(Debug)]
struct Step {
    name: Arc<str>,
    definition: Arc<Enrichment>,
    reader: KeyReader,
    asker: Asker,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    Slice(Slice),
    Mark(Mark),
}

/// Something that happened between records, and has its turn between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Partitions went on elsewhere.
    Skipped(Vec<Started>),
    /// There are no such partitions any more.
    Gone(Vec<Arc<str>>),
}

/// Records of one partition that were read together.
#[derive(Debug)]
struct Slice {
    partition: Arc<str>,
    records: RecordBatch,
    fates: Vec<Fate>,
    /// The look-up that is under way; behind the last one all is decided.
    step: usize,
    /// Records whose key is being looked up.
    undecided: usize,
    /// Bytes of what was found so far.
    found_bytes: usize,
}

/// What has its turn.
#[derive(Debug)]
pub(crate) enum Ready {
    /// Records of one partition, each with its fate.
    Records(RecordBatch, Vec<Fate>),
    /// See [`Mark`].
    Mark(Mark),
}

impl Stage {
    /// # Errors
    /// What is wrong with a look-up, for people.
    pub(crate) fn new(enrichments: &[Arc<Enrichment>]) -> Result<Stage, String> {
        let (sender, arrivals) = channel();
        let steps: Result<Vec<Step>, String> = enrichments
            .iter()
            .enumerate()
            .map(|(index, definition)| {
                let wrong = |error: super::EnrichmentError| format!("look-up `{}`: {error}", definition.name);
                definition.check().map_err(wrong)?;
                Ok(Step {
                    name: definition.name.as_str().into(),
                    reader: KeyReader::new(&definition.name, &definition.key).map_err(wrong)?,
                    asker: Asker::new(index, Arc::clone(definition), sender.clone()),
                    definition: Arc::clone(definition),
                })
            })
            .collect();
        let all_unordered = enrichments.iter().all(|enrichment| enrichment.order == Order::Unordered);
        Ok(Stage {
            steps: steps?,
            order: if all_unordered { Order::Unordered } else { Order::Ordered },
            queue: VecDeque::new(),
            next_number: 0,
            pending_records: 0,
            pending_bytes: 0,
            arrivals,
            spliced: Vec::new(),
        })
    }

    /// Whether records go by without being looked at.
    pub(crate) fn has_no_lookups(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.pending_records < PENDING_RECORDS_MAX && self.pending_bytes < PENDING_BYTES_MAX
    }

    /// Whether something of a partition waits.
    pub(crate) fn has(&self, partition: &str) -> bool {
        self.queue.iter().any(|entry| entry.waits.concerns(partition))
    }

    /// Takes in what was read. Its memory is given back where that is cheap.
    pub(crate) fn push(&mut self, records: &mut RecordBatch) {
        let now = Instant::now();
        for records in slices(records) {
            self.pending_records += records.len();
            self.pending_bytes += records.size_bytes();
            let fates = vec![Fate::AS_IT_IS; records.len()];
            let partition = Arc::clone(records.partition_name(0));
            let number =
                self.enqueue(Waits::Slice(Slice { partition, records, fates, step: 0, undecided: 0, found_bytes: 0 }));
            self.look_up(number, now);
        }
        self.drive(now);
    }

    /// Takes in what happened between records.
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.enqueue(Waits::Mark(mark));
    }

    fn enqueue(&mut self, waits: Waits) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push_back(Entry { number, waits });
        number
    }

    /// What has its turn next, if that is decided.
    pub(crate) fn next(&mut self) -> Option<Ready> {
        let index = match self.order {
            Order::Ordered => self.queue.front().filter(|entry| entry.waits.is_decided(self.steps.len())).map(|_| 0),
            Order::Unordered => self.first_free(),
        }?;
        Some(match self.queue.remove(index)?.waits {
            Waits::Mark(mark) => Ready::Mark(mark),
            Waits::Slice(slice) => {
                self.pending_records -= slice.records.len();
                self.pending_bytes -= slice.size_bytes();
                Ready::Records(slice.records, slice.fates)
            }
        })
    }

    /// The first that is decided and has none of its partitions before it.
    fn first_free(&self) -> Option<usize> {
        let mut held: HashSet<&str> = HashSet::new();
        self.queue.iter().position(|entry| {
            let is_free =
                entry.waits.is_decided(self.steps.len()) && entry.waits.partitions().all(|name| !held.contains(name));
            held.extend(entry.waits.partitions());
            is_free
        })
    }

    /// Takes in the answers there are, and asks what can be asked. Waits for the first answer, or for the time to ask
    /// again, `timeout` at most.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let now = Instant::now();
        self.drive(now);
        let due = self.steps.iter().filter_map(|step| step.asker.due_at(now)).min();
        let timeout = due.map_or(timeout, |due| timeout.min(due.saturating_duration_since(now)));
        match self.arrivals.recv_timeout(timeout) {
            Ok(arrival) => {
                let now = Instant::now();
                self.take(arrival, now);
                self.drive(now);
            }
            Err(_) => self.drive(Instant::now()),
        }
    }

    /// Answers first: one that is here came in time.
    fn drive(&mut self, now: Instant) {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.take(arrival, now);
        }
        for index in 0..self.steps.len() {
            let decided = self.steps[index].asker.drive(now);
            self.settle_all(index, decided, now);
        }
    }

    fn take(&mut self, arrival: Arrival, now: Instant) {
        let index = arrival.asker;
        let decided = self.steps[index].asker.take(arrival.request, arrival.result, now);
        self.settle_all(index, decided, now);
    }

    fn settle_all(&mut self, step: usize, decided: Vec<(Ticket, Finding)>, now: Instant) {
        for (ticket, finding) in decided {
            let Some(slice) = slice(&mut self.queue, ticket.slice) else { continue };
            let found = self.steps[step].settle(&mut slice.fates[ticket.record as usize], finding);
            slice.found_bytes += found;
            self.pending_bytes += found;
            slice.undecided -= 1;
            if slice.undecided == 0 {
                slice.step += 1;
                self.look_up(ticket.slice, now);
            }
        }
    }

    /// Looks up the keys of a slice, step by step as far as all is known at once.
    fn look_up(&mut self, number: u64, now: Instant) {
        let Some(slice) = slice(&mut self.queue, number) else { return };
        while let Some(step) = self.steps.get_mut(slice.step) {
            for (index, (record, fate)) in slice.records.iter().zip(&mut slice.fates).enumerate() {
                let ticket = Ticket { slice: number, record: index as u32 };
                match step.look_up(&record, &slice.partition, fate, ticket, &mut self.spliced, now) {
                    Some(found) => {
                        slice.found_bytes += found;
                        self.pending_bytes += found;
                    }
                    None => slice.undecided += 1,
                }
            }
            if slice.undecided > 0 {
                return;
            }
            slice.step += 1;
        }
    }

    /// Forgets what waits of partitions that somebody else reads now.
    pub(crate) fn discard(&mut self, partitions: &[Arc<str>]) {
        self.queue.retain_mut(|entry| match &mut entry.waits {
            Waits::Slice(slice) => !partitions.contains(&slice.partition),
            // It is found out again.
            Waits::Mark(Mark::Skipped(started)) => {
                started.retain(|started| !partitions.contains(&started.partition));
                !started.is_empty()
            }
            Waits::Mark(Mark::Gone(_)) => true,
        });
        self.after_discarding();
    }

    /// Forgets everything that waits, and gives up the requests. Answers the partitions that are no more: nobody will tell
    /// of them again.
    pub(crate) fn forget(&mut self) -> Vec<Arc<str>> {
        let gone = self.queue.drain(..).filter_map(|entry| match entry.waits {
            Waits::Mark(Mark::Gone(partitions)) => Some(partitions),
            Waits::Mark(Mark::Skipped(_)) | Waits::Slice(_) => None,
        });
        let gone = gone.flatten().collect();
        self.after_discarding();
        self.steps.iter_mut().for_each(|step| step.asker.give_up());
        gone
    }

    fn after_discarding(&mut self) {
        let slices = || self.queue.iter().filter_map(|entry| entry.waits.slice());
        self.pending_records = slices().map(|slice| slice.records.len()).sum();
        self.pending_bytes = slices().map(Slice::size_bytes).sum();
        let left: HashSet<u64> = self.queue.iter().map(|entry| entry.number).collect();
        self.steps.iter_mut().for_each(|step| step.asker.retain(|ticket| left.contains(&ticket.slice)));
    }

    /// Why records wait longer than they should, if they do.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.steps.iter().find_map(|step| Some(format!("look-up `{}`: {}", step.name, step.asker.trouble()?)))
    }

    /// How each look-up is.
    pub(crate) fn reports(&self) -> Vec<LookupReport> {
        self.steps.iter().map(|step| step.asker.report(&step.name)).collect()
    }
}

impl Step {
    /// How many bytes were found, if the record is decided as far as this look-up goes.
    fn look_up(
        &mut self,
        record: &Record<'_>,
        partition: &str,
        fate: &mut Fate,
        ticket: Ticket,
        spliced: &mut Vec<u8>,
        now: Instant,
    ) -> Option<usize> {
        let Fate::Taken(members) = fate else { return Some(0) };
        // What has no payload says nothing, and what is too long is refused behind us.
        let payload = record.payload.filter(|payload| !payload.trim_ascii().is_empty());
        let Some(mut payload) = payload.filter(|payload| payload.len() <= LINE_BYTES_MAX) else { return Some(0) };
        if !members.is_empty() {
            spliced.clear();
            splice(payload, members, spliced);
            payload = spliced;
        }
        let context =
            RecordContext { key: record.key, timestamp_ms: record.timestamp_ms, partition, offset: record.offset };
        let finding = match self.reader.key(payload, &context) {
            Ok(None) => return Some(0),
            Ok(Some(key)) => self.asker.want(key, ticket, now)?,
            Err(error) => {
                *fate = Fate::Refused(error);
                return Some(0);
            }
        };
        Some(self.settle(fate, finding))
    }

    /// What was found decides over a record. Answers how many bytes that is.
    fn settle(&self, fate: &mut Fate, finding: Finding) -> usize {
        let Fate::Taken(members) = fate else { return 0 };
        match finding {
            Finding::Found(object) => {
                let bytes = object.len();
                members.push((Arc::clone(&self.name), object));
                return bytes;
            }
            Finding::Missing => match self.definition.on_missing {
                OnMissing::Keep => {}
                OnMissing::Drop => *fate = Fate::Dropped,
                OnMissing::DeadLetter => *fate = Fate::Refused(refused(&self.name, "its key is not known there")),
            },
            Finding::Failed(why) => match self.definition.on_failure {
                // Those that wait never come here with a failure.
                OnFailure::Wait | OnFailure::Keep => {}
                OnFailure::DeadLetter => *fate = Fate::Refused(refused(&self.name, &why)),
            },
        }
        0
    }
}

impl Slice {
    fn size_bytes(&self) -> usize {
        self.records.size_bytes() + self.found_bytes
    }
}

impl Waits {
    fn slice(&self) -> Option<&Slice> {
        match self {
            Waits::Slice(slice) => Some(slice),
            Waits::Mark(_) => None,
        }
    }

    fn partitions(&self) -> impl Iterator<Item = &str> {
        let (slice, skipped, gone) = match self {
            Waits::Slice(slice) => (Some(slice), [].as_slice(), [].as_slice()),
            Waits::Mark(Mark::Skipped(started)) => (None, started.as_slice(), [].as_slice()),
            Waits::Mark(Mark::Gone(names)) => (None, [].as_slice(), names.as_slice()),
        };
        let of_slice = slice.into_iter().map(|slice| &*slice.partition);
        of_slice.chain(skipped.iter().map(|started| &*started.partition)).chain(gone.iter().map(|name| &**name))
    }

    fn concerns(&self, partition: &str) -> bool {
        self.partitions().any(|name| name == partition)
    }

    fn is_decided(&self, steps: usize) -> bool {
        self.slice().is_none_or(|slice| slice.step == steps)
    }
}

fn slice(queue: &mut VecDeque<Entry>, number: u64) -> Option<&mut Slice> {
    let index = queue.binary_search_by_key(&number, |entry| entry.number).ok()?;
    match &mut queue[index].waits {
        Waits::Slice(slice) => Some(slice),
        Waits::Mark(_) => None,
    }
}

/// The records by partition, in their order.
fn slices(records: &mut RecordBatch) -> Vec<RecordBatch> {
    let names: Vec<Arc<str>> = records.partition_names().cloned().collect();
    if names.len() == 1 {
        return vec![std::mem::take(records)];
    }
    // A partition may have several runs of records.
    let mut slices: Vec<RecordBatch> = Vec::new();
    let mut places: Vec<(Arc<str>, usize)> = Vec::new();
    let place_of: Vec<usize> = names
        .into_iter()
        .map(|name| {
            if let Some((_, place)) = places.iter().find(|(known, _)| *known == name) {
                return *place;
            }
            let mut slice = RecordBatch::new();
            slice.add_partition(Arc::clone(&name));
            slices.push(slice);
            places.push((name, slices.len() - 1));
            slices.len() - 1
        })
        .collect();
    for record in records.iter() {
        slices[place_of[record.partition]].push(Record { partition: 0, ..record });
    }
    slices.retain(|slice| !slice.is_empty());
    slices
}
