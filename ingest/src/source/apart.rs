//! A source whose calls may take long, on a thread of its own.
//!
//! What waits for a store far away must not keep its reader from commands. So the source is handed to a thread with each call
//! that may wait, and comes back with the answer. While it is away, polls tell that nothing came, and what is asked about it
//! is answered as it was before. Dropped, it tells the source to give up waiting, and leaves it to its thread.

use super::{PartitionStatus, Polled, RecordBatch, Source, SourceError, SourcePosition, SourceStatus, Started};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How much longer than the source's own timeout its answer to a poll is waited for.
const POLL_GRACE: Duration = Duration::from_millis(50);
/// How long an answer to a start is waited for; one that comes later is told with the next.
const START_WAIT: Duration = Duration::from_millis(500);
/// After so long a wait, the status says so.
const WAIT_TOLD_AFTER: Duration = Duration::from_secs(2);

/// A source whose waits end when it is told to.
pub(crate) trait MayHang: Source + 'static {
    /// Set, it ends all waits, now and from now on.
    fn stop(&self) -> Arc<AtomicBool>;
}

/// See the module.
pub(crate) struct Apart<S> {
    /// None while it is away.
    source: Option<Box<S>>,
    stop: Arc<AtomicBool>,
    calls: Sender<(Box<S>, Call)>,
    answers: Receiver<(Box<S>, Answer)>,
    /// Since when the source is away.
    away_since: Instant,
    is_paused: bool,
    /// What a poll brought that was paused meanwhile.
    held: Option<(RecordBatch, Result<Polled, SourceError>)>,
    /// The answer to a start that was waited for no longer.
    late_start: Option<Vec<Started>>,
    /// As they were when the source was last here.
    seen: RefCell<(Vec<PartitionStatus>, SourceStatus)>,
}

enum Call {
    Poll(RecordBatch, Duration),
    Start(SourcePosition),
}

enum Answer {
    Polled(RecordBatch, Result<Polled, SourceError>),
    Started(Result<Vec<Started>, SourceError>),
}

impl<S: MayHang> Apart<S> {
    /// # Errors
    /// [`SourceError::Unavailable`] if the operating system gives no thread.
    pub(crate) fn new(source: S) -> Result<Apart<S>, SourceError> {
        let (calls, to_do) = channel::<(Box<S>, Call)>();
        let (done, answers) = channel();
        let thread = std::thread::Builder::new().name("source-apart".to_owned()).spawn(move || {
            for (mut source, call) in to_do {
                let answer = match call {
                    Call::Poll(mut batch, timeout) => {
                        let polled = source.poll(&mut batch, timeout);
                        Answer::Polled(batch, polled)
                    }
                    Call::Start(known) => Answer::Started(source.start(&known)),
                };
                if done.send((source, answer)).is_err() {
                    return;
                }
            }
        });
        thread
            .map_err(|error| SourceError::Unavailable { doing: "start a thread".to_owned(), why: error.to_string() })?;
        Ok(Apart {
            stop: source.stop(),
            source: Some(Box::new(source)),
            calls,
            answers,
            away_since: Instant::now(),
            is_paused: false,
            held: None,
            late_start: None,
            seen: RefCell::default(),
        })
    }

    /// Sends the source off with a call; false if it is away already.
    fn send(&mut self, call: impl FnOnce() -> Call) -> Result<bool, SourceError> {
        let Some(mut source) = self.source.take() else { return Ok(false) };
        match self.is_paused {
            true => source.pause(),
            false => source.resume(),
        }
        self.away_since = Instant::now();
        self.calls.send((source, call())).map_err(|_| ended())?;
        Ok(true)
    }

