//! From the store to others: changes of live audiences and rows of facts, as they come, to Kafka, addresses and files.
//!
//! Who enters and who leaves a live audience is a row of the engine's own fact [`engine::catalog::AUDIENCE_CHANGES`], so a sink passes on
//! rows of a fact and nothing else. Rows that were logged have numbers that outlive a crash; those of a backfill have none and
//! are not passed on.
//!
//! 1. [`SinkQueues`] takes rows of the newest snapshot into a queue on disk for each sink. A checkpoint waits for it, so no row is
//!    forgotten before its sinks have it; a queue knows which row comes next, so none is queued twice.
//! 2. A thread for each sink brings batches from its queue to the other side ([`Deliver`]), one at a time and in order, and
//!    notes how far it is. A batch may be sent again after a failure or a crash, then with the same bounds and the same key: at
//!    least once, and once for whoever looks at keys. Files, and Kafka with transactions, do that by themselves.
//! 3. What fails is tried again, waiting longer each time; what is refused for good becomes a dead letter
//!    ([`engine::catalog::DEAD_LETTERS`]).
//!
//! A queue is bounded. If it is full, rows wait in memory, the next checkpoint waits for room, and in time those who write: a
//! sink that cannot keep up holds back the sources, unless it was told to pass rows over instead.
//!
//! * `definition`: what a sink is told. `deliver`: the other side. `record`: a row as JSON.
//! * `tap`: taking rows; `queue`: keeping them; `worker`: delivering them. `report`: how a sink is.
//! * `files`, `kafka`: other sides.

mod definition;
mod deliver;
pub mod files;
#[cfg(feature = "kafka")]
pub mod kafka;
mod queue;
mod record;
mod report;
mod tap;
mod worker;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

pub use crate::stop::Stop;
pub use definition::{
    BACKOFF, BACKOFF_MAX, BATCH_BYTES, BATCH_BYTES_MAX, BATCH_RECORDS, BATCH_RECORDS_MAX, Initial, LINGER, QUEUE_BYTES,
    QUEUE_BYTES_MIN, SinkDefinition, Takes, WhenFull,
};
pub use deliver::{Connector, Deliver, Delivery, DeliveryError, DeliveryRecord, Refusal, SinkIdentity};
pub use report::{SinkReport, SinkState};
pub use tap::{ReadDefinition, SinkQueues};

use engine::catalog::Wanted;
use engine::store::Store;
use queue::Queue;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tap::Sink;
use worker::Worker;

/// How often is looked whether something was published.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long one who changes the sinks waits for threads that end.
const END_WAIT: Duration = Duration::from_secs(5);
/// How often is looked whether they have.
const END_LOOK: Duration = Duration::from_millis(2);

/// The threads that deliver to the sinks of a store.
#[derive(Debug)]
pub struct Sinks {
    shared: Arc<Shared>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    queues: Arc<SinkQueues>,
    stop: Stop,
    /// Held while threads are told to end and started, so that a sink has one at a time. Nobody waits for a thread while they hold it.
    looking: Mutex<()>,
    running: Mutex<BTreeMap<String, Running>>,
    /// Threads that were told to end and may not have yet, by sink, which gets no other one until then.
    ending: Mutex<BTreeMap<String, Running>>,
}

/// What a look came to.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// No queue is full and holds up.
    had_room: bool,
    /// No thread is ending.
    is_settled: bool,
}

/// A thread that delivers.
#[derive(Debug)]
struct Running {
    /// What it was started for; another one is started for another.
    text: String,
    queue: Arc<Queue>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Sinks {
    /// Begins to pass on what `store`, whose tap `queues` is, publishes.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(store: Arc<Store>, queues: Arc<SinkQueues>) -> std::io::Result<Sinks> {
        let shared = Arc::new(Shared {
            store,
            queues,
            stop: Stop::default(),
            looking: Mutex::default(),
            running: Mutex::default(),
            ending: Mutex::default(),
        });
        let dispatched = shared.clone();
        let run = move || dispatched.dispatch();
        let dispatcher = std::thread::Builder::new().name("sinks".to_owned()).spawn(run)?;
        Ok(Sinks { shared, dispatcher: Mutex::new(Some(dispatcher)) })
    }

    /// Brings the sinks to what the newest snapshot declares: new ones begin with it, others go, and each is told what it is
    /// to do. Waits a moment for those that end; one that takes longer goes on by itself.
    ///
    /// # Errors
    /// The disk's, or the operating system's if it gives no thread.
    pub fn look(&self) -> std::io::Result<()> {
        let since = Instant::now();
        while !self.shared.look()?.is_settled && since.elapsed() < END_WAIT {
            std::thread::sleep(END_LOOK);
        }
        Ok(())
    }

