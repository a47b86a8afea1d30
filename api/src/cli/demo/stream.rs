//! What the users of the demo do, as a stream.

use super::Arguments;
use crate::cli::output::{duration, grouped};
use crate::error::{Failure, Kind};
use crate::server::Server;
use datasets::population::{Population, purchases};
use datasets::{DataSet, PURCHASE};
use engine::clock::Clock;
use ingest::clock::SystemClock;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a request goes out.
const TICK: Duration = Duration::from_millis(20);
/// How often a request waits until its events are seen.
const PROBE: Duration = Duration::from_millis(100);
/// Events a second while the demo serves on.
const TRICKLE: u64 = 100;

/// The events of a data set.
#[derive(Clone, Debug)]
pub(super) enum Events {
    /// So many of a population, as they happen.
    Generated(Population, u64),
    /// As they were.
    Read(Vec<String>),
}

impl Events {
    pub(super) fn of(data_set: DataSet, arguments: &Arguments, read: Vec<String>) -> Events {
        match data_set {
            DataSet::Population => {
                let population = Population { seed: arguments.seed, user_count: arguments.users };
                Events::Generated(population, arguments.events)
            }
            _ => Events::Read(read),
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Events::Generated(_, count) => *count,
            Events::Read(lines) => lines.len() as u64,
        }
    }

    /// The lines of some events.
    pub(super) fn lines(&self, range: Range<u64>, out: &mut String) {
        match self {
            Events::Generated(population, _) => {
                let now = SystemClock.now() / 1_000;
                range.for_each(|index| purchases::write_line(population, index, now, out));
            }
            Events::Read(lines) => {
                out.extend(lines[range.start as usize..range.end as usize].iter().map(String::as_str))
            }
        }
    }

    /// Goes on with generated events, slowly, until the answer is dropped.
    ///
    /// # Errors
    /// [`Failure`] if there is no thread or client for it.
    pub(super) fn keep_coming(&self, server: &Server) -> Result<Option<Trickle>, Failure> {
        let Events::Generated(..) = self else { return Ok(None) };
        if server.state().whole()?.catalog().declared_fact(PURCHASE).is_none() {
            return Ok(None);
        }
        let (events, door, stop) = (self.clone(), Door::of(server)?, Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let run = move || {
            let mut index = events.count();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1) / 10);
                // A server that ends refuses them, and this ends soon after.
                let _ = door.send(&events, index..index + TRICKLE / 10, "");
                index += TRICKLE / 10;
            }
        };
        let thread = std::thread::Builder::new().name("demo-events".to_owned()).spawn(run);
        let thread = thread.map_err(crate::server::no_threads)?;
        Ok(Some(Trickle { stop, thread: Some(thread) }))
    }
}

/// Events that go on coming while this lives.
pub(super) struct Trickle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The server's own door for events.
pub(super) struct Door {
    client: reqwest::blocking::Client,
    url: String,
}

impl Door {
    pub(super) fn of(server: &Server) -> Result<Door, Failure> {
        let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build();
        let client = client.map_err(|error| failed(&error))?;
        Ok(Door { client, url: format!("{}/v1/facts/{PURCHASE}", server.url()) })
    }

    /// Sends some events; answers how long it took until they were on disk (or seen, with that `query`).
    pub(super) fn send(&self, events: &Events, range: Range<u64>, query: &str) -> Result<Duration, Failure> {
        let mut body = String::new();
        events.lines(range, &mut body);
        let began = Instant::now();
        let request = self.client.post(format!("{}{query}", self.url)).body(body);
        let answer = request.send().and_then(reqwest::blocking::Response::error_for_status);
        answer.map_err(|error| failed(&error))?.bytes().map_err(|error| failed(&error))?;
        Ok(began.elapsed())
    }
}

fn failed(error: &reqwest::Error) -> Failure {
    Failure::new(Kind::LocalFile, format!("send events to the server: {error}"))
}

/// Sends all events at a rate, some of them waiting until they are seen.
pub(super) fn over_http(server: &Server, events: &Events, rate: u64) -> Result<(), Failure> {
    println!("Streaming {} purchases over HTTP, up to {} a second …", grouped(events.count()), grouped(rate));
    let (door, next, began) = (Door::of(server)?, AtomicU64::new(0), Instant::now());
    let (mut acknowledged, mut seen) = (Vec::new(), Vec::new());
    let failure = Mutex::new(None);
    let send_all = |tick: Duration, query: &str, took: &mut Vec<Duration>| {
        while let Some(range) = take(&next, events.count(), began, rate, tick) {
            match door.send(events, range, query) {
                Ok(time) => took.push(time),
                Err(error) => {
                    *crate::state::lock(&failure) = Some(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| send_all(PROBE, "?visible=true", &mut seen));
        send_all(TICK, "", &mut acknowledged);
    });
    if let Some(failure) = crate::state::lock(&failure).take() {
        return Err(failure);
    }
    let elapsed = began.elapsed();
    println!(
        "Streamed {} events in {:.1} s ({} a second): on disk and acknowledged after {}, seen by questions after {}.",
        grouped(events.count()),
        elapsed.as_secs_f64(),
        grouped((events.count() as f64 / elapsed.as_secs_f64()) as u64),
        spread(acknowledged),
        spread(seen),
    );
    Ok(())
}

/// The next events to send, when it is time; `None` when all are taken.
pub(super) fn take(next: &AtomicU64, count: u64, began: Instant, rate: u64, tick: Duration) -> Option<Range<u64>> {
    std::thread::sleep(tick);
    // What a slow machine is behind is not caught up in one request.
    let most = (rate as f64 * tick.as_secs_f64() * 2.0).ceil() as u64;
    let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
    let take = |from: u64| {
        let end = due.min(count).min(from + most);
        (from < count).then_some(end.max(from))
    };
    let from = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
    Some(from..take(from).unwrap_or(from))
}

/// The median and the 99th percentile, for people.
pub(super) fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times
            .get(index.min(times.len().saturating_sub(1)))
            .map_or_else(String::new, |time| duration(time.as_micros() as u64))
    };
    format!("{} (p99 {})", at(0.5), at(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_taken_once() {
        let (next, began) = (AtomicU64::new(0), Instant::now() - Duration::from_secs(1));
        let mut taken = Vec::new();
        while let Some(range) = take(&next, 1_000, began, 10_000, Duration::from_millis(1)) {
            taken.extend(range);
        }
        assert!(taken.into_iter().eq(0..1_000));
    }
}
