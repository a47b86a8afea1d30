//! The library's consumer and the queue on which it puts records for us.
//!
//! By default records and events come one by one through one queue, which costs an allocation and several locks each. Here
//! the partitions are forwarded to a queue of our own that is read a thousand records at a time, and the consumer's own
//! queue carries events only. This is the one file with calls into C; all else is the safe interface.

use super::super::SourceError;
use super::context::Context;
use rdkafka::bindings as c;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Records taken from the queue at a time, at most.
pub(super) const CHUNK_RECORDS_MAX: usize = 1024;

/// How long closing a consumer is waited for: longer than brokers take to hear that a member leaves.
const CLOSING_MAX: Duration = Duration::from_secs(15);

/// A consumer and its queues.
pub(super) struct Connection {
    /// Where partitions are forwarded to.
    records: NonNull<c::rd_kafka_queue_t>,
    /// The consumer's own: events.
    events: NonNull<c::rd_kafka_queue_t>,
    /// Room for a chunk. Between calls it holds no message.
    chunk: Vec<*mut c::rd_kafka_message_t>,
    /// Dropped when the connection is, and never before.
    consumer: ManuallyDrop<BaseConsumer<Context>>,
}

// SAFETY: the library's handles may be used from any thread, and `chunk` holds nothing between calls.
unsafe impl Send for Connection {}

/// A record or an error of a partition, in the library's memory.
pub(super) struct Message<'a> {
    raw: NonNull<c::rd_kafka_message_t>,
    owner: PhantomData<&'a c::rd_kafka_message_t>,
}

impl Connection {
    pub(super) fn open(config: &ClientConfig) -> Result<Connection, SourceError> {
        let consumer = BaseConsumer::from_config_and_context(config, Context::default()).map_err(open_error)?;
        let client = consumer.client().native_ptr();
        // SAFETY: `client` is live; both give a new reference, or null, which is checked.
        let (records, events) = unsafe { (c::rd_kafka_queue_new(client), c::rd_kafka_queue_get_consumer(client)) };
        match (NonNull::new(records), NonNull::new(events)) {
            (Some(records), Some(events)) => {
                let (chunk, consumer) = (Vec::with_capacity(CHUNK_RECORDS_MAX), ManuallyDrop::new(consumer));
                Ok(Connection { records, events, chunk, consumer })
            }
            _ => Err(fatal("open the consumer", "the library gave no queue")),
        }
    }

    pub(super) fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    pub(super) fn context(&self) -> &Context {
        self.consumer.context()
    }

    /// Sends the records of a partition that is about to be assigned to our queue.
    pub(super) fn forward(&self, topic: &str, partition: i32) -> Result<(), SourceError> {
        let lost = || fatal(&format!("forward {topic}/{partition}"), "the library knows no such partition");
        let topic = CString::new(topic).map_err(|_| lost())?;
        // SAFETY: the client is live and the name ends with a zero; the result is a new reference or null.
        let queue =
            unsafe { c::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition) };
        let queue = NonNull::new(queue).ok_or_else(lost)?;
        // SAFETY: both queues are live; forwarding keeps a reference of its own, so that ours is given back.
        unsafe {
            c::rd_kafka_queue_forward(queue.as_ptr(), self.records.as_ptr());
            c::rd_kafka_queue_destroy(queue.as_ptr());
        }
        Ok(())
    }

    /// Serves events for up to `timeout`, until none is left; changes of the assignment are in [`Context`] then.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] if the consumer is of no use any more.
    pub(super) fn serve(&self, timeout: Duration) -> Result<(), SourceError> {
        let mut timeout = timeout;
        // Bounded, so that a storm of events does not keep records waiting.
        for _ in 0..1024 {
            // SAFETY: the queue is live.
            if timeout.is_zero() && unsafe { c::rd_kafka_queue_length(self.events.as_ptr()) } == 0 {
                break;
            }
            match self.consumer.poll(timeout) {
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(fatal("read", &error.to_string()));
                }
                // Other errors are in the context already, with a better text.
                Some(Err(_)) | None => {}
                // All partitions were forwarded before they were assigned.
                Some(Ok(_)) => return Err(fatal("read", "a record came on the queue for events")),
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Takes what is there, `max` messages or a chunk at most, waiting up to `timeout` for the first. Gives how many.
    pub(super) fn take(&mut self, max: usize, timeout: Duration, mut each: impl FnMut(Message<'_>)) -> usize {
        // With room for more than one the library waits until all is filled, hence two calls.
        self.fill(max, Duration::ZERO);
        if self.chunk.is_empty() && !timeout.is_zero() {
            self.fill(1, timeout);
        }
        for message in &self.chunk {
            if let Some(raw) = NonNull::new(*message) {
                each(Message { raw, owner: PhantomData });
            }
        }
        let count = self.chunk.len();
        for message in self.chunk.drain(..) {
            // SAFETY: the message is ours since `fill`, is destroyed once, and no `Message` outlives the loop above.
            unsafe { c::rd_kafka_message_destroy(message) };
        }
        count
    }

    fn fill(&mut self, max: usize, timeout: Duration) {
        let max = max.clamp(1, self.chunk.capacity());
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `chunk` is empty and has room for `max` pointers, of which the call writes as many as it returns.
        unsafe {
            let count =
                c::rd_kafka_consume_batch_queue(self.records.as_ptr(), timeout_ms, self.chunk.as_mut_ptr(), max);
            self.chunk.set_len(usize::try_from(count).unwrap_or(0).min(max));
        }
    }

    /// Messages fetched and not taken.
    pub(super) fn buffered_count(&self) -> u64 {
        // SAFETY: the queue is live.
        unsafe { c::rd_kafka_queue_length(self.records.as_ptr()) as u64 }
    }

    /// The offset behind the last record of a partition as of the last answer of its broker.
    pub(super) fn end(&self, topic: &str, partition: i32) -> Option<u64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is live, the name ends with a zero, and both places live through the call.
        let outcome = unsafe {
            let client = self.consumer.client().native_ptr();
            c::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
        };
        (outcome == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| u64::try_from(high).ok()).flatten()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.context().close();
        // Answers a change that nobody answered yet; the library would wait for it.
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "unassign while closing");
        }
        // SAFETY: both references are ours and given back once; the consumer, which is dropped after this, keeps its own.
        unsafe {
            c::rd_kafka_queue_destroy(self.records.as_ptr());
            c::rd_kafka_queue_destroy(self.events.as_ptr());
        }
        // SAFETY: taken once, and nobody uses it after this.
        let consumer = unsafe { ManuallyDrop::take(&mut self.consumer) };
        // The library may wait for ever for an answer to a change that came while it closes. Whoever stops a source does not.
        let (closed, is_closed) = mpsc::channel();
        let close = move || {
            drop(consumer);
            let _ = closed.send(());
        };
        if thread::Builder::new().name("kafka-close".to_owned()).spawn(close).is_ok()
            && is_closed.recv_timeout(CLOSING_MAX) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("a kafka consumer does not close; its group waits until the session ends");
        }
    }
}