    /// Lets a sink that could not go on try again at once.
    ///
    /// # Errors
    /// As [`Sinks::look`].
    pub fn retry(&self, name: &str) -> std::io::Result<()> {
        {
            let _looking = self.shared.look_alone();
            let known = self.shared.running().remove(name);
            self.shared.tell_to_end(known.map(|known| (name.to_owned(), known)));
            self.shared.queues.open_anew(name);
        }
        self.look()
    }

    /// How a sink is.
    pub fn report(&self, name: &str) -> Option<SinkReport> {
        self.shared.queues.report(name)
    }

    /// How all sinks are, by name.
    pub fn reports(&self) -> Vec<(String, SinkReport)> {
        self.shared.queues.reports()
    }

    /// From now on nobody waits for a queue that is full: the server ends.
    pub fn lift_bounds(&self) {
        self.shared.queues.lift_bounds();
    }

    /// Ends all threads; what they were sending goes again after the next start. Rows are taken further on.
    pub fn stop(&self) {
        self.lift_bounds();
        self.shared.stop.set();
        let dispatcher = self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = dispatcher {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
        let gone = {
            let _looking = self.shared.look_alone();
            let running = std::mem::take(&mut *self.shared.running());
            self.shared.tell_to_end(running);
            std::mem::take(&mut *self.shared.ending())
        };
        for thread in gone.into_values().filter_map(|running| running.thread) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        // Every change of the map is a single step.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After each publish, brings the queues to it.
    fn dispatch(&self) {
        let (mut seen, mut failure) = (None, None);
        while !self.stop.wait(LOOK_INTERVAL) {
            let epoch = self.store.snapshot().epoch();
            if seen == Some(epoch) && self.ending().is_empty() {
                continue;
            }
            match self.look() {
                // A full queue is looked at again, whatever is published.
                Ok(look) => seen = look.had_room.then_some(epoch),
                Err(error) => {
                    let error = error.to_string();
                    if failure.as_ref() != Some(&error) {
                        tracing::error!(error, "rows could not be brought to the sinks");
                        failure = Some(error);
                    }
                }
            }
        }
    }

    fn look_alone(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By who looks alone.
    fn tell_to_end(&self, gone: impl IntoIterator<Item = (String, Running)>) {
        let mut ending = self.ending();
        for (name, running) in gone {
            running.stop.set();
            running.queue.wake();
            ending.insert(name, running);
        }
    }

    fn look(&self) -> std::io::Result<Look> {
        let _looking = self.look_alone();
        let had_room = self.queues.pass(&self.store.snapshot());
        let sinks: BTreeMap<String, Arc<Sink>> =
            self.queues.sinks().into_iter().map(|sink| (sink.name.clone(), sink)).collect();
        let stays = |name: &str, running: &Running| {
            sinks.get(name).is_some_and(|sink| {
                sink.wanted == Wanted::Running
                    && sink.text == running.text
                    && sink.queue.as_ref().is_some_and(|queue| Arc::ptr_eq(queue, &running.queue))
            })
        };
        let gone: Vec<_> = self.running().extract_if(.., |name, running| !stays(name, running)).collect();
        self.tell_to_end(gone);
        let mut ending = self.ending();
        ending.retain(|_, running| running.thread.as_ref().is_some_and(|thread| !thread.is_finished()));
        let mut running = self.running();
        for (name, sink) in &sinks {
            let is_due = !running.contains_key(name) && !ending.contains_key(name) && !self.stop.is_set();
            if sink.wanted == Wanted::Running && is_due {
                running.extend(self.start(sink)?.map(|started| (name.clone(), started)));
            }
        }
        for sink in sinks.values() {
            let state = match sink.wanted {
                Wanted::Running => continue,
                Wanted::Paused => SinkState::Paused,
                Wanted::Stopped => SinkState::Stopped,
            };
            // What its thread said last.
            sink.told.change(|told| {
                if told.state != SinkState::Failed {
                    told.state = state
                }
            });
        }
        Ok(Look { had_room: had_room?, is_settled: ending.is_empty() })
    }

    fn start(&self, sink: &Sink) -> std::io::Result<Option<Running>> {
        let stop = Arc::new(Stop::default());
        let Some(worker) = Worker::new(sink, Arc::downgrade(&self.store), stop.clone()) else { return Ok(None) };
        let Some(queue) = sink.queue.clone() else { return Ok(None) };
        let told = sink.told.clone();
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                let why = "its thread panicked, which is a defect; the log has the place. Start it again".to_owned();
                told.change(|told| (told.state, told.error) = (SinkState::Failed, Some(why)));
            }
        };
        let thread = std::thread::Builder::new().name(format!("sink-{}", sink.name)).spawn(run)?;
        Ok(Some(Running { text: sink.text.clone(), queue, stop, thread: Some(thread) }))
    }
}
