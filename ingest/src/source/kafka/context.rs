//! What the library tells us on its own: changes of the assignment, errors, log lines.
//!
//! A change is only noted here. It takes effect when the caller has answered it, so that no partition changes hands with
//! records of it under way.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A change of the group's mind.
#[derive(Debug)]
pub(super) enum Change {
    /// These partitions, topic and number, are to be ours.
    Assign(Vec<(String, i32)>),
    /// These are no longer to be ours.
    Revoke { partitions: Vec<(String, i32)>, lost: bool },
}

#[derive(Debug, Default)]
pub(super) struct Context {
    changes: Mutex<Vec<Change>>,
    last_error: Mutex<Option<String>>,
    /// Nobody answers any more: changes take effect at once.
    closing: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of the state is a single assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *lock(&self.changes))
    }

    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// Keeps the newest error; logs the first since things went well.
    pub(super) fn note(&self, error: &str) {
        let before = lock(&self.last_error).replace(error.to_owned());
        if before.is_none() {
            tracing::warn!(error, "kafka source in trouble; it keeps trying");
        }
    }

    /// Records came.
    pub(super) fn note_success(&self) {
        if lock(&self.last_error).take().is_some() {
            tracing::info!("kafka source reads again");
        }
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error too, so that these lines, which repeat, are for people who look closely.
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        self.note(&code.map_or_else(|| reason.to_owned(), |code| format!("{code}: {reason}")));
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = || {
            let elements = list.elements();
            elements.iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
        };
        let change = match event {
            _ if self.closing.load(Ordering::Relaxed) => {
                if let Err(error) = release(consumer, list) {
                    tracing::debug!(%error, "hand partitions over while closing");
                }
                return;
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assign(partitions()),
            _ => Change::Revoke { partitions: partitions(), lost: consumer.assignment_lost() },
        };
        lock(&self.changes).push(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.note(&format!("tell the broker how far we are: {error}"));
        }
    }
}

/// Hands partitions over: of an eager group all at once, of a cooperative one those listed.
pub(super) fn release(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// Waits until the partitions that were let go have stopped.
///
/// Letting a partition go only asks its reader to stop. Assigned anew and let go once more before the answer came, it is
/// asked twice, and the library ends the process at the second answer. Request and answer pass through the queue of the
/// library's one thread, in which the first question here comes behind the request and the second behind the answer. A
/// consumer that is closing may not be asked: it answers no more.
pub(super) fn settle(consumer: &BaseConsumer<Context>) -> KafkaResult<()> {
    (0..2).try_for_each(|_| consumer.assignment().map(drop))
}