impl<'a> Message<'a> {
    fn raw(&self) -> &'a c::rd_kafka_message_t {
        // SAFETY: `take` hands out live messages only and destroys them when no `Message` is left.
        unsafe { self.raw.as_ref() }
    }

    /// The same for two messages of one chunk if and only if they are of the same topic.
    pub(super) fn topic_key(&self) -> usize {
        self.raw().rkt as usize
    }

    /// The topic's name; empty if the message has none, as an error may.
    pub(super) fn topic(&self) -> &'a str {
        if self.raw().rkt.is_null() {
            return "";
        }
        // SAFETY: the message holds a reference to its topic, whose name is a string that ends with a zero.
        unsafe { CStr::from_ptr(c::rd_kafka_topic_name(self.raw().rkt)) }.to_str().unwrap_or_default()
    }

    pub(super) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Why there is no record.
    pub(super) fn error(&self) -> Option<(RDKafkaErrorCode, String)> {
        if self.raw().err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is live; the text is a string that ends with a zero and lives as long, or null.
        let text = unsafe {
            let text = c::rd_kafka_message_errstr(self.raw.as_ptr());
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Some((self.raw().err.into(), text))
    }

    pub(super) fn key(&self) -> Option<&'a [u8]> {
        bytes(self.raw().key.cast(), self.raw().key_len)
    }

    pub(super) fn payload(&self) -> Option<&'a [u8]> {
        bytes(self.raw().payload.cast(), self.raw().len)
    }

    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live, and `kind` lives through the call.
        let timestamp = unsafe { c::rd_kafka_message_timestamp(self.raw.as_ptr(), &mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(timestamp)
    }
}

/// The bytes at `begin`, none if that is null.
fn bytes<'a>(begin: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: called with the parts of a live message, whose lifetime the callers put on the result.
    (!begin.is_null()).then(|| unsafe { std::slice::from_raw_parts(begin, len) })
}

pub(super) fn fatal(doing: &str, why: &str) -> SourceError {
    SourceError::Fatal { doing: doing.to_owned(), why: why.to_owned() }
}

/// Names the setting, and not its value: that may be a secret, and the library's own text repeats it.
fn open_error(error: KafkaError) -> SourceError {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => SourceError::Invalid {
            setting: name,
            what: "librdkafka knows no such setting, does not take this value, or was built without what it needs"
                .to_owned(),
        },
        KafkaError::ClientCreation(why) => SourceError::Invalid { setting: "kafka".to_owned(), what: why },
        error => fatal("open the consumer", &error.to_string()),
    }
}