    /// Waits for the source to come back with an answer; none if it does not in time.
    fn receive(&mut self, timeout: Duration) -> Result<Option<Answer>, SourceError> {
        match self.answers.recv_timeout(timeout) {
            Ok((source, answer)) => {
                self.seen.get_mut().1 = source.status();
                self.source = Some(source);
                Ok(Some(answer))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

/// A panic ended the thread; it was logged where it happened.
fn ended() -> SourceError {
    let why = "an internal error ended its thread; the log says more".to_owned();
    SourceError::Fatal { doing: "read the source".to_owned(), why }
}

impl<S: MayHang> Source for Apart<S> {
    fn poll(&mut self, batch: &mut RecordBatch, timeout: Duration) -> Result<Polled, SourceError> {
        batch.clear();
        if !self.is_paused
            && let Some((held, polled)) = self.held.take()
        {
            *batch = held;
            return polled;
        }
        if let Some(started) = &self.late_start {
            return Ok(Polled::Assigned(started.iter().map(|one| one.partition.clone()).collect()));
        }
        if self.held.is_none() {
            self.send(|| Call::Poll(std::mem::take(batch), timeout))?;
        }
        match self.receive(timeout + POLL_GRACE)? {
            None => Ok(Polled::Idle),
            Some(Answer::Polled(polled_batch, polled)) if self.is_paused && matches!(polled, Ok(Polled::Batch)) => {
                self.held = Some((polled_batch, polled));
                Ok(Polled::Idle)
            }
            Some(Answer::Polled(polled_batch, polled)) => {
                *batch = polled_batch;
                polled
            }
            Some(Answer::Started(Ok(started))) => {
                let names = started.iter().map(|one| one.partition.clone()).collect();
                self.late_start = Some(started);
                Ok(Polled::Assigned(names))
            }
            // Nothing began; the next poll says again what is to.
            Some(Answer::Started(Err(_))) => Ok(Polled::Idle),
        }
    }

    fn start(&mut self, known: &SourcePosition) -> Result<Vec<Started>, SourceError> {
        if let Some(started) = self.late_start.take() {
            return Ok(started);
        }
        let late = || SourceError::Unavailable {
            doing: "find where to begin".to_owned(),
            why: "the store has not answered yet".to_owned(),
        };
        if !self.send(|| Call::Start(known.clone()))? {
            return Err(late());
        }
        match self.receive(START_WAIT)? {
            Some(Answer::Started(started)) => started,
            // The other kind of answer cannot come: the source was here.
            None | Some(Answer::Polled(..)) => Err(late()),
        }
    }

    fn seek(&mut self, partition: &str, offset: u64) -> Result<(), SourceError> {
        match &mut self.source {
            Some(source) => source.seek(partition, offset),
            None => Err(SourceError::Unavailable {
                doing: format!("go on in {partition} at {offset}"),
                why: "the store has not answered yet".to_owned(),
            }),
        }
    }

    fn pause(&mut self) {
        self.is_paused = true;
    }

    fn resume(&mut self) {
        self.is_paused = false;
    }

    fn commit(&mut self, durable: &SourcePosition) {
        if let Some(source) = &mut self.source {
            source.commit(durable);
        }
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let mut seen = self.seen.borrow_mut();
        if let Some(source) = &self.source {
            seen.0 = source.partitions();
        }
        seen.0.clone()
    }

    fn status(&self) -> SourceStatus {
        let mut seen = self.seen.borrow_mut();
        let mut status = match &self.source {
            Some(source) => {
                seen.1 = source.status();
                seen.1.clone()
            }
            None => seen.1.clone(),
        };
        status.paused = self.is_paused;
        let waits_for = self.away_since.elapsed();
        if self.source.is_none() && waits_for > WAIT_TOLD_AFTER {
            status.last_error.get_or_insert(format!("waiting for its store for {} s", waits_for.as_secs()));
        }
        status
    }
}

impl<S> Drop for Apart<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::memory::{Fault, MemoryObjects};
    use crate::source::files::{FilesOptions, FilesSource, StartAt};

    const SOON: Duration = Duration::from_millis(20);

    fn source(objects: Arc<MemoryObjects>, start: StartAt) -> Apart<FilesSource> {
        let paths = vec!["s3://b/*.ndjson".to_owned()];
        let options = FilesOptions { paths, start, objects: Some(objects), ..FilesOptions::default() };
        Apart::new(FilesSource::open(options).expect("valid")).expect("a thread")
    }

    fn poll_until(source: &mut Apart<FilesSource>, batch: &mut RecordBatch, wanted: fn(&Polled) -> bool) -> Polled {
        let begin = Instant::now();
        loop {
            let polled = source.poll(batch, SOON).expect("polled");
            if wanted(&polled) {
                return polled;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it never came: {polled:?}");
        }
    }

    #[test]
    fn a_store_that_hangs_holds_nobody_up() {
        let objects = MemoryObjects::new(|request| if request == 0 { Fault::None } else { Fault::Hang });
        objects.put("s3://b/a.ndjson", "{}\n");
        let mut source = source(objects, StartAt::Earliest);
        let mut batch = RecordBatch::new();
        poll_until(&mut source, &mut batch, |polled| matches!(polled, Polled::Assigned(_)));
        source.start(&SourcePosition::new()).expect("started");
        let begin = Instant::now();
        for _ in 0..3 {
            assert_eq!(source.poll(&mut batch, SOON).expect("polled"), Polled::Idle);
        }
        assert!(source.seek("s3://b/a.ndjson", 0).is_err() && source.partitions().len() <= 1);
        source.pause();
        assert!(source.status().paused);
        let stop = source.stop.clone();
        drop(source);
        assert!(stop.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_start_that_is_late_is_told_with_the_next() {
        // The listing, then the look for the end of what is there.
        let objects = MemoryObjects::new(|request| {
            if request == 1 {
                std::thread::sleep(START_WAIT * 2);
            }
            Fault::None
        });
        objects.put("s3://b/a.ndjson.gz", Vec::new());
        let paths = vec!["s3://b/*".to_owned()];
        let options =
            FilesOptions { paths, start: StartAt::Latest, objects: Some(objects.clone()), ..Default::default() };
        let mut source = Apart::new(FilesSource::open(options).expect("valid")).expect("a thread");
        objects.put("s3://b/a.ndjson.gz", gzip(b"{}\n{}\n"));
        let mut batch = RecordBatch::new();
        let assigned = poll_until(&mut source, &mut batch, |polled| matches!(polled, Polled::Assigned(_)));
        assert!(source.start(&SourcePosition::new()).is_err());
        assert_eq!(poll_until(&mut source, &mut batch, |polled| matches!(polled, Polled::Assigned(_))), assigned);
        let started = source.start(&SourcePosition::new()).expect("started");
        assert_eq!((started.len(), started[0].offset), (1, 6));
    }

    #[test]
    fn what_came_while_paused_waits() {
        let objects = MemoryObjects::new(|_| Fault::None);
        objects.put("s3://b/a.ndjson", "{}\n");
        let mut source = source(objects, StartAt::Earliest);
        let mut batch = RecordBatch::new();
        poll_until(&mut source, &mut batch, |polled| matches!(polled, Polled::Assigned(_)));
        source.start(&SourcePosition::new()).expect("started");
        // Sent off before the pause, answered behind it.
        source.send(|| Call::Poll(RecordBatch::new(), SOON)).expect("sent");
        source.pause();
        for _ in 0..5 {
            assert_eq!(source.poll(&mut batch, SOON).expect("polled"), Polled::Idle);
        }
        source.resume();
        assert_eq!(poll_until(&mut source, &mut batch, |polled| *polled != Polled::Idle), Polled::Batch);
        assert_eq!(batch.len(), 1);
        assert_eq!(poll_until(&mut source, &mut batch, |polled| *polled != Polled::Idle), Polled::End);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).expect("packed");
        packed.finish().expect("packed")
    }
}
