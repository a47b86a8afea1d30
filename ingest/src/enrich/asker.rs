//! The keys of one look-up that wait, and its requests.
//!
//! A key that waits is in one of three states: *due*, to be asked as soon as there is room for a request; *later*, after it
//! failed; *asked*. Records hang on it as tickets. All of it is driven by the reader's thread, so nothing here is locked.

use super::breaker::{Breaker, Gate, backoff};
use super::cache::Cache;
use super::definition::{Enrichment, OnFailure};
use super::lookup::{ANSWER_BYTES_MAX, Answer, Arrival, Asking, LookupError, Reply};
use super::report::{Latencies, LookupReport};
use crate::decode::json::{Json, Kind};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

/// A record that waits for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slice: u64,
    pub(super) record: u32,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// A JSON object.
    Found(Arc<str>),
    Missing,
    /// Why it could not be looked up.
    Failed(Arc<str>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Asker {
    index: usize,
    definition: Arc<Enrichment>,
    sender: Sender<Arrival>,
    cache: Option<Cache>,
    breaker: Breaker,
    waiting: HashMap<Arc<str>, Waiting>,
    /// May have keys that are not due any more; their state decides.
    due: VecDeque<Arc<str>>,
    later: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    in_flight: HashMap<u64, Request>,
    next_request: u64,
    hasher: RandomState,
    /// A key failed as often as it may, and its records wait.
    is_stuck: bool,
    counts: LookupReport,
    latencies: Latencies,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    failures: u32,
    tickets: Vec<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due,
    Later,
    Asked,
}

#[derive(Debug)]
struct Request {
    keys: Vec<Arc<str>>,
    sent: Instant,
    is_probe: bool,
    /// Dropped with it.
    _asking: Asking,
}

type Decided = Vec<(Ticket, Finding)>;

impl Asker {
    pub(super) fn new(index: usize, definition: Arc<Enrichment>, sender: Sender<Arrival>) -> Asker {
        Asker {
            index,
            cache: definition.cache.map(Cache::new),
            definition,
            sender,
            breaker: Breaker::default(),
            waiting: HashMap::new(),
            due: VecDeque::new(),
            later: BinaryHeap::new(),
            in_flight: HashMap::new(),
            next_request: 0,
            hasher: RandomState::new(),
            is_stuck: false,
            counts: LookupReport::default(),
            latencies: Latencies::default(),
        }
    }

    /// What is known of a key now; if it is nothing, the ticket is answered later.
    pub(super) fn want(&mut self, key: &str, ticket: Ticket, now: Instant) -> Option<Finding> {
        self.counts.lookups += 1;
        if let Some(known) = self.cache.as_mut().and_then(|cache| cache.get(key, now)) {
            self.counts.cached += 1;
            return Some(self.count(known.map_or(Finding::Missing, Finding::Found), 1));
        }
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.tickets.push(ticket);
            return None;
        }
        if !self.waits() && self.breaker.gate(now) == Gate::Resting && self.breaker.is_resting() {
            let why = self.resting_error();
            return Some(self.count(Finding::Failed(why), 1));
        }
        let key: Arc<str> = key.into();
        self.waiting.insert(Arc::clone(&key), Waiting { state: State::Due, failures: 0, tickets: vec![ticket] });
        self.due.push_back(key);
        None
    }

    /// Gives up what took too long, and sends requests while there is room.
    pub(super) fn drive(&mut self, now: Instant) -> Decided {
        let mut decided = Vec::new();
        let late = |request: &Request| now.saturating_duration_since(request.sent) >= self.definition.timeout;
        let late: Vec<u64> = self.in_flight.iter().filter(|(_, request)| late(request)).map(|(id, _)| *id).collect();
        for id in late {
            let why = format!("no answer within {} ms", self.definition.timeout.as_millis());
            decided.extend(self.take(id, Err(LookupError::passing(why)), now));
        }
        while let Some(Reverse((at, _))) = self.later.peek()
            && *at <= now
        {
            self.next_of_later();
        }
        while self.in_flight.len() < self.definition.in_flight {
            let is_probe = match self.breaker.gate(now) {
                Gate::Resting => break,
                Gate::Probe => true,
                Gate::Open => false,
            };
            if is_probe && !self.has_due() {
                // Whoever waits longest tries, though its time has not come.
                self.next_of_later();
            }
            if !self.send(is_probe, now) {
                break;
            }
        }
        decided
    }

    fn has_due(&self) -> bool {
        self.due.iter().any(|key| self.waiting.get(key).is_some_and(|waiting| waiting.state == State::Due))
    }

    /// Makes the first key of those that wait for a time due.
    fn next_of_later(&mut self) {
        while let Some(Reverse((_, key))) = self.later.pop() {
            if let Some(waiting) = self.waiting.get_mut(&key)
                && waiting.state == State::Later
            {
                waiting.state = State::Due;
                self.due.push_back(key);
                return;
            }
        }
    }

    /// Sends a request of keys that are due, if there are any.
    fn send(&mut self, is_probe: bool, now: Instant) -> bool {
        let keys_max = self.definition.lookup.keys_max().max(1);
        let mut keys = Vec::new();
        while keys.len() < keys_max
            && let Some(key) = self.due.pop_front()
        {
            if let Some(waiting) = self.waiting.get_mut(&key)
                && waiting.state == State::Due
            {
                waiting.state = State::Asked;
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return false;
        }
        if is_probe {
            self.breaker.probes();
        }
        let id = self.next_request;
        self.next_request += 1;
        self.counts.requests += 1;
        self.counts.keys += keys.len() as u64;
        let reply = Reply::new(self.sender.clone(), self.index, id);
        let asking = self.definition.lookup.ask(keys.clone(), reply);
        self.in_flight.insert(id, Request { keys, sent: now, is_probe, _asking: asking });
        true
    }

    /// Takes in the answer of a request; one that was given up is not heard.
    pub(super) fn take(&mut self, id: u64, result: Result<Vec<Answer>, LookupError>, now: Instant) -> Decided {
        let Some(request) = self.in_flight.remove(&id) else { return Vec::new() };
        let result = result.and_then(|answers| match answers.len() == request.keys.len() {
            true => Ok(answers),
            false => {
                Err(LookupError::lasting(format!("{} answers came for {} keys", answers.len(), request.keys.len())))
            }
        });
        let mut decided = Vec::new();
        match result {
            Ok(answers) => {
                self.latencies.note(now.saturating_duration_since(request.sent));
                if self.breaker.succeeded() {
                    // What waited for its time has waited for this.
                    while !self.later.is_empty() {
                        self.next_of_later();
                    }
                }
                self.is_stuck = false;
                self.counts.last_error = None;
                for (key, answer) in request.keys.into_iter().zip(answers) {
                    match answer.and_then(check) {
                        Ok(found) => {
                            if let Some(cache) = &mut self.cache {
                                cache.put(Arc::clone(&key), found.clone(), now);
                            }
                            self.decide(&key, found.map_or(Finding::Missing, Finding::Found), &mut decided);
                        }
                        Err(why) => {
                            let error = LookupError::lasting(format!("key `{}`: {why}", shortened(&key)));
                            self.note(&error);
                            self.failed(key, &error, now, &mut decided);
                        }
                    }
                }
            }
            Err(error) => {
                self.note(&error);
                self.breaker.failed(now, request.is_probe, error.retry_after);
                for key in request.keys {
                    self.failed(key, &error, now, &mut decided);
                }
                if self.breaker.is_resting() && !self.waits() {
                    self.fail_all(&mut decided);
                }
            }
        }
        decided
    }

    fn note(&mut self, error: &LookupError) {
        self.counts.errors += 1;
        let is_new = self.counts.last_error.as_deref() != Some(&error.why);
        if is_new {
            tracing::warn!(lookup = %self.definition.name, why = %error.why, "a look-up failed");
        }
        self.counts.last_error = Some(error.why.clone());
    }

    fn decide(&mut self, key: &str, finding: Finding, decided: &mut Decided) {
        let Some(waiting) = self.waiting.remove(key) else { return };
        self.count(finding.clone(), waiting.tickets.len() as u64);
        decided.extend(waiting.tickets.into_iter().map(|ticket| (ticket, finding.clone())));
    }

    /// A key failed: it is asked again, or its records are decided.
    fn failed(&mut self, key: Arc<str>, error: &LookupError, now: Instant, decided: &mut Decided) {
        let waits = self.waits();
        let Some(waiting) = self.waiting.get_mut(&key) else { return };
        if waiting.tickets.is_empty() {
            self.waiting.remove(&key);
            return;
        }
        waiting.failures = waiting.failures.saturating_add(1);
        let is_over = !error.is_passing || waiting.failures > self.definition.retries;
        if is_over && !waits {
            return self.decide(&key, Finding::Failed(error.why.as_str().into()), decided);
        }
        self.is_stuck |= is_over;
        waiting.state = State::Later;
        // What does not pass by itself is asked for seldom.
        let failures = if error.is_passing { waiting.failures } else { waiting.failures.saturating_add(4) };
        let at = now + backoff(failures, &self.hasher, self.next_request ^ self.later.len() as u64);
        self.later.push(Reverse((at, key)));
    }

    /// Nothing is asked for a while, and nothing waits for it.
    fn fail_all(&mut self, decided: &mut Decided) {
        let why = self.resting_error();
        let not_asked = self.waiting.iter().filter(|(_, waiting)| waiting.state != State::Asked);
        let keys: Vec<Arc<str>> = not_asked.map(|(key, _)| Arc::clone(key)).collect();
        keys.iter().for_each(|key| self.decide(key, Finding::Failed(Arc::clone(&why)), decided));
        self.due.clear();
        self.later.clear();
    }

    fn resting_error(&self) -> Arc<str> {
        let last = self.counts.last_error.as_deref().unwrap_or("it did not answer");
        format!("it failed too often and is left alone for a while; the last failure: {last}").into()
    }

    fn waits(&self) -> bool {
        self.definition.on_failure == OnFailure::Wait
    }

    fn count(&mut self, finding: Finding, records: u64) -> Finding {
        match &finding {
            Finding::Found(_) => self.counts.found += records,
            Finding::Missing => self.counts.missing += records,
            Finding::Failed(_) => self.counts.failed += records,
        }
        finding
    }

    /// When there is something to do besides taking in answers.
    pub(super) fn due_at(&self, now: Instant) -> Option<Instant> {
        let timeout = self.in_flight.values().map(|request| request.sent + self.definition.timeout).min();
        let later = self.later.peek().map(|Reverse((at, _))| *at);
        // While it rests, neither keys that are due nor those whose time comes can do anything.
        let asks = match self.breaker.gate(now) {
            Gate::Open => later,
            Gate::Probe => None,
            Gate::Resting => self.breaker.opens_at().filter(|at| *at > now && !self.waiting.is_empty()),
        };
        [timeout, asks].into_iter().flatten().min()
    }

    /// Forgets tickets, and keys that nobody wants any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&Ticket) -> bool) {
        self.waiting.retain(|_, waiting| {
            waiting.tickets.retain(&keep);
            !waiting.tickets.is_empty() || waiting.state == State::Asked
        });
        self.is_stuck &= !self.waiting.is_empty();
    }

    /// Forgets everything that waits, and gives up the requests. What was found stays, and so does what was learnt of the
    /// other side.
    pub(super) fn give_up(&mut self) {
        self.in_flight.clear();
        self.waiting.clear();
        self.due.clear();
        self.later.clear();
        self.is_stuck = false;
        self.breaker.forget_probe();
    }

    /// Why records wait longer than they should, if they do.
    pub(super) fn trouble(&self) -> Option<String> {
        let last = self.counts.last_error.as_deref().unwrap_or("it does not answer");
        let is_left_alone = self.breaker.is_resting() && self.waits() && !self.waiting.is_empty();
        (self.is_stuck || is_left_alone).then(|| format!("{last}; records wait, and it is tried again"))
    }

    pub(super) fn report(&self, name: &str) -> LookupReport {
        LookupReport {
            name: name.to_owned(),
            in_flight: self.in_flight.len(),
            waiting: self.waiting.len(),
            cache_entries: self.cache.as_ref().map_or(0, Cache::len),
            is_resting: self.breaker.is_resting(),
            latency_p50_us: self.latencies.quantile(0.5),
            latency_p99_us: self.latencies.quantile(0.99),
            ..self.counts.clone()
        }
    }
}

/// What was found becomes part of records, so it must be an object that they can have.
fn check(found: Option<String>) -> Result<Option<Arc<str>>, String> {
    let Some(text) = found else { return Ok(None) };
    if text.len() > ANSWER_BYTES_MAX {
        return Err(format!("what was found has {} bytes; at most {ANSWER_BYTES_MAX} are taken", text.len()));
    }
    let mut json = Json::new(&text, 0);
    let is_object = json.kind().is_ok_and(|kind| kind == Kind::Object);
    if !is_object {
        return Err("what was found is no JSON object".to_owned());
    }
    // A member of the record stands one level deep in it.
    let read = json.skip_at_depth(&mut String::new(), 1).and_then(|()| json.end());
    read.map_err(|error| format!("what was found is no JSON: {error}"))?;
    Ok(Some(text.into()))
}

/// A key for messages.
fn shortened(key: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    match key.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &key[..at]),
        None => key.to_owned(),
    }
}
