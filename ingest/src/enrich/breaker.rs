//! Leaves a system alone that does not answer.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Failed requests in a row after which it is left alone.
const FAILURES_MAX: u32 = 5;

/// For how long: at first, and at most.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// Waits before a key is asked for again: the first, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The longest that the other side may ask for.
const ASKED_REST_MAX: Duration = Duration::from_secs(60);

/// Whether to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// As much as is allowed.
    Open,
    /// One request, to see whether it answers again.
    Probe,
    /// Nothing.
    Resting,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: u32,
    rest: Duration,
    resting_until: Option<Instant>,
    is_probing: bool,
    /// The other side asked for it.
    asked_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match self.resting_until {
            _ if self.asked_until.is_some_and(|until| now < until) => Gate::Resting,
            None => Gate::Open,
            Some(until) if now < until || self.is_probing => Gate::Resting,
            Some(_) => Gate::Probe,
        }
    }

    /// Whether it is left alone, or was until its probe that is under way.
    pub(super) fn is_resting(&self) -> bool {
        self.resting_until.is_some()
    }

    /// When the gate opens by itself, if it does.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.asked_until.max(self.resting_until.filter(|_| !self.is_probing))
    }

    pub(super) fn probes(&mut self) {
        self.is_probing = true;
    }

    /// Whether it had been resting.
    pub(super) fn succeeded(&mut self) -> bool {
        let rested = self.is_resting();
        *self = Breaker::default();
        rested
    }

    /// A request that began while it rested already, and was no probe, tells nothing new.
    pub(super) fn failed(&mut self, now: Instant, was_probe: bool, retry_after: Option<Duration>) {
        self.asked_until = retry_after.map(|rest| now + rest.min(ASKED_REST_MAX)).or(self.asked_until);
        if was_probe {
            self.is_probing = false;
        } else if self.is_resting() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.rest = (self.rest * 2).clamp(REST_FIRST, REST_MAX);
            self.resting_until = Some(now + self.rest);
        }
    }

    /// A probe was given up without an answer.
    pub(super) fn forget_probe(&mut self) {
        self.is_probing = false;
    }
}

/// How long a key waits after so many failures: twice as long each time, and between half and all of that by chance, so that
/// those that failed together do not come back together.
pub(super) fn backoff(failures: u32, hasher: &RandomState, serial: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let longest = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX);
    let chance = (hasher.hash_one(serial) % 1024) as u32;
    longest / 2 + longest / 2 * chance / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_after_failures_and_one_request_tries() {
        let (mut breaker, begin) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert_eq!(breaker.gate(begin), Gate::Open);
            breaker.failed(begin, false, None);
        }
        assert_eq!((breaker.gate(begin), breaker.opens_at()), (Gate::Resting, Some(begin + REST_FIRST)));
        // Those that were in flight do not prolong it.
        breaker.failed(begin, false, None);
        assert_eq!(breaker.opens_at(), Some(begin + REST_FIRST));
        let mut now = begin + REST_FIRST;
        assert_eq!(breaker.gate(now), Gate::Probe);
        breaker.probes();
        assert_eq!((breaker.gate(now), breaker.opens_at()), (Gate::Resting, None));
        breaker.failed(now, true, None);
        assert_eq!(breaker.opens_at(), Some(now + REST_FIRST * 2));
        for _ in 0..10 {
            now = breaker.opens_at().expect("resting");
            breaker.probes();
            breaker.failed(now, true, None);
        }
        assert_eq!(breaker.opens_at(), Some(now + REST_MAX));
        assert!(breaker.succeeded());
        assert_eq!(breaker.gate(now), Gate::Open);
        assert!(!breaker.succeeded());
    }

    #[test]
    fn the_other_side_may_ask_for_a_rest() {
        let (mut breaker, begin) = (Breaker::default(), Instant::now());
        breaker.failed(begin, false, Some(Duration::from_secs(3)));
        assert_eq!(breaker.gate(begin + Duration::from_secs(2)), Gate::Resting);
        assert_eq!(breaker.opens_at(), Some(begin + Duration::from_secs(3)));
        assert_eq!(breaker.gate(begin + Duration::from_secs(3)), Gate::Open);
        breaker.failed(begin, false, Some(Duration::from_secs(10_000)));
        assert_eq!(breaker.opens_at(), Some(begin + ASKED_REST_MAX));
    }

    #[test]
    fn waits_grow_and_differ() {
        let hasher = RandomState::new();
        for (failures, longest) in [(1, 100), (2, 200), (5, 1_600), (100, 30_000)] {
            let waits: Vec<Duration> = (0..100).map(|serial| backoff(failures, &hasher, serial)).collect();
            let longest = Duration::from_millis(longest);
            assert!(waits.iter().all(|wait| *wait >= longest / 2 && *wait <= longest), "{waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }
}
